//! The cache: memcached's meanings over the lock-free index and the record log.
//!
//! A [`Store`] is shared by all threads; each takes a [`Handle`] and works in [`Batch`]es: one epoch guard and one reading of the clock
//! for all commands that have arrived.
//!
//! ```
//! use memkv_engine::{clock::Clock, store::{Config, Expiry, Mode, NewValue, Outcome, Store}};
//!
//! let store = Store::new(Config::default(), Clock::system())?;
//! let mut handle = store.handle();
//! let mut batch = handle.batch();
//! let hash = batch.hash(b"greeting");
//! let stored = batch.store(Mode::Set, b"greeting", hash, 0, Expiry::Never, NewValue::Bytes(b"hello"))?;
//! assert_eq!(stored, Outcome::Stored);
//! let item = batch.get(b"greeting", hash).expect("it was stored just now");
//! assert_eq!(item.value(), b"hello");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Consistency
//! Every operation is atomic and linearizable per key. A flush is one step for each key, and a store that runs while the
//! flush does may count as before it. Each operation's linearization point is its last CAS on the index word or on the
//! record's state, its CAS on a counter's pair, or the load that found the record. Number and id of a counter are read in one step;
//! its expiry and marks lie beside them, so that a meta get which asks for both shows each as it was at a moment of the request.
//!
//! # Invariants
//! - **S1** What a word of the index names is a complete record whose segment is open, sealed or being cleaned.
//! - **S2** A record's expiry, marks and last access change in place, under R1, and a counter's number together with its CAS id, under R2;
//!   everything else by a new record and one CAS on the word.
//! - **S3** The CAS id of an item is larger than every id its key had before. A record whose position gives a smaller id (or may: the
//!   key is absent and something as young has been removed, see `cas_floor`) carries an explicit one from a block of a newer
//!   generation. The
//!   order has one gap, of readers that look at the wrong moment; see `write::mend_cas_order`. Ids are unique without exception.
//!   An id that a client chose (`E` of the meta commands) is as it is; the ids that the store makes after it still exceed all that it made before.
//! - **S4** The record of a large value owns one reference to it, which is given up through the epoch after the record left the index, or goes over to the
//!   copy when a cleaner moves the record.
//! - **S5** A record is visible if its flush stamp is the current one. The stamp is that of the record which the new one depends on, or is
//!   read after the record that it replaces was found; so it is never older than that record's.

mod batch;
mod cleaner;
mod events;
mod ghosts;
mod handle;
mod item;
mod large;
mod meta;
mod number;
mod scan;
mod stats;
#[cfg(all(test, not(crossbeam_loom)))]
mod tests;
mod view;
mod write;

pub use crate::log::record::Expiry;
pub use batch::{ArithOutcome, Batch, Delta, Mode, NewValue, Outcome};
pub use cleaner::{Cleaner, Pace};
pub use events::{Eviction, Seen};
pub use handle::Handle;
pub use item::{Item, protocol_bytes};
pub use large::{LargeBuf, LargeValue};
pub use meta::{Calculation, Change, Deleted, Fetch, Fetched, Recache, Receipt, Removal, Sum, Terms, Vivify};
pub use scan::{Cursor, Swept};
pub use stats::{Counter, Stats};

use crate::clock::{Clock, Now};
use crate::limits::{
    FLUSH_STAMPS, GHOST_PART, HANDLES_MAX, ITEM_BYTES_MAX, LARGE_PART_OF_SEGMENT, MEMORY_BYTES_MIN, SEGMENTS_FOR_MOVES,
};
use crate::log::record::{Record, State};
use crate::log::segments::Queue;
use crate::log::{CAS_POSITION_BITS, Location, Log};
use crate::sync::{AtomicU64, Collector, Ordering};
use crate::table::{Keys, Table};
use ghosts::Ghosts;
use large::LargeMemory;
use stats::{BYTES_CELL, Counters};
use std::fmt;
use std::hash::BuildHasher;
use std::sync::{Arc, OnceLock};
use std::thread::Thread;

/// Entries per bucket that the index aims at: 12 bytes an item, one cache line for four hits in five.
const INDEX_LOAD: u64 = 7;

/// How a store is made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Bytes for records, index and large values together.
    pub memory_limit: usize,
    /// The largest item, in bytes as the protocol counts them (see [`protocol_bytes`]).
    pub item_size_max: usize,
    /// Drop old items to make room. If false, a store without room answers [`StoreError::OutOfMemory`].
    pub evict: bool,
    /// Give items CAS ids.
    pub cas: bool,
}

impl Default for Config {
    /// 64 MiB, items up to 1 MiB, eviction and CAS on: memcached's defaults.
    fn default() -> Config {
        Config { memory_limit: 64 << 20, item_size_max: 1 << 20, evict: true, cas: true }
    }
}

