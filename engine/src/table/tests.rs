//! The table against `std`'s map, by one thread and by several.

use super::*;
use crate::sync::{Guard, pin};
use std::collections::HashMap;
use std::sync::Barrier;

/// Payloads are `key << 8 | version`; the hash is the key times an odd number, or a constant to force long chains.
struct Fixed {
    key: u64,
    hash: fn(u64) -> u64,
}

impl Keys for Fixed {
    fn is_match(&self, payload: u64) -> bool {
        payload >> 8 == self.key
    }

    fn hash_of(&self, payload: u64) -> u64 {
        (self.hash)(payload >> 8)
    }
}

fn spread(key: u64) -> u64 {
    key.wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

/// Four bits at the top, so that chains are long and every split has to look at entries.
fn crowded(key: u64) -> u64 {
    spread(key) & 0xf000_0000_0000_0000
}

fn set(table: &Table, key: u64, version: u64, hash: fn(u64) -> u64, guard: &Guard) -> bool {
    let keys = Fixed { key, hash };
    let payload = key << 8 | version;
    loop {
        if let Some(hit) = table.find(hash(key), &keys, guard) {
            if table.replace(hit, payload, &keys, guard).is_ok() {
                return false;
            }
            continue;
        }
        if matches!(table.insert(hash(key), payload, &keys, guard), Inserted::New) {
            table.grow_step(&keys, guard);
            return true;
        }
    }
}

fn get(table: &Table, key: u64, hash: fn(u64) -> u64, guard: &Guard) -> Option<u64> {
    table.find(hash(key), &Fixed { key, hash }, guard).map(|hit| hit.payload() & 0xff)
}

fn remove(table: &Table, key: u64, hash: fn(u64) -> u64, guard: &Guard) -> bool {
    let keys = Fixed { key, hash };
    while let Some(hit) = table.find(hash(key), &keys, guard) {
        if table.remove(hit, &keys, guard).is_ok() {
            return true;
        }
    }
    false
}

/// Waves: times of many inserts and times of many removals, so that chains grow, run empty and are closed.
#[test]
fn against_model() {
    for hash in [spread as fn(u64) -> u64, crowded] {
        let table = Table::new(0, 6);
        let mut model = HashMap::new();
        let mut random = 1_u64;
        for wave in 0..40 {
            let sets = if wave % 2 == 0 { 9 } else { 2 };
            for _ in 0..2_000 {
                random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                let key = 1 + (random >> 33) % 700;
                let version = random >> 20 & 0x7f;
                let guard = pin();
                match random >> 60 {
                    draw if draw < sets => {
                        assert_eq!(set(&table, key, version, hash, &guard), model.insert(key, version).is_none());
                    }
                    0..12 => assert_eq!(remove(&table, key, hash, &guard), model.remove(&key).is_some()),
                    _ => assert_eq!(get(&table, key, hash, &guard), model.get(&key).copied()),
                }
            }
            table.validate(&Fixed { key: 0, hash }, &pin());
            assert_eq!(table.len(), model.len());
        }
        give_back_idle(&table, hash);
    }
}

/// As many buckets as a capacity asks for, not twice as many: the first are there as if they had been split.
#[test]
fn a_capacity_gets_the_buckets_it_needs() {
    for capacity in [0, 1, 32, 33, 1000, 4096, 5000, 100_000] {
        let table = Table::new(capacity, 4);
        let buckets = (capacity as u64).div_ceil(4).max(8);
        assert_eq!(table.bytes(), buckets as usize * 64, "capacity {capacity}");
        let guard = pin();
        for key in 1..=2 * capacity as u64 + 10 {
            assert!(set(&table, key, key & 0xff, spread, &guard));
        }
        for key in 1..=2 * capacity as u64 + 10 {
            assert_eq!(get(&table, key, spread, &guard), Some(key & 0xff));
        }
        table.validate(&Fixed { key: 0, hash: spread }, &guard);
    }
}

/// Has every chain passed by an insert, until no overflow bucket is left that could go.
fn give_back_idle(table: &Table, hash: fn(u64) -> u64) {
    for _ in 0..100 {
        let idle = table.validate_chains(&pin());
        if idle == 0 {
            return;
        }
        for key in 1_000_000..1_000_000 + 40 * table.state().buckets() {
            let guard = pin();
            // Straight in: `set` would let the table grow.
            let keys = Fixed { key, hash };
            assert!(matches!(table.insert(hash(key), key << 8, &keys, &guard), Inserted::New));
            assert!(remove(table, key, hash, &guard));
        }
        assert!(table.validate_chains(&pin()) < idle, "T7: each insert gives one bucket of its chain back");
    }
    panic!("T7: {} overflow buckets that could go stay", table.validate_chains(&pin()));
}

/// One chain, step by step: what is closed and what is not.
#[test]
fn t7_a_bucket_is_closed_without_entries_only_and_then_takes_none() {
    fn same(_key: u64) -> u64 {
        0
    }
    let (table, guard) = (Table::new(0, 6), pin());
    let insert = |key| {
        let inserted = table.insert(0, key << 8, &Fixed { key, hash: same }, &guard);
        assert!(matches!(inserted, Inserted::New));
    };
    let remove = |key| assert!(remove(&table, key, same, &guard));
    // SAFETY: `guard` lives as long as the test.
    let behind = |link: &AtomicU64| unsafe { bucket::Overflow::from_link(link.load(Ordering::Acquire)) };
    let words = |bucket: &bucket::Overflow| bucket.slots.each_ref().map(|slot| slot.load(Ordering::Acquire));
    let head = &table.bucket(table.state().level(), 0).link;

    (1..=10).for_each(insert);
    let overflow = behind(head).expect("ten entries need one");
    let live = words(overflow)[1];
    remove(8);
    remove(10);
    remove(1);
    insert(11);
    assert_eq!(words(overflow), [EMPTY, live, EMPTY], "an entry keeps the whole bucket");

    // As an insert leaves it whose scan was older than the closing.
    overflow.slots[0].store(CLOSED, Ordering::Release);
    insert(12);
    assert_eq!(words(overflow), [CLOSED, live, EMPTY], "no new entry");
    let appended = behind(&overflow.link).expect("the entry went to a new bucket");
    remove(9);
    insert(13);
    assert_eq!(words(overflow), [CLOSED; 3]);
    assert!(std::ptr::eq(behind(head).expect("two entries are in it"), appended), "the closed one has left");
    assert_eq!(table.validate_chains(&guard), 0);

    remove(12);
    remove(13);
    insert(14);
    assert!(words(appended)[0] != CLOSED, "an empty bucket stays while it is the only room");
    remove(14);
    remove(11);
    insert(15);
    assert!(behind(head).is_none(), "and goes when there is room in front of it");
}

/// Two closers have stopped before they unlinked neighbours, at the end of a chain without room: the first goes first, then there is an end to append to.
#[test]
fn t7_neighbours_that_are_closed_leave_in_order() {
    let (table, guard) = (Table::new(0, 6), pin());
    let keys = |key| Fixed { key, hash: |_| 0 };
    for key in 1..=13 {
        assert!(matches!(table.insert(0, key << 8, &keys(key), &guard), Inserted::New));
    }
    let head = &table.bucket(table.state().level(), 0).link;
    // SAFETY: `guard` lives as long as the test.
    let behind = |link: &AtomicU64| unsafe { bucket::Overflow::from_link(link.load(Ordering::Acquire)) };
    let first = behind(head).expect("a bucket");
    let second = behind(&first.link).expect("a bucket");
    for key in 8..=13 {
        let hit = table.find(0, &keys(key), &guard).expect("it is there");
        assert!(table.remove(hit, &keys(key), &guard).is_ok());
    }
    for bucket in [first, second] {
        bucket.slots.iter().for_each(|slot| slot.store(CLOSED, Ordering::Release));
        bucket.link.fetch_or(LINK_CLOSED, Ordering::AcqRel);
    }
    assert!(matches!(table.insert(0, 14 << 8, &keys(14), &guard), Inserted::New));
    assert!(behind(head).is_some_and(|third| behind(&third.link).is_none()), "one bucket for eight entries");
    assert_eq!(table.validate_chains(&guard), 0);
}

#[test]
fn growth_keeps_the_load_and_gives_old_levels_back() {
    let table = Table::new(0, 6);
    let entries = 300_000;
    for key in 1..=entries {
        assert!(set(&table, key, 0, spread, &pin()));
    }
    // 64 / 6 bytes of buckets; overflow adds 3, and more here while the guards of other tests keep retired buckets from being reused.
    let per_entry = table.state().buckets() as f64 * 64.0 / entries as f64;
    assert!((10.5..11.0).contains(&per_entry), "{per_entry} bytes of buckets per entry");
    let guard = pin();
    table.validate(&Fixed { key: 0, hash: spread }, &guard);
    for key in 1..=entries {
        assert_eq!(get(&table, key, spread, &guard), Some(0));
    }
    assert_eq!(get(&table, entries + 1, spread, &guard), None);
}

/// Threads insert, replace and remove the same few keys while the table grows from nothing; what they counted must be what is there.
#[test]
fn counted_outcomes_under_contention() {
    const KEYS: u64 = 3_000;
    const ROUNDS: u64 = 40_000;
    for hash in [spread as fn(u64) -> u64, crowded] {
        let table = Table::new(0, 6);
        let barrier = Barrier::new(3);
        let balance: i64 = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..3_u64)
                .map(|thread| {
                    let (table, barrier) = (&table, &barrier);
                    scope.spawn(move || {
                        barrier.wait();
                        let mut random = thread + 1;
                        let mut balance = 0;
                        for round in 0..ROUNDS {
                            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(thread);
                            let key = 1 + (random >> 33) % (KEYS.min(10 + round / 8));
                            let guard = pin();
                            if random >> 62 != 0 {
                                balance += i64::from(set(table, key, thread, hash, &guard));
                            } else {
                                balance -= i64::from(remove(table, key, hash, &guard));
                            }
                        }
                        balance
                    })
                })
                .collect();
            threads.into_iter().map(|thread| thread.join().expect("no thread panics")).sum()
        });
        assert_eq!(balance, table.len() as i64, "inserts won less removes won are the entries");
        table.validate(&Fixed { key: 0, hash }, &pin());
    }
}

