//! `segcache::Segcache`: Pelikan's cache as a library, records in segments that share a time to live. Its hasher is its own ahash.

use crate::cache::{Cache, Direct, KEY_BYTES, Key, Room, copy};
use segcache::{Policy, Segcache as Inner};
use std::time::Duration;

/// Header of an item.
const OVERHEAD_BYTES: usize = 5;
/// Items begin at multiples of this.
const ALIGNMENT: usize = 8;
/// Segments that a heap is cut into, unless they would be larger or smaller than these.
const SEGMENTS: usize = 128;
const SEGMENTS_MIN: usize = 16;
const SEGMENT_BYTES: (usize, usize) = (64 << 10, 1 << 20);

fn with_room(room: Room, policy: Policy) -> Inner {
    let heap = room.entries * (KEY_BYTES + room.value_bytes + OVERHEAD_BYTES).next_multiple_of(ALIGNMENT);
    let segment = (heap / SEGMENTS).next_power_of_two().clamp(SEGMENT_BYTES.0, SEGMENT_BYTES.1);
    // Seven eighths of the table's words hold items; half as many again as entries keeps buckets from filling up.
    let words = (room.entries * 3 / 2 * 8 / 7).next_power_of_two();
    let hash_power = words.trailing_zeros().max(7) as u8;
    Inner::builder()
        .heap_size(heap.next_multiple_of(segment).max(SEGMENTS_MIN * segment))
        .segment_size(segment as i32)
        .hash_power(hash_power)
        .eviction(policy)
        .build()
        .expect("memory for the heap")
}

#[inline]
fn get(cache: &Inner, key: &Key, value: &mut Vec<u8>) -> bool {
    cache.get(key).is_some_and(|found| {
        let segcache::Value::Bytes(bytes) = found.value() else {
            return false;
        };
        copy(bytes, value);
        true
    })
}

#[inline]
fn set(cache: &Inner, key: &Key, value: &[u8], ttl: Option<Duration>) -> bool {
    let stored = cache.insert(key, value, None, ttl.unwrap_or(Duration::ZERO)).is_ok();
    if !stored {
        // The old value must not survive.
        cache.delete(key);
    }
    stored
}

/// Evicts by merging segments, as its paper does.
pub struct Segcache {
    inner: Inner,
    ttl: Option<Duration>,
}

impl Cache for Segcache {
    type Handle<'a> = &'a Self;
    const EXPIRES: bool = true;

    fn with_room(room: Room) -> Self {
        Self { inner: with_room(room, Policy::Merge { max: 8, merge: 4, compact: 2 }), ttl: room.ttl }
    }

    fn handle(&self) -> &Self {
        self
    }

    fn maintain(&self) {
        self.inner.expire();
    }
}

impl Direct for Segcache {
    #[inline(always)]
    fn get(&self, key: &Key, value: &mut Vec<u8>) -> bool {
        get(&self.inner, key, value)
    }

    #[inline(always)]
    fn set(&self, key: &Key, value: &[u8]) -> bool {
        set(&self.inner, key, value, self.ttl)
    }
}

/// Evicts by S3-FIFO over segments.
pub struct SegcacheS3Fifo {
    inner: Inner,
    ttl: Option<Duration>,
}

impl Cache for SegcacheS3Fifo {
    type Handle<'a> = &'a Self;
    const EXPIRES: bool = true;

    fn with_room(room: Room) -> Self {
        Self { inner: with_room(room, Policy::S3Fifo { admission_ratio: 0.1 }), ttl: room.ttl }
    }

    fn handle(&self) -> &Self {
        self
    }

    fn maintain(&self) {
        self.inner.expire();
    }
}

impl Direct for SegcacheS3Fifo {
    #[inline(always)]
    fn get(&self, key: &Key, value: &mut Vec<u8>) -> bool {
        get(&self.inner, key, value)
    }

    #[inline(always)]
    fn set(&self, key: &Key, value: &[u8]) -> bool {
        set(&self.inner, key, value, self.ttl)
    }
}
