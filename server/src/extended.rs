//! The sub-options of `-o` (protocol 18).
//!
//! Some of memcached's have a meaning here. Those that tune parts which MemKV does not have are checked and then ignored, with a
//! warning, so that scripts written for memcached go on working. What would promise something that is not there (TLS, the proxy)
//! is refused, as memcached refuses it when it is built without them.

use std::ops::RangeInclusive;

use crate::config::Config;
use crate::tunables::Tunables;

/// What the sub-options say.
#[derive(Clone, Debug, PartialEq)]
pub struct Extended {
    /// Whether a client too many is turned away at once, or else waits.
    pub maxconns_fast: bool,
    /// Seconds after which an idle TCP connection is closed; 0 is never.
    pub idle_timeout_s: u32,
    /// Bytes that all connections together may own, if it was said; see [`Config::connection_memory`].
    pub connection_memory_bytes: Option<usize>,
    /// Whether `stats sizes` answers.
    pub track_sizes: bool,
    /// Bytes of log lines that may wait for one watcher.
    pub watcher_buffer_bytes: usize,
    /// What administration commands may change later.
    pub tunables: Tunables,
    /// Sub-options that were accepted and mean nothing here, in the order in which they came.
    pub without_effect: Vec<String>,
}

impl Default for Extended {
    fn default() -> Extended {
        let Config { turn_away, idle_timeout_s, track_sizes, watcher_buffer_bytes, tunables, .. } = Config::default();
        Extended {
            maxconns_fast: turn_away,
            idle_timeout_s,
            connection_memory_bytes: None,
            track_sizes,
            watcher_buffer_bytes,
            tunables,
            without_effect: Vec::new(),
        }
    }
}

