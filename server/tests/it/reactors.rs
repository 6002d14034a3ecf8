//! The same by every reactor: what clients do to sockets. The rest of the tests runs on the one that is taken by itself, or that
//! `MEMKV_REACTOR` names.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpStream};
use std::num::NonZeroUsize;

use memkv_server::reactor::Reactor;
use memkv_server::{Config, ReactorKind, Running, limits};

use crate::hostile::deaf;
use crate::program::{Program, memkv};
use crate::support::{PATIENCE, Tcp, config, reactors, start, stat, stat_of, wait_until};

/// Runs the body on a server of each kind, and sees to it that the server ends.
fn on_each(config: &Config, body: impl Fn(&Running)) {
    for reactor in reactors() {
        let server = start(Config { reactor, ..config.clone() });
        body(&server);
        let written = stat(server.addr(), "bytes_written");
        assert!(written < u64::MAX / 2, "{reactor:?}: what came back was counted more than once");
        server.shutdown();
    }
}

fn set(key: &str, value: &[u8]) -> Vec<u8> {
    [format!("set {key} 0 0 {}\r\n", value.len()).as_bytes(), value, b"\r\n"].concat()
}

fn hit(key: &str, value: &[u8]) -> Vec<u8> {
    [format!("VALUE {key} 0 {}\r\n", value.len()).as_bytes(), value, b"\r\n"].concat()
}

/// Bytes that differ from place to place.
fn noise(len: usize) -> Vec<u8> {
    (0..len as u32).map(|number| (number.wrapping_mul(2_654_435_761) >> 24) as u8).collect()
}

#[test]
fn the_reactor_that_was_asked_for_is_taken_and_shown() {
    let kinds = reactors();
    for reactor in kinds.iter().copied() {
        let name = format!("{reactor:?}").to_lowercase().replace("iouring", "io_uring");
        let server = start(Config { reactor, ..config() });
        assert_eq!(stat_of(&mut Tcp::connect(server.addr()), "memkv_reactor"), name);
        server.shutdown();
        let mut program = Program::with(&["--reactor", &name]);
        assert_eq!(stat_of(&mut program.client(), "memkv_reactor"), name);
        program.signal("TERM");
        assert!(program.child.wait().unwrap().success());
    }
    let best = if kinds.contains(&ReactorKind::IoUring) { "io_uring" } else { "epoll" };
    assert_eq!(Reactor::new(ReactorKind::Auto, 1).unwrap().name(), best);
}

/// Where a filter of system calls forbids it, as in many containers, there is epoll, and not a word about it.
#[test]
fn without_io_uring_there_is_epoll() {
    let filter = "import ctypes, os, struct, sys
libc = ctypes.CDLL(None, use_errno=True)
# Load the number of the system call; if it is 425 (io_uring_setup) answer EPERM, else allow.
code = [(0x20, 0, 0, 0), (0x15, 0, 1, 425), (0x06, 0, 0, 0x00050001), (0x06, 0, 0, 0x7fff0000)]
program = b''.join(struct.pack('HBBI', *line) for line in code)
text = ctypes.create_string_buffer(program)
class Filter(ctypes.Structure):
    _fields_ = [('len', ctypes.c_ushort), ('filter', ctypes.c_void_p)]
filter = Filter(len(code), ctypes.addressof(text))
assert libc.prctl(38, 1, 0, 0, 0) == 0
assert libc.prctl(22, 2, ctypes.byref(filter), 0, 0) == 0, ctypes.get_errno()
os.execv(sys.argv[1], sys.argv[1:])
";
    let memkv = memkv(&[]).get_program().to_owned();
    let python = |args: &[&str]| {
        let mut command = std::process::Command::new("python3");
        command.args(["-c", filter]).arg(&memkv).args(["-p", "-1", "-t", "2", "-u", "root"]).args(args);
        command.env_remove("MEMKV_REACTOR");
        command
    };
    if std::process::Command::new("python3").arg("-V").output().is_err() {
        let _ = writeln!(std::io::stderr(), "NOT TESTED: a system that forbids io_uring, because there is no python3");
        return;
    }
    let mut program = Program::start(&mut python(&[]));
    assert_eq!(program.before, [""; 0]);
    assert_eq!(stat_of(&mut program.client(), "memkv_reactor"), "epoll");
    program.signal("TERM");
    assert!(program.child.wait().unwrap().success());
    let refused = python(&["--reactor", "io_uring"]).output().unwrap();
    assert_eq!(refused.status.code(), Some(71));
    let line = String::from_utf8(refused.stderr).unwrap();
    assert!(line.starts_with("memkv: cannot start: io_uring cannot be used: Operation not permitted"), "{line}");
}

