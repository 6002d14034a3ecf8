//! What a connection may own, and what it may not cost.

use memkv_engine::clock::Clock;
use memkv_server::limits::{READ_BUFFER_BYTES, VALUE_GROWTH_BYTES};
use memkv_server::loopback::Loopback;

use crate::support::config;

fn client() -> Loopback {
    Loopback::new(config(), Clock::manual(0).0).unwrap()
}

#[test]
fn nothing_is_owned_between_commands() {
    let mut client = client();
    for command in ["set k 0 0 20000\r\n", &"v".repeat(20_000), "\r\n", "get k\r\n", "nonsense\r\n"] {
        client.send(command.as_bytes());
    }
    assert_eq!(client.owned_bytes(), 0);
}

#[test]
fn a_value_takes_memory_as_it_arrives() {
    let mut client = client();
    client.send(b"set k 0 0 30000\r\n");
    assert!(client.owned_bytes() < VALUE_GROWTH_BYTES);
    client.send(&[b'v'; 20_000]);
    assert!(client.owned_bytes() <= 20_000 + 2 * VALUE_GROWTH_BYTES);
}

#[test]
fn a_swallowed_block_takes_none() {
    let mut client = client();
    client.send(b"set k 0 0 2147483645\r\n");
    for _ in 0..100 {
        assert_eq!(client.send(&[b'v'; 100_000]), b"");
        assert_eq!(client.owned_bytes(), 0);
    }
}

#[test]
fn unfinished_input_never_fills_the_read_buffer() {
    let mut client = client();
    client.send(b"get");
    for _ in 0..10 * READ_BUFFER_BYTES / 8 {
        client.send(b" keykeyk");
        assert!(client.owned_bytes() < READ_BUFFER_BYTES);
    }
    assert!(!client.is_closed());
    assert_eq!(client.send(b"\r\n"), b"END\r\n");
}

#[test]
fn a_key_too_long_in_an_endless_list_ends_it_with_an_error() {
    let mut client = client();
    assert_eq!(client.send(b"set k 0 0 1\r\n1\r\n"), b"STORED\r\n");
    let mut answer = client.send(format!("get {}", "miss ".repeat(READ_BUFFER_BYTES)).as_bytes());
    answer.extend(client.send(format!("k {} k\r\nversion\r\n", "x".repeat(251)).as_bytes()));
    assert_eq!(
        String::from_utf8(answer).unwrap(),
        "VALUE k 0 1\r\n1\r\nCLIENT_ERROR bad command line format\r\nVERSION 1.6.45 memkv-0.1.0\r\n"
    );
}
