//! Making room: taking the oldest segment out of use, record by record, before memory runs out.
//!
//! Whoever opens a segment keeps a few idle ones ahead, because a segment that leaves can be used again only when an
//! epoch has passed. What to do with a live record is decided in one place, [`Store::retire_record`]: dropped today; a
//! compaction or a second queue moves it instead, with the seal of R1, and needs nothing else here.

use super::large::LargeValue;
use super::stats::Counter;
use super::{ByLocation, Gone, Store, StoreError};
use crate::log::Location;
use crate::log::record::{Record, State};
use crate::log::segments::SegmentIndex;
use crate::sync::Guard;
use crate::sync::Ordering;
use std::sync::Arc;

/// Records whose index buckets are fetched ahead of taking them out.
const LOOK_AHEAD: usize = 16;

/// How often [`Store::make_room`] tries while segments are on their way out but held by other threads' guards: bounded, because it must
/// not wait for a stopped thread.
const TRIES_WHILE_HELD: usize = 256;

/// The pause between the later half of those tries.
const PAUSE_WHILE_HELD: std::time::Duration = std::time::Duration::from_micros(150);

impl Store {
    /// Segments that should be usable at any moment: what all handles can fill while one leaves.
    fn segments_ahead(&self) -> usize {
        // Relaxed: a size.
        (2 + 2 * self.handles.load(Ordering::Relaxed) as usize).min(self.log.segments.len() / 8)
    }

    /// Calls `take` until it has what it wants, evicting as needed and allowed.
    ///
    /// # Errors
    /// [`StoreError::OutOfMemory`] if nothing may be evicted, nothing is left, or what is leaving is held for too long.
    pub(super) fn make_room<T>(
        &self,
        stripe: usize,
        guard: &mut Guard,
        mut take: impl FnMut() -> Option<T>,
    ) -> Result<T, StoreError> {
        self.evict_ahead(stripe, guard);
        let mut tries = TRIES_WHILE_HELD;
        loop {
            if let Some(taken) = take() {
                return Ok(taken);
            }
            // What `take` wants may be the budget that idle segments hold.
            if self.log.shrink() {
                continue;
            }
            let leaving = self.log.segments.leaving();
            if tries == 0 || !self.config.evict && leaving == 0 && !self.reclaim_dead(guard) {
                return Err(StoreError::OutOfMemory);
            }
            // What is leaving already may be all it takes: evict more only if that is little.
            let enough_leaving = leaving >= 2 * self.segments_ahead();
            let made_progress =
                !enough_leaving && (self.reclaim_dead(guard) || self.config.evict && self.evict_oldest(stripe, guard));
            if !made_progress {
                tries -= 1;
                // First let others run; then give a thread that was preempted inside a batch time to end it: 20 ms in all.
                if tries > TRIES_WHILE_HELD / 2 {
                    std::thread::yield_now();
                } else {
                    std::thread::sleep(PAUSE_WHILE_HELD);
                }
            }
            // Nobody holds references under this guard (it is ours to move), so that our own pin holds nothing back.
            guard.flush();
            guard.repin();
        }
    }

    /// Keeps segments ahead of need, and the index within the limit (L3).
    fn evict_ahead(&self, stripe: usize, guard: &Guard) {
        let index_bytes = self.table.bytes();
        while self.log.excess(index_bytes) > 0 && self.log.shrink() {}
        while self.reclaim_dead(guard) {}
        if !self.config.evict {
            return;
        }
        let segment_bytes = self.log.segment_bytes() as u64;
        let usable = self.log.segments.idle() as u64 + self.log.available(index_bytes) / segment_bytes;
        let coming = usable + self.log.segments.leaving() as u64;
        let missing = (self.segments_ahead() as u64).saturating_sub(coming);
        // At most two: nobody pays for a whole backlog.
        let mut evicted = 0;
        while evicted < missing.min(2) && self.evict_oldest(stripe, guard) {
            evicted += 1;
        }
        if evicted > 0 {
            // Pushes the deferred recycling where every thread's pins help it on.
            guard.flush();
        }
    }

