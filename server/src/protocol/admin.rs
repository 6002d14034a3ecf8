//! The lines of the administration commands (protocol 10), of `stats` (9) and `watch` (11).
//!
//! Each is read to the end here: what a valid line asks for is a small plain value, and an invalid one is the answer that it
//! deserves. Sub-command words are matched exactly.

use super::number;
use super::parse::{Line, Tokens, answered};
use super::{Reply, Request};

/// Something to be done to the server rather than to items.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Admin {
    /// cache_memlimit: the limit in megabytes.
    MemoryLimit(u32),
    /// lru_crawler enable, lru_crawler disable.
    Crawler(bool),
    /// lru_crawler sleep: microseconds.
    CrawlerSleep(u32),
    /// lru_crawler tocrawl: items.
    CrawlerItems(u32),
    /// lru_crawler crawl.
    Crawl,
    /// slabs reassign.
    Reassign {
        /// The class that gives a page; -1 for any, 0 for the pool.
        from: i32,
        /// The class that gets it.
        to: i32,
    },
    /// slabs automove.
    Automove(u32),
    /// slabs automove ratio.
    AutomoveRatio(f64),
    /// slabs automove freeratio.
    AutomoveFreeRatio(f64),
    /// slabs automove window.
    AutomoveWindow(u32),
    /// lru tune.
    Tune {
        /// Per cent of a class for the hot list.
        hot_pct: u32,
        /// Per cent of a class for the warm list.
        warm_pct: u32,
        /// Age of the hot list's tail.
        hot_factor: f32,
        /// Age of the warm list's tail.
        warm_factor: f32,
    },
    /// lru mode.
    Segmented(bool),
    /// lru temp_ttl: seconds; none below 0.
    TemporaryTtl(Option<u32>),
    /// extstore.
    External(External),
}

/// A setting of memcached's external storage and its new value.
#[derive(Clone, Copy, Debug, PartialEq)]
#[allow(missing_docs)] // each is the setting of that name
pub enum External {
    ItemSize(u32),
    ItemAge(u32),
    LowTtl(u32),
    RecacheRate(u32),
    CompactUnder(u32),
    DropUnder(u32),
    MaxSleep(u32),
    MaxFrag(f64),
    DropUnread(bool),
    /// Ignored, as in memcached.
    FreeMemchunks,
}

/// What `stats` is asked for, as far as one answer can hold it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)] // each is the topic of that name
pub enum Topic {
    General,
    Settings,
    Items,
    Slabs,
    Conns,
    External,
    Reset,
    Latency,
    HotKeys,
    DetailOn,
    DetailOff,
    DetailDump,
    /// `stats detail` and none of the three: how to use it, unless it is forbidden.
    DetailUsage,
    /// `stats cachedump` with wrong arguments: why, unless it is forbidden.
    BadCachedump(Reply),
}

/// A walk over all items, the answer to which is sent as it is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Walk {
    /// lru_crawler metadump
    Metadump,
    /// lru_crawler mgdump
    Mgdump,
    /// stats cachedump
    Cachedump {
        /// Whether the class is the one that there is.
        is_class: bool,
        /// Items to show; 0 for all.
        limit: u32,
    },
    /// stats sizes
    Sizes,
}

/// Streams of a watcher, one bit each (protocol 11).
pub mod streams {
    /// Look-ups.
    pub const FETCHERS: u32 = 1;
    /// Stores.
    pub const MUTATIONS: u32 = 2;
    /// Evictions.
    pub const EVICTIONS: u32 = 4;
    /// Connections that come and go.
    pub const CONNEVENTS: u32 = 8;
    /// What the server does by itself.
    pub const SYSEVENTS: u32 = 16;
    /// Deletions.
    pub const DELETIONS: u32 = 32;
    /// Streams that exist by name and never say anything: raw commands, and those of memcached's proxy.
    pub const SILENT: u32 = 64;
}

/// `cache_memlimit <megabytes>`.
pub(super) fn cache_memlimit(input: &[u8], tokens: &Tokens, next: usize) -> Line {
    let reply = match number::u32_strict(tokens.get(input, 1)) {
        None => Reply::Error,
        Some(..8) => Reply::LimitTooSmall,
        Some(1_000_000_001..) => Reply::LimitNotMegabytes,
        Some(megabytes) => return admin(Admin::MemoryLimit(megabytes), input, tokens, next),
    };
    answered(reply, tokens.noreply(input), next)
}

