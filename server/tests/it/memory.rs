//! A full cache, with and without eviction, and large values on their way in (protocol 6.1 to 6.4).

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
fn row_6_3_without_eviction_a_full_cache_says_so_and_loses_nothing() {
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
fn row_6_3_with_eviction_there_is_always_room() {
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
fn row_6_1_the_default_limit_is_exact() {
    let config = Config { memory_bytes: 16 << 20, ..config() };
    let mut client = Loopback::new(config, Clock::manual(0).0).unwrap();
    assert_eq!(set(&mut client, "k", 1_048_516), "STORED\r\n");
    assert_eq!(set(&mut client, "k", 1_048_517), "SERVER_ERROR object too large for cache\r\n");
    assert_eq!(client.send(b"get k\r\n"), b"END\r\n", "the refused set has removed the old item (6.2)");
}

/// The value of a statistic.
fn stat(client: &mut Loopback, name: &str) -> u64 {
    let answer = String::from_utf8(client.send(b"stats\r\n")).unwrap();
    let prefix = format!("STAT {name} ");
    let line = answer.lines().find_map(|line| line.strip_prefix(&prefix));
    line.unwrap_or_else(|| panic!("no {name}")).parse().unwrap()
}

fn default_client() -> Loopback {
    Loopback::new(Config { memory_bytes: 64 << 20, ..config() }, Clock::manual(0).0).unwrap()
}

/// Clients that announce far more than there is memory and send nothing, or a byte, evict nothing.
#[test]
fn what_is_announced_takes_no_memory_before_it_comes() {
    let mut client = default_client();
    for n in 0..40 {
        assert_eq!(set(&mut client, &format!("key{n}"), 1_000_000), "STORED\r\n");
    }
    let mut silent: Vec<Loopback> = (0..100).map(|_| client.another()).collect();
    for (n, silent) in silent.iter_mut().enumerate() {
        assert_eq!(silent.send(format!("set silent{n} 0 0 1000000\r\n").as_bytes()), b"");
        if n % 2 == 0 {
            assert_eq!(silent.send(b"v"), b"");
        }
    }
    assert_eq!(stat(&mut client, "evictions"), 0);
    for n in 0..40 {
        assert!(client.send(format!("get key{n}\r\n").as_bytes()).len() > 1_000_000, "key{n} is there");
    }
    // They can still all be stored, one after the other.
    for (n, mut silent) in silent.into_iter().enumerate() {
        let rest = "v".repeat(1_000_000 - (n + 1) % 2) + "\r\n";
        assert_eq!(silent.send(rest.as_bytes()), b"STORED\r\n");
        assert!(silent.send(format!("get silent{n}\r\n").as_bytes()).len() > 1_000_000);
    }
}

/// What cannot be evicted, because it is not whole, takes half of the memory and no more.
#[test]
fn row_6_4_memory_that_runs_out_during_a_read_is_said_after_the_block() {
    for (verb, kept) in [("set", false), ("add", true), ("replace", true), ("ms", false)] {
        let mut client = default_client();
        assert_eq!(client.send(b"set k 0 0 3\r\nold\r\n"), b"STORED\r\n");
        let announce = |key: &str| match verb {
            "ms" => format!("ms {key} 1000000\r\n"),
            _ => format!("{verb} {key} 0 0 1000000\r\n"),
        };
        let mut victim = client.another();
        assert_eq!(victim.send(announce("k").as_bytes()), b"");
        assert_eq!(victim.send(&[b'v'; 100_000]), b"");
        let mut greedy: Vec<Loopback> = (0..40).map(|_| client.another()).collect();
        let mut refused = 0;
        for greedy in &mut greedy {
            greedy.send(b"set greedy 0 0 1000000\r\n");
            let early = greedy.send(&[b'v'; 900_000]);
            assert_eq!(early, b"", "nothing is said inside of a block");
            let answer = greedy.send(&[]);
            refused += usize::from(!answer.is_empty());
        }
        assert_eq!(refused, 0);
        // The victim's next bytes find nothing; all of the block goes by, and then it is told, once, and can go on.
        assert_eq!(victim.send(&[b'v'; 800_000]), b"", "{verb}");
        assert_eq!(victim.send(&[b'v'; 100_000]), b"", "{verb}");
        assert_eq!(victim.send(b"\r\n"), b"SERVER_ERROR Out of memory during read\r\n", "{verb}");
        let expected: &[u8] = if kept { b"VALUE k 0 3\r\nold\r\nEND\r\n" } else { b"END\r\n" };
        assert_eq!(victim.send(b"get k\r\n"), expected, "{verb}");
        // Others go on as well, also with large values that are there at once.
        assert_eq!(set(&mut client, "small", 100), "STORED\r\n");
        assert_eq!(set(&mut client, "larger", 15_000), "STORED\r\n");
        assert_eq!(set(&mut client, "large", 900_000), "SERVER_ERROR Out of memory during read\r\n");
        // Those that break off give it back.
        drop(greedy);
        assert_eq!(set(&mut client, "large", 900_000), "STORED\r\n");
        let mut quiet = client.another();
        assert_eq!(quiet.send(b"set k 0 0 1000000 noreply\r\n"), b"");
    }
}

/// Without eviction there must be room for the whole value when it is announced.
#[test]
fn row_6_3_without_eviction_a_large_value_that_will_not_fit_is_refused_at_once() {
    let config = Config { memory_bytes: 4 << 20, evict: false, ..config() };
    let mut client = Loopback::new(config, Clock::manual(0).0).unwrap();
    let stored = (0..9).take_while(|n| set(&mut client, &format!("key{n}"), 1_000_000) == "STORED\r\n").count();
    assert!((3..=4).contains(&stored), "{stored}");
    let charged = |client: &Loopback| client.service().store.stats().large_bytes;
    let before = charged(&client);
    assert_eq!(client.send(b"set d 0 0 1000000\r\n"), b"");
    assert_eq!(client.send(&[b'v'; 500_000]), b"");
    assert_eq!(charged(&client), before, "nothing was tried");
    assert_eq!(client.send(&[b'v'; 500_000]), b"");
    assert_eq!(client.send(b"\r\n"), b"SERVER_ERROR out of memory storing object\r\n");
}
