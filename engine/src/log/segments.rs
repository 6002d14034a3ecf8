//! Which segment is what: one word a segment, the transitions between its states, and what is known of its content.
//!
//! ```text
//!  63                                  5    4         3     2        0
//! +-------------------------------------+---------+-------+-----------+
//! |  generation, rises at every opening | trimmed | main  |  state    |
//! +-------------------------------------+---------+-------+-----------+
//!
//! free    -> open      `open`: it has no pages; the caller has charged it
//! idle    -> open      `open`: it has pages and is charged
//! open    -> sealed    `seal`: by the handle that owns it; records are only added while open
//! sealed  -> cleaning  `take_if`: by one cleaner, which then takes its records out of the index or moves them
//! cleaning -> sealed   `put_back`: by that cleaner, when it finds no room for what it must move
//! cleaning -> leaving  `leave`: by that cleaner, when nothing in the index names the segment any more
//! leaving -> idle      `recycle`: through the epoch, when no guard can reach a record of it any more
//! idle    -> leaving   `take_idle`: its pages go back to the system
//! leaving -> free      `release`: they are gone
//! ```
//! An edge that several threads may want is a compare-and-swap on the one word, the others are stores of the one thread that
//! owns the segment at that time: each edge is taken by exactly one thread (**L1**). A thread that stops between two edges
//! keeps one segment from being used, and nothing else. **L2** The records of a segment are readable by every guard
//! pinned before they left the index: `recycle` runs only when those guards are gone. A guard that was pinned before it saw a segment
//! open or sealed may read all records below `used`: the segment cannot be recycled before that guard is gone.
//!
//! A segment belongs to one of two [`Queue`]s from its opening on, ordered by generation; trimmed ones have given back the pages behind `used`.
//!
//! # Two lines a segment
//! `Own` is written by the owner at every append, `Shared` by whoever takes records out. A segment's live bytes are
//! `published - gone`: exact once it is sealed, and 0 when nothing in the index names it.

use super::PAGE_BYTES;
use super::zeroed::{Zero, ZeroedSlice};
use crate::sync::{AtomicU64, Ordering};

/// Index of a segment in the pool.
pub(crate) type SegmentIndex = usize;

const FREE: u64 = 0;
const IDLE: u64 = 1;
const OPEN: u64 = 2;
const SEALED: u64 = 3;
const LEAVING: u64 = 4;
const CLEANING: u64 = 5;
const STATE_MASK: u64 = 7;
const MAIN: u64 = 1 << 3;
const TRIMMED: u64 = 1 << 4;
const GENERATION_SHIFT: u32 = 5;
const GENERATION_MASK: u64 = !0 << GENERATION_SHIFT;

/// The two FIFO queues of S3-FIFO (Yang et al., SOSP '23).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Queue {
    /// What is new. Items that nobody asks for leave the cache from here.
    Small,
    /// What has been asked for.
    Main,
}

/// What the owner of an open segment writes at every append.
#[repr(align(64))]
struct Own {
    /// Bytes of complete records.
    used: AtomicU64,
    /// Bytes of records that went into the index.
    published: AtomicU64,
    /// Bytes of the large values that those name.
    large_published: AtomicU64,
}

/// What everybody writes.
#[repr(align(64))]
struct Shared {
    word: AtomicU64,
    /// Bytes of published records that have left the index since.
    gone: AtomicU64,
    /// Bytes of the large values that those named.
    large_gone: AtomicU64,
    /// The complement of the time at which the segment is to be looked through for expired items, 0 for never. Complemented so that zeroed
    /// memory is right, and the earlier time is the larger number.
    due: AtomicU64,
}

struct Segment {
    own: Own,
    shared: Shared,
}

// SAFETY: atomics only, and zero is right for all of them.
unsafe impl Zero for Segment {
    fn zero() -> Segment {
        let zero = || AtomicU64::new(0);
        Segment {
            own: Own { used: zero(), published: zero(), large_published: zero() },
            shared: Shared { word: zero(), gone: zero(), large_gone: zero(), due: zero() },
        }
    }
}

