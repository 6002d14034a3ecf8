//! `sweep`: at which rate does a latency objective break?
//!
//! Every point is an open loop of its own: the rate is due whatever the server does, so a server that cannot follow shows it as
//! latency. The rate grows by a factor until the objective breaks, and then the gap between the last rate that held and the
//! first that did not is halved (in ratio) a few times. The knee is the highest rate that held, with all lower ones.
//!
//! One unlucky moment of the machine must not end the search: a rate that does not hold is tried again, and of up to three tries
//! the majority decides. A point shows the try in the middle.

use crate::driver::Io;
use crate::error::{EXIT_INTERRUPTED, EXIT_OK, EXIT_UNAVAILABLE, EXIT_WRONG_ANSWERS, Error};
use crate::fleet::{Fleet, Pace};
use crate::load::Load;
use crate::progress::{Goal, Progress};
use crate::record::Fault;
use crate::run::{Phase, run_mark, serialize_debug, serialize_display};
use crate::schedule::{Arrivals, Rate};
use crate::target::Target;
use crate::units::{counted, parse_duration, short};
use crate::worker::Ended;
use crate::workload::Draws;
use hdrhistogram::Histogram;
use serde::Serialize;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

/// Share of the offered rate that must be answered for a point to hold.
const KEPT_MIN: f64 = 0.97;
/// The client's own lateness at the objective's percentile, as a share of the objective, above which it is suspected.
const CLIENT_LATE_MAX: f64 = 0.5;

/// A bound for a figure of the latency.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Objective {
    figure: Figure,
    limit: Duration,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Figure {
    Mean,
    /// The share of requests that must be within the limit.
    Quantile(f64),
}

impl Objective {
    /// Reads `p99.9<1ms`, `mean<200us` or `max<10ms`.
    ///
    /// # Errors
    /// Says what would have been understood.
    pub fn parse(text: &str) -> Result<Self, String> {
        let expected = || format!("{text:?}: expected an objective as in p99.9<1ms, mean<200us or max<10ms");
        let (figure, limit) = text.split_once('<').ok_or_else(expected)?;
        let percentile = |text: &str| text.parse().ok().filter(|percent: &f64| (0.0..100.0).contains(percent));
        let figure = match figure.trim() {
            "mean" => Figure::Mean,
            "max" => Figure::Quantile(1.0),
            other => {
                let percent = other.strip_prefix('p').and_then(percentile).ok_or_else(expected)?;
                Figure::Quantile(percent / 100.0)
            }
        };
        Ok(Self { figure, limit: parse_duration(limit.trim())? })
    }

    fn measure_us(self, latency_ns: &Histogram<u64>) -> f64 {
        match self.figure {
            Figure::Mean => latency_ns.mean() / 1000.0,
            Figure::Quantile(quantile) => latency_ns.value_at_quantile(quantile) as f64 / 1000.0,
        }
    }

    fn limit_us(self) -> f64 {
        self.limit.as_secs_f64() * 1e6
    }
}

impl fmt::Display for Objective {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.figure {
            Figure::Mean => f.write_str("mean")?,
            Figure::Quantile(1.0) => f.write_str("max")?,
            // Rounded, because 0.999 * 100 is not quite 99.9.
            Figure::Quantile(quantile) => write!(f, "p{}", (quantile * 1e8).round() / 1e6)?,
        }
        write!(f, " < {:?}", self.limit)
    }
}

/// A checked `sweep`.
#[derive(Clone, Debug)]
pub struct SweepPlan {
    /// The server.
    pub target: Target,
    /// The requests.
    pub load: Load,
    /// What must hold.
    pub objective: Objective,
    /// Distribution of the gaps between requests.
    pub arrivals: Arrivals,
    /// First and highest rate, in requests per second.
    pub rates: (f64, f64),
    /// Factor from one rate to the next, above 1.
    pub growth: f64,
    /// How often the gap around the knee is halved.
    pub refinements: usize,
    /// How long each rate is kept.
    pub duration: Duration,
    /// Most tries of a rate that does not hold, an odd number: the majority decides.
    pub tries: usize,
    /// Whether to write every key first.
    pub fill: bool,
}

