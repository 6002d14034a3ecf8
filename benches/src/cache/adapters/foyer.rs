//! `foyer_memory::Cache`: 8 shards, a lock per shard; the in-memory part of foyer, without its disk.
//!
//! It hands out references to its entries, so values are boxed, not counted.

use crate::cache::{Cache, Direct, KEY_BYTES, Key, Room, copy};
use crate::hasher::{Hasher, hasher};
use foyer_memory::{CacheBuilder, EvictionConfig, LruConfig, S3FifoConfig};

type Inner = foyer_memory::Cache<Key, Box<[u8]>, Hasher>;

#[expect(clippy::borrowed_box, reason = "the weigher's signature is foyer's")]
fn with_room(room: Room, eviction: EvictionConfig) -> Inner {
    CacheBuilder::new(room.data_bytes())
        .with_eviction_config(eviction)
        .with_hash_builder(hasher())
        .with_weighter(|_: &Key, value: &Box<[u8]>| KEY_BYTES + value.len())
        .build()
}

#[inline]
fn get(cache: &Inner, key: &Key, value: &mut Vec<u8>) -> bool {
    cache.get(key).is_some_and(|found| {
        copy(found.value(), value);
        true
    })
}

/// With its default policy, an LRU that has a part for hot entries.
pub struct Foyer(Inner);

impl Cache for Foyer {
    type Handle<'a> = &'a Self;
    const EXPIRES: bool = false;

    fn with_room(room: Room) -> Self {
        Self(with_room(room, LruConfig::default().into()))
    }

    fn handle(&self) -> &Self {
        self
    }
}

impl Direct for Foyer {
    #[inline(always)]
    fn get(&self, key: &Key, value: &mut Vec<u8>) -> bool {
        get(&self.0, key, value)
    }

    #[inline(always)]
    fn set(&self, key: &Key, value: &[u8]) -> bool {
        self.0.insert(*key, value.into());
        true
    }
}

/// With S3-FIFO.
pub struct FoyerS3Fifo(Inner);

impl Cache for FoyerS3Fifo {
    type Handle<'a> = &'a Self;
    const EXPIRES: bool = false;

    fn with_room(room: Room) -> Self {
        Self(with_room(room, S3FifoConfig::default().into()))
    }

    fn handle(&self) -> &Self {
        self
    }
}

impl Direct for FoyerS3Fifo {
    #[inline(always)]
    fn get(&self, key: &Key, value: &mut Vec<u8>) -> bool {
        get(&self.0, key, value)
    }

    #[inline(always)]
    fn set(&self, key: &Key, value: &[u8]) -> bool {
        self.0.insert(*key, value.into());
        true
    }
}
