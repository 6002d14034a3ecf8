//! Values too large for the log: one slot of the [`Arena`] each, shared by reference counts, charged to the store's limit until the last
//! reader is done.
//!
//! # Life
//! ```text
//! LargeBuf    reserved -> receiving    the first `extend`: takes a slot
//!             receiving -> receiving   `extend`: charges a step further, evicting if need be
//! LargeValue  receiving -> loose       `freeze`: it is whole, and shared from here on
//!             loose -> current         `into_address`: the first record names it
//!             current -> loose         `from_address`, and the drop of what it answers: the last record has left the index
//!             loose -> freed           the last reference is dropped: pages go back, then the charge
//! ```
//! A value that is *receiving* or *loose* cannot be evicted, so both are counted. What is receiving is bounded: at most half of the
//! limit is charged for values that are not whole yet ([`LargeMemory::enter_receiving`]), so that clients which begin large values and
//! do not end them leave the other half to everybody else; what goes beyond is refused. The largest item is half of the limit at most, so a
//! value that is alone always fits. A loose value lives as long as somebody reads it; how many readers there may be is for the caller
//! to bound ([`Store::loose_large_bytes`](super::Store::loose_large_bytes)).
//!
//! **V1** Only charged pages of a slot are touched. **V2** Charged bytes of a slot are uncharged once, by whoever frees it, after its pages
//! went back to the system.

use super::{Store, StoreError};
use crate::limits::{LARGE_STEP_BYTES_MAX, LARGE_STEP_BYTES_MIN};
use crate::log::Log;
use crate::log::arena::{Arena, Header, Slot};
use crate::log::region::PAGE_BYTES;
use crate::sync::{AtomicU64, Ordering};
use std::fmt;
use std::ops::{Deref, DerefMut};
use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::fence;

/// The addresses of a store's large values, and what those cost that cannot be evicted.
pub(super) struct LargeMemory {
    arena: Arena,
    log: Arc<Log>,
    /// Charged for values that are not whole.
    receiving: AtomicU64,
    /// Charged for whole values that no record names.
    loose: AtomicU64,
}

impl LargeMemory {
    /// Reserves addresses for values of up to `value_bytes_max`, as many as the largest limit of `log` allows. Their memory counts in its
    /// account.
    ///
    /// # Errors
    /// If the system has no such addresses.
    pub(super) fn new(log: Arc<Log>, value_bytes_max: usize) -> std::io::Result<Arc<LargeMemory>> {
        Ok(Arc::new(LargeMemory {
            arena: Arena::reserve(log.limit_max() as usize, value_bytes_max)?,
            log,
            receiving: AtomicU64::new(0),
            loose: AtomicU64::new(0),
        }))
    }

    pub(super) fn loose_bytes(&self) -> u64 {
        // Relaxed, here and below: accounts; no other memory is read on the strength of them. While one record of a value goes and
        // another comes, what is added for the one may come after what is subtracted for the other.
        u64::try_from(self.loose.load(Ordering::Relaxed) as i64).unwrap_or(0)
    }

    pub(super) fn receiving_bytes(&self) -> u64 {
        self.receiving.load(Ordering::Relaxed)
    }

    /// Where the slots are.
    #[cfg(all(test, not(crossbeam_loom)))]
    pub(super) fn addresses(&self) -> (usize, usize) {
        self.arena.addresses()
    }

    /// Half of the limit, and what rounding may add to a value of that size.
    fn receiving_max(&self) -> u64 {
        self.log.limit() / 2 + PAGE_BYTES as u64
    }

    /// May another value begin to arrive?
    fn may_receive(&self) -> bool {
        self.receiving.load(Ordering::Relaxed) < self.receiving_max()
    }

    /// Counts bytes of values that are not whole, unless they would be too many.
    fn enter_receiving(&self, bytes: usize) -> bool {
        let max = self.receiving_max();
        let enter = |sum: u64| Some(sum + bytes as u64).filter(|&sum| sum <= max);
        self.receiving.fetch_update(Ordering::Relaxed, Ordering::Relaxed, enter).is_ok()
    }

