//! Every interleaving of two or three threads on a tiny table, by loom: two slots a bucket, two buckets at the start.
//!
//! Run with `RUSTFLAGS="--cfg crossbeam_loom" cargo test -p memkv-engine --lib --release models`. Entries are heap
//! cells that the model checker tracks, so that a payload read before it was written is found. (Reclamation: `log/models.rs`.)
//! Preemptions are bounded (two per execution unless a model says otherwise; `LOOM_MAX_PREEMPTIONS` overrides): loom then covers every
//! schedule with that many forced switches.

use super::*;
use crate::sync::Guard;
use loom::cell::UnsafeCell;
use loom::thread;
use std::sync::atomic::AtomicUsize;

/// What a payload points to.
struct Entry {
    hash: u64,
    value: UnsafeCell<u64>,
}

fn entry(hash: u64, value: u64) -> u64 {
    Box::into_raw(Box::new(Entry { hash, value: UnsafeCell::new(value) })) as u64 >> 3
}

fn read(payload: u64) -> (u64, u64) {
    // SAFETY: payloads in these models come from `entry` and are freed only by `free` through the epoch.
    let entry = unsafe { &*((payload << 3) as *const Entry) };
    // SAFETY: written before it was published; loom checks that claim.
    (entry.hash, entry.value.with(|value| unsafe { *value }))
}

struct ByHash(u64);

impl Keys for ByHash {
    fn is_match(&self, payload: u64) -> bool {
        read(payload).0 == self.0
    }

    fn hash_of(&self, payload: u64) -> u64 {
        read(payload).0
    }
}

/// The table, and a guard that frees nothing: what these models prove does not depend on when memory goes.
type At<'a> = (&'a Table, &'a Guard);

fn insert((table, guard): At<'_>, hash: u64, value: u64) -> bool {
    loop {
        let payload = entry(hash, value);
        match table.insert(hash, payload, &ByHash(hash), guard) {
            Inserted::New => return true,
            Inserted::Exists(_) => {
                return false;
            }
            // T4: a fresh payload the next time.
            Inserted::Retry => {}
        }
    }
}

fn update((table, guard): At<'_>, hash: u64, value: u64) -> bool {
    while let Some(hit) = table.find(hash, &ByHash(hash), guard) {
        let payload = entry(hash, value);
        if table.replace(hit, payload, &ByHash(hash), guard).is_ok() {
            return true;
        }
    }
    false
}

fn remove((table, guard): At<'_>, hash: u64) -> bool {
    while let Some(hit) = table.find(hash, &ByHash(hash), guard) {
        if table.remove(hit, &ByHash(hash), guard).is_ok() {
            return true;
        }
    }
    false
}

fn get((table, guard): At<'_>, hash: u64) -> Option<u64> {
    table.find(hash, &ByHash(hash), guard).map(|hit| read(hit.payload()).1)
}

fn split((table, guard): At<'_>) {
    table.help_split(table.state(), &ByHash(0), guard);
}

fn check(preemptions: usize, model: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = builder.preemption_bound.or(Some(preemptions));
    let schedules = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&schedules);
    builder.check(move || {
        count.fetch_add(1, Ordering::Relaxed);
        model();
    });
    assert!(schedules.load(Ordering::Relaxed) > 1, "the threads of a model meet");
}

fn table() -> Arc<Table> {
    Arc::new(Table::new(0, 100))
}

/// Makes the model checker begin with each thread in turn. It looks for races against the last access to an atomic only, so it overlooks
/// a thread that loads, then runs to its end, and is followed by one that loads the same words and changes them: without this,
/// a reader that comes first meets no schedule but that one.
#[derive(Clone)]
struct Start(Arc<AtomicU64>);

impl Start {
    fn new() -> Start {
        Start(Arc::new(AtomicU64::new(0)))
    }

