//! A connection: the only place where a [`Session`] meets a socket.
//!
//! A connection is one task on one worker for life. Its work is done in turns, each of them synchronous: one read into the worker's
//! input buffer, everything that is there parsed and run, one write from the worker's output buffer. Between turns the
//! task waits for the one thing it needs: input, room in the socket, or just its next turn.
//!
//! What the connection owns between turns is input that is not a whole command yet and answers that the client has not taken. Both
//! are bounded: nothing is read while answers are unsent, and answers are made in slices. An idle connection owns neither.
//!
//! What all connections of a worker own together is bounded, too ([`Worker::account`]). When it becomes much, slices become small; then a
//! client that has not kept up gets no further answers (an error in a multi-get, else it is closed; protocol 6.8); then what a
//! socket does not take is not kept, and at last unfinished input is not. Clients that keep up are concerned by none of it but
//! the small slices.

use std::io::{self, ErrorKind, IoSlice, IoSliceMut};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use memkv_engine::store::Handle;

use crate::idle::IdleNote;
use crate::latency::Class;
use crate::limits::{
    READ_BYTES_PRESSED, RESPONSE_SLICE_BYTES, RESPONSE_SLICE_SLOW_BYTES, RING_VALUE_BYTES_MAX, SLICES_PER_TURN,
};
use crate::output::Output;
use crate::protocol::Reply;
use crate::protocol::encode::CRLF;
use crate::reactor::Source;
use crate::roster::{Doing, Presence};
use crate::service::Seat;
use crate::session::{Direct, Session, Status, Turn};
use crate::watch::Ended;
use crate::worker::{Desk, Held, Owned, Worker};

/// One client.
pub struct Connection {
    source: Source,
    session: Session,
    /// Input that is not a whole command yet, or that has to wait.
    unfinished: Vec<u8>,
    /// Answers that the socket did not take.
    unsent: Option<Box<Unsent>>,
    /// What the session waits for.
    status: Status,
    /// Whether the client did not take all of the last slice.
    slow: bool,
    /// Bytes that this connection has entered in the worker's account.
    owned_bytes: usize,
    presence: Arc<Presence>,
    /// Why it ends, once it does.
    ended: Ended,
    worker: Rc<Worker>,
    /// Where it says that it is not idle, if anybody wants to know.
    idle: Option<IdleNote>,
    _seat: Seat,
}

/// What a turn ends with.
enum Next {
    /// Wait for input.
    Receive,
    /// Wait until the socket takes more.
    Send,
    /// Let the other connections have their turn.
    Yield,
    /// Wait for log lines or input.
    Watch,
    /// Close the connection.
    Close,
}

/// The rest of a slice: `bytes`, then `large` and CRLF, of all of which `sent` bytes have gone.
struct Unsent {
    bytes: Vec<u8>,
    large: Option<Held>,
    sent: usize,
}

/// Serves a client until it leaves, breaks a rule, or the server stops.
pub async fn serve(mut connection: Connection) {
    loop {
        match connection.turn() {
            Next::Receive => connection.source.readable().await,
            Next::Send => connection.source.writable().await,
            Next::Yield => {
                connection.source.yields();
                smol::future::yield_now().await;
            }
            Next::Watch => connection.lines().await,
            Next::Close if connection.may_go() => return,
            // There is something left to be sent first.
            Next::Close => {}
        }
    }
}

impl Connection {
    /// A connection over `source`, about to begin.
    pub fn new(source: Source, worker: Rc<Worker>, seat: Seat) -> Connection {
        let service = &worker.service;
        let now_ms = service.now_ms();
        let presence = worker.insight().roster.enter(Presence::of(source.socket(), (now_ms / 1000) as u32));
        service.tell_connected(presence.peer.inet(), presence.fd);
        // Clients of a Unix socket may be idle for as long as they like.
        let watch = worker.idle.as_ref().filter(|_| presence.peer.inet().is_some());
        let idle = watch.map(|watch| watch.enter(source.canceller(), now_ms));
        Connection {
            source,
            session: Session::new(&worker.service),
            unfinished: Vec::new(),
            unsent: None,
            status: Status::Hungry,
            slow: false,
            owned_bytes: 0,
            presence,
            ended: Ended::Normal,
            worker,
            idle,
            _seat: seat,
        }
    }