/// Why a store cannot be made.
#[derive(Debug)]
#[non_exhaustive]
pub enum ConfigError {
    /// The memory limit is below what a store, or two of the largest items, needs.
    MemoryTooSmall {
        /// The least limit for these settings, in bytes.
        bytes_min: usize,
    },
    /// The memory limit is above what this store can be changed to.
    MemoryTooLarge {
        /// The largest limit that it can have, in bytes.
        bytes_max: usize,
    },
    /// The item size limit is above what any store takes.
    ItemSizeTooLarge {
        /// The largest possible item size limit, in bytes.
        bytes_max: usize,
    },
    /// The system has no address range of that size.
    Reserve(std::io::Error),
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ConfigError::MemoryTooSmall { bytes_min } => {
                write!(f, "the memory limit must be at least {bytes_min} bytes")
            }
            ConfigError::MemoryTooLarge { bytes_max } => {
                write!(f, "the memory limit must be at most {bytes_max} bytes")
            }
            ConfigError::ItemSizeTooLarge { bytes_max } => {
                write!(f, "the item size limit must be at most {bytes_max} bytes")
            }
            ConfigError::Reserve(error) => write!(f, "cannot reserve memory: {error}"),
        }
    }
}

impl std::error::Error for ConfigError {}

/// Why an item was not stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum StoreError {
    /// The item is larger than `item_size_max`.
    TooLarge,
    /// There is no room, and nothing may be, or can be, evicted.
    OutOfMemory,
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            StoreError::TooLarge => "object too large for cache",
            StoreError::OutOfMemory => "out of memory storing object",
        })
    }
}

impl std::error::Error for StoreError {}

/// A cache of items under a memory limit; see the [module documentation](self).
pub struct Store {
    config: Config,
    clock: Clock,
    hasher: foldhash::quality::RandomState,
    table: Table,
    log: Arc<Log>,
    large: Arc<LargeMemory>,
    ghosts: Ghosts,
    /// Sweeps of the main queue in a row in which nearly everything stayed.
    fruitless_sweeps: AtomicU64,
    /// The thread to wake when segments run low.
    cleaner_thread: OnceLock<Thread>,
    /// The store's own reclamation: only its batches hold back its memory, not whatever else the process pins.
    collector: Collector,
    counters: Counters,
    /// Stripes in use, one bit a handle.
    stripes: [AtomicU64; HANDLES_MAX / 64],
    handles: AtomicU64,
    /// How often the cache has been flushed; a record carries it modulo [`FLUSH_STAMPS`].
    flushes: AtomicU64,
    /// No item that was stored before this many flushes is in the index.
    swept_flushes: AtomicU64,
    /// The expiry bits of a flush to come, or 0.
    flush_due: AtomicU64,
    /// No removed item had a CAS id of a later generation (S3).
    cas_floor: AtomicU64,
    events: events::Events,
}

impl Store {
    /// Makes an empty store. Memory is touched only as items come.
    ///
    /// # Errors
    /// See [`ConfigError`].
    pub fn new(config: Config, clock: Clock) -> Result<Arc<Store>, ConfigError> {
        if config.item_size_max > ITEM_BYTES_MAX {
            return Err(ConfigError::ItemSizeTooLarge { bytes_max: ITEM_BYTES_MAX });
        }
        let bytes_min = Self::memory_bytes_min(&config);
        if config.memory_limit < bytes_min {
            return Err(ConfigError::MemoryTooSmall { bytes_min });
        }
        let log = Log::new(config.memory_limit).map_err(ConfigError::Reserve)?;
        let ghosts = Ghosts::new(config.memory_limit / GHOST_PART).map_err(ConfigError::Reserve)?;
        log.charge_fixed(ghosts.bytes());
        let log = Arc::new(log);
        let large = LargeMemory::new(Arc::clone(&log), config.item_size_max).map_err(ConfigError::Reserve)?;
        Ok(Arc::new(Store {
            log,
            large,
            ghosts,
            fruitless_sweeps: AtomicU64::new(0),
            cleaner_thread: OnceLock::new(),
            config,
            clock,
            collector: Collector::new(),
            hasher: foldhash::quality::RandomState::default(),
            table: Table::new(0, INDEX_LOAD),
            counters: Counters::new(HANDLES_MAX),
            stripes: std::array::from_fn(|_| AtomicU64::new(0)),
            handles: AtomicU64::new(0),
            flushes: AtomicU64::new(0),
            swept_flushes: AtomicU64::new(0),
            flush_due: AtomicU64::new(0),
            cas_floor: AtomicU64::new(0),
            events: events::Events::default(),
        }))
    }

