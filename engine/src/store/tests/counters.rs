//! Counters: in place or not, nobody can tell but by the memory that is used.

use super::*;
use crate::log::record::State;
use crate::log::segments::Queue;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering as Std};

impl User {
    fn incr(&mut self, key: &[u8], by: u64) -> u64 {
        match self.arith(key, Delta::Incr(by)) {
            Ok(ArithOutcome::Value(number)) => number,
            other => panic!("{other:?}"),
        }
    }

    fn change(&mut self, key: &[u8], delta: Delta, change: &Change) -> Calculation {
        let mut batch = self.0.batch();
        let hash = batch.hash(key);
        batch.meta_arith(key, hash, delta, change).expect("there is room")
    }

    /// Where the next record of this handle goes. It has made one.
    fn tail(&mut self) -> Location {
        let batch = self.0.batch();
        batch.writer.next_location(batch.store, Queue::Small)
    }

    fn is_counter(&mut self, key: &[u8]) -> bool {
        let batch = self.0.batch();
        let hash = batch.hash(key);
        batch.view().find(key, hash).is_some_and(|found| found.record.counter().is_some())
    }

    /// Seals an item and leaves it there, as a copier that has just been stopped.
    fn seal(&mut self, key: &[u8]) {
        let batch = self.0.batch();
        let hash = batch.hash(key);
        if let Some(found) = batch.view().find(key, hash) {
            found.record.seal();
        }
    }

    /// The same for the pair of a counter alone, as a writer that has just been stopped.
    fn seal_pair(&mut self, key: &[u8]) {
        let batch = self.0.batch();
        let hash = batch.hash(key);
        if let Some(found) = batch.view().find(key, hash) {
            found.record.seal_pair();
        }
    }

    fn state(&mut self, key: &[u8]) -> State {
        let batch = self.0.batch();
        let hash = batch.hash(key);
        batch.view().find(key, hash).expect("it is there").record.state()
    }
}

#[test]
fn counting_in_place_uses_no_memory() {
    let (store, hands) = small_store(1 << 20);
    let mut user = User::new(&store);
    user.set(b"hits", b"1000000000");
    assert!(!user.is_counter(b"hits"));
    user.incr(b"hits", 0);
    assert!(user.is_counter(b"hits"));
    let (tail, before) = (user.tail(), store.stats());
    let mut last_id = 0;
    for round in 1..=1_000_000_u64 {
        let number = if round % 3 == 0 {
            user.arith(b"hits", Delta::Decr(1)).map(|_| ()).expect("in place");
            user.incr(b"hits", 2)
        } else {
            user.incr(b"hits", 1)
        };
        assert_eq!(number, 1_000_000_000 + round);
        if round % 1_000 == 0 {
            let (value, id) = user.gets(b"hits").expect("it is there");
            assert_eq!(value, number.to_string().as_bytes());
            assert!(id > last_id, "S3");
            last_id = id;
            hands.advance_ms(100);
        }
    }
    let after = store.stats();
    assert_eq!(user.tail(), tail, "not a byte of log");
    assert_eq!(
        (after.charged_bytes, after.segments_free, after.bytes, after.get(Counter::TotalItems)),
        (before.charged_bytes, before.segments_free, before.bytes, before.get(Counter::TotalItems))
    );
    assert_eq!(after.get(Counter::IncrHits), 1_000_001);
}

#[test]
fn a_counter_is_changed_when_memory_is_full() {
    let config = Config { memory_limit: 1 << 20, item_size_max: 1 << 18, evict: false, ..Config::default() };
    let store = Store::new(config, Clock::manual(START_UNIX_MS).0).expect("the settings are possible");
    let mut user = User::new(&store);
    user.set(b"n", b"10");
    user.incr(b"n", 1);
    let full = (0_u32..).find(|n| user.store(Mode::Set, &n.to_le_bytes(), &[b'x'; 400], Expiry::Never).is_err());
    assert!(full.is_some_and(|n| n > 1_000));
    let full = (0_u64..).find(|n| user.store(Mode::Set, &n.to_le_bytes(), b"", Expiry::Never).is_err());
    assert!(full.is_some());
    assert_eq!(user.incr(b"n", 88), 99);
    assert_eq!(user.arith(b"n", Delta::Incr(1)), Err(StoreError::OutOfMemory), "another digit needs a record");
    assert_eq!(user.get(b"n"), Some(b"99".to_vec()));
}

