//! The prefix table of `stats detail` (protocol 9.3): how often keys with a prefix were asked for, found, stored and deleted.
//!
//! Counted while somebody has turned it on, for the classic commands. A prefix is what stands before the delimiter; keys without
//! one are not counted.

use std::io::Write as _;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use crate::limits::PREFIXES_MAX;

/// The table.
#[derive(Debug)]
pub struct Prefixes {
    counts: flurry::HashMap<Box<[u8]>, Counts>,
    delimiter: u8,
}

/// What is counted for one prefix. Relaxed throughout: statistics.
#[derive(Debug, Default)]
struct Counts {
    get: AtomicU64,
    hit: AtomicU64,
    set: AtomicU64,
    delete: AtomicU64,
}

impl Prefixes {
    /// An empty table for keys whose prefixes end before this byte.
    pub fn new(delimiter: u8) -> Prefixes {
        Prefixes { counts: flurry::HashMap::new(), delimiter }
    }

    /// Counts a key that was asked for.
    pub fn count_get(&self, key: &[u8], hit: bool) {
        self.count(key, |counts| {
            counts.get.fetch_add(1, Relaxed);
            counts.hit.fetch_add(u64::from(hit), Relaxed);
        });
    }

    /// Counts a storage command, whatever came of it.
    pub fn count_set(&self, key: &[u8]) {
        self.count(key, |counts| {
            counts.set.fetch_add(1, Relaxed);
        });
    }

    /// Counts a delete, whatever came of it.
    pub fn count_delete(&self, key: &[u8]) {
        self.count(key, |counts| {
            counts.delete.fetch_add(1, Relaxed);
        });
    }

    fn count(&self, key: &[u8], count: impl FnOnce(&Counts)) {
        let Some(len) = memchr::memchr(self.delimiter, key) else { return };
        let prefix = &key[..len];
        let table = self.counts.pin();
        match table.get(prefix) {
            Some(counts) => count(counts),
            // Give or take as many as there are threads.
            None if table.len() >= PREFIXES_MAX => {}
            None => match table.try_insert(prefix.into(), Counts::default()) {
                Ok(counts) => count(counts),
                Err(lost) => count(lost.current),
            },
        }
    }

    /// Forgets everything.
    pub fn clear(&self) {
        self.counts.pin().clear();
    }

    /// Adds a line for each prefix, in order.
    pub fn dump(&self, out: &mut Vec<u8>) {
        let table = self.counts.pin();
        let mut rows: Vec<_> = table.iter().collect();
        rows.sort_by_key(|(prefix, _)| *prefix);
        for (prefix, counts) in rows {
            let load = |count: &AtomicU64| count.load(Relaxed);
            let Counts { get, hit, set, delete } = counts;
            out.extend_from_slice(b"PREFIX ");
            out.extend_from_slice(prefix);
            let _ = write!(out, " get {} hit {} set {} del {}\r\n", load(get), load(hit), load(set), load(delete));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefixes_are_counted_up_to_a_bound() {
        let prefixes = Prefixes::new(b':');
        prefixes.count_get(b"a:1", true);
        prefixes.count_get(b"a:2:3", false);
        prefixes.count_set(b"b:");
        prefixes.count_delete(b":x");
        prefixes.count_get(b"none", true);
        let dump = |prefixes: &Prefixes| {
            let mut out = Vec::new();
            prefixes.dump(&mut out);
            String::from_utf8(out).unwrap()
        };
        assert_eq!(
            dump(&prefixes),
            "PREFIX  get 0 hit 0 set 0 del 1\r\nPREFIX a get 2 hit 1 set 0 del 0\r\nPREFIX b get 0 hit 0 set 1 del 0\r\n"
        );
        for i in 0..2 * PREFIXES_MAX {
            prefixes.count_set(format!("p{i}:").as_bytes());
        }
        assert_eq!(dump(&prefixes).lines().count(), PREFIXES_MAX);
        prefixes.clear();
        assert_eq!(dump(&prefixes), "");
    }
}
