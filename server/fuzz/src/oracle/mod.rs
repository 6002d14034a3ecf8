//! A slow and simple reading of the dialect.
//!
//! [`check`] goes through what a client sent and what it was answered side by side: one command, its answer, the next command. It
//! takes the input apart with its own few lines ([`text`]), keeps items in a map, and says of every answer what it must be, to the byte where
//! it can. It is written from the description of the dialect, shares no code with the server, and panics where the two part.
//!
//! What it cannot know it learns from the answer: the CAS ids that the server hands out, and marks that the dialect leaves open. What it
//! neither knows nor sees ends the comparison ([`Stop`]); what was answered until then has been compared.
//!
//! Time stands still in these conversations.

mod admin;
mod classic;
mod meta;
mod replies;
mod text;

use std::collections::{BTreeMap, BTreeSet};

use crate::conversation::{ITEM_BYTES_MAX, Outcome, UNIX_S};
use replies::Replies;

/// Longest key.
const KEY_BYTES_MAX: usize = 250;

/// A line longer than this that has no newline yet closes the connection, unless it is a multi-get.
const LINE_BYTES_MAX: usize = 2048;

/// No line but a multi-get can be longer: it would not fit into the server's read buffer.
const BUFFER_BYTES: usize = 16 * 1024;

/// A multi-get that is longer than this may be answered before its end is there.
const LIST_BYTES_MAX: usize = 8 * 1024;

/// Ids that the server hands out are larger than this.
const OWN_CAS_MIN: u64 = 100_000;

/// Once so much has been written, items may have been evicted.
const WRITTEN_BYTES_MAX: usize = 3 << 20;

const BAD_LINE: &[u8] = b"CLIENT_ERROR bad command line format\r\n";
const BAD_CHUNK: &[u8] = b"CLIENT_ERROR bad data chunk\r\n";
const BAD_EXPTIME: &[u8] = b"CLIENT_ERROR invalid exptime argument\r\n";
const TOO_LARGE: &[u8] = b"SERVER_ERROR object too large for cache\r\n";
const NON_NUMERIC: &[u8] = b"CLIENT_ERROR cannot increment or decrement non-numeric value\r\n";
const ERROR: &[u8] = b"ERROR\r\n";

/// Why the comparison ends.
enum Stop {
    /// The input is used up, or what is left of it is not a whole command.
    Waiting,
    /// The rest of the input is a part of a multi-get, of which this much may have been answered.
    WaitingInList { keys: Vec<Vec<u8>>, cas: bool },
    /// The server closes.
    Closing,
    /// What follows cannot be known.
    Unknown,
}

/// The answer to "and then?".
type Step = Result<(), Stop>;

/// An id for compare-and-swap.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cas {
    Known(u64),
    /// A new one of the server's own, not seen yet.
    New,
    /// Whatever the next answer shows.
    Any,
}

#[derive(Clone, Debug)]
struct Item {
    value: Vec<u8>,
    flags: u32,
    /// Seconds that it lives; for ever if there are none.
    ttl: Option<i64>,
    cas: Cas,
    /// What is `None` here may be either, until an answer shows it.
    base64: Option<bool>,
    fetched: Option<bool>,
    stale: bool,
    won: bool,
}

impl Item {
    fn new(value: &[u8], flags: u32, ttl: Option<i64>) -> Item {
        let value = value.to_vec();
        Item { value, flags, ttl, cas: Cas::New, base64: Some(false), fetched: Some(false), stale: false, won: false }
    }
}

/// Compares a conversation with what it should have been.
///
/// # Panics
/// If the server answered anything else.
pub fn check(outcome: &Outcome) {
    let mut oracle = Oracle {
        input: &outcome.sent,
        at: 0,
        replies: Replies::new(outcome),
        items: BTreeMap::new(),
        own_ids: BTreeSet::new(),
        written: 0,
    };
    loop {
        oracle.replies.command_at = oracle.at;
        match oracle.command() {
            Ok(()) => {}
            Err(Stop::Waiting) => return oracle.replies.end(false),
            Err(Stop::WaitingInList { keys, cas }) => {
                oracle.part_of_list(&keys, cas);
                return oracle.replies.end(false);
            }
            Err(Stop::Closing) => return oracle.replies.end(true),
            Err(Stop::Unknown) => return,
        }
    }
}

struct Oracle<'o> {
    input: &'o [u8],
    at: usize,
    replies: Replies<'o>,
    items: BTreeMap<Vec<u8>, Item>,
    /// Ids that the server has handed out and shown.
    own_ids: BTreeSet<u64>,
    written: usize,
}

/// What follows the line of a storage command.
enum Block<'o> {
    Good(&'o [u8]),
    Unterminated,
}

impl<'o> Oracle<'o> {
    /// One command.
    fn command(&mut self) -> Step {
        if self.written > WRITTEN_BYTES_MAX {
            return Err(Stop::Unknown);
        }
        let rest = &self.input[self.at..];
        let Some(newline) = rest.iter().position(|byte| *byte == b'\n') else {
            return Err(self.open_line(rest));
        };
        if newline > LINE_BYTES_MAX && !text::is_multiget(rest) {
            // Whether it was seen without its newline is a matter of packets.
            if newline >= BUFFER_BYTES || !self.replies.whole && self.replies.is_closed_here() {
                return Err(Stop::Closing);
            }
        }
        self.at += newline + 1;
        if newline + 1 < 4 {
            self.replies.expect(BAD_LINE);
            return Ok(());
        }
        let line = rest[..newline].strip_suffix(b"\r").unwrap_or(&rest[..newline]);
        if newline >= LIST_BYTES_MAX && line.starts_with(b" ") && !self.replies.whole {
            let tokens = text::tokens(line);
            if tokens.last().is_some_and(|last| *last == b"noreply" || last.starts_with(b"HTTP/")) {
                // The server keeps nothing of such a line, so whether it sees how it ends is a matter of packets.
                return Err(Stop::Unknown);
            }
        }
        match text::word(line) {
            b"get" => self.get(&line[3..], false, newline),
            b"gets" => self.get(&line[4..], true, newline),
            b"mg" | b"ms" | b"md" | b"ma" | b"me" | b"ml" | b"mp" => self.meta(line),
            _ => self.classic(line),
        }
    }

