//! Command lines and key lists (protocol 1 to 3).
//!
//! [`command_line`] looks at one line and answers a [`Line`]; [`key_list`] goes on inside a multi-get that is being answered in
//! pieces; [`data_block`] judges the bytes behind a storage command. All three answer positions in the input, and are free
//! to be asked again about the same bytes when more have arrived.

use memchr::memchr;

use super::Reply;
use super::admin;
use super::meta;
use super::number;
use super::request::{Arith, Key, KeyIndex, Keys, Request, Retrieve, Span, Stop, Store, TimeStep, Verb};
use crate::limits::{
    KEY_BYTES_MAX, KEY_LIST_BUFFERED_MAX, LEADING_SPACES_MAX, LINE_BYTES_MAX, LINE_BYTES_MIN, TOKENS_MAX,
};

/// What stands at some position of the input.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Line {
    /// A valid command; what follows it begins at `next`: the next line, or the data block of a storage command.
    Request {
        /// The command.
        request: Request,
        /// Where its line ends.
        next: usize,
    },
    /// A meta command: what it is told stands in `rest`, and is read by [`meta::line()`]. A data block may follow at `next`.
    Meta {
        /// Which command.
        verb: meta::Verb,
        /// Everything behind the command word.
        rest: Span,
        /// Where its line ends.
        next: usize,
    },
    /// A line that is answered with an error, or with nothing if the client asked for that.
    Refused {
        /// The answer, if one is wanted.
        reply: Option<Reply>,
        /// Where the line ends.
        next: usize,
        /// Bytes of a data block that follows and must not be taken for commands (protocol 1.12).
        swallow: Option<u32>,
    },
    /// No newline yet.
    Incomplete,
    /// A multi-get that is too long to wait for its newline: go on with [`key_list`] at `keys`.
    EndlessKeys {
        /// What to answer for a hit.
        retrieve: Retrieve,
        /// Where the first key may stand.
        keys: usize,
    },
    /// A line too long to wait for its newline, which will deserve this reply once it is there.
    EndlessLine(Reply),
    /// Not a client of ours: close without a word (protocol 1.5, 1.9).
    Hangup,
}

/// The end of a stretch of keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ListEnd {
    /// The line ends; the next one begins at this position.
    Newline(usize),
    /// No newline yet; what may be the beginning of a key starts at this position.
    Open(usize),
    /// A key that is too long starts at this position.
    BadKey(usize),
}

/// What stands behind the line of a storage command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Block {
    /// The value, properly ended; the next line begins at `Span::end` + 2.
    Complete(Span),
    /// As many bytes as announced, but no CRLF behind them; the next line begins at this position all the same.
    Unterminated(usize),
    /// Not all there yet.
    Incomplete,
}

