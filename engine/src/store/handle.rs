//! A thread's handle on a store: its open segment, its stripe of counters, its block of CAS ids.

use super::batch::Batch;
use super::cleaner::Sweep;
use super::large::{self, LargeBuf};
use super::{Store, StoreError};
use crate::clock::Now;
use crate::limits::{HANDLES_MAX, SEGMENT_WEIGHT_MAX};
use crate::log::segments::{Queue, SegmentIndex};
use crate::log::{CAS_POSITION_BITS, Location};
use crate::sync::{Guard, Ordering, Participant};
use std::fmt;
use std::sync::Arc;

/// The segment a handle appends to.
pub(super) struct OpenSegment {
    pub(super) segment: SegmentIndex,
    /// Where the next record goes.
    pub(super) tail: usize,
    /// Bytes of the large values that its records name.
    pub(super) large_bytes: usize,
}

/// What a segment is opened for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Use {
    /// New records: leaves a few segments to the cleaners.
    New,
    /// Records that a cleaner moves, so that others become free.
    Move,
}

/// Explicit CAS ids of one generation.
#[derive(Default)]
struct CasBlock {
    generation: u64,
    next: u64,
}

/// One thread's way to work on a [`Store`]. Make it once; it owns a segment from its first store on.
///
/// It can move to another thread, but not be used by two.
pub struct Handle {
    // Dropped before the store, whose collector it is registered with.
    participant: Participant,
    writer: Writer,
    store: Arc<Store>,
}

/// What a handle owns of the store: where its next record goes.
pub(super) struct Writer {
    pub(super) stripe: usize,
    /// The open segment of each queue.
    open: [Option<OpenSegment>; 2],
    /// The segment that this handle is cleaning, if it is.
    pub(super) sweep: Option<Sweep>,
    /// Does every store help with the cleaning, a little each?
    pub(super) is_helping: bool,
    /// Unless something is to be won, no segment is looked through for expired items before this.
    pub(super) crawl_not_before_ns: u64,
    cas_block: CasBlock,
    /// The clock's reading at the beginning of the last batch.
    pub(super) last_read: Now,
}

impl Handle {
    pub(super) fn new(store: Arc<Store>) -> Handle {
        for (i, word) in store.stripes.iter().enumerate() {
            loop {
                // Acquire: after the previous owner's last count (Release in `drop`).
                let used = word.load(Ordering::Acquire);
                let bit = (!used).trailing_zeros();
                if bit == 64 {
                    break;
                }
                // A failure means that another handle came or went.
                if word.compare_exchange(used, used | 1 << bit, Ordering::AcqRel, Ordering::Relaxed).is_ok() {
                    // Relaxed: it only sizes the reserve of free segments.
                    store.handles.fetch_add(1, Ordering::Relaxed);
                    let stripe = i * 64 + bit as usize;
                    return Handle {
                        participant: Participant::register(&store.collector),
                        writer: Writer {
                            stripe,
                            open: [None, None],
                            sweep: None,
                            is_helping: false,
                            crawl_not_before_ns: 0,
                            cas_block: CasBlock::default(),
                            last_read: store.clock.now(),
                        },
                        store,
                    };
                }
            }
        }
        panic!("a store has at most {HANDLES_MAX} handles");
    }

    /// Pins an epoch and reads the clock, once for all that is done with the batch.
    ///
    /// Keep it short: memory that others free meanwhile stays until the batch ends.
    #[inline]
    pub fn batch(&mut self) -> Batch<'_> {
        Batch::new(&self.store, &mut self.writer, self.participant.pin())
    }

    /// A buffer for a large value that is to be received: nothing of it is ready or charged yet. Receive into what
    /// [`Handle::extend`] makes ready, and store it with [`NewValue::Large`](super::NewValue::Large).
    ///
    /// # Errors
    /// [`StoreError::OutOfMemory`] if nothing may be evicted and the whole value does not fit now, or if values that have begun to
    /// arrive and are not whole take half of the limit already.
    pub fn reserve(&mut self, len: usize) -> Result<LargeBuf, StoreError> {
        self.writer.reserve(&self.store, len, &mut self.participant.pin())
    }

    /// Makes at least `ready_min` bytes of the buffer ready (all, if it is shorter), and charges them to the limit. It goes
    /// in steps of 64 to 256 KiB, so that most calls do nothing. May evict.
    ///
    /// ```
    /// use memkv_engine::{clock::Clock, store::{Config, Store}};
    ///
    /// let store = Store::new(Config::default(), Clock::system())?;
    /// let mut handle = store.handle();
    /// let mut buffer = handle.reserve(500_000)?;
    /// assert_eq!(buffer.len(), 0, "nothing has arrived, and nothing is charged");
    /// handle.extend(&mut buffer, 1)?;
    /// assert_eq!(buffer.len(), 65_536);
    /// handle.extend(&mut buffer, 500_000)?;
    /// assert!(buffer.is_whole());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// [`StoreError::OutOfMemory`] if the limit has no room and nothing can be evicted, or if values that are not whole would take more
    /// than half of the limit. What was ready stays so.
    pub fn extend(&mut self, buffer: &mut LargeBuf, ready_min: usize) -> Result<(), StoreError> {
        if buffer.is_whole() || buffer.len() >= ready_min.max(1) {
            return Ok(());
        }
        self.writer.extend(&self.store, buffer, ready_min, &mut self.participant.pin())
    }

    /// The store.
    #[must_use]
    pub fn store(&self) -> &Arc<Store> {
        &self.store
    }
}

