//! The command line: what can be asked for, and whether it makes sense.

use crate::compare::{ComparePlan, Contender, Named, Suite};
use crate::cpu;
use crate::error::Error;
use crate::load::{CONNECTIONS_MAX, LoadArgs, usage, within};
use crate::memory::{Fills, MemoryPlan, Part};
use crate::process::Endpoint;
use crate::replay::ReplayPlan;
use crate::run::RunPlan;
use crate::schedule::{Arrivals, Rate};
use crate::sweep::{Objective, SweepPlan};
use crate::target::Target;
use crate::trace::Format;
use crate::units::{parse_count, parse_duration};
use clap::{Args, Parser, Subcommand};
use std::path::PathBuf;
use std::time::Duration;

/// Highest rate of an open loop, requests per second.
const RATE_MAX: u64 = 100_000_000;
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
    /// Raise the rate of an open loop until a latency objective breaks, and report where
    #[command(args_override_self = true)]
    Sweep(SweepArgs),
    /// Start two servers, or take running ones, and compare what a request costs them, in alternating short slices on one core
    #[command(args_override_self = true)]
    Compare(CompareArgs),
    /// Replay recorded requests look-aside (get; on a miss set) and report the hit ratio, on one server or on two
    #[command(args_override_self = true)]
    Replay(ReplayArgs),
    /// Start servers with memory limits and report what they hold, and what they need beside the data
    #[command(args_override_self = true)]
    Memory(MemoryArgs),
    /// List the published workloads that --preset knows, with their parameters and sources
    Presets,
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
    /// Write the results to a file as an HTML page with plots
    #[arg(long, value_name = "FILE")]
    pub html: Option<PathBuf>,
    /// Write the latencies to a file for HdrHistogram's plotters
    #[arg(long, value_name = "FILE")]
    pub hgrm: Option<PathBuf>,
    /// Write the results to a file as JSON
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// Show no progress
    #[arg(short, long)]
    pub quiet: bool,
}

/// Options of `sweep`.
#[derive(Args, Debug)]
pub struct SweepArgs {
    /// Server: HOST:PORT or unix:PATH
    #[arg(short, long)]
    pub server: Target,
    /// What must hold: p50, p99.9 (any percentile), mean or max, and its limit
    #[arg(short, long, value_name = "OBJECTIVE", value_parser = Objective::parse, default_value = "p99.9<1ms")]
    pub objective: Objective,
    /// First rate, in requests per second
    #[arg(long, value_name = "REQUESTS/S", value_parser = parse_count, default_value = "1k")]
    pub from: u64,
    /// Highest rate, in requests per second
    #[arg(long, value_name = "REQUESTS/S", value_parser = parse_count, default_value = "100m")]
    pub to: u64,
    /// Factor from one rate to the next
    #[arg(long, default_value_t = 1.5)]
    pub growth: f64,
    /// How often the gap between the last rate that held and the first that broke is halved
    #[arg(long, default_value_t = 4)]
    pub refine: usize,
    /// How long each rate is kept
    #[arg(long, value_name = "TIME", value_parser = parse_duration, default_value = "3s")]
    pub duration: Duration,
    /// Most tries of a rate that breaks, an odd number: what most of them say counts
    #[arg(long, default_value_t = 3)]
    pub tries: usize,
    /// Gaps between requests
    #[arg(long, value_enum, default_value_t = Arrivals::Exponential)]
    pub arrivals: Arrivals,
    /// Do not write all keys first (values of earlier runs are then accepted)
    #[arg(long)]
    pub no_fill: bool,
    /// The requests.
    #[command(flatten)]
    pub load: LoadArgs,
    /// Write the results to a file as an HTML page with plots
    #[arg(long, value_name = "FILE")]
    pub html: Option<PathBuf>,
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
    /// Server to compare with: a COMMAND to start, with {port} for its port (or {socket} for the path of a Unix socket),
    /// or HOST:PORT or unix:PATH of one that runs
    #[arg(long, value_name = "SERVER", value_parser = Endpoint::new)]
    pub a: Endpoint,
    /// Server that is compared
    #[arg(long, value_name = "SERVER", value_parser = Endpoint::new)]
    pub b: Endpoint,
    /// Process of A if it runs already on this machine, whose CPU time is counted then; else A is asked for its own account
    #[arg(long, value_name = "PID")]
    pub a_pid: Option<u32>,
    /// The same for B
    #[arg(long, value_name = "PID")]
    pub b_pid: Option<u32>,
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
    /// Write the results to a file as an HTML page with plots
    #[arg(long, value_name = "FILE")]
    pub html: Option<PathBuf>,
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
    #[arg(short, long, alias = "a", value_name = "SERVER", value_parser = Endpoint::new)]
    pub server: Endpoint,
    /// A second server for the same trace
    #[arg(long, alias = "b", value_name = "SERVER", value_parser = Endpoint::new)]
    pub compare: Option<Endpoint>,
    /// The trace, plain or compressed by xz; may be given several times
    #[arg(long, value_name = "FILE", required = true)]
    pub trace: Vec<PathBuf>,
    /// How the traces are written down [default: packed for .trace and .trace.xz, text for others]
    #[arg(long)]
    pub format: Option<Format>,
    /// Start the servers anew with {memory} in their commands replaced by each of these parts of the trace's footprint,
    /// in MiB, and print a table
    #[arg(long, value_name = "PERCENT,...", value_delimiter = ',')]
    pub footprint: Vec<f64>,
    /// With --footprint: the least limit; sizes are multiplied so that the smallest part is as large
    #[arg(long, value_name = "MIB", default_value_t = 64)]
    pub memory_min: u64,
    /// Factor for the sizes of the values [default: 1, or what --memory-min needs]
    #[arg(long)]
    pub scale: Option<f64>,
    /// Parts of the trace for which the hit ratio is reported
    #[arg(long, default_value_t = 20)]
    pub intervals: usize,
    /// How long a server may say nothing while requests are in flight
    #[arg(long, value_name = "TIME", value_parser = parse_duration, default_value = "10s")]
    pub timeout: Duration,
    /// Write the results to a file as an HTML page with plots
    #[arg(long, value_name = "FILE")]
    pub html: Option<PathBuf>,
    /// Write the results to a file as JSON
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// Show no progress
    #[arg(short, long)]
    pub quiet: bool,
}

