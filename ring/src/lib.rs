//! io_uring behind a safe face, for one thread with many connections: what a server or a load generator needs of it, no more.
//!
//! A thread hands operations over by [`Ring::turn`], which waits as well: one system call for all connections. Then it looks at what has happened, completion
//! by completion ([`Ring::advance`], [`Ring::current`]). A receive goes on until it is cancelled ([`Op::Receive`]), and takes a
//! buffer from a common stock when bytes have come. Completions come only while [`Ring::turn`] is in the kernel (`DEFER_TASKRUN`): between two
//! turns nothing moves.
//!
//! All unsafe code that io_uring takes is here. What it relies on:
//!
//! - U1: bytes to send are lent for one turn. Their sends do not wait (`MSG_DONTWAIT`), so the kernel is done with the bytes
//!   as soon as it has taken the entry, and a turn ends only when it has taken all. A turn that fails, or is unwound, leaves the ring
//!   [`broken`](Ring::is_broken): the kernel is never entered again with entries that nobody answers for.
//! - U2: a buffer belongs to the kernel, or to us from the completion that names it until [`Ring::advance`] leaves that
//!   completion behind. Ours are read through [`Ring::current`], whose borrow ends before the next `advance`. Who wants a buffer for longer
//!   takes it out of the completion as a [`Received`], which is one of a kind; it is read through [`Ring::bytes`], whose borrow ends
//!   before [`Ring::give_back`] consumes it.
//! - U3: the kernel writes to no buffer once their registration has been taken back. If it does not let us, the memory is left
//!   to it for good.
//!
//! ```
//! use memkv_ring::{Op, Ring, Setup};
//! use std::io::Write as _;
//! use std::os::{fd::AsFd as _, unix::net::UnixStream};
//!
//! # fn main() -> std::io::Result<()> {
//! // Containers often forbid it, and old systems lack it: there must be another way.
//! let Ok(mut ring) = Ring::new(Setup { buffers: 16, buffer_bytes: 4096, completions: 256 }) else { return Ok(()) };
//! let (ours, mut theirs) = UnixStream::pair()?;
//! theirs.write_all(b"ping")?;
//! ring.turn([(7, Op::Receive(ours.as_fd())), (8, Op::Send(ours.as_fd(), b"pong"))].into_iter(), None)?;
//! assert!(ring.advance());
//! let completion = ring.current().unwrap();
//! assert_eq!((completion.id, completion.bytes), (7, &b"ping"[..]));
//! # Ok(())
//! # }
//! ```

#![allow(unsafe_code)]

mod buffers;

use buffers::Buffers;
use io_uring::types::{CancelBuilder, Fd, SubmitArgs, Timespec};
use io_uring::{EnterFlags, IoUring, cqueue, opcode, squeue};
use rustix::event::PollFlags;
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags};
use std::os::fd::{AsRawFd as _, BorrowedFd};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use std::{fmt, io};

/// Entries that are handed over at once; a turn with more takes several system calls.
pub const ENTRIES: u32 = 1024;
/// The one group of buffers.
const GROUP: u16 = 0;
/// How often in a row the kernel may take nothing, for want of memory.
const REFUSALS_MAX: usize = 1000;
/// How long the kernel may take to cancel what is pending: nothing of it waits for anybody.
const CANCEL_TIMEOUT: Timespec = Timespec::new().sec(1);

/// The measures of a [`Ring`].
#[derive(Clone, Copy, Debug)]
pub struct Setup {
    /// Buffers for what is received, a power of two. They may be fewer than connections: a receive that finds none ends, and can be begun
    /// again.
    pub buffers: u16,
    /// The length of a buffer. More bytes than that are reported in parts.
    pub buffer_bytes: usize,
    /// Completions for which there is room at least. What one turn brings should fit: more waits in the kernel
    /// ([`Ring::is_overflown`]).
    pub completions: u32,
}

/// A ring, to be used by the thread that made it.
pub struct Ring {
    // Declared before the buffers: closed before they go.
    uring: IoUring,
    buffers: Buffers,
    /// Whose buffer is ours.
    current: Option<cqueue::Entry>,
    /// Entries may refer to bytes that are lent no more.
    broken: bool,
    /// Unlike that of any other ring.
    identity: u64,
}

