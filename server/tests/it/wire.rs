//! The wire table of the classic commands: protocol.md sections 1 to 3 and 5 to 7. Run as in [`table`](crate::table).

use memkv_engine::clock::Clock;
use memkv_server::Config;
use memkv_server::loopback::Loopback;

use crate::support::{config, show};
use crate::table::{BAD_CHUNK, BAD_LINE, TOO_LARGE, Table, case, check, key, rows};

#[rustfmt::skip] // a table: one row a line
fn framing() -> Table {
    let words = |count: usize| " x".repeat(count);
    vec![(
        config(),
        vec![
            case("1.1 a bare newline ends a line", "get a\nset a 0 0 1\n1\r\nget a\n", "END\r\nSTORED\r\nVALUE a 0 1\r\n1\r\nEND\r\n"),
            case("1.1 only one CR is dropped", "set a\r 0 0 1\r\n1\r\nget a\r\r\nget a\r\n", "STORED\r\nVALUE a\r 0 1\r\n1\r\nEND\r\nEND\r\n"),
            case("1.2 an empty line", "\r\n", BAD_LINE),
            case("1.2 a bare newline", "\n", BAD_LINE),
            case("1.2 a short line", "a\r\n", BAD_LINE),
            case("1.2 a short line of space", " \r\n", BAD_LINE),
            case("1.2 three bytes", "ab\n", BAD_LINE),
            case("1.2 four bytes are enough", "ab\r\n", "ERROR\r\n"),
            case("1.3 commands are lower case", "GET a\r\n", "ERROR\r\n"),
            case("1.3 a leading space", " get a\r\n", "ERROR\r\n"),
            case("1.3 nothing but spaces", "     \r\n", "ERROR\r\n"),
            case("1.4 runs of spaces", "set   a  0 0   1  \r\n1\r\nget   a   b  \r\n", "STORED\r\nVALUE a 0 1\r\n1\r\nEND\r\n"),
            case("1.4 a tab is part of a key", "set a\tb 0 0 1\r\n1\r\nget a\tb\r\n", "STORED\r\nVALUE a\tb 0 1\r\n1\r\nEND\r\n"),
            case("1.4 control bytes are part of a key", "set \x00\x01\x7f 0 0 1\r\n1\r\nget \x00\x01\x7f\r\n", "STORED\r\nVALUE \x00\x01\x7f 0 1\r\n1\r\nEND\r\n"),
            case("1.4 a tab separates nothing", "get\ta\r\n", "ERROR\r\n"),
            case("1.5 an unknown command", "foo\r\n", "ERROR\r\n"),
            case("1.5 the HTTP guard", "GET / HTTP/1.1\r\n", "").closes(),
            case("1.5 the HTTP guard on any unknown word", "foo HTTP/\r\n", "").closes(),
            case("1.5 no guard on a known word", "get HTTP/1.1\r\n", "END\r\n"),
            case("1.5 no guard on a lone word", "HTTP/1.1\r\n", "ERROR\r\n"),
            case("1.5 debugtime that is not enabled is unknown", "debugtime 5\r\ndebugtime x\r\ndebugtime noreply\r\nversion\r\ndebugtime 5 HTTP/1.1\r\n", "ERROR\r\nERROR\r\nVERSION 1.6.45 memkv-{n}.{n}.{n}\r\n").closes(),
            case("1.6 get without key", "get\r\n", BAD_LINE),
            case("1.6 get with a space only", "get \r\n", BAD_LINE),
            case("1.6 gets without key", "gets\r\n", BAD_LINE),
            case("1.6 delete without key", "delete\r\n", BAD_LINE),
            case("1.6 gat without keys", "gat 0\r\n", BAD_LINE),
            case("1.6 gats without anything", "gats\r\n", BAD_LINE),
            case("1.6 incr without delta", "incr a\r\n", BAD_LINE),
            case("1.6 decr without delta", "decr a\r\n", BAD_LINE),
            case("1.6 touch without exptime", "touch a\r\n", BAD_LINE),
            case("1.6 set with too few words", "set a 0 0\r\n", BAD_LINE),
            case("1.6 add with too few words", "add a 0\r\n", BAD_LINE),
            case("1.6 cas with too few words", "cas a 0 0\r\n", BAD_LINE),
            case("1.7 surplus words of version", "version foo\r\n", "VERSION 1.6.45 memkv-{n}.{n}.{n}\r\n"),
            case("1.7 surplus words of verbosity", "verbosity 1 2 3\r\n", "OK\r\n"),
            case("1.7 surplus words of delete", "set a 0 0 1\r\n1\r\ndelete a foo bar\r\n", "STORED\r\nDELETED\r\n"),
            case("1.7 surplus words of incr", "set a 0 0 1\r\n1\r\nincr a 1 2 3\r\n", "STORED\r\n2\r\n"),
            case("1.7 surplus words of set", "set a 0 0 1 junk\r\n1\r\nget a\r\n", "STORED\r\nVALUE a 0 1\r\n1\r\nEND\r\n"),
            case("1.7 surplus words of quit", "quit x y\r\n", "").closes(),
            case("1.7 surplus words of stats reset", "stats reset foo\r\n", "RESET\r\n"),
            case("1.8 noreply as the 23rd word", format!("set a 0 0 1{} noreply\r\n1\r\nget a\r\n", words(17)), "VALUE a 0 1\r\n1\r\nEND\r\n"),
            case("1.8 noreply as the 24th word", format!("set a 0 0 1{} noreply\r\n1\r\nget a\r\n", words(18)), "STORED\r\nVALUE a 0 1\r\n1\r\nEND\r\n"),
            case("1.8 any number of keys", format!("set a 0 0 1\r\n1\r\nget{} a\r\n", words(200)), "STORED\r\nVALUE a 0 1\r\n1\r\nEND\r\n"),
            case("1.9 2048 bytes without newline wait", [vec![b'x'; 2048], b"\n".to_vec()].concat(), "ERROR\r\n"),
            case("1.9 2049 bytes without newline do not", vec![b'x'; 2049], "").closes(),
            case("1.9 gat must not be long", format!("gat 0 {}", "k ".repeat(1100)), "").closes(),
            case("1.9 gets may be long", format!("set k 0 0 1\r\n1\r\ngets {}\r\n", "k ".repeat(1100)), format!("STORED\r\n{}END\r\n", "VALUE k 0 1 {n}\r\n1\r\n".repeat(1100))),
            case("1.10 a long line that is there", [vec![b'x'; 16_000], b"\r\n".to_vec()].concat(), "ERROR\r\n").uncut(),
            case("1.11 data not ended by CRLF", "set a 0 0 1\r\n12\r\nget a\r\n", format!("{BAD_CHUNK}{BAD_LINE}END\r\n")),
            case("1.11 data ended by a bare newline", "set a 0 0 1\r\n1\nxget a\r\n", format!("{BAD_CHUNK}END\r\n")),
            case("1.11 exactly bytes + 2 are consumed", "set a 0 0 3\r\n12345version\r\n", format!("{BAD_CHUNK}VERSION 1.6.45 memkv-0.1.0\r\n")),
            case("1.11 the old value stays", "set a 0 0 1\r\n1\r\nset a 0 0 1\r\n222get a\r\n", format!("STORED\r\n{BAD_CHUNK}VALUE a 0 1\r\n1\r\nEND\r\n")),
            case("1.11 a value may hold anything", "set a 0 0 8\r\n\r\nEND\r\n\0\r\nget a\r\n", "STORED\r\nVALUE a 0 8\r\n\r\nEND\r\n\0\r\nEND\r\n"),
            case("1.11 an empty value", "set a 0 0 0\r\n\r\nget a\r\n", "STORED\r\nVALUE a 0 0\r\n\r\nEND\r\n"),
            case("1.12 bytes not digits", "set a 0 0 x\r\nfoo\r\n", format!("{BAD_LINE}ERROR\r\n")),
            case("1.12 bytes negative", "set a 0 0 -1\r\nfoo\r\n", format!("{BAD_LINE}ERROR\r\n")),
            case("1.12 bytes with a plus", "set a 0 0 +1\r\nfoo\r\n", format!("{BAD_LINE}ERROR\r\n")),
            case("1.12 bytes too many", "set a 0 0 2147483646\r\nfoo\r\n", format!("{BAD_LINE}ERROR\r\n")),
            case("1.12 a key too long is swallowed", format!("set {} 0 0 3\r\nfoo\r\n", key(251)), BAD_LINE),
            case("1.12 bad flags are swallowed", "set a x 0 3\r\nfoo\r\n", BAD_LINE),
            case("1.12 a bad exptime is swallowed", "set a 0 x 3\r\nfoo\r\n", BAD_LINE),
            case("1.12 a bad unique is swallowed", "cas a 0 0 3 x\r\nfoo\r\n", BAD_LINE),
            case("1.12 the swallowed block need not end in CRLF", "set a x 0 3\r\nfoo--version\r\n", format!("{BAD_LINE}VERSION 1.6.45 memkv-0.1.0\r\n")),
            case("1.13 replies in order", "get a\r\nset a 0 0 1\r\n1\r\nget a\r\ndelete a\r\nget a\r\nbad!\r\n", "END\r\nSTORED\r\nVALUE a 0 1\r\n1\r\nEND\r\nDELETED\r\nEND\r\nERROR\r\n"),
            case("1.13 nothing after quit", "set a 0 0 1\r\n1\r\nquit\r\n", "STORED\r\n").closes(),
            case("1.15 binary bytes on a text connection", b"\x80\x00\x00\x01abcdefgh\r\n".to_vec(), "ERROR\r\n"),
        ],
    )]
}

