//! What is done to a map.
//!
//! | workload | per 100 operations, or what happens | keys |
//! |---|---|---|
//! | `read-heavy` | 98 get, 1 insert, 1 remove | each thread its own, uniform |
//! | `exchange` | 10 get, 40 insert, 40 remove, 10 update | each thread its own, uniform |
//! | `rapid-grow` | 5 get, 80 insert, 5 remove, 10 update, from an empty map without reserved room | each thread its own |
//! | `rapid-grow-reserved` | the same, with room for all reserved | each thread its own |
//! | `zipf-30-1`, `zipf-1-1` | get and set (an insert that replaces), 30:1 and 1:1 | shared, Zipf 0.99 |
//! | `hot-read`, `hot-write` | every get, every update is of one key | shared, one |
//! | `growth` | inserts from 0 to `grow_keys`, each one timed | each thread its own |
//! | `stalled-reads`, `stalled-writes` | one thread stops inside its update again and again; the others get, or update | shared, uniform |
//! | `memory` | one thread inserts; resident bytes per entry against their number | one thread's |
//! | `garbage`, `garbage-stalled` | exchange; bytes beyond those at its start, over time; without and with a stopped thread | each thread its own, uniform |
//!
//! Workloads for caches are in [`crate::cache::workload`].
//!
//! The first three are the mixes of conc-map-bench, and so is the handling of keys: every thread inserts new keys of
//! its own lane, removes its oldest, and gets and updates between them, so that the map's size is constant where the
//! mix is balanced. The order of operations is one shuffle of 100, repeated. What differs from conc-map-bench: keys are
//! computed, not read from arrays; a get or update is of a live key in `hit_percent` of cases (there: as often as live
//! keys are among the prepared ones) and picks among them at random; runs last a time, not a number of operations,
//! except where the map grows; and 1 million entries are the default, not 25 million.

mod garbage;
mod growth;
mod hot;
mod memory;
mod mix;
mod stalled;
mod zipf;

use crate::cache::workload::{CacheWorkload, Capacity, Exponent};
use crate::collection::Collection;
use crate::machine::back_memory;
use crate::measure::Sample;
use std::time::Duration;

/// The sizes of a run.
#[derive(Clone, Debug)]
pub struct Setup {
    /// Threads that work on the map.
    pub threads: usize,
    /// Entries in the map before measurement.
    pub keys: usize,
    /// Entries inserted where the map grows.
    pub grow_keys: usize,
    /// How long a timed workload runs.
    pub duration: Duration,
    /// How many of 100 gets and updates ask for a key that is there.
    pub hit_percent: u64,
    /// Seeds every random choice.
    pub seed: u64,
}

/// More than any map here takes for an entry while it grows.
const GROWTH_BYTES_PER_KEY: usize = 256;

impl Default for Setup {
    fn default() -> Self {
        Self {
            threads: 2,
            keys: 1_000_000,
            grow_keys: 4_000_000,
            duration: Duration::from_secs(2),
            hit_percent: 90,
            seed: 42,
        }
    }
}

impl Setup {
    /// Room to reserve for the resident keys: they fill three quarters of it, as in conc-map-bench.
    fn capacity(&self) -> usize {
        self.keys.div_ceil(3) * 4
    }

    /// One thread's share of the resident keys.
    fn keys_per_thread(&self) -> u64 {
        (self.keys / self.threads).max(1) as u64
    }

    /// Has the memory backed that a map may take while it grows.
    fn back_growth(&self) {
        back_memory(self.grow_keys * GROWTH_BYTES_PER_KEY);
    }

    /// One thread's share of the keys that are inserted where the map grows.
    fn grow_keys_per_thread(&self) -> u64 {
        (self.grow_keys / self.threads).max(1) as u64
    }
}

