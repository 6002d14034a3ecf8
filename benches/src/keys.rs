//! Keys, values and random numbers: computed, seeded, and cheap enough not to be what is measured.
//!
//! Keys are a bijection of (lane, index), so they are distinct without a table of them. conc-map-bench reads its keys
//! from arrays of 2^24 and more; computing them leaves those cache misses to the maps. A lane is a thread's own key
//! space, or the one that all threads share.

/// The lane of keys that all threads use.
pub const SHARED_LANE: u64 = 0xffff;

/// Indices from here on are never inserted: a get of one must miss.
pub const MISSING: u64 = 1 << 40;

/// The finalizer of MurmurHash3 (Appleby, public domain): a bijection on 64 bits with good diffusion.
#[inline]
pub fn mix64(mut x: u64) -> u64 {
    x ^= x >> 33;
    x = x.wrapping_mul(0xff51_afd7_ed55_8ccd);
    x ^= x >> 33;
    x = x.wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    x ^ (x >> 33)
}

/// The key with this index in this lane. Index below 2^48, lane below 2^16.
#[inline]
pub fn key_of(lane: u64, index: u64) -> u64 {
    mix64(lane << 48 | index)
}

/// The value that a key is first stored with: the key's upper half, so that a value found under a wrong key is noticed.
#[inline]
pub fn value_of(key: u64) -> u64 {
    key & 0xffff_ffff_0000_0000
}

/// Is this a value that was stored under this key? Updates count in the lower half.
#[inline]
pub fn value_fits(key: u64, value: u64) -> bool {
    (key ^ value) >> 32 == 0
}

/// WyRand (Wang Yi, public domain): one addition and one multiplication per number.
#[derive(Clone, Debug)]
pub struct Rng(u64);

impl Rng {
    /// A generator for one thread of a seeded run.
    pub fn new(seed: u64, thread: u64) -> Self {
        Self(mix64(seed ^ mix64(thread + 1)))
    }

    /// The next 64 random bits.
    #[inline]
    pub fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0xa076_1d64_78bd_642f);
        let wide = u128::from(self.0) * u128::from(self.0 ^ 0xe703_7ed1_a0b4_28db);
        (wide >> 64) as u64 ^ wide as u64
    }

    /// A number in `0..bound` from the next number's upper half; `bound` below 2^32. The bias is below bound / 2^32.
    #[inline]
    pub fn below(&mut self, bound: u64) -> u64 {
        ((self.bits() >> 32) * bound) >> 32
    }

    /// A number in `0.0..1.0`.
    pub fn unit(&mut self) -> f64 {
        (self.bits() >> 11) as f64 / (1u64 << 53) as f64
    }
}

/// Draws of ranks from a Zipf distribution, made before the run so that drawing costs one sequential load.
///
/// The draws are exact (inverse of the cumulative weights). They repeat after [`ZipfDraws::COUNT`], which a thread
/// reaches many times a second: what lies beyond the tail of that many draws is not visited.
#[derive(Clone, Debug)]
pub struct ZipfDraws {
    ranks: Vec<u32>,
}

impl ZipfDraws {
    /// How many draws one thread cycles through.
    pub const COUNT: usize = 1 << 20;

    /// One table of draws per thread: ranks in `0..keys`, rank r with weight 1 / (r + 1)^exponent.
    pub fn for_threads(keys: usize, exponent: f64, seed: u64, threads: usize) -> Vec<Self> {
        Self::many_for_threads(keys, exponent, seed, threads, Self::COUNT)
    }

    /// The same with tables of another length, a power of two.
    pub fn many_for_threads(keys: usize, exponent: f64, seed: u64, threads: usize, count: usize) -> Vec<Self> {
        assert!(count.is_power_of_two(), "positions are counted round by masking");
        let mut total = 0.0;
        let cumulative: Vec<f64> = (0..keys)
            .map(|rank| {
                total += ((rank + 1) as f64).powf(-exponent);
                total
            })
            .collect();
        (0..threads)
            .map(|thread| {
                let mut rng = Rng::new(seed, thread as u64);
                let ranks = (0..count)
                    .map(|_| {
                        let at = rng.unit() * total;
                        cumulative.partition_point(|&weight| weight <= at).min(keys - 1) as u32
                    })
                    .collect();
                Self { ranks }
            })
            .collect()
    }

    /// The draw at this position, counted round the table.
    #[inline]
    pub fn rank(&self, position: usize) -> u64 {
        u64::from(self.ranks[position & (self.ranks.len() - 1)])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn keys_of_all_lanes_are_distinct() {
        let lanes = [0, 1, 7, SHARED_LANE];
        let keys: HashSet<u64> =
            lanes.iter().flat_map(|&lane| (0..10_000).map(move |index| key_of(lane, index))).collect();
        assert_eq!(keys.len(), lanes.len() * 10_000);
    }

    #[test]
    fn values_fit_their_key_and_no_other() {
        let key = key_of(3, 14);
        assert!(value_fits(key, value_of(key)));
        assert!(value_fits(key, value_of(key) + 1_000_000));
        assert!(!value_fits(key_of(3, 15), value_of(key)));
    }

    #[test]
    fn zipf_draws_follow_the_weights() {
        let draws = &ZipfDraws::for_threads(1000, 0.99, 1, 1)[0];
        let weight_sum: f64 = (1..=1000).map(|rank| f64::from(rank).powf(-0.99)).sum();
        for rank in [0u64, 1, 9] {
            let drawn = (0..ZipfDraws::COUNT).filter(|&i| draws.rank(i) == rank).count() as f64;
            let expected = ZipfDraws::COUNT as f64 * ((rank + 1) as f64).powf(-0.99) / weight_sum;
            assert!((drawn / expected - 1.0).abs() < 0.05, "rank {rank}: drawn {drawn}, expected {expected}");
        }
    }

    #[test]
    fn rng_is_seeded_and_stays_below_its_bound() {
        let draw = |seed, thread| -> Vec<u64> {
            let mut rng = Rng::new(seed, thread);
            (0..100).map(|_| rng.below(10)).collect()
        };
        assert_eq!(draw(1, 0), draw(1, 0));
        assert_ne!(draw(1, 0), draw(1, 1));
        assert!(draw(1, 0).iter().all(|&n| n < 10));
    }
}
