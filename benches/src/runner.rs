//! Plans rounds, measures every sample in a process of its own, and gathers the report.
//!
//! The children are the same program, told by their environment what to measure. So no map inherits another's heap,
//! and a map that hangs or panics loses its own figure only.

use crate::adapters::{self, Rival};
use crate::drive::threads_label;
use crate::machine::{Machine, utc_now};
use crate::measure::Sample;
use crate::report::{Group, Report, Row};
use crate::workload::{Setup, Workload};
use serde_json::{Value, json};
use std::io::Read;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// What to measure.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Done to each map.
    pub workloads: Vec<Workload>,
    /// The maps and caches, in the order of a round; a workload is measured on those that take it.
    pub rivals: Vec<&'static Rival>,
    /// Each workload is measured with each of these, as far as it makes sense.
    pub threads: Vec<usize>,
    /// The sizes; `threads` in it does not count.
    pub setup: Setup,
    /// Rounds that count; one more comes before them and is dropped.
    pub rounds: usize,
}

/// Names the variable that makes a process a child.
const CHILD: &str = "MEMKV_BENCHES_MEASURE";

/// Measures and prints one sample if this process is a child. A program that calls [`run`] calls this first, and ends
/// if the answer is yes.
///
/// # Panics
/// If the map answers wrongly.
pub fn measured_as_child() -> bool {
    let Ok(task) = std::env::var(CHILD) else {
        return false;
    };
    let task: Value = serde_json::from_str(&task).expect("a task from the parent");
    let (rival, workload, setup) = read_task(&task).expect("a task from the parent");
    println!("{}", (rival.run)(workload, &setup).to_json());
    true
}

fn write_task(map: &str, workload: Workload, setup: &Setup) -> Value {
    json!({
        "map": map,
        "workload": workload.name(),
        "threads": setup.threads,
        "keys": setup.keys,
        "grow_keys": setup.grow_keys,
        "duration_ns": setup.duration.as_nanos() as u64,
        "hit_percent": setup.hit_percent,
        "seed": setup.seed,
    })
}

fn read_task(task: &Value) -> Option<(&'static Rival, Workload, Setup)> {
    let number = |name: &str| task.get(name)?.as_u64();
    let setup = Setup {
        threads: number("threads")? as usize,
        keys: number("keys")? as usize,
        grow_keys: number("grow_keys")? as usize,
        duration: Duration::from_nanos(number("duration_ns")?),
        hit_percent: number("hit_percent")?,
        seed: number("seed")?,
    };
    let rival = adapters::find(task.get("map")?.as_str()?)?;
    Some((rival, Workload::find(task.get("workload")?.as_str()?)?, setup))
}

/// Measures everything in the plan. Progress goes to stderr, a line a sample.
pub fn run(plan: &Plan) -> Report {
    let mut groups = Vec::new();
    for &workload in &plan.workloads {
        let mut threads: Vec<usize> =
            plan.threads.iter().map(|&threads| threads.clamp(workload.threads_min(), workload.threads_max())).collect();
        threads.dedup();
        for threads in threads {
            groups.push(measure_group(plan, workload, threads));
        }
    }
    Report {
        machine: Machine::inspect(),
        date: utc_now(),
        command: std::env::args().collect::<Vec<_>>().join(" "),
        setup: plan.setup.clone(),
        rounds: plan.rounds,
        groups,
    }
}

/// All rounds of one workload with one number of threads: A B C, C B A, ..., so that no map runs after the same other in every round.
fn measure_group(plan: &Plan, workload: Workload, threads: usize) -> Group {
    let setup = Setup { threads, ..plan.setup.clone() };
    let row = |rival: &&'static Rival| Row { map: rival.name, samples: Vec::new() };
    let mut rows: Vec<Row> = plan.rivals.iter().filter(|rival| (rival.takes)(workload)).map(row).collect();
    for round in 0..=plan.rounds {
        let forth: Vec<&mut Row> = rows.iter_mut().collect();
        let order: Vec<&mut Row> = if round % 2 == 0 { forth } else { forth.into_iter().rev().collect() };
        for row in order {
            let sample = measure_in_child(row.map, workload, &setup);
            let outcome = match &sample {
                Ok(sample) => sample
                    .figures
                    .first()
                    .map_or(String::new(), |figure| format!("{} {:.2} {}", figure.name, figure.value, figure.unit)),
                Err(failure) => format!("FAILED: {failure}"),
            };
            let dropped = if round == 0 { " (dropped)" } else { "" };
            eprintln!(
                "{}, threads {}, round {round}/{}{dropped}, {}: {outcome}",
                workload.name(),
                threads_label(threads),
                plan.rounds,
                row.map
            );
            row.samples.push(sample);
        }
    }
    for row in &mut rows {
        // The first round does not count, unless it shows that the map fails.
        if let failed @ Err(_) = row.samples.remove(0) {
            row.samples[0] = failed;
        }
    }
    Group { workload, threads, rows }
}

