//! What a tick does first, and where ids stand whose traces are decided.

use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span, TracesData};
use prost::Message as _;
use tracemill::sample::Options;
use tracemill::sample::options::{Gates, Policy, Rule, Strategy};
use tracemill::time::Instant;

use crate::engine::{Engine, Naive};
use crate::shard::Real;

/// A request with one span per item: its trace, and whether it is the root.
fn request(spans: &[(u8, bool)]) -> Vec<u8> {
    let span = |(at, (trace, is_root)): (usize, &(u8, bool))| Span {
        trace_id: vec![*trace; 16],
        span_id: vec![u8::try_from(at).unwrap() + 1; 8],
        parent_span_id: if *is_root { Vec::new() } else { vec![9; 8] },
        ..Span::default()
    };
    let spans = spans.iter().enumerate().map(span).collect();
    let scope_spans = vec![ScopeSpans { spans, ..ScopeSpans::default() }];
    let resource_spans = vec![ResourceSpans { scope_spans, ..ResourceSpans::default() }];
    TracesData { resource_spans }.encode_to_vec()
}

fn at(ms: u64) -> Instant {
    Instant(ms * 1_000_000)
}

fn policy(name: &str, rule: Rule) -> Policy {
    Policy { name: name.to_owned(), rule }
}

fn count(engine: &impl Engine, name: &str) -> u64 {
    let name = format!("otelcol_processor_tail_sampling_{name}");
    engine.samples().get(&name).copied().unwrap_or(0)
}

/// First bytes of the ids of what left, in order.
fn left(engine: &impl Engine) -> Vec<u8> {
    let resources = engine.out().into_iter().flat_map(|(_, all)| all);
    let scopes = resources.flat_map(|resource| resource.scope_spans);
    scopes.flat_map(|scope| scope.spans).map(|span| span.trace_id[0]).collect()
}

fn a_limiter_in_a_drop_policy_is_paid_once<E: Engine>() {
    let limit = |burst| Rule::RateLimiting { per_second: 0, burst };
    let mut engine = E::start(&Options {
        policies: vec![
            policy("three", Rule::Drop(vec![policy("of", limit(3))])),
            policy("rest", limit(100)),
        ],
        gates: Gates { use_trace_state: true, ..Gates::default() },
        ..Options::default()
    });
    engine.arrive(at(1_500), &request(&[(1, true), (2, true), (3, true), (4, true)]));
    engine.advance(at(60_000));
    assert_eq!(left(&engine), [4], "the first three took what the drop policy may take");
}

#[test]
fn a_limiter_in_a_drop_policy_is_paid_once_per_trace() {
    a_limiter_in_a_drop_policy_is_paid_once::<Naive>();
    a_limiter_in_a_drop_policy_is_paid_once::<Real>();
}

fn time_goes_on_at_the_end<E: Engine>() {
    let policies = vec![policy("three", Rule::RateLimiting { per_second: 20, burst: 3 })];
    let mut engine = E::start(&Options { policies, ..Options::default() });
    let too_many = [1, 2, 3].map(|trace| [(trace, true); 4]).concat();
    engine.arrive(at(500), &request(&[too_many, vec![(4, true)]].concat()));
    engine.arrive(at(1_500), &request(&[(5, true), (5, false)]));
    engine.shut_down(at(1_600));
    assert_eq!(left(&engine), [4, 5, 5], "two tokens are still two");
}

#[test]
fn time_goes_on_for_limiters_between_the_sets_of_the_end() {
    time_goes_on_at_the_end::<Naive>();
    time_goes_on_at_the_end::<Real>();
}

fn drops_come_first<E: Engine>() {
    let mut engine = E::start(&Options {
        policies: vec![
            policy("five", Rule::SpanCount { min: 5, max: 0 }),
            policy("two", Rule::Drop(vec![policy("of", Rule::SpanCount { min: 2, max: 0 })])),
        ],
        non_sampled_cache: 1,
        ..Options::default()
    });
    engine.arrive(at(1_500), &request(&[(1, true), (2, true), (2, false)]));
    engine.advance(at(60_000));
    engine.arrive(at(60_500), &request(&[(1, false)]));
    let discarded = count(&engine, "early_releases_from_cache_decision{sampled=\"false\"}");
    assert_eq!(discarded, 1, "the trace that was not dropped was decided last");
}

#[test]
fn a_tick_drops_before_it_decides_anything_else() {
    drops_come_first::<Naive>();
    drops_come_first::<Real>();
}

/// The trace 1 is decided before its tick, by `options`; then its root comes, and then it is
/// evicted.
fn a_late_root_moves_the_id<E: Engine>(options: Options) {
    let mut engine = E::start(&Options {
        policies: vec![policy("all", Rule::AlwaysSample)],
        decision_wait: std::time::Duration::from_secs(10),
        decision_wait_after_root: std::time::Duration::from_secs(1),
        num_traces: 1,
        ..options
    });
    engine.arrive(at(500), &request(&[(1, false)]));
    engine.arrive(at(600), &request(&[(1, true)]));
    engine.arrive(at(700), &request(&[(2, false)]));
    engine.advance(at(1_900));
    assert_eq!(count(&engine, "sampling_trace_dropped_too_early"), 0);
    engine.advance(at(2_000));
    assert_eq!(count(&engine, "sampling_trace_dropped_too_early"), 1);
    engine.advance(at(60_000));
    // The trace 2 of span-ingest was decided, and is still there.
    assert_eq!(count(&engine, "sampling_trace_dropped_too_early"), 1);
}

#[test]
fn a_late_root_moves_the_id_of_a_trace_that_was_decided_by_a_batch() {
    let options = Options { strategy: Strategy::SpanIngest, ..Options::default() };
    a_late_root_moves_the_id::<Naive>(options.clone());
    a_late_root_moves_the_id::<Real>(options);
}

#[test]
fn a_late_root_puts_the_id_of_a_trace_that_was_too_large_into_a_set_again() {
    let options = Options { trace_bytes_max: 1, ..Options::default() };
    a_late_root_moves_the_id::<Naive>(options.clone());
    a_late_root_moves_the_id::<Real>(options);
}
