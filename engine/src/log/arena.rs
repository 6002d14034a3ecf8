//! Addresses for large values: slots in power-of-two size classes, each with a header outside of it.
//!
//! Only addresses are rounded up to a power of two. A slot gets pages as they are touched, and gives them back when it is freed;
//! which of them may be touched is for the owner to account for ([`large`](crate::store)). So there is no size class whose
//! memory another could lack: what a class has for itself is a range of addresses. Should one run out all the same, a slot
//! of the next larger class does as well.
//!
//! A class has slots for twice the memory that there may be, because a value fills more than half of its slot, and more for values
//! that have only begun to arrive. Virtual address space is plentiful; where the system refuses such a reservation (a limit of
//! the process, or strict overcommit), a smaller one is made.
//!
//! Headers lie apart, 32 bytes each: a value of a whole number of pages takes exactly these pages, and the list of free slots
//! ([`slots`](super::slots)) touches none of them. Pages of headers stay: 32 bytes for every slot of a class that was ever in use at the
//! same time, at most 0.8 % of the memory of values of two pages, less of larger ones. They are not charged.

use super::region::{PAGE_BYTES, Region};
use super::slots::{Links, SLOTS_MAX, SlotIndex, Slots};
use crate::limits::LARGE_STEP_BYTES_MIN;
use crate::sync::RawAtomicU32;
use std::cell::UnsafeCell;
use std::io;
use std::sync::atomic::Ordering;

/// log2 of the smallest slot: one page.
const SLOT_SHIFT_MIN: u32 = PAGE_BYTES.trailing_zeros();

/// How many times the memory the addresses of values that have only begun to arrive may take, in each class.
const BEGUN_FACTOR: usize = 4;

/// What is known about a slot. All bytes are 0 at first.
#[repr(C)]
pub(crate) struct Header {
    /// While the slot is free: the next free one (see [`Slots`]).
    link: RawAtomicU32,
    /// Owners of the value.
    pub(crate) references: RawAtomicU32,
    /// Those among them that are records.
    pub(crate) records: RawAtomicU32,
    /// The value, and who keeps the accounts: written by the owner of the slot, fixed while the value is shared.
    pub(crate) len: UnsafeCell<u32>,
    pub(crate) bytes: UnsafeCell<*const u8>,
    pub(crate) keeper: UnsafeCell<*const ()>,
}

const _: () = assert!(size_of::<Header>() == 32, "headers tile a page");

/// A slot that has been taken.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Slot {
    class: u8,
    index: SlotIndex,
}

struct Class {
    slots: Slots,
    shift: u32,
    /// Offset of the first slot.
    start: usize,
    /// Number of the first header.
    first_header: usize,
    count: usize,
}

/// The slots of all classes.
pub(crate) struct Arena {
    region: Region,
    headers: Region,
    classes: Box<[Class]>,
}

// SAFETY: the parts that are not atomic belong to the owner of each slot (A1).
unsafe impl Send for Arena {}
// SAFETY: as above.
unsafe impl Sync for Arena {}

/// The links of one class, in the headers.
struct HeaderLinks<'a> {
    arena: &'a Arena,
    class: &'a Class,
}

impl Links for HeaderLinks<'_> {
    fn load(&self, slot: SlotIndex) -> u32 {
        // Relaxed: ordered by the head of the stack.
        self.arena.header_of(self.class, slot).link.load(Ordering::Relaxed)
    }

    fn store(&self, slot: SlotIndex, next: u32) {
        self.arena.header_of(self.class, slot).link.store(next, Ordering::Relaxed);
    }
}

impl Arena {
    /// Reserves addresses for values of up to `value_bytes_max`, which will never take more than `memory_bytes_max` together.
    ///
    /// # Errors
    /// If the system refuses even what a few of the largest values need.
    pub(crate) fn reserve(memory_bytes_max: usize, value_bytes_max: usize) -> io::Result<Arena> {
        let mut memory = memory_bytes_max;
        let mut refusal = match Arena::try_reserve(memory, value_bytes_max) {
            Ok(arena) => return Ok(arena),
            Err(error) => error,
        };
        while memory > value_bytes_max {
            memory /= 2;
            match Arena::try_reserve(memory, value_bytes_max) {
                // What was just possible is all there is, and others need addresses, too: take a quarter of it.
                Ok(_) => return Arena::try_reserve((memory / 4).max(value_bytes_max), value_bytes_max),
                Err(error) => refusal = error,
            }
        }
        Err(refusal)
    }

    fn try_reserve(memory: usize, value_bytes_max: usize) -> io::Result<Arena> {
        let largest = shift_for(value_bytes_max);
        let (mut start, mut first_header) = (0_usize, 0);
        let mut classes = Vec::new();
        for shift in SLOT_SHIFT_MIN..=largest {
            let count = slots_for(memory, shift);
            classes.push(Class { slots: Slots::new(count), shift, start, first_header, count });
            let end = count.checked_mul(1 << shift).and_then(|bytes| start.checked_add(bytes));
            start = end.filter(|&end| end <= isize::MAX as usize).ok_or(io::ErrorKind::OutOfMemory)?;
            first_header += count;
        }
        Ok(Arena {
            region: Region::reserve(start, false)?,
            headers: Region::reserve(first_header * size_of::<Header>(), false)?,
            classes: classes.into(),
        })
    }

    /// Takes a slot for a value of `len` bytes.
    pub(crate) fn take(&self, len: usize) -> Option<Slot> {
        let smallest = (shift_for(len) - SLOT_SHIFT_MIN) as usize;
        (smallest..self.classes.len()).find_map(|number| {
            let class = &self.classes[number];
            let index = class.slots.take(&HeaderLinks { arena: self, class })?;
            Some(Slot { class: number as u8, index })
        })
    }

