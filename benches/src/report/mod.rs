//! Results of a run: what was asked, what came out, and how it is summed up and printed.

mod html;
mod json;
mod table;

pub use html::html;
pub use json::json;
pub use table::table;

use crate::machine::Machine;
use crate::measure::{Figure, Sample, Spread};
use crate::workload::{Setup, Workload};

/// The maps and caches that others are set in proportion to.
pub const BASES: [&str; 6] = ["papaya", "papaya-batched", "flurry", "dashmap", "moka", "quick_cache"];

/// What to read before any figure; printed with every report.
pub const CAVEATS: [&str; 8] = [
    "Medians over the counted rounds, least and greatest beside the headline (the others' are in the JSON); ratios are medians of the ratios within a round.",
    "cpu: CPU time of the measured threads as a share of threads x time; below 1 they waited, or others had the cores.",
    "per CPU second: of the whole process, with the threads that a map or cache keeps for itself.",
    "Rounds run forth and back, so that no map runs after the same other in every round.",
    "noise: CPU time that the rest of the machine used meanwhile, as a share of all cores. Above a few percent, repeat.",
    "-batched: one guard for 100 operations, as a server takes one for a batch of commands. It is fair to set it beside a rival that keeps its guard as long, and beside one without guards.",
    "The hasher is the one above for every map and for every cache that lets it be chosen; memkv-store seeds a foldhash of its own, TinyUFO and segcache have their own ahash.",
    "Thread counts up to the machine's cores show interference between that many threads; they do not prove scaling beyond.",
];

/// One run: everything needed to read it and to repeat it.
#[derive(Clone, Debug)]
pub struct Report {
    /// Where it ran.
    pub machine: Machine,
    /// When, in UTC.
    pub date: String,
    /// The exact command.
    pub command: String,
    /// The sizes; `threads` varies by group.
    pub setup: Setup,
    /// Counted rounds; one more came before them and was dropped.
    pub rounds: usize,
    /// What was measured, in order.
    pub groups: Vec<Group>,
}

/// One workload with one number of threads.
#[derive(Clone, Debug)]
pub struct Group {
    /// What was done.
    pub workload: Workload,
    /// By how many threads.
    pub threads: usize,
    /// To which maps.
    pub rows: Vec<Row>,
}

/// One map in a group.
#[derive(Clone, Debug)]
pub struct Row {
    /// The map's name.
    pub map: &'static str,
    /// One per counted round; a failure tells why there is no figure.
    pub samples: Vec<Result<Sample, String>>,
}

impl Group {
    /// The row of this map.
    pub fn row(&self, map: &str) -> Option<&Row> {
        self.rows.iter().find(|row| row.map == map)
    }

    /// The figures that this group has, from the first sample that has any.
    pub fn figures(&self) -> &[Figure] {
        self.rows.iter().flat_map(Row::good).next().map_or(&[], |sample| &sample.figures)
    }
}

impl Row {
    /// The samples that succeeded.
    pub fn good(&self) -> impl Iterator<Item = &Sample> {
        self.samples.iter().filter_map(|sample| sample.as_ref().ok())
    }

    /// Why the first failed sample failed.
    pub fn failure(&self) -> Option<&str> {
        self.samples.iter().find_map(|sample| sample.as_ref().err().map(String::as_str))
    }

    /// The figure at this place, over the rounds.
    pub fn spread(&self, at: usize) -> Option<Spread> {
        Spread::of(self.good().filter_map(|sample| Some(sample.figures.get(at)?.value)))
    }

    /// The headline in proportion to another map's in the same round, over the rounds.
    pub fn ratio_to(&self, base: &Self) -> Option<Spread> {
        let headline = |sample: &Result<Sample, String>| Some(sample.as_ref().ok()?.figures.first()?.value);
        let pairs = self.samples.iter().zip(&base.samples);
        let ratios = pairs.filter_map(|(own, base)| Some(headline(own)? / headline(base)?));
        Spread::of(ratios.filter(|ratio| ratio.is_finite()))
    }

    /// Medians of [`Sample::cpu_share`] and [`Sample::others_share`]; `None` where no time is measured.
    pub fn loads(&self) -> Option<(f64, f64)> {
        let cpu = Spread::of(self.good().map(|sample| sample.cpu_share))?;
        let others = Spread::of(self.good().map(|sample| sample.others_share))?;
        (cpu.max > 0.0).then_some((cpu.median, others.median))
    }
}

/// How many rounds there were, in words.
fn rounds(count: usize) -> String {
    format!("{count} round{} after one dropped", if count == 1 { "" } else { "s" })
}

/// A number with about three digits that matter.
fn short(value: f64) -> String {
    let size = value.abs();
    if size >= 1000.0 || size == 0.0 {
        format!("{value:.0}")
    } else if size >= 100.0 {
        format!("{value:.1}")
    } else if size >= 0.1 {
        format!("{value:.2}")
    } else {
        format!("{value:.4}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::measure::Better;

    pub(super) fn example() -> Report {
        let sample = |value: f64| {
            let mut sample = Sample::default().figure("throughput", "M ops/s", Better::Higher, value).figure(
                "max",
                "µs",
                Better::Lower,
                5.0,
            );
            sample.series.push(crate::measure::Series {
                x: "s".to_owned(),
                y: "MiB".to_owned(),
                points: vec![(0.0, 0.0), (1.0, value)],
            });
            Ok(sample)
        };
        Report {
            machine: Machine::inspect(),
            date: "2025-01-01 00:00:00".to_owned(),
            command: "contention --map <papaya>".to_owned(),
            setup: Setup::default(),
            rounds: 2,
            groups: vec![Group {
                workload: Workload::ReadHeavy,
                threads: 2,
                rows: vec![
                    Row { map: "papaya", samples: vec![sample(10.0), sample(20.0)] },
                    Row { map: "flurry", samples: vec![sample(5.0), Err("it broke".to_owned())] },
                ],
            }],
        }
    }

    #[test]
    fn ratios_pair_samples_of_one_round() {
        let report = example();
        let group = &report.groups[0];
        let (papaya, flurry) = (&group.rows[0], &group.rows[1]);
        let ratio = flurry.ratio_to(papaya).expect("one round has both");
        assert_eq!(ratio.median, 0.5);
        assert_eq!(papaya.spread(0).expect("two rounds").median, 15.0);
        assert_eq!(flurry.failure(), Some("it broke"));
    }

    #[test]
    fn reports_name_the_machine_and_every_map() {
        let report = example();
        for text in [table(&report), html(&report), json(&report).to_string()] {
            for word in ["papaya", "flurry", "it broke", &report.machine.kernel] {
                assert!(text.contains(word), "{word} is missing");
            }
        }
        assert!(html(&report).contains("--map &lt;papaya&gt;"));
    }
}
