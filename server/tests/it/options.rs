//! Options as somebody sees them who starts the program (protocol 18). Their parsing is tested beside the code, in `args.rs`.

use std::net::{SocketAddr, TcpListener};

use crate::program::{Program, memkv, run};
use crate::support::{Tcp, TempDir, stat_of};

fn settings(client: &mut Tcp) -> Vec<String> {
    client.send(b"stats settings\r\n");
    std::iter::from_fn(|| Some(client.line()).filter(|line| line != "END\r\n")).collect()
}

#[track_caller]
fn assert_setting(settings: &[String], name: &str, value: &str) {
    let line = format!("STAT {name} {value}\r\n");
    assert!(settings.contains(&line), "{line:?} is not among {settings:?}");
}

/// A port that was free a moment ago.
fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

fn has_ipv6() -> bool {
    TcpListener::bind("[::1]:0").is_ok()
}

#[test]
fn p18_l_several_addresses_and_ports() {
    let port = free_port();
    let own = format!("127.0.0.1:{port}");
    let program = Program::with(&["-l", &format!("127.0.0.1,{own}"), "-l", "localhost"]);
    let addrs: Vec<SocketAddr> = program.places.iter().map(|place| place.parse().unwrap()).collect();
    assert!(addrs.len() >= 3, "{addrs:?}");
    assert_eq!(addrs[1].to_string(), own);
    for addr in addrs {
        assert!(addr.ip().is_loopback());
        assert_eq!(Tcp::connect(addr).ask(b"mn\r\n"), "MN\r\n");
    }
    assert_setting(&settings(&mut program.client()), "inter", &format!("127.0.0.1,{own},localhost"));
}

#[test]
fn p18_l_ipv6_and_all_addresses() {
    if !has_ipv6() {
        return;
    }
    for (list, expected) in [("::1", 1), ("[::1]", 1), ("[::1];127.0.0.1", 2)] {
        let program = Program::with(&["-l", list]);
        assert_eq!(program.places.len(), expected, "{list}");
        assert!(program.places[0].starts_with("[::1]:"));
        for place in &program.places {
            assert_eq!(Tcp::connect(place.parse().unwrap()).ask(b"mn\r\n"), "MN\r\n");
        }
    }
    // Each family has a socket of its own, so the same port serves both; checked without opening it to the network.
    let port = free_port().to_string();
    let program = Program::start(&mut memkv(&["-t", "1", "-u", "root", "-p", &port, "-l", "127.0.0.1,::1"]));
    assert_eq!(program.places, [format!("127.0.0.1:{port}"), format!("[::1]:{port}")]);
}

#[test]
fn p18_f_x_w_a_refuse_and_allow() {
    let program = Program::with(&["-F", "-X", "-W"]);
    let mut client = program.client();
    assert_eq!(client.ask(b"flush_all\r\n"), "CLIENT_ERROR flush_all not allowed\r\n");
    assert_eq!(client.ask(b"stats cachedump 1 1\r\n"), "CLIENT_ERROR stats cachedump not allowed\r\n");
    assert_eq!(client.ask(b"lru_crawler metadump all\r\n"), "ERROR metadump not allowed\r\n");
    assert_eq!(client.ask(b"watch\r\n"), "CLIENT_ERROR watch commands not allowed\r\n");
    assert_eq!(client.ask(b"shutdown\r\n"), "SERVER_ERROR: shutdown not enabled\r\n");
    let settings = settings(&mut client);
    assert_setting(&settings, "flush_enabled", "no");
    assert_setting(&settings, "dump_enabled", "no");
    assert_setting(&settings, "shutdown_command", "no");
}

#[test]
fn p18_d_prefix_delimiter_turns_statistics_on() {
    let program = Program::with(&["-D", "#"]);
    let mut client = program.client();
    client.send(b"set a#b 0 0 1\r\n1\r\nget a#b a#c\r\nmn\r\n");
    while client.line() != "MN\r\n" {}
    assert_eq!(client.ask(b"stats detail dump\r\n"), "PREFIX a get 2 hit 1 set 1 del 0\r\n");
    assert_eq!(client.line(), "END\r\n");
    let settings = settings(&mut client);
    assert_setting(&settings, "stat_key_prefix", "#");
    assert_setting(&settings, "detail_enabled", "yes");
}

