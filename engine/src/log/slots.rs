//! Which slots of a range are free: a lock-free stack of slot numbers.
//!
//! ```text
//!  63                          28 27                  0
//! +------------------------------+---------------------+
//! | tag: takes so far, mod 2^36  | top slot + 1, or 0  |
//! +------------------------------+---------------------+
//! ```
//! The head is one word; each free slot has a link to the next, kept by the caller outside the slot, so that a free slot needs no
//! pages. Slots that were never taken are not on the stack: they are handed out in their order when it is empty.
//!
//! **A1** A slot has at most one owner: it is handed out by the one [`Slots::take`] whose compare-and-swap took it from the head (or
//! whose addition counted it as touched), and comes back by that owner's [`Slots::put`].
//!
//! A take reads the link of the top slot before it knows whether it will get it. Meanwhile others may take that slot, use it, and put it
//! back above other slots, so that the link read is stale. Each take raises the tag, so the head is then another word, and the
//! compare-and-swap fails. The tag would have to come round, which takes 2^36 takes, while one thread stands between its load and its
//! compare-and-swap: at a microsecond each (every take is followed by page faults, every put follows an `madvise`) that is 19 hours.
//!
//! Every change of the head is a read-modify-write, so a Release of any put is carried on by whatever comes after it.

use crate::sync::{AtomicU64, Ordering};

/// Number of a slot in its range.
pub(crate) type SlotIndex = u32;

const INDEX_BITS: u32 = 28;
const INDEX_MASK: u64 = (1 << INDEX_BITS) - 1;

/// The largest range.
pub(crate) const SLOTS_MAX: usize = INDEX_MASK as usize;

/// A link for each slot: written by its owner in [`Slots::put`], read by anybody, also while the slot is in use.
pub(crate) trait Links {
    /// What was stored last, or anything if nothing was.
    fn load(&self, slot: SlotIndex) -> u32;
    fn store(&self, slot: SlotIndex, next: u32);
}

/// The free slots of one range.
pub(crate) struct Slots {
    head: AtomicU64,
    /// Slots that have ever been taken: those from here on are free, too.
    touched: AtomicU64,
    count: u64,
}

impl Slots {
    /// `count` free slots.
    pub(crate) fn new(count: usize) -> Slots {
        assert!(count <= SLOTS_MAX, "a range has at most {SLOTS_MAX} slots");
        Slots { head: AtomicU64::new(0), touched: AtomicU64::new(0), count: count as u64 }
    }

    /// Takes a free slot, the one that was used last if there is one: its header is still in the cache.
    pub(crate) fn take(&self, links: &impl Links) -> Option<SlotIndex> {
        // Acquire: the link and everything that the slot's last owner did, from its put (Release).
        let mut head = self.head.load(Ordering::Acquire);
        // Ends: a failure means that another take or put was done.
        while head & INDEX_MASK != 0 {
            let slot = (head & INDEX_MASK) as SlotIndex - 1;
            let tag = (head >> INDEX_BITS).wrapping_add(1) << INDEX_BITS;
            let next = u64::from(links.load(slot)) & INDEX_MASK;
            match self.head.compare_exchange(head, tag | next, Ordering::Acquire, Ordering::Acquire) {
                Ok(_) => return Some(slot),
                Err(seen) => head = seen,
            }
        }
        // Relaxed: nobody has used the slot before.
        let touch = |touched| (touched < self.count).then_some(touched + 1);
        self.touched.fetch_update(Ordering::Relaxed, Ordering::Relaxed, touch).ok().map(|slot| slot as SlotIndex)
    }

    /// Gives a slot back. Only its owner does (A1).
    pub(crate) fn put(&self, slot: SlotIndex, links: &impl Links) {
        // Relaxed: only the word matters; the link is read again by whoever takes the slot.
        let mut head = self.head.load(Ordering::Relaxed);
        loop {
            links.store(slot, (head & INDEX_MASK) as u32);
            let new = head & !INDEX_MASK | (u64::from(slot) + 1);
            // Release: the link, and our last use of the slot, for the Acquire in `take`. Ends: as there.
            match self.head.compare_exchange(head, new, Ordering::Release, Ordering::Relaxed) {
                Ok(_) => return,
                Err(seen) => head = seen,
            }
        }
    }
}

#[cfg(all(test, not(crossbeam_loom)))]
mod tests {
    use super::*;
    use std::collections::HashSet;
    use std::sync::Barrier;
    use std::sync::atomic::AtomicU32;

    impl Links for Vec<AtomicU32> {
        fn load(&self, slot: SlotIndex) -> u32 {
            self[slot as usize].load(Ordering::Relaxed)
        }

        fn store(&self, slot: SlotIndex, next: u32) {
            self[slot as usize].store(next, Ordering::Relaxed);
        }
    }

    fn links(count: usize) -> Vec<AtomicU32> {
        (0..count).map(|_| AtomicU32::new(0)).collect()
    }

