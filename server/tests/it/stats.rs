//! `stats`: the names, their order, and the figures that a client can check (protocol 9).

use std::num::NonZeroUsize;

use memkv_engine::clock::{Clock, ManualClock};
use memkv_server::Config;
use memkv_server::loopback::Loopback;

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
fn row_9_1_and_row_9_2_names_and_order_are_memcacheds() {
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
fn row_9_2_settings_show_the_configuration() {
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

/// The value of a line of some `stats` answer.
fn line<'a>(answer: &'a str, name: &str) -> &'a str {
    let prefix = format!("STAT {name} ");
    answer.lines().find_map(|line| line.strip_prefix(&prefix)).unwrap_or_else(|| panic!("no {name} in {answer}"))
}

fn ask(client: &mut Loopback, input: &str) -> String {
    String::from_utf8(client.send(input.as_bytes())).unwrap()
}

fn client() -> (Loopback, ManualClock) {
    let (clock, hands) = Clock::manual(1_700_000_000_000);
    (Loopback::new(config(), clock).unwrap(), hands)
}

#[test]
fn row_9_3_items() {
    const FIGURES: &str = "number number_hot number_warm number_cold age_hot age_warm age mem_requested evicted evicted_nonzero \
        evicted_time outofmemory tailrepairs reclaimed expired_unfetched evicted_unfetched evicted_active crawler_reclaimed \
        crawler_items_checked lrutail_reflocked moves_to_cold moves_to_warm moves_within_lru direct_reclaims hits_to_hot \
        hits_to_warm hits_to_cold hits_to_temp";
    let (mut client, hands) = client();
    assert_eq!(ask(&mut client, "stats items\r\n"), "END\r\n", "classes without items are left out");
    ask(&mut client, "set foo 0 0 3\r\nbar\r\nget foo\r\n");
    hands.advance_ms(5_000);
    let items = ask(&mut client, "stats items\r\n");
    let expected: Vec<String> = FIGURES.split_whitespace().map(|figure| format!("items:1:{figure}")).collect();
    assert_eq!(names(items.as_bytes()), expected);
    for (figure, value) in [("number", "1"), ("age", "5"), ("mem_requested", "65"), ("hits_to_cold", "1")] {
        assert_eq!(line(&items, &format!("items:1:{figure}")), value, "{figure}");
    }
    // Evictions of items that would have ended, and how long they had rested.
    let value = "x".repeat(10_000);
    for i in 0..4_000 {
        client.send(format!("set k{i} 0 1000 10000 noreply\r\n{value}\r\n").as_bytes());
        if i == 1_000 {
            hands.advance_ms(20_000);
        }
    }
    let items = ask(&mut client, "stats items\r\n");
    let number = |figure: &str| line(&items, &format!("items:1:{figure}")).parse::<u64>().unwrap();
    assert!(number("evicted") > 1_000 && number("evicted_nonzero") >= number("evicted") - 1, "{items}");
}

#[test]
fn row_9_3_slabs() {
    const FIGURES: &str = "chunk_size chunks_per_page total_pages total_chunks used_chunks free_chunks free_chunks_end get_hits \
        cmd_set delete_hits incr_hits decr_hits cas_hits cas_badval touch_hits";
    let (mut client, _) = client();
    let empty = ask(&mut client, "stats slabs\r\n");
    assert!(
        empty.ends_with("STAT active_slabs 0\r\nSTAT total_malloced 0\r\nEND\r\n") || !empty.contains("1:"),
        "{empty}"
    );
    ask(&mut client, "set foo 0 0 3\r\nbar\r\nget foo\r\ntouch foo 0\r\n");
    let slabs = ask(&mut client, "stats slabs\r\n");
    let mut expected: Vec<String> = FIGURES.split_whitespace().map(|figure| format!("1:{figure}")).collect();
    expected.extend(["active_slabs".to_owned(), "total_malloced".to_owned()]);
    assert_eq!(names(slabs.as_bytes()), expected);
    let number = |figure: &str| line(&slabs, figure).parse::<u64>().unwrap();
    assert_eq!(number("1:total_chunks"), number("1:total_pages") * number("1:chunks_per_page"));
    assert_eq!(number("1:used_chunks") + number("1:free_chunks"), number("1:total_chunks"));
    // A record of 16 bytes of header, key and value, in chunks of 8.
    assert_eq!((number("1:chunk_size"), number("1:used_chunks")), (8, 3));
    assert_eq!(
        (number("1:get_hits"), number("1:cmd_set"), number("1:touch_hits"), number("active_slabs")),
        (1, 1, 1, 1)
    );
    assert!(number("total_malloced") >= number("1:total_chunks") * 8);
}

