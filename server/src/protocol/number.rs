//! How memcached reads numbers: strictly in most places, and like C's `strtol` in two (protocol 2.3 to 2.5).

use crate::limits::VALUE_BYTES_MAX;

/// An unsigned 64-bit number: up to 22 digits, no sign (protocol 2.3). For CAS ids and deltas.
pub fn u64_strict(token: &[u8]) -> Option<u64> {
    if token.len() > 22 { None } else { digits(token) }
}

/// An unsigned 32-bit number: up to 11 digits, no sign (protocol 2.3).
pub fn u32_strict(token: &[u8]) -> Option<u32> {
    if token.len() > 11 { None } else { digits(token)?.try_into().ok() }
}

/// A signed 32-bit number: an optional `-` and digits (protocol 2.4). For the expiry of touch, gat and flush_all.
pub fn i32_strict(token: &[u8]) -> Option<i32> {
    let (negative, unsigned) = match token {
        [b'-', rest @ ..] => (true, rest),
        _ => (false, token),
    };
    let magnitude = i64::try_from(digits(unsigned)?).ok()?;
    i32::try_from(if negative { -magnitude } else { magnitude }).ok()
}

/// The length of a data block (protocol 1.12).
pub fn value_len(token: &[u8]) -> Option<u32> {
    let len = u32::try_from(i32_strict(token)?).ok()?;
    (len <= VALUE_BYTES_MAX).then_some(len)
}

/// Client flags of a storage command: `strtoul`, cut to 32 bits (protocol 2.5). `-0` passes, any other `-` does not.
pub fn flags(token: &[u8]) -> Option<u32> {
    // The common case first.
    if token == b"0" {
        return Some(0);
    }
    let (negative, value) = scan(token)?;
    (!negative || value == 0).then_some(value as u32)
}

/// Expiry of a storage command: `strtol` over 64 bits, cut to 32 (protocol 2.5).
pub fn exptime(token: &[u8]) -> Option<i32> {
    if token == b"0" {
        return Some(0);
    }
    let value = match scan(token)? {
        (false, magnitude) => i64::try_from(magnitude).ok()?,
        (true, magnitude) => 0i64.checked_sub_unsigned(magnitude)?,
    };
    Some(value as i32)
}

/// What C's scanner accepts: leading white space, one sign, digits. Answers (was there a `-`, the magnitude).
fn scan(token: &[u8]) -> Option<(bool, u64)> {
    // Space and newline cannot occur inside a token.
    let blank = token.iter().take_while(|byte| matches!(byte, b'\t' | b'\r' | 0x0b | 0x0c)).count();
    let token = &token[blank..];
    let (negative, unsigned) = match token {
        [b'-', rest @ ..] => (true, rest),
        [b'+', rest @ ..] => (false, rest),
        _ => (false, token),
    };
    Some((negative, digits(unsigned)?))
}

/// One or more digits and nothing else, within 64 bits.
fn digits(token: &[u8]) -> Option<u64> {
    if token.is_empty() {
        return None;
    }
    let mut value = 0u64;
    for byte in token {
        let digit = byte.wrapping_sub(b'0');
        if digit > 9 {
            return None;
        }
        // Nineteen digits cannot overflow; beyond that the checked steps decide.
        value = if token.len() < 20 {
            value * 10 + u64::from(digit)
        } else {
            value.checked_mul(10)?.checked_add(u64::from(digit))?
        };
    }
    Some(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strict_numbers_take_digits_only() {
        assert_eq!(u64_strict(b"18446744073709551615"), Some(u64::MAX));
        assert_eq!(u64_strict(b"18446744073709551616"), None);
        assert_eq!(u64_strict(b"0000000000000000000001"), Some(1));
        assert_eq!(u64_strict(b"00000000000000000000001"), None);
        assert_eq!(u32_strict(b"00000000001"), Some(1));
        assert_eq!(u32_strict(b"000000000001"), None);
        assert_eq!(u32_strict(b"4294967296"), None);
        for bad in [&b""[..], b"+1", b"-1", b" 1", b"1a", b"0x1"] {
            assert_eq!(u64_strict(bad), None, "{bad:?}");
            assert_eq!(u32_strict(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn signed_numbers_stay_within_32_bits() {
        assert_eq!(i32_strict(b"-2147483648"), Some(i32::MIN));
        assert_eq!(i32_strict(b"2147483647"), Some(i32::MAX));
        for bad in [&b""[..], b"-", b"+1", b"2147483648", b"-2147483649", b"--1"] {
            assert_eq!(i32_strict(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn value_lengths_end_at_the_swallow_limit() {
        assert_eq!(value_len(b"2147483645"), Some(VALUE_BYTES_MAX));
        assert_eq!(value_len(b"-0"), Some(0));
        for bad in [&b"2147483646"[..], b"-1", b"+1", b"abc"] {
            assert_eq!(value_len(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn flags_and_exptime_are_scanned_like_c_and_cut() {
        assert_eq!(flags(b"4294967296"), Some(0));
        assert_eq!(flags(b"18446744073709551615"), Some(u32::MAX));
        assert_eq!(flags(b"+5"), Some(5));
        assert_eq!(flags(b"-0"), Some(0));
        for bad in [&b"-1"[..], b"18446744073709551616", b"0x10", b"1a", b"1.5", b"--1", b"+", b"-"] {
            assert_eq!(flags(bad), None, "{bad:?}");
        }
        assert_eq!(exptime(b"4294967346"), Some(50));
        assert_eq!(exptime(b"99999999999"), Some(1_215_752_191));
        assert_eq!(exptime(b"-9223372036854775808"), Some(0));
        assert_eq!(exptime(b"-1"), Some(-1));
        assert_eq!(exptime(b"9223372036854775808"), None);
        assert_eq!(exptime(b"abc"), None);
    }
}
