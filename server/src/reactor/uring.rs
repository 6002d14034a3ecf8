//! io_uring: the kernel receives by itself, and one system call sends for all connections, and waits.
//!
//! What a source does between two waits is noted in a [`Queue`] and handed over with the next turn of the ring. A request that is answered at once thus
//! costs no system call of its own.
//!
//! **Sending.** A short answer is copied into the queue ([`Uring::post`]) and counts as sent. It goes out with the next turn, by which
//! its memory is free again: such a send does not wait. What the socket did not take comes back to the source ([`Flow::returned`]), whose
//! task then has to deal with it before anything else. A source has one answer in the queue at most; whoever wants to send more while
//! others have come behind it, or something long, makes a turn first ([`Uring::flush`]). So bytes cannot overtake each other.
//!
//! **Receiving.** As long as a source only wants the next request it has a receive in the ring that goes on and on ([`Receive::Armed`]).
//! Bytes come in buffers of a stock that all sources share, and are copied to where the task wants them. A buffer is never kept beyond the next
//! wait: what the task has not taken by then is put aside, in memory of the source's own ([`Uring::put_aside`]). A task that does not take what comes,
//! because its client does not read or because it has enough to do, loses its receive at once, so that what is put aside is what one turn of the
//! ring has brought and no more: all of the stock at worst.
//!
//! A source without a receive in the ring ([`Receive::Idle`]) is used as with any other driver: by a plain `recv` when it is readable, which the ring says once when
//! asked ([`Kind::Input`]). That is the way of long values, which go where they belong without a copy, of a worker
//! that is short of memory, of the last look when the server stops, and of whoever found no buffer. Bytes must not overtake each
//! other here either: nobody reads plainly before the receive has reported its end ([`Receive::Ending`]).
//!
//! **Closing.** An operation holds on to its socket, so a source that is dropped cancels its own. Its slot, with the key and the socket, is
//! free when all have reported their end: a completion can never be taken for that of a successor.
//!
//! A cancellation may fail, when the operation is just between two states. It is then repeated until the operation has ended.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::io::{self, IoSlice, IoSliceMut};
use std::os::fd::AsFd as _;
use std::sync::Arc;
use std::time::Duration;

use memkv_ring::{Op, Received, Ring, Setup};
use rustix::io::Errno;

use super::wake::Wake;
use super::{Interest, Notifier, Source, Sources, is_would_block, plain_receive};
use crate::limits::{
    READ_BUFFER_BYTES, RING_BUFFER_BYTES, RING_BUFFERS_MAX, RING_BUFFERS_MIN, RING_COMPLETIONS, RING_MEMORY_BYTES,
    RING_PLAIN_TURNS, RING_PUT_ASIDE_BYTES, RING_SEND_BYTES_MAX, RING_SENDS_BYTES,
};

/// The ring of one worker.
pub(super) struct Uring {
    ring: RefCell<Ring>,
    setup: Setup,
    wake: Arc<Wake>,
    queue: RefCell<Queue>,
    /// The operations of the turn that is under way; kept for its memory.
    handed: RefCell<Vec<Wanted>>,
    /// Sources that have got buffers since the last wait.
    receivers: RefCell<Vec<usize>>,
    /// Buffers that sources have, and that are not the kernel's.
    held: Cell<usize>,
    /// Bytes that were put aside.
    aside_bytes: Cell<usize>,
    /// Sources that have been dropped and have something in the ring.
    leaving: RefCell<Vec<usize>>,
    /// Whether memory is short, so that nothing should be received before somebody wants it.
    pressed: Cell<bool>,
    /// Completions since somebody asked.
    events: Cell<usize>,
    /// Whether somebody has notified in a turn that was not the worker's wait.
    notified: Cell<bool>,
}

/// What the next turn hands over.
#[derive(Default)]
struct Queue {
    wanted: Vec<Wanted>,
    /// The answers, back to back.
    bytes: Vec<u8>,
}

#[derive(Clone, Copy)]
struct Wanted {
    key: usize,
    kind: Kind,
    /// Where the bytes of a [`Kind::Send`] are.
    start: usize,
    end: usize,
}