/// What the kernel is asked to do.
#[derive(Clone, Copy, Debug)]
pub enum Op<'a> {
    /// To report all bytes that arrive from now on.
    Receive(BorrowedFd<'a>),
    /// To send as many of the bytes as fit now. Only a failure is reported, and what is less than all, by the end of the turn.
    Send(BorrowedFd<'a>, &'a [u8]),
    /// To report once that there is room for sending.
    AwaitRoom(BorrowedFd<'a>),
    /// To report once that there is something to be received, or that the stream has ended.
    AwaitInput(BorrowedFd<'a>),
    /// To report each time that there is something to be read.
    Watch(BorrowedFd<'a>),
    /// To end the operation with this id, which reports that it was cancelled, unless it has ended by itself. Only a failure is
    /// reported: `NOENT` as a rule, if the operation has ended, or is at a point where it cannot be met.
    Cancel(u64),
}

/// What the kernel reports.
#[derive(Debug)]
pub struct Completion<'a> {
    /// That of the operation.
    pub id: u64,
    /// Number of bytes, or what failed.
    pub result: Result<usize, Errno>,
    /// What was received.
    pub bytes: &'a [u8],
    /// The operation goes on.
    pub goes_on: bool,
}

/// Bytes that were received, in a buffer that the kernel does not get back before [`Ring::give_back`].
#[derive(Debug)]
#[must_use = "a buffer that is not given back is lost to the ring"]
pub struct Received {
    number: u16,
    len: u32,
    ring: u64,
}

impl Received {
    /// How many bytes there are.
    pub fn len(&self) -> usize {
        self.len as usize
    }

    /// Whether there are none, which is never the case for what a completion brought.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }
}

impl Ring {
    /// A ring for the calling thread.
    ///
    /// # Errors
    /// When the system has no io_uring, forbids it, or lacks something of Linux 6.1.
    ///
    /// # Panics
    /// If the number of buffers is no power of two, or their length is 0.
    pub fn new(setup: Setup) -> io::Result<Self> {
        static IDENTITIES: AtomicU64 = AtomicU64::new(0);
        let uring = IoUring::builder()
            .setup_single_issuer()
            .setup_defer_taskrun()
            .setup_submit_all()
            .setup_clamp()
            .setup_cqsize(setup.completions.next_power_of_two().max(2 * ENTRIES))
            .build(ENTRIES)?;
        if !uring.params().is_feature_nodrop() || !uring.params().is_feature_skip_cqe_on_success() {
            return Err(io::ErrorKind::Unsupported.into());
        }
        let mut buffers = Buffers::new(setup.buffers, setup.buffer_bytes);
        // SAFETY: the list lies at a page, has as many entries as said, and lives until the registration is taken back (U3).
        unsafe { uring.submitter().register_buf_ring_with_flags(buffers.list_address(), buffers.count, GROUP, 0) }?;
        buffers.lent = true;
        (0..buffers.count).for_each(|number| buffers.lend(number));
        // Relaxed: only that no two are alike matters.
        let identity = IDENTITIES.fetch_add(1, Ordering::Relaxed);
        Ok(Self { uring, buffers, current: None, broken: false, identity })
    }

    /// Hands over the operations, each with its id, and waits until there is something to report, for no longer than `timeout`; without one,
    /// for as long as it takes. A timeout of 0 waits for nothing, but what has happened is reported. A signal ends the wait.
    ///
    /// # Errors
    /// When the system fails. The ring is of no further use then.
    pub fn turn<'a>(&mut self, ops: impl Iterator<Item = (u64, Op<'a>)>, timeout: Option<Duration>) -> io::Result<()> {
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
        match self.wait(timeout) {
            Ok(_) => {}
            Err(error) if Errno::from_io_error(&error) == Some(Errno::TIME) || is_passing(&error) => {}
            Err(error) => return Err(error),
        }
        self.hand_over()?;
        self.broken = false;
        Ok(())
    }

    /// Hands over what there is and waits.
    fn wait(&mut self, timeout: Option<Duration>) -> io::Result<usize> {
        match timeout {
            Some(Duration::ZERO) => {
                let len = self.uring.submission().len();
                // SAFETY: without an argument there is nothing that could be wrong with it.
                unsafe { self.uring.submitter().enter::<()>(len as u32, 0, EnterFlags::GETEVENTS.bits(), None) }
            }
            Some(timeout) => {
                let timeout = Timespec::new().sec(timeout.as_secs()).nsec(timeout.subsec_nanos());
                self.uring.submitter().submit_with_args(1, &SubmitArgs::new().timespec(&timeout))
            }
            None => self.uring.submitter().submit_and_wait(1),
        }
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
    pub fn ready(&mut self) -> usize {
        self.uring.completion().len()
    }

    /// Whether the last turn brought more completions than there was room for. The next turn brings the rest.
    pub fn is_overflown(&mut self) -> bool {
        self.uring.submission().cq_overflow()
    }

    /// Whether a turn has failed, so that no other is possible.
    pub fn is_broken(&self) -> bool {
        self.broken
    }

    /// Goes on to the next completion, if there is one. The buffer of the one before goes back to the kernel, unless it was taken.
    pub fn advance(&mut self) -> bool {
        if let Some(number) = self.current.take().and_then(|entry| cqueue::buffer_select(entry.flags())) {
            self.buffers.lend(number);
        }
        self.current = self.uring.completion().next();
        self.current.is_some()
    }

    /// The completion at which [`Ring::advance`] has arrived.
    pub fn current(&self) -> Option<Completion<'_>> {
        let entry = self.current.as_ref()?;
        let result = entry.result();
        let result = usize::try_from(result).map_err(|_| Errno::from_raw_os_error(-result));
        let bytes = match (cqueue::buffer_select(entry.flags()), result) {
            (Some(number), Ok(bytes)) => self.buffers.bytes(number, bytes),
            _ => &[],
        };
        Some(Completion { id: entry.user_data(), result, bytes, goes_on: cqueue::more(entry.flags()) })
    }

    /// Takes what was received out of the completion at which [`Ring::advance`] has arrived, if it received something. The completion is
    /// left behind with that.
    pub fn take(&mut self) -> Option<Received> {
        let entry = self.current.as_ref()?;
        let len = u32::try_from(entry.result()).ok().filter(|len| *len > 0)?;
        let number = cqueue::buffer_select(entry.flags())?;
        self.current = None;
        Some(Received { number, len, ring: self.identity })
    }

    /// What was received into a buffer that was taken.
    ///
    /// # Panics
    /// If it is another ring's.
    pub fn bytes(&self, received: &Received) -> &[u8] {
        assert_eq!(received.ring, self.identity, "a buffer of this ring");
        self.buffers.bytes(received.number, received.len())
    }

    /// Lends a buffer to the kernel again, from the next turn on.
    ///
    /// # Panics
    /// If it is another ring's.
    pub fn give_back(&mut self, received: Received) {
        assert_eq!(received.ring, self.identity, "a buffer of this ring");
        self.buffers.lend(received.number);
    }

    /// Cancels everything that is pending; what it was reports it in the next turn.
    pub fn cancel_all(&self) {
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
            Op::AwaitRoom(socket) => poll(socket, PollFlags::OUT).build(),
            Op::AwaitInput(socket) => poll(socket, PollFlags::IN | PollFlags::RDHUP).build(),
            Op::Watch(file) => poll(file, PollFlags::IN).multi(true).build(),
            Op::Cancel(id) => opcode::AsyncCancel::new(id).build().flags(squeue::Flags::SKIP_SUCCESS),
        }
    }
}

