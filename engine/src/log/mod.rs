//! The record log: the memory of the [`Store`](crate::store::Store).
//!
//! A pool of equal segments in one address range. Each handle appends records to an open segment of its own: allocating
//! is adding to an offset. Records are not freed one by one; a cleaner takes a sealed segment, takes what is still live
//! in it out of the index, and gives the whole segment back through the epoch. See [`segments`] for the life of a segment and
//! [`record`] for the bytes of a record.
//!
//! A record's *location*, the payload of its index word, is its offset in the range divided by 8, plus 1.
//!
//! # Memory
//! `charged` counts the segments that own pages, the large values and the ghosts; the index is added when the sum is compared with the
//! limit, which may change at any time.
//!
//! **L3** When something is charged, charged bytes, index and headroom together are within the limit; without the headroom, when a cleaner needs a segment. The headroom is what the
//! index may grow by until the next segment is opened. A split that would go beyond the limit is not done: chains get
//! longer instead. A segment is charged from its first opening until its pages went back to the system; what a segment is closed with that
//! it did not fill goes back at once, if that is an eighth of it or more.

pub(crate) mod arena;
pub(crate) mod pair;
pub(crate) mod record;
pub(crate) mod region;
pub(crate) mod segments;
pub(crate) mod slots;
pub(crate) mod zeroed;

#[cfg(all(test, crossbeam_loom))]
mod models;
#[cfg(all(test, crossbeam_loom))]
mod pair_models;

use crate::limits::{
    LIMIT_GROWTH_MAX, LIMIT_SEGMENTS_MIN, SEGMENT_BYTES_MAX, SEGMENT_BYTES_MIN, SEGMENTS_AIMED_AT, SEGMENTS_FOR_MOVES,
};
use crate::sync::{AtomicU64, Ordering};
use record::{ALIGN, Record};
use region::{PAGE_BYTES, Region};
use segments::{Queue, SegmentIndex, Segments};

/// Where a record lies: never 0.
pub(crate) type Location = u64;

/// Bits of a CAS id that say where in its segment a record lies.
pub(crate) const CAS_POSITION_BITS: u32 = (SEGMENT_BYTES_MAX / ALIGN).trailing_zeros();

/// What one step of growth may add to the index, with room to spare for several threads that split at once.
const INDEX_STEP_BYTES: u64 = 64 << 10;

/// A segment that is closed with more than this part of it unused gives the rest back.
const TRIM_PART_OF_SEGMENT: usize = 8;

/// Segments, their memory, and what they cost.
pub(crate) struct Log {
    region: Region,
    pub(crate) segments: Segments,
    segment_shift: u32,
    limit: AtomicU64,
    charged: AtomicU64,
    large_bytes: AtomicU64,
}

impl Log {
    /// A log that may use up to `limit` bytes for segments, large values, and an index. The limit can be changed later, to at most
    /// [`Log::limit_max`].
    ///
    /// # Errors
    /// If the address range cannot be reserved.
    pub(crate) fn new(limit: usize) -> std::io::Result<Log> {
        let segment_bytes = Log::segment_bytes_for(limit);
        let reserve = |growth: usize| {
            let count = limit / segment_bytes * growth;
            Ok((Region::reserve(count * segment_bytes, true)?, Segments::new(count)?))
        };
        // Addresses cost nothing, unless the system has been told to count them (`ulimit -v`, strict overcommitment): then the limit cannot grow.
        let (region, segments) = reserve(LIMIT_GROWTH_MAX).or_else(|_: std::io::Error| reserve(1))?;
        Ok(Log {
            region,
            segments,
            segment_shift: segment_bytes.trailing_zeros(),
            limit: AtomicU64::new(limit as u64),
            charged: AtomicU64::new(0),
            large_bytes: AtomicU64::new(0),
        })
    }

    fn segment_bytes_for(limit: usize) -> usize {
        (limit / SEGMENTS_AIMED_AT).next_power_of_two().clamp(SEGMENT_BYTES_MIN, SEGMENT_BYTES_MAX)
    }

    #[inline]
    pub(crate) fn segment_bytes(&self) -> usize {
        1 << self.segment_shift
    }

