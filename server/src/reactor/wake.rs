//! What ends a wait from another thread: an eventfd.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::event::{EventfdFlags, eventfd};

use super::Notify;

/// An eventfd that is only ever written: each write ends a wait of whoever watches it edge-triggered, and the count is of no interest.
pub(super) struct Wake(OwnedFd);

impl Wake {
    pub(super) fn new() -> io::Result<Wake> {
        Ok(Wake(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?))
    }
}

impl AsFd for Wake {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl Notify for Wake {
    fn notify(&self) {
        // It cannot fail before 2^64 - 1 notifications, and then somebody has been notified.
        let _ = rustix::io::write(&self.0, &1u64.to_ne_bytes());
    }
}
