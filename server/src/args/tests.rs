use super::*;

fn words(line: &str) -> impl Iterator<Item = OsString> {
    std::iter::once("memkv").chain(line.split_whitespace()).map(OsString::from)
}

fn parsed(line: &str) -> Result<Parsed, Exit> {
    parse(words(line), &Surroundings::none())
}

/// What a command line, an environment and a file make of it.
fn layered(line: &str, env: &[(&str, &str)], file: &str) -> Result<Parsed, Exit> {
    let env = env.iter().map(|(name, value)| (OsString::from(name), OsString::from(value))).collect();
    let text = file.to_owned();
    let read = move |path: &Path| {
        assert_eq!(path, Path::new("memkv.toml"));
        Ok(text.clone())
    };
    let line = if file.is_empty() { line.to_owned() } else { format!("--config memkv.toml {line}") };
    parse(words(&line), &Surroundings { env, read: &read })
}

fn config(line: &str, env: &[(&str, &str)], file: &str) -> Config {
    layered(line, env, file).unwrap().config
}

fn refusal(result: Result<Parsed, Exit>) -> (u8, String) {
    match result {
        Err(Exit::Usage(code, line)) => (code, line),
        other => panic!("{other:?}"),
    }
}

#[test]
fn without_flags_the_defaults_hold() {
    let Parsed { config, process, warnings, check, print } = parsed("").unwrap();
    assert_eq!(format!("{config:?}"), format!("{:?}", Config::default()));
    assert_eq!(process, Process::default());
    assert!(warnings.is_empty() && !check && print.is_none());
}

#[test]
fn p18_letters_and_long_names_mean_the_same() {
    let short = parsed(
        "-p 5 -l ::1,a:7 -m 100 -I 2m -c 9 -t 3 -R 7 -b 8 -MCFXWAdrkL -vv -u root -U 0 -s /s -a 770 -P /p -Y /y \
         -D / -B ascii -o idle_timeout=5",
    )
    .unwrap();
    let long = parsed(
        "--port=5 --listen=::1 --listen a:7 --memory-limit=100 --max-item-size=2048k --conn-limit=9 --threads=3 \
         --max-reqs-per-event=7 --listen-backlog=8 --disable-evictions --disable-cas --disable-flush-all \
         --disable-dumping --disable-watch --enable-shutdown --daemon --enable-coredumps --lock-memory \
         --enable-largepages --verbose --verbose --user=root --udp-port=0 --unix-socket /s --unix-mask=770 \
         --pidfile /p --auth-file=/y --prefix-delimiter=/ --protocol=ascii --extended idle_timeout=5",
    )
    .unwrap();
    assert_eq!(format!("{short:?}"), format!("{long:?}"));
    let Config { port, memory_bytes, item_bytes_max, verbosity, evict, cas, flush_allowed, .. } = short.config;
    assert_eq!((port, memory_bytes, item_bytes_max, verbosity), (5, 100 << 20, 2 << 20, 2));
    assert!(!evict && !cas && !flush_allowed);
    let Config { dump_allowed, watch_allowed, shutdown_allowed, unix_mask, prefix_delimiter, detail, .. } =
        short.config;
    assert!(!dump_allowed && !watch_allowed && shutdown_allowed && detail);
    assert_eq!((unix_mask, prefix_delimiter, short.config.idle_timeout_s), (0o770, b'/', 5));
    let Process { daemon, core_dumps, lock_memory, pid_file, .. } = short.process;
    assert!(daemon && core_dumps && lock_memory && pid_file == Some("/p".into()));
}

#[test]
fn connection_memory_follows_the_connections_unless_it_is_set() {
    for (line, expected) in [
        ("", 32 << 20),
        ("-c 10", 32 << 20),
        ("-c 4096", 64 << 20),
        ("-c 4096 --connection-memory 7", 7 << 20),
        ("-o read_buf_mem_limit=9", 9 << 20),
        ("-o read_buf_mem_limit=9 --connection-memory 7", 7 << 20),
        ("-o read_buf_mem_limit=0", 32 << 20),
    ] {
        assert_eq!(parsed(line).unwrap().config.connection_memory(), expected, "{line}");
    }
}

