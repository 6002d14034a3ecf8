//! `watch`: each stream's lines, slow watchers, and the end of watching (protocol 11).

use memkv_engine::clock::Clock;
use memkv_server::Config;
use memkv_server::loopback::Loopback;

use crate::support::{Tcp, config, start, stat, wait_until};

/// A client, and a watcher of these streams on the same server.
fn watched(streams: &str) -> (Loopback, Loopback) {
    let client = Loopback::new(config(), Clock::manual(1_700_000_000_000).0).expect("settings");
    let mut watcher = client.another();
    assert_eq!(watcher.send(format!("watch {streams}\r\n").as_bytes()), b"OK\r\n");
    (client, watcher)
}

/// What the watcher is told about these bytes, without time and number.
#[track_caller]
fn told(client: &mut Loopback, watcher: &mut Loopback, input: &str) -> Vec<String> {
    client.send(input.as_bytes());
    lines(&watcher.poll())
}

#[track_caller]
fn lines(bytes: &[u8]) -> Vec<String> {
    let text = String::from_utf8(bytes.to_vec()).unwrap();
    let line = |line: &str| {
        let (head, rest) = line.split_at(line.find(" type=").unwrap_or(0));
        if !head.is_empty() {
            let (ts, gid) = head.split_once(" gid=").unwrap();
            let (s, us) = ts.strip_prefix("ts=").unwrap().split_once('.').unwrap();
            assert!(s.parse::<u64>().unwrap() > 1_600_000_000 && us.parse::<u32>().unwrap() < 1_000_000, "{line}");
            assert!(gid.parse::<u64>().unwrap() > 0, "{line}");
        }
        rest.trim_start().to_owned()
    };
    text.split_terminator('\n').map(line).collect()
}

#[test]
fn row_11_fetchers() {
    let (mut client, mut watcher) = watched("fetchers");
    let mut told = |input: &str| told(&mut client, &mut watcher, input);
    let get = |key: &str, status: &str, class: u8, size: u8| {
        format!("type=item_get key={key} status={status} clsid={class} cfd=0 size={size}")
    };
    assert_eq!(told("get a b\r\n"), [get("a", "not_found", 0, 0), get("b", "not_found", 0, 0)]);
    assert_eq!(told("set a 0 0 3\r\nabc\r\n"), [get("a", "not_found", 0, 0)]);
    for input in ["get a\r\n", "gat 0 a\r\n", "touch a 0\r\n", "incr a 1\r\n", "mg a\r\n", "ma a\r\n", "me a\r\n"] {
        assert_eq!(told(input), [get("a", "found", 1, 3)], "{input}");
    }
    assert_eq!(told("ms a 1\r\n1\r\n"), [get("a", "found", 1, 3)]);
    assert_eq!(told("delete a\r\nmd a\r\n"), [get("a", "found", 1, 1), get("a", "not_found", 0, 0)]);
    assert_eq!(told("set x 0 -1 1 noreply\r\n1\r\nget x\r\n")[1..], [get("x", "expired", 1, 0)]);
    assert_eq!(told("set y 0 0 1\r\n1\r\nflush_all\r\nget y\r\n")[1..], [get("y", "flushed", 1, 0)]);
    assert_eq!(told("ms AGEKYg== 1 b\r\n1\r\n"), [get("%00a%0Ab", "not_found", 0, 0)]);
    assert_eq!(told("version\r\nflush_all\r\nbogus\r\n"), [""; 0]);
}

#[test]
fn row_11_mutations() {
    let (mut client, mut watcher) = watched("mutations");
    let mut told = |input: &str| told(&mut client, &mut watcher, input);
    let line = |key: &str, status: &str, command: &str, ttl: u32, size: u32| {
        format!("type=item_store key={key} status={status} cmd={command} ttl={ttl} clsid=1 cfd=0 size={size}")
    };
    assert_eq!(told("set a 5 100 3\r\nabc\r\n"), [line("a", "stored", "set", 100, 3)]);
    assert_eq!(told("add a 0 0 1\r\n1\r\n"), [line("a", "not_stored", "add", 0, 1)]);
    assert_eq!(told("append a 0 0 2\r\nde\r\n"), [line("a", "stored", "append", 100, 5)]);
    assert_eq!(told("prepend b 0 0 2\r\nde\r\n"), [line("b", "not_stored", "prepend", 0, 2)]);
    assert_eq!(told("replace a 0 0 1\r\n7\r\n"), [line("a", "stored", "replace", 0, 1)]);
    assert_eq!(told("cas a 0 0 1 1\r\n1\r\n"), [line("a", "exists", "cas", 0, 1)]);
    assert_eq!(told("cas b 0 0 1 1\r\n1\r\n"), [line("b", "not_found", "cas", 0, 1)]);
    assert_eq!(told("ms m 2 T50\r\nhi\r\n"), [line("m", "stored", "set", 50, 2)]);
    assert_eq!(told("ms m 2 ME q\r\nhi\r\n"), [line("m", "not_stored", "add", 0, 2)]);
    assert_eq!(told("ms m 2 C1\r\nhi\r\n"), [line("m", "exists", "cas", 0, 2)]);
    assert_eq!(told("ma n N10 J100\r\n"), [line("n", "stored", "add", 10, 3)]);
    assert_eq!(told("ma n\r\nincr n 1\r\ntouch n 1\r\ndelete n\r\nget a\r\n"), [""; 0]);
    let large = format!("set big 0 0 2000000\r\n{}\r\n", "x".repeat(2_000_000));
    assert_eq!(told(&large), [line("big", "too_large", "set", 0, 0)]);
    let large = format!("set large 0 0 500000\r\n{}\r\n", "x".repeat(500_000));
    assert_eq!(told(&large), [line("large", "stored", "set", 0, 500_000)]);
}

