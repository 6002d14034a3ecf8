//! The server under a load that checks every answer: no value is stale, torn, foreign, risen from the dead or past its end, no
//! count and no replacement is lost, while many connections race.

use std::num::NonZeroUsize;
use std::sync::atomic::AtomicBool;

use memkv_loadtest::run::RunReport;
use memkv_loadtest::{config, run};
use memkv_server::Config;

use crate::support;

const EVERYTHING: &str = "get=20,gets=5,set=5,add=2,cas=5,delete=2,incr=5,touch=2,append=5,prepend=5";

/// Loads a fresh server with so much memory, on two workers.
fn check(memory_bytes: usize, options: &str) -> RunReport {
    let server = support::start(Config { memory_bytes, workers: NonZeroUsize::new(2), ..support::config() });
    let address = server.addr();
    let plan = config::run_plan(&format!("--server {address} --duration 400ms {options}")).expect("good options");
    let report = run::run(&plan, true, &AtomicBool::new(false)).expect("the server is reached");
    assert_eq!(report.exit_code(), 0, "{options}: {report}");
    let errors = report.load.as_ref().map(|load| load.errors.clone());
    assert_eq!(errors, Some(Default::default()), "{options}: {report}");
    report
}

#[test]
fn every_operation_is_right_under_races() {
    for options in
        ["--keys 30 --connections 8", "--keys 300 --threads 2 --connections 8 --depth 16", "--keys 100 --churn 20"]
    {
        for dialect in ["classic", "meta"] {
            check(16 << 20, &format!("--mix {EVERYTHING} {options} --dialect {dialect} --multiget 3 --ttl 1h:1,0:1"));
        }
    }
}

#[test]
fn what_is_evicted_and_set_again_is_right() {
    let options =
        "--keys 20k --value-size uniform:10:2000 --zipf 0.9 --mix get=8,set=1,delete=1 --look-aside --depth 8";
    let report = check(4 << 20, &format!("{options} --connections 8"));
    let load = report.load.expect("a load");
    assert!(load.misses > 0, "the memory should not hold all keys");
}