#[test]
fn p18_long_names_may_be_cut_short() {
    assert_eq!(parsed("--memory-l 100").unwrap().config.memory_bytes, 100 << 20);
}

#[test]
fn p18_the_last_of_several_counts_but_for_lists() {
    let config = parsed("-p 1 -p 2 -l a -l b,c;d").unwrap().config;
    assert_eq!((config.port, config.listen.len()), (2, 4));
}

#[test]
fn p18_white_space_in_front_of_an_argument_is_skipped() {
    let line = ["memkv", "-p", " 5", "-m", "\t100", "-I", " 2m"].map(OsString::from);
    let config = parse(line, &Surroundings::none()).unwrap().config;
    assert_eq!((config.port, config.memory_bytes, config.item_bytes_max), (5, 100 << 20, 2 << 20));
}

#[test]
fn p18_ports() {
    assert_eq!(parsed("-p -1").unwrap().config.port, 0);
    assert_eq!(parsed("-p 65535").unwrap().config.port, 65535);
    assert!(parsed("-p 0 -s /s").is_ok());
}

#[test]
fn p18_what_is_wrong_is_said_in_one_line() {
    for (line, code, expected) in [
        ("-p 65536", 64, "ERROR: Invalid port number 65536."),
        ("-p x", 64, "ERROR: Invalid port number x."),
        ("-p 0", 64, "There is nothing to listen on with TCP port 0; -1 lets the system choose a port."),
        ("-I 1000", 64, "Item max size cannot be less than 1024 bytes."),
        ("-I 2000m", 64, "Cannot set item size limit higher than a gigabyte."),
        ("-I 33m", 64, "Cannot set item size limit higher than 1/2 of memory max."),
        ("-c 0", 1, "Maximum connections must be greater than 0"),
        ("-t 0", 1, "Number of threads must be greater than 0"),
        ("-R -1", 1, "Number of requests per event must be greater than 0"),
        ("-f 1", 1, "Factor must be greater than 1"),
        ("-n 0", 1, "Chunk size must be greater than 0"),
        ("-D ", 1, "a value is required for '--prefix-delimiter <CHAR>' but none was supplied"),
        ("--prefix-delimiter=", 1, "No delimiter specified"),
        ("-U 11211", 64, "UDP is not supported; only -U 0 is accepted."),
        ("-B x", 64, "Invalid value for binding protocol: x"),
        ("-B binary", 64, "The binary protocol is not supported; -B is ascii or auto."),
        ("-S", 64, "This server is not built with SASL support."),
        ("-Z", 64, "This server is not built with TLS support."),
        ("-e /f", 64, "This server cannot keep items in a memory file."),
        ("-l [::1", 71, "no ] in address '[::1'"),
        ("-l a:x", 71, "Invalid port number: \"x\""),
        ("-l notls:a", 71, "'notls' option is valid only when SSL is enabled"),
        ("--nonsense", 1, "Illegal argument '--nonsense'"),
        ("-y", 1, "Illegal argument '-y'"),
        ("-m", 1, "a value is required for '--memory-limit <MB>' but none was supplied"),
        ("-m 9q", 64, "Invalid memory limit 9q; it is a number of megabytes."),
        ("-a 888", 64, "Invalid access mask '888'; it is octal, 777 at most."),
        ("-o nonsense", 1, "Illegal suboption \"nonsense\""),
        ("-o hot_lru_pct=50,warm_lru_pct=50", 64, "hot_lru_pct + warm_lru_pct cannot be more than 80% combined"),
        ("surplus", 1, "Illegal argument 'surplus'"),
    ] {
        assert_eq!(refusal(parsed(line)), (code, expected.to_owned()), "{line}");
    }
}

#[test]
fn p18_options_of_other_designs_are_named_in_one_warning() {
    let Parsed { warnings, .. } = parsed("-f 1.5 -n 48 -o slab_reassign,idle_timeout=5 -o modern").unwrap();
    assert_eq!(warnings, ["accepted without effect: -f, -n", "accepted without effect: -o slab_reassign,modern"]);
    assert!(parsed("-B auto -U 0 -L").unwrap().warnings.is_empty());
}