#[test]
fn values_of_all_sizes_go_in_and_out() {
    let sizes = [1, 2_000, 2_048, 15_000, 16_384, 33_000, 40_000, 70_000, 300_000, 1_000_000];
    on_each(&Config { memory_bytes: 64 << 20, ..config() }, |server| {
        let mut client = Tcp::connect(server.addr());
        // In one stream, in pieces that fit nothing, with a request behind each value.
        let (mut input, mut output) = (Vec::new(), Vec::new());
        for (number, size) in sizes.iter().enumerate() {
            let (key, value) = (format!("key{number}"), noise(*size));
            input.extend([set(&key, &value), format!("get {key}\r\nget nothing\r\n").into_bytes()].concat());
            output.extend([b"STORED\r\n".to_vec(), hit(&key, &value), b"END\r\nEND\r\n".to_vec()].concat());
        }
        let mut sender = client.0.try_clone().unwrap();
        let thread = std::thread::spawn(move || {
            for piece in input.chunks(9_973) {
                sender.write_all(piece).unwrap();
            }
        });
        assert!(client.read(output.len()) == output);
        thread.join().unwrap();
        assert!(client.ask(b"version\r\n").starts_with("VERSION"));
    });
}

/// A pipeline that is never waited for: answers come in order and whole, however the socket takes them.
#[test]
fn a_long_pipeline_is_answered_in_order_to_a_slow_reader() {
    on_each(&config(), |server| {
        let mut client = deaf(server.addr());
        let value = noise(2_900);
        client.send(&set("big", &value));
        assert_eq!(client.line(), "STORED\r\n");
        const ROUNDS: usize = 4_000;
        let mut sender = client.0.try_clone().unwrap();
        let thread = std::thread::spawn(move || {
            let input: String =
                (0..ROUNDS).map(|round| format!("set n 0 0 4\r\n{round:04}\r\nget n\r\nget big\r\n")).collect();
            sender.write_all(input.as_bytes()).unwrap();
        });
        // The server is stuck before anything is read: all buffers on the way are full.
        wait_until("the server has unsent answers", || stat(server.addr(), "response_obj_bytes") > 0);
        for round in 0..ROUNDS {
            let number = format!("{round:04}").into_bytes();
            let expected =
                [&b"STORED\r\n"[..], &hit("n", &number), b"END\r\n", &hit("big", &value), b"END\r\n"].concat();
            assert!(client.read(expected.len()) == expected, "round {round}");
        }
        thread.join().unwrap();
        assert!(client.ask(b"version\r\n").starts_with("VERSION"));
        wait_until("nothing is owned any more", || stat(server.addr(), "response_obj_bytes") == 0);
    });
}

/// Short answers behind which the client says goodbye, or closes its side, before it has taken anything.
#[test]
fn the_last_answers_are_sent_before_the_connection_is_closed() {
    on_each(&config(), |server| {
        let value = noise(1_000);
        let mut client = Tcp::connect(server.addr());
        client.send(&set("k", &value));
        assert_eq!(client.line(), "STORED\r\n");
        let answers = hit("k", &value).len() + 5;
        for end in [&b"quit\r\n"[..], b""] {
            let mut client = Tcp::connect(server.addr());
            let count = 3_000;
            let mut sender = client.0.try_clone().unwrap();
            let thread = std::thread::spawn(move || {
                // The server may have closed before it has read everything behind `quit`.
                sender.write_all(&b"get k\r\n".repeat(count)).unwrap();
                sender.write_all(end).unwrap();
                sender.shutdown(Shutdown::Write).unwrap();
            });
            thread.join().unwrap();
            assert_eq!(client.rest().len(), count * answers);
        }
    });
}

