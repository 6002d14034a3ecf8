//! The one door to atomics: the standard library's, or the model checker's under `--cfg crossbeam_loom`.
//!
//! crossbeam-epoch follows the same flag (its `loom` feature). Only
//! what no model is about (test clocks, the number of a thread) uses the standard library's directly.

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

/// While it lives, this thread is dropping what users gave us, for a collection of garbage. Whatever that retires must not ask for a collection:
/// they would nest without end.
pub(crate) struct Ending {
    is_nested: bool,
}

thread_local!(static ENDING: std::cell::Cell<bool> = const { std::cell::Cell::new(false) });

impl Ending {
    pub(crate) fn begin() -> Ending {
        Ending { is_nested: ENDING.replace(true) }
    }

    pub(crate) fn is_on() -> bool {
        ENDING.get()
    }
}

impl Drop for Ending {
    fn drop(&mut self) {
        ENDING.set(self.is_nested);
    }
}

/// A thread's membership in the reclamation of one store, apart from the rest of the process.
pub(crate) struct Participant(crossbeam_epoch::LocalHandle);

// SAFETY: a registration is a node in its collector's list that only its owner touches; it refers to no thread. Its guards borrow
// the owner for as long as they live (see `Handle::batch`), so it cannot move while one is pinned, and a move between threads orders
// everything before it.
unsafe impl Send for Participant {}

impl Participant {
    pub(crate) fn register(collector: &crossbeam_epoch::Collector) -> Participant {
        Participant(collector.register())
    }

    #[inline]
    pub(crate) fn pin(&self) -> Guard {
        #[cfg(not(crossbeam_loom))]
        return self.0.pin();
        #[cfg(crossbeam_loom)]
        return Guard::Epoch(self.0.pin());
    }
}

pub(crate) use crossbeam_epoch::Collector;
#[cfg(not(crossbeam_loom))]
pub(crate) use crossbeam_epoch::{Guard, pin};
#[cfg(crossbeam_loom)]
pub(crate) use model::{Guard, pin};

#[cfg(crossbeam_loom)]
mod model {
    /// A guard as models want it: crossbeam's own where the model is about reclamation, or one that never frees anything where it is
    /// not, because the steps of pinning and collecting would multiply the schedules to be explored.
    pub(crate) enum Guard {
        Epoch(crossbeam_epoch::Guard),
        NeverFree,
    }

    pub(crate) fn pin() -> Guard {
        Guard::Epoch(crossbeam_epoch::pin())
    }

    impl Guard {
        pub(crate) fn defer<F: FnOnce() + Send + 'static>(&self, free: F) {
            match self {
                Guard::Epoch(guard) => guard.defer(free),
                Guard::NeverFree => std::mem::forget(free),
            }
        }

        /// # Safety
        /// See crossbeam's.
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
