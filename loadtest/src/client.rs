//! The memcached text protocol as a client speaks it: requests to bytes, bytes to replies.
//!
//! Pure functions on byte slices, written from the protocol's description alone. They share nothing with any server, so that
//! a shared mistake cannot hide. Nothing here knows sockets, time or what was asked before.

use memchr::memchr;

/// Longest reply line that is waited for. A `VALUE` line with the longest key needs less than 320 bytes; error texts vary.
const LINE_BYTES_MAX: usize = 2048;
/// Largest value that is believed: the protocol's own bound is 1 GiB.
const VALUE_BYTES_MAX: usize = 1 << 30;

/// One complete reply line, with its data block where it has one.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Reply<'a> {
    /// One hit of a get. A get is answered by any number of these, then [`Reply::End`].
    Value {
        /// The key as the server repeats it.
        key: &'a [u8],
        /// Client flags.
        flags: u32,
        /// CAS id, if the request was one that asks for it.
        cas: Option<u64>,
        /// The value.
        data: &'a [u8],
    },
    /// End of a get's hits.
    End,
    /// The item was stored.
    Stored,
    /// A condition (add, replace, append) was not met.
    NotStored,
    /// A cas found a newer item.
    Exists,
    /// No such item.
    NotFound,
    /// The item was deleted.
    Deleted,
    /// The item's expiry was set.
    Touched,
    /// Done.
    Ok,
    /// New value of a counter.
    Number(u64),
    /// The rest of a `VERSION` line.
    Version(&'a [u8]),
    /// The rest of a `STAT` line.
    Stat(&'a [u8]),
    /// Meta dialect: done, whatever it was.
    Done,
    /// Meta dialect: the answer to a no-op.
    NoOp,
    /// Unknown command.
    Error,
    /// The server blames the request; the text after the word.
    ClientError(&'a [u8]),
    /// The server blames itself; the text after the word.
    ServerError(&'a [u8]),
}

/// What the bytes at hand amount to.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Parsed<'a> {
    /// A reply, and the number of bytes it took.
    Complete(Reply<'a>, usize),
    /// The reply is not whole: at least this many bytes from its start on are needed.
    Partial(usize),
    /// No memcached server answers like this.
    Malformed,
}

/// Reads the reply at the start of `bytes`.
#[inline]
pub fn parse(bytes: &[u8]) -> Parsed<'_> {
    let scanned = &bytes[..bytes.len().min(LINE_BYTES_MAX)];
    let Some(newline) = memchr(b'\n', scanned) else {
        return if scanned.len() == LINE_BYTES_MAX { Parsed::Malformed } else { Parsed::Partial(bytes.len() + 1) };
    };
    let Some(line) = bytes[..newline].strip_suffix(b"\r") else {
        return Parsed::Malformed;
    };
    if let Some(fields) = line.strip_prefix(b"VALUE ") {
        return parse_value(fields, bytes, newline + 1);
    }
    if let Some(fields) = line.strip_prefix(b"VA ") {
        return parse_meta_value(fields, bytes, newline + 1);
    }
    match parse_line(line).or_else(|| parse_meta_line(line)) {
        Some(reply) => Parsed::Complete(reply, newline + 1),
        None => Parsed::Malformed,
    }
}

/// `fields` is what follows `VALUE `; the data begins at `data_start`.
#[inline]
fn parse_value<'a>(fields: &'a [u8], bytes: &'a [u8], data_start: usize) -> Parsed<'a> {
    let Some(header) = parse_value_header(fields) else {
        return Parsed::Malformed;
    };
    let data_end = data_start + header.value_bytes;
    if bytes.len() < data_end + 2 {
        return Parsed::Partial(data_end + 2);
    }
    if bytes[data_end..data_end + 2] != *b"\r\n" {
        return Parsed::Malformed;
    }
    let ValueHeader { key, flags, cas, .. } = header;
    Parsed::Complete(Reply::Value { key, flags, cas, data: &bytes[data_start..data_end] }, data_end + 2)
}

/// The same for what follows `VA `: the length, then flags of which `k` is the key, `c` the CAS id and `f` the client flags.
fn parse_meta_value<'a>(fields: &'a [u8], bytes: &'a [u8], data_start: usize) -> Parsed<'a> {
    let mut words = fields.split(|byte| *byte == b' ');
    let value_bytes = words.next().and_then(parse_number).and_then(|bytes| usize::try_from(bytes).ok());
    let Some(value_bytes) = value_bytes.filter(|bytes| *bytes <= VALUE_BYTES_MAX) else {
        return Parsed::Malformed;
    };
    let (mut key, mut flags, mut cas) = (&b""[..], 0, None);
    for word in words {
        match word {
            [b'k', name @ ..] => key = name,
            [b'c', id @ ..] => match parse_number(id) {
                Some(id) => cas = Some(id),
                None => return Parsed::Malformed,
            },
            [b'f', number @ ..] => match parse_number(number).and_then(|number| number.try_into().ok()) {
                Some(number) => flags = number,
                None => return Parsed::Malformed,
            },
            _ => {}
        }
    }
    let data_end = data_start + value_bytes;
    if bytes.len() < data_end + 2 {
        return Parsed::Partial(data_end + 2);
    }
    if bytes[data_end..data_end + 2] != *b"\r\n" {
        return Parsed::Malformed;
    }
    Parsed::Complete(Reply::Value { key, flags, cas, data: &bytes[data_start..data_end] }, data_end + 2)
}

/// Replies of the meta dialect without data. Flags that they carry were not asked for.
fn parse_meta_line(line: &[u8]) -> Option<Reply<'_>> {
    let (code, rest) = line.split_at_checked(2)?;
    if !rest.is_empty() && rest[0] != b' ' {
        return None;
    }
    Some(match code {
        b"HD" => Reply::Done,
        b"EN" => Reply::End,
        b"MN" => Reply::NoOp,
        b"NS" => Reply::NotStored,
        b"EX" => Reply::Exists,
        b"NF" => Reply::NotFound,
        _ => return None,
    })
}

struct ValueHeader<'a> {
    key: &'a [u8],
    flags: u32,
    value_bytes: usize,
    cas: Option<u64>,
}

