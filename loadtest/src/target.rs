//! Where a server listens, and how to connect to it.

use crate::error::Error;
use std::fmt;
use std::net::{TcpStream, ToSocketAddrs as _};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;
use std::{io, result};

/// Time allowed for one connection to be established.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Address of a server: `HOST:PORT`, or `unix:PATH`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Target {
    /// Host name or address, a colon, and the port.
    Tcp(String),
    /// Path of a Unix socket.
    Unix(PathBuf),
}

impl Target {
    /// Connects, without blocking mode and without delaying small packets.
    ///
    /// # Errors
    /// [`Error::Unreachable`] with the last address's reason.
    pub fn connect(&self) -> Result<OwnedFd, Error> {
        self.try_connect().map_err(|source| Error::Unreachable { target: self.to_string(), source })
    }

    /// [`Target::connect`] with the system's own error.
    pub(crate) fn try_connect(&self) -> io::Result<OwnedFd> {
        match self {
            Self::Tcp(address) => {
                let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
                for address in address.to_socket_addrs()? {
                    match TcpStream::connect_timeout(&address, CONNECT_TIMEOUT) {
                        Ok(stream) => {
                            stream.set_nodelay(true)?;
                            stream.set_nonblocking(true)?;
                            return Ok(stream.into());
                        }
                        Err(error) => last = error,
                    }
                }
                Err(last)
            }
            Self::Unix(path) => {
                let stream = UnixStream::connect(path)?;
                stream.set_nonblocking(true)?;
                Ok(stream.into())
            }
        }
    }
}

impl FromStr for Target {
    type Err = String;

    fn from_str(text: &str) -> result::Result<Self, String> {
        if let Some(path) = text.strip_prefix("unix:") {
            return if path.is_empty() { Err("unix: needs a path".into()) } else { Ok(Self::Unix(path.into())) };
        }
        match text.rsplit_once(':') {
            Some((host, port)) if !host.is_empty() && port.parse::<u16>().is_ok_and(|port| port > 0) => {
                Ok(Self::Tcp(text.into()))
            }
            _ => Err("expected HOST:PORT (as in 127.0.0.1:11211 or [::1]:11211) or unix:PATH".into()),
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => f.write_str(address),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_checked_before_they_are_used() {
        for text in ["localhost:11211", "[::1]:1", "unix:/tmp/socket"] {
            assert_eq!(text.parse::<Target>().unwrap().to_string(), text);
        }
        for text in ["", "localhost", ":11211", "host:", "host:0", "host:70000", "host:x", "unix:"] {
            assert!(text.parse::<Target>().is_err(), "{text:?}");
        }
    }
}
