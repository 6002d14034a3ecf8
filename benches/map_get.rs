//! Look-ups: uniform, popular, and one key. What each measures and cannot see is told at `workload::Workload`.
//!
//! `cargo bench -p memkv-benches --bench map_get -- papaya dashmap`

use memkv_benches::runner::bench_main;
use memkv_benches::workload::Workload;

fn main() {
    bench_main("map_get", &[Workload::ReadHeavy, Workload::ZipfReads, Workload::HotRead]);
}
