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
    /// Addresses of the buckets that were retired and have not come back. (The standard library's lock: no model switches threads in it.)
    #[cfg(test)]
    retired: std::sync::Mutex<std::collections::HashSet<u64>>,
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
            #[cfg(test)]
            retired: std::sync::Mutex::default(),
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
        #[cfg(test)]
        assert!(self.retired.lock().expect("no panic").insert(address), "T5: a bucket is retired once");
        guard.defer(move || {
            #[cfg(test)]
            assert!(pool.retired.lock().expect("no panic").remove(&address), "T5: it comes back once");
            // SAFETY: the bucket belongs to a slab of `pool`, which the Arc keeps alive.
            pool.push(unsafe { &*(address as *const Overflow) });
        });
    }

    /// How many buckets were retired and have not come back.
    #[cfg(all(test, crossbeam_loom))]
    pub(crate) fn retired(&self) -> usize {
        self.retired.lock().expect("no panic").len()
    }

    /// Panics unless each bucket is in a chain, free, or retired. For tests at rest.
    #[cfg(test)]
    pub(crate) fn validate(&self, in_chains: &std::collections::HashSet<u64>, _guard: &Guard) {
        let total = self.bytes() / size_of::<Overflow>();
        for attempt in 0.. {
            let retired = self.retired.lock().expect("no panic").clone();
            assert!(retired.is_disjoint(in_chains), "T5: what was retired is in no chain");
            let mut free = std::collections::HashSet::new();
            let mut head = self.free.load(Ordering::Acquire);
            // SAFETY: free buckets belong to slabs, which live as long as the pool.
            while let Some(bucket) = unsafe { (head as *const Overflow).as_ref() } {
                assert!(free.insert(head) && !in_chains.contains(&head), "T5: a free bucket is in no chain");
                head = bucket.link.load(Ordering::Acquire);
            }
            free.extend(retired);
            let known = free.len() + in_chains.len();
            if known == total {
                return;
            }
            // Between the two looks one may be on its way from `retired` to the free list.
            assert!(known < total && attempt < 10_000, "T5: {known} buckets are known of {total}");
            std::thread::yield_now();
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
