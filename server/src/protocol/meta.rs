//! The lines of the meta commands (protocol 4): flags in any order, each one letter and what is attached to it.
//!
//! [`line()`] reads everything behind the command word. A key in base64 is decoded at once, into a buffer that the keys of the
//! batch share; its [`Span`] says so by [`DECODED`].

use super::base64;
use super::number;
use super::request::{Key, KeyIndex, Keys, Span};
use super::{Reply, parse};
use crate::limits::{KEY_BYTES_MAX, META_TOKENS_MAX, OPAQUE_BYTES_MAX};

/// Set in the start of a span that lies in [`Decoded`] rather than in the input.
pub const DECODED: u32 = 1 << 31;

/// Bytes of keys that came in base64.
pub type Decoded = Vec<u8>;

/// The bytes of a key, given the input and the decoded keys that its span was made for.
#[inline]
pub fn key_bytes<'i>(span: Span, input: &'i [u8], decoded: &'i [u8]) -> &'i [u8] {
    if span.start & DECODED == 0 {
        span.of(input)
    } else {
        Span { start: span.start & !DECODED, len: span.len }.of(decoded)
    }
}

/// Which meta command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verb {
    /// mg
    Get,
    /// ms
    Set,
    /// md
    Delete,
    /// ma
    Arith,
    /// me
    Debug,
    /// ml: list the keys that begin with the given one. Not memcached's.
    List,
    /// mp: delete the items whose keys begin with the given one. Not memcached's.
    Purge,
}

/// The letters of a line's flags, in their order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Flags {
    letters: [u8; META_TOKENS_MAX - 2],
    count: u8,
    /// Which letters there are; bit 0 is `A`.
    given: u64,
}

impl Flags {
    /// Adds a letter; false if it was there.
    fn add(&mut self, letter: u8) -> bool {
        let bit = 1 << (letter - b'A');
        let is_new = self.given & bit == 0;
        self.given |= bit;
        self.letters[usize::from(self.count)] = letter;
        self.count += 1;
        is_new
    }

    /// Whether this letter was given.
    #[inline]
    pub fn has(&self, letter: u8) -> bool {
        self.given >> (letter - b'A') & 1 == 1
    }

    /// The letters, in the order of the request.
    #[inline]
    pub fn letters(&self) -> &[u8] {
        &self.letters[..usize::from(self.count)]
    }

    /// Whether both letters were given, the first one first.
    pub fn in_order(&self, first: u8, second: u8) -> bool {
        self.has(first)
            && self.has(second)
            && self.letters().iter().find(|letter| [first, second].contains(letter)) == Some(&first)
    }
}

/// The opaque token of a request, which is sent back as it came.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Opaque {
    bytes: [u8; OPAQUE_BYTES_MAX],
    len: u8,
}

impl Opaque {
    /// The token, its letter included.
    pub fn token(&self) -> &[u8] {
        &self.bytes[..usize::from(self.len)]
    }
}

/// A meta command, complete and valid, but for the data block of ms. Arguments that were not given are 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Meta {
    /// Which command.
    pub verb: Verb,
    /// The key.
    pub key: KeyIndex,
    /// Its flags.
    pub flags: Flags,
    /// O
    pub opaque: Opaque,
    /// C: the CAS id to compare with.
    pub compare: u64,
    /// E: the CAS id to store.
    pub cas: u64,
    /// T: the expiry, as the client wrote it.
    pub exptime: i32,
    /// N: the expiry of what is made on a miss.
    pub vivify: i32,
    /// R: the remaining time below which the item is to be fetched anew.
    pub recache: i32,
    /// F: client flags.
    pub client_flags: u32,
    /// D: by how much; 1 if not given.
    pub delta: u64,
    /// J: the number to begin with.
    pub initial: u64,
    /// M: the mode; 0 if it was given without one.
    pub mode: u8,
    /// Bytes of the data block of ms, without its CRLF.
    pub value_len: u32,
}

/// Why a line is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The answer. Quiet requests get it too (protocol 4.1.11).
    pub reply: Reply,
    /// Bytes of a data block that must not be taken for commands.
    pub swallow: Option<u32>,
}

