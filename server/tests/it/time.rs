//! Expiry and delayed flush as a client sees them, on a clock that the test moves (protocol 2.6 to 2.8, 3.2).

use memkv_engine::clock::{Clock, ManualClock};
use memkv_server::loopback::Loopback;

use crate::support::config;

/// The millisecond clock cuts, so a relative time ends up to this much late: an item never goes early.
const CLOCK_STEP_MS: u64 = 1;

const START_S: u64 = 1_700_000_000;

fn client() -> (Loopback, ManualClock) {
    let (clock, hands) = Clock::manual(START_S * 1000);
    (Loopback::new(config(), clock).unwrap(), hands)
}

fn is_there(client: &mut Loopback, key: &str) -> bool {
    client.send(format!("get {key}\r\n").as_bytes()) != b"END\r\n"
}

#[test]
fn an_item_lives_as_long_as_it_was_given() {
    let (mut client, hands) = client();
    client.send(b"set k 0 10 1\r\n1\r\n");
    hands.advance_ms(9_999);
    assert!(is_there(&mut client, "k"));
    hands.advance_ms(1 + CLOCK_STEP_MS);
    assert!(!is_there(&mut client, "k"));
}

#[test]
fn an_absolute_time_follows_the_wall_clock() {
    let (mut client, hands) = client();
    client.send(format!("set k 0 {} 1\r\n1\r\n", START_S + 100).as_bytes());
    hands.step_wall_ms(99_000);
    assert!(is_there(&mut client, "k"));
    hands.step_wall_ms(1_000);
    assert!(!is_there(&mut client, "k"));
}

#[test]
fn touch_and_gat_give_a_new_life() {
    let (mut client, hands) = client();
    client
        .send(b"set touched 0 10 1\r\n1\r\nset got 0 10 1\r\n1\r\nset forever 0 10 1\r\n1\r\nset left 0 10 1\r\n1\r\n");
    client.send(b"touch touched 20\r\ngat 20 got\r\ntouch forever 0\r\n");
    hands.advance_ms(19_999);
    assert!(is_there(&mut client, "touched") && is_there(&mut client, "got") && is_there(&mut client, "forever"));
    assert!(!is_there(&mut client, "left"));
    hands.advance_ms(1 + CLOCK_STEP_MS);
    assert!(!is_there(&mut client, "touched") && !is_there(&mut client, "got"));
    assert!(is_there(&mut client, "forever"));
}

#[test]
fn append_and_incr_keep_the_expiry() {
    let (mut client, hands) = client();
    client.send(b"set k 0 10 1\r\n9\r\nappend k 0 0 1\r\n9\r\nincr k 1\r\n");
    assert_eq!(client.send(b"get k\r\n"), b"VALUE k 0 3\r\n100\r\nEND\r\n");
    hands.advance_ms(10_000 + CLOCK_STEP_MS);
    assert!(!is_there(&mut client, "k"));
}

#[test]
fn a_delayed_flush_takes_what_was_stored_before_its_time() {
    let (mut client, hands) = client();
    client.send(b"set before 0 0 1\r\n1\r\n");
    assert_eq!(client.send(b"flush_all 10\r\n"), b"OK\r\n");
    hands.advance_ms(5_000);
    client.send(b"set meanwhile 0 0 1\r\n1\r\n");
    assert!(is_there(&mut client, "before") && is_there(&mut client, "meanwhile"));
    hands.advance_ms(5_000 + CLOCK_STEP_MS);
    assert!(!is_there(&mut client, "before") && !is_there(&mut client, "meanwhile"));
    client.send(b"set after 0 0 1\r\n1\r\n");
    assert!(is_there(&mut client, "after"));
}

#[test]
fn a_second_flush_replaces_the_pending_one() {
    let (mut client, hands) = client();
    client.send(b"set k 0 0 1\r\n1\r\nflush_all 10\r\nflush_all 100\r\n");
    hands.advance_ms(50_000);
    assert!(is_there(&mut client, "k"));
    hands.advance_ms(50_000 + CLOCK_STEP_MS);
    assert!(!is_there(&mut client, "k"));
}

/// Protocol 4.2: l and la, before and after the second fetch; R as the end comes nearer.
#[test]
fn meta_shows_the_last_access_and_recaches_in_time() {
    let (mut client, hands) = client();
    client.send(b"set k 0 100 1\r\n1\r\n");
    hands.advance_ms(2_000);
    assert_eq!(client.send(b"mg k l h t R50\r\n"), b"HD l2 h0 t98\r\n");
    assert_eq!(client.send(b"mg k u l h\r\n"), b"HD l2 h1\r\n", "the first fetch leaves the time");
    assert_eq!(client.send(b"mg k l h\r\nmg k l h\r\n"), b"HD l2 h1\r\nHD l0 h1\r\n", "the second moves it");
    hands.advance_ms(48_000);
    assert_eq!(client.send(b"mg k t R50\r\n"), b"HD t50\r\n");
    hands.advance_ms(1_000);
    assert_eq!(client.send(b"mg k t R50\r\nmg k t R50\r\n"), b"HD t49 W\r\nHD t49 Z\r\n");
    let answer = String::from_utf8(client.send(b"me k\r\n")).unwrap();
    assert!(answer.starts_with("ME k exp=49 la=49 cas="), "{answer}");
    hands.advance_ms(49_000 + CLOCK_STEP_MS);
    assert_eq!(client.send(b"mg k\r\nme k\r\n"), b"EN\r\nEN\r\n");
}

/// Protocol 4.2, 4.4: what is stale, made on a miss or a tombstone ends when it was told to.
#[test]
fn meta_expiries_are_kept() {
    let (mut client, hands) = client();
    client.send(b"set stale 0 0 1\r\n1\r\nset empty 0 0 1\r\n1\r\nset left 0 0 1\r\n1\r\n");
    client.send(b"md stale I T10\r\nmd empty x T10\r\nmg made N10\r\nma number N10\r\nms more 1 MA N10\r\n1\r\n");
    hands.advance_ms(9_999);
    for key in ["stale", "empty", "made", "number", "more", "left"] {
        assert!(is_there(&mut client, key), "{key}");
    }
    hands.advance_ms(1 + CLOCK_STEP_MS);
    for key in ["stale", "empty", "made", "number", "more"] {
        assert!(!is_there(&mut client, key), "{key}");
    }
    assert!(is_there(&mut client, "left"));
}