#[inline]
fn parse_value_header(fields: &[u8]) -> Option<ValueHeader<'_>> {
    let space = memchr(b' ', fields)?;
    let (key, rest) = (&fields[..space], &fields[space + 1..]);
    let (flags, rest) = take_number(rest)?;
    let (value_bytes, rest) = take_number(rest.strip_prefix(b" ")?)?;
    let cas = match rest.strip_prefix(b" ") {
        Some(cas) => Some(parse_number(cas)?),
        None if rest.is_empty() => None,
        None => return None,
    };
    let value_bytes = usize::try_from(value_bytes).ok().filter(|bytes| *bytes <= VALUE_BYTES_MAX)?;
    (!key.is_empty()).then_some(ValueHeader { key, flags: flags.try_into().ok()?, value_bytes, cas })
}

fn parse_line(line: &[u8]) -> Option<Reply<'_>> {
    Some(match line {
        b"END" => Reply::End,
        b"STORED" => Reply::Stored,
        b"NOT_STORED" => Reply::NotStored,
        b"EXISTS" => Reply::Exists,
        b"NOT_FOUND" => Reply::NotFound,
        b"DELETED" => Reply::Deleted,
        b"TOUCHED" => Reply::Touched,
        b"OK" => Reply::Ok,
        b"ERROR" => Reply::Error,
        [b'0'..=b'9', ..] => Reply::Number(parse_number(line)?),
        _ => parse_texts(line)?,
    })
}

/// Lines that are a word and a text.
fn parse_texts(line: &[u8]) -> Option<Reply<'_>> {
    let text_after = |word: &[u8]| line.strip_prefix(word);
    None.or_else(|| text_after(b"CLIENT_ERROR ").map(Reply::ClientError))
        .or_else(|| text_after(b"SERVER_ERROR ").map(Reply::ServerError))
        // Some servers, and memcached for one, explain an ERROR.
        .or_else(|| text_after(b"ERROR ").map(|_| Reply::Error))
        .or_else(|| text_after(b"VERSION ").map(Reply::Version))
        .or_else(|| text_after(b"STAT ").map(Reply::Stat))
}

/// Splits off the digits at the front.
#[inline]
fn take_number(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let mut number = 0_u64;
    let mut digits = 0;
    while let Some(digit) = bytes.get(digits).map(|byte| byte.wrapping_sub(b'0')).filter(|digit| *digit < 10) {
        number = number.checked_mul(10)?.checked_add(u64::from(digit))?;
        digits += 1;
    }
    (digits > 0).then_some((number, &bytes[digits..]))
}

/// Reads a number in decimal.
pub fn parse_number(bytes: &[u8]) -> Option<u64> {
    let (number, rest) = take_number(bytes)?;
    rest.is_empty().then_some(number)
}

