//! The only place where the engine learns the time. Tests hold a clock that they move themselves.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// Set in an adjustable clock's word while it is paused; the other bits are then the time at which it stands.
const PAUSED: u64 = 1 << 63;

/// One reading of both clocks, in milliseconds, rounded down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Now {
    /// Milliseconds since the clock was made; never goes back.
    pub mono_ms: u64,
    /// Wall-clock milliseconds since 1970; jumps when the system's clock is stepped.
    pub unix_ms: u64,
}

/// A source of time.
///
/// ```
/// use memkv_engine::clock::Clock;
/// let (clock, hands) = Clock::manual(1_800_000_000_000);
/// hands.advance_ms(1_500);
/// hands.step_wall_ms(-1_000);
/// assert_eq!((clock.now().mono_ms, clock.now().unix_ms), (1_500, 1_800_000_000_500));
/// ```
#[derive(Clone, Debug)]
pub struct Clock(Source);

#[derive(Clone, Debug)]
enum Source {
    System { start: Instant },
    Manual(ManualClock),
    Adjustable(AdjustableClock),
}

impl Clock {
    /// The system's monotonic and wall clocks. Cost of a reading: two calls into the vDSO, about 50 ns together.
    #[must_use]
    pub fn system() -> Clock {
        Clock(Source::System { start: Instant::now() })
    }

    /// A clock that stands at 0 and at the given wall time until the test moves it.
    #[must_use]
    pub fn manual(unix_ms: u64) -> (Clock, ManualClock) {
        let hands = ManualClock(Arc::new([AtomicU64::new(0), AtomicU64::new(unix_ms)]));
        (Clock(Source::Manual(hands.clone())), hands)
    }

    /// The system's clocks, but shifted and paused by whoever holds the hands, as somebody does who tests a running server.
    /// Cost of a reading: that of [`system`](Self::system) and one atomic load.
    #[must_use]
    pub fn adjustable() -> (Clock, AdjustableClock) {
        let hands = AdjustableClock { start: Instant::now(), word: Arc::new(AtomicU64::new(0)) };
        (Clock(Source::Adjustable(hands.clone())), hands)
    }

    /// Reads both clocks.
    #[must_use]
    pub fn now(&self) -> Now {
        match &self.0 {
            Source::System { start } => Now { mono_ms: start.elapsed().as_millis() as u64, unix_ms: system_unix_ms() },
            Source::Adjustable(hands) => {
                let real_ms = hands.real_ms();
                // Relaxed: one word, and no other memory is read on the strength of it.
                let mono_ms = AdjustableClock::shown(hands.word.load(Ordering::Relaxed), real_ms);
                // The wall clock is shifted as far as the other one, and stands still with it.
                let unix_ms = (system_unix_ms() + mono_ms).saturating_sub(real_ms);
                Now { mono_ms, unix_ms }
            }
            // Relaxed: tests order their threads themselves.
            Source::Manual(hands) => {
                Now { mono_ms: hands.0[0].load(Ordering::Relaxed), unix_ms: hands.0[1].load(Ordering::Relaxed) }
            }
        }
    }

    /// Reads the monotonic clock, and the wall clock only if that has moved on from the `last` reading: half of the cost for who reads it many
    /// times in a millisecond. A step of the wall clock shows with the next millisecond.
    #[must_use]
    #[inline]
    pub fn now_since(&self, last: Now) -> Now {
        match &self.0 {
            Source::System { start } if start.elapsed().as_millis() as u64 == last.mono_ms => last,
            _ => self.now(),
        }
    }

    /// Nanoseconds since the clock was made, for measuring how long something took; as fine as the source allows.
    #[must_use]
    pub fn mono_ns(&self) -> u64 {
        match &self.0 {
            Source::System { start } => start.elapsed().as_nanos() as u64,
            Source::Manual(hands) => hands.0[0].load(Ordering::Relaxed) * 1_000_000,
            // What takes time takes real time, however the hands are set.
            Source::Adjustable(hands) => hands.start.elapsed().as_nanos() as u64,
        }
    }
}

/// The system's wall clock; one that is set before 1970 reads as 1970.
fn system_unix_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64)
}

