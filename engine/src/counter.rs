//! Counters that many threads raise without meeting each other: one cache-padded stripe a thread, summed when read.

use crate::sync::{AtomicI64, AtomicU64, Ordering};
use crossbeam_utils::CachePadded;

/// Stripes of a [`SignedCount`], and of whatever else is spread over threads. Threads beyond that share.
pub(crate) const STRIPES: usize = if cfg!(crossbeam_loom) { 1 } else { 16 };

/// The stripe of the calling thread.
#[inline]
pub(crate) fn own_stripe() -> usize {
    #[cfg(not(crossbeam_loom))]
    {
        use std::cell::Cell;
        use std::sync::atomic::AtomicUsize;
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        thread_local!(static OWN: Cell<usize> = const { Cell::new(usize::MAX) });
        OWN.with(|own| {
            if own.get() == usize::MAX {
                // Relaxed: any distribution will do.
                own.set(NEXT.fetch_add(1, Ordering::Relaxed) % STRIPES);
            }
            own.get()
        })
    }
    #[cfg(crossbeam_loom)]
    0
}

/// A signed count, such as the number of entries of a table.
pub(crate) struct SignedCount {
    stripes: [CachePadded<AtomicI64>; STRIPES],
}

impl SignedCount {
    /// How many units a stripe gains between two sums that [`SignedCount::add`] offers.
    const SUM_EVERY: i64 = if cfg!(crossbeam_loom) { 1 } else { 32 };

    pub(crate) fn new() -> SignedCount {
        SignedCount { stripes: std::array::from_fn(|_| CachePadded::new(AtomicI64::new(0))) }
    }

    /// Adds, and now and then answers the sum.
    #[inline]
    pub(crate) fn add(&self, n: i64) -> Option<i64> {
        // Relaxed: a count; no other memory is read on the strength of it, and a sum may lag.
        let before = self.stripes[own_stripe()].fetch_add(n, Ordering::Relaxed);
        (n > 0 && (before + n).rem_euclid(Self::SUM_EVERY) == 0).then(|| self.sum())
    }

    /// The sum of all stripes. Exact when nobody is adding.
    pub(crate) fn sum(&self) -> i64 {
        // Relaxed: as above.
        self.stripes.iter().map(|stripe| stripe.load(Ordering::Relaxed)).sum()
    }
}

/// `N` counters for each of a fixed number of owners, for instance one owner a worker thread.
///
/// Raising a counter costs one load and one store on a cache line that only the owner writes; reading sums all owners.
/// A sum taken while owners are counting may lag behind each of them.
///
/// ```
/// use memkv_engine::counter::Striped;
/// let requests: Striped<2> = Striped::new(4);
/// requests.add(0, 1, 5);
/// requests.add(3, 1, 2);
/// assert_eq!((requests.sum(0), requests.sum(1)), (0, 7));
/// ```
#[derive(Debug)]
pub struct Striped<const N: usize> {
    stripes: Box<[CachePadded<[AtomicU64; N]>]>,
}

impl<const N: usize> Striped<N> {
    /// Counters for `stripes` owners, all zero.
    pub fn new(stripes: usize) -> Striped<N> {
        Striped {
            stripes: (0..stripes).map(|_| CachePadded::new(std::array::from_fn(|_| AtomicU64::new(0)))).collect(),
        }
    }

    /// Raises (or, wrapping, lowers) counter `cell` of owner `stripe`.
    ///
    /// Two threads that use the same stripe at once lose counts, but do no other harm.
    ///
    /// # Panics
    /// If `stripe` or `cell` is out of range.
    #[inline]
    pub fn add(&self, stripe: usize, cell: usize, n: u64) {
        let counter = &self.stripes[stripe][cell];
        // Relaxed load and store: the stripe has one writer, and nobody reads other memory on the strength of a count.
        counter.store(counter.load(Ordering::Relaxed).wrapping_add(n), Ordering::Relaxed);
    }

    /// The sum over all owners (wrapping, so that owners may lower what others raised).
    ///
    /// # Panics
    /// If `cell` is out of range.
    pub fn sum(&self, cell: usize) -> u64 {
        // Relaxed: as above.
        self.stripes.iter().fold(0, |sum, stripe| sum.wrapping_add(stripe[cell].load(Ordering::Relaxed)))
    }
}
