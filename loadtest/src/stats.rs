//! What a server says of itself: the answer to `stats`.

use crate::client::{self, Parsed, Reply};
use crate::error::Error;
use crate::target::Target;
use rustix::io::ioctl_fionbio;
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::time::Duration;

/// Names and values, as the server prints them.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Stats(BTreeMap<String, String>);

impl Stats {
    /// Asks over a connection of its own.
    ///
    /// # Errors
    /// When the server cannot be reached, does not answer within `patience`, or answers something else.
    pub fn ask(target: &Target, patience: Duration) -> Result<Self, Error> {
        let socket = target.connect()?;
        let lost =
            |source: io::Error| Error::ServerLost { target: target.to_string(), reason: format!("stats: {source}") };
        ioctl_fionbio(&socket, false).map_err(|errno| lost(errno.into()))?;
        set_socket_timeout(&socket, Timeout::Recv, Some(patience)).map_err(|errno| lost(errno.into()))?;
        converse(File::from(socket)).map(Self).map_err(lost)
    }

    /// CPU time that the server says it has used, user and system, in nanoseconds; `None` if it does not.
    pub fn cpu_ns(&self) -> Option<u64> {
        let seconds = |name: &str| self.0.get(name)?.parse::<f64>().ok().filter(|seconds| *seconds >= 0.0);
        Some(((seconds("rusage_user")? + seconds("rusage_system")?) * 1e9) as u64)
    }

    /// The number of this name; `None` if the server has none.
    pub fn number(&self, name: &str) -> Option<u64> {
        self.0.get(name)?.parse().ok()
    }
}

fn converse(mut socket: File) -> io::Result<BTreeMap<String, String>> {
    socket.write_all(b"stats\r\n")?;
    let mut received = Vec::new();
    let mut chunk = [0; 16 << 10];
    loop {
        let bytes = socket.read(&mut chunk)?;
        if bytes == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        received.extend_from_slice(&chunk[..bytes]);
        if let Some(stats) = parse(&received)? {
            return Ok(stats);
        }
    }
}

/// Reads a whole answer; `None` if its end is missing.
fn parse(mut bytes: &[u8]) -> io::Result<Option<BTreeMap<String, String>>> {
    let mut stats = BTreeMap::new();
    loop {
        match client::parse(bytes) {
            Parsed::Complete(Reply::Stat(line), used) => {
                let line = String::from_utf8_lossy(line);
                let (name, value) = line.split_once(' ').unwrap_or((&line, ""));
                stats.insert(name.to_owned(), value.to_owned());
                bytes = &bytes[used..];
            }
            Parsed::Complete(Reply::End, _) => return Ok(Some(stats)),
            Parsed::Partial(_) => return Ok(None),
            Parsed::Complete(..) | Parsed::Malformed => return Err(io::ErrorKind::InvalidData.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statistics_are_read_whole_or_not_at_all() {
        let answer = b"STAT pid 7\r\nSTAT version 1.6 x\r\nEND\r\n";
        for cut in 0..answer.len() {
            assert_eq!(parse(&answer[..cut]).unwrap(), None, "cut at {cut}");
        }
        let stats = Stats(parse(answer).unwrap().unwrap());
        assert_eq!((stats.number("pid"), stats.number("version"), stats.number("nothing")), (Some(7), None, None));
        assert_eq!(stats.cpu_ns(), None);
        let answer = b"STAT rusage_user 1.500000\r\nSTAT rusage_system 0.250001\r\nEND\r\n";
        assert_eq!(Stats(parse(answer).unwrap().unwrap()).cpu_ns(), Some(1_750_001_000));
        assert!(parse(b"ERROR\r\n").is_err());
    }
}
