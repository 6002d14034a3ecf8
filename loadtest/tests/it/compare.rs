//! `compare` with fake servers as processes of their own.

use crate::fake::{self, Manners};
use crate::{describe, loadtest};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// A file for the servers' process ids, removed in the end.
struct Pids(PathBuf);

impl Pids {
    fn new(test: &str) -> Self {
        Self(std::env::temp_dir().join(format!("memkv-loadtest-it-{test}-{}", std::process::id())))
    }

    fn command(&self, manners: Manners) -> String {
        fake::command(manners, self.0.to_str().unwrap())
    }

    fn started(&self) -> Vec<u32> {
        let text = fs::read_to_string(&self.0).unwrap_or_default();
        // A line is complete when its end is written.
        text.split_inclusive('\n').filter_map(|line| line.strip_suffix('\n')?.parse().ok()).collect()
    }

    /// Both servers were started and neither lives.
    fn check_ended(&self) {
        let started = self.started();
        assert_eq!(started.len(), 2, "servers started");
        for pid in started {
            assert!(!Path::new(&format!("/proc/{pid}")).exists(), "server {pid} is still there");
        }
    }
}

impl Drop for Pids {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

const SHORT: &str = "--quiet --connections 3 --keys 500 --slices 3 --slice 30ms";

#[test]
fn two_servers_are_compared_and_ended() {
    let pids = Pids::new("compared");
    let command = pids.command(Manners::Honest);
    let mut words = vec!["compare", "--a", &command, "--b", &command];
    words.extend(SHORT.split(' '));
    let output = loadtest(&words);
    let seen = describe(&output);
    assert_eq!(output.status.code(), Some(0), "{seen}");
    for part in ["requests/s", "server CPU ns/request", "client CPU ns/request", "verdict", "100.00 %"] {
        assert!(seen.contains(part), "no {part:?} in {seen}");
    }
    pids.check_ended();
}

#[test]
fn a_suite_prints_one_table_with_all_its_workloads() {
    let pids = Pids::new("suite");
    let command = pids.command(Manners::Honest);
    let mut words = vec!["compare", "--suite", "foundation", "--a", &command, "--b", &command];
    words.extend(SHORT.split(' '));
    let output = loadtest(&words);
    let seen = describe(&output);
    assert_eq!(output.status.code(), Some(0), "{seen}");
    let table = seen.split("workload  ").last().unwrap();
    for part in ["\nget ", "\nset ", "\nset x16 ", "\nget x16 ", "\nget of 100 keys "] {
        assert!(table.contains(part), "no {part:?} in {seen}");
    }
    assert!(seen.contains("server CPU ns/key"), "{seen}");
}

#[test]
fn a_lying_server_fails_the_comparison() {
    let pids = Pids::new("lying");
    let (honest, lying) = (pids.command(Manners::Honest), pids.command(Manners::Corrupt));
    let mut words = vec!["compare", "--a", &honest, "--b", &lying];
    words.extend(SHORT.split(' '));
    let output = loadtest(&words);
    assert_eq!(output.status.code(), Some(1), "{}", describe(&output));
    assert!(describe(&output).contains("corrupt values"), "{}", describe(&output));
    pids.check_ended();
}

#[test]
fn a_server_that_dies_ends_the_comparison_and_the_other_server() {
    let pids = Pids::new("dying");
    let (honest, dying) = (pids.command(Manners::Honest), pids.command(Manners::Dying));
    let mut words = vec!["compare", "--a", &honest, "--b", &dying];
    words.extend(SHORT.split(' '));
    // Long enough to reach the end of its life on a busy machine, too.
    words.extend(["--slice", "1s"]);
    let output = loadtest(&words);
    assert_eq!(output.status.code(), Some(69), "{}", describe(&output));
    assert!(describe(&output).contains("closed all connections"), "{}", describe(&output));
    pids.check_ended();
}

#[test]
fn what_was_measured_before_a_server_died_is_reported() {
    let pids = Pids::new("cut");
    let (honest, dying) = (pids.command(Manners::Honest), pids.command(Manners::Dying));
    let options = "--quiet --connections 1 --keys 100 --slices 2000 --slice 2ms";
    let mut words = vec!["compare", "--a", &honest, "--b", &dying];
    words.extend(options.split(' '));
    let output = loadtest(&words);
    let seen = describe(&output);
    assert_eq!(output.status.code(), Some(69), "{seen}");
    assert!(seen.contains("verdict: ") && seen.contains("ENDED EARLY (") && seen.contains("closed all"), "{seen}");
    pids.check_ended();
}

#[test]
fn an_interrupt_ends_both_servers() {
    let pids = Pids::new("interrupted");
    let command = pids.command(Manners::Honest);
    let child = Command::new(env!("CARGO_BIN_EXE_memkv-loadtest"))
        .args(["compare", "--a", &command, "--b", &command])
        .args("--quiet --connections 3 --keys 500 --slices 9999 --slice 100ms".split(' '))
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    while pids.started().len() < 2 {
        std::thread::yield_now();
    }
    let interrupted = Command::new("sh").args(["-c", &format!("kill -INT {}", child.id())]).status().unwrap();
    assert!(interrupted.success());
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(130), "{}", describe(&output));
    pids.check_ended();
}

#[test]
fn running_servers_are_compared_by_their_own_account_their_processes_or_throughput() {
    let (a, b) = (fake::start(Manners::Honest), fake::start(Manners::Honest));
    let mut words = vec!["compare", "--a", &a, "--b", &b];
    words.extend(SHORT.split(' '));
    let output = loadtest(&words);
    let seen = describe(&output);
    assert_eq!(output.status.code(), Some(0), "{seen}");
    // The fake ones say that a request takes them 10 us.
    assert!(seen.contains("CPU per request") && seen.contains("server CPU ns/request     100"), "{seen}");
    let silent = fake::start(Manners::Secretive);
    let mut throughput = vec!["compare", "--a", &a, "--b", &silent];
    throughput.extend(SHORT.split(' '));
    let output = loadtest(&throughput);
    let seen = describe(&output);
    assert_eq!(output.status.code(), Some(0), "{seen}");
    assert!(seen.contains("not known") && seen.contains("throughput"), "{seen}");
    let pid = std::process::id().to_string();
    words.extend(["--a-pid", &pid, "--b-pid", &pid]);
    let output = loadtest(&words);
    let seen = describe(&output);
    assert!(seen.contains("CPU per request") && !seen.contains("not known"), "{seen}");
    let output = loadtest(&["compare", "--a", &a, "--b", &a]);
    assert_eq!(output.status.code(), Some(64), "{}", describe(&output));
    let lying = fake::start(Manners::Corrupt);
    let mut words = vec!["compare", "--a", &a, "--b", &lying];
    words.extend(SHORT.split(' '));
    assert_eq!(loadtest(&words).status.code(), Some(1));
}