impl Segment {
    fn live(&self) -> u64 {
        // Relaxed: figures. `gone` first: what is gone was published, so the difference cannot be below 0 at rest; an open segment
        // may have published bytes that its owner has not booked yet.
        let gone = self.shared.gone.load(Ordering::Relaxed);
        self.own.published.load(Ordering::Relaxed).saturating_sub(gone)
    }

    fn large(&self) -> u64 {
        let gone = self.shared.large_gone.load(Ordering::Relaxed);
        self.own.large_published.load(Ordering::Relaxed).saturating_sub(gone)
    }

    fn used(&self) -> u64 {
        self.own.used.load(Ordering::Relaxed)
    }
}

/// The words of all segments.
pub(crate) struct Segments {
    all: ZeroedSlice<Segment>,
    /// No segment from here on has ever been opened.
    high_water: AtomicU64,
    /// The last generation that was given out, to segments and to blocks of CAS ids.
    generation: AtomicU64,
    /// Where the next search for a free segment begins: a hint.
    free_hint: AtomicU64,
}

/// A sealed segment as a survey saw it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Seen {
    pub(crate) segment: SegmentIndex,
    word: u64,
    /// Bytes of records in it, live or not.
    pub(crate) used: u64,
    /// Bytes of records in it that the index names.
    pub(crate) live: u64,
}

/// All sealed segments at a glance: what the choice of a victim needs. Taken while others work, so each figure is right for some moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Survey {
    /// Sealed segments of each queue.
    pub(crate) count: [usize; 2],
    /// What they and their large values weigh, in live bytes.
    pub(crate) weight: [u64; 2],
    /// Bytes of records, and of those the live ones.
    pub(crate) used: u64,
    pub(crate) live: u64,
    /// The one of each queue that was opened first.
    pub(crate) oldest: [Option<Seen>; 2],
    /// The one of each queue with the most dead bytes.
    pub(crate) emptiest: [Option<Seen>; 2],
    /// One whose time to be looked through for expired items has come.
    pub(crate) due: Option<Seen>,
}

/// Segments and bytes by what they are; they add up to what the segments are charged for, at rest.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Census {
    pub(crate) idle: u64,
    /// Being cleaned, or cleaned and waiting for the last reader.
    pub(crate) leaving: u64,
    /// Open and sealed segments of each queue.
    pub(crate) queued: [u64; 2],
    /// Trimmed ones among all these, and the bytes of the pages that they have kept.
    pub(crate) trimmed: u64,
    pub(crate) trimmed_used: u64,
    pub(crate) live_bytes: u64,
    pub(crate) dead_bytes: u64,
}

impl Segments {
    pub(crate) fn new(count: usize) -> std::io::Result<Segments> {
        Ok(Segments {
            all: ZeroedSlice::new(count)?,
            high_water: AtomicU64::new(0),
            generation: AtomicU64::new(0),
            free_hint: AtomicU64::new(0),
        })
    }

    #[inline]
    fn word(&self, segment: SegmentIndex) -> &AtomicU64 {
        &self.all[segment].shared.word
    }

    /// The segments that have ever been opened.
    fn touched(&self) -> impl Iterator<Item = (SegmentIndex, &Segment)> {
        // Acquire: with the Release in `open`; a segment that is opened after this is not ours to see.
        let count = self.high_water.load(Ordering::Acquire) as usize;
        self.all[..count].iter().enumerate()
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
        self.word(segment).load(Ordering::Relaxed) >> GENERATION_SHIFT
    }

    /// The queue of a segment. Stable like [`Segments::generation`].
    #[inline]
    pub(crate) fn queue(&self, segment: SegmentIndex) -> Queue {
        // Relaxed: as above.
        queue_of(self.word(segment).load(Ordering::Relaxed))
    }

