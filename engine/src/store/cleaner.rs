//! Making room before it is needed: S3-FIFO eviction, compaction and expiry, all by sweeping one segment after the other.
//!
//! # What a sweep is
//! A cleaner takes a sealed segment out of its queue ([`Segments::take_if`](crate::log::segments::Segments::take_if)), walks
//! its records, and lets the log use the segment again when no guard can reach it. What becomes of a record that the index still names is decided in
//! one place, [`Store::retire_record`]:
//!
//! | goal | expired, flushed | frequency is at least the price | others |
//! |---|---|---|---|
//! | compact | dropped | moved to the same queue (without eviction: to main) | the same |
//! | evict, small queue | dropped | moved to main, frequency 0 | dropped, leaves a ghost |
//! | evict, main queue | dropped | moved to main's tail, frequency less the price | dropped |
//! | crawl | dropped | stays | stays |
//!
//! A crawl does not take the segment; it may also look at one that is still open.
//!
//! # The price of staying
//! S3-FIFO asks one fetch of every item, whatever its size. Here an item pays by its size over the average size, rounded to a whole number at
//! random, and 3 at most ([`Sweep::price`]); from the small queue, 1 at least. Where all items are of one size this is S3-FIFO. Where sizes differ, the memory
//! goes to the items that bring most hits per byte, as with GreedyDual-Size-Frequency (Cherkasova, HPL-98-69), and without a priority queue. What is large
//! stays if it is fetched three times a round. Simulated on two request traces with sizes from 16 B to 2 KiB, log-uniform, at 5, 10 and 25 % of
//! their footprints: 1.0 to 3.6 points more hits than S3-FIFO, item by item, in each of the six cases.
//!
//! # Which segment
//! [`Store::next_sweep`]: a segment that has something expired, else, as long as dead bytes are more than [`DEAD_PART_MAX`] of what the records
//! take, the one whose compaction wins most, else the oldest of the small queue if that is over its share, else the oldest of the main queue. So nothing
//! live is evicted while a compaction would win a segment, and there is room to begin it: a compaction that finds no room, and none on its way, goes on as an eviction.
//!
//! # Who cleans
//! A [`Cleaner`] in the background, in slices, ahead of need. When it falls behind, or there is none, every store
//! of a writer that opened a segment does a small share ([`HELP_BUDGET`]) until the stock is back; only a writer that finds no segment at
//! all sweeps until there is one. Each cleans a segment of its own, so nobody waits for anybody; a thread that stops amid a sweep keeps that one segment.
//!
//! # Moving loses nothing
//! The mover seals the record (R1), copies it with its state, and swaps the location in the index word by one compare-and-swap. A touch, fetch mark or
//! in-place change before the seal is in the copy; a touch or change after it is made on a new record, and then either that record's swap fails and finds the copy, or
//! ours fails and the copy is dead bytes. A deletion takes the word away, and the swap fails: nothing comes back. A fetch that meets the
//! seal marks the original, and reader and mover see to it that the copy gets the mark (`View::mark_moving`).
//! The item keeps its CAS id, which is written into the copy. A large value's reference moves along with the record
//! (S4): whoever takes the copy out of the index gives it up, and does so through the epoch, after every guard that could read the original.

use super::handle::{Handle, Use, Writer};
use super::large::LargeValue;
use super::stats::Counter;
use super::{ByLocation, Gone, Store, StoreError};
use crate::clock::Now;
use crate::limits::SEGMENTS_FOR_MOVES;
use crate::log::Location;
use crate::log::record::{Draft, HEADER_BYTES, Record, Shape, State};
use crate::log::segments::{Queue, Seen, SegmentIndex};
use crate::sync::{Guard, Ordering, fence};
use std::sync::Arc;
use std::time::Duration;

/// Records whose index buckets are fetched ahead of looking them up.
const LOOK_AHEAD: usize = 16;

/// How often [`Store::make_room`] tries while segments are on their way out but held by other threads' guards: bounded, because it must
/// not wait for a stopped thread.
const TRIES_WHILE_HELD: usize = 256;

/// The pause between the later half of those tries.
const PAUSE_WHILE_HELD: Duration = Duration::from_micros(500);

/// Sweeping a record costs about as much as copying so many bytes; budgets are in bytes.
const RECORD_COST: usize = 128;

/// What is swept between two looks at anything else: a quarter of a millisecond.
const SLICE_BUDGET: usize = 1024 * RECORD_COST;

