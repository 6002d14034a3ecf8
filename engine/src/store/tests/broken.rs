//! What an attentive reader broke once: short memory, tiny records, storms of flushes.

use super::*;

fn key(n: u32) -> Vec<u8> {
    format!("key:{n:06}").into_bytes()
}

fn full_store() -> (Arc<Store>, ManualClock, User, u32) {
    let (clock, hands) = Clock::manual(START_UNIX_MS);
    let config = Config { memory_limit: 8 << 20, item_size_max: 1 << 20, evict: false, ..Config::default() };
    let store = Store::new(config, clock).expect("ok");
    let mut user = User::new(&store);
    let mut n = 0;
    while user.store(Mode::Set, &key(n), &vec![b'v'; if n % 1000 == 0 { 1950 } else { 300 }], Expiry::Never).is_ok() {
        n += 1;
    }
    (store, hands, user, n)
}

fn segment_of(store: &Store, user: &mut User, key: &[u8]) -> Option<(usize, u64)> {
    let batch = user.0.batch();
    let hash = batch.hash(key);
    let found = batch.view().find(key, hash)?;
    Some((store.log.segment_of(found.hit.payload()), found.hit.payload()))
}

/// gat of a sealed item while memory is full: the location outlives the repin in `make_room`.
#[test]
fn an_item_is_never_found_before_the_guard_moved() {
    let mut bad = 0;
    for holes_in_x in 2..5_u32 {
        for others in [0, 1, 2, 3, 4, 5, 6] {
            let (store, _hands, mut user, _n) = full_store();
            let x = key(5000);
            let (segment, before) = segment_of(&store, &mut user, &x).expect("there");
            let mut per = std::collections::BTreeMap::<usize, u32>::new();
            for k in 5001..5000 + 50 * (others + 2) {
                if let Some((s, _)) = segment_of(&store, &mut user, &key(k)) {
                    if s != segment && per.len() >= others as usize && !per.contains_key(&s) {
                        continue;
                    }
                    let c = per.entry(s).or_default();
                    if *c < (if s == segment { holes_in_x } else { 2 }) {
                        *c += 1;
                        user.delete(&key(k));
                    }
                }
            }
            {
                let batch = user.0.batch();
                let hash = batch.hash(&x);
                // As a mover, or an append that lost, leaves it.
                batch.view().find(&x, hash).expect("there").record.seal();
            }
            let mut user = User::new(&store);
            let shown = {
                let mut batch = user.0.batch();
                let hash = batch.hash(&x);
                let item = batch.get_and_touch(&x, hash, Expiry::AtMono { ms: 1_000_000 }).expect("it is there");
                let at = (item.key().as_ptr() as usize - store.log.address(1) as usize) >> 14;
                (
                    String::from_utf8_lossy(item.key()).into_owned(),
                    item.value().len(),
                    at,
                    store.log.segments.is_readable(at),
                )
            };
            let now = segment_of(&store, &mut user, &x);
            if shown.0.as_bytes() != x.as_slice() || shown.1 != 1950 || !shown.3 {
                bad += 1;
                eprintln!(
                    "holes {holes_in_x}+{others}: was in segment {segment} at {before}, is at {now:?}, got {shown:?}"
                );
            }
        }
    }
    assert_eq!(bad, 0);
}

/// As above; then a mover opens the segment that the item was in.
#[test]
fn an_item_does_not_change_under_its_batch() {
    let (store, _hands, mut user, _n) = full_store();
    let x = key(5000);
    let (segment, _) = segment_of(&store, &mut user, &x).expect("there");
    let mut holes = 0;
    for k in 5001..5030 {
        if holes < 3 && segment_of(&store, &mut user, &key(k)).is_some_and(|(s, _)| s == segment) {
            user.delete(&key(k));
            holes += 1;
        }
    }
    {
        let batch = user.0.batch();
        let hash = batch.hash(&x);
        batch.view().find(&x, hash).expect("there").record.seal();
    }
    let mut user = User::new(&store);
    let mut batch = user.0.batch();
    let hash = batch.hash(&x);
    let item = batch.get_and_touch(&x, hash, Expiry::AtMono { ms: 1_000_000 }).expect("it is there");
    assert_eq!(item.key(), x.as_slice());
    let store2 = Arc::clone(&store);
    std::thread::spawn(move || {
        let mut cleaner = Cleaner::new(&store2);
        for _ in 0..3 {
            cleaner.move_oldest();
        }
    })
    .join()
    .unwrap();
    let is_current = {
        let mut other = User::new(&store);
        other.get(&x).is_some_and(|value| value == vec![b'v'; 1950])
    };
    assert!(is_current, "x is still there and unchanged");
    assert_eq!(item.key(), x.as_slice(), "an item does not change under its batch");
}

