//! Keys in base64: the standard alphabet with padding (protocol 4.1.10).

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// What a byte stands for: 0 to 63, or one of the two below.
const VALUES: [u8; 256] = {
    let mut values = [JUNK; 256];
    let mut value = 0;
    while value < ALPHABET.len() {
        values[ALPHABET[value] as usize] = value as u8;
        value += 1;
    }
    values[b'=' as usize] = PADDING;
    values
};
const JUNK: u8 = 0xff;
const PADDING: u8 = 0xfe;

/// Adds the bytes that `text` stands for to `out`. False if it stands for none; `out` is then as before.
///
/// Bytes outside of the alphabet are skipped, as memcached skips them; what is behind the first padded group is not looked at.
pub fn decode(text: &[u8], out: &mut Vec<u8>) -> bool {
    let before = out.len();
    let counted = text.iter().filter(|byte| VALUES[**byte as usize] != JUNK).count();
    let mut values = text.iter().map(|byte| VALUES[*byte as usize]).filter(|value| *value != JUNK);
    let mut is_valid = counted > 0 && counted.is_multiple_of(4);
    while is_valid && let Some(first) = values.next() {
        let group = [
            first,
            values.next().unwrap_or(PADDING),
            values.next().unwrap_or(PADDING),
            values.next().unwrap_or(PADDING),
        ];
        let len = group.iter().position(|value| *value == PADDING).unwrap_or(4);
        // One character alone holds no byte, and nothing stands behind padding.
        is_valid = len >= 2 && group[len..].iter().all(|value| *value == PADDING);
        if is_valid {
            let bits = group.iter().fold(0u32, |bits, value| bits << 6 | u32::from(value & 63));
            // Padding is read as the bits of 62: above what is taken.
            out.extend_from_slice(&bits.to_be_bytes()[1..len]);
        }
        if len < 4 {
            break;
        }
    }
    if !is_valid {
        out.truncate(before);
    }
    is_valid
}

/// Adds `bytes` in base64 to `out`.
pub fn encode(bytes: &[u8], out: &mut Vec<u8>) {
    for group in bytes.chunks(3) {
        let byte = |at: usize| u32::from(group.get(at).copied().unwrap_or(0));
        let bits = byte(0) << 16 | byte(1) << 8 | byte(2);
        let character = |at: u32| ALPHABET[(bits >> (18 - 6 * at) & 63) as usize];
        let text = [character(0), character(1), character(2), character(3)];
        let (meant, padding) = (group.len() + 1, 3 - group.len());
        out.extend_from_slice(&text[..meant]);
        out.extend_from_slice(&b"=="[..padding]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decoded(text: &[u8]) -> Option<Vec<u8>> {
        let mut out = b"before ".to_vec();
        let is_valid = decode(text, &mut out);
        let bytes = out.strip_prefix(b"before ").expect("what was there stays").to_vec();
        assert!(is_valid || bytes.is_empty());
        is_valid.then_some(bytes)
    }

    #[test]
    fn every_length_there_and_back() {
        let bytes: Vec<u8> = (0..=255).rev().collect();
        for len in 1..bytes.len() {
            let mut text = Vec::new();
            encode(&bytes[..len], &mut text);
            assert_eq!(text.len(), len.div_ceil(3) * 4);
            assert_eq!(decoded(&text).as_deref(), Some(&bytes[..len]));
        }
    }

    #[test]
    fn padding_and_junk() {
        for (text, bytes) in [
            (&b"Zm9v"[..], Some(&b"foo"[..])),
            (b"Zg==", Some(b"f")),
            (b"Zm8=", Some(b"fo")),
            (b"Zm9v!", Some(b"foo")),
            (b"Z-m9v", Some(b"foo")),
            (b"Zg==Zg==", Some(b"f")),
            (b"+/+/", Some(b"\xfb\xff\xbf")),
            (b"", None),
            (b"!!!", None),
            (b"a", None),
            (b"Zm9", None),
            (b"Z===", None),
            (b"====", None),
            (b"=m9v", None),
            (b"Z=9v", None),
            (b"Zm=v", None),
            (b"Zm9vZ", None),
        ] {
            assert_eq!(decoded(text).as_deref(), bytes, "{}", text.escape_ascii());
        }
    }
}
