//! Two samplers on the same random lives: same spans out, at the same time, and the same counts.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use opentelemetry_proto::tonic::trace::v1::ResourceSpans;
use tracemill::sample::Options;
use tracemill::sample::options::{Policy, Rule, Strategy};
use tracemill::testing::oracle::{TraceId, normalize, trace_id};
use tracemill::testing::scenario::{Scenario, shrink};
use tracemill::time::Instant;

use crate::engine::{Engine, Naive};
use crate::shard::Real;

/// By trace, in the order in which it left.
type Left = BTreeMap<TraceId, Vec<(Instant, ResourceSpans)>>;

/// What one sampler does in a scenario.
fn live<E: Engine>(scenario: &Scenario) -> (Left, BTreeMap<String, u64>) {
    let mut engine = E::start(&scenario.options);
    for arrival in &scenario.arrivals {
        engine.arrive(arrival.at, &arrival.body());
    }
    engine.advance(scenario.end);
    if scenario.shut_down {
        engine.shut_down(scenario.end);
    }
    let mut left = Left::new();
    for (at, all) in engine.out() {
        for mut resource_spans in all {
            normalize(&mut resource_spans);
            let first = resource_spans.scope_spans.first().and_then(|scope| scope.spans.first());
            let id = first.map(trace_id).expect("what leaves has a span");
            left.entry(id).or_default().push((at, resource_spans));
        }
    }
    let mut samples = engine.samples();
    if scenario.shut_down {
        // The ticks of the end are no ticks, and nobody can look any more.
        samples.remove("otelcol_processor_tail_sampling_sampling_traces_on_memory");
    }
    (left, samples)
}

/// What differs, if anything does; a panic differs as well.
fn difference<A: Engine, B: Engine>(scenario: &Scenario) -> Option<String> {
    let both = || (live::<A>(scenario), live::<B>(scenario));
    let both = std::panic::catch_unwind(std::panic::AssertUnwindSafe(both));
    let Ok(((left_a, samples_a), (left_b, samples_b))) = both else {
        return Some("one of them panics".to_owned());
    };
    let mut text = String::new();
    for id in left_a.keys().chain(left_b.keys().filter(|id| !left_a.contains_key(*id))) {
        let (a, b) = (left_a.get(id), left_b.get(id));
        if a != b {
            writeln!(text, "trace {:032x}:\n  {a:?}\n  {b:?}", u128::from_be_bytes(*id)).unwrap();
        }
    }
    for name in samples_a.keys().chain(samples_b.keys().filter(|n| !samples_a.contains_key(*n))) {
        // Some counters are shown from the first tick on, as 0.
        let value = |page: &BTreeMap<String, u64>| page.get(name).copied().unwrap_or(0);
        let (a, b) = (value(&samples_a), value(&samples_b));
        if a != b {
            writeln!(text, "{name}: {a:?} and {b:?}").unwrap();
        }
    }
    (!text.is_empty()).then_some(text)
}

/// Whether the outcome hangs on the order of traces within a tick, which the collector leaves to
/// chance, where the two have different ones: an id that comes back before the tick of its set
/// takes its old place with one of them, the last with the other. Room in a small cache or in a
/// bucket goes to those that come first.
fn is_a_race(options: &Options) -> bool {
    let come_back = options.num_traces < 100 || options.strategy == Strategy::SpanIngest;
    let remembers_few = options.sampled_cache + options.non_sampled_cache > 0;
    let shared = |p: &Policy| shares(&p.rule) && !has_budget(options, &p.rule);
    come_back && (remembers_few || options.policies.iter().any(shared))
}

/// Whether its limiters look at all traces of a tick at once, so that their order is nothing to
/// them.
fn has_budget(options: &Options, rule: &Rule) -> bool {
    let is_limiter =
        |rule: &Rule| matches!(rule, Rule::RateLimiting { .. } | Rule::BytesLimiting { .. });
    let is_on = options.gates.use_trace_state && options.strategy != Strategy::SpanIngest;
    is_on
        && match rule {
            Rule::And(subs) => subs.iter().all(|sub| is_limiter(&sub.rule) || !shares(&sub.rule)),
            rule => is_limiter(rule),
        }
}

/// Whether traces share what the policy gives.
fn shares(rule: &Rule) -> bool {
    match rule {
        Rule::RateLimiting { .. } | Rule::BytesLimiting { .. } | Rule::Composite { .. } => true,
        Rule::And(subs) | Rule::Drop(subs) => subs.iter().any(|sub| shares(&sub.rule)),
        Rule::Not(sub) => shares(&sub.rule),
        _ => false,
    }
}

