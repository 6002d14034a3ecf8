//! `replay`: recorded requests against a cache, look-aside: get, and on a miss set.
//!
//! One connection, so that the order is the trace's own. Gets of different keys are pipelined; a key that occurs a second
//! time waits until the first answer is known and, if it was a miss, its set is sent. So every get meets the cache in the
//! state that the trace implies, and only the order of sets within one batch differs from a replay one by one.

use crate::error::{Cut, EXIT_OK, EXIT_WRONG_ANSWERS, Error};
use crate::fleet::{Books, Fleet, Pace, Shape};
use crate::process::{Attached, Endpoint};
use crate::progress::{Goal, Progress};
use crate::record::Class;
use crate::report::wrong_answers;
use crate::run::{Phase, run_mark};
use crate::trace::{Format, Trace};
use crate::units::{counted, short};
use crate::workload::{Draft, Key, Source};
use serde::Serialize;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

/// Requests in flight together.
const DEPTH: usize = 32;
const MIB: f64 = (1 << 20) as f64;

/// A checked `replay`.
#[derive(Clone, Debug)]
pub struct ReplayPlan {
    /// The traces, one after the other, and how they are written down.
    pub traces: Vec<(PathBuf, Format)>,
    /// Factor for the sizes of the values; with `footprint`, `None` takes the least that makes the limits large enough.
    pub scale: Option<f64>,
    /// One server, or two on the same trace.
    pub servers: Vec<Endpoint>,
    /// Memory limits to start the servers with, in percent of the trace's footprint; empty leaves the servers as they are.
    pub footprint: Vec<f64>,
    /// Least memory limit that the sizes are scaled up for.
    pub memory_mib_min: u64,
    /// Parts of the trace for which the hit ratio is reported.
    pub intervals: usize,
    /// How long a server may say nothing.
    pub patience: Duration,
}

/// What a `replay` found.
#[derive(Clone, Debug, Serialize)]
pub struct ReplayReport {
    /// The servers as they were named.
    pub servers: Vec<String>,
    /// One for each trace and memory limit.
    pub replays: Vec<Replay>,
    /// Why it ended early, if it did.
    pub cut: Option<Cut>,
}

/// One trace on one server or two.
#[derive(Clone, Debug, Serialize)]
pub struct Replay {
    /// The trace's file.
    pub trace: String,
    /// Requests in it.
    pub requests: usize,
    /// Different keys.
    pub keys: usize,
    /// Bytes of all names and values together.
    pub footprint_bytes: u64,
    /// Factor for the sizes.
    pub scale: f64,
    /// The limit that the servers were started with, if that was asked for.
    pub limit: Option<Limit>,
    /// Requests in each interval; the last one may have fewer.
    pub interval_requests: usize,
    /// One for each server.
    pub servers: Vec<Replayed>,
}

/// A memory limit, as a part of a footprint.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Limit {
    /// Percent of the footprint.
    pub footprint_percent: f64,
    /// What the servers were told.
    pub memory_mib: u64,
}

/// One server on the trace.
#[derive(Clone, Debug, Serialize)]
pub struct Replayed {
    /// The server.
    pub server: String,
    /// Hits among all requests.
    pub hit_ratio: f64,
    /// Hits among the requests of each interval.
    pub interval_hit_ratios: Vec<f64>,
    /// The server's resident memory at the end, if it was started here.
    pub resident_bytes: Option<u64>,
    /// Everything else.
    pub phase: Phase,
}

/// The look-aside client of a trace.
#[derive(Debug)]
struct LookAside<'a> {
    requests: &'a [u32],
    next: usize,
    /// Keys that were missed and are to be set.
    missing: Vec<Key>,
    /// Number of the last batch that asked for each key.
    asked_in: Vec<u32>,
    batch: u32,
    interval_requests: usize,
    /// Interval of the batch in flight.
    interval: usize,
    interval_misses: Vec<u64>,
}

