//! What the receiver answered: counts over the whole run, rates and latency of the measured time.

use std::collections::BTreeMap;

use hdrhistogram::Histogram;
use serde_json::{Value, json};

use crate::report;
use crate::wire::grpc;

/// How a request ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// A gRPC status.
    Status { code: u32, retry_info: bool, message: String },
    /// OK; `rejected` spans if a partial success says so.
    Ok { rejected: Option<u64> },
    /// The connection ended: the request's fate is unknown.
    Lost,
    /// The receiver said that it did not look at it: it is sent again at once.
    Unprocessed,
}

/// Sums of one kind of ending.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Sum {
    pub(crate) requests: u64,
    pub(crate) spans: u64,
}

impl Sum {
    fn add(&mut self, spans: u64) {
        self.requests += 1;
        self.spans += spans;
    }
}

/// Counters that the measured time is cut out of.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Mark {
    pub(crate) at: u64,
    pub(crate) ok: Sum,
    pub(crate) bytes: u64,
    pub(crate) watched_cpu: Option<u64>,
    pub(crate) watched_rss: Option<u64>,
    pub(crate) own_cpu: u64,
}

#[derive(Debug)]
pub(crate) struct Stats {
    /// Requests begun, repetitions not counted.
    pub(crate) sent: Sum,
    pub(crate) ok: Sum,
    /// Message bytes of requests answered OK.
    pub(crate) bytes: u64,
    /// Per code.
    codes: [Sum; grpc::CODES.len()],
    pub(crate) partial: u64,
    pub(crate) rejected_spans: u64,
    pub(crate) lost: Sum,
    /// Still in flight at the end.
    pub(crate) unfinished: Sum,
    /// Due by the schedule, but there was no free stream until the end.
    pub(crate) not_sent: u64,
    pub(crate) retries: u64,
    pub(crate) unprocessed: u64,
    pub(crate) reconnects: u64,
    pub(crate) connect_failures: u64,
    pub(crate) goaways: u64,
    /// Why connections ended, and what came with errors.
    reasons: BTreeMap<String, u64>,
    /// Of what was due in the measured time.
    pub(crate) latency: Histogram<u64>,
    /// How many of these were never answered; they count with the time until they were given up.
    unanswered: u64,
    recent: Histogram<u64>,
    pub(crate) begin: Mark,
    pub(crate) end: Mark,
}

/// Different texts that are kept.
const REASONS_MAX: usize = 32;

impl Stats {
    pub(crate) fn new() -> Self {
        Self {
            sent: Sum::default(),
            ok: Sum::default(),
            bytes: 0,
            codes: [Sum::default(); grpc::CODES.len()],
            partial: 0,
            rejected_spans: 0,
            lost: Sum::default(),
            unfinished: Sum::default(),
            not_sent: 0,
            retries: 0,
            unprocessed: 0,
            reconnects: 0,
            connect_failures: 0,
            goaways: 0,
            reasons: BTreeMap::new(),
            latency: report::histogram(),
            unanswered: 0,
            recent: report::histogram(),
            begin: Mark::default(),
            end: Mark::default(),
        }
    }

    pub(crate) fn begin_request(&mut self, spans: u64) {
        self.sent.add(spans);
    }

    pub(crate) fn ok(&mut self, spans: u64, bytes: u64, rejected: Option<u64>) {
        self.ok.add(spans);
        self.codes[grpc::OK as usize].add(spans);
        self.bytes += bytes;
        if let Some(rejected) = rejected {
            self.partial += 1;
            self.rejected_spans += rejected;
        }
    }

    pub(crate) fn status(&mut self, code: u32, spans: u64, message: &str) {
        let known = if (code as usize) < self.codes.len() { code } else { grpc::UNKNOWN };
        self.codes[known as usize].add(spans);
        if !message.is_empty() {
            self.reason(&format!("{}: {message}", grpc::CODES[known as usize]));
        }
    }

    pub(crate) fn lose(&mut self, spans: u64) {
        self.lost.add(spans);
    }

    pub(crate) fn leave(&mut self, spans: u64) {
        self.unfinished.add(spans);
    }

    pub(crate) fn reason(&mut self, text: &str) {
        if let Some(count) = self.reasons.get_mut(text) {
            *count += 1;
        } else if self.reasons.len() < REASONS_MAX {
            self.reasons.insert(text.to_owned(), 1);
        }
    }

    /// Latency of an answered request; `measured` if it counts for the summary.
    pub(crate) fn took(&mut self, ns: u64, measured: bool) {
        self.recent.saturating_record(ns);
        if measured {
            self.latency.saturating_record(ns);
        }
    }

    /// A request ends without an answer after this wait.
    pub(crate) fn gave_up(&mut self, ns: u64, measured: bool) {
        if measured {
            self.latency.saturating_record(ns);
            self.unanswered += 1;
        }
    }

    pub(crate) fn errors(&self) -> u64 {
        self.codes.iter().skip(1).map(|s| s.requests).sum::<u64>() + self.lost.requests
    }

