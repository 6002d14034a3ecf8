//! Memory for the entries of a map: cells of one size, cut from slabs and used again and again.
//!
//! An entry is small and short-lived, and found at random. The allocator would put 16 bytes into 32, on pages of 4 KiB that most
//! look-ups miss in the TLB; cells have no header and large slabs lie on huge pages. The price: memory that a map has once used
//! for entries stays the map's until it is dropped, and what was removed from it collected.
//!
//! # Structure
//! ```text
//! stripe (one of STRIPES; a thread keeps to its own)
//!   shelf     free cells, linked, and the uncut rest of a slab; touched by the holder of `busy` only
//!   returned  cells that came back: a stack, pushed to by anybody, taken as a whole
//! slabs       all memory; freed when the map and everything retired from it are gone
//! ```
//!
//! # Invariants
//! - **P1** A cell is in one place: with its owner, on a shelf, uncut, or in a `returned`.
//! - **P2** Only the holder of `busy` touches the shelf. Nobody waits for it: who finds a stripe busy goes on to the next, and does without a shelf
//!   if all are. A thread that stops as the holder keeps that shelf's cells from the others, nothing else.
//! - **P3** A stack of returned cells is only ever taken whole. So the link in a cell is read by nobody but whoever took it, there is no ABA,
//!   and a cell may come back at once or through the epoch, as its owner likes.
//! - **P4** Each stripe owns a count of the slabs, and each retired entry one of a stripe: no cell outlives its memory.
//!
//! # Orderings
//! | edge | writer | reader | carries |
//! |---|---|---|---|
//! | E1 | `busy` = 0 (Release) | `busy` = 1 (Acquire) | the shelf |
//! | E2 | push to `returned` (Release) | the swap that takes it (Acquire) | the links, and that the owner is done with the cell |

use crate::counter::{STRIPES, own_stripe};
use crate::sync::{AtomicPtr, AtomicU64, Ordering, ShelfCell};
use crossbeam_utils::CachePadded;
use std::alloc::{Layout, alloc, dealloc, handle_alloc_error};
use std::ptr::{NonNull, null_mut};
use std::sync::Arc;

/// The first slab of a stripe; each one after it is four times as large.
const SLAB_BYTES_MIN: usize = if cfg!(crossbeam_loom) { 16 } else { 4 << 10 };

/// The largest slab: a huge page.
const SLAB_BYTES_MAX: usize = 2 << 20;

/// A cell that is in nobody's use.
struct Free {
    next: *mut Free,
}

/// Cells at hand, for the one thread that holds the stripe (P2).
struct Shelf {
    free: *mut Free,
    uncut: *mut u8,
    uncut_cells: usize,
    slab_bytes: usize,
}

/// One thread's share of a pool, or several threads'.
pub(super) struct Stripe {
    slabs: Arc<Slabs>,
    busy: AtomicU64,
    shelf: ShelfCell<Shelf>,
    returned: AtomicPtr<Free>,
}

// SAFETY: the shelf belongs to the holder of `busy` (P2), and nothing in it belongs to a thread; the rest is atomic.
unsafe impl Send for Stripe {}
// SAFETY: as above.
unsafe impl Sync for Stripe {}

/// All slabs of a pool.
struct Slabs {
    cell: Layout,
    newest: AtomicPtr<Slab>,
}

struct Slab {
    memory: *mut u8,
    layout: Layout,
    next: *mut Slab,
}

// SAFETY: the list only grows until it is dropped, by compare-and-swap of its head.
unsafe impl Send for Slabs {}
// SAFETY: as above.
unsafe impl Sync for Slabs {}

/// Cells for values of one layout. Cost of an idle pool: 4 KiB.
pub(super) struct Pool {
    stripes: [Arc<CachePadded<Stripe>>; STRIPES],
}

impl Pool {
    /// A pool of cells for values of this layout.
    pub(super) fn new(value: Layout) -> Pool {
        let link = Layout::new::<Free>();
        let cell = Layout::from_size_align(value.size().max(link.size()), value.align().max(link.align()));
        let cell = cell.expect("a little more than a value's layout").pad_to_align();
        let slabs = Arc::new(Slabs { cell, newest: AtomicPtr::new(null_mut()) });
        let stripe = |_| {
            let shelf = Shelf { free: null_mut(), uncut: null_mut(), uncut_cells: 0, slab_bytes: SLAB_BYTES_MIN };
            Arc::new(CachePadded::new(Stripe {
                slabs: Arc::clone(&slabs),
                busy: AtomicU64::new(0),
                shelf: ShelfCell::new(shelf),
                returned: AtomicPtr::new(null_mut()),
            }))
        };
        Pool { stripes: std::array::from_fn(stripe) }
    }

