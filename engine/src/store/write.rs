//! Everything that makes a new record: one draft at the tail of the open segment, one CAS that publishes it.

use super::batch::{ArithOutcome, Batch, Delta, Mode, NewValue, Outcome};
use super::handle::{Use, Writer};
use super::large::LargeValue;
use super::meta::{Calculation, Change, Receipt, Sum, Terms};
use super::number::{self, DIGITS_MAX, Digits, digits_of};
use super::stats::{BYTES_CELL, Counter};
use super::view::{Found, View};
use super::{ByKey, Expiry, Store, StoreError, protocol_bytes};
use crate::limits::{ARITH_ITEM_BYTES_MAX, KEY_BYTES_MAX};
use crate::log::pair::{self, Pair, Refusal};
use crate::log::record::{ALIGN, Draft, HEADER_BYTES, Record, Shape, State};
use crate::log::segments::Queue;
use crate::log::{CAS_POSITION_BITS, Location};
use crate::sync::Ordering;
use crate::table::Inserted;

/// The most that a record has beyond key and value: header, CAS id, flags, padding.
pub(super) const EXTRA_BYTES_MAX: usize = HEADER_BYTES + 8 + 4 + ALIGN;

/// A value on its way into a record.
pub(super) enum Body<'a> {
    /// Parts to copy one behind the other.
    Inline([&'a [u8]; 2]),
    Large(LargeValue),
    /// A counter, printed in at least `width` bytes, [`DIGITS_MAX`] at most.
    Number {
        number: u64,
        width: usize,
    },
}

impl Body<'_> {
    fn len(&self) -> usize {
        match self {
            Body::Inline(parts) => parts[0].len() + parts[1].len(),
            Body::Large(value) => value.len(),
            Body::Number { number, width } => digits_of(*number).max(*width),
        }
    }

    /// Bytes in the log, but for a counter.
    pub(super) fn log_len(&self) -> usize {
        match self {
            Body::Inline(_) | Body::Number { .. } => self.len(),
            Body::Large(_) => size_of::<usize>(),
        }
    }
}

