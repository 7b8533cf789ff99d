//! Believable microservice traces as OTLP requests, made once and sent many times.
//!
//! A [`Set`] is closed: it holds *all* spans of each of its traces, spread over several requests
//! as they would come from several processes. Each request is a [`Template`]: an encoded body, and
//! where in it the trace ids lie. To send traffic without encoding anything:
//!
//! ```
//! use tracemill::testing::{random, workload::{Options, Set}};
//!
//! let mut set = Set::new(&Options { requests: 8, ..Options::default() });
//! for round in 0..3 {
//!     // All bodies of a round get the same fresh ids, so every trace stays whole.
//!     let first = round * u64::from(set.traces);
//!     for template in &mut set.templates {
//!         template.patch(|trace| random::trace_id(42, first + u64::from(trace)));
//!         // send(&template.body): the templates of a set belong to different connections.
//!     }
//! }
//! ```
//!
//! Span ids, parents, names, times and attributes stay as they were made; within a trace they
//! fit together. Patching costs a few ns per span. Two sets of one seed are equal.

pub use super::encode::FieldOrder;

use crate::otlp::{Index, Signal, scan};

use super::encode::{ResourceSpans, request};
use super::model::{EPOCH, Kind, Span};
use super::random::{Random, mix};

/// What traffic looks like. The default: 64 KiB requests of SDKs, 10 spans a trace over 3 clients.
#[derive(Clone, Debug, PartialEq)]
pub struct Options {
    /// Equal seeds make equal sets.
    pub seed: u64,
    /// How large a request is.
    pub size: Size,
    /// About how many requests a set has (as many as its traces need, at least one).
    pub requests: usize,
    /// Mean number of spans of a trace, at least 1; from half to one and a half times as many.
    pub spans_per_trace: u32,
    /// Requests (of different clients) over which the spans of a trace are spread, where it
    /// has so many; at least 1.
    pub spread: u32,
    /// Resources in a request: 1 for an SDK, more for an agent that collects from several.
    pub resources: u32,
    /// Share of spans that failed and carry an exception event, 0.0 to 1.0.
    pub error_share: f64,
    /// Share of traces that take 1.2 to 2.7 seconds instead of up to 0.2, 0.0 to 1.0.
    pub slow_share: f64,
    /// The server spans answer health checks: `GET /healthz`.
    pub health: bool,
    /// Who writes.
    pub order: FieldOrder,
}

/// The size of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Size {
    /// This many spans.
    Spans(u32),
    /// As many spans as fit into this many bytes on average.
    Bytes(u32),
}

impl Default for Options {
    fn default() -> Self {
        Self {
            seed: 1,
            size: Size::Bytes(64 << 10),
            requests: 32,
            spans_per_trace: 10,
            spread: 3,
            resources: 1,
            error_share: 0.02,
            slow_share: 0.0,
            health: false,
            order: FieldOrder::Sdk,
        }
    }
}

/// Whole traces, in several requests.
#[derive(Clone, Debug)]
pub struct Set {
    /// The requests, in the order in which they fill up.
    pub templates: Vec<Template>,
    /// Number of traces; [`Slot::trace`] counts below it.
    pub traces: u32,
    /// Number of spans in all templates.
    pub spans: u64,
}

/// An encoded request.
#[derive(Clone, Debug)]
pub struct Template {
    /// The request's bytes.
    pub body: Vec<u8>,
    /// One per span, in the order of the spans in the body.
    pub slots: Vec<Slot>,
}

/// Where a span's trace id lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slot {
    /// Offset of the 16 bytes in the body.
    pub at: u32,
    /// Number of the trace in its set.
    pub trace: u32,
}

impl Template {
    /// Writes `id(trace)` over the trace id of every span.
    #[inline]
    pub fn patch(&mut self, id: impl Fn(u32) -> [u8; 16]) {
        patch(&mut self.body, &self.slots, id);
    }

    /// Number of spans.
    #[must_use]
    pub const fn spans(&self) -> usize {
        self.slots.len()
    }
}

/// [`Template::patch`] for a copy of a template's body (behind a frame header, say: give the part
/// that is the body).
#[inline]
pub fn patch(body: &mut [u8], slots: &[Slot], id: impl Fn(u32) -> [u8; 16]) {
    for slot in slots {
        let at = slot.at as usize;
        body[at..at + 16].copy_from_slice(&id(slot.trace));
    }
}

impl Set {
    /// Makes a set. Costs a few µs per span.
    #[must_use]
    pub fn new(options: &Options) -> Self {
        let spans = match options.size {
            Size::Spans(spans) => spans.max(1) as usize,
            Size::Bytes(bytes) => spans_in(options, bytes),
        };
        Builder::new(options, spans).build()
    }

