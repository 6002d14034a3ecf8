//! The program as its users meet it, against servers that behave, lie, die or say nothing.

mod compare;
mod fake;
mod memory;
mod page;
mod replay;
mod run;
mod sweep;

use std::env;
use std::io::{self, Write as _};
use std::process::{Command, Output};

/// Says where everybody sees it that something could not be tested, or fails where `TESTS_REQUIRE` names it.
fn not_tested(what: &str, why: &str) {
    let required = env::var("TESTS_REQUIRE").unwrap_or_default();
    assert!(!required.split_whitespace().any(|word| word == what), "TESTS_REQUIRE names {what}, and {why}");
    // The macros' output is shown for failing tests only; this is not.
    let _ = writeln!(io::stderr(), "NOT TESTED: what needs {what}, because {why}");
}

/// Runs `memkv-loadtest` with these words.
fn loadtest(words: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_memkv-loadtest")).args(words).output().expect("the program starts")
}

/// What a program printed and how it ended, for a failing assertion.
fn describe(output: &Output) -> String {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    format!("{}\nstdout:\n{}\nstderr:\n{}", output.status, text(&output.stdout), text(&output.stderr))
}
