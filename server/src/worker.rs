//! A worker: one thread with an executor, a reactor and a desk, and the connections it was dealt.
//!
//! The desk is what a turn of a connection works on: the buffers, the plan and the way into the store. A turn borrows it from
//! beginning to end and is synchronous, so one desk serves all connections of the worker and no borrow lives across an `.await`.

use std::cell::{Cell, RefCell};
use std::collections::HashSet;
use std::io;
use std::os::fd::OwnedFd;
use std::panic::AssertUnwindSafe;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use concurrent_queue::ConcurrentQueue;
use memkv_engine::store::{Handle, LargeValue};
use smol::LocalExecutor;
use smol::future::FutureExt as _;

use crate::command::Plan;
use crate::connection::{self, Connection};
use crate::idle::IdleWatch;
use crate::latency::Countdown;
use crate::limits::{
    CUT_SHORT_QUARTERS, IDLE_SWEEP_PERIOD, LOOSE_PART_OF_MEMORY, PRESSED_QUARTERS, READ_BUFFER_BYTES, SHED_INTERVAL,
    SHED_INTERVAL_SHORT, SHUTDOWN_GRACE, STAGED_KEYS_MAX, UNSENT_QUARTERS, WORKER_MEMORY_BYTES_MIN,
};
use crate::output::Output;
use crate::protocol::parse::likely_key;
use crate::reactor::{Notifier, Reactor, Source};
use crate::service::{Insight, Seat, Service, WorkerCounters};

/// What a turn works on.
pub struct Desk {
    /// Where reads go.
    pub input: Box<[u8]>,
    /// What is to be done.
    pub plan: Plan,
    /// Where answers go.
    pub output: Output,
    /// The way into the store.
    pub handle: Handle,
    /// Which turns are measured for `stats latency`.
    pub turns: Countdown,
    /// Hashes of keys that are fetched ahead.
    ahead: Vec<u64>,
}

/// The worker as its own connections see it.
pub struct Worker {
    /// What all workers share.
    pub service: Arc<Service>,
    /// The desk; borrowed for a turn, never longer.
    pub desk: RefCell<Desk>,
    index: usize,
    reactor: Rc<Reactor>,
    /// What the connections of this worker may own together.
    memory_max: usize,
    /// The connections that must not be idle for too long, if there is such a limit.
    pub idle: Option<IdleWatch>,
    /// The sources of connections that hold a large value which their clients have not taken.
    holders: RefCell<HashSet<usize>>,
    /// When to look at them again, after a look that did not help yet.
    next_shed: Cell<Option<Instant>>,
    /// What the reactor has received and nobody has taken, as it was entered into the account.
    aside_bytes: Cell<usize>,
}

/// What a connection may own more of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Owned {
    /// Input that is not a whole command, or has to wait.
    Input,
    /// Answers that the socket did not take.
    Unsent,
}

/// A large value that a connection keeps for its client.
pub struct Held {
    /// The value.
    pub value: LargeValue,
    /// The key of the connection's source.
    holder: usize,
    worker: Rc<Worker>,
}

impl Drop for Held {
    fn drop(&mut self) {
        self.worker.holders.borrow_mut().remove(&self.holder);
    }
}

/// The worker as the other threads see it.
pub struct WorkerThread {
    mailbox: Arc<Mailbox>,
    notifier: Notifier,
    reactor: &'static str,
    thread: JoinHandle<()>,
}

/// Where a worker finds what others have for it.
struct Mailbox {
    arrivals: ConcurrentQueue<Arrival>,
    stop: AtomicBool,
}

/// A client that has been accepted.
struct Arrival {
    socket: OwnedFd,
    seat: Seat,
}

impl WorkerThread {
    /// Starts worker number `index`.
    ///
    /// # Errors
    /// If the system refuses the thread or the reactor's descriptors.
    pub fn start(index: usize, service: Arc<Service>) -> io::Result<WorkerThread> {
        let mailbox = Arc::new(Mailbox { arrivals: ConcurrentQueue::unbounded(), stop: AtomicBool::new(false) });
        let (ready, started) = mpsc::sync_channel(1);
        let thread = std::thread::Builder::new().name(format!("memkv-worker-{index}")).spawn({
            let mailbox = Arc::clone(&mailbox);
            // The reactor belongs to its thread, so it is made there.
            move || match Reactor::new(service.config.reactor, service.workers().len()) {
                Ok(reactor) => {
                    let facts = (reactor.notifier(), reactor.name());
                    let worker = Worker::new(index, service, reactor);
                    let _ = ready.send(Ok(facts));
                    worker.run(&mailbox);
                }
                Err(error) => {
                    let _ = ready.send(Err(error));
                }
            }
        })?;
        let (notifier, reactor) = started.recv().map_err(|_| io::Error::other("a worker died at its start"))??;
        Ok(WorkerThread { mailbox, notifier, reactor, thread })
    }

