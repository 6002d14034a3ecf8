//! The index: a lock-free hash table of 64-bit words that grows by a few buckets at a time.
//!
//! # Purpose and guarantee
//! Maps a 64-bit hash to a 45-bit payload; what a payload means, and when two of them are the same key, the caller
//! says through [`Keys`]. Every operation is linearizable per key. `find` takes no lock and writes nothing; `insert`,
//! `replace` and `remove` are lock-free: a thread that stops anywhere stops nobody else, also in the middle of a
//! split. The bucket layout (one line, slots and a link) follows DLHT (HPDC '24); growth is linear hashing (Litwin,
//! VLDB '80) with two changes: the index comes from the *top* bits of the hash, and a split copies into two *new*
//! buckets, so that every word's life is a straight line without return.
//!
//! # Representation
//! Level `L` is an array of `2^L` buckets; bucket `i` of it holds the hashes whose top `L` bits are `i`. One atomic,
//! `state = (L, s)`, says that buckets `0..s` of level `L` have been split into `0..2s` of level `L + 1`. A hash `h`
//! lives in bucket `h >> (64 - L)` of level `L` if that is `s` or more, else in bucket `h >> (63 - L)` of level
//! `L + 1`. The two children of a bucket are neighbours, and a walk in bucket order is a walk in hash order. Words: see
//! [`word`]; buckets and chains: see [`bucket`].
//!
//! # States of a slot
//! ```text
//! unborn  -> empty | live        `split::fill`, once; both by CAS from zero
//! empty   -> pending             `insert`: the claim
//! pending -> live                `insert::commit`, by the owner or by a helper
//! pending -> aborted             `insert::commit`, by the claim that goes first or by who saw a live entry of the key
//! aborted -> empty               the owner of the claim only
//! live    -> live'               `replace`: another payload for the same key
//! live    -> empty               `remove`
//! empty   -> closed              `close`, in overflow buckets, first slot first; final but for freezing
//! any     -> the same, frozen    `split::freeze`; final
//! ```
//! There is no edge out of frozen, none out of closed but to closed and frozen, none from empty or aborted to live, and none back to unborn.
//!
//! # States of a link
//! ```text
//! unborn  -> none | bucket       `split::fill`, `Filler::put`, once; both by CAS from zero
//! none    -> bucket              `append`
//! bucket  -> bucket' | none      `close`: the bucket is closed in every word, and bucket' is what its link names
//! any     -> the same, closed    `close`, in overflow buckets whose slots are all closed; final but for freezing
//! any     -> the same, frozen    `split::freeze`; final
//! ```
//! Only a link that is neither closed nor frozen changes what it names.
//!
//! # Invariants
//! - **T1** A frozen word never changes. A bucket whose words and links are all frozen is a constant.
//! - **T2** At most one slot of a chain holds a live word for a key (proof below).
//! - **T3** A bucket is reachable by `find` only when each of its slots has been born, which the state's Release says.
//! - **T4** A payload is claimed at most once between its allocation and its commit: an insert that has to give up a
//!   claim answers [`Inserted::Retry`], and the caller comes back with a payload that no slot has seen. (A helper that
//!   decided on the old claim must not commit a new one.) A claim that was frozen may be repeated: its slot is final.
//! - **T5** An overflow bucket has one place in one chain from `take` to `retire`; it is retired once, by the thread
//!   whose CAS took it out of the link in front of it, or moved the state past the head of its chain; and comes back only when no guard of
//!   that time is left.
//!   (Never both: a link of a frozen chain is final. Never two links: of all that ever named a bucket, those of buckets that have
//!   left are closed, so only the one in front of it can change.)
//! - **T6** Whatever a thread reaches through the table it reaches under a guard that was pinned before it read the state.
//!   Level arrays, overflow buckets and the caller's payloads are freed only through the epoch after they became
//!   unreachable.
//! - **T7** An overflow bucket leaves its chain only when all its slots and then its link are closed. In a bucket, closed slots come first. A
//!   bucket with a closed slot takes no new claim, but for those of inserts that scanned before.
//! - **T8** Buckets of a chain are in the order in which they were appended, at any time. A walk from the head meets every bucket that is in the chain from the walk's
//!   beginning to its end, in that order and once.
//!
//! # Why a walk misses nothing (T8)
//! Let `B` stay in the chain, and let the walk stand at a bucket `X` before it. While `X` is in the chain, its link leads to
//! `B` by way of the buckets between. If `X` has left, its link is closed and names the bucket that followed when it was closed:
//! `B` or one before it, since nothing leaves from behind a closed link until the link in front of `X` has skipped `X`; from
//! there the same holds. If `X` closed as the last of its chain, `B` would have been appended after `X` had left, for a closed link takes no append. But the walk began at the head, so each bucket that
//! it meets was in the chain at some time since it began; `B` would be younger than the walk. Nothing is met twice: every link leads
//! to a bucket that was appended later. And what the walk meets is still there (T6): a bucket that a closed link names leaves
//! after the one with the closed link.
//!
//! # Why no key is there twice (T2)
//! An insert first claims an empty slot (pending), then scans the whole chain, then commits. Take two claims of one key
//! in slots `a < b` (chain order) that both commit. Claims and the scans' loads are sequentially consistent, so at least
//! one scan sees the other's claim. If `b`'s scan sees `a` pending, it resolves `a` first (commits or aborts it) and so
//! ends with `a` live, which aborts `b`, or with `a` aborted. If it sees `a` live, it aborts `b`. So `b`'s scan must have read slot `a` before
//! `a` was claimed. Then `a`'s scan, later still, sees `b`: live, and `a` aborts; pending, and `a`'s scan aborts `b`
//! before `a` may commit. Either way one of them does not commit. Splits do not disturb this: a commit in a bucket
//! precedes the freezing of its slot, hence the split, hence every claim in the children. (So a scan need not ask whether slots without a rival are
//! frozen; `insert::commit_unopposed`, which reads one bucket at once, does not.)
//!
//! Nor does closing. A slot that holds a claim is not empty, so its bucket stays in the chain until the claim is decided and what it
//! committed has been removed. Claims, and all operations on links but those of readers and of freezing (which changes no name), are
//! sequentially consistent: each scan reads the chain as it was at some moment in that order, later from link to link, which is the walk of T8. So it meets the other claim's slot, or that slot is closed, and
//! what was in it no longer counts. "Earlier in the chain" is the order of T8, which never changes; a scan knows it by having met its own slot or not. A helper whose
//! claim was decided long ago may find its bucket gone: it asks before it draws a conclusion from the order.
//!
//! # Progress
//! Of the claims for one key the first in chain order can only be aborted by a live entry. Everybody who meets it
//! commits it, so somebody's insert succeeds whatever stops. A frozen slot makes a writer finish the split itself, which
//! takes a bounded number of steps, and then go on in the child. A closer that stops leaves a bucket that is usable or that the next
//! insert into the chain takes out: every step of closing can be done by anybody, and a full chain ends in a link that is open,
//! or in a bucket without entries, which goes first. The price of never taking a step back: if an insert with an old scan claims a later slot of a bucket whose first is closed, the closed slots
//! are idle until its entry has gone.
//!
//! # Linearization points
//! `find` hit: the load of the word (if the word is frozen: the later load of the state shows that the bucket was still
//! current). Miss: somewhere during the scan; a key that is there throughout stays in its slot, which the scan meets (T8), or is seen frozen. Insert: the CAS
//! pending -> live. `replace`, `remove`: their CAS.
//!
//! # Orderings
//! | edge | writer | reader | carries |
//! |---|---|---|---|
//! | E1 | claim, `replace` (Release part) | loads of slots (Acquire) | the record or entry behind the payload |
//! | E2 | append, unlinking (Release part) | loads of links (Acquire) | the slots and link of the bucket that is named |
//! | E3 | claim, append, closing, unlinking (SeqCst) | links in scans, slots in a commit's (SeqCst) | one of two claims sees the other (T2) |
//! | E4 | CAS on the state (Release) | loads of the state (Acquire) | the children's words (T3) |
//! | E5 | push to the pool (Release) | pop (Acquire) | the link in a free bucket |

