//! The command line: what can be asked for, and whether it makes sense.

use crate::compare::{ComparePlan, Named, Suite};
use crate::cpu;
use crate::error::Error;
use crate::fleet::Shape;
use crate::keys::KeyNames;
use crate::popularity::Popularity;
use crate::process::{Endpoint, ServerCommand};
use crate::replay::ReplayPlan;
use crate::run::RunPlan;
use crate::schedule::{Arrivals, Rate};
use crate::target::Target;
use crate::trace::Format;
use crate::units::{parse_bytes, parse_count, parse_duration};
use crate::workload::{Items, Mix, ValueSizes};
use clap::{Args, Parser, Subcommand};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// Most connections of one run: beyond this a single client address has too few ports.
const CONNECTIONS_MAX: usize = 25_000;
/// Most client threads.
const THREADS_MAX: usize = 1024;
/// Most requests sent together on one connection.
const DEPTH_MAX: usize = 10_000;
/// Most keys of one get.
const MULTIGET_MAX: usize = 10_000;
/// Highest rate of an open loop, requests per second.
const RATE_MAX: u64 = 100_000_000;
/// Largest value.
const VALUE_BYTES_MAX: usize = 1 << 30;

/// A load generator for any memcached-speaking server.
#[derive(Debug, Parser)]
#[command(name = "memkv-loadtest", version, max_term_width = 110)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Load a running server, check every value it returns, and report throughput, hit ratio and latency
    #[command(args_override_self = true)]
    Run(RunArgs),
    /// Start two servers and compare what a request costs them, in alternating short slices on one core
    #[command(args_override_self = true)]
    Compare(CompareArgs),
    /// Replay recorded requests look-aside (get; on a miss set) and report the hit ratio, on one server or on two
    #[command(args_override_self = true)]
    Replay(ReplayArgs),
}

/// The requests.
#[derive(Args, Clone, Debug)]
pub struct LoadArgs {
    /// Connections, over all threads
    #[arg(short, long, default_value_t = 50)]
    pub connections: usize,
    /// Client threads
    #[arg(short, long, default_value_t = 1)]
    pub threads: usize,
    /// Requests sent together on a connection; the next ones follow when all are answered
    #[arg(short, long, alias = "pipeline", default_value_t = 1)]
    pub depth: usize,
    /// Proportion of gets to sets
    #[arg(short, long, value_name = "GET:SET", value_parser = parse_ratio, default_value = "30:1")]
    pub ratio: (u64, u64),
    /// Keys that one get asks for
    #[arg(long, value_name = "KEYS", default_value_t = 1)]
    pub multiget: usize,
    /// Number of different keys
    #[arg(short, long, value_parser = parse_count, default_value = "1m")]
    pub keys: u64,
    /// Length of the keys
    #[arg(long, value_name = "BYTES", value_parser = parse_bytes, default_value = "16")]
    pub key_size: usize,
    /// Length of the values
    #[arg(long, value_name = "BYTES", value_parser = parse_bytes, default_value = "32")]
    pub value_size: usize,
    /// Exponent of the keys' popularity (Zipf); 0 asks for all keys alike
    #[arg(short, long, value_name = "EXPONENT", default_value_t = 0.0)]
    pub zipf: f64,
    /// Where the random choices begin: the same seed makes the same requests
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// How long the server may say nothing while requests are in flight
    #[arg(long, value_name = "TIME", value_parser = parse_duration, default_value = "10s")]
    pub timeout: Duration,
}

/// Options of `run`.
#[derive(Args, Debug)]
pub struct RunArgs {
    /// Server: HOST:PORT or unix:PATH
    #[arg(short, long)]
    pub server: Target,
    /// How long to send requests
    #[arg(long, value_name = "TIME", value_parser = parse_duration, default_value = "10s")]
    pub duration: Duration,
    /// Open loop: requests per second that are due, whatever the server does; --depth then bounds what is in flight
    #[arg(long, value_name = "REQUESTS/S", value_parser = parse_count)]
    pub rate: Option<u64>,
    /// Open loop: gaps between requests
    #[arg(long, value_enum, default_value_t = Arrivals::Exponential, requires = "rate")]
    pub arrivals: Arrivals,
    /// Do not write all keys first (values of earlier runs are then accepted)
    #[arg(long)]
    pub no_fill: bool,
    /// The requests.
    #[command(flatten)]
    pub load: LoadArgs,
    /// Write the results to a file as JSON
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// Show no progress
    #[arg(short, long)]
    pub quiet: bool,
}