    /// What ends a wait of the worker.
    pub fn notifier(&self) -> Notifier {
        Arc::clone(&self.notifier)
    }

    /// By what it waits.
    pub fn reactor(&self) -> &'static str {
        self.reactor
    }

    /// Hands a client over, in non-blocking mode.
    pub fn deal(&self, socket: OwnedFd, seat: Seat) {
        // The queue is unbounded and never closed, so it takes everything.
        let _ = self.mailbox.arrivals.push(Arrival { socket, seat });
        self.notifier.notify();
    }

    /// Asks the worker to answer what has arrived, close its connections and end.
    pub fn stop(&self) {
        // Release: pairs with the Acquire load in `Worker::run`; arrivals dealt before are seen by the worker's last look.
        self.mailbox.stop.store(true, Ordering::Release);
        self.notifier.notify();
    }

    /// Waits for the end of the thread.
    pub fn join(self) {
        if self.thread.join().is_err() {
            tracing::error!("a worker thread panicked");
        }
    }
}

impl Worker {
    fn new(index: usize, service: Arc<Service>, reactor: Reactor) -> Rc<Worker> {
        let desk = Desk {
            input: vec![0; READ_BUFFER_BYTES].into(),
            plan: Plan::default(),
            output: Output::new(),
            handle: service.store.handle(),
            turns: Countdown::default(),
            ahead: Vec::with_capacity(STAGED_KEYS_MAX),
        };
        let idle_timeout_s = service.config.idle_timeout_s;
        let idle = (idle_timeout_s > 0).then(|| IdleWatch::new(idle_timeout_s, service.now_ms()));
        let share = service.config.connection_memory() / service.workers().len();
        Rc::new(Worker {
            service,
            desk: RefCell::new(desk),
            index,
            reactor: Rc::new(reactor),
            memory_max: share.max(WORKER_MEMORY_BYTES_MIN),
            idle,
            holders: RefCell::default(),
            next_shed: Cell::new(None),
            aside_bytes: Cell::new(0),
        })
    }

    /// The counters that this worker writes.
    pub fn counters(&self) -> &WorkerCounters {
        &self.service.workers()[self.index]
    }

    /// What this worker shows of its work beside its counters.
    pub fn insight(&self) -> &Insight {
        &self.service.insights()[self.index]
    }

    /// The worker's number.
    pub fn index(&self) -> usize {
        self.index
    }

    /// Something that ends a wait of this worker from another thread.
    pub fn notifier(&self) -> Notifier {
        self.reactor.notifier()
    }

    /// Replaces one connection's entry in the account of what connections own.
    pub fn account(&self, before: usize, after: usize) {
        // Relaxed: this worker alone writes it, and others only show it.
        let account = &self.counters().connection_bytes;
        account.store(account.load(Ordering::Relaxed) - before + after, Ordering::Relaxed);
    }

    /// Whether the connections own more than `quarters` of what they may.
    fn owns_more_than(&self, quarters: usize) -> bool {
        self.counters().connection_bytes.load(Ordering::Relaxed) > self.memory_max / 4 * quarters
    }

    /// Whether the connections own more than they may, as far as that is for more of `what`.
    pub fn owns_too_much(&self, what: Owned) -> bool {
        self.owns_more_than(match what {
            Owned::Input => 4,
            Owned::Unsent => UNSENT_QUARTERS,
        })
    }

    /// Whether the connections own so much that small pieces are better for all.
    pub fn is_pressed(&self) -> bool {
        self.owns_more_than(PRESSED_QUARTERS)
    }

    /// Whether the connections own so much that clients which do not keep up should get no further answers.
    pub fn cuts_short(&self) -> bool {
        self.owns_more_than(CUT_SHORT_QUARTERS)
    }

    /// Keeps a large value for a client: one, until it is dropped.
    pub fn hold(self: &Rc<Self>, value: LargeValue, source: &Source) -> Held {
        self.holders.borrow_mut().insert(source.key());
        Held { value, holder: source.key(), worker: Rc::clone(self) }
    }

    /// Whether large values that no item has any more, and that clients are still reading, take too much of the memory.
    pub fn must_shed(&self) -> bool {
        self.service.store.loose_large_bytes() > self.loose_max()
    }

    fn loose_max(&self) -> u64 {
        self.service.store.memory_limit() as u64 / LOOSE_PART_OF_MEMORY
    }

