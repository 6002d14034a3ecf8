//! What is counted and timed while requests fly.
//!
//! Every worker has a record of its own and touches nobody else's; records are added up when the workers have finished.

use hdrhistogram::Histogram;
use serde::{Serialize, Serializer};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Longest latency that is told apart; longer ones count as this.
const LATENCY_NS_MAX: u64 = 60_000_000_000;
/// Significant digits of a recorded latency.
const LATENCY_DIGITS: u8 = 3;

/// Everything that can be wrong with an answer.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
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
    /// A connection could not be opened anew, or was one too many for the server.
    ConnectionRefused,
    /// A request was in flight when its connection ended, or the wait was given up.
    Unanswered,
    /// Bytes that are no answer to what was asked. The connection is given up.
    Malformed,
    /// A hit for a key that was not asked for. The connection is given up.
    WrongKey,
    /// A whole value, but of another key.
    ForeignValue,
    /// A mixture of two values that were written to the key.
    TornValue,
    /// A value that is damaged, or not from this generator.
    CorruptValue,
    /// A value that was overwritten before it was asked for: an old version, or of an earlier run.
    StaleValue,
    /// A well-formed value that nobody has written yet.
    UnwrittenValue,
    /// A value that was deleted before it was asked for.
    ResurrectedValue,
    /// A counter that fell behind the increments that are known to have happened, or ran ahead of all that were sent.
    WrongCount,
    /// A cas that was stored although the value it was to replace had been replaced.
    LostUpdate,
    /// A value whose time to live was over before it was asked for.
    ExpiredValue,
}

impl Fault {
    /// All faults, in the order of the counters.
    pub const ALL: [Self; 18] = [
        Self::ServerError,
        Self::ClientError,
        Self::UnknownCommand,
        Self::NotStored,
        Self::ConnectionLost,
        Self::ConnectionRefused,
        Self::Unanswered,
        Self::Malformed,
        Self::WrongKey,
        Self::ForeignValue,
        Self::TornValue,
        Self::CorruptValue,
        Self::StaleValue,
        Self::UnwrittenValue,
        Self::ResurrectedValue,
        Self::WrongCount,
        Self::LostUpdate,
        Self::ExpiredValue,
    ];

    /// What the report calls one of it, and several.
    fn names(self) -> (&'static str, &'static str) {
        match self {
            Self::ServerError => ("SERVER_ERROR answer", "SERVER_ERROR answers"),
            Self::ClientError => ("CLIENT_ERROR answer", "CLIENT_ERROR answers"),
            Self::UnknownCommand => ("ERROR answer", "ERROR answers"),
            Self::NotStored => ("item not stored", "items not stored"),
            Self::ConnectionLost => ("connection lost", "connections lost"),
            Self::ConnectionRefused => ("connection refused", "connections refused"),
            Self::Unanswered => ("request unanswered", "requests unanswered"),
            Self::Malformed => ("malformed answer", "malformed answers"),
            Self::WrongKey => ("answer for a wrong key", "answers for a wrong key"),
            Self::ForeignValue => ("value of another key", "values of another key"),
            Self::TornValue => ("torn value", "torn values"),
            Self::CorruptValue => ("corrupt value", "corrupt values"),
            Self::StaleValue => ("stale value", "stale values"),
            Self::UnwrittenValue => ("value that was never written", "values that were never written"),
            Self::ResurrectedValue => ("value that had been deleted", "values that had been deleted"),
            Self::WrongCount => ("wrong count", "wrong counts"),
            Self::LostUpdate => ("update lost to a cas", "updates lost to a cas"),
            Self::ExpiredValue => ("value that had expired", "values that had expired"),
        }
    }

    /// What the report calls several of it; its key in JSON.
    pub fn name(self) -> &'static str {
        self.names().1
    }

    /// How often it occurred, in words: `1 connection lost`.
    pub fn counted(self, count: u64) -> String {
        let (one, several) = self.names();
        format!("{count} {}", if count == 1 { one } else { several })
    }

    /// Whether it means that the server answered wrongly, not merely that it could not answer.
    pub fn is_wrong_answer(self) -> bool {
        matches!(
            self,
            Self::Malformed
                | Self::WrongKey
                | Self::ForeignValue
                | Self::TornValue
                | Self::CorruptValue
                | Self::StaleValue
                | Self::UnwrittenValue
                | Self::ResurrectedValue
                | Self::WrongCount
                | Self::LostUpdate
                | Self::ExpiredValue
        )
    }
}

impl Serialize for Fault {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

/// Kinds of requests that are timed apart.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Class {
    /// Reads one or several keys.
    Get,
    /// Reads one or several keys with their CAS ids.
    Gets,
    /// Writes one key.
    Set,
    /// Writes one key that is not there.
    Add,
    /// Writes one key if nobody has since its CAS id was read.
    Cas,
    /// Removes one key.
    Delete,
    /// Adds one to a counter.
    Incr,
    /// Gives one key a new time to live.
    Touch,
    /// Puts one element behind a list.
    Append,
    /// Puts one element before a list.
    Prepend,
}

