//! Administration and statistics: how many lines there are, and of which form.

use std::collections::BTreeSet;

use super::{ERROR, Oracle, Step, Stop, text};

const BAD_LINE: &str = "CLIENT_ERROR bad command line format";

impl Oracle<'_> {
    /// A command that none of the others is.
    pub(super) fn admin(&mut self, tokens: &[&[u8]], noreply: bool) -> Step {
        let argument = |at: usize| tokens.get(at).copied().unwrap_or_default();
        let one_of: &[&str] = match (tokens[0], argument(1)) {
            (b"stats", topic) => return self.stats(topic, argument(2), tokens.len()),
            (b"watch", _) => return self.watch(&tokens[1..]),
            (b"lru_crawler", b"metadump" | b"mgdump") if !argument(2).is_empty() => return self.dump(tokens, noreply),
            (b"cache_memlimit", megabytes) => match text::u32_of(megabytes) {
                None => &["ERROR"],
                Some(..8) => &["MEMLIMIT_TOO_SMALL cannot set maxbytes to less than 8m"],
                Some(1_000_000_001..) => &["MEMLIMIT_ADJUST_FAILED input value is megabytes not bytes"],
                Some(_) => &["OK", "MEMLIMIT_ADJUST_FAILED out of bounds or unable to adjust"],
            },
            (b"slabs", b"reassign") => &[
                "OK",
                "ERROR",
                BAD_LINE,
                "SAME src and dst class are identical",
                "BADCLASS invalid src or dst class id",
                "NOSPARE source class has no spare pages",
            ],
            (b"slabs", b"automove") => &["OK", "ERROR", BAD_LINE, "CLIENT_ERROR automove window too low or too high"],
            (b"lru", b"tune") => &[
                "OK",
                "ERROR",
                "ERROR hot and warm pcts must not exceed 80",
                "ERROR hot/warm age factors must be greater than 0",
            ],
            (b"lru", b"mode" | b"temp_ttl") => &["OK", "ERROR"],
            (b"lru_crawler", b"enable") => &["OK", "ERROR failed to start lru crawler thread"],
            (b"lru_crawler", b"disable") => &["OK"],
            (b"lru_crawler", b"sleep") => &["OK", "ERROR", BAD_LINE, "CLIENT_ERROR sleep must be one second or less"],
            (b"lru_crawler", b"tocrawl") => &["OK", "ERROR", BAD_LINE],
            (b"lru_crawler", b"crawl") => &[
                "OK",
                "ERROR",
                "BUSY currently processing crawler request",
                "BADCLASS invalid class id",
                "NOTSTARTED no items to crawl",
                "ERROR an unknown error happened",
                "CLIENT_ERROR lru crawler disabled",
            ],
            (b"extstore", _) => &["OK", "ERROR"],
            (b"slabs" | b"lru" | b"lru_crawler", _) => &["ERROR"],
            (b"shutdown", _) => &["SERVER_ERROR: shutdown not enabled"],
            (b"refresh_certs", _) => &["Error TLS not enabled", "ERROR"],
            _ => return self.unknown(tokens, noreply),
        };
        if !noreply {
            self.replies.expect_one_of(one_of);
        }
        Ok(())
    }

    fn stats(&mut self, topic: &[u8], argument: &[u8], count: usize) -> Step {
        let lines_begin = match (topic, argument) {
            (b"reset", _) => {
                self.replies.expect(b"RESET\r\n");
                return Ok(());
            }
            (b"detail", b"on" | b"off") => {
                self.replies.expect(b"OK\r\n");
                return Ok(());
            }
            (b"detail", b"dump") => "PREFIX ",
            (b"detail", _) => {
                self.replies.expect(b"CLIENT_ERROR usage: stats detail on|off|dump\r\n");
                return Ok(());
            }
            (b"cachedump", _) if count < 4 => {
                self.replies.expect(b"CLIENT_ERROR bad command line\r\n");
                return Ok(());
            }
            (b"cachedump", _) => {
                if self.replies.skip(b"CLIENT_ERROR Illegal slab id\r\n") || self.replies.skip(super::BAD_LINE) {
                    return Ok(());
                }
                "ITEM "
            }
            (
                b"" | b"settings" | b"items" | b"slabs" | b"sizes" | b"conns" | b"extstore" | b"latency" | b"hotkeys",
                _,
            ) => "STAT ",
            _ => {
                self.replies.expect(ERROR);
                return Ok(());
            }
        };
        while !self.replies.skip(b"END\r\n") {
            let line = self.replies.line();
            let words = text::words(line).count();
            self.replies.require(
                line.starts_with(lines_begin.as_bytes()) && line.ends_with(b"\r\n") && words >= 2,
                "a line of statistics before the one that was read, or END",
            );
        }
        Ok(())
    }

    fn watch(&mut self, streams: &[&[u8]]) -> Step {
        const STREAMS: [&[u8]; 10] = [
            b"fetchers",
            b"mutations",
            b"evictions",
            b"connevents",
            b"sysevents",
            b"rawcmds",
            b"deletions",
            b"proxyreqs",
            b"proxyevents",
            b"proxyuser",
        ];
        // More than can be told apart are glued together.
        let names: Vec<&[u8]> = streams.iter().flat_map(|name| text::words(name)).collect();
        if !names.iter().all(|name| STREAMS.contains(name)) {
            self.replies.expect(ERROR);
            return Ok(());
        }
        if self.replies.skip(b"ERROR cannot pipeline other commands before watch\r\n") {
            return Ok(());
        }
        self.replies.expect(b"OK\r\n");
        // Nothing that is said from here on is answered.
        Err(Stop::Unknown)
    }

    /// metadump, mgdump: every item once.
    fn dump(&mut self, tokens: &[&[u8]], noreply: bool) -> Step {
        let is_metadump = tokens[1] == b"metadump";
        if tokens[2] != b"all" && tokens[2] != b"hash" {
            // A list of classes.
            let ids: Vec<Option<u32>> = tokens[2].split(|byte| *byte == b',').map(text::u32_of).collect();
            let refusal: &[&str] = if !ids.iter().all(|id| matches!(id, Some(1..=63))) {
                &["BADCLASS invalid class id"]
            } else if !ids.contains(&Some(1)) {
                &["NOTSTARTED no items to crawl"]
            } else {
                &[]
            };
            if !refusal.is_empty() {
                if !noreply {
                    self.replies.expect_one_of(refusal);
                }
                return Ok(());
            }
        }
        for refusal in [
            &b"ERROR cannot pipeline other commands before metadump\r\n"[..],
            b"ERROR cannot pipeline other commands before mgdump\r\n",
            b"CLIENT_ERROR lru crawler disabled\r\n",
        ] {
            if self.replies.skip(refusal) {
                return Ok(());
            }
        }
        self.replies.expect(b"OK\r\n");
        let mut shown = BTreeSet::new();
        let end: &[u8] = if is_metadump { b"END\r\n" } else { b"EN\r\n" };
        while !self.replies.skip(end) {
            let line = self.replies.line();
            let key = if is_metadump { metadump_key(line) } else { mgdump_key(line) };
            let Some(key) = key else { self.replies.fail("a key, before the line that was read") };
            let is_new = shown.insert(key);
            self.replies.require(is_new, "each key once");
        }
        self.items.retain(|_, item| item.ttl.is_none_or(|ttl| ttl > 0));
        let there: BTreeSet<Vec<u8>> = self.items.keys().cloned().collect();
        self.replies.require(shown == there, &format!("exactly these keys: {there:?}, not {shown:?}"));
        Ok(())
    }
}

