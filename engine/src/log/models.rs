//! Segment reuse against a reader, under loom with real epochs.
//!
//! The index word of one record, the real [`Segments`] and a tracked cell in place of a segment's bytes: the model checker reports any
//! read of the cell that is not ordered before the write of its next owner (L2), and any segment that two owners hold (L1).

use super::record::{Expiry, State};
use super::segments::{Queue, Seen, Segments};
use crate::sync::check;
use crate::sync::{AtomicU64, Ordering, fence, pin};
use loom::cell::UnsafeCell;
use loom::thread;
use std::sync::Arc;

struct Model {
    segments: Segments,
    /// Location of the record plus 1, or 0: what the index says.
    word: AtomicU64,
    bytes: Vec<UnsafeCell<u64>>,
}

// SAFETY: the cells are what is under test: loom checks every access.
unsafe impl Sync for Model {}
// SAFETY: as above.
unsafe impl Send for Model {}

impl Model {
    fn new(count: usize) -> Arc<Model> {
        Arc::new(Model {
            segments: Segments::new(count).expect("there is memory"),
            word: AtomicU64::new(0),
            bytes: (0..count).map(|_| UnsafeCell::new(0)).collect(),
        })
    }

    /// Opens a segment, writes its record, publishes it and seals.
    fn fill(&self, value: u64, fresh: bool) -> bool {
        let Some(segment) = self.segments.open(fresh, Queue::Small) else { return false };
        // SAFETY: the segment is ours (L1); loom checks that nobody still reads it (L2).
        self.bytes[segment].with_mut(|bytes| unsafe { *bytes = value });
        self.segments.note_used(segment, 1);
        self.segments.note_published(segment, 1, 0);
        self.segments.seal(segment, false);
        self.word.store(segment as u64 + 1, Ordering::Release);
        true
    }

    /// Takes the oldest segment out of the index and retires it.
    fn evict(self: &Arc<Self>) {
        let guard = pin();
        if let Some(seen) = take_oldest(&self.segments) {
            assert_eq!(seen.used, 1);
            let segment = seen.segment;
            let _ = self.word.compare_exchange(segment as u64 + 1, 0, Ordering::AcqRel, Ordering::Relaxed);
            self.segments.leave(segment);
            let model = Arc::clone(self);
            guard.defer(move || model.segments.recycle(segment));
        }
        guard.flush();
    }

    /// Reads the record that the index names.
    fn read(&self) -> Option<u64> {
        let _guard = pin();
        let word = self.word.load(Ordering::Acquire);
        // SAFETY: found in the index under a guard (L2); loom checks that the owner has written, and that no new one writes.
        (word != 0).then(|| self.bytes[word as usize - 1].with(|bytes| unsafe { *bytes }))
    }
}

/// Takes the oldest segment of the small queue, as a cleaner does.
fn take_oldest(segments: &Segments) -> Option<Seen> {
    segments.survey(0).oldest[Queue::Small as usize].filter(|&seen| segments.take_if(seen))
}

#[test]
fn l2_a_segment_is_not_reused_under_a_reader() {
    check(2, || {
        let model = Model::new(1);
        assert!(model.fill(1, true));
        let reader = Arc::clone(&model);
        let reader = thread::spawn(move || reader.read());
        model.evict();
        // Recycled or not, depending on the reader; if it is, its next owner writes at once.
        let reused = model.fill(2, false);
        let seen = reader.join().expect("no panic");
        assert!(seen != Some(2) || reused);
        assert!(matches!(seen, None | Some(1 | 2)));
    });
}

#[test]
fn l1_two_cleaners_do_not_take_one_segment() {
    check(2, || {
        let segments = Arc::new(Segments::new(2).expect("there is memory"));
        let opened = segments.open(true, Queue::Small).expect("one is free");
        segments.note_used(opened, 7);
        segments.seal(opened, false);
        let other = Arc::clone(&segments);
        let other = thread::spawn(move || take_oldest(&other));
        let ours = take_oldest(&segments);
        let theirs = other.join().expect("no panic");
        assert!(ours.is_some() != theirs.is_some(), "exactly one cleaner takes it");
        let taken = ours.or(theirs).expect("one of them is there");
        assert_eq!((taken.segment, taken.used), (opened, 7));
    });
}

