//! What the meta commands need beyond the classic ones (protocol section 4).
//!
//! An item has two marks in its state: STALE (somebody invalidated it; it may still be served) and WIN (somebody has been told to
//! fetch it anew). *Winning* is the transition from no WIN to WIN, and is made by one compare-and-swap: on the state of the
//! record, or, where that is sealed (R1), on the index word by a copy that carries the mark. So of all who see an item that
//! wants to be refreshed exactly one wins, until the item is stored or invalidated again. An item that `mg` creates is published
//! with WIN set: the one whose insert succeeded has won.
//!
//! Invalidating gives an item a new CAS id and replacing gives it another value, so both make a new record; giving an expiry or a
//! win changes the state in place.

use super::batch::{Batch, Delta, Mode, NewValue, Outcome};
use super::item::Item;
use super::stats::Counter;
use super::view::{ACCESS_RESOLUTION_S, Found, View};
use super::write::{Body, CasOf, EXTRA_BYTES_MAX, NewRecord, copy_record, publish};
use super::{Expiry, StoreError};
use crate::clock::Now;
use crate::limits::KEY_BYTES_MAX;
use crate::log::Location;
use crate::log::record::{Record, State};

/// What a meta get does beside reading. The default reads, marks the item as fetched, and takes the win of a stale item.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Fetch {
    /// Leave the marks and the last access alone (`u`). A win is taken all the same.
    pub peek: bool,
    /// Give the item this expiry (`T`).
    pub touch: Option<Expiry>,
    /// Win if the item ends soon (`R`).
    pub recache: Option<Recache>,
    /// On a miss make an empty item and win it (`N`).
    pub vivify: Option<Vivify>,
}

/// When an item ends too soon.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Recache {
    /// Less than this many seconds remain.
    pub below_s: u64,
    /// By the expiry that the same request gives, rather than by the one that was there.
    pub after_touch: bool,
}

/// How an item is made on a miss.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Vivify {
    /// When it ends, unless [`Fetch::touch`] says otherwise.
    pub expiry: Expiry,
    /// Its CAS id, if it is to have a certain one (`E`).
    pub cas: Option<u64>,
    /// The request named the key in base64.
    pub base64: bool,
}

/// An item as a meta get saw it: what was there before the request changed anything, and what it changed.
#[derive(Clone, Copy, Debug)]
pub struct Fetched<'b> {
    /// The item.
    pub item: Item<'b>,
    /// When it ended before the request.
    pub expiry_before: Expiry,
    /// When it ends now.
    pub expiry: Expiry,
    /// Had it been fetched before?
    pub fetched_before: bool,
    /// Whole seconds since its last access before this one.
    pub idle_s: u64,
    /// Is it stale?
    pub stale: bool,
    /// Had somebody else been told to refresh it already?
    pub win_taken: bool,
    /// Is it this request that shall refresh it?
    pub won: bool,
    /// Was its key stored in base64?
    pub base64: bool,
}

/// The terms of a meta set.
#[derive(Clone, Copy, Debug)]
pub struct Terms {
    /// Client flags. An append or prepend to an item ignores them.
    pub flags: u32,
    /// When the item ends. An append or prepend ignores it.
    pub expiry: Expiry,
    /// Only if the item has this CAS id (`C`). [`Mode::Add`] ignores it.
    pub compare: Option<u64>,
    /// If the item has a larger id than `compare`, store the value all the same, but stale, with the item's own expiry and win mark (`I`).
    pub invalidate: bool,
    /// The CAS id to store, if it is to be a certain one (`E`).
    pub cas: Option<u64>,
    /// An append or prepend to nothing makes an item that ends then (`N`).
    pub vivify: Option<Expiry>,
    /// The request named the key in base64.
    pub base64: bool,
}

impl Default for Terms {
    /// A plain store without flags and without an end.
    fn default() -> Terms {
        Terms {
            flags: 0,
            expiry: Expiry::Never,
            compare: None,
            invalidate: false,
            cas: None,
            vivify: None,
            base64: false,
        }
    }
}

/// What came of a meta set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Receipt {
    /// How it ended.
    pub outcome: Outcome,
    /// The CAS id of the stored item; 0 if nothing was stored.
    pub cas: u64,
    /// Bytes of its whole value; 0 if nothing was stored.
    pub value_len: usize,
}

impl Receipt {
    pub(super) fn nothing(outcome: Outcome) -> Receipt {
        Receipt { outcome, cas: 0, value_len: 0 }
    }

