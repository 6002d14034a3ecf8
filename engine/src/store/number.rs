//! Decimal numbers as the protocol reads and writes them (3.1).

/// Digits of the largest number, and the width up to which a number is kept as a counter.
pub(super) const DIGITS_MAX: usize = 20;

/// A number in decimal, padded with spaces on the right.
#[derive(Clone, Copy)]
pub(super) struct Digits {
    bytes: [u8; DIGITS_MAX],
    width: u8,
}

impl Digits {
    /// The number in at least `width` bytes.
    pub(super) fn padded(mut number: u64, width: usize) -> Digits {
        let len = digits_of(number);
        let mut bytes = [b' '; DIGITS_MAX];
        // Two digits at a time: half of the divisions.
        let (head, pairs) = bytes[..len].as_rchunks_mut();
        for pair in pairs.iter_mut().rev() {
            let two = (number % 100) as u8;
            *pair = [b'0' + two / 10, b'0' + two % 10];
            number /= 100;
        }
        if let [first] = head {
            *first = b'0' + number as u8;
        }
        Digits { bytes, width: len.max(width) as u8 }
    }

    /// The number alone.
    pub(super) fn of(number: u64) -> Digits {
        Digits::padded(number, 0)
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes[..usize::from(self.width)]
    }
}

/// How many digits a number has.
#[inline]
pub(super) fn digits_of(number: u64) -> usize {
    number.checked_ilog10().unwrap_or(0) as usize + 1
}

/// Does a number have at most `width` digits?
#[inline]
pub(super) fn fits(number: u64, width: usize) -> bool {
    const POWERS: [u64; DIGITS_MAX] = {
        let mut powers = [1; DIGITS_MAX];
        let mut i = 1;
        while i < DIGITS_MAX {
            powers[i] = powers[i - 1] * 10;
            i += 1;
        }
        powers
    };
    POWERS.get(width).is_none_or(|&bound| number < bound)
}

/// Reads a number: leading white space and a `+` are allowed, and anything behind a white space or a NUL.
pub(super) fn parse(value: &[u8]) -> Option<u64> {
    let is_space = |byte: &u8| matches!(byte, b' ' | b'\t' | b'\n' | 0x0b | 0x0c | b'\r');
    let start = value.iter().position(|byte| !is_space(byte))?;
    let digits = value[start..].strip_prefix(b"+").unwrap_or(&value[start..]);
    let end = digits.iter().position(|byte| !byte.is_ascii_digit()).unwrap_or(digits.len());
    if end == 0 || digits.get(end).is_some_and(|byte| *byte != 0 && !is_space(byte)) {
        return None;
    }
    digits[..end].iter().try_fold(0_u64, |number, &digit| number.checked_mul(10)?.checked_add(u64::from(digit - b'0')))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Protocol 3.1.
    #[test]
    fn numbers_are_read_as_the_protocol_says() {
        for (value, number) in [
            ("5", Some(5)),
            ("0010", Some(10)),
            (" +7", Some(7)),
            ("5 bc", Some(5)),
            ("18446744073709551615", Some(u64::MAX)),
            ("18446744073709551616", None),
            ("-5", None),
            ("5abc", None),
            ("", None),
            (" ", None),
            ("+", None),
        ] {
            assert_eq!(parse(value.as_bytes()), number, "{value:?}");
        }
    }

    #[test]
    fn numbers_are_written_to_a_width() {
        for number in [1, 9, 10, 99, 100, u64::MAX / 10, u64::MAX] {
            assert_eq!(Digits::of(number).bytes(), number.to_string().as_bytes());
            let len = number.to_string().len();
            assert_eq!(digits_of(number), len);
            assert!(fits(number, len) && !fits(number, len - 1));
            assert_eq!(Digits::padded(number, 7).bytes(), format!("{number:<7}").as_bytes());
        }
    }
}