impl Class {
    /// All classes, in the order of the histograms.
    pub const ALL: [Self; 10] = [
        Self::Get,
        Self::Gets,
        Self::Set,
        Self::Add,
        Self::Cas,
        Self::Delete,
        Self::Incr,
        Self::Touch,
        Self::Append,
        Self::Prepend,
    ];

    /// What the protocol and the report call it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Get => "get",
            Self::Gets => "gets",
            Self::Set => "set",
            Self::Add => "add",
            Self::Cas => "cas",
            Self::Delete => "delete",
            Self::Incr => "incr",
            Self::Touch => "touch",
            Self::Append => "append",
            Self::Prepend => "prepend",
        }
    }
}

/// Counters and latencies of one worker, or of several added up.
#[derive(Clone, Debug)]
pub struct Record {
    /// Made when the first request of the class is answered: each takes 220 KB.
    latency_ns: [Option<Histogram<u64>>; Class::ALL.len()],
    /// How long connections took that were opened during the load.
    connect_ns: Option<Histogram<u64>>,
    /// Open loop only: from sending to the answer, all classes.
    uncorrected_ns: Histogram<u64>,
    /// Open loop only: how late requests were sent although a connection was free.
    sent_late_ns: Histogram<u64>,
    faults: [u64; Fault::ALL.len()],
    /// Requests of each class whose condition was not met: nothing to delete, a value newer than the cas.
    unmet: [u64; Class::ALL.len()],
    /// Open loop only: requests that were due and never sent, for want of a connection with room.
    pub unsent: u64,
    /// Requests answered, whatever the answer was.
    pub requests: u64,
    /// Keys of answered gets that had a value.
    pub hits: u64,
    /// Keys of answered gets that had none.
    pub misses: u64,
    /// Items written.
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
        Self {
            latency_ns: [const { None }; Class::ALL.len()],
            connect_ns: None,
            uncorrected_ns: empty_histogram(),
            sent_late_ns: empty_histogram(),
            unmet: [0; Class::ALL.len()],
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

fn empty_histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, LATENCY_NS_MAX, LATENCY_DIGITS).expect("the bounds are valid")
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
        let histogram = self.latency_ns[class as usize].get_or_insert_with(empty_histogram);
        histogram.saturating_record(latency.as_nanos() as u64);
    }

    /// Counts an answer that says that the request's condition was not met.
    #[inline]
    pub fn unmet(&mut self, class: Class) {
        self.unmet[class as usize] += 1;
    }

    /// How many requests of a class found their condition not met.
    pub fn unmet_count(&self, class: Class) -> u64 {
        self.unmet[class as usize]
    }

    /// Times a connection that was opened during the load.
    pub fn connected(&mut self, latency: Duration) {
        self.connect_ns.get_or_insert_with(empty_histogram).saturating_record(latency.as_nanos() as u64);
    }

    /// Times of the connections that were opened during the load, in nanoseconds.
    pub fn connect_ns(&self) -> Option<&Histogram<u64>> {
        self.connect_ns.as_ref()
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
    pub fn latency_ns(&self, class: Class) -> Option<&Histogram<u64>> {
        self.latency_ns[class as usize].as_ref()
    }

    /// Times of all answered requests, in nanoseconds.
    pub fn latency_ns_of_all(&self) -> Histogram<u64> {
        let mut all = empty_histogram();
        for histogram in self.latency_ns.iter().flatten() {
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
        let add = |ours: &mut Histogram<u64>, theirs| ours.add(theirs).expect("all histograms have the same bounds");
        add(&mut self.uncorrected_ns, &other.uncorrected_ns);
        add(&mut self.sent_late_ns, &other.sent_late_ns);
        let lazy = self.latency_ns.iter_mut().chain([&mut self.connect_ns]);
        for (ours, theirs) in lazy.zip(other.latency_ns.iter().chain([&other.connect_ns])) {
            if let Some(theirs) = theirs {
                add(ours.get_or_insert_with(empty_histogram), theirs);
            }
        }
        for (ours, theirs) in self.faults.iter_mut().zip(other.faults) {
            *ours += theirs;
        }
        for (ours, theirs) in self.unmet.iter_mut().zip(other.unmet) {
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

    /// Forgets everything counted.
    pub fn clear(&mut self) {
        let Self {
            latency_ns,
            connect_ns,
            uncorrected_ns,
            sent_late_ns,
            faults,
            unmet,
            unsent,
            requests,
            hits,
            misses,
            sets,
            bytes_sent,
            bytes_received,
            client_cpu_ns,
        } = self;
        latency_ns.iter_mut().chain([connect_ns]).flatten().for_each(Histogram::reset);
        [uncorrected_ns, sent_late_ns].into_iter().for_each(Histogram::reset);
        *faults = [0; Fault::ALL.len()];
        *unmet = [0; Class::ALL.len()];
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
        let percentiles = record.latency_ns(Class::Get).and_then(Percentiles::of).unwrap();
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
        assert_eq!(record.latency_ns(Class::Set).and_then(Percentiles::of), None);
        assert_eq!(Percentiles::of(record.uncorrected_ns()), None);
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
        assert_eq!(one.latency_ns(Class::Get).and_then(Percentiles::of).unwrap().count, 1);
    }
}
