//! The report as one HTML page with drawings in it: no scripts, nothing from outside.

use super::{BASES, CAVEATS, Group, Report, Row, rounds, short};
use crate::drive::threads_label;
use crate::measure::Better;
use std::fmt::Write;

const STYLE: &str = "body{font:15px/1.45 system-ui,sans-serif;color:#1c2128;background:#fff;max-width:70rem;margin:2rem auto;\
padding:0 1rem}h1{font-size:1.6rem}h2{font-size:1.15rem;margin:2.2rem 0 .2rem}p{margin:.2rem 0 .6rem}\
table{border-collapse:collapse;font-variant-numeric:tabular-nums;margin:.6rem 0}td,th{padding:.18rem .7rem;text-align:right;\
border-bottom:1px solid #e3e6ea;white-space:nowrap}td:first-child,th:first-child{text-align:left}th{font-weight:600;color:#57606a;white-space:normal;vertical-align:bottom}\
.ours td{font-weight:600;background:#eef5ff}.range{color:#8a929b;font-size:.85em}.failed{color:#b42318}\
.facts td{text-align:left;white-space:normal}.wide{overflow-x:auto}svg text{font:12px system-ui,sans-serif;fill:#1c2128}\
svg .dim{fill:#6a737d}code{font-size:.92em}";

/// One colour a map, in the order of a group's rows; told apart also by most colour-blind readers.
const COLOURS: [&str; 11] = [
    "#0969da", "#d1770f", "#1a7f37", "#8250df", "#cf222e", "#57606a", "#0f9aa8", "#bf3989", "#7d6608", "#4d2d00",
    "#2da44e",
];

/// The whole report as one page.
pub fn html(report: &Report) -> String {
    let mut out = String::with_capacity(1 << 16);
    let setup = &report.setup;
    put(
        &mut out,
        format_args!(
            "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><meta name=\"viewport\" content=\"width=device-width\">\
             <title>Concurrent maps and caches under contention</title><style>{STYLE}</style><h1>Concurrent maps and caches under contention</h1>"
        ),
    );
    out.push_str("<table class=\"facts\">");
    let sizes = format!(
        "{} keys resident, {} where the map grows, {} s a run, {} % hits, seed {}, {}",
        setup.keys,
        setup.grow_keys,
        setup.duration.as_secs_f64(),
        setup.hit_percent,
        setup.seed,
        rounds(report.rounds),
    );
    let facts = report.machine.facts().into_iter().chain([
        ("date", format!("{} UTC", report.date)),
        ("command", report.command.clone()),
        ("sizes", sizes),
    ]);
    for (name, value) in facts {
        put(&mut out, format_args!("<tr><th>{name}<td><code>{}</code>", escape(&value)));
    }
    out.push_str("</table><ul>");
    for caveat in CAVEATS {
        put(&mut out, format_args!("<li>{}", escape(caveat)));
    }
    out.push_str("</ul>");
    for group in &report.groups {
        write_group(&mut out, group);
    }
    out.push_str("</html>\n");
    out
}

