//! What one policy says of one trace (tailsampling 2), the trace looked at span by span.

use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue};
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, Span};

use super::bucket::Bucket;
use super::spans::{bare, bytes, field, spans};
use super::trace_state::{self, ALWAYS, NEVER, Threshold, TraceState};
use super::{Decision, Errored, Ottl, TraceId};
use crate::sample::options::{Gates, Policy, Rule};
use crate::sample::pattern::Pattern;
use crate::time::Instant;

/// What policies look at.
#[derive(Clone, Debug)]
pub(super) struct Trace {
    pub(super) id: TraceId,
    /// Spans that ever came, more than [`Self::batches`] holds in span-ingest.
    pub(super) spans: u64,
    /// Bytes that ever came.
    pub(super) bytes: u64,
    pub(super) batches: Vec<ResourceSpans>,
}

/// A verdict, and the threshold that goes with it.
pub(super) type Vote = Result<(Decision, Threshold), Errored>;

/// What policies ask outside of themselves.
pub(super) struct Surroundings<'a> {
    pub(super) now: Instant,
    pub(super) gates: Gates,
    pub(super) ottl: &'a mut Ottl,
}

/// A policy with what it remembers.
#[derive(Debug)]
pub(super) struct Evaluator {
    pub(super) name: String,
    kind: Kind,
}

#[derive(Debug)]
enum Kind {
    /// Its answer depends on nothing but the trace.
    Plain(Rule),
    /// `string_attribute` with regular expressions.
    Patterns {
        key: String,
        patterns: Vec<Pattern>,
        invert: bool,
    },
    /// `rate_limiting` and, if of bytes, `bytes_limiting`.
    Limiter {
        bucket: Bucket,
        of_bytes: bool,
        /// The threshold of this tick, with the gate `usetracestate`.
        threshold: Option<Threshold>,
    },
    And(Vec<Evaluator>),
    Not(Box<Evaluator>),
    Drop(Vec<Evaluator>),
    Composite {
        spans_per_second_max: i64,
        second: Option<u64>,
        /// Sub-policy, its allocation, its spans in this second.
        subs: Vec<(Evaluator, i64, i64)>,
    },
}

fn to_i64(n: u64) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX)
}

impl Evaluator {
    pub(super) fn new(policy: &Policy) -> Self {
        let all = |policies: &[Policy]| policies.iter().map(Self::new).collect();
        let limiter = |per_second, burst, of_bytes| Kind::Limiter {
            bucket: Bucket::new(per_second, burst),
            of_bytes,
            threshold: None,
        };
        let kind = match &policy.rule {
            &Rule::RateLimiting { per_second, burst } => limiter(per_second, burst, false),
            &Rule::BytesLimiting { per_second, burst } => limiter(per_second, burst, true),
            Rule::And(subs) => Kind::And(all(subs)),
            Rule::Not(sub) => Kind::Not(Box::new(Self::new(sub))),
            Rule::Drop(subs) => Kind::Drop(all(subs)),
            Rule::Composite { spans_per_second_max, subs } => Kind::Composite {
                spans_per_second_max: *spans_per_second_max,
                second: None,
                subs: subs.iter().map(|(sub, share)| (Self::new(sub), *share, 0)).collect(),
            },
            Rule::StringAttribute { key, values, regex: true, invert } => Kind::Patterns {
                key: key.clone(),
                // The configuration refuses those that do not compile.
                patterns: values.iter().filter_map(|text| Pattern::new(text).ok()).collect(),
                invert: *invert,
            },
            plain => Kind::Plain(plain.clone()),
        };
        Self { name: policy.name.clone(), kind }
    }

    pub(super) const fn is_drop(&self) -> bool {
        matches!(self.kind, Kind::Drop(_))
    }

