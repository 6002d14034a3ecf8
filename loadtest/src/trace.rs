//! Recorded requests: which keys were asked for, in order.
//!
//! Two formats, each plain or compressed by `xz` (recognised by its first bytes):
//! - *text*: a line per request, the key and optionally the size of its value in bytes: `product-17 2048`
//! - *packed*: four bytes per request, the key; only the identity of keys matters. On the wire a key is its eight
//!   hexadecimal digits.
//!
//! A key's size is the first one that the trace gives for it. Where it gives none, the size follows from the key's name:
//! log-uniform from 16 B to 2 KiB, see [`derived_value_bytes`].

use crate::error::Error;
use crate::keys::{KEY_BYTES_MAX, KeyNames};
use crate::workload::{Dialect, Items, ValueSizes};
use clap::ValueEnum;
use lzma_rust2::XzReader;
use std::collections::HashMap;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::Path;

/// Smallest and largest derived size.
const DERIVED_BYTES: (f64, f64) = (16.0, 2048.0);
/// What an xz file begins with.
const XZ_MAGIC: [u8; 6] = [0xfd, b'7', b'z', b'X', b'Z', 0];

/// How a trace is written down.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub enum Format {
    /// A line per request: key, and optionally a size
    Text,
    /// Four bytes per request
    Packed,
}

impl Format {
    /// What the file's name suggests: `.trace` and `.trace.xz` are packed, everything else is text.
    pub fn of(path: &Path) -> Self {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if name.trim_end_matches(".xz").ends_with(".trace") { Self::Packed } else { Self::Text }
    }
}

/// A trace in memory: four bytes per request, and every key once.
#[derive(Clone, Debug)]
pub struct Trace {
    /// Number of the key of each request.
    pub requests: Vec<u32>,
    /// Names and sizes of the keys.
    pub items: Items,
    /// Bytes of all names and values together: the smallest cache without a second miss, if items cost nothing else.
    pub footprint_bytes: u64,
    /// Sizes of the values as the trace or the rule gives them.
    recorded_bytes: Vec<u32>,
}

impl Trace {
    /// A trace of these requests; key `i` has name `i` and a value of `recorded_bytes[i]` bytes.
    pub fn new(requests: Vec<u32>, names: Vec<Box<[u8]>>, recorded_bytes: Vec<u32>) -> Self {
        let items = Items {
            names: KeyNames::Listed(names),
            value_bytes: ValueSizes::PerKey(Vec::new()),
            dialect: Dialect::Classic,
        };
        let mut trace = Self { requests, items, footprint_bytes: 0, recorded_bytes };
        trace.scale(1.0);
        trace
    }

    /// Reads a file.
    ///
    /// # Errors
    /// When the file cannot be read, or is not such a trace.
    pub fn read(path: &Path, format: Format) -> Result<Self, Error> {
        let file = path.display().to_string();
        let failed = |source: io::Error| match source.kind() {
            io::ErrorKind::InvalidData => Error::Data { file: file.clone(), reason: source.to_string() },
            _ => Error::File { file: file.clone(), source },
        };
        let mut reader = BufReader::new(File::open(path).map_err(failed)?);
        let compressed = reader.fill_buf().map_err(failed)?.starts_with(&XZ_MAGIC);
        let result =
            if compressed { parse(BufReader::new(XzReader::new(reader, true)), format) } else { parse(reader, format) };
        result.map_err(failed)
    }

    /// Number of different keys.
    pub fn key_count(&self) -> usize {
        match &self.items.names {
            KeyNames::Listed(names) => names.len(),
            KeyNames::Numbered { .. } | KeyNames::Drawn { .. } => 0,
        }
    }

    /// Gives every value its recorded size times `factor`, rounded.
    pub fn scale(&mut self, factor: f64) {
        let scaled = |bytes: &u32| (f64::from(*bytes) * factor).round() as u32;
        let value_bytes: Vec<u32> = self.recorded_bytes.iter().map(scaled).collect();
        self.footprint_bytes = self.name_bytes() + value_bytes.iter().copied().map(u64::from).sum::<u64>();
        self.items.value_bytes = ValueSizes::PerKey(value_bytes);
    }

