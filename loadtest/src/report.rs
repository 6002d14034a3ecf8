//! Results as text for people and as JSON for programs.

use crate::error::Error;
use crate::record::Percentiles;
use crate::run::{Phase, RunReport};
use crate::units::{counted, short};
use crate::worker::Ended;
use serde::Serialize;
use std::fmt::{self, Write as _};
use std::fs;
use std::path::{Path, PathBuf};

/// Writes any result to a file as JSON.
///
/// # Errors
/// When the file cannot be written.
pub fn write_json(path: &Path, result: &impl Serialize) -> Result<(), Error> {
    let failed = |source: std::io::Error| Error::File { file: path.display().to_string(), source };
    let mut text = serde_json::to_string_pretty(result).map_err(|error| failed(error.into()))?;
    text.push('\n');
    fs::write(path, text).map_err(failed)
}

/// Makes sure that a file can be written, before work is done whose result it is to hold.
///
/// # Errors
/// When it cannot be written.
pub fn check_writable<'a>(paths: impl IntoIterator<Item = &'a Option<PathBuf>>) -> Result<(), Error> {
    for path in paths.into_iter().flatten() {
        let opened = fs::OpenOptions::new().append(true).create(true).open(path);
        opened.map_err(|source| Error::File { file: path.display().to_string(), source })?;
    }
    Ok(())
}

impl fmt::Display for RunReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "server      {}", self.server)?;
        writeln!(f, "workload    {}", self.workload)?;
        let (connections, threads) = (counted(self.connections, "connection"), counted(self.threads, "thread"));
        writeln!(f, "client      {connections} on {threads}, by {}", self.io)?;
        if self.connections_left < self.connections {
            writeln!(f, "            only {} of them open in the end", self.connections_left)?;
        }
        writeln!(f, "pacing      {}", self.pacing)?;
        if let Some(fill) = &self.fill {
            let of = if fill.sets < self.fill_items { format!("{} of ", fill.sets) } else { String::new() };
            let (items, rate) = (counted(self.fill_items, "item"), short(fill.requests_per_s));
            writeln!(f, "fill        {of}{items} in {:.2} s, {rate} sets/s", fill.seconds)?;
            if !fill.errors.is_empty() {
                write_errors(f, fill)?;
            }
        }
        if let Some(load) = &self.load {
            write_phase(f, load, self.offered_per_s)?;
        }
        match self.ended {
            Ended::Done => Ok(()),
            Ended::Stopped => writeln!(f, "\nstopped early: the figures cover what was done until then"),
            Ended::AllConnectionsLost => {
                writeln!(f, "\nTHE SERVER WENT AWAY: the figures cover what was done until then")
            }
            Ended::Stalled => writeln!(f, "\nTHE SERVER STOPPED ANSWERING: the figures cover what was done until then"),
        }
    }
}

