//! Scans meet what is there throughout, once; sweeps and purges take what they should; evictions can be watched.

use super::*;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering as Std};

const ONE_BUCKET: usize = 1;

/// Keys that a scan of everything meets, with how often it met them.
fn scanned(user: &mut User, mut cursor: Cursor) -> BTreeMap<Vec<u8>, usize> {
    let mut met = BTreeMap::new();
    while !cursor.is_done() {
        user.0.batch().scan(&mut cursor, 3, |seen| {
            *met.entry(seen.item.key().to_vec()).or_default() += 1;
            true
        });
    }
    met
}

#[test]
fn a_scan_shows_items_as_they_are_and_leaves_no_mark() {
    let (store, hands) = small_store(1 << 20);
    let mut user = User::new(&store);
    user.set(b"a", b"one");
    let now = store.clock().now();
    user.store(Mode::Set, b"b", b"12345", Expiry::from_exptime(100, now)).expect("room");
    user.store(Mode::Set, b"gone", b"", Expiry::from_exptime(1, now)).expect("room");
    user.get(b"b");
    hands.advance_ms(5_000);
    let before = store.stats().get(Counter::CmdGet);
    for _ in 0..2 {
        let mut seen = Vec::new();
        let mut cursor = Cursor::new();
        while !cursor.is_done() {
            let batch = user.0.batch();
            let now = batch.now();
            batch.scan(&mut cursor, 1000, |hit| {
                let (key, value) = (hit.item.key().to_vec(), hit.item.value().to_vec());
                seen.push((key, value, hit.fetched_before, hit.expiry.remaining_s(now), hit.idle_s));
                true
            });
        }
        seen.sort();
        assert_eq!(
            seen,
            [(b"a".to_vec(), b"one".to_vec(), false, None, 5), (b"b".to_vec(), b"12345".to_vec(), true, Some(95), 5)]
        );
    }
    assert_eq!(store.stats().get(Counter::CmdGet), before);
}

#[test]
fn a_scan_stops_behind_the_bucket_in_which_it_is_told_to() {
    let (store, _) = small_store(4 << 20);
    let mut user = User::new(&store);
    for i in 0..5_000 {
        user.set(format!("k{i}").as_bytes(), b"v");
    }
    let (mut cursor, mut met, mut calls) = (Cursor::new(), 0, 0);
    while !cursor.is_done() {
        let mut of_call = 0;
        user.0.batch().scan(&mut cursor, usize::MAX, |_| {
            of_call += 1;
            false
        });
        // Six a bucket on average, with overflow buckets behind some.
        assert!(of_call <= 64, "{of_call}");
        met += of_call;
        calls += 1;
    }
    assert!(met == 5_000 && calls > 500, "{met} in {calls}");
}

#[test]
fn parts_of_a_scan_are_the_whole() {
    let (store, _) = small_store(4 << 20);
    let mut user = User::new(&store);
    for i in 0..2_000 {
        user.set(format!("k{i}").as_bytes(), b"v");
    }
    let mut met = BTreeMap::new();
    for part in Cursor::parts() {
        for (key, times) in scanned(&mut user, part) {
            *met.entry(key).or_insert(0) += times;
        }
    }
    assert!(met.len() == 2_000 && met.values().all(|times| *times == 1));
}

/// Keys that are there throughout are met exactly once, although the index grows by a multiple, others come and go, and the lasting
/// ones are overwritten and touched all the time.
#[test]
fn a_scan_misses_no_lasting_key_while_others_write() {
    const LASTING: usize = 2_000;
    let (store, _) = small_store(64 << 20);
    let mut user = User::new(&store);
    for i in 0..LASTING {
        user.set(format!("lasting{i}").as_bytes(), b"v");
    }
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for writer in 0..2 {
            let (store, stop) = (&store, &stop);
            scope.spawn(move || {
                let mut user = User::new(store);
                let mut i = 0;
                while !stop.load(Std::Relaxed) && i < 200_000 {
                    user.set(format!("new{writer}-{i}").as_bytes(), b"v");
                    user.set(format!("lasting{}", i % LASTING).as_bytes(), b"w");
                    user.touch(format!("lasting{}", (i * 7) % LASTING).as_bytes(), Expiry::Never);
                    if i % 3 == 0 {
                        user.delete(format!("new{writer}-{}", i / 2).as_bytes());
                    }
                    i += 1;
                }
            });
        }
        for _ in 0..10 {
            let mut met = BTreeMap::new();
            let mut cursor = Cursor::new();
            while !cursor.is_done() {
                user.0.batch().scan(&mut cursor, ONE_BUCKET, |seen| {
                    *met.entry(seen.item.key().to_vec()).or_insert(0) += 1;
                    true
                });
            }
            for i in 0..LASTING {
                assert_eq!(met.get(format!("lasting{i}").as_bytes()), Some(&1), "lasting{i}");
            }
        }
        stop.store(true, Std::Relaxed);
    });
    assert_eq!(store.stats().get(Counter::Evictions), 0, "the store was large enough for this test to mean something");
}

