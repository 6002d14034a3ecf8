//! `compare`: two servers, the same requests, alternating short slices.
//!
//! Shared machines drift by a factor of two within a minute, so absolute times mean little. What holds is the ratio of two
//! slices measured one right after the other. Each workload runs A B A B...; the first slice of each is dropped, and the
//! ratios of the pairs are summarised by their median. Server and client share one core by default: then exactly one of them
//! runs at any time, and the server's own CPU time per request is the steadiest figure of all.

use crate::cpu::{self, Pinned};
use crate::driver::Io;
use crate::error::{Cut, EXIT_OK, EXIT_WRONG_ANSWERS, Error};
use crate::fleet::{Driven, Fleet, Pace};
use crate::load::Load;
use crate::popularity::Popularity;
use crate::process::{Endpoint, Server};
use crate::progress::{Goal, Progress};
use crate::record::{Fault, LiveTotals, Record};
use crate::run::{CLIENT_BUSY_MAX, STATS_PATIENCE, run_mark, serialize_display};
use crate::spread::Spread;
use crate::stats::Stats;
use crate::units::{counted, short};
use crate::worker::Ended;
use crate::workload::{Draws, Mix};
use clap::ValueEnum;
use serde::Serialize;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

/// A checked `compare`.
#[derive(Clone, Debug)]
pub struct ComparePlan {
    /// The server to compare with.
    pub a: Contender,
    /// The server that is compared.
    pub b: Contender,
    /// The requests; all keys are written first.
    pub load: Load,
    /// What is common to all workloads, in words.
    pub items: String,
    /// What is measured.
    pub workloads: Vec<Named>,
    /// Measured slices of each server.
    pub slices: usize,
    /// Length of a slice.
    pub slice: Duration,
    /// Core of the servers.
    pub server_cpu: Option<usize>,
    /// Core of the client.
    pub client_cpu: Option<usize>,
}

impl ComparePlan {
    fn shares_core(&self) -> bool {
        self.server_cpu.is_some() && self.server_cpu == self.client_cpu
    }
}

/// A server to compare.
#[derive(Clone, Debug)]
pub struct Contender {
    /// Where it is, or how to start it.
    pub endpoint: Endpoint,
    /// Process whose CPU time is its own, if it runs already and on this machine.
    pub pid: Option<u32>,
}

/// A workload with a name.
#[derive(Clone, Debug)]
pub struct Named {
    /// What the report calls it.
    pub name: String,
    /// Proportions and popularity.
    pub mix: Arc<Mix>,
    /// Requests sent together on one connection.
    pub depth: usize,
}

/// Named sets of workloads.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub enum Suite {
    /// get, set, both pipelined 16 deep, and gets of 100 keys
    Foundation,
}

impl fmt::Display for Suite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Foundation => f.write_str("foundation"),
        }
    }
}

impl Suite {
    /// The suite's workloads over keys of this popularity.
    pub fn workloads(self, popularity: &Popularity) -> Vec<Named> {
        let named = |name: &str, get_share, multiget_keys, depth| Named {
            name: name.into(),
            mix: Arc::new(Mix::get_set(get_share, multiget_keys, popularity.clone())),
            depth,
        };
        match self {
            Self::Foundation => vec![
                named("get", 1.0, 1, 1),
                named("set", 0.0, 1, 1),
                named("set x16", 0.0, 1, 16),
                named("get x16", 1.0, 1, 16),
                named("get of 100 keys", 1.0, 100, 1),
            ],
        }
    }
}

/// One measured slice of one server.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Slice {
    /// Requests answered per second.
    pub requests_per_s: f64,
    /// The server's CPU time per request, if its process is known.
    pub server_cpu_ns: Option<f64>,
    /// The client's CPU time per request.
    pub client_cpu_ns: f64,
    /// Share of its threads' time in which the client worked.
    pub client_busy: f64,
}