    /// A handle for one thread. It owns an open segment from its first store on, so make one a worker, not one a request.
    ///
    /// # Panics
    /// If [`HANDLES_MAX`] handles are in use.
    #[must_use]
    pub fn handle(self: &Arc<Self>) -> Handle {
        Handle::new(Arc::clone(self))
    }

    /// The clock that expiry follows.
    #[must_use]
    pub fn clock(&self) -> &Clock {
        &self.clock
    }

    /// How the store was made.
    #[must_use]
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Is an item of these lengths within the item size limit (protocol section 8)?
    #[must_use]
    pub fn fits(&self, key_len: usize, flags: u32, value_len: usize) -> bool {
        protocol_bytes(key_len, flags, value_len, self.config.cas) <= self.config.item_size_max
    }

    /// Does a value of this length get an allocation of its own? Then [`Handle::reserve`] lets it be received in place.
    #[must_use]
    pub fn is_large(&self, key_len: usize, value_len: usize) -> bool {
        crate::log::record::HEADER_BYTES + key_len + value_len > self.log.segment_bytes() / LARGE_PART_OF_SEGMENT
    }

    /// Bytes of large values that no item has any more and that somebody still reads: they were replaced, deleted or evicted while a
    /// clone was held (see [`LargeValue::is_current`]), and stay charged until the last clone is dropped. Nothing can be evicted in
    /// their place, so whoever keeps clones for long should bound this.
    #[must_use]
    pub fn loose_large_bytes(&self) -> u64 {
        self.large.loose_bytes()
    }

    /// The memory limit, in bytes.
    #[must_use]
    pub fn memory_limit(&self) -> usize {
        self.log.limit() as usize
    }

    /// Changes the memory limit. A lower one is reached by and by: a [`Cleaner`], or else the next writers, evict until what is held fits. A store that
    /// does not evict keeps what it has, and takes nothing new before that fits. The index keeps the size it has grown to.
    ///
    /// # Errors
    /// [`ConfigError::MemoryTooSmall`], also if index, ghosts and open segments would take more than half of it, or [`ConfigError::MemoryTooLarge`] if the limit is more than 16 times the one that the store was made with,
    /// or more than the system had addresses for.
    ///
    /// ```
    /// use memkv_engine::{clock::Clock, store::{Config, Store}};
    /// let store = Store::new(Config { memory_limit: 64 << 20, ..Config::default() }, Clock::system())?;
    /// store.set_memory_limit(128 << 20)?;
    /// assert_eq!(store.stats().limit_maxbytes, 128 << 20);
    /// assert!(store.set_memory_limit(1 << 20).is_err(), "less than two items of the largest size");
    /// # Ok::<(), memkv_engine::store::ConfigError>(())
    /// ```
    pub fn set_memory_limit(&self, bytes: usize) -> Result<(), ConfigError> {
        let bytes_min =
            Self::memory_bytes_min(&self.config).max(self.log.limit_min() as usize).max(2 * self.bytes_beside_items());
        if bytes < bytes_min {
            return Err(ConfigError::MemoryTooSmall { bytes_min });
        }
        let bytes_max = self.log.limit_max() as usize;
        if bytes > bytes_max {
            return Err(ConfigError::MemoryTooLarge { bytes_max });
        }
        self.log.set_limit(bytes as u64);
        self.wake_cleaner();
        Ok(())
    }

    /// What a limit must cover before the first item: index, ghosts, and the segments that handles and cleaners hold.
    fn bytes_beside_items(&self) -> usize {
        let segments = SEGMENTS_FOR_MOVES as usize + 2 * self.handles.load(Ordering::Relaxed) as usize;
        self.table.bytes() + self.ghosts.bytes() + segments * self.log.segment_bytes()
    }

    fn memory_bytes_min(config: &Config) -> usize {
        MEMORY_BYTES_MIN.max(2 * config.item_size_max)
    }

    /// Reads all counters and figures. Cost: microseconds; it disturbs nobody.
    #[must_use]
    pub fn stats(&self) -> Stats {
        let census = self.log.segments.census();
        let held = census.idle + census.leaving + census.queued.iter().sum::<u64>();
        let segment_bytes = self.log.segment_bytes() as u64;
        Stats {
            counters: self.counters.read(),
            curr_items: self.table.len() as u64,
            bytes: self.counters.cells.sum(BYTES_CELL),
            limit_maxbytes: self.log.limit(),
            index_bytes: self.table.bytes() as u64,
            index_power: self.table.level(),
            index_is_growing: self.table.wants_split(),
            segments_total: self.log.limit() / segment_bytes,
            segment_bytes,
            segments_free: self.usable(),
            segments_idle: census.idle,
            segments_leaving: census.leaving,
            segments_small: census.queued[Queue::Small as usize],
            segments_main: census.queued[Queue::Main as usize],
            log_bytes: (held - census.trimmed) * segment_bytes + census.trimmed_used,
            live_bytes: census.live_bytes,
            dead_bytes: census.dead_bytes,
            large_bytes: self.log.large_bytes(),
            large_receiving_bytes: self.large.receiving_bytes(),
            large_loose_bytes: self.large.loose_bytes(),
            ghost_bytes: self.ghosts.bytes() as u64,
            charged_bytes: self.log.charged(),
        }
    }

