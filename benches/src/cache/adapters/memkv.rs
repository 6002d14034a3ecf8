//! `memkv_engine::store::Store`: ours. Records in a log of segments, a lock-free index, one limit for everything.
//!
//! Its cleaner runs on a thread of its own beside the measured ones, as in the server: what it takes of the cores is missing there.

use crate::cache::{Cache, CacheHandle, KEY_BYTES, Key, Operations, Room, copy};
use memkv_engine::clock::Clock;
use memkv_engine::store::{self, Cleaner, Config, Expiry, Handle, Mode, NewValue, Store};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

/// Header and index of an item, as the engine's documentation has them.
const OVERHEAD_BYTES: usize = 16 + 14;
/// Records begin at multiples of this.
const ALIGNMENT: usize = 8;

/// Everything but the choice of how long a batch is.
pub struct Shared {
    store: Arc<Store>,
    ttl: Option<Duration>,
    stop: Arc<AtomicBool>,
    cleaner: Option<JoinHandle<()>>,
}

impl Shared {
    fn with_room(room: Room) -> Self {
        let entry = (KEY_BYTES + room.value_bytes).next_multiple_of(ALIGNMENT) + OVERHEAD_BYTES;
        let memory_limit = (room.entries * entry).max(1 << 20);
        // The limit holds two items of the largest size; those of the workloads are far smaller.
        let item_size_max = (1 << 20).min(memory_limit / 4);
        let config = Config { memory_limit, item_size_max, ..Config::default() };
        let store = Store::new(config, Clock::system()).expect("a limit of a megabyte or more");
        let stop = Arc::new(AtomicBool::new(false));
        let cleaner = Cleaner::new(&store);
        let thread = std::thread::spawn({
            let stop = stop.clone();
            move || cleaner.run(&stop)
        });
        Self { store, ttl: room.ttl, stop, cleaner: Some(thread) }
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        // Relaxed: nothing else is read on the strength of it; the unparking orders it before the next look.
        self.stop.store(true, Ordering::Relaxed);
        if let Some(cleaner) = self.cleaner.take() {
            cleaner.thread().unpark();
            cleaner.join().expect("the cleaner does not panic");
        }
    }
}

/// One thread's handle.
pub struct Own {
    handle: Handle,
    ttl: Option<Duration>,
}

/// A batch of the engine, with the thread's time to live.
pub struct Batch<'b> {
    batch: store::Batch<'b>,
    ttl: Option<Duration>,
}

impl Operations for Batch<'_> {
    #[inline(always)]
    fn get(&mut self, key: &Key, value: &mut Vec<u8>) -> bool {
        let hash = self.batch.hash(key);
        match self.batch.get(key, hash) {
            Some(item) => {
                copy(item.value(), value);
                true
            }
            None => false,
        }
    }

    #[inline(always)]
    fn set(&mut self, key: &Key, value: &[u8]) -> bool {
        let hash = self.batch.hash(key);
        let expiry = match self.ttl {
            None => Expiry::Never,
            Some(ttl) => Expiry::AtMono { ms: self.batch.now().mono_ms + 1 + ttl.as_millis() as u64 },
        };
        self.batch.store(Mode::Set, key, hash, 0, expiry, NewValue::Bytes(value)).is_ok()
    }
}

/// One guard and one reading of the clock for a batch of operations, as the server uses it.
pub struct MemkvBatched(Shared);

impl Cache for MemkvBatched {
    type Handle<'a> = Own;
    const EXPIRES: bool = true;

    fn with_room(room: Room) -> Self {
        Self(Shared::with_room(room))
    }

    fn handle(&self) -> Own {
        Own { handle: self.0.store.handle(), ttl: self.0.ttl }
    }
}

impl CacheHandle for Own {
    type Batch<'b> = Batch<'b>;

    #[inline]
    fn batch(&mut self) -> Batch<'_> {
        Batch { batch: self.handle.batch(), ttl: self.ttl }
    }
}

/// A batch for every operation: a guard and a reading of the clock each.
pub struct Memkv(Shared);

/// One thread's handle, used for an operation at a time.
pub struct Single(Own);

impl Cache for Memkv {
    type Handle<'a> = Single;
    const EXPIRES: bool = true;

    fn with_room(room: Room) -> Self {
        Self(Shared::with_room(room))
    }

    fn handle(&self) -> Single {
        Single(Own { handle: self.0.store.handle(), ttl: self.0.ttl })
    }
}

impl CacheHandle for Single {
    type Batch<'b> = &'b mut Own;

    #[inline]
    fn batch(&mut self) -> &mut Own {
        &mut self.0
    }
}

impl Operations for &mut Own {
    #[inline(always)]
    fn get(&mut self, key: &Key, value: &mut Vec<u8>) -> bool {
        self.batch().get(key, value)
    }

    #[inline(always)]
    fn set(&mut self, key: &Key, value: &[u8]) -> bool {
        self.batch().set(key, value)
    }
}
