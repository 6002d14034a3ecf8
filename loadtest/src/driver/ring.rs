//! io_uring behind a safe face. Nearly all unsafe code of this crate is here.
//!
//! Completions come only while [`Ring::turn`] is in the kernel (`DEFER_TASKRUN`): between two turns nothing moves.
//!
//! - U1: bytes to send are lent for one turn. Their sends do not wait (`MSG_DONTWAIT`), so the kernel is done with the bytes
//!   as soon as it has taken the entry, and a turn ends only when it has taken all. A turn that fails, or is unwound, leaves the ring
//!   [`broken`](Ring::broken): the kernel is never entered again with entries that nobody answers for.
//! - U2: a buffer belongs to the kernel, or to us from the completion that names it until [`Ring::advance`] leaves that
//!   completion behind. Ours are read through [`Ring::current`], whose borrow ends before the next `advance`.
//! - U3: the kernel writes to no buffer once their registration has been taken back. If it does not let us, the memory is left
//!   to it for good.

#![allow(unsafe_code)]

use io_uring::types::{BufRingEntry, CancelBuilder, Fd, SubmitArgs, Timespec};
use io_uring::{IoUring, cqueue, opcode, squeue};
use rustix::event::PollFlags;
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags};
use std::alloc::{self, Layout};
use std::os::fd::{AsRawFd as _, BorrowedFd};
use std::ptr::NonNull;
use std::slice;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;
use std::{fmt, io};

/// Entries that are handed over at once.
const ENTRIES: u32 = 1024;
/// Length of a buffer: most answers fit, and a long one is put together from several.
pub(super) const BUFFER_BYTES: usize = 16 << 10;
/// Buffers are fewer than this, however many connections there are: a receive that finds none is begun again.
const BUFFERS_MAX: usize = 1024;
/// The one group of buffers.
const GROUP: u16 = 0;
/// The list of buffers begins at a page, as the kernel demands.
const PAGE_BYTES: usize = 4096;
/// How often in a row the kernel may take nothing, for want of memory.
const REFUSALS_MAX: usize = 1000;
/// How long the kernel may take to cancel what is pending: nothing of it waits for anybody.
const CANCEL_TIMEOUT: Timespec = Timespec::new().sec(1);

pub(super) struct Ring {
    // Declared before the buffers: closed before they go.
    uring: IoUring,
    buffers: Buffers,
    /// Whose buffer is ours.
    current: Option<cqueue::Entry>,
    /// Entries may refer to bytes that are lent no more.
    broken: bool,
}

/// What the kernel is asked to do.
pub(super) enum Op<'a> {
    /// To report all bytes that arrive from now on.
    Receive(BorrowedFd<'a>),
    /// To send as many of the bytes as fit now. Only a failure is reported, and what is less than all.
    Send(BorrowedFd<'a>, &'a [u8]),
    /// To report once that there is room for sending.
    AwaitRoom(BorrowedFd<'a>),
}

/// What the kernel reports.
#[derive(Debug)]
pub(super) struct Completion<'a> {
    /// That of the operation.
    pub(super) id: u64,
    /// Number of bytes, or what failed.
    pub(super) result: Result<usize, Errno>,
    /// What was received.
    pub(super) bytes: &'a [u8],
    /// The operation goes on.
    pub(super) goes_on: bool,
}

impl Ring {
    /// A ring for so many connections, to be used by the calling thread alone.
    ///
    /// # Errors
    /// When the system has no io_uring, forbids it, or lacks something of Linux 6.1.
    pub(super) fn new(connections: usize) -> io::Result<Self> {
        // Room for all that one turn can bring, so that no completion waits behind what the next turn sends: each connection's short send, its end of a
        // receive for want of a buffer and its room to send, and every buffer.
        let completions = (connections * 4 + BUFFERS_MAX).next_power_of_two().clamp(2 * ENTRIES as usize, 1 << 16);
        let uring = IoUring::builder()
            .setup_single_issuer()
            .setup_defer_taskrun()
            .setup_submit_all()
            .setup_clamp()
            .setup_cqsize(completions as u32)
            .build(ENTRIES)?;
        if !uring.params().is_feature_nodrop() || !uring.params().is_feature_skip_cqe_on_success() {
            return Err(io::ErrorKind::Unsupported.into());
        }
        let mut buffers = Buffers::new(connections.next_power_of_two().clamp(16, BUFFERS_MAX) as u16);
        // SAFETY: the list lies at a page, has as many entries as said, and lives until the registration is taken back (U3).
        unsafe { uring.submitter().register_buf_ring_with_flags(buffers.list_address(), buffers.count, GROUP, 0) }?;
        buffers.lent = true;
        (0..buffers.count).for_each(|number| buffers.lend(number));
        Ok(Self { uring, buffers, current: None, broken: false })
    }

