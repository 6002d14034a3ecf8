//! A bucket: one cache line of slots and a link to an overflow bucket.

use super::word::{CLOSED, EMPTY, UNBORN, Word};
use crate::sync::{AtomicU64, Ordering};

/// Slots in a bucket: seven words and the link fill one 64-byte line. Models use two, so that chains grow at once.
pub(crate) const SLOTS: usize = if cfg!(crossbeam_loom) { 2 } else { 7 };

/// Slots in an overflow bucket: three words and the link fill half a line.
pub(crate) const OVERFLOW_SLOTS: usize = if cfg!(crossbeam_loom) { 2 } else { 3 };

/// The link word of a bucket that no split has finished: like an unborn slot, all zeros.
const LINK_UNBORN: u64 = UNBORN;
/// The link word of the last bucket in a chain.
pub(crate) const LINK_NONE: u64 = EMPTY;
/// The mark of a link whose overflow bucket leaves the chain: the link never changes again, but for the frozen mark.
pub(crate) const LINK_CLOSED: u64 = CLOSED & !EMPTY;

/// Everything in a link that is not the address.
const LINK_MARKS: u64 = LINK_NONE | LINK_CLOSED | Word::FREEZE;

/// One cache line. A chain is a bucket and the overflow buckets that its links name.
#[repr(C, align(64))]
pub(crate) struct Bucket {
    pub(crate) slots: [AtomicU64; SLOTS],
    /// `LINK_UNBORN`, `LINK_NONE`, or the address of an overflow bucket; bit 0 is the frozen mark, bit 1 `LINK_CLOSED`.
    pub(crate) link: AtomicU64,
}

/// A smaller bucket for what does not fit the first: half a line, because it mostly holds an entry or two. It goes back when it is
/// empty (`close.rs`), or when the bucket at the head of its chain is split.
#[repr(C, align(32))]
pub(crate) struct Overflow {
    pub(crate) slots: [AtomicU64; OVERFLOW_SLOTS],
    /// As in [`Bucket`].
    pub(crate) link: AtomicU64,
}

