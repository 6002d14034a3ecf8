//! ASCII authentication (`-Y`, protocol 14): who may use the server, and what a client may say until it has shown that it may.
//!
//! Names and passwords are compared in time that depends neither on what they are nor on which of them differs: every entry is
//! compared in full, padded to one length. They never reach a log.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{PoisonError, RwLock};

use memchr::{memchr, memchr_iter};
use subtle::{Choice, ConstantTimeEq as _};

use crate::limits::{AUTH_ENTRIES_MAX, AUTH_LINE_BYTES_MAX, AUTH_TOKEN_BYTES_MAX, LINE_BYTES_MAX};
use crate::protocol::encode::CRLF;
use crate::protocol::{Reply, number};
use crate::service::Counter;

/// Why a file of users cannot be used.
#[derive(Debug)]
#[non_exhaustive]
pub enum AuthFileError {
    /// It cannot be read.
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system says.
        error: std::io::Error,
    },
    /// A line is not `user:password`, or too long.
    Malformed {
        /// The file.
        path: PathBuf,
    },
}

impl fmt::Display for AuthFileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            AuthFileError::Unreadable { path, error } => {
                write!(f, "Could not open authfile [{}] for reading, error {error}", path.display())
            }
            AuthFileError::Malformed { path } => {
                write!(f, "Authfile [{}] has a malformed entry. Should be 'user:password'", path.display())
            }
        }
    }
}

impl std::error::Error for AuthFileError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            AuthFileError::Unreadable { error, .. } => Some(error),
            AuthFileError::Malformed { .. } => None,
        }
    }
}

/// Names and their passwords. Deliberately without `Debug`.
pub struct Users(Vec<(Padded, Padded)>);

impl Users {
    /// Reads a file with a line `user:password` for each, eight of them at most.
    ///
    /// # Errors
    /// If the file cannot be read or a line is no entry.
    pub fn load(path: &Path) -> Result<Users, AuthFileError> {
        let text = std::fs::read(path).map_err(|error| AuthFileError::Unreadable { path: path.to_owned(), error })?;
        Users::parse(&text).ok_or_else(|| AuthFileError::Malformed { path: path.to_owned() })
    }

    fn parse(text: &[u8]) -> Option<Users> {
        let text = text.strip_suffix(b"\n").unwrap_or(text);
        if text.is_empty() {
            return Some(Users(Vec::new()));
        }
        let mut users = Vec::new();
        for line in text.split(|byte| *byte == b'\n') {
            if users.len() == AUTH_ENTRIES_MAX {
                tracing::warn!(
                    most = AUTH_ENTRIES_MAX,
                    "the auth file has more entries than there may be; the rest is ignored"
                );
                break;
            }
            if line.len() > AUTH_LINE_BYTES_MAX || line.ends_with(b"\r") {
                return None;
            }
            let colon = memchr(b':', line)?;
            users.push((Padded::new(&line[..colon]), Padded::new(&line[colon + 1..])));
        }
        Some(Users(users))
    }

    /// Whether this is one of them with his password.
    fn admit(&self, user: &[u8], password: &[u8]) -> bool {
        let (user, password) = (Padded::new(user), Padded::new(password));
        let found = self.0.iter().fold(Choice::from(0), |found, (known_user, known_password)| {
            found | (known_user.is_equal(&user) & known_password.is_equal(&password))
        });
        found.into()
    }
}

/// Bytes that are compared in the same time whatever they are. What does not fit equals nothing that does.
struct Padded {
    bytes: [u8; AUTH_LINE_BYTES_MAX],
    len: u32,
}

impl Padded {
    fn new(secret: &[u8]) -> Padded {
        let mut bytes = [0; AUTH_LINE_BYTES_MAX];
        let fits = secret.len().min(AUTH_LINE_BYTES_MAX);
        bytes[..fits].copy_from_slice(&secret[..fits]);
        Padded { bytes, len: secret.len() as u32 }
    }

    fn is_equal(&self, other: &Padded) -> Choice {
        self.bytes[..].ct_eq(&other.bytes[..]) & self.len.ct_eq(&other.len)
    }
}

/// The users of a running server, and how often they were asked for.
pub struct Auth {
    path: PathBuf,
    users: RwLock<Users>,
    /// Names and passwords that clients have sent.
    pub commands: Counter,
    /// Those that were wrong.
    pub errors: Counter,
}

impl Auth {
    /// The users in this file.
    ///
    /// # Errors
    /// As [`Users::load`].
    pub fn new(path: &Path) -> Result<Auth, AuthFileError> {
        let users = RwLock::new(Users::load(path)?);
        Ok(Auth { path: path.to_owned(), users, commands: Counter::default(), errors: Counter::default() })
    }

    /// Reads the file again. Who has been admitted stays so.
    ///
    /// # Errors
    /// As [`Users::load`]; the users stay what they were.
    pub fn reload(&self) -> Result<(), AuthFileError> {
        let users = Users::load(&self.path)?;
        *self.users.write().unwrap_or_else(PoisonError::into_inner) = users;
        Ok(())
    }

    /// Judges a name and a password; the answer, and whether the client may go on.
    fn judge(&self, user: &[u8], password: &[u8]) -> (Reply, bool) {
        self.commands.add(1);
        if self.users.read().unwrap_or_else(PoisonError::into_inner).admit(user, password) {
            return (Reply::Stored, true);
        }
        self.errors.add(1);
        (Reply::AuthFailure, false)
    }
}

impl fmt::Debug for Auth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Auth").field("path", &self.path).finish_non_exhaustive()
    }
}

