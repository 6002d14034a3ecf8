//! `memory` with a server that has no limit: everything is found, nothing is evicted.

use crate::fake::{self, Manners};
use crate::{describe, loadtest};

const SMALL: &str = "--quiet --items 16/32:100+2000 --limit 1 --stored 500 --rewrites 2 --large-limit 1 \
                     --slow-clients 3 --slow-duration 300ms";

fn command(manners: Manners) -> String {
    format!("env FAKE_MEMORY={{memory}} {}", fake::command(manners, "/dev/null"))
}

#[test]
fn every_part_has_its_figures() {
    let command = command(Manners::Honest);
    let mut words = vec!["memory", "--a", &command, "--b", &command, "--parts", "items,held,churn,shifts,slow"];
    words.extend(SMALL.split_whitespace());
    let output = loadtest(&words);
    let seen = describe(&output);
    assert_eq!(output.status.code(), Some(0), "{seen}");
    let line = |name: &str| {
        let lines = || seen.lines().filter(|line| line.trim_start().starts_with(name));
        lines().map(|line| line.trim_start()[name.len()..].split_whitespace().collect::<Vec<_>>()).collect::<Vec<_>>()
    };
    // What nobody needs to compute: two servers, two figures.
    assert_eq!(line("2000 items of 16/32 B")[0].len(), 2, "{seen}");
    assert_eq!(line("curr_items"), [["500", "500"]], "{seen}");
    assert_eq!(line("found by reading back"), [["500", "500"]], "{seen}");
    assert_eq!(line("712 items of 30/1000 B rewritten 2 times"), [["A", "B"]], "{seen}");
    assert_eq!(line("sets not stored"), [["0", "0"]], "{seen}");
    assert_eq!(line("items missing in the end"), [["0", "0"]], "{seen}");
    // Two items of 500 KiB make up the limit but for 24 KiB and their keys.
    assert_eq!(line("3. 3 items of 16/512000 B"), [["97.7", "/", "100.0", "97.7", "/", "100.0"]], "{seen}");
    assert_eq!(line("connections closed by the server"), [["0", "0"]], "{seen}");
    assert!(!seen.contains("LOST SOME"), "{seen}");
}

#[test]
fn wrong_values_lost_servers_and_bad_options_have_their_exit_status() {
    let (corrupt, dying) = (command(Manners::Corrupt), command(Manners::Dying));
    let cases = [
        (&*corrupt, "held", 1, "WRONG ANSWERS"),
        (&*dying, "churn", 69, "closed all connections"),
        ("memcached -p {port}", "held", 64, "{memory}"),
        ("127.0.0.1:11211", "held", 64, "{memory}"),
    ];
    for (server, part, status, text) in cases {
        let mut words = vec!["memory", "--a", server, "--parts", part];
        words.extend(SMALL.split_whitespace());
        let output = loadtest(&words);
        let seen = describe(&output);
        assert_eq!(output.status.code(), Some(status), "{seen}");
        assert!(seen.contains(text), "no {text:?} in {seen}");
    }
}
