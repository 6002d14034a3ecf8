//! The invariants under loom. A tracked cell stands for what is freed: the model checker reports any read of it that does not come before the write
//! of who frees it (G1 to G4). Bags hold two closures here, and every flush may advance the epoch and park the idle.

use super::barrier::{Barrier, interrupts};
use super::*;
use crate::sync::check;
use loom::cell::UnsafeCell as Tracked;
use loom::thread;
use std::sync::atomic::AtomicUsize;

/// Something in a structure: which of the cells it names, or none.
struct Model {
    collector: Collector,
    named: AtomicU64,
    cells: [Tracked<u64>; 3],
    frees: AtomicUsize,
}

// SAFETY: the cells are what is under test: loom checks every access.
unsafe impl Sync for Model {}
// SAFETY: as above.
unsafe impl Send for Model {}

const NOTHING: u64 = u64::MAX;

impl Model {
    fn new(barrier: Barrier) -> Arc<Model> {
        Arc::new(Model {
            collector: Collector::with_barrier(barrier),
            named: AtomicU64::new(0),
            cells: std::array::from_fn(|_| Tracked::new(1)),
            frees: AtomicUsize::new(0),
        })
    }

    /// Reads what is named, under a guard.
    fn read(&self, _guard: &Guard) {
        // Acquire: as a structure reads its links.
        let named = self.named.load(Ordering::Acquire);
        if named != NOTHING {
            Barrier::may_strike();
            // SAFETY: what this is about.
            let alive = self.cells[named as usize].with(|cell| unsafe { *cell });
            assert_eq!(alive, 1, "G2: what is reached under a guard has not been freed");
        }
    }

    /// Takes out what is named, names another, and retires the one before.
    fn replace(self: &Arc<Self>, with: u64, guard: &Guard) {
        let old = self.named.swap(with, Ordering::AcqRel);
        if old == NOTHING {
            return;
        }
        let model = Arc::as_ptr(self).expose_provenance();
        let free = move || {
            // SAFETY: the collector is dropped before the model's other fields are.
            let model = unsafe { &*std::ptr::with_exposed_provenance::<Model>(model) };
            // SAFETY: what this is about.
            model.cells[old as usize].with_mut(|cell| unsafe { *cell = 0 });
            model.frees.fetch_add(1, Ordering::Relaxed);
        };
        guard.defer(free);
    }
}

/// Counts, over all schedules, those in which something came true: a model that never gets there shows nothing.
#[derive(Clone)]
struct Seen(Arc<AtomicUsize>);

impl Seen {
    fn new() -> Seen {
        Seen(Arc::new(AtomicUsize::new(0)))
    }

    fn note(&self, is: bool) {
        self.0.fetch_add(usize::from(is), Ordering::Relaxed);
    }
}

impl Seen {
    fn check(&self, what: &str) {
        assert!(self.0.load(Ordering::Relaxed) > 0, "in some schedule {what}");
    }
}

/// One thread reads in two sections while another replaces, retires and collects.
fn a_reader_against_a_collector(barrier: Barrier, flushes: usize, preemptions: usize) {
    let (freed, kept) = (Seen::new(), Seen::new());
    let (saw_freed, saw_kept) = (freed.clone(), kept.clone());
    check(preemptions, move || {
        let model = Model::new(barrier);
        let reader = thread::spawn({
            let model = Arc::clone(&model);
            move || {
                let participant = model.collector.register();
                for _ in 0..2 {
                    let guard = participant.pin();
                    model.read(&guard);
                }
            }
        });
        let participant = model.collector.register();
        model.replace(1, &participant.pin());
        for _ in 0..flushes {
            participant.pin().flush();
        }
        let frees = model.frees.load(Ordering::Relaxed);
        saw_freed.note(frees == 1);
        saw_kept.note(frees == 0);
        reader.join().expect("no panic");
    });
    freed.check("it is freed while the reader is there");
    kept.check("it is not, as the reader is in the way");
}

/// Without any fence in a pin, and without heavy barriers: announcements alone (G1 a).
#[test]
fn models_announcements_need_no_fence() {
    a_reader_against_a_collector(Barrier::None, 4, 2);
}

/// With a light barrier in each pin: idle threads are asked, and parked (G1 c, G4).
#[test]
fn models_idle_threads_are_parked() {
    a_reader_against_a_collector(Barrier::Fence, 4, 2);
}