    /// Gives a slot back, and the pages of its first `touched` bytes to the system.
    ///
    /// # Safety
    /// The slot was taken, and nobody uses it or its header any more. No other byte of it was touched.
    pub(crate) unsafe fn put(&self, slot: Slot, touched: usize) {
        let class = &self.classes[slot.class as usize];
        if touched > 0 {
            let offset = class.start + ((slot.index as usize) << class.shift);
            // SAFETY: whole pages of the slot, which is ours.
            unsafe { self.region.release(offset, touched.next_multiple_of(PAGE_BYTES)) };
        }
        class.slots.put(slot.index, &HeaderLinks { arena: self, class });
    }

    /// The bytes of a slot. They belong to its owner.
    #[inline]
    pub(crate) fn bytes(&self, slot: Slot) -> *mut u8 {
        let class = &self.classes[slot.class as usize];
        // SAFETY: inside of the region.
        unsafe { self.region.base().add(class.start + ((slot.index as usize) << class.shift)) }
    }

    pub(crate) fn header(&self, slot: Slot) -> &Header {
        self.header_of(&self.classes[slot.class as usize], slot.index)
    }

    fn header_of(&self, class: &Class, index: SlotIndex) -> &Header {
        debug_assert!((index as usize) < class.count);
        // SAFETY: inside of the region, which has a header for each slot; zeros are a valid one, and what changes is atomic or in a cell.
        unsafe { &*self.headers.base().cast::<Header>().add(class.first_header + index as usize) }
    }

    /// The slot of a header of this arena.
    #[inline]
    pub(crate) fn slot_of(&self, header: &Header) -> Slot {
        let offset = std::ptr::from_ref(header).addr() - self.headers.base().addr();
        let number = offset / size_of::<Header>();
        let class = self.classes.partition_point(|class| class.first_header <= number) - 1;
        Slot { class: class as u8, index: (number - self.classes[class].first_header) as SlotIndex }
    }

    /// Where the slots are: the first address, and how many bytes.
    #[cfg(all(test, not(crossbeam_loom)))]
    pub(crate) fn addresses(&self) -> (usize, usize) {
        (self.region.base().addr(), self.region.bytes())
    }

    /// The longest value that there is a slot for.
    pub(crate) fn value_bytes_max(&self) -> usize {
        self.classes.last().map_or(0, |class| 1 << class.shift)
    }
}

/// log2 of the slot for a value of `len` bytes.
fn shift_for(len: usize) -> u32 {
    len.max(PAGE_BYTES).next_power_of_two().trailing_zeros()
}

/// How many slots a class gets.
fn slots_for(memory: usize, shift: u32) -> usize {
    // More than half of each slot is charged once its value is there.
    let full = (2 * memory) >> shift;
    // Of a value that has only begun to arrive, a step at least.
    let begun = if 1 << shift <= LARGE_STEP_BYTES_MIN {
        0
    } else {
        (memory / (2 * LARGE_STEP_BYTES_MIN)).min((BEGUN_FACTOR * memory) >> shift)
    };
    (full + begun).clamp(2, SLOTS_MAX)
}

#[cfg(all(test, not(crossbeam_loom)))]
mod tests {
    use super::*;

    #[test]
    fn a_value_gets_the_smallest_slot_that_fits_and_finds_its_way_back() {
        let arena = Arena::reserve(16 << 20, 1 << 20).expect("possible");
        for (len, shift) in [(1, 12), (4096, 12), (4097, 13), (100_000, 17), (1 << 20, 20)] {
            let slot = arena.take(len).expect("one is free");
            assert_eq!(arena.classes[slot.class as usize].shift, shift, "{len} bytes");
            assert_eq!(arena.slot_of(arena.header(slot)), slot);
        }
        assert_eq!(arena.take((1 << 20) + 1), None);
    }

    #[test]
    fn slots_do_not_overlap_and_are_empty_when_they_come_back() {
        let arena = Arena::reserve(1 << 20, 1 << 18).expect("possible");
        let mut slots: Vec<(Slot, usize)> = Vec::new();
        for len in [4_000, 5_000, 70_000, 200_000].into_iter().cycle().take(40) {
            let slot = arena.take(len).expect("one is free");
            // SAFETY: ours.
            unsafe { arena.bytes(slot).write_bytes(slots.len() as u8 + 1, len) };
            slots.push((slot, len));
        }
        for (n, &(slot, len)) in slots.iter().enumerate() {
            // SAFETY: ours, and written above.
            let bytes = unsafe { std::slice::from_raw_parts(arena.bytes(slot), len) };
            assert!(bytes.iter().all(|&byte| byte == n as u8 + 1));
            // SAFETY: not used any more.
            unsafe { arena.put(slot, len) };
        }
        for &(_, len) in &slots {
            let slot = arena.take(len).expect("one is free");
            // SAFETY: ours; fresh pages read as zeros.
            let bytes = unsafe { std::slice::from_raw_parts(arena.bytes(slot), len) };
            assert!(bytes.iter().all(|&byte| byte == 0));
        }
    }

    #[test]
    fn a_class_without_slots_borrows_larger_ones() {
        let arena = Arena::reserve(1 << 20, 1 << 18).expect("possible");
        let of_class = |shift: u32| arena.classes[(shift - SLOT_SHIFT_MIN) as usize].count;
        let all = of_class(17) + of_class(18);
        let taken = std::iter::from_fn(|| arena.take(100_000)).count();
        assert_eq!(taken, all);
    }

    #[test]
    fn what_the_system_refuses_is_reserved_smaller() {
        // More than any address space has.
        let arena = Arena::reserve(1 << 50, 1 << 20).expect("less is possible");
        assert!(arena.take(1 << 20).is_some());
    }
}
