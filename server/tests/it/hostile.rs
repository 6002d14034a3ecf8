//! Clients that break rules, break off, or do not read; and a bug of our own.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpStream};

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
    let mut asked = 0;
    for client in &mut deaf {
        client.set_nonblocking(true).unwrap();
        // Four megabytes of answers for each line; they go on asking as long as the server listens.
        while let Ok(len) = client.write(line.as_bytes()) {
            asked += len / line.len() * 1_000 * value.len();
        }
    }
    wait_until("all of them are stuck", || stat(addr, "response_obj_bytes") > 0);
    assert!(is_alive(addr));
    let owned = stat(addr, "response_obj_bytes") as usize;
    // An answer, input that is not a whole command, and what io_uring had received before the client was seen to be deaf: what one turn
    // brings is limited by the stock of buffers only (three times 32 buffers have been seen). They have asked for far more.
    let received = limits::READ_BUFFER_BYTES + limits::RING_BUFFERS_MAX * limits::RING_BUFFER_BYTES;
    let each = limits::RESPONSE_SLICE_BYTES + 4_100 + limits::READ_BUFFER_BYTES + received;
    assert!(owned <= deaf.len() * each, "{owned} bytes");
    assert!(asked > 10 * deaf.len() * each, "{asked} bytes of answers");
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

/// A client whose system takes little that it does not read.
pub(crate) fn deaf(addr: std::net::SocketAddr) -> Tcp {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    socket.connect(&addr.into()).unwrap();
    let socket = TcpStream::from(socket);
    socket.set_nodelay(true).unwrap();
    socket.set_read_timeout(Some(crate::support::PATIENCE)).unwrap();
    Tcp(socket)
}

/// Protocol 6.8. Clients that ask for much and do not read use up the memory for answers: those that read on later are told in the
/// place of the values that are missing, and go on. Whoever reads is not concerned.
#[test]
fn p6_8_slow_multi_gets_are_cut_short_when_memory_is_used_up() {
    let limit = 1 << 20;
    let server = start(Config { connection_memory_bytes: Some(limit), ..config() });
    let addr = server.addr();
    let value = "v".repeat(1_500);
    let hit = format!("VALUE k 0 1500\r\n{value}\r\n");
    let mut reader = Tcp::connect(addr);
    assert_eq!(reader.ask(format!("set k 0 0 1500\r\n{value}\r\n").as_bytes()), "STORED\r\n");
    let keys = 2_000;
    let line = format!("get{}\r\n", " k".repeat(keys));
    let mut slow = Vec::new();
    while stat(addr, "response_obj_oom") == 0 && slow.len() < 500 {
        let mut client = deaf(addr);
        client.send(line.as_bytes());
        slow.push(client);
        assert!(stat(addr, "response_obj_bytes") as usize <= limit);
    }
    assert!((20..500).contains(&slow.len()), "{} clients use it up", slow.len());
    // Whoever reads gets everything.
    for _ in 0..3 {
        reader.send(line.as_bytes());
        assert!(reader.read(keys * hit.len()) == hit.repeat(keys).as_bytes());
        assert_eq!(reader.line(), "END\r\n");
    }
    // One after the other begins to read.
    let (mut told, mut closed) = (0, 0);
    for mut client in slow {
        let mut answer = Vec::new();
        let end = loop {
            let mut bytes = [0; 65_536];
            let len = client.0.read(&mut bytes).unwrap_or(0);
            answer.extend_from_slice(&bytes[..len]);
            if len == 0 || answer.ends_with(b"END\r\n") || answer.ends_with(b"get response\r\n") {
                break len;
            }
        };
        let whole = answer.len() / hit.len() * hit.len();
        assert!(answer[..whole] == hit.repeat(whole / hit.len()).as_bytes()[..]);
        match &answer[whole..] {
            b"SERVER_ERROR out of memory writing get response\r\n" => {
                told += 1;
                assert!(client.ask(b"version\r\n").starts_with("VERSION"), "it can go on");
            }
            b"END\r\n" => assert_eq!(answer.len(), keys * hit.len() + 5),
            // Its memory was refused when it stood in the middle of a value.
            _ => {
                assert_eq!(end, 0);
                closed += 1;
            }
        }
    }
    assert!(told > 0 && closed < told, "{told} were told, {closed} closed");
    assert!(stat(addr, "response_obj_oom") >= told + closed);
    drop(reader);
    wait_until("all is given back", || stat(addr, "response_obj_bytes") == 0);
    server.shutdown();
}

