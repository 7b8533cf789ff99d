//! The live table: one row per endpoint and two lines of totals, once a second.

use std::fmt::Write as _;
use std::io::{self, IsTerminal as _, Write as _};
use std::time::Duration;

use hdrhistogram::Histogram;

use super::judge::{Recent, histogram};

/// What one second shows.
#[derive(Debug)]
pub(super) struct Second {
    /// Since the start.
    pub elapsed: Duration,
    /// What the row is about; a little more than a second on a busy machine.
    pub length: Duration,
    /// By endpoint.
    pub endpoints: Vec<Recent>,
    /// Bytes that the clients sent in it.
    pub bytes: u64,
    /// CPU time of the data cores in it.
    pub cpu: Duration,
    /// Spans that the router holds.
    pub in_flight: u64,
}

/// The table on standard output: drawn in place on a terminal, else line after line.
#[derive(Debug)]
pub(super) struct Table {
    addresses: Vec<String>,
    in_place: bool,
    /// Lines to go back up.
    drawn: usize,
}

const HEADER: &str = " time  endpoint               spans/s   share   hop p50   hop p99";

impl Table {
    pub(super) fn new(addresses: Vec<String>) -> Self {
        Self { addresses, in_place: io::stdout().is_terminal(), drawn: 0 }
    }

    /// Shows a second.
    pub(super) fn show(&mut self, second: &Second) {
        let text = text(&self.addresses, second);
        let mut out = String::new();
        if self.drawn == 0 {
            _ = writeln!(out, "\n{HEADER}");
        }
        if self.in_place && self.drawn > 0 {
            // Cursor up.
            _ = write!(out, "\x1b[{}A\r", self.drawn);
        }
        for line in text.lines() {
            // Erase to the end of the line, where the last second's may have been longer.
            out.push_str(line);
            out.push_str(if self.in_place { "\x1b[K\n" } else { "\n" });
        }
        self.drawn = text.lines().count();
        print(&out);
    }
}

/// Writes to standard output at once; a reader that has gone away is no error.
pub(super) fn print(text: &str) {
    let mut out = io::stdout().lock();
    _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}

fn text(addresses: &[String], second: &Second) -> String {
    let spans: u64 = second.endpoints.iter().map(|e| e.spans).sum();
    let mut hop = histogram();
    let mut out = String::new();
    let mut time = format!("{} s", second.elapsed.as_secs_f64().round());
    for (address, recent) in addresses.iter().zip(&second.endpoints) {
        _ = hop.add(&recent.hop);
        row(&mut out, &time, address, recent.spans, spans, second.length, &recent.hop);
        time.clear();
    }
    row(&mut out, "", "all", spans, spans, second.length, &hop);
    let seconds = second.length.as_secs_f64().max(1e-3);
    let per_span = second.cpu.as_nanos() as f64 / spans.max(1) as f64;
    _ = writeln!(
        out,
        "       router: {} ns CPU/span, {:.0} % of a core, {:.1} MiB/s, {} in flight",
        count(per_span.round()),
        100.0 * second.cpu.as_secs_f64() / seconds,
        second.bytes as f64 / seconds / f64::from(1 << 20),
        count(second.in_flight as f64),
    );
    out
}

fn row(
    out: &mut String,
    time: &str,
    name: &str,
    spans: u64,
    all: u64,
    length: Duration,
    hop: &Histogram<u64>,
) {
    _ = writeln!(
        out,
        "{time:>5}  {name:<21}{:>9}  {:>5.1} %{:>10}{:>10}",
        count((spans as f64 / length.as_secs_f64().max(1e-3)).round()),
        100.0 * spans as f64 / all.max(1) as f64,
        quantile(hop, 0.5),
        quantile(hop, 0.99),
    );
}

/// A quantile of a hop for people, e.g. `0.41 ms`.
pub(super) fn quantile(hop: &Histogram<u64>, quantile: f64) -> String {
    if hop.is_empty() {
        return "-".into();
    }
    let millis = hop.value_at_quantile(quantile) as f64 / 1e6;
    if millis < 10.0 { format!("{millis:.2} ms") } else { format!("{millis:.0} ms") }
}

/// A count for people: `1,234,567`.
pub(super) fn count(n: f64) -> String {
    let digits = format!("{n:.0}");
    let mut out = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at) % 3 == 0 {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_grouped_by_thousands() {
        for (n, want) in [(0.0, "0"), (999.0, "999"), (1e3, "1,000"), (1_234_567.4, "1,234,567")] {
            assert_eq!(count(n), want);
        }
    }

    #[test]
    fn a_second_is_a_row_per_endpoint_and_two_of_totals_within_eighty_columns() {
        let recent = |spans| {
            let mut hop = histogram();
            hop.saturating_record_n(412_000, spans);
            Recent { spans, hop }
        };
        let second = Second {
            elapsed: Duration::from_millis(3_001),
            length: Duration::from_secs(1),
            endpoints: vec![recent(30_000), recent(70_000)],
            bytes: 43 << 20,
            cpu: Duration::from_millis(81),
            in_flight: 1_310,
        };
        let shown = text(&["127.0.0.1:34567".into(), "127.0.0.1:34568".into()], &second);
        let lines: Vec<_> = shown.lines().collect();
        assert_eq!(lines.len(), 4);
        assert_eq!(lines[0], "  3 s  127.0.0.1:34567         30,000   30.0 %   0.41 ms   0.41 ms");
        assert!(lines[2].contains("all") && lines[2].contains("100,000"), "{shown}");
        assert!(lines[3].contains("810 ns") && lines[3].contains("43.0 MiB/s"), "{shown}");
        assert!(lines.iter().all(|l| l.len() <= 80), "{shown}");
    }
}