/// One rate.
#[derive(Clone, Debug, Serialize)]
pub struct Point {
    /// Requests per second that were due.
    pub offered: f64,
    /// Whether the objective held and the rate was kept, in most tries.
    pub held: bool,
    /// The figure that the objective bounds, of the try in the middle.
    pub objective_us: f64,
    /// Whether the client itself may have been the limit, in that try.
    pub client_limited: bool,
    /// Everything else about that try.
    pub phase: Phase,
    /// All tries, in the order in which they were made.
    pub tries: Vec<Try>,
    /// Errors of all tries by kind.
    pub errors: BTreeMap<Fault, u64>,
    /// Answers among the errors that no correct server gives.
    pub wrong_answers: u64,
}

/// One try of a rate.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Try {
    /// The figure that the objective bounds.
    pub objective_us: f64,
    /// Requests per second that were answered.
    pub answered: f64,
    /// Whether the objective held and the rate was kept.
    pub held: bool,
}

/// What a `sweep` found.
#[derive(Clone, Debug, Serialize)]
pub struct SweepReport {
    /// The server.
    pub server: String,
    /// The requests in words.
    pub workload: String,
    /// What had to hold.
    pub objective: String,
    /// Its limit.
    pub objective_limit_us: f64,
    /// Client threads.
    pub threads: usize,
    /// Connections.
    pub connections: usize,
    /// How the client talked to the system.
    #[serde(serialize_with = "serialize_display")]
    pub io: Io,
    /// Seconds of each try.
    pub seconds_per_point: f64,
    /// Most tries of a rate that does not hold.
    pub tries_max: usize,
    /// The rates, ascending.
    pub points: Vec<Point>,
    /// Highest rate that held, with all lower ones.
    pub knee: Option<f64>,
    /// Lowest rate that did not hold.
    pub broke_at: Option<f64>,
    /// Why it ended.
    #[serde(serialize_with = "serialize_debug")]
    pub ended: Ended,
}

/// Which rate to try next.
#[derive(Debug)]
struct Search {
    next: f64,
    highest: f64,
    growth: f64,
    refinements: usize,
    held: Option<f64>,
    broke: Option<f64>,
}

impl Search {
    /// Learns how `next` went and says whether there is another one.
    fn learn(&mut self, held: bool) -> bool {
        if held {
            self.held = Some(self.next);
        } else {
            self.broke = Some(self.next);
        }
        self.next = match (self.held, self.broke) {
            (Some(held), None) if held < self.highest => (held * self.growth).min(self.highest),
            (Some(held), Some(broke)) if self.refinements > 0 => {
                self.refinements -= 1;
                (held * broke).sqrt()
            }
            _ => return false,
        };
        true
    }
}

/// Carries out a `sweep`. A server that dies on the way is not an error here: the report says what there was until then.
///
/// # Errors
/// When the server cannot be reached at all, or the system fails.
pub fn sweep(plan: &SweepPlan, quiet: bool, stop: &AtomicBool) -> Result<SweepReport, Error> {
    let load = &plan.load;
    let mut fleet = Fleet::connect(&plan.target, load.shape, &load.items, run_mark(), load.books_by_key())?;
    let threads = load.shape.threads;
    let mut report = SweepReport {
        server: plan.target.to_string(),
        workload: load.description.clone(),
        objective: plan.objective.to_string(),
        objective_limit_us: plan.objective.limit_us(),
        threads,
        connections: load.shape.connections,
        io: fleet.io(),
        seconds_per_point: plan.duration.as_secs_f64(),
        tries_max: plan.tries,
        points: Vec::new(),
        knee: None,
        broke_at: None,
        ended: Ended::Done,
    };
    let mut pace = Pace {
        duration: Some(plan.duration),
        rate: None,
        depth: load.depth,
        patience: load.patience,
        strict: false,
        stop,
    };
    if plan.fill {
        let mut progress = Progress::new("fill", Goal::Requests(load.fill_total()), quiet);
        let driven = fleet.fill(load.keys, &load.mix, pace, &mut |totals| progress.show(totals))?;
        report.ended = driven.ended;
        pace.strict = driven.record.sets == load.fill_total();
    }
    fleet.churn(load.requests_per_connection);
    let mut draws: Vec<Draws> =
        (0..threads as u64).map(|thread| Draws::new(load.mix.clone(), load.seed.wrapping_add(thread))).collect();
    let mut search = Search {
        next: plan.rates.0,
        highest: plan.rates.1,
        growth: plan.growth,
        refinements: plan.refinements,
        held: None,
        broke: None,
    };
    while report.ended == Ended::Done {
        let offered = search.next;
        let mut tries = Vec::new();
        while report.ended == Ended::Done && !decided(&tries, plan.tries) {
            let name = match tries.len() {
                0 => format!("{}/s", short(offered)),
                tries => format!("{}/s, try {}", short(offered), tries + 1),
            };
            let mut progress = Progress::new(name, Goal::Time(plan.duration), quiet);
            let seed = load.seed.wrapping_add(tries.len() as u64);
            pace.rate = Some(Rate { requests_per_s: offered, arrivals: plan.arrivals, seed });
            let driven = fleet.drive(&mut draws, pace, &mut |totals| progress.show(totals))?;
            report.ended = driven.ended;
            tries.push(judge(plan, offered, Phase::of(&driven, threads)));
        }
        let point = Point::of(offered, tries);
        let held = point.held;
        report.points.push(point);
        if !search.learn(held) {
            break;
        }
    }
    report.points.sort_by(|a, b| a.offered.total_cmp(&b.offered));
    report.io = fleet.io();
    (report.knee, report.broke_at) = (search.held, search.broke);
    Ok(report)
}

