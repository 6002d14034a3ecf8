//! MemKV's server: a memcached-compatible cache server on the `memkv-engine`.
//!
//! ```
//! use std::io::{Read, Write};
//! use memkv_server::{Config, Server};
//!
//! let server = Server::start(Config { port: 0, ..Config::default() })?;
//! let mut client = std::net::TcpStream::connect(server.addr())?;
//! client.write_all(b"set greeting 0 0 5\r\nhello\r\n")?;
//! let mut answer = [0; 8];
//! client.read_exact(&mut answer)?;
//! assert_eq!(&answer, b"STORED\r\n");
//! server.shutdown();
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # From the socket inwards
//! - [`listener`] accepts on the control thread and deals clients out to workers.
//! - [`worker`] is a thread with an executor, a reactor and the buffers that its connections share.
//! - [`reactor`] waits for sockets, by io_uring or epoll.
//! - [`connection`] moves bytes between a socket and a [`session`].
//! - [`session`] is a connection without its socket: bytes in, bytes out. [`loopback`] drives one from memory.
//! - [`protocol`] makes requests out of bytes, and bytes out of answers.
//! - [`command`] runs requests against the store, under one batch; [`meta`] does so for the meta commands; [`walk`] goes over all
//!   items, slice by slice; [`admin`] does what administrators ask, and [`crawler`] takes out what has expired when they say so.
//! - [`watch`], [`latency`], [`hotkeys`], [`prefixes`] and [`roster`] observe.
//! - [`auth`] says who may use the server, [`process`] and [`daemon`] are about the process that it runs in.
//! - [`args`] and [`extended`] make a [`Config`] of what the command line, the environment and a file say.
//! - [`service`] is what all of them share, [`stats`] shows it, [`limits`] bounds it.

#![deny(unsafe_code)]

use std::io;
use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::JoinHandle;

use memkv_engine::clock::{AdjustableClock, Clock};
use memkv_engine::store::Store;

pub mod admin;
pub mod args;
pub mod auth;
mod cleaner;
pub mod command;
pub mod config;
pub mod connection;
pub mod crawler;
pub mod daemon;
pub mod extended;
pub mod fds;
pub mod hotkeys;
pub mod idle;
pub mod latency;
pub mod limits;
pub mod listener;
pub mod loopback;
pub mod meta;
pub mod output;
pub mod prefixes;
pub mod process;
pub mod protocol;
pub mod reactor;
pub mod roster;
pub mod service;
pub mod session;
pub mod shutdown;
pub mod stats;
pub mod tunables;
pub mod walk;
pub mod watch;
pub mod worker;

pub use config::{Config, Endpoint, Protocol, ReactorKind};

use auth::Auth;
use cleaner::CleanerThread;
use listener::{Dealer, Listener};
use service::Service;
use worker::WorkerThread;

/// The memcached release whose behaviour is followed.
pub const MEMCACHED_VERSION: &str = "1.6.45";

/// What `version` answers: clients compare the front of it with memcached's releases.
pub const PROTOCOL_VERSION: &str = concat!("1.6.45 memkv-", env!("CARGO_PKG_VERSION"));

/// What `stats` shows in the place of the event library.
pub const LIBRARY_VERSION: &str = concat!("memkv-", env!("CARGO_PKG_VERSION"));

/// What `memkv -V` prints behind the program's name.
pub const PROGRAM_VERSION: &str = concat!(env!("CARGO_PKG_VERSION"), " (memcached 1.6.45 protocol)");

/// Why a server did not start.
#[derive(Debug)]
#[non_exhaustive]
pub enum StartError {
    /// A name has no address.
    Resolve {
        /// The name.
        host: String,
        /// What the resolver says.
        error: io::Error,
    },
    /// An address cannot be listened on.
    Listen {
        /// The address.
        address: SocketAddr,
        /// What the system says.
        error: io::Error,
    },
    /// A Unix socket cannot be listened on.
    ListenUnix {
        /// Its path.
        path: PathBuf,
        /// What the system says.
        error: io::Error,
    },
    /// The names and passwords cannot be read.
    Auth(auth::AuthFileError),
    /// The store cannot be made with these settings.
    Store(memkv_engine::store::ConfigError),
    /// The system refuses a thread or a descriptor.
    System(io::Error),
}

impl std::fmt::Display for StartError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            StartError::Resolve { host, error } => write!(f, "cannot resolve '{host}': {error}"),
            StartError::Listen { address, error } => write!(f, "cannot listen on {address}: {error}"),
            StartError::ListenUnix { path, error } => {
                write!(f, "failed to listen on UNIX socket: {}: {error}", path.display())
            }
            StartError::Auth(error) => write!(f, "{error}"),
            StartError::Store(error) => write!(f, "{error}"),
            StartError::System(error) => write!(f, "cannot start: {error}"),
        }
    }
}

impl std::error::Error for StartError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            StartError::Resolve { error, .. }
            | StartError::Listen { error, .. }
            | StartError::ListenUnix { error, .. }
            | StartError::System(error) => Some(error),
            StartError::Auth(error) => Some(error),
            StartError::Store(error) => Some(error),
        }
    }
}

/// A server that can be started.
#[derive(Clone, Copy, Debug)]
pub struct Server;

impl Server {
    /// Starts a server on the system's clock. When this returns, clients can connect.
    ///
    /// # Errors
    /// If an address cannot be listened on, the settings make no store, or the system refuses threads or descriptors.
    pub fn start(config: Config) -> Result<Running, StartError> {
        if config.debug_commands {
            let (clock, hands) = Clock::adjustable();
            return Server::launch(config, clock, Some(hands));
        }
        Server::launch(config, Clock::system(), None)
    }