#[test]
fn clients_that_come_and_go_leave_nothing_behind() {
    for reactor in ["io_uring", "epoll", "polling"] {
        if reactor == "io_uring" && !reactors().contains(&ReactorKind::IoUring) {
            continue;
        }
        let program = Program::with(&["--reactor", reactor]);
        let open = || std::fs::read_dir(format!("/proc/{}/fd", program.child.id())).unwrap().count();
        let mut watcher = program.client();
        assert!(watcher.ask(b"version\r\n").starts_with("VERSION"));
        let before = open();
        for round in 0..300_u32 {
            let mut client = program.client();
            match round % 6 {
                // A word and an answer, and gone.
                0 => assert_eq!(client.ask(b"get a\r\n"), "END\r\n"),
                // Gone without a word, gone in the middle of a line, gone in the middle of a value.
                1 => {}
                2 => client.send(b"get half"),
                3 => client.send(&[&b"set v 0 0 500000\r\n"[..], &[b'x'; 100_000]].concat()),
                // Gone with answers on the way, which makes the connection break.
                4 => client.send(&b"version\r\n".repeat(5_000)),
                // Sent away.
                _ => assert_eq!(client.finish(b"get a\r\nquit\r\n"), b"END\r\n"),
            }
        }
        // A hundred at once.
        let clients: Vec<Tcp> = (0..100).map(|_| program.client()).collect();
        for mut client in clients {
            assert_eq!(client.ask(b"get a\r\n"), "END\r\n");
        }
        wait_until("all descriptors are closed", || open() <= before);
        wait_until("only one is left", || stat_of(&mut watcher, "curr_connections") == "1");
        assert_eq!(stat_of(&mut watcher, "response_obj_bytes"), "0", "{reactor}");
    }
}

/// What has been received when the server stops is answered, and all of it sent.
#[test]
fn a_server_that_stops_answers_what_it_has_received() {
    for reactor in reactors() {
        let server = start(Config { reactor, workers: NonZeroUsize::new(2), ..config() });
        let value = noise(3_000);
        let mut clients: Vec<Tcp> = (0..20).map(|_| Tcp::connect(server.addr())).collect();
        clients[0].send(&set("k", &value));
        assert_eq!(clients[0].line(), "STORED\r\n");
        let count = 400;
        for client in &mut clients {
            client.send(&b"get k\r\n".repeat(count));
        }
        // Once a client has its first answer, the server has received the rest of what it sent before.
        let answer = [hit("k", &value), b"END\r\n".to_vec()].concat();
        let readers: Vec<_> = clients
            .into_iter()
            .map(|mut client| {
                assert!(client.read(answer.len()) == answer);
                std::thread::spawn(move || client.rest().len())
            })
            .collect();
        server.shutdown();
        for reader in readers {
            assert_eq!(reader.join().unwrap(), (count - 1) * answer.len(), "{reactor:?}");
        }
    }
}

#[test]
fn a_server_stops_in_spite_of_clients_that_do_not_read() {
    for reactor in reactors() {
        let server = start(Config { reactor, ..config() });
        let addr = server.addr();
        let mut writer = Tcp::connect(addr);
        writer.send(&set("k", &noise(100_000)));
        assert_eq!(writer.line(), "STORED\r\n");
        let deaf: Vec<TcpStream> = (0..5)
            .map(|_| {
                let mut client = TcpStream::connect(addr).unwrap();
                client.write_all(&b"get k\r\n".repeat(500)).unwrap();
                client
            })
            .collect();
        wait_until("all of them are stuck", || stat(addr, "get_hits") >= 5);
        let started = std::time::Instant::now();
        server.shutdown();
        assert!(started.elapsed() < limits::SHUTDOWN_GRACE + PATIENCE / 4, "{reactor:?}");
        // And they are closed.
        for mut client in deaf {
            client.set_read_timeout(Some(PATIENCE)).unwrap();
            let mut bytes = vec![0; 1 << 20];
            while client.read(&mut bytes).is_ok_and(|len| len > 0) {}
        }
    }
}

