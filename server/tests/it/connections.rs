//! Limits and life of connections (protocol 25). What depends on time runs on the server's own clock, which `debugtime` moves.

use std::io::{BufRead as _, Read as _};
use std::net::TcpStream;

use memkv_server::Config;

use crate::program::Program;
use crate::support::{Tcp, config, start, stat, stat_of, wait_until};

fn say_hello(client: &mut Tcp) {
    assert_eq!(client.ask(b"mn\r\n"), "MN\r\n");
}

/// A server that closes idle connections after 10 seconds of a clock that stands still until it is moved.
fn idle_timeout() -> (Program, Tcp) {
    let program = Program::with(&["-o", "idle_timeout=10", "--debug-commands"]);
    let mut control = program.client();
    assert_eq!(control.ask(b"debugtime p\r\n"), "OK\r\n");
    (program, control)
}

#[test]
fn p25_1_maxconns_fast_turns_away_at_once() {
    let server = start(Config { connections_max: 2, ..config() });
    let mut clients = [Tcp::connect(server.addr()), Tcp::connect(server.addr())];
    clients.iter_mut().for_each(say_hello);
    let mut refused = Tcp::connect(server.addr());
    assert_eq!(refused.rest(), b"ERROR Too many open connections\r\n");
    assert_eq!(stat_of(&mut clients[0], "rejected_connections"), "1");
    assert_eq!(stat_of(&mut clients[0], "accepting_conns"), "1");
    assert_eq!(stat_of(&mut clients[0], "listen_disabled_num"), "0");
    server.shutdown();
}

#[test]
fn p25_1_no_maxconns_fast_lets_wait() {
    let server = start(Config { connections_max: 2, turn_away: false, ..config() });
    let mut first = Tcp::connect(server.addr());
    let mut second = Tcp::connect(server.addr());
    say_hello(&mut first);
    say_hello(&mut second);
    // One that the listener has in its hand, one in the backlog; both have asked already.
    let mut waiting = [Tcp::connect(server.addr()), Tcp::connect(server.addr())];
    waiting.iter_mut().for_each(|client| client.send(b"version\r\n"));
    wait_until("it stops accepting", || stat_of(&mut first, "accepting_conns") == "0");
    assert_eq!(stat_of(&mut first, "curr_connections"), "2");
    assert_eq!(stat_of(&mut first, "listen_disabled_num"), "1");
    drop(second);
    assert!(waiting[0].line().starts_with("VERSION "));
    let [served, mut other] = waiting;
    drop(served);
    assert!(other.line().starts_with("VERSION "));
    wait_until("it accepts again", || stat_of(&mut first, "accepting_conns") == "1");
    assert_ne!(stat_of(&mut first, "time_in_listen_disabled_us"), "0");
    first.send(b"stats\r\n");
    let names: Vec<String> = std::iter::from_fn(|| Some(first.line()).filter(|line| line != "END\r\n")).collect();
    assert!(!names.iter().any(|line| line.contains("rejected_connections")), "shown with maxconns_fast only");
    server.shutdown();
}

#[test]
fn p25_1_several_listeners_share_the_seats() {
    let listen = vec![memkv_server::Endpoint::parse("127.0.0.1").unwrap(); 2];
    let server = start(Config { connections_max: 1, turn_away: false, listen, ..config() });
    let [a, b] = server.addrs() else { panic!("two listeners") };
    for _ in 0..20 {
        let mut clients: Vec<Tcp> = [a, b, a, b].map(|addr| Tcp::connect(*addr)).into();
        clients.iter_mut().for_each(|client| client.send(b"quit\r\n"));
        // Whoever has the seat gives it back, and the next one gets it, whichever listener holds him.
        clients.iter_mut().for_each(|client| assert_eq!(client.rest(), b""));
    }
    server.shutdown();
}

#[test]
fn p25_2_idle_connections_are_closed_without_a_word() {
    let (program, mut control) = idle_timeout();
    let (mut idle, mut busy) = (program.client(), program.client());
    say_hello(&mut idle);
    say_hello(&mut busy);
    // Half of a command does not keep a connection alive.
    idle.send(b"get k");
    assert_eq!(control.ask(b"debugtime 9\r\n"), "OK\r\n");
    say_hello(&mut busy);
    assert_eq!(control.ask(b"debugtime 9\r\n"), "OK\r\n");
    assert_eq!(idle.rest(), b"");
    say_hello(&mut busy);
    assert_eq!(stat_of(&mut control, "idle_kicks"), "1");
    let mut settings = program.client();
    let answer = String::from_utf8({
        settings.send(b"stats settings\r\nquit\r\n");
        settings.rest()
    })
    .unwrap();
    assert!(answer.contains("STAT idle_timeout 10\r\n"));
}

#[test]
fn p25_2_a_connection_that_wakes_up_in_time_counts_from_then_on() {
    let (program, mut control) = idle_timeout();
    let mut client = program.client();
    for _ in 0..5 {
        say_hello(&mut client);
        assert_eq!(control.ask(b"debugtime 9\r\n"), "OK\r\n");
    }
    say_hello(&mut client);
    assert_eq!(stat_of(&mut control, "idle_kicks"), "0");
}

