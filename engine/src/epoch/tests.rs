//! What can be seen from outside, with real threads.

use super::bag::BAG_LEN;
use super::barrier::Barrier;
use super::*;
use std::sync::atomic::{AtomicBool, AtomicUsize};
use std::thread;

/// Retires something that can be counted.
fn retire(guard: &Guard, freed: &Arc<AtomicUsize>) {
    let freed = Arc::clone(freed);
    guard.defer(move || {
        freed.fetch_add(1, Ordering::Relaxed);
    });
}

/// Each barrier that this system has.
fn barriers() -> impl Iterator<Item = Barrier> {
    let best = Barrier::best();
    [best, Barrier::Fence].into_iter().take(if best == Barrier::Fence { 1 } else { 2 })
}

fn freed_after(passes: usize, participant: &Participant, freed: &AtomicUsize) -> usize {
    for _ in 0..passes {
        participant.pin().flush();
    }
    freed.load(Ordering::Relaxed)
}

/// Passes that free what was retired before, if nobody is in the way: one for each of the three steps.
const ENOUGH: usize = 3;

/// Flushes until idle threads are asked to park.
const FLUSHES_TO_PARK: usize = (PARK_EVERY / FLUSH_WEIGHT) as usize;

#[test]
fn nothing_is_freed_under_a_guard_and_all_after_it() {
    for barrier in barriers() {
        let (collector, freed) = (Collector::with_barrier(barrier), Arc::new(AtomicUsize::new(0)));
        let (reader, writer) = (collector.register(), collector.register());
        let reading = reader.pin();
        retire(&writer.pin(), &freed);
        assert_eq!(freed_after(50, &writer, &freed), 0, "a reader may still see it");
        drop(reading);
        // The reader is idle now: it is parked, once.
        assert_eq!(freed_after(ENOUGH + FLUSHES_TO_PARK, &writer, &freed), 1);
        retire(&writer.pin(), &freed);
        assert_eq!(freed_after(ENOUGH, &writer, &freed), 2, "who is parked is in nobody's way");
        // And it comes back.
        let reading = reader.pin();
        retire(&writer.pin(), &freed);
        assert_eq!(freed_after(50, &writer, &freed), 2);
        drop(reading);
        assert_eq!(freed_after(ENOUGH + FLUSHES_TO_PARK, &writer, &freed), 3);
    }
}

#[test]
fn an_active_thread_that_repins_is_in_nobodys_way() {
    let (collector, freed) = (Collector::new(), Arc::new(AtomicUsize::new(0)));
    let (reader, writer) = (collector.register(), collector.register());
    let mut reading = reader.pin();
    retire(&writer.pin(), &freed);
    for _ in 0..ENOUGH {
        reading.repin();
        writer.pin().flush();
    }
    assert_eq!(freed.load(Ordering::Relaxed), 1);
    // A guard within the guard keeps the section.
    let inner = reader.pin();
    retire(&writer.pin(), &freed);
    for _ in 0..50 {
        reading.repin();
        writer.pin().flush();
    }
    assert_eq!(freed.load(Ordering::Relaxed), 1);
    drop(inner);
}

#[test]
fn the_end_of_a_collector_runs_what_is_left() {
    let (collector, freed) = (Collector::new(), Arc::new(AtomicUsize::new(0)));
    let participant = collector.register();
    for _ in 0..3 * BAG_LEN + 1 {
        retire(&participant.pin(), &freed);
    }
    drop(collector);
    let guard = participant.pin();
    drop(participant);
    assert!(freed.load(Ordering::Relaxed) < 3 * BAG_LEN + 1);
    // A guard keeps the collector.
    retire(&guard, &freed);
    drop(guard);
    assert_eq!(freed.load(Ordering::Relaxed), 3 * BAG_LEN + 2);
}

#[test]
fn places_are_used_again() {
    let collector = Collector::new();
    for _ in 0..100 {
        thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| drop(collector.register().pin()));
            }
        });
    }
    assert!(collector.0.members().count() <= 4);
}

/// A thread that is ending has lost its place in the default collector, before or after the destructor that still pins.
#[test]
fn destructors_of_thread_locals_may_pin() {
    struct Late(Arc<AtomicUsize>);
    impl Drop for Late {
        fn drop(&mut self) {
            let guard = crate::sync::pin();
            retire(&guard, &self.0);
            let inner = crate::sync::pin();
            drop(guard);
            retire(&inner, &self.0);
        }
    }
    thread_local! {
        static BEFORE: Cell<Option<Late>> = const { Cell::new(None) };
        static AFTER: Cell<Option<Late>> = const { Cell::new(None) };
    }
    let freed = Arc::new(AtomicUsize::new(0));
    let (before, after) = (Late(Arc::clone(&freed)), Late(Arc::clone(&freed)));
    let thread = thread::spawn(move || {
        BEFORE.set(Some(before));
        drop(crate::sync::pin());
        AFTER.set(Some(after));
    });
    thread.join().expect("no panic");
    while freed.load(Ordering::Relaxed) < 4 {
        // Other tests pin the same collector.
        crate::sync::pin().flush();
        thread::yield_now();
    }
}

