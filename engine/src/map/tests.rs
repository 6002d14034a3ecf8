//! The map against `std`'s (generated operation sequences), under contention, with a stopped thread, and its drops counted.

use super::*;
use proptest::prelude::*;
use std::collections::HashMap as Model;
use std::hash::BuildHasherDefault;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, Barrier};
use std::time::{Duration, Instant};

/// A hasher that puts everything into a few chains.
#[derive(Default, Clone)]
struct Crowded(u64);

impl std::hash::Hasher for Crowded {
    fn finish(&self) -> u64 {
        self.0 & 3
    }

    fn write(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.0 = self.0.wrapping_add(u64::from(byte));
        }
    }
}

#[derive(Debug, Clone)]
enum Op {
    Insert(u8, u32),
    InsertIfAbsent(u8, u32),
    Update(u8, u32),
    Compute(u8, Operation<u32>),
    Remove(u8),
    RemoveIf(u8, u32),
    Get(u8),
    Iterate,
    Clear,
}

fn op() -> impl Strategy<Value = Op> {
    let operation = prop_oneof![any::<u32>().prop_map(Operation::Put), Just(Operation::Remove), Just(Operation::Keep)];
    prop_oneof![
        8 => (any::<u8>(), any::<u32>()).prop_map(|(k, v)| Op::Insert(k, v)),
        4 => (any::<u8>(), any::<u32>()).prop_map(|(k, v)| Op::InsertIfAbsent(k, v)),
        4 => (any::<u8>(), any::<u32>()).prop_map(|(k, v)| Op::Update(k, v)),
        4 => (any::<u8>(), operation).prop_map(|(k, o)| Op::Compute(k, o)),
        4 => any::<u8>().prop_map(Op::Remove),
        2 => (any::<u8>(), any::<u32>()).prop_map(|(k, v)| Op::RemoveIf(k, v)),
        8 => any::<u8>().prop_map(Op::Get),
        1 => Just(Op::Iterate),
        1 => Just(Op::Clear),
    ]
}