impl<'a> LookAside<'a> {
    fn new(trace: &'a Trace, interval_requests: usize) -> Self {
        let intervals = trace.requests.len().div_ceil(interval_requests);
        Self {
            requests: &trace.requests,
            next: 0,
            missing: Vec::new(),
            asked_in: vec![0; trace.key_count()],
            batch: 0,
            interval_requests,
            interval: 0,
            interval_misses: vec![0; intervals],
        }
    }

    /// Hits among the requests of each interval.
    fn interval_hit_ratios(&self) -> Vec<f64> {
        let lengths = self.requests.chunks(self.interval_requests).map(<[u32]>::len);
        lengths.zip(&self.interval_misses).map(|(length, misses)| 1.0 - *misses as f64 / length as f64).collect()
    }
}

impl Source for LookAside<'_> {
    fn begin_batch(&mut self) {
        self.batch += 1;
        self.interval = self.next / self.interval_requests;
    }

    fn next(&mut self, draft: &mut Draft) -> bool {
        if let Some(key) = self.missing.pop() {
            draft.class = Class::Set;
            draft.keys.push(key);
            return true;
        }
        let Some(&key) = self.requests.get(self.next) else {
            return false;
        };
        let asked_in = &mut self.asked_in[key as usize];
        // Its answer is still out, or the misses of this batch belong to another interval.
        if *asked_in == self.batch || self.next / self.interval_requests != self.interval {
            return false;
        }
        *asked_in = self.batch;
        self.next += 1;
        draft.class = Class::Get;
        draft.keys.push(Key::from(key));
        true
    }

    fn missed(&mut self, key: Key) {
        self.missing.push(key);
        self.interval_misses[self.interval] += 1;
    }
}

/// Carries out a `replay`.
///
/// # Errors
/// When a trace cannot be read, a server cannot be reached or goes away, or the user interrupts, before there is anything to report.
pub fn replay(plan: &ReplayPlan, quiet: bool, stop: &AtomicBool) -> Result<ReplayReport, Error> {
    let servers = plan.servers.iter().map(Endpoint::to_string).collect();
    let mut replays = Vec::new();
    for (path, format) in &plan.traces {
        let mut trace = match Trace::read(path, *format) {
            Ok(trace) => trace,
            Err(error) if replays.is_empty() => return Err(error),
            Err(error) => return Ok(ReplayReport { servers, replays, cut: Some(error.into()) }),
        };
        let scale = plan.scale.unwrap_or_else(|| least_scale(&trace, &plan.footprint, plan.memory_mib_min));
        trace.scale(scale);
        for limit in limits(trace.footprint_bytes, &plan.footprint) {
            let mut replay = Replay {
                trace: path.display().to_string(),
                requests: trace.requests.len(),
                keys: trace.key_count(),
                footprint_bytes: trace.footprint_bytes,
                scale,
                limit,
                interval_requests: trace.requests.len().div_ceil(plan.intervals),
                servers: Vec::new(),
            };
            for (endpoint, name) in plan.servers.iter().zip(["A", "B"]) {
                let (endpoint, label) = match limit {
                    None => (endpoint.clone(), format!("replay {name}")),
                    Some(Limit { footprint_percent, memory_mib }) => {
                        (endpoint.with_memory(memory_mib), format!("{name} {footprint_percent} %"))
                    }
                };
                let interval = replay.interval_requests;
                match replay_on(&endpoint, name, label, &trace, interval, plan.patience, quiet, stop) {
                    Ok(replayed) => replay.servers.push(replayed),
                    Err(error) if replays.is_empty() && replay.servers.is_empty() => return Err(error),
                    Err(error) => {
                        replays.extend((!replay.servers.is_empty()).then_some(replay));
                        return Ok(ReplayReport { servers, replays, cut: Some(error.into()) });
                    }
                }
            }
            replays.push(replay);
        }
    }
    Ok(ReplayReport { servers, replays, cut: None })
}

/// The least factor for the sizes with which every part of the footprint is at least so large.
fn least_scale(trace: &Trace, footprint: &[f64], memory_mib_min: u64) -> f64 {
    let smallest = footprint.iter().copied().fold(f64::INFINITY, f64::min);
    trace.factor_for(memory_mib_min as f64 * MIB / (smallest / 100.0))
}

