//! The `debug` exporter: what a request holds, in the collector's words (v0.161). Pure: it makes
//! text, the role writes it.
//!
//! Basic verbosity counts on the wire bytes. Normal and detailed decode the request to objects,
//! which costs microseconds per span: they are for looking, not for traffic. A request that is
//! valid for the collector but not for protobuf (text that is not UTF-8) is counted and named.
#![forbid(unsafe_code)]

mod detailed;
mod normal;
mod points;
mod sampler;
mod value;

use std::borrow::Cow;
use std::fmt::Write as _;

use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use prost::{DecodeError, Message as _};

pub use sampler::Sampler;

use crate::otlp::{self, Index, Signal};
use crate::telemetry::log;
use crate::time::Instant;

/// Settings of one `debug` exporter.
#[derive(Clone, Debug, PartialEq)]
pub struct Options {
    /// `verbosity`.
    pub verbosity: Verbosity,
    /// Equal messages of each second that are written.
    pub sampling_initial: u64,
    /// Then each n-th; 0 writes none.
    pub sampling_thereafter: u64,
    /// Through the log (true) or plain to [`Self::output_paths`].
    pub use_internal_logger: bool,
    /// `stdout`, `stderr` or files; empty with the internal logger.
    pub output_paths: Vec<String>,
}

impl Default for Options {
    /// The collector's defaults (otlp 4.8).
    fn default() -> Self {
        Self {
            verbosity: Verbosity::Basic,
            sampling_initial: 2,
            sampling_thereafter: 1,
            use_internal_logger: true,
            output_paths: Vec::new(),
        }
    }
}

/// `debug.verbosity`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verbosity {
    /// One line per request.
    #[default]
    Basic,
    /// One line per item.
    Normal,
    /// Everything.
    Detailed,
}

/// One `debug` exporter of a core.
#[derive(Debug)]
pub struct Debug {
    verbosity: Verbosity,
    sampler: Sampler,
}

impl Debug {
    /// With the sampling of `options`.
    #[must_use]
    pub fn new(options: &Options) -> Self {
        let sampler = Sampler::new(options.sampling_initial, options.sampling_thereafter);
        Self { verbosity: options.verbosity, sampler }
    }

    /// What is to be written about a request, at most two messages.
    pub fn push(&mut self, now: Instant, signal: Signal, body: &[u8]) -> Vec<Line> {
        let mut lines = describe(signal, body, self.verbosity);
        lines.retain(|line| self.sampler.admits(now, &line.message));
        lines
    }
}

/// One message of the exporter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// The signal's name with counts, or a text of several lines without.
    pub message: Cow<'static, str>,
    /// Counts, by the collector's names.
    pub counts: Vec<(&'static str, u64)>,
}

impl Line {
    /// As it stands in [`Options::output_paths`] when the log is not used. It ends with a newline.
    #[must_use]
    pub fn plain(&self) -> String {
        let mut out = self.message.clone().into_owned();
        for (i, (name, count)) in self.counts.iter().enumerate() {
            let before = if i == 0 { "\t{" } else { ", " };
            let _ = write!(out, "{before}\"{name}\": {count}");
        }
        out.push_str(if self.counts.is_empty() { "\n" } else { "}\n" });
        out
    }

    /// Writes it to the log, in the name of an exporter.
    pub fn log(&self, component: &str, signal: Signal) {
        // The names of a line's fields have to be known when it is compiled.
        macro_rules! line {
            ($($name:literal = $count:expr),*) => {
                tracing::info!(
                    target: log::TEXT,
                    {
                        "otelcol.component.id" = component,
                        "otelcol.component.kind" = "exporter",
                        "otelcol.signal" = signal.name(),
                        $($name = $count,)*
                    },
                    "{}",
                    self.message
                )
            };
        }
        match self.counts[..] {
            [("resource spans", a), ("spans", b)] => line!("resource spans" = a, "spans" = b),
            [("resource logs", a), ("log records", b)] => {
                line!("resource logs" = a, "log records" = b);
            }
            [("resource metrics", a), ("metrics", b), ("data points", c)] => {
                line!("resource metrics" = a, "metrics" = b, "data points" = c);
            }
            _ => line!(),
        }
    }
}

/// Everything that `verbosity` shows of a request: its counts, then, above basic, its content.
#[must_use]
pub fn describe(signal: Signal, body: &[u8], verbosity: Verbosity) -> Vec<Line> {
    let mut lines = vec![summary(signal, body)];
    let text = match verbosity {
        Verbosity::Basic => return lines,
        Verbosity::Normal => text(signal, body, normal::traces, normal::metrics, normal::logs),
        Verbosity::Detailed => {
            text(signal, body, detailed::traces, detailed::metrics, detailed::logs)
        }
    };
    let text = text.unwrap_or_else(|e| format!("this request cannot be shown: {e}\n"));
    lines.push(Line { message: text.into(), counts: Vec::new() });
    lines
}

/// Counts of a request. One that is not well formed, which no receiver lets through, counts up to
/// its fault.
fn summary(signal: Signal, body: &[u8]) -> Line {
    let mut index = Index::new();
    let _ = otlp::scan(signal, body, &mut index);
    let (resources, items) = (index.resources().len() as u64, index.items().len() as u64);
    let (message, counts) = match signal {
        Signal::Traces => ("Traces", vec![("resource spans", resources), ("spans", items)]),
        Signal::Logs => ("Logs", vec![("resource logs", resources), ("log records", items)]),
        Signal::Metrics => {
            let points = otlp::items(signal, body).unwrap_or(0);
            let counts =
                vec![("resource metrics", resources), ("metrics", items), ("data points", points)];
            ("Metrics", counts)
        }
    };
    Line { message: message.into(), counts }
}

fn text(
    signal: Signal,
    body: &[u8],
    traces: fn(&ExportTraceServiceRequest) -> String,
    metrics: fn(&ExportMetricsServiceRequest) -> String,
    logs: fn(&ExportLogsServiceRequest) -> String,
) -> Result<String, DecodeError> {
    match signal {
        Signal::Traces => ExportTraceServiceRequest::decode(body).map(|r| traces(&r)),
        Signal::Metrics => ExportMetricsServiceRequest::decode(body).map(|r| metrics(&r)),
        Signal::Logs => ExportLogsServiceRequest::decode(body).map(|r| logs(&r)),
    }
}

/// A line of text whose parts cannot fail to be written.
macro_rules! put {
    ($out:expr, $($arg:tt)*) => {{
        use std::fmt::Write as _;
        let _ = writeln!($out, $($arg)*);
    }};
}
use put;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_that_is_not_utf8_is_counted_and_named() {
        // ResourceSpans{scope_spans{spans{name: ff}}}
        let body = b"\x0a\x07\x12\x05\x12\x03\x2a\x01\xff";
        let lines = describe(Signal::Traces, body, Verbosity::Normal);
        assert_eq!(lines[0].plain(), "Traces\t{\"resource spans\": 1, \"spans\": 1}\n");
        assert!(lines[1].message.contains("cannot be shown") && lines[1].message.contains("UTF-8"));
    }

    #[test]
    fn each_message_is_thinned_out_by_itself() {
        let options =
            Options { verbosity: Verbosity::Normal, sampling_thereafter: 0, ..Options::default() };
        let mut debug = Debug::new(&options);
        let now = Instant(5_000_000_000);
        let mut push = |body: &[u8]| debug.push(now, Signal::Logs, body).len();
        assert_eq!([push(b""), push(b""), push(b"")], [2, 2, 0]);
        assert_eq!(push(b"\x0a\x00"), 1, "the same head, another content");
    }
}
