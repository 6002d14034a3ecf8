//! What every cache must answer before its speed is worth anything.

use super::value::Values;
use super::{Cache, CacheHandle, Key, Operations, Room, key_bytes};
use crate::keys::{Rng, SHARED_LANE, key_of};
use std::collections::HashMap;
use std::time::Duration;

/// Runs every check on one cache.
///
/// # Panics
/// If the cache answers wrongly.
pub fn check<C: Cache>() {
    agrees_with_a_map::<C>(None);
    if C::EXPIRES {
        agrees_with_a_map::<C>(Some(Duration::from_secs(3600)));
    }
    threads_see_whole_values::<C>();
    the_limit_is_one::<C>();
}

/// One thread, values of many lengths, room for all: what is found is what was set last, and nearly everything is found.
fn agrees_with_a_map<C: Cache>(ttl: Option<Duration>) {
    const KEYS: u64 = 500;
    let cache = C::with_room(Room { ttl, ..Room::for_entries(20_000, 1000) });
    let mut handle = cache.handle();
    let mut model: HashMap<Key, Vec<u8>> = HashMap::new();
    let mut rng = Rng::new(1, 0);
    let mut read = vec![1, 2, 3];
    let (mut asked, mut missed) = (0_u32, 0_u32);
    for step in 0..10_000_u64 {
        let key = key_bytes(key_of(0, rng.below(KEYS)));
        let mut batch = handle.batch();
        if step % 2 == 0 {
            let value: Vec<u8> = (0..rng.below(1000)).map(|at| (step + at) as u8).collect();
            assert!(batch.set(&key, &value), "a set was refused although there was room");
            model.insert(key, value);
        } else {
            let expected = model.get(&key);
            asked += u32::from(expected.is_some());
            if batch.get(&key, &mut read) {
                assert_eq!(Some(&read), expected, "a value that was not the last one");
            } else {
                missed += u32::from(expected.is_some());
            }
        }
    }
    assert!(missed * 100 <= asked, "{missed} of {asked} entries were lost although there was room");
    let absent = key_bytes(key_of(1, 0));
    assert!(!handle.batch().get(&absent, &mut read), "nobody set it");
}

/// Two threads set and get the same keys: values are whole, and of their keys.
fn threads_see_whole_values<C: Cache>() {
    const KEYS: u64 = 50;
    let cache = C::with_room(Room::for_entries(10_000, 200));
    std::thread::scope(|scope| {
        for thread in 0..2 {
            let cache = &cache;
            scope.spawn(move || {
                let mut handle = cache.handle();
                let mut values = Values::new(200);
                let mut rng = Rng::new(2, thread);
                let mut found = 0;
                for _ in 0..200 {
                    let mut batch = handle.batch();
                    for _ in 0..100 {
                        let key = key_bytes(key_of(SHARED_LANE, rng.below(KEYS)));
                        if rng.below(2) == 0 {
                            values.set(&key, &mut batch);
                        } else {
                            found += u32::from(values.get(&key, &mut batch));
                        }
                    }
                }
                assert_eq!(values.wrong(), 0, "torn or foreign values");
                assert!(found > 5000, "{found} of about 10000 gets found something");
            });
        }
    });
}

/// Far more entries than there is room for: some stay, and not many more than there is room for.
fn the_limit_is_one<C: Cache>() {
    const ROOM: u64 = 10_000;
    let cache = C::with_room(Room::for_entries(ROOM as usize, 1000));
    let mut handle = cache.handle();
    let mut values = Values::new(1000);
    let keys = || (0..ROOM * 8).map(|index| key_bytes(key_of(0, index)));
    for (count, key) in keys().enumerate() {
        values.set(&key, &mut handle.batch());
        if count % 1000 == 0 {
            cache.maintain();
        }
    }
    cache.maintain();
    let held = keys().filter(|key| values.get(key, &mut handle.batch())).count() as u64;
    assert_eq!(values.wrong(), 0, "wrong values");
    assert!((ROOM * 6 / 10..=ROOM * 11 / 10).contains(&held), "{held} entries in room for {ROOM}");
    assert!(values.read().len() == 1000, "the last value read is whole");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cache::Direct;
    use crate::cache::workload::{CacheWorkload, run};
    use crate::workload::Setup;
    use std::sync::Mutex;

    #[test]
    fn every_cache_keeps_what_it_should() {
        for rival in crate::adapters::CACHES {
            println!("checking {}", rival.name);
            (rival.check)();
        }
    }

    /// Answers one get in a thousand with the value of the key asked for before.
    struct Confused {
        entries: Mutex<HashMap<Key, Box<[u8]>>>,
        asked: Mutex<(u64, Key)>,
    }

    impl Cache for Confused {
        type Handle<'a> = &'a Self;
        const EXPIRES: bool = false;

        fn with_room(_room: Room) -> Self {
            Self { entries: Mutex::default(), asked: Mutex::default() }
        }

        fn handle(&self) -> &Self {
            self
        }
    }

    impl Direct for Confused {
        fn get(&self, key: &Key, value: &mut Vec<u8>) -> bool {
            let mut asked = self.asked.lock().unwrap();
            let (count, last) = *asked;
            *asked = (count + 1, *key);
            let key = if count % 1000 == 999 { last } else { *key };
            self.entries.lock().unwrap().get(&key).is_some_and(|found| {
                super::super::copy(found, value);
                true
            })
        }

        fn set(&self, key: &Key, value: &[u8]) -> bool {
            self.entries.lock().unwrap().insert(*key, value.into());
            true
        }
    }

    #[test]
    fn a_cache_that_mixes_up_values_gets_no_figure() {
        let setup = Setup { keys: 5000, grow_keys: 5000, duration: Duration::from_millis(200), ..Setup::default() };
        for workload in [CacheWorkload::Zipf8, CacheWorkload::ZipfWrites, CacheWorkload::Churn] {
            let figures = std::panic::catch_unwind(|| run::<Confused>(workload, &setup));
            assert!(figures.is_err(), "{} did not notice", workload.name());
        }
        assert!(std::panic::catch_unwind(agrees_with_a_map_confused).is_err());
    }

    fn agrees_with_a_map_confused() {
        agrees_with_a_map::<Confused>(None);
    }
}
