//! Latencies as the text that HdrHistogram's plotters read (`.hgrm`), in milliseconds.

use crate::error::Error;
use hdrhistogram::Histogram;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;

/// Lines for every halving of what is missing to 100 %.
const STEPS: u32 = 5;
const NS_PER_MS: f64 = 1e6;

/// The percentiles of a histogram of nanoseconds, line by line.
pub fn format(latency_ns: &Histogram<u64>) -> String {
    let mut text = format!("{:>12} {:>14} {:>10} {:>14}\n\n", "Value", "Percentile", "TotalCount", "1/(1-Percentile)");
    let mut count = 0;
    for step in latency_ns.iter_quantiles(STEPS) {
        count += step.count_since_last_iteration();
        let (ms, quantile) = (step.value_iterated_to() as f64 / NS_PER_MS, step.quantile_iterated_to());
        let _ = write!(text, "{ms:>12.6} {quantile:>14.12} {count:>10}");
        // The last line has no finite inverse, and leaves it out.
        let _ = if quantile < 1.0 { writeln!(text, " {:>14.2}", 1.0 / (1.0 - quantile)) } else { writeln!(text) };
    }
    let (mean, deviation) = (latency_ns.mean() / NS_PER_MS, latency_ns.stdev() / NS_PER_MS);
    let _ = writeln!(text, "#[Mean    = {mean:>12.6}, StdDeviation   = {deviation:>12.6}]");
    let (max, total) = (latency_ns.max() as f64 / NS_PER_MS, latency_ns.len());
    let _ = writeln!(text, "#[Max     = {max:>12.6}, Total count    = {total:>12}]");
    let (buckets, length) = (latency_ns.buckets(), latency_ns.distinct_values());
    let _ =
        writeln!(text, "#[Buckets = {buckets:>12}, SubBuckets     = {:>12}]", length / (usize::from(buckets) + 1) * 2);
    text
}

/// Writes the percentiles to a file.
///
/// # Errors
/// When the file cannot be written.
pub fn write(path: &Path, latency_ns: &Histogram<u64>) -> Result<(), Error> {
    fs::write(path, format(latency_ns)).map_err(|source| Error::File { file: path.display().to_string(), source })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_line_has_its_columns_and_the_last_counts_all() {
        let mut latency = Histogram::new_with_bounds(1, 60_000_000_000, 3).unwrap();
        (1..=1000_u64).for_each(|us| latency.record(us * 1000).unwrap());
        let text = format(&latency);
        let lines: Vec<Vec<f64>> = text
            .lines()
            .skip(2)
            .filter(|line| !line.starts_with('#'))
            .map(|line| line.split_whitespace().map(|word| word.parse().unwrap()).collect())
            .collect();
        assert!(lines.len() > 20, "{text}");
        assert!(lines.windows(2).all(|pair| pair[0][..3].iter().zip(&pair[1]).all(|(a, b)| a <= b)), "{text}");
        let last = &lines[lines.len() - 1];
        assert!((last[0] - 1.0).abs() < 0.001 && last[1..] == [1.0, 1000.0], "{text}");
        assert!(text.contains("SubBuckets     =         2048"), "{text}");
    }
}
