//! Waits until sockets have something to say: Linux epoll, edge-triggered.
//!
//! A socket is registered once for both directions and never re-armed, so that a request costs one read, one write and its
//! share of one wait.

use crate::error::Error;
use rustix::buffer::spare_capacity;
use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};
use rustix::io::Errno;
use rustix::time::Timespec;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

/// Events taken from the kernel by one wait.
const EVENTS_MAX: usize = 256;

#[derive(Debug)]
pub(crate) struct Poller {
    epoll: OwnedFd,
}

/// What a wait found. Kept apart from the [`Poller`] because the kernel's events cannot move between threads.
pub(crate) struct Events(Vec<Event>);

impl Events {
    pub(crate) fn new() -> Self {
        Self(Vec::with_capacity(EVENTS_MAX))
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = Readiness> {
        self.0.iter().map(|event| {
            let Event { flags, data } = *event;
            let hung_up = flags.intersects(EventFlags::RDHUP | EventFlags::HUP | EventFlags::ERR);
            Readiness { token: data.u64() as usize, hung_up }
        })
    }
}

impl Poller {
    pub(crate) fn new() -> Result<Self, Error> {
        let epoll = epoll::create(CreateFlags::CLOEXEC).map_err(Error::system("create an epoll instance"))?;
        Ok(Self { epoll })
    }

    /// Reports `socket` as `token` from now on, whenever bytes arrive or room for sending appears.
    pub(crate) fn add(&self, socket: impl AsFd, token: usize) -> Result<(), Error> {
        let flags = EventFlags::IN | EventFlags::OUT | EventFlags::RDHUP | EventFlags::ET;
        epoll::add(&self.epoll, socket, EventData::new_u64(token as u64), flags)
            .map_err(Error::system("watch a socket"))
    }

    /// Waits for events and says how many there are: none after `timeout` or a signal.
    pub(crate) fn wait(&self, events: &mut Events, timeout: Duration) -> Result<usize, Error> {
        events.0.clear();
        let timeout = Timespec { tv_sec: timeout.as_secs() as i64, tv_nsec: i64::from(timeout.subsec_nanos()) };
        match epoll::wait(&self.epoll, spare_capacity(&mut events.0), Some(&timeout)) {
            Ok(count) => Ok(count),
            Err(Errno::INTR) => Ok(0),
            Err(errno) => Err(Error::system("wait for sockets")(errno)),
        }
    }
}

/// What happened to a socket.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Readiness {
    /// Which socket.
    pub(crate) token: usize,
    /// The other side will send no more: read up to the end, no further event will come.
    pub(crate) hung_up: bool,
}
