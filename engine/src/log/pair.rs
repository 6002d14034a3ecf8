//! The pair of a counter: its number and its CAS id, changed together by one 128-bit compare-and-swap.
//!
//! ```text
//!  127 126                64 63                     0
//! +----+--------------------+------------------------+
//! | S  |  CAS id            |  number                |
//! +----+--------------------+------------------------+
//! ```
//! S is the pair's own seal, because the pair changes independently of the record's state word.
//!
//! **R2** Once the seal is set, the pair never changes again. Whoever copies a counter, decides something by its number or its
//! id, or takes it out of the index, seals the pair first; a change that meets the seal is made on a new record instead,
//! and waits for nobody. So
//! - a change that succeeds is made on a record that the index still names, and is linearized at its compare-and-swap;
//! - what a copier or a comparer sees of a sealed pair is final: no increment falls between the look and the replacement;
//! - the last id of a counter is known before the id of what comes after it is chosen, and before the floor of ids is raised (S3).
//!
//! A seal that turns out to be for nothing (the comparison fails, memory runs out) costs the next change a new record.
//!
//! **Ids** A counter record owns a whole generation of CAS ids: those with the generation's number in the upper bits. The next id is
//! this one plus 1, so the ids of a counter need no shared line but the counter's own. When the lower bits are used up, a fresh
//! generation continues: larger than all before, whoever took it. A copy that keeps the id (the item is the same) goes on where
//! the sealed original stopped: of all copies one at most gets into the index.

use crate::sync::{Ordering, RawAtomicU128};

/// The seal, in the half of the id.
const SEALED: u64 = 1 << 63;

/// A number and the CAS id that belongs to it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Pair {
    pub(crate) number: u64,
    id_and_seal: u64,
}

impl Pair {
    /// # Panics
    /// With assertions, if the id [does not fit](Pair::can_hold).
    pub(crate) fn new(number: u64, id: u64) -> Pair {
        debug_assert!(Pair::can_hold(id), "the top bit is the seal's");
        Pair { number, id_and_seal: id }
    }

    /// Ids of our own making fit for some 10^13 generations; one that a client chose may not.
    pub(crate) fn can_hold(id: u64) -> bool {
        id & SEALED == 0
    }

    pub(crate) fn id(self) -> u64 {
        self.id_and_seal & !SEALED
    }

    pub(crate) fn is_sealed(self) -> bool {
        self.id_and_seal & SEALED != 0
    }

    /// For a copy.
    pub(crate) fn unsealed(self) -> Pair {
        Pair { id_and_seal: self.id(), ..self }
    }

    fn sealed(self) -> Pair {
        Pair { id_and_seal: self.id_and_seal | SEALED, ..self }
    }

    pub(crate) fn bits(self) -> u128 {
        u128::from(self.id_and_seal) << 64 | u128::from(self.number)
    }

    pub(crate) fn from_bits(bits: u128) -> Pair {
        Pair { number: bits as u64, id_and_seal: (bits >> 64) as u64 }
    }
}

/// Where a pair lies: 16 bytes of a record, or a word of the model checker.
pub(crate) trait PairCell {
    /// Acquire: what the sealer saw is seen by whoever sees the seal.
    fn load(&self) -> Pair;

    /// AcqRel: transitions of one word, all of them read-modify-writes. On failure answers what is there, with Acquire.
    fn compare_exchange(&self, old: Pair, new: Pair) -> Result<(), Pair>;
}

impl PairCell for RawAtomicU128 {
    #[inline]
    fn load(&self) -> Pair {
        Pair::from_bits(RawAtomicU128::load(self, Ordering::Acquire))
    }

    #[inline]
    fn compare_exchange(&self, old: Pair, new: Pair) -> Result<(), Pair> {
        RawAtomicU128::compare_exchange(self, old.bits(), new.bits(), Ordering::AcqRel, Ordering::Acquire)
            .map(drop)
            .map_err(Pair::from_bits)
    }
}

/// Why a pair was not changed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Refusal<E> {
    /// It is sealed (R2): make a new record.
    Sealed,
    /// The caller does not want it changed.
    Unwanted(E),
}

/// Replaces a pair by what `next` makes of it, unless it is sealed or `next` refuses. Answers the new pair.
#[inline]
pub(crate) fn change<E>(
    cell: &impl PairCell,
    mut next: impl FnMut(Pair) -> Result<Pair, E>,
) -> Result<Pair, Refusal<E>> {
    let mut seen = cell.load();
    // Ends: a failure means that another thread changed or sealed the pair.
    loop {
        if seen.is_sealed() {
            return Err(Refusal::Sealed);
        }
        let new = next(seen).map_err(Refusal::Unwanted)?;
        match cell.compare_exchange(seen, new) {
            Ok(()) => return Ok(new),
            Err(now) => seen = now,
        }
    }
}

/// Makes a pair final (R2) and answers it, with the seal.
pub(crate) fn seal(cell: &impl PairCell) -> Pair {
    let mut seen = cell.load();
    // Ends: as in `change`.
    while !seen.is_sealed() {
        match cell.compare_exchange(seen, seen.sealed()) {
            Ok(()) => return seen.sealed(),
            Err(now) => seen = now,
        }
    }
    seen
}

/// The id after `id`: the next in its generation, or, behind the last, the first of a fresh one.
#[inline]
pub(crate) fn next_id(id: u64, position_bits: u32, fresh_generation: impl FnOnce() -> u64) -> u64 {
    let positions = (1 << position_bits) - 1;
    if id & positions == positions { fresh_generation() << position_bits } else { id + 1 }
}

#[cfg(all(test, not(crossbeam_loom)))]
mod tests {
    use super::*;

    #[test]
    fn fields_tile_the_word() {
        let pair = Pair::new(u64::MAX, u64::MAX >> 1);
        assert_eq!(pair.bits(), u128::MAX >> 1);
        assert_eq!(Pair::from_bits(u128::MAX), pair.sealed());
        assert_eq!((pair.sealed().id(), pair.sealed().number), (pair.id(), pair.number));
    }

    #[test]
    fn r2_a_sealed_pair_does_not_change() {
        let cell = RawAtomicU128::new(Pair::new(7, 3).bits());
        let add = |by| change(&cell, |pair| Ok::<_, ()>(Pair::new(pair.number + by, pair.id() + 1)));
        assert_eq!(add(2), Ok(Pair::new(9, 4)));
        assert_eq!(change(&cell, |_| Err("no")), Err(Refusal::Unwanted("no")));
        assert_eq!(seal(&cell), Pair::new(9, 4).sealed());
        assert_eq!(add(2), Err(Refusal::Sealed));
        assert_eq!(seal(&cell), Pair::new(9, 4).sealed());
    }

    #[test]
    fn ids_run_through_a_generation_and_go_on_in_a_fresh_one() {
        let fresh = || 9;
        assert_eq!(next_id(5 << 17, 17, fresh), 5 << 17 | 1);
        assert_eq!(next_id((6 << 17) - 1, 17, fresh), 9 << 17);
    }
}