    /// Makes every [`Counter`] read 0. Gauges (`curr_items`, `bytes` and memory) are not touched.
    pub fn reset_stats(&self) {
        self.counters.reset();
    }

    #[inline]
    fn hash(&self, key: &[u8]) -> u64 {
        self.hasher.hash_one(key)
    }

    /// # Safety
    /// The location comes from the index, under a guard that lives as long as `'g` (S1, L2).
    #[inline]
    unsafe fn record<'g>(&self, location: Location) -> Record<'g> {
        // SAFETY: the caller's promise.
        unsafe { self.log.record(location) }
    }

    #[inline]
    fn cas_of(&self, location: Location, record: Record<'_>) -> u64 {
        if self.config.cas { record.stored_cas().unwrap_or_else(|| self.log.positional_cas(location)) } else { 0 }
    }

    /// The last id of a record that is to be replaced or removed: no increment gives it another one after that (R2).
    #[inline]
    fn final_cas(&self, location: Location, record: Record<'_>) -> u64 {
        record.seal_pair();
        self.cas_of(location, record)
    }

    /// Notes that a record's id is about to go with its item (S3, R2). Before the item leaves the index.
    #[inline]
    fn retire_cas(&self, location: Location, record: Record<'_>) {
        self.raise_cas_floor(self.final_cas(location, record));
    }

    /// The stamp of records that are stored now (S5).
    #[inline]
    fn flush_stamp(&self) -> u64 {
        // Acquire: after the load that found a record; with the Release of the flush, whoever sees a record of a later stamp
        // sees that flush.
        self.flushes.load(Ordering::Acquire) % FLUSH_STAMPS
    }

    /// Why a record that is in the index is not to be seen, if it is not.
    #[inline]
    fn gone(&self, state: State, now: Now) -> Option<Gone> {
        if state.stamp() != self.flush_stamp() {
            Some(Gone::Flushed)
        } else if state.is_expired(now) {
            Some(Gone::Expired)
        } else {
            None
        }
    }

    /// Notes that an id is about to go with its item (S3). Before the item leaves the index.
    fn raise_cas_floor(&self, id: u64) {
        // An id that a client made up may be of no generation yet.
        let generation = (id >> CAS_POSITION_BITS).min(self.log.segments.newest_generation());
        // Relaxed load: mostly it is high enough, and the line stays shared. SeqCst is not needed: whoever inserts the key after the
        // removal has seen the removal's CAS (Release), and this before it.
        if self.cas_floor.load(Ordering::Relaxed) < generation {
            self.cas_floor.fetch_max(generation, Ordering::Relaxed);
        }
    }
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Store").field("config", &self.config).field("items", &self.table.len()).finish_non_exhaustive()
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        // Records need no drop, but those of large values own a reference (S4).
        let guard = crate::sync::pin();
        let mut found = Vec::new();
        let mut from = Some(0);
        while let Some(hash) = from {
            from = self.table.visit_bucket(hash, &guard, &mut found);
            for hit in &found {
                // SAFETY: live in the index, and we have exclusive access.
                let record = unsafe { self.record(hit.payload()) };
                if record.is_large() {
                    // SAFETY: the record's own reference, taken back once: the table is dropped next.
                    drop(unsafe { LargeValue::from_address(record.large_address()) });
                }
            }
        }
    }
}

/// Why an item in the index is not there for clients.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Gone {
    Expired,
    Flushed,
}

/// The table's questions about a key.
struct ByKey<'a> {
    store: &'a Store,
    key: &'a [u8],
}

impl Keys for ByKey<'_> {
    #[inline]
    fn is_match(&self, payload: u64) -> bool {
        // SAFETY: the table asks about payloads that its caller's guard protects (T6).
        unsafe { self.store.record(payload) }.key() == self.key
    }

    fn hash_of(&self, payload: u64) -> u64 {
        // SAFETY: as above.
        self.store.hash(unsafe { self.store.record(payload) }.key())
    }
}

/// The table's questions about one record: is it still in the index?
struct ByLocation<'a> {
    store: &'a Store,
    location: Location,
}

impl Keys for ByLocation<'_> {
    #[inline]
    fn is_match(&self, payload: u64) -> bool {
        payload == self.location
    }

    fn hash_of(&self, payload: u64) -> u64 {
        // SAFETY: as for `ByKey`.
        self.store.hash(unsafe { self.store.record(payload) }.key())
    }
}
