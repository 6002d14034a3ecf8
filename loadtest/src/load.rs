//! The options that describe requests, and the load that they amount to.

use crate::driver::IoChoice;
use crate::error::Error;
use crate::fleet::{Books, Shape};
use crate::judge::ELEMENT_BYTES_MIN;
use crate::keys::{KEY_BYTES_MAX, KeyNames};
use crate::popularity::{Popularity, Skew};
use crate::preset::Preset;
use crate::sizes::Sizes;
use crate::space::Space;
use crate::spec::Weights;
use crate::units::{counted, parse_count, parse_duration};
use crate::workload::{Dialect, Items, Mix, Ttls, ValueSizes};
use clap::Args;
use std::sync::Arc;
use std::time::Duration;

/// Most connections of one run: beyond this a single client address has too few ports.
pub(crate) const CONNECTIONS_MAX: usize = 25_000;
/// Most client threads.
const THREADS_MAX: usize = 1024;
/// Most requests sent together on one connection.
const DEPTH_MAX: usize = 10_000;
/// Most keys of one get.
const MULTIGET_MAX: usize = 10_000;
/// Largest value.
const VALUE_BYTES_MAX: usize = 1 << 30;
/// Number of keys, unless something else is asked for.
const KEYS: u64 = 1_000_000;
/// Length of the keys, unless something else is asked for.
const KEY_BYTES: usize = 16;
/// Length of the values, unless something else is asked for.
const VALUE_BYTES: usize = 32;
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
    /// How to talk to the system
    #[arg(long, value_enum, default_value_t = IoChoice::Auto)]
    pub io: IoChoice,
    /// Requests sent together on a connection; the next ones follow when all are answered
    #[arg(short, long, alias = "pipeline", default_value_t = 1)]
    pub depth: usize,
    /// Requests after which a connection is closed and opened anew [default: never]
    #[arg(long, value_name = "REQUESTS", value_parser = parse_count)]
    pub churn: Option<u64>,
    /// A published workload by name: see the command `presets`; options that are given change it
    #[arg(long, value_name = "NAME", value_parser = Preset::named)]
    pub preset: Option<&'static Preset>,
    /// Proportion of gets to sets [default: 30:1]
    #[arg(short, long, value_name = "GET:SET", value_parser = parse_ratio)]
    pub ratio: Option<(u64, u64)>,
    /// Weights of all operations, instead of --ratio: get, gets, set, add, cas, delete, incr, touch, append, prepend
    #[arg(short, long, value_name = "OPERATION=WEIGHT,...", value_parser = Weights::parse, conflicts_with = "ratio")]
    pub mix: Option<Weights>,
    /// Set the keys that a get does not find
    #[arg(long)]
    pub look_aside: bool,
    /// How long what is written may live, with weights if there are several [default: for ever]
    #[arg(long, value_name = "TIME[:WEIGHT],...", value_parser = Ttls::parse)]
    pub ttl: Option<Ttls>,
    /// How requests are written down
    #[arg(long, value_enum, default_value_t = Dialect::Classic)]
    pub dialect: Dialect,
    /// Keys that one get asks for
    #[arg(long, value_name = "KEYS", default_value_t = 1)]
    pub multiget: usize,
    /// Number of different keys [default: 1m]
    #[arg(short, long, value_parser = parse_count)]
    pub keys: Option<u64>,
    /// Length of the keys, or how it is distributed: see --value-size [default: 16]
    #[arg(long, value_name = "SIZES", value_parser = Sizes::parse)]
    pub key_size: Option<Sizes>,
    /// Length of the values, or how it is distributed: BYTES, uniform:MIN:MAX, lognormal:MEDIAN:SIGMA,
    /// pareto:LOCATION:SCALE:SHAPE, gev:LOCATION:SCALE:SHAPE, table:BYTES=WEIGHT,..., table:BYTES=PROBABILITY,...+OTHER or
    /// curve:SHARE=BYTES,..., each with @MIN..MAX to cut it [default: 32]
    #[arg(long, value_name = "SIZES", value_parser = Sizes::parse)]
    pub value_size: Option<Sizes>,
    /// Exponent of the keys' popularity: short for --popularity zipf:EXPONENT; 0 asks for all keys alike
    #[arg(short, long, value_name = "EXPONENT", conflicts_with = "popularity")]
    pub zipf: Option<f64>,
    /// Which keys are asked for: uniform, zipf:EXPONENT, hot:KEY-SHARE:REQUEST-SHARE, latest:EXPONENT or
    /// curve:KEYS=SHARE,... [default: uniform]
    #[arg(short, long, value_name = "SKEW", value_parser = Skew::parse)]
    pub popularity: Option<Skew>,
    /// Where the random choices begin: the same seed makes the same requests
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// How long the server may say nothing while requests are in flight
    #[arg(long, value_name = "TIME", value_parser = parse_duration, default_value = "10s")]
    pub timeout: Duration,
}