/// The last quarter of the memory is for input; beyond it, whoever sends is told and closed (protocol 6.7).
#[test]
fn unfinished_input_of_many_clients_is_bounded() {
    let limit = 1 << 20;
    let server = start(Config { connection_memory_bytes: Some(limit), ..config() });
    let addr = server.addr();
    let head = format!("set k 0 0 16000\r\n{}", "v".repeat(15_000));
    let mut senders: Vec<Tcp> = (0..100).map(|_| Tcp::connect(addr)).collect();
    for client in &mut senders {
        client.send(head.as_bytes());
    }
    wait_until("it is used up", || stat(addr, "read_buf_oom") > 20);
    assert!(stat(addr, "response_obj_bytes") as usize <= limit + head.len());
    let mut answers = std::collections::BTreeMap::new();
    for client in &mut senders {
        // Those that were closed find the connection broken, now or when they read.
        let _ = client.0.write_all(format!("{}\r\n", "v".repeat(1_000)).as_bytes());
        let _ = client.0.shutdown(Shutdown::Write);
        let mut answer = String::new();
        let _ = client.0.read_to_string(&mut answer);
        *answers.entry(answer).or_insert(0) += 1;
    }
    assert!(answers["STORED\r\n"] > 50, "{answers:?}");
    let refused = stat(addr, "read_buf_oom");
    assert_eq!(answers["STORED\r\n"] + refused, 100, "{answers:?}");
    server.shutdown();
}

/// Protocol 6.7 again, for large values: what was replaced while it is being read stays whole for its readers, as long as that leaves enough
/// to everybody else.
#[test]
fn readers_of_replaced_values_get_them_whole_and_cannot_take_all_memory() {
    let server = start(config());
    let addr = server.addr();
    let mut writer = Tcp::connect(addr);
    let len = 900_000;
    let mut readers = Vec::new();
    let closed_before = stat(addr, "response_obj_oom");
    for version in 0..40_u8 {
        writer.send(format!("set k 0 0 {len}\r\n").as_bytes());
        writer.send(&vec![version; len]);
        assert_eq!(writer.ask(b"\r\n"), "STORED\r\n", "version {version}");
        let mut reader = deaf(addr);
        let hits = stat(addr, "get_hits");
        reader.send(b"get k k k k k k k k\r\n");
        wait_until("it is being answered", || stat(addr, "get_hits") > hits);
        readers.push(reader);
    }
    let loose = server.service().store.loose_large_bytes();
    assert!(loose > 2 << 20, "{loose} bytes are held");
    wait_until("what is in the way has gone", || {
        server.service().store.loose_large_bytes() <= (16 << 20) / limits::LOOSE_PART_OF_MEMORY
    });
    let closed = stat(addr, "response_obj_oom") - closed_before;
    assert!((20..40).contains(&closed), "{closed} were closed");
    let mut whole = 0;
    for reader in &mut readers {
        let mut answer = Vec::new();
        let _ = reader.0.shutdown(Shutdown::Write);
        let _ = reader.0.read_to_end(&mut answer);
        let head = format!("VALUE k 0 {len}\r\n");
        let mut rest = &answer[..];
        while rest.len() >= head.len() + len + 2 {
            assert_eq!(&rest[..head.len()], head.as_bytes());
            let value = &rest[head.len()..][..len];
            assert!(value.iter().all(|byte| *byte == value[0]), "a torn value");
            rest = &rest[head.len() + len + 2..];
        }
        whole += u64::from(rest == b"END\r\n");
    }
    // Counted again: one more may have been closed before the first of the readers began to read.
    assert_eq!(whole, 40 - (stat(addr, "response_obj_oom") - closed_before));
    assert_eq!(server.service().store.loose_large_bytes(), 0);
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
