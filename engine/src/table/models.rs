//! Every interleaving of two or three threads on a tiny table, by loom: two slots a bucket, two buckets at the start.
//!
//! Run with `RUSTFLAGS="--cfg crossbeam_loom" cargo test -p memkv-engine --lib --release models`. Entries are heap
//! cells that the model checker tracks, so that a payload read before it was written is found. (Reclamation: `log/models.rs`.)
//! Preemptions are bounded (two per execution unless a model says otherwise; `LOOM_MAX_PREEMPTIONS` overrides): loom then covers every
//! schedule with that many forced switches.

use super::*;
use crate::sync::{Guard, check, pin};
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
        table.validate_chains(&guard);
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

/// A child needs an overflow bucket, which both helpers of the split bring: one is used by both, the other goes back.
#[test]
fn split_split_with_overflow_in_a_child() {
    pair_bounded(
        1,
        |at| {
            fill(at, 1..4);
            // Frozen already, to keep the model small.
            let (table, guard) = at;
            assert!(table.reserve_level(LEVEL_MIN + 1, table.state()));
            split::freeze_chain(table.root(table.state(), K, guard));
        },
        |at| {
            split(at);
            holds(at, &[1, 2, 3])
        },
        split_and_true,
        |at, found, _| {
            assert!(found && holds(at, &[1, 2, 3]), "T3: whoever moves the state has seen every slot filled")
        },
    );
}

/// Splits both buckets in one step of the state.
fn split_group((table, guard): At<'_>) -> bool {
    let state = table.state();
    table.split_until(state, state.split() + 2, &ByHash(0), guard);
    true
}

/// Hashes to bucket 1.
const UPPER: u64 = 1 << 63;

#[test]
fn split_group_insert() {
    pair(
        |_| {},
        split_group,
        |table| insert(table, UPPER, 1),
        |table, _, inserted| {
            assert!(inserted);
            assert_eq!(get(table, UPPER), Some(1), "an insert into a later bucket of the group survives the step");
        },
    );
}

/// A helper does one bucket, while the other does the group: whoever freezes the second bucket sees to it that the state passes it.
#[test]
fn split_group_split() {
    pair_bounded(
        1,
        |at| {
            insert(at, UPPER, 1);
            // The first is frozen already, to keep the model small.
            let (table, guard) = at;
            assert!(table.reserve_level(LEVEL_MIN + 1, table.state()));
            split::freeze_chain(table.root(table.state(), K, guard));
        },
        split_group,
        split_and_true,
        |at, _, _| assert_eq!(get(at, UPPER), Some(1)),
    );
}

#[test]
fn split_group_read() {
    pair(
        |table| {
            insert(table, K, 1);
            insert(table, UPPER, 9);
        },
        split_group,
        |table| get(table, UPPER) == Some(9) && get(table, K) == Some(1),
        |_, _, found| assert!(found, "keys that are there throughout are always found"),
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

/// Keys of bucket 0 beside `K`, all in one chain until it is split.
fn fill(at: At<'_>, keys: std::ops::Range<u64>) {
    for key in keys {
        assert!(insert(at, L | key, key));
    }
}

fn empty(at: At<'_>, keys: &[u64]) {
    for &key in keys {
        assert!(remove(at, L | key));
    }
}

/// Are these keys there, each with its own value?
fn holds(at: At<'_>, keys: &[u64]) -> bool {
    keys.iter().all(|&key| get(at, L | key) == Some(key))
}

/// The link in front of the overflow bucket at `position` of the chain of bucket 0, and that bucket.
fn overflow<'g>((table, guard): At<'g>, position: usize) -> close::Spare<'g> {
    let mut named_by = &table.root(table.state(), K, guard).link;
    for _ in 0..position {
        // SAFETY: these models free nothing.
        named_by = &unsafe { bucket::Overflow::from_link(named_by.load(Ordering::SeqCst)) }.expect("a bucket").link;
    }
    // SAFETY: as above.
    let bucket = unsafe { bucket::Overflow::from_link(named_by.load(Ordering::SeqCst)) }.expect("a bucket");
    close::Spare { bucket, named_by }
}

