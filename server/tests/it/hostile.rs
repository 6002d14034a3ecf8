//! Clients that break rules, break off, or do not read; and a bug of our own.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpStream};
use std::num::NonZeroUsize;

use memkv_server::{Config, limits};

use crate::support::{Tcp, config, start, stat, wait_until};

/// Whether somebody else is still served.
fn is_alive(addr: std::net::SocketAddr) -> bool {
    Tcp::connect(addr).ask(b"version\r\n").starts_with("VERSION")
}

#[test]
fn eof_inside_a_value_stores_nothing() {
    let server = start(config());
    for len in [10, 100_000] {
        let set = format!("set a 0 0 1\r\n1\r\nset k 0 0 {len}\r\nabc");
        assert_eq!(Tcp::connect(server.addr()).finish(set.as_bytes()), b"STORED\r\n");
        assert_eq!(Tcp::connect(server.addr()).finish(b"get k\r\n"), b"END\r\n");
    }
    server.shutdown();
}

#[test]
fn half_closed_clients_get_all_their_answers() {
    let server = start(config());
    let gets = b"get a\r\n".repeat(5_000);
    Tcp::connect(server.addr()).finish(b"set a 0 0 1\r\n1\r\n");
    let answer = Tcp::connect(server.addr()).finish(&gets);
    assert_eq!(answer, b"VALUE a 0 1\r\n1\r\nEND\r\n".repeat(5_000));
    server.shutdown();
}

#[test]
fn an_endless_line_closes_the_connection() {
    let server = start(config());
    let mut client = Tcp::connect(server.addr());
    client.send(&[b'x'; limits::LINE_BYTES_MAX + 1]);
    assert_eq!(client.rest(), b"");
    assert!(is_alive(server.addr()));
    server.shutdown();
}

#[test]
fn an_endless_key_list_is_answered_as_it_comes() {
    let server = start(config());
    let mut client = Tcp::connect(server.addr());
    assert_eq!(client.ask(b"set hit 0 0 1\r\n1\r\n"), "STORED\r\n");
    client.send(b"get");
    // A hundred times what the server would ever keep of a line.
    let keys = 100 * limits::READ_BUFFER_BYTES / 10;
    for _ in 0..keys / 100 {
        client.send(&b" miss-miss".repeat(100));
    }
    client.send(b" hit\r\n");
    assert_eq!(client.read(23), b"VALUE hit 0 1\r\n1\r\nEND\r\n"[..23]);
    server.shutdown();
}

#[test]
fn a_client_that_says_nothing_costs_nothing() {
    let server = start(config());
    let silent: Vec<_> = (0..50).map(|_| TcpStream::connect(server.addr()).unwrap()).collect();
    assert!(is_alive(server.addr()));
    assert_eq!(stat(server.addr(), "response_obj_bytes"), 0);
    drop(silent);
    server.shutdown();
}

#[test]
fn a_client_that_never_reads_costs_bounded_memory() {
    let server = start(config());
    let addr = server.addr();
    let value = "v".repeat(4_000);
    assert_eq!(Tcp::connect(addr).ask(format!("set k 0 0 4000\r\n{value}\r\n").as_bytes()), "STORED\r\n");
    let line = format!("get{}\r\n", " k".repeat(1_000));
    let mut deaf: Vec<TcpStream> = (0..20).map(|_| TcpStream::connect(addr).unwrap()).collect();
    for client in &mut deaf {
        client.set_nonblocking(true).unwrap();
        // Four megabytes of answers for each line; they go on asking as long as the server listens.
        while client.write(line.as_bytes()).is_ok() {}
    }
    wait_until("all of them are stuck", || stat(addr, "response_obj_bytes") > 0);
    assert!(is_alive(addr));
    let owned = stat(addr, "response_obj_bytes") as usize;
    assert!(owned <= deaf.len() * (limits::RESPONSE_SLICE_BYTES + 4_100 + limits::READ_BUFFER_BYTES), "{owned} bytes");
    // And when they do read after all, everything comes.
    let mut reader = Tcp(deaf.pop().unwrap());
    reader.0.set_nonblocking(false).unwrap();
    let hit = format!("VALUE k 0 4000\r\n{value}\r\n");
    for _ in 0..1_000 {
        assert_eq!(reader.read(hit.len()), hit.as_bytes());
    }
    assert_eq!(reader.line(), "END\r\n");
    server.shutdown();
}