    /// Hands over the operations, each with its id, and waits until there is something to report, for no longer than `timeout`.
    ///
    /// # Errors
    /// When the system fails. The ring is of no further use then.
    pub(super) fn turn<'a>(&mut self, ops: impl Iterator<Item = (u64, Op<'a>)>, timeout: Duration) -> io::Result<()> {
        if self.broken {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        self.broken = true;
        self.buffers.publish();
        for (id, op) in ops {
            let entry = op.entry().user_data(id);
            if self.uring.submission().is_full() {
                self.hand_over()?;
            }
            // SAFETY: the socket and the bytes are borrowed until the end of this turn, by when the kernel has taken the entry
            // and needs neither any more (U1).
            unsafe { self.uring.submission().push(&entry) }.expect("there is room");
        }
        let timeout = Timespec::new().sec(timeout.as_secs()).nsec(timeout.subsec_nanos());
        match self.uring.submitter().submit_with_args(1, &SubmitArgs::new().timespec(&timeout)) {
            Ok(_) => {}
            Err(error) if Errno::from_io_error(&error) == Some(Errno::TIME) || is_passing(&error) => {}
            Err(error) => return Err(error),
        }
        self.hand_over()?;
        self.broken = false;
        Ok(())
    }

    /// Makes the kernel take what it has not taken yet.
    fn hand_over(&mut self) -> io::Result<()> {
        let mut refusals = 0;
        while !self.uring.submission().is_empty() {
            match self.uring.submit() {
                Ok(_) => {}
                Err(error) if is_passing(&error) && refusals < REFUSALS_MAX => refusals += 1,
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Completions that have not been looked at.
    pub(super) fn ready(&mut self) -> usize {
        self.uring.completion().len()
    }

    /// Goes on to the next completion, if there is one.
    pub(super) fn advance(&mut self) -> bool {
        if let Some(number) = self.current.take().and_then(|entry| cqueue::buffer_select(entry.flags())) {
            self.buffers.lend(number);
        }
        self.current = self.uring.completion().next();
        self.current.is_some()
    }

    /// The completion at which [`Ring::advance`] has arrived.
    pub(super) fn current(&self) -> Option<Completion<'_>> {
        let entry = self.current.as_ref()?;
        let result = entry.result();
        let result = usize::try_from(result).map_err(|_| Errno::from_raw_os_error(-result));
        let bytes = match (cqueue::buffer_select(entry.flags()), result) {
            (Some(number), Ok(bytes)) => self.buffers.bytes(number, bytes),
            _ => &[],
        };
        Some(Completion { id: entry.user_data(), result, bytes, goes_on: cqueue::more(entry.flags()) })
    }

    /// Cancels everything that is pending; what it was reports it in the next turn.
    pub(super) fn cancel(&self) {
        // It fails where nothing is pending, or where nothing can be done about it.
        let _ = self.uring.submitter().register_sync_cancel(Some(CANCEL_TIMEOUT), CancelBuilder::any());
    }
}

/// Whether the same may work the next time.
fn is_passing(error: &io::Error) -> bool {
    matches!(Errno::from_io_error(error), Some(Errno::INTR | Errno::AGAIN | Errno::BUSY))
}

impl fmt::Debug for Ring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ring").field("broken", &self.broken).finish_non_exhaustive()
    }
}

impl Drop for Ring {
    fn drop(&mut self) {
        // U3.
        self.buffers.lent = self.uring.submitter().unregister_buf_ring(GROUP).is_err();
    }
}

impl Op<'_> {
    fn entry(&self) -> squeue::Entry {
        match *self {
            Op::Receive(socket) => {
                opcode::RecvMulti::new(Fd(socket.as_raw_fd()), GROUP).flags(RecvFlags::empty().bits() as i32).build()
            }
            Op::Send(socket, bytes) => {
                // All or nothing to report: without WAITALL a part of the bytes would count as success.
                const WAIT_ALL: u32 = RecvFlags::WAITALL.bits();
                let flags = (SendFlags::NOSIGNAL | SendFlags::DONTWAIT).bits() | WAIT_ALL;
                // What is too long for one entry is sent in parts like what finds no room.
                let length = bytes.len().min(1 << 30) as u32;
                let entry =
                    opcode::Send::new(Fd(socket.as_raw_fd()), bytes.as_ptr(), length).flags(flags as i32).build();
                if bytes.len() == length as usize { entry.flags(squeue::Flags::SKIP_SUCCESS) } else { entry }
            }
            Op::AwaitRoom(socket) => {
                opcode::PollAdd::new(Fd(socket.as_raw_fd()), u32::from(PollFlags::OUT.bits())).build()
            }
        }
    }
}