    fn leave_receiving(&self, bytes: usize) {
        self.receiving.fetch_sub(bytes as u64, Ordering::Relaxed);
    }

    /// Frees a slot (V2).
    ///
    /// # Safety
    /// It was taken from this arena, `charged` is what was charged for it, and nobody uses it any more.
    unsafe fn free(&self, slot: Slot, charged: usize) {
        // SAFETY: the caller's promise; V1.
        unsafe { self.arena.put(slot, charged) };
        self.log.uncharge_large(charged);
    }
}

/// The bytes of a value's pages: what it is charged with.
pub(super) fn pages(len: usize) -> usize {
    len.max(1).next_multiple_of(PAGE_BYTES)
}

/// Memory for a large value that is being received: owned by one, charged to the store's limit as it is extended.
///
/// It begins with nothing. [`Handle::extend`](super::Handle::extend) makes more of it *ready*: only that part can be written, and it is what
/// the buffer dereferences to, zeroed at first. Dropping it unused gives the memory back.
pub struct LargeBuf {
    memory: Arc<LargeMemory>,
    len: usize,
    slot: Option<Slot>,
    /// Bytes from its beginning that are charged: whole pages.
    charged: usize,
    /// Those of them that count as receiving.
    receiving: usize,
}

impl LargeBuf {
    /// A value that may now be received, of which nothing is ready.
    ///
    /// # Errors
    /// [`StoreError::OutOfMemory`] if there are no addresses for such a value, or if those that have begun to arrive take all that such
    /// values may.
    pub(super) fn reserve(store: &Store, len: usize) -> Result<LargeBuf, StoreError> {
        let memory = &store.large;
        if len > memory.arena.value_bytes_max() || !memory.may_receive() {
            return Err(StoreError::OutOfMemory);
        }
        Ok(LargeBuf::begin(store, len))
    }

    /// As [`LargeBuf::reserve`], for a value that will be whole before anybody else gets to run: it does not count as receiving.
    pub(super) fn begin(store: &Store, len: usize) -> LargeBuf {
        LargeBuf { memory: Arc::clone(&store.large), len, slot: None, charged: 0, receiving: 0 }
    }

    /// The length of the whole value.
    #[must_use]
    pub fn value_len(&self) -> usize {
        self.len
    }

    /// Whether all of the value is ready.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.slot.is_some() && self.charged >= self.len
    }

    /// How many bytes should be charged for `ready_min` to be ready, and the bytes that come soon.
    pub(super) fn step_to(&self, ready_min: usize) -> usize {
        let step = self.charged.clamp(LARGE_STEP_BYTES_MIN, LARGE_STEP_BYTES_MAX);
        pages(ready_min.max(self.charged + step).min(self.len))
    }

    /// Counts the step as receiving, before room is made for it. False if too much is.
    pub(super) fn enter_receiving(&mut self, charged: usize) -> bool {
        let step = charged - self.charged;
        let entered = self.memory.enter_receiving(step);
        if entered {
            self.receiving += step;
        }
        entered
    }

    /// Takes back what [`LargeBuf::enter_receiving`] counted and no charge followed.
    pub(super) fn leave_receiving(&mut self) {
        let uncharged = self.receiving.saturating_sub(self.charged);
        self.memory.leave_receiving(uncharged);
        self.receiving -= uncharged;
    }

    /// Charges up to `charged` bytes from the beginning, if there is room for them, and takes a slot if there is none yet.
    pub(super) fn grow(&mut self, charged: usize, index_bytes: usize) -> bool {
        debug_assert!(charged >= self.charged && charged.is_multiple_of(PAGE_BYTES));
        let step = charged - self.charged;
        if !self.memory.log.charge_large(step, index_bytes) {
            return false;
        }
        if self.slot.is_none() {
            self.slot = self.memory.arena.take(self.len);
        }
        if self.slot.is_none() {
            self.memory.log.uncharge_large(step);
            return false;
        }
        self.charged = charged;
        true
    }

    /// Fixes the content and makes it shareable.
    ///
    /// # Panics
    /// If it is not whole.
    pub(super) fn freeze(mut self) -> LargeValue {
        assert!(self.is_whole(), "V1: a value is charged as a whole before it is shared");
        let slot = self.slot.take().expect("whole values have one");
        let memory = &self.memory;
        let header = memory.arena.header(slot);
        // Relaxed, here and below: whoever gets a reference gets it from us, by the publication of a record or otherwise in order.
        header.references.store(1, Ordering::Relaxed);
        header.records.store(0, Ordering::Relaxed);
        let bytes = memory.arena.bytes(slot);
        // SAFETY: the slot is ours alone, and nobody else reads these fields.
        unsafe {
            *header.len.get() = u32::try_from(self.len).expect("the arena has no slots of this length");
            *header.bytes.get() = bytes;
            *header.keeper.get() = Arc::into_raw(Arc::clone(memory)).cast();
        }
        memory.loose.fetch_add(self.charged as u64, Ordering::Relaxed);
        LargeValue(NonNull::from(header))
    }

    fn ready_len(&self) -> usize {
        self.charged.min(self.len)
    }
}