impl Batch<'_> {
    /// Stores a value. Counts `cmd_set` and what else the outcome says.
    ///
    /// Lock-free; may split eight buckets of the index, and, when a segment is full, open another and evict the oldest.
    ///
    /// # Errors
    /// [`StoreError::TooLarge`], [`StoreError::OutOfMemory`]; [`Mode::Set`] has then removed the old item (protocol 6.2). An append or prepend that does
    /// not fit is [`Outcome::NotStored`], not an error.
    ///
    /// # Panics
    /// If the key is longer than [`KEY_BYTES_MAX`].
    pub fn store(
        &mut self,
        mode: Mode,
        key: &[u8],
        hash: u64,
        flags: u32,
        expiry: Expiry,
        value: NewValue<'_>,
    ) -> Result<Outcome, StoreError> {
        assert!(key.len() <= KEY_BYTES_MAX, "a key has at most {KEY_BYTES_MAX} bytes");
        let result = match mode {
            Mode::Append | Mode::Prepend => {
                self.extend(mode, key, hash, value.bytes(), &Terms::default()).map(|end| end.outcome)
            }
            Mode::Set | Mode::Add | Mode::Replace | Mode::Cas(_) => self.put(mode, key, hash, flags, expiry, value),
        };
        let view = self.view();
        match result {
            Ok(outcome) => {
                view.count(Counter::CmdSet);
                match (mode, outcome) {
                    (Mode::Cas(_), Outcome::Stored) => view.count(Counter::CasHits),
                    (_, Outcome::Exists) => view.count(Counter::CasBadval),
                    (_, Outcome::NotFound) => view.count(Counter::CasMisses),
                    _ => {}
                }
            }
            Err(error) => self.refuse(mode, key, hash, error),
        }
        result
    }

    /// Books a storage command that was refused before its value was there, and, for [`Mode::Set`], removes the old item: a client
    /// that is told of an error must not go on reading the value it meant to replace (protocol 6.2).
    pub fn refuse(&mut self, mode: Mode, key: &[u8], hash: u64, error: StoreError) {
        let view = self.view();
        view.count(match error {
            StoreError::TooLarge => Counter::StoreTooLarge,
            StoreError::OutOfMemory => Counter::StoreNoMemory,
        });
        if mode == Mode::Set {
            // Ends: a failure means that somebody else has changed or removed the item.
            while view.find(key, hash).is_some_and(|found| !view.unlink(found)) {}
        }
    }

    fn put(
        &mut self,
        mode: Mode,
        key: &[u8],
        hash: u64,
        flags: u32,
        expiry: Expiry,
        value: NewValue<'_>,
    ) -> Result<Outcome, StoreError> {
        let mut body = self.body(key.len(), flags, value)?;
        loop {
            let room = key.len() + body.log_len() + EXTRA_BYTES_MAX;
            self.writer.ensure_room(self.store, room, &mut self.guard)?;
            let view = View { store: self.store, guard: &self.guard, now: self.now, stripe: self.writer.stripe };
            let found = view.find(key, hash);
            let visible = view.visible(found);
            match (mode, visible) {
                (Mode::Add, Some(Found { record, .. })) => {
                    // A failed add counts as a use of the item (protocol section 3).
                    view.mark_met(record, record.state());
                    return Ok(Outcome::NotStored);
                }
                (Mode::Replace, None) => return Ok(Outcome::NotStored),
                (Mode::Cas(_), None) => return Ok(Outcome::NotFound),
                (Mode::Cas(id), Some(found)) if id == 0 || !view.has_id_for_good(found, id) => {
                    return Ok(Outcome::Exists);
                }
                _ => {}
            }
            // A condition that held for an item holds only as long as no flush comes between: the new item is as old as that one. Else
            // the stamp of now, read after the old record was found (S5).
            let stamp = match (mode, visible) {
                (Mode::Replace | Mode::Cas(_), Some(visible)) => visible.record.state().stamp(),
                _ => view.store.flush_stamp(),
            };
            let state = State::new(expiry, stamp);
            let draft = NewRecord { key, hash, state, flags, cas: CasOf::New };
            body = match publish(self.writer, view, found, draft, body) {
                Ok(_) => return Ok(Outcome::Stored),
                Err(back) => back,
            };
        }
    }

    /// Brings a value that fits into the shape in which it will be published.
    #[inline]
    pub(super) fn body<'v>(&mut self, key_len: usize, flags: u32, value: NewValue<'v>) -> Result<Body<'v>, StoreError> {
        if !self.store.fits(key_len, flags, value.len()) {
            return Err(StoreError::TooLarge);
        }
        Ok(match value {
            NewValue::Large(mut buffer) => {
                // Nothing to do, unless the caller has stored what it did not fill.
                self.writer.complete(self.store, &mut buffer, &mut self.guard)?;
                Body::Large(buffer.freeze())
            }
            NewValue::Bytes(bytes) if self.store.is_large(key_len, bytes.len()) => {
                let mut buffer = self.writer.allocate(self.store, bytes.len(), &mut self.guard)?;
                buffer.copy_from_slice(bytes);
                Body::Large(buffer.freeze())
            }
            NewValue::Bytes(bytes) => Body::Inline([bytes, &[]]),
        })
    }

    /// Append and prepend. The classic commands have no further terms.
    pub(super) fn extend(
        &mut self,
        mode: Mode,
        key: &[u8],
        hash: u64,
        addition: &[u8],
        terms: &Terms,
    ) -> Result<Receipt, StoreError> {
        loop {
            let view = self.view();
            let Ok((found, _)) = view.find_visible(key, hash) else {
                let Some(expiry) = terms.vivify else {
                    return Ok(Receipt::nothing(Outcome::NotStored));
                };
                let terms = Terms { expiry, compare: None, ..*terms };
                let added = self.put_on_terms(Mode::Add, key, hash, NewValue::Bytes(addition), &terms)?;
                if added.outcome == Outcome::Stored {
                    return Ok(added);
                }
                // Somebody else was first: extend theirs.
                continue;
            };
            if terms.compare.is_some_and(|id| !view.has_id(found, id)) {
                return Ok(Receipt::nothing(Outcome::Exists));
            }
            let old_len = value_len_of(found.record);
            let len = old_len + addition.len();
            if !self.store.fits(key.len(), found.record.flags(), len) {
                return Ok(Receipt::nothing(Outcome::NotStored));
            }
            // Room first, which may move the guard; then find again what is to be extended.
            let buffer = if self.store.is_large(key.len(), len) {
                match self.writer.allocate(self.store, len, &mut self.guard) {
                    Ok(buffer) => Some(buffer),
                    Err(_) => return Ok(Receipt::nothing(Outcome::NotStored)),
                }
            } else {
                None
            };
            let log_len = if buffer.is_some() { size_of::<usize>() } else { len };
            let room = key.len() + log_len + EXTRA_BYTES_MAX;
            if self.writer.ensure_room(self.store, room, &mut self.guard).is_err() {
                return Ok(Receipt::nothing(Outcome::NotStored));
            }
            let view = View { store: self.store, guard: &self.guard, now: self.now, stripe: self.writer.stripe };
            let Ok((found, _)) = view.find_visible(key, hash) else {
                continue;
            };
            if value_len_of(found.record) != old_len || terms.compare.is_some_and(|id| !view.has_id(found, id)) {
                continue;
            }
            // Sealed from here on (R1, R2): the new item keeps expiry and stamp, and loses the marks.
            let sealed = found.record.seal();
            if terms.compare.is_some_and(|id| !view.has_id(found, id)) {
                continue;
            }
            let mut digits = Digits::of(0);
            let old_value = value_of(found.record, &mut digits);
            let parts = if mode == Mode::Append { [old_value, addition] } else { [addition, old_value] };
            let body = match buffer {
                None => Body::Inline(parts),
                Some(mut buffer) => {
                    let (first, second) = buffer.split_at_mut(parts[0].len());
                    first.copy_from_slice(parts[0]);
                    second.copy_from_slice(parts[1]);
                    Body::Large(buffer.freeze())
                }
            };
            let state = State::new(sealed.expiry(), sealed.stamp()).with(State::BASE64, terms.base64);
            let draft = NewRecord { key, hash, state, flags: found.record.flags(), cas: CasOf::asked(terms.cas) };
            if let Ok(location) = publish(self.writer, view, Some(found), draft, body) {
                return Ok(Receipt::stored(view.id_at(location), len));
            }
        }
    }

    /// Replaces an item by a copy with another state and the same id. `None`: it has changed meanwhile, look again. Without memory for the copy
    /// the item stays as it is.
    pub(super) fn rewrite(&mut self, key: &[u8], hash: u64, change: impl Fn(State) -> State) -> Option<Location> {
        let (found, _) = self.view().find_visible(key, hash).ok()?;
        let room = found.record.shape().bytes() + EXTRA_BYTES_MAX;
        if self.writer.ensure_room(self.store, room, &mut self.guard).is_err() {
            // The guard has moved, and the item perhaps with it: what was found before is nothing any more (T6).
            return self.view().find_visible(key, hash).ok().map(|(found, _)| found.hit.payload());
        }
        let view = View { store: self.store, guard: &self.guard, now: self.now, stripe: self.writer.stripe };
        let (found, _) = view.find_visible(key, hash).ok()?;
        if found.record.shape().bytes() + EXTRA_BYTES_MAX > room {
            return None;
        }
        copy_record(self.writer, view, found, key, hash, CasOf::Old, change).ok()
    }

    /// Increments or decrements a decimal number. Counts hits and misses.
    ///
    /// The number keeps its width: a shorter result is padded with spaces on the right (protocol 3.1). The first change makes a
    /// counter of it. From then on a change whose result fits the width costs one 128-bit compare-and-swap and no memory; one that
    /// needs another digit makes a new record.
    ///
    /// # Errors
    /// [`StoreError::OutOfMemory`] if there is no room for a new record; the old number stays.
    pub fn arith(&mut self, key: &[u8], hash: u64, delta: Delta) -> Result<ArithOutcome, StoreError> {
        Ok(match self.calculate(key, hash, delta, &Change::default())? {
            Calculation::Done(sum) => ArithOutcome::Value(sum.number),
            Calculation::NotFound => ArithOutcome::NotFound,
            Calculation::NonNumeric => ArithOutcome::NonNumeric,
            Calculation::Exists => unreachable!("nothing was compared"),
        })
    }

    /// What [`Batch::arith`] and [`Batch::meta_arith`] share.
    #[inline]
    pub(super) fn calculate(
        &mut self,
        key: &[u8],
        hash: u64,
        delta: Delta,
        change: &Change,
    ) -> Result<Calculation, StoreError> {
        // The usual case apart from the others, so that its code is short.
        let view = self.view();
        if let Some(found) = view.find(key, hash) {
            let state = found.record.state();
            if view.store.gone(state, view.now).is_none()
                && let Some(end) = view.calculate_in_place(found.record, state, delta, change)
            {
                return Ok(end);
            }
        }
        self.calculate_by_record(key, hash, delta, change)
    }

    #[inline(never)]
    fn calculate_by_record(
        &mut self,
        key: &[u8],
        hash: u64,
        delta: Delta,
        change: &Change,
    ) -> Result<Calculation, StoreError> {
        let (hits, misses) = match delta {
            Delta::Incr(_) => (Counter::IncrHits, Counter::IncrMisses),
            Delta::Decr(_) => (Counter::DecrHits, Counter::DecrMisses),
        };
        // None until it is known that a new record is needed: a counter is changed in place also when memory is full.
        let mut room = 0;
        let mut buffer = None;
        loop {
            if room > 0 {
                self.writer.ensure_room(self.store, room, &mut self.guard)?;
            }
            let view = View { store: self.store, guard: &self.guard, now: self.now, stripe: self.writer.stripe };
            let Ok((found, state)) = view.find_visible(key, hash) else {
                let Some((expiry_before, number)) = change.create else {
                    view.count(misses);
                    return Ok(Calculation::NotFound);
                };
                if room == 0 {
                    room = number_room(key, 0);
                    continue;
                }
                let expiry = change.touch.unwrap_or(expiry_before);
                // What is in the index and not visible is taken over by the insert's CAS, or has just been dropped.
                let state = State::new(expiry, view.store.flush_stamp()).with(State::BASE64, change.base64);
                let draft = NewRecord { key, hash, state, flags: 0, cas: CasOf::asked(change.cas) };
                if let Ok(location) = publish(self.writer, view, None, draft, Body::Number { number, width: 0 }) {
                    return Ok(Calculation::Done(Sum { number, cas: view.id_at(location), expiry_before, expiry }));
                }
                continue;
            };
            if let Some(end) = view.calculate_in_place(found.record, state, delta, change) {
                return Ok(end);
            }
            if change.compare.is_some_and(|id| !view.has_id(found, id)) {
                return Ok(Calculation::Exists);
            }
            let mut digits = Digits::of(0);
            let width = value_len_of(found.record);
            if found.record.counter().is_none() {
                let bytes = protocol_bytes(key.len(), found.record.flags(), width, self.store.config.cas);
                if bytes > ARITH_ITEM_BYTES_MAX || number::parse(value_of(found.record, &mut digits)).is_none() {
                    return Ok(Calculation::NonNumeric);
                }
            }
            // Room first, which may move the guard; then find again what is to be changed.
            let is_large = found.record.is_large();
            let needed = number_room(key, if is_large { 0 } else { width });
            let has_buffer = buffer.as_ref().is_some_and(|buffer: &super::LargeBuf| buffer.len() == width);
            if needed > room || is_large && !has_buffer {
                room = room.max(needed);
                buffer = if is_large { Some(self.writer.allocate(self.store, width, &mut self.guard)?) } else { None };
                continue;
            }
            // Sealed from here on (R1, R2): number, id and state are final.
            let sealed = found.record.seal();
            if change.compare.is_some_and(|id| !view.has_id(found, id)) {
                return Ok(Calculation::Exists);
            }
            let old_number = match found.record.seal_pair() {
                Some(pair) => pair.number,
                None => number::parse(value_of(found.record, &mut digits)).expect("it is one, and fixed"),
            };
            let number = delta.applied_to(old_number);
            let expiry_before = sealed.expiry();
            let expiry = change.touch.unwrap_or(expiry_before);
            // A result that fits keeps the marks, like memcached's change in place (protocol 3.1).
            let fresh = State::new(expiry, sealed.stamp());
            let state = if digits_of(number) <= width {
                fresh.with_marks_of(sealed)
            } else {
                fresh.with(State::BASE64, change.base64)
            };
            let draft = NewRecord { key, hash, state, flags: found.record.flags(), cas: CasOf::asked(change.cas) };
            let digits = Digits::of(number);
            // Numbers with so many spaces behind them are rare enough for an allocation.
            let padding = vec![b' '; if width > DIGITS_MAX && !is_large { width - digits.bytes().len() } else { 0 }];
            // One that was made for a large value which is gone is given back.
            let body = match buffer.take().filter(|_| is_large) {
                Some(mut buffer) => {
                    let (head, tail) = buffer.split_at_mut(digits.bytes().len());
                    head.copy_from_slice(digits.bytes());
                    tail.fill(b' ');
                    Body::Large(buffer.freeze())
                }
                None if width > DIGITS_MAX => Body::Inline([digits.bytes(), &padding]),
                None => Body::Number { number, width },
            };
            if let Ok(location) = publish(self.writer, view, Some(found), draft, body) {
                view.count(hits);
                return Ok(Calculation::Done(Sum { number, cas: view.id_at(location), expiry_before, expiry }));
            }
        }
    }
}