#[test]
fn row_9_3_conns() {
    let server = start(config());
    let addr = server.addr();
    let mut reader = Tcp::connect(addr);
    assert_eq!(reader.ask(b"version\r\n"), "VERSION 1.6.45 memkv-0.1.0\r\n");
    let mut receiver = Tcp::connect(addr);
    receiver.send(b"set a 0 0 500000\r\nx");
    let mut watcher = Tcp::connect(addr);
    assert_eq!(watcher.ask(b"watch\r\n"), "OK\r\n");
    let mut asker = Tcp::connect(addr);
    let mut all = String::new();
    wait_until("the server has begun to receive the value", || {
        all.clear();
        asker.send(b"stats conns\r\n");
        while !all.ends_with("END\r\n") {
            all += &asker.line();
        }
        all.contains("conn_nread")
    });
    let ends = |end: &Tcp| format!(":addr tcp:{}\r\n", end.0.local_addr().unwrap());
    let fd = |end: &Tcp| {
        let line =
            all.lines().find(|line| format!("{line}\r\n").ends_with(&ends(end))).unwrap_or_else(|| panic!("{all}"));
        line.strip_prefix("STAT ").unwrap().split(':').next().unwrap().to_owned()
    };
    for (end, state) in
        [(&reader, "conn_read"), (&receiver, "conn_nread"), (&watcher, "conn_watch"), (&asker, "conn_parse_cmd")]
    {
        let fd = fd(end);
        assert_eq!(line(&all, &format!("{fd}:state")), state);
        assert_eq!(line(&all, &format!("{fd}:listen_addr")), format!("tcp:{addr}"));
        assert!(line(&all, &format!("{fd}:secs_since_last_cmd")).parse::<u32>().unwrap() < 30);
    }
    assert!(all.contains(&format!(":addr tcp:{addr}\r\n")) && all.contains(":state conn_listening\r\n"), "{all}");
    let gone = fd(&reader);
    drop(reader);
    wait_until("the connection is gone", || {
        let mut all = String::new();
        asker.send(b"stats conns\r\n");
        while !all.ends_with("END\r\n") {
            all += &asker.line();
        }
        !all.contains(&format!("STAT {gone}:"))
    });
    server.shutdown();
}

#[test]
fn row_9_2_settings_follow_administration() {
    let (mut client, _) = client();
    ask(
        &mut client,
        "cache_memlimit 32\r\nslabs automove 2\r\nslabs automove ratio 0.5\r\nslabs automove window 30\r\nlru mode flat\r\n\
         lru tune 10 30 0.5 1.5\r\nlru temp_ttl 99\r\nlru_crawler sleep 7\r\nlru_crawler tocrawl 8\r\nlru_crawler disable\r\n\
         extstore item_size 77\r\nextstore max_frag 0.25\r\nextstore drop_unread 1\r\nslabs automove freeratio 0.125\r\n\
         stats detail on\r\n",
    );
    let settings = ask(&mut client, "stats settings\r\n");
    for expected in [
        "maxbytes 33554432",
        "slab_automove 2",
        "slab_automove_ratio 0.50",
        "slab_automove_window 30",
        "lru_segmented no",
        "hot_lru_pct 10",
        "warm_lru_pct 30",
        "hot_max_factor 0.50",
        "warm_max_factor 1.50",
        "temp_lru yes",
        "temporary_ttl 99",
        "lru_crawler no",
        "lru_crawler_sleep 7",
        "lru_crawler_tocrawl 8",
        "ext_item_size 77",
        "ext_max_frag 0.25",
        "ext_drop_unread yes",
        "slab_automove_freeratio 0.125",
        "detail_enabled yes",
    ] {
        assert!(settings.contains(&format!("STAT {expected}\r\n")), "{expected} in {settings}");
    }
    assert!(ask(&mut client, "stats\r\n").contains("STAT limit_maxbytes 33554432\r\n"));
}

#[test]
fn a_lower_limit_is_kept() {
    let (mut client, _) = client();
    let value = "x".repeat(1000);
    for i in 0..14_000 {
        client.send(format!("set k{i} 0 0 1000 noreply\r\n{value}\r\n").as_bytes());
    }
    assert_eq!(ask(&mut client, "cache_memlimit 8\r\n"), "OK\r\n");
    // Without the cleaner's thread it is the writers who make room.
    for i in 0..9_000 {
        client.send(format!("set n{i} 0 0 1000 noreply\r\n{value}\r\n").as_bytes());
    }
    let charged: u64 = line(&ask(&mut client, "stats\r\n"), "memkv_bytes_charged").parse().unwrap();
    assert!(charged <= 8 << 20, "{charged}");
}

