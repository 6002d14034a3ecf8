//! `run`: fill a server, load it, and say what happened.

use crate::driver::Io;
use crate::error::{EXIT_INTERRUPTED, EXIT_OK, EXIT_UNAVAILABLE, EXIT_WRONG_ANSWERS, Error};
use crate::fleet::{Driven, Fleet, Pace};
use crate::load::Load;
use crate::progress::{Goal, Progress};
use crate::record::{Class, Fault, LiveTotals, Percentiles, Record};
use crate::schedule::{Arrivals, Rate};
use crate::stats::Stats;
use crate::target::Target;
use crate::units::short;
use crate::worker::Ended;
use crate::workload::Draws;
use hdrhistogram::Histogram;
use serde::Serialize;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// How long the server may take to say how much CPU time it has used.
pub(crate) const STATS_PATIENCE: Duration = Duration::from_secs(1);

/// Share of busy time above which the client is called the limit.
pub(crate) const CLIENT_BUSY_MAX: f64 = 0.9;
/// The client's own lateness at the 99th percentile, as a share of the latency there, above which the client is called late.
const CLIENT_LATE_MAX: f64 = 0.5;
/// Share of the requests that may be due and never sent, as those are which come due in the very last moment, before an open loop has
/// missed its rate.
const UNSENT_MAX: f64 = 0.001;

/// A checked `run`.
#[derive(Clone, Debug)]
pub struct RunPlan {
    /// The server.
    pub target: Target,
    /// The requests.
    pub load: Load,
    /// Open loop: the rate to keep. Closed loop if `None`.
    pub rate: Option<Rate>,
    /// How long to send requests.
    pub duration: Duration,
    /// Whether to write every key first.
    pub fill: bool,
}

/// What a `run` found.
#[derive(Clone, Debug, Serialize)]
pub struct RunReport {
    /// The server.
    pub server: String,
    /// The requests in words.
    pub workload: String,
    /// How requests were paced, in words.
    pub pacing: String,
    /// Client threads.
    pub threads: usize,
    /// Connections at the start.
    pub connections: usize,
    /// Connections that were open in the end.
    pub connections_left: usize,
    /// How the client talked to the system.
    #[serde(serialize_with = "serialize_display")]
    pub io: Io,
    /// Open loop: requests per second that were due.
    pub offered_per_s: Option<f64>,
    /// Items that a fill writes.
    pub fill_items: u64,
    /// Writing all keys, if that was asked for.
    pub fill: Option<Phase>,
    /// The load itself; absent if it was not reached.
    pub load: Option<Phase>,
    /// The load's counters over time.
    pub samples: Vec<Sample>,
    /// Why it ended.
    #[serde(serialize_with = "serialize_debug")]
    pub ended: Ended,
}

/// Counters at one time of the load.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Sample {
    /// Since the load began.
    pub seconds: f64,
    /// Requests answered until then.
    pub requests: u64,
    /// Keys found until then.
    pub hits: u64,
    /// Keys not found until then.
    pub misses: u64,
}

impl Sample {
    fn new(start: Instant, totals: LiveTotals) -> Self {
        let LiveTotals { requests, hits, misses, .. } = totals;
        Self { seconds: start.elapsed().as_secs_f64(), requests, hits, misses }
    }
}

