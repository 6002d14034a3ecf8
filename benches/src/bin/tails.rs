//! The longest single set while a cache or map grows from nothing: `tails --help`.
//!
//! One thread stores items one after the other and takes the time of each, while the store's cleaner runs in another. Each way runs in a
//! process of its own, in turns. Two clocks: by the wall, which also shows what the rest of the machine took; and the thread's
//! CPU time, which leaves that out, costs a system call, and so shows only what is long. What it cannot see: two writers.

use clap::{Parser, ValueEnum};
use hdrhistogram::Histogram;
use memkv_benches::hasher::{Hasher, hasher};
use memkv_benches::machine::{Machine, thread_cpu, utc_now};
use memkv_engine::clock::Clock;
use memkv_engine::store::{Cleaner, Config, Expiry, Mode, NewValue, Store};
use std::process::{Command, ExitCode};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

/// Measures the longest single set while a cache or map grows from nothing.
#[derive(Debug, Parser)]
#[command(version)]
struct Options {
    /// Items to store.
    #[arg(long, default_value_t = 8_000_000)]
    items: u64,

    /// Rounds; one more comes before them and is dropped.
    #[arg(long, default_value_t = 3)]
    rounds: usize,

    /// Limits of the store in MiB: one that holds everything, and one where eviction keeps the cleaner busy.
    #[arg(long, value_delimiter = ',', default_values_t = [2048, 256])]
    limits: Vec<usize>,

    /// Runs one way in this process and prints its figures.
    #[arg(long, hide = true)]
    one: Option<Way>,

    #[arg(long, hide = true)]
    cpu_time: bool,
}

#[derive(Clone, Copy, Debug, ValueEnum, PartialEq, Eq)]
enum Way {
    Store,
    Dashmap,
    Flurry,
}

type Key = [u8; 16];
const VALUE: [u8; 32] = [7; 32];

fn key_of(index: u64) -> Key {
    // Neighbours in time are no neighbours in any table: all of them hash. The digits make keys that look like keys.
    let mut key = *b"key:000000000000";
    let mut rest = index;
    for digit in key[4..].iter_mut().rev() {
        *digit = b'0' + (rest % 10) as u8;
        rest /= 10;
    }
    key
}

/// Times `set` for each key, and answers the latencies in nanoseconds.
fn time_each(items: u64, by_cpu: bool, mut set: impl FnMut(Key)) -> Histogram<u64> {
    let mut latency = Histogram::new_with_bounds(1, 60_000_000_000, 3).expect("bounds that hdrhistogram takes");
    for index in 0..items {
        let key = key_of(index);
        let taken = if by_cpu {
            let start = thread_cpu();
            set(key);
            thread_cpu().saturating_sub(start)
        } else {
            let start = Instant::now();
            set(key);
            start.elapsed()
        };
        latency.saturating_record((taken.as_nanos() as u64).max(1));
    }
    latency
}

fn run_one(way: Way, options: &Options) -> Histogram<u64> {
    let (items, by_cpu) = (options.items, options.cpu_time);
    match way {
        Way::Store => {
            let config = Config { memory_limit: options.limits[0] << 20, ..Config::default() };
            let store = Store::new(config, Clock::system()).expect("the limit is possible");
            let stop = AtomicBool::new(false);
            std::thread::scope(|scope| {
                let cleaner = scope.spawn(|| Cleaner::new(&store).run(&stop));
                let mut handle = store.handle();
                let latency = time_each(items, by_cpu, |key| {
                    let mut batch = handle.batch();
                    let hash = batch.hash(&key);
                    batch
                        .store(Mode::Set, &key, hash, 0, Expiry::Never, NewValue::Bytes(&VALUE))
                        .expect("there is always room, or something to evict");
                });
                stop.store(true, Ordering::Relaxed);
                cleaner.thread().unpark();
                latency
            })
        }
        Way::Dashmap => {
            let map = dashmap::DashMap::<Key, Box<[u8]>, Hasher>::with_hasher(hasher());
            time_each(items, by_cpu, |key| drop(map.insert(key, Box::from(VALUE.as_slice()))))
        }
        Way::Flurry => {
            let map = flurry::HashMap::<Key, Box<[u8]>, Hasher>::with_hasher(hasher());
            time_each(items, by_cpu, |key| {
                map.pin().insert(key, Box::from(VALUE.as_slice()));
            })
        }
    }
}

