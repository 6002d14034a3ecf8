//! `run` against servers in this process.

use crate::fake::{self, Manners};
use crate::{describe, loadtest, not_tested};
use std::fs;
use std::process::{Command, Stdio};
use std::sync::OnceLock;

/// Runs `run` against a fake server and checks the exit status and what is printed.
fn check(manners: Manners, options: &str, status: i32, printed: &[&str]) {
    let address = fake::start(manners);
    let common = "run --quiet --duration 300ms --connections 4 --keys 1000 --server";
    let words: Vec<&str> = common.split(' ').chain([&*address]).chain(options.split_whitespace()).collect();
    let output = loadtest(&words);
    let seen = describe(&output);
    assert_eq!(output.status.code(), Some(status), "{manners:?} {options}: {seen}");
    for part in printed {
        assert!(seen.contains(part), "{manners:?} {options}: no {part:?} in {seen}");
    }
}

#[test]
fn an_honest_server_passes_with_every_shape_of_load() {
    let shapes = [
        "",
        "--ratio 1:0",
        "--ratio 0:1",
        "--ratio 1:1 --depth 16",
        "--ratio 10:1 --multiget 100 --depth 3",
        "--threads 3 --connections 7 --ratio 1:1 --depth 5",
        "--zipf 0.99 --ratio 1:1 --key-size 30",
        "--value-size 0",
        "--value-size 7 --ratio 1:1",
        "--value-size 100k --keys 20 --key-size 10 --ratio 1:1 --depth 4",
        "--key-size uniform:10:60 --value-size lognormal:200:2@0..50k --popularity hot:0.1:0.9 --ratio 1:1 --depth 4",
        "--key-size gev:30:8:0.08 --value-size table:1=1,8=1,100=3 --popularity latest:0.99 --ratio 4:1 --threads 2",
        "--value-size 2m --keys 3 --ratio 1:1 --connections 2",
    ];
    for shape in shapes {
        check(Manners::Honest, shape, 0, &["errors      none", "closed loop"]);
        check(Manners::Honest, &format!("{shape} --io epoll"), 0, &["errors      none", "by epoll"]);
    }
    check(Manners::Honest, "--ratio 1:0", 0, &["100.00 %", "p99.9"]);
    check(Manners::Honest, "", 0, &["server CPU  10.0", " us per request by its own account; the client's is "]);
    check(Manners::Honest, "--value-size 20k --keys 20", 0, &["by epoll"]);
}

/// How one can talk to this system.
fn ways() -> &'static [&'static str] {
    static WAYS: OnceLock<&[&str]> = OnceLock::new();
    WAYS.get_or_init(|| {
        let address = fake::start(Manners::Honest);
        let output =
            loadtest(&["run", "-q", "--keys", "1", "--duration", "1ms", "--io", "io-uring", "--server", &address]);
        match output.status.code() {
            Some(71) => {
                not_tested("io_uring", "the system refuses it");
                &["epoll"]
            }
            _ => &["epoll", "io-uring"],
        }
    })
}

const EVERYTHING: &str = "get=20,gets=5,set=5,add=2,cas=5,delete=2,incr=5,touch=2,append=5,prepend=5";

#[test]
fn an_honest_server_passes_with_every_operation() {
    for shape in [
        "--keys 100",
        "--keys 20 --depth 16 --threads 2",
        "--keys 100 --multiget 5 --look-aside --ttl 1h:3,0:1",
        "--keys 100 --no-fill --look-aside",
        "--keys 100 --rate 5k --depth 4",
        "--keys 100 --value-size 2k --depth 8",
        "--keys 100 --value-size 10",
        "--keys 100 --churn 7 --depth 3",
        "--keys 100 --dialect meta",
        "--keys 100 --dialect meta --multiget 5 --depth 4 --look-aside",
        "--keys 100 --dialect meta-quiet",
        "--keys 20 --dialect meta-quiet --depth 16 --threads 2",
        "--keys 100 --dialect meta-quiet --multiget 5 --depth 4 --no-fill --look-aside",
        "--keys 100 --dialect meta-quiet --rate 5k --depth 4 --churn 7",
        "--keys 100 --churn 1 --rate 2k",
    ] {
        for io in ways() {
            let options = format!("--mix {EVERYTHING} {shape} --io {io}");
            check(Manners::Honest, &options, 0, &["errors      none", "prepend", "not met"]);
        }
    }
    // Which of several quiet sets was refused is not known: none is a fault of its own then.
    check(Manners::Refusing, "--dialect meta-quiet --depth 8 --ratio 1:1 --no-fill", 0, &["SERVER_ERROR answers"]);
    check(Manners::Honest, "--churn 10", 0, &["opening connections anew", "connect"]);
}

