//! Weighted lists as options write them: `get=90,set=10` and `60s:0.4,1h:0.6`.

use crate::record::Class;
use crate::units::parse_duration;
use crate::workload::Ttls;

/// Longest time to live: the protocol takes larger numbers for dates.
const TTL_S_MAX: u64 = 60 * 60 * 24 * 30;

/// Weights of the classes, in the order of [`Class::ALL`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Weights(pub [f64; Class::ALL.len()]);

impl Weights {
    /// Reads `get=90,set=10`.
    ///
    /// # Errors
    /// Says what would have been understood.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut weights = [0.0; Class::ALL.len()];
        for part in text.split(',') {
            let (name, weight) = part.split_once('=').ok_or("expected OPERATION=WEIGHT,... as in get=90,set=10")?;
            let class = Class::ALL.into_iter().find(|class| class.name() == name).ok_or_else(|| {
                format!("no operation is called {name:?}: there are {}", Class::ALL.map(Class::name).join(", "))
            })?;
            weights[class as usize] = parse_weight(weight)?;
        }
        if weights.iter().sum::<f64>() > 0.0 { Ok(Self(weights)) } else { Err("some weight must be above 0".into()) }
    }

    /// Only gets and sets.
    pub fn get_set(gets: f64, sets: f64) -> Self {
        let mut weights = [0.0; Class::ALL.len()];
        (weights[Class::Get as usize], weights[Class::Set as usize]) = (gets, sets);
        Self(weights)
    }

    /// The weights in words: `get 90, set 10`.
    pub fn describe(&self) -> String {
        let parts = Class::ALL.into_iter().zip(self.0).filter(|(_, weight)| *weight > 0.0);
        parts.map(|(class, weight)| format!("{} {weight}", class.name())).collect::<Vec<_>>().join(", ")
    }
}

impl Ttls {
    /// Reads `1h`, or `60s:0.4,1h:0.6`; `0` lives for ever.
    ///
    /// # Errors
    /// Says what would have been understood.
    pub fn parse(text: &str) -> Result<Self, String> {
        let read = |part: &str| {
            let (time, weight) = part.split_once(':').unwrap_or((part, "1"));
            let seconds = if time == "0" { 0 } else { whole_seconds(time)? };
            Ok((parse_weight(weight)?, seconds))
        };
        let ttls = text.split(',').map(read).collect::<Result<Vec<_>, String>>()?;
        let total: f64 = ttls.iter().map(|(weight, _)| weight).sum();
        if total > 0.0 { Ok(Self(ttls)) } else { Err("some weight must be above 0".into()) }
    }

    /// The times in words.
    pub fn describe(&self) -> String {
        let word = |seconds: u32| match seconds {
            0 => "for ever".into(),
            s if s % 86_400 == 0 => format!("{} d", s / 86_400),
            s if s % 3600 == 0 => format!("{} h", s / 3600),
            s => format!("{s} s"),
        };
        match &self.0[..] {
            [] => word(0),
            [(_, seconds)] => word(*seconds),
            several => {
                let total: f64 = several.iter().map(|(weight, _)| weight).sum();
                let part =
                    |(weight, seconds): &(f64, u32)| format!("{} ({:.0} %)", word(*seconds), weight / total * 100.0);
                several.iter().map(part).collect::<Vec<_>>().join(", ")
            }
        }
    }
}

fn whole_seconds(text: &str) -> Result<u32, String> {
    let seconds = parse_duration(text)?.as_secs();
    if (1..=TTL_S_MAX).contains(&seconds) {
        Ok(seconds as u32)
    } else {
        Err("a time to live is at least a second and at most 30 days".into())
    }
}

fn parse_weight(text: &str) -> Result<f64, String> {
    let weight = text.parse().ok().filter(|weight: &f64| (0.0..=1e9).contains(weight));
    weight.ok_or_else(|| format!("{text:?} is no weight: expected a number of 0 or more"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_are_read_and_described() {
        let weights = Weights::parse("get=90,incr=0.5,set=0").unwrap();
        assert_eq!(weights.describe(), "get 90, incr 0.5");
        for (text, part) in [
            ("get", "OPERATION=WEIGHT"),
            ("frob=1", "prepend"),
            ("get=-1", "no weight"),
            ("get=NaN", "no weight"),
            ("get=0", "above 0"),
        ] {
            assert!(Weights::parse(text).unwrap_err().contains(part), "{text}");
        }
    }

    #[test]
    fn times_to_live_are_read_and_described() {
        for (text, expected) in [
            ("0", "for ever"),
            ("90s", "90 s"),
            ("60s:1,1h:3", "60 s (25 %), 1 h (75 %)"),
            ("30d", "30 d"),
            ("12h:0.5,0:0.5", "12 h (50 %), for ever (50 %)"),
        ] {
            assert_eq!(Ttls::parse(text).unwrap().describe(), expected);
        }
        for text in ["", "31d", "10ms", "1h:x", "1h:0"] {
            assert!(Ttls::parse(text).is_err(), "{text}");
        }
    }
}
