//! Values that prove where they come from.
//!
//! A value of 16 bytes or more is a function of its key, of who wrote it, of that writer's version number and of its own
//! length, so a reader can tell a genuine value from one of another key, from a torn one and from one that nobody wrote.
//! In 64-bit little-endian words:
//!
//! ```text
//! word 0      hash of the key number
//! word 1      stamp: run (16 bits) | writer (16 bits) | version (32 bits)
//! word 2...   filler: the stamp, encoded by key, length and position; the last word is cut to fit
//! ```
//!
//! For given key, length and position the encoding has an inverse: a word of the filler tells which value it belongs to, so that
//! a mixture of two values is told from damage.
//!
//! Values below 16 bytes have no room for the stamp: they are a function of key and length alone, so an old value of the
//! same key cannot be told from a new one. The bytes are binary on purpose: they contain CR, LF and spaces.

/// Shortest value that carries a [`Stamp`].
pub const STAMPED_BYTES_MIN: usize = 16;

/// Who wrote a value, and which of his values it is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Stamp {
    /// Tells the runs of the generator apart: a value of an earlier run is not mistaken for one of this run.
    pub run: u16,
    /// Number of the writer within the run.
    pub writer: u16,
    /// Counts the values of this writer.
    pub version: u32,
}

impl Stamp {
    fn to_word(self) -> u64 {
        u64::from(self.run) << 48 | u64::from(self.writer) << 32 | u64::from(self.version)
    }

    fn from_word(word: u64) -> Self {
        Self { run: (word >> 48) as u16, writer: (word >> 32) as u16, version: word as u32 }
    }
}

/// What a value says about itself.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Origin {
    /// Written to this key by the bearer of the stamp.
    Stamped(Stamp),
    /// Too short for a stamp, and right for this key.
    Unstamped,
    /// Whole, but made for another key.
    Foreign,
    /// The head is that of one value of this key, and at least one word that of another of the same run.
    Mixed(Stamp, Stamp),
    /// Not a value of ours, or damaged.
    Corrupt,
}

/// Appends the value of `value_bytes` bytes that `stamp` makes for `key`.
pub fn write(out: &mut Vec<u8>, key: u64, stamp: Stamp, value_bytes: usize) {
    let hash = key_hash(key);
    out.reserve(value_bytes);
    if value_bytes < STAMPED_BYTES_MIN {
        let filler = Filler::new(hash, 0, value_bytes);
        let words = [filler.word(0).to_le_bytes(), filler.word(1).to_le_bytes()];
        out.extend_from_slice(&words.as_flattened()[..value_bytes]);
        return;
    }
    let word = stamp.to_word();
    out.extend_from_slice(&hash.to_le_bytes());
    out.extend_from_slice(&word.to_le_bytes());
    let filler = Filler::new(hash, word, value_bytes);
    let rest = value_bytes - STAMPED_BYTES_MIN;
    for index in 0..(rest / 8) as u64 {
        out.extend_from_slice(&filler.word(index).to_le_bytes());
    }
    let last = filler.word((rest / 8) as u64).to_le_bytes();
    out.extend_from_slice(&last[..rest % 8]);
}

/// Says where the bytes that came back for `key` come from.
pub fn origin(key: u64, value: &[u8]) -> Origin {
    let hash = key_hash(key);
    let Some((head, rest)) = value.split_first_chunk::<STAMPED_BYTES_MIN>() else {
        let filler = Filler::new(hash, 0, value.len());
        let words = [filler.word(0).to_le_bytes(), filler.word(1).to_le_bytes()];
        return if words.as_flattened()[..value.len()] == *value { Origin::Unstamped } else { Origin::Corrupt };
    };
    let (own_hash, word) = halves(head);
    let filler = Filler::new(own_hash, word, value.len());
    let (words, last) = rest.as_chunks::<8>();
    let whole = words.iter().zip(0..).all(|(bytes, index)| u64::from_le_bytes(*bytes) == filler.word(index))
        && filler.word(words.len() as u64).to_le_bytes()[..last.len()] == *last;
    if !whole {
        let head = Stamp::from_word(word);
        let mut stamps = words.iter().zip(0..).map(|(bytes, index)| filler.stamp_of(index, u64::from_le_bytes(*bytes)));
        let another = stamps.find(|stamp| *stamp != head && stamp.run == head.run);
        another.filter(|_| own_hash == hash).map_or(Origin::Corrupt, |another| Origin::Mixed(head, another))
    } else if own_hash == hash {
        Origin::Stamped(Stamp::from_word(word))
    } else if rest.len() >= 8 {
        Origin::Foreign
    } else {
        // With less than a word of filler, chance or the lack of any filler could make rubbish look whole.
        Origin::Corrupt
    }
}

fn halves(head: &[u8; STAMPED_BYTES_MIN]) -> (u64, u64) {
    let both = u128::from_le_bytes(*head);
    (both as u64, (both >> 64) as u64)
}

fn key_hash(key: u64) -> u64 {
    fold(key ^ 0xa076_1d64_78bd_642f, 0xe703_7ed1_a0b4_28db)
}

