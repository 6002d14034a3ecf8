//! Walks over all items, answered as they are made: dumps of keys, `stats sizes`, and the listing and purging of a prefix.
//!
//! A walk is part of a session. Each step works through some buckets of the index under a batch of its own and ends when the
//! output is full or enough has been looked at; between steps there is nothing but a position ([`Cursor`]). So a walk holds
//! nobody up, takes no memory, goes as fast as the client reads, and meets every key that is there throughout.

use std::collections::BTreeMap;
use std::io::Write as _;

use memkv_engine::clock::Now;
use memkv_engine::store::{Cursor, Expiry, Fetched};

use crate::limits::{CACHEDUMP_BYTES_MAX, WALK_BUCKETS_PER_STEP};
use crate::meta;
use crate::output::Output;
use crate::protocol::admin::Walk;
use crate::protocol::encode::{self, CRLF, END};
use crate::protocol::meta::{Meta, Verb};
use crate::protocol::{Reply, base64};
use crate::session::Turn;

/// A walk that has begun.
#[derive(Debug)]
pub struct Walking {
    cursor: Cursor,
    kind: Kind,
}

#[derive(Debug)]
enum Kind {
    Metadump,
    Mgdump,
    Cachedump { items_left: u64, bytes_left: usize },
    Sizes(BTreeMap<u64, u64>),
    List { meta: Box<Meta>, prefix: Box<[u8]> },
    Purge { meta: Box<Meta>, prefix: Box<[u8]>, purged: u64 },
}

/// What a session is asked to walk for.
#[derive(Debug)]
pub enum Order {
    /// A command that names no keys.
    Plain(Walk),
    /// ml or mp, and the prefix it names.
    Prefix(Box<Meta>, Box<[u8]>),
}

/// How a step ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// The output is full.
    Full,
    /// It is the others' turn.
    Pause,
    /// All is said.
    Done,
}

impl Walking {
    /// Begins a walk, whose first words go to the output.
    ///
    /// # Errors
    /// If it is forbidden, pointless, or answers are waiting where none may.
    pub fn begin(order: Order, turn: &mut Turn<'_>) -> Result<Walking, Reply> {
        let service = turn.service;
        let (config, crawls) = (&service.config, service.tunables().crawler);
        let is_waiting = !turn.output.is_empty();
        let out = &mut turn.output.bytes;
        let kind = match order {
            Order::Plain(Walk::Metadump) if !config.dump_allowed => return Err(Reply::MetadumpForbidden),
            Order::Plain(Walk::Metadump) if is_waiting => return Err(Reply::PipelinedMetadump),
            Order::Plain(Walk::Mgdump) if !config.dump_allowed => return Err(Reply::KeyDumpForbidden),
            Order::Plain(Walk::Mgdump) if is_waiting => return Err(Reply::PipelinedMgdump),
            Order::Plain(Walk::Metadump | Walk::Mgdump) if !crawls => return Err(Reply::CrawlerDisabled),
            Order::Plain(Walk::Metadump) => {
                out.extend_from_slice(Reply::Ok.line());
                Kind::Metadump
            }
            Order::Plain(Walk::Mgdump) => {
                out.extend_from_slice(Reply::Ok.line());
                Kind::Mgdump
            }
            Order::Plain(Walk::Cachedump { .. }) if !config.dump_allowed => return Err(Reply::CachedumpForbidden),
            Order::Plain(Walk::Cachedump { is_class, limit }) => Kind::Cachedump {
                items_left: match limit {
                    _ if !is_class => 0,
                    0 => u64::MAX,
                    limit => u64::from(limit),
                },
                bytes_left: CACHEDUMP_BYTES_MAX,
            },
            Order::Plain(Walk::Sizes) if !config.track_sizes => {
                encode::stat(out, "sizes_status", "disabled");
                // Nothing to walk for.
                return Ok(Walking { cursor: Cursor::new(), kind: Kind::Cachedump { items_left: 0, bytes_left: 0 } });
            }
            Order::Plain(Walk::Sizes) => Kind::Sizes(BTreeMap::new()),
            Order::Prefix(meta, prefix) if meta.verb == Verb::List => {
                if !config.dump_allowed {
                    return Err(Reply::KeyDumpForbidden);
                }
                Kind::List { meta, prefix }
            }
            Order::Prefix(..) if !config.flush_allowed => return Err(Reply::FlushForbidden),
            Order::Prefix(meta, prefix) => Kind::Purge { meta, prefix, purged: 0 },
        };
        Ok(Walking { cursor: Cursor::new(), kind })
    }