/// What is done to a map or a cache; see the table above and each variant's limits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Workload {
    /// Look-ups with a trickle of change. Cannot see: contention for a key (threads' keys are their own), latency.
    ReadHeavy,
    /// Insertion and removal at constant size: allocation, reclamation and, in open addressing, tombstones. Cannot see:
    /// contention for a key, and what unreclaimed memory piles up meanwhile (`garbage` can).
    Exchange,
    /// Growth by mostly inserts, resizes included. A run ends with `grow_keys` inserts, so that all maps reach the same
    /// size. Cannot see: how unevenly the resize is spread over the inserts (`growth` can).
    RapidGrow,
    /// The same with all room reserved, which is what conc-map-bench's mix of this name does. Cannot see: resizes.
    RapidGrowReserved,
    /// A popular head that stays in the caches, rarely written. Cannot see: misses of the map (every key is there).
    ZipfReads,
    /// The same head under as many sets as gets: contention for keys, buckets and shards.
    ZipfWrites,
    /// One key read by all: what a read writes to shared memory (a lock's word, a count) shows here and nowhere as
    /// clearly. Cannot see: cache misses of the table.
    HotRead,
    /// One key updated by all. Every map serializes this; the figure is the price of losing the race.
    HotWrite,
    /// The time of each insert while the map grows from empty. The clock's own cost, about 25 ns, is in every figure,
    /// and a thread taken off its core counts as a slow insert: compare the medians of the maxima over rounds, and read
    /// them beside the noise and the longest insert by CPU time. Memory is backed by the hypervisor before it starts, as far as it keeps it.
    Growth,
    /// What a stopped writer does to readers. It stops inside the closure of its update, 5 ms at a time, holding what
    /// the map holds there. Cannot see: threads stopped elsewhere, such as in the middle of a resize.
    StalledReads,
    /// What a stopped writer does to other writers of other keys.
    StalledWrites,
    /// Resident memory per entry while the map grows from empty. The least and the most over the last three doublings
    /// show how much depends on when one looks. Cannot see: garbage, since nothing is removed.
    Memory,
    /// Bytes beyond those held at the start, while an exchange runs at constant size: retired and not reclaimed, plus
    /// whatever the table itself grew. Cannot see: which of the two; pages that a map takes from the system itself.
    Garbage,
    /// The same while one thread is stopped inside an update for the whole run. A map that locks lets the others run
    /// into the lock: read its throughput before its memory.
    GarbageStalled,
    /// One for caches.
    Cache(CacheWorkload),
}

impl Workload {
    /// Every workload, in the order in which a full run measures them.
    pub const ALL: &[Self] = &[
        Self::ReadHeavy,
        Self::Exchange,
        Self::RapidGrow,
        Self::RapidGrowReserved,
        Self::ZipfReads,
        Self::ZipfWrites,
        Self::HotRead,
        Self::HotWrite,
        Self::Growth,
        Self::StalledReads,
        Self::StalledWrites,
        Self::Memory,
        Self::Garbage,
        Self::GarbageStalled,
        Self::Cache(CacheWorkload::Zipf8),
        Self::Cache(CacheWorkload::Zipf100),
        Self::Cache(CacheWorkload::Zipf1k),
        Self::Cache(CacheWorkload::Zipf8k),
        Self::Cache(CacheWorkload::ZipfWrites),
        Self::Cache(CacheWorkload::HotRead),
        Self::Cache(CacheWorkload::HotWrite),
        Self::Cache(CacheWorkload::Churn),
        Self::Cache(CacheWorkload::Ttl),
        Self::Cache(CacheWorkload::Hits(Exponent::Z09, Capacity::Percent1)),
        Self::Cache(CacheWorkload::Hits(Exponent::Z10, Capacity::Percent1)),
        Self::Cache(CacheWorkload::Hits(Exponent::Z11, Capacity::Percent1)),
        Self::Cache(CacheWorkload::Hits(Exponent::Z09, Capacity::Percent10)),
        Self::Cache(CacheWorkload::Hits(Exponent::Z10, Capacity::Percent10)),
        Self::Cache(CacheWorkload::Hits(Exponent::Z11, Capacity::Percent10)),
        Self::Cache(CacheWorkload::Memory),
    ];

