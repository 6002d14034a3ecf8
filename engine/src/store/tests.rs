//! The store against a simple model, under eviction and under contention.

use super::*;
use crate::clock::ManualClock;
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::sync::Barrier;

mod broken;
mod cleaning;
mod counters;
mod large;
mod meta;
mod scan;

const START_UNIX_MS: u64 = 1_800_000_000_000;

fn small_store(memory_limit: usize) -> (Arc<Store>, ManualClock) {
    let (clock, hands) = Clock::manual(START_UNIX_MS);
    let config = Config { memory_limit, item_size_max: memory_limit / 4, ..Config::default() };
    (Store::new(config, clock).expect("the settings are possible"), hands)
}

/// A handle with the operations in one call each.
struct User(Handle);

impl User {
    fn new(store: &Arc<Store>) -> User {
        User(store.handle())
    }

    fn store(&mut self, mode: Mode, key: &[u8], value: &[u8], expiry: Expiry) -> Result<Outcome, StoreError> {
        let mut batch = self.0.batch();
        let hash = batch.hash(key);
        batch.store(mode, key, hash, 0, expiry, NewValue::Bytes(value))
    }

    fn set(&mut self, key: &[u8], value: &[u8]) {
        assert_eq!(self.store(Mode::Set, key, value, Expiry::Never), Ok(Outcome::Stored));
    }

    fn get(&mut self, key: &[u8]) -> Option<Vec<u8>> {
        self.gets(key).map(|(value, _)| value)
    }

    fn gets(&mut self, key: &[u8]) -> Option<(Vec<u8>, u64)> {
        let batch = self.0.batch();
        let hash = batch.hash(key);
        batch.get(key, hash).map(|item| {
            assert_eq!(item.key(), key);
            (item.value().to_vec(), item.cas())
        })
    }

    fn delete(&mut self, key: &[u8]) -> bool {
        let mut batch = self.0.batch();
        let hash = batch.hash(key);
        batch.delete(key, hash)
    }

    fn arith(&mut self, key: &[u8], delta: Delta) -> Result<ArithOutcome, StoreError> {
        let mut batch = self.0.batch();
        let hash = batch.hash(key);
        batch.arith(key, hash, delta)
    }

    /// Replaces an item by a copy of itself, as the cleaner may do at any time.
    fn rewrite(&mut self, key: &[u8]) {
        let mut batch = self.0.batch();
        let hash = batch.hash(key);
        batch.rewrite(key, hash, |state| state);
    }

    fn touch(&mut self, key: &[u8], expiry: Expiry) -> bool {
        let mut batch = self.0.batch();
        let hash = batch.hash(key);
        batch.touch(key, hash, expiry).expect("no memory needed")
    }

    fn flush(&mut self, at: Expiry) {
        self.0.batch().flush_all(at);
    }

    fn in_ms(&mut self, ms: u64) -> Expiry {
        Expiry::AtMono { ms: self.0.batch().now().mono_ms + ms }
    }
}

#[derive(Debug, Clone)]
enum Op {
    Store(u8, u8, Vec<u8>, u8),
    Get(u8),
    Delete(u8),
    Touch(u8, u8),
    GetAndTouch(u8, u8),
    Incr(u8, u64),
    Decr(u8, u64),
    Flush(bool),
    Pass(u16),
}

fn op() -> impl Strategy<Value = Op> {
    let key = || 0_u8..12;
    let value = prop_oneof![
        4 => prop::collection::vec(any::<u8>(), 0..60),
        2 => (0_u64..2000).prop_map(|n| n.to_string().into_bytes()),
        1 => (500_usize..6_000).prop_map(|len| vec![b'x'; len]),
    ];
    prop_oneof![
        10 => (0_u8..6, key(), value, 0_u8..5).prop_map(|(mode, key, value, ttl)| Op::Store(mode, key, value, ttl)),
        6 => key().prop_map(Op::Get),
        3 => key().prop_map(Op::Delete),
        2 => (key(), 0_u8..5).prop_map(|(key, ttl)| Op::Touch(key, ttl)),
        2 => (key(), 0_u8..5).prop_map(|(key, ttl)| Op::GetAndTouch(key, ttl)),
        3 => (key(), 0_u64..200).prop_map(|(key, by)| Op::Incr(key, by)),
        3 => (key(), 0_u64..200).prop_map(|(key, by)| Op::Decr(key, by)),
        1 => any::<bool>().prop_map(Op::Flush),
        3 => (1_u16..2_000).prop_map(Op::Pass),
    ]
}