#[test]
fn latency_is_measured_for_each_class() {
    let (mut client, _) = client();
    let round = "get a\r\nset a 0 0 1\r\n1\r\ntouch a 0\r\nincr a 1\r\ndelete a\r\nmg a T5\r\nversion\r\n";
    for _ in 0..640 {
        ask(&mut client, round);
    }
    let latency = ask(&mut client, "stats latency\r\n");
    assert_eq!(line(&latency, "latency:sample_every"), "64");
    for (class, a_round) in [("get", 1), ("store", 1), ("touch", 2), ("arith", 1), ("delete", 1), ("other", 1)] {
        let number = |figure: &str| line(&latency, &format!("latency:{class}:{figure}")).parse::<u64>().unwrap();
        assert_eq!(number("samples"), 10 * a_round, "{class}: one batch in 64");
        let figures = ["p50_ns", "p90_ns", "p99_ns", "p999_ns", "max_ns"].map(number);
        assert!(figures.is_sorted() && figures[4] > 0 && number("mean_ns") <= figures[4], "{class}: {figures:?}");
    }
    ask(&mut client, "stats reset\r\n");
    let latency = ask(&mut client, "stats latency\r\n");
    assert!(!latency.contains("latency:get"), "{latency}");
}

#[test]
fn turns_are_measured_over_sockets() {
    let server = start(config());
    let mut client = Tcp::connect(server.addr());
    for _ in 0..130 {
        assert_eq!(client.ask(b"get a\r\n"), "END\r\n");
    }
    let latency = String::from_utf8(client.finish(b"stats latency\r\n")).unwrap();
    let samples: u64 = line(&latency, "latency:turn:samples").parse().unwrap();
    assert!((2..=5).contains(&samples), "{latency}");
    server.shutdown();
}

#[test]
fn hot_keys_stand_out() {
    let (mut client, _) = client();
    for i in 0..20_000 {
        ask(&mut client, &format!("get hot cold{i}\r\n"));
        if i % 4 == 0 {
            ask(&mut client, "mg d2FybSBvbmU= b\r\n");
        }
    }
    let hot = ask(&mut client, "stats hotkeys\r\n");
    assert_eq!((line(&hot, "hotkeys:sample_every"), line(&hot, "hotkeys:1:key")), ("256", "hot"), "{hot}");
    assert_eq!(line(&hot, "hotkeys:2:key"), "warm%20one", "{hot}");
    let requests: f64 = line(&hot, "hotkeys:1:requests").parse().unwrap();
    assert!((10_000.0..30_000.0).contains(&requests), "{requests}");
    let share: f64 = line(&hot, "hotkeys:1:share").parse().unwrap();
    assert!((0.3..0.6).contains(&share), "{share}");
    ask(&mut client, "stats reset\r\n");
    assert_eq!(
        ask(&mut client, "stats hotkeys\r\n"),
        "STAT hotkeys:sample_every 256\r\nSTAT hotkeys:samples 0\r\nEND\r\n"
    );
}

#[test]
fn row_10_lru_crawler_crawl_takes_what_is_over() {
    let (clock, hands) = Clock::manual(1_700_000_000_000);
    let server = memkv_server::Server::start_with_clock(config(), clock).expect("the server starts");
    let mut client = Tcp::connect(server.addr());
    for i in 0..3_000 {
        client.send(format!("set k{i} 0 {} 1 noreply\r\n1\r\n", if i % 3 == 0 { 10 } else { 0 }).as_bytes());
    }
    assert_eq!(client.ask(b"lru_crawler sleep 0\r\n"), "OK\r\n");
    hands.advance_ms(11_000);
    assert_eq!(client.ask(b"lru_crawler crawl all\r\n"), "OK\r\n");
    let addr = server.addr();
    wait_until("the crawl is over", || stat(addr, "lru_crawler_running") == 0);
    assert_eq!((stat(addr, "curr_items"), stat(addr, "crawler_reclaimed")), (2_000, 1_000));
    assert_eq!((stat(addr, "crawler_items_checked"), stat(addr, "lru_crawler_starts")), (3_000, 1));
    // While one is under way there is no other.
    assert_eq!(client.ask(b"lru_crawler sleep 1000000\r\n"), "OK\r\n");
    assert_eq!(client.ask(b"lru_crawler crawl all\r\nlru_crawler crawl all\r\n"), "OK\r\n");
    let second = client.line();
    assert!(second == "BUSY currently processing crawler request\r\n" || second == "OK\r\n", "{second}");
    assert_eq!(client.ask(b"lru_crawler disable\r\n"), "OK\r\n");
    wait_until("the crawl has stopped", || stat(addr, "lru_crawler_running") == 0);
    server.shutdown();
}
