//! The maps that are compared: one file each. And the lists of them and of the caches, whose files are in
//! [`crate::cache::adapters`].

pub mod dashmap;
pub mod flurry;
pub mod left_right;
pub mod locked;
pub mod memkv;
pub mod papaya;
pub mod scc;

use crate::cache::adapters as caches;
use crate::cache::{self, Cache};
use crate::collection::Collection;
use crate::measure::Sample;
use crate::workload::{self, Setup, Workload};

/// A map or a cache that can be measured.
#[derive(Clone, Copy, Debug)]
pub struct Rival {
    /// Its name on the command line and in results.
    pub name: &'static str,
    /// What it is, in a line.
    pub about: &'static str,
    /// Does a run that names no maps measure it?
    pub by_default: bool,
    /// Can it be measured with this workload?
    pub takes: fn(Workload) -> bool,
    /// Measures it once.
    pub run: fn(Workload, &Setup) -> Sample,
    /// Checks its answers; see [`crate::conformance`].
    pub check: fn(),
}

const fn rival<C: Collection>(name: &'static str, about: &'static str) -> Rival {
    Rival {
        name,
        about,
        by_default: true,
        takes: |workload| !matches!(workload, Workload::Cache(_)),
        run: workload::run::<C>,
        check: crate::conformance::check::<C>,
    }
}

const fn cache<C: Cache>(name: &'static str, about: &'static str) -> Rival {
    Rival {
        name,
        about,
        by_default: true,
        takes: |workload| match workload {
            Workload::Cache(workload) => C::EXPIRES || !workload.needs_expiry(),
            _ => false,
        },
        run: |workload, setup| match workload {
            Workload::Cache(workload) => cache::workload::run::<C>(workload, setup),
            _ => panic!("{} is for maps", workload.name()),
        },
        check: cache::conformance::check::<C>,
    }
}

const fn on_request(rival: Rival) -> Rival {
    Rival { by_default: false, ..rival }
}

/// Every map, in the order in which a round measures them.
pub const MAPS: &[Rival] = &[
    rival::<memkv::Memkv>("memkv", "ours: lock-free, a guard per operation"),
    rival::<memkv::MemkvBatched>("memkv-batched", "ours: a guard per 100 operations"),
    rival::<papaya::Papaya>("papaya", "lock-free, a guard per operation"),
    rival::<papaya::PapayaBatched>("papaya-batched", "a guard per 100 operations"),
    rival::<flurry::Flurry>("flurry", "reads take no lock, a guard per operation"),
    on_request(rival::<flurry::FlurryBatched>("flurry-batched", "a guard per 100 operations")),
    rival::<dashmap::DashMap>("dashmap", "hashbrown in shards, a lock per shard"),
    rival::<scc::SccMap>("scc", "a lock per bucket of 32 entries"),
    rival::<scc::SccIndex>("scc-index", "reads take no lock, writes lock a bucket"),
    rival::<locked::ShardedRwLockMap>("rwlock-64", "std HashMap in 64 shards, RwLock each"),
    rival::<locked::RwLockMap>("rwlock", "std HashMap behind one RwLock"),
    on_request(rival::<left_right::LeftRight>(
        "left-right",
        "two std HashMaps, wait-free reads, one writer, published after every write",
    )),
];

/// Every cache, in the order in which a round measures them.
pub const CACHES: &[Rival] = &[
    cache::<caches::memkv::Memkv>("memkv-store", "ours: a guard and the time per operation; own foldhash, random seed"),
    cache::<caches::memkv::MemkvBatched>("memkv-store-batched", "ours: a guard and the time per 100 operations"),
    cache::<caches::moka::Moka>("moka", "W-TinyLFU, policy applied later"),
    cache::<caches::quick_cache::QuickCache>("quick_cache", "Clock-PRO in shards, a lock per shard"),
    cache::<caches::foyer::Foyer>("foyer", "LRU with a hot part, 8 shards, a lock per shard"),
    on_request(cache::<caches::foyer::FoyerS3Fifo>("foyer-s3fifo", "S3-FIFO, 8 shards, a lock per shard")),
    cache::<caches::tinyufo::TinyUfo>("tinyufo", "S3-FIFO behind TinyLFU, on flurry; own ahash, random seed"),
    cache::<caches::segcache::Segcache>("segcache", "segments, merged to evict; own ahash"),
    on_request(cache::<caches::segcache::SegcacheS3Fifo>("segcache-s3fifo", "segments in S3-FIFO; own ahash")),
];

/// Everything that can be measured.
pub fn all() -> impl Iterator<Item = &'static Rival> {
    MAPS.iter().chain(CACHES)
}

/// The map or cache of this name.
pub fn find(name: &str) -> Option<&'static Rival> {
    all().find(|rival| rival.name == name)
}
