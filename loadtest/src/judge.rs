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
//! | atomic | written by | read by | what it carries |
//! |---|---|---|---|
//! | `Written` | its author, before sending | whoever received a value | the value was handed out |
//! | `KeyState::sent` | every author, before sending and after the answer | the same; whoever received a value | versions, overlap |
//! | `KeyState::floor` | the author of a write, after its answer | authors of gets, before sending | a true statement, whenever read |

use crate::record::{Fault, Record};
use crate::value::{self, Origin, Stamp};
use crate::workload::Key;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

/// What all writers of a run know of each other.
#[derive(Debug)]
pub struct Ledger {
    run: u16,
    /// Values that each writer has handed out so far.
    written: Box<[Written]>,
    /// State of each key; empty when books are kept by writer only.
    keys: Box<[KeyState]>,
}

#[derive(Debug, Default)]
#[repr(align(128))]
struct Written(AtomicU64);

/// 16 bytes for each key.
#[derive(Debug, Default)]
struct KeyState {
    /// Versions handed out (upper 32 bits) and writes in flight (lower 32 bits). A write whose connection was lost stays in
    /// flight for good: nobody knows when it takes effect.
    sent: AtomicU64,
    /// One more than the oldest version that may still be read; 0 when nothing is known.
    floor: AtomicU32,
}

const ONE_VERSION: u64 = 1 << 32;
const ONE_IN_FLIGHT: u64 = 1;

/// A value that has been handed out for writing, until its answer comes.
#[derive(Clone, Copy, Debug)]
pub struct Ticket {
    key: Key,
    /// What the value says about itself.
    pub stamp: Stamp,
    /// No other write of the key was in flight.
    alone: bool,
}

impl Ledger {
    /// Books by writer, for `writers` writers. `run` marks their values.
    pub fn by_writer(run: u16, writers: u16) -> Arc<Self> {
        Self::by_key(run, writers, 0)
    }

    /// Books by writer and by key, for keys `0..keys`.
    pub fn by_key(run: u16, writers: u16, keys: u64) -> Arc<Self> {
        Arc::new(Self {
            run,
            written: (0..writers).map(|_| Written::default()).collect(),
            keys: (0..keys).map(|_| KeyState::default()).collect(),
        })
    }

    /// Checks the stamp of a value that a get returned which noted `floor`; `strict` when every key was written in this run
    /// before it was read.
    fn check(&self, key: Key, stamp: Stamp, floor: u32, strict: bool) -> Result<(), Fault> {
        if stamp.run != self.run {
            return if strict || floor > 0 { Err(Fault::StaleValue) } else { Ok(()) };
        }
        // Acquire, both: pairs with the Release in `Author::hand_out`, which precedes the sending of the value. We have
        // received it, so we must see a count that includes it; weaker, a value could seem to come from the future.
        let handed_out = match self.keys.get(key as usize) {
            Some(state) => state.sent.load(Ordering::Acquire) / ONE_VERSION,
            None => self.written.get(usize::from(stamp.writer)).map_or(0, |written| written.0.load(Ordering::Acquire)),
        };
        let known_writer = usize::from(stamp.writer) < self.written.len();
        if !known_writer || u64::from(stamp.version) >= handed_out {
            Err(Fault::UnwrittenValue)
        } else if stamp.version.saturating_add(1) < floor {
            Err(Fault::StaleValue)
        } else {
            Ok(())
        }
    }
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
        let (version, alone) = match self.ledger.keys.get(key as usize) {
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
        Ticket { key, stamp, alone }
    }

    /// Learns that the server has answered a write, and whether it stored the value.
    #[inline]
    pub fn answered(&mut self, ticket: Ticket, stored: bool) {
        let Some(state) = self.ledger.keys.get(ticket.key as usize) else {
            return;
        };
        if stored && ticket.alone {
            // Relaxed: the number is true from now on, and nothing else is read on the strength of it.
            state.floor.fetch_max(ticket.stamp.version.saturating_add(1), Ordering::Relaxed);
        }
        // Release: pairs with the Acquire in `Author::hand_out`; see there.
        state.sent.fetch_sub(ONE_IN_FLIGHT, Ordering::Release);
    }

