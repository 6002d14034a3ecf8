//! `memory`: what a server's memory limit holds, and what it costs beside the data.
//!
//! Each part starts the servers anew, one at a time, so that each finds the machine and its own heap as they were for the
//! others:
//! - [`items`](Part::Items): resident memory for each item beyond its key and value, while a server fills
//! - [`held`](Part::Held): how many small items a limit holds
//! - [`churn`](Part::Churn): live data well below the limit, rewritten in changing sizes: nothing need be evicted
//! - [`shifts`](Part::Shifts): a cache full of items of one size is filled with items of another
//! - [`slow`](Part::Slow): many clients that ask for much and read slowly
//!
//! Items that are found are read back, and their values checked; only where that changes nothing any more.

mod bench;
mod parts;
mod slow;
mod table;

use crate::error::{EXIT_OK, EXIT_WRONG_ANSWERS, Error};
use crate::process::Endpoint;
use crate::units::parse_count;
use clap::ValueEnum;
use serde::Serialize;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

/// What can be asked of a server's memory.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub enum Part {
    /// Resident memory for each item beyond key and value
    Items,
    /// Items held under a limit
    Held,
    /// Live data of 70 % of the limit, rewritten in random sizes
    Churn,
    /// Items of 100 B, 10 KiB, 500 KiB and again 100 B, each filling the limit
    Shifts,
    /// Clients that ask for large multi-gets and read slowly
    Slow,
}

/// Lengths of keys and values.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
pub struct Lengths {
    /// Length of every key.
    pub key_bytes: usize,
    /// Length of every value.
    pub value_bytes: usize,
}

impl Lengths {
    /// Bytes of a key and its value.
    pub fn sum(self) -> u64 {
        (self.key_bytes + self.value_bytes) as u64
    }
}

impl std::fmt::Display for Lengths {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{} B", self.key_bytes, self.value_bytes)
    }
}

/// Items of one shape, and at which counts to look.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Fills {
    /// Their lengths.
    pub lengths: Lengths,
    /// Numbers of items, ascending.
    pub counts: Vec<u64>,
}

impl Fills {
    /// Reads `KEY/VALUE:COUNT+COUNT...`, as in `16/32:500k+1m`.
    ///
    /// # Errors
    /// Says what would have been understood.
    pub fn parse(text: &str) -> Result<Self, String> {
        let parsed = text.split_once(':').and_then(|(lengths, counts)| {
            let (key, value) = lengths.split_once('/')?;
            let lengths = Lengths { key_bytes: key.parse().ok()?, value_bytes: value.parse().ok()? };
            let mut counts = counts.split('+').map(|count| parse_count(count).ok()).collect::<Option<Vec<_>>>()?;
            counts.sort_unstable();
            Some(Self { lengths, counts })
        });
        let fits = |fills: &Self| {
            (12..=250).contains(&fills.lengths.key_bytes)
                && fills.lengths.value_bytes <= 1 << 20
                && fills.counts.iter().all(|count| (1..1_000_000_000).contains(count))
        };
        parsed
            .filter(fits)
            .ok_or_else(|| "expected KEY/VALUE:ITEMS+ITEMS..., as in 16/32:500k+1m, with keys of 12 B or more".into())
    }
}

/// A checked `memory`.
#[derive(Clone, Debug)]
pub struct MemoryPlan {
    /// Commands with `{memory}`.
    pub servers: Vec<Endpoint>,
    /// What to do.
    pub parts: Vec<Part>,
    /// For [`Part::Items`].
    pub fills: Vec<Fills>,
    /// The limit of [`Part::Held`] and [`Part::Churn`].
    pub limit_mib: u64,
    /// Items of 16/32 B that [`Part::Held`] stores.
    pub stored: u64,
    /// How often [`Part::Churn`] writes every item again.
    pub rewrites: u32,
    /// The limit of [`Part::Shifts`] and [`Part::Slow`].
    pub large_limit_mib: u64,
    /// Clients of [`Part::Slow`].
    pub slow_clients: usize,
    /// How long they read.
    pub slow_duration: Duration,
    /// How long a server may say nothing.
    pub patience: Duration,
}

/// What a `memory` found.
#[derive(Clone, Debug, Serialize)]
pub struct MemoryReport {
    /// One for each server.
    pub servers: Vec<ServerMemory>,
}

/// One server's figures; those of parts that were not asked for are missing.
#[derive(Clone, Debug, Default, Serialize)]
pub struct ServerMemory {
    /// The server.
    pub server: String,
    /// [`Part::Items`].
    pub items: Vec<Filled>,
    /// [`Part::Held`].
    pub held: Option<Held>,
    /// [`Part::Churn`].
    pub churn: Option<Churned>,
    /// [`Part::Shifts`].
    pub shifts: Vec<Shifted>,
    /// [`Part::Slow`].
    pub slow: Option<Slowed>,
    /// Answers that no correct server gives.
    pub wrong_answers: u64,
}

