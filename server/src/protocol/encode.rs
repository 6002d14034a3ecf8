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
    /// No memory for what is still to be answered.
    NoMemoryToAnswer,
    /// No memory for a command that has not arrived as a whole.
    NoMemoryToRead,
    /// No memory for incr or decr.
    NoMemory,
    /// The shutdown command is not enabled.
    ShutdownDisabled,
    /// The shutdown command has an argument that means nothing.
    BadShutdown,
    /// The client has to say its name and password first (protocol 14).
    Unauthenticated,
    /// What should be a name and a password is too long for it.
    TokenTooLong,
    /// There is no space between a name and a password.
    BadTokenFormat,
    /// A name and a password do not end in CRLF.
    BadTermination,
    /// Nobody has this name and this password.
    AuthFailure,
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
    /// The end of an answer of several lines.
    End,
    /// cache_memlimit below what it may be.
    LimitTooSmall,
    /// cache_memlimit beyond what it may be.
    LimitNotMegabytes,
    /// cache_memlimit cannot be carried out.
    LimitRefused,
    /// There is no such slab class to crawl.
    BadClass,
    /// A crawl is under way.
    CrawlerBusy,
    /// Nothing in these slab classes.
    NothingToCrawl,
    /// The crawler is disabled.
    CrawlerDisabled,
    /// The crawler runs already.
    CrawlerNotStarted,
    /// lru_crawler sleep is too long.
    SleepTooLong,
    /// What memcached says when it does not know better.
    UnknownError,
    /// slabs reassign: no such class.
    BadReassign,
    /// slabs reassign: the source has no page to give.
    NoSparePage,
    /// slabs reassign: source and destination are the same.
    SameClass,
    /// slabs automove window is out of bounds.
    BadWindow,
    /// lru tune: hot and warm together are too much.
    PctsTooLarge,
    /// lru tune: ages must be positive.
    FactorsTooSmall,
    /// There is no TLS.
    NoTls,
    /// stats cachedump has too few arguments.
    BadCommandLine,
    /// stats cachedump: no such class.
    IllegalClass,
    /// stats cachedump is forbidden.
    CachedumpForbidden,
    /// How to use stats detail.
    DetailUsage,
    /// stats detail is forbidden.
    DetailForbidden,
    /// stats hotkeys is forbidden.
    HotKeysForbidden,
    /// Answers are waiting before a metadump.
    PipelinedMetadump,
    /// Answers are waiting before an mgdump.
    PipelinedMgdump,
    /// metadump is forbidden.
    MetadumpForbidden,
    /// mgdump and ml are forbidden.
    KeyDumpForbidden,
    /// Answers are waiting before a watch.
    PipelinedWatch,
    /// Watching is forbidden.
    WatchForbidden,
    /// There are too many watchers.
    TooManyWatchers,
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
            Reply::NoMemoryToAnswer => b"SERVER_ERROR out of memory writing get response\r\n",
            Reply::NoMemoryToRead => b"SERVER_ERROR out of memory reading request\r\n",
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
            Reply::End => END,
            Reply::LimitTooSmall => b"MEMLIMIT_TOO_SMALL cannot set maxbytes to less than 8m\r\n",
            Reply::LimitNotMegabytes => b"MEMLIMIT_ADJUST_FAILED input value is megabytes not bytes\r\n",
            Reply::LimitRefused => b"MEMLIMIT_ADJUST_FAILED out of bounds or unable to adjust\r\n",
            Reply::BadClass => b"BADCLASS invalid class id\r\n",
            Reply::CrawlerBusy => b"BUSY currently processing crawler request\r\n",
            Reply::NothingToCrawl => b"NOTSTARTED no items to crawl\r\n",
            Reply::CrawlerDisabled => b"CLIENT_ERROR lru crawler disabled\r\n",
            Reply::CrawlerNotStarted => b"ERROR failed to start lru crawler thread\r\n",
            Reply::SleepTooLong => b"CLIENT_ERROR sleep must be one second or less\r\n",
            Reply::UnknownError => b"ERROR an unknown error happened\r\n",
            Reply::BadReassign => b"BADCLASS invalid src or dst class id\r\n",
            Reply::NoSparePage => b"NOSPARE source class has no spare pages\r\n",
            Reply::SameClass => b"SAME src and dst class are identical\r\n",
            Reply::BadWindow => b"CLIENT_ERROR automove window too low or too high\r\n",
            Reply::PctsTooLarge => b"ERROR hot and warm pcts must not exceed 80\r\n",
            Reply::FactorsTooSmall => b"ERROR hot/warm age factors must be greater than 0\r\n",
            // Without a word in capitals, as memcached has it (protocol 10).
            Reply::NoTls => b"Error TLS not enabled\r\n",
            Reply::BadCommandLine => b"CLIENT_ERROR bad command line\r\n",
            Reply::IllegalClass => b"CLIENT_ERROR Illegal slab id\r\n",
            Reply::CachedumpForbidden => b"CLIENT_ERROR stats cachedump not allowed\r\n",
            Reply::DetailUsage => b"CLIENT_ERROR usage: stats detail on|off|dump\r\n",
            Reply::DetailForbidden => b"CLIENT_ERROR stats detail not allowed\r\n",
            Reply::HotKeysForbidden => b"CLIENT_ERROR stats hotkeys not allowed\r\n",
            Reply::PipelinedMetadump => b"ERROR cannot pipeline other commands before metadump\r\n",
            Reply::PipelinedMgdump => b"ERROR cannot pipeline other commands before mgdump\r\n",
            Reply::MetadumpForbidden => b"ERROR metadump not allowed\r\n",
            Reply::KeyDumpForbidden => b"ERROR key dump not allowed\r\n",
            Reply::PipelinedWatch => b"ERROR cannot pipeline other commands before watch\r\n",
            Reply::WatchForbidden => b"CLIENT_ERROR watch commands not allowed\r\n",
            Reply::TooManyWatchers => b"WATCHER_TOO_MANY log watcher limit reached\r\n",
            // The colon is memcached's (protocol 10).
            Reply::ShutdownDisabled => b"SERVER_ERROR: shutdown not enabled\r\n",
            Reply::BadShutdown => b"CLIENT_ERROR invalid shutdown mode\r\n",
            Reply::Unauthenticated => b"CLIENT_ERROR unauthenticated\r\n",
            Reply::TokenTooLong => b"CLIENT_ERROR auth token too long\r\n",
            Reply::BadTokenFormat => b"CLIENT_ERROR bad authentication token format\r\n",
            Reply::BadTermination => b"CLIENT_ERROR bad command line termination\r\n",
            Reply::AuthFailure => b"CLIENT_ERROR authentication failure\r\n",
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

/// Adds a key as dumps and log lines show it: letters, digits and `-._~` as they are, everything else as `%XX` (protocol 11).
pub fn uri(out: &mut Vec<u8>, key: &[u8]) {
    const HEX: &[u8; 16] = b"0123456789ABCDEF";
    for byte in key {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => out.push(*byte),
            _ => out.extend_from_slice(&[b'%', HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]]),
        }
    }
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
