//! A full cache, with and without eviction (protocol 6.1, 6.3).

use memkv_engine::clock::Clock;
use memkv_server::Config;
use memkv_server::loopback::Loopback;

use crate::support::config;

fn client(evict: bool) -> Loopback {
    let config = Config { memory_bytes: 2 << 20, item_bytes_max: 1 << 20, evict, ..config() };
    Loopback::new(config, Clock::manual(0).0).unwrap()
}

fn set(client: &mut Loopback, key: &str, len: usize) -> String {
    let command = format!("set {key} 0 0 {len}\r\n{}\r\n", "v".repeat(len));
    String::from_utf8(client.send(command.as_bytes())).unwrap()
}

/// Small values, and large ones that are refused before their data arrives, whole or in pieces.
#[test]
fn p6_3_without_eviction_a_full_cache_says_so_and_loses_nothing() {
    for len in [100, 200_000] {
        let mut client = client(false);
        let mut stored = 0;
        let refused = loop {
            match set(&mut client, &format!("key{stored}"), len).as_str() {
                "STORED\r\n" => stored += 1,
                other => break other.to_owned(),
            }
            assert!(stored < 50_000, "the cache fills up");
        };
        assert_eq!(refused, "SERVER_ERROR out of memory storing object\r\n");
        assert!(stored >= 4, "{stored} items of {len} bytes");
        // The refused block was swallowed, also when it comes in pieces, and silently with noreply.
        let head = format!("set more 0 0 {len} noreply\r\n");
        assert_eq!(client.send(head.as_bytes()), b"");
        for piece in "v".repeat(len).as_bytes().chunks(7_777) {
            assert_eq!(client.send(piece), b"");
        }
        assert_eq!(client.send(b"\r\nmn_is_unknown\r\n"), b"ERROR\r\n");
        for n in 0..stored {
            let answer = client.send(format!("get key{n}\r\n").as_bytes());
            assert_eq!(answer.len(), format!("VALUE key{n} 0 {len}\r\n\r\nEND\r\n").len() + len, "key{n} is there");
        }
    }
}

/// Many times the memory in values of all sizes: every set is answered with STORED, and the last one is there.
#[test]
fn p6_3_with_eviction_there_is_always_room() {
    let mut client = client(true);
    for round in 0..600 {
        let len = [10, 3_000, 90_000, 700_000][round % 4] + round;
        assert_eq!(set(&mut client, &format!("key{round}"), len), "STORED\r\n", "round {round}, {len} bytes");
        let answer = client.send(format!("get key{round}\r\n").as_bytes());
        assert!(answer.starts_with(format!("VALUE key{round} 0 {len}\r\n").as_bytes()), "round {round}");
    }
}

/// Protocol 6.1: with a key of one byte and flags 0 the largest value is 1048516 bytes.
#[test]
fn p6_1_the_default_limit_is_exact() {
    let config = Config { memory_bytes: 16 << 20, ..config() };
    let mut client = Loopback::new(config, Clock::manual(0).0).unwrap();
    assert_eq!(set(&mut client, "k", 1_048_516), "STORED\r\n");
    assert_eq!(set(&mut client, "k", 1_048_517), "SERVER_ERROR object too large for cache\r\n");
    assert_eq!(client.send(b"get k\r\n"), b"END\r\n", "the refused set has removed the old item (6.2)");
}