/// A try with all its figures.
#[derive(Debug)]
struct Judged {
    verdict: Try,
    client_limited: bool,
    phase: Phase,
}

fn judge(plan: &SweepPlan, offered: f64, phase: Phase) -> Judged {
    let objective_us = plan.objective.measure_us(&phase.latency_ns);
    // With random gaps the number of requests that are due varies by its root; so few are no verdict.
    let due = offered * plan.duration.as_secs_f64();
    let kept = (phase.requests as f64 + 4.0 * due.sqrt()) / due >= KEPT_MIN;
    let late_us = plan.objective.measure_us(&phase.sent_late_ns);
    let held = kept && objective_us < plan.objective.limit_us() && phase.requests > 0;
    Judged {
        verdict: Try { objective_us, answered: phase.requests_per_s, held },
        client_limited: phase.client_was_the_limit() || late_us > plan.objective.limit_us() * CLIENT_LATE_MAX,
        phase,
    }
}

/// Whether further tries can change nothing. One that holds at once is believed; else the majority of `tries_max` counts.
fn decided(tries: &[Judged], tries_max: usize) -> bool {
    let held = tries.iter().filter(|judged| judged.verdict.held).count();
    let broken = tries.len() - held;
    let majority = tries_max / 2 + 1;
    (held > 0 && broken == 0) || held >= majority || broken >= majority
}

impl Point {
    /// Sums up the tries of a rate; there is at least one.
    fn of(offered: f64, mut judged: Vec<Judged>) -> Self {
        let tries: Vec<Try> = judged.iter().map(|judged| judged.verdict).collect();
        let mut errors = BTreeMap::new();
        let phases = judged.iter().map(|judged| &judged.phase);
        phases
            .clone()
            .flat_map(|phase| &phase.errors)
            .for_each(|(fault, count)| *errors.entry(*fault).or_default() += count);
        let wrong_answers = phases.map(|phase| phase.wrong_answers).sum();
        // Those that held first: the one in the middle is of the majority then.
        let order = |judged: &Judged| (!judged.verdict.held, judged.verdict.objective_us);
        judged.sort_by(|a, b| {
            let ((a_broke, a_us), (b_broke, b_us)) = (order(a), order(b));
            a_broke.cmp(&b_broke).then(a_us.total_cmp(&b_us))
        });
        let middle = judged.swap_remove((judged.len() - 1) / 2);
        Self {
            offered,
            held: middle.verdict.held,
            objective_us: middle.verdict.objective_us,
            client_limited: middle.client_limited,
            phase: middle.phase,
            tries,
            errors,
            wrong_answers,
        }
    }

    /// What has come of it, in words.
    fn outcome(&self) -> String {
        let held = self.tries.iter().filter(|each| each.held).count();
        let tries = self.tries.len();
        match (self.held, tries) {
            (true, 1) => "held".into(),
            (false, 1) => "BROKE".into(),
            (true, _) => format!("held in {held} of {tries} tries"),
            (false, _) => format!("BROKE in {} of {tries} tries", tries - held),
        }
    }
}