/// A storage request without its key and data.
#[derive(Clone, Copy, Debug)]
pub struct Store<'a> {
    /// `set`, `add`, `replace`, `append`, `prepend` or `cas`.
    pub word: &'a str,
    /// Seconds that the item may live; 0 for ever.
    pub ttl_s: u32,
    /// Length of the data.
    pub value_bytes: usize,
    /// Id of the item that a `cas` replaces.
    pub cas_id: Option<u64>,
    /// Meta dialect: say nothing of success, and repeat this number in any other answer.
    pub quiet: Option<u32>,
}

/// The number that an answer of the meta dialect repeats, if it does.
pub fn opaque(answer: &[u8]) -> Option<u32> {
    let line = answer.split(|byte| *byte == b'\r').next()?;
    let words = line.split(|byte| *byte == b' ').skip(1);
    let mut opaques = words.filter_map(|word| word.strip_prefix(b"O"));
    parse_number(opaques.next()?)?.try_into().ok()
}

/// Appends the flags of a quiet request.
pub fn write_quiet(out: &mut Vec<u8>, number: u32) {
    out.extend_from_slice(b" q O");
    write_number(out, u64::from(number));
}

/// Appends a storage request up to its data block, which the caller appends, followed by [`LINE_END`].
#[inline]
pub fn begin_store(out: &mut Vec<u8>, store: Store<'_>, key: impl FnOnce(&mut Vec<u8>)) {
    out.extend_from_slice(store.word.as_bytes());
    out.push(b' ');
    key(out);
    out.extend_from_slice(b" 0 ");
    write_number(out, u64::from(store.ttl_s));
    out.push(b' ');
    write_number(out, store.value_bytes as u64);
    if let Some(cas_id) = store.cas_id {
        out.push(b' ');
        write_number(out, cas_id);
    }
    out.extend_from_slice(LINE_END);
}

/// Appends the meta dialect's `ms` up to its data block, as [`begin_store`] does.
pub fn begin_meta_store(out: &mut Vec<u8>, store: Store<'_>, key: impl FnOnce(&mut Vec<u8>)) {
    out.extend_from_slice(b"ms ");
    key(out);
    out.push(b' ');
    write_number(out, store.value_bytes as u64);
    out.extend_from_slice(b" T");
    write_number(out, u64::from(store.ttl_s));
    if let Some(cas_id) = store.cas_id {
        out.extend_from_slice(b" C");
        write_number(out, cas_id);
    }
    out.extend_from_slice(match store.word {
        "add" => b" ME",
        "replace" => b" MR",
        "append" => b" MA",
        "prepend" => b" MP",
        _ => b"",
    });
    if let Some(number) = store.quiet {
        write_quiet(out, number);
    }
    out.extend_from_slice(LINE_END);
}

/// What a server says, unasked, to a client that is one too many, before it closes the connection.
pub const TOO_MANY_CONNECTIONS: &[u8] = b"ERROR Too many open connections\r\n";

/// What ends a request line, and the data of a storage request.
pub const LINE_END: &[u8] = b"\r\n";

/// Appends a number in decimal.
pub fn write_number(out: &mut Vec<u8>, number: u64) {
    let mut digits = [0; 20];
    let mut at = digits.len();
    let mut rest = number;
    loop {
        at -= 1;
        digits[at] = b'0' + (rest % 10) as u8;
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[at..]);
}

#[cfg(test)]
mod tests {
    use super::*;