/// Fails with the smallest scenario in which they differ, of the first seed that shows one.
/// `SEEDS=from..to` tries others.
fn agree<A: Engine, B: Engine>(seeds: std::ops::Range<u64>) {
    let asked = std::env::var("SEEDS").ok().map(|text| {
        let (from, to) = text.split_once("..").expect("SEEDS=from..to");
        from.parse().unwrap()..to.parse().unwrap()
    });
    let mut differing = Vec::new();
    for seed in asked.unwrap_or(seeds) {
        let scenario = Scenario::new(seed);
        if !is_a_race(&scenario.options) && difference::<A, B>(&scenario).is_some() {
            differing.push(seed);
        }
    }
    let Some(&seed) = differing.first() else { return };
    // What panics on the way is told at its end.
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(|_| {}));
    let differs =
        |small: &Scenario| !is_a_race(&small.options) && difference::<A, B>(small).is_some();
    let small = shrink(Scenario::new(seed), differs);
    std::panic::set_hook(hook);
    let what = difference::<A, B>(&small).unwrap_or_default();
    let seeds: Vec<_> = differing.iter().take(20).collect();
    panic!("{} seeds differ: {seeds:?} …; of {seed}:\n{small}\n{what}", differing.len());
}

#[test]
fn the_shard_agrees_with_the_naive_sampler() {
    agree::<Naive, Real>(0..5_000);
}

#[test]
fn the_naive_sampler_agrees_with_itself() {
    agree::<Naive, Naive>(0..200);
}

/// A sampler that loses a trace's second resource, to see that a difference is found and shrunk.
struct Forgetful(Naive);

impl Engine for Forgetful {
    fn start(options: &Options) -> Self {
        Self(Naive::start(options))
    }

    fn arrive(&mut self, at: Instant, body: &[u8]) {
        self.0.arrive(at, body);
    }

    fn advance(&mut self, to: Instant) {
        self.0.advance(to);
    }

    fn shut_down(&mut self, at: Instant) {
        self.0.shut_down(at);
    }

    fn out(&self) -> Vec<(Instant, Vec<ResourceSpans>)> {
        let all = self.0.out().into_iter();
        all.map(|(at, list)| (at, list.into_iter().take(1).collect())).collect()
    }

    fn samples(&self) -> BTreeMap<String, u64> {
        self.0.samples()
    }
}

#[test]
fn a_difference_is_found_and_shrunk_to_two_spans() {
    let differs = |scenario: &Scenario| difference::<Naive, Forgetful>(scenario).is_some();
    let scenario = (0..200).map(Scenario::new).find(differs).expect("some trace has two parts");
    let small = shrink(scenario, differs);
    let lines = small.to_string();
    assert_eq!(lines.matches(" of ").count(), 2, "{lines}");
    assert_eq!(small.options.policies.len(), 1, "{lines}");
}

#[test]
fn scenarios_reach_every_outcome() {
    let mut seen: BTreeMap<String, u64> = BTreeMap::new();
    for seed in 0..400 {
        let (_, samples) = live::<Naive>(&Scenario::new(seed));
        for (series, value) in samples {
            let name = series.split('{').next().unwrap();
            let name = name.trim_start_matches("otelcol_processor_tail_sampling_").to_owned();
            let label = ["\"sampled\"", "\"not_sampled\"", "\"dropped\"", "\"true\"", "\"false\""];
            let label = label.iter().find(|label| series.contains(**label)).unwrap_or(&"");
            *seen.entry(format!("{name} {label}")).or_default() += value;
        }
    }
    for wanted in [
        "global_count_traces_sampled \"sampled\"",
        "global_count_traces_sampled \"not_sampled\"",
        "global_count_traces_sampled \"dropped\"",
        "early_releases_from_cache_decision \"true\"",
        "early_releases_from_cache_decision \"false\"",
        "sampling_trace_dropped_too_early ",
        "sampling_policy_evaluation_error ",
        "traces_dropped_too_large ",
        "count_spans_with_unparseable_tracestate ",
        "count_bytes_sampled \"sampled\"",
    ] {
        assert!(seen.get(wanted).is_some_and(|n| *n > 20), "{wanted}: {seen:#?}");
    }
}
