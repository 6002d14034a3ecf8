//! The command line: memcached's letters and long names (protocol 18).

use std::ffi::OsString;
use std::num::NonZeroUsize;

use clap::error::{ContextKind, ErrorKind};
use clap::{ArgAction, Parser};

use crate::config::{Config, Endpoint, ReactorKind};

/// Why there is no configuration.
#[derive(Debug)]
pub enum Exit {
    /// Help or version was asked for: print this on stdout, exit 0.
    Answer(String),
    /// The command line is wrong: print this line on stderr, exit 64.
    Usage(String),
}

/// What the command line says besides the configuration.
#[derive(Debug)]
pub struct Parsed {
    /// The configuration of the server.
    pub config: Config,
    /// The user to run as (`-u`).
    pub user: Option<String>,
}

#[derive(Parser, Debug)]
#[command(
    name = "memkv",
    version = crate::PROGRAM_VERSION,
    about = "A memcached-compatible cache server on a lock-free engine.",
    disable_help_flag = true,
    disable_version_flag = true,
    infer_long_args = true
)]
struct Args {
    /// TCP port; -1 lets the system choose one
    #[arg(short = 'p', long, value_name = "NUM", default_value = "11211", allow_negative_numbers = true, value_parser = port)]
    port: u16,

    /// UDP port; only 0 (off) is supported
    #[arg(short = 'U', long, value_name = "NUM", default_value = "0", allow_negative_numbers = true, value_parser = udp_port)]
    udp_port: u16,

    /// Addresses to listen on, separated by commas: HOST, HOST:PORT, [IPV6]:PORT, * for all [default: 127.0.0.1]
    #[arg(short = 'l', long, value_name = "LIST", value_parser = endpoints)]
    listen: Vec<Endpoints>,

    /// Memory for items and index, in megabytes
    #[arg(short = 'm', long, value_name = "MB", default_value = "64", value_parser = megabytes)]
    memory_limit: usize,

    /// Largest item; a number of bytes, or with k or m behind it
    #[arg(short = 'I', long, value_name = "SIZE", default_value = "1m", value_parser = item_size)]
    max_item_size: usize,

    /// Answer with an error instead of evicting items when memory is used up
    #[arg(short = 'M', long)]
    disable_evictions: bool,

    /// Largest number of open connections
    #[arg(short = 'c', long, value_name = "NUM", default_value = "1024", allow_negative_numbers = true, value_parser = connections)]
    conn_limit: usize,

    /// Worker threads [default: one per core]
    #[arg(short = 't', long, value_name = "NUM", allow_negative_numbers = true, value_parser = threads)]
    threads: Option<NonZeroUsize>,

    /// Commands of one connection after which the others get their turn
    #[arg(short = 'R', long, value_name = "NUM", default_value = "20", allow_negative_numbers = true, value_parser = requests)]
    max_reqs_per_event: usize,

    /// Connections that may wait to be accepted
    #[arg(short = 'b', long, value_name = "NUM", default_value = "1024", value_parser = clap::value_parser!(i32).range(0..))]
    listen_backlog: i32,

    /// Items have no CAS ids: `gets` shows 0, `cas` answers EXISTS or NOT_FOUND
    #[arg(short = 'C', long)]
    disable_cas: bool,

    /// flush_all is not allowed
    #[arg(short = 'F', long)]
    disable_flush_all: bool,

    /// User to run as; accepted, but the user is not changed yet
    #[arg(short = 'u', long, value_name = "NAME")]
    user: Option<String>,

    /// Log more; may be repeated
    #[arg(short = 'v', long, action = ArgAction::Count)]
    verbose: u8,

    /// Which reactor the workers use
    #[arg(long, hide = true, default_value = "auto", value_enum)]
    reactor: ReactorKind,

    /// Print this help
    #[arg(short = 'h', long, action = ArgAction::HelpShort)]
    help: Option<bool>,

    /// Print the version
    #[arg(short = 'V', long, action = ArgAction::Version)]
    version: Option<bool>,
}