rows! {
    framing:
    row_1_1 = "1.1",
    row_1_2 = "1.2",
    row_1_3 = "1.3",
    row_1_4 = "1.4",
    row_1_5 = "1.5",
    row_1_6 = "1.6",
    row_1_7 = "1.7",
    row_1_8 = "1.8",
    row_1_9 = "1.9",
    row_1_10 = "1.10",
    row_1_11 = "1.11",
    row_1_12 = "1.12",
    row_1_13 = "1.13",
    row_1_15 = "1.15",
}

#[rustfmt::skip] // a table: one row a line
fn keys_and_numbers() -> Table {
    vec![(
        config(),
        vec![
            case("2.1 a key of 250 bytes", format!("set {0} 0 0 1\r\n1\r\nget {0}\r\n", key(250)), format!("STORED\r\nVALUE {} 0 1\r\n1\r\nEND\r\n", key(250))),
            case("2.1 delete of 251", format!("delete {}\r\n", key(251)), BAD_LINE),
            case("2.1 touch of 251", format!("touch {} 0\r\n", key(251)), BAD_LINE),
            case("2.1 touch of 251 and no number", format!("touch {} x\r\n", key(251)), BAD_LINE),
            case("2.1 incr of 251", format!("incr {} 1\r\n", key(251)), BAD_LINE),
            case("2.2 get of 251", format!("get {}\r\n", key(251)), BAD_LINE),
            case("2.2 values before a key too long are dropped", format!("set a 0 0 1\r\n1\r\nget a {} a\r\n", key(251)), format!("STORED\r\n{BAD_LINE}")),
            case("2.2 gats too", format!("set a 0 0 1\r\n1\r\ngats 0 a {}\r\n", key(251)), format!("STORED\r\n{BAD_LINE}")),
            case("2.3 delta beyond 64 bits", "set a 0 0 1\r\n1\r\nincr a 18446744073709551616\r\n", "STORED\r\nCLIENT_ERROR invalid numeric delta argument\r\n"),
            case("2.3 delta of 22 digits", "set a 0 0 1\r\n1\r\nincr a 0000000000000000000001\r\n", "STORED\r\n2\r\n"),
            case("2.3 delta of 23 digits", "set a 0 0 1\r\n1\r\nincr a 00000000000000000000001\r\n", "STORED\r\nCLIENT_ERROR invalid numeric delta argument\r\n"),
            case("2.3 delta with a plus", "set a 0 0 1\r\n1\r\nincr a +1\r\n", "STORED\r\nCLIENT_ERROR invalid numeric delta argument\r\n"),
            case("2.3 verbosity of 11 digits", "verbosity 00000000001\r\n", "OK\r\n"),
            case("2.3 verbosity of 12 digits", "verbosity 000000000001\r\n", BAD_LINE),
            case("2.4 exptime beyond 32 bits in touch", "touch a 2147483648\r\n", "CLIENT_ERROR invalid exptime argument\r\n"),
            case("2.4 exptime with a plus in touch", "touch a +1\r\n", "CLIENT_ERROR invalid exptime argument\r\n"),
            case("2.4 exptime negative in touch", "touch a -1\r\n", "NOT_FOUND\r\n"),
            case("2.4 bytes -0", "set a 0 0 -0\r\n\r\n", "STORED\r\n"),
            case("2.5 flags -1", "set a -1 0 1\r\n1\r\n", BAD_LINE),
            case("2.5 flags beyond 64 bits", "set a 18446744073709551616 0 1\r\n1\r\n", BAD_LINE),
            case("2.5 flags hexadecimal", "set a 0x10 0 1\r\n1\r\n", BAD_LINE),
            case("2.5 flags with letters", "set a 1a 0 1\r\n1\r\n", BAD_LINE),
            case("2.5 flags with a point", "set a 1.5 0 1\r\n1\r\n", BAD_LINE),
            case("2.5 flags with a plus", "set a +5 0 1\r\n1\r\nget a\r\n", "STORED\r\nVALUE a 5 1\r\n1\r\nEND\r\n"),
            case("2.5 flags of 33 bits are cut", "set a 4294967296 0 1\r\n1\r\nget a\r\n", "STORED\r\nVALUE a 0 1\r\n1\r\nEND\r\n"),
            case("2.5 exptime of 33 bits is cut", "set a 0 4294967346 1\r\n1\r\nget a\r\n", "STORED\r\nVALUE a 0 1\r\n1\r\nEND\r\n"),
            case("2.5 exptime beyond 64 bits", "set a 0 9223372036854775808 1\r\n1\r\n", BAD_LINE),
            case("2.6 a negative exptime is in the past", "set a 0 -1 1\r\n1\r\nget a\r\n", "STORED\r\nEND\r\n"),
            case("2.6 30 days and a second are a date in 1970", "set a 0 2592001 1\r\n1\r\nget a\r\n", "STORED\r\nEND\r\n"),
            case("2.6 30 days are not", "set a 0 2592000 1\r\n1\r\nget a\r\n", "STORED\r\nVALUE a 0 1\r\n1\r\nEND\r\n"),
            case("2.6 touched into the past", "set a 0 0 1\r\n1\r\ntouch a -1\r\nget a\r\n", "STORED\r\nTOUCHED\r\nEND\r\n"),
            case("2.6 gat into the past answers once", "set a 0 0 1\r\n1\r\ngat -1 a\r\nget a\r\n", "STORED\r\nVALUE a 0 1\r\n1\r\nEND\r\nEND\r\n"),
            case("2.10 the largest flags", "set a 4294967295 0 1\r\n1\r\nget a\r\n", "STORED\r\nVALUE a 4294967295 1\r\n1\r\nEND\r\n"),
        ],
    )]
}