#[test]
fn row_11_deletions() {
    let (mut client, mut watcher) = watched("deletions");
    let mut told = |input: &str| told(&mut client, &mut watcher, input);
    let line = |command: &str| [format!("type=deleted key=a cmd={command} clsid=1 size=3")];
    let set = "set a 0 0 3\r\nabc\r\n";
    assert_eq!(told(&format!("{set}delete a\r\ndelete a\r\n")), line("delete"));
    assert_eq!(told(&format!("{set}delete a noreply\r\n")), line("delete"));
    assert_eq!(told(&format!("{set}md a q\r\nmd a\r\n")), line("md"));
    assert_eq!(told(&format!("{set}md a x\r\n")), line("md"));
    assert_eq!(told(&format!("{set}md a I\r\nmd a C5\r\n")), [""; 0]);
}

#[test]
fn row_11_evictions() {
    let (mut client, mut watcher) = watched("evictions");
    let value = "x".repeat(1000);
    let mut seen = Vec::new();
    for i in 0..40_000 {
        client.send(format!("set k{i} 0 0 1000 noreply\r\n{value}\r\n").as_bytes());
        seen.extend(lines(&watcher.poll()));
    }
    assert!(seen.len() > 10_000, "{}", seen.len());
    for line in seen.iter().filter(|line| !line.starts_with("skipped=")) {
        let key = line.strip_prefix("type=eviction key=k").unwrap_or_else(|| panic!("{line}"));
        assert!(key.ends_with(" fetch=no ttl=-1 la=0 clsid=1 size=1000"), "{line}");
    }
}

#[test]
fn row_11_connevents_over_sockets() {
    let server = start(config());
    let mut watcher = Tcp::connect(server.addr());
    assert_eq!(watcher.ask(b"watch connevents\r\n"), "OK\r\n");
    let client = Tcp::connect(server.addr());
    let port = client.0.local_addr().unwrap().port();
    let new = watcher.line();
    assert!(new.contains(&format!(" type=conn_new rip=127.0.0.1 rport={port} transport=tcp cfd=")), "{new}");
    client.finish(b"version\r\n");
    let close = watcher.line();
    let fd = new.rsplit('=').next().unwrap();
    assert!(
        close.ends_with(&format!(" type=conn_close rip=127.0.0.1 rport={port} transport=tcp reason=normal cfd={fd}")),
        "{close}"
    );
    server.shutdown();
}

#[test]
fn row_11_sysevents() {
    let server = start(config());
    let mut watcher = Tcp::connect(server.addr());
    assert_eq!(watcher.ask(b"watch sysevents\r\n"), "OK\r\n");
    let mut client = Tcp::connect(server.addr());
    assert_eq!(client.ask(b"set a 0 -1 1\r\n1\r\n"), "STORED\r\n");
    assert_eq!(client.ask(b"lru_crawler crawl all\r\n"), "OK\r\n");
    let line = watcher.line();
    assert!(line.contains(" type=lru_crawler crawler=1 ") && line.ends_with("examined=1 reclaimed=1\n"), "{line}");
    server.shutdown();
}

#[test]
fn row_11_rawcmds_are_silent_and_input_is_ignored() {
    let (mut client, mut watcher) = watched("rawcmds proxyreqs proxyevents proxyuser");
    assert_eq!(told(&mut client, &mut watcher, "set a 0 0 1\r\n1\r\nget a\r\n"), [""; 0]);
    assert_eq!(watcher.send(b"get a\r\nquit\r\nnonsense"), b"");
    assert!(!watcher.is_closed());
}

#[test]
fn row_11_no_stream_means_fetchers() {
    let client = Loopback::new(config(), Clock::manual(0).0).unwrap();
    let mut watcher = client.another();
    assert_eq!(watcher.send(b"watch\r\n"), b"OK\r\n");
    client.another().send(b"get a\r\n");
    assert_eq!(lines(&watcher.poll()).len(), 1);
}

