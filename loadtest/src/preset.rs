//! Published workloads by name.
//!
//! A preset is a set of options: whatever it says can be said on the command line, and whatever is said there goes first. All of
//! them are synthetic: requests are drawn independently from published statistics, not recorded. What real clients add (bursts,
//! keys that come and go, sizes that follow popularity) is missing.

use std::fmt;

/// A published workload.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Preset {
    /// What `--preset` calls it.
    pub name: &'static str,
    /// What it stands for.
    pub about: &'static str,
    /// Who published the figures.
    pub source: &'static str,
    /// What was published and cannot be had here, or was added.
    pub beyond: &'static str,
    /// `--mix`.
    pub mix: &'static str,
    /// `--keys`.
    pub keys: u64,
    /// `--key-size`.
    pub key_size: &'static str,
    /// `--value-size`.
    pub value_size: &'static str,
    /// `--popularity`.
    pub popularity: &'static str,
    /// `--ttl`.
    pub ttl: &'static str,
    /// `--look-aside`.
    pub look_aside: bool,
}

const YCSB: &str = "YCSB core workloads (Cooper et al., SoCC 2010)";
const ETC: &str = "Atikoglu et al., SIGMETRICS 2012, ETC pool, as modelled by mutilate";
const TWITTER: &str =
    "Yang, Yue, Rashmi, OSDI 2020: Twitter's cache traces of March 2020, table of clusters (CC BY 4.0)";
const CACHELIB: &str = "Meta, CacheLib's CacheBench, test configuration kvcache_reg (Apache-2.0)";

const ONE_RECORD: &str =
    "records of 10 fields of 100 B as one value; ranks are scattered over these keys, not over 10^10";
const MEANS: &str = "all keys and all values have the mean length; the number of keys is chosen; times to live that the table leaves out \
                     are left out";
const MEANS_AND_SETS: &str = "all keys and all values have the mean length; the number of keys is chosen; the 1 % that the table does not \
                              name are sets; times to live that it leaves out are left out";
const MEANS_AND_CAS: &str = "all keys and all values have the mean length; the number of keys is chosen; gets and cas are one operation, \
                             `cas`";
const NO_COUNTER_SETS: &str = "all keys and values have the mean length; sets go to other keys than incr";

const fn ycsb(name: &'static str, about: &'static str, mix: &'static str, popularity: &'static str) -> Preset {
    Preset {
        name,
        about,
        source: YCSB,
        beyond: ONE_RECORD,
        mix,
        keys: 1_000_000,
        key_size: "23",
        value_size: "1000",
        popularity,
        ttl: "0",
        look_aside: false,
    }
}

/// A cluster of the table: key bytes, value bytes, and a number of keys that makes about a gigabyte at most.
const fn twitter(
    (name, about): (&'static str, &'static str),
    (key_size, value_size): (&'static str, &'static str),
    mix: &'static str,
    ttl: &'static str,
    popularity: &'static str,
    keys: u64,
) -> Preset {
    Preset {
        name,
        about,
        source: TWITTER,
        beyond: MEANS,
        mix,
        keys,
        key_size,
        value_size,
        popularity,
        ttl,
        look_aside: false,
    }
}

const MILLION: u64 = 1_000_000;