/// Memory that the kernel writes to: the list through which buffers are lent to it, and the buffers.
struct Buffers {
    base: NonNull<u8>,
    layout: Layout,
    list_bytes: usize,
    count: u16,
    /// Buffers lent so far; wraps.
    tail: u16,
    /// The kernel may still write.
    lent: bool,
}

impl Buffers {
    /// So many buffers, a power of two.
    fn new(count: u16) -> Self {
        let list_bytes = (usize::from(count) * size_of::<BufRingEntry>()).next_multiple_of(PAGE_BYTES);
        let bytes = list_bytes + usize::from(count) * BUFFER_BYTES;
        let layout = Layout::from_size_align(bytes, PAGE_BYTES).expect("some megabytes, aligned to a page");
        // SAFETY: the layout is not empty.
        let base = unsafe { alloc::alloc(layout) };
        let Some(base) = NonNull::new(base) else { alloc::handle_alloc_error(layout) };
        // SAFETY: the list is within the allocation.
        unsafe { base.write_bytes(0, list_bytes) };
        Self { base, layout, list_bytes, count, tail: 0, lent: false }
    }

    fn list_address(&self) -> u64 {
        self.base.as_ptr() as u64
    }

    fn buffer(&self, number: u16) -> *mut u8 {
        assert!(number < self.count, "the kernel names buffer {number} of {}", self.count);
        // SAFETY: there are `count` buffers behind the list.
        unsafe { self.base.as_ptr().add(self.list_bytes + usize::from(number) * BUFFER_BYTES) }
    }

    /// The bytes that the kernel has put into a buffer, which is ours.
    fn bytes(&self, number: u16, bytes: usize) -> &[u8] {
        assert!(bytes <= BUFFER_BYTES, "the kernel has written {bytes} bytes into a buffer");
        // SAFETY: the kernel has written these bytes, and writes there no more until the buffer is lent again, for which `self`
        // must be borrowed mutably (U2).
        unsafe { slice::from_raw_parts(self.buffer(number), bytes) }
    }

    /// Puts a buffer that is ours on the list; [`Buffers::publish`] lends it.
    fn lend(&mut self, number: u16) {
        let address = self.buffer(number) as u64;
        let place = usize::from(self.tail & (self.count - 1));
        // SAFETY: within the list, which is aligned to a page; the kernel reads entries only up to the published tail, and at
        // most `count` buffers are lent at a time, so this one has been read. Nothing else refers to the list.
        let entry = unsafe { &mut *self.base.cast::<BufRingEntry>().as_ptr().add(place) };
        entry.set_addr(address);
        entry.set_len(BUFFER_BYTES as u32);
        entry.set_bid(number);
        self.tail = self.tail.wrapping_add(1);
    }

    fn publish(&mut self) {
        // SAFETY: the pointer is to the list's first entry, which was zeroed and therefore is valid.
        let tail = unsafe { BufRingEntry::tail(self.base.cast::<BufRingEntry>().as_ptr()) };
        // SAFETY: aligned, alive as long as `self`, and whoever else accesses it (the kernel) does so atomically.
        let tail = unsafe { AtomicU16::from_ptr(tail.cast_mut()) };
        // Release: publishes the list's entries to the kernel, which loads the tail with Acquire before it reads them.
        tail.store(self.tail, Ordering::Release);
    }
}

