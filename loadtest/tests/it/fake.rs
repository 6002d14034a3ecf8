//! A tiny memcached with manners of one's choice: a thread per connection, one map behind a lock.
//!
//! It knows the requests that the generator makes but no expiry, and reads bytes with std alone, so that a mistake in the generator's own wire code shows.
//! Only to forge a value it asks the generator's library what such a value looks like.

use memkv_loadtest::value::{self, Origin, Stamp};
use std::collections::HashMap;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::str::FromStr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, mpsc};
use std::{env, fs, io, process, thread};

/// How the server behaves.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Manners {
    /// As memcached does.
    Honest,
    /// Every 100th hit carries the value of another key.
    Foreign,
    /// Every 100th hit has one bit flipped.
    Corrupt,
    /// Every 100th hit begins with the latest value of the key and ends with the first one.
    Torn,
    /// Every 100th hit is the first value of the key, whole but long overwritten.
    Stale,
    /// Every 100th hit is a whole value that nobody has written yet.
    Prophetic,
    /// Every 100th get is answered with a hit for a key that nobody asked for.
    WrongKey,
    /// Every 100th get is answered with nonsense.
    Nonsense,
    /// Every 100th set is refused.
    Refusing,
    /// Every 100th key is found missing.
    Forgetful,
    /// Every 10th delete is answered and not done.
    Undead,
    /// Every 100th increment is answered and not done.
    Miscounting,
    /// Every cas is stored, whatever has happened since.
    Overwriting,
    /// Every 10th append or prepend is answered and not done.
    Dropping,
    /// Has room for the first three connections and for no others.
    Full,
    /// Has no statistics.
    Secretive,
    /// Ends all connections after 2000 requests, and accepts no more.
    Dying,
    /// Says nothing any more after 2000 requests.
    Mute,
}

impl FromStr for Manners {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "Honest" => Ok(Self::Honest),
            "Corrupt" => Ok(Self::Corrupt),
            "Dying" => Ok(Self::Dying),
            _ => Err(format!("no manners called {text}")),
        }
    }
}

/// Requests before a dying server dies and a mute one falls silent.
const LIFE_REQUESTS: u64 = 2000;
/// Connections that a full server has room for.
pub(crate) const ROOM_CONNECTIONS: usize = 3;
/// One in so many answers is wrong.
pub(crate) const ODD_ONE: u64 = 100;

struct Shared {
    manners: Manners,
    items: Mutex<HashMap<Vec<u8>, Values>>,
    requests: AtomicU64,
    keys: AtomicU64,
}

/// What was stored under a key.
#[derive(Default)]
struct Values {
    first: Vec<u8>,
    latest: Vec<u8>,
    cas_id: u64,
    deleted: bool,
}

/// Serves on a free port of this process until the process ends.
pub(crate) fn start(manners: Manners) -> String {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
    let address = listener.local_addr().expect("a bound address").to_string();
    thread::spawn(move || serve(listener, manners));
    address
}

/// Starts a server behind a Unix socket. Each connection that is opened is told on the channel.
pub(crate) fn start_behind_socket(manners: Manners, path: &Path) -> mpsc::Receiver<()> {
    let address = start(manners);
    let listener = UnixListener::bind(path).expect("a free path");
    let (opened, told) = mpsc::channel();
    thread::spawn(move || {
        for client in listener.incoming().flatten() {
            // Before the first answer, so that whoever has one finds every connection told. Nobody may be listening any more.
            let _ = opened.send(());
            let server = TcpStream::connect(&address).expect("the server is there");
            let (client_out, server_out) =
                (client.try_clone().expect("a socket"), server.try_clone().expect("a socket"));
            thread::spawn(move || pump(client, server));
            thread::spawn(move || pump(server_out, client_out));
        }
    });
    told
}

/// Copies until either side ends.
fn pump(mut from: impl io::Read, mut to: impl io::Write) {
    let _ = io::copy(&mut from, &mut to);
}

fn serve(listener: TcpListener, manners: Manners) {
    let shared =
        Arc::new(Shared { manners, items: Mutex::default(), requests: AtomicU64::new(0), keys: AtomicU64::new(0) });
    for (number, mut stream) in listener.incoming().flatten().enumerate() {
        if manners == Manners::Full && number >= ROOM_CONNECTIONS {
            // The client may have gone already.
            let _ = stream.write_all(b"ERROR Too many open connections\r\n");
            continue;
        }
        let shared = shared.clone();
        thread::spawn(move || converse(&stream, &shared));
    }
}

