//! Single operations on one thread: parsing, whole conversations without sockets, the map, the store.
//!
//! Each case does 100 operations on keys that are spread over a million resident ones, so cache misses are in the figures; the
//! time shown is for one operation where a counter says so. Cannot see: other threads, sockets, eviction.
//!
//! `cargo bench -p memkv-benches --bench engine_ops -- parse`

use divan::counter::ItemsCount;
use divan::{Bencher, black_box};
use memkv_benches::hasher::{Hasher, hasher};
use memkv_benches::keys::{Rng, SHARED_LANE, key_of, value_of};
use memkv_engine::clock::Clock;
use memkv_engine::map::HashMap;
use memkv_engine::store::{self, Expiry, Handle, Mode, NewValue};
use memkv_server::Config;
use memkv_server::loopback::Loopback;
use memkv_server::protocol::Keys;
use memkv_server::protocol::parse::{Line, command_line};
use std::sync::{Arc, LazyLock};

/// Operations of a case.
const OPS: u64 = 100;
/// Keys that are there.
const RESIDENT: u64 = 1_000_000;

fn main() {
    // Without cargo's `--bench`, as `cargo test --benches` calls it, cases run once.
    divan::main();
}

fn name(index: u64) -> String {
    format!("k{:015}", index % RESIDENT)
}

/// Draws of keys for one case: the next 100 each time.
fn draws() -> impl FnMut() -> Vec<u64> {
    let mut rng = Rng::new(1, 0);
    move || (0..OPS).map(|_| rng.below(RESIDENT)).collect()
}

mod parse {
    use super::*;

    /// The lines of one request each, 100 times; data blocks are not parsed but stepped over.
    #[divan::bench(args = ["get k000000000000042", "gets k000000000000042", "set k000000000000042 0 60 32",
        "cas k000000000000042 0 60 32 7", "incr k000000000000042 1", "mg k000000000000042 v k t",
        "ms k000000000000042 32 T60"])]
    fn line(bencher: Bencher<'_, '_>, line: &str) {
        let input = format!("{line}\r\n").repeat(OPS as usize).into_bytes();
        bencher.counter(ItemsCount::new(OPS)).with_inputs(Keys::new).bench_local_refs(|keys| parse_all(&input, keys));
    }

    /// One get of 100 keys; the time is for a key.
    #[divan::bench]
    fn get_of_100_keys(bencher: Bencher<'_, '_>) {
        let names: Vec<String> = (0..OPS).map(name).collect();
        let input = format!("get {}\r\n", names.join(" ")).into_bytes();
        bencher.counter(ItemsCount::new(OPS)).with_inputs(Keys::new).bench_local_refs(|keys| parse_all(&input, keys));
    }

    fn parse_all(input: &[u8], keys: &mut Keys) {
        let mut at = 0;
        while at < input.len() {
            at = match black_box(command_line(input, at, keys)) {
                Line::Request { next, .. } | Line::Meta { next, .. } => next,
                other => panic!("{other:?}"),
            };
        }
    }
}

mod conversation {
    use super::*;

    fn filled() -> Loopback {
        let config = Config { memory_bytes: 512 << 20, ..Config::default() };
        let mut client = Loopback::new(config, Clock::system()).expect("a store");
        for from in (0..RESIDENT).step_by(1000) {
            let sets: String =
                (from..from + 1000).map(|key| format!("set {} 0 0 32 noreply\r\n{:032}\r\n", name(key), 7)).collect();
            assert_eq!(client.send(sets.as_bytes()), b"");
        }
        client
    }

    fn converse(bencher: Bencher<'_, '_>, request: impl Fn(u64) -> String, answer: usize) {
        let mut client = filled();
        let mut draws = draws();
        bencher
            .counter(ItemsCount::new(OPS))
            .with_inputs(|| draws().into_iter().map(&request).collect::<String>())
            .bench_local_values(|input| {
                let answers = client.send(input.as_bytes());
                assert_eq!(answers.len(), answer * OPS as usize);
            });
    }

    /// 100 pipelined gets, all hits, from bytes to bytes.
    #[divan::bench]
    fn get(bencher: Bencher<'_, '_>) {
        let answer = format!("VALUE {} 0 32\r\n{:032}\r\nEND\r\n", name(0), 7).len();
        converse(bencher, |key| format!("get {}\r\n", name(key)), answer);
    }

    /// 100 pipelined sets of keys that are there.
    #[divan::bench]
    fn set(bencher: Bencher<'_, '_>) {
        converse(bencher, |key| format!("set {} 0 0 32\r\n{:032}\r\n", name(key), 8), b"STORED\r\n".len());
    }
}

