//! What is asked for: which operation on which keys, drawn from a seed.
//!
//! A [`Source`] hands out requests one by one and knows nothing of sockets or time. [`Draws`] makes them up endlessly,
//! [`Fill`] writes every key once.

use crate::keys::KeyNames;
use crate::popularity::Popularity;
use crate::record::Class;
use crate::sizes::DrawnSizes;
use crate::space::{self, Space};
use fastrand::Rng;
use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;

/// What the generator calls a key: its number, and the [`Space`] it lies in. [`Items`] knows its name.
pub type Key = u64;

/// The items of a run: their names and the sizes of their values.
#[derive(Clone, Debug)]
pub struct Items {
    /// Names of the keys.
    pub names: KeyNames,
    /// Length of the values.
    pub value_bytes: ValueSizes,
    /// How they are asked for.
    pub dialect: Dialect,
}

/// How requests are written down.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, clap::ValueEnum)]
pub enum Dialect {
    /// get, set, incr, ...
    #[default]
    Classic,
    /// mg, ms, ma, ...; a get of several keys is quiet requests up to a no-op
    Meta,
    /// The same with every request quiet: what is sent together is closed by one no-op, and silence is success, or a miss
    MetaQuiet,
}

impl Dialect {
    /// Whether the commands are the meta ones.
    #[inline]
    pub fn is_meta(self) -> bool {
        self != Self::Classic
    }
}

impl Items {
    /// Appends the name of a key.
    #[inline]
    pub fn write_name(&self, key: Key, out: &mut Vec<u8>) {
        let start = out.len();
        self.names.write(space::number(key), out);
        let space = Space::of(key);
        if space != Space::Items {
            out[start] = space.initial();
        }
    }
}

/// How long the value of a key is.
#[derive(Clone, Debug)]
pub enum ValueSizes {
    /// All values alike.
    Fixed(usize),
    /// Each key has its own, drawn from a distribution.
    Drawn(DrawnSizes),
    /// Each key has its own, listed.
    PerKey(Vec<u32>),
    /// Every write of a key has its own, uniform around the mean.
    Changing {
        /// The mean length.
        mean: usize,
        /// How far a length may lie from the mean, as a share of it.
        spread: f64,
    },
}

impl ValueSizes {
    /// The mean length, over all keys.
    pub fn mean(&self) -> f64 {
        match self {
            Self::Fixed(value_bytes) | Self::Changing { mean: value_bytes, .. } => *value_bytes as f64,
            Self::Drawn(value_bytes) => value_bytes.mean(),
            Self::PerKey(value_bytes) => {
                value_bytes.iter().map(|bytes| f64::from(*bytes)).sum::<f64>() / value_bytes.len().max(1) as f64
            }
        }
    }

    /// Length of the value that a write with this version gives to key number `key`.
    #[inline]
    pub fn of_version(&self, key: u64, version: u32) -> usize {
        match self {
            Self::Changing { mean, spread } => {
                // A generator for one draw: its seeding mixes well enough for lengths.
                let offset = Rng::with_seed(key << 32 ^ u64::from(version)).f64() * 2.0 - 1.0;
                (*mean as f64 * (1.0 + spread * offset)).round() as usize
            }
            _ => self.of(key),
        }
    }

    /// Length of the value of key number `key`, or the mean of its lengths.
    #[inline]
    pub fn of(&self, key: u64) -> usize {
        match self {
            Self::Fixed(value_bytes) | Self::Changing { mean: value_bytes, .. } => *value_bytes,
            Self::Drawn(value_bytes) => value_bytes.of(key),
            Self::PerKey(value_bytes) => value_bytes[key as usize] as usize,
        }
    }
}

/// A request before it is put into bytes.
#[derive(Debug)]
pub struct Draft {
    /// What to do.
    pub class: Class,
    /// To which keys; only a get may name more than one.
    pub keys: Vec<Key>,
    /// Seconds that what is written may live; 0 for ever.
    pub ttl_s: u32,
    /// What a cas replaces.
    pub basis: Option<Basis>,
}