/// What an operation, and its completion, is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Receive,
    Send,
    /// There is room for sending.
    Room,
    /// There is something to be received.
    Input,
    EndReceive,
    EndRoom,
    EndInput,
    /// Somebody has notified.
    Wake,
}

const KINDS: [Kind; 8] =
    [Kind::Receive, Kind::Send, Kind::Room, Kind::Input, Kind::EndReceive, Kind::EndRoom, Kind::EndInput, Kind::Wake];

const KIND_BITS: u32 = 3;

fn id(key: usize, kind: Kind) -> u64 {
    (key as u64) << KIND_BITS | kind as u64
}

/// The parts of an id.
fn parts(id: u64) -> (usize, Kind) {
    ((id >> KIND_BITS) as usize, KINDS[id as usize % KINDS.len()])
}

/// What the ring has of a source, and what it has brought.
#[derive(Default)]
pub(super) struct Flow {
    receive: Cell<Receive>,
    /// Whether room, or input, is being awaited in the ring.
    awaits_room: Cell<bool>,
    awaits_input: Cell<bool>,
    /// How the stream has ended, if it has.
    end: Cell<End>,
    /// Turns for which the task receives plainly, because much was to come.
    plain_turns: Cell<u8>,
    /// Bytes in `arrived`.
    arrived_bytes: Cell<usize>,
    arrived: RefCell<Arrived>,
    /// Whether an answer is in the queue.
    is_queued: Cell<bool>,
    /// What the socket did not take of it.
    returned: RefCell<Vec<u8>>,
}

/// The receive of a source.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Receive {
    /// There is none.
    #[default]
    Idle,
    /// In the ring.
    Armed,
    /// Cancelled, but it has not reported its end.
    Ending,
}

#[derive(Clone, Copy, Debug, Default)]
enum End {
    #[default]
    Open,
    Ended,
    Broken(Errno),
}

/// Bytes that have been received and not been taken.
#[derive(Default)]
struct Arrived {
    /// What was put aside; it comes first.
    aside: Vec<u8>,
    buffers: VecDeque<Received>,
    /// Bytes that have been taken of the first of all these.
    taken: usize,
}

impl Flow {
    /// Whether something has arrived, be it the end.
    #[inline]
    pub(super) fn has_arrived(&self) -> bool {
        self.arrived_bytes.get() > 0 || !matches!(self.end.get(), End::Open)
    }

    /// Whether the ring receives for the source, or may still.
    #[inline]
    pub(super) fn is_receiving(&self) -> bool {
        self.receive.get() != Receive::Idle
    }

    /// Whether something came back.
    #[inline]
    pub(super) fn has_returned(&self) -> bool {
        !self.returned.borrow().is_empty()
    }

    /// What came back, which is now the caller's to send.
    pub(super) fn take_returned(&self) -> Vec<u8> {
        self.returned.take()
    }

    /// Says after each turn whether much more than a request is to come, which then should not go through the ring's buffers.
    #[inline]
    pub(super) fn expect_much(&self, much: bool) {
        self.plain_turns.set(if much { RING_PLAIN_TURNS } else { self.plain_turns.get().saturating_sub(1) });
    }

    /// Whether the ring knows nothing of the source.
    fn is_at_rest(&self) -> bool {
        !self.is_receiving() && !self.awaits_room.get() && !self.awaits_input.get() && !self.is_queued.get()
    }
}

impl Uring {
    /// A ring for one of so many workers.
    ///
    /// # Errors
    /// If the system has no io_uring, forbids it, or lacks something that is needed.
    pub(super) fn new(workers: usize) -> io::Result<Uring> {
        let buffers = RING_MEMORY_BYTES / RING_BUFFER_BYTES / workers.next_power_of_two();
        let setup = Setup {
            buffers: buffers.clamp(RING_BUFFERS_MIN, RING_BUFFERS_MAX) as u16,
            buffer_bytes: RING_BUFFER_BYTES,
            completions: RING_COMPLETIONS,
        };
        let uring = Uring {
            ring: RefCell::new(Ring::new(setup)?),
            setup,
            wake: Arc::new(Wake::new()?),
            queue: RefCell::default(),
            handed: RefCell::default(),
            receivers: RefCell::default(),
            held: Cell::new(0),
            aside_bytes: Cell::new(0),
            leaving: RefCell::default(),
            pressed: Cell::new(false),
            events: Cell::new(0),
            notified: Cell::new(false),
        };
        uring.want(0, Kind::Wake);
        Ok(uring)
    }