/// In place it stays where it is in the log, so its use must be known to the eviction.
#[test]
fn a_counter_in_use_is_not_evicted() {
    let (store, _) = small_store(1 << 20);
    let mut user = User::new(&store);
    user.set(b"n", b"100000");
    user.incr(b"n", 1);
    for round in 0..50_000_u64 {
        user.set(&round.to_le_bytes(), &[b'x'; 100]);
        if round % 200 == 0 {
            assert!(matches!(user.arith(b"n", Delta::Incr(1)), Ok(ArithOutcome::Value(_))), "evicted by {round}");
        }
    }
    assert_eq!(user.get(b"n"), Some(b"100251".to_vec()));
    assert!(store.stats().get(Counter::Evictions) > 30_000);
}

/// Protocol 3.1: width, padding, wrapping, stopping at 0.
#[test]
fn a_counter_keeps_its_width() {
    let (store, _) = small_store(4 << 20);
    let mut user = User::new(&store);
    user.set(b"n", b"99");
    for (delta, number, value) in [
        (Delta::Decr(90), 9, "9 "),
        (Delta::Incr(90), 99, "99"),
        (Delta::Incr(1), 100, "100"),
        (Delta::Decr(1), 99, "99 "),
        (Delta::Decr(1000), 0, "0  "),
        (Delta::Incr(u64::MAX), u64::MAX, "18446744073709551615"),
        (Delta::Incr(1), 0, "0                   "),
        (Delta::Incr(7), 7, "7                   "),
    ] {
        assert_eq!(user.arith(b"n", delta), Ok(ArithOutcome::Value(number)));
        assert_eq!(user.get(b"n"), Some(value.as_bytes().to_vec()));
        assert!(user.is_counter(b"n"));
    }
    for value in ["0010", " +7", "5 bc", "1 and then more than twenty bytes"] {
        user.set(b"n", value.as_bytes());
        let number = number(value.as_bytes()).expect("it is one");
        assert_eq!((user.incr(b"n", 1), user.incr(b"n", 1)), (number + 1, number + 2));
        let printed = format!("{:<width$}", number + 2, width = value.len());
        assert_eq!(user.get(b"n"), Some(printed.into_bytes()));
        assert_eq!(user.is_counter(b"n"), value.len() <= 20);
    }
}

/// Of 512 KiB and more memcached makes chunks, and reads no numbers from them.
#[test]
fn numbers_in_large_values_count_up_to_the_size_of_a_chunk() {
    let (store, _) = small_store(16 << 20);
    let mut user = User::new(&store);
    for len in [3_000, 100_000, (512 << 10) - 48 - 8 - 3 - 2] {
        let mut value = vec![b' '; len];
        value[..3].copy_from_slice(b"999");
        user.set(b"n!", &value);
        assert!(len == 3_000 || store.is_large(2, len));
        assert_eq!((user.incr(b"n!", 1), user.arith(b"n!", Delta::Decr(3))), (1000, Ok(ArithOutcome::Value(997))));
        value[..4].copy_from_slice(b"997 ");
        assert_eq!(user.get(b"n!").as_ref(), Some(&value));
    }
    user.set(b"n!", &vec![b'1'; 3_000]);
    assert_eq!(user.arith(b"n!", Delta::Incr(1)), Ok(ArithOutcome::NonNumeric));
    let mut value = vec![b' '; (512 << 10) - 48 - 8 - 3 - 1];
    value[0] = b'5';
    user.set(b"n!", &value);
    assert_eq!(user.arith(b"n!", Delta::Incr(1)), Ok(ArithOutcome::NonNumeric));
    user.delete(b"n!");
    assert_eq!((store.stats().bytes, store.stats().curr_items), (0, 0));
}

