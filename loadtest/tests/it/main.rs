//! The program as its users meet it, against servers that behave, lie, die or say nothing.

mod compare;
mod fake;
mod memory;
mod page;
mod replay;
mod run;
mod sweep;

use std::process::{Command, Output};

/// Runs `memkv-loadtest` with these words.
fn loadtest(words: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_memkv-loadtest")).args(words).output().expect("the program starts")
}

/// What a program printed and how it ended, for a failing assertion.
fn describe(output: &Output) -> String {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    format!("{}\nstdout:\n{}\nstderr:\n{}", output.status, text(&output.stdout), text(&output.stderr))
}
