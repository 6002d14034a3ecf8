//! The settings of a server.

use std::num::NonZeroUsize;
use std::path::PathBuf;

use crate::limits::{CONNECTION_MEMORY_BYTES_EACH, CONNECTION_MEMORY_BYTES_MIN};
use crate::tunables::Tunables;

/// Everything that can be set about a server. [`Config::default`] is what `memkv` without flags runs with.
#[derive(Clone, Debug)]
pub struct Config {
    /// Addresses to listen on (`-l`), each with a port of its own or with [`port`](Self::port).
    pub listen: Vec<Endpoint>,
    /// TCP port (`-p`); 0 lets the system choose.
    pub port: u16,
    /// Path of a Unix socket (`-s`); there is no network then.
    pub unix_socket: Option<PathBuf>,
    /// Permissions of the Unix socket (`-a`).
    pub unix_mask: u32,
    /// Memory for items and index, in bytes (`-m`).
    pub memory_bytes: usize,
    /// Largest item in bytes, counted as protocol 8 does (`-I`).
    pub item_bytes_max: usize,
    /// Open connections (`-c`).
    pub connections_max: usize,
    /// What all connections together may own, in bytes: unsent responses and unfinished input; `None` for what suits
    /// [`connections_max`](Self::connections_max), see [`connection_memory`](Self::connection_memory).
    pub connection_memory_bytes: Option<usize>,
    /// Whether a client too many is turned away at once (`-o maxconns_fast`); else it waits until another one leaves.
    pub turn_away: bool,
    /// Seconds after which an idle TCP connection is closed (`-o idle_timeout`); 0 is never.
    pub idle_timeout_s: u32,
    /// Worker threads (`-t`); `None` for as many as there are cores.
    pub workers: Option<NonZeroUsize>,
    /// Commands of one connection after which the others get their turn (`-R`).
    pub commands_per_turn: usize,
    /// Connections that may wait to be accepted (`-b`).
    pub backlog: i32,
    /// What clients may speak (`-B`).
    pub protocol: Protocol,
    /// Whether items make room for others (off with `-M`).
    pub evict: bool,
    /// Whether items have CAS ids (off with `-C`).
    pub cas: bool,
    /// Whether flush_all is allowed (off with `-F`).
    pub flush_allowed: bool,
    /// Whether keys may be listed and dumped, and `stats detail` be used (off with `-X`).
    pub dump_allowed: bool,
    /// Whether clients may `watch` (off with `-W`).
    pub watch_allowed: bool,
    /// Whether `shutdown` is allowed (`-A`).
    pub shutdown_allowed: bool,
    /// Whether `debugtime` is there (`--debug-commands`).
    pub debug_commands: bool,
    /// Names and passwords of those who may use the server (`-Y`); everybody may if there is none.
    pub auth_file: Option<PathBuf>,
    /// Where the prefix of a key ends, for `stats detail` (`-D`).
    pub prefix_delimiter: u8,
    /// Whether `stats detail` counts from the start (on with `-D`).
    pub detail: bool,
    /// Whether `stats sizes` answers (`-o track_sizes`).
    pub track_sizes: bool,
    /// Bytes of log lines that may wait for one watcher (`-o watcher_logbuf_size`).
    pub watcher_buffer_bytes: usize,
    /// What administration commands may change (`-o`).
    pub tunables: Tunables,
    /// How much to log (`-v`, repeated).
    pub verbosity: u8,
    /// How workers receive, send and wait.
    pub reactor: ReactorKind,
    /// Test hook: a connection's task panics when its input holds these bytes.
    #[doc(hidden)]
    pub panic_on_input: Option<Box<[u8]>>,
}

/// How workers receive, send and wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum ReactorKind {
    /// io_uring where the system has it and allows it, else [`Epoll`](Self::Epoll).
    Auto,
    /// io_uring, or no start: the system must have it (Linux 6.1) and allow it.
    #[value(name = "io_uring", alias = "io-uring", alias = "uring")]
    IoUring,
    /// epoll itself where there is one, else [`Polling`](Self::Polling).
    Epoll,
    /// The `polling` crate, which runs on every system.
    Polling,
}

/// What clients may speak.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// Whatever the first byte of a connection says, which can only be [`Ascii`](Self::Ascii) today.
    Auto,
    /// The text protocol.
    Ascii,
}

/// Where to listen: a host, and a port if it is not the common one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// Name or address; `None` for all addresses of the machine.
    pub host: Option<String>,
    /// The port, if it is not [`Config::port`].
    pub port: Option<u16>,
}

impl Default for Config {
    fn default() -> Config {
        Config {
            listen: vec![Endpoint { host: Some("127.0.0.1".to_owned()), port: None }],
            port: 11211,
            unix_socket: None,
            unix_mask: 0o700,
            memory_bytes: 64 << 20,
            item_bytes_max: 1 << 20,
            connections_max: 1024,
            connection_memory_bytes: None,
            turn_away: true,
            idle_timeout_s: 0,
            workers: None,
            commands_per_turn: 20,
            backlog: 1024,
            protocol: Protocol::Auto,
            evict: true,
            cas: true,
            flush_allowed: true,
            dump_allowed: true,
            watch_allowed: true,
            shutdown_allowed: false,
            debug_commands: false,
            auth_file: None,
            prefix_delimiter: b':',
            detail: false,
            track_sizes: false,
            watcher_buffer_bytes: 256 << 10,
            tunables: Tunables::default(),
            verbosity: 0,
            reactor: ReactorKind::Auto,
            panic_on_input: None,
        }
    }
}

