//! Counters under loom: the functions of [`super::pair`] over a word that the model checker can see.
//!
//! A record is two words: the state, of which only a mark and the seal matter here (R1), and the pair, packed into 64 bits with a number of 31 bits and an id
//! of 32. The index is one word that names a record. What the store does around the pair (find, seal, write, replace) is
//! repeated here in a line each, with the orders of the index's word.

use super::pair::{self, Pair, PairCell, Refusal};
use crate::sync::check;
use crate::sync::{AtomicU64, Ordering};
use loom::thread;
use std::sync::Arc;

/// Small generations, so that a model reaches the end of one.
const POSITION_BITS: u32 = 1;
/// The id with which each counter begins: the last but one of its generation.
const FIRST_ID: u64 = 3 << POSITION_BITS;
const STATE_SEALED: u64 = 1;
const TOUCHED: u64 = 2;

struct ModelPair(AtomicU64);

fn pack(pair: Pair) -> u64 {
    assert!(pair.number < 1 << 31 && pair.id() < 1 << 32);
    u64::from(pair.is_sealed()) << 63 | pair.id() << 31 | pair.number
}

fn unpack(word: u64) -> Pair {
    let id_and_seal = word >> 63 << 63 | word << 1 >> 32;
    Pair::from_bits(u128::from(id_and_seal) << 64 | u128::from(word & ((1 << 31) - 1)))
}

impl PairCell for ModelPair {
    fn load(&self) -> Pair {
        unpack(self.0.load(Ordering::Acquire))
    }

    fn compare_exchange(&self, old: Pair, new: Pair) -> Result<(), Pair> {
        let result = self.0.compare_exchange(pack(old), pack(new), Ordering::AcqRel, Ordering::Acquire);
        result.map(drop).map_err(unpack)
    }
}

struct ModelRecord {
    state: AtomicU64,
    pair: ModelPair,
}

struct Model {
    /// Which record the index names.
    word: AtomicU64,
    records: Vec<ModelRecord>,
    /// The next record that nobody has written.
    free: AtomicU64,
    generation: AtomicU64,
}

impl Model {
    fn new(number: u64, id: u64) -> Arc<Model> {
        let record = |pair| ModelRecord { state: AtomicU64::new(0), pair: ModelPair(AtomicU64::new(pack(pair))) };
        let records = (0..6).map(|_| record(Pair::new(0, 0))).collect();
        let model = Model { word: AtomicU64::new(0), records, free: AtomicU64::new(1), generation: AtomicU64::new(7) };
        model.records[0].pair.0.store(pack(Pair::new(number, id)), Ordering::Relaxed);
        Arc::new(model)
    }

    fn fresh_generation(&self) -> u64 {
        self.generation.fetch_add(1, Ordering::Relaxed) + 1
    }

    fn find(&self) -> (u64, &ModelRecord) {
        let at = self.word.load(Ordering::Acquire);
        (at, &self.records[at as usize])
    }

    /// Writes a record and puts it in the place of another.
    fn replace(&self, at: u64, pair: Pair, state: u64) -> bool {
        let new = self.free.fetch_add(1, Ordering::Relaxed);
        let record = &self.records[new as usize];
        record.pair.0.store(pack(pair), Ordering::Relaxed);
        record.state.store(state, Ordering::Relaxed);
        self.word.compare_exchange(at, new, Ordering::AcqRel, Ordering::Acquire).is_ok()
    }

    /// As `Record::seal`: both seals.
    fn seal(record: &ModelRecord) -> (Pair, u64) {
        let pair = pair::seal(&record.pair);
        let pair = Pair::new(pair.number, pair.id());
        (pair, record.state.fetch_or(STATE_SEALED, Ordering::AcqRel) & !STATE_SEALED)
    }

    /// As `Batch::calculate`: in place, or by a new record with a generation of its own.
    fn incr(&self) -> Pair {
        loop {
            let (at, record) = self.find();
            let added = pair::change(&record.pair, |seen| {
                let id = pair::next_id(seen.id(), POSITION_BITS, || self.fresh_generation());
                Ok::<_, ()>(Pair::new(seen.number + 1, id))
            });
            match added {
                Ok(pair) => return pair,
                Err(Refusal::Sealed) => {
                    let (pair, state) = Model::seal(record);
                    let new = Pair::new(pair.number + 1, self.fresh_generation() << POSITION_BITS);
                    if self.replace(at, new, state) {
                        return new;
                    }
                }
                Err(Refusal::Unwanted(())) => unreachable!("it always wants to"),
            }
        }
    }

    /// As `copy_record` with the old id, once: the cleaner goes on when it loses.
    fn relocate(&self) -> bool {
        let (at, record) = self.find();
        let (pair, state) = Model::seal(record);
        self.replace(at, pair, state)
    }

    /// As `Batch::set_expiry`: in place, or by a copy.
    fn touch(&self) {
        loop {
            let (at, record) = self.find();
            let state = record.state.load(Ordering::Acquire);
            if state & STATE_SEALED != 0 {
                let (pair, state) = Model::seal(record);
                if self.replace(at, pair, state | TOUCHED) {
                    return;
                }
            } else if record.state.compare_exchange(state, state | TOUCHED, Ordering::AcqRel, Ordering::Relaxed).is_ok()
            {
                return;
            }
        }
    }

