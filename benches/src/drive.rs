//! Runs one worker per thread on one map, all at once, for a time or until they are done.

use crate::collection::{Collection, Handle};
use crate::machine::{Load, cores, thread_cpu};
use crate::measure::{Better, Sample};
use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// How many operations a batch has: between batches a thread looks whether time is up, and renews batched guards.
pub const BATCH: usize = 100;

/// What one thread does.
pub trait Worker: Send {
    /// Fills the map with what this thread needs; not measured.
    fn prepare<H: Handle>(&mut self, _handle: &mut H) {}

    /// Performs the next operations, about [`BATCH`], and says how many; 0 when there is nothing left to do.
    fn batch<H: Handle>(&mut self, handle: &mut H) -> u64;

    /// How many answers were not what they had to be.
    fn wrong(&self) -> u64;
}

/// What came of it.
#[derive(Debug)]
pub struct Outcome<W> {
    /// The workers, with what they recorded.
    pub workers: Vec<W>,
    /// Operations of all threads.
    pub ops: u64,
    /// From the first thread's start to the last one's end.
    pub wall: Duration,
    /// See [`Sample::cpu_share`].
    pub cpu_share: f64,
    /// CPU time of the whole process: that of threads that a map keeps for itself, too.
    pub cpu: Duration,
    /// See [`Sample::others_share`].
    pub others_share: f64,
}

impl<W> Outcome<W> {
    /// A sample that has only the loads yet.
    pub fn sample(&self) -> Sample {
        Sample { cpu_share: self.cpu_share, others_share: self.others_share, ..Sample::default() }
    }

    /// A sample with the throughput as its headline.
    ///
    /// The second figure depends less on what else the machine does: CPU time that others took is not in it. Time spent
    /// asleep at a lock is not in it either, so it flatters maps that sleep.
    pub fn throughput(&self) -> Sample {
        let per_cpu_second = self.ops as f64 / self.cpu.as_secs_f64() / 1e6;
        self.sample().figure("throughput", "M ops/s", Better::Higher, self.mops()).figure(
            "per CPU second",
            "M ops",
            Better::Higher,
            per_cpu_second,
        )
    }

    /// Millions of operations per second, all threads together.
    pub fn mops(&self) -> f64 {
        self.ops as f64 / self.wall.as_secs_f64() / 1e6
    }
}

/// What one thread did between start and end.
#[derive(Debug)]
pub struct Run {
    start: Instant,
    end: Instant,
    cpu: Duration,
    ops: u64,
}

/// Runs the workers on a map, each on a thread of its own; see [`threads`].
///
/// # Panics
/// If a worker got a wrong answer: a broken map must not get a figure.
pub fn drive<C: Collection, W: Worker>(
    map: &C,
    workers: Vec<W>,
    limit: Option<Duration>,
    watch: impl FnMut(Duration),
) -> Outcome<W> {
    let outcome = threads(workers, limit, watch, |worker: &mut W, gate| {
        // A handle of its own: a thread that waits holds no guard against the ones that still prepare.
        worker.prepare(&mut map.handle());
        gate.prepared();
        let mut handle = map.handle();
        gate.run(|| {
            let done = worker.batch(&mut handle);
            handle.rest();
            done
        })
    });
    let wrong: u64 = outcome.workers.iter().map(Worker::wrong).sum();
    assert_eq!(wrong, 0, "wrong answers from the map under test");
    outcome
}

/// Where the threads of a run meet.
#[derive(Debug)]
pub struct Gate {
    prepared: Barrier,
    go: Barrier,
    stop: AtomicBool,
}

impl Gate {
    /// Waits until all threads have prepared.
    pub fn prepared(&self) {
        self.prepared.wait();
    }

    /// Waits until all may start, and calls `batch` until time is up or it says that it did nothing.
    pub fn run(&self, mut batch: impl FnMut() -> u64) -> Run {
        self.go.wait();
        let cpu = thread_cpu();
        let start = Instant::now();
        let mut ops = 0;
        // Relaxed: only a sign to stop; the thread's figures come back by joining it.
        while !self.stop.load(Ordering::Relaxed) {
            match batch() {
                0 => break,
                done => ops += done,
            }
        }
        Run { start, end: Instant::now(), cpu: thread_cpu() - cpu, ops }
    }
}

/// Calls `body` on a thread for each worker: all prepare, all start together, all stop after `limit` or, without one, when
/// they have nothing left to do. `watch` is called every 20 ms meanwhile, on the calling thread, first when all have prepared.
///
/// `body` prepares its worker, calls [`Gate::prepared`], and returns what [`Gate::run`] does.
pub fn threads<W: Send>(
    workers: Vec<W>,
    limit: Option<Duration>,
    mut watch: impl FnMut(Duration),
    body: impl Fn(&mut W, &Gate) -> Run + Sync,
) -> Outcome<W> {
    const WATCH_EVERY: Duration = Duration::from_millis(20);
    let threads = workers.len();
    let gate =
        Gate { prepared: Barrier::new(threads + 1), go: Barrier::new(threads + 1), stop: AtomicBool::new(false) };
    let (runs, load, process_cpu) = std::thread::scope(|scope| {
        let handles: Vec<_> = workers
            .into_iter()
            .map(|mut worker| {
                let (gate, body) = (&gate, &body);
                scope.spawn(move || {
                    let run = body(&mut worker, gate);
                    (worker, run)
                })
            })
            .collect();
        gate.prepared.wait();
        watch(Duration::ZERO);
        let before = Load::now();
        gate.go.wait();
        let start = Instant::now();
        loop {
            let elapsed = start.elapsed();
            if limit.is_some_and(|limit| elapsed >= limit) || handles.iter().all(|handle| handle.is_finished()) {
                break;
            }
            std::thread::sleep(limit.map_or(WATCH_EVERY, |limit| WATCH_EVERY.min(limit - elapsed)));
            watch(start.elapsed());
        }
        // Relaxed: as in `Gate::run`.
        gate.stop.store(true, Ordering::Relaxed);
        let runs: Vec<_> =
            handles.into_iter().map(|handle| handle.join().expect("a measured thread panicked")).collect();
        let after = Load::now();
        (runs, before.others_share(after, start.elapsed()), after.own_since(before))
    });

    let (workers, runs): (Vec<W>, Vec<Run>) = runs.into_iter().unzip();
    let start = runs.iter().map(|run| run.start).min().expect("a thread");
    let end = runs.iter().map(|run| run.end).max().expect("a thread");
    let cpu: Duration = runs.iter().map(|run| run.cpu).sum();
    let wall = end - start;
    Outcome {
        workers,
        ops: runs.iter().map(|run| run.ops).sum(),
        wall,
        cpu_share: cpu.as_secs_f64() / (wall.as_secs_f64() * threads as f64),
        cpu: process_cpu,
        others_share: load,
    }
}

/// Says how a number of threads relates to the machine.
pub fn threads_label(threads: usize) -> String {
    if threads > cores() { format!("{threads} (oversubscribed: {} cores)", cores()) } else { threads.to_string() }
}
