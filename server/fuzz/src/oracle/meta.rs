//! The meta commands.

use std::cmp::Ordering;
use std::collections::BTreeSet;

use super::classic::{counted, grown};
use super::{
    BAD_CHUNK, BAD_LINE, Block, Cas, Item, KEY_BYTES_MAX, NON_NUMERIC, Oracle, Step, Stop, TOO_LARGE, count, fits,
    item_bytes, text, ttl,
};

const TOO_MANY: &[u8] = b"CLIENT_ERROR options flags are too long\r\n";
const DUPLICATE: &[u8] = b"CLIENT_ERROR duplicate flag\r\n";
const BAD_FLAG: &[u8] = b"CLIENT_ERROR invalid flag\r\n";
const BAD_TOKEN: &[u8] = b"CLIENT_ERROR bad token in command line format\r\n";
const BAD_MA: &[u8] = b"CLIENT_ERROR invalid or duplicate flag\r\n";

/// A meta command's line, read.
struct Request<'l> {
    /// The key itself, be it given in base64 or not.
    key: Vec<u8>,
    /// Letter and argument, in order.
    flags: Vec<(u8, &'l [u8])>,
}

impl Request<'_> {
    fn argument(&self, letter: u8) -> Option<&[u8]> {
        self.flags.iter().find(|flag| flag.0 == letter).map(|flag| flag.1)
    }

    fn has(&self, letter: u8) -> bool {
        self.argument(letter).is_some()
    }

    fn i32(&self, letter: u8) -> Option<i64> {
        self.argument(letter).and_then(text::i32_of).map(i64::from)
    }

    fn u64(&self, letter: u8) -> Option<u64> {
        self.argument(letter).and_then(text::u64_of)
    }

    /// The id that the client gives, 0 being none.
    fn own_cas(&self, otherwise: Cas) -> Cas {
        self.u64(b'E').filter(|id| *id != 0).map_or(otherwise, Cas::Known)
    }

    fn client_flags(&self) -> u32 {
        self.argument(b'F').and_then(text::u32_of).unwrap_or(0)
    }

    fn mode(&self, otherwise: u8) -> u8 {
        self.argument(b'M').map_or(otherwise, |mode| mode.first().copied().unwrap_or(0))
    }
}

