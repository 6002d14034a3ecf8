//! What a counter may say while many connections count it up.
//!
//! A counter holds `life << 40 | increments`. It begins life 0 at 0; when it is found gone (evicted, expired), one client and
//! only one makes it anew, with the next life. So over time its value never falls, and a reply can be checked from both sides:
//! - it is not below what was known before the request was sent: the largest value that any reply had shown, and the number of
//!   increments of this life that were answered (two increments that both made 7 of 6 are one too few);
//! - it is not of a life that nobody has begun, nor above the number of increments sent.
//!
//! | atomic | written by | read by | what it carries |
//! |---|---|---|---|
//! | `sent` | whoever sends an increment, before | whoever received a reply | the increment was sent |
//! | `lives` | whoever makes the counter anew, before sending and after the answer | the same; who received a reply | the life was begun |
//! | `shown`, `answered` | whoever received a reply | who sends a request, before | a true statement, whenever read |

use crate::record::Fault;
use crate::space;
use crate::workload::Key;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

/// Increments of one life: more than a server answers in a day.
const LIFE_SHIFT: u32 = 40;

/// The books of all counters.
#[derive(Debug)]
pub struct Counters(Box<[State]>);

#[derive(Debug, Default)]
struct State {
    /// Largest value that a reply has shown, or that the answered increments of its life amount to.
    shown: AtomicU64,
    /// The newest life that was seen (above the shift) and how many of its increments were answered.
    answered: AtomicU64,
    /// Increments sent, of all lives.
    sent: AtomicU32,
    /// Twice the number of the newest life, plus one while its first value is in flight. Stays odd when that is lost: nobody
    /// knows when it takes effect, so the counter is never made again.
    lives: AtomicU32,
}

impl Counters {
    /// Books for counters `0..count`.
    pub(crate) fn new(count: u64) -> Self {
        Self((0..count).map(|_| State::default()).collect())
    }

    fn state(&self, counter: Key) -> &State {
        &self.0[space::number(counter) as usize]
    }

    /// What a request that reads or counts must note before it is sent: the value is not below this.
    pub(crate) fn floor(&self, counter: Key) -> u64 {
        // Relaxed: whatever is seen was stored after the answer that makes it true.
        self.state(counter).shown.load(Ordering::Relaxed)
    }

    /// Notes that an increment is about to be sent.
    pub(crate) fn count_up(&self, counter: Key) {
        // Release: publishes the increment to the Acquire in `check` of whoever sees its effect.
        self.state(counter).sent.fetch_add(1, Ordering::Release);
    }

    /// Checks the reply to an increment that noted `floor`, and learns from it.
    pub(crate) fn counted(&self, counter: Key, floor: u64, value: u64, strict: bool) -> Result<(), Fault> {
        self.check(counter, floor + 1, value, strict)?;
        let life = value >> LIFE_SHIFT;
        let counted = |word: u64| match word >> LIFE_SHIFT {
            newest if newest == life => Some(word + 1),
            newest if newest < life => Some(life << LIFE_SHIFT | 1),
            _ => None,
        };
        let state = self.state(counter);
        // Relaxed, both: the word is true whenever it is read, and nothing else is read on the strength of it. The loop ends:
        // it repeats only when another reply was counted.
        let before = state.answered.fetch_update(Ordering::Relaxed, Ordering::Relaxed, counted);
        if let Some(answered) = before.ok().and_then(counted) {
            // Relaxed: as above.
            state.shown.fetch_max(answered, Ordering::Relaxed);
        }
        Ok(())
    }

    /// Checks a value that a get returned.
    pub(crate) fn check_text(&self, counter: Key, floor: u64, text: &[u8], strict: bool) -> Result<(), Fault> {
        // memcached may leave spaces behind a number that has become shorter.
        let digits = text.trim_ascii_end();
        let value = std::str::from_utf8(digits).ok().and_then(|digits| digits.parse().ok());
        let value = value.filter(|_| !digits.starts_with(b"+")).ok_or(Fault::CorruptValue)?;
        self.check(counter, floor, value, strict)
    }

