//! Look-ups and changes in place, under one guard.

use super::handle::Writer;
use super::item::Item;
use super::large::LargeBuf;
use super::stats::Counter;
use super::view::{Found, View};
use super::{Expiry, Gone, Store, StoreError};
use crate::clock::Now;
use crate::limits::FLUSH_STAMPS;
use crate::log::Location;
use crate::log::record::State;
use crate::sync::{Guard, Ordering};
use crate::table::prefetch_line;
use std::fmt;

/// How a value is stored. Protocol section 3.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Whatever is there.
    Set,
    /// Only if nothing is there.
    Add,
    /// Only if something is there.
    Replace,
    /// Behind the value that is there; flags and expiry stay.
    Append,
    /// Before the value that is there; flags and expiry stay.
    Prepend,
    /// Only if the item has this CAS id.
    Cas(u64),
}

/// A value to be stored.
#[derive(Debug)]
pub enum NewValue<'a> {
    /// Bytes to copy.
    Bytes(&'a [u8]),
    /// A large value that was received in place, from [`Handle::reserve`](super::Handle::reserve). It should be whole: what is
    /// not ready is stored as zeros, and left out of what is appended.
    Large(LargeBuf),
}

impl NewValue<'_> {
    /// The length of the whole value.
    #[must_use]
    #[allow(clippy::len_without_is_empty, reason = "an empty value is nothing special")]
    pub fn len(&self) -> usize {
        match self {
            NewValue::Bytes(bytes) => bytes.len(),
            NewValue::Large(value) => value.value_len(),
        }
    }

    /// The bytes, as far as they are there.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        match self {
            NewValue::Bytes(bytes) => bytes,
            NewValue::Large(value) => value,
        }
    }
}

/// How a storage command ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The value is stored.
    Stored,
    /// The condition of the mode does not hold.
    NotStored,
    /// The item has another CAS id.
    Exists,
    /// There is no item to compare with.
    NotFound,
}

/// A change of a decimal number. Protocol section 3.1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Delta {
    /// Adds, modulo 2^64.
    Incr(u64),
    /// Subtracts, down to 0.
    Decr(u64),
}

/// How an increment or decrement ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ArithOutcome {
    /// The number now.
    Value(u64),
    /// There is no such item.
    NotFound,
    /// The value is not a number.
    NonNumeric,
}

/// A piece of work on a store under one epoch guard and one reading of the clock.
///
/// Made by [`Handle::batch`](super::Handle::batch); neither `Send` nor `Sync`. Nothing removed since it began is freed before it ends: run what has
/// arrived, then drop it, and never hold it across an `.await`.
pub struct Batch<'h> {
    pub(super) store: &'h Store,
    pub(super) writer: &'h mut Writer,
    pub(super) guard: Guard,
    pub(super) now: Now,
}

