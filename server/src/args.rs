//! The options of the program: one table, `Args`, for the command line, the environment and the file (protocol 18).
//!
//! Letters and long names are memcached's. A variable `MEMKV_MEMORY_LIMIT` and a key `memory-limit` of the file mean what
//! `--memory-limit` means, because they are turned into it: whatever is set goes through the same parser, so the three cannot drift
//! apart. A flag overrides a variable, a variable the file, and the file the default.

use std::ffi::{OsStr, OsString};
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};

use clap::error::{ContextKind, ErrorKind};
use clap::parser::ValueSource;
use clap::{Arg, ArgAction, ArgMatches, CommandFactory as _, FromArgMatches as _, Parser};

use crate::config::{Config, Endpoint, Protocol, ReactorKind};
use crate::extended::{self, Extended};
use crate::process::Process;

/// Exit status for a command line that makes no sense (sysexits' EX_USAGE).
pub const EXIT_USAGE: u8 = 64;
/// Exit status of memcached for those options that it checks as it reads them.
pub const EXIT_FAILURE: u8 = 1;

/// What an environment variable has in front of the option's name.
const ENV_PREFIX: &str = "MEMKV_";

/// Why there is no configuration.
#[derive(Debug)]
pub enum Exit {
    /// Help or version was asked for: print this on stdout, exit 0.
    Answer(String),
    /// Something is wrong: print this line on stderr, exit with this status.
    Usage(u8, String),
}

/// What the options say.
#[derive(Debug)]
pub struct Parsed {
    /// The configuration of the server.
    pub config: Config,
    /// What concerns the process and not the server in it.
    pub process: Process,
    /// Options that were accepted without effect, and variables that are no options: a line each for the log.
    pub warnings: Vec<String>,
    /// Whether the configuration is only to be checked.
    pub check: bool,
    /// The configuration as a file, if it is only to be printed.
    pub print: Option<String>,
}

/// Where options come from besides the command line; tests bring their own.
pub struct Surroundings<'s> {
    /// The environment.
    pub env: Vec<(OsString, OsString)>,
    /// Reads the file of `--config`.
    pub read: &'s dyn Fn(&Path) -> std::io::Result<String>,
}

impl Surroundings<'static> {
    /// Those of this process.
    pub fn of_process() -> Surroundings<'static> {
        Surroundings { env: std::env::vars_os().collect(), read: &|path| std::fs::read_to_string(path) }
    }

    /// Nothing but the command line.
    pub fn none() -> Surroundings<'static> {
        Surroundings { env: Vec::new(), read: &|_| Err(std::io::ErrorKind::NotFound.into()) }
    }
}

#[derive(Parser, Debug)]
#[command(
    name = "memkv",
    version = crate::PROGRAM_VERSION,
    about = "A memcached-compatible cache server on a lock-free engine.",
    after_help = HELP_END,
    disable_help_flag = true,
    disable_version_flag = true,
    infer_long_args = true,
    args_override_self = true
)]
struct Args {
    /// TCP port; -1 lets the system choose one, 0 is none
    #[arg(short = 'p', long, value_name = "NUM", default_value = "11211", allow_negative_numbers = true, value_parser = port)]
    port: i32,

    /// UDP port; only 0 (off) is supported
    #[arg(short = 'U', long, value_name = "NUM", default_value = "0", allow_negative_numbers = true, value_parser = udp_port, hide = true)]
    udp_port: u16,

    /// Path of a Unix socket to listen on, and nowhere else
    #[arg(short = 's', long, value_name = "FILE", value_parser = path)]
    unix_socket: Option<PathBuf>,

    /// Permissions of the Unix socket, in octal
    #[arg(short = 'a', long, value_name = "MASK", default_value = "700", value_parser = mask)]
    unix_mask: u32,

    /// Allow the shutdown command
    #[arg(short = 'A', long)]
    enable_shutdown: bool,

    /// Addresses to listen on, separated by commas: HOST, HOST:PORT, [IPV6]:PORT, * for all
    #[arg(short = 'l', long, value_name = "LIST", default_value = "127.0.0.1", value_parser = endpoints)]
    listen: Vec<Endpoints>,

