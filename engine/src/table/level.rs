//! Memory for the bucket array of one level: zeroed, touched only as the split front moves, given back behind it.

use super::bucket::Bucket;

/// An array of buckets that were zeroed (unborn) when it was made. Freed when dropped; shared by the table and by the
/// deferred closures that still have to give pages of it back.
pub(crate) struct LevelMemory {
    buckets: *mut Bucket,
    count: usize,
}

// SAFETY: an address range; every access goes through the atomics in the buckets.
unsafe impl Send for LevelMemory {}
// SAFETY: as above.
unsafe impl Sync for LevelMemory {}

impl LevelMemory {
    /// The first bucket.
    pub(crate) fn buckets(&self) -> *mut Bucket {
        self.buckets
    }
}

#[cfg(not(crossbeam_loom))]
mod imp {
    use super::{Bucket, LevelMemory};
    use crate::log::region::give_back;
    use rustix::mm::{Advice, MapFlags, ProtFlags, madvise, mmap_anonymous, munmap};
    use std::alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error};
    use std::sync::Arc;

    /// Arrays of this size and more are mapped straight from the system, which zeroes pages when they are touched and
    /// takes single pages back.
    const MAPPED_BYTES_MIN: usize = 256 << 10;

    /// Arrays of this size and more ask for huge pages. In a smaller one the last of them, of which the split front has filled a part, would be
    /// much of the whole, and the TLB reaches far.
    const HUGE_BYTES_MIN: usize = 16 << 20;

    const HUGE_PAGE_BYTES: usize = 2 << 20;

    /// Buckets behind the split front that are given back at a time where pages are small: 64 KiB.
    const RELEASE_BUCKETS: usize = 1024;

    /// Maps zeroes at an address of the system's choice, aligned to huge pages if there is room for some.
    fn map(bytes: usize) -> *mut u8 {
        let (protection, flags) = (ProtFlags::READ | ProtFlags::WRITE, MapFlags::PRIVATE | MapFlags::NORESERVE);
        let spare = if bytes >= HUGE_BYTES_MIN { HUGE_PAGE_BYTES } else { 0 };
        // SAFETY: a fresh anonymous mapping at an address of the system's choice.
        let mapped = unsafe { mmap_anonymous(std::ptr::null_mut(), bytes + spare, protection, flags) };
        let mapped = mapped.expect("the system maps memory for the index").cast::<u8>();
        if spare == 0 {
            return mapped;
        }
        let before = mapped.align_offset(HUGE_PAGE_BYTES);
        let buckets = mapped.wrapping_add(before);
        for (from, bytes) in [(mapped, before), (buckets.wrapping_add(bytes), spare - before)] {
            if bytes > 0 {
                // SAFETY: a part of the mapping just made, of whole pages, that nobody has seen. Refused, it stays as an unused range of addresses.
                let _ = unsafe { munmap(from.cast(), bytes) };
            }
        }
        // Buckets are found at random: huge pages save TLB misses. Refused or not, nothing depends on it.
        // SAFETY: the rest of the mapping.
        let _ = unsafe { madvise(buckets.cast(), bytes, Advice::LinuxHugepage) };
        buckets
    }

    impl LevelMemory {
        fn layout(count: usize) -> Layout {
            Layout::array::<Bucket>(count).expect("a level fits the address space")
        }

        fn is_mapped(&self) -> bool {
            Self::layout(self.count).size() >= MAPPED_BYTES_MIN
        }

        /// Reserves `count` unborn buckets.
        ///
        /// # Panics
        /// If the system refuses the address range.
        pub(crate) fn reserve(count: usize) -> Arc<LevelMemory> {
            let layout = Self::layout(count);
            let buckets = if layout.size() >= MAPPED_BYTES_MIN {
                map(layout.size()).cast()
            } else {
                // SAFETY: the layout is not empty: a level has at least two buckets.
                let buckets = unsafe { alloc_zeroed(layout) }.cast::<Bucket>();
                if buckets.is_null() {
                    handle_alloc_error(layout);
                }
                buckets
            };
            Arc::new(LevelMemory { buckets, count })
        }

        /// How many buckets of a level of `count` are best given back at a time: no part of a huge page, which would only be cut up, and stay. Each time interrupts all threads
        /// of the process.
        pub(crate) fn release_step(count: usize) -> usize {
            if Self::layout(count).size() >= HUGE_BYTES_MIN {
                HUGE_PAGE_BYTES / size_of::<Bucket>()
            } else {
                RELEASE_BUCKETS
            }
        }

        /// Gives the pages of buckets `from..to` back to the system.
        ///
        /// # Safety
        /// Nobody reaches these buckets any more, and they are whole pages.
        pub(crate) unsafe fn release(&self, from: usize, to: usize) {
            debug_assert!(from <= to && to <= self.count, "T6: only buckets of this level are given back");
            if self.is_mapped() {
                let bytes = (to - from) * size_of::<Bucket>();
                // SAFETY: the range lies inside the mapping, and the rest is the caller's promise.
                unsafe { give_back(self.buckets.add(from).cast(), bytes) };
            }
        }
    }

    impl Drop for LevelMemory {
        fn drop(&mut self) {
            let layout = Self::layout(self.count);
            if self.is_mapped() {
                // SAFETY: exactly the mapping that `reserve` made.
                let unmapped = unsafe { munmap(self.buckets.cast(), layout.size()) };
                debug_assert!(unmapped.is_ok());
            } else {
                // SAFETY: exactly the allocation that `reserve` made.
                unsafe { dealloc(self.buckets.cast(), layout) };
            }
        }
    }
}

#[cfg(crossbeam_loom)]
mod imp {
    use super::{Bucket, LevelMemory};
    use std::sync::Arc;

    impl LevelMemory {
        pub(crate) fn reserve(count: usize) -> Arc<LevelMemory> {
            let buckets: Box<[Bucket]> = (0..count).map(|_| Bucket::unborn()).collect();
            Arc::new(LevelMemory { buckets: Box::into_raw(buckets).cast(), count })
        }

        pub(crate) fn release_step(count: usize) -> usize {
            count
        }

        pub(crate) unsafe fn release(&self, _from: usize, _to: usize) {}
    }

    impl Drop for LevelMemory {
        fn drop(&mut self) {
            // SAFETY: made by `reserve` from a box of this length.
            drop(unsafe { Box::from_raw(std::ptr::slice_from_raw_parts_mut(self.buckets, self.count)) });
        }
    }
}

#[cfg(all(test, not(crossbeam_loom)))]
mod tests {
    use super::*;

    #[test]
    fn a_large_level_is_made_of_whole_huge_pages() {
        for count in [1 << 18, 1 << 19] {
            let memory = LevelMemory::reserve(count);
            let step = LevelMemory::release_step(count);
            let pages = (0..count).step_by(step).map(|from| memory.buckets().wrapping_add(from));
            assert_eq!((memory.buckets() as usize % (2 << 20), step * size_of::<Bucket>()), (0, 2 << 20));
            // Written, given back, and zero again.
            for (i, bucket) in pages.enumerate() {
                // SAFETY: below the count that was reserved.
                let bucket = unsafe { &*bucket };
                bucket.reset();
                // SAFETY: nobody else knows the level.
                unsafe { memory.release(i * step, (i + 1) * step) };
                assert!(bucket.slots.iter().all(|slot| slot.load(crate::sync::Ordering::Relaxed) == 0));
            }
        }
    }
}