/// A server that holds so many items.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Filled {
    /// Lengths of keys and values.
    pub lengths: Lengths,
    /// Items that were stored.
    pub stored: u64,
    /// Items that the server says it holds, if it says so.
    pub curr_items: Option<u64>,
    /// Resident memory of the process.
    pub resident_bytes: u64,
    /// The same before the first item.
    pub resident_bytes_empty: u64,
    /// What has been added, less keys and values, for each item.
    pub overhead_bytes: f64,
}

/// Small items under a limit.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Held {
    /// The limit.
    pub limit_mib: u64,
    /// Items that were stored.
    pub stored: u64,
    /// Items that the server says it holds, if it says so.
    pub curr_items: Option<u64>,
    /// Items that were read back.
    pub found: u64,
    /// Resident memory of the process before anything was read back.
    pub resident_bytes: u64,
}

/// Data that fits, rewritten again and again.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Churned {
    /// The limit.
    pub limit_mib: u64,
    /// Items.
    pub items: u64,
    /// Mean lengths.
    pub lengths: Lengths,
    /// How often every item was written again.
    pub rewrites: u32,
    /// What the server says it evicted, if it says so.
    pub evictions: Option<u64>,
    /// Sets that were not answered with success.
    pub errors: u64,
    /// Items that were not there in the end.
    pub missing: u64,
    /// Highest resident memory after any round.
    pub resident_bytes_max: u64,
}

/// A phase of sizes.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Shifted {
    /// Length of the values.
    pub lengths: Lengths,
    /// Items written in this phase, after all phases before it.
    pub stored: u64,
    /// Sets that were not answered with success.
    pub errors: u64,
    /// Of the newest items that make up the limit by their keys and values, the share found.
    pub share: f64,
    /// The same for a server that has seen nothing else.
    pub share_fresh: f64,
}

/// Clients that read slowly.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Slowed {
    /// The limit.
    pub limit_mib: u64,
    /// Clients that were connected and had asked.
    pub clients: usize,
    /// Bytes that each asked for.
    pub asked_bytes: u64,
    /// Clients that the server sent away before the end.
    pub closed: usize,
    /// Bytes that all read.
    pub read_bytes: u64,
    /// How long they read.
    pub seconds: f64,
    /// Resident memory when the items had been written.
    pub resident_bytes_before: u64,
    /// Highest resident memory while they read.
    pub resident_bytes_max: u64,
}

/// Carries out a `memory`. Every server is ended before the next one is started.
///
/// # Errors
/// When a server does not start, goes away or falls silent, does not answer `stats`, or when the user interrupts.
pub fn memory(plan: &MemoryPlan, quiet: bool, stop: &AtomicBool) -> Result<MemoryReport, Error> {
    let named = |endpoint: &Endpoint| ServerMemory { server: endpoint.to_string(), ..ServerMemory::default() };
    let mut report = MemoryReport { servers: plan.servers.iter().map(named).collect() };
    for part in &plan.parts {
        for ((endpoint, server), name) in plan.servers.iter().zip(&mut report.servers).zip(["A", "B"]) {
            let lab = bench::Lab { endpoint, name, patience: plan.patience, quiet, stop };
            match part {
                Part::Items => parts::items(&lab, &plan.fills, server)?,
                Part::Held => parts::held(&lab, plan.limit_mib, plan.stored, server)?,
                Part::Churn => parts::churn(&lab, plan.limit_mib, plan.rewrites, server)?,
                Part::Shifts => parts::shifts(&lab, plan.large_limit_mib, server)?,
                Part::Slow => slow::slow(&lab, plan.large_limit_mib, plan.slow_clients, plan.slow_duration, server)?,
            }
        }
    }
    Ok(report)
}

impl MemoryReport {
    /// The status that the process should end with.
    pub fn exit_code(&self) -> u8 {
        let right = self.servers.iter().all(|server| server.wrong_answers == 0);
        if right { EXIT_OK } else { EXIT_WRONG_ANSWERS }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fills_are_lengths_and_counts() {
        let lengths = Lengths { key_bytes: 16, value_bytes: 32 };
        assert_eq!(Fills::parse("16/32:1m+500k"), Ok(Fills { lengths, counts: vec![500_000, 1_000_000] }));
        for text in ["", "16/32", "16:1m", "16/32:", "16/32:1m+", "11/32:1m", "251/1:1", "16/2000000:1", "16/32:0"] {
            assert!(Fills::parse(text).is_err(), "{text:?}");
        }
    }
}
