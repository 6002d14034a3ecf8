//! Eviction, compaction, expiry in the background, and what racing with them may not lose.

use super::*;
use std::sync::atomic::AtomicBool;

/// Lets a cleaner do all that there is to do.
fn clean(cleaner: &mut Cleaner) {
    for _ in 0..1_000_000 {
        if let Pace::After(_) = cleaner.run_slice() {
            return;
        }
    }
    panic!("the cleaner finds no end");
}

/// What must be true of the figures when nobody works.
fn check_sums(store: &Store) {
    let stats = store.stats();
    assert_eq!(stats.charged_bytes, stats.log_bytes + stats.large_bytes + stats.ghost_bytes, "{stats:?}");
    assert!(stats.live_bytes + stats.dead_bytes <= stats.log_bytes, "{stats:?}");
    let segments = stats.segments_small + stats.segments_main + stats.segments_idle + stats.segments_leaving;
    assert!(stats.log_bytes <= segments * stats.segment_bytes, "{stats:?}");
    assert!(stats.segments_total >= stats.segments_free, "{stats:?}");
}

fn key(n: u32) -> Vec<u8> {
    format!("key:{n}").into_bytes()
}

/// Segments of nothing but holes, half holes and no holes: live data is 70 % of what there is, and is rewritten again and again.
#[test]
fn rewriting_evicts_nothing_while_there_are_holes() {
    for evict in [true, false] {
        let (clock, _) = Clock::manual(START_UNIX_MS);
        let config = Config { memory_limit: 8 << 20, item_size_max: 1 << 20, evict, ..Config::default() };
        let store = Store::new(config, clock).expect("the settings are possible");
        let mut user = User::new(&store);
        let items = 5_700_u32;
        let mut random = 7_u64;
        let mut sizes = vec![0; items as usize];
        for round in 0..20_u32 {
            for i in 0..items {
                random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                let n = if round == 0 { i } else { (random >> 33) as u32 % items };
                sizes[n as usize] = 700 + (random >> 20) as usize % 600;
                user.set(&key(n), &vec![n as u8; sizes[n as usize]]);
            }
            check_accounts(&store);
        }
        let stats = store.stats();
        assert_eq!(stats.get(Counter::Evictions), 0, "evict: {evict}");
        assert_eq!(stats.curr_items, u64::from(items));
        assert!(stats.get(Counter::Compactions) > 100 && stats.get(Counter::BytesMoved) > 1 << 20, "{stats:?}");
        for n in 0..items {
            assert_eq!(user.get(&key(n)), Some(vec![n as u8; sizes[n as usize]]), "key {n}, evict: {evict}");
        }
        check_sums(&store);
    }
}

#[test]
fn what_is_asked_for_survives_a_scan() {
    let (store, _) = small_store(4 << 20);
    let mut user = User::new(&store);
    let hot = 4_000_u32;
    let value = [7; 100];
    for n in 0..hot {
        user.set(&key(n), &value);
    }
    for n in 0..hot {
        assert!(user.get(&key(n)).is_some());
    }
    // Twelve times the memory, each stored once and never asked for; the hot ones now and then.
    for n in 0..400_000_u32 {
        user.set(&key(1_000_000 + n), &value);
        if n % 10 == 0 {
            user.get(&key(n / 10 % hot));
        }
    }
    let survivors = (0..hot).filter(|&n| user.get(&key(n)).is_some()).count();
    assert!(survivors > 3_900, "{survivors} of {hot}");
    let stats = store.stats();
    assert!(stats.get(Counter::Promotions) > 3_800, "{stats:?}");
    check_sums(&store);
}

#[test]
fn what_comes_back_soon_goes_to_the_main_queue() {
    let (store, _) = small_store(4 << 20);
    let mut user = User::new(&store);
    let value = [7; 100];
    let mut n = 0;
    while store.stats().get(Counter::Evictions) == 0 {
        user.set(&key(n), &value);
        n += 1;
    }
    let mut back = 0;
    for n in 0..1_000 {
        if user.get(&key(n)).is_none() {
            user.set(&key(n), &value);
            back += 1;
        }
    }
    let stats = store.stats();
    assert!(back > 0 && stats.get(Counter::GhostHits) >= back * 9 / 10, "{back} came back, {stats:?}");
    assert!(stats.segments_main > 0);
}