    /// Does what can be done without waiting, within one turn's limits.
    fn turn(&mut self) -> Next {
        if let Some(next) = self.take_back().or_else(|| self.send_unsent()) {
            return next;
        }
        if self.status == Status::Close {
            return Next::Close;
        }
        // When the server stops, whatever has arrived is answered, announced by an event or not.
        let may_receive = self.source.may_receive() || self.source.is_draining();
        if self.status == Status::Hungry && self.source.take_cancelled() && !may_receive {
            self.worker.service.idle_kicks.add(1);
            return self.close(Ended::IdleTimeout);
        }
        if self.status == Status::Hungry && !may_receive {
            return self.rest();
        }
        let hungry = may_receive && matches!(self.status, Status::Hungry | Status::Watch);
        let worker = Rc::clone(&self.worker);
        let mut desk = worker.desk.borrow_mut();
        let started = desk.turns.is_due().then(Instant::now);
        self.presence.is_doing(Doing::Running);
        let next = self.work(hungry, &mut desk, &worker);
        drop(desk);
        if let Some(started) = started {
            worker.insight().latency.record(Class::Turn, started.elapsed(), worker.service.latency_epoch());
        }
        self.presence.is_doing(if self.unsent.is_some() { Doing::Writing } else { self.session.doing() });
        if let Some(idle) = &self.idle {
            let waiting = matches!(next, Next::Receive) && self.session.is_between_commands();
            idle.turn_ended(worker.service.now_ms(), waiting);
        }
        self.account().unwrap_or(next)
    }

    /// Ends a turn in which there is nothing to do, perhaps because the client has now taken what earlier turns left.
    fn rest(&mut self) -> Next {
        self.presence.is_doing(self.session.doing());
        if let Some(idle) = self.idle.as_ref().filter(|idle| !idle.is_waiting()) {
            idle.turn_ended(self.worker.service.now_ms(), self.session.is_between_commands());
        }
        self.account().unwrap_or(Next::Receive)
    }

    /// Waits for log lines, or for input, which a watcher sends to say goodbye.
    async fn lines(&self) {
        let Some(watcher) = self.session.watcher() else { return };
        watcher.live_on(self.worker.notifier());
        smol::future::or(self.source.readable(), std::future::poll_fn(|context| watcher.poll_pending(context))).await;
    }

    /// Receives if the session needs it, runs what is there, sends the answers, keeps the rest.
    fn work(&mut self, hungry: bool, desk: &mut Desk, worker: &Worker) -> Next {
        let Desk { input, plan, output, handle, .. } = desk;
        let counters = worker.counters();
        let pressed = worker.is_pressed();
        let mut len = self.unfinished.len();
        input[..len].copy_from_slice(&self.unfinished);
        if hungry {
            match self.receive(len, pressed, input, handle) {
                // The end of the stream; whatever was whole has been answered.
                Ok(Received { total: 0, .. }) => return self.close(Ended::Normal),
                Ok(received) => {
                    counters.bytes_read.add_owned(received.total as u64);
                    len += received.buffered;
                }
                Err(error) => {
                    let next = self.cannot_receive(&error);
                    // A watcher that says nothing may still have to be told something.
                    if self.status != Status::Watch || !matches!(next, Next::Receive) {
                        return next;
                    }
                }
            }
        }
        let mut at = 0;
        let mut commands_left = worker.service.config.commands_per_turn;
        for _ in 0..SLICES_PER_TURN {
            if matches!(self.status, Status::Full | Status::Yield) && self.slow && worker.cuts_short() {
                counters.response_obj_oom.add_owned(1);
                if !self.session.cut_short() {
                    return self.close(Ended::Error);
                }
            }
            output.begin(if self.slow || pressed { RESPONSE_SLICE_SLOW_BYTES } else { RESPONSE_SLICE_BYTES });
            let mut turn = Turn {
                handle,
                plan,
                output,
                service: &worker.service,
                worker: worker.index(),
                cfd: self.presence.fd,
                commands_left: &mut commands_left,
                ran_at_s: None,
            };
            let progress = self.session.advance(&input[at..len], &mut turn);
            if let Some(now_s) = turn.ran_at_s {
                self.presence.sent_command(now_s);
            }
            at += progress.consumed;
            self.status = progress.status;
            if !output.is_empty() && self.send(output).is_err() {
                return self.close(Ended::Error);
            }
            if self.unsent.is_some() || self.status != Status::Full {
                break;
            }
        }
        self.keep(&input[at..len]);
        self.source.expect_much(self.session.awaited_bytes() > RING_VALUE_BYTES_MAX);
        match self.status {
            _ if self.unsent.is_some() => Next::Send,
            Status::Close => Next::Close,
            Status::Full => Next::Yield,
            Status::Watch => Next::Watch,
            Status::Yield => {
                counters.conn_yields.add_owned(1);
                Next::Yield
            }
            // There is more already, but the others come first.
            Status::Hungry if self.source.may_receive() => Next::Yield,
            Status::Hungry => Next::Receive,
        }
    }

