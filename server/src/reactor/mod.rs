//! The sockets of one worker, for the worker's tasks.
//!
//! The interface is narrow on purpose: [`Reactor::register`] a socket, [`Source::receive`] and [`Source::send`] without blocking,
//! await [`Source::readable`] and [`Source::writable`], and let the worker call [`Reactor::wait`]. There are two kinds of system behind
//! it.
//!
//! **Readiness** (epoll; the `polling` crate where there is none): the system says which sockets are ready, and receiving and
//! sending are system calls. Everything is edge-triggered: a socket is registered once for its whole life, for both directions, and
//! nothing is re-armed per request. Readiness is remembered here between events. It is set by events, and taken back by the socket: by `EWOULDBLOCK`, by a partial
//! write, and by a read that brought less than was asked for. The last one saves a system call per request, and is sound because
//! bytes that arrive later make a new edge. There is one exception, the end of the stream: if it arrives together with
//! the last bytes there is only one edge for both. epoll reports it with that edge (`EPOLLRDHUP`), and from then on a short read
//! proves nothing. A driver that cannot report it says so (`Driver::short_read_drains`). `polling` is one, and it re-arms its timer and
//! its notifier in every wait, five system calls instead of one.
//!
//! **Completion** (io_uring): the system receives by itself, and sends for all sockets when the worker waits; see `uring`. For tasks there
//! are two differences. What was posted ([`Source::post`]) may come back: [`Source::take_returned`]. And it has gone only after the next
//! wait, or after [`Source::flush`].

use std::cell::{Cell, RefCell};
use std::io::{self, IoSlice, IoSliceMut};
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Poll, Waker};
use std::time::Duration;

use rustix::net::{RecvFlags, SendFlags};

use crate::config::ReactorKind;
use crate::limits::{TASKS_PER_WAIT, TASKS_PER_WAIT_MIN};

#[cfg(target_os = "linux")]
mod epoll;
mod portable;
#[cfg(target_os = "linux")]
mod uring;
#[cfg(target_os = "linux")]
mod wake;

#[cfg(target_os = "linux")]
use uring::{Flow, Uring};

#[cfg(not(target_os = "linux"))]
mod absent;
#[cfg(not(target_os = "linux"))]
use absent::{Flow, Uring};

/// Wakes a worker that waits, from any thread.
pub type Notifier = Arc<dyn Notify>;

/// See [`Notifier`].
pub trait Notify: Send + Sync {
    /// Ends the wait that is under way, or the next one.
    fn notify(&self);
}

/// What a driver has seen of one source.
#[derive(Clone, Copy, Debug)]
struct Event {
    key: usize,
    readable: bool,
    writable: bool,
    /// The peer has closed its side, or the connection has broken down.
    ended: bool,
}

/// The system's way to wait for many sockets.
trait Driver {
    /// Watches both directions of `socket`, edge-triggered, until it is closed. `key` comes back with its events.
    fn add(&self, socket: &OwnedFd, key: usize) -> io::Result<()>;

    /// Ends what [`add`](Self::add) began; `socket` is about to be closed.
    fn remove(&self, socket: &OwnedFd);

    /// Waits for events, a notification or the timeout, and hands the events over one by one.
    fn wait(&mut self, timeout: Option<Duration>, each: &mut dyn FnMut(Event)) -> io::Result<()>;

    /// Something that ends a wait from another thread.
    fn notifier(&self) -> Notifier;

    /// Whether a short read proves that nothing is left, as long as no event has said that the stream ended.
    fn short_read_drains(&self) -> bool;
}

/// The sockets of one worker.
pub struct Reactor {
    system: System,
    sources: RefCell<Sources>,
    /// Set when the server stops: nobody waits for input any more.
    draining: Cell<bool>,
    /// Tasks that have come, or have let the others have their turn, since the last wait.
    runnable: Cell<usize>,
}

