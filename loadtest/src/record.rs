//! What is counted and timed while requests fly.
//!
//! Every worker has a record of its own and touches nobody else's; records are added up when the workers have finished.

use hdrhistogram::Histogram;
use serde::Serialize;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Longest latency that is told apart; longer ones count as this.
const LATENCY_NS_MAX: u64 = 60_000_000_000;
/// Significant digits of a recorded latency.
const LATENCY_DIGITS: u8 = 3;

/// Everything that can be wrong with an answer.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Fault {
    /// A `SERVER_ERROR` line.
    ServerError,
    /// A `CLIENT_ERROR` line.
    ClientError,
    /// An `ERROR` line: the server does not know the command.
    UnknownCommand,
    /// A storage request was answered, but not by `STORED`.
    NotStored,
    /// The connection ended, by the server's doing.
    ConnectionLost,
    /// A request was in flight when its connection ended, or the wait was given up.
    Unanswered,
    /// Bytes that are no answer to what was asked. The connection is given up.
    Malformed,
    /// A hit for a key that was not asked for. The connection is given up.
    WrongKey,
    /// A whole value, but of another key.
    ForeignValue,
    /// A value that is damaged, torn, or not from this generator.
    CorruptValue,
    /// A value that was overwritten before it was asked for: an old version, or of an earlier run.
    StaleValue,
    /// A well-formed value that nobody has written yet.
    UnwrittenValue,
}

impl Fault {
    /// All faults, in the order of the counters.
    pub const ALL: [Self; 12] = [
        Self::ServerError,
        Self::ClientError,
        Self::UnknownCommand,
        Self::NotStored,
        Self::ConnectionLost,
        Self::Unanswered,
        Self::Malformed,
        Self::WrongKey,
        Self::ForeignValue,
        Self::CorruptValue,
        Self::StaleValue,
        Self::UnwrittenValue,
    ];

    /// What the report calls it.
    pub fn name(self) -> &'static str {
        match self {
            Self::ServerError => "SERVER_ERROR answers",
            Self::ClientError => "CLIENT_ERROR answers",
            Self::UnknownCommand => "ERROR answers",
            Self::NotStored => "items not stored",
            Self::ConnectionLost => "connections lost",
            Self::Unanswered => "requests unanswered",
            Self::Malformed => "malformed answers",
            Self::WrongKey => "answers for a wrong key",
            Self::ForeignValue => "values of another key",
            Self::CorruptValue => "corrupt values",
            Self::StaleValue => "stale values",
            Self::UnwrittenValue => "values that were never written",
        }
    }

    /// Whether it means that the server answered wrongly, not merely that it could not answer.
    pub fn is_wrong_answer(self) -> bool {
        matches!(
            self,
            Self::Malformed
                | Self::WrongKey
                | Self::ForeignValue
                | Self::CorruptValue
                | Self::StaleValue
                | Self::UnwrittenValue
        )
    }
}

/// Kinds of requests that are timed apart.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Class {
    /// Reads one or several keys.
    Get,
    /// Writes one key.
    Set,
}

impl Class {
    /// All classes, in the order of the histograms.
    pub const ALL: [Self; 2] = [Self::Get, Self::Set];

    /// What the report calls it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Get => "get",
            Self::Set => "set",
        }
    }
}

/// Counters and latencies of one worker, or of several added up.
#[derive(Clone, Debug)]
pub struct Record {
    latency_ns: [Histogram<u64>; Class::ALL.len()],
    /// Open loop only: from sending to the answer, all classes.
    uncorrected_ns: Histogram<u64>,
    /// Open loop only: how late requests were sent although a connection was free.
    sent_late_ns: Histogram<u64>,
    faults: [u64; Fault::ALL.len()],
    /// Open loop only: requests that were due and never sent, for want of a connection with room.
    pub unsent: u64,
    /// Requests answered, whatever the answer was.
    pub requests: u64,
    /// Keys of answered gets that had a value.
    pub hits: u64,
    /// Keys of answered gets that had none.
    pub misses: u64,
    /// Sets answered.
    pub sets: u64,
    /// Bytes handed to the system for sending.
    pub bytes_sent: u64,
    /// Bytes received.
    pub bytes_received: u64,
    /// CPU time of the client's own workers, user and system.
    pub client_cpu_ns: u64,
}

impl Default for Record {
    fn default() -> Self {
        let histogram = Histogram::new_with_bounds(1, LATENCY_NS_MAX, LATENCY_DIGITS).expect("the bounds are valid");
        Self {
            latency_ns: [histogram.clone(), histogram.clone()],
            uncorrected_ns: histogram.clone(),
            sent_late_ns: histogram,
            faults: [0; Fault::ALL.len()],
            unsent: 0,
            requests: 0,
            hits: 0,
            misses: 0,
            sets: 0,
            bytes_sent: 0,
            bytes_received: 0,
            client_cpu_ns: 0,
        }
    }
}

