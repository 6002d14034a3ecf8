//! The options that describe requests, and the load that they amount to.

use crate::error::Error;
use crate::fleet::{Books, Shape};
use crate::judge::ELEMENT_BYTES_MIN;
use crate::keys::{KEY_BYTES_MAX, KeyNames};
use crate::popularity::{Popularity, Skew};
use crate::sizes::Sizes;
use crate::space::Space;
use crate::spec::Weights;
use crate::units::{parse_count, parse_duration};
use crate::workload::{Items, Mix, Ttls, ValueSizes};
use clap::Args;
use std::sync::Arc;
use std::time::Duration;

/// Most connections of one run: beyond this a single client address has too few ports.
const CONNECTIONS_MAX: usize = 25_000;
/// Most client threads.
const THREADS_MAX: usize = 1024;
/// Most requests sent together on one connection.
const DEPTH_MAX: usize = 10_000;
/// Most keys of one get.
const MULTIGET_MAX: usize = 10_000;
/// Largest value.
const VALUE_BYTES_MAX: usize = 1 << 30;
/// Keep the lengths of keys and of values independent.
const KEY_SALT: u64 = 0x6b65_7973;
const VALUE_SALT: u64 = 0x7661_6c75_6573;
/// Elements that make a list as long as an item's value, about half of the most that a list has.
const LIST_ELEMENTS: usize = 16;

/// The requests.
#[derive(Args, Clone, Debug)]
pub struct LoadArgs {
    /// Connections, over all threads
    #[arg(short, long, default_value_t = 50)]
    pub connections: usize,
    /// Client threads
    #[arg(short, long, default_value_t = 1)]
    pub threads: usize,
    /// Requests sent together on a connection; the next ones follow when all are answered
    #[arg(short, long, alias = "pipeline", default_value_t = 1)]
    pub depth: usize,
    /// Requests after which a connection is closed and opened anew [default: never]
    #[arg(long, value_name = "REQUESTS", value_parser = parse_count)]
    pub churn: Option<u64>,
    /// Proportion of gets to sets
    #[arg(short, long, value_name = "GET:SET", value_parser = parse_ratio, default_value = "30:1")]
    pub ratio: (u64, u64),
    /// Weights of all operations, instead of --ratio: get, gets, set, add, cas, delete, incr, touch, append, prepend
    #[arg(short, long, value_name = "OPERATION=WEIGHT,...", value_parser = Weights::parse, conflicts_with = "ratio")]
    pub mix: Option<Weights>,
    /// Set the keys that a get does not find
    #[arg(long)]
    pub look_aside: bool,
    /// How long what is written may live, with weights if there are several [default: for ever]
    #[arg(long, value_name = "TIME[:WEIGHT],...", value_parser = Ttls::parse)]
    pub ttl: Option<Ttls>,
    /// Keys that one get asks for
    #[arg(long, value_name = "KEYS", default_value_t = 1)]
    pub multiget: usize,
    /// Number of different keys
    #[arg(short, long, value_parser = parse_count, default_value = "1m")]
    pub keys: u64,
    /// Length of the keys, or how it is distributed: see --value-size
    #[arg(long, value_name = "SIZES", value_parser = Sizes::parse, default_value = "16")]
    pub key_size: Sizes,
    /// Length of the values, or how it is distributed: BYTES, uniform:MIN:MAX, lognormal:MEDIAN:SIGMA,
    /// pareto:LOCATION:SCALE:SHAPE, gev:LOCATION:SCALE:SHAPE or table:BYTES=WEIGHT,..., each with @MIN..MAX to cut it
    #[arg(long, value_name = "SIZES", value_parser = Sizes::parse, default_value = "32")]
    pub value_size: Sizes,
    /// Exponent of the keys' popularity: short for --popularity zipf:EXPONENT; 0 asks for all keys alike
    #[arg(short, long, value_name = "EXPONENT", conflicts_with = "popularity")]
    pub zipf: Option<f64>,
    /// Which keys are asked for: uniform, zipf:EXPONENT, hot:KEY-SHARE:REQUEST-SHARE, or latest:EXPONENT
    #[arg(short, long, value_name = "SKEW", value_parser = Skew::parse, default_value = "uniform")]
    pub popularity: Skew,
    /// Where the random choices begin: the same seed makes the same requests
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// How long the server may say nothing while requests are in flight
    #[arg(long, value_name = "TIME", value_parser = parse_duration, default_value = "10s")]
    pub timeout: Duration,
}

/// Checked requests.
#[derive(Clone, Debug)]
pub struct Load {
    /// Threads and connections.
    pub shape: Shape,
    /// Requests after which a connection is closed and opened anew; [`u64::MAX`] for never.
    pub requests_per_connection: u64,
    /// Names and sizes.
    pub items: Arc<Items>,
    /// Number of keys.
    pub keys: u64,
    /// Proportions and popularity.
    pub mix: Arc<Mix>,
    /// Length of a list's elements.
    pub element_bytes: usize,
    /// Requests sent together on one connection, or, in an open loop, that may be in flight on it.
    pub depth: usize,
    /// How long the server may say nothing.
    pub patience: Duration,
    /// Where random choices begin.
    pub seed: u64,
    /// The requests in words, for the report.
    pub description: String,
}

