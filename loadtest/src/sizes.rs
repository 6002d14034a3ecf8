//! How long keys and values are: a number, or a distribution that gives every key a length of its own.
//!
//! A key's length is drawn from a hash of its number, so that it is the same whenever the key is named, in any run. Drawing means
//! to look up a table of quantiles, made once: the chance that a length is wrong by more than a step of 1/65536 is nil, and no
//! length rarer than that occurs.

use crate::units::{counted, parse_bytes};
use std::fmt;
use std::sync::Arc;

/// Quantiles of a distribution, at the middles of as many equal parts.
const QUANTILES: usize = 1 << 16;

/// A distribution of lengths in bytes.
#[derive(Clone, Debug, PartialEq)]
pub enum Sizes {
    /// All alike.
    Fixed(usize),
    /// All lengths from the first to the second alike.
    Uniform(usize, usize),
    /// The logarithm is normal: median, and standard deviation of the natural logarithm.
    LogNormal {
        /// Half are no longer than this.
        median: f64,
        /// Standard deviation of the natural logarithm.
        sigma: f64,
    },
    /// Generalised Pareto.
    Pareto(Tail),
    /// Generalised extreme value.
    ExtremeValue(Tail),
    /// Lengths with their probabilities; what is missing to 1 is drawn from the other distribution.
    Table(Vec<(usize, f64)>, Option<Box<Sizes>>),
    /// Points of the cumulative distribution (share, length): lengths between them are interpolated by their logarithms.
    Curve(Vec<(f64, f64)>),
    /// Another distribution, cut at its least and its greatest length.
    Clamped(Box<Sizes>, usize, usize),
}

/// Parameters of a distribution with a tail.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Tail {
    /// Where it begins, or where most lengths lie.
    pub location: f64,
    /// How wide it is.
    pub scale: f64,
    /// How heavy its tail is: 0 exponential, more than 0 a power.
    pub shape: f64,
}

impl Tail {
    /// `x` is a draw of the standard exponential distribution for Pareto, and its negative logarithm for extreme values.
    fn at(self, x: f64) -> f64 {
        let Self { location, scale, shape } = self;
        let stretched = if shape.abs() < 1e-12 { x } else { (shape * x).exp_m1() / shape };
        location + scale * stretched
    }
}

impl Sizes {
    /// Reads `100`, `uniform:10:60`, `lognormal:200:1.5@1..1m` and the other forms of `--value-size`.
    ///
    /// # Errors
    /// Says what would have been understood.
    pub fn parse(text: &str) -> Result<Self, String> {
        let (text, bounds) = match text.split_once('@') {
            Some((text, bounds)) => (text, Some(bounds)),
            None => (text, None),
        };
        let sizes = Self::parse_unbounded(text)?;
        let Some(bounds) = bounds else { return Ok(sizes) };
        let (least, greatest) = bounds.split_once("..").ok_or("expected bounds as in @1..250")?;
        let (least, greatest) = (parse_bytes(least)?, parse_bytes(greatest)?);
        if least > greatest {
            return Err(format!("{least} is more than {greatest}"));
        }
        Ok(Self::Clamped(Box::new(sizes), least, greatest))
    }