    const CASES: &[(&[u8], Reply<'_>)] = &[
        (b"END\r\n", Reply::End),
        (b"STORED\r\n", Reply::Stored),
        (b"NOT_STORED\r\n", Reply::NotStored),
        (b"EXISTS\r\n", Reply::Exists),
        (b"NOT_FOUND\r\n", Reply::NotFound),
        (b"DELETED\r\n", Reply::Deleted),
        (b"TOUCHED\r\n", Reply::Touched),
        (b"OK\r\n", Reply::Ok),
        (b"HD\r\n", Reply::Done),
        (b"EN\r\n", Reply::End),
        (b"MN\r\n", Reply::NoOp),
        (b"NF\r\n", Reply::NotFound),
        (b"NS kfoo\r\n", Reply::NotStored),
        (b"EX\r\n", Reply::Exists),
        (b"VA 2 kfoo c7 f5\r\na\n\r\n", Reply::Value { key: b"foo", flags: 5, cas: Some(7), data: b"a\n" }),
        (b"VA 1\r\n5\r\n", Reply::Value { key: b"", flags: 0, cas: None, data: b"5" }),
        (b"ERROR\r\n", Reply::Error),
        (b"ERROR Too many open connections\r\n", Reply::Error),
        (b"CLIENT_ERROR bad data chunk\r\n", Reply::ClientError(b"bad data chunk")),
        (b"SERVER_ERROR out of memory\r\n", Reply::ServerError(b"out of memory")),
        (b"VERSION 1.6.45\r\n", Reply::Version(b"1.6.45")),
        (b"STAT pid 1\r\n", Reply::Stat(b"pid 1")),
        (b"18446744073709551615\r\n", Reply::Number(u64::MAX)),
        (b"VALUE k 0 0\r\n\r\n", Reply::Value { key: b"k", flags: 0, cas: None, data: b"" }),
        (b"VALUE k 5 3\r\na\r\n\r\n", Reply::Value { key: b"k", flags: 5, cas: None, data: b"a\r\n" }),
        (
            b"VALUE long-key 4294967295 2 77\r\nab\r\n",
            Reply::Value { key: b"long-key", flags: u32::MAX, cas: Some(77), data: b"ab" },
        ),
    ];

    #[test]
    fn every_reply_parses_whole_and_before_others() {
        for (bytes, reply) in CASES {
            assert_eq!(parse(bytes), Parsed::Complete(*reply, bytes.len()), "{}", bytes.escape_ascii());
            let followed = [*bytes, b"END\r\nVALUE"].concat();
            assert_eq!(parse(&followed), Parsed::Complete(*reply, bytes.len()), "{}", followed.escape_ascii());
        }
    }

    #[test]
    fn every_reply_cut_anywhere_asks_for_more() {
        for (bytes, _) in CASES {
            for cut in 0..bytes.len() {
                let parsed = parse(&bytes[..cut]);
                let asks = matches!(parsed, Parsed::Partial(needed) if needed > cut && needed <= bytes.len());
                assert!(asks, "{} cut at {cut}: {parsed:?}", bytes.escape_ascii());
            }
        }
    }

    #[test]
    fn what_no_server_says_is_malformed() {
        let cases: &[&[u8]] = &[
            b"\n",
            b"\r\n",
            b"END\n",
            b"ENDED\r\n",
            b"HDX\r\n",
            b"VA x\r\n",
            b"VA 1 cx\r\na\r\n",
            b"VA 1\r\nab\r\n",
            b"stored\r\n",
            b"12a\r\n",
            b"18446744073709551616\r\n",
            b"VALUE k 0\r\n",
            b"VALUE  0 1\r\na\r\n",
            b"VALUE k 0 -1\r\n",
            b"VALUE k 0 1 \r\na\r\n",
            b"VALUE k 0 1x\r\na\r\n",
            b"VALUE k 4294967296 1\r\na\r\n",
            b"VALUE k 0 1073741825\r\n",
            b"VALUE k 0 1\r\nab\r\n",
        ];
        for bytes in cases {
            assert_eq!(parse(bytes), Parsed::Malformed, "{}", bytes.escape_ascii());
        }
        assert_eq!(parse(&[b'x'; 4096]), Parsed::Malformed, "an endless line");
    }

    #[test]
    fn numbers_print_as_std_prints_them() {
        for number in [0, 9, 10, 12_345, u64::MAX] {
            let mut out = Vec::new();
            write_number(&mut out, number);
            assert_eq!(String::from_utf8(out).unwrap(), number.to_string());
        }
    }

    #[test]
    fn quiet_answers_repeat_their_number() {
        let cases: [(&[u8], Option<u32>); 7] = [
            (b"HD O7\r\n", Some(7)),
            (b"VA 2 kO9 c8 O4294967295\r\nO1\r\n", Some(u32::MAX)),
            (b"VA 4 kfoo\r\n O1 \r\n", None),
            (b"EX O12 kfoo\r\n", Some(12)),
            (b"SERVER_ERROR out of memory storing object\r\n", None),
            (b"NS O4294967296\r\n", None),
            (b"MN\r\n", None),
        ];
        for (answer, number) in cases {
            assert_eq!(opaque(answer), number, "{}", answer.escape_ascii());
        }
    }

    #[test]
    fn stores_are_framed_as_the_protocol_says() {
        let cases = [
            (Store { word: "set", ttl_s: 0, value_bytes: 5, cas_id: None, quiet: None }, &b"set key 0 0 5\r\n"[..]),
            (Store { word: "cas", ttl_s: 60, value_bytes: 5, cas_id: Some(77), quiet: None }, b"cas key 0 60 5 77\r\n"),
        ];
        for (store, expected) in cases {
            let mut out = Vec::new();
            begin_store(&mut out, store, |out| out.extend_from_slice(b"key"));
            assert_eq!(out, expected);
        }
    }
}
