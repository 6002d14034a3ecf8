//! One connection: its socket, the requests in flight on it, and the answers as they come in.
//!
//! Requests stay in `outgoing` until all of them are answered, because the names in them are what the answers' keys are
//! compared with. Answers are read into a buffer that all connections of a worker share; only the unfinished rest of an
//! answer is kept in the connection's own memory.

use crate::client::{self, Parsed, Reply};
use crate::judge::{Author, Ticket};
use crate::record::{Class, Fault, Record};
use crate::value;
use crate::workload::{Draft, Items, Key, Source};
use rustix::buffer::spare_capacity;
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, recv, send};
use std::collections::VecDeque;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Instant;

/// Room that is made at least for the rest of an unfinished answer.
const CARRY_BYTES_MIN: usize = 16 << 10;

/// Requests are added behind others in flight only below this; then all of them are waited for and the memory is reused.
const OUTGOING_BYTES_MAX: usize = 256 << 10;

/// What a worker lends to its connections: how to write requests, how to judge answers, where to count.
#[derive(Debug)]
pub(crate) struct Desk<'a, S> {
    pub(crate) items: &'a Items,
    pub(crate) author: &'a mut Author,
    /// See [`Author::judge`].
    pub(crate) strict: bool,
    /// Whether requests have due times of their own.
    pub(crate) open_loop: bool,
    pub(crate) source: &'a mut S,
    pub(crate) record: &'a mut Record,
}

#[derive(Debug)]
pub(crate) struct Connection {
    socket: OwnedFd,
    outgoing: Vec<u8>,
    /// How much of `outgoing` the system has taken.
    sent: usize,
    pending: VecDeque<Pending>,
    /// Keys of the pending gets that have not been answered yet.
    asked: VecDeque<Asked>,
    /// The beginning of an answer whose rest has not arrived.
    carry: Vec<u8>,
    /// Bytes that the answer in `carry` has at least.
    carry_needs: usize,
}

/// A request that waits for its answer, or for the rest of it.
#[derive(Debug)]
struct Pending {
    class: Class,
    /// Keys of it that are still in `asked`.
    keys_left: u32,
    /// What it writes.
    ticket: Option<Ticket>,
    /// When its latency began: the due time in an open loop, else when it was sent.
    due: Instant,
    /// When it was sent.
    sent: Instant,
}

/// A key in flight, and where its name stands in `outgoing`.
#[derive(Clone, Copy, Debug)]
struct Asked {
    key: Key,
    /// See [`Author::floor`].
    floor: u32,
    name_start: u32,
    name_bytes: u8,
}

impl Connection {
    pub(crate) fn new(socket: OwnedFd) -> Self {
        Self {
            socket,
            outgoing: Vec::new(),
            sent: 0,
            pending: VecDeque::new(),
            asked: VecDeque::new(),
            carry: Vec::new(),
            carry_needs: 0,
        }
    }