impl Delta {
    #[inline]
    fn applied_to(self, number: u64) -> u64 {
        match self {
            Delta::Incr(by) => number.wrapping_add(by),
            Delta::Decr(by) => number.saturating_sub(by),
        }
    }
}

/// Room for a number that replaces a value of this length.
fn number_room(key: &[u8], value_len: usize) -> usize {
    key.len() + value_len + 2 * DIGITS_MAX + EXTRA_BYTES_MAX
}

/// Why a counter is not changed in place.
#[derive(Clone, Copy, PartialEq, Eq)]
enum InPlace {
    /// It has another CAS id than the client compares with.
    Exists,
    /// The result has more digits than the counter has room for.
    TooLong,
}

impl View<'_> {
    /// Changes a counter by one compare-and-swap. `None`: it takes a new record, because this is no counter, or is sealed (R2), or the number
    /// grows longer, or more than the number is to change.
    // Always: returned through memory, the answer costs more than a tenth of the whole.
    #[inline(always)]
    fn calculate_in_place(
        self,
        record: Record<'_>,
        state: State,
        delta: Delta,
        change: &Change,
    ) -> Option<Calculation> {
        let counter = record.counter()?;
        // A new expiry and an id of the client's must change together with the number.
        if change.cas.is_some() || change.touch.is_some_and(|expiry| expiry != state.expiry()) {
            return None;
        }
        let segments = &self.store.log.segments;
        let has_ids = self.store.config.cas;
        let result = pair::change(counter.pair, |pair| {
            let shown_id = if has_ids { pair.id() } else { 0 };
            if change.compare.is_some_and(|id| id != shown_id) {
                return Err(InPlace::Exists);
            }
            let number = delta.applied_to(pair.number);
            if !number::fits(number, counter.width) {
                return Err(InPlace::TooLong);
            }
            // Without ids the pair's stays 0.
            let id =
                if has_ids { pair::next_id(pair.id(), CAS_POSITION_BITS, || segments.next_generation()) } else { 0 };
            if Pair::can_hold(id) { Ok(Pair::new(number, id)) } else { Err(InPlace::TooLong) }
        });
        match result {
            Ok(pair) => {
                self.mark_used(record, state);
                self.count(match delta {
                    Delta::Incr(_) => Counter::IncrHits,
                    Delta::Decr(_) => Counter::DecrHits,
                });
                let expiry = state.expiry();
                Some(Calculation::Done(Sum { number: pair.number, cas: pair.id(), expiry_before: expiry, expiry }))
            }
            Err(Refusal::Unwanted(InPlace::Exists)) => Some(Calculation::Exists),
            Err(Refusal::Sealed | Refusal::Unwanted(InPlace::TooLong)) => None,
        }
    }
}

