//! `quick_cache::sync::Cache`: Clock-PRO with a ghost list, in shards, a lock per shard.

use crate::cache::{Cache, Direct, KEY_BYTES, Key, Room, copy};
use crate::hasher::{Hasher, hasher};
use quick_cache::Weighter;
use quick_cache::sync::DefaultLifecycle;
use std::sync::Arc;

/// Keys and values in bytes.
#[derive(Clone)]
pub struct Bytes;

impl Weighter<Key, Arc<[u8]>> for Bytes {
    fn weight(&self, _key: &Key, value: &Arc<[u8]>) -> u64 {
        (KEY_BYTES + value.len()) as u64
    }
}

/// See the module.
pub struct QuickCache(quick_cache::sync::Cache<Key, Arc<[u8]>, Bytes, Hasher>);

impl Cache for QuickCache {
    type Handle<'a> = &'a Self;
    const EXPIRES: bool = false;

    fn with_room(room: Room) -> Self {
        let bytes = room.data_bytes() as u64;
        Self(quick_cache::sync::Cache::with(room.entries, bytes, Bytes, hasher(), DefaultLifecycle::default()))
    }

    fn handle(&self) -> &Self {
        self
    }
}

impl Direct for QuickCache {
    #[inline(always)]
    fn get(&self, key: &Key, value: &mut Vec<u8>) -> bool {
        self.0.get(key).is_some_and(|found| {
            copy(&found, value);
            true
        })
    }

    #[inline(always)]
    fn set(&self, key: &Key, value: &[u8]) -> bool {
        self.0.insert(*key, value.into());
        true
    }
}
