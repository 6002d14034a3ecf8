//! A view of one item.

use super::Store;
use super::large::LargeValue;
use super::number::Digits;
use crate::clock::Now;
use crate::log::Location;
use crate::log::record::{Counter, Expiry, Record};
use std::fmt;

/// Bytes that memcached's accounting adds to every item: its header (protocol section 8).
const PROTOCOL_HEADER_BYTES: usize = 48;

/// The size of an item as the protocol counts it (section 8): what the item size limit and `stats` speak of.
///
/// ```
/// // The key `foo` with 3 bytes: `me` prints size=65.
/// assert_eq!(memkv_engine::store::protocol_bytes(3, 0, 3, true), 65);
/// ```
#[must_use]
pub fn protocol_bytes(key_len: usize, flags: u32, value_len: usize, cas: bool) -> usize {
    let cas_bytes = if cas { 8 } else { 0 };
    let flags_bytes = if flags == 0 { 0 } else { 4 };
    PROTOCOL_HEADER_BYTES + cas_bytes + key_len + 1 + flags_bytes + value_len + 2
}

/// A view of one record, valid as long as the batch it was found in. What it shows is what was there at the look-up: a later
/// replacement of the item, or a later change of a counter, does not change it.
#[derive(Clone, Copy)]
pub struct Item<'b> {
    store: &'b Store,
    location: Location,
    record: Record<'b>,
    /// A counter's text and the CAS id that belongs to it, from one look.
    counter: Option<(Digits, u64)>,
}

impl<'b> Item<'b> {
    #[inline]
    pub(super) fn new(store: &'b Store, location: Location, record: Record<'b>) -> Item<'b> {
        Item { store, location, record, counter: record.counter().map(text_and_id) }
    }

    /// The key as it was stored.
    #[must_use]
    #[inline]
    pub fn key(&self) -> &'b [u8] {
        self.record.key()
    }

    /// The value, wherever it lies.
    #[must_use]
    #[inline]
    pub fn value(&self) -> &[u8] {
        if let Some((digits, _)) = &self.counter {
            digits.bytes()
        } else if self.record.is_large() {
            // SAFETY: the record's reference is given up through the epoch only after the record left the index.
            unsafe { LargeValue::peek(self.record.large_address()) }
        } else {
            self.record.inline_value()
        }
    }

    /// The value if it has an allocation of its own: it can be kept and sent after the batch without a copy.
    #[must_use]
    #[inline]
    pub fn large(&self) -> Option<LargeValue> {
        // SAFETY: as in `value`.
        self.record.is_large().then(|| unsafe { LargeValue::share(self.record.large_address()) })
    }

    /// The client's flags.
    #[must_use]
    #[inline]
    pub fn flags(&self) -> u32 {
        self.record.flags()
    }

    /// The CAS id: unique, not 0, and larger than every earlier one of this key (S3 in the module's invariants); 0 in a store without CAS.
    #[must_use]
    #[inline]
    pub fn cas(&self) -> u64 {
        match self.counter {
            Some((_, id)) if self.store.config().cas => id,
            Some(_) => 0,
            None => self.store.cas_of(self.location, self.record),
        }
    }

    /// When the item ends.
    #[must_use]
    pub fn expiry(&self) -> Expiry {
        self.record.state().expiry()
    }

    /// Whole seconds since the item was last accessed; refreshed at most once a minute for hot items.
    #[must_use]
    pub fn idle_s(&self, now: Now) -> u64 {
        (now.mono_ms / 1000).saturating_sub(u64::from(self.record.last_access_s()))
    }

    /// The size as the protocol counts it, see [`protocol_bytes`].
    #[must_use]
    pub fn protocol_bytes(&self) -> usize {
        protocol_bytes(self.key().len(), self.flags(), self.value().len(), self.store.config().cas)
    }
}

/// Apart, so that other items pay for the question only.
#[inline(never)]
fn text_and_id(counter: Counter<'_>) -> (Digits, u64) {
    let pair = counter.pair();
    (Digits::padded(pair.number, counter.width), pair.id())
}

impl fmt::Debug for Item<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Item").field("bytes", &self.value().len()).field("cas", &self.cas()).finish_non_exhaustive()
    }
}
