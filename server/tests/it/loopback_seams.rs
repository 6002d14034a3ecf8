//! Long conversations cut at random: whatever the packets, the answers are the same.

use memkv_engine::clock::Clock;
use memkv_server::loopback::Loopback;

use crate::support::{config, show};

/// A small generator, so that a failure can be repeated from its seed.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % bound as u64) as usize
    }
}

/// A conversation of valid and broken commands, values of all sizes among them.
fn conversation(random: &mut Random) -> Vec<u8> {
    let mut input = Vec::new();
    for _ in 0..60 {
        let key = random.below(8);
        let len = [0, 3, 100, 5_000, 16_370, 40_000][random.below(6)];
        let value = vec![b'a' + key as u8; len];
        let verb = ["set", "add", "replace", "append", "prepend"][random.below(5)];
        match random.below(13) {
            0..4 => {
                input.extend(format!("{verb} key{key} {key} 0 {len}\r\n").as_bytes());
                input.extend(&value);
                input.extend(if random.below(10) == 0 { b"!\n" } else { b"\r\n" });
            }
            4..7 => {
                let keys: String = (0..1 + random.below(20)).map(|_| format!(" key{}", random.below(9))).collect();
                input.extend(format!("get{keys}\r\n").as_bytes());
            }
            7 => input.extend(format!("delete key{key}\r\nincr key{key} 1\r\n").as_bytes()),
            8 => {
                input.extend(format!("set key{key} x 0 {len}\r\n").as_bytes());
                input.extend(&value);
                input.extend(b"\r\n");
            }
            9 => {
                let (name, mode) = (["key1", "a2V5Mg=="][key % 2], b"SEARPX"[random.below(6)] as char);
                let quiet = ["", " q", " q q"][random.below(3)];
                input.extend(format!("ms {name} {len} b k s M{mode}{quiet}\r\n").as_bytes());
                input.extend(&value);
                input.extend(if random.below(10) == 0 { b"!\n" } else { b"\r\n" });
            }
            10 => {
                for _ in 0..random.below(20) {
                    let name = ["key1", "key2 b", "a2V5Mg== b", "key3"][random.below(4)];
                    input.extend(
                        format!("mg {name} {}\r\n", ["q v k", "s h t", "q v Oab", "N0", "z"][random.below(5)])
                            .as_bytes(),
                    );
                }
                input.extend(b"mn\r\n");
            }
            11 => input.extend(format!("md key{key} q I\r\nma key{key} N0 v\r\nme key{key}\r\n").as_bytes()),
            _ => input.extend(b"what is this\r\n\r\ntouch\r\nversion\r\n"),
        }
    }
    input
}

#[test]
fn answers_do_not_depend_on_packets() {
    for seed in 1..=40 {
        let mut random = Random(seed * 0x9E37_79B9);
        let input = conversation(&mut random);
        let new = || Loopback::new(config(), Clock::manual(0).0).unwrap();
        let whole = new().send(&input);
        let mut client = new().slice_bytes(1 + random.below(10_000));
        let mut answer = Vec::new();
        let mut rest = &input[..];
        while !rest.is_empty() {
            let most = [1, 10, 1_000, 20_000][random.below(4)];
            let (packet, behind) = rest.split_at(rest.len().min(1 + random.below(most)));
            answer.extend(client.send(packet));
            rest = behind;
        }
        if answer != whole {
            let at = answer.iter().zip(&whole).take_while(|(a, b)| a == b).count();
            panic!("seed {seed}: differs at {at}: {} instead of {}", show(&answer[at..]), show(&whole[at..]));
        }
    }
}

#[test]
fn a_long_get_without_keys_is_refused_in_any_packets() {
    let bad_line = b"CLIENT_ERROR bad command line format\r\n";
    for word in ["get", "gets"] {
        let line = format!("{word} {}\r\n", " ".repeat(10_000));
        for packet in [1, 100, 9_000, 20_000] {
            let mut client = Loopback::new(config(), Clock::manual(0).0).unwrap();
            let answer: Vec<u8> = line.as_bytes().chunks(packet).flat_map(|bytes| client.send(bytes)).collect();
            assert_eq!(show(&answer), show(bad_line), "{word} in packets of {packet}");
            assert_eq!(client.send(b"get a\r\n"), b"END\r\n");
        }
        // With a key at last it is a list like any other.
        let mut client = Loopback::new(config(), Clock::manual(0).0).unwrap();
        let line = line.replace("\r\n", " a\r\n");
        let answer: Vec<u8> = line.as_bytes().chunks(3_000).flat_map(|bytes| client.send(bytes)).collect();
        assert_eq!(show(&answer), show(b"END\r\n"));
    }
}