    /// The calling thread's stripe.
    #[inline]
    pub(super) fn own(&self) -> &Arc<CachePadded<Stripe>> {
        &self.stripes[own_stripe()]
    }

    /// A cell with arbitrary content. Takes a swap and a store on the thread's own line; every few thousandth call a slab from the allocator.
    #[inline]
    pub(super) fn take(&self) -> NonNull<u8> {
        let own = own_stripe();
        // Bounded: each stripe is tried once.
        for i in 0..STRIPES {
            let stripe = &self.stripes[(own + i) % STRIPES];
            // Acquire: the shelf as its last holder left it (E1).
            if stripe.busy.swap(1, Ordering::Acquire) == 0 {
                let cell = stripe.shelf.with_mut(|shelf| {
                    // SAFETY: we hold the stripe (P2).
                    let shelf = unsafe { &mut *shelf };
                    self.take_from(stripe, shelf)
                });
                // Release: the shelf, for its next holder (E1).
                stripe.busy.store(0, Ordering::Release);
                return cell;
            }
        }
        self.take_without_shelf()
    }

    /// Every shelf is in somebody's hands: a cell that came back, or a new one.
    #[cold]
    fn take_without_shelf(&self) -> NonNull<u8> {
        for stripe in &self.stripes {
            if let Some(first) = NonNull::new(stripe.take_returned()) {
                // SAFETY: the whole stack is ours (P3).
                let mut rest = unsafe { first.as_ref() }.next;
                while let Some(cell) = NonNull::new(rest) {
                    // SAFETY: as above; the link is read before the cell is given away.
                    rest = unsafe { cell.as_ref() }.next;
                    // SAFETY: ours, given once.
                    unsafe { stripe.give(cell.cast()) };
                }
                return first.cast();
            }
        }
        let slabs = &self.stripes[0].slabs;
        slabs.grow(slabs.cell.size()).0
    }

    #[inline]
    fn take_from(&self, stripe: &Stripe, shelf: &mut Shelf) -> NonNull<u8> {
        if shelf.free.is_null() {
            shelf.free = stripe.take_returned();
            if shelf.free.is_null() && shelf.uncut_cells == 0 {
                self.refill(stripe, shelf);
            }
        }
        if let Some(free) = NonNull::new(shelf.free) {
            // SAFETY: a cell on the shelf is ours, and its link was written when it came back (P1, P3).
            shelf.free = unsafe { free.as_ref() }.next;
            return free.cast();
        }
        let cell = shelf.uncut;
        shelf.uncut_cells -= 1;
        // SAFETY: `refill` has seen to it that there is a cell left to cut; the slab ends after the last.
        shelf.uncut = unsafe { cell.add(stripe.slabs.cell.size()) };
        // SAFETY: part of a slab.
        unsafe { NonNull::new_unchecked(cell) }
    }

    /// The free cells of another stripe, so that one thread may insert for ever what another removes, and those of a thread that has gone are
    /// used; else a new slab.
    #[cold]
    fn refill(&self, stripe: &Stripe, shelf: &mut Shelf) {
        let spare = self.stripes.iter().map(|other| other.take_returned()).find(|free| !free.is_null());
        // Our own is busy, with us.
        let spare = spare.or_else(|| self.stripes.iter().filter_map(|other| other.take_shelf()).next());
        if let Some(free) = spare {
            shelf.free = free;
            return;
        }
        let (memory, cells) = stripe.slabs.grow(shelf.slab_bytes);
        (shelf.uncut, shelf.uncut_cells) = (memory.as_ptr(), cells);
        shelf.slab_bytes = (shelf.slab_bytes * 4).min(SLAB_BYTES_MAX);
    }
}