rows! {
    keys_and_numbers:
    row_2_1 = "2.1",
    row_2_2 = "2.2",
    row_2_3 = "2.3",
    row_2_4 = "2.4",
    row_2_5 = "2.5",
    row_2_6 = "2.6",
    row_2_10 = "2.10",
}

#[rustfmt::skip] // a table: one row a line
fn storage() -> Table {
    vec![(
        config(),
        vec![
            case("3 set replaces", "set a 1 0 1\r\n1\r\nset a 2 0 2\r\n22\r\nget a\r\n", "STORED\r\nSTORED\r\nVALUE a 2 2\r\n22\r\nEND\r\n"),
            case("3 add", "add a 0 0 1\r\n1\r\nadd a 0 0 1\r\n2\r\nget a\r\n", "STORED\r\nNOT_STORED\r\nVALUE a 0 1\r\n1\r\nEND\r\n"),
            case("3 replace", "replace a 0 0 1\r\n1\r\nset a 0 0 1\r\n1\r\nreplace a 7 0 1\r\n2\r\nget a\r\n", "NOT_STORED\r\nSTORED\r\nSTORED\r\nVALUE a 7 1\r\n2\r\nEND\r\n"),
            case("3 append", "append a 0 0 1\r\n1\r\nset a 5 0 1\r\n1\r\nappend a 9 0 2\r\n23\r\nget a\r\n", "NOT_STORED\r\nSTORED\r\nSTORED\r\nVALUE a 5 3\r\n123\r\nEND\r\n"),
            case("3 prepend", "prepend a 0 0 1\r\n1\r\nset a 5 0 1\r\n3\r\nprepend a 9 0 2\r\n12\r\nget a\r\n", "NOT_STORED\r\nSTORED\r\nSTORED\r\nVALUE a 5 3\r\n123\r\nEND\r\n"),
            case("3 append with invalid flags", "set a 0 0 1\r\n1\r\nappend a x 0 1\r\n2\r\nget a\r\n", format!("STORED\r\n{BAD_LINE}VALUE a 0 1\r\n1\r\nEND\r\n")),
            case("3 append ignores its exptime", "set a 0 0 1\r\n1\r\nappend a 0 -1 1\r\n2\r\nget a\r\n", "STORED\r\nSTORED\r\nVALUE a 0 2\r\n12\r\nEND\r\n"),
            case("3 cas of nothing", "cas a 0 0 1 5\r\n1\r\n", "NOT_FOUND\r\n"),
            case("3 cas with another unique", "set a 0 0 1\r\n1\r\ncas a 0 0 1 0\r\n2\r\nget a\r\n", "STORED\r\nEXISTS\r\nVALUE a 0 1\r\n1\r\nEND\r\n"),
            case("3 cas without unique", "cas a 0 0 1\r\n1\r\n", BAD_LINE),
            case("3 get of several", "set a 0 0 1\r\n1\r\nset b 3 0 2\r\n22\r\nget a x b a\r\n", "STORED\r\nSTORED\r\nVALUE a 0 1\r\n1\r\nVALUE b 3 2\r\n22\r\nVALUE a 0 1\r\n1\r\nEND\r\n"),
            case("3 gets shows the unique", "set a 0 0 1\r\n1\r\ngets a\r\n", "STORED\r\nVALUE a 0 1 {n}\r\n1\r\nEND\r\n"),
            case("3 gat", "set a 0 0 1\r\n1\r\ngat 100 a x\r\n", "STORED\r\nVALUE a 0 1\r\n1\r\nEND\r\n"),
            case("3 gats", "set a 0 0 1\r\n1\r\ngats 100 a x\r\n", "STORED\r\nVALUE a 0 1 {n}\r\n1\r\nEND\r\n"),
            case("3 gat with a bad exptime", "gat x a\r\n", "CLIENT_ERROR invalid exptime argument\r\n"),
            case("3 touch", "touch a 5\r\nset a 0 0 1\r\n1\r\ntouch a 5\r\nget a\r\n", "NOT_FOUND\r\nSTORED\r\nTOUCHED\r\nVALUE a 0 1\r\n1\r\nEND\r\n"),
            case("3 touch with a bad exptime", "touch a x\r\n", "CLIENT_ERROR invalid exptime argument\r\n"),
            case("3 delete", "delete a\r\nset a 0 0 1\r\n1\r\ndelete a 0\r\nget a\r\n", "NOT_FOUND\r\nSTORED\r\nDELETED\r\nEND\r\n"),
            case("3 delete with a number", "set a 0 0 1\r\n1\r\ndelete a 5\r\n", "STORED\r\nDELETED\r\n"),
            case("3 verbosity without level", "verbosity\r\n", BAD_LINE),
            case("3 verbosity with a word", "verbosity a\r\n", BAD_LINE),
            case("3 version", "version\r\n", "VERSION 1.6.45 memkv-0.1.0\r\n"),
            case("3 quit", "quit\r\n", "").closes(),
            case("10 shutdown is not enabled", "shutdown\r\n", "SERVER_ERROR: shutdown not enabled\r\n"),
        ],
    )]
}

