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
//! `charged` counts the segments that own pages and the large values; the index is added when the sum is compared with the
//! limit.
//!
//! **L3** When something is charged, charged bytes, index and headroom together are within the limit. The headroom is what the
//! index may grow by until the next segment is opened. A split that would go beyond the limit is not done: chains get
//! longer instead. A segment is charged from its first opening until its pages went back to the system.

pub(crate) mod pair;
pub(crate) mod record;
pub(crate) mod region;
pub(crate) mod segments;

#[cfg(all(test, crossbeam_loom))]
mod models;

use crate::limits::{SEGMENT_BYTES_MAX, SEGMENT_BYTES_MIN, SEGMENTS_AIMED_AT};
use crate::sync::{AtomicU64, Ordering};
use record::{ALIGN, Record};
use region::Region;
use segments::{SegmentIndex, Segments};

/// Where a record lies: never 0.
pub(crate) type Location = u64;

/// Bits of a CAS id that say where in its segment a record lies.
pub(crate) const CAS_POSITION_BITS: u32 = (SEGMENT_BYTES_MAX / ALIGN).trailing_zeros();

/// What one split may add to the index, with room to spare for several threads that split at once.
const INDEX_STEP_BYTES: u64 = 64 << 10;

/// Segments, their memory, and what they cost.
pub(crate) struct Log {
    region: Region,
    pub(crate) segments: Segments,
    segment_shift: u32,
    limit: u64,
    headroom: u64,
    charged: AtomicU64,
    large_bytes: AtomicU64,
}

impl Log {
    /// A log that may use up to `limit` bytes for segments, large values, and an index.
    ///
    /// # Errors
    /// If the address range cannot be reserved.
    pub(crate) fn new(limit: usize) -> std::io::Result<Log> {
        let segment_bytes = Log::segment_bytes_for(limit);
        let count = limit / segment_bytes;
        Ok(Log {
            region: Region::reserve(count * segment_bytes)?,
            segments: Segments::new(count),
            segment_shift: segment_bytes.trailing_zeros(),
            limit: limit as u64,
            headroom: (limit / 128).max(2 * segment_bytes) as u64,
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
        self.limit
    }

    /// The location of byte `offset` in a segment.
    #[inline]
    pub(crate) fn location(&self, segment: SegmentIndex, offset: usize) -> Location {
        (((segment << self.segment_shift) + offset) / ALIGN) as u64 + 1
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
        let used = self.charged.load(Ordering::Relaxed) + index_bytes as u64 + self.headroom;
        self.limit.saturating_sub(used)
    }

    /// By how much charged bytes, index and headroom exceed the limit.
    pub(crate) fn excess(&self, index_bytes: usize) -> u64 {
        // Relaxed: a figure.
        (self.charged.load(Ordering::Relaxed) + index_bytes as u64 + self.headroom).saturating_sub(self.limit)
    }

    /// May the index take another bucket or two? It may use the headroom, but never more than the limit.
    #[inline]
    pub(crate) fn index_may_grow(&self, index_bytes: usize) -> bool {
        // Relaxed: an account.
        self.charged.load(Ordering::Relaxed) + index_bytes as u64 + INDEX_STEP_BYTES <= self.limit
    }

    /// Charges bytes if they fit (L3).
    pub(crate) fn charge(&self, bytes: usize, index_bytes: usize) -> bool {
        let rest = self.limit.saturating_sub(self.headroom + index_bytes as u64);
        // Relaxed: an account; the memory itself is handed over by other means.
        self.charged
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |charged| {
                charged.checked_add(bytes as u64).filter(|&sum| sum <= rest)
            })
            .is_ok()
    }

    pub(crate) fn uncharge(&self, bytes: usize) {
        self.charged.fetch_sub(bytes as u64, Ordering::Relaxed);
    }

    /// Charges a large value.
    pub(crate) fn charge_large(&self, bytes: usize, index_bytes: usize) -> bool {
        let charged = self.charge(bytes, index_bytes);
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

    /// Opens a segment: one with pages if there is one, else a fresh one if it may be charged.
    pub(crate) fn open(&self, index_bytes: usize) -> Option<SegmentIndex> {
        self.segments.open(false).or_else(|| {
            if !self.charge(self.segment_bytes(), index_bytes) {
                return None;
            }
            let segment = self.segments.open(true);
            if segment.is_none() {
                self.uncharge(self.segment_bytes());
            }
            segment
        })
    }

    /// Gives the pages of an idle segment back to the system. False if none is idle.
    pub(crate) fn shrink(&self) -> bool {
        let Some(segment) = self.segments.take_idle() else {
            return false;
        };
        // SAFETY: the segment is ours between `take_idle` and `release`; segments are whole pages.
        unsafe { self.region.release(segment << self.segment_shift, self.segment_bytes()) };
        self.segments.release(segment);
        self.uncharge(self.segment_bytes());
        true
    }
}
