//! The allocation behind a payload of [`HashMap`](super::HashMap): a key and a value, fixed once published.

use super::pool::{Pool, Stripe};
use crate::sync::Guard;
use crate::table::PAYLOAD_BITS;
use std::alloc::Layout;
use std::marker::PhantomData;
use std::mem::ManuallyDrop;
use std::ptr::NonNull;
use std::sync::Arc;

/// Aligned so that the low three bits of its address are free: the payload is the address without them.
#[repr(align(8))]
pub(super) struct Entry<K, V> {
    pub(super) key: K,
    pub(super) value: V,
}

const ADDRESS_SHIFT: u32 = 3;

/// Larger entries come from the allocator one by one, and go back to it: for them its overhead is small, and memory that stays the
/// map's would not be.
const POOLED_BYTES_MAX: usize = 256;

/// A type that is invariant in `T`, and `Send` and `Sync` whatever `T` is.
type InAndOut<T> = fn(T) -> T;

/// Where entries of a map come from.
pub(super) struct Entries<K, V> {
    /// None if they are too large for one.
    pool: Option<Pool>,
    /// Invariant in both: whoever has `&HashMap` may put entries in, not only take them out.
    types: PhantomData<InAndOut<Entry<K, V>>>,
}

impl<K: 'static, V: 'static> Entries<K, V> {
    pub(super) fn new() -> Entries<K, V> {
        let layout = Layout::new::<Entry<K, V>>();
        Entries { pool: (layout.size() <= POOLED_BYTES_MAX).then(|| Pool::new(layout)), types: PhantomData }
    }

    /// Is there anything to be done for each entry when the map ends?
    pub(super) fn need_drop(&self) -> bool {
        self.pool.is_none() || std::mem::needs_drop::<Entry<K, V>>()
    }

    /// Allocates an entry that nobody else knows.
    ///
    /// # Panics
    /// If the allocator hands out an address above 2^48, which no supported system does unasked.
    #[inline]
    pub(super) fn allocate(&self, key: K, value: V) -> u64 {
        let entry = Entry { key, value };
        let address = match &self.pool {
            Some(pool) => {
                let cell = pool.take().cast::<Entry<K, V>>();
                // SAFETY: the cell is ours (P1), and of the layout of an entry.
                unsafe { cell.write(entry) };
                cell.as_ptr()
            }
            None => Box::into_raw(Box::new(entry)),
        };
        let payload = address as u64 >> ADDRESS_SHIFT;
        assert!(payload >> PAYLOAD_BITS == 0, "the address of an entry fits 48 bits");
        payload
    }

    /// Gives the memory of an entry back, whose content has been dropped or moved away.
    ///
    /// # Safety
    /// The payload came from [`Entries::allocate`] of this map, nobody else has it or can get it, and it is given back once.
    #[inline]
    unsafe fn give(stripe: Option<&Stripe>, payload: u64) {
        let entry = (payload << ADDRESS_SHIFT) as *mut Entry<K, V>;
        match stripe {
            // SAFETY: the caller's promise (P1); an address is not null.
            Some(stripe) => unsafe { stripe.give(NonNull::new_unchecked(entry).cast()) },
            // SAFETY: made by `Box::into_raw` in `allocate`; the content is dropped with the type that needs none.
            None => drop(unsafe { Box::from_raw(entry.cast::<ManuallyDrop<Entry<K, V>>>()) }),
        }
    }

    /// Calls `end` for the entry and gives its memory back, once all guards of now are gone.
    ///
    /// # Safety
    /// The payload is of this map, in no slot, and retired once; `end` leaves nothing that needs to be dropped, and may run on any thread.
    #[inline]
    unsafe fn defer(&self, payload: u64, guard: &Guard, end: impl FnOnce(*mut Entry<K, V>)) {
        // The closure owns a count of the stripe, so the memory is there when it runs, also if the map is not (P4).
        let stripe = self.pool.as_ref().map(|pool| Arc::clone(pool.own()));
        let free = move || {
            end((payload << ADDRESS_SHIFT) as *mut Entry<K, V>);
            // SAFETY: no guard that could have reached it is left when this runs.
            unsafe { Self::give(stripe.as_deref().map(|stripe| &**stripe), payload) };
        };
        // SAFETY: the caller's promise.
        unsafe { guard.defer_unchecked(free) };
    }

    /// Drops the entry and frees its memory once all guards of now are gone.
    ///
    /// # Safety
    /// It is of this map, in no slot, and retired once. `K` and `V` are `Send`: another thread may drop them.
    #[inline]
    pub(super) unsafe fn retire(&self, payload: u64, guard: &Guard) {
        // SAFETY: the caller's promise; nobody reads the entry any more when it is dropped.
        unsafe { self.defer(payload, guard, |entry| std::ptr::drop_in_place(entry)) };
    }

    /// Drops an entry now.
    ///
    /// # Safety
    /// Nobody else has a reference, or can get one, and it is dropped once.
    pub(super) unsafe fn free(&self, payload: u64) {
        // SAFETY: the caller's promise.
        unsafe { std::ptr::drop_in_place((payload << ADDRESS_SHIFT) as *mut Entry<K, V>) };
        // SAFETY: the same.
        unsafe { Self::give(self.pool.as_ref().map(|pool| &***pool.own()), payload) };
    }

    /// Moves the value into a new entry, with a clone of the key; the old key is dropped through the epoch (T4).
    ///
    /// The key itself cannot move: others may be comparing theirs to it, and what its type can change through `&K` would then be in two places.
    ///
    /// # Safety
    /// As for [`Entries::retire_but_value`].
    #[cold]
    pub(super) unsafe fn reissue(&self, payload: u64, guard: &Guard) -> u64
    where
        K: Clone,
    {
        // SAFETY: ours; it is dropped through the epoch.
        let key = unsafe { Entry::<K, V>::at(payload) }.key.clone();
        // SAFETY: the caller's promise.
        let value = unsafe { self.retire_but_value(payload, guard) };
        self.allocate(key, value)
    }

    /// Takes the value out, and frees the key and the allocation through the epoch.
    ///
    /// # Safety
    /// As for [`Entries::retire`]. Others may still read the key; nobody reads the value of an entry that never was live.
    #[cold]
    pub(super) unsafe fn retire_but_value(&self, payload: u64, guard: &Guard) -> V {
        // SAFETY: the value is read once, here, and not dropped below.
        let value = unsafe { std::ptr::read(&raw const Entry::<K, V>::at(payload).value) };
        // SAFETY: as for `retire`; the value has been moved away.
        unsafe { self.defer(payload, guard, |entry| std::ptr::drop_in_place(&raw mut (*entry).key)) };
        value
    }
}

impl<K: 'static, V: 'static> Entry<K, V> {
    /// The entry behind a payload.
    ///
    /// # Safety
    /// The payload came from [`Entries::allocate`] for these types and is not freed during `'g`: the caller owns it, or reached it
    /// under a guard that outlives `'g` (T6).
    #[inline]
    pub(super) unsafe fn at<'g>(payload: u64) -> &'g Entry<K, V> {
        // SAFETY: the caller's promise.
        unsafe { &*((payload << ADDRESS_SHIFT) as *const Entry<K, V>) }
    }
}
