//! A load generator for any memcached-speaking server, as a library.
//!
//! The program `memkv-loadtest` is a thin shell around this: `run` loads a running server, `sweep` finds
//! the rate that breaks a latency objective, `compare` starts two servers and
//! measures what a request costs each of them, `replay` measures hit ratios on recorded requests, `memory` what a memory
//! limit holds. Every value that is read is checked to be one that was written to its key.
//!
//! Making requests, sending them and counting are kept apart. In reading order:
//! - what to ask: [`space`] and [`keys`] (names), [`value`] (values that prove their origin), [`sizes`], [`popularity`] and [`workload`]
//!   (the sequence)
//! - when to ask: [`schedule`] (open loop only)
//! - how to ask: [`target`], [`client`] (the wire, pure functions), `connection`, [`driver`] (epoll or io_uring), `worker` (the loop of one thread),
//!   [`fleet`] (threads × connections)
//! - what came back: [`judge`] and [`counter`] (right or wrong), [`record`] (counters and latencies), [`spread`] (medians)
//! - the commands: [`config`] with [`load`], [`preset`] and [`spec`], [`run`], [`sweep`], [`compare`] with [`process`] and [`cpu`], [`replay`] with [`trace`], [`memory`] with [`stats`], [`report`],
//!   [`html`] with [`plot`], [`hgrm`]
//!
//! Needs Linux: epoll or io_uring, and `/proc` for the servers' CPU time. Unsafe code is in `memkv-ring`, behind a safe face, and in one call of `cpu`.
//!
//! In the tests of a server: a load that checks every answer, on a server that the test has started.
//!
//! ```no_run
//! use memkv_loadtest::{config, run};
//! use std::sync::atomic::AtomicBool;
//!
//! # let address = "127.0.0.1:11211";
//! let mix = "get=20,gets=5,set=5,add=2,cas=5,delete=2,incr=5,touch=2,append=5,prepend=5";
//! let plan = config::run_plan(&format!("--server {address} --mix {mix} --keys 1k --connections 8 --duration 1s"))?;
//! let report = run::run(&plan, true, &AtomicBool::new(false))?;
//! assert_eq!(report.exit_code(), 0, "{report}");
//! # Ok::<(), memkv_loadtest::error::Error>(())
//! ```
#![deny(unsafe_code)]

pub mod client;
pub mod compare;
pub mod config;
mod connection;
pub mod counter;
pub mod cpu;
pub mod driver;
pub mod error;
pub mod fleet;
pub mod hgrm;
pub mod html;
pub mod judge;
pub mod keys;
pub mod load;
pub mod memory;
pub mod plot;
pub mod popularity;
pub mod preset;
pub mod process;
pub mod progress;
pub mod record;
pub mod replay;
pub mod report;
pub mod run;
pub mod schedule;
pub mod sizes;
pub mod space;
pub mod spec;
pub mod spread;
pub mod stats;
pub mod sweep;
pub mod target;
pub mod trace;
pub mod units;
pub mod value;
pub mod worker;
pub mod workload;