/// An item of the model: value, end, and the last CAS id seen.
#[derive(Clone)]
struct ModelItem {
    value: Vec<u8>,
    ends_ms: Option<u64>,
}

struct Model {
    items: BTreeMap<u8, ModelItem>,
    now_ms: u64,
    flush_at_ms: Option<u64>,
}

impl Model {
    fn pass(&mut self, ms: u64) {
        self.now_ms += ms;
        let now = self.now_ms;
        if self.flush_at_ms.is_some_and(|at| now >= at) {
            self.items.clear();
            self.flush_at_ms = None;
        }
        self.items.retain(|_, item| item.ends_ms.is_none_or(|ends| now < ends));
    }

    fn ends(&self, ttl: u8) -> Option<u64> {
        (ttl > 0).then(|| self.now_ms + u64::from(ttl) * 400)
    }
}

/// The number at the start of a value, read in another way than the store does.
fn number(value: &[u8]) -> Option<u64> {
    let is_space = |&byte: &u8| byte == b' ' || (9..14).contains(&byte);
    let word: Vec<u8> =
        value.iter().copied().skip_while(is_space).take_while(|byte| *byte != 0 && !is_space(byte)).collect();
    let text = String::from_utf8(word).ok()?;
    let digits = text.strip_prefix('+').unwrap_or(&text);
    (!digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit())).then(|| digits.parse().ok())?
}

