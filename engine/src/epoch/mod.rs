//! Reclamation: what has been taken out of a structure is freed when nobody can be reading it any more.
//!
//! Epoch-based, as in Fraser's thesis (2004) and crossbeam-epoch, with one difference that readers feel: pinning needs no fence, and
//! collects nothing unless garbage has been left behind. (What it gains is seen where everything is in the cache. Uniform reads of a million entries wait for memory: there a fence cost little.)
//!
//! # How
//! A [`Participant`] enters a section by [pinning](Participant::pin): it announces the global epoch that it has read, with a plain store. Garbage
//! gets the epoch of the moment as its tag. The epoch advances by one when all participants that are active have announced the current one, in
//! a section or after it. That is quiescent-state detection (as in McKenney's RCU): announcing an epoch shows that all sections of
//! earlier epochs are over, and needs no fence, because nobody concludes anything from an announcement that is *not* seen yet. Garbage is
//! freed when the epoch is 3 ahead of its tag.
//!
//! A thread that is idle announces nothing, and must not hold up the others. It is *parked* by whoever collects garbage:
//! asked through its own `mode`, and then made to see that by one [heavy barrier](Barrier) (`membarrier`, which interrupts the processors that run the process's threads).
//! From then on either its section is visible, or its next pin sees the question and enters as if it were new, with a full fence. So a barrier of some microseconds is
//! paid once each time a thread falls idle, by who collects, and not for every collection.
//!
//! # Invariants
//! Let the global epoch be `E`. A section begins with the last load of `E` in [`Participant::pin`] and ends with the announcement that it is over. One that began with a load of `e` is a section *of* `e`.
//! - **G1** While a section of `e` lasts, `E` is `e` or `e + 1`.
//! - **G2** Whoever can still reach what was retired with tag `g` is in a section of `g + 1` or before.
//! - **G3** Each retired closure runs once, when `E` is `g + 3` or later, or when the collector is dropped.
//! - **G4** A parked participant is in no section. It leaves that mode by itself, by an exchange and a full fence, before the last load of `E`, with which its section begins.
//! - **G5** One thread at a time collects. Nobody waits for it: who finds somebody collecting goes on with its own work.
//!
//! # Why
//! *G1.* The pass that advances `E` from `k` to `k + 1` has seen of each participant one of three things. (a) An announcement of `k`: made
//! after its sections of earlier epochs (Release, Acquire). (b) Parked: by G4 and the two full fences, its next section reads an `E` that is `k` or later. For if the pass does not see the mode change, its fence
//! came before the participant's, which therefore reads what the pass had read, or newer. (c) Idle, and asked before the barrier of an earlier or of this pass: then the pass parks it by an
//! exchange. If the participant was about to enter when the barrier hit it, its announcement is invisible, but it sees the question right after it, and begins its section with another load of `E` (G4).
//!
//! *G2.* Let R retire `x` in a section, after it took `x` out of the structure, or after it learned (Acquire) that somebody else had. The tag `g` is read after that, so it is no older than the section's epoch. Let T be in a section of `e` and have
//! reached `x`. If `e` were `g + 2` or more, the pass to `g + 2` would have come after R's section, by (a), (b) or (c); its Release store of `E`, which T read (Acquire),
//! would carry R's removal, and T could not have reached `x`. (Had that pass seen R parked before its section, and missed that it came back, R's section would be one of `g + 1` or later, and the tag not `g`.)
//!
//! *G3.* A bag belongs to one thread, then to the stack it was pushed to, then to who took the whole stack under G5. The section of G2 ends before `E` is `g + 3` (G1), and the advance comes after its end.
//!
//! # Orderings
//! | edge | writer | reader | carries |
//! |---|---|---|---|
//! | F1 | announcing an epoch, or the end of a section (Release) | a pass (Acquire) | all reads of earlier sections |
//! | F2 | advancing `E` (Release) | loads of `E` (Acquire) | F1 of all participants, to other threads |
//! | F3 | parking and unparking (SeqCst fences) | the other | one of the two sees the other (G4) |
//! | F4 | pushing a bag (Release) | taking all (Acquire) | the closures, and the removals before them |
//! | F5 | `busy` = 0 (Release) | `busy` = 1 (Acquire) | the queue of bags |
//!
//! # Cost
//! Pinning: two loads and a store on a line of the thread's own, and the load of `E`, which changes once in some hundred retirements. Retiring: some stores; for every
//! [`BAG_LEN`](bag::BAG_LEN) closures a bag is sealed and a pass tried, which reads one line of each thread that ever took part at the same time. A thread that has retired something, and for a while one that
//! came or was flushed to meanwhile, has a pin of a few instructions more: it counts its sections, and looks now and then whether the epoch still moves. Memory: some four times [`PASS_EVERY`] closures with
//! what they own, or [`PARK_EVERY`] where threads fall idle, and a bag for each thread, as long as sections are short.
//!
//! # What the models show
//! Loom cannot interrupt a thread. So one model has a reader look at several places whether a barrier strikes it, and the collector wait until it has ([`Barrier::Interrupts`](Barrier)):
//! there a collector that parks who is in a section, a barrier that does nothing, and a pin that does not mind its mode are found. In the others every pin has a full fence, or there is no heavy
//! barrier. Surviving: parking a member that was not asked, the Acquire and the Release of F2, and the Release of an announcement in [`Guard::repin`].
//!
//! # Who waits for whom
//! Nobody, for anything but garbage: a thread that is stopped in a section, or while it collects, keeps all garbage of its collector from being freed. Where the system has no
//! `membarrier`, each pin has the fence that it otherwise saves. A process that forbids itself the call after the first pin (seccomp) loses what idle threads hold up. A forgotten guard, and a fork while other threads are in sections, stop reclamation for good.