/// Reads what stands behind the command word, in `span` of the input. On success the key is the last one in `keys`.
///
/// # Errors
/// A refused line names no key.
pub fn line(verb: Verb, span: Span, input: &[u8], keys: &mut Keys, decoded: &mut Decoded) -> Result<Meta, Refusal> {
    let mut words = Words { at: span.start as usize, end: span.end(), input };
    let refuse = |reply| Refusal { reply, swallow: None };
    let key = words.next().ok_or(refuse(Reply::BadLine))?;
    let mut swallow = None;
    if verb == Verb::Set {
        let value_len = words.next().and_then(|word| number::value_len(word.of(input)));
        swallow = Some(value_len.ok_or(refuse(Reply::BadLine))?);
    }
    let refuse = |reply| Refusal { reply, swallow };
    // ma has one word for whatever is wrong with its key and flags (protocol 2.1, 4.1.6).
    let refuse_flags = |reply| refuse(if verb == Verb::Arith { Reply::BadMetaFlags } else { reply });
    if key.len as usize > KEY_BYTES_MAX {
        return Err(refuse_flags(Reply::BadLine));
    }
    let mut meta = Meta {
        verb,
        key: keys.len() as KeyIndex,
        flags: Flags::default(),
        opaque: Opaque::default(),
        compare: 0,
        cas: 0,
        exptime: 0,
        vivify: 0,
        recache: 0,
        client_flags: 0,
        delta: 1,
        initial: 0,
        mode: b'S',
        value_len: swallow.unwrap_or(0),
    };
    if verb == Verb::Arith {
        meta.mode = b'I';
    }
    if verb == Verb::Debug {
        // me knows b and nothing else, and minds nothing else either.
        for word in words {
            if word.of(input).starts_with(b"b") && !meta.flags.has(b'b') {
                meta.flags.add(b'b');
            }
        }
    } else {
        let words_max = META_TOKENS_MAX - if verb == Verb::Set { 3 } else { 2 };
        // Each takes two bytes at least, so that most lines need not be counted.
        if words.end - words.at > 2 * words_max && words.take(words_max + 1).count() > words_max {
            return Err(refuse(Reply::MetaTooLong));
        }
        let opaque_fits = meta.scan(words, input).map_err(refuse_flags)?;
        meta.check_mode().map_err(refuse)?;
        if !opaque_fits {
            return Err(refuse(Reply::OpaqueTooLong));
        }
    }
    let mut span = key;
    if meta.flags.has(b'b') {
        let start = decoded.len();
        if !base64::decode(key.of(input), decoded) {
            return Err(refuse_flags(Reply::BadBase64));
        }
        span = Span { start: start as u32 | DECODED, len: (decoded.len() - start) as u32 };
    }
    keys.push(Key { span, hash: 0 });
    Ok(meta)
}

impl Meta {
    /// Reads the flags, and answers whether the opaque token fits: memcached looks at that only when it answers.
    ///
    /// A letter that is unknown or repeated ends it; of several arguments that are wrong the last one decides.
    fn scan(&mut self, words: Words<'_>, input: &[u8]) -> Result<bool, Reply> {
        let (mut wrong, mut opaque_fits) = (None, true);
        for word in words {
            let (letter, argument) = word.of(input).split_first().expect("a word has a byte");
            match letter {
                b'A'..=b'z' | b'0'..=b'9' => {}
                _ => return Err(Reply::BadLine),
            }
            if !matches!(letter, b'A'..=b'z') {
                return Err(Reply::BadFlag);
            }
            if !self.flags.add(*letter) {
                return Err(Reply::DuplicateFlag);
            }
            let is_right = match letter {
                b'b' | b'c' | b'f' | b'h' | b'k' | b'l' | b'q' | b's' | b't' | b'u' | b'v' | b'x' => Ok(()),
                b'I' | b'L' | b'P' => Ok(()),
                b'O' => {
                    opaque_fits = self.opaque.set(word.of(input)).is_some();
                    Ok(())
                }
                b'M' => {
                    self.mode = argument.first().copied().unwrap_or(0);
                    Ok(())
                }
                b'T' => read(number::i32_strict(argument), &mut self.exptime, Reply::BadToken),
                b'N' => read(number::i32_strict(argument), &mut self.vivify, Reply::BadToken),
                b'R' => read(number::i32_strict(argument), &mut self.recache, Reply::BadToken),
                b'C' => read(number::u64_strict(argument), &mut self.compare, Reply::BadToken),
                b'E' => read(number::u64_strict(argument), &mut self.cas, Reply::BadToken),
                b'F' => read(number::u32_strict(argument), &mut self.client_flags, Reply::BadLine),
                b'J' => read(number::u64_strict(argument), &mut self.initial, Reply::BadInitial),
                b'D' => read(number::u64_strict(argument), &mut self.delta, Reply::BadMetaDelta),
                _ => return Err(Reply::BadFlag),
            };
            if let Err(reply) = is_right {
                wrong = Some(reply);
            }
        }
        wrong.map_or(Ok(opaque_fits), Err)
    }

    fn check_mode(&self) -> Result<(), Reply> {
        match (self.verb, self.mode) {
            (Verb::Set, b'S' | b'E' | b'A' | b'P' | b'R') | (Verb::Arith, b'I' | b'+' | b'D' | b'-') => Ok(()),
            (Verb::Set, _) => Err(Reply::BadSetMode),
            (Verb::Arith, _) => Err(Reply::BadArithMode),
            _ => Ok(()),
        }
    }
}

