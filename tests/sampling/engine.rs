//! What can be judged: a sampler in simulated time.

use std::collections::BTreeMap;

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::trace::v1::ResourceSpans;
use prost::Message as _;
use tracemill::sample::Options;
use tracemill::testing::oracle::{Oracle, ottl};
use tracemill::time::Instant;

use crate::cases::Case;
use crate::judge::Outcome;

/// A sampler whose ticks are at 1 s, 2 s, … and come before what arrives at the same moment.
pub(crate) trait Engine: Sized {
    /// Starts at zero.
    fn start(options: &Options) -> Self;
    /// Takes the bytes of an ExportTraceServiceRequest, after the ticks that are due.
    fn arrive(&mut self, at: Instant, body: &[u8]);
    /// Runs the ticks up to and with `to`.
    fn advance(&mut self, to: Instant);
    /// Ends, deciding what waits or dropping it.
    fn shut_down(&mut self, at: Instant);
    /// All that left so far, in order.
    fn out(&self) -> Vec<(Instant, Vec<ResourceSpans>)>;
    /// Counters as on the metrics page: `name{labels}` → value, labels sorted.
    fn samples(&self) -> BTreeMap<String, u64>;
}

/// Runs a case whose first request comes `phase_ms` after the sampler's start.
pub(crate) fn run<E: Engine>(case: &Case, options: &Options, phase_ms: u64) -> Outcome {
    let mut engine = E::start(options);
    let at = |ms: u64| Instant((phase_ms + ms) * 1_000_000);
    for request in &case.requests {
        engine.arrive(at(request.at_ms), &request.body.encode_to_vec());
    }
    let end = at(case.wait_ms);
    engine.advance(end);
    if case.sigterm {
        engine.shut_down(end);
    }
    let out = engine.out().into_iter().filter(|(at, _)| *at <= end);
    let out = out.flat_map(|(at, all)| {
        let ms = (at.0 / 1_000_000).saturating_sub(phase_ms);
        all.into_iter().map(move |resource_spans| (ms, resource_spans))
    });
    let samples = engine.samples().into_iter().map(|(name, value)| (name, value as f64));
    Outcome { out: out.collect(), samples: samples.collect() }
}

/// The naive one.
pub(crate) struct Naive {
    oracle: Oracle,
    options: Options,
}

impl Engine for Naive {
    fn start(options: &Options) -> Self {
        let oracle = Oracle::new(options, ottl::compiled());
        Self { oracle, options: options.clone() }
    }

    fn arrive(&mut self, at: Instant, body: &[u8]) {
        let request = ExportTraceServiceRequest::decode(body).unwrap();
        self.oracle.arrive(at, &request);
    }

    fn advance(&mut self, to: Instant) {
        self.oracle.advance(to);
    }

    fn shut_down(&mut self, at: Instant) {
        self.oracle.shut_down(at);
    }

    fn out(&self) -> Vec<(Instant, Vec<ResourceSpans>)> {
        let emissions = self.oracle.emissions().iter();
        emissions.map(|emission| (emission.at, emission.resource_spans.clone())).collect()
    }

    fn samples(&self) -> BTreeMap<String, u64> {
        self.oracle.counts().samples(self.options.gates)
    }
}