mod bag;
mod barrier;
#[cfg(all(test, crossbeam_loom))]
mod models;
#[cfg(all(test, not(crossbeam_loom)))]
mod tests;

use crate::sync::{AtomicPtr, AtomicU64, Ordering, ShelfCell, fence};
use bag::{Bag, Deferred, Queue};
use barrier::Barrier;
use crossbeam_utils::CachePadded;
use std::cell::{Cell, UnsafeCell};
use std::marker::PhantomData;
use std::ptr::{NonNull, null_mut};
use std::sync::Arc;

/// Closures after which a pass is tried again: the epoch advances about once in so many.
const PASS_EVERY: u64 = if cfg!(crossbeam_loom) { 0 } else { 256 };

/// Closures after which idle threads are asked to park, rather than given the time to announce by themselves.
const PARK_EVERY: u64 = if cfg!(crossbeam_loom) { 0 } else { 1024 };

/// What a [`Guard::flush`] counts for: four of them are worth parking the idle.
const FLUSH_WEIGHT: u64 = 256;

/// Sections of one thread that has retired something after which it looks whether that is still there: where nothing more is retired, somebody has to collect the
/// last.
const LOOK_EVERY: u32 = if cfg!(crossbeam_loom) { u32::MAX } else { 128 };

/// Bags that one pass runs: a backlog is nobody's to pay for alone.
const RUN_MAX: usize = 32;

/// In a member's count of guards: there is no [`Participant`] any more, and the last guard is to clean up.
const ORPHAN: usize = 1 << (usize::BITS - 1);

/// In an announcement: the participant is in a section. Epochs are odd, so an epoch is the announcement of a section of it.
const IN_SECTION: u64 = 1;

/// Distance of two epochs.
const STEP: u64 = 2;

/// What a participant's mode says beside nothing, which is the usual. It was asked to park.
const ASKED: u64 = 1;
/// It is in no section, and will say so before it is (G4). Stronger than `ASKED`.
const PARKED: u64 = 2;
/// There is garbage, and it is to count its sections and see to that now and then.
const HELPS: u64 = 4;
/// There is no `membarrier`: each of its pins needs the fence.
const FENCED: u64 = 8;