/// Three flushers: one is in its sweep, one in the next, and stamps come round.
#[test]
fn s5_flush_stamps_do_not_come_round_to_what_is_left() {
    let (store, _) = small_store(64 << 20);
    let mut user = User::new(&store);
    for _ in 0..5 {
        user.flush(Expiry::Never);
    }
    let items = 200_000_u32;
    for n in 0..items {
        user.set(&n.to_le_bytes(), b"x");
    }
    assert_eq!(store.stats().get(Counter::Evictions), 0);
    user.flush(Expiry::Never);
    let flushes = || store.flushes.load(Ordering::SeqCst);
    std::thread::scope(|scope| {
        let storm = |until: u64| {
            let mut user = User::new(&store);
            while flushes() < until {
                user.flush(Expiry::Never);
            }
        };
        scope.spawn(move || storm(32_768));
        while flushes() < 32_768 {
            std::hint::spin_loop();
        }
        scope.spawn(move || storm(65_536));
        while flushes() < 65_536 {
            std::hint::spin_loop();
        }
        storm(65_536 + 5);
        let mut back = 0;
        for n in 0..items {
            back += u32::from(user.get(&n.to_le_bytes()).is_some());
        }
        assert_eq!(back, 0, "S5: flushed items came back");
    });
}

#[test]
fn a_limit_that_leaves_nothing_for_items_is_refused() {
    let (clock, _) = Clock::manual(START_UNIX_MS);
    let config = Config { memory_limit: 1 << 30, item_size_max: 1 << 20, ..Config::default() };
    let store = Store::new(config, clock).expect("the settings are possible");
    let mut user = User::new(&store);
    user.set(b"a", b"b");
    let refused = store.set_memory_limit(16 << 20);
    let Err(ConfigError::MemoryTooSmall { bytes_min }) = refused else { panic!("{refused:?}") };
    store.set_memory_limit(bytes_min).expect("it is said to be enough");
    for n in 0..100_000 {
        user.set(&key(n), &[1; 1000]);
    }
}

/// Records grow by an id when they are moved: with tiny ones a compaction must win more than that.
#[test]
fn holes_among_tiny_records_are_used_again() {
    for (every, len) in [(4, 8), (3, 100), (2, 8)] {
        let (clock, _) = Clock::manual(START_UNIX_MS);
        let config = Config { memory_limit: 8 << 20, item_size_max: 1 << 20, evict: false, ..Config::default() };
        let store = Store::new(config, clock).expect("the settings are possible");
        let mut user = User::new(&store);
        let mut fill = |from: u32| {
            (from..).take_while(|&n| user.store(Mode::Set, &key(n), &vec![b'v'; len], Expiry::Never).is_ok()).count()
                as u32
        };
        let items = fill(0);
        let mut other = User::new(&store);
        let deleted = (0..items).step_by(every).filter(|&n| other.delete(&key(n))).count() as u32;
        let back = fill(1_000_000);
        let grown = store.stats();
        assert!(back > deleted / 4, "{len} B, one in {every}: {deleted} deleted, room for {back}, {grown:?}");
        let deleted = (0..items).filter(|&n| other.delete(&key(n))).count() as u32;
        let back = fill(2_000_000);
        assert!(back > deleted / 2, "{len} B: {deleted} more deleted, room for {back}, {:?}", store.stats());
    }
}

#[test]
fn holes_among_tiny_records_do_not_stop_eviction() {
    for (every, len) in [(9, 8), (6, 8), (4, 8), (8, 1), (6, 30)] {
        let (store, _) = small_store(8 << 20);
        let mut user = User::new(&store);
        let items = 140_000;
        for n in 0..items {
            user.set(&key(n), &vec![b'v'; len]);
        }
        for n in (0..items).step_by(every) {
            user.delete(&key(n));
        }
        for n in 0..60_000 {
            user.set(&key(1_000_000 + n), &vec![b'v'; len]);
        }
        check_accounts(&store);
    }
}
