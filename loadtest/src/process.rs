//! Server processes that live exactly as long as they are needed.

use crate::error::Error;
use crate::target::Target;
use crate::worker::Ended;
use rustix::process::{Pid, Signal, kill_process_group};
use std::fs::{self, File};
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// How long a server may take until it accepts connections.
const READY_TIMEOUT: Duration = Duration::from_secs(20);
/// Time between two attempts to connect, or two looks at whether a process has ended.
const RETRY_INTERVAL: Duration = Duration::from_millis(10);
/// How long a server may take to end when asked, before it is made to.
const END_TIMEOUT: Duration = Duration::from_secs(3);
/// How much of a failed server's output is repeated.
const LAST_WORDS_BYTES: usize = 1000;

/// A command line with a place for the address, not yet started.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ServerCommand {
    text: String,
}

impl ServerCommand {
    /// Checks that the command says where its address goes: `{port}` or `{socket}`.
    ///
    /// # Errors
    /// Says what is missing.
    pub fn new(text: &str) -> Result<Self, String> {
        let words = shlex::split(text).ok_or("the quotes do not match")?;
        if words.is_empty() {
            return Err("the command is empty".into());
        }
        if !text.contains("{port}") && !text.contains("{socket}") {
            return Err("the command needs {port} (or {socket}) where the server's address goes".into());
        }
        Ok(Self { text: text.into() })
    }

    /// Whether it has a `{memory}` that must be filled in.
    pub fn needs_memory(&self) -> bool {
        self.text.contains("{memory}")
    }

    /// The same command with so many MiB in place of `{memory}`.
    pub fn with_memory(&self, mib: u64) -> Self {
        Self { text: self.text.replace("{memory}", &mib.to_string()) }
    }

    /// The words to execute for these addresses.
    fn words(&self, port: u16, socket: &Path) -> Vec<String> {
        let words = shlex::split(&self.text).unwrap_or_default();
        let socket = socket.to_string_lossy();
        words.iter().map(|word| word.replace("{port}", &port.to_string()).replace("{socket}", &socket)).collect()
    }
}

impl std::fmt::Display for ServerCommand {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.text)
    }
}

/// A server to work with: one that runs already, or one to start.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Endpoint {
    /// Somebody else's.
    Running(Target),
    /// Ours, for as long as it is needed.
    Started(ServerCommand),
}

impl Endpoint {
    /// Reads an address, or a command with a place for one.
    ///
    /// # Errors
    /// Says what would have been understood.
    pub fn new(text: &str) -> Result<Self, String> {
        if text.contains(['{', ' ']) {
            ServerCommand::new(text).map(Self::Started)
        } else {
            text.parse().map(Self::Running).map_err(|error| format!("{error}, or a COMMAND with {{port}}"))
        }
    }

    /// Whether it is to be started with a memory limit that is not known yet.
    pub fn needs_memory(&self) -> bool {
        matches!(self, Self::Started(command) if command.needs_memory())
    }

    /// The same with so many MiB in place of `{memory}`.
    pub fn with_memory(&self, mib: u64) -> Self {
        match self {
            Self::Running(_) => self.clone(),
            Self::Started(command) => Self::Started(command.with_memory(mib)),
        }
    }
}

impl std::fmt::Display for Endpoint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Running(target) => target.fmt(f),
            Self::Started(command) => command.fmt(f),
        }
    }
}

/// A running server. Dropping it ends the process and everything that the process has started in its group.
#[derive(Debug)]
pub struct Server {
    command: ServerCommand,
    child: Child,
    target: Target,
    socket: PathBuf,
    log: PathBuf,
}