    /// Bytes of all bodies.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.templates.iter().map(|template| template.body.len() as u64).sum()
    }
}

/// Spans that fill `bytes`, from the mean of a small set.
#[expect(clippy::cast_possible_truncation, reason = "a float becomes the nearest integer")]
fn spans_in(options: &Options, bytes: u32) -> usize {
    let measure = |spans| {
        let sample = Builder::new(&Options { requests: 4, ..options.clone() }, spans).build();
        (sample.bytes(), sample.spans)
    };
    let (few, many) = (measure(16), measure(80));
    // Two sizes tell the cost of an envelope from that of a span.
    let per_span = (many.0 - few.0) as f64 / (many.1 - few.1) as f64;
    let envelope = (few.0 as f64 - per_span * few.1 as f64) / 4.0;
    ((f64::from(bytes) - envelope) / per_span).round().max(1.0) as usize
}

/// Fills the requests of several clients at once.
struct Builder<'a> {
    options: &'a Options,
    random: Random,
    /// Spans of a full request.
    full: usize,
    /// Spans that each client has not sent yet.
    clients: Vec<Vec<Span>>,
    /// Client of the next chunk of a trace.
    turn: usize,
    set: Set,
}

impl<'a> Builder<'a> {
    fn new(options: &'a Options, full: usize) -> Self {
        let spread = options.spread.max(1) as usize;
        Self {
            options,
            random: Random::new(mix(options.seed)),
            full,
            clients: vec![Vec::new(); options.requests.clamp(1, 64).max(spread)],
            turn: 0,
            set: Set { templates: Vec::new(), traces: 0, spans: 0 },
        }
    }

    fn build(mut self) -> Set {
        let total = (self.full * self.options.requests.max(1)) as u64;
        while self.set.spans < total {
            self.trace(total - self.set.spans);
        }
        for client in 0..self.clients.len() {
            if !self.clients[client].is_empty() {
                self.send(client, self.clients[client].len());
            }
        }
        self.set
    }

    /// Adds a trace of at most `room` spans.
    fn trace(&mut self, room: u64) {
        let mean = u64::from(self.options.spans_per_trace.max(1));
        let length = (mean - mean / 2 + self.random.below(mean / 2 * 2 + 1)).min(room);
        let chunks = u64::from(self.options.spread.max(1)).min(length);
        let start = EPOCH + self.random.below(1_000_000_000);
        let mut duration = 5_000_000 + self.random.below(200_000_000);
        // Not drawn where nobody asks, so that the sets of a seed stay as they were.
        if self.options.slow_share > 0.0 && self.random.chance(self.options.slow_share) {
            duration = 1_200_000_000 + self.random.below(1_500_000_000);
        }
        let mut spans: Vec<Span> = Vec::new();
        let mut chunk_before = u64::MAX;
        for n in 0..length {
            let chunk = n * chunks / length;
            if chunk != chunk_before {
                self.turn = (self.turn + 1) % self.clients.len();
                chunk_before = chunk;
            }
            let first = spans.is_empty();
            let arrives = spans.last().is_none_or(|last| last.service != self.service(n));
            let parent = if first { None } else { Some(self.random.pick(&spans).clone()) };
            let span = self.span(parent.as_ref(), arrives, (start, start + duration), n);
            self.clients[self.turn].push(span.clone());
            spans.push(span);
        }
        self.set.traces += 1;
        self.set.spans += length;
        for client in 0..self.clients.len() {
            // Half a request more at the end of the set goes with the last one.
            while self.clients[client].len() >= self.full + self.full / 2 {
                self.send(client, self.full);
            }
        }
    }

    /// The service in which the `n`-th span of a trace runs, of those that the client serves.
    #[expect(clippy::cast_possible_truncation, reason = "small numbers")]
    fn service(&self, n: u64) -> u32 {
        let resources = self.options.resources.max(1);
        self.turn as u32 * resources + n as u32 / 2 % resources
    }

    fn span(&mut self, parent: Option<&Span>, arrives: bool, trace: (u64, u64), n: u64) -> Span {
        let (from, to) = parent.map_or(trace, |parent| (parent.start, parent.end));
        let room = (to - from).max(8);
        let start = from + self.random.below(room / 4);
        let end =
            if parent.is_none() { to } else { start + room / 8 + self.random.below(room / 2) };
        let kinds = [Kind::Client, Kind::Database, Kind::Client, Kind::Internal];
        let server = if self.options.health { Kind::Health } else { Kind::Server };
        Span {
            trace: self.set.traces,
            id: self.random.next_u64() | 1,
            parent: parent.map_or(0, |parent| parent.id),
            service: self.service(n),
            kind: if arrives { server } else { *self.random.pick(&kinds) },
            start,
            end,
            error: self.random.chance(self.options.error_share),
            salt: self.random.next_u64(),
        }
    }