    /// Run in the background; returns when the server is ready
    #[arg(short = 'd', long)]
    daemon: bool,

    /// Write the process id to this file
    #[arg(short = 'P', long, value_name = "FILE", value_parser = path)]
    pidfile: Option<PathBuf>,

    /// Allow core dumps of any size
    #[arg(short = 'r', long)]
    enable_coredumps: bool,

    /// User to become when started by root
    #[arg(short = 'u', long, value_name = "NAME", value_parser = text)]
    user: Option<String>,

    /// Memory for items and index, in megabytes
    #[arg(short = 'm', long, value_name = "MB", default_value = "64", value_parser = megabytes)]
    memory_limit: usize,

    /// Answer with an error instead of evicting items when memory is used up
    #[arg(short = 'M', long)]
    disable_evictions: bool,

    /// Largest number of open connections
    #[arg(short = 'c', long, value_name = "NUM", default_value = "1024", allow_negative_numbers = true, value_parser = connections)]
    conn_limit: usize,

    /// Memory for unsent answers and unfinished input of all connections, in megabytes [default: 16 KiB per -c, at least 32]
    #[arg(long, value_name = "MB", value_parser = megabytes)]
    connection_memory: Option<usize>,

    /// Keep all memory from being swapped out
    #[arg(short = 'k', long)]
    lock_memory: bool,

    /// Ask for large memory pages, which is always done
    #[arg(short = 'L', long)]
    enable_largepages: bool,

    /// Log more; may be repeated
    #[arg(short = 'v', long, action = ArgAction::Count)]
    verbose: u8,

    /// Growth of slab classes
    #[arg(short = 'f', long, value_name = "FACTOR", allow_negative_numbers = true, value_parser = growth_factor, hide = true)]
    slab_growth_factor: Option<f64>,

    /// Smallest slab
    #[arg(short = 'n', long, value_name = "BYTES", allow_negative_numbers = true, value_parser = slab_min, hide = true)]
    slab_min_size: Option<NonZeroUsize>,

    /// Character between the prefix of a key and the rest; also turns on statistics by prefix [default: :]
    #[arg(short = 'D', long, value_name = "CHAR", value_parser = delimiter)]
    prefix_delimiter: Option<u8>,

    /// Worker threads [default: one per core]
    #[arg(short = 't', long, value_name = "NUM", allow_negative_numbers = true, value_parser = threads)]
    threads: Option<NonZeroUsize>,

    /// Commands of one connection after which the others get their turn
    #[arg(short = 'R', long, value_name = "NUM", default_value = "20", allow_negative_numbers = true, value_parser = requests)]
    max_reqs_per_event: usize,

    /// Items have no CAS ids: `gets` shows 0, `cas` answers EXISTS or NOT_FOUND
    #[arg(short = 'C', long)]
    disable_cas: bool,

    /// Connections that may wait to be accepted
    #[arg(short = 'b', long, value_name = "NUM", default_value = "1024", allow_negative_numbers = true, value_parser = backlog)]
    listen_backlog: i32,

    /// Protocol: ascii, or auto, which is the same
    #[arg(short = 'B', long, value_name = "NAME", default_value = "auto", value_parser = protocol, hide = true)]
    protocol: Protocol,

    /// Largest item; a number of bytes, or with k or m behind it
    #[arg(short = 'I', long, value_name = "SIZE", default_value = "1m", value_parser = item_size)]
    max_item_size: usize,

    #[arg(short = 'S', long, hide = true)]
    enable_sasl: bool,

    #[arg(short = 'Z', long, hide = true)]
    enable_ssl: bool,

    /// Refuse flush_all and mp
    #[arg(short = 'F', long)]
    disable_flush_all: bool,

    /// Refuse commands that list keys: cachedump, metadump, mgdump, ml, `stats hotkeys`
    #[arg(short = 'X', long)]
    disable_dumping: bool,

    /// Refuse watch
    #[arg(short = 'W', long)]
    disable_watch: bool,

    /// Ask clients for a name and password, one `user:password` a line of this file; SIGHUP reads it again
    #[arg(short = 'Y', long, value_name = "FILE", value_parser = path)]
    auth_file: Option<PathBuf>,