/// The limits in percent of a footprint; one that is none if no part of it is asked for.
fn limits(footprint_bytes: u64, percents: &[f64]) -> Vec<Option<Limit>> {
    let limit = |&footprint_percent: &f64| {
        let memory_mib = (footprint_bytes as f64 * footprint_percent / 100.0 / MIB).round().max(1.0) as u64;
        Some(Limit { footprint_percent, memory_mib })
    };
    if percents.is_empty() { vec![None] } else { percents.iter().map(limit).collect() }
}

#[expect(clippy::too_many_arguments, reason = "a plan for one server; each is used once")]
fn replay_on(
    endpoint: &Endpoint,
    name: &str,
    label: String,
    trace: &Trace,
    interval_requests: usize,
    patience: Duration,
    quiet: bool,
    stop: &AtomicBool,
) -> Result<Replayed, Error> {
    let mut server = Attached::to(endpoint, name, stop)?;
    let items = Arc::new(trace.items.clone());
    let books = Books::by_key(trace.key_count() as u64);
    let mut fleet = Fleet::connect(server.target(), Shape::ONE, &items, run_mark(), books)?;
    let mut source = [LookAside::new(trace, interval_requests)];
    let mut progress = Progress::new(label, Goal::Lookups(trace.requests.len() as u64), quiet);
    // A server that was started for this replay holds nothing of earlier runs.
    let pace = Pace { duration: None, rate: None, depth: DEPTH, patience, strict: server.is_ours(), stop };
    let driven = fleet.drive(&mut source, pace, &mut |totals| progress.show(totals))?;
    server.check_end(driven.ended)?;
    let [source] = source;
    Ok(Replayed {
        server: endpoint.to_string(),
        hit_ratio: driven.record.hit_ratio().unwrap_or(0.0),
        interval_hit_ratios: source.interval_hit_ratios(),
        resident_bytes: server.resident_bytes(),
        phase: Phase::of(&driven, 1),
    })
}

impl ReplayReport {
    /// The status that the process should end with.
    pub fn exit_code(&self) -> u8 {
        let mut servers = self.replays.iter().flat_map(|replay| &replay.servers);
        let right = servers.all(|server| server.phase.wrong_answers == 0);
        match &self.cut {
            _ if !right => EXIT_WRONG_ANSWERS,
            Some(cut) => cut.exit_code(),
            None => EXIT_OK,
        }
    }
}

impl fmt::Display for ReplayReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.replays.iter().all(|replay| replay.limit.is_some()) {
            self.write_limits(f)?;
        } else {
            for (index, replay) in self.replays.iter().enumerate() {
                if index > 0 {
                    writeln!(f)?;
                }
                write!(f, "{replay}")?;
            }
        }
        self.cut.iter().try_for_each(|cut| writeln!(f, "\n{cut}"))
    }
}