/// Threads replace old keys by new ones, so that every chain grows and shrinks all the time, and look for keys that are there throughout. The
/// table keeps its size in the first half and is split under their hands in the second.
#[test]
fn counted_outcomes_under_churn() {
    const WINDOW: u64 = 150;
    const ROUNDS: u64 = 40_000;
    for hash in [spread as fn(u64) -> u64, crowded] {
        let table = Table::new(64 * 6, 6);
        let barrier = Barrier::new(3);
        std::thread::scope(|scope| {
            for thread in 0..3_u64 {
                let (table, barrier) = (&table, &barrier);
                scope.spawn(move || {
                    let key_of = |round: u64| 1 + round * 3 + thread;
                    barrier.wait();
                    for round in 0..ROUNDS {
                        let guard = pin();
                        let keys = Fixed { key: key_of(round), hash };
                        let payload = keys.key << 8 | thread;
                        let inserted = table.insert(hash(keys.key), payload, &keys, &guard);
                        assert!(matches!(inserted, Inserted::New), "T2: nobody else has this key");
                        if round > ROUNDS / 2 && round.is_multiple_of(64) {
                            table.help_split(table.state(), &keys, &guard);
                        }
                        let oldest = round.saturating_sub(WINDOW);
                        let there = oldest + round.wrapping_mul(0x9e37_79b9) % (round - oldest + 1);
                        assert_eq!(get(table, key_of(there), hash, &guard), Some(thread), "T8: it is there throughout");
                        if round >= WINDOW {
                            assert!(remove(table, key_of(oldest), hash, &guard), "only we remove it");
                        }
                    }
                });
            }
        });
        assert_eq!(table.len() as u64, 3 * WINDOW);
        table.validate(&Fixed { key: 0, hash }, &pin());
        give_back_idle(&table, hash);
    }
}

/// One key, many threads that insert it and take it out: every insert that won is matched by one removal (T2).
#[test]
fn t2_one_key_is_never_there_twice() {
    let table = Table::new(0, 6);
    let balance: i64 = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..3_u64)
            .map(|thread| {
                let table = &table;
                scope.spawn(move || {
                    let mut balance = 0;
                    for round in 0..30_000_u64 {
                        let guard = pin();
                        let keys = Fixed { key: 5, hash: spread };
                        // T4: each payload is claimed once.
                        let payload = 5 << 8 | (thread * 85 + round % 85);
                        match table.insert(spread(5), payload, &keys, &guard) {
                            Inserted::New => balance += 1,
                            Inserted::Exists(hit) => {
                                balance -= i64::from(table.remove(hit, &keys, &guard).is_ok());
                            }
                            Inserted::Retry => {}
                        }
                    }
                    balance
                })
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().expect("no thread panics")).sum()
    });
    assert_eq!(balance, table.len() as i64);
    let (guard, mut found) = (pin(), Vec::new());
    table.visit_bucket(spread(5), &guard, &mut found);
    assert_eq!(found.len() as i64, balance, "T2: at rest one entry or none");
}
