//! New keys without end.

use crate::cache::drive::{CacheWorker, drive};
use crate::cache::value::Values;
use crate::cache::{Cache, Operations, Room, key_bytes};
use crate::drive::{BATCH, Outcome};
use crate::keys::{Rng, key_of};
use crate::machine::resident_bytes;
use crate::measure::{Better, Sample, Series};
use crate::workload::Setup;
use std::time::Duration;

const VALUE_BYTES: usize = 100;
/// A get is of one of so many newest keys of its thread.
const RECENT: u64 = 1000;
/// How long entries live, where they do not live for ever. Whole seconds: some caches know nothing finer.
const TTL: Duration = Duration::from_secs(1);
/// A run with times to live lasts at least so long: most of it is a steady state.
const TTL_RUN_MIN: Duration = Duration::from_secs(4);
/// Runs below this are trials of the program.
const TRIAL: Duration = Duration::from_millis(100);
/// What a full cache is filled with, as a multiple of its room.
const FILL: f64 = 1.5;
const MIB: f64 = (1 << 20) as f64;

pub(super) fn churn<C: Cache>(setup: &Setup) -> Sample {
    let entries = (setup.keys / 10).max(1);
    let fill = (entries as f64 * FILL) as u64 / setup.threads as u64;
    let (outcome, _, points) = run::<C>(setup, Room::for_entries(entries, VALUE_BYTES), fill, setup.duration);
    finish(&outcome, points)
}

pub(super) fn ttl<C: Cache>(setup: &Setup) -> Sample {
    let room = Room { ttl: Some(TTL), ..Room::for_entries(setup.keys * 4, VALUE_BYTES) };
    // A run too short for any figure, as tests make it, stays short.
    let duration = if setup.duration < TRIAL { setup.duration } else { setup.duration.max(TTL_RUN_MIN) };
    let (outcome, before, points) = run::<C>(setup, room, 0, duration);
    let sets: u64 = outcome.workers.iter().map(|worker| worker.next).sum();
    let live = sets as f64 / outcome.wall.as_secs_f64() * TTL.as_secs_f64();
    let last = points.last().map_or(0.0, |point| point.1) - before;
    finish(&outcome, points).figure("held per live entry", "B", Better::Lower, last * MIB / live)
}

/// Runs the churn; also resident MiB before the cache was made, and over time.
fn run<C: Cache>(
    setup: &Setup,
    room: Room,
    fill: u64,
    duration: Duration,
) -> (Outcome<ChurnWorker>, f64, Vec<(f64, f64)>) {
    let resident = || resident_bytes() as f64 / MIB;
    let before = resident();
    let cache = C::with_room(room);
    let workers = (0..setup.threads)
        .map(|thread| ChurnWorker {
            lane: thread as u64,
            rng: Rng::new(setup.seed, thread as u64),
            fill,
            next: 0,
            values: Values::new(room.value_bytes),
            gets: 0,
            hits: 0,
        })
        .collect();
    let mut points = Vec::with_capacity(4096);
    let watch = |elapsed: Duration| points.push((elapsed.as_secs_f64(), resident()));
    let outcome = drive(&cache, workers, Some(duration), watch);
    (outcome, before, points)
}

fn finish(outcome: &Outcome<ChurnWorker>, points: Vec<(f64, f64)>) -> Sample {
    let sum = |of: fn(&ChurnWorker) -> u64| outcome.workers.iter().map(of).sum::<u64>() as f64;
    let hits = 100.0 * sum(|worker| worker.hits) / sum(|worker| worker.gets).max(1.0);
    let refused = Values::refused_percent(outcome.workers.iter().map(|worker| &worker.values));
    let most = points.iter().map(|point| point.1).fold(0.0, f64::max);
    let mut sample = outcome
        .throughput()
        .figure("hits", "%", Better::Higher, hits)
        .figure("sets refused", "%", Better::Lower, refused)
        .figure("resident, most", "MiB", Better::Lower, most);
    sample.series.push(Series { x: "s".to_owned(), y: "resident MiB".to_owned(), points });
    sample
}

struct ChurnWorker {
    lane: u64,
    rng: Rng,
    fill: u64,
    next: u64,
    values: Values,
    gets: u64,
    hits: u64,
}

impl ChurnWorker {
    fn set(&mut self, cache: &mut impl Operations) {
        let key = key_bytes(key_of(self.lane, self.next));
        self.next += 1;
        self.values.set(&key, cache);
    }

    fn get(&mut self, cache: &mut impl Operations) {
        let back = self.rng.below(self.next.min(RECENT));
        let key = key_bytes(key_of(self.lane, self.next - 1 - back));
        self.gets += 1;
        self.hits += u64::from(self.values.get(&key, cache));
    }
}

impl CacheWorker for ChurnWorker {
    fn prepare(&mut self, cache: &mut impl Operations) -> bool {
        for _ in 0..self.fill.min(BATCH as u64) {
            self.set(cache);
        }
        self.fill = self.fill.saturating_sub(BATCH as u64);
        self.fill > 0
    }

    fn batch(&mut self, cache: &mut impl Operations) -> u64 {
        for _ in 0..BATCH / 2 {
            self.set(cache);
            self.get(cache);
        }
        BATCH as u64
    }

    fn wrong(&self) -> u64 {
        self.values.wrong()
    }
}
