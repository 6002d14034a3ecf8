//! The 64-bit word of a slot: a tag, a payload and three marks.
//!
//! ```text
//!  63            48 47                                            3  2  1  0
//! +----------------+-----------------------------------------------+--+--+--+
//! |  tag (16 bits) |  payload (45 bits), never 0 in an entry       |A |P |F |
//! +----------------+-----------------------------------------------+--+--+--+
//! ```
//!
//! - `F` *frozen*: set by a split, never cleared. The word is final (T1).
//! - `P` *pending*: claimed by an insert that has not committed; readers do not see it.
//! - `A` *aborted*: a pending claim that lost against another insert of the same key; its owner empties the slot.
//! - payload 0 is no entry: all zeros is *unborn* (a slot that a split has not filled yet), `A` alone is *empty*, `A` and `P` together are
//!   *closed* (a slot of an overflow bucket that is being given back).
//!
//! The tag is bits 47..32 of the hash, the bucket index comes from bits 63 downwards. From level 16 on, the bit that
//! decides a split is therefore part of the tag, and a split need not touch the entries.

const FROZEN: u64 = 0b001;
const PENDING: u64 = 0b010;
const ABORTED: u64 = 0b100;
const MARKS: u64 = FROZEN | PENDING | ABORTED;
const MARK_BITS: u32 = 3;
const TAG_SHIFT: u32 = 48;
const TAG_MASK: u64 = !0 << TAG_SHIFT;
/// The lowest hash bit that the tag holds.
const TAG_LOWEST_HASH_BIT: u32 = 32;
const PAYLOAD_MASK: u64 = !(TAG_MASK | MARKS);

/// How many bits a payload has.
pub(crate) const PAYLOAD_BITS: u32 = TAG_SHIFT - MARK_BITS;

// The fields tile the word.
const _: () = assert!(TAG_MASK ^ PAYLOAD_MASK ^ MARKS == !0 && PAYLOAD_MASK.count_ones() == PAYLOAD_BITS);

/// A slot that no split has filled yet; only buckets that are not reachable by readers hold it.
pub(crate) const UNBORN: u64 = 0;
/// A slot that an insert may claim.
pub(crate) const EMPTY: u64 = ABORTED;
/// A slot that nobody will claim again: its overflow bucket is on its way out of the chain.
pub(crate) const CLOSED: u64 = PENDING | ABORTED;

/// A word as it was read from a slot.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Word(pub(crate) u64);

impl Word {
    /// The live word for an entry.
    #[inline]
    pub(crate) fn live(hash: u64, payload: u64) -> Word {
        debug_assert!(payload != 0 && payload >> PAYLOAD_BITS == 0, "T0: a payload is 1..2^45");
        Word(Self::tag_of(hash) | payload << MARK_BITS)
    }

    /// A word of which only the tag means something: that of `hash`.
    #[inline]
    pub(crate) fn of_tag(hash: u64) -> Word {
        Word(hash << (TAG_SHIFT - TAG_LOWEST_HASH_BIT))
    }

    #[inline]
    fn tag_of(hash: u64) -> u64 {
        Self::of_tag(hash).0 & TAG_MASK
    }

    /// The payload; 0 where there is no entry.
    #[inline]
    pub(crate) fn payload(self) -> u64 {
        (self.0 & PAYLOAD_MASK) >> MARK_BITS
    }

    /// The same entry lying elsewhere.
    #[inline]
    pub(crate) fn with_payload(self, payload: u64) -> Word {
        debug_assert!(payload != 0 && payload >> PAYLOAD_BITS == 0, "T0: a payload is 1..2^45");
        Word(self.0 & TAG_MASK | payload << MARK_BITS)
    }

    /// Is this a live entry, frozen or not, with the tag of `hash`? One comparison: the tag must be equal, P and A clear.
    #[inline]
    pub(crate) fn is_live_with_tag(self, hash: u64) -> bool {
        (self.0 ^ Self::tag_of(hash)) & (TAG_MASK | PENDING | ABORTED) == 0
    }

