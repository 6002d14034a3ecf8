//! `stats`: the names, their order, and the figures that a client can check (protocol 9).

use std::num::NonZeroUsize;

use memkv_server::Config;

use crate::support::{Tcp, config, start, stat, wait_until};

/// The names of protocol 9.1 for a default TCP server.
const NAMES: &str = "pid uptime time version libevent pointer_size rusage_user rusage_system max_connections curr_connections \
    total_connections rejected_connections connection_structures response_obj_oom response_obj_count response_obj_bytes \
    read_buf_count read_buf_bytes read_buf_bytes_free read_buf_oom reserved_fds cmd_get cmd_set cmd_flush cmd_touch cmd_meta \
    get_hits get_misses get_expired get_flushed delete_misses delete_hits incr_misses incr_hits decr_misses decr_hits \
    cas_misses cas_hits cas_badval touch_hits touch_misses store_too_large store_no_memory auth_cmds auth_errors bytes_read \
    bytes_written limit_maxbytes accepting_conns listen_disabled_num time_in_listen_disabled_us threads conn_yields \
    hash_power_level hash_bytes hash_is_expanding slab_reassign_rescues slab_reassign_chunk_rescues \
    slab_reassign_inline_reclaim slab_reassign_busy_items slab_reassign_busy_deletes slab_reassign_busy_nomem \
    slab_reassign_last_busy_status slab_reassign_running slabs_moved lru_crawler_running lru_crawler_starts \
    lru_maintainer_juggles malloc_fails log_worker_dropped log_worker_written log_watcher_skipped log_watcher_sent log_watchers \
    unexpected_napi_ids round_robin_fallback bytes curr_items total_items slab_global_page_pool expired_unfetched \
    evicted_unfetched evicted_active evictions reclaimed crawler_reclaimed crawler_items_checked lrutail_reflocked \
    moves_to_cold moves_to_warm moves_within_lru direct_reclaims lru_bumps_dropped";

/// The names of protocol 9.2 for a default TCP server.
const SETTINGS: &str = "maxbytes maxconns tcpport udpport inter verbosity oldest evictions domain_socket umask shutdown_command \
    growth_factor chunk_size num_threads num_threads_per_udp stat_key_prefix detail_enabled reqs_per_event cas_enabled \
    tcp_backlog binding_protocol auth_enabled_sasl auth_enabled_ascii item_size_max maxconns_fast hashpower_init slab_reassign \
    slab_automove slab_automove_ratio slab_automove_window slab_chunk_max lru_crawler lru_crawler_sleep lru_crawler_tocrawl \
    tail_repair_time flush_enabled dump_enabled hash_algorithm lru_maintainer_thread lru_segmented hot_lru_pct warm_lru_pct \
    hot_max_factor warm_max_factor temp_lru temporary_ttl idle_timeout watcher_logbuf_size worker_logbuf_size \
    read_buf_mem_limit track_sizes inline_ascii_response ext_item_size ext_item_age ext_low_ttl ext_recache_rate ext_wbuf_size \
    ext_compact_under ext_drop_under ext_max_sleep ext_max_frag slab_automove_freeratio ext_drop_unread ssl_enabled \
    ssl_chain_cert ssl_key ssl_verify_mode ssl_keyformat ssl_ciphers ssl_ca_cert ssl_wbuf_size ssl_session_cache \
    ssl_kernel_tls ssl_min_version num_napi_ids memory_file client_flags_size";

fn names(answer: &[u8]) -> Vec<String> {
    let answer = String::from_utf8(answer.to_vec()).unwrap();
    let body = answer.strip_suffix("END\r\n").expect("END at the end");
    body.split_terminator("\r\n")
        .map(|line| line.strip_prefix("STAT ").unwrap().split(' ').next().unwrap().to_owned())
        .collect()
}

#[test]
fn names_and_order_are_memcacheds() {
    let server = start(config());
    let general = names(&Tcp::connect(server.addr()).finish(b"stats\r\n"));
    // Ours come behind all of memcached's, under a name of their own.
    let (memcacheds, ours): (Vec<_>, Vec<_>) = general.iter().partition(|name| !name.starts_with("memkv_"));
    assert_eq!(memcacheds, NAMES.split_whitespace().collect::<Vec<_>>());
    assert_eq!(memcacheds.len(), 93);
    assert!(ours.contains(&&"memkv_bytes_live".to_owned()));
    assert_eq!(general[93..].iter().collect::<Vec<_>>(), ours);
    let settings = names(&Tcp::connect(server.addr()).finish(b"stats settings\r\n"));
    assert_eq!(settings, SETTINGS.split_whitespace().collect::<Vec<_>>());
    assert_eq!(names(&Tcp::connect(server.addr()).finish(b"stats   \r\n")), general);
    server.shutdown();
}

#[test]
fn settings_show_the_configuration() {
    let config = Config {
        memory_bytes: 32 << 20,
        connections_max: 77,
        workers: NonZeroUsize::new(3),
        commands_per_turn: 5,
        item_bytes_max: 4096,
        backlog: 99,
        evict: false,
        cas: false,
        flush_allowed: false,
        ..config()
    };
    let server = start(config);
    let answer = String::from_utf8(Tcp::connect(server.addr()).finish(b"verbosity 9\r\nstats settings\r\n")).unwrap();
    for line in [
        "maxbytes 33554432",
        "maxconns 77",
        "num_threads 3",
        "reqs_per_event 5",
        "item_size_max 4096",
        "tcp_backlog 99",
        "evictions off",
        "cas_enabled no",
        "flush_enabled no",
        "verbosity 2",
        "inter 127.0.0.1",
    ] {
        assert!(answer.contains(&format!("STAT {line}\r\n")), "{line} in {answer}");
    }
    server.shutdown();
}