    /// The rest of the input is a line without an end.
    fn open_line(&self, rest: &[u8]) -> Stop {
        if rest.len() <= LINE_BYTES_MAX {
            return Stop::Waiting;
        }
        if !text::is_multiget(rest) {
            return Stop::Closing;
        }
        let cas = rest.starts_with(b"gets");
        if rest.len() < LIST_BYTES_MAX || rest[0] == b' ' {
            return Stop::Waiting;
        }
        let mut keys: Vec<Vec<u8>> = text::words(&rest[if cas { 5 } else { 4 }..]).map(<[u8]>::to_vec).collect();
        if !rest.ends_with(b" ") {
            // It may go on.
            keys.pop();
        }
        Stop::WaitingInList { keys, cas }
    }

    /// A multi-get without an end may have been answered in part.
    fn part_of_list(&mut self, keys: &[Vec<u8>], cas: bool) {
        for key in keys {
            if self.replies.is_at_end() || key.len() > KEY_BYTES_MAX {
                return;
            }
            self.hit(key, cas, None);
        }
    }

    /// The data block of `len` bytes at the place of the conversation.
    fn block(&mut self, len: usize) -> Result<Block<'o>, Stop> {
        let rest = self.input[self.at..].get(..len + 2).ok_or(Stop::Waiting)?;
        self.at += len + 2;
        Ok(if rest.ends_with(b"\r\n") { Block::Good(&rest[..len]) } else { Block::Unterminated })
    }

    /// An item, if it is there and alive.
    fn alive(&mut self, key: &[u8]) -> Option<&mut Item> {
        if self.items.get(key).is_some_and(|item| item.ttl.is_some_and(|ttl| ttl <= 0)) {
            self.items.remove(key);
        }
        self.items.get_mut(key)
    }

    fn store(&mut self, key: &[u8], item: Item) {
        self.written += item_bytes(key, item.flags, item.value.len()) + 64;
        self.items.insert(key.to_vec(), item);
    }

    /// Reads an item's CAS id off the answer.
    fn show_cas(&mut self, cas: Cas) -> Cas {
        match cas {
            Cas::Known(id) => self.replies.expect(id.to_string().as_bytes()),
            Cas::New => {
                let id = self.replies.number();
                self.replies.require(id > OWN_CAS_MIN, "an id of the server's own is larger");
                let is_new = self.own_ids.insert(id);
                self.replies.require(is_new, "an id is handed out once");
                return Cas::Known(id);
            }
            Cas::Any => return Cas::Known(self.replies.number()),
        }
        cas
    }

    /// How `id` compares with the id of an item.
    fn compare(&self, id: u64, cas: Cas) -> Result<std::cmp::Ordering, Stop> {
        match cas {
            Cas::Known(known) => Ok(id.cmp(&known)),
            Cas::New if id <= OWN_CAS_MIN => Ok(std::cmp::Ordering::Less),
            _ => Err(Stop::Unknown),
        }
    }
}

/// Seconds to live of what an exptime says.
fn ttl(exptime: i64) -> Option<i64> {
    match exptime {
        0 => None,
        ..0 => Some(-1),
        1..=2_592_000 => Some(exptime),
        _ => Some(exptime - UNIX_S as i64),
    }
}

/// What an item counts for.
fn item_bytes(key: &[u8], flags: u32, value_len: usize) -> usize {
    48 + 8 + key.len() + 1 + if flags == 0 { 0 } else { 4 } + value_len + 2
}

fn fits(key: &[u8], flags: u32, value_len: usize) -> bool {
    item_bytes(key, flags, value_len) <= ITEM_BYTES_MAX
}

/// What incr and decr make of a value: the number, the new value, and whether that has the place of the old one. `None` if it is
/// no number. A NUL ends a number as white space does: the description is silent, and Debian's memcached has it so.
fn count(value: &[u8], delta: u64, up: bool) -> Option<(u64, Vec<u8>, bool)> {
    let is_space = |byte: &u8| matches!(byte, b' ' | b'\t'..=b'\r');
    let text = &value[value.iter().take_while(|byte| is_space(byte)).count()..];
    let text = text.strip_prefix(b"+").unwrap_or(text);
    let digits = text.iter().take_while(|byte| byte.is_ascii_digit()).count();
    if digits == 0 || text.get(digits).is_some_and(|byte| *byte != 0 && !is_space(byte)) {
        return None;
    }
    let old: u64 = std::str::from_utf8(&text[..digits]).ok()?.parse().ok()?;
    let new = if up { old.wrapping_add(delta) } else { old.saturating_sub(delta) };
    let mut stored = new.to_string().into_bytes();
    let in_place = stored.len() <= value.len();
    if in_place {
        stored.resize(value.len(), b' ');
    }
    Some((new, stored, in_place))
}
