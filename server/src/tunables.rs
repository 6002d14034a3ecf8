//! Settings that administration commands change while the server runs (protocol 10).
//!
//! Those of the crawler work. The others belong to parts of memcached that do not exist here (slab classes and their page mover,
//! LRU lists, external storage): they are accepted, checked and shown by `stats settings`, so that tools which set them go on
//! working, and change nothing else.

/// See the [module documentation](self).
#[derive(Clone, Debug, PartialEq)]
pub struct Tunables {
    /// Whether the crawler may run (`lru_crawler enable`).
    pub crawler: bool,
    /// Microseconds that it rests after every thousand items (`lru_crawler sleep`).
    pub crawler_sleep_us: u32,
    /// Items that one crawl looks at; 0 for all (`lru_crawler tocrawl`).
    pub crawler_items_max: u32,
    /// `slabs automove`; without effect.
    pub automove: u32,
    /// `slabs automove ratio`; without effect.
    pub automove_ratio: f64,
    /// `slabs automove window`; without effect.
    pub automove_window: u32,
    /// `slabs automove freeratio`; without effect.
    pub automove_freeratio: f64,
    /// `lru mode`; without effect.
    pub segmented: bool,
    /// `lru tune`; without effect.
    pub hot_pct: u32,
    /// `lru tune`; without effect.
    pub warm_pct: u32,
    /// `lru tune`; without effect.
    pub hot_factor: f64,
    /// `lru tune`; without effect.
    pub warm_factor: f64,
    /// `lru temp_ttl`: the number of seconds; without effect.
    pub temporary_ttl: Option<u32>,
    /// `extstore`; without effect.
    pub external: External,
}

/// The settings of memcached's external storage, which does not exist here.
#[derive(Clone, Debug, PartialEq)]
#[allow(missing_docs)] // each is the setting of that name
pub struct External {
    pub item_size: u32,
    pub item_age: u32,
    pub low_ttl: u32,
    pub recache_rate: u32,
    pub wbuf_size: u32,
    pub compact_under: u32,
    pub drop_under: u32,
    pub max_sleep: u32,
    pub max_frag: f64,
    pub drop_unread: bool,
}

impl Default for Tunables {
    /// memcached's defaults (protocol 9.2).
    fn default() -> Tunables {
        Tunables {
            crawler: true,
            crawler_sleep_us: 100,
            crawler_items_max: 0,
            automove: 1,
            automove_ratio: 0.8,
            automove_window: 10,
            automove_freeratio: 0.01,
            segmented: true,
            hot_pct: 20,
            warm_pct: 40,
            hot_factor: 0.2,
            warm_factor: 2.0,
            temporary_ttl: None,
            external: External {
                item_size: 512,
                item_age: u32::MAX,
                low_ttl: 0,
                recache_rate: 2000,
                wbuf_size: 4 << 20,
                compact_under: 0,
                drop_under: 0,
                max_sleep: 1_000_000,
                max_frag: 0.8,
                drop_unread: false,
            },
        }
    }
}
