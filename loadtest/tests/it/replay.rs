//! `replay` of a small trace, whose hits can be counted by hand.

use crate::fake::{self, Manners};
use crate::{describe, loadtest};
use std::fs;
use std::path::PathBuf;

/// A file that is removed in the end.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str, content: &[u8]) -> Self {
        let path = std::env::temp_dir().join(format!("memkv-loadtest-it-{}-{name}", std::process::id()));
        fs::write(&path, content).unwrap();
        Self(path)
    }

    fn path(&self) -> &str {
        self.0.to_str().unwrap()
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

#[test]
fn an_unlimited_cache_misses_each_key_once() {
    let text = Scratch::new("few.txt", b"a 100\nb 200000\na\na\nc\nb\na\na\n");
    let packed = Scratch::new("few.trace", b"aaaabbbbaaaaaaaaccccbbbbaaaaaaaa");
    for trace in [&text, &packed] {
        let (a, b) = (fake::start(Manners::Honest), fake::start(Manners::Honest));
        let options = ["--quiet", "--intervals", "2", "--scale", "2"];
        let mut words = vec!["replay", "--server", &a, "--compare", &b, "--trace", trace.path()];
        words.extend(options);
        let output = loadtest(&words);
        let seen = describe(&output);
        assert_eq!(output.status.code(), Some(0), "{seen}");
        let parts = [
            "8 requests, 3 keys",
            "hits        62.50 %",
            "at best     62.50 %",
            "B - A       +0.00",
            "50.00 %",
            "75.00 %",
        ];
        for part in parts {
            assert!(seen.contains(part), "no {part:?} in {seen}");
        }
    }
}

#[test]
fn limits_are_parts_of_the_footprint() {
    let trace = Scratch::new("limits.txt", b"a 100\nb 300\na\nb\n");
    let pids = Scratch::new("limits.pids", b"");
    let command = format!("env FAKE_MEMORY={{memory}} {}", fake::command(Manners::Honest, pids.path()));
    let json = Scratch::new("limits.json", b"");
    let mut words = vec!["replay", "--quiet", "--a", &command, "--b", &command, "--trace", trace.path()];
    words.extend(["--trace", trace.path(), "--footprint", "10,50", "--memory-min", "2", "--json", json.path()]);
    let output = loadtest(&words);
    let seen = describe(&output);
    assert_eq!(output.status.code(), Some(0), "{seen}");
    for part in ["10 %    2 MiB", "50 %   10 MiB", "50.00 %", "B - A       +0.00 points on average", "in 0 of 4 cells"]
    {
        assert!(seen.contains(part), "no {part:?} in {seen}");
    }
    let json = fs::read_to_string(&json.0).unwrap();
    for part in ["FAKE_MEMORY=2 ", "FAKE_MEMORY=10 ", "\"memory_mib\": 10"] {
        assert!(json.contains(part), "no {part:?} in {json}");
    }
}

#[test]
fn what_was_replayed_before_a_server_died_is_reported() {
    let trace = Scratch::new("cut.txt", &b"a 30\na 30\n".repeat(3000));
    let (honest, dying) = (fake::start(Manners::Honest), fake::start(Manners::Dying));
    let words = ["replay", "--quiet", "--server", &honest, "--compare", &dying, "--trace", trace.path()];
    let output = loadtest(&words);
    let seen = describe(&output);
    assert_eq!(output.status.code(), Some(69), "{seen}");
    assert!(seen.contains("hits        99.98 %") && seen.contains("ENDED EARLY ("), "{seen}");
}

#[test]
fn trouble_is_explained_and_has_its_exit_status() {
    let trace = Scratch::new("trouble.txt", &b"a 30\na 30\n".repeat(3000));
    let broken = Scratch::new("broken.txt", b"a b c\n");
    let (honest, corrupt, dying) =
        (fake::start(Manners::Honest), fake::start(Manners::Corrupt), fake::start(Manners::Dying));
    let cases = [
        (&*honest, broken.path(), 65, "line 1"),
        (&*honest, "/nowhere/a.txt", 74, "/nowhere/a.txt"),
        (&*corrupt, trace.path(), 1, "corrupt values"),
        (&*dying, trace.path(), 69, "went away"),
        ("127.0.0.1:1", trace.path(), 69, "cannot connect"),
        ("nonsense {port", trace.path(), 64, "needs {port}"),
        ("server {port} {memory}", trace.path(), 64, "--footprint says"),
    ];
    for (server, trace, status, part) in cases {
        let output = loadtest(&["replay", "--quiet", "--server", server, "--trace", trace]);
        let seen = describe(&output);
        assert_eq!(output.status.code(), Some(status), "{seen}");
        assert!(seen.contains(part), "no {part:?} in {seen}");
    }
}
