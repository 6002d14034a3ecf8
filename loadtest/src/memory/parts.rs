//! The parts that write and read in order.

use super::bench::Lab;
use super::{Churned, Filled, Fills, Held, Lengths, ServerMemory, Shifted};
use crate::error::Error;
use crate::record::{Class, Record};
use fastrand::Rng;

const MIB: u64 = 1 << 20;
/// Beyond key and value, more than any server should need for an item: the limit under which nothing is evicted.
const OVERHEAD_BYTES_MAX: u64 = 200;
/// The items of [`held`].
const SMALL: Lengths = Lengths { key_bytes: 16, value_bytes: 32 };
/// The items of [`churn`], on average.
const MEDIUM: Lengths = Lengths { key_bytes: 30, value_bytes: 1000 };
/// How far the sizes of [`churn`] lie around their mean.
const SPREAD: f64 = 0.3;
/// Live data of [`churn`], as a share of the limit.
const LIVE_SHARE: f64 = 0.7;
/// The phases of [`shifts`].
const PHASES: [usize; 4] = [100, 10 << 10, 500 << 10, 100];
/// Bytes of keys and values that a phase writes, as a multiple of the limit.
const PHASE_FILL: f64 = 1.5;
/// Tells the keys of the phases apart.
const PHASE_KEYS: u64 = 10_u64.pow(12);

/// Sets that were not stored, whatever was answered.
fn failed_sets(record: &Record, asked: u64) -> u64 {
    asked.saturating_sub(record.sets)
}

pub(super) fn items(lab: &Lab<'_>, fills: &[Fills], report: &mut ServerMemory) -> Result<(), Error> {
    for Fills { lengths, counts } in fills {
        let most = counts.last().copied().unwrap_or(0);
        let limit_mib = (most * (lengths.sum() + OVERHEAD_BYTES_MAX) / MIB).next_power_of_two().max(64);
        let mut bench = lab.start(limit_mib)?;
        let mut hand = bench.hand(*lengths, 0.0)?;
        let resident_bytes_empty = bench.resident_bytes()?;
        let mut stored = 0;
        for &count in counts {
            let new = usize::try_from(stored).unwrap_or(usize::MAX)..usize::try_from(count).unwrap_or(usize::MAX);
            let record = bench.drive(&mut hand, Class::Set, new.map(|key| key as u64), "items")?;
            if failed_sets(&record, count - stored) > 0 {
                let reason = format!("only {} of {} items were stored", record.sets, count - stored);
                return Err(Error::ServerLost { target: report.server.clone(), reason });
            }
            stored = count;
            let resident_bytes = bench.resident_bytes()?;
            let data = stored * lengths.sum() + resident_bytes_empty;
            report.items.push(Filled {
                lengths: *lengths,
                stored,
                curr_items: bench.stats()?.number("curr_items"),
                resident_bytes,
                resident_bytes_empty,
                overhead_bytes: (resident_bytes as f64 - data as f64) / stored as f64,
            });
        }
    }
    Ok(())
}

pub(super) fn held(lab: &Lab<'_>, limit_mib: u64, stored: u64, report: &mut ServerMemory) -> Result<(), Error> {
    let mut bench = lab.start(limit_mib)?;
    let mut hand = bench.hand(SMALL, 0.0)?;
    let keys = || (0..stored as usize).map(|key| key as u64);
    bench.drive(&mut hand, Class::Set, keys(), "held")?;
    let curr_items = bench.stats()?.number("curr_items");
    let resident_bytes = bench.resident_bytes()?;
    let record = bench.drive(&mut hand, Class::Get, keys().rev(), "held, read")?;
    report.wrong_answers += record.wrong_answers();
    report.held = Some(Held { limit_mib, stored, curr_items, found: record.hits, resident_bytes });
    Ok(())
}

pub(super) fn churn(lab: &Lab<'_>, limit_mib: u64, rewrites: u32, report: &mut ServerMemory) -> Result<(), Error> {
    let items = ((limit_mib * MIB) as f64 * LIVE_SHARE) as u64 / MEDIUM.sum();
    let mut bench = lab.start(limit_mib)?;
    let mut hand = bench.hand(MEDIUM, SPREAD)?;
    let mut keys: Vec<u64> = (0..items).collect();
    let mut rng = Rng::with_seed(1);
    let (mut errors, mut resident_bytes_max) = (0, 0);
    for _ in 0..=rewrites {
        let record = bench.drive(&mut hand, Class::Set, keys.iter().copied(), "churn")?;
        errors += failed_sets(&record, items);
        resident_bytes_max = bench.resident_bytes()?.max(resident_bytes_max);
        // Every item once in each round, in an order of its own.
        rng.shuffle(&mut keys);
    }
    let evictions = bench.stats()?.number("evictions");
    let record = bench.drive(&mut hand, Class::Get, keys.iter().copied(), "churn, read")?;
    report.wrong_answers += record.wrong_answers();
    let (lengths, missing) = (MEDIUM, record.misses);
    report.churn =
        Some(Churned { limit_mib, items, lengths, rewrites, evictions, errors, missing, resident_bytes_max });
    Ok(())
}

/// Each phase is read on a server of its own that has gone through all phases before it: reading changes what a server
/// thinks of its items.
pub(super) fn shifts(lab: &Lab<'_>, limit_mib: u64, report: &mut ServerMemory) -> Result<(), Error> {
    for phase in 0..PHASES.len() {
        let (shifted, wrong) = last_phase(lab, limit_mib, 0..phase + 1)?;
        let same = PHASES[..phase].iter().position(|bytes| *bytes == PHASES[phase]);
        let share_fresh = match same {
            Some(same) => report.shifts[same].share_fresh,
            None if phase == 0 => shifted.share,
            None => last_phase(lab, limit_mib, phase..phase + 1)?.0.share,
        };
        report.wrong_answers += wrong;
        report.shifts.push(Shifted { share_fresh, ..shifted });
    }
    Ok(())
}

/// Goes through phases on a fresh server and reads the newest items of the last one.
fn last_phase(lab: &Lab<'_>, limit_mib: u64, phases: std::ops::Range<usize>) -> Result<(Shifted, u64), Error> {
    let limit = (limit_mib * MIB) as f64;
    let mut bench = lab.start(limit_mib)?;
    let mut last = None;
    for phase in phases {
        let lengths = Lengths { key_bytes: SMALL.key_bytes, value_bytes: PHASES[phase] };
        let stored = (limit * PHASE_FILL / lengths.sum() as f64) as usize;
        let key = move |index: usize| phase as u64 * PHASE_KEYS + index as u64;
        let mut hand = bench.hand(lengths, 0.0)?;
        let record = bench.drive(&mut hand, Class::Set, (0..stored).map(key), "shifts")?;
        last = Some((hand, lengths, stored, key, failed_sets(&record, stored as u64)));
    }
    let (mut hand, lengths, stored, key, errors) = last.expect("at least one phase");
    let newest = ((limit / lengths.sum() as f64) as usize).min(stored);
    let record = bench.drive(&mut hand, Class::Get, (stored - newest..stored).rev().map(key), "shifts, read")?;
    let share = (record.hits * lengths.sum()) as f64 / limit;
    let shifted = Shifted { lengths, stored: stored as u64, errors, share, share_fresh: share };
    Ok((shifted, record.wrong_answers()))
}