fn against_model(ops: &[Op]) {
    let (store, hands) = small_store(1 << 20);
    // Two handles take turns, so that records of one key come from segments of different generations.
    let mut users = [User::new(&store), User::new(&store)];
    // Nothing that is moved may show.
    let mut mover = Cleaner::new(&store);
    let mut model = Model { items: BTreeMap::new(), now_ms: 0, flush_at_ms: None };
    let mut last_cas: BTreeMap<u8, u64> = BTreeMap::new();
    for (turn, op) in ops.iter().cloned().enumerate() {
        let user = &mut users[turn % 2];
        match op {
            Op::Store(mode, key, value, ttl) => {
                let name = [b'k', key];
                let ends = model.ends(ttl);
                let expiry = ends.map_or(Expiry::Never, |ms| Expiry::AtMono { ms });
                let known = model.items.get(&key).cloned();
                let cas = user.gets(&name).map_or(1, |(_, cas)| cas);
                let (mode, expected, stored) = match mode {
                    0 => (Mode::Set, Outcome::Stored, Some((value.clone(), ends))),
                    1 if known.is_some() => (Mode::Add, Outcome::NotStored, None),
                    1 => (Mode::Add, Outcome::Stored, Some((value.clone(), ends))),
                    2 if known.is_none() => (Mode::Replace, Outcome::NotStored, None),
                    2 => (Mode::Replace, Outcome::Stored, Some((value.clone(), ends))),
                    3 | 4 => {
                        let mode = if mode == 3 { Mode::Append } else { Mode::Prepend };
                        match &known {
                            None => (mode, Outcome::NotStored, None),
                            Some(item) => {
                                let parts = if mode == Mode::Append {
                                    [item.value.as_slice(), &value]
                                } else {
                                    [value.as_slice(), &item.value]
                                };
                                (mode, Outcome::Stored, Some((parts.concat(), item.ends_ms)))
                            }
                        }
                    }
                    _ if known.is_none() => (Mode::Cas(cas), Outcome::NotFound, None),
                    _ if ttl == 0 => (Mode::Cas(cas + 1), Outcome::Exists, None),
                    _ => (Mode::Cas(cas), Outcome::Stored, Some((value.clone(), ends))),
                };
                assert_eq!(user.store(mode, &name, &value, expiry), Ok(expected), "{mode:?}");
                if let Some((value, ends_ms)) = stored {
                    model.items.insert(key, ModelItem { value, ends_ms });
                    let (_, cas) = user.gets(&name).expect("just stored");
                    let before = last_cas.insert(key, cas).unwrap_or(0);
                    assert!(cas > before, "S3: {cas} comes after {before}");
                }
            }
            Op::Get(key) => assert_eq!(user.get(&[b'k', key]), model.items.get(&key).map(|item| item.value.clone())),
            Op::Delete(key) => assert_eq!(user.delete(&[b'k', key]), model.items.remove(&key).is_some()),
            Op::Touch(key, ttl) | Op::GetAndTouch(key, ttl) => {
                let ends = model.ends(ttl);
                let expiry = ends.map_or(Expiry::Never, |ms| Expiry::AtMono { ms });
                let name = [b'k', key];
                let item = model.items.get_mut(&key);
                if matches!(op, Op::Touch(..)) {
                    assert_eq!(user.touch(&name, expiry), item.is_some());
                } else {
                    let mut batch = user.0.batch();
                    let hash = batch.hash(&name);
                    let value = batch.get_and_touch(&name, hash, expiry).map(|item| item.value().to_vec());
                    assert_eq!(value, item.as_ref().map(|item| item.value.clone()));
                }
                if let Some(item) = item {
                    item.ends_ms = ends;
                }
            }
            Op::Incr(key, by) | Op::Decr(key, by) => {
                let is_incr = matches!(op, Op::Incr(..));
                let delta = if is_incr { Delta::Incr(by) } else { Delta::Decr(by) };
                let expected = match model.items.get_mut(&key) {
                    None => ArithOutcome::NotFound,
                    // Values in an allocation of their own are never numbers.
                    Some(item) if item.value.len() > 450 => ArithOutcome::NonNumeric,
                    Some(item) => match number(&item.value) {
                        None => ArithOutcome::NonNumeric,
                        Some(old) => {
                            let new = if is_incr { old.wrapping_add(by) } else { old.saturating_sub(by) };
                            item.value = format!("{new:<width$}", width = item.value.len()).into_bytes();
                            ArithOutcome::Value(new)
                        }
                    },
                };
                assert_eq!(user.arith(&[b'k', key], delta), Ok(expected));
            }
            Op::Flush(now) => {
                if now {
                    user.flush(Expiry::Never);
                    model.items.clear();
                    model.flush_at_ms = None;
                } else {
                    let at = user.in_ms(1_000);
                    user.flush(at);
                    model.flush_at_ms = Some(model.now_ms + 1_000);
                }
            }
            Op::Pass(ms) => {
                hands.advance_ms(u64::from(ms));
                model.pass(u64::from(ms));
            }
        }
        if turn % 5 == 4 {
            mover.move_oldest();
        }
        check_accounts(&store);
    }
}

/// What must hold at any moment at rest.
fn check_accounts(store: &Store) {
    let stats = store.stats();
    assert!(
        stats.charged_bytes + stats.index_bytes <= stats.limit_maxbytes,
        "L3: {} of segments and large values and {} of index under a limit of {}",
        stats.charged_bytes,
        stats.index_bytes,
        stats.limit_maxbytes
    );
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn operations_agree_with_a_model(ops in prop::collection::vec(op(), 1..300)) {
        against_model(&ops);
    }
}

