//! Changes conversations command by command.
//!
//! libFuzzer's own mutations seldom keep the length of a data block or the place of a token. These put in, take out, repeat, swap and
//! damage whole commands, most of them valid, so that the fuzzer gets past the first line.

use crate::conversation::{RUN, below};

const KEYS: &[&[u8]] = &[
    b"a",
    b"b",
    b"foo",
    b"Zm9v",
    b"YQ==",
    b"a:b",
    b"AGEKYg==",
    b"\xff\x0fk",
    b"\xff\x0fkkkkkkkkkkkkkkkkkkkkkkkkkk",
    b"noreply",
    b"k\tk",
];
const NUMBERS: &[&[u8]] = &[
    b"0",
    b"1",
    b"2",
    b"9",
    b"10",
    b"77",
    b"99",
    b"-1",
    b"-0",
    b"+1",
    b"100",
    b"2592000",
    b"2592001",
    b"1799999999",
    b"1800000100",
    b"2147483645",
    b"2147483646",
    b"2147483647",
    b"-2147483648",
    b"4294967295",
    b"4294967296",
    b"9223372036854775807",
    b"18446744073709551615",
    b"18446744073709551616",
    b"00000000001",
    b"000000000001",
    b"0000000000000000000001",
    b"x",
    b"",
];
const VALUES: &[&[u8]] = &[
    b"",
    b"1",
    b"9",
    b"99",
    b"0010",
    b" 5 bc",
    b"+7",
    b"-5",
    b"5abc",
    b"hello",
    b"18446744073709551615",
    b"18446744073709551616",
    b"get a\r\n",
    b"\r\n",
    b"\t\x0b8",
];
const META_FLAGS: &[&[u8]] = &[
    b"v",
    b"f",
    b"s",
    b"c",
    b"t",
    b"h",
    b"l",
    b"k",
    b"b",
    b"q",
    b"u",
    b"x",
    b"I",
    b"O",
    b"Oab",
    b"T0",
    b"T50",
    b"T-1",
    b"N0",
    b"N30",
    b"N-1",
    b"R10",
    b"R100",
    b"E5",
    b"E77",
    b"C5",
    b"C77",
    b"C0",
    b"E0",
    b"F3",
    b"D1",
    b"D99",
    b"J9",
    b"MS",
    b"ME",
    b"MA",
    b"MP",
    b"MR",
    b"MI",
    b"MD",
    b"M+",
    b"M-",
    b"M",
    b"L",
    b"Pfoo",
    b"vfoo",
    b"z",
    b"1",
    b"!",
    b"Tx",
    b"Fx",
    b"Dx",
    b"Jx",
    b"S1",
    b"O\xff\x06o",
];
const ADMIN: &[&[u8]] = &[
    b"version",
    b"verbosity 1",
    b"verbosity 1 noreply",
    b"verbosity",
    b"flush_all",
    b"flush_all 0",
    b"flush_all 100",
    b"flush_all -1 noreply",
    b"flush_all x",
    b"mn",
    b"mn x",
    b"quit",
    b"stats",
    b"stats settings",
    b"stats items",
    b"stats slabs",
    b"stats sizes",
    b"stats conns",
    b"stats reset",
    b"stats detail on",
    b"stats detail off",
    b"stats detail dump",
    b"stats detail",
    b"stats cachedump 1 0",
    b"stats cachedump 1 1",
    b"stats cachedump 1",
    b"stats cachedump 64 0",
    b"stats extstore",
    b"stats latency",
    b"stats hotkeys",
    b"stats nothing",
    b"cache_memlimit 16",
    b"cache_memlimit 7",
    b"cache_memlimit x",
    b"cache_memlimit 1000000001",
    b"slabs reassign 1 2",
    b"slabs automove 1",
    b"slabs automove window 5",
    b"lru mode flat",
    b"lru tune 10 20 0.1 2.0",
    b"lru temp_ttl 5",
    b"lru_crawler enable",
    b"lru_crawler disable",
    b"lru_crawler metadump all",
    b"lru_crawler mgdump all",
    b"lru_crawler sleep 100",
    b"lru_crawler tocrawl 5",
    b"lru_crawler crawl all",
    b"lru_crawler crawl hash",
    b"extstore item_age 5",
    b"watch",
    b"watch fetchers mutations",
    b"watch nothing",
    b"shutdown",
    b"shutdown graceful noreply",
    b"refresh_certs",
    b"debugtime 5",
    b"misbehave",
    b"GET / HTTP/1.1",
    b"get HTTP/1.1",
    b"",
    b"a",
    b" get a",
    b"GET a",
    b"ml a",
    b"ml Zm9v b f s c t h l",
    b"mp a",
    b"mp b q",
];

/// Changes what stands in the first `size` bytes of `data`; answers how many there are then, `size_max` at most.
pub fn mutate(data: &mut [u8], size: usize, size_max: usize, seed: u32) -> usize {
    let mut random = u64::from(seed) << 1 | 1;
    let size_max = size_max.min(data.len());
    let mut input = data[..size].to_vec();
    while input.len() < 2 {
        input.push(b'0');
    }
    for _ in 0..=below(&mut random, 3) {
        change(&mut input, &mut random);
    }
    input.truncate(size_max);
    data[..input.len()].copy_from_slice(&input);
    input.len()
}