    #[arg(short = 'e', long, value_name = "FILE", value_parser = path, hide = true)]
    memory_file: Option<PathBuf>,

    #[arg(short = 'N', long, value_name = "NUM", value_parser = text, hide = true)]
    napi_ids: Option<String>,

    /// Further options, separated by commas; see below
    #[arg(short = 'o', long, value_name = "LIST", value_parser = suboptions)]
    extended: Vec<Suboptions>,

    /// Allow debugtime, which moves the server's clock: `debugtime SECONDS`, p to pause, r to resume
    #[arg(long)]
    debug_commands: bool,

    /// How the workers receive, send and wait
    #[arg(long, value_name = "KIND", default_value = "auto", value_enum)]
    reactor: ReactorKind,

    /// Read options from a TOML file, by their long names
    #[arg(long, value_name = "FILE", value_parser = path)]
    config: Option<PathBuf>,

    /// Check all options, say what is wrong, and exit
    #[arg(long)]
    check_config: bool,

    /// Print all options as a file for --config, and exit
    #[arg(long)]
    print_config: bool,

    /// Print this help
    #[arg(short = 'h', long, action = ArgAction::HelpShort)]
    help: Option<bool>,

    /// Print the licence
    #[arg(short = 'i', long)]
    license: bool,

    /// Print the version
    #[arg(short = 'V', long, action = ArgAction::Version)]
    version: Option<bool>,
}

const HELP_END: &str = "\
Further options (-o):
  maxconns_fast       turn clients away that are more than -c (default)
  no_maxconns_fast    let them wait until others leave
  idle_timeout=NUM    close TCP connections idle for so many seconds; 0 is never (default)
  no_lru_crawler      start with the crawler disabled
  lru_crawler_sleep=NUM
                      microseconds that the crawler rests after every thousand items (default 100)
  lru_crawler_tocrawl=NUM
                      items that one crawl looks at; 0 is all (default)
  track_sizes         let `stats sizes` answer
  watcher_logbuf_size=NUM
                      kilobytes of lines that may wait for one watcher (default 256)

Each option --some-name may also be set by a variable MEMKV_SOME_NAME, and by a key some-name in the file that --config names.
Flags come before variables, and variables before the file.";

/// Options that are about this run of the program, not about the server: neither variables nor keys.
const COMMAND_LINE_ONLY: [&str; 5] = ["help", "license", "version", "check_config", "print_config"];

/// Reads a command line, program name first, and what surrounds it.
///
/// # Errors
/// If there is nothing to run: an answer to print, or one line that says what is wrong.
pub fn parse(args: impl IntoIterator<Item = OsString>, around: &Surroundings<'_>) -> Result<Parsed, Exit> {
    let table = table();
    let line: Vec<OsString> = args.into_iter().collect();
    let flags = table.clone().try_get_matches_from(&line).map_err(|error| match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => Exit::Answer(error.to_string()),
        _ => usage(&error),
    })?;
    if flags.get_flag("license") {
        return Err(Exit::Answer(concat!(include_str!("../../LICENSE-MIT")).to_owned()));
    }
    let mut warnings = Vec::new();
    let variables = variables(&table, &around.env, &mut warnings)?;
    let file = match config_path(&flags, &variables) {
        Some(path) => file(&table, Path::new(&path), around.read)?,
        None => Vec::new(),
    };
    // What stands in a higher layer hides what lower layers say, lists included.
    let hides = |layer: &[Setting], id: &str| layer.iter().any(|setting| setting.id == id);
    let from_line = |id: &str| flags.value_source(id) == Some(ValueSource::CommandLine);
    let lower = file.iter().filter(|setting| !hides(&variables, &setting.id)).chain(&variables);
    let lower = lower.filter(|setting| !from_line(&setting.id)).flat_map(|setting| setting.args.clone());
    let mut all: Vec<OsString> = line.first().cloned().into_iter().collect();
    all.extend(lower);
    all.extend(line.into_iter().skip(1));
    let matches = table.clone().try_get_matches_from(all).map_err(|error| usage(&error))?;
    let print = flags.get_flag("print_config").then(|| printed(&table, &matches));
    let args = Args::from_arg_matches(&matches).map_err(|error| usage(&error))?;
    args.into_parsed(warnings, print)
}