    /// Says whether anything prevents a start with these settings, as far as that can be seen without listening: names must
    /// have addresses, files must be readable, and memory must be there to be reserved.
    ///
    /// # Errors
    /// What [`start`](Self::start) would answer.
    pub fn check(config: &Config) -> Result<(), StartError> {
        config.auth_file.as_deref().map(auth::Users::load).transpose().map_err(StartError::Auth)?;
        listener::check(config)?;
        Store::new(config.store(), Clock::system()).map_err(StartError::Store)?;
        Ok(())
    }

    /// Starts a server whose items expire by `clock`, which no client can move.
    ///
    /// # Errors
    /// As [`start`](Self::start).
    pub fn start_with_clock(config: Config, clock: Clock) -> Result<Running, StartError> {
        Server::launch(config, clock, None)
    }

    fn launch(config: Config, clock: Clock, hands: Option<AdjustableClock>) -> Result<Running, StartError> {
        let auth = config.auth_file.as_deref().map(Auth::new).transpose().map_err(StartError::Auth)?;
        let listeners = listener::bind(&config)?;
        let addrs: Vec<SocketAddr> = listeners
            .iter()
            .filter_map(|listener| listener.addr().transpose())
            .collect::<Result<_, _>>()
            .map_err(StartError::System)?;
        let store = Store::new(config.store(), clock).map_err(StartError::Store)?;
        let cores = || std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN);
        let workers = config.workers.unwrap_or_else(cores).get().min(limits::WORKERS_MAX);
        let service = Service::new(store, config, workers).with_auth(auth).with_hands(hands);
        let service = Arc::new(service);
        let cleaner = CleanerThread::start(&service.store).map_err(StartError::System)?;
        for listener in &listeners {
            service.listening.enter(roster::Presence::listening(listener, 0));
        }
        let workers: Vec<WorkerThread> = (0..workers)
            .map(|index| WorkerThread::start(index, Arc::clone(&service)))
            .collect::<Result<_, _>>()
            .map_err(StartError::System)?;
        service.set_workers(
            workers.iter().map(WorkerThread::notifier).collect(),
            workers.iter().map(WorkerThread::reactor).collect(),
        );
        let dealer = Arc::new(Dealer::new(workers));
        let (stop, stopped) = smol::channel::bounded::<()>(1);
        let control = std::thread::Builder::new()
            .name("memkv-control".to_owned())
            .spawn({
                let (dealer, service) = (Arc::clone(&dealer), Arc::clone(&service));
                move || control(listeners, &dealer, &service, &stopped)
            })
            .map_err(StartError::System)?;
        Ok(Running { addrs, service, dealer, stop, control, cleaner })
    }
}

/// The control thread: accepts until told to stop.
fn control(
    listeners: Vec<Listener>,
    dealer: &Arc<Dealer>,
    service: &Arc<Service>,
    stopped: &smol::channel::Receiver<()>,
) {
    let executor = smol::LocalExecutor::new();
    for listener in listeners {
        executor.spawn(listener::accept(listener, Arc::clone(dealer), Arc::clone(service))).detach();
    }
    // A closed channel means the same as a message.
    let _ = smol::block_on(executor.run(stopped.recv()));
}

/// A server that runs, until [`shutdown`](Self::shutdown).
pub struct Running {
    addrs: Vec<SocketAddr>,
    service: Arc<Service>,
    dealer: Arc<Dealer>,
    stop: smol::channel::Sender<()>,
    control: JoinHandle<()>,
    cleaner: CleanerThread,
}

impl Running {
    /// The first address it listens on.
    ///
    /// # Panics
    /// If it listens on a Unix socket and not on the network.
    pub fn addr(&self) -> SocketAddr {
        self.addrs[0]
    }

    /// All addresses on the network that it listens on.
    pub fn addrs(&self) -> &[SocketAddr] {
        &self.addrs
    }

    /// All places where it listens, for people.
    pub fn places(&self) -> Vec<String> {
        let path = self.service.config.unix_socket.iter().map(|path| path.display().to_string());
        path.chain(self.addrs.iter().map(ToString::to_string)).collect()
    }

    /// Waits until a client asks that the server be stopped (`shutdown`, where [`Config::shutdown_allowed`]).
    pub async fn stop_requested(&self) -> shutdown::Stop {
        self.service.stop_requested().await
    }

    /// Reads again what can be read again: the file of names and passwords. What is wrong with it is logged, and nothing changes.
    pub fn reload(&self) {
        if let Some(auth) = &self.service.auth {
            match auth.reload() {
                Ok(()) => tracing::info!("the auth file was read again"),
                Err(error) => tracing::warn!(%error, "the auth file is not used; who could log in before still can"),
            }
        }
    }

    /// Settings, counters and store.
    pub fn service(&self) -> &Service {
        &self.service
    }

    /// Stops accepting, answers what has been received, closes all connections, and returns when that is done: at once as a rule,
    /// after a bounded time ([`limits::SHUTDOWN_GRACE`]) when clients do not take their answers.
    pub fn shutdown(self) {
        self.stop.close();
        self.service.crawler.stop();
        if self.control.join().is_err() {
            tracing::error!("the control thread panicked");
        }
        for worker in self.dealer.workers() {
            worker.stop();
        }
        match Arc::try_unwrap(self.dealer) {
            Ok(dealer) => dealer.into_workers().into_iter().for_each(WorkerThread::join),
            Err(_) => unreachable!("the control thread, which shared the dealer, has ended"),
        }
        self.cleaner.stop();
    }
}