#[test]
fn closures_of_all_sizes_run() {
    let (collector, sum) = (Collector::new(), Arc::new(AtomicUsize::new(0)));
    {
        let participant = collector.register();
        let guard = participant.pin();
        let (a, b) = (Arc::clone(&sum), Arc::clone(&sum));
        guard.defer(move || {
            a.fetch_add(1, Ordering::Relaxed);
        });
        let large = [1_usize; 40];
        guard.defer(move || {
            b.fetch_add(large.iter().sum(), Ordering::Relaxed);
        });
        #[repr(align(64))]
        struct Aligned(usize);
        let (c, aligned) = (Arc::clone(&sum), Aligned(100));
        guard.defer(move || {
            let aligned = &aligned;
            assert_eq!(std::ptr::from_ref(aligned).addr() % 64, 0);
            c.fetch_add(aligned.0, Ordering::Relaxed);
        });
    }
    drop(collector);
    assert_eq!(sum.load(Ordering::Relaxed), 141);
}

#[test]
fn a_panic_in_a_closure_loses_no_other() {
    let (collector, freed) = (Collector::new(), Arc::new(AtomicUsize::new(0)));
    let participant = collector.register();
    for i in 0..2 * BAG_LEN {
        retire(&participant.pin(), &freed);
        if i == BAG_LEN / 2 {
            participant.pin().defer(|| std::panic::resume_unwind(Box::new("a drop that panics")));
        }
    }
    let flush = || {
        for _ in 0..ENOUGH {
            participant.pin().flush();
        }
    };
    assert!(std::panic::catch_unwind(std::panic::AssertUnwindSafe(flush)).is_err());
    assert_eq!(freed_after(2 * ENOUGH, &participant, &freed), 2 * BAG_LEN);
    // The end of a collector is no different. (One section, so that nothing is freed before.)
    let guard = participant.pin();
    for i in 0..20 * BAG_LEN {
        retire(&guard, &freed);
        if i == 10 * BAG_LEN {
            guard.defer(|| std::panic::resume_unwind(Box::new("a drop that panics")));
        }
    }
    drop(guard);
    drop(collector);
    assert_eq!(freed.load(Ordering::Relaxed), 2 * BAG_LEN);
    let end = || drop(participant);
    let _ = std::panic::catch_unwind(std::panic::AssertUnwindSafe(end));
    assert_eq!(freed.load(Ordering::Relaxed), 22 * BAG_LEN, "G3");
}

#[test]
fn a_backlog_is_freed_in_pieces() {
    let (collector, freed) = (Collector::new(), Arc::new(AtomicUsize::new(0)));
    let participant = collector.register();
    let backlog = 10 * RUN_MAX * BAG_LEN;
    let guard = participant.pin();
    for _ in 0..backlog {
        retire(&guard, &freed);
    }
    drop(guard);
    let mut before = 0;
    while before < backlog {
        let now = freed_after(ENOUGH, &participant, &freed);
        assert!(now > before && now - before <= ENOUGH * RUN_MAX * BAG_LEN, "{before}, {now}");
        before = now;
    }
}

/// Garbage stays bounded although nobody flushes, with a thread that has pinned once and does nothing more.
#[test]
fn garbage_is_bounded() {
    for barrier in barriers() {
        let (collector, freed) = (Collector::with_barrier(barrier), Arc::new(AtomicUsize::new(0)));
        let idle = collector.register();
        drop(idle.pin());
        let participant = collector.register();
        let mut most = 0;
        for i in 1..=200_000 {
            retire(&participant.pin(), &freed);
            most = most.max(i - freed.load(Ordering::Relaxed));
        }
        assert!(most <= 4 * PARK_EVERY as usize, "{most} closures waited");
    }
}