impl Args {
    fn into_parsed(self, mut warnings: Vec<String>, print: Option<String>) -> Result<Parsed, Exit> {
        let usage = |line: &str| Err(Exit::Usage(EXIT_USAGE, line.to_owned()));
        if self.enable_sasl {
            return usage("This server is not built with SASL support.");
        }
        if self.enable_ssl {
            return usage("This server is not built with TLS support.");
        }
        if self.memory_file.is_some() {
            return usage("This server cannot keep items in a memory file.");
        }
        if self.port == 0 && self.unix_socket.is_none() {
            return usage("There is nothing to listen on with TCP port 0; -1 lets the system choose a port.");
        }
        if self.max_item_size > self.memory_limit / 2 {
            return usage("Cannot set item size limit higher than 1/2 of memory max.");
        }
        let mut extended = Extended::default();
        for name_and_value in self.extended.iter().flat_map(|list| &list.0) {
            extended.apply(name_and_value).map_err(|line| Exit::Usage(EXIT_FAILURE, line))?;
        }
        extended.check().map_err(|line| Exit::Usage(EXIT_USAGE, line))?;
        let idle = [
            ("-f", self.slab_growth_factor.is_some()),
            ("-n", self.slab_min_size.is_some()),
            ("-N", self.napi_ids.is_some()),
        ];
        let idle: Vec<&str> = idle.iter().filter(|(_, given)| *given).map(|(letter, _)| *letter).collect();
        if !idle.is_empty() {
            warnings.push(format!("accepted without effect: {}", idle.join(", ")));
        }
        if !extended.without_effect.is_empty() {
            warnings.push(format!("accepted without effect: -o {}", extended.without_effect.join(",")));
        }
        if self.threads.is_some_and(|threads| threads.get() > 64) {
            warnings
                .push("a high number of worker threads is not recommended; the number of cores is enough".to_owned());
        }
        // A daemon leaves the directory that it was started in.
        let placed = |path: PathBuf| match self.daemon {
            true => std::path::absolute(&path).unwrap_or(path),
            false => path,
        };
        let config = Config {
            listen: self.listen.into_iter().flat_map(|list| list.0).collect(),
            // memcached's -1 is the system's 0, and its 0 is meant for Unix sockets only.
            port: self.port.max(0) as u16,
            unix_socket: self.unix_socket.map(placed),
            unix_mask: self.unix_mask,
            memory_bytes: self.memory_limit,
            item_bytes_max: self.max_item_size,
            connections_max: self.conn_limit,
            connection_memory_bytes: self.connection_memory.or(extended.connection_memory_bytes),
            turn_away: extended.maxconns_fast,
            idle_timeout_s: extended.idle_timeout_s,
            workers: self.threads,
            commands_per_turn: self.max_reqs_per_event,
            backlog: self.listen_backlog,
            protocol: self.protocol,
            evict: !self.disable_evictions,
            cas: !self.disable_cas,
            flush_allowed: !self.disable_flush_all,
            dump_allowed: !self.disable_dumping,
            watch_allowed: !self.disable_watch,
            shutdown_allowed: self.enable_shutdown,
            debug_commands: self.debug_commands,
            auth_file: self.auth_file.map(placed),
            prefix_delimiter: self.prefix_delimiter.unwrap_or(b':'),
            detail: self.prefix_delimiter.is_some(),
            track_sizes: extended.track_sizes,
            watcher_buffer_bytes: extended.watcher_buffer_bytes,
            tunables: extended.tunables,
            verbosity: self.verbose,
            reactor: self.reactor,
            panic_on_input: None,
        };
        let process = Process {
            user: self.user,
            daemon: self.daemon,
            pid_file: self.pidfile.map(placed),
            core_dumps: self.enable_coredumps,
            lock_memory: self.lock_memory,
        };
        Ok(Parsed { config, process, warnings, check: self.check_config, print })
    }
}

