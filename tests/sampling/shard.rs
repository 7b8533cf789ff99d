//! The engine itself: a shard, driven by simulated time.

use std::collections::BTreeMap;
use std::time::Duration;

use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span, TracesData};
use prost::Message as _;
use tracemill::otlp::{self, Index, Signal};
use tracemill::sample::options::{ErrorMode, Gates, Policy, Rule};
use tracemill::sample::stats::Outcome;
use tracemill::sample::{Moment, Options, Shard, Step};
use tracemill::testing::oracle::{Counts, Decision, PolicyCounts, Weight, normalize};
use tracemill::testing::scatter::scatter;
use tracemill::time::Instant;

use crate::engine::Engine;

/// One shard, and what has left it.
pub(crate) struct Real {
    shard: Shard,
    index: Index,
    arrived: usize,
    out: Vec<(Instant, Vec<ResourceSpans>)>,
    gates: Gates,
}

fn moment(now: Instant) -> Moment {
    Moment { now, unix_nanos: now.0 }
}

impl Real {
    fn take(&mut self, at: Instant, body: &[u8]) {
        self.shard.check(body, &self.index).unwrap();
        self.shard.push(moment(at), body, &self.index);
    }

    fn work(&mut self, now: Instant) {
        loop {
            match self.shard.poll(moment(now)) {
                Step::Kept(_) => self.keep(now),
                Step::Busy => {}
                Step::Idle => break,
            }
        }
        assert!(self.shard.deadline() > now, "what is due is done");
    }

    fn keep(&mut self, now: Instant) {
        let mut left = TracesData::decode(self.shard.kept()).unwrap().resource_spans;
        left.iter_mut().for_each(normalize);
        self.out.push((now, left));
    }
}

impl Engine for Real {
    fn start(options: &Options) -> Self {
        let shard = Shard::alone(Instant(0), options, 7).unwrap();
        Self { shard, index: Index::new(), arrived: 0, out: Vec::new(), gates: options.gates }
    }

    fn arrive(&mut self, at: Instant, body: &[u8]) {
        self.advance(at);
        self.arrived += 1;
        let cut = self.arrived * 31 % 400;
        let (region, pieces) = scatter(body, &vec![cut; body.len() / (cut + 1)]);
        // Every second one in pieces, if that is how it can be read.
        let in_pieces = !self.arrived.is_multiple_of(2);
        if in_pieces && otlp::scan_pieces(&region, &pieces, &mut self.index) {
            self.take(at, &region);
        } else {
            otlp::scan(Signal::Traces, body, &mut self.index).unwrap();
            self.take(at, body);
        }
        self.work(at);
    }

    fn advance(&mut self, to: Instant) {
        while self.shard.deadline() <= to {
            self.work(self.shard.deadline());
        }
    }

    fn shut_down(&mut self, at: Instant) {
        self.advance(at);
        self.shard.finish(moment(at));
        self.work(at);
        assert_eq!(self.shard.buffered(), 0, "every span is accounted for");
    }

    fn out(&self) -> Vec<(Instant, Vec<ResourceSpans>)> {
        self.out.clone()
    }

    fn samples(&self) -> BTreeMap<String, u64> {
        let stats = &self.shard.stats;
        let decision = |outcome| match outcome {
            Outcome::Sampled => Decision::Sampled,
            Outcome::NotSampled => Decision::NotSampled,
            Outcome::Dropped => Decision::Dropped,
        };
        let mut policies = BTreeMap::new();
        for (policy, votes) in self.shard.program().policies.iter().zip(&stats.votes) {
            let all = Outcome::ALL.into_iter().map(|outcome| {
                let at = outcome as usize;
                let (traces, spans) = (votes.traces[at], votes.spans[at]);
                (decision(outcome), Weight { traces, spans, bytes: votes.bytes[at] })
            });
            let counts = PolicyCounts { executions: votes.executions, votes: all.collect() };
            policies.insert(policy.name.to_string(), counts);
        }
        let decided = Outcome::ALL.into_iter().map(|o| (decision(o), stats.decided[o as usize]));
        let counts = Counts {
            new_traces: stats.new_traces,
            traces_on_memory: stats.traces_at_tick,
            dropped_too_early: stats.dropped_too_early,
            too_large: stats.too_large,
            errors: stats.errors,
            early_sampled_spans: stats.early_releases[0],
            early_not_sampled_spans: stats.early_releases[1],
            unparseable_trace_states: stats.unparseable_states,
            decided: decided.collect(),
            policies,
            ..Counts::default()
        };
        counts.samples(self.gates)
    }
}

#[test]
fn what_nobody_has_taken_yet_is_buffered_and_not_kept() {
    let policies = vec![Policy { name: "all".into(), rule: Rule::AlwaysSample }];
    let mut real = Real::start(&Options { policies, ..Options::default() });
    // One ResourceSpans with one ScopeSpans with one empty span.
    let body = [0x0a, 4, 0x12, 2, 0x12, 0];
    otlp::scan(Signal::Traces, &body, &mut real.index).unwrap();
    real.take(Instant(0), &body);
    let now = moment(Instant(0) + Duration::from_secs(60));
    while real.shard.poll(now) != Step::Kept(1) {}
    while real.shard.decide_due(now) != Step::Idle {}
    assert_eq!((real.shard.stats.kept, real.shard.buffered()), (0, 1), "the store has no room");
    real.shard.poll(now);
    assert_eq!((real.shard.stats.kept, real.shard.buffered()), (1, 0));
}

