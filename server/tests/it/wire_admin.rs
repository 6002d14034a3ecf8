//! The wire table of statistics and administration: protocol.md sections 9.3, 10 and the errors of 11, and the commands that are our
//! own. Run as in [`table`](crate::table).

use memkv_server::Config;

use crate::support::config;
use crate::table::{BAD_LINE, Table, case, key, rows};

const BADCLASS: &str = "BADCLASS invalid class id\r\n";
const NOTSTARTED: &str = "NOTSTARTED no items to crawl\r\n";
const NOSPARE: &str = "NOSPARE source class has no spare pages\r\n";
const USAGE: &str = "CLIENT_ERROR usage: stats detail on|off|dump\r\n";
const BAD_BASE64: &str = "CLIENT_ERROR error decoding key\r\n";

/// A noreply set, so that no answer waits before what follows.
fn quiet(key: &str, more: &str) -> String {
    format!("set {key} {more} noreply\r\n1\r\n")
}

#[rustfmt::skip] // a table: one row a line
fn statistics() -> Table {
    let a = quiet("a", "0 0 1");
    vec![(
        config(),
        vec![
            case("9 unknown topics", "stats nonsense\r\nstats threads\r\nstats malloc\r\nstats maps\r\nstats proxy\r\nstats sizes_enable\r\n", "ERROR\r\n".repeat(6)),
            case("9 exact words", "stats it\r\nstats SETTINGS\r\n", "ERROR\r\n".repeat(2)),
            case("9.3 extstore", "stats extstore\r\nstats extstore foo\r\n", "END\r\n".repeat(2)),
            case("9.3 sizes", "stats sizes\r\n", "STAT sizes_status disabled\r\nEND\r\n"),
            case("9.3 reset", "stats reset\r\nstats reset noreply\r\n", "RESET\r\nRESET\r\n"),
            case("9.3 detail counts get, hit, set and delete", format!("stats detail on\r\nstats reset\r\n{}get p:1 p:2 plain\r\ndelete p:1\r\ndelete p:1\r\nms p:m 1 q\r\n1\r\nmg p:m\r\nincr p:1 1\r\nadd q:1 0 0 1\r\n1\r\nadd q:1 0 0 1\r\n1\r\ngat 0 q:1\r\nstats detail dump\r\nstats detail off\r\nget p:1\r\nstats detail dump\r\nstats reset\r\nstats detail dump\r\n", quiet("p:1", "0 0 1")), "OK\r\nRESET\r\nVALUE p:1 0 1\r\n1\r\nEND\r\nDELETED\r\nNOT_FOUND\r\nHD\r\nNOT_FOUND\r\nSTORED\r\nNOT_STORED\r\nVALUE q:1 0 1\r\n1\r\nEND\r\nPREFIX p get 2 hit 1 set 1 del 2\r\nPREFIX q get 1 hit 1 set 2 del 0\r\nEND\r\nOK\r\nEND\r\nPREFIX p get 2 hit 1 set 1 del 2\r\nPREFIX q get 1 hit 1 set 2 del 0\r\nEND\r\nRESET\r\nEND\r\n"),
            case("9.3 detail without on, off or dump", "stats detail\r\nstats detail foo\r\nstats detail noreply\r\n", USAGE.repeat(3)),
            case("9.3 detail dump of nothing", "stats detail dump foo\r\n", "END\r\n"),
            case("9.3 cachedump", format!("{a}stats cachedump 1 0\r\nstats cachedump 1 100\r\nstats cachedump 2 0\r\nstats cachedump 63 1\r\n"), "ITEM a [1 b; 0 s]\r\nEND\r\n".repeat(2) + "END\r\nEND\r\n").alone(),
            case("9.3 cachedump shows the expiry", format!("{}stats cachedump 1 0\r\n", quiet("b", "0 1800000000 1")), "ITEM b [1 b; 1800000000 s]\r\nEND\r\n").alone(),
            case("9.3 cachedump leaves binary keys out", "ms AGEKYg== 1 b q\r\n1\r\nstats cachedump 1 0\r\n", "END\r\n").alone(),
            case("9.3 cachedump up to a limit", format!("{a}{a}stats cachedump 1 1\r\n"), "ITEM a [1 b; 0 s]\r\nEND\r\n").alone(),
            case("9.3 cachedump with too few words", "stats cachedump\r\nstats cachedump 1\r\n", "CLIENT_ERROR bad command line\r\n".repeat(2)),
            case("9.3 cachedump with no numbers", "stats cachedump a b\r\nstats cachedump 1 x\r\n", BAD_LINE.repeat(2)),
            case("9.3 cachedump of no class", "stats cachedump 64 1\r\n", "CLIENT_ERROR Illegal slab id\r\n"),
        ],
    ),
    (
        Config { dump_allowed: false, ..config() },
        vec![
            case("9.3 cachedump with -X", "stats cachedump 1 0\r\nstats cachedump\r\n", "CLIENT_ERROR stats cachedump not allowed\r\n".repeat(2)),
            case("9.3 detail with -X", "stats detail on\r\nstats detail dump\r\nstats detail\r\n", "CLIENT_ERROR stats detail not allowed\r\n".repeat(3)),
            case("10 lru_crawler metadump with -X", "lru_crawler metadump all\r\n", "ERROR metadump not allowed\r\n"),
            case("10 lru_crawler mgdump with -X", "lru_crawler mgdump all\r\n", "ERROR key dump not allowed\r\n"),
            case("ml with -X", "ml a\r\n", "ERROR key dump not allowed\r\n"),
            case("hotkeys with -X", "stats hotkeys\r\n", "CLIENT_ERROR stats hotkeys not allowed\r\n"),
        ],
    ),
    (
        Config { track_sizes: true, ..config() },
        vec![
            case("9.3 sizes with track_sizes", format!("{a}{}set c 0 0 20 noreply\r\n12345678901234567890\r\nstats sizes\r\n", quiet("b", "0 0 1")), "STAT 64 2\r\nSTAT 96 1\r\nEND\r\n").alone(),
        ],
    )]
}

