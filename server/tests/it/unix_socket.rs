//! Listening on a Unix socket (protocol 16).

use std::io::{Read as _, Write as _};
use std::net::Shutdown;
use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _};
use std::os::unix::net::UnixStream;
use std::path::Path;

use crate::program::{Program, memkv, run};
use crate::support::{PATIENCE, TempDir};

fn start(path: &Path, args: &[&str]) -> Program {
    Program::start(memkv(&["-u", "root", "-t", "1", "-s", path.to_str().unwrap()]).args(args))
}

/// Sends, closes the sending side, and reads everything.
fn ask(path: &Path, bytes: &[u8]) -> String {
    let mut client = UnixStream::connect(path).expect("the server accepts");
    client.set_read_timeout(Some(PATIENCE)).unwrap();
    client.write_all(bytes).unwrap();
    client.shutdown(Shutdown::Write).unwrap();
    let mut answer = String::new();
    client.read_to_string(&mut answer).unwrap();
    answer
}

fn mode(path: &Path) -> u32 {
    std::fs::metadata(path).unwrap().permissions().mode() & 0o7777
}

#[test]
fn p16_it_serves_there_and_not_on_the_network() {
    let dir = TempDir::new("unix");
    let path = dir.path("socket");
    // The port would be free, but it is not asked for.
    let program = start(&path, &["-p", "1", "-l", "127.0.0.1"]);
    assert_eq!(program.places, [path.to_str().unwrap()]);
    assert_eq!(ask(&path, b"set k 0 0 1\r\n1\r\nget k\r\n"), "STORED\r\nVALUE k 0 1\r\n1\r\nEND\r\n");
    // A large value goes through the vectored calls.
    let large = "x".repeat(900_000);
    let answer = ask(&path, format!("set l 0 0 900000\r\n{large}\r\nget l\r\n").as_bytes());
    assert_eq!(answer, format!("STORED\r\nVALUE l 0 900000\r\n{large}\r\nEND\r\n"));
    program.signal("TERM");
    let (status, rest) = program.end();
    assert!(status.success() && rest.is_empty(), "{rest}");
    assert!(!path.exists(), "the file goes with the server");
}

#[test]
fn p16_permissions_are_those_of_the_mask() {
    let dir = TempDir::new("unix-mask");
    for (args, expected) in [(&[][..], 0o700), (&["-a", "770"], 0o770), (&["-a", "0777"], 0o777)] {
        let path = dir.path("socket");
        let program = start(&path, args);
        assert_eq!(mode(&path), expected);
        let settings = ask(&path, b"stats settings\r\n");
        assert!(settings.contains(&format!("STAT umask {expected:o}\r\n")), "{settings}");
        assert!(settings.contains(&format!("STAT domain_socket {}\r\n", path.display())));
        assert!(settings.contains("STAT inter NULL\r\n"));
        drop(program);
    }
}

#[test]
fn p16_a_socket_that_was_left_is_replaced_another_file_is_not() {
    let dir = TempDir::new("unix-old");
    let path = dir.path("socket");
    // Killed, so that it leaves its socket.
    drop(start(&path, &[]));
    assert!(std::fs::metadata(&path).unwrap().file_type().is_socket());
    let program = start(&path, &[]);
    assert!(ask(&path, b"version\r\n").starts_with("VERSION "));
    drop(program);

    let file = dir.file("file", "precious");
    let output = run(&["-u", "root", "-s", file.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(71));
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert!(stderr.starts_with(&format!("memkv: failed to listen on UNIX socket: {}: ", file.display())), "{stderr}");
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "precious");
}

#[test]
fn p16_a_server_that_ends_leaves_the_socket_of_its_successor() {
    let dir = TempDir::new("unix-successor");
    let path = dir.path("socket");
    let first = start(&path, &[]);
    let second = start(&path, &[]);
    first.signal("TERM");
    assert!(first.end().0.success());
    assert!(ask(&path, b"version\r\n").starts_with("VERSION "));
    drop(second);
}

#[test]
fn p16_stats_conns_and_watchers_name_the_path() {
    let dir = TempDir::new("unix-conns");
    let path = dir.path("socket");
    let _program = start(&path, &[]);
    let conns = ask(&path, b"stats conns\r\n");
    assert!(conns.contains(&format!(":addr unix:{}\r\n", path.display())), "{conns}");
    let mut watcher = UnixStream::connect(&path).unwrap();
    watcher.set_read_timeout(Some(PATIENCE)).unwrap();
    watcher.write_all(b"watch connevents\r\n").unwrap();
    let mut lines = std::io::BufReader::new(watcher);
    let mut line = String::new();
    std::io::BufRead::read_line(&mut lines, &mut line).unwrap();
    assert_eq!(line, "OK\r\n");
    ask(&path, b"version\r\n");
    line.clear();
    while !line.contains("type=conn_new") {
        line.clear();
        std::io::BufRead::read_line(&mut lines, &mut line).unwrap();
    }
    assert!(line.contains(" rip=unix rport=0 transport=local "), "{line}");
}

#[test]
fn p16_idle_clients_stay() {
    let dir = TempDir::new("unix-idle");
    let path = dir.path("socket");
    let _program = start(&path, &["-o", "idle_timeout=10", "--debug-commands"]);
    let mut idle = UnixStream::connect(&path).unwrap();
    idle.set_read_timeout(Some(PATIENCE)).unwrap();
    idle.write_all(b"mn\r\n").unwrap();
    idle.read_exact(&mut [0; 4]).unwrap();
    for _ in 0..3 {
        assert_eq!(ask(&path, b"debugtime 100\r\n"), "OK\r\n");
    }
    idle.write_all(b"mn\r\n").unwrap();
    idle.read_exact(&mut [0; 4]).unwrap();
    assert!(ask(&path, b"stats\r\n").contains("STAT idle_kicks 0\r\n"));
}