/// Far more is stored than fits: the limit holds all the time, the newest items are there, the counters add up.
#[test]
fn l3_eviction_keeps_the_limit_and_the_newest_items() {
    let (store, _) = small_store(4 << 20);
    let mut user = User::new(&store);
    let total = 200_000_u32;
    for n in 0..total {
        user.set(format!("key:{n}").as_bytes(), &n.to_le_bytes());
        if n % 64 == 0 {
            check_accounts(&store);
        }
    }
    let stats = store.stats();
    assert_eq!(stats.get(Counter::TotalItems), u64::from(total));
    assert_eq!(
        stats.curr_items + stats.get(Counter::Evictions),
        u64::from(total),
        "every item is there or was evicted"
    );
    assert_eq!(stats.get(Counter::EvictedUnfetched), stats.get(Counter::Evictions));
    assert!(stats.curr_items > 60_000, "{} items of 4 MiB", stats.curr_items);
    for n in total - 50_000..total {
        assert_eq!(user.get(format!("key:{n}").as_bytes()), Some(n.to_le_bytes().to_vec()), "key:{n}");
    }
    assert_eq!(user.get(b"key:0"), None);
    let bytes: usize = (0..total)
        .filter(|n| user.get(format!("key:{n}").as_bytes()).is_some())
        .map(|n| protocol_bytes(format!("key:{n}").len(), 0, 4, true))
        .sum();
    assert_eq!(store.stats().bytes, bytes as u64, "the sum of the sizes is exact");
}

/// Values of all sizes, large ones among them, overwritten, deleted and evicted: the account of large bytes returns to 0.
#[test]
fn s4_large_values_are_charged_and_given_back() {
    let (store, _) = small_store(8 << 20);
    let mut user = User::new(&store);
    let mut random = 7_u64;
    for n in 0..4_000_u64 {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        let len = 1 << (random >> 60);
        let value = vec![n as u8; len + (random >> 40) as usize % len];
        user.set(&(n % 97).to_le_bytes(), &value);
        check_accounts(&store);
        assert_eq!(user.get(&(n % 97).to_le_bytes()), Some(value));
    }
    assert!(store.stats().large_bytes > 0);
    for n in 0..97_u64 {
        user.delete(&n.to_le_bytes());
    }
    // Garbage is freed by later batches: some hundred of them, if nothing else happens.
    for _ in 0..1_000 {
        user.get(b"nothing");
    }
    assert_eq!(store.stats().large_bytes, 0);
}

/// A reader that still holds a large value sees its old bytes after the item was replaced, and the store dropped.
#[test]
fn s4_a_large_value_outlives_its_item() {
    let (store, _) = small_store(8 << 20);
    let mut handle = store.handle();
    let mut buffer = handle.reserve(100_000).expect("there is room");
    handle.extend(&mut buffer, 100_000).expect("there is room");
    buffer.fill(b'1');
    let mut batch = handle.batch();
    let hash = batch.hash(b"big");
    assert_eq!(batch.store(Mode::Set, b"big", hash, 5, Expiry::Never, NewValue::Large(buffer)), Ok(Outcome::Stored));
    let kept = batch.get(b"big", hash).and_then(|item| item.large()).expect("it is large");
    assert_eq!(batch.store(Mode::Set, b"big", hash, 5, Expiry::Never, NewValue::Bytes(b"2")), Ok(Outcome::Stored));
    drop(batch);
    drop(handle);
    drop(store);
    assert!(kept.len() == 100_000 && kept.iter().all(|&byte| byte == b'1'));
}

#[test]
fn without_eviction_a_full_store_says_so_and_keeps_everything() {
    let (clock, _) = Clock::manual(START_UNIX_MS);
    let config = Config { memory_limit: 1 << 20, item_size_max: 1 << 18, evict: false, cas: true };
    let store = Store::new(config, clock).expect("possible");
    let mut user = User::new(&store);
    let mut stored = 0_u32;
    while user.store(Mode::Set, &stored.to_le_bytes(), &[7; 100], Expiry::Never) == Ok(Outcome::Stored) {
        stored += 1;
        assert!(stored < 20_000, "the store fills up");
    }
    assert!(stored > 4_000, "{stored} items of 100 bytes in 1 MiB");
    assert_eq!(user.store(Mode::Add, b"more", &[7; 100], Expiry::Never), Err(StoreError::OutOfMemory));
    assert!(user.0.reserve(200_000).is_err());
    for n in 0..stored {
        assert_eq!(user.get(&n.to_le_bytes()), Some(vec![7; 100]), "nothing acknowledged is lost");
    }
    let stats = store.stats();
    assert_eq!((stats.get(Counter::StoreNoMemory), stats.get(Counter::Evictions)), (2, 0));
}

