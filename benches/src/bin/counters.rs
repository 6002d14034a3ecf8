//! Compares ways to count: `counters --help`.
//!
//! Increments by several threads of one counter, of a counter each, of neighbours, and of many. The store is worked with as a server
//! does, in batches of commands with one epoch guard and one reading of the clock each; the rivals, from the bare instruction to a
//! locked map, keep neither expiry nor ids nor a memory limit. Every sum is checked. What it cannot see: latency, and cores
//! that the machine does not have.

use clap::Parser;
use crossbeam_utils::CachePadded;
use memkv_benches::drive::threads_label;
use memkv_benches::hasher::{Hasher, hasher};
use memkv_benches::keys::Rng;
use memkv_benches::machine::{Load, Machine, cores, thread_cpu, utc_now};
use memkv_benches::measure::Spread;
use memkv_engine::clock::Clock;
use memkv_engine::store::{self, ArithOutcome, Config, Delta, Expiry, Mode, NewValue};
use portable_atomic::AtomicU128;
use std::collections::HashMap;
use std::hint::black_box;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Barrier, Mutex};
use std::time::{Duration, Instant};

/// Compares ways to count.
#[derive(Debug, Parser)]
#[command(version)]
struct Options {
    /// Numbers of threads, separated by commas. Without it, 1 and the number of cores.
    #[arg(long, value_delimiter = ',')]
    threads: Vec<usize>,

    /// Counters, of which most workloads use one or one a thread.
    #[arg(long, default_value_t = 100_000)]
    keys: usize,

    /// Seconds that a workload runs on each in a round.
    #[arg(long, default_value_t = 1.0)]
    seconds: f64,

    /// Rounds that count; one more comes before them and is dropped.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
}

/// Wrong options, as the shell knows them (EX_USAGE).
const EXIT_USAGE: u8 = 64;

/// Increments between two looks at the time, and in the larger batches of the store.
const TURN: usize = 16;

type Key = [u8; 16];

fn key_of(index: usize) -> Key {
    let mut key = *b"counter:00000000";
    let digits = format!("{index:08}");
    key[8..].copy_from_slice(digits.as_bytes());
    key
}

/// A way to count, shared by all threads.
trait Way: Sync {
    /// One thread's hold of it.
    type Hand<'a>
    where
        Self: 'a;

    /// Counters with these names, at 0. Keys of one thread are counted once by `hand`s of that thread before the measurement.
    fn new(keys: &[Key]) -> Self;
    fn hand(&self) -> Self::Hand<'_>;
    /// Increments these counters, one after the other.
    fn count(&self, hand: &mut Self::Hand<'_>, keys: &[Key], turn: &[usize; TURN]);
    fn sum(&self, keys: &[Key]) -> u64;
}

/// The instruction alone: no name, no look-up.
struct FetchAdd(Vec<CachePadded<AtomicU64>>);

impl Way for FetchAdd {
    type Hand<'a> = ();

    fn new(keys: &[Key]) -> Self {
        FetchAdd(keys.iter().map(|_| CachePadded::new(AtomicU64::new(0))).collect())
    }

    fn hand(&self) {}

    fn count(&self, _: &mut (), _: &[Key], turn: &[usize; TURN]) {
        for &index in turn {
            black_box(self.0[index].fetch_add(1, Ordering::AcqRel));
        }
    }

    fn sum(&self, _: &[Key]) -> u64 {
        self.0.iter().map(|counter| counter.load(Ordering::Acquire)).sum()
    }
}

/// What the store does to a counter that it has found, and no more: number and id change together, by a compare-and-swap of 128 bits.
struct CompareAndSwap(Vec<CachePadded<AtomicU128>>);

impl Way for CompareAndSwap {
    type Hand<'a> = ();

    fn new(keys: &[Key]) -> Self {
        CompareAndSwap(keys.iter().map(|_| CachePadded::new(AtomicU128::new(0))).collect())
    }

    fn hand(&self) {}

    fn count(&self, _: &mut (), _: &[Key], turn: &[usize; TURN]) {
        for &index in turn {
            let add = |pair: u128| Some(pair + (1 << 64 | 1));
            let _ = black_box(self.0[index].fetch_update(Ordering::AcqRel, Ordering::Acquire, add));
        }
    }