impl ReplayReport {
    /// A line for each trace and limit.
    fn write_limits(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mib = |bytes: u64| bytes as f64 / MIB;
        let mut trace = "";
        for (server, name) in self.servers.iter().zip(["A", "B"]) {
            writeln!(f, "{name}           {server}")?;
        }
        for replay in &self.replays {
            let Replay { requests, keys, footprint_bytes, scale, .. } = replay;
            if replay.trace != trace {
                trace = &replay.trace;
                let cold = *keys as f64 / *requests as f64;
                writeln!(
                    f,
                    "\ntrace       {trace}: {}, {}, at best {:.2} % hits",
                    counted(*requests, "request"),
                    counted(*keys, "key"),
                    (1.0 - cold) * 100.0
                )?;
                writeln!(
                    f,
                    "footprint   {:.1} MiB of keys and values, sizes multiplied by {scale:.4}",
                    mib(*footprint_bytes)
                )?;
                write!(f, "{:>11} {:>8}", "footprint", "limit")?;
                for name in ["A", "B"].iter().take(replay.servers.len()) {
                    write!(f, " {:>10} {:>12}", format!("{name} hits"), format!("{name} resident"))?;
                }
                writeln!(f, "{}", if replay.servers.len() > 1 { format!(" {:>13}", "B - A") } else { String::new() })?;
            }
            let Some(Limit { footprint_percent, memory_mib }) = replay.limit else { continue };
            write!(f, "{footprint_percent:>9} % {memory_mib:>4} MiB")?;
            for server in &replay.servers {
                let resident = server.resident_bytes.map_or("-".into(), |bytes| format!("{:.1} MiB", mib(bytes)));
                write!(f, " {:>8.2} % {resident:>12}", server.hit_ratio * 100.0)?;
            }
            match replay.gain_points() {
                Some(points) => writeln!(f, " {points:>+6.2} points")?,
                None => writeln!(f)?,
            }
            for (server, name) in replay.servers.iter().zip(["A", "B"]) {
                for (fault, count) in &server.phase.errors {
                    writeln!(f, "            {name} gave {}", fault.counted(*count))?;
                }
            }
        }
        let gains: Vec<f64> = self.replays.iter().filter_map(Replay::gain_points).collect();
        if !gains.is_empty() {
            let mean = gains.iter().sum::<f64>() / gains.len() as f64;
            let higher = gains.iter().filter(|points| **points > 0.0).count();
            writeln!(
                f,
                "\nB - A       {mean:+.2} points on average; B is higher in {higher} of {}",
                counted(gains.len(), "cell")
            )?;
        }
        Ok(())
    }
}

impl Replay {
    /// What has come of it, in a sentence.
    pub fn verdict(&self) -> String {
        let limit = self.limit.map_or(String::new(), |limit| format!(" at {} %", limit.footprint_percent));
        let sides = self.servers.iter().zip(["A", "B"]);
        let hits: Vec<String> =
            sides.map(|(server, name)| format!("{name} hits {:.2} %", server.hit_ratio * 100.0)).collect();
        let gain = self.gain_points().map_or(String::new(), |points| format!(", a difference of {points:+.2} points"));
        let wrong: u64 = self.servers.iter().map(|server| server.phase.wrong_answers).sum();
        let wrong = if wrong > 0 { format!("; {}", wrong_answers(wrong)) } else { String::new() };
        format!("{}{limit}: {}{gain}{wrong}", self.trace, hits.join(", "))
    }

    /// By how many points of hit ratio the second server is ahead of the first.
    fn gain_points(&self) -> Option<f64> {
        match &self.servers[..] {
            [a, b] => Some((b.hit_ratio - a.hit_ratio) * 100.0),
            _ => None,
        }
    }
}

