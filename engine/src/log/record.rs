//! A record: one item in the log.
//!
//! ```text
//!   0  state        u64, atomic        expiry, marks, frequency, flush stamp: see below
//!   8  last_access  u32, atomic        seconds of the store's clock
//!  12  shape        u32                key length (8) | kind (4) | value length in the record (20)
//!  16  cas          u64, if kind has CAS      an id that the position does not give
//!  16  pair         24 bytes, if COUNTER  number and CAS id in the 16 of them that are aligned to 16: see [`super::pair`]
//!   .  flags        u32, if kind has FLAGS    client flags other than 0
//!   .  key, value   bytes              for a LARGE value: the address of its shared allocation; for a COUNTER: nothing, and
//!                                      the value length is the width to which its number is printed
//!      padding to 8 bytes
//!
//! state: 63..24 expiry (0 never; milliseconds of the monotonic clock, or with ABSOLUTE seconds of Unix time)
//!        23 ABSOLUTE  22 FETCHED  21 STALE  20 WIN  19 SEALED  18 unused  17..16 frequency  15..0 flush stamp
//! ```
//! Everything but `state`, `last_access` and `pair` is fixed before the record is published in the index, and read only
//! under a guard pinned before it was found. `state` changes by compare-and-swap. **R1** Once SEALED is set, `state` never changes
//! again, but for FETCHED: whoever copies a record seals it first, and a change that meets the seal is made on a new record instead; so
//! a copy misses no change. The pair of a counter has a seal and a rule of its own (R2); [`Record::seal`] sets both seals.

use super::pair::{self, Pair, PairCell};
use crate::clock::Now;
use crate::sync::{Ordering, RawAtomicU32, RawAtomicU64, RawAtomicU128};

pub(crate) const HEADER_BYTES: usize = 16;
/// Records begin at multiples of this.
pub(crate) const ALIGN: usize = 8;

const KIND_CAS: u32 = 1 << 20;
const KIND_FLAGS: u32 = 1 << 21;
const KIND_LARGE: u32 = 1 << 22;
const KIND_COUNTER: u32 = 1 << 23;
const VALUE_BITS: u32 = 20;
const KEY_SHIFT: u32 = 24;

/// A pair, and what it takes to align it in a record that is not.
const PAIR_BYTES: usize = 16 + ALIGN;

/// The longest value that lies in the record itself.
pub(crate) const INLINE_VALUE_BYTES_MAX: usize = (1 << VALUE_BITS) - 1;

/// The mutable word of a record.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct State(pub(crate) u64);

impl State {
    const EXPIRY_SHIFT: u32 = 24;
    const ABSOLUTE: u64 = 1 << 23;
    pub(crate) const FETCHED: u64 = 1 << 22;
    /// The mark of a stale item (meta commands).
    pub(crate) const STALE: u64 = 1 << 21;
    /// The mark that somebody has been told to refresh the item (meta commands).
    pub(crate) const WIN: u64 = 1 << 20;
    pub(crate) const SEALED: u64 = 1 << 19;
    /// The mark of an item whose key came in base64 (meta commands).
    pub(crate) const BASE64: u64 = 1 << 18;
    const FREQUENCY_ONE: u64 = 1 << 16;
    const FREQUENCY_MASK: u64 = Self::FREQUENCY_MAX << 16;
    pub(crate) const FREQUENCY_MAX: u64 = 3;
    const STAMP_MASK: u64 = (1 << 16) - 1;
    const EXPIRY_MASK: u64 = !0 << Self::EXPIRY_SHIFT | Self::ABSOLUTE;
    /// The marks that an in-place change keeps.
    const MARKS: u64 = Self::FETCHED | Self::STALE | Self::WIN | Self::BASE64 | Self::FREQUENCY_MASK;

    pub(crate) fn new(expiry: Expiry, flush_stamp: u64) -> State {
        State(expiry.bits() | flush_stamp & Self::STAMP_MASK)
    }

    #[inline]
    pub(crate) fn has(self, mark: u64) -> bool {
        self.0 & mark != 0
    }

    #[inline]
    pub(crate) fn stamp(self) -> u64 {
        self.0 & Self::STAMP_MASK
    }

