//! The meta operations: against a model, and exactly one winner under contention.

use super::*;
use std::sync::atomic::{AtomicU64, Ordering as Std};

impl User {
    fn fetch(&mut self, key: &[u8], fetch: &Fetch) -> Option<Seen> {
        let mut batch = self.0.batch();
        let hash = batch.hash(key);
        let now = batch.now();
        batch.meta_get(key, hash, fetch).expect("there is room").map(|hit| Seen {
            value: hit.item.value().to_vec(),
            flags: hit.item.flags(),
            cas: hit.item.cas(),
            left_s: hit.expiry.remaining_s(now),
            left_before_s: hit.expiry_before.remaining_s(now),
            fetched_before: hit.fetched_before,
            marks: (hit.win_taken, hit.stale, hit.won),
            base64: hit.base64,
        })
    }

    fn put(&mut self, mode: Mode, key: &[u8], value: &[u8], terms: &Terms) -> Receipt {
        let mut batch = self.0.batch();
        let hash = batch.hash(key);
        batch.meta_store(mode, key, hash, NewValue::Bytes(value), terms).expect("there is room")
    }

    fn remove(&mut self, key: &[u8], compare: Option<u64>, removal: Removal) -> Deleted {
        let mut batch = self.0.batch();
        let hash = batch.hash(key);
        batch.meta_delete(key, hash, compare, removal).expect("there is room")
    }

    fn calculate(&mut self, key: &[u8], delta: Delta, change: &Change) -> Calculation {
        let mut batch = self.0.batch();
        let hash = batch.hash(key);
        batch.meta_arith(key, hash, delta, change).expect("there is room")
    }
}

#[derive(Debug, PartialEq, Eq)]
struct Seen {
    value: Vec<u8>,
    flags: u32,
    cas: u64,
    left_s: Option<u64>,
    left_before_s: Option<u64>,
    fetched_before: bool,
    /// Win taken, stale, won: Z, X, W.
    marks: (bool, bool, bool),
    base64: bool,
}

const STALE: Removal = Removal::Stale { expiry: None, cas: None };
const PLAIN: Fetch = Fetch { peek: false, touch: None, recache: None, vivify: None };

fn vivify(expiry: Expiry) -> Fetch {
    Fetch { vivify: Some(Vivify { expiry, cas: None, base64: false }), ..PLAIN }
}

#[derive(Debug, Clone)]
enum Meta {
    Get {
        key: u8,
        peek: bool,
        touch: Option<u8>,
        recache: Option<(u8, bool)>,
        vivify: Option<u8>,
    },
    Set {
        key: u8,
        mode: u8,
        value: Vec<u8>,
        ttl: u8,
        compare: u8,
        invalidate: bool,
        cas: u8,
        vivify: Option<u8>,
    },
    Delete {
        key: u8,
        compare: u8,
        what: u8,
        cas: u8,
    },
    Arith {
        key: u8,
        by: u64,
        compare: u8,
        touch: Option<u8>,
        create: Option<u8>,
        cas: u8,
    },
    /// Leaves the record sealed, as a writer that stopped before its publication does.
    Seal(u8),
    Pass(u16),
    Flush,
}

fn meta() -> impl Strategy<Value = Meta> {
    let key = || 0_u8..4;
    let ttl = || 0_u8..5;
    let some = || prop::option::weighted(0.3, 0_u8..5);
    let value = prop_oneof![
        3 => (0_u64..200).prop_map(|n| n.to_string().into_bytes()),
        1 => prop::collection::vec(any::<u8>(), 0..20),
        1 => Just(vec![b'x'; 3_000]),
    ];
    prop_oneof![
        6 => (key(), any::<bool>(), some(), prop::option::weighted(0.3, (0_u8..6, any::<bool>())), some())
            .prop_map(|(key, peek, touch, recache, vivify)| Meta::Get { key, peek, touch, recache, vivify }),
        6 => (key(), 0_u8..5, value, ttl(), 0_u8..6, any::<bool>(), 0_u8..8, some()).prop_map(
            |(key, mode, value, ttl, compare, invalidate, cas, vivify)| Meta::Set {
                key, mode, value, ttl, compare, invalidate, cas, vivify
            }
        ),
        3 => (key(), 0_u8..6, 0_u8..4, 0_u8..8)
            .prop_map(|(key, compare, what, cas)| Meta::Delete { key, compare, what, cas }),
        3 => (key(), 0_u64..200, 0_u8..6, some(), some(), 0_u8..8)
            .prop_map(|(key, by, compare, touch, create, cas)| Meta::Arith { key, by, compare, touch, create, cas }),
        1 => key().prop_map(Meta::Seal),
        2 => (1_u16..2_000).prop_map(Meta::Pass),
        1 => Just(Meta::Flush),
    ]
}