mod bucket;
mod close;
mod insert;
mod level;
#[cfg(all(test, crossbeam_loom))]
mod models;
mod pool;
mod split;
#[cfg(all(test, not(crossbeam_loom)))]
mod tests;
mod word;

use crate::counter::SignedCount;
use crate::sync::Guard;
use crate::sync::{AtomicPtr, AtomicU64, Ordering};
#[cfg(test)]
use bucket::LINK_CLOSED;
use bucket::{Bucket, LINK_NONE};
use crossbeam_utils::CachePadded;
use level::LevelMemory;
use pool::OverflowPool;
use std::sync::Arc;
#[cfg(test)]
use word::CLOSED;
use word::{EMPTY, Word};

pub(crate) use insert::Inserted;
pub(crate) use word::PAYLOAD_BITS;

/// What the table has to ask about payloads.
pub(crate) trait Keys {
    /// Is this the key that the operation is about? Asked only for payloads with the right tag.
    fn is_match(&self, payload: u64) -> bool;
    /// The hash under which this payload was inserted.
    fn hash_of(&self, payload: u64) -> u64;
}

/// Levels that can exist: more buckets than that do not fit 48 bits of address space.
const LEVELS: usize = 42;
/// The lowest level a table starts with: hashes are shifted by `64 - level`, which must be less than 64.
pub(crate) const LEVEL_MIN: u32 = if cfg!(crossbeam_loom) { 1 } else { 3 };

