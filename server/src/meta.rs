//! Meta commands meet the store (protocol 4): what a line asks for becomes one operation, and what came of it one answer.
//!
//! The answer to a request that is quiet (`q`) is left out where the request went as hoped; everything else is said. Return flags
//! stand in the order of the request.

use memkv_engine::clock::Now;
use memkv_engine::store::{
    Batch, Calculation, Change, Deleted, Delta, Expiry, Fetch, Fetched, Mode, NewValue, Outcome, Recache, Removal,
    Seen, Terms, Vivify,
};

use crate::command;
use crate::output::Output;
use crate::protocol::encode::{self, CRLF};
use crate::protocol::meta::{Meta, Verb};
use crate::protocol::{Reply, base64};
use crate::watch::{Mutation, Observer};

/// The class that `me` shows: there is one log for items of all sizes.
const CLASS: &[u8] = b"1";

/// Runs a command other than ms, and answers it.
pub fn run(meta: &Meta, key: &[u8], hash: u64, batch: &mut Batch<'_>, output: &mut Output, observer: Observer<'_>) {
    if observer.is_on() {
        observer.fetch(key, hash, false, batch);
    }
    match meta.verb {
        Verb::Get => get(meta, key, hash, batch, output),
        Verb::Delete => delete(meta, key, hash, batch, output, observer),
        Verb::Arith => arith(meta, key, hash, batch, output, observer),
        Verb::Debug => debug(key, hash, batch, output),
        Verb::Set => unreachable!("ms comes with a value"),
        Verb::List | Verb::Purge => unreachable!("walks are no steps of a plan"),
    }
}

/// The mode of an ms as far as a refusal is concerned: it is `Set` that removes the old item (protocol 6.2).
pub fn mode(meta: &Meta) -> Mode {
    match meta.mode {
        b'E' => Mode::Add,
        b'A' => Mode::Append,
        b'P' => Mode::Prepend,
        b'R' => Mode::Replace,
        _ => Mode::Set,
    }
}

/// The name of an ms as far as log lines are concerned.
pub fn mode_name(meta: &Meta) -> &'static str {
    command::name(mode(meta))
}

/// Stores the value of an ms, and answers it.
pub fn store(
    meta: &Meta,
    key: &[u8],
    hash: u64,
    value: NewValue<'_>,
    batch: &mut Batch<'_>,
    output: &mut Output,
    observer: Observer<'_>,
) {
    let now = batch.now();
    let value_len = value.bytes().len();
    if observer.is_on() {
        observer.fetch(key, hash, false, batch);
    }
    let terms = Terms {
        flags: meta.client_flags,
        expiry: expiry(meta.exptime, now),
        compare: meta.flags.has(b'C').then_some(meta.compare),
        invalidate: meta.flags.has(b'I'),
        cas: chosen_cas(meta),
        vivify: meta.flags.has(b'N').then(|| expiry(meta.vivify, now)),
        base64: meta.flags.has(b'b'),
    };
    let stored = batch.meta_store(mode(meta), key, hash, value, &terms);
    if observer.is_on() {
        let status = command::status(stored.map(|receipt| receipt.outcome));
        let command = if terms.compare.is_some() && matches!(meta.mode, b'S' | b'R') { "cas" } else { mode_name(meta) };
        let mutation = Mutation { key, status, command, value_len, expiry: terms.expiry, is_classic: false };
        observer.stored(&mutation, hash, batch);
    }
    let receipt = match stored {
        Ok(receipt) => receipt,
        Err(error) => return output.reply(command::refusal(error)),
    };
    let out = &mut output.bytes;
    match receipt.outcome {
        Outcome::Stored if meta.flags.has(b'q') => return,
        Outcome::Stored => out.extend_from_slice(b"HD"),
        Outcome::NotStored => out.extend_from_slice(b"NS"),
        Outcome::Exists => out.extend_from_slice(b"EX"),
        Outcome::NotFound => out.extend_from_slice(b"NF"),
    }
    for letter in meta.flags.letters() {
        match letter {
            b'c' => flag(out, b'c', receipt.cas),
            b's' => flag(out, b's', receipt.value_len as u64),
            _ => echo(out, *letter, meta, key),
        }
    }
    out.extend_from_slice(CRLF);
}

