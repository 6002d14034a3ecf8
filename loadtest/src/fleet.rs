//! Several workers that load one server together.

use crate::driver::{Io, IoChoice};
use crate::error::Error;
pub use crate::judge::Books;
use crate::judge::{Author, Ledger};
use crate::record::{Live, LiveTotals, Record};
use crate::schedule::Rate;
use crate::space::Space;
use crate::target::Target;
use crate::worker::{Drive, Ended, Worker};
use crate::workload::{Fill, Items, Mix, Source};
use std::ops::Range;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::{Duration, Instant};

/// How often a watcher is shown the counters.
const WATCH_INTERVAL: Duration = Duration::from_millis(250);
/// Sets that are sent together when filling.
const FILL_DEPTH: usize = 64;

/// Threads and connections of a fleet.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    /// Threads that send and receive.
    pub threads: usize,
    /// Connections of all threads together; at least one for each thread.
    pub connections: usize,
    /// How they talk to the system.
    pub io: IoChoice,
}

impl Shape {
    /// One connection.
    pub const ONE: Self = Self { threads: 1, connections: 1, io: IoChoice::Auto };
}

/// How long and how hard to drive.
#[derive(Clone, Copy, Debug)]
pub struct Pace<'a> {
    /// For how long requests are sent; until the sources run dry if `None`.
    pub duration: Option<Duration>,
    /// Open loop: the rate to keep. Closed loop if `None`.
    pub rate: Option<Rate>,
    /// Closed loop: requests sent together on one connection, once the earlier ones are answered. Open loop: requests that
    /// may be in flight on one connection.
    pub depth: usize,
    /// How long nothing may come back before the server counts as stalled.
    pub patience: Duration,
    /// Whether every key was written in this run before: values of an earlier run are faults then.
    pub strict: bool,
    /// Set from outside to end early.
    pub stop: &'a AtomicBool,
}

/// What a drive amounted to.
#[derive(Debug)]
pub struct Driven {
    /// Why it ended.
    pub ended: Ended,
    /// From the first request to the last answer.
    pub elapsed: Duration,
    /// Everything counted in this drive.
    pub record: Record,
}

/// Workers with open connections to one server.
#[derive(Debug)]
pub struct Fleet {
    target: Target,
    workers: Vec<Worker>,
    live: Vec<Live>,
}

impl Fleet {
    /// Opens all connections. `run` marks the values that this fleet writes.
    ///
    /// # Errors
    /// When the server cannot be reached or refuses a connection.
    pub fn connect(target: &Target, shape: Shape, items: &Arc<Items>, run: u16, books: Books) -> Result<Self, Error> {
        let ledger = Ledger::new(run, shape.threads as u16, books);
        let workers = split(shape.connections as u64, shape.threads)
            .zip(0..)
            .map(|(connections, writer)| {
                let author = Author::new(ledger.clone(), writer);
                let count = (connections.end - connections.start) as usize;
                Worker::connect(target, count, shape.io, items.clone(), author)
            })
            .collect::<Result<Vec<_>, _>>()?;
        let live = workers.iter().map(|_| Live::default()).collect();
        Ok(Self { target: target.clone(), workers, live })
    }

    /// The server under load.
    pub fn target(&self) -> &Target {
        &self.target
    }

    /// Number of workers, each of which takes a source of its own.
    pub fn threads(&self) -> usize {
        self.workers.len()
    }

    /// Number of connections that are open.
    pub fn connections(&self) -> usize {
        self.workers.iter().map(Worker::open_connections).sum()
    }

    /// How the last drive talked to the system.
    pub fn io(&self) -> Io {
        let any_epoll = self.workers.iter().any(|worker| worker.io == Io::Epoll);
        if any_epoll { Io::Epoll } else { Io::IoUring }
    }

    /// Lets the server finish what it has before answers are read, where both share a core: neither then interrupts the other
    /// in the middle of a turn, which would be measured with it.
    pub fn give_way(&mut self) {
        self.workers.iter_mut().for_each(|worker| worker.gives_way = true);
    }

    /// Closes connections from now on after so many requests, and opens them anew.
    pub fn churn(&mut self, requests_per_connection: u64) {
        self.workers.iter_mut().for_each(|worker| worker.churn(requests_per_connection));
    }