/// What the system has for many sockets.
enum System {
    Readiness { driver: RefCell<Box<dyn Driver>>, short_read_drains: bool, name: &'static str },
    Completion(Box<Uring>),
}

/// The registered sources by key, and the keys that are free.
#[derive(Default)]
struct Sources {
    slots: Vec<Option<Slot>>,
    free: Vec<usize>,
}

/// A source as the reactor knows it.
struct Slot {
    readiness: Rc<Readiness>,
    socket: Rc<OwnedFd>,
    /// Whether the source itself has been dropped.
    is_leaving: Cell<bool>,
}

impl Sources {
    fn enter(&mut self, slot: Slot) -> usize {
        let key = self.free.pop().unwrap_or(self.slots.len());
        if key == self.slots.len() {
            self.slots.push(None);
        }
        self.slots[key] = Some(slot);
        key
    }

    fn free(&mut self, key: usize) {
        if self.slots[key].take().is_some() {
            self.free.push(key);
        }
    }
}

/// What is known about one socket, and who wants to know more.
#[derive(Default)]
struct Readiness {
    readable: Cell<bool>,
    writable: Cell<bool>,
    ended: Cell<bool>,
    /// Whether the task is to stop waiting for input: see [`Canceller`].
    cancelled: Cell<bool>,
    /// Whether the task is to look again although nothing has happened to its socket.
    nudged: Cell<bool>,
    /// Which of the two the task waits for. A source serves one task, which waits for one thing at a time.
    waits_for: Cell<Interest>,
    waker: RefCell<Option<Waker>>,
    /// What there is of it in a ring; at rest where there is none.
    flow: Flow,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Interest {
    #[default]
    Nothing,
    Readable,
    Writable,
}

impl Reactor {
    /// A reactor of this kind, for one of so many workers.
    ///
    /// # Errors
    /// If the system refuses the descriptors that it takes, or io_uring was asked for and cannot be used.
    pub fn new(kind: ReactorKind, workers: usize) -> io::Result<Reactor> {
        let system = match kind {
            ReactorKind::Auto => match Uring::new(workers) {
                Ok(uring) => System::Completion(Box::new(uring)),
                Err(error) => {
                    // Where the system lacks it, or forbids it, as many containers do, that is nothing to speak of.
                    if error.kind() == io::ErrorKind::OutOfMemory {
                        tracing::warn!("no memory may be locked for io_uring (RLIMIT_MEMLOCK): a worker takes epoll");
                    }
                    System::epoll()?
                }
            },
            ReactorKind::IoUring => System::Completion(Box::new(
                Uring::new(workers)
                    .map_err(|error| io::Error::new(error.kind(), format!("io_uring cannot be used: {error}")))?,
            )),
            ReactorKind::Epoll => System::epoll()?,
            ReactorKind::Polling => System::readiness(Box::new(portable::Portable::new()?), "polling"),
        };
        Ok(Reactor { system, sources: RefCell::default(), draining: Cell::new(false), runnable: Cell::new(0) })
    }

    /// What it is called among the [kinds](ReactorKind).
    pub fn name(&self) -> &'static str {
        match &self.system {
            System::Readiness { name, .. } => name,
            System::Completion(_) => "io_uring",
        }
    }

    /// Something that ends a wait of this reactor from another thread.
    pub fn notifier(&self) -> Notifier {
        match &self.system {
            System::Readiness { driver, .. } => driver.borrow().notifier(),
            System::Completion(uring) => uring.notifier(),
        }
    }

    /// Takes a socket in, which must be in non-blocking mode.
    ///
    /// # Errors
    /// If the system refuses to watch it.
    pub fn register(self: &Rc<Self>, socket: OwnedFd) -> io::Result<Source> {
        let readiness = Rc::<Readiness>::default();
        let socket = Rc::new(socket);
        let slot = Slot { readiness: Rc::clone(&readiness), socket: Rc::clone(&socket), is_leaving: Cell::new(false) };
        let key = self.sources.borrow_mut().enter(slot);
        if let System::Readiness { driver, .. } = &self.system
            && let Err(error) = driver.borrow().add(&socket, key)
        {
            self.sources.borrow_mut().free(key);
            return Err(error);
        }
        self.runnable.set(self.runnable.get() + 1);
        Ok(Source { socket, key, readiness, reactor: Rc::clone(self) })
    }

