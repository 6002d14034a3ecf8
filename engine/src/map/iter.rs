//! Iteration in hash order, one bucket at a time.

use super::{Entry, Pinned};
use std::fmt;
use std::hash::{BuildHasher, Hash};

/// Iterator over the entries of a map; see [`Pinned::iter`].
pub struct Iter<'p, K: 'static, V: 'static, S> {
    map: &'p Pinned<'p, K, V, S>,
    /// The hash at which the next bucket begins.
    from: Option<u64>,
    /// Payloads of the bucket at hand that have not been handed out.
    found: Vec<u64>,
}

impl<'p, K: Hash + Eq, V, S: BuildHasher> Iter<'p, K, V, S> {
    pub(super) fn new<'m: 'p>(map: &'p Pinned<'m, K, V, S>) -> Iter<'p, K, V, S> {
        Iter { map, from: Some(0), found: Vec::new() }
    }
}

/// Collects the payloads of one bucket, each key once.
pub(super) fn visit_bucket<K: Hash + Eq, V, S: BuildHasher>(
    map: &Pinned<'_, K, V, S>,
    from: u64,
    payloads: &mut Vec<u64>,
) -> Option<u64> {
    let mut found = Vec::new();
    let next = map.map.table.visit_bucket(from, &map.guard, &mut found);
    payloads.clear();
    for hit in found {
        // A key that was removed and inserted again while we looked may stand in two slots of what we saw.
        let key = &map.entry(hit.payload()).key;
        if payloads.iter().all(|&other| map.entry(other).key != *key) {
            payloads.push(hit.payload());
        }
    }
    next
}

impl<'p, K: Hash + Eq, V, S: BuildHasher> Iterator for Iter<'p, K, V, S> {
    type Item = (&'p K, &'p V);

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(payload) = self.found.pop() {
                // SAFETY: found under the guard of `map`, which outlives `'p`.
                let entry: &'p Entry<K, V> = unsafe { Entry::at(payload) };
                return Some((&entry.key, &entry.value));
            }
            self.from = visit_bucket(self.map, self.from?, &mut self.found);
            if self.found.is_empty() && self.from.is_none() {
                return None;
            }
        }
    }
}

impl<K, V, S> fmt::Debug for Iter<'_, K, V, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Iter").field("from", &self.from).finish_non_exhaustive()
    }
}