    /// Goes on, for as long as a step may take.
    pub fn step(&mut self, turn: &mut Turn<'_>) -> Step {
        let Walking { cursor, kind } = self;
        let output = &mut *turn.output;
        if output.is_full() {
            return Step::Full;
        }
        let batch = turn.handle.batch();
        let now = batch.now();
        let buckets = WALK_BUCKETS_PER_STEP;
        match kind {
            Kind::Metadump => batch.scan(cursor, buckets, |seen| {
                metadump_line(&mut output.bytes, &seen, now);
                !output.is_full()
            }),
            Kind::Mgdump => batch.scan(cursor, buckets, |seen| {
                output.bytes.extend_from_slice(b"mg ");
                key_word(&mut output.bytes, &seen);
                output.bytes.extend_from_slice(CRLF);
                !output.is_full()
            }),
            Kind::Cachedump { items_left: 0, .. } => *cursor = Cursor::END,
            Kind::Cachedump { items_left, bytes_left } => {
                batch.scan(cursor, buckets, |seen| {
                    // Binary keys are left out (protocol 9.3).
                    if *items_left > 0 && !seen.base64 {
                        let before = output.bytes.len();
                        cachedump_line(&mut output.bytes, &seen, now);
                        let len = output.bytes.len() - before;
                        if len > *bytes_left {
                            output.bytes.truncate(before);
                            *items_left = 0;
                        } else {
                            *bytes_left -= len;
                            *items_left -= 1;
                        }
                    }
                    *items_left > 0 && !output.is_full()
                });
            }
            Kind::Sizes(counts) => batch.scan(cursor, buckets, |seen| {
                *counts.entry(seen.item.protocol_bytes().div_ceil(32) as u64 * 32).or_default() += 1;
                true
            }),
            Kind::List { meta, prefix } => batch.scan(cursor, buckets, |seen| {
                if seen.item.key().starts_with(prefix) {
                    meta::list_line(meta, &seen, now, &mut output.bytes);
                }
                !output.is_full()
            }),
            Kind::Purge { prefix, purged, .. } => *purged += batch.purge(cursor, buckets, prefix),
        }
        if matches!(kind, Kind::Cachedump { items_left: 0, .. }) {
            *cursor = Cursor::END;
        }
        if cursor.is_done() {
            finish(kind, output);
            return Step::Done;
        }
        if output.is_full() { Step::Full } else { Step::Pause }
    }

    /// Bytes of memory that the walk owns.
    pub fn owned_bytes(&self) -> usize {
        let more = match &self.kind {
            Kind::Sizes(counts) => counts.len() * 4 * size_of::<u64>(),
            Kind::List { prefix, .. } | Kind::Purge { prefix, .. } => prefix.len() + size_of::<Meta>(),
            _ => 0,
        };
        size_of::<Walking>() + more
    }
}

/// Adds what stands at the end of an answer.
fn finish(kind: &Kind, output: &mut Output) {
    let out = &mut output.bytes;
    match kind {
        Kind::Metadump | Kind::Cachedump { .. } => out.extend_from_slice(END),
        Kind::Mgdump => out.extend_from_slice(b"EN\r\n"),
        Kind::Sizes(counts) => {
            for (size, count) in counts {
                encode::stat(out, &size.to_string(), count);
            }
            out.extend_from_slice(END);
        }
        Kind::List { meta, .. } => meta::list_end(meta, out),
        Kind::Purge { meta, purged, .. } => meta::purged(meta, *purged, out),
    }
}

/// `key=.. exp=.. la=.. cas=.. fetch=.. cls=.. size=.. flags=.. `, a space and LF at the end (protocol 10).
fn metadump_line(out: &mut Vec<u8>, seen: &Fetched<'_>, now: Now) {
    out.extend_from_slice(b"key=");
    encode::uri(out, seen.item.key());
    out.extend_from_slice(b" exp=");
    match unix_expiry(seen.expiry, now) {
        Some(unix_s) => encode::number(out, unix_s),
        None => out.extend_from_slice(b"-1"),
    }
    out.extend_from_slice(b" la=");
    encode::number(out, unix_s((now.mono_ms / 1000).saturating_sub(seen.idle_s) * 1000, now));
    out.extend_from_slice(b" cas=");
    encode::number(out, seen.item.cas());
    out.extend_from_slice(if seen.fetched_before { b" fetch=yes" } else { b" fetch=no" });
    out.extend_from_slice(b" cls=1 size=");
    encode::number(out, seen.item.protocol_bytes() as u64);
    out.extend_from_slice(b" flags=");
    encode::number(out, u64::from(seen.item.flags()));
    out.extend_from_slice(b" \n");
}

/// `ITEM <key> [<bytes> b; <unix expiry or 0> s]`.
fn cachedump_line(out: &mut Vec<u8>, seen: &Fetched<'_>, now: Now) {
    out.extend_from_slice(b"ITEM ");
    out.extend_from_slice(seen.item.key());
    let expiry = unix_expiry(seen.expiry, now).unwrap_or(0);
    let _ = write!(out, " [{} b; {expiry} s]\r\n", seen.item.value().len());
}

/// The key as a meta command would name it.
fn key_word(out: &mut Vec<u8>, seen: &Fetched<'_>) {
    if seen.base64 {
        base64::encode(seen.item.key(), out);
        out.extend_from_slice(b" b");
    } else {
        out.extend_from_slice(seen.item.key());
    }
}

/// When an item ends, as Unix time.
fn unix_expiry(expiry: Expiry, now: Now) -> Option<u64> {
    match expiry {
        Expiry::Never => None,
        Expiry::AtUnix { s } => Some(s),
        Expiry::AtMono { ms } => Some(unix_s(ms, now)),
        Expiry::Past => Some(now.unix_ms / 1000),
    }
}

/// A reading of the monotonic clock as Unix time: the same one whenever it is asked for.
fn unix_s(mono_ms: u64, now: Now) -> u64 {
    (now.unix_ms + mono_ms).saturating_sub(now.mono_ms) / 1000
}
