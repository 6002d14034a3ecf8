//! The loop that keeps a share of the connections busy: one thread, one poller, no locks.
//!
//! Closed here: a connection sends when its last answer has come. Open in `open`: requests are sent when they are due.

mod open;

use crate::connection::{Connection, Desk};
use crate::cpu;
use crate::error::Error;
use crate::judge::Author;
use crate::poller::{Events, Poller};
use crate::record::{Fault, Live, Record};
use crate::schedule::Schedule;
use crate::target::Target;
use crate::workload::{Draft, Items, Source};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// Bytes read at once.
const BUFFER_BYTES: usize = 256 << 10;
/// Longest wait in one go: bounds how late a stop or a deadline is noticed when nothing happens.
const WAIT_MAX: Duration = Duration::from_millis(50);

/// One thread's share of the load.
#[derive(Debug)]
pub(crate) struct Worker {
    poller: Poller,
    /// `None` where a connection was lost.
    connections: Vec<Option<Connection>>,
    renewal: Renewal,
    items: Arc<Items>,
    author: Author,
    buffer: Box<[u8]>,
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
        poller: &Poller,
        record: &mut Record,
    ) -> Result<(), Error> {
        if !slot.as_ref().is_some_and(Connection::is_spent) {
            return Ok(());
        }
        let start = Instant::now();
        // The old one first: its port and its place in the server's limit are free then.
        *slot = None;
        match self.target.try_connect() {
            Ok(socket) => {
                record.connected(start.elapsed());
                poller.add(&socket, token)?;
                *slot = Some(Connection::new(socket, self.requests_per_connection));
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
        items: Arc<Items>,
        author: Author,
    ) -> Result<Self, Error> {
        let poller = Poller::new()?;
        let mut open = Vec::with_capacity(connections);
        for token in 0..connections {
            let connection = Connection::new(target.connect()?, u64::MAX);
            poller.add(connection.socket(), token)?;
            open.push(Some(connection));
        }
        Ok(Self {
            poller,
            connections: open,
            renewal: Renewal { target: target.clone(), requests_per_connection: u64::MAX },
            items,
            author,
            buffer: vec![0; BUFFER_BYTES].into_boxed_slice(),
            record: Record::default(),
        })
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
        for (token, slot) in self.connections.iter_mut().enumerate() {
            self.renewal.renew(slot, token, &self.poller, &mut self.record)?;
        }
        let ended = match schedule {
            Some(schedule) => self.drive_open(source, schedule, drive),
            None => self.drive_closed(source, drive),
        };
        self.record.client_cpu_ns += cpu::thread_cpu_ns() - cpu_start;
        drive.live.publish(&self.record);
        ended
    }

    fn drive_closed<S: Source>(&mut self, source: &mut S, drive: Drive<'_>) -> Result<Ended, Error> {
        let Self { poller, connections, renewal, items, author, buffer, record } = self;
        let mut desk = Desk { items, author, strict: drive.strict, open_loop: false, source, record };
        let mut draft = Draft::default();
        let mut events = Events::new();
        let mut busy = 0_usize;
        for slot in connections.iter_mut() {
            if may_send(drive)
                && let Some(connection) = slot
            {
                match send_batch(connection, drive.depth, &mut draft, &mut desk) {
                    Ok(in_flight) => busy += usize::from(in_flight > 0),
                    Err(fault) => lose(slot, fault, desk.record),
                }
            }
        }
        let mut last_event = Instant::now();
        while busy > 0 {
            let happened = poller.wait(&mut events, WAIT_MAX)?;
            let now = Instant::now();
            if happened > 0 {
                last_event = now;
            } else if now.duration_since(last_event) > drive.patience {
                give_up(connections, desk.record);
                return Ok(Ended::Stalled);
            }
            let sending = drive.deadline.is_none_or(|deadline| now < deadline) && !stopped(drive);
            for event in events.iter() {
                let slot = &mut connections[event.token];
                let Some(connection) = slot else { continue };
                let was_busy = connection.in_flight() > 0;
                let outcome = serve(connection, buffer, event.hung_up, sending, drive.depth, &mut draft, &mut desk);
                let outcome = match outcome {
                    Ok(()) if sending && connection.is_spent() => {
                        renewal.renew(slot, event.token, poller, desk.record)?;
                        // Nothing has happened on the new one that would make an event.
                        slot.as_mut().map_or(Ok(()), |connection| {
                            send_batch(connection, drive.depth, &mut draft, &mut desk).map(drop)
                        })
                    }
                    outcome => outcome,
                };
                let is_busy = outcome.is_ok() && slot.as_ref().is_some_and(|connection| connection.in_flight() > 0);
                busy = busy - usize::from(was_busy) + usize::from(is_busy);
                if let Err(fault) = outcome {
                    lose(slot, fault, desk.record);
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
}

fn may_send(drive: Drive<'_>) -> bool {
    !stopped(drive) && drive.deadline.is_none_or(|deadline| Instant::now() < deadline)
}

fn stopped(drive: Drive<'_>) -> bool {
    // Relaxed: a wish to end; no memory is read on the strength of it.
    drive.stop.load(Ordering::Relaxed)
}

/// One turn of a connection: send what is left, read what came, and if that settles everything send the next batch.
#[inline]
fn serve<S: Source>(
    connection: &mut Connection,
    buffer: &mut [u8],
    hung_up: bool,
    sending: bool,
    depth: usize,
    draft: &mut Draft,
    desk: &mut Desk<'_, S>,
) -> Result<(), Fault> {
    connection.flush(desk.record)?;
    connection.receive(buffer, hung_up, desk)?;
    if sending && connection.in_flight() == 0 {
        send_batch(connection, depth, draft, desk)?;
    }
    Ok(())
}

/// Sends up to `depth` requests together; says how many there were.
#[inline]
fn send_batch<S: Source>(
    connection: &mut Connection,
    depth: usize,
    draft: &mut Draft,
    desk: &mut Desk<'_, S>,
) -> Result<usize, Fault> {
    let composing = Instant::now();
    desk.source.begin_batch();
    for _ in 0..depth {
        if connection.is_retired() {
            break;
        }
        draft.keys.clear();
        if !desk.source.next(draft) {
            break;
        }
        connection.push(draft, composing, composing, desk);
    }
    connection.restart_clock();
    connection.flush(desk.record)?;
    Ok(connection.in_flight())
}

/// Counts a lost connection and what was in flight on it, and closes it.
fn lose(slot: &mut Option<Connection>, fault: Fault, record: &mut Record) {
    if let Some(connection) = slot.take() {
        record.fault(fault, 1);
        record.fault(Fault::Unanswered, connection.in_flight() as u64);
    }
}

/// Closes the connections that still wait for answers.
fn give_up(connections: &mut [Option<Connection>], record: &mut Record) {
    for slot in connections {
        if let Some(connection) = slot.take_if(|connection| connection.in_flight() > 0) {
            record.fault(Fault::Unanswered, connection.in_flight() as u64);
        }
    }
}