    pub(crate) fn limit(&self) -> u64 {
        // Relaxed: a figure; whoever charges a moment after a change may still use the old one.
        self.limit.load(Ordering::Relaxed)
    }

    /// The largest limit that the reserved addresses allow.
    pub(crate) fn limit_max(&self) -> u64 {
        (self.segments.len() << self.segment_shift) as u64
    }

    /// The smallest limit that leaves room for a few segments.
    pub(crate) fn limit_min(&self) -> u64 {
        (LIMIT_SEGMENTS_MIN << self.segment_shift) as u64
    }

    /// Changes the limit, between [`Log::limit_min`] and [`Log::limit_max`]. What is charged beyond it is for the cleaner.
    pub(crate) fn set_limit(&self, limit: u64) {
        debug_assert!((self.limit_min()..=self.limit_max()).contains(&limit));
        self.limit.store(limit, Ordering::Relaxed);
    }

    /// What the index may grow by until the next segment is opened.
    fn headroom(&self) -> u64 {
        (self.limit() / 128).max(2 << self.segment_shift)
    }

    /// The location of byte `offset` in a segment.
    #[inline]
    pub(crate) fn location(&self, segment: SegmentIndex, offset: usize) -> Location {
        (((segment << self.segment_shift) + offset) / ALIGN) as u64 + 1
    }

    /// Where in its segment a location is, in bytes.
    pub(crate) fn offset_of(&self, location: Location) -> usize {
        ((location as usize - 1) * ALIGN) & (self.segment_bytes() - 1)
    }

    /// The segment of a location.
    #[inline]
    pub(crate) fn segment_of(&self, location: Location) -> SegmentIndex {
        ((location as usize - 1) * ALIGN) >> self.segment_shift
    }

    /// The address of a location. Never dereferenced unless a record is known to be there.
    #[inline]
    pub(crate) fn address(&self, location: Location) -> *mut u8 {
        self.region.base().wrapping_add((location as usize).wrapping_sub(1).wrapping_mul(ALIGN))
    }

    /// The record at a location.
    ///
    /// # Safety
    /// A record was completed there, and its segment is not recycled during `'g`: the caller found the location in the
    /// index under a guard that lives as long (L2), or owns the segment.
    #[inline]
    pub(crate) unsafe fn record<'g>(&self, location: Location) -> Record<'g> {
        // SAFETY: the caller's promise.
        unsafe { Record::at(self.address(location)) }
    }

    /// The CAS id that a position gives: unique among all positions ever, and larger for segments opened later.
    #[inline]
    pub(crate) fn positional_cas(&self, location: Location) -> u64 {
        let segment = self.segment_of(location);
        let position = (location - 1) & ((1 << (self.segment_shift - ALIGN.trailing_zeros())) - 1);
        self.segments.generation(segment) << CAS_POSITION_BITS | position
    }

    /// Bytes that may still be charged when the index has `index_bytes`.
    pub(crate) fn available(&self, index_bytes: usize) -> u64 {
        // Relaxed: a figure.
        let used = self.charged.load(Ordering::Relaxed) + index_bytes as u64 + self.headroom();
        self.limit().saturating_sub(used)
    }

    /// By how much charged bytes, index and headroom exceed the limit.
    pub(crate) fn excess(&self, index_bytes: usize) -> u64 {
        // Relaxed: a figure.
        (self.charged.load(Ordering::Relaxed) + index_bytes as u64 + self.headroom()).saturating_sub(self.limit())
    }

    /// May the index take another step of growth? It may use the headroom, but never more than the limit.
    #[inline]
    pub(crate) fn index_may_grow(&self, index_bytes: usize) -> bool {
        // Relaxed: an account.
        self.charged.load(Ordering::Relaxed) + index_bytes as u64 + INDEX_STEP_BYTES <= self.limit()
    }

