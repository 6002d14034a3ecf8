//! The `stats` command (protocol 9): names and order are memcached's.
//!
//! Where memcached shows a concept that does not exist here (slabs, its LRU lists, its page mover), the figure is the one of a
//! server in which that part never does anything: scripts that look for the name find it, and it never claims work not done.

use std::time::Duration;

use memkv_engine::store::{Batch, Counter, Cursor, Stats};

use crate::hotkeys;
use crate::latency::{self, Class, Summary};
use crate::limits::HOT_KEYS_SHOWN;
use crate::protocol::admin::Topic;
use crate::protocol::encode::{stat, uri};
use crate::protocol::{CLASS, Reply};
use crate::service::Service;
use crate::{LIBRARY_VERSION, MEMCACHED_VERSION};

/// Answers `stats` about a topic.
pub fn answer(topic: Topic, service: &Service, batch: &Batch<'_>, out: &mut Vec<u8>) {
    let is_private = !service.config.dump_allowed;
    let reply = match topic {
        Topic::General => {
            general(service, out);
            Reply::End
        }
        Topic::Settings => {
            settings(service, out);
            Reply::End
        }
        Topic::Items => {
            items(service, batch, out);
            Reply::End
        }
        Topic::Slabs => {
            slabs(service, out);
            Reply::End
        }
        Topic::Conns => {
            conns(service, batch, out);
            Reply::End
        }
        Topic::External => Reply::End,
        Topic::Latency => {
            latency(service, out);
            Reply::End
        }
        Topic::HotKeys if is_private => Reply::HotKeysForbidden,
        Topic::HotKeys => {
            hot_keys(service, out);
            Reply::End
        }
        Topic::Reset => {
            service.reset();
            Reply::Reset
        }
        Topic::DetailOn | Topic::DetailOff | Topic::DetailDump | Topic::DetailUsage if is_private => {
            Reply::DetailForbidden
        }
        Topic::DetailOn | Topic::DetailOff => {
            service.watch.set_detail(topic == Topic::DetailOn);
            Reply::Ok
        }
        Topic::DetailDump => {
            service.prefixes.dump(out);
            Reply::End
        }
        Topic::DetailUsage => Reply::DetailUsage,
        Topic::BadCachedump(_) if is_private => Reply::CachedumpForbidden,
        Topic::BadCachedump(reply) => reply,
    };
    out.extend_from_slice(reply.line());
}

