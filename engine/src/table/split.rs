//! Growth: a bucket is frozen, copied to its two children, and left behind. A step of the state leaves a group of neighbours behind at once.
//!
//! Every step is repeatable: freezing sets bits that are never cleared, the frozen words then say exactly which word
//! goes to which slot of which child, and each child slot is filled by a CAS from unborn, which succeeds once. So any
//! number of threads may do the same split at once, and a thread that wakes up late changes nothing (T1, T3).

use super::bucket::{Bucket, LINK_NONE, Node, Overflow};
use super::level::LevelMemory;
use super::word::{EMPTY, UNBORN, Word};
use super::{Keys, LEVELS, State, Table, prefetch_line_to_write};
use crate::sync::Guard;
use crate::sync::{AtomicU64, Ordering};
use std::sync::Arc;

/// Buckets that are split in one step of the state (a power of two): every operation reads the state, and misses it after each step of
/// another thread. Models have steps of one, but where they say otherwise.
const GROUP: u64 = if cfg!(crossbeam_loom) { 1 } else { 8 };

/// So many buckets less than wanted, and every insert does a step of growth, not only one at a time.
const BUCKETS_BEHIND_MAX: u64 = 8 * GROUP;

/// While it lives, the other threads may leave growth to this one.
struct Growing<'t>(&'t AtomicU64);

impl<'t> Growing<'t> {
    fn begin(growing: &'t AtomicU64) -> Option<Growing<'t>> {
        // Relaxed, here and below: who grows when is a question of speed only. The load spares the line a write that would be in vain.
        let is_ours = growing.load(Ordering::Relaxed) == 0 && growing.swap(1, Ordering::Relaxed) == 0;
        is_ours.then(|| Growing(growing))
    }
}

impl Drop for Growing<'_> {
    fn drop(&mut self) {
        self.0.store(0, Ordering::Relaxed);
    }
}

/// Writes the words of one child in order.
struct Filler<'t> {
    table: &'t Table,
    bucket: Node<'t>,
    slot: usize,
}

impl<'t> Filler<'t> {
    /// Fills the next slot of the chain; makes an overflow bucket where the last is full.
    fn put(&mut self, word: Word, guard: &'t Guard) {
        if self.slot == self.bucket.slots.len() {
            let next = self.table.overflow.take(false, guard);
            // Release: the unborn slots. Acquire on failure: the bucket another helper hung there (E2).
            match self.bucket.link.compare_exchange(UNBORN, next.address(), Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) => self.bucket = next.node(),
                Err(link) => {
                    self.table.overflow.retire(next, guard);
                    // SAFETY: read under the guard. If the link names no bucket, the child was finished long ago with a shorter
                    // chain of another time; every slot of the bucket at hand is born, and filling it again does nothing.
                    if let Some(other) = unsafe { Overflow::from_link(link) } {
                        self.bucket = other.node();
                    }
                }
            }
            self.slot = 0;
        }
        fill(&self.bucket.slots[self.slot], word.0);
        self.slot += 1;
    }

    /// Makes the rest of the last bucket empty.
    fn finish(self) {
        for slot in &self.bucket.slots[self.slot..] {
            fill(slot, EMPTY);
        }
        fill(self.bucket.link, LINK_NONE);
    }
}

/// The birth of a slot or link.
fn fill(slot: &AtomicU64, word: u64) {
    // Relaxed would do for a load that only saves a CAS; Acquire because the thread that moves the state must have seen
    // every word that it publishes, also those that other helpers wrote (E4).
    if slot.load(Ordering::Acquire) == UNBORN {
        // AcqRel: as above; the Release part passes on the entry behind the word (E1).
        let _ = slot.compare_exchange(UNBORN, word, Ordering::AcqRel, Ordering::Acquire);
    }
}

/// Makes a slot or link final.
fn freeze(slot: &AtomicU64) -> u64 {
    // Acquire: the entry behind the word (E1), whose hash we may have to ask for.
    let word = slot.load(Ordering::Acquire);
    if Word(word).is_frozen() {
        return word;
    }
    // AcqRel: the same; Release so that a later reader of the frozen word acquires what the word's writer published
    // (an RMW continues the release sequence).
    slot.fetch_or(Word::FREEZE, Ordering::AcqRel) | Word::FREEZE
}