    /// Charges bytes if they fit (L3) and leave `kept` beside them.
    fn charge(&self, bytes: usize, index_bytes: usize, kept: u64) -> bool {
        let rest = self.limit().saturating_sub(index_bytes as u64 + kept);
        // Relaxed: an account; the memory itself is handed over by other means.
        self.charged
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |charged| {
                charged.checked_add(bytes as u64).filter(|&sum| sum <= rest)
            })
            .is_ok()
    }

    /// Charges what is there from the beginning.
    pub(crate) fn charge_fixed(&self, bytes: usize) {
        self.charged.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    fn uncharge(&self, bytes: usize) {
        self.charged.fetch_sub(bytes as u64, Ordering::Relaxed);
    }

    /// What large values leave to the cleaners: they need segments to move records to, or nothing ever gets room again.
    fn kept_for_moves(&self) -> u64 {
        // Relaxed: a figure.
        SEGMENTS_FOR_MOVES.saturating_sub(self.segments.idle() as u64) << self.segment_shift
    }

    /// Could a large value be charged now?
    pub(crate) fn has_room_for_large(&self, bytes: usize, index_bytes: usize) -> bool {
        self.available(index_bytes) >= bytes as u64 + self.kept_for_moves()
    }

    /// Charges a large value, or a part of one.
    pub(crate) fn charge_large(&self, bytes: usize, index_bytes: usize) -> bool {
        let charged = self.charge(bytes, index_bytes, self.headroom() + self.kept_for_moves());
        if charged {
            self.large_bytes.fetch_add(bytes as u64, Ordering::Relaxed);
        }
        charged
    }

    pub(crate) fn uncharge_large(&self, bytes: usize) {
        self.large_bytes.fetch_sub(bytes as u64, Ordering::Relaxed);
        self.uncharge(bytes);
    }

    /// Bytes of large values, in use or waiting for their last reader.
    pub(crate) fn large_bytes(&self) -> u64 {
        self.large_bytes.load(Ordering::Relaxed)
    }

    /// Bytes of segments with pages and of large values.
    pub(crate) fn charged(&self) -> u64 {
        self.charged.load(Ordering::Relaxed)
    }

    /// Opens a segment: one with pages if there is one, else a fresh one if it may be charged. What is opened for records that are moved may take the
    /// headroom: it frees more than it takes, and the index can wait.
    pub(crate) fn open(&self, queue: Queue, is_for_moves: bool, index_bytes: usize) -> Option<SegmentIndex> {
        self.segments.open(false, queue).or_else(|| {
            let kept = if is_for_moves { 0 } else { self.headroom() };
            if !self.charge(self.segment_bytes(), index_bytes, kept) {
                return None;
            }
            let segment = self.segments.open(true, queue);
            if segment.is_none() {
                self.uncharge(self.segment_bytes());
            }
            segment
        })
    }

    /// Closes an open segment, and gives back the pages that it did not use if they are many. Only its owner calls this.
    pub(crate) fn seal(&self, segment: SegmentIndex) {
        let kept = self.segments.used(segment).next_multiple_of(PAGE_BYTES);
        let unused = self.segment_bytes() - kept;
        let trims = unused >= self.segment_bytes() / TRIM_PART_OF_SEGMENT;
        if trims {
            // SAFETY: whole pages of a segment that is ours, behind all its records.
            unsafe { self.region.release((segment << self.segment_shift) + kept, unused) };
            self.uncharge(unused);
        }
        self.segments.seal(segment, trims);
    }

    /// Makes a segment that has left usable again. Called through the epoch (L2).
    pub(crate) fn recycle(&self, segment: SegmentIndex) {
        if self.segments.is_trimmed(segment) {
            self.release(segment, self.segments.used(segment).next_multiple_of(PAGE_BYTES));
        } else {
            self.segments.recycle(segment);
        }
    }

    /// Gives the pages of an idle segment back to the system. False if none is idle.
    pub(crate) fn shrink(&self) -> bool {
        let Some(segment) = self.segments.take_idle() else {
            return false;
        };
        self.release(segment, self.segment_bytes());
        true
    }

    /// Gives back the first `bytes` of a leaving segment, which are all that it has.
    fn release(&self, segment: SegmentIndex, bytes: usize) {
        // SAFETY: the segment has left, and is ours until `Segments::release`; whole pages.
        unsafe { self.region.release(segment << self.segment_shift, bytes) };
        self.segments.release(segment);
        self.uncharge(bytes);
    }
}
