//! MemKV's engine: no I/O, no async, no network types.
//!
//! Two things for programs that want a cache or a concurrent map inside:
//!
//! - [`store::Store`], a cache of byte-string items under a memory limit that holds, with memcached's operations;
//! - [`map::HashMap`], a general concurrent hash map.
//!
//! Both stand on one lock-free index (`table`): 64-byte buckets of tagged words that grow eight at a time, with reclamation
//! by epochs (`epoch`). The store's records lie in a log of segments (`log`).
//!
//! # Guarantees
//! - Operations on one key are linearizable. A thread that stops anywhere stops no other: reads take no lock and write nothing
//!   shared once an item is known to be hot; writes are lock-free, growth included.
//! - The exceptions: memory that a stopped, pinned thread may still read is not reused, so a writer that finds all of a store's segments
//!   in that state gets [`store::StoreError::OutOfMemory`] after a bounded number of tries; and a thread that stops inside the system's allocator is the
//!   allocator's business. Counters of a store use 128-bit compare-and-swap; a processor without one (x86-64 from before 2006, 32-bit) gets a lock
//!   in its place.
//! - Records, index and large values together stay within a store's limit. The exception: overflow buckets of the index do not
//!   ask the limit, and so many handles on so small a limit that their open segments are most of it, filled with items of a few
//!   bytes, can pass it (256 handles on 1 MiB with values of 2 bytes: by 28 %; 64 handles do not).
//!
//! # Memory per item
//! In a store: 16 bytes of record header, 0 to 7 of padding, about 12 of index (14 where eviction has long replaced keys by new ones); 4 more with client flags other than 0, and 8 more where an explicit CAS id is
//! needed, also once a cleaner has moved the record. A counter (a number that has been incremented) has 24 bytes in place of its digits. In a map: see there.
//!
//! # An example
//! ```
//! use memkv_engine::{clock::Clock, store::{Config, Expiry, Mode, NewValue, Store}};
//!
//! let store = Store::new(Config { memory_limit: 16 << 20, ..Config::default() }, Clock::system())?;
//! std::thread::scope(|scope| {
//!     for worker in 0..2_u8 {
//!         let mut handle = store.handle();
//!         scope.spawn(move || {
//!             let mut batch = handle.batch();
//!             let key = [b'k', worker];
//!             let hash = batch.hash(&key);
//!             batch.store(Mode::Set, &key, hash, 0, Expiry::Never, NewValue::Bytes(b"value")).expect("there is room");
//!         });
//!     }
//! });
//! assert_eq!(store.stats().curr_items, 2);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Reading order
//! [`clock`], `epoch` (reclamation), `table` (the index: design, invariants and proofs), [`map`], `log` (segments and records), [`store`], then [`counter`] and [`limits`].

pub mod clock;
pub mod counter;
mod epoch;
pub mod limits;
mod log;
pub mod map;
pub mod store;
mod sync;
mod table;
