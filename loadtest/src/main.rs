//! Reads the command line, carries it out, prints the result, and ends with the status that fits.

use clap::Parser as _;
use clap::error::ErrorKind;
use memkv_loadtest::config::{Cli, Command, CompareArgs, MemoryArgs, ReplayArgs, RunArgs, SweepArgs};
use memkv_loadtest::error::{EXIT_OK, EXIT_USAGE, Error};
use memkv_loadtest::html::Page as _;
use memkv_loadtest::{compare, hgrm, html, memory, preset, replay, report, run, sweep};
use signal_hook::consts::TERM_SIGNALS;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // Printing fails only where there is nobody to read it.
            let _ = error.print();
            let asked_for = matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion);
            return ExitCode::from(if asked_for { EXIT_OK } else { EXIT_USAGE });
        }
    };
    let outcome = stop_on_signals().and_then(|stop| match &cli.command {
        Command::Run(args) => run_command(args, &stop),
        Command::Sweep(args) => sweep_command(args, &stop),
        Command::Compare(args) => compare_command(args, &stop),
        Command::Replay(args) => replay_command(args, &stop),
        Command::Memory(args) => memory_command(args, &stop),
        Command::Presets => {
            print!("{}", preset::Listing);
            Ok(EXIT_OK)
        }
    });
    ExitCode::from(outcome.unwrap_or_else(|error| {
        eprintln!("memkv-loadtest: {error}");
        error.exit_code()
    }))
}

fn run_command(args: &RunArgs, stop: &AtomicBool) -> Result<u8, Error> {
    let plan = args.plan()?;
    report::check_writable([&args.json, &args.html, &args.hgrm])?;
    let result = run::run(&plan, args.quiet, stop)?;
    print!("{result}{}", result.caveats_as_text());
    if let Some(path) = &args.json {
        report::write_json(path, &result)?;
    }
    if let Some(path) = &args.html {
        html::write(path, &result)?;
    }
    if let (Some(path), Some(load)) = (&args.hgrm, &result.load) {
        hgrm::write(path, &load.latency_ns)?;
    }
    Ok(result.exit_code())
}

fn sweep_command(args: &SweepArgs, stop: &AtomicBool) -> Result<u8, Error> {
    let plan = args.plan()?;
    report::check_writable([&args.json, &args.html])?;
    let result = sweep::sweep(&plan, args.quiet, stop)?;
    print!("{result}{}", result.caveats_as_text());
    if let Some(path) = &args.json {
        report::write_json(path, &result)?;
    }
    if let Some(path) = &args.html {
        html::write(path, &result)?;
    }
    Ok(result.exit_code())
}

fn compare_command(args: &CompareArgs, stop: &AtomicBool) -> Result<u8, Error> {
    let plan = args.plan()?;
    report::check_writable([&args.json, &args.html])?;
    let result = compare::compare(&plan, args.quiet, stop)?;
    print!("{result}{}", result.caveats_as_text());
    if let Some(path) = &args.json {
        report::write_json(path, &result)?;
    }
    if let Some(path) = &args.html {
        html::write(path, &result)?;
    }
    Ok(result.exit_code())
}

fn replay_command(args: &ReplayArgs, stop: &AtomicBool) -> Result<u8, Error> {
    let plan = args.plan()?;
    report::check_writable([&args.json, &args.html])?;
    let result = replay::replay(&plan, args.quiet, stop)?;
    print!("{result}{}", result.caveats_as_text());
    if let Some(path) = &args.json {
        report::write_json(path, &result)?;
    }
    if let Some(path) = &args.html {
        html::write(path, &result)?;
    }
    Ok(result.exit_code())
}

fn memory_command(args: &MemoryArgs, stop: &AtomicBool) -> Result<u8, Error> {
    let plan = args.plan()?;
    report::check_writable([&args.json])?;
    let result = memory::memory(&plan, args.quiet, stop)?;
    print!("{result}");
    if let Some(path) = &args.json {
        report::write_json(path, &result)?;
    }
    Ok(result.exit_code())
}

/// The first SIGINT, SIGTERM or SIGQUIT asks for an orderly end, which also ends the servers that were started.
fn stop_on_signals() -> Result<Arc<AtomicBool>, Error> {
    let stop = Arc::new(AtomicBool::new(false));
    for &signal in TERM_SIGNALS {
        signal_hook::flag::register(signal, stop.clone())
            .map_err(|source| Error::System { action: "listen for signals", source })?;
    }
    Ok(stop)
}