/// What a store does for the cleaner when that lags behind: a few microseconds.
const HELP_BUDGET: usize = LOOK_AHEAD * RECORD_COST;

/// The small queue's share of the memory, as S3-FIFO has it.
const SMALL_PART: u64 = 10;

/// The emptiest segments are compacted, and nothing live is evicted, while more than one part in so many of the records' bytes is dead. Less would not
/// pay: to win a segment, the cleaner moves as many bytes as the emptiest segments hold.
const DEAD_PART_MAX: u64 = 12;

/// A segment is not compacted to win less than one part in so many of it...
const WORTH_PART: u64 = 16;

/// ...or, where nothing may be evicted, this.
const WORTH_PART_WITHOUT_EVICTION: u64 = 32;

/// A segment that was looked through for expired items rests for so long.
const CRAWL_PAUSE_MS: u64 = 1000;

/// Segments that are reclaimed or given back at a time.
const SEGMENTS_A_CALL: usize = 4;

/// After so many segments of the main queue in which nearly everything stayed, one of the small queue is swept.
const FRUITLESS_SWEEPS_MAX: u64 = 8;

/// A cleaner that has begun to fill the stock goes on to so many more segments.
const SEGMENTS_AT_ONCE: u64 = 2;

/// An unproductive crawl is followed by a pause of so many times its length: 1 % of a core at the most.
const CRAWL_DUTY: u64 = 100;

/// How long idle segments are kept in case they are wanted.
const SURPLUS_MS: u64 = 1000;

/// How often a cleaner without work looks at the clock.
const IDLE_PAUSE: Duration = Duration::from_millis(100);

/// What a sweep is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Goal {
    Compact,
    Evict,
    Crawl,
}

/// A segment that is being cleaned.
pub(super) struct Sweep {
    segment: SegmentIndex,
    generation: u64,
    goal: Goal,
    queue: Queue,
    used: usize,
    offset: usize,
    /// Bytes of items that were moved, large values included.
    moved: usize,
    /// Bytes of items that were evicted, large values included.
    dropped: usize,
    /// Bytes that were expired or flushed.
    gone: usize,
    /// What an item weighs on average (evictions).
    average_bytes: u64,
    /// When the first of what stays expires (crawls).
    next_due_ms: u64,
    /// What looking at it has cost.
    busy_ns: u64,
}

/// How far a slice of sweeping came.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Swept {
    /// There is nothing to sweep, or nowhere to move to.
    Nothing,
    /// There is more to do.
    Part,
    /// A segment is done.
    Segment,
}

/// What became of a record.
enum Fate {
    /// It was no longer in the index.
    Dead,
    Gone,
    /// With its weight: the bytes of the record and of its large value.
    Evicted(usize),
    Moved(usize),
    Stays,
    /// It must move and there is no room.
    NoRoom,
}

impl Store {
    /// Segments that should be usable at any moment: one for each handle to open while others leave.
    fn segments_ahead(&self) -> u64 {
        // Relaxed: a size.
        let handles = self.handles.load(Ordering::Relaxed);
        let of_limit = self.log.limit() / self.log.segment_bytes() as u64 / 8;
        (SEGMENTS_FOR_MOVES + 1 + handles).min(of_limit)
    }

    /// Segments that can be opened now.
    pub(super) fn usable(&self) -> u64 {
        self.log.segments.idle() as u64 + self.log.available(self.table.bytes()) / self.log.segment_bytes() as u64
    }

    /// Segments that can be opened now or when the guards of now are gone.
    fn coming(&self) -> u64 {
        self.usable() + self.log.segments.leaving() as u64
    }

    /// Are segments on their way out?
    fn is_room_coming(&self) -> bool {
        self.log.segments.leaving() > 0
    }

    /// Opens a segment, if the limit has room for it and what it is for may have it.
    pub(super) fn open_segment(&self, queue: Queue, purpose: Use) -> Option<SegmentIndex> {
        if purpose == Use::New && self.usable() <= SEGMENTS_FOR_MOVES {
            return None;
        }
        self.log.open(queue, purpose == Use::Move, self.table.bytes())
    }

