//! What all connections share: the store, the settings, and the counters that are the server's own.

use std::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Instant;

use crossbeam_utils::CachePadded;
use event_listener::{Event, IntoNotification as _};
use memkv_engine::clock::{AdjustableClock, Now};
use memkv_engine::store::Store;

use crate::auth::Auth;
use crate::config::Config;
use crate::crawler::Crawler;
use crate::hotkeys::Shared as HotKeys;
use crate::latency::Histograms;
use crate::prefixes::Prefixes;
use crate::protocol::{Stop, TimeStep};
use crate::reactor::Notifier;
use crate::roster::Roster;
use crate::tunables::Tunables;
use crate::watch::Hub;

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
    /// Who watches what.
    pub watch: Hub,
    /// What `stats detail` counts.
    pub prefixes: Prefixes,
    /// The crawler.
    pub crawler: Crawler,
    /// The sockets that listen.
    pub listening: Roster,
    insights: Box<[CachePadded<Insight>]>,
    latency_epoch: AtomicU32,
    tunables: Mutex<Tunables>,
    verbosity: AtomicU32,
    flushes_refused: Counter,
    /// Who may use the server; everybody if there is nothing here.
    pub auth: Option<Auth>,
    /// Connections that were closed because they had been idle for too long.
    pub idle_kicks: Counter,
    /// Moves the store's clock, where debugtime may.
    clock: Option<AdjustableClock>,
    /// Ends the waits of the workers; set when they have started.
    notifiers: OnceLock<Vec<Notifier>>,
    reactors: OnceLock<Vec<&'static str>>,
    stop_requests: (smol::channel::Sender<Stop>, smol::channel::Receiver<Stop>),
}

/// What one worker shows of its work beside its counters.
#[derive(Debug, Default)]
pub struct Insight {
    /// How long commands took.
    pub latency: Histograms,
    /// Which keys were asked for most.
    pub hot_keys: HotKeys,
    /// Its connections.
    pub roster: Roster,
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
    /// Answers that were cut short, by an error or by closing the connection, because unsent answers took too much memory.
    pub response_obj_oom: Counter,
    /// Connections that were closed because unfinished input took too much memory.
    pub read_buf_oom: Counter,
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
    /// Tells a listener that waits with a client in its hand that one of the `-c` seats is free.
    seat_freed: Event,
}

/// A time in which a listener accepts nobody; it ends with this value.
pub struct Pause<'c> {
    connections: &'c Connections,
    started: Instant,
}

impl Drop for Pause<'_> {
    fn drop(&mut self) {
        self.connections.listen_disabled_us.add(self.started.elapsed().as_micros() as u64);
        self.connections.listeners_paused.fetch_sub(1, Relaxed);
    }
}

impl Connections {
    /// Begins a pause of a listener.
    pub fn pause(&self) -> Pause<'_> {
        self.listen_disabled.add(1);
        // Relaxed: shown by `stats` only.
        self.listeners_paused.fetch_add(1, Relaxed);
        Pause { connections: self, started: Instant::now() }
    }

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
        // Relaxed: a limit on a number, which guards no memory; the event orders itself.
        self.0.connections.current.fetch_sub(1, Relaxed);
        self.0.connections.seat_freed.notify(1.additional());
    }
}

impl Service {
    /// A service for `workers` workers.
    pub fn new(store: Arc<Store>, config: Config, workers: usize) -> Service {
        let started = store.clock().now();
        let watch = Hub::default();
        watch.set_detail(config.detail);
        Service {
            store,
            connections: Connections::default(),
            workers: (0..workers).map(|_| CachePadded::default()).collect(),
            insights: (0..workers).map(|_| CachePadded::default()).collect(),
            latency_epoch: AtomicU32::new(0),
            prefixes: Prefixes::new(config.prefix_delimiter),
            crawler: Crawler::default(),
            listening: Roster::default(),
            tunables: Mutex::new(config.tunables.clone()),
            watch,
            started,
            verbosity: AtomicU32::new(u32::from(config.verbosity)),
            flushes_refused: Counter::default(),
            auth: None,
            idle_kicks: Counter::default(),
            clock: None,
            notifiers: OnceLock::new(),
            reactors: OnceLock::new(),
            stop_requests: smol::channel::bounded(1),
            config,
        }
    }

    /// The same, open to these users only.
    pub fn with_auth(mut self, auth: Option<Auth>) -> Service {
        self.auth = auth;
        self
    }

    /// The same, with the hands of the store's clock, so that debugtime can move it.
    pub fn with_hands(mut self, clock: Option<AdjustableClock>) -> Service {
        self.clock = clock;
        self
    }