    /// One line on the time since `before`.
    pub(crate) fn progress(&mut self, before: &Mark, now: u64, in_flight: usize) -> String {
        let seconds = (now - before.at) as f64 / 1e9;
        let per_second = |a: u64, b: u64| ((a - b) as f64 / seconds) as u64;
        let line = format!(
            "{:>12} spans/s {:>9} requests/s {:>8.1} MiB/s  {}  errors {}  in flight {in_flight}",
            report::thousands(per_second(self.ok.spans, before.ok.spans)),
            report::thousands(per_second(self.ok.requests, before.ok.requests)),
            per_second(self.bytes, before.bytes) as f64 / 1048576.0,
            report::latency_text(&self.recent),
            self.errors(),
        );
        self.recent.reset();
        line
    }

    fn seconds(&self) -> f64 {
        ((self.end.at - self.begin.at) as f64 / 1e9).max(1e-9)
    }

    /// The summary for scripts.
    pub(crate) fn json(&self) -> Value {
        let seconds = self.seconds();
        let requests = self.end.ok.requests - self.begin.ok.requests;
        let spans = self.end.ok.spans - self.begin.ok.spans;
        let bytes = self.end.bytes - self.begin.bytes;
        let codes: serde_json::Map<_, _> = (grpc::CODES.iter().zip(&self.codes))
            .filter(|(_, sum)| sum.requests > 0)
            .map(|(name, sum)| (name.to_string(), sum_json(*sum)))
            .collect();
        let watched = self.end.watched_cpu.zip(self.begin.watched_cpu).map(|(e, b)| {
            let cpu = e - b;
            json!({
                "cpu_ns": cpu,
                "rss_bytes": self.end.watched_rss,
                "cpu_share": cpu as f64 / 1e9 / seconds,
                "cpu_ns_per_span": cpu as f64 / spans.max(1) as f64,
                "cpu_ns_per_request": cpu as f64 / requests.max(1) as f64,
            })
        });
        json!({
            "measured": {
                "seconds": seconds,
                "requests": requests,
                "spans": spans,
                "message_bytes": bytes,
                "requests_per_second": requests as f64 / seconds,
                "spans_per_second": spans as f64 / seconds,
                "latency": report::latency_json(&self.latency),
                "latency_unanswered": self.unanswered,
                "own_cpu_share": (self.end.own_cpu - self.begin.own_cpu) as f64 / 1e9 / seconds,
                "watched": watched,
            },
            "whole_run": {
                "sent": sum_json(self.sent),
                "ok": sum_json(self.ok),
                "codes": codes,
                "partial_success": {
                    "requests": self.partial, "rejected_spans": self.rejected_spans,
                },
                "connection_lost": sum_json(self.lost),
                "unfinished": sum_json(self.unfinished),
                "not_sent_requests": self.not_sent,
                "retries": self.retries,
                "sent_again_unprocessed": self.unprocessed,
                "reconnects": self.reconnects,
                "connect_failures": self.connect_failures,
                "goaways": self.goaways,
                "reasons": self.reasons,
            },
        })
    }

    /// The summary for people.
    pub(crate) fn text(&self) -> String {
        let seconds = self.seconds();
        let requests = self.end.ok.requests - self.begin.ok.requests;
        let spans = self.end.ok.spans - self.begin.ok.spans;
        let bytes = self.end.bytes - self.begin.bytes;
        let n = report::thousands;
        let mut out = format!(
            "measured {seconds:.1} s: {} spans/s, {} requests/s, {:.1} MiB/s\nlatency: {}\n",
            n((spans as f64 / seconds) as u64),
            n((requests as f64 / seconds) as u64),
            bytes as f64 / 1048576.0 / seconds,
            report::latency_text(&self.latency),
        );
        if self.unanswered > 0 {
            let unanswered = n(self.unanswered);
            out += &format!("  {unanswered} of these unanswered, timed until they were given up\n");
        }
        if let Some((end, begin)) = self.end.watched_cpu.zip(self.begin.watched_cpu) {
            let cpu = (end - begin) as f64;
            out += &format!(
                "watched process: {:.1} % of a core, {:.0} ns/span, {:.2} µs/request\n",
                cpu / 1e7 / seconds,
                cpu / spans.max(1) as f64,
                cpu / 1e3 / requests.max(1) as f64,
            );
        }
        out += "whole run:\n";
        let mut line = |what: &str, sum: Sum| {
            out += &format!(
                "  {what:<24}{:>14} requests {:>16} spans\n",
                n(sum.requests),
                n(sum.spans)
            );
        };
        line("sent", self.sent);
        for (name, sum) in grpc::CODES.iter().zip(&self.codes) {
            if sum.requests > 0 || *name == "OK" {
                line(name, *sum);
            }
        }
        for (what, sum) in [("connection lost", self.lost), ("unfinished", self.unfinished)] {
            if sum.requests > 0 {
                line(what, sum);
            }
        }
        let rare = [
            ("partial successes", self.partial),
            ("rejected spans in them", self.rejected_spans),
            ("due but never sent", self.not_sent),
            ("retries", self.retries),
            ("sent again, unprocessed", self.unprocessed),
            ("reconnects", self.reconnects),
            ("connects that failed", self.connect_failures),
            ("GOAWAYs", self.goaways),
        ];
        for (what, count) in rare.into_iter().filter(|r| r.1 > 0) {
            out += &format!("  {what:<24}{:>14}\n", n(count));
        }
        for (reason, count) in &self.reasons {
            out += &format!("  {count} x {reason}\n");
        }
        out
    }
}

fn sum_json(sum: Sum) -> Value {
    json!({ "requests": sum.requests, "spans": sum.spans })
}