/// The table of options, with switches that can also be turned off: `--disable-cas=no` on the command line overrides a file.
fn table() -> clap::Command {
    Args::command().mut_args(|arg| match arg.get_action() {
        ArgAction::SetTrue if !COMMAND_LINE_ONLY.contains(&arg.get_id().as_str()) => arg
            .action(ArgAction::Set)
            .num_args(0..=1)
            .require_equals(true)
            .value_name("yes|no")
            .default_value("no")
            .default_missing_value("yes")
            .hide_default_value(true)
            .value_parser(switch),
        _ => arg,
    })
}

fn is_switch(arg: &Arg) -> bool {
    arg.is_require_equals_set()
}

/// An option of a lower layer, as the command line would say it.
struct Setting {
    id: String,
    args: Vec<OsString>,
}

impl Setting {
    /// `arg` set to `value`. A number of repetitions becomes as many flags.
    ///
    /// # Errors
    /// What is wrong with the value, checked as if it stood on the command line.
    fn new(table: &clap::Command, arg: &Arg, values: &[OsString]) -> Result<Setting, Exit> {
        let long = arg.get_long().unwrap_or_default();
        let mut args = Vec::new();
        for value in values {
            if matches!(arg.get_action(), ArgAction::Count) {
                let count: u8 = value.to_str().and_then(|text| text.trim().parse().ok()).ok_or_else(|| {
                    Exit::Usage(EXIT_USAGE, format!("a number from 0 to 255 is needed, not '{}'", value.display()))
                })?;
                args.extend((0..count).map(|_| OsString::from(format!("--{long}"))));
            } else {
                let mut text = OsString::from(format!("--{long}="));
                text.push(value);
                args.push(text);
            }
        }
        let line = [OsString::new()].into_iter().chain(args.iter().cloned());
        table.clone().try_get_matches_from(line).map_err(|error| usage(&error))?;
        Ok(Setting { id: arg.get_id().to_string(), args })
    }
}

/// The options that variables set. Variables that look like options and are none are named in `warnings`: whoever starts
/// containers adds such variables by himself, so they are no errors.
fn variables(
    table: &clap::Command,
    env: &[(OsString, OsString)],
    warnings: &mut Vec<String>,
) -> Result<Vec<Setting>, Exit> {
    let mut settings = Vec::new();
    let mut unknown = Vec::new();
    for (variable, value) in env {
        let Some(name) = variable.to_str().and_then(|name| name.strip_prefix(ENV_PREFIX)) else { continue };
        let option = options(table).find(|arg| {
            let long = arg.get_long().unwrap_or_default();
            long.to_ascii_uppercase().replace('-', "_") == name
        });
        match option {
            // Where a service is called memkv, Kubernetes tells every container of it in a variable with the name of an option.
            Some(_)
                if value.to_str().is_some_and(|value| value.starts_with("tcp://") || value.starts_with("udp://")) =>
            {
                unknown.push(format!("{ENV_PREFIX}{name}"));
            }
            Some(arg) => settings.push(
                Setting::new(table, arg, std::slice::from_ref(value))
                    .map_err(|exit| exit.about(&format!("{ENV_PREFIX}{name}")))?,
            ),
            None => unknown.push(format!("{ENV_PREFIX}{name}")),
        }
    }
    if !unknown.is_empty() {
        unknown.sort();
        warnings.push(format!("no options, ignored: {}", unknown.join(", ")));
    }
    Ok(settings)
}

/// The options that may be set by variables and keys.
fn options(table: &clap::Command) -> impl Iterator<Item = &Arg> {
    table.get_arguments().filter(|arg| !COMMAND_LINE_ONLY.contains(&arg.get_id().as_str()))
}

fn config_path(flags: &ArgMatches, variables: &[Setting]) -> Option<OsString> {
    if let Some(path) = flags.get_one::<PathBuf>("config") {
        return Some(path.clone().into_os_string());
    }
    let setting = variables.iter().find(|setting| setting.id == "config")?;
    // `--config=PATH` was checked when the setting was made; only the path behind the sign is of interest.
    let text = setting.args.last()?.to_str()?;
    text.split_once('=').map(|(_, path)| OsString::from(path))
}

