//! Insert: claim, scan, commit (the argument is in the module documentation, "Why no key is there twice").

use super::bucket::{Bucket, LINK_NONE, Node, Overflow};
use super::close::Spare;
use super::word::{CLOSED, EMPTY, Word};
use super::{Hit, Keys, Table};
use crate::sync::Guard;
use crate::sync::{AtomicU64, Ordering};

/// How an insert ended.
pub(crate) enum Inserted<'g> {
    /// The payload is in the table.
    New,
    /// A live entry of the key was found. The payload is not in the table, and may be inserted later; but other threads
    /// may have seen it, so what is behind it must be released through the epoch.
    Exists(Hit<'g>),
    /// The claim lost against another insert of the same key. Other threads may have seen the payload, and may look at
    /// it as long as their guards live: find again, and insert, if at all, with a payload that no slot has seen (T4).
    Retry,
}

/// Where the scan before a claim ended.
enum Scan<'g> {
    Exists(Hit<'g>),
    /// An empty slot, and a bucket behind it that can go.
    Room(&'g AtomicU64, Option<Spare<'g>>),
    /// No empty slot; the last bucket of the chain, and one that has been closed in part or whole.
    Full(Node<'g>, Option<Spare<'g>>),
    Frozen,
}

/// What became of a claim.
enum Claim {
    Committed,
    Aborted,
    /// Frozen before it was decided: it does not count, and its slot is final.
    Frozen,
}

/// The claim of a slot that was seen empty.
#[inline]
fn make_claim(slot: &AtomicU64, claim: Word) -> bool {
    // SeqCst: the claim comes before our scan in the one order that all claims and scans share (E3); its Release part
    // publishes the entry (E1). Failure is Relaxed: we scan again. A failure means that another thread changed the slot.
    slot.compare_exchange(EMPTY, claim.0, Ordering::SeqCst, Ordering::Relaxed).is_ok()
}

/// The usual case of the first pass, without a branch that depends on a slot: one bucket, room in it, and no word with our tag. (An empty word has
/// the tag 0: who has it, too, takes the long way.)
#[inline]
fn claim_in_root(root: &Bucket, claim: Word) -> Option<&AtomicU64> {
    // Relaxed: nothing behind the link is read, and the claim decides nothing yet.
    if root.link.load(Ordering::Relaxed) != LINK_NONE || root.slots_with_tag_of(claim) != 0 {
        return None;
    }
    root.empty_slot().filter(|slot| make_claim(slot, claim))
}

/// The usual case of scan and commit, after the claim: the bucket is the whole chain, and no other slot has a word with our tag, in whatever state. A
/// frozen mark of another slot is no matter: if our own slot is not frozen, the commit precedes the end of the split.
#[inline]
fn commit_unopposed(root: &Bucket, slot: &AtomicU64, claim: Word) -> bool {
    let own = root.bit_of(slot);
    // Each load comes after our claim in the total order (E3): of two claims of a key one sees the other, and takes the long way.
    // Link, SeqCst: an append that we do not see is later than our claim.
    own != 0
        && root.slots_with_tag_of(claim) == own
        && root.link.load(Ordering::SeqCst) == LINK_NONE
        // Release: readers that see the live word see the entry (E1). Failure is Relaxed: others decided, or froze the slot.
        && slot.compare_exchange(claim.0, claim.committed().0, Ordering::AcqRel, Ordering::Relaxed).is_ok()
}