/// Overwriting a few keys, small and large, takes no more memory than they need: dead segments come back, also without eviction.
#[test]
fn segments_without_live_records_are_used_again() {
    for evict in [false, true] {
        let (clock, _) = Clock::manual(START_UNIX_MS);
        let config = Config { memory_limit: 4 << 20, item_size_max: 1 << 20, evict, cas: true };
        let store = Store::new(config, clock).expect("possible");
        let mut user = User::new(&store);
        for n in 0..3_000_u32 {
            user.set(format!("kept {n}").as_bytes(), &[1; 100]);
        }
        for n in 0..60_000_u32 {
            user.set(&[b'k', n as u8 % 4], &vec![n as u8; if n % 50 == 0 { 200_000 } else { 90 }]);
        }
        assert_eq!(store.stats().get(Counter::Evictions), 0, "with eviction {evict}");
        assert!((0..3_000).all(|n| user.get(format!("kept {n}").as_bytes()).is_some()));
    }
}

#[test]
fn too_large_items_are_refused_and_a_set_removes_the_old_one() {
    let (store, _) = small_store(1 << 20);
    let mut user = User::new(&store);
    let huge = vec![0; 1 << 18];
    for (mode, survives) in [(Mode::Set, false), (Mode::Add, true), (Mode::Replace, true), (Mode::Cas(1), true)] {
        user.set(b"k", b"old");
        assert_eq!(user.store(mode, b"k", &huge, Expiry::Never), Err(StoreError::TooLarge));
        assert_eq!(user.get(b"k").is_some(), survives, "{mode:?} (protocol 6.2)");
    }
    user.set(b"k", &vec![1; 100_000]);
    assert_eq!(user.store(Mode::Append, b"k", &huge, Expiry::Never), Ok(Outcome::NotStored));
    assert_eq!(user.get(b"k").map(|value| value.len()), Some(100_000));
}

#[test]
fn s5_flush_hides_what_was_stored_before_and_nothing_else() {
    let (store, hands) = small_store(1 << 20);
    let mut user = User::new(&store);
    user.set(b"a", b"1");
    user.flush(Expiry::Never);
    assert_eq!(user.get(b"a"), None);
    user.set(b"a", b"2");
    assert_eq!(user.get(b"a"), Some(b"2".to_vec()), "stored in the same millisecond as the flush");
    let due = user.in_ms(5_000);
    user.flush(due);
    user.set(b"b", b"3");
    hands.advance_ms(4_999);
    assert!(user.get(b"a").is_some() && user.get(b"b").is_some());
    hands.advance_ms(1);
    assert_eq!((user.get(b"a"), user.get(b"b")), (None, None), "also what was stored while the flush was due");
    assert_eq!(store.stats().get(Counter::GetFlushed), 3);
    // The stamp wraps: an item of long ago must not come back.
    user.set(b"old", b"x");
    for _ in 0..crate::limits::FLUSH_STAMPS {
        user.flush(Expiry::Never);
    }
    assert_eq!(user.get(b"old"), None);
}

#[test]
fn absolute_expiry_follows_a_stepped_wall_clock() {
    let (store, hands) = small_store(1 << 20);
    let mut user = User::new(&store);
    let end_s = START_UNIX_MS / 1000 + 100;
    user.store(Mode::Set, b"absolute", b"1", Expiry::AtUnix { s: end_s }).expect("stored");
    user.store(Mode::Set, b"relative", b"1", Expiry::AtMono { ms: 100_000 }).expect("stored");
    hands.step_wall_ms(99_999);
    assert!(user.get(b"absolute").is_some());
    hands.step_wall_ms(1);
    assert_eq!(user.get(b"absolute"), None);
    assert!(user.get(b"relative").is_some(), "a relative time does not care");
    hands.step_wall_ms(-100_000);
    hands.advance_ms(100_000);
    assert_eq!(user.get(b"relative"), None);
}

