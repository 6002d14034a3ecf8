//! One line that says how far a phase has come: redrawn on a terminal, printed now and then elsewhere.

use crate::record::LiveTotals;
use crate::units::{counted, short};
use indicatif::{ProgressBar, ProgressStyle};
use std::io::{IsTerminal as _, stderr};
use std::time::{Duration, Instant};

/// Time between two lines where there is no terminal.
const PLAIN_INTERVAL: Duration = Duration::from_secs(2);

/// Shows the progress of a phase on stderr.
#[derive(Debug)]
pub struct Progress {
    phase: String,
    goal: Goal,
    shown: Shown,
    start: Instant,
    last: (Instant, LiveTotals),
}

/// When the phase is over.
#[derive(Clone, Copy, Debug)]
pub enum Goal {
    /// After so many requests.
    Requests(u64),
    /// After so many keys have been asked for.
    Lookups(u64),
    /// After so long.
    Time(Duration),
}

#[derive(Debug)]
enum Shown {
    Nowhere,
    Bar(ProgressBar),
    Lines,
}

impl Progress {
    /// Begins a phase. `quiet` shows nothing.
    pub fn new(phase: impl Into<String>, goal: Goal, quiet: bool) -> Self {
        let now = Instant::now();
        let shown = if quiet {
            Shown::Nowhere
        } else if stderr().is_terminal() {
            let bar = ProgressBar::new(1000);
            if let Ok(style) = ProgressStyle::with_template("{prefix:>10} [{bar:30}] {percent:>3} %  {msg}") {
                bar.set_style(style.progress_chars("=> "));
            }
            Shown::Bar(bar)
        } else {
            Shown::Lines
        };
        Self { phase: phase.into(), goal, shown, start: now, last: (now, LiveTotals::default()) }
    }

    /// Shows new counters.
    pub fn show(&mut self, totals: LiveTotals) {
        let (last_time, last) = self.last;
        let since = last_time.elapsed();
        let due = match self.shown {
            Shown::Nowhere => false,
            Shown::Bar(_) => since > Duration::from_millis(100),
            Shown::Lines => since > PLAIN_INTERVAL,
        };
        if !due {
            return;
        }
        self.last = (Instant::now(), totals);
        let done = match self.goal {
            Goal::Requests(goal) => totals.requests as f64 / goal.max(1) as f64,
            Goal::Lookups(goal) => (totals.hits + totals.misses) as f64 / goal.max(1) as f64,
            Goal::Time(goal) => self.start.elapsed().as_secs_f64() / goal.as_secs_f64(),
        };
        let text = describe(last, totals, since);
        match &self.shown {
            Shown::Bar(bar) => {
                bar.set_prefix(self.phase.clone());
                bar.set_message(text);
                bar.set_position((done.min(1.0) * 1000.0) as u64);
            }
            Shown::Lines => eprintln!("{}: {:.0} %, {text}", self.phase, done.min(1.0) * 100.0),
            Shown::Nowhere => {}
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Shown::Bar(bar) = &self.shown {
            bar.finish_and_clear();
        }
    }
}

/// What happened between two looks.
fn describe(before: LiveTotals, now: LiveTotals, elapsed: Duration) -> String {
    let rate = now.requests.saturating_sub(before.requests) as f64 / elapsed.as_secs_f64();
    let mut text = format!("{} requests/s", short(rate));
    let keys = (now.hits + now.misses).saturating_sub(before.hits + before.misses);
    if keys > 0 {
        let hits = now.hits.saturating_sub(before.hits);
        text += &format!(", {:.1} % hits", 100.0 * hits as f64 / keys as f64);
    }
    if now.faults > 0 {
        text += &format!(", {}", counted(now.faults, "error"));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_speaks_of_the_last_interval() {
        let before = LiveTotals { requests: 100, hits: 50, misses: 50, faults: 0 };
        let now = LiveTotals { requests: 300, hits: 200, misses: 100, faults: 0 };
        let second = Duration::from_secs(1);
        assert_eq!(describe(before, now, second), "200 requests/s, 75.0 % hits");
        let faulty = LiveTotals { faults: 3, ..now };
        assert_eq!(describe(now, faulty, second), "0 requests/s, 3 errors");
    }
}
