//! What every adapter must answer before its speed is worth anything.

use crate::collection::{Collection, Handle};
use crate::keys::{SHARED_LANE, key_of, value_fits, value_of};
use std::sync::Barrier;
use std::sync::atomic::{AtomicU64, Ordering};

/// Runs every check on one map.
///
/// # Panics
/// If the map answers wrongly.
pub fn check<C: Collection>() {
    agrees_with_std::<C>(0);
    agrees_with_std::<C>(1000);
    two_threads_share_the_outcomes::<C>();
    no_update_is_lost::<C>();
}

/// One thread, every operation, answers compared with `std`'s map.
fn agrees_with_std<C: Collection>(capacity: usize) {
    let map = C::with_capacity(capacity);
    let mut handle = map.handle();
    let mut model = std::collections::HashMap::new();
    let mut rng = crate::keys::Rng::new(1, 0);
    for step in 0..20_000u64 {
        let key = key_of(0, rng.below(500));
        match rng.below(4) {
            0 => assert_eq!(handle.get(key), model.get(&key).copied(), "get"),
            1 => {
                let new = model.insert(key, step).is_none();
                assert_eq!(handle.insert(key, step), new, "insert");
            }
            2 => assert_eq!(handle.remove(key), model.remove(&key).is_some(), "remove"),
            _ => {
                let found = model.get_mut(&key).map(|value| *value += 7).is_some();
                assert_eq!(handle.update(key, |value| value + 7), found, "update");
            }
        }
        if step % 100 == 0 {
            handle.rest();
        }
    }
    for index in 0..500 {
        let key = key_of(0, index);
        assert_eq!(handle.get(key), model.get(&key).copied(), "get at the end");
    }
}

/// Two threads insert and remove the same keys: each key is new once per time it was absent.
fn two_threads_share_the_outcomes<C: Collection>() {
    const KEYS: u64 = 2000;
    const ROUNDS: u64 = 5;
    let map = C::with_capacity(0);
    let (inserted, removed) = (AtomicU64::new(0), AtomicU64::new(0));
    let barrier = Barrier::new(2);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                let mut handle = map.handle();
                for round in 1..=ROUNDS {
                    barrier.wait();
                    for index in 0..KEYS {
                        let key = key_of(SHARED_LANE, index);
                        let new = handle.insert(key, value_of(key));
                        // Relaxed: read after the threads are joined.
                        inserted.fetch_add(u64::from(new), Ordering::Relaxed);
                        let value = handle.get(key).expect("an inserted key is found");
                        assert!(value_fits(key, value), "a value under a foreign key");
                    }
                    handle.rest();
                    barrier.wait();
                    assert_eq!(inserted.load(Ordering::Relaxed), KEYS * round);
                    for index in 0..KEYS {
                        let found = handle.remove(key_of(SHARED_LANE, index));
                        removed.fetch_add(u64::from(found), Ordering::Relaxed);
                    }
                    handle.rest();
                    barrier.wait();
                    assert_eq!(removed.load(Ordering::Relaxed), KEYS * round);
                }
            });
        }
    });
    let mut handle = map.handle();
    for index in 0..KEYS {
        assert_eq!(handle.get(key_of(SHARED_LANE, index)), None);
    }
}

/// Two threads count on the same few keys: the counts add up.
fn no_update_is_lost<C: Collection>() {
    const KEYS: u64 = 3;
    const UPDATES: u64 = 3000;
    let map = C::with_capacity(0);
    {
        let mut handle = map.handle();
        for key in 0..KEYS {
            assert!(handle.insert(key, 0));
        }
    }
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                let mut handle = map.handle();
                for i in 0..UPDATES {
                    assert!(handle.update(i % KEYS, |value| value + 1));
                    if i % 100 == 0 {
                        handle.rest();
                    }
                }
            });
        }
    });
    let mut handle = map.handle();
    let sum: u64 = (0..KEYS).filter_map(|key| handle.get(key)).sum();
    assert_eq!(sum, 2 * UPDATES);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::adapters::locked::RwLockMap;
    use crate::workload::{Setup, Workload, run};
    use std::time::Duration;

    #[test]
    fn every_map_answers_like_the_standard_one() {
        for rival in crate::adapters::MAPS {
            println!("checking {}", rival.name);
            (rival.check)();
        }
    }

    /// Forgets one insert in 4096 and says that it did not.
    struct Forgetful(RwLockMap);

    struct ForgetfulHandle<'a>(&'a RwLockMap);

    impl Collection for Forgetful {
        type Handle<'a> = ForgetfulHandle<'a>;

        fn with_capacity(capacity: usize) -> Self {
            Self(RwLockMap::with_capacity(capacity))
        }

        fn handle(&self) -> Self::Handle<'_> {
            ForgetfulHandle(&self.0)
        }
    }

    impl Handle for ForgetfulHandle<'_> {
        fn get(&mut self, key: u64) -> Option<u64> {
            self.0.get(key)
        }

        fn insert(&mut self, key: u64, value: u64) -> bool {
            key.is_multiple_of(4096) || self.0.insert(key, value)
        }

        fn remove(&mut self, key: u64) -> bool {
            self.0.remove(key)
        }

        fn update(&mut self, key: u64, change: impl Fn(u64) -> u64) -> bool {
            self.0.update(key, change)
        }
    }

    #[test]
    fn a_map_that_forgets_gets_no_figure() {
        let setup = Setup { keys: 20_000, grow_keys: 20_000, duration: Duration::from_millis(200), ..Setup::default() };
        for workload in [Workload::ReadHeavy, Workload::Exchange, Workload::RapidGrow, Workload::ZipfReads] {
            let figures = std::panic::catch_unwind(|| run::<Forgetful>(workload, &setup));
            assert!(figures.is_err(), "{} did not notice", workload.name());
        }
    }
}