impl SweepReport {
    /// The status that the process should end with.
    pub fn exit_code(&self) -> u8 {
        match self.ended {
            _ if self.points.iter().any(|point| point.wrong_answers > 0) => EXIT_WRONG_ANSWERS,
            Ended::AllConnectionsLost | Ended::Stalled => EXIT_UNAVAILABLE,
            Ended::Stopped => EXIT_INTERRUPTED,
            Ended::Done => EXIT_OK,
        }
    }

    /// What the sweep allows to say.
    pub fn verdict(&self) -> String {
        let objective = &self.objective;
        let verdict = match (self.knee, self.broke_at) {
            (Some(knee), Some(broke)) => {
                format!("{objective} holds up to {} requests/s and breaks at {}", short(knee), short(broke))
            }
            (Some(knee), None) => format!("{objective} holds up to {} requests/s, the highest rate tried", short(knee)),
            (None, Some(broke)) => format!("{objective} does not hold even at {} requests/s", short(broke)),
            (None, None) => "nothing was measured".into(),
        };
        let broken = self.points.iter().find(|point| Some(point.offered) == self.broke_at);
        let client = broken.is_some_and(|point| point.client_limited);
        if client { format!("{verdict}; THE CLIENT ITSELF MAY HAVE BEEN THE LIMIT there") } else { verdict }
    }
}