#[derive(Clone, Debug)]
struct Known {
    value: Vec<u8>,
    ends_ms: Option<u64>,
    cas: u64,
    stale: bool,
    win: bool,
    fetched: bool,
}

/// What to compare with: mostly nothing, else the right id, a smaller, a larger, or 0.
fn comparison(choice: u8, cas: u64) -> Option<u64> {
    match choice {
        0 => Some(cas),
        1 => Some(cas - 1),
        2 => Some(cas + 1),
        3 => Some(0),
        _ => None,
    }
}

fn meta_against_model(ops: &[Meta]) {
    let (store, hands) = small_store(1 << 20);
    let mut users = [User::new(&store), User::new(&store)];
    let mut items: BTreeMap<u8, Known> = BTreeMap::new();
    // The largest id that the store made for a key by itself.
    let mut made: BTreeMap<u8, u64> = BTreeMap::new();
    let mut now_ms = 0;
    for (turn, op) in ops.iter().cloned().enumerate() {
        let user = &mut users[turn % 2];
        let ends = |ttl: u8| (ttl > 0).then(|| now_ms + u64::from(ttl) * 1000 + 1);
        let at = |ends: Option<u64>| ends.map_or(Expiry::Never, |ms| Expiry::AtMono { ms });
        let left = |ends: Option<u64>| at(ends).remaining_s(Now { mono_ms: now_ms, unix_ms: 0 });
        // Some of the ids are chosen by the client, and go backwards.
        let chosen = |choice: u8| (choice < 2).then(|| 1_000 - u64::from(choice) * 10 - turn as u64);
        let mut new_id = |key: u8, asked: Option<u64>, is: u64| match asked {
            Some(asked) => assert_eq!(is, asked, "E is stored as it is"),
            None => {
                let before = made.insert(key, is).unwrap_or(0);
                assert!(is > before, "S3: {is} comes after {before}");
            }
        };
        match op {
            Meta::Get { key, peek, touch, recache, vivify } => {
                let name = [b'm', key];
                let fetch = Fetch {
                    peek,
                    touch: touch.map(|ttl| at(ends(ttl))),
                    recache: recache.map(|(s, after_touch)| Recache { below_s: s.into(), after_touch }),
                    vivify: vivify.map(|ttl| Vivify { expiry: at(ends(ttl)), cas: None, base64: false }),
                };
                let seen = user.fetch(&name, &fetch);
                let expected = match (items.get_mut(&key), vivify) {
                    (None, None) => None,
                    (None, Some(ttl)) => {
                        let ends_ms = touch.map_or(ends(ttl), ends);
                        let cas = seen.as_ref().expect("vivified").cas;
                        new_id(key, None, cas);
                        let value = Vec::new();
                        items.insert(key, Known { value, ends_ms, cas, stale: false, win: true, fetched: !peek });
                        Some((left(ends(ttl)), false, (false, false, true)))
                    }
                    (Some(item), _) => {
                        let before = item.ends_ms;
                        let after = touch.map_or(before, ends);
                        let soon = recache.is_some_and(|(s, after_touch)| {
                            left(if after_touch { after } else { before }).is_some_and(|left| left < s.into())
                        });
                        let won = !item.win && (item.stale || soon);
                        let expected = (left(before), item.fetched, (item.win, item.stale, won));
                        item.ends_ms = after;
                        item.win |= won;
                        item.fetched |= !peek;
                        Some(expected)
                    }
                };
                let item = items.get(&key);
                let expected = expected.map(|(left_before_s, fetched_before, marks)| {
                    let Known { value, ends_ms, cas, .. } = item.expect("it is there").clone();
                    let left_s = left(ends_ms);
                    Seen { value, flags: 0, cas, left_s, left_before_s, fetched_before, marks, base64: false }
                });
                assert_eq!(seen, expected, "{fetch:?}");
            }
            Meta::Set { key, mode, value, ttl, compare, invalidate, cas, vivify } => {
                let name = [b'm', key];
                let known = items.get(&key).cloned();
                let compare = comparison(compare, known.as_ref().map_or(7, |item| item.cas));
                let asked = chosen(cas);
                let terms = Terms {
                    expiry: at(ends(ttl)),
                    compare,
                    invalidate,
                    cas: asked,
                    vivify: vivify.map(|ttl| at(ends(ttl))),
                    ..Terms::default()
                };
                let mode = [Mode::Set, Mode::Add, Mode::Replace, Mode::Append, Mode::Prepend][usize::from(mode)];
                let fresh =
                    |ends_ms| Known { value: value.clone(), ends_ms, cas: 0, stale: false, win: false, fetched: false };
                let expected = match (mode, &known, compare) {
                    (Mode::Add, Some(_), _) => Err(Outcome::NotStored),
                    (Mode::Add, None, _) | (Mode::Set, _, None) => Ok(fresh(ends(ttl))),
                    (Mode::Append | Mode::Prepend, None, _) => {
                        vivify.map(|ttl| fresh(ends(ttl))).ok_or(Outcome::NotStored)
                    }
                    (Mode::Append | Mode::Prepend, Some(item), _) => {
                        if compare.is_some_and(|id| id != item.cas) {
                            Err(Outcome::Exists)
                        } else {
                            let parts = if mode == Mode::Append {
                                [&item.value[..], &value]
                            } else {
                                [&value[..], &item.value]
                            };
                            Ok(Known { value: parts.concat(), ..fresh(item.ends_ms) })
                        }
                    }
                    (_, None, Some(_)) => Err(Outcome::NotFound),
                    (_, None, None) => Err(Outcome::NotStored),
                    (_, Some(_), None) => Ok(fresh(ends(ttl))),
                    (_, Some(item), Some(id)) if id == item.cas => Ok(Known { win: false, ..fresh(ends(ttl)) }),
                    (_, Some(item), Some(id)) if invalidate && id != 0 && id < item.cas => {
                        Ok(Known { stale: true, win: item.win, ..fresh(item.ends_ms) })
                    }
                    _ => Err(Outcome::Exists),
                };
                let receipt = user.put(mode, &name, &value, &terms);
                match expected {
                    Err(outcome) => assert_eq!(receipt, Receipt::nothing(outcome), "{mode:?} {terms:?}"),
                    Ok(item) => {
                        assert_eq!((receipt.outcome, receipt.value_len), (Outcome::Stored, item.value.len()));
                        new_id(key, asked, receipt.cas);
                        items.insert(key, Known { cas: receipt.cas, ..item });
                    }
                }
            }
            Meta::Delete { key, compare, what, cas } => {
                let name = [b'm', key];
                let known = items.get(&key).cloned();
                let compare = comparison(compare, known.as_ref().map_or(7, |item| item.cas));
                let asked = chosen(cas);
                let tombstone =
                    |stale| Removal::Tombstone { flags: 0, expiry: at(ends(3)), cas: asked, stale, base64: false };
                let removal = match what {
                    0 => Removal::Delete,
                    1 => Removal::Stale { expiry: None, cas: asked },
                    2 => tombstone(false),
                    _ => tombstone(true),
                };
                let expected = match &known {
                    None => Deleted::NotFound,
                    Some(item) if compare.is_some_and(|id| id != item.cas) => Deleted::Exists,
                    Some(_) => Deleted::Done,
                };
                assert_eq!(user.remove(&name, compare, removal), expected, "{removal:?} if {compare:?}");
                if expected == Deleted::Done {
                    let item = items.get_mut(&key).expect("it is there");
                    if what == 0 {
                        items.remove(&key);
                    } else {
                        (item.stale, item.win) = (what != 2, false);
                        if what >= 2 {
                            (item.value, item.ends_ms, item.fetched) = (Vec::new(), ends(3), false);
                        }
                        let (_, is) = user.peek(&name);
                        if what == 2 && asked.is_none() {
                            assert_eq!(is, item.cas, "a tombstone keeps the id");
                        } else {
                            new_id(key, asked, is);
                            item.cas = is;
                        }
                    }
                }
            }
            Meta::Arith { key, by, compare, touch, create, cas } => {
                let name = [b'm', key];
                let known = items.get(&key).cloned();
                let compare = comparison(compare, known.as_ref().map_or(7, |item| item.cas));
                let asked = chosen(cas);
                let change = Change {
                    compare,
                    touch: touch.map(|ttl| at(ends(ttl))),
                    create: create.map(|ttl| (at(ends(ttl)), by)),
                    cas: asked,
                    base64: false,
                };
                let calculation = user.calculate(&name, Delta::Incr(by), &change);
                let old = known.as_ref().and_then(|item| number(&item.value));
                let (item, before, value) = match (known, create) {
                    (None, None) => {
                        assert_eq!(calculation, Calculation::NotFound);
                        continue;
                    }
                    (None, Some(ttl)) => {
                        let ends_ms = touch.map_or(ends(ttl), ends);
                        let value = by.to_string().into_bytes();
                        let item = Known { value, ends_ms, cas: 0, stale: false, win: false, fetched: false };
                        (item, ends(ttl), by)
                    }
                    (Some(item), _) if compare.is_some_and(|id| id != item.cas) => {
                        assert_eq!(calculation, Calculation::Exists);
                        continue;
                    }
                    (Some(item), _) => {
                        let Some(old) = old else {
                            assert_eq!(calculation, Calculation::NonNumeric);
                            continue;
                        };
                        let sum = old.wrapping_add(by);
                        let value = format!("{sum:<width$}", width = item.value.len()).into_bytes();
                        let kept = value.len() == item.value.len();
                        let (stale, win, fetched) = (item.stale && kept, item.win && kept, item.fetched && kept);
                        let ends_ms = touch.map_or(item.ends_ms, ends);
                        (Known { value, ends_ms, stale, win, fetched, ..item }, item.ends_ms, sum)
                    }
                };
                let Calculation::Done(sum) = calculation else { panic!("{calculation:?} instead of {value}") };
                assert_eq!((sum.number, sum.expiry_before, sum.expiry), (value, at(before), at(item.ends_ms)));
                new_id(key, asked, sum.cas);
                items.insert(key, Known { cas: sum.cas, ..item });
            }
            Meta::Seal(key) => {
                let name = [b'm', key];
                // Marked first: a mark that meets the seal is lost.
                if user.get(&name).is_some() {
                    items.get_mut(&key).expect("it is there").fetched = true;
                    let batch = user.0.batch();
                    let hash = batch.hash(&name);
                    batch.view().find(&name, hash).expect("it is there").record.seal();
                }
            }
            Meta::Pass(ms) => {
                hands.advance_ms(u64::from(ms));
                now_ms += u64::from(ms);
                items.retain(|_, item| item.ends_ms.is_none_or(|ends| now_ms < ends));
            }
            Meta::Flush => {
                user.flush(Expiry::Never);
                items.clear();
            }
        }
        check_accounts(&store);
    }
}