    pub(super) fn notifier(&self) -> Notifier {
        Arc::clone(&self.wake) as Notifier
    }

    /// Bytes that have been received, were not taken, and are in memory of their own.
    pub(super) fn aside_bytes(&self) -> usize {
        self.aside_bytes.get()
    }

    /// How much has happened since this was last asked; about as many tasks can run.
    pub(super) fn take_events(&self) -> usize {
        self.events.take()
    }

    fn want(&self, key: usize, kind: Kind) {
        self.queue.borrow_mut().wanted.push(Wanted { key, kind, start: 0, end: 0 });
    }

    /// From now on, memory is short, or not any more.
    pub(super) fn press(&self, pressed: bool, sources: &Sources) {
        if pressed && !self.pressed.get() {
            for (key, slot) in sources.slots.iter().enumerate() {
                if let Some(slot) = slot {
                    self.end_receive(key, &slot.readiness.flow);
                }
            }
        }
        self.pressed.set(pressed);
    }

    /// Cancels the receive of a source, if it has one. It reports its end.
    pub(super) fn end_receive(&self, key: usize, flow: &Flow) {
        if flow.receive.get() == Receive::Armed {
            flow.receive.set(Receive::Ending);
            self.want(key, Kind::EndReceive);
        }
    }

    /// Sees to it that the ring reports what arrives for a source whose task is about to wait for it.
    #[inline]
    pub(super) fn await_input(&self, key: usize, flow: &Flow) {
        let plainly = flow.plain_turns.get() > 0 || self.pressed.get();
        match flow.receive.get() {
            Receive::Idle if !plainly => {
                flow.receive.set(Receive::Armed);
                self.want(key, Kind::Receive);
            }
            Receive::Idle => {
                if !flow.awaits_input.replace(true) {
                    self.want(key, Kind::Input);
                }
            }
            Receive::Armed if plainly => self.end_receive(key, flow),
            Receive::Armed | Receive::Ending => {}
        }
    }

    /// Sees to it that the ring reports when a source, whose task is about to wait for it, can send again. Until then the client is not read from.
    pub(super) fn await_room(&self, key: usize, flow: &Flow) {
        self.end_receive(key, flow);
        if !flow.awaits_room.replace(true) {
            self.want(key, Kind::Room);
        }
    }

