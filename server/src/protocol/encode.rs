//! Answers as bytes. The only place where an outcome or an error becomes a line of text.

/// An answer that is one fixed line (protocol 3 and 26).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reply {
    /// A storage command stored.
    Stored,
    /// The condition of add, replace, append or prepend did not hold.
    NotStored,
    /// The item has another CAS id by now.
    Exists,
    /// There is no such item.
    NotFound,
    /// delete deleted.
    Deleted,
    /// touch touched.
    Touched,
    /// An administrative command was carried out.
    Ok,
    /// `stats reset` was carried out.
    Reset,
    /// The command word is unknown.
    Error,
    /// The line cannot be a command: too short, too few tokens, a key or a number that is none.
    BadLine,
    /// The data block does not end where the line said.
    BadChunk,
    /// The expiry of touch, gat or flush_all is no number.
    BadExptime,
    /// The delta of incr or decr is no number.
    BadDelta,
    /// The value of incr or decr is no number.
    NonNumeric,
    /// `-F` is in force.
    FlushForbidden,
    /// The item would be larger than `-I` allows.
    TooLarge,
    /// No memory for a storage command.
    NoMemoryToStore,
    /// No memory for the rest of a large value.
    NoMemoryToReceive,
    /// No memory for incr or decr.
    NoMemory,
    /// The shutdown command is not enabled.
    ShutdownDisabled,
    /// A meta flag is there twice.
    DuplicateFlag,
    /// There is no such meta flag.
    BadFlag,
    /// Something is wrong with the key or the flags of ma.
    BadMetaFlags,
    /// A meta command has more flags than there may be.
    MetaTooLong,
    /// The argument of a meta flag is no number.
    BadToken,
    /// The opaque token of a meta command is too long.
    OpaqueTooLong,
    /// A key that should be base64 is none.
    BadBase64,
    /// ms has no such mode.
    BadSetMode,
    /// ma has no such mode.
    BadArithMode,
    /// The number that ma should begin with is none.
    BadInitial,
    /// The number that ma should add is none.
    BadMetaDelta,
    /// The answer of mn.
    MetaNoop,
}

impl Reply {
    /// The line, with its terminator.
    pub const fn line(self) -> &'static [u8] {
        match self {
            Reply::Stored => b"STORED\r\n",
            Reply::NotStored => b"NOT_STORED\r\n",
            Reply::Exists => b"EXISTS\r\n",
            Reply::NotFound => b"NOT_FOUND\r\n",
            Reply::Deleted => b"DELETED\r\n",
            Reply::Touched => b"TOUCHED\r\n",
            Reply::Ok => b"OK\r\n",
            Reply::Reset => b"RESET\r\n",
            Reply::Error => b"ERROR\r\n",
            Reply::BadLine => b"CLIENT_ERROR bad command line format\r\n",
            Reply::BadChunk => b"CLIENT_ERROR bad data chunk\r\n",
            Reply::BadExptime => b"CLIENT_ERROR invalid exptime argument\r\n",
            Reply::BadDelta => b"CLIENT_ERROR invalid numeric delta argument\r\n",
            Reply::NonNumeric => b"CLIENT_ERROR cannot increment or decrement non-numeric value\r\n",
            Reply::FlushForbidden => b"CLIENT_ERROR flush_all not allowed\r\n",
            Reply::TooLarge => b"SERVER_ERROR object too large for cache\r\n",
            Reply::NoMemoryToStore => b"SERVER_ERROR out of memory storing object\r\n",
            Reply::NoMemoryToReceive => b"SERVER_ERROR Out of memory during read\r\n",
            Reply::NoMemory => b"SERVER_ERROR out of memory\r\n",
            Reply::DuplicateFlag => b"CLIENT_ERROR duplicate flag\r\n",
            Reply::BadFlag => b"CLIENT_ERROR invalid flag\r\n",
            Reply::BadMetaFlags => b"CLIENT_ERROR invalid or duplicate flag\r\n",
            Reply::MetaTooLong => b"CLIENT_ERROR options flags are too long\r\n",
            Reply::BadToken => b"CLIENT_ERROR bad token in command line format\r\n",
            Reply::OpaqueTooLong => b"CLIENT_ERROR opaque token too long\r\n",
            Reply::BadBase64 => b"CLIENT_ERROR error decoding key\r\n",
            Reply::BadSetMode => b"CLIENT_ERROR invalid mode for ms M token\r\n",
            Reply::BadArithMode => b"CLIENT_ERROR invalid mode for ma M token\r\n",
            Reply::BadInitial => b"CLIENT_ERROR invalid numeric initial value\r\n",
            Reply::BadMetaDelta => b"CLIENT_ERROR invalid numeric delta value\r\n",
            Reply::MetaNoop => b"MN\r\n",
            // The colon is memcached's (protocol 10).
            Reply::ShutdownDisabled => b"SERVER_ERROR: shutdown not enabled\r\n",
        }
    }
}