/// Makes this test binary a server process: `FAKE_PORT`, `FAKE_MANNERS`, and `FAKE_PIDS` as a file to leave its id in.
#[test]
#[ignore = "a server that other tests start as a process"]
fn server_process() {
    let variable = |name| env::var(name).unwrap_or_default();
    let Ok(port) = variable("FAKE_PORT").parse::<u16>() else {
        return;
    };
    let manners = variable("FAKE_MANNERS").parse().expect("known manners");
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).expect("the port is free");
    let mut pids =
        fs::OpenOptions::new().append(true).create(true).open(variable("FAKE_PIDS")).expect("a writable file");
    writeln!(pids, "{}", process::id()).expect("room for a line");
    serve(listener, manners);
}

/// The command that starts [`server_process`].
pub(crate) fn command(manners: Manners, pids: &str) -> String {
    let program = env::current_exe().expect("a path");
    let program = program.to_str().expect("a readable path");
    format!(
        "env FAKE_PORT={{port}} FAKE_MANNERS={manners:?} 'FAKE_PIDS={pids}' '{program}' --ignored --exact fake::server_process"
    )
}

/// Answers one connection until it ends.
fn converse(stream: &TcpStream, shared: &Shared) {
    let mut reader = BufReader::with_capacity(64 << 10, stream);
    let mut answers = Vec::new();
    while let Ok(true) = answer(&mut reader, &mut answers, shared) {
        // Answers are sent when everything received is served, as memcached does.
        if reader.buffer().is_empty() {
            if (&mut &*stream).write_all(&answers).is_err() {
                return;
            }
            answers.clear();
        }
    }
}