#[test]
fn wrong_effects_of_every_operation_are_found() {
    for (manners, kind) in [
        (Manners::Undead, "values that had been deleted"),
        (Manners::Miscounting, "wrong counts"),
        (Manners::Overwriting, "updates lost to a cas"),
        (Manners::Dropping, "stale values"),
    ] {
        for options in ["--keys 30", "--keys 30 --depth 8 --threads 2", "--keys 30 --depth 8 --dialect meta-quiet"] {
            check(manners, &format!("--mix {EVERYTHING} {options}"), 1, &[kind, "WRONG ANSWERS"]);
        }
    }
}

#[test]
fn a_look_aside_client_sets_what_it_misses() {
    let json = json(Manners::Honest, "aside", "--no-fill --look-aside --ratio 1:0 --keys 50 --connections 1");
    assert_eq!((&json["load"]["misses"], &json["load"]["sets"]), (&50.into(), &50.into()), "{json}");
}

#[test]
fn presets_are_listed_with_their_sources_and_run() {
    let output = loadtest(&["presets"]);
    let seen = describe(&output);
    assert_eq!(output.status.code(), Some(0), "{seen}");
    for part in [
        "synthetic",
        "no ycsb-e",
        "ycsb-a",
        "SoCC 2010",
        "facebook-etc",
        "SIGMETRICS",
        "twitter-53",
        "CC BY",
        "meta-kvcache",
    ] {
        assert!(seen.contains(part), "no {part:?} in {seen}");
    }
    for preset in ["ycsb-d", "ycsb-f", "facebook-etc", "twitter-11", "twitter-23", "twitter-53", "meta-kvcache"] {
        check(Manners::Honest, &format!("--preset {preset}"), 0, &["synthetic", "errors      none"]);
    }
}

#[test]
fn misses_are_counted_and_are_no_errors() {
    for options in ["--multiget 10", "--depth 8", "--ratio 1:0 --multiget 100"] {
        let json = json(Manners::Forgetful, "misses", options);
        let count = |name: &str| json["load"][name].as_u64().unwrap();
        assert_eq!(count("misses"), (count("hits") + count("misses")).div_ceil(fake::ODD_ONE), "{options}: {json}");
    }
    check(Manners::Honest, "--no-fill --ratio 1:0", 0, &["hits        0.00 %", "errors      none"]);
}

#[test]
fn wrong_values_are_told_apart_and_fail_the_run() {
    let cases = [
        (Manners::Foreign, "values of another key"),
        (Manners::Corrupt, "corrupt values"),
        (Manners::Torn, "torn values"),
        (Manners::Stale, "stale values"),
        (Manners::Prophetic, "values that were never written"),
        (Manners::WrongKey, "answers for a wrong key"),
        (Manners::Nonsense, "malformed answers"),
    ];
    for (manners, kind) in cases {
        for options in [
            "--ratio 1:1 --keys 100",
            "--ratio 1:1 --keys 100 --multiget 20 --depth 4",
            "--ratio 1:1 --keys 100 --dialect meta --multiget 3",
            "--ratio 1:1 --keys 100 --dialect meta-quiet --depth 8",
        ] {
            check(manners, options, 1, &[kind, "WRONG ANSWERS"]);
        }
    }
}

#[test]
fn values_that_outlive_their_time_are_found_and_progress_is_lines_where_there_is_no_terminal() {
    // A server without expiry; what is found two seconds after a time to live was over is late.
    let options = "--ttl 1s --rate 300 --duration 4s --keys 50 --ratio 1:0";
    let address = fake::start(Manners::Honest);
    let output = loadtest(&["run", "--server", &address].into_iter().chain(options.split(' ')).collect::<Vec<_>>());
    let seen = describe(&output);
    assert_eq!(output.status.code(), Some(1), "{seen}");
    assert!(seen.contains("values that had expired") && seen.contains("WRONG ANSWERS"), "{seen}");
    let progress = String::from_utf8(output.stderr).unwrap();
    assert!(progress.contains("run: ") && progress.contains(" requests/s, 100.0 % hits"), "{progress:?}");
    assert!(progress.ends_with('\n') && !progress.contains(['\r', '\x1b']), "{progress:?}");
    check(Manners::Honest, "--ttl 1s --rate 300 --keys 50 --ratio 1:0", 0, &["errors      none"]);
}

