//! Change at constant size and on shared keys. What each measures and cannot see is told at `workload::Workload`.
//!
//! `cargo bench -p memkv-benches --bench map_mixed -- papaya dashmap`

use memkv_benches::runner::bench_main;
use memkv_benches::workload::Workload;

fn main() {
    bench_main("map_mixed", &[Workload::Exchange, Workload::ZipfWrites, Workload::HotWrite]);
}
