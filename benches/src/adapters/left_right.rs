//! `left-right` (the crate under `evmap`) over two standard `HashMap`s: readers never wait, every write is done twice.
//!
//! `evmap` itself is left out: it takes another hasher than its own only through an `unsafe` function. Writers share a
//! mutex and publish after each write, because [`Handle`] promises that a write is seen when it returns. That is the
//! most expensive way to use this crate; batching a thousand writes per publish is what it is made for.

use crate::collection::{Collection, Handle};
use crate::hasher::{Hasher, hasher};
use left_right::{Absorb, ReadHandle, ReadHandleFactory, WriteHandle};
use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// One copy of the map.
#[derive(Clone)]
pub struct Copy(HashMap<u64, u64, Hasher>);

/// What the writer has decided, repeated on the second copy.
pub enum Change {
    /// Maps a key to a value.
    Put(u64, u64),
    /// Removes a key.
    Remove(u64),
}

impl Absorb<Change> for Copy {
    fn absorb_first(&mut self, change: &mut Change, _: &Self) {
        match *change {
            Change::Put(key, value) => self.0.insert(key, value),
            Change::Remove(key) => self.0.remove(&key),
        };
    }

    fn sync_with(&mut self, first: &Self) {
        self.clone_from(first);
    }
}

/// A left-right pair of standard maps, one writer at a time.
pub struct LeftRight {
    writer: Mutex<WriteHandle<Copy, Change>>,
    readers: ReadHandleFactory<Copy>,
}

/// One thread's read handle and the way to the writer.
pub struct Access<'a> {
    map: &'a LeftRight,
    reader: ReadHandle<Copy>,
}

impl Access<'_> {
    fn writer(&self) -> MutexGuard<'_, WriteHandle<Copy, Change>> {
        self.map.writer.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The value of a key as the one writer sees it: everything is published, so the readers' copy is the newest.
fn current(writer: &WriteHandle<Copy, Change>, key: u64) -> Option<u64> {
    writer.enter().and_then(|copy| copy.0.get(&key).copied())
}

impl Collection for LeftRight {
    type Handle<'a> = Access<'a>;

    fn with_capacity(capacity: usize) -> Self {
        let (mut writer, _) = left_right::new_from_empty(Copy(HashMap::with_capacity_and_hasher(capacity, hasher())));
        // The first publish clones the one copy for the other; after it, changes are absorbed twice.
        writer.publish();
        let readers = writer.factory();
        Self { writer: Mutex::new(writer), readers }
    }

    fn handle(&self) -> Self::Handle<'_> {
        Access { map: self, reader: self.readers.handle() }
    }
}

impl Handle for Access<'_> {
    #[inline(always)]
    fn get(&mut self, key: u64) -> Option<u64> {
        self.reader.enter().and_then(|copy| copy.0.get(&key).copied())
    }

    fn insert(&mut self, key: u64, value: u64) -> bool {
        let mut writer = self.writer();
        let new = current(&writer, key).is_none();
        writer.append(Change::Put(key, value)).publish();
        new
    }

    fn remove(&mut self, key: u64) -> bool {
        let mut writer = self.writer();
        let found = current(&writer, key).is_some();
        writer.append(Change::Remove(key)).publish();
        found
    }

    fn update(&mut self, key: u64, change: impl Fn(u64) -> u64) -> bool {
        let mut writer = self.writer();
        match current(&writer, key) {
            Some(value) => {
                writer.append(Change::Put(key, change(value))).publish();
                true
            }
            None => false,
        }
    }
}