    /// Its name on the command line and in results.
    pub fn name(self) -> &'static str {
        match self {
            Self::ReadHeavy => "read-heavy",
            Self::Exchange => "exchange",
            Self::RapidGrow => "rapid-grow",
            Self::RapidGrowReserved => "rapid-grow-reserved",
            Self::ZipfReads => "zipf-30-1",
            Self::ZipfWrites => "zipf-1-1",
            Self::HotRead => "hot-read",
            Self::HotWrite => "hot-write",
            Self::Growth => "growth",
            Self::StalledReads => "stalled-reads",
            Self::StalledWrites => "stalled-writes",
            Self::Memory => "memory",
            Self::Garbage => "garbage",
            Self::GarbageStalled => "garbage-stalled",
            Self::Cache(workload) => workload.name(),
        }
    }

    /// What it does, in a line for a report.
    pub fn about(self) -> &'static str {
        match self {
            Self::ReadHeavy => "98 get, 1 insert, 1 remove; own keys, uniform",
            Self::Exchange => "10 get, 40 insert, 40 remove, 10 update; own keys, uniform",
            Self::RapidGrow => "5 get, 80 insert, 5 remove, 10 update; own keys, from an empty map",
            Self::RapidGrowReserved => "5 get, 80 insert, 5 remove, 10 update; own keys, room reserved",
            Self::ZipfReads => "30 gets to 1 set; shared keys, Zipf 0.99",
            Self::ZipfWrites => "1 get to 1 set; shared keys, Zipf 0.99",
            Self::HotRead => "all threads get one key",
            Self::HotWrite => "all threads update one key",
            Self::Growth => "time of each insert, from an empty map",
            Self::StalledReads => "one thread stops inside an update, the others get",
            Self::StalledWrites => "one thread stops inside an update, the others update",
            Self::Memory => "resident bytes per entry while one thread inserts",
            Self::Garbage => "bytes beyond those at the start, during an exchange",
            Self::GarbageStalled => "the same with one thread stopped inside an update",
            Self::Cache(workload) => workload.about(),
        }
    }

    /// The workload of this name.
    pub fn find(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|workload| workload.name() == name)
    }

    /// The fewest threads that it makes sense with.
    pub fn threads_min(self) -> usize {
        match self {
            Self::StalledReads | Self::StalledWrites | Self::GarbageStalled => 2,
            _ => 1,
        }
    }

    /// The most threads that it makes sense with.
    pub fn threads_max(self) -> usize {
        match self {
            Self::Memory | Self::Cache(CacheWorkload::Memory) => 1,
            _ => usize::MAX,
        }
    }
}

/// Measures one workload on a fresh map, once.
///
/// # Panics
/// If the map answers wrongly.
pub fn run<C: Collection>(workload: Workload, setup: &Setup) -> Sample {
    match workload {
        Workload::ReadHeavy => mix::read_heavy::<C>(setup),
        Workload::Exchange => mix::exchange::<C>(setup),
        Workload::RapidGrow => mix::rapid_grow::<C>(setup, 0),
        Workload::RapidGrowReserved => mix::rapid_grow::<C>(setup, setup.grow_keys.div_ceil(3) * 4),
        Workload::ZipfReads => zipf::run::<C>(setup, 30),
        Workload::ZipfWrites => zipf::run::<C>(setup, 1),
        Workload::HotRead => hot::read::<C>(setup),
        Workload::HotWrite => hot::write::<C>(setup),
        Workload::Growth => growth::run::<C>(setup),
        Workload::StalledReads => stalled::run::<C>(setup, stalled::Others::Get),
        Workload::StalledWrites => stalled::run::<C>(setup, stalled::Others::Update),
        Workload::Memory => memory::run::<C>(setup),
        Workload::Garbage => garbage::run::<C>(setup),
        Workload::GarbageStalled => garbage::run_stalled::<C>(setup),
        Workload::Cache(workload) => panic!("{} is for caches", workload.name()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn small() -> Setup {
        Setup { keys: 2000, grow_keys: 4000, duration: Duration::from_millis(30), ..Setup::default() }
    }

    #[test]
    fn every_workload_yields_a_headline_for_everything_it_takes() {
        for &workload in Workload::ALL {
            let setup = Setup { threads: 2.clamp(workload.threads_min(), workload.threads_max()), ..small() };
            for rival in crate::adapters::all().filter(|rival| (rival.takes)(workload)) {
                println!("{} {}", workload.name(), rival.name);
                let sample = (rival.run)(workload, &setup);
                let headline = sample.figures.first().expect("a headline");
                assert!(headline.value.is_finite(), "{headline:?}");
            }
        }
    }

    #[test]
    fn names_are_found_again() {
        for &workload in Workload::ALL {
            assert_eq!(Workload::find(workload.name()), Some(workload));
        }
        assert_eq!(Workload::find("none"), None);
    }
}
