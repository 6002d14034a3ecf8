//! What a client can ask, as plain data that refers to the input by position.

use std::ops::Range;

use super::admin::{Admin, Topic, Walk};

/// Where some bytes lie in the input that is being worked on.
///
/// 32 bits are plenty: an input is never longer than a worker's read buffer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Span {
    /// Position of the first byte.
    pub start: u32,
    /// Number of bytes.
    pub len: u32,
}

impl Span {
    /// The span of `range`.
    pub fn new(range: Range<usize>) -> Span {
        debug_assert!(range.end <= u32::MAX as usize);
        Span { start: range.start as u32, len: (range.end - range.start) as u32 }
    }

    /// The bytes themselves, given the input that the span was made for.
    #[inline]
    pub fn of(self, input: &[u8]) -> &[u8] {
        &input[self.start as usize..][..self.len as usize]
    }

    /// Position after the last byte.
    pub fn end(self) -> usize {
        self.start as usize + self.len as usize
    }
}

/// A key that some request names: where it lies, and its hash once somebody has computed it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Key {
    /// Where the key lies in the input.
    pub span: Span,
    /// Left 0 by the parser, which does not know the store's hasher.
    pub hash: u64,
}

/// The keys of all requests of a batch in one list, in the order in which they will be looked up.
///
/// One list, so that all of them can be hashed and fetched ahead together, whatever commands they belong to.
pub type Keys = Vec<Key>;

/// The place of a key in [`Keys`].
pub type KeyIndex = u32;

/// Which storage command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verb {
    /// Store always.
    Set,
    /// Store only a key that is not there.
    Add,
    /// Store only a key that is there.
    Replace,
    /// Add to the end of the value that is there.
    Append,
    /// Add to the front of the value that is there.
    Prepend,
    /// Store only if the item still has this CAS id.
    Cas(u64),
}

/// The line of a storage command; its data block follows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Store {
    /// What to do.
    pub verb: Verb,
    /// The key.
    pub key: KeyIndex,
    /// Client flags, kept with the value.
    pub flags: u32,
    /// Expiry as the client wrote it (protocol 2.6).
    pub exptime: i32,
    /// Bytes of the data block, without its CRLF.
    pub value_len: u32,
    /// Whether the client wants no answer, errors included.
    pub noreply: bool,
}

/// What get, gets, gat and gats have in common besides their keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retrieve {
    /// Whether each VALUE line ends with the CAS id.
    pub cas: bool,
    /// The expiry that every hit is given (gat, gats).
    pub touch: Option<i32>,
}

/// incr or decr.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arith {
    /// Add, modulo 2^64.
    Incr(u64),
    /// Subtract, stopping at 0.
    Decr(u64),
}

/// How the server is asked to stop. Both answer what has been received; they differ in what is said about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// SIGTERM, SIGINT, `shutdown`.
    Normal,
    /// SIGUSR1, `shutdown graceful`.
    Graceful,
}

/// What debugtime does to the server's clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TimeStep {
    /// Move it forward by so many seconds.
    Forward(u32),
    /// Let it stand still.
    Pause,
    /// Let it go on.
    Resume,
}

/// A command line, complete and valid, but for the data block of a storage command.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Request {
    /// get, gets, gat, gats.
    Retrieve {
        /// What to answer for a hit.
        retrieve: Retrieve,
        /// The first of its keys.
        first: KeyIndex,
        /// How many there are.
        count: u32,
    },
    /// set, add, replace, append, prepend, cas; the data block follows.
    Store(Store),
    /// delete.
    Delete {
        /// The key.
        key: KeyIndex,
        /// Whether the client wants no answer.
        noreply: bool,
    },
    /// incr, decr.
    Arith {
        /// The key.
        key: KeyIndex,
        /// By how much.
        delta: Arith,
        /// Whether the client wants no answer.
        noreply: bool,
    },
    /// touch.
    Touch {
        /// The key.
        key: KeyIndex,
        /// The new expiry as the client wrote it.
        exptime: i32,
        /// Whether the client wants no answer.
        noreply: bool,
    },
    /// flush_all.
    FlushAll {
        /// When, as the client wrote it; 0 and negative numbers mean now.
        exptime: i32,
        /// Whether the client wants no answer.
        noreply: bool,
    },
    /// verbosity.
    Verbosity {
        /// The level, as the client wrote it.
        level: u32,
        /// Whether the client wants no answer.
        noreply: bool,
    },
    /// version.
    Version,
    /// stats.
    Stats(Topic),
    /// A walk over all items.
    Walk(Walk),
    /// watch, with the streams that are wanted.
    Watch(u32),
    /// An administration command.
    Admin {
        /// What to do.
        admin: Admin,
        /// Whether the client wants no answer.
        noreply: bool,
    },
    /// shutdown.
    Shutdown {
        /// How; nothing if the client did not say it properly.
        stop: Option<Stop>,
        /// Whether the client wants no answer.
        noreply: bool,
    },
    /// debugtime, if its argument makes sense.
    DebugTime(Option<TimeStep>),
    /// quit.
    Quit,
}
