//! Decides whether a value that came back is one that may be read at this time.
//!
//! Two ways to keep the books:
//! - *by writer*: each writer counts his values. A value must be whole, of its key, and handed out by its writer before.
//! - *by key*: the writes of each key are counted, too, and a value must not be older than what its key is known to hold.
//!
//! Known how? Let a write W of a key be sent while no other write of that key is in flight. All earlier writes are answered
//! then, so as soon as W is answered no value older than W may be read by a request that is sent afterwards. W's version is
//! the key's *floor* from then on. Writes that overlap leave the floor where it is: the server may order them as it likes.
//! A get notes the floor before it is sent. (A miss proves nothing: caches evict.)
//!
//! - A write that gives a time to live, and is sent while no other is in flight, ends: a request that is sent when that time has
//!   passed since the write's answer must not find its version. Servers count in whole seconds, at the writing as at the reading, so
//!   two seconds are added. Keys that are touched are left out from then on.
//! - A delete is a write of nothing: it takes a version, and any older value that is read afterwards has risen from the dead.
//! - A cas that is stored replaces one version. No version can be replaced twice, and none that is below the floor.
//! - A list is as new as its newest element: of two writes that do not overlap, the later one's element is in the list, or a
//!   still later write has begun the list anew. No element is in it twice.
//! - Counters have rules of their own: [`counter`](crate::counter).
//!
//! | atomic | written by | read by | what it carries |
//! |---|---|---|---|
//! | `Written` | its author, before sending | whoever received a value | the value was handed out |
//! | `KeyState::sent` | every author, before sending and after the answer | the same; whoever received a value | versions, overlap |
//! | `KeyState::floor` | the author of a write, after its answer | authors of gets, before sending | a true statement, whenever read |
//! | `KeyState::end` | the author of a write, after its answer; who touches, before sending | whoever received a value | the same |

use crate::counter::Counters;
use crate::record::{Fault, Record};
use crate::space::{self, Space};
use crate::value::{self, Origin, Stamp};
use crate::workload::Key;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// What all writers of a run know of each other.
#[derive(Debug)]
pub struct Ledger {
    run: u16,
    /// Values that each writer has handed out so far.
    written: Box<[Written]>,
    /// State of each item; empty when books are kept by writer only.
    items: KeyStates,
    /// The same for the lists.
    lists: KeyStates,
    counters: Counters,
    element_bytes: usize,
    /// When times are counted from.
    start: Instant,
}

/// How much is remembered of what was written.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Books {
    /// Items with books of their own; 0 for books by writer, which cost nothing. By key they cost 24 bytes for each and a
    /// cache miss per request.
    pub items: u64,
    /// The same for the lists.
    pub lists: u64,
    /// Number of counters: their books are always kept, 24 bytes for each.
    pub counters: u64,
    /// Length of a list's elements.
    pub element_bytes: usize,
}

impl Books {
    /// Books by writer: enough to tell a genuine value.
    pub const BY_WRITER: Self = Self { items: 0, lists: 0, counters: 0, element_bytes: ELEMENT_BYTES_MIN };

    /// Books by key, for items `0..items`: enough to tell a stale value, too.
    pub fn by_key(items: u64) -> Self {
        Self { items, ..Self::BY_WRITER }
    }
}

/// Shortest element of a list: with a word of filler, an element of another list is known for one.
pub const ELEMENT_BYTES_MIN: usize = value::STAMPED_BYTES_MIN + 8;
/// Writes of a list after which it is begun anew: bounds its length.
const LIST_WRITES: u32 = 32;

#[derive(Debug, Default)]
#[repr(align(128))]
struct Written(AtomicU64);