/// All slices of one server under one workload.
#[derive(Clone, Debug, Serialize)]
pub struct Side {
    /// The slices in the order they ran.
    pub slices: Vec<Slice>,
    /// Requests per second.
    pub requests_per_s: Spread,
    /// The server's CPU time per request, if its process is known.
    pub server_cpu_ns: Option<Spread>,
    /// The client's CPU time per request.
    pub client_cpu_ns: Spread,
    /// Share of its threads' time in which the client worked.
    pub client_busy: Spread,
    /// Whether the client, on a core of its own, had next to no time left, so that the throughput is the client's.
    pub client_limited: bool,
    /// Hits among the keys asked for.
    pub hit_ratio: Option<f64>,
    /// Errors by kind.
    pub errors: BTreeMap<Fault, u64>,
    /// Answers among the errors that no correct server gives.
    pub wrong_answers: u64,
}

/// Two servers under one workload.
#[derive(Clone, Debug, Serialize)]
pub struct Comparison {
    /// Name of the workload.
    pub workload: String,
    /// Keys of one request, on average.
    pub keys_per_request: f64,
    /// The server to compare with.
    pub a: Side,
    /// The server that is compared.
    pub b: Side,
    /// B's CPU time per request divided by A's, over the pairs of slices, if both processes are known.
    pub cpu_ratio: Option<Spread>,
    /// B's throughput divided by A's, over the pairs of slices.
    pub throughput_ratio: Spread,
}

/// What a `compare` found.
#[derive(Clone, Debug, Serialize)]
pub struct CompareReport {
    /// Command of the server to compare with.
    pub a: String,
    /// Command of the server that is compared.
    pub b: String,
    /// The requests, in words; of a suite what is common to its workloads.
    pub items: String,
    /// Connections to each server.
    pub connections: usize,
    /// Client threads.
    pub threads: usize,
    /// How the client talked to the system.
    #[serde(serialize_with = "serialize_display")]
    pub io: Io,
    /// Core of the servers.
    pub server_cpu: Option<usize>,
    /// Core of the client.
    pub client_cpu: Option<usize>,
    /// Length of a slice in seconds.
    pub slice_seconds: f64,
    /// One for each workload.
    pub comparisons: Vec<Comparison>,
    /// Why it ended early, if it did.
    pub cut: Option<Cut>,
}

/// A server with its connections.
struct Contestant {
    /// Declared before the process, so that connections close before the server is told to end.
    fleet: Fleet,
    /// The process, if it was started here.
    server: Option<Server>,
    account: Account,
    name: String,
}

/// Who tells the CPU time of a server.
#[derive(Clone, Copy, Debug)]
enum Account {
    /// The system, of this process.
    Process(u32),
    /// The server, when it is asked for its statistics, within this time.
    Own(Duration),
    /// Nobody.
    None,
}

/// Carries out a `compare`. Both servers are ended in any case. If a server goes away or the user interrupts when there is something
/// to report, the report says so.
///
/// # Errors
/// When a server does not start, when one goes away or stalls or the user interrupts before there is anything to report, or when the
/// system fails by then.
pub fn compare(plan: &ComparePlan, quiet: bool, stop: &AtomicBool) -> Result<CompareReport, Error> {
    let mut a = contestant(plan, &plan.a, "A", quiet, stop)?;
    let mut b = contestant(plan, &plan.b, "B", quiet, stop)?;
    let _pinned = plan.client_cpu.map(|cpu| Pinned::to(&[cpu])).transpose()?;
    let mut comparisons = Vec::with_capacity(plan.workloads.len());
    let mut cut = None;
    for workload in &plan.workloads {
        let (comparison, failure) = measure(plan, workload, &mut a, &mut b, quiet, stop);
        comparisons.extend(comparison);
        match failure {
            Some(error) if comparisons.is_empty() => return Err(error),
            Some(error) => {
                cut = Some(error.into());
                break;
            }
            None => {}
        }
    }
    Ok(CompareReport {
        a: plan.a.endpoint.to_string(),
        b: plan.b.endpoint.to_string(),
        items: plan.items.clone(),
        connections: plan.load.shape.connections,
        threads: plan.load.shape.threads,
        io: a.fleet.io(),
        server_cpu: plan.server_cpu,
        client_cpu: plan.client_cpu,
        slice_seconds: plan.slice.as_secs_f64(),
        comparisons,
        cut,
    })
}