fn metadump_key(line: &[u8]) -> Option<Vec<u8>> {
    let line = line.strip_suffix(b" \n")?;
    let names = ["key=", "exp=", "la=", "cas=", "fetch=", "cls=", "size=", "flags="];
    let words: Vec<&[u8]> = line.split(|byte| *byte == b' ').collect();
    if words.len() != names.len() || !words.iter().zip(names).all(|(word, name)| word.starts_with(name.as_bytes())) {
        return None;
    }
    let (mut key, mut text) = (Vec::new(), words[0].strip_prefix(b"key=")?);
    while let [byte, rest @ ..] = text {
        text = rest;
        if *byte == b'%' {
            key.push(u8::from_str_radix(std::str::from_utf8(rest.get(..2)?).ok()?, 16).ok()?);
            text = &rest[2..];
        } else if byte.is_ascii_alphanumeric() || b"-._~".contains(byte) {
            key.push(*byte);
        } else {
            return None;
        }
    }
    Some(key)
}

fn mgdump_key(line: &[u8]) -> Option<Vec<u8>> {
    let text = line.strip_prefix(b"mg ")?.strip_suffix(b"\r\n")?;
    match text.strip_suffix(b" b") {
        Some(text) => text::from_base64(text),
        None => Some(text.to_vec()),
    }
}
