//! Segment reuse against a reader, under loom with crossbeam's real epochs.
//!
//! The index word of one record, the real [`Segments`] and a tracked cell in place of a segment's bytes: the model checker reports any
//! read of the cell that is not ordered before the write of its next owner (L2), and any segment that two owners hold (L1).

use super::segments::Segments;
use crate::sync::{AtomicU64, Ordering, pin};
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
            segments: Segments::new(count),
            word: AtomicU64::new(0),
            bytes: (0..count).map(|_| UnsafeCell::new(0)).collect(),
        })
    }

    /// Opens a segment, writes its record, publishes it and seals.
    fn fill(&self, value: u64, fresh: bool) -> bool {
        let Some(segment) = self.segments.open(fresh) else { return false };
        // SAFETY: the segment is ours (L1); loom checks that nobody still reads it (L2).
        self.bytes[segment].with_mut(|bytes| unsafe { *bytes = value });
        self.segments.seal(segment, 1, 1);
        self.word.store(segment as u64 + 1, Ordering::Release);
        true
    }

    /// Takes the oldest segment out of the index and retires it.
    fn evict(self: &Arc<Self>) {
        let guard = pin();
        if let Some((segment, used)) = self.segments.take_oldest() {
            assert_eq!(used, 1);
            let _ = self.word.compare_exchange(segment as u64 + 1, 0, Ordering::AcqRel, Ordering::Relaxed);
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

fn check(preemptions: usize, model: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = builder.preemption_bound.or(Some(preemptions));
    builder.check(model);
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
        let segments = Arc::new(Segments::new(2));
        let opened = segments.open(true).expect("one is free");
        segments.seal(opened, 7, 1);
        let other = Arc::clone(&segments);
        let other = thread::spawn(move || other.take_oldest());
        let ours = segments.take_oldest();
        let theirs = other.join().expect("no panic");
        assert!(ours.is_some() != theirs.is_some(), "exactly one cleaner takes it");
        assert_eq!(ours.or(theirs), Some((opened, 7)));
    });
}

#[test]
fn l1_two_handles_do_not_open_one_segment() {
    check(2, || {
        let segments = Arc::new(Segments::new(2));
        let other = Arc::clone(&segments);
        let other = thread::spawn(move || other.open(true));
        let ours = segments.open(true);
        let theirs = other.join().expect("no panic");
        assert!(ours.is_some() && theirs.is_some() && ours != theirs, "two free segments, two owners");
        let generations = [ours, theirs].map(|segment| segments.generation(segment.expect("checked")));
        assert!(generations[0] != generations[1] && generations.iter().all(|&generation| generation > 0));
    });
}
