//! How long commands take: log-linear histograms for each class of commands, on each worker.
//!
//! Two things are measured, each for one of [`SAMPLE_EVERY`]:
//! - **commands**: from the moment that a command of a batch is taken up (its line has been parsed) to the moment that its answer
//!   stands in the output buffer. That is the look-up or change with its cache misses, and the encoding.
//! - **turns**: from before the worker reads from a connection to after it has handed the answers to the socket: two system
//!   calls, parsing, and everything that came in one read.
//!
//! Left out is what happens before the worker turns to the connection (other connections' turns, the kernel) and behind the socket.
//!
//! A bucket is as wide as a sixteenth of its power of two, so figures are right to about 6 per cent. Cost: nothing but a count
//! for what is not sampled.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// One batch of commands, and one turn, out of so many is measured.
pub const SAMPLE_EVERY: u32 = 64;

/// log2 of the buckets for each power of two.
const SUB_BITS: u32 = 4;
/// Durations from 2^36 ns (69 s) on share the last bucket.
const MAX_BITS: u32 = 36;
const BUCKETS: usize = ((MAX_BITS - SUB_BITS + 1) << SUB_BITS) as usize;

/// What is told apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// get, gets, mg without T.
    Get,
    /// touch, gat, gats, mg with T.
    Touch,
    /// set, add, replace, append, prepend, cas, ms.
    Store,
    /// delete, md.
    Delete,
    /// incr, decr, ma.
    Arith,
    /// Everything else.
    Other,
    /// A turn of a connection.
    Turn,
}

impl Class {
    /// All classes, with their names.
    pub const ALL: [(Class, &'static str); 7] = [
        (Class::Get, "get"),
        (Class::Touch, "touch"),
        (Class::Store, "store"),
        (Class::Delete, "delete"),
        (Class::Arith, "arith"),
        (Class::Other, "other"),
        (Class::Turn, "turn"),
    ];
}

/// Counts down to the next measurement; belongs to one worker.
#[derive(Debug, Default)]
pub struct Countdown(u32);

impl Countdown {
    /// Whether this one is to be measured.
    #[inline]
    pub fn is_due(&mut self) -> bool {
        if self.0 == 0 {
            self.0 = SAMPLE_EVERY - 1;
            return true;
        }
        self.0 -= 1;
        false
    }
}

/// One worker's histograms: written by that worker, read by anybody.
#[derive(Debug)]
pub struct Histograms {
    classes: [Histogram; Class::ALL.len()],
    /// Which reset these counts come after; older ones are nothing.
    epoch: AtomicU32,
}

#[derive(Debug)]
struct Histogram {
    buckets: Box<[AtomicU64]>,
    sum_ns: AtomicU64,
    max_ns: AtomicU64,
}

impl Default for Histograms {
    fn default() -> Histograms {
        let histogram = || Histogram {
            buckets: (0..BUCKETS).map(|_| AtomicU64::new(0)).collect(),
            sum_ns: AtomicU64::new(0),
            max_ns: AtomicU64::new(0),
        };
        Histograms { classes: std::array::from_fn(|_| histogram()), epoch: AtomicU32::new(0) }
    }
}

impl Histograms {
    /// Adds a measurement, of the epoch that the server is in. For the one thread that writes these.
    pub fn record(&self, class: Class, time: Duration, epoch: u32) {
        // Relaxed throughout: statistics. One thread writes, so loads and stores do.
        if self.epoch.load(Relaxed) != epoch {
            for histogram in &self.classes {
                histogram.buckets.iter().for_each(|bucket| bucket.store(0, Relaxed));
                histogram.sum_ns.store(0, Relaxed);
                histogram.max_ns.store(0, Relaxed);
            }
            self.epoch.store(epoch, Relaxed);
        }
        let ns = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        let histogram = &self.classes[class as usize];
        let add = |cell: &AtomicU64, n: u64| cell.store(cell.load(Relaxed).wrapping_add(n), Relaxed);
        add(&histogram.buckets[bucket_of(ns)], 1);
        add(&histogram.sum_ns, ns);
        histogram.max_ns.store(histogram.max_ns.load(Relaxed).max(ns), Relaxed);
    }
}

/// The sum of several workers' measurements of one class.
#[derive(Debug)]
pub struct Summary {
    buckets: Vec<u64>,
    sum_ns: u64,
    /// The longest, in nanoseconds.
    pub max_ns: u64,
    /// How many there are.
    pub count: u64,
}

impl Summary {
    /// Sums up what was measured since the reset that began `epoch`.
    pub fn of<'h>(class: Class, workers: impl Iterator<Item = &'h Histograms>, epoch: u32) -> Summary {
        let mut summary = Summary { buckets: vec![0; BUCKETS], sum_ns: 0, max_ns: 0, count: 0 };
        for worker in workers.filter(|worker| worker.epoch.load(Relaxed) == epoch) {
            let histogram = &worker.classes[class as usize];
            for (sum, bucket) in summary.buckets.iter_mut().zip(&histogram.buckets) {
                *sum += bucket.load(Relaxed);
            }
            summary.sum_ns = summary.sum_ns.wrapping_add(histogram.sum_ns.load(Relaxed));
            summary.max_ns = summary.max_ns.max(histogram.max_ns.load(Relaxed));
        }
        summary.count = summary.buckets.iter().sum();
        summary
    }