impl Extended {
    /// Applies one `name` or `name=value`.
    ///
    /// # Errors
    /// What is wrong with it, in memcached's words where it has some.
    pub fn apply(&mut self, text: &str) -> Result<(), String> {
        let (name, value) = match text.trim_start().split_once('=') {
            Some((name, value)) => (name, Some(value)),
            None => (text.trim_start(), None),
        };
        let given = Given { name, value };
        let tunables = &mut self.tunables;
        let has_effect = match name {
            "maxconns_fast" | "no_maxconns_fast" => {
                given.is_bare()?;
                self.maxconns_fast = name == "maxconns_fast";
                true
            }
            "idle_timeout" => {
                self.idle_timeout_s = given.number("Missing numeric argument for idle_timeout")?;
                true
            }
            "lru_crawler" | "no_lru_crawler" => {
                given.is_bare()?;
                tunables.crawler = name == "lru_crawler";
                true
            }
            "lru_crawler_sleep" => {
                let wrong = "LRU crawler sleep must be between 0 and 1 second";
                tunables.crawler_sleep_us = given.within(0..=1_000_000, "Missing lru_crawler_sleep value", wrong)?;
                true
            }
            "lru_crawler_tocrawl" => {
                tunables.crawler_items_max = given.number("Missing lru_crawler_tocrawl value")?;
                true
            }
            "track_sizes" => {
                given.is_bare()?;
                self.track_sizes = true;
                true
            }
            "watcher_logbuf_size" => {
                let kilobytes = given.number("Missing watcher_logbuf_size argument")?;
                self.watcher_buffer_bytes = kilobytes as usize * 1024;
                true
            }
            // The defaults of memcached 1.4; what is not about connections or the crawler is about parts that are not here.
            "no_modern" => {
                given.is_bare()?;
                self.maxconns_fast = false;
                tunables.crawler = false;
                true
            }
            "hashpower" => {
                let power = given.number("Missing numeric argument for hashpower")?;
                if !(12..=32).contains(&power) {
                    let which = if power < 12 { "low" } else { "high" };
                    return Err(format!("Initial hashtable multiplier of {power} is too {which}"));
                }
                false
            }
            "slab_automove" => {
                if value.is_some() {
                    tunables.automove = given.within(0..=2, "", "slab_automove must be between 0 and 2")?;
                }
                false
            }
            "no_slab_automove" => {
                given.is_bare()?;
                tunables.automove = 0;
                false
            }
            "slab_automove_ratio" => {
                let (missing, wrong) =
                    ("Missing slab_automove_ratio argument", "slab_automove_ratio must be > 0 and < 1");
                tunables.automove_ratio = given.ratio(|ratio| ratio > 0.0 && ratio <= 1.0, missing, wrong)?;
                false
            }
            "slab_automove_window" => {
                let wrong = "slab_automove_window must be > 2";
                tunables.automove_window = given.within(3..=1800, "Missing slab_automove_window argument", wrong)?;
                false
            }
            "slab_automove_freeratio" => {
                let (missing, wrong) = (given.missing(), given.unreadable());
                tunables.automove_freeratio = given.ratio(|ratio| ratio >= 0.0, &missing, &wrong)?;
                false
            }
            "tail_repair_time" => {
                let wrong = "Cannot set tail_repair_time to less than 10 seconds";
                given.within(10..=u32::MAX, "Missing numeric argument for tail_repair_time", wrong)?;
                false
            }
            "hash_algorithm" => match given.text("Missing hash_algorithm argument")? {
                "jenkins" | "murmur3" | "xxh3" => false,
                _ => return Err("Unknown hash_algorithm option (jenkins, murmur3, xxh3)".to_owned()),
            },
            "hot_lru_pct" => {
                tunables.hot_pct = given.within(1..=79, &given.missing(), "hot_lru_pct must be > 1 and < 80")?;
                false
            }
            "warm_lru_pct" => {
                tunables.warm_pct = given.within(1..=79, &given.missing(), "warm_lru_pct must be > 1 and < 80")?;
                false
            }
            "hot_max_factor" | "warm_max_factor" => {
                let wrong = format!("{name} must be > 0");
                let factor = given.ratio(|factor| factor > 0.0, &given.missing(), &wrong)?;
                if name == "hot_max_factor" {
                    tunables.hot_factor = factor;
                } else {
                    tunables.warm_factor = factor;
                }
                false
            }
            "temporary_ttl" => {
                tunables.temporary_ttl = Some(given.number(&given.missing())?);
                false
            }
            "no_lru_maintainer" => {
                given.is_bare()?;
                tunables.segmented = false;
                false
            }
            "ext_item_size" | "ext_item_age" | "ext_low_ttl" | "ext_recache_rate" | "ext_compact_under"
            | "ext_drop_under" | "ext_max_sleep" => {
                let number = given.number(&given.missing())?;
                let external = &mut tunables.external;
                *match name {
                    "ext_item_size" => &mut external.item_size,
                    "ext_item_age" => &mut external.item_age,
                    "ext_low_ttl" => &mut external.low_ttl,
                    "ext_recache_rate" => &mut external.recache_rate,
                    "ext_compact_under" => &mut external.compact_under,
                    "ext_drop_under" => &mut external.drop_under,
                    _ => &mut external.max_sleep,
                } = number;
                false
            }
            "ext_max_frag" => {
                let (missing, wrong) = (given.missing(), given.unreadable());
                tunables.external.max_frag = given.ratio(|ratio| ratio >= 0.0, &missing, &wrong)?;
                false
            }
            "ext_drop_unread" => {
                given.is_bare()?;
                tunables.external.drop_unread = true;
                false
            }
            "read_buf_mem_limit" => {
                let megabytes = given.number(&given.missing())? as usize;
                // 0 is what memcached has when nothing is said.
                self.connection_memory_bytes = (megabytes > 0).then_some(megabytes << 20);
                true
            }
            "worker_logbuf_size" | "slab_chunk_max" | "sock_cookie_id" | "ext_page_size" | "ext_wbuf_size"
            | "ext_threads" | "ext_io_depth" | "resp_obj_mem_limit" => {
                given.number(&given.missing())?;
                false
            }
            "slab_sizes" | "ext_path" => {
                given.text(&given.missing())?;
                false
            }
            "no_hashexpand"
            | "slab_reassign"
            | "no_slab_reassign"
            | "lru_maintainer"
            | "modern"
            | "inline_ascii_resp"
            | "no_inline_ascii_resp"
            | "no_chunked_items"
            | "drop_privileges"
            | "no_drop_privileges" => {
                given.is_bare()?;
                false
            }
            _ => return Err(format!("Illegal suboption \"{text}\"")),
        };
        if !has_effect {
            self.without_effect.push(name.to_owned());
        }
        Ok(())
    }