/// Increments by several threads on the same keys, while others overwrite, delete and evict around them.
#[test]
fn arithmetic_is_atomic_under_contention() {
    let (store, _) = small_store(4 << 20);
    User::new(&store).set(b"counter", b"0");
    let barrier = Barrier::new(3);
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                let mut user = User::new(&store);
                barrier.wait();
                for _ in 0..5_000 {
                    assert!(matches!(user.arith(b"counter", Delta::Incr(1)), Ok(ArithOutcome::Value(_))));
                }
            });
        }
    });
    assert_eq!(User::new(&store).get(b"counter"), Some(b"15000".to_vec()));
}

/// Each successful cas was the only one on the id it saw: what the winners counted is what is there.
#[test]
fn cas_lets_exactly_one_win() {
    let (store, _) = small_store(4 << 20);
    User::new(&store).set(b"n", b"0");
    let wins: u64 = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..3)
            .map(|_| {
                scope.spawn(|| {
                    let mut user = User::new(&store);
                    let mut wins = 0;
                    let mut last = 0;
                    for _ in 0..5_000 {
                        let (value, cas) = user.gets(b"n").expect("it is there throughout");
                        assert!(cas >= last, "S3: ids of a key only grow");
                        last = cas;
                        let next = number(&value).expect("a number") + 1;
                        match user.store(Mode::Cas(cas), b"n", next.to_string().as_bytes(), Expiry::Never) {
                            Ok(Outcome::Stored) => wins += 1,
                            Ok(Outcome::Exists) => {}
                            other => panic!("{other:?}"),
                        }
                    }
                    wins
                })
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().expect("no panic")).sum()
    });
    assert_eq!(User::new(&store).get(b"n"), Some(wins.to_string().into_bytes()));
}

/// S3 across deletions, with three threads on one key: an id never names two values, so that no stale `cas` can succeed.
/// (That ids grow where operations do not overlap, the model above checks with two handles.)
#[test]
fn s3_an_id_names_one_value_also_when_the_key_comes_and_goes() {
    let (store, _) = small_store(4 << 20);
    let seen = std::sync::Mutex::new(BTreeMap::new());
    std::thread::scope(|scope| {
        for thread in 0..3_u32 {
            let (store, seen) = (&store, &seen);
            scope.spawn(move || {
                let mut user = User::new(store);
                for round in 0..10_000_u32 {
                    if round % 3 == thread {
                        user.delete(b"k");
                    } else {
                        let value = u64::from(thread) << 32 | u64::from(round);
                        user.store(Mode::Add, b"k", &value.to_le_bytes(), Expiry::Never).expect("room");
                    }
                    if let Some((value, cas)) = user.gets(b"k") {
                        assert!(cas != 0);
                        let before = seen.lock().expect("no panic").insert(cas, value.clone());
                        assert!(before.is_none_or(|before| before == value), "id {cas} names two values");
                    }
                }
            });
        }
    });
}