    fn parse_unbounded(text: &str) -> Result<Self, String> {
        let Some((kind, parameters)) = text.split_once(':') else {
            return parse_bytes(text).map(Self::Fixed).map_err(|error| format!("{error}, or {KINDS}"));
        };
        if let ("table", Some((table, rest))) = (kind, parameters.split_once('+')) {
            let entries = parse_table(table)?;
            let listed: f64 = entries.iter().map(|(_, probability)| probability).sum();
            return if listed < 1.0 {
                Ok(Self::Table(entries, Some(Box::new(Self::parse_unbounded(rest)?))))
            } else {
                Err("probabilities must leave something for the other distribution".into())
            };
        }
        let parts: Vec<&str> = parameters.split(':').collect();
        let numbers = || -> Result<Vec<f64>, String> { parts.iter().map(|part| parse_number(part)).collect() };
        match (kind, &parts[..]) {
            ("uniform", [least, greatest]) => {
                let (least, greatest) = (parse_bytes(least)?, parse_bytes(greatest)?);
                if least <= greatest {
                    Ok(Self::Uniform(least, greatest))
                } else {
                    Err("the bounds are swapped".into())
                }
            }
            ("lognormal", [_, _]) => match numbers()?[..] {
                [median, sigma] if median > 0.0 && sigma >= 0.0 => Ok(Self::LogNormal { median, sigma }),
                _ => Err("a log-normal distribution needs a median above 0 and a sigma of 0 or more".into()),
            },
            ("pareto" | "gev", [_, _, _]) => match numbers()?[..] {
                [location, scale, shape] if scale > 0.0 => {
                    let tail = Tail { location, scale, shape };
                    Ok(if kind == "gev" { Self::ExtremeValue(tail) } else { Self::Pareto(tail) })
                }
                _ => Err("the scale must be above 0".into()),
            },
            ("curve", [curve]) => parse_curve(curve).and_then(|points| match points[..] {
                [(0.0, least), .., (1.0, _)] if least > 0.0 => Ok(Self::Curve(points)),
                _ => Err("a curve of lengths goes from 0=BYTES, above 0, to 1=BYTES".into()),
            }),
            ("table", [table]) => {
                let table = parse_table(table)?;
                let total: f64 = table.iter().map(|(_, weight)| weight).sum();
                if total > 0.0 {
                    let shares = table.into_iter().map(|(bytes, weight)| (bytes, weight / total)).collect();
                    Ok(Self::Table(shares, None))
                } else {
                    Err("some weight must be above 0".into())
                }
            }
            _ => Err(format!("expected BYTES, or {KINDS}")),
        }
    }

    /// The length that a share of all lengths does not exceed.
    pub fn quantile(&self, share: f64) -> f64 {
        match self {
            Self::Fixed(bytes) => *bytes as f64,
            Self::Uniform(least, greatest) => {
                let count = (greatest - least + 1) as f64;
                *least as f64 + (share * count).floor().min(count - 1.0)
            }
            Self::LogNormal { median, sigma } => median * (sigma * normal_quantile(share)).exp(),
            // 1 - share has the same distribution as share; -ln of it is a standard exponential variate.
            Self::Pareto(tail) => tail.at(-(1.0 - share).ln()),
            Self::ExtremeValue(tail) => tail.at(-(-share.ln()).ln()),
            Self::Table(table, rest) => {
                let mut left = share;
                for (bytes, probability) in table {
                    if left < *probability {
                        return *bytes as f64;
                    }
                    left -= probability;
                }
                let listed: f64 = table.iter().map(|(_, probability)| probability).sum();
                match rest {
                    Some(rest) if listed < 1.0 => rest.quantile(left / (1.0 - listed)),
                    _ => table.last().map_or(0.0, |(bytes, _)| *bytes as f64),
                }
            }
            Self::Curve(points) => {
                let above = points.partition_point(|(point, _)| *point <= share).clamp(1, points.len() - 1);
                let ((share_low, low), (share_high, high)) = (points[above - 1], points[above]);
                let part = ((share - share_low) / (share_high - share_low)).clamp(0.0, 1.0);
                low * (high / low).powf(part)
            }
            Self::Clamped(sizes, least, greatest) => sizes.quantile(share).clamp(*least as f64, *greatest as f64),
        }
    }

    /// Makes the table of quantiles, none below `least` nor above `greatest`.
    pub fn drawn(&self, least: usize, greatest: usize, salt: u64) -> DrawnSizes {
        let middle = |index| (index as f64 + 0.5) / QUANTILES as f64;
        let bytes = |share| self.quantile(share).round().clamp(least as f64, greatest as f64) as u32;
        DrawnSizes { quantiles: (0..QUANTILES).map(|index| bytes(middle(index))).collect(), salt }
    }

    /// The one length that there is, if there is one.
    pub fn fixed(&self) -> Option<usize> {
        if let Self::Fixed(bytes) = self { Some(*bytes) } else { None }
    }
}

const KINDS: &str = "uniform:MIN:MAX, lognormal:MEDIAN:SIGMA, pareto:LOCATION:SCALE:SHAPE, gev:LOCATION:SCALE:SHAPE, \
                     table:BYTES=WEIGHT,..., table:BYTES=PROBABILITY,...+OTHER or curve:SHARE=BYTES,..., each with @MIN..MAX if it is to be cut";