impl Table {
    /// Inserts a payload for a key that has no live entry.
    ///
    /// May allocate an overflow bucket, or give one back; never splits (see [`Table::grow_step`]) unless it meets a bucket that is being
    /// split. Lock-free.
    pub(crate) fn insert<'g>(&self, hash: u64, payload: u64, keys: &impl Keys, guard: &'g Guard) -> Inserted<'g> {
        let claim = Word::live(hash, payload).pending();
        loop {
            let state = self.state();
            let root = self.root(state, hash, guard);
            let slot = match claim_in_root(root, claim) {
                Some(slot) => slot,
                None => {
                    let (slot, spare) = match self.scan(root, hash, keys) {
                        Scan::Exists(hit) if hit.word.is_frozen() && self.state() != state => continue,
                        Scan::Exists(hit) => return Inserted::Exists(hit),
                        Scan::Room(slot, spare) => (slot, spare),
                        Scan::Full(last, spare) => {
                            // Nothing can be appended to a bucket that leaves: it goes first.
                            match spare {
                                Some(spare) => self.close(&spare, guard),
                                None => self.append(last, guard),
                            }
                            continue;
                        }
                        Scan::Frozen => {
                            self.help_split(state, keys, guard);
                            continue;
                        }
                    };
                    if let Some(spare) = spare {
                        self.close(&spare, guard);
                    }
                    if !make_claim(slot, claim) {
                        continue;
                    }
                    slot
                }
            };
            // loom models SeqCst accesses as acquire and release only; the fence is what the total order gives us. On other processors it makes
            // up for the Relaxed loads of `commit_unopposed`; on x86-64 the claim is a fence itself.
            #[cfg(any(crossbeam_loom, not(target_arch = "x86_64")))]
            crate::sync::fence(Ordering::SeqCst);
            if commit_unopposed(root, slot, claim) {
                self.note_insert();
                return Inserted::New;
            }
            match self.settle(root, slot, claim, keys, guard) {
                Claim::Committed => {
                    self.note_insert();
                    return Inserted::New;
                }
                Claim::Aborted => return Inserted::Retry,
                Claim::Frozen => {}
            }
        }
    }

    /// The first pass: is the key there, where is room, and is there more than needed?
    #[inline(never)]
    fn scan<'g>(&self, root: &'g Bucket, hash: u64, keys: &impl Keys) -> Scan<'g> {
        let (mut room, mut spare) = (None, None);
        let mut any_frozen = false;
        let mut bucket = root.node();
        // The overflow bucket at hand, and the link that names it.
        let mut overflow = None;
        loop {
            let (mut first_empty, mut is_used, mut is_closed) = (None, false, false);
            for slot in bucket.slots {
                // Acquire: as in `find` (E1).
                let word = Word(slot.load(Ordering::Acquire));
                if word.is_live_with_tag(hash) && keys.is_match(word.payload()) {
                    return Scan::Exists(Hit { slot, word });
                }
                any_frozen |= word.is_frozen();
                match word.0 {
                    EMPTY => first_empty = first_empty.or(Some(slot)),
                    CLOSED => is_closed = true,
                    _ => is_used = true,
                }
            }
            // The first that can go: the link in front of it is not closed, or was not when we saw that bucket.
            if !is_used && spare.is_none() && (is_closed || room.is_some()) {
                spare = overflow.map(|(bucket, named_by)| Spare { bucket, named_by });
            }
            if room.is_none() && !is_closed {
                room = first_empty;
            }
            // SeqCst: the bucket's slots (E2), and its append comes before our claim in the order of claims and links (E3).
            // SAFETY: the caller reached `root` under its guard.
            match unsafe { Overflow::from_link(bucket.link.load(Ordering::SeqCst)) } {
                Some(next) => {
                    overflow = Some((next, bucket.link));
                    bucket = next.node();
                }
                None => break,
            }
        }
        match room {
            _ if any_frozen => Scan::Frozen,
            Some(slot) => Scan::Room(slot, spare),
            None => Scan::Full(bucket, spare),
        }
    }

    /// Hangs an empty overflow bucket behind the last of a chain; if somebody else was faster, theirs will do.
    fn append(&self, last: Node<'_>, guard: &Guard) {
        let fresh = self.overflow.take(true, guard);
        // Release: publishes the empty slots (E2). SeqCst besides, because the scan of a claim reads links in the same
        // total order (E3). Failure is Relaxed: the caller scans again (another thread appended, or froze the link).
        if last.link.compare_exchange(LINK_NONE, fresh.address(), Ordering::SeqCst, Ordering::Relaxed).is_err() {
            self.overflow.retire(fresh, guard);
        }
    }

    /// Drives our own claim to its end and says which it was.
    fn settle(&self, root: &Bucket, slot: &AtomicU64, claim: Word, keys: &impl Keys, guard: &Guard) -> Claim {
        let word = loop {
            if !self.commit(root, slot, claim, keys) {
                // A frozen slot was in the way: of a split that is still to be finished, or is over. Both freeze our slot.
                self.help_split(self.state(), keys, guard);
            }
            // Acquire: if others decided, see what they saw.
            let word = Word(slot.load(Ordering::Acquire));
            // Still open only if the state that we helped was older than the frozen mark that we met: go again, now we know it.
            if word != claim {
                break word;
            }
        };
        if word.thawed() == claim {
            debug_assert!(word.is_frozen(), "T1: an undecided claim is frozen");
            Claim::Frozen
        } else if word.thawed() == claim.aborted() {
            // Ours to empty; nobody else leaves `aborted`. Release: nothing to publish, but the next claim of this slot
            // must not appear before our abort; a failure means that the slot was frozen, and stays so.
            let _ = slot.compare_exchange(claim.aborted().0, EMPTY, Ordering::Release, Ordering::Relaxed);
            Claim::Aborted
        } else {
            // Live, or changed by others after it was live: only live words are replaced or removed.
            Claim::Committed
        }
    }

    /// Scans the chain for the key of the pending word in `slot` and commits or aborts it: for its owner, or to help.
    ///
    /// Answers false if a frozen slot hindered the scan. Otherwise the word has been decided, by this call or another.
    /// Recursion goes to slots that are earlier in the chain only. Each repetition on one slot means that another thread changed it.
    fn commit(&self, root: &Bucket, slot: &AtomicU64, claim: Word, keys: &impl Keys) -> bool {
        let mut bucket = root.node();
        let mut is_behind = false;
        loop {
            for other in bucket.slots {
                if std::ptr::eq(other, slot) {
                    is_behind = true;
                    continue;
                }
                loop {
                    // SeqCst: after our claim in the total order (E3). Acquire for the entry behind it (E1).
                    let word = Word(other.load(Ordering::SeqCst));
                    if word.is_frozen() {
                        return false;
                    }
                    let is_rival = word.payload() != 0
                        && word.has_tag_of(claim)
                        && !word.is_aborted()
                        && keys.is_match(word.payload());
                    if !is_rival {
                        break;
                    }
                    if !word.is_pending() {
                        // The key is there. Relaxed: the word says it all; a failure means that others decided.
                        let _ = slot.compare_exchange(claim.0, claim.aborted().0, Ordering::Relaxed, Ordering::Relaxed);
                        return true;
                    }
                    if !is_behind {
                        // SeqCst: if our claim is still open, its bucket is in the chain and lies ahead (T8). Else our bucket may be gone, and
                        // the order of the two is not known: nothing is left to be decided.
                        let own = Word(slot.load(Ordering::SeqCst));
                        if own != claim {
                            return own.thawed() != claim;
                        }
                        // It goes first: decide it, then look again.
                        if !self.commit(root, other, word, keys) {
                            return false;
                        }
                    } else {
                        // We go first. Relaxed: as above; on failure we look again.
                        let _ = other.compare_exchange(word.0, word.aborted().0, Ordering::Relaxed, Ordering::Relaxed);
                    }
                }
            }
            // SeqCst: an append that we do not see is later than our claim in the total order (E3).
            // SAFETY: the caller reached `root` under its guard.
            match unsafe { bucket.next(Ordering::SeqCst) } {
                Some(next) => bucket = next,
                None => break,
            }
        }
        // Release: readers that see the live word see the entry, also if a helper publishes it: the helper has acquired the
        // claim, and an RMW continues its release sequence. Failure is Relaxed: others decided.
        let _ = slot.compare_exchange(claim.0, claim.committed().0, Ordering::AcqRel, Ordering::Relaxed);
        // Acquire: if the slot was frozen meanwhile, the caller helps with the split, whose state it must then see.
        Word(slot.load(Ordering::Acquire)).thawed() != claim
    }
}