rows! {
    statistics:
    row_9_forms = "9",
    row_9_3_extstore = "9.3 extstore",
    row_9_3_sizes = "9.3 sizes",
    row_9_3_reset = "9.3 reset",
    row_9_3_detail = "9.3 detail",
    row_9_3_cachedump = "9.3 cachedump",
    row_10_metadump_forbidden = "10 lru_crawler metadump",
    row_10_mgdump_forbidden = "10 lru_crawler mgdump",
    ml_forbidden = "ml",
    hotkeys_forbidden = "hotkeys",
}

#[rustfmt::skip] // a table: one row a line
fn administration() -> Table {
    let dump = |key: &str, exp: &str, size: usize, flags: u32| format!("key={key} exp={exp} la={{n}} cas={{n}} fetch=no cls=1 size={size} flags={flags} \n");
    vec![(
        config(),
        vec![
            case("10 cache_memlimit", "cache_memlimit 32\r\ncache_memlimit 16 noreply\r\ncache_memlimit 16\r\n", "OK\r\nOK\r\n"),
            case("10 cache_memlimit is no number", "cache_memlimit\r\ncache_memlimit x\r\ncache_memlimit -5\r\ncache_memlimit noreply\r\n", "ERROR\r\n".repeat(3)),
            case("10 cache_memlimit too small", "cache_memlimit 7\r\ncache_memlimit 0\r\n", "MEMLIMIT_TOO_SMALL cannot set maxbytes to less than 8m\r\n".repeat(2)),
            case("10 cache_memlimit too large", "cache_memlimit 1000000001\r\n", "MEMLIMIT_ADJUST_FAILED input value is megabytes not bytes\r\n"),
            case("10 cache_memlimit beyond the machine", "cache_memlimit 1000000000\r\n", "MEMLIMIT_ADJUST_FAILED out of bounds or unable to adjust\r\n"),
            case("10 slabs reassign", "slabs reassign 1 1\r\nslabs reassign 99 99\r\nslabs reassign 1 99\r\nslabs reassign -1 1\r\nslabs reassign 1 2\r\nslabs reassign 1 0\r\nslabs reassign 0 1\r\n", format!("{}{}{}", "SAME src and dst class are identical\r\n".repeat(2), "BADCLASS invalid src or dst class id\r\n".repeat(2), NOSPARE.repeat(3))),
            case("10 slabs reassign of no numbers", "slabs reassign x 1\r\nslabs reassign 1 x\r\n", BAD_LINE.repeat(2)),
            case("10 slabs reassign with another number of words", "slabs reassign\r\nslabs reassign 1\r\nslabs reassign 1 2 3\r\nslabs\r\nslabs foo\r\n", "ERROR\r\n".repeat(5)),
            case("10 slabs reassign with noreply", "slabs reassign 1 2 noreply\r\n", ""),
            case("10 slabs automove", "slabs automove 0\r\nslabs automove 2\r\nslabs automove 1\r\nslabs automove 1 noreply\r\n", "OK\r\n".repeat(3)),
            case("10 slabs automove is no level", "slabs automove\r\nslabs automove 3\r\nslabs automove x\r\n", format!("ERROR\r\nERROR\r\n{BAD_LINE}")),
            case("10 slabs automove ratio", "slabs automove ratio 0.5\r\nslabs automove freeratio 0.02\r\nslabs automove ratio 0.8\r\nslabs automove freeratio 0.01\r\nslabs automove ratio\r\nslabs automove ratio x\r\n", format!("{}ERROR\r\nERROR\r\n", "OK\r\n".repeat(4))),
            case("10 slabs automove window", "slabs automove window 3\r\nslabs automove window 1800\r\nslabs automove window 10\r\nslabs automove window 2\r\nslabs automove window 1801\r\nslabs automove window x\r\n", format!("{}{}{BAD_LINE}", "OK\r\n".repeat(3), "CLIENT_ERROR automove window too low or too high\r\n".repeat(2))),
            case("10 lru tune", "lru tune 10 20 0.1 2\r\nlru tune 20 40 0.2 2.0\r\nlru tune 50 40 0.1 2\r\nlru tune 50 20 0 2\r\nlru tune 50 20 x 2\r\nlru tune 50 20 1\r\nlru tune\r\n", "OK\r\nOK\r\nERROR hot and warm pcts must not exceed 80\r\nERROR hot/warm age factors must be greater than 0\r\nERROR\r\nERROR\r\nERROR\r\n"),
            case("10 lru mode", "lru mode flat\r\nlru mode segmented\r\nlru mode foo\r\nlru mode\r\nlru\r\nlru foo bar\r\n", format!("OK\r\nOK\r\n{}", "ERROR\r\n".repeat(4))),
            case("10 lru temp_ttl", "lru temp_ttl 10\r\nlru temp_ttl -1\r\nlru temp_ttl x\r\nlru temp_ttl\r\n", "OK\r\nOK\r\nERROR\r\nERROR\r\n"),
            case("10 lru_crawler enable and disable", "lru_crawler enable\r\nlru_crawler disable\r\nlru_crawler disable\r\nlru_crawler crawl all\r\nlru_crawler enable\r\n", "ERROR failed to start lru crawler thread\r\nOK\r\nOK\r\nCLIENT_ERROR lru crawler disabled\r\nOK\r\n"),
            case("10 lru_crawler disable forbids dumps", "lru_crawler disable noreply\r\nlru_crawler metadump all\r\nlru_crawler enable\r\n", "CLIENT_ERROR lru crawler disabled\r\nOK\r\n").alone(),
            case("10 lru_crawler sleep", "lru_crawler sleep 0\r\nlru_crawler sleep 1000000\r\nlru_crawler sleep 100\r\nlru_crawler sleep 1000001\r\nlru_crawler sleep x\r\nlru_crawler sleep\r\n", format!("{}CLIENT_ERROR sleep must be one second or less\r\n{BAD_LINE}ERROR\r\n", "OK\r\n".repeat(3))),
            case("10 lru_crawler tocrawl", "lru_crawler tocrawl 5\r\nlru_crawler tocrawl 0\r\nlru_crawler tocrawl x\r\nlru_crawler tocrawl\r\n", format!("OK\r\nOK\r\n{BAD_LINE}ERROR\r\n")),
            case("10 lru_crawler crawl", "lru_crawler crawl 0\r\nlru_crawler crawl 64\r\nlru_crawler crawl 1,99\r\nlru_crawler crawl foo\r\nlru_crawler crawl 2,3\r\nlru_crawler crawl hash\r\nlru_crawler crawl\r\n", format!("{}{NOTSTARTED}ERROR an unknown error happened\r\nERROR\r\n", BADCLASS.repeat(4))),
            case("10 lru_crawler else", "lru_crawler\r\nlru_crawler foo\r\nlru_crawler foo bar\r\nlru_crawler foo noreply\r\n", "ERROR\r\n".repeat(3)),
            case("10 lru_crawler metadump", format!("{}lru_crawler metadump all\r\n", quiet("a", "0 0 1")), format!("OK\r\n{}END\r\n", dump("a", "-1", 61, 0))).alone(),
            case("10 lru_crawler metadump of a class list", format!("{}lru_crawler metadump 5,1\r\n", quiet("a", "7 1800000000 1")), format!("OK\r\n{}END\r\n", dump("a", "1800000000", 65, 7))).alone(),
            case("10 lru_crawler metadump hash", "lru_crawler metadump hash\r\n", "OK\r\nEND\r\n").alone(),
            case("10 lru_crawler metadump encodes keys", format!("{}lru_crawler metadump all foo\r\n", quiet("a%\x01\u{e9}:-._~Z9", "0 0 1")), format!("OK\r\n{}END\r\n", dump("a%25%01%C3%A9%3A-._~Z9", "-1", 72, 0))).alone(),
            case("10 lru_crawler metadump of other classes", "lru_crawler metadump 0\r\nlru_crawler metadump 64\r\nlru_crawler metadump x\r\nlru_crawler metadump 2\r\nlru_crawler metadump\r\n", format!("{}{NOTSTARTED}ERROR\r\n", BADCLASS.repeat(3))),
            case("10 lru_crawler mgdump", format!("{}lru_crawler mgdump all\r\n", quiet("a", "0 0 1")), "OK\r\nmg a\r\nEN\r\n").alone(),
            case("10 lru_crawler mgdump of a key in base64", "ms AGEKYg== 1 b q\r\n1\r\nlru_crawler mgdump hash\r\n", "OK\r\nmg AGEKYg== b\r\nEN\r\n").alone(),
            case("10 lru_crawler mgdump of other classes", "lru_crawler mgdump 0\r\nlru_crawler mgdump 2\r\nlru_crawler mgdump\r\n", format!("{BADCLASS}{NOTSTARTED}ERROR\r\n")),
            case("10 verbosity", "verbosity 5\r\nverbosity 0\r\n", "OK\r\nOK\r\n"),
            case("10 refresh_certs", "refresh_certs\r\nrefresh_certs noreply\r\n", "Error TLS not enabled\r\n"),
            case("10 extstore", "extstore item_size 512\r\nextstore item_age 4294967295\r\nextstore low_ttl 0\r\nextstore recache_rate 2000\r\nextstore compact_under 0\r\nextstore drop_under 0\r\nextstore max_sleep 1000000\r\nextstore max_frag 0.8\r\nextstore drop_unread 0\r\nextstore free_memchunks 1 2\r\n", "OK\r\n".repeat(10)),
            case("10 extstore of other settings", "extstore\r\nextstore foo 1\r\nextstore item_size\r\nextstore item_size x\r\nextstore free_memchunks 1\r\nextstore foo noreply\r\n", "ERROR\r\n".repeat(5)),
            case("10 misbehave", "misbehave\r\n", "ERROR\r\n"),
            case("11 errors", "watch foo\r\nwatch fetchers foo\r\n", "ERROR\r\nERROR\r\n"),
        ],
    ),
    (
        Config { watch_allowed: false, ..config() },
        vec![case("11 errors with -W", "watch\r\nwatch fetchers\r\n", "CLIENT_ERROR watch commands not allowed\r\nERROR cannot pipeline other commands before watch\r\n").uncut().alone()],
    )]
}