/// What a client gets that comes when there are as many as `-c` allows (protocol 25).
pub const TOO_MANY_CONNECTIONS: &[u8] = b"ERROR Too many open connections\r\n";

/// Ends a data block.
pub const CRLF: &[u8] = b"\r\n";

/// Ends the answer to a retrieval and to `stats`.
pub const END: &[u8] = b"END\r\n";

/// Adds `VALUE <key> <flags> <bytes>[ <cas>]\r\n<value>\r\n`.
#[inline]
pub fn value(out: &mut Vec<u8>, key: &[u8], flags: u32, cas: Option<u64>, value: &[u8]) {
    value_line(out, key, flags, cas, value.len(), value.len() + CRLF.len());
    out.extend_from_slice(value);
    out.extend_from_slice(CRLF);
}

/// Adds `VALUE <key> <flags> <bytes>[ <cas>]\r\n`, with room made for `room` bytes more.
#[inline]
pub fn value_line(out: &mut Vec<u8>, key: &[u8], flags: u32, cas: Option<u64>, value_len: usize, room: usize) {
    /// `VALUE `, three spaces, CRLF, and the digits of a u32 and two u64.
    const FRAME_BYTES_MAX: usize = 6 + 3 + 2 + 10 + 20 + 20;
    out.reserve(key.len() + FRAME_BYTES_MAX + room);
    out.extend_from_slice(b"VALUE ");
    out.extend_from_slice(key);
    if flags == 0 {
        out.extend_from_slice(b" 0 ");
    } else {
        out.push(b' ');
        number(out, u64::from(flags));
        out.push(b' ');
    }
    number(out, value_len as u64);
    if let Some(cas) = cas {
        out.push(b' ');
        number(out, cas);
    }
    out.extend_from_slice(CRLF);
}

/// Adds a number in decimal.
#[inline]
pub fn number(out: &mut Vec<u8>, value: u64) {
    if value < 100 {
        // Lengths and flags are mostly this short.
        if value >= 10 {
            out.extend_from_slice(&[b'0' + (value / 10) as u8, b'0' + (value % 10) as u8]);
        } else {
            out.push(b'0' + value as u8);
        }
        return;
    }
    out.extend_from_slice(itoa::Buffer::new().format(value).as_bytes());
}

/// Adds a number and CRLF: the answer of incr and decr.
pub fn number_line(out: &mut Vec<u8>, value: u64) {
    number(out, value);
    out.extend_from_slice(CRLF);
}

/// Adds `STAT <name> <value>\r\n`.
pub fn stat(out: &mut Vec<u8>, name: &str, value: impl std::fmt::Display) {
    use std::io::Write as _;
    write!(out, "STAT {name} {value}\r\n").expect("writing to memory does not fail");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_line_shows_flags_length_and_unique() {
        let mut out = Vec::new();
        value(&mut out, b"k", 0, None, b"abc");
        value(&mut out, b"k", u32::MAX, Some(u64::MAX), &[b'x'; 100]);
        let long = "x".repeat(100);
        assert_eq!(
            String::from_utf8(out).unwrap(),
            format!("VALUE k 0 3\r\nabc\r\nVALUE k 4294967295 100 18446744073709551615\r\n{long}\r\n")
        );
    }

    #[test]
    fn numbers_of_every_width() {
        for value in [0, 9, 10, 99, 100, 101, u64::MAX] {
            let mut out = Vec::new();
            number(&mut out, value);
            assert_eq!(String::from_utf8(out).unwrap(), value.to_string());
        }
    }

    #[test]
    fn every_reply_is_one_line() {
        for reply in [Reply::Stored, Reply::BadLine, Reply::ShutdownDisabled, Reply::NoMemoryToStore] {
            let line = reply.line();
            assert!(line.ends_with(b"\r\n") && memchr::memchr(b'\n', line) == Some(line.len() - 1));
        }
    }
}
