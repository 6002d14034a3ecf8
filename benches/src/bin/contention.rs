//! Compares concurrent maps and caches under contention: `contention --help`.
//!
//! The measuring itself is in `memkv_benches::runner`; here are the options and where the report goes.

use clap::Parser;
use memkv_benches::adapters::{self, Rival};
use memkv_benches::machine::cores;
use memkv_benches::report::{self, Report};
use memkv_benches::runner::{self, Plan};
use memkv_benches::workload::{Setup, Workload};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

/// Compares concurrent maps and caches under contention.
#[derive(Debug, Parser)]
#[command(version, about)]
struct Options {
    /// Workloads, separated by commas; `all` for every one, `maps` and `caches` for those of either, see --list.
    #[arg(long, value_delimiter = ',', default_value = "read-heavy,exchange,rapid-grow")]
    workload: Vec<String>,

    /// Maps and caches, separated by commas; `all` for every one, see --list. Without it, those that --list marks.
    #[arg(long, alias = "cache", value_delimiter = ',')]
    map: Vec<String>,

    /// Numbers of threads, separated by commas. Without it, 1 and the number of cores.
    #[arg(long, value_delimiter = ',')]
    threads: Vec<usize>,

    /// Entries in the map before measurement.
    #[arg(long, default_value_t = Setup::default().keys)]
    keys: usize,

    /// Entries inserted by workloads that grow the map.
    #[arg(long, default_value_t = Setup::default().grow_keys)]
    grow_keys: usize,

    /// Seconds that a timed workload runs on a map in a round.
    #[arg(long, default_value_t = Setup::default().duration.as_secs_f64())]
    seconds: f64,

    /// Rounds that count; one more comes before them and is dropped.
    #[arg(long, default_value_t = 5)]
    rounds: usize,

    /// How many of 100 gets and updates ask for a key that is there.
    #[arg(long, default_value_t = Setup::default().hit_percent)]
    hit_percent: u64,

    /// Seeds every random choice.
    #[arg(long, default_value_t = Setup::default().seed)]
    seed: u64,

    /// Print JSON with every sample instead of the table.
    #[arg(long)]
    json: bool,

    /// Also write command.txt and report.txt, .json and .html into this folder, made if missing.
    #[arg(long, value_name = "FOLDER")]
    save: Option<PathBuf>,

    /// List workloads and maps, and stop.
    #[arg(long)]
    list: bool,
}

/// Wrong options, as the shell knows them (EX_USAGE).
const EXIT_USAGE: u8 = 64;

fn main() -> ExitCode {
    if runner::measured_as_child() {
        return ExitCode::SUCCESS;
    }
    let options = Options::parse();
    if options.list {
        list();
        return ExitCode::SUCCESS;
    }
    let plan = match plan(&options) {
        Ok(plan) => plan,
        Err(problem) => {
            eprintln!("contention: {problem}");
            return ExitCode::from(EXIT_USAGE);
        }
    };
    if cfg!(debug_assertions) {
        eprintln!("contention: built without --release: these figures mean nothing");
    }
    let report = runner::run(&plan);
    if options.json {
        println!("{:#}", report::json(&report));
    } else {
        print!("{}", report::table(&report));
    }
    if let Some(folder) = &options.save
        && let Err(error) = save(folder, &report)
    {
        eprintln!("contention: cannot write to {}: {error}", folder.display());
        return ExitCode::FAILURE;
    }
    let failed = report.groups.iter().flat_map(|group| &group.rows).any(|row| row.failure().is_some());
    if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

fn list() {
    println!("workloads:");
    for workload in Workload::ALL {
        println!("  {:<20} {}", workload.name(), workload.about());
    }
    for (kind, rivals) in [("maps", adapters::MAPS), ("caches", adapters::CACHES)] {
        println!("{kind} (* measured when none is named):");
        for rival in rivals {
            let mark = if rival.by_default { '*' } else { ' ' };
            println!("{mark} {:<20} {}", rival.name, rival.about);
        }
    }
}

fn plan(options: &Options) -> Result<Plan, String> {
    let all = |names: &[String]| names.iter().any(|name| name == "all");
    let mut workloads: Vec<Workload> = Vec::new();
    for name in &options.workload {
        let named = |workload: &&Workload| match &name[..] {
            "all" => true,
            "maps" => !matches!(workload, Workload::Cache(_)),
            "caches" => matches!(workload, Workload::Cache(_)),
            name => workload.name() == name,
        };
        let before = workloads.len();
        workloads.extend(Workload::ALL.iter().filter(named));
        if workloads.len() == before {
            return Err(format!("no workload {name}; see --list"));
        }
    }
    let rivals: Vec<&Rival> = if all(&options.map) {
        adapters::all().collect()
    } else if options.map.is_empty() {
        adapters::all().filter(|rival| rival.by_default).collect()
    } else {
        let find = |name: &String| adapters::find(name).ok_or_else(|| format!("no map or cache {name}; see --list"));
        options.map.iter().map(find).collect::<Result<_, _>>()?
    };
    for workload in &workloads {
        if !rivals.iter().any(|rival| (rival.takes)(*workload)) {
            return Err(format!("{}: not for what --map names; see --list", workload.name()));
        }
    }
    let mut threads = options.threads.clone();
    if threads.is_empty() {
        threads = vec![1, cores()];
        threads.dedup();
    }
    if threads.contains(&0) || options.keys == 0 || options.grow_keys == 0 || options.rounds == 0 {
        return Err("threads, keys, grow-keys and rounds must be at least 1".to_owned());
    }
    if options.keys.max(options.grow_keys) > u32::MAX as usize {
        return Err("keys and grow-keys must be below 2^32".to_owned());
    }
    if options.hit_percent > 100 {
        return Err("hit-percent must be at most 100".to_owned());
    }
    let duration = Duration::try_from_secs_f64(options.seconds)
        .ok()
        .filter(|duration| !duration.is_zero())
        .ok_or("seconds must be above 0")?;
    let setup = Setup {
        threads: threads[0],
        keys: options.keys,
        grow_keys: options.grow_keys,
        duration,
        hit_percent: options.hit_percent,
        seed: options.seed,
    };
    Ok(Plan { workloads, rivals, threads, setup, rounds: options.rounds })
}

fn save(folder: &Path, report: &Report) -> std::io::Result<()> {
    std::fs::create_dir_all(folder)?;
    let write = |name: &str, text: &str| std::fs::write(folder.join(name), text);
    write("command.txt", &format!("{}\n", report.command))?;
    write("report.txt", &report::table(report))?;
    write("report.json", &format!("{:#}\n", report::json(report)))?;
    write("report.html", &report::html(report))
}