fn parse_table(text: &str) -> Result<Vec<(usize, f64)>, String> {
    let entry = |entry: &str| {
        let (bytes, weight) = entry.split_once('=').ok_or("expected BYTES=WEIGHT,...")?;
        let weight = parse_number(weight)?;
        if weight >= 0.0 { Ok((parse_bytes(bytes)?, weight)) } else { Err(format!("{weight} is no weight")) }
    };
    text.split(',').map(entry).collect()
}

/// Reads `X=Y,...` with both ascending.
pub(crate) fn parse_curve(text: &str) -> Result<Vec<(f64, f64)>, String> {
    let point = |point: &str| {
        let (x, y) = point.split_once('=').ok_or("expected X=Y,...")?;
        Ok((parse_number(x)?, parse_number(y)?))
    };
    let points = text.split(',').map(point).collect::<Result<Vec<_>, String>>()?;
    let ascending = points.windows(2).all(|pair| pair[0].0 < pair[1].0 && pair[0].1 <= pair[1].1);
    if points.len() > 1 && ascending { Ok(points) } else { Err("a curve needs two points or more, ascending".into()) }
}

fn parse_number(text: &str) -> Result<f64, String> {
    text.parse().ok().filter(|number: &f64| number.is_finite()).ok_or_else(|| format!("{text:?} is no number"))
}

impl fmt::Display for Sizes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fixed(bytes) => write!(f, "{bytes} B"),
            Self::Uniform(least, greatest) => write!(f, "uniform {least} to {greatest} B"),
            Self::LogNormal { median, sigma } => write!(f, "log-normal (median {median} B, sigma {sigma})"),
            Self::Pareto(Tail { location, scale, shape }) => {
                write!(f, "generalised Pareto (location {location} B, scale {scale} B, shape {shape})")
            }
            Self::ExtremeValue(Tail { location, scale, shape }) => {
                write!(f, "generalised extreme value (location {location} B, scale {scale} B, shape {shape})")
            }
            Self::Table(table, rest) => {
                write!(f, "a table of {}", counted(table.len(), "length"))?;
                rest.iter().try_for_each(|rest| write!(f, " and {rest}"))
            }
            Self::Curve(points) => write!(f, "a curve of {} points", points.len()),
            Self::Clamped(sizes, least, greatest) => write!(f, "{sizes} cut to {least}..{greatest} B"),
        }
    }
}

/// Lengths of numbered keys, or of their values.
#[derive(Clone, Debug)]
pub struct DrawnSizes {
    quantiles: Arc<[u32]>,
    /// Keeps the lengths of keys and of values apart.
    salt: u64,
}

impl DrawnSizes {
    /// Length for key number `key`.
    #[inline]
    pub fn of(&self, key: u64) -> usize {
        // The finaliser of MurmurHash3: every bit of the number reaches the highest bits, which choose.
        let mut hash = key ^ self.salt;
        hash = (hash ^ hash >> 33).wrapping_mul(0xff51_afd7_ed55_8ccd);
        hash = (hash ^ hash >> 33).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
        self.quantiles[(hash >> 48) as usize] as usize
    }

    /// The mean length.
    pub fn mean(&self) -> f64 {
        self.quantiles.iter().map(|bytes| f64::from(*bytes)).sum::<f64>() / self.quantiles.len() as f64
    }
}

/// Quantile of the standard normal distribution, by bisection of its integral: exact to nine digits, and slow, which does not
/// matter for a table that is made once.
fn normal_quantile(share: f64) -> f64 {
    let (mut low, mut high) = (-10.0, 10.0);
    for _ in 0..60 {
        let middle = (low + high) / 2.0;
        if normal_integral(middle) < share { low = middle } else { high = middle }
    }
    (low + high) / 2.0
}