/// Looks at the line that begins at `from`. The keys that it names are added to `keys`; a refused line adds none.
#[inline]
pub fn command_line(input: &[u8], from: usize, keys: &mut Keys) -> Line {
    let Some(line_len) = memchr(b'\n', &input[from..]) else {
        return open_line(input, from);
    };
    let next = from + line_len + 1;
    if next - from < LINE_BYTES_MIN {
        return refused(Reply::BadLine, next);
    }
    let end = if input[next - 2] == b'\r' { next - 2 } else { next - 1 };
    // The commands that make up nearly all traffic are told apart first.
    if input[from..end].starts_with(b"get ") {
        return retrieval(input, from + 4..end, next, Retrieve { cas: false, touch: None }, keys);
    }
    if let [b'm', command, b' ', ..] = input[from..end]
        && let Some(verb) = meta_verb(command)
    {
        return Line::Meta { verb, rest: Span::new(from + 3..end), next };
    }
    let tokens = Tokens::split(input, from, end);
    let word = tokens.get(input, 0);
    match word {
        b"set" => storage(input, &tokens, next, Verb::Set, keys),
        b"get" => retrieval(input, from + 3..end, next, Retrieve { cas: false, touch: None }, keys),
        b"gets" => retrieval(input, from + 4..end, next, Retrieve { cas: true, touch: None }, keys),
        b"gat" | b"gats" => touching_retrieval(input, &tokens, word == b"gats", end, next, keys),
        b"add" => storage(input, &tokens, next, Verb::Add, keys),
        b"replace" => storage(input, &tokens, next, Verb::Replace, keys),
        b"append" => storage(input, &tokens, next, Verb::Append, keys),
        b"prepend" => storage(input, &tokens, next, Verb::Prepend, keys),
        b"cas" => storage(input, &tokens, next, Verb::Cas(0), keys),
        b"delete" => delete(input, &tokens, next, keys),
        b"incr" => arith(input, &tokens, next, Arith::Incr, keys),
        b"decr" => arith(input, &tokens, next, Arith::Decr, keys),
        b"touch" => touch(input, &tokens, next, keys),
        b"flush_all" => flush_all(input, &tokens, next),
        b"verbosity" => verbosity(input, &tokens, next),
        b"version" => Line::Request { request: Request::Version, next },
        b"quit" => Line::Request { request: Request::Quit, next },
        b"stats" => admin::stats(input, &tokens, next),
        b"cache_memlimit" => admin::cache_memlimit(input, &tokens, next),
        b"lru_crawler" => admin::lru_crawler(input, &tokens, next),
        b"lru" => admin::lru(input, &tokens, next),
        b"slabs" => admin::slabs(input, &tokens, next),
        b"extstore" => admin::extstore(input, &tokens, next),
        b"watch" => admin::watch(input, &tokens, end, next),
        b"refresh_certs" => answered(Reply::NoTls, tokens.noreply(input), next),
        b"shutdown" => shutdown(input, &tokens, next),
        b"debugtime" => debugtime(input, &tokens, next),
        b"mn" => refused(Reply::MetaNoop, next),
        // With anything behind them they have been seen above.
        b"mg" | b"ms" | b"md" | b"ma" | b"me" | b"ml" | b"mp" => refused(Reply::BadLine, next),
        _ => unknown(input, &tokens, next),
    }
}

fn meta_verb(command: u8) -> Option<meta::Verb> {
    Some(match command {
        b'g' => meta::Verb::Get,
        b's' => meta::Verb::Set,
        b'd' => meta::Verb::Delete,
        b'a' => meta::Verb::Arith,
        b'e' => meta::Verb::Debug,
        b'l' => meta::Verb::List,
        b'p' => meta::Verb::Purge,
        _ => return None,
    })
}

/// Length of the word at the beginning of `text`.
#[inline]
pub(super) fn word_len(text: &[u8]) -> usize {
    memchr(b' ', text).unwrap_or(text.len())
}

/// Adds the keys that begin at `from` to `keys`, until the line ends, the input ends, a key is too long, or `keys_max` are in
/// the list. In the last case the answer is [`ListEnd::Open`] at the key that follows.
pub fn key_list(input: &[u8], from: usize, keys_max: usize, keys: &mut Keys) -> ListEnd {
    let mut at = from;
    let line_end = memchr(b'\n', &input[from..]).map(|len| from + len);
    let end = match line_end {
        Some(newline) if newline > from && input[newline - 1] == b'\r' => newline - 1,
        Some(newline) => newline,
        None => input.len(),
    };
    loop {
        while at < end && input[at] == b' ' {
            at += 1;
        }
        if at == end {
            return match line_end {
                Some(newline) => ListEnd::Newline(newline + 1),
                None => ListEnd::Open(at),
            };
        }
        if keys.len() == keys_max {
            return ListEnd::Open(at);
        }
        let key_end = memchr(b' ', &input[at..end]).map_or(end, |len| at + len);
        let key = &input[at..key_end];
        if line_end.is_none() && key_end == end {
            // The key may go on, and a CR at its end may be half of the line's terminator.
            let certain = key.strip_suffix(b"\r").unwrap_or(key);
            return if certain.len() > KEY_BYTES_MAX { ListEnd::BadKey(at) } else { ListEnd::Open(at) };
        }
        if key.len() > KEY_BYTES_MAX {
            return ListEnd::BadKey(at);
        }
        keys.push(Key { span: Span::new(at..key_end), hash: 0 });
        at = key_end;
    }
}

/// Judges the data block of `len` bytes that begins at `from` (protocol 1.11).
#[inline]
pub fn data_block(input: &[u8], from: usize, len: u32) -> Block {
    let end = from + len as usize;
    match input.get(end..end + 2) {
        Some(b"\r\n") => Block::Complete(Span::new(from..end)),
        Some(_) => Block::Unterminated(end + 2),
        None => Block::Incomplete,
    }
}