/// What a thread retires last goes while anybody pins: that thread, others that were there, others that come.
#[test]
fn the_last_garbage_goes_while_anybody_pins() {
    for count in [1, BAG_LEN - 1, BAG_LEN, 3 * BAG_LEN + 1, 100_000] {
        for who in ["the same", "one that was there", "one that comes"] {
            let (collector, freed) = (Collector::new(), Arc::new(AtomicUsize::new(0)));
            let (writer, other) = (collector.register(), collector.register());
            drop(other.pin());
            let guard = writer.pin();
            for _ in 0..count {
                retire(&guard, &freed);
            }
            drop(guard);
            let reader = match who {
                "the same" => writer,
                "one that was there" => {
                    drop(writer);
                    other
                }
                _ => {
                    drop((writer, other));
                    collector.register()
                }
            };
            let mut sections = 0;
            while freed.load(Ordering::Relaxed) < count {
                drop(reader.pin());
                sections += 1;
                assert!(sections < 100_000, "{count} by {who}: {} are freed", freed.load(Ordering::Relaxed));
            }
        }
    }
}

/// Readers look for garbage only while nobody else gets on with it: the epoch advances as is retired, or twice as often, and not as is read.
#[test]
fn readers_do_not_drive_the_epoch() {
    let collector = Collector::new();
    let freed = Arc::new(AtomicUsize::new(0));
    let readers: Vec<_> = (0..16).map(|_| collector.register()).collect();
    let writer = collector.register();
    let retired = 20_000;
    for _ in 0..retired {
        retire(&writer.pin(), &freed);
        for reader in &readers {
            drop(reader.pin());
        }
    }
    let advances = collector.0.epoch.load(Ordering::Relaxed) / STEP;
    assert!(advances <= 2 * retired / PASS_EVERY, "{advances} for {retired} closures");
}

/// Readers check that what they see has not been freed; writers replace it; some threads come and go, and some sleep.
#[test]
fn stress() {
    struct Node {
        value: usize,
        check: usize,
    }
    for barrier in barriers() {
        let collector = Collector::with_barrier(barrier);
        let made = Arc::new(AtomicUsize::new(0));
        let freed = Arc::new(AtomicUsize::new(0));
        let stop = AtomicBool::new(false);
        let new = |value: usize| {
            made.fetch_add(1, Ordering::Relaxed);
            Box::into_raw(Box::new(Node { value, check: !value }))
        };
        let shared: Vec<AtomicPtr<Node>> = (0..4).map(|i| AtomicPtr::new(new(i))).collect();
        let read = |guard: &Guard, i: usize| {
            let _ = guard;
            // SAFETY: reached under a guard: it is what the test is about.
            let node = unsafe { &*shared[i % shared.len()].load(Ordering::Acquire) };
            assert_eq!(node.value, !node.check, "it was freed under a guard");
        };
        let replace = |guard: &Guard, i: usize| {
            let old = shared[i % shared.len()].swap(new(i), Ordering::AcqRel);
            let freed = Arc::clone(&freed);
            let old = old.expose_provenance();
            guard.defer(move || {
                // SAFETY: replaced by us, so retired once.
                let mut old = unsafe { Box::from_raw(std::ptr::with_exposed_provenance_mut::<Node>(old)) };
                // Whoever still reads it notices.
                old.check = old.value;
                std::hint::black_box(&mut *old);
                freed.fetch_add(1, Ordering::Relaxed);
            });
        };
        thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    let participant = collector.register();
                    for i in 0.. {
                        let mut guard = participant.pin();
                        read(&guard, i);
                        if i % 7 == 0 {
                            guard.repin();
                            read(&guard, i + 1);
                        }
                        drop(guard);
                        // Idle now and then, for as long as the others need to park it.
                        if i % 10_000 == 0 {
                            thread::yield_now();
                        }
                        if stop.load(Ordering::Relaxed) {
                            break;
                        }
                    }
                });
            }
            scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    let participant = collector.register();
                    for i in 0..50 {
                        let guard = participant.pin();
                        read(&guard, i);
                        replace(&guard, i);
                    }
                }
            });
            let participant = collector.register();
            for i in 0..200_000 {
                let guard = participant.pin();
                read(&guard, i);
                replace(&guard, i);
                if i % 1000 == 0 {
                    guard.flush();
                }
            }
            // A reader may be preempted in a section, and the garbage of some milliseconds waits for it; but not for ever.
            let made = made.load(Ordering::Relaxed);
            while freed.load(Ordering::Relaxed) < made - shared.len() {
                participant.pin().flush();
                thread::yield_now();
            }
            stop.store(true, Ordering::Relaxed);
        });
        drop(collector);
        assert_eq!(freed.load(Ordering::Relaxed), made.load(Ordering::Relaxed) - shared.len(), "G3");
        for node in shared {
            // SAFETY: nobody else is left.
            drop(unsafe { Box::from_raw(node.into_inner()) });
        }
    }
}
