//! A fuzz input as a client's conversation.
//!
//! The first two bytes say how the conversation is cut into packets and how the server is set up; the rest is what the client sends.
//! In it [`RUN`] `n b` stands for n² bytes `b`, so that small inputs hold long keys, long lines and long values.

use memkv_engine::clock::Clock;
use memkv_server::Config;
use memkv_server::loopback::Loopback;

/// Begins a run of equal bytes.
pub const RUN: u8 = 0xff;

/// Bytes that a client sends at most: more than the server's read buffer several times over.
pub const BYTES_MAX: usize = 80 * 1024;

/// Largest item: beyond the read buffer, and within reach of an input.
pub const ITEM_BYTES_MAX: usize = 48 * 1024;

/// The wall clock, which stands still.
pub const UNIX_S: u64 = 1_800_000_000;

/// A client that has got more than this says nothing further.
const REPLY_BYTES_MAX: usize = 256 << 10;

/// What a client sends.
#[derive(Debug)]
pub struct Conversation {
    /// Every byte, in order.
    pub bytes: Vec<u8>,
    how: u8,
    seed: u64,
}

/// What came of it.
#[derive(Debug)]
pub struct Outcome {
    /// What the client sent, which may be less than it wanted.
    pub sent: Vec<u8>,
    /// What the server answered.
    pub reply: Vec<u8>,
    /// Whether the server closed the connection.
    pub closed: bool,
    /// Whether all was sent at once and fits into the server's read buffer, so that no line was seen in part.
    pub whole: bool,
}

impl Conversation {
    /// Reads a fuzz input. Nothing if it is too short to be one.
    pub fn new(input: &[u8]) -> Option<Conversation> {
        let [how, seed, text @ ..] = input else { return None };
        let mut bytes = Vec::with_capacity(text.len());
        let mut at = 0;
        while at < text.len() && bytes.len() < BYTES_MAX {
            match text[at..] {
                [RUN, n, byte, ..] => {
                    bytes.resize((bytes.len() + usize::from(n) * usize::from(n)).min(BYTES_MAX), byte);
                    at += 3;
                }
                _ => {
                    bytes.push(text[at]);
                    at += 1;
                }
            }
        }
        // As text: '0' is everything at once.
        Some(Conversation { bytes, how: how.wrapping_sub(b'0'), seed: u64::from(*seed) + 1 })
    }

    /// Has the conversation with a new server.
    pub fn run(&self) -> Outcome {
        let config = Config {
            memory_bytes: 16 << 20,
            item_bytes_max: ITEM_BYTES_MAX,
            commands_per_turn: if self.how & 4 == 0 { 20 } else { 1 + (self.seed % 4) as usize },
            detail: self.how & 8 != 0,
            ..Config::default()
        };
        let mut client = Loopback::new(config, Clock::manual(UNIX_S * 1000).0).expect("a server");
        if self.how & 16 != 0 {
            client = client.slice_bytes(1 + self.seed as usize * 5);
        }
        let packet_max = [usize::MAX, 1, 40, 3000][usize::from(self.how & 3)];
        let mut random = self.seed;
        let mut reply = Vec::new();
        let mut at = 0;
        while at < self.bytes.len() && !client.is_closed() && reply.len() < REPLY_BYTES_MAX {
            let left = self.bytes.len() - at;
            let packet = match packet_max {
                usize::MAX => left,
                // Small packets are for the beginning only: what they cost grows with the square of a line.
                max if at > 4096 => left.min(1 + below(&mut random, max.max(3000))),
                max => left.min(1 + below(&mut random, max)),
            };
            reply.extend(client.send(&self.bytes[at..at + packet]));
            at += packet;
        }
        Outcome {
            sent: self.bytes[..at].to_vec(),
            reply,
            closed: client.is_closed(),
            whole: packet_max == usize::MAX && at <= 16 * 1024,
        }
    }
}

/// A number below `bound`, from a small generator.
pub fn below(random: &mut u64, bound: usize) -> usize {
    *random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    ((*random >> 33) as usize) % bound.max(1)
}