/// Figures of one phase.
#[derive(Clone, Debug, Serialize)]
pub struct Phase {
    /// From the first request to the last answer.
    pub seconds: f64,
    /// Requests answered.
    pub requests: u64,
    /// Requests answered per second.
    pub requests_per_s: f64,
    /// Keys asked for or written, per second.
    pub keys_per_s: f64,
    /// Keys that had a value.
    pub hits: u64,
    /// Keys that had none.
    pub misses: u64,
    /// Hits among the keys asked for.
    pub hit_ratio: Option<f64>,
    /// Items written.
    pub sets: u64,
    /// Bytes sent per second.
    pub sent_bytes_per_s: f64,
    /// Bytes received per second.
    pub received_bytes_per_s: f64,
    /// Requests of each kind whose condition was not met: nothing to delete, a value newer than the cas. No errors.
    pub unmet: BTreeMap<&'static str, u64>,
    /// Time that connections took which were opened during the load.
    pub connect: Option<Percentiles>,
    /// Errors by kind.
    pub errors: BTreeMap<Fault, u64>,
    /// Answers among the errors that no correct server gives.
    pub wrong_answers: u64,
    /// Latency of each kind of request, and of all; in an open loop from the time they were due.
    pub latency: BTreeMap<&'static str, Percentiles>,
    /// Open loop: latency of all requests from the time they were sent, which hides what they waited before.
    pub latency_uncorrected: Option<Percentiles>,
    /// Open loop: how late requests were sent although a connection was free, by the client's own doing.
    pub sent_late: Option<Percentiles>,
    /// Open loop: requests that were due and never sent.
    pub unsent: u64,
    /// The client's own CPU time per request.
    pub client_cpu_ns_per_request: f64,
    /// The server's CPU time per request, by its own account (`rusage_user` and `rusage_system` of `stats`), other clients' requests
    /// and its own chores included; `None` if it gives none.
    pub server_cpu_ns_per_request: Option<f64>,
    /// Share of its threads' time in which the client worked: near 1 the client itself was the limit.
    pub client_busy: f64,
    /// All latencies, in nanoseconds.
    #[serde(skip)]
    pub latency_ns: Histogram<u64>,
    /// Open loop: all uncorrected latencies, in nanoseconds.
    #[serde(skip)]
    pub uncorrected_ns: Histogram<u64>,
    /// Open loop: the client's own lateness, in nanoseconds.
    #[serde(skip)]
    pub sent_late_ns: Histogram<u64>,
}

pub(crate) fn serialize_display<S: serde::Serializer>(
    value: &impl fmt::Display,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    serializer.collect_str(value)
}

pub(crate) fn serialize_debug<S: serde::Serializer>(value: &Ended, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&format_args!("{value:?}"))
}

impl Phase {
    pub(crate) fn of(driven: &Driven, threads: usize) -> Self {
        let record = &driven.record;
        let seconds = driven.elapsed.as_secs_f64();
        let mut latency = BTreeMap::new();
        for class in Class::ALL {
            latency.extend(
                record.latency_ns(class).and_then(Percentiles::of).map(|percentiles| (class.name(), percentiles)),
            );
        }
        if latency.len() > 1 {
            latency.extend(Percentiles::of(&record.latency_ns_of_all()).map(|percentiles| ("all", percentiles)));
        }
        Self {
            seconds,
            requests: record.requests,
            requests_per_s: record.requests as f64 / seconds,
            keys_per_s: (record.hits + record.misses + record.sets) as f64 / seconds,
            hits: record.hits,
            misses: record.misses,
            hit_ratio: record.hit_ratio(),
            sets: record.sets,
            sent_bytes_per_s: record.bytes_sent as f64 / seconds,
            received_bytes_per_s: record.bytes_received as f64 / seconds,
            unmet: Class::ALL
                .into_iter()
                .map(|class| (class.name(), record.unmet_count(class)))
                .filter(|(_, count)| *count > 0)
                .collect(),
            connect: record.connect_ns().and_then(Percentiles::of),
            errors: record.faults().collect(),
            wrong_answers: record.wrong_answers(),
            latency,
            latency_uncorrected: Percentiles::of(record.uncorrected_ns()),
            sent_late: Percentiles::of(record.sent_late_ns()),
            unsent: record.unsent,
            client_cpu_ns_per_request: per_request_ns(record),
            server_cpu_ns_per_request: None,
            latency_ns: record.latency_ns_of_all(),
            uncorrected_ns: record.uncorrected_ns().clone(),
            sent_late_ns: record.sent_late_ns().clone(),
            client_busy: record.client_cpu_ns as f64 / (driven.elapsed.as_nanos() as f64 * threads as f64),
        }
    }
}

fn per_request_ns(record: &Record) -> f64 {
    record.client_cpu_ns as f64 / record.requests.max(1) as f64
}

impl Phase {
    /// Open loop: whether so many requests were never sent that the latencies tell little.
    pub(crate) fn missed_the_rate(&self) -> bool {
        self.unsent as f64 > UNSENT_MAX * (self.requests + self.unsent) as f64
    }