rows! {
    storage:
    row_3_set = "3 set",
    row_3_add = "3 add",
    row_3_replace = "3 replace",
    row_3_append = "3 append",
    row_3_prepend = "3 prepend",
    row_3_cas = "3 cas",
    row_3_get = "3 get",
    row_3_gets = "3 gets",
    row_3_gat = "3 gat",
    row_3_gats = "3 gats",
    row_3_touch = "3 touch",
    row_3_delete = "3 delete",
    row_3_verbosity = "3 verbosity",
    row_3_version = "3 version",
    row_3_quit = "3 quit",
    row_10_shutdown = "10 shutdown",
}

#[rustfmt::skip] // a table: one row a line
fn counters() -> Table {
    const NON_NUMERIC: &str = "CLIENT_ERROR cannot increment or decrement non-numeric value\r\n";
    let incr = |name: &'static str, value: &str, delta: &str, answer: String| {
        case(name, format!("set a 0 0 {}\r\n{value}\r\nincr a {delta}\r\n", value.len()), format!("STORED\r\n{answer}"))
    };
    vec![(
        config(),
        vec![
            incr("3.1 leading white space and a plus", "\t +7", "1", "8\r\n".into()),
            incr("3.1 anything behind white space", "5 bc", "1", "6\r\n".into()),
            incr("3.1 a NUL behind digits", "12\x005", "1", "13\r\n".into()),
            incr("3.1 a negative value", "-5", "1", NON_NUMERIC.into()),
            incr("3.1 letters behind digits", "5abc", "1", NON_NUMERIC.into()),
            incr("3.1 an empty value", "", "1", NON_NUMERIC.into()),
            incr("3.1 a value beyond 64 bits", "18446744073709551616", "1", NON_NUMERIC.into()),
            incr("3.1 zeros in front", "0010", "1", "11\r\n".into()),
            incr("3.1 incr wraps", "18446744073709551615", "1", "0\r\n".into()),
            incr("3.1 a delta that is no number", "1", "abc", "CLIENT_ERROR invalid numeric delta argument\r\n".into()),
            case("3.1 the delta is looked at first", "incr none abc\r\n", "CLIENT_ERROR invalid numeric delta argument\r\n"),
            case("3.1 a missing key", "incr a 1\r\ndecr a 1\r\n", "NOT_FOUND\r\nNOT_FOUND\r\n"),
            case("3.1 decr stops at 0", "set a 0 0 1\r\n5\r\ndecr a 9\r\n", "STORED\r\n0\r\n"),
            case(
                "3.1 a shorter result is padded",
                "set a 3 0 2\r\n99\r\nincr a 1\r\ndecr a 1\r\nget a\r\n",
                "STORED\r\n100\r\n99\r\nVALUE a 3 3\r\n99 \r\nEND\r\n",
            ),
        ],
    )]
}

