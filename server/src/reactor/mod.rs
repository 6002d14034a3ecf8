//! Readiness of sockets for the tasks of one worker.
//!
//! The interface is narrow on purpose: [`Reactor::register`] a socket, [`Source::receive`] and [`Source::send`] without blocking,
//! await [`Source::readable`] and [`Source::writable`], and let the worker call [`Reactor::wait`]. Everything is edge-triggered: a
//! socket is registered once for its whole life, for both directions, and nothing is re-armed per request.
//!
//! Readiness is remembered here between events. It is set by events, and taken back by the socket: by `EWOULDBLOCK`, by a partial
//! write, and by a read that brought less than was asked for. The last one saves a system call per request, and is sound because
//! bytes that arrive later make a new edge. There is one exception, the end of the stream: if it arrives together with
//! the last bytes there is only one edge for both. epoll reports it with that edge (`EPOLLRDHUP`), and from then on a short read
//! proves nothing. A driver that cannot report it says so (`Driver::short_read_drains`).
//!
//! Drivers: `epoll` where the kernel has it, `portable` over the `polling` crate elsewhere. `polling` re-arms its timer and
//! its notifier in every wait, five system calls instead of one, and does not report the end of the stream.

use std::cell::{Cell, RefCell};
use std::io::{self, IoSlice, IoSliceMut};
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Poll, Waker};
use std::time::Duration;

use rustix::net::{RecvFlags, SendFlags};

use crate::config::ReactorKind;

#[cfg(target_os = "linux")]
mod epoll;
mod portable;

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
    driver: RefCell<Box<dyn Driver>>,
    short_read_drains: bool,
    sources: RefCell<Sources>,
    /// Set when the server stops: nobody waits for input any more.
    draining: Cell<bool>,
}

/// The registered sources by key, and the keys that are free.
#[derive(Default)]
struct Sources {
    slots: Vec<Option<Rc<Readiness>>>,
    free: Vec<usize>,
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
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Interest {
    #[default]
    Nothing,
    Readable,
    Writable,
}

impl Reactor {
    /// A reactor of this kind.
    ///
    /// # Errors
    /// If the system refuses the descriptors that it takes.
    pub fn new(kind: ReactorKind) -> io::Result<Reactor> {
        let driver: Box<dyn Driver> = match kind {
            #[cfg(target_os = "linux")]
            ReactorKind::Auto => Box::new(epoll::Epoll::new()?),
            _ => Box::new(portable::Portable::new()?),
        };
        Ok(Reactor {
            short_read_drains: driver.short_read_drains(),
            driver: RefCell::new(driver),
            sources: RefCell::default(),
            draining: Cell::new(false),
        })
    }

    /// Something that ends a wait of this reactor from another thread.
    pub fn notifier(&self) -> Notifier {
        self.driver.borrow().notifier()
    }

    /// Takes a socket in, which must be in non-blocking mode.
    ///
    /// # Errors
    /// If the system refuses to watch it.
    pub fn register(self: &Rc<Self>, socket: OwnedFd) -> io::Result<Source> {
        let readiness = Rc::<Readiness>::default();
        let mut sources = self.sources.borrow_mut();
        let key = sources.free.pop().unwrap_or(sources.slots.len());
        if let Err(error) = self.driver.borrow().add(&socket, key) {
            if key < sources.slots.len() {
                sources.free.push(key);
            }
            return Err(error);
        }
        if key == sources.slots.len() {
            sources.slots.push(None);
        }
        sources.slots[key] = Some(Rc::clone(&readiness));
        Ok(Source { socket, key, readiness, reactor: Rc::clone(self) })
    }

    /// Waits for events and wakes the tasks that they concern. Returns early when notified.
    ///
    /// # Errors
    /// If the system's wait fails, which it does not for any reason that a client could bring about.
    pub fn wait(&self, timeout: Option<Duration>) -> io::Result<()> {
        let sources = self.sources.borrow();
        self.driver.borrow_mut().wait(timeout, &mut |event| {
            // A source may have gone while its event was on the way.
            if let Some(Some(readiness)) = sources.slots.get(event.key) {
                readiness.note(event);
            }
        })
    }

    /// From now on [`Source::readable`] does not wait: whoever waits for input is to finish.
    pub fn drain(&self) {
        self.draining.set(true);
        for readiness in self.sources.borrow().slots.iter().flatten() {
            readiness.wake();
        }
    }