/// `lru_crawler <sub-command> ...`.
pub(super) fn lru_crawler(input: &[u8], tokens: &Tokens, next: usize) -> Line {
    let noreply = tokens.noreply(input);
    let refuse = |reply| answered(reply, noreply, next);
    let argument = tokens.get(input, 2);
    match tokens.get(input, 1) {
        b"enable" => admin(Admin::Crawler(true), input, tokens, next),
        b"disable" => admin(Admin::Crawler(false), input, tokens, next),
        _ if argument.is_empty() => refuse(Reply::Error),
        b"sleep" => match number::u32_strict(argument) {
            None => refuse(Reply::BadLine),
            Some(1_000_001..) => refuse(Reply::SleepTooLong),
            Some(us) => admin(Admin::CrawlerSleep(us), input, tokens, next),
        },
        b"tocrawl" => match number::u32_strict(argument) {
            None => refuse(Reply::BadLine),
            Some(items) => admin(Admin::CrawlerItems(items), input, tokens, next),
        },
        b"crawl" => match argument {
            b"hash" => refuse(Reply::UnknownError),
            _ => match classes(argument) {
                None => refuse(Reply::BadClass),
                Some(false) => refuse(Reply::NothingToCrawl),
                Some(true) => admin(Admin::Crawl, input, tokens, next),
            },
        },
        word @ (b"metadump" | b"mgdump") => match classes(argument) {
            None if argument != b"hash" => refuse(Reply::BadClass),
            Some(false) => refuse(Reply::NothingToCrawl),
            _ => {
                let walk = if word == b"metadump" { Walk::Metadump } else { Walk::Mgdump };
                Line::Request { request: Request::Walk(walk), next }
            }
        },
        _ => refuse(Reply::Error),
    }
}

/// Whether a list of classes is one, and if so, whether the class that there is stands in it.
fn classes(list: &[u8]) -> Option<bool> {
    if list == b"all" {
        return Some(true);
    }
    let mut has_ours = false;
    for id in list.split(|byte| *byte == b',') {
        match number::u32_strict(id) {
            Some(id @ 1..=63) => has_ours |= id == super::CLASS,
            _ => return None,
        }
    }
    Some(has_ours)
}

/// `slabs reassign <from> <to>`, `slabs automove ...`.
pub(super) fn slabs(input: &[u8], tokens: &Tokens, next: usize) -> Line {
    let noreply = tokens.noreply(input);
    let refuse = |reply| answered(reply, noreply, next);
    let arguments = tokens.count - usize::from(noreply);
    match (tokens.get(input, 1), tokens.get(input, 2)) {
        (b"reassign", from) if arguments == 4 => {
            match (number::i32_strict(from), number::i32_strict(tokens.get(input, 3))) {
                (Some(from), Some(to)) => admin(Admin::Reassign { from, to }, input, tokens, next),
                _ => refuse(Reply::BadLine),
            }
        }
        (b"automove", word @ (b"ratio" | b"freeratio")) if arguments == 4 => match float(tokens.get(input, 3)) {
            Some(ratio) if word == b"ratio" => admin(Admin::AutomoveRatio(ratio), input, tokens, next),
            Some(ratio) => admin(Admin::AutomoveFreeRatio(ratio), input, tokens, next),
            None => refuse(Reply::Error),
        },
        (b"automove", b"window") if arguments == 4 => match number::u32_strict(tokens.get(input, 3)) {
            Some(window @ 3..=1800) => admin(Admin::AutomoveWindow(window), input, tokens, next),
            Some(_) => refuse(Reply::BadWindow),
            None => refuse(Reply::BadLine),
        },
        (b"automove", b"" | b"ratio" | b"freeratio" | b"window") => refuse(Reply::Error),
        (b"automove", level) => match number::u32_strict(level) {
            Some(level @ 0..=2) => admin(Admin::Automove(level), input, tokens, next),
            Some(_) => refuse(Reply::Error),
            None => refuse(Reply::BadLine),
        },
        _ => refuse(Reply::Error),
    }
}

/// `lru tune ...`, `lru mode ...`, `lru temp_ttl ...`.
pub(super) fn lru(input: &[u8], tokens: &Tokens, next: usize) -> Line {
    let noreply = tokens.noreply(input);
    let refuse = |reply| answered(reply, noreply, next);
    match (tokens.get(input, 1), tokens.get(input, 2)) {
        (b"tune", hot) if tokens.count >= 6 => {
            let pct = (number::u32_strict(hot), number::u32_strict(tokens.get(input, 3)));
            let factors = (float(tokens.get(input, 4)), float(tokens.get(input, 5)));
            let ((Some(hot_pct), Some(warm_pct)), (Some(hot), Some(warm))) = (pct, factors) else {
                return refuse(Reply::Error);
            };
            if u64::from(hot_pct) + u64::from(warm_pct) > 80 {
                return refuse(Reply::PctsTooLarge);
            }
            if hot <= 0.0 || warm <= 0.0 {
                return refuse(Reply::FactorsTooSmall);
            }
            let tune = Admin::Tune { hot_pct, warm_pct, hot_factor: hot as f32, warm_factor: warm as f32 };
            admin(tune, input, tokens, next)
        }
        (b"mode", b"flat") => admin(Admin::Segmented(false), input, tokens, next),
        (b"mode", b"segmented") => admin(Admin::Segmented(true), input, tokens, next),
        (b"temp_ttl", seconds) => match number::i32_strict(seconds) {
            Some(seconds) => admin(Admin::TemporaryTtl(u32::try_from(seconds).ok()), input, tokens, next),
            None => refuse(Reply::Error),
        },
        _ => refuse(Reply::Error),
    }
}