    /// Lets every connection that holds a large value look whether it must go.
    fn shed(&self) {
        let holders = self.holders.borrow();
        if holders.is_empty() || !self.must_shed() {
            self.next_shed.set(None);
            return;
        }
        let now = Instant::now();
        if self.next_shed.get().is_none_or(|at| now >= at) {
            self.next_shed.set(Some(now + SHED_INTERVAL_SHORT));
            holders.iter().for_each(|&key| self.reactor.nudge_sender(key));
        }
    }

    /// How long to wait at most: what other workers' clients store may make what ours hold too much.
    fn patience(&self) -> Option<Duration> {
        if self.holders.borrow().is_empty() {
            return None;
        }
        let is_near = self.service.store.loose_large_bytes() > self.loose_max() / 2;
        Some(if is_near { SHED_INTERVAL_SHORT } else { SHED_INTERVAL })
    }

    /// Serves until it is told to stop, and then until the last answers are sent or the grace is over.
    fn run(self: Rc<Self>, mailbox: &Mailbox) {
        let executor = LocalExecutor::new();
        // Acquire: see `WorkerThread::stop`.
        while !mailbox.stop.load(Ordering::Acquire) {
            self.admit(mailbox, &executor);
            if let Some(idle) = &self.idle {
                idle.sweep(self.service.now_ms());
            }
            let busy = run_tasks(&executor, self.reactor.tasks_per_wait());
            let timeout = self.idle.as_ref().map(|_| IDLE_SWEEP_PERIOD).into_iter().chain(self.patience()).min();
            self.wait(if busy { Some(Duration::ZERO) } else { timeout });
            self.look_ahead();
            self.shed();
        }
        self.admit(mailbox, &executor);
        self.reactor.drain();
        let deadline = Instant::now() + SHUTDOWN_GRACE;
        while !executor.is_empty() && Instant::now() < deadline {
            let busy = run_tasks(&executor, self.reactor.tasks_per_wait());
            if !executor.is_empty() {
                self.wait(Some(if busy { Duration::ZERO } else { deadline.saturating_duration_since(Instant::now()) }));
            }
        }
    }

    fn wait(&self, timeout: Option<Duration>) {
        self.reactor.press(self.is_pressed());
        if let Err(error) = self.reactor.wait(timeout) {
            // Only memory or a broken descriptor table can bring this about; going on is all that can be done.
            tracing::error!(worker = self.index, %error, "cannot wait for sockets");
            std::thread::sleep(Duration::from_millis(10));
        }
        let aside = self.reactor.aside_bytes();
        let before = self.aside_bytes.replace(aside);
        if before != aside {
            self.account(before, aside);
        }
    }

    /// Fetches ahead what the requests that have arrived on different connections will ask for, so that their cache misses overlap like those
    /// of a pipeline.
    fn look_ahead(&self) {
        if self.reactor.arrivals() < 2 {
            return;
        }
        let mut desk = self.desk.borrow_mut();
        let Desk { handle, ahead, .. } = &mut *desk;
        ahead.clear();
        let batch = handle.batch();
        self.reactor.each_arrival(|input| {
            if ahead.len() < STAGED_KEYS_MAX
                && let Some(key) = likely_key(input)
            {
                let hash = batch.hash(key);
                batch.prefetch_bucket(hash);
                ahead.push(hash);
            }
        });
        ahead.iter().for_each(|hash| batch.prefetch_record(*hash));
    }

    /// Starts a task for each client that was dealt.
    fn admit(self: &Rc<Self>, mailbox: &Mailbox, executor: &LocalExecutor<'_>) {
        while let Ok(Arrival { socket, seat }) = mailbox.arrivals.pop() {
            match self.reactor.register(socket) {
                Ok(source) => {
                    let connection = Connection::new(source, Rc::clone(self), seat);
                    executor.spawn(guarded(connection::serve(connection), Rc::clone(self))).detach();
                }
                Err(error) => tracing::warn!(worker = self.index, %error, "cannot watch a socket"),
            }
        }
    }
}

/// Runs tasks that are ready, within bounds; says whether some may be left.
fn run_tasks(executor: &LocalExecutor<'_>, tasks_max: usize) -> bool {
    (0..tasks_max).all(|_| executor.try_tick())
}

/// A task whose panic ends its own connection and nothing else.
///
/// Unwinding drops the connection, ends its batch and returns the desk. What is left on the desk is forgotten by the next turn, so
/// no other connection meets what the broken one left behind.
async fn guarded(task: impl Future<Output = ()>, worker: Rc<Worker>) {
    if AssertUnwindSafe(task).catch_unwind().await.is_err() {
        worker.counters().panics.add_owned(1);
        tracing::error!(worker = worker.index, "a connection was closed because its task panicked");
    }
}