    /// Calls `take` until it has what it wants, cleaning as needed and evicting as allowed.
    ///
    /// # Errors
    /// [`StoreError::OutOfMemory`] if nothing may be evicted, nothing is left, or what is leaving is held for too long.
    pub(super) fn make_room<T>(
        &self,
        writer: &mut Writer,
        guard: &mut Guard,
        mut take: impl FnMut(&mut Writer) -> Option<T>,
    ) -> Result<T, StoreError> {
        let mut tries = TRIES_WHILE_HELD;
        loop {
            if let Some(taken) = take(writer) {
                return Ok(taken);
            }
            // What `take` wants may be the budget that idle segments hold.
            if self.log.segments.idle() as u64 > SEGMENTS_FOR_MOVES && self.log.shrink() {
                continue;
            }
            // What is leaving already may be all it takes: sweep more only if that is little.
            let leaving = self.log.segments.leaving() as u64;
            let made_progress = leaving < 2 * self.segments_ahead().max(1)
                && (self.reclaim_dead(guard) || self.sweep(writer, guard, SLICE_BUDGET) != Swept::Nothing);
            if !made_progress {
                if tries == 0 || !self.config.evict && leaving == 0 {
                    return Err(StoreError::OutOfMemory);
                }
                // With nothing on its way out there is little to wait for: another cleaner's sweep at most.
                tries = tries.saturating_sub(if leaving == 0 { TRIES_WHILE_HELD / 8 } else { 1 });
                // First let others run; then give a thread that was preempted inside a batch time to end it: 64 ms in all.
                if tries > TRIES_WHILE_HELD / 2 {
                    std::thread::yield_now();
                } else {
                    std::thread::sleep(PAUSE_WHILE_HELD);
                }
            }
            // Nobody holds references under this guard (it is ours to move), so that our own pin holds nothing back.
            guard.flush();
            guard.repin();
        }
    }

    /// Looks after the stock when a writer is about to take a segment from it.
    pub(super) fn mind_stock(&self, writer: &mut Writer, guard: &Guard) {
        // A few: nobody pays for a whole backlog.
        for _ in 0..SEGMENTS_A_CALL {
            if self.log.excess(self.table.bytes()) == 0 || !self.log.shrink() {
                break;
            }
        }
        self.reclaim_some_dead(guard);
        let (coming, ahead) = (self.coming(), self.segments_ahead());
        if coming < ahead {
            let is_woken = self.wake_cleaner();
            writer.is_helping = !is_woken || coming < ahead / 2;
        }
    }

    /// One store's share of the cleaning.
    pub(super) fn help_cleaning(&self, writer: &mut Writer, guard: &Guard) {
        match self.sweep(writer, guard, HELP_BUDGET) {
            Swept::Part => {}
            Swept::Segment => {
                writer.is_helping = self.coming() < self.segments_ahead();
            }
            Swept::Nothing => writer.is_helping = false,
        }
    }

    /// Tells the cleaner that there is work. False if there is none.
    pub(super) fn wake_cleaner(&self) -> bool {
        let thread = self.cleaner_thread.get();
        if let Some(thread) = thread {
            thread.unpark();
        }
        thread.is_some()
    }

    /// Takes a segment out of use in which nothing is live any more. False if there is none.
    fn reclaim_dead(&self, guard: &Guard) -> bool {
        let Some(segment) = self.log.segments.take_dead() else { return false };
        self.recycle_later(segment, guard);
        true
    }

    /// The same for a few. Answers how many.
    fn reclaim_some_dead(&self, guard: &Guard) -> usize {
        (0..SEGMENTS_A_CALL).take_while(|_| self.reclaim_dead(guard)).count()
    }

    /// Makes a segment that is out of the index usable once no guard of now is left (L2).
    fn recycle_later(&self, segment: SegmentIndex, guard: &Guard) {
        self.log.segments.leave(segment);
        let log = Arc::clone(&self.log);
        guard.defer(move || log.recycle(segment));
        // A segment must not wait in a bag of this thread's until that is full, or for ever, if this thread has nothing more to do.
        guard.flush();
    }