#[test]
fn a_sweep_takes_the_expired_and_the_flushed_and_nothing_else() {
    let (store, hands) = small_store(4 << 20);
    let mut user = User::new(&store);
    for i in 0..100 {
        user.set(format!("flushed{i}").as_bytes(), b"v");
    }
    user.flush(Expiry::Never);
    let soon = Expiry::from_exptime(10, store.clock().now());
    for i in 0..1_000 {
        let expiry = if i % 4 == 0 { soon } else { Expiry::Never };
        user.store(Mode::Set, format!("k{i}").as_bytes(), b"v", expiry).expect("room");
    }
    hands.advance_ms(11_000);
    let (mut cursor, mut total) = (Cursor::new(), Swept::default());
    while !cursor.is_done() {
        let swept = user.0.batch().sweep(&mut cursor, 10);
        total.checked += swept.checked;
        total.reclaimed += swept.reclaimed;
    }
    assert_eq!(total, Swept { checked: 1_100, reclaimed: 350 });
    assert_eq!(store.stats().curr_items, 750);
    assert_eq!(store.stats().get(Counter::ExpiredUnfetched), 250);
    assert!(scanned(&mut user, Cursor::new()).len() == 750);
}

#[test]
fn a_purge_takes_a_prefix() {
    let (store, hands) = small_store(4 << 20);
    let mut user = User::new(&store);
    for i in 0..500 {
        user.set(format!("user:{i}").as_bytes(), b"v");
        user.set(format!("users:{i}").as_bytes(), b"v");
    }
    let soon = Expiry::from_exptime(1, store.clock().now());
    user.store(Mode::Set, b"user:gone", b"", soon).expect("room");
    hands.advance_ms(2_000);
    let (mut cursor, mut purged) = (Cursor::new(), 0);
    while !cursor.is_done() {
        purged += user.0.batch().purge(&mut cursor, 10, b"user:");
    }
    assert_eq!(purged, 500, "what nobody could see any more does not count");
    let left: BTreeSet<Vec<u8>> = scanned(&mut user, Cursor::new()).into_keys().collect();
    assert!(left.len() == 500 && left.iter().all(|key| key.starts_with(b"users:")));
    assert_eq!(store.stats().curr_items, 500);
}

#[test]
fn evictions_can_be_watched() {
    let (store, _) = small_store(1 << 20);
    let mut user = User::new(&store);
    let fill = |user: &mut User, round: usize| {
        for i in 0..4_000 {
            user.set(format!("round{round}-{i}").as_bytes(), &[b'v'; 400]);
        }
    };
    fill(&mut user, 0);
    let mut seen = Vec::new();
    assert_eq!(store.drain_evictions(|eviction| seen.push(eviction)), 0);
    assert!(seen.is_empty(), "nobody watched");

    store.watch_evictions(true);
    let before = store.stats().get(Counter::Evictions);
    fill(&mut user, 1);
    let lost = store.drain_evictions(|eviction| seen.push(eviction));
    let evicted = store.stats().get(Counter::Evictions) - before;
    assert!(evicted > 1_000);
    assert_eq!(seen.len() as u64 + lost, evicted);
    assert!(seen.iter().all(|eviction| eviction.key.starts_with(b"round") && eviction.value_len == 400));
    assert!(seen.iter().all(|eviction| !eviction.fetched && eviction.remaining_s.is_none()));

    for round in 2..8 {
        fill(&mut user, round);
    }
    let mut kept = 0;
    assert!(store.drain_evictions(|_| kept += 1) > 0 && kept > 0, "the queue is bounded");
    store.watch_evictions(false);
    fill(&mut user, 8);
    assert_eq!(store.drain_evictions(|_| panic!("nobody watches")), 0);
}

#[test]
fn a_peek_tells_why_nothing_is_there() {
    let (store, hands) = small_store(1 << 20);
    let mut user = User::new(&store);
    let peek = |user: &mut User, key: &[u8]| {
        let batch = user.0.batch();
        let hash = batch.hash(key);
        batch.peek(key, hash)
    };
    user.set(b"flushed", b"v");
    user.flush(Expiry::Never);
    let soon = Expiry::from_exptime(1, store.clock().now());
    user.store(Mode::Set, b"expired", b"v", soon).expect("room");
    user.set(b"found", b"12345");
    hands.advance_ms(2_000);
    assert_eq!(peek(&mut user, b"flushed"), super::super::Seen::Flushed);
    assert_eq!(peek(&mut user, b"expired"), super::super::Seen::Expired);
    assert_eq!(peek(&mut user, b"nothing"), super::super::Seen::NotFound);
    assert_eq!(peek(&mut user, b"found"), super::super::Seen::Found { value_len: 5, expiry: Expiry::Never });
    assert_eq!(store.stats().get(Counter::CmdGet), 0);
}