/// Whatever was begun and not finished, the next inserts finish: nothing that could go stays.
fn nothing_idle_stays(at: At<'_>) {
    let (table, guard) = at;
    for _ in 0..table.validate_chains(guard) {
        fill(at, 99..100);
        empty(at, &[99]);
    }
    assert_eq!(table.validate_chains(guard), 0, "T7: no empty overflow bucket stays behind room");
}

/// A chain of two buckets, the second empty behind room in the first: any insert closes it.
fn one_spare(at: At<'_>) {
    fill(at, 1..4);
    empty(at, &[2, 3]);
}

#[test]
fn t7_close_against_inserts_that_want_the_bucket() {
    pair_bounded(
        3,
        one_spare,
        |at| insert(at, K, 9),
        |at| insert(at, L | 5, 5) && insert(at, L | 6, 6),
        |at, _, _| {
            assert!(get(at, K) == Some(9) && holds(at, &[1, 5, 6]));
            nothing_idle_stays(at);
        },
    );
}

#[test]
fn t7_close_against_close() {
    pair_bounded(
        3,
        |at| {
            one_spare(at);
            empty(at, &[1]);
        },
        |at| insert(at, L | 5, 5),
        |at| insert(at, L | 6, 6),
        |at, _, _| {
            assert!(holds(at, &[5, 6]));
            nothing_idle_stays(at);
        },
    );
}

/// An insert that has seen the chain full wants to append to a bucket that is emptied and closed meanwhile.
#[test]
fn t7_close_against_append() {
    pair_bounded(
        3,
        |at| fill(at, 1..5),
        |at| {
            empty(at, &[2, 3, 4]);
            insert(at, L | 5, 5)
        },
        |at| insert(at, L | 6, 6),
        |at, _, _| {
            assert!(holds(at, &[1, 5, 6]));
            nothing_idle_stays(at);
        },
    );
}

/// An insert that has seen room in a later slot of a bucket claims it after the bucket's first slot was closed.
#[test]
fn t7_close_against_a_claim_of_a_later_slot() {
    pair_bounded(
        3,
        |at| fill(at, 1..4),
        |at| insert(at, L | 5, 5),
        |at| {
            empty(at, &[3, 2]);
            insert(at, L | 6, 6)
        },
        |at, _, _| {
            assert!(holds(at, &[1, 5, 6]));
            // The claim in the closed bucket was all that kept it.
            empty(at, &[5]);
            nothing_idle_stays(at);
        },
    );
}

/// Two neighbours leave the chain at once: the one behind through a link that is being closed.
#[test]
fn t7_close_against_close_of_the_bucket_behind() {
    pair_bounded(
        3,
        |at| {
            fill(at, 1..8);
            empty(at, &[2, 3, 5, 6]);
        },
        |at| insert(at, L | 8, 8),
        |at| {
            empty(at, &[4]);
            insert(at, L | 9, 9)
        },
        |at, _, _| {
            assert!(holds(at, &[1, 7, 8, 9]));
            nothing_idle_stays(at);
        },
    );
}

/// A bucket in the middle of a chain leaves while somebody walks past it: what lies behind is found throughout.
#[test]
fn t8_close_against_find() {
    pair_bounded(
        4,
        |at| {
            fill(at, 1..6);
            empty(at, &[2, 3, 4]);
        },
        |at| insert(at, L | 6, 6) && insert(at, L | 7, 7),
        |at| holds(at, &[5, 1, 5]),
        |at, _, found| {
            assert!(found && holds(at, &[1, 5, 6, 7]));
            nothing_idle_stays(at);
        },
    );
}

#[test]
fn t8_close_against_visit() {
    pair_bounded(
        4,
        |at| {
            fill(at, 1..6);
            empty(at, &[2, 3, 4]);
        },
        |at| insert(at, L | 6, 6),
        |(table, guard)| {
            let mut found = Vec::new();
            table.visit_bucket(0, guard, &mut found);
            [1, 5].iter().all(|&key| found.iter().filter(|hit| read(hit.payload()).1 == key).count() == 1)
        },
        |_, _, once| assert!(once),
    );
}