    /// Chooses what to clean when segments are wanted, and takes it.
    fn next_sweep(&self, writer: &Writer, now: Now) -> Option<Sweep> {
        let survey = self.log.segments.survey(now.mono_ms);
        let evict = self.config.evict;
        if let Some(due) = survey.due.filter(|_| writer.may_crawl(self))
            && self.log.segments.take_due(due.segment).is_some()
        {
            return Some(Sweep::new(due, Goal::Crawl));
        }
        let worth_part = if evict { WORTH_PART } else { WORTH_PART_WITHOUT_EVICTION };
        // A record grows when it is first moved, by its CAS id: what is live then needs more than it did. Records of the main queue have been moved.
        let record_bytes = (survey.live / (self.table.len() as u64).max(1)).max(HEADER_BYTES as u64);
        let wins = |seen: Seen| {
            let grows = self.config.cas && seen.queue() == Queue::Small;
            seen.dead().saturating_sub(if grows { seen.live / record_bytes * 8 } else { 0 })
        };
        let dead = survey.used - survey.live.min(survey.used);
        let compacts = survey
            .emptiest
            .into_iter()
            .flatten()
            .max_by_key(|&seen| wins(seen))
            .filter(|&seen| wins(seen) >= self.log.segment_bytes() as u64 / worth_part)
            .filter(|_| !evict || dead > survey.used / DEAD_PART_MAX);
        let (victim, goal) = match compacts {
            Some(emptiest) => (emptiest, Goal::Compact),
            None if !evict => return None,
            None => {
                let [small, main] = survey.weight;
                // Relaxed: advice. Where nearly all of main is popular, a round in it wins little; small always yields.
                let is_main_fruitless = self.fruitless_sweeps.load(Ordering::Relaxed) >= FRUITLESS_SWEEPS_MAX;
                let small_is_over = small * SMALL_PART >= small + main || is_main_fruitless;
                let oldest = if small_is_over {
                    survey.oldest[0].or(survey.oldest[1])
                } else {
                    survey.oldest[1].or(survey.oldest[0])
                };
                (oldest?, Goal::Evict)
            }
        };
        let average_bytes = survey.weight.iter().sum::<u64>() / (self.table.len() as u64).max(1);
        // A failure means that another cleaner took it: there is progress, and the caller looks again.
        self.log.segments.take_if(victim).then(|| Sweep { average_bytes, ..Sweep::new(victim, goal) })
    }

    /// Sweeps about `budget`, beginning with what the writer has under way.
    fn sweep(&self, writer: &mut Writer, guard: &Guard, budget: usize) -> Swept {
        let now = self.clock.now();
        let Some(mut sweep) = writer.sweep.take().or_else(|| self.next_sweep(writer, now)) else {
            return Swept::Nothing;
        };
        let started_ns = self.clock.mono_ns();
        let fate = self.sweep_records(&mut sweep, writer, guard, now, budget);
        let busy_ns = self.clock.mono_ns() - started_ns;
        sweep.busy_ns += busy_ns;
        self.counters.cells.add(writer.stripe, Counter::CleanerBusyNs as usize, busy_ns);
        match fate {
            Some(swept) => {
                if swept == Swept::Segment {
                    self.finish_sweep(&sweep, writer, guard, now);
                } else {
                    writer.sweep = Some(sweep);
                }
                swept
            }
            None if self.is_room_coming() => {
                writer.sweep = Some(sweep);
                Swept::Nothing
            }
            None => {
                // Nowhere to move to: others may have more luck, or less to move.
                self.log.segments.put_back(sweep.segment);
                Swept::Nothing
            }
        }
    }

    /// Sweeps records until the segment or the budget is used up; `None` if there is nowhere to move a record.
    fn sweep_records(
        &self,
        sweep: &mut Sweep,
        writer: &mut Writer,
        guard: &Guard,
        now: Now,
        budget: usize,
    ) -> Option<Swept> {
        let segments = &self.log.segments;
        // A crawl does not own the segment: somebody else may have taken it since our last slice.
        if sweep.goal == Goal::Crawl
            && !(segments.is_readable(sweep.segment) && segments.generation(sweep.segment) == sweep.generation)
        {
            sweep.next_due_ms = u64::MAX;
            return Some(Swept::Segment);
        }
        let mut ahead = [(0, 0); LOOK_AHEAD];
        let mut spent = 0;
        while sweep.offset < sweep.used {
            if spent >= budget {
                return Some(Swept::Part);
            }
            let mut count = 0;
            while count < LOOK_AHEAD && sweep.offset < sweep.used && spent < budget {
                let location = self.log.location(sweep.segment, sweep.offset);
                // SAFETY: records lie one behind the other up to `used`. The segment is ours until it is recycled, or, for a crawl, was in use
                // after our guard was pinned, and so is not recycled before that guard is gone (L2).
                let record = unsafe { self.record(location) };
                sweep.offset += record.shape().bytes();
                if sweep.goal == Goal::Crawl && self.gone(record.state(), now).is_none() {
                    // Most records, and the index is not asked about them. Some are dead; their time counts for the others.
                    sweep.note_staying(record.state(), now);
                    spent += RECORD_COST / 16;
                    continue;
                }
                let hash = self.hash(record.key());
                self.table.prefetch(hash);
                ahead[count] = (location, hash);
                count += 1;
            }
            for &(location, hash) in &ahead[..count] {
                spent += RECORD_COST;
                // SAFETY: as above.
                let record = unsafe { self.record(location) };
                let bytes = record.shape().bytes();
                match self.retire_record(location, hash, sweep, writer, now, guard) {
                    Fate::Dead => {}
                    Fate::Evicted(weight) => {
                        sweep.dropped += weight;
                        // Giving pages back costs by the page.
                        spent += weight / 16;
                    }
                    Fate::Gone => sweep.gone += bytes,
                    Fate::Moved(weight) => {
                        sweep.moved += weight;
                        spent += bytes;
                    }
                    Fate::Stays => sweep.note_staying(record.state(), now),
                    Fate::NoRoom => {
                        sweep.offset = self.log.offset_of(location);
                        return None;
                    }
                }
            }
        }
        Some(Swept::Segment)
    }