    fn pass(&self) {
        // Relaxed: the race is all that matters; it orders nothing.
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

/// Runs two operations against each other on a table that `prepare` filled, then checks the table.
fn pair(
    prepare: fn(At<'_>),
    left: fn(At<'_>) -> bool,
    right: fn(At<'_>) -> bool,
    check_outcome: fn(At<'_>, bool, bool),
) {
    pair_bounded(2, prepare, left, right, check_outcome);
}

fn pair_bounded(
    preemptions: usize,
    prepare: fn(At<'_>),
    left: fn(At<'_>) -> bool,
    right: fn(At<'_>) -> bool,
    check_outcome: fn(At<'_>, bool, bool),
) {
    check(preemptions, move || {
        let table = table();
        let guard = Guard::NeverFree;
        prepare((&table, &guard));
        let (other, start) = (Arc::clone(&table), Start::new());
        let first = start.clone();
        let thread = thread::spawn(move || {
            first.pass();
            left((&other, &Guard::NeverFree))
        });
        start.pass();
        let right = right((&table, &guard));
        let left = thread.join().expect("no panic");
        check_outcome((&table, &guard), left, right);
        let mut found = Vec::new();
        let mut from = Some(0);
        let mut total = 0;
        while let Some(hash) = from {
            from = table.visit_bucket(hash, &guard, &mut found);
            total += found.len();
        }
        assert_eq!(total, table.len(), "entries counted and entries there");
    });
}

/// Both hash to bucket 0 and share the tag; they differ in the bit that the first split looks at.
const K: u64 = 0;
const L: u64 = 1 << 62;

#[test]
fn t2_insert_insert_same_key() {
    pair(
        |_| {},
        |table| insert(table, K, 1),
        |table| insert(table, K, 2),
        |table, left, right| {
            assert!(left != right, "exactly one insert wins");
            assert_eq!(get(table, K), Some(if left { 1 } else { 2 }));
        },
    );
}

#[test]
fn t2_insert_insert_same_key_in_different_slots() {
    // The removal frees slot 0 between the two scans for room, so that the claims may lie in either order.
    pair(
        |table| {
            insert(table, L, 9);
        },
        |table| {
            remove(table, L);
            insert(table, K, 1)
        },
        |table| insert(table, K, 2),
        |table, left, right| {
            assert!(left != right, "exactly one insert wins");
            assert!(get(table, K).is_some());
        },
    );
}

#[test]
fn t2_insert_insert_with_overflow() {
    pair(
        |table| {
            insert(table, L, 8);
            insert(table, L | 1, 9);
        },
        |table| insert(table, K, 1),
        |table| insert(table, K, 2),
        |table, left, right| {
            assert!(left != right, "exactly one insert wins");
            assert!(get(table, K).is_some() && get(table, L) == Some(8) && get(table, L | 1) == Some(9));
        },
    );
}

#[test]
fn insert_remove() {
    pair_bounded(
        4,
        |_| {},
        |table| insert(table, K, 1),
        |table| remove(table, K),
        |table, inserted, removed| {
            assert!(inserted);
            assert_eq!(get(table, K).is_none(), removed);
        },
    );
}

#[test]
fn update_remove() {
    pair_bounded(
        4,
        |table| {
            insert(table, K, 1);
        },
        |table| update(table, K, 2),
        |table| remove(table, K),
        |table, _updated, removed| {
            assert!(removed, "the key was there throughout");
            assert_eq!(get(table, K), None, "an update does not bring it back");
        },
    );
}

#[test]
fn remove_remove() {
    pair_bounded(
        4,
        |table| {
            insert(table, K, 1);
        },
        |table| remove(table, K),
        |table| remove(table, K),
        |_, left, right| assert!(left != right, "one removal wins"),
    );
}

#[test]
fn read_sees_old_or_new_value_whole() {
    pair_bounded(
        4,
        |table| {
            insert(table, K, 1);
        },
        |table| update(table, K, 2),
        |table| matches!(get(table, K), Some(1 | 2)),
        |_, updated, found| assert!(updated && found),
    );
}

fn split_and_true(at: At<'_>) -> bool {
    split(at);
    true
}

#[test]
fn split_insert() {
    pair(
        |table| {
            insert(table, L, 9);
        },
        split_and_true,
        |table| insert(table, K, 1),
        |table, _, inserted| {
            assert!(inserted);
            assert_eq!((get(table, K), get(table, L)), (Some(1), Some(9)));
        },
    );
}

#[test]
fn split_remove() {
    pair(
        |table| {
            insert(table, K, 1);
            insert(table, L, 9);
        },
        split_and_true,
        |table| remove(table, K),
        |table, _, removed| {
            assert!(removed);
            assert_eq!((get(table, K), get(table, L)), (None, Some(9)));
        },
    );
}

#[test]
fn split_update() {
    pair(
        |table| {
            insert(table, K, 1);
        },
        split_and_true,
        |table| update(table, K, 2),
        |table, _, updated| {
            assert!(updated);
            assert_eq!(get(table, K), Some(2), "the update survives the split");
        },
    );
}

#[test]
fn split_read() {
    pair_bounded(
        4,
        |table| {
            insert(table, K, 1);
            insert(table, L, 9);
        },
        split_and_true,
        |table| get(table, K) == Some(1) && get(table, L) == Some(9),
        |_, _, found| assert!(found, "keys that are there throughout are always found"),
    );
}

#[test]
fn split_split() {
    // Two whole splits are some sixty steps: one preemption in CI.
    pair_bounded(
        1,
        |table| {
            insert(table, K, 1);
            insert(table, L, 9);
            insert(table, L | 1, 7);
        },
        split_and_true,
        split_and_true,
        |table, _, _| {
            assert_eq!((get(table, K), get(table, L), get(table, L | 1)), (Some(1), Some(9), Some(7)));
        },
    );
}

/// Two inserts of one key, of which one splits the bucket first, under the other's hands.
#[test]
fn t2_insert_insert_split() {
    pair(
        |_| {},
        |at| insert(at, K, 1),
        |at| {
            split(at);
            insert(at, K, 2)
        },
        |at, left, right| {
            assert!(left != right, "exactly one insert wins");
            assert!(get(at, K).is_some());
        },
    );
}

/// A key that is there throughout is visited exactly once while its bucket is split.
#[test]
fn split_visit() {
    pair_bounded(
        4,
        |table| {
            insert(table, K, 1);
            insert(table, L, 9);
        },
        split_and_true,
        |(table, guard)| {
            let (mut from, mut found, mut seen) = (Some(0), Vec::new(), Vec::new());
            while let Some(hash) = from {
                from = table.visit_bucket(hash, &guard, &mut found);
                seen.extend(found.iter().map(|hit| read(hit.payload()).1));
            }
            seen.sort_unstable();
            seen == [1, 9]
        },
        |_, _, once| assert!(once),
    );
}

/// Two inserts of one key against a reader: what was seen once is not unseen, whichever claim lost.
#[test]
fn t2_insert_insert_read() {
    check(2, || {
        let (table, start) = (table(), Start::new());
        let threads = [1, 2].map(|value| {
            let (table, start) = (Arc::clone(&table), start.clone());
            thread::spawn(move || {
                start.pass();
                insert((&table, &Guard::NeverFree), K, value)
            })
        });
        start.pass();
        let guard = Guard::NeverFree;
        let first = get((&table, &guard), K);
        let second = get((&table, &guard), K);
        assert!(first.is_none() || first == second, "{first:?}, then {second:?}");
        let won = threads.map(|thread| thread.join().expect("no panic"));
        assert!(won[0] != won[1], "exactly one insert wins");
    });
}