fn general(service: &Service, out: &mut Vec<u8>) {
    let now = service.store.clock().now();
    let items = service.store.stats();
    let connections = &service.connections;
    let (user, system) = cpu_time();
    let paused = connections.listeners_paused.load(std::sync::atomic::Ordering::Relaxed) > 0;
    let connection_bytes: usize =
        service.workers().iter().map(|worker| worker.connection_bytes.load(std::sync::atomic::Ordering::Relaxed)).sum();

    stat(out, "pid", std::process::id());
    stat(out, "uptime", (now.mono_ms - service.started.mono_ms) / 1000);
    stat(out, "time", now.unix_ms / 1000);
    stat(out, "version", MEMCACHED_VERSION);
    // The event library, by the name under which scripts know it.
    stat(out, "libevent", LIBRARY_VERSION);
    stat(out, "pointer_size", usize::BITS);
    stat(out, "rusage_user", seconds(user));
    stat(out, "rusage_system", seconds(system));
    stat(out, "max_connections", service.config.connections_max);
    // memcached counts the sockets that listen too, less one.
    stat(out, "curr_connections", connections.current() + service.listening.list().len().saturating_sub(1));
    stat(out, "total_connections", connections.total.get());
    if service.config.turn_away {
        stat(out, "rejected_connections", connections.rejected.get());
    }
    stat(out, "connection_structures", connections.current());
    stat(out, "response_obj_oom", service.sum(|worker| &worker.response_obj_oom));
    stat(out, "response_obj_count", 0);
    stat(out, "response_obj_bytes", connection_bytes);
    stat(out, "read_buf_count", service.workers().len());
    stat(out, "read_buf_bytes", service.workers().len() * crate::limits::READ_BUFFER_BYTES);
    stat(out, "read_buf_bytes_free", 0);
    stat(out, "read_buf_oom", service.sum(|worker| &worker.read_buf_oom));
    stat(out, "reserved_fds", crate::limits::RESERVED_FDS);
    stat(out, "cmd_get", items.get(Counter::CmdGet));
    stat(out, "cmd_set", items.get(Counter::CmdSet));
    stat(out, "cmd_flush", items.get(Counter::CmdFlush) + service.flushes_refused());
    stat(out, "cmd_touch", items.get(Counter::CmdTouch));
    stat(out, "cmd_meta", items.get(Counter::CmdMeta));
    for (name, counter) in [
        ("get_hits", Counter::GetHits),
        ("get_misses", Counter::GetMisses),
        ("get_expired", Counter::GetExpired),
        ("get_flushed", Counter::GetFlushed),
        ("delete_misses", Counter::DeleteMisses),
        ("delete_hits", Counter::DeleteHits),
        ("incr_misses", Counter::IncrMisses),
        ("incr_hits", Counter::IncrHits),
        ("decr_misses", Counter::DecrMisses),
        ("decr_hits", Counter::DecrHits),
        ("cas_misses", Counter::CasMisses),
        ("cas_hits", Counter::CasHits),
        ("cas_badval", Counter::CasBadval),
        ("touch_hits", Counter::TouchHits),
        ("touch_misses", Counter::TouchMisses),
        ("store_too_large", Counter::StoreTooLarge),
        ("store_no_memory", Counter::StoreNoMemory),
    ] {
        stat(out, name, items.get(counter));
    }
    let auth = service.auth.as_ref();
    stat(out, "auth_cmds", auth.map_or(0, |auth| auth.commands.get()));
    stat(out, "auth_errors", auth.map_or(0, |auth| auth.errors.get()));
    if service.config.idle_timeout_s > 0 {
        stat(out, "idle_kicks", service.idle_kicks.get());
    }
    stat(out, "bytes_read", service.sum(|worker| &worker.bytes_read));
    stat(out, "bytes_written", service.sum(|worker| &worker.bytes_written));
    stat(out, "limit_maxbytes", items.limit_maxbytes);
    stat(out, "accepting_conns", u8::from(!paused));
    stat(out, "listen_disabled_num", connections.listen_disabled.get());
    stat(out, "time_in_listen_disabled_us", connections.listen_disabled_us.get());
    stat(out, "threads", service.workers().len());
    stat(out, "conn_yields", service.sum(|worker| &worker.conn_yields));
    stat(out, "hash_power_level", items.index_power);
    stat(out, "hash_bytes", items.index_bytes);
    stat(out, "hash_is_expanding", u8::from(items.index_is_growing));
    for name in [
        "slab_reassign_rescues",
        "slab_reassign_chunk_rescues",
        "slab_reassign_inline_reclaim",
        "slab_reassign_busy_items",
        "slab_reassign_busy_deletes",
        "slab_reassign_busy_nomem",
    ] {
        stat(out, name, 0);
    }
    stat(out, "slab_reassign_last_busy_status", "none");
    for name in ["slab_reassign_running", "slabs_moved"] {
        stat(out, name, 0);
    }
    let (crawler, watch) = (&service.crawler, &service.watch);
    stat(out, "lru_crawler_running", u8::from(crawler.is_running()));
    stat(out, "lru_crawler_starts", crawler.starts.get());
    for name in ["lru_maintainer_juggles", "malloc_fails"] {
        stat(out, name, 0);
    }
    stat(out, "log_worker_dropped", watch.dropped.get());
    stat(out, "log_worker_written", watch.written.get());
    stat(out, "log_watcher_skipped", watch.skipped.get());
    stat(out, "log_watcher_sent", watch.sent.get());
    stat(out, "log_watchers", watch.watchers());
    for name in ["unexpected_napi_ids", "round_robin_fallback"] {
        stat(out, name, 0);
    }
    stat(out, "bytes", items.bytes);
    stat(out, "curr_items", items.curr_items);
    stat(out, "total_items", items.get(Counter::TotalItems));
    // memcached's pages that belong to no class; ours are the segments that hold nothing.
    stat(out, "slab_global_page_pool", items.segments_free);
    stat(out, "expired_unfetched", items.get(Counter::ExpiredUnfetched));
    stat(out, "evicted_unfetched", items.get(Counter::EvictedUnfetched));
    stat(out, "evicted_active", 0);
    stat(out, "evictions", items.get(Counter::Evictions));
    stat(out, "reclaimed", items.get(Counter::Reclaimed));
    stat(out, "crawler_reclaimed", crawler.reclaimed.get());
    stat(out, "crawler_items_checked", crawler.checked.get());
    for name in [
        "lrutail_reflocked",
        "moves_to_cold",
        "moves_to_warm",
        "moves_within_lru",
        "direct_reclaims",
        "lru_bumps_dropped",
    ] {
        stat(out, name, 0);
    }
    memory(&items, out);
    stat(out, "memkv_reactor", service.reactors());
}