fn get(meta: &Meta, key: &[u8], hash: u64, batch: &mut Batch<'_>, output: &mut Output) {
    let flags = &meta.flags;
    let now = batch.now();
    let fetch = Fetch {
        peek: flags.has(b'u'),
        touch: flags.has(b'T').then(|| expiry(meta.exptime, now)),
        recache: flags.has(b'R').then(|| Recache {
            below_s: expiry(meta.recache, now).remaining_s(now).unwrap_or(0),
            after_touch: flags.in_order(b'T', b'R'),
        }),
        vivify: flags.has(b'N').then(|| Vivify {
            expiry: expiry(meta.vivify, now),
            cas: chosen_cas(meta),
            base64: flags.has(b'b'),
        }),
    };
    let hit = match batch.meta_get(key, hash, &fetch) {
        Ok(Some(hit)) => hit,
        Ok(None) if flags.has(b'q') => return,
        Ok(None) => return echo_line(b"EN", meta, key, output),
        Err(_) => return output.reply(Reply::NoMemory),
    };
    let value = hit.item.value();
    let wants_value = flags.has(b'v') && !(flags.has(b'C') && meta.compare == hit.item.cas());
    let out = &mut output.bytes;
    if wants_value {
        value_header(out, value.len());
    } else {
        out.extend_from_slice(b"HD");
    }
    for letter in flags.letters() {
        match letter {
            b'f' => flag(out, b'f', u64::from(hit.item.flags())),
            b's' => flag(out, b's', value.len() as u64),
            b'c' => flag(out, b'c', hit.item.cas()),
            b't' => ttl_flag(out, if flags.in_order(b'T', b't') { hit.expiry } else { hit.expiry_before }, now),
            b'h' => flag(out, b'h', u64::from(hit.fetched_before)),
            b'l' => flag(out, b'l', hit.idle_s),
            b'k' => key_flag(out, key, hit.base64),
            b'O' => opaque_flag(out, meta),
            _ => {}
        }
    }
    for (is_so, mark) in [(hit.win_taken, b" Z"), (hit.stale, b" X"), (hit.won, b" W")] {
        if is_so {
            out.extend_from_slice(mark);
        }
    }
    out.extend_from_slice(CRLF);
    if wants_value {
        match hit.item.large() {
            None => {
                out.extend_from_slice(value);
                out.extend_from_slice(CRLF);
            }
            Some(large) => output.large = Some(large),
        }
    }
}

fn delete(meta: &Meta, key: &[u8], hash: u64, batch: &mut Batch<'_>, output: &mut Output, observer: Observer<'_>) {
    let flags = &meta.flags;
    let now = batch.now();
    let given_expiry = flags.has(b'T').then(|| expiry(meta.exptime, now));
    let cas = chosen_cas(meta);
    let removal = if flags.has(b'x') {
        Removal::Tombstone {
            flags: meta.client_flags,
            expiry: given_expiry.unwrap_or(Expiry::Never),
            cas,
            stale: flags.has(b'I'),
            base64: flags.has(b'b'),
        }
    } else if flags.has(b'I') {
        Removal::Stale { expiry: given_expiry, cas }
    } else {
        Removal::Delete
    };
    let compare = flags.has(b'C').then_some(meta.compare);
    let old_len = if observer.is_on() { observer.before_delete(key, hash, false, batch) } else { 0 };
    let deleted = batch.meta_delete(key, hash, compare, removal);
    if observer.is_on() && deleted == Ok(Deleted::Done) && !matches!(removal, Removal::Stale { .. }) {
        observer.deleted(key, "md", old_len);
    }
    let code = match deleted {
        Ok(Deleted::Done) if flags.has(b'q') => return,
        Ok(Deleted::Done) => b"HD",
        Ok(Deleted::NotFound) => b"NF",
        Ok(Deleted::Exists) => b"EX",
        // What was to stay in the item's place has no room (protocol 4.7).
        Err(_) => b"NS",
    };
    echo_line(code, meta, key, output);
}