/// What is new about a record that is to be published.
#[derive(Clone, Copy)]
pub(super) struct NewRecord<'a> {
    pub(super) key: &'a [u8],
    pub(super) hash: u64,
    pub(super) state: State,
    pub(super) flags: u32,
    pub(super) cas: CasOf,
}

/// Writes a record into the open segment and publishes it in place of `old`, or, without one, as a new entry.
///
/// There must be room. If the item has changed meanwhile, the body comes back: find again.
pub(super) fn publish<'a>(
    writer: &mut Writer,
    view: View<'_>,
    old: Option<Found<'_>>,
    new: NewRecord<'_>,
    body: Body<'a>,
) -> Result<Location, Body<'a>> {
    let View { store, guard, .. } = view;
    let old_cas = old.map(|old| (store.final_cas(old.hit.payload(), old.record), old.record.stored_cas().is_some()));
    let queue = queue_for(writer, store, old, &new, &body);
    let location = writer.next_location(store, queue);
    let is_counter = matches!(body, Body::Number { .. });
    let cas = match new.cas {
        // A generation of the counter's own (see `log::pair`), taken after the old id became final: it exceeds that.
        CasOf::New if is_counter => store.config.cas.then(|| store.log.segments.next_generation() << CAS_POSITION_BITS),
        CasOf::New => writer.explicit_cas(store, location, old_cas),
        CasOf::Old => old_cas.map(|(id, _)| id).filter(|_| store.config.cas),
        CasOf::Client(id) => {
            // S3: the ids that we make later look at the floor, not at this one.
            if let Some((old, _)) = old_cas {
                store.raise_cas_floor(old);
            }
            Some(id).filter(|_| store.config.cas)
        }
    };
    let value_len = body.len();
    // An item that is replaced is as popular as it was.
    let state = old.map_or(new.state, |old| new.state.with_frequency_of(old.record.state()));
    let draft = |value, cas, pair| Draft {
        state,
        last_access_s: view.now_s(),
        cas,
        flags: new.flags,
        key: new.key,
        value,
        pair,
    };
    let shape = |len| Shape::new(new.key.len(), new.flags != 0, cas.is_some(), len);
    // SAFETY: `ensure_room` left at least this much behind the tail of our own open segment.
    let write = |shape, draft: &Draft<'_>| unsafe { Record::write(store.log.address(location), shape, draft) };
    let (body, record) = match body {
        Body::Inline(parts) => (Body::Inline(parts), write(shape(Some(value_len)), &draft(parts, cas, None))),
        Body::Large(value) => {
            // The record takes a reference of its own, given back below if it is not published (S4).
            let address = value.clone().into_address().to_ne_bytes();
            (Body::Large(value), write(shape(None), &draft([&address, &[]], cas, None)))
        }
        Body::Number { number, width } => {
            let id = cas.unwrap_or(0);
            let record = if matches!(new.cas, CasOf::Client(_)) || !Pair::can_hold(id) {
                // The ids after one that a client chose do not follow from it (S3), so this is no counter yet.
                let digits = Digits::padded(number, width);
                write(shape(Some(value_len)), &draft([digits.bytes(), &[]], cas, None))
            } else {
                let shape = Shape::counter(new.key.len(), new.flags != 0, value_len);
                write(shape, &draft([&[], &[]], None, Some(Pair::new(number, id))))
            };
            (Body::Number { number, width }, record)
        }
    };
    let (record_bytes, large_bytes) = (record.shape().bytes(), if record.is_large() { value_len } else { 0 });
    writer.advance(store, queue, record_bytes, large_bytes);
    let keys = ByKey { store, key: new.key };
    let published = match old {
        Some(old) => store.table.replace(old.hit, location, &keys, guard).is_ok(),
        // T4: a claim that lost leaves its record behind as dead bytes; the next try writes another.
        None => matches!(store.table.insert(new.hash, location, &keys, guard), Inserted::New),
    };
    if !published {
        if record.is_large() {
            // SAFETY: the reference made above: the record is in no slot, so nobody else takes it.
            drop(unsafe { LargeValue::from_address(record.large_address()) });
        }
        return Err(body);
    }
    writer.note_published(store, queue, record_bytes, large_bytes);
    view.note_expiry(location, state.expiry());
    match old {
        Some(old) => store.account_removal(old.hit.payload(), old.record, view.stripe, guard),
        // Growth can wait when the index has no room left; the chains get longer meanwhile (L3).
        None if store.log.index_may_grow(store.table.bytes()) => store.table.grow_step(&keys, guard),
        None => {}
    }
    let bytes = protocol_bytes(new.key.len(), new.flags, value_len, store.config.cas);
    store.counters.cells.add(view.stripe, BYTES_CELL, bytes as u64);
    view.count(Counter::TotalItems);
    if old.is_none() && new.cas == CasOf::New && store.config.cas {
        return Ok(mend_cas_order(writer, view, new, location));
    }
    Ok(location)
}