rows! {
    administration:
    row_10_cache_memlimit = "10 cache_memlimit",
    row_10_slabs_reassign = "10 slabs reassign",
    row_10_slabs_automove = "10 slabs automove",
    row_10_lru_tune = "10 lru tune",
    row_10_lru_mode = "10 lru mode",
    row_10_lru_temp_ttl = "10 lru temp_ttl",
    row_10_lru_crawler_enable = "10 lru_crawler enable",
    row_10_lru_crawler_disable = "10 lru_crawler disable",
    row_10_lru_crawler_sleep = "10 lru_crawler sleep",
    row_10_lru_crawler_tocrawl = "10 lru_crawler tocrawl",
    row_10_lru_crawler_crawl = "10 lru_crawler crawl",
    row_10_lru_crawler_else = "10 lru_crawler else",
    row_10_lru_crawler_metadump = "10 lru_crawler metadump",
    row_10_lru_crawler_mgdump = "10 lru_crawler mgdump",
    row_10_verbosity = "10 verbosity",
    row_10_refresh_certs = "10 refresh_certs",
    row_10_extstore = "10 extstore",
    row_10_misbehave = "10 misbehave",
    row_11_errors = "11 errors",
}

/// What is not memcached's: ml and mp.
#[rustfmt::skip] // a table: one row a line
fn prefixes() -> Table {
    let some = format!("{}{}{}", quiet("user:1", "5 0 1"), quiet("users", "0 0 1"), quiet("other", "0 0 1"));
    vec![(
        config(),
        vec![
            case("ml lists keys", format!("{some}ml user:\r\nml nothing\r\n"), "HD kuser:1\r\nEN\r\nEN\r\n"),
            case("ml answers flags in their order", format!("{some}ml user: t s f h c l\r\nml user: s k O9 t\r\n"), "HD kuser:1 t-1 s1 f5 h0 c{n} l{n}\r\nEN\r\nHD s1 kuser:1 O9 t-1\r\nEN O9\r\n"),
            case("ml shows marks", format!("{some}md user:1 I\r\nml user:\r\nmg user:1\r\nml user:\r\n"), "HD\r\nHD kuser:1 X\r\nEN\r\nHD X W\r\nHD kuser:1 Z X\r\nEN\r\n"),
            case("ml of base64", "ms AGEKYg== 1 b q\r\n1\r\nml AGE= b\r\nml AGE b\r\n", format!("HD kAGEKYg== b\r\nEN\r\n{BAD_BASE64}")),
            case("ml leaves no mark", format!("{some}ml user:\r\nmg user:1 h\r\n"), "HD kuser:1\r\nEN\r\nHD h0\r\n"),
            case("ml without prefix", "ml\r\nml \r\n", BAD_LINE.repeat(2)),
            case("ml with bad flags", format!("ml a z\r\nml a k k\r\nml {}\r\n", key(251)), format!("CLIENT_ERROR invalid flag\r\nCLIENT_ERROR duplicate flag\r\n{BAD_LINE}")),
            case("mp purges", format!("{some}mp user:\r\nget user:1 users other\r\nmp user O7\r\nmp user\r\nget other\r\n"), "HD n1\r\nVALUE users 0 1\r\n1\r\nVALUE other 0 1\r\n1\r\nEND\r\nHD n1 O7\r\nHD n0\r\nVALUE other 0 1\r\n1\r\nEND\r\n"),
            case("mp quietly", format!("{some}mp u q\r\nmn\r\nget user:1 users other\r\n"), "MN\r\nVALUE other 0 1\r\n1\r\nEND\r\n"),
            case("mp of base64", "ms AGEKYg== 1 b q\r\n1\r\nmp AGE= b\r\nmg AGEKYg== b\r\n", "HD n1\r\nEN\r\n"),
            case("mp with bad flags", "mp\r\nmp a z\r\n", format!("{BAD_LINE}CLIENT_ERROR invalid flag\r\n")),
        ],
    ),
    (
        Config { flush_allowed: false, ..config() },
        vec![case("mp with -F", "mp a\r\n", "CLIENT_ERROR flush_all not allowed\r\n")],
    )]
}

rows! { prefixes: ml = "ml", mp = "mp" }
