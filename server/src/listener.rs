//! Listening and accepting: the control thread, which is ordinary smol, and deals clients out to the workers.

use std::fs;
use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream, ToSocketAddrs};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use rustix::fs::Mode;
use rustix::io::Errno;
use smol::Async;
use socket2::{Domain, Protocol, SockAddr, Socket, Type};

use crate::StartError;
use crate::config::{Config, Endpoint};
use crate::limits::{ACCEPT_PAUSE_MAX, ACCEPT_PAUSE_MIN};
use crate::protocol::encode::TOO_MANY_CONNECTIONS;
use crate::service::Service;
use crate::worker::WorkerThread;

/// A socket that clients come to.
#[derive(Debug)]
pub enum Listener {
    /// On the network.
    Tcp(TcpListener),
    /// In the file system, and its file there.
    Unix(UnixListener, SocketFile),
}

/// The file of a Unix socket; removed with this value, if it is still the same file.
#[derive(Debug)]
pub struct SocketFile {
    path: PathBuf,
    /// Device and inode: another server may have put its own file there in the meantime.
    identity: (u64, u64),
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if fs::symlink_metadata(&self.path).is_ok_and(|file| (file.dev(), file.ino()) == self.identity) {
            let _ = fs::remove_file(&self.path);
        }
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Listener::Tcp(listener) => listener.as_fd(),
            Listener::Unix(listener, _) => listener.as_fd(),
        }
    }
}

impl Listener {
    /// The address on the network, if it is there.
    ///
    /// # Errors
    /// If the system does not say.
    pub fn addr(&self) -> io::Result<Option<SocketAddr>> {
        match self {
            Listener::Tcp(listener) => listener.local_addr().map(Some),
            Listener::Unix(..) => Ok(None),
        }
    }
}

/// Opens a listening socket for each address of the configuration, or the one Unix socket that takes their place (protocol 16).
///
/// # Errors
/// If a name has no address, or none of a name's addresses can be listened on.
pub fn bind(config: &Config) -> Result<Vec<Listener>, StartError> {
    if let Some(path) = &config.unix_socket {
        let listener = listen_unix(path, config.unix_mask, config.backlog);
        let (listener, file) = listener.map_err(|error| StartError::ListenUnix { path: path.clone(), error })?;
        return Ok(vec![Listener::Unix(listener, file)]);
    }
    let mut listeners = Vec::new();
    for endpoint in &config.listen {
        let addresses = resolve(endpoint, config.port)?;
        let before = listeners.len();
        let mut refused = None;
        for address in addresses {
            match listen(address, config.backlog) {
                Ok(listener) => listeners.push(Listener::Tcp(listener)),
                // A machine without IPv6 still has names with IPv6 addresses.
                Err(error) if error.raw_os_error() == Some(Errno::AFNOSUPPORT.raw_os_error()) => {
                    refused = Some((address, error))
                }
                Err(error) if error.kind() == io::ErrorKind::AddrNotAvailable => refused = Some((address, error)),
                Err(error) => return Err(StartError::Listen { address, error }),
            }
        }
        if let Some((address, error)) = refused
            && listeners.len() == before
        {
            return Err(StartError::Listen { address, error });
        }
    }
    Ok(listeners)
}

/// Looks whether every address of the configuration is one, without listening.
///
/// # Errors
/// If a name has no address.
pub fn check(config: &Config) -> Result<(), StartError> {
    match config.unix_socket {
        Some(_) => Ok(()),
        None => config.listen.iter().try_for_each(|endpoint| resolve(endpoint, config.port).map(drop)),
    }
}

fn resolve(endpoint: &Endpoint, common_port: u16) -> Result<Vec<SocketAddr>, StartError> {
    let port = endpoint.port.unwrap_or(common_port);
    let Some(host) = &endpoint.host else {
        return Ok(vec![([0; 4], port).into(), ([0; 16], port).into()]);
    };
    let fail = |error| StartError::Resolve { host: host.clone(), error };
    let addresses: Vec<SocketAddr> = (host.as_str(), port).to_socket_addrs().map_err(fail)?.collect();
    if addresses.is_empty() {
        return Err(fail(io::Error::other("the name has no address")));
    }
    Ok(addresses)
}

fn listen(address: SocketAddr, backlog: i32) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    if address.is_ipv6() {
        // 0.0.0.0 has a socket of its own.
        socket.set_only_v6(true)?;
    }
    // Accepted sockets inherit both, which saves two system calls for each of them.
    socket.set_tcp_nodelay(true)?;
    socket.set_keepalive(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(backlog)?;
    Ok(socket.into())
}

/// Listens at `path` in place of a socket that a former server has left there, but not of a file of another kind.
fn listen_unix(path: &Path, mask: u32, backlog: i32) -> io::Result<(UnixListener, SocketFile)> {
    if fs::symlink_metadata(path).is_ok_and(|file| file.file_type().is_socket()) {
        fs::remove_file(path)?;
    }
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    socket.set_nonblocking(true)?;
    // The file gets its permissions with its birth, less the process's umask, so that it is never open to more than it should be.
    rustix::fs::fchmod(&socket, Mode::from_raw_mode(mask))?;
    socket.bind(&SockAddr::unix(path)?)?;
    fs::set_permissions(path, fs::Permissions::from_mode(mask))?;
    let file = fs::symlink_metadata(path)?;
    let file = SocketFile { path: path.to_owned(), identity: (file.dev(), file.ino()) };
    socket.listen(backlog)?;
    Ok((UnixListener::from(OwnedFd::from(socket)), file))
}

