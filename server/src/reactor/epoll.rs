//! epoll itself: one system call a wait, and the end of a stream is reported with the edge that brings it.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use rustix::buffer::spare_capacity;
use rustix::event::Timespec;
use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};

use super::wake::Wake;
use super::{Driver, Event, Notifier};
use crate::limits::EVENTS_PER_WAIT;

/// The key of the notifier's events. No source has it: keys are counted from 0.
const NOTIFIED: u64 = u64::MAX;

/// An epoll instance and an eventfd that wakes it.
pub(super) struct Epoll {
    epoll: OwnedFd,
    events: Vec<epoll::Event>,
    wake: Arc<Wake>,
}

impl Epoll {
    pub(super) fn new() -> io::Result<Epoll> {
        let epoll = epoll::create(CreateFlags::CLOEXEC)?;
        let wake = Wake::new()?;
        epoll::add(&epoll, &wake, EventData::new_u64(NOTIFIED), EventFlags::IN | EventFlags::ET)?;
        Ok(Epoll { epoll, events: Vec::with_capacity(EVENTS_PER_WAIT), wake: Arc::new(wake) })
    }
}

impl Driver for Epoll {
    fn add(&self, socket: &OwnedFd, key: usize) -> io::Result<()> {
        let interest = EventFlags::IN | EventFlags::OUT | EventFlags::RDHUP | EventFlags::ET;
        Ok(epoll::add(&self.epoll, socket, EventData::new_u64(key as u64), interest)?)
    }

    fn remove(&self, _socket: &OwnedFd) {
        // Closing the socket, of which there is no duplicate, takes it out.
    }

    fn wait(&mut self, timeout: Option<Duration>, each: &mut dyn FnMut(Event)) -> io::Result<()> {
        let timeout = timeout.map(|time| Timespec { tv_sec: time.as_secs() as _, tv_nsec: time.subsec_nanos() as _ });
        self.events.clear();
        match epoll::wait(&self.epoll, spare_capacity(&mut self.events), timeout.as_ref()) {
            Ok(_) => {}
            Err(rustix::io::Errno::INTR) => return Ok(()),
            Err(error) => return Err(error.into()),
        }
        for event in &self.events {
            let key = event.data.u64();
            if key == NOTIFIED {
                continue;
            }
            // Errors and hang-ups are found by whoever reads or writes next.
            let broken = EventFlags::ERR | EventFlags::HUP;
            let flags = event.flags;
            each(Event {
                key: key as usize,
                readable: flags.intersects(EventFlags::IN | EventFlags::RDHUP | broken),
                writable: flags.intersects(EventFlags::OUT | broken),
                ended: flags.intersects(EventFlags::RDHUP | broken),
            });
        }
        Ok(())
    }

    fn notifier(&self) -> Notifier {
        Arc::clone(&self.wake) as Notifier
    }

    fn short_read_drains(&self) -> bool {
        true
    }
}
