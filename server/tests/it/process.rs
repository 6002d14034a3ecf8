//! The program as a process: signals, files, users, the background (protocol 18, 19).

use std::io::Read as _;
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::process::Stdio;

use crate::program::{Program, memkv, run, signal};
use crate::support::{Tcp, TempDir, wait_until};

/// A field of `/proc/<pid>/status`.
fn status_field(pid: u32, name: &str) -> Option<String> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).map(|value| value.trim().to_owned())
}

/// A line of `/proc/<pid>/limits`: the soft and the hard limit.
fn limit(pid: u32, name: &str) -> (String, String) {
    let text = std::fs::read_to_string(format!("/proc/{pid}/limits")).unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix(name)).unwrap();
    let mut words = line.split_whitespace().map(str::to_owned);
    (words.next().unwrap(), words.next().unwrap())
}

/// A server in the background, ended with the test.
struct Daemon(u32);

impl Daemon {
    fn of(pid_file: &Path) -> Daemon {
        Daemon(std::fs::read_to_string(pid_file).unwrap().trim_end().parse().unwrap())
    }

    fn has_ended(&self) -> bool {
        status_field(self.0, "State").is_none_or(|state| state.starts_with('Z'))
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if std::thread::panicking() && !self.has_ended() {
            signal(self.0, "KILL");
        }
    }
}

fn is_root() -> bool {
    memkv_server::process::is_root()
}

fn port_in(file: &Path) -> SocketAddr {
    let text = std::fs::read_to_string(file).unwrap();
    let port: u16 = text.strip_prefix("TCP INET: ").unwrap().trim_end().parse().unwrap();
    ([127, 0, 0, 1], port).into()
}

#[test]
fn p19_1_ports_are_written_to_a_file() {
    let dir = TempDir::new("ports");
    let file = dir.path("ports");
    let program = Program::start(
        memkv(&["-p", "-1", "-u", "root", "-t", "1", "-l", "127.0.0.1,127.0.0.1"])
            .env("MEMCACHED_PORT_FILENAME", &file),
    );
    let expected: Vec<String> =
        program.places.iter().map(|place| format!("TCP INET: {}\n", place.rsplit_once(':').unwrap().1)).collect();
    assert_eq!(std::fs::read_to_string(&file).unwrap(), expected.concat());
    assert!(!dir.path("ports.lck").exists());
    if TcpListener::bind("[::1]:0").is_ok() {
        let program = Program::start(
            memkv(&["-p", "-1", "-u", "root", "-t", "1", "-l", "::1"]).env("MEMCACHED_PORT_FILENAME", &file),
        );
        let port = program.places[0].rsplit_once(':').unwrap().1;
        assert_eq!(std::fs::read_to_string(&file).unwrap(), format!("TCP INET6: {port}\n"));
    }
}

#[test]
fn p19_3_term_and_int_exit_0_and_say_so_with_v() {
    for name in ["TERM", "INT"] {
        let program = Program::with(&[]);
        program.signal(name);
        let (status, rest) = program.end();
        assert!(status.success() && rest.is_empty(), "{name}: {rest}");
    }
    let program = Program::with(&["-v"]);
    program.signal("TERM");
    let (status, rest) = program.end();
    assert!(status.success() && rest.contains("Exiting normally"), "{rest}");
}

#[test]
fn p19_3_usr1_stops_gracefully_and_says_so() {
    let program = Program::with(&[]);
    let mut client = program.client();
    assert_eq!(client.ask(b"set k 0 0 1\r\n1\r\n"), "STORED\r\n");
    client.send(&b"get k\r\n".repeat(50));
    program.signal("USR1");
    assert_eq!(client.rest(), b"VALUE k 0 1\r\n1\r\nEND\r\n".repeat(50));
    let (status, rest) = program.end();
    assert!(status.success());
    assert_eq!(rest, "Gracefully stopping\n");
}

#[test]
fn p19_3_hup_and_pipe_do_not_stop_it() {
    let program = Program::with(&[]);
    let mut client = program.client();
    for name in ["HUP", "PIPE"] {
        program.signal(name);
        assert_eq!(client.ask(b"mn\r\n"), "MN\r\n");
    }
    program.signal("TERM");
    let (status, rest) = program.end();
    assert!(status.success() && rest.is_empty(), "{rest}");
}

