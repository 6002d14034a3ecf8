//! Three kinds of values, in key spaces of their own, so that each can be checked by its own rules.
//!
//! A [`Key`](crate::workload::Key) carries its space in its two highest bits; the rest is the key's number.

/// What the value of a key is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Space {
    /// A value that is written whole. Names begin with `k`.
    Items,
    /// A number that is counted up. Names begin with `n`.
    Counters,
    /// Elements that are put in front or behind. Names begin with `l`.
    Lists,
}

const SHIFT: u32 = 62;

impl Space {
    /// All spaces.
    pub const ALL: [Self; 3] = [Self::Items, Self::Counters, Self::Lists];

    /// The key with this number in this space.
    #[inline]
    pub fn key(self, number: u64) -> u64 {
        (self as u64) << SHIFT | number
    }

    /// The space of a key.
    #[inline]
    pub fn of(key: u64) -> Self {
        Self::ALL[((key >> SHIFT) as usize).min(2)]
    }

    /// First byte of the names in this space.
    pub(crate) fn initial(self) -> u8 {
        b"knl"[self as usize]
    }
}

/// The number of a key within its space.
#[inline]
pub fn number(key: u64) -> u64 {
    key & ((1 << SHIFT) - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_remember_their_space_and_number() {
        for space in Space::ALL {
            for key in [0, 7, (1 << SHIFT) - 1] {
                assert_eq!((Space::of(space.key(key)), number(space.key(key))), (space, key));
            }
        }
    }
}