impl Drop for Buffers {
    fn drop(&mut self) {
        if !self.lent {
            // SAFETY: allocated with this layout; the kernel has given up the memory (U3), or has never had it.
            unsafe { alloc::dealloc(self.base.as_ptr(), self.layout) };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
    use std::os::fd::{AsFd as _, OwnedFd};

    const PATIENCE: Duration = Duration::from_secs(10);

    /// Nothing where the system has no io_uring.
    fn ring() -> Option<Ring> {
        Ring::new(1).inspect_err(|error| eprintln!("not tested: {error}")).ok()
    }

    fn pair() -> (OwnedFd, OwnedFd) {
        socketpair(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::NONBLOCK, None).unwrap()
    }

    /// Takes completions until `done` says that this was the last one.
    fn take(ring: &mut Ring, mut done: impl FnMut(Completion<'_>) -> bool) {
        loop {
            while ring.advance() {
                if done(ring.current().unwrap()) {
                    return;
                }
            }
            ring.turn(std::iter::empty(), PATIENCE).unwrap();
            assert!(ring.ready() > 0, "nothing happens");
        }
    }

    #[test]
    fn every_byte_comes_once_and_in_order_through_buffers_that_are_used_again() {
        let Some(mut ring) = ring() else { return };
        let (ours, theirs) = pair();
        ring.turn([(7, Op::Receive(ours.as_fd()))].into_iter(), Duration::ZERO).unwrap();
        let sent: Vec<u8> = (0..5_000_000_u32).map(|number| (number.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
        let (mut received, mut offset) = (Vec::new(), 0);
        let mut again = false;
        while received.len() < sent.len() {
            offset += rustix::net::send(&theirs, &sent[offset..], SendFlags::NOSIGNAL).unwrap_or(0);
            let receive = again.then_some((7, Op::Receive(ours.as_fd())));
            ring.turn(receive.into_iter(), PATIENCE).unwrap();
            again = false;
            while ring.advance() {
                let Completion { id, result, bytes, goes_on } = ring.current().unwrap();
                assert_eq!(id, 7);
                assert!(result == Ok(bytes.len()) || result == Err(Errno::NOBUFS), "{result:?}");
                received.extend_from_slice(bytes);
                again = !goes_on;
            }
        }
        assert!(received == sent, "what came is not what was sent");
    }

    #[test]
    fn a_send_says_nothing_unless_it_falls_short() {
        let Some(mut ring) = ring() else { return };
        let (ours, theirs) = pair();
        ring.turn([(1, Op::Send(ours.as_fd(), b"short"))].into_iter(), Duration::ZERO).unwrap();
        assert!(!ring.advance());
        let long = vec![b'x'; 64 << 20];
        ring.turn([(2, Op::Send(ours.as_fd(), &long))].into_iter(), PATIENCE).unwrap();
        let mut fitted = 0;
        take(&mut ring, |completion| {
            assert_eq!(completion.id, 2);
            fitted = completion.result.unwrap();
            true
        });
        assert!(fitted < long.len());
        ring.turn([(3, Op::Send(ours.as_fd(), &long))].into_iter(), PATIENCE).unwrap();
        take(&mut ring, |completion| completion.id == 3 && completion.result == Err(Errno::AGAIN));
        // Room is reported when there is some, and not before.
        ring.turn([(4, Op::AwaitRoom(ours.as_fd()))].into_iter(), Duration::ZERO).unwrap();
        assert!(!ring.advance());
        let mut buffer = vec![0; 1 << 20];
        while rustix::net::recv(&theirs, &mut buffer[..], RecvFlags::empty()).is_ok() {}
        take(&mut ring, |completion| completion.id == 4);
        drop(theirs);
        ring.turn([(5, Op::Send(ours.as_fd(), b"too late"))].into_iter(), PATIENCE).unwrap();
        take(&mut ring, |completion| completion.id == 5 && completion.result == Err(Errno::PIPE));
    }

    #[test]
    fn what_is_cancelled_reports_its_end() {
        let Some(mut ring) = ring() else { return };
        let (ours, theirs) = pair();
        ring.turn([(9, Op::Receive(ours.as_fd()))].into_iter(), Duration::ZERO).unwrap();
        ring.cancel();
        take(&mut ring, |completion| completion.id == 9 && !completion.goes_on);
        // What comes afterwards stays in the socket.
        rustix::net::send(&theirs, b"later", SendFlags::NOSIGNAL).unwrap();
        ring.turn(std::iter::empty(), Duration::ZERO).unwrap();
        assert!(!ring.advance());
        assert_eq!(rustix::net::recv(&ours, &mut [0; 10][..], RecvFlags::empty()).unwrap().0, 5);
    }

    #[test]
    fn more_operations_than_entries_are_handed_over_in_parts() {
        let Some(mut ring) = ring() else { return };
        let (ours, theirs) = pair();
        let count = ENTRIES as usize * 2 + 3;
        let ops = (0..count).map(|_| (1, Op::Send(ours.as_fd(), b"x")));
        ring.turn(ops, Duration::ZERO).unwrap();
        let mut buffer = vec![0; 2 * count];
        let mut received = 0;
        while let Ok((bytes, _)) = rustix::net::recv(&theirs, &mut buffer[..], RecvFlags::empty()) {
            received += bytes;
        }
        let mut refused = 0;
        while ring.advance() {
            refused += 1;
        }
        // A socket takes only so many small messages.
        assert_eq!(received + refused, count);
    }
}