fn arith(meta: &Meta, key: &[u8], hash: u64, batch: &mut Batch<'_>, output: &mut Output, observer: Observer<'_>) {
    let flags = &meta.flags;
    let now = batch.now();
    let delta = match meta.mode {
        b'D' | b'-' => Delta::Decr(meta.delta),
        _ => Delta::Incr(meta.delta),
    };
    let change = Change {
        // C0 compares nothing here (protocol 4.5).
        compare: Some(meta.compare).filter(|id| *id != 0),
        touch: flags.has(b'T').then(|| expiry(meta.exptime, now)),
        create: flags.has(b'N').then(|| (expiry(meta.vivify, now), meta.initial)),
        cas: chosen_cas(meta),
        base64: flags.has(b'b'),
    };
    let may_create = observer.is_on() && change.create.is_some() && batch.peek(key, hash) == Seen::NotFound;
    let done = batch.meta_arith(key, hash, delta, &change);
    if may_create && let (Ok(Calculation::Done(sum)), Some((expiry, _))) = (&done, change.create) {
        let value_len = itoa::Buffer::new().format(sum.number).len();
        let mutation = Mutation { key, status: "stored", command: "add", value_len, expiry, is_classic: false };
        observer.stored(&mutation, hash, batch);
    }
    let sum = match done {
        Ok(Calculation::Done(_)) if flags.has(b'q') => return,
        Ok(Calculation::Done(sum)) => sum,
        Ok(Calculation::NotFound) => return echo_line(b"NF", meta, key, output),
        Ok(Calculation::Exists) => return echo_line(b"EX", meta, key, output),
        Ok(Calculation::NonNumeric) => return output.reply(Reply::NonNumeric),
        Err(_) => return output.reply(Reply::NoMemory),
    };
    let out = &mut output.bytes;
    let mut digits = itoa::Buffer::new();
    let number = flags.has(b'v').then(|| digits.format(sum.number).as_bytes());
    match number {
        Some(number) => value_header(out, number.len()),
        None => out.extend_from_slice(b"HD"),
    }
    for letter in flags.letters() {
        match letter {
            b'c' => flag(out, b'c', sum.cas),
            b't' => ttl_flag(out, if flags.in_order(b'T', b't') { sum.expiry } else { sum.expiry_before }, now),
            _ => echo(out, *letter, meta, key),
        }
    }
    out.extend_from_slice(CRLF);
    if let Some(number) = number {
        out.extend_from_slice(number);
        out.extend_from_slice(CRLF);
    }
}

fn debug(key: &[u8], hash: u64, batch: &mut Batch<'_>, output: &mut Output) {
    let now = batch.now();
    let out = &mut output.bytes;
    let Some(seen) = batch.meta_inspect(key, hash) else {
        return out.extend_from_slice(b"EN\r\n");
    };
    out.extend_from_slice(b"ME ");
    key_text(out, key, seen.base64);
    out.extend_from_slice(b" exp=");
    ttl(out, seen.expiry, now);
    for (name, number) in [(&b" la="[..], seen.idle_s), (b" cas=", seen.item.cas())] {
        out.extend_from_slice(name);
        encode::number(out, number);
    }
    out.extend_from_slice(if seen.fetched_before { b" fetch=yes cls=" } else { b" fetch=no cls=" });
    out.extend_from_slice(CLASS);
    out.extend_from_slice(b" size=");
    encode::number(out, seen.item.protocol_bytes() as u64);
    out.extend_from_slice(CRLF);
}

