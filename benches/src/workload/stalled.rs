//! One thread stops inside its update, again and again: what can the others do meanwhile?
//!
//! In the first half of the run it does nothing; in the second it is stopped almost always, 5 ms at a time, each time in
//! the update of another key. The headline is how much of their first half's speed the others keep.

use super::Setup;
use super::growth::{histogram, merged};
use super::zipf::SharedKeys;
use crate::collection::{Collection, Handle};
use crate::drive::{BATCH, Worker, drive};
use crate::keys::{Rng, SHARED_LANE, key_of, value_fits};
use crate::measure::{Better, Sample};
use hdrhistogram::Histogram;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

/// As long as a thread that lost its core waits for the next turn.
const STOPPED_FOR: Duration = Duration::from_millis(5);

/// What the threads do that are not stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Others {
    Get,
    Update,
}

pub(super) fn run<C: Collection>(setup: &Setup, others: Others) -> Sample {
    let map = C::with_capacity(setup.capacity());
    let half = setup.duration / 2;
    let start = OnceLock::new();
    let workers = (0..setup.threads)
        .map(|thread| StalledWorker {
            others: (thread > 0).then_some(others),
            keys: setup.keys as u64,
            rng: Rng::new(setup.seed, thread as u64),
            prefill: SharedKeys::of_thread(setup, thread),
            half,
            start: &start,
            free: Phase::new(),
            stalled: Phase::new(),
            wrong: 0,
        })
        .collect();
    let outcome = drive(&map, workers, Some(setup.duration), |_| {});
    let runners = || outcome.workers.iter().filter(|worker| worker.others.is_some());
    // The halves are equally long: a thread that was stuck when time was up has simply done less.
    let mops = |ops: u64| ops as f64 / half.as_secs_f64() / 1e6;
    let free = mops(runners().map(|worker| worker.free.ops).sum());
    let stalled = mops(runners().map(|worker| worker.stalled.ops).sum());
    let latency_ns = merged(runners().map(|worker| &worker.stalled.latency_ns));
    outcome
        .sample()
        .figure("kept", "%", Better::Higher, 100.0 * stalled / free)
        .figure("while stopped", "M ops/s", Better::Higher, stalled)
        .figure("before", "M ops/s", Better::Higher, free)
        .latencies("while stopped", &latency_ns)
}

struct Phase {
    ops: u64,
    latency_ns: Histogram<u64>,
}

impl Phase {
    fn new() -> Self {
        Self { ops: 0, latency_ns: histogram() }
    }
}

struct StalledWorker<'a> {
    /// `None`: this is the thread that stops.
    others: Option<Others>,
    keys: u64,
    rng: Rng,
    prefill: SharedKeys,
    half: Duration,
    start: &'a OnceLock<Instant>,
    free: Phase,
    stalled: Phase,
    wrong: u64,
}

impl StalledWorker<'_> {
    fn key(&mut self) -> u64 {
        key_of(SHARED_LANE, self.rng.below(self.keys))
    }

    fn second_half(&self, now: Instant) -> bool {
        now.duration_since(*self.start.get_or_init(|| now)) >= self.half
    }

    fn stop_once<H: Handle>(&mut self, handle: &mut H) {
        if !self.second_half(Instant::now()) {
            handle.leave();
            std::thread::sleep(Duration::from_millis(1));
            return;
        }
        let key = self.key();
        let found = handle.update(key, |value| {
            std::thread::sleep(STOPPED_FOR);
            value + 1
        });
        self.wrong += u64::from(!found);
    }

    fn go_on<H: Handle>(&mut self, handle: &mut H, others: Others) {
        let mut before = Instant::now();
        for at in 1..=BATCH {
            let key = self.key();
            let right = match others {
                Others::Get => handle.get(key).is_some_and(|value| value_fits(key, value)),
                Others::Update => handle.update(key, |value| value + 1),
            };
            self.wrong += u64::from(!right);
            if at == BATCH {
                // What a guard for many operations puts off is part of the last one.
                handle.rest();
            }
            let second_half = self.second_half(before);
            let after = Instant::now();
            let phase = if second_half { &mut self.stalled } else { &mut self.free };
            phase.ops += 1;
            phase.latency_ns.saturating_record((after - before).as_nanos() as u64);
            before = after;
        }
    }
}

impl Worker for StalledWorker<'_> {
    fn prepare<H: Handle>(&mut self, handle: &mut H) {
        self.prefill.insert(handle);
    }

    fn batch<H: Handle>(&mut self, handle: &mut H) -> u64 {
        match self.others {
            None => {
                self.stop_once(handle);
                1
            }
            Some(others) => {
                self.go_on(handle, others);
                BATCH as u64
            }
        }
    }

    fn wrong(&self) -> u64 {
        self.wrong
    }
}
