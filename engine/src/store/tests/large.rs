//! Large values: what is charged when, what is bounded, and that everything comes back.

use super::*;
use std::io::{Read as _, Seek as _, SeekFrom};

/// 32 MiB, items up to 8 MiB.
fn store() -> Arc<Store> {
    small_store(32 << 20).0
}

/// Lets garbage go: some hundred batches, if nothing else happens.
fn settle(user: &mut User) {
    for _ in 0..1_000 {
        user.get(b"nothing");
    }
}

/// Bytes of the arena that have pages, asked of the system.
fn resident_bytes(store: &Store) -> usize {
    let (base, bytes) = store.large.addresses();
    let mut pagemap = std::fs::File::open("/proc/self/pagemap").expect("Linux");
    pagemap.seek(SeekFrom::Start(base as u64 / 4096 * 8)).expect("inside of the file");
    let mut entries = vec![0; bytes / 4096 * 8];
    pagemap.read_exact(&mut entries).expect("as many as there are pages");
    // Bits 63 and 62: the page is in memory, or swapped out. A read of a page never written shows the zero page as present.
    4096 * entries.chunks_exact(8).filter(|entry| entry[7] & 0xc0 != 0).count()
}

#[test]
fn what_is_announced_costs_nothing() {
    let store = store();
    let mut user = User::new(&store);
    user.set(b"kept", b"1");
    let announced: Vec<_> = (0..200).map(|_| user.0.reserve(1 << 20).expect("nothing is charged")).collect();
    let stats = store.stats();
    assert_eq!((stats.large_bytes, stats.get(Counter::Evictions)), (0, 0));
    assert!(announced.iter().all(|buffer| buffer.is_empty() && buffer.value_len() == 1 << 20));
    drop(announced);
    assert!(user.0.reserve((8 << 20) + 1).is_err(), "longer than any item");
}

#[test]
fn v1_bytes_are_charged_as_they_arrive_in_whole_pages() {
    let store = store();
    let mut handle = store.handle();
    let mut buffer = handle.reserve(1_000_000).expect("there is room");
    let mut charged = Vec::new();
    while !buffer.is_whole() {
        let ready = buffer.len();
        handle.extend(&mut buffer, ready + 1).expect("there is room");
        buffer[ready..].fill(7);
        charged.push(store.stats().large_bytes);
        assert_eq!(resident_bytes(&store) as u64, store.stats().large_bytes, "V1");
    }
    assert_eq!(charged, [65_536, 131_072, 262_144, 524_288, 786_432, 1_003_520]);
    assert!(handle.extend(&mut buffer, usize::MAX).is_ok());
    assert_eq!(store.loose_large_bytes(), 0, "a value that is received is not loose");
    drop(buffer);
    assert_eq!(store.stats().large_bytes, 0, "V2");
    assert_eq!(resident_bytes(&store), 0, "V2");
}

#[test]
fn a_value_of_whole_pages_takes_exactly_these() {
    let store = store();
    let mut user = User::new(&store);
    user.set(b"k", &[1; 65_536]);
    assert_eq!(store.stats().large_bytes, 65_536);
    assert_eq!(resident_bytes(&store), 65_536);
    user.set(b"k", &[1; 65_537]);
    settle(&mut user);
    assert_eq!(store.stats().large_bytes, 65_536 + 4_096);
}