rows! {
    counters:
    row_3_1 = "3.1",
}

#[rustfmt::skip] // a table: one row a line
fn flush() -> Table {
    vec![(
        config(),
        vec![
            case("3.2 flush_all hides what was", "set a 0 0 1\r\n1\r\nflush_all\r\nget a\r\n", "STORED\r\nOK\r\nEND\r\n"),
            case("3.2 and nothing that comes", "flush_all\r\nset a 0 0 1\r\n1\r\nget a\r\n", "OK\r\nSTORED\r\nVALUE a 0 1\r\n1\r\nEND\r\n"),
            case("3.2 0 is now", "set a 0 0 1\r\n1\r\nflush_all 0\r\nget a\r\n", "STORED\r\nOK\r\nEND\r\n"),
            case("3.2 negative is now", "set a 0 0 1\r\n1\r\nflush_all -5\r\nget a\r\n", "STORED\r\nOK\r\nEND\r\n"),
            case("3.2 noreply alone", "set a 0 0 1\r\n1\r\nflush_all noreply\r\nget a\r\n", "STORED\r\nEND\r\n"),
            case("3.2 a bad number", "flush_all x\r\n", "CLIENT_ERROR invalid exptime argument\r\n"),
            case("3.2 a bad number with noreply", "flush_all x noreply\r\n", ""),
        ],
    ),
    (
        Config { flush_allowed: false, ..config() },
        vec![
            case("3.2 -F", "flush_all\r\n", "CLIENT_ERROR flush_all not allowed\r\n"),
            case("5.2 -F with noreply", "flush_all noreply\r\n", ""),
        ],
    )]
}