    /// Waits for events and wakes the tasks that they concern. Returns early when notified.
    ///
    /// # Errors
    /// If the system's wait fails, which it does not for any reason that a client could bring about.
    pub fn wait(&self, timeout: Option<Duration>) -> io::Result<()> {
        match &self.system {
            System::Readiness { driver, .. } => {
                let sources = self.sources.borrow();
                driver.borrow_mut().wait(timeout, &mut |event| {
                    // A source may have gone while its event was on the way.
                    if let Some(Some(slot)) = sources.slots.get(event.key) {
                        slot.readiness.note(event);
                    }
                })
            }
            System::Completion(uring) => {
                let result = uring.wait(timeout, &self.sources.borrow());
                uring.forget(&self.sources);
                result
            }
        }
    }

    /// Hands over what the ring is asked for, and takes note of what has happened, between two waits.
    fn turn(&self, uring: &Uring, timeout: Option<Duration>) -> io::Result<()> {
        let result = uring.turn(timeout, &self.sources.borrow());
        uring.forget(&self.sources);
        result
    }

    /// How many pieces [`each_arrival`](Self::each_arrival) would show, at most.
    pub fn arrivals(&self) -> usize {
        match &self.system {
            System::Readiness { .. } => 0,
            System::Completion(uring) => uring.arrivals(),
        }
    }

    /// Shows what the last wait has brought, a piece of each source's first bytes. Nothing, where receiving is up to tasks.
    pub fn each_arrival(&self, each: impl FnMut(&[u8])) {
        if let System::Completion(uring) = &self.system {
            uring.each_arrival(&self.sources.borrow(), each);
        }
    }

    /// How many tasks should run before the next wait: with a ring, where answers go out when the worker waits, about each one that can
    /// run now, but none of them again.
    pub fn tasks_per_wait(&self) -> usize {
        let runnable = self.runnable.replace(0);
        match &self.system {
            System::Readiness { .. } => TASKS_PER_WAIT,
            System::Completion(uring) => (runnable + uring.take_events()).clamp(TASKS_PER_WAIT_MIN, TASKS_PER_WAIT),
        }
    }

    /// Says before each wait whether the connections own so much that nothing should be received before somebody wants it.
    pub fn press(&self, pressed: bool) {
        if let System::Completion(uring) = &self.system {
            uring.press(pressed, &self.sources.borrow());
        }
    }

    /// Bytes that have been received, and that no task has taken.
    pub fn aside_bytes(&self) -> usize {
        match &self.system {
            System::Readiness { .. } => 0,
            System::Completion(uring) => uring.aside_bytes(),
        }
    }

    /// From now on [`Source::readable`] does not wait: whoever waits for input is to finish.
    pub fn drain(&self) {
        self.draining.set(true);
        for (key, slot) in self.sources.borrow().slots.iter().enumerate() {
            let Some(slot) = slot else { continue };
            if let System::Completion(uring) = &self.system {
                uring.end_receive(key, &slot.readiness.flow);
            }
            slot.readiness.wake();
        }
    }

    /// Ends the [`Source::writable`] of a source, writable or not, if it is waited for.
    pub fn nudge_sender(&self, key: usize) {
        if let Some(Some(Slot { readiness, .. })) = self.sources.borrow().slots.get(key)
            && readiness.waits_for.get() == Interest::Writable
        {
            readiness.nudged.set(true);
            readiness.wake();
        }
    }
}

impl System {
    #[cfg(target_os = "linux")]
    fn epoll() -> io::Result<System> {
        Ok(System::readiness(Box::new(epoll::Epoll::new()?), "epoll"))
    }

    /// There is none: what runs everywhere takes its place.
    #[cfg(not(target_os = "linux"))]
    fn epoll() -> io::Result<System> {
        Ok(System::readiness(Box::new(portable::Portable::new()?), "polling"))
    }

    fn readiness(driver: Box<dyn Driver>, name: &'static str) -> System {
        System::Readiness { short_read_drains: driver.short_read_drains(), driver: RefCell::new(driver), name }
    }
}

impl Readiness {
    fn note(&self, event: Event) {
        if event.readable {
            self.readable.set(true);
        }
        if event.writable {
            self.writable.set(true);
        }
        if event.ended {
            self.ended.set(true);
        }
        if event.readable {
            self.wake_if(Interest::Readable);
        }
        if event.writable {
            self.wake_if(Interest::Writable);
        }
    }