/// Moves a [`Clock`] made by [`Clock::adjustable`]. Its time goes on by itself, can be moved forward and paused; whoever
/// reads it at the very moment of a pause may have been a millisecond ahead.
///
/// ```
/// use memkv_engine::clock::Clock;
/// let (clock, hands) = Clock::adjustable();
/// hands.pause();
/// let before = clock.now();
/// hands.advance_ms(60_000);
/// assert_eq!(clock.now().mono_ms, before.mono_ms + 60_000);
/// hands.resume();
/// assert!(clock.now().mono_ms >= before.mono_ms + 60_000);
/// ```
#[derive(Clone, Debug)]
pub struct AdjustableClock {
    start: Instant,
    /// While it runs: by how many milliseconds it differs from the time since `start`, as 63 bits with sign. While it is
    /// paused: [`PAUSED`], and the time at which it stands. One word, so that no reader sees half of a change.
    word: Arc<AtomicU64>,
}

impl AdjustableClock {
    /// Moves the clock forward.
    pub fn advance_ms(&self, ms: u64) {
        self.change(|word, _| if word & PAUSED == 0 { (word + ms) & !PAUSED } else { (word + ms) | PAUSED });
    }

    /// Stops the clock at the present time. Without effect on one that is paused.
    pub fn pause(&self) {
        self.change(|word, real_ms| if word & PAUSED == 0 { Self::shown(word, real_ms) | PAUSED } else { word });
    }

    /// Lets the clock go on from where it was stopped. Without effect on one that runs.
    pub fn resume(&self) {
        self.change(
            |word, real_ms| {
                if word & PAUSED == 0 { word } else { (word & !PAUSED).wrapping_sub(real_ms) & !PAUSED }
            },
        );
    }

    fn change(&self, change: impl Fn(u64, u64) -> u64) {
        // Relaxed: see `Clock::now`. It fails only when somebody else has changed the word in between.
        let _ = self.word.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |word| Some(change(word, self.real_ms())));
    }

    fn real_ms(&self) -> u64 {
        self.start.elapsed().as_millis() as u64
    }

    /// The time that a clock with this word shows when so many milliseconds have passed since its start.
    fn shown(word: u64, real_ms: u64) -> u64 {
        if word & PAUSED == 0 { real_ms.wrapping_add(word) & !PAUSED } else { word & !PAUSED }
    }
}

/// Moves a [`Clock`] made by [`Clock::manual`].
#[derive(Clone, Debug)]
pub struct ManualClock(Arc<[AtomicU64; 2]>);

impl ManualClock {
    /// Lets time pass on both clocks.
    pub fn advance_ms(&self, ms: u64) {
        for clock in self.0.iter() {
            clock.fetch_add(ms, Ordering::Relaxed);
        }
    }

    /// Steps the wall clock alone, as an administrator or NTP would.
    pub fn step_wall_ms(&self, delta: i64) {
        self.0[1].fetch_add(delta as u64, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_wall_clock_is_read_again_when_time_has_passed() {
        let clock = Clock::system();
        let old = Now { mono_ms: u64::MAX, unix_ms: 7 };
        assert_ne!(clock.now_since(old).unix_ms, 7);
        // Within a millisecond it is the last reading, marked here so that one can tell; at most a few tries fall on a boundary.
        let within = (0..1_000).any(|_| {
            let last = Now { unix_ms: 7, ..clock.now() };
            clock.now_since(last) == last
        });
        assert!(within);
        let (manual, hands) = Clock::manual(100);
        let last = manual.now();
        hands.step_wall_ms(5);
        assert_eq!(manual.now_since(last).unix_ms, 105);
    }

    #[test]
    fn an_adjustable_clock_stands_and_goes_on_from_there() {
        let real = 5_000;
        let show = AdjustableClock::shown;
        assert_eq!(show(0, real), 5_000);
        // Paused at 5 s, resumed at 9 s: from then on it is 4 s behind.
        let (clock, hands) = Clock::adjustable();
        hands.pause();
        let stands = clock.now().mono_ms;
        hands.pause();
        assert_eq!(clock.now().mono_ms, stands);
        hands.advance_ms(10_000);
        hands.advance_ms(1);
        assert_eq!(clock.now().mono_ms, stands + 10_001);
        hands.resume();
        hands.resume();
        let after = clock.now();
        assert!(after.mono_ms >= stands + 10_001);
        hands.advance_ms(86_400_000);
        assert!(clock.now().mono_ms >= after.mono_ms + 86_400_000);
        assert!(clock.now().unix_ms >= after.unix_ms + 86_400_000);
        let behind = 5_000u64.wrapping_sub(9_000) & !PAUSED;
        assert_eq!((show(behind, 9_000), show(behind, 10_000)), (5_000, 6_000));
    }
}