/// The state of a key: 24 bytes, in three places.
#[derive(Clone, Copy)]
struct KeyState<'a> {
    /// Versions handed out (upper 32 bits) and writes in flight (lower 32 bits). A write whose connection was lost stays in
    /// flight for good: nobody knows when it takes effect.
    sent: &'a AtomicU64,
    /// One more than the newest version that is known to end (upper 32 bits), and when: milliseconds since the books were opened.
    /// 0 when none is known, [`TOUCHED`] when none ever will be.
    end: &'a AtomicU64,
    /// Twice one more than the oldest version that may still be read, plus one if that version is a delete; 0 when nothing
    /// is known.
    floor: &'a AtomicU32,
    /// One more than the newest version that a cas has replaced.
    replaced: &'a AtomicU32,
}

/// The states of keys from 0 on. Every request reads a floor, and each answer the versions: what is read together lies together,
/// and as densely as possible, since most of these reads are cache misses.
#[derive(Debug)]
struct KeyStates {
    floors: Box<[AtomicU32]>,
    /// Of each key what was sent, and its end.
    versions: Box<[Versions]>,
    replaced: Box<[AtomicU32]>,
}

#[derive(Debug, Default)]
#[repr(align(16))]
struct Versions {
    sent: AtomicU64,
    end: AtomicU64,
}

impl KeyStates {
    fn new(keys: u64) -> Self {
        let numbers = || (0..keys).map(|_| AtomicU32::new(0)).collect();
        Self { floors: numbers(), versions: (0..keys).map(|_| Versions::default()).collect(), replaced: numbers() }
    }

    fn is_empty(&self) -> bool {
        self.floors.is_empty()
    }

    #[inline]
    fn get(&self, key: usize) -> Option<KeyState<'_>> {
        let Versions { sent, end } = self.versions.get(key)?;
        Some(KeyState { sent, end, floor: self.floors.get(key)?, replaced: self.replaced.get(key)? })
    }
}

/// Stands for the end of a version that has been touched: no version is so great.
const TOUCHED: u64 = u64::MAX;
/// How long after its end a value may still be found: servers count in whole seconds, at the writing as at the reading.
const END_TOLERANCE: Duration = Duration::from_secs(2);

/// What is known when a write with this version is answered; see [`KeyState::floor`]. Stands still after 2^31 versions.
fn floor_of(version: u32, deleted: bool) -> u32 {
    let doubled = (u64::from(version) + 1) * 2 + u64::from(deleted);
    u32::try_from(doubled).unwrap_or(u32::MAX - 1)
}

const ONE_VERSION: u64 = 1 << 32;
const ONE_IN_FLIGHT: u64 = 1;

/// A value that has been handed out for writing, until its answer comes.
#[derive(Clone, Copy, Debug)]
pub struct Ticket {
    /// Its key.
    pub key: Key,
    /// What the value says about itself.
    pub stamp: Stamp,
    /// No other write of the key was in flight.
    alone: bool,
    /// Seconds that the value may live; 0 for ever.
    pub(crate) ttl_s: u32,
}

impl Ticket {
    /// Whether the write of a list begins it anew.
    pub fn begins_list(&self) -> bool {
        self.stamp.version.is_multiple_of(LIST_WRITES)
    }
}

/// What a write has come to.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Effect {
    /// Its value was stored.
    Stored,
    /// Nothing is stored any more.
    Deleted,
    /// None, or nobody knows.
    None,
}

impl Ledger {
    /// Empty books for `writers` writers. `run` marks their values.
    pub fn new(run: u16, writers: u16, books: Books) -> Arc<Self> {
        Arc::new(Self {
            run,
            written: (0..writers).map(|_| Written::default()).collect(),
            items: KeyStates::new(books.items),
            lists: KeyStates::new(books.lists),
            counters: Counters::new(books.counters),
            element_bytes: books.element_bytes,
            start: Instant::now(),
        })
    }

    /// Milliseconds since the books were opened.
    fn millis(&self, at: Instant) -> u64 {
        at.saturating_duration_since(self.start).as_millis() as u64
    }

