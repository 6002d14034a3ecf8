//! How a key's number becomes the bytes that go over the wire.
//!
//! The generator thinks of keys as numbers `0..count`. Here they get names: either made from the number, all of one
//! length, or listed (a trace brings its own).

use crate::sizes::DrawnSizes;
use std::fmt;

/// The longest key that the protocol allows.
pub const KEY_BYTES_MAX: usize = 250;

/// `k` and then zeros: what a numbered key is before its digits are written over the end of it.
const TEMPLATE: [u8; KEY_BYTES_MAX] = {
    let mut template = [b'0'; KEY_BYTES_MAX];
    template[0] = b'k';
    template
};

/// The decimal digits of 0 to 99, two bytes each: half the divisions of a digit at a time.
const PAIRS: [[u8; 2]; 100] = {
    let mut pairs = [[0; 2]; 100];
    let mut number = 0;
    while number < 100 {
        pairs[number] = [b'0' + (number / 10) as u8, b'0' + (number % 10) as u8];
        number += 1;
    }
    pairs
};

/// Gives every key number its name.
#[derive(Clone, Debug)]
pub enum KeyNames {
    /// `k` followed by the number, zero-padded, so that all names have `key_bytes` bytes: `k000000000000042`.
    Numbered {
        /// Length of every name.
        key_bytes: usize,
    },
    /// The same, with a length for each number.
    Drawn {
        /// The lengths, none of them too short for the largest number.
        key_bytes: DrawnSizes,
    },
    /// Name `i` belongs to key `i`.
    Listed(Vec<Box<[u8]>>),
}

impl KeyNames {
    /// Names of `key_bytes` bytes for keys `0..count`.
    ///
    /// # Errors
    /// When the largest number does not fit, or the protocol has no room for such a key.
    pub fn numbered(key_bytes: usize, count: u64) -> Result<Self, KeySizeError> {
        let shortest = Self::shortest(count);
        if (shortest..=KEY_BYTES_MAX).contains(&key_bytes) {
            Ok(Self::Numbered { key_bytes })
        } else {
            Err(KeySizeError { key_bytes, shortest })
        }
    }

    /// Length of the shortest names that tell keys `0..count` apart.
    pub fn shortest(count: u64) -> usize {
        1 + decimal_digits(count.saturating_sub(1))
    }

    /// Appends the name of `key`.
    #[inline]
    pub fn write(&self, key: u64, out: &mut Vec<u8>) {
        match self {
            Self::Numbered { key_bytes } => write_numbered(key, *key_bytes, out),
            Self::Drawn { key_bytes } => write_numbered(key, key_bytes.of(key), out),
            Self::Listed(names) => out.extend_from_slice(&names[key as usize]),
        }
    }

    /// Length of the name of `key`.
    pub fn key_bytes(&self, key: u64) -> usize {
        match self {
            Self::Numbered { key_bytes } => *key_bytes,
            Self::Drawn { key_bytes } => key_bytes.of(key),
            Self::Listed(names) => names[key as usize].len(),
        }
    }
}

#[inline]
fn write_numbered(key: u64, key_bytes: usize, out: &mut Vec<u8>) {
    out.extend_from_slice(&TEMPLATE[..key_bytes]);
    let mut at = out.len();
    let mut rest = key;
    while rest >= 10 {
        at -= 2;
        out[at..at + 2].copy_from_slice(&PAIRS[(rest % 100) as usize]);
        rest /= 100;
    }
    if rest > 0 {
        out[at - 1] = b'0' + rest as u8;
    }
}

fn decimal_digits(number: u64) -> usize {
    number.checked_ilog10().map_or(1, |log| log as usize + 1)
}

/// A key size that cannot hold the key numbers asked for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct KeySizeError {
    key_bytes: usize,
    shortest: usize,
}

impl fmt::Display for KeySizeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { key_bytes, shortest } = self;
        write!(
            f,
            "a key size of {key_bytes} bytes does not work: this many keys need {shortest} to {KEY_BYTES_MAX} bytes"
        )
    }
}

impl std::error::Error for KeySizeError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbered_names_are_padded_and_distinct() {
        let cases = [
            (2, 10, 0, "k0"),
            (2, 10, 9, "k9"),
            (4, 1000, 42, "k042"),
            (4, 1000, 100, "k100"),
            (4, 1000, 999, "k999"),
            (16, 1_000_000, 7, "k000000000000007"),
            (16, 1_000_000, 123_456, "k000000000123456"),
            (21, u64::MAX, u64::MAX - 1, "k18446744073709551614"),
        ];
        for (key_bytes, count, key, name) in cases {
            let mut out = b"x".to_vec();
            KeyNames::numbered(key_bytes, count).unwrap().write(key, &mut out);
            assert_eq!(String::from_utf8(out).unwrap(), format!("x{name}"));
        }
    }

    #[test]
    fn a_size_too_small_or_too_large_is_refused() {
        for (key_bytes, count) in [(1, 10), (2, 11), (0, 1), (251, 1), (6, 1_000_000)] {
            assert!(KeyNames::numbered(key_bytes, count).is_err(), "{key_bytes} bytes for {count} keys");
        }
        assert!(KeyNames::numbered(7, 1_000_000).is_ok());
    }
}