/// The options that a file sets.
fn file(
    table: &clap::Command,
    path: &Path,
    read: &dyn Fn(&Path) -> std::io::Result<String>,
) -> Result<Vec<Setting>, Exit> {
    let shown = path.display();
    let wrong = |line: String| Exit::Usage(EXIT_USAGE, format!("{shown}: {line}"));
    let text = read(path).map_err(|error| wrong(format!("cannot read the configuration: {error}")))?;
    let keys: toml::Table = text.parse().map_err(|error: toml::de::Error| {
        let line = error.span().map_or(1, |span| text[..span.start].lines().count().max(1));
        wrong(format!("line {line}: {}", error.message().lines().next().unwrap_or("not TOML")))
    })?;
    let mut settings: Vec<Setting> = Vec::new();
    for (key, value) in &keys {
        let long = key.replace('_', "-");
        let arg = options(table)
            .find(|arg| arg.get_long() == Some(&long) && long != "config")
            .ok_or_else(|| wrong(format!("unknown key '{key}'")))?;
        if settings.iter().any(|setting| arg.get_id() == setting.id.as_str()) {
            return Err(wrong(format!("'{key}' is there twice")));
        }
        let values =
            values(arg, value).ok_or_else(|| wrong(format!("'{key}' cannot be of the type {}", value.type_str())))?;
        settings.push(Setting::new(table, arg, &values).map_err(|exit| exit.about(&format!("{shown}: {key}")))?);
    }
    Ok(settings)
}

/// A value of the file as words of the command line; `None` if its type fits no option, or not this one.
fn values(arg: &Arg, value: &toml::Value) -> Option<Vec<OsString>> {
    let takes_list = matches!(arg.get_action(), ArgAction::Append);
    match value {
        toml::Value::Array(list) if takes_list => list.iter().map(|value| word(arg, value)).collect(),
        toml::Value::Table(table) if arg.get_id() == "extended" => {
            table.iter().map(|(name, value)| extended::from_key(name, value).map(OsString::from)).collect()
        }
        value => word(arg, value).map(|word| vec![word]),
    }
}

fn word(arg: &Arg, value: &toml::Value) -> Option<OsString> {
    match value {
        toml::Value::Boolean(on) if is_switch(arg) => Some(if *on { "yes" } else { "no" }.into()),
        _ if is_switch(arg) => None,
        toml::Value::String(text) => Some(text.into()),
        toml::Value::Integer(number) => Some(number.to_string().into()),
        toml::Value::Float(number) => Some(number.to_string().into()),
        _ => None,
    }
}

/// All options and what they are set to, in the form that [`file`] reads.
fn printed(table: &clap::Command, matches: &ArgMatches) -> String {
    let mut keys = toml::Table::new();
    for arg in options(table).filter(|arg| arg.get_id() != "config") {
        let id = arg.get_id().as_str();
        let value = if is_switch(arg) {
            let on = *matches.get_one::<bool>(id).unwrap_or(&false);
            // What is hidden from the help is not there, unless somebody asks for it.
            (on || !arg.is_hide_set()).then_some(toml::Value::Boolean(on))
        } else if matches!(arg.get_action(), ArgAction::Count) {
            Some(toml::Value::Integer(i64::from(matches.get_count(id))))
        } else {
            let given = matches.value_source(id).is_some_and(|source| source != ValueSource::DefaultValue);
            let values = matches.get_raw(id).filter(|_| given || !arg.is_hide_set());
            let values: Option<Vec<toml::Value>> = values.map(|values| values.map(printed_value).collect());
            match (values, arg.get_action()) {
                (Some(values), ArgAction::Append) => Some(toml::Value::Array(values)),
                (Some(mut values), _) => values.pop(),
                (None, _) => None,
            }
        };
        if let Some(value) = value {
            keys.insert(arg.get_long().unwrap_or_default().to_owned(), value);
        }
    }
    keys.to_string()
}

fn printed_value(raw: &OsStr) -> toml::Value {
    let text = raw.to_string_lossy();
    match text.parse::<i64>() {
        Ok(number) if number.to_string() == text => toml::Value::Integer(number),
        _ => toml::Value::String(text.into_owned()),
    }
}