impl Record {
    /// Counts a fault.
    pub fn fault(&mut self, fault: Fault, count: u64) {
        self.faults[fault as usize] += count;
    }

    /// Times an answered request.
    #[inline]
    pub fn answered(&mut self, class: Class, latency: Duration) {
        self.requests += 1;
        self.latency_ns[class as usize].saturating_record(latency.as_nanos() as u64);
    }

    /// Times an answered request of an open loop from when it was sent.
    #[inline]
    pub fn uncorrected(&mut self, latency: Duration) {
        self.uncorrected_ns.saturating_record(latency.as_nanos() as u64);
    }

    /// Notes how late a request was sent by the client's own doing.
    #[inline]
    pub fn sent_late(&mut self, late: Duration) {
        self.sent_late_ns.saturating_record(late.as_nanos() as u64);
    }

    /// Open loop: times from sending to the answer, in nanoseconds.
    pub fn uncorrected_ns(&self) -> &Histogram<u64> {
        &self.uncorrected_ns
    }

    /// Open loop: how late requests were sent by the client's own doing, in nanoseconds.
    pub fn sent_late_ns(&self) -> &Histogram<u64> {
        &self.sent_late_ns
    }

    /// Times of the answered requests of a class, in nanoseconds.
    pub fn latency_ns(&self, class: Class) -> &Histogram<u64> {
        &self.latency_ns[class as usize]
    }

    /// Times of all answered requests, in nanoseconds.
    pub fn latency_ns_of_all(&self) -> Histogram<u64> {
        let [mut all, rest @ ..] = self.latency_ns.clone();
        for histogram in rest {
            all.add(histogram).expect("all histograms have the same bounds");
        }
        all
    }

    /// How often a fault occurred.
    pub fn fault_count(&self, fault: Fault) -> u64 {
        self.faults[fault as usize]
    }

    /// The faults that occurred, with their counts.
    pub fn faults(&self) -> impl Iterator<Item = (Fault, u64)> {
        Fault::ALL.into_iter().zip(self.faults).filter(|(_, count)| *count > 0)
    }

    /// Answers that no correct server gives.
    pub fn wrong_answers(&self) -> u64 {
        self.faults().filter(|(fault, _)| fault.is_wrong_answer()).map(|(_, count)| count).sum()
    }

    /// Share of the keys asked for that had a value; `None` if none was asked for.
    pub fn hit_ratio(&self) -> Option<f64> {
        let keys = self.hits + self.misses;
        (keys > 0).then(|| self.hits as f64 / keys as f64)
    }

    /// Adds another record to this one.
    pub fn add(&mut self, other: &Self) {
        for (ours, theirs) in self.histograms_mut().into_iter().zip(other.histograms()) {
            ours.add(theirs).expect("all histograms have the same bounds");
        }
        for (ours, theirs) in self.faults.iter_mut().zip(other.faults) {
            *ours += theirs;
        }
        self.unsent += other.unsent;
        self.requests += other.requests;
        self.hits += other.hits;
        self.misses += other.misses;
        self.sets += other.sets;
        self.bytes_sent += other.bytes_sent;
        self.bytes_received += other.bytes_received;
        self.client_cpu_ns += other.client_cpu_ns;
    }

    fn histograms(&self) -> [&Histogram<u64>; 4] {
        let [get, set] = &self.latency_ns;
        [get, set, &self.uncorrected_ns, &self.sent_late_ns]
    }

    fn histograms_mut(&mut self) -> [&mut Histogram<u64>; 4] {
        let [get, set] = &mut self.latency_ns;
        [get, set, &mut self.uncorrected_ns, &mut self.sent_late_ns]
    }

    /// Forgets everything counted.
    pub fn clear(&mut self) {
        self.histograms_mut().into_iter().for_each(Histogram::reset);
        let Self {
            latency_ns: _,
            uncorrected_ns: _,
            sent_late_ns: _,
            faults,
            unsent,
            requests,
            hits,
            misses,
            sets,
            bytes_sent,
            bytes_received,
            client_cpu_ns,
        } = self;
        *faults = [0; Fault::ALL.len()];
        for counter in [unsent, requests, hits, misses, sets, bytes_sent, bytes_received, client_cpu_ns] {
            *counter = 0;
        }
    }
}

