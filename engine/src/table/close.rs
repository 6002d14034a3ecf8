//! Giving back overflow buckets that have run empty.
//!
//! Only inserts do it, because they walk the whole chain anyhow: one that finds room in front of an overflow bucket without
//! entries closes that bucket and takes it out of the chain. The next insert that finds no room appends one again, so a chain is
//! about as long as its entries need, not as long as it ever was.
//!
//! Three steps, each repeatable by whoever passes, none of which is taken back:
//! 1. Each slot goes from empty to closed, first to last. The first decides: inserts take the first empty slot of a bucket, so one that wants
//!    this bucket meets the closer there, and from then on scans offer none of its slots. An insert that scanned before may
//!    still claim a later slot. Then the bucket stays, takes no more entries, and the rest of it is closed when they have gone.
//! 2. The link gets the closed mark: nothing can be appended or unlinked behind a bucket that leaves.
//! 3. The link in front is changed to what the closed link names. Whose CAS does that retires the bucket (T5).

use super::Table;
use super::bucket::{LINK_CLOSED, Overflow};
use super::word::{CLOSED, EMPTY, Word};
use crate::sync::Guard;
use crate::sync::{AtomicU64, Ordering};

/// An overflow bucket in which a scan saw no entry, and the link in front of it.
pub(super) struct Spare<'g> {
    pub(super) bucket: &'g Overflow,
    pub(super) named_by: &'g AtomicU64,
}

impl Table {
    /// Takes a bucket out of its chain if it is still without entries, or goes on with what another thread began. Bounded, but for
    /// changes of the link by others.
    #[cold]
    pub(super) fn close(&self, spare: &Spare<'_>, guard: &Guard) {
        let Spare { bucket, named_by } = spare;
        for slot in &bucket.slots {
            // SeqCst: claims of this slot come before it in the one order of claims and links (E3), so the unlinking below does
            // as well. On failure the same: another closer's mark may be what we go on from.
            let closed = slot.compare_exchange(EMPTY, CLOSED, Ordering::SeqCst, Ordering::SeqCst);
            if closed.is_err_and(|word| word != CLOSED) {
                // An entry, or a split: it stays.
                return;
            }
        }
        // SeqCst: the bucket behind, which our CAS below publishes (E2), and E3.
        let mut link = bucket.link.load(Ordering::SeqCst);
        // Ends: a failure means that another thread appended, unlinked the bucket behind, closed or froze.
        while link & LINK_CLOSED == 0 {
            if link & Word::FREEZE != 0 {
                return;
            }
            match bucket.link.compare_exchange(link, link | LINK_CLOSED, Ordering::SeqCst, Ordering::SeqCst) {
                Ok(_) => link |= LINK_CLOSED,
                Err(now) => link = now,
            }
        }
        // Release: publishes the slots of the bucket behind (E2). SeqCst besides, because scans of claims read links in the same total order (E3).
        // Failure is Relaxed: it was unlinked by another thread, is in a chain that a split has frozen, or the bucket in front
        // of it is closed and has to go first.
        let next = link & !(LINK_CLOSED | Word::FREEZE);
        if named_by.compare_exchange(bucket.address(), next, Ordering::SeqCst, Ordering::Relaxed).is_ok() {
            self.overflow.retire(bucket, guard);
        }
    }
}