/// The queue that a new record goes to: that of the record it replaces, or the main queue if the key was evicted not long ago. Without room
/// there, the small queue, which has it.
fn queue_for(
    writer: &mut Writer,
    store: &Store,
    old: Option<Found<'_>>,
    new: &NewRecord<'_>,
    body: &Body<'_>,
) -> Queue {
    let wants_main = match old {
        Some(old) => store.log.segments.queue(store.log.segment_of(old.hit.payload())) == Queue::Main,
        None => store.ghosts.contains(new.hash),
    };
    if !wants_main {
        return Queue::Small;
    }
    if old.is_none() {
        store.counters.cells.add(writer.stripe, Counter::GhostHits as usize, 1);
    }
    let bytes = match body {
        Body::Number { width, .. } => number_room(new.key, *width),
        _ => new.key.len() + body.log_len() + EXTRA_BYTES_MAX,
    };
    if writer.has_or_finds_room(store, Queue::Main, bytes, Use::New) { Queue::Main } else { Queue::Small }
}

/// S3, awkward case: between the look at `cas_floor` and our insert, another item of the same key came and went with a higher
/// id. The removal raised the floor before it freed the slot, so we see it now, and give the item another id. Until then, or for good if the
/// segment has no room for the copy, readers see an id that is unique but smaller than one that this key had during our insert.
/// Answers where the item is now.
#[inline]
fn mend_cas_order(writer: &mut Writer, view: View<'_>, new: NewRecord<'_>, location: Location) -> Location {
    let store = view.store;
    // Relaxed: ordered by the slot's CAS, which the removal released and our insert acquired.
    let floor = store.cas_floor.load(Ordering::Relaxed);
    if view.id_at(location) >> CAS_POSITION_BITS > floor {
        return location;
    }
    // A failure means that somebody else has changed the item: it has their id now.
    if let Some(found) = view.find(new.key, new.hash)
        && found.hit.payload() == location
        && writer.has_room(store, Queue::Small, found.record.shape().bytes() + EXTRA_BYTES_MAX)
    {
        return copy_record(writer, view, found, new.key, new.hash, CasOf::New, |state| state).unwrap_or(location);
    }
    location
}