/// All presets.
pub const PRESETS: &[Preset] = &[
    ycsb("ycsb-a", "update heavy", "get=50,set=50", "zipf:0.99"),
    ycsb("ycsb-b", "read mostly", "get=95,set=5", "zipf:0.99"),
    ycsb("ycsb-c", "read only", "get=100", "zipf:0.99"),
    Preset {
        beyond: "records of 10 fields of 100 B as one value; inserts write one key after another, round and round, instead of ever new ones",
        ..ycsb("ycsb-d", "read latest", "get=95,set=5", "latest:0.99")
    },
    ycsb("ycsb-f", "read, modify, write", "get=50,cas=50", "zipf:0.99"),
    Preset {
        name: "facebook-etc",
        about: "general-purpose pool: small keys, values from a few bytes to a megabyte",
        source: ETC,
        beyond: "the model's inter-arrival times need --rate 52.7k --arrivals etc, and it says nothing of popularity: uniform",
        mix: "get=30,set=1",
        keys: MILLION,
        key_size: "gev:30.7984:8.20449:0.078688@1..250",
        value_size: "table:0=0.00536,1=0.00047,2=0.1782,3=0.09239,4=0.00018,5=0.0274,6=0.00065,7=0.00606,8=0.00023,\
                     9=0.00837,10=0.00837,11=0.08989,12=0.00092,13=0.00326,14=0.0198+pareto:15:214.476:0.348238@0..1m",
        popularity: "uniform",
        ttl: "0",
        look_aside: false,
    },
    Preset {
        beyond: MEANS_AND_SETS,
        ..twitter(
            ("twitter-1", "very hot keys, mostly read"),
            ("80", "267"),
            "get=0.99,set=0.01",
            "240s",
            "zipf:2.68",
            MILLION,
        )
    },
    twitter(("twitter-2", "tiny values, read"), ("21", "68"), "get=1", "4d:0.59,2d:0.41", "zipf:1.49", MILLION),
    twitter(
        ("twitter-4", "larger values, many times to live"),
        ("67", "2439"),
        "get=0.93,set=0.07",
        "60s:0.39,300s:0.24,1h:0.13,600s:0.12,4h:0.09,1d:0.03",
        "zipf:1.1",
        400_000,
    ),
    twitter(
        ("twitter-8", "half writes, larger values"),
        ("23", "9497"),
        "get=0.5,set=0.5",
        "1380s",
        "zipf:1.74",
        100_000,
    ),
    Preset {
        beyond: MEANS_AND_SETS,
        ..twitter(("twitter-9", "small session data"), ("32", "39"), "get=0.99,set=0.01", "2h", "zipf:1.68", MILLION)
    },
    Preset {
        beyond: MEANS_AND_CAS,
        ..twitter(
            ("twitter-11", "storage with cas"),
            ("24", "170"),
            "get=0.96,add=0.02,cas=0.01",
            "5d:0.97,20s:0.03",
            "zipf:1.49",
            MILLION,
        )
    },
    twitter(
        ("twitter-12", "mostly writes, short-lived"),
        ("44", "1030"),
        "set=0.8,get=0.2",
        "300s",
        "zipf:0.3",
        MILLION,
    ),
    twitter(
        ("twitter-14", "reads and deletes"),
        ("96", "414"),
        "get=0.65,delete=0.22,set=0.13",
        "1d",
        "zipf:1.3",
        MILLION,
    ),
    twitter(("twitter-15", "only writes"), ("18", "102"), "set=1", "30s", "zipf:0.02", MILLION),
    Preset {
        beyond: MEANS_AND_CAS,
        ..twitter(
            ("twitter-18", "small values, very hot keys, cas"),
            ("18", "37"),
            "get=0.96,add=0.01,cas=0.01",
            "12h",
            "zipf:2.1",
            MILLION,
        )
    },
    Preset {
        beyond: NO_COUNTER_SETS,
        ..twitter(
            ("twitter-22", "rate limiter"),
            ("54", "4"),
            "get=0.72,incr=0.18,set=0.1",
            "1d:0.85,1h:0.11,1800s:0.03",
            "zipf:0.76",
            MILLION,
        )
    },
    Preset {
        beyond: NO_COUNTER_SETS,
        ..twitter(
            ("twitter-23", "counters"),
            ("35", "224"),
            "get=0.36,set=0.31,incr=0.3,delete=0.02",
            "120s:0.93,2700s:0.05,5s:0.03",
            "zipf:0.27",
            MILLION,
        )
    },
    Preset {
        look_aside: true,
        beyond: "all keys and all values have the mean length; the number of keys is chosen; instead of the published mix \
                 (0.86 get, 0.13 set) every miss makes a set, as many as the server's misses",
        ..twitter(
            ("twitter-29", "classic look-aside cache"),
            ("36", "799"),
            "get=1",
            "1h:0.67,2h:0.33",
            "zipf:1.23",
            MILLION,
        )
    },
    twitter(
        ("twitter-37", "large values, short-lived"),
        ("72", "20134"),
        "get=0.63,set=0.37",
        "20s:0.91,300s:0.06,2h:0.02,600s:0.01",
        "zipf:0.43",
        50_000,
    ),
    twitter(
        ("twitter-50", "very large values"),
        ("18", "67485"),
        "get=0.52,set=0.48",
        "900s:0.73,1200s:0.24",
        "zipf:1.28",
        15_000,
    ),
    Preset {
        beyond: MEANS_AND_CAS,
        ..twitter(
            ("twitter-52", "storage, long-lived"),
            ("20", "273"),
            "get=0.91,add=0.04,cas=0.02",
            "1d:0.65,14d:0.27,12h:0.07",
            "zipf:1.21",
            MILLION,
        )
    },
    twitter(
        ("twitter-53", "lists that are prepended to"),
        ("36", "9213"),
        "get=0.89,set=0.03,prepend=0.09",
        "30d:0.66,21d:0.34",
        "zipf:1.21",
        50_000,
    ),
    Preset {
        name: "meta-kvcache",
        about: "key-value cache in front of storage, look-aside",
        source: CACHELIB,
        beyond: "sizes and popularity are curves through published points, the greatest value fitted to the mean of 335 B; \
                 gets of keys that are never stored (0.135 to 0.985 others) are left out; fewer keys, so hotter ones",
        mix: "get=1",
        keys: MILLION,
        key_size: "uniform:16:250",
        value_size: "curve:0=32,0.5=159,0.9=191,0.99=959,0.999=12991,1=530000",
        popularity: "curve:1=0.066,100=0.294,10000=0.565,1000000=0.865,10500000=1",
        ttl: "0",
        look_aside: true,
    },
];

