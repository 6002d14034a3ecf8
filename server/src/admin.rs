//! Administration commands meet the server (protocol 10).
//!
//! What has no meaning in this design is checked, kept, shown by `stats settings` and otherwise without effect; see
//! [`tunables`](crate::tunables). There is one slab class and nothing to move between classes, so `slabs reassign` finds nothing to
//! spare.

use std::sync::Arc;

use crate::crawler;
use crate::protocol::Reply;
use crate::protocol::admin::{Admin, External};
use crate::service::Service;

/// Carries out a command.
pub fn run(admin: Admin, service: &Arc<Service>) -> Reply {
    let mut tunables = service.tunables();
    match admin {
        Admin::MemoryLimit(megabytes) => {
            return match service.store.set_memory_limit((megabytes as usize) << 20) {
                Ok(()) => Reply::Ok,
                Err(_) => Reply::LimitRefused,
            };
        }
        Admin::Crawl => {
            drop(tunables);
            return match crawler::start(service) {
                Ok(()) => Reply::Ok,
                Err(reply) => reply,
            };
        }
        Admin::Crawler(true) if tunables.crawler => return Reply::CrawlerNotStarted,
        Admin::Crawler(on) => {
            tunables.crawler = on;
            if !on {
                service.crawler.stop();
            }
        }
        Admin::CrawlerSleep(us) => tunables.crawler_sleep_us = us,
        Admin::CrawlerItems(items) => tunables.crawler_items_max = items,
        Admin::Reassign { from, to } => return reassign(from, to),
        Admin::Automove(level) => tunables.automove = level,
        Admin::AutomoveRatio(ratio) => tunables.automove_ratio = ratio,
        Admin::AutomoveFreeRatio(ratio) => tunables.automove_freeratio = ratio,
        Admin::AutomoveWindow(window) => tunables.automove_window = window,
        Admin::Tune { hot_pct, warm_pct, hot_factor, warm_factor } => {
            (tunables.hot_pct, tunables.warm_pct) = (hot_pct, warm_pct);
            (tunables.hot_factor, tunables.warm_factor) = (f64::from(hot_factor), f64::from(warm_factor));
        }
        Admin::Segmented(segmented) => tunables.segmented = segmented,
        Admin::TemporaryTtl(ttl) => tunables.temporary_ttl = ttl,
        Admin::External(setting) => {
            let external = &mut tunables.external;
            match setting {
                External::ItemSize(n) => external.item_size = n,
                External::ItemAge(n) => external.item_age = n,
                External::LowTtl(n) => external.low_ttl = n,
                External::RecacheRate(n) => external.recache_rate = n,
                External::CompactUnder(n) => external.compact_under = n,
                External::DropUnder(n) => external.drop_under = n,
                External::MaxSleep(n) => external.max_sleep = n,
                External::MaxFrag(x) => external.max_frag = x,
                External::DropUnread(on) => external.drop_unread = on,
                External::FreeMemchunks => {}
            }
        }
    }
    Reply::Ok
}

/// Classes are 0, the pool of free segments, and 1, the log; the other ids that memcached knows are empty here. Nothing has to be
/// moved between them: the log takes a segment from the pool when it needs one, and gives it back when nothing in it is alive.
fn reassign(from: i32, to: i32) -> Reply {
    let is_class = |class: i32| (0..=63).contains(&class);
    if from == to {
        Reply::SameClass
    } else if !is_class(from) || !is_class(to) {
        Reply::BadReassign
    } else {
        Reply::NoSparePage
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_moves_between_classes() {
        assert_eq!(reassign(5, 5), Reply::SameClass);
        assert_eq!(reassign(-1, 1), Reply::BadReassign);
        assert_eq!(reassign(1, 64), Reply::BadReassign);
        assert_eq!(reassign(0, 1), Reply::NoSparePage);
        assert_eq!(reassign(1, 0), Reply::NoSparePage);
    }
}