/// A domain of reclamation: its guards hold its own garbage, and no other's. Dropped with the last clone and the last [`Participant`] or guard; what is left by then is run.
#[derive(Clone)]
pub(crate) struct Collector(Arc<Global>);

struct Global {
    epoch: CachePadded<AtomicU64>,
    /// Bags that were sealed: a stack, pushed to by anybody, taken whole by who collects.
    sealed: CachePadded<AtomicPtr<Bag>>,
    /// Closures sealed since the epoch last advanced: a figure.
    since_advance: AtomicU64,
    /// Bags that were sealed and have not been run: a figure.
    bags: AtomicU64,
    /// Somebody collects (G5).
    busy: AtomicU64,
    /// The bags that wait for the epoch, oldest first. For the holder of `busy`.
    waiting: ShelfCell<Queue>,
    /// All members there ever were: a list that only grows until drop. Most threads come and go, so their places are used again.
    members: AtomicPtr<Member>,
    barrier: Barrier,
}

// SAFETY: the queue is its holder's (G5) and closures are `Send` by the promise of `defer_unchecked`; a member's cells are its owner's; the rest is atomic.
unsafe impl Send for Global {}
// SAFETY: as above.
unsafe impl Sync for Global {}

/// A place in a collector, in use by one thread at a time.
struct Member {
    shared: CachePadded<Shared>,
    /// The collector, which owns this memory. While the place is in use, `keep` sees to it that it is there.
    global: *const Global,
    next: *mut Member,
    taken: AtomicU64,
    keep: Cell<Option<Arc<Global>>>,
    /// The guards beyond the first, or [`ORPHAN`]: 0 in the usual case.
    more: Cell<usize>,
    is_collecting: Cell<bool>,
    /// Sections until the next look for garbage.
    sections_left: Cell<u32>,
    /// The epoch at that look.
    seen: Cell<u64>,
    bag: UnsafeCell<Option<Box<Bag>>>,
}

/// What others read of a member, and seldom write.
struct Shared {
    /// The epoch last announced, and [`IN_SECTION`].
    state: AtomicU64,
    mode: AtomicU64,
}

/// A thread's membership in a collector.
pub(crate) struct Participant {
    member: NonNull<Member>,
}

// SAFETY: a member's cells are touched by the owner of the participant and of its guards only, which do not leave their thread while there are any: who moves a
// participant to another thread has no guard of it (see `Guard`), and the move orders everything before it.
unsafe impl Send for Participant {}

/// A section: what is reached while it lasts is not freed before its end. It belongs to its thread.
///
/// A participant's owner must not give the participant to another thread while one of its guards is left.
pub(crate) struct Guard {
    member: NonNull<Member>,
    not_send: PhantomData<*mut ()>,
}

impl Collector {
    pub(crate) fn new() -> Collector {
        Collector::with_barrier(Barrier::best())
    }

    fn with_barrier(barrier: Barrier) -> Collector {
        Collector(Arc::new(Global {
            epoch: CachePadded::new(AtomicU64::new(IN_SECTION)),
            sealed: CachePadded::new(AtomicPtr::new(null_mut())),
            since_advance: AtomicU64::new(0),
            bags: AtomicU64::new(0),
            busy: AtomicU64::new(0),
            waiting: ShelfCell::new(Queue::default()),
            members: AtomicPtr::new(null_mut()),
            barrier,
        }))
    }

    /// Takes part. Cost: a walk over the members, seldom an allocation.
    pub(crate) fn register(&self) -> Participant {
        let member = self.0.vacant().unwrap_or_else(|| self.0.new_member());
        // SAFETY: members live as long as the collector; this one is ours.
        let own = unsafe { member.as_ref() };
        own.keep.set(Some(Arc::clone(&self.0)));
        own.more.set(0);
        Participant { member }
    }
}