    fn sum(&self, _: &[Key]) -> u64 {
        self.0.iter().map(|counter| counter.load(Ordering::Acquire) as u64).sum()
    }
}

/// Our map: a guard for each increment.
struct OurMap(memkv_engine::map::HashMap<Key, CachePadded<AtomicU64>, Hasher>);

impl Way for OurMap {
    type Hand<'a> = ();

    fn new(keys: &[Key]) -> Self {
        let map = memkv_engine::map::HashMap::with_capacity_and_hasher(keys.len(), hasher());
        let pinned = map.pin();
        for key in keys {
            pinned.insert(*key, CachePadded::new(AtomicU64::new(0)));
        }
        drop(pinned);
        OurMap(map)
    }

    fn hand(&self) {}

    fn count(&self, _: &mut (), keys: &[Key], turn: &[usize; TURN]) {
        for &index in turn {
            let pinned = self.0.pin();
            let counter = pinned.get(black_box(&keys[index])).expect("it is there");
            black_box(counter.fetch_add(1, Ordering::AcqRel));
        }
    }

    fn sum(&self, _: &[Key]) -> u64 {
        self.0.pin().iter().map(|(_, counter)| counter.load(Ordering::Acquire)).sum()
    }
}

/// `fetch_add` behind a look-up in a map that nobody changes.
struct MappedFetchAdd(HashMap<Key, CachePadded<AtomicU64>, Hasher>);

impl Way for MappedFetchAdd {
    type Hand<'a> = ();

    fn new(keys: &[Key]) -> Self {
        let mut map = HashMap::with_hasher(hasher());
        map.extend(keys.iter().map(|key| (*key, CachePadded::new(AtomicU64::new(0)))));
        MappedFetchAdd(map)
    }

    fn hand(&self) {}

    fn count(&self, _: &mut (), keys: &[Key], turn: &[usize; TURN]) {
        for &index in turn {
            black_box(self.0[black_box(&keys[index])].fetch_add(1, Ordering::AcqRel));
        }
    }

    fn sum(&self, _: &[Key]) -> u64 {
        self.0.values().map(|counter| counter.load(Ordering::Acquire)).sum()
    }
}

/// A lock for each counter, in a map that nobody changes.
struct MappedMutex(HashMap<Key, CachePadded<Mutex<u64>>, Hasher>);

impl Way for MappedMutex {
    type Hand<'a> = ();

    fn new(keys: &[Key]) -> Self {
        let mut map = HashMap::with_hasher(hasher());
        map.extend(keys.iter().map(|key| (*key, CachePadded::new(Mutex::new(0)))));
        MappedMutex(map)
    }

    fn hand(&self) {}

    fn count(&self, _: &mut (), keys: &[Key], turn: &[usize; TURN]) {
        for &index in turn {
            let mut number = self.0[black_box(&keys[index])].lock().expect("no panic");
            *number += 1;
            black_box(*number);
        }
    }

    fn sum(&self, _: &[Key]) -> u64 {
        self.0.values().map(|counter| *counter.lock().expect("no panic")).sum()
    }
}

/// One lock around everything.
struct LockedMap(Mutex<HashMap<Key, u64, Hasher>>);

impl Way for LockedMap {
    type Hand<'a> = ();

    fn new(keys: &[Key]) -> Self {
        let mut map = HashMap::with_hasher(hasher());
        map.extend(keys.iter().map(|key| (*key, 0)));
        LockedMap(Mutex::new(map))
    }

    fn hand(&self) {}

    fn count(&self, _: &mut (), keys: &[Key], turn: &[usize; TURN]) {
        for &index in turn {
            let mut map = self.0.lock().expect("no panic");
            let number = map.get_mut(black_box(&keys[index])).expect("it is there");
            *number += 1;
            black_box(*number);
        }
    }

    fn sum(&self, _: &[Key]) -> u64 {
        self.0.lock().expect("no panic").values().sum()
    }
}

/// Our store, with this many commands a batch.
struct Store<const BATCH: usize>(Arc<store::Store>);

impl<const BATCH: usize> Way for Store<BATCH> {
    type Hand<'a> = store::Handle;

    fn new(keys: &[Key]) -> Self {
        let config = Config { memory_limit: (64 << 20) + keys.len() * 256, ..Config::default() };
        let store = store::Store::new(config, Clock::system()).expect("the settings are possible");
        let mut handle = store.handle();
        for key in keys {
            let mut batch = handle.batch();
            let hash = batch.hash(key);
            // Wide enough to stay a counter in place, as one that has been counted up to there.
            let zero = NewValue::Bytes(b"000000000000");
            batch.store(Mode::Set, key, hash, 0, Expiry::Never, zero).expect("there is room");
        }
        Store(store)
    }

