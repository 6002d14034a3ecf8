//! Which keys are asked for how often.

use crate::sizes::parse_curve;
use fastrand::Rng;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Draws ranks `0..count` with a probability proportional to `1 / (rank + 1)^exponent`.
///
/// Rejection-inversion (Hörmann and Derflinger, "Rejection-inversion to generate variates from monotone discrete
/// distributions", 1996): constant memory and, on average, fewer than 1.2 attempts per draw whatever the exponent and count.
#[derive(Clone, Debug)]
pub struct Zipf {
    count: f64,
    exponent: f64,
    /// `integral` at the two ends of the range that is drawn from.
    integral_low: f64,
    integral_high: f64,
    /// Distance below which a draw is accepted without computing the exact bound.
    shortcut: f64,
}

impl Zipf {
    /// A distribution over `count` ranks; `exponent` must be above 0.
    ///
    /// # Panics
    /// When `count` is 0 or `exponent` is not a positive number.
    pub fn new(count: u64, exponent: f64) -> Self {
        assert!(count > 0 && exponent > 0.0 && exponent.is_finite(), "Zipf needs ranks and a positive exponent");
        let mut zipf = Self { count: count as f64, exponent, integral_low: 0.0, integral_high: 0.0, shortcut: 0.0 };
        zipf.integral_low = zipf.integral(1.5) - 1.0;
        zipf.integral_high = zipf.integral(zipf.count + 0.5);
        zipf.shortcut = 2.0 - zipf.integral_inverse(zipf.integral(2.5) - zipf.density(2.0));
        zipf
    }

    /// Draws a rank; 0 is the most popular.
    pub fn draw(&self, rng: &mut Rng) -> u64 {
        loop {
            let area = self.integral_high + rng.f64() * (self.integral_low - self.integral_high);
            let x = self.integral_inverse(area);
            let rank = x.round().clamp(1.0, self.count);
            if rank - x <= self.shortcut || area >= self.integral(rank + 0.5) - self.density(rank) {
                return rank as u64 - 1;
            }
        }
    }

    fn density(&self, x: f64) -> f64 {
        (-self.exponent * x.ln()).exp()
    }

    /// Integral of the density from 1 to `x`; the logarithm where the exponent is 1.
    fn integral(&self, x: f64) -> f64 {
        let log = x.ln();
        exp_minus_one_over((1.0 - self.exponent) * log) * log
    }

    fn integral_inverse(&self, area: f64) -> f64 {
        // Rounding may push the argument below -1, where the logarithm ends.
        let scaled = (area * (1.0 - self.exponent)).max(-1.0);
        (log_one_plus_over(scaled) * area).exp()
    }
}

/// `(e^x - 1) / x`, also near 0.
fn exp_minus_one_over(x: f64) -> f64 {
    if x.abs() > 1e-8 { x.exp_m1() / x } else { 1.0 + x / 2.0 }
}

/// `ln(1 + x) / x`, also near 0.
fn log_one_plus_over(x: f64) -> f64 {
    if x.abs() > 1e-8 { x.ln_1p() / x } else { 1.0 - x / 2.0 }
}

/// Spreads ranks over key numbers, so that popular keys are no neighbours in the server's memory.
///
/// `rank -> rank * step mod count` with a step that shares no divisor with the count: every key is hit exactly once.
#[derive(Clone, Copy, Debug)]
pub struct Scatter {
    count: u64,
    step: u64,
}

impl Scatter {
    /// A permutation of `0..count`.
    ///
    /// # Panics
    /// When `count` is 0.
    pub fn new(count: u64) -> Self {
        assert!(count > 0, "nothing to scatter");
        // The golden ratio's step keeps neighbours far apart; a few steps further one without a common divisor turns up.
        let golden = (count as f64 * 0.618_033_988_749_894_9) as u64;
        let step = (golden.max(1)..).find(|step| greatest_common_divisor(*step, count) == 1).unwrap_or(1);
        Self { count, step }
    }

    /// The key that has this rank.
    pub fn key(&self, rank: u64) -> u64 {
        (u128::from(rank) * u128::from(self.step) % u128::from(self.count)) as u64
    }
}

fn greatest_common_divisor(mut a: u64, mut b: u64) -> u64 {
    while b > 0 {
        (a, b) = (b, a % b);
    }
    a
}

/// Which keys are asked for how often, as options say it.
#[derive(Clone, Debug, PartialEq)]
pub enum Skew {
    /// All alike.
    Uniform,
    /// Zipf with this exponent.
    Zipf(f64),
    /// A share of the keys gets a share of the requests, all alike among themselves, and the others the rest.
    HotSet {
        /// Share of the keys.
        keys: f64,
        /// Share of the requests.
        requests: f64,
    },
    /// Sets and adds write one key after another, round and round; the others prefer what was written last, by Zipf.
    Latest(f64),
    /// The share of all requests that go to the hottest so many keys, at some points, in ascending order.
    Curve(Vec<(f64, f64)>),
}