/// Serves one request; `false` when the connection is to end.
fn answer(reader: &mut BufReader<&TcpStream>, answers: &mut Vec<u8>, shared: &Shared) -> io::Result<bool> {
    let mut line = Vec::new();
    if reader.read_until(b'\n', &mut line)? == 0 {
        return Ok(false);
    }
    let line = String::from_utf8(line).expect("request lines are text");
    assert!(line.ends_with("\r\n"), "a line ends in CR LF: {line:?}");
    let words: Vec<&str> = line.split_ascii_whitespace().collect();
    let served = shared.requests.fetch_add(1, Ordering::Relaxed);
    match shared.manners {
        Manners::Dying if served >= LIFE_REQUESTS => return Ok(false),
        Manners::Mute if served >= LIFE_REQUESTS => loop {
            thread::park();
        },
        _ => {}
    }
    match words[..] {
        ["get" | "gets", ref keys @ ..] => get(keys, words[0] == "gets", served, answers, shared),
        ["set" | "add" | "cas" | "append" | "prepend", key, _flags, exptime, bytes, ref cas_id @ ..] => {
            assert!(exptime.parse::<u32>().is_ok() && cas_id.len() == usize::from(words[0] == "cas"), "{line:?}");
            let mut value = vec![0; bytes.parse::<usize>().expect("a length") + 2];
            reader.read_exact(&mut value)?;
            assert!(value.ends_with(b"\r\n"), "the data ends in CR LF");
            value.truncate(value.len() - 2);
            let cas_id = cas_id.first().map(|id| id.parse().expect("a number"));
            let odd = served.is_multiple_of(ODD_ONE);
            answers.extend_from_slice(if shared.manners == Manners::Refusing && odd {
                b"SERVER_ERROR out of memory storing object\r\n"
            } else {
                store(words[0], key, value, cas_id, served, shared)
            });
        }
        ["mg", key, ref flags @ ..] => meta_get(key, flags, served, answers, shared),
        ["mn"] => answers.extend_from_slice(b"MN\r\n"),
        ["ms", key, bytes, ref flags @ ..] => {
            let mut value = vec![0; bytes.parse::<usize>().expect("a length") + 2];
            reader.read_exact(&mut value)?;
            assert!(value.ends_with(b"\r\n"), "the data ends in CR LF");
            value.truncate(value.len() - 2);
            let flag = |name| flags.iter().find_map(|flag| flag.strip_prefix(name));
            assert!(flag('T').is_some_and(|ttl| ttl.parse::<u32>().is_ok()), "{line:?}");
            let cas_id = flag('C').map(|id| id.parse().expect("a number"));
            let word = match flag('M') {
                None if cas_id.is_some() => "cas",
                None => "set",
                Some("E") => "add",
                Some("A") => "append",
                Some("P") => "prepend",
                Some(mode) => panic!("an unknown mode {mode}"),
            };
            if shared.manners == Manners::Refusing && served.is_multiple_of(ODD_ONE) {
                answers.extend_from_slice(b"SERVER_ERROR out of memory storing object\r\n");
                return Ok(true);
            }
            let code = match store(word, key, value, cas_id, served, shared) {
                b"STORED\r\n" => "HD",
                b"NOT_STORED\r\n" => "NS",
                b"EXISTS\r\n" => "EX",
                _ => "NF",
            };
            say(code, flags, answers);
        }
        ["md", key, ref flags @ ..] => {
            let undead = shared.manners == Manners::Undead && served.is_multiple_of(ODD_ONE / 10);
            let found = living(&mut lock(shared), key).map(|item| item.deleted = !undead);
            say(if found.is_some() { "HD" } else { "NF" }, flags, answers);
        }
        ["ma", key, "D1", "v", ref flags @ ..] => match living(&mut lock(shared), key) {
            Some(item) => {
                let lost = shared.manners == Manners::Miscounting && served.is_multiple_of(ODD_ONE);
                let text = std::str::from_utf8(&item.latest).expect("a number");
                let count = (text.parse::<u64>().expect("a number") + u64::from(!lost)).to_string();
                item.latest = count.clone().into_bytes();
                let number = number_flag(flags);
                answers.extend_from_slice(format!("VA {}{number}\r\n{count}\r\n", count.len()).as_bytes());
            }
            None => say("NF", flags, answers),
        },
        ["delete", key] => answers.extend_from_slice(match living(&mut lock(shared), key) {
            Some(_) if shared.manners == Manners::Undead && served.is_multiple_of(ODD_ONE / 10) => b"DELETED\r\n",
            Some(item) => {
                item.deleted = true;
                b"DELETED\r\n"
            }
            None => b"NOT_FOUND\r\n",
        }),
        ["touch", key, exptime] => {
            assert!(exptime.parse::<u32>().is_ok(), "{line:?}");
            let found = living(&mut lock(shared), key).is_some();
            answers.extend_from_slice(if found { b"TOUCHED\r\n" } else { b"NOT_FOUND\r\n" });
        }
        ["incr", key, "1"] => match living(&mut lock(shared), key) {
            Some(item) => {
                let lost = shared.manners == Manners::Miscounting && served.is_multiple_of(ODD_ONE);
                let text = std::str::from_utf8(&item.latest).expect("a number");
                let count = text.parse::<u64>().expect("a number") + u64::from(!lost);
                item.latest = count.to_string().into_bytes();
                answers.extend_from_slice(format!("{count}\r\n").as_bytes());
            }
            None => answers.extend_from_slice(b"NOT_FOUND\r\n"),
        },
        ["stats"] if shared.manners != Manners::Secretive => {
            let count = lock(shared).values().filter(|item| !item.deleted).count();
            // 10 us for each request.
            let user_s = served as f64 / 1e5;
            answers.extend_from_slice(
                format!(
                    "STAT rusage_user {user_s:.6}\r\nSTAT rusage_system 0.000000\r\nSTAT curr_items {count}\r\nSTAT evictions 0\r\nEND\r\n"
                )
                .as_bytes(),
            );
        }
        _ => answers.extend_from_slice(b"ERROR\r\n"),
    }
    Ok(true)
}

/// The number that a request wants to be repeated, as it is repeated.
fn number_flag(flags: &[&str]) -> String {
    flags.iter().find(|flag| flag.starts_with('O')).map_or(String::new(), |flag| format!(" {flag}"))
}

/// Answers a request of the meta dialect; of success not a word if it is quiet.
fn say(code: &str, flags: &[&str], answers: &mut Vec<u8>) {
    if code != "HD" || !flags.contains(&"q") {
        answers.extend_from_slice(format!("{code}{}\r\n", number_flag(flags)).as_bytes());
    }
}

fn meta_get(key: &str, flags: &[&str], served: u64, answers: &mut Vec<u8>, shared: &Shared) {
    let asks = |name| flags.iter().any(|flag| flag.starts_with(name));
    if shared.manners == Manners::Nonsense && served.is_multiple_of(ODD_ONE) {
        answers.extend_from_slice(b"WHATEVER you say\r\n");
        return;
    }
    let items = lock(shared);
    match hit(&items, key, served, shared) {
        Some(Hit { name, value, cas_id }) if asks('v') => {
            let cas_id = if asks('c') { format!(" c{cas_id}") } else { String::new() };
            let number = number_flag(flags);
            answers.extend_from_slice(format!("VA {}{number} k{name}{cas_id}\r\n", value.len()).as_bytes());
            answers.extend_from_slice(&value);
            answers.extend_from_slice(b"\r\n");
        }
        Some(_) => answers.extend_from_slice(format!("HD{}\r\n", number_flag(flags)).as_bytes()),
        None if asks('q') => {}
        None => answers.extend_from_slice(b"EN\r\n"),
    }
}