/// The line of an item that ml lists: its key, then what the flags ask for, in their order.
pub fn list_line(meta: &Meta, seen: &Fetched<'_>, now: Now, out: &mut Vec<u8>) {
    let (flags, item) = (&meta.flags, &seen.item);
    out.extend_from_slice(b"HD");
    if !flags.has(b'k') {
        key_flag(out, item.key(), seen.base64);
    }
    for letter in flags.letters() {
        match letter {
            b'k' => key_flag(out, item.key(), seen.base64),
            b'f' => flag(out, b'f', u64::from(item.flags())),
            b's' => flag(out, b's', item.value().len() as u64),
            b'c' => flag(out, b'c', item.cas()),
            b't' => ttl_flag(out, seen.expiry, now),
            b'h' => flag(out, b'h', u64::from(seen.fetched_before)),
            b'l' => flag(out, b'l', seen.idle_s),
            b'O' => opaque_flag(out, meta),
            _ => {}
        }
    }
    for (is_so, mark) in [(seen.win_taken, b" Z"), (seen.stale, b" X")] {
        if is_so {
            out.extend_from_slice(mark);
        }
    }
    out.extend_from_slice(CRLF);
}

/// The line behind the last item that ml lists.
pub fn list_end(meta: &Meta, out: &mut Vec<u8>) {
    out.extend_from_slice(b"EN");
    if meta.flags.has(b'O') {
        opaque_flag(out, meta);
    }
    out.extend_from_slice(CRLF);
}

/// The answer of mp: how many items it deleted.
pub fn purged(meta: &Meta, count: u64, out: &mut Vec<u8>) {
    if meta.flags.has(b'q') {
        return;
    }
    out.extend_from_slice(b"HD");
    flag(out, b'n', count);
    if meta.flags.has(b'O') {
        opaque_flag(out, meta);
    }
    out.extend_from_slice(CRLF);
}

fn expiry(exptime: i32, now: Now) -> Expiry {
    Expiry::from_exptime(i64::from(exptime), now)
}

/// The CAS id that the client chose; 0 is none (protocol 4.3).
fn chosen_cas(meta: &Meta) -> Option<u64> {
    Some(meta.cas).filter(|id| *id != 0)
}

/// An answer of a code and what every command echoes.
fn echo_line(code: &[u8; 2], meta: &Meta, key: &[u8], output: &mut Output) {
    let out = &mut output.bytes;
    out.extend_from_slice(code);
    for letter in meta.flags.letters() {
        echo(out, *letter, meta, key);
    }
    out.extend_from_slice(CRLF);
}

/// A flag that is answered with what the request said.
#[inline]
fn echo(out: &mut Vec<u8>, letter: u8, meta: &Meta, key: &[u8]) {
    match letter {
        b'k' => key_flag(out, key, meta.flags.has(b'b')),
        b'O' => opaque_flag(out, meta),
        _ => {}
    }
}

#[inline]
fn value_header(out: &mut Vec<u8>, len: usize) {
    out.extend_from_slice(b"VA ");
    encode::number(out, len as u64);
}

#[inline]
fn flag(out: &mut Vec<u8>, letter: u8, number: u64) {
    out.extend_from_slice(&[b' ', letter]);
    encode::number(out, number);
}

fn ttl_flag(out: &mut Vec<u8>, expiry: Expiry, now: Now) {
    out.extend_from_slice(b" t");
    ttl(out, expiry, now);
}

/// Seconds that remain: -1 for no end, 0 for one that has been (protocol 2.9).
fn ttl(out: &mut Vec<u8>, expiry: Expiry, now: Now) {
    match expiry.remaining_s(now) {
        None => out.extend_from_slice(b"-1"),
        Some(left_s) => encode::number(out, left_s),
    }
}

fn opaque_flag(out: &mut Vec<u8>, meta: &Meta) {
    out.push(b' ');
    out.extend_from_slice(meta.opaque.token());
}

/// The key, and a `b` if it is shown in base64 (protocol 4.1.9).
fn key_flag(out: &mut Vec<u8>, key: &[u8], in_base64: bool) {
    out.extend_from_slice(b" k");
    key_text(out, key, in_base64);
    if in_base64 {
        out.extend_from_slice(b" b");
    }
}

fn key_text(out: &mut Vec<u8>, key: &[u8], in_base64: bool) {
    if in_base64 {
        base64::encode(key, out);
    } else {
        out.extend_from_slice(key);
    }
}