#[test]
fn t7_close_against_split() {
    // As in `split_split`.
    pair_bounded(
        1,
        one_spare,
        split_and_true,
        |at| insert(at, K, 9),
        |at, _, _| assert!(get(at, K) == Some(9) && holds(at, &[1])),
    );
}

/// Two inserts of one key, one of which claims in the bucket that the other wants to close.
#[test]
fn t2_insert_insert_close() {
    pair_bounded(
        3,
        |at| {
            fill(at, 1..4);
            empty(at, &[3]);
        },
        |at| insert(at, K, 8),
        |at| {
            empty(at, &[2]);
            insert(at, K, 9)
        },
        |at, left, right| {
            assert!(left != right, "exactly one insert wins");
            assert!(get(at, K).is_some() && holds(at, &[1]));
            nothing_idle_stays(at);
        },
    );
}

/// Two inserts of one key, one claim in front of a bucket that leaves and one behind it.
#[test]
fn t2_insert_insert_around_a_closed_bucket() {
    pair_bounded(
        3,
        |at| {
            fill(at, 1..6);
            empty(at, &[3, 4]);
            // Closed in part: nobody claims in it any more.
            overflow(at, 0).bucket.slots[0].store(CLOSED, Ordering::SeqCst);
        },
        |at| insert(at, K, 8),
        |at| {
            empty(at, &[2]);
            insert(at, K, 9)
        },
        |at, left, right| {
            assert!(left != right, "exactly one insert wins");
            assert!(get(at, K).is_some() && holds(at, &[1, 5]));
            nothing_idle_stays(at);
        },
    );
}

/// A closer stopped after each of its steps, with an entry in the bucket behind: others finish its work, and get on.
#[test]
fn t7_a_stopped_closer_stops_nobody() {
    fn stop_after(at: At<'_>, steps: usize) {
        fill(at, 1..6);
        empty(at, &[3, 4]);
        let stopped = overflow(at, 0).bucket;
        for slot in stopped.slots.iter().take(steps) {
            slot.store(CLOSED, Ordering::SeqCst);
        }
        if steps > stopped.slots.len() {
            stopped.link.fetch_or(LINK_CLOSED, Ordering::SeqCst);
        }
    }
    let prepared: [fn(At<'_>); 3] = [|at| stop_after(at, 1), |at| stop_after(at, 2), |at| stop_after(at, 3)];
    for prepare in prepared {
        pair_bounded(
            3,
            prepare,
            |at| insert(at, L | 6, 6),
            |at| insert(at, L | 7, 7),
            |at, left, right| {
                assert!(left && right && holds(at, &[1, 2, 5, 6, 7]));
                nothing_idle_stays(at);
            },
        );
    }
}

/// A bucket that left its chain is not used again while a reader stands on it: with real epochs, and a chain that waits for buckets.
#[test]
fn t5_a_bucket_is_not_reused_under_a_reader() {
    const OTHER: u64 = 1 << 63;
    let reused = Arc::new(AtomicUsize::new(0));
    let reuses = Arc::clone(&reused);
    check(1, move || {
        let (table, start) = (table(), Start::new());
        let at = (&*table, &Guard::NeverFree);
        fill(at, 1..6);
        empty(at, &[2, 3, 4]);
        let (other, first) = (Arc::clone(&table), start.clone());
        let thread = thread::spawn(move || {
            first.pass();
            holds((&other, &pin()), &[5])
        });
        start.pass();
        assert!(insert((&table, &pin()), L | 6, 6));
        for _ in 0..3 {
            pin().flush();
        }
        reuses.fetch_add(usize::from(table.overflow.retired() == 0), Ordering::Relaxed);
        for key in 1..4 {
            assert!(insert((&table, &pin()), OTHER | key, key));
        }
        assert!(thread.join().expect("no panic"), "T8: a key behind the bucket is found throughout");
        assert!(holds(at, &[1, 5, 6]) && (1..4).all(|key| get(at, OTHER | key) == Some(key)));
    });
    assert!(reused.load(Ordering::Relaxed) > 0, "without a reader in the way it is reused");
}