/// What the server shows of an item.
struct Hit {
    name: String,
    value: Vec<u8>,
    cas_id: u64,
}

/// What is found under a key, by the server's manners. Of counters and lists it shows what is there.
fn hit(items: &HashMap<Vec<u8>, Values>, key: &str, served: u64, shared: &Shared) -> Option<Hit> {
    let odd = shared.keys.fetch_add(1, Ordering::Relaxed).is_multiple_of(ODD_ONE);
    let Values { first, latest, cas_id, .. } = items.get(key.as_bytes()).filter(|item| !item.deleted)?;
    let mut value = latest.clone();
    let mut name = key.to_owned();
    let is_other = |(other, _): &(&Vec<u8>, _)| *other != key.as_bytes() && other[0] == key.as_bytes()[0];
    match shared.manners {
        Manners::Foreign if odd => value.clone_from(&items.iter().find(is_other).expect("another key").1.latest),
        Manners::Corrupt if odd => *value.last_mut().expect("some bytes") ^= 4,
        Manners::Torn if odd => value = [&latest[..20], &first[20..]].concat(),
        Manners::Stale if odd => value.clone_from(first),
        Manners::Prophetic if odd => value = prophecy(key, &value),
        Manners::WrongKey if served.is_multiple_of(ODD_ONE) => name.push('x'),
        Manners::Forgetful if odd => return None,
        _ => {}
    }
    Some(Hit { name, value, cas_id: *cas_id })
}

/// The value that the writer of this one will write to the key much later.
fn prophecy(key: &str, value: &[u8]) -> Vec<u8> {
    let number = key[1..].parse().expect("the number of an item");
    let Origin::Stamped(stamp) = value::origin(number, value) else { panic!("a value of item {number} is whole") };
    let mut forged = Vec::new();
    value::write(&mut forged, number, Stamp { version: stamp.version + 1_000_000, ..stamp }, value.len());
    forged
}

fn lock(shared: &Shared) -> MutexGuard<'_, HashMap<Vec<u8>, Values>> {
    shared.items.lock().expect("no poison")
}

fn living<'a>(items: &'a mut HashMap<Vec<u8>, Values>, key: &str) -> Option<&'a mut Values> {
    items.get_mut(key.as_bytes()).filter(|item| !item.deleted)
}

fn store(word: &str, key: &str, value: Vec<u8>, cas_id: Option<u64>, served: u64, shared: &Shared) -> &'static [u8] {
    let mut items = lock(shared);
    let drops = shared.manners == Manners::Dropping && served.is_multiple_of(ODD_ONE / 10);
    let value = match (word, living(&mut items, key)) {
        ("append" | "prepend", Some(_)) if drops => return b"STORED\r\n",
        ("append", Some(item)) => [&item.latest[..], &value].concat(),
        ("prepend", Some(item)) => [&value[..], &item.latest].concat(),
        ("add", Some(_)) | ("append" | "prepend", None) => return b"NOT_STORED\r\n",
        ("cas", None) => return b"NOT_FOUND\r\n",
        ("cas", Some(item)) if cas_id != Some(item.cas_id) && shared.manners != Manners::Overwriting => {
            return b"EXISTS\r\n";
        }
        _ => value,
    };
    let item = items.entry(key.into()).or_insert_with(|| Values { first: value.clone(), ..Values::default() });
    (item.latest, item.cas_id, item.deleted) = (value, served, false);
    b"STORED\r\n"
}

fn get(keys: &[&str], with_cas_id: bool, served: u64, answers: &mut Vec<u8>, shared: &Shared) {
    let items = lock(shared);
    if shared.manners == Manners::Nonsense && served.is_multiple_of(ODD_ONE) {
        answers.extend_from_slice(b"WHATEVER you say\r\n");
        return;
    }
    for key in keys {
        let Some(Hit { name, value, cas_id }) = hit(&items, key, served, shared) else { continue };
        let cas_id = if with_cas_id { format!(" {cas_id}") } else { String::new() };
        answers.extend_from_slice(format!("VALUE {name} 0 {}{cas_id}\r\n", value.len()).as_bytes());
        answers.extend_from_slice(&value);
        answers.extend_from_slice(b"\r\n");
    }
    answers.extend_from_slice(b"END\r\n");
}