/// Options of `compare`.
#[derive(Args, Debug)]
pub struct CompareArgs {
    /// Command of the server to compare with; {port} stands for its port (or {socket} for the path of a Unix socket)
    #[arg(long, value_name = "COMMAND", value_parser = ServerCommand::new)]
    pub a: ServerCommand,
    /// Command of the server that is compared
    #[arg(long, value_name = "COMMAND", value_parser = ServerCommand::new)]
    pub b: ServerCommand,
    /// Run a named set of workloads instead of the one that the options describe
    #[arg(long)]
    pub suite: Option<Suite>,
    /// The requests.
    #[command(flatten)]
    pub load: LoadArgs,
    /// Slices that are measured of each server, after one that is dropped
    #[arg(long, default_value_t = 15)]
    pub slices: usize,
    /// Length of a slice
    #[arg(long, value_name = "TIME", value_parser = parse_duration, default_value = "600ms")]
    pub slice: Duration,
    /// Core of both servers and the client [default: the last one allowed]
    #[arg(long)]
    pub cpu: Option<usize>,
    /// Core of the client, if it should not share the servers' core
    #[arg(long)]
    pub client_cpu: Option<usize>,
    /// Bind nothing to a core
    #[arg(long, conflicts_with_all = ["cpu", "client_cpu"])]
    pub no_pin: bool,
    /// Write the results to a file as JSON
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// Show no progress
    #[arg(short, long)]
    pub quiet: bool,
}

/// Options of `replay`.
#[derive(Args, Debug)]
pub struct ReplayArgs {
    /// Empty server: HOST:PORT, unix:PATH, or a COMMAND with {port} to start
    #[arg(short, long, value_parser = Endpoint::new)]
    pub server: Endpoint,
    /// A second server for the same trace
    #[arg(long, value_name = "SERVER", value_parser = Endpoint::new)]
    pub compare: Option<Endpoint>,
    /// The trace, plain or compressed by xz
    #[arg(long, value_name = "FILE")]
    pub trace: PathBuf,
    /// How the trace is written down [default: packed for .trace and .trace.xz, text for others]
    #[arg(long)]
    pub format: Option<Format>,
    /// Factor for the sizes of the values
    #[arg(long, default_value_t = 1.0)]
    pub scale: f64,
    /// Parts of the trace for which the hit ratio is reported
    #[arg(long, default_value_t = 20)]
    pub intervals: usize,
    /// How long a server may say nothing while requests are in flight
    #[arg(long, value_name = "TIME", value_parser = parse_duration, default_value = "10s")]
    pub timeout: Duration,
    /// Write the results to a file as JSON
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// Show no progress
    #[arg(short, long)]
    pub quiet: bool,
}

impl ReplayArgs {
    /// Checks the options.
    ///
    /// # Errors
    /// [`Error::Usage`] with what does not fit.
    pub fn plan(&self) -> Result<ReplayPlan, Error> {
        within("scale", self.scale, 0.001, 100_000.0)?;
        within("intervals", self.intervals, 1, 100_000)?;
        Ok(ReplayPlan {
            trace: self.trace.clone(),
            format: self.format.unwrap_or_else(|| Format::of(&self.trace)),
            scale: self.scale,
            servers: std::iter::once(&self.server).chain(&self.compare).cloned().collect(),
            intervals: self.intervals,
            patience: self.timeout,
        })
    }
}

impl LoadArgs {
    fn shape(&self) -> Result<Shape, Error> {
        within("threads", self.threads, 1, THREADS_MAX)?;
        within("connections", self.connections, 1, CONNECTIONS_MAX)?;
        if self.connections < self.threads {
            return usage(format!("{} threads need at least as many connections", self.threads));
        }
        Ok(Shape { threads: self.threads, connections: self.connections })
    }

    fn items(&self) -> Result<Arc<Items>, Error> {
        within("keys", self.keys, 1, u64::from(u32::MAX))?;
        within("value-size", self.value_size, 0, VALUE_BYTES_MAX)?;
        let names = KeyNames::numbered(self.key_size, self.keys).map_err(|error| Error::Usage(error.to_string()))?;
        Ok(Arc::new(Items { names, value_bytes: ValueSizes::Fixed(self.value_size) }))
    }

    fn mix(&self) -> Result<Arc<Mix>, Error> {
        within("depth", self.depth, 1, DEPTH_MAX)?;
        within("multiget", self.multiget, 1, MULTIGET_MAX)?;
        if !(0.0..=10.0).contains(&self.zipf) {
            return usage("--zipf: an exponent lies between 0 and 10".into());
        }
        let (gets, sets) = self.ratio;
        Ok(Arc::new(Mix {
            get_share: gets as f64 / (gets + sets) as f64,
            multiget_keys: self.multiget,
            popularity: Popularity::new(self.keys, self.zipf),
        }))
    }

    /// The requests in words.
    fn describe(&self) -> String {
        let (gets, sets) = self.ratio;
        let popularity = if self.zipf == 0.0 { "uniform".into() } else { format!("Zipf {}", self.zipf) };
        format!(
            "get:set {gets}:{sets}, {} keys per get, {} requests at a time, {popularity} over {} keys of {} B with values of {} B",
            self.multiget, self.depth, self.keys, self.key_size, self.value_size
        )
    }
}