    /// Open loop: whether the client's own lateness makes up most of the latency's tail.
    pub(crate) fn client_was_late(&self) -> bool {
        let p99 = |latency_ns: &Histogram<u64>| latency_ns.value_at_quantile(0.99) as f64;
        p99(&self.sent_late_ns) > CLIENT_LATE_MAX * p99(&self.latency_ns)
    }

    /// Whether the client's threads had next to no time left.
    pub(crate) fn client_was_the_limit(&self) -> bool {
        self.client_busy > CLIENT_BUSY_MAX
    }
}

impl RunReport {
    /// What the run comes to, in a sentence or two.
    pub fn verdict(&self) -> String {
        let Some(load) = &self.load else { return "The load was not reached.".into() };
        let achieved = short(load.requests_per_s);
        let mut text = match self.offered_per_s {
            Some(offered) => {
                format!("Open loop: {} requests/s offered, {achieved} achieved", short(offered))
            }
            None => format!("Closed loop: {achieved} requests/s"),
        };
        if let Some(latency) = Percentiles::of(&load.latency_ns) {
            let from = if self.offered_per_s.is_some() { "of the due time" } else { "of sending" };
            text += &format!(
                ", half of them within {:.0} us {from}, 99.9 % within {:.0} us",
                latency.p50_us, latency.p999_us
            );
        }
        if let Some(ratio) = load.hit_ratio {
            text += &format!("; {:.2} % hits", ratio * 100.0);
        }
        text += match (load.wrong_answers, load.errors.is_empty()) {
            (0, true) => "; no errors, and every value was one that was written to its key.",
            (0, false) => "; there were errors, but no wrong answers.",
            _ => "; THERE WERE WRONG ANSWERS.",
        };
        let rate = if load.missed_the_rate() { " The rate was not kept." } else { "" };
        let client = if load.client_was_the_limit() { " The client itself was the limit." } else { "" };
        let late = if load.client_was_late() { " The client itself was late." } else { "" };
        let end = match self.ended {
            Ended::Done => "",
            Ended::Stopped => " It was stopped early.",
            Ended::AllConnectionsLost => " THE SERVER WENT AWAY.",
            Ended::Stalled => " THE SERVER STOPPED ANSWERING.",
        };
        text + rate + client + late + end
    }

    /// The status that the process should end with.
    pub fn exit_code(&self) -> u8 {
        let wrong_answers: u64 = self.fill.iter().chain(&self.load).map(|phase| phase.wrong_answers).sum();
        match self.ended {
            _ if wrong_answers > 0 => EXIT_WRONG_ANSWERS,
            Ended::AllConnectionsLost | Ended::Stalled => EXIT_UNAVAILABLE,
            Ended::Stopped => EXIT_INTERRUPTED,
            Ended::Done => EXIT_OK,
        }
    }
}

/// A mark for the values of this run, different from that of the last ones.
pub(crate) fn run_mark() -> u16 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    // 16 bits of a clock of about a quarter second: it comes round after four and a half hours.
    (now.as_millis() >> 8) as u16
}

fn describe_pacing(rate: Option<Rate>) -> String {
    match rate {
        None => "closed loop: a connection sends its next request when the last one is answered, so a slow server is asked less".into(),
        Some(Rate { requests_per_s, arrivals, .. }) => {
            let gaps = match arrivals {
                Arrivals::Constant => "constant",
                Arrivals::Exponential => "exponential",
                Arrivals::Etc => "generalised Pareto",
            };
            format!("open loop: {} requests/s are due with {gaps} gaps, whatever the server does", short(requests_per_s))
        }
    }
}