impl Deref for LargeBuf {
    type Target = [u8];

    /// The part that is ready.
    fn deref(&self) -> &[u8] {
        let Some(slot) = self.slot else { return &[] };
        // SAFETY: the slot is ours, its memory is zeroed or written by us, and as long.
        unsafe { std::slice::from_raw_parts(self.memory.arena.bytes(slot), self.ready_len()) }
    }
}

impl DerefMut for LargeBuf {
    fn deref_mut(&mut self) -> &mut [u8] {
        let Some(slot) = self.slot else { return &mut [] };
        // SAFETY: as in `deref`; V1.
        unsafe { std::slice::from_raw_parts_mut(self.memory.arena.bytes(slot), self.ready_len()) }
    }
}

impl Drop for LargeBuf {
    fn drop(&mut self) {
        self.memory.leave_receiving(self.receiving);
        if let Some(slot) = self.slot.take() {
            // SAFETY: taken by us, and not given to a value.
            unsafe { self.memory.free(slot, self.charged) };
        }
    }
}

impl fmt::Debug for LargeBuf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "LargeBuf({} of {} bytes)", self.ready_len(), self.len)
    }
}

/// A large value. Cloning shares it; the bytes stay as they are, and charged, until the last clone is dropped, also when
/// the item has been replaced or deleted, and when the store is gone.
pub struct LargeValue(NonNull<Header>);

// SAFETY: a counted reference to bytes that do not change; the counts are atomic.
unsafe impl Send for LargeValue {}
// SAFETY: as above.
unsafe impl Sync for LargeValue {}

impl LargeValue {
    /// Gives one reference to a record.
    pub(super) fn into_address(self) -> usize {
        let header = self.header();
        // Relaxed: an account, and our reference keeps the value.
        if header.records.fetch_add(1, Ordering::Relaxed) == 0 {
            self.memory().loose.fetch_sub(pages(self.len()) as u64, Ordering::Relaxed);
        }
        std::mem::ManuallyDrop::new(self).0.as_ptr().expose_provenance()
    }

    /// Takes the record's reference back.
    ///
    /// # Safety
    /// `address` came from [`LargeValue::into_address`], and is taken back once.
    pub(super) unsafe fn from_address(address: usize) -> Released {
        // SAFETY: the caller's promise: the record's reference is ours now.
        let value = unsafe { LargeValue::at(address) };
        // Relaxed: as in `into_address`.
        let was_last = value.header().records.fetch_sub(1, Ordering::Relaxed) == 1;
        Released { value, was_last }
    }