    pub(crate) fn socket(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    /// Requests that are not answered.
    pub(crate) fn in_flight(&self) -> usize {
        self.pending.len()
    }

    /// Whether another request may be added when `depth` may be in flight.
    pub(crate) fn has_room(&self, depth: usize) -> bool {
        let in_flight = self.in_flight();
        in_flight < depth && (in_flight == 0 || self.outgoing.len() < OUTGOING_BYTES_MAX)
    }

    /// Adds a request to what the next [`Connection::flush`] sends. Its latency runs from `due`.
    #[inline]
    pub(crate) fn push<S>(&mut self, draft: &Draft, due: Instant, sent: Instant, desk: &mut Desk<'_, S>) {
        if self.pending.is_empty() {
            self.outgoing.clear();
            self.sent = 0;
        }
        let mut keys_left = 0;
        let mut ticket = None;
        match draft.class {
            Class::Get => {
                self.outgoing.extend_from_slice(b"get");
                for &key in &draft.keys {
                    self.outgoing.push(b' ');
                    let name_start = self.outgoing.len();
                    desk.items.names.write(key, &mut self.outgoing);
                    let name_bytes = (self.outgoing.len() - name_start) as u8;
                    self.asked.push_back(Asked {
                        key,
                        floor: desk.author.floor(key),
                        name_start: name_start as u32,
                        name_bytes,
                    });
                }
                keys_left = draft.keys.len() as u32;
                self.outgoing.extend_from_slice(client::LINE_END);
            }
            Class::Set => {
                for &key in &draft.keys {
                    let value_bytes = desk.items.value_bytes.of(key);
                    client::begin_set(&mut self.outgoing, |out| desk.items.names.write(key, out), value_bytes);
                    let handed_out = desk.author.hand_out(key);
                    value::write(&mut self.outgoing, key, handed_out.stamp, value_bytes);
                    ticket = Some(handed_out);
                    self.outgoing.extend_from_slice(client::LINE_END);
                }
            }
        }
        self.pending.push_back(Pending { class: draft.class, keys_left, ticket, due, sent });
    }

    /// Lets the latency of everything in flight begin now.
    #[inline]
    pub(crate) fn restart_clock(&mut self) {
        let now = Instant::now();
        self.pending.iter_mut().for_each(|pending| (pending.due, pending.sent) = (now, now));
    }

    /// Sends as much as the system takes.
    ///
    /// # Errors
    /// When the connection is gone.
    #[inline]
    pub(crate) fn flush(&mut self, record: &mut Record) -> Result<(), Fault> {
        while self.sent < self.outgoing.len() {
            match send(&self.socket, &self.outgoing[self.sent..], SendFlags::NOSIGNAL) {
                Ok(bytes) => {
                    self.sent += bytes;
                    record.bytes_sent += bytes as u64;
                }
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => break,
                Err(_) => return Err(Fault::ConnectionLost),
            }
        }
        Ok(())
    }

    /// Reads what has arrived and settles the requests it answers. `buffer` is scratch space.
    ///
    /// # Errors
    /// When the connection ended, or what arrived makes no sense. The connection is of no further use then.
    #[inline]
    pub(crate) fn receive<S: Source>(
        &mut self,
        buffer: &mut [u8],
        hung_up: bool,
        desk: &mut Desk<'_, S>,
    ) -> Result<(), Fault> {
        loop {
            let (offered, received) = if self.carry.is_empty() {
                (buffer.len(), recv(&self.socket, &mut *buffer, RecvFlags::empty()).map(|(bytes, _)| bytes))
            } else {
                self.carry.reserve(CARRY_BYTES_MIN.max(self.carry_needs.saturating_sub(self.carry.len())));
                let offered = self.carry.capacity() - self.carry.len();
                let received = recv(&self.socket, spare_capacity(&mut self.carry), RecvFlags::empty());
                (offered, received.map(|(bytes, _)| bytes))
            };
            let bytes = match received {
                Ok(0) => return Err(Fault::ConnectionLost),
                Ok(bytes) => bytes,
                Err(Errno::INTR) => continue,
                Err(Errno::AGAIN) => return Ok(()),
                Err(_) => return Err(Fault::ConnectionLost),
            };
            desk.record.bytes_received += bytes as u64;
            if self.carry.is_empty() {
                let used = self.digest(&buffer[..bytes], desk)?;
                self.carry.extend_from_slice(&buffer[used..bytes]);
            } else if self.carry.len() >= self.carry_needs {
                let mut carry = std::mem::take(&mut self.carry);
                let used = self.digest(&carry, desk)?;
                carry.drain(..used);
                self.carry = carry;
            }
            // A short read took all there was: the next byte makes a new event.
            if bytes < offered && !hung_up {
                return Ok(());
            }
        }
    }

    /// Settles requests with the answers in `bytes`; says how many bytes were whole answers.
    #[inline]
    fn digest<S: Source>(&mut self, bytes: &[u8], desk: &mut Desk<'_, S>) -> Result<usize, Fault> {
        let now = Instant::now();
        let mut used = 0;
        while used < bytes.len() {
            if self.pending.is_empty() {
                // Nobody asked for this.
                return Err(Fault::Malformed);
            }
            match client::parse(&bytes[used..]) {
                Parsed::Complete(reply, reply_bytes) => {
                    self.settle(reply, now, desk)?;
                    used += reply_bytes;
                }
                Parsed::Partial(needed) => {
                    self.carry_needs = needed;
                    break;
                }
                Parsed::Malformed => return Err(Fault::Malformed),
            }
        }
        Ok(used)
    }

    /// Takes one reply as the answer, or a part of it, to the oldest request.
    #[inline]
    fn settle<S: Source>(&mut self, reply: Reply<'_>, now: Instant, desk: &mut Desk<'_, S>) -> Result<(), Fault> {
        let Some(request) = self.pending.front_mut() else {
            return Err(Fault::Malformed);
        };
        match (request.class, reply) {
            (Class::Get, Reply::Value { key: name, data, .. }) => {
                // Hits come in the order of the keys; those skipped are misses.
                while request.keys_left > 0 {
                    request.keys_left -= 1;
                    let Some(asked) = self.asked.pop_front() else {
                        break;
                    };
                    let start = asked.name_start as usize;
                    if self.outgoing[start..start + usize::from(asked.name_bytes)] == *name {
                        desk.author.judge(asked.key, asked.floor, data, desk.strict, desk.record);
                        return Ok(());
                    }
                    desk.miss(asked.key);
                }
                return Err(Fault::WrongKey);
            }
            (Class::Get, Reply::End) => {
                for _ in 0..request.keys_left {
                    let Some(asked) = self.asked.pop_front() else {
                        break;
                    };
                    desk.miss(asked.key);
                }
            }
            (Class::Set, Reply::Stored) => desk.record.sets += 1,
            (Class::Set, Reply::NotStored | Reply::Exists | Reply::NotFound) => desk.record.fault(Fault::NotStored, 1),
            (_, refusal) => {
                let fault = match refusal {
                    Reply::ServerError(_) => Fault::ServerError,
                    Reply::ClientError(_) => Fault::ClientError,
                    Reply::Error => Fault::UnknownCommand,
                    _ => return Err(Fault::Malformed),
                };
                desk.record.fault(fault, 1);
                self.asked.drain(..request.keys_left as usize);
            }
        }
        if let Some(ticket) = request.ticket {
            desk.author.answered(ticket, reply == Reply::Stored);
        }
        desk.record.answered(request.class, now.saturating_duration_since(request.due));
        if desk.open_loop {
            desk.record.uncorrected(now.saturating_duration_since(request.sent));
        }
        self.pending.pop_front();
        Ok(())
    }
}

impl<S: Source> Desk<'_, S> {
    fn miss(&mut self, key: Key) {
        self.record.misses += 1;
        self.source.missed(key);
    }
}