    /// Reads once: behind the `len` bytes of unfinished input, or into the value that is being received and what follows it.
    fn receive(&mut self, len: usize, pressed: bool, input: &mut [u8], handle: &mut Handle) -> io::Result<Received> {
        let room = if pressed { READ_BYTES_PRESSED } else { input.len() };
        let end = input.len().min(len + room);
        let buffer = &mut input[len..end];
        debug_assert!(!buffer.is_empty(), "a session never leaves a full read buffer unfinished");
        let Some(Direct { free, is_all }) = self.session.direct(handle) else {
            let total = self.source.receive(&mut [IoSliceMut::new(buffer)])?;
            return Ok(Received { total, buffered: total });
        };
        let direct_len = free.len();
        let total = match is_all {
            true => self.source.receive(&mut [IoSliceMut::new(free), IoSliceMut::new(buffer)])?,
            // What follows is part of the value, too: it is not to be copied.
            false => self.source.receive(&mut [IoSliceMut::new(free)])?,
        };
        self.session.direct_filled(total.min(direct_len));
        Ok(Received { total, buffered: total.saturating_sub(direct_len) })
    }

    /// What to do after a read that brought nothing.
    fn cannot_receive(&mut self, error: &io::Error) -> Next {
        match error.kind() {
            ErrorKind::WouldBlock if self.source.is_draining() => self.close(Ended::Shutdown),
            ErrorKind::WouldBlock => Next::Receive,
            ErrorKind::Interrupted => Next::Yield,
            // The connection is broken; a client that goes away without a word is nothing to report.
            _ => self.close(Ended::Error),
        }
    }

    /// Closes the connection, with a reason for those who watch.
    fn close(&mut self, ended: Ended) -> Next {
        self.ended = ended;
        Next::Close
    }

    /// Sends a slice with one write, and keeps what the socket does not take.
    fn send(&mut self, output: &mut Output) -> io::Result<()> {
        let large_len = output.large.as_ref().map_or(0, |large| large.len() + CRLF.len());
        let whole = output.bytes.len() + large_len;
        // Of a client that does not keep up, or that is to get more, it is to be known at once whether it has taken this.
        let sent = match &output.large {
            None if self.slow || self.status == Status::Full => self.source.send(&[IoSlice::new(&output.bytes)]),
            None => self.source.post(&output.bytes),
            Some(large) => self.source.send(&[IoSlice::new(&output.bytes), IoSlice::new(large), IoSlice::new(CRLF)]),
        };
        let sent = taken(sent)?;
        self.worker.counters().bytes_written.add_owned(sent as u64);
        self.slow = sent < whole;
        if self.slow {
            let copied = sent.min(output.bytes.len());
            let bytes = match self.returned() {
                // Then nothing more has gone.
                Some(mut returned) => {
                    returned.extend_from_slice(&output.bytes);
                    returned
                }
                None => output.bytes[copied..].to_vec(),
            };
            let large = output.large.take().map(|large| self.worker.hold(large, &self.source));
            self.unsent = Some(Box::new(Unsent { bytes, large, sent: sent - copied }));
        }
        Ok(())
    }

    /// What counted as sent and was not, if there is such.
    fn returned(&mut self) -> Option<Vec<u8>> {
        let returned = self.source.take_returned()?;
        self.worker.counters().bytes_written.add_owned((returned.len() as u64).wrapping_neg());
        Some(returned)
    }

    /// Takes over what counted as sent and was not. `None` unless it is too much.
    fn take_back(&mut self) -> Option<Next> {
        let bytes = self.returned()?;
        debug_assert!(self.unsent.is_none(), "what is unsent is sent before anything else");
        self.slow = true;
        self.unsent = Some(Box::new(Unsent { bytes, large: None, sent: 0 }));
        self.presence.is_doing(Doing::Writing);
        self.account()
    }

