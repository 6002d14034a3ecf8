//! The ghosts of S3-FIFO: fingerprints of the keys that left the small queue last. A key that comes back while its ghost is there was evicted
//! too early, and goes to the main queue.
//!
//! A table of 64-byte buckets, one cache line each: a cursor and 31 fingerprints of 16 bits, written round and round, so that a bucket
//! forgets in the order of arrival and all together nearly do. 2 bytes a ghost. A wrong answer (another key of the same fingerprint: at most
//! 31 in 65 535) sends an item to the wrong queue and does no other harm; nor does a fingerprint that is lost when two threads
//! write one word.

use crate::log::zeroed::{Zero, ZeroedSlice};
use crate::sync::{AtomicU64, Ordering};

const WORDS: usize = 8;
const LANES: u64 = 4 * WORDS as u64;
/// Lane 0 is the cursor.
const GHOSTS: u64 = LANES - 1;

#[repr(align(64))]
struct Bucket([AtomicU64; WORDS]);

// SAFETY: atomics only, and zero is right: no fingerprint is 0.
unsafe impl Zero for Bucket {
    fn zero() -> Bucket {
        Bucket(std::array::from_fn(|_| AtomicU64::new(0)))
    }
}

/// The ghost table. Costs nothing until the first eviction.
pub(super) struct Ghosts {
    buckets: ZeroedSlice<Bucket>,
    /// Has there been an eviction? Spares look-ups a cache miss.
    is_in_use: AtomicU64,
}

impl Ghosts {
    /// A table of at most `bytes`.
    ///
    /// # Errors
    /// If the system has no address range of that size.
    pub(super) fn new(bytes: usize) -> std::io::Result<Ghosts> {
        let count = (bytes / size_of::<Bucket>()).max(1);
        // A power of two, rounded down.
        let count = 1 << count.ilog2();
        Ok(Ghosts { buckets: ZeroedSlice::new(count)?, is_in_use: AtomicU64::new(0) })
    }

    /// What the table takes once it is full.
    pub(super) fn bytes(&self) -> usize {
        self.buckets.len() * size_of::<Bucket>()
    }

    /// Is anything in it?
    pub(super) fn is_in_use(&self) -> bool {
        // Relaxed: a hint.
        self.is_in_use.load(Ordering::Relaxed) != 0
    }

    #[inline]
    fn bucket(&self, hash: u64) -> &Bucket {
        // Other bits than those of the fingerprint. The index takes its bucket from the top and so do not we: neighbours there are none here.
        &self.buckets[(hash >> 16) as usize & (self.buckets.len() - 1)]
    }

    /// Never 0.
    #[inline]
    fn fingerprint(hash: u64) -> u64 {
        (hash & 0xffff).max(1)
    }

    /// Was a key of this hash evicted not long ago? Cost: a cache line, once there has been an eviction.
    #[inline]
    pub(super) fn contains(&self, hash: u64) -> bool {
        self.is_in_use() && self.is_in_bucket(hash)
    }

    fn is_in_bucket(&self, hash: u64) -> bool {
        const ONES: u64 = 0x0001_0001_0001_0001;
        const TOPS: u64 = ONES << 15;
        let wanted = Self::fingerprint(hash) * ONES;
        self.bucket(hash).0.iter().enumerate().any(|(i, word)| {
            // Relaxed: fingerprints carry nothing else.
            let mut lanes = word.load(Ordering::Relaxed) ^ wanted;
            if i == 0 {
                // The cursor is no fingerprint.
                lanes |= 0xffff;
            }
            // A lane is 0 where the fingerprint is the wanted one. The lowest such lane is found exactly, which is all we ask.
            lanes.wrapping_sub(ONES) & !lanes & TOPS != 0
        })
    }

    /// Remembers a key that is evicted from the small queue. `items`: how many the cache holds; so many ghosts are kept, as far as the table goes.
    pub(super) fn insert(&self, hash: u64, items: usize) {
        if !self.is_in_use() {
            self.is_in_use.store(1, Ordering::Relaxed);
        }
        let ring = (items as u64 / self.buckets.len() as u64).clamp(1, GHOSTS);
        let bucket = &self.bucket(hash).0;
        // Relaxed loads and stores, not one step: see the module documentation.
        let first = bucket[0].load(Ordering::Relaxed);
        let cursor = first & 0xffff;
        let next = if cursor >= ring { 1 } else { cursor + 1 };
        bucket[0].store(first & !0xffff | next, Ordering::Relaxed);
        let (word, shift) = (&bucket[next as usize / 4], next % 4 * 16);
        let lanes = word.load(Ordering::Relaxed);
        word.store(lanes & !(0xffff << shift) | Self::fingerprint(hash) << shift, Ordering::Relaxed);
    }
}

#[cfg(all(test, not(crossbeam_loom)))]
mod tests {
    use super::*;
    use std::hash::{BuildHasher, RandomState};

    #[test]
    fn the_last_ones_are_remembered_and_few_others() {
        let ghosts = Ghosts::new(64 << 10).expect("there is memory");
        assert_eq!(ghosts.bytes(), 64 << 10);
        let hasher = RandomState::new();
        let (capacity, total) = (ghosts.buckets.len() as u64 * GHOSTS, 200_000_u64);
        assert!((0..1000).all(|key| !ghosts.contains(hasher.hash_one(key))), "an empty table knows nobody");
        for key in 0..total {
            ghosts.insert(hasher.hash_one(key), capacity as usize);
        }
        let known = |keys: std::ops::Range<u64>| {
            let len = keys.end - keys.start;
            keys.filter(|&key| ghosts.contains(hasher.hash_one(key))).count() as f64 / len as f64
        };
        let recent = known(total - capacity / 2..total);
        let older = known(0..total - 2 * capacity);
        assert!(recent > 0.98, "of the last half of a table {recent} are known");
        assert!(older < 0.01, "of those long gone {older} are known");
    }

    #[test]
    fn the_table_keeps_no_more_than_there_are_items() {
        let ghosts = Ghosts::new(64 << 10).expect("there is memory");
        let hasher = RandomState::new();
        let items = ghosts.buckets.len() * 4;
        for key in 0..200_000_u64 {
            ghosts.insert(hasher.hash_one(key), items);
        }
        let known = (0..200_000_u64).filter(|key| ghosts.contains(hasher.hash_one(key))).count();
        assert!((items / 2..2 * items).contains(&known), "{known} ghosts for {items} items");
    }
}
