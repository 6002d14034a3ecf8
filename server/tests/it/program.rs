//! The program `memkv` from outside: ready line, exit codes, signals, descriptors.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, ChildStderr, Command, ExitStatus, Output, Stdio};
use std::time::{Duration, Instant};

use crate::support::{Tcp, wait_until};

/// A running `memkv`, ended with the test.
pub(crate) struct Program {
    pub(crate) child: Child,
    /// Where it listens, in its own words.
    pub(crate) places: Vec<String>,
    /// What it said before it was ready.
    pub(crate) before: Vec<String>,
    /// Kept open: a server whose stderr is closed could not log.
    pub(crate) stderr: BufReader<ChildStderr>,
}

impl Program {
    pub(crate) fn start(command: &mut Command) -> Program {
        let mut child = command.stderr(Stdio::piped()).spawn().expect("memkv starts");
        let stderr = BufReader::new(child.stderr.take().unwrap());
        let mut program = Program { child, places: Vec::new(), before: Vec::new(), stderr };
        while program.places.is_empty() {
            let mut line = String::new();
            let len = program.stderr.read_line(&mut line).unwrap();
            assert!(len > 0, "memkv ended before it was ready: {:?}", program.before);
            match line.split_once(" ready on ") {
                Some((_, places)) => {
                    let places = places.split(" (").next().unwrap();
                    program.places = places.split(", ").map(str::to_owned).collect();
                }
                None => program.before.push(line),
            }
        }
        program
    }

    /// One on any port of the loopback interface, with these arguments.
    pub(crate) fn with(args: &[&str]) -> Program {
        Program::start(memkv(&["-p", "-1", "-t", "1", "-u", "root"]).args(args))
    }

    /// The first address that it listens on.
    pub(crate) fn addr(&self) -> SocketAddr {
        self.places[0].parse().expect("an address")
    }

    pub(crate) fn client(&self) -> Tcp {
        Tcp::connect(self.addr())
    }

    pub(crate) fn signal(&self, name: &str) {
        signal(self.child.id(), name);
    }

    /// Waits for its end; its exit status, and what it has still said.
    pub(crate) fn end(mut self) -> (ExitStatus, String) {
        let mut rest = String::new();
        self.stderr.read_to_string(&mut rest).unwrap();
        (self.child.wait().unwrap(), rest)
    }
}

pub(crate) fn signal(pid: u32, name: &str) {
    let status = Command::new("kill").args([&format!("-{name}"), &pid.to_string()]).status().unwrap();
    assert!(status.success());
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub(crate) fn memkv(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_memkv"));
    command.args(args);
    command
}

pub(crate) fn run(args: &[&str]) -> Output {
    memkv(args).output().expect("memkv runs")
}

#[test]
fn it_says_in_one_line_that_it_is_ready() {
    let mut program = Program::start(&mut memkv(&["-p", "-1", "-t", "2", "-u", "root"]));
    assert!(Tcp::connect(program.addr()).ask(b"version\r\n").starts_with("VERSION 1.6.45"));
    program.signal("TERM");
    assert!(program.child.wait().unwrap().success());
    let mut rest = String::new();
    program.stderr.read_to_string(&mut rest).unwrap();
    assert_eq!(rest, "", "nothing else on stderr");
}

#[test]
fn p19_exit_a_wrong_command_line_is_one_line_and_a_status() {
    for (args, code) in [
        (&["--nonsense"][..], 1),
        (&["-m"], 1),
        (&["-c", "0"], 1),
        (&["-o", "nonsense"], 1),
        (&["-p", "70000"], 64),
        (&["-m", "x"], 64),
        (&["-I", "12"], 64),
        (&["-U", "5"], 64),
        (&["-S"], 64),
        (&["-Z"], 64),
        (&["--config", "/no/such/file"], 64),
        (&["-l", "127.0.0.1:x"], 71),
    ] {
        let output = run(args);
        assert_eq!(output.status.code(), Some(code), "{args:?}");
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!(stderr.lines().count(), 1, "{args:?}: {stderr}");
        assert!(stderr.starts_with("memkv: ") && stderr.len() > 20, "{stderr}");
        assert!(output.stdout.is_empty());
    }
}

#[test]
fn a_port_that_is_taken_exits_71_with_one_line() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let output = run(&["-u", "root", "-p", &port.to_string()]);
    assert_eq!(output.status.code(), Some(71));
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert!(stderr.starts_with(&format!("memkv: cannot listen on 127.0.0.1:{port}: ")), "{stderr}");
    assert_eq!(stderr.lines().count(), 1);
}