fn change(input: &mut Vec<u8>, random: &mut u64) {
    // Where commands may begin: behind every newline, be it in a value or not.
    let mut starts = vec![2];
    starts.extend((2..input.len()).filter(|at| input[*at] == b'\n').map(|at| at + 1));
    let at = starts[below(random, starts.len())];
    let end = starts.iter().copied().find(|start| *start > at).unwrap_or(input.len());
    let there = starts[below(random, starts.len())];
    match below(random, 16) {
        0..6 => put(input, at..at, &command(random)),
        6 => put(input, at..end, &command(random)),
        7 => put(input, at..end, b""),
        8 => {
            let line = input[at..end].to_vec();
            put(input, there..there, &line);
        }
        9 => put(input, input.len()..input.len(), &command(random)),
        10 | 11 => {
            let mut words: Vec<usize> = (at..end).filter(|at| input[*at] == b' ').map(|at| at + 1).collect();
            words.push(at);
            let word = words[below(random, words.len())];
            let len = input[word..].iter().position(|byte| matches!(byte, b' ' | b'\r' | b'\n')).unwrap_or(0);
            let new = token(random);
            put(input, word..word + len, &new);
        }
        12 => {
            let line_end =
                input[at..end].iter().position(|byte| matches!(byte, b'\r' | b'\n')).map_or(end, |len| at + len);
            let mut word = b" ".to_vec();
            word.extend(token(random));
            put(input, line_end..line_end, &word);
        }
        13 => {
            input[0] = b'0' + below(random, 32) as u8;
            input[1] = below(random, 256) as u8;
        }
        14 if at < end => {
            let place = at + below(random, end - at);
            input[place] = [b' ', b'\r', b'\n', b'\t', 0, RUN, b'0', input[place] ^ 1][below(random, 8)];
        }
        _ => {
            let place = 2 + below(random, input.len() - 1);
            let run = [RUN, below(random, 256) as u8, [b' ', b'a', b'1', b'\r'][below(random, 4)]];
            put(input, place..place, &run);
        }
    }
}

fn put(input: &mut Vec<u8>, range: std::ops::Range<usize>, new: &[u8]) {
    input.splice(range, new.iter().copied());
}

fn pick<'w>(words: &[&'w [u8]], random: &mut u64) -> &'w [u8] {
    words[below(random, words.len())]
}

/// Mostly one of the first few, so that commands meet at the same keys.
fn key(random: &mut u64) -> &'static [u8] {
    if below(random, 4) > 0 { pick(&KEYS[..5], random) } else { pick(KEYS, random) }
}

fn token(random: &mut u64) -> Vec<u8> {
    match below(random, 5) {
        0 => key(random).to_vec(),
        1 => pick(NUMBERS, random).to_vec(),
        2 | 3 => pick(META_FLAGS, random).to_vec(),
        _ => b"noreply".to_vec(),
    }
}

/// A data block as it stands in an input, and its real length.
fn value(random: &mut u64) -> (Vec<u8>, usize) {
    match below(random, 12) {
        0 => {
            let n = [1, 10, 50, 120, 128, 129, 180, 221, 222][below(random, 9)];
            let tail = pick(VALUES, random);
            ([&[RUN, n as u8, b'v'], tail].concat(), n * n + tail.len())
        }
        _ => {
            let value = pick(VALUES, random);
            (value.to_vec(), value.len())
        }
    }
}

fn command(random: &mut u64) -> Vec<u8> {
    let mut out = Vec::new();
    let mut word = |bytes: &[u8]| {
        if !out.is_empty() {
            out.push(b' ');
        }
        out.extend_from_slice(bytes);
    };
    let mut block = None;
    match below(random, 20) {
        kind @ 0..4 => {
            let verb = pick(&[b"set", b"set", b"add", b"replace", b"append", b"prepend", b"cas"], random);
            word(verb);
            word(key(random));
            let number = |random: &mut u64| if below(random, 3) > 0 { &b"0"[..] } else { pick(NUMBERS, random) };
            word(number(random));
            word(number(random));
            let (bytes, len) = value(random);
            word(
                if kind == 0 && below(random, 4) == 0 {
                    pick(NUMBERS, random).to_vec()
                } else {
                    len.to_string().into_bytes()
                }
                .as_slice(),
            );
            if verb == b"cas" {
                word(pick(NUMBERS, random));
            }
            block = Some(bytes);
        }
        4..7 => {
            word(pick(&[b"get", b"get", b"gets", b"gat 0", b"gats 50", b"gat -1"], random));
            for _ in 0..1 + below(random, 4) {
                word(key(random));
            }
        }
        7 => {
            word(pick(&[b"delete", b"touch", b"incr", b"decr"], random));
            word(key(random));
            word(pick(NUMBERS, random));
        }
        8 => {
            word(pick(&[b"incr", b"decr"], random));
            word(key(random));
            word(pick(&NUMBERS[..6], random));
        }
        9..11 => word(pick(ADMIN, random)),
        kind => {
            let verb = pick(&[b"mg", b"mg", b"ms", b"ms", b"md", b"ma", b"me", b"ml"], random);
            word(verb);
            word(key(random));
            if verb == b"ms" {
                let (bytes, len) = value(random);
                word(len.to_string().as_bytes());
                block = Some(bytes);
            }
            // The first are those that any command gives an answer to.
            let flags = if kind < 18 { &META_FLAGS[..38] } else { META_FLAGS };
            let mut seen = Vec::new();
            for _ in 0..below(random, 7) {
                let flag = pick(flags, random);
                if kind >= 19 || !seen.contains(&flag[0]) {
                    seen.push(flag[0]);
                    word(flag);
                }
            }
        }
    }
    if below(random, 8) == 0 {
        word(b"noreply");
    }
    out.extend_from_slice(if below(random, 12) == 0 { b"\n" } else { b"\r\n" });
    if let Some(block) = block {
        out.extend(block);
        out.extend_from_slice(if below(random, 12) == 0 { b"!\n" } else { b"\r\n" });
    }
    out
}