impl Stripe {
    /// Takes a cell back. Lock-free: a repetition means that another thread pushed, or took.
    ///
    /// # Safety
    /// The cell is of this stripe's pool, and the caller's: nobody else reads or writes it, now or later (P1).
    #[inline]
    pub(super) unsafe fn give(&self, cell: NonNull<u8>) {
        let cell = cell.cast::<Free>();
        // Relaxed: the head is only stored into the cell, and compared.
        let mut head = self.returned.load(Ordering::Relaxed);
        loop {
            // SAFETY: ours until it is pushed; large and aligned enough for a link.
            unsafe { cell.write(Free { next: head }) };
            // Release: the link, and whatever the owner did with the cell (E2). An RMW, so pushes before it stay visible, too.
            match self.returned.compare_exchange_weak(head, cell.as_ptr(), Ordering::Release, Ordering::Relaxed) {
                Ok(_) => return,
                Err(now) => head = now,
            }
        }
    }

    /// The free cells of the shelf, unless there are none or somebody holds it.
    fn take_shelf(&self) -> Option<*mut Free> {
        // Acquire and Release: as in `take` (E1).
        if self.busy.swap(1, Ordering::Acquire) != 0 {
            return None;
        }
        // SAFETY: we hold the stripe (P2).
        let free = self.shelf.with_mut(|shelf| std::mem::replace(unsafe { &mut (*shelf).free }, null_mut()));
        self.busy.store(0, Ordering::Release);
        (!free.is_null()).then_some(free)
    }

    /// All cells that came back, as a list that is the caller's.
    #[inline]
    fn take_returned(&self) -> *mut Free {
        // Relaxed: only asks whether the swap would be worth it.
        if self.returned.load(Ordering::Relaxed).is_null() {
            return null_mut();
        }
        // Acquire: links, and that their owners are done (E2).
        self.returned.swap(null_mut(), Ordering::Acquire)
    }
}

impl Slabs {
    /// Makes a slab of about so many bytes; answers its first cell and how many there are.
    #[cold]
    fn grow(&self, bytes: usize) -> (NonNull<u8>, usize) {
        let cells = (bytes / self.cell.size()).max(1);
        let align = if bytes == SLAB_BYTES_MAX { SLAB_BYTES_MAX } else { self.cell.align() };
        // A slab that is to be a huge page is one to the last byte, also where cells do not fill it.
        let size = if bytes == SLAB_BYTES_MAX { bytes.max(cells * self.cell.size()) } else { cells * self.cell.size() };
        let layout = Layout::from_size_align(size, align.max(self.cell.align()));
        let layout = layout.expect("a slab is a few cells, or at most a huge page");
        // SAFETY: the layout is not empty: a cell holds a link at least.
        let Some(memory) = NonNull::new(unsafe { alloc(layout) }) else { handle_alloc_error(layout) };
        if bytes == SLAB_BYTES_MAX {
            advise_huge(memory, layout.size());
        }
        let slab = Box::into_raw(Box::new(Slab { memory: memory.as_ptr(), layout, next: null_mut() }));
        // Relaxed: the head is only stored and compared; nobody follows the list before `drop`.
        let mut newest = self.newest.load(Ordering::Relaxed);
        loop {
            // SAFETY: ours until the exchange publishes it.
            unsafe { (*slab).next = newest };
            // Release: `drop` walks the list, after an Acquire of the last count of the slabs.
            match self.newest.compare_exchange_weak(newest, slab, Ordering::Release, Ordering::Relaxed) {
                Ok(_) => return (memory, cells),
                Err(now) => newest = now,
            }
        }
    }
}

impl Drop for Slabs {
    fn drop(&mut self) {
        let mut slab = self.newest.load(Ordering::Acquire);
        while !slab.is_null() {
            // SAFETY: made by `Box::into_raw` in `grow`, taken once: we have exclusive access.
            let Slab { memory, layout, next } = *unsafe { Box::from_raw(slab) };
            // SAFETY: allocated with this layout; nobody has a cell of it any more (P4).
            unsafe { dealloc(memory, layout) };
            slab = next;
        }
    }
}

/// Asks for huge pages. Refused or not, nothing depends on it.
fn advise_huge(memory: NonNull<u8>, bytes: usize) {
    let pages = bytes / crate::log::region::PAGE_BYTES * crate::log::region::PAGE_BYTES;
    // SAFETY: pages of an allocation of ours; the advice changes no content.
    let _ = unsafe { rustix::mm::madvise(memory.as_ptr().cast(), pages, rustix::mm::Advice::LinuxHugepage) };
}

#[cfg(all(test, not(crossbeam_loom)))]
mod tests {
    use super::*;
    use std::collections::HashSet;
    use std::sync::Barrier;
    use std::sync::atomic::{AtomicUsize, Ordering as StdOrdering};