/// Percentiles of a set of latencies, in microseconds.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Percentiles {
    /// Number of latencies.
    pub count: u64,
    /// Mean.
    pub mean_us: f64,
    /// Half are no longer than this.
    pub p50_us: f64,
    /// 90 % are no longer than this.
    pub p90_us: f64,
    /// 99 % are no longer than this.
    pub p99_us: f64,
    /// 99.9 % are no longer than this.
    pub p999_us: f64,
    /// 99.99 % are no longer than this.
    pub p9999_us: f64,
    /// The longest.
    pub max_us: f64,
}

impl Percentiles {
    /// Summarises a histogram of nanoseconds; `None` when it is empty.
    pub fn of(latency_ns: &Histogram<u64>) -> Option<Self> {
        let quantile_us = |quantile| latency_ns.value_at_quantile(quantile) as f64 / 1000.0;
        (!latency_ns.is_empty()).then(|| Self {
            count: latency_ns.len(),
            mean_us: latency_ns.mean() / 1000.0,
            p50_us: quantile_us(0.5),
            p90_us: quantile_us(0.9),
            p99_us: quantile_us(0.99),
            p999_us: quantile_us(0.999),
            p9999_us: quantile_us(0.9999),
            max_us: latency_ns.max() as f64 / 1000.0,
        })
    }
}

/// A worker's counters as others may watch them while it works. They lag by one turn of the worker's loop.
#[derive(Debug, Default)]
#[repr(align(128))]
pub struct Live {
    requests: AtomicU64,
    hits: AtomicU64,
    misses: AtomicU64,
    faults: AtomicU64,
}

/// Sum of several workers' [`Live`] counters.
#[derive(Clone, Copy, Debug, Default)]
pub struct LiveTotals {
    /// Requests answered.
    pub requests: u64,
    /// Keys found.
    pub hits: u64,
    /// Keys not found.
    pub misses: u64,
    /// Faults of any kind.
    pub faults: u64,
}

impl Live {
    /// Lets others see the record's counters.
    pub(crate) fn publish(&self, record: &Record) {
        // Relaxed: statistics for the eye; nothing is read on the strength of these values.
        self.requests.store(record.requests, Ordering::Relaxed);
        self.hits.store(record.hits, Ordering::Relaxed);
        self.misses.store(record.misses, Ordering::Relaxed);
        self.faults.store(record.faults.iter().sum(), Ordering::Relaxed);
    }

    /// Adds up the counters of several workers.
    pub(crate) fn total<'a>(workers: impl IntoIterator<Item = &'a Self>) -> LiveTotals {
        workers.into_iter().fold(LiveTotals::default(), |sum, live| LiveTotals {
            // Relaxed: as in `publish`.
            requests: sum.requests + live.requests.load(Ordering::Relaxed),
            hits: sum.hits + live.hits.load(Ordering::Relaxed),
            misses: sum.misses + live.misses.load(Ordering::Relaxed),
            faults: sum.faults + live.faults.load(Ordering::Relaxed),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_in_microseconds_and_within_a_thousandth() {
        let mut record = Record::default();
        for us in 1..=10_000 {
            record.answered(Class::Get, Duration::from_micros(us));
        }
        let percentiles = Percentiles::of(record.latency_ns(Class::Get)).unwrap();
        let cases = [
            (percentiles.mean_us, 5000.5),
            (percentiles.p50_us, 5000.0),
            (percentiles.p90_us, 9000.0),
            (percentiles.p99_us, 9900.0),
            (percentiles.p999_us, 9990.0),
            (percentiles.p9999_us, 9999.0),
            (percentiles.max_us, 10_000.0),
        ];
        for (seen, expected) in cases {
            assert!((seen / expected - 1.0).abs() < 0.001, "{seen} for {expected}");
        }
        assert_eq!(Percentiles::of(record.latency_ns(Class::Set)), None);
    }

    #[test]
    fn records_add_up_and_clear() {
        let mut one = Record { hits: 3, misses: 1, ..Record::default() };
        one.answered(Class::Get, Duration::from_micros(5));
        one.fault(Fault::CorruptValue, 2);
        let mut two = Record { hits: 1, ..Record::default() };
        two.answered(Class::Set, Duration::from_secs(600));
        two.fault(Fault::ServerError, 1);
        one.add(&two);
        assert_eq!((one.requests, one.hits, one.misses, one.wrong_answers()), (2, 4, 1, 2));
        assert_eq!(one.hit_ratio(), Some(0.8));
        assert_eq!(one.latency_ns_of_all().len(), 2);
        one.clear();
        assert_eq!(
            (one.requests, one.hit_ratio(), one.faults().count(), one.latency_ns_of_all().len()),
            (0, None, 0, 0)
        );
        one.answered(Class::Get, Duration::from_micros(7));
        assert_eq!(Percentiles::of(one.latency_ns(Class::Get)).unwrap().count, 1);
    }
}