/// What stands at the beginning of the input of a client that has not been admitted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Line {
    /// The line of a `set`: a name and a password of so many bytes follow at `next`.
    Token {
        /// Bytes of both, with the space between them.
        len: u32,
        /// Where they begin.
        next: usize,
    },
    /// The same, but too long to be one.
    Oversized {
        /// Bytes of the block.
        len: u32,
        /// Where it begins.
        next: usize,
    },
    /// Some other line; the next one begins at this position.
    Refused(usize),
    /// No newline yet.
    Incomplete,
    /// Nothing that a client would say: close without a word.
    Hangup,
}

/// Looks at the first line of `input`.
pub fn line(input: &[u8]) -> Line {
    /// Shortest line that is looked at, without its newline.
    const LINE_LEN_MIN: usize = 6;
    /// `set`, a key, flags, an expiry and a length.
    const TOKENS: usize = 5;
    let Some(len) = memchr(b'\n', input) else {
        return if input.len() > LINE_BYTES_MAX { Line::Hangup } else { Line::Incomplete };
    };
    if len < LINE_LEN_MIN {
        return Line::Hangup;
    }
    let next = len + 1;
    let line = input[..len].strip_suffix(b"\r").unwrap_or(&input[..len]);
    let mut tokens = line.split(|byte| *byte == b' ').filter(|token| !token.is_empty());
    // A space in front makes the command word empty, as it does later (protocol 1.3).
    if !line.starts_with(b"set ") {
        return Line::Refused(next);
    }
    match tokens.nth(TOKENS - 1).and_then(number::value_len) {
        None => Line::Refused(next),
        Some(len) if len > AUTH_TOKEN_BYTES_MAX => Line::Oversized { len, next },
        Some(len) => Line::Token { len, next },
    }
}

/// A name and a password on their way in. It keeps as much of them as could be right, however much is announced.
pub struct Token {
    len: usize,
    seen: usize,
    head: Vec<u8>,
    /// Where the name ends.
    space: Option<usize>,
}

impl Token {
    /// Longest block that can be right: a name and a password of full length, and the space.
    const HEAD_BYTES_MAX: usize = 2 * AUTH_LINE_BYTES_MAX + 1;

    /// A block of `len` bytes, of which nothing has arrived.
    pub fn new(len: u32) -> Token {
        Token { len: len as usize, seen: 0, head: Vec::new(), space: None }
    }

    /// Bytes of memory that it owns.
    pub fn owned_bytes(&self) -> usize {
        size_of::<Token>() + self.head.capacity()
    }

    /// Takes what belongs to the block from the front of `input`, which is no more than the block; says how much that was.
    pub fn take(&mut self, input: &[u8]) -> usize {
        let taken = &input[..input.len().min(self.len - self.seen)];
        if self.space.is_none() {
            self.space = memchr_iter(b' ', taken).next().map(|at| self.seen + at);
        }
        let room = Token::HEAD_BYTES_MAX.saturating_sub(self.head.len());
        self.head.extend_from_slice(&taken[..taken.len().min(room)]);
        self.seen += taken.len();
        taken.len()
    }

    /// Whether all of the block is there, but for its CRLF.
    pub fn is_complete(&self) -> bool {
        self.seen == self.len
    }

    /// Judges the block, which is complete, and what stands behind it; the answer, and whether the client may go on.
    pub fn judge(&self, end: &[u8], auth: &Auth) -> (Reply, bool) {
        if end != CRLF {
            return (Reply::BadTermination, false);
        }
        match self.space {
            Some(space) if space > 0 && space + 1 < self.len => {
                // A name that is longer than the head has no entry.
                let user = self.head.get(..space).unwrap_or(&self.head);
                let password = self.head.get(space + 1..).unwrap_or_default();
                let (reply, admitted) = auth.judge(user, password);
                debug_assert!(!admitted || self.len < Token::HEAD_BYTES_MAX);
                (reply, admitted)
            }
            _ => (Reply::BadTokenFormat, false),
        }
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Token").field("len", &self.len).field("seen", &self.seen).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn p14_1_lines_of_the_auth_file() {
        let len = |text: &str| Users::parse(text.as_bytes()).map(|users| users.0.len());
        assert_eq!(len(""), Some(0));
        assert_eq!(len("a:b"), Some(1));
        assert_eq!(len("a:b\nc:d:e\n"), Some(2));
        assert_eq!(len(&"a:b\n".repeat(9)), Some(8));
        assert_eq!(len(&format!("u:{}\n", "p".repeat(253))), Some(1));
        for bad in ["a", "a:b\n\nc:d\n", "a:b\r\n", &format!("u:{}\n", "p".repeat(254)), "\n\n"] {
            assert_eq!(len(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn p14_3_all_of_name_and_password_counts() {
        let users = Users::parse(b"alice:secret\nbob:pa ss:w\nempty:\n").unwrap();
        assert!(users.admit(b"alice", b"secret"));
        assert!(users.admit(b"bob", b"pa ss:w"));
        for (user, password) in [
            (&b"alice"[..], &b"secret\0"[..]),
            (b"alice", b"secre"),
            (b"alice", b""),
            (b"alice", b"pa ss:w"),
            (b"Alice", b"secret"),
            (b"", b"secret"),
            (b"alice\0", b"secret"),
        ] {
            assert!(!users.admit(user, password));
        }
        let longest = [b'p'; 253];
        let users = Users::parse(&[b"u:", &longest[..]].concat()).unwrap();
        assert!(users.admit(b"u", &longest));
        assert!(!users.admit(b"u", &[b'p'; 300]));
    }
}