    /// Whether a receive may bring something.
    #[inline]
    fn may_receive(&self) -> bool {
        self.flow.has_arrived() || self.readable.get() && !self.flow.is_receiving()
    }

    /// Wakes the task if it waits for this.
    #[inline]
    fn wake_if(&self, interest: Interest) {
        if self.waits_for.get() == interest {
            self.wake();
        }
    }

    fn wake(&self) {
        if let Some(waker) = &*self.waker.borrow() {
            waker.wake_by_ref();
        }
    }
}

/// Ends the wait for input of one source, from outside of its task.
pub struct Canceller(Rc<Readiness>);

impl Canceller {
    /// Lets [`Source::readable`] return from now on, unless there is input already.
    pub fn cancel(&self) {
        if !self.0.may_receive() {
            self.0.cancelled.set(true);
            self.0.wake();
        }
    }
}

/// A socket of a worker, closed and forgotten when dropped.
pub struct Source {
    socket: Rc<OwnedFd>,
    key: usize,
    readiness: Rc<Readiness>,
    reactor: Rc<Reactor>,
}

impl Source {
    /// The socket itself.
    pub fn socket(&self) -> &OwnedFd {
        &self.socket
    }

    /// What the reactor calls it; unique among the sources that there are.
    pub fn key(&self) -> usize {
        self.key
    }

    /// Whether a [`receive`](Self::receive) may bring something.
    pub fn may_receive(&self) -> bool {
        self.readiness.may_receive()
    }

    /// Says whether so much is to come, for one value, that it should be received where it belongs and nowhere else.
    #[inline]
    pub fn expect_much(&self, much: bool) {
        self.readiness.flow.expect_much(much);
    }

    /// Receives into the buffers, in their order, without waiting. 0 is the end of the stream.
    ///
    /// # Errors
    /// `WouldBlock` if there is nothing; else the connection is broken.
    #[inline]
    pub fn receive(&self, buffers: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
        let short_read_drains = match &self.reactor.system {
            System::Readiness { short_read_drains, .. } => *short_read_drains,
            System::Completion(uring) => return uring.receive(self, buffers),
        };
        let result = plain_receive(&self.socket, buffers);
        let is_drained = match &result {
            Ok(len) => {
                let asked: usize = buffers.iter().map(|buffer| buffer.len()).sum();
                *len < asked && short_read_drains && !self.readiness.ended.get()
            }
            Err(error) => is_would_block(error),
        };
        if is_drained {
            self.readiness.readable.set(false);
        }
        result
    }

