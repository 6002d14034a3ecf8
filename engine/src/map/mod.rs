//! A concurrent hash map on the engine's lock-free index.
//!
//! [`HashMap`] is for many threads that read and write at once. `get` takes no lock and writes nothing that another
//! thread reads; inserts, updates and removals are lock-free; the table grows by eight buckets at a time, so that no single
//! operation pays for a resize. Work goes through [`Pinned`], which holds an epoch guard: references stay valid while it lives.
//!
//! ```
//! use memkv_engine::map::HashMap;
//!
//! let map = HashMap::new();
//! std::thread::scope(|scope| {
//!     scope.spawn(|| {
//!         map.pin().insert("one", 1);
//!     });
//!     scope.spawn(|| {
//!         map.pin().insert("two", 2);
//!     });
//! });
//! let map = map.pin();
//! assert_eq!(map.get("one"), Some(&1));
//! assert_eq!(map.update("two", |n| n + 1), Some(&3));
//! assert_eq!(map.remove("one"), Some(&1));
//! assert_eq!(map.len(), 1);
//! ```
//!
//! # Consistency
//! Every operation on one key is linearizable. [`Pinned::len`] and iteration are not snapshots: see there.
//!
//! # Memory
//! An entry is `size_of::<(K, V)>()` rounded up to 8 bytes, without overhead, in slabs of up to 2 MiB on huge pages; larger ones than 256 bytes are
//! allocations of their own. The index takes `64 / 4 * 1.06` = 17 bytes for an entry on average at any size (4 entries aimed at in a
//! 64-byte bucket of 7, and about one overflow bucket in twenty), and never shrinks. Removed and replaced entries are dropped once all
//! guards of that time are gone, in batches: a thread that stays pinned keeps all garbage of the process's default collector alive. Their memory
//! is used for the next ones; it goes back to the system when the map has been dropped and what was removed from it collected. A map of nothing takes about 8 KiB.
//!
//! # Where another map is better
//! Values are never handed out mutably, and a change replaces the entry: for large values that change often, put an atomic or a lock into the value.
//! A map that one thread uses alone, or behind one lock, wants `std::collections::HashMap`.

mod entry;
mod iter;
mod pool;
#[cfg(all(test, not(crossbeam_loom)))]
mod tests;

pub use iter::Iter;

use crate::sync::{Guard, pin};
use crate::table::{Hit, Inserted, Keys, Table};
use entry::{Entries, Entry};
use std::borrow::Borrow;
use std::fmt;
use std::hash::{BuildHasher, Hash};

/// The hasher used unless another is named: fast, and seeded anew for every map.
pub type DefaultHashBuilder = foldhash::quality::RandomState;

/// Entries per bucket that growth aims at: at 4 of 7 slots a search stays in one cache line in 98 of 100 cases.
const LOAD: u64 = 4;

/// A concurrent hash map; see the [module documentation](self).
///
/// Keys and values are `'static` and `Send`, also in a map that only one thread uses, because they are dropped by whichever thread of
/// the process happens to collect garbage, later. A key must compare equal to itself and hash alike as long as it is in use. Unlike with
/// `std`'s map, a `Hash` that answers differently from call to call is not only a logic error here: threads that help with the same split
/// could disagree about an entry, which would then be freed twice.
///
/// A map is invariant in its types, as everything is that can be written through `&self`:
/// ```compile_fail
/// use memkv_engine::map::HashMap;
/// let map: HashMap<u8, for<'a> fn(&'a str)> = HashMap::new();
/// let weaker: &HashMap<u8, fn(&'static str)> = &map;
/// ```
pub struct HashMap<K: 'static, V: 'static, S = DefaultHashBuilder> {
    table: Table,
    hasher: S,
    entries: Entries<K, V>,
}

// SAFETY: the map hands out `&K` and `&V` to any thread (Sync) and drops both on any thread (Send).
unsafe impl<K: Send + Sync, V: Send + Sync, S: Send> Send for HashMap<K, V, S> {}
// SAFETY: as above.
unsafe impl<K: Send + Sync, V: Send + Sync, S: Sync> Sync for HashMap<K, V, S> {}

impl<K, V> HashMap<K, V> {
    /// An empty map that grows as needed.
    #[must_use]
    pub fn new() -> HashMap<K, V> {
        HashMap::with_capacity(0)
    }