impl Skew {
    /// Reads `uniform`, `zipf:0.99`, `hot:0.2:0.8`, `latest:0.99` or `curve:1=0.07,100=0.3,10000=1`.
    ///
    /// # Errors
    /// Says what would have been understood.
    pub fn parse(text: &str) -> Result<Self, String> {
        if let Some(curve) = text.strip_prefix("curve:") {
            let points = parse_curve(curve)?;
            let sensible = points[0].0 >= 1.0 && points[0].1 > 0.0 && points[points.len() - 1].1 <= 1.0;
            let error = "a popularity curve goes from 1 key or more, and a share above 0, to a share of 1 at most";
            return if sensible { Ok(Self::Curve(points)) } else { Err(error.into()) };
        }
        let mut parts = text.split(':');
        let kind = parts.next().unwrap_or_default();
        let numbers: Option<Vec<f64>> = parts.map(|part| part.parse().ok()).collect();
        let exponent = |exponent: f64| (exponent > 0.0 && exponent <= 10.0).then_some(exponent);
        let share = |share: f64| share > 0.0 && share < 1.0;
        let skew = match (kind, numbers.as_deref()) {
            ("uniform", Some([])) => Some(Self::Uniform),
            ("zipf", Some([0.0])) => Some(Self::Uniform),
            ("zipf", Some([number])) => exponent(*number).map(Self::Zipf),
            ("latest", Some([number])) => exponent(*number).map(Self::Latest),
            ("hot", Some([keys, requests])) if share(*keys) && share(*requests) => {
                Some(Self::HotSet { keys: *keys, requests: *requests })
            }
            _ => None,
        };
        let expected = "uniform, zipf:EXPONENT, hot:KEY-SHARE:REQUEST-SHARE, latest:EXPONENT or curve:KEYS=SHARE,...";
        skew.ok_or_else(|| format!("expected {expected}, with exponents up to 10 and shares between 0 and 1"))
    }
}

impl std::fmt::Display for Skew {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Uniform => f.write_str("uniform"),
            Self::Zipf(exponent) => write!(f, "Zipf {exponent}"),
            Self::HotSet { keys, requests } => {
                write!(f, "{} % of the requests to {} % of the keys", requests * 100.0, keys * 100.0)
            }
            Self::Latest(exponent) => write!(f, "latest first (Zipf {exponent})"),
            Self::Curve(points) => write!(f, "a popularity curve of {} points", points.len()),
        }
    }
}

/// Chooses the key of a request.
#[derive(Clone, Debug)]
pub enum Popularity {
    /// Every key alike.
    Uniform {
        /// Number of keys.
        count: u64,
    },
    /// Few keys get most requests.
    Zipf {
        /// Distribution of the ranks.
        zipf: Zipf,
        /// Which key has which rank.
        scatter: Scatter,
    },
    /// Two sets of keys.
    HotSet {
        /// Hot keys.
        hot: u64,
        /// All keys.
        count: u64,
        /// Share of the requests that go to the hot ones.
        requests: f64,
        /// Which key has which rank.
        scatter: Scatter,
    },
    /// What was written last is read most.
    Latest {
        /// Distribution of the ages.
        zipf: Zipf,
        /// All keys.
        count: u64,
        /// Number of writes so far, of all threads.
        written: Arc<AtomicU64>,
    },
    /// As measured elsewhere.
    Curve {
        /// Share of the requests that go to the hottest so many keys; the last point is all of both.
        points: Arc<[(f64, f64)]>,
        /// Which key has which rank.
        scatter: Scatter,
    },
}

impl Popularity {
    /// Zipf with this exponent over `count` keys; uniform when it is 0.
    pub fn new(count: u64, exponent: f64) -> Self {
        Self::of(count, &if exponent == 0.0 { Skew::Uniform } else { Skew::Zipf(exponent) })
    }

    /// The skew over `count` keys. A curve is cut or stretched to them.
    pub fn of(count: u64, skew: &Skew) -> Self {
        let scatter = || Scatter::new(count);
        match skew {
            Skew::Uniform => Self::Uniform { count },
            Skew::Zipf(exponent) => Self::Zipf { zipf: Zipf::new(count, *exponent), scatter: scatter() },
            Skew::HotSet { keys, requests } => {
                let hot = ((count as f64 * keys) as u64).max(1);
                Self::HotSet { hot, count, requests: if hot == count { 1.0 } else { *requests }, scatter: scatter() }
            }
            Skew::Latest(exponent) => {
                Self::Latest { zipf: Zipf::new(count, *exponent), count, written: Arc::default() }
            }
            Skew::Curve(points) => Self::Curve { points: cut_curve(points, count as f64), scatter: scatter() },
        }
    }