    /// Checks that a version which was found by a request sent at this time had not ended before.
    fn check_end(&self, key: Key, version: u32, sent: Instant) -> Result<(), Fault> {
        // Relaxed: the statement is true whenever it is read, and nothing else is read on the strength of it.
        let end = self.state(key).map_or(0, |state| state.end.load(Ordering::Relaxed));
        let over = end / ONE_VERSION == u64::from(version) + 1
            && self.millis(sent) > end % ONE_VERSION + END_TOLERANCE.as_millis() as u64;
        if over { Err(Fault::ExpiredValue) } else { Ok(()) }
    }

    /// The state of an item or a list, if books are kept by key.
    #[inline]
    fn state(&self, key: Key) -> Option<KeyState<'_>> {
        match Space::of(key) {
            Space::Items => self.items.get(key as usize),
            Space::Lists => self.lists.get(space::number(key) as usize),
            Space::Counters => None,
        }
    }

    /// Checks the stamp of an item that a get returned which noted `floor`; `strict` when every key was written in this run
    /// before it was read.
    fn check(&self, key: Key, stamp: Stamp, floor: u64, strict: bool) -> Result<(), Fault> {
        if stamp.run != self.run {
            return if strict || floor > 0 { Err(too_old(floor)) } else { Ok(()) };
        }
        self.check_written(key, stamp)?;
        if u64::from(stamp.version) + 1 < floor / 2 { Err(too_old(floor)) } else { Ok(()) }
    }

    /// Checks that the value was handed out.
    fn check_written(&self, key: Key, stamp: Stamp) -> Result<(), Fault> {
        // Acquire, both: pairs with the Release in `Author::hand_out`, which precedes the sending of the value. We have
        // received it, so we must see a count that includes it; weaker, a value could seem to come from the future.
        let handed_out = match self.state(key) {
            Some(state) => state.sent.load(Ordering::Acquire) / ONE_VERSION,
            None => self.written.get(usize::from(stamp.writer)).map_or(0, |written| written.0.load(Ordering::Acquire)),
        };
        let known_writer = usize::from(stamp.writer) < self.written.len();
        if known_writer && u64::from(stamp.version) < handed_out { Ok(()) } else { Err(Fault::UnwrittenValue) }
    }

    /// The fault of a value that bears two stamps: torn, if both were handed out, else damaged.
    fn mixture(&self, key: Key, head: Stamp, rest: Stamp) -> Fault {
        let ours = |stamp: Stamp| stamp.run != self.run || self.check_written(key, stamp).is_ok();
        if ours(head) && ours(rest) { Fault::TornValue } else { Fault::CorruptValue }
    }

    /// Checks every element of a list, and that the newest one is new enough.
    fn check_list(&self, key: Key, floor: u64, data: &[u8], strict: bool) -> Result<(), Fault> {
        if data.is_empty() || !data.len().is_multiple_of(self.element_bytes) {
            return Err(Fault::CorruptValue);
        }
        let mut newest = 0;
        let mut stamps = Vec::with_capacity(data.len() / self.element_bytes);
        for element in data.chunks_exact(self.element_bytes) {
            let stamp = match value::origin(key, element) {
                Origin::Stamped(stamp) => stamp,
                Origin::Foreign => return Err(Fault::ForeignValue),
                Origin::Mixed(head, rest) => return Err(self.mixture(key, head, rest)),
                Origin::Unstamped | Origin::Corrupt => return Err(Fault::CorruptValue),
            };
            if stamp.run == self.run {
                self.check_written(key, stamp)?;
                newest = newest.max(u64::from(stamp.version) + 1);
            } else if strict {
                return Err(Fault::StaleValue);
            }
            stamps.push((stamp.run, stamp.writer, stamp.version));
        }
        stamps.sort_unstable();
        if stamps.windows(2).any(|pair| pair[0] == pair[1]) {
            return Err(Fault::CorruptValue);
        }
        if newest < floor / 2 { Err(too_old(floor)) } else { Ok(()) }
    }
}

/// The fault of a value below this floor.
fn too_old(floor: u64) -> Fault {
    if floor % 2 == 1 { Fault::ResurrectedValue } else { Fault::StaleValue }
}

/// Hands out the values of one writer, and judges what he reads.
#[derive(Debug)]
pub struct Author {
    ledger: Arc<Ledger>,
    writer: u16,
}

