//! Caches with room for everything. What each measures and cannot see is told at `cache::workload::CacheWorkload`.
//!
//! `cargo bench -p memkv-benches --bench cache_popular -- moka quick_cache`

use memkv_benches::cache::workload::CacheWorkload;
use memkv_benches::runner::bench_main;
use memkv_benches::workload::Workload;

fn main() {
    use CacheWorkload::{HotRead, HotWrite, Zipf8k, Zipf100, ZipfWrites};
    bench_main("cache_popular", &[Zipf100, Zipf8k, ZipfWrites, HotRead, HotWrite].map(Workload::Cache));
}
