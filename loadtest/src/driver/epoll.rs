//! The driver that asks which sockets have something to say, and reads them: Linux epoll, edge-triggered.
//!
//! A socket is registered once for both directions and never re-armed, so that a request costs one read, one write and its
//! share of one wait.

use super::Driver;
use crate::connection::{Connection, Desk};
use crate::error::Error;
use crate::record::{Fault, Record};
use crate::workload::Source;
use rustix::buffer::spare_capacity;
use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};
use rustix::io::Errno;
use rustix::time::Timespec;
use std::fmt;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

/// Events taken from the kernel by one wait.
const EVENTS_MAX: usize = 256;
/// Bytes read at once.
const BUFFER_BYTES: usize = 256 << 10;

pub(crate) struct Epoll {
    epoll: OwnedFd,
    open_loop: bool,
    events: Vec<Event>,
    /// Events that have been looked at.
    seen: usize,
    buffer: Box<[u8]>,
}

impl Epoll {
    pub(crate) fn new(open_loop: bool) -> Result<Self, Error> {
        let epoll = epoll::create(CreateFlags::CLOEXEC).map_err(Error::system("create an epoll instance"))?;
        let buffer = vec![0; BUFFER_BYTES].into_boxed_slice();
        Ok(Self { epoll, open_loop, events: Vec::with_capacity(EVENTS_MAX), seen: 0, buffer })
    }
}

/// The other side will send no more: read up to the end, no further event will come.
#[derive(Clone, Copy, Debug)]
pub(crate) struct HungUp(bool);

impl Driver for Epoll {
    type Event = HungUp;

    /// Reports the socket from now on, whenever bytes arrive or room for sending appears.
    fn watch(&mut self, token: usize, connection: &Connection) -> Result<(), Error> {
        let flags = EventFlags::IN | EventFlags::OUT | EventFlags::RDHUP | EventFlags::ET;
        epoll::add(&self.epoll, connection.socket(), EventData::new_u64(token as u64), flags)
            .map_err(Error::system("watch a socket"))
    }

    /// Nothing to be done: closing a socket ends its registration.
    fn forget(&mut self, _token: usize, _connection: &Connection) {}

    #[inline]
    fn send(&mut self, _token: usize, connection: &mut Connection, record: &mut Record) -> Result<(), Fault> {
        if !self.open_loop {
            connection.restart_clock(Instant::now());
        }
        connection.flush(record)
    }

    #[inline]
    fn wait(
        &mut self,
        _connections: &mut [Option<Connection>],
        timeout: Duration,
        _record: &mut Record,
    ) -> Result<bool, Error> {
        self.events.clear();
        self.seen = 0;
        let timeout = Timespec { tv_sec: timeout.as_secs() as i64, tv_nsec: i64::from(timeout.subsec_nanos()) };
        match epoll::wait(&self.epoll, spare_capacity(&mut self.events), Some(&timeout)) {
            Ok(count) => Ok(count > 0),
            Err(Errno::INTR) => Ok(false),
            Err(errno) => Err(Error::system("wait for sockets")(errno)),
        }
    }

    #[inline]
    fn next_event(&mut self) -> Option<(usize, HungUp)> {
        let Event { flags, data } = *self.events.get(self.seen)?;
        self.seen += 1;
        let hung_up = flags.intersects(EventFlags::RDHUP | EventFlags::HUP | EventFlags::ERR);
        Some((data.u64() as usize, HungUp(hung_up)))
    }

    #[inline]
    fn take<S: Source>(
        &mut self,
        HungUp(hung_up): HungUp,
        _token: usize,
        connection: &mut Connection,
        desk: &mut Desk<'_, S>,
    ) -> Result<(), Fault> {
        connection.flush(desk.record)?;
        connection.receive(&mut self.buffer, hung_up, desk)
    }

    /// Nothing to be done: the registrations end with this.
    fn release(&mut self, _connections: &mut [Option<Connection>], _record: &mut Record) -> Result<bool, Error> {
        Ok(false)
    }
}

impl fmt::Debug for Epoll {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Epoll").field("epoll", &self.epoll).finish_non_exhaustive()
    }
}
