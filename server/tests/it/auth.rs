//! ASCII authentication as clients see it (protocol 14).

use std::path::PathBuf;

use memkv_server::Config;

use crate::program::{Program, run};
use crate::support::{TempDir, config, stat_of, wait_until};
use crate::table::{Among, case, check_among};

const USERS: &str = "alice:secret\nbob:pa ss:w\nempty:\n";
const ADMIT: &str = "set a 0 0 12\r\nalice secret\r\n";

const UNAUTHENTICATED: &str = "CLIENT_ERROR unauthenticated\r\n";
const FAILURE: &str = "CLIENT_ERROR authentication failure\r\n";
const BAD_FORMAT: &str = "CLIENT_ERROR bad authentication token format\r\n";
const BAD_TERMINATION: &str = "CLIENT_ERROR bad command line termination\r\n";
const TOO_LONG: &str = "CLIENT_ERROR auth token too long\r\n";

fn with_users(file: PathBuf) -> Config {
    Config { auth_file: Some(file), ..config() }
}

#[test]
#[rustfmt::skip] // a table: one row a line
fn p14_3_who_is_not_admitted_gets_errors_only() {
    let dir = TempDir::new("auth-refused");
    let among = Among {
        before: b"get before\r\nset before 0 0 6\r\nbefore\r\n",
        before_answer: b"CLIENT_ERROR unauthenticated\r\nCLIENT_ERROR bad authentication token format\r\n",
        after: b"bogus word\r\nversion\r\n",
        after_answer: b"CLIENT_ERROR unauthenticated\r\nCLIENT_ERROR unauthenticated\r\n",
    };
    let x = |count: usize| "x".repeat(count);
    let unknown_line = |line: &'static str| case("14.3 another line", line, UNAUTHENTICATED);
    check_among(
        with_users(dir.file("users", USERS)),
        &among,
        vec![
            unknown_line("get key\r\n"),
            unknown_line("version\r\n"),
            unknown_line("stats x\n"),
            unknown_line("flush_all\r\n"),
            unknown_line("mg key v\r\n"),
            unknown_line("shutdown\r\n"),
            unknown_line("add a 0 0 12\r\n"),
            unknown_line("settings a 0 0 12\r\n"),
            case("14.3 a line too short closes", "quit\r\n", "").closes(),
            case("14.3 the no-op closes", "mn\r\n", "").closes(),
            case("14.3 an empty line closes", "\r\n", "").closes(),
            case("14.3 six bytes are enough", "quitxx\n", UNAUTHENTICATED),
            case("14.3 a line without end closes", x(2049), "").closes().uncut(),
            case("14.3 even a multi-get", format!("get {}", x(2045)), "").closes().uncut(),
            case("14.3 too few tokens", "set a 0 12\r\n", UNAUTHENTICATED),
            case("14.3 a negative length", "set a 0 0 -1\r\n", UNAUTHENTICATED),
            case("14.3 a length that is none", "set a 0 0 x\r\n", UNAUTHENTICATED),
            case("14.3 a length with a sign", "set a 0 0 +12\r\n", UNAUTHENTICATED),
            case("14.3 a space in front", " set a 0 0 12\r\n", UNAUTHENTICATED),
            case("14.3 a wrong password", "set a 0 0 12\r\nalice secrex\r\n", FAILURE),
            case("14.3 a password too short", "set a 0 0 11\r\nalice secre\r\n", FAILURE),
            case("14.3 a password too long", "set a 0 0 13\r\nalice secrets\r\n", FAILURE),
            case("14.3 the password of somebody else", "set a 0 0 10\r\nbob secret\r\n", FAILURE),
            case("14.3 nobody", "set a 0 0 12\r\nalico secret\r\n", FAILURE),
            case("14.3 as long as a token may be", format!("set a 0 0 16384\r\nalice {}\r\n", x(16_378)), FAILURE),
            case("14.3 a long name", format!("set a 0 0 16384\r\n{} y\r\n", x(16_382)), FAILURE),
            case("14.3 a long token without a space", format!("set a 0 0 16384\r\n{}\r\n", x(16_384)), BAD_FORMAT),
            case("14.3 longer", format!("set a 0 0 16385\r\nalice {}\r\n", x(16_379)), TOO_LONG),
            case("14.3 no space", "set a 0 0 11\r\nalicesecret\r\n", BAD_FORMAT),
            case("14.3 no name", "set a 0 0 7\r\n secret\r\n", BAD_FORMAT),
            case("14.3 no password", "set a 0 0 6\r\nempty \r\n", BAD_FORMAT),
            case("14.3 nothing", "set a 0 0 0\r\n\r\n", BAD_FORMAT),
            case("14.3 no CRLF behind it", "set a 0 0 12\r\nalice secretXX", BAD_TERMINATION),
            case("14.3 a wrong length", "set a 0 0 10\r\nalice secret\r\n", BAD_TERMINATION).closes(),
            case("14.4 noreply is not heard", "set a 0 0 12 noreply\r\nalice secrex\r\n", FAILURE),
        ],
    );
}