    fn finish_sweep(&self, sweep: &Sweep, writer: &mut Writer, guard: &Guard, now: Now) {
        let count = |counter: Counter, n: usize| self.counters.cells.add(writer.stripe, counter as usize, n as u64);
        match sweep.goal {
            Goal::Crawl => {
                if sweep.next_due_ms != u64::MAX {
                    let due_ms = sweep.next_due_ms.max(now.mono_ms + CRAWL_PAUSE_MS);
                    self.log.segments.note_expiry(sweep.segment, due_ms);
                }
                if sweep.gone < sweep.used / WORTH_PART as usize {
                    writer.crawl_not_before_ns = self.clock.mono_ns() + sweep.busy_ns * CRAWL_DUTY;
                }
                return;
            }
            Goal::Compact => count(Counter::Compactions, 1),
            Goal::Evict => {
                // Relaxed: advice.
                let is_fruitless = sweep.queue == Queue::Main && sweep.dropped < sweep.moved / 8;
                let in_a_row = if is_fruitless { self.fruitless_sweeps.load(Ordering::Relaxed) + 1 } else { 0 };
                self.fruitless_sweeps.store(in_a_row, Ordering::Relaxed);
            }
        }
        self.recycle_later(sweep.segment, guard);
    }

    /// Puts back what a writer has under way.
    pub(super) fn end_sweep(&self, writer: &mut Writer) {
        match writer.sweep.take() {
            None => {}
            // What it was due for, it still is.
            Some(Sweep { segment, goal: Goal::Crawl, .. }) => self.log.segments.note_expiry(segment, 0),
            Some(Sweep { segment, .. }) => self.log.segments.put_back(segment),
        }
    }

    /// Decides what becomes of a record, and does it.
    fn retire_record(
        &self,
        location: Location,
        hash: u64,
        sweep: &Sweep,
        writer: &mut Writer,
        now: Now,
        guard: &Guard,
    ) -> Fate {
        let stripe = writer.stripe;
        let count = |counter: Counter| self.counters.cells.add(stripe, counter as usize, 1);
        let keys = ByLocation { store: self, location };
        // Ends: a failure means that the record was replaced or removed, or that a split came between, which is progress.
        while let Some(hit) = self.table.find(hash, &keys, guard) {
            // SAFETY: as in `sweep_records`.
            let record = unsafe { self.record(location) };
            let mut state = record.state();
            let mut gone = self.gone(state, now);
            if gone.is_some() {
                // A touch may save it until it is sealed (R1).
                state = record.seal();
                gone = self.gone(state, now);
            }
            let (frequency, weight) = (state.frequency(), record.shape().bytes() + self.large_bytes_of(record));
            let price = || sweep.price(weight, hash);
            let moves_to = match (gone, sweep.goal, sweep.queue) {
                (Some(_), ..) => None,
                (None, Goal::Crawl, _) => return Fate::Stays,
                // Where nothing is evicted the queues mean nothing else, and so main holds what has been moved.
                (None, Goal::Compact, _) if !self.config.evict => Some((Queue::Main, frequency)),
                (None, Goal::Compact, queue) => Some((queue, frequency)),
                (None, Goal::Evict, Queue::Small) => (frequency >= price().max(1)).then_some((Queue::Main, 0)),
                (None, Goal::Evict, Queue::Main) => {
                    let price = price();
                    (frequency >= price).then(|| (Queue::Main, frequency - price))
                }
            };
            if let Some((queue, frequency)) = moves_to {
                match self.move_record(location, hash, queue, frequency, writer, guard) {
                    Fate::Moved(weight) => {
                        if sweep.goal == Goal::Evict && sweep.queue == Queue::Small {
                            count(Counter::Promotions);
                        }
                        return Fate::Moved(weight);
                    }
                    Fate::NoRoom if self.is_room_coming() || !self.config.evict => return Fate::NoRoom,
                    // No room for what was to be kept: it goes the way of the others.
                    Fate::NoRoom => {}
                    fate => return fate,
                }
            }
            self.retire_cas(location, record);
            if self.table.remove(hit, &keys, guard).is_ok() {
                self.account_removal(location, record, stripe, guard);
                let Some(gone) = gone else {
                    if sweep.queue == Queue::Small {
                        self.ghosts.insert(hash, self.table.len());
                    }
                    self.note_eviction(record, state, now, stripe);
                    return Fate::Evicted(weight);
                };
                count(Counter::Reclaimed);
                if gone == Gone::Expired && !state.has(State::FETCHED) {
                    count(Counter::ExpiredUnfetched);
                }
                return Fate::Gone;
            }
        }
        Fate::Dead
    }

