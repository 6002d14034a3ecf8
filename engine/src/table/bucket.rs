//! A bucket: one cache line of slots and a link to an overflow bucket.

use super::word::{EMPTY, UNBORN, Word};
use crate::sync::{AtomicU64, Ordering};

/// Slots in a bucket: seven words and the link fill one 64-byte line. Models use two, so that chains grow at once.
pub(crate) const SLOTS: usize = if cfg!(crossbeam_loom) { 2 } else { 7 };

/// Slots in an overflow bucket: three words and the link fill half a line.
pub(crate) const OVERFLOW_SLOTS: usize = if cfg!(crossbeam_loom) { 2 } else { 3 };

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

/// A smaller bucket for what does not fit the first: half a line, because it mostly holds an entry or two, and stays
/// until the bucket at the head of its chain is split.
#[repr(C, align(32))]
pub(crate) struct Overflow {
    pub(crate) slots: [AtomicU64; OVERFLOW_SLOTS],
    /// As in [`Bucket`].
    pub(crate) link: AtomicU64,
}

#[cfg(not(crossbeam_loom))]
const _: () = assert!(size_of::<Bucket>() == 64 && size_of::<Overflow>() == 32);
// The marks of a link lie below every address.
const _: () = assert!((LINK_NONE | Word::FREEZE) < align_of::<Overflow>() as u64);

/// A bucket of either kind, as a walk along a chain meets it.
#[derive(Clone, Copy)]
pub(crate) struct Node<'g> {
    pub(crate) slots: &'g [AtomicU64],
    pub(crate) link: &'g AtomicU64,
}

fn reset(slots: &[AtomicU64], link: &AtomicU64, born: bool) {
    // Relaxed: the bucket is published afterwards by a Release operation on a link or on the split state (E2, E4).
    for slot in slots {
        slot.store(if born { EMPTY } else { UNBORN }, Ordering::Relaxed);
    }
    link.store(if born { LINK_NONE } else { LINK_UNBORN }, Ordering::Relaxed);
}

impl Bucket {
    /// A bucket that a split will fill.
    #[cfg_attr(not(crossbeam_loom), allow(dead_code, reason = "memory from the system is unborn already"))]
    pub(crate) fn unborn() -> Bucket {
        Bucket { slots: std::array::from_fn(|_| AtomicU64::new(UNBORN)), link: AtomicU64::new(LINK_UNBORN) }
    }

    /// Makes every slot of a bucket that nobody else can reach empty.
    pub(crate) fn reset(&self) {
        reset(&self.slots, &self.link, true);
    }

    #[inline]
    pub(crate) fn node(&self) -> Node<'_> {
        Node { slots: &self.slots, link: &self.link }
    }
}

impl Overflow {
    /// A bucket that a split will fill.
    pub(crate) fn unborn() -> Overflow {
        Overflow { slots: std::array::from_fn(|_| AtomicU64::new(UNBORN)), link: AtomicU64::new(LINK_UNBORN) }
    }

    /// Sets every word of a bucket that nobody else can reach.
    pub(crate) fn reset(&self, born: bool) {
        reset(&self.slots, &self.link, born);
    }

    pub(crate) fn node(&self) -> Node<'_> {
        Node { slots: &self.slots, link: &self.link }
    }

    pub(crate) fn address(&self) -> u64 {
        std::ptr::from_ref(self) as u64
    }

    /// The bucket that a link names, if it names one.
    ///
    /// # Safety
    /// `link` was read from a bucket of a chain that the caller's guard protects.
    #[inline]
    pub(crate) unsafe fn from_link<'g>(link: u64) -> Option<&'g Overflow> {
        let address = link & !(LINK_NONE | Word::FREEZE);
        // SAFETY: a link that is not unborn or none holds the address of an overflow bucket (T5).
        (address != 0).then(|| unsafe { &*(address as *const Overflow) })
    }
}

impl<'g> Node<'g> {
    /// The next bucket of the chain.
    ///
    /// # Safety
    /// The caller holds, for `'g`, the guard under which it reached `self` (T6).
    #[inline]
    pub(crate) unsafe fn next(self, order: Ordering) -> Option<Node<'g>> {
        // SAFETY: the caller's guard protects the whole chain: overflow buckets are retired through the epoch (T6).
        unsafe { Overflow::from_link(self.link.load(order)) }.map(Overflow::node)
    }
}
