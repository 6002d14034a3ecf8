//! Watching: log lines of what the server does, for connections that asked for them (protocol 11).
//!
//! Nobody watches as a rule. Then all that is left of this is [`Hub::observed`], one relaxed load for each batch of commands.
//! While somebody does, whoever has something to tell makes a line of it once and leaves it with each watcher of its stream: in
//! a queue of the watcher's own, bounded in bytes. What does not fit is dropped and counted, and the watcher is told
//! `skipped=<n>` in its place. The watcher's connection is woken and sends what has gathered, like any other answer, so a watcher
//! that does not read costs its queue and nothing else.

use std::io::Write as _;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock, PoisonError, RwLock};
use std::task::{Context, Poll};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use atomic_waker::AtomicWaker;
use concurrent_queue::ConcurrentQueue;
use memkv_engine::store::{Batch, Eviction, Expiry, Seen, Store};

use crate::limits::WATCHERS_MAX;
use crate::output::Output;
use crate::protocol::Reply;
use crate::protocol::admin::streams;
use crate::protocol::encode::{number, uri};
use crate::reactor::Notifier;
use crate::service::{Counter, Service};

/// Set in [`Hub::observed`] while `stats detail` counts: it wants to be told of the same things.
pub const DETAIL: u32 = 1 << 16;

/// The watchers of a server, and what they watch.
#[derive(Debug)]
pub struct Hub {
    /// The streams that somebody watches, and [`DETAIL`].
    observed: AtomicU32,
    watchers: RwLock<Vec<Arc<Watcher>>>,
    next_gid: AtomicU64,
    /// Lines made.
    pub written: Counter,
    /// Evictions that came faster than they could be told.
    pub dropped: Counter,
    /// Lines that a watcher was too slow for.
    pub skipped: Counter,
    /// Lines handed to watchers.
    pub sent: Counter,
}

/// One watcher's queue.
pub struct Watcher {
    streams: u32,
    lines: ConcurrentQueue<Arc<[u8]>>,
    /// Bytes in `lines`.
    bytes: AtomicUsize,
    bytes_max: usize,
    /// Lines dropped since the watcher was last told.
    skipped: AtomicU64,
    /// Whether the connection has been told that there is something.
    pending: AtomicBool,
    waker: AtomicWaker,
    /// Ends the wait of the worker that the connection lives on; none in tests without workers.
    notifier: OnceLock<Notifier>,
}

/// A connection's watching, which ends when this is dropped.
pub struct Watching {
    service: Arc<Service>,
    /// The connection's queue.
    pub watcher: Arc<Watcher>,
}

impl Default for Hub {
    fn default() -> Hub {
        Hub {
            observed: AtomicU32::new(0),
            watchers: RwLock::default(),
            next_gid: AtomicU64::new(1),
            written: Counter::default(),
            dropped: Counter::default(),
            skipped: Counter::default(),
            sent: Counter::default(),
        }
    }
}

impl Hub {
    /// What is observed at the moment: bits of [`streams`], and [`DETAIL`].
    #[inline]
    pub fn observed(&self) -> u32 {
        // Relaxed: a watcher sees what happens soon after; no other memory is read on the strength of this.
        self.observed.load(Ordering::Relaxed)
    }

    /// Watchers at the moment.
    pub fn watchers(&self) -> usize {
        self.read().len()
    }

    /// Turns the observation for `stats detail` on or off.
    pub fn set_detail(&self, on: bool) {
        if on {
            self.observed.fetch_or(DETAIL, Ordering::Relaxed);
        } else {
            self.observed.fetch_and(!DETAIL, Ordering::Relaxed);
        }
    }

    fn read(&self) -> std::sync::RwLockReadGuard<'_, Vec<Arc<Watcher>>> {
        // The list is whole at any moment, whoever may have panicked.
        self.watchers.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds or removes watchers, and brings what is observed in line with them.
    fn change(&self, store: &Store, change: impl FnOnce(&mut Vec<Arc<Watcher>>)) {
        let mut watchers = self.watchers.write().unwrap_or_else(PoisonError::into_inner);
        change(&mut watchers);
        let wanted = watchers.iter().fold(0, |all, watcher| all | watcher.streams);
        // Under the lock, so that the last change decides.
        let detail = self.observed.load(Ordering::Relaxed) & DETAIL;
        self.observed.store(wanted | detail, Ordering::Relaxed);
        store.watch_evictions(wanted & streams::EVICTIONS != 0);
    }

