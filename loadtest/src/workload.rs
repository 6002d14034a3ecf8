//! What is asked for: which operation on which keys, drawn from a seed.
//!
//! A [`Source`] hands out requests one by one and knows nothing of sockets or time. [`Draws`] makes them up endlessly,
//! [`Fill`] writes every key once.

use crate::keys::KeyNames;
use crate::popularity::Popularity;
use crate::record::Class;
use fastrand::Rng;
use std::ops::Range;
use std::sync::Arc;

/// Number of a key: what the generator calls it. [`Items`] knows its name.
pub type Key = u64;

/// The items of a run: their names and the sizes of their values.
#[derive(Clone, Debug)]
pub struct Items {
    /// Names of the keys.
    pub names: KeyNames,
    /// Length of the values.
    pub value_bytes: ValueSizes,
}

/// How long the value of a key is.
#[derive(Clone, Debug)]
pub enum ValueSizes {
    /// All values alike.
    Fixed(usize),
    /// Each key has its own.
    PerKey(Vec<u32>),
}

impl ValueSizes {
    /// Length of the value of `key`.
    #[inline]
    pub fn of(&self, key: Key) -> usize {
        match self {
            Self::Fixed(value_bytes) => *value_bytes,
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
}

impl Default for Draft {
    fn default() -> Self {
        Self { class: Class::Get, keys: Vec::new() }
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
}

/// Proportions and popularity of endless requests.
#[derive(Clone, Debug)]
pub struct Mix {
    /// Share of gets among the requests, 0 to 1; the others are sets.
    pub get_share: f64,
    /// Keys that one get asks for.
    pub multiget_keys: usize,
    /// Which keys.
    pub popularity: Popularity,
}

/// Endless requests after a [`Mix`].
#[derive(Debug)]
pub struct Draws {
    mix: Arc<Mix>,
    /// A draw of 32 bits below this makes a get.
    get_below: u64,
    rng: Rng,
}

impl Draws {
    /// The sequence that `seed` makes of the mix.
    pub fn new(mix: Arc<Mix>, seed: u64) -> Self {
        let get_below = (mix.get_share.clamp(0.0, 1.0) * 2_f64.powi(32)) as u64;
        Self { mix, get_below, rng: Rng::with_seed(seed) }
    }
}

impl Source for Draws {
    #[inline]
    fn next(&mut self, draft: &mut Draft) -> bool {
        let Self { mix, get_below, rng } = self;
        let is_get = u64::from(rng.u32(..)) < *get_below;
        let keys = if is_get { mix.multiget_keys } else { 1 };
        draft.class = if is_get { Class::Get } else { Class::Set };
        draft.keys.extend((0..keys).map(|_| mix.popularity.draw(rng)));
        true
    }
}

/// One set for every key of a range.
#[derive(Debug)]
pub struct Fill {
    keys: Range<Key>,
}

impl Fill {
    /// Sets for these keys, in order.
    pub fn new(keys: Range<Key>) -> Self {
        Self { keys }
    }
}

impl Source for Fill {
    fn next(&mut self, draft: &mut Draft) -> bool {
        draft.class = Class::Set;
        draft.keys.extend(self.keys.next());
        !draft.keys.is_empty()
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

    #[test]
    fn the_mix_is_kept_and_repeats_with_its_seed() {
        let mix = Arc::new(Mix { get_share: 0.75, multiget_keys: 3, popularity: Popularity::new(100, 0.99) });
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
    fn pure_mixes_are_pure() {
        for (get_share, class) in [(1.0, Class::Get), (0.0, Class::Set)] {
            let mix = Mix { get_share, multiget_keys: 1, popularity: Popularity::new(10, 0.0) };
            assert!(take(&mut Draws::new(Arc::new(mix), 1), 10_000).iter().all(|draft| draft.class == class));
        }
    }

    #[test]
    fn a_fill_sets_every_key_once() {
        let drafts = take(&mut Fill::new(3..6), 10);
        assert!(drafts.iter().all(|draft| draft.class == Class::Set));
        assert!(drafts.iter().map(|draft| draft.keys[0]).eq(3..6));
    }
}
