//! What the tests share: servers, plain clients, and comparing answers.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::num::NonZeroUsize;
use std::time::Duration;

use clap::ValueEnum as _;
use memkv_server::reactor::Reactor;
use memkv_server::{Config, ReactorKind, Running, Server};

/// Long enough for the slowest machine; reaching it is a failure, never a way to go on.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// Any port, one worker, little memory. Which reactor is up to `MEMKV_REACTOR`, as for the program.
pub(crate) fn config() -> Config {
    let reactor = match std::env::var("MEMKV_REACTOR") {
        Ok(name) => ReactorKind::from_str(&name, true).expect("MEMKV_REACTOR names a reactor"),
        Err(_) => ReactorKind::Auto,
    };
    Config { port: 0, workers: NonZeroUsize::new(1), memory_bytes: 16 << 20, reactor, ..Config::default() }
}

/// All reactors that there are here. Says where everybody sees it that io_uring is not, or fails if `TESTS_REQUIRE` names it.
pub(crate) fn reactors() -> Vec<ReactorKind> {
    let mut kinds = vec![ReactorKind::Epoll, ReactorKind::Polling];
    match Reactor::new(ReactorKind::IoUring, 1) {
        Ok(_) => kinds.push(ReactorKind::IoUring),
        Err(error) => {
            let required = std::env::var("TESTS_REQUIRE").unwrap_or_default();
            let is_required = required.split_whitespace().any(|word| word == "io_uring");
            assert!(!is_required, "TESTS_REQUIRE names io_uring: {error}");
            // The macros' output is shown for failing tests only; this is not.
            let _ = writeln!(std::io::stderr(), "NOT TESTED: the io_uring reactor, because {error}");
        }
    }
    kinds
}

pub(crate) fn start(config: Config) -> Running {
    Server::start(config).expect("the server starts")
}

/// A client over TCP that writes and reads bytes.
pub(crate) struct Tcp(pub(crate) TcpStream);

impl Tcp {
    pub(crate) fn connect(addr: SocketAddr) -> Tcp {
        let socket = TcpStream::connect(addr).expect("the server accepts");
        socket.set_nodelay(true).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        Tcp(socket)
    }

    pub(crate) fn send(&mut self, bytes: &[u8]) {
        self.0.write_all(bytes).expect("the server takes input");
    }

    /// The next `len` bytes.
    pub(crate) fn read(&mut self, len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len];
        self.0.read_exact(&mut bytes).expect("the server answers");
        bytes
    }

    /// The next line, with its terminator.
    pub(crate) fn line(&mut self) -> String {
        let mut line = Vec::new();
        while !line.ends_with(b"\n") {
            line.extend(self.read(1));
        }
        String::from_utf8(line).unwrap()
    }

    /// Sends, and reads one line.
    pub(crate) fn ask(&mut self, bytes: &[u8]) -> String {
        self.send(bytes);
        self.line()
    }

    /// Everything up to the end of the stream.
    pub(crate) fn rest(&mut self) -> Vec<u8> {
        let mut bytes = Vec::new();
        self.0.read_to_end(&mut bytes).expect("the server closes");
        bytes
    }

    /// Sends, closes the sending side, and reads everything.
    pub(crate) fn finish(mut self, bytes: &[u8]) -> Vec<u8> {
        self.send(bytes);
        self.0.shutdown(Shutdown::Write).unwrap();
        self.rest()
    }
}

/// A directory of its own for each test, removed with this value.
pub(crate) struct TempDir(std::path::PathBuf);

impl TempDir {
    pub(crate) fn new(name: &str) -> TempDir {
        let path = std::env::temp_dir().join(format!("memkv-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&path);
        std::fs::create_dir(&path).unwrap();
        TempDir(path)
    }

    pub(crate) fn path(&self, name: &str) -> std::path::PathBuf {
        self.0.join(name)
    }

    /// A file with this text; its path.
    pub(crate) fn file(&self, name: &str, text: &str) -> std::path::PathBuf {
        let path = self.path(name);
        std::fs::write(&path, text).unwrap();
        path
    }
}

impl Drop for TempDir {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// The value of a statistic, from a `stats` answer.
pub(crate) fn stat(addr: SocketAddr, name: &str) -> u64 {
    let answer = Tcp::connect(addr).finish(b"stats\r\n");
    let answer = String::from_utf8(answer).unwrap();
    let prefix = format!("STAT {name} ");
    let line = answer.lines().find_map(|line| line.strip_prefix(&prefix));
    line.unwrap_or_else(|| panic!("no {name} in {answer}")).parse().unwrap()
}

/// Asks again until `condition` holds: for what follows an event without a word about it.
pub(crate) fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = std::time::Instant::now() + PATIENCE;
    while !condition() {
        assert!(std::time::Instant::now() < deadline, "never came true: {what}");
        std::thread::yield_now();
    }
}

/// Whether `answer` is what `pattern` says, where `{n}` stands for any number.
pub(crate) fn matches(pattern: &[u8], answer: &[u8]) -> bool {
    match (pattern.strip_prefix(b"{n}"), pattern, answer) {
        (Some(pattern), _, _) => {
            let digits = answer.iter().take_while(|byte| byte.is_ascii_digit()).count();
            digits > 0 && matches(pattern, &answer[digits..])
        }
        (None, [], []) => true,
        (None, [expected, pattern @ ..], [byte, answer @ ..]) if expected == byte => {
            // Long equal stretches without recursion.
            let equal = pattern.iter().zip(answer).take_while(|(a, b)| a == b && **a != b'{').count();
            matches(&pattern[equal..], &answer[equal..])
        }
        _ => false,
    }
}

/// Bytes for people.
pub(crate) fn show(bytes: &[u8]) -> String {
    let text = bytes.escape_ascii().to_string();
    if text.len() <= 600 { text } else { format!("{}... ({} bytes)", &text[..600], bytes.len()) }
}

/// The value of a statistic, asked for by this client.
pub(crate) fn stat_of(client: &mut Tcp, name: &str) -> String {
    client.send(b"stats\r\n");
    let mut value = None;
    loop {
        let line = client.line();
        if line == "END\r\n" {
            return value.unwrap_or_else(|| panic!("no {name}"));
        }
        if let Some(found) = line.strip_prefix("STAT ").and_then(|rest| rest.strip_prefix(name)?.strip_prefix(' ')) {
            value = Some(found.trim_end().to_owned());
        }
    }
}
