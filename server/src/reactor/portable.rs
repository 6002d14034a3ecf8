//! The `polling` crate's poller in edge mode, for systems without epoll.

use std::io;
use std::num::NonZeroUsize;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use polling::{Events, PollMode, Poller};

use super::{Driver, Event, Notifier, Notify};
use crate::limits::EVENTS_PER_WAIT;

/// A poller and its events.
pub(super) struct Portable {
    poller: Arc<Poller>,
    events: Events,
}

impl Notify for Poller {
    fn notify(&self) {
        // Whoever waits will be woken by the next event at the latest.
        let _ = Poller::notify(self);
    }
}

impl Portable {
    pub(super) fn new() -> io::Result<Portable> {
        const CAPACITY: NonZeroUsize = NonZeroUsize::new(EVENTS_PER_WAIT).unwrap();
        Ok(Portable { poller: Arc::new(Poller::new()?), events: Events::with_capacity(CAPACITY) })
    }
}

impl Driver for Portable {
    #[expect(unsafe_code, reason = "polling asks for a promise about descriptors")]
    fn add(&self, socket: &OwnedFd, key: usize) -> io::Result<()> {
        // SAFETY: the socket must be removed from the poller before it is closed. `Source` owns it and does so when dropped.
        unsafe { self.poller.add_with_mode(socket, polling::Event::all(key), PollMode::Edge) }
    }

    fn remove(&self, socket: &OwnedFd) {
        // It fails for a socket that is not in, which is what is wanted.
        let _ = self.poller.delete(socket);
    }

    fn wait(&mut self, timeout: Option<Duration>, each: &mut dyn FnMut(Event)) -> io::Result<()> {
        self.events.clear();
        self.poller.wait(&mut self.events, timeout)?;
        for event in self.events.iter() {
            each(Event { key: event.key, readable: event.readable, writable: event.writable, ended: false });
        }
        Ok(())
    }

    fn notifier(&self) -> Notifier {
        Arc::clone(&self.poller) as Notifier
    }

    fn short_read_drains(&self) -> bool {
        false
    }
}