    /// Ends the [`Source::writable`] of a source, writable or not, if it is waited for.
    pub fn nudge_sender(&self, key: usize) {
        if let Some(Some(readiness)) = self.sources.borrow().slots.get(key)
            && readiness.waits_for.get() == Interest::Writable
        {
            readiness.nudged.set(true);
            readiness.wake();
        }
    }

    /// Whether [`drain`](Self::drain) was called.
    pub fn is_draining(&self) -> bool {
        self.draining.get()
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
        let wanted = match self.waits_for.get() {
            Interest::Nothing => false,
            Interest::Readable => event.readable,
            Interest::Writable => event.writable,
        };
        if wanted {
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
        if !self.0.readable.get() {
            self.0.cancelled.set(true);
            self.0.wake();
        }
    }
}

/// A socket of a worker, closed and forgotten when dropped.
pub struct Source {
    socket: OwnedFd,
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
        self.readiness.readable.get()
    }

    /// Receives into the buffers, in their order, without waiting. 0 is the end of the stream.
    ///
    /// # Errors
    /// `WouldBlock` if there is nothing; else the connection is broken.
    #[inline]
    pub fn receive(&self, buffers: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
        let result = match buffers {
            // Cheaper in the kernel than a vector of one, and than the same by way of the file system layer.
            [buffer] => rustix::net::recv(&self.socket, &mut **buffer, RecvFlags::empty()).map(|(len, _)| len),
            _ => rustix::io::readv(&self.socket, buffers),
        };
        match result {
            Ok(len) => {
                let asked: usize = buffers.iter().map(|buffer| buffer.len()).sum();
                if len < asked && self.reactor.short_read_drains && !self.readiness.ended.get() {
                    self.readiness.readable.set(false);
                }
                Ok(len)
            }
            Err(error) => {
                if error == rustix::io::Errno::WOULDBLOCK {
                    self.readiness.readable.set(false);
                }
                Err(error.into())
            }
        }
    }

    /// Sends the buffers, in their order, without waiting; says how much the system took.
    ///
    /// # Errors
    /// `WouldBlock` if it takes nothing now; else the connection is broken.
    #[inline]
    pub fn send(&self, buffers: &[IoSlice<'_>]) -> io::Result<usize> {
        let result = match buffers {
            [buffer] => rustix::net::send(&self.socket, buffer, SendFlags::NOSIGNAL),
            _ => rustix::io::writev(&self.socket, buffers),
        };
        match result {
            Ok(len) => {
                let asked: usize = buffers.iter().map(|buffer| buffer.len()).sum();
                if len < asked {
                    self.readiness.writable.set(false);
                }
                Ok(len)
            }
            Err(error) => {
                if error == rustix::io::Errno::WOULDBLOCK {
                    self.readiness.writable.set(false);
                }
                Err(error.into())
            }
        }
    }

    /// Something that ends the wait for input.
    pub fn canceller(&self) -> Canceller {
        Canceller(Rc::clone(&self.readiness))
    }

    /// Whether somebody has used the [`canceller`](Self::canceller) since the last time that this was asked.
    pub fn take_cancelled(&self) -> bool {
        self.readiness.cancelled.take()
    }

    /// Waits until something may be received, until the wait is cancelled, or until the server stops.
    pub async fn readable(&self) {
        self.ready(Interest::Readable).await;
    }

    /// Waits until something may be sent, or until [`Reactor::nudge_sender`].
    pub async fn writable(&self) {
        self.ready(Interest::Writable).await;
    }

    /// Whether the server stops, so that no further input is to be waited for.
    pub fn is_draining(&self) -> bool {
        self.reactor.is_draining()
    }

    async fn ready(&self, interest: Interest) {
        std::future::poll_fn(|context| {
            let readiness = &*self.readiness;
            let ready = match interest {
                Interest::Readable => {
                    readiness.readable.get() || readiness.cancelled.get() || self.reactor.is_draining()
                }
                _ => readiness.writable.get() || readiness.nudged.take(),
            };
            if ready {
                readiness.waits_for.set(Interest::Nothing);
                return Poll::Ready(());
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
        self.reactor.driver.borrow().remove(&self.socket);
        let mut sources = self.reactor.sources.borrow_mut();
        sources.slots[self.key] = None;
        sources.free.push(self.key);
    }
}