impl RunArgs {
    /// Checks the options.
    ///
    /// # Errors
    /// [`Error::Usage`] with what does not fit.
    pub fn plan(&self) -> Result<RunPlan, Error> {
        if let Some(rate) = self.rate {
            within("rate", rate, 1, RATE_MAX)?;
        }
        let rate =
            self.rate.map(|rate| Rate { requests_per_s: rate as f64, arrivals: self.arrivals, seed: self.load.seed });
        Ok(RunPlan {
            target: self.server.clone(),
            shape: self.load.shape()?,
            items: self.load.items()?,
            keys: self.load.keys,
            mix: self.load.mix()?,
            rate,
            depth: self.load.depth,
            duration: self.duration,
            fill: !self.no_fill,
            patience: self.load.timeout,
            seed: self.load.seed,
            description: self.load.describe(),
        })
    }
}

impl CompareArgs {
    /// Checks the options.
    ///
    /// # Errors
    /// [`Error::Usage`] with what does not fit.
    pub fn plan(&self) -> Result<ComparePlan, Error> {
        within("slices", self.slices, 1, 10_000)?;
        let allowed = cpu::allowed_cpus()?;
        let server_cpu = match self.cpu {
            _ if self.no_pin => None,
            Some(cpu) => Some(cpu),
            None => allowed.last().copied(),
        };
        let client_cpu = self.client_cpu.or(server_cpu);
        for cpu in server_cpu.iter().chain(&client_cpu) {
            if !allowed.contains(cpu) {
                return usage(format!("core {cpu} is not among those that may be used: {allowed:?}"));
            }
        }
        let mix = self.load.mix()?;
        let workloads = match self.suite {
            Some(suite) => suite.workloads(&mix.popularity),
            None => vec![Named { name: self.load.describe(), mix, depth: self.load.depth }],
        };
        Ok(ComparePlan {
            a: self.a.clone(),
            b: self.b.clone(),
            shape: self.load.shape()?,
            items: self.load.items()?,
            keys: self.load.keys,
            workloads,
            slices: self.slices,
            slice: self.slice,
            server_cpu,
            client_cpu,
            patience: self.load.timeout,
            seed: self.load.seed,
            description: self.load.describe(),
        })
    }
}

fn parse_ratio(text: &str) -> Result<(u64, u64), String> {
    let parsed = text.split_once(':').and_then(|(gets, sets)| Some((gets.parse().ok()?, sets.parse().ok()?)));
    match parsed {
        Some((gets, sets)) if gets + sets > 0 && gets <= 1_000_000 && sets <= 1_000_000 => Ok((gets, sets)),
        _ => Err("expected GET:SET, as in 30:1, 1:0 or 0:1".into()),
    }
}

fn within<T: PartialOrd + std::fmt::Display>(option: &str, value: T, min: T, max: T) -> Result<(), Error> {
    if min <= value && value <= max {
        Ok(())
    } else {
        usage(format!("--{option} {value}: must lie between {min} and {max}"))
    }
}

fn usage<T>(reason: String) -> Result<T, Error> {
    Err(Error::Usage(reason))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The outcome of planning a `run` with these options.
    fn check(options: &str) -> Result<RunPlan, String> {
        let words = ["memkv-loadtest", "run", "--server", "127.0.0.1:1"].into_iter().chain(options.split_whitespace());
        match Cli::try_parse_from(words).map_err(|error| error.to_string())?.command {
            Command::Run(args) => args.plan().map_err(|error| error.to_string()),
            Command::Compare(_) | Command::Replay(_) => Err("not a run".into()),
        }
    }

    #[test]
    fn the_command_line_is_consistent() {
        use clap::CommandFactory as _;
        Cli::command().debug_assert();
    }

    #[test]
    fn sensible_options_are_accepted() {
        let plan = check("-c 7 -t 2 -d 16 -r 1:3 -k 10k --key-size 20 --value-size 4k -z 0.99 --multiget 5").unwrap();
        assert_eq!((plan.shape.connections, plan.shape.threads, plan.depth, plan.keys), (7, 2, 16, 10_000));
        assert_eq!((plan.mix.get_share, plan.mix.multiget_keys), (0.25, 5));
        assert_eq!((plan.items.names.key_bytes(0), plan.items.value_bytes.of(0)), (20, 4096));
    }

    #[test]
    fn senseless_options_are_refused() {
        let cases = [
            ("-c 0", "connections"),
            ("-t 0", "threads"),
            ("-t 2 -c 1", "connections"),
            ("-d 0", "depth"),
            ("--multiget 0", "multiget"),
            ("-r 0:0", "GET:SET"),
            ("-r 3", "GET:SET"),
            ("-k 0", "keys"),
            ("--key-size 3", "key size"),
            ("--key-size 251", "key size"),
            ("--value-size 2g", "value-size"),
            ("-z=-1", "zipf"),
            ("-z NaN", "zipf"),
            ("--duration 0s", "time span"),
            ("--server nowhere", "HOST:PORT"),
            ("--nonsense", "--nonsense"),
        ];
        for (options, part) in cases {
            let message = check(options).unwrap_err();
            assert!(message.contains(part), "{options}: {message}");
        }
    }
}