/// Starts a server on its core, connects, and writes every key.
fn contestant(
    plan: &ComparePlan,
    contender: &Contender,
    name: &str,
    quiet: bool,
    stop: &AtomicBool,
) -> Result<Contestant, Error> {
    let load = &plan.load;
    let server = match &contender.endpoint {
        Endpoint::Running(_) => None,
        Endpoint::Started(command) => {
            // The child and all its threads inherit the core.
            let _pinned = plan.server_cpu.map(|cpu| Pinned::to(&[cpu])).transpose()?;
            Some(Server::start(command, name, stop)?)
        }
    };
    let target = match (&server, &contender.endpoint) {
        (Some(server), _) => server.target().clone(),
        (None, Endpoint::Running(target)) => target.clone(),
        (None, Endpoint::Started(_)) => unreachable!("a server to be started was started"),
    };
    let account = match server.as_ref().map(Server::pid).or(contender.pid) {
        Some(pid) => Account::Process(pid),
        None => match Stats::ask(&target, load.patience.min(STATS_PATIENCE)) {
            Ok(stats) if stats.cpu_ns().is_some() => Account::Own(load.patience),
            _ => Account::None,
        },
    };
    let mut fleet = Fleet::connect(&target, load.shape, &load.items, run_mark(), load.books_by_writer())?;
    let mut progress = Progress::new(format!("fill {name}"), Goal::Requests(load.fill_total()), quiet);
    let pace = Pace { duration: None, rate: None, depth: 1, patience: load.patience, strict: false, stop };
    let filled = fleet.fill(load.keys, &load.mix, pace, &mut |totals| progress.show(totals))?;
    let mut contestant = Contestant { fleet, server, account, name: contender.endpoint.to_string() };
    contestant.check_end(filled.ended)?;
    if filled.record.sets < load.fill_total() {
        let stored = filled.record.sets;
        let faults: Vec<String> = filled.record.faults().map(|(fault, count)| fault.counted(count)).collect();
        let reason = format!("it stored only {stored} of {} items: {}", load.fill_total(), faults.join(", "));
        return Err(Error::ServerLost { target: contestant.name, reason });
    }
    contestant.fleet.churn(load.requests_per_connection);
    if plan.shares_core() {
        contestant.fleet.give_way();
    }
    Ok(contestant)
}

impl Contestant {
    fn check_end(&mut self, ended: Ended) -> Result<(), Error> {
        match (ended, &mut self.server) {
            (Ended::Done, _) => Ok(()),
            (Ended::Stopped, _) => Err(Error::Interrupted),
            (_, Some(server)) => Err(server.lost()),
            (_, None) => {
                let reason = "the server went away or stopped answering".into();
                Err(Error::ServerLost { target: self.name.clone(), reason })
            }
        }
    }

    fn cpu_ns(&self) -> Result<Option<u64>, Error> {
        match self.account {
            Account::Process(pid) => cpu::process_cpu_ns(pid)
                .map(Some)
                .map_err(|source| Error::System { action: "read the server's CPU time", source }),
            Account::Own(patience) => Ok(Stats::ask(self.fleet.target(), patience)?.cpu_ns()),
            Account::None => Ok(None),
        }
    }
}

