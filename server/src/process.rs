//! What the program does to its own process before it serves: limits, user, locked memory.
//!
//! All of it happens before the first thread is started, so that every thread inherits it.

use std::path::PathBuf;

use nix::unistd::{Uid, User, setgid, setgroups, setuid};
use rustix::mm::{MlockAllFlags, mlockall};
use rustix::process::{DumpableBehavior, Resource, Rlimit, getrlimit, set_dumpable_behavior, setrlimit};

/// Exit status when the user of `-u` does not exist (sysexits' EX_NOUSER).
pub const EXIT_NO_USER: u8 = 67;
/// Exit status when the system refuses something that is needed, a port mostly (EX_OSERR).
pub const EXIT_SYSTEM: u8 = 71;

/// The options that concern the process and not the server in it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Process {
    /// The user to become (`-u`).
    pub user: Option<String>,
    /// Whether to run in the background (`-d`).
    pub daemon: bool,
    /// Where to write the process id (`-P`).
    pub pid_file: Option<PathBuf>,
    /// Whether core dumps may be of any size (`-r`).
    pub core_dumps: bool,
    /// Whether memory is kept from being swapped out (`-k`).
    pub lock_memory: bool,
}

/// Why the process is not what the options ask for: an exit status, and one line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// The exit status.
    pub code: u8,
    /// What is wrong.
    pub line: String,
}

impl Process {
    /// Checks what can be checked without changing anything.
    ///
    /// # Errors
    /// If the user does not exist.
    pub fn check(&self) -> Result<(), Refused> {
        self.identity().map(drop)
    }

    /// Sets limits and becomes the user. Memory is locked later, by [`lock_memory`], when most of it is there.
    ///
    /// # Errors
    /// If there is no such user, or the system refuses.
    pub fn prepare(&self) -> Result<(), Refused> {
        let identity = self.identity()?;
        if self.lock_memory {
            // Root's right to lock memory goes away with root; what cannot be raised shows when memory is locked.
            let _ = setrlimit(Resource::Memlock, Rlimit { current: None, maximum: None });
        }
        if self.core_dumps && !allow_core_dumps() {
            let line = "failed to ensure corefile creation".to_owned();
            return Err(Refused { code: EXIT_SYSTEM, line });
        }
        if let Some(user) = identity {
            let become_user = || -> nix::Result<()> {
                setgroups(&[])?;
                setgid(user.gid)?;
                setuid(user.uid)
            };
            become_user().map_err(|error| Refused {
                code: EXIT_SYSTEM,
                line: format!("failed to assume identity of user {}: {}", user.name, error.desc()),
            })?;
            if self.core_dumps {
                // A process that has changed its user leaves no core unless it says that it may.
                let _ = set_dumpable_behavior(DumpableBehavior::Dumpable);
            }
        }
        Ok(())
    }

    /// The user to become: as with memcached, only root becomes anybody.
    fn identity(&self) -> Result<Option<User>, Refused> {
        let Some(name) = self.user.as_deref().filter(|_| is_root()) else { return Ok(None) };
        let unknown = || Refused { code: EXIT_NO_USER, line: format!("can't find the user {name} to switch to") };
        let user = User::from_name(name).map_err(|_| unknown())?.ok_or_else(unknown)?;
        Ok((!user.uid.is_root()).then_some(user))
    }
}

/// Whether this process is root's.
pub fn is_root() -> bool {
    Uid::current().is_root() || Uid::effective().is_root()
}

/// Raises the limit of core dumps, to infinity if possible, else as far as the hard limit allows; says whether any are possible.
fn allow_core_dumps() -> bool {
    let unlimited = Rlimit { current: None, maximum: None };
    if setrlimit(Resource::Core, unlimited).is_ok() {
        return true;
    }
    let maximum = getrlimit(Resource::Core).maximum;
    let _ = setrlimit(Resource::Core, Rlimit { current: maximum, maximum });
    getrlimit(Resource::Core).current != Some(0)
}

/// Keeps all memory of this process from being swapped out: what is there now, and what comes later if its amount is not limited.
///
/// Pages are locked as they are touched: the address range of the cache is larger than what will be used of it.
///
/// # Errors
/// If the system refuses, for want of the right to lock as much.
pub fn lock_memory() -> std::io::Result<()> {
    let unlimited = getrlimit(Resource::Memlock).current.is_none();
    let later = if unlimited { MlockAllFlags::FUTURE } else { MlockAllFlags::empty() };
    Ok(mlockall(MlockAllFlags::CURRENT | MlockAllFlags::ONFAULT | later)?)
}
