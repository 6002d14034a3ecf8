//! Which keys are asked for how often.

use fastrand::Rng;

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
}

impl Popularity {
    /// Zipf with this exponent over `count` keys; uniform when it is 0.
    pub fn new(count: u64, exponent: f64) -> Self {
        if exponent == 0.0 {
            Self::Uniform { count }
        } else {
            Self::Zipf { zipf: Zipf::new(count, exponent), scatter: Scatter::new(count) }
        }
    }

    /// Draws a key number.
    #[inline]
    pub fn draw(&self, rng: &mut Rng) -> u64 {
        match self {
            Self::Uniform { count } => rng.u64(..*count),
            Self::Zipf { zipf, scatter } => scatter.key(zipf.draw(rng)),
        }
    }
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
}