#[test]
fn help_and_version_are_answers() {
    let answer = |line| match parsed(line) {
        Err(Exit::Answer(text)) => text,
        other => panic!("{line}: {other:?}"),
    };
    assert_eq!(answer("-V"), format!("memkv {}\n", crate::PROGRAM_VERSION));
    assert!(answer("-h").contains("--memory-limit"));
    assert!(answer("-i").starts_with("MIT License"));
}

#[test]
fn p18_the_help_names_what_is_there_and_nothing_else() {
    let Err(Exit::Answer(help)) = parsed("-h") else { panic!("no help") };
    for absent in
        ["enable-ssl", "sasl", "ext_path", "proxy_config", "drop_privileges", "udp", "UDP", "binary", "slab", "TLS"]
    {
        assert!(!help.contains(absent), "{absent}");
    }
    // Every sub-option that it names has an effect.
    let named = help.lines().skip_while(|line| !line.starts_with("Further options")).skip(1);
    let names: Vec<&str> = named
        .take_while(|line| !line.is_empty())
        .filter_map(|line| line.strip_prefix("  ")?.split(' ').next())
        .collect();
    let names: Vec<&str> = names.into_iter().filter(|name| !name.is_empty()).collect();
    assert!(names.len() >= 8, "{names:?}");
    for name in names {
        let mut extended = Extended::default();
        extended.apply(&name.replace("NUM", "5")).unwrap();
        assert!(extended.without_effect.is_empty(), "{name}");
    }
    // Every other option is named.
    for arg in options(&table()).filter(|arg| !arg.is_hide_set()) {
        assert!(help.contains(&format!("--{}", arg.get_long().unwrap())), "{}", arg.get_id());
    }
}

#[test]
fn flags_come_before_variables_before_the_file_before_defaults() {
    let file = "memory-limit = 100\nport = 3\nconn_limit = 7\n";
    let env = [("MEMKV_PORT", "2"), ("MEMKV_CONN_LIMIT", "8"), ("OTHER", "x")];
    let config = config("-p 1", &env, file);
    assert_eq!((config.port, config.connections_max, config.memory_bytes), (1, 8, 100 << 20));
    assert_eq!(config.backlog, 1024);
}

#[test]
fn switches_can_be_turned_off_by_whoever_comes_first() {
    let file = "disable-cas = true\ndisable-evictions = true\n";
    assert!(!config("", &[], file).cas);
    assert!(config("--disable-cas=no", &[], file).cas);
    assert!(config("", &[("MEMKV_DISABLE_CAS", "false")], file).cas);
    let config = config("-C", &[("MEMKV_DISABLE_CAS", "no")], file);
    assert!(!config.cas && !config.evict);
}

#[test]
fn lists_replace_lists() {
    let file = "listen = [\"a\", \"b:5\"]\nextended = [\"idle_timeout=5\", \"no_maxconns_fast\"]\nverbose = 2\n";
    let from_file = config("", &[], file);
    assert_eq!((from_file.listen.len(), from_file.idle_timeout_s, from_file.turn_away), (2, 5, false));
    assert_eq!(from_file.verbosity, 2);
    let above = config("-l c -v", &[("MEMKV_EXTENDED", "idle_timeout=6")], file);
    assert_eq!((above.listen.len(), above.idle_timeout_s, above.turn_away), (1, 6, true));
    assert_eq!(above.verbosity, 1);
}

#[test]
fn sub_options_may_be_a_table_of_the_file() {
    let config = config("", &[], "[extended]\nidle_timeout = 60\nmaxconns_fast = false\ntrack_sizes = true\n");
    assert_eq!((config.idle_timeout_s, config.turn_away, config.track_sizes), (60, false, true));
}