/// Half of the limit is for values that do not end; everybody else has the other half.
#[test]
fn values_that_never_end_take_half_of_the_memory() {
    let store = store();
    let mut user = User::new(&store);
    let mut unfinished = Vec::new();
    let refused = loop {
        let mut buffer = match user.0.reserve(1_000_000) {
            Ok(buffer) => buffer,
            Err(error) => break error,
        };
        match user.0.extend(&mut buffer, 900_000) {
            Ok(()) => unfinished.push(buffer),
            Err(error) => break error,
        }
        assert!(unfinished.len() < 100, "there is an end");
    };
    assert_eq!(refused, StoreError::OutOfMemory);
    let bytes: usize = unfinished.iter().map(|buffer| buffer.len()).sum();
    assert!((15 << 20..=17 << 20).contains(&bytes), "{bytes} bytes");
    // What is there as a whole is stored as ever, large or small, and evicts what is whole.
    for n in 0..100_u32 {
        user.set(&n.to_le_bytes(), &[2; 500_000]);
        user.set(&[n.to_le_bytes(), n.to_le_bytes()].concat(), &[2; 100]);
        check_accounts(&store);
        assert_eq!(user.get(&n.to_le_bytes()), Some(vec![2; 500_000]));
    }
    assert!(store.stats().get(Counter::Evictions) > 50);
    // One that ends makes room for the next.
    let mut last = unfinished.pop().expect("there are many");
    user.0.extend(&mut last, usize::MAX).map_err(|_| ()).unwrap_or_default();
    drop(last);
    let mut next = user.0.reserve(1_000_000).expect("there is room again");
    assert_eq!(user.0.extend(&mut next, 900_000), Ok(()));
}

#[test]
fn the_largest_item_fits_into_the_smallest_store() {
    let (clock, _) = Clock::manual(START_UNIX_MS);
    let config = Config { memory_limit: 4 << 20, item_size_max: 2 << 20, ..Config::default() };
    let store = Store::new(config, clock).expect("possible");
    let mut user = User::new(&store);
    let len = (2 << 20) - protocol_bytes(1, 0, 0, true);
    for _ in 0..10 {
        let mut buffer = user.0.reserve(len).expect("there is room");
        while !buffer.is_whole() {
            let ready = buffer.len();
            user.0.extend(&mut buffer, ready + 1).expect("there is room");
        }
        let mut batch = user.0.batch();
        let hash = batch.hash(b"k");
        let stored = batch.store(Mode::Set, b"k", hash, 0, Expiry::Never, NewValue::Large(buffer));
        assert_eq!(stored, Ok(Outcome::Stored));
        check_accounts(&store);
    }
}

#[test]
fn what_was_not_made_ready_is_stored_as_zeros_and_charged() {
    let store = store();
    let mut user = User::new(&store);
    let mut buffer = user.0.reserve(100_000).expect("there is room");
    user.0.extend(&mut buffer, 1).expect("there is room");
    buffer.fill(b'1');
    let mut batch = user.0.batch();
    let hash = batch.hash(b"k");
    assert_eq!(batch.store(Mode::Set, b"k", hash, 0, Expiry::Never, NewValue::Large(buffer)), Ok(Outcome::Stored));
    drop(batch);
    assert_eq!(user.get(b"k"), Some([vec![b'1'; 65_536], vec![0; 100_000 - 65_536]].concat()));
    assert_eq!(store.stats().large_bytes, 102_400);
}

/// Loose is what readers keep: whole values that no item has. It stays charged, and can be told from what is current.
#[test]
fn a_replaced_value_is_loose_until_its_last_reader_is_done() {
    let store = store();
    let mut user = User::new(&store);
    user.set(b"k", &[1; 100_000]);
    let held = {
        let batch = user.0.batch();
        let hash = batch.hash(b"k");
        batch.get(b"k", hash).and_then(|item| item.large()).expect("it is large")
    };
    assert!(held.is_current());
    assert_eq!(store.loose_large_bytes(), 0);
    // A copy of the record has the same value.
    let other = held.clone();
    user.set(b"k", &[2; 200_000]);
    settle(&mut user);
    assert!(!held.is_current());
    assert_eq!(store.loose_large_bytes(), 102_400);
    assert_eq!(store.stats().large_bytes, 102_400 + 200_704);
    drop(held);
    assert!(other.iter().all(|&byte| byte == 1));
    assert_eq!(store.loose_large_bytes(), 102_400);
    drop(other);
    assert_eq!(store.loose_large_bytes(), 0);
    assert_eq!(store.stats().large_bytes, 200_704);
    user.delete(b"k");
    settle(&mut user);
    assert_eq!((store.stats().large_bytes, store.loose_large_bytes()), (0, 0));
}