/// A line whose newline has not arrived (protocol 1.9).
#[cold]
fn open_line(input: &[u8], from: usize) -> Line {
    let line = &input[from..];
    if line.len() <= LINE_BYTES_MAX {
        return Line::Incomplete;
    }
    let spaces = line.iter().take_while(|byte| **byte == b' ').count();
    let text = &line[spaces..];
    let cas = text.starts_with(b"gets ");
    if spaces > LEADING_SPACES_MAX || !(cas || text.starts_with(b"get ")) {
        return Line::Hangup;
    }
    if line.len() < KEY_LIST_BUFFERED_MAX {
        return Line::Incomplete;
    }
    if spaces > 0 {
        // The command word of such a line is empty (protocol 1.3).
        return Line::EndlessLine(Reply::Error);
    }
    Line::EndlessKeys { retrieve: Retrieve { cas, touch: None }, keys: from + if cas { 5 } else { 4 } }
}

fn refused(reply: Reply, next: usize) -> Line {
    Line::Refused { reply: Some(reply), next, swallow: None }
}

/// A line that is answered with `reply` unless it ends in `noreply`.
pub(super) fn answered(reply: Reply, noreply: bool, next: usize) -> Line {
    Line::Refused { reply: (!noreply).then_some(reply), next, swallow: None }
}

/// The keys of a get or gets, in `list`.
#[inline]
fn retrieval(input: &[u8], list: std::ops::Range<usize>, next: usize, retrieve: Retrieve, keys: &mut Keys) -> Line {
    let first = keys.len();
    let mut at = list.start;
    loop {
        while at < list.end && input[at] == b' ' {
            at += 1;
        }
        if at == list.end {
            break;
        }
        let end = memchr(b' ', &input[at..list.end]).map_or(list.end, |len| at + len);
        if end - at > KEY_BYTES_MAX {
            keys.truncate(first);
            return refused(Reply::BadLine, next);
        }
        keys.push(Key { span: Span::new(at..end), hash: 0 });
        at = end;
    }
    if keys.len() == first {
        return refused(Reply::BadLine, next);
    }
    let request = Request::Retrieve { retrieve, first: first as KeyIndex, count: (keys.len() - first) as u32 };
    Line::Request { request, next }
}

/// `gat <exptime> <key>+`, `gats <exptime> <key>+`.
fn touching_retrieval(input: &[u8], tokens: &Tokens, cas: bool, end: usize, next: usize, keys: &mut Keys) -> Line {
    if tokens.count < 3 {
        return refused(Reply::BadLine, next);
    }
    let Some(exptime) = number::i32_strict(tokens.get(input, 1)) else {
        return refused(Reply::BadExptime, next);
    };
    let list = tokens.span(2).start as usize..end;
    retrieval(input, list, next, Retrieve { cas, touch: Some(exptime) }, keys)
}

/// `<verb> <key> <flags> <exptime> <bytes> [<unique>] [noreply]`.
fn storage(input: &[u8], tokens: &Tokens, next: usize, verb: Verb, keys: &mut Keys) -> Line {
    if tokens.count < 5 {
        return refused(Reply::BadLine, next);
    }
    let noreply = tokens.noreply(input);
    let Some(value_len) = number::value_len(tokens.get(input, 4)) else {
        return answered(Reply::BadLine, noreply, next);
    };
    let header = || {
        let verb = match verb {
            Verb::Cas(_) => Verb::Cas(number::u64_strict(tokens.get(input, 5))?),
            other => other,
        };
        let key = tokens.key(1)?;
        let flags = number::flags(tokens.get(input, 2))?;
        let exptime = number::exptime(tokens.get(input, 3))?;
        Some((verb, key, flags, exptime))
    };
    match header() {
        Some((verb, span, flags, exptime)) => {
            let key = push(keys, span);
            let request = Request::Store(Store { verb, key, flags, exptime, value_len, noreply });
            Line::Request { request, next }
        }
        None => Line::Refused { reply: (!noreply).then_some(Reply::BadLine), next, swallow: Some(value_len) },
    }
}

/// `delete <key> ...`.
fn delete(input: &[u8], tokens: &Tokens, next: usize, keys: &mut Keys) -> Line {
    if tokens.count < 2 {
        return refused(Reply::BadLine, next);
    }
    let noreply = tokens.noreply(input);
    match tokens.key(1) {
        Some(span) => Line::Request { request: Request::Delete { key: push(keys, span), noreply }, next },
        None => answered(Reply::BadLine, noreply, next),
    }
}

