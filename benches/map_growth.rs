//! Growth from empty: throughput, the time of each insert, memory. Limits are told at `workload::Workload`.
//!
//! `cargo bench -p memkv-benches --bench map_growth -- papaya dashmap`

use memkv_benches::runner::bench_main;
use memkv_benches::workload::Workload;

fn main() {
    bench_main("map_growth", &[Workload::RapidGrow, Workload::Growth, Workload::Memory]);
}
