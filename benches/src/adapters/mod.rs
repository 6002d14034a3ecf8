//! The maps that are compared: one file each, and the list of them.

pub mod dashmap;
pub mod flurry;
pub mod left_right;
pub mod locked;
pub mod memkv;
pub mod papaya;
pub mod scc;

use crate::collection::Collection;
use crate::measure::Sample;
use crate::workload::{self, Setup, Workload};

/// A map that can be measured.
#[derive(Clone, Copy, Debug)]
pub struct Rival {
    /// Its name on the command line and in results.
    pub name: &'static str,
    /// What it is, in a line.
    pub about: &'static str,
    /// Does a run that names no maps measure it?
    pub by_default: bool,
    /// Measures it once.
    pub run: fn(Workload, &Setup) -> Sample,
    /// Checks its answers; see [`crate::conformance`].
    pub check: fn(),
}

const fn rival<C: Collection>(name: &'static str, about: &'static str) -> Rival {
    Rival { name, about, by_default: true, run: workload::run::<C>, check: crate::conformance::check::<C> }
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

/// The map of this name.
pub fn find(name: &str) -> Option<&'static Rival> {
    MAPS.iter().find(|rival| rival.name == name)
}
