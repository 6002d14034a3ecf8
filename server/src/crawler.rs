//! `lru_crawler crawl`: a walk over all items that takes out those that have expired or been flushed (protocol 10).
//!
//! It runs on rayon's threads, off the workers', in parts of the index and in small slices, so it holds nothing back. One runs at a
//! time, and only when a client asks for it: the store's own cleaner (a thread of the server) takes out what has expired without being
//! asked, segment by segment, and lets the rarest cases wait for half a minute; a crawl waits for nothing.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
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
