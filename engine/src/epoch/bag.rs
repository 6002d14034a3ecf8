//! Closures that wait, by the bag.

use std::mem::MaybeUninit;
use std::ptr::null_mut;

/// Closures in a bag.
pub(crate) const BAG_LEN: usize = if cfg!(crossbeam_loom) { 2 } else { 64 };

/// Room for a closure: an address, a count and one more word.
type Words = [usize; 3];

/// A closure to be called once, without an allocation if it is small.
pub(super) struct Deferred {
    call: unsafe fn(*mut Words),
    words: MaybeUninit<Words>,
}

impl Deferred {
    #[inline]
    pub(super) fn new<F: FnOnce()>(closure: F) -> Deferred {
        unsafe fn call_here<F: FnOnce()>(words: *mut Words) {
            // SAFETY: written by `new` for this type; read once.
            let closure = unsafe { words.cast::<F>().read() };
            closure();
        }
        unsafe fn call_boxed<F: FnOnce()>(words: *mut Words) {
            // SAFETY: written by `new`: an address of `Box::into_raw`.
            let closure = unsafe { Box::from_raw(words.cast::<*mut F>().read()) };
            closure();
        }
        let mut words = MaybeUninit::<Words>::uninit();
        if size_of::<F>() <= size_of::<Words>() && align_of::<F>() <= align_of::<Words>() {
            // SAFETY: it fits.
            unsafe { words.as_mut_ptr().cast::<F>().write(closure) };
            Deferred { call: call_here::<F>, words }
        } else {
            // SAFETY: an address fits.
            unsafe { words.as_mut_ptr().cast::<*mut F>().write(Box::into_raw(Box::new(closure))) };
            Deferred { call: call_boxed::<F>, words }
        }
    }

    fn call(mut self) {
        // SAFETY: `new` chose the function for what it wrote; `self` is consumed.
        unsafe { (self.call)(self.words.as_mut_ptr()) };
    }
}

/// Closures of one thread. Dropping it runs what is left in it.
pub(super) struct Bag {
    pub(super) next: *mut Bag,
    /// The epoch when it was sealed.
    pub(super) tag: u64,
    /// Those from `done` to `len` are there.
    done: usize,
    len: usize,
    closures: [MaybeUninit<Deferred>; BAG_LEN],
}

impl Bag {
    #[cold]
    pub(super) fn new() -> Box<Bag> {
        let closures = [const { MaybeUninit::uninit() }; BAG_LEN];
        Box::new(Bag { next: null_mut(), tag: 0, done: 0, len: 0, closures })
    }

    /// # Panics
    /// If it is full.
    #[inline]
    pub(super) fn push(&mut self, closure: Deferred) {
        self.closures[self.len].write(closure);
        self.len += 1;
    }

    #[inline]
    pub(super) fn is_full(&self) -> bool {
        self.len == BAG_LEN
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }
}

impl Drop for Bag {
    fn drop(&mut self) {
        /// Goes on with the rest when a closure panics: only a second panic ends the process, as it does everywhere.
        struct Rest<'a>(&'a mut Bag);
        impl Drop for Rest<'_> {
            fn drop(&mut self) {
                while self.0.done < self.0.len {
                    let at = self.0.done;
                    self.0.done += 1;
                    // SAFETY: written by `push`, and `done` has passed it.
                    unsafe { self.0.closures[at].assume_init_read() }.call();
                }
            }
        }
        let rest = Rest(self);
        while rest.0.done < rest.0.len {
            let at = rest.0.done;
            rest.0.done += 1;
            // SAFETY: as above.
            unsafe { rest.0.closures[at].assume_init_read() }.call();
        }
    }
}

/// Bags in the order in which they came. Dropping it runs them.
pub(super) struct Queue {
    first: *mut Bag,
    last: *mut Bag,
    len: u64,
}

// SAFETY: it owns its bags, whose closures may run anywhere by the promise of `defer_unchecked`.
unsafe impl Send for Queue {}

impl Default for Queue {
    fn default() -> Queue {
        Queue { first: null_mut(), last: null_mut(), len: 0 }
    }
}

impl Queue {
    /// Appends a stack of bags, the one at its bottom first. The stack is the caller's, and the queue's from now on.
    pub(super) fn append_stack(&mut self, top: *mut Bag) {
        let (mut first, mut rest) = (null_mut(), top);
        while !rest.is_null() {
            self.len += 1;
            // SAFETY: ours.
            let next = std::mem::replace(unsafe { &mut (*rest).next }, first);
            (first, rest) = (rest, next);
        }
        if first.is_null() {
            return;
        }
        if self.first.is_null() {
            self.first = first;
        } else {
            // SAFETY: ours; a queue with a first bag has a last one.
            unsafe { (*self.last).next = first };
        }
        self.last = top;
    }

    /// Takes bags from the front, `most` at most, as long as they are `ready`.
    pub(super) fn split_front(&mut self, most: usize, ready: impl Fn(&Bag) -> bool) -> Queue {
        let mut front = Queue::default();
        for _ in 0..most {
            // SAFETY: ours.
            let Some(bag) = (unsafe { self.first.as_mut() }).filter(|bag| ready(bag)) else { break };
            self.first = std::mem::replace(&mut bag.next, null_mut());
            self.len -= 1;
            front.len += 1;
            if front.first.is_null() {
                front.first = bag;
            } else {
                // SAFETY: as above.
                unsafe { (*front.last).next = bag };
            }
            front.last = bag;
        }
        front
    }

    /// Bags that came and have not been taken.
    pub(super) fn len(&self) -> u64 {
        self.len
    }

    fn pop(&mut self) -> Option<Box<Bag>> {
        // SAFETY: ours; made by `Box::into_raw` in `Global::push`.
        let bag = (!self.first.is_null()).then(|| unsafe { Box::from_raw(self.first) })?;
        self.first = bag.next;
        self.len -= 1;
        Some(bag)
    }

    /// Runs everything; what is left when a closure panics is run by the drop.
    pub(super) fn run(mut self) {
        while let Some(bag) = self.pop() {
            drop(bag);
        }
    }
}

impl Drop for Queue {
    fn drop(&mut self) {
        while let Some(bag) = self.pop() {
            drop(bag);
        }
    }
}
