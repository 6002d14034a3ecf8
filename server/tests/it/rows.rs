//! Rows of the protocol that no table can show, because they are about the end of a stream, settings, limits or figures; and the proof
//! that every row has a test.

use std::net::Shutdown;
use std::process::Command;

use memkv_engine::clock::Clock;
use memkv_server::Config;
use memkv_server::loopback::Loopback;

use crate::support::{Tcp, config, start, stat};
use crate::table::{BAD_LINE, TOO_LARGE};

/// Every row of the sections 1 to 11, 14, 16, 19 and 25 that is about the text protocol, by the names of their tests: `row_` or `p`, and
/// this. Where a section is a list its points are numbered. Of 18 those that need a process; the others are beside the code, in `args.rs`.
const ROWS: &str = "1_1 1_2 1_3 1_4 1_5 1_6 1_7 1_8 1_9 1_10 1_11 1_12 1_13 1_14 1_15 \
    2_1 2_2 2_3 2_4 2_5 2_6 2_7 2_8 2_9 2_10 \
    3_set 3_add 3_replace 3_append 3_prepend 3_cas 3_get 3_gets 3_gat 3_gats 3_touch 3_delete 3_verbosity 3_version 3_quit 3_1 3_2 \
    3_3 4_1_1 4_1_2 4_1_3 4_1_4 4_1_5 4_1_6 4_1_7 4_1_8 4_1_9 4_1_10 4_1_11 4_1_12 4_2 4_3 4_4 4_5 4_6 4_7 \
    5_1 5_2 5_3 5_4 5_5 6_1 6_2 6_3 6_4 6_5 6_6 6_7 6_8 7 8 9_forms 9_1 9_2 9_3_items 9_3_slabs 9_3_sizes 9_3_conns 9_3_reset \
    9_3_detail 9_3_cachedump 9_3_extstore \
    10_cache_memlimit 10_slabs_reassign 10_slabs_automove 10_lru_tune 10_lru_mode 10_lru_temp_ttl 10_lru_crawler_enable \
    10_lru_crawler_disable 10_lru_crawler_sleep 10_lru_crawler_tocrawl 10_lru_crawler_crawl 10_lru_crawler_metadump \
    10_lru_crawler_mgdump 10_lru_crawler_else 10_verbosity 10_shutdown 10_refresh_certs 10_extstore 10_misbehave \
    11_errors 11_fetchers 11_mutations 11_evictions 11_deletions 11_connevents 11_sysevents 11_skipped \
    14_1 14_2 14_3 14_4 16 18_l 18_f 18_d 18_o 18_u 18_p 18_r 18_k 19_1 19_3 19_4 19_5 25_1 25_2 25_3 25_5";

/// What the name of a test says about its row, if it is about one.
fn row_of(name: &str) -> Option<&str> {
    let is_row = |rest: &&str| rest.starts_with(|first: char| first.is_ascii_digit());
    name.strip_prefix("row_").or_else(|| name.strip_prefix('p').filter(is_row))
}

/// This program's own list of tests must have one for each row.
#[test]
fn every_row_has_a_test() {
    let list =
        Command::new(std::env::current_exe().unwrap()).arg("--list").output().expect("the tests list themselves");
    let list = String::from_utf8(list.stdout).unwrap();
    let names: Vec<&str> = list
        .lines()
        .filter_map(|line| line.strip_suffix(": test"))
        .filter_map(|path| row_of(path.rsplit("::").next()?))
        .collect();
    let shows = |name: &str, row: &str| {
        name.strip_prefix(row).is_some_and(|rest| {
            // What follows belongs to the name, not to a longer id.
            rest.strip_prefix('_')
                .map_or(rest.is_empty(), |word| !word.starts_with(|first: char| first.is_ascii_digit()))
        })
    };
    let missing: Vec<&str> = ROWS.split_whitespace().filter(|row| !names.iter().any(|name| shows(name, row))).collect();
    assert!(missing.is_empty(), "no test shows {missing:?}");
}

#[test]
fn row_1_14_a_half_closed_client_gets_its_answers() {
    let server = start(config());
    let mut client = Tcp::connect(server.addr());
    client.send(b"set a 0 0 1\r\n1\r\nget a\r\nset b 0 0 5\r\nhal");
    client.0.shutdown(Shutdown::Write).unwrap();
    assert_eq!(client.rest(), b"STORED\r\nVALUE a 0 1\r\n1\r\nEND\r\n");
    assert_eq!(Tcp::connect(server.addr()).finish(b"get b\r\n"), b"END\r\n");
    server.shutdown();
}

/// 2.7: memcached may drop an item up to a second early; here it has its full time. 2.8: a step of the wall clock moves no relative
/// expiry.
#[test]
fn row_2_7_and_2_8() {
    let (clock, hands) = Clock::manual(1_700_000_000_000);
    let mut client = Loopback::new(config(), clock).unwrap();
    client.send(b"set k 0 1 1 noreply\r\n1\r\n");
    hands.step_wall_ms(3_600_000);
    hands.advance_ms(999);
    assert_eq!(client.send(b"get k\r\n"), b"VALUE k 0 1\r\n1\r\nEND\r\n");
    hands.advance_ms(2);
    assert_eq!(client.send(b"get k\r\n"), b"END\r\n");
}