/// Options of `memory`.
#[derive(Args, Debug)]
pub struct MemoryArgs {
    /// Server: a COMMAND with {port} and {memory}, which is its limit in MiB
    #[arg(long, value_name = "COMMAND", value_parser = Endpoint::new)]
    pub a: Endpoint,
    /// A second server to set beside it
    #[arg(long, value_name = "COMMAND", value_parser = Endpoint::new)]
    pub b: Option<Endpoint>,
    /// What to do [default: everything but slow]
    #[arg(long, value_enum, value_delimiter = ',')]
    pub parts: Vec<Part>,
    /// items: lengths of key and value, and how many to store [default: 16/32:500k+1m+2m+4m,40/230:1m,30/1000:1m]
    #[arg(long, value_name = "KEY/VALUE:ITEMS+...", value_delimiter = ',', value_parser = Fills::parse)]
    pub items: Vec<Fills>,
    /// held, churn: the limit
    #[arg(long, value_name = "MIB", default_value_t = 100)]
    pub limit: u64,
    /// held: items of 16/32 B to store
    #[arg(long, value_name = "ITEMS", value_parser = parse_count, default_value = "3m")]
    pub stored: u64,
    /// churn: how often every item is written again
    #[arg(long, value_name = "TIMES", default_value_t = 20)]
    pub rewrites: u32,
    /// shifts, slow: the limit
    #[arg(long, value_name = "MIB", default_value_t = 256)]
    pub large_limit: u64,
    /// slow: clients
    #[arg(long, value_name = "CLIENTS", default_value_t = 1000)]
    pub slow_clients: usize,
    /// slow: how long they read
    #[arg(long, value_name = "TIME", value_parser = parse_duration, default_value = "2m")]
    pub slow_duration: Duration,
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

impl MemoryArgs {
    /// Checks the options.
    ///
    /// # Errors
    /// [`Error::Usage`] with what does not fit.
    pub fn plan(&self) -> Result<MemoryPlan, Error> {
        let servers: Vec<Endpoint> = std::iter::once(&self.a).chain(&self.b).cloned().collect();
        if let Some(server) = servers.iter().find(|server| !server.needs_memory()) {
            return usage(format!("{server}: must be a COMMAND with {{port}} and {{memory}}"));
        }
        within("limit", self.limit, 1, 1 << 20)?;
        within("large-limit", self.large_limit, 1, 1 << 20)?;
        within("stored", self.stored, 1, 1_000_000_000)?;
        within("rewrites", self.rewrites, 0, 1_000_000)?;
        within("slow-clients", self.slow_clients, 1, CONNECTIONS_MAX)?;
        let fills = |text| Fills::parse(text).unwrap_or_else(|error| unreachable!("a default: {error}"));
        let by_default = || ["16/32:500k+1m+2m+4m", "40/230:1m", "30/1000:1m"].map(fills).into();
        Ok(MemoryPlan {
            servers,
            parts: match &self.parts[..] {
                [] => vec![Part::Items, Part::Held, Part::Churn, Part::Shifts],
                parts => parts.into(),
            },
            fills: if self.items.is_empty() { by_default() } else { self.items.clone() },
            limit_mib: self.limit,
            stored: self.stored,
            rewrites: self.rewrites,
            large_limit_mib: self.large_limit,
            slow_clients: self.slow_clients,
            slow_duration: self.slow_duration,
            patience: self.timeout,
        })
    }
}

impl ReplayArgs {
    /// Checks the options.
    ///
    /// # Errors
    /// [`Error::Usage`] with what does not fit.
    pub fn plan(&self) -> Result<ReplayPlan, Error> {
        if let Some(scale) = self.scale {
            within("scale", scale, 0.001, 100_000.0)?;
        }
        within("intervals", self.intervals, 1, 100_000)?;
        within("memory-min", self.memory_min, 1, 1 << 20)?;
        for percent in &self.footprint {
            within("footprint", *percent, 0.01, 1000.0)?;
        }
        let servers: Vec<Endpoint> = std::iter::once(&self.server).chain(&self.compare).cloned().collect();
        for server in &servers {
            match (server.needs_memory(), self.footprint.is_empty()) {
                (false, false) => return usage(format!("--footprint: {server} must be a COMMAND with {{memory}}")),
                (true, true) => return usage(format!("{server}: --footprint says what {{memory}} is")),
                _ => {}
            }
        }
        Ok(ReplayPlan {
            traces: self
                .trace
                .iter()
                .map(|path| (path.clone(), self.format.unwrap_or_else(|| Format::of(path))))
                .collect(),
            scale: if self.footprint.is_empty() { self.scale.or(Some(1.0)) } else { self.scale },
            servers,
            footprint: self.footprint.clone(),
            memory_mib_min: self.memory_min,
            intervals: self.intervals,
            patience: self.timeout,
        })
    }
}

/// The `run` that these options of the command line describe, separated by spaces: the way in for tests of servers.
///
/// ```
/// let plan = memkv_loadtest::config::run_plan("--server 127.0.0.1:11211 --mix get=9,set=1 --keys 1k --duration 1s")?;
/// assert_eq!((plan.load.keys, plan.duration.as_secs()), (1000, 1));
/// assert!(memkv_loadtest::config::run_plan("--server nowhere").is_err());
/// # Ok::<(), memkv_loadtest::error::Error>(())
/// ```
///
/// # Errors
/// [`Error::Usage`] with what was not understood, or does not fit.
pub fn run_plan(options: &str) -> Result<RunPlan, Error> {
    let words = ["memkv-loadtest", "run"].into_iter().chain(options.split_whitespace());
    match Cli::try_parse_from(words) {
        Ok(Cli { command: Command::Run(args) }) => args.plan(),
        Ok(_) => usage("options of `run` are expected".into()),
        Err(error) => usage(error.to_string()),
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
            load: self.load.load()?,
            rate,
            duration: self.duration,
            fill: !self.no_fill,
        })
    }
}