/// What a gets has seen, for a cas to replace.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Basis {
    /// The server's id of it.
    pub cas_id: u64,
    /// Its version, if it was written in this run and its books are kept by key.
    pub version: Option<u32>,
}

impl Default for Draft {
    fn default() -> Self {
        Self { class: Class::Get, keys: Vec::new(), ttl_s: 0, basis: None }
    }
}

/// Hands out requests.
pub trait Source {
    /// Puts the next request into `draft`, whose keys are empty; `false` if there is none.
    fn next(&mut self, draft: &mut Draft) -> bool;
    /// Learns that a connection asks for requests to be sent together, all earlier ones of its own being answered.
    fn begin_batch(&mut self) {}
    /// Learns that a get found nothing.
    fn missed(&mut self, _key: Key) {}
    /// Learns what a gets has found.
    fn found(&mut self, _key: Key, _basis: Basis) {}
    /// Learns that a counter is gone and that the caller is the one who may make it anew, by an add.
    fn counter_gone(&mut self, _counter: Key) {}
}

/// Times to live, in seconds, with their weights. Empty: for ever.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Ttls(pub Vec<(f64, u32)>);

impl Ttls {
    fn draw(&self, rng: &mut Rng) -> u32 {
        match &self.0[..] {
            [] => 0,
            [(_, ttl_s)] => *ttl_s,
            [rest @ .., last] => {
                let total: f64 = self.0.iter().map(|(weight, _)| weight).sum();
                let mut left = rng.f64() * total;
                for (weight, ttl_s) in rest {
                    if left < *weight {
                        return *ttl_s;
                    }
                    left -= weight;
                }
                last.1
            }
        }
    }
}

/// Proportions and popularity of endless requests.
#[derive(Clone, Debug)]
pub struct Mix {
    /// How often each class is drawn, in the order of [`Class::ALL`].
    pub weights: [f64; Class::ALL.len()],
    /// Keys that one get asks for.
    pub multiget_keys: usize,
    /// Which keys.
    pub popularity: Popularity,
    /// How long what is written may live.
    pub ttls: Ttls,
    /// Whether a key that a get does not find is written next.
    pub look_aside: bool,
}

impl Mix {
    /// Gets and sets of items that live for ever.
    pub fn get_set(get_share: f64, multiget_keys: usize, popularity: Popularity) -> Self {
        let mut weights = [0.0; Class::ALL.len()];
        weights[Class::Get as usize] = get_share;
        weights[Class::Set as usize] = 1.0 - get_share;
        Self { weights, multiget_keys, popularity, ttls: Ttls::default(), look_aside: false }
    }

    /// How often a class is drawn.
    pub fn weight(&self, class: Class) -> f64 {
        self.weights[class as usize]
    }

    /// How often what lies in a space is written.
    fn writes(&self, space: Space) -> f64 {
        let sum = |classes: &[Class]| classes.iter().map(|class| self.weight(*class)).sum();
        match space {
            Space::Items => sum(&[Class::Set, Class::Add, Class::Cas, Class::Delete, Class::Touch]),
            Space::Counters => sum(&[Class::Incr]),
            Space::Lists => sum(&[Class::Append, Class::Prepend]),
        }
    }

    /// Share of the gets that go to a space: the same as its share of the writes. All go to items when nothing is written.
    fn read_share(&self, space: Space) -> f64 {
        let all: f64 = Space::ALL.iter().map(|space| self.writes(*space)).sum();
        if all > 0.0 { self.writes(space) / all } else { f64::from(u8::from(space == Space::Items)) }
    }

    /// Whether anything is asked of a space.
    pub fn uses(&self, space: Space) -> bool {
        // A gets asks items alone: only they are replaced by a cas.
        self.read_share(space) > 0.0 || (space == Space::Items && self.weight(Class::Gets) > 0.0)
    }
}