/// Carries out a `run`. A server that dies on the way is not an error here: the report says what there was until then.
///
/// # Errors
/// When the server cannot be reached at all, or the system fails.
pub fn run(plan: &RunPlan, quiet: bool, stop: &AtomicBool) -> Result<RunReport, Error> {
    let load = &plan.load;
    let mut fleet = Fleet::connect(&plan.target, load.shape, &load.items, run_mark(), load.books_by_key())?;
    let threads = load.shape.threads;
    let mut report = RunReport {
        server: plan.target.to_string(),
        workload: load.description.clone(),
        pacing: describe_pacing(plan.rate),
        threads,
        connections: load.shape.connections,
        connections_left: load.shape.connections,
        offered_per_s: plan.rate.map(|rate| rate.requests_per_s),
        io: fleet.io(),
        fill_items: load.fill_total(),
        fill: None,
        load: None,
        samples: Vec::new(),
        ended: Ended::Done,
    };
    let pace = Pace {
        duration: Some(plan.duration),
        rate: plan.rate,
        depth: load.depth,
        patience: load.patience,
        strict: false,
        stop,
    };
    let mut filled_all = false;
    if plan.fill {
        let mut progress = Progress::new("fill", Goal::Requests(load.fill_total()), quiet);
        let driven = fleet.fill(load.keys, &load.mix, pace, &mut |totals| progress.show(totals))?;
        report.ended = driven.ended;
        filled_all = driven.record.sets == load.fill_total();
        report.fill = Some(Phase::of(&driven, threads));
    }
    if report.ended == Ended::Done {
        fleet.churn(load.requests_per_connection);
        let mut progress = Progress::new("run", Goal::Time(plan.duration), quiet);
        let mut draws: Vec<Draws> =
            (0..threads as u64).map(|thread| Draws::new(load.mix.clone(), load.seed.wrapping_add(thread))).collect();
        let pace = Pace { strict: filled_all, ..pace };
        // A server without statistics, or without room for one more connection, gives no account.
        let server_cpu_ns = || Stats::ask(&plan.target, load.patience.min(STATS_PATIENCE)).ok()?.cpu_ns();
        let cpu_before = server_cpu_ns();
        let start = Instant::now();
        report.samples.push(Sample::new(start, LiveTotals::default()));
        let mut watch = |totals| {
            progress.show(totals);
            report.samples.push(Sample::new(start, totals));
        };
        let driven = fleet.drive(&mut draws, pace, &mut watch)?;
        report.ended = driven.ended;
        if driven.record.fault_count(Fault::ConnectionLost) > 0 && driven.record.requests == 0 {
            report.ended = Ended::AllConnectionsLost;
        }
        let mut phase = Phase::of(&driven, threads);
        if let (Ended::Done | Ended::Stopped, Some(before)) = (report.ended, cpu_before) {
            let used = server_cpu_ns().and_then(|after| after.checked_sub(before)).filter(|used| *used > 0);
            phase.server_cpu_ns_per_request = used.map(|used| used as f64 / driven.record.requests.max(1) as f64);
        }
        report.load = Some(phase);
    }
    report.io = fleet.io();
    report.connections_left = fleet.connections();
    Ok(report)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An open loop of a second: its latencies, the client's lateness, and how many requests were never sent.
    fn phase(latency_us: &[u64], late_us: &[u64], unsent: u64) -> Phase {
        let mut record = Record::default();
        (record.unsent, record.client_cpu_ns) = (unsent, 950_000_000);
        latency_us.iter().for_each(|us| record.answered(Class::Get, Duration::from_micros(*us)));
        late_us.iter().for_each(|us| record.sent_late(Duration::from_micros(*us)));
        Phase::of(&Driven { ended: Ended::Done, elapsed: Duration::from_secs(1), record }, 1)
    }

    #[test]
    fn a_client_that_is_late_or_busy_and_a_rate_that_was_not_kept_are_told() {
        let latency = [100; 1000];
        let late = |us| [us; 1000];
        let cases = [(40, false), (60, true), (100, true)];
        for (us, expected) in cases {
            assert_eq!(phase(&latency, &late(us), 0).client_was_late(), expected, "{us} us late");
        }
        assert!(!phase(&latency, &[], 0).client_was_late(), "a closed loop is never late");
        assert!(phase(&latency, &[], 0).client_was_the_limit());
        assert!(!phase(&latency, &[], 1).missed_the_rate(), "one of a thousand, at the very end");
        assert!(phase(&latency, &[], 10).missed_the_rate());
    }
}