/// Reads the flags; the error that they deserve otherwise.
fn flags<'l>(verb: &[u8], words: &[&'l [u8]]) -> Result<Vec<(u8, &'l [u8])>, &'static [u8]> {
    let error = |reply: &'static [u8]| if verb == b"ma" { BAD_MA } else { reply };
    let mut flags: Vec<(u8, &[u8])> = Vec::new();
    let mut wrong = None;
    for word in words {
        let (letter, argument) = (word[0], &word[1..]);
        match letter {
            b'0'..=b'9' => return Err(error(BAD_FLAG)),
            0x41..=0x7a => {}
            _ => return Err(error(BAD_LINE)),
        }
        let is_known = b"bcfhklqstuvxCDEFIJLMNOPRT".contains(&letter);
        if flags.iter().any(|flag| flag.0 == letter) {
            return Err(error(DUPLICATE));
        }
        if !is_known {
            return Err(error(BAD_FLAG));
        }
        flags.push((letter, argument));
        let (is_right, reply): (bool, &'static [u8]) = match letter {
            b'T' | b'N' | b'R' => (text::i32_of(argument).is_some(), BAD_TOKEN),
            b'C' | b'E' => (text::u64_of(argument).is_some(), BAD_TOKEN),
            b'F' => (text::u32_of(argument).is_some(), BAD_LINE),
            b'J' => (text::u64_of(argument).is_some(), b"CLIENT_ERROR invalid numeric initial value\r\n"),
            b'D' => (text::u64_of(argument).is_some(), b"CLIENT_ERROR invalid numeric delta value\r\n"),
            _ => (true, b""),
        };
        if !is_right {
            wrong = Some(error(reply));
        }
    }
    if let Some(reply) = wrong {
        return Err(reply);
    }
    let mode = flags.iter().find(|flag| flag.0 == b'M').map(|flag| flag.1.first());
    match (verb, mode) {
        (b"ms", Some(mode)) if !mode.is_some_and(|mode| b"SEAPR".contains(mode)) => {
            return Err(b"CLIENT_ERROR invalid mode for ms M token\r\n");
        }
        (b"ma", Some(mode)) if !mode.is_some_and(|mode| b"I+D-".contains(mode)) => {
            return Err(b"CLIENT_ERROR invalid mode for ma M token\r\n");
        }
        _ => {}
    }
    if flags.iter().any(|flag| flag.0 == b'O' && flag.1.len() > 31) {
        return Err(b"CLIENT_ERROR opaque token too long\r\n");
    }
    Ok(flags)
}

impl Oracle<'_> {
    pub(super) fn meta(&mut self, line: &[u8]) -> Step {
        let words: Vec<&[u8]> = text::words(line).collect();
        let (verb, is_set) = (words[0], words[0] == b"ms");
        let before_flags = if is_set { 3 } else { 2 };
        if words.len() < before_flags {
            self.replies.expect(BAD_LINE);
            return Ok(());
        }
        let len = if is_set { text::len_of(words[2]) } else { Some(0) };
        let Some(len) = len else {
            self.replies.expect(BAD_LINE);
            return Ok(());
        };
        let request = match request(verb, words[1], &words[before_flags..]) {
            Ok(request) => request,
            Err(reply) => {
                if is_set {
                    self.block(len)?;
                }
                self.replies.expect(reply);
                return Ok(());
            }
        };
        match verb {
            b"mg" => self.meta_get(&request),
            b"ms" => self.meta_set(&request, len),
            b"md" => self.meta_delete(&request),
            b"ma" => self.meta_arith(&request),
            b"me" => self.meta_debug(&request.key),
            b"ml" => self.meta_list(&request),
            _ => {
                let before = self.items.len();
                self.items.retain(|_, item| item.ttl.is_none_or(|ttl| ttl > 0));
                // What is over may be counted or not.
                let over = before - self.items.len();
                let there = self.items.len();
                self.items.retain(|key, _| !key.starts_with(&request.key));
                if request.has(b'q') {
                    return Ok(());
                }
                self.replies.expect(b"HD n");
                let count = self.replies.number() as usize;
                let purged = there - self.items.len();
                self.replies.require((purged..=purged + over).contains(&count), "the number of items that were there");
                self.echo_opaque(&request);
                self.replies.expect(b"\r\n");
                Ok(())
            }
        }
    }

    fn echo_opaque(&mut self, request: &Request<'_>) {
        if let Some(opaque) = request.argument(b'O') {
            self.replies.expect(&[b" O", opaque].concat());
        }
    }

    /// The key as the request gave it.
    fn echo_key(&mut self, request: &Request<'_>) {
        self.show_key(&request.key, request.has(b'b'));
    }

    fn show_key(&mut self, key: &[u8], base64: bool) {
        self.replies.expect(b" k");
        if base64 {
            self.replies.expect(&text::to_base64(key));
            self.replies.expect(b" b");
        } else {
            self.replies.expect(key);
        }
    }

    /// An answer that echoes key and opaque only.
    fn code(&mut self, code: &[u8], request: &Request<'_>) {
        self.replies.expect(code);
        for (letter, _) in &request.flags {
            match letter {
                b'k' => self.echo_key(request),
                b'O' => self.echo_opaque(request),
                _ => {}
            }
        }
        self.replies.expect(b"\r\n");
    }

    fn show_ttl(&mut self, ttl: Option<i64>) {
        self.replies.expect(b" t");
        match ttl {
            None => self.replies.expect(b"-1"),
            Some(ttl @ 1..) => self.replies.expect(ttl.to_string().as_bytes()),
            // What is over is shown as 0 or less.
            Some(_) if self.replies.skip(b"-") => {
                self.replies.number();
            }
            Some(_) => self.replies.expect(b"0"),
        }
    }

    fn meta_get(&mut self, request: &Request<'_>) -> Step {
        let key = &request.key;
        let old = self.alive(key).cloned();
        let is_made = old.is_none() && request.has(b'N');
        let mut item = match old {
            Some(item) => item,
            None if is_made => Item {
                cas: request.own_cas(Cas::New),
                base64: Some(request.has(b'b')),
                ..Item::new(b"", 0, request.i32(b'N').and_then(ttl))
            },
            None if request.has(b'q') => return Ok(()),
            None => {
                self.code(b"EN", request);
                return Ok(());
            }
        };
        let same_cas = match request.u64(b'C') {
            // Left undecided until an answer without the value has been excluded.
            Some(id) if request.has(b'v') => self.compare(id, item.cas)? == Ordering::Equal,
            _ => false,
        };
        let shows_value = request.has(b'v') && !same_cas;
        if shows_value {
            self.replies.expect(format!("VA {}", item.value.len()).as_bytes());
        } else {
            self.replies.expect(b"HD");
        }
        let was_won = item.won;
        let mut wins = is_made;
        for (letter, _) in &request.flags {
            match letter {
                b'f' => self.replies.expect(format!(" f{}", item.flags).as_bytes()),
                b's' => self.replies.expect(format!(" s{}", item.value.len()).as_bytes()),
                b'l' => self.replies.expect(b" l0"),
                b't' => self.show_ttl(item.ttl),
                b'c' => {
                    self.replies.expect(b" c");
                    item.cas = self.show_cas(item.cas);
                }
                b'h' => {
                    self.replies.expect(b" h");
                    let shown = self.replies.number();
                    self.replies.require(shown <= 1, "h0 or h1");
                    self.replies.require(item.fetched.is_none_or(|fetched| u64::from(fetched) == shown), "the other h");
                    item.fetched = Some(shown == 1);
                }
                b'k' => {
                    let plain = [b" k", &key[..]].concat();
                    let base64 = [&b" k"[..], &text::to_base64(key), b" b"].concat();
                    let is_base64 = match item.base64 {
                        Some(is_base64) => is_base64,
                        None => self.replies.skip(&base64),
                    };
                    if item.base64.is_some() || !is_base64 {
                        self.replies.expect(if is_base64 { &base64 } else { &plain });
                    }
                    let is_plain_safe = !key.iter().any(|byte| matches!(byte, b' ' | b'\n'));
                    self.replies.require(is_base64 || is_plain_safe, "base64 for a key that is no word");
                    item.base64 = Some(is_base64);
                }
                b'O' => self.echo_opaque(request),
                b'T' => item.ttl = request.i32(b'T').and_then(ttl),
                b'R' => {
                    let below = request.i32(b'R').and_then(ttl);
                    if let (Some(left), Some(below), false, false) = (item.ttl, below, was_won, is_made) {
                        wins |= left.max(0) < below;
                    }
                }
                _ => {}
            }
        }
        wins |= item.stale && !was_won;
        for (is_shown, mark) in [(was_won, b" Z"), (item.stale, b" X"), (wins, b" W")] {
            if is_shown {
                self.replies.expect(mark);
            }
        }
        self.replies.expect(b"\r\n");
        if shows_value {
            self.replies.expect(&item.value);
            self.replies.expect(b"\r\n");
        }
        item.won |= wins;
        if is_made {
            // Whether making it counts as a fetch is left open.
            item.fetched = None;
        } else if !request.has(b'u') {
            item.fetched = Some(true);
        }
        if is_made {
            self.store(key, item);
        } else {
            self.items.insert(key.clone(), item);
        }
        Ok(())
    }

    fn meta_set(&mut self, request: &Request<'_>, len: usize) -> Step {
        let key = &request.key;
        let mode = request.mode(b'S');
        let client_flags = request.client_flags();
        if !fits(key, client_flags, len) {
            self.block(len)?;
            if mode == b'S' {
                self.items.remove(key);
            }
            self.replies.expect(TOO_LARGE);
            return Ok(());
        }
        let Block::Good(value) = self.block(len)? else {
            self.replies.expect(BAD_CHUNK);
            return Ok(());
        };
        let new = Item {
            cas: request.own_cas(Cas::New),
            base64: Some(request.has(b'b')),
            ..Item::new(value, client_flags, request.i32(b'T').and_then(ttl))
        };
        let old = self.alive(key).cloned();
        let compared = match (request.u64(b'C'), &old) {
            (Some(id), Some(old)) if mode != b'E' => Some(self.compare(id, old.cas)?),
            _ => None,
        };
        let compares = request.has(b'C');
        let (code, stored): (&[u8], Option<Item>) = match (mode, old) {
            (b'S' | b'R', None) if compares => (b"NF", None),
            (b'R', None) => (b"NS", None),
            (b'S' | b'R', Some(old)) => match compared {
                None | Some(Ordering::Equal) => (b"HD", Some(new)),
                // 0 is older than nothing: it never fits.
                Some(Ordering::Less) if request.has(b'I') && request.u64(b'C') != Some(0) => {
                    (b"HD", Some(Item { ttl: old.ttl, stale: true, won: old.won, ..new }))
                }
                Some(_) => (b"EX", None),
            },
            (b'S' | b'E', None) => (b"HD", Some(new)),
            (b'E', Some(_)) => (b"NS", None),
            (_, None) => match request.i32(b'N') {
                // Whether a comparison keeps it from being made is left open.
                Some(_) if compares => return Err(Stop::Unknown),
                Some(exptime) => (b"HD", Some(Item { ttl: ttl(exptime), ..new })),
                None => (b"NS", None),
            },
            (_, Some(old)) => match compared {
                None | Some(Ordering::Equal) => match grown(key, &old, value, mode == b'A') {
                    Some(item) => (b"HD", Some(Item { cas: new.cas, ..item })),
                    None => (b"NS", None),
                },
                Some(_) => (b"EX", None),
            },
        };
        let mut cas = stored.as_ref().map(|item| item.cas);
        if !(stored.is_some() && request.has(b'q')) {
            self.replies.expect(code);
            for (letter, _) in &request.flags {
                match letter {
                    b'k' => self.echo_key(request),
                    b'O' => self.echo_opaque(request),
                    b'c' => {
                        self.replies.expect(b" c");
                        cas = Some(self.show_cas(cas.unwrap_or(Cas::Known(0))));
                    }
                    b's' => {
                        let len = stored.as_ref().map_or(0, |item| item.value.len());
                        self.replies.expect(format!(" s{len}").as_bytes());
                    }
                    _ => {}
                }
            }
            self.replies.expect(b"\r\n");
        }
        if let (Some(item), Some(cas)) = (stored, cas) {
            self.store(key, Item { cas, ..item });
        }
        Ok(())
    }

    fn meta_delete(&mut self, request: &Request<'_>) -> Step {
        let key = &request.key;
        let Some(old) = self.alive(key).cloned() else {
            self.code(b"NF", request);
            return Ok(());
        };
        if let Some(id) = request.u64(b'C')
            && self.compare(id, old.cas)? != Ordering::Equal
        {
            self.code(b"EX", request);
            return Ok(());
        }
        let (stale, tombstone) = (request.has(b'I'), request.has(b'x'));
        let given_ttl = request.i32(b'T').and_then(ttl);
        if tombstone {
            let kept = if stale { Cas::Any } else { old.cas };
            let empty = Item::new(b"", request.client_flags(), given_ttl);
            self.store(key, Item { cas: request.own_cas(kept), base64: None, fetched: None, stale, ..empty });
        } else if stale {
            let ttl = if request.has(b'T') { given_ttl } else { old.ttl };
            let cas = request.own_cas(Cas::New);
            self.store(key, Item { cas, ttl, stale: true, won: false, fetched: None, ..old });
        } else {
            self.items.remove(key);
        }
        if !request.has(b'q') {
            self.code(b"HD", request);
        }
        Ok(())
    }

    fn meta_arith(&mut self, request: &Request<'_>) -> Step {
        let key = &request.key;
        let old = self.alive(key).cloned();
        let (mut item, number) = match old {
            None => {
                let Some(exptime) = request.i32(b'N') else {
                    self.code(b"NF", request);
                    return Ok(());
                };
                let number = request.u64(b'J').unwrap_or(0);
                let made = Item::new(number.to_string().as_bytes(), 0, ttl(exptime));
                let item =
                    Item { cas: request.own_cas(Cas::New), base64: Some(request.has(b'b')), fetched: None, ..made };
                // Whether T holds for what is made is left open.
                if request.has(b'T') {
                    return Err(Stop::Unknown);
                }
                (item, number)
            }
            Some(old) => {
                if let Some(id) = request.u64(b'C').filter(|id| *id != 0)
                    && self.compare(id, old.cas)? != Ordering::Equal
                {
                    self.code(b"EX", request);
                    return Ok(());
                }
                let delta = request.u64(b'D').unwrap_or(1);
                let up = matches!(request.mode(b'I'), b'I' | b'+');
                let Some((number, value, in_place)) = count(&old.value, delta, up) else {
                    self.replies.expect(NON_NUMERIC);
                    return Ok(());
                };
                let item = counted(old, value, in_place);
                (Item { cas: request.own_cas(Cas::New), ..item }, number)
            }
        };
        let digits = number.to_string();
        let is_quiet = request.has(b'q');
        if !is_quiet {
            match request.has(b'v') {
                true => self.replies.expect(format!("VA {}", digits.len()).as_bytes()),
                false => self.replies.expect(b"HD"),
            }
        }
        for (letter, _) in &request.flags {
            match letter {
                b'T' => item.ttl = request.i32(b'T').and_then(ttl),
                _ if is_quiet => {}
                b't' => self.show_ttl(item.ttl),
                b'c' => {
                    self.replies.expect(b" c");
                    item.cas = self.show_cas(item.cas);
                }
                b'k' => self.echo_key(request),
                b'O' => self.echo_opaque(request),
                _ => {}
            }
        }
        if !is_quiet {
            self.replies.expect(b"\r\n");
            if request.has(b'v') {
                self.replies.expect(digits.as_bytes());
                self.replies.expect(b"\r\n");
            }
        }
        self.store(key, item);
        Ok(())
    }

    fn meta_debug(&mut self, key: &[u8]) -> Step {
        let Some(mut item) = self.alive(key).cloned() else {
            self.replies.expect(b"EN\r\n");
            return Ok(());
        };
        self.replies.expect(b"ME ");
        let is_base64 = match item.base64 {
            Some(is_base64) => is_base64,
            None => self.replies.skip(&[&text::to_base64(key), &b" exp="[..]].concat()),
        };
        if item.base64.is_some() || !is_base64 {
            self.replies.expect(&if is_base64 { text::to_base64(key) } else { key.to_vec() });
            self.replies.expect(b" exp=");
        }
        item.base64 = Some(is_base64);
        match item.ttl {
            None => self.replies.expect(b"-1"),
            Some(ttl) => self.replies.expect(ttl.to_string().as_bytes()),
        }
        self.replies.expect(b" la=0 cas=");
        item.cas = self.show_cas(item.cas);
        self.replies.expect(b" fetch=");
        let fetched = self.replies.skip(b"yes");
        if !fetched {
            self.replies.expect(b"no");
        }
        self.replies.require(item.fetched.is_none_or(|known| known == fetched), "the other fetch=");
        item.fetched = Some(fetched);
        self.replies.expect(b" cls=");
        self.replies.number();
        let size = item_bytes(key, item.flags, item.value.len());
        self.replies.expect(format!(" size={size}\r\n").as_bytes());
        self.items.insert(key.to_vec(), item);
        Ok(())
    }

    /// ml: a line for every item whose key begins with the prefix, in any order.
    fn meta_list(&mut self, request: &Request<'_>) -> Step {
        self.items.retain(|_, item| item.ttl.is_none_or(|ttl| ttl > 0));
        let end = match request.argument(b'O') {
            Some(opaque) => [b"EN O", opaque, b"\r\n"].concat(),
            None => b"EN\r\n".to_vec(),
        };
        let mut shown = BTreeSet::new();
        while !self.replies.skip(&end) {
            let line = self.replies.line();
            let key = listed_key(line, request);
            let Some(key) = key else { self.replies.fail("a line with a key, before the line that was read") };
            let is_new = shown.insert(key);
            self.replies.require(is_new, "each key once");
        }
        let there: BTreeSet<Vec<u8>> = self.items.keys().filter(|key| key.starts_with(&request.key)).cloned().collect();
        self.replies.require(shown == there, &format!("exactly these keys: {there:?}, not {shown:?}"));
        Ok(())
    }
}