    /// Learns how the workers are woken, and by which reactors they wait, once they run.
    pub fn set_workers(&self, notifiers: Vec<Notifier>, reactors: Vec<&'static str>) {
        let set = self.notifiers.set(notifiers).is_ok() && self.reactors.set(reactors).is_ok();
        debug_assert!(set, "a server starts its workers once");
    }

    /// By which reactors the workers wait: a name, or several if the system did not allow all of them the first. "none" without workers.
    pub fn reactors(&self) -> String {
        let mut names = self.reactors.get().cloned().unwrap_or_default();
        names.dedup();
        if names.is_empty() { "none".to_owned() } else { names.join(",") }
    }

    /// Changes the server's time and lets everybody look at the clock again; says whether that is possible.
    pub fn change_time(&self, step: TimeStep) -> bool {
        let Some(clock) = &self.clock else { return false };
        match step {
            TimeStep::Forward(seconds) => clock.advance_ms(u64::from(seconds) * 1000),
            TimeStep::Pause => clock.pause(),
            TimeStep::Resume => clock.resume(),
        }
        self.notifiers.get().into_iter().flatten().for_each(|notifier| notifier.notify());
        true
    }

    /// The server's monotonic time in milliseconds.
    pub fn now_ms(&self) -> u64 {
        self.store.clock().now().mono_ms
    }

    /// Asks whoever runs the server to stop it.
    pub fn request_stop(&self, stop: Stop) {
        // A full channel means that somebody has asked already.
        let _ = self.stop_requests.0.try_send(stop);
    }

    /// Waits until somebody asks that the server be stopped.
    pub async fn stop_requested(&self) -> Stop {
        match self.stop_requests.1.recv().await {
            Ok(stop) => stop,
            Err(_) => unreachable!("the service holds both ends of the channel"),
        }
    }

    /// Takes one of the `-c` seats, if there is one left.
    pub fn seat(self: &Arc<Self>) -> Option<Seat> {
        let more = |current: usize| (current < self.config.connections_max).then_some(current + 1);
        // Relaxed: see `Seat`. In one step, so that a listener that finds no seat does not hide a free one from another.
        self.connections.current.fetch_update(Relaxed, Relaxed, more).ok().map(|_| Seat(Arc::clone(self)))
    }

    /// Takes one of the `-c` seats, as soon as there is one. What time is spent with waiting counts as time in which nobody is
    /// accepted.
    pub async fn seat_when_free(self: &Arc<Self>) -> Seat {
        if let Some(seat) = self.seat() {
            return seat;
        }
        let _pause = self.connections.pause();
        loop {
            // Listened for before looking, so that no seat is given back unnoticed in between.
            let freed = self.connections.seat_freed.listen();
            if let Some(seat) = self.seat() {
                return seat;
            }
            freed.await;
        }
    }

    /// The counters of all workers; the index is the worker's number.
    pub fn workers(&self) -> &[CachePadded<WorkerCounters>] {
        &self.workers
    }

    /// What the workers show of their work; the index is the worker's number.
    pub fn insights(&self) -> &[CachePadded<Insight>] {
        &self.insights
    }

    /// How often the latencies have been reset.
    #[inline]
    pub fn latency_epoch(&self) -> u32 {
        // Relaxed: see `Counter`.
        self.latency_epoch.load(Relaxed)
    }

    /// What administration commands have set. Keep it for a moment only.
    pub fn tunables(&self) -> MutexGuard<'_, Tunables> {
        // Each setting stands for itself, whoever may have panicked.
        self.tunables.lock().unwrap_or_else(PoisonError::into_inner)
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
                read_buf_oom,
                panics,
                connection_bytes: _,
            } = &**worker;
            for counter in [bytes_read, bytes_written, conn_yields, response_obj_oom, read_buf_oom, panics] {
                counter.reset();
            }
        }
        self.latency_epoch.fetch_add(1, Relaxed);
        self.insights.iter().for_each(|insight| insight.hot_keys.clear());
        self.prefixes.clear();
        let Hub { written, dropped, skipped, sent, .. } = &self.watch;
        let Crawler { starts, checked, reclaimed, .. } = &self.crawler;
        for counter in [written, dropped, skipped, sent, starts, checked, reclaimed] {
            counter.reset();
        }
        let Connections { total, rejected, listen_disabled, listen_disabled_us, .. } = &self.connections;
        let own = [&self.flushes_refused, &self.idle_kicks];
        let auth = self.auth.iter().flat_map(|auth| [&auth.commands, &auth.errors]);
        for counter in [total, rejected, listen_disabled, listen_disabled_us].into_iter().chain(own).chain(auth) {
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
