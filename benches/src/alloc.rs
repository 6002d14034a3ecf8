//! The allocator of every map, and a count of the bytes it has handed out.
//!
//! Maps that allocate per entry and maps that do not are compared over the same allocator: the system's, or mimalloc
//! with the feature of that name. It is wrapped so that workloads about memory can count. The count is off while speed
//! is measured; what then remains is one load of a constant and a predicted branch per call, the same for all.

#![allow(unsafe_code)]

use crossbeam_utils::CachePadded;
use std::alloc::{GlobalAlloc, Layout};
use std::cell::Cell;
use std::sync::atomic::{AtomicBool, AtomicIsize, AtomicUsize, Ordering};

#[cfg(not(feature = "mimalloc"))]
use std::alloc::System as Inner;

#[cfg(feature = "mimalloc")]
use mimalloc::MiMalloc as Inner;

/// What results call the allocator.
pub const NAME: &str = if cfg!(feature = "mimalloc") { "mimalloc" } else { "system" };

#[global_allocator]
static GLOBAL: Counting = Counting;

/// Set before the first map exists and cleared after the last: nothing is allocated on one side and freed on the other.
static ON: AtomicBool = AtomicBool::new(false);

/// Threads beyond this many share a stripe, which is slower and still right.
const STRIPES: usize = 64;

static BYTES: [CachePadded<Stripe>; STRIPES] =
    [const { CachePadded::new(Stripe { live: AtomicIsize::new(0), peak: AtomicIsize::new(0) }) }; STRIPES];

/// Bytes allocated less bytes freed by the threads of one stripe, and the most that this has been.
struct Stripe {
    live: AtomicIsize,
    peak: AtomicIsize,
}

static NEXT_STRIPE: AtomicUsize = AtomicUsize::new(0);

thread_local! {
    /// This thread's stripe; `STRIPES` until it has one.
    static STRIPE: Cell<usize> = const { Cell::new(STRIPES) };
}

/// Starts counting from zero.
pub fn start_counting() {
    for stripe in &BYTES {
        stripe.live.store(0, Ordering::Relaxed);
        stripe.peak.store(0, Ordering::Relaxed);
    }
    ON.store(true, Ordering::SeqCst);
}

/// Stops counting; the figures stay.
pub fn stop_counting() {
    ON.store(false, Ordering::SeqCst);
}

/// Bytes requested and not freed since counting started, by all threads. Headers and rounding of the allocator are not
/// in it. Exact while nobody allocates; otherwise it may mix moments.
pub fn live_bytes() -> isize {
    // Relaxed: statistics, and a sum of several moments anyway.
    BYTES.iter().map(|stripe| stripe.live.load(Ordering::Relaxed)).sum()
}

/// The most that [`live_bytes`] has been, if one thread does all the work; with more, an upper bound.
pub fn peak_bytes() -> isize {
    BYTES.iter().map(|stripe| stripe.peak.load(Ordering::Relaxed)).sum()
}

/// Forwards to the inner allocator and counts while [`ON`].
struct Counting;

impl Counting {
    #[inline]
    fn count(&self, bytes: isize) {
        // Relaxed: a switch that changes only while no measured thread runs.
        if ON.load(Ordering::Relaxed) {
            self.add(bytes);
        }
    }

    #[cold]
    #[inline(never)]
    fn add(&self, bytes: isize) {
        // A thread that is ending may allocate after its locals are gone: it counts in stripe 0.
        let at = STRIPE
            .try_with(|stripe| {
                if stripe.get() == STRIPES {
                    stripe.set(NEXT_STRIPE.fetch_add(1, Ordering::Relaxed) % STRIPES);
                }
                stripe.get()
            })
            .unwrap_or(0);
        // Relaxed: statistics; no other memory is read on the strength of these values.
        let live = BYTES[at].live.fetch_add(bytes, Ordering::Relaxed) + bytes;
        BYTES[at].peak.fetch_max(live, Ordering::Relaxed);
    }
}

// SAFETY: every method forwards its arguments unchanged to the inner allocator, which keeps the contract; counting
// neither allocates nor unwinds.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        self.count(layout.size() as isize);
        // SAFETY: the caller keeps the contract of `alloc`, which is also the inner allocator's.
        unsafe { Inner.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        self.count(layout.size() as isize);
        // SAFETY: the caller keeps the contract of `alloc_zeroed`, which is also the inner allocator's.
        unsafe { Inner.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        self.count(-(layout.size() as isize));
        // SAFETY: the pointer came from the inner allocator with this layout, because `alloc` forwards both.
        unsafe { Inner.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        self.count(size as isize - layout.size() as isize);
        // SAFETY: the pointer came from the inner allocator with this layout, because `alloc` forwards both.
        unsafe { Inner.realloc(pointer, layout, size) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_what_is_allocated_and_freed() {
        start_counting();
        let before = live_bytes();
        let bytes = vec![1u8; 1 << 20];
        // Other tests run beside this one: allow for what they hold.
        assert!(live_bytes() - before >= 1 << 19);
        drop(bytes);
        assert!(peak_bytes() - before >= 1 << 19);
        stop_counting();
    }
}