    #[test]
    fn all_slots_are_handed_out_once_and_the_last_used_one_first() {
        let (slots, links) = (Slots::new(5), links(5));
        let taken: Vec<_> = (0..5).map(|_| slots.take(&links).expect("one is free")).collect();
        assert_eq!(taken, [0, 1, 2, 3, 4]);
        assert_eq!(slots.take(&links), None);
        slots.put(3, &links);
        slots.put(1, &links);
        assert_eq!([1, 3].map(Some), [slots.take(&links), slots.take(&links)]);
        assert_eq!(slots.take(&links), None);
    }

    /// Threads take and put as fast as they can; owners mark what they hold, so that a slot with two owners is seen.
    #[test]
    fn a1_under_contention_every_slot_has_one_owner() {
        const THREADS: usize = 4;
        let rounds = if cfg!(miri) { 50 } else { 50_000 };
        let (slots, links, owners) = (Slots::new(6), links(6), links(6));
        let start = Barrier::new(THREADS);
        std::thread::scope(|scope| {
            for thread in 1..=THREADS as u32 {
                let (slots, links, owners, start) = (&slots, &links, &owners, &start);
                scope.spawn(move || {
                    start.wait();
                    for round in 0..rounds {
                        let held: Vec<_> = (0..=round % 3).filter_map(|_| slots.take(links)).collect();
                        for &slot in &held {
                            assert_eq!(owners[slot as usize].swap(thread, Ordering::Relaxed), 0, "A1");
                        }
                        for &slot in &held {
                            assert_eq!(owners[slot as usize].swap(0, Ordering::Relaxed), thread, "A1");
                            slots.put(slot, links);
                        }
                    }
                });
            }
        });
        let all: HashSet<_> = std::iter::from_fn(|| slots.take(&links)).collect();
        assert_eq!(all.len(), 6, "none is lost");
    }
}

#[cfg(all(test, crossbeam_loom))]
mod models {
    use super::*;
    use crate::sync::check;
    use loom::cell::UnsafeCell;
    use loom::thread;
    use std::sync::Arc;

    struct Model {
        slots: Slots,
        links: Vec<AtomicU64>,
        /// In place of the memory of the slots: loom reports any use by two owners that is not ordered.
        memory: Vec<UnsafeCell<u32>>,
    }

    // SAFETY: the cells are what is under test: loom checks every access.
    unsafe impl Sync for Model {}
    // SAFETY: as above.
    unsafe impl Send for Model {}

    impl Links for Vec<AtomicU64> {
        fn load(&self, slot: SlotIndex) -> u32 {
            self[slot as usize].load(Ordering::Relaxed) as u32
        }

        fn store(&self, slot: SlotIndex, next: u32) {
            self[slot as usize].store(u64::from(next), Ordering::Relaxed);
        }
    }

    impl Model {
        fn new(count: usize) -> Model {
            Model {
                slots: Slots::new(count),
                links: (0..count).map(|_| AtomicU64::new(0)).collect(),
                memory: (0..count).map(|_| UnsafeCell::new(0)).collect(),
            }
        }

        fn take(&self) -> Option<SlotIndex> {
            let slot = self.slots.take(&self.links)?;
            // SAFETY: ours (A1); loom checks that.
            self.memory[slot as usize].with_mut(|memory| unsafe { *memory += 1 });
            Some(slot)
        }

        fn put(&self, slot: SlotIndex) {
            // SAFETY: as above.
            self.memory[slot as usize].with_mut(|memory| unsafe { *memory += 1 });
            self.slots.put(slot, &self.links);
        }
    }

    /// One thread takes while the other takes the same slots and puts them back in another order: the link that the first has read is
    /// stale, and the tag says so.
    #[test]
    fn a1_a_stale_link_is_never_believed() {
        check(3, || {
            let model = Arc::new(Model::new(2));
            let both = [model.take(), model.take()].map(|slot| slot.expect("two are free"));
            both.into_iter().for_each(|slot| model.put(slot));
            let other = Arc::clone(&model);
            let other = thread::spawn(move || {
                let (first, second) = (other.take(), other.take());
                // The upper one comes back alone: its link is now another.
                if let Some(slot) = first {
                    other.put(slot);
                }
                second
            });
            let ours = model.take();
            let theirs = other.join().expect("no panic");
            assert!(ours.is_none() || ours != theirs, "A1");
            // Whatever was put back is there, and nothing else.
            let rest = std::iter::from_fn(|| model.take()).count();
            let held = usize::from(ours.is_some()) + usize::from(theirs.is_some());
            assert_eq!(rest + held, 2, "A1: no slot is lost, and none is there twice");
        });
    }

    #[test]
    fn a1_puts_and_takes_of_two_threads_lose_nothing() {
        check(3, || {
            let model = Arc::new(Model::new(2));
            let ours = model.take().expect("two are free");
            let theirs = model.take().expect("two are free");
            let other = Arc::clone(&model);
            let other = thread::spawn(move || {
                other.put(theirs);
                other.take()
            });
            model.put(ours);
            let ours = model.take();
            let theirs = other.join().expect("no panic");
            assert!(ours.is_some() && theirs.is_some() && ours != theirs, "A1");
            assert_eq!(model.take(), None);
        });
    }
}