    /// Opens an idle segment, or (`fresh`) a free one, and gives it a new generation. Searches all words at the worst:
    /// a microsecond for a thousand.
    pub(crate) fn open(&self, fresh: bool, queue: Queue) -> Option<SegmentIndex> {
        let wanted = if fresh { FREE } else { IDLE };
        // Relaxed: a hint, and a bound that the CAS below does not depend on.
        let touched = self.high_water.load(Ordering::Relaxed) as usize;
        // Fresh ones lowest first, so that as few pages as possible are ever touched.
        let start = if fresh { 0 } else { self.free_hint.load(Ordering::Relaxed) as usize };
        let count = if fresh { self.all.len() } else { touched };
        for i in 0..count {
            let segment = (start + i) % count;
            // Relaxed: the CAS below decides.
            let word = self.word(segment).load(Ordering::Relaxed);
            if word & STATE_MASK != wanted {
                continue;
            }
            let main = if queue == Queue::Main { MAIN } else { 0 };
            let new = self.next_generation() << GENERATION_SHIFT | main | OPEN;
            // Acquire: after `recycle` (Release), so that our writes come after the last read of the old records (L2).
            // A failure means that another thread took it (L1): look further.
            if self.word(segment).compare_exchange(word, new, Ordering::Acquire, Ordering::Relaxed).is_ok() {
                if fresh {
                    // Release: whoever sees it in a survey sees its word, or an earlier one.
                    self.high_water.fetch_max(segment as u64 + 1, Ordering::Release);
                } else {
                    self.free_hint.store((segment + 1) as u64, Ordering::Relaxed);
                }
                return Some(segment);
            }
        }
        None
    }

    /// Books the record that was completed last: the segment now holds `used` bytes. Only the owner of the open segment calls this.
    #[inline]
    pub(crate) fn note_used(&self, segment: SegmentIndex, used: usize) {
        // Release: whoever reads up to here reads complete records.
        self.all[segment].own.used.store(used as u64, Ordering::Release);
    }

    /// Books a record that went into the index. Only the owner of the open segment calls this.
    #[inline]
    pub(crate) fn note_published(&self, segment: SegmentIndex, bytes: usize, large_bytes: usize) {
        let own = &self.all[segment].own;
        // Relaxed load and store: one writer; the total is handed over by `seal`.
        own.published.store(own.published.load(Ordering::Relaxed) + bytes as u64, Ordering::Relaxed);
        if large_bytes > 0 {
            let large = own.large_published.load(Ordering::Relaxed) + large_bytes as u64;
            own.large_published.store(large, Ordering::Relaxed);
        }
    }

    /// Counts a record that has just left the index, and the large value that it named.
    #[inline]
    pub(crate) fn note_gone(&self, segment: SegmentIndex, bytes: usize, large_bytes: usize) {
        let shared = &self.all[segment].shared;
        if large_bytes > 0 {
            shared.large_gone.fetch_add(large_bytes as u64, Ordering::Relaxed);
        }
        // Release: whoever finds all gone comes after all that were done with these records.
        shared.gone.fetch_add(bytes as u64, Ordering::Release);
    }

    /// How far a segment holds complete records.
    #[inline]
    pub(crate) fn used(&self, segment: SegmentIndex) -> usize {
        // Acquire: the records (see `note_used`).
        self.all[segment].own.used.load(Ordering::Acquire) as usize
    }

    /// Sees to it that a segment is looked through for expired items at `ms` of the store's clock, or before.
    #[inline]
    pub(crate) fn note_expiry(&self, segment: SegmentIndex, ms: u64) {
        let due = &self.all[segment].shared.due;
        // Relaxed: a hint about when to look. The load keeps the line shared when there is nothing to change.
        if due.load(Ordering::Relaxed) < !ms {
            due.fetch_max(!ms, Ordering::Relaxed);
        }
    }

    /// Answers when a segment was to be looked through, and forgets it. Do it before looking: whatever comes meanwhile counts for the next time.
    pub(crate) fn take_due(&self, segment: SegmentIndex) -> Option<u64> {
        let taken = self.all[segment].shared.due.swap(0, Ordering::Relaxed);
        (taken != 0).then_some(!taken)
    }

    /// Makes every segment due.
    pub(crate) fn make_all_due(&self) {
        for (segment, _) in self.touched() {
            self.note_expiry(segment, 0);
        }
    }

    /// The open or sealed segment that is due and has been so for longest. Its records may be read under a guard that was pinned before.
    pub(crate) fn most_due(&self, now_ms: u64) -> Option<Seen> {
        self.touched()
            .filter_map(|(index, segment)| {
                // Acquire: the words of records below `used` (L2).
                let word = segment.shared.word.load(Ordering::Acquire);
                let due = segment.shared.due.load(Ordering::Relaxed);
                (matches!(word & STATE_MASK, OPEN | SEALED) && is_due(due, now_ms)).then_some((due, index, word))
            })
            .max()
            .map(|(_, segment, word)| Seen {
                segment,
                word,
                used: self.used(segment) as u64,
                live: self.all[segment].live(),
            })
    }