    /// The vote on a trace. A composite may write on the trace's scopes (tailsampling 2.16).
    pub(super) fn vote(&mut self, trace: &mut Trace, around: &mut Surroundings<'_>) -> Vote {
        match &mut self.kind {
            Kind::Plain(Rule::Probabilistic { percentage, salt }) => {
                Ok(probabilistic(*percentage, salt, trace, around.gates))
            }
            Kind::Plain(Rule::OttlCondition { error_mode, span, spanevent }) => {
                let seen = bare(&trace.batches);
                let found = (around.ottl)(*error_mode, span, spanevent, &seen)?;
                Ok((keep_if(found), ALWAYS))
            }
            Kind::Plain(rule) => Ok((keep_if(plain(rule, trace)), ALWAYS)),
            Kind::Patterns { key, patterns, invert } => {
                let found = |text: &str| patterns.iter().any(|p| p.is_match(text.as_bytes()));
                Ok((keep_if(string(&trace.batches, key, found) != *invert), ALWAYS))
            }
            Kind::Limiter { bucket, of_bytes, threshold } => {
                Ok(limit(bucket, *of_bytes, *threshold, trace, around.now))
            }
            Kind::And(subs) => {
                let mut strictest = ALWAYS;
                for sub in subs {
                    let (decision, threshold) = sub.vote(trace, around)?;
                    if decision == Decision::NotSampled {
                        return Ok((decision, ALWAYS));
                    }
                    strictest = strictest.max(threshold);
                }
                Ok((Decision::Sampled, strictest))
            }
            Kind::Not(sub) => {
                let (decision, _) = sub.vote(trace, around)?;
                Ok((keep_if(decision == Decision::NotSampled), ALWAYS))
            }
            Kind::Drop(subs) => {
                for sub in subs {
                    if sub.vote(trace, around)?.0 == Decision::NotSampled {
                        return Ok((Decision::NotSampled, ALWAYS));
                    }
                }
                Ok((Decision::Dropped, ALWAYS))
            }
            Kind::Composite { .. } => Ok((self.composite(trace, around)?, ALWAYS)),
        }
    }

    /// The first sub-policy that says yes decides, by what is left of its second
    /// (tailsampling 2.13).
    fn composite(
        &mut self,
        trace: &mut Trace,
        around: &mut Surroundings<'_>,
    ) -> Result<Decision, Errored> {
        let Kind::Composite { spans_per_second_max, second, subs } = &mut self.kind else {
            return Ok(Decision::NotSampled);
        };
        let this_second = around.now.0 / 1_000_000_000;
        if second.replace(this_second) != Some(this_second) {
            subs.iter_mut().for_each(|(_, _, used)| *used = 0);
        }
        for (sub, allocation, used) in subs {
            if sub.vote(trace, around)?.0 != Decision::Sampled {
                continue;
            }
            let with_it = *used + to_i64(trace.spans);
            if with_it > *allocation || with_it > *spans_per_second_max {
                return Ok(Decision::NotSampled);
            }
            *used = with_it;
            if around.gates.record_policy {
                let name = Value::StringValue(sub.name.clone());
                mark(&mut trace.batches, "tailsampling.composite_policy", &name);
            }
            return Ok(Decision::Sampled);
        }
        Ok(Decision::NotSampled)
    }

    /// Whether it wants to see all traces of a tick beforehand.
    const fn is_limiter(&self) -> bool {
        matches!(self.kind, Kind::Limiter { .. })
    }

    /// With the gate `usetracestate`, limiters at the top and in `and` spend their budget on the
    /// traces of a tick with the highest randomness (tailsampling 2.14).
    pub(super) fn prepare(&mut self, tick: &mut [Trace], around: &mut Surroundings<'_>) {
        match &mut self.kind {
            Kind::Limiter { bucket, of_bytes, threshold } => {
                *threshold = Some(spend(bucket, *of_bytes, tick, around.now));
            }
            Kind::And(subs) if subs.iter().any(Self::is_limiter) => {
                let mut passed = Vec::new();
                for trace in tick {
                    let others = subs.iter_mut().filter(|sub| !sub.is_limiter());
                    let mut votes = others.map(|sub| sub.vote(trace, around));
                    if votes.all(|vote| vote.is_ok_and(|(d, _)| d != Decision::NotSampled)) {
                        passed.push(trace.clone());
                    }
                }
                for limiter in subs.iter_mut().filter(|sub| sub.is_limiter()) {
                    limiter.prepare(&mut passed, around);
                }
            }
            _ => {}
        }
    }
}

const fn keep_if(yes: bool) -> Decision {
    if yes { Decision::Sampled } else { Decision::NotSampled }
}

/// Policies that only look.
fn plain(rule: &Rule, trace: &Trace) -> bool {
    let mut all = spans(&trace.batches);
    match rule {
        Rule::AlwaysSample => true,
        Rule::Latency { threshold_ms, upper_threshold_ms } => {
            latency(*threshold_ms, *upper_threshold_ms, all)
        }
        Rule::NumericAttribute { key, min, max, invert } => {
            let hit = |value: &Value| match value {
                Value::IntValue(i) => (*min..=*max).contains(i),
                _ => (*min..=*max).contains(&0),
            };
            attribute(&trace.batches, key, hit, hit) != *invert
        }
        Rule::BooleanAttribute { key, value: want, invert } => {
            let hit = |value: &Value| matches!(value, Value::BoolValue(true)) == *want;
            attribute(&trace.batches, key, hit, hit) != *invert
        }
        Rule::StringAttribute { key, values, invert, .. } => {
            let listed = |text: &str| !text.is_empty() && values.iter().any(|v| v == text);
            string(&trace.batches, key, listed) != *invert
        }
        Rule::StatusCode(codes) => all.any(|span| {
            let code = span.status.as_ref().map_or(0, |status| status.code);
            usize::try_from(code).ok().and_then(|code| codes.get(code)) == Some(&true)
        }),
        Rule::SpanCount { min, max } => {
            let n = to_i64(trace.spans);
            n >= i64::from(*min) && (*max == 0 || n <= i64::from(*max))
        }
        Rule::TraceState { key, values } => all.any(|span| {
            trace_state::member(&span.trace_state, key).is_some_and(|value| {
                key.len() + value.len() < 256 && values.iter().any(|v| v == value)
            })
        }),
        Rule::TraceFlags => all.any(|span| span.flags & 1 == 1),
        _ => unreachable!("it has a kind of its own"),
    }
}

