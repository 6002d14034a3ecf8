//! Any bytes through the parser.
//!
//! Whatever it is shown, a line's reading depends on the line alone: not on what follows, nor on where it stands in the input, nor on
//! how much of it was shown before.

#![no_main]

use libfuzzer_sys::{fuzz_mutator, fuzz_target, fuzzer_mutate};
use memkv_fuzz::conversation::Conversation;
use memkv_fuzz::grammar;
use memkv_server::protocol::meta::{self, Decoded};
use memkv_server::protocol::parse::{Block, Line, ListEnd, command_line, data_block, key_list};
use memkv_server::protocol::{Key, Keys, Request, Span, base64};

/// What a line is taken for, positions counted from its beginning.
#[derive(Debug, PartialEq)]
struct Reading {
    line: Line,
    /// The keys themselves.
    keys: Vec<Vec<u8>>,
    meta: Option<Result<meta::Meta, meta::Refusal>>,
}

fn read(input: &[u8], from: usize) -> Reading {
    // One key of somebody else's, which must stay.
    let stranger = Key { span: Span::new(0..0), hash: 7 };
    let mut keys: Keys = vec![stranger];
    let mut line = command_line(input, from, &mut keys);
    let (mut decoded, mut meta) = (Decoded::new(), None);
    if let Line::Meta { verb, rest, .. } = line {
        assert_eq!(keys.len(), 1, "a meta line names its key when its flags are read");
        let read = meta::line(verb, rest, input, &mut keys, &mut decoded);
        assert_eq!(keys.len(), 1 + usize::from(read.is_ok()), "a refused line names no key");
        meta = Some(read);
    }
    assert_eq!(keys[0], stranger);
    let named = match line {
        Line::Request { request: Request::Retrieve { first, count, .. }, .. } => {
            assert_eq!(first, 1);
            count as usize
        }
        Line::Request {
            request: Request::Store(_) | Request::Delete { .. } | Request::Arith { .. } | Request::Touch { .. },
            ..
        } => 1,
        Line::Meta { .. } => usize::from(meta.as_ref().is_some_and(Result::is_ok)),
        _ => 0,
    };
    assert_eq!(keys.len() - 1, named, "{line:?}");
    let keys: Vec<Vec<u8>> = keys[1..].iter().map(|key| meta::key_bytes(key.span, input, &decoded).to_vec()).collect();
    for key in &keys {
        assert!(!key.is_empty() && key.len() <= 250);
    }
    match &mut line {
        Line::Request { next, .. } | Line::Refused { next, .. } => *next -= from,
        Line::Meta { rest, next, .. } => {
            assert!(rest.end() <= *next);
            rest.start -= from as u32;
            *next -= from;
        }
        Line::EndlessKeys { keys, .. } => *keys -= from,
        Line::Incomplete | Line::EndlessLine(_) | Line::Hangup => {}
    }
    Reading { line, keys, meta }
}

/// Where the next line begins, of a line that has an end.
fn next(line: &Line) -> Option<usize> {
    match line {
        Line::Request { next, .. } | Line::Meta { next, .. } | Line::Refused { next, .. } => Some(*next),
        _ => None,
    }
}

fn lines(input: &[u8], cut: usize) {
    let mut at = 0;
    while at < input.len() {
        let reading = read(input, at);
        let newline = input[at..].iter().position(|byte| *byte == b'\n');
        let Some(newline) = newline else {
            assert!(next(&reading.line).is_none(), "without a newline: {reading:?}");
            return;
        };
        // What has an end ends at the newline; a client that is none may be recognized at once.
        assert!(next(&reading.line).is_none_or(|next| next == newline + 1), "{reading:?}");
        assert!(next(&reading.line).is_some() || reading.line == Line::Hangup, "{reading:?}");
        let line = &input[at..at + newline + 1];
        assert_eq!(read(line, 0), reading, "alone, and in its place");
        // A part of it is no command yet.
        let part = &line[..cut % line.len()];
        let early = read(part, 0);
        assert!(next(&early.line).is_none() && early.keys.is_empty(), "{early:?} of {}", part.escape_ascii());
        if part.len() <= 2048 {
            assert_eq!(early.line, Line::Incomplete);
        }
        at += newline + 1;
    }
}

/// The keys of a list, shown in parts and a few at a time, as a session does.
fn list(input: &[u8], cut: usize, keys_max: usize) -> (Vec<Vec<u8>>, Option<ListEnd>) {
    let (mut found, mut at) = (Vec::new(), 0);
    for shown in [&input[..cut], input] {
        loop {
            let mut keys = Keys::new();
            let end = key_list(shown, at, keys_max, &mut keys);
            assert!(keys.len() <= keys_max);
            found.extend(keys.iter().map(|key| key.span.of(shown).to_vec()));
            match end {
                ListEnd::Open(position) => {
                    assert!(position >= at && position <= shown.len());
                    at = position;
                    if keys.len() < keys_max {
                        break;
                    }
                }
                end => return (found, Some(end)),
            }
        }
    }
    (found, None)
}

fuzz_target!(|data: &[u8]| {
    // The two bytes that say how a session goes say here where the input is cut, and how long data blocks and lists are.
    let ([cut, len, ..], Some(conversation)) = (data, Conversation::new(data)) else { return };
    // As much as a session's buffer holds.
    let input = &conversation.bytes[..conversation.bytes.len().min(16 * 1024)];
    let cut = usize::from(*cut) * (input.len() + 1) / 256;
    lines(input, cut);
    let keys_max = 1 + usize::from(*len) % 7;
    assert_eq!(list(input, cut, keys_max), list(input, 0, usize::MAX));
    let len = usize::from(*len);
    match data_block(input, cut, len as u32) {
        Block::Complete(span) => {
            assert_eq!((span.start as usize, span.len as usize), (cut, len));
            assert_eq!(&input[cut + len..cut + len + 2], b"\r\n");
        }
        Block::Unterminated(next) => {
            assert_eq!(next, cut + len + 2);
            assert_ne!(&input[next - 2..next], b"\r\n");
        }
        Block::Incomplete => assert!(input.len() < cut + len + 2),
    }
    let mut text = Vec::new();
    base64::encode(input, &mut text);
    let mut back = Vec::new();
    assert_eq!(base64::decode(&text, &mut back), !input.is_empty());
    assert_eq!(back, input);
    let mut any = b"stays".to_vec();
    let is_valid = base64::decode(input, &mut any);
    assert!(any.starts_with(b"stays") && (any.len() > 5) == is_valid);
});

fuzz_mutator!(|data: &mut [u8], size: usize, max_size: usize, seed: u32| {
    if seed % 2 == 0 { fuzzer_mutate(data, size, max_size) } else { grammar::mutate(data, size, max_size, seed) }
});
