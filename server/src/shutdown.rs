//! Signals: what ends a server from outside (protocol 19).

use std::io;

use async_signal::{Signal, Signals};
use smol::stream::StreamExt as _;

/// The signals that end the server, watched from the moment this is made.
pub struct StopSignals(Signals);

impl StopSignals {
    /// Watches SIGTERM and SIGINT.
    ///
    /// # Errors
    /// If the system refuses the descriptors that it takes.
    pub fn watch() -> io::Result<StopSignals> {
        Signals::new([Signal::Term, Signal::Int]).map(StopSignals)
    }

    /// Waits for the first of them; says which it was.
    pub async fn first(mut self) -> &'static str {
        loop {
            match self.0.next().await {
                Some(Ok(Signal::Int)) => return "SIGINT",
                Some(Ok(_)) => return "SIGTERM",
                Some(Err(error)) => tracing::warn!(%error, "cannot read a signal"),
                None => std::future::pending().await,
            }
        }
    }
}