/// `(level, split)` in one word: how far a hash of this level is shifted, `64 - level`, in the low six bits, and above them how many
/// buckets of the level have been split. A shift by the word itself is a shift by the level's, because processors look at six bits only.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct State(u64);

impl State {
    const SHIFT_BITS: u32 = 6;

    fn new(level: u32, split: u64) -> State {
        debug_assert!((1..64).contains(&level));
        State(split << Self::SHIFT_BITS | u64::from(64 - level))
    }

    #[inline]
    fn level(self) -> u32 {
        64 - (self.0 & ((1 << Self::SHIFT_BITS) - 1)) as u32
    }

    /// How many buckets of the level have been split; the next one to be split.
    #[inline]
    fn split(self) -> u64 {
        self.0 >> Self::SHIFT_BITS
    }

    #[inline]
    fn buckets(self) -> u64 {
        (1 << self.level()) + self.split()
    }

    /// The state when all buckets of the level that come before `end` have been split.
    fn after(self, end: u64) -> State {
        if end >= 1 << self.level() { State::new(self.level() + 1, 0) } else { State::new(self.level(), end) }
    }
}

/// An entry that `find` has seen, and the slot it was in. Valid under the guard of the find.
#[derive(Clone, Copy)]
pub(crate) struct Hit<'g> {
    slot: &'g AtomicU64,
    word: Word,
}

impl Hit<'_> {
    #[inline]
    pub(crate) fn payload(self) -> u64 {
        self.word.payload()
    }
}

/// Why a conditional change of a found entry did not happen: it has changed, or a split came between. Find it again.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Changed;

/// The lock-free index; see the module documentation.
pub(crate) struct Table {
    state: CachePadded<AtomicU64>,
    /// How many buckets the table should have; raised by inserts, followed by splits.
    buckets_wanted: CachePadded<AtomicU64>,
    /// 1 while a thread does a step of growth, so that others need not.
    growing: CachePadded<AtomicU64>,
    /// The first bucket of each level that has been reserved, at the place of its shift, `64 - level`; entries of levels that are over stay
    /// behind, unused.
    arrays: [AtomicPtr<Bucket>; 64],
    /// The table's own count of each level's memory (`Arc::into_raw`).
    owners: [AtomicPtr<LevelMemory>; LEVELS],
    overflow: Arc<OverflowPool>,
    entries: SignedCount,
    /// Entries per bucket that growth aims at.
    load: u64,
}

impl Table {
    /// A table for about `capacity` entries that aims at `load` entries a bucket.
    pub(crate) fn new(capacity: usize, load: u64) -> Table {
        let buckets = (capacity as u64).div_ceil(load).max(1 << LEVEL_MIN);
        let level = buckets.ilog2();
        let state = State::new(level, buckets - (1 << level));
        let arrays: [AtomicPtr<Bucket>; 64] = std::array::from_fn(|_| AtomicPtr::new(std::ptr::null_mut()));
        let owners: [AtomicPtr<LevelMemory>; LEVELS] = std::array::from_fn(|_| AtomicPtr::new(std::ptr::null_mut()));
        // As if the first buckets had been split already: their children are there in their place.
        for (level, used) in [(level, state.split()..1 << level), (level + 1, 0..2 * state.split())] {
            if used.is_empty() {
                continue;
            }
            let memory = LevelMemory::reserve(1 << level);
            for i in used {
                // SAFETY: `i` is below the count that was reserved.
                unsafe { &*memory.buckets().add(i as usize) }.reset();
            }
            // Relaxed: the table is not shared yet.
            arrays[64 - level as usize].store(memory.buckets(), Ordering::Relaxed);
            owners[level as usize].store(Arc::into_raw(memory).cast_mut(), Ordering::Relaxed);
        }
        Table {
            state: CachePadded::new(AtomicU64::new(state.0)),
            buckets_wanted: CachePadded::new(AtomicU64::new(0)),
            growing: CachePadded::new(AtomicU64::new(0)),
            arrays,
            owners,
            overflow: OverflowPool::new(),
            entries: SignedCount::new(),
            load,
        }
    }