#[test]
fn expired_items_come_back_without_being_met() {
    let (store, hands) = small_store(4 << 20);
    let mut user = User::new(&store);
    let mut cleaner = Cleaner::new(&store);
    let soon = user.in_ms(5_000);
    let late = user.in_ms(3_600_000);
    let wall = Expiry::AtUnix { s: START_UNIX_MS / 1000 + 7_200 };
    for n in 0..4_000_u32 {
        let expiry = match n % 4 {
            0 => soon,
            1 => late,
            2 => wall,
            _ => Expiry::Never,
        };
        assert_eq!(user.store(Mode::Set, &key(n), &[1; 50], expiry), Ok(Outcome::Stored));
    }
    clean(&mut cleaner);
    assert_eq!(store.stats().curr_items, 4_000, "nothing leaves early");
    // Some get more time, some less.
    for n in 0..400_u32 {
        let expiry = if n % 4 == 0 { late } else { soon };
        assert!(user.touch(&key(n), expiry));
    }
    hands.advance_ms(5_001);
    clean(&mut cleaner);
    hands.advance_ms(1_000);
    clean(&mut cleaner);
    assert_eq!(store.stats().curr_items, 4_000 - 900 - 300);
    assert_eq!(user.get(&key(0)), Some(vec![1; 50]), "it was given more time");
    // The wall clock jumps ahead: what ends by it has ended.
    hands.step_wall_ms(7_200_000);
    clean(&mut cleaner);
    assert_eq!(store.stats().curr_items, 4_000 - 900 - 300 - 900);
    hands.advance_ms(3_600_000);
    clean(&mut cleaner);
    let stats = store.stats();
    assert_eq!(stats.curr_items, 900, "those that never end");
    assert_eq!(stats.get(Counter::Evictions), 0);
    assert_eq!(stats.get(Counter::Reclaimed), 3_100);
    check_sums(&store);
}

/// With TTLs that end one after the other the crawl finds little at a time; it still costs less than a hundredth of the time, which the manual clock
/// cannot show: here, that it ends, and finds everything in the end.
#[test]
fn spread_expiry_is_found_in_time() {
    let (store, hands) = small_store(8 << 20);
    let mut user = User::new(&store);
    let mut cleaner = Cleaner::new(&store);
    for n in 0..30_000_u32 {
        let ends = user.in_ms(u64::from(n) * 10);
        assert_eq!(user.store(Mode::Set, &key(n), &[1; 50], ends), Ok(Outcome::Stored));
    }
    for second in 1..=300_u64 {
        hands.advance_ms(1_000);
        clean(&mut cleaner);
        let (left, due) = (store.stats().curr_items, 29_999_u64.saturating_sub(second * 100));
        assert!((due..=due + 200).contains(&left), "{left} items after {second} s, {due} of them alive");
    }
}

#[test]
fn a_flush_gives_memory_back() {
    let (store, hands) = small_store(16 << 20);
    let mut user = User::new(&store);
    let mut cleaner = Cleaner::new(&store);
    for n in 0..100_000_u32 {
        user.set(&key(n), &[1; 50]);
    }
    let before = store.stats();
    user.flush(Expiry::Never);
    clean(&mut cleaner);
    assert_eq!(store.stats().curr_items, 0, "found without being met");
    assert_eq!(store.stats().get(Counter::Reclaimed), 100_000);
    for _ in 0..3 {
        hands.advance_ms(1_000);
        // The segments are free when the guards of then are gone.
        user.get(b"x");
        clean(&mut cleaner);
    }
    let after = store.stats();
    assert!(after.charged_bytes < before.charged_bytes / 4, "{before:?} {after:?}");
    check_sums(&store);
}

#[test]
fn the_limit_can_be_changed() {
    let (store, hands) = small_store(8 << 20);
    let mut user = User::new(&store);
    let mut cleaner = Cleaner::new(&store);
    let mut fill = |from: u32| {
        for n in from..from + 500_000 {
            user.set(&key(n), &[1; 50]);
        }
    };
    fill(0);
    let at_8 = store.stats();
    store.set_memory_limit(32 << 20).expect("addresses are reserved for 16 times the limit");
    fill(500_000);
    let at_32 = store.stats();
    assert!(at_32.curr_items > at_8.curr_items * 7 / 2, "{} and {}", at_8.curr_items, at_32.curr_items);
    assert!(
        matches!(store.set_memory_limit(4 << 20), Err(ConfigError::MemoryTooSmall { .. })),
        "the index would be most of it"
    );
    store.set_memory_limit(16 << 20).expect("it is half of what it was");
    for _ in 0..20 {
        hands.advance_ms(1_000);
        clean(&mut cleaner);
    }
    let at_16 = store.stats();
    assert_eq!(at_16.limit_maxbytes, 16 << 20);
    check_accounts(&store);
    assert!(at_16.curr_items > 80_000, "what fits stays: {at_16:?}");
    fill(1_000_000);
    check_accounts(&store);
    assert!(matches!(store.set_memory_limit(1 << 20), Err(ConfigError::MemoryTooSmall { .. })));
    assert!(matches!(store.set_memory_limit(1 << 40), Err(ConfigError::MemoryTooLarge { .. })));
}

#[test]
fn large_values_move_with_their_records() {
    let (store, _) = small_store(8 << 20);
    let mut user = User::new(&store);
    let mut cleaner = Cleaner::new(&store);
    for n in 0..64_u32 {
        user.set(&key(n), &vec![n as u8; 30_000]);
        user.set(&key(1_000 + n), &[n as u8; 100]);
    }
    let before = store.stats();
    let mut moved = 0;
    while moved < 200 && cleaner.move_oldest() {
        moved += 1;
    }
    assert!(moved > 10, "{moved} segments");
    let after = store.stats();
    assert_eq!((after.large_bytes, after.bytes, after.curr_items), (before.large_bytes, before.bytes, 128));
    for n in 0..64_u32 {
        assert_eq!(user.get(&key(n)), Some(vec![n as u8; 30_000]));
        assert!(user.delete(&key(n)));
    }
    for _ in 0..1_000 {
        user.get(b"x");
    }
    assert_eq!(store.stats().large_bytes, 0, "S4: each value was given up once");
}