#[test]
fn p18_debug_commands_are_there_when_asked_for() {
    let program = Program::with(&[]);
    let mut client = program.client();
    for line in [&b"debugtime 5\r\n"[..], b"debugtime p\r\n", b"debugtime\r\n"] {
        assert_eq!(client.ask(line), "ERROR\r\n");
    }
    let program = Program::with(&["--debug-commands"]);
    let mut client = program.client();
    assert_eq!(client.ask(b"debugtime p\r\n"), "OK\r\n");
    assert_eq!(client.ask(b"set k 0 10 1\r\n1\r\n"), "STORED\r\n");
    // In one batch with the look-ups before and behind it.
    client.send(b"debugtime 9\r\nmg k t\r\ndebugtime 2\r\nmg k t\r\ndebugtime r\r\nmn\r\n");
    let lines: Vec<String> = (0..6).map(|_| client.line()).collect();
    assert_eq!(lines, ["OK\r\n", "HD t1\r\n", "OK\r\n", "EN\r\n", "OK\r\n", "MN\r\n"]);
    for line in [&b"debugtime\r\n"[..], b"debugtime -5\r\n", b"debugtime x\r\n"] {
        assert_eq!(client.ask(line), "CLIENT_ERROR bad command line format\r\n");
    }
    let uptime: u64 = stat_of(&mut client, "uptime").parse().unwrap();
    assert!(uptime >= 11, "the clock goes on from where it was");
}

#[test]
fn p18_o_what_has_no_effect_is_named_in_one_warning() {
    let program =
        Program::with(&["-o", "slab_reassign,lru_maintainer,hash_algorithm=murmur3,idle_timeout=60", "-o", "modern"]);
    let [warning] = &program.before[..] else { panic!("{:?}", program.before) };
    assert!(
        warning.ends_with("accepted without effect: -o slab_reassign,lru_maintainer,hash_algorithm,modern\n"),
        "{warning}"
    );
    let settings = settings(&mut program.client());
    assert_setting(&settings, "idle_timeout", "60");
    assert_setting(&settings, "maxconns_fast", "yes");
    let output = run(&["-u", "root", "-o", "slab_reassign,nonsense=1"]);
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(String::from_utf8(output.stderr).unwrap(), "memkv: Illegal suboption \"nonsense=1\"\n");
}

#[test]
fn p18_settings_come_from_flags_variables_and_a_file() {
    let dir = TempDir::new("options");
    let file = dir.file(
        "memkv.toml",
        "memory-limit = 100\nconn-limit = 50\nport = -1\nuser = \"root\"\n[extended]\nidle_timeout = 7\n",
    );
    let mut command = memkv(&["--config", file.to_str().unwrap(), "-t", "1"]);
    let program = Program::start(command.env("MEMKV_CONN_LIMIT", "60").env("MEMKV_THREADS", "2"));
    let settings = settings(&mut program.client());
    assert_setting(&settings, "maxbytes", &(100 << 20).to_string());
    assert_setting(&settings, "maxconns", "60");
    assert_setting(&settings, "num_threads", "1");
    assert_setting(&settings, "idle_timeout", "7");
}

#[test]
fn p18_the_configuration_can_be_checked_and_printed() {
    let dir = TempDir::new("options-check");
    let good = dir.file("good.toml", "memory-limit = 100\n");
    let output = run(&["--check-config", "--config", good.to_str().unwrap(), "-u", "root"]);
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(String::from_utf8(output.stdout).unwrap(), "memkv: the configuration is valid\n");
    assert!(output.stderr.is_empty());

    // What only a start would find otherwise.
    for (args, code) in
        [(["-l", "no.such.host.invalid"], 71), (["-m", "9999999999999"], 64), (["-Y", "/no/such/file"], 1)]
    {
        let output = run(&[&["--check-config", "-u", "root"][..], &args].concat());
        assert_eq!(output.status.code(), Some(code), "{args:?}");
        assert_eq!(String::from_utf8(output.stderr).unwrap().lines().count(), 1, "{args:?}");
    }

    let bad = dir.file("bad.toml", "memory-limit = 100\nmemory-limits = 5\n");
    let output = run(&["--check-config", "--config", bad.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(64));
    assert_eq!(
        String::from_utf8(output.stderr).unwrap(),
        format!("memkv: {}: unknown key 'memory-limits'\n", bad.display())
    );

    let output = run(&["--print-config", "--config", good.to_str().unwrap(), "-c", "77", "-o", "idle_timeout=5"]);
    assert!(output.status.success());
    let printed = String::from_utf8(output.stdout).unwrap();
    assert!(printed.contains("memory-limit = 100\n") && printed.contains("conn-limit = 77\n"), "{printed}");
    let again = dir.file("again.toml", &printed);
    let again = run(&["--print-config", "--config", again.to_str().unwrap()]);
    assert_eq!(String::from_utf8(again.stdout).unwrap(), printed);
}
