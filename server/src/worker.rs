//! A worker: one thread with an executor, a reactor and a desk, and the connections it was dealt.
//!
//! The desk is what a turn of a connection works on: the buffers, the plan and the way into the store. A turn borrows it from
//! beginning to end and is synchronous, so one desk serves all connections of the worker and no borrow lives across an `.await`.

use std::cell::RefCell;
use std::io;
use std::os::fd::OwnedFd;
use std::panic::AssertUnwindSafe;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use concurrent_queue::ConcurrentQueue;
use memkv_engine::store::Handle;
use smol::LocalExecutor;
use smol::future::FutureExt as _;

use crate::command::Plan;
use crate::connection::{self, Connection};
use crate::idle::IdleWatch;
use crate::latency::Countdown;
use crate::limits::{
    CONNECTION_MEMORY_BYTES, IDLE_SWEEP_PERIOD, PRESSED_SHARE, READ_BUFFER_BYTES, SHUTDOWN_GRACE, TASKS_PER_WAIT,
};
use crate::output::Output;
use crate::reactor::{Notifier, Reactor};
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
}

/// The worker as the other threads see it.
pub struct WorkerThread {
    mailbox: Arc<Mailbox>,
    notifier: Notifier,
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
            move || match Reactor::new(service.config.reactor) {
                Ok(reactor) => {
                    let notifier = reactor.notifier();
                    let worker = Worker::new(index, service, reactor);
                    let _ = ready.send(Ok(notifier));
                    worker.run(&mailbox);
                }
                Err(error) => {
                    let _ = ready.send(Err(error));
                }
            }
        })?;
        let notifier = started.recv().map_err(|_| io::Error::other("a worker died at its start"))??;
        Ok(WorkerThread { mailbox, notifier, thread })
    }

    /// What ends a wait of the worker.
    pub fn notifier(&self) -> Notifier {
        Arc::clone(&self.notifier)
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
        };
        let memory_max = CONNECTION_MEMORY_BYTES / service.workers().len();
        let idle_timeout_s = service.config.idle_timeout_s;
        let idle = (idle_timeout_s > 0).then(|| IdleWatch::new(idle_timeout_s, service.now_ms()));
        Rc::new(Worker { service, desk: RefCell::new(desk), index, reactor: Rc::new(reactor), memory_max, idle })
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

    /// Replaces one connection's entry in the account of what connections own; says whether all of it is within bounds.
    pub fn account(&self, before: usize, after: usize) -> bool {
        // Relaxed: this worker alone writes it, and others only show it.
        let account = &self.counters().connection_bytes;
        let bytes = account.load(Ordering::Relaxed) - before + after;
        account.store(bytes, Ordering::Relaxed);
        bytes <= self.memory_max
    }

    /// Whether the connections own so much that small pieces are better for all.
    pub fn is_pressed(&self) -> bool {
        self.counters().connection_bytes.load(Ordering::Relaxed) > self.memory_max / PRESSED_SHARE
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
            let busy = run_tasks(&executor);
            let timeout = self.idle.as_ref().map(|_| IDLE_SWEEP_PERIOD);
            self.wait(if busy { Some(Duration::ZERO) } else { timeout });
        }
        self.admit(mailbox, &executor);
        self.reactor.drain();
        let deadline = Instant::now() + SHUTDOWN_GRACE;
        while !executor.is_empty() && Instant::now() < deadline {
            let busy = run_tasks(&executor);
            if !executor.is_empty() {
                self.wait(Some(if busy { Duration::ZERO } else { deadline.saturating_duration_since(Instant::now()) }));
            }
        }
    }

    fn wait(&self, timeout: Option<Duration>) {
        if let Err(error) = self.reactor.wait(timeout) {
            // Only memory or a broken descriptor table can bring this about; going on is all that can be done.
            tracing::error!(worker = self.index, %error, "cannot wait for sockets");
            std::thread::sleep(Duration::from_millis(10));
        }
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
fn run_tasks(executor: &LocalExecutor<'_>) -> bool {
    (0..TASKS_PER_WAIT).all(|_| executor.try_tick())
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