impl Exit {
    /// The same, with the name of what it is about in front.
    fn about(self, name: &str) -> Exit {
        match self {
            Exit::Usage(code, line) => Exit::Usage(code, format!("{name}: {line}")),
            answer => answer,
        }
    }
}

/// What is wrong, without clap's tips and usage.
fn usage(error: &clap::Error) -> Exit {
    // The texts of our own value parsers are memcached's, and complete.
    if error.kind() == ErrorKind::ValueValidation
        && let Some(wrong) = std::error::Error::source(error).and_then(|source| source.downcast_ref::<Wrong>())
    {
        return Exit::Usage(wrong.code, wrong.line.clone());
    }
    if error.kind() == ErrorKind::UnknownArgument
        && let Some(argument) = error.get(ContextKind::InvalidArg)
    {
        return Exit::Usage(EXIT_FAILURE, format!("Illegal argument '{argument}'"));
    }
    let text = error.to_string();
    let line = text.lines().next().unwrap_or("wrong command line");
    Exit::Usage(EXIT_FAILURE, line.strip_prefix("error: ").unwrap_or(line).to_owned())
}

/// What is wrong with a value, and the exit status that memcached has for it.
#[derive(Debug)]
struct Wrong {
    code: u8,
    line: String,
}

impl std::fmt::Display for Wrong {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.line)
    }
}

impl std::error::Error for Wrong {}

fn wrong(code: u8, line: impl Into<String>) -> Wrong {
    Wrong { code, line: line.into() }
}

/// The addresses of one `-l`.
#[derive(Clone, Debug)]
struct Endpoints(Vec<Endpoint>);

fn endpoints(text: &str) -> Result<Endpoints, Wrong> {
    let list: Result<_, String> = text.split([',', ';']).map(Endpoint::parse).collect();
    list.map(Endpoints).map_err(|line| wrong(crate::process::EXIT_SYSTEM, line))
}

/// The sub-options of one `-o`: names, some with `=value` behind them.
#[derive(Clone, Debug)]
struct Suboptions(Vec<String>);

fn suboptions(text: &str) -> Result<Suboptions, Wrong> {
    let list: Vec<String> = match text.trim_start() {
        "" => Vec::new(),
        list => list.split(',').map(str::to_owned).collect(),
    };
    // Each for itself, so that a wrong one is blamed on the layer that it stands in.
    for name_and_value in &list {
        Extended::default().apply(name_and_value).map_err(|line| wrong(EXIT_FAILURE, line))?;
    }
    Ok(Suboptions(list))
}

fn switch(text: &str) -> Result<bool, Wrong> {
    match text {
        "yes" | "true" | "on" | "1" => Ok(true),
        "no" | "false" | "off" | "0" => Ok(false),
        _ => Err(wrong(EXIT_USAGE, format!("'{text}' is neither yes nor no"))),
    }
}

fn path(text: &str) -> Result<PathBuf, Wrong> {
    match text.trim_start() {
        "" => Err(wrong(EXIT_USAGE, "the path is empty")),
        path => Ok(path.into()),
    }
}

fn text(text: &str) -> Result<String, Wrong> {
    Ok(text.trim_start().to_owned())
}

fn port(text: &str) -> Result<i32, Wrong> {
    match text.trim_start().parse::<i64>() {
        Ok(port @ -1..=65535) => Ok(port as i32),
        Ok(port) => Err(wrong(EXIT_USAGE, format!("ERROR: Invalid port number {port}."))),
        Err(_) => Err(wrong(EXIT_USAGE, format!("ERROR: Invalid port number {text}."))),
    }
}

fn udp_port(text: &str) -> Result<u16, Wrong> {
    match text.trim_start().parse::<i64>() {
        Ok(0) => Ok(0),
        Ok(-1 | 1..=65535) => Err(wrong(EXIT_USAGE, "UDP is not supported; only -U 0 is accepted.")),
        _ => Err(wrong(EXIT_USAGE, format!("ERROR: Invalid UDP port number {text}."))),
    }
}

