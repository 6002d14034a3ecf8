//! The time of each insert while a map grows from empty.

use super::Setup;
use crate::collection::{Collection, Handle};
use crate::drive::{BATCH, Worker, drive};
use crate::keys::{key_of, value_of};
use crate::measure::{Better, Sample};
use hdrhistogram::Histogram;
use std::time::Instant;

pub(super) fn run<C: Collection>(setup: &Setup) -> Sample {
    let map = C::with_capacity(0);
    let workers = (0..setup.threads)
        .map(|thread| GrowthWorker {
            lane: thread as u64,
            next: 0,
            end: setup.grow_keys_per_thread(),
            latency_ns: histogram(),
            wrong: 0,
        })
        .collect();
    let outcome = drive(&map, workers, None, |_| {});
    let latency_ns = merged(outcome.workers.iter().map(|worker| &worker.latency_ns));
    outcome.sample().latencies("insert", &latency_ns).figure("throughput", "M ops/s", Better::Higher, outcome.mops())
}

/// Nanoseconds up to a minute, three digits: longer ones count as a minute.
pub(super) fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, 60_000_000_000, 3).expect("bounds that hdrhistogram takes")
}

pub(super) fn merged<'a>(parts: impl Iterator<Item = &'a Histogram<u64>>) -> Histogram<u64> {
    let mut whole = histogram();
    for part in parts {
        whole.add(part).expect("equal bounds");
    }
    whole
}

struct GrowthWorker {
    lane: u64,
    next: u64,
    end: u64,
    latency_ns: Histogram<u64>,
    wrong: u64,
}

impl Worker for GrowthWorker {
    fn batch<H: Handle>(&mut self, handle: &mut H) -> u64 {
        let from = self.next;
        let to = self.end.min(from + BATCH as u64);
        for index in from..to {
            let key = key_of(self.lane, index);
            let start = Instant::now();
            let new = handle.insert(key, value_of(key));
            self.latency_ns.saturating_record(start.elapsed().as_nanos() as u64);
            self.wrong += u64::from(!new);
        }
        self.next = to;
        to - from
    }

    fn wrong(&self) -> u64 {
        self.wrong
    }
}