/// The requests with every choice made, by the options, else by the preset, else by default.
struct Choices {
    weights: Weights,
    keys: u64,
    key_size: Sizes,
    value_size: Sizes,
    skew: Skew,
    ttls: Ttls,
    look_aside: bool,
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
    /// The same without the proportions of operations.
    pub items_description: String,
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
        let choices = self.choices()?;
        let items = Items { dialect: self.dialect, ..choices.items()? };
        Ok(Load {
            shape: Shape { threads: self.threads, connections: self.connections, io: self.io },
            requests_per_connection: self.churn.unwrap_or(u64::MAX),
            element_bytes: (items.value_bytes.mean() as usize / LIST_ELEMENTS).max(ELEMENT_BYTES_MIN),
            items: Arc::new(items),
            keys: choices.keys,
            mix: self.make_mix(&choices)?,
            depth: self.depth,
            patience: self.timeout,
            seed: self.seed,
            description: self.describe(&choices),
            items_description: self.describe_items(&choices),
        })
    }

    fn choices(&self) -> Result<Choices, Error> {
        if self.zipf.is_some_and(|exponent| !(0.0..=10.0).contains(&exponent)) {
            return usage("--zipf: an exponent lies between 0 and 10".into());
        }
        // Presets are tested to be readable.
        fn preset<T>(read: Result<T, String>) -> T {
            read.unwrap_or_else(|error| unreachable!("a preset: {error}"))
        }
        let given = self.mix.or_else(|| self.ratio.map(|(gets, sets)| Weights::get_set(gets as f64, sets as f64)));
        let skew = match self.zipf {
            Some(0.0) => Some(Skew::Uniform),
            Some(exponent) => Some(Skew::Zipf(exponent)),
            None => self.popularity.clone(),
        };
        let sizes = |given: &Option<Sizes>, of: fn(&Preset) -> &str, default| {
            let from_preset = || self.preset.map(|chosen| preset(Sizes::parse(of(chosen))));
            given.clone().or_else(from_preset).unwrap_or(Sizes::Fixed(default))
        };
        Ok(Choices {
            weights: given
                .or_else(|| self.preset.map(|chosen| preset(Weights::parse(chosen.mix))))
                .unwrap_or(Weights::get_set(30.0, 1.0)),
            keys: self.keys.or(self.preset.map(|chosen| chosen.keys)).unwrap_or(KEYS),
            key_size: sizes(&self.key_size, |preset| preset.key_size, KEY_BYTES),
            value_size: sizes(&self.value_size, |preset| preset.value_size, VALUE_BYTES),
            skew: skew
                .or_else(|| self.preset.map(|chosen| preset(Skew::parse(chosen.popularity))))
                .unwrap_or(Skew::Uniform),
            ttls: (self.ttl.clone())
                .or_else(|| self.preset.map(|chosen| preset(Ttls::parse(chosen.ttl))))
                .unwrap_or_default(),
            look_aside: self.look_aside || self.preset.is_some_and(|preset| preset.look_aside),
        })
    }

    fn make_mix(&self, choices: &Choices) -> Result<Arc<Mix>, Error> {
        within("multiget", self.multiget, 1, MULTIGET_MAX)?;
        Ok(Arc::new(Mix {
            weights: choices.weights.0,
            multiget_keys: self.multiget,
            popularity: Popularity::of(choices.keys, &choices.skew),
            ttls: choices.ttls.clone(),
            look_aside: choices.look_aside,
        }))
    }

    /// The requests in words.
    fn describe(&self, choices: &Choices) -> String {
        let mut text = String::new();
        if let Some(preset) = self.preset {
            text += &format!("{} ({}; synthetic): ", preset.name, preset.source);
        }
        let keys = counted(self.multiget, "key");
        let requests = counted(self.depth, "request");
        text += &format!("{}, {keys} per get, {requests} at a time, ", choices.weights.describe());
        text + &self.describe_items(choices)
    }

    /// Keys and values, and how they are asked for, in words.
    fn describe_items(&self, choices: &Choices) -> String {
        let Choices { keys, key_size, value_size, skew, ttls, look_aside, .. } = choices;
        let mut text = format!("{skew} over {} of {key_size} with values of {value_size}", counted(*keys, "key"));
        if ttls.0.iter().any(|(_, seconds)| *seconds > 0) {
            text += &format!(" that live {}", ttls.describe());
        }
        match self.dialect {
            Dialect::Classic => {}
            Dialect::Meta => text += ", meta dialect",
            Dialect::MetaQuiet => text += ", meta dialect, quiet up to a no-op",
        }
        if *look_aside {
            text += ", look-aside";
        }
        if let Some(churn) = self.churn {
            text += &format!(", a new connection after {}", counted(churn, "request"));
        }
        text
    }
}

impl Choices {
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
        Ok(Items { names, value_bytes, dialect: Dialect::Classic })
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