impl Global {
    /// Takes a place that its last owner has left.
    fn vacant(&self) -> Option<NonNull<Member>> {
        // Acquire: the members' content.
        let mut at = NonNull::new(self.members.load(Ordering::Acquire));
        while let Some(member) = at {
            // SAFETY: members are freed with the collector.
            let place = unsafe { member.as_ref() };
            // Acquire: the cells as the last owner left them.
            if place.taken.load(Ordering::Relaxed) == 0
                && place.taken.compare_exchange(0, 1, Ordering::Acquire, Ordering::Relaxed).is_ok()
            {
                return Some(member);
            }
            at = NonNull::new(place.next);
        }
        None
    }

    fn new_member(&self) -> NonNull<Member> {
        let mut head = self.members.load(Ordering::Relaxed);
        let member = Box::into_raw(Box::new(Member {
            // Parked, so it enters its first section by the slow path (G4).
            shared: CachePadded::new(Shared {
                state: AtomicU64::new(0),
                mode: AtomicU64::new(self.barrier.mode() | PARKED),
            }),
            global: self,
            next: head,
            taken: AtomicU64::new(1),
            keep: Cell::new(None),
            more: Cell::new(0),
            is_collecting: Cell::new(false),
            sections_left: Cell::new(LOOK_EVERY),
            seen: Cell::new(0),
            bag: UnsafeCell::new(None),
        }));
        // Release: the content. A pass that does not see the member is as one that sees it parked: F3 comes after this.
        while let Err(now) = self.members.compare_exchange_weak(head, member, Ordering::Release, Ordering::Relaxed) {
            head = now;
            // SAFETY: nobody else knows it yet.
            unsafe { (*member).next = head };
        }
        // SAFETY: a box is not null.
        unsafe { NonNull::new_unchecked(member) }
    }

    fn members(&self) -> impl Iterator<Item = &Shared> {
        // Acquire: the members' content.
        let mut at = self.members.load(Ordering::Acquire);
        std::iter::from_fn(move || {
            // SAFETY: members are freed with the collector.
            let member = unsafe { at.as_ref() }?;
            at = member.next;
            Some(&*member.shared)
        })
    }

    fn push(&self, bag: Box<Bag>) {
        let bag = Box::into_raw(bag);
        let mut head = self.sealed.load(Ordering::Relaxed);
        loop {
            // SAFETY: ours until the exchange succeeds.
            unsafe { (*bag).next = head };
            // Release: F4.
            match self.sealed.compare_exchange_weak(head, bag, Ordering::Release, Ordering::Relaxed) {
                Ok(_) => return,
                Err(now) => head = now,
            }
        }
    }

    /// Advances the epoch if it may, and hands out bags whose time has come. None if somebody else is at it.
    fn pass(&self) -> Queue {
        // Acquire: F5.
        if self.busy.swap(1, Ordering::Acquire) == 1 {
            return Queue::default();
        }
        let ready = self.waiting.with_mut(|waiting| {
            // SAFETY: we hold `busy` (G5).
            let waiting = unsafe { &mut *waiting };
            // Acquire: F4.
            waiting.append_stack(self.sealed.swap(null_mut(), Ordering::Acquire));
            self.try_advance();
            // Relaxed: this thread or an earlier holder wrote it.
            let epoch = self.epoch.load(Ordering::Relaxed);
            waiting.split_front(RUN_MAX, |bag| bag.tag + 3 * STEP <= epoch)
        });
        // Release: F5.
        self.busy.store(0, Ordering::Release);
        ready
    }

    /// Under G5.
    fn try_advance(&self) {
        // Relaxed: only the holder of `busy` writes it.
        let epoch = self.epoch.load(Ordering::Relaxed);
        // F3: whoever is not seen to have left its parking below will read this epoch, or a later one (G4).
        fence(Ordering::SeqCst);
        let mut idle = 0;
        for member in self.members() {
            match member.look(epoch) {
                Look::Quiet => {}
                Look::Idle => idle += 1,
                Look::Behind => return,
            }
        }
        // Relaxed: a figure.
        if idle > 0 && (self.since_advance.load(Ordering::Relaxed) < PARK_EVERY || !self.park_idle(epoch)) {
            return;
        }
        // Release: F2.
        self.epoch.store(epoch + STEP, Ordering::Release);
        self.since_advance.store(0, Ordering::Relaxed);
    }

