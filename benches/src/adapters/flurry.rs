//! `flurry::HashMap`: Java's ConcurrentHashMap in Rust. Reads take no lock, writes lock one bin; reclaimed by `seize`.

use crate::collection::{Collection, Handle};
use crate::hasher::{Hasher, hasher};

type Map = flurry::HashMap<u64, u64, Hasher>;

/// A guard per operation, as conc-map-bench uses it; default collector.
pub struct Flurry(Map);

impl Collection for Flurry {
    type Handle<'a> = &'a Map;

    fn with_capacity(capacity: usize) -> Self {
        Self(Map::with_capacity_and_hasher(capacity, hasher()))
    }

    fn handle(&self) -> Self::Handle<'_> {
        &self.0
    }
}

impl Handle for &Map {
    #[inline(always)]
    fn get(&mut self, key: u64) -> Option<u64> {
        self.pin().get(&key).copied()
    }

    #[inline]
    fn insert(&mut self, key: u64, value: u64) -> bool {
        self.pin().insert(key, value).is_none()
    }

    #[inline]
    fn remove(&mut self, key: u64) -> bool {
        self.pin().remove(&key).is_some()
    }

    #[inline]
    fn update(&mut self, key: u64, change: impl Fn(u64) -> u64) -> bool {
        self.pin().compute_if_present(&key, |_, value| Some(change(*value))).is_some()
    }
}

/// One guard for a batch of operations.
pub struct FlurryBatched(Map);

/// A map and the guard of the current batch, which only [`Handle::rest`] takes away for a moment.
pub struct Batch<'a> {
    map: &'a Map,
    pinned: Option<Pinned<'a>>,
}

type Pinned<'a> = flurry::HashMapRef<'a, u64, u64, Hasher>;

impl<'a> Batch<'a> {
    #[inline]
    fn pinned(&self) -> &Pinned<'a> {
        self.pinned.as_ref().expect("a batch is pinned")
    }
}

impl Collection for FlurryBatched {
    type Handle<'a> = Batch<'a>;

    fn with_capacity(capacity: usize) -> Self {
        Self(Map::with_capacity_and_hasher(capacity, hasher()))
    }

    fn handle(&self) -> Self::Handle<'_> {
        Batch { map: &self.0, pinned: Some(self.0.pin()) }
    }
}

impl Handle for Batch<'_> {
    #[inline(always)]
    fn get(&mut self, key: u64) -> Option<u64> {
        self.pinned().get(&key).copied()
    }

    #[inline]
    fn insert(&mut self, key: u64, value: u64) -> bool {
        self.pinned().insert(key, value).is_none()
    }

    #[inline]
    fn remove(&mut self, key: u64) -> bool {
        self.pinned().remove(&key).is_some()
    }

    #[inline]
    fn update(&mut self, key: u64, change: impl Fn(u64) -> u64) -> bool {
        self.pinned().compute_if_present(&key, |_, value| Some(change(*value))).is_some()
    }

    fn rest(&mut self) {
        // The old guard goes before the new one comes: two at once would be one that never ends.
        self.pinned = None;
        self.pinned = Some(self.map.pin());
    }

    fn leave(&mut self) {
        self.pinned = None;
    }
}