fn put(out: &mut String, arguments: std::fmt::Arguments<'_>) {
    out.write_fmt(arguments).expect("a string takes everything");
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

fn is_ours(row: &Row) -> bool {
    row.map.starts_with("memkv")
}

fn write_group(out: &mut String, group: &Group) {
    put(
        out,
        format_args!(
            "<h2>{}, threads: {}</h2><p>{}</p>",
            group.workload.name(),
            threads_label(group.threads),
            escape(group.workload.about())
        ),
    );
    write_bars(out, group);
    write_curves(out, group);
    write_table(out, group);
}

fn write_table(out: &mut String, group: &Group) {
    let figures = group.figures();
    let bases: Vec<_> = BASES.iter().filter_map(|base| group.row(base)).collect();
    out.push_str("<div class=\"wide\"><table><tr><th>map");
    for (at, figure) in figures.iter().enumerate() {
        put(out, format_args!("<th>{}, {}", escape(&figure.name), escape(&figure.unit)));
        if at == 0 {
            for base in &bases {
                put(out, format_args!("<th>/ {}", base.map));
            }
        }
    }
    out.push_str("<th>cpu<th>noise");
    for row in &group.rows {
        let class = if is_ours(row) { " class=\"ours\"" } else { "" };
        put(out, format_args!("<tr{class}><td>{}", row.map));
        for at in 0..figures.len() {
            match row.spread(at) {
                Some(spread) if at > 0 => put(out, format_args!("<td>{}", short(spread.median))),
                Some(spread) => put(
                    out,
                    format_args!(
                        "<td>{} <span class=\"range\">{} – {}</span>",
                        short(spread.median),
                        short(spread.min),
                        short(spread.max)
                    ),
                ),
                None => out.push_str("<td>–"),
            }
            if at == 0 {
                for base in &bases {
                    let ratio = row.ratio_to(base);
                    let text = ratio.map_or("–".to_owned(), |ratio| short(ratio.median));
                    put(out, format_args!("<td>{text}"));
                }
            }
        }
        match row.loads() {
            Some((cpu, others)) => put(out, format_args!("<td>{cpu:.2}<td>{others:.2}")),
            None => out.push_str("<td>–<td>–"),
        }
    }
    out.push_str("</table></div>");
    for row in &group.rows {
        if let Some(failure) = row.failure() {
            put(out, format_args!("<p class=\"failed\">{}: {}", row.map, escape(failure)));
        }
    }
}

/// The headline of every map as a bar, with a whisker from least to greatest.
fn write_bars(out: &mut String, group: &Group) {
    const LEFT: f64 = 130.0;
    const WIDTH: f64 = 620.0;
    const STEP: f64 = 22.0;
    let Some(headline) = group.figures().first() else {
        return;
    };
    let spreads: Vec<_> = group.rows.iter().map(|row| row.spread(0)).collect();
    let greatest = spreads.iter().flatten().map(|spread| spread.max);
    let greatest = greatest.fold(f64::MIN_POSITIVE, f64::max);
    let least = spreads.iter().flatten().map(|spread| spread.min);
    let least = least.fold(f64::INFINITY, f64::min);
    // One map a thousand times worse than the others would hide how those compare.
    let logarithmic = least > 0.0 && greatest / least > 100.0;
    let along = |value: f64| {
        if logarithmic {
            // From half the least, so that the shortest bar can be seen.
            (2.0 * value / least).ln() / (2.0 * greatest / least).ln() * WIDTH
        } else {
            value / greatest * WIDTH
        }
    };
    let height = STEP * group.rows.len() as f64 + 20.0;
    let good = match headline.better {
        Better::Higher => "more is better",
        Better::Lower => "less is better",
    };
    put(
        out,
        format_args!(
            "<svg width=\"{}\" height=\"{height}\" role=\"img\"><text class=\"dim\" x=\"{LEFT}\" y=\"12\">{}, {} ({good}{})</text>",
            LEFT + WIDTH + 90.0,
            escape(&headline.name),
            escape(&headline.unit),
            if logarithmic { "; logarithmic scale" } else { "" }
        ),
    );
    for (at, (row, spread)) in group.rows.iter().zip(&spreads).enumerate() {
        let top = 20.0 + STEP * at as f64;
        let middle = top + STEP / 2.0;
        put(
            out,
            format_args!("<text x=\"{}\" y=\"{}\" text-anchor=\"end\">{}</text>", LEFT - 8.0, middle + 4.0, row.map),
        );
        let Some(spread) = spread else {
            continue;
        };
        let colour = if is_ours(row) { COLOURS[0] } else { "#9aa4b0" };
        let (bar, from, to) = (along(spread.median), along(spread.min), along(spread.max));
        put(
            out,
            format_args!(
                "<rect x=\"{LEFT}\" y=\"{}\" width=\"{bar:.1}\" height=\"{}\" fill=\"{colour}\"/>\
                 <path d=\"M{:.1} {middle}H{:.1}m0 -4v8M{:.1} {}v8\" stroke=\"#1c2128\" fill=\"none\"/>\
                 <text x=\"{:.1}\" y=\"{}\">{}</text>",
                top + 3.0,
                STEP - 6.0,
                LEFT + from,
                LEFT + to,
                LEFT + from,
                middle - 4.0,
                LEFT + to + 8.0,
                middle + 4.0,
                short(spread.median)
            ),
        );
    }
    out.push_str("</svg>");
}

/// The curve of every map's last round, on logarithmic x where it spans more than a factor of a hundred.
fn write_curves(out: &mut String, group: &Group) {
    const LEFT: f64 = 70.0;
    const WIDTH: f64 = 640.0;
    const HEIGHT: f64 = 260.0;
    let curves: Vec<_> = group
        .rows
        .iter()
        .zip(COLOURS.iter().cycle())
        .filter_map(|(row, colour)| Some((row, colour, row.good().last()?.series.first()?)))
        .collect();
    let Some((_, _, first)) = curves.first() else {
        return;
    };
    let points = || curves.iter().flat_map(|(_, _, series)| &series.points);
    let (x_min, x_max) =
        points().fold((f64::INFINITY, f64::NEG_INFINITY), |(min, max), point| (min.min(point.0), max.max(point.0)));
    let y_max = points().fold(f64::MIN_POSITIVE, |max, point| max.max(point.1));
    let logarithmic = x_min > 0.0 && x_max / x_min > 100.0;
    let along = |x: f64| if logarithmic { x.ln() } else { x };
    let (from, to) = (along(x_min), along(x_max));
    let place = |&(x, y): &(f64, f64)| {
        let right = (along(x) - from) / (to - from).max(f64::MIN_POSITIVE) * WIDTH;
        (LEFT + right, 20.0 + HEIGHT * (1.0 - y.max(0.0) / y_max))
    };
    put(
        out,
        format_args!(
            "<svg width=\"{}\" height=\"{}\" role=\"img\"><path d=\"M{LEFT} 20v{HEIGHT}h{WIDTH}\" stroke=\"#8a929b\" fill=\"none\"/>\
             <text class=\"dim\" x=\"{LEFT}\" y=\"12\">{}, last round</text>",
            LEFT + WIDTH + 150.0,
            HEIGHT + 50.0,
            escape(&first.y)
        ),
    );
    for part in 0..=4 {
        let share = f64::from(part) / 4.0;
        let y = 20.0 + HEIGHT * (1.0 - share);
        put(
            out,
            format_args!(
                "<path d=\"M{LEFT} {y:.1}h{WIDTH}\" stroke=\"#e3e6ea\"/><text class=\"dim\" x=\"{}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
                LEFT - 6.0,
                y + 4.0,
                short(y_max * share)
            ),
        );
        let x = from + (to - from) * share;
        put(
            out,
            format_args!(
                "<text class=\"dim\" x=\"{:.1}\" y=\"{}\" text-anchor=\"middle\">{}</text>",
                LEFT + WIDTH * share,
                HEIGHT + 38.0,
                short(if logarithmic { x.exp() } else { x })
            ),
        );
    }
    put(
        out,
        format_args!(
            "<text class=\"dim\" x=\"{}\" y=\"{}\">{}</text>",
            LEFT + WIDTH + 30.0,
            HEIGHT + 38.0,
            escape(&first.x)
        ),
    );
    for (at, (row, colour, series)) in curves.iter().enumerate() {
        let mut path = String::new();
        for (index, point) in series.points.iter().enumerate() {
            let (x, y) = place(point);
            let step = if index == 0 { 'M' } else { 'L' };
            put(&mut path, format_args!("{step}{x:.1} {y:.1}"));
        }
        let legend = 30.0 + 18.0 * at as f64;
        put(
            out,
            format_args!(
                "<path d=\"{path}\" stroke=\"{colour}\" stroke-width=\"1.6\" fill=\"none\"/>\
                 <path d=\"M{} {legend}h18\" stroke=\"{colour}\" stroke-width=\"3\"/><text x=\"{}\" y=\"{}\">{}</text>",
                LEFT + WIDTH + 16.0,
                LEFT + WIDTH + 40.0,
                legend + 4.0,
                row.map
            ),
        );
    }
    out.push_str("</svg>");
}