mod map {
    use super::*;

    static MAP: LazyLock<HashMap<u64, u64, Hasher>> = LazyLock::new(|| {
        let map = HashMap::with_capacity_and_hasher(0, hasher());
        let pinned = map.pin();
        for index in 0..RESIDENT {
            let key = key_of(SHARED_LANE, index);
            pinned.insert(key, value_of(key));
        }
        drop(pinned);
        map
    });

    /// 100 gets under one guard, all hits.
    #[divan::bench]
    fn get(bencher: Bencher<'_, '_>) {
        bencher.counter(ItemsCount::new(OPS)).with_inputs(draws()).bench_local_values(|indices| {
            let pinned = MAP.pin();
            for index in indices {
                assert!(pinned.get(&key_of(SHARED_LANE, index)).is_some());
            }
        });
    }

    /// 100 inserts of keys that are there, under one guard.
    #[divan::bench]
    fn insert_present(bencher: Bencher<'_, '_>) {
        bencher.counter(ItemsCount::new(OPS)).with_inputs(draws()).bench_local_values(|indices| {
            let pinned = MAP.pin();
            for index in indices {
                let key = key_of(SHARED_LANE, index);
                assert!(pinned.insert(key, value_of(key)).is_some());
            }
        });
    }
}

mod store_ops {
    use super::*;

    fn filled(value_bytes: usize) -> Handle {
        let memory_limit = (RESIDENT as usize) * (value_bytes + 80) * 2;
        let config = store::Config { memory_limit, ..store::Config::default() };
        let store: Arc<store::Store> = store::Store::new(config, Clock::system()).expect("a store");
        let mut handle = store.handle();
        let value = vec![7; value_bytes];
        for index in 0..RESIDENT {
            set(&mut handle.batch(), &key_of(SHARED_LANE, index).to_le_bytes(), &value);
        }
        handle
    }

    fn set(batch: &mut store::Batch<'_>, key: &[u8], value: &[u8]) {
        let hash = batch.hash(key);
        let stored = batch.store(Mode::Set, key, hash, 0, Expiry::Never, NewValue::Bytes(value));
        assert_eq!(stored, Ok(store::Outcome::Stored));
    }

    /// 100 gets in one batch without prefetching, all hits; the value is looked at, not copied.
    #[divan::bench(args = [8, 100, 1000])]
    fn get(bencher: Bencher<'_, '_>, value_bytes: usize) {
        let mut handle = filled(value_bytes);
        bencher.counter(ItemsCount::new(OPS)).with_inputs(draws()).bench_local_values(|indices| {
            let batch = handle.batch();
            for index in indices {
                let key = key_of(SHARED_LANE, index).to_le_bytes();
                let item = batch.get(&key, batch.hash(&key)).expect("a hit");
                black_box(item.value().last());
            }
        });
    }

    /// The same with the keys hashed first, their buckets and then their records fetched ahead, as the server does.
    #[divan::bench(args = [8, 100, 1000])]
    fn get_prefetched(bencher: Bencher<'_, '_>, value_bytes: usize) {
        let mut handle = filled(value_bytes);
        bencher.counter(ItemsCount::new(OPS)).with_inputs(draws()).bench_local_values(|indices| {
            let batch = handle.batch();
            let keys: Vec<_> = indices.iter().map(|index| key_of(SHARED_LANE, *index).to_le_bytes()).collect();
            let hashes: Vec<u64> = keys.iter().map(|key| batch.hash(key)).collect();
            hashes.iter().for_each(|hash| batch.prefetch_bucket(*hash));
            hashes.iter().for_each(|hash| batch.prefetch_record(*hash));
            for (key, hash) in keys.iter().zip(hashes) {
                let item = batch.get(key, hash).expect("a hit");
                black_box(item.value().last());
            }
        });
    }

    /// 100 sets of keys that are there, in one batch; segments are opened, and reused, as they fill.
    #[divan::bench(args = [8, 100, 1000])]
    fn set_present(bencher: Bencher<'_, '_>, value_bytes: usize) {
        let mut handle = filled(value_bytes);
        let value = vec![8; value_bytes];
        bencher.counter(ItemsCount::new(OPS)).with_inputs(draws()).bench_local_values(|indices| {
            let mut batch = handle.batch();
            for index in indices {
                set(&mut batch, &key_of(SHARED_LANE, index).to_le_bytes(), &value);
            }
        });
    }
}