    pub(crate) fn expiry(self) -> Expiry {
        let time = self.0 >> Self::EXPIRY_SHIFT;
        match (time, self.has(Self::ABSOLUTE)) {
            (0, _) => Expiry::Never,
            (s, true) => Expiry::AtUnix { s },
            (ms, false) => Expiry::AtMono { ms },
        }
    }

    #[inline]
    pub(crate) fn is_expired(self, now: Now) -> bool {
        let time = self.0 >> Self::EXPIRY_SHIFT;
        if time == 0 {
            return false;
        }
        if self.has(Self::ABSOLUTE) { now.unix_ms >= time * 1000 } else { now.mono_ms >= time }
    }

    pub(crate) fn with_expiry(self, expiry: Expiry) -> State {
        State(self.0 & !Self::EXPIRY_MASK | expiry.bits())
    }

    /// The state with a mark set, or left as it is.
    #[inline]
    pub(crate) fn with(self, mark: u64, set: bool) -> State {
        State(self.0 | if set { mark } else { 0 })
    }

    /// The state without a mark.
    #[inline]
    pub(crate) fn without(self, mark: u64) -> State {
        State(self.0 & !mark)
    }

    /// Has the item been fetched once since it was stored, or since a cleaner last moved it?
    #[inline]
    pub(crate) fn was_fetched_once(self) -> bool {
        self.0 & (Self::FETCHED | Self::FREQUENCY_MASK) == Self::FETCHED | Self::FREQUENCY_ONE
    }

    /// Fetches since the item was stored or last moved by an eviction, up to 3.
    #[inline]
    pub(crate) fn frequency(self) -> u64 {
        (self.0 & Self::FREQUENCY_MASK) / Self::FREQUENCY_ONE
    }

    /// The state with another frequency.
    pub(crate) fn with_frequency(self, frequency: u64) -> State {
        debug_assert!(frequency <= Self::FREQUENCY_MAX);
        State(self.0 & !Self::FREQUENCY_MASK | (frequency * Self::FREQUENCY_ONE))
    }

    /// The state with another's frequency.
    #[inline]
    pub(crate) fn with_frequency_of(self, other: State) -> State {
        State(self.0 & !Self::FREQUENCY_MASK | other.0 & Self::FREQUENCY_MASK)
    }

    /// The same marks on another state.
    pub(crate) fn with_marks_of(self, other: State) -> State {
        State(self.0 & !Self::MARKS | other.0 & Self::MARKS)
    }

    /// The state after one more fetch; equal to `self` once the frequency is at its maximum of 3.
    #[inline]
    pub(crate) fn fetched(self) -> State {
        let state = self.0 | Self::FETCHED;
        if self.0 & Self::FREQUENCY_MASK == Self::FREQUENCY_MASK {
            State(state)
        } else {
            State(state + Self::FREQUENCY_ONE)
        }
    }
}

/// When an item ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expiry {
    /// It stays until it is evicted.
    Never,
    /// At a reading of the monotonic clock, in milliseconds.
    AtMono {
        /// The first millisecond in which the item is gone.
        ms: u64,
    },
    /// At a Unix time, in seconds; follows the wall clock, also when that is stepped.
    AtUnix {
        /// The first second in which the item is gone.
        s: u64,
    },
    /// Already over.
    Past,
}

impl Expiry {
    /// 30 days: larger numbers are absolute times.
    const RELATIVE_S_MAX: i64 = 2_592_000;
    const TIME_MAX: u64 = (1 << (64 - State::EXPIRY_SHIFT)) - 1;

    /// Reads a protocol exptime (section 2.6): 0 never, up to 30 days relative, beyond that Unix time, negative already over.
    ///
    /// A relative time is never cut short: the clock's reading is rounded down, so one millisecond is added.
    ///
    /// ```
    /// use memkv_engine::{clock::Now, store::Expiry};
    /// let now = Now { mono_ms: 500, unix_ms: 1_800_000_000_000 };
    /// assert_eq!(Expiry::from_exptime(0, now), Expiry::Never);
    /// assert_eq!(Expiry::from_exptime(1, now), Expiry::AtMono { ms: 1_501 });
    /// assert_eq!(Expiry::from_exptime(2_592_001, now), Expiry::AtUnix { s: 2_592_001 });
    /// assert_eq!(Expiry::from_exptime(-1, now), Expiry::Past);
    /// ```
    #[must_use]
    pub fn from_exptime(exptime: i64, now: Now) -> Expiry {
        match exptime {
            0 => Expiry::Never,
            ..0 => Expiry::Past,
            1..=Self::RELATIVE_S_MAX => Expiry::AtMono { ms: now.mono_ms + 1 + exptime as u64 * 1000 },
            _ => Expiry::AtUnix { s: exptime as u64 },
        }
    }

