//! Keys that all threads share, popular ones more often.

use super::{Capacity, keys_within};
use crate::cache::drive::{CacheWorker, drive};
use crate::cache::value::Values;
use crate::cache::{Cache, CacheHandle, Key, Operations, Room, key_bytes};
use crate::drive::{BATCH, Outcome};
use crate::keys::{SHARED_LANE, ZipfDraws, key_of};
use crate::machine::resident_bytes;
use crate::measure::{Better, Sample};
use crate::workload::Setup;

/// The exponent of YCSB and of most published cache benchmarks.
const EXPONENT: f64 = 0.99;
/// Draws of each thread where hits are measured: far more than a cache can tell from endless ones.
const HITS_DRAWS: usize = 1 << 23;
/// Length of the values where hits are measured: the overhead of an entry counts little.
const HITS_VALUE_BYTES: usize = 1000;
/// Length of the values of a single hot key.
const HOT_VALUE_BYTES: usize = 100;
/// The hot key's index.
const HOT: u64 = 1;

fn key(index: u64) -> Key {
    key_bytes(key_of(SHARED_LANE, index))
}

pub(super) fn zipf<C: Cache>(setup: &Setup, gets_per_set: usize, value_bytes: usize) -> Sample {
    let keys = keys_within(setup.keys, value_bytes);
    let cache = C::with_room(Room::for_entries(keys * 2, value_bytes));
    let draws = ZipfDraws::for_threads(keys, EXPONENT, setup.seed, setup.threads);
    let workers = draws
        .into_iter()
        .enumerate()
        .map(|(thread, draws)| PopularWorker {
            fill: share(keys, thread, setup.threads),
            ..PopularWorker::new(Keys::Drawn(draws), gets_per_set, value_bytes)
        })
        .collect();
    let outcome = drive(&cache, workers, Some(setup.duration), |_| {});
    let hits = hit_percent(&outcome);
    refusals(&outcome, outcome.throughput().figure("hits", "%", Better::Higher, hits))
}

pub(super) fn hot<C: Cache>(setup: &Setup, gets_per_set: usize) -> Sample {
    let keys = keys_within(setup.keys, HOT_VALUE_BYTES);
    let cache = C::with_room(Room::for_entries(keys * 2, HOT_VALUE_BYTES));
    let workers = (0..setup.threads)
        .map(|thread| PopularWorker {
            fill: share(keys, thread, setup.threads),
            ..PopularWorker::new(Keys::One(key(HOT)), gets_per_set, HOT_VALUE_BYTES)
        })
        .collect();
    let outcome = drive(&cache, workers, Some(setup.duration), |_| {});
    // A cache that keeps nothing of the key is fast: after sets alone it is asked once.
    let hits = if gets_per_set == 0 { 100.0 * f64::from(is_there(&cache)) } else { hit_percent(&outcome) };
    refusals(&outcome, outcome.throughput().figure("hits", "%", Better::Higher, hits))
}

/// Is the hot key there, with a value of its own?
fn is_there<C: Cache>(cache: &C) -> u8 {
    cache.maintain();
    let mut reader = PopularWorker::new(Keys::One(key(HOT)), usize::MAX, HOT_VALUE_BYTES);
    let mut handle = cache.handle();
    let found = reader.values.get(&key(HOT), &mut handle.batch());
    assert_eq!(reader.values.wrong(), 0, "the value of another key, or a torn one");
    u8::from(found)
}

pub(super) fn hits<C: Cache>(setup: &Setup, exponent: f64, capacity: Capacity) -> Sample {
    let before = resident_bytes();
    let draws = ZipfDraws::many_for_threads(setup.keys, exponent, setup.seed, setup.threads, HITS_DRAWS);
    let tables = draws.len() * HITS_DRAWS * size_of::<u32>();
    let cache = C::with_room(Room::for_entries(capacity.of(setup.keys).max(1), HITS_VALUE_BYTES));
    // Each key is asked for about once on average before anything counts; the popular ones, which make the hits, far oftener.
    let warm_up = setup.keys / setup.threads;
    let workers = draws
        .into_iter()
        .map(|draws| PopularWorker { warm_up, ..PopularWorker::new(Keys::Drawn(draws), usize::MAX, HITS_VALUE_BYTES) })
        .collect();
    let outcome = drive(&cache, workers, Some(setup.duration), |_| {});
    cache.maintain();
    let resident = resident_bytes().saturating_sub(before + tables as u64) as f64 / f64::from(1 << 20);
    outcome
        .sample()
        .figure("hits", "%", Better::Higher, hit_percent(&outcome))
        .figure("throughput", "M ops/s", Better::Higher, outcome.mops())
        .figure("resident", "MiB", Better::Lower, resident)
}

/// One thread's part of the keys.
fn share(keys: usize, thread: usize, threads: usize) -> std::ops::Range<u64> {
    (keys * thread / threads) as u64..(keys * (thread + 1) / threads) as u64
}

fn hit_percent(outcome: &Outcome<PopularWorker>) -> f64 {
    let sum = |of: fn(&PopularWorker) -> u64| outcome.workers.iter().map(of).sum::<u64>() as f64;
    100.0 * sum(|worker| worker.hits) / sum(|worker| worker.gets).max(1.0)
}

fn refusals(outcome: &Outcome<PopularWorker>, sample: Sample) -> Sample {
    let refused = Values::refused_percent(outcome.workers.iter().map(|worker| &worker.values));
    sample.figure("sets refused", "%", Better::Lower, refused)
}

enum Keys {
    Drawn(ZipfDraws),
    One(Key),
}

struct PopularWorker {
    keys: Keys,
    position: usize,
    gets_per_set: usize,
    gets_left: usize,
    fill: std::ops::Range<u64>,
    warm_up: usize,
    values: Values,
    gets: u64,
    hits: u64,
}

impl PopularWorker {
    fn new(keys: Keys, gets_per_set: usize, value_bytes: usize) -> Self {
        Self {
            keys,
            position: 0,
            gets_per_set,
            gets_left: gets_per_set,
            fill: 0..0,
            warm_up: 0,
            values: Values::new(value_bytes),
            gets: 0,
            hits: 0,
        }
    }

    #[inline(always)]
    fn step(&mut self, cache: &mut impl Operations) {
        let key = match &self.keys {
            Keys::Drawn(draws) => key(draws.rank(self.position)),
            // Hidden from the optimizer, or it would hash the key once.
            Keys::One(key) => std::hint::black_box(*key),
        };
        self.position += 1;
        if self.gets_left == 0 {
            self.gets_left = self.gets_per_set;
            self.values.set(&key, cache);
            return;
        }
        // One that never sets does not count down to it.
        self.gets_left -= usize::from(self.gets_per_set != usize::MAX);
        self.gets += 1;
        if self.values.get(&key, cache) {
            self.hits += 1;
        } else {
            self.values.set(&key, cache);
        }
    }
}

impl CacheWorker for PopularWorker {
    fn prepare(&mut self, cache: &mut impl Operations) -> bool {
        for index in self.fill.by_ref().take(BATCH) {
            let key = key(index);
            self.values.set(&key, cache);
        }
        let steps = self.warm_up.min(BATCH);
        for _ in 0..steps {
            self.step(cache);
        }
        self.warm_up -= steps;
        (self.gets, self.hits) = (0, 0);
        !self.fill.is_empty() || self.warm_up > 0
    }

    fn batch(&mut self, cache: &mut impl Operations) -> u64 {
        for _ in 0..BATCH {
            self.step(cache);
        }
        BATCH as u64
    }

    fn wrong(&self) -> u64 {
        self.values.wrong()
    }
}