    /// The least factor from 1 on that makes a footprint of so many bytes.
    pub fn factor_for(&self, footprint_bytes: f64) -> f64 {
        let recorded: u64 = self.recorded_bytes.iter().copied().map(u64::from).sum();
        ((footprint_bytes - self.name_bytes() as f64) / recorded.max(1) as f64).max(1.0)
    }

    fn name_bytes(&self) -> u64 {
        match &self.items.names {
            KeyNames::Listed(names) => names.iter().map(|name| name.len() as u64).sum(),
            KeyNames::Numbered { .. } | KeyNames::Drawn { .. } => 0,
        }
    }
}

fn parse(reader: impl BufRead, format: Format) -> io::Result<Trace> {
    let mut collector = Collector::default();
    match format {
        Format::Text => parse_text(reader, &mut collector)?,
        Format::Packed => parse_packed(reader, &mut collector)?,
    }
    collector.finish()
}

fn parse_text(mut reader: impl BufRead, collector: &mut Collector) -> io::Result<()> {
    let mut line = Vec::new();
    let mut number = 0_u64;
    while reader.read_until(b'\n', &mut line)? > 0 {
        number += 1;
        let mut words = line.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty());
        if let Some(name) = words.next() {
            let size = words.next().map(|size| str::from_utf8(size).ok().and_then(|size| size.parse().ok()));
            let fits = name.len() <= KEY_BYTES_MAX && !name.iter().any(u8::is_ascii_control);
            match (size, words.next()) {
                (None, None) if fits => collector.push(name, None),
                (Some(Some(size)), None) if fits => collector.push(name, Some(size)),
                _ => return Err(invalid(format!("line {number} is not `key [size]`"))),
            }
        }
        line.clear();
    }
    Ok(())
}

fn parse_packed(mut reader: impl Read, collector: &mut Collector) -> io::Result<()> {
    let mut bytes = Vec::new();
    reader.read_to_end(&mut bytes)?;
    let (keys, rest) = bytes.as_chunks::<4>();
    if !rest.is_empty() {
        return Err(invalid("the length is not a multiple of four bytes".into()));
    }
    for key in keys {
        collector.push(format!("{:08x}", u32::from_be_bytes(*key)).as_bytes(), None);
    }
    Ok(())
}

fn invalid(reason: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, reason)
}

/// Gives numbers to names as they come.
#[derive(Default)]
struct Collector {
    requests: Vec<u32>,
    numbers: HashMap<Box<[u8]>, u32>,
    names: Vec<Box<[u8]>>,
    value_bytes: Vec<u32>,
}

impl Collector {
    fn push(&mut self, name: &[u8], size: Option<u32>) {
        let number = self.numbers.get(name).copied().unwrap_or_else(|| {
            let number = self.names.len() as u32;
            self.names.push(name.into());
            self.numbers.insert(name.into(), number);
            self.value_bytes.push(size.unwrap_or_else(|| derived_value_bytes(name)));
            number
        });
        self.requests.push(number);
    }

    fn finish(self) -> io::Result<Trace> {
        if self.requests.is_empty() {
            return Err(invalid("there is no request in it".into()));
        }
        Ok(Trace::new(self.requests, self.names, self.value_bytes))
    }
}