/// `incr <key> <delta> [noreply]`, `decr <key> <delta> [noreply]`.
fn arith(input: &[u8], tokens: &Tokens, next: usize, make: fn(u64) -> Arith, keys: &mut Keys) -> Line {
    if tokens.count < 3 {
        return refused(Reply::BadLine, next);
    }
    let noreply = tokens.noreply(input);
    let Some(span) = tokens.key(1) else {
        return answered(Reply::BadLine, noreply, next);
    };
    match number::u64_strict(tokens.get(input, 2)) {
        Some(delta) => {
            Line::Request { request: Request::Arith { key: push(keys, span), delta: make(delta), noreply }, next }
        }
        None => answered(Reply::BadDelta, noreply, next),
    }
}

/// `shutdown [graceful]`; whether it is allowed is for others to say.
fn shutdown(input: &[u8], tokens: &Tokens, next: usize) -> Line {
    let stop = match tokens.get(input, 1) {
        b"" => Some(Stop::Normal),
        b"graceful" => Some(Stop::Graceful),
        _ => None,
    };
    Line::Request { request: Request::Shutdown { stop, noreply: tokens.noreply(input) }, next }
}

/// `debugtime <seconds>|p|r`; whether it is there is for others to say.
fn debugtime(input: &[u8], tokens: &Tokens, next: usize) -> Line {
    let step = match tokens.get(input, 1) {
        b"p" => Some(TimeStep::Pause),
        b"r" => Some(TimeStep::Resume),
        seconds => number::u32_strict(seconds).map(TimeStep::Forward),
    };
    Line::Request { request: Request::DebugTime(step), next }
}

/// `touch <key> <exptime> [noreply]`.
fn touch(input: &[u8], tokens: &Tokens, next: usize, keys: &mut Keys) -> Line {
    if tokens.count < 3 {
        return refused(Reply::BadLine, next);
    }
    let noreply = tokens.noreply(input);
    let Some(span) = tokens.key(1) else {
        return answered(Reply::BadLine, noreply, next);
    };
    match number::i32_strict(tokens.get(input, 2)) {
        Some(exptime) => Line::Request { request: Request::Touch { key: push(keys, span), exptime, noreply }, next },
        None => answered(Reply::BadExptime, noreply, next),
    }
}

/// `flush_all [exptime] [noreply]`.
fn flush_all(input: &[u8], tokens: &Tokens, next: usize) -> Line {
    let noreply = tokens.noreply(input);
    let exptime = if tokens.count == 1 || (tokens.count == 2 && noreply) {
        Some(0)
    } else {
        number::i32_strict(tokens.get(input, 1))
    };
    match exptime {
        Some(exptime) => Line::Request { request: Request::FlushAll { exptime, noreply }, next },
        None => answered(Reply::BadExptime, noreply, next),
    }
}

/// `verbosity <level> [noreply]`.
fn verbosity(input: &[u8], tokens: &Tokens, next: usize) -> Line {
    let noreply = tokens.noreply(input);
    match number::u32_strict(tokens.get(input, 1)) {
        Some(level) => Line::Request { request: Request::Verbosity { level, noreply }, next },
        None => answered(Reply::BadLine, noreply, next),
    }
}

/// What the line in `input[from..next]`, newline included, deserves if its command word is unknown: a reply, or none if it asks for none.
/// `None` if it is not a client's of ours.
#[cold]
pub fn unknown_command(input: &[u8], from: usize, next: usize) -> Option<Option<Reply>> {
    let end = if input[from..next].ends_with(b"\r\n") { next - 2 } else { next - 1 };
    match unknown(input, &Tokens::split(input, from, end), next) {
        Line::Refused { reply, .. } => Some(reply),
        _ => None,
    }
}

/// A command word that nobody knows (protocol 1.5).
fn unknown(input: &[u8], tokens: &Tokens, next: usize) -> Line {
    if tokens.count >= 2 && tokens.last(input).starts_with(b"HTTP/") {
        return Line::Hangup;
    }
    answered(Reply::Error, tokens.noreply(input), next)
}

