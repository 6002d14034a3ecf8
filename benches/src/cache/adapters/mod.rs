//! The caches that are compared: one file each. The list of them is [`crate::adapters::CACHES`].

pub mod foyer;
pub mod memkv;
pub mod moka;
pub mod quick_cache;
pub mod segcache;
pub mod tinyufo;