impl fmt::Display for Replay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mib = |bytes: u64| bytes as f64 / MIB;
        let (requests, keys) = (counted(self.requests, "request"), counted(self.keys, "key"));
        writeln!(f, "trace       {}: {requests}, {keys}", self.trace)?;
        writeln!(
            f,
            "footprint   {:.1} MiB of keys and values, sizes multiplied by {}",
            mib(self.footprint_bytes),
            self.scale
        )?;
        let cold = self.keys as f64 / self.requests as f64;
        writeln!(f, "at best     {:.2} % hits: every key's first request misses an empty cache", (1.0 - cold) * 100.0)?;
        for (server, name) in self.servers.iter().zip(["A", "B"]) {
            writeln!(f, "\n{name}           {}", server.server)?;
            writeln!(f, "hits        {:.2} %", server.hit_ratio * 100.0)?;
            let phase = &server.phase;
            writeln!(
                f,
                "speed       {} requests/s over {:.1} s, one connection",
                short(phase.requests_per_s),
                phase.seconds
            )?;
            if let Some(bytes) = server.resident_bytes {
                writeln!(f, "memory      {:.1} MiB resident at the end", mib(bytes))?;
            }
            if phase.errors.is_empty() {
                writeln!(f, "errors      none; every value read was one that was written to its key")?;
            }
            for (fault, count) in &phase.errors {
                writeln!(f, "errors      {}", fault.counted(*count))?;
            }
        }
        if let Some(points) = self.gain_points() {
            writeln!(f, "\nB - A       {points:+.2} points")?;
        }
        writeln!(f, "\nhit ratio by interval of {}", counted(self.interval_requests, "request"))?;
        let columns =
            ["A", "B"].into_iter().take(self.servers.len()).map(|name| format!("{name:>10}")).collect::<String>();
        writeln!(f, "{:>12}{columns}", "from request")?;
        let intervals = self.servers.first().map_or(0, |server| server.interval_hit_ratios.len());
        for interval in 0..intervals {
            write!(f, "{:>12}", interval * self.interval_requests)?;
            for server in &self.servers {
                write!(f, "{:>8.2} %", server.interval_hit_ratios[interval] * 100.0)?;
            }
            writeln!(f)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    fn trace(requests: &[u32]) -> Trace {
        let keys = requests.iter().max().map_or(0, |max| *max as usize + 1);
        let names = (0..keys).map(|key| key.to_string().into_bytes().into_boxed_slice()).collect();
        Trace::new(requests.into(), names, vec![1; keys])
    }

    #[test]
    fn limits_are_parts_of_the_footprint_after_scaling() {
        let mut trace = Trace::new(vec![0, 1], vec![(*b"a").into(), (*b"b").into()], vec![1 << 20, 3 << 20]);
        assert_eq!(limits(trace.footprint_bytes, &[]), [None]);
        let scale = least_scale(&trace, &[5.0, 25.0], 64);
        assert!((scale - 320.0).abs() < 0.001, "{scale}");
        trace.scale(scale);
        let limit = |footprint_percent, memory_mib| Some(Limit { footprint_percent, memory_mib });
        assert_eq!(limits(trace.footprint_bytes, &[5.0, 25.0]), [limit(5.0, 64), limit(25.0, 320)]);
        assert_eq!(least_scale(&trace, &[50.0], 1), 1.0, "never down");
    }

    /// Plays the trace against an unlimited cache and returns what was sent, batch by batch, and the intervals' ratios.
    fn play(requests: &[u32], depth: usize, interval_requests: usize) -> (Vec<String>, Vec<f64>) {
        let trace = trace(requests);
        let mut source = LookAside::new(&trace, interval_requests);
        let mut stored = HashSet::new();
        let mut batches = Vec::new();
        loop {
            source.begin_batch();
            let mut batch = Vec::new();
            let mut draft = Draft::default();
            while batch.len() < depth && source.next(&mut draft) {
                batch.push((draft.class, draft.keys[0]));
                draft.keys.clear();
            }
            if batch.is_empty() {
                return (batches, source.interval_hit_ratios());
            }
            let words = batch.iter().map(|(class, key)| format!("{}{key}", &class.name()[..1]));
            batches.push(words.collect::<Vec<_>>().join(" "));
            for (class, key) in batch {
                match class {
                    Class::Get if stored.contains(&key) => {}
                    Class::Get => source.missed(key),
                    _ => drop(stored.insert(key)),
                }
            }
        }
    }

    #[test]
    fn a_repeated_key_waits_for_the_set_of_its_first_miss() {
        let (batches, ratios) = play(&[0, 1, 0, 0, 1], 10, 100);
        assert_eq!(batches, ["g0 g1", "s1 s0 g0", "g0 g1"]);
        assert_eq!(ratios, [0.6]);
    }

    #[test]
    fn batches_end_at_intervals_and_the_last_misses_are_set() {
        let (batches, ratios) = play(&[0, 1, 2, 0, 3], 10, 2);
        assert_eq!(batches, ["g0 g1", "s1 s0 g2 g0", "s2 g3", "s3"]);
        assert_eq!(ratios, [0.0, 0.5, 0.0]);
    }

    #[test]
    fn depth_bounds_a_batch() {
        let (batches, _) = play(&[0, 1, 2, 3], 3, 100);
        assert_eq!(batches, ["g0 g1 g2", "s2 s1 s0", "g3", "s3"]);
    }
}