    /// Draws a key number.
    #[inline]
    pub fn draw(&self, rng: &mut Rng) -> u64 {
        match self {
            Self::Uniform { count } => rng.u64(..*count),
            Self::Zipf { zipf, scatter } => scatter.key(zipf.draw(rng)),
            Self::HotSet { hot, count, requests, scatter } => {
                scatter.key(if rng.f64() < *requests { rng.u64(..*hot) } else { rng.u64(*hot..*count) })
            }
            Self::Latest { zipf, count, written } => {
                // Relaxed: a hint which key is new; nothing else is read on the strength of it.
                let next = written.load(Ordering::Relaxed) % count;
                (next + count - 1 - zipf.draw(rng)) % count
            }
            Self::Curve { points, scatter } => {
                let share = rng.f64();
                let above = points.partition_point(|(_, point)| *point <= share).min(points.len() - 1);
                let (low, share_low) = if above == 0 { (0.0, 0.0) } else { points[above - 1] };
                let (high, share_high) = points[above];
                // Between two points popularity falls like 1 / rank.
                let part = (share - share_low) / (share_high - share_low);
                let rank = if low < 1.0 { part * high } else { low * (high / low).powf(part) };
                scatter.key((rank as u64).min(high as u64 - 1))
            }
        }
    }

    /// Draws the number of a key to set or add: the next one where the latest are read most.
    #[inline]
    pub fn draw_written(&self, rng: &mut Rng) -> u64 {
        match self {
            // Relaxed: each number is handed out once, and nothing else is read on the strength of it.
            Self::Latest { count, written, .. } => written.fetch_add(1, Ordering::Relaxed) % count,
            _ => self.draw(rng),
        }
    }
}