/// Reads a command line, program name first.
///
/// # Errors
/// If there is nothing to run: an answer to print, or one line that says what is wrong.
pub fn parse(args: impl IntoIterator<Item = OsString>) -> Result<Parsed, Exit> {
    let args = Args::try_parse_from(args).map_err(|error| match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => Exit::Answer(error.to_string()),
        _ => Exit::Usage(one_line(&error)),
    })?;
    if args.max_item_size > args.memory_limit / 2 {
        return Err(Exit::Usage("Cannot set item size limit higher than 1/2 of memory max.".to_owned()));
    }
    let listen: Vec<Endpoint> = args.listen.into_iter().flat_map(|list| list.0).collect();
    let config = Config {
        listen: if listen.is_empty() { Config::default().listen } else { listen },
        port: args.port,
        memory_bytes: args.memory_limit,
        item_bytes_max: args.max_item_size,
        connections_max: args.conn_limit,
        workers: args.threads,
        commands_per_turn: args.max_reqs_per_event,
        backlog: args.listen_backlog,
        evict: !args.disable_evictions,
        cas: !args.disable_cas,
        flush_allowed: !args.disable_flush_all,
        verbosity: args.verbose,
        reactor: args.reactor,
        panic_on_input: None,
        ..Config::default()
    };
    Ok(Parsed { config, user: args.user })
}

/// What is wrong, without clap's tips and usage.
fn one_line(error: &clap::Error) -> String {
    // The texts of our own value parsers are memcached's, and complete.
    if error.kind() == ErrorKind::ValueValidation
        && let Some(source) = std::error::Error::source(error)
    {
        return source.to_string();
    }
    if error.kind() == ErrorKind::UnknownArgument
        && let Some(argument) = error.get(ContextKind::InvalidArg)
    {
        return format!("Illegal argument '{argument}'");
    }
    let text = error.to_string();
    let line = text.lines().next().unwrap_or("wrong command line");
    line.strip_prefix("error: ").unwrap_or(line).to_owned()
}

/// The addresses of one `-l`.
#[derive(Clone, Debug)]
struct Endpoints(Vec<Endpoint>);

fn endpoints(text: &str) -> Result<Endpoints, String> {
    text.split([',', ';']).map(Endpoint::parse).collect::<Result<_, _>>().map(Endpoints)
}

fn port(text: &str) -> Result<u16, String> {
    match text.trim_start().parse::<i64>() {
        // memcached's 0 means "no TCP", which would leave nothing to listen on.
        Ok(-1) => Ok(0),
        Ok(0) => Err("There is nothing to listen on with TCP port 0; -1 lets the system choose a port.".to_owned()),
        Ok(port) => u16::try_from(port).map_err(|_| format!("ERROR: Invalid port number {port}.")),
        Err(_) => Err(format!("ERROR: Invalid port number {text}.")),
    }
}

fn udp_port(text: &str) -> Result<u16, String> {
    match text.trim_start().parse::<i64>() {
        Ok(0) => Ok(0),
        Ok(-1 | 1..=65535) => Err("UDP is not supported; only -U 0 is accepted.".to_owned()),
        _ => Err(format!("ERROR: Invalid UDP port number {text}.")),
    }
}

fn megabytes(text: &str) -> Result<usize, String> {
    let error = || format!("Invalid memory limit {text}; it is a number of megabytes.");
    let megabytes: usize = text.trim_start().parse().map_err(|_| error())?;
    megabytes.checked_mul(1 << 20).filter(|bytes| (1..=isize::MAX as usize).contains(bytes)).ok_or_else(error)
}

fn item_size(text: &str) -> Result<usize, String> {
    let text = text.trim_start();
    let (digits, unit) = match text.as_bytes().last() {
        Some(b'k' | b'K') => (&text[..text.len() - 1], 1 << 10),
        Some(b'm' | b'M') => (&text[..text.len() - 1], 1 << 20),
        _ => (text, 1),
    };
    let size = digits.parse::<usize>().ok().and_then(|number| number.checked_mul(unit));
    match size {
        None => Err(format!("Invalid item size limit {text}.")),
        Some(0..1024) => Err("Item max size cannot be less than 1024 bytes.".to_owned()),
        Some(size) if size > 1 << 30 => Err("Cannot set item size limit higher than a gigabyte.".to_owned()),
        Some(size) => Ok(size),
    }
}

fn connections(text: &str) -> Result<usize, String> {
    positive(text, "Maximum connections must be greater than 0").map(NonZeroUsize::get)
}

