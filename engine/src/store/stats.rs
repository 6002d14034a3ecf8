//! What the store counts, and what it tells about its memory.

use crate::counter::Striped;

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// A counter of the store. Named after memcached's statistics (protocol section 9.1).
        #[derive(Clone, Copy, PartialEq, Eq, Debug)]
        #[non_exhaustive]
        pub enum Counter { $($(#[$doc])* $name,)* }

        impl Counter {
            /// All counters.
            pub const ALL: &[Counter] = &[$(Counter::$name,)*];
        }
    };
}

counters! {
    /// Keys asked for.
    CmdGet,
    /// Storage commands that got as far as the store, stored or not.
    CmdSet,
    /// Flushes.
    CmdFlush,
    /// Touches, and gets with a new expiry.
    CmdTouch,
    /// Looks at an item's figures (`me`).
    CmdMeta,
    /// Keys found.
    GetHits,
    /// Keys not found.
    GetMisses,
    /// Misses on an item that had expired.
    GetExpired,
    /// Misses on an item that had been flushed.
    GetFlushed,
    /// Deletions of absent keys.
    DeleteMisses,
    /// Deletions.
    DeleteHits,
    /// Increments of absent keys.
    IncrMisses,
    /// Increments.
    IncrHits,
    /// Decrements of absent keys.
    DecrMisses,
    /// Decrements.
    DecrHits,
    /// Compare-and-swaps of absent keys.
    CasMisses,
    /// Compare-and-swaps that stored.
    CasHits,
    /// Compare-and-swaps that found another id.
    CasBadval,
    /// Touches of items.
    TouchHits,
    /// Touches of absent keys.
    TouchMisses,
    /// Items refused because of their size.
    StoreTooLarge,
    /// Items refused because there was no memory.
    StoreNoMemory,
    /// Items ever stored.
    TotalItems,
    /// Items that expired without having been fetched.
    ExpiredUnfetched,
    /// Items evicted without having been fetched.
    EvictedUnfetched,
    /// Live items dropped to make room.
    Evictions,
    /// Expired or flushed items that a cleaner found.
    Reclaimed,
    /// Evicted items that would have ended by themselves some day.
    EvictedNonzero,
    /// Segments that were emptied because much of them was dead.
    Compactions,
    /// Bytes of records that cleaners moved.
    BytesMoved,
    /// Items that moved from the small queue to the main queue.
    Promotions,
    /// Items that were stored in the main queue because they had been evicted not long before.
    GhostHits,
    /// Nanoseconds that cleaning took, in whichever thread.
    CleanerBusyNs,
}

/// One cell beyond the counters: the sum of the items' sizes, which goes up and down.
pub(super) const BYTES_CELL: usize = Counter::ALL.len();
/// Cells in a stripe.
pub(super) const CELLS: usize = BYTES_CELL + 1;

/// A reading of a store's counters and memory. Taken while others work, each figure is right for some moment of the call.
#[derive(Clone, Debug)]
pub struct Stats {
    pub(super) counters: [u64; Counter::ALL.len()],
    /// Items in the index, expired and flushed ones that nobody has met yet included.
    pub curr_items: u64,
    /// The sum of their sizes as the protocol counts them (section 8).
    pub bytes: u64,
    /// The memory limit.
    pub limit_maxbytes: u64,
    /// Bytes of the index.
    pub index_bytes: u64,
    /// log2 of the number of buckets.
    pub index_power: u32,
    /// Is a split due?
    pub index_is_growing: bool,
    /// Segments that the limit has room for, if there were nothing else.
    pub segments_total: u64,
    /// Bytes of a segment.
    pub segment_bytes: u64,
    /// Segments that can be opened at once: idle ones, and those that the limit has room for.
    pub segments_free: u64,
    /// Segments that have memory and hold nothing.
    pub segments_idle: u64,
    /// Segments that hold nothing any more, and wait for the last reader.
    pub segments_leaving: u64,
    /// Segments of the small queue, open ones included.
    pub segments_small: u64,
    /// Segments of the main queue, open ones included.
    pub segments_main: u64,
    /// Bytes of segments that are held in memory.
    pub log_bytes: u64,
    /// Bytes of records that are items.
    pub live_bytes: u64,
    /// Bytes of records that were replaced, deleted, evicted, or moved.
    pub dead_bytes: u64,
    /// Bytes of large values, in whole pages.
    pub large_bytes: u64,
    /// Those of them that have begun to arrive and are not whole.
    pub large_receiving_bytes: u64,
    /// Those of them that no item has any more and somebody still reads.
    pub large_loose_bytes: u64,
    /// Bytes that the memory of evicted keys takes when it is full.
    pub ghost_bytes: u64,
    /// `log_bytes`, `large_bytes` and `ghost_bytes` together: with `index_bytes` what is held against the limit.
    pub charged_bytes: u64,
}

impl Stats {
    /// The value of a counter.
    #[must_use]
    pub fn get(&self, counter: Counter) -> u64 {
        self.counters[counter as usize]
    }
}

/// Sums less what they were at the last reset.
#[derive(Debug)]
pub(super) struct Counters {
    pub(super) cells: Striped<CELLS>,
    zero: Striped<CELLS>,
}

impl Counters {
    pub(super) fn new(stripes: usize) -> Counters {
        Counters { cells: Striped::new(stripes), zero: Striped::new(1) }
    }

    pub(super) fn read(&self) -> [u64; Counter::ALL.len()] {
        std::array::from_fn(|cell| self.cells.sum(cell).wrapping_sub(self.zero.sum(cell)))
    }

    /// Makes every counter read 0 now (owners go on counting in their stripes undisturbed).
    pub(super) fn reset(&self) {
        for cell in 0..Counter::ALL.len() {
            self.zero.add(0, cell, self.cells.sum(cell).wrapping_sub(self.zero.sum(cell)));
        }
    }
}
