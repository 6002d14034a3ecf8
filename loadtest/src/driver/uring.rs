//! The driver that lets the kernel receive by itself and hands over what is to be sent once a turn: io_uring.
//!
//! Every connection has one receive that goes on (`multishot`) and takes a buffer from a common stock when bytes have come. What a
//! turn composes on all connections is handed over together by the system call that then waits. Latencies of a closed loop
//! begin right before it and end right behind it.
//!
//! A completion is of no interest when its connection has been replaced: ids carry the number of its predecessors.

use super::Driver;
use crate::connection::{Connection, Desk};
use crate::error::Error;
use crate::record::{Fault, Record};
use crate::workload::Source;
use memkv_ring::{Completion, ENTRIES, Op, Ring, Setup};
use rustix::io::Errno;
use rustix::net::{Shutdown, shutdown};
use std::io;
use std::time::{Duration, Instant};

/// Length of a buffer: most answers fit, and a long one is put together from several.
pub(super) const BUFFER_BYTES: usize = 16 << 10;
/// Buffers are fewer than this, however many connections there are: a receive that finds none is begun again.
const BUFFERS_MAX: usize = 1024;
/// Turns that are spent at most on the end of what is pending; it takes one for some twenty connections.
const RELEASE_TURNS_MAX: usize = 10_000;
/// How long one of them waits at most.
const RELEASE_TIMEOUT: Duration = Duration::from_millis(10);

#[derive(Debug)]
pub(crate) struct Uring {
    ring: Ring,
    open_loop: bool,
    slots: Vec<Slot>,
    /// Connections for which something is to be handed over.
    listed: Vec<usize>,
    /// Receives that have not ended.
    receives: usize,
    /// Turns spent on their end.
    release_turns: usize,
    /// When the last turn ended.
    now: Instant,
}

/// What the driver knows of a connection.
#[derive(Clone, Copy, Debug, Default)]
struct Slot {
    /// Connections that were here before.
    generation: u32,
    is_listed: bool,
    wants_receive: bool,
    wants_send: bool,
    wants_room: bool,
    /// What is to be sent was composed since the last turn.
    is_fresh: bool,
    /// The system takes no more until it has room.
    is_blocked: bool,
    /// Bytes handed over by the last send.
    offered: usize,
}

/// What a completion is about.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Kind {
    Receive,
    Send,
    Room,
}

/// Generations beyond this begin anew.
const GENERATION_MASK: u32 = (1 << 30) - 1;

fn id(token: usize, generation: u32, kind: Kind) -> u64 {
    token as u64 | u64::from(generation & GENERATION_MASK) << 32 | (kind as u64) << 62
}

/// Room for all that one turn can bring, so that no completion waits behind what the next turn sends: each connection's short send, its
/// end of a receive for want of a buffer and its room to send, and every buffer.
fn setup(connections: usize) -> Setup {
    Setup {
        buffers: connections.next_power_of_two().clamp(16, BUFFERS_MAX) as u16,
        buffer_bytes: BUFFER_BYTES,
        completions: (connections * 4 + BUFFERS_MAX).next_power_of_two().clamp(2 * ENTRIES as usize, 1 << 16) as u32,
    }
}

/// The parts of an id.
fn parts(id: u64) -> (usize, u32, Kind) {
    let kind = match id >> 62 {
        0 => Kind::Receive,
        1 => Kind::Send,
        _ => Kind::Room,
    };
    (id as u32 as usize, (id >> 32) as u32 & GENERATION_MASK, kind)
}

impl Uring {
    /// A driver for so many connections, to be used by the calling thread alone.
    ///
    /// # Errors
    /// When the system has no io_uring, forbids it, or lacks something of Linux 6.1.
    pub(crate) fn new(connections: usize, open_loop: bool) -> io::Result<Self> {
        Ok(Self {
            ring: Ring::new(setup(connections))?,
            open_loop,
            slots: vec![Slot::default(); connections],
            listed: Vec::new(),
            receives: 0,
            release_turns: 0,
            now: Instant::now(),
        })
    }

    /// Changes what is wanted for a connection, and lists it for the next turn.
    #[inline]
    fn want(&mut self, token: usize, change: impl FnOnce(&mut Slot)) {
        let slot = &mut self.slots[token];
        change(slot);
        if !slot.is_listed {
            slot.is_listed = true;
            self.listed.push(token);
        }
    }

