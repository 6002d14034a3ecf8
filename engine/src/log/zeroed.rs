//! Arrays that begin as zeros and cost no memory until they are touched.

#[cfg(not(crossbeam_loom))]
use super::region::Region;
use std::ops::Deref;

/// A type that is right when all its bytes are zero, needs no drop, and changes only through atomics.
///
/// # Safety
/// All of that holds.
pub(crate) unsafe trait Zero {
    /// A zero as the model checker wants it: made, not found.
    #[cfg_attr(not(crossbeam_loom), allow(dead_code, reason = "memory from the system is zero already"))]
    fn zero() -> Self;
}

/// A fixed array of zeros whose pages come when they are touched.
pub(crate) struct ZeroedSlice<T: Zero> {
    #[cfg(not(crossbeam_loom))]
    memory: Region,
    #[cfg(not(crossbeam_loom))]
    len: usize,
    #[cfg(crossbeam_loom)]
    made: Box<[T]>,
    owns: std::marker::PhantomData<T>,
}

impl<T: Zero> ZeroedSlice<T> {
    /// # Errors
    /// If the system has no address range of that size.
    pub(crate) fn new(len: usize) -> std::io::Result<ZeroedSlice<T>> {
        Ok(ZeroedSlice {
            #[cfg(not(crossbeam_loom))]
            memory: Region::reserve(len * size_of::<T>(), false)?,
            #[cfg(not(crossbeam_loom))]
            len,
            #[cfg(crossbeam_loom)]
            made: (0..len).map(|_| T::zero()).collect(),
            owns: std::marker::PhantomData,
        })
    }
}

impl<T: Zero> Deref for ZeroedSlice<T> {
    type Target = [T];

    #[inline]
    fn deref(&self) -> &[T] {
        #[cfg(not(crossbeam_loom))]
        // SAFETY: `len` values fit the mapping, which is page-aligned and began as zeros (`Zero`); it lives as long as we do.
        unsafe {
            std::slice::from_raw_parts(self.memory.base().cast(), self.len)
        }
        #[cfg(crossbeam_loom)]
        &self.made
    }
}
