//! What happens in a store without being asked for: evictions, for whoever watches them.
//!
//! Nobody watches as a rule, and then an eviction costs one load of a flag beside its counters. While somebody does, each eviction
//! leaves a small [`Eviction`] in a bounded queue; what does not fit is counted and lost, so that a slow watcher costs
//! neither time nor memory.

use std::sync::OnceLock;
// No model is about watching: see `sync`.
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};

use concurrent_queue::ConcurrentQueue;

use super::stats::Counter;
use super::view::View;
use super::write::value_len_of;
use super::{Batch, Expiry, Gone, Store};
use crate::clock::Now;
use crate::log::record::{Record, State};

/// Evictions that wait to be collected. With the longest keys that is 1.2 MiB, which is outside the store's limit.
const QUEUE_LEN: usize = 4096;

/// A live item that was dropped to make room.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Eviction {
    /// Its key.
    pub key: Box<[u8]>,
    /// Had it been fetched since it was stored?
    pub fetched: bool,
    /// Seconds that were left to it, if it was to end.
    pub remaining_s: Option<u64>,
    /// Whole seconds since its last access.
    pub idle_s: u64,
    /// Bytes of its value.
    pub value_len: usize,
}

/// The store's side of watching.
#[derive(Debug, Default)]
pub(super) struct Events {
    watched: AtomicBool,
    evictions: OnceLock<ConcurrentQueue<Eviction>>,
    lost: AtomicU64,
    /// How long the item that was evicted last had not been accessed.
    last_idle_s: AtomicU64,
}

impl Store {
    /// Begins or ends the watching of evictions.
    pub fn watch_evictions(&self, watched: bool) {
        // Relaxed, here and below: a watcher sees what comes soon after; the queue hands its records over by itself.
        self.events.watched.store(watched, Relaxed);
    }

    /// Hands over the evictions since the last call, and says how many were lost in between because they were too many.
    pub fn drain_evictions(&self, mut each: impl FnMut(Eviction)) -> u64 {
        if let Some(queue) = self.events.evictions.get() {
            queue.try_iter().take(QUEUE_LEN).for_each(&mut each);
        }
        if self.events.lost.load(Relaxed) == 0 { 0 } else { self.events.lost.swap(0, Relaxed) }
    }

    /// Seconds for which the item that was evicted last had not been accessed; 0 if none has been.
    #[must_use]
    pub fn last_eviction_idle_s(&self) -> u64 {
        self.events.last_idle_s.load(Relaxed)
    }

    /// Books that a live record, which has just left the index, was evicted. For the cleaner, under the guard it works with.
    pub(super) fn note_eviction(&self, record: Record<'_>, state: State, now: Now, stripe: usize) {
        let count = |counter: Counter| self.counters.cells.add(stripe, counter as usize, 1);
        count(Counter::Evictions);
        if !state.has(State::FETCHED) {
            count(Counter::EvictedUnfetched);
        }
        if state.expiry() != Expiry::Never {
            count(Counter::EvictedNonzero);
        }
        let idle_s = (now.mono_ms / 1000).saturating_sub(u64::from(record.last_access_s()));
        self.events.last_idle_s.store(idle_s, Relaxed);
        if self.events.watched.load(Relaxed) {
            self.report_eviction(record, state, now, idle_s);
        }
    }

    #[cold]
    fn report_eviction(&self, record: Record<'_>, state: State, now: Now, idle_s: u64) {
        let queue = self.events.evictions.get_or_init(|| ConcurrentQueue::bounded(QUEUE_LEN));
        // The record's reference to a large value is given up through the epoch, after the caller's guard (S4).
        let value_len = value_len_of(record);
        let eviction = Eviction {
            key: record.key().into(),
            fetched: state.has(State::FETCHED),
            remaining_s: state.expiry().remaining_s(now),
            idle_s,
            value_len,
        };
        if queue.push(eviction).is_err() {
            self.events.lost.fetch_add(1, Relaxed);
        }
    }
}

/// What a look-up would come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seen {
    /// An item.
    Found {
        /// Bytes of its value.
        value_len: usize,
        /// When it ends.
        expiry: Expiry,
    },
    /// Nothing.
    NotFound,
    /// An item that has expired.
    Expired,
    /// An item that has been flushed.
    Flushed,
}

impl Batch<'_> {
    /// Looks a key up for an observer: no mark, no count, and what is gone stays where it is.
    #[must_use]
    pub fn peek(&self, key: &[u8], hash: u64) -> Seen {
        let view: View<'_> = self.view();
        let Some(found) = view.find(key, hash) else { return Seen::NotFound };
        let state = found.record.state();
        match view.store.gone(state, view.now) {
            Some(Gone::Expired) => Seen::Expired,
            Some(Gone::Flushed) => Seen::Flushed,
            None => {
                let item = super::Item::new(view.store, found.hit.payload(), found.record);
                Seen::Found { value_len: item.value().len(), expiry: state.expiry() }
            }
        }
    }
}