    /// An empty map with room for `capacity` entries before its first growth step.
    ///
    /// # Panics
    /// If memory for the index cannot be had.
    #[must_use]
    pub fn with_capacity(capacity: usize) -> HashMap<K, V> {
        HashMap::with_capacity_and_hasher(capacity, DefaultHashBuilder::default())
    }
}

impl<K, V, S> HashMap<K, V, S> {
    /// An empty map with a hasher of its own.
    #[must_use]
    pub fn with_hasher(hasher: S) -> HashMap<K, V, S> {
        HashMap::with_capacity_and_hasher(0, hasher)
    }

    /// An empty map with room for `capacity` entries and a hasher of its own.
    ///
    /// # Panics
    /// If memory for the index cannot be had.
    #[must_use]
    pub fn with_capacity_and_hasher(capacity: usize, hasher: S) -> HashMap<K, V, S> {
        HashMap { table: Table::new(capacity, LOAD), hasher, entries: Entries::new() }
    }

    /// Gives access to the map's operations; references that they return live as long as the [`Pinned`].
    ///
    /// Cost: a nanosecond or two and no fence where the system has `membarrier` (Linux 4.14), so a guard for each operation is fine. Now and then a pin drops what was removed before, and runs
    /// the `Drop` of keys and values. Nothing that was removed since is freed while a `Pinned` lives, so keep it for a batch
    /// of work, not for a connection's life, and never across an `.await`; see [`Pinned::repin`].
    #[inline]
    pub fn pin(&self) -> Pinned<'_, K, V, S> {
        Pinned { map: self, guard: pin() }
    }

    /// The number of entries: exact when nobody is writing, else give or take what is under way. Cost: 16 cache lines.
    #[must_use]
    pub fn len(&self) -> usize {
        self.table.len()
    }

    /// Is the map empty? As exact as [`HashMap::len`].
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes that the index occupies now, without the entries.
    #[must_use]
    pub fn index_bytes(&self) -> usize {
        self.table.bytes()
    }

    /// The map's hasher.
    pub fn hasher(&self) -> &S {
        &self.hasher
    }
}

impl<K, V, S: BuildHasher> HashMap<K, V, S> {
    /// The table takes its bucket from the top bits and its tag from the middle: a hasher that leaves these alone (identity) would do badly, so the
    /// hash is multiplied once more (Knuth, The Art of Computer Programming 3, 6.4: Fibonacci hashing), which carries every bit to the top. One whose lower bits
    /// are all alike has but one tag then, and a look-up compares every key of its bucket.
    #[inline]
    fn hash<Q: Hash + ?Sized>(&self, key: &Q) -> u64 {
        self.hasher.hash_one(key).wrapping_mul(0x9e37_79b9_7f4a_7c15)
    }
}

impl<K, V> Default for HashMap<K, V> {
    fn default() -> HashMap<K, V> {
        HashMap::new()
    }
}

impl<K: fmt::Debug + Hash + Eq + Send, V: fmt::Debug + Send, S: BuildHasher> fmt::Debug for HashMap<K, V, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.pin().iter()).finish()
    }
}

impl<K, V, S> Drop for HashMap<K, V, S> {
    fn drop(&mut self) {
        if !self.entries.need_drop() {
            return;
        }
        let guard = pin();
        let mut found = Vec::new();
        let mut from = Some(0);
        while let Some(hash) = from {
            from = self.table.visit_bucket(hash, &guard, &mut found);
            for hit in found.drain(..) {
                // SAFETY: exclusive access: this entry is live, so it was not retired, and nobody will find it again.
                unsafe { self.entries.free(hit.payload()) };
            }
        }
    }
}

/// A map under an epoch guard, made by [`HashMap::pin`]. All references it gives out live as long as it does.
///
/// It is neither `Send` nor `Sync`: the guard belongs to the thread.
pub struct Pinned<'m, K: 'static, V: 'static, S> {
    map: &'m HashMap<K, V, S>,
    guard: Guard,
}

impl<K, V, S> fmt::Debug for Pinned<'_, K, V, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pinned").field("len", &self.len()).finish_non_exhaustive()
    }
}

/// What [`Pinned::insert_if_absent`] found in the way.
#[derive(Debug, PartialEq, Eq)]
pub struct Present<'g, V> {
    /// The value that is there.
    pub current: &'g V,
    /// The value that was not inserted.
    pub rejected: V,
}

