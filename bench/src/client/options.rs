//! Options of `run`.

use std::path::PathBuf;
use std::time::Duration;

use clap::ValueEnum;

use crate::args;
use crate::wire::grpc::Compression;

/// Send traces to a receiver and measure its replies.
///
/// Without --rate each of the connections x streams sends its next request when the last one was
/// answered (closed loop). With --rate requests are due at fixed times whatever the receiver
/// does, and latency counts from the time at which a request was due (open loop).
///
/// Rates and CPU are those of the measured time. Latency is that of all requests that were due in
/// it (closed loop: sent in it), also where the reply comes during --drain; what is never answered
/// or sent counts with the time until it was given up.
///
/// Bodies are encoded beforehand; each request gets fresh trace and span ids and times. A span's
/// end is the time at which its request was due, from which `sink` computes the latency.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// The receiver, OTLP/gRPC without TLS
    #[arg(long, value_name = "HOST:PORT")]
    pub(crate) endpoint: String,
    /// Open loop: 40000spans/s or 300requests/s; a plain number is spans
    #[arg(long, value_parser = rate, value_name = "RATE")]
    pub(crate) rate: Option<Rate>,
    /// Connections
    #[arg(long, default_value_t = 1, value_name = "N")]
    pub(crate) connections: usize,
    /// Requests in flight per connection; default: 4, with --rate 100
    #[arg(long, value_name = "M")]
    pub(crate) streams: Option<usize>,
    /// How long to measure, after --warm-up
    #[arg(long = "for", value_parser = args::duration, default_value = "10s", value_name = "TIME")]
    pub(crate) duration: Duration,
    /// Sent before the measured time and not counted in rates and latency
    #[arg(long, value_parser = args::duration, default_value = "0s", value_name = "TIME")]
    pub(crate) warm_up: Duration,
    /// End after this many requests
    #[arg(long, value_name = "N")]
    pub(crate) requests: Option<u64>,
    /// Only hold the connections open
    #[arg(long)]
    pub(crate) idle: bool,
    /// At the end, wait this long for replies
    #[arg(long, value_parser = args::duration, default_value = "5s", value_name = "TIME")]
    pub(crate) drain: Duration,

    /// Size of a request's message, before compression
    #[arg(long, value_parser = args::bytes, default_value = "64KiB", value_name = "BYTES")]
    pub(crate) request_bytes: usize,
    /// Spans of a request, instead of its size
    #[arg(long, value_name = "N")]
    pub(crate) spans_per_request: Option<usize>,
    /// Mean size of a span
    #[arg(long, value_parser = args::bytes, default_value = "450", value_name = "BYTES")]
    pub(crate) span_bytes: usize,
    /// Spans of a trace
    #[arg(long, default_value_t = 8, value_name = "N")]
    pub(crate) spans_per_trace: usize,
    /// Requests over which the spans of a trace are spread; consecutive requests go to different
    /// streams and connections
    #[arg(long, default_value_t = 2, value_name = "N")]
    pub(crate) spread: usize,
    /// How many spans of one trace stand next to each other in a request
    #[arg(long, default_value_t = 1, value_name = "N")]
    pub(crate) run: usize,
    /// Share of traces with a span whose status is an error: 0.05 or 5%
    #[arg(long, value_parser = args::share, default_value = "0", value_name = "SHARE")]
    pub(crate) error_share: f64,
    /// Share of traces whose root span never comes; they have no error either
    #[arg(long, value_parser = args::share, default_value = "0", value_name = "SHARE")]
    pub(crate) rootless_share: f64,
    /// Share of spans that belong to traces sent --late-by earlier
    #[arg(long, value_parser = args::share, default_value = "0", value_name = "SHARE")]
    pub(crate) late_share: f64,
    /// How late they are
    #[arg(long, value_parser = args::duration, default_value = "30s", value_name = "TIME")]
    pub(crate) late_by: Duration,
    /// Order of protobuf fields
    #[arg(long, value_enum, default_value_t, value_name = "ORDER")]
    pub(crate) order: Order,
    /// Different bodies that are cycled through
    #[arg(long, default_value_t = 4, value_name = "N")]
    pub(crate) bodies: usize,
    /// Makes ids repeatable; default: from the clock
    #[arg(long, value_name = "NUMBER")]
    pub(crate) seed: Option<u64>,

    /// Compress each request; this costs far more than everything else here
    #[arg(long, value_enum, default_value_t, value_name = "ENCODING")]
    pub(crate) compression: Compression,
    /// Further header, NAME=VALUE
    #[arg(long, value_parser = header, value_name = "NAME=VALUE")]
    pub(crate) header: Vec<(String, String)>,
    /// Give a request up after this time, and say so in grpc-timeout; 0s: never
    #[arg(long, value_parser = args::duration, default_value = "10s", value_name = "TIME")]
    pub(crate) timeout: Duration,
    /// What to do about retryable answers: nothing, or back off and repeat as SDKs do
    #[arg(long, value_enum, default_value_t, value_name = "HOW")]
    pub(crate) retry: Retry,
    /// Send DATA frames as large as the receiver allows instead of at most 16 KiB
    #[arg(long)]
    pub(crate) max_frame: bool,

    /// Run on this CPU only
    #[arg(long, value_name = "CPU")]
    pub(crate) cpu: Option<usize>,
    /// Report the CPU time that this process spends during the measured time
    #[arg(long, value_name = "PID")]
    pub(crate) watch: Option<u32>,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
    /// At the end, write the traces whose every request was answered OK to this file: lines of
    /// trace id, spans, `error` or `-`
    #[arg(long, value_name = "FILE")]
    pub(crate) traces_file: Option<PathBuf>,
    /// No progress lines
    #[arg(long)]
    pub(crate) quiet: bool,
}

