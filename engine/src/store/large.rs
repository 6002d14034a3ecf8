//! Values too large for the log: one shared allocation each, charged to the store's limit until its last reader is done.

use crate::log::Log;
use std::fmt;
use std::ops::{Deref, DerefMut};
use std::sync::Arc;

/// What an allocation costs beyond its bytes: the reference counts, the length, and the allocator's own.
const OVERHEAD_BYTES: usize = 64;

struct Allocation {
    bytes: Box<[u8]>,
    log: Arc<Log>,
}

impl Drop for Allocation {
    fn drop(&mut self) {
        self.log.uncharge_large(self.bytes.len() + OVERHEAD_BYTES);
    }
}

/// Memory for a large value that is being received: zeroed, exactly as long as the value, writable, owned by one.
///
/// It is charged to the store's limit from the moment it is made; dropping it unused gives the memory back.
pub struct LargeBuf(Arc<Allocation>);

impl LargeBuf {
    /// Allocates, if the limit allows it.
    pub(crate) fn allocate(len: usize, log: &Arc<Log>, index_bytes: usize) -> Option<LargeBuf> {
        log.charge_large(len + OVERHEAD_BYTES, index_bytes)
            .then(|| LargeBuf(Arc::new(Allocation { bytes: vec![0; len].into_boxed_slice(), log: Arc::clone(log) })))
    }

    /// Fixes the content and makes it shareable.
    pub(crate) fn freeze(self) -> LargeValue {
        LargeValue(self.0)
    }
}

impl Deref for LargeBuf {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0.bytes
    }
}

impl DerefMut for LargeBuf {
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut Arc::get_mut(&mut self.0).expect("a LargeBuf is the only owner").bytes
    }
}

impl fmt::Debug for LargeBuf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "LargeBuf({} bytes)", self.len())
    }
}

/// A large value. Cloning shares it; the bytes stay as they are, and charged, until the last clone is dropped, also when
/// the item has been replaced or deleted.
#[derive(Clone)]
pub struct LargeValue(Arc<Allocation>);

impl LargeValue {
    /// Gives one reference to a record.
    pub(crate) fn into_address(self) -> usize {
        Arc::into_raw(self.0) as usize
    }

    /// Takes the record's reference back.
    ///
    /// # Safety
    /// `address` came from [`LargeValue::into_address`], and is taken back once.
    pub(crate) unsafe fn from_address(address: usize) -> LargeValue {
        // SAFETY: the caller's promise.
        LargeValue(unsafe { Arc::from_raw(address as *const Allocation) })
    }

    /// Another reference beside the record's.
    ///
    /// # Safety
    /// The record's own reference outlives this call.
    pub(crate) unsafe fn share(address: usize) -> LargeValue {
        // SAFETY: the caller's promise.
        unsafe {
            Arc::increment_strong_count(address as *const Allocation);
            LargeValue::from_address(address)
        }
    }

    /// The bytes, without counting a reference.
    ///
    /// # Safety
    /// The record's own reference lives during `'g`.
    pub(crate) unsafe fn peek<'g>(address: usize) -> &'g [u8] {
        // SAFETY: the caller's promise.
        &unsafe { &*(address as *const Allocation) }.bytes
    }
}

impl Deref for LargeValue {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0.bytes
    }
}

impl AsRef<[u8]> for LargeValue {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

impl fmt::Debug for LargeValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "LargeValue({} bytes)", self.len())
    }
}
