//! Random configurations.

use std::time::Duration;

use super::super::random::Random;
use crate::sample::options::{ErrorMode, Gates, Options, Policy, Rule, Strategy};

/// Keys of attributes, in traffic as well.
pub(super) const KEYS: [&str; 4] = ["a", "b", "c", "service.name"];
/// Texts of attributes, in traffic as well.
pub(super) const TEXTS: [&str; 5] = ["x", "y", "xy", "", "0"];
/// Integers of attributes, in traffic as well.
pub(super) const INTS: [i64; 7] = [-1, 0, 1, 2, 5, 500, i64::MAX];

const SPAN_CONDITIONS: [&str; 10] = [
    "attributes[\"a\"] == \"x\"",
    "attributes[\"b\"] > 1",
    "attributes[\"c\"] != nil",
    "resource.attributes[\"service.name\"] == \"x\"",
    "name == \"op\" and kind == SPAN_KIND_SERVER",
    "IsRootSpan()",
    "Substring(attributes[\"a\"], 0, 1) == \"x\"",
    "IsMatch(attributes[\"a\"], \"^[xy]$\")",
    "status.code == STATUS_CODE_ERROR",
    "end_time_unix_nano - start_time_unix_nano > 5000000",
];
const EVENT_CONDITIONS: [&str; 4] = [
    "name == \"e\"",
    "attributes[\"a\"] == \"y\"",
    "span.attributes[\"b\"] == 5",
    "Len(attributes[\"c\"]) > 1",
];

pub(super) fn options(random: &mut Random) -> Options {
    let ms = |random: &mut Random, of: &[u64]| Duration::from_millis(*random.pick(of));
    let ingest = random.chance(0.15);
    let cache = |random: &mut Random| {
        let sizes = [0, 0, 0, 1, 2, 5, 100];
        *random.pick::<usize>(&sizes)
    };
    let [sampled_cache, non_sampled_cache] = [cache(random), cache(random)];
    let few = random.chance(0.3);
    let count = 1 + random.below(4);
    Options {
        decision_wait: ms(random, &[0, 300, 1_000, 2_000, 2_900, 4_000]),
        decision_wait_after_root: ms(random, &[0, 0, 0, 300, 1_000, 2_000, 5_000]),
        num_traces: if few { 1 + random.below(12) } else { 50_000 },
        // The collector waits in the middle of a request, we wait before its first span.
        block_on_overflow: false,
        expected_new_traces_per_sec: random.below(3),
        sample_on_first_match: random.chance(0.2),
        strategy: if ingest { Strategy::SpanIngest } else { Strategy::TraceComplete },
        drop_pending_on_shutdown: random.chance(0.2),
        trace_bytes_max: if random.chance(0.2) { 100 + random.below(4_000) } else { 0 },
        sampled_cache,
        non_sampled_cache,
        num_shards: 1,
        policies: (0..count).map(|n| policy(random, n, Place::Top, ingest)).collect(),
        gates: Gates {
            record_policy: random.chance(0.2),
            use_trace_state: random.chance(0.2),
            count_spans_sampled: random.chance(0.3),
            count_bytes_sampled: random.chance(0.3),
        },
    }
}

/// Where a policy stands decides what it may be (tailsampling 1.2).
#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    Top,
    And,
    Not,
    Composite,
}

fn policy(random: &mut Random, n: u64, place: Place, stateless: bool) -> Policy {
    let mut rule = rule(random, place, stateless);
    while stateless && is_stateful(&rule) {
        rule = self::rule(random, place, stateless);
    }
    Policy { name: format!("p{n}"), rule }
}

fn subs(random: &mut Random, place: Place, stateless: bool) -> Vec<Policy> {
    let count = random.below(4);
    (0..count).map(|n| policy(random, n, place, stateless)).collect()
}