/// Mutators and a mover that goes flat out, in a tiny cache. Each thread has keys of its own and knows what must be there; one counter is shared.
#[test]
fn r1_moving_loses_nothing() {
    const THREADS: u64 = 3;
    const ROUNDS: u64 = 12_000;
    let (clock, _) = Clock::manual(START_UNIX_MS);
    let config = Config { memory_limit: 4 << 20, item_size_max: 1 << 20, evict: false, ..Config::default() };
    let store = Store::new(config, clock).expect("the settings are possible");
    let done = AtomicBool::new(false);
    let barrier = Barrier::new(THREADS as usize + 1);
    let mut moved = 0_u64;
    User::new(&store).set(b"shared", b"0000000");
    std::thread::scope(|scope| {
        let mutators: Vec<_> = (0..THREADS)
            .map(|thread| {
                let (store, barrier) = (&store, &barrier);
                scope.spawn(move || {
                    let mut user = User::new(store);
                    let name = |what: &str| format!("{what} {thread}").into_bytes();
                    let (text, own, on_off, held) = (name("text"), name("own"), name("on/off"), name("held"));
                    let mut expected = Vec::new();
                    let mut last_cas = 0;
                    barrier.wait();
                    for round in 0..ROUNDS {
                        assert!(matches!(user.arith(b"shared", Delta::Incr(1)), Ok(ArithOutcome::Value(_))));
                        // Append: the text is what was appended.
                        if round % 64 == 0 {
                            expected.clear();
                            user.set(&text, b"");
                        }
                        let addition = round.to_le_bytes();
                        assert_eq!(user.store(Mode::Append, &text, &addition, Expiry::Never), Ok(Outcome::Stored));
                        expected.extend_from_slice(&addition);
                        assert_eq!(user.get(&text).as_ref(), Some(&expected));
                        // Compare and swap: nobody else changes it, so the id is still good, and ids rise.
                        if round == 0 {
                            user.set(&own, &addition);
                        }
                        let (value, cas) = user.gets(&own).expect("nobody removes it");
                        assert_eq!(value, round.saturating_sub(1).to_le_bytes());
                        assert!(cas > last_cas, "S3: {cas} after {last_cas}");
                        last_cas = cas;
                        assert_eq!(user.store(Mode::Cas(cas), &own, &addition, Expiry::Never), Ok(Outcome::Stored));
                        // Delete: gone is gone.
                        user.set(&on_off, &addition);
                        assert!(user.delete(&on_off), "round {round}");
                        assert_eq!(user.get(&on_off), None, "no deleted item comes back");
                        // Fetch: the mark stays.
                        user.set(&on_off, &addition);
                        assert_eq!(user.get(&on_off).as_deref(), Some(addition.as_slice()));
                        {
                            let mut batch = user.0.batch();
                            let hash = batch.hash(&on_off);
                            let fetched =
                                batch.meta_get(&on_off, hash, &Fetch::default()).expect("no memory is needed");
                            assert!(fetched.expect("nobody removes it").fetched_before, "round {round}");
                        }
                        // Touch: the new expiry stays.
                        if round == 0 {
                            user.set(&held, b"x");
                        }
                        let ends = Expiry::AtMono { ms: 1_000_000 + round };
                        assert!(user.touch(&held, ends));
                        let batch = user.0.batch();
                        let item = batch.get(&held, batch.hash(&held)).expect("it has not ended");
                        assert_eq!(item.expiry(), ends, "a touch that races with the mover keeps its effect");
                    }
                })
            })
            .collect();
        let mover = scope.spawn(|| {
            let mut cleaner = Cleaner::new(&store);
            barrier.wait();
            let mut moved = 0;
            while !done.load(std::sync::atomic::Ordering::Relaxed) {
                moved += u64::from(cleaner.move_oldest());
            }
            moved
        });
        let ends: Vec<_> = mutators.into_iter().map(|mutator| mutator.join()).collect();
        done.store(true, std::sync::atomic::Ordering::Relaxed);
        moved = mover.join().expect("no assertion failed");
        assert!(ends.iter().all(Result::is_ok), "an assertion of a mutator failed");
    });
    let mut user = User::new(&store);
    assert_eq!(
        user.arith(b"shared", Delta::Incr(0)),
        Ok(ArithOutcome::Value(THREADS * ROUNDS)),
        "R2: no increment is lost"
    );
    assert!(moved > 20, "{moved} segments were moved meanwhile");
    let stats = store.stats();
    assert_eq!(stats.get(Counter::Evictions), 0);
    check_accounts(&store);
    check_sums(&store);
}