impl SweepArgs {
    /// Checks the options.
    ///
    /// # Errors
    /// [`Error::Usage`] with what does not fit.
    pub fn plan(&self) -> Result<SweepPlan, Error> {
        within("from", self.from, 1, RATE_MAX)?;
        within("to", self.to, self.from, RATE_MAX)?;
        within("growth", self.growth, 1.01, 100.0)?;
        within("refine", self.refine, 0, 20)?;
        within("tries", self.tries, 1, 99)?;
        if self.tries.is_multiple_of(2) {
            return usage(format!("--tries {}: an odd number has a majority", self.tries));
        }
        Ok(SweepPlan {
            target: self.server.clone(),
            load: self.load.load()?,
            objective: self.objective,
            arrivals: self.arrivals,
            rates: (self.from as f64, self.to as f64),
            growth: self.growth,
            refinements: self.refine,
            tries: self.tries,
            duration: self.duration,
            fill: !self.no_fill,
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
        let is_running = |endpoint: &Endpoint| matches!(endpoint, Endpoint::Running(_));
        if is_running(&self.a) && self.a == self.b {
            return usage("--a and --b are the same server: its values would overwrite each other".into());
        }
        for endpoint in [&self.a, &self.b] {
            if endpoint.needs_memory() {
                return usage(format!(
                    "{endpoint}: {{memory}} is for `memory` and `replay --footprint`; write a number"
                ));
            }
        }
        for (endpoint, pid, name) in [(&self.a, self.a_pid, "a"), (&self.b, self.b_pid, "b")] {
            if pid.is_some() && !is_running(endpoint) {
                return usage(format!("--{name}-pid: the process of a server that is started is known"));
            }
        }
        let server_cpu = match self.cpu {
            // A running server stays where it is; two servers on different terms cannot be compared.
            _ if self.no_pin || is_running(&self.a) || is_running(&self.b) => None,
            Some(cpu) => Some(cpu),
            None => allowed.last().copied(),
        };
        let client_cpu = self.client_cpu.or(server_cpu);
        for cpu in server_cpu.iter().chain(&client_cpu) {
            if !allowed.contains(cpu) {
                return usage(format!("core {cpu} is not among those that may be used: {allowed:?}"));
            }
        }
        let load = self.load.load()?;
        let (workloads, items) = match self.suite {
            Some(suite) => {
                (suite.workloads(&load.mix.popularity), format!("suite {suite}: {}", load.items_description))
            }
            None => {
                let words = &load.description;
                let named = Named { name: words.clone(), mix: load.mix.clone(), depth: load.depth };
                (vec![named], words.clone())
            }
        };
        Ok(ComparePlan {
            a: Contender { endpoint: self.a.clone(), pid: self.a_pid },
            b: Contender { endpoint: self.b.clone(), pid: self.b_pid },
            load,
            items,
            workloads,
            slices: self.slices,
            slice: self.slice,
            server_cpu,
            client_cpu,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::Class;

    /// The outcome of planning a `run` with these options.
    fn check(options: &str) -> Result<RunPlan, String> {
        run_plan(&format!("--server 127.0.0.1:1 {options}")).map_err(|error| error.to_string())
    }

    #[test]
    fn the_command_line_is_consistent() {
        use clap::CommandFactory as _;
        Cli::command().debug_assert();
    }

    #[test]
    fn sensible_options_are_accepted() {
        let plan = check("-c 7 -t 2 -d 16 -r 1:3 -k 10k --key-size 20 --value-size 4k -z 0.99 --multiget 5").unwrap();
        let load = plan.load;
        assert_eq!((load.shape.connections, load.shape.threads, load.depth, load.keys), (7, 2, 16, 10_000));
        assert_eq!((load.mix.weight(Class::Get), load.mix.weight(Class::Set), load.mix.multiget_keys), (1.0, 3.0, 5));
        assert_eq!((load.items.names.key_bytes(0), load.items.value_bytes.of(0)), (20, 4096));
    }

    #[test]
    fn options_change_a_preset() {
        let load = check("--preset twitter-14 --keys 10k").unwrap().load;
        assert_eq!((load.keys, load.items.names.key_bytes(7), load.items.value_bytes.of(7)), (10_000, 96, 414));
        assert_eq!((load.mix.weight(Class::Delete), load.mix.ttls.describe()), (0.22, "1 d".into()));
        let load = check("--preset twitter-29 --ratio 1:1 --value-size 5 --ttl 0 --zipf 0").unwrap().load;
        assert_eq!((load.mix.weight(Class::Set), load.items.value_bytes.of(7)), (1.0, 5));
        assert!(load.mix.look_aside && load.description.contains("synthetic"), "{}", load.description);
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
            ("-m get", "OPERATION=WEIGHT"),
            ("-m get=1 -r 1:1", "--ratio"),
            ("--ttl 40d", "30 days"),
            ("--churn 0", "churn"),
            ("-k 0", "keys"),
            ("--key-size 3", "key size"),
            ("--key-size 251", "key size"),
            ("--value-size 2g", "value-size"),
            ("-z=-1", "zipf"),
            ("-z NaN", "zipf"),
            ("--preset nobody", "presets"),
            ("-p zipf", "zipf:EXPONENT"),
            ("--value-size frob:1", "lognormal"),
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
