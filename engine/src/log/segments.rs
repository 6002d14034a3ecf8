//! Which segment is what: one word a segment, and the transitions between its states.
//!
//! ```text
//!  63                                    3 2        0
//! +---------------------------------------+----------+
//! |  generation, rises with every opening | state    |
//! +---------------------------------------+----------+
//!
//! free    -> open      `open`: it has no pages; the caller has charged it
//! idle    -> open      `open`: it has pages and is charged
//! open    -> sealed    `seal`: by the handle that owns it; records are only added while open
//! sealed  -> leaving   `take_dead`: by whoever finds that none of its records is live
//! sealed  -> leaving   `take_oldest`: by one cleaner, which then takes its records out of the index
//! leaving -> idle      `recycle`: through the epoch, when no guard can reach a record of it any more
//! idle    -> leaving   `take_idle`: its pages go back to the system
//! leaving -> free      `release`: they are gone
//! ```
//! An edge that several threads may want is a compare-and-swap on the one word, the others are stores of the one thread that
//! owns the segment at that time: each edge is taken by exactly one thread (**L1**). A thread that stops between two edges
//! keeps one segment from being used, and nothing else. **L2** The records of a segment are readable by every guard
//! pinned before they left the index: `recycle` runs only when those guards are gone.

use crate::sync::{AtomicI64, AtomicU64, Ordering};

/// Index of a segment in the pool.
pub(crate) type SegmentIndex = usize;

const FREE: u64 = 0;
const IDLE: u64 = 1;
const OPEN: u64 = 2;
const SEALED: u64 = 3;
const LEAVING: u64 = 4;
const STATE_BITS: u32 = 3;
const STATE_MASK: u64 = (1 << STATE_BITS) - 1;

/// The words of all segments.
pub(crate) struct Segments {
    words: Box<[AtomicU64]>,
    /// Bytes of records in a sealed segment.
    used: Box<[AtomicU64]>,
    /// Records of a segment that the index names: exact once it is sealed. The owner adds what it published when it seals, whoever
    /// takes a record out of the index subtracts 1, before its guard ends; so the count is back at 0 when the segment is recycled.
    live: Box<[AtomicI64]>,
    /// The last generation that was given out, to segments and to blocks of CAS ids.
    generation: AtomicU64,
    /// Where the next search for a free segment begins: a hint.
    free_hint: AtomicU64,
}

impl Segments {
    pub(crate) fn new(count: usize) -> Segments {
        Segments {
            words: (0..count).map(|_| AtomicU64::new(FREE)).collect(),
            used: (0..count).map(|_| AtomicU64::new(0)).collect(),
            live: (0..count).map(|_| AtomicI64::new(0)).collect(),
            generation: AtomicU64::new(0),
            free_hint: AtomicU64::new(0),
        }
    }

