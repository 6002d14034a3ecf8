//! CPU time, and which core a thread runs on.
//!
//! Times come from the scheduler's own accounts in nanoseconds, not from clock ticks of 10 ms.

use crate::error::Error;
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use rustix::time::{ClockId, clock_gettime};
use std::{fs, io};

/// User and system time of the calling thread.
pub(crate) fn thread_cpu_ns() -> u64 {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

/// User and system time of all live threads of a process and of its descendants.
///
/// A thread's account is brought up to date when it leaves its core, or at the latest with the next timer tick: exact while the
/// process sleeps, some milliseconds late while it runs on another core. Threads that have ended are not counted.
///
/// # Errors
/// When the process is gone, or the kernel keeps no such accounts (`CONFIG_SCHED_INFO`).
pub fn process_cpu_ns(pid: u32) -> io::Result<u64> {
    let mut total_ns = 0;
    for task in fs::read_dir(format!("/proc/{pid}/task"))? {
        let task = task?.path();
        // A thread may end between the listing and the reading.
        let Ok(account) = fs::read_to_string(task.join("schedstat")) else {
            continue;
        };
        total_ns += first_number(&account).ok_or(io::ErrorKind::Unsupported)?;
        // Without CONFIG_PROC_CHILDREN a wrapper's children are not seen; a server started directly has none.
        let children = fs::read_to_string(task.join("children")).unwrap_or_default();
        for child in children.split_whitespace().filter_map(|pid| pid.parse().ok()) {
            total_ns += process_cpu_ns(child).unwrap_or(0);
        }
    }
    Ok(total_ns)
}

fn first_number(text: &str) -> Option<u64> {
    text.split_whitespace().next()?.parse().ok()
}

/// Lets the calling thread wait for its core until whoever runs there has nothing to do, or has had its share (`SCHED_BATCH`).
/// Priorities stay as they are. Without effect where the thread has a core of its own.
#[allow(unsafe_code)]
pub(crate) fn give_way() {
    let parameters = libc::sched_param { sched_priority: 0 };
    // SAFETY: the parameters live during the call, which changes nothing but how this thread is scheduled. A refusal leaves the
    // usual policy.
    let _ = unsafe { libc::sched_setscheduler(0, libc::SCHED_BATCH, &raw const parameters) };
}

/// Cores that the calling thread may run on.
///
/// # Errors
/// When the system does not tell.
pub fn allowed_cpus() -> Result<Vec<usize>, Error> {
    let set = sched_getaffinity(None).map_err(Error::system("ask which cores may be used"))?;
    Ok((0..CpuSet::MAX_CPU).filter(|cpu| set.is_set(*cpu)).collect())
}

/// Binds the calling thread to some cores for as long as this lives; threads and processes it starts inherit the binding.
#[derive(Debug)]
pub struct Pinned {
    before: CpuSet,
}

impl Pinned {
    /// Binds the calling thread.
    ///
    /// # Errors
    /// When there is no such core, or it may not be used.
    pub fn to(cpus: &[usize]) -> Result<Self, Error> {
        let before = sched_getaffinity(None).map_err(Error::system("ask which cores may be used"))?;
        let mut set = CpuSet::new();
        for cpu in cpus.iter().filter(|cpu| **cpu < CpuSet::MAX_CPU) {
            set.set(*cpu);
        }
        sched_setaffinity(None, &set).map_err(Error::system("bind a thread to its core"))?;
        Ok(Self { before })
    }
}

impl Drop for Pinned {
    fn drop(&mut self) {
        // The set was in force before; if the system refuses it now, staying bound is all that is left.
        let _ = sched_setaffinity(None, &self.before);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_cpu_time_grows_with_work_and_agrees_with_the_process() {
        let start = thread_cpu_ns();
        let mut sum = 0_u64;
        while thread_cpu_ns() - start < 20_000_000 {
            sum = std::hint::black_box(sum + 1);
        }
        // The process's account may lag by a tick; 10 ms is the longest tick there is.
        assert!(process_cpu_ns(std::process::id()).unwrap() > 5_000_000);
    }

    #[test]
    fn giving_way_is_noted_by_the_system() {
        let policy = || {
            give_way();
            // The 41st field is the policy, the 39th behind the name, which may contain anything.
            let stat = fs::read_to_string("/proc/thread-self/stat").unwrap();
            stat.rsplit_once(") ").unwrap().1.split(' ').nth(38).map(str::to_owned)
        };
        assert_eq!(std::thread::spawn(policy).join().unwrap().as_deref(), Some("3"));
    }

    #[test]
    fn pinning_is_undone() {
        let before = allowed_cpus().unwrap();
        let pinned = Pinned::to(&before[..1]).unwrap();
        assert_eq!(allowed_cpus().unwrap(), before[..1]);
        drop(pinned);
        assert_eq!(allowed_cpus().unwrap(), before);
    }

    #[test]
    fn accounts_of_a_process_that_does_not_exist_are_an_error() {
        assert!(process_cpu_ns(u32::MAX).is_err());
        assert_eq!(first_number("12 34 5\n"), Some(12));
        assert_eq!(first_number(""), None);
    }
}