impl Writer {
    /// See [`Handle::reserve`].
    fn reserve(&mut self, store: &Store, len: usize, guard: &mut Guard) -> Result<LargeBuf, StoreError> {
        if !store.config.evict {
            let fits =
                |_: &mut Writer| store.log.has_room_for_large(large::pages(len), store.table.bytes()).then_some(());
            store.make_room(self, guard, fits)?;
        }
        LargeBuf::reserve(store, len)
    }

    /// See [`Handle::extend`].
    fn extend(
        &mut self,
        store: &Store,
        buffer: &mut LargeBuf,
        ready_min: usize,
        guard: &mut Guard,
    ) -> Result<(), StoreError> {
        let charged = buffer.step_to(ready_min);
        if !buffer.enter_receiving(charged) {
            return Err(StoreError::OutOfMemory);
        }
        let grown = self.grow(store, buffer, charged, guard);
        if grown.is_err() {
            buffer.leave_receiving();
        }
        grown
    }

    /// A buffer of which all is ready, for a value that is there already. May evict.
    ///
    /// # Errors
    /// [`StoreError::OutOfMemory`] if the limit has no room for it and nothing can be evicted.
    pub(super) fn allocate(&mut self, store: &Store, len: usize, guard: &mut Guard) -> Result<LargeBuf, StoreError> {
        let mut buffer = LargeBuf::begin(store, len);
        self.complete(store, &mut buffer, guard)?;
        Ok(buffer)
    }

    /// Makes all of a buffer ready.
    pub(super) fn complete(
        &mut self,
        store: &Store,
        buffer: &mut LargeBuf,
        guard: &mut Guard,
    ) -> Result<(), StoreError> {
        if buffer.is_whole() {
            return Ok(());
        }
        self.grow(store, buffer, large::pages(buffer.value_len()), guard)
    }

    fn grow(
        &mut self,
        store: &Store,
        buffer: &mut LargeBuf,
        charged: usize,
        guard: &mut Guard,
    ) -> Result<(), StoreError> {
        store.make_room(self, guard, |_| buffer.grow(charged, store.table.bytes()).then_some(()))
    }

    /// Makes sure that the open segment of the small queue has room for a record of `bytes`, by opening another if need be. Does a share of
    /// the cleaning when that lags behind.
    #[inline]
    pub(super) fn ensure_room(&mut self, store: &Store, bytes: usize, guard: &mut Guard) -> Result<(), StoreError> {
        if self.has_room(store, Queue::Small, bytes) && !self.is_helping {
            return Ok(());
        }
        self.make_room(store, bytes, guard)
    }

    #[cold]
    fn make_room(&mut self, store: &Store, bytes: usize, guard: &mut Guard) -> Result<(), StoreError> {
        if self.is_helping {
            store.help_cleaning(self, guard);
        }
        if self.has_room(store, Queue::Small, bytes) {
            return Ok(());
        }
        self.seal(store, Queue::Small);
        store.mind_stock(self, guard);
        // Cleaning may have opened one meanwhile, for what it moves.
        store.make_room(self, guard, |writer| {
            writer.has_or_finds_room(store, Queue::Small, bytes, Use::New).then_some(())
        })
    }

    /// Is there room in the open segment of a queue?
    #[inline]
    pub(super) fn has_room(&self, store: &Store, queue: Queue, bytes: usize) -> bool {
        let segment_bytes = store.log.segment_bytes();
        self.open[queue as usize].as_ref().is_some_and(|open| {
            open.tail + bytes <= segment_bytes && open.tail + open.large_bytes < SEGMENT_WEIGHT_MAX * segment_bytes
        })
    }