    /// If there is garbage, has all members look for it now and then.
    fn ask_for_help(&self) {
        // Relaxed: a figure.
        if self.bags.load(Ordering::Relaxed) > 0 {
            self.members().for_each(Shared::help);
        }
    }

    /// Asks all that are idle to park. True if all of them are parked now, or have announced the epoch after all.
    #[cold]
    fn park_idle(&self, epoch: u64) -> bool {
        for member in self.members() {
            if let Look::Idle = member.look(epoch) {
                // Relaxed: the barrier makes it seen.
                member.mode.fetch_or(ASKED, Ordering::Relaxed);
            }
        }
        if !self.barrier.heavy() {
            // Nobody may be taken at a word that was perhaps not heard.
            for member in self.members() {
                member.mode.fetch_and(!ASKED, Ordering::Relaxed);
            }
            return false;
        }
        self.members().all(|member| match member.look(epoch) {
            Look::Quiet => true,
            Look::Behind => false,
            Look::Idle => member.park(),
        })
    }
}

/// What a pass sees of a member.
enum Look {
    /// It has announced the epoch, or is parked.
    Quiet,
    /// In no section, as far as one can see, since some earlier epoch.
    Idle,
    /// In a section of an earlier epoch.
    Behind,
}

impl Shared {
    /// Has the owner count its sections and look for garbage: where nothing more is retired, somebody has to collect the last.
    fn help(&self) {
        // No model is about this, and each step would multiply the schedules to be explored.
        if cfg!(crossbeam_loom) {
            return;
        }
        // Relaxed: it carries nothing. An exchange, so that no question is lost.
        if self.mode.load(Ordering::Relaxed) & HELPS == 0 {
            self.mode.fetch_or(HELPS, Ordering::Relaxed);
        }
    }

    /// Parks a member that was asked before a heavy barrier and looked idle after it. False if it is on its way into a section, or gets there first.
    ///
    /// Its announcements of before are visible, so its next section begins with a look at its mode. If that comes first the exchange fails;
    /// if the exchange does, the section reads the epoch of this pass or a later one (G1 c).
    fn park(&self) -> bool {
        let asked = self.mode.load(Ordering::Relaxed);
        asked & ASKED != 0
            && self.mode.compare_exchange(asked, asked & !ASKED | PARKED, Ordering::AcqRel, Ordering::Relaxed).is_ok()
    }

    fn look(&self, epoch: u64) -> Look {
        // Acquire: if it was parked and has left, its announcement of before is seen below.
        if self.mode.load(Ordering::Acquire) & PARKED != 0 {
            return Look::Quiet;
        }
        // Acquire: F1.
        match self.state.load(Ordering::Acquire) {
            state if state | IN_SECTION == epoch => Look::Quiet,
            state if state & IN_SECTION == 0 => Look::Idle,
            _ => Look::Behind,
        }
    }
}

impl Drop for Global {
    fn drop(&mut self) {
        // No member is in use (each keeps the collector), so this is all there is. The count of references orders us after the last pass; the exchange
        // (Acquire: F5) says so to the model checker, which does not follow that count.
        self.busy.swap(1, Ordering::Acquire);
        let mut rest = self.waiting.with_mut(|waiting| {
            // SAFETY: exclusive access.
            std::mem::take(unsafe { &mut *waiting })
        });
        rest.append_stack(self.sealed.swap(null_mut(), Ordering::Acquire));
        let mut member = self.members.load(Ordering::Acquire);
        while !member.is_null() {
            // SAFETY: made by `Box::into_raw`, freed once.
            member = unsafe { Box::from_raw(member) }.next;
        }
        rest.run();
    }
}

impl Participant {
    /// See [`Collector::register`].
    #[cfg(not(crossbeam_loom))]
    pub(crate) fn register(collector: &Collector) -> Participant {
        collector.register()
    }

