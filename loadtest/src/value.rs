//! Values that prove where they come from.
//!
//! A value of 16 bytes or more is a function of its key, of who wrote it, of that writer's version number and of its own
//! length, so a reader can tell a genuine value from one of another key, from a torn one and from one that nobody wrote.
//! In 64-bit little-endian words:
//!
//! ```text
//! word 0      hash of the key number
//! word 1      run (16 bits) | writer (16 bits) | version (32 bits)
//! word 2...   filler: a hash of words 0 and 1, the length and the position; the last word is cut to fit
//! ```
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
    /// Not a value of ours, or not all of it is of the same value.
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
        Origin::Corrupt
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
    seed: u64,
}

impl Filler {
    fn new(hash: u64, word: u64, value_bytes: usize) -> Self {
        Self { seed: fold(hash ^ word.rotate_left(17), value_bytes as u64 ^ 0x8ebc_6af0_9c88_c6e3) }
    }

    fn word(&self, index: u64) -> u64 {
        fold(self.seed ^ index, 0x5896_5ff5_3c2d_b9d5)
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
                assert_eq!(origin(42, &value), Origin::Corrupt, "byte {at} of {value_bytes}");
            }
        }
    }

    #[test]
    fn a_value_cut_short_or_spliced_from_two_shows() {
        let old = value(42, STAMP, 64);
        let new = value(42, Stamp { version: STAMP.version + 1, ..STAMP }, 64);
        assert_eq!(origin(42, &old[..63]), Origin::Corrupt);
        for cut in 17..64 {
            let spliced = [&old[..cut], &new[cut..]].concat();
            assert_eq!(origin(42, &spliced), Origin::Corrupt, "spliced at {cut}");
        }
    }
}
