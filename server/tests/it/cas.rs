//! CAS ids as a client sees them (protocol 7).

use memkv_engine::clock::Clock;
use memkv_server::loopback::Loopback;

use crate::support::config;

/// The CAS id of `key`.
fn unique(client: &mut Loopback, key: &str) -> u64 {
    let answer = String::from_utf8(client.send(format!("gets {key}\r\n").as_bytes())).unwrap();
    answer
        .lines()
        .next()
        .unwrap()
        .rsplit(' ')
        .next()
        .unwrap()
        .parse()
        .unwrap_or_else(|_| panic!("no unique in {answer}"))
}

fn client() -> Loopback {
    Loopback::new(config(), Clock::manual(1_700_000_000_000).0).unwrap()
}

#[test]
fn every_store_gives_a_larger_one() {
    let mut client = client();
    let mut last = 0;
    for command in [
        "set k 0 0 1\r\n1\r\n",
        "replace k 0 0 1\r\n1\r\n",
        "append k 0 0 1\r\n1\r\n",
        "prepend k 0 0 1\r\n1\r\n",
        "incr k 1\r\n",
        "decr k 1\r\n",
        "set k 0 0 1\r\n1\r\n",
    ] {
        client.send(command.as_bytes());
        let now = unique(&mut client, "k");
        assert!(now > last, "{command:?}: {now} after {last}");
        last = now;
    }
}

#[test]
fn touch_and_failed_stores_leave_it() {
    let mut client = client();
    client.send(b"set k 0 0 1\r\n1\r\n");
    let before = unique(&mut client, "k");
    assert_eq!(client.send(b"touch k 100\r\n"), b"TOUCHED\r\n");
    client.send(b"gat 100 k\r\n");
    assert_eq!(client.send(b"add k 0 0 1\r\n1\r\n"), b"NOT_STORED\r\n");
    assert_eq!(client.send(b"cas k 0 0 1 1\r\n1\r\n"), b"EXISTS\r\n");
    assert_eq!(unique(&mut client, "k"), before);
}

#[test]
fn cas_succeeds_once() {
    let mut client = client();
    client.send(b"set k 0 0 1\r\n1\r\n");
    let seen = unique(&mut client, "k");
    let cas = format!("cas k 0 0 1 {seen}\r\n2\r\n");
    assert_eq!(client.send(cas.as_bytes()), b"STORED\r\n");
    assert_eq!(client.send(cas.as_bytes()), b"EXISTS\r\n");
    assert_eq!(client.send(b"get k\r\n"), b"VALUE k 0 1\r\n2\r\nEND\r\n");
    client.send(b"delete k\r\n");
    assert_eq!(client.send(cas.as_bytes()), b"NOT_FOUND\r\n");
}
