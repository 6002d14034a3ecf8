//! When requests are due, in an open loop: the schedule does not wait for the server.

use fastrand::Rng;
use std::time::{Duration, Instant};

/// How the times between requests are distributed.
#[derive(Clone, Copy, Debug, Eq, PartialEq, clap::ValueEnum)]
pub enum Arrivals {
    /// All gaps alike
    Constant,
    /// Exponential gaps: many independent clients
    Exponential,
    /// Generalised Pareto gaps of shape 0.155: Facebook's ETC pool, burstier than exponential ones
    Etc,
}

/// Shape of the gaps between requests to a server of Facebook's ETC pool: generalised Pareto with location 0, scale 16.0292 µs
/// and this shape (Atikoglu et al., SIGMETRICS 2012). The rate replaces the scale; there it makes 52.7 k requests/s.
const ETC_SHAPE: f64 = 0.154971;

/// A rate to keep, whatever the server does.
#[derive(Clone, Copy, Debug)]
pub struct Rate {
    /// Requests per second, over all threads.
    pub requests_per_s: f64,
    /// Distribution of the gaps.
    pub arrivals: Arrivals,
    /// Where random gaps begin.
    pub seed: u64,
}

impl Rate {
    /// The part of the rate that worker `index` of `workers` keeps, beginning at `start`.
    pub(crate) fn share(self, index: usize, workers: usize, start: Instant) -> Schedule {
        let gap_ns = workers as f64 * 1e9 / self.requests_per_s;
        let rng = Rng::with_seed(self.seed ^ (index as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15));
        // Constant gaps of several workers interleave.
        let mut schedule =
            Schedule { start, next_ns: gap_ns * index as f64 / workers as f64, gap_ns, arrivals: self.arrivals, rng };
        if self.arrivals != Arrivals::Constant {
            schedule.next_ns = 0.0;
            schedule.advance();
        }
        schedule
    }
}

/// The due times of one worker's requests.
#[derive(Clone, Debug)]
pub(crate) struct Schedule {
    start: Instant,
    /// Due time of the next request, since `start`. As a float it stays exact to a nanosecond for a hundred days.
    next_ns: f64,
    gap_ns: f64,
    arrivals: Arrivals,
    rng: Rng,
}

impl Schedule {
    /// When the next request is due.
    pub(crate) fn next(&self) -> Instant {
        self.start + Duration::from_nanos(self.next_ns as u64)
    }

    /// Goes on to the request after it.
    pub(crate) fn advance(&mut self) {
        self.next_ns += match self.arrivals {
            Arrivals::Constant => self.gap_ns,
            // 1 - f64() lies in (0, 1]: its logarithm and its powers are finite.
            Arrivals::Exponential => -(1.0 - self.rng.f64()).ln() * self.gap_ns,
            // The mean of the distribution is scale / (1 - shape).
            Arrivals::Etc => {
                let scale_ns = self.gap_ns * (1.0 - ETC_SHAPE);
                scale_ns * ((1.0 - self.rng.f64()).powf(-ETC_SHAPE) - 1.0) / ETC_SHAPE
            }
        };
    }

    /// Requests due before `end` that have not been taken; with random gaps, as many as are to be expected.
    pub(crate) fn count_until(&self, end: Instant) -> u64 {
        let left_ns = end.saturating_duration_since(self.start).as_nanos() as f64 - self.next_ns;
        if left_ns > 0.0 { (left_ns / self.gap_ns).ceil() as u64 } else { 0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn due_us(rate: Rate, index: usize, workers: usize, count: usize) -> Vec<u64> {
        let start = Instant::now();
        let mut schedule = rate.share(index, workers, start);
        let mut next = || {
            let due = schedule.next().duration_since(start).as_micros() as u64;
            schedule.advance();
            due
        };
        (0..count).map(|_| next()).collect()
    }

    #[test]
    fn constant_gaps_interleave_over_workers() {
        let rate = Rate { requests_per_s: 1000.0, arrivals: Arrivals::Constant, seed: 1 };
        assert_eq!(due_us(rate, 0, 1, 4), [0, 1000, 2000, 3000]);
        assert_eq!(due_us(rate, 0, 2, 3), [0, 2000, 4000]);
        assert_eq!(due_us(rate, 1, 2, 3), [1000, 3000, 5000]);
    }

    #[test]
    fn exponential_gaps_have_the_mean_and_the_spread_of_their_kind() {
        let rate = Rate { requests_per_s: 1000.0, arrivals: Arrivals::Exponential, seed: 7 };
        let due = due_us(rate, 0, 1, 100_001);
        let gaps: Vec<f64> = due.windows(2).map(|pair| (pair[1] - pair[0]) as f64).collect();
        let mean = gaps.iter().sum::<f64>() / gaps.len() as f64;
        let longer = gaps.iter().filter(|gap| **gap > 1000.0).count() as f64 / gaps.len() as f64;
        assert!((mean - 1000.0).abs() < 20.0, "mean gap {mean} us");
        assert!((longer - (-1_f64).exp()).abs() < 0.01, "share above the mean {longer}");
    }

    #[test]
    fn gaps_of_the_etc_pool_have_the_published_quantiles() {
        // At the published scale: 16.0292 us / (1 - 0.154971) is the mean gap.
        let mean_us = 16.0292 / (1.0 - ETC_SHAPE);
        // A thousandfold, for resolution.
        let rate = Rate { requests_per_s: 1e3 / mean_us, arrivals: Arrivals::Etc, seed: 7 };
        let due = due_us(rate, 0, 1, 200_001);
        let mut gaps: Vec<f64> = due.windows(2).map(|pair| (pair[1] - pair[0]) as f64 / 1000.0).collect();
        gaps.sort_by(f64::total_cmp);
        let mean = gaps.iter().sum::<f64>() / gaps.len() as f64;
        assert!((mean / mean_us - 1.0).abs() < 0.02, "mean gap {mean} us");
        // Quantiles of the distribution, computed elsewhere.
        for (share, gap_us) in [(0.5, 11.73), (0.9, 44.35), (0.99, 107.71)] {
            let seen = gaps[(gaps.len() as f64 * share) as usize];
            assert!((seen / gap_us - 1.0).abs() < 0.03, "{seen} for {gap_us} at {share}");
        }
    }

    #[test]
    fn what_was_never_sent_can_be_counted() {
        let start = Instant::now();
        let rate = Rate { requests_per_s: 100.0, arrivals: Arrivals::Constant, seed: 1 };
        let mut schedule = rate.share(0, 1, start);
        schedule.advance();
        assert_eq!(schedule.count_until(start + Duration::from_secs(1)), 99);
        assert_eq!(schedule.count_until(start), 0);
    }
}
