//! Who is connected: what `stats conns` shows, and what log lines say of a connection (protocol 9.3, 11).
//!
//! Each worker has a list of its own, whose lock is taken when a connection comes or goes and when somebody asks. What changes
//! with every turn is two relaxed stores into the connection's own entry.

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd as _};
use std::sync::atomic::{AtomicU8, AtomicU32, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};

/// What a connection is doing, by memcached's names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Doing {
    /// A socket that accepts.
    Listening,
    /// Waiting for commands.
    Reading,
    /// Running commands.
    Running,
    /// Receiving a value.
    Receiving,
    /// Receiving what will be thrown away.
    Swallowing,
    /// Waiting for the client to take answers.
    Writing,
    /// Watching.
    Watching,
}

impl Doing {
    const ALL: [(Doing, &'static str); 7] = [
        (Doing::Listening, "conn_listening"),
        (Doing::Reading, "conn_read"),
        (Doing::Running, "conn_parse_cmd"),
        (Doing::Receiving, "conn_nread"),
        (Doing::Swallowing, "conn_swallow"),
        (Doing::Writing, "conn_mwrite"),
        (Doing::Watching, "conn_watch"),
    ];
}

/// One end of a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// TCP.
    Inet(SocketAddr),
    /// A socket in the file system.
    Unix(String),
}

impl Address {
    /// The address over TCP.
    pub fn inet(&self) -> Option<SocketAddr> {
        match self {
            Address::Inet(address) => Some(*address),
            Address::Unix(_) => None,
        }
    }

    /// What the system calls this end. Without a name it is `unix:` alone.
    fn of(address: Option<rustix::net::SocketAddrAny>) -> Address {
        let Some(address) = address else { return Address::Unix(String::new()) };
        match SocketAddr::try_from(address.clone()) {
            Ok(inet) => Address::Inet(inet),
            Err(_) => {
                let path = rustix::net::SocketAddrUnix::try_from(address).ok();
                let path =
                    path.as_ref().and_then(|address| address.path()).map(|path| path.to_string_lossy().into_owned());
                Address::Unix(path.unwrap_or_default())
            }
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Address::Inet(address @ SocketAddr::V4(_)) => write!(f, "tcp:{address}"),
            Address::Inet(SocketAddr::V6(address)) => write!(f, "tcp6:[{}]:{}", address.ip(), address.port()),
            Address::Unix(path) => write!(f, "unix:{path}"),
        }
    }
}

/// A socket's entry.
#[derive(Debug)]
pub struct Presence {
    /// Its descriptor.
    pub fd: i32,
    /// The client; of a listener, where it listens.
    pub peer: Address,
    /// Where the client came to; none for listeners.
    pub local: Option<Address>,
    doing: AtomicU8,
    /// When it last sent a command, in seconds of the store's clock.
    last_command_s: AtomicU32,
}

impl Presence {
    /// The entry of a client's socket.
    pub fn of(socket: impl AsFd, now_s: u32) -> Presence {
        let socket = socket.as_fd();
        let local = Address::of(rustix::net::getsockname(socket).ok());
        let peer = match Address::of(rustix::net::getpeername(socket).ok().flatten()) {
            // Clients of a socket in the file system have no name; memcached shows the socket's.
            Address::Unix(_) => local.clone(),
            inet => inet,
        };
        Presence {
            fd: socket.as_raw_fd(),
            peer,
            local: Some(local),
            doing: AtomicU8::new(Doing::Reading as u8),
            last_command_s: AtomicU32::new(now_s),
        }
    }

    /// The entry of a listening socket.
    pub fn listening(socket: impl AsFd, now_s: u32) -> Presence {
        let socket = socket.as_fd();
        Presence {
            fd: socket.as_raw_fd(),
            peer: Address::of(rustix::net::getsockname(socket).ok()),
            local: None,
            doing: AtomicU8::new(Doing::Listening as u8),
            last_command_s: AtomicU32::new(now_s),
        }
    }

    /// Notes what the connection is doing.
    #[inline]
    pub fn is_doing(&self, doing: Doing) {
        // Relaxed, here and below: shown and nothing else.
        self.doing.store(doing as u8, Relaxed);
    }

    /// Notes that it sent a command.
    #[inline]
    pub fn sent_command(&self, now_s: u32) {
        self.last_command_s.store(now_s, Relaxed);
    }

    /// The name of what it is doing.
    pub fn doing(&self) -> &'static str {
        Doing::ALL[usize::from(self.doing.load(Relaxed))].1
    }

    /// Seconds since its last command.
    pub fn idle_s(&self, now_s: u32) -> u32 {
        now_s.saturating_sub(self.last_command_s.load(Relaxed))
    }
}

/// The sockets of one worker, or those that listen.
#[derive(Debug, Default)]
pub struct Roster(Mutex<BTreeMap<i32, Arc<Presence>>>);

impl Roster {
    /// Takes an entry in.
    pub fn enter(&self, presence: Presence) -> Arc<Presence> {
        let presence = Arc::new(presence);
        self.lock().insert(presence.fd, Arc::clone(&presence));
        presence
    }

    /// Takes an entry out; before its descriptor is closed, so that it cannot be somebody else's.
    pub fn leave(&self, presence: &Presence) {
        self.lock().remove(&presence.fd);
    }

    /// All entries.
    pub fn list(&self) -> Vec<Arc<Presence>> {
        self.lock().values().cloned().collect()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<i32, Arc<Presence>>> {
        // The list is whole at any moment, whoever may have panicked.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn states_have_their_names() {
        for (at, (doing, _)) in Doing::ALL.iter().enumerate() {
            assert_eq!(*doing as usize, at);
        }
    }

    #[test]
    fn addresses_as_memcached_shows_them() {
        let inet = |text: &str| Address::Inet(text.parse().unwrap()).to_string();
        assert_eq!(inet("127.0.0.1:5"), "tcp:127.0.0.1:5");
        assert_eq!(inet("[::1]:5"), "tcp6:[::1]:5");
        assert_eq!(Address::Unix("/tmp/x".into()).to_string(), "unix:/tmp/x");
    }

    #[test]
    fn a_unix_socket_shows_the_path_at_both_ends() {
        let path = std::env::temp_dir().join(format!("memkv-roster-{}", std::process::id()));
        let listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
        let _client = std::os::unix::net::UnixStream::connect(&path).unwrap();
        let (socket, _) = listener.accept().unwrap();
        std::fs::remove_file(&path).unwrap();
        let presence = Presence::of(&socket, 0);
        assert_eq!(presence.peer, Address::Unix(path.to_string_lossy().into_owned()));
        assert_eq!(presence.local, Some(presence.peer.clone()));
        assert_eq!(Presence::listening(&listener, 0).peer, presence.peer);
    }
}