#[test]
fn row_11_skipped() {
    let config = Config { watcher_buffer_bytes: 1000, ..config() };
    let mut client = Loopback::new(config, Clock::manual(0).0).unwrap();
    let mut watcher = client.another();
    assert_eq!(watcher.send(b"watch fetchers\r\n"), b"OK\r\n");
    client.send("get a\r\n".repeat(100).as_bytes());
    let seen = lines(&watcher.poll());
    let kept = seen.len() - 1;
    assert!((5..20).contains(&kept), "{seen:?}");
    assert_eq!(seen[kept], format!("skipped={}", 100 - kept));
    // Nothing is held against a watcher that reads again.
    client.send(b"get b\r\n");
    assert_eq!(lines(&watcher.poll()).len(), 1);
    // A gap is shown where it is.
    client.send("get c\r\n".repeat(100).as_bytes());
    client.send(b"stats\r\n");
    let before = watcher.poll();
    client.send(b"get d\r\n");
    let seen = lines(&[before, watcher.poll()].concat());
    let gap = seen.iter().position(|line| line.starts_with("skipped=")).expect("a gap");
    assert!(seen[..gap].iter().all(|line| line.contains("key=c")) && seen[gap + 1].contains("key=d"));
}

#[test]
fn row_11_watchers_are_limited_and_counted() {
    let client = Loopback::new(config(), Clock::manual(0).0).unwrap();
    let mut watchers: Vec<Loopback> = (0..20).map(|_| client.another()).collect();
    for watcher in &mut watchers {
        assert_eq!(watcher.send(b"watch\r\n"), b"OK\r\n");
    }
    let mut late = client.another();
    assert_eq!(late.send(b"watch\r\n"), b"WATCHER_TOO_MANY log watcher limit reached\r\n");
    watchers.pop();
    assert_eq!(late.send(b"watch\r\n"), b"OK\r\n");
    let mut client = client.another();
    client.send(b"get a\r\n");
    for watcher in &mut watchers {
        assert_eq!(lines(&watcher.poll()).len(), 1);
    }
    let stats = String::from_utf8(client.send(b"stats\r\n")).unwrap();
    for line in ["log_watchers 20", "log_worker_written 1", "log_watcher_sent 19", "log_watcher_skipped 0"] {
        assert!(stats.contains(&format!("STAT {line}\r\n")), "{line} in {stats}");
    }
    drop(watchers);
    drop(late);
    assert_eq!(client.service().watch.observed(), 0, "nobody watches any more");
}

#[test]
fn row_11_no_answers_may_wait() {
    let mut client = Loopback::new(config(), Clock::manual(0).0).unwrap();
    assert_eq!(
        client.send(b"get a\r\nwatch\r\nget a\r\n"),
        b"END\r\nERROR cannot pipeline other commands before watch\r\nEND\r\n"
    );
    assert_eq!(client.send(b"set a 0 0 1 noreply\r\n1\r\nwatch\r\nget a\r\n"), b"OK\r\n");
}

/// The lines of a busy server reach a watcher on a worker that has nothing else to do, and the watcher's end is noticed.
#[test]
fn watchers_are_woken_across_workers() {
    let server = start(Config { workers: std::num::NonZeroUsize::new(3), ..config() });
    let addr = server.addr();
    let mut watchers: Vec<Tcp> = (0..3).map(|_| Tcp::connect(addr)).collect();
    for watcher in &mut watchers {
        assert_eq!(watcher.ask(b"watch mutations\r\n"), "OK\r\n");
    }
    for round in 0..200 {
        let mut client = Tcp::connect(addr);
        assert_eq!(client.ask(format!("set k{round} 0 0 1\r\n1\r\n").as_bytes()), "STORED\r\n");
        for watcher in &mut watchers {
            let line = watcher.line();
            assert!(line.contains(&format!("key=k{round} ")), "{line}");
        }
    }
    drop(watchers);
    wait_until("the watchers are gone", || stat(addr, "log_watchers") == 0);
    server.shutdown();
}

/// A watcher that never reads holds up nobody, and the server can stop.
#[test]
fn a_watcher_that_never_reads_is_left_behind() {
    let server = start(config());
    let addr = server.addr();
    let mut watcher = Tcp::connect(addr);
    assert_eq!(watcher.ask(b"watch fetchers\r\n"), "OK\r\n");
    let mut client = Tcp::connect(addr);
    let pipeline = "get some_key_that_is_not_there\r\n".repeat(1000);
    for _ in 0..50 {
        client.send(pipeline.as_bytes());
        assert_eq!(client.read(5 * 1000), "END\r\n".repeat(1000).as_bytes());
    }
    assert!(stat(addr, "log_watcher_skipped") > 0);
    server.shutdown();
}