/// What memcached does not have: where the memory is, and what keeping it in order has cost. See the engine's `Stats`.
fn memory(items: &Stats, out: &mut Vec<u8>) {
    for (name, value) in [
        ("memkv_bytes_charged", items.charged_bytes + items.index_bytes),
        ("memkv_bytes_index", items.index_bytes),
        ("memkv_bytes_log", items.log_bytes),
        ("memkv_bytes_live", items.live_bytes),
        ("memkv_bytes_dead", items.dead_bytes),
        ("memkv_bytes_large", items.large_bytes),
        ("memkv_bytes_large_receiving", items.large_receiving_bytes),
        ("memkv_bytes_large_loose", items.large_loose_bytes),
        ("memkv_bytes_ghosts", items.ghost_bytes),
        ("memkv_segment_size", items.segment_bytes),
        ("memkv_segments_free", items.segments_free),
        ("memkv_segments_idle", items.segments_idle),
        ("memkv_segments_small", items.segments_small),
        ("memkv_segments_main", items.segments_main),
        ("memkv_compactions", items.get(Counter::Compactions)),
        ("memkv_bytes_moved", items.get(Counter::BytesMoved)),
        ("memkv_promotions", items.get(Counter::Promotions)),
        ("memkv_ghost_hits", items.get(Counter::GhostHits)),
        ("memkv_cleaner_busy_us", items.get(Counter::CleanerBusyNs) / 1000),
    ] {
        stat(out, name, value);
    }
}

