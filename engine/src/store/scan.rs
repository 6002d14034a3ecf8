//! Scans: every item of a store, one index bucket at a time.
//!
//! A [`Cursor`] is a position in the order of the keys' hashes. That order never changes, whatever the index does meanwhile: growth
//! divides a bucket's range of hashes and nothing else, and what the cleaner moves keeps its slot. So a scan meets each key that is
//! there from its beginning to its end exactly once, and may be interrupted between two buckets for as long as anybody likes: it
//! holds neither a guard nor memory then. Keys that come or go while it runs may be met or not.
//!
//! A call works through some buckets under the batch's guard; whoever scans a whole store does so in slices, a batch each, so that
//! reclamation goes on.

use super::meta::Fetched;
use super::view::Found;
use super::{Batch, Item};

/// Into how many parts a store is divided at most, for scans by several threads: the index never has fewer buckets, so
/// no bucket lies in two parts.
const PARTS: u64 = 8;

/// Where a scan stands. Plain data: it refers to nothing in the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cursor {
    /// The hash at which the next bucket begins; `None` at the end.
    from: Option<u64>,
    /// The last hash of the range.
    last: u64,
}

impl Default for Cursor {
    fn default() -> Cursor {
        Cursor::new()
    }
}

impl Cursor {
    /// The end of every scan.
    pub const END: Cursor = Cursor { from: None, last: 0 };

    /// The beginning of a scan of everything.
    #[must_use]
    pub fn new() -> Cursor {
        Cursor { from: Some(0), last: u64::MAX }
    }

    /// The same, in parts that can be scanned by different threads.
    pub fn parts() -> impl Iterator<Item = Cursor> {
        const WIDTH: u64 = u64::MAX / PARTS + 1;
        (0..PARTS).map(|part| Cursor { from: Some(part * WIDTH), last: part * WIDTH + (WIDTH - 1) })
    }

    /// Whether everything has been visited.
    #[must_use]
    pub fn is_done(&self) -> bool {
        self.from.is_none()
    }
}

/// What a sweep came across.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Swept {
    /// Items that were looked at.
    pub checked: u64,
    /// Expired or flushed ones among them, which are gone now.
    pub reclaimed: u64,
}

impl Batch<'_> {
    /// Visits the items of the next buckets, `buckets_max` at most, that clients can see. The scan goes on to another bucket as long as
    /// `visit` says so; the bucket at hand is always finished. Leaves no mark on the items and counts nothing.
    ///
    /// Cost: a cache line or two for each bucket, and one for each record; one allocation a call.
    pub fn scan(&self, cursor: &mut Cursor, buckets_max: usize, mut visit: impl FnMut(Fetched<'_>) -> bool) {
        let view = self.view();
        self.visit(cursor, buckets_max, |found| {
            let state = found.record.state();
            if view.store.gone(state, view.now).is_some() {
                return true;
            }
            let item = Item::new(view.store, found.hit.payload(), found.record);
            visit(Fetched { idle_s: item.idle_s(view.now), ..Fetched::of(item, state) })
        });
    }

    /// Takes expired and flushed items out of the next buckets, `buckets_max` at most.
    pub fn sweep(&self, cursor: &mut Cursor, buckets_max: usize) -> Swept {
        let view = self.view();
        let mut swept = Swept::default();
        self.visit(cursor, buckets_max, |found| {
            swept.checked += 1;
            let state = found.record.state();
            if let Some(gone) = view.store.gone(state, view.now)
                && view.drop_gone(found, state, gone)
            {
                swept.reclaimed += 1;
            }
            true
        });
        swept
    }

    /// Deletes the items of the next buckets, `buckets_max` at most, whose keys begin with `prefix`. Says how many of them clients
    /// could have seen.
    ///
    /// A key that is stored while its bucket is being looked at may lose its new value, or keep it.
    pub fn purge(&self, cursor: &mut Cursor, buckets_max: usize, prefix: &[u8]) -> u64 {
        let view = self.view();
        let mut purged = 0;
        self.visit(cursor, buckets_max, |found| {
            let key = found.record.key();
            if !key.starts_with(prefix) {
                return true;
            }
            let mut seen = Some(found);
            // Ends: a failure means that somebody else replaced or removed the item, or that a split came between.
            while let Some(found) = seen {
                let is_there = view.store.gone(found.record.state(), view.now).is_none();
                if view.unlink(found) {
                    purged += u64::from(is_there);
                    break;
                }
                seen = view.find(key, view.store.hash(key));
            }
            true
        });
        purged
    }

    /// Walks over buckets, and hands out what is in the index, visible or not, each key once.
    fn visit(&self, cursor: &mut Cursor, buckets_max: usize, mut each: impl FnMut(Found<'_>) -> bool) {
        let view = self.view();
        let mut hits = Vec::new();
        for _ in 0..buckets_max {
            let Some(from) = cursor.from else { return };
            let next = view.store.table.visit_bucket(from, view.guard, &mut hits);
            cursor.from = next.filter(|next| *next <= cursor.last);
            let mut go_on = true;
            for (at, hit) in hits.iter().enumerate() {
                // SAFETY: found in the index under our guard.
                let record = unsafe { view.store.record(hit.payload()) };
                // A key that was removed and stored again while we looked may stand in two slots of what we saw.
                let is_again = hits[..at].iter().any(|other| {
                    // SAFETY: as above.
                    unsafe { view.store.record(other.payload()) }.key() == record.key()
                });
                if !is_again {
                    go_on &= each(Found { hit: *hit, record });
                }
            }
            if !go_on {
                return;
            }
        }
    }
}