    /// Begins a section; nested ones are free. See the [module](self) for the cost.
    #[inline]
    pub(crate) fn pin(&self) -> Guard {
        // SAFETY: members live as long as the collector, which this one keeps.
        unsafe { Member::pin(self.member) }
    }
}

impl Drop for Participant {
    fn drop(&mut self) {
        // SAFETY: as for `pin`.
        let member = unsafe { self.member.as_ref() };
        if member.is_in_section() {
            member.more.set(member.more.get() | ORPHAN);
        } else {
            // SAFETY: ours, and there is neither handle nor guard.
            unsafe { Member::leave(self.member) };
        }
    }
}

impl Member {
    /// # Safety
    /// The member is in use by the calling thread, by way of a participant.
    #[inline]
    unsafe fn pin(this: NonNull<Member>) -> Guard {
        // SAFETY: the caller's promise.
        let member = unsafe { this.as_ref() };
        let guard = Guard { member: this, not_send: PhantomData };
        if member.is_in_section() {
            member.more.set(member.more.get() + 1);
        } else {
            let mode = member.enter();
            member.mind(mode, &guard);
        }
        guard
    }

    #[inline]
    fn global(&self) -> &Global {
        // SAFETY: kept by `keep` while the member is in use; the reference does not outlive the call that asked for it.
        unsafe { &*self.global }
    }

    #[inline]
    fn is_in_section(&self) -> bool {
        // Relaxed: our own.
        self.shared.state.load(Ordering::Relaxed) & IN_SECTION != 0
    }

    /// Announces a section of the current epoch (G1). What it answers is for [`Member::mind`].
    #[inline]
    fn enter(&self) -> u64 {
        // Acquire: F2; and what is reached is read after it.
        let epoch = self.global().epoch.load(Ordering::Acquire);
        Barrier::may_strike();
        // Release: F1, as earlier sections may be over only by this.
        self.shared.state.store(epoch, Ordering::Release);
        // Either a heavy barrier makes the store visible, or what follows sees what came before the barrier.
        Barrier::light();
        // Relaxed: after a barrier it shows the question.
        self.shared.mode.load(Ordering::Relaxed)
    }

    /// What else a pin has to do: nothing, or count where there is garbage, which is usual for a thread that writes now and then.
    #[inline]
    fn mind(&self, mode: u64, guard: &Guard) {
        match mode {
            0 => {}
            HELPS => self.count_section(guard),
            _ => self.mind_mode(guard),
        }
    }

    #[inline]
    fn count_section(&self, guard: &Guard) {
        let left = self.sections_left.get() - 1;
        self.sections_left.set(left);
        if left == 0 {
            self.look_for_garbage(guard);
        }
    }

    /// What is unusual about a pin.
    #[cold]
    #[inline(never)]
    fn mind_mode(&self, guard: &Guard) {
        let global = self.global();
        if self.shared.mode.load(Ordering::Relaxed) & FENCED != 0 {
            // What the light barrier would be elsewhere.
            fence(Ordering::SeqCst);
        }
        if self.shared.mode.load(Ordering::Relaxed) & (ASKED | PARKED) != 0 {
            // Release: the announcement of before is seen by whoever sees this. (G4)
            Barrier::may_strike();
            self.shared.mode.fetch_and(!(ASKED | PARKED), Ordering::AcqRel);
            Barrier::may_strike();
            // F3.
            fence(Ordering::SeqCst);
            // Acquire and Release: as in `enter`. No barrier: the announcement of before has the section visible, and this only moves it on.
            self.shared.state.store(global.epoch.load(Ordering::Acquire), Ordering::Release);
            // Others may have asked for help while this member was in nobody's list, or parked.
            if global.bags.load(Ordering::Relaxed) > 0 {
                self.shared.help();
            }
        }
        if self.shared.mode.load(Ordering::Relaxed) & HELPS != 0 {
            self.count_section(guard);
        }
    }