    #[inline]
    fn state(&self) -> State {
        // Acquire: the children of every bucket that this state calls split have all their words (E4, T3).
        State(self.state.load(Ordering::Acquire))
    }

    /// The first bucket of the chain that `hash` belongs to in `state`.
    #[inline]
    fn root<'g>(&self, state: State, hash: u64, _guard: &'g Guard) -> &'g Bucket {
        // SAFETY: T3, T6: the level is allocated, the index is below its count, and the caller is pinned.
        unsafe { &*self.address(state, hash) }
    }

    /// The address of that bucket, of `hash >> (64 - level)` or its child.
    #[inline]
    fn address(&self, state: State, hash: u64) -> *const Bucket {
        let is_split = hash.wrapping_shr(state.0 as u32) < state.split();
        // One level up is a shift that is less by one.
        let shift = state.0 as u32 - u32::from(is_split);
        // Relaxed: we know the level from a state that we read with Acquire (E4); its address was written before, and never changes.
        let array = self.arrays[(shift % 64) as usize].load(Ordering::Relaxed);
        array.wrapping_add(hash.wrapping_shr(shift) as usize)
    }

    /// Level and index of the bucket of `hash`.
    fn place(state: State, hash: u64) -> (u32, u64) {
        let level = state.level();
        let is_split = u32::from(hash >> (64 - level) < state.split());
        (level + is_split, hash >> (64 - level - is_split))
    }

    #[inline]
    fn bucket<'g>(&self, level: u32, index: u64) -> &'g Bucket {
        // Relaxed: as in `address`, or we have just reserved the level ourselves.
        let array = self.arrays[64 - level as usize].load(Ordering::Relaxed);
        debug_assert!(!array.is_null() && index < 1 << level);
        // SAFETY: T3, T6: the level is allocated, the index is below its count, and the caller is pinned.
        unsafe { &*array.add(index as usize) }
    }

    /// Tells the processor to fetch the bucket of `hash`. Needs no guard: the address is computed, not followed.
    #[inline]
    pub(crate) fn prefetch(&self, hash: u64) {
        prefetch_line(self.address(self.state(), hash).cast());
    }

    /// The payloads in the first bucket of the chain whose tag fits: what `find` will look at, without looking.
    #[inline]
    pub(crate) fn candidates(&self, hash: u64, guard: &Guard, mut visit: impl FnMut(u64)) {
        for slot in &self.root(self.state(), hash, guard).slots {
            // Relaxed: the payload is only prefetched, never followed.
            let word = Word(slot.load(Ordering::Relaxed));
            if word.is_live_with_tag(hash) {
                visit(word.payload());
            }
        }
    }

    /// Finds the live entry of a key. Cost: one cache line of the index (two for about one entry in ten) and what
    /// `is_match` reads. Lock-free; it repeats only when a split was completed in between.
    #[inline(always)]
    pub(crate) fn find<'g>(&self, hash: u64, keys: &impl Keys, guard: &'g Guard) -> Option<Hit<'g>> {
        self.find_in(self.root(self.state(), hash, guard), hash, keys, guard)
    }

    /// The usual case, without a branch that depends on where in the bucket the key lies: at most one word has the tag, it is the key's
    /// and not frozen, and the chain is one bucket long. Everything else is for [`Table::find_in_chain`].
    #[inline(always)]
    fn find_in<'g>(&self, root: &'g Bucket, hash: u64, keys: &impl Keys, guard: &'g Guard) -> Option<Hit<'g>> {
        let with_tag = root.slots_with_tag_of(Word::of_tag(hash));
        if with_tag != 0 {
            let slot = root.first_of(with_tag);
            // Acquire: the entry behind the payload was written before its claim (E1).
            let word = Word(slot.load(Ordering::Acquire));
            // The tag need not be asked for again: an equal key has an equal hash.
            if word.is_unmarked() && keys.is_match(word.payload()) {
                return Some(Hit { slot, word });
            }
        // Relaxed: nothing behind the link is read.
        } else if root.link.load(Ordering::Relaxed) == LINK_NONE {
            return None;
        }
        self.find_in_chain(hash, keys, guard)
    }

    #[cold]
    #[inline(never)]
    fn find_in_chain<'g>(&self, hash: u64, keys: &impl Keys, guard: &'g Guard) -> Option<Hit<'g>> {
        'again: loop {
            let state = self.state();
            let mut bucket = self.root(state, hash, guard).node();
            loop {
                for slot in bucket.slots {
                    // Acquire: as in `find_in` (E1).
                    let word = Word(slot.load(Ordering::Acquire));
                    if word.is_live_with_tag(hash) && keys.is_match(word.payload()) {
                        if word.is_frozen() && self.state() != state {
                            // The word may be history. The state moved, so a split was completed: progress.
                            continue 'again;
                        }
                        return Some(Hit { slot, word });
                    }
                }
                // Acquire: an overflow bucket's slots (E2).
                // SAFETY: reached under `guard`.
                match unsafe { bucket.next(Ordering::Acquire) } {
                    Some(next) => bucket = next,
                    None => return None,
                }
            }
        }
    }

    /// Puts another payload in the place of a found entry. Release publishes what is behind it.
    #[inline]
    pub(crate) fn replace(&self, hit: Hit<'_>, payload: u64, keys: &impl Keys, guard: &Guard) -> Result<(), Changed> {
        self.exchange(hit, hit.word.with_payload(payload).0, keys, guard)
    }

    /// Takes a found entry out.
    #[inline]
    pub(crate) fn remove(&self, hit: Hit<'_>, keys: &impl Keys, guard: &Guard) -> Result<(), Changed> {
        self.exchange(hit, EMPTY, keys, guard)?;
        self.entries.add(-1);
        Ok(())
    }

    #[inline]
    fn exchange(&self, hit: Hit<'_>, new: u64, keys: &impl Keys, guard: &Guard) -> Result<(), Changed> {
        if !hit.word.is_frozen() {
            // Release: publishes the entry behind a new payload (E1). Failure is Relaxed: the caller finds again.
            // An equal word is the same entry: its payload cannot be used again while our guard lives (T6).
            if hit.slot.compare_exchange(hit.word.0, new, Ordering::AcqRel, Ordering::Relaxed).is_ok() {
                return Ok(());
            }
            // Relaxed: only the frozen mark is looked at.
            if !Word(hit.slot.load(Ordering::Relaxed)).is_frozen() {
                return Err(Changed);
            }
        }
        self.help_split(self.state(), keys, guard);
        Err(Changed)
    }

    /// Entries, give or take operations that are under way.
    pub(crate) fn len(&self) -> usize {
        self.entries.sum().max(0) as usize
    }

    /// Bytes of buckets in use: level arrays as far as they are filled, and overflow slabs.
    pub(crate) fn bytes(&self) -> usize {
        self.state().buckets() as usize * size_of::<Bucket>() + self.overflow.bytes()
    }

    /// log2 of the number of buckets, rounded down.
    pub(crate) fn level(&self) -> u32 {
        self.state().level()
    }

    /// Is there a split to be done to reach the wanted load?
    #[inline]
    pub(crate) fn wants_split(&self) -> bool {
        // Relaxed: a hint; a split that comes late or once too often is harmless.
        self.state().buckets() < self.buckets_wanted.load(Ordering::Relaxed)
    }

    /// Visits the live entries of one bucket and says where the next bucket begins in hash order (`None`: that was the
    /// last). Called in a loop from 0 it visits each key that is there throughout exactly once, whatever grows meanwhile:
    /// a bucket's range of hashes never changes, only its subdivision does.
    pub(crate) fn visit_bucket<'g>(&self, from: u64, _guard: &'g Guard, found: &mut Vec<Hit<'g>>) -> Option<u64> {
        'again: loop {
            found.clear();
            let state = self.state();
            let (level, index) = Self::place(state, from);
            let mut bucket = self.bucket(level, index).node();
            let mut any_frozen = false;
            loop {
                for slot in bucket.slots {
                    // Acquire: as in `find` (E1).
                    let word = Word(slot.load(Ordering::Acquire));
                    any_frozen |= word.is_frozen();
                    if word.is_live() {
                        found.push(Hit { slot, word });
                    }
                }
                // SAFETY: reached under `guard`.
                match unsafe { bucket.next(Ordering::Acquire) } {
                    Some(next) => bucket = next,
                    None => break,
                }
            }
            if any_frozen && self.state() != state {
                continue 'again;
            }
            return (index + 1 < 1 << level).then(|| (index + 1) << (64 - level));
        }
    }

    /// Walks the whole structure and panics where an invariant is broken. For tests at rest.
    #[cfg(all(test, not(crossbeam_loom)))]
    pub(crate) fn validate(&self, keys: &impl Keys, guard: &Guard) {
        let state = self.state();
        let mut from = Some(0);
        let (mut found, mut total) = (Vec::new(), 0);
        while let Some(hash) = from {
            let (level, index) = Self::place(state, hash);
            from = self.visit_bucket(hash, guard, &mut found);
            total += found.len();
            for (i, hit) in found.iter().enumerate() {
                let own = keys.hash_of(hit.payload());
                assert_eq!(own >> (64 - level), index, "T3: an entry lies in the bucket of its hash");
                assert!(hit.word.is_live_with_tag(own), "T0: the tag is the hash's");
                assert!(!hit.word.is_frozen(), "T1: at rest only split buckets are frozen");
                assert!(found[..i].iter().all(|other| other.payload() != hit.payload()), "T2: a payload is there once");
            }
        }
        assert_eq!(total, self.len(), "the count is exact at rest");
        self.validate_chains(guard);
    }

    /// Panics where the form of a chain is broken, and counts the overflow buckets that the next insert into their chain would give back. For
    /// tests at rest, when no claim is under way.
    #[cfg(test)]
    pub(crate) fn validate_chains(&self, guard: &Guard) -> usize {
        let mut in_chains = std::collections::HashSet::new();
        let mut idle = 0;
        let (state, mut from) = (self.state(), Some(0));
        while let Some(hash) = from {
            let (level, index) = Self::place(state, hash);
            from = (index + 1 < 1 << level).then(|| (index + 1) << (64 - level));
            let mut bucket = self.bucket(level, index).node();
            let (mut is_overflow, mut has_room) = (false, false);
            loop {
                let words: Vec<_> = bucket.slots.iter().map(|slot| Word(slot.load(Ordering::Acquire))).collect();
                let closed = words.iter().take_while(|word| word.0 == CLOSED).count();
                for (i, &word) in words.iter().enumerate() {
                    assert!(!word.is_frozen(), "T1: at rest only split buckets are frozen");
                    assert!(word.is_live() || [EMPTY, CLOSED].contains(&word.0), "at rest no claim is open: {word:?}");
                    assert!(i < closed || word.0 != CLOSED, "T7: slots are closed from the first on: {words:?}");
                }
                assert!(closed == 0 || is_overflow, "T7: only overflow buckets are closed");
                let link = bucket.link.load(Ordering::Acquire);
                assert!(link & LINK_CLOSED == 0 || closed == words.len(), "T7: a link is closed after the slots");
                let is_used = words.iter().any(|word| word.is_live());
                idle += usize::from(is_overflow && !is_used && (closed > 0 || has_room));
                has_room |= closed == 0 && words.iter().any(|word| word.0 == EMPTY);
                // SAFETY: reached under `guard`.
                let Some(next) = (unsafe { bucket::Overflow::from_link(link) }) else { break };
                assert!(in_chains.insert(next.address()), "T5: an overflow bucket is in one chain once");
                bucket = next.node();
                is_overflow = true;
            }
        }
        self.overflow.validate(&in_chains, guard);
        idle
    }
}

impl Drop for Table {
    fn drop(&mut self) {
        let state = self.state();
        // The current level and, if a split has begun on it, the next are ours; earlier ones went through the epoch.
        for level in [state.level(), state.level() + 1] {
            let owner = self.owners[level as usize].load(Ordering::Acquire);
            if !owner.is_null() {
                // SAFETY: exclusive access; the table's own count of this level has not been given up.
                drop(unsafe { Arc::from_raw(owner) });
            }
        }
    }
}

/// Asks for a cache line without waiting for it.
#[inline]
pub(crate) fn prefetch_line(address: *const u8) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: a prefetch never faults, whatever the address.
    unsafe {
        std::arch::x86_64::_mm_prefetch::<{ std::arch::x86_64::_MM_HINT_T0 }>(address.cast());
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = address;
}

/// Asks for a cache line that will be written, without waiting for it.
#[inline]
pub(crate) fn prefetch_line_to_write(address: *const u8) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: a prefetch never faults, whatever the address. A processor that does not know this one does nothing in its place.
    unsafe {
        std::arch::asm!("prefetchw [{}]", in(reg) address, options(readonly, nostack, preserves_flags));
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = address;
}
