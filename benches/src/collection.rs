//! What a map must offer to be measured: two small traits, implemented once per rival in [`crate::adapters`].

/// A concurrent map from `u64` to `u64`, shared by all threads of a run.
pub trait Collection: Send + Sync + Sized {
    /// What one thread works through.
    type Handle<'a>: Handle
    where
        Self: 'a;

    /// An empty map with room for `capacity` entries; 0 asks for the smallest map there is. The hasher is
    /// [`crate::hasher::hasher`].
    fn with_capacity(capacity: usize) -> Self;

    /// The calling thread's way into the map. Taken once per thread, outside the measured time.
    fn handle(&self) -> Self::Handle<'_>;
}

/// One thread's operations on a [`Collection`].
///
/// Every operation takes effect before it returns: a thread that inserted a key finds it. Answers are checked during
/// measurement, so an adapter that cuts a corner fails instead of winning.
pub trait Handle {
    /// The value of `key`, copied out.
    ///
    /// Always inlined, in every adapter, so that all are alike. How far a map's own code is inlined is that map's business.
    fn get(&mut self, key: u64) -> Option<u64>;

    /// Maps `key` to `value` and says whether the key is new. A present key gets the new value.
    fn insert(&mut self, key: u64, value: u64) -> bool;

    /// Removes `key` and says whether it was there.
    fn remove(&mut self, key: u64) -> bool;

    /// Atomically replaces the value of `key` by `change` of it and says whether the key was there. `change` may be
    /// called again if another thread was faster, and runs while the map holds whatever it holds during an update: a
    /// bucket's lock, a shard's lock, an epoch guard. The workloads with a stopped thread stop it there.
    fn update(&mut self, key: u64, change: impl Fn(u64) -> u64) -> bool;

    /// Called between batches of 100 operations. An adapter that keeps a guard across operations renews it here.
    fn rest(&mut self) {}

    /// Called before the thread does nothing for a while, and before [`rest`](Handle::rest). An adapter that keeps a guard lets it go.
    fn leave(&mut self) {}
}