#[test]
fn errors_of_variables_and_files_say_where_they_are() {
    for (env, file, code, expected) in [
        (&[("MEMKV_PORT", "x")][..], "", 64, "MEMKV_PORT: ERROR: Invalid port number x."),
        (&[("MEMKV_DISABLE_CAS", "maybe")], "", 64, "MEMKV_DISABLE_CAS: 'maybe' is neither yes nor no"),
        (&[("MEMKV_VERBOSE", "loud")], "", 64, "MEMKV_VERBOSE: a number from 0 to 255 is needed, not 'loud'"),
        (&[("MEMKV_EXTENDED", "x")], "", 1, "MEMKV_EXTENDED: Illegal suboption \"x\""),
        (&[], "memory = 5", 64, "memkv.toml: unknown key 'memory'"),
        (&[], "port = 5\nnonsense = 1", 64, "memkv.toml: unknown key 'nonsense'"),
        (&[], "[server]\nport = 5", 64, "memkv.toml: unknown key 'server'"),
        (&[], "config = 'x'", 64, "memkv.toml: unknown key 'config'"),
        (&[], "help = true", 64, "memkv.toml: unknown key 'help'"),
        (&[], "memory-limit = 5\nmemory_limit = 6", 64, "memkv.toml: 'memory_limit' is there twice"),
        (&[], "conn-limit = 0", 1, "memkv.toml: conn-limit: Maximum connections must be greater than 0"),
        (&[], "port = true", 64, "memkv.toml: 'port' cannot be of the type boolean"),
        (&[], "disable-cas = 'yes'", 64, "memkv.toml: 'disable-cas' cannot be of the type string"),
        (&[], "port = [1]", 64, "memkv.toml: 'port' cannot be of the type array"),
        (&[], "[extended]\nnonsense = 1", 1, "memkv.toml: extended: Illegal suboption \"nonsense=1\""),
        (&[], "\nport =", 64, "memkv.toml: line 2: "),
    ] {
        let (found_code, found) = refusal(layered("", env, file));
        assert_eq!(found_code, code, "{found}");
        let matches = if expected.ends_with(": ") { found.starts_with(expected) } else { found == expected };
        assert!(matches && !found.contains('\n'), "{found} instead of {expected}");
    }
    let missing = parsed("--config nowhere.toml");
    let (code, line) = refusal(missing);
    assert_eq!(code, 64);
    assert!(line.starts_with("nowhere.toml: cannot read the configuration: "), "{line}");
}

#[test]
fn unknown_variables_are_named_and_ignored() {
    let Parsed { warnings, .. } = layered("", &[("MEMKV_SERVICE_HOST", "x"), ("MEMKV_", "")], "").unwrap();
    assert_eq!(warnings, ["no options, ignored: MEMKV_, MEMKV_SERVICE_HOST"]);
    let parsed = layered("", &[("MEMKV_PORT", "tcp://10.0.0.1:11211")], "").unwrap();
    assert_eq!((parsed.config.port, parsed.warnings.len()), (11211, 1));
}

#[test]
fn the_file_may_be_named_by_a_variable() {
    let read = |path: &Path| match path.to_str() {
        Some("/etc/memkv.toml") => Ok("port = 77".to_owned()),
        _ => Err(std::io::ErrorKind::NotFound.into()),
    };
    let env = vec![("MEMKV_CONFIG".into(), "/etc/memkv.toml".into())];
    assert_eq!(parse(words(""), &Surroundings { env, read: &read }).unwrap().config.port, 77);
}

#[test]
fn what_is_printed_is_read_as_the_same() {
    let line = "-p 5 -l ::1,a:7 -m 100 -I 2m -t 3 -MF -vv -u root -s /s -a 070 -Y /y -D 1 -B ascii -o idle_timeout=5,modern -k";
    let original = parsed(&format!("{line} --print-config")).unwrap();
    let text = original.print.clone().unwrap();
    let again = layered("", &[], &text).unwrap();
    assert_eq!(format!("{:?}", again.config), format!("{:?}", original.config), "{text}");
    assert_eq!(again.process, original.process);
    let defaults = layered("", &[], &parsed("--print-config").unwrap().print.unwrap()).unwrap();
    assert_eq!(format!("{:?}", defaults.config), format!("{:?}", Config::default()));
}
