//! Hot keys: which keys are asked for most, from a sample of the keys that commands name.
//!
//! Every worker draws one key out of [`SAMPLE_EVERY`] on average, at random distances so that no pattern of requests escapes or
//! fools it, and counts it in a [`Sketch`]: the *space-saving* algorithm (Metwally, Agrawal, El Abbadi, 2005), which keeps a
//! fixed number of keys and gives the place of the rarest one to a newcomer, along with its count as the newcomer's possible
//! error. A key that makes up more than one in [`SKETCH_KEYS`] of a worker's samples is never missing. Old samples fade: every
//! [`SAMPLES_PER_HALVING`] samples all counts are halved, so the list follows the load.
//!
//! Cost: one subtraction for each group of keys, and some hundred nanoseconds for each sampled key: less than a nanosecond a key.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

/// One key out of so many is sampled.
pub const SAMPLE_EVERY: u32 = 256;

/// Keys that a worker keeps.
pub const SKETCH_KEYS: usize = 256;

/// Samples after which the old ones count half.
pub const SAMPLES_PER_HALVING: u64 = 1 << 16;

/// Decides which keys are sampled; belongs to one worker.
#[derive(Debug)]
pub struct Sampler {
    /// Keys until the next sample.
    left: u32,
    random: u64,
}

impl Default for Sampler {
    fn default() -> Sampler {
        Sampler { left: 1, random: 0x9E37_79B9_7F4A_7C15 }
    }
}

impl Sampler {
    /// Passes over `count` keys; answers the index of a sampled one among them, if there is one.
    #[inline]
    pub fn pass(&mut self, count: usize) -> Option<usize> {
        let count = count as u32;
        if self.left > count {
            self.left -= count;
            return None;
        }
        let index = self.left - 1;
        self.draw(count - self.left);
        Some(index as usize)
    }

    /// Draws the next distance, of which `passed` keys have been passed already: another sample among those is left out.
    #[cold]
    fn draw(&mut self, passed: u32) {
        // xorshift64: any distribution that no client can be in step with will do.
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        // Evenly between 1 and twice the average.
        let distance = 1 + (self.random >> 32) as u32 % (2 * SAMPLE_EVERY - 1);
        self.left = distance.saturating_sub(passed).max(1);
    }
}

/// A key and how often it was sampled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hot {
    /// The key.
    pub key: Box<[u8]>,
    /// Samples; too many by `error` at worst.
    pub count: u64,
    /// By how much the count may be too high.
    pub error: u64,
}

/// The keys that were sampled most: three columns, so that looking for a key or for the rarest one passes over few cache lines.
#[derive(Debug, Default)]
pub struct Sketch {
    hashes: Vec<u64>,
    counts: Vec<u64>,
    /// Each key, and by how much its count may be too high.
    keys: Vec<(Box<[u8]>, u64)>,
    samples: u64,
}

impl Sketch {
    /// Counts a sample.
    pub fn note(&mut self, key: &[u8], hash: u64) {
        self.samples += 1;
        if self.samples.is_multiple_of(SAMPLES_PER_HALVING) {
            self.fade();
        }
        let known = self.hashes.iter().position(|known| *known == hash);
        if let Some(at) = known
            && *self.keys[at].0 == *key
        {
            self.counts[at] += 1;
        } else if self.keys.len() < SKETCH_KEYS {
            self.hashes.push(hash);
            self.counts.push(1);
            self.keys.push((key.into(), 0));
        } else {
            let rarest = self.counts.iter().copied().min().unwrap_or(0);
            let at = self.counts.iter().position(|count| *count == rarest).unwrap_or(0);
            self.hashes[at] = hash;
            self.counts[at] = rarest + 1;
            self.keys[at] = (key.into(), rarest);
        }
    }

    fn fade(&mut self) {
        self.counts.iter_mut().for_each(|count| *count /= 2);
        self.keys.iter_mut().for_each(|(_, error)| *error /= 2);
    }
}