/// What [`Pinned::compute`] shall do with the key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operation<V> {
    /// Insert or replace the value.
    Put(V),
    /// Take the entry out.
    Remove,
    /// Leave everything as it is.
    Keep,
}

/// What [`Pinned::compute`] did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Computed<'g, V> {
    /// The key was absent; this is its value now.
    Inserted(&'g V),
    /// The value was replaced.
    Updated {
        /// The value before.
        old: &'g V,
        /// The value now.
        new: &'g V,
    },
    /// The entry was taken out.
    Removed(&'g V),
    /// Nothing was done; the value at that moment.
    Kept(Option<&'g V>),
}

/// The key an operation is about, for the table's questions.
struct ByKey<'a, K: 'static, V: 'static, S, Q: ?Sized> {
    map: &'a HashMap<K, V, S>,
    key: &'a Q,
}

impl<K: Borrow<Q> + Hash + Eq, V, S: BuildHasher, Q: Hash + Eq + ?Sized> Keys for ByKey<'_, K, V, S, Q> {
    #[inline]
    fn is_match(&self, payload: u64) -> bool {
        // SAFETY: the table asks about payloads that its caller's guard protects (T6).
        unsafe { Entry::<K, V>::at(payload) }.key.borrow() == self.key
    }

    fn hash_of(&self, payload: u64) -> u64 {
        // SAFETY: as above.
        self.map.hash(&unsafe { Entry::<K, V>::at(payload) }.key)
    }
}

impl<'m, K, V, S> Pinned<'m, K, V, S> {
    /// Pins anew, so that what was removed so far can be freed: for long work. As the borrow says, no reference of before may be kept. (Assigning a new `Pinned` to
    /// the variable of the old one does not do it: for a moment there are both.) Without effect while the thread has another `Pinned`.
    ///
    /// ```
    /// use memkv_engine::map::HashMap;
    /// let map = HashMap::new();
    /// let mut pinned = map.pin();
    /// for i in 0..100_000 {
    ///     pinned.insert(i % 10, i);
    ///     if i % 1000 == 0 {
    ///         pinned.repin();
    ///     }
    /// }
    /// ```
    #[inline]
    pub fn repin(&mut self) {
        self.guard.repin();
    }

    /// See [`HashMap::len`].
    #[must_use]
    pub fn len(&self) -> usize {
        self.map.len()
    }

    /// See [`HashMap::is_empty`].
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.map.is_empty()
    }

    fn entry(&self, payload: u64) -> &Entry<K, V> {
        // SAFETY: payloads come from hits under our guard; entries are freed through the epoch after they became
        // unreachable (T6).
        unsafe { Entry::at(payload) }
    }
}

impl<'m, K: Hash + Eq + Send, V: Send, S: BuildHasher> Pinned<'m, K, V, S> {
    /// The hash of a key, whose bucket is asked for at the same time.
    #[inline]
    fn hash<Q: Hash + ?Sized>(&self, key: &Q) -> u64 {
        let hash = self.map.hash(key);
        self.map.table.prefetch(hash);
        hash
    }

