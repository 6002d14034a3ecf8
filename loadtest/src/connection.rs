//! One connection: its socket, the requests in flight on it, and the answers as they come in.
//!
//! Requests stay in `outgoing` until all of them are answered, because the names in them are what the answers' keys are
//! compared with. In the quiet meta dialect every request has a number that its answer repeats, and silence is an answer, too: those
//! before a number that is answered have got it, and when the no-op is answered that closes what was sent together, all have.
//! Answers are read into a buffer that all connections of a worker share; only the unfinished rest of an
//! answer is kept in the connection's own memory.

use crate::client::{self, Parsed, Reply};
use crate::judge::{Author, Effect, Ticket};
use crate::record::{Class, Fault, Record};
use crate::space::{self, Space};
use crate::value;
use crate::workload::{Basis, Dialect, Draft, Items, Key, Source};
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
    /// Requests that may still be sent before the connection is to be replaced.
    requests_left: u64,
    /// Number of the next request.
    next_number: u32,
    /// Quiet requests follow the last no-op.
    is_open: bool,
    /// A quiet request was refused without its number: which of those that say nothing is not known.
    in_doubt: bool,
}

/// A request that waits for its answer, or for the rest of it.
#[derive(Debug)]
struct Pending {
    class: Class,
    /// Keys of it that are still in `asked`.
    keys_left: u32,
    /// A hit is the whole answer; else an end follows.
    ends_with_hit: bool,
    purpose: Purpose,
    /// When its latency began: the due time in an open loop, else when it was sent.
    due: Instant,
    /// When it was sent.
    sent: Instant,
    /// What the answer repeats in the quiet dialect.
    number: u32,
    /// A no-op follows, whose answer ends it.
    is_closed: bool,
    /// Its own answer has come.
    is_settled: bool,
}

/// What a request is to achieve, for its answer to be judged.
#[derive(Clone, Copy, Debug)]
enum Purpose {
    /// To read, or to touch: nothing is written.
    Read,
    /// To write a value, or none.
    Write(Ticket),
    /// To replace what the basis says, at this floor.
    Replace(Ticket, Basis, u64),
    /// To count up the counter, at this floor.
    Count(Key, u64),
    /// To make the counter.
    Begin(Key),
}

/// A key in flight, and where its name stands in `outgoing`.
#[derive(Clone, Copy, Debug)]
struct Asked {
    key: Key,
    /// See [`Author::floor`].
    floor: u64,
    name_start: u32,
    name_bytes: u8,
}

impl Connection {
    /// A fresh connection that is to be replaced after so many requests.
    pub(crate) fn new(socket: OwnedFd, requests: u64) -> Self {
        Self {
            socket,
            outgoing: Vec::new(),
            sent: 0,
            pending: VecDeque::new(),
            asked: VecDeque::new(),
            carry: Vec::new(),
            carry_needs: 0,
            requests_left: requests,
            next_number: 0,
            is_open: false,
            in_doubt: false,
        }
    }

