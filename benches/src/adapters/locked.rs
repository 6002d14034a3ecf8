//! The standard library's `HashMap` behind the standard library's `RwLock`: whole, and split into shards.

use crate::collection::{Collection, Handle};
use crate::hasher::{Hasher, hasher};
use crossbeam_utils::CachePadded;
use std::collections::HashMap;
use std::hash::BuildHasher;
use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

type Locked = RwLock<HashMap<u64, u64, Hasher>>;

// A panic in one thread fails the whole run; until then a poisoned lock is as good as any.
#[inline]
fn read(lock: &Locked) -> RwLockReadGuard<'_, HashMap<u64, u64, Hasher>> {
    lock.read().unwrap_or_else(PoisonError::into_inner)
}

#[inline]
fn write(lock: &Locked) -> RwLockWriteGuard<'_, HashMap<u64, u64, Hasher>> {
    lock.write().unwrap_or_else(PoisonError::into_inner)
}

#[inline]
fn update(lock: &Locked, key: u64, change: impl Fn(u64) -> u64) -> bool {
    match write(lock).get_mut(&key) {
        Some(value) => {
            *value = change(*value);
            true
        }
        None => false,
    }
}

/// One lock for everything: what one writes first, and the least a concurrent map must beat.
pub struct RwLockMap(Locked);

impl Collection for RwLockMap {
    type Handle<'a> = &'a RwLockMap;

    fn with_capacity(capacity: usize) -> Self {
        Self(RwLock::new(HashMap::with_capacity_and_hasher(capacity, hasher())))
    }

    fn handle(&self) -> Self::Handle<'_> {
        self
    }
}

impl Handle for &RwLockMap {
    #[inline(always)]
    fn get(&mut self, key: u64) -> Option<u64> {
        read(&self.0).get(&key).copied()
    }

    #[inline]
    fn insert(&mut self, key: u64, value: u64) -> bool {
        write(&self.0).insert(key, value).is_none()
    }

    #[inline]
    fn remove(&mut self, key: u64) -> bool {
        write(&self.0).remove(&key).is_some()
    }

    #[inline]
    fn update(&mut self, key: u64, change: impl Fn(u64) -> u64) -> bool {
        update(&self.0, key, change)
    }
}

/// 64 padded locks, chosen by the hash's middle bits: what one writes second. The key is hashed twice, once for the
/// shard and once inside it, because the standard map offers no other way.
pub struct ShardedRwLockMap {
    shards: Box<[CachePadded<Locked>]>,
    hasher: Hasher,
}

impl ShardedRwLockMap {
    /// A power of two well above the cores of the machines this runs on.
    const SHARDS: usize = 64;

    #[inline]
    fn shard(&self, key: u64) -> &Locked {
        // Bits 40-45: the standard map uses the lowest bits for the bucket and the highest seven for the tag.
        let at = (BuildHasher::hash_one(&self.hasher, key) >> 40) as usize % Self::SHARDS;
        &self.shards[at]
    }
}

impl Collection for ShardedRwLockMap {
    type Handle<'a> = &'a ShardedRwLockMap;

    fn with_capacity(capacity: usize) -> Self {
        Self {
            shards: (0..Self::SHARDS)
                .map(|_| {
                    CachePadded::new(RwLock::new(HashMap::with_capacity_and_hasher(
                        capacity.div_ceil(Self::SHARDS),
                        hasher(),
                    )))
                })
                .collect(),
            hasher: hasher(),
        }
    }

    fn handle(&self) -> Self::Handle<'_> {
        self
    }
}

impl Handle for &ShardedRwLockMap {
    #[inline(always)]
    fn get(&mut self, key: u64) -> Option<u64> {
        read(self.shard(key)).get(&key).copied()
    }

    #[inline]
    fn insert(&mut self, key: u64, value: u64) -> bool {
        write(self.shard(key)).insert(key, value).is_none()
    }

    #[inline]
    fn remove(&mut self, key: u64) -> bool {
        write(self.shard(key)).remove(&key).is_some()
    }

    #[inline]
    fn update(&mut self, key: u64, change: impl Fn(u64) -> u64) -> bool {
        update(self.shard(key), key, change)
    }
}