    /// What a record names beside the log. The record must have been in the index when the caller's guard was pinned.
    fn large_bytes_of(&self, record: Record<'_>) -> usize {
        // SAFETY: so its value is there (S4).
        if record.is_large() { unsafe { LargeValue::peek(record.large_address()) }.len() } else { 0 }
    }

    /// Copies a record to the tail of the writer's open segment of a queue, and puts the copy in its place.
    fn move_record(
        &self,
        location: Location,
        hash: u64,
        queue: Queue,
        frequency: u64,
        writer: &mut Writer,
        guard: &Guard,
    ) -> Fate {
        // SAFETY: as in `sweep_records`.
        let record = unsafe { self.record(location) };
        let room = record.shape().bytes() + super::write::EXTRA_BYTES_MAX;
        if !writer.has_or_finds_room(self, queue, room, Use::Move) {
            return Fate::NoRoom;
        }
        // From here on the content is final (R1).
        let sealed = record.seal();
        let copy_at = writer.next_location(self, queue);
        let (key, has_flags) = (record.key(), record.flags() != 0);
        let (is_large, value) = (record.is_large(), record.inline_value());
        // A counter's id is in its pair, and goes on from there (R2).
        let pair = record.counter().map(|counter| counter.pair().unsealed());
        let cas = (self.config.cas && pair.is_none()).then(|| self.cas_of(location, record));
        let shape = match record.counter() {
            Some(counter) => Shape::counter(key.len(), has_flags, counter.width),
            None => Shape::new(key.len(), has_flags, cas.is_some(), (!is_large).then_some(value.len())),
        };
        let draft = Draft {
            state: sealed.with_frequency(frequency),
            last_access_s: record.last_access_s(),
            cas,
            flags: record.flags(),
            key,
            value: [value, &[]],
            pair,
        };
        // SAFETY: there is room behind the tail of our own open segment.
        let copy = unsafe { Record::write(self.log.address(copy_at), shape, &draft) };
        let large_bytes = self.large_bytes_of(record);
        let bytes = copy.shape().bytes();
        writer.advance(self, queue, bytes, large_bytes);
        let keys = ByLocation { store: self, location };
        // Ends: as in `retire_record`. The copy stays good: what it was made from is sealed.
        while let Some(hit) = self.table.find(hash, &keys, guard) {
            if self.table.replace(hit, copy_at, &keys, guard).is_ok() {
                writer.note_published(self, queue, bytes, large_bytes);
                self.log.segments.note_gone(self.log.segment_of(location), record.shape().bytes(), large_bytes);
                let view = super::view::View { store: self, guard, now: self.clock.now(), stripe: writer.stripe };
                view.note_expiry(copy_at, sealed.expiry());
                // A fetch may have met the seal: see `View::mark_moving`.
                fence(Ordering::SeqCst);
                if !sealed.has(State::FETCHED) && record.state().has(State::FETCHED) {
                    view.mark_moving(copy, sealed);
                }
                self.counters.cells.add(writer.stripe, Counter::BytesMoved as usize, bytes as u64);
                return Fate::Moved(bytes + large_bytes);
            }
        }
        // Replaced or removed meanwhile, by somebody who accounted for it; the copy is dead bytes and owns nothing.
        Fate::Dead
    }

