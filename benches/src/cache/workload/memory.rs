//! Resident memory per entry against the number of entries.

use crate::cache::value::Values;
use crate::cache::{Cache, CacheHandle, KEY_BYTES, Room, key_bytes};
use crate::drive::BATCH;
use crate::keys::key_of;
use crate::machine::resident_bytes;
use crate::measure::{Better, Sample, Series};
use crate::workload::Setup;

const VALUE_BYTES: usize = 100;
/// Entries from which on resident memory is far above the process's own noise.
const FROM: usize = 65_536;
/// Points per doubling.
const POINTS: f64 = 8.0;
/// Room beyond the entries, so that none is evicted by a policy that keeps a reserve.
const SPARE: f64 = 1.25;

pub(super) fn run<C: Cache>(setup: &Setup) -> Sample {
    let entries = setup.grow_keys / 2;
    let mut next = FROM.min(entries.div_ceil(8)) as f64;
    let mut points = Vec::with_capacity(256);
    let before = resident_bytes();
    let cache = C::with_room(Room::for_entries((entries as f64 * SPARE) as usize, VALUE_BYTES));
    let mut values = Values::new(VALUE_BYTES);
    let data = (KEY_BYTES + VALUE_BYTES) as f64;
    {
        let mut handle = cache.handle();
        for from in (0..entries).step_by(BATCH) {
            let to = entries.min(from + BATCH);
            let mut batch = handle.batch();
            for index in from..to {
                let key = key_bytes(key_of(0, index as u64));
                values.set(&key, &mut batch);
            }
            drop(batch);
            if to as f64 >= next {
                cache.maintain();
                let bytes = resident_bytes().saturating_sub(before) as f64;
                points.push((to as f64, bytes / to as f64 - data));
                next *= (1.0 / POINTS).exp2();
            }
        }
    }
    let mut handle = cache.handle();
    let mut held = 0;
    for index in 0..entries {
        held += usize::from(values.get(&key_bytes(key_of(0, index as u64)), &mut handle.batch()));
    }
    assert_eq!(values.wrong(), 0, "wrong values from the cache under test");
    // Over the last three doublings: what one may meet at any size.
    let late = || points.iter().filter(|point| point.0 * 8.0 >= entries as f64).map(|point| point.1);
    let mut sample = Sample::default();
    for (name, value) in [
        ("mean", late().sum::<f64>() / late().count().max(1) as f64),
        ("least", late().fold(f64::INFINITY, f64::min)),
        ("most", late().fold(f64::NEG_INFINITY, f64::max)),
    ] {
        sample = sample.figure(name, "B/entry", Better::Lower, value);
    }
    sample = sample.figure("held in the end", "%", Better::Higher, 100.0 * held as f64 / entries as f64);
    sample.series.push(Series { x: "entries".to_owned(), y: "B/entry".to_owned(), points });
    sample
}
