//! What can stop a command, and the exit status that tells it.

use serde::Serialize;
use std::{fmt, io};

/// Exit status: everything that was asked for was done and every value was right.
pub const EXIT_OK: u8 = 0;
/// Exit status: the server gave wrong answers.
pub const EXIT_WRONG_ANSWERS: u8 = 1;
/// Exit status: bad options (`EX_USAGE`).
pub const EXIT_USAGE: u8 = 64;
/// Exit status: an input file is not what it should be (`EX_DATAERR`).
pub const EXIT_DATA: u8 = 65;
/// Exit status: the server could not be reached or started, or went away (`EX_UNAVAILABLE`).
pub const EXIT_UNAVAILABLE: u8 = 69;
/// Exit status: something about this machine (`EX_OSERR`).
pub const EXIT_SYSTEM: u8 = 71;
/// Exit status: a file could not be read or written (`EX_IOERR`).
pub const EXIT_IO: u8 = 74;
/// Exit status: stopped by the user, as shells report SIGINT.
pub const EXIT_INTERRUPTED: u8 = 130;

/// Why a command ended without a result.
#[derive(Debug)]
#[non_exhaustive]
pub enum Error {
    /// Options that contradict each other or make no sense.
    Usage(String),
    /// No connection to the server.
    Unreachable {
        /// Where it should be.
        target: String,
        /// What the system says.
        source: io::Error,
    },
    /// A server that `compare` should run did not come up.
    NotStarted {
        /// The command.
        command: String,
        /// What happened, with the server's own last words.
        reason: String,
    },
    /// A server went away, or stopped answering, in the middle.
    ServerLost {
        /// Which one.
        target: String,
        /// How it showed.
        reason: String,
    },
    /// An input file is not what it should be.
    Data {
        /// The file.
        file: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A file cannot be read or written.
    File {
        /// The file.
        file: String,
        /// What the system says.
        source: io::Error,
    },
    /// A service of the operating system is missing or refused.
    System {
        /// What was tried.
        action: &'static str,
        /// What the system says.
        source: io::Error,
    },
    /// Ctrl-C, or SIGTERM.
    Interrupted,
}

impl Error {
    /// The status that the process should end with.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Usage(_) => EXIT_USAGE,
            Self::Unreachable { .. } | Self::NotStarted { .. } | Self::ServerLost { .. } => EXIT_UNAVAILABLE,
            Self::Data { .. } => EXIT_DATA,
            Self::File { .. } => EXIT_IO,
            Self::System { .. } => EXIT_SYSTEM,
            Self::Interrupted => EXIT_INTERRUPTED,
        }
    }

    /// Names what was tried when the system refused.
    pub(crate) fn system(action: &'static str) -> impl FnOnce(rustix::io::Errno) -> Self {
        move |errno| Self::System { action, source: errno.into() }
    }
}

/// Why a command ended before it had done everything, where it reports what there was until then.
#[derive(Clone, Debug, Serialize)]
#[serde(transparent)]
pub struct Cut {
    reason: String,
    #[serde(skip)]
    exit_code: u8,
}

impl Cut {
    /// The status that the process should end with.
    pub fn exit_code(&self) -> u8 {
        self.exit_code
    }
}

impl From<Error> for Cut {
    fn from(error: Error) -> Self {
        Self { reason: error.to_string(), exit_code: error.exit_code() }
    }
}

impl fmt::Display for Cut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ENDED EARLY ({}): the figures cover what was done until then", self.reason)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Usage(reason) => f.write_str(reason),
            Self::Unreachable { target, source } => {
                write!(f, "cannot connect to {target}: {source}")
            }
            Self::NotStarted { command, reason } => {
                write!(f, "`{command}` did not start: {reason}")
            }
            Self::ServerLost { target, reason } => write!(f, "{target}: {reason}"),
            Self::Data { file, reason } => write!(f, "{file}: {reason}"),
            Self::File { file, source } => write!(f, "{file}: {source}"),
            Self::System { action, source } => write!(f, "cannot {action}: {source}"),
            Self::Interrupted => f.write_str("interrupted"),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Unreachable { source, .. } | Self::File { source, .. } | Self::System { source, .. } => Some(source),
            _ => None,
        }
    }
}