impl Author {
    /// Writer number `writer` of the ledger. There must be only one author for each number.
    ///
    /// # Panics
    /// When the ledger has no such writer.
    pub fn new(ledger: Arc<Ledger>, writer: u16) -> Self {
        assert!(usize::from(writer) < ledger.written.len(), "writer {writer} has no place in the ledger");
        Self { ledger, writer }
    }

    /// The next value for `key`. To be called before it is sent.
    #[inline]
    pub fn hand_out(&mut self, key: Key) -> Ticket {
        let (version, alone) = match self.ledger.state(key) {
            Some(state) => {
                // Release: publishes the version to the Acquire in `Ledger::check`. Acquire: receives the ends of earlier
                // writes from `Author::answered`; with none in flight, all their answers came before this value is sent.
                let before = state.sent.fetch_add(ONE_VERSION + ONE_IN_FLIGHT, Ordering::AcqRel);
                (before / ONE_VERSION, before % ONE_VERSION == 0)
            }
            None => {
                let written = &self.ledger.written[usize::from(self.writer)].0;
                // Relaxed: only this author changes the number.
                let version = written.load(Ordering::Relaxed);
                // Release: pairs with the Acquire in `Ledger::check`; see there.
                written.store(version + 1, Ordering::Release);
                (version, false)
            }
        };
        let stamp = Stamp { run: self.ledger.run, writer: self.writer, version: version as u32 };
        Ticket { key, stamp, alone, ttl_s: 0 }
    }

    /// Learns that a touch of the key is about to be sent.
    pub(crate) fn touching(&self, key: Key) {
        if let Some(state) = self.ledger.state(key) {
            // Relaxed: as in `Ledger::check_end`; from now on nothing else is written.
            state.end.store(TOUCHED, Ordering::Relaxed);
        }
    }