/// A tiny cache, everything at once: values are never torn or foreign, the limit holds, the accounts are exact at the end.
#[test]
fn stress_of_a_tiny_cache() {
    let (store, hands) = small_store(2 << 20);
    let barrier = Barrier::new(3);
    std::thread::scope(|scope| {
        for thread in 0..3_u64 {
            let (store, hands, barrier) = (&store, &hands, &barrier);
            scope.spawn(move || {
                let mut user = User::new(store);
                let mut random = thread + 11;
                barrier.wait();
                for round in 0..25_000_u64 {
                    random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(2 * thread + 1);
                    let key = (random >> 33) % 4_000;
                    let name = format!("key {key}");
                    // The value says its key and how long it is: 1 to 2 000 bytes, some of them large.
                    let value: Vec<u8> = {
                        let len = 12 + (random >> 20) as usize % 60 * ((random >> 50) as usize % 33 + 1);
                        key.to_le_bytes()
                            .iter()
                            .copied()
                            .chain((len as u32).to_le_bytes())
                            .chain(std::iter::repeat(key as u8))
                            .take(len)
                            .collect()
                    };
                    match random >> 60 {
                        0..8 => drop(user.store(Mode::Set, name.as_bytes(), &value, Expiry::Never)),
                        8 => drop(user.delete(name.as_bytes())),
                        9 => {
                            let soon = user.in_ms(3);
                            user.touch(name.as_bytes(), soon);
                        }
                        _ => {
                            if let Some(value) = user.get(name.as_bytes()) {
                                let len = u32::from_le_bytes(value[8..12].try_into().expect("4 bytes"));
                                assert_eq!(value[..8], key.to_le_bytes(), "a foreign value");
                                assert_eq!(value.len(), len as usize, "a torn value");
                                assert!(value[12..].iter().all(|&byte| byte == key as u8), "a torn value");
                            }
                        }
                    }
                    if round % 1_000 == 0 {
                        hands.advance_ms(1);
                        if thread == 0 && round % 5_000 == 0 {
                            user.flush(Expiry::Never);
                        }
                    }
                }
            });
        }
    });
    check_accounts(&store);
    let mut user = User::new(&store);
    for key in 0..4_000_u64 {
        user.delete(format!("key {key}").as_bytes());
    }
    let stats = store.stats();
    assert_eq!((stats.curr_items, stats.bytes), (0, 0), "everything that went in came out, once");
}

#[test]
fn impossible_settings_are_refused() {
    let make = |memory_limit, item_size_max| {
        Store::new(Config { memory_limit, item_size_max, ..Config::default() }, Clock::system()).err()
    };
    assert!(matches!(make(1 << 20, 1 << 20), Some(ConfigError::MemoryTooSmall { bytes_min: 2_097_152 })));
    assert!(matches!(make(0, 1024), Some(ConfigError::MemoryTooSmall { .. })));
    assert!(matches!(make(8 << 30, (1 << 30) + 1), Some(ConfigError::ItemSizeTooLarge { .. })));
}

#[test]
fn statistics_can_be_reset() {
    let (store, _) = small_store(1 << 20);
    let mut user = User::new(&store);
    user.set(b"a", b"1");
    user.get(b"a");
    store.reset_stats();
    let stats = store.stats();
    assert!(Counter::ALL.iter().all(|&counter| stats.get(counter) == 0));
    assert_eq!(stats.curr_items, 1);
    user.get(b"a");
    assert_eq!(store.stats().get(Counter::GetHits), 1);
}

/// A cache that lives long under ever new keys: chains of the index come and go with their entries and do not pile up.
#[test]
fn the_index_does_not_grow_by_turnover() {
    const TURNOVERS: u64 = 8;
    let (store, _hands) = small_store(16 << 20);
    let mut handle = store.handle();
    let mut next = 0_u64;
    let mut set_new = |count: u64| {
        for _ in 0..count / 64 {
            let mut batch = handle.batch();
            for _ in 0..64 {
                let key = format!("k{next:015}");
                let hash = batch.hash(key.as_bytes());
                let value = NewValue::Bytes(&[b'v'; 31]);
                assert_eq!(batch.store(Mode::Set, key.as_bytes(), hash, 0, Expiry::Never, value), Ok(Outcome::Stored));
                next += 1;
            }
        }
        next
    };
    let bytes_per_item = || store.stats().index_bytes as f64 / store.stats().curr_items as f64;
    while set_new(64) == store.stats().curr_items {}
    let (items, filled) = (store.stats().curr_items, bytes_per_item());
    assert!(items > 190_000 && (11.0..13.0).contains(&filled), "{filled} bytes per item, {items} items");
    set_new(TURNOVERS * items);
    let (held, worn) = (store.stats().curr_items, bytes_per_item());
    // 12.1 and 14.3 bytes; without giving back 20.9, and 28 after a hundred turnovers.
    assert!(worn < filled * 1.25, "{filled} bytes of index per item after filling, {worn} after {TURNOVERS} turnovers");
    assert!(held > items / 100 * 95, "{items} items after filling, {held} after {TURNOVERS} turnovers");
}
