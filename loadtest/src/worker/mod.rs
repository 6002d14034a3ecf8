//! The loop that keeps a share of the connections busy: one thread, one driver, no locks.
//!
//! Closed here: a connection sends when its last answer has come. Open in `open`: requests are sent when they are due.

mod open;

use crate::connection::{Connection, Desk};
use crate::cpu;
use crate::driver::{Driver, Epoll, Io, IoChoice, Uring};
use crate::error::Error;
use crate::judge::Author;
use crate::record::{Fault, Live, Record};
use crate::schedule::Schedule;
use crate::target::Target;
use crate::workload::{Draft, Items, Source};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// Longest wait in one go: bounds how late a stop or a deadline is noticed when nothing happens.
const WAIT_MAX: Duration = Duration::from_millis(50);

/// One thread's share of the load.
#[derive(Debug)]
pub(crate) struct Worker {
    io_choice: IoChoice,
    /// How the last drive talked to the system.
    pub(crate) io: Io,
    /// `None` where a connection was lost.
    connections: Vec<Option<Connection>>,
    renewal: Renewal,
    items: Arc<Items>,
    author: Author,
    /// See [`cpu::give_way`].
    pub(crate) gives_way: bool,
    pub(crate) record: Record,
}

/// How a connection that has served its time is replaced.
#[derive(Clone, Debug)]
struct Renewal {
    target: Target,
    requests_per_connection: u64,
}

impl Renewal {
    /// Opens a new connection in place of one that is spent. Waits for it: over a loopback that takes microseconds.
    fn renew(
        &self,
        slot: &mut Option<Connection>,
        token: usize,
        driver: &mut impl Driver,
        record: &mut Record,
    ) -> Result<(), Error> {
        let Some(spent) = slot.take_if(|connection| connection.is_spent()) else {
            return Ok(());
        };
        let start = Instant::now();
        // The old one first: its port and its place in the server's limit are free then.
        driver.forget(token, &spent);
        drop(spent);
        match self.target.try_connect() {
            Ok(socket) => {
                record.connected(start.elapsed());
                driver.watch(token, slot.insert(Connection::new(socket, self.requests_per_connection)))?;
            }
            Err(_) => record.fault(Fault::ConnectionRefused, 1),
        }
        Ok(())
    }
}

/// How long, how deep and under whose eyes to drive.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Drive<'a> {
    /// No request is sent after this.
    pub(crate) deadline: Option<Instant>,
    /// Closed loop: requests that are sent together on a connection, once all earlier ones are answered. Open loop: requests
    /// that may be in flight on a connection.
    pub(crate) depth: usize,
    /// How long nothing may happen while requests are in flight.
    pub(crate) patience: Duration,
    /// See [`Author::judge`].
    pub(crate) strict: bool,
    /// Set from outside to end early.
    pub(crate) stop: &'a AtomicBool,
    /// Where to show the counters.
    pub(crate) live: &'a Live,
}

/// Why a drive ended.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Ended {
    /// The time was up, or everything was sent, and every request was answered.
    Done,
    /// It was told to stop.
    Stopped,
    /// No connection is left.
    AllConnectionsLost,
    /// The server left requests unanswered for too long.
    Stalled,
}

impl Worker {
    /// Opens the connections.
    ///
    /// # Errors
    /// When the server is out of reach or the system has no more sockets.
    pub(crate) fn connect(
        target: &Target,
        connections: usize,
        io: IoChoice,
        items: Arc<Items>,
        author: Author,
    ) -> Result<Self, Error> {
        let connections = (0..connections)
            .map(|_| Ok(Some(Connection::new(target.connect()?, u64::MAX))))
            .collect::<Result<_, Error>>()?;
        Ok(Self {
            io_choice: io,
            io: io.first(false, items.value_bytes.mean()),
            connections,
            renewal: Renewal { target: target.clone(), requests_per_connection: u64::MAX },
            items,
            author,
            gives_way: false,
            record: Record::default(),
        })
    }

    /// Number of connections that are open.
    pub(crate) fn open_connections(&self) -> usize {
        self.connections.iter().flatten().count()
    }

    /// Replaces connections from now on after so many requests.
    pub(crate) fn churn(&mut self, requests_per_connection: u64) {
        self.renewal.requests_per_connection = requests_per_connection;
        self.connections.iter_mut().flatten().for_each(|connection| connection.limit(requests_per_connection));
    }

    /// Sends the source's requests: by the schedule if there is one, else each connection its next batch as soon as the last
    /// one is answered.
    ///
    /// Returns when nothing is in flight any more. What happened is in `record`, added to what was there.
    pub(crate) fn drive<S: Source>(
        &mut self,
        source: &mut S,
        schedule: Option<Schedule>,
        drive: Drive<'_>,
    ) -> Result<Ended, Error> {
        let cpu_start = cpu::thread_cpu_ns();
        let open_loop = schedule.is_some();
        if self.gives_way {
            cpu::give_way();
        }
        let ended = match self.uring(open_loop)? {
            Some(mut uring) => self.drive_by(&mut uring, source, schedule, drive),
            None => self.drive_by(&mut Epoll::new(open_loop)?, source, schedule, drive),
        };
        self.record.client_cpu_ns += cpu::thread_cpu_ns() - cpu_start;
        drive.live.publish(&self.record);
        ended
    }

    /// A ring for the calling thread, if there is to be one.
    fn uring(&mut self, open_loop: bool) -> Result<Option<Uring>, Error> {
        self.io = self.io_choice.first(open_loop, self.items.value_bytes.mean());
        if self.io == Io::Epoll {
            return Ok(None);
        }
        match Uring::new(self.connections.len(), open_loop) {
            Ok(uring) => Ok(Some(uring)),
            Err(_) if self.io_choice == IoChoice::Auto => {
                (self.io_choice, self.io) = (IoChoice::Epoll, Io::Epoll);
                Ok(None)
            }
            Err(source) => Err(Error::System { action: "set up io_uring", source }),
        }
    }