/// After each span, the window from the earliest start to the latest end seen so far; a zero
/// means that nothing was seen (tailsampling 2.2).
fn latency<'a>(over: i64, upto: i64, spans: impl Iterator<Item = &'a Span>) -> bool {
    let (mut from, mut to) = (0_u64, 0_u64);
    for span in spans {
        if from == 0 || span.start_time_unix_nano < from {
            from = span.start_time_unix_nano;
        }
        if to == 0 || span.end_time_unix_nano > to {
            to = span.end_time_unix_nano;
        }
        // Times are signed in the collector, and so is what lies between them.
        let between = to.cast_signed().saturating_sub(from.cast_signed());
        let ms = between / 1_000_000;
        if ms > over && (upto == 0 || ms <= upto) {
            return true;
        }
    }
    false
}

/// Whether the first attribute of this key hits, in any resource or any span.
fn attribute(
    batches: &[ResourceSpans],
    key: &str,
    in_resource: impl Fn(&Value) -> bool,
    in_span: impl Fn(&Value) -> bool,
) -> bool {
    let resources = batches.iter().filter_map(|batch| batch.resource.as_ref());
    let mut resources = resources.filter_map(|resource| first(&resource.attributes, key));
    let mut spans = spans(batches).filter_map(|span| first(&span.attributes, key));
    resources.any(|value| in_resource(&value)) || spans.any(|value| in_span(&value))
}

/// Whether the text of this key matches, in any resource or any span; spans in which it is empty
/// are not asked (tailsampling 2.4).
fn string(batches: &[ResourceSpans], key: &str, matches: impl Fn(&str) -> bool) -> bool {
    let in_resource = |value: &Value| matches(text(value));
    let in_span = |value: &Value| !text(value).is_empty() && matches(text(value));
    attribute(batches, key, in_resource, in_span)
}

/// The first attribute of this key. One without a value reads as a number would.
fn first(attributes: &[KeyValue], key: &str) -> Option<Value> {
    let found = attributes.iter().find(|attribute| attribute.key == key)?;
    let value = found.value.as_ref().and_then(|AnyValue { value }| value.clone());
    Some(value.unwrap_or(Value::IntValue(0)))
}

fn text(value: &Value) -> &str {
    match value {
        Value::StringValue(text) => text,
        _ => "",
    }
}

/// What a limiter takes for a trace (tailsampling 2.11).
fn cost(trace: &Trace, of_bytes: bool) -> i64 {
    let bytes = || trace.batches.iter().map(|batch| field(bytes(batch))).sum();
    to_i64(if of_bytes { bytes() } else { trace.spans })
}

fn limit(
    bucket: &mut Bucket,
    of_bytes: bool,
    threshold: Option<Threshold>,
    trace: &Trace,
    now: Instant,
) -> (Decision, Threshold) {
    let cost = cost(trace, of_bytes);
    let Some(threshold) = threshold else {
        return (keep_if(bucket.allow(now, cost)), ALWAYS);
    };
    let kept = cost <= bucket.burst() && threshold <= randomness(trace);
    (keep_if(kept), if kept { threshold } else { ALWAYS })
}

/// The threshold that spends a limiter's budget on a tick (tailsampling 2.14).
fn spend(bucket: &mut Bucket, of_bytes: bool, tick: &[Trace], now: Instant) -> Threshold {
    #[expect(clippy::cast_possible_truncation, reason = "whole tokens are spent")]
    let budget = bucket.tokens(now) as i64;
    let all = tick.iter().map(|trace| (randomness(trace), cost(trace, of_bytes)));
    let mut fitting: Vec<(u64, i64)> = all.filter(|(_, cost)| *cost <= bucket.burst()).collect();
    fitting.sort_by_key(|(randomness, _)| std::cmp::Reverse(*randomness));
    let mut spent = 0;
    let rejected = fitting.iter().position(|(_, cost)| {
        spent += cost;
        spent > budget
    });
    let Some(rejected) = rejected else {
        if spent > 0 {
            bucket.allow(now, spent);
        }
        return ALWAYS;
    };
    // Equal randomness is rejected together.
    let first_rejected = fitting[rejected].0;
    let kept = fitting.iter().filter(|(randomness, _)| *randomness > first_rejected);
    let spent: i64 = kept.map(|(_, cost)| cost).sum();
    if spent == 0 {
        return NEVER;
    }
    bucket.allow(now, spent);
    first_rejected + 1
}