    /// Learns that the server has answered a write by now, and what has come of it.
    #[inline]
    pub fn answered(&mut self, ticket: Ticket, effect: Effect, now: Instant) {
        let Some(state) = self.ledger.state(ticket.key) else {
            return;
        };
        if effect == Effect::Stored && ticket.alone && ticket.ttl_s > 0 {
            let end_ms = self.ledger.millis(now) + u64::from(ticket.ttl_s) * 1000;
            // Ends that are 49 days away are not kept.
            let end = u32::try_from(end_ms).map_or(0, |end_ms| {
                (u64::from(ticket.stamp.version) + 1).wrapping_mul(ONE_VERSION) | u64::from(end_ms)
            });
            // Relaxed: as in `Ledger::check_end`. A failure means that the key has been touched.
            let _ =
                state.end.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |known| (known != TOUCHED).then_some(end));
        }
        if effect != Effect::None && ticket.alone {
            // Relaxed: the number is true from now on, and nothing else is read on the strength of it.
            state.floor.fetch_max(floor_of(ticket.stamp.version, effect == Effect::Deleted), Ordering::Relaxed);
        }
        // Release: pairs with the Acquire in `Author::hand_out`; see there.
        state.sent.fetch_sub(ONE_IN_FLIGHT, Ordering::Release);
    }

    /// What a request that reads `key` must note before it is sent.
    #[inline]
    pub fn floor(&self, key: Key) -> u64 {
        match self.ledger.state(key) {
            // Relaxed: whatever is seen was stored after the answer that makes it true.
            Some(state) => u64::from(state.floor.load(Ordering::Relaxed)),
            None if Space::of(key) == Space::Counters => self.counters().floor(key),
            None => 0,
        }
    }

    /// The counters' books.
    #[inline]
    pub fn counters(&self) -> &Counters {
        &self.ledger.counters
    }

    /// Length of a list's elements.
    #[inline]
    pub fn element_bytes(&self) -> usize {
        self.ledger.element_bytes
    }

    /// Counts the value as a hit, and as a fault if it is not one that may be read from `key` by a request sent at this time. Says the version of an item
    /// that was written in this run, where books are kept by key.
    #[inline]
    pub fn judge(
        &self,
        key: Key,
        floor: u64,
        sent: Instant,
        data: &[u8],
        strict: bool,
        record: &mut Record,
    ) -> Option<u32> {
        record.hits += 1;
        let mut version = None;
        let verdict = match Space::of(key) {
            Space::Items => match value::origin(key, data) {
                Origin::Stamped(stamp) => {
                    let by_key = stamp.run == self.ledger.run && !self.ledger.items.is_empty();
                    version = by_key.then_some(stamp.version);
                    let check_end = |()| match version {
                        Some(version) => self.ledger.check_end(key, version, sent),
                        None => Ok(()),
                    };
                    self.ledger.check(key, stamp, floor, strict).and_then(check_end)
                }
                Origin::Unstamped => Ok(()),
                Origin::Foreign => Err(Fault::ForeignValue),
                Origin::Mixed(head, rest) => Err(self.ledger.mixture(key, head, rest)),
                Origin::Corrupt => Err(Fault::CorruptValue),
            },
            Space::Lists => self.ledger.check_list(key, floor, data, strict),
            Space::Counters => self.counters().check_text(key, floor, data, strict),
        };
        if let Err(fault) = verdict {
            record.fault(fault, 1);
        }
        version
    }

    /// Learns that a cas which noted `floor` before it was sent has replaced `version`: a fault if that was not there to be
    /// replaced.
    pub fn replaced(&self, key: Key, version: u32, floor: u64, record: &mut Record) {
        let Some(state) = self.ledger.state(key) else {
            return;
        };
        let replaced = version.saturating_add(1);
        // Relaxed: only one of two cas that replaced the same version must find the other's mark, and all changes of one
        // atomic have one order.
        let before = state.replaced.fetch_max(replaced, Ordering::Relaxed);
        if before == replaced || u64::from(replaced) < floor / 2 {
            record.fault(Fault::LostUpdate, 1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value_of(key: Key, stamp: Stamp) -> Vec<u8> {
        let mut out = Vec::new();
        value::write(&mut out, key, stamp, 32);
        out
    }

    /// The faults found in a value read from key 5 by a get that noted `floor`.
    fn judge(reader: &Author, floor: u64, value: &[u8], strict: bool) -> Vec<Fault> {
        let mut record = Record::default();
        reader.judge(5, floor, Instant::now(), value, strict, &mut record);
        assert_eq!(record.hits, 1);
        record.faults().map(|(fault, _)| fault).collect()
    }

    #[test]
    fn each_way_to_be_wrong_is_told_apart() {
        for books in [Books::BY_WRITER, Books::by_key(10)] {
            let ledger = Ledger::new(9, 2, books);
            let mut writer = Author::new(ledger.clone(), 1);
            let reader = Author::new(ledger, 0);
            let older = writer.hand_out(5).stamp;
            let stamp = writer.hand_out(5).stamp;
            let unwritten = Stamp { version: stamp.version + 1, ..stamp };
            let mut damaged = value_of(5, stamp);
            damaged[31] ^= 1;
            let spliced = |head: Stamp, rest: Stamp| [&value_of(5, head)[..20], &value_of(5, rest)[20..]].concat();
            let cases = [
                (value_of(5, stamp), true, None),
                (value_of(6, stamp), true, Some(Fault::ForeignValue)),
                (damaged, true, Some(Fault::CorruptValue)),
                (spliced(stamp, older), true, Some(Fault::TornValue)),
                (spliced(older, stamp), true, Some(Fault::TornValue)),
                (spliced(stamp, unwritten), true, Some(Fault::CorruptValue)),
                (b"hello".to_vec(), true, Some(Fault::CorruptValue)),
                (value_of(5, Stamp { run: 8, ..stamp }), true, Some(Fault::StaleValue)),
                (value_of(5, Stamp { run: 8, ..stamp }), false, None),
                (value_of(5, unwritten), true, Some(Fault::UnwrittenValue)),
                (value_of(5, Stamp { writer: 7, ..stamp }), true, Some(Fault::UnwrittenValue)),
            ];
            for (value, strict, expected) in cases {
                assert_eq!(judge(&reader, 0, &value, strict), Vec::from_iter(expected));
            }
        }
    }

    #[test]
    fn an_overwritten_value_is_stale_once_its_successor_is_answered() {
        let ledger = Ledger::new(9, 1, Books::by_key(10));
        let mut author = Author::new(ledger, 0);
        let old = author.hand_out(5);
        author.answered(old, Effect::Stored, Instant::now());
        let new = author.hand_out(5);
        let before_answer = author.floor(5);
        author.answered(new, Effect::Stored, Instant::now());
        let after_answer = author.floor(5);
        let old_value = value_of(5, old.stamp);
        assert_eq!(judge(&author, before_answer, &old_value, true), []);
        assert_eq!(judge(&author, after_answer, &old_value, true), [Fault::StaleValue]);
        assert_eq!(judge(&author, after_answer, &value_of(5, new.stamp), true), []);
        // A value of an earlier run is overwritten as well.
        let earlier = value_of(5, Stamp { run: 8, ..old.stamp });
        assert_eq!(judge(&author, after_answer, &earlier, false), [Fault::StaleValue]);
    }

    #[test]
    fn writes_that_overlap_may_be_ordered_either_way() {
        let ledger = Ledger::new(9, 2, Books::by_key(10));
        let (mut a, mut b) = (Author::new(ledger.clone(), 0), Author::new(ledger, 1));
        let first = a.hand_out(5);
        let second = b.hand_out(5);
        b.answered(second, Effect::Stored, Instant::now());
        a.answered(first, Effect::Stored, Instant::now());
        for ticket in [first, second] {
            assert_eq!(judge(&a, a.floor(5), &value_of(5, ticket.stamp), true), [], "{ticket:?}");
        }
        // The next one is alone again and ends both.
        let third = a.hand_out(5);
        a.answered(third, Effect::Stored, Instant::now());
        for ticket in [first, second] {
            assert_eq!(judge(&b, b.floor(5), &value_of(5, ticket.stamp), true), [Fault::StaleValue], "{ticket:?}");
        }
    }

    #[test]
    fn a_refused_write_overwrites_nothing() {
        let mut author = Author::new(Ledger::new(9, 1, Books::by_key(10)), 0);
        let kept = author.hand_out(5);
        author.answered(kept, Effect::Stored, Instant::now());
        let refused = author.hand_out(5);
        author.answered(refused, Effect::None, Instant::now());
        assert_eq!(judge(&author, author.floor(5), &value_of(5, kept.stamp), true), []);
    }

    #[test]
    fn a_deleted_value_must_not_come_back() {
        let mut author = Author::new(Ledger::new(9, 1, Books::by_key(10)), 0);
        let old = author.hand_out(5);
        author.answered(old, Effect::Stored, Instant::now());
        let delete = author.hand_out(5);
        assert_eq!(judge(&author, author.floor(5), &value_of(5, old.stamp), true), []);
        author.answered(delete, Effect::Deleted, Instant::now());
        assert_eq!(judge(&author, author.floor(5), &value_of(5, old.stamp), true), [Fault::ResurrectedValue]);
        let new = author.hand_out(5);
        author.answered(new, Effect::Stored, Instant::now());
        assert_eq!(judge(&author, author.floor(5), &value_of(5, new.stamp), true), []);
        assert_eq!(judge(&author, author.floor(5), &value_of(5, old.stamp), true), [Fault::StaleValue]);
    }

    #[test]
    fn a_value_must_not_outlive_its_time() {
        let mut author = Author::new(Ledger::new(9, 1, Books::by_key(10)), 0);
        let start = Instant::now();
        let write = |author: &mut Author, ttl_s| {
            let ticket = Ticket { ttl_s, ..author.hand_out(5) };
            author.answered(ticket, Effect::Stored, start);
            ticket
        };
        let found_after = |author: &Author, ticket: Ticket, millis| {
            let mut record = Record::default();
            let sent = start + Duration::from_millis(millis);
            author.judge(5, 0, sent, &value_of(5, ticket.stamp), true, &mut record);
            record.fault_count(Fault::ExpiredValue)
        };
        let short = write(&mut author, 10);
        assert_eq!([0, 9999, 11_900].map(|millis| found_after(&author, short, millis)), [0, 0, 0]);
        assert_eq!(found_after(&author, short, 12_100), 1);
        let endless = write(&mut author, 0);
        assert_eq!(found_after(&author, endless, 1_000_000), 0);
        let overlapping = author.hand_out(5);
        let unknown = Ticket { ttl_s: 1, ..author.hand_out(5) };
        author.answered(unknown, Effect::Stored, start);
        author.answered(overlapping, Effect::Stored, start);
        assert_eq!(found_after(&author, unknown, 1_000_000), 0, "which of the two is stored last is not known");
        author.touching(5);
        let touched = write(&mut author, 1);
        assert_eq!(found_after(&author, touched, 1_000_000), 0, "a touch may have come after it");
    }

    #[test]
    fn a_version_is_replaced_once_and_only_while_it_is_there() {
        let mut author = Author::new(Ledger::new(9, 1, Books::by_key(10)), 0);
        let replaced = |author: &Author, version| {
            let mut record = Record::default();
            author.replaced(5, version, author.floor(5), &mut record);
            record.fault_count(Fault::LostUpdate)
        };
        let tickets: Vec<Ticket> = (0..3).map(|_| author.hand_out(5)).collect();
        assert_eq!(replaced(&author, 0), 0);
        assert_eq!(replaced(&author, 0), 1, "the same version twice");
        assert_eq!(replaced(&author, 2), 0);
        assert_eq!(replaced(&author, 1), 0, "answers may come in another order");
        tickets.into_iter().for_each(|ticket| author.answered(ticket, Effect::Stored, Instant::now()));
        let known = author.hand_out(5);
        author.answered(known, Effect::Stored, Instant::now());
        assert_eq!(replaced(&author, 1), 1, "overwritten before");
        assert_eq!(replaced(&author, known.stamp.version), 0);
    }

    #[test]
    fn lists_are_checked_element_by_element() {
        let books = Books { lists: 10, ..Books::BY_WRITER };
        let mut author = Author::new(Ledger::new(9, 1, books), 0);
        let list = Space::Lists.key(5);
        let elements: Vec<Vec<u8>> = (0..3)
            .map(|_| {
                let ticket = author.hand_out(list);
                author.answered(ticket, Effect::Stored, Instant::now());
                let mut element = Vec::new();
                value::write(&mut element, list, ticket.stamp, ELEMENT_BYTES_MIN);
                element
            })
            .collect();
        let mut foreign = Vec::new();
        value::write(&mut foreign, 5, Stamp { run: 9, writer: 0, version: 0 }, ELEMENT_BYTES_MIN);
        let [first, second, third] = &elements[..] else { unreachable!() };
        let cases: [(Vec<u8>, Option<Fault>); 8] = [
            (elements.concat(), None),
            ([&third[..], first].concat(), None),
            ([&first[..], second].concat(), Some(Fault::StaleValue)),
            ([&third[..], third].concat(), Some(Fault::CorruptValue)),
            ([&third[..], &second[1..]].concat(), Some(Fault::CorruptValue)),
            ([&third[..16], &second[16..]].concat(), Some(Fault::TornValue)),
            ([&third[..], &foreign].concat(), Some(Fault::ForeignValue)),
            (Vec::new(), Some(Fault::CorruptValue)),
        ];
        for (value, expected) in cases {
            let mut record = Record::default();
            author.judge(list, author.floor(list), Instant::now(), &value, true, &mut record);
            let faults: Vec<Fault> = record.faults().map(|(fault, _)| fault).collect();
            assert_eq!(faults, Vec::from_iter(expected), "{}", value.escape_ascii());
        }
    }
}