    /// Hands over what is wanted and waits.
    fn turn(
        &mut self,
        connections: &mut [Option<Connection>],
        timeout: Duration,
        record: &mut Record,
    ) -> Result<(), Error> {
        let failed = |source| Error::System { action: "send and receive through io_uring", source };
        if !self.open_loop && !self.listed.is_empty() {
            let now = Instant::now();
            for &token in self.listed.iter().filter(|token| self.slots[**token].is_fresh) {
                if let Some(connection) = &mut connections[token] {
                    connection.restart_clock(now);
                }
            }
        }
        let ops = self.listed.iter().flat_map(|&token| {
            let slot = self.slots[token];
            let connection = connections[token].as_ref();
            let op = |wanted: bool, kind, op: fn(&Connection) -> Op<'_>| {
                connection.filter(|_| wanted).map(|connection| (id(token, slot.generation, kind), op(connection)))
            };
            let receive = op(slot.wants_receive, Kind::Receive, |connection| Op::Receive(connection.socket()));
            let send = op(slot.wants_send, Kind::Send, |connection| Op::Send(connection.socket(), connection.unsent()));
            let room = op(slot.wants_room, Kind::Room, |connection| Op::AwaitRoom(connection.socket()));
            [receive, send, room].into_iter().flatten()
        });
        self.ring.turn(ops, Some(timeout)).map_err(failed)?;
        for token in self.listed.drain(..) {
            let slot = &mut self.slots[token];
            if let Some(connection) = &mut connections[token] {
                self.receives += usize::from(slot.wants_receive);
                if slot.wants_send {
                    slot.offered = connection.unsent().len();
                    connection.add_sent(slot.offered, record);
                }
            }
            *slot = Slot {
                generation: slot.generation,
                is_blocked: slot.is_blocked,
                offered: slot.offered,
                ..Slot::default()
            };
        }
        self.now = Instant::now();
        Ok(())
    }
}

impl Driver for Uring {
    type Event = Kind;

    fn watch(&mut self, token: usize, _connection: &Connection) -> Result<(), Error> {
        self.want(token, |slot| slot.wants_receive = true);
        Ok(())
    }

    fn forget(&mut self, token: usize, connection: &Connection) {
        let slot = &mut self.slots[token];
        let generation = slot.generation.wrapping_add(1) & GENERATION_MASK;
        *slot = Slot { generation, is_listed: slot.is_listed, ..Slot::default() };
        // What is pending keeps the socket open, and ends with this. It fails where the server has hung up before.
        let _ = shutdown(connection.socket(), Shutdown::Both);
    }

    #[inline]
    fn send(&mut self, token: usize, connection: &mut Connection, _record: &mut Record) -> Result<(), Fault> {
        connection.close_quiet();
        self.want(token, |slot| {
            slot.is_fresh = true;
            slot.wants_send = !slot.is_blocked;
        });
        Ok(())
    }

    fn wait(
        &mut self,
        connections: &mut [Option<Connection>],
        timeout: Duration,
        record: &mut Record,
    ) -> Result<bool, Error> {
        self.turn(connections, timeout, record)?;
        Ok(self.ring.ready() > 0)
    }

    #[inline]
    fn next_event(&mut self) -> Option<(usize, Kind)> {
        while self.ring.advance() {
            let completion = self.ring.current()?;
            let (token, generation, kind) = parts(completion.id);
            self.receives -= usize::from(kind == Kind::Receive && !completion.goes_on);
            if self.slots[token].generation == generation {
                return Some((token, kind));
            }
        }
        None
    }

    #[inline]
    fn take<S: Source>(
        &mut self,
        kind: Kind,
        token: usize,
        connection: &mut Connection,
        desk: &mut Desk<'_, S>,
    ) -> Result<(), Fault> {
        let Some(Completion { result, bytes, goes_on, .. }) = self.ring.current() else { return Ok(()) };
        match (kind, result) {
            (Kind::Receive, Ok(0)) => return Err(Fault::ConnectionLost),
            (Kind::Receive, Ok(_)) => {
                connection.take(bytes, self.now, desk)?;
                if !goes_on {
                    self.want(token, |slot| slot.wants_receive = true);
                }
            }
            // All buffers are in use, until this turn is over.
            (Kind::Receive, Err(Errno::NOBUFS | Errno::AGAIN | Errno::INTR)) => {
                self.want(token, |slot| slot.wants_receive = true);
            }
            // By `release`.
            (Kind::Receive | Kind::Room, Err(Errno::CANCELED)) => {}
            (Kind::Send, Ok(_) | Err(Errno::AGAIN | Errno::INTR)) => {
                let missing = self.slots[token].offered.saturating_sub(result.unwrap_or(0));
                connection.take_back(missing, desk.record);
                self.want(token, |slot| {
                    (slot.is_blocked, slot.wants_room, slot.wants_send) = (true, true, false);
                });
            }
            (Kind::Room, Ok(_)) => {
                self.want(token, |slot| {
                    (slot.is_blocked, slot.wants_send) = (false, true);
                });
            }
            (_, Err(_)) => return Err(Fault::ConnectionLost),
        }
        Ok(())
    }

    fn release(&mut self, connections: &mut [Option<Connection>], record: &mut Record) -> Result<bool, Error> {
        if self.receives == 0 || self.release_turns == RELEASE_TURNS_MAX {
            return Ok(false);
        }
        self.release_turns += 1;
        self.ring.cancel_all();
        // Nothing is begun any more.
        self.listed.drain(..).for_each(|token| self.slots[token].is_listed = false);
        self.turn(connections, RELEASE_TIMEOUT, record)?;
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_carry_place_generation_and_kind() {
        for kind in [Kind::Receive, Kind::Send, Kind::Room] {
            for (token, generation) in [(0, 0), (1, GENERATION_MASK), (24_999, 77), (u32::MAX as usize, 1)] {
                assert_eq!(parts(id(token, generation, kind)), (token, generation, kind));
            }
        }
    }
}
