//! Listening and accepting: the control thread, which is ordinary smol, and deals clients out to the workers.

use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream, ToSocketAddrs};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use rustix::io::Errno;
use smol::Async;
use socket2::{Domain, Protocol, Socket, Type};

use crate::StartError;
use crate::config::{Config, Endpoint};
use crate::limits::{ACCEPT_PAUSE_MAX, ACCEPT_PAUSE_MIN};
use crate::protocol::encode::TOO_MANY_CONNECTIONS;
use crate::service::Service;
use crate::worker::WorkerThread;

/// Opens a listening socket for each address of the configuration.
///
/// # Errors
/// If a name has no address, or none of a name's addresses can be listened on.
pub fn bind(config: &Config) -> Result<Vec<TcpListener>, StartError> {
    let mut listeners = Vec::new();
    for endpoint in &config.listen {
        let addresses = resolve(endpoint, config.port)?;
        let before = listeners.len();
        let mut refused = None;
        for address in addresses {
            match listen(address, config.backlog) {
                Ok(listener) => listeners.push(listener),
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

    fn deal(&self, socket: TcpStream, service: &Arc<Service>) {
        service.connections.total.add(1);
        match service.seat() {
            Some(seat) => {
                // Relaxed: any order of turns will do.
                let turn = self.next.fetch_add(1, Ordering::Relaxed);
                self.workers[turn % self.workers.len()].deal(socket, seat);
            }
            None => {
                service.connections.rejected.add(1);
                // A new socket's buffer takes this line; if not, closing says it too.
                let _ = rustix::io::write(&socket, TOO_MANY_CONNECTIONS);
            }
        }
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

/// Accepts clients for ever. When the system has no descriptor for the next one it pauses, and goes on when it has.
pub async fn accept(listener: async_net::TcpListener, dealer: Arc<Dealer>, service: Arc<Service>) {
    let mut pause = ACCEPT_PAUSE_MIN;
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                pause = ACCEPT_PAUSE_MIN;
                match detach(stream) {
                    Ok(socket) => dealer.deal(socket, &service),
                    Err(error) => tracing::warn!(%error, "cannot hand a client to a worker"),
                }
            }
            Err(error) if is_clients_fault(&error) => {}
            Err(error) => {
                tracing::warn!(%error, pause_ms = pause.as_millis() as u64, "cannot accept; pausing");
                rest(pause, &service).await;
                pause = (pause * 2).min(ACCEPT_PAUSE_MAX);
            }
        }
    }
}

/// Takes the socket out of the control side's reactor. It stays in non-blocking mode.
fn detach(stream: async_net::TcpStream) -> io::Result<TcpStream> {
    let shared: Arc<Async<TcpStream>> = stream.into();
    Arc::try_unwrap(shared).map_err(|_| io::Error::other("the socket is shared"))?.into_inner()
}

/// Whether a client left while it was being accepted.
fn is_clients_fault(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionReset, Interrupted};
    matches!(error.kind(), ConnectionAborted | ConnectionReset | Interrupted)
}

async fn rest(pause: Duration, service: &Service) {
    let connections = &service.connections;
    connections.listen_disabled.add(1);
    // Relaxed: shown by `stats` only.
    connections.listeners_paused.fetch_add(1, Ordering::Relaxed);
    let started = Instant::now();
    smol::Timer::after(pause).await;
    connections.listen_disabled_us.add(started.elapsed().as_micros() as u64);
    connections.listeners_paused.fetch_sub(1, Ordering::Relaxed);
}
