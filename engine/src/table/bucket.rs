//! A bucket: one cache line of slots and a link to an overflow bucket.

use super::word::{EMPTY, UNBORN, Word};
use crate::sync::{AtomicU64, Ordering};

/// Slots in a bucket: seven words and the link fill one 64-byte line. Models use two, so that chains grow at once.
pub(crate) const SLOTS: usize = if cfg!(crossbeam_loom) { 2 } else { 7 };

/// The link word of a bucket that no split has finished: like an unborn slot, all zeros.
const LINK_UNBORN: u64 = UNBORN;
/// The link word of the last bucket in a chain.
pub(crate) const LINK_NONE: u64 = EMPTY;

/// One cache line. A chain is a bucket and the overflow buckets that its links name.
#[repr(C, align(64))]
pub(crate) struct Bucket {
    pub(crate) slots: [AtomicU64; SLOTS],
    /// `LINK_UNBORN`, `LINK_NONE`, or the address of an overflow bucket; bit 0 is the frozen mark.
    pub(crate) link: AtomicU64,
}

#[cfg(not(crossbeam_loom))]
const _: () = assert!(size_of::<Bucket>() == 64);

impl Bucket {
    /// A bucket that a split will fill.
    pub(crate) fn unborn() -> Bucket {
        Bucket { slots: std::array::from_fn(|_| AtomicU64::new(UNBORN)), link: AtomicU64::new(LINK_UNBORN) }
    }

    /// Sets every word of a bucket that nobody else can reach.
    pub(crate) fn reset(&self, born: bool) {
        // Relaxed: the bucket is published afterwards by a Release operation on a link or on the split state (E2, E4).
        for slot in &self.slots {
            slot.store(if born { EMPTY } else { UNBORN }, Ordering::Relaxed);
        }
        self.link.store(if born { LINK_NONE } else { LINK_UNBORN }, Ordering::Relaxed);
    }

    /// The next bucket of the chain.
    ///
    /// # Safety
    /// The caller holds the guard under which it reached `self` (T6).
    #[inline]
    pub(crate) unsafe fn next(&self, order: Ordering) -> Option<&Bucket> {
        let link = self.link.load(order);
        // SAFETY: the caller's guard protects the whole chain: overflow buckets are retired through the epoch (T6).
        unsafe { Self::from_link(link) }
    }

    /// The bucket that a link names, if it names one.
    ///
    /// # Safety
    /// `link` was read from a bucket of a chain that the caller's guard protects.
    #[inline]
    pub(crate) unsafe fn from_link<'g>(link: u64) -> Option<&'g Bucket> {
        let address = link & !(LINK_NONE | Word::FREEZE);
        // SAFETY: a link that is not unborn or none holds the address of an overflow bucket (T5).
        (address != 0).then(|| unsafe { &*(address as *const Bucket) })
    }

    pub(crate) fn address(&self) -> u64 {
        std::ptr::from_ref(self) as u64
    }
}
