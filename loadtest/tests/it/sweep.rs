//! `sweep` against servers in this process.

use crate::fake::{self, Manners};
use crate::{describe, loadtest};

/// Runs a short `sweep` against a fake server and checks the exit status and what is printed.
fn check(manners: Manners, options: &str, status: i32, printed: &[&str]) {
    let address = fake::start(manners);
    let common = "sweep --quiet --duration 150ms --connections 4 --keys 100 --server";
    let words: Vec<&str> = common.split(' ').chain([&*address]).chain(options.split_whitespace()).collect();
    let output = loadtest(&words);
    let seen = describe(&output);
    assert_eq!(output.status.code(), Some(status), "{manners:?} {options}: {seen}");
    for part in printed {
        assert!(seen.contains(part), "{manners:?} {options}: no {part:?} in {seen}");
    }
}

#[test]
fn a_rate_beyond_reach_breaks_the_objective_and_the_knee_is_found() {
    let options = "--objective p50<50ms --from 200 --to 100m --growth 100 --refine 2";
    check(
        Manners::Honest,
        options,
        0,
        &["BROKE in 2 of 2 tries", "held", "<- knee", "holds up to", "errors      none"],
    );
}

#[test]
fn an_easy_objective_holds_and_a_hard_one_does_not() {
    check(Manners::Honest, "--objective p50<5s --from 100 --to 200", 0, &["the highest rate tried"]);
    check(Manners::Honest, "--objective p50<1us --from 100", 0, &["does not hold even at 100 requests/s"]);
    let once = "--objective p50<1us --from 100 --tries 1";
    check(Manners::Honest, once, 0, &["  BROKE", "does not hold even at 100 requests/s"]);
}

#[test]
fn wrong_answers_and_dead_servers_show_in_the_status() {
    check(Manners::Corrupt, "--from 2k --to 4k --objective max<60s", 1, &["corrupt values"]);
    check(Manners::Dying, "--from 20k --objective max<60s", 69, &["THE SERVER WENT AWAY"]);
    for options in ["--objective p99", "--tries 2", "--tries 0", "--growth 1", "--from 10k --to 1k"] {
        check(Manners::Honest, options, 64, &[]);
    }
}
