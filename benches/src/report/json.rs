//! The report for programs: every sample of every counted round.

use super::{BASES, CAVEATS, Group, Report, Row};
use crate::machine::cores;
use crate::measure::Spread;
use serde_json::{Value, json};

/// The whole report as one value.
pub fn json(report: &Report) -> Value {
    let setup = &report.setup;
    json!({
        "machine": report.machine.to_json(),
        "date_utc": report.date,
        "command": report.command,
        "keys": setup.keys,
        "grow_keys": setup.grow_keys,
        "seconds": setup.duration.as_secs_f64(),
        "hit_percent": setup.hit_percent,
        "seed": setup.seed,
        "rounds": report.rounds,
        "notes": CAVEATS,
        "groups": report.groups.iter().map(group).collect::<Vec<_>>(),
    })
}

fn group(group: &Group) -> Value {
    json!({
        "workload": group.workload.name(),
        "about": group.workload.about(),
        "threads": group.threads,
        "oversubscribed": group.threads > cores(),
        "maps": group.rows.iter().map(|one| row(group, one)).collect::<Vec<_>>(),
    })
}

fn row(group: &Group, row: &Row) -> Value {
    let ratios: serde_json::Map<String, Value> = BASES
        .iter()
        .filter_map(|base| {
            let ratio = row.ratio_to(group.row(base)?)?;
            Some(((*base).to_owned(), spread(ratio)))
        })
        .collect();
    let samples: Vec<Value> = row
        .samples
        .iter()
        .map(|sample| match sample {
            Ok(sample) => sample.to_json(),
            Err(failure) => json!({"failure": failure}),
        })
        .collect();
    json!({
        "map": row.map,
        "headline": row.spread(0).map(spread),
        "ratio_to": ratios,
        "samples": samples,
    })
}

fn spread(spread: Spread) -> Value {
    json!({"median": spread.median, "min": spread.min, "max": spread.max})
}