fn poll(file: BorrowedFd<'_>, flags: PollFlags) -> opcode::PollAdd {
    opcode::PollAdd::new(Fd(file.as_raw_fd()), u32::from(flags.bits()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
    use std::io::Write as _;
    use std::os::fd::{AsFd as _, OwnedFd};

    const PATIENCE: Duration = Duration::from_secs(10);

    /// Nothing where the system has no io_uring, which is said where everybody sees it; a failure where `TESTS_REQUIRE` names it.
    fn ring() -> Option<Ring> {
        let error = match Ring::new(Setup { buffers: 16, buffer_bytes: 16 << 10, completions: 64 }) {
            Ok(ring) => return Some(ring),
            Err(error) => error,
        };
        let required = std::env::var("TESTS_REQUIRE").unwrap_or_default();
        let is_required = required.split_whitespace().any(|word| word == "io_uring");
        assert!(!is_required, "TESTS_REQUIRE names io_uring: {error}");
        // The macros' output is shown for failing tests only; this is not.
        let _ = writeln!(io::stderr(), "NOT TESTED: what needs io_uring, because {error}");
        None
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
            ring.turn(std::iter::empty(), Some(PATIENCE)).unwrap();
            assert!(ring.ready() > 0, "nothing happens");
        }
    }

    #[test]
    fn every_byte_comes_once_and_in_order_through_buffers_that_are_used_again() {
        let Some(mut ring) = ring() else { return };
        let (ours, theirs) = pair();
        ring.turn([(7, Op::Receive(ours.as_fd()))].into_iter(), Some(Duration::ZERO)).unwrap();
        let sent: Vec<u8> = (0..5_000_000_u32).map(|number| (number.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
        let (mut received, mut offset) = (Vec::new(), 0);
        let mut again = false;
        while received.len() < sent.len() {
            offset += rustix::net::send(&theirs, &sent[offset..], SendFlags::NOSIGNAL).unwrap_or(0);
            let receive = again.then_some((7, Op::Receive(ours.as_fd())));
            ring.turn(receive.into_iter(), Some(PATIENCE)).unwrap();
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
        ring.turn([(1, Op::Send(ours.as_fd(), b"short"))].into_iter(), Some(Duration::ZERO)).unwrap();
        assert!(!ring.advance());
        let long = vec![b'x'; 64 << 20];
        ring.turn([(2, Op::Send(ours.as_fd(), &long))].into_iter(), Some(PATIENCE)).unwrap();
        let mut fitted = 0;
        take(&mut ring, |completion| {
            assert_eq!(completion.id, 2);
            fitted = completion.result.unwrap();
            true
        });
        assert!(fitted < long.len());
        ring.turn([(3, Op::Send(ours.as_fd(), &long))].into_iter(), Some(PATIENCE)).unwrap();
        take(&mut ring, |completion| completion.id == 3 && completion.result == Err(Errno::AGAIN));
        // Room is reported when there is some, and not before.
        ring.turn([(4, Op::AwaitRoom(ours.as_fd()))].into_iter(), Some(Duration::ZERO)).unwrap();
        assert!(!ring.advance());
        let mut buffer = vec![0; 1 << 20];
        while rustix::net::recv(&theirs, &mut buffer[..], RecvFlags::empty()).is_ok() {}
        take(&mut ring, |completion| completion.id == 4);
        drop(theirs);
        ring.turn([(5, Op::Send(ours.as_fd(), b"too late"))].into_iter(), Some(PATIENCE)).unwrap();
        take(&mut ring, |completion| completion.id == 5 && completion.result == Err(Errno::PIPE));
    }

    #[test]
    fn what_is_cancelled_reports_its_end() {
        let Some(mut ring) = ring() else { return };
        let (ours, theirs) = pair();
        ring.turn([(9, Op::Receive(ours.as_fd()))].into_iter(), Some(Duration::ZERO)).unwrap();
        ring.cancel_all();
        take(&mut ring, |completion| completion.id == 9 && !completion.goes_on);
        // What comes afterwards stays in the socket.
        rustix::net::send(&theirs, b"later", SendFlags::NOSIGNAL).unwrap();
        ring.turn(std::iter::empty(), Some(Duration::ZERO)).unwrap();
        assert!(!ring.advance());
        assert_eq!(rustix::net::recv(&ours, &mut [0; 10][..], RecvFlags::empty()).unwrap().0, 5);
    }

    #[test]
    fn more_operations_than_entries_are_handed_over_in_parts() {
        let Some(mut ring) = ring() else { return };
        let (ours, theirs) = pair();
        let count = ENTRIES as usize * 2 + 3;
        let ops = (0..count).map(|_| (1, Op::Send(ours.as_fd(), b"x")));
        ring.turn(ops, Some(Duration::ZERO)).unwrap();
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

    #[test]
    fn a_buffer_that_is_taken_keeps_its_bytes_until_it_is_given_back() {
        let Some(mut ring) = ring() else { return };
        let (ours, theirs) = pair();
        ring.turn([(1, Op::Receive(ours.as_fd()))].into_iter(), Some(Duration::ZERO)).unwrap();
        // More than there are buffers, all of which are held: then receiving ends.
        let mut held = Vec::new();
        for round in 0..17_u8 {
            rustix::net::send(&theirs, &[round; 10], SendFlags::NOSIGNAL).unwrap();
            take(&mut ring, |completion| {
                assert_eq!(completion.goes_on, round < 16);
                assert_eq!(completion.result, if round < 16 { Ok(10) } else { Err(Errno::NOBUFS) });
                true
            });
            held.extend(ring.take());
        }
        assert_eq!(held.len(), 16);
        for (round, received) in held.drain(..).enumerate() {
            assert_eq!(ring.bytes(&received), [round as u8; 10]);
            assert!(!received.is_empty() && received.len() == 10);
            ring.give_back(received);
        }
        // What found no buffer is still there.
        ring.turn([(2, Op::Receive(ours.as_fd()))].into_iter(), Some(PATIENCE)).unwrap();
        take(&mut ring, |completion| completion.id == 2 && completion.bytes == [16; 10]);
    }

    #[test]
    #[should_panic(expected = "a buffer of this ring")]
    fn a_buffer_of_another_ring_is_refused() {
        let (Some(mut ring), Some(mut other)) = (ring(), self::ring()) else {
            panic!("not tested: a buffer of this ring")
        };
        let (ours, theirs) = pair();
        ring.turn([(1, Op::Receive(ours.as_fd()))].into_iter(), Some(Duration::ZERO)).unwrap();
        rustix::net::send(&theirs, b"x", SendFlags::NOSIGNAL).unwrap();
        take(&mut ring, |_| true);
        other.give_back(ring.take().unwrap());
    }

    #[test]
    fn one_operation_is_cancelled_by_its_id_and_the_others_go_on() {
        let Some(mut ring) = ring() else { return };
        let ((ours, theirs), (others, others_peer)) = (pair(), pair());
        let ops = [(1, Op::Receive(ours.as_fd())), (2, Op::Receive(others.as_fd()))];
        ring.turn(ops.into_iter(), Some(Duration::ZERO)).unwrap();
        ring.turn([(3, Op::Cancel(1))].into_iter(), Some(PATIENCE)).unwrap();
        take(&mut ring, |completion| {
            assert_eq!((completion.id, completion.result), (1, Err(Errno::CANCELED)));
            !completion.goes_on
        });
        rustix::net::send(&theirs, b"stays", SendFlags::NOSIGNAL).unwrap();
        rustix::net::send(&others_peer, b"comes", SendFlags::NOSIGNAL).unwrap();
        take(&mut ring, |completion| {
            assert_eq!((completion.id, completion.bytes), (2, &b"comes"[..]));
            true
        });
        // There is nothing with this id any more.
        ring.turn([(4, Op::Cancel(1))].into_iter(), Some(PATIENCE)).unwrap();
        take(&mut ring, |completion| (completion.id, completion.result) == (4, Err(Errno::NOENT)));
        assert_eq!(rustix::net::recv(&ours, &mut [0; 10][..], RecvFlags::empty()).unwrap().0, 5);
    }

    #[test]
    fn input_is_awaited_once_and_a_watch_goes_on() {
        let Some(mut ring) = ring() else { return };
        let (ours, theirs) = pair();
        let ops = [(1, Op::AwaitInput(ours.as_fd())), (2, Op::Watch(ours.as_fd()))];
        ring.turn(ops.into_iter(), Some(Duration::ZERO)).unwrap();
        assert!(!ring.advance());
        let mut seen = Vec::new();
        for _ in 0..2 {
            rustix::net::send(&theirs, b"x", SendFlags::NOSIGNAL).unwrap();
            ring.turn(std::iter::empty(), None).unwrap();
            while ring.advance() {
                let completion = ring.current().unwrap();
                seen.push((completion.id, completion.goes_on));
            }
        }
        seen.sort_unstable();
        assert_eq!(seen, [(1, false), (2, true), (2, true)]);
        // The end of the stream counts as input.
        drop(theirs);
        ring.turn([(3, Op::AwaitInput(ours.as_fd()))].into_iter(), Some(PATIENCE)).unwrap();
        take(&mut ring, |completion| completion.id == 3);
    }

    #[test]
    fn what_finds_no_room_in_the_queue_of_completions_comes_later() {
        let Some(mut ring) = ring() else { return };
        let (ours, theirs) = pair();
        drop(theirs);
        let (rounds, count) = (3, ENTRIES as usize);
        let mut seen = 0;
        for _ in 0..rounds {
            let ops = (0..count).map(|_| (1, Op::Send(ours.as_fd(), b"x")));
            ring.turn(ops, Some(Duration::ZERO)).unwrap();
        }
        assert!(ring.is_overflown());
        loop {
            while ring.advance() {
                assert_eq!(ring.current().unwrap().result, Err(Errno::PIPE));
                seen += 1;
            }
            if !ring.is_overflown() {
                break;
            }
            ring.turn(std::iter::empty(), Some(Duration::ZERO)).unwrap();
        }
        assert_eq!(seen, rounds * count);
    }
}