    fn find<Q>(&self, hash: u64, key: &Q) -> Option<Hit<'_>>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        self.map.table.find(hash, &ByKey { map: self.map, key }, &self.guard)
    }

    fn replace(&self, hit: Hit<'_>, payload: u64) -> bool {
        let key = &self.entry(payload).key;
        let replaced = self.map.table.replace(hit, payload, &ByKey { map: self.map, key }, &self.guard).is_ok();
        if replaced {
            // SAFETY: our CAS unlinked it, nobody else retires it.
            unsafe { self.map.entries.retire(hit.payload(), &self.guard) };
        }
        replaced
    }

    fn unlink(&self, hit: Hit<'_>) -> bool {
        let key = &self.entry(hit.payload()).key;
        let removed = self.map.table.remove(hit, &ByKey { map: self.map, key }, &self.guard).is_ok();
        if removed {
            // SAFETY: our CAS unlinked it, nobody else retires it.
            unsafe { self.map.entries.retire(hit.payload(), &self.guard) };
        }
        removed
    }

    /// Tries to link a payload; on success does a step of growth.
    fn link(&self, hash: u64, payload: u64) -> Inserted<'_> {
        let keys = ByKey { map: self.map, key: &self.entry(payload).key };
        let inserted = self.map.table.insert(hash, payload, &keys, &self.guard);
        if matches!(inserted, Inserted::New) {
            self.map.table.grow_step(&keys, &self.guard);
        }
        inserted
    }

    /// The value of a key. Takes no lock, writes nothing shared: one cache line of index, one of the entry.
    #[inline]
    pub fn get<Q>(&self, key: &Q) -> Option<&V>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        self.get_key_value(key).map(|(_, value)| value)
    }

    /// Like [`Pinned::get`], with the key as it is stored.
    #[inline]
    pub fn get_key_value<Q>(&self, key: &Q) -> Option<(&K, &V)>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        let hit = self.map.table.find(self.map.hash(key), &ByKey { map: self.map, key }, &self.guard)?;
        let entry = self.entry(hit.payload());
        Some((&entry.key, &entry.value))
    }

    /// Is the key there? Costs as much as [`Pinned::get`].
    #[inline]
    pub fn contains<Q>(&self, key: &Q) -> bool
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        self.get_key_value(key).is_some()
    }

    /// Inserts or replaces, and answers the value before. One cell for the entry; lock-free; may split eight buckets. The key is cloned only if
    /// another insert of the same key gets in the way.
    #[inline]
    pub fn insert(&self, key: K, value: V) -> Option<&V>
    where
        K: Clone,
    {
        let hash = self.hash(&key);
        let mut payload = self.map.entries.allocate(key, value);
        loop {
            // Ends: each repetition means that another thread changed this key, or claimed it before us.
            match self.link(hash, payload) {
                Inserted::New => return None,
                Inserted::Exists(hit) => {
                    if self.replace(hit, payload) {
                        return Some(&self.entry(hit.payload()).value);
                    }
                }
                // SAFETY: the payload is ours and in no slot.
                Inserted::Retry => payload = unsafe { self.map.entries.reissue(payload, &self.guard) },
            }
        }
    }

    /// Inserts only if the key is absent.
    ///
    /// # Errors
    /// [`Present`] with the value that is there and the one that was not inserted.
    pub fn insert_if_absent(&self, key: K, value: V) -> Result<&V, Present<'_, V>>
    where
        K: Clone,
    {
        let hash = self.hash(&key);
        if let Some(hit) = self.find(hash, &key) {
            return Err(Present { current: &self.entry(hit.payload()).value, rejected: value });
        }
        let mut payload = self.map.entries.allocate(key, value);
        loop {
            match self.link(hash, payload) {
                Inserted::New => return Ok(&self.entry(payload).value),
                Inserted::Exists(hit) => {
                    // SAFETY: the payload is ours and in no slot.
                    let rejected = unsafe { self.map.entries.retire_but_value(payload, &self.guard) };
                    return Err(Present { current: &self.entry(hit.payload()).value, rejected });
                }
                // SAFETY: as above.
                Inserted::Retry => payload = unsafe { self.map.entries.reissue(payload, &self.guard) },
            }
        }
    }

    /// Replaces the value of a key by a function of it, atomically, and answers the new value; `None` if the key is absent.
    ///
    /// `change` may run several times if others change the key meanwhile. The key is cloned into the new entry.
    pub fn update<Q>(&self, key: &Q, mut change: impl FnMut(&V) -> V) -> Option<&V>
    where
        K: Borrow<Q> + Clone,
        Q: Hash + Eq + ?Sized,
    {
        let hash = self.hash(key);
        loop {
            let hit = self.find(hash, key)?;
            let old = self.entry(hit.payload());
            let payload = self.map.entries.allocate(old.key.clone(), change(&old.value));
            if self.replace(hit, payload) {
                return Some(&self.entry(payload).value);
            }
            // SAFETY: never shown to anybody: `replace` failed.
            unsafe { self.map.entries.free(payload) };
        }
    }

    /// Atomic read-modify-write of one key: `decide` sees the value, if any, and says what becomes of it.
    ///
    /// `decide` may run several times; the last run decides. The key is cloned into a new entry.
    ///
    /// ```
    /// use memkv_engine::map::{Computed, HashMap, Operation};
    /// let map = HashMap::new();
    /// let map = map.pin();
    /// // A counter that goes away at zero.
    /// let release = |n: Option<&u32>| match n {
    ///     Some(1) => Operation::Remove,
    ///     Some(n) => Operation::Put(n - 1),
    ///     None => Operation::Keep,
    /// };
    /// map.insert("handles", 2);
    /// assert_eq!(map.compute("handles", release), Computed::Updated { old: &2, new: &1 });
    /// assert_eq!(map.compute("handles", release), Computed::Removed(&1));
    /// assert_eq!(map.compute("handles", release), Computed::Kept(None));
    /// ```
    pub fn compute(&self, key: K, mut decide: impl FnMut(Option<&V>) -> Operation<V>) -> Computed<'_, V>
    where
        K: Clone,
    {
        let hash = self.hash(&key);
        loop {
            let hit = self.find(hash, &key);
            let old = hit.map(|hit| &self.entry(hit.payload()).value);
            match (hit, decide(old)) {
                (_, Operation::Keep) | (None, Operation::Remove) => return Computed::Kept(old),
                (Some(hit), Operation::Remove) => {
                    if self.unlink(hit) {
                        return Computed::Removed(&self.entry(hit.payload()).value);
                    }
                }
                (Some(hit), Operation::Put(value)) => {
                    let payload = self.map.entries.allocate(key.clone(), value);
                    if self.replace(hit, payload) {
                        let old = &self.entry(hit.payload()).value;
                        return Computed::Updated { old, new: &self.entry(payload).value };
                    }
                    // SAFETY: never shown to anybody: `replace` failed.
                    unsafe { self.map.entries.free(payload) };
                }
                (None, Operation::Put(value)) => {
                    let payload = self.map.entries.allocate(key.clone(), value);
                    match self.link(hash, payload) {
                        Inserted::New => return Computed::Inserted(&self.entry(payload).value),
                        // Somebody else inserted the key, and may have seen our entry: decide again, with a new one (T4).
                        // SAFETY: ours, in no slot, retired once.
                        Inserted::Exists(_) | Inserted::Retry => unsafe {
                            self.map.entries.retire(payload, &self.guard);
                        },
                    }
                }
            }
        }
    }

    /// Takes a key out and answers its value. No allocation.
    #[inline]
    pub fn remove<Q>(&self, key: &Q) -> Option<&V>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        self.remove_if(key, |_, _| true).unwrap_or(None)
    }

    /// Takes a key out if `condition` holds for the entry; check and removal are one atomic step.
    ///
    /// # Errors
    /// The value that is there, if the condition does not hold for it.
    pub fn remove_if<Q>(&self, key: &Q, mut condition: impl FnMut(&K, &V) -> bool) -> Result<Option<&V>, &V>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        let hash = self.hash(key);
        while let Some(hit) = self.find(hash, key) {
            let entry = self.entry(hit.payload());
            if !condition(&entry.key, &entry.value) {
                return Err(&entry.value);
            }
            if self.unlink(hit) {
                return Ok(Some(&entry.value));
            }
        }
        Ok(None)
    }

    /// Visits entries in no particular order. A key that is there throughout is visited exactly once, also while the
    /// map grows; one that comes or goes meanwhile at most once.
    #[must_use]
    pub fn iter(&self) -> Iter<'_, K, V, S> {
        Iter::new(self)
    }

    /// Removes every entry that was there when the call began and is still there when its turn comes. Not atomic: others
    /// may see a part removed.
    pub fn clear(&self) {
        let mut found = Vec::new();
        let mut from = Some(0);
        while let Some(hash) = from {
            let next = self.map.table.visit_bucket(hash, &self.guard, &mut found);
            // A removal that fails met a change or a split: look at the bucket again.
            if found.drain(..).all(|hit| self.unlink(hit)) {
                from = next;
            }
        }
    }
}

impl<K: Hash + Eq + Send, V: Send, S: BuildHasher> HashMap<K, V, S> {
    /// Calls `visit` for entries as [`Pinned::iter`] does, but pins anew now and then, so that a long walk over a large map does
    /// not hold back reclamation.
    pub fn for_each(&self, mut visit: impl FnMut(&K, &V)) {
        /// Buckets between two pins: some microseconds of work.
        const BUCKETS_PER_PIN: usize = 128;
        let mut pinned = self.pin();
        let mut found = Vec::new();
        let mut from = Some(0);
        for step in 1_usize.. {
            let Some(hash) = from else { return };
            from = iter::visit_bucket(&pinned, hash, &mut found);
            for &payload in &found {
                let entry = pinned.entry(payload);
                visit(&entry.key, &entry.value);
            }
            if step.is_multiple_of(BUCKETS_PER_PIN) {
                pinned.repin();
            }
        }
    }
}