/// Publishes a copy of a record with a changed state in its place. There must be room.
pub(super) fn copy_record<'g>(
    writer: &mut Writer,
    view: View<'g>,
    found: Found<'g>,
    key: &[u8],
    hash: u64,
    cas: CasOf,
    change: impl Fn(State) -> State,
) -> Result<Location, Body<'g>> {
    let record = found.record;
    // Sealed from here on (R1, R2). The stamp stays: the item is as old as it was.
    let draft = NewRecord { key, hash, state: change(record.seal()), flags: record.flags(), cas };
    let body = match (record.is_large(), record.seal_pair()) {
        // SAFETY: found in the index under the view's guard (S4).
        (true, _) => Body::Large(unsafe { LargeValue::share(record.large_address()) }),
        (_, Some(pair)) => Body::Number { number: pair.number, width: record.small_value_len() },
        (_, None) => Body::Inline([record.inline_value(), &[]]),
    };
    publish(writer, view, Some(found), draft, body)
}

/// Which CAS id a new record gets.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum CasOf {
    /// A new one.
    New,
    /// That of the record it replaces: the item is the same, only its state is another.
    Old,
    /// One that the client chose, whatever came before.
    Client(u64),
}

impl CasOf {
    /// What a client asked for, if it did.
    pub(super) fn asked(id: Option<u64>) -> CasOf {
        id.map_or(CasOf::New, CasOf::Client)
    }
}

/// The value of a record, wherever it lies. The number of a counter is printed into `digits`.
fn value_of<'g>(record: Record<'g>, digits: &'g mut Digits) -> &'g [u8] {
    if record.is_large() {
        // SAFETY: the record was found under a guard that lives during `'g` (S4).
        unsafe { LargeValue::peek(record.large_address()) }
    } else if let Some(counter) = record.counter() {
        *digits = Digits::padded(counter.pair().number, counter.width);
        digits.bytes()
    } else {
        record.inline_value()
    }
}

/// The length of the same; it never changes.
pub(super) fn value_len_of(record: Record<'_>) -> usize {
    if record.is_large() {
        // SAFETY: the caller found the record under a guard that it still holds (S4).
        unsafe { LargeValue::peek(record.large_address()) }.len()
    } else {
        record.small_value_len()
    }
}