    pub(crate) fn socket(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    /// Requests that are not answered.
    pub(crate) fn in_flight(&self) -> usize {
        self.pending.len()
    }

    /// Lets it be replaced after so many more requests.
    pub(crate) fn limit(&mut self, requests: u64) {
        self.requests_left = requests;
    }

    /// Whether it has served its time: nothing may be added.
    pub(crate) fn is_retired(&self) -> bool {
        self.requests_left == 0
    }

    /// Whether it has served its time and nothing is in flight any more.
    pub(crate) fn is_spent(&self) -> bool {
        self.requests_left == 0 && self.pending.is_empty()
    }

    /// Whether another request may be added when `depth` may be in flight.
    pub(crate) fn has_room(&self, depth: usize) -> bool {
        let in_flight = self.in_flight();
        in_flight < depth && self.requests_left > 0 && (in_flight == 0 || self.outgoing.len() < OUTGOING_BYTES_MAX)
    }

    /// Adds a request to what the next [`Connection::flush`] sends. Its latency runs from `due`.
    #[inline]
    pub(crate) fn push<S>(&mut self, draft: &Draft, due: Instant, sent: Instant, desk: &mut Desk<'_, S>) {
        if self.pending.is_empty() {
            // What is not sent yet stays: a server may answer before it has read a whole request (a value that is too large), and still reads it.
            self.outgoing.drain(..self.sent);
            self.sent = 0;
        }
        self.requests_left = self.requests_left.saturating_sub(1);
        let mut keys_left = 0;
        let number = self.next_number;
        self.next_number = number.wrapping_add(1);
        let quiet = (desk.items.dialect == Dialect::MetaQuiet).then_some(number);
        self.is_open |= quiet.is_some();
        let ends_with_hit = desk.items.dialect.is_meta() && draft.keys.len() == 1;
        let mut purpose = Purpose::Read;
        match draft.class {
            Class::Get | Class::Gets => {
                keys_left = draft.keys.len() as u32;
                if desk.items.dialect.is_meta() {
                    self.push_meta_get(draft, quiet, desk);
                } else {
                    self.outgoing.extend_from_slice(draft.class.name().as_bytes());
                    for &key in &draft.keys {
                        self.outgoing.push(b' ');
                        self.push_asked(key, desk);
                    }
                    self.outgoing.extend_from_slice(client::LINE_END);
                }
            }
            Class::Set | Class::Add | Class::Cas | Class::Append | Class::Prepend => {
                for &key in &draft.keys {
                    purpose = self.push_store(key, draft, quiet, desk);
                }
            }
            Class::Delete => {
                for &key in &draft.keys {
                    purpose = Purpose::Write(desk.author.hand_out(key));
                    self.push_line(if desk.items.dialect.is_meta() { b"md " } else { b"delete " }, key, b"", desk);
                    self.add_quiet(quiet);
                }
            }
            Class::Incr => {
                for &key in &draft.keys {
                    purpose = Purpose::Count(key, desk.author.floor(key));
                    desk.author.counters().count_up(key);
                    if let Some(number) = quiet {
                        // Not quiet: success would not say the new value.
                        self.push_line(b"ma ", key, b" D1 v O", desk);
                        self.continue_line(|out| client::write_number(out, u64::from(number)));
                    } else if desk.items.dialect.is_meta() {
                        self.push_line(b"ma ", key, b" D1 v", desk);
                    } else {
                        self.push_line(b"incr ", key, b" 1", desk);
                    }
                }
            }
            Class::Touch => {
                for &key in &draft.keys {
                    desk.author.touching(key);
                    if desk.items.dialect.is_meta() {
                        self.push_line(b"mg ", key, b" T", desk);
                    } else {
                        self.push_line(b"touch ", key, b" ", desk);
                    }
                    self.continue_line(|out| client::write_number(out, u64::from(draft.ttl_s)));
                    self.add_quiet(quiet);
                }
            }
        }
        let (is_closed, is_settled) = (false, false);
        let class = draft.class;
        self.pending.push_back(Pending {
            class,
            keys_left,
            ends_with_hit,
            purpose,
            due,
            sent,
            number,
            is_closed,
            is_settled,
        });
    }

    /// Adds a key to a get.
    #[inline]
    fn push_asked<S>(&mut self, key: Key, desk: &Desk<'_, S>) {
        let name_start = self.outgoing.len();
        desk.items.write_name(key, &mut self.outgoing);
        let name_bytes = (self.outgoing.len() - name_start) as u8;
        let floor = desk.author.floor(key);
        self.asked.push_back(Asked { key, floor, name_start: name_start as u32, name_bytes });
    }

    /// Adds a get of the meta dialect: of several keys as quiet requests, which say nothing of misses, up to a no-op.
    fn push_meta_get<S>(&mut self, draft: &Draft, quiet: Option<u32>, desk: &Desk<'_, S>) {
        let flags: &[u8] = match (draft.class, draft.keys.len()) {
            (Class::Gets, _) if quiet.is_some() => b" k v c",
            _ if quiet.is_some() => b" k v",
            (Class::Gets, 1) => b" k v c",
            (Class::Gets, _) => b" k v c q",
            (_, 1) => b" k v",
            _ => b" k v q",
        };
        for &key in &draft.keys {
            self.outgoing.extend_from_slice(b"mg ");
            self.push_asked(key, desk);
            self.outgoing.extend_from_slice(flags);
            if let Some(number) = quiet {
                client::write_quiet(&mut self.outgoing, number);
            }
            self.outgoing.extend_from_slice(client::LINE_END);
        }
        if draft.keys.len() > 1 && quiet.is_none() {
            self.outgoing.extend_from_slice(b"mn\r\n");
        }
    }

    /// Adds a request of one line.
    fn push_line<S>(&mut self, word: &[u8], key: Key, rest: &[u8], desk: &Desk<'_, S>) {
        self.outgoing.extend_from_slice(word);
        desk.items.write_name(key, &mut self.outgoing);
        self.outgoing.extend_from_slice(rest);
        self.outgoing.extend_from_slice(client::LINE_END);
    }

    /// Writes on behind the last line.
    fn continue_line(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        self.outgoing.truncate(self.outgoing.len() - client::LINE_END.len());
        write(&mut self.outgoing);
        self.outgoing.extend_from_slice(client::LINE_END);
    }

    /// Makes the last line a quiet request if it has a number.
    fn add_quiet(&mut self, quiet: Option<u32>) {
        if let Some(number) = quiet {
            self.continue_line(|out| client::write_quiet(out, number));
        }
    }

    /// Adds a storage request with its data.
    #[inline]
    fn push_store<S>(&mut self, key: Key, draft: &Draft, quiet: Option<u32>, desk: &mut Desk<'_, S>) -> Purpose {
        let Desk { items, author, .. } = desk;
        let mut store =
            client::Store { word: draft.class.name(), ttl_s: draft.ttl_s, value_bytes: 0, cas_id: None, quiet };
        let out = &mut self.outgoing;
        let name = |out: &mut Vec<u8>| items.write_name(key, out);
        let begin = |out: &mut Vec<u8>, store| {
            if items.dialect.is_meta() {
                client::begin_meta_store(out, store, name)
            } else {
                client::begin_store(out, store, name)
            }
        };
        if Space::of(key) == Space::Counters {
            let mut text = Vec::with_capacity(20);
            client::write_number(&mut text, author.counters().first_value(key));
            store.value_bytes = text.len();
            begin(out, store);
            out.extend_from_slice(&text);
            out.extend_from_slice(client::LINE_END);
            return Purpose::Begin(key);
        }
        let basis = draft.basis.map(|basis| (basis, author.floor(key)));
        let mut ticket = author.hand_out(key);
        ticket.ttl_s = draft.ttl_s;
        store.cas_id = draft.basis.map(|basis| basis.cas_id);
        store.value_bytes = if Space::of(key) == Space::Lists {
            if ticket.begins_list() {
                store.word = Class::Set.name();
            }
            author.element_bytes()
        } else {
            items.value_bytes.of_version(space::number(key), ticket.stamp.version)
        };
        begin(out, store);
        value::write(out, key, ticket.stamp, store.value_bytes);
        out.extend_from_slice(client::LINE_END);
        basis.map_or(Purpose::Write(ticket), |(basis, floor)| Purpose::Replace(ticket, basis, floor))
    }

    /// Lets the latency of everything in flight begin now.
    #[inline]
    pub(crate) fn restart_clock(&mut self, now: Instant) {
        self.pending.iter_mut().for_each(|pending| (pending.due, pending.sent) = (now, now));
    }

    /// Puts a no-op behind what is quiet.
    #[inline]
    pub(crate) fn close_quiet(&mut self) {
        if self.is_open {
            self.outgoing.extend_from_slice(b"mn\r\n");
            self.is_open = false;
            if let Some(last) = self.pending.back_mut() {
                last.is_closed = true;
            }
        }
    }

    /// What has been composed and not been sent.
    #[inline]
    pub(crate) fn unsent(&self) -> &[u8] {
        &self.outgoing[self.sent..]
    }

    /// Learns that the system has taken so many of the unsent bytes.
    #[inline]
    pub(crate) fn add_sent(&mut self, bytes: usize, record: &mut Record) {
        self.sent += bytes;
        record.bytes_sent += bytes as u64;
    }

    /// Learns that the system has not taken the last so many of the sent bytes after all.
    pub(crate) fn take_back(&mut self, bytes: usize, record: &mut Record) {
        // A server that answers what it has not received lets the bytes be forgotten before: there may be fewer.
        let bytes = bytes.min(self.sent);
        self.sent -= bytes;
        record.bytes_sent -= bytes as u64;
    }

    /// Sends as much as the system takes; what is quiet is closed first.
    ///
    /// # Errors
    /// When the connection is gone.
    #[inline]
    pub(crate) fn flush(&mut self, record: &mut Record) -> Result<(), Fault> {
        self.close_quiet();
        while self.sent < self.outgoing.len() {
            match send(&self.socket, self.unsent(), SendFlags::NOSIGNAL) {
                Ok(bytes) => self.add_sent(bytes, record),
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
                self.make_room();
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
            let now = Instant::now();
            if self.carry.is_empty() {
                self.take(&buffer[..bytes], now, desk)?;
            } else {
                desk.record.bytes_received += bytes as u64;
                self.digest_carry(now, desk)?;
            }
            // A short read took all there was: the next byte makes a new event.
            if bytes < offered && !hung_up {
                return Ok(());
            }
        }
    }

    /// Settles the requests that are answered by what arrived `now`, behind what had arrived before.
    ///
    /// # Errors
    /// When it makes no sense. The connection is of no further use then.
    #[inline]
    pub(crate) fn take<S: Source>(&mut self, bytes: &[u8], now: Instant, desk: &mut Desk<'_, S>) -> Result<(), Fault> {
        desk.record.bytes_received += bytes.len() as u64;
        if self.carry.is_empty() {
            let used = self.digest(bytes, now, desk)?;
            self.carry.extend_from_slice(&bytes[used..]);
            Ok(())
        } else {
            self.make_room();
            self.carry.extend_from_slice(bytes);
            self.digest_carry(now, desk)
        }
    }

    /// Makes room for the rest of an unfinished answer.
    fn make_room(&mut self) {
        self.carry.reserve(CARRY_BYTES_MIN.max(self.carry_needs.saturating_sub(self.carry.len())));
    }

    /// Settles requests with the answers in the connection's own memory, once the first of them is whole.
    fn digest_carry<S: Source>(&mut self, now: Instant, desk: &mut Desk<'_, S>) -> Result<(), Fault> {
        if self.carry.len() >= self.carry_needs {
            let mut carry = std::mem::take(&mut self.carry);
            let used = self.digest(&carry, now, desk)?;
            carry.drain(..used);
            self.carry = carry;
        }
        Ok(())
    }

    /// Settles requests with the answers in `bytes`; says how many bytes were whole answers.
    #[inline]
    fn digest<S: Source>(&mut self, bytes: &[u8], now: Instant, desk: &mut Desk<'_, S>) -> Result<usize, Fault> {
        let mut used = 0;
        while used < bytes.len() {
            if bytes[used..].starts_with(client::TOO_MANY_CONNECTIONS) {
                return Err(Fault::ConnectionRefused);
            }
            if self.pending.is_empty() {
                // Nobody asked for this.
                return Err(Fault::Malformed);
            }
            match client::parse(&bytes[used..]) {
                Parsed::Complete(reply, reply_bytes) => {
                    if desk.items.dialect == Dialect::MetaQuiet {
                        let number = client::opaque(&bytes[used..used + reply_bytes]);
                        self.settle_quiet(reply, number, now, desk)?;
                    } else {
                        self.settle(reply, now, desk)?;
                    }
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

    /// Takes one reply of the quiet dialect: to the request of that number, or to a no-op.
    fn settle_quiet<S: Source>(
        &mut self,
        reply: Reply<'_>,
        number: Option<u32>,
        now: Instant,
        desk: &mut Desk<'_, S>,
    ) -> Result<(), Fault> {
        let is_refusal = matches!(reply, Reply::ServerError(_) | Reply::ClientError(_) | Reply::Error);
        match number {
            Some(number) => {
                let (Some(first), Some(last)) = (self.pending.front(), self.pending.back()) else {
                    return Err(Fault::Malformed);
                };
                let in_flight = last.number.wrapping_sub(first.number);
                if number.wrapping_sub(first.number) > in_flight {
                    return Err(Fault::Malformed);
                }
                while self.pending.front().is_some_and(|request| request.number != number) {
                    self.settle_silence(now, desk)?;
                }
                self.in_doubt = false;
                match self.pending.front() {
                    // Only the last one before a no-op waits on after its answer; it has just one.
                    Some(request) if !request.is_settled => self.settle(reply, now, desk),
                    _ => Err(Fault::Malformed),
                }
            }
            None if reply == Reply::NoOp => loop {
                let Some(request) = self.pending.front() else {
                    return Err(Fault::Malformed);
                };
                let is_last = request.is_closed;
                if !request.is_settled {
                    self.settle_silence(now, desk)?;
                }
                if is_last {
                    self.in_doubt = false;
                    self.finish(now, desk);
                    return Ok(());
                }
            },
            None if is_refusal => {
                desk.record.fault(refusal(reply).ok_or(Fault::Malformed)?, 1);
                self.in_doubt = true;
                Ok(())
            }
            None => Err(Fault::Malformed),
        }
    }

    /// Takes silence as the answer to the oldest request.
    fn settle_silence<S: Source>(&mut self, now: Instant, desk: &mut Desk<'_, S>) -> Result<(), Fault> {
        let Some(request) = self.pending.front() else {
            return Err(Fault::Malformed);
        };
        let reply = match request.class {
            Class::Get | Class::Gets | Class::Touch => Reply::End,
            Class::Set | Class::Add | Class::Cas | Class::Append | Class::Prepend | Class::Delete => Reply::Done,
            // It is never silent, but may have been refused without its number.
            Class::Incr if self.in_doubt => {
                self.finish(now, desk);
                return Ok(());
            }
            Class::Incr => return Err(Fault::Malformed),
        };
        self.settle(reply, now, desk)
    }

    /// Takes one reply as the answer, or a part of it, to the oldest request.
    #[inline]
    fn settle<S: Source>(&mut self, reply: Reply<'_>, now: Instant, desk: &mut Desk<'_, S>) -> Result<(), Fault> {
        let Some(request) = self.pending.front_mut() else {
            return Err(Fault::Malformed);
        };
        let mut effect = Effect::None;
        // What the meta dialect says in other words; a classic server never says it.
        let reply = match (request.class, reply) {
            (Class::Delete, Reply::Done) => Reply::Deleted,
            (Class::Touch, Reply::Done) => Reply::Touched,
            (Class::Touch, Reply::End) => Reply::NotFound,
            (Class::Append | Class::Prepend, Reply::NotFound) => Reply::NotStored,
            (Class::Get | Class::Gets | Class::Incr, Reply::Done) => return Err(Fault::Malformed),
            (Class::Get | Class::Gets, Reply::NoOp) => Reply::End,
            (_, Reply::Done) => Reply::Stored,
            (Class::Incr, Reply::Value { data, .. }) => match client::parse_number(data) {
                Some(number) => Reply::Number(number),
                None => return Err(Fault::Malformed),
            },
            _ => reply,
        };
        match (request.class, reply) {
            (Class::Get | Class::Gets, Reply::Value { key: name, data, cas, .. }) => {
                // Hits come in the order of the keys; those skipped are misses.
                let asked = loop {
                    let Some(asked) = self.asked.pop_front().filter(|_| request.keys_left > 0) else {
                        return Err(Fault::WrongKey);
                    };
                    request.keys_left -= 1;
                    let start = asked.name_start as usize;
                    if self.outgoing[start..start + usize::from(asked.name_bytes)] == *name {
                        break asked;
                    }
                    desk.miss(asked.key);
                };
                let version = desk.author.judge(asked.key, asked.floor, request.sent, data, desk.strict, desk.record);
                if request.class == Class::Gets {
                    let cas_id = cas.ok_or(Fault::Malformed)?;
                    desk.source.found(asked.key, Basis { cas_id, version });
                }
                if !request.ends_with_hit {
                    return Ok(());
                }
            }
            (Class::Get | Class::Gets, Reply::End) => {
                for _ in 0..request.keys_left {
                    let Some(asked) = self.asked.pop_front() else {
                        break;
                    };
                    desk.miss(asked.key);
                }
            }
            (Class::Set | Class::Add | Class::Cas | Class::Append | Class::Prepend, Reply::Stored) => {
                if !self.in_doubt {
                    desk.record.sets += 1;
                    effect = Effect::Stored;
                }
            }
            (Class::Add | Class::Append | Class::Prepend, Reply::NotStored)
            | (Class::Cas, Reply::Exists | Reply::NotFound)
            | (Class::Touch, Reply::NotFound) => desk.record.unmet(request.class),
            (Class::Delete, Reply::Deleted | Reply::NotFound) => {
                if reply == Reply::NotFound {
                    desk.record.unmet(request.class);
                }
                if !self.in_doubt {
                    effect = Effect::Deleted;
                }
            }
            (Class::Touch, Reply::Touched) => {}
            (Class::Incr, Reply::Number(_)) => {}
            (Class::Incr, Reply::NotFound) => {
                desk.record.unmet(request.class);
                if let Purpose::Count(counter, _) = request.purpose {
                    desk.counter_gone(counter);
                }
            }
            (Class::Set, Reply::NotStored | Reply::Exists | Reply::NotFound) => desk.record.fault(Fault::NotStored, 1),
            (_, reply) => {
                desk.record.fault(refusal(reply).ok_or(Fault::Malformed)?, 1);
                self.asked.drain(..request.keys_left as usize);
            }
        }
        match request.purpose {
            Purpose::Read => {}
            Purpose::Write(ticket) => desk.author.answered(ticket, effect, now),
            Purpose::Replace(ticket, basis, floor) => {
                if let (Effect::Stored, Some(version)) = (effect, basis.version) {
                    desk.author.replaced(ticket.key, version, floor, desk.record);
                }
                desk.author.answered(ticket, effect, now);
            }
            Purpose::Count(counter, floor) => {
                if let Reply::Number(value) = reply
                    && let Err(fault) = desk.author.counters().counted(counter, floor, value, desk.strict)
                {
                    desk.record.fault(fault, 1);
                }
            }
            Purpose::Begin(counter) => desk.author.counters().release(counter),
        }
        if request.is_closed {
            // Over with the no-op: until then its place in the line is needed.
            request.is_settled = true;
        } else {
            self.finish(now, desk);
        }
        Ok(())
    }

    /// Times the oldest request, which is over.
    #[inline]
    fn finish<S>(&mut self, now: Instant, desk: &mut Desk<'_, S>) {
        let Some(request) = self.pending.pop_front() else { return };
        desk.record.answered(request.class, now.saturating_duration_since(request.due));
        if desk.open_loop {
            desk.record.uncorrected(now.saturating_duration_since(request.sent));
        }
    }
}

/// The fault that a refusal stands for; `None` for any other reply.
fn refusal(reply: Reply<'_>) -> Option<Fault> {
    match reply {
        Reply::ServerError(_) => Some(Fault::ServerError),
        Reply::ClientError(_) => Some(Fault::ClientError),
        Reply::Error => Some(Fault::UnknownCommand),
        _ => None,
    }
}

impl<S: Source> Desk<'_, S> {
    fn miss(&mut self, key: Key) {
        self.record.misses += 1;
        self.source.missed(key);
        if Space::of(key) == Space::Counters {
            self.counter_gone(key);
        }
    }

    fn counter_gone(&mut self, counter: Key) {
        if self.author.counters().claim(counter) {
            self.source.counter_gone(counter);
        }
    }
}