    fn check(&self, counter: Key, least: u64, value: u64, strict: bool) -> Result<(), Fault> {
        if !strict {
            // A counter of an earlier run may stand anywhere.
            return Ok(());
        }
        let state = self.state(counter);
        // Acquire, both: pair with the Release in `count_up` and `claim`, which precede the sending of what we have seen the
        // effect of. Weaker, a value could seem to come from the future.
        let sent = u64::from(state.sent.load(Ordering::Acquire));
        let lives = u64::from(state.lives.load(Ordering::Acquire) / 2);
        let (life, increments) = (value >> LIFE_SHIFT, value & ((1 << LIFE_SHIFT) - 1));
        // The count of those sent wraps after 2^32; then only the floor counts.
        let too_many = increments > sent && sent < u64::from(u32::MAX / 2);
        if value < least || life > lives || too_many {
            return Err(Fault::WrongCount);
        }
        // Relaxed: as in `floor`.
        state.shown.fetch_max(value, Ordering::Relaxed);
        Ok(())
    }

    /// Asks to make the counter anew; `false` when somebody else is about to.
    pub(crate) fn claim(&self, counter: Key) -> bool {
        let state = self.state(counter);
        // Relaxed: a hint; the exchange decides.
        let lives = state.lives.load(Ordering::Relaxed);
        // AcqRel: publishes the life to the Acquire in `check`, and comes after the `release` of the last one. Failure is
        // Relaxed: somebody else has it.
        lives.is_multiple_of(2)
            && lives < u32::MAX / 2
            && state.lives.compare_exchange(lives, lives + 3, Ordering::AcqRel, Ordering::Relaxed).is_ok()
    }

    /// The first value of the counter's newest life.
    pub(crate) fn first_value(&self, counter: Key) -> u64 {
        // Relaxed: only who has claimed the life asks, and nobody changes it meanwhile.
        u64::from(self.state(counter).lives.load(Ordering::Relaxed) / 2) << LIFE_SHIFT
    }

    /// Learns that the server has answered the first value.
    pub(crate) fn release(&self, counter: Key) {
        // Release: pairs with the AcqRel in `claim`: the answer came before the next life is sent.
        self.state(counter).lives.fetch_and(!1, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Counters with one increment sent per call, and the reply that it gets.
    fn counted(counters: &Counters, value: u64) -> Result<(), Fault> {
        let floor = counters.floor(0);
        counters.count_up(0);
        counters.counted(0, floor, value, true)
    }

    #[test]
    fn counts_go_up_by_what_was_sent() {
        let counters = Counters::new(1);
        assert_eq!(counted(&counters, 1), Ok(()));
        assert_eq!(counted(&counters, 2), Ok(()));
        assert_eq!(counted(&counters, 2), Err(Fault::WrongCount), "an increment was lost");
        assert_eq!(counted(&counters, 9), Err(Fault::WrongCount), "only four were sent");
        assert_eq!(counters.check_text(0, counters.floor(0), b"1", true), Err(Fault::WrongCount));
        assert_eq!(counters.check_text(0, counters.floor(0), b"3 ", true), Ok(()));
        for text in [&b""[..], b"+4", b"x", b"99999999999999999999"] {
            assert_eq!(counters.check_text(0, 0, text, false), Err(Fault::CorruptValue), "{}", text.escape_ascii());
        }
    }

    #[test]
    fn increments_in_flight_together_may_be_answered_in_any_order_but_not_alike() {
        let counters = Counters::new(1);
        let floor = counters.floor(0);
        for _ in 0..3 {
            counters.count_up(0);
        }
        for value in [2, 1, 2] {
            assert_eq!(counters.counted(0, floor, value, true), Ok(()));
        }
        // The three answers prove a value of 3: one of the two 2s was wrong, and shows now.
        assert_eq!(counters.check_text(0, counters.floor(0), b"2", true), Err(Fault::WrongCount));
    }

    #[test]
    fn one_client_begins_the_next_life() {
        let counters = Counters::new(1);
        assert_eq!(counted(&counters, 1), Ok(()));
        let next = 1 << LIFE_SHIFT;
        assert_eq!(counters.check(0, 0, next, true), Err(Fault::WrongCount), "nobody has begun it");
        assert!(counters.claim(0));
        assert!(!counters.claim(0), "one at a time");
        assert_eq!(counters.first_value(0), next);
        counters.release(0);
        assert_eq!(counted(&counters, next + 1), Ok(()));
        assert_eq!(counters.check(0, counters.floor(0), 1, true), Err(Fault::WrongCount), "of the former life");
        assert!(counters.claim(0));
    }
}
