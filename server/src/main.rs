//! `memkv`: options, logging, signals, and the order in which the process becomes a server. The server itself is the library.

use std::io::IsTerminal as _;
use std::process::ExitCode;

use memkv_server::args::{self, EXIT_FAILURE, EXIT_USAGE, Exit, Parsed, Surroundings};
use memkv_server::daemon::{self, Ready, Side};
use memkv_server::process::{self, EXIT_SYSTEM, Process, Refused};
use memkv_server::shutdown::{ControlSignals, Request, Stop};
use memkv_server::{Config, Running, Server, StartError, fds};
use smol::future::FutureExt as _;
use tracing_subscriber::filter::LevelFilter;

fn main() -> ExitCode {
    let Parsed { config, process, warnings, check, print } =
        match args::parse(std::env::args_os(), &Surroundings::of_process()) {
            Ok(parsed) => parsed,
            Err(Exit::Answer(text)) => {
                print!("{text}");
                return ExitCode::SUCCESS;
            }
            Err(Exit::Usage(code, line)) => return fail(&Refused { code, line }),
        };
    if let Some(text) = print {
        print!("{text}");
        return ExitCode::SUCCESS;
    }
    if check {
        return self::check(&config, &process, &warnings).map_or_else(|refused| fail(&refused), |()| ExitCode::SUCCESS);
    }
    // Before there is any thread.
    let ready = match process.daemon.then(daemon::split) {
        None => None,
        Some(Ok(Side::Background(ready))) => Some(ready),
        Some(Ok(Side::Foreground(code))) => return code,
        Some(Err(error)) => return fail(&system(format!("cannot run in the background: {error}"))),
    };
    log_to_stderr(config.verbosity);
    for warning in warnings {
        tracing::warn!("{warning}");
    }
    serve(config, &process, ready).map_or_else(|refused| fail(&refused), |()| ExitCode::SUCCESS)
}

/// Says what is wrong with the configuration, as far as that can be seen without starting.
fn check(config: &Config, process: &Process, warnings: &[String]) -> Result<(), Refused> {
    process.check()?;
    Server::check(config).map_err(|error| refused(&error))?;
    for warning in warnings {
        eprintln!("memkv: {warning}");
    }
    println!("memkv: the configuration is valid");
    Ok(())
}

/// Runs the server until it is asked to stop.
fn serve(config: Config, process: &Process, ready: Option<Ready>) -> Result<(), Refused> {
    if process.user.is_none() && process::is_root() {
        tracing::warn!("running as root; name the user with -u root if that is intended");
    }
    if let Err(most) = fds::allow_connections(config.connections_max) {
        tracing::warn!(most, "the limit of open files does not allow as many connections as -c asks for");
    }
    process.prepare()?;
    // Before the server is ready, so that no signal is missed.
    let mut signals = ControlSignals::watch().map_err(|error| system(format!("cannot watch signals: {error}")))?;
    let (memory_bytes, verbosity) = (config.memory_bytes, config.verbosity);
    let running = Server::start(config).map_err(|error| refused(&error))?;
    if process.lock_memory
        && let Err(error) = process::lock_memory()
    {
        tracing::warn!(%error, "-k: memory cannot be locked");
    }
    if let Some(path) = std::env::var_os("MEMCACHED_PORT_FILENAME")
        && let Err(error) = daemon::write_ports(path.as_ref(), running.addrs())
    {
        tracing::warn!(%error, path = %path.display(), "cannot write the file of ports");
    }
    if let Some(path) = &process.pid_file
        && let Err(error) = daemon::write_pid(path)
    {
        tracing::warn!(%error, path = %path.display(), "cannot write the pid file");
    }
    announce(&running, memory_bytes);
    if let Some(ready) = ready {
        let detached = ready.detach(verbosity > 0);
        detached.map_err(|error| system(format!("cannot run in the background: {error}")))?;
    }
    match smol::block_on(until_stopped(&mut signals, &running)) {
        Stop::Graceful => eprintln!("Gracefully stopping"),
        Stop::Normal => tracing::info!("Exiting normally"),
    }
    running.shutdown();
    if process.daemon
        && let Some(path) = &process.pid_file
        && let Err(error) = std::fs::remove_file(path)
    {
        tracing::warn!(%error, path = %path.display(), "cannot remove the pid file");
    }
    Ok(())
}

/// Obeys signals and clients until one of them says that the server is to stop.
async fn until_stopped(signals: &mut ControlSignals, running: &Running) -> Stop {
    loop {
        let asked_by_client = async { Request::Stop(running.stop_requested().await) };
        match signals.next().or(asked_by_client).await {
            Request::Stop(stop) => return stop,
            Request::Reload => running.reload(),
        }
    }
}

fn refused(error: &StartError) -> Refused {
    let code = match error {
        StartError::Store(_) => EXIT_USAGE,
        StartError::Auth(_) => EXIT_FAILURE,
        _ => EXIT_SYSTEM,
    };
    Refused { code, line: error.to_string() }
}

fn system(line: String) -> Refused {
    Refused { code: EXIT_SYSTEM, line }
}

fn fail(refused: &Refused) -> ExitCode {
    eprintln!("memkv: {}", refused.line);
    ExitCode::from(refused.code)
}

fn announce(running: &Running, memory_bytes: usize) {
    let workers = running.service().workers().len();
    eprintln!(
        "memkv {} ready on {} ({workers} worker{}, {}, {} MB)",
        env!("CARGO_PKG_VERSION"),
        running.places().join(", "),
        if workers == 1 { "" } else { "s" },
        running.service().reactors(),
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