/// `rv` of the first span that has one, else of the trace id.
fn randomness(trace: &Trace) -> u64 {
    let states = spans(&trace.batches).filter_map(|span| TraceState::parse(&span.trace_state));
    let mut written = states.filter_map(|state| state.randomness());
    written.next().unwrap_or_else(|| trace_state::randomness_of(u128::from_be_bytes(trace.id)))
}

/// tailsampling 2.6, and 2.14 if a span says how its trace is to be sampled.
fn probabilistic(
    percentage: f64,
    salt: &str,
    trace: &Trace,
    gates: Gates,
) -> (Decision, Threshold) {
    let threshold = trace_state::threshold(percentage / 100.0);
    let says = |span: &Span| {
        TraceState::parse(&span.trace_state)
            .is_some_and(|state| state.randomness().is_some() || state.threshold().is_some())
    };
    if gates.use_trace_state && spans(&trace.batches).any(says) {
        return (keep_if(threshold <= randomness(trace)), threshold);
    }
    let salt = if salt.is_empty() { "default-hash-seed" } else { salt };
    let hash = fnv(salt.bytes().chain(trace.id));
    (keep_if(hash <= share_of_u64(percentage / 100.0)), threshold)
}

/// FNV-1a of 64 bits.
fn fnv(bytes: impl Iterator<Item = u8>) -> u64 {
    bytes.fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

/// `(2⁶⁴ − 1) × ratio`, rounded half to even to 64 significant bits, then cut to a whole number.
fn share_of_u64(ratio: f64) -> u64 {
    if ratio <= 0.0 || ratio.is_nan() {
        return 0;
    }
    if ratio >= 1.0 {
        return u64::MAX;
    }
    let bits = ratio.to_bits();
    let exponent = bits >> 52;
    let (mantissa, exponent) =
        if exponent == 0 { (bits, 1) } else { (bits & ((1 << 52) - 1) | 1 << 52, exponent) };
    // ratio = mantissa × 2^-places
    let places = 1075 - exponent;
    let product = u128::from(u64::MAX) * u128::from(mantissa);
    let extra = (128 - product.leading_zeros()).saturating_sub(64);
    let (whole, rest) = (product >> extra, product & ((1 << extra) - 1));
    let half = (1_u128 << extra) >> 1;
    let up = rest > half || (rest == half && half > 0 && whole & 1 == 1);
    let rounded = whole + u128::from(up);
    let cut = places - u64::from(extra);
    u64::try_from(if cut >= 128 { 0 } else { rounded >> cut }).unwrap_or(u64::MAX)
}

/// Sets an attribute on every scope (tailsampling 2.16).
pub(super) fn mark(batches: &mut [ResourceSpans], key: &str, value: &Value) {
    for scope_spans in batches.iter_mut().flat_map(|batch| &mut batch.scope_spans) {
        let attributes = &mut scope_spans.scope.get_or_insert_default().attributes;
        let value = Some(AnyValue { value: Some(value.clone()) });
        match attributes.iter_mut().find(|attribute| attribute.key == key) {
            Some(found) => found.value = value,
            None => attributes.push(KeyValue { key: key.to_owned(), value, ..KeyValue::default() }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_become_the_thresholds_of_the_collector() {
        for (percentage, want) in [
            (0.1, 0x0041_8937_4bc6_a7ef),
            (1.0, 0x028f_5c28_f5c2_8f5f),
            (5.0, 0x0ccc_cccc_cccc_ccff),
            (10.0, 0x1999_9999_9999_99ff),
            (25.0, 0x3fff_ffff_ffff_ffff),
            (33.0, 0x547a_e147_ae14_7bff),
            (33.3, 0x553f_7ced_9168_6fff),
            (75.0, 0xbfff_ffff_ffff_ffff),
            (99.9, 0xffbe_76c8_b439_5fff),
            (150.0, u64::MAX),
            (-1.0, 0),
        ] {
            assert_eq!(share_of_u64(percentage / 100.0), want, "{percentage}");
        }
    }

    #[test]
    fn trace_ids_hash_as_the_collector_hashes_them() {
        let hash = |salt: &str, id: u128| fnv(salt.bytes().chain(id.to_be_bytes()));
        assert_eq!(hash("default-hash-seed", 0), 0xe195_36ee_d1bb_ac3d);
        assert_eq!(hash("test-salt", u128::MAX), 0x49f7_0bce_2849_74b0);
    }
}
