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
        }
    }

    /// An order to the compiler.
    #[inline]
    pub(super) fn light() {
        std::sync::atomic::compiler_fence(Ordering::SeqCst);
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
        };
        fence(Ordering::SeqCst);
        is_done
    }
}