#[test]
fn a_result_that_fits_keeps_the_marks_and_a_longer_one_loses_them() {
    let (store, _) = small_store(4 << 20);
    let mut user = User::new(&store);
    user.set(b"n", b"8");
    user.incr(b"n", 0);
    user.get(b"n");
    let stale = Removal::Stale { expiry: None, cas: None };
    {
        let mut batch = user.0.batch();
        let hash = batch.hash(b"n");
        assert_eq!(batch.meta_delete(b"n", hash, None, stale), Ok(Deleted::Done));
    }
    assert!(user.is_counter(b"n"), "a stale counter is still one");
    let marks = State::FETCHED | State::STALE;
    let before = user.tail();
    assert_eq!(user.incr(b"n", 1), 9);
    assert_eq!(user.tail(), before);
    assert_eq!(user.state(b"n").0 & marks, marks);
    // The same when it takes a new record.
    user.seal_pair(b"n");
    assert_eq!(user.arith(b"n", Delta::Decr(0)), Ok(ArithOutcome::Value(9)));
    assert_ne!(user.tail(), before);
    assert_eq!(user.state(b"n").0 & marks, marks);
    assert_eq!(user.incr(b"n", 1), 10);
    assert_eq!(user.state(b"n").0 & marks, 0);
}

/// Protocol 4.5: T, C and E of `ma`.
#[test]
fn meta_terms_hold_for_counters() {
    let (store, _) = small_store(4 << 20);
    let mut user = User::new(&store);
    let one = Delta::Incr(1);
    let create = Change { create: Some((Expiry::Never, 41)), ..Change::default() };
    let Calculation::Done(sum) = user.change(b"n", one, &create) else { panic!("created") };
    assert_eq!((sum.number, user.gets(b"n")), (41, Some((b"41".to_vec(), sum.cas))));
    assert!(user.is_counter(b"n"));

    let compare = |id| Change { compare: Some(id), ..Change::default() };
    assert_eq!(user.change(b"n", one, &compare(sum.cas + 1)), Calculation::Exists);
    let tail = user.tail();
    let Calculation::Done(next) = user.change(b"n", one, &compare(sum.cas)) else { panic!("it has this id") };
    assert_eq!((next.number, next.cas, user.tail()), (42, sum.cas + 1, tail));
    assert_eq!(user.change(b"n", one, &compare(sum.cas)), Calculation::Exists);

    // An expiry takes a new record, unless it is what is there.
    let ends = user.in_ms(10_000);
    let touch = Change { touch: Some(ends), ..Change::default() };
    let Calculation::Done(touched) = user.change(b"n", one, &touch) else { panic!("it is there") };
    assert_eq!((touched.number, touched.expiry_before, touched.expiry), (43, Expiry::Never, ends));
    assert!(touched.cas > next.cas && user.is_counter(b"n"));
    let tail = user.tail();
    let Calculation::Done(again) = user.change(b"n", one, &touch) else { panic!("it is there") };
    assert_eq!((again.number, again.expiry_before, again.expiry, user.tail()), (44, ends, ends, tail));

    // Ids that a client chose, also those in which the seal would lie; those of the store go on as if nothing had been.
    for id in [5, 1 << 40, 1 << 63, u64::MAX] {
        let chosen = Change { cas: Some(id), ..Change::default() };
        let before = user.gets(b"n").expect("it is there").1;
        let Calculation::Done(sum) = user.change(b"n", one, &chosen) else { panic!("it is there") };
        assert_eq!((sum.cas, user.gets(b"n").map(|(_, id)| id)), (id, Some(id)));
        user.rewrite(b"n");
        assert_eq!(user.gets(b"n").map(|(_, id)| id), Some(id), "a copy keeps it");
        let Calculation::Done(sum) = user.change(b"n", one, &Change::default()) else { panic!("it is there") };
        assert!(sum.cas > before && sum.cas != id && user.is_counter(b"n"));
    }
    assert_eq!(user.get(b"n"), Some(b"52".to_vec()));
}

