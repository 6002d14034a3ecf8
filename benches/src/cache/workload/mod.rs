//! What is done to a cache. Keys that a get does not find are set next, as by a client that looks aside; such sets count as part
//! of the get. Every value that is read is checked.
//!
//! | workload | what happens | room |
//! |---|---|---|
//! | `cache-zipf-8b`, `-100b`, `-1k`, `-8k` | 30 gets to 1 set, shared keys, Zipf 0.99, values of that length | twice the keys |
//! | `cache-zipf-1-1` | 1 get to 1 set, values of 100 B | twice the keys |
//! | `cache-hot-read`, `cache-hot-write` | all threads get, or set, one key | twice the keys |
//! | `cache-churn` | new keys without end: 1 set, 1 get of a recent one | a tenth of the keys |
//! | `cache-ttl` | the same, entries live a second | four times the keys |
//! | `cache-hits-0.9-1%` to `-1.1-10%` | look-aside gets, shared keys, that Zipf exponent, values of 1000 B | that share of the keys |
//! | `cache-memory` | one thread sets new keys; resident bytes per entry against their number | all of them |

mod churn;
mod memory;
mod popular;

use super::{Cache, KEY_BYTES};
use crate::measure::Sample;
use crate::workload::Setup;

/// Exponent of a Zipf distribution.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exponent {
    /// 0.9
    Z09,
    /// 1.0
    Z10,
    /// 1.1
    Z11,
}

impl Exponent {
    fn value(self) -> f64 {
        match self {
            Self::Z09 => 0.9,
            Self::Z10 => 1.0,
            Self::Z11 => 1.1,
        }
    }
}

/// Entries that a cache has room for, as a share of the keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Capacity {
    /// 1 %
    Percent1,
    /// 10 %
    Percent10,
}

impl Capacity {
    fn of(self, keys: usize) -> usize {
        match self {
            Self::Percent1 => keys / 100,
            Self::Percent10 => keys / 10,
        }
    }
}

/// What is done to a cache; see the table above and each variant's limits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CacheWorkload {
    /// The popular head under 30 gets to 1 set, values of 8 B. Cannot see: what eviction costs, since there is room; a cache that
    /// forgets nevertheless shows it in its hits.
    Zipf8,
    /// The same with values of 100 B.
    Zipf100,
    /// The same with values of 1 KiB: copying begins to count.
    Zipf1k,
    /// The same with values of 8 KiB, and fewer keys. Copying is most of it.
    Zipf8k,
    /// As many sets as gets: allocation or log, and contention for what is popular.
    ZipfWrites,
    /// One key read by all: what a hit writes to shared memory, policy included. Cannot see: cache misses.
    HotRead,
    /// One key set by all.
    HotWrite,
    /// Every set evicts. Cannot see: whether the right entry is evicted (`cache-hits` can).
    Churn,
    /// Sets of entries that live a second. The memory that is held beside the entries of the last second shows how soon
    /// expired ones are let go.
    Ttl,
    /// Hit ratio, and the throughput at that ratio with misses set. The clock of the policy is the number of requests: a fast
    /// cache sees more of the distribution in the same time, which after the warm-up changes nothing.
    ///
    /// Below a million keys, 1 % is a few megabytes, of which caches made of segments have few; below 100 thousand, our least limit
    /// of a megabyte holds more than its share.
    Hits(Exponent, Capacity),
    /// Resident memory beyond keys and values, for each entry.
    Memory,
}