/// A rate of the open loop, per second.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Rate {
    Spans(f64),
    Requests(f64),
}

/// Order of protobuf fields (otlp 3.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub(crate) enum Order {
    /// Ascending, as most SDKs write
    #[default]
    Sdk,
    /// Backwards, as the collector writes since v0.133
    Collector,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub(crate) enum Retry {
    #[default]
    None,
    /// 1 s, then 1.5 times as long each time up to 30 s, for a minute; with jitter
    Sdk,
}

fn rate(text: &str) -> Result<Rate, String> {
    let digits = text.find(|c: char| c.is_ascii_alphabetic()).unwrap_or(text.len());
    let value = text[..digits].trim().parse::<f64>().ok().filter(|v| *v > 0.0 && v.is_finite());
    match (value, text[digits..].trim()) {
        (Some(v), "" | "spans/s" | "spans") => Ok(Rate::Spans(v)),
        (Some(v), "requests/s" | "requests" | "req/s") => Ok(Rate::Requests(v)),
        _ => Err(format!("`{text}` is not a rate such as 40000spans/s or 300requests/s")),
    }
}

fn header(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => {
            Ok((name.to_ascii_lowercase(), value.to_owned()))
        }
        _ => Err(format!("`{text}` is not NAME=VALUE")),
    }
}

/// Spans of one request: their number must fit the id scheme.
pub(crate) const SPANS_PER_REQUEST_MAX: usize = 1 << 16;

impl Options {
    /// Requests in flight per connection.
    pub(crate) fn streams(&self) -> usize {
        self.streams.unwrap_or_else(|| if self.rate.is_some() { 100 } else { 4 })
    }

    /// What the option types alone cannot refuse.
    pub(crate) fn check(&self) -> Result<(), String> {
        let at_least_one = [
            ("--connections", self.connections),
            ("--streams", self.streams()),
            ("--spans-per-trace", self.spans_per_trace),
            ("--spread", self.spread),
            ("--run", self.run),
            ("--bodies", self.bodies),
            ("--spans-per-request", self.spans_per_request.unwrap_or(1)),
        ];
        for (name, value) in at_least_one {
            if !(1..SPANS_PER_REQUEST_MAX).contains(&value) {
                return Err(format!("{name}: 1 to {}", SPANS_PER_REQUEST_MAX - 1));
            }
        }
        if self.spread > self.spans_per_trace {
            return Err("--spread: not more than --spans-per-trace".to_owned());
        }
        if !(150..=1 << 20).contains(&self.span_bytes) {
            return Err("--span-bytes: 150 to 1MiB".to_owned());
        }
        if self.request_bytes > crate::wire::grpc::MESSAGE_BYTES_MAX {
            return Err("--request-bytes: at most 64MiB".to_owned());
        }
        if self.traces_file.is_some() && self.late_share > 0.0 {
            return Err("--traces-file: not with --late-share".to_owned());
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_of_spans_or_of_requests() {
        assert_eq!(rate("40000"), Ok(Rate::Spans(40000.0)));
        assert_eq!(
            rate("4e4spans/s"),
            Err("`4e4spans/s` is not a rate such as 40000spans/s or 300requests/s".into())
        );
        assert_eq!(rate("300requests/s"), Ok(Rate::Requests(300.0)));
        assert!(rate("0").is_err());
        assert!(rate("-1").is_err());
    }
}
