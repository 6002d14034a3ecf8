//! The buffers that a ring lends to the kernel, and the list through which it does.

use io_uring::types::BufRingEntry;
use std::alloc::{self, Layout};
use std::ptr::NonNull;
use std::slice;
use std::sync::atomic::{AtomicU16, Ordering};

/// The list of buffers begins at a page, as the kernel demands.
const PAGE_BYTES: usize = 4096;
/// What lies between two buffers: their beginnings, which are what most receives fill, then do not all map to the same few
/// lines of the processor's cache.
const GAP_BYTES: usize = 64;

/// Memory that the kernel writes to: the list, and the buffers behind it.
pub(crate) struct Buffers {
    base: NonNull<u8>,
    layout: Layout,
    list_bytes: usize,
    pub(crate) count: u16,
    buffer_bytes: usize,
    /// Buffers lent so far; wraps.
    tail: u16,
    /// The kernel may still write.
    pub(crate) lent: bool,
}

impl Buffers {
    /// So many buffers, a power of two. Their memory is not touched before the kernel does.
    pub(crate) fn new(count: u16, buffer_bytes: usize) -> Self {
        assert!(count.is_power_of_two() && buffer_bytes > 0, "{count} buffers of {buffer_bytes} bytes");
        let list_bytes = (usize::from(count) * size_of::<BufRingEntry>()).next_multiple_of(PAGE_BYTES);
        let bytes = list_bytes + usize::from(count) * (buffer_bytes + GAP_BYTES);
        let layout = Layout::from_size_align(bytes, PAGE_BYTES).expect("some megabytes, aligned to a page");
        // SAFETY: the layout is not empty.
        let base = unsafe { alloc::alloc(layout) };
        let Some(base) = NonNull::new(base) else { alloc::handle_alloc_error(layout) };
        // SAFETY: the list is within the allocation.
        unsafe { base.write_bytes(0, list_bytes) };
        Self { base, layout, list_bytes, count, buffer_bytes, tail: 0, lent: false }
    }

    pub(crate) fn list_address(&self) -> u64 {
        self.base.as_ptr() as u64
    }

    fn buffer(&self, number: u16) -> *mut u8 {
        assert!(number < self.count, "the kernel names buffer {number} of {}", self.count);
        // SAFETY: there are `count` buffers behind the list, with their gaps.
        unsafe { self.base.as_ptr().add(self.list_bytes + usize::from(number) * (self.buffer_bytes + GAP_BYTES)) }
    }

    /// The bytes that the kernel has put into a buffer, which is ours.
    pub(crate) fn bytes(&self, number: u16, bytes: usize) -> &[u8] {
        assert!(bytes <= self.buffer_bytes, "the kernel has written {bytes} bytes into a buffer");
        // SAFETY: the kernel has written these bytes, and writes there no more until the buffer is lent again, for which `self`
        // must be borrowed mutably (U2).
        unsafe { slice::from_raw_parts(self.buffer(number), bytes) }
    }

    /// Puts a buffer that is ours on the list; [`Buffers::publish`] lends it.
    pub(crate) fn lend(&mut self, number: u16) {
        let address = self.buffer(number) as u64;
        let place = usize::from(self.tail & (self.count - 1));
        // SAFETY: within the list, which is aligned to a page; the kernel reads entries only up to the published tail, and at
        // most `count` buffers are lent at a time, so this one has been read. Nothing else refers to the list.
        let entry = unsafe { &mut *self.base.cast::<BufRingEntry>().as_ptr().add(place) };
        entry.set_addr(address);
        entry.set_len(self.buffer_bytes as u32);
        entry.set_bid(number);
        self.tail = self.tail.wrapping_add(1);
    }

    pub(crate) fn publish(&mut self) {
        // SAFETY: the pointer is to the list's first entry, which was zeroed and therefore is valid.
        let tail = unsafe { BufRingEntry::tail(self.base.cast::<BufRingEntry>().as_ptr()) };
        // SAFETY: aligned, alive as long as `self`, and whoever else accesses it (the kernel) does so atomically.
        let tail = unsafe { AtomicU16::from_ptr(tail.cast_mut()) };
        // Release: publishes the list's entries to the kernel, which loads the tail with Acquire before it reads them.
        tail.store(self.tail, Ordering::Release);
    }
}

impl Drop for Buffers {
    fn drop(&mut self) {
        if !self.lent {
            // SAFETY: allocated with this layout; the kernel has given up the memory (U3), or has never had it.
            unsafe { alloc::dealloc(self.base.as_ptr(), self.layout) };
        }
    }
}
