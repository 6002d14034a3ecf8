//! What all connections share: the store, the settings, and the counters that are the server's own.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering::Relaxed};

use crossbeam_utils::CachePadded;
use memkv_engine::clock::Now;
use memkv_engine::store::Store;

use crate::config::Config;

/// One server: its store, its settings, its counters.
pub struct Service {
    /// The items.
    pub store: Arc<Store>,
    /// The settings it was started with.
    pub config: Config,
    /// Counters of the connections as such.
    pub connections: Connections,
    workers: Box<[CachePadded<WorkerCounters>]>,
    /// When it was started, on the store's clock.
    pub started: Now,
    verbosity: AtomicU32,
    flushes_refused: Counter,
}

/// A number that grows, and that `stats reset` sets back without disturbing who counts.
#[derive(Debug, Default)]
pub struct Counter {
    value: AtomicU64,
    /// The value at the last reset. Kept apart because an owner's load and store must not meet a foreign store of 0.
    base: AtomicU64,
}

impl Counter {
    /// Adds `n`. For counters that several threads write.
    pub fn add(&self, n: u64) {
        // Relaxed, here and below: statistics; no other memory is read on the strength of these values, and a sum may lag.
        self.value.fetch_add(n, Relaxed);
    }

    /// Adds `n`. For counters that one thread alone writes: a plain load and store, no locked instruction.
    #[inline]
    pub fn add_owned(&self, n: u64) {
        self.value.store(self.value.load(Relaxed).wrapping_add(n), Relaxed);
    }

    /// The number since the last reset.
    pub fn get(&self) -> u64 {
        self.value.load(Relaxed).wrapping_sub(self.base.load(Relaxed))
    }

    /// Starts again at 0.
    pub fn reset(&self) {
        self.base.store(self.value.load(Relaxed), Relaxed);
    }
}

/// What one worker counts; written by that worker alone.
#[derive(Debug, Default)]
pub struct WorkerCounters {
    /// Bytes received.
    pub bytes_read: Counter,
    /// Bytes sent.
    pub bytes_written: Counter,
    /// Turns that ended because of `-R`.
    pub conn_yields: Counter,
    /// Connections that were closed because their unsent answers took too much memory.
    pub response_obj_oom: Counter,
    /// Connections that were closed because a bug in their task made it panic.
    pub panics: Counter,
    /// Bytes of unsent answers and unfinished input at the moment.
    pub connection_bytes: AtomicUsize,
}

/// Connections, counted over all workers and listeners.
#[derive(Debug, Default)]
pub struct Connections {
    current: AtomicUsize,
    /// Accepted, turned away or not.
    pub total: Counter,
    /// Turned away because of `-c`.
    pub rejected: Counter,
    /// Times that a listener had to stop accepting for want of file descriptors.
    pub listen_disabled: Counter,
    /// Microseconds that were lost so.
    pub listen_disabled_us: Counter,
    /// Listeners that are pausing at the moment.
    pub listeners_paused: AtomicUsize,
}

impl Connections {
    /// Open connections.
    pub fn current(&self) -> usize {
        self.current.load(Relaxed)
    }
}

/// One open connection, as far as `-c` is concerned; it ends with this value.
#[derive(Debug)]
pub struct Seat(Arc<Service>);

impl Drop for Seat {
    fn drop(&mut self) {
        // Relaxed: a limit on a number, which guards no memory.
        self.0.connections.current.fetch_sub(1, Relaxed);
    }
}

impl Service {
    /// A service for `workers` workers.
    pub fn new(store: Arc<Store>, config: Config, workers: usize) -> Service {
        let started = store.clock().now();
        Service {
            store,
            connections: Connections::default(),
            workers: (0..workers).map(|_| CachePadded::default()).collect(),
            started,
            verbosity: AtomicU32::new(u32::from(config.verbosity)),
            flushes_refused: Counter::default(),
            config,
        }
    }

    /// Takes one of the `-c` seats, if there is one left.
    pub fn seat(self: &Arc<Self>) -> Option<Seat> {
        // Relaxed: see `Seat`. Adding first and looking afterwards lets several listeners race without passing the limit.
        if self.connections.current.fetch_add(1, Relaxed) < self.config.connections_max {
            Some(Seat(Arc::clone(self)))
        } else {
            self.connections.current.fetch_sub(1, Relaxed);
            None
        }
    }

    /// The counters of all workers; the index is the worker's number.
    pub fn workers(&self) -> &[CachePadded<WorkerCounters>] {
        &self.workers
    }

    /// The sum of one counter over all workers.
    pub fn sum(&self, counter: impl Fn(&WorkerCounters) -> &Counter) -> u64 {
        self.workers.iter().map(|worker| counter(worker).get()).sum()
    }

    /// flush_all commands that `-F` refused: memcached counts them with the others.
    pub fn flushes_refused(&self) -> u64 {
        self.flushes_refused.get()
    }

    /// See [`flushes_refused`](Self::flushes_refused).
    pub fn count_refused_flush(&self) {
        self.flushes_refused.add(1);
    }

    /// The verbosity that `stats settings` shows.
    pub fn verbosity(&self) -> u32 {
        self.verbosity.load(Relaxed)
    }

    /// Sets it; 2 is the highest there is (protocol 3).
    pub fn set_verbosity(&self, level: u32) {
        self.verbosity.store(level.min(2), Relaxed);
    }

    /// `stats reset`.
    pub fn reset(&self) {
        self.store.reset_stats();
        for worker in &self.workers {
            let WorkerCounters {
                bytes_read,
                bytes_written,
                conn_yields,
                response_obj_oom,
                panics,
                connection_bytes: _,
            } = &**worker;
            for counter in [bytes_read, bytes_written, conn_yields, response_obj_oom, panics] {
                counter.reset();
            }
        }
        let Connections { total, rejected, listen_disabled, listen_disabled_us, .. } = &self.connections;
        for counter in [total, rejected, listen_disabled, listen_disabled_us, &self.flushes_refused] {
            counter.reset();
        }
    }

    /// Panics if the input holds what a test planted in the configuration.
    #[inline]
    pub fn inject_fault(&self, input: &[u8]) {
        if let Some(fault) = &self.config.panic_on_input
            && memchr::memmem::find(input, fault).is_some()
        {
            panic!("fault injected by a test");
        }
    }
}

impl std::fmt::Debug for Service {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Service").field("config", &self.config).field("connections", &self.connections).finish()
    }
}