/// `extstore <setting> <value>`.
pub(super) fn extstore(input: &[u8], tokens: &Tokens, next: usize) -> Line {
    let (setting, value) = (tokens.get(input, 1), tokens.get(input, 2));
    let number = number::u32_strict(value);
    let set = match setting {
        b"item_size" => number.map(External::ItemSize),
        b"item_age" => number.map(External::ItemAge),
        b"low_ttl" => number.map(External::LowTtl),
        b"recache_rate" => number.map(External::RecacheRate),
        b"compact_under" => number.map(External::CompactUnder),
        b"drop_under" => number.map(External::DropUnder),
        b"max_sleep" => number.map(External::MaxSleep),
        b"max_frag" => float(value).map(External::MaxFrag),
        b"drop_unread" => number.map(|number| External::DropUnread(number != 0)),
        b"free_memchunks" => number.and(number::u32_strict(tokens.get(input, 3))).map(|_| External::FreeMemchunks),
        _ => None,
    };
    match set {
        Some(set) => admin(Admin::External(set), input, tokens, next),
        None => answered(Reply::Error, tokens.noreply(input), next),
    }
}

/// `stats [topic] ...`.
pub(super) fn stats(input: &[u8], tokens: &Tokens, next: usize) -> Line {
    let topic = match tokens.get(input, 1) {
        b"" => Topic::General,
        b"settings" => Topic::Settings,
        b"items" => Topic::Items,
        b"slabs" => Topic::Slabs,
        b"conns" => Topic::Conns,
        b"extstore" => Topic::External,
        b"reset" => Topic::Reset,
        b"latency" => Topic::Latency,
        b"hotkeys" => Topic::HotKeys,
        b"detail" => match tokens.get(input, 2) {
            b"on" => Topic::DetailOn,
            b"off" => Topic::DetailOff,
            b"dump" => Topic::DetailDump,
            _ => Topic::DetailUsage,
        },
        b"sizes" => return Line::Request { request: Request::Walk(Walk::Sizes), next },
        b"cachedump" if tokens.count < 4 => Topic::BadCachedump(Reply::BadCommandLine),
        b"cachedump" => match (number::u32_strict(tokens.get(input, 2)), number::u32_strict(tokens.get(input, 3))) {
            (Some(64..), Some(_)) => Topic::BadCachedump(Reply::IllegalClass),
            (Some(class), Some(limit)) => {
                let walk = Walk::Cachedump { is_class: class == super::CLASS, limit };
                return Line::Request { request: Request::Walk(walk), next };
            }
            _ => Topic::BadCachedump(Reply::BadLine),
        },
        _ => return answered(Reply::Error, false, next),
    };
    Line::Request { request: Request::Stats(topic), next }
}

/// `watch [stream]*`.
pub(super) fn watch(input: &[u8], tokens: &Tokens, end: usize, next: usize) -> Line {
    let mut wanted = 0;
    if tokens.count > 1 {
        let names = &input[tokens.span(1).start as usize..end];
        for name in names.split(|byte| *byte == b' ').filter(|name| !name.is_empty()) {
            wanted |= match name {
                b"fetchers" => streams::FETCHERS,
                b"mutations" => streams::MUTATIONS,
                b"evictions" => streams::EVICTIONS,
                b"connevents" => streams::CONNEVENTS,
                b"sysevents" => streams::SYSEVENTS,
                b"deletions" => streams::DELETIONS,
                b"rawcmds" | b"proxyreqs" | b"proxyevents" | b"proxyuser" => streams::SILENT,
                _ => return answered(Reply::Error, false, next),
            };
        }
    }
    let wanted = if wanted == 0 { streams::FETCHERS } else { wanted };
    Line::Request { request: Request::Watch(wanted), next }
}

fn admin(admin: Admin, input: &[u8], tokens: &Tokens, next: usize) -> Line {
    Line::Request { request: Request::Admin { admin, noreply: tokens.noreply(input) }, next }
}

/// A decimal fraction.
fn float(token: &[u8]) -> Option<f64> {
    std::str::from_utf8(token).ok()?.parse().ok().filter(|number: &f64| number.is_finite())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn class_lists() {
        assert_eq!(classes(b"all"), Some(true));
        assert_eq!(classes(b"1"), Some(true));
        assert_eq!(classes(b"5,1,63"), Some(true));
        assert_eq!(classes(b"2,3"), Some(false));
        for bad in [&b"0"[..], b"64", b"1,64", b"x", b"", b"1,", b"hash"] {
            assert_eq!(classes(bad), None, "{bad:?}");
        }
    }
}
