//! `memkv`: flags, logging, signals; the server itself is the library.

use std::io::IsTerminal as _;
use std::process::ExitCode;

use memkv_server::args::{self, Exit, Parsed};
use memkv_server::shutdown::StopSignals;
use memkv_server::{Running, Server, StartError, fds};
use tracing_subscriber::filter::LevelFilter;

/// The command line is wrong (sysexits' EX_USAGE, as memcached).
const EXIT_USAGE: u8 = 64;
/// The system refuses something that is needed, a port mostly (EX_OSERR, as memcached).
const EXIT_SYSTEM: u8 = 71;

fn main() -> ExitCode {
    let Parsed { config, user } = match args::parse(std::env::args_os()) {
        Ok(parsed) => parsed,
        Err(Exit::Answer(text)) => {
            print!("{text}");
            return ExitCode::SUCCESS;
        }
        Err(Exit::Usage(line)) => return fail(EXIT_USAGE, &line),
    };
    log_to_stderr(config.verbosity);
    warn_about_user(user.as_deref());
    if let Err(most) = fds::allow_connections(config.connections_max) {
        tracing::warn!(most, "the limit of open files does not allow as many connections as -c asks for");
    }
    // Before the server is ready, so that no signal is missed.
    let signals = match StopSignals::watch() {
        Ok(signals) => signals,
        Err(error) => return fail(EXIT_SYSTEM, &format!("cannot watch signals: {error}")),
    };
    let memory_bytes = config.memory_bytes;
    let running = match Server::start(config) {
        Ok(running) => running,
        Err(error @ StartError::Store(_)) => return fail(EXIT_USAGE, &error.to_string()),
        Err(error) => return fail(EXIT_SYSTEM, &error.to_string()),
    };
    announce(&running, memory_bytes);
    let signal = smol::block_on(signals.first());
    tracing::info!(signal, "stopping");
    running.shutdown();
    ExitCode::SUCCESS
}

fn fail(code: u8, line: &str) -> ExitCode {
    eprintln!("memkv: {line}");
    ExitCode::from(code)
}

fn announce(running: &Running, memory_bytes: usize) {
    let addrs: Vec<String> = running.addrs().iter().map(ToString::to_string).collect();
    let workers = running.service().workers().len();
    eprintln!(
        "memkv {} ready on {} ({workers} worker{}, {} MB)",
        env!("CARGO_PKG_VERSION"),
        addrs.join(", "),
        if workers == 1 { "" } else { "s" },
        memory_bytes >> 20,
    );
}

/// Warnings always; with -v what happens, with -vv everything.
fn log_to_stderr(verbosity: u8) {
    let level = match verbosity {
        0 => LevelFilter::WARN,
        1 => LevelFilter::INFO,
        _ => LevelFilter::DEBUG,
    };
    let ansi = std::io::stderr().is_terminal();
    tracing_subscriber::fmt().with_writer(std::io::stderr).with_ansi(ansi).with_max_level(level).init();
}

fn warn_about_user(user: Option<&str>) {
    match user {
        None if rustix::process::geteuid().is_root() => {
            tracing::warn!("running as root; name the user with -u root if that is intended");
        }
        None | Some("root") => {}
        Some(user) => tracing::warn!(user, "-u is accepted, but the user is not changed"),
    }
}
