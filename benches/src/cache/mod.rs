//! Caches of byte strings under a limit, measured through two small traits; one file a rival in [`adapters`].
//!
//! What is equal, and what cannot be:
//! - **Keys** are 16 bytes, held inline where a cache is generic. **Values** are byte strings; caches that hold Rust values
//!   hold an `Arc<[u8]>`, since each of them hands out clones. A get copies the value into the thread's buffer, as a server
//!   does on its way to the socket.
//! - **The limit** is one of entries of a known size ([`Room`]). Caches that weigh entries weigh keys and values, and what they
//!   need beside is theirs on top. Ours and segcache count everything into their limit, so they get what as many entries need
//!   with their headers. `cache-memory` shows what each really takes.
//! - **The hasher** is the one of [`crate::hasher`] wherever a cache lets it be chosen. Ours seeds a foldhash of its own for each
//!   store, TinyUFO and segcache have an ahash; their lines in the list say so.
//! - **The allocator** is [`crate::alloc`]'s for all; ours and segcache take their memory from the system in one piece.

pub mod adapters;
pub mod conformance;
mod drive;
mod value;
pub mod workload;

use std::time::Duration;

/// A key: the number that [`crate::keys::key_of`] makes, twice.
pub type Key = [u8; 16];

/// Length of every key.
pub const KEY_BYTES: usize = size_of::<Key>();

/// The bytes of a key.
#[inline]
pub fn key_bytes(key: u64) -> Key {
    let mut bytes = [0; KEY_BYTES];
    bytes[..8].copy_from_slice(&key.to_le_bytes());
    bytes[8..].copy_from_slice(&(!key).to_le_bytes());
    bytes
}

/// How much a cache is to hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Room {
    /// Entries.
    pub entries: usize,
    /// Length of their values.
    pub value_bytes: usize,
    /// How long an entry lives after it was set.
    pub ttl: Option<Duration>,
}

impl Room {
    /// Room for so many entries that never expire.
    pub fn for_entries(entries: usize, value_bytes: usize) -> Self {
        Self { entries, value_bytes, ttl: None }
    }

    /// Bytes of the keys and values of all entries.
    pub fn data_bytes(self) -> usize {
        self.entries * (KEY_BYTES + self.value_bytes)
    }
}

/// A concurrent cache, shared by all threads of a run.
pub trait Cache: Send + Sync + Sized {
    /// What one thread works through.
    type Handle<'a>: CacheHandle
    where
        Self: 'a;

    /// Whether entries can expire.
    const EXPIRES: bool;

    /// An empty cache with this much room. The hasher is [`crate::hasher::hasher`] where it can be chosen.
    fn with_room(room: Room) -> Self;

    /// The calling thread's way into the cache. Taken once per thread, outside the measured time.
    fn handle(&self) -> Self::Handle<'_>;

    /// What the cache wants done now and then, if it has no thread of its own for it. Called every 20 ms, and before memory
    /// is looked at.
    fn maintain(&self) {}
}

/// One thread's way into a [`Cache`].
pub trait CacheHandle {
    /// A number of operations that belong together.
    type Batch<'b>: Operations
    where
        Self: 'b;

    /// Begins a batch of about 100 operations. An adapter that keeps a guard across operations takes it here.
    fn batch(&mut self) -> Self::Batch<'_>;
}

/// What is done to a cache. A set may be refused, a get may miss: caches may. A get must never find a value that was not the
/// key's last one.
pub trait Operations {
    /// Copies the value of `key` into `value`, in place of what was there; `false` if there is none.
    fn get(&mut self, key: &Key, value: &mut Vec<u8>) -> bool;

    /// Sets the value of `key`; `false` if the cache says that it could not. Then it must not have the old one either. A cache
    /// that admits by popularity says `true` to what it drops.
    fn set(&mut self, key: &Key, value: &[u8]) -> bool;
}

/// A cache that is its own handle and its own batch.
pub trait Direct: Send + Sync {
    /// As [`Operations::get`].
    fn get(&self, key: &Key, value: &mut Vec<u8>) -> bool;

    /// As [`Operations::set`].
    fn set(&self, key: &Key, value: &[u8]) -> bool;
}

impl<C: Direct> CacheHandle for &C {
    type Batch<'b>
        = &'b C
    where
        Self: 'b;

    #[inline]
    fn batch(&mut self) -> &C {
        self
    }
}

impl<C: Direct> Operations for &C {
    #[inline(always)]
    fn get(&mut self, key: &Key, value: &mut Vec<u8>) -> bool {
        Direct::get(*self, key, value)
    }

    #[inline(always)]
    fn set(&mut self, key: &Key, value: &[u8]) -> bool {
        Direct::set(*self, key, value)
    }
}

/// Puts a copy of the bytes in place of what was there.
#[inline]
fn copy(from: &[u8], to: &mut Vec<u8>) {
    to.clear();
    to.extend_from_slice(from);
}
