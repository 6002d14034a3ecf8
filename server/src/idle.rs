//! Closing connections that have been idle for too long (`-o idle_timeout`, protocol 25).
//!
//! Time is the server's clock, so that `debugtime` moves it. A connection notes when it had its last turn and whether it could
//! go without a loss; the worker looks through the notes of its connections once a second. Nobody pays for this unless the timeout is set.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use crate::limits::IDLE_SWEEP_PERIOD;
use crate::reactor::Canceller;

/// The connections of one worker that may be idle for no longer than a certain time.
pub struct IdleWatch {
    timeout_ms: u64,
    swept_ms: Cell<u64>,
    notes: RefCell<Vec<Rc<Note>>>,
}

/// What is known about one connection.
struct Note {
    /// When it had its last turn.
    active_ms: Cell<u64>,
    /// Whether it waits for a command, and for nothing else.
    waiting: Cell<bool>,
    gone: Cell<bool>,
    canceller: Canceller,
}

/// A connection's own end of its note; the note goes with it.
pub struct IdleNote(Rc<Note>);

impl IdleWatch {
    /// A watch with this timeout, which is not 0.
    pub fn new(timeout_s: u32, now_ms: u64) -> IdleWatch {
        IdleWatch { timeout_ms: u64::from(timeout_s) * 1000, swept_ms: Cell::new(now_ms), notes: RefCell::default() }
    }

    /// Takes a connection in.
    pub fn enter(&self, canceller: Canceller, now_ms: u64) -> IdleNote {
        let note =
            Rc::new(Note { active_ms: Cell::new(now_ms), waiting: Cell::new(true), gone: Cell::new(false), canceller });
        self.notes.borrow_mut().push(Rc::clone(&note));
        IdleNote(note)
    }

    /// Cancels the connections that have been idle for too long, if the last look was long enough ago.
    pub fn sweep(&self, now_ms: u64) {
        if now_ms.saturating_sub(self.swept_ms.get()) < IDLE_SWEEP_PERIOD.as_millis() as u64 {
            return;
        }
        self.swept_ms.set(now_ms);
        self.notes.borrow_mut().retain(|note| {
            let idle_ms = now_ms.saturating_sub(note.active_ms.get());
            if note.waiting.get() && idle_ms >= self.timeout_ms && !note.gone.get() {
                note.canceller.cancel();
            }
            !note.gone.get()
        });
    }
}

impl IdleNote {
    /// Notes the end of a turn, and whether the connection now waits for a command and for nothing else.
    pub fn turn_ended(&self, now_ms: u64, waiting: bool) {
        self.0.active_ms.set(now_ms);
        self.0.waiting.set(waiting);
    }

    /// Whether the connection has noted that it waits for a command.
    pub fn is_waiting(&self) -> bool {
        self.0.waiting.get()
    }
}

impl Drop for IdleNote {
    fn drop(&mut self) {
        self.0.gone.set(true);
    }
}
