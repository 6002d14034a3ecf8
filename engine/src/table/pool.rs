//! Overflow buckets: a lock-free free list over slabs.
//!
//! A Treiber stack whose nodes are the free buckets themselves (the link word holds the next address). Popping needs a
//! guard and pushing happens through the epoch, so a node cannot come back while somebody who saw it at the head is
//! still pinned: no ABA (T5). Slabs are freed with the pool.

use super::bucket::Overflow;
use crate::sync::Guard;
use crate::sync::{AtomicPtr, AtomicU64, Ordering};
use std::sync::Arc;

/// Overflows in a slab: one 4 KiB page.
const SLAB_BUCKETS: usize = if cfg!(crossbeam_loom) { 2 } else { 128 };

/// One bucket in so many has its retirement followed by a collection.
const FLUSH_EVERY: u64 = 64;

struct Slab {
    buckets: Box<[Overflow]>,
    next: *mut Slab,
}

/// The overflow buckets of one table.
pub(crate) struct OverflowPool {
    /// Address of the first free bucket, or 0.
    free: AtomicU64,
    /// All slabs ever made; only grows until drop.
    slabs: AtomicPtr<Slab>,
    bytes: AtomicU64,
}

// SAFETY: all shared state is atomic; slabs are only freed by `drop`.
unsafe impl Send for OverflowPool {}
// SAFETY: as above.
unsafe impl Sync for OverflowPool {}

impl OverflowPool {
    pub(crate) fn new() -> Arc<OverflowPool> {
        Arc::new(OverflowPool {
            free: AtomicU64::new(0),
            slabs: AtomicPtr::new(std::ptr::null_mut()),
            bytes: AtomicU64::new(0),
        })
    }

    /// Bytes of all slabs.
    pub(crate) fn bytes(&self) -> usize {
        // Relaxed: a figure; no memory is read on the strength of it.
        self.bytes.load(Ordering::Relaxed) as usize
    }

    /// Takes a bucket that nobody else can reach: all slots empty (`born`), or to be filled by a split.
    pub(crate) fn take<'g>(&self, born: bool, _guard: &'g Guard) -> &'g Overflow {
        let bucket = self.pop().unwrap_or_else(|| self.grow());
        bucket.reset(born);
        bucket
    }

    fn pop<'g>(&self) -> Option<&'g Overflow> {
        // Acquire: the bucket's link was written before its push (E5).
        let mut head = self.free.load(Ordering::Acquire);
        loop {
            // SAFETY: free buckets belong to slabs, which live as long as the pool.
            let bucket = unsafe { (head as *const Overflow).as_ref() }?;
            let next = bucket.link.load(Ordering::Relaxed);
            // Acquire on success and failure: we go on to read the node we got. The loop ends because a failure means that
            // another thread popped or pushed.
            match self.free.compare_exchange_weak(head, next, Ordering::Acquire, Ordering::Acquire) {
                Ok(_) => return Some(bucket),
                Err(now) => head = now,
            }
        }
    }

    /// Makes a slab and keeps one bucket of it.
    #[cold]
    fn grow<'g>(&self) -> &'g Overflow {
        let buckets: Box<[Overflow]> = (0..SLAB_BUCKETS).map(|_| Overflow::unborn()).collect();
        let slab = Box::into_raw(Box::new(Slab { buckets, next: std::ptr::null_mut() }));
        // Relaxed: a figure.
        self.bytes.fetch_add((SLAB_BUCKETS * size_of::<Overflow>()) as u64, Ordering::Relaxed);
        let mut head = self.slabs.load(Ordering::Relaxed);
        loop {
            // SAFETY: the slab is ours until the exchange below publishes it.
            unsafe { (*slab).next = head };
            // Release: `drop` walks the list. Nobody follows it before (drop has exclusive access).
            match self.slabs.compare_exchange_weak(head, slab, Ordering::Release, Ordering::Relaxed) {
                Ok(_) => break,
                Err(now) => head = now,
            }
        }
        // SAFETY: published slabs are never freed before `drop`.
        let (first, rest) = unsafe { &(*slab).buckets }.split_first().expect("a slab has buckets");
        for bucket in rest {
            self.push(bucket);
        }
        first
    }

    fn push(&self, bucket: &Overflow) {
        let mut head = self.free.load(Ordering::Relaxed);
        loop {
            bucket.link.store(head, Ordering::Relaxed);
            // Release: publishes the link just written to `pop` (E5).
            match self.free.compare_exchange_weak(head, bucket.address(), Ordering::Release, Ordering::Relaxed) {
                Ok(_) => return,
                Err(now) => head = now,
            }
        }
    }

    /// Gives a bucket back once nobody can hold a reference to it.
    pub(crate) fn retire(self: &Arc<Self>, bucket: &Overflow, guard: &Guard) {
        let pool = Arc::clone(self);
        let address = bucket.address();
        guard.defer(move || {
            // SAFETY: the bucket belongs to a slab of `pool`, which the Arc keeps alive.
            pool.push(unsafe { &*(address as *const Overflow) });
        });
        // Left alone, the epoch runs some 500 closures in 128 pins, and a pin may be a batch of hundreds of inserts: retired buckets would
        // pile up while the pool makes fresh ones. So one retirement in 64, about what a bag of closures holds, asks for a collection. Told by the address, which costs no
        // count, and fresh slabs bring more of them.
        if cfg!(not(crossbeam_loom)) && (address / size_of::<Overflow>() as u64).is_multiple_of(FLUSH_EVERY) {
            guard.flush();
        }
    }
}

impl Drop for OverflowPool {
    fn drop(&mut self) {
        let mut slab = self.slabs.load(Ordering::Acquire);
        while !slab.is_null() {
            // SAFETY: made by `Box::into_raw` in `grow`, freed once: we have exclusive access.
            let owned = unsafe { Box::from_raw(slab) };
            slab = owned.next;
        }
    }
}