    /// Makes a line of what `rest` writes, and leaves it with the watchers of `stream`.
    #[cold]
    pub fn publish(&self, stream: u32, rest: impl FnOnce(&mut Vec<u8>)) {
        let watchers = self.read();
        if !watchers.iter().any(|watcher| watcher.streams & stream != 0) {
            return;
        }
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        // Relaxed: ids are unique and grow; lines may overtake each other (protocol 11).
        let gid = self.next_gid.fetch_add(1, Ordering::Relaxed);
        let mut line = Vec::with_capacity(256);
        let _ = write!(line, "ts={}.{} gid={gid} ", now.as_secs(), now.subsec_micros());
        rest(&mut line);
        line.push(b'\n');
        self.written.add(1);
        let line: Arc<[u8]> = line.into();
        for watcher in watchers.iter().filter(|watcher| watcher.streams & stream != 0) {
            if !watcher.push(&line) {
                self.skipped.add(1);
            }
        }
    }

    /// Tells of the evictions since the last time.
    #[cold]
    pub fn publish_evictions(&self, store: &Store) {
        let lost = store.drain_evictions(|eviction| {
            let Eviction { key, fetched, remaining_s, idle_s, value_len } = eviction;
            self.publish(streams::EVICTIONS, |line| {
                line.extend_from_slice(b"type=eviction key=");
                uri(line, &key);
                let ttl = remaining_s.map_or("-1".to_owned(), |left_s| left_s.to_string());
                let fetched = if fetched { "yes" } else { "no" };
                let _ = write!(line, " fetch={fetched} ttl={ttl} la={idle_s} clsid=1 size={value_len}");
            });
        });
        if lost > 0 {
            self.dropped.add(lost);
            for watcher in self.read().iter().filter(|watcher| watcher.streams & streams::EVICTIONS != 0) {
                watcher.skipped.fetch_add(lost, Ordering::Relaxed);
                watcher.wake();
            }
        }
    }
}

impl Watching {
    /// Begins to watch.
    ///
    /// # Errors
    /// If that is forbidden, or there are as many watchers as there may be.
    pub fn begin(service: &Arc<Service>, wanted: u32) -> Result<Watching, Reply> {
        if !service.config.watch_allowed {
            return Err(Reply::WatchForbidden);
        }
        let watcher = Arc::new(Watcher {
            streams: wanted,
            lines: ConcurrentQueue::unbounded(),
            bytes: AtomicUsize::new(0),
            bytes_max: service.config.watcher_buffer_bytes,
            skipped: AtomicU64::new(0),
            pending: AtomicBool::new(false),
            waker: AtomicWaker::new(),
            notifier: OnceLock::new(),
        });
        let mut fits = false;
        service.watch.change(&service.store, |watchers| {
            fits = watchers.len() < WATCHERS_MAX;
            if fits {
                watchers.push(Arc::clone(&watcher));
            }
        });
        if fits { Ok(Watching { service: Arc::clone(service), watcher }) } else { Err(Reply::TooManyWatchers) }
    }

    /// Moves lines into the output, until that is full or none is left.
    pub fn drain(&self, output: &mut Output) {
        let watcher = &*self.watcher;
        // SeqCst: we take the mark back and then look; `push` adds a line and then looks at the mark. One must see the other, or a
        // line would wait for the next one.
        watcher.pending.store(false, Ordering::SeqCst);
        if self.service.watch.observed() & streams::EVICTIONS != 0 {
            self.service.watch.publish_evictions(&self.service.store);
        }
        while !output.is_full() {
            let Ok(line) = watcher.lines.pop() else {
                let skipped = watcher.skipped.swap(0, Ordering::Relaxed);
                if skipped > 0 {
                    skipped_line(&mut output.bytes, skipped);
                }
                return;
            };
            watcher.bytes.fetch_sub(line.len(), Ordering::Relaxed);
            output.bytes.extend_from_slice(&line);
            self.service.watch.sent.add(1);
        }
        watcher.pending.store(true, Ordering::SeqCst);
    }
}

impl Drop for Watching {
    fn drop(&mut self) {
        let Watching { service, watcher } = self;
        service.watch.change(&service.store, |watchers| watchers.retain(|other| !Arc::ptr_eq(other, watcher)));
    }
}

impl std::fmt::Debug for Watching {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Watching").field(&self.watcher).finish()
    }
}

impl std::fmt::Debug for Watcher {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Watcher").field("streams", &self.streams).field("bytes", &self.bytes).finish_non_exhaustive()
    }
}