    /// Books the end of a record that has just left the index, by whichever way. The caller's CAS took it out.
    pub(super) fn account_removal(&self, location: Location, record: Record<'_>, stripe: usize, guard: &Guard) {
        let (value_len, large_bytes) = if record.is_large() {
            let address = record.large_address();
            // SAFETY: the record's reference, given up here by the one thread that took the record out of the index, and dropped only when no
            // guard of now is left (S4).
            let value = unsafe { LargeValue::from_address(address) };
            let len = value.len();
            guard.defer(move || drop(value));
            // Memory of this size must not wait in a bag of this thread's until that is full.
            guard.flush();
            (len, len)
        } else {
            (record.small_value_len(), 0)
        };
        self.log.segments.note_gone(self.log.segment_of(location), record.shape().bytes(), large_bytes);
        let bytes = super::protocol_bytes(record.key().len(), record.flags(), value_len, self.config.cas);
        self.counters.cells.add(stripe, super::BYTES_CELL, (bytes as u64).wrapping_neg());
    }
}

impl Sweep {
    fn new(seen: Seen, goal: Goal) -> Sweep {
        Sweep {
            segment: seen.segment,
            generation: seen.generation(),
            goal,
            queue: seen.queue(),
            used: seen.used as usize,
            offset: 0,
            moved: 0,
            dropped: 0,
            gone: 0,
            average_bytes: 1,
            next_due_ms: u64::MAX,
            busy_ns: 0,
        }
    }

    /// How often an item must have been fetched to stay: its size in average sizes, rounded up or down at random, so that the mean is right. What is
    /// about average pays 1.
    fn price(&self, bytes: usize, hash: u64) -> u64 {
        let parts = bytes as u64 * 256 / self.average_bytes.max(1);
        if (192..384).contains(&parts) {
            return 1;
        }
        // Another draw at every sweep. The factor spreads what differs in the lower bits over the upper ones (Knuth, TAOCP 6.4).
        let draw = (hash ^ self.generation).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56;
        ((parts + draw) / 256).min(State::FREQUENCY_MAX)
    }

    /// Notes when a record that stays will expire.
    fn note_staying(&mut self, state: State, now: Now) {
        self.next_due_ms = self.next_due_ms.min(state.expiry().mono_ms(now));
    }
}

/// When a [`Cleaner`] wants to run again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pace {
    /// At once: there is more to do.
    Again,
    /// After this long, or when the store's writers wake its thread.
    After(Duration),
}

/// Keeps a store's memory in order from a thread of its own: evicts and compacts ahead of need, takes out what has expired or been flushed, gives
/// memory back to the system.
///
/// A store works without one: its writers clean as they go, but then expired items go only when somebody meets them or memory is wanted,
/// and idle memory is kept.
///
/// ```
/// use memkv_engine::{clock::Clock, store::{Cleaner, Config, Store}};
/// use std::sync::atomic::{AtomicBool, Ordering};
///
/// let store = Store::new(Config::default(), Clock::system())?;
/// let stop = AtomicBool::new(false);
/// std::thread::scope(|scope| {
///     let cleaner = scope.spawn(|| Cleaner::new(&store).run(&stop));
///     // ... work on the store ...
///     stop.store(true, Ordering::Relaxed);
///     cleaner.thread().unpark();
/// });
/// # Ok::<(), memkv_engine::store::ConfigError>(())
/// ```
#[derive(Debug)]
pub struct Cleaner {
    handle: Handle,
    /// Is the stock being filled up?
    is_filling: bool,
    flushes_seen: u64,
    /// Wall clock less monotonic clock, when last looked at.
    wall_offset_ms: u64,
    /// The fewest idle segments since `surplus_since_ms`.
    idle_min: u64,
    surplus_since_ms: u64,
}

impl Cleaner {
    /// A cleaner. One a store is enough, and more do no harm.
    #[must_use]
    pub fn new(store: &Arc<Store>) -> Cleaner {
        let now = store.clock.now();
        Cleaner {
            handle: store.handle(),
            is_filling: false,
            flushes_seen: 0,
            wall_offset_ms: now.unix_ms.wrapping_sub(now.mono_ms),
            idle_min: u64::MAX,
            surplus_since_ms: now.mono_ms,
        }
    }

