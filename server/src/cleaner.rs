//! The thread that keeps the store's memory in order: [`memkv_engine::store::Cleaner`] with a life.

use memkv_engine::store::{Cleaner, Store};
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

pub(crate) struct CleanerThread {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<()>,
}

impl CleanerThread {
    /// # Errors
    /// If the system refuses a thread.
    pub(crate) fn start(store: &Arc<Store>) -> io::Result<CleanerThread> {
        let stop = Arc::new(AtomicBool::new(false));
        let cleaner = Cleaner::new(store);
        let thread = std::thread::Builder::new().name("memkv-cleaner".to_owned()).spawn({
            let stop = Arc::clone(&stop);
            move || cleaner.run(&stop)
        })?;
        Ok(CleanerThread { stop, thread })
    }

    /// Stops it, within a slice of its work.
    pub(crate) fn stop(self) {
        // Relaxed: nothing else is read on the strength of it; the unparking orders it before the next look.
        self.stop.store(true, Ordering::Relaxed);
        self.thread.thread().unpark();
        if self.thread.join().is_err() {
            tracing::error!("the cleaner panicked");
        }
    }
}
