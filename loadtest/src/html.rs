//! Results as one HTML page with plots: nothing in it is loaded from elsewhere.

use crate::compare::{CompareReport, Comparison};
use crate::error::Error;
use crate::plot::{Bars, Plot, Scale, Series, bars, escape};
use crate::replay::ReplayReport;
use crate::run::RunReport;
use crate::spread::Spread;
use crate::sweep::SweepReport;
use hdrhistogram::Histogram;
use std::fmt::Display;
use std::fs;
use std::path::Path;

/// What two servers are called.
const SIDES: [&str; 2] = ["A", "B"];
/// Points of a percentile curve for every halving of what is missing to 100 %.
const CURVE_STEPS: u32 = 5;

const STYLE: &str = "
body { font: 15px/1.5 system-ui, sans-serif; max-width: 940px; margin: 2em auto; padding: 0 1em; color: #222; background: #fff }
h1 { font-size: 1.4em } svg { display: block; width: 100%; max-width: 800px; height: auto; margin: 1em 0; font: 12px system-ui, sans-serif }
pre { overflow-x: auto; white-space: pre-wrap; background: #f4f4f4; padding: 1em; font-size: 12px }
svg text { fill: #222 } .title { font-weight: 600; font-size: 14px } .grid { stroke: #ddd }
.limit { stroke: #b00; stroke-dasharray: 6 4 } dt { float: left; clear: left; font-weight: 600 } dd { margin-left: 2em; overflow-wrap: anywhere } .whisker { stroke: #222; stroke-width: 1.5 }
@media (prefers-color-scheme: dark) {
  body { color: #ddd; background: #1b1b1b } pre { background: #262626 } svg text { fill: #ddd } .grid { stroke: #3a3a3a }
  .whisker { stroke: #ddd } .limit { stroke: #f66 }
}";

/// A result that has a page.
pub trait Page: Display {
    /// The page's headline.
    fn title(&self) -> String;
    /// What it comes to: paragraphs of HTML.
    fn summary(&self) -> String;
    /// Its plots, as SVG.
    fn plots(&self) -> Vec<String>;
    /// What its figures do not show.
    fn caveats(&self) -> Vec<&'static str>;

    /// The caveats as text, to stand below the result.
    fn caveats_as_text(&self) -> String {
        let lines = self.caveats().into_iter().enumerate();
        let head = |index| if index == 0 { "not shown" } else { "" };
        format!("\n{}", lines.map(|(index, caveat)| format!("{:<12}{caveat}\n", head(index))).collect::<String>())
    }

    /// The whole page.
    fn to_html(&self) -> String {
        let title = escape(&self.title());
        let caveats: String = self.caveats().iter().map(|caveat| format!("<li>{}</li>\n", escape(caveat))).collect();
        format!(
            "<!doctype html>\n<html lang=\"en\">\n<head><meta charset=\"utf-8\">\
             <meta name=\"viewport\" content=\"width=device-width\">\n<title>{title}</title>\n<style>{STYLE}</style></head>\n\
             <body>\n<h1>{title}</h1>\n{}\n{}\n<pre>{}</pre>\n<h2>What the figures do not show</h2>\n<ul>\n{caveats}</ul>\n\
             <p>Made by memkv-loadtest {}.</p>\n</body>\n</html>\n",
            self.summary(),
            self.plots().concat(),
            escape(&self.to_string()),
            env!("CARGO_PKG_VERSION"),
        )
    }
}

fn paragraph(text: &str) -> String {
    format!("<p><b>{}</b></p>\n", escape(text))
}

/// Writes a result's page to a file.
///
/// # Errors
/// When the file cannot be written.
pub fn write(path: &Path, page: &impl Page) -> Result<(), Error> {
    fs::write(path, page.to_html()).map_err(|source| Error::File { file: path.display().to_string(), source })
}

/// Latency in microseconds over the share of requests that took no longer.
fn percentile_curve(name: &str, latency_ns: &Histogram<u64>) -> Option<Series> {
    let points = latency_ns.iter_quantiles(CURVE_STEPS).map(|step| {
        // The last value stands for the longest request: it is drawn where it belongs among so many.
        let share = step.quantile_iterated_to().min(1.0 - 1.0 / latency_ns.len() as f64).max(0.0);
        (share, step.value_iterated_to() as f64 / 1000.0)
    });
    (!latency_ns.is_empty()).then(|| Series { name: name.into(), points: points.collect(), marked: false })
}

impl Page for RunReport {
    fn title(&self) -> String {
        format!("Load on {}", self.server)
    }

    fn summary(&self) -> String {
        paragraph(&self.verdict())
    }

    fn plots(&self) -> Vec<String> {
        let Some(load) = &self.load else { return Vec::new() };
        let open_loop = !load.uncorrected_ns.is_empty();
        let from = if open_loop { "from the due time" } else { "from sending (closed loop)" };
        let curves = [
            percentile_curve(from, &load.latency_ns),
            percentile_curve("uncorrected: from sending", &load.uncorrected_ns),
            percentile_curve("the client's own lateness", &load.sent_late_ns),
        ];
        let mut plots = vec![
            Plot {
                title: "Latency by percentile".into(),
                x: ("share of requests that took no longer".into(), Scale::Percentile),
                y: ("microseconds".into(), Scale::Log),
                series: curves.into_iter().flatten().collect(),
                limit: None,
                mark: None,
            }
            .to_svg(),
        ];
        let over_time = |title: &str, name: &str, points: Vec<(f64, f64)>| {
            Plot {
                title: title.into(),
                x: ("seconds".into(), Scale::Linear),
                y: (name.into(), Scale::Linear),
                series: vec![Series { name: name.into(), points, marked: false }],
                limit: None,
                mark: None,
            }
            .to_svg()
        };
        let steps = || self.samples.windows(2).map(|pair| (&pair[0], &pair[1])).filter(|(a, b)| b.seconds > a.seconds);
        let rate = steps().map(|(a, b)| (b.seconds, (b.requests - a.requests) as f64 / (b.seconds - a.seconds)));
        plots.push(over_time("Throughput over time", "requests/s", rate.collect()));
        let hits = steps().filter_map(|(a, b)| {
            let keys = (b.hits + b.misses) - (a.hits + a.misses);
            (keys > 0).then(|| (b.seconds, (b.hits - a.hits) as f64 / keys as f64 * 100.0))
        });
        let hits: Vec<_> = hits.collect();
        if !hits.is_empty() {
            plots.push(over_time("Hit ratio over time", "% of the keys asked for", hits));
        }
        plots
    }

    fn caveats(&self) -> Vec<&'static str> {
        let of_the_loop = match self.offered_per_s {
            None => {
                "In a closed loop a slow server is asked less, so its pauses hide: only an open loop (--rate) shows what users wait."
            }
            Some(_) => {
                "What happens less often than once in a run is not in it, and a high percentile of few requests is chance."
            }
        };
        vec![
            of_the_loop,
            "Where the client itself was late or busy all the time, the figures are the client's.",
            "Requests are drawn from distributions: bursts and habits of real clients are missing.",
            "The figures hold for this machine, its network and this number of connections.",
        ]
    }
}

impl Page for SweepReport {
    fn title(&self) -> String {
        format!("{} on {}", self.objective, self.server)
    }

    fn summary(&self) -> String {
        paragraph(&self.verdict())
    }

    fn plots(&self) -> Vec<String> {
        let series = |name: &str, value: &dyn Fn(&crate::sweep::Point) -> f64| Series {
            name: name.into(),
            points: self.points.iter().map(|point| (point.offered, value(point))).collect(),
            marked: true,
        };
        let quantile = |share: f64| {
            move |point: &crate::sweep::Point| point.phase.latency_ns.value_at_quantile(share) as f64 / 1000.0
        };
        let latency = Plot {
            title: "Latency against rate".into(),
            x: ("requests/s that were due".into(), Scale::Log),
            y: ("microseconds from the due time".into(), Scale::Log),
            series: vec![
                series("p50", &quantile(0.5)),
                series("p99", &quantile(0.99)),
                series("p99.9", &quantile(0.999)),
                series("max", &quantile(1.0)),
            ],
            limit: Some((self.objective.clone(), self.objective_limit_us)),
            mark: self.knee.map(|knee| ("knee".into(), knee)),
        };
        let answered = Plot {
            title: "Answered against due".into(),
            x: ("requests/s that were due".into(), Scale::Log),
            y: ("requests/s answered".into(), Scale::Log),
            series: vec![series("answered", &|point| point.phase.requests_per_s)],
            limit: None,
            mark: self.knee.map(|knee| ("knee".into(), knee)),
        };
        vec![latency.to_svg(), answered.to_svg()]
    }

    fn caveats(&self) -> Vec<&'static str> {
        vec![
            "Each rate was kept for a few seconds: what happens more rarely is not in its point.",
            "Points at which the client was late or busy say nothing about the server.",
            "The knee belongs to this workload, this number of connections and this machine.",
        ]
    }
}

impl Page for CompareReport {
    fn title(&self) -> String {
        "Two servers side by side".into()
    }

    fn summary(&self) -> String {
        let servers = [("A", &self.a), ("B", &self.b)];
        let named = servers.map(|(name, server)| format!("<dt>{name}</dt><dd><code>{}</code></dd>\n", escape(server)));
        let verdicts = self.comparisons.iter().map(|comparison| {
            let name = if self.comparisons.len() > 1 { format!("{}: ", comparison.workload) } else { String::new() };
            paragraph(&format!("{name}{}", comparison.verdict_with_interval()))
        });
        let verdicts = verdicts.chain(self.cut.iter().map(|cut| paragraph(&cut.to_string())));
        format!("<dl>\n{}</dl>\n{}", named.concat(), verdicts.collect::<String>())
    }

    fn plots(&self) -> Vec<String> {
        let rows = |figure: &dyn Fn(&crate::compare::Side) -> Option<Spread>| -> Vec<Bars> {
            let bar =
                |side: &crate::compare::Side| figure(side).map(|Spread { median, min, max, .. }| (median, min, max));
            let row = |comparison: &Comparison| {
                let sides = [bar(&comparison.a), bar(&comparison.b)].into_iter().flatten().collect::<Vec<_>>();
                (sides.len() == 2).then(|| (self.row_name(comparison), sides))
            };
            self.comparisons.iter().filter_map(row).collect()
        };
        let plot = |title: &str, unit: &str, rows: Vec<Bars>| {
            (!rows.is_empty()).then(|| bars(title, &["A", "B"], unit, &rows))
        };
        let ratio = |figure: &dyn Fn(&Comparison) -> Option<Spread>| -> Vec<Bars> {
            let row = |comparison: &Comparison| {
                let Spread { median, min, max, median_interval } = figure(comparison)?;
                let (low, high) = median_interval.unwrap_or((min, max));
                Some((self.row_name(comparison), vec![(median, low, high)]))
            };
            self.comparisons.iter().filter_map(row).collect()
        };
        let ratio_plot = |title: &str, rows: Vec<Bars>| {
            (!rows.is_empty()).then(|| bars(title, &["B/A"], "1 is as much as A; median and its 95 % interval", &rows))
        };
        let plots = [
            ratio_plot("CPU time per request, B over A", ratio(&|comparison| comparison.cpu_ratio)),
            ratio_plot("Throughput, B over A", ratio(&|comparison| Some(comparison.throughput_ratio))),
            plot(
                "The server's CPU time",
                "ns per request: median, least and greatest of the slices",
                rows(&|side| side.server_cpu_ns),
            ),
            plot(
                "Throughput",
                "requests/s: median, least and greatest of the slices",
                rows(&|side| Some(side.requests_per_s)),
            ),
        ];
        plots.into_iter().flatten().collect()
    }

    fn caveats(&self) -> Vec<&'static str> {
        vec![
            match (self.server_cpu, self.server_cpu == self.client_cpu) {
                (Some(_), true) => {
                    "Servers on one core show what a request costs, not how they scale; throughput there includes the client's own work."
                }
                (Some(_), false) => "Servers on one core show what a request costs, not how they scale.",
                (None, _) => {
                    "Servers and client are where the system puts them: throughput moves with that, CPU time per request less."
                }
            },
            "The loop is closed: what users wait while a server pauses is not in it; `run --rate` shows that.",
        ]
    }
}

impl Page for ReplayReport {
    fn title(&self) -> String {
        "Recorded requests replayed".into()
    }

    fn summary(&self) -> String {
        let servers = self.servers.iter().zip(SIDES);
        let named = servers.map(|(server, name)| format!("<dt>{name}</dt><dd><code>{}</code></dd>\n", escape(server)));
        let verdicts = self.replays.iter().map(|replay| paragraph(&replay.verdict()));
        let verdicts = verdicts.chain(self.cut.iter().map(|cut| paragraph(&cut.to_string())));
        format!("<dl>\n{}</dl>\n{}", named.collect::<String>(), verdicts.collect::<String>())
    }

    fn plots(&self) -> Vec<String> {
        let (limited, whole): (Vec<_>, Vec<_>) = self.replays.iter().partition(|replay| replay.limit.is_some());
        let over_time = whole.into_iter().map(|replay| {
            let series = replay.servers.iter().zip(SIDES).map(|(server, name)| {
                let ends = (1..).map(|interval| (interval * replay.interval_requests).min(replay.requests) as f64);
                let percent = server.interval_hit_ratios.iter().map(|ratio| ratio * 100.0);
                Series { name: name.into(), points: ends.zip(percent).collect(), marked: true }
            });
            Plot {
                title: format!("Hit ratio along {}", replay.trace),
                x: ("requests until the end of the interval".into(), Scale::Linear),
                y: ("% of the requests in the interval".into(), Scale::Linear),
                series: series.collect(),
                limit: None,
                mark: None,
            }
            .to_svg()
        });
        let mut plots: Vec<String> = over_time.collect();
        let mut traces: Vec<&str> = limited.iter().map(|replay| &*replay.trace).collect();
        traces.dedup();
        for trace in traces {
            let rows = limited.iter().filter(|replay| replay.trace == trace).filter_map(|replay| {
                let bar = |server: &crate::replay::Replayed| {
                    let percent = server.hit_ratio * 100.0;
                    (percent, percent, percent)
                };
                let bars = replay.servers.iter().map(bar).collect();
                replay.limit.map(|limit| (format!("{} % ({} MiB)", limit.footprint_percent, limit.memory_mib), bars))
            });
            let sides = &SIDES[..self.servers.len().min(SIDES.len())];
            let rows: Vec<Bars> = rows.collect();
            plots.push(bars(
                &format!("Hits on {trace} by limit, a part of its footprint"),
                sides,
                "% of all requests",
                &rows,
            ));
        }
        plots
    }

    fn caveats(&self) -> Vec<&'static str> {
        vec![
            "Requests are sent as fast as they are answered: times to live, and what happens with time alone, are missing.",
            "One connection asks: neither throughput nor latency is measured here.",
        ]
    }
}

impl CompareReport {
    /// What a plot calls a workload.
    fn row_name(&self, comparison: &Comparison) -> String {
        if self.comparisons.len() > 1 { comparison.workload.clone() } else { "workload".into() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_percentile_curve_rises_to_the_longest_request() {
        let mut latency = Histogram::new(3).unwrap();
        (1..=10_000_u64).for_each(|us| latency.record(us * 1000).unwrap());
        let points = percentile_curve("x", &latency).unwrap().points;
        assert!(points.windows(2).all(|pair| pair[0].0 <= pair[1].0 && pair[0].1 <= pair[1].1), "{points:?}");
        let (share, us) = points[points.len() - 1];
        assert!((share - 0.9999).abs() < 1e-9 && (us / 10_000.0 - 1.0).abs() < 0.001, "{share} {us}");
        assert!(percentile_curve("x", &Histogram::new(3).unwrap()).is_none());
    }
}
