//! The limit of open files, which is a limit of connections too.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::limits::RESERVED_FDS;

/// Raises the limit of open files, if it is too low for so many connections.
///
/// # Errors
/// How many connections fit, if the system does not allow as many.
pub fn allow_connections(connections: usize) -> Result<(), u64> {
    let needed = connections as u64 + RESERVED_FDS;
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    if current.is_none_or(|current| current >= needed) {
        return Ok(());
    }
    // Root may raise the hard limit too.
    let raised = Rlimit { current: Some(needed), maximum: maximum.map(|maximum| maximum.max(needed)) };
    if setrlimit(Resource::Nofile, raised).is_ok() {
        return Ok(());
    }
    let most = maximum.map_or(needed, |maximum| maximum.min(needed));
    // If even this fails, the limit stays what it was.
    let _ = setrlimit(Resource::Nofile, Rlimit { current: Some(most), maximum });
    let now = getrlimit(Resource::Nofile).current.unwrap_or(needed);
    if now >= needed { Ok(()) } else { Err(now.saturating_sub(RESERVED_FDS)) }
}