fn settings(service: &Service, out: &mut Vec<u8>) {
    let config = &service.config;
    let tunables = service.tunables().clone();
    let external = &tunables.external;
    let yes = |value: bool| if value { "yes" } else { "no" };
    let two = |number: f64| format!("{number:.2}");
    let path = |path: Option<&std::path::Path>| path.map(|path| path.display().to_string());
    stat(out, "maxbytes", service.store.stats().limit_maxbytes);
    stat(out, "maxconns", config.connections_max);
    stat(out, "tcpport", config.port);
    stat(out, "udpport", 0);
    stat(out, "inter", config.interfaces().filter(|_| config.unix_socket.is_none()).as_deref().unwrap_or("NULL"));
    stat(out, "verbosity", service.verbosity());
    stat(out, "oldest", 0);
    stat(out, "evictions", if config.evict { "on" } else { "off" });
    stat(out, "domain_socket", path(config.unix_socket.as_deref()).as_deref().unwrap_or("NULL"));
    stat(out, "umask", format_args!("{:o}", config.unix_mask));
    stat(out, "shutdown_command", yes(config.shutdown_allowed));
    stat(out, "growth_factor", "1.25");
    stat(out, "chunk_size", 48);
    stat(out, "num_threads", service.workers().len());
    stat(out, "num_threads_per_udp", 0);
    stat(out, "stat_key_prefix", char::from(config.prefix_delimiter));
    stat(out, "detail_enabled", yes(service.watch.observed() & crate::watch::DETAIL != 0));
    stat(out, "reqs_per_event", config.commands_per_turn);
    stat(out, "cas_enabled", yes(config.cas));
    stat(out, "tcp_backlog", config.backlog);
    stat(out, "binding_protocol", "ascii");
    stat(out, "auth_enabled_sasl", "no");
    stat(out, "auth_enabled_ascii", path(config.auth_file.as_deref()).as_deref().unwrap_or("no"));
    stat(out, "item_size_max", config.item_bytes_max);
    stat(out, "maxconns_fast", yes(config.turn_away));
    stat(out, "hashpower_init", 0);
    stat(out, "slab_reassign", "yes");
    stat(out, "slab_automove", tunables.automove);
    stat(out, "slab_automove_ratio", two(tunables.automove_ratio));
    stat(out, "slab_automove_window", tunables.automove_window);
    stat(out, "slab_chunk_max", 524_288);
    stat(out, "lru_crawler", yes(tunables.crawler));
    stat(out, "lru_crawler_sleep", tunables.crawler_sleep_us);
    stat(out, "lru_crawler_tocrawl", tunables.crawler_items_max);
    stat(out, "tail_repair_time", 0);
    stat(out, "flush_enabled", yes(config.flush_allowed));
    stat(out, "dump_enabled", yes(config.dump_allowed));
    stat(out, "hash_algorithm", "foldhash");
    stat(out, "lru_maintainer_thread", "yes");
    stat(out, "lru_segmented", yes(tunables.segmented));
    stat(out, "hot_lru_pct", tunables.hot_pct);
    stat(out, "warm_lru_pct", tunables.warm_pct);
    stat(out, "hot_max_factor", two(tunables.hot_factor));
    stat(out, "warm_max_factor", two(tunables.warm_factor));
    stat(out, "temp_lru", yes(tunables.temporary_ttl.is_some()));
    stat(out, "temporary_ttl", tunables.temporary_ttl.unwrap_or(61));
    stat(out, "idle_timeout", config.idle_timeout_s);
    stat(out, "watcher_logbuf_size", config.watcher_buffer_bytes);
    stat(out, "worker_logbuf_size", 65_536);
    stat(out, "read_buf_mem_limit", config.connection_memory());
    stat(out, "track_sizes", yes(config.track_sizes));
    stat(out, "inline_ascii_response", "no");
    stat(out, "ext_item_size", external.item_size);
    stat(out, "ext_item_age", external.item_age);
    stat(out, "ext_low_ttl", external.low_ttl);
    stat(out, "ext_recache_rate", external.recache_rate);
    stat(out, "ext_wbuf_size", external.wbuf_size);
    stat(out, "ext_compact_under", external.compact_under);
    stat(out, "ext_drop_under", external.drop_under);
    stat(out, "ext_max_sleep", external.max_sleep);
    stat(out, "ext_max_frag", two(external.max_frag));
    stat(out, "slab_automove_freeratio", format_args!("{:.3}", tunables.automove_freeratio));
    stat(out, "ext_drop_unread", yes(external.drop_unread));
    stat(out, "ssl_enabled", "no");
    stat(out, "ssl_chain_cert", "(null)");
    stat(out, "ssl_key", "(null)");
    stat(out, "ssl_verify_mode", 0);
    stat(out, "ssl_keyformat", 1);
    stat(out, "ssl_ciphers", "NULL");
    stat(out, "ssl_ca_cert", "NULL");
    stat(out, "ssl_wbuf_size", 16_384);
    stat(out, "ssl_session_cache", "no");
    stat(out, "ssl_kernel_tls", "no");
    stat(out, "ssl_min_version", "tlsv1.2");
    stat(out, "num_napi_ids", 0);
    stat(out, "memory_file", "(null)");
    stat(out, "client_flags_size", 4);
}