/// The slices of one workload, as far as they came in pairs, and why there are no more.
fn measure(
    plan: &ComparePlan,
    workload: &Named,
    a: &mut Contestant,
    b: &mut Contestant,
    quiet: bool,
    stop: &AtomicBool,
) -> (Option<Comparison>, Option<Error>) {
    let pace = Pace {
        duration: Some(plan.slice),
        rate: None,
        depth: workload.depth,
        patience: plan.load.patience,
        strict: true,
        stop,
    };
    // Each side draws the same sequence.
    let draws = || -> Vec<Draws> {
        (0..plan.load.shape.threads as u64)
            .map(|thread| Draws::new(workload.mix.clone(), plan.load.seed.wrapping_add(thread)))
            .collect()
    };
    let mut sides = [(a, draws(), Vec::new(), Record::default()), (b, draws(), Vec::new(), Record::default())];
    let mut progress = Progress::new(&workload.name, Goal::Time(plan.slice * 2 * (plan.slices as u32 + 1)), quiet);
    let mut before = LiveTotals::default();
    let mut failure = None;
    'rounds: for round in 0..=plan.slices {
        for (contestant, draws, slices, record) in &mut sides {
            let (slice, driven) = match measure_slice(contestant, draws, pace) {
                Ok(measured) => measured,
                Err(error) => {
                    failure = Some(error);
                    break 'rounds;
                }
            };
            before.requests += driven.record.requests;
            progress.show(before);
            if round > 0 {
                slices.push(slice);
            }
            record.add(&driven.record);
        }
    }
    let [(.., mut slices_a, record_a), (.., slices_b, record_b)] = sides;
    slices_a.truncate(slices_b.len());
    if slices_b.is_empty() {
        return (None, failure);
    }
    let pairs = || slices_a.iter().zip(&slices_b);
    let cpu_ratio = Spread::of(pairs().filter_map(|(a, b)| Some(b.server_cpu_ns? / a.server_cpu_ns?)));
    let throughput_ratio = spread(pairs().map(|(a, b)| b.requests_per_s / a.requests_per_s));
    let requests = (record_a.requests + record_b.requests).max(1) as f64;
    let keys =
        [&record_a, &record_b].map(|record| record.hits + record.misses + record.sets).iter().sum::<u64>() as f64;
    let comparison = Comparison {
        workload: workload.name.clone(),
        keys_per_request: keys / requests,
        a: side(slices_a, &record_a, plan.shares_core()),
        b: side(slices_b, &record_b, plan.shares_core()),
        cpu_ratio,
        throughput_ratio,
    };
    (Some(comparison), failure)
}

/// One slice, from an idle server to an idle server.
fn measure_slice(contestant: &mut Contestant, draws: &mut [Draws], pace: Pace<'_>) -> Result<(Slice, Driven), Error> {
    let threads = draws.len() as f64;
    let cpu_before = contestant.cpu_ns()?;
    let driven = contestant.fleet.drive(draws, pace, &mut |_| {})?;
    contestant.check_end(driven.ended)?;
    let cpu_ns = contestant.cpu_ns()?.zip(cpu_before).map(|(after, before)| after.saturating_sub(before));
    let requests = driven.record.requests.max(1) as f64;
    let slice = Slice {
        requests_per_s: requests / driven.elapsed.as_secs_f64(),
        server_cpu_ns: cpu_ns.map(|cpu_ns| cpu_ns as f64 / requests),
        client_cpu_ns: driven.record.client_cpu_ns as f64 / requests,
        client_busy: driven.record.client_cpu_ns as f64 / (driven.elapsed.as_nanos() as f64 * threads),
    };
    Ok((slice, driven))
}

fn side(slices: Vec<Slice>, record: &Record, shares_core: bool) -> Side {
    let client_busy = spread(slices.iter().map(|slice| slice.client_busy));
    Side {
        client_busy,
        client_limited: !shares_core && client_busy.median > CLIENT_BUSY_MAX,
        requests_per_s: spread(slices.iter().map(|slice| slice.requests_per_s)),
        server_cpu_ns: Spread::of(slices.iter().filter_map(|slice| slice.server_cpu_ns)),
        client_cpu_ns: spread(slices.iter().map(|slice| slice.client_cpu_ns)),
        hit_ratio: record.hit_ratio(),
        errors: record.faults().collect(),
        wrong_answers: record.wrong_answers(),
        slices,
    }
}

/// Every workload has at least one slice.
fn spread(measurements: impl Iterator<Item = f64>) -> Spread {
    Spread::of(measurements).expect("a workload has at least one measured slice")
}

impl CompareReport {
    /// The status that the process should end with.
    pub fn exit_code(&self) -> u8 {
        let right =
            self.comparisons.iter().all(|comparison| comparison.a.wrong_answers + comparison.b.wrong_answers == 0);
        match &self.cut {
            _ if !right => EXIT_WRONG_ANSWERS,
            Some(cut) => cut.exit_code(),
            None => EXIT_OK,
        }
    }
}

impl Comparison {
    /// What the ratio of CPU times allows to say, or that of throughput where CPU times are not known.
    pub fn verdict(&self) -> String {
        let (Spread { median, min, max, median_interval }, what) = match self.cpu_ratio {
            Some(cpu_ratio) => (cpu_ratio, "CPU per request"),
            None if self.a.client_limited || self.b.client_limited => {
                return "the client itself was the limit: these slices say nothing about the servers".into();
            }
            None => (self.throughput_ratio, "throughput"),
        };
        let verb = if self.cpu_ratio.is_some() { "needs" } else { "has" };
        // With too few slices for an interval, only slices that all agree say anything.
        let (low, high) = median_interval.unwrap_or((min, max));
        let percent = (median - 1.0).abs() * 100.0;
        if high < 1.0 {
            format!("B {verb} {percent:.0} % less {what} than A")
        } else if low > 1.0 {
            format!("B {verb} {percent:.0} % more {what} than A")
        } else {
            format!("these slices show no difference in {what}")
        }
    }
}