    /// What a get of `key` must note before it is sent.
    #[inline]
    pub fn floor(&self, key: Key) -> u32 {
        // Relaxed: whatever is seen was stored after the answer that makes it true.
        self.ledger.keys.get(key as usize).map_or(0, |state| state.floor.load(Ordering::Relaxed))
    }

    /// Counts the value as a hit, and as a fault if it is not one that may be read from `key`.
    #[inline]
    pub fn judge(&self, key: Key, floor: u32, data: &[u8], strict: bool, record: &mut Record) {
        record.hits += 1;
        let verdict = match value::origin(key, data) {
            Origin::Stamped(stamp) => self.ledger.check(key, stamp, floor, strict),
            Origin::Unstamped => Ok(()),
            Origin::Foreign => Err(Fault::ForeignValue),
            Origin::Corrupt => Err(Fault::CorruptValue),
        };
        if let Err(fault) = verdict {
            record.fault(fault, 1);
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
    fn judge(reader: &Author, floor: u32, value: &[u8], strict: bool) -> Vec<Fault> {
        let mut record = Record::default();
        reader.judge(5, floor, value, strict, &mut record);
        assert_eq!(record.hits, 1);
        record.faults().map(|(fault, _)| fault).collect()
    }

    #[test]
    fn each_way_to_be_wrong_is_told_apart() {
        for ledger in [Ledger::by_writer(9, 2), Ledger::by_key(9, 2, 10)] {
            let mut writer = Author::new(ledger.clone(), 1);
            let reader = Author::new(ledger, 0);
            let stamp = writer.hand_out(5).stamp;
            let mut torn = value_of(5, stamp);
            torn[31] ^= 1;
            let cases = [
                (value_of(5, stamp), true, None),
                (value_of(6, stamp), true, Some(Fault::ForeignValue)),
                (torn, true, Some(Fault::CorruptValue)),
                (b"hello".to_vec(), true, Some(Fault::CorruptValue)),
                (value_of(5, Stamp { run: 8, ..stamp }), true, Some(Fault::StaleValue)),
                (value_of(5, Stamp { run: 8, ..stamp }), false, None),
                (value_of(5, Stamp { version: stamp.version + 1, ..stamp }), true, Some(Fault::UnwrittenValue)),
                (value_of(5, Stamp { writer: 7, ..stamp }), true, Some(Fault::UnwrittenValue)),
            ];
            for (value, strict, expected) in cases {
                assert_eq!(judge(&reader, 0, &value, strict), Vec::from_iter(expected));
            }
        }
    }

    #[test]
    fn an_overwritten_value_is_stale_once_its_successor_is_answered() {
        let ledger = Ledger::by_key(9, 1, 10);
        let mut author = Author::new(ledger, 0);
        let old = author.hand_out(5);
        author.answered(old, true);
        let new = author.hand_out(5);
        let before_answer = author.floor(5);
        author.answered(new, true);
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
        let ledger = Ledger::by_key(9, 2, 10);
        let (mut a, mut b) = (Author::new(ledger.clone(), 0), Author::new(ledger, 1));
        let first = a.hand_out(5);
        let second = b.hand_out(5);
        b.answered(second, true);
        a.answered(first, true);
        for ticket in [first, second] {
            assert_eq!(judge(&a, a.floor(5), &value_of(5, ticket.stamp), true), [], "{ticket:?}");
        }
        // The next one is alone again and ends both.
        let third = a.hand_out(5);
        a.answered(third, true);
        for ticket in [first, second] {
            assert_eq!(judge(&b, b.floor(5), &value_of(5, ticket.stamp), true), [Fault::StaleValue], "{ticket:?}");
        }
    }

    #[test]
    fn a_refused_write_overwrites_nothing() {
        let mut author = Author::new(Ledger::by_key(9, 1, 10), 0);
        let kept = author.hand_out(5);
        author.answered(kept, true);
        let refused = author.hand_out(5);
        author.answered(refused, false);
        assert_eq!(judge(&author, author.floor(5), &value_of(5, kept.stamp), true), []);
    }
}