impl Preset {
    /// The preset of this name.
    ///
    /// # Errors
    /// Says where to find the names.
    pub fn named(name: &str) -> Result<&'static Self, String> {
        let found = PRESETS.iter().find(|preset| preset.name == name);
        found.ok_or_else(|| "there is no such preset: `memkv-loadtest presets` lists them".into())
    }
}

/// What `presets` prints.
#[derive(Clone, Copy, Debug)]
pub struct Listing;

impl fmt::Display for Listing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "All presets are synthetic: requests are drawn independently from published statistics, not recorded."
        )?;
        let mut source = "";
        for preset in PRESETS {
            if preset.source != source {
                source = preset.source;
                writeln!(f, "\nSource: {source}")?;
            }
            let Preset { name, about, mix, keys, key_size, value_size, popularity, ttl, look_aside, beyond, .. } =
                preset;
            writeln!(f, "\n  {name:<14} {about}")?;
            write!(f, "      --mix {mix} --keys {keys} --key-size {key_size} --popularity {popularity} --ttl {ttl}")?;
            writeln!(f, "{}\n      --value-size {value_size}", if *look_aside { " --look-aside" } else { "" })?;
            writeln!(f, "      Not as published: {beyond}.")?;
        }
        writeln!(f, "\nThere is no ycsb-e: it scans, for which memcached's protocol has no command.")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::popularity::Skew;
    use crate::sizes::Sizes;
    use crate::spec::Weights;
    use crate::workload::Ttls;

    #[test]
    fn every_preset_can_be_read() {
        for preset in PRESETS {
            let name = preset.name;
            assert_eq!(Preset::named(name), Ok(preset), "names are unique");
            Weights::parse(preset.mix).unwrap_or_else(|error| panic!("{name}: {error}"));
            Sizes::parse(preset.key_size).unwrap_or_else(|error| panic!("{name}: {error}"));
            Sizes::parse(preset.value_size).unwrap_or_else(|error| panic!("{name}: {error}"));
            Skew::parse(preset.popularity).unwrap_or_else(|error| panic!("{name}: {error}"));
            Ttls::parse(preset.ttl).unwrap_or_else(|error| panic!("{name}: {error}"));
        }
        assert!(Preset::named("nobody").is_err());
    }

    #[test]
    fn drawn_sizes_have_the_published_moments() {
        let drawn = |text: &str| Sizes::parse(text).unwrap().drawn(0, 1 << 20, 1);
        let etc = Preset::named("facebook-etc").unwrap();
        // Sampled elsewhere from the same model: mean 195, and for the percentiles 39, 521, 1894.
        let values = drawn(etc.value_size);
        assert!((values.mean() - 195.0).abs() < 4.0, "{}", values.mean());
        for (share, bytes) in [(0.5, 39.0), (0.9, 521.0), (0.99, 1894.0)] {
            let seen = Sizes::parse(etc.value_size).unwrap().quantile(share);
            assert!((seen / bytes - 1.0).abs() < 0.03, "{seen} for {bytes}");
        }
        let meta = Preset::named("meta-kvcache").unwrap();
        assert!((drawn(meta.value_size).mean() - 335.0).abs() < 10.0, "{}", drawn(meta.value_size).mean());
    }
}