#[test]
fn p10_shutdown_is_term_and_usr1_from_a_client() {
    for (line, expected) in [(&b"shutdown\r\n"[..], ""), (b"shutdown graceful\r\n", "Gracefully stopping\n")] {
        let program = Program::with(&["-A"]);
        let mut client = program.client();
        assert_eq!(client.ask(b"shutdown now\r\n"), "CLIENT_ERROR invalid shutdown mode\r\n");
        assert_eq!(client.ask(b"shutdown now noreply\r\nset k 0 0 1\r\n1\r\n"), "STORED\r\n");
        client.send(&[b"get k\r\n", line, b"get k\r\n"].concat());
        assert_eq!(client.rest(), b"VALUE k 0 1\r\n1\r\nEND\r\n", "what comes behind it is not answered");
        let (status, rest) = program.end();
        assert!(status.success());
        assert_eq!(rest, expected);
    }
}

#[test]
fn p19_4_exit_statuses_of_start_and_user() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    for (args, code) in [
        (&["-p", &port][..], 71),
        (&["-l", "no.such.host.invalid"], 71),
        (&["-s", "/no/such/directory/socket"], 71),
        (&["-Y", "/no/such/file"], 1),
        (&["--check-config"], 0),
    ] {
        let output = run(&[&["-u", "root"], args].concat());
        assert_eq!(output.status.code(), Some(code), "{args:?}");
    }
    if is_root() {
        let output = run(&["-u", "no_such_user"]);
        assert_eq!(output.status.code(), Some(67));
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!(stderr, "memkv: can't find the user no_such_user to switch to\n");
    }
}

#[test]
fn p18_u_becomes_another_user_and_keeps_nothing_of_root() {
    if !is_root() {
        return;
    }
    let dir = TempDir::new("user");
    std::os::unix::fs::chown(dir.path(""), Some(65534), Some(65534)).unwrap();
    let socket = dir.path("socket");
    let pid_file = dir.path("pid");
    let program = Program::start(&mut memkv(&[
        "-u",
        "nobody",
        "-t",
        "1",
        "-s",
        socket.to_str().unwrap(),
        "-P",
        pid_file.to_str().unwrap(),
        "-r",
    ]));
    let pid = program.child.id();
    let uid = status_field(pid, "Uid").unwrap();
    assert!(!uid.split_whitespace().any(|id| id == "0"), "{uid}");
    assert!(!status_field(pid, "Gid").unwrap().split_whitespace().any(|id| id == "0"));
    assert_eq!(status_field(pid, "Groups").as_deref(), Some(""));
    assert_eq!(status_field(pid, "CapEff").unwrap().trim_start_matches('0'), "");
    // Every thread has changed, and what it makes is its own.
    for task in std::fs::read_dir(format!("/proc/{pid}/task")).unwrap() {
        let text = std::fs::read_to_string(task.unwrap().path().join("status")).unwrap();
        assert!(text.contains(&format!("Uid:\t{uid}")), "{text}");
    }
    use std::os::unix::fs::MetadataExt as _;
    assert_ne!(std::fs::metadata(&socket).unwrap().uid(), 0);
    assert_eq!(std::fs::read_to_string(&pid_file).unwrap(), format!("{pid}\n"));
    assert!(program.before.is_empty(), "{:?}", program.before);
}

#[test]
fn p18_u_root_without_a_user_is_warned() {
    let program = Program::start(&mut memkv(&["-p", "-1", "-t", "1"]));
    assert_eq!(program.before.len(), usize::from(is_root()), "{:?}", program.before);
    if is_root() {
        assert!(program.before[0].contains("running as root; name the user with -u root if that is intended"));
    }
}

#[test]
fn p18_d_runs_in_the_background_and_returns_when_ready() {
    let dir = TempDir::new("daemon");
    let (ports, pid_file) = (dir.path("ports"), dir.path("pid"));
    let output = memkv(&["-d", "-p", "-1", "-u", "root", "-t", "1", "-P", "pid"])
        .env("MEMCACHED_PORT_FILENAME", &ports)
        .current_dir(dir.path(""))
        .output()
        .unwrap();
    assert!(output.status.success());
    assert!(String::from_utf8(output.stderr).unwrap().contains(" ready on 127.0.0.1:"));
    let daemon = Daemon::of(&pid_file);
    let pid = daemon.0;
    assert_eq!(Tcp::connect(port_in(&ports)).ask(b"mn\r\n"), "MN\r\n");
    assert_eq!(std::fs::read_link(format!("/proc/{pid}/cwd")).unwrap(), Path::new("/"));
    for descriptor in 0..3 {
        let target = std::fs::read_link(format!("/proc/{pid}/fd/{descriptor}")).unwrap();
        assert_eq!(target, Path::new("/dev/null"));
    }
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let fields: Vec<&str> = stat.rsplit_once(") ").unwrap().1.split(' ').collect();
    assert_eq!(fields[3], pid.to_string(), "it leads a session of its own");
    signal(pid, "TERM");
    wait_until("the pid file is gone", || !pid_file.exists());
    wait_until("it has ended", || daemon.has_ended());
}