/// Leaves out what lies beyond `count` keys, and scales the shares so that the last one is 1.
fn cut_curve(points: &[(f64, f64)], count: f64) -> Arc<[(f64, f64)]> {
    let mut cut: Vec<(f64, f64)> = points.iter().copied().filter(|(rank, _)| *rank < count).collect();
    let (low, share_low) = cut.last().copied().unwrap_or((0.0, 0.0));
    // The share at `count`, on the line in logarithms between its neighbours; beyond the last point all there is.
    let share = match points.get(cut.len()) {
        Some((high, share_high)) if low >= 1.0 => {
            share_low + (share_high - share_low) * (count / low).ln() / (high / low).ln()
        }
        Some((high, share_high)) => share_high * count / high,
        None => 1.0,
    };
    cut.push((count, share));
    cut.iter().map(|(rank, point)| (*rank, point / share)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Draws often and compares every rank's frequency with theory, within six standard deviations.
    fn check_zipf(count: u64, exponent: f64) {
        const DRAWS: u32 = 200_000;
        let zipf = Zipf::new(count, exponent);
        let mut rng = Rng::with_seed(1);
        let mut seen = vec![0_u32; count as usize];
        for _ in 0..DRAWS {
            seen[zipf.draw(&mut rng) as usize] += 1;
        }
        let weights: Vec<f64> = (1..=count).map(|rank| (rank as f64).powf(-exponent)).collect();
        let total: f64 = weights.iter().sum();
        for (rank, (&seen, weight)) in seen.iter().zip(weights).enumerate() {
            let share = weight / total;
            let expected = f64::from(DRAWS) * share;
            let deviation = (expected * (1.0 - share)).sqrt();
            let off = (f64::from(seen) - expected).abs();
            assert!(off <= 6.0 * deviation + 1.0, "rank {rank} of {count} at {exponent}: {seen} for {expected:.1}");
        }
    }

    #[test]
    fn zipf_frequencies_follow_theory() {
        for exponent in [0.3, 0.85, 0.99, 1.0, 1.01, 1.28, 2.68] {
            for count in [1, 2, 10, 500] {
                check_zipf(count, exponent);
            }
        }
    }

    #[test]
    fn zipf_stays_in_range_over_many_ranks() {
        let mut rng = Rng::with_seed(2);
        for exponent in [0.01, 0.99, 1.0, 3.0] {
            let zipf = Zipf::new(10_000_000_000, exponent);
            assert!((0..20_000).all(|_| zipf.draw(&mut rng) < 10_000_000_000));
        }
    }

    #[test]
    fn scatter_hits_every_key_once() {
        for count in [1, 2, 3, 10, 97, 1000, 4096] {
            let scatter = Scatter::new(count);
            let mut keys: Vec<u64> = (0..count).map(|rank| scatter.key(rank)).collect();
            keys.sort_unstable();
            assert!(keys.into_iter().eq(0..count), "{count} keys");
        }
    }

    #[test]
    fn uniform_draws_reach_both_ends() {
        let mut rng = Rng::with_seed(3);
        let popularity = Popularity::new(4, 0.0);
        let mut seen = [0; 4];
        for _ in 0..4000 {
            seen[popularity.draw(&mut rng) as usize] += 1;
        }
        assert!(seen.iter().all(|count| (800..1200).contains(count)), "{seen:?}");
    }
    /// How many of 100 000 draws fell on each rank; `rank_of` says which rank a key has.
    fn ranks(popularity: &Popularity, count: u64, rank_of: impl Fn(u64) -> u64) -> Vec<u32> {
        let mut rng = Rng::with_seed(4);
        let mut seen = vec![0; count as usize];
        (0..100_000).for_each(|_| seen[rank_of(popularity.draw(&mut rng)) as usize] += 1);
        seen
    }

    fn scattered_ranks(count: u64) -> impl Fn(u64) -> u64 {
        let scatter = Scatter::new(count);
        let ranks: std::collections::HashMap<u64, u64> = (0..count).map(|rank| (scatter.key(rank), rank)).collect();
        move |key| ranks[&key]
    }

    #[test]
    fn a_hot_set_gets_its_share() {
        let popularity = Popularity::of(1000, &Skew::HotSet { keys: 0.2, requests: 0.8 });
        let seen = ranks(&popularity, 1000, scattered_ranks(1000));
        let hot: u32 = seen[..200].iter().sum();
        assert!((79_000..81_000).contains(&hot), "{hot}");
        assert!(seen[..200].iter().all(|count| (280..520).contains(count)), "all alike");
    }

    #[test]
    fn the_latest_are_read_most_and_writes_go_round() {
        let popularity = Popularity::of(100, &Skew::Latest(0.99));
        let mut rng = Rng::with_seed(5);
        let written: Vec<u64> = (0..150).map(|_| popularity.draw_written(&mut rng)).collect();
        assert!(written.into_iter().eq((0..100).chain(0..50)));
        // Key 49 was written last, 48 before it, 50 longest ago.
        let seen = ranks(&popularity, 100, |key| (149 - key) % 100);
        let ratio = f64::from(seen[0]) / f64::from(seen[9]);
        assert!((9.0..11.0).contains(&ratio), "{ratio} for 10^0.99");
        assert!(seen[0] > seen[1] && seen[99] > 0, "{seen:?}");
    }

    #[test]
    fn a_curve_gives_the_hottest_keys_their_shares() {
        let points = vec![(1.0, 0.066), (100.0, 0.294), (10_000.0, 0.565), (1_000_000.0, 0.865)];
        let whole = Popularity::of(10_000, &Skew::Curve(points));
        let seen = ranks(&whole, 10_000, scattered_ranks(10_000));
        let share = |keys: usize| f64::from(seen[..keys].iter().sum::<u32>()) / 100_000.0;
        for (keys, expected) in [(1, 0.066), (100, 0.294), (10_000, 0.565)] {
            assert!((share(keys) - expected / 0.565).abs() < 0.01, "{keys} keys: {}", share(keys));
        }
        // Beyond its last point a curve has the rest.
        let beyond = Popularity::of(1000, &Skew::Curve(vec![(10.0, 0.5)]));
        let seen = ranks(&beyond, 1000, scattered_ranks(1000));
        let hottest: u32 = seen[..10].iter().sum();
        assert!((49_000..51_000).contains(&hottest) && seen[999] < 100, "{hottest}");
    }

    #[test]
    fn skews_are_read_and_described() {
        for (text, words) in [
            ("uniform", "uniform"),
            ("zipf:0", "uniform"),
            ("zipf:0.99", "Zipf 0.99"),
            ("hot:0.2:0.8", "80 % of the requests to 20 % of the keys"),
            ("latest:1.1", "latest first (Zipf 1.1)"),
        ] {
            assert_eq!(Skew::parse(text).unwrap().to_string(), words);
        }
        for text in [
            "",
            "zipf",
            "zipf:-1",
            "zipf:NaN",
            "zipf:11",
            "hot:0.2",
            "hot:0:1",
            "hot:1.2:0.5",
            "latest:0",
            "curve:1=2",
            "curve:0=0.1,5=1",
            "curve:1=0.5,9=1.5",
        ] {
            assert!(Skew::parse(text).is_err(), "{text}");
        }
    }
}
