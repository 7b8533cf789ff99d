//! The live table, once a second: a row per sampler, the cost of both tiers, what waits, a row per
//! policy, and what the store gets.

use std::fmt::Write as _;
use std::io::{self, IsTerminal as _, Write as _};
use std::time::Duration;

use hdrhistogram::Histogram;

use super::generator::histogram;
use super::nodes::Census;

/// What one second shows.
#[derive(Debug)]
pub(super) struct Second {
    /// Since the start.
    pub elapsed: Duration,
    /// What the row is about; a little more than a second on a busy machine.
    pub length: Duration,
    /// By sampler.
    pub hops: Vec<Histogram<u64>>,
    /// Bytes that the clients sent in it.
    pub bytes: u64,
    /// Counters at its beginning and its end.
    pub before: Census,
    pub now: Census,
    /// Spans that came to the store in it.
    pub stored: u64,
}

/// The table on standard output: drawn in place on a terminal, else line after line.
#[derive(Debug)]
pub(super) struct Table {
    /// Addresses of the samplers.
    samplers: Vec<String>,
    policies: Vec<String>,
    in_place: bool,
    /// Lines to go back up.
    drawn: usize,
}

const HEADER: &str = " time  sampler                spans/s   share   hop p50   hop p99";
const POLICIES: &str = "       policy              kept/s  dropped/s        kept     dropped";

impl Table {
    pub(super) fn new(samplers: Vec<String>, policies: Vec<String>) -> Self {
        Self { samplers, policies, in_place: io::stdout().is_terminal(), drawn: 0 }
    }