fn push(keys: &mut Keys, span: Span) -> KeyIndex {
    keys.push(Key { span, hash: 0 });
    (keys.len() - 1) as KeyIndex
}

/// The words of a line: the first few by position, the last one, and how many there are.
pub(super) struct Tokens {
    head: [Span; Tokens::HEAD],
    last: Span,
    pub(super) count: usize,
}

impl Tokens {
    /// No classic command looks at more words from the front: `cas <key> <flags> <exptime> <bytes> <unique>`.
    const HEAD: usize = 6;

    /// Splits `input[from..end]` at spaces. A line that begins with a space has an empty first word (protocol 1.3).
    fn split(input: &[u8], from: usize, end: usize) -> Tokens {
        let mut tokens = Tokens { head: [Span::default(); Tokens::HEAD], last: Span::default(), count: 0 };
        let mut at = from;
        while at < end {
            if input[at] == b' ' && at != from {
                at += 1;
                continue;
            }
            let start = at;
            if tokens.count == TOKENS_MAX - 1 {
                at = end;
            }
            while at < end && input[at] != b' ' {
                at += 1;
            }
            let span = Span::new(start..at);
            if tokens.count < Tokens::HEAD {
                tokens.head[tokens.count] = span;
            }
            tokens.last = span;
            tokens.count += 1;
            // The space that ended this word.
            at += 1;
        }
        tokens
    }

    pub(super) fn span(&self, index: usize) -> Span {
        self.head[index]
    }

    /// The word at `index`; empty if the line has fewer.
    pub(super) fn get<'i>(&self, input: &'i [u8], index: usize) -> &'i [u8] {
        self.head[index].of(input)
    }

    fn last<'i>(&self, input: &'i [u8]) -> &'i [u8] {
        self.last.of(input)
    }

    /// The word at `index` as a key, if it can be one.
    fn key(&self, index: usize) -> Option<Span> {
        let span = self.head[index];
        (span.len as usize <= KEY_BYTES_MAX).then_some(span)
    }

    /// Whether the client asked for silence: by the last word, wherever it stands (protocol 5.1, 5.3).
    pub(super) fn noreply(&self, input: &[u8]) -> bool {
        self.last(input) == b"noreply"
    }
}

/// What is the first key of the command at the front of `input`, if it is a command and has one. A guess, for fetching ahead: whoever runs
/// the command looks properly.
#[inline]
pub fn likely_key(input: &[u8]) -> Option<&[u8]> {
    // No command word is longer.
    let word = input.iter().take(WORD_BYTES_MAX + 1).position(|byte| *byte == b' ')?;
    let rest = &input[word + 1..];
    let len = rest.iter().take(KEY_BYTES_MAX + 1).position(|byte| *byte <= b' ')?;
    (len > 0).then(|| &rest[..len])
}

/// The length of `lru_crawler` and `cache_memlimit`, and more than that of any command with a key.
const WORD_BYTES_MAX: usize = 14;

#[cfg(test)]
mod tests {
    use super::*;

    /// What a single line is taken for, and the keys it names.
    fn line(input: &[u8]) -> (Line, Vec<&[u8]>) {
        let mut keys = Keys::new();
        let line = command_line(input, 0, &mut keys);
        (line, keys.iter().map(|key| key.span.of(input)).collect())
    }

    #[test]
    fn words_are_separated_by_spaces_only() {
        let input = b"set  a\t \x00  1";
        let tokens = Tokens::split(input, 0, input.len());
        assert_eq!(tokens.count, 4);
        assert_eq!(tokens.get(input, 1), b"a\t");
        assert_eq!(tokens.get(input, 2), b"\x00");
        assert_eq!(tokens.last(input), b"1");
        assert_eq!(tokens.get(input, 4), b"");
    }

    #[test]
    fn a_leading_space_makes_an_empty_word() {
        let input = b" get a";
        let tokens = Tokens::split(input, 0, input.len());
        assert_eq!((tokens.get(input, 0), tokens.get(input, 1)), (&b""[..], &b"get"[..]));
    }

    #[test]
    fn noreply_counts_among_the_first_23_words_only() {
        let with_junk = |junk: usize| format!("set k 0 0 1{} noreply\r\n", " x".repeat(junk)).into_bytes();
        let noreply = |input: Vec<u8>| match line(&input).0 {
            Line::Request { request: Request::Store(store), .. } => store.noreply,
            other => panic!("{other:?}"),
        };
        assert!(noreply(with_junk(17)));
        assert!(!noreply(with_junk(18)));
    }

