//! Wire tables: bytes in, bytes out, one row or more for every rule of the protocol.
//!
//! Each case runs over TCP in one piece, and in memory: in one piece, cut in two at every byte, byte by byte, behind and before
//! other commands, with responses sent in slices as short as possible, and with one command a turn.

use memkv_engine::clock::Clock;
use memkv_server::Config;
use memkv_server::loopback::Loopback;

use crate::support::{Tcp, matches, show, start};

/// Bytes in, bytes out. In the output, `{n}` stands for any number.
pub(crate) struct Case {
    /// Begins with the rule it is about.
    name: &'static str,
    input: Vec<u8>,
    output: Vec<u8>,
    /// Whether the server closes the connection after this.
    closes: bool,
    /// Whether the rule is about how much arrives at once, so that cutting the input changes the answer.
    uncut: bool,
    /// Whether answers that wait before this one change it, so that it cannot stand among others.
    alone: bool,
}

/// Cases, with the settings of the server that they are run against.
pub(crate) type Table = Vec<(Config, Vec<Case>)>;

pub(crate) fn case(name: &'static str, input: impl Into<Vec<u8>>, output: impl Into<Vec<u8>>) -> Case {
    Case { name, input: input.into(), output: output.into(), closes: false, uncut: false, alone: false }
}

impl Case {
    pub(crate) fn closes(self) -> Case {
        Case { closes: true, ..self }
    }

    pub(crate) fn uncut(self) -> Case {
        Case { uncut: true, ..self }
    }

    pub(crate) fn alone(self) -> Case {
        Case { alone: true, ..self }
    }

    /// Whether it is about the row of this id.
    fn is_about(&self, id: &str) -> bool {
        self.name.strip_prefix(id).is_some_and(|rest| rest.is_empty() || rest.starts_with(' '))
    }

    #[track_caller]
    fn expect(&self, how: &str, pattern: &[u8], answer: &[u8]) {
        assert!(
            matches(pattern, answer),
            "{} ({how})\n   input: {}\nexpected: {}\n  answer: {}",
            self.name,
            show(&self.input),
            show(pattern),
            show(answer)
        );
    }

    fn expect_end(&self, how: &str, closed: bool) {
        assert_eq!(closed, self.closes, "{} ({how}): closed", self.name);
    }
}

/// What a case runs among, and what is answered to that.
pub(crate) struct Among {
    pub(crate) before: &'static [u8],
    pub(crate) before_answer: &'static [u8],
    pub(crate) after: &'static [u8],
    pub(crate) after_answer: &'static [u8],
}

const AMONG: Among = Among {
    before: b"set before 5 0 6\r\nbefore\r\nget before\r\n",
    before_answer: b"STORED\r\nVALUE before 5 6\r\nbefore\r\nEND\r\n",
    after: b"bogus\r\nversion\r\n",
    after_answer: b"ERROR\r\nVERSION 1.6.45 memkv-0.1.0\r\n",
};

/// Makes a test of every row of a table: `rows! { table: row_1_1 = "1.1", ... }`. Its cases are those whose names begin with the id.
macro_rules! rows {
    ($table:ident: $($name:ident = $id:literal),+ $(,)?) => {
        mod $table {
            $(
                #[test]
                fn $name() {
                    crate::table::check_row($id, super::$table());
                }
            )+

            #[test]
            fn has_a_test_for_every_case() {
                crate::table::check_ids(&[$($id),+], &super::$table());
            }
        }
    };
}
pub(crate) use rows;

/// Runs the cases that are about one row.
pub(crate) fn check_row(id: &str, table: Table) {
    let mut count = 0;
    for (config, cases) in table {
        let cases: Vec<Case> = cases.into_iter().filter(|case| case.is_about(id)).collect();
        count += cases.len();
        if !cases.is_empty() {
            check(config, cases);
        }
    }
    assert!(count > 0, "no case is about {id}");
}

/// Every case must be about one of these rows.
pub(crate) fn check_ids(ids: &[&str], table: &Table) {
    for case in table.iter().flat_map(|(_, cases)| cases) {
        assert!(ids.iter().any(|id| case.is_about(id)), "no test runs: {}", case.name);
    }
}

/// Runs every case in every way against servers with these settings.
pub(crate) fn check(config: Config, cases: Vec<Case>) {
    check_among(config, &AMONG, cases);
}

/// The same, among other commands than the usual ones.
pub(crate) fn check_among(config: Config, among: &Among, cases: Vec<Case>) {
    let loopback = |config: Config| Loopback::new(config, Clock::manual(1_700_000_000_000).0).expect("settings");
    let server = start(config.clone());
    let memory = loopback(config.clone());
    let one_a_turn = loopback(Config { commands_per_turn: 1, ..config });
    let fresh = |base: &Loopback| {
        let mut client = base.another();
        let _ = client.send(b"flush_all\r\n");
        client
    };
    for case in &cases {
        let mut client = fresh(&memory);
        case.expect("whole", &case.output, &client.send(&case.input));
        case.expect_end("whole", client.is_closed());

        let over_tcp = |input: &[u8]| {
            Tcp::connect(server.addr()).finish(b"flush_all\r\n");
            Tcp::connect(server.addr()).finish(input)
        };
        case.expect("over TCP", &case.output, &over_tcp(&case.input));

        let mut client = fresh(&memory).slice_bytes(1);
        case.expect("in short slices", &case.output, &client.send(&case.input));

        let mut client = fresh(&one_a_turn);
        case.expect("one command a turn", &case.output, &client.send(&case.input));

        if !case.uncut {
            for at in 1..case.input.len().min(400) {
                let mut client = fresh(&memory);
                let mut answer = client.send(&case.input[..at]);
                answer.extend(client.send(&case.input[at..]));
                case.expect(&format!("cut at {at}"), &case.output, &answer);
                case.expect_end("cut", client.is_closed());
            }
            let mut client = fresh(&memory);
            let answer: Vec<u8> = case.input.iter().flat_map(|byte| client.send(&[*byte])).collect();
            case.expect("byte by byte", &case.output, &answer);
        }

        if case.alone {
            continue;
        }
        // A line that is closed on for want of a newline must not get one.
        let behind: &[u8] = if case.closes && !case.input.ends_with(b"\n") { b"" } else { among.after };
        let after: &[u8] = if case.closes { b"" } else { among.after_answer };
        let input = [among.before, &case.input, behind].concat();
        let output = [among.before_answer, &case.output, after].concat();
        case.expect("among others", &output, &fresh(&memory).send(&input));
        case.expect("among others, in short slices", &output, &fresh(&memory).slice_bytes(1).send(&input));
        if !case.closes {
            // A server that closes with input unread may lose its last answer on the way.
            case.expect("among others over TCP", &output, &over_tcp(&input));
        }
    }
    server.shutdown();
}

pub(crate) const BAD_LINE: &str = "CLIENT_ERROR bad command line format\r\n";
pub(crate) const BAD_CHUNK: &str = "CLIENT_ERROR bad data chunk\r\n";
pub(crate) const TOO_LARGE: &str = "SERVER_ERROR object too large for cache\r\n";

pub(crate) fn key(len: usize) -> String {
    "k".repeat(len)
}