rows! {
    flush:
    row_3_2 = "3.2",
    row_5_2 = "5.2",
}

#[rustfmt::skip] // a table: one row a line
fn noreply() -> Table {
    vec![(
        config(),
        vec![
            case("5.1 of every storage command", "set a 0 0 1 noreply\r\n1\r\nadd a 0 0 1 noreply\r\n2\r\nreplace a 0 0 1 noreply\r\n3\r\nappend a 0 0 1 noreply\r\n4\r\nprepend a 0 0 1 noreply\r\n5\r\ncas a 0 0 1 0 noreply\r\n6\r\nget a\r\n", "VALUE a 0 3\r\n534\r\nEND\r\n"),
            case("5.1 of the others", "set a 0 0 1\r\n1\r\nincr a 1 noreply\r\ndecr a 1 noreply\r\ntouch a 0 noreply\r\nverbosity 1 noreply\r\nget a\r\ndelete a noreply\r\nget a\r\n", "STORED\r\nVALUE a 0 1\r\n1\r\nEND\r\nEND\r\n"),
            case("5.1 not in the last place", "set a 0 0 1 noreply foo\r\n1\r\n", "STORED\r\n"),
            case("5.1 of an unknown command", "shutdown foo noreply\r\nfoo noreply\r\n", ""),
            case("5.2 hides a key too long", format!("set {} 0 0 1 noreply\r\n1\r\n", key(251)), ""),
            case("5.2 hides a bad exptime", "touch a x noreply\r\n", ""),
            case("5.2 hides a bad delta", "incr a x noreply\r\n", ""),
            case("5.2 hides a value that is no number", "set a 0 0 1\r\nx\r\nincr a 1 noreply\r\n", "STORED\r\n"),
            case("5.2 hides a missing unique, and swallows", "cas a 0 0 7 noreply\r\nversion\r\n", ""),
            case("5.3 too few words", "set a noreply\r\n", BAD_LINE),
            case("5.3 a key named noreply", "set noreply 0 0 1\r\n1\r\ndelete noreply\r\nget noreply\r\n", "STORED\r\nEND\r\n"),
            case("5.3 noreply as exptime", "touch k noreply\r\n", ""),
            case("5.3 noreply as level", "verbosity noreply\r\n", ""),
            case("5.3 noreply as bytes", "set a 0 0 noreply\r\nfoo\r\n", "ERROR\r\n"),
            case("5.4 get does not know it", "set noreply 0 0 1\r\n1\r\nget a noreply\r\n", "STORED\r\nVALUE noreply 0 1\r\n1\r\nEND\r\n"),
            case("5.4 version does not know it", "version noreply\r\n", "VERSION 1.6.45 memkv-0.1.0\r\n"),
            case("5.4 stats takes it for a topic", "stats noreply\r\n", "ERROR\r\n"),
            case("5.4 quit noreply quits", "quit noreply\r\n", "").closes(),
            case("5.5 hides a bad data chunk", "set a 0 0 1 noreply\r\n12\r\n", BAD_LINE),
        ],
    )]
}

