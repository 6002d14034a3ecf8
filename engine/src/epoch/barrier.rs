//! Two barriers, of which one pays for both: after a heavy one by C, everything that T did before its light one is visible to C, or everything
//! that C did before is visible to T after its light one.
//!
//! The heavy one is Linux's `membarrier` (private, expedited; Linux 4.14): it has each processor that runs a thread of this process execute a full fence. A thread
//! that does not run has executed one when it stopped, and will when it goes on. The light one then only has to keep the compiler from reordering. Elsewhere both are full fences, and the fence of the light one is behind a mark in the
//! participant's mode, so that it costs others nothing.

use crate::sync::{Ordering, fence};

/// How it is done here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Barrier {
    /// A light one is an order to the compiler.
    #[cfg(all(target_os = "linux", not(crossbeam_loom)))]
    Membarrier,
    /// A light one is a full fence.
    Fence,
    /// There is no light one, and heavy ones are not to be had: for models of what must hold without them.
    #[cfg(all(test, crossbeam_loom))]
    None,
    /// `membarrier` as models have it: the threads under test execute a fence where they are when they are asked, see [`interrupts`].
    #[cfg(all(test, crossbeam_loom))]
    Interrupts,
}

impl Barrier {
    /// The best that the system has.
    pub(super) fn best() -> Barrier {
        #[cfg(all(target_os = "linux", not(crossbeam_loom)))]
        {
            use rustix::thread::{MembarrierCommand, membarrier};
            if membarrier(MembarrierCommand::RegisterPrivateExpedited).is_ok() {
                return Barrier::Membarrier;
            }
        }
        Barrier::Fence
    }

    /// What the modes of all members say: whether each light barrier has to be followed by a full fence.
    pub(super) fn mode(self) -> u64 {
        match self {
            #[cfg(all(target_os = "linux", not(crossbeam_loom)))]
            Barrier::Membarrier => 0,
            Barrier::Fence => super::FENCED,
            #[cfg(all(test, crossbeam_loom))]
            Barrier::None => 0,
            // As threads that write now and then have it: a question must be seen beside it.
            #[cfg(all(test, crossbeam_loom))]
            Barrier::Interrupts => super::HELPS,
        }
    }

    /// An order to the compiler.
    #[inline]
    pub(super) fn light() {
        std::sync::atomic::compiler_fence(Ordering::SeqCst);
        Barrier::may_strike();
    }

    /// Models let heavy barriers of others strike here; elsewhere they do so anywhere.
    #[inline]
    pub(super) fn may_strike() {
        #[cfg(all(test, crossbeam_loom))]
        interrupts::answer();
    }

    /// False if the system refuses: then nothing may be concluded.
    pub(super) fn heavy(self) -> bool {
        // Both sides: the call's own order is promised for what others do, not for what the compiler moves.
        fence(Ordering::SeqCst);
        let is_done = match self {
            #[cfg(all(target_os = "linux", not(crossbeam_loom)))]
            Barrier::Membarrier => {
                use rustix::thread::{MembarrierCommand, membarrier};
                membarrier(MembarrierCommand::PrivateExpedited).is_ok()
            }
            Barrier::Fence => true,
            #[cfg(all(test, crossbeam_loom))]
            Barrier::None => false,
            #[cfg(all(test, crossbeam_loom))]
            Barrier::Interrupts => {
                interrupts::ask();
                true
            }
        };
        fence(Ordering::SeqCst);
        is_done
    }
}

/// Interruptions of one thread of a model. Loom cannot interrupt a thread, so this one looks at several places whether somebody asks for a fence, and who asks
/// waits: with all schedules, the fence comes at each of these places. The question itself carries nothing beyond what the fences do.
#[cfg(all(test, crossbeam_loom))]
pub(super) mod interrupts {
    use crate::sync::{AtomicU64, Ordering, fence};
    use std::cell::Cell;

    /// The thread under test does not run: not yet, or not any more.
    const AWAY: u64 = u64::MAX;

    loom::lazy_static! {
        static ref ASKED: AtomicU64 = AtomicU64::new(0);
        static ref ANSWERED: AtomicU64 = AtomicU64::new(AWAY);
    }
    loom::thread_local! {
        static IS_UNDER_TEST: Cell<bool> = Cell::new(false);
    }

    /// Runs the calling thread's part of a model, in which heavy barriers of others strike it.
    pub(in super::super) fn strike_in<R>(body: impl FnOnce() -> R) -> R {
        IS_UNDER_TEST.with(|is| is.set(true));
        // A thread that did not run has executed a fence when it goes on: it need not have heard the questions of before.
        ANSWERED.store(ASKED.load(Ordering::Relaxed), Ordering::Relaxed);
        fence(Ordering::SeqCst);
        let result = body();
        fence(Ordering::SeqCst);
        ANSWERED.store(AWAY, Ordering::Release);
        IS_UNDER_TEST.with(|is| is.set(false));
        result
    }

    pub(super) fn answer() {
        if IS_UNDER_TEST.with(Cell::get) {
            let asked = ASKED.load(Ordering::Relaxed);
            if asked != ANSWERED.load(Ordering::Relaxed) {
                fence(Ordering::SeqCst);
                // Release: what came before is seen by who asked.
                ANSWERED.store(asked, Ordering::Release);
            }
        }
    }

    pub(super) fn ask() {
        if IS_UNDER_TEST.with(Cell::get) {
            return;
        }
        let asked = ASKED.fetch_add(1, Ordering::Relaxed) + 1;
        fence(Ordering::SeqCst);
        // AWAY is more than every question.
        while ANSWERED.load(Ordering::Acquire) < asked {
            loom::thread::yield_now();
        }
    }
}