impl Config {
    /// What the store needs to know.
    pub fn store(&self) -> memkv_engine::store::Config {
        memkv_engine::store::Config {
            memory_limit: self.memory_bytes,
            item_size_max: self.item_bytes_max,
            evict: self.evict,
            cas: self.cas,
        }
    }

    /// What all connections together may own, in bytes: as it was set, or a read buffer for each connection that there may be, but
    /// 32 MiB at least.
    pub fn connection_memory(&self) -> usize {
        let default = || self.connections_max.saturating_mul(CONNECTION_MEMORY_BYTES_EACH);
        self.connection_memory_bytes.unwrap_or_else(|| default().max(CONNECTION_MEMORY_BYTES_MIN))
    }

    /// The addresses in the form of `-l`, unless all of them are listened on.
    pub fn interfaces(&self) -> Option<String> {
        let texts: Option<Vec<String>> = self.listen.iter().map(Endpoint::interface).collect();
        texts.map(|texts| texts.join(","))
    }
}

impl Endpoint {
    /// One entry of `-l`: `host`, `host:port`, `[ipv6]`, `[ipv6]:port`, a bare IPv6 address, or `*` in place of the host.
    ///
    /// In front of it may stand `proto[ascii]:` or `proto[negotiating]:`, and a tag (`tag[name]:` or `tag_name_:`), by which
    /// memcached's proxy knows its listeners; here it means nothing.
    ///
    /// # Errors
    /// What is wrong with it, in a few words.
    pub fn parse(text: &str) -> Result<Endpoint, String> {
        let text = Endpoint::without_prefixes(text.trim())?;
        let (host, port) = match text.strip_prefix('[') {
            Some(rest) => {
                let (host, after) = rest.split_once(']').ok_or_else(|| format!("no ] in address '{text}'"))?;
                match after.strip_prefix(':') {
                    Some(port) => (host, Some(port)),
                    None if after.is_empty() => (host, None),
                    None => return Err(format!("unexpected '{after}' in address '{text}'")),
                }
            }
            // More than one colon without brackets can only be an IPv6 address.
            None => match text.split_once(':') {
                Some((host, port)) if !port.contains(':') => (host, Some(port)),
                _ => (text, None),
            },
        };
        if host.is_empty() {
            return Err(format!("no host in address '{text}'"));
        }
        let port = match port {
            Some(port) => Some(port.parse().map_err(|_| format!("Invalid port number: \"{port}\""))?),
            None => None,
        };
        Ok(Endpoint { host: (host != "*").then(|| host.to_owned()), port })
    }

    /// The part of an entry that is an address.
    fn without_prefixes(text: &str) -> Result<&str, String> {
        for option in ["notls", "btls", "mtls"] {
            if text.strip_prefix(option).is_some_and(|rest| rest.starts_with(':')) {
                return Err(format!("'{option}' option is valid only when SSL is enabled"));
            }
        }
        let mut rest = text;
        if let Some(after) = rest.strip_prefix("proto[") {
            let (name, after) = after.split_once("]:").ok_or_else(|| format!("no ]: behind proto in '{text}'"))?;
            match name {
                "ascii" | "negotiating" => rest = after,
                _ => return Err(format!("this server does not speak '{name}', which '{text}' asks for")),
            }
        }
        if let Some(after) = rest.strip_prefix("tag[") {
            (_, rest) = after.split_once("]:").ok_or_else(|| format!("no ]: behind the tag in '{text}'"))?;
        } else if let Some(after) = rest.strip_prefix("tag_") {
            (_, rest) = after.split_once("_:").ok_or_else(|| format!("no _: behind the tag in '{text}'"))?;
        }
        Ok(rest)
    }

    fn interface(&self) -> Option<String> {
        let host = self.host.as_deref()?;
        Some(match self.port {
            None => host.to_owned(),
            Some(port) if host.contains(':') => format!("[{host}]:{port}"),
            Some(port) => format!("{host}:{port}"),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_a_host_and_perhaps_a_port() {
        let endpoint = |host: Option<&str>, port| Ok(Endpoint { host: host.map(str::to_owned), port });
        assert_eq!(Endpoint::parse("localhost"), endpoint(Some("localhost"), None));
        assert_eq!(Endpoint::parse("127.0.0.1:5"), endpoint(Some("127.0.0.1"), Some(5)));
        assert_eq!(Endpoint::parse("[::1]:5"), endpoint(Some("::1"), Some(5)));
        assert_eq!(Endpoint::parse("[::1]"), endpoint(Some("::1"), None));
        assert_eq!(Endpoint::parse("::1"), endpoint(Some("::1"), None));
        assert_eq!(Endpoint::parse("*"), endpoint(None, None));
        assert_eq!(Endpoint::parse("*:5"), endpoint(None, Some(5)));
        assert_eq!(Endpoint::parse("proto[ascii]:tag[a]:[::1]:5"), endpoint(Some("::1"), Some(5)));
        assert_eq!(Endpoint::parse("tag_b_:localhost"), endpoint(Some("localhost"), None));
        let bad = [
            "",
            ":5",
            "[::1",
            "[::1]5",
            "a:b",
            "a:70000",
            "notls:::1",
            "mtls:a:5",
            "proto[binary]:a",
            "tag[a:b",
            "tag_a:b",
        ];
        for bad in bad {
            assert!(Endpoint::parse(bad).is_err(), "{bad}");
        }
    }
}