impl Comparison {
    /// The verdict, and how sure it is.
    pub fn verdict_with_interval(&self) -> String {
        match self.cpu_ratio.unwrap_or(self.throughput_ratio).median_interval {
            Some((low, high)) => format!("{} (95 % interval of B/A {low:.3}..{high:.3})", self.verdict()),
            None => format!("{} (too few slices for an interval)", self.verdict()),
        }
    }
}

impl fmt::Display for CompareReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "A           {}", self.a)?;
        writeln!(f, "B           {}", self.b)?;
        writeln!(f, "workload    {}", self.items)?;
        writeln!(
            f,
            "client      {} to each on {}, by {}, closed loop",
            counted(self.connections, "connection"),
            counted(self.threads, "thread"),
            self.io
        )?;
        let core = |cpu: Option<usize>| cpu.map_or("any core".into(), |cpu| format!("core {cpu}"));
        writeln!(f, "cores       servers on {}, client on {}", core(self.server_cpu), core(self.client_cpu))?;
        let slices = self.comparisons.first().map_or(0, |comparison| comparison.cpu_ratio_count());
        writeln!(
            f,
            "slices      {slices} of {:.2} s each, alternating A B, the first of each dropped",
            self.slice_seconds
        )?;
        writeln!(
            f,
            "figures     medians over the slices (smallest..largest); B/A is the median of the ratios of neighbouring slices"
        )?;
        for comparison in &self.comparisons {
            write!(f, "\n{comparison}")?;
        }
        if self.comparisons.len() > 1 {
            write_summary(f, &self.comparisons)?;
        }
        if let Some(cut) = &self.cut {
            writeln!(f, "\n{cut}")?;
        }
        if self.server_cpu.is_some() {
            writeln!(f, "\nOne core proves the cost of a request on one thread, not scaling.")?;
        }
        Ok(())
    }
}

impl Comparison {
    fn cpu_ratio_count(&self) -> usize {
        self.a.slices.len()
    }
}

impl fmt::Display for Comparison {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.workload)?;
        let rate = |spread: &Spread| format!("{} ({}..{})", short(spread.median), short(spread.min), short(spread.max));
        let cost = |spread: &Spread| format!("{:.0} ({:.0}..{:.0})", spread.median, spread.min, spread.max);
        let ratio = |spread: &Spread| format!("{:.3} ({:.3}..{:.3})", spread.median, spread.min, spread.max);
        let (a, b) = (&self.a, &self.b);
        writeln!(f, "  {:<25} {:<32} {:<32} B/A", "", "A", "B")?;
        let mut line =
            |name: &str, a: String, b: String, ratio: String| writeln!(f, "  {name:<25} {a:<32} {b:<32} {ratio}");
        line("requests/s", rate(&a.requests_per_s), rate(&b.requests_per_s), ratio(&self.throughput_ratio))?;
        let unknown = || "not known".into();
        let server_cost = |side: &Side| side.server_cpu_ns.as_ref().map_or_else(unknown, cost);
        line(
            "server CPU ns/request",
            server_cost(a),
            server_cost(b),
            self.cpu_ratio.as_ref().map_or_else(String::new, ratio),
        )?;
        if self.keys_per_request > 1.5 {
            let per_key = |spread: Spread| format!("{:.1}", spread.median / self.keys_per_request);
            let per_key = |side: &Side| side.server_cpu_ns.map_or_else(unknown, per_key);
            line("server CPU ns/key", per_key(a), per_key(b), String::new())?;
        }
        line("client CPU ns/request", cost(&a.client_cpu_ns), cost(&b.client_cpu_ns), String::new())?;
        let busy = |side: &Side| format!("{:.0} % of the time", side.client_busy.median * 100.0);
        line("client busy", busy(a), busy(b), String::new())?;
        let hits = |side: &Side| side.hit_ratio.map_or("-".into(), |ratio| format!("{:.2} %", ratio * 100.0));
        line("hits", hits(a), hits(b), String::new())?;
        for (name, side) in [("A", a), ("B", b)] {
            for (fault, count) in &side.errors {
                writeln!(f, "  {name} gave {}", fault.counted(*count))?;
            }
        }
        for (name, side) in [("A", a), ("B", b)] {
            if side.client_limited {
                let advice = "throughput is the client's; give it more threads, or more cores";
                writeln!(f, "  THE CLIENT ITSELF WAS THE LIMIT with {name}: {advice}")?;
            }
        }
        writeln!(f, "  verdict: {}", self.verdict_with_interval())
    }
}

