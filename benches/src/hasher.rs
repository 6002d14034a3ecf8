//! The one hasher that every map under test is built with.
//!
//! A map's default hasher is part of its product, yet comparing a map that hashes with SipHash to one that hashes with
//! foldhash compares hashers. So the hasher is chosen once, for all, by a cargo feature, and its name is printed with
//! every result. Its seed is fixed: a run can be repeated. Caches that do not let their hasher be chosen say so in
//! their adapter.

#[cfg(all(feature = "ahash", feature = "siphash"))]
compile_error!("choose one hasher: the features `ahash` and `siphash` exclude each other");

#[cfg(not(any(feature = "ahash", feature = "siphash")))]
mod chosen {
    /// The hasher of this build.
    pub type Hasher = foldhash::fast::FixedState;

    /// What results call it.
    pub const NAME: &str = "foldhash 0.2 (fast, fixed seed)";

    /// The hasher, seeded the same in every map and every run.
    pub fn hasher() -> Hasher {
        Hasher::with_seed(super::SEED)
    }
}

#[cfg(feature = "ahash")]
mod chosen {
    /// The hasher of this build.
    pub type Hasher = ahash::RandomState;

    /// What results call it.
    pub const NAME: &str = "ahash 0.8 (fixed seed)";

    /// The hasher, seeded the same in every map and every run.
    pub fn hasher() -> Hasher {
        Hasher::with_seeds(super::SEED, 1, 2, 3)
    }
}

#[cfg(feature = "siphash")]
mod chosen {
    /// The hasher of this build.
    pub type Hasher = std::hash::BuildHasherDefault<std::hash::DefaultHasher>;

    /// What results call it.
    pub const NAME: &str = "SipHash 1-3 (std, zero key)";

    /// The hasher: keyed with zeros, the same in every map and every run.
    pub fn hasher() -> Hasher {
        Hasher::default()
    }
}

pub use chosen::{Hasher, NAME, hasher};

/// Digits of pi: a constant nobody chose to flatter a map.
#[cfg(not(feature = "siphash"))]
const SEED: u64 = 0x3141_5926_5358_9793;