fn write_phase(f: &mut fmt::Formatter<'_>, phase: &Phase, offered_per_s: Option<f64>) -> fmt::Result {
    if let Some(offered) = offered_per_s {
        writeln!(f, "rate        offered {} requests/s, achieved {}", short(offered), short(phase.requests_per_s))?;
        if phase.unsent > 0 {
            let (unsent, verb) = (counted(phase.unsent, "request"), if phase.unsent == 1 { "was" } else { "were" });
            let text = format!("{unsent} {verb} due and never sent; the latencies leave out");
            let what = if phase.unsent == 1 { "its wait" } else { "what they waited" };
            let shout = if phase.missed_the_rate() { "THE RATE WAS NOT KEPT: " } else { "" };
            writeln!(f, "            {shout}{text} {what}")?;
        }
    }
    writeln!(
        f,
        "throughput  {} requests/s, {} keys/s over {:.2} s",
        short(phase.requests_per_s),
        short(phase.keys_per_s),
        phase.seconds
    )?;
    let mib = |bytes_per_s: f64| bytes_per_s / f64::from(1 << 20);
    writeln!(
        f,
        "traffic     {:.1} MiB/s sent, {:.1} MiB/s received",
        mib(phase.sent_bytes_per_s),
        mib(phase.received_bytes_per_s)
    )?;
    match phase.hit_ratio {
        Some(ratio) => {
            let keys = counted(phase.hits + phase.misses, "key");
            writeln!(f, "hits        {:.2} % of {keys} asked for", ratio * 100.0)?;
        }
        None => writeln!(f, "hits        no key was asked for")?,
    }
    if !phase.unmet.is_empty() {
        let count = |name| phase.latency.get(name).map_or(0, |latency: &Percentiles| latency.count);
        let part = |(name, unmet): (&&'static str, &u64)| format!("{unmet} of {} {name}", count(*name));
        let parts: Vec<String> = phase.unmet.iter().map(part).collect();
        writeln!(f, "not met     {} (nothing there, or something newer)", parts.join(", "))?;
    }
    write_errors(f, phase)?;
    let cpu_us = phase.client_cpu_ns_per_request / 1000.0;
    writeln!(f, "client CPU  {cpu_us:.2} us per request, busy {:.0} % of the time", phase.client_busy * 100.0)?;
    if let Some(server_cpu_ns) = phase.server_cpu_ns_per_request {
        let share = phase.client_cpu_ns_per_request / server_cpu_ns;
        writeln!(
            f,
            "server CPU  {:.2} us per request by its own account; the client's is {share:.2} of it",
            server_cpu_ns / 1000.0
        )?;
    }
    if phase.client_was_the_limit() {
        writeln!(f, "            THE CLIENT ITSELF WAS THE LIMIT: give it more threads, or more cores")?;
    }
    if phase.client_was_late() {
        writeln!(
            f,
            "            THE CLIENT ITSELF WAS LATE: at p99 most of the latency is its own lateness; see below"
        )?;
    }
    write_latency(f, phase)
}

fn write_errors(f: &mut fmt::Formatter<'_>, phase: &Phase) -> fmt::Result {
    if phase.errors.is_empty() {
        return writeln!(f, "errors      none; every value read was one that was written to its key");
    }
    let mut text = String::new();
    for (fault, count) in &phase.errors {
        let separator = if text.is_empty() { "" } else { ", " };
        write!(text, "{separator}{}", fault.counted(*count))?;
    }
    writeln!(f, "errors      {text}")?;
    if phase.wrong_answers > 0 {
        writeln!(f, "            {}", wrong_answers(phase.wrong_answers))?;
    }
    Ok(())
}

/// How many wrong answers there were, so that nobody overlooks it.
pub(crate) fn wrong_answers(count: u64) -> String {
    format!("{count} WRONG ANSWER{}", if count == 1 { "" } else { "S" })
}

fn write_latency(f: &mut fmt::Formatter<'_>, phase: &Phase) -> fmt::Result {
    let open_loop = phase.latency_uncorrected.is_some();
    let from = if open_loop { "the time the request was due" } else { "sending" };
    writeln!(f, "\nlatency in us, from {from} to the answer")?;
    write!(f, "{:>7} {:>11}", "", "requests")?;
    for column in ["mean", "p50", "p90", "p99", "p99.9", "p99.99", "max"] {
        write!(f, " {column:>9}")?;
    }
    writeln!(f)?;
    let (all, classes): (Vec<_>, Vec<_>) = phase.latency.iter().partition(|(name, _)| **name == "all");
    for (name, latency) in classes.into_iter().chain(all) {
        write_percentiles(f, name, latency)?;
    }
    if let Some(uncorrected) = &phase.latency_uncorrected {
        writeln!(f, "uncorrected: from sending to the answer, without what a request waited before")?;
        write_percentiles(f, "all", uncorrected)?;
    }
    if let Some(connect) = &phase.connect {
        writeln!(f, "opening connections anew, which the latencies above leave out in a closed loop")?;
        write_percentiles(f, "connect", connect)?;
    }
    if let Some(late) = &phase.sent_late {
        writeln!(f, "the client's own lateness: from the due time to sending, where a connection was free")?;
        write_percentiles(f, "all", late)?;
    }
    Ok(())
}

fn write_percentiles(f: &mut fmt::Formatter<'_>, name: &str, latency: &Percentiles) -> fmt::Result {
    let Percentiles { count, mean_us, p50_us, p90_us, p99_us, p999_us, p9999_us, max_us } = latency;
    write!(f, "{name:>7} {count:>11}")?;
    for value in [mean_us, p50_us, p90_us, p99_us, p999_us, p9999_us, max_us] {
        write!(f, " {value:>9.1}")?;
    }
    writeln!(f)
}