impl Table {
    /// Counts a new entry and, now and then, works out how many buckets there should be.
    pub(super) fn note_insert(&self) {
        if let Some(total) = self.entries.add(1) {
            let wanted = (total.max(0) as u64).div_ceil(self.load);
            // Relaxed: a hint for `wants_split`.
            if wanted > self.buckets_wanted.load(Ordering::Relaxed) {
                self.buckets_wanted.store(wanted, Ordering::Relaxed);
            }
        }
    }

    /// Splits a group of buckets if the table is fuller than it should be: call it after an insert. Cost: nothing for most calls, some fifteen
    /// atomic operations a bucket for the one that does it; from level 16 on it reads no entries.
    #[inline]
    pub(crate) fn grow_step(&self, keys: &impl Keys, guard: &Guard) {
        if self.wants_split() {
            self.grow(keys, guard);
        }
    }

    /// One thread at a time is enough: two would work on the same buckets and take each other's cache lines away. But if growth falls behind, its
    /// thread may have been stopped, and everybody goes on with the work.
    #[cold]
    fn grow(&self, keys: &impl Keys, guard: &Guard) {
        if let Some(_growing) = Growing::begin(&self.growing) {
            self.help_split(self.state(), keys, guard);
        } else if self.state().buckets() + BUCKETS_BEHIND_MAX < self.buckets_wanted.load(Ordering::Relaxed) {
            self.help_split(self.state(), keys, guard);
        }
    }

    /// Makes sure that the splits which are next in `state` have been done: all up to the end of a group.
    pub(super) fn help_split(&self, state: State, keys: &impl Keys, guard: &Guard) {
        self.split_until(state, (state.split() / GROUP + 1) * GROUP, keys, guard);
    }