    /// A generation that is larger than all before.
    pub(crate) fn next_generation(&self) -> u64 {
        // Relaxed: only the number matters; whoever compares ids of one key got there through the index word (E1).
        self.generation.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// The newest generation.
    pub(crate) fn newest_generation(&self) -> u64 {
        self.generation.load(Ordering::Relaxed)
    }

    /// The generation in which a segment was opened. Stable as long as the caller's guard protects one of its records.
    #[inline]
    pub(crate) fn generation(&self, segment: SegmentIndex) -> u64 {
        // Relaxed: written before any record of the segment was published; we got here through one.
        self.words[segment].load(Ordering::Relaxed) >> STATE_BITS
    }

    /// Opens an idle segment, or (`fresh`) a free one, and gives it a new generation. Searches all words at the worst:
    /// a microsecond for a thousand.
    pub(crate) fn open(&self, fresh: bool) -> Option<SegmentIndex> {
        let wanted = if fresh { FREE } else { IDLE };
        let count = self.words.len();
        // Relaxed: a hint.
        let start = self.free_hint.load(Ordering::Relaxed) as usize;
        for i in 0..count {
            let segment = (start + i) % count;
            // Relaxed: the CAS below decides.
            let word = self.words[segment].load(Ordering::Relaxed);
            if word & STATE_MASK != wanted {
                continue;
            }
            let new = self.next_generation() << STATE_BITS | OPEN;
            // Acquire: after `recycle` (Release), so that our writes come after the last read of the old records (L2).
            // A failure means that another thread took it (L1): look further.
            if self.words[segment].compare_exchange(word, new, Ordering::Acquire, Ordering::Relaxed).is_ok() {
                self.free_hint.store((segment + 1) as u64, Ordering::Relaxed);
                return Some(segment);
            }
        }
        None
    }

    /// Closes an open segment that holds `used` bytes of records, of which `published` went into the index. Only its owner
    /// calls this.
    pub(crate) fn seal(&self, segment: SegmentIndex, used: usize, published: usize) {
        // Relaxed: published by the store below.
        self.live[segment].fetch_add(published as i64, Ordering::Relaxed);
        self.used[segment].store(used as u64, Ordering::Relaxed);
        let word = self.words[segment].load(Ordering::Relaxed);
        debug_assert_eq!(word & STATE_MASK, OPEN, "L1: only an open segment is sealed");
        // Release: the records and `used`, for the cleaner's Acquire in `take_oldest`. A store, not a CAS: an open segment has one owner.
        self.words[segment].store(word & !STATE_MASK | SEALED, Ordering::Release);
    }

    /// Takes the sealed segment that was opened first, and answers it with its bytes of records.
    pub(crate) fn take_oldest(&self) -> Option<(SegmentIndex, usize)> {
        loop {
            let sealed = self.words.iter().enumerate().filter_map(|(segment, word)| {
                // Relaxed: the CAS below decides.
                let word = word.load(Ordering::Relaxed);
                (word & STATE_MASK == SEALED).then_some((word, segment))
            });
            // The generation is the upper part of the word: the smallest word is the oldest segment.
            let (word, segment) = sealed.min()?;
            let new = word & !STATE_MASK | LEAVING;
            // Acquire: the records (see `seal`). A failure means that another cleaner took it (L1): look again.
            if self.words[segment].compare_exchange(word, new, Ordering::Acquire, Ordering::Relaxed).is_ok() {
                return Some((segment, self.used[segment].load(Ordering::Relaxed) as usize));
            }
        }
    }

    /// Counts a record that has just left the index.
    #[inline]
    pub(crate) fn note_dead(&self, segment: SegmentIndex) {
        // Release: whoever finds 0 comes after all that were done with these records.
        self.live[segment].fetch_sub(1, Ordering::Release);
    }

    /// Takes a sealed segment that has no live record left. Usually there is none, and the search is all it costs.
    pub(crate) fn take_dead(&self) -> Option<SegmentIndex> {
        self.words.iter().zip(&self.live).position(|(word, live)| {
            // Acquire: after the seal, so that the count is complete.
            let seen = word.load(Ordering::Acquire);
            seen & STATE_MASK == SEALED
                && live.load(Ordering::Acquire) == 0
                // The word carries the generation, so it is this life of the segment whose count was 0 (L1).
                && word
                    .compare_exchange(seen, seen & !STATE_MASK | LEAVING, Ordering::Acquire, Ordering::Relaxed)
                    .is_ok()
        })
    }

    /// Makes a segment that has left usable again. Called through the epoch (L2).
    pub(crate) fn recycle(&self, segment: SegmentIndex) {
        let word = self.words[segment].load(Ordering::Relaxed);
        debug_assert_eq!(word & STATE_MASK, LEAVING, "L1: only a leaving segment is recycled");
        // Release: pairs with `open`. A store: the one cleaner that took it deferred this.
        self.words[segment].store(word & !STATE_MASK | IDLE, Ordering::Release);
    }

    /// Takes an idle segment out of use, so that its pages can go back; finish with [`Segments::release`].
    pub(crate) fn take_idle(&self) -> Option<SegmentIndex> {
        self.words.iter().position(|word| {
            let seen = word.load(Ordering::Relaxed);
            // Acquire: as in `open`.
            seen & STATE_MASK == IDLE
                && word
                    .compare_exchange(seen, seen & !STATE_MASK | LEAVING, Ordering::Acquire, Ordering::Relaxed)
                    .is_ok()
        })
    }

    /// Makes a segment taken by [`Segments::take_idle`] free, once its pages are gone.
    pub(crate) fn release(&self, segment: SegmentIndex) {
        let word = self.words[segment].load(Ordering::Relaxed);
        // Release: the next owner's writes come after the pages were given back.
        self.words[segment].store(word & !STATE_MASK | FREE, Ordering::Release);
    }

    /// How many segments are idle: usable without charging anything.
    pub(crate) fn idle(&self) -> usize {
        self.count(IDLE)
    }

    /// How many segments wait for guards to go before they can be used again.
    pub(crate) fn leaving(&self) -> usize {
        self.count(LEAVING)
    }

    /// How many segments are free or idle.
    pub(crate) fn unused(&self) -> usize {
        self.count(FREE) + self.count(IDLE)
    }

    pub(crate) fn len(&self) -> usize {
        self.words.len()
    }

    fn count(&self, state: u64) -> usize {
        // Relaxed: a figure.
        self.words.iter().filter(|word| word.load(Ordering::Relaxed) & STATE_MASK == state).count()
    }
}