/// One line per workload.
fn write_summary(f: &mut fmt::Formatter<'_>, comparisons: &[Comparison]) -> fmt::Result {
    writeln!(
        f,
        "\n{:<18} {:>12} {:>12} {:>10} {:>10} {:>22} {:>8} {:>14}",
        "workload", "A req/s", "B req/s", "A ns/req", "B ns/req", "CPU B/A", "req/s", "client/server"
    )?;
    for comparison in comparisons {
        let Comparison { workload, a, b, cpu_ratio, throughput_ratio, .. } = comparison;
        let ratio = |ratio: &Spread| format!("{:.3} ({:.3}..{:.3})", ratio.median, ratio.min, ratio.max);
        let ratio = cpu_ratio.as_ref().map_or("-".into(), ratio);
        let server_cpu_ns = |side: &Side| side.server_cpu_ns.map_or(f64::NAN, |spread| spread.median);
        let cost = |side: &Side| side.server_cpu_ns.map_or("-".into(), |spread| format!("{:.0}", spread.median));
        let client = |side: &Side| side.client_cpu_ns.median / server_cpu_ns(side);
        let client = match cpu_ratio {
            Some(_) => format!("{:.2} / {:.2}", client(a), client(b)),
            None => "-".into(),
        };
        writeln!(
            f,
            "{workload:<18} {:>12} {:>12} {:>10} {:>10} {ratio:>22} {:>8.2} {client:>14}",
            short(a.requests_per_s.median),
            short(b.requests_per_s.median),
            cost(a),
            cost(b),
            throughput_ratio.median,
        )?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A comparison of two sides with these figures in each of nine slices.
    fn comparison(cpu_ns: Option<(f64, f64)>, rates: (f64, f64), client_busy: f64, shares_core: bool) -> Comparison {
        let make = |server_cpu_ns, requests_per_s| {
            let slice = Slice { requests_per_s, server_cpu_ns, client_cpu_ns: 100.0, client_busy };
            side(vec![slice; 9], &Record::default(), shares_core)
        };
        let (a, b) = (make(cpu_ns.map(|both| both.0), rates.0), make(cpu_ns.map(|both| both.1), rates.1));
        Comparison {
            workload: "w".into(),
            keys_per_request: 1.0,
            a,
            b,
            cpu_ratio: cpu_ns.and_then(|(a, b)| Spread::of([b / a; 9])),
            throughput_ratio: spread([rates.1 / rates.0; 9].into_iter()),
        }
    }

    #[test]
    fn verdicts_are_in_words_and_a_client_at_its_limit_allows_none_on_throughput() {
        let cases = [
            (Some((100.0, 80.0)), 0.5, false, "B needs 20 % less CPU per request than A"),
            (Some((100.0, 130.0)), 0.99, false, "B needs 30 % more CPU per request than A"),
            (None, 0.5, false, "B has 50 % more throughput than A"),
            (None, 0.99, true, "B has 50 % more throughput than A"),
            (None, 0.99, false, "the client itself was the limit: these slices say nothing about the servers"),
        ];
        for (cpu_ns, client_busy, shares_core, verdict) in cases {
            let seen = comparison(cpu_ns, (1000.0, 1500.0), client_busy, shares_core);
            assert_eq!(seen.verdict(), verdict);
            let limited = client_busy > 0.9 && !shares_core;
            assert_eq!(seen.to_string().contains("THE CLIENT ITSELF WAS THE LIMIT"), limited, "{seen}");
        }
    }
}