    /// As `Batch::put` with a comparison; answers the new id.
    fn cas(&self, compare: u64, number: u64) -> Option<u64> {
        loop {
            let (at, record) = self.find();
            if record.pair.load().id() != compare || pair::seal(&record.pair).id() != compare {
                return None;
            }
            let id = self.fresh_generation() << POSITION_BITS;
            if self.replace(at, Pair::new(number, id), 0) {
                return Some(id);
            }
        }
    }

    /// As `Batch::put` without one, from a segment that was opened before: its generation serves if the old id is below it.
    fn set(&self, number: u64, segment_generation: u64) -> u64 {
        loop {
            let (at, record) = self.find();
            let old = pair::seal(&record.pair).id();
            let generation =
                if segment_generation > old >> POSITION_BITS { segment_generation } else { self.fresh_generation() };
            let id = generation << POSITION_BITS;
            if self.replace(at, Pair::new(number, id), 0) {
                return id;
            }
        }
    }

    fn get(&self) -> Pair {
        self.find().1.pair.load()
    }
}

fn spawn<T: 'static>(model: &Arc<Model>, work: impl FnOnce(&Model) -> T + 'static) -> thread::JoinHandle<T> {
    let model = Arc::clone(model);
    thread::spawn(move || work(&model))
}

#[test]
fn r2_two_increments_both_count_and_get_ids_of_their_own() {
    check(3, || {
        let model = Model::new(5, FIRST_ID);
        let other = spawn(&model, |model| (model.incr(), model.incr()));
        let ours = model.incr();
        let theirs = other.join().expect("no panic");
        let now = model.get();
        assert_eq!(now.number, 8);
        assert!(theirs.0.id() < theirs.1.id(), "ids of one thread increase");
        assert!(ours.id() != theirs.0.id() && ours.id() != theirs.1.id(), "ids are unique");
        // The order of the ids is that of the numbers.
        let mut all = [ours, theirs.0, theirs.1];
        all.sort_by_key(|pair| pair.id());
        assert_eq!(all.map(|pair| pair.number), [6, 7, 8]);
        assert_eq!((all[2].id(), FIRST_ID < all[0].id()), (now.id(), true));
    });
}

#[test]
fn r2_relocation_loses_neither_an_increment_nor_a_touch() {
    check(2, || {
        let model = Model::new(5, FIRST_ID);
        let adder = spawn(&model, |model| model.incr());
        let toucher = spawn(&model, Model::touch);
        model.relocate();
        let added = adder.join().expect("no panic");
        toucher.join().expect("no panic");
        let now = model.get();
        assert_eq!((now.number, now.id()), (6, added.id()));
        assert!(now.id() > FIRST_ID);
        assert_eq!(model.find().1.state.load(Ordering::Acquire) & TOUCHED, TOUCHED);
    });
}

#[test]
fn r2_two_relocations_lose_no_increment_and_repeat_no_id() {
    check(2, || {
        let model = Model::new(5, FIRST_ID);
        let adder = spawn(&model, |model| (model.incr(), model.incr()));
        let cleaner = spawn(&model, Model::relocate);
        model.relocate();
        let added = adder.join().expect("no panic");
        cleaner.join().expect("no panic");
        assert_eq!((added.0.number, added.1.number), (6, 7));
        assert!(FIRST_ID < added.0.id() && added.0.id() < added.1.id());
        assert_eq!((model.get().number, model.get().id()), (7, added.1.id()));
    });
}

#[test]
fn r2_a_comparison_that_holds_overwrites_no_increment() {
    check(3, || {
        let model = Model::new(5, FIRST_ID);
        let adder = spawn(&model, |model| model.incr());
        let stored = model.cas(FIRST_ID, 100);
        let added = adder.join().expect("no panic");
        let now = model.get();
        match stored {
            Some(id) => {
                assert_eq!((now.number, now.id()), (101, added.id()), "the increment came after");
                assert!(id < now.id());
            }
            None => assert_eq!((now.number, now.id()), (6, added.id()), "the increment came before"),
        }
    });
}

#[test]
fn r2_the_id_of_a_set_exceeds_that_of_the_counter_it_replaces() {
    check(3, || {
        // The next increment takes a fresh generation, which exceeds that of the setter's segment.
        let model = Model::new(5, FIRST_ID + 1);
        let segment_generation = model.fresh_generation();
        let adder = spawn(&model, |model| model.incr());
        let set = model.set(100, segment_generation);
        let added = adder.join().expect("no panic");
        let now = model.get();
        if now.number == 100 {
            assert_eq!(added.number, 6, "the increment came before");
            assert!(added.id() < set && now.id() == set, "S3: the later id is the larger one");
        } else {
            assert_eq!((now.number, now.id()), (101, added.id()), "the increment came after");
            assert!(set < added.id());
        }
    });
}

#[test]
fn r2_a_reader_sees_numbers_with_their_own_ids() {
    check(2, || {
        let model = Model::new(5, FIRST_ID);
        let adder = spawn(&model, |model| (model.incr(), model.incr()));
        let cleaner = spawn(&model, Model::relocate);
        let seen = [model.get(), model.get()];
        let added = adder.join().expect("no panic");
        cleaner.join().expect("no panic");
        let truth = [(5, FIRST_ID), (6, added.0.id()), (7, added.1.id())];
        for pair in seen {
            assert!(truth.contains(&(pair.number, pair.id())), "a pair that never was");
        }
        assert!(seen[0].id() <= seen[1].id());
    });
}
