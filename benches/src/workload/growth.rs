//! The time of each insert while a map grows from empty, by two clocks.
//!
//! The wall clock includes what the rest of the machine took: a thread that does nothing but read it is away for 4 to 10 ms now and then. So
//! long inserts are also measured by the thread's CPU time, which leaves that out; waiting for a lock too, unless the waiter
//! spins. Short ones are not: that clock costs a microsecond.

use super::Setup;
use crate::collection::{Collection, Handle};
use crate::drive::{BATCH, Worker, drive};
use crate::keys::{key_of, value_fits, value_of};
use crate::machine::thread_cpu;
use crate::measure::{Better, Sample};
use hdrhistogram::Histogram;
use std::time::{Duration, Instant};

/// Inserts that take as long by the wall clock are measured by CPU time.
const LONG: Duration = Duration::from_micros(50);

pub(super) fn run<C: Collection>(setup: &Setup) -> Sample {
    setup.back_growth();
    let map = C::with_capacity(0);
    let workers = (0..setup.threads)
        .map(|thread| GrowthWorker {
            lane: thread as u64,
            next: 0,
            end: setup.grow_keys_per_thread(),
            latency_ns: histogram(),
            cpu_max: Duration::ZERO,
            wrong: 0,
        })
        .collect();
    let outcome = drive(&map, workers, None, |_| {});
    for thread in 0..setup.threads {
        check_all(&mut map.handle(), thread as u64, setup.grow_keys_per_thread());
    }
    let latency_ns = merged(outcome.workers.iter().map(|worker| &worker.latency_ns));
    let cpu_max = outcome.workers.iter().map(|worker| worker.cpu_max).max().unwrap_or_default();
    outcome
        .sample()
        .latencies("insert", &latency_ns)
        .figure("insert max, CPU time", "µs", Better::Lower, cpu_max.as_nanos() as f64 / 1000.0)
        .figure("throughput", "M ops/s", Better::Higher, outcome.mops())
}

/// Looks for the keys of a lane that were inserted.
///
/// # Panics
/// If one is not there.
pub(super) fn check_all<H: Handle>(handle: &mut H, lane: u64, count: u64) {
    for index in 0..count {
        let key = key_of(lane, index);
        assert!(handle.get(key).is_some_and(|value| value_fits(key, value)), "an entry was lost");
        if index % BATCH as u64 == 0 {
            handle.rest();
        }
    }
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
    /// The most CPU time that an insert took, to some microseconds.
    cpu_max: Duration,
    wrong: u64,
}

impl Worker for GrowthWorker {
    fn batch<H: Handle>(&mut self, handle: &mut H) -> u64 {
        let from = self.next;
        let to = self.end.min(from + BATCH as u64);
        // CPU time at some moment, and the time of the short inserts since.
        let (mut cpu, mut short) = (thread_cpu(), Duration::ZERO);
        for index in from..to {
            let key = key_of(self.lane, index);
            let start = Instant::now();
            let new = handle.insert(key, value_of(key));
            if index + 1 == to {
                // What a guard for many operations puts off is part of the last one.
                handle.rest();
            }
            let taken = start.elapsed();
            self.latency_ns.saturating_record(taken.as_nanos() as u64);
            if taken < LONG {
                short += taken;
                self.cpu_max = self.cpu_max.max(taken);
            } else {
                let own = thread_cpu().saturating_sub(cpu + short).min(taken);
                self.cpu_max = self.cpu_max.max(own);
                (cpu, short) = (thread_cpu(), Duration::ZERO);
            }
            self.wrong += u64::from(!new);
        }
        self.next = to;
        to - from
    }

    fn wrong(&self) -> u64 {
        self.wrong
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WORK: Duration = Duration::from_millis(4);

    fn work() {
        let start = thread_cpu();
        while thread_cpu() - start < WORK {}
    }

    /// A map in which one insert is slow.
    struct Slow(fn());

    impl Handle for Slow {
        fn get(&mut self, _key: u64) -> Option<u64> {
            None
        }

        fn insert(&mut self, key: u64, _value: u64) -> bool {
            if key == key_of(0, 70) {
                self.0();
            }
            true
        }

        fn remove(&mut self, _key: u64) -> bool {
            false
        }

        fn update(&mut self, _key: u64, _change: impl Fn(u64) -> u64) -> bool {
            false
        }
    }

    #[test]
    fn cpu_time_counts_what_the_insert_does_and_not_what_it_waits_for() {
        let waits = || std::thread::spawn(work).join().expect("no panic");
        for (slow, is_own) in [(work as fn(), true), (waits as fn(), false)] {
            let mut worker =
                GrowthWorker { lane: 0, next: 0, end: 100, latency_ns: histogram(), cpu_max: Duration::ZERO, wrong: 0 };
            assert_eq!(worker.batch(&mut Slow(slow)), 100);
            assert!(worker.latency_ns.max() >= WORK.as_nanos() as u64);
            let cpu_max = worker.cpu_max;
            assert_eq!(cpu_max > WORK / 2, is_own, "{cpu_max:?} of {WORK:?}");
        }
    }
}
