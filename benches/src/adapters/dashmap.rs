//! `dashmap::DashMap`: hashbrown tables in shards, each behind a read-write lock.

use crate::collection::{Collection, Handle};
use crate::hasher::{Hasher, hasher};

/// The map as its documentation uses it; the number of shards is its default (four per core, rounded up to a power of
/// two).
pub struct DashMap(dashmap::DashMap<u64, u64, Hasher>);

impl Collection for DashMap {
    type Handle<'a> = &'a DashMap;

    fn with_capacity(capacity: usize) -> Self {
        Self(dashmap::DashMap::with_capacity_and_hasher(capacity, hasher()))
    }

    fn handle(&self) -> Self::Handle<'_> {
        self
    }
}

impl Handle for &DashMap {
    #[inline(always)]
    fn get(&mut self, key: u64) -> Option<u64> {
        self.0.get(&key).map(|value| *value)
    }

    #[inline]
    fn insert(&mut self, key: u64, value: u64) -> bool {
        self.0.insert(key, value).is_none()
    }

    #[inline]
    fn remove(&mut self, key: u64) -> bool {
        self.0.remove(&key).is_some()
    }

    #[inline]
    fn update(&mut self, key: u64, change: impl Fn(u64) -> u64) -> bool {
        match self.0.get_mut(&key) {
            Some(mut value) => {
                *value = change(*value);
                true
            }
            None => false,
        }
    }
}