impl User {
    /// Value and id of an item, with no trace left.
    fn peek(&mut self, key: &[u8]) -> (Vec<u8>, u64) {
        let batch = self.0.batch();
        let hash = batch.hash(key);
        let seen = batch.meta_inspect(key, hash).expect("it is there");
        (seen.item.value().to_vec(), seen.item.cas())
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn meta_operations_agree_with_a_model(ops in prop::collection::vec(meta(), 1..200)) {
        meta_against_model(&ops);
    }
}

/// Keys that are won in one round: a walk of some milliseconds. Who walks behind has less to do at each key and catches up, so that two
/// walkers on two cores soon go side by side, and meet at many a key.
const PRIZES: usize = if cfg!(miri) { 10 } else { 5_000 };
const ROUNDS: u64 = if cfg!(miri) { 2 } else { 20 };

/// Several threads walk along the same keys at once; each key is to be won by one of them, in every round. What `prepare` does makes a key
/// that wants a winner. With `disturb` another thread changes the items in place meanwhile, by copies that replace them.
///
/// A store that answers a win without looking whether its CAS succeeded fails this, in one of the first rounds.
fn one_wins(fetch: &Fetch, prepare: impl Fn(&mut User, &[u8]), disturb: bool) {
    // Nothing is evicted: a dead record stays until its segment goes.
    let (store, _) = small_store(128 << 20);
    let keys: Vec<Vec<u8>> = (0..PRIZES).map(|n| format!("prize {n}").into_bytes()).collect();
    let won: Vec<AtomicU64> = keys.iter().map(|_| AtomicU64::new(0)).collect();
    // Twice the round, and one more while it is on. Spinning: a barrier would wake the threads one after the other.
    let phase = AtomicU64::new(0);
    let done = AtomicU64::new(0);
    let wait_for = |phase_wanted: u64| {
        while phase.load(Std::Acquire) < phase_wanted {
            std::hint::spin_loop();
            std::thread::yield_now();
        }
    };
    std::thread::scope(|scope| {
        let walkers = 2 + u64::from(disturb);
        for walker in 0..walkers {
            let (store, keys, won, done, wait_for) = (&store, &keys, &won, &done, &wait_for);
            scope.spawn(move || {
                let mut user = User::new(store);
                for round in 0..ROUNDS {
                    wait_for(2 * round + 1);
                    for (key, won) in keys.iter().zip(won) {
                        if walker == 2 {
                            user.rewrite(key);
                        } else if user.fetch(key, fetch).is_some_and(|seen| seen.marks.2) {
                            won.fetch_add(1, Std::Relaxed);
                        }
                    }
                    done.fetch_add(1, Std::Release);
                }
            });
        }
        let mut user = User::new(&store);
        for round in 0..ROUNDS {
            for key in &keys {
                prepare(&mut user, key);
            }
            phase.store(2 * round + 1, Std::Release);
            while done.load(Std::Acquire) < walkers * (round + 1) {
                std::thread::yield_now();
            }
            for (key, won) in keys.iter().zip(&won) {
                let wins = won.swap(0, Std::Relaxed);
                if wins != 1 {
                    // Let the others end before the panic, or the scope waits for them.
                    phase.store(u64::MAX, Std::Release);
                    panic!("{wins} won {} in round {round}", key.escape_ascii());
                }
                let marks = user.fetch(key, fetch).expect("it is there").marks;
                assert!(marks.0 && !marks.2, "the win stays taken");
            }
        }
    });
}

#[test]
fn exactly_one_wins_a_stale_item() {
    let prepare = |user: &mut User, key: &[u8]| {
        user.set(key, b"1");
        assert_eq!(user.remove(key, None, STALE), Deleted::Done);
    };
    one_wins(&PLAIN, prepare, true);
    let touching = Fetch { touch: Some(Expiry::Never), ..PLAIN };
    one_wins(&touching, prepare, true);
    one_wins(&PLAIN, prepare, false);
}

/// The same where every record is sealed, so that each win is a copy.
#[test]
fn exactly_one_wins_a_sealed_item() {
    let prepare = |user: &mut User, key: &[u8]| {
        user.set(key, b"1");
        assert_eq!(user.remove(key, None, STALE), Deleted::Done);
        let batch = user.0.batch();
        batch.view().find(key, batch.hash(key)).expect("it is there").record.seal();
    };
    one_wins(&PLAIN, prepare, true);
    one_wins(&PLAIN, prepare, false);
}

#[test]
fn exactly_one_wins_an_item_that_ends_soon() {
    let fetch = Fetch { recache: Some(Recache { below_s: 100, after_touch: false }), ..PLAIN };
    let prepare = |user: &mut User, key: &[u8]| {
        let soon = user.in_ms(50_000);
        assert_eq!(user.store(Mode::Set, key, b"1", soon), Ok(Outcome::Stored));
    };
    one_wins(&fetch, prepare, true);
}

#[test]
fn exactly_one_wins_a_missing_item() {
    let prepare = |user: &mut User, key: &[u8]| {
        user.delete(key);
    };
    one_wins(&vivify(Expiry::Never), prepare, false);
}

/// The mark is taken over by what changes an item in place, and goes with a new value.
#[test]
fn base64_mark_follows_the_request_that_stored() {
    let (store, _) = small_store(1 << 20);
    let mut user = User::new(&store);
    let is_marked = |user: &mut User| user.fetch(b"k", &PLAIN).expect("there").base64;
    let marked = Terms { base64: true, ..Terms::default() };
    user.put(Mode::Set, b"k", b"10", &marked);
    assert!(is_marked(&mut user));
    user.arith(b"k", Delta::Incr(1)).expect("room");
    user.remove(b"k", None, STALE);
    assert!(is_marked(&mut user), "in place");
    user.arith(b"k", Delta::Incr(500)).expect("room");
    assert!(!is_marked(&mut user), "a longer number is a new item");
    user.put(Mode::Append, b"k", b"x", &marked);
    assert!(is_marked(&mut user));
    user.set(b"k", b"1");
    assert!(!is_marked(&mut user));
}

#[test]
fn meta_counts_as_the_protocol_says() {
    let (store, _) = small_store(1 << 20);
    let mut user = User::new(&store);
    let touching = Fetch { touch: Some(Expiry::Never), ..PLAIN };
    user.fetch(b"none", &PLAIN);
    user.fetch(b"none", &touching);
    user.fetch(b"k", &vivify(Expiry::Never));
    user.fetch(b"k", &touching);
    user.fetch(b"k", &PLAIN);
    user.peek(b"k");
    user.remove(b"none", None, Removal::Delete);
    user.remove(b"k", Some(1), STALE);
    user.remove(b"k", None, STALE);
    user.put(Mode::Set, b"k", b"1", &Terms { compare: Some(1), ..Terms::default() });
    user.put(Mode::Append, b"k", b"1", &Terms { compare: Some(1), ..Terms::default() });
    user.put(Mode::Replace, b"none", b"1", &Terms { compare: Some(1), ..Terms::default() });
    user.put(Mode::Set, b"k", b"1", &Terms { compare: Some(1), invalidate: true, ..Terms::default() });
    user.calculate(b"n", Delta::Incr(1), &Change::default());
    user.calculate(b"n", Delta::Incr(1), &Change { create: Some((Expiry::Never, 0)), ..Change::default() });
    user.calculate(b"n", Delta::Incr(1), &Change::default());
    user.remove(b"k", None, Removal::Delete);
    let stats = store.stats();
    for (counter, expected) in [
        (Counter::CmdGet, 4),
        (Counter::GetHits, 2),
        (Counter::GetMisses, 2),
        (Counter::CmdTouch, 1),
        (Counter::TouchHits, 1),
        (Counter::TouchMisses, 0),
        (Counter::CmdMeta, 1),
        (Counter::CmdSet, 4),
        (Counter::CasBadval, 1),
        (Counter::CasMisses, 1),
        (Counter::CasHits, 1),
        (Counter::IncrMisses, 1),
        (Counter::IncrHits, 1),
        (Counter::DeleteMisses, 2),
        (Counter::DeleteHits, 1),
    ] {
        assert_eq!(stats.get(counter), expected, "{counter:?}");
    }
}