/// Deals clients out to the workers, one after the other.
pub struct Dealer {
    workers: Vec<WorkerThread>,
    next: AtomicUsize,
}

impl Dealer {
    /// A dealer for these workers.
    pub fn new(workers: Vec<WorkerThread>) -> Dealer {
        Dealer { workers, next: AtomicUsize::new(0) }
    }

    async fn deal(&self, socket: OwnedFd, service: &Arc<Service>) {
        service.connections.total.add(1);
        let seat = match service.seat() {
            Some(seat) => seat,
            // With the client in its hand, this listener accepts nobody else; who comes meanwhile waits in the system's backlog.
            None if !service.config.turn_away => service.seat_when_free().await,
            None => {
                service.connections.rejected.add(1);
                // A new socket's buffer takes this line; if not, closing says it too.
                let _ = rustix::io::write(&socket, TOO_MANY_CONNECTIONS);
                return;
            }
        };
        // Relaxed: any order of turns will do.
        let turn = self.next.fetch_add(1, Ordering::Relaxed);
        self.workers[turn % self.workers.len()].deal(socket, seat);
    }

    /// The workers, to stop and join them.
    pub fn into_workers(self) -> Vec<WorkerThread> {
        self.workers
    }

    /// The workers.
    pub fn workers(&self) -> &[WorkerThread] {
        &self.workers
    }
}

/// A listening socket, watched by the control thread.
enum Watched {
    Tcp(async_net::TcpListener),
    /// With its file, which lives as long.
    Unix(async_net::unix::UnixListener, #[expect(dead_code, reason = "held for its drop")] SocketFile),
}

impl Watched {
    /// The next client.
    async fn accept(&self) -> io::Result<OwnedFd> {
        match self {
            Watched::Tcp(listener) => {
                let stream: Arc<Async<TcpStream>> = listener.accept().await?.0.into();
                detach(stream).map(OwnedFd::from)
            }
            Watched::Unix(listener, _) => {
                let stream: Arc<Async<UnixStream>> = listener.accept().await?.0.into();
                detach(stream).map(OwnedFd::from)
            }
        }
    }
}

/// Accepts clients for ever. When the system has no descriptor for the next one it pauses, and goes on when it has.
pub async fn accept(listener: Listener, dealer: Arc<Dealer>, service: Arc<Service>) {
    let watched = match listener {
        Listener::Tcp(listener) => listener.try_into().map(Watched::Tcp),
        Listener::Unix(listener, file) => listener.try_into().map(|listener| Watched::Unix(listener, file)),
    };
    let watched = match watched {
        Ok(watched) => watched,
        Err(error) => {
            tracing::error!(%error, "cannot watch a listening socket");
            return;
        }
    };
    let mut pause = ACCEPT_PAUSE_MIN;
    loop {
        match watched.accept().await {
            Ok(socket) => {
                pause = ACCEPT_PAUSE_MIN;
                dealer.deal(socket, &service).await;
            }
            Err(error) if is_clients_fault(&error) => {}
            Err(error) => {
                tracing::warn!(%error, pause_ms = pause.as_millis() as u64, "cannot accept; pausing");
                let resting = service.connections.pause();
                smol::Timer::after(pause).await;
                drop(resting);
                pause = (pause * 2).min(ACCEPT_PAUSE_MAX);
            }
        }
    }
}

/// Takes the socket out of the control side's reactor. It stays in non-blocking mode.
fn detach<S: AsFd>(stream: Arc<Async<S>>) -> io::Result<S> {
    Arc::try_unwrap(stream).map_err(|_| io::Error::other("the socket is shared"))?.into_inner()
}

/// Whether a client left while it was being accepted.
fn is_clients_fault(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionReset, Interrupted};
    matches!(error.kind(), ConnectionAborted | ConnectionReset | Interrupted)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn p25_4_accepted_sockets_send_at_once_and_are_kept_alive() {
        let config = Config { port: 0, ..Config::default() };
        let listeners = bind(&config).unwrap();
        let [Listener::Tcp(listener)] = &listeners[..] else { panic!("one listener") };
        let addr = listener.local_addr().unwrap();
        assert_eq!(addr.ip().to_string(), "127.0.0.1", "nobody else is served unless -l says so");
        listener.set_nonblocking(false).unwrap();
        let _client = TcpStream::connect(addr).unwrap();
        let (accepted, _) = listener.accept().unwrap();
        assert!(accepted.nodelay().unwrap());
        assert!(socket2::SockRef::from(&accepted).keepalive().unwrap());
    }

    #[test]
    fn p18_l_a_star_is_all_addresses_of_both_families() {
        let endpoint = Endpoint::parse("*:5").unwrap();
        let addresses: Vec<String> = resolve(&endpoint, 7).unwrap().iter().map(ToString::to_string).collect();
        assert_eq!(addresses, ["0.0.0.0:5", "[::]:5"]);
        let common = resolve(&Endpoint::parse("[::1]").unwrap(), 7).unwrap();
        assert_eq!(common[0].to_string(), "[::1]:7");
    }
}