#[test]
fn l1_two_handles_do_not_open_one_segment() {
    check(2, || {
        let segments = Arc::new(Segments::new(2).expect("there is memory"));
        let other = Arc::clone(&segments);
        let other = thread::spawn(move || other.open(true, Queue::Small));
        let ours = segments.open(true, Queue::Main);
        let theirs = other.join().expect("no panic");
        assert!(ours.is_some() && theirs.is_some() && ours != theirs, "two free segments, two owners");
        let generations = [ours, theirs].map(|segment| segments.generation(segment.expect("checked")));
        assert!(generations[0] != generations[1] && generations.iter().all(|&generation| generation > 0));
    });
}

#[test]
fn l1_a_segment_is_taken_as_dead_or_to_be_cleaned_but_not_both() {
    check(3, || {
        let segments = Arc::new(Segments::new(1).expect("there is memory"));
        let opened = segments.open(true, Queue::Small).expect("one is free");
        segments.note_used(opened, 7);
        segments.note_published(opened, 7, 0);
        segments.seal(opened, false);
        let other = Arc::clone(&segments);
        let other = thread::spawn(move || {
            // The last live record goes, and whoever finds the segment dead takes it.
            other.note_gone(opened, 7, 0);
            other.take_dead()
        });
        let ours = take_oldest(&segments);
        let theirs = other.join().expect("no panic");
        assert!(ours.is_some() != theirs.is_some(), "exactly one has it");
    });
}

/// One item, and places for copies of its record: what R1 is about. The bytes of records are not modelled (L2 is, above); their state words are the real
/// ones.
struct Item {
    /// Index of the record that is the item, plus 1, or 0: what the index says.
    word: AtomicU64,
    records: Vec<AtomicU64>,
}

impl Item {
    fn new(copies: usize) -> Arc<Item> {
        let state = State::new(Expiry::AtMono { ms: 1 }, 0).0;
        Arc::new(Item {
            word: AtomicU64::new(1),
            records: (0..=copies).map(|copy| AtomicU64::new(if copy == 0 { state } else { 0 })).collect(),
        })
    }

    fn record(&self, word: u64) -> &AtomicU64 {
        &self.records[word as usize - 1]
    }

    /// As `Record::seal`.
    fn seal(&self, word: u64) -> State {
        State(self.record(word).fetch_or(State::SEALED, Ordering::AcqRel) & !State::SEALED)
    }

    /// Puts a record with this state in the place of another, as `Table::replace` does.
    fn replace(&self, old: u64, new: u64, state: State) -> bool {
        self.record(new).store(state.0, Ordering::Relaxed);
        self.word.compare_exchange(old, new, Ordering::AcqRel, Ordering::Acquire).is_ok()
    }

    /// As `Store::move_record`: false if the item has gone or was replaced.
    fn relocate(&self, copy: u64) -> bool {
        let old = self.word.load(Ordering::Acquire);
        if old == 0 {
            return false;
        }
        let sealed = self.seal(old);
        let moved = self.replace(old, copy, sealed);
        if moved {
            fence(Ordering::SeqCst);
            if !sealed.has(State::FETCHED) && State(self.record(old).load(Ordering::Acquire)).has(State::FETCHED) {
                self.mark_moving(copy);
            }
        }
        moved
    }

    /// As `View::mark_moving`.
    fn mark_moving(&self, mut word: u64) {
        loop {
            self.record(word).fetch_or(State::FETCHED, Ordering::AcqRel);
            fence(Ordering::SeqCst);
            let now = self.word.load(Ordering::Acquire);
            if now == word || now == 0 {
                return;
            }
            word = now;
        }
    }

    /// As `Batch::get` of an item that was not fetched before.
    fn fetch(&self) {
        let word = self.word.load(Ordering::Acquire);
        let state = State(self.record(word).load(Ordering::Acquire));
        let record = self.record(word);
        if state.has(State::SEALED)
            || record.compare_exchange(state.0, state.fetched().0, Ordering::AcqRel, Ordering::Relaxed).is_err()
        {
            self.mark_moving(word);
        }
    }