fn against_model<S: BuildHasher + Default>(ops: &[Op]) {
    let map: HashMap<u8, u32, S> = HashMap::with_hasher(S::default());
    let map = map.pin();
    let mut model = Model::new();
    for op in ops.iter().cloned() {
        match op {
            Op::Insert(k, v) => assert_eq!(map.insert(k, v).copied(), model.insert(k, v)),
            Op::InsertIfAbsent(k, v) => match map.insert_if_absent(k, v) {
                Ok(new) => assert_eq!((*new, model.insert(k, v)), (v, None)),
                Err(Present { current, rejected }) => {
                    assert_eq!((Some(current), rejected), (model.get(&k), v))
                }
            },
            Op::Update(k, v) => {
                let expected = model.get_mut(&k).map(|old| {
                    *old = old.wrapping_add(v);
                    *old
                });
                assert_eq!(map.update(&k, |old| old.wrapping_add(v)).copied(), expected);
            }
            Op::Compute(k, operation) => {
                let old = model.get(&k).copied();
                let computed = map.compute(k, |value| {
                    assert_eq!(value.copied(), old);
                    operation
                });
                match (computed, operation, old) {
                    (Computed::Inserted(&new), Operation::Put(v), None) => assert_eq!(new, v),
                    (Computed::Updated { old: &was, new: &new }, Operation::Put(v), Some(old)) => {
                        assert_eq!((was, new), (old, v));
                    }
                    (Computed::Removed(&was), Operation::Remove, Some(old)) => assert_eq!(was, old),
                    (Computed::Kept(now), Operation::Keep | Operation::Remove, old) => {
                        assert_eq!(now.copied(), old)
                    }
                    other => panic!("{other:?}"),
                }
                match operation {
                    Operation::Put(v) => drop(model.insert(k, v)),
                    Operation::Remove => drop(model.remove(&k)),
                    Operation::Keep => {}
                }
            }
            Op::Remove(k) => assert_eq!(map.remove(&k).copied(), model.remove(&k)),
            Op::RemoveIf(k, v) => match map.remove_if(&k, |_, &value| value < v) {
                Ok(removed) => assert_eq!(removed.copied(), model.remove(&k)),
                Err(kept) => assert!(*kept >= v && model.get(&k) == Some(kept)),
            },
            Op::Get(k) => {
                assert_eq!(map.get(&k), model.get(&k));
                assert_eq!(map.contains(&k), model.contains_key(&k));
            }
            Op::Iterate => {
                let mut seen: Vec<_> = map.iter().map(|(&k, &v)| (k, v)).collect();
                let mut expected: Vec<_> = model.iter().map(|(&k, &v)| (k, v)).collect();
                seen.sort_unstable();
                expected.sort_unstable();
                assert_eq!(seen, expected);
            }
            Op::Clear => {
                map.clear();
                model.clear();
            }
        }
        assert_eq!(map.len(), model.len());
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn operations_agree_with_std(ops in prop::collection::vec(op(), 1..400)) {
        against_model::<DefaultHashBuilder>(&ops);
        against_model::<BuildHasherDefault<Crowded>>(&ops);
    }
}

/// A value that counts how many of it are alive.
struct Counted(Arc<AtomicI64>);

impl Counted {
    fn new(alive: &Arc<AtomicI64>) -> Counted {
        alive.fetch_add(1, Ordering::Relaxed);
        Counted(Arc::clone(alive))
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Everything that goes in is dropped exactly once, whichever way it goes: replaced, removed, rejected, left to the map.
#[test]
fn t6_every_value_is_dropped_once() {
    let alive = Arc::new(AtomicI64::new(0));
    {
        let map = HashMap::new();
        std::thread::scope(|scope| {
            for thread in 0..3_u64 {
                let (map, alive) = (&map, &alive);
                scope.spawn(move || {
                    for round in 0..20_000_u64 {
                        let key = (round * (thread + 1) % 64).to_string();
                        let map = map.pin();
                        match round % 5 {
                            0 => drop(map.remove(&key)),
                            1 => drop(map.insert_if_absent(key, Counted::new(alive))),
                            2 => drop(map.compute(key, |_| Operation::Put(Counted::new(alive)))),
                            _ => drop(map.insert(key, Counted::new(alive))),
                        }
                    }
                });
            }
        });
    }
    // Garbage is freed by later pins, once other tests have unpinned.
    let deadline = Instant::now() + Duration::from_secs(60);
    while alive.load(Ordering::Relaxed) != 0 {
        assert!(Instant::now() < deadline, "{} values were not dropped", alive.load(Ordering::Relaxed));
        pin().flush();
        std::thread::yield_now();
    }
}

#[test]
fn update_is_atomic() {
    let map = HashMap::new();
    map.pin().insert("n", 0_u64);
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                for _ in 0..10_000 {
                    map.pin().update("n", |n| n + 1);
                }
            });
        }
    });
    assert_eq!(map.pin().get("n"), Some(&30_000));
}

#[test]
fn compute_is_atomic_also_where_the_key_comes_and_goes() {
    let map: HashMap<u32, u64> = HashMap::new();
    let (inserted, removed) = (AtomicI64::new(0), AtomicI64::new(0));
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                for _ in 0..10_000 {
                    let outcome = match map.pin().compute(7, |n| match n {
                        Some(3) => Operation::Remove,
                        Some(n) => Operation::Put(n + 1),
                        None => Operation::Put(1),
                    }) {
                        Computed::Inserted(_) => inserted.fetch_add(1, Ordering::Relaxed),
                        Computed::Removed(_) => removed.fetch_add(1, Ordering::Relaxed),
                        _ => 0,
                    };
                    let _ = outcome;
                }
            });
        }
    });
    // 30 000 steps through the cycle absent, 1, 2, 3: four steps a round.
    assert_eq!((inserted.into_inner(), removed.into_inner(), map.len()), (7_500, 7_500, 0));
}

/// Keys that are there throughout are visited exactly once while others come and the table grows by a factor of thousands.
#[test]
fn iteration_sees_every_lasting_key_once_while_the_map_grows() {
    const LASTING: u64 = 2_000;
    let map = HashMap::new();
    for key in 0..LASTING {
        map.pin().insert(key, ());
    }
    let (stop, barrier) = (AtomicBool::new(false), Barrier::new(2));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            barrier.wait();
            for key in LASTING..200_000 {
                map.pin().insert(key, ());
            }
            stop.store(true, Ordering::Relaxed);
        });
        barrier.wait();
        let mut passes = 0;
        while !stop.load(Ordering::Relaxed) || passes == 0 {
            let mut seen = vec![0_u8; LASTING as usize];
            let count = |&key: &u64, &(): &()| {
                if key < LASTING {
                    seen[key as usize] += 1;
                }
            };
            if passes % 2 == 0 {
                map.for_each(count);
            } else {
                map.pin().iter().for_each({
                    let mut count = count;
                    move |(key, unit)| count(key, unit)
                });
            }
            assert!(seen.iter().all(|&times| times == 1), "pass {passes}");
            passes += 1;
        }
    });
}