fn threads(text: &str) -> Result<NonZeroUsize, String> {
    /// More than any machine has cores; memcached warns above 64.
    const THREADS_MAX: usize = crate::limits::WORKERS_MAX;
    let threads = positive(text, "Number of threads must be greater than 0")?;
    if threads.get() > THREADS_MAX {
        return Err(format!("Number of threads must not be greater than {THREADS_MAX}"));
    }
    Ok(threads)
}

fn requests(text: &str) -> Result<usize, String> {
    positive(text, "Number of requests per event must be greater than 0").map(NonZeroUsize::get)
}

fn positive(text: &str, error: &str) -> Result<NonZeroUsize, String> {
    let number: i64 = text.trim_start().parse().map_err(|_| format!("Invalid number '{text}'"))?;
    usize::try_from(number).ok().and_then(NonZeroUsize::new).ok_or_else(|| error.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(line: &str) -> Result<Parsed, Exit> {
        parse(std::iter::once("memkv").chain(line.split_whitespace()).map(OsString::from))
    }

    #[test]
    fn without_flags_the_defaults_hold() {
        let Parsed { config, user } = parsed("").unwrap();
        assert_eq!(format!("{config:?}"), format!("{:?}", Config::default()));
        assert_eq!(user, None);
    }

    #[test]
    fn letters_and_long_names_mean_the_same() {
        let short = parsed("-p 5 -l ::1,a:7 -m 100 -I 2m -c 9 -t 3 -R 7 -b 8 -MCF -vv -u root -U 0").unwrap();
        let long = parsed(
            "--port=5 --listen=::1 --listen a:7 --memory-limit=100 --max-item-size=2048k --conn-limit=9 --threads=3 \
             --max-reqs-per-event=7 --listen-backlog=8 --disable-evictions --disable-cas --disable-flush-all --verbose \
             --verbose --user=root --udp-port=0",
        )
        .unwrap();
        assert_eq!(format!("{short:?}"), format!("{long:?}"));
        let Config { port, memory_bytes, item_bytes_max, verbosity, evict, cas, flush_allowed, .. } = short.config;
        assert_eq!((port, memory_bytes, item_bytes_max, verbosity), (5, 100 << 20, 2 << 20, 2));
        assert!(!evict && !cas && !flush_allowed);
    }

    #[test]
    fn long_names_may_be_cut_short() {
        assert_eq!(parsed("--mem 100").unwrap().config.memory_bytes, 100 << 20);
    }

    #[test]
    fn port_minus_one_is_any_port() {
        assert_eq!(parsed("-p -1").unwrap().config.port, 0);
    }

    #[test]
    fn what_is_wrong_is_said_in_one_line() {
        for (line, expected) in [
            ("-p 65536", "ERROR: Invalid port number 65536."),
            ("-p x", "ERROR: Invalid port number x."),
            ("-I 1000", "Item max size cannot be less than 1024 bytes."),
            ("-I 2000m", "Cannot set item size limit higher than a gigabyte."),
            ("-I 33m", "Cannot set item size limit higher than 1/2 of memory max."),
            ("-c 0", "Maximum connections must be greater than 0"),
            ("-t 0", "Number of threads must be greater than 0"),
            ("-R -1", "Number of requests per event must be greater than 0"),
            ("-U 11211", "UDP is not supported; only -U 0 is accepted."),
            ("-l [::1", "no ] in address '[::1'"),
            ("--nonsense", "Illegal argument '--nonsense'"),
            ("-y", "Illegal argument '-y'"),
            ("-m", "a value is required for '--memory-limit <MB>' but none was supplied"),
            ("-m 9q", "Invalid memory limit 9q; it is a number of megabytes."),
            ("surplus", "Illegal argument 'surplus'"),
        ] {
            match parsed(line) {
                Err(Exit::Usage(text)) => assert_eq!(text, expected, "{line}"),
                other => panic!("{line}: {other:?}"),
            }
        }
    }

    #[test]
    fn help_and_version_are_answers() {
        let answer = |line| match parsed(line) {
            Err(Exit::Answer(text)) => text,
            other => panic!("{line}: {other:?}"),
        };
        assert_eq!(answer("-V"), format!("memkv {}\n", crate::PROGRAM_VERSION));
        assert!(answer("-h").contains("--memory-limit"));
    }
}