fn measure_in_child(map: &str, workload: Workload, setup: &Setup) -> Result<Sample, String> {
    // Filling and growing take seconds; a map that has not finished after this is stuck.
    let patience = Duration::from_secs(120) + setup.duration * 4;
    let text = |error: std::io::Error| error.to_string();
    let mut child = Command::new(std::env::current_exe().map_err(text)?)
        .env(CHILD, write_task(map, workload, setup).to_string())
        .stdout(Stdio::piped())
        .spawn()
        .map_err(text)?;
    let mut stdout = child.stdout.take().ok_or("no output")?;
    let reader = std::thread::spawn(move || {
        let mut output = String::new();
        stdout.read_to_string(&mut output).map(|_| output)
    });
    let start = Instant::now();
    let status = loop {
        match child.try_wait().map_err(text)? {
            Some(status) => break status,
            None if start.elapsed() > patience => {
                child.kill().map_err(text)?;
                child.wait().map_err(text)?;
                return Err(format!("not done after {} s", patience.as_secs()));
            }
            None => std::thread::sleep(Duration::from_millis(10)),
        }
    };
    let output = reader.join().map_err(|_| "no output")?.map_err(text)?;
    if !status.success() {
        return Err(format!("{status}; its words are above"));
    }
    serde_json::from_str(&output)
        .ok()
        .and_then(|value| Sample::from_json(&value))
        .ok_or_else(|| "unreadable sample".to_owned())
}

/// What a program of `cargo bench` does: a few workloads on the default maps at all cores, short enough to be run after
/// each change. Arguments that are no options choose maps and workloads by parts of their names. Without cargo's
/// `--bench`, as `cargo test --benches` calls it, sizes are tiny and figures mean nothing.
pub fn bench_main(name: &str, workloads: &[Workload]) {
    if measured_as_child() {
        return;
    }
    let (options, filters): (Vec<String>, Vec<String>) =
        std::env::args().skip(1).partition(|argument| argument.starts_with('-'));
    let real = options.iter().any(|option| option == "--bench");
    let named = |part: &str| filters.iter().any(|filter| part.contains(filter.as_str()));
    let chosen_workloads: Vec<Workload> = if workloads.iter().any(|one| named(one.name())) {
        let chosen = workloads.iter().filter(|one| named(one.name()));
        chosen.copied().collect()
    } else {
        workloads.to_vec()
    };
    let takes = |rival: &&Rival| chosen_workloads.iter().any(|workload| (rival.takes)(*workload));
    let candidates = || adapters::all().filter(takes);
    let chosen: Vec<&Rival> = if candidates().any(|rival| named(rival.name)) {
        candidates().filter(|rival| named(rival.name)).collect()
    } else {
        candidates().filter(|rival| rival.by_default).collect()
    };
    let setup = if real {
        Setup { grow_keys: 1_000_000, duration: Duration::from_millis(500), ..Setup::default() }
    } else {
        Setup { keys: 1000, grow_keys: 1000, duration: Duration::from_millis(5), ..Setup::default() }
    };
    let report = run(&Plan {
        workloads: chosen_workloads.clone(),
        rivals: chosen,
        threads: vec![crate::machine::cores()],
        setup,
        rounds: if real { 3 } else { 1 },
    });
    println!("{name}\n{}", crate::report::table(&report));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_task_reaches_the_child_unchanged() {
        let setup = Setup { threads: 3, duration: Duration::from_micros(1500), ..Setup::default() };
        let task = write_task("scc", Workload::HotWrite, &setup);
        let (rival, workload, read) = read_task(&task).expect("a task");
        assert_eq!((rival.name, workload), ("scc", Workload::HotWrite));
        assert_eq!(format!("{read:?}"), format!("{setup:?}"));
    }
}