/// What a run is judged by, in microseconds.
const QUANTILES: [(&str, f64); 5] =
    [("p50", 0.5), ("p99", 0.99), ("p99.9", 0.999), ("p99.99", 0.9999), ("longest", 1.0)];

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// Runs a way in a process of its own.
fn run_apart(way: Way, limit: usize, by_cpu: bool, options: &Options) -> Result<Vec<f64>, String> {
    let program = std::env::current_exe().map_err(|error| error.to_string())?;
    let mut command = Command::new(program);
    command.args(["--items", &options.items.to_string(), "--limits", &limit.to_string()]);
    command.args(["--one", way.to_possible_value().expect("none is hidden").get_name()]);
    if by_cpu {
        command.arg("--cpu-time");
    }
    let output = command.output().map_err(|error| error.to_string())?;
    let text = String::from_utf8_lossy(&output.stdout);
    let figures: Vec<f64> = text.split_whitespace().filter_map(|figure| figure.parse().ok()).collect();
    if figures.len() == QUANTILES.len() {
        Ok(figures)
    } else {
        Err(format!("{way:?} ended with {}: {}", output.status, String::from_utf8_lossy(&output.stderr)))
    }
}

/// Over the last minute.
fn load_average() -> String {
    let text = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split(' ').next().unwrap_or_default().to_owned()
}

fn main() -> ExitCode {
    let options = Options::parse();
    if let Some(way) = options.one {
        let latency = run_one(way, &options);
        for (_, quantile) in QUANTILES {
            println!("{}", latency.value_at_quantile(quantile) as f64 / 1000.0);
        }
        return ExitCode::SUCCESS;
    }
    println!("{} on {}", env!("CARGO_BIN_NAME"), utc_now());
    for (name, fact) in Machine::inspect().facts() {
        println!("{name:<12}{fact}");
    }
    println!(
        "sets        {} of 16/32 B, each timed; microseconds, medians of {} rounds\n",
        options.items, options.rounds
    );
    let load_before = load_average();
    let ways: Vec<(String, Way, usize)> = options
        .limits
        .iter()
        .map(|&limit| (format!("memkv store, {limit} MiB, cleaner running"), Way::Store, limit))
        .chain([("dashmap".to_owned(), Way::Dashmap, 0), ("flurry".to_owned(), Way::Flurry, 0)])
        .collect();
    let mut figures = vec![vec![Vec::new(); 2]; ways.len()];
    for round in 0..=options.rounds {
        for (i, (_, way, limit)) in ways.iter().enumerate() {
            for by_cpu in [false, true] {
                match run_apart(*way, (*limit).max(64), by_cpu, &options) {
                    Ok(run) if round > 0 => figures[i][usize::from(by_cpu)].push(run),
                    Ok(_) => {}
                    Err(error) => {
                        eprintln!("{error}");
                        return ExitCode::FAILURE;
                    }
                }
            }
        }
    }
    for (clock, title) in ["wall clock", "CPU time of the thread"].into_iter().enumerate() {
        print!("{title:<38}");
        QUANTILES.iter().for_each(|(name, _)| print!("{name:>12}"));
        println!();
        for (i, (name, ..)) in ways.iter().enumerate() {
            print!("  {name:<36}");
            for quantile in 0..QUANTILES.len() {
                let mut column: Vec<f64> = figures[i][clock].iter().map(|run: &Vec<f64>| run[quantile]).collect();
                print!("{:>12.1}", median(&mut column));
            }
            println!();
        }
    }
    println!("\nload average {} before, {} after (ours is 1 to 2)", load_before, load_average());
    println!(
        "The wall clock includes what the rest of the machine took; the CPU time of a short set is mostly that of reading the clock."
    );
    ExitCode::SUCCESS
}
