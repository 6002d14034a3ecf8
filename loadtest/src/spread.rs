//! Medians and how far the slices lie apart.

use serde::Serialize;

/// A set of measurements in four numbers.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Spread {
    /// Smallest measurement.
    pub min: f64,
    /// Middle one, or the mean of the two in the middle.
    pub median: f64,
    /// Largest measurement.
    pub max: f64,
    /// Interval that holds the true median with 95 % confidence or a little more, if there are enough measurements.
    pub median_interval: Option<(f64, f64)>,
}

impl Spread {
    /// Summarises measurements; `None` when there are none.
    pub fn of(measurements: impl IntoIterator<Item = f64>) -> Option<Self> {
        let mut sorted: Vec<f64> = measurements.into_iter().collect();
        sorted.sort_unstable_by(f64::total_cmp);
        let (min, max) = (*sorted.first()?, *sorted.last()?);
        let middle = sorted.len() / 2;
        let median = if sorted.len() % 2 == 1 { sorted[middle] } else { (sorted[middle - 1] + sorted[middle]) / 2.0 };
        let rank = interval_rank(sorted.len());
        let median_interval = rank.map(|rank| (sorted[rank], sorted[sorted.len() - 1 - rank]));
        Some(Self { min, median, max, median_interval })
    }
}

/// How many measurements may be left out at each end so that those between still hold the median with 95 % confidence.
///
/// Whatever the distribution, each measurement is below the median with probability 1/2: a binomial.
fn interval_rank(count: usize) -> Option<usize> {
    let mut below = 0.5_f64.powi(count as i32);
    let mut term = below;
    let mut rank = None;
    for left_out in 0..count / 2 {
        if below > 0.025 {
            break;
        }
        rank = Some(left_out);
        term *= (count - left_out) as f64 / (left_out + 1) as f64;
        below += term;
    }
    rank
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians_of_odd_and_even_counts() {
        let cases = [
            (vec![3.0], (3.0, 3.0, 3.0)),
            (vec![4.0, 2.0], (2.0, 3.0, 4.0)),
            (vec![9.0, 1.0, 2.0], (1.0, 2.0, 9.0)),
            (vec![4.0, 1.0, 3.0, 2.0], (1.0, 2.5, 4.0)),
        ];
        for (measurements, expected) in cases {
            let spread = Spread::of(measurements.iter().copied()).unwrap();
            assert_eq!((spread.min, spread.median, spread.max), expected, "{measurements:?}");
        }
        assert_eq!(Spread::of([]), None);
    }

    #[test]
    fn interval_ranks_match_the_binomial_tables() {
        // Ranks of the sign test's interval for the median, two-sided 95 %.
        let cases = [
            (1, None),
            (5, None),
            (6, Some(0)),
            (8, Some(0)),
            (9, Some(1)),
            (14, Some(2)),
            (15, Some(3)),
            (20, Some(5)),
        ];
        for (count, rank) in cases {
            assert_eq!(interval_rank(count), rank, "{count} measurements");
        }
    }
}