fn skipped_line(out: &mut Vec<u8>, skipped: u64) {
    out.extend_from_slice(b"skipped=");
    number(out, skipped);
    out.push(b'\n');
}

impl Watcher {
    /// Leaves a line. False if there was no room for it.
    fn push(&self, line: &Arc<[u8]>) -> bool {
        // Relaxed: an account. Adding first and looking afterwards lets several threads race without passing the limit.
        let before = self.bytes.fetch_add(line.len(), Ordering::Relaxed);
        let fits = before + line.len() <= self.bytes_max;
        if fits {
            let skipped = self.skipped.swap(0, Ordering::Relaxed);
            if skipped > 0 {
                let mut gap = Vec::new();
                skipped_line(&mut gap, skipped);
                self.bytes.fetch_add(gap.len(), Ordering::Relaxed);
                let _ = self.lines.push(gap.into());
            }
            // The queue is unbounded and never closed.
            let _ = self.lines.push(Arc::clone(line));
        } else {
            self.bytes.fetch_sub(line.len(), Ordering::Relaxed);
            self.skipped.fetch_add(1, Ordering::Relaxed);
        }
        self.wake();
        fits
    }

    fn wake(&self) {
        // SeqCst: see `Watching::drain`.
        if !self.pending.swap(true, Ordering::SeqCst) {
            self.waker.wake();
            if let Some(notifier) = self.notifier.get() {
                notifier.notify();
            }
        }
    }

    /// Names the worker that has to be woken for the connection's sake.
    pub fn live_on(&self, notifier: Notifier) {
        let _ = self.notifier.set(notifier);
    }

    /// Whether there may be lines.
    pub fn is_pending(&self) -> bool {
        self.pending.load(Ordering::SeqCst)
    }

    /// Waits until there may be lines.
    pub fn poll_pending(&self, context: &Context<'_>) -> Poll<()> {
        self.waker.register(context.waker());
        if self.is_pending() { Poll::Ready(()) } else { Poll::Pending }
    }
}

/// Tells watchers and the prefix table what commands do. Made for a batch of commands; does nothing if nobody observes.
#[derive(Clone, Copy)]
pub struct Observer<'s> {
    service: &'s Service,
    observed: u32,
    cfd: i32,
}

impl<'s> Observer<'s> {
    /// An observer for a connection with this descriptor.
    #[inline]
    pub fn new(service: &'s Service, cfd: i32) -> Observer<'s> {
        Observer { service, observed: service.watch.observed(), cfd }
    }

    /// Whether anybody observes anything.
    #[inline]
    pub fn is_on(self) -> bool {
        self.observed != 0
    }

    fn watches(self, stream: u32) -> bool {
        self.observed & stream != 0
    }

    /// A key is about to be looked up, by a get if `is_get`.
    #[cold]
    pub fn fetch(self, key: &[u8], hash: u64, is_get: bool, batch: &Batch<'_>) {
        let seen = batch.peek(key, hash);
        if is_get && self.watches(DETAIL) {
            self.service.prefixes.count_get(key, matches!(seen, Seen::Found { .. }));
        }
        if !self.watches(streams::FETCHERS) {
            return;
        }
        let (status, class, len) = match seen {
            Seen::Found { value_len, .. } => ("found", 1, value_len),
            Seen::NotFound => ("not_found", 0, 0),
            Seen::Expired => ("expired", 1, 0),
            Seen::Flushed => ("flushed", 1, 0),
        };
        self.service.watch.publish(streams::FETCHERS, |line| {
            line.extend_from_slice(b"type=item_get key=");
            uri(line, key);
            let _ = write!(line, " status={status} clsid={class} cfd={} size={len}", self.cfd);
        });
    }

    /// A storage command came to an end.
    #[cold]
    pub fn stored(self, stored: &Mutation<'_>, hash: u64, batch: &Batch<'_>) {
        if stored.is_classic && self.watches(DETAIL) {
            self.service.prefixes.count_set(stored.key);
        }
        if !self.watches(streams::MUTATIONS) {
            return;
        }
        let (mut len, mut expiry) = (stored.value_len, stored.expiry);
        if stored.status == "stored"
            && let Seen::Found { value_len, expiry: ends } = batch.peek(stored.key, hash)
        {
            (len, expiry) = (value_len, ends);
        }
        let ttl = expiry.remaining_s(batch.now()).unwrap_or(0);
        self.service.watch.publish(streams::MUTATIONS, |line| {
            line.extend_from_slice(b"type=item_store key=");
            uri(line, stored.key);
            let _ = write!(
                line,
                " status={} cmd={} ttl={ttl} clsid=1 cfd={} size={len}",
                stored.status, stored.command, self.cfd
            );
        });
    }

    /// Bytes of the value of an item that is about to be deleted.
    #[cold]
    pub fn before_delete(self, key: &[u8], hash: u64, is_classic: bool, batch: &Batch<'_>) -> usize {
        if is_classic && self.watches(DETAIL) {
            self.service.prefixes.count_delete(key);
        }
        match batch.peek(key, hash) {
            Seen::Found { value_len, .. } => value_len,
            _ => 0,
        }
    }

    /// An item has been deleted by this command.
    #[cold]
    pub fn deleted(self, key: &[u8], command: &str, value_len: usize) {
        if self.watches(streams::DELETIONS) {
            self.service.watch.publish(streams::DELETIONS, |line| {
                line.extend_from_slice(b"type=deleted key=");
                uri(line, key);
                let _ = write!(line, " cmd={command} clsid=1 size={value_len}");
            });
        }
    }

    /// A batch of commands has run: tells of what it evicted.
    #[cold]
    pub fn batch_done(self) {
        if self.watches(streams::EVICTIONS) {
            self.service.watch.publish_evictions(&self.service.store);
        }
    }
}

/// A storage command and how it ended.
#[derive(Clone, Copy, Debug)]
pub struct Mutation<'k> {
    /// The key.
    pub key: &'k [u8],
    /// `stored`, `not_stored`, `exists`, `not_found`, `too_large` or `no_memory`.
    pub status: &'static str,
    /// Which command.
    pub command: &'static str,
    /// Bytes of the value that came with it.
    pub value_len: usize,
    /// The expiry that came with it.
    pub expiry: Expiry,
    /// Whether it is none of the meta commands.
    pub is_classic: bool,
}

