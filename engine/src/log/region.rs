//! Address ranges: reserved once, with pages as they are first touched.

use rustix::mm::{Advice, MapFlags, ProtFlags, madvise, mmap_anonymous, munmap};

/// What is accounted for, and given back, as a whole.
pub(crate) const PAGE_BYTES: usize = 4096;

/// A range of addresses that belongs to nobody else.
pub(crate) struct Region {
    base: *mut u8,
    bytes: usize,
}

// SAFETY: an address range; who may touch which part of it is decided by its user.
unsafe impl Send for Region {}
// SAFETY: as above.
unsafe impl Sync for Region {}

impl Region {
    /// Reserves an address range. Pages come when they are touched: large ones, if `huge` and the system has them, else of
    /// [`PAGE_BYTES`], so that no memory comes that was not touched.
    ///
    /// # Errors
    /// What the system answers when it has no such range.
    pub(crate) fn reserve(bytes: usize, huge: bool) -> std::io::Result<Region> {
        // SAFETY: a fresh anonymous mapping at an address of the system's choice.
        let base = unsafe {
            mmap_anonymous(
                std::ptr::null_mut(),
                bytes,
                ProtFlags::READ | ProtFlags::WRITE,
                MapFlags::PRIVATE | MapFlags::NORESERVE,
            )
        }?;
        // Records are found at random: with 4 KiB pages most look-ups also miss the TLB. The advice is refused where there are no huge pages at
        // all: either way nothing depends on it then.
        let advice = if huge { Advice::LinuxHugepage } else { Advice::LinuxNoHugepage };
        // SAFETY: the mapping just made.
        let _ = unsafe { madvise(base, bytes, advice) };
        Ok(Region { base: base.cast(), bytes })
    }

    #[inline]
    pub(crate) fn base(&self) -> *mut u8 {
        self.base
    }

    #[cfg(all(test, not(crossbeam_loom)))]
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Gives the pages of a range back; they read as zeros when they are touched again.
    ///
    /// # Safety
    /// The range lies in the region, in whole pages, and nobody uses it.
    pub(crate) unsafe fn release(&self, offset: usize, bytes: usize) {
        debug_assert!(offset + bytes <= self.bytes);
        // SAFETY: the caller's promise.
        let advised = unsafe { madvise(self.base.add(offset).cast(), bytes, Advice::LinuxDontNeed) };
        debug_assert!(advised.is_ok());
    }
}

impl Drop for Region {
    fn drop(&mut self) {
        // SAFETY: exactly the mapping that `reserve` made.
        let unmapped = unsafe { munmap(self.base.cast(), self.bytes) };
        debug_assert!(unmapped.is_ok());
    }
}
