//! How bytes get from connections to the server and back: through epoll, or through io_uring.
//!
//! A worker composes requests and settles answers; a `Driver` moves them. Both drivers serve the same loops. With epoll a request
//! costs one read, one write and its share of one wait; with io_uring its share of one system call that sends, receives and
//! waits for all connections, which saves about a fifth of the client's CPU time.

mod epoll;
mod uring;

pub(crate) use epoll::Epoll;
pub(crate) use uring::Uring;

use crate::connection::{Connection, Desk};
use crate::error::Error;
use crate::record::{Fault, Record};
use crate::workload::Source;
use clap::ValueEnum;
use std::fmt;
use std::time::Duration;

/// How a client is to talk to the system.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, ValueEnum)]
pub enum IoChoice {
    /// io_uring in a closed loop with short values, where the system has it and allows it; else epoll
    #[default]
    Auto,
    /// One system call to wait, and two for each batch of requests
    Epoll,
    /// One system call to send, receive and wait for all connections of a thread; needs Linux 6.1
    IoUring,
}

/// Values that are longer on average are read by epoll: a long answer goes through several of the ring's buffers and is put
/// together from them, while epoll reads it into place. Measured: even at 10 to 20 KB, a third dearer at 200 KB.
const RING_VALUE_BYTES_MAX: f64 = uring::BUFFER_BYTES as f64;

impl IoChoice {
    /// What to try for a load with values of this length on average.
    ///
    /// An open loop measures latency, and wakes up for nearly every request. The ring has nothing to share out then: a request
    /// costs as much by it, and its longer way through a kernel that has just been woken shows as ten microseconds of latency.
    pub(crate) fn first(self, open_loop: bool, value_bytes_mean: f64) -> Io {
        match self {
            Self::Epoll => Io::Epoll,
            Self::Auto if open_loop || value_bytes_mean > RING_VALUE_BYTES_MAX => Io::Epoll,
            Self::Auto | Self::IoUring => Io::IoUring,
        }
    }
}

/// How a client talks to the system.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Io {
    /// Through epoll.
    Epoll,
    /// Through io_uring.
    IoUring,
}

impl fmt::Display for Io {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Epoll => "epoll",
            Self::IoUring => "io_uring",
        })
    }
}

/// Moves the bytes of a worker's connections, which it knows by their place in the worker's list (`token`).
pub(crate) trait Driver {
    /// What has happened to a connection.
    type Event: Copy;

    /// Takes up a connection.
    ///
    /// # Errors
    /// When the system fails.
    fn watch(&mut self, token: usize, connection: &Connection) -> Result<(), Error>;

    /// Lets go of a connection that is about to be closed.
    fn forget(&mut self, token: usize, connection: &Connection);

    /// Sends what has just been composed on a connection, at the latest with the next wait. In a closed loop the latencies of
    /// everything in flight on it begin then.
    ///
    /// # Errors
    /// When the connection is gone.
    fn send(&mut self, token: usize, connection: &mut Connection, record: &mut Record) -> Result<(), Fault>;

    /// Waits for events and says whether there are any: none after `timeout` or a signal.
    ///
    /// # Errors
    /// When the system fails.
    fn wait(
        &mut self,
        connections: &mut [Option<Connection>],
        timeout: Duration,
        record: &mut Record,
    ) -> Result<bool, Error>;

    /// The next event that the wait has found, and whose it is.
    fn next_event(&mut self) -> Option<(usize, Self::Event)>;

    /// Settles the requests that the event brings answers for.
    ///
    /// # Errors
    /// When the connection ended, or what arrived makes no sense. The connection is of no further use then.
    fn take<S: Source>(
        &mut self,
        event: Self::Event,
        token: usize,
        connection: &mut Connection,
        desk: &mut Desk<'_, S>,
    ) -> Result<(), Fault>;

    /// Lets go of all connections, which live on. To be called again until it says `false`; in between, what has arrived
    /// meanwhile comes as events.
    ///
    /// # Errors
    /// When the system fails.
    fn release(&mut self, connections: &mut [Option<Connection>], record: &mut Record) -> Result<bool, Error>;
}