#[test]
fn commands_are_counted_as_memcached_does() {
    let server = start(config());
    let addr = server.addr();
    Tcp::connect(addr).finish(
        b"set a 0 0 1\r\n1\r\nadd a 0 0 1\r\n1\r\nget a b a\r\ntouch a 0\r\ntouch b 0\r\ndelete b\r\nincr a 1\r\nincr b 1\r\n\
          decr a 1\r\ndecr b 1\r\ncas a 0 0 1 0\r\n1\r\ncas b 0 0 1 0\r\n1\r\ndelete a\r\nset b 0 0 2000000\r\n",
    );
    for (name, expected) in [
        ("cmd_get", 3),
        ("get_hits", 2),
        ("get_misses", 1),
        ("cmd_set", 4),
        ("cmd_touch", 2),
        ("touch_hits", 1),
        ("touch_misses", 1),
        ("delete_hits", 1),
        ("delete_misses", 1),
        ("incr_hits", 1),
        ("incr_misses", 1),
        ("decr_hits", 1),
        ("decr_misses", 1),
        ("cas_badval", 1),
        ("cas_misses", 1),
        ("store_too_large", 1),
        ("curr_items", 0),
        ("cmd_meta", 0),
    ] {
        assert_eq!(stat(addr, name), expected, "{name}");
    }
    server.shutdown();
}

/// Protocol 4.2, 4.4 to 4.6 and 28.14: mg with T is a touch, a vivify is a hit, me alone is cmd_meta.
#[test]
fn meta_commands_are_counted_as_memcached_does() {
    let server = start(config());
    let addr = server.addr();
    Tcp::connect(addr).finish(
        b"mg a\r\nmg a T5\r\nmg a N0\r\nmg a T5\r\nmg a q v\r\nme a\r\nme b\r\nms a 1\r\n1\r\nms a 1 C1\r\n1\r\nms a 1 MA C1\r\n1\r\n\
          ms b 1 C1\r\n1\r\nms a 1 C1 I q\r\n1\r\nma a\r\nma b\r\nma b N0\r\nma b MD\r\nmd a C1\r\nmd c\r\nmd a I\r\nmd a x\r\nmd a\r\n\
          ms b 2000000\r\n",
    );
    for (name, expected) in [
        ("cmd_get", 4),
        ("get_hits", 2),
        ("get_misses", 2),
        ("cmd_touch", 1),
        ("touch_hits", 1),
        ("touch_misses", 0),
        ("cmd_meta", 2),
        ("cmd_set", 5),
        ("cas_hits", 1),
        ("cas_badval", 1),
        ("cas_misses", 1),
        ("incr_hits", 1),
        ("incr_misses", 1),
        ("decr_hits", 1),
        ("delete_hits", 2),
        ("delete_misses", 2),
        ("store_too_large", 1),
        ("curr_items", 0),
    ] {
        assert_eq!(stat(addr, name), expected, "{name}");
    }
    server.shutdown();
}

#[test]
fn items_and_bytes_follow_protocol_8() {
    let server = start(config());
    Tcp::connect(server.addr()).finish(b"set foo 0 0 3\r\nbar\r\n");
    assert_eq!(stat(server.addr(), "bytes"), 65);
    Tcp::connect(server.addr()).finish(b"set foo 1 0 3\r\nbar\r\n");
    assert_eq!((stat(server.addr(), "bytes"), stat(server.addr(), "curr_items")), (69, 1));
    server.shutdown();
}

#[test]
fn traffic_and_connections_are_counted() {
    let server = start(config());
    let addr = server.addr();
    let mut client = Tcp::connect(addr);
    assert_eq!(client.ask(b"version\r\n"), "VERSION 1.6.45 memkv-0.1.0\r\n");
    // This client, and the one that asks.
    assert_eq!(stat(addr, "curr_connections"), 2);
    assert!(stat(addr, "bytes_read") >= 9 && stat(addr, "bytes_written") >= 28);
    drop(client);
    wait_until("the connection is gone", || stat(addr, "curr_connections") == 1);
    assert!(stat(addr, "total_connections") >= 3);
    server.shutdown();
}

#[test]
fn reset_keeps_what_is_there() {
    let server = start(config());
    let addr = server.addr();
    assert_eq!(
        Tcp::connect(addr).finish(b"set a 0 0 1\r\n1\r\nget a\r\nstats reset\r\n"),
        b"STORED\r\nVALUE a 0 1\r\n1\r\nEND\r\nRESET\r\n"
    );
    for (name, expected) in
        [("cmd_get", 0), ("get_hits", 0), ("cmd_set", 0), ("total_items", 0), ("curr_items", 1), ("bytes", 61)]
    {
        assert_eq!(stat(addr, name), expected, "{name}");
    }
    // Those that asked.
    assert_eq!(stat(addr, "total_connections"), 7);
    server.shutdown();
}

#[test]
fn unknown_topics_are_errors() {
    let server = start(config());
    assert_eq!(Tcp::connect(server.addr()).finish(b"stats threads\r\nstats nonsense\r\n"), b"ERROR\r\nERROR\r\n");
    assert_eq!(Tcp::connect(server.addr()).finish(b"stats sizes\r\n"), b"STAT sizes_status disabled\r\nEND\r\n");
    server.shutdown();
}