    /// As `Batch::touch`: in place, or, where the seal is met, on a new record.
    fn touch(&self, ms: u64, copies: [u64; 2]) -> bool {
        let mut copies = copies.into_iter();
        loop {
            let word = self.word.load(Ordering::Acquire);
            if word == 0 {
                return false;
            }
            let state = State(self.record(word).load(Ordering::Acquire));
            let touched = |state: State| state.with_expiry(Expiry::AtMono { ms }).fetched();
            let done = if state.has(State::SEALED) {
                let sealed = self.seal(word);
                self.replace(word, copies.next().expect("the mover moves once"), touched(sealed))
            } else {
                let record = self.record(word);
                record.compare_exchange(state.0, touched(state).0, Ordering::AcqRel, Ordering::Relaxed).is_ok()
            };
            if done {
                return true;
            }
        }
    }

    fn delete(&self) -> bool {
        loop {
            let word = self.word.load(Ordering::Acquire);
            if word == 0 {
                return false;
            }
            if self.word.compare_exchange(word, 0, Ordering::AcqRel, Ordering::Relaxed).is_ok() {
                return true;
            }
        }
    }

    fn state(&self) -> Option<State> {
        let word = self.word.load(Ordering::Acquire);
        (word != 0).then(|| State(self.record(word).load(Ordering::Acquire)))
    }
}

#[test]
fn r1_a_touch_that_races_with_a_move_keeps_its_effect() {
    check(4, || {
        let item = Item::new(3);
        let mover = Arc::clone(&item);
        let mover = thread::spawn(move || mover.relocate(2));
        assert!(item.touch(7, [3, 4]), "the item is there throughout");
        mover.join().expect("no panic");
        let state = item.state().expect("nobody removed it");
        assert_eq!(state.expiry(), Expiry::AtMono { ms: 7 });
        assert!(state.has(State::FETCHED));
    });
}

#[test]
fn r1_two_touches_and_a_move_lose_neither_mark() {
    check(2, || {
        let item = Item::new(5);
        let (mover, other) = (Arc::clone(&item), Arc::clone(&item));
        let mover = thread::spawn(move || mover.relocate(2));
        let other = thread::spawn(move || other.touch(8, [5, 6]));
        assert!(item.touch(7, [3, 4]));
        assert!(other.join().expect("no panic"));
        mover.join().expect("no panic");
        let state = item.state().expect("nobody removed it");
        assert!(matches!(state.expiry(), Expiry::AtMono { ms: 7 | 8 }));
        assert_eq!(state.frequency(), 2, "both fetches count");
    });
}

#[test]
fn r1_a_fetch_mark_is_not_left_behind() {
    check(3, || {
        let item = Item::new(2);
        let mover = Arc::clone(&item);
        let mover = thread::spawn(move || mover.relocate(2) && mover.relocate(3));
        item.fetch();
        mover.join().expect("no panic");
        assert!(item.state().expect("nobody removed it").has(State::FETCHED));
    });
}

#[test]
fn r1_a_deleted_item_does_not_come_back() {
    check(4, || {
        let item = Item::new(3);
        let (mover, other) = (Arc::clone(&item), Arc::clone(&item));
        let mover = thread::spawn(move || mover.relocate(2));
        let other = thread::spawn(move || other.touch(7, [3, 4]));
        assert!(item.delete());
        mover.join().expect("no panic");
        other.join().expect("no panic");
        assert!(item.state().is_none());
    });
}

#[test]
fn r1_two_movers_move_it_once() {
    check(3, || {
        let item = Item::new(2);
        let mover = Arc::clone(&item);
        let mover = thread::spawn(move || mover.relocate(2));
        let ours = item.relocate(3);
        let theirs = mover.join().expect("no panic");
        assert!(ours || theirs, "one of them moves it");
        let state = item.state().expect("nobody removed it");
        assert!(!state.has(State::SEALED) || (ours && theirs), "the copy that stays is not sealed for good");
        assert_eq!(state.expiry(), Expiry::AtMono { ms: 1 });
    });
}