    /// Is it over?
    #[must_use]
    pub fn is_over(self, now: Now) -> bool {
        State(self.bits()).is_expired(now)
    }

    /// Seconds that remain, rounded up; `None` for no expiry, 0 when it is over.
    #[must_use]
    pub fn remaining_s(self, now: Now) -> Option<u64> {
        match self {
            Expiry::Never => None,
            Expiry::AtMono { ms } => Some((ms.saturating_sub(1)).saturating_sub(now.mono_ms).div_ceil(1000)),
            Expiry::AtUnix { s } => Some(s.saturating_mul(1000).saturating_sub(now.unix_ms).div_ceil(1000)),
            Expiry::Past => Some(0),
        }
    }

    /// When the item ends on the monotonic clock, as far as that can be said now: an absolute time follows the wall clock.
    pub(crate) fn mono_ms(self, now: Now) -> u64 {
        match self {
            Expiry::Never => u64::MAX,
            Expiry::AtMono { ms } => ms,
            Expiry::AtUnix { s } => now.mono_ms.saturating_add(s.saturating_mul(1000).saturating_sub(now.unix_ms)),
            Expiry::Past => 0,
        }
    }

    /// The expiry bits of a state. Times beyond 34 years of uptime, or the year 36812, are cut to that.
    fn bits(self) -> u64 {
        match self {
            Expiry::Never => 0,
            Expiry::AtMono { ms } => ms.clamp(1, Self::TIME_MAX) << State::EXPIRY_SHIFT,
            Expiry::AtUnix { s } => s.clamp(1, Self::TIME_MAX) << State::EXPIRY_SHIFT | State::ABSOLUTE,
            // The second after midnight on 1 January 1970.
            Expiry::Past => 1 << State::EXPIRY_SHIFT | State::ABSOLUTE,
        }
    }
}

/// What decides how long a record is.
#[derive(Clone, Copy)]
pub(crate) struct Shape {
    shape: u32,
}

impl Shape {
    /// A record with a value of its own (`value_len`), or with the address of a large one.
    pub(crate) fn new(key_len: usize, has_flags: bool, has_cas: bool, value_len: Option<usize>) -> Shape {
        let (value_len, large) = value_len.map_or((size_of::<usize>(), KIND_LARGE), |len| (len, 0));
        debug_assert!(key_len < 256 && value_len <= INLINE_VALUE_BYTES_MAX);
        let kind = large | if has_flags { KIND_FLAGS } else { 0 } | if has_cas { KIND_CAS } else { 0 };
        Shape { shape: (key_len as u32) << KEY_SHIFT | kind | value_len as u32 }
    }

    /// A counter whose number is printed `width` bytes wide.
    pub(crate) fn counter(key_len: usize, has_flags: bool, width: usize) -> Shape {
        let Shape { shape } = Shape::new(key_len, has_flags, false, Some(width));
        Shape { shape: shape | KIND_COUNTER }
    }

    #[inline]
    fn key_len(self) -> usize {
        (self.shape >> KEY_SHIFT) as usize
    }

    /// Bytes of the value as clients see it; of a large one, bytes of its address.
    #[inline]
    fn value_len(self) -> usize {
        (self.shape & INLINE_VALUE_BYTES_MAX as u32) as usize
    }

    /// Bytes that lie behind the key.
    #[inline]
    fn body_len(self) -> usize {
        if self.has(KIND_COUNTER) { 0 } else { self.value_len() }
    }

    #[inline]
    fn has(self, kind: u32) -> bool {
        self.shape & kind != 0
    }

    #[inline]
    fn flags_at(self) -> usize {
        let id_bytes = match self.shape & (KIND_CAS | KIND_COUNTER) {
            0 => 0,
            KIND_CAS => 8,
            _ => PAIR_BYTES,
        };
        HEADER_BYTES + id_bytes
    }

    #[inline]
    fn key_at(self) -> usize {
        self.flags_at() + if self.has(KIND_FLAGS) { 4 } else { 0 }
    }