/// The key on a line of ml.
fn listed_key(line: &[u8], request: &Request<'_>) -> Option<Vec<u8>> {
    let words: Vec<&[u8]> = line.strip_prefix(b"HD ")?.strip_suffix(b"\r\n")?.split(|byte| *byte == b' ').collect();
    let letters: Vec<u8> =
        request.flags.iter().map(|flag| flag.0).filter(|letter| b"fscthlkO".contains(letter)).collect();
    let before = letters.iter().position(|letter| *letter == b'k').unwrap_or(0);
    let key = words.get(before)?.strip_prefix(b"k")?;
    let is_base64 = words.get(before + 1) == Some(&&b"b"[..]);
    let marks = words.iter().rev().take_while(|word| matches!(**word, b"X" | b"Z")).count();
    let wanted = letters.len() + usize::from(!letters.contains(&b'k')) + usize::from(is_base64) + marks;
    if words.len() != wanted {
        return None;
    }
    if is_base64 { text::from_base64(key) } else { Some(key.to_vec()) }
}

fn request<'l>(verb: &[u8], key: &[u8], words: &[&'l [u8]]) -> Result<Request<'l>, &'static [u8]> {
    let is_arith = verb == b"ma";
    if key.len() > KEY_BYTES_MAX {
        return Err(if is_arith { BAD_MA } else { BAD_LINE });
    }
    let flags = match verb {
        // me knows b, and minds nothing else.
        b"me" => words.iter().filter(|word| word.starts_with(b"b")).map(|word| (b'b', *word)).collect(),
        _ if words.len() > if verb == b"ms" { 17 } else { 18 } => return Err(TOO_MANY),
        _ => flags(verb, words)?,
    };
    let mut request = Request { key: key.to_vec(), flags };
    if request.has(b'b') {
        let error: &[u8] = if is_arith { BAD_MA } else { b"CLIENT_ERROR error decoding key\r\n" };
        request.key = text::from_base64(key).ok_or(error)?;
    }
    Ok(request)
}