#[test]
fn s3_ids_grow_beyond_a_generation_and_through_all_that_follows_a_counter() {
    let (store, _) = small_store(4 << 20);
    // The other handle has an older segment open, whose positions give smaller ids.
    let (mut other, mut user) = (User::new(&store), User::new(&store));
    other.set(b"early", b"");
    user.set(b"n", b"10000000");
    let mut last = 0;
    let mut check = |user: &mut User| {
        let (_, id) = user.gets(b"n").expect("it is there");
        assert!(id > last, "S3: {id} after {last}");
        last = id;
    };
    for round in 0..3 {
        for _ in 0..150_000 {
            user.incr(b"n", 1);
        }
        check(&mut user);
        // What follows: a set, an append, a cas, a deletion and an insert, by a handle with an older segment.
        match round {
            0 => other.set(b"n", b"10000000"),
            1 => assert_eq!(other.store(Mode::Append, b"n", b"0", Expiry::Never), Ok(Outcome::Stored)),
            _ => assert!(other.delete(b"n") && other.store(Mode::Add, b"n", b"1", Expiry::Never).is_ok()),
        }
        check(&mut user);
        other.incr(b"n", 1);
        check(&mut user);
        let (_, id) = user.gets(b"n").expect("it is there");
        assert_eq!(other.store(Mode::Cas(id), b"n", b"10000000", Expiry::Never), Ok(Outcome::Stored));
        check(&mut user);
        user.incr(b"n", 1);
        check(&mut user);
    }
}

#[test]
fn a_store_without_ids_counts_in_place_too() {
    let config = Config { memory_limit: 1 << 20, item_size_max: 1 << 18, cas: false, ..Config::default() };
    let store = Store::new(config, Clock::manual(START_UNIX_MS).0).expect("the settings are possible");
    let mut user = User::new(&store);
    user.set(b"n", b"100000");
    user.incr(b"n", 1);
    let tail = user.tail();
    for _ in 0..200_000 {
        user.incr(b"n", 1);
    }
    assert_eq!((user.gets(b"n"), user.tail()), (Some((b"300001".to_vec(), 0)), tail));
    let compare = Change { compare: Some(0), ..Change::default() };
    assert!(matches!(user.change(b"n", Delta::Incr(1), &compare), Calculation::Done(sum) if sum.cas == 0));
    let compare = Change { compare: Some(1), ..Change::default() };
    assert_eq!(user.change(b"n", Delta::Incr(1), &compare), Calculation::Exists);
    assert_eq!(user.store(Mode::Cas(0), b"n", b"1", Expiry::Never), Ok(Outcome::Exists));
}

#[test]
fn r2_a_comparison_that_holds_stops_the_increments_and_one_that_fails_does_not() {
    let (store, _) = small_store(4 << 20);
    let mut user = User::new(&store);
    user.set(b"n", b"5");
    user.incr(b"n", 1);
    let (_, id) = user.gets(b"n").expect("it is there");
    let compare = |user: &mut User, id| {
        let batch = user.0.batch();
        let found = batch.view().find(b"n", batch.hash(b"n")).expect("it is there");
        let holds = batch.view().has_id_for_good(found, id);
        (holds, found.record.counter().expect("it is one").pair().is_sealed())
    };
    assert_eq!(compare(&mut user, id + 1), (false, false));
    assert_eq!(compare(&mut user, id), (true, true));
    assert_eq!(user.incr(b"n", 1), 7);
    assert_eq!(user.store(Mode::Cas(id), b"n", b"0", Expiry::Never), Ok(Outcome::Exists));
    let tail = user.tail();
    assert_eq!((user.incr(b"n", 1), user.tail()), (8, tail), "the new record is a counter again");
}