    #[test]
    fn get_lists_every_key_of_the_line() {
        let (parsed, keys) = line(b"get a  bb a \r\nget c\r\n");
        let retrieve = Retrieve { cas: false, touch: None };
        assert_eq!(parsed, Line::Request { request: Request::Retrieve { retrieve, first: 0, count: 3 }, next: 14 });
        assert_eq!(keys, [&b"a"[..], b"bb", b"a"]);
    }

    #[test]
    fn a_refused_get_names_no_keys() {
        let long = [b"get a ", &[b'k'; 251][..], b" b\r\n"].concat();
        let (parsed, keys) = line(&long);
        assert_eq!(parsed, Line::Refused { reply: Some(Reply::BadLine), next: long.len(), swallow: None });
        assert!(keys.is_empty());
    }

    #[test]
    fn an_open_line_waits_up_to_2048_bytes() {
        assert_eq!(line(&[b'x'; 2048]).0, Line::Incomplete);
        assert_eq!(line(&[b'x'; 2049]).0, Line::Hangup);
        let get = |len: usize| [b"get ", &vec![b'k'; len][..]].concat();
        assert_eq!(line(&get(4000)).0, Line::Incomplete);
        assert_eq!(
            line(&get(KEY_LIST_BUFFERED_MAX)).0,
            Line::EndlessKeys { retrieve: Retrieve { cas: false, touch: None }, keys: 4 }
        );
        assert_eq!(line(&[&[b' '; 101][..], &get(2048)].concat()).0, Line::Hangup);
        assert_eq!(line(&[b" ", &get(KEY_LIST_BUFFERED_MAX)[..]].concat()).0, Line::EndlessLine(Reply::Error));
    }

    #[test]
    fn a_key_list_stops_where_a_key_may_go_on() {
        let mut keys = Keys::new();
        assert_eq!(key_list(b"a bb c", 0, 10, &mut keys), ListEnd::Open(5));
        assert_eq!(keys.len(), 2);
        keys.clear();
        assert_eq!(key_list(b"a bb c\r\nx", 0, 10, &mut keys), ListEnd::Newline(8));
        assert_eq!(keys.len(), 3);
        keys.clear();
        assert_eq!(key_list(b"a bb c\r\n", 0, 2, &mut keys), ListEnd::Open(5));
        let full = [&[b'k'; 250][..], b"\r"].concat();
        keys.clear();
        assert_eq!(key_list(&full, 0, 2, &mut keys), ListEnd::Open(0));
        assert_eq!(key_list(&[&full[..], b"k"].concat(), 0, 2, &mut keys), ListEnd::BadKey(0));
        assert_eq!(key_list(&[&full[..], b"\n"].concat(), 0, 2, &mut keys), ListEnd::Newline(252));
    }

    #[test]
    fn a_data_block_needs_its_crlf() {
        assert_eq!(data_block(b"abc\r\n", 0, 3), Block::Complete(Span::new(0..3)));
        assert_eq!(data_block(b"abc\r\n", 0, 2), Block::Unterminated(4));
        assert_eq!(data_block(b"abc\r", 0, 3), Block::Incomplete);
    }

    #[test]
    fn the_likely_key_is_the_second_word() {
        let key = |input: &'static str| likely_key(input.as_bytes()).map(|key| std::str::from_utf8(key).unwrap());
        assert_eq!(key("get a\r\n"), Some("a"));
        assert_eq!(key("get abc def\r\nget g\r\n"), Some("abc"));
        assert_eq!(key("set abc 0 0 1\r\n1\r\n"), Some("abc"));
        assert_eq!(key("mg abc v\n"), Some("abc"));
        for none in ["", "get", "get ", "get abc", "get  a\r\n", "version\r\n", "get\r\n", "aaaaaaaaaaaaaaaaaaaa a\r\n"]
        {
            assert_eq!(key(none), None, "{none:?}");
        }
        let long = [b"get ".to_vec(), vec![b'k'; 251], b"\r\n".to_vec()].concat();
        assert_eq!(likely_key(&long), None);
        assert_eq!(likely_key(&[&long[..4], &long[5..]].concat()).map(<[u8]>::len), Some(250));
    }
}