    /// Bytes of the record in the log, padding included.
    #[inline]
    pub(crate) fn bytes(self) -> usize {
        (self.key_at() + self.key_len() + self.body_len()).next_multiple_of(ALIGN)
    }
}

/// A record in the log. Copyable: it is an address; `'g` is the guard that keeps it alive.
#[derive(Clone, Copy)]
pub(crate) struct Record<'g> {
    at: *const u8,
    guard: std::marker::PhantomData<&'g ()>,
}

/// Everything that is fixed when a record is written.
pub(crate) struct Draft<'a> {
    pub(crate) state: State,
    pub(crate) last_access_s: u32,
    pub(crate) cas: Option<u64>,
    pub(crate) flags: u32,
    pub(crate) key: &'a [u8],
    /// The parts of the value, one behind the other. Those of a counter are empty.
    pub(crate) value: [&'a [u8]; 2],
    /// What a counter begins with: then `cas` is none.
    pub(crate) pair: Option<Pair>,
}

/// What makes a record a counter.
#[derive(Clone, Copy)]
pub(crate) struct Counter<'g> {
    /// Number and CAS id (R2).
    pub(crate) pair: &'g RawAtomicU128,
    /// How wide the number is printed, in bytes.
    pub(crate) width: usize,
}

impl Counter<'_> {
    /// Number and id as they are at this moment.
    #[inline]
    pub(crate) fn pair(self) -> Pair {
        PairCell::load(self.pair)
    }
}