/// `stats items`: one class, if there is anything in it.
///
/// memcached's lists are ours in spirit: what is new is in the small queue (its cold list), and what was fetched there moves to the
/// main queue (its warm list); items are not counted by queue, so all are shown as cold.
fn items(service: &Service, batch: &Batch<'_>, out: &mut Vec<u8>) {
    let items = service.store.stats();
    if items.curr_items == 0 {
        return;
    }
    let crawler = &service.crawler;
    for (name, value) in [
        ("number", items.curr_items),
        ("number_hot", 0),
        ("number_warm", 0),
        ("number_cold", items.curr_items),
        ("age_hot", 0),
        ("age_warm", 0),
        ("age", sampled_age_s(batch)),
        ("mem_requested", items.bytes),
        ("evicted", items.get(Counter::Evictions)),
        ("evicted_nonzero", items.get(Counter::EvictedNonzero)),
        ("evicted_time", service.store.last_eviction_idle_s()),
        ("outofmemory", items.get(Counter::StoreNoMemory)),
        ("tailrepairs", 0),
        ("reclaimed", items.get(Counter::Reclaimed)),
        ("expired_unfetched", items.get(Counter::ExpiredUnfetched)),
        ("evicted_unfetched", items.get(Counter::EvictedUnfetched)),
        ("evicted_active", 0),
        ("crawler_reclaimed", crawler.reclaimed.get()),
        ("crawler_items_checked", crawler.checked.get()),
        ("lrutail_reflocked", 0),
        ("moves_to_cold", 0),
        ("moves_to_warm", items.get(Counter::Promotions)),
        ("moves_within_lru", 0),
        ("direct_reclaims", 0),
        ("hits_to_hot", 0),
        ("hits_to_warm", 0),
        ("hits_to_cold", items.get(Counter::GetHits)),
        ("hits_to_temp", 0),
    ] {
        stat(out, &format!("items:{CLASS}:{name}"), value);
    }
}

/// Seconds since the last access of the item that has rested longest, of those in the first buckets of the index: hashes decide
/// what lies there, so it is a fair sample of some hundred items.
fn sampled_age_s(batch: &Batch<'_>) -> u64 {
    const SAMPLED_BUCKETS: usize = 64;
    let mut age_s = 0;
    batch.scan(&mut Cursor::new(), SAMPLED_BUCKETS, |seen| {
        age_s = age_s.max(seen.idle_s);
        true
    });
    age_s
}

/// `stats slabs`: one class, whose pages are the log's segments and whose chunks are the eight bytes that records are made of.
fn slabs(service: &Service, out: &mut Vec<u8>) {
    /// What records are aligned to.
    const CHUNK_BYTES: u64 = 8;
    let items = service.store.stats();
    let pages = items.log_bytes / items.segment_bytes;
    let chunks = items.log_bytes / CHUNK_BYTES;
    let used = (items.live_bytes / CHUNK_BYTES).min(chunks);
    if pages > 0 {
        for (name, value) in [
            ("chunk_size", CHUNK_BYTES),
            ("chunks_per_page", items.segment_bytes / CHUNK_BYTES),
            ("total_pages", pages),
            ("total_chunks", chunks),
            ("used_chunks", used),
            ("free_chunks", chunks - used),
            ("free_chunks_end", 0),
            ("get_hits", items.get(Counter::GetHits)),
            ("cmd_set", items.get(Counter::CmdSet)),
            ("delete_hits", items.get(Counter::DeleteHits)),
            ("incr_hits", items.get(Counter::IncrHits)),
            ("decr_hits", items.get(Counter::DecrHits)),
            ("cas_hits", items.get(Counter::CasHits)),
            ("cas_badval", items.get(Counter::CasBadval)),
            ("touch_hits", items.get(Counter::TouchHits)),
        ] {
            stat(out, &format!("{CLASS}:{name}"), value);
        }
    }
    stat(out, "active_slabs", u8::from(pages > 0));
    stat(out, "total_malloced", items.charged_bytes);
}