    /// Live, and in no split.
    #[inline]
    pub(crate) fn is_unmarked(self) -> bool {
        debug_assert!(self.0 != UNBORN, "T3: only born slots are reachable");
        self.0 & MARKS == 0
    }

    /// An entry in any state (live, pending, aborted) with the tag of `other`.
    #[inline]
    pub(crate) fn has_tag_of(self, other: Word) -> bool {
        (self.0 ^ other.0) & TAG_MASK == 0
    }

    #[inline]
    pub(crate) fn is_live(self) -> bool {
        self.0 & (PENDING | ABORTED) == 0 && self.0 & PAYLOAD_MASK != 0
    }

    #[inline]
    pub(crate) fn is_frozen(self) -> bool {
        self.0 & FROZEN != 0
    }

    #[inline]
    pub(crate) fn is_pending(self) -> bool {
        self.0 & PENDING != 0
    }

    #[inline]
    pub(crate) fn is_aborted(self) -> bool {
        self.0 & ABORTED != 0
    }

    #[inline]
    pub(crate) fn pending(self) -> Word {
        Word(self.0 | PENDING)
    }

    /// The committed form of a pending word.
    #[inline]
    pub(crate) fn committed(self) -> Word {
        Word(self.0 & !PENDING)
    }

    /// The aborted form of a pending word.
    #[inline]
    pub(crate) fn aborted(self) -> Word {
        Word(self.0 & !PENDING | ABORTED)
    }

    /// The word without its frozen mark, as a split copies it.
    #[inline]
    pub(crate) fn thawed(self) -> Word {
        Word(self.0 & !FROZEN)
    }

    /// The mark that `fetch_or` sets to freeze a slot or a link.
    pub(crate) const FREEZE: u64 = FROZEN;

    /// Bit `bit` of the hash, if the tag holds it.
    #[inline]
    pub(crate) fn hash_bit(self, bit: u32) -> Option<bool> {
        let position = (bit + TAG_SHIFT).checked_sub(TAG_LOWEST_HASH_BIT)?;
        (TAG_SHIFT..64).contains(&position).then(|| self.0 >> position & 1 == 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn word_round_trip() {
        for (hash, payload) in [(0, 1), (!0, (1 << PAYLOAD_BITS) - 1), (0x1234_5678_9abc_def0, 0x1fff_0000_1111)] {
            let word = Word::live(hash, payload);
            assert_eq!(word.payload(), payload);
            assert!(word.is_live() && word.is_live_with_tag(hash) && !word.is_frozen());
            assert!(!word.pending().is_live() && word.pending().is_pending());
            assert!(!word.pending().is_live_with_tag(hash));
            assert_eq!(word.pending().committed(), word);
            assert!(word.pending().aborted().is_aborted() && !word.pending().aborted().is_live());
            assert_eq!(Word(word.0 | Word::FREEZE).thawed(), word);
            assert_eq!(word.with_payload(7).payload(), 7);
            assert!(word.with_payload(7).has_tag_of(word));
        }
    }

    #[test]
    fn empty_unborn_and_closed_are_no_entries() {
        for word in [EMPTY, UNBORN, CLOSED, EMPTY | Word::FREEZE, CLOSED | Word::FREEZE].map(Word) {
            assert!(!word.is_live());
            assert_eq!(word.payload(), 0);
        }
        assert!(!Word(EMPTY).is_live_with_tag(0) && !Word(CLOSED).is_live_with_tag(0));
    }

    #[test]
    fn tag_knows_the_split_bit_from_level_16_to_31() {
        for level in 0..64 {
            let bit = 63 - level;
            for hash in [0, !0, 1 << bit, !(1 << bit)] {
                let known = Word::live(hash, 1).hash_bit(bit);
                assert_eq!(known, (16..32).contains(&level).then_some(hash >> bit & 1 == 1), "level {level}");
            }
        }
    }
}
