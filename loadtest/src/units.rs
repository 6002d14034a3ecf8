//! Sizes and durations as people type them and read them.

use std::fmt;
use std::time::Duration;

/// Reads a number of bytes: `100`, `4k`, `1m`, `2g`, in steps of 1024.
///
/// # Errors
/// Says what would have been understood.
pub fn parse_bytes(text: &str) -> Result<usize, String> {
    let lower = text.to_ascii_lowercase();
    let (digits, shift) = match lower.as_bytes().last() {
        Some(b'k') => (&lower[..lower.len() - 1], 10),
        Some(b'm') => (&lower[..lower.len() - 1], 20),
        Some(b'g') => (&lower[..lower.len() - 1], 30),
        _ => (&lower[..], 0),
    };
    let number: Option<usize> = digits.parse().ok();
    number.and_then(|number| number.checked_mul(1 << shift)).ok_or_else(|| "expected bytes, as in 100, 4k or 1m".into())
}

/// Reads a count: `1000`, `10k`, `1m`, in steps of 1000.
///
/// # Errors
/// Says what would have been understood.
pub fn parse_count(text: &str) -> Result<u64, String> {
    let lower = text.to_ascii_lowercase();
    let (digits, unit) = match lower.as_bytes().last() {
        Some(b'k') => (&lower[..lower.len() - 1], 1000),
        Some(b'm') => (&lower[..lower.len() - 1], 1_000_000),
        _ => (&lower[..], 1),
    };
    let number: Option<u64> = digits.parse().ok();
    number.and_then(|number| number.checked_mul(unit)).ok_or_else(|| "expected a number, as in 1000, 10k or 1m".into())
}

/// Reads a time span above zero: `500ms`, `10s`, `2m`, `1d`; a bare number is seconds.
///
/// # Errors
/// Says what would have been understood.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    let units = [("ms", 0.001), ("us", 0.000_001), ("s", 1.0), ("m", 60.0), ("h", 3600.0), ("d", 86_400.0), ("", 1.0)];
    let parsed = units.iter().find_map(|(unit, seconds)| {
        let number: f64 = text.strip_suffix(unit)?.parse().ok()?;
        Duration::try_from_secs_f64(number * seconds).ok()
    });
    parsed.filter(|duration| !duration.is_zero()).ok_or_else(|| "expected a time span, as in 500ms, 10s or 2m".into())
}

/// A number in at most four significant digits, with k, M or G.
pub fn short(number: f64) -> String {
    let (scaled, unit) = match number.abs() {
        n if n >= 1e9 => (number / 1e9, " G"),
        n if n >= 1e6 => (number / 1e6, " M"),
        n if n >= 1e4 => (number / 1e3, " k"),
        _ => (number, ""),
    };
    let decimals = match scaled.abs() {
        n if n >= 1000.0 || (unit.is_empty() && scaled.fract() == 0.0) => 0,
        n if n >= 100.0 => 1,
        _ => 2,
    };
    format!("{scaled:.decimals$}{unit}")
}

/// A number with what it counts: `1 key`, `2 keys`.
pub fn counted(count: impl TryInto<u64> + fmt::Display + Copy, noun: &str) -> String {
    let is_one = count.try_into().is_ok_and(|count| count == 1);
    format!("{count} {noun}{}", if is_one { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_is_singular() {
        assert_eq!([0_u64, 1, 2].map(|count| counted(count, "key")), ["0 keys", "1 key", "2 keys"]);
    }

    #[test]
    fn sizes_and_counts_are_read_with_their_units() {
        let cases =
            [("0", Some(0)), ("100", Some(100)), ("4k", Some(4096)), ("1M", Some(1 << 20)), ("1g", Some(1 << 30))];
        for (text, bytes) in
            cases.into_iter().chain(["", "k", "-1", "1.5k", "99999999999g", "1kb"].map(|text| (text, None)))
        {
            assert_eq!(parse_bytes(text).ok(), bytes, "{text:?}");
        }
        for (text, count) in [("10k", Some(10_000)), ("2M", Some(2_000_000)), ("7", Some(7)), ("x", None)] {
            assert_eq!(parse_count(text).ok(), count, "{text:?}");
        }
    }

    #[test]
    fn durations_are_read_with_their_units() {
        let cases = [("500ms", 500), ("10s", 10_000), ("1.5s", 1500), ("2m", 120_000), ("3", 3000), ("1h", 3_600_000)];
        for (text, ms) in cases {
            assert_eq!(parse_duration(text), Ok(Duration::from_millis(ms)), "{text:?}");
        }
        for text in ["", "0", "0s", "-1s", "s", "1w", "inf", "NaN", "1e300"] {
            assert!(parse_duration(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn numbers_are_short() {
        let cases = [
            (0.0, "0"),
            (12.0, "12"),
            (9999.0, "9999"),
            (12_345.0, "12.35 k"),
            (250_000.0, "250.0 k"),
            (2.5e6, "2.50 M"),
            (0.123, "0.12"),
        ];
        for (number, text) in cases {
            assert_eq!(short(number), text);
        }
    }
}