/// Endless requests after a [`Mix`].
#[derive(Debug)]
pub struct Draws {
    mix: Arc<Mix>,
    /// A draw of 32 bits below the number makes the class, if it is not below an earlier one.
    classes: Vec<(u64, Class)>,
    /// The same for the space of a get.
    read_spaces: Vec<(u64, Space)>,
    /// Requests that answers have made necessary; they go first.
    follow_ups: VecDeque<FollowUp>,
    /// Cas that were drawn and wait for a gets to find something.
    cas_wanted: u64,
    rng: Rng,
}

#[derive(Debug)]
struct FollowUp {
    class: Class,
    key: Key,
    basis: Option<Basis>,
}

impl Draws {
    /// The sequence that `seed` makes of the mix.
    ///
    /// # Panics
    /// When all weights are 0.
    pub fn new(mix: Arc<Mix>, seed: u64) -> Self {
        let classes = thresholds(Class::ALL.map(|class| (mix.weight(class), class)));
        let read_spaces = thresholds(Space::ALL.map(|space| (mix.read_share(space), space)));
        Self { mix, classes, read_spaces, follow_ups: VecDeque::new(), cas_wanted: 0, rng: Rng::with_seed(seed) }
    }
}

/// Cuts the range of a draw of 32 bits by weight.
fn thresholds<T>(weighted: impl IntoIterator<Item = (f64, T)>) -> Vec<(u64, T)> {
    let weighted: Vec<(f64, T)> = weighted.into_iter().filter(|(weight, _)| *weight > 0.0).collect();
    let total: f64 = weighted.iter().map(|(weight, _)| weight).sum();
    assert!(total > 0.0, "something must have a weight");
    let count = weighted.len();
    let mut sum = 0.0;
    let cut = |(index, (weight, what)): (usize, (f64, T))| {
        sum += weight;
        // The last one takes what rounding leaves.
        let below = if index + 1 == count { 1 << 32 } else { (sum / total * 2_f64.powi(32)) as u64 };
        (below, what)
    };
    weighted.into_iter().enumerate().map(cut).collect()
}

#[inline]
fn choose<T: Copy>(cuts: &[(u64, T)], rng: &mut Rng) -> T {
    if let [(_, only)] = cuts {
        return *only;
    }
    let draw = u64::from(rng.u32(..));
    cuts.iter().find(|(below, _)| draw < *below).expect("the last one takes every draw").1
}

impl Source for Draws {
    #[inline]
    fn next(&mut self, draft: &mut Draft) -> bool {
        let Self { mix, classes, read_spaces, follow_ups, cas_wanted, rng } = self;
        draft.basis = None;
        if let Some(FollowUp { class, key, basis }) = follow_ups.pop_front() {
            (draft.class, draft.basis) = (class, basis);
            draft.keys.push(key);
            draft.ttl_s = mix.ttls.draw(rng);
            return true;
        }
        draft.class = choose(classes, rng);
        let (space, keys) = match draft.class {
            Class::Get => (choose(read_spaces, rng), mix.multiget_keys),
            Class::Gets => (Space::Items, mix.multiget_keys),
            Class::Cas => {
                // Its CAS id must be read first.
                draft.class = Class::Gets;
                *cas_wanted += 1;
                (Space::Items, 1)
            }
            Class::Incr => (Space::Counters, 1),
            Class::Append | Class::Prepend => (Space::Lists, 1),
            Class::Set | Class::Add | Class::Delete | Class::Touch => (Space::Items, 1),
        };
        if !matches!(draft.class, Class::Get | Class::Gets | Class::Delete | Class::Incr) {
            draft.ttl_s = mix.ttls.draw(rng);
        }
        if matches!(draft.class, Class::Set | Class::Add) {
            draft.keys.push(space.key(mix.popularity.draw_written(rng)));
        } else {
            draft.keys.extend((0..keys).map(|_| space.key(mix.popularity.draw(rng))));
        }
        true
    }

    fn missed(&mut self, key: Key) {
        if self.mix.look_aside && Space::of(key) != Space::Counters {
            self.follow_ups.push_back(FollowUp { class: Class::Set, key, basis: None });
        }
    }

