//! The one door to atomics: the standard library's, or the model checker's under `--cfg crossbeam_loom`.
//!
//! Only what no model is about (test clocks, the number of a thread) uses the standard library's directly.

#[cfg(crossbeam_loom)]
pub(crate) use loom::sync::atomic::{AtomicI64, AtomicPtr, AtomicU64, fence};
#[cfg(not(crossbeam_loom))]
pub(crate) use std::sync::atomic::{AtomicI64, AtomicPtr, AtomicU64, fence};

pub(crate) use std::sync::atomic::Ordering;

/// What one thread at a time may touch, which a model checks.
#[cfg(crossbeam_loom)]
pub(crate) use loom::cell::UnsafeCell as ShelfCell;

/// What one thread at a time may touch, with the model checker's way of asking for it.
#[cfg(not(crossbeam_loom))]
pub(crate) struct ShelfCell<T>(std::cell::UnsafeCell<T>);

#[cfg(not(crossbeam_loom))]
impl<T> ShelfCell<T> {
    pub(crate) fn new(value: T) -> ShelfCell<T> {
        ShelfCell(std::cell::UnsafeCell::new(value))
    }

    #[inline]
    pub(crate) fn with_mut<R>(&self, touch: impl FnOnce(*mut T) -> R) -> R {
        touch(self.0.get())
    }
}

/// Atomics that lie in the raw memory of records, where a model checker's cannot: the log's models use cells of their own.
pub(crate) use portable_atomic::AtomicU128 as RawAtomicU128;
pub(crate) use std::sync::atomic::{AtomicU32 as RawAtomicU32, AtomicU64 as RawAtomicU64};

#[cfg(crossbeam_loom)]
pub(crate) use model::{Guard, Participant, pin};

pub(crate) use crate::epoch::Collector;
#[cfg(not(crossbeam_loom))]
pub(crate) use crate::epoch::{Guard, Participant, pin};

#[cfg(crossbeam_loom)]
mod model {
    use crate::epoch;

    /// A guard as models want it: a real one where the model is about reclamation, or one that never frees anything where it is
    /// not, because the steps of pinning and collecting would multiply the schedules to be explored.
    pub(crate) enum Guard {
        Epoch(epoch::Guard),
        NeverFree,
    }

    pub(crate) fn pin() -> Guard {
        Guard::Epoch(epoch::pin())
    }

    /// See [`epoch::Participant`].
    pub(crate) struct Participant(epoch::Participant);

    impl Participant {
        pub(crate) fn register(collector: &epoch::Collector) -> Participant {
            Participant(collector.register())
        }

        pub(crate) fn pin(&self) -> Guard {
            Guard::Epoch(self.0.pin())
        }
    }

    impl Guard {
        pub(crate) fn defer<F: FnOnce() + Send + 'static>(&self, free: F) {
            match self {
                Guard::Epoch(guard) => guard.defer(free),
                Guard::NeverFree => std::mem::forget(free),
            }
        }

        /// # Safety
        /// See [`epoch::Guard::defer_unchecked`].
        pub(crate) unsafe fn defer_unchecked<F: FnOnce()>(&self, free: F) {
            match self {
                // SAFETY: the caller's promise.
                Guard::Epoch(guard) => unsafe { guard.defer_unchecked(free) },
                Guard::NeverFree => std::mem::forget(free),
            }
        }

        pub(crate) fn flush(&self) {
            if let Guard::Epoch(guard) = self {
                guard.flush();
            }
        }

        pub(crate) fn repin(&mut self) {
            if let Guard::Epoch(guard) = self {
                guard.repin();
            }
        }
    }
}

/// Runs a model in every schedule with so many preemptions, unless `LOOM_MAX_PREEMPTIONS` says otherwise, and fails if there was but one: then
/// its threads never met.
#[cfg(all(test, crossbeam_loom))]
pub(crate) fn check(preemptions: usize, model: impl Fn() + Sync + Send + 'static) {
    use std::sync::Arc;
    use std::sync::atomic::AtomicUsize;
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = builder.preemption_bound.or(Some(preemptions));
    // The longest models take some thousand steps; loom's own limit is meant to find endless loops.
    builder.max_branches = 10_000;
    let schedules = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&schedules);
    builder.check(move || {
        count.fetch_add(1, Ordering::Relaxed);
        model();
    });
    assert!(schedules.load(Ordering::Relaxed) > 1, "the threads of a model meet");
}