    /// Another reference beside the record's.
    ///
    /// # Safety
    /// The record's own reference outlives this call.
    pub(super) unsafe fn share(address: usize) -> LargeValue {
        // SAFETY: the caller's promise; the reference is not ours to drop.
        let records = std::mem::ManuallyDrop::new(unsafe { LargeValue::at(address) });
        LargeValue::clone(&records)
    }

    /// The bytes, without counting a reference.
    ///
    /// # Safety
    /// The record's own reference lives during `'g`.
    pub(super) unsafe fn peek<'g>(address: usize) -> &'g [u8] {
        // SAFETY: the caller's promise; the reference is not ours to drop.
        let value = std::mem::ManuallyDrop::new(unsafe { LargeValue::at(address) });
        // SAFETY: as above: it lives, and does not change, during `'g`.
        unsafe { std::slice::from_raw_parts(value.as_ptr(), value.len()) }
    }

    /// # Safety
    /// A record at least has a reference.
    unsafe fn at(address: usize) -> LargeValue {
        let header = std::ptr::with_exposed_provenance_mut(address);
        // SAFETY: the caller's promise: it came from a value.
        LargeValue(unsafe { NonNull::new_unchecked(header) })
    }

    /// Whether an item of the store still has this value: false once it was replaced, deleted, evicted, or found to have expired.
    #[must_use]
    pub fn is_current(&self) -> bool {
        // Relaxed: it may change at any moment.
        self.header().records.load(Ordering::Relaxed) > 0
    }

    fn header(&self) -> &Header {
        // SAFETY: headers stay as long as the arena does, of which our value has a reference.
        unsafe { self.0.as_ref() }
    }

    fn memory(&self) -> &LargeMemory {
        // SAFETY: fixed by `freeze`; the value's reference to it goes with the last of ours.
        unsafe { &*(*self.header().keeper.get()).cast::<LargeMemory>() }
    }
}

/// The reference of a record that has left the index. Drop it when no guard can reach the record any more: what is there then
/// is there because of readers.
pub(super) struct Released {
    value: LargeValue,
    /// Was it the last record that named the value?
    was_last: bool,
}

impl Released {
    pub(super) fn len(&self) -> usize {
        self.value.len()
    }
}

impl Drop for Released {
    fn drop(&mut self) {
        if self.was_last {
            self.value.memory().loose.fetch_add(pages(self.value.len()) as u64, Ordering::Relaxed);
        }
    }
}

impl Clone for LargeValue {
    fn clone(&self) -> LargeValue {
        // Relaxed: made from a reference that is there, by one that is there.
        let references = self.header().references.fetch_add(1, Ordering::Relaxed);
        // Every reference takes memory: this is a leak in a loop. As in std's Arc, there is no safe way to go on.
        if references > u32::MAX / 2 {
            std::process::abort();
        }
        LargeValue(self.0)
    }
}

impl Drop for LargeValue {
    fn drop(&mut self) {
        // Release: our reads come before the memory is freed.
        if self.header().references.fetch_sub(1, Ordering::Release) > 1 {
            return;
        }
        // Acquire: after the last reads of all others.
        fence(Ordering::Acquire);
        let charged = pages(self.len());
        // SAFETY: fixed by `freeze`, which gave the value this reference; it is taken back once, by the last owner.
        let memory = unsafe { Arc::from_raw((*self.header().keeper.get()).cast::<LargeMemory>()) };
        // A value that is freed is loose: its records have given their references back.
        memory.loose.fetch_sub(charged as u64, Ordering::Relaxed);
        let slot = memory.arena.slot_of(self.header());
        // SAFETY: the slot of a whole value, all of whose pages were charged; nobody has a reference any more.
        unsafe { memory.free(slot, charged) };
    }
}

impl Deref for LargeValue {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        // SAFETY: fixed by `freeze`, and there as long as our reference.
        unsafe { std::slice::from_raw_parts(*self.header().bytes.get(), *self.header().len.get() as usize) }
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