    /// Is there room in the open segment of a queue, or in another that can be had without cleaning?
    pub(super) fn has_or_finds_room(&mut self, store: &Store, queue: Queue, bytes: usize, purpose: Use) -> bool {
        self.has_room(store, queue, bytes) || self.open_from_stock(store, queue, purpose)
    }

    /// Opens a segment in place of the open one.
    fn open_from_stock(&mut self, store: &Store, queue: Queue, purpose: Use) -> bool {
        let Some(segment) = store.open_segment(queue, purpose) else { return false };
        self.seal(store, queue);
        self.open[queue as usize] = Some(OpenSegment { segment, tail: 0, large_bytes: 0 });
        true
    }

    /// Books the record that was written at the tail.
    #[inline]
    pub(super) fn advance(&mut self, store: &Store, queue: Queue, bytes: usize, large_bytes: usize) {
        let open = self.open[queue as usize].as_mut().expect("ensure_room was called");
        open.tail += bytes;
        open.large_bytes += large_bytes;
        debug_assert!(open.tail <= store.log.segment_bytes());
        store.log.segments.note_used(open.segment, open.tail);
    }

    /// Has the pause after the last unproductive crawl passed?
    pub(super) fn may_crawl(&self, store: &Store) -> bool {
        self.crawl_not_before_ns == 0 || store.clock.mono_ns() >= self.crawl_not_before_ns
    }

    /// Closes the open segment of a queue, if there is one.
    pub(super) fn seal(&mut self, store: &Store, queue: Queue) {
        if let Some(open) = self.open[queue as usize].take() {
            store.log.seal(open.segment);
        }
    }

    /// Books that the record written last is in the index. Closes the segment if its large values weigh enough: in an open one they
    /// cannot be evicted, and the next value may need their place.
    #[inline]
    pub(super) fn note_published(&mut self, store: &Store, queue: Queue, bytes: usize, large_bytes: usize) {
        let open = self.open[queue as usize].as_ref().expect("a record was written");
        store.log.segments.note_published(open.segment, bytes, large_bytes);
        if open.large_bytes >= SEGMENT_WEIGHT_MAX * store.log.segment_bytes() {
            self.seal(store, queue);
        }
    }

    /// The location that the next record of a queue will get. There must be room.
    #[inline]
    pub(super) fn next_location(&self, store: &Store, queue: Queue) -> Location {
        let open = self.open[queue as usize].as_ref().expect("ensure_room was called");
        store.log.location(open.segment, open.tail)
    }

    /// The CAS id to write into the record at `location`: `None` if its position gives one that is in order (S3).
    ///
    /// `old` is the id of the record that will be replaced, and whether it was written into that record.
    #[inline]
    pub(super) fn explicit_cas(&mut self, store: &Store, location: Location, old: Option<(u64, bool)>) -> Option<u64> {
        if !store.config.cas {
            return None;
        }
        let positional = store.log.positional_cas(location);
        let generation_before = match old {
            Some((old, false)) if positional > old => return None,
            Some((old, false)) => old >> CAS_POSITION_BITS,
            // A written id may be one that a client chose. Then it says nothing of the ids before it, but whoever wrote it raised the floor
            // to those; and one beyond all that we have made is none of ours to exceed.
            Some((old, true)) => {
                let made =
                    Some(old >> CAS_POSITION_BITS).filter(|&made| made <= store.log.segments.newest_generation());
                let before = made.unwrap_or(0).max(store.cas_floor.load(Ordering::Relaxed));
                if positional > old && positional >> CAS_POSITION_BITS > before {
                    return None;
                }
                before
            }
            None => {
                // Relaxed: raised before the key that may concern us left the index, which we have seen.
                let floor = store.cas_floor.load(Ordering::Relaxed);
                if positional >> CAS_POSITION_BITS > floor {
                    return None;
                }
                floor
            }
        };
        let block = &mut self.cas_block;
        if block.generation <= generation_before || block.next >> CAS_POSITION_BITS != 0 {
            *block = CasBlock { generation: store.log.segments.next_generation(), next: 0 };
        }
        let id = block.generation << CAS_POSITION_BITS | block.next;
        block.next += 1;
        Some(id)
    }
}

impl fmt::Debug for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Handle").field("stripe", &self.writer.stripe).finish_non_exhaustive()
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.store.end_sweep(&mut self.writer);
        for queue in [Queue::Small, Queue::Main] {
            self.writer.seal(&self.store, queue);
        }
        self.store.handles.fetch_sub(1, Ordering::Relaxed);
        // Release: our counts, for the stripe's next owner.
        let stripe = self.writer.stripe;
        self.store.stripes[stripe / 64].fetch_and(!(1 << (stripe % 64)), Ordering::Release);
    }
}