#[test]
fn a_name_without_address_exits_71() {
    let output = run(&["-u", "root", "-l", "no.such.host.invalid"]);
    assert_eq!(output.status.code(), Some(71));
}

#[test]
fn help_and_version_exit_0() {
    let version = run(&["-V"]);
    assert!(version.status.success());
    assert_eq!(String::from_utf8(version.stdout).unwrap(), "memkv 0.1.0 (memcached 1.6.45 protocol)\n");
    let help = run(&["-h"]);
    assert!(help.status.success());
    assert!(String::from_utf8(help.stdout).unwrap().contains("--memory-limit"));
}

#[test]
fn term_and_int_answer_what_was_received_and_exit_0_in_time() {
    for signal in ["TERM", "INT"] {
        let mut program = Program::start(&mut memkv(&["-p", "-1", "-u", "root"]));
        let mut client = Tcp::connect(program.addr());
        assert_eq!(client.ask(b"set k 0 0 1\r\n1\r\n"), "STORED\r\n");
        // One client that says nothing, one in the middle of a value, one that does not read.
        let silent = TcpStream::connect(program.addr()).unwrap();
        let mut partial = TcpStream::connect(program.addr()).unwrap();
        partial.write_all(b"set p 0 0 10\r\nabc").unwrap();
        let mut deaf = TcpStream::connect(program.addr()).unwrap();
        deaf.set_nonblocking(true).unwrap();
        while deaf.write(&b"get k k k k k k k k k k k k k k k k k k k k k k k k\r\n".repeat(100)).is_ok() {}
        client.send(&b"get k\r\n".repeat(100));
        let started = Instant::now();
        program.signal(signal);
        assert_eq!(client.rest(), b"VALUE k 0 1\r\n1\r\nEND\r\n".repeat(100), "{signal}");
        let status = program.child.wait().unwrap();
        assert!(status.success(), "{signal}: {status}");
        assert!(started.elapsed() < Duration::from_secs(2), "{signal} took {:?}", started.elapsed());
        drop((silent, partial, deaf));
    }
}

#[test]
fn without_descriptors_it_keeps_serving_and_accepts_again_later() {
    let shell = format!("ulimit -n 40; exec {} -p -1 -t 1 -u root", env!("CARGO_BIN_EXE_memkv"));
    let program = Program::start(Command::new("sh").args(["-c", &shell]));
    let mut first = Tcp::connect(program.addr());
    assert_eq!(first.ask(b"set k 0 0 1\r\n1\r\n"), "STORED\r\n");
    // More than there are descriptors; the kernel takes them all into the backlog.
    let mut crowd: Vec<Tcp> = (0..60).map(|_| Tcp::connect(program.addr())).collect();
    assert_eq!(first.ask(b"delete k\r\n"), "DELETED\r\n");
    wait_until("it has noticed", || {
        first.send(b"stats\r\n");
        let mut noticed = false;
        loop {
            let line = first.line();
            if line == "END\r\n" {
                return noticed;
            }
            noticed |= line.strip_prefix("STAT listen_disabled_num ").is_some_and(|n| n.trim() != "0");
        }
    });
    crowd.drain(..50);
    for client in &mut crowd {
        assert!(client.ask(b"version\r\n").starts_with("VERSION"));
    }
}