    fn slabs(pool: &Pool) -> usize {
        let mut slab = pool.stripes[0].slabs.newest.load(Ordering::Acquire);
        let mut count = 0;
        while !slab.is_null() {
            count += 1;
            // SAFETY: no slab goes before the pool.
            slab = unsafe { &*slab }.next;
        }
        count
    }

    #[test]
    fn p1_cells_are_distinct_and_aligned() {
        for value in
            [Layout::new::<u64>(), Layout::new::<[u8; 3]>(), Layout::new::<u128>(), Layout::new::<[u64; 700]>()]
        {
            let pool = Pool::new(value);
            let mut cells: Vec<usize> = (0..5_000).map(|_| pool.take().as_ptr() as usize).collect();
            assert!(cells.iter().all(|cell| cell % value.align().max(8) == 0));
            cells.sort_unstable();
            assert!(cells.windows(2).all(|pair| pair[1] - pair[0] >= value.size().max(8)), "{value:?}: cells overlap");
        }
    }

    #[test]
    fn what_comes_back_is_used_before_anything_new() {
        let pool = Pool::new(Layout::new::<[u64; 2]>());
        let cells: HashSet<usize> = (0..100_000).map(|_| pool.take().as_ptr() as usize).collect();
        let slabs_before = slabs(&pool);
        for _ in 0..10 {
            for &cell in &cells {
                // SAFETY: taken above, given once a round.
                unsafe { pool.own().give(NonNull::new(cell as *mut u8).expect("a cell")) };
            }
            let again: HashSet<usize> = (0..100_000).map(|_| pool.take().as_ptr() as usize).collect();
            assert_eq!(again, cells);
        }
        assert_eq!(slabs(&pool), slabs_before);
    }

    #[test]
    fn p2_a_thread_that_stops_with_the_shelf_stops_nobody() {
        let pool = Pool::new(Layout::new::<u64>());
        pool.own().busy.store(1, Ordering::Relaxed);
        let first = pool.take();
        for stripe in &pool.stripes {
            stripe.busy.store(1, Ordering::Relaxed);
        }
        let (second, third) = (pool.take(), pool.take());
        assert!(first != second && second != third);
    }

    /// Threads that come and go, each taking much and giving it back: what they leave on their shelves is used by the next.
    #[test]
    fn shelves_of_threads_that_have_gone_are_used_up() {
        let pool = Pool::new(Layout::new::<[u64; 2]>());
        let mut slabs_after_first = 0;
        for thread in 0..2 * STRIPES {
            std::thread::scope(|scope| {
                scope.spawn(|| {
                    let cells: Vec<usize> = (0..50_000).map(|_| pool.take().as_ptr() as usize).collect();
                    for cell in cells {
                        // SAFETY: taken above, given once.
                        unsafe { pool.own().give(NonNull::new(cell as *mut u8).expect("a cell")) };
                    }
                    // One more, so that what came back is on the shelf.
                    let last = pool.take();
                    // SAFETY: as above.
                    unsafe { pool.own().give(last) };
                });
            });
            if thread == 0 {
                slabs_after_first = slabs(&pool);
            }
        }
        assert!(slabs(&pool) <= 2 * slabs_after_first, "{} slabs after {slabs_after_first}", slabs(&pool));
    }

    #[test]
    fn without_a_shelf_cells_come_round_all_the_same() {
        let pool = Pool::new(Layout::new::<u64>());
        for stripe in &pool.stripes {
            stripe.busy.store(1, Ordering::Relaxed);
        }
        for _ in 0..1_000 {
            let cells = [pool.take(), pool.take(), pool.take()];
            for cell in cells {
                // SAFETY: taken above, given once.
                unsafe { pool.own().give(cell) };
            }
        }
        assert!(slabs(&pool) <= 3, "{} slabs for three cells", slabs(&pool));
    }