    /// Takes a segment out of use in which nothing is live any more. False if there is none.
    fn reclaim_dead(&self, guard: &Guard) -> bool {
        let Some(segment) = self.log.segments.take_dead() else { return false };
        self.recycle_later(segment, guard);
        true
    }

    /// Makes a segment that is out of the index usable once no guard of now is left (L2).
    fn recycle_later(&self, segment: SegmentIndex, guard: &Guard) {
        let log = Arc::clone(&self.log);
        guard.defer(move || log.segments.recycle(segment));
    }

    /// Takes the oldest sealed segment out of use. False if there is none.
    fn evict_oldest(&self, stripe: usize, guard: &Guard) -> bool {
        let Some((segment, used)) = self.log.segments.take_oldest() else {
            return false;
        };
        self.retire_segment(segment, used, stripe, guard);
        self.recycle_later(segment, guard);
        true
    }

    /// Takes every record of a segment that the index still names out of it.
    fn retire_segment(&self, segment: SegmentIndex, used: usize, stripe: usize, guard: &Guard) {
        let now = self.clock.now();
        let mut ahead = [(0, 0); LOOK_AHEAD];
        let mut offset = 0;
        while offset < used {
            let mut count = 0;
            while count < LOOK_AHEAD && offset < used {
                let location = self.log.location(segment, offset);
                // SAFETY: records lie one behind the other up to `used`; the segment is ours until it is recycled.
                let record = unsafe { self.record(location) };
                let hash = self.hash(record.key());
                self.table.prefetch(hash);
                ahead[count] = (location, hash);
                count += 1;
                offset += record.shape().bytes();
            }
            for &(location, hash) in &ahead[..count] {
                self.retire_record(location, hash, now, stripe, guard);
            }
        }
    }

    fn retire_record(&self, location: Location, hash: u64, now: crate::clock::Now, stripe: usize, guard: &Guard) {
        let keys = ByLocation { store: self, location };
        // Ends: a failure means that the record was replaced or removed, or that a split came between, which is progress.
        while let Some(hit) = self.table.find(hash, &keys, guard) {
            // SAFETY: as in `retire_segment`.
            let record = unsafe { self.record(location) };
            let state = record.state();
            let gone = self.gone(state, now);
            self.retire_cas(location, record);
            if self.table.remove(hit, &keys, guard).is_ok() {
                self.account_removal(location, record, stripe, guard);
                let count = |counter: Counter| self.counters.cells.add(stripe, counter as usize, 1);
                match gone {
                    None => self.note_eviction(record, state, now, stripe),
                    Some(gone) => {
                        count(Counter::Reclaimed);
                        if gone == Gone::Expired && !state.has(State::FETCHED) {
                            count(Counter::ExpiredUnfetched);
                        }
                    }
                }
            }
        }
    }

    /// Books the end of a record that has just left the index, by whichever way. The caller's CAS took it out.
    pub(super) fn account_removal(&self, location: Location, record: Record<'_>, stripe: usize, guard: &Guard) {
        self.log.segments.note_dead(self.log.segment_of(location));
        let value_len = if record.is_large() {
            let address = record.large_address();
            // SAFETY: the record's reference, given up here by the one thread that took the record out of the index, and dropped only when no
            // guard of now is left (S4).
            let value = unsafe { LargeValue::from_address(address) };
            let len = value.len();
            guard.defer(move || drop(value));
            // Memory of this size must not wait in a bag of this thread's until that is full.
            guard.flush();
            len
        } else {
            record.small_value_len()
        };
        let bytes = super::protocol_bytes(record.key().len(), record.flags(), value_len, self.config.cas);
        self.counters.cells.add(stripe, super::BYTES_CELL, (bytes as u64).wrapping_neg());
    }
}
