//! Look-ups under a guard: what reads and writes share.

use super::stats::Counter;
use super::{ByKey, Expiry, Gone, Store};
use crate::clock::Now;
use crate::log::Location;
use crate::log::record::{Record, State};
use crate::sync::{Guard, Ordering, fence};
use crate::table::Hit;

/// Last access is refreshed when it is older than this, so that a hot item is not written at every read.
pub(super) const ACCESS_RESOLUTION_S: u32 = 60;

/// A store as one batch sees it: under its guard, at its time, counting in its stripe.
#[derive(Clone, Copy)]
pub(super) struct View<'g> {
    pub(super) store: &'g Store,
    pub(super) guard: &'g Guard,
    pub(super) now: Now,
    pub(super) stripe: usize,
}

/// An item in the index.
#[derive(Clone, Copy)]
pub(super) struct Found<'g> {
    pub(super) hit: Hit<'g>,
    pub(super) record: Record<'g>,
}

impl<'g> View<'g> {
    #[inline]
    pub(super) fn count(self, counter: Counter) {
        self.store.counters.cells.add(self.stripe, counter as usize, 1);
    }

    /// The batch's time in whole seconds of the store's clock.
    #[inline]
    pub(super) fn now_s(self) -> u32 {
        (self.now.mono_ms / 1000) as u32
    }

    /// Sees to it that the segment of a record is looked through when that record has expired.
    #[inline]
    pub(super) fn note_expiry(self, location: Location, expiry: Expiry) {
        if expiry != Expiry::Never {
            let due_ms = expiry.mono_ms(self.now);
            self.store.log.segments.note_expiry(self.store.log.segment_of(location), due_ms);
        }
    }

    /// Finds the index entry of a key, visible or not.
    #[inline]
    pub(super) fn find(self, key: &[u8], hash: u64) -> Option<Found<'g>> {
        let hit = self.store.table.find(hash, &ByKey { store: self.store, key }, self.guard)?;
        // SAFETY: found in the index under our guard.
        Some(Found { hit, record: unsafe { self.store.record(hit.payload()) } })
    }

    /// Finds a visible item; takes one that has expired or been flushed out of the index, and says so.
    #[inline]
    pub(super) fn find_visible(self, key: &[u8], hash: u64) -> Result<(Found<'g>, State), Option<Gone>> {
        let Some(found) = self.find(key, hash) else { return Err(None) };
        let state = found.record.state();
        match self.store.gone(state, self.now) {
            None => Ok((found, state)),
            Some(gone) => {
                self.drop_gone(found, state, gone);
                Err(Some(gone))
            }
        }
    }

    /// The item if it is visible. One that looks gone is sealed before that is believed, so that no touch can save it after
    /// the caller has acted on it (R1).
    #[inline]
    pub(super) fn visible(self, found: Option<Found<'g>>) -> Option<Found<'g>> {
        let is_there = |state| self.store.gone(state, self.now).is_none();
        found.filter(|found| is_there(found.record.state()) || is_there(found.record.seal()))
    }

    /// Takes an item that is gone out of the index, unless a touch has saved it meanwhile: the seal decides (R1). Says whether it did.
    #[cold]
    pub(super) fn drop_gone(self, found: Found<'_>, state: State, gone: Gone) -> bool {
        let is_gone = self.store.gone(found.record.seal(), self.now).is_some();
        let dropped = is_gone && self.unlink(found);
        if dropped && gone == Gone::Expired && !state.has(State::FETCHED) {
            self.count(Counter::ExpiredUnfetched);
        }
        dropped
    }

    /// Has an item this CAS id? None has 0, but for a store without ids, where all do.
    pub(super) fn has_id(self, found: Found<'_>, id: u64) -> bool {
        self.store.cas_of(found.hit.payload(), found.record) == id
    }

    /// The same, and no increment can change it any more: the pair of a counter is sealed before that is said (R2). Ask before
    /// replacing or deleting what has this id.
    pub(super) fn has_id_for_good(self, found: Found<'_>, id: u64) -> bool {
        // Without sealing first, so that a comparison that fails costs the counter nothing.
        self.has_id(found, id) && self.store.final_cas(found.hit.payload(), found.record) == id
    }

    /// The CAS id of a record that was found or stored under this guard.
    pub(super) fn id_at(self, location: Location) -> u64 {
        // SAFETY: the location comes from the index, or went there, under our guard.
        self.store.cas_of(location, unsafe { self.store.record(location) })
    }

    /// Takes an item out of the index. False if it was no longer there.
    pub(super) fn unlink(self, Found { hit, record }: Found<'_>) -> bool {
        let store = self.store;
        store.retire_cas(hit.payload(), record);
        let removed = store.table.remove(hit, &ByKey { store, key: record.key() }, self.guard).is_ok();
        if removed {
            store.account_removal(hit.payload(), record, self.stripe, self.guard);
        }
        removed
    }

    /// Notes that an item was met by a command that did not fetch it: memcached bumps it, but leaves it unfetched.
    pub(super) fn mark_met(self, record: Record<'_>, state: State) {
        if state.has(State::FETCHED) {
            self.mark_fetched(record, state);
        } else {
            record.set_last_access_s(self.now_s());
        }
    }

    /// Notes that an item was changed in place: it is in use, but that is no fetch. Its last access is exact.
    #[inline]
    pub(super) fn mark_used(self, record: Record<'_>, state: State) {
        let used = state.with_frequency((state.frequency() + 1).min(State::FREQUENCY_MAX));
        if used != state && !state.has(State::SEALED) {
            // As in `mark_fetched`.
            record.change_state(state, used);
        }
        // Once a second at most.
        if record.last_access_s() != self.now_s() {
            record.set_last_access_s(self.now_s());
        }
    }

    /// Marks a record that is being moved. The mark must not stay behind (clients see it), and nobody waits for the mover: we set it on
    /// the original, then look where the item is; the mover puts its copy in place, then looks whether the original was marked. The two fences
    /// order these so that one of us sees what the other did, and sets the mark on the copy.
    #[cold]
    pub(super) fn mark_moving(self, record: Record<'_>, state: State) {
        if state.has(State::FETCHED) {
            return;
        }
        let hash = self.store.hash(record.key());
        let mut record = record;
        // Ends: another round means that the item was moved again, or replaced.
        loop {
            record.set_fetched();
            fence(Ordering::SeqCst);
            match self.find(record.key(), hash) {
                Some(found) if found.record.address() != record.address() => record = found.record,
                _ => return,
            }
        }
    }

    /// Marks a record as fetched. Writes nothing once the item is known to be hot.
    #[inline]
    pub(super) fn mark_fetched(self, record: Record<'_>, state: State) {
        let fetched = state.fetched();
        if fetched != state {
            // A failure means that another change came first, perhaps a mover's seal: then the mark alone counts, and not the frequency.
            if state.has(State::SEALED) || !record.change_state(state, fetched) {
                self.mark_moving(record, state);
            }
        }
        let now_s = self.now_s();
        if now_s.wrapping_sub(record.last_access_s()) >= ACCESS_RESOLUTION_S {
            record.set_last_access_s(now_s);
        }
    }
}