/// One worker's sketch, which others may read.
#[derive(Debug, Default)]
pub struct Shared(Mutex<Sketch>);

impl Shared {
    /// Counts a sample, unless somebody is reading just now: a worker does not wait.
    pub fn note(&self, key: &[u8], hash: u64) {
        if let Ok(mut sketch) = self.0.try_lock() {
            sketch.note(key, hash);
        }
    }

    /// Forgets everything.
    pub fn clear(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Sketch::default();
    }
}

/// The `count` hottest keys of all workers, hottest first, and the number of samples that all counts come from.
pub fn hottest<'s>(sketches: impl Iterator<Item = &'s Shared>, count: usize) -> (Vec<Hot>, u64) {
    let mut all: HashMap<Box<[u8]>, (u64, u64)> = HashMap::new();
    for shared in sketches {
        let sketch = shared.0.lock().unwrap_or_else(PoisonError::into_inner);
        for ((key, error), count) in sketch.keys.iter().zip(&sketch.counts) {
            let sum = all.entry(key.clone()).or_default();
            sum.0 += count;
            sum.1 += error;
        }
    }
    // Space-saving hands counts on and loses none, so their sum is the number of samples, faded as they are.
    let samples = all.values().map(|(count, _)| count).sum();
    let mut hot: Vec<Hot> = all.into_iter().map(|(key, (count, error))| Hot { key, count, error }).collect();
    hot.sort_unstable_by(|a, b| b.count.cmp(&a.count).then_with(|| a.key.cmp(&b.key)));
    hot.truncate(count);
    (hot, samples)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_key_in_so_many_is_sampled_whatever_the_size_of_the_groups() {
        for size in [1, 3, 16, 64] {
            let mut sampler = Sampler::default();
            let groups = 3_000_000 / size;
            let samples = (0..groups).filter(|_| sampler.pass(size).is_some_and(|index| index < size)).count();
            let expected = (groups * size) as f64 / f64::from(SAMPLE_EVERY);
            let ratio = samples as f64 / expected;
            assert!((0.7..1.1).contains(&ratio), "groups of {size}: {ratio}");
        }
    }

    #[test]
    fn hot_keys_stand_out_among_many() {
        let shared = [Shared::default(), Shared::default()];
        for i in 0..30_000u64 {
            let cold = format!("cold{i}");
            shared[(i % 2) as usize].note(cold.as_bytes(), i << 8);
            if i % 5 == 0 {
                shared[0].note(b"warm", 2);
            }
            shared[(i % 2) as usize].note(b"hot", 1);
        }
        let (top, samples) = hottest(shared.iter(), 2);
        assert_eq!((&*top[0].key, &*top[1].key), (&b"hot"[..], &b"warm"[..]));
        assert_eq!(samples, 66_000);
        assert!((30_000..30_600).contains(&(top[0].count - top[0].error)) || top[0].count >= 30_000, "{top:?}");
        assert!(top[1].count >= 6_000 && top[1].count - top[1].error <= 6_000, "{top:?}");
    }

    #[test]
    fn the_past_fades() {
        let shared = Shared::default();
        for _ in 0..SAMPLES_PER_HALVING {
            shared.note(b"yesterday", 1);
        }
        for _ in 0..SAMPLES_PER_HALVING {
            shared.note(b"today", 2);
        }
        let (top, _) = hottest([&shared].into_iter(), 2);
        assert_eq!(&*top[0].key, b"today");
        assert!(top[1].count * 2 <= SAMPLES_PER_HALVING / 2 + 2, "{top:?}");
    }

    #[test]
    fn equal_hashes_are_not_equal_keys() {
        let mut sketch = Sketch::default();
        sketch.note(b"a", 7);
        sketch.note(b"b", 7);
        assert_eq!(sketch.keys.len(), 2);
        assert_eq!(sketch.counts, [1, 1]);
    }
}