    /// Shows a second.
    pub(super) fn show(&mut self, second: &Second) {
        let text = self.text(second);
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

    fn text(&self, second: &Second) -> String {
        let Second { before, now, .. } = second;
        let mut out = String::new();
        let mut time = format!("{} s", second.elapsed.as_secs_f64().round());
        let mut all = histogram();
        let taken = |census: &Census, at: usize| census.samplers[at].sampling.accepted;
        let spans: Vec<_> =
            (0..self.samplers.len()).map(|at| taken(now, at) - taken(before, at)).collect();
        let sum: u64 = spans.iter().sum();
        for ((name, spans), hop) in self.samplers.iter().zip(&spans).zip(&second.hops) {
            _ = all.add(hop);
            row(&mut out, &time, name, *spans, sum, second.length, hop);
            time.clear();
        }
        row(&mut out, "", "all", sum, sum, second.length, &all);
        let held = now.sampling();
        _ = writeln!(
            out,
            "       router: {}, {:.1} MiB/s, {} spans in flight",
            cost(second, 0, sum),
            second.per_second(second.bytes) / f64::from(1 << 20),
            count(now.router.in_flight() as f64)
        );
        _ = writeln!(
            out,
            "       samplers: {}, {:.1} MiB buffered\n       \
                    waiting for a decision: {} traces; the last decisions were {:.1} ms late",
            cost(second, 1, sum),
            held.bytes as f64 / f64::from(1 << 20),
            count(held.undecided() as f64),
            held.lag.as_secs_f64() * 1e3
        );
        self.policies(&mut out, second);
        let stored = count(second.per_second(second.stored).round());
        _ = writeln!(out, "       store: {stored} spans/s");
        out
    }

    /// What each policy voted, and what became of the traces.
    fn policies(&self, out: &mut String, second: &Second) {
        let (before, now) = (second.before.sampling(), second.now.sampling());
        _ = writeln!(out, "{POLICIES}");
        let nothing = [0; 2];
        for (at, name) in self.policies.iter().enumerate() {
            let then = before.votes.get(at).unwrap_or(&nothing);
            policy(out, name, second, *then, *now.votes.get(at).unwrap_or(&nothing));
        }
        policy(out, "all traces", second, before.decided, now.decided);
    }
}

impl Second {
    fn per_second(&self, n: u64) -> f64 {
        n as f64 / self.length.as_secs_f64().max(1e-3)
    }
}

/// Writes to standard output at once; a reader that has gone away is no error.
pub(super) fn print(text: &str) {
    let mut out = io::stdout().lock();
    _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}

/// CPU of a tier: 0 the router, 1 the samplers.
fn cost(second: &Second, tier: usize, spans: u64) -> String {
    let cpu = second.now.cpu[tier].saturating_sub(second.before.cpu[tier]);
    format!(
        "{} ns CPU/span, {:.0} % of a core",
        count((cpu.as_nanos() as f64 / spans.max(1) as f64).round()),
        second.per_second(crate::time::nanos(cpu)) / 1e7
    )
}

fn policy(out: &mut String, name: &str, second: &Second, before: [u64; 2], now: [u64; 2]) {
    let recent = |at: usize| count(second.per_second(now[at] - before[at]).round());
    _ = writeln!(
        out,
        "         {name:<17}{:>7}{:>11}{:>12}{:>12}",
        recent(0),
        recent(1),
        count(now[0] as f64),
        count(now[1] as f64)
    );
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
    use crate::demo::counters::{Counters, Sampling};

    #[test]
    fn numbers_are_grouped_by_thousands() {
        for (n, want) in [(0.0, "0"), (999.0, "999"), (1e3, "1,000"), (1_234_567.4, "1,234,567")] {
            assert_eq!(count(n), want);
        }
    }

    fn census(times: u64) -> Census {
        let sampler = |accepted: u64| Counters {
            sampling: Sampling {
                accepted: accepted * times,
                new_traces: 5_000 * times,
                decided: [400 * times, 4_000 * times],
                votes: vec![[0, 250 * times], [200 * times, 0]],
                bytes: 7 << 20,
                lag: Duration::from_micros(800),
                ..Sampling::default()
            },
            ..Counters::default()
        };
        Census {
            router: Counters { lanes: vec![[0, 0, 0, 1_310]], ..Counters::default() },
            samplers: vec![sampler(30_000), sampler(70_000)],
            cpu: [81, 95].map(|ms| Duration::from_millis(ms * times)),
            abandoned: 0,
        }
    }

    #[test]
    fn a_second_shows_both_tiers_the_policies_and_the_store_within_eighty_columns() {
        let mut hop = histogram();
        hop.saturating_record_n(412_000, 9);
        let second = Second {
            elapsed: Duration::from_millis(3_001),
            length: Duration::from_secs(1),
            hops: vec![hop.clone(), hop],
            bytes: 43 << 20,
            before: census(2),
            now: census(3),
            stored: 14_320,
        };
        let samplers = ["127.0.0.1:34567".into(), "127.0.0.1:34568".into()];
        let table = Table::new(samplers.into(), vec!["no-health".into(), "errors".into()]);
        let shown = table.text(&second);
        let lines: Vec<_> = shown.lines().collect();
        assert_eq!(lines[0], "  3 s  127.0.0.1:34567         30,000   30.0 %   0.41 ms   0.41 ms");
        assert!(lines[2].contains("all") && lines[2].contains("100,000"), "{shown}");
        assert!(lines[3].contains("router: 810 ns CPU/span, 8 % of a core, 43.0 MiB/s"), "{shown}");
        assert!(
            lines[4].contains("samplers: 950 ns CPU/span, 10 % of a core, 14.0 MiB"),
            "{shown}"
        );
        assert!(lines[5].contains("3,600 traces") && lines[5].contains("0.8 ms late"), "{shown}");
        let words = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(" ");
        assert_eq!(words(lines[7]), "no-health 0 500 0 1,500");
        assert_eq!(words(lines[8]), "errors 400 0 1,200 0");
        assert_eq!(words(lines[9]), "all traces 800 8,000 2,400 24,000");
        assert!(lines[10].contains("store: 14,320 spans/s"), "{shown}");
        assert_eq!(lines.len(), 11);
        assert!(lines.iter().all(|l| l.len() <= 80), "{shown}");
    }
}