impl Opaque {
    fn set(&mut self, token: &[u8]) -> Option<()> {
        self.bytes.get_mut(..token.len())?.copy_from_slice(token);
        self.len = token.len() as u8;
        Some(())
    }
}

fn read<T>(number: Option<T>, to: &mut T, reply: Reply) -> Result<(), Reply> {
    *to = number.ok_or(reply)?;
    Ok(())
}

/// The words of a stretch of the input.
#[derive(Clone, Copy)]
struct Words<'i> {
    at: usize,
    end: usize,
    input: &'i [u8],
}

impl Iterator for Words<'_> {
    type Item = Span;

    #[inline]
    fn next(&mut self) -> Option<Span> {
        let rest = &self.input[self.at..self.end];
        let start = self.at + rest.iter().position(|byte| *byte != b' ')?;
        let len = parse::word_len(&self.input[start..self.end]);
        self.at = start + len;
        Some(Span::new(start..start + len))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(verb: Verb, text: &str) -> Result<(Meta, Vec<u8>), Refusal> {
        let (mut keys, mut decoded) = (Keys::new(), Decoded::new());
        let input = text.as_bytes();
        let meta = line(verb, Span::new(0..input.len()), input, &mut keys, &mut decoded)?;
        let key = keys.last().expect("a key was added");
        assert_eq!(meta.key as usize, keys.len() - 1);
        Ok((meta, key_bytes(key.span, input, &decoded).to_vec()))
    }

    fn refused(verb: Verb, text: &str) -> (Reply, Option<u32>) {
        let refusal = parsed(verb, text).expect_err(text);
        (refusal.reply, refusal.swallow)
    }

    #[test]
    fn flags_keep_their_order() {
        let (meta, key) = parsed(Verb::Get, "  foo  t T50 v  kxyz Oab ").expect("valid");
        assert_eq!(key, b"foo");
        assert_eq!(meta.flags.letters(), b"tTvkO");
        assert!(meta.flags.in_order(b't', b'T') && !meta.flags.in_order(b'T', b't'));
        assert!(!meta.flags.in_order(b't', b'R') && meta.flags.has(b'k') && !meta.flags.has(b'q'));
        assert_eq!((meta.exptime, meta.opaque.token()), (50, &b"Oab"[..]));
    }

    #[test]
    fn every_known_letter_is_known_to_all() {
        for verb in [Verb::Get, Verb::Delete, Verb::Arith] {
            for flag in "b c f h k l q s t u v x C1 D1 E1 F1 I J1 L MI N1 O1 P R1 T1".split(' ') {
                assert!(parsed(verb, &format!("Zm9v {flag}")).is_ok(), "{verb:?} {flag}");
            }
            let reply = if verb == Verb::Arith { Reply::BadMetaFlags } else { Reply::BadFlag };
            for letter in (b'A'..=b'z').filter(|letter| !b"bcfhklqstuvxCDEFIJLMNOPRT".contains(letter)) {
                assert_eq!(refused(verb, &format!("foo {}1", letter as char)), (reply, None));
            }
        }
    }

    #[test]
    fn the_last_wrong_argument_decides() {
        assert_eq!(refused(Verb::Get, "foo Tx Fx"), (Reply::BadLine, None));
        assert_eq!(refused(Verb::Get, "foo Fx Tx"), (Reply::BadToken, None));
        assert_eq!(refused(Verb::Get, "foo Tx s s Fx"), (Reply::DuplicateFlag, None));
        assert_eq!(refused(Verb::Set, "foo 5 Tx MX"), (Reply::BadToken, Some(5)));
        assert_eq!(refused(Verb::Set, "foo x Tx"), (Reply::BadLine, None));
    }

    #[test]
    fn as_many_words_as_fit() {
        let words = |count: usize| " s".repeat(count);
        assert_eq!(refused(Verb::Get, &format!("foo{}", words(19))), (Reply::MetaTooLong, None));
        assert_eq!(refused(Verb::Get, &format!("foo{}", words(18))), (Reply::DuplicateFlag, None));
        assert_eq!(refused(Verb::Set, &format!("foo 1{}", words(18))), (Reply::MetaTooLong, Some(1)));
        assert_eq!(refused(Verb::Set, &format!("foo 1{}", words(17))), (Reply::DuplicateFlag, Some(1)));
    }

    #[test]
    fn keys_in_base64_lie_elsewhere() {
        let (meta, key) = parsed(Verb::Set, "Zm9v 3 b").expect("valid");
        assert_eq!((key, meta.value_len), (b"foo".to_vec(), 3));
        assert_eq!(refused(Verb::Set, "Zm9 3 b"), (Reply::BadBase64, Some(3)));
    }
}