#[test]
fn a_large_value_on_its_way_out_survives_its_deletion() {
    let server = start(config());
    let addr = server.addr();
    let value = vec![b'v'; 900_000];
    let mut writer = Tcp::connect(addr);
    writer.send(b"set k 0 0 900000\r\n");
    writer.send(&value);
    assert_eq!(writer.ask(b"\r\n"), "STORED\r\n");
    let mut slow = Tcp::connect(addr);
    slow.send(&b"get k\r\n".repeat(20));
    wait_until("it is stuck in the middle", || stat(addr, "get_hits") > 0);
    assert_eq!(writer.ask(b"delete k\r\n"), "DELETED\r\n");
    let mut hits = 0;
    loop {
        let line = slow.line();
        if line == "END\r\n" {
            break;
        }
        assert_eq!(line, "VALUE k 0 900000\r\n");
        assert!(slow.read(900_000) == value && slow.read(2) == b"\r\n");
        hits += 1;
        assert_eq!(slow.line(), "END\r\n");
        if hits == 20 {
            break;
        }
    }
    assert!(hits >= 1);
    server.shutdown();
}

#[test]
fn one_too_many_is_told_and_closed() {
    let server = start(Config { connections_max: 3, ..config() });
    let addr = server.addr();
    let mut first: Vec<Tcp> = (0..3).map(|_| Tcp::connect(addr)).collect();
    for client in &mut first {
        assert!(client.ask(b"version\r\n").starts_with("VERSION"));
    }
    assert_eq!(Tcp::connect(addr).rest(), b"ERROR Too many open connections\r\n");
    drop(first.pop());
    wait_until("the seat is free again", || {
        let mut next = Tcp::connect(addr);
        // Turned away with an error line, or served.
        let _ = next.0.write_all(b"version\r\n");
        next.line().starts_with("VERSION")
    });
    first.clear();
    wait_until("all seats are free", || {
        stat_or_none(addr, "rejected_connections").is_some_and(|rejected| rejected >= 1)
    });
    server.shutdown();
}

/// A statistic, unless there is no seat to ask for it.
fn stat_or_none(addr: std::net::SocketAddr, name: &str) -> Option<u64> {
    let mut client = Tcp::connect(addr);
    client.0.write_all(b"stats\r\n").ok()?;
    client.0.shutdown(Shutdown::Write).ok()?;
    // A client that is turned away with its question unread may find the connection reset.
    let mut answer = String::new();
    client.0.read_to_string(&mut answer).ok()?;
    answer.lines().find_map(|line| line.strip_prefix(&format!("STAT {name} "))?.parse().ok())
}

#[test]
fn a_panic_ends_its_own_connection_only() {
    let server = start(Config { panic_on_input: Some((*b"poison").into()), ..config() });
    let addr = server.addr();
    let mut bystander = Tcp::connect(addr);
    assert_eq!(bystander.ask(b"set a 0 0 1\r\n1\r\n"), "STORED\r\n");
    for _ in 0..3 {
        let mut victim = Tcp::connect(addr);
        victim.send(b"get a\r\nget poison\r\n");
        assert_eq!(victim.rest(), b"");
    }
    assert_eq!(bystander.ask(b"delete a\r\n"), "DELETED\r\n");
    assert!(is_alive(addr));
    let panics = server.service().workers()[0].panics.get();
    assert_eq!(panics, 3);
    drop(bystander);
    server.shutdown();
}

#[test]
fn both_reactors_serve_alike() {
    for reactor in [memkv_server::ReactorKind::Auto, memkv_server::ReactorKind::Polling] {
        let server = start(Config { reactor, workers: NonZeroUsize::new(2), ..config() });
        let big = [b"set b 0 0 300000\r\n", &vec![b'x'; 300_000][..], b"\r\nget b\r\n"].concat();
        for _ in 0..4 {
            let answer = Tcp::connect(server.addr()).finish(&big);
            assert_eq!(answer.len(), 8 + 18 + 300_000 + 2 + 5);
        }
        server.shutdown();
    }
}
