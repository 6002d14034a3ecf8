//! Words and numbers of the dialect.

/// The command word: what stands before the first space.
pub(super) fn word(line: &[u8]) -> &[u8] {
    line.split(|byte| *byte == b' ').next().unwrap_or_default()
}

/// What stands between runs of spaces.
pub(super) fn words(line: &[u8]) -> impl Iterator<Item = &[u8]> {
    line.split(|byte| *byte == b' ').filter(|word| !word.is_empty())
}

/// The tokens of a classic command, the command word first, be it empty. At most 23 are told apart.
pub(super) fn tokens(line: &[u8]) -> Vec<&[u8]> {
    let mut tokens = vec![word(line)];
    let mut at = tokens[0].len();
    while at < line.len() {
        if line[at] == b' ' {
            at += 1;
            continue;
        }
        let len = match tokens.len() {
            22 => line.len() - at,
            _ => word(&line[at..]).len(),
        };
        tokens.push(&line[at..at + len]);
        at += len;
    }
    tokens
}

/// Whether a long line without its end can become a multi-get.
pub(super) fn is_multiget(line: &[u8]) -> bool {
    let spaces = line.iter().take_while(|byte| **byte == b' ').count();
    spaces <= 100 && (line[spaces..].starts_with(b"get ") || line[spaces..].starts_with(b"gets "))
}

fn digits(token: &[u8]) -> Option<u128> {
    let is_number = !token.is_empty() && token.iter().all(u8::is_ascii_digit);
    // What does not fit has so many digits that it is too large for anything.
    is_number.then(|| std::str::from_utf8(token).ok()?.parse().ok().or(Some(u128::MAX)))?
}

pub(super) fn u32_of(token: &[u8]) -> Option<u32> {
    if token.len() > 11 { None } else { digits(token)?.try_into().ok() }
}

pub(super) fn u64_of(token: &[u8]) -> Option<u64> {
    if token.len() > 22 { None } else { digits(token)?.try_into().ok() }
}

pub(super) fn i32_of(token: &[u8]) -> Option<i32> {
    let (sign, unsigned) = match token.strip_prefix(b"-") {
        Some(unsigned) => (-1, unsigned),
        None => (1, token),
    };
    (sign * i128::try_from(digits(unsigned)?).ok()?).try_into().ok()
}

/// `<bytes>` of a storage command.
pub(super) fn len_of(token: &[u8]) -> Option<usize> {
    let len = i32_of(token)?;
    (0..=2_147_483_645).contains(&len).then_some(len as usize)
}

/// A number as C reads it, 64 bits with sign: white space, a sign, digits.
fn c_number(token: &[u8]) -> Option<(bool, u128)> {
    let blank = token.iter().take_while(|byte| matches!(byte, b'\t' | 0x0b | 0x0c | b'\r')).count();
    let token = &token[blank..];
    let (is_negative, unsigned) = match token.first() {
        Some(b'-') => (true, &token[1..]),
        Some(b'+') => (false, &token[1..]),
        _ => (false, token),
    };
    Some((is_negative, digits(unsigned)?))
}

/// Client flags of a classic storage command.
pub(super) fn flags_of(token: &[u8]) -> Option<u32> {
    match c_number(token)? {
        (true, 0) => Some(0),
        (true, _) => None,
        (false, number) => u64::try_from(number).ok().map(|number| number as u32),
    }
}

/// Exptime of a classic storage command.
pub(super) fn exptime_of(token: &[u8]) -> Option<i64> {
    let (is_negative, number) = c_number(token)?;
    let number = i128::try_from(number).ok()?;
    let number = i64::try_from(if is_negative { -number } else { number }).ok()?;
    Some(i64::from(number as i32))
}

const ALPHABET: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// A key that is given in base64. Junk is skipped, and what stands behind padding is only counted.
pub(super) fn from_base64(text: &[u8]) -> Option<Vec<u8>> {
    let known: Vec<u8> = text.iter().copied().filter(|byte| ALPHABET.contains(byte) || *byte == b'=').collect();
    if known.is_empty() || known.len() % 4 != 0 {
        return None;
    }
    let mut key = Vec::new();
    for group in known.chunks(4) {
        let meant = group.iter().take_while(|byte| **byte != b'=').count();
        if meant < 2 || group[meant..].iter().any(|byte| *byte != b'=') {
            return None;
        }
        let mut bits = 0u32;
        for byte in group {
            bits = bits * 64 + ALPHABET.iter().position(|known| known == byte).unwrap_or(0) as u32;
        }
        key.extend_from_slice(&bits.to_be_bytes()[1..meant]);
        if meant < 4 {
            break;
        }
    }
    Some(key)
}

pub(super) fn to_base64(key: &[u8]) -> Vec<u8> {
    let mut text = Vec::new();
    for group in key.chunks(3) {
        let bits = (0..3).fold(0u32, |bits, at| bits * 256 + u32::from(group.get(at).copied().unwrap_or(0)));
        for at in 0..4 {
            let six = bits >> (18 - 6 * at) & 63;
            text.push(if at <= group.len() { ALPHABET[six as usize] } else { b'=' });
        }
    }
    text
}
