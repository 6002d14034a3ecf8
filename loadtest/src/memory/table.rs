//! The figures as tables, servers side by side.

use super::{MemoryReport, ServerMemory};
use crate::report::wrong_answers;
use crate::units::counted;
use std::fmt;

const MIB: f64 = (1 << 20) as f64;

fn mib(bytes: u64) -> String {
    format!("{:.1}", bytes as f64 / MIB)
}

fn known(number: Option<u64>) -> String {
    number.map_or_else(|| "not said".into(), |number| number.to_string())
}

impl MemoryReport {
    /// A line of every server's figure.
    fn line(&self, f: &mut fmt::Formatter<'_>, name: &str, figure: impl Fn(&ServerMemory) -> String) -> fmt::Result {
        write!(f, "  {name:<44}")?;
        for server in &self.servers {
            write!(f, " {:>14}", figure(server))?;
        }
        writeln!(f)
    }

    fn heading(&self, f: &mut fmt::Formatter<'_>, text: &str) -> fmt::Result {
        write!(f, "\n{text:<46}")?;
        for name in ["A", "B"].iter().take(self.servers.len()) {
            write!(f, " {name:>14}")?;
        }
        writeln!(f)
    }
}

impl fmt::Display for MemoryReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (server, name) in self.servers.iter().zip(["A", "B"]) {
            writeln!(f, "{name}           {}", server.server)?;
        }
        let Some(first) = self.servers.first() else { return Ok(()) };
        if !first.items.is_empty() {
            self.heading(f, "resident bytes per item beyond key and value")?;
            for (index, filled) in first.items.iter().enumerate() {
                let name = format!("{} of {}", counted(filled.stored, "item"), filled.lengths);
                self.line(f, &name, |server| {
                    let filled = &server.items[index];
                    let lost = filled.curr_items.is_some_and(|items| items != filled.stored);
                    format!("{:.1}{}", filled.overhead_bytes, if lost { " (LOST SOME)" } else { "" })
                })?;
            }
        }
        if let Some(held) = &first.held {
            self.heading(f, &format!("{} of 16/32 B under -m {}", counted(held.stored, "item"), held.limit_mib))?;
            self.line(f, "curr_items", |server| server.held.map_or_else(String::new, |held| known(held.curr_items)))?;
            self.line(f, "found by reading back", |server| {
                server.held.map_or_else(String::new, |held| held.found.to_string())
            })?;
            self.line(f, "resident MiB", |server| {
                server.held.map_or_else(String::new, |held| mib(held.resident_bytes))
            })?;
        }
        if let Some(churn) = &first.churn {
            let text = format!(
                "{} of {} rewritten {}",
                counted(churn.items, "item"),
                churn.lengths,
                counted(churn.rewrites, "time")
            );
            self.heading(f, &text)?;
            writeln!(f, "  sizes within 30 %, live data 70 % of -m {}", churn.limit_mib)?;
            let mut line = |name: &str, figure: fn(&super::Churned) -> String| {
                self.line(f, name, |server| server.churn.as_ref().map_or_else(String::new, figure))
            };
            line("evictions", |churn| known(churn.evictions))?;
            line("sets not stored", |churn| churn.errors.to_string())?;
            line("items missing in the end", |churn| churn.missing.to_string())?;
            line("resident MiB, at most", |churn| mib(churn.resident_bytes_max))?;
        }
        if !first.shifts.is_empty() {
            self.heading(f, "size shifts: newest items found, % of -m")?;
            writeln!(f, "  keys and values only; / as a share of what a fresh server holds of them")?;
            for (index, shifted) in first.shifts.iter().enumerate() {
                let name = format!("{}. {} of {}", index + 1, counted(shifted.stored, "item"), shifted.lengths);
                self.line(f, &name, |server| {
                    let shifted = &server.shifts[index];
                    let of_fresh = shifted.share / shifted.share_fresh * 100.0;
                    format!("{:.1} / {of_fresh:.1}", shifted.share * 100.0)
                })?;
                if self.servers.iter().any(|server| server.shifts[index].errors > 0) {
                    self.line(f, "   sets not stored", |server| server.shifts[index].errors.to_string())?;
                }
            }
        }
        if let Some(slow) = &first.slow {
            let text = format!("{} slow readers under -m {}", slow.clients, slow.limit_mib);
            self.heading(f, &text)?;
            writeln!(f, "  each asked for {} MiB and reads 1 KB/s, for {:.0} s", mib(slow.asked_bytes), slow.seconds)?;
            let mut line = |name: &str, figure: fn(&super::Slowed) -> String| {
                self.line(f, name, |server| server.slow.as_ref().map_or_else(String::new, figure))
            };
            line("resident MiB before", |slow| mib(slow.resident_bytes_before))?;
            line("resident MiB, at most", |slow| mib(slow.resident_bytes_max))?;
            line("connections closed by the server", |slow| slow.closed.to_string())?;
            line("MiB read by all", |slow| mib(slow.read_bytes))?;
        }
        for (server, name) in self.servers.iter().zip(["A", "B"]) {
            if server.wrong_answers > 0 {
                writeln!(f, "\n{name} GAVE {}", wrong_answers(server.wrong_answers))?;
            }
        }
        Ok(())
    }
}
