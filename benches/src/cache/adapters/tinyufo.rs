//! `tinyufo::TinyUfo`: S3-FIFO queues behind a TinyLFU admission filter, on a lock-free map (flurry).
//!
//! It knows keys by their 64-bit hash alone, made by its own ahash, and weighs an entry by 16 bits.

use crate::cache::{Cache, Direct, KEY_BYTES, Key, Room, copy};
use std::sync::Arc;

/// See the module.
pub struct TinyUfo(tinyufo::TinyUfo<Key, Arc<[u8]>>);

impl Cache for TinyUfo {
    type Handle<'a> = &'a Self;
    const EXPIRES: bool = false;

    fn with_room(room: Room) -> Self {
        Self(tinyufo::TinyUfo::new(room.data_bytes(), room.entries))
    }

    fn handle(&self) -> &Self {
        self
    }
}

impl Direct for TinyUfo {
    #[inline(always)]
    fn get(&self, key: &Key, value: &mut Vec<u8>) -> bool {
        self.0.get(key).is_some_and(|found| {
            copy(&found, value);
            true
        })
    }

    #[inline(always)]
    fn set(&self, key: &Key, value: &[u8]) -> bool {
        let weight = u16::try_from(KEY_BYTES + value.len()).expect("entries of at most 64 KiB");
        // What is evicted is dropped here, as the others drop it inside.
        drop(self.0.put(*key, value.into(), weight));
        true
    }
}