#[test]
fn row_2_8_relative_times_are_monotonic() {
    let (clock, hands) = Clock::manual(1_700_000_000_000);
    let mut client = Loopback::new(config(), clock).unwrap();
    client.send(b"set k 0 100 1 noreply\r\n1\r\n");
    hands.step_wall_ms(-1_000_000);
    assert_eq!(client.send(b"mg k t\r\n"), b"HD t100\r\n");
}

/// A set without memory is told so, in each form; the command's block is swallowed, and the item that was there is gone.
#[test]
fn row_6_3_no_memory() {
    let config = Config { evict: false, memory_bytes: 1 << 20, item_bytes_max: 64 << 10, ..config() };
    let mut client = Loopback::new(config, Clock::manual(0).0).unwrap();
    let value = "v".repeat(1000);
    let mut full = false;
    for i in 0..2_000 {
        let answer = client.send(format!("set k{i} 0 0 1000\r\n{value}\r\n").as_bytes());
        full = answer == b"SERVER_ERROR out of memory storing object\r\n";
        if full {
            break;
        }
        assert_eq!(answer, b"STORED\r\n");
    }
    assert!(full, "it never filled up");
    assert_eq!(
        client.send(format!("set k0 0 0 1000 noreply\r\n{value}\r\nversion\r\n").as_bytes()),
        b"VERSION 1.6.45 memkv-0.1.0\r\n"
    );
    let stats = String::from_utf8(client.send(b"stats\r\n")).unwrap();
    assert!(stats.contains("STAT store_no_memory 2\r\n"), "{stats}");
}

/// The largest length that is a length is swallowed in full, without being kept; one more is no length.
#[test]
fn row_6_6_the_longest_block() {
    let mut client = Loopback::new(config(), Clock::manual(0).0).unwrap();
    assert_eq!(client.send(b"set a 0 0 2147483646\r\n"), BAD_LINE.as_bytes());
    assert_eq!(client.send(b"set a 0 0 2147483645\r\n"), b"");
    let chunk = vec![b'v'; 1 << 20];
    let mut left = 2_147_483_645 + 2;
    while left > chunk.len() {
        assert_eq!(client.send(&chunk), b"");
        left -= chunk.len();
    }
    assert_eq!(client.owned_bytes(), 0);
    assert_eq!(client.send(&chunk[..left]), TOO_LARGE.as_bytes());
    assert_eq!(client.send(b"version\r\n"), b"VERSION 1.6.45 memkv-0.1.0\r\n");
}

/// 6.7, 6.8: there is no limit on response objects as such. What a client does not read is bounded by the connections' memory;
/// beyond that the connection is closed and counted, so none of memcached's other texts is ever sent.
#[test]
fn row_6_7_and_6_8_what_is_not_read_is_bounded() {
    let server = start(config());
    let addr = server.addr();
    let value = "v".repeat(500_000);
    assert_eq!(Tcp::connect(addr).ask(format!("set a 0 0 500000\r\n{value}\r\n").as_bytes()), "STORED\r\n");
    let mut slow: Vec<Tcp> = (0..50).map(|_| Tcp::connect(addr)).collect();
    for client in &mut slow {
        client.send(format!("get{}\r\n", " a".repeat(500)).as_bytes());
    }
    assert_eq!(Tcp::connect(addr).finish(b"get b\r\n"), b"END\r\n");
    assert!(stat(addr, "response_obj_bytes") <= 32 << 20);
    assert_eq!(stat(addr, "read_buf_oom"), 0);
    drop(slow);
    server.shutdown();
}

#[test]
fn row_6_8_is_shown_by_names_only() {
    let mut client = Loopback::new(config(), Clock::manual(0).0).unwrap();
    let stats = String::from_utf8(client.send(b"stats\r\n")).unwrap();
    for name in ["response_obj_oom", "read_buf_oom", "response_obj_count"] {
        assert!(stats.contains(&format!("STAT {name} 0\r\n")), "{name}");
    }
}

#[test]
fn row_8_item_sizes() {
    let mut client = Loopback::new(config(), Clock::manual(0).0).unwrap();
    client.send(b"set foo 0 0 3 noreply\r\nbar\r\nset flags 1 0 3 noreply\r\nbar\r\n");
    let size =
        |answer: Vec<u8>| String::from_utf8(answer).unwrap().trim_end().rsplit("size=").next().unwrap().to_owned();
    assert_eq!(size(client.send(b"me foo\r\n")), "65");
    assert_eq!(size(client.send(b"me flags\r\n")), "71");
    let mut small = Loopback::new(Config { cas: false, ..config() }, Clock::manual(0).0).unwrap();
    small.send(b"set foo 0 0 3 noreply\r\nbar\r\n");
    assert_eq!(size(small.send(b"me foo\r\n")), "57");
}
