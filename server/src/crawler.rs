//! The crawler: it walks over all items and takes out those that have expired or been flushed, so that they stop counting before
//! somebody asks for them (protocol 10, 20).
//!
//! A crawl runs on rayon's threads, off the workers', in parts of the index and in small slices, so it holds nothing back. One
//! runs at a time: when a client asks for it, and by itself now and then ([`Pace`]).

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use memkv_engine::store::{Cursor, Handle};
use rayon::iter::{IntoParallelIterator as _, ParallelIterator as _};

use crate::limits::CRAWL_SLICE_BUCKETS;
use crate::protocol::Reply;
use crate::service::{Counter, Service};

/// Items after which a crawl rests (protocol 20).
const ITEMS_BETWEEN_RESTS: u64 = 1000;

/// The crawler's state and its counts.
#[derive(Debug, Default)]
pub struct Crawler {
    running: AtomicBool,
    stopping: AtomicBool,
    /// Crawls begun.
    pub starts: Counter,
    /// Items looked at.
    pub checked: Counter,
    /// Items taken out.
    pub reclaimed: Counter,
    /// Of the last crawl: how many it looked at, and how many of them it took out.
    last: [AtomicU64; 2],
}

impl Crawler {
    /// Whether a crawl is under way.
    pub fn is_running(&self) -> bool {
        self.running.load(Ordering::Relaxed)
    }

    /// Ends a crawl that is under way, soon.
    pub fn stop(&self) {
        self.stopping.store(true, Ordering::Relaxed);
    }

    fn last(&self) -> (u64, u64) {
        let [checked, reclaimed] = &self.last;
        (checked.load(Ordering::Relaxed), reclaimed.load(Ordering::Relaxed))
    }
}

/// Begins a crawl, which goes on after this returns.
///
/// # Errors
/// If the crawler is disabled, or one is under way.
pub fn start(service: &Arc<Service>) -> Result<(), Reply> {
    if !service.tunables().crawler {
        return Err(Reply::CrawlerDisabled);
    }
    // Acquire: after the last crawl's counts (Release in `crawl`).
    if service.crawler.running.compare_exchange(false, true, Ordering::Acquire, Ordering::Relaxed).is_err() {
        return Err(Reply::CrawlerBusy);
    }
    service.crawler.stopping.store(false, Ordering::Relaxed);
    service.crawler.starts.add(1);
    let service = Arc::clone(service);
    rayon::spawn(move || crawl(&service));
    Ok(())
}

fn crawl(service: &Service) {
    let crawler = &service.crawler;
    let started = Instant::now();
    let items_max = match service.tunables().crawler_items_max {
        0 => u64::MAX,
        max => u64::from(max),
    };
    let parts: Vec<Cursor> = Cursor::parts().collect();
    let share = items_max.div_ceil(parts.len() as u64);
    let (checked, reclaimed) = parts
        .into_par_iter()
        .map(|part| crawl_part(service, &mut service.store.handle(), part, share))
        .reduce(|| (0, 0), |a, b| (a.0 + b.0, a.1 + b.1));
    crawler.last[0].store(checked, Ordering::Relaxed);
    crawler.last[1].store(reclaimed, Ordering::Relaxed);
    service.tell_crawled(started.elapsed(), Duration::ZERO, checked, reclaimed);
    // Release: see `start`.
    crawler.running.store(false, Ordering::Release);
}

fn crawl_part(service: &Service, handle: &mut Handle, mut cursor: Cursor, items_max: u64) -> (u64, u64) {
    let crawler = &service.crawler;
    let (mut checked, mut reclaimed, mut rested_at) = (0, 0, 0);
    while !cursor.is_done() && checked < items_max && !crawler.stopping.load(Ordering::Relaxed) {
        let swept = handle.batch().sweep(&mut cursor, CRAWL_SLICE_BUCKETS);
        crawler.checked.add(swept.checked);
        crawler.reclaimed.add(swept.reclaimed);
        checked += swept.checked;
        reclaimed += swept.reclaimed;
        if checked - rested_at >= ITEMS_BETWEEN_RESTS {
            rested_at = checked;
            let rest_us = service.tunables().crawler_sleep_us;
            if rest_us > 0 {
                std::thread::sleep(Duration::from_micros(u64::from(rest_us)));
            }
        }
    }
    (checked, reclaimed)
}

/// How long to wait for the next crawl: an hour, or less where crawls find much.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pace {
    wait: Duration,
}

impl Pace {
    const STEP: Duration = Duration::from_secs(60);
    const MAX: Duration = Duration::from_secs(3600);

    /// What comes after a crawl that looked at so many items and took so many of them out: a minute less if it was more than one in a
    /// hundred, else a minute more (protocol 20).
    #[must_use]
    pub fn after(self, checked: u64, reclaimed: u64) -> Pace {
        let wait =
            if reclaimed * 100 > checked { self.wait.saturating_sub(Self::STEP) } else { self.wait + Self::STEP };
        Pace { wait: wait.clamp(Self::STEP, Self::MAX) }
    }
}

impl Default for Pace {
    fn default() -> Pace {
        Pace { wait: Self::STEP }
    }
}

/// Crawls now and then, for ever.
pub async fn automatic(service: Arc<Service>) {
    let mut pace = Pace::default();
    loop {
        smol::Timer::after(pace.wait).await;
        let (checked, reclaimed) = service.crawler.last();
        pace = pace.after(checked, reclaimed);
        // Disabled, or somebody asked for one just now: next time.
        let _ = start(&service);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn crawls_that_find_nothing_become_rare() {
        let mut pace = Pace::default();
        for _ in 0..100 {
            pace = pace.after(1000, 10);
        }
        assert_eq!(pace.wait, Duration::from_secs(3600));
        for _ in 0..100 {
            pace = pace.after(1000, 11);
        }
        assert_eq!(pace.wait, Duration::from_secs(60));
    }
}