/// `stats conns`: every socket, by descriptor.
fn conns(service: &Service, batch: &Batch<'_>, out: &mut Vec<u8>) {
    let now_s = (batch.now().mono_ms / 1000) as u32;
    let mut all = service.listening.list();
    for insight in service.insights() {
        all.extend(insight.roster.list());
    }
    all.sort_by_key(|presence| presence.fd);
    for presence in all {
        let fd = presence.fd;
        stat(out, &format!("{fd}:addr"), &presence.peer);
        if let Some(local) = &presence.local {
            stat(out, &format!("{fd}:listen_addr"), local);
        }
        stat(out, &format!("{fd}:state"), presence.doing());
        stat(out, &format!("{fd}:secs_since_last_cmd"), presence.idle_s(now_s));
    }
}

/// `stats latency`: nanoseconds, by class of commands; see [`latency`].
fn latency(service: &Service, out: &mut Vec<u8>) {
    let epoch = service.latency_epoch();
    stat(out, "latency:sample_every", latency::SAMPLE_EVERY);
    for (class, name) in Class::ALL {
        let workers = service.insights().iter().map(|insight| &insight.latency);
        let summary = Summary::of(class, workers, epoch);
        if summary.count == 0 {
            continue;
        }
        for (figure, value) in [
            ("samples", summary.count),
            ("mean_ns", summary.mean_ns()),
            ("p50_ns", summary.quantile_ns(0.5)),
            ("p90_ns", summary.quantile_ns(0.9)),
            ("p99_ns", summary.quantile_ns(0.99)),
            ("p999_ns", summary.quantile_ns(0.999)),
            ("max_ns", summary.max_ns),
        ] {
            stat(out, &format!("latency:{name}:{figure}"), value);
        }
    }
}

/// `stats hotkeys`: the keys that are asked for most, hottest first; see [`hotkeys`].
fn hot_keys(service: &Service, out: &mut Vec<u8>) {
    let sketches = service.insights().iter().map(|insight| &insight.hot_keys);
    let (hottest, samples) = hotkeys::hottest(sketches, HOT_KEYS_SHOWN);
    stat(out, "hotkeys:sample_every", hotkeys::SAMPLE_EVERY);
    stat(out, "hotkeys:samples", samples);
    for (at, hot) in hottest.iter().enumerate() {
        let rank = at + 1;
        out.extend_from_slice(format!("STAT hotkeys:{rank}:key ").as_bytes());
        uri(out, &hot.key);
        out.extend_from_slice(b"\r\n");
        stat(out, &format!("hotkeys:{rank}:requests"), hot.count * u64::from(hotkeys::SAMPLE_EVERY));
        stat(out, &format!("hotkeys:{rank}:error"), hot.error * u64::from(hotkeys::SAMPLE_EVERY));
        stat(out, &format!("hotkeys:{rank}:share"), format_args!("{:.4}", hot.count as f64 / samples.max(1) as f64));
    }
}

/// Seconds with six decimals, as in `rusage_user`.
fn seconds(time: Duration) -> String {
    format!("{}.{:06}", time.as_secs(), time.subsec_micros())
}

/// User and system time of this process so far, to the kernel's clock tick; zero where /proc is missing.
fn cpu_time() -> (Duration, Duration) {
    let ticks = |field: Option<&str>| {
        let ticks: u64 = field.and_then(|text| text.parse().ok()).unwrap_or(0);
        Duration::from_micros(ticks * 1_000_000 / rustix::param::clock_ticks_per_second().max(1))
    };
    let line = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    // The second field is the program's name in parentheses and may hold anything; utime and stime are fields 14 and 15.
    let mut fields = line.rsplit_once(')').map_or("", |(_, rest)| rest).split_ascii_whitespace().skip(11);
    (ticks(fields.next()), ticks(fields.next()))
}