/// A thread that stops in the middle of an operation (here: inside `update`, `compute` and a key comparison, with its guard held)
/// stops nobody: others read, write, insert and grow the table past it.
#[test]
fn a_stopped_thread_stops_nobody() {
    #[derive(Clone)]
    struct Sticky(u64, Option<Arc<(Barrier, Barrier)>>);
    impl Hash for Sticky {
        fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
            self.0.hash(state);
        }
    }
    impl PartialEq for Sticky {
        fn eq(&self, other: &Sticky) -> bool {
            if let Some(stop) = self.1.as_ref().or(other.1.as_ref()) {
                stop.0.wait();
                stop.1.wait();
            }
            self.0 == other.0
        }
    }
    impl Eq for Sticky {}

    let map = HashMap::new();
    for key in 0..100 {
        map.pin().insert(Sticky(key, None), 0_u64);
    }
    let in_compare = Arc::new((Barrier::new(2), Barrier::new(2)));
    let in_update = (Barrier::new(2), Barrier::new(2));
    std::thread::scope(|scope| {
        let map = &map;
        scope.spawn(|| {
            let stop = Arc::clone(&in_compare);
            map.pin().get(&Sticky(7, Some(stop))).copied()
        });
        scope.spawn(|| {
            let mut first = true;
            map.pin().update(&Sticky(8, None), |n| {
                if std::mem::take(&mut first) {
                    in_update.0.wait();
                    in_update.1.wait();
                }
                n + 1
            });
        });
        in_compare.0.wait();
        in_update.0.wait();
        // Both are stopped now, pinned, one of them between reading and replacing key 8.
        for key in 0..50_000 {
            map.pin().insert(Sticky(key, None), 10);
        }
        for key in 0..1_000 {
            assert!(map.pin().remove(&Sticky(key + 1_000, None)).is_some());
        }
        assert_eq!(map.pin().update(&Sticky(8, None), |n| n + 5), Some(&15));
        assert_eq!(map.len(), 49_000);
        in_compare.1.wait();
        in_update.1.wait();
    });
    assert_eq!(
        map.pin().get(&Sticky(8, None)),
        Some(&16),
        "the stopped update saw that the value had changed, and began again"
    );
}

/// Guards for many operations each retire more than crossbeam collects by itself; the memory is bounded all the same.
#[test]
fn garbage_of_large_batches_is_collected() {
    use std::sync::Arc;
    let alive = Arc::new(());
    let map = HashMap::new();
    let mut most = 0;
    for batch in 0..10_000_u64 {
        let map = map.pin();
        for i in 0..200 {
            map.insert(i, (batch, Arc::clone(&alive)));
        }
        most = most.max(Arc::strong_count(&alive));
    }
    // Other tests pin the same collector, so this is no exact figure; without collections it is nearly all two millions.
    assert!(most < 500_000, "{most} values are alive in a map of 200");
}

/// Values whose drop changes a map are dropped by collections, whose retirements must not begin collections in turn: a backlog would be a recursion.
#[test]
fn drops_that_change_a_map_do_not_nest() {
    use std::sync::Arc;
    struct Echo(Arc<HashMap<u64, u64>>, u64);
    impl Drop for Echo {
        fn drop(&mut self) {
            let map = self.0.pin();
            map.insert(self.1 % 64, self.1);
            map.remove(&(self.1 % 64));
        }
    }
    let other = Arc::new(HashMap::new());
    let work = move || {
        let map = HashMap::new();
        let backlog = map.pin();
        for i in 0..60_000 {
            backlog.insert(i % 10, Echo(Arc::clone(&other), i));
        }
        drop(backlog);
        for i in 0..60_000 {
            map.pin().insert(i % 10, Echo(Arc::clone(&other), i));
        }
        assert_eq!(map.len(), 10);
    };
    std::thread::Builder::new()
        .stack_size(256 << 10)
        .spawn(work)
        .expect("a thread")
        .join()
        .expect("the stack is enough");
}

/// The module documentation says 8 KiB: the map itself, 16 stripes of the pool, eight buckets.
#[test]
fn a_map_of_nothing_is_small() {
    let map: HashMap<u64, u64> = HashMap::new();
    assert!(size_of_val(&map) + 16 * 256 + map.index_bytes() <= 8 << 10, "{} bytes in place", size_of_val(&map));
}