    #[cold]
    #[inline(never)]
    fn look_for_garbage(&self, guard: &Guard) {
        self.sections_left.set(LOOK_EVERY);
        let bags = || self.global().bags.load(Ordering::Relaxed);
        // SAFETY: as in `retire`.
        if unsafe { &*self.bag.get() }.is_none() && bags() == 0 {
            self.shared.mode.fetch_and(!HELPS, Ordering::Relaxed);
            // Somebody may have asked in between, and seen that we help.
            if bags() > 0 {
                self.shared.help();
            }
            return;
        }
        // Relaxed: a figure. While it moves, others see to the garbage.
        let epoch = self.global().epoch.load(Ordering::Relaxed);
        if self.seen.replace(epoch) == epoch {
            guard.flush();
        }
    }

    /// Takes one guard away. True if that was the last of a member whose participant has gone.
    #[inline]
    fn unpin(&self) -> bool {
        if self.more.get() == 0 {
            self.end_section();
            return false;
        }
        self.unpin_one_of_many()
    }

    #[cold]
    fn unpin_one_of_many(&self) -> bool {
        let is_last = self.more.get() == ORPHAN;
        if is_last {
            self.more.set(0);
            self.end_section();
        } else {
            self.more.set(self.more.get() - 1);
        }
        is_last
    }

    #[inline]
    fn end_section(&self) {
        // Relaxed: our own.
        let epoch = self.shared.state.load(Ordering::Relaxed);
        // Release: F1.
        self.shared.state.store(epoch & !IN_SECTION, Ordering::Release);
    }

    #[inline]
    fn retire(&self, closure: Deferred) {
        // SAFETY: the bag is our thread's, and no closure runs while it is borrowed.
        let bag = unsafe { &mut *self.bag.get() }.get_or_insert_with(|| {
            // So that a bag which is never filled is seen to as well.
            self.shared.help();
            Bag::new()
        });
        bag.push(closure);
        if bag.is_full() {
            self.bag_is_full();
        }
    }

    #[cold]
    fn bag_is_full(&self) {
        self.seal();
        // Relaxed: a figure.
        if self.global().since_advance.load(Ordering::Relaxed) >= PASS_EVERY {
            self.collect();
        }
    }

    /// Gives our bag to the collector.
    fn seal(&self) {
        // SAFETY: as in `retire`.
        let Some(mut bag) = (unsafe { &mut *self.bag.get() }).take() else { return };
        let global = self.global();
        // Relaxed: read in the section (G2), or where there is none any more, and so not older than the section's epoch.
        bag.tag = global.epoch.load(Ordering::Relaxed);
        global.since_advance.fetch_add(bag.len() as u64, Ordering::Relaxed);
        global.bags.fetch_add(1, Ordering::Relaxed);
        self.shared.help();
        global.push(bag);
    }

    fn collect(&self) {
        // What closures retire waits for the next pass: passes do not nest.
        if self.is_collecting.replace(true) {
            return;
        }
        let ready = self.global().pass();
        struct Done<'a>(&'a Cell<bool>);
        impl Drop for Done<'_> {
            fn drop(&mut self) {
                self.0.set(false);
            }
        }
        let _done = Done(&self.is_collecting);
        self.global().bags.fetch_sub(ready.len(), Ordering::Relaxed);
        ready.run();
    }

    /// The place is free for the next.
    ///
    /// # Safety
    /// The member is in use by the calling thread, which has neither participant nor guard of it any more. It is not in use afterwards.
    #[cold]
    unsafe fn leave(this: NonNull<Member>) {
        let keep = {
            // SAFETY: the caller's promise; the borrow ends before the member may be freed.
            let member = unsafe { this.as_ref() };
            member.seal();
            member.global().ask_for_help();
            // Release: our sections are over (F1).
            member.shared.mode.store(member.global().barrier.mode() | PARKED, Ordering::Release);
            let keep = member.keep.take();
            // Release: our cells, for the next owner. From here on the place is not ours.
            member.taken.store(0, Ordering::Release);
            keep
        };
        // Perhaps the last: then the place is freed with the collector.
        drop(keep);
    }
}