    /// May the records of a segment be read? True at a moment after the caller's guard was pinned means: as long as that guard lives.
    pub(crate) fn is_readable(&self, segment: SegmentIndex) -> bool {
        // Acquire: as in `most_due`.
        matches!(self.word(segment).load(Ordering::Acquire) & STATE_MASK, OPEN | SEALED)
    }

    /// Closes an open segment. Only its owner calls this.
    pub(crate) fn seal(&self, segment: SegmentIndex, trimmed: bool) {
        let word = self.word(segment).load(Ordering::Relaxed);
        debug_assert_eq!(word & STATE_MASK, OPEN, "L1: only an open segment is sealed");
        let trimmed = if trimmed { TRIMMED } else { 0 };
        // Release: the records and what was booked, for the cleaner's Acquire. A store, not a CAS: an open segment has one owner.
        self.word(segment).store(word & !STATE_MASK | trimmed | SEALED, Ordering::Release);
    }

    /// Looks at all segments.
    pub(crate) fn survey(&self, now_ms: u64) -> Survey {
        let mut survey = Survey::default();
        for (index, segment) in self.touched() {
            // Acquire: what was booked before the seal.
            let word = segment.shared.word.load(Ordering::Acquire);
            if word & STATE_MASK != SEALED {
                continue;
            }
            let seen = Seen { segment: index, word, used: segment.used(), live: segment.live() };
            let queue = queue_of(word) as usize;
            survey.count[queue] += 1;
            survey.weight[queue] += seen.live + segment.large();
            survey.used += seen.used;
            survey.live += seen.live;
            // The generation is the upper part of the word: the smallest word of a queue is its oldest segment.
            if survey.oldest[queue].is_none_or(|oldest| word < oldest.word) {
                survey.oldest[queue] = Some(seen);
            }
            if survey.emptiest[queue].is_none_or(|emptiest| seen.dead() > emptiest.dead()) {
                survey.emptiest[queue] = Some(seen);
            }
            if survey.due.is_none() && is_due(segment.shared.due.load(Ordering::Relaxed), now_ms) {
                survey.due = Some(seen);
            }
        }
        survey
    }

    /// Takes a segment if it is still as it was seen. The word carries the generation, so it is the same life of the segment.
    pub(crate) fn take_if(&self, seen: Seen) -> bool {
        let cleaning = seen.word & !STATE_MASK | CLEANING;
        // Acquire: the records (see `seal`). A failure means that another cleaner took it (L1).
        self.word(seen.segment).compare_exchange(seen.word, cleaning, Ordering::Acquire, Ordering::Relaxed).is_ok()
    }

    /// Takes a sealed segment that has no live record left. Usually there is none, and the search is all it costs.
    pub(crate) fn take_dead(&self) -> Option<SegmentIndex> {
        self.touched().position(|(index, segment)| {
            // Acquire: after the seal, so that the sum is complete.
            let word = segment.shared.word.load(Ordering::Acquire);
            // Acquire: with the Release of `note_gone`.
            let gone = segment.shared.gone.load(Ordering::Acquire);
            word & STATE_MASK == SEALED
                && segment.own.published.load(Ordering::Relaxed) == gone
                && self.take_if(Seen { segment: index, word, used: 0, live: 0 })
        })
    }

    /// Puts a segment back that was taken and not emptied. Only who took it calls this.
    pub(crate) fn put_back(&self, segment: SegmentIndex) {
        let word = self.word(segment).load(Ordering::Relaxed);
        debug_assert_eq!(word & STATE_MASK, CLEANING, "L1: only a segment that is being cleaned is put back");
        // Release: as in `seal`.
        self.word(segment).store(word & !STATE_MASK | SEALED, Ordering::Release);
    }

    /// Books that a segment that was taken is out of the index. Only who took it calls this.
    pub(crate) fn leave(&self, segment: SegmentIndex) {
        let word = self.word(segment).load(Ordering::Relaxed);
        debug_assert_eq!(word & STATE_MASK, CLEANING, "L1: only a segment that was cleaned leaves");
        // Relaxed: nobody acts on it; the epoch orders what comes next.
        self.word(segment).store(word & !STATE_MASK | LEAVING, Ordering::Relaxed);
    }

