//! Facts about the machine and the build, printed with every result; and how busy the machine is.

use rustix::time::{ClockId, clock_gettime};
use serde_json::{Value, json};
use std::process::Command;
use std::time::Duration;

/// What a result means depends on these.
#[derive(Clone, Debug)]
pub struct Machine {
    /// The processor's own name.
    pub cpu: String,
    /// How many threads can run at once.
    pub cores: usize,
    /// Kernel name, release and architecture.
    pub kernel: String,
    /// The compiler on the path; the one that built this, if it was built by `cargo run`.
    pub rustc: String,
    /// The commit of the source tree, `-dirty` if it has changes; `unknown` outside a repository.
    pub commit: String,
    /// The allocator under every map.
    pub allocator: String,
    /// The hasher in every map.
    pub hasher: String,
}

impl Machine {
    /// Of this machine and this build.
    pub fn inspect() -> Self {
        let cpu = std::fs::read_to_string("/proc/cpuinfo")
            .ok()
            .and_then(|text| {
                let line = text.lines().find(|line| line.starts_with("model name"))?;
                Some(line.split_once(':')?.1.trim().to_owned())
            })
            .unwrap_or_else(unknown);
        let libc = first_line("ldd", &["--version"]);
        let allocator = match libc.rsplit_once(' ') {
            Some((_, version)) if crate::alloc::NAME == "system" => {
                format!("system (libc {version})")
            }
            _ => crate::alloc::NAME.to_owned(),
        };
        let folder = env!("CARGO_MANIFEST_DIR");
        Self {
            cpu,
            cores: cores(),
            kernel: first_line("uname", &["-srm"]),
            rustc: first_line("rustc", &["--version"]),
            commit: first_line("git", &["-C", folder, "describe", "--always", "--dirty"]),
            allocator,
            hasher: crate::hasher::NAME.to_owned(),
        }
    }

    /// Name and value of each fact.
    pub fn facts(&self) -> [(&'static str, String); 7] {
        [
            ("CPU", self.cpu.clone()),
            ("cores", self.cores.to_string()),
            ("kernel", self.kernel.clone()),
            ("rustc", self.rustc.clone()),
            ("commit", self.commit.clone()),
            ("allocator", self.allocator.clone()),
            ("hasher", self.hasher.clone()),
        ]
    }

    /// As an object.
    pub fn to_json(&self) -> Value {
        json!({
            "cpu": self.cpu,
            "cores": self.cores,
            "kernel": self.kernel,
            "rustc": self.rustc,
            "commit": self.commit,
            "allocator": self.allocator,
            "hasher": self.hasher,
        })
    }
}

/// How many threads can run at once; more are oversubscribed.
pub fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// Date and time in UTC.
pub fn utc_now() -> String {
    first_line("date", &["-u", "+%Y-%m-%d %H:%M:%S"])
}

fn unknown() -> String {
    "unknown".to_owned()
}

fn first_line(program: &str, arguments: &[&str]) -> String {
    Command::new(program)
        .args(arguments)
        .output()
        .ok()
        .and_then(|output| {
            let text = String::from_utf8(output.stdout).ok()?;
            Some(text.lines().next()?.trim().to_owned())
        })
        .unwrap_or_else(unknown)
}

/// CPU time of the calling thread, user and system.
pub fn thread_cpu() -> Duration {
    cpu_time(ClockId::ThreadCPUTime)
}

/// Touches so much memory and gives it back, so that what is measured next gets pages that the hypervisor has backed already. A guest's
/// first touch of a page that it has not backed, or has taken back, can take thirty times as long as the guest's own clearing of it, and whether
/// that comes is a matter of what ran before.
///
/// # Panics
/// If the system has no such range of addresses.
#[expect(unsafe_code, reason = "the mapping is made, touched and given back here")]
pub fn back_memory(bytes: usize) {
    use rustix::mm::{Advice, MapFlags, ProtFlags, madvise, mmap_anonymous, munmap};
    const PAGE_BYTES: usize = 4096;
    let (protection, flags) = (ProtFlags::READ | ProtFlags::WRITE, MapFlags::PRIVATE | MapFlags::NORESERVE);
    // SAFETY: a fresh anonymous mapping at an address of the system's choice.
    let memory =
        unsafe { mmap_anonymous(std::ptr::null_mut(), bytes, protection, flags) }.expect("a range of addresses");
    // Huge pages, which maps may ask for, come from what was given back as such. Refused, small ones are touched.
    // SAFETY: the mapping just made.
    let _ = unsafe { madvise(memory, bytes, Advice::LinuxHugepage) };
    for offset in (0..bytes).step_by(PAGE_BYTES) {
        // SAFETY: inside the mapping, which is ours and writable.
        unsafe { memory.cast::<u8>().add(offset).write_volatile(1) };
    }
    // SAFETY: exactly the mapping made above, of which nothing is left.
    let unmapped = unsafe { munmap(memory, bytes) };
    debug_assert!(unmapped.is_ok());
}

fn cpu_time(clock: ClockId) -> Duration {
    let time = clock_gettime(clock);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

/// Resident memory of this process, in bytes; 0 where /proc is missing.
pub fn resident_bytes() -> u64 {
    let pages = std::fs::read_to_string("/proc/self/statm")
        .ok()
        .and_then(|text| text.split_whitespace().nth(1)?.parse::<u64>().ok());
    // Linux on x86-64 and most of arm64; a wrong page size shows at once.
    pages.unwrap_or(0) * 4096
}

/// The most that [`resident_bytes`] has been in this process; 0 where /proc is missing.
pub fn resident_bytes_max() -> u64 {
    let kib = std::fs::read_to_string("/proc/self/status").ok().and_then(|text| {
        let line = text.lines().find(|line| line.starts_with("VmHWM:"))?;
        line.split_whitespace().nth(1)?.parse::<u64>().ok()
    });
    kib.unwrap_or(0) * 1024
}

/// CPU time of the whole machine and of this process, to tell what others used in between.
#[derive(Clone, Copy, Debug)]
pub struct Load {
    machine: Duration,
    own: Duration,
}

impl Load {
    /// Now.
    pub fn now() -> Self {
        // /proc/stat counts in hundredths of a second on every Linux that matters: user nice system idle iowait irq
        // softirq steal. Idle and iowait are not use.
        let ticks = std::fs::read_to_string("/proc/stat")
            .ok()
            .and_then(|text| {
                let fields: Vec<u64> =
                    text.lines().next()?.split_whitespace().skip(1).filter_map(|field| field.parse().ok()).collect();
                Some([0, 1, 2, 5, 6, 7].iter().filter_map(|&at| fields.get(at)).sum())
            })
            .unwrap_or(0u64);
        Self { machine: Duration::from_millis(ticks * 10), own: cpu_time(ClockId::ProcessCPUTime) }
    }

    /// What this process used since an earlier moment.
    pub fn own_since(self, earlier: Self) -> Duration {
        self.own.saturating_sub(earlier.own)
    }

    /// What others used between two moments, as a share of all cores.
    pub fn others_share(self, later: Self, wall: Duration) -> f64 {
        let machine = later.machine.saturating_sub(self.machine).as_secs_f64();
        let own = later.own.saturating_sub(self.own).as_secs_f64();
        ((machine - own) / (wall.as_secs_f64() * cores() as f64)).clamp(0.0, 1.0)
    }
}
