//! What arrived: counts per address, split traces, duplicates, latency from end to end.

use hdrhistogram::Histogram;
use serde_json::{Value, json};

use super::seen::{Known, Seen, fold};
use super::sizes::Sizes;
use crate::clock;
use crate::proto;
use crate::report;
use crate::wire::grpc;

/// Addresses that fit the one byte which the table of traces keeps.
pub(crate) const ADDRESSES_MAX: usize = 250;

/// Counts of one address.
#[derive(Debug)]
pub(crate) struct Tally {
    pub(crate) address: String,
    pub(crate) connections: u64,
    pub(crate) requests: u64,
    pub(crate) spans: u64,
    /// Bytes of messages as they came, compressed or not.
    pub(crate) bytes: u64,
    /// Requests that could not be inflated or parsed, or were not one gRPC message.
    pub(crate) invalid: u64,
    /// Requests answered with a fault.
    pub(crate) faulted: u64,
    /// Traces whose first span came here.
    pub(crate) traces: u64,
    latency: Histogram<u64>,
}

/// Looks at every request.
#[derive(Debug)]
pub(crate) struct Judge {
    pub(crate) tallies: Vec<Tally>,
    traces: Seen,
    spans: Seen,
    /// Spans of each trace, if somebody wants to know.
    pub(crate) sizes: Option<Sizes>,
    /// Spans that came to another address than the first of their trace.
    split_spans: u64,
    /// Traces with such a span, as far as remembered.
    pub(crate) split_traces: u64,
    duplicate_spans: u64,
    /// Spans without a valid trace id.
    no_trace_id: u64,
    inflated: Vec<u8>,
    wall_offset: u64,
    /// Of the current second.
    recent: Histogram<u64>,
}

/// Marks a trace in the table as known to be split.
const SPLIT: u8 = 255;
/// End-to-end times above this are not ours: the sender has put no send time into its spans.
const LATENCY_MAX: u64 = 600 * clock::SECOND;
/// A span this much from the future has arrived at once.
const CLOCK_ERROR_MAX: u64 = clock::SECOND / 1000;

impl Judge {
    pub(crate) fn new(addresses: Vec<String>, traces_max: usize, spans_max: usize) -> Self {
        let tally = |address| Tally {
            address,
            connections: 0,
            requests: 0,
            spans: 0,
            bytes: 0,
            invalid: 0,
            faulted: 0,
            traces: 0,
            latency: report::histogram(),
        };
        assert!(addresses.len() <= ADDRESSES_MAX);
        Self {
            tallies: addresses.into_iter().map(tally).collect(),
            traces: Seen::new(traces_max),
            spans: Seen::new(spans_max),
            sizes: None,
            split_spans: 0,
            split_traces: 0,
            duplicate_spans: 0,
            no_trace_id: 0,
            inflated: Vec::new(),
            wall_offset: clock::wall_offset(),
            recent: report::histogram(),
        }
    }

    /// One request body: prefix and message. False if it is not one valid message.
    pub(crate) fn request(&mut self, address: usize, body: &[u8], now: u64) -> bool {
        let valid = self.message(address, body, now).is_some();
        let tally = &mut self.tallies[address];
        tally.requests += 1;
        tally.bytes += body.len() as u64;
        tally.invalid += u64::from(!valid);
        valid
    }

    fn message(&mut self, address: usize, body: &[u8], now: u64) -> Option<()> {
        let (prefix, message) = body.split_at_checked(grpc::PREFIX_BYTES)?;
        let len = u32::from_be_bytes([prefix[1], prefix[2], prefix[3], prefix[4]]) as usize;
        if len != message.len() {
            return None;
        }
        match prefix[0] {
            0 => self.spans(address, message, now),
            1 => {
                let mut inflated = std::mem::take(&mut self.inflated);
                let outcome = grpc::inflate(message, &mut inflated)
                    .and_then(|()| self.spans(address, &inflated, now));
                self.inflated = inflated;
                outcome
            }
            _ => None,
        }
    }

    fn spans(&mut self, address: usize, message: &[u8], now: u64) -> Option<()> {
        let Self { tallies, traces, spans, sizes, wall_offset, .. } = self;
        let tally = &mut tallies[address];
        let wall = now + *wall_offset;
        let mut last = (0, 0);
        let (mut count, mut no_trace_id, mut split, mut newly_split, mut twice) = (0, 0, 0, 0, 0);
        let mut malformed = false;
        proto::spans(message, |first, span| {
            count += 1;
            let Ok(ids) = proto::ids(span) else {
                malformed = true;
                return;
            };
            if first && let Some(end) = proto::end_time(span) {
                // The clocks of two processes agree to within microseconds, and no better.
                let took = if end < wall + CLOCK_ERROR_MAX {
                    wall.saturating_sub(end)
                } else {
                    LATENCY_MAX
                };
                if took < LATENCY_MAX {
                    tally.latency.saturating_record(took);
                    self.recent.saturating_record(took);
                }
            }
            let Some(trace) = words(ids.trace) else {
                no_trace_id += 1;
                return;
            };
            if let Some(sizes) = sizes {
                sizes.add(ids.trace);
            }
            let hash = fold(trace.0, trace.1);
            if trace != last && traces.is_on() {
                last = trace;
                match traces.note(hash, address as u8) {
                    Known::New => tally.traces += 1,
                    Known::With(SPLIT) => split += 1,
                    Known::With(home) if usize::from(home) != address => {
                        split += 1;
                        newly_split += 1;
                        traces.set(hash, SPLIT);
                    }
                    Known::With(_) => {}
                }
            }
            if spans.is_on() {
                let id = ids.span.try_into().map_or(0, u64::from_le_bytes);
                twice += u64::from(spans.note(fold(hash, id), 0) != Known::New);
            }
        })
        .ok()?;
        tally.spans += count;
        self.no_trace_id += no_trace_id;
        self.split_spans += split;
        self.split_traces += newly_split;
        self.duplicate_spans += twice;
        (!malformed).then_some(())
    }

