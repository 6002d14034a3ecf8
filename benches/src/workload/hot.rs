//! All threads on one key of many.

use super::Setup;
use super::zipf::SharedKeys;
use crate::collection::{Collection, Handle};
use crate::drive::{BATCH, Worker, drive};
use crate::keys::{SHARED_LANE, key_of, value_fits};
use crate::measure::Sample;
use std::hint::black_box;

/// Somewhere among the resident keys; any but the first.
const HOT: u64 = 1;

pub(super) fn read<C: Collection>(setup: &Setup) -> Sample {
    run::<C, false>(setup)
}

pub(super) fn write<C: Collection>(setup: &Setup) -> Sample {
    run::<C, true>(setup)
}

fn run<C: Collection, const WRITE: bool>(setup: &Setup) -> Sample {
    let map = C::with_capacity(setup.capacity());
    let workers = (0..setup.threads)
        .map(|thread| HotWorker::<WRITE> {
            key: key_of(SHARED_LANE, HOT),
            prefill: SharedKeys::of_thread(setup, thread),
            updates: 0,
            wrong: 0,
        })
        .collect();
    let outcome = drive(&map, workers, Some(setup.duration), |_| {});
    if WRITE {
        let updates: u64 = outcome.workers.iter().map(|worker| worker.updates).sum();
        let value = map.handle().get(key_of(SHARED_LANE, HOT));
        let counted = value.map(|value| value & 0xffff_ffff);
        assert_eq!(counted, Some(updates & 0xffff_ffff), "an update was lost");
    }
    outcome.throughput()
}

struct HotWorker<const WRITE: bool> {
    key: u64,
    prefill: SharedKeys,
    updates: u64,
    wrong: u64,
}

impl<const WRITE: bool> Worker for HotWorker<WRITE> {
    fn prepare<H: Handle>(&mut self, handle: &mut H) {
        self.prefill.insert(handle);
    }

    fn batch<H: Handle>(&mut self, handle: &mut H) -> u64 {
        for _ in 0..BATCH {
            // Hidden from the optimizer, or it would hash the key once.
            let key = black_box(self.key);
            let right = if WRITE {
                self.updates += 1;
                handle.update(key, |value| value + 1)
            } else {
                handle.get(key).is_some_and(|value| value_fits(key, value))
            };
            self.wrong += u64::from(!right);
        }
        BATCH as u64
    }

    fn wrong(&self) -> u64 {
        self.wrong
    }
}
