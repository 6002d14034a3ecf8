//! Memory per entry against the number of entries.
//!
//! Resident memory is what counts: it has in it what the allocator rounds up and keeps, and what a map takes from the
//! system itself (ours maps its table's pages; an allocator's count knows nothing of them). Bytes requested from the
//! allocator stand beside it and tell rounding from need, for maps that take everything from there.

use super::Setup;
use super::growth::check_all;
use crate::alloc;
use crate::collection::{Collection, Handle};
use crate::keys::{key_of, value_of};
use crate::machine::{resident_bytes, resident_bytes_max};
use crate::measure::{Better, Sample, Series};

/// Entries from which on resident memory is far above the process's own noise.
const FROM: u64 = 65_536;

/// Points per doubling of the map.
const POINTS: f64 = 16.0;

pub(super) fn run<C: Collection>(setup: &Setup) -> Sample {
    let entries = setup.grow_keys as u64;
    let from = FROM.min(entries.div_ceil(8)) as f64;
    let mut next = from;
    let mut requested = Vec::with_capacity(1024);
    let mut resident = Vec::with_capacity(1024);
    let before = resident_bytes();
    // The one map of this process: what an earlier one had retired would be freed, and counted, during this one's life.
    alloc::start_counting();
    let map = C::with_capacity(0);
    fill(&map, entries, |entries| {
        let entries = entries as f64;
        if entries >= next {
            let bytes = resident_bytes().saturating_sub(before) as f64;
            requested.push((entries, alloc::live_bytes() as f64 / entries));
            resident.push((entries, bytes / entries));
            next *= (1.0 / POINTS).exp2();
        }
    });
    alloc::stop_counting();
    check_all(&mut map.handle(), 0, entries);
    let peak = resident_bytes_max().saturating_sub(before) as f64 / entries as f64;

    // Over the last three doublings: what one may meet at any size.
    let late = |points: &[(f64, f64)]| -> Vec<f64> {
        let points = points.iter();
        let late = points.filter(|point| point.0 * 8.0 >= entries as f64);
        late.map(|point| point.1).collect()
    };
    let mean = |points: &[(f64, f64)]| {
        let late = late(points);
        late.iter().sum::<f64>() / late.len().max(1) as f64
    };
    let least = late(&resident).into_iter().fold(f64::INFINITY, f64::min);
    let most = late(&resident).into_iter().fold(0.0, f64::max);
    let mut sample = Sample::default();
    for (name, value) in [
        ("resident, mean", mean(&resident)),
        ("least", least),
        ("most", most),
        ("highest ever, per entry at the end", peak),
        ("requested, mean", mean(&requested)),
    ] {
        sample = sample.figure(name, "B/entry", Better::Lower, value);
    }
    sample.series.push(Series { x: "entries".to_owned(), y: "resident B/entry".to_owned(), points: resident });
    sample.series.push(Series { x: "entries".to_owned(), y: "requested B/entry".to_owned(), points: requested });
    sample
}

fn fill<C: Collection>(map: &C, entries: u64, mut watch: impl FnMut(u64)) {
    let mut handle = map.handle();
    for index in 0..entries {
        let key = key_of(0, index);
        assert!(handle.insert(key, value_of(key)), "a new key is new");
        if index % 100 == 99 {
            handle.rest();
            watch(index + 1);
        }
    }
}
