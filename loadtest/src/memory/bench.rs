//! A server under observation, and one connection that writes and reads in a given order.

use crate::error::Error;
use crate::fleet::{Books, Fleet, Pace, Shape};
use crate::keys::KeyNames;
use crate::memory::Lengths;
use crate::process::{Attached, Endpoint};
use crate::progress::{Goal, Progress};
use crate::record::{Class, Record};
use crate::run::run_mark;
use crate::stats::Stats;
use crate::workload::{Dialect, Draft, Items, Key, Source, ValueSizes};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

/// Requests in flight together, at most.
const DEPTH: usize = 64;
/// Bytes in flight together, about.
const FLIGHT_BYTES: usize = 1 << 20;

/// What every part needs.
pub(super) struct Lab<'a> {
    pub(super) endpoint: &'a Endpoint,
    pub(super) name: &'a str,
    pub(super) patience: Duration,
    pub(super) quiet: bool,
    pub(super) stop: &'a AtomicBool,
}

impl<'a> Lab<'a> {
    /// Starts the server with this limit.
    pub(super) fn start(&self, limit_mib: u64) -> Result<Bench<'_>, Error> {
        let server = Attached::to(&self.endpoint.with_memory(limit_mib), self.name, self.stop)?;
        Ok(Bench { lab: self, server })
    }
}

/// A running server.
pub(super) struct Bench<'a> {
    lab: &'a Lab<'a>,
    pub(super) server: Attached,
}

/// One connection for items of one shape. Values that it reads must be those that it wrote.
pub(super) struct Hand {
    fleet: Fleet,
    depth: usize,
}

/// Names for any number below 10^11 at the least, values of one length or around it.
pub(super) fn items(lengths: Lengths, spread: f64) -> Items {
    let value_bytes = match spread {
        0.0 => ValueSizes::Fixed(lengths.value_bytes),
        spread => ValueSizes::Changing { mean: lengths.value_bytes, spread },
    };
    Items { names: KeyNames::Numbered { key_bytes: lengths.key_bytes }, value_bytes, dialect: Dialect::Classic }
}

impl Bench<'_> {
    pub(super) fn hand(&self, lengths: Lengths, spread: f64) -> Result<Hand, Error> {
        let items = Arc::new(items(lengths, spread));
        let fleet = Fleet::connect(self.server.target(), Shape::ONE, &items, run_mark(), Books::BY_WRITER)?;
        Ok(Hand { fleet, depth: (FLIGHT_BYTES / lengths.value_bytes.max(1)).clamp(1, DEPTH) })
    }

    /// Sends one request of this class for each key, in this order, and waits for all answers.
    pub(super) fn drive(
        &mut self,
        hand: &mut Hand,
        class: Class,
        keys: impl ExactSizeIterator<Item = Key> + Send,
        label: &str,
    ) -> Result<Record, Error> {
        let Lab { name, patience, quiet, stop, .. } = *self.lab;
        let mut progress = Progress::new(format!("{label} {name}"), Goal::Requests(keys.len() as u64), quiet);
        let pace = Pace { duration: None, rate: None, depth: hand.depth, patience, strict: false, stop };
        let mut source = [InOrder { class, keys }];
        let driven = hand.fleet.drive(&mut source, pace, &mut |totals| progress.show(totals))?;
        self.server.check_end(driven.ended)?;
        Ok(driven.record)
    }

    pub(super) fn stats(&self) -> Result<Stats, Error> {
        Stats::ask(self.server.target(), self.lab.patience)
    }

    /// Resident memory of the server's process.
    pub(super) fn resident_bytes(&mut self) -> Result<u64, Error> {
        let reason = || "its memory cannot be read from /proc".into();
        let lost = || Error::ServerLost { target: self.lab.endpoint.to_string(), reason: reason() };
        self.server.resident_bytes().ok_or_else(lost)
    }
}

/// One class of request for a sequence of keys.
struct InOrder<I> {
    class: Class,
    keys: I,
}

impl<I: Iterator<Item = Key>> Source for InOrder<I> {
    fn next(&mut self, draft: &mut Draft) -> bool {
        let Some(key) = self.keys.next() else {
            return false;
        };
        draft.class = self.class;
        draft.keys.push(key);
        true
    }
}