/// Increments by several threads, while others replace the counter by copies of itself, extend it by nothing, touch it, fail to
/// compare with it, or stop after its seal; and readers look at number and id. Nothing is lost, no id comes twice or goes back.
#[test]
fn r2_no_increment_is_lost_whatever_else_happens_to_the_counter() {
    const EACH: u64 = if cfg!(miri) { 20 } else { 60_000 };
    /// Says that a thread has ended, also when it panics: the others would wait for it.
    struct End<'a>(&'a AtomicU64);
    impl Drop for End<'_> {
        fn drop(&mut self) {
            self.0.fetch_add(1, Std::Release);
        }
    }
    // Nothing is evicted: it holds all records that the disturbers write.
    let (store, _) = small_store(256 << 20);
    let done = AtomicU64::new(0);
    User::new(&store).set(b"n", b"1");
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                let _end = End(&done);
                let mut user = User::new(&store);
                let mut last = (0, 0);
                for round in 0..EACH {
                    let Calculation::Done(sum) = user.change(b"n", Delta::Incr(1 + round % 2), &Change::default())
                    else {
                        panic!("it is there and a number")
                    };
                    assert!((sum.number, sum.cas) > last && sum.cas > last.1, "S3");
                    last = (sum.number, sum.cas);
                }
            });
        }
        for disturber in 0..2 {
            let (store, done) = (&store, &done);
            scope.spawn(move || {
                let mut user = User::new(store);
                let mut last = (0, 0);
                let mut round = disturber;
                while done.load(Std::Acquire) < 2 {
                    round += 1;
                    match round % 10 {
                        0 => user.rewrite(b"n"),
                        1 => user.seal(b"n"),
                        2 => user.seal_pair(b"n"),
                        3 => {
                            let extended = user.store(Mode::Append, b"n", b"", Expiry::Never);
                            assert_eq!(extended, Ok(Outcome::Stored));
                        }
                        4 => {
                            let soon = user.in_ms(1_000_000 + round);
                            assert!(user.touch(b"n", soon));
                        }
                        5 => {
                            let outcome = user.store(Mode::Cas(last.1 + (1 << 60)), b"n", b"0", Expiry::Never);
                            assert_eq!(outcome, Ok(Outcome::Exists));
                        }
                        6 => {
                            let other = format!("other {disturber} {round}");
                            user.set(other.as_bytes(), b"7");
                            assert_eq!(user.incr(other.as_bytes(), 3), 10);
                            assert!(user.delete(other.as_bytes()));
                        }
                        _ => {
                            let (value, id) = user.gets(b"n").expect("it is there throughout");
                            let now = (number(&value).expect("a number"), id);
                            assert!(now.1 >= last.1 && now.0 >= last.0, "S3: {now:?} after {last:?}");
                            assert_eq!(now.1 == last.1, now == last, "an id names one number");
                            last = now;
                        }
                    }
                    if round % 8 == 0 {
                        std::thread::yield_now();
                    }
                }
            });
        }
    });
    let mut user = User::new(&store);
    let sum = 1 + 2 * (EACH / 2 + EACH);
    assert_eq!(user.get(b"n").and_then(|value| number(&value)), Some(sum));
    assert!(user.delete(b"n"));
    assert_eq!((store.stats().curr_items, store.stats().bytes), (0, 0), "what went in came out, once");
}