/// Why a connection ended, in the words of the `connevents` stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// The client left, or broke a rule.
    Normal,
    /// The connection broke down.
    Error,
    /// It was idle for too long.
    IdleTimeout,
    /// The server stops.
    Shutdown,
}

impl Ended {
    fn word(self) -> &'static str {
        match self {
            Ended::Normal => "normal",
            Ended::Error => "error",
            Ended::IdleTimeout => "idle_timeout",
            Ended::Shutdown => "shutdown",
        }
    }
}

impl Service {
    /// A connection has been taken in.
    #[inline]
    pub fn tell_connected(&self, peer: Option<SocketAddr>, cfd: i32) {
        if self.watch.observed() & streams::CONNEVENTS != 0 {
            self.watch.publish(streams::CONNEVENTS, |line| {
                line.extend_from_slice(b"type=conn_new ");
                remote(line, peer);
                let _ = write!(line, "transport={} cfd={cfd}", transport(peer));
            });
        }
    }

    /// A connection is about to be closed.
    #[inline]
    pub fn tell_closed(&self, peer: Option<SocketAddr>, cfd: i32, ended: Ended) {
        if self.watch.observed() & streams::CONNEVENTS != 0 {
            self.watch.publish(streams::CONNEVENTS, |line| {
                line.extend_from_slice(b"type=conn_close ");
                remote(line, peer);
                let _ = write!(line, "transport={} reason={} cfd={cfd}", transport(peer), ended.word());
            });
        }
    }

    /// A crawl has ended.
    pub fn tell_crawled(&self, elapsed: Duration, next_run: Duration, examined: u64, reclaimed: u64) {
        if self.watch.observed() & streams::SYSEVENTS != 0 {
            self.watch.publish(streams::SYSEVENTS, |line| {
                let _ = write!(
                    line,
                    "type=lru_crawler crawler=1 lru=cold low_mark=0 next_reclaims=0 since_run=0 next_run={} elapsed={} \
                     examined={examined} reclaimed={reclaimed}",
                    next_run.as_secs(),
                    elapsed.as_secs()
                );
            });
        }
    }
}

fn remote(line: &mut Vec<u8>, peer: Option<SocketAddr>) {
    let _ = match peer {
        Some(peer) => write!(line, "rip={} rport={} ", peer.ip(), peer.port()),
        None => write!(line, "rip=unix rport=0 "),
    };
}

fn transport(peer: Option<SocketAddr>) -> &'static str {
    if peer.is_some() { "tcp" } else { "local" }
}
