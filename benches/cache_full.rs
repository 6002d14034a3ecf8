//! Caches that must let go. What each measures and cannot see is told at `cache::workload::CacheWorkload`.
//!
//! `cargo bench -p memkv-benches --bench cache_full -- moka quick_cache`

use memkv_benches::cache::workload::{CacheWorkload, Capacity, Exponent};
use memkv_benches::runner::bench_main;
use memkv_benches::workload::Workload;

fn main() {
    use CacheWorkload::{Churn, Hits, Memory, Ttl};
    let hits = Hits(Exponent::Z10, Capacity::Percent1);
    bench_main("cache_full", &[hits, Churn, Ttl, Memory].map(Workload::Cache));
}
