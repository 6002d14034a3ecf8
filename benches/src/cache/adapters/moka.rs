//! `moka::sync::Cache`: W-TinyLFU; reads and writes are noted in channels and applied to the policy later, by whoever comes.

use crate::cache::{Cache, Direct, KEY_BYTES, Key, Room, copy};
use crate::hasher::{Hasher, hasher};
use std::sync::Arc;

/// See the module.
pub struct Moka(moka::sync::Cache<Key, Arc<[u8]>, Hasher>);

impl Cache for Moka {
    type Handle<'a> = &'a Self;
    const EXPIRES: bool = true;

    fn with_room(room: Room) -> Self {
        let builder = moka::sync::Cache::builder()
            .max_capacity(room.data_bytes() as u64)
            .initial_capacity(room.entries)
            .weigher(|_: &Key, value: &Arc<[u8]>| (KEY_BYTES + value.len()) as u32);
        let builder = match room.ttl {
            Some(ttl) => builder.time_to_live(ttl),
            None => builder,
        };
        Self(builder.build_with_hasher(hasher()))
    }

    fn handle(&self) -> &Self {
        self
    }

    fn maintain(&self) {
        self.0.run_pending_tasks();
    }
}

impl Direct for Moka {
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