/// Many that send more than is read at once, while others want short answers.
#[test]
fn bulk_and_short_requests_do_not_disturb_each_other() {
    on_each(&Config { memory_bytes: 64 << 20, ..config() }, |server| {
        let addr = server.addr();
        let threads: Vec<_> = (0..6_usize)
            .map(|number| {
                std::thread::spawn(move || {
                    let mut client = Tcp::connect(addr);
                    let key = format!("key{number}");
                    for round in 0..20_usize {
                        let value = noise([10, 5_000, 60_000, 200_000][(number + round) % 4] + round);
                        let input = [set(&key, &value).repeat(3), format!("get {key}\r\n").into_bytes()].concat();
                        client.send(&input);
                        let expected = [b"STORED\r\n".repeat(3), hit(&key, &value), b"END\r\n".to_vec()].concat();
                        assert!(client.read(expected.len()) == expected, "{key}, round {round}");
                    }
                })
            })
            .collect();
        let mut client = Tcp::connect(addr);
        for round in 0..2_000 {
            let expected = format!("VALUE short 0 4\r\n{round:04}\r\nEND\r\n");
            client.send(format!("set short 0 0 4 noreply\r\n{round:04}\r\nget short\r\n").as_bytes());
            assert_eq!(String::from_utf8(client.read(expected.len())).unwrap(), expected);
        }
        threads.into_iter().for_each(|thread| thread.join().unwrap());
    });
}

#[test]
fn a_panic_ends_its_own_connection_only_by_every_reactor() {
    on_each(&Config { panic_on_input: Some((*b"poison").into()), ..config() }, |server| {
        let mut bystander = Tcp::connect(server.addr());
        assert_eq!(bystander.ask(b"get a\r\n"), "END\r\n");
        for _ in 0..3 {
            let mut victim = Tcp::connect(server.addr());
            assert_eq!(victim.ask(b"get a\r\n"), "END\r\n");
            victim.send(b"get poison\r\n");
            assert_eq!(victim.rest(), b"");
        }
        assert_eq!(bystander.ask(b"get a\r\n"), "END\r\n");
    });
}

/// A short memory for connections: input and answers of many, some of which read and some of which do not.
#[test]
fn clients_that_keep_up_are_served_while_others_use_up_the_memory() {
    on_each(&Config { connection_memory_bytes: Some(1 << 20), ..config() }, |server| {
        let addr = server.addr();
        let value = noise(2_000);
        let mut reader = Tcp::connect(addr);
        reader.send(&set("k", &value));
        assert_eq!(reader.line(), "STORED\r\n");
        let mut deaf = Vec::new();
        for _ in 0..40 {
            let mut client = TcpStream::connect(addr).unwrap();
            client.set_nonblocking(true).unwrap();
            while client.write(&b"get k\r\n".repeat(1_000)).is_ok() {}
            deaf.push(client);
        }
        wait_until("they are stuck", || stat(addr, "response_obj_bytes") > 0);
        let answer = [hit("k", &value), b"END\r\n".to_vec()].concat();
        for _ in 0..200 {
            reader.send(b"get k\r\n");
            assert!(reader.read(answer.len()) == answer);
            assert!(stat(addr, "response_obj_bytes") <= (1 << 20) + (limits::RING_MEMORY_BYTES as u64) / 8);
        }
        drop(deaf);
        wait_until("all is given back", || stat(addr, "response_obj_bytes") == 0);
    });
}