impl CacheWorkload {
    /// Its name on the command line and in results.
    pub fn name(self) -> &'static str {
        match self {
            Self::Zipf8 => "cache-zipf-8b",
            Self::Zipf100 => "cache-zipf-100b",
            Self::Zipf1k => "cache-zipf-1k",
            Self::Zipf8k => "cache-zipf-8k",
            Self::ZipfWrites => "cache-zipf-1-1",
            Self::HotRead => "cache-hot-read",
            Self::HotWrite => "cache-hot-write",
            Self::Churn => "cache-churn",
            Self::Ttl => "cache-ttl",
            Self::Hits(Exponent::Z09, Capacity::Percent1) => "cache-hits-0.9-1%",
            Self::Hits(Exponent::Z10, Capacity::Percent1) => "cache-hits-1.0-1%",
            Self::Hits(Exponent::Z11, Capacity::Percent1) => "cache-hits-1.1-1%",
            Self::Hits(Exponent::Z09, Capacity::Percent10) => "cache-hits-0.9-10%",
            Self::Hits(Exponent::Z10, Capacity::Percent10) => "cache-hits-1.0-10%",
            Self::Hits(Exponent::Z11, Capacity::Percent10) => "cache-hits-1.1-10%",
            Self::Memory => "cache-memory",
        }
    }

    /// What it does, in a line for a report.
    pub fn about(self) -> &'static str {
        match self {
            Self::Zipf8 => "30 gets to 1 set; Zipf 0.99, values of 8 B, room for all",
            Self::Zipf100 => "30 gets to 1 set; Zipf 0.99, values of 100 B, room for all",
            Self::Zipf1k => "30 gets to 1 set; Zipf 0.99, values of 1 KiB, room for all",
            Self::Zipf8k => "30 gets to 1 set; Zipf 0.99, values of 8 KiB, room for all",
            Self::ZipfWrites => "1 get to 1 set; Zipf 0.99, values of 100 B, room for all",
            Self::HotRead => "all threads get one key, values of 100 B",
            Self::HotWrite => "all threads set one key, values of 100 B",
            Self::Churn => "1 set of a new key to 1 get of a recent one, values of 100 B, always full",
            Self::Ttl => "the same with entries that live a second, and room for all that live",
            Self::Hits(Exponent::Z09, Capacity::Percent1) => "look-aside, Zipf 0.9, room for 1 % of the keys",
            Self::Hits(Exponent::Z10, Capacity::Percent1) => "look-aside, Zipf 1.0, room for 1 % of the keys",
            Self::Hits(Exponent::Z11, Capacity::Percent1) => "look-aside, Zipf 1.1, room for 1 % of the keys",
            Self::Hits(Exponent::Z09, Capacity::Percent10) => "look-aside, Zipf 0.9, room for 10 % of the keys",
            Self::Hits(Exponent::Z10, Capacity::Percent10) => "look-aside, Zipf 1.0, room for 10 % of the keys",
            Self::Hits(Exponent::Z11, Capacity::Percent10) => "look-aside, Zipf 1.1, room for 10 % of the keys",
            Self::Memory => "resident bytes per entry beyond key and value (100 B) while one thread sets new keys",
        }
    }

    /// Whether only caches whose entries expire can take it.
    pub fn needs_expiry(self) -> bool {
        self == Self::Ttl
    }
}

/// Measures one workload on a fresh cache, once.
///
/// # Panics
/// If the cache answers wrongly.
pub fn run<C: Cache>(workload: CacheWorkload, setup: &Setup) -> Sample {
    match workload {
        CacheWorkload::Zipf8 => popular::zipf::<C>(setup, 30, 8),
        CacheWorkload::Zipf100 => popular::zipf::<C>(setup, 30, 100),
        CacheWorkload::Zipf1k => popular::zipf::<C>(setup, 30, 1 << 10),
        CacheWorkload::Zipf8k => popular::zipf::<C>(setup, 30, 8 << 10),
        CacheWorkload::ZipfWrites => popular::zipf::<C>(setup, 1, 100),
        CacheWorkload::HotRead => popular::hot::<C>(setup, usize::MAX),
        CacheWorkload::HotWrite => popular::hot::<C>(setup, 0),
        CacheWorkload::Churn => churn::churn::<C>(setup),
        CacheWorkload::Ttl => churn::ttl::<C>(setup),
        CacheWorkload::Hits(exponent, capacity) => popular::hits::<C>(setup, exponent.value(), capacity),
        CacheWorkload::Memory => memory::run::<C>(setup),
    }
}

/// Keys whose data is at most a quarter of a gigabyte.
fn keys_within(keys: usize, value_bytes: usize) -> usize {
    keys.min((256 << 20) / (KEY_BYTES + value_bytes))
}