/// Counters in segments that are compacted all the time, by the real cleaner: each sum is exact, and each reader sees numbers and ids grow.
#[test]
fn r2_the_cleaner_moves_counters_and_loses_no_increment() {
    const COUNTERS: u64 = 50;
    const SETS: u64 = if cfg!(miri) { 200 } else { 100_000 };
    // Nothing is evicted, so that what is missing was lost.
    let config = Config { memory_limit: 1 << 20, item_size_max: 1 << 18, evict: false, ..Config::default() };
    let store = Store::new(config, Clock::manual(START_UNIX_MS).0).expect("the settings are possible");
    let name = |n: u64| format!("counter {n}").into_bytes();
    let mut user = User::new(&store);
    for n in 0..COUNTERS {
        // Between other items, all over the log.
        for other in 0..60 {
            user.set(format!("other {}", n * 60 + other).as_bytes(), &[b'x'; 150]);
        }
        user.set(&name(n), b"100000000");
        user.incr(&name(n), 0);
    }
    let location = |user: &mut User, n| {
        let batch = user.0.batch();
        let key = name(n);
        batch.view().find(&key, batch.hash(&key)).expect("it is there").hit.payload()
    };
    let before: Vec<_> = (0..COUNTERS).map(|n| location(&mut user, n)).collect();
    let stop = AtomicBool::new(false);
    let mut rounds = 0_u64;
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut cleaner = Cleaner::new(&store);
            while !stop.load(Std::Acquire) {
                if cleaner.run_slice() != Pace::Again {
                    std::thread::yield_now();
                }
            }
        });
        let adders: Vec<_> = (0..2)
            .map(|_| {
                scope.spawn(|| {
                    let mut user = User::new(&store);
                    let mut rounds = 0;
                    while !stop.load(Std::Acquire) {
                        for n in 0..COUNTERS {
                            // Where the cleaner is just moving the counter it takes a record, and there may be no room.
                            while user.arith(&name(n), Delta::Incr(1)) == Err(StoreError::OutOfMemory) {
                                std::thread::yield_now();
                            }
                        }
                        rounds += 1;
                    }
                    rounds
                })
            })
            .collect();
        let disturber = scope.spawn(|| {
            let mut user = User::new(&store);
            let mut last = [(0, 0); COUNTERS as usize];
            for round in 0..SETS {
                // What is overwritten leaves holes. Now and then there is no room, until the cleaner has made some.
                let other = format!("other {}", (round.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32) % (COUNTERS * 60));
                let _ = user.store(Mode::Set, other.as_bytes(), &[b'y'; 150], Expiry::Never);
                let n = round % COUNTERS;
                let (value, id) = user.gets(&name(n)).expect("nothing is evicted");
                let (now, last) = ((number(&value).expect("a number"), id), &mut last[n as usize]);
                assert!(now.0 >= last.0 && now.1 >= last.1, "S3: {now:?} after {last:?}");
                assert_eq!(now.1 == last.1, now == *last, "an id names one number");
                *last = now;
            }
        });
        let is_well = disturber.join();
        stop.store(true, Std::Release);
        rounds = adders.into_iter().map(|adder| adder.join().expect("no panic")).sum();
        is_well.expect("no panic");
    });
    let mut moved = 0;
    for n in 0..COUNTERS {
        let value = user.get(&name(n)).expect("nothing is evicted");
        assert_eq!(number(&value), Some(100_000_000 + rounds), "counter {n}");
        moved += u64::from(location(&mut user, n) != before[n as usize]);
    }
    let bytes = store.stats().get(Counter::BytesMoved);
    assert!(cfg!(miri) || moved > COUNTERS / 2, "the cleaner has moved {moved} of them, and {bytes} bytes");
}

/// Increments against compare-and-swaps that add a thousand: each successful one overwrote no increment.
#[test]
fn r2_increments_and_comparisons_add_up() {
    const EACH: u64 = if cfg!(miri) { 20 } else { 1_000_000 };
    let (store, _) = small_store(256 << 20);
    User::new(&store).set(b"n", b"0");
    let stop = AtomicBool::new(false);
    let swaps = std::thread::scope(|scope| {
        let swapper = scope.spawn(|| {
            let mut user = User::new(&store);
            let mut swaps = 0;
            while !stop.load(Std::Acquire) {
                // Meanwhile the counter is changed in place.
                (0..1_000).for_each(|_| std::hint::spin_loop());
                let (value, id) = user.gets(b"n").expect("it is there throughout");
                let next = (number(&value).expect("a number") + 1_000).to_string();
                let outcome = user.store(Mode::Cas(id), b"n", next.as_bytes(), Expiry::Never);
                swaps += u64::from(outcome == Ok(Outcome::Stored));
            }
            swaps
        });
        let adders: Vec<_> = (0..2)
            .map(|_| {
                scope.spawn(|| {
                    let mut user = User::new(&store);
                    for _ in 0..EACH {
                        user.incr(b"n", 1);
                    }
                })
            })
            .collect();
        adders.into_iter().for_each(|adder| adder.join().expect("no panic"));
        stop.store(true, Std::Release);
        swapper.join().expect("no panic")
    });
    let value = User::new(&store).get(b"n").expect("it is there");
    assert_eq!(number(&value), Some(2 * EACH + 1_000 * swaps));
    assert!(swaps > 0);
}