/// Without a fence in any pin, and with a heavy barrier that strikes the reader before it has announced its section, between that and the look at its mode, around
/// leaving that mode, between reading a link and what is behind it, and after the section (G1 c, G4).
#[test]
fn models_a_barrier_strikes_a_reader() {
    let (parked, freed) = (Seen::new(), Seen::new());
    let (saw_parked, saw_freed) = (parked.clone(), freed.clone());
    check(3, move || {
        let model = Model::new(Barrier::Interrupts);
        let (early, participant) = (model.collector.register(), model.collector.register());
        // It has been there, and is idle: not new, and so not parked.
        drop(early.pin());
        let reader = thread::spawn({
            let (model, saw_parked) = (Arc::clone(&model), saw_parked.clone());
            move || {
                let early = early;
                interrupts::strike_in(|| {
                    for _ in 0..2 {
                        let guard = early.pin();
                        model.read(&guard);
                        drop(guard);
                        Barrier::may_strike();
                    }
                });
                // SAFETY: it lives as long as `early`.
                saw_parked.note(unsafe { early.member.as_ref() }.shared.mode.load(Ordering::Relaxed) & PARKED != 0);
            }
        });
        model.replace(1, &participant.pin());
        for _ in 0..3 {
            participant.pin().flush();
        }
        saw_freed.note(model.frees.load(Ordering::Relaxed) == 1);
        reader.join().expect("no panic");
    });
    parked.check("the reader is parked");
    freed.check("it is freed while the reader is there");
}

/// A participant that is parked, and comes back while others collect (G4).
#[test]
fn models_who_was_parked_comes_back() {
    let parked = Seen::new();
    let saw = parked.clone();
    check(3, move || {
        let model = Model::new(Barrier::Fence);
        let (early, participant) = (model.collector.register(), model.collector.register());
        drop(early.pin());
        for _ in 0..2 {
            participant.pin().flush();
        }
        // SAFETY: it lives as long as `early`.
        saw.note(unsafe { early.member.as_ref() }.shared.mode.load(Ordering::Relaxed) & PARKED != 0);
        let reader = thread::spawn({
            let model = Arc::clone(&model);
            move || {
                let guard = early.pin();
                model.read(&guard);
                drop(guard);
                model.read(&early.pin());
            }
        });
        model.replace(1, &participant.pin());
        for _ in 0..3 {
            participant.pin().flush();
        }
        reader.join().expect("no panic");
    });
    parked.check("it is parked");
}

/// The retiring thread falls idle, is parked by another that collects its garbage, and comes back to retire more (G2 with a stale tag).
#[test]
fn models_garbage_of_others_is_collected() {
    let freed = Seen::new();
    let saw = freed.clone();
    check(1, move || {
        let model = Model::new(Barrier::Fence);
        let writer = thread::spawn({
            let model = Arc::clone(&model);
            move || {
                let participant = model.collector.register();
                model.replace(1, &participant.pin());
                let guard = participant.pin();
                model.replace(2, &guard);
                guard.flush();
            }
        });
        let participant = model.collector.register();
        for _ in 0..3 {
            let guard = participant.pin();
            model.read(&guard);
            guard.flush();
        }
        saw.note(model.frees.load(Ordering::Relaxed) > 0);
        writer.join().expect("no panic");
    });
    freed.check("something is freed by then");
}

/// Two retire, read and collect: passes do not overlap (G5), and each closure runs once (G3).
#[test]
fn models_two_collect() {
    let freed = Seen::new();
    let saw = freed.clone();
    check(1, move || {
        let model = Model::new(Barrier::Fence);
        let work = |model: &Arc<Model>, with| {
            let participant = model.collector.register();
            let mut guard = participant.pin();
            model.read(&guard);
            model.replace(with, &guard);
            guard.flush();
            guard.repin();
            guard.flush();
            model.read(&guard);
        };
        let other = thread::spawn({
            let model = Arc::clone(&model);
            move || work(&model, 1)
        });
        work(&model, 2);
        other.join().expect("no panic");
        let participant = model.collector.register();
        for _ in 0..4 {
            participant.pin().flush();
        }
        saw.note(model.frees.load(Ordering::Relaxed) == 2);
    });
    freed.check("both are freed at the end");
}

/// A place changes its owner while others collect: the new owner's sections count (G4), and the old one's garbage is not lost (G3).
#[test]
fn models_places_change_their_owners() {
    check(1, move || {
        let model = Model::new(Barrier::Fence);
        let others = thread::spawn({
            let model = Arc::clone(&model);
            move || {
                let first = model.collector.register();
                let guard = first.pin();
                // The guard outlives its participant.
                drop(first);
                model.replace(1, &guard);
                drop(guard);
                let second = model.collector.register();
                let guard = second.pin();
                model.read(&guard);
                drop(guard);
            }
        });
        let participant = model.collector.register();
        for _ in 0..3 {
            let guard = participant.pin();
            model.read(&guard);
            guard.flush();
        }
        others.join().expect("no panic");
        for _ in 0..5 {
            participant.pin().flush();
        }
        assert_eq!(model.frees.load(Ordering::Relaxed), 1, "G3");
    });
}