impl<'h> Batch<'h> {
    #[inline]
    pub(super) fn new(store: &'h Store, writer: &'h mut Writer, guard: Guard) -> Batch<'h> {
        let now = store.clock.now_since(writer.last_read);
        writer.last_read = now;
        let batch = Batch { store, writer, guard, now };
        batch.run_due_flush();
        batch
    }

    #[inline]
    pub(super) fn view(&self) -> View<'_> {
        View { store: self.store, guard: &self.guard, now: self.now, stripe: self.writer.stripe }
    }

    /// The clock's reading at the beginning of the batch.
    #[must_use]
    #[inline]
    pub fn now(&self) -> Now {
        self.now
    }

    /// The hash of a key, as all operations want it. Seeded anew for every store.
    #[must_use]
    #[inline]
    pub fn hash(&self, key: &[u8]) -> u64 {
        self.store.hash(key)
    }

    /// First stage of a staged look-up: asks for the key's index bucket. Do it for all keys, then
    /// [`Batch::prefetch_record`] for all, then the operations: their cache misses overlap.
    #[inline]
    pub fn prefetch_bucket(&self, hash: u64) {
        self.store.table.prefetch(hash);
    }

    /// Second stage of a staged look-up: asks for the record or records that the bucket names for this hash.
    #[inline]
    pub fn prefetch_record(&self, hash: u64) {
        self.store.table.candidates(hash, &self.guard, |location| {
            let address = self.store.log.address(location);
            prefetch_line(address);
            // Records are aligned to 8: most small ones lie across two lines.
            prefetch_line(address.wrapping_add(63));
        });
    }

    /// Finds an item and marks it as fetched. Counts `cmd_get` and a hit or miss.
    ///
    /// Lock-free, no allocation. Cost: a cache line of index and the record's; the mark is written on the first three fetches only.
    #[inline]
    pub fn get(&self, key: &[u8], hash: u64) -> Option<Item<'_>> {
        let view = self.view();
        view.count(Counter::CmdGet);
        match view.find_visible(key, hash) {
            Ok((found, state)) => {
                view.count(Counter::GetHits);
                view.mark_fetched(found.record, state);
                Some(Item::new(self.store, found.hit.payload(), found.record))
            }
            Err(gone) => {
                self.count_miss(gone);
                None
            }
        }
    }

    #[cold]
    pub(super) fn count_miss(&self, gone: Option<Gone>) {
        let view = self.view();
        view.count(Counter::GetMisses);
        match gone {
            Some(Gone::Expired) => view.count(Counter::GetExpired),
            Some(Gone::Flushed) => view.count(Counter::GetFlushed),
            None => {}
        }
    }

    /// Finds an item, gives it a new expiry and marks it as fetched. Counts `cmd_touch` and a touch hit or miss, and nothing of
    /// the gets (protocol 9.1).
    ///
    /// An expiry that is already over still gives the item out, this once. Usually in place; an item that is being
    /// copied gets a new record, and if there is no memory for that the old expiry stays.
    pub fn get_and_touch(&mut self, key: &[u8], hash: u64, expiry: Expiry) -> Option<Item<'_>> {
        self.view().count(Counter::CmdTouch);
        let location = self.set_expiry(key, hash, expiry);
        self.view().count(if location.is_ok() { Counter::TouchHits } else { Counter::TouchMisses });
        let location = location.ok()?;
        // SAFETY: found under our guard, or stored by us just now.
        let record = unsafe { self.store.record(location) };
        Some(Item::new(self.store, location, record))
    }

    /// Gives an item a new expiry. Counts `cmd_touch` and a hit or miss.
    ///
    /// # Errors
    /// None today; a touch that needs a copy and finds no memory for it leaves the expiry as it was.
    pub fn touch(&mut self, key: &[u8], hash: u64, expiry: Expiry) -> Result<bool, StoreError> {
        self.view().count(Counter::CmdTouch);
        let touched = self.set_expiry(key, hash, expiry).is_ok();
        self.view().count(if touched { Counter::TouchHits } else { Counter::TouchMisses });
        Ok(touched)
    }

    /// Changes an expiry in place, or, where a copy is under way (R1), by a copy of our own.
    fn set_expiry(&mut self, key: &[u8], hash: u64, expiry: Expiry) -> Result<Location, Option<Gone>> {
        loop {
            let view = self.view();
            let (Found { hit, record }, state) = view.find_visible(key, hash)?;
            if state.has(State::SEALED) {
                if let Some(location) = self.rewrite(key, hash, |state| state.with_expiry(expiry).fetched()) {
                    return Ok(location);
                }
                continue;
            }
            // A failure means that another change of the state came first: look again.
            if record.change_state(state, state.with_expiry(expiry).fetched()) {
                record.set_last_access_s(view.now_s());
                view.note_expiry(hit.payload(), expiry);
                return Ok(hit.payload());
            }
        }
    }

    /// Takes an item out. Counts a delete hit or miss. No allocation.
    pub fn delete(&mut self, key: &[u8], hash: u64) -> bool {
        let view = self.view();
        let deleted = loop {
            match view.find_visible(key, hash) {
                Ok((found, _)) if view.unlink(found) => break true,
                // It has changed meanwhile: look again.
                Ok(_) => {}
                Err(_) => break false,
            }
        };
        view.count(if deleted { Counter::DeleteHits } else { Counter::DeleteMisses });
        deleted
    }

    /// Makes everything that is stored invisible: at once (`Expiry::Never` or `Past`), or when `at` comes. A later call
    /// replaces a flush that is still to come. Counts `cmd_flush`.
    ///
    /// Cost: one atomic increment; memory is found again item by item. Every 32 768th flush sweeps the index besides.
    pub fn flush_all(&mut self, at: Expiry) {
        self.view().count(Counter::CmdFlush);
        let due = match at {
            Expiry::Never | Expiry::Past => 0,
            at if at.is_over(self.now) => 0,
            at => State::new(at, 0).0,
        };
        // Relaxed: the due time alone matters; batches read it when they begin.
        self.store.flush_due.store(due, Ordering::Relaxed);
        if due == 0 {
            self.flush_now();
        }
    }

    /// Runs a flush whose time has come. The first batch to notice does it.
    #[inline]
    fn run_due_flush(&self) {
        let due = &self.store.flush_due;
        // Relaxed: see `flush_all`.
        let seen = due.load(Ordering::Relaxed);
        if seen != 0
            && State(seen).is_expired(self.now)
            && due.compare_exchange(seen, 0, Ordering::Relaxed, Ordering::Relaxed).is_ok()
        {
            self.flush_now();
        }
    }

    fn flush_now(&self) {
        let store = self.store;
        // Relaxed: the exchange below decides.
        let mut seen = store.flushes.load(Ordering::Relaxed);
        // Ends: a failure means that another flush came first, and a sweep makes room for many.
        let flushes = loop {
            // A stamp is used again only when nothing with it is left in the index.
            if seen + 1 - store.swept_flushes.load(Ordering::Acquire) >= FLUSH_STAMPS - 1 {
                self.sweep_flushed();
                seen = store.flushes.load(Ordering::Relaxed);
                continue;
            }
            // Release: with the Acquire in `Store::flush_stamp`, whoever sees a record stamped with the new number sees the flush (S5).
            match store.flushes.compare_exchange(seen, seen + 1, Ordering::AcqRel, Ordering::Relaxed) {
                Ok(_) => break seen + 1,
                Err(now) => seen = now,
            }
        };
        if flushes.is_multiple_of(FLUSH_STAMPS / 2) {
            self.sweep_flushed();
        }
    }

    /// Takes every flushed item out of the index, so that its stamp can be used again.
    #[cold]
    fn sweep_flushed(&self) {
        let view = self.view();
        // Acquire: records of earlier stamps are in the index, or will be found gone by whoever stores them.
        let flushes = self.store.flushes.load(Ordering::Acquire);
        let mut hits = Vec::new();
        let mut from = Some(0);
        while let Some(hash) = from {
            let next = view.store.table.visit_bucket(hash, view.guard, &mut hits);
            let all_done = hits.drain(..).all(|hit| {
                // SAFETY: found in the index under our guard.
                let record = unsafe { view.store.record(hit.payload()) };
                record.state().stamp() == view.store.flush_stamp() || view.unlink(Found { hit, record })
            });
            if all_done {
                from = next;
            }
        }
        // Release: after the removals.
        self.store.swept_flushes.fetch_max(flushes, Ordering::AcqRel);
    }
}

impl fmt::Debug for Batch<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Batch").field("now", &self.now).finish_non_exhaustive()
    }
}
