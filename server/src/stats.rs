//! The `stats` command (protocol 9): names and order are memcached's.
//!
//! Where memcached shows a concept that does not exist here (slabs, its LRU lists, its page mover), the figure is the one of a
//! server in which that part never does anything: scripts that look for the name find it, and it never claims work not done.

use std::time::Duration;

use memkv_engine::store::{Counter, Stats};

use crate::protocol::Reply;
use crate::protocol::encode::{END, stat};
use crate::service::Service;
use crate::{LIBRARY_VERSION, MEMCACHED_VERSION};

/// Answers `stats <topic>`.
pub fn answer(topic: &[u8], service: &Service, out: &mut Vec<u8>) {
    match topic {
        b"" => general(service, out),
        b"settings" => settings(service, out),
        b"reset" => {
            service.reset();
            out.extend_from_slice(Reply::Reset.line());
            return;
        }
        b"sizes" => stat(out, "sizes_status", "disabled"),
        b"extstore" => {}
        _ => {
            out.extend_from_slice(Reply::Error.line());
            return;
        }
    }
    out.extend_from_slice(END);
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
    stat(out, "curr_connections", connections.current());
    stat(out, "total_connections", connections.total.get());
    stat(out, "rejected_connections", connections.rejected.get());
    stat(out, "connection_structures", connections.current());
    stat(out, "response_obj_oom", service.sum(|worker| &worker.response_obj_oom));
    stat(out, "response_obj_count", 0);
    stat(out, "response_obj_bytes", connection_bytes);
    stat(out, "read_buf_count", service.workers().len());
    stat(out, "read_buf_bytes", service.workers().len() * crate::limits::READ_BUFFER_BYTES);
    for name in ["read_buf_bytes_free", "read_buf_oom"] {
        stat(out, name, 0);
    }
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
    stat(out, "auth_cmds", 0);
    stat(out, "auth_errors", 0);
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
    for name in [
        "slab_reassign_running",
        "slabs_moved",
        "lru_crawler_running",
        "lru_crawler_starts",
        "lru_maintainer_juggles",
        "malloc_fails",
        "log_worker_dropped",
        "log_worker_written",
        "log_watcher_skipped",
        "log_watcher_sent",
        "log_watchers",
        "unexpected_napi_ids",
        "round_robin_fallback",
    ] {
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
    for name in [
        "crawler_reclaimed",
        "crawler_items_checked",
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
    let yes = |value: bool| if value { "yes" } else { "no" };
    stat(out, "maxbytes", config.memory_bytes);
    stat(out, "maxconns", config.connections_max);
    stat(out, "tcpport", config.port);
    stat(out, "udpport", 0);
    stat(out, "inter", config.interfaces().as_deref().unwrap_or("NULL"));
    stat(out, "verbosity", service.verbosity());
    stat(out, "oldest", 0);
    stat(out, "evictions", if config.evict { "on" } else { "off" });
    stat(out, "domain_socket", "NULL");
    stat(out, "umask", 700);
    stat(out, "shutdown_command", "no");
    stat(out, "growth_factor", "1.25");
    stat(out, "chunk_size", 48);
    stat(out, "num_threads", service.workers().len());
    stat(out, "num_threads_per_udp", 0);
    stat(out, "stat_key_prefix", ":");
    stat(out, "detail_enabled", "no");
    stat(out, "reqs_per_event", config.commands_per_turn);
    stat(out, "cas_enabled", yes(config.cas));
    stat(out, "tcp_backlog", config.backlog);
    stat(out, "binding_protocol", "ascii");
    stat(out, "auth_enabled_sasl", "no");
    stat(out, "auth_enabled_ascii", "no");
    stat(out, "item_size_max", config.item_bytes_max);
    stat(out, "maxconns_fast", "yes");
    stat(out, "hashpower_init", 0);
    stat(out, "slab_reassign", "no");
    stat(out, "slab_automove", 0);
    stat(out, "slab_automove_ratio", "0.80");
    stat(out, "slab_automove_window", 10);
    stat(out, "slab_chunk_max", 524_288);
    stat(out, "lru_crawler", "no");
    stat(out, "lru_crawler_sleep", 100);
    stat(out, "lru_crawler_tocrawl", 0);
    stat(out, "tail_repair_time", 0);
    stat(out, "flush_enabled", yes(config.flush_allowed));
    stat(out, "dump_enabled", "no");
    stat(out, "hash_algorithm", "foldhash");
    stat(out, "lru_maintainer_thread", "no");
    stat(out, "lru_segmented", "no");
    stat(out, "hot_lru_pct", 20);
    stat(out, "warm_lru_pct", 40);
    stat(out, "hot_max_factor", "0.20");
    stat(out, "warm_max_factor", "2.00");
    stat(out, "temp_lru", "no");
    stat(out, "temporary_ttl", 61);
    stat(out, "idle_timeout", 0);
    stat(out, "watcher_logbuf_size", 262_144);
    stat(out, "worker_logbuf_size", 65_536);
    stat(out, "read_buf_mem_limit", 0);
    stat(out, "track_sizes", "no");
    stat(out, "inline_ascii_response", "no");
    stat(out, "ext_item_size", 512);
    stat(out, "ext_item_age", u32::MAX);
    stat(out, "ext_low_ttl", 0);
    stat(out, "ext_recache_rate", 2000);
    stat(out, "ext_wbuf_size", 4_194_304);
    stat(out, "ext_compact_under", 0);
    stat(out, "ext_drop_under", 0);
    stat(out, "ext_max_sleep", 1_000_000);
    stat(out, "ext_max_frag", "0.80");
    stat(out, "slab_automove_freeratio", "0.010");
    stat(out, "ext_drop_unread", "no");
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