    /// One thread inserts for ever what another removes: memory stays what the cells in flight need.
    #[test]
    fn cells_find_their_way_back_to_who_needs_them() {
        let pool = Pool::new(Layout::new::<[u64; 2]>());
        let (sender, receiver) = std::sync::mpsc::sync_channel::<usize>(1_000);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                for _ in 0..1_000_000 {
                    sender.send(pool.take().as_ptr() as usize).expect("somebody receives");
                }
                drop(sender);
            });
            for cell in receiver {
                // SAFETY: the sender took it and forgot it.
                unsafe { pool.own().give(NonNull::new(cell as *mut u8).expect("a cell")) };
            }
        });
        assert!(slabs(&pool) <= 4, "{} slabs for 1,000 cells", slabs(&pool));
    }

    #[test]
    fn p1_no_cell_has_two_owners() {
        let pool = Pool::new(Layout::new::<u64>());
        let (threads, rounds) = (4, if cfg!(debug_assertions) { 20_000 } else { 200_000 });
        let (barrier, clashes) = (Barrier::new(threads), AtomicUsize::new(0));
        std::thread::scope(|scope| {
            for thread in 0..threads {
                let (pool, barrier, clashes) = (&pool, &barrier, &clashes);
                scope.spawn(move || {
                    barrier.wait();
                    for round in 0..rounds {
                        let cells: Vec<NonNull<u64>> = (0..1 + round % 7).map(|_| pool.take().cast()).collect();
                        for &cell in &cells {
                            // SAFETY: ours (P1), which is what is tested.
                            unsafe { cell.as_ptr().write_volatile(thread as u64) };
                        }
                        std::hint::spin_loop();
                        for &cell in &cells {
                            // SAFETY: as above.
                            if unsafe { cell.as_ptr().read_volatile() } != thread as u64 {
                                clashes.fetch_add(1, StdOrdering::Relaxed);
                            }
                            // SAFETY: ours, given once.
                            unsafe { pool.stripes[(thread + round) % STRIPES].give(cell.cast()) };
                        }
                    }
                });
            }
        });
        assert_eq!(clashes.into_inner(), 0);
    }
}

/// P1 to P3 in all interleavings of two threads; the shelf is a checked cell.
#[cfg(all(test, crossbeam_loom))]
mod models {
    use super::*;
    use std::collections::HashSet;
    use std::sync::Mutex;

    /// The cells that are in somebody's hands. (A model runs one thread at a time, so this lock is no part of it.)
    #[derive(Default)]
    struct Owned(Mutex<HashSet<usize>>);

    impl Owned {
        fn take(&self, pool: &Pool) -> NonNull<u8> {
            let cell = pool.take();
            assert!(self.0.lock().expect("no panic").insert(cell.as_ptr() as usize), "P1: a cell has one owner");
            cell
        }

        fn give(&self, pool: &Pool, cell: NonNull<u8>) {
            assert!(self.0.lock().expect("no panic").remove(&(cell.as_ptr() as usize)));
            // SAFETY: taken above, by this thread.
            unsafe { pool.own().give(cell) };
        }
    }

    /// Two threads, one stripe: while one holds the shelf, the other does without.
    #[test]
    fn p1_two_threads_take_and_give() {
        crate::sync::check(3, || {
            let shared = Arc::new((Pool::new(Layout::new::<u64>()), Owned::default()));
            let other = {
                let shared = Arc::clone(&shared);
                loom::thread::spawn(move || {
                    let (pool, owned) = &*shared;
                    let cell = owned.take(pool);
                    owned.give(pool, cell);
                })
            };
            let (pool, owned) = &*shared;
            let first = owned.take(pool);
            owned.give(pool, first);
            let (second, third) = (owned.take(pool), owned.take(pool));
            other.join().expect("no panic");
            assert_ne!(second, third);
        });
    }

    /// A stack is taken while somebody pushes to it: each cell comes out once.
    #[test]
    fn p3_pushes_race_with_a_taker() {
        crate::sync::check(3, || {
            let shared = Arc::new((Pool::new(Layout::new::<u64>()), Owned::default()));
            let (pool, owned) = &*shared;
            // The slab is used up, so that whoever takes must look at what came back.
            let cells = [owned.take(pool), owned.take(pool)];
            let addresses = cells.map(|cell| cell.as_ptr() as usize);
            owned.give(pool, cells[0]);
            let other = {
                let shared = Arc::clone(&shared);
                loom::thread::spawn(move || {
                    let (pool, owned) = &*shared;
                    owned.give(pool, NonNull::new(addresses[1] as *mut u8).expect("a cell"));
                })
            };
            let first = owned.take(pool);
            other.join().expect("no panic");
            let second = owned.take(pool);
            assert_eq!(HashSet::from(addresses), HashSet::from([first.as_ptr() as usize, second.as_ptr() as usize]));
        });
    }
}