impl Load {
    /// Items that a fill writes.
    pub fn fill_total(&self) -> u64 {
        self.keys * Space::ALL.iter().filter(|space| self.mix.uses(**space)).count() as u64
    }

    /// Books that tell stale values.
    pub fn books_by_key(&self) -> Books {
        let keys = |space| if self.mix.uses(space) { self.keys } else { 0 };
        Books { items: self.keys, lists: keys(Space::Lists), ..self.books_by_writer() }
    }

    /// Books that tell genuine values.
    pub fn books_by_writer(&self) -> Books {
        let counters = if self.mix.uses(Space::Counters) { self.keys } else { 0 };
        Books { counters, element_bytes: self.element_bytes, ..Books::BY_WRITER }
    }
}

impl LoadArgs {
    /// Checks the options.
    ///
    /// # Errors
    /// [`Error::Usage`] with what does not fit.
    pub fn load(&self) -> Result<Load, Error> {
        within("threads", self.threads, 1, THREADS_MAX)?;
        within("connections", self.connections, 1, CONNECTIONS_MAX)?;
        if self.connections < self.threads {
            return usage(format!("{} threads need at least as many connections", self.threads));
        }
        within("churn", self.churn.unwrap_or(1), 1, u64::MAX)?;
        within("depth", self.depth, 1, DEPTH_MAX)?;
        let items = self.items()?;
        Ok(Load {
            shape: Shape { threads: self.threads, connections: self.connections },
            requests_per_connection: self.churn.unwrap_or(u64::MAX),
            element_bytes: (items.value_bytes.mean() as usize / LIST_ELEMENTS).max(ELEMENT_BYTES_MIN),
            items: Arc::new(items),
            keys: self.keys,
            mix: self.make_mix()?,
            depth: self.depth,
            patience: self.timeout,
            seed: self.seed,
            description: self.describe(),
        })
    }

    fn items(&self) -> Result<Items, Error> {
        within("keys", self.keys, 1, u64::from(u32::MAX))?;
        let names = match self.key_size.fixed() {
            Some(bytes) => KeyNames::numbered(bytes, self.keys).map_err(|error| Error::Usage(error.to_string()))?,
            None => {
                let shortest = KeyNames::shortest(self.keys);
                KeyNames::Drawn { key_bytes: self.key_size.drawn(shortest, KEY_BYTES_MAX, KEY_SALT) }
            }
        };
        let value_bytes = match self.value_size.fixed() {
            Some(bytes) => {
                within("value-size", bytes, 0, VALUE_BYTES_MAX)?;
                ValueSizes::Fixed(bytes)
            }
            None => ValueSizes::Drawn(self.value_size.drawn(0, VALUE_BYTES_MAX, VALUE_SALT)),
        };
        Ok(Items { names, value_bytes })
    }

    fn weights(&self) -> Weights {
        let (gets, sets) = self.ratio;
        self.mix.unwrap_or_else(|| Weights::get_set(gets as f64, sets as f64))
    }

    fn make_mix(&self) -> Result<Arc<Mix>, Error> {
        within("multiget", self.multiget, 1, MULTIGET_MAX)?;
        if self.zipf.is_some_and(|exponent| !(0.0..=10.0).contains(&exponent)) {
            return usage("--zipf: an exponent lies between 0 and 10".into());
        }
        Ok(Arc::new(Mix {
            weights: self.weights().0,
            multiget_keys: self.multiget,
            popularity: Popularity::of(self.keys, &self.skew()),
            ttls: self.ttl.clone().unwrap_or_default(),
            look_aside: self.look_aside,
        }))
    }

    fn skew(&self) -> Skew {
        match self.zipf {
            Some(0.0) => Skew::Uniform,
            Some(exponent) => Skew::Zipf(exponent),
            None => self.popularity.clone(),
        }
    }

    /// The requests in words.
    fn describe(&self) -> String {
        let mut text = format!(
            "{}, {} keys per get, {} requests at a time, {} over {} keys of {} with values of {}",
            self.weights().describe(),
            self.multiget,
            self.depth,
            self.skew(),
            self.keys,
            self.key_size,
            self.value_size
        );
        if let Some(ttls) = &self.ttl {
            text += &format!(" that live {}", ttls.describe());
        }
        if self.look_aside {
            text += ", look-aside";
        }
        if let Some(churn) = self.churn {
            text += &format!(", a new connection after {churn} requests");
        }
        text
    }
}

fn parse_ratio(text: &str) -> Result<(u64, u64), String> {
    let parsed = text.split_once(':').and_then(|(gets, sets)| Some((gets.parse().ok()?, sets.parse().ok()?)));
    match parsed {
        Some((gets, sets)) if gets + sets > 0 && gets <= 1_000_000 && sets <= 1_000_000 => Ok((gets, sets)),
        _ => Err("expected GET:SET, as in 30:1, 1:0 or 0:1".into()),
    }
}

/// Checks that an option's value lies in its range.
pub(crate) fn within<T: PartialOrd + std::fmt::Display>(option: &str, value: T, min: T, max: T) -> Result<(), Error> {
    if min <= value && value <= max {
        Ok(())
    } else {
        usage(format!("--{option} {value}: must lie between {min} and {max}"))
    }
}

pub(crate) fn usage<T>(reason: String) -> Result<T, Error> {
    Err(Error::Usage(reason))
}
