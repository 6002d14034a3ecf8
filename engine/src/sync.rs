//! The one door to atomics: the standard library's, or the model checker's under `--cfg crossbeam_loom`.
//!
//! crossbeam-epoch follows the same flag (its `loom` feature), so a model sees the orderings of the reclamation as
//! well as ours. Nothing else in this crate names `std::sync::atomic`.

#[cfg(crossbeam_loom)]
pub(crate) use loom::sync::atomic::{AtomicI64, AtomicPtr, AtomicU64, fence};
#[cfg(not(crossbeam_loom))]
pub(crate) use std::sync::atomic::{AtomicI64, AtomicPtr, AtomicU64};

pub(crate) use std::sync::atomic::Ordering;

/// Atomics that lie in the raw memory of records, where a model checker's cannot: the log's models use cells of their own.
pub(crate) use std::sync::atomic::{AtomicU32 as RawAtomicU32, AtomicU64 as RawAtomicU64};
