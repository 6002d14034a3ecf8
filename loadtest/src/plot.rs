//! Plots as SVG text: lines over two axes, and bars side by side. No scripts, no fonts, nothing to load.

use crate::units::short;
use std::fmt::Write as _;

const WIDTH: f64 = 760.0;
const HEIGHT: f64 = 340.0;
/// Room for the labels around the plot's area.
const LEFT: f64 = 74.0;
const RIGHT: f64 = 30.0;
const TOP: f64 = 50.0;
const BOTTOM: f64 = 48.0;
/// What a logarithmic axis draws smaller values as.
const LOG_MIN: f64 = 0.1;
/// At most so many lines. Colours that people who see few colours can tell apart (Okabe and Ito).
const COLOURS: [&str; 4] = ["#0072b2", "#d55e00", "#009e73", "#cc79a7"];

/// How an axis maps values.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Scale {
    /// Evenly, from 0.
    Linear,
    /// By logarithm.
    Log,
    /// Shares of requests, by the logarithm of what is missing to 1: as far from 99 to 99.9 % as from 90 to 99 %.
    Percentile,
}

/// One line.
#[derive(Clone, Debug)]
pub struct Series {
    /// What the legend calls it.
    pub name: String,
    /// Its points, from left to right.
    pub points: Vec<(f64, f64)>,
    /// Whether to mark every point.
    pub marked: bool,
}

/// Lines over two axes.
#[derive(Clone, Debug)]
pub struct Plot {
    /// What it shows.
    pub title: String,
    /// Name and scale of the horizontal axis.
    pub x: (String, Scale),
    /// Name and scale of the vertical axis.
    pub y: (String, Scale),
    /// The lines.
    pub series: Vec<Series>,
    /// A value of the vertical axis to point out, with its name.
    pub limit: Option<(String, f64)>,
    /// The same for the horizontal axis.
    pub mark: Option<(String, f64)>,
}

/// Text made safe for HTML and SVG.
pub fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

impl Scale {
    fn map(self, value: f64) -> f64 {
        match self {
            Self::Linear => value,
            Self::Log => value.max(LOG_MIN).log10(),
            Self::Percentile => -(1.0 - value).max(1e-7).log10(),
        }
    }

    /// Where the axis begins and ends, and the values to label.
    fn ticks(self, values: impl Iterator<Item = f64> + Clone) -> (f64, f64, Vec<f64>) {
        let low = values.clone().fold(f64::INFINITY, f64::min);
        let high = values.fold(f64::NEG_INFINITY, f64::max);
        match self {
            _ if !low.is_finite() => (0.0, 1.0, Vec::new()),
            Self::Linear => {
                let step = nice_step(high.max(1e-9) / 5.0);
                let count = (high.max(1e-9) / step).ceil();
                (0.0, count * step, (0..=count as u32).map(|tick| f64::from(tick) * step).collect())
            }
            Self::Log => {
                let (low, high) = (low.max(LOG_MIN).log10().floor(), high.max(LOG_MIN).log10().ceil());
                let high = high.max(low + 1.0);
                let factors: &[f64] = if high - low <= 2.0 { &[1.0, 2.0, 5.0] } else { &[1.0] };
                let decades = (low as i32..=high as i32)
                    .flat_map(|decade| factors.iter().map(move |factor| factor * 10_f64.powi(decade)));
                (low, high, decades.filter(|tick| tick.log10() <= high + 1e-9).collect())
            }
            Self::Percentile => {
                let nines = Self::Percentile.map(high).ceil().clamp(2.0, 7.0);
                let ticks = [0.0, 0.5].into_iter().chain((1..=nines as i32).map(|nines| 1.0 - 10_f64.powi(-nines)));
                (0.0, nines, ticks.collect())
            }
        }
    }

    fn label(self, value: f64) -> String {
        if self == Self::Percentile {
            // Rounded, because 0.999 * 100 is not quite 99.9.
            format!("{} %", (value * 1e9).round() / 1e7)
        } else if value == 0.0 || value.abs() >= 0.01 {
            short((value * 1e6).round() / 1e6)
        } else {
            format!("{value}")
        }
    }
}

/// The least of 1, 2 and 5 times a power of ten that is not below `step`.
fn nice_step(step: f64) -> f64 {
    let power = 10_f64.powf(step.log10().floor());
    let factor = [1.0, 2.0, 5.0, 10.0].into_iter().find(|factor| factor * power >= step * 0.999);
    factor.unwrap_or(10.0) * power
}