#[test]
fn late_spans_of_a_trace_whose_decision_is_cached_need_no_room() {
    let policies = vec![Policy { name: "3".into(), rule: Rule::SpanCount { min: 3, max: 0 } }];
    let mut real = Real::start(&Options {
        policies,
        num_traces: 1,
        block_on_overflow: true,
        sampled_cache: 9,
        non_sampled_cache: 9,
        ..Options::default()
    });
    let has_room = |real: &mut Real, trace: u64, mine: bool| {
        otlp::scan(Signal::Traces, &spans(trace, 1), &mut real.index).unwrap();
        real.shard.has_room(&spans(trace, 1), &real.index, |_| mine)
    };
    let at = |seconds: u64| Instant(0) + Duration::from_millis(seconds * 1_000 + 500);
    real.arrive(at(0), &spans(1, 1));
    real.arrive(at(50), &spans(2, 3));
    real.arrive(at(100), &spans(3, 1));
    assert!(has_room(&mut real, 1, true), "it was not kept, and is remembered");
    assert!(has_room(&mut real, 2, true), "it was kept, and is remembered");
    assert!(has_room(&mut real, 3, true), "it waits, and has its place");
    assert!(!has_room(&mut real, 4, true), "a new one waits for room");
    assert!(has_room(&mut real, 4, false), "what another shard has cannot be seen");
}

/// A request with so many spans of one trace.
fn spans(trace: u64, count: usize) -> Vec<u8> {
    let span = Span { trace_id: u128::from(trace).to_be_bytes().to_vec(), ..Span::default() };
    let scope_spans = vec![ScopeSpans { spans: vec![span; count], ..ScopeSpans::default() }];
    let resource_spans = vec![ResourceSpans { scope_spans, ..ResourceSpans::default() }];
    TracesData { resource_spans }.encode_to_vec()
}

/// The spans of a request, one every 100 ms: 50 new traces begin with a root, and those before them
/// get their second span. The first of the 50 has no root and gets two more.
fn request(number: u64) -> Vec<u8> {
    let span = |trace: u64, at: u64| Span {
        trace_id: u128::from(trace).to_be_bytes().to_vec(),
        span_id: (at + 1).to_be_bytes().to_vec(),
        parent_span_id: if at > 0 || trace.is_multiple_of(50) { vec![1; 8] } else { Vec::new() },
        name: format!("{:04000}", trace * 10 + at),
        ..Span::default()
    };
    let first = number * 50;
    let begun = (first..first + 50).map(|trace| span(trace, 0));
    let second = (first.saturating_sub(50)..first).map(|trace| span(trace, 1));
    let third = first.checked_sub(100).map(|trace| span(trace, 2));
    let spans = begun.chain(second).chain(third).collect();
    let scope_spans = vec![ScopeSpans { spans, ..ScopeSpans::default() }];
    let resource_spans = vec![ResourceSpans { scope_spans, ..ResourceSpans::default() }];
    TracesData { resource_spans }.encode_to_vec()
}

#[test]
fn few_traces_that_wait_for_long_hold_no_memory_of_the_many_that_do_not() {
    let mut real = Real::start(&Options {
        policies: vec![Policy { name: "3".into(), rule: Rule::SpanCount { min: 3, max: 0 } }],
        decision_wait: Duration::from_secs(60),
        decision_wait_after_root: Duration::from_secs(5),
        num_traces: 40_000,
        ..Options::default()
    });
    let mut most = 0.0_f64;
    for number in 0..700 {
        let at = Instant(0) + Duration::from_millis(100) * number;
        real.arrive(at, &request(u64::from(number)));
        let per_span = real.shard.bytes() as f64 / real.shard.buffered() as f64;
        if number > 200 {
            most = most.max(per_span);
        }
    }
    // The spans that a tick has freed, which those of the next second replace, and the records of
    // decided traces are a fifth.
    assert!(most < 4_000.0 * 1.4, "{most} bytes per span");
    let left: Vec<&Vec<ResourceSpans>> = real.out.iter().map(|(_, spans)| spans).collect();
    assert!(left.len() > 85, "of the first nine seconds");
    for (number, trace) in (0..).step_by(50).zip(left) {
        let spans = trace.iter().flat_map(|r| &r.scope_spans).flat_map(|s| &s.spans);
        let names: Vec<u64> = spans.map(|span| span.name.parse().unwrap()).collect();
        assert_eq!(names, [0, 1, 2].map(|at| number * 10 + at));
    }
}

/// What is ignored after two spans whose condition fails, twice.
fn ignored(error_mode: ErrorMode) -> Vec<(u64, String, String)> {
    let span = vec!["false".into(), "Substring(attributes[\"x\"], 0, 1) == \"a\"".into()];
    let rule = Rule::OttlCondition { error_mode, span, spanevent: Vec::new() };
    let policies = vec![Policy { name: "x".into(), rule }];
    let mut real = Real::start(&Options { policies, ..Options::default() });
    // Of one trace: two spans without attributes.
    let body = [0x0a, 6, 0x12, 4, 0x12, 0, 0x12, 0];
    real.arrive(Instant(0), &body);
    assert_eq!(real.shard.has_ignored(), error_mode == ErrorMode::Ignore);
    let told = real.shard.take_ignored();
    let told = told.map(|(errors, text, error)| (errors, text.to_owned(), error.to_string()));
    let told = told.collect();
    assert!(!real.shard.has_ignored());
    assert_eq!(real.shard.take_ignored().count(), 0);
    told
}

#[test]
fn errors_that_are_ignored_are_counted_with_the_last_and_silent_ones_are_not() {
    let text = "Substring(attributes[\"x\"], 0, 1) == \"a\"".to_owned();
    let error = "expected string but got nil".to_owned();
    assert_eq!(ignored(ErrorMode::Ignore), [(2, text, error)]);
    assert_eq!(ignored(ErrorMode::Silent), []);
    assert_eq!(ignored(ErrorMode::Propagate), []);
}