    /// Writes every key of `0..keys` once in every space that the mix uses, as fast as the server takes them: of `pace`, only
    /// its patience and stop count.
    ///
    /// # Errors
    /// When the system fails; a failing server shows in [`Driven::ended`].
    pub fn fill(
        &mut self,
        keys: u64,
        mix: &Mix,
        pace: Pace<'_>,
        watch: &mut dyn FnMut(LiveTotals),
    ) -> Result<Driven, Error> {
        let spaces = || Space::ALL.into_iter().filter(|space| mix.uses(*space));
        let fill = |keys| Fill::new(keys, spaces(), mix.ttls.clone());
        let mut sources: Vec<Fill> = split(keys, self.threads()).map(fill).collect();
        self.drive(&mut sources, Pace { depth: FILL_DEPTH, duration: None, rate: None, ..pace }, watch)
    }

    /// Sends the sources' requests at the pace.
    ///
    /// One thread per worker runs until all requests are answered, while the calling thread shows the counters to `watch`
    /// now and then. The workers' threads inherit the calling thread's cores.
    ///
    /// # Errors
    /// When the system fails; a failing server shows in [`Driven::ended`].
    pub fn drive<S: Source + Send>(
        &mut self,
        sources: &mut [S],
        pace: Pace<'_>,
        watch: &mut dyn FnMut(LiveTotals),
    ) -> Result<Driven, Error> {
        let start = Instant::now();
        let Self { workers, live, .. } = self;
        let worker_count = workers.len();
        let (done, all_done) = mpsc::channel::<()>();
        let ends = thread::scope(|scope| {
            let threads: Vec<_> = workers
                .iter_mut()
                .zip(sources)
                .zip(&*live)
                .enumerate()
                .map(|(index, ((worker, source), live))| {
                    let done = done.clone();
                    let drive = Drive {
                        deadline: pace.duration.map(|duration| start + duration),
                        depth: pace.depth,
                        patience: pace.patience,
                        strict: pace.strict,
                        stop: pace.stop,
                        live,
                    };
                    let schedule = pace.rate.map(|rate| rate.share(index, worker_count, start));
                    scope.spawn(move || {
                        let ended = worker.drive(source, schedule, drive);
                        drop(done);
                        ended
                    })
                })
                .collect();
            drop(done);
            // Nothing is ever sent: the wait ends when the last worker has dropped its end.
            while all_done.recv_timeout(WATCH_INTERVAL) == Err(mpsc::RecvTimeoutError::Timeout) {
                watch(Live::total(&*live));
            }
            let join = |thread: thread::ScopedJoinHandle<'_, _>| thread.join().expect("a worker does not panic");
            threads.into_iter().map(join).collect::<Result<Vec<_>, Error>>()
        })?;
        let elapsed = start.elapsed();
        watch(Live::total(&self.live));
        let mut record = Record::default();
        for worker in &mut self.workers {
            record.add(&worker.record);
            worker.record.clear();
        }
        Ok(Driven { ended: worst(ends), elapsed, record })
    }
}

/// Cuts `0..count` into `parts` ranges that differ by at most one.
pub(crate) fn split(count: u64, parts: usize) -> impl Iterator<Item = Range<u64>> {
    let parts = parts as u64;
    let bound = move |part| (u128::from(count) * u128::from(part) / u128::from(parts)) as u64;
    (0..parts).map(move |part| bound(part)..bound(part + 1))
}

/// A fleet is done when all of it is; it has lost its server when the last connection is gone.
fn worst(ends: Vec<Ended>) -> Ended {
    let any = |end| ends.contains(&end);
    if ends.iter().all(|end| *end == Ended::AllConnectionsLost) {
        Ended::AllConnectionsLost
    } else if any(Ended::Stalled) {
        Ended::Stalled
    } else if any(Ended::Stopped) {
        Ended::Stopped
    } else {
        Ended::Done
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn splits_are_even_and_whole() {
        for (count, parts) in [(0, 1), (1, 1), (7, 3), (50, 4), (u64::MAX, 7)] {
            let ranges: Vec<_> = split(count, parts).collect();
            assert_eq!(ranges.len(), parts);
            assert_eq!((ranges[0].start, ranges[parts - 1].end), (0, count));
            assert!(ranges.windows(2).all(|pair| pair[0].end == pair[1].start));
            let lengths = || ranges.iter().map(|range| range.end - range.start);
            assert!(lengths().max().unwrap() - lengths().min().unwrap() <= 1);
        }
    }

    #[test]
    fn a_fleet_ends_as_its_worst_worker_unless_some_carry_on() {
        use Ended::{AllConnectionsLost as Lost, Done, Stalled, Stopped};
        let cases = [
            (vec![Done, Done], Done),
            (vec![Done, Stopped], Stopped),
            (vec![Stopped, Stalled], Stalled),
            (vec![Lost, Done], Done),
            (vec![Lost, Lost], Lost),
        ];
        for (ends, expected) in cases {
            assert_eq!(worst(ends), expected);
        }
    }
}