#[cfg(not(crossbeam_loom))]
const _: () = assert!(size_of::<Bucket>() == 64 && size_of::<Overflow>() == 32);
// The marks of a link lie below every address.
const _: () = assert!(LINK_MARKS < align_of::<Overflow>() as u64 && LINK_MARKS.count_ones() == 3);

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

    /// The first slot that was empty when its turn came. To be asked again: it may hold another word by now.
    #[inline]
    pub(crate) fn empty_slot(&self) -> Option<&AtomicU64> {
        let empty = self.slots_with(Word(EMPTY));
        (empty != 0).then(|| self.first_of(empty))
    }

    /// The bit that stands for a slot in [`Bucket::slots_with_tag_of`]; 0 if it is of another bucket.
    #[inline]
    pub(crate) fn bit_of(&self, slot: &AtomicU64) -> u32 {
        let bytes = (std::ptr::from_ref(slot) as usize).wrapping_sub(std::ptr::from_ref(self) as usize);
        if bytes < SLOTS * size_of::<AtomicU64>() { 2 << (2 * (bytes / size_of::<AtomicU64>())) } else { 0 }
    }

    /// Of slots that stand for two bits each, the first with either; there must be one.
    #[inline]
    pub(crate) fn first_of(&self, bits: u32) -> &AtomicU64 {
        debug_assert!(bits != 0, "no slot has a bit");
        &self.slots[bits.trailing_zeros() as usize / 2 % SLOTS]
    }

    /// Bit `2 * i + 1` for each slot `i` whose word fits.
    #[cfg(not(all(target_arch = "x86_64", not(crossbeam_loom))))]
    fn slots_that(&self, fits: impl Fn(Word) -> bool) -> u32 {
        // Relaxed: the caller asks the slot again, or has a fence in front.
        let bit = |(i, slot): (usize, &AtomicU64)| u32::from(fits(Word(slot.load(Ordering::Relaxed)))) << (2 * i + 1);
        self.slots.iter().enumerate().map(bit).sum()
    }

    /// Bit `2 * i + 1` for each slot `i` whose word has the tag of `word`, in any state.
    #[cfg(not(all(target_arch = "x86_64", not(crossbeam_loom))))]
    #[inline]
    pub(crate) fn slots_with_tag_of(&self, word: Word) -> u32 {
        self.slots_that(|other| other.has_tag_of(word))
    }

    /// Bit `2 * i + 1` for each slot `i` that holds this word.
    #[cfg(not(all(target_arch = "x86_64", not(crossbeam_loom))))]
    #[inline]
    fn slots_with(&self, word: Word) -> u32 {
        self.slots_that(|other| other == word)
    }

    /// Bit `2 * i + 1` for each slot `i` whose word has the tag of `word`, in any state.
    ///
    /// All at once: which slot it is decides no branch, so nothing is mispredicted, and there are few instructions, so the
    /// processor gets on to the next look-up while this one waits for the cache line. With everything in the cache a look-up takes half of the time of a loop.
    #[cfg(all(target_arch = "x86_64", not(crossbeam_loom)))]
    #[inline]
    pub(crate) fn slots_with_tag_of(&self, word: Word) -> u32 {
        use std::arch::x86_64::_mm_set1_epi64x;
        // SAFETY: SSE2 is part of x86-64.
        let pattern = unsafe { _mm_set1_epi64x(word.0 as i64) };
        let halves: u32;
        // SAFETY: reads the 64 bytes of `self`, writes registers. To the compiler these are relaxed atomic loads: it does not look inside, and each
        // half of an aligned 16-byte load is a whole 64-bit word to the processor.
        unsafe {
            std::arch::asm!(
                "movdqa {b}, {a}", "movdqa {c}, {a}", "movdqa {d}, {a}",
                // All quarters of each word are compared; of interest is the highest, which holds the tag.
                "pcmpeqw {a}, [{bucket}]", "pcmpeqw {b}, [{bucket} + 16]", "pcmpeqw {c}, [{bucket} + 32]", "pcmpeqw {d}, [{bucket} + 48]",
                // 32 quarters of words, a byte each; then 16 halves, whose signs are those of the higher quarters.
                "packsswb {a}, {b}", "packsswb {c}, {d}", "packsswb {a}, {c}", "pmovmskb {halves:e}, {a}",
                bucket = in(reg) std::ptr::from_ref(self),
                a = inout(xmm_reg) pattern => _,
                b = out(xmm_reg) _,
                c = out(xmm_reg) _,
                d = out(xmm_reg) _,
                halves = lateout(reg) halves,
                options(readonly, nostack, preserves_flags),
            );
        }
        // The last word is the link.
        halves & 0x2aaa
    }

    /// Bit `2 * i + 1` for each slot `i` that holds this word.
    #[cfg(all(target_arch = "x86_64", not(crossbeam_loom)))]
    #[inline]
    fn slots_with(&self, word: Word) -> u32 {
        use std::arch::x86_64::_mm_set1_epi64x;
        // SAFETY: SSE2 is part of x86-64.
        let pattern = unsafe { _mm_set1_epi64x(word.0 as i64) };
        let halves: u32;
        // SAFETY: as above.
        unsafe {
            std::arch::asm!(
                "movdqa {b}, {a}", "movdqa {c}, {a}", "movdqa {d}, {a}",
                "pcmpeqd {a}, [{bucket}]", "pcmpeqd {b}, [{bucket} + 16]", "pcmpeqd {c}, [{bucket} + 32]", "pcmpeqd {d}, [{bucket} + 48]",
                // 16 halves of words, a byte each, a bit each.
                "packssdw {a}, {b}", "packssdw {c}, {d}", "packsswb {a}, {c}", "pmovmskb {halves:e}, {a}",
                bucket = in(reg) std::ptr::from_ref(self),
                a = inout(xmm_reg) pattern => _,
                b = out(xmm_reg) _,
                c = out(xmm_reg) _,
                d = out(xmm_reg) _,
                halves = lateout(reg) halves,
                options(readonly, nostack, preserves_flags),
            );
        }
        // Both halves of a word; the last word is the link.
        halves & (halves << 1) & 0x2aaa
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
        let address = link & !LINK_MARKS;
        // SAFETY: what is left of a link beside its marks is zero or the address of an overflow bucket (T5).
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

#[cfg(all(test, not(crossbeam_loom)))]
mod tests {
    use super::*;

    /// Every combination of seven words of these kinds, among them words that differ in one bit of what is compared.
    #[test]
    fn slots_are_found_by_their_tags_alone() {
        let hash = 0x5a5a_1234_9876_5432_u64;
        let live = Word::live(hash, 0x1_2345_6789);
        let words = [
            live.0,
            live.with_payload(7).0,
            live.0 | Word::FREEZE,
            live.pending().0,
            live.aborted().0,
            EMPTY,
            UNBORN,
            CLOSED,
            live.0 ^ 1 << 48,
            live.0 ^ 1 << 63,
        ];
        let mut state = 1_u64;
        for _ in 0..20_000 {
            let bucket = Bucket::unborn();
            for slot in &bucket.slots {
                state = state.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(0x1405_7b7e_f767_814f);
                slot.store(words[(state >> 33) as usize % words.len()], Ordering::Relaxed);
            }
            // A link that looks like a word of the tag is no slot.
            bucket.link.store(live.0, Ordering::Relaxed);
            let fits = |slot: &&AtomicU64| Word(slot.load(Ordering::Relaxed)).has_tag_of(live);
            let expected = bucket.slots.iter().find(fits).map(std::ptr::from_ref);
            // Of the pattern only the tag counts.
            let found = bucket.slots_with_tag_of(Word::of_tag(hash));
            assert_eq!((found != 0).then(|| std::ptr::from_ref(bucket.first_of(found))), expected);
            let empty = bucket.slots.iter().find(|slot| slot.load(Ordering::Relaxed) == EMPTY);
            assert_eq!(bucket.empty_slot().map(std::ptr::from_ref), empty.map(std::ptr::from_ref));
            let with_tag = bucket.slots.iter().filter(|slot| Word(slot.load(Ordering::Relaxed)).has_tag_of(live));
            assert_eq!(bucket.slots_with_tag_of(live), with_tag.map(|slot| bucket.bit_of(slot)).sum());
            assert_eq!(Bucket::unborn().bit_of(&bucket.slots[0]), 0, "of another bucket");
        }
    }
}