#[test]
fn p18_d_with_v_keeps_its_terminal() {
    let dir = TempDir::new("daemon-v");
    let pid_file = dir.path("pid");
    let mut child = memkv(&["-d", "-v", "-p", "-1", "-u", "root", "-t", "1", "-P", pid_file.to_str().unwrap()])
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    assert!(child.wait().unwrap().success());
    let daemon = Daemon::of(&pid_file);
    let pid = daemon.0;
    signal(pid, "TERM");
    let mut rest = String::new();
    child.stderr.take().unwrap().read_to_string(&mut rest).unwrap();
    assert!(rest.contains("Exiting normally"), "{rest}");
}

#[test]
fn p18_d_fails_with_the_status_of_the_failure() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let dir = TempDir::new("daemon-fails");
    let pid_file = dir.path("pid");
    let output = run(&["-d", "-u", "root", "-p", &port, "-P", pid_file.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(71));
    assert!(String::from_utf8(output.stderr).unwrap().starts_with("memkv: cannot listen on 127.0.0.1:"));
    assert!(!pid_file.exists());
}

#[test]
fn p18_p_writes_the_process_id_and_leaves_it_without_d() {
    let dir = TempDir::new("pid");
    let pid_file = dir.path("pid");
    let program = Program::with(&["-P", pid_file.to_str().unwrap()]);
    assert_eq!(std::fs::read_to_string(&pid_file).unwrap(), format!("{}\n", program.child.id()));
    assert!(!dir.path("pid.tmp").exists());
    program.signal("TERM");
    assert!(program.end().0.success());
    assert!(pid_file.exists());
    // A pid file that cannot be written is no reason to stop.
    let program = Program::with(&["-P", "/no/such/directory/pid"]);
    assert!(program.before[0].contains("cannot write the pid file"));
    assert_eq!(program.client().ask(b"mn\r\n"), "MN\r\n");
}

#[test]
fn p18_r_and_c_raise_limits() {
    let program = Program::with(&["-r", "-c", "700"]);
    let (soft, hard) = limit(program.child.id(), "Max core file size");
    assert_eq!(soft, hard);
    assert_ne!(soft, "0");
    let (files, _) = limit(program.child.id(), "Max open files");
    assert!(files == "unlimited" || files.parse::<u64>().unwrap() >= 700, "{files}");
}

#[test]
fn p18_k_locks_memory_or_says_why_not() {
    let program = Program::with(&["-k"]);
    let locked = status_field(program.child.id(), "VmLck").unwrap();
    let is_locked = locked != "0 kB";
    let warned = program.before.iter().any(|line| line.contains("-k: memory cannot be locked"));
    assert!(is_locked != warned, "{locked}, {:?}", program.before);
    // Memory comes and goes as before: segments are opened, given back and opened again.
    let mut client = program.client();
    let value = "v".repeat(1000);
    for key in 0..20_000 {
        client.send(format!("set {} 0 0 1000 noreply\r\n{value}\r\n", key % 7_000).as_bytes());
    }
    assert_eq!(client.ask(b"flush_all\r\n"), "OK\r\n");
    assert_eq!(client.ask(b"set k 0 0 1\r\n1\r\n"), "STORED\r\n");
    assert_eq!(client.ask(b"get k\r\n"), "VALUE k 0 1\r\n");
}

#[test]
fn p19_5_no_key_value_or_password_is_logged_by_default() {
    let dir = TempDir::new("secrets");
    let users = dir.file("users", "sesame:opensesame\n");
    let program = Program::with(&["-Y", users.to_str().unwrap(), "--debug-commands", "-o", "idle_timeout=5"]);
    let mut wrong = program.client();
    assert!(wrong.ask(b"set a 0 0 18\r\nsesame openSesames\r\n").starts_with("CLIENT_ERROR"));
    let mut client = program.client();
    assert_eq!(client.ask(b"set sesame 0 0 17\r\nsesame opensesame\r\n"), "STORED\r\n");
    client.send(b"set sesamekey 0 0 11\r\nsesamevalue\r\nget sesamekey\r\nincr sesamekey 1\r\nset sesamebad 0 0 1\r\nsesame\r\n");
    client.send(
        b"sesame\r\nmg sesamekey v\r\nms sesamekey 5 sesame\r\nsesam\r\ndelete sesamekey\r\ndebugtime 60\r\nmn\r\n",
    );
    while client.line() != "MN\r\n" {}
    dir.file("users", "sesame\n");
    program.signal("HUP");
    program.signal("TERM");
    let (status, rest) = program.end();
    assert!(status.success());
    assert!(!rest.to_lowercase().contains("sesame"), "{rest}");
}