    /// Whether a connection that is to be closed may go: not before its last answers have.
    fn may_go(&self) -> bool {
        self.ended == Ended::Error || !self.source.flush().unwrap_or(false)
    }

    /// Sends what earlier turns left. `None` if nothing is left.
    fn send_unsent(&mut self) -> Option<Next> {
        let unsent = self.unsent.as_mut()?;
        let sent = match taken(unsent.send(&self.source)) {
            Ok(sent) => sent,
            Err(_) => return Some(self.close(Ended::Error)),
        };
        self.worker.counters().bytes_written.add_owned(sent as u64);
        unsent.sent += sent;
        if unsent.sent < unsent.len() {
            // The client takes nothing, and what it holds is missing elsewhere.
            let is_in_the_way = sent == 0 && unsent.holds_what_is_gone() && self.worker.must_shed();
            if is_in_the_way {
                self.worker.counters().response_obj_oom.add_owned(1);
            }
            return Some(if is_in_the_way { self.close(Ended::Error) } else { Next::Send });
        }
        self.unsent = None;
        None
    }

    /// Keeps input for the next turn, and no memory if there is none.
    fn keep(&mut self, rest: &[u8]) {
        if !rest.is_empty() {
            self.unfinished.clear();
            self.unfinished.extend_from_slice(rest);
        } else if self.unfinished.capacity() > 0 {
            self.unfinished = Vec::new();
        }
    }

    /// Enters what the connection owns into the worker's account. If that is too much it must go.
    fn account(&mut self) -> Option<Next> {
        let owned = self.unfinished.capacity()
            + self.unsent.as_ref().map_or(0, |unsent| unsent.bytes.len())
            + self.session.owned_bytes();
        if owned == self.owned_bytes {
            return None;
        }
        let grows = owned > self.owned_bytes;
        self.worker.account(self.owned_bytes, owned);
        self.owned_bytes = owned;
        let what = if self.unsent.is_some() { Owned::Unsent } else { Owned::Input };
        if !grows || !self.worker.owns_too_much(what) {
            return None;
        }
        let counters = self.worker.counters();
        match what {
            // Its answer is broken off in the middle: there is no way to tell it why.
            Owned::Unsent => counters.response_obj_oom.add_owned(1),
            Owned::Input => {
                counters.read_buf_oom.add_owned(1);
                // What does not fit into the socket is lost with the connection.
                let _ = self.source.send(&[IoSlice::new(Reply::NoMemoryToRead.line())]);
            }
        }
        Some(self.close(Ended::Error))
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.worker.account(self.owned_bytes, 0);
        // Before the descriptor is closed and may be somebody else's.
        self.worker.insight().roster.leave(&self.presence);
        self.worker.service.tell_closed(self.presence.peer.inet(), self.presence.fd, self.ended);
    }
}

/// What a read brought.
struct Received {
    /// All bytes together.
    total: usize,
    /// Those that went into the input buffer.
    buffered: usize,
}

impl Unsent {
    fn len(&self) -> usize {
        self.bytes.len() + self.large.as_ref().map_or(0, |large| large.value.len() + CRLF.len())
    }

    /// Whether there is a large value that no item has any more.
    fn holds_what_is_gone(&self) -> bool {
        self.large.as_ref().is_some_and(|large| !large.value.is_current())
    }

    fn send(&self, source: &Source) -> io::Result<usize> {
        let bytes = &self.bytes[self.sent.min(self.bytes.len())..];
        let Some(Held { value: large, .. }) = &self.large else {
            return source.send(&[IoSlice::new(bytes)]);
        };
        let sent = self.sent.saturating_sub(self.bytes.len());
        let value = &large[sent.min(large.len())..];
        let end = &CRLF[sent.saturating_sub(large.len())..];
        source.send(&[IoSlice::new(bytes), IoSlice::new(value), IoSlice::new(end)])
    }
}

/// The result of a send, where taking nothing now is no error.
fn taken(result: io::Result<usize>) -> io::Result<usize> {
    match result {
        Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => Ok(0),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_idle_connection_owns_less_than_a_kibibyte() {
        // The task adds its header, and the reactor a slot and the shared readiness: all of that stays below 200 bytes.
        fn future_size<F: Future>(_: impl Fn(Connection) -> F) -> usize {
            size_of::<F>()
        }
        assert!(future_size(serve) <= 512, "{} bytes", future_size(serve));
    }
}
