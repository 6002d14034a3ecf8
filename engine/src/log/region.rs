//! Address ranges: reserved once, with pages as they are first touched.

use rustix::io::Errno;
use rustix::mm::{Advice, MapFlags, MlockFlags, ProtFlags, madvise, mlock_with, mmap_anonymous, munlock, munmap};

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
        unsafe { give_back(self.base.add(offset), bytes) };
    }
}

/// Gives pages back to the system, also if the process has locked all its memory; they read as zeros when they are touched again.
///
/// # Safety
/// The pages are part of a private anonymous mapping, and nobody uses them.
pub(crate) unsafe fn give_back(pages: *mut u8, bytes: usize) {
    let pages = pages.cast();
    // SAFETY: the caller's promise.
    let advised = unsafe { madvise(pages, bytes, Advice::LinuxDontNeed) };
    if advised != Err(Errno::INVAL) {
        debug_assert!(advised.is_ok());
        return;
    }
    // Locked pages are not given back. What was locked stays so, page by page as it is touched again (`mlockall`).
    // SAFETY: the caller's promise.
    let advised = unsafe { munlock(pages, bytes).and_then(|()| madvise(pages, bytes, Advice::LinuxDontNeed)) };
    debug_assert!(advised.is_ok());
    // Without the right to lock them again the pages are as those of any other process.
    // SAFETY: as above.
    let _ = unsafe { mlock_with(pages, bytes, MlockFlags::ONFAULT) };
}

impl Drop for Region {
    fn drop(&mut self) {
        // SAFETY: exactly the mapping that `reserve` made.
        let unmapped = unsafe { munmap(self.base.cast(), self.bytes) };
        debug_assert!(unmapped.is_ok());
    }
}

#[cfg(all(test, not(crossbeam_loom)))]
mod tests {
    use super::*;

    #[test]
    fn locked_pages_are_given_back_too() {
        let region = Region::reserve(4 * PAGE_BYTES, false).expect("possible");
        // SAFETY: the region is ours.
        unsafe {
            mlock_with(region.base().cast(), 4 * PAGE_BYTES, MlockFlags::ONFAULT).expect("everybody may lock 64 KiB");
            for round in 0..3 {
                region.base().write_bytes(7, 4 * PAGE_BYTES);
                region.release(PAGE_BYTES, 2 * PAGE_BYTES);
                let bytes = std::slice::from_raw_parts(region.base(), 4 * PAGE_BYTES);
                let sevens = bytes.iter().filter(|&&byte| byte == 7).count();
                assert_eq!(sevens, 2 * PAGE_BYTES, "round {round}");
            }
        }
    }
}
