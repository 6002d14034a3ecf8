//! Gets and sets of keys that all threads share, popular ones more often.

use super::Setup;
use crate::collection::{Collection, Handle};
use crate::drive::{BATCH, Worker, drive};
use crate::keys::{SHARED_LANE, ZipfDraws, key_of, value_fits, value_of};
use crate::measure::Sample;

/// The exponent of YCSB and of most published cache benchmarks.
const EXPONENT: f64 = 0.99;

pub(super) fn run<C: Collection>(setup: &Setup, gets_per_set: usize) -> Sample {
    let map = C::with_capacity(setup.capacity());
    let draws = ZipfDraws::for_threads(setup.keys, EXPONENT, setup.seed, setup.threads);
    let workers = draws
        .into_iter()
        .enumerate()
        .map(|(thread, draws)| ZipfWorker {
            draws,
            position: 0,
            gets_per_set,
            gets_left: gets_per_set,
            prefill: SharedKeys::of_thread(setup, thread),
            wrong: 0,
        })
        .collect();
    drive(&map, workers, Some(setup.duration), |_| {}).throughput()
}

/// One thread's part in filling the map with keys that all share.
pub(super) struct SharedKeys {
    from: u64,
    to: u64,
}

impl SharedKeys {
    pub(super) fn of_thread(setup: &Setup, thread: usize) -> Self {
        let (keys, thread, threads) = (setup.keys as u64, thread as u64, setup.threads as u64);
        Self { from: keys * thread / threads, to: keys * (thread + 1) / threads }
    }

    pub(super) fn insert<H: Handle>(&self, handle: &mut H) {
        for index in self.from..self.to {
            let key = key_of(SHARED_LANE, index);
            handle.insert(key, value_of(key));
            if index % BATCH as u64 == 0 {
                handle.rest();
            }
        }
    }
}

struct ZipfWorker {
    draws: ZipfDraws,
    position: usize,
    gets_per_set: usize,
    gets_left: usize,
    prefill: SharedKeys,
    wrong: u64,
}

impl Worker for ZipfWorker {
    fn prepare<H: Handle>(&mut self, handle: &mut H) {
        self.prefill.insert(handle);
    }

    fn batch<H: Handle>(&mut self, handle: &mut H) -> u64 {
        for _ in 0..BATCH {
            let key = key_of(SHARED_LANE, self.draws.rank(self.position));
            self.position += 1;
            let right = if self.gets_left > 0 {
                self.gets_left -= 1;
                handle.get(key).is_some_and(|value| value_fits(key, value))
            } else {
                self.gets_left = self.gets_per_set;
                !handle.insert(key, value_of(key))
            };
            self.wrong += u64::from(!right);
        }
        BATCH as u64
    }

    fn wrong(&self) -> u64 {
        self.wrong
    }
}