    pub(super) fn stored(cas: u64, value_len: usize) -> Receipt {
        Receipt { outcome: Outcome::Stored, cas, value_len }
    }
}

/// What a meta delete leaves behind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Removal {
    /// Nothing.
    Delete,
    /// The item, marked as stale, to be won once more (`I`).
    Stale {
        /// When it ends from now on, if that changes.
        expiry: Option<Expiry>,
        /// Its CAS id, if it is to be a certain one.
        cas: Option<u64>,
    },
    /// An empty item in its place (`x`).
    Tombstone {
        /// Its client flags.
        flags: u32,
        /// When it ends.
        expiry: Expiry,
        /// Its CAS id; the item's own without one, or a new one if it is stale.
        cas: Option<u64>,
        /// Is it stale too (`I` beside `x`)?
        stale: bool,
        /// The request named the key in base64.
        base64: bool,
    },
}

/// How a meta delete ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Deleted {
    /// As asked.
    Done,
    /// There is no such item.
    NotFound,
    /// The item has another CAS id.
    Exists,
}

/// What a meta arithmetic command does beside counting.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Change {
    /// Only if the item has this CAS id (`C`).
    pub compare: Option<u64>,
    /// Give the item this expiry (`T`).
    pub touch: Option<Expiry>,
    /// On a miss make an item that ends then and holds this number (`N`, `J`).
    pub create: Option<(Expiry, u64)>,
    /// The CAS id to store, if it is to be a certain one (`E`).
    pub cas: Option<u64>,
    /// The request named the key in base64.
    pub base64: bool,
}

/// How a meta arithmetic command ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Calculation {
    /// With a number.
    Done(Sum),
    /// There is no such item.
    NotFound,
    /// The item has another CAS id.
    Exists,
    /// The value is not a number.
    NonNumeric,
}

/// A number that was stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sum {
    /// The number.
    pub number: u64,
    /// The item's CAS id.
    pub cas: u64,
    /// When the item ended before the request.
    pub expiry_before: Expiry,
    /// When it ends now.
    pub expiry: Expiry,
}

/// What a fetch makes of an item's state, and whether it wins.
fn fetch_state(state: State, fetch: &Fetch, now: Now) -> (State, bool) {
    let touched = fetch.touch.map_or(state, |expiry| state.with_expiry(expiry));
    let ends_soon = fetch.recache.is_some_and(|recache| {
        let expiry = if recache.after_touch { touched } else { state }.expiry();
        expiry.remaining_s(now).is_some_and(|left_s| left_s < recache.below_s)
    });
    let won = !state.has(State::WIN) && (state.has(State::STALE) || ends_soon);
    let new = touched.with(State::WIN, won);
    (if fetch.peek { new } else { new.fetched() }, won)
}