impl Server {
    /// Starts the command on a free loopback port (or a fresh socket) and waits until it accepts a connection.
    ///
    /// It inherits the cores of the calling thread. Its output goes to a file that is removed with it.
    ///
    /// # Errors
    /// When it cannot be started, ends at once, does not listen in time, or `stop` is set meanwhile.
    pub fn start(command: &ServerCommand, name: &str, stop: &AtomicBool) -> Result<Self, Error> {
        let failed = |reason: String| Error::NotStarted { command: command.to_string(), reason };
        let port = free_port().map_err(|error| failed(format!("no free port: {error}")))?;
        let file =
            |kind| std::env::temp_dir().join(format!("memkv-loadtest-{}-{port}-{name}.{kind}", std::process::id()));
        let (socket, log) = (file("sock"), file("log"));
        let output = File::create(&log).map_err(|source| Error::File { file: log.display().to_string(), source })?;
        let errors = output.try_clone().map_err(|source| Error::File { file: log.display().to_string(), source })?;
        let words = command.words(port, &socket);
        let spawned = Command::new(&words[0])
            .args(&words[1..])
            .stdin(Stdio::null())
            .stdout(output)
            .stderr(errors)
            // A group of its own: Ctrl-C reaches us first, and wrappers end together with what they wrap.
            .process_group(0)
            .spawn();
        let child = spawned.map_err(|error| {
            let _ = fs::remove_file(&log);
            failed(error.to_string())
        })?;
        let target = if command.text.contains("{port}") {
            Target::Tcp(format!("{}:{port}", Ipv4Addr::LOCALHOST))
        } else {
            Target::Unix(socket.clone())
        };
        let mut server = Self { command: command.clone(), child, target, socket, log };
        server.wait_until_ready(stop)?;
        Ok(server)
    }

    fn wait_until_ready(&mut self, stop: &AtomicBool) -> Result<(), Error> {
        let start = Instant::now();
        loop {
            // First whether it lives: another process may have taken the port in the meantime.
            if let Some(status) = self.ended() {
                return Err(self.not_started(&format!("it ended at once with {status}")));
            }
            match self.target.try_connect() {
                Ok(_) => return Ok(()),
                Err(error) if start.elapsed() > READY_TIMEOUT => {
                    return Err(self.not_started(&format!("not listening after {READY_TIMEOUT:?}: {error}")));
                }
                // Relaxed: a wish to end; no memory is read on the strength of it.
                Err(_) if stop.load(Ordering::Relaxed) => return Err(Error::Interrupted),
                Err(_) => thread::sleep(RETRY_INTERVAL),
            }
        }
    }

    fn not_started(&self, reason: &str) -> Error {
        Error::NotStarted { command: self.command.to_string(), reason: format!("{reason}{}", self.last_words()) }
    }

    /// The end of what the server printed, ready to follow a sentence.
    fn last_words(&self) -> String {
        let output = fs::read(&self.log).unwrap_or_default();
        let tail = String::from_utf8_lossy(&output[output.len().saturating_sub(LAST_WORDS_BYTES)..]).trim().to_owned();
        if tail.is_empty() { String::new() } else { format!("; it said: {tail}") }
    }

    /// The command that was started.
    pub fn command(&self) -> &ServerCommand {
        &self.command
    }

    /// Where it listens.
    pub fn target(&self) -> &Target {
        &self.target
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Bytes of memory that it holds at this moment, without its children's; `None` where the system does not tell.
    pub fn resident_bytes(&self) -> Option<u64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid())).ok()?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
        let kib: u64 = line.trim().strip_suffix(" kB")?.parse().ok()?;
        Some(kib * 1024)
    }

    /// Its exit status, if it has ended.
    pub fn ended(&mut self) -> Option<String> {
        self.child.try_wait().ok().flatten().map(describe_status)
    }

    /// The error for a server that went away, with its exit status and last words.
    pub fn lost(&mut self) -> Error {
        let how = match self.ended() {
            Some(status) => format!("the server ended with {status}"),
            None => "the server closed all connections or stopped answering".into(),
        };
        Error::ServerLost { target: self.command.to_string(), reason: format!("{how}{}", self.last_words()) }
    }

    fn end(&mut self) {
        let Some(group) = Pid::from_raw(self.child.id() as i32) else {
            return;
        };
        // The leader is not waited for before this, so the group's number cannot have passed to strangers; where `ended`
        // has already collected it, the group is gone or still ours.
        let _ = kill_process_group(group, Signal::TERM);
        let start = Instant::now();
        while matches!(self.child.try_wait(), Ok(None)) && start.elapsed() < END_TIMEOUT {
            thread::sleep(RETRY_INTERVAL);
        }
        let _ = kill_process_group(group, Signal::KILL);
        let _ = self.child.wait();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.end();
        let _ = fs::remove_file(&self.log);
        let _ = fs::remove_file(&self.socket);
    }
}