#[test]
fn what_there_is_one_of_is_singular() {
    let one = "--connections 1 --keys 1 --ratio 1:1";
    check(
        Manners::Honest,
        one,
        0,
        &["1 key per get, 1 request at a time", "over 1 key of", "1 connection on 1 thread,", "1 item in"],
    );
}

#[test]
fn what_the_figures_do_not_show_stands_below_them() {
    check(Manners::Honest, "", 0, &["\nnot shown   In a closed loop"]);
    check(Manners::Honest, "--rate 1k", 0, &["\nnot shown   What happens less often"]);
}

#[test]
fn refusals_are_counted_and_are_not_wrong_answers() {
    check(Manners::Refusing, "--ratio 1:1", 0, &["SERVER_ERROR answers"]);
}

#[test]
fn a_server_that_dies_is_reported_with_what_there_was() {
    for io in ways() {
        check(
            Manners::Dying,
            &format!("--duration 60s --io {io}"),
            69,
            &["WENT AWAY", "throughput", "4 connections lost", "requests unanswered"],
        );
    }
    check(Manners::Dying, "--keys 10k", 69, &["WENT AWAY", "fill"]);
}

#[test]
fn a_connection_that_is_one_too_many_is_refused_and_nothing_worse() {
    for io in ways() {
        for options in ["", "--depth 16 --threads 2", "--no-fill --look-aside", "--rate 2k", "--dialect meta-quiet"] {
            check(
                Manners::Full,
                &format!("{options} --io {io}"),
                0,
                &["1 connection refused", "only 3 of them open", "throughput"],
            );
        }
    }
}

#[test]
fn a_server_that_falls_silent_is_given_up() {
    for io in ways() {
        check(
            Manners::Mute,
            &format!("--duration 60s --timeout 200ms --io {io}"),
            69,
            &["STOPPED ANSWERING", "throughput", "requests unanswered"],
        );
    }
}

#[test]
fn a_server_behind_a_unix_socket_is_loaded_and_an_interrupt_reports_what_there_was() {
    let path = std::env::temp_dir().join(format!("memkv-loadtest-it-{}.socket", std::process::id()));
    let _ = fs::remove_file(&path);
    let opened = fake::start_behind_socket(Manners::Honest, &path);
    let server = format!("unix:{}", path.display());
    let common = ["run", "--quiet", "--connections", "3", "--keys", "100", "--server", &server, "--duration"];
    let output = loadtest(&common.into_iter().chain(["100ms"]).collect::<Vec<_>>());
    let seen = describe(&output);
    assert_eq!(output.status.code(), Some(0), "{seen}");
    assert!(seen.contains(&server) && seen.contains("errors      none"), "{seen}");

    while opened.try_recv().is_ok() {}
    let child = Command::new(env!("CARGO_BIN_EXE_memkv-loadtest"))
        .args(common.into_iter().chain(["10m"]))
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // It listens for signals before it connects.
    opened.recv().unwrap();
    let interrupted = Command::new("sh").args(["-c", &format!("kill -INT {}", child.id())]).status().unwrap();
    assert!(interrupted.success());
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(130), "{}", describe(&output));
    assert!(describe(&output).contains("stopped early"), "{}", describe(&output));
    fs::remove_file(path).unwrap();
}

#[test]
fn an_unreachable_server_is_one_clear_line() {
    for server in ["127.0.0.1:1", "unix:/nowhere/socket"] {
        let output = loadtest(&["run", "--server", server]);
        assert_eq!(output.status.code(), Some(69), "{}", describe(&output));
        let message = String::from_utf8(output.stderr).unwrap();
        assert!(message.starts_with(&format!("memkv-loadtest: cannot connect to {server}: ")), "{message}");
        assert_eq!(message.lines().count(), 1, "{message}");
    }
}

#[test]
fn bad_options_end_with_status_64_and_say_why() {
    let cases: [(&[&str], &str); 6] = [
        (&[], "Usage"),
        (&["run"], "--server"),
        (&["run", "--server", "x"], "HOST:PORT"),
        (&["run", "--server", "127.0.0.1:1", "--depth", "0"], "--depth 0: must lie between 1 and 10000"),
        (&["run", "--server", "127.0.0.1:1", "--frobnicate"], "--frobnicate"),
        (&["compare", "--a", "memcached -m 64", "--b", "memcached -p {port}"], "needs {port}"),
    ];
    for (words, part) in cases {
        let output = loadtest(words);
        assert_eq!(output.status.code(), Some(64), "{words:?}: {}", describe(&output));
        assert!(String::from_utf8_lossy(&output.stderr).contains(part), "{words:?}: {}", describe(&output));
    }
    for word in ["--help", "--version"] {
        assert_eq!(loadtest(&[word]).status.code(), Some(0));
    }
}