    fn drive_by<S: Source, D: Driver>(
        &mut self,
        driver: &mut D,
        source: &mut S,
        schedule: Option<Schedule>,
        drive: Drive<'_>,
    ) -> Result<Ended, Error> {
        let Self { connections, renewal, items, author, record, .. } = self;
        for (token, slot) in connections.iter_mut().enumerate() {
            match slot {
                Some(connection) if !connection.is_spent() => driver.watch(token, connection)?,
                _ => renewal.renew(slot, token, driver, record)?,
            }
        }
        let open_loop = schedule.is_some();
        let mut desk = Desk { items, author, strict: drive.strict, open_loop, source, record };
        let ended = match schedule {
            Some(schedule) => open::drive(driver, connections, renewal, &mut desk, schedule, drive),
            None => drive_closed(driver, connections, renewal, &mut desk, drive),
        }?;
        while driver.release(connections, desk.record)? {
            while let Some((token, event)) = driver.next_event() {
                let slot = &mut connections[token];
                let Some(connection) = slot else { continue };
                if let Err(fault) = driver.take(event, token, connection, &mut desk) {
                    lose(slot, token, fault, driver, desk.record);
                }
            }
        }
        Ok(ended)
    }
}

fn drive_closed<S: Source, D: Driver>(
    driver: &mut D,
    connections: &mut [Option<Connection>],
    renewal: &Renewal,
    desk: &mut Desk<'_, S>,
    drive: Drive<'_>,
) -> Result<Ended, Error> {
    let mut draft = Draft::default();
    let mut busy = 0_usize;
    for (token, slot) in connections.iter_mut().enumerate() {
        let now = Instant::now();
        if may_send(drive, now)
            && let Some(connection) = slot
        {
            match send_batch(driver, token, connection, drive.depth, now, &mut draft, desk) {
                Ok(in_flight) => busy += usize::from(in_flight > 0),
                Err(fault) => lose(slot, token, fault, driver, desk.record),
            }
        }
    }
    let mut last_event = Instant::now();
    while busy > 0 {
        let happened = driver.wait(connections, WAIT_MAX, desk.record)?;
        let now = Instant::now();
        if happened {
            last_event = now;
        } else if now.duration_since(last_event) > drive.patience {
            give_up(connections, driver, desk.record);
            return Ok(Ended::Stalled);
        }
        let sending = may_send(drive, now);
        while let Some((token, event)) = driver.next_event() {
            let slot = &mut connections[token];
            let Some(connection) = slot else { continue };
            let was_busy = connection.in_flight() > 0;
            let mut outcome = driver.take(event, token, connection, desk);
            if sending && outcome.is_ok() {
                if connection.is_spent() {
                    // Nothing has happened on the new one that would make an event.
                    renewal.renew(slot, token, driver, desk.record)?;
                }
                if let Some(connection) = slot
                    && connection.in_flight() == 0
                {
                    outcome = send_batch(driver, token, connection, drive.depth, now, &mut draft, desk).map(drop);
                }
            }
            let is_busy = outcome.is_ok() && slot.as_ref().is_some_and(|connection| connection.in_flight() > 0);
            busy = busy - usize::from(was_busy) + usize::from(is_busy);
            if let Err(fault) = outcome {
                lose(slot, token, fault, driver, desk.record);
            }
        }
        drive.live.publish(desk.record);
    }
    Ok(if stopped(drive) {
        Ended::Stopped
    } else if connections.iter().all(Option::is_none) {
        Ended::AllConnectionsLost
    } else {
        Ended::Done
    })
}

fn may_send(drive: Drive<'_>, now: Instant) -> bool {
    !stopped(drive) && drive.deadline.is_none_or(|deadline| now < deadline)
}

fn stopped(drive: Drive<'_>) -> bool {
    // Relaxed: a wish to end; no memory is read on the strength of it.
    drive.stop.load(Ordering::Relaxed)
}

/// Sends up to `depth` requests together; says how many there were.
#[inline]
fn send_batch<S: Source, D: Driver>(
    driver: &mut D,
    token: usize,
    connection: &mut Connection,
    depth: usize,
    now: Instant,
    draft: &mut Draft,
    desk: &mut Desk<'_, S>,
) -> Result<usize, Fault> {
    desk.source.begin_batch();
    for _ in 0..depth {
        if connection.is_retired() {
            break;
        }
        draft.keys.clear();
        if !desk.source.next(draft) {
            break;
        }
        connection.push(draft, now, now, desk);
    }
    let in_flight = connection.in_flight();
    if in_flight > 0 {
        driver.send(token, connection, desk.record)?;
    }
    Ok(in_flight)
}

/// Counts a lost connection and what was in flight on it, and closes it.
fn lose(slot: &mut Option<Connection>, token: usize, fault: Fault, driver: &mut impl Driver, record: &mut Record) {
    if let Some(connection) = slot.take() {
        driver.forget(token, &connection);
        record.fault(fault, 1);
        record.fault(Fault::Unanswered, connection.in_flight() as u64);
    }
}

/// Closes the connections that still wait for answers.
fn give_up(connections: &mut [Option<Connection>], driver: &mut impl Driver, record: &mut Record) {
    for (token, slot) in connections.iter_mut().enumerate() {
        if let Some(connection) = slot.take_if(|connection| connection.in_flight() > 0) {
            driver.forget(token, &connection);
            record.fault(Fault::Unanswered, connection.in_flight() as u64);
        }
    }
}