/// The normal distribution's integral up to `x`: its power series, `1/2 + density * (x + x^3/3 + x^5/(3*5) + ...)`.
fn normal_integral(x: f64) -> f64 {
    if x < -8.0 {
        return 0.0;
    }
    if x > 8.0 {
        return 1.0;
    }
    let (mut sum, mut term) = (x, x);
    let mut divisor = 1.0;
    while term.abs() > 1e-17 * sum.abs() {
        divisor += 2.0;
        term *= x * x / divisor;
        sum += term;
    }
    0.5 + sum * (-x * x / 2.0).exp() / (2.0 * std::f64::consts::PI).sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The mean and some percentiles of a million keys' lengths, within two parts in a hundred.
    fn check(text: &str, bounds: (usize, usize), mean: f64, percentiles: &[(f64, f64)]) {
        let drawn = Sizes::parse(text).unwrap().drawn(bounds.0, bounds.1, 1);
        let mut seen: Vec<usize> = (0..1_000_000).map(|key| drawn.of(key)).collect();
        let near = |seen: f64, expected: f64| (seen - expected).abs() <= 0.02 * expected + 0.6;
        let seen_mean = seen.iter().sum::<usize>() as f64 / seen.len() as f64;
        assert!(near(seen_mean, mean), "{text}: mean {seen_mean} for {mean}");
        assert!(near(drawn.mean(), mean), "{text}: mean {} for {mean}", drawn.mean());
        seen.sort_unstable();
        for &(share, expected) in percentiles {
            let bytes = seen[(share * seen.len() as f64) as usize] as f64;
            assert!(near(bytes, expected), "{text}: {bytes} for {expected} at {share}");
        }
    }

    #[test]
    fn lengths_follow_their_distributions() {
        check("100", (0, 1000), 100.0, &[(0.0, 100.0), (0.999, 100.0)]);
        check("uniform:10:20", (0, 1000), 15.0, &[(0.0, 10.0), (0.05, 10.0), (0.5, 15.0), (0.99, 20.0)]);
        // exp(sigma^2 / 2) times the median.
        check("lognormal:100:1", (0, 100_000), 164.9, &[(0.5, 100.0), (0.841_345, 271.8), (0.977_25, 738.9)]);
        // location + scale / (1 - shape).
        check("pareto:15:214.476:0.348238@1..1m", (0, 1 << 20), 343.0, &[(0.5, 183.0), (0.9, 772.5)]);
        check("pareto:0:100:0", (0, 100_000), 100.0, &[(0.5, 69.3), (0.9, 230.3)]);
        // The key sizes of a published model, with percentiles sampled elsewhere.
        check("gev:30.7984:8.20449:0.078688@1..250", (1, 250), 36.2, &[(0.01, 19.0), (0.5, 34.0), (0.99, 76.0)]);
        check("table:1=3,1k=1", (0, 10_000), 256.75, &[(0.7, 1.0), (0.8, 1024.0)]);
        check("uniform:1:100", (20, 50), 40.9, &[(0.0, 20.0), (0.99, 50.0)]);
    }

    #[test]
    fn a_curve_passes_through_its_points() {
        let curve = Sizes::Curve(vec![(0.0, 10.0), (0.5, 100.0), (1.0, 10_000.0)]);
        for (share, bytes) in [(0.0, 10.0), (0.25, 31.6), (0.5, 100.0), (0.75, 1000.0), (1.0, 10_000.0)] {
            let seen = curve.quantile(share);
            assert!((seen / bytes - 1.0).abs() < 0.01, "{seen} for {bytes} at {share}");
        }
    }

    #[test]
    fn the_normal_distribution_matches_its_tables() {
        for (share, x) in [(0.5, 0.0), (0.975, 1.959_964), (0.999, 3.090_232), (0.000_01, -4.264_891)] {
            assert!((normal_quantile(share) - x).abs() < 1e-5, "{share}");
        }
    }

    #[test]
    fn nonsense_is_refused() {
        for text in [
            "",
            "x",
            "uniform:1",
            "uniform:2:1",
            "lognormal:0:1",
            "lognormal:5:-1",
            "pareto:1:0:1",
            "pareto:1:2",
            "gev:1:2:NaN",
            "table:1",
            "curve:0=1",
            "curve:0=1,0.5=3",
            "curve:0=0,1=5",
            "curve:1=5,0=1",
            "table:1=1+pareto:1:1:1",
            "table:1=0.5+x",
            "table:1=0",
            "table:1=-1,2=3",
            "weird:1",
            "100@5",
            "100@9..5",
        ] {
            assert!(Sizes::parse(text).is_err(), "{text}");
        }
    }
}
