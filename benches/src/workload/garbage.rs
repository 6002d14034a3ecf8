//! Memory that a map holds beyond its entries while they come and go at constant size.
//!
//! What an allocator is asked for is counted: a map that makes its table anew shows that as a step, and what a map keeps in slabs of its own shows when it needs another.
//! With a thread stopped inside an update garbage grows as long as the others work, so what counts there is bytes per operation.

use super::Setup;
use super::mix::{EXCHANGE, MixWorker};
use crate::alloc;
use crate::collection::{Collection, Handle};
use crate::drive::{Worker, drive};
use crate::keys::{SHARED_LANE, key_of, value_of};
use crate::measure::{Better, Sample, Series};
use std::time::{Duration, Instant};

pub(super) fn run<C: Collection>(setup: &Setup) -> Sample {
    measure::<C, _>(setup, MixWorker::for_threads(setup, EXCHANGE), false)
}

pub(super) fn run_stalled<C: Collection>(setup: &Setup) -> Sample {
    let others = Setup { threads: setup.threads - 1, ..setup.clone() };
    let runners =
        MixWorker::for_threads(&others, EXCHANGE).into_iter().map(|worker| StalledMix::Runs(Box::new(worker)));
    let stopped = StalledMix::Stopped { duration: setup.duration, wrong: 0 };
    measure::<C, _>(setup, runners.chain([stopped]).collect(), true)
}

fn measure<C: Collection, W: Worker>(setup: &Setup, workers: Vec<W>, grows: bool) -> Sample {
    alloc::start_counting();
    let map = C::with_capacity(setup.capacity());
    let mut start = None;
    let mut points = Vec::with_capacity(4096);
    let outcome = drive(&map, workers, Some(setup.duration), |elapsed: Duration| {
        let live = alloc::live_bytes() as f64 / (1 << 20) as f64;
        let start = *start.get_or_insert(live);
        points.push((elapsed.as_secs_f64(), live - start));
    });
    alloc::stop_counting();
    let most = points.iter().map(|point| point.1).fold(0.0, f64::max);
    let mean = points.iter().map(|point| point.1).sum::<f64>() / points.len() as f64;
    let per_operation = most * f64::from(1 << 20) / outcome.ops as f64;
    let mut sample = outcome.sample();
    if grows {
        sample = sample.figure("most, per operation", "B", Better::Lower, per_operation);
    }
    let mut sample = sample
        .figure("most", "MiB", Better::Lower, most)
        .figure("mean", "MiB", Better::Lower, mean)
        .figure("throughput", "M ops/s", Better::Higher, outcome.mops());
    sample.series.push(Series { x: "s".to_owned(), y: "MiB".to_owned(), points });
    sample
}

enum StalledMix {
    Runs(Box<MixWorker>),
    /// Stops for this long inside an update.
    Stopped {
        duration: Duration,
        wrong: u64,
    },
}

impl Worker for StalledMix {
    fn prepare<H: Handle>(&mut self, handle: &mut H) {
        match self {
            Self::Runs(worker) => worker.prepare(handle),
            Self::Stopped { .. } => {
                let key = key_of(SHARED_LANE, 0);
                handle.insert(key, value_of(key));
            }
        }
    }

    fn batch<H: Handle>(&mut self, handle: &mut H) -> u64 {
        match self {
            Self::Runs(worker) => worker.batch(handle),
            Self::Stopped { duration, wrong } => {
                let end = Instant::now() + *duration;
                let found = handle.update(key_of(SHARED_LANE, 0), |value| {
                    std::thread::sleep(end.saturating_duration_since(Instant::now()));
                    value + 1
                });
                *wrong += u64::from(!found);
                0
            }
        }
    }

    fn wrong(&self) -> u64 {
        match self {
            Self::Runs(worker) => worker.wrong(),
            Self::Stopped { wrong, .. } => *wrong,
        }
    }
}