fn rule(random: &mut Random, place: Place, stateless: bool) -> Rule {
    let combined = match place {
        Place::Top => random.chance(0.5),
        Place::And => random.chance(0.2),
        Place::Composite => random.chance(0.3),
        Place::Not => false,
    };
    if !combined {
        return shared(random);
    }
    match (place, random.below(4)) {
        (Place::Composite, _) => Rule::And(subs(random, Place::And, stateless)),
        (Place::And, _) | (_, 0) => Rule::Not(Box::new(policy(random, 0, Place::Not, stateless))),
        (_, 1) => Rule::And(subs(random, Place::And, stateless)),
        (_, 2) => Rule::Drop(subs(random, Place::And, stateless)),
        (..) => {
            let subs = subs(random, Place::Composite, stateless);
            let shares = [0, 5, 20, 1_000];
            Rule::Composite {
                spans_per_second_max: *random.pick(&[0, 10, 40, 1_000]),
                subs: subs.into_iter().map(|sub| (sub, *random.pick(&shares))).collect(),
            }
        }
    }
}

/// Types that may stand everywhere.
fn shared(random: &mut Random) -> Rule {
    let key = (*random.pick(&KEYS)).to_owned();
    let invert = random.chance(0.3);
    match random.below(13) {
        0 => Rule::AlwaysSample,
        1 => Rule::Latency {
            threshold_ms: *random.pick(&[0, 5, 20, 100]),
            upper_threshold_ms: *random.pick(&[0, 0, 10, 50, 200]),
        },
        2 => {
            let min = *random.pick(&[i64::MIN, -1, 1, 2, 400]);
            Rule::NumericAttribute { key, min, max: *random.pick(&[2, 5, i64::MAX]), invert }
        }
        3 => {
            let percentage = *random.pick(&[-1.0, 0.0, 10.0, 33.3, 50.0, 75.0, 100.0, 150.0]);
            let salt = (*random.pick(&["", "salt"])).to_owned();
            Rule::Probabilistic { percentage, salt }
        }
        4 => {
            let some = [random.chance(0.3), random.chance(0.3), random.chance(0.5)];
            Rule::StatusCode(some)
        }
        5 | 6 => strings(random, key, invert),
        7 => limiter(random),
        8 => Rule::SpanCount {
            min: *random.pick(&[0, 1, 2, 5, 12]),
            max: *random.pick(&[0, 0, 3, 20]),
        },
        9 => Rule::BooleanAttribute { key, value: random.chance(0.5), invert },
        10 => Rule::TraceState {
            key: (*random.pick(&["k", "ot", "no"])).to_owned(),
            values: vec!["v".to_owned(), "w".to_owned()],
        },
        11 => Rule::TraceFlags,
        _ => conditions(random),
    }
}

fn strings(random: &mut Random, key: String, invert: bool) -> Rule {
    let regex = random.chance(0.4);
    let patterns = ["x", "^$", ".*", "y$", "^[0-9]+$"];
    let of: &[&str] = if regex { &patterns } else { &TEXTS };
    let count = 1 + random.below(2);
    let values = (0..count).map(|_| (*random.pick(of)).to_owned()).collect();
    Rule::StringAttribute { key, values, regex, invert }
}

fn limiter(random: &mut Random) -> Rule {
    let per_second = *random.pick(&[0, 1, 7, 20]);
    let burst = *random.pick(&[0, 3, 10, 40]);
    if random.chance(0.5) {
        Rule::RateLimiting { per_second, burst }
    } else {
        Rule::BytesLimiting { per_second: per_second * 150, burst: burst * 200 }
    }
}

fn conditions(random: &mut Random) -> Rule {
    let some = |random: &mut Random, of: &[&str], count: u64| {
        (0..count).map(|_| (*random.pick(of)).to_owned()).collect::<Vec<String>>()
    };
    let spans = random.below(3);
    let span = some(random, &SPAN_CONDITIONS, spans);
    let events = random.below(2) + u64::from(span.is_empty());
    Rule::OttlCondition {
        error_mode: *random.pick(&[ErrorMode::Propagate, ErrorMode::Ignore, ErrorMode::Silent]),
        span,
        spanevent: some(random, &EVENT_CONDITIONS, events),
    }
}

/// What span-ingest refuses (tailsampling 2.13).
fn is_stateful(rule: &Rule) -> bool {
    match rule {
        Rule::RateLimiting { .. } | Rule::BytesLimiting { .. } => true,
        Rule::Latency { upper_threshold_ms, .. } => *upper_threshold_ms > 0,
        Rule::SpanCount { max, .. } => *max > 0,
        _ => false,
    }
}