fn protocol(text: &str) -> Result<Protocol, Wrong> {
    match text.trim_start() {
        "auto" => Ok(Protocol::Auto),
        "ascii" => Ok(Protocol::Ascii),
        "binary" => Err(wrong(EXIT_USAGE, "The binary protocol is not supported; -B is ascii or auto.")),
        _ => Err(wrong(EXIT_USAGE, format!("Invalid value for binding protocol: {text}"))),
    }
}

fn mask(text: &str) -> Result<u32, Wrong> {
    let mask = u32::from_str_radix(text.trim_start(), 8).ok().filter(|mask| *mask <= 0o777);
    mask.ok_or_else(|| wrong(EXIT_USAGE, format!("Invalid access mask '{text}'; it is octal, 777 at most.")))
}

fn delimiter(text: &str) -> Result<u8, Wrong> {
    // Not trimmed: a space would be a strange delimiter, but it is one.
    text.bytes().next().ok_or_else(|| wrong(EXIT_FAILURE, "No delimiter specified"))
}

fn growth_factor(text: &str) -> Result<f64, Wrong> {
    let factor = text.trim_start().parse().ok().filter(|factor: &f64| *factor > 1.0);
    factor.ok_or_else(|| wrong(EXIT_FAILURE, "Factor must be greater than 1"))
}

fn slab_min(text: &str) -> Result<NonZeroUsize, Wrong> {
    positive(text, "Chunk size must be greater than 0")
}

fn backlog(text: &str) -> Result<i32, Wrong> {
    let backlog = text.trim_start().parse().ok().filter(|backlog: &i32| *backlog >= 0);
    backlog.ok_or_else(|| wrong(EXIT_USAGE, format!("Invalid listen backlog {text}.")))
}

fn megabytes(text: &str) -> Result<usize, Wrong> {
    let error = || wrong(EXIT_USAGE, format!("Invalid memory limit {text}; it is a number of megabytes."));
    let megabytes: usize = text.trim_start().parse().map_err(|_| error())?;
    megabytes.checked_mul(1 << 20).filter(|bytes| (1..=isize::MAX as usize).contains(bytes)).ok_or_else(error)
}

fn item_size(text: &str) -> Result<usize, Wrong> {
    let text = text.trim_start();
    let (digits, unit) = match text.as_bytes().last() {
        Some(b'k' | b'K') => (&text[..text.len() - 1], 1 << 10),
        Some(b'm' | b'M') => (&text[..text.len() - 1], 1 << 20),
        _ => (text, 1),
    };
    let size = digits.parse::<usize>().ok().and_then(|number| number.checked_mul(unit));
    match size {
        None => Err(wrong(EXIT_USAGE, format!("Invalid item size limit {text}."))),
        Some(0..1024) => Err(wrong(EXIT_USAGE, "Item max size cannot be less than 1024 bytes.")),
        Some(size) if size > 1 << 30 => Err(wrong(EXIT_USAGE, "Cannot set item size limit higher than a gigabyte.")),
        Some(size) => Ok(size),
    }
}

fn connections(text: &str) -> Result<usize, Wrong> {
    positive(text, "Maximum connections must be greater than 0").map(NonZeroUsize::get)
}

fn threads(text: &str) -> Result<NonZeroUsize, Wrong> {
    /// More than any machine has cores; memcached warns above 64.
    const THREADS_MAX: usize = crate::limits::WORKERS_MAX;
    let threads = positive(text, "Number of threads must be greater than 0")?;
    if threads.get() > THREADS_MAX {
        return Err(wrong(EXIT_FAILURE, format!("Number of threads must not be greater than {THREADS_MAX}")));
    }
    Ok(threads)
}

fn requests(text: &str) -> Result<usize, Wrong> {
    positive(text, "Number of requests per event must be greater than 0").map(NonZeroUsize::get)
}

fn positive(text: &str, error: &str) -> Result<NonZeroUsize, Wrong> {
    let number = text.trim_start().parse::<i64>().ok().and_then(|number| usize::try_from(number).ok());
    number.and_then(NonZeroUsize::new).ok_or_else(|| wrong(EXIT_FAILURE, error))
}

#[cfg(test)]
mod tests;