impl<'g> Record<'g> {
    /// # Safety
    /// `at` is the start of a complete record, aligned to [`ALIGN`], that is not reused during `'g`.
    #[inline]
    pub(crate) unsafe fn at(at: *const u8) -> Record<'g> {
        Record { at, guard: std::marker::PhantomData }
    }

    /// Writes a record and answers it.
    ///
    /// # Safety
    /// The `shape.bytes()` bytes at `at` belong to the caller alone, and are aligned to [`ALIGN`].
    pub(crate) unsafe fn write(at: *mut u8, shape: Shape, draft: &Draft<'_>) -> Record<'g> {
        // SAFETY: all writes stay below `shape.bytes()`: the offsets and lengths are those it was computed from.
        unsafe {
            at.cast::<u64>().write(draft.state.0);
            at.add(8).cast::<u32>().write(draft.last_access_s);
            at.add(12).cast::<u32>().write(shape.shape);
            if let Some(cas) = draft.cas {
                at.add(HEADER_BYTES).cast::<u64>().write(cas);
            }
            debug_assert_eq!(draft.pair.is_some(), shape.has(KIND_COUNTER));
            if let Some(pair) = draft.pair {
                at.add(pair_at(at)).cast::<u128>().write(pair.bits());
            }
            if shape.has(KIND_FLAGS) {
                at.add(shape.flags_at()).cast::<u32>().write(draft.flags);
            }
            let mut end = at.add(shape.key_at());
            for part in [draft.key, draft.value[0], draft.value[1]] {
                std::ptr::copy_nonoverlapping(part.as_ptr(), end, part.len());
                end = end.add(part.len());
            }
            debug_assert_eq!((end as usize - at as usize).next_multiple_of(ALIGN), shape.bytes());
            Record::at(at)
        }
    }

    /// Where it lies: what tells two records apart.
    pub(crate) fn address(self) -> *const u8 {
        self.at
    }

    #[inline]
    fn state_word(self) -> &'g RawAtomicU64 {
        // SAFETY: the first 8 bytes of a record are its state, aligned, accessed atomically once it is published.
        unsafe { RawAtomicU64::from_ptr(self.at.cast_mut().cast()) }
    }

    #[inline]
    fn last_access_word(self) -> &'g RawAtomicU32 {
        // SAFETY: as above, at 8.
        unsafe { RawAtomicU32::from_ptr(self.at.add(8).cast_mut().cast()) }
    }

    #[inline]
    pub(crate) fn state(self) -> State {
        // Acquire: whoever sees the seal sees the copy's publication no later than by finding again (R1).
        State(self.state_word().load(Ordering::Acquire))
    }

    /// Changes the state if it is still `old`. `old` must not be sealed.
    #[inline]
    pub(crate) fn change_state(self, old: State, new: State) -> bool {
        debug_assert!(!old.has(State::SEALED), "R1: a sealed state does not change");
        // AcqRel: transitions of one word; a copier that seals later sees everything that was changed here.
        self.state_word().compare_exchange(old.0, new.0, Ordering::AcqRel, Ordering::Relaxed).is_ok()
    }

    /// Makes the state final and answers it, without the seal (R1). Of a counter the pair becomes final too (R2).
    pub(crate) fn seal(self) -> State {
        self.seal_pair();
        State(self.state_word().fetch_or(State::SEALED, Ordering::AcqRel) & !State::SEALED)
    }

    /// Sets FETCHED, also on a sealed record: the exception of R1. A mover looks for it again when its copy is in place, see
    /// `View::mark_moving`.
    pub(crate) fn set_fetched(self) {
        self.state_word().fetch_or(State::FETCHED, Ordering::AcqRel);
    }

    #[inline]
    pub(crate) fn last_access_s(self) -> u32 {
        // Relaxed: a figure.
        self.last_access_word().load(Ordering::Relaxed)
    }

    #[inline]
    pub(crate) fn set_last_access_s(self, now_s: u32) {
        // Relaxed: a figure.
        self.last_access_word().store(now_s, Ordering::Relaxed);
    }

    #[inline]
    pub(crate) fn shape(self) -> Shape {
        // SAFETY: fixed since before the record was published.
        Shape { shape: unsafe { self.at.add(12).cast::<u32>().read() } }
    }

    /// The id that lies in the record, if its position does not give it. That of a counter changes until the pair is sealed.
    #[inline]
    pub(crate) fn stored_cas(self) -> Option<u64> {
        let shape = self.shape();
        if shape.has(KIND_CAS) {
            // SAFETY: as above; records are aligned to 8.
            return Some(unsafe { self.at.add(HEADER_BYTES).cast::<u64>().read() });
        }
        self.counter().map(|counter| counter.pair().id())
    }

    /// The changing part of a counter.
    #[inline]
    pub(crate) fn counter(self) -> Option<Counter<'g>> {
        let shape = self.shape();
        shape.has(KIND_COUNTER).then(|| {
            // SAFETY: 16 bytes inside the record, aligned to 16 (see `pair_at`), accessed atomically once it is published.
            let pair = unsafe { RawAtomicU128::from_ptr(self.at.add(pair_at(self.at)).cast_mut().cast()) };
            Counter { pair, width: shape.value_len() }
        })
    }

    /// Makes the pair of a counter final and answers it (R2). Nothing to do for other records.
    #[inline]
    pub(crate) fn seal_pair(self) -> Option<Pair> {
        self.counter().map(|counter| pair::seal(counter.pair))
    }

    #[inline]
    pub(crate) fn flags(self) -> u32 {
        let shape = self.shape();
        // SAFETY: as above; the offset is a multiple of 4.
        if shape.has(KIND_FLAGS) { unsafe { self.at.add(shape.flags_at()).cast::<u32>().read() } } else { 0 }
    }

    #[inline]
    pub(crate) fn key(self) -> &'g [u8] {
        let shape = self.shape();
        // SAFETY: fixed since before publication, alive for `'g`.
        unsafe { std::slice::from_raw_parts(self.at.add(shape.key_at()), shape.key_len()) }
    }

    /// The bytes behind the key: the value, the address of a large one, or nothing for a counter.
    #[inline]
    pub(crate) fn inline_value(self) -> &'g [u8] {
        let shape = self.shape();
        // SAFETY: as for `key`.
        unsafe { std::slice::from_raw_parts(self.at.add(shape.key_at() + shape.key_len()), shape.body_len()) }
    }

    /// Bytes of a value that is not large, as clients see it.
    #[inline]
    pub(crate) fn small_value_len(self) -> usize {
        debug_assert!(!self.is_large());
        self.shape().value_len()
    }

    #[inline]
    pub(crate) fn is_large(self) -> bool {
        self.shape().has(KIND_LARGE)
    }

    /// The address of the shared allocation of a large value.
    pub(crate) fn large_address(self) -> usize {
        debug_assert!(self.is_large());
        usize::from_ne_bytes(self.inline_value().try_into().expect("a large record holds one address"))
    }
}

/// Where the pair of a counter at this address lies: behind the header, or 8 bytes further where that is aligned.
#[inline]
fn pair_at(record: *const u8) -> usize {
    debug_assert_eq!(record.addr() % ALIGN, 0);
    HEADER_BYTES + record.addr() % (2 * ALIGN)
}