#[test]
#[rustfmt::skip] // a table: one row a line
fn p14_3_who_is_admitted_may_go_on() {
    let dir = TempDir::new("auth-admitted");
    let among = Among {
        before: b"version\r\n",
        before_answer: b"CLIENT_ERROR unauthenticated\r\n",
        after: b"bogus\r\nset k 0 0 1\r\n1\r\nget k\r\n",
        after_answer: b"ERROR\r\nSTORED\r\nVALUE k 0 1\r\n1\r\nEND\r\n",
    };
    check_among(
        with_users(dir.file("users", USERS)),
        &among,
        vec![
            case("14.3 name and password", ADMIT, "STORED\r\n"),
            case("14.3 a bare newline ends the line", "set a 0 0 12\nalice secret\r\n", "STORED\r\n"),
            case("14.3 whatever the arguments are", format!("set {} x -1 12 y z\r\nalice secret\r\n", "k".repeat(300)), "STORED\r\n"),
            case("14.3 runs of spaces", "set   a  0 0   12  \r\nalice secret\r\n", "STORED\r\n"),
            case("14.3 nothing is stored", format!("{ADMIT}get a\r\n"), "STORED\r\nEND\r\n"),
            case("14.4 the name ends at the first space", "set a 0 0 11\r\nbob pa ss:w\r\n", "STORED\r\n"),
            case("14.4 noreply is not heard", "set a 0 0 12 noreply\r\nalice secret\r\n", "STORED\r\n"),
            case("14.4 after a failure", format!("set a 0 0 1\r\nx\r\nset a 0 0 3\r\na b\r\n{ADMIT}"), format!("{BAD_FORMAT}{FAILURE}STORED\r\n")),
            case("14.4 later sets are sets", format!("{ADMIT}set a 0 0 12\r\nalice secrex\r\nget a\r\n"), "STORED\r\nSTORED\r\nVALUE a 0 12\r\nalice secrex\r\nEND\r\n"),
        ],
    );
}

#[test]
fn p14_4_tokens_and_failures_are_counted() {
    let dir = TempDir::new("auth-counted");
    let users = dir.file("users", USERS);
    let program = Program::with(&["-Y", users.to_str().unwrap()]);
    let mut client = program.client();
    assert_eq!(client.ask(b"set a 0 0 3\r\na b\r\n"), FAILURE);
    assert_eq!(client.ask(b"set a 0 0 1\r\nx\r\n"), BAD_FORMAT);
    assert_eq!(client.ask(b"version\r\n"), UNAUTHENTICATED);
    assert_eq!(client.ask(ADMIT.as_bytes()), "STORED\r\n");
    assert_eq!((stat_of(&mut client, "auth_cmds"), stat_of(&mut client, "auth_errors")), ("2".into(), "1".into()));
    client.send(b"stats settings\r\n");
    let settings: Vec<String> = std::iter::from_fn(|| Some(client.line()).filter(|line| line != "END\r\n")).collect();
    assert!(settings.contains(&format!("STAT auth_enabled_ascii {}\r\n", users.display())), "{settings:?}");
    assert!(settings.contains(&"STAT binding_protocol ascii\r\n".to_owned()));
}

#[test]
fn p14_1_sighup_reads_the_file_again_and_a_bad_one_changes_nothing() {
    let dir = TempDir::new("auth-reload");
    let users = dir.file("users", USERS);
    let mut program = Program::with(&["-Y", users.to_str().unwrap()]);
    let mut admitted = program.client();
    assert_eq!(admitted.ask(ADMIT.as_bytes()), "STORED\r\n");
    let changed = b"set a 0 0 11\r\nalice other\r\n";

    dir.file("users", "alice:other\n");
    program.signal("HUP");
    wait_until("the new password is in force", || program.client().ask(changed) == "STORED\r\n");
    assert_eq!(program.client().ask(ADMIT.as_bytes()), FAILURE);
    assert_eq!(admitted.ask(b"get a\r\n"), "END\r\n", "who was admitted stays so");

    dir.file("users", "no colon\n");
    program.signal("HUP");
    let mut line = String::new();
    std::io::BufRead::read_line(&mut program.stderr, &mut line).unwrap();
    assert!(line.contains("has a malformed entry. Should be 'user:password'"), "{line}");
    assert_eq!(program.client().ask(changed), "STORED\r\n");
}

#[test]
fn p14_1_a_file_that_cannot_be_used_prevents_the_start() {
    let dir = TempDir::new("auth-bad");
    let bad = dir.file("bad", "alice:secret\nnonsense\n");
    let missing = dir.path("missing");
    for (path, expected) in [
        (&bad, format!("memkv: Authfile [{}] has a malformed entry. Should be 'user:password'\n", bad.display())),
        (&missing, format!("memkv: Could not open authfile [{}] for reading, error ", missing.display())),
    ] {
        for check in [&["-u", "root", "-p", "-1"][..], &["-u", "root", "--check-config"]] {
            let output = run(&[check, &["-Y", path.to_str().unwrap()]].concat());
            let stderr = String::from_utf8(output.stderr).unwrap();
            assert_eq!(output.status.code(), Some(1), "{stderr}");
            assert!(stderr.starts_with(&expected), "{stderr}");
        }
    }
}

#[test]
fn p14_2_other_protocols_are_refused() {
    let dir = TempDir::new("auth-protocols");
    let users = dir.file("users", USERS);
    for other in [&["-B", "binary"][..], &["-U", "11211"]] {
        let output = run(&[&["-u", "root", "-p", "-1", "-Y", users.to_str().unwrap()], other].concat());
        assert_eq!(output.status.code(), Some(64), "{other:?}");
    }
}
