//! Contention benchmarks of concurrent maps and caches in Rust.
//!
//! ```text
//! cargo run --release -p memkv-benches --bin contention -- --help
//! cargo bench -p memkv-benches
//! ```
//!
//! What makes the figures comparable, and where each part lives, in reading order:
//! - [`collection`]: the two small traits that a map is measured through.
//! - [`adapters`]: one file per rival, and the list of them.
//! - [`cache`]: the same for caches: traits, adapters, workloads, conformance.
//! - [`hasher`], [`alloc`]: one hasher and one allocator for all, named in every result.
//! - [`keys`]: keys, values and random numbers, computed from fixed seeds.
//! - [`workload`]: what is done to a map; each says what it measures and what it cannot see.
//! - [`drive`]: threads that start together, and how busy the rest of the machine was meanwhile.
//! - [`runner`]: rounds, and a process for every sample.
//! - [`measure`], [`machine`], [`report`]: figures, facts about the machine, and how they are printed.
//! - [`conformance`]: what every adapter must answer before its speed is worth anything.
//!
//! A sample is one workload on one map in a process of its own, so that no map inherits another's heap. Samples are
//! interleaved (A B C A B C ...), the first round is dropped, and medians stand beside least and greatest. Ratios are
//! medians of the ratios within each round: neighbours in time meet the same noise.

pub mod adapters;
pub mod alloc;
pub mod cache;
pub mod collection;
pub mod conformance;
pub mod drive;
pub mod hasher;
pub mod keys;
pub mod machine;
pub mod measure;
pub mod report;
pub mod runner;
pub mod workload;
