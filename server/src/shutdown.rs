//! What ends a server from outside, or makes it read its files again: signals, and clients that may say `shutdown` (protocol 10, 19).

use std::io;

use async_signal::{Signal, Signals};
use smol::stream::StreamExt as _;

pub use crate::protocol::Stop;

/// What a signal asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Request {
    /// To stop.
    Stop(Stop),
    /// To read files again (SIGHUP).
    Reload,
}

/// The signals that the server obeys, watched from the moment this is made.
pub struct ControlSignals(Signals);

impl ControlSignals {
    /// Watches SIGTERM, SIGINT, SIGUSR1 and SIGHUP.
    ///
    /// # Errors
    /// If the system refuses the descriptors that it takes.
    pub fn watch() -> io::Result<ControlSignals> {
        Signals::new([Signal::Term, Signal::Int, Signal::Usr1, Signal::Hup]).map(ControlSignals)
    }

    /// Waits for the next of them.
    pub async fn next(&mut self) -> Request {
        loop {
            match self.0.next().await {
                Some(Ok(Signal::Hup)) => return Request::Reload,
                Some(Ok(Signal::Usr1)) => return Request::Stop(Stop::Graceful),
                Some(Ok(_)) => return Request::Stop(Stop::Normal),
                Some(Err(error)) => tracing::warn!(%error, "cannot read a signal"),
                None => std::future::pending().await,
            }
        }
    }
}
