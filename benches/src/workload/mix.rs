//! Mixes of get, insert, remove and update on each thread's own keys.

use super::Setup;
use crate::collection::{Collection, Handle};
use crate::drive::{BATCH, Worker, drive};
use crate::keys::{MISSING, Rng, key_of, value_fits, value_of};
use crate::measure::Sample;
use std::hint::black_box;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Op {
    Get,
    Insert,
    Remove,
    Update,
}

/// How many of 100 operations are of which kind; they sum to 100.
#[derive(Clone, Copy, Debug)]
pub(super) struct Mix {
    get: usize,
    insert: usize,
    remove: usize,
    update: usize,
}

pub(super) const EXCHANGE: Mix = Mix { get: 10, insert: 40, remove: 40, update: 10 };

const READ_HEAVY: Mix = Mix { get: 98, insert: 1, remove: 1, update: 0 };

const RAPID_GROW: Mix = Mix { get: 5, insert: 80, remove: 5, update: 10 };

pub(super) fn read_heavy<C: Collection>(setup: &Setup) -> Sample {
    balanced::<C>(setup, READ_HEAVY)
}

pub(super) fn exchange<C: Collection>(setup: &Setup) -> Sample {
    balanced::<C>(setup, EXCHANGE)
}

fn balanced<C: Collection>(setup: &Setup, mix: Mix) -> Sample {
    let map = C::with_capacity(setup.capacity());
    drive(&map, MixWorker::for_threads(setup, mix), Some(setup.duration), |_| {}).throughput()
}

/// From an empty map with room for `capacity` to `grow_keys` inserts, however long it takes.
pub(super) fn rapid_grow<C: Collection>(setup: &Setup, capacity: usize) -> Sample {
    setup.back_growth();
    let map = C::with_capacity(capacity);
    let workers = (0..setup.threads)
        .map(|thread| MixWorker {
            inserts_left: setup.grow_keys_per_thread(),
            ..MixWorker::new(setup, RAPID_GROW, thread, 0)
        })
        .collect();
    drive(&map, workers, None, |_| {}).throughput()
}

/// One thread's operations. Its live keys are those of its lane with indices `oldest..next`.
pub(super) struct MixWorker {
    lane: u64,
    rng: Rng,
    schedule: [Op; BATCH],
    prefill: u64,
    oldest: u64,
    next: u64,
    inserts_left: u64,
    /// A look-up is a hit if 10 random bits are below this.
    hit_below: u64,
    wrong: u64,
}

impl MixWorker {
    pub(super) fn for_threads(setup: &Setup, mix: Mix) -> Vec<Self> {
        (0..setup.threads).map(|thread| Self::new(setup, mix, thread, setup.keys_per_thread())).collect()
    }

    fn new(setup: &Setup, mix: Mix, thread: usize, prefill: u64) -> Self {
        let ops = [(Op::Get, mix.get), (Op::Insert, mix.insert), (Op::Remove, mix.remove), (Op::Update, mix.update)];
        let mut kinds = ops.iter().flat_map(|&(op, count)| std::iter::repeat_n(op, count));
        let mut schedule = [Op::Get; BATCH].map(|_| kinds.next().expect("a mix sums to 100"));
        let mut rng = Rng::new(setup.seed, thread as u64);
        for last in (1..BATCH).rev() {
            schedule.swap(last, rng.below(last as u64 + 1) as usize);
        }
        Self {
            lane: thread as u64,
            rng,
            schedule,
            prefill,
            oldest: 0,
            next: 0,
            inserts_left: u64::MAX,
            hit_below: setup.hit_percent * 1024 / 100,
            wrong: 0,
        }
    }

    /// The key of a look-up, and whether it is there.
    ///
    /// Chosen by a mask and not by a flag: x86 sets flags into a byte of a register, which then waits for what the register held, and that
    /// may be the outcome of the last look-up. Each would wait for the cache misses of the one before, or not, as the compiler hands out registers.
    /// The mask is hidden from the compiler, which makes a flag of it again.
    #[inline]
    fn draw(&mut self) -> (u64, bool) {
        let random = self.rng.bits();
        let live = self.next - self.oldest;
        let offset = ((random >> 32) * live) >> 32;
        // All ones if both differences are below zero: the random number below `hit_below`, and zero below `live`.
        let hit = ((random & 1023).wrapping_sub(self.hit_below) & live.wrapping_neg()) as i64 >> 63;
        let hit = black_box(hit as u64);
        let first = MISSING.wrapping_add(hit & self.oldest.wrapping_sub(MISSING));
        (key_of(self.lane, first + offset), hit != 0)
    }

    #[inline]
    fn expect(&mut self, right: bool) {
        self.wrong += u64::from(!right);
    }
}

impl Worker for MixWorker {
    fn prepare<H: Handle>(&mut self, handle: &mut H) {
        for count in 0..self.prefill {
            let key = key_of(self.lane, self.next);
            let new = handle.insert(key, value_of(key));
            self.expect(new);
            self.next += 1;
            if count % BATCH as u64 == 0 {
                handle.rest();
            }
        }
    }

    fn batch<H: Handle>(&mut self, handle: &mut H) -> u64 {
        if self.inserts_left == 0 {
            return 0;
        }
        for at in 0..BATCH {
            match self.schedule[at] {
                Op::Get => {
                    let (key, there) = self.draw();
                    let right = match handle.get(key) {
                        Some(value) => there && value_fits(key, value),
                        None => !there,
                    };
                    self.expect(right);
                }
                Op::Insert => {
                    let key = key_of(self.lane, self.next);
                    let new = handle.insert(key, value_of(key));
                    self.expect(new);
                    self.next += 1;
                    self.inserts_left = self.inserts_left.saturating_sub(1);
                }
                Op::Remove => {
                    let there = self.oldest < self.next;
                    let index = if there { self.oldest } else { MISSING };
                    let found = handle.remove(key_of(self.lane, index));
                    self.expect(found == there);
                    self.oldest += u64::from(there);
                }
                Op::Update => {
                    let (key, there) = self.draw();
                    let found = handle.update(key, |value| value + 1);
                    self.expect(found == there);
                }
            }
        }
        BATCH as u64
    }

    fn wrong(&self) -> u64 {
        self.wrong
    }
}