/// An endpoint in use: somebody else's server, or one that lives as long as this.
#[derive(Debug)]
pub struct Attached {
    name: String,
    target: Target,
    server: Option<Server>,
}

impl Attached {
    /// Starts the server if it is to be started; `label` tells its files apart. Nothing is sent to it yet.
    ///
    /// # Errors
    /// As [`Server::start`].
    pub fn to(endpoint: &Endpoint, label: &str, stop: &AtomicBool) -> Result<Self, Error> {
        let (target, server) = match endpoint {
            Endpoint::Running(target) => (target.clone(), None),
            Endpoint::Started(command) => {
                let server = Server::start(command, label, stop)?;
                (server.target().clone(), Some(server))
            }
        };
        Ok(Self { name: endpoint.to_string(), target, server })
    }

    /// Where it listens.
    pub fn target(&self) -> &Target {
        &self.target
    }

    /// Whether it was started here, and so held nothing at first.
    pub fn is_ours(&self) -> bool {
        self.server.is_some()
    }

    /// See [`Server::resident_bytes`]; `None` if it was not started here.
    pub fn resident_bytes(&self) -> Option<u64> {
        self.server.as_ref().and_then(Server::resident_bytes)
    }

    /// Turns the end of a drive into an error unless everything was done.
    ///
    /// # Errors
    /// When the drive was stopped, or the server went away or fell silent.
    pub fn check_end(&mut self, ended: Ended) -> Result<(), Error> {
        match (ended, &mut self.server) {
            (Ended::Done, _) => Ok(()),
            (Ended::Stopped, _) => Err(Error::Interrupted),
            (_, Some(server)) => Err(server.lost()),
            (_, None) => {
                let reason = "the server went away or stopped answering".into();
                Err(Error::ServerLost { target: self.name.clone(), reason })
            }
        }
    }
}

/// A port that nobody listens on at this moment.
fn free_port() -> std::io::Result<u16> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port())
}

fn describe_status(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("status {code}"),
        (None, Some(signal)) => format!("signal {signal}"),
        (None, None) => "an unknown status".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_must_be_a_command_with_an_address() {
        let command = ServerCommand::new("'my server' -p {port} --path=/x/{port}").unwrap();
        assert_eq!(command.words(7, Path::new("/s")), ["my server", "-p", "7", "--path=/x/7"]);
        let command = ServerCommand::new("x -p {port} -m {memory}").unwrap();
        assert!(command.needs_memory() && !command.with_memory(64).needs_memory());
        assert_eq!(command.with_memory(64).words(7, Path::new("/s")), ["x", "-p", "7", "-m", "64"]);
        let command = ServerCommand::new("memcached -s {socket}").unwrap();
        assert_eq!(command.words(7, Path::new("/s")), ["memcached", "-s", "/s"]);
        for text in ["", "memcached", "memcached 'x {port}", "  "] {
            assert!(ServerCommand::new(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn a_server_that_cannot_start_is_explained() {
        let stop = AtomicBool::new(false);
        let cases = [
            ("/no/such/server {port}", "No such file"),
            ("sh -c 'echo sorry; exit 3' {port}", "status 3; it said: sorry"),
        ];
        for (command, part) in cases {
            let error = Server::start(&ServerCommand::new(command).unwrap(), "a", &stop).unwrap_err();
            assert!(error.to_string().contains(part), "{error}");
        }
    }

    #[test]
    fn dropping_a_server_ends_its_whole_group() {
        // A process that listens on nothing: taken up without waiting for readiness.
        let child = Command::new("sh").args(["-c", "sleep 100 & wait"]).process_group(0).spawn().unwrap();
        let pid = child.id();
        let file = |kind| std::env::temp_dir().join(format!("memkv-loadtest-test-{pid}.{kind}"));
        let command = ServerCommand::new("sh {port}").unwrap();
        let target = Target::Unix(file("sock"));
        drop(Server { command, child, target, socket: file("sock"), log: file("log") });
        let group = Pid::from_raw(pid as i32).unwrap();
        let gone = rustix::process::test_kill_process_group(group) == Err(rustix::io::Errno::SRCH);
        // The grandchild may still await its burial by init; as a zombie it no longer runs.
        assert!(gone || fs::read_to_string(format!("/proc/{pid}/stat")).is_err());
    }
}