impl Guard {
    /// Runs the closure once no section of now is left; on any thread.
    pub(crate) fn defer<F: FnOnce() + Send + 'static>(&self, closure: F) {
        // SAFETY: it may go to other threads and lives as long as need be.
        unsafe { self.defer_unchecked(closure) };
    }

    /// The same for closures of which the compiler does not know that they may be run so.
    ///
    /// # Safety
    /// The closure may run on any thread, and whatever it refers to is there until it has.
    #[inline]
    pub(crate) unsafe fn defer_unchecked<F: FnOnce()>(&self, closure: F) {
        // SAFETY: the member is ours while there is a guard.
        let member = unsafe { self.member.as_ref() };
        member.retire(Deferred::new(closure));
    }

    /// Hands over what this thread has retired so far, and tries to free what may be freed. Worth it for garbage that is large; small garbage is
    /// collected by itself.
    pub(crate) fn flush(&self) {
        // SAFETY: as above.
        let member = unsafe { self.member.as_ref() };
        member.seal();
        // Relaxed: a figure.
        let global = member.global();
        global.since_advance.fetch_add(FLUSH_WEIGHT, Ordering::Relaxed);
        member.collect();
        // What is worth a flush is worth the help of all, should this thread not come back.
        global.ask_for_help();
    }

    /// Ends the section and begins another, unless there are other guards of this participant. References of before are invalid.
    #[inline]
    pub(crate) fn repin(&mut self) {
        // SAFETY: the member is ours while there is a guard.
        let member = unsafe { self.member.as_ref() };
        // The announcement of the new section says that the old one is over (F1).
        if member.more.get() & !ORPHAN == 0 {
            let mode = member.enter();
            member.mind(mode, self);
        }
    }
}

impl Drop for Guard {
    #[inline]
    fn drop(&mut self) {
        // SAFETY: the member is ours while there is a guard.
        if unsafe { self.member.as_ref() }.unpin() {
            // SAFETY: that was all there was.
            unsafe { Member::leave(self.member) };
        }
    }
}

#[cfg(not(crossbeam_loom))]
mod default {
    use super::{Collector, Guard, Member, Participant};
    use std::cell::Cell;
    use std::ptr::{NonNull, null_mut};
    use std::sync::OnceLock;

    static DEFAULT: OnceLock<Collector> = OnceLock::new();

    thread_local! {
        /// The thread's place, or null: before the first pin, and when the thread is ending.
        static MEMBER: Cell<*mut Member> = const { Cell::new(null_mut()) };
        static OWN: Own = Own(DEFAULT.get_or_init(Collector::new).register());
    }

    struct Own(#[allow(dead_code, reason = "held for its drop")] Participant);

    impl Drop for Own {
        fn drop(&mut self) {
            MEMBER.set(null_mut());
        }
    }

    /// Begins a section of the process's default collector.
    #[inline]
    pub(crate) fn pin() -> Guard {
        match NonNull::new(MEMBER.get()) {
            // SAFETY: the thread's own place, which it keeps until `Own` is dropped.
            Some(member) => unsafe { Member::pin(member) },
            None => pin_first(),
        }
    }

    #[cold]
    fn pin_first() -> Guard {
        let first = OWN.try_with(|own| {
            MEMBER.set(own.0.member.as_ptr());
            own.0.pin()
        });
        // The thread is ending: a place for this guard alone.
        first.unwrap_or_else(|_| DEFAULT.get_or_init(Collector::new).register().pin())
    }
}

#[cfg(crossbeam_loom)]
mod default {
    use super::{Collector, Guard, Participant};

    loom::lazy_static! {
        static ref DEFAULT: Collector = Collector::new();
    }
    loom::thread_local! {
        static OWN: Participant = DEFAULT.register();
    }

    /// Begins a section of the model's default collector.
    pub(crate) fn pin() -> Guard {
        OWN.with(Participant::pin)
    }
}

pub(crate) use default::pin;
