//! The allocation behind a payload of [`HashMap`](super::HashMap): a key and a value, fixed once published.

use crate::sync::Guard;
use crate::table::PAYLOAD_BITS;
use std::mem::ManuallyDrop;

/// Aligned so that the low three bits of its address are free: the payload is the address without them.
#[repr(align(8))]
pub(super) struct Entry<K, V> {
    pub(super) key: K,
    pub(super) value: V,
}

const ADDRESS_SHIFT: u32 = 3;

impl<K: 'static, V: 'static> Entry<K, V> {
    /// Allocates an entry that nobody else knows.
    ///
    /// # Panics
    /// If the allocator hands out an address above 2^48, which no supported system does unasked.
    pub(super) fn allocate(key: K, value: V) -> u64 {
        let payload = Box::into_raw(Box::new(Entry { key, value })) as u64 >> ADDRESS_SHIFT;
        assert!(payload >> PAYLOAD_BITS == 0, "the address of an entry fits 48 bits");
        payload
    }

    /// The entry behind a payload.
    ///
    /// # Safety
    /// The payload came from [`Entry::allocate`] for these types and is not freed during `'g`: the caller owns it, or reached it
    /// under a guard that outlives `'g` (T6).
    #[inline]
    pub(super) unsafe fn at<'g>(payload: u64) -> &'g Entry<K, V> {
        // SAFETY: the caller's promise.
        unsafe { &*((payload << ADDRESS_SHIFT) as *const Entry<K, V>) }
    }

    /// Takes the allocation back.
    ///
    /// # Safety
    /// Nobody else has a reference, or can get one, and it is taken once.
    pub(super) unsafe fn from_payload(payload: u64) -> Box<Entry<K, V>> {
        // SAFETY: made by `Box::into_raw` in `allocate`.
        unsafe { Box::from_raw((payload << ADDRESS_SHIFT) as *mut Entry<K, V>) }
    }

    /// Frees the entry once all guards of now are gone.
    ///
    /// # Safety
    /// It is in no slot, and retired once. `K` and `V` are `Send`: another thread may drop them.
    #[inline]
    pub(super) unsafe fn retire(payload: u64, guard: &Guard) {
        // SAFETY: no guard that could have reached it is left when this runs.
        unsafe { guard.defer_unchecked(move || drop(Self::from_payload(payload))) };
    }

    /// Moves key and value into a new allocation; the old one is freed through the epoch, without dropping them (T4).
    ///
    /// # Safety
    /// As for [`Entry::retire`]. Others may still read the old copy of the key: it is the same bits, and what they point to lives
    /// at least until the new entry is retired, which is later.
    #[cold]
    pub(super) unsafe fn reissue(payload: u64, guard: &Guard) -> u64 {
        // SAFETY: ours; the old allocation is never dropped as an entry.
        let Entry { key, value } = unsafe { std::ptr::read(Self::at(payload)) };
        // SAFETY: the same allocation, seen as one whose content needs no drop; freed when no reader is left.
        unsafe {
            guard.defer_unchecked(move || {
                drop(Box::from_raw((payload << ADDRESS_SHIFT) as *mut ManuallyDrop<Entry<K, V>>));
            });
        }
        Self::allocate(key, value)
    }

    /// Takes the value out, and frees the key and the allocation through the epoch.
    ///
    /// # Safety
    /// As for [`Entry::retire`]. Others may still read the key; nobody reads the value of an entry that never was live.
    #[cold]
    pub(super) unsafe fn retire_but_value(payload: u64, guard: &Guard) -> V {
        // SAFETY: the value is read once, here, and not dropped below.
        let value = unsafe { std::ptr::read(&raw const Self::at(payload).value) };
        // SAFETY: as for `retire`; `ManuallyDrop` has the layout of what it wraps.
        unsafe {
            guard.defer_unchecked(move || {
                let mut entry = Box::from_raw((payload << ADDRESS_SHIFT) as *mut ManuallyDrop<Entry<K, V>>);
                std::ptr::drop_in_place(&raw mut entry.key);
            });
        }
        value
    }
}