impl Plot {
    /// The plot as an `<svg>` element.
    pub fn to_svg(&self) -> String {
        let ((x_name, x_scale), (y_name, y_scale)) = (&self.x, &self.y);
        let points = || self.series.iter().flat_map(|series| &series.points);
        let (x_low, mut x_high, mut x_ticks) = x_scale.ticks(points().map(|(x, _)| *x));
        if *x_scale == Scale::Linear {
            // No empty room behind the last point.
            x_high = points().map(|(x, _)| *x).fold(x_low, f64::max).max(x_low + 1e-9);
            x_ticks.retain(|tick| *tick <= x_high);
        }
        let limit = self.limit.iter().map(|(_, value)| *value);
        let (y_low, y_high, y_ticks) = y_scale.ticks(points().map(|(_, y)| *y).chain(limit));
        let x_of = |x| LEFT + (x_scale.map(x) - x_low) / (x_high - x_low) * (WIDTH - LEFT - RIGHT);
        let y_of = |y| HEIGHT - BOTTOM - (y_scale.map(y) - y_low) / (y_high - y_low) * (HEIGHT - TOP - BOTTOM);
        let (right, bottom) = (WIDTH - RIGHT, HEIGHT - BOTTOM);
        let mut svg = open_svg(&self.title, HEIGHT);
        for tick in y_ticks {
            let (y, label) = (y_of(tick), y_scale.label(tick));
            line(&mut svg, (LEFT, y), (right, y), "grid");
            text(&mut svg, (LEFT - 6.0, y + 4.0), "end", &label);
        }
        for tick in x_ticks {
            let (x, label) = (x_of(tick), x_scale.label(tick));
            line(&mut svg, (x, TOP), (x, bottom), "grid");
            text(&mut svg, (x, bottom + 16.0), "middle", &label);
        }
        text(&mut svg, ((LEFT + right) / 2.0, HEIGHT - 10.0), "middle", x_name);
        let middle = (TOP + bottom) / 2.0;
        let turned = format!(" transform=\"rotate(-90 14 {middle:.1})\"");
        put(
            &mut svg,
            format_args!("<text x=\"14\" y=\"{middle:.1}\" text-anchor=\"middle\"{turned}>{}</text>", escape(y_name)),
        );
        if let Some((name, value)) = &self.limit {
            let y = y_of(*value);
            line(&mut svg, (LEFT, y), (right, y), "limit");
            text(&mut svg, (right - 4.0, y - 5.0), "end", name);
        }
        if let Some((name, value)) = &self.mark {
            let x = x_of(*value);
            line(&mut svg, (x, TOP), (x, bottom), "limit");
            text(&mut svg, (x - 5.0, bottom - 6.0), "end", name);
        }
        for (series, colour) in self.series.iter().zip(COLOURS) {
            let mut path = String::new();
            for (x, y) in &series.points {
                let word = if path.is_empty() { 'M' } else { 'L' };
                put(&mut path, format_args!("{word}{:.1} {:.1}", x_of(*x), y_of(*y)));
            }
            put(&mut svg, format_args!("<path d=\"{path}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\"/>"));
            for (x, y) in series.points.iter().filter(|_| series.marked) {
                put(
                    &mut svg,
                    format_args!("<circle cx=\"{:.1}\" cy=\"{:.1}\" r=\"3\" fill=\"{colour}\"/>", x_of(*x), y_of(*y)),
                );
            }
        }
        legend(&mut svg, &self.series.iter().map(|series| &*series.name).collect::<Vec<_>>());
        svg.push_str("</svg>\n");
        svg
    }
}

/// One row of bars: its name, and for each side the middle, the least and the greatest.
pub type Bars = (String, Vec<(f64, f64, f64)>);

/// Bars side by side, with whiskers from the least to the greatest, as an `<svg>` element.
pub fn bars(title: &str, sides: &[&str], unit: &str, rows: &[Bars]) -> String {
    const BAR: f64 = 16.0;
    const NAMES: f64 = 150.0;
    let row_height = BAR * sides.len() as f64 + 14.0;
    let height = TOP + row_height * rows.len() as f64 + BOTTOM;
    let greatest = rows.iter().flat_map(|(_, bars)| bars).map(|(.., greatest)| *greatest);
    let (_, high, ticks) = Scale::Linear.ticks(greatest);
    let x_of = |value: f64| NAMES + value / high * (WIDTH - NAMES - RIGHT - 40.0);
    let mut svg = open_svg(title, height);
    for tick in ticks {
        line(&mut svg, (x_of(tick), TOP), (x_of(tick), height - BOTTOM), "grid");
        text(&mut svg, (x_of(tick), height - BOTTOM + 16.0), "middle", &Scale::Linear.label(tick));
    }
    text(&mut svg, ((NAMES + WIDTH) / 2.0, height - 10.0), "middle", unit);
    for (row, (name, bars)) in rows.iter().enumerate() {
        let top = TOP + row as f64 * row_height + 7.0;
        text(&mut svg, (NAMES - 6.0, top + (row_height - 14.0) / 2.0 + 4.0), "end", name);
        for (side, ((middle, least, greatest), colour)) in bars.iter().zip(COLOURS).enumerate() {
            let y = top + side as f64 * BAR;
            let width = (x_of(*middle) - NAMES).max(0.0);
            put(
                &mut svg,
                format_args!(
                    "<rect x=\"{NAMES}\" y=\"{y:.1}\" width=\"{width:.1}\" height=\"{:.1}\" fill=\"{colour}\"/>",
                    BAR - 3.0
                ),
            );
            let centre = y + (BAR - 3.0) / 2.0;
            line(&mut svg, (x_of(*least), centre), (x_of(*greatest), centre), "whisker");
            text(&mut svg, (x_of(*greatest) + 5.0, centre + 4.0), "start", &short(*middle));
        }
    }
    legend(&mut svg, sides);
    svg.push_str("</svg>\n");
    svg
}