#[derive(Debug, Clone)]
enum Step {
    Set(Vec<u8>, u32),
    Arith(Delta),
    /// With a comparison that holds or not, an expiry, an id.
    Change(Delta, Option<bool>, bool, Option<u64>),
    Append(Vec<u8>),
    Prepend(Vec<u8>),
    /// By the id that it has.
    Cas(Vec<u8>),
    Touch,
    Rewrite,
    Seal,
    SealPair,
    Delete,
}

fn step() -> impl Strategy<Value = Step> {
    let amount = || prop_oneof![0_u64..20, Just(90), Just(u64::MAX), Just(u64::MAX - 3), any::<u64>()];
    let delta = move || prop_oneof![amount().prop_map(Delta::Incr), amount().prop_map(Delta::Decr)];
    let value = || {
        prop_oneof![
            3 => (0_u64..1_100).prop_map(|n| n.to_string()),
            1 => any::<u64>().prop_map(|n| n.to_string()),
            1 => (0_u64..50, 0_usize..24).prop_map(|(n, width)| format!("{n:<width$}")),
            1 => (0_u64..50, 0_usize..24).prop_map(|(n, width)| format!("{n:0>width$}")),
            1 => prop::sample::select(vec!["", " 5", "+5", "5 x", "x", "-5", "18446744073709551616"])
                .prop_map(str::to_owned),
            1 => Just(format!("{:<2000}", 12)),
        ]
        .prop_map(String::into_bytes)
    };
    let addition = || prop::sample::select(vec!["", "1", " ", "x"]).prop_map(|text| text.as_bytes().to_vec());
    prop_oneof![
        3 => (value(), 0_u32..2).prop_map(|(value, flags)| Step::Set(value, flags)),
        12 => delta().prop_map(Step::Arith),
        4 => (delta(), any::<Option<bool>>(), any::<bool>(), prop::option::weighted(0.3, any::<u64>()))
            .prop_map(|(delta, compare, touch, id)| Step::Change(delta, compare, touch, id)),
        1 => addition().prop_map(Step::Append),
        1 => addition().prop_map(Step::Prepend),
        1 => value().prop_map(Step::Cas),
        1 => Just(Step::Touch),
        1 => Just(Step::Rewrite),
        1 => Just(Step::Seal),
        1 => Just(Step::SealPair),
        1 => Just(Step::Delete),
    ]
}

/// Protocol 3.1 in a line or two: the number, and the text that replaces `value`.
fn counted(value: &[u8], delta: Delta) -> Option<(u64, Vec<u8>)> {
    let before = number(value)?;
    let after = match delta {
        Delta::Incr(by) => before.wrapping_add(by),
        Delta::Decr(by) => before.saturating_sub(by),
    };
    Some((after, format!("{after:<width$}", width = value.len()).into_bytes()))
}