rows! {
    noreply:
    row_5_1 = "5.1",
    row_5_2 = "5.2",
    row_5_3 = "5.3",
    row_5_4 = "5.4",
    row_5_5 = "5.5",
}

#[rustfmt::skip] // a table: one row a line
fn oversize() -> Table {
    // Key of one byte, no flags: 48 + 8 + 1 + 1 + 2 bytes beside the value.
    let item_bytes_max = 2048;
    let most = item_bytes_max - 60;
    let set = |verb: &str, len: usize, noreply: &str| format!("{verb} a 0 0 {len}{noreply}\r\n{}\r\n", "v".repeat(len));
    vec![(
        Config { item_bytes_max, ..config() },
        vec![
            case("6.1 the largest value", format!("{}get a\r\n", set("set", most, "")), format!("STORED\r\nVALUE a 0 {most}\r\n{}\r\nEND\r\n", "v".repeat(most))),
            case("6.1 one byte more", set("set", most + 1, ""), TOO_LARGE),
            case("6.1 flags take four bytes", set("set", most, "").replacen(" 0 ", " 1 ", 1), TOO_LARGE),
            case("6.1 far too large", set("set", 5000, ""), TOO_LARGE),
            case("6.1 larger than any buffer", set("set", 100_000, ""), TOO_LARGE).uncut(),
            case("6.2 set deletes the old item", format!("set a 0 0 1\r\n1\r\n{}get a\r\n", set("set", most + 1, "")), format!("STORED\r\n{TOO_LARGE}END\r\n")),
            case("6.2 add keeps it", format!("set a 0 0 1\r\n1\r\n{}get a\r\n", set("add", most + 1, "")), format!("STORED\r\n{TOO_LARGE}VALUE a 0 1\r\n1\r\nEND\r\n")),
            case("6.2 append keeps it", format!("set a 0 0 1\r\n1\r\n{}get a\r\n", set("append", most + 1, "")), format!("STORED\r\n{TOO_LARGE}VALUE a 0 1\r\n1\r\nEND\r\n")),
            case("6.2 with noreply", format!("set a 0 0 1\r\n1\r\n{}get a\r\n", set("set", most + 1, " noreply")), "STORED\r\nEND\r\n"),
            case("6.5 append to more than fits", format!("{}append a 0 0 1\r\n1\r\nget a\r\n", set("set", most, "")), format!("STORED\r\nNOT_STORED\r\nVALUE a 0 {most}\r\n{}\r\nEND\r\n", "v".repeat(most))),
            case("6.5 prepend to more than fits", format!("{}prepend a 0 0 1\r\n1\r\n", set("set", most, "")), "STORED\r\nNOT_STORED\r\n"),
        ],
    )]
}