    fn hand(&self) -> store::Handle {
        self.0.handle()
    }

    fn count(&self, handle: &mut store::Handle, keys: &[Key], turn: &[usize; TURN]) {
        for part in turn.chunks_exact(BATCH) {
            let mut batch = handle.batch();
            // In stages, as a server does for a pipeline.
            let mut hashes = [0; BATCH];
            for (hash, &index) in hashes.iter_mut().zip(part) {
                *hash = batch.hash(black_box(&keys[index]));
                batch.prefetch_bucket(*hash);
            }
            if BATCH > 1 {
                hashes.iter().for_each(|&hash| batch.prefetch_record(hash));
            }
            for (&hash, &index) in hashes.iter().zip(part) {
                let outcome = batch.arith(&keys[index], hash, Delta::Incr(1));
                assert!(matches!(black_box(outcome), Ok(ArithOutcome::Value(_))));
            }
        }
    }

    fn sum(&self, keys: &[Key]) -> u64 {
        let mut handle = self.0.handle();
        let batch = handle.batch();
        let number = |key: &Key| {
            let item = batch.get(key, batch.hash(key)).expect("it is there");
            let text = str::from_utf8(item.value()).expect("digits");
            text.trim_end().parse::<u64>().expect("digits")
        };
        keys.iter().map(number).sum()
    }
}

/// What the threads count.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Pattern {
    Hot,
    Own,
    Neighbours,
    Spread,
}

impl Pattern {
    const ALL: [Pattern; 4] = [Pattern::Hot, Pattern::Own, Pattern::Neighbours, Pattern::Spread];

    fn about(self) -> &'static str {
        match self {
            Pattern::Hot => "hot: all threads increment one counter",
            Pattern::Own => "own: each thread increments a counter of its own, which it made itself",
            Pattern::Neighbours => "neighbours: the same with counters that one thread made one after the other",
            Pattern::Spread => "spread: uniform over all counters",
        }
    }
}

struct Run {
    mops: f64,
    /// CPU time of an increment, waiting for cache lines included, for the processor not.
    cpu_ns: f64,
    noise: f64,
}

fn run<W: Way>(load: Pattern, threads: usize, keys: &[Key], duration: Duration) -> Run {
    let way = W::new(keys);
    let first = keys.len() / 2;
    // The first increment makes a counter of a number.
    let mut prepared = 0;
    let mut prepare = |indexes: std::ops::Range<usize>| {
        let mut hand = way.hand();
        for index in indexes {
            way.count(&mut hand, keys, &[index; TURN]);
            prepared += TURN as u64;
        }
    };
    match load {
        Pattern::Hot | Pattern::Own => {}
        Pattern::Neighbours => prepare(first..first + threads),
        Pattern::Spread => prepare(0..keys.len()),
    }
    let (ready, stop) = (Barrier::new(threads + 1), AtomicBool::new(false));
    let (mut ops, mut cpu, mut wall, mut noise) = (0, Duration::ZERO, Duration::ZERO, 0.0);
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads)
            .map(|thread| {
                let (way, ready, stop) = (&way, &ready, &stop);
                scope.spawn(move || {
                    let mut hand = way.hand();
                    let mut random = Rng::new(42, thread as u64);
                    let mut turn = [if load == Pattern::Hot { first } else { first + thread }; TURN];
                    way.count(&mut hand, keys, &turn);
                    ready.wait();
                    let cpu = thread_cpu();
                    let mut turns = 0_u64;
                    // Relaxed: a sign to stop; the figures come back by joining.
                    while !stop.load(Ordering::Relaxed) {
                        if load == Pattern::Spread {
                            turn = std::array::from_fn(|_| random.below(keys.len() as u64) as usize);
                        }
                        way.count(&mut hand, keys, &turn);
                        turns += 1;
                    }
                    (turns * TURN as u64, thread_cpu() - cpu)
                })
            })
            .collect();
        ready.wait();
        let (start, before) = (Instant::now(), Load::now());
        std::thread::sleep(duration);
        stop.store(true, Ordering::Relaxed);
        for worker in workers {
            let (own_ops, own_cpu) = worker.join().expect("a measured thread panicked");
            ops += own_ops;
            cpu += own_cpu;
        }
        wall = start.elapsed();
        noise = before.others_share(Load::now(), wall);
    });
    let first_turns = (threads * TURN) as u64;
    assert_eq!(way.sum(keys), ops + prepared + first_turns, "an increment was lost");
    Run { mops: ops as f64 / wall.as_secs_f64() / 1e6, cpu_ns: cpu.as_nanos() as f64 / ops as f64, noise }
}

