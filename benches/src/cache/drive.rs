//! Runs one worker per thread on one cache.

use super::{Cache, CacheHandle, Operations};
use crate::drive::{Outcome, threads};
use std::time::Duration;

/// What one thread does to a cache.
pub(super) trait CacheWorker: Send {
    /// Performs the next operations that fill the cache, not measured; `false` when it has nothing more to fill.
    fn prepare(&mut self, _cache: &mut impl Operations) -> bool {
        false
    }

    /// Performs the next operations, about 100, and says how many; 0 when there is nothing left to do.
    fn batch(&mut self, cache: &mut impl Operations) -> u64;

    /// How many values were not ones of their keys.
    fn wrong(&self) -> u64;
}

/// As [`crate::drive::drive`], with the cache's upkeep every 20 ms, before `watch`.
///
/// # Panics
/// If a worker got a wrong value.
pub(super) fn drive<C: Cache, W: CacheWorker>(
    cache: &C,
    workers: Vec<W>,
    limit: Option<Duration>,
    mut watch: impl FnMut(Duration),
) -> Outcome<W> {
    let upkeep = |elapsed| {
        cache.maintain();
        watch(elapsed);
    };
    let outcome = threads(workers, limit, upkeep, |worker: &mut W, gate| {
        let mut handle = cache.handle();
        while worker.prepare(&mut handle.batch()) {}
        gate.prepared();
        gate.run(|| worker.batch(&mut handle.batch()))
    });
    let wrong: u64 = outcome.workers.iter().map(CacheWorker::wrong).sum();
    assert_eq!(wrong, 0, "wrong values from the cache under test");
    outcome
}