impl Batch<'_> {
    /// Meta get: finds an item, and does what `fetch` says in one atomic step. On a hit counts `cmd_touch` and `touch_hits` with a
    /// new expiry, else `cmd_get` and `get_hits`; on a miss `cmd_get` and `get_misses`. An item that is made on a miss is a hit.
    ///
    /// A plain get costs what [`Batch::get`] costs. Where an item is being copied, a new expiry or a win takes a copy of its own; if there is no
    /// memory for it, the item is answered as it was, and the win stays to be taken.
    ///
    /// # Errors
    /// [`StoreError::OutOfMemory`] if the item to be made on a miss has no room.
    ///
    /// # Panics
    /// If the key is longer than [`KEY_BYTES_MAX`].
    pub fn meta_get(&mut self, key: &[u8], hash: u64, fetch: &Fetch) -> Result<Option<Fetched<'_>>, StoreError> {
        let (location, seen, won, idle_s) = loop {
            let view = self.view();
            let (found, state) = match view.find_visible(key, hash) {
                Ok(hit) => hit,
                Err(gone) => {
                    let Some(vivify) = &fetch.vivify else {
                        view.count(Counter::CmdGet);
                        self.count_miss(gone);
                        return Ok(None);
                    };
                    let Some(location) = self.vivify(key, hash, vivify, fetch)? else { continue };
                    // As the item would have been before the rest of the request.
                    let seen = State::new(vivify.expiry, 0).with(State::BASE64, vivify.base64);
                    break (location, seen, true, 0);
                }
            };
            let record = found.record;
            let idle_s = u64::from(view.now_s().saturating_sub(record.last_access_s()));
            let (new, won) = fetch_state(state, fetch, view.now);
            if fetch.touch.is_none() && !won {
                if !fetch.peek {
                    view.mark_fetched(record, state);
                    view.move_last_access(record, state);
                }
                break (found.hit.payload(), state, false, idle_s);
            }
            if state.has(State::SEALED) {
                match self.fetch_by_copy(key, hash, fetch) {
                    Some((location, seen, won)) => break (location, seen, won, idle_s),
                    None => continue,
                }
            }
            // A failure means that another change of the state came first: look again.
            if record.change_state(state, new) {
                if let Some(expiry) = fetch.touch {
                    view.note_expiry(found.hit.payload(), expiry);
                }
                if !fetch.peek {
                    view.move_last_access(record, state);
                }
                break (found.hit.payload(), state, won, idle_s);
            }
        };
        let view = self.view();
        let (requests, hits) = if fetch.touch.is_some() {
            (Counter::CmdTouch, Counter::TouchHits)
        } else {
            (Counter::CmdGet, Counter::GetHits)
        };
        view.count(requests);
        view.count(hits);
        // SAFETY: found under our guard, or stored by us just now.
        let record = unsafe { self.store.record(location) };
        let item = Item::new(self.store, location, record);
        let expiry = fetch.touch.unwrap_or(seen.expiry());
        Ok(Some(Fetched { expiry, won, idle_s, ..Fetched::of(item, seen) }))
    }

    /// Puts an empty, won item in the place of nothing. `None`: somebody else was first, look again.
    #[cold]
    fn vivify(
        &mut self,
        key: &[u8],
        hash: u64,
        vivify: &Vivify,
        fetch: &Fetch,
    ) -> Result<Option<Location>, StoreError> {
        assert!(key.len() <= KEY_BYTES_MAX, "a key has at most {KEY_BYTES_MAX} bytes");
        self.writer.ensure_room(self.store, key.len() + EXTRA_BYTES_MAX, &mut self.guard)?;
        let view = View { store: self.store, guard: &self.guard, now: self.now, stripe: self.writer.stripe };
        // The stamp of now: the item depends on no other (S5).
        let state = State::new(fetch.touch.unwrap_or(vivify.expiry), view.store.flush_stamp())
            .with(State::WIN, true)
            .with(State::FETCHED, !fetch.peek)
            .with(State::BASE64, vivify.base64);
        let draft = NewRecord { key, hash, state, flags: 0, cas: CasOf::asked(vivify.cas) };
        Ok(publish(self.writer, view, None, draft, Body::Inline([&[], &[]])).ok())
    }

    /// A fetch of a sealed record: its changes are made by a copy (R1). `None`: look again.
    #[cold]
    fn fetch_by_copy(&mut self, key: &[u8], hash: u64, fetch: &Fetch) -> Option<(Location, State, bool)> {
        let (found, _) = self.view().find_visible(key, hash).ok()?;
        let room = found.record.shape().bytes() + EXTRA_BYTES_MAX;
        if self.writer.ensure_room(self.store, room, &mut self.guard).is_err() {
            // The guard has moved, and the item perhaps with it: what was found before is nothing any more (T6).
            let (found, state) = self.view().find_visible(key, hash).ok()?;
            return Some((found.hit.payload(), state, false));
        }
        let view = View { store: self.store, guard: &self.guard, now: self.now, stripe: self.writer.stripe };
        let (found, _) = view.find_visible(key, hash).ok()?;
        if found.record.shape().bytes() + EXTRA_BYTES_MAX > room {
            return None;
        }
        let sealed = found.record.seal();
        let (new, won) = fetch_state(sealed, fetch, view.now);
        let copy = copy_record(self.writer, view, found, key, hash, CasOf::Old, |_| new).ok()?;
        Some((copy, sealed, won))
    }

    /// Meta debug: an item's figures, without marking it as fetched. Counts `cmd_meta` and nothing else.
    pub fn meta_inspect(&self, key: &[u8], hash: u64) -> Option<Fetched<'_>> {
        let view = self.view();
        view.count(Counter::CmdMeta);
        let (Found { hit, record }, state) = view.find_visible(key, hash).ok()?;
        let idle_s = u64::from(view.now_s().saturating_sub(record.last_access_s()));
        let item = Item::new(self.store, hit.payload(), record);
        Some(Fetched { idle_s, ..Fetched::of(item, state) })
    }

    /// Meta set. [`Mode::Cas`] is [`Mode::Set`] with a [`Terms::compare`]. Counts `cmd_set`, and for a set or replace that compares a cas hit,
    /// bad value or miss.
    ///
    /// # Errors
    /// As for [`Batch::store`].
    ///
    /// # Panics
    /// If the key is longer than [`KEY_BYTES_MAX`].
    pub fn meta_store(
        &mut self,
        mode: Mode,
        key: &[u8],
        hash: u64,
        value: NewValue<'_>,
        terms: &Terms,
    ) -> Result<Receipt, StoreError> {
        assert!(key.len() <= KEY_BYTES_MAX, "a key has at most {KEY_BYTES_MAX} bytes");
        let (mode, terms) = match mode {
            Mode::Cas(id) => (Mode::Set, Terms { compare: Some(id), ..*terms }),
            mode => (mode, *terms),
        };
        let extends = matches!(mode, Mode::Append | Mode::Prepend);
        let result = if extends {
            self.extend(mode, key, hash, value.bytes(), &terms)
        } else {
            self.put_on_terms(mode, key, hash, value, &terms)
        };
        let view = self.view();
        match result {
            Ok(receipt) => {
                view.count(Counter::CmdSet);
                if terms.compare.is_some() && matches!(mode, Mode::Set | Mode::Replace) {
                    view.count(match receipt.outcome {
                        Outcome::Stored => Counter::CasHits,
                        Outcome::NotFound => Counter::CasMisses,
                        Outcome::Exists | Outcome::NotStored => Counter::CasBadval,
                    });
                }
            }
            Err(error) => self.refuse(mode, key, hash, error),
        }
        result
    }

    /// Set, add and replace.
    pub(super) fn put_on_terms(
        &mut self,
        mode: Mode,
        key: &[u8],
        hash: u64,
        value: NewValue<'_>,
        terms: &Terms,
    ) -> Result<Receipt, StoreError> {
        let value_len = value.len();
        let mut body = self.body(key.len(), terms.flags, value)?;
        let compare = terms.compare.filter(|_| mode != Mode::Add);
        loop {
            let room = key.len() + body.log_len() + EXTRA_BYTES_MAX;
            self.writer.ensure_room(self.store, room, &mut self.guard)?;
            let view = View { store: self.store, guard: &self.guard, now: self.now, stripe: self.writer.stripe };
            let found = view.find(key, hash);
            let visible = view.visible(found);
            // What a condition was found to hold for makes the new item as old as itself (S5).
            let state = match (mode, visible, compare) {
                (Mode::Add, Some(Found { record, .. }), _) => {
                    view.mark_met(record, record.state());
                    return Ok(Receipt::nothing(Outcome::NotStored));
                }
                (_, None, Some(_)) => return Ok(Receipt::nothing(Outcome::NotFound)),
                (Mode::Replace, None, None) => return Ok(Receipt::nothing(Outcome::NotStored)),
                (_, Some(old), Some(id)) => {
                    let seen = view.store.cas_of(old.hit.payload(), old.record);
                    // An id that is equal must also stay so until the item is replaced (R2).
                    let is = if id == seen { view.store.final_cas(old.hit.payload(), old.record) } else { seen };
                    // No item has the id 0, and those of a store without ids have none.
                    if id != 0 && id == is {
                        State::new(terms.expiry, old.record.state().stamp())
                    } else if terms.invalidate && id != 0 && id < is {
                        // Sealed from here on (R1): the new item keeps expiry, stamp and win mark.
                        let sealed = old.record.seal();
                        State::new(sealed.expiry(), sealed.stamp())
                            .with(State::STALE, true)
                            .with(State::WIN, sealed.has(State::WIN))
                    } else {
                        return Ok(Receipt::nothing(Outcome::Exists));
                    }
                }
                (Mode::Replace, Some(old), None) => State::new(terms.expiry, old.record.state().stamp()),
                _ => State::new(terms.expiry, view.store.flush_stamp()),
            };
            let state = state.with(State::BASE64, terms.base64);
            let draft = NewRecord { key, hash, state, flags: terms.flags, cas: CasOf::asked(terms.cas) };
            body = match publish(self.writer, view, found, draft, body) {
                Ok(location) => return Ok(Receipt::stored(view.id_at(location), value_len)),
                Err(back) => back,
            };
        }
    }

    /// Meta delete: takes an item out, or leaves a stale or an empty one in its place; with `compare` only if it has that CAS id.
    /// Counts a delete hit unless the item stays as a stale one, and a delete miss when nothing was done.
    ///
    /// # Errors
    /// [`StoreError::OutOfMemory`] if what is to stay has no room; the item is as it was.
    pub fn meta_delete(
        &mut self,
        key: &[u8],
        hash: u64,
        compare: Option<u64>,
        removal: Removal,
    ) -> Result<Deleted, StoreError> {
        let deleted = self.remove(key, hash, compare, removal)?;
        let view = self.view();
        match (deleted, removal) {
            (Deleted::Done, Removal::Stale { .. } | Removal::Tombstone { stale: true, .. }) => {}
            (Deleted::Done, _) => view.count(Counter::DeleteHits),
            (Deleted::NotFound | Deleted::Exists, _) => view.count(Counter::DeleteMisses),
        }
        Ok(deleted)
    }

    fn remove(&mut self, key: &[u8], hash: u64, compare: Option<u64>, removal: Removal) -> Result<Deleted, StoreError> {
        let mut room = key.len() + EXTRA_BYTES_MAX;
        loop {
            if removal != Removal::Delete {
                self.writer.ensure_room(self.store, room, &mut self.guard)?;
            }
            let view = View { store: self.store, guard: &self.guard, now: self.now, stripe: self.writer.stripe };
            let Ok((found, _)) = view.find_visible(key, hash) else {
                return Ok(Deleted::NotFound);
            };
            if compare.is_some_and(|id| !view.has_id_for_good(found, id)) {
                return Ok(Deleted::Exists);
            }
            // A failure below means that the item has changed meanwhile: look again.
            let done = match removal {
                Removal::Delete => view.unlink(found),
                Removal::Stale { expiry, cas } => {
                    let needed = found.record.shape().bytes() + EXTRA_BYTES_MAX;
                    if needed > room {
                        room = needed;
                        continue;
                    }
                    let change = |sealed: State| {
                        let state = expiry.map_or(sealed, |expiry| sealed.with_expiry(expiry));
                        state.with(State::STALE, true).without(State::WIN)
                    };
                    copy_record(self.writer, view, found, key, hash, CasOf::asked(cas), change).is_ok()
                }
                Removal::Tombstone { flags, expiry, cas, stale, base64 } => {
                    // As old as the item it replaces (S5).
                    let state = State::new(expiry, found.record.state().stamp())
                        .with(State::STALE, stale)
                        .with(State::BASE64, base64);
                    let cas = match cas {
                        None if !stale => CasOf::Old,
                        cas => CasOf::asked(cas),
                    };
                    let draft = NewRecord { key, hash, state, flags, cas };
                    publish(self.writer, view, Some(found), draft, Body::Inline([&[], &[]])).is_ok()
                }
            };
            if done {
                return Ok(Deleted::Done);
            }
        }
    }

    /// Meta arithmetic. Counts as [`Batch::arith`] does; an item that is made on a miss counts as neither hit nor miss.
    ///
    /// # Errors
    /// [`StoreError::OutOfMemory`] if there is no room for the new record; the old number stays.
    ///
    /// # Panics
    /// If the key is longer than [`KEY_BYTES_MAX`].
    pub fn meta_arith(
        &mut self,
        key: &[u8],
        hash: u64,
        delta: Delta,
        change: &Change,
    ) -> Result<Calculation, StoreError> {
        assert!(key.len() <= KEY_BYTES_MAX, "a key has at most {KEY_BYTES_MAX} bytes");
        self.calculate(key, hash, delta, change)
    }
}

impl View<'_> {
    /// memcached moves the time of an item on its second fetch, and then rarely (protocol 4.2); so do we, once a minute at most.
    fn move_last_access(self, record: Record<'_>, before: State) {
        let now_s = self.now_s();
        if before.was_fetched_once() || now_s.wrapping_sub(record.last_access_s()) >= ACCESS_RESOLUTION_S {
            record.set_last_access_s(now_s);
        }
    }
}

impl<'b> Fetched<'b> {
    /// An item in this state, to which nothing has been done.
    pub(super) fn of(item: Item<'b>, state: State) -> Fetched<'b> {
        Fetched {
            item,
            expiry_before: state.expiry(),
            expiry: state.expiry(),
            fetched_before: state.has(State::FETCHED),
            idle_s: 0,
            stale: state.has(State::STALE),
            win_taken: state.has(State::WIN),
            won: false,
            base64: state.has(State::BASE64),
        }
    }
}