#[cfg(all(test, not(crossbeam_loom)))]
mod tests {
    use super::*;

    #[test]
    fn layout_round_trip() {
        let mut memory = [0_u64; 64];
        for (flags, cas) in [(0, None), (7, None), (0, Some(99)), (u32::MAX, Some(u64::MAX))] {
            let (key, value) = (b"some key".as_slice(), [b"first ".as_slice(), b"second!".as_slice()]);
            let shape = Shape::new(key.len(), flags != 0, cas.is_some(), Some(13));
            let state = State::new(Expiry::AtMono { ms: 5 }, 3);
            let draft = Draft { state, last_access_s: 77, cas, flags, key, value, pair: None };
            // SAFETY: 512 bytes of our own.
            let record = unsafe { Record::write(memory.as_mut_ptr().cast(), shape, &draft) };
            assert_eq!((record.key(), record.inline_value()), (key, b"first second!".as_slice()));
            assert_eq!((record.flags(), record.stored_cas(), record.last_access_s()), (flags, cas, 77));
            assert_eq!(shape.bytes() % ALIGN, 0);
            assert_eq!(record.state(), state);
            assert_eq!(record.seal(), state);
            assert!(record.state().has(State::SEALED));
        }
        // The figure that the memory goal rests on: 16 bytes beyond key and value.
        assert_eq!(Shape::new(16, false, false, Some(32)).bytes(), 64);
    }

    #[test]
    fn a_counter_lies_in_its_record_wherever_that_begins() {
        let mut memory = [0_u64; 64];
        for (start, flags) in [(0, 0), (1, 0), (2, 7), (3, u32::MAX)] {
            let shape = Shape::counter(5, flags != 0, 20);
            assert_eq!(shape.bytes(), 16 + 24 + if flags != 0 { 16 } else { 8 }, "as long at every address");
            let (key, pair) = (b"a key".as_slice(), Pair::new(u64::MAX, 12));
            let state = State::new(Expiry::Never, 3);
            let draft = Draft { state, last_access_s: 77, cas: None, flags, key, value: [&[], &[]], pair: Some(pair) };
            // SAFETY: at least 480 bytes of our own.
            let record = unsafe { Record::write(memory[start..].as_mut_ptr().cast(), shape, &draft) };
            let counter = record.counter().expect("it is one");
            assert_eq!((counter.pair(), counter.width), (pair, 20));
            assert_eq!((record.key(), record.inline_value(), record.small_value_len()), (key, [].as_slice(), 20));
            assert_eq!((record.flags(), record.stored_cas()), (flags, Some(12)));
            assert_eq!(record.seal(), state);
            assert!(counter.pair().is_sealed(), "R2: sealing a record seals its pair");
            assert_eq!((record.stored_cas(), record.key()), (Some(12), key));
        }
    }

    #[test]
    fn expiry_is_never_early_and_never_late() {
        let at = |mono_ms, unix_ms| Now { mono_ms, unix_ms };
        let start = at(10, 1_800_000_000_000);
        let state = State::new(Expiry::from_exptime(2, start), 0);
        assert!(!state.is_expired(at(2_010, 0)) && state.is_expired(at(2_011, 0)));
        assert_eq!(state.expiry().remaining_s(start), Some(2));
        let absolute = State::new(Expiry::from_exptime(1_800_000_005, start), 0);
        assert!(!absolute.is_expired(at(99_999, 1_800_000_004_999)) && absolute.is_expired(at(0, 1_800_000_005_000)));
        assert!(State::new(Expiry::Past, 0).is_expired(at(0, 1_000)));
        assert!(!State::new(Expiry::Never, 0).is_expired(at(u64::MAX, u64::MAX)));
        assert_eq!(State::new(Expiry::Never, 0).expiry(), Expiry::Never);
        assert_eq!(absolute.expiry(), Expiry::AtUnix { s: 1_800_000_005 });
    }

    #[test]
    fn frequency_saturates() {
        let mut state = State::new(Expiry::Never, 0xffff);
        let mut changes = 0;
        while state.fetched() != state {
            state = state.fetched();
            changes += 1;
        }
        assert_eq!(
            (changes, state.stamp()),
            (3, 0xffff),
            "the mark and frequency 1, then 2, 3; the stamp is untouched"
        );
    }
}
