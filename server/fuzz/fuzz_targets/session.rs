//! A whole connection against the oracle: every answer stands where it should, and says what it should.

#![no_main]

use libfuzzer_sys::{fuzz_mutator, fuzz_target, fuzzer_mutate};
use memkv_fuzz::conversation::Conversation;
use memkv_fuzz::{grammar, oracle};

fuzz_target!(|input: &[u8]| {
    if let Some(conversation) = Conversation::new(input) {
        oracle::check(&conversation.run());
    }
});

// Most of the time by whole commands, now and then byte by byte.
fuzz_mutator!(|data: &mut [u8], size: usize, max_size: usize, seed: u32| {
    if seed % 4 == 0 { fuzzer_mutate(data, size, max_size) } else { grammar::mutate(data, size, max_size, seed) }
});