/// Runs against a server, which must go well, and returns what `--json` writes.
fn json(manners: Manners, name: &str, options: &str) -> serde_json::Value {
    let file = std::env::temp_dir().join(format!("memkv-loadtest-it-{name}-{}.json", std::process::id()));
    check(manners, &format!("{options} --json {}", file.to_str().unwrap()), 0, &[]);
    let json = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
    fs::remove_file(&file).unwrap();
    json
}

#[test]
fn an_open_loop_keeps_its_rate_and_shows_both_latencies() {
    for options in ["--arrivals constant", "--threads 2", "--depth 4 --ratio 1:1 --multiget 3"] {
        let options = format!("--rate 1000 {options}");
        check(
            Manners::Honest,
            &options,
            0,
            &[
                "open loop: 1000 requests/s",
                "rate        offered 1000 requests/s, achieved",
                "uncorrected",
                "lateness",
                "errors      none",
            ],
        );
    }
    let json = json(Manners::Honest, "open", "--rate 1000 --arrivals constant");
    // The grid from 0 to 300 ms has 300 points; a machine that stands still at the very end leaves some of them unsent.
    let count = |name: &str| json["load"][name].as_u64().unwrap();
    assert!((299..=301).contains(&(count("requests") + count("unsent"))), "{json}");
}

#[test]
fn an_open_loop_counts_from_the_due_time() {
    let json = json(Manners::Honest, "late", "--rate 10m --connections 1 --arrivals constant");
    let load = &json["load"];
    let mean_us = |latency: &serde_json::Value| latency["mean_us"].as_f64().unwrap();
    // Nobody answers ten million requests a second on one connection: they wait in line, the last for most of the 300 ms.
    assert!(mean_us(&load["latency"]["get"]) > 10.0 * mean_us(&load["latency_uncorrected"]), "{json}");
    assert!(load["unsent"].as_u64().unwrap() > 0, "{json}");
    check(Manners::Honest, "--rate 10m --connections 1", 0, &["THE RATE WAS NOT KEPT"]);
}

#[test]
fn an_open_loop_survives_what_a_closed_one_does() {
    for io in ways() {
        check(Manners::Dying, &format!("--rate 20k --duration 60s --io {io}"), 69, &["WENT AWAY"]);
        let options = format!("--rate 20k --duration 60s --timeout 200ms --io {io}");
        check(Manners::Mute, &options, 69, &["STOPPED ANSWERING"]);
        check(Manners::Corrupt, &format!("--rate 20k --io {io}"), 1, &["corrupt values"]);
    }
}

#[test]
fn results_can_be_had_as_a_page_and_as_a_histogram() {
    let file = |kind| std::env::temp_dir().join(format!("memkv-loadtest-it-page-{}.{kind}", std::process::id()));
    let (page, histogram) = (file("html"), file("hgrm"));
    let options = format!("--rate 2k --html {} --hgrm {}", page.display(), histogram.display());
    check(Manners::Honest, &options, 0, &[]);
    let text = fs::read_to_string(&page).unwrap();
    for part in
        ["<!doctype html>", "Latency by percentile", "uncorrected", "Throughput over time", "Hit ratio over time"]
    {
        assert!(text.contains(part), "no {part:?} in {text}");
    }
    for part in ["http", "<script", "NaN", "inf "] {
        assert!(!text.contains(part), "{part:?} in {text}");
    }
    assert!(fs::read_to_string(&histogram).unwrap().contains("Total count"));
    fs::remove_file(page).unwrap();
    fs::remove_file(histogram).unwrap();
    check(Manners::Honest, "--html /nowhere/file", 74, &["/nowhere/file"]);
}

#[test]
fn results_can_be_had_as_json() {
    let json = json(Manners::Honest, "run", "");
    assert_eq!(json["fill"]["sets"], 1000);
    assert_eq!(json["load"]["hit_ratio"], 1.0);
    assert_eq!(json["ended"], "Done");
    assert!(json["load"]["latency"]["get"]["p99_us"].as_f64().unwrap() > 0.0);
    check(Manners::Honest, "--json /nowhere/file", 74, &["/nowhere/file"]);
}