    fn found(&mut self, key: Key, basis: Basis) {
        if self.cas_wanted > 0 {
            self.cas_wanted -= 1;
            self.follow_ups.push_back(FollowUp { class: Class::Cas, key, basis: Some(basis) });
        }
    }

    fn counter_gone(&mut self, counter: Key) {
        self.follow_ups.push_back(FollowUp { class: Class::Add, key: counter, basis: None });
    }
}

/// One set for every key of a range in every space that is used.
#[derive(Debug)]
pub struct Fill {
    keys: Range<u64>,
    left: VecDeque<(Space, Range<u64>)>,
    ttls: Ttls,
    rng: Rng,
}

impl Fill {
    /// Sets for these keys, in order, space after space.
    pub fn new(keys: Range<u64>, spaces: impl IntoIterator<Item = Space>, ttls: Ttls) -> Self {
        let left = spaces.into_iter().map(|space| (space, keys.clone())).collect();
        let rng = Rng::with_seed(keys.start);
        Self { keys, left, ttls, rng }
    }

    /// Number of sets in all.
    pub fn total(&self) -> u64 {
        (self.keys.end - self.keys.start) * self.left.len() as u64
    }
}

impl Source for Fill {
    fn next(&mut self, draft: &mut Draft) -> bool {
        draft.class = Class::Set;
        draft.ttl_s = self.ttls.draw(&mut self.rng);
        while let Some((space, keys)) = self.left.front_mut() {
            if let Some(number) = keys.next() {
                draft.keys.push(space.key(number));
                return true;
            }
            self.left.pop_front();
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn take(source: &mut impl Source, count: usize) -> Vec<Draft> {
        let next = || {
            let mut draft = Draft::default();
            source.next(&mut draft).then_some(draft)
        };
        std::iter::from_fn(next).take(count).collect()
    }

    fn mix_of(weights: &[(Class, f64)]) -> Mix {
        let mut mix = Mix::get_set(0.0, 1, Popularity::new(100, 0.0));
        mix.weights = [0.0; Class::ALL.len()];
        weights.iter().for_each(|(class, weight)| mix.weights[*class as usize] = *weight);
        mix
    }

    #[test]
    fn the_mix_is_kept_and_repeats_with_its_seed() {
        let mix = Arc::new(Mix::get_set(0.75, 3, Popularity::new(100, 0.99)));
        let drafts = take(&mut Draws::new(mix.clone(), 5), 10_000);
        let gets = drafts.iter().filter(|draft| draft.class == Class::Get).count();
        assert!((7300..7700).contains(&gets), "{gets} gets of 10000");
        for draft in &drafts {
            assert_eq!(draft.keys.len(), if draft.class == Class::Get { 3 } else { 1 });
            assert!(draft.keys.iter().all(|key| *key < 100));
        }
        let again = take(&mut Draws::new(mix.clone(), 5), 10_000);
        assert!(drafts.iter().zip(&again).all(|(a, b)| a.keys == b.keys));
        let other = take(&mut Draws::new(mix, 6), 10_000);
        assert!(drafts.iter().zip(&other).any(|(a, b)| a.keys != b.keys));
    }

    #[test]
    fn changing_sizes_lie_evenly_around_their_mean() {
        let sizes = ValueSizes::Changing { mean: 1000, spread: 0.3 };
        let drawn: Vec<usize> = (0..10_000).map(|write| sizes.of_version(write / 100, write as u32)).collect();
        assert!(drawn.iter().all(|bytes| (700..=1300).contains(bytes)));
        for (low, high) in [(700, 800), (950, 1050), (1200, 1300)] {
            let count = drawn.iter().filter(|bytes| (low..high).contains(*bytes)).count();
            assert!((1500..1850).contains(&count), "{count} in {low}..{high}");
        }
        assert_eq!((sizes.of(7), sizes.mean()), (1000, 1000.0));
    }

    #[test]
    fn pure_mixes_are_pure() {
        for (get_share, class) in [(1.0, Class::Get), (0.0, Class::Set)] {
            let mix = Mix::get_set(get_share, 1, Popularity::new(10, 0.0));
            assert!(take(&mut Draws::new(Arc::new(mix), 1), 10_000).iter().all(|draft| draft.class == class));
        }
    }

    #[test]
    fn every_class_goes_to_its_space_and_gets_follow_the_writes() {
        let all: Vec<_> = Class::ALL.map(|class| (class, 1.0)).into();
        let drafts = take(&mut Draws::new(Arc::new(mix_of(&all)), 1), 20_000);
        let count = |class, space| {
            let of = |draft: &&Draft| draft.class == class && Space::of(draft.keys[0]) == space;
            drafts.iter().filter(of).count() as f64
        };
        // One of ten each; a cas begins as a gets.
        for (class, space, expected) in [
            (Class::Get, Space::Items, 2000.0 * 5.0 / 8.0),
            (Class::Get, Space::Counters, 2000.0 / 8.0),
            (Class::Get, Space::Lists, 2000.0 * 2.0 / 8.0),
            (Class::Gets, Space::Items, 4000.0),
            (Class::Set, Space::Items, 2000.0),
            (Class::Add, Space::Items, 2000.0),
            (Class::Cas, Space::Items, 0.0),
            (Class::Delete, Space::Items, 2000.0),
            (Class::Incr, Space::Counters, 2000.0),
            (Class::Touch, Space::Items, 2000.0),
            (Class::Append, Space::Lists, 2000.0),
            (Class::Prepend, Space::Lists, 2000.0),
        ] {
            let seen = count(class, space);
            assert!((seen - expected).abs() <= 5.0 * expected.sqrt(), "{class:?} {space:?}: {seen} for {expected}");
        }
    }

    #[test]
    fn answers_make_requests_that_go_first() {
        let mut mix = mix_of(&[(Class::Cas, 1.0)]);
        mix.look_aside = true;
        let mut draws = Draws::new(Arc::new(mix), 1);
        assert_eq!(take(&mut draws, 1)[0].class, Class::Gets);
        let basis = Basis { cas_id: 9, version: Some(3) };
        draws.missed(7);
        draws.found(8, basis);
        // Only one cas was drawn.
        draws.found(9, basis);
        draws.missed(Space::Counters.key(5));
        draws.counter_gone(Space::Counters.key(5));
        let drafts = take(&mut draws, 4);
        let seen: Vec<_> = drafts.iter().map(|draft| (draft.class, draft.keys[0], draft.basis)).collect();
        let expected =
            [(Class::Set, 7, None), (Class::Cas, 8, Some(basis)), (Class::Add, Space::Counters.key(5), None)];
        assert_eq!(seen[..3], expected);
        assert_eq!(seen[3].0, Class::Gets);
    }

    #[test]
    fn times_to_live_keep_their_weights() {
        let mut mix = mix_of(&[(Class::Set, 1.0)]);
        mix.ttls = Ttls(vec![(3.0, 60), (1.0, 0)]);
        let drafts = take(&mut Draws::new(Arc::new(mix), 1), 8000);
        let long = drafts.iter().filter(|draft| draft.ttl_s == 60).count();
        assert!((5800..6200).contains(&long), "{long} of 8000");
        assert!(drafts.iter().all(|draft| [0, 60].contains(&draft.ttl_s)));
    }

    #[test]
    fn a_fill_sets_every_key_of_every_space_once() {
        let mut fill = Fill::new(3..6, [Space::Items, Space::Lists], Ttls::default());
        assert_eq!(fill.total(), 6);
        let drafts = take(&mut fill, 10);
        assert!(drafts.iter().all(|draft| draft.class == Class::Set));
        let expected = (3..6).chain((3..6).map(|number| Space::Lists.key(number)));
        assert!(drafts.iter().map(|draft| draft.keys[0]).eq(expected));
    }
}
