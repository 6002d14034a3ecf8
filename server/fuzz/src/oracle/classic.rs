//! The classic commands.

use std::cmp::Ordering;

use super::{
    BAD_CHUNK, BAD_EXPTIME, BAD_LINE, Block, Cas, ERROR, Item, KEY_BYTES_MAX, LIST_BYTES_MAX, NON_NUMERIC, Oracle,
    Step, Stop, TOO_LARGE, count, fits, text, ttl,
};

impl Oracle<'_> {
    /// get, gets: `list` is what follows the command word, in a line with so many bytes before its newline.
    pub(super) fn get(&mut self, list: &[u8], cas: bool, line_len: usize) -> Step {
        let keys: Vec<&[u8]> = text::words(list).collect();
        let bad = keys.iter().position(|key| key.len() > KEY_BYTES_MAX);
        if keys.is_empty() || bad.is_some() {
            // A list that is longer than what is kept is answered as it comes, the error standing in the place of END.
            let may_be_cut = line_len >= LIST_BYTES_MAX && !self.replies.whole;
            if may_be_cut && !self.replies.skip(BAD_LINE) {
                for key in &keys[..bad.unwrap_or(0)] {
                    self.hit(key, cas, None);
                }
                self.replies.expect(BAD_LINE);
            } else if !may_be_cut {
                self.replies.expect(BAD_LINE);
            }
            if may_be_cut {
                // Whether they have been fetched is not to be seen.
                for key in keys {
                    if let Some(item) = self.alive(key) {
                        item.fetched = None;
                    }
                }
            }
            return Ok(());
        }
        for key in keys {
            self.hit(key, cas, None);
        }
        self.replies.expect(b"END\r\n");
        Ok(())
    }

    /// A key of a get: the VALUE line of a hit, nothing otherwise.
    pub(super) fn hit(&mut self, key: &[u8], cas: bool, touch: Option<i64>) {
        let Some(mut item) = self.alive(key).cloned() else { return };
        self.replies.expect(b"VALUE ");
        self.replies.expect(key);
        self.replies.expect(format!(" {} {}", item.flags, item.value.len()).as_bytes());
        if cas {
            self.replies.expect(b" ");
            item.cas = self.show_cas(item.cas);
        }
        self.replies.expect(b"\r\n");
        self.replies.expect(&item.value);
        self.replies.expect(b"\r\n");
        item.fetched = Some(true);
        if let Some(exptime) = touch {
            item.ttl = ttl(exptime);
        }
        self.items.insert(key.to_vec(), item);
    }

    /// An answer that noreply suppresses.
    #[track_caller]
    fn answer(&mut self, reply: &[u8], noreply: bool) -> Step {
        if !noreply {
            self.replies.expect(reply);
        }
        Ok(())
    }

    pub(super) fn classic(&mut self, line: &[u8]) -> Step {
        let tokens = text::tokens(line);
        let noreply = tokens.last() == Some(&&b"noreply"[..]);
        let least = match tokens[0] {
            b"delete" => 2,
            b"gat" | b"gats" | b"incr" | b"decr" | b"touch" => 3,
            b"set" | b"add" | b"replace" | b"append" | b"prepend" | b"cas" => 5,
            _ => 0,
        };
        if tokens.len() < least {
            self.replies.expect(BAD_LINE);
            return Ok(());
        }
        let key = tokens.get(1).copied().unwrap_or_default();
        let is_key = key.len() <= KEY_BYTES_MAX;
        match tokens[0] {
            b"set" | b"add" | b"replace" | b"append" | b"prepend" | b"cas" => self.storage(&tokens, noreply),
            b"gat" | b"gats" => {
                let Some(exptime) = text::i32_of(tokens[1]) else {
                    self.replies.expect(BAD_EXPTIME);
                    return Ok(());
                };
                // All keys of the line, not only those among the first tokens.
                let keys: Vec<&[u8]> = text::words(line).skip(2).collect();
                if keys.iter().any(|key| key.len() > KEY_BYTES_MAX) {
                    self.replies.expect(BAD_LINE);
                    return Ok(());
                }
                for key in keys {
                    self.hit(key, tokens[0] == b"gats", Some(i64::from(exptime)));
                }
                self.replies.expect(b"END\r\n");
                Ok(())
            }
            b"delete" | b"incr" | b"decr" | b"touch" if !is_key => self.answer(BAD_LINE, noreply),
            b"delete" => {
                let was_there = self.alive(key).is_some();
                self.items.remove(key);
                self.answer(if was_there { b"DELETED\r\n" } else { b"NOT_FOUND\r\n" }, noreply)
            }
            b"incr" | b"decr" => self.arith(key, tokens[2], tokens[0] == b"incr", noreply),
            b"touch" => {
                let Some(exptime) = text::i32_of(tokens[2]) else {
                    return self.answer(BAD_EXPTIME, noreply);
                };
                let Some(item) = self.alive(key) else {
                    return self.answer(b"NOT_FOUND\r\n", noreply);
                };
                item.ttl = ttl(i64::from(exptime));
                item.fetched = Some(true);
                self.answer(b"TOUCHED\r\n", noreply)
            }
            b"flush_all" => {
                let exptime = match tokens[1..] {
                    [] | [b"noreply"] => Some(0),
                    [exptime, ..] => text::i32_of(exptime),
                };
                match exptime {
                    None => return self.answer(BAD_EXPTIME, noreply),
                    Some(..=0) => self.items.clear(),
                    // A time that is now or has been, give or take a second.
                    Some(exptime) if ttl(i64::from(exptime)).is_some_and(|ttl| ttl < 3) => {
                        self.answer(b"OK\r\n", noreply)?;
                        return Err(Stop::Unknown);
                    }
                    Some(_) => {}
                }
                self.answer(b"OK\r\n", noreply)
            }
            b"verbosity" => match text::u32_of(key) {
                Some(_) => self.answer(b"OK\r\n", noreply),
                // With nothing behind it but noreply it is silent.
                None => self.answer(BAD_LINE, noreply),
            },
            b"version" => {
                self.replies.expect(b"VERSION ");
                let digits = self.replies.number();
                self.replies.require(digits > 0, "a version");
                let line = self.replies.line();
                self.replies.require(line.starts_with(b".") && line.ends_with(b"\r\n"), "a version");
                Ok(())
            }
            b"mn" => {
                self.replies.expect(b"MN\r\n");
                Ok(())
            }
            b"quit" => Err(Stop::Closing),
            _ => self.admin(&tokens, noreply),
        }
    }

    /// A command word that is not known.
    pub(super) fn unknown(&mut self, tokens: &[&[u8]], noreply: bool) -> Step {
        if tokens.len() >= 2 && tokens.last().is_some_and(|last| last.starts_with(b"HTTP/")) {
            return Err(Stop::Closing);
        }
        self.answer(ERROR, noreply)
    }

    fn storage(&mut self, tokens: &[&[u8]], noreply: bool) -> Step {
        let Some(len) = text::len_of(tokens[4]) else {
            return self.answer(BAD_LINE, noreply);
        };
        let (verb, key) = (tokens[0], tokens[1]);
        let unique = match verb {
            b"cas" => tokens.get(5).and_then(|token| text::u64_of(token)).map(Some),
            _ => Some(None),
        };
        let is_key = key.len() <= KEY_BYTES_MAX;
        let (Some(flags), Some(exptime), Some(unique), true) =
            (text::flags_of(tokens[2]), text::exptime_of(tokens[3]), unique, is_key)
        else {
            self.block(len)?;
            return self.answer(BAD_LINE, noreply);
        };
        if !fits(key, flags, len) {
            self.block(len)?;
            if verb == b"set" {
                self.items.remove(key);
            }
            return self.answer(TOO_LARGE, noreply);
        }
        let Block::Good(value) = self.block(len)? else {
            return self.answer(BAD_CHUNK, noreply);
        };
        let new = Item::new(value, flags, ttl(exptime));
        let old = self.alive(key).cloned();
        let reply: &[u8] = match (verb, old, unique) {
            (b"cas", None, _) => b"NOT_FOUND\r\n",
            (b"cas", Some(old), Some(unique)) => match self.compare(unique, old.cas)? {
                Ordering::Equal => {
                    self.store(key, new);
                    b"STORED\r\n"
                }
                _ => b"EXISTS\r\n",
            },
            (b"set", _, _) | (b"add", None, _) | (b"replace", Some(_), _) => {
                self.store(key, new);
                b"STORED\r\n"
            }
            (b"append" | b"prepend", Some(old), _) => match grown(key, &old, value, verb == b"append") {
                Some(item) => {
                    self.store(key, item);
                    b"STORED\r\n"
                }
                None => b"NOT_STORED\r\n",
            },
            _ => b"NOT_STORED\r\n",
        };
        self.answer(reply, noreply)
    }

    fn arith(&mut self, key: &[u8], delta: &[u8], up: bool, noreply: bool) -> Step {
        let Some(delta) = text::u64_of(delta) else {
            return self.answer(b"CLIENT_ERROR invalid numeric delta argument\r\n", noreply);
        };
        let Some(old) = self.alive(key).cloned() else {
            return self.answer(b"NOT_FOUND\r\n", noreply);
        };
        let Some((number, value, in_place)) = count(&old.value, delta, up) else {
            return self.answer(NON_NUMERIC, noreply);
        };
        self.store(key, counted(old, value, in_place));
        self.answer(format!("{number}\r\n").as_bytes(), noreply)
    }
}

/// What append and prepend make of an item; nothing if it does not fit.
pub(super) fn grown(key: &[u8], old: &Item, value: &[u8], behind: bool) -> Option<Item> {
    let value = if behind { [&old.value, value].concat() } else { [value, &old.value].concat() };
    fits(key, old.flags, value.len()).then(|| Item { base64: None, ..Item::new(&value, old.flags, old.ttl) })
}

/// What counting makes of an item: in place it keeps its marks.
pub(super) fn counted(old: Item, value: Vec<u8>, in_place: bool) -> Item {
    match in_place {
        true => Item { value, cas: Cas::New, fetched: None, ..old },
        false => Item { base64: None, ..Item::new(&value, old.flags, old.ttl) },
    }
}
