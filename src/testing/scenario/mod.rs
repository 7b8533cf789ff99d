//! Random lives of a sampler, to see whether two samplers agree: a configuration, traffic, and
//! the way from a case that shows a difference to a small one that does.
//!
//! Seeded: equal seeds give equal scenarios. Keys and values come from a small vocabulary, so that
//! policies often hit. Left out on purpose: what a receiver refuses, text that is not UTF-8, and
//! settings under which the collector blocks for ever.

mod policies;
mod shrink;
mod spelling;
mod traffic;

use std::fmt;

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::trace::v1::Span;

use super::random::Random;
use crate::sample::Options;
use crate::time::Instant;

pub use shrink::shrink;

/// A configuration and what it meets.
#[derive(Clone, Debug, PartialEq)]
pub struct Scenario {
    /// The sampler's.
    pub options: Options,
    /// By time.
    pub arrivals: Vec<Arrival>,
    /// When one looks.
    pub end: Instant,
    /// Whether the sampler is then shut down.
    pub shut_down: bool,
}

/// A request.
#[derive(Clone, Debug, PartialEq)]
pub struct Arrival {
    /// When it comes, since the sampler's start; never at a tick.
    pub at: Instant,
    /// What it says.
    pub request: ExportTraceServiceRequest,
    /// Fields from the last to the first, with empty ones written: the collector's way. Otherwise
    /// from the first to the last.
    pub descending: bool,
}

impl Arrival {
    /// The request as bytes.
    #[must_use]
    pub fn body(&self) -> Vec<u8> {
        spelling::encode(&self.request, self.descending)
    }
}

impl Scenario {
    /// The scenario of a seed.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        let mut random = Random::new(seed);
        let options = policies::options(&mut random);
        let (arrivals, last) = traffic::arrivals(&mut random);
        // A root wait or a late trace may end after the longest wait.
        let end = Instant(last.0 + random.below(6_000) * 1_000_000);
        Self { options, arrivals, end, shut_down: random.chance(0.7) }
    }

    fn spans(&self) -> usize {
        self.arrivals.iter().map(|arrival| spans(&arrival.request).count()).sum()
    }
}

fn spans(request: &ExportTraceServiceRequest) -> impl Iterator<Item = &Span> {
    request.resource_spans.iter().flat_map(|r| &r.scope_spans).flat_map(|s| &s.spans)
}

fn hex(id: &[u8]) -> String {
    id.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Without what says nothing.
fn brief(debug: &str) -> String {
    let empty = ["key_strindex: 0", "entity_refs: []", "dropped_attributes_count: 0"];
    let more = ["dropped_events_count: 0", "dropped_links_count: 0", "events: []", "links: []"];
    let others = ["trace_state: \"\"", "flags: 0", "attributes: []", "trace_id: []"];
    let rest = ["span_id: []", "parent_span_id: []", "status: None", "name: \"\"", "version: \"\""];
    let all = empty.into_iter().chain(more).chain(others);
    let mut text = debug.to_owned();
    for nothing in all.chain(rest) {
        text = text.replace(&format!(", {nothing}"), "").replace(&format!(" {nothing},"), "");
    }
    text
}

/// Readable, for a case that was shrunk.
impl fmt::Display for Scenario {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let default = format!("{:#?}", Options::default());
        let own = format!("{:#?}", self.options);
        for line in own.lines().filter(|line| !default.lines().any(|other| other == *line)) {
            writeln!(f, "{line}")?;
        }
        let ms = |at: Instant| at.0 as f64 / 1e6;
        for arrival in &self.arrivals {
            let order = if arrival.descending { ", descending" } else { "" };
            writeln!(f, "at {} ms{order}:", ms(arrival.at))?;
            for resource_spans in &arrival.request.resource_spans {
                let said = |debug: String| brief(&debug);
                let resource = said(format!("{:?}", resource_spans.resource));
                writeln!(f, "  resource {resource}")?;
                for scope_spans in &resource_spans.scope_spans {
                    writeln!(f, "    scope {}", said(format!("{:?}", scope_spans.scope)))?;
                    for span in &scope_spans.spans {
                        let ids = [&span.trace_id, &span.span_id, &span.parent_span_id];
                        let [trace, id, parent] = ids.map(|id| hex(id));
                        let rest = Span {
                            trace_id: Vec::new(),
                            span_id: Vec::new(),
                            parent_span_id: Vec::new(),
                            ..span.clone()
                        };
                        let rest = said(format!("{rest:?}"));
                        writeln!(f, "      {trace} {id} of {parent:?}: {rest}")?;
                    }
                }
            }
        }
        let ending = if self.shut_down { "shut down" } else { "looked at" };
        writeln!(f, "{ending} at {} ms", ms(self.end))
    }
}