/// Size of the value of a key for which the trace gives none: `16 * 128^u` bytes, rounded, where `u` in 0..1 is the upper 53
/// bits of the key's hash divided by 2^53, and the hash is 64-bit FNV-1a of the name followed by MurmurHash3's finaliser.
pub fn derived_value_bytes(name: &[u8]) -> u32 {
    let mut hash = name
        .iter()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3));
    hash = (hash ^ (hash >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    hash = (hash ^ (hash >> 33)).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    hash ^= hash >> 33;
    let unit = (hash >> 11) as f64 / 2_f64.powi(53);
    let (low, high) = DERIVED_BYTES;
    (low * (high / low).powf(unit)).round() as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(bytes: &[u8], format: Format) -> Result<Trace, String> {
        parse(bytes, format).map_err(|error| error.to_string())
    }

    fn names(trace: &Trace) -> Vec<String> {
        let KeyNames::Listed(names) = &trace.items.names else {
            return Vec::new();
        };
        names.iter().map(|name| String::from_utf8_lossy(name).into_owned()).collect()
    }

    #[test]
    fn text_traces_name_keys_and_sometimes_sizes() {
        let trace = read(b"a 100\nb\r\n\na 7\nc 0\nb 5", Format::Text).unwrap();
        assert_eq!(trace.requests, [0, 1, 0, 2, 1]);
        assert_eq!(names(&trace), ["a", "b", "c"]);
        let derived = derived_value_bytes(b"b") as usize;
        assert_eq!([0, 1, 2].map(|key| trace.items.value_bytes.of(key)), [100, derived, 0]);
        assert_eq!(trace.footprint_bytes, 3 + 100 + derived as u64);
    }

    #[test]
    fn packed_traces_are_four_bytes_a_key() {
        let trace = read(&[0, 0, 0, 1, 0xab, 2, 3, 4, 0, 0, 0, 1], Format::Packed).unwrap();
        assert_eq!(trace.requests, [0, 1, 0]);
        assert_eq!(names(&trace), ["00000001", "ab020304"]);
        assert_eq!(trace.key_count(), 2);
    }

    #[test]
    fn sizes_can_be_scaled() {
        let mut trace = read(b"a 100\nb 3\n", Format::Text).unwrap();
        trace.scale(2.5);
        assert_eq!([0, 1].map(|key| trace.items.value_bytes.of(key)), [250, 8]);
        assert_eq!(trace.footprint_bytes, 2 + 258);
        assert_eq!((trace.factor_for(2.0 + 206.0), trace.factor_for(50.0)), (2.0, 1.0));
    }

    #[test]
    fn what_is_no_trace_is_refused() {
        let long = [b'k'; 251];
        let cases: [(&[u8], Format, &str); 7] = [
            (b"", Format::Text, "no request"),
            (b"\n\n", Format::Text, "no request"),
            (b"a\na b\n", Format::Text, "line 2"),
            (b"a 1 2\n", Format::Text, "line 1"),
            (b"a -1\n", Format::Text, "line 1"),
            (&long, Format::Text, "line 1"),
            (&[1, 2, 3, 4, 5], Format::Packed, "multiple of four"),
        ];
        for (bytes, format, part) in cases {
            let message = read(bytes, format).unwrap_err();
            assert!(message.contains(part), "{}: {message}", bytes.escape_ascii());
        }
    }

    #[test]
    fn derived_sizes_are_log_uniform_and_never_change() {
        let mut counts = [0_u32; 7];
        for key in 0..7000_u32 {
            let size = derived_value_bytes(format!("{key:08x}").as_bytes());
            assert!((16..=2048).contains(&size));
            // One bin for each doubling.
            counts[((f64::from(size) / 16.0).log2() as usize).min(6)] += 1;
        }
        assert!(counts.iter().all(|count| (850..1150).contains(count)), "{counts:?}");
        // Computed once with another language from the rule's words.
        assert_eq!(["00000001", "product-17"].map(|name| derived_value_bytes(name.as_bytes())), [853, 294]);
    }

    #[test]
    fn names_suggest_the_format() {
        let cases = [
            ("a.trace", Format::Packed),
            ("x/a.trace.xz", Format::Packed),
            ("a.txt", Format::Text),
            ("a.xz", Format::Text),
        ];
        for (name, format) in cases {
            assert_eq!(Format::of(Path::new(name)), format, "{name}");
        }
    }
}
