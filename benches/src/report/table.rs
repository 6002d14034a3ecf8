//! The report as plain text.

use super::{BASES, CAVEATS, Group, Report, rounds, short};
use crate::drive::threads_label;
use std::fmt::Write;

/// The whole report as text.
pub fn table(report: &Report) -> String {
    let mut out = String::new();
    let setup = &report.setup;
    for (name, value) in report.machine.facts() {
        line(&mut out, format_args!("{name:<10} {value}"));
    }
    line(&mut out, format_args!("{:<10} {} UTC", "date", report.date));
    line(&mut out, format_args!("{:<10} {}", "command", report.command));
    line(
        &mut out,
        format_args!(
            "{:<10} {} keys resident, {} where the map grows, {} s a run, {} % hits, seed {}, {}",
            "sizes",
            setup.keys,
            setup.grow_keys,
            setup.duration.as_secs_f64(),
            setup.hit_percent,
            setup.seed,
            rounds(report.rounds),
        ),
    );
    for caveat in CAVEATS {
        line(&mut out, format_args!("{:<10} {caveat}", "note"));
    }
    for group in &report.groups {
        out.push('\n');
        write_group(&mut out, group);
    }
    out
}

fn line(out: &mut String, arguments: std::fmt::Arguments<'_>) {
    writeln!(out, "{arguments}").expect("a string takes everything");
}

fn write_group(out: &mut String, group: &Group) {
    line(
        out,
        format_args!(
            "== {}, threads: {} == {}",
            group.workload.name(),
            threads_label(group.threads),
            group.workload.about()
        ),
    );
    let figures = group.figures();
    let bases: Vec<_> = BASES.iter().filter_map(|base| group.row(base)).collect();

    let mut grid = vec![vec!["map".to_owned()]];
    for (at, figure) in figures.iter().enumerate() {
        grid[0].push(format!("{} [{}]", figure.name, figure.unit));
        if at == 0 {
            grid[0].extend(bases.iter().map(|base| format!("/ {}", base.map)));
        }
    }
    grid[0].extend(["cpu", "noise"].map(str::to_owned));

    for row in &group.rows {
        let mut cells = vec![row.map.to_owned()];
        for at in 0..figures.len() {
            cells.push(match row.spread(at) {
                Some(spread) if at == 0 => {
                    format!("{} ({} - {})", short(spread.median), short(spread.min), short(spread.max))
                }
                Some(spread) => short(spread.median),
                None => "-".to_owned(),
            });
            if at == 0 {
                cells.extend(bases.iter().map(|base| match row.ratio_to(base) {
                    Some(ratio) => short(ratio.median),
                    None => "-".to_owned(),
                }));
            }
        }
        cells.extend(match row.loads() {
            Some((cpu, others)) => [format!("{cpu:.2}"), format!("{others:.2}")],
            None => ["-", "-"].map(str::to_owned),
        });
        grid.push(cells);
    }

    let columns = grid[0].len();
    let widths: Vec<usize> = (0..columns)
        .map(|column| {
            let cells = grid.iter().map(|cells| cells[column].chars().count());
            cells.max().unwrap_or(0)
        })
        .collect();
    for cells in &grid {
        let mut text = format!("{:<width$}", cells[0], width = widths[0]);
        for (cell, width) in cells.iter().zip(&widths).skip(1) {
            write!(text, "  {cell:>width$}").expect("a string takes everything");
        }
        line(out, format_args!("{text}"));
    }
    for row in &group.rows {
        if let Some(failure) = row.failure() {
            line(out, format_args!("{} FAILED: {failure}", row.map));
        }
    }
}