    /// Runs until `stop` is set and the thread is unparked. Writers wake it when the stock is low.
    pub fn run(mut self, stop: &std::sync::atomic::AtomicBool) {
        // The first one is the one that is woken; any other runs by its timer.
        let _ = self.handle.store().cleaner_thread.set(std::thread::current());
        // Relaxed: nothing else is read on the strength of it.
        while !stop.load(Ordering::Relaxed) {
            match self.run_slice() {
                Pace::Again => {}
                Pace::After(pause) => std::thread::park_timeout(pause),
            }
        }
    }

    /// Moves every record of the oldest sealed segment, whether that wins anything or not: a compaction going flat out. False if there was
    /// nothing to move, or no room.
    #[cfg(all(test, not(crossbeam_loom)))]
    pub(super) fn move_oldest(&mut self) -> bool {
        let batch = self.handle.batch();
        let (store, writer, guard) = (batch.store, batch.writer, &batch.guard);
        // What it has moved it moves again.
        writer.seal(store, Queue::Small);
        writer.seal(store, Queue::Main);
        let survey = store.log.segments.survey(0);
        let oldest = survey.oldest.into_iter().flatten().min_by_key(|seen| seen.generation());
        let Some(seen) = oldest.filter(|&seen| writer.sweep.is_none() && store.log.segments.take_if(seen)) else {
            return false;
        };
        writer.sweep = Some(Sweep::new(seen, Goal::Compact));
        loop {
            match store.sweep(writer, guard, SLICE_BUDGET) {
                Swept::Part => {}
                swept => {
                    guard.flush();
                    return swept == Swept::Segment;
                }
            }
        }
    }

    /// Does a slice of work, about a quarter of a millisecond, if there is any.
    pub fn run_slice(&mut self) -> Pace {
        let batch = self.handle.batch();
        let (store, now) = (batch.store, batch.now);
        let (writer, guard) = (batch.writer, &batch.guard);
        // Acquire: with the Release of a flush.
        let flushes = store.flushes.load(Ordering::Acquire);
        let wall_offset_ms = now.unix_ms.wrapping_sub(now.mono_ms);
        let step_ms = wall_offset_ms.wrapping_sub(self.wall_offset_ms) as i64;
        // After a step of the wall clock, absolute times are due at other times than were noted.
        if flushes != self.flushes_seen || step_ms.unsigned_abs() > CRAWL_PAUSE_MS / 2 {
            store.log.segments.make_all_due();
            (self.flushes_seen, self.wall_offset_ms) = (flushes, wall_offset_ms);
        }
        let excess = store.log.excess(store.table.bytes());
        if excess > 0 && store.log.shrink() {
            return Pace::Again;
        }
        if store.reclaim_some_dead(guard) == SEGMENTS_A_CALL {
            return Pace::Again;
        }
        let (coming, ahead) = (store.coming(), store.segments_ahead());
        self.is_filling = excess > 0 || coming < if self.is_filling { ahead + SEGMENTS_AT_ONCE } else { ahead };
        if (self.is_filling || writer.sweep.is_some()) && store.sweep(writer, guard, SLICE_BUDGET) != Swept::Nothing {
            return Pace::Again;
        }
        self.is_filling = false;
        if writer.may_crawl(store)
            && let Some(due) = store.log.segments.most_due(now.mono_ms)
            && store.log.segments.take_due(due.segment).is_some()
        {
            writer.sweep = Some(Sweep::new(due, Goal::Crawl));
            return Pace::Again;
        }
        let idle = store.log.segments.idle() as u64;
        self.idle_min = self.idle_min.min(idle);
        if now.mono_ms.saturating_sub(self.surplus_since_ms) >= SURPLUS_MS {
            let surplus = self.idle_min.saturating_sub(2 * ahead).min(idle);
            for _ in 0..surplus.min(SEGMENTS_A_CALL as u64) {
                store.log.shrink();
            }
            if surplus > SEGMENTS_A_CALL as u64 {
                self.idle_min -= SEGMENTS_A_CALL as u64;
                return Pace::Again;
            }
            (self.idle_min, self.surplus_since_ms) = (u64::MAX, now.mono_ms);
        }
        Pace::After(IDLE_PAUSE)
    }
}
