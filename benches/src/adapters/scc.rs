//! `scc`: buckets of 32 entries, each with its own lock (`HashMap`), or with reads that take none (`HashIndex`).

use crate::collection::{Collection, Handle};
use crate::hasher::{Hasher, hasher};

/// `scc::HashMap`: reads and writes lock one bucket, shared or exclusive.
pub struct SccMap(scc::HashMap<u64, u64, Hasher>);

impl Collection for SccMap {
    type Handle<'a> = &'a SccMap;

    fn with_capacity(capacity: usize) -> Self {
        Self(scc::HashMap::with_capacity_and_hasher(capacity, hasher()))
    }

    fn handle(&self) -> Self::Handle<'_> {
        self
    }
}

impl Handle for &SccMap {
    #[inline(always)]
    fn get(&mut self, key: u64) -> Option<u64> {
        self.0.read_sync(&key, |_, value| *value)
    }

    #[inline]
    fn insert(&mut self, key: u64, value: u64) -> bool {
        self.0.upsert_sync(key, value).is_none()
    }

    #[inline]
    fn remove(&mut self, key: u64) -> bool {
        self.0.remove_sync(&key).is_some()
    }

    #[inline]
    fn update(&mut self, key: u64, change: impl Fn(u64) -> u64) -> bool {
        self.0.update_sync(&key, |_, value| *value = change(*value)).is_some()
    }
}

/// `scc::HashIndex`: reads take no lock; an update writes a new entry and marks the old one removed.
///
/// `peek_with` alone can miss a key that is there throughout: it looks at the new entry's slot before the update writes
/// it and at the old one's after (seen in `zipf-30-1` with version 3.8.8). So
/// a miss is confirmed by `read_sync`, which locks the bucket. Hits never lock.
pub struct SccIndex(scc::HashIndex<u64, u64, Hasher>);

impl Collection for SccIndex {
    type Handle<'a> = &'a SccIndex;

    fn with_capacity(capacity: usize) -> Self {
        Self(scc::HashIndex::with_capacity_and_hasher(capacity, hasher()))
    }

    fn handle(&self) -> Self::Handle<'_> {
        self
    }
}

impl SccIndex {
    #[cold]
    fn read_locked(&self, key: u64) -> Option<u64> {
        self.0.read_sync(&key, |_, value| *value)
    }
}

impl Handle for &SccIndex {
    #[inline(always)]
    fn get(&mut self, key: u64) -> Option<u64> {
        match self.0.peek_with(&key, |_, value| *value) {
            Some(value) => Some(value),
            None => self.read_locked(key),
        }
    }

    #[inline]
    fn insert(&mut self, key: u64, value: u64) -> bool {
        match self.0.entry_sync(key) {
            scc::hash_index::Entry::Occupied(mut entry) => {
                entry.update(value);
                false
            }
            scc::hash_index::Entry::Vacant(entry) => {
                entry.insert_entry(value);
                true
            }
        }
    }

    #[inline]
    fn remove(&mut self, key: u64) -> bool {
        self.0.remove_sync(&key)
    }

    #[inline]
    fn update(&mut self, key: u64, change: impl Fn(u64) -> u64) -> bool {
        match self.0.get_sync(&key) {
            Some(mut entry) => {
                let value = change(*entry.get());
                entry.update(value);
                true
            }
            None => false,
        }
    }
}