    /// Encodes the first `count` spans of a client as a request.
    fn send(&mut self, client: usize, count: usize) {
        let mut spans: Vec<Span> = self.clients[client].drain(..count).collect();
        // As a batch processor gathers them: by scope, and in it as they ended.
        spans.sort_by_key(|span| (span.service, span.kind.scope(), span.end));
        let resources: Vec<_> = spans
            .chunk_by(|a, b| a.service == b.service)
            .map(|spans| ResourceSpans { service: spans[0].service, spans })
            .collect();
        let body = request(self.options.order, &resources);
        let mut index = Index::new();
        scan(Signal::Traces, &body, &mut index).expect("the workload is well formed");
        assert_eq!(index.items().len(), spans.len(), "every span is found");
        let slots = index.items().iter().zip(&spans).map(|(item, span)| Slot {
            at: item.trace_id_extent().expect("every span has a trace id").start,
            trace: span.trace,
        });
        let slots = slots.collect();
        self.set.templates.push(Template { body, slots });
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{HashMap, HashSet};

    use super::*;

    fn options(order: FieldOrder) -> Options {
        Options { requests: 12, order, ..Options::default() }
    }

    const ORDERS: [FieldOrder; 3] = [FieldOrder::Sdk, FieldOrder::Collector, FieldOrder::Dotnet];

    #[test]
    fn requests_have_the_size_and_spans_the_weight_that_is_asked_for() {
        for order in ORDERS {
            for bytes in [8 << 10, 64 << 10] {
                let set = Set::new(&Options { size: Size::Bytes(bytes), ..options(order) });
                let mean = set.bytes() / set.templates.len() as u64;
                let off = mean.abs_diff(u64::from(bytes)) as f64 / f64::from(bytes);
                assert!(off < 0.1, "{order:?}: {mean} of {bytes}");
                let span = set.bytes() / set.spans;
                assert!((400..520).contains(&span), "{order:?}: {span} bytes a span");
            }
        }
    }

    #[test]
    fn a_trace_is_spread_over_as_many_requests_as_asked() {
        let set = Set::new(&Options { spread: 4, ..options(FieldOrder::Sdk) });
        let mut requests: HashMap<u32, HashSet<usize>> = HashMap::new();
        for (request, template) in set.templates.iter().enumerate() {
            for slot in &template.slots {
                requests.entry(slot.trace).or_default().insert(request);
            }
        }
        assert_eq!(requests.len(), set.traces as usize);
        // The last trace may have been cut to the size of the set.
        let exact = requests.values().filter(|requests| requests.len() == 4).count();
        assert!(exact + 1 >= requests.len(), "{exact} of {}", requests.len());
        let spans: usize = set.templates.iter().map(Template::spans).sum();
        assert_eq!(spans as u64, set.spans);
    }

    #[test]
    fn patched_ids_are_what_a_receiver_finds() {
        for order in ORDERS {
            let mut set = Set::new(&options(order));
            for template in &mut set.templates {
                let before = template.body.len();
                template.patch(|trace| [trace.to_be_bytes(); 4].concat().try_into().unwrap());
                assert_eq!(template.body.len(), before);
                let mut index = Index::new();
                scan(Signal::Traces, &template.body, &mut index).unwrap();
                for (item, slot) in index.items().iter().zip(&template.slots) {
                    let id = item.trace_id(&template.body).unwrap();
                    assert_eq!(id[12..], slot.trace.to_be_bytes());
                }
            }
        }
    }

    #[test]
    fn one_span_per_request_and_one_span_per_trace_are_possible() {
        let set = Set::new(&Options {
            size: Size::Spans(1),
            spans_per_trace: 1,
            spread: 1,
            ..options(FieldOrder::Sdk)
        });
        assert_eq!((set.templates.len(), set.traces, set.spans), (12, 12, 12));
    }

    #[test]
    fn equal_seeds_make_equal_sets() {
        let bodies = |seed| {
            let set = Set::new(&Options { seed, ..options(FieldOrder::Sdk) });
            set.templates.into_iter().map(|template| template.body).collect::<Vec<_>>()
        };
        assert_eq!(bodies(3), bodies(3));
        assert_ne!(bodies(3), bodies(4));
    }
}