    /// Has the segment given back the pages behind its records?
    pub(crate) fn is_trimmed(&self, segment: SegmentIndex) -> bool {
        // Relaxed: asked by who owns it.
        self.word(segment).load(Ordering::Relaxed) & TRIMMED != 0
    }

    /// Makes a segment that has left usable again. Called through the epoch (L2).
    pub(crate) fn recycle(&self, segment: SegmentIndex) {
        debug_assert!(!self.is_trimmed(segment), "L1: a trimmed segment is released");
        self.end_life(segment, IDLE);
    }

    /// Takes an idle segment out of use, so that its pages can go back; finish with [`Segments::release`].
    pub(crate) fn take_idle(&self) -> Option<SegmentIndex> {
        self.touched().position(|(index, segment)| {
            let seen = segment.shared.word.load(Ordering::Relaxed);
            // Acquire: as in `open`.
            seen & STATE_MASK == IDLE
                && self
                    .word(index)
                    .compare_exchange(seen, seen & !STATE_MASK | LEAVING, Ordering::Acquire, Ordering::Relaxed)
                    .is_ok()
        })
    }

    /// Makes a leaving segment free, once its pages are gone.
    pub(crate) fn release(&self, segment: SegmentIndex) {
        self.end_life(segment, FREE);
    }

    fn end_life(&self, segment: SegmentIndex, state: u64) {
        let Segment { own, shared } = &self.all[segment];
        let word = shared.word.load(Ordering::Relaxed);
        debug_assert_eq!(word & STATE_MASK, LEAVING, "L1: only a leaving segment ends its life");
        for booked in [&own.used, &own.published, &own.large_published, &shared.gone, &shared.large_gone, &shared.due] {
            // Relaxed: nobody else uses them between lives; the store below hands them over.
            booked.store(0, Ordering::Relaxed);
        }
        // Release: pairs with `open`. A store: the one that took the segment is the only one to end its life.
        shared.word.store(word & GENERATION_MASK | state, Ordering::Release);
    }

    /// How many segments are idle: usable without charging anything.
    pub(crate) fn idle(&self) -> usize {
        self.count(IDLE)
    }

    /// How many segments wait for guards to go before they can be used again.
    pub(crate) fn leaving(&self) -> usize {
        self.count(LEAVING)
    }

    pub(crate) fn len(&self) -> usize {
        self.all.len()
    }

    fn count(&self, state: u64) -> usize {
        // Relaxed: a figure.
        self.touched().filter(|(_, segment)| segment.shared.word.load(Ordering::Relaxed) & STATE_MASK == state).count()
    }

    /// Counts everything.
    pub(crate) fn census(&self) -> Census {
        let mut census = Census::default();
        for (_, segment) in self.touched() {
            let word = segment.shared.word.load(Ordering::Relaxed);
            match word & STATE_MASK {
                IDLE => census.idle += 1,
                LEAVING | CLEANING => census.leaving += 1,
                OPEN | SEALED => census.queued[queue_of(word) as usize] += 1,
                _ => continue,
            }
            let (used, live) = (segment.used(), segment.live());
            if word & TRIMMED != 0 {
                census.trimmed += 1;
                census.trimmed_used += used.next_multiple_of(PAGE_BYTES as u64);
            }
            census.live_bytes += live;
            census.dead_bytes += used.saturating_sub(live);
        }
        census
    }
}

impl Seen {
    /// Bytes that a compaction would win.
    pub(crate) fn dead(self) -> u64 {
        self.used.saturating_sub(self.live)
    }

    pub(crate) fn generation(self) -> u64 {
        self.word >> GENERATION_SHIFT
    }

    pub(crate) fn queue(self) -> Queue {
        queue_of(self.word)
    }
}

#[inline]
fn queue_of(word: u64) -> Queue {
    if word & MAIN == 0 { Queue::Small } else { Queue::Main }
}

fn is_due(complement: u64, now_ms: u64) -> bool {
    complement != 0 && !complement <= now_ms
}