rows! {
    oversize:
    row_6_1 = "6.1",
    row_6_2 = "6.2",
    row_6_5 = "6.5",
}

#[test]
fn values_of_every_size() {
    // Around what fits into the read buffer with its line, what grows in steps, and what is large to the store.
    for len in [0, 1, 2, 8190, 16_360, 16_370, 16_384, 16_385, 32_766, 32_768, 100_000, 1_000_000] {
        let value: Vec<u8> = (0..len).map(|at| (at % 251) as u8).collect();
        let set = [format!("set a 9 0 {len}\r\n").as_bytes(), &value, b"\r\n"].concat();
        let input = [&set[..], b"get a b a\r\n"].concat();
        let hit = [format!("VALUE a 9 {len}\r\n").as_bytes(), &value, b"\r\n"].concat();
        let output = [b"STORED\r\n", &hit[..], &hit, b"END\r\n"].concat();
        check(config(), vec![case("1.11 any size", input.clone(), output.clone()).uncut()]);
        // Cut around everything that ends something.
        let memory = Loopback::new(config(), Clock::manual(0).0).unwrap();
        for at in [1, 12, set.len() - len - 2, set.len() - 3, set.len() - 2, set.len() - 1, set.len() + 4] {
            let mut client = memory.another();
            let at = at.min(input.len());
            let answer = [client.send(&input[..at]), client.send(&input[at..])].concat();
            assert!(answer == output, "value of {len} bytes cut at {at}: {}", show(&answer));
        }
        let bad = [&set[..set.len() - 2], b"xxversion\r\n"].concat();
        assert_eq!(memory.another().send(&bad), [BAD_CHUNK.as_bytes(), b"VERSION 1.6.45 memkv-0.1.0\r\n"].concat());
    }
}

#[rustfmt::skip] // a table: one row a line
fn without_cas() -> Table {
    vec![(
        Config { cas: false, ..config() },
        vec![
            case("7 gets shows 0", "set a 0 0 1\r\n1\r\ngets a\r\n", "STORED\r\nVALUE a 0 1 0\r\n1\r\nEND\r\n"),
            case("7 cas never succeeds", "cas a 0 0 1 0\r\n1\r\nset a 0 0 1\r\n1\r\ncas a 0 0 1 0\r\n2\r\n", "NOT_FOUND\r\nSTORED\r\nEXISTS\r\n"),
        ],
    )]
}

rows! {
    without_cas:
    row_7 = "7",
}