    /// Splits the buckets of `state` that come before `end`, if nobody has done so yet. Helpers need not agree about the end: who finds that
    /// another has gone a part of the way goes the rest, so that no frozen bucket is left behind.
    pub(super) fn split_until(&self, mut state: State, end: u64, keys: &impl Keys, guard: &Guard) {
        let level = state.level();
        let end = end.min(1 << level);
        if level as usize + 1 >= LEVELS || !self.reserve_level(level + 1, state) {
            return;
        }
        // Their cache misses overlap.
        for index in state.split()..end {
            prefetch_line_to_write(std::ptr::from_ref(self.bucket(level, index)).cast());
            for child in [2 * index, 2 * index + 1] {
                prefetch_line_to_write(std::ptr::from_ref(self.bucket(level + 1, child)).cast());
            }
        }
        for index in state.split()..end {
            self.split_bucket(level, index, keys, guard);
        }
        // Ends: each repetition means that another thread has moved the state towards `end`.
        while state.level() == level && state.split() < end {
            // Release: publishes the children (E4). Acquire on failure: the same, of those that another helper has published.
            match self.state.compare_exchange(state.0, state.after(end).0, Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) => return (state.split()..end).for_each(|index| self.retire_parent(level, index, guard)),
                Err(now) => state = State(now),
            }
        }
    }

    /// Freezes a bucket and fills its children.
    fn split_bucket(&self, level: u32, index: u64, keys: &impl Keys, guard: &Guard) {
        let parent = self.bucket(level, index);
        let children: [&Bucket; 2] = [self.bucket(level + 1, 2 * index), self.bucket(level + 1, 2 * index + 1)];
        freeze_chain(parent);
        let mut fillers = children.map(|bucket| Filler { table: self, bucket: bucket.node(), slot: 0 });
        let split_bit = 63 - level;
        let mut bucket = parent.node();
        loop {
            for slot in bucket.slots {
                // Acquire: as in `freeze`.
                let word = Word(slot.load(Ordering::Acquire));
                if word.is_live() {
                    let upper =
                        word.hash_bit(split_bit).unwrap_or_else(|| keys.hash_of(word.payload()) >> split_bit & 1 == 1);
                    fillers[usize::from(upper)].put(word.thawed(), guard);
                }
            }
            // SAFETY: reached under `guard`.
            match unsafe { bucket.next(Ordering::Acquire) } {
                Some(next) => bucket = next,
                None => break,
            }
        }
        fillers.into_iter().for_each(Filler::finish);
    }

    /// Makes sure that the array of a level is there. False if the split in question is over.
    pub(super) fn reserve_level(&self, level: u32, state: State) -> bool {
        let owner = &self.owners[level as usize];
        // Acquire: the memory that another thread has just reserved.
        let mut memory = owner.load(Ordering::Acquire);
        if memory.is_null() {
            let fresh = Arc::into_raw(LevelMemory::reserve(1 << level)).cast_mut();
            // AcqRel: publishes the memory, or acquires that of whoever was faster.
            memory = match owner.compare_exchange(std::ptr::null_mut(), fresh, Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) => fresh,
                Err(other) => {
                    // SAFETY: made by `into_raw` above, and shown to nobody.
                    drop(unsafe { Arc::from_raw(fresh) });
                    other
                }
            };
        }
        // SAFETY: a level lives at least as long as the guards of those who read a state at or before it (T6).
        let buckets = unsafe { &*memory }.buckets();
        let array = &self.arrays[64 - level as usize];
        // Relaxed: only saves the store, to a line that everybody reads.
        if array.load(Ordering::Relaxed) != buckets {
            // Release, idempotent: all helpers write the same address. The state that makes readers use it comes later (E4).
            array.store(buckets, Ordering::Release);
        }
        self.state() == state
    }

    /// After the state has moved past a bucket: its overflow buckets and, now and then, pages of its level go back (T5, T6).
    fn retire_parent(&self, level: u32, index: u64, guard: &Guard) {
        let mut link = &self.bucket(level, index).link;
        // SAFETY: reached under `guard`; frozen, so the chain is final (T1).
        while let Some(next) = unsafe { Overflow::from_link(link.load(Ordering::Acquire)) } {
            self.overflow.retire(next, guard);
            link = &next.link;
        }
        // Relaxed: an older owner than the one of the state that we just moved.
        let owner = self.owners[level as usize].load(Ordering::Relaxed);
        let (done, count) = (index as usize + 1, 1 << level);
        let step = LevelMemory::release_step(count);
        if done == count {
            // SAFETY: `into_raw` made the pointer, and this is the table's own count: no state names the level any more.
            let memory = unsafe { Arc::from_raw(owner) };
            guard.defer(move || drop(memory));
        } else if done.is_multiple_of(step) {
            // SAFETY: the table's own count is given up by the last split of the level, through the epoch: not before we unpin.
            let memory = unsafe {
                Arc::increment_strong_count(owner);
                Arc::from_raw(owner)
            };
            // Closures of different threads run in any order: each holds a count, so the level outlives them all.
            // SAFETY: the state has passed these buckets; whoever still reads them was pinned before.
            guard.defer(move || unsafe { memory.release(done - step, done) });
        }
    }
}

/// Freezes every slot and link of a chain; afterwards it is a constant (T1).
pub(super) fn freeze_chain(parent: &Bucket) {
    let mut bucket = parent.node();
    loop {
        for slot in bucket.slots {
            freeze(slot);
        }
        // SAFETY: the caller reached `parent` under its guard.
        match unsafe { Overflow::from_link(freeze(bucket.link)) } {
            Some(next) => bucket = next.node(),
            None => return,
        }
    }
}

#[cfg(all(test, not(crossbeam_loom)))]
mod tests {
    use super::*;
    use crate::sync::pin;
    use crate::table::Inserted;

    /// Hashes are payloads in the upper part of the word.
    struct ByPayload(u64);

    impl Keys for ByPayload {
        fn is_match(&self, payload: u64) -> bool {
            payload == self.0
        }

        fn hash_of(&self, payload: u64) -> u64 {
            payload << 32
        }
    }

    fn insert(table: &Table, payload: u64, guard: &Guard) {
        assert!(matches!(table.insert(payload << 32, payload, &ByPayload(payload), guard), Inserted::New));
    }

    fn remove(table: &Table, payload: u64, guard: &Guard) {
        let hit = table.find(payload << 32, &ByPayload(payload), guard).expect("it is there");
        assert!(table.remove(hit, &ByPayload(payload), guard).is_ok());
    }

    /// A payload for every number, all over the buckets.
    fn spread(number: u64) -> u64 {
        (number * 0x9e37_79b9) & 0xffff_ffff
    }