    /// Sends the buffers, in their order, without waiting; says how much the system took.
    ///
    /// # Errors
    /// `WouldBlock` if it takes nothing now, perhaps because something has been [returned](Self::take_returned); else the
    /// connection is broken.
    pub fn send(&self, buffers: &[IoSlice<'_>]) -> io::Result<usize> {
        match &self.reactor.system {
            System::Readiness { .. } => self.send_plainly(buffers),
            System::Completion(uring) => uring.send(self, buffers),
        }
    }

    /// Sends bytes at the next wait, at the latest, as far as the system can; else at once. Says how much it took, or seems to have taken: see
    /// [`take_returned`](Self::take_returned).
    ///
    /// # Errors
    /// As [`send`](Self::send).
    #[inline]
    pub fn post(&self, bytes: &[u8]) -> io::Result<usize> {
        match &self.reactor.system {
            System::Readiness { .. } => self.send_plainly(&[IoSlice::new(bytes)]),
            System::Completion(uring) => uring.post(self, bytes),
        }
    }

    #[inline]
    fn send_plainly(&self, buffers: &[IoSlice<'_>]) -> io::Result<usize> {
        let result = match buffers {
            [buffer] => rustix::net::send(&self.socket, buffer, SendFlags::NOSIGNAL),
            _ => rustix::io::writev(&self.socket, buffers),
        };
        let asked: usize = buffers.iter().map(|buffer| buffer.len()).sum();
        let result = result.map_err(io::Error::from);
        if result.as_ref().map_or_else(is_would_block, |len| *len < asked) {
            self.readiness.writable.set(false);
        }
        result
    }

    /// The end of what was posted, which the system did not take after all. It is the caller's again, to be sent before anything else. Whoever waits
    /// for input is woken by it.
    pub fn take_returned(&self) -> Option<Vec<u8>> {
        let flow = &self.readiness.flow;
        flow.has_returned().then(|| flow.take_returned())
    }

    /// Makes the system take what was posted, or return it. Says whether something was returned.
    ///
    /// # Errors
    /// If the connection is broken, and all others with it.
    pub fn flush(&self) -> io::Result<bool> {
        match &self.reactor.system {
            System::Readiness { .. } => Ok(false),
            System::Completion(uring) => uring.flush(self),
        }
    }

    /// Says that its task lets the others have their turn.
    pub fn yields(&self) {
        self.reactor.runnable.set(self.reactor.runnable.get() + 1);
    }

    /// Something that ends the wait for input.
    pub fn canceller(&self) -> Canceller {
        Canceller(Rc::clone(&self.readiness))
    }

    /// Whether somebody has used the [`canceller`](Self::canceller) since the last time that this was asked.
    pub fn take_cancelled(&self) -> bool {
        self.readiness.cancelled.take()
    }

    /// Waits until something may be received, until something has been returned, until the wait is cancelled, or until the
    /// server stops.
    pub async fn readable(&self) {
        self.ready(Interest::Readable).await;
    }

    /// Waits until something may be sent, or until [`Reactor::nudge_sender`].
    pub async fn writable(&self) {
        self.ready(Interest::Writable).await;
    }

    /// Whether the server stops, so that no further input is to be waited for. What has been received until then is looked at
    /// first.
    pub fn is_draining(&self) -> bool {
        self.reactor.draining.get() && !self.readiness.flow.is_receiving()
    }

    fn is_ready(&self, interest: Interest) -> bool {
        let readiness = &*self.readiness;
        match interest {
            Interest::Readable => {
                readiness.may_receive()
                    || readiness.cancelled.get()
                    || readiness.flow.has_returned()
                    || self.is_draining()
            }
            _ => readiness.writable.get() || readiness.nudged.take(),
        }
    }

    async fn ready(&self, interest: Interest) {
        std::future::poll_fn(|context| {
            let readiness = &*self.readiness;
            if self.is_ready(interest) {
                readiness.waits_for.set(Interest::Nothing);
                return Poll::Ready(());
            }
            if let System::Completion(uring) = &self.reactor.system {
                match interest {
                    Interest::Readable if self.reactor.draining.get() => uring.end_receive(self.key, &readiness.flow),
                    Interest::Readable => uring.await_input(self.key, &readiness.flow),
                    _ => uring.await_room(self.key, &readiness.flow),
                }
            }
            readiness.waits_for.set(interest);
            // A task's waker stays the same as a rule, so it is cloned once in the task's life.
            let mut waker = readiness.waker.borrow_mut();
            if !waker.as_ref().is_some_and(|waker| waker.will_wake(context.waker())) {
                *waker = Some(context.waker().clone());
            }
            Poll::Pending
        })
        .await;
    }
}

impl Drop for Source {
    fn drop(&mut self) {
        let is_free = match &self.reactor.system {
            System::Readiness { driver, .. } => {
                driver.borrow().remove(&self.socket);
                true
            }
            System::Completion(uring) => uring.let_go(self.key, &self.readiness.flow),
        };
        let mut sources = self.reactor.sources.borrow_mut();
        if is_free {
            sources.free(self.key);
        } else if let Some(slot) = &sources.slots[self.key] {
            slot.is_leaving.set(true);
        }
    }
}

fn plain_receive(socket: &OwnedFd, buffers: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
    let result = match buffers {
        // Cheaper in the kernel than a vector of one, and than the same by way of the file system layer.
        [buffer] => rustix::net::recv(socket, &mut **buffer, RecvFlags::empty()).map(|(len, _)| len),
        _ => rustix::io::readv(socket, buffers),
    };
    Ok(result?)
}

fn is_would_block(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::WouldBlock
}