    /// The mean, in nanoseconds.
    pub fn mean_ns(&self) -> u64 {
        self.sum_ns / self.count.max(1)
    }

    /// What `share` of the measurements did not exceed, in nanoseconds, to the resolution of a bucket.
    pub fn quantile_ns(&self, share: f64) -> u64 {
        let rank = ((self.count as f64 * share).ceil() as u64).max(1);
        let mut below = 0;
        for (bucket, count) in self.buckets.iter().enumerate() {
            below += count;
            if below >= rank {
                return upper_bound(bucket).min(self.max_ns);
            }
        }
        self.max_ns
    }
}

fn bucket_of(ns: u64) -> usize {
    if ns < 1 << SUB_BITS {
        return ns as usize;
    }
    let power = ns.ilog2();
    if power >= MAX_BITS {
        return BUCKETS - 1;
    }
    // The bits below the highest one choose among the buckets of the power.
    let sub = (ns >> (power - SUB_BITS)) as usize & ((1 << SUB_BITS) - 1);
    (((power - SUB_BITS + 1) as usize) << SUB_BITS) + sub
}

/// The largest duration of a bucket.
fn upper_bound(bucket: usize) -> u64 {
    let (power, sub) = (bucket >> SUB_BITS, (bucket & ((1 << SUB_BITS) - 1)) as u64);
    if power == 0 { sub } else { (((1 << SUB_BITS) + sub + 1) << (power - 1)) - 1 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_tile_the_numbers() {
        let mut next = 0;
        for bucket in 0..BUCKETS - 1 {
            assert_eq!(bucket_of(next), bucket, "{next}");
            assert_eq!(bucket_of(upper_bound(bucket)), bucket);
            next = upper_bound(bucket) + 1;
        }
        assert_eq!(bucket_of(next), BUCKETS - 1);
        assert_eq!(bucket_of(u64::MAX), BUCKETS - 1);
    }

    #[test]
    fn quantiles_are_right_to_a_sixteenth() {
        let worker = Histograms::default();
        for ns in 1..=100_000 {
            worker.record(Class::Get, Duration::from_nanos(ns), 0);
        }
        let summary = Summary::of(Class::Get, [&worker].into_iter(), 0);
        assert_eq!((summary.count, summary.max_ns, summary.mean_ns()), (100_000, 100_000, 50_000));
        for (share, exact) in [(0.5, 50_000.0), (0.99, 99_000.0), (0.001, 100.0)] {
            let ratio = summary.quantile_ns(share) as f64 / exact;
            assert!((0.999..1.07).contains(&ratio), "{share}: {ratio}");
        }
        assert_eq!(summary.quantile_ns(1.0), 100_000);
    }

    #[test]
    fn a_reset_forgets_what_idle_workers_measured() {
        let workers = [Histograms::default(), Histograms::default()];
        workers[0].record(Class::Get, Duration::from_nanos(5), 0);
        workers[1].record(Class::Get, Duration::from_nanos(5), 0);
        workers[1].record(Class::Get, Duration::from_nanos(7), 1);
        assert_eq!(Summary::of(Class::Get, workers.iter(), 0).count, 1);
        let after = Summary::of(Class::Get, workers.iter(), 1);
        assert_eq!((after.count, after.max_ns), (1, 7));
    }

    #[test]
    fn one_in_so_many_is_due() {
        let mut countdown = Countdown::default();
        assert_eq!((0..6400).filter(|_| countdown.is_due()).count(), 6400 / SAMPLE_EVERY as usize);
    }
}