/// The words that follow the stamp. Each is one multiplication: this runs for every 8 bytes sent and received.
struct Filler {
    /// Depends on the key and the length.
    base: u64,
    stamp: u64,
}

/// Odd, so that multiplying by it has an inverse; no pattern in its bits.
const SPREAD: u64 = 0x9fb2_1c65_1e98_df25;
const SPREAD_INVERSE: u64 = inverse(SPREAD);
/// From one position to the next: 2^64 over the golden ratio.
const STEP: u64 = 0x9e37_79b9_7f4a_7c15;

/// The number whose product with this odd one is 1, modulo 2^64.
const fn inverse(odd: u64) -> u64 {
    // Newton's method: 3 bits are right at first, and twice as many after every step.
    let mut inverse = odd;
    while odd.wrapping_mul(inverse) != 1 {
        inverse = inverse.wrapping_mul(2_u64.wrapping_sub(odd.wrapping_mul(inverse)));
    }
    inverse
}

impl Filler {
    fn new(hash: u64, stamp: u64, value_bytes: usize) -> Self {
        Self { base: fold(hash, value_bytes as u64 ^ 0x8ebc_6af0_9c88_c6e3), stamp }
    }

    fn mask(&self, index: u64) -> u64 {
        self.base.wrapping_add(index.wrapping_mul(STEP))
    }

    fn word(&self, index: u64) -> u64 {
        (self.stamp ^ self.mask(index)).wrapping_mul(SPREAD)
    }

    /// The stamp that makes this word at this position.
    fn stamp_of(&self, index: u64, word: u64) -> Stamp {
        Stamp::from_word(word.wrapping_mul(SPREAD_INVERSE) ^ self.mask(index))
    }
}

/// Both halves of the 128-bit product, as in wyhash.
fn fold(a: u64, b: u64) -> u64 {
    let product = u128::from(a) * u128::from(b);
    (product >> 64) as u64 ^ product as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    const STAMP: Stamp = Stamp { run: 7, writer: 513, version: 70_000 };

    fn value(key: u64, stamp: Stamp, value_bytes: usize) -> Vec<u8> {
        let mut out = b"before".to_vec();
        write(&mut out, key, stamp, value_bytes);
        out.split_off(6)
    }

    #[test]
    fn a_value_of_any_length_is_recognised() {
        for value_bytes in 0..200 {
            let value = value(42, STAMP, value_bytes);
            assert_eq!(value.len(), value_bytes);
            let expected = if value_bytes < 16 { Origin::Unstamped } else { Origin::Stamped(STAMP) };
            assert_eq!(origin(42, &value), expected, "{value_bytes} bytes");
        }
    }

    #[test]
    fn a_value_of_another_key_is_not_taken_for_ours() {
        for value_bytes in [1, 8, 15, 16, 23] {
            assert_eq!(origin(42, &value(43, STAMP, value_bytes)), Origin::Corrupt, "{value_bytes} bytes");
        }
        for value_bytes in [24, 32, 1000] {
            assert_eq!(origin(42, &value(43, STAMP, value_bytes)), Origin::Foreign, "{value_bytes} bytes");
        }
    }

    #[test]
    fn a_change_of_any_byte_shows() {
        for value_bytes in [1, 15, 24, 37, 64] {
            for at in 0..value_bytes {
                let mut value = value(42, STAMP, value_bytes);
                value[at] ^= 0x10;
                let seen = origin(42, &value);
                // A damaged stamp of the same run, in front of words that bear the right one: whose it is, the judge knows.
                let of_two = value_bytes >= 24 && (8..14).contains(&at) && matches!(seen, Origin::Mixed(_, STAMP));
                assert!(of_two || seen == Origin::Corrupt, "byte {at} of {value_bytes}: {seen:?}");
            }
        }
    }

    #[test]
    fn a_value_cut_short_is_corrupt_and_one_spliced_from_two_names_both() {
        let stamp = Stamp { version: STAMP.version + 1, writer: 2, ..STAMP };
        let (old, new) = (value(42, STAMP, 64), value(42, stamp, 64));
        assert_eq!(origin(42, &old[..63]), Origin::Corrupt);
        for cut in 16..64 {
            // Behind the start of the last word there is no whole word of the second value.
            let expected = if cut <= 56 { Origin::Mixed(STAMP, stamp) } else { Origin::Corrupt };
            assert_eq!(origin(42, &[&old[..cut], &new[cut..]].concat()), expected, "spliced at {cut}");
        }
        let other_run = value(42, Stamp { run: STAMP.run + 1, ..STAMP }, 64);
        assert_eq!(origin(42, &[&old[..32], &other_run[32..]].concat()), Origin::Corrupt);
        assert_eq!(origin(42, &[&old[..32], &value(43, STAMP, 64)[32..]].concat()), Origin::Corrupt);
    }

    #[test]
    fn a_flipped_bit_is_not_taken_for_a_splice() {
        for at in 16..64 {
            for bit in 0..8 {
                let mut value = value(42, STAMP, 64);
                value[at] ^= 1 << bit;
                assert_eq!(origin(42, &value), Origin::Corrupt, "bit {bit} of byte {at}");
            }
        }
    }
}