    /// Helpers that do not agree how many buckets a step of the state splits leave the same table.
    #[test]
    fn t3_helpers_of_one_bucket_and_of_a_group_agree() {
        for (first, second) in [(1, 8), (8, 1), (3, 5), (5, 3)] {
            let (table, guard) = (Table::new(0, 6), pin());
            for payload in 1..=40 {
                insert(&table, spread(payload), &guard);
            }
            let (state, keys) = (table.state(), ByPayload(0));
            assert!(table.reserve_level(state.level() + 1, state));
            // Stopped before its step of the state.
            (0..first).for_each(|index| table.split_bucket(state.level(), index, &keys, &guard));
            table.split_until(state, second, &keys, &guard);
            assert_eq!(table.state(), state.after(second));
            table.split_until(state, first, &keys, &guard);
            assert_eq!(table.state(), state.after(second), "a step from an old state is none");
            while table.level() == state.level() {
                table.help_split(table.state(), &keys, &guard);
            }
            assert_eq!(table.state(), State::new(state.level() + 1, 0));
            table.validate(&keys, &guard);
        }
    }

    #[test]
    fn growth_goes_on_without_the_thread_that_has_begun_it() {
        let (table, guard) = (Table::new(0, 4), pin());
        let stopped = Growing::begin(&table.growing).expect("nobody else grows");
        assert!((0..2).all(|_| Growing::begin(&table.growing).is_none()), "one that is refused changes nothing");
        let grow = |range: std::ops::RangeInclusive<u64>| {
            for payload in range {
                let payload = spread(payload);
                insert(&table, payload, &guard);
                table.grow_step(&ByPayload(payload), &guard);
            }
        };
        grow(1..=10_000);
        let buckets = table.state().buckets();
        assert!((2_480 - BUCKETS_BEHIND_MAX..2_500 - BUCKETS_BEHIND_MAX / 2).contains(&buckets), "{buckets} buckets");
        drop(stopped);
        grow(10_001..=10_064);
        assert!(!table.wants_split());
        table.validate(&ByPayload(0), &guard);
    }

    /// A helper stops after any number of words, wakes up when the child has lost the overflow buckets that the split gave it, and changes nothing.
    #[test]
    fn t3_a_late_helper_changes_nothing_in_a_shortened_chain() {
        for stops_after in 0..=16 {
            for appended_since in [false, true] {
                let (table, guard) = (Table::new(0, 6), pin());
                for payload in 1..=16 {
                    insert(&table, payload, &guard);
                }
                let (state, keys) = (table.state(), ByPayload(0));
                let words: Vec<_> = (1..=16).map(|payload| Word::live(payload << 32, payload)).collect();
                assert!(table.reserve_level(state.level() + 1, state));
                freeze_chain(table.bucket(state.level(), 0));
                let child = table.bucket(state.level() + 1, 0);
                let mut late = Filler { table: &table, bucket: child.node(), slot: 0 };
                words[..stops_after].iter().for_each(|&word| late.put(word, &guard));
                table.help_split(state, &keys, &guard);
                // Three overflow buckets, of which the first two go, then perhaps all, with another in their place.
                (8..=13).for_each(|payload| remove(&table, payload, &guard));
                remove(&table, 1, &guard);
                insert(&table, 1, &guard);
                remove(&table, 1, &guard);
                insert(&table, 1, &guard);
                if appended_since {
                    (14..=16).for_each(|payload| remove(&table, payload, &guard));
                    remove(&table, 1, &guard);
                    (1..=1).chain(17..=18).for_each(|payload| insert(&table, payload, &guard));
                }
                let mut before = Vec::new();
                table.visit_bucket(0, &guard, &mut before);
                words[stops_after..].iter().for_each(|&word| late.put(word, &guard));
                late.finish();
                let mut after = Vec::new();
                table.visit_bucket(0, &guard, &mut after);
                let payloads =
                    |hits: &[crate::table::Hit<'_>]| hits.iter().map(|hit| hit.payload()).collect::<Vec<_>>();
                assert_eq!(payloads(&before), payloads(&after), "after {stops_after}");
                table.validate(&keys, &guard);
            }
        }
    }
}