    /// Receives what has arrived; plainly, if the ring does not receive for the source.
    #[inline]
    pub(super) fn receive(&self, source: &Source, buffers: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
        let flow = &source.readiness.flow;
        if flow.arrived_bytes.get() > 0 {
            return Ok(self.hand_out(flow, buffers));
        }
        match flow.end.get() {
            End::Open => {}
            End::Ended => return Ok(0),
            End::Broken(error) => return Err(error.into()),
        }
        if flow.is_receiving() {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let result = plain_receive(&source.socket, buffers);
        let asked: usize = buffers.iter().map(|buffer| buffer.len()).sum();
        // Whatever comes later, the end included, is reported when it is asked for: the ring looks first, and waits then.
        let is_drained = match &result {
            Ok(len) => *len > 0 && *len < asked,
            Err(error) => is_would_block(error),
        };
        if is_drained {
            source.readiness.readable.set(false);
        }
        result
    }

    /// Copies what has arrived into the buffers, and gives back what is used up.
    fn hand_out(&self, flow: &Flow, buffers: &mut [IoSliceMut<'_>]) -> usize {
        let mut arrived = flow.arrived.borrow_mut();
        let Arrived { aside, buffers: received, taken } = &mut *arrived;
        let mut ring = self.ring.borrow_mut();
        let mut total = 0;
        for buffer in buffers {
            let mut room = &mut buffer[..];
            while !room.is_empty() {
                let (len, is_used_up) = if !aside.is_empty() {
                    let len = copy(&aside[*taken..], room);
                    self.aside_bytes.set(self.aside_bytes.get() - len);
                    (len, *taken + len == aside.len())
                } else if let Some(first) = received.front() {
                    let bytes = ring.bytes(first);
                    let len = copy(&bytes[*taken..], room);
                    (len, *taken + len == bytes.len())
                } else {
                    break;
                };
                room = &mut room[len..];
                total += len;
                *taken += len;
                if is_used_up {
                    *taken = 0;
                    if !aside.is_empty() {
                        *aside = Vec::new();
                    } else if let Some(first) = received.pop_front() {
                        ring.give_back(first);
                        self.held.set(self.held.get() - 1);
                    }
                }
            }
        }
        flow.arrived_bytes.set(flow.arrived_bytes.get() - total);
        total
    }

    /// Puts the answer into the queue, and counts it as sent; sends it at once if it is long.
    ///
    /// `WouldBlock` may also mean that something came back, which must be sent first ([`Flow::take_returned`]).
    #[inline]
    pub(super) fn post(&self, source: &Source, answer: &[u8]) -> io::Result<usize> {
        if answer.len() > RING_SEND_BYTES_MAX {
            return self.send(source, &[IoSlice::new(answer)]);
        }
        let flow = &source.readiness.flow;
        if !self.enqueue(source.key, flow, answer) {
            source.reactor.turn(self, Some(Duration::ZERO))?;
            if flow.has_returned() {
                return Err(io::ErrorKind::WouldBlock.into());
            }
            self.enqueue(source.key, flow, answer);
        }
        Ok(answer.len())
    }

    /// Sends at once, after what is in the queue. As [`post`](Self::post), it may find that something came back.
    pub(super) fn send(&self, source: &Source, buffers: &[IoSlice<'_>]) -> io::Result<usize> {
        if self.flush(source)? {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        source.send_plainly(buffers)
    }

    /// Puts an answer into the queue, behind what the source has there; false if others have come between, or if the queue is full.
    #[inline]
    fn enqueue(&self, key: usize, flow: &Flow, answer: &[u8]) -> bool {
        let mut queue = self.queue.borrow_mut();
        let Queue { wanted, bytes } = &mut *queue;
        let start = bytes.len();
        if start > 0 && start + answer.len() > RING_SENDS_BYTES {
            return false;
        }
        if !flow.is_queued.get() {
            flow.is_queued.set(true);
            wanted.push(Wanted { key, kind: Kind::Send, start, end: start + answer.len() });
        } else {
            match wanted.last_mut() {
                Some(last) if last.key == key && last.kind == Kind::Send => last.end += answer.len(),
                _ => return false,
            }
        }
        bytes.extend_from_slice(answer);
        true
    }

    /// Sends what the source has in the queue. Says whether something came back.
    pub(super) fn flush(&self, source: &Source) -> io::Result<bool> {
        let flow = &source.readiness.flow;
        if flow.is_queued.get() {
            source.reactor.turn(self, Some(Duration::ZERO))?;
        }
        Ok(flow.has_returned())
    }

    /// The worker's wait: a turn, before which nothing is left in buffers. It does not wait if somebody has notified since the last one.
    pub(super) fn wait(&self, timeout: Option<Duration>, sources: &Sources) -> io::Result<()> {
        self.put_aside(sources);
        // A send reports nothing if all goes well, and the socket of who left it behind is to be closed after it.
        let is_left =
            |key: &usize| sources.slots[*key].as_ref().is_some_and(|slot| slot.readiness.flow.is_queued.get());
        let is_urgent = self.notified.get() || self.leaving.borrow().iter().any(is_left);
        let result = self.turn(if is_urgent { Some(Duration::ZERO) } else { timeout }, sources);
        self.notified.set(false);
        result
    }

    /// Before a wait: copies what tasks have not taken out of the ring's buffers, and gives these back. A source whose task does not come to it
    /// receives no more for the time being.
    fn put_aside(&self, sources: &Sources) {
        let mut receivers = self.receivers.borrow_mut();
        if self.held.get() == 0 {
            receivers.clear();
            return;
        }
        let mut ring = self.ring.borrow_mut();
        for key in receivers.drain(..) {
            let Some(Some(slot)) = sources.slots.get(key) else { continue };
            let flow = &slot.readiness.flow;
            let mut arrived = flow.arrived.borrow_mut();
            let Arrived { aside, buffers, taken } = &mut *arrived;
            if buffers.is_empty() {
                continue;
            }
            self.held.set(self.held.get() - buffers.len());
            if !aside.is_empty() {
                aside.drain(..std::mem::take(taken));
            }
            aside.reserve_exact(flow.arrived_bytes.get() - aside.len());
            for received in buffers.drain(..) {
                let bytes = &ring.bytes(&received)[std::mem::take(taken)..];
                self.aside_bytes.set(self.aside_bytes.get() + bytes.len());
                aside.extend_from_slice(bytes);
                ring.give_back(received);
            }
            if aside.len() >= RING_PUT_ASIDE_BYTES || slot.readiness.waits_for.get() == Interest::Writable {
                self.end_receive(key, flow);
            }
        }
    }

    /// How often something has been received since the last wait.
    pub(super) fn arrivals(&self) -> usize {
        self.receivers.borrow().len()
    }

    /// Shows the first bytes that each source has got since the last wait, as far as no task has taken any.
    pub(super) fn each_arrival(&self, sources: &Sources, mut each: impl FnMut(&[u8])) {
        let ring = self.ring.borrow();
        for key in self.receivers.borrow().iter() {
            let Some(Some(slot)) = sources.slots.get(*key) else { continue };
            let arrived = slot.readiness.flow.arrived.borrow();
            if arrived.aside.is_empty()
                && arrived.taken == 0
                && let Some(first) = arrived.buffers.front()
            {
                each(ring.bytes(first));
            }
        }
    }

    /// Hands over what the queue holds, waits, and takes note of what has happened.
    ///
    /// # Errors
    /// If the system fails. Then all connections are broken, and there is a new ring.
    pub(super) fn turn(&self, timeout: Option<Duration>, sources: &Sources) -> io::Result<()> {
        let mut ring = self.ring.borrow_mut();
        let mut handed = self.handed.borrow_mut();
        let bytes = {
            let mut queue = self.queue.borrow_mut();
            std::mem::swap(&mut queue.wanted, &mut handed);
            std::mem::take(&mut queue.bytes)
        };
        let ops =
            handed.iter().filter_map(|wanted| Some((id(wanted.key, wanted.kind), self.op(wanted, &bytes, sources)?)));
        let mut result = ring.turn(ops, timeout);
        while result.is_ok() {
            while ring.advance() {
                self.note(&mut ring, &handed, &bytes, sources);
            }
            if !ring.is_overflown() {
                break;
            }
            result = ring.turn(std::iter::empty(), Some(Duration::ZERO));
        }
        for wanted in handed.drain(..).filter(|wanted| wanted.kind == Kind::Send) {
            if let Some(slot) = &sources.slots[wanted.key] {
                slot.readiness.flow.is_queued.set(false);
            }
        }
        let mut bytes = bytes;
        bytes.clear();
        self.queue.borrow_mut().bytes = bytes;
        if result.is_err() {
            self.start_again(&mut ring, sources)?;
        }
        result
    }

    fn op<'a>(&'a self, wanted: &Wanted, bytes: &'a [u8], sources: &'a Sources) -> Option<Op<'a>> {
        if wanted.kind == Kind::Wake {
            return Some(Op::Watch(self.wake.as_fd()));
        }
        let slot = sources.slots[wanted.key].as_ref()?;
        let (socket, flow) = (slot.socket.as_fd(), &slot.readiness.flow);
        // What has ended meanwhile need not be cancelled.
        let cancel = |is_there: bool, kind| is_there.then(|| Op::Cancel(id(wanted.key, kind)));
        match wanted.kind {
            Kind::Receive => Some(Op::Receive(socket)),
            Kind::Send => Some(Op::Send(socket, &bytes[wanted.start..wanted.end])),
            Kind::Room => Some(Op::AwaitRoom(socket)),
            Kind::Input => Some(Op::AwaitInput(socket)),
            Kind::EndReceive => cancel(flow.is_receiving(), Kind::Receive),
            Kind::EndRoom => cancel(flow.awaits_room.get(), Kind::Room),
            Kind::EndInput => cancel(flow.awaits_input.get(), Kind::Input),
            Kind::Wake => None,
        }
    }

    /// Takes note of the completion at which the ring has arrived.
    #[inline]
    fn note(&self, ring: &mut Ring, handed: &[Wanted], bytes: &[u8], sources: &Sources) {
        let Some(completion) = ring.current() else { return };
        self.events.set(self.events.get() + 1);
        let (key, kind) = parts(completion.id);
        let (result, goes_on) = (completion.result, completion.goes_on);
        if kind == Kind::Wake {
            self.notified.set(true);
            if !goes_on {
                self.want(0, Kind::Wake);
            }
            return;
        }
        let Some(Some(slot)) = sources.slots.get(key) else { return };
        let readiness = &*slot.readiness;
        let flow = &readiness.flow;
        match kind {
            Kind::Receive => {
                if !goes_on {
                    flow.receive.set(Receive::Idle);
                    // For all that is known: it has been cancelled, or there was no buffer.
                    readiness.readable.set(true);
                }
                match result {
                    Ok(0) => flow.end.set(End::Ended),
                    Ok(len) => {
                        // Nobody wants what comes for a source that has been dropped.
                        if !slot.is_leaving.get()
                            && let Some(received) = ring.take()
                        {
                            flow.arrived.borrow_mut().buffers.push_back(received);
                            flow.arrived_bytes.set(flow.arrived_bytes.get() + len);
                            self.held.set(self.held.get() + 1);
                            self.receivers.borrow_mut().push(key);
                            // More than one turn of the task can take. The ring is told before it looks again.
                            if flow.arrived_bytes.get() > READ_BUFFER_BYTES {
                                self.end_receive(key, flow);
                            }
                        }
                    }
                    Err(Errno::CANCELED | Errno::NOBUFS | Errno::AGAIN | Errno::INTR) => {}
                    Err(error) => flow.end.set(End::Broken(error)),
                }
                readiness.wake_if(Interest::Readable);
            }
            Kind::Send => {
                // Once an answer has failed there is no other in the same turn, so the first one that is found is the right one.
                let Some(wanted) = handed.iter().find(|wanted| wanted.kind == Kind::Send && wanted.key == key) else {
                    return;
                };
                // Whatever is wrong with the socket, who sends the rest will be told.
                let taken = result.unwrap_or(0);
                if !slot.is_leaving.get() {
                    flow.returned.borrow_mut().extend_from_slice(&bytes[wanted.start + taken..wanted.end]);
                }
                readiness.wake();
            }
            Kind::Room => {
                flow.awaits_room.set(false);
                readiness.writable.set(true);
                readiness.wake_if(Interest::Writable);
            }
            Kind::Input => {
                flow.awaits_input.set(false);
                readiness.readable.set(true);
                readiness.wake_if(Interest::Readable);
            }
            // It was not met.
            Kind::EndReceive if flow.is_receiving() => self.want(key, Kind::EndReceive),
            Kind::EndRoom if flow.awaits_room.get() => self.want(key, Kind::EndRoom),
            Kind::EndInput if flow.awaits_input.get() => self.want(key, Kind::EndInput),
            Kind::EndReceive | Kind::EndRoom | Kind::EndInput | Kind::Wake => {}
        }
    }

    /// Ends what the ring has of a source that is being dropped. Says whether the source can be forgotten at once.
    pub(super) fn let_go(&self, key: usize, flow: &Flow) -> bool {
        let mut arrived = flow.arrived.take();
        if !arrived.buffers.is_empty() {
            self.held.set(self.held.get() - arrived.buffers.len());
            let mut ring = self.ring.borrow_mut();
            arrived.buffers.drain(..).for_each(|received| ring.give_back(received));
        }
        if !arrived.aside.is_empty() {
            self.aside_bytes.set(self.aside_bytes.get() - (arrived.aside.len() - arrived.taken));
        }
        flow.arrived_bytes.set(0);
        if flow.is_at_rest() {
            return true;
        }
        self.end_receive(key, flow);
        if flow.awaits_room.get() {
            self.want(key, Kind::EndRoom);
        }
        if flow.awaits_input.get() {
            self.want(key, Kind::EndInput);
        }
        self.leaving.borrow_mut().push(key);
        false
    }

    /// Forgets sources that have been dropped, as soon as nothing of theirs is in the ring.
    pub(super) fn forget(&self, sources: &RefCell<Sources>) {
        let mut leaving = self.leaving.borrow_mut();
        if leaving.is_empty() {
            return;
        }
        let mut sources = sources.borrow_mut();
        leaving.retain(|&key| {
            let at_rest = sources.slots[key].as_ref().is_none_or(|slot| slot.readiness.flow.is_at_rest());
            if at_rest {
                sources.free(key);
            }
            !at_rest
        });
    }

    /// Gives up a ring that has failed, and with it all connections, for a new one.
    fn start_again(&self, ring: &mut Ring, sources: &Sources) -> io::Result<()> {
        for slot in sources.slots.iter().flatten() {
            let flow = &slot.readiness.flow;
            flow.receive.set(Receive::Idle);
            flow.awaits_room.set(false);
            flow.awaits_input.set(false);
            flow.is_queued.set(false);
            flow.arrived.take();
            flow.arrived_bytes.set(0);
            flow.end.set(End::Broken(Errno::IO));
            // Who wants to send more is to find out as well.
            let _ = rustix::net::shutdown(&slot.socket, rustix::net::Shutdown::Both);
            slot.readiness.readable.set(true);
            slot.readiness.writable.set(true);
            slot.readiness.wake();
        }
        self.held.set(0);
        self.aside_bytes.set(0);
        self.receivers.borrow_mut().clear();
        self.queue.borrow_mut().wanted.clear();
        *ring = Ring::new(self.setup)?;
        self.want(0, Kind::Wake);
        Ok(())
    }
}

/// Copies as much as there is room for; says how much.
fn copy(from: &[u8], to: &mut [u8]) -> usize {
    let len = from.len().min(to.len());
    to[..len].copy_from_slice(&from[..len]);
    len
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::os::fd::OwnedFd;
    use std::panic::{AssertUnwindSafe, catch_unwind};
    use std::rc::Rc;

    use rustix::net::{AddressFamily, SendFlags, SocketFlags, SocketType, socketpair};
    use smol::future::poll_once;

    use super::super::{Reactor, System};
    use super::*;
    use crate::config::ReactorKind;

    fn pair() -> (OwnedFd, OwnedFd) {
        socketpair(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::NONBLOCK, None).unwrap()
    }

    /// Nothing where the system has no io_uring.
    fn reactor() -> Option<Rc<Reactor>> {
        match Reactor::new(ReactorKind::IoUring, 1) {
            Ok(reactor) => Some(Rc::new(reactor)),
            Err(error) => {
                // The macros' output is shown for failing tests only; this is not.
                let _ = writeln!(io::stderr(), "NOT TESTED: the io_uring reactor, because {error}");
                None
            }
        }
    }

    /// Waits until something can be received, and receives.
    fn receive(reactor: &Reactor, source: &Source) -> io::Result<Vec<u8>> {
        for _ in 0..100 {
            if smol::block_on(poll_once(source.readable())).is_some() && source.may_receive() {
                let mut bytes = vec![0; 100];
                let len = source.receive(&mut [IoSliceMut::new(&mut bytes)])?;
                bytes.truncate(len);
                return Ok(bytes);
            }
            reactor.wait(Some(Duration::from_secs(10)))?;
        }
        panic!("nothing arrives");
    }

    #[test]
    fn ids_carry_key_and_kind() {
        for kind in KINDS {
            for key in [0, 1, 1_000_000, u32::MAX as usize] {
                assert_eq!(parts(id(key, kind)), (key, kind));
            }
        }
    }

    #[test]
    fn what_is_posted_goes_with_the_next_wait_or_comes_back() {
        let Some(reactor) = reactor() else { return };
        let (ours, theirs) = pair();
        let source = reactor.register(ours).unwrap();
        let answer = [b'x'; 1000];
        let mut bytes = vec![0; 1 << 20];
        let read = |bytes: &mut [u8]| {
            let mut total = 0;
            while let Ok((len, _)) = rustix::net::recv(&theirs, &mut bytes[total..], rustix::net::RecvFlags::empty()) {
                total += len;
            }
            total
        };
        assert_eq!(source.post(&answer).unwrap(), 1000);
        assert_eq!(source.post(&answer).unwrap(), 1000);
        assert_eq!(read(&mut bytes), 0);
        reactor.wait(Some(Duration::ZERO)).unwrap();
        assert_eq!(read(&mut bytes), 2000);
        assert_eq!(source.take_returned(), None);
        // Until the socket is full.
        let mut posted = 0;
        let returned = loop {
            posted += source.post(&answer).unwrap();
            reactor.wait(Some(Duration::ZERO)).unwrap();
            if let Some(returned) = source.take_returned() {
                break returned;
            }
        };
        assert_eq!(read(&mut bytes) + returned.len(), posted);
        // There is room again, which the ring says when asked.
        assert!(smol::block_on(poll_once(source.writable())).is_none());
        reactor.wait(None).unwrap();
        assert!(smol::block_on(poll_once(source.writable())).is_some());
    }

    #[test]
    fn a_receive_that_brings_more_than_a_task_takes_is_ended_at_once() {
        let Some(reactor) = reactor() else { return };
        let (ours, theirs) = pair();
        let source = reactor.register(ours).unwrap();
        let sent = vec![b'x'; 2 * READ_BUFFER_BYTES];
        assert_eq!(rustix::net::send(&theirs, &sent, SendFlags::NOSIGNAL).unwrap(), sent.len());
        assert!(smol::block_on(poll_once(source.readable())).is_none());
        reactor.wait(Some(Duration::from_secs(10))).unwrap();
        let flow = &source.readiness.flow;
        assert!(flow.arrived_bytes.get() > READ_BUFFER_BYTES);
        assert_ne!(flow.receive.get(), Receive::Armed);
        let mut total = 0;
        while total < sent.len() {
            total += receive(&reactor, &source).unwrap().len();
        }
    }

    #[test]
    fn a_source_that_is_dropped_lets_its_socket_go() {
        let Some(reactor) = reactor() else { return };
        let (ours, theirs) = pair();
        let source = reactor.register(ours).unwrap();
        assert!(smol::block_on(poll_once(source.readable())).is_none());
        reactor.wait(Some(Duration::ZERO)).unwrap();
        let key = source.key();
        drop(source);
        assert!(reactor.sources.borrow().slots[key].is_some(), "the ring has a receive");
        for _ in 0..100 {
            reactor.wait(Some(Duration::from_millis(10))).unwrap();
            if reactor.sources.borrow().slots[key].is_none() {
                // Its peer sees the end.
                assert_eq!(rustix::net::recv(&theirs, &mut [0; 1][..], rustix::net::RecvFlags::empty()).unwrap().0, 0);
                assert_eq!(reactor.register(pair().0).unwrap().key(), key);
                return;
            }
        }
        panic!("it stays");
    }

    #[test]
    fn a_ring_that_fails_takes_its_connections_along_and_gives_way_to_a_new_one() {
        let Some(reactor) = reactor() else { return };
        let System::Completion(uring) = &reactor.system else { unreachable!("it was asked for") };
        let (ours, theirs) = pair();
        let source = reactor.register(ours).unwrap();
        rustix::net::send(&theirs, b"before", SendFlags::NOSIGNAL).unwrap();
        assert_eq!(receive(&reactor, &source).unwrap(), b"before");
        let broken = catch_unwind(AssertUnwindSafe(|| {
            let ops = std::iter::from_fn(|| -> Option<(u64, Op<'_>)> { panic!("in the middle of a turn") });
            uring.ring.borrow_mut().turn(ops, None)
        }));
        assert!(broken.is_err());
        assert!(reactor.wait(Some(Duration::ZERO)).is_err());
        assert!(receive(&reactor, &source).is_err());
        drop(source);
        let (ours, theirs) = pair();
        let source = reactor.register(ours).unwrap();
        rustix::net::send(&theirs, b"after", SendFlags::NOSIGNAL).unwrap();
        assert_eq!(receive(&reactor, &source).unwrap(), b"after");
        // The new one is notified as the old one was.
        reactor.notifier().notify();
        reactor.wait(None).unwrap();
    }
}