type Runner = fn(Pattern, usize, &[Key], Duration) -> Run;

/// The bare instruction first: the others are compared with it.
const WAYS: [(&str, Runner); 8] = [
    ("fetch_add", run::<FetchAdd>),
    ("128-bit CAS", run::<CompareAndSwap>),
    ("our HashMap of AtomicU64", run::<OurMap>),
    ("HashMap of AtomicU64", run::<MappedFetchAdd>),
    ("HashMap of Mutex<u64>", run::<MappedMutex>),
    ("Mutex<HashMap>", run::<LockedMap>),
    ("Store, batches of 16", run::<Store<16>>),
    ("Store, batches of 1", run::<Store<1>>),
];

fn main() -> ExitCode {
    let options = Options::parse();
    let mut threads = options.threads.clone();
    if threads.is_empty() {
        threads = vec![1, cores()];
        threads.dedup();
    }
    let duration = Duration::try_from_secs_f64(options.seconds).ok().filter(|duration| !duration.is_zero());
    let most = threads.iter().copied().max().unwrap_or(0);
    let Some(duration) = duration.filter(|_| !threads.contains(&0) && options.rounds > 0) else {
        eprintln!("counters: threads, rounds and seconds must be above 0");
        return ExitCode::from(EXIT_USAGE);
    };
    if options.keys < 2 * most || options.keys > 99_999_999 {
        eprintln!("counters: keys must be at least twice the threads, and below 100000000");
        return ExitCode::from(EXIT_USAGE);
    }
    if cfg!(debug_assertions) {
        eprintln!("counters: built without --release: these figures mean nothing");
    }
    let keys: Vec<Key> = (0..options.keys).map(key_of).collect();
    for (name, value) in Machine::inspect().facts() {
        println!("{name:<10} {value}");
    }
    println!("{:<10} {} UTC", "date", utc_now());
    println!("{:<10} {}", "command", std::env::args().collect::<Vec<_>>().join(" "));
    println!("{:<10} medians (least - greatest) of {} rounds, after one that is dropped", "figures", options.rounds);
    println!("{:<10} of an increment; the ratio beside it is that of the throughputs for the same CPU time", "CPU ns");
    println!("{:<10} CPU time that the rest of the machine used meanwhile, as a share of all cores", "noise");
    for load in Pattern::ALL {
        for &threads in &threads {
            println!("\n== threads: {} == {}", threads_label(threads), load.about());
            println!(
                "{:<24} {:>28} {:>12} {:>8} {:>12} {:>8}",
                "", "M increments/s", "/ fetch_add", "CPU ns", "/ fetch_add", "noise"
            );
            let mut runs: Vec<Vec<Run>> = WAYS.iter().map(|_| Vec::new()).collect();
            for round in 0..=options.rounds {
                for ((_, way), runs) in WAYS.iter().zip(&mut runs) {
                    let measured = way(load, threads, &keys, duration);
                    if round > 0 {
                        runs.push(measured);
                    }
                }
            }
            for ((name, _), of_way) in WAYS.iter().zip(&runs) {
                let spread = |values: &mut dyn Iterator<Item = f64>| Spread::of(values).expect("a round");
                let mops = spread(&mut of_way.iter().map(|run| run.mops));
                // The median of the ratios within each round: neighbours in time meet the same noise.
                let ratio = spread(&mut of_way.iter().zip(&runs[0]).map(|(run, base)| run.mops / base.mops)).median;
                // Throughput for the same CPU time, which the noise disturbs less.
                let cpu_ns = spread(&mut of_way.iter().map(|run| run.cpu_ns)).median;
                let cpu_ratio =
                    spread(&mut of_way.iter().zip(&runs[0]).map(|(run, base)| base.cpu_ns / run.cpu_ns)).median;
                let noise = spread(&mut of_way.iter().map(|run| run.noise)).median;
                let range = format!("{:.1} ({:.1} - {:.1})", mops.median, mops.min, mops.max);
                println!("{name:<24} {range:>28} {ratio:>12.3} {cpu_ns:>8.1} {cpu_ratio:>12.3} {noise:>8.2}");
            }
        }
    }
    ExitCode::SUCCESS
}