fn counters_against_model(steps: &[Step]) {
    let (store, _) = small_store(4 << 20);
    let mut users = [User::new(&store), User::new(&store)];
    let mut model: Option<(Vec<u8>, u32)> = None;
    let (mut expiry, mut id_max) = (Expiry::Never, 0);
    // The id that a client chose, as long as the item has it.
    let mut chosen = None;
    for (at, step) in steps.iter().enumerate() {
        let user = &mut users[at % 2];
        let id_before = user.gets(b"n").map_or(0, |(_, id)| id);
        let (old, had_chosen) = (model.clone(), chosen.take());
        match step {
            Step::Set(value, flags) => {
                let mut batch = user.0.batch();
                let hash = batch.hash(b"n");
                let new = NewValue::Bytes(value);
                assert_eq!(batch.store(Mode::Set, b"n", hash, *flags, Expiry::Never, new), Ok(Outcome::Stored));
                (model, expiry) = (Some((value.clone(), *flags)), Expiry::Never);
            }
            Step::Arith(delta) => {
                let outcome = user.arith(b"n", *delta).expect("there is room");
                let Some((value, _)) = &mut model else {
                    assert_eq!(outcome, ArithOutcome::NotFound);
                    continue;
                };
                match counted(value, *delta) {
                    None => assert_eq!(outcome, ArithOutcome::NonNumeric),
                    Some((number, text)) => {
                        assert_eq!(outcome, ArithOutcome::Value(number));
                        *value = text;
                    }
                }
            }
            Step::Change(delta, compare, touch, id) => {
                let touched = touch.then(|| user.in_ms(5_000 + at as u64));
                let compare = compare.map(|holds| if holds { id_before } else { id_before ^ 1 });
                let change = Change { compare, touch: touched, cas: *id, ..Change::default() };
                let outcome = user.change(b"n", *delta, &change);
                match &mut model {
                    None => assert_eq!(outcome, Calculation::NotFound),
                    Some(_) if compare.is_some_and(|id| id != id_before) => assert_eq!(outcome, Calculation::Exists),
                    Some((value, _)) => match counted(value, *delta) {
                        None => assert_eq!(outcome, Calculation::NonNumeric),
                        Some((number, text)) => {
                            let Calculation::Done(sum) = outcome else { panic!("{outcome:?}") };
                            let ends = touched.unwrap_or(expiry);
                            assert_eq!((sum.number, sum.expiry_before, sum.expiry), (number, expiry, ends));
                            assert_eq!(user.gets(b"n").map(|(_, id)| id), Some(sum.cas));
                            (*value, expiry, chosen) = (text, ends, *id);
                        }
                    },
                }
            }
            Step::Append(addition) | Step::Prepend(addition) => {
                let is_append = matches!(step, Step::Append(_));
                let mode = if is_append { Mode::Append } else { Mode::Prepend };
                let outcome = user.store(mode, b"n", addition, Expiry::Never).expect("there is room");
                assert_eq!(outcome == Outcome::Stored, model.is_some());
                if let Some((value, _)) = &mut model {
                    *value = if is_append { [&value[..], addition].concat() } else { [addition, &value[..]].concat() };
                }
            }
            Step::Cas(value) => {
                let outcome = user.store(Mode::Cas(id_before), b"n", value, Expiry::Never).expect("there is room");
                // No item has the id 0, but one for which a client chose it.
                match &model {
                    None => assert_eq!(outcome, Outcome::NotFound),
                    Some(_) if id_before == 0 => assert_eq!(outcome, Outcome::Exists),
                    Some(_) => {
                        assert_eq!(outcome, Outcome::Stored);
                        (model, expiry) = (Some((value.clone(), 0)), Expiry::Never);
                    }
                }
            }
            Step::Touch => {
                let ends = user.in_ms(9_000 + at as u64);
                assert_eq!(user.touch(b"n", ends), model.is_some());
                expiry = ends;
            }
            Step::Rewrite => user.rewrite(b"n"),
            Step::Seal => user.seal(b"n"),
            Step::SealPair => user.seal_pair(b"n"),
            Step::Delete => assert_eq!(user.delete(b"n"), model.take().is_some()),
        }
        let batch = users[1 - at % 2].0.batch();
        let hash = batch.hash(b"n");
        let item = batch.meta_inspect(b"n", hash);
        assert_eq!(item.map(|seen| (seen.item.value().to_vec(), seen.item.flags())), model, "after {step:?}");
        let Some(seen) = item else { continue };
        assert_eq!(seen.expiry, expiry, "after {step:?}");
        let bytes = protocol_bytes(1, seen.item.flags(), seen.item.value().len(), true);
        assert_eq!((seen.item.protocol_bytes(), store.stats().bytes), (bytes, bytes as u64));
        let id = seen.item.cas();
        let replaced = match step {
            Step::Touch | Step::Rewrite | Step::Seal | Step::SealPair => false,
            Step::Arith(_) | Step::Change(..) => {
                old.as_ref().is_some_and(|(value, _)| number(value).is_some()) && id != id_before
            }
            _ => true,
        };
        match chosen {
            Some(asked) => assert_eq!(id, asked),
            None if id == id_before && !replaced => chosen = had_chosen,
            None => {
                assert!(id > id_max, "S3: {id} after {id_max} and {id_before}, by {step:?}");
                id_max = id;
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn counters_agree_with_a_model(steps in prop::collection::vec(step(), 1..if cfg!(miri) { 20 } else { 150 })) {
        counters_against_model(&steps);
    }
}
