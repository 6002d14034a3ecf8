//! Values that tell whose they are and whether they are whole.
//!
//! The key first, then, where there is room, a version, and both mixed at the end: a value of another key, or one whose ends
//! were written by different sets, is noticed. What lies between is the same in all.

use super::Key;

/// Shorter values have no room for a version.
const VERSIONED_BYTES_MIN: usize = 24;

/// Makes and checks the values of one thread.
#[derive(Clone, Debug)]
pub(super) struct Values {
    written: Vec<u8>,
    read: Vec<u8>,
    version: u64,
    sets: u64,
    refused: u64,
    wrong: u64,
}

fn head(key: &Key) -> [u8; 8] {
    *key.first_chunk().expect("a key of 16 bytes")
}

fn tail(key: &Key, version: [u8; 8]) -> [u8; 8] {
    (u64::from_le_bytes(head(key)) ^ u64::from_le_bytes(version).rotate_left(32)).to_le_bytes()
}

impl Values {
    /// Values of this length, at least 8.
    pub(super) fn new(value_bytes: usize) -> Self {
        assert!(value_bytes >= 8, "a value tells its key");
        Self {
            written: vec![0xa5; value_bytes],
            read: Vec::with_capacity(value_bytes),
            version: 0,
            sets: 0,
            refused: 0,
            wrong: 0,
        }
    }

    /// Sets the next value of this key.
    #[inline]
    pub(super) fn set(&mut self, key: &Key, cache: &mut impl super::Operations) {
        let stored = cache.set(key, self.next(key));
        self.sets += 1;
        self.refused += u64::from(!stored);
    }

    /// How many of 100 sets the cache said it could not do.
    pub(super) fn refused_percent<'a>(of: impl IntoIterator<Item = &'a Self>) -> f64 {
        let (sets, refused) =
            of.into_iter().fold((0, 0), |(sets, refused), values| (sets + values.sets, refused + values.refused));
        100.0 * refused as f64 / sets.max(1) as f64
    }

    /// The next value of this key.
    #[inline]
    fn next(&mut self, key: &Key) -> &[u8] {
        let value = &mut self.written;
        value[..8].copy_from_slice(&head(key));
        if value.len() >= VERSIONED_BYTES_MIN {
            self.version += 1;
            let version = self.version.to_le_bytes();
            value[8..16].copy_from_slice(&version);
            let end = value.len() - 8;
            value[end..].copy_from_slice(&tail(key, version));
        }
        value
    }

    /// Gets a value into the buffer and checks it.
    #[inline]
    pub(super) fn get(&mut self, key: &Key, cache: &mut impl super::Operations) -> bool {
        let found = cache.get(key, &mut self.read);
        if found && !self.fits(key) {
            self.wrong += 1;
        }
        found
    }

    /// Is what was read a value of this key?
    #[inline]
    fn fits(&self, key: &Key) -> bool {
        let value = &self.read[..];
        if value.len() != self.written.len() || value[..8] != head(key) {
            return false;
        }
        let version = || *value[8..].first_chunk().expect("a version");
        value.len() < VERSIONED_BYTES_MIN || value[value.len() - 8..] == tail(key, version())
    }

    /// What was read last.
    pub(super) fn read(&self) -> &[u8] {
        &self.read
    }

    /// Values that did not fit.
    pub(super) fn wrong(&self) -> u64 {
        self.wrong
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cache::{Operations, key_bytes};

    /// Answers every get with the same bytes.
    struct Same(Vec<u8>);

    impl Operations for Same {
        fn get(&mut self, _key: &Key, value: &mut Vec<u8>) -> bool {
            value.clone_from(&self.0);
            true
        }

        fn set(&mut self, _key: &Key, _value: &[u8]) -> bool {
            false
        }
    }

    #[test]
    fn values_of_others_and_torn_ones_are_noticed() {
        for value_bytes in [8, 23, 24, 100] {
            let mut values = Values::new(value_bytes);
            let key = key_bytes(5);
            let value = values.next(&key).to_vec();
            let newer = values.next(&key).to_vec();
            let check = |value: Vec<u8>, key: &Key| {
                let mut values = values.clone();
                assert!(values.get(key, &mut Same(value)));
                values.wrong() == 0
            };
            assert!(check(value.clone(), &key) && check(newer.clone(), &key));
            assert!(!check(value.clone(), &key_bytes(6)));
            assert!(!check(value[1..].to_vec(), &key));
            if value_bytes >= VERSIONED_BYTES_MIN {
                assert!(!check([&value[..16], &newer[16..]].concat(), &key));
            }
        }
    }
}