    pub(crate) fn spans_total(&self) -> u64 {
        self.tallies.iter().map(|t| t.spans).sum()
    }

    /// One line on the last second, which ends here.
    pub(crate) fn progress(&mut self, spans_before: u64, seconds: f64) -> String {
        let spans = self.spans_total();
        let line = format!(
            "{:>12} spans/s  {:>14} spans  end to end {}  split traces {}",
            report::thousands(((spans - spans_before) as f64 / seconds) as u64),
            report::thousands(spans),
            report::latency_text(&self.recent),
            self.split_traces,
        );
        self.recent.reset();
        line
    }

    /// The summary for scripts.
    pub(crate) fn json(&self, seconds: f64) -> Value {
        let sum = |of: fn(&Tally) -> u64| self.tallies.iter().map(of).sum::<u64>();
        let mut latency = report::histogram();
        for tally in &self.tallies {
            latency.add(&tally.latency).expect("same bounds");
        }
        json!({
            "seconds": seconds,
            "connections": sum(|t| t.connections),
            "requests": sum(|t| t.requests),
            "spans": sum(|t| t.spans),
            "bytes": sum(|t| t.bytes),
            "invalid_requests": sum(|t| t.invalid),
            "faulted_requests": sum(|t| t.faulted),
            "traces": self.traces.is_on().then(|| sum(|t| t.traces)),
            "traces_forgotten": self.traces.forgotten,
            "split_traces": self.traces.is_on().then_some(self.split_traces),
            "split_spans": self.traces.is_on().then_some(self.split_spans),
            "spans_without_trace_id": self.no_trace_id,
            "duplicate_spans": self.spans.is_on().then_some(self.duplicate_spans),
            "spans_forgotten": self.spans.forgotten,
            "end_to_end": report::latency_json(&latency),
            "addresses": self.tallies.iter().map(|t| json!({
                "address": t.address,
                "connections": t.connections,
                "requests": t.requests,
                "spans": t.spans,
                "bytes": t.bytes,
                "invalid_requests": t.invalid,
                "faulted_requests": t.faulted,
                "traces": t.traces,
                "end_to_end": report::latency_json(&t.latency),
            })).collect::<Vec<_>>(),
        })
    }

    /// The summary for people.
    pub(crate) fn text(&self, seconds: f64) -> String {
        let mut out = format!(
            "{:<24}{:>6}{:>12}{:>14}{:>7}{:>10}{:>9}{:>9}  end to end\n",
            "address", "conns", "requests", "spans", "share", "MiB", "invalid", "faulted"
        );
        let total = self.spans_total().max(1) as f64;
        for t in &self.tallies {
            out += &format!(
                "{:<24}{:>6}{:>12}{:>14}{:>6.1}%{:>10.1}{:>9}{:>9}  {}\n",
                t.address,
                t.connections,
                report::thousands(t.requests),
                report::thousands(t.spans),
                100.0 * t.spans as f64 / total,
                t.bytes as f64 / 1048576.0,
                t.invalid,
                t.faulted,
                report::latency_text(&t.latency),
            );
        }
        let spans = self.spans_total();
        out += &format!(
            "{} spans in {seconds:.1} s ({} spans/s)\n",
            report::thousands(spans),
            report::thousands((spans as f64 / seconds.max(1e-9)) as u64),
        );
        if self.traces.is_on() {
            let traces: u64 = self.tallies.iter().map(|t| t.traces).sum();
            out += &format!(
                "{} traces, {} split over addresses ({} spans away from home)",
                report::thousands(traces),
                self.split_traces,
                self.split_spans
            );
            out += &forgotten(self.traces.forgotten, "traces", "--traces-max");
        }
        if self.spans.is_on() {
            out += &format!("{} duplicate spans", self.duplicate_spans);
            out += &forgotten(self.spans.forgotten, "spans", "--spans-max");
        }
        if self.no_trace_id > 0 {
            out += &format!("{} spans without a valid trace id\n", self.no_trace_id);
        }
        out
    }
}

fn forgotten(count: u64, what: &str, option: &str) -> String {
    match count {
        0 => "\n".to_owned(),
        n => format!("; {} {what} forgotten, see {option}\n", report::thousands(n)),
    }
}

/// A trace id as two words; `None` if it has not 16 bytes or is zero.
#[inline]
fn words(id: &[u8]) -> Option<(u64, u64)> {
    let id: &[u8; 16] = id.try_into().ok()?;
    let all = u128::from_le_bytes(*id);
    (all != 0).then_some((all as u64, (all >> 64) as u64))
}