impl fmt::Display for SweepReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "server      {}", self.server)?;
        writeln!(f, "workload    {}", self.workload)?;
        writeln!(
            f,
            "client      {} on {}, by {}, open loop",
            counted(self.connections, "connection"),
            counted(self.threads, "thread"),
            self.io
        )?;
        writeln!(f, "objective   {}, {:.1} s at each rate", self.objective, self.seconds_per_point)?;
        if self.tries_max > 1 {
            writeln!(
                f,
                "            a rate that breaks is tried up to {} times: most tries decide, the middle one is shown",
                self.tries_max
            )?;
        }
        writeln!(f, "\nlatency in us, from the time the request was due to the answer")?;
        for column in ["offered/s", "answered/s", "objective", "p50", "p99", "p99.9", "max", "hits %", "client %"] {
            write!(f, "{column:>11}")?;
        }
        writeln!(f)?;
        for point in &self.points {
            let phase = &point.phase;
            write!(f, "{:>11}{:>11}", short(point.offered), short(phase.requests_per_s))?;
            write!(f, "{:>11.1}", point.objective_us)?;
            for quantile in [0.5, 0.99, 0.999, 1.0] {
                write!(f, "{:>11.1}", phase.latency_ns.value_at_quantile(quantile) as f64 / 1000.0)?;
            }
            write!(f, "{:>11}", phase.hit_ratio.map_or("-".into(), |ratio| format!("{:.2}", ratio * 100.0)))?;
            write!(f, "{:>11.0}", phase.client_busy * 100.0)?;
            let knee = if Some(point.offered) == self.knee { "  <- knee" } else { "" };
            let suspect = if point.client_limited { " (client late or busy)" } else { "" };
            writeln!(f, "  {}{suspect}{knee}", point.outcome())?;
        }
        for point in &self.points {
            for (fault, count) in &point.errors {
                writeln!(f, "errors      {} at {} requests/s", fault.counted(*count), short(point.offered))?;
            }
        }
        if self.points.iter().all(|point| point.errors.is_empty()) {
            writeln!(f, "errors      none; every value read was one that was written to its key")?;
        }
        writeln!(f, "\nverdict     {}", self.verdict())?;
        if self.ended != Ended::Done {
            let why = match self.ended {
                Ended::Stopped => "stopped early",
                Ended::AllConnectionsLost => "THE SERVER WENT AWAY",
                _ => "THE SERVER STOPPED ANSWERING",
            };
            writeln!(f, "            {why}: the points cover what was done until then")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fleet::Driven;
    use crate::record::Record;

    #[test]
    fn objectives_are_read_and_measured() {
        let mut latency = Histogram::new(3).unwrap();
        (1..=1000_u64).for_each(|us| latency.record(us * 1000).unwrap());
        for (text, words, measured) in [
            ("p99.9<1ms", "p99.9 < 1ms", 999.0),
            ("p50 < 200us", "p50 < 200µs", 500.0),
            ("mean<1s", "mean < 1s", 500.5),
            ("max<10ms", "max < 10ms", 1000.0),
        ] {
            let objective = Objective::parse(text).unwrap();
            assert_eq!(objective.to_string(), words);
            let seen = objective.measure_us(&latency);
            assert!((seen / measured - 1.0).abs() < 0.002, "{text}: {seen}");
        }
        for text in ["", "p99", "p100<1ms", "p-1<1ms", "median<1ms", "p99<", "p99<0"] {
            assert!(Objective::parse(text).is_err(), "{text}");
        }
    }

    /// A try with this figure, on which the verdict depends alone.
    fn judged(objective_us: f64, held: bool) -> Judged {
        let driven = Driven { ended: Ended::Done, elapsed: Duration::from_secs(1), record: Record::default() };
        let verdict = Try { objective_us, answered: 1000.0, held };
        Judged { verdict, client_limited: false, phase: Phase::of(&driven, 1) }
    }

    /// The tries that are made when they turn out like this, and what comes of them.
    fn tried(outcomes: &[(f64, bool)], tries_max: usize) -> (usize, Point) {
        let mut tries = Vec::new();
        while !decided(&tries, tries_max) {
            let (objective_us, held) = outcomes[tries.len()];
            tries.push(judged(objective_us, held));
        }
        (tries.len(), Point::of(1000.0, tries))
    }

    #[test]
    fn one_unlucky_try_breaks_no_rate() {
        let (good, bad) = ((500.0, true), (3000.0, false));
        let cases = [
            (vec![good], 3, "held", 500.0),
            (vec![bad, good, (700.0, true)], 3, "held in 2 of 3 tries", 700.0),
            (vec![bad, good, (4000.0, false)], 3, "BROKE in 2 of 3 tries", 3000.0),
            (vec![bad, (2000.0, false)], 3, "BROKE in 2 of 2 tries", 2000.0),
            (vec![bad], 1, "BROKE", 3000.0),
            (vec![bad, good, bad, good, good], 5, "held in 3 of 5 tries", 500.0),
        ];
        for (outcomes, tries_max, words, objective_us) in cases {
            let (tries, point) = tried(&outcomes, tries_max);
            assert_eq!((tries, &*point.outcome(), point.objective_us), (outcomes.len(), words, objective_us));
            assert_eq!(point.held, words.starts_with("held"));
        }
    }

    #[test]
    fn wrong_answers_of_every_try_count() {
        let mut wrong = Record::default();
        wrong.fault(Fault::StaleValue, 2);
        let driven = Driven { ended: Ended::Done, elapsed: Duration::from_secs(1), record: wrong };
        let bad = Judged { phase: Phase::of(&driven, 1), ..judged(9000.0, false) };
        let point = Point::of(1000.0, vec![bad, judged(1.0, true), judged(2.0, true)]);
        assert_eq!((point.wrong_answers, point.errors), (2, [(Fault::StaleValue, 2)].into()));
        assert_eq!(point.phase.wrong_answers, 0, "another try is shown");
    }

    /// The rates tried on a server that holds up to a capacity, and what was found.
    fn search(capacity: f64, highest: f64) -> (Vec<f64>, Option<f64>, Option<f64>) {
        let mut search = Search { next: 1000.0, highest, growth: 2.0, refinements: 4, held: None, broke: None };
        let mut tried = Vec::new();
        loop {
            tried.push(search.next.round());
            if !search.learn(search.next <= capacity) {
                return (tried, search.held, search.broke);
            }
        }
    }

    #[test]
    fn the_search_closes_in_on_the_knee() {
        let (tried, held, broke) = search(5000.0, 1e9);
        assert_eq!(tried[..4], [1000.0, 2000.0, 4000.0, 8000.0]);
        assert_eq!(tried.len(), 8);
        let (held, broke) = (held.unwrap(), broke.unwrap());
        assert!(held <= 5000.0 && broke > 5000.0 && broke / held < 1.05, "{held} {broke}");
        assert_eq!(search(500.0, 1e9), (vec![1000.0], None, Some(1000.0)));
        assert_eq!(search(1e9, 3000.0), (vec![1000.0, 2000.0, 3000.0], Some(3000.0), None));
    }
}