    /// Checks what can only be seen when all of them are there.
    ///
    /// # Errors
    /// What does not fit together.
    pub fn check(&self) -> Result<(), String> {
        if self.tunables.hot_pct + self.tunables.warm_pct > 80 {
            return Err("hot_lru_pct + warm_lru_pct cannot be more than 80% combined".to_owned());
        }
        Ok(())
    }
}

/// A sub-option as a key and a value of a file: a switch is true or false, the others have values. `None` if the value is neither.
pub fn from_key(name: &str, value: &toml::Value) -> Option<String> {
    Some(match value {
        toml::Value::Boolean(true) => name.to_owned(),
        toml::Value::Boolean(false) => format!("no_{name}"),
        toml::Value::Integer(number) => format!("{name}={number}"),
        toml::Value::Float(number) => format!("{name}={number}"),
        toml::Value::String(text) => format!("{name}={text}"),
        _ => return None,
    })
}

/// A sub-option as it was written.
struct Given<'t> {
    name: &'t str,
    value: Option<&'t str>,
}

impl<'t> Given<'t> {
    fn is_bare(&self) -> Result<(), String> {
        match self.value {
            None => Ok(()),
            Some(_) => Err(format!("{} takes no value", self.name)),
        }
    }

    fn text(&self, missing: &str) -> Result<&'t str, String> {
        self.value.filter(|value| !value.is_empty()).ok_or_else(|| missing.to_owned())
    }

    fn missing(&self) -> String {
        format!("Missing {} argument", self.name)
    }

    fn unreadable(&self) -> String {
        format!("could not parse argument to {}", self.name)
    }

    fn number(&self, missing: &str) -> Result<u32, String> {
        self.within(0..=u32::MAX, missing, &self.unreadable())
    }

    fn within(&self, range: RangeInclusive<u32>, missing: &str, wrong: &str) -> Result<u32, String> {
        let number = self.text(missing)?.parse().ok().filter(|number| range.contains(number));
        number.ok_or_else(|| wrong.to_owned())
    }

    fn ratio(&self, fits: fn(f64) -> bool, missing: &str, wrong: &str) -> Result<f64, String> {
        let ratio = self.text(missing)?.parse().ok().filter(|ratio: &f64| ratio.is_finite() && fits(*ratio));
        ratio.ok_or_else(|| wrong.to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn applied(list: &str) -> Result<Extended, String> {
        let mut extended = Extended::default();
        list.split(',').try_for_each(|text| extended.apply(text))?;
        extended.check()?;
        Ok(extended)
    }

    #[test]
    fn p18_sub_options_with_a_meaning_work() {
        let extended = applied(
            "no_maxconns_fast,idle_timeout=60,no_lru_crawler,lru_crawler_sleep=5,lru_crawler_tocrawl=7,track_sizes,\
             watcher_logbuf_size=2",
        )
        .unwrap();
        let Extended {
            maxconns_fast, idle_timeout_s, track_sizes, watcher_buffer_bytes, tunables, without_effect, ..
        } = extended;
        assert_eq!((maxconns_fast, idle_timeout_s, track_sizes, watcher_buffer_bytes), (false, 60, true, 2048));
        assert_eq!((tunables.crawler, tunables.crawler_sleep_us, tunables.crawler_items_max), (false, 5, 7));
        assert!(without_effect.is_empty());
        assert_eq!(applied("no_maxconns_fast,maxconns_fast,no_lru_crawler,lru_crawler").unwrap(), Extended::default());
        assert!(!applied("no_modern").unwrap().maxconns_fast);
    }

    #[test]
    fn p18_sub_options_of_other_designs_are_checked_and_named() {
        let all = "hashpower=20,no_hashexpand,slab_reassign,no_slab_reassign,slab_automove,slab_automove=2,\
                   no_slab_automove,slab_automove_ratio=0.5,slab_automove_window=10,slab_automove_freeratio=0.01,\
                   tail_repair_time=10,hash_algorithm=xxh3,lru_maintainer,no_lru_maintainer,hot_lru_pct=10,\
                   warm_lru_pct=70,hot_max_factor=0.2,warm_max_factor=2,temporary_ttl=61,worker_logbuf_size=64,\
                   slab_sizes=100-200,slab_chunk_max=512,modern,inline_ascii_resp,no_inline_ascii_resp,no_chunked_items,\
                   resp_obj_mem_limit=1,drop_privileges,no_drop_privileges,sock_cookie_id=1,ext_path=/tmp/f:1g,\
                   ext_item_size=1,ext_item_age=1,ext_low_ttl=1,ext_recache_rate=1,ext_compact_under=1,\
                   ext_drop_under=1,ext_max_sleep=1,ext_max_frag=0.5,ext_drop_unread,ext_page_size=1,ext_wbuf_size=4,\
                   ext_threads=1,ext_io_depth=1";
        let extended = applied(all).unwrap();
        let names: Vec<&str> = all.split(',').map(|text| text.split('=').next().unwrap()).collect();
        assert_eq!(extended.without_effect, names);
        // `stats settings` shows them all the same.
        assert_eq!(
            (extended.tunables.hot_pct, extended.tunables.warm_pct, extended.tunables.segmented),
            (10, 70, false)
        );
    }

    #[test]
    fn p18_wrong_sub_options_are_refused() {
        for (text, expected) in [
            ("nonsense", "Illegal suboption \"nonsense\""),
            ("nonsense=5", "Illegal suboption \"nonsense=5\""),
            ("", "Illegal suboption \"\""),
            ("proxy_config=x", "Illegal suboption \"proxy_config=x\""),
            ("ssl_key=x", "Illegal suboption \"ssl_key=x\""),
            ("idle_timeout", "Missing numeric argument for idle_timeout"),
            ("idle_timeout=x", "could not parse argument to idle_timeout"),
            ("idle_timeout=-1", "could not parse argument to idle_timeout"),
            ("maxconns_fast=no", "maxconns_fast takes no value"),
            ("hashpower=3", "Initial hashtable multiplier of 3 is too low"),
            ("hashpower=33", "Initial hashtable multiplier of 33 is too high"),
            ("slab_automove=3", "slab_automove must be between 0 and 2"),
            ("slab_automove_ratio=2", "slab_automove_ratio must be > 0 and < 1"),
            ("slab_automove_window=1", "slab_automove_window must be > 2"),
            ("tail_repair_time=3", "Cannot set tail_repair_time to less than 10 seconds"),
            ("hash_algorithm=md5", "Unknown hash_algorithm option (jenkins, murmur3, xxh3)"),
            ("lru_crawler_sleep=1000001", "LRU crawler sleep must be between 0 and 1 second"),
            ("hot_lru_pct=80", "hot_lru_pct must be > 1 and < 80"),
            ("hot_max_factor=0", "hot_max_factor must be > 0"),
            ("hot_lru_pct=50,warm_lru_pct=50", "hot_lru_pct + warm_lru_pct cannot be more than 80% combined"),
        ] {
            assert_eq!(applied(text).unwrap_err(), expected, "{text}");
        }
    }
}