/// Phases of other sizes, each many times the memory: pages follow the charge, whatever the allocator of a process would have kept.
#[test]
fn shifting_sizes_leave_no_pages_behind() {
    let store = store();
    let mut user = User::new(&store);
    for len in [10_000, 500_000, 70_000, 3_000_000, 12_000] {
        let value = vec![len as u8; len];
        for n in 0..2 * (32 << 20) / len as u32 {
            user.set(&n.to_le_bytes(), &value);
        }
        settle(&mut user);
        check_accounts(&store);
        let (resident, charged) = (resident_bytes(&store), store.stats().large_bytes);
        assert_eq!(resident as u64, charged, "values of {len} bytes");
    }
}

/// Threads store, begin and abandon, hold and drop values of all sizes, each value dropped by whichever thread is the last: contents are
/// never torn, and all accounts return to 0.
#[test]
fn v2_stress_everything_comes_back() {
    let store = store();
    let rounds = 3_000_u64;
    let barrier = Barrier::new(4);
    let held = std::sync::Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for thread in 0..4_u64 {
            let (store, barrier, held) = (&store, &barrier, &held);
            scope.spawn(move || {
                let mut user = User::new(store);
                let mut unfinished = Vec::new();
                let mut random = thread + 5;
                barrier.wait();
                for _ in 0..rounds {
                    random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(2 * thread + 1);
                    let key = ((random >> 33) % 60).to_le_bytes();
                    let len = (4_000 << ((random >> 40) % 9)) + (random >> 20) as usize % 4_000;
                    let fill = (random >> 50) as u8;
                    match random >> 60 {
                        0..6 => {
                            // Received in pieces. Others may hold so much at this moment that it is refused.
                            let Ok(mut buffer) = user.0.reserve(len) else { continue };
                            while !buffer.is_whole() {
                                let ready = buffer.len();
                                if user.0.extend(&mut buffer, ready + 1).is_err() {
                                    break;
                                }
                                buffer[ready..].fill(fill);
                            }
                            if !buffer.is_whole() {
                                continue;
                            }
                            let mut batch = user.0.batch();
                            let hash = batch.hash(&key);
                            let _ = batch.store(Mode::Set, &key, hash, 0, Expiry::Never, NewValue::Large(buffer));
                        }
                        6 => drop(user.store(Mode::Set, &key, &vec![fill; len], Expiry::Never)),
                        7 => drop(user.store(Mode::Append, &key, &vec![fill; len / 8], Expiry::Never)),
                        8 => drop(user.delete(&key)),
                        9 => {
                            let Ok(mut buffer) = user.0.reserve(len) else { continue };
                            let _ = user.0.extend(&mut buffer, len / 2);
                            unfinished.push(buffer);
                            if unfinished.len() > 3 {
                                unfinished.clear();
                            }
                        }
                        _ => {
                            let batch = user.0.batch();
                            let hash = batch.hash(&key);
                            let Some(value) = batch.get(&key, hash).and_then(|item| item.large()) else { continue };
                            drop(batch);
                            let mut held = held.lock().expect("no panic");
                            held.push((value.clone(), value.first().copied(), value.len()));
                            if held.len() > 8 {
                                let at = (random >> 8) as usize % held.len();
                                let (value, first, len): (LargeValue, _, usize) = held.swap_remove(at);
                                drop(held);
                                assert!(value.first().copied() == first && value.len() == len, "it does not change");
                            }
                        }
                    }
                }
            });
        }
    });
    check_accounts(&store);
    drop(held);
    let mut user = User::new(&store);
    for key in 0..60_u64 {
        user.delete(&key.to_le_bytes());
    }
    settle(&mut user);
    assert_eq!((store.stats().large_bytes, store.loose_large_bytes()), (0, 0), "V2");
    assert_eq!(store.large.receiving_bytes(), 0);
    assert_eq!(resident_bytes(&store), 0, "V2");
}