#[test]
fn p25_2_a_slow_reader_is_idle_once_it_has_read_everything() {
    let (program, mut control) = idle_timeout();
    let hit = format!("VALUE k 0 10000\r\n{}\r\nEND\r\n", "v".repeat(10_000));
    assert_eq!(control.ask(format!("set k 0 0 10000\r\n{}\r\n", "v".repeat(10_000)).as_bytes()), "STORED\r\n");
    let mut slow = program.client();
    // One by one, until the end of an answer has to wait: nothing is left to be done behind it.
    let mut asked = 0;
    wait_until("an answer waits for it", || {
        slow.send(b"get k\r\n");
        asked += 1;
        control.send(b"stats conns\r\n");
        let mut waits = false;
        loop {
            let line = control.line();
            if line == "END\r\n" {
                return waits;
            }
            waits |= line.contains("conn_mwrite");
        }
    });
    assert_eq!(control.ask(b"debugtime 100\r\n"), "OK\r\n");
    say_hello(&mut control);
    let answer = slow.read(asked * hit.len());
    assert!(answer == hit.repeat(asked).as_bytes(), "it was not closed while it was slow");
    assert_eq!(stat_of(&mut control, "response_obj_bytes"), "0", "what has been sent is not charged any more");
    assert_eq!(stat_of(&mut control, "idle_kicks"), "0");
    assert_eq!(control.ask(b"debugtime 11\r\n"), "OK\r\n");
    assert_eq!(slow.rest(), b"");
    assert_eq!(stat_of(&mut control, "idle_kicks"), "1");
}

#[test]
fn p25_2_values_under_way_and_watchers_are_not_idle() {
    let (program, mut control) = idle_timeout();
    let mut watcher = program.client();
    assert_eq!(watcher.ask(b"watch connevents\r\n"), "OK\r\n");
    let mut storing = program.client();
    // Longer than the read buffer, so that it is being received for sure.
    storing.send(format!("set k 0 0 20000\r\n{}", "v".repeat(17_000)).as_bytes());
    let mut swallowed = program.client();
    swallowed.send(format!("set k x 0 20000\r\n{}", "v".repeat(17_000)).as_bytes());
    let mut idle = program.client();
    say_hello(&mut idle);
    let receiving = |control: &mut Tcp, state: &str| {
        control.send(b"stats conns\r\n");
        let mut found = false;
        loop {
            let line = control.line();
            if line == "END\r\n" {
                return found;
            }
            found |= line.contains(state);
        }
    };
    wait_until("the values are under way", || {
        receiving(&mut control, "conn_nread") && receiving(&mut control, "conn_swallow")
    });
    assert_eq!(control.ask(b"debugtime 100\r\n"), "OK\r\n");
    assert_eq!(idle.rest(), b"");
    storing.send(format!("{}\r\n", "v".repeat(3_000)).as_bytes());
    assert_eq!(storing.line(), "STORED\r\n");
    swallowed.send(format!("{}\r\n", "v".repeat(3_000)).as_bytes());
    assert_eq!(swallowed.line(), "CLIENT_ERROR bad command line format\r\n");
    // The watcher is there to be told about it.
    let mut line = String::new();
    let mut lines = std::io::BufReader::new(&watcher.0);
    while !line.contains("reason=idle_timeout") {
        line.clear();
        assert!(lines.read_line(&mut line).unwrap() > 0);
    }
    assert!(line.contains("type=conn_close "), "{line}");
}

#[test]
fn p25_3_after_so_many_commands_the_others_get_their_turn() {
    let server = start(Config { commands_per_turn: 10, ..config() });
    let mut client = Tcp::connect(server.addr());
    client.send(&b"mn\r\n".repeat(100));
    assert_eq!(client.read(400), b"MN\r\n".repeat(100));
    assert!(stat(server.addr(), "conn_yields") >= 1);
    server.shutdown();
}

#[test]
fn p25_5_what_is_being_sent_keeps_its_bytes() {
    let server = start(Config { memory_bytes: 64 << 20, item_bytes_max: 8 << 20, ..config() });
    let mut control = Tcp::connect(server.addr());
    let old = vec![b'o'; 4 << 20];
    let set = |value: &[u8]| [b"set k 0 0 4194304\r\n", value, b"\r\n"].concat();
    assert_eq!(control.ask(&set(&old)), "STORED\r\n");
    let mut slow = TcpStream::connect(server.addr()).unwrap();
    std::io::Write::write_all(&mut slow, b"get k\r\n").unwrap();
    let mut head = [0; 20];
    slow.read_exact(&mut head).unwrap();
    assert_eq!(&head, b"VALUE k 0 4194304\r\no");
    assert_eq!(control.ask(&set(&vec![b'n'; 4 << 20])), "STORED\r\n");
    assert_eq!(control.ask(b"delete k\r\n"), "DELETED\r\n");
    let mut rest = vec![0; (4 << 20) - 1 + 7];
    slow.read_exact(&mut rest).unwrap();
    assert!(rest == [&old[1..], b"\r\nEND\r\n"].concat(), "bytes of another value");
    server.shutdown();
}
