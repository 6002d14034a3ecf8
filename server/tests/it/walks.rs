//! Dumps while others write and read slowly: nothing that stays is missed, nobody waits, no memory grows (protocol 10).

use std::collections::BTreeMap;

use memkv_engine::clock::Clock;
use memkv_server::limits::RESPONSE_SLICE_BYTES;
use memkv_server::loopback::Loopback;
use memkv_server::{Config, ReactorKind};

use crate::support::{Tcp, config, start};

const LASTING: usize = 5_000;

fn fill(client: &mut Loopback, name: &str, count: usize) {
    for i in 0..count {
        client.send(format!("set {name}{i} 0 0 5 noreply\r\nvalue\r\n").as_bytes());
    }
}

fn keys_of(dump: &str) -> BTreeMap<String, usize> {
    let mut keys = BTreeMap::new();
    for line in dump.split('\n').filter_map(|line| line.strip_prefix("key=")) {
        *keys.entry(line.split(' ').next().unwrap().to_owned()).or_default() += 1;
    }
    keys
}

/// The index grows by a multiple while a client reads a dump line by line, yet every key that was there is in it, once.
#[test]
fn row_10_metadump_misses_nothing_while_the_index_grows() {
    let mut writer = Loopback::new(config(), Clock::manual(1_700_000_000_000).0).unwrap();
    fill(&mut writer, "lasting", LASTING);
    let mut reader = writer.another().one_slice_a_call().slice_bytes(1);
    let mut dump = reader.send(b"lru_crawler metadump all\r\n");
    let mut round = 0;
    while !dump.ends_with(b"END\r\n") {
        fill(&mut writer, &format!("new{round}-"), 20);
        writer.send(format!("set lasting{} 0 0 3 noreply\r\nnew\r\n", round % LASTING).as_bytes());
        writer.send(format!("delete new{}-1 noreply\r\n", round / 2).as_bytes());
        round += 1;
        dump.extend(reader.poll());
        assert!(reader.owned_bytes() < 1024, "a walk owns a position");
    }
    assert!(round > 500, "{round}");
    let dump = String::from_utf8(dump).unwrap();
    assert!(dump.starts_with("OK\r\nkey="));
    let keys = keys_of(&dump);
    for i in 0..LASTING {
        assert_eq!(keys.get(&format!("lasting{i}")), Some(&1), "lasting{i}");
    }
    assert_eq!(reader.send(b"get nothing\r\n"), b"END\r\n", "the connection goes on");
}

/// A client that does not read its dump leaves the other clients of the same worker alone.
#[test]
fn row_10_metadump_blocks_nobody() {
    for reactor in [ReactorKind::Auto, ReactorKind::Polling] {
        let server = start(Config { reactor, ..config() });
        let mut other = Tcp::connect(server.addr());
        for i in 0..100 {
            let many: String =
                (0..500).map(|j| format!("set {}{i}-{j} 0 0 1 noreply\r\n1\r\n", "k".repeat(200))).collect();
            other.send(many.as_bytes());
        }
        assert_eq!(other.ask(b"version\r\n"), "VERSION 1.6.45 memkv-0.1.0\r\n");
        let mut dumper = Tcp::connect(server.addr());
        dumper.send(b"lru_crawler metadump all\r\nversion\r\n");
        for _ in 0..200 {
            assert_eq!(other.ask(b"get x\r\n"), "END\r\n");
        }
        drop(other);
        let mut lines = 0;
        while dumper.line() != "END\r\n" {
            lines += 1;
        }
        assert!(lines > 20_000, "{lines}");
        // What was sent behind it has waited.
        assert_eq!(dumper.line(), "VERSION 1.6.45 memkv-0.1.0\r\n");
        server.shutdown();
    }
}

#[test]
fn row_10_pipelining_before_a_dump() {
    let mut client = Loopback::new(config(), Clock::manual(0).0).unwrap();
    assert_eq!(
        client.send(b"version\r\nlru_crawler metadump all\r\nget a\r\n"),
        b"VERSION 1.6.45 memkv-0.1.0\r\nERROR cannot pipeline other commands before metadump\r\nEND\r\n"
    );
    assert_eq!(
        client.send(b"version\r\nlru_crawler mgdump all\r\n"),
        b"VERSION 1.6.45 memkv-0.1.0\r\nERROR cannot pipeline other commands before mgdump\r\n"
    );
    assert_eq!(client.send(b"lru_crawler metadump all\r\nget a\r\n"), b"OK\r\nEND\r\nEND\r\n");
}

#[test]
fn row_9_3_cachedump_ends_at_two_megabytes() {
    let mut client = Loopback::new(config(), Clock::manual(0).0).unwrap();
    let key = "k".repeat(240);
    fill(&mut client, &key, 9_000);
    let dump = client.send(b"stats cachedump 1 0\r\n");
    assert!(dump.ends_with(b"s]\r\nEND\r\n"));
    assert!((1_990_000..=(2 << 20) + 5).contains(&dump.len()), "{}", dump.len());
    let some = String::from_utf8(client.send(b"stats cachedump 1 7\r\n")).unwrap();
    assert_eq!(some.matches("ITEM ").count(), 7);
}

#[test]
fn a_walk_is_answered_in_slices() {
    let mut client = Loopback::new(config(), Clock::manual(0).0).unwrap();
    fill(&mut client, &"k".repeat(200), 5_000);
    let mut reader = client.another().one_slice_a_call();
    let mut slice = reader.send(b"lru_crawler mgdump all\r\n");
    let mut slices = 0;
    while !slice.ends_with(b"EN\r\n") {
        assert!(slice.len() <= RESPONSE_SLICE_BYTES + 64 * 300, "{}", slice.len());
        slice = reader.poll();
        slices += 1;
    }
    assert!(slices >= 15, "{slices}");
}

#[test]
fn a_purge_takes_everything_with_its_prefix_and_pauses_in_between() {
    let mut client = Loopback::new(config(), Clock::manual(0).0).unwrap();
    fill(&mut client, "user:", 20_000);
    fill(&mut client, "other:", 1_000);
    let mut purger = client.another().one_slice_a_call();
    let mut answer = purger.send(b"mp user:\r\n");
    let mut pauses = 0;
    while answer.is_empty() {
        answer = purger.poll();
        pauses += 1;
    }
    assert!(pauses > 3, "{pauses}");
    assert_eq!(answer, b"HD n20000\r\n");
    let left = client.send(b"ml other: q\r\nml user:\r\n");
    assert_eq!(String::from_utf8(left).unwrap().matches("HD kother:").count(), 1_000);
}