fn open_svg(title: &str, height: f64) -> String {
    let mut svg = format!("<svg viewBox=\"0 0 {WIDTH} {height}\" role=\"img\" aria-label=\"{}\">", escape(title));
    put(&mut svg, format_args!("<text x=\"{LEFT}\" y=\"18\" class=\"title\">{}</text>", escape(title)));
    svg
}

fn legend(svg: &mut String, names: &[&str]) {
    let mut x = WIDTH - RIGHT;
    for (name, colour) in names.iter().zip(COLOURS.iter()).rev().filter(|_| names.len() > 1) {
        // About the width of a wide letter at the size that the page sets.
        x -= 7.2 * name.chars().count() as f64;
        text(svg, (x, 38.0), "start", name);
        x -= 15.0;
        put(svg, format_args!("<rect x=\"{x:.1}\" y=\"29\" width=\"10\" height=\"10\" fill=\"{colour}\"/>"));
        x -= 14.0;
    }
}

fn line(svg: &mut String, (x1, y1): (f64, f64), (x2, y2): (f64, f64), class: &str) {
    put(svg, format_args!("<line x1=\"{x1:.1}\" y1=\"{y1:.1}\" x2=\"{x2:.1}\" y2=\"{y2:.1}\" class=\"{class}\"/>"));
}

fn text(svg: &mut String, (x, y): (f64, f64), anchor: &str, content: &str) {
    let content = escape(content);
    put(svg, format_args!("<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\">{content}</text>"));
}

/// Writing to a string cannot fail.
fn put(out: &mut String, arguments: std::fmt::Arguments<'_>) {
    let _ = out.write_fmt(arguments);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_round_numbers_that_hold_everything() {
        let ticks = |scale: Scale, values: &[f64]| scale.ticks(values.iter().copied());
        assert_eq!(ticks(Scale::Linear, &[3.0, 870.0]), (0.0, 1000.0, vec![0.0, 200.0, 400.0, 600.0, 800.0, 1000.0]));
        assert_eq!(
            ticks(Scale::Log, &[3.0, 12_345.0]),
            (0.0, 5.0, vec![1.0, 10.0, 100.0, 1000.0, 10_000.0, 100_000.0])
        );
        let (low, high, percentiles) = ticks(Scale::Percentile, &[0.0, 0.9995]);
        assert_eq!((low, high), (0.0, 4.0));
        let labels: Vec<String> = percentiles.iter().map(|tick| Scale::Percentile.label(*tick)).collect();
        assert_eq!(labels, ["0 %", "50 %", "90 %", "99 %", "99.9 %", "99.99 %"]);
        assert!(ticks(Scale::Linear, &[]).2.is_empty());
    }

    #[test]
    fn a_plot_stays_inside_its_frame_and_is_well_formed() {
        let plot = Plot {
            title: "a < b".into(),
            x: ("share".into(), Scale::Percentile),
            y: ("us".into(), Scale::Log),
            series: vec![
                Series { name: "x & y".into(), points: vec![(0.0, 5.0), (0.9, 50.0), (1.0, 70_000.0)], marked: true },
                Series { name: "empty".into(), points: Vec::new(), marked: false },
            ],
            limit: Some(("limit".into(), 1000.0)),
            mark: Some(("mark".into(), 0.5)),
        };
        let svg = plot.to_svg();
        assert!(svg.contains("a &lt; b") && svg.contains("x &amp; y") && !svg.contains("NaN"), "{svg}");
        assert_eq!(svg.matches("<text").count(), svg.matches("</text>").count());
        let circles = svg.split("cx=\"").skip(1).map(|rest| rest.split('"').next().unwrap().parse::<f64>().unwrap());
        assert!(circles.clone().count() == 3 && circles.clone().all(|x| (LEFT..=WIDTH).contains(&x)), "{svg}");
        let svg = bars("t", &["A", "B"], "ns", &[("get".into(), vec![(5.0, 4.0, 6.0), (7.0, 7.0, 9.0)])]);
        assert_eq!(svg.matches("class=\"whisker\"").count(), 2);
    }
}
