//! Random traffic.

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{
    AnyValue, ArrayValue, InstrumentationScope, KeyValue, KeyValueList,
};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::span::{Event, Link};
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span, Status};

use super::super::random::{Random, trace_id};
use super::Arrival;
use super::policies::{INTS, KEYS, TEXTS};
use crate::time::Instant;

const START: u64 = 1_760_000_000_000_000_000;
const MS: u64 = 1_000_000;
const TRACE_STATES: [&str; 9] = [
    "k=v",
    "a=1,k=w",
    "ot=rv:c0000000000000",
    "ot=th:8,k=v",
    "a=b,ot=x:1;rv:10000000000000;th:4",
    "!!",
    "ot=rv:1",
    " k=v ,,",
    "k=v,k=v",
];

/// Requests by time, and the time of the last one.
pub(super) fn arrivals(random: &mut Random) -> (Vec<Arrival>, Instant) {
    let mut pieces: Vec<(u64, Span)> = Vec::new();
    let ids = ids(random);
    let length = 500 + random.below(9_000);
    for id in &ids {
        let first = random.below(length);
        let times: Vec<u64> =
            (0..=random.below(6))
                .map(|_| {
                    if random.chance(0.3) {
                        random.below(length)
                    } else {
                        first + random.below(900)
                    }
                })
                .collect();
        let most = if random.chance(0.2) { 30 } else { 6 };
        for _ in 0..=random.below(most) {
            let span = span(random, id);
            pieces.push((*random.pick(&times), span.clone()));
            if random.chance(0.05) {
                pieces.push((*random.pick(&times), span));
            }
        }
    }
    pieces.sort_by_key(|(at, _)| *at);
    let mut all = Vec::new();
    while !pieces.is_empty() {
        let most = 1 + random.below(12);
        let count = usize::try_from(most).unwrap_or(1).min(pieces.len());
        let (at, _) = pieces[count - 1];
        let spans = pieces.drain(..count).map(|(_, span)| span).collect();
        // half a ms beside every tick
        let at = Instant(at * MS + MS / 2);
        let request = request(random, spans);
        all.push(Arrival { at, request, descending: random.chance(0.5) });
    }
    let last = all.last().map_or(Instant(0), |arrival| arrival.at);
    (all, last)
}

/// Some without an id, some with the low half of another.
fn ids(random: &mut Random) -> Vec<Vec<u8>> {
    let seed = random.next_u64();
    let count = 1 + random.below(25);
    let mut ids: Vec<Vec<u8>> = (0..count).map(|n| trace_id(seed, n).to_vec()).collect();
    if random.chance(0.2) {
        let mut twin = ids[0].clone();
        twin[0] ^= 0xff;
        ids.push(twin);
    }
    match random.below(10) {
        0 => ids.push(Vec::new()),
        1 => ids.push(vec![0; 16]),
        _ => {}
    }
    ids
}

fn request(random: &mut Random, mut spans: Vec<Span>) -> ExportTraceServiceRequest {
    // Arrival order within a request is chance as well.
    for at in (1..spans.len()).rev() {
        let other = random.below(at as u64 + 1);
        spans.swap(at, usize::try_from(other).unwrap_or(at));
    }
    let mut resource_spans = Vec::new();
    let mut spans = spans.into_iter().peekable();
    while spans.peek().is_some() {
        let mut scope_spans = Vec::new();
        for _ in 0..=random.below(3) {
            let count = usize::try_from(random.below(5)).unwrap_or(0);
            let scope = random.chance(0.8).then(|| InstrumentationScope {
                name: (*random.pick(&["lib", "other", ""])).to_owned(),
                attributes: attributes(random, 1),
                ..InstrumentationScope::default()
            });
            let schema_url = (*random.pick(&["", "", "http://s"])).to_owned();
            let spans = spans.by_ref().take(count).collect();
            scope_spans.push(ScopeSpans { scope, spans, schema_url });
        }
        let resource = random.chance(0.9).then(|| Resource {
            attributes: attributes(random, 2),
            dropped_attributes_count: u32::from(random.chance(0.1)),
            ..Resource::default()
        });
        let schema_url = (*random.pick(&["", "", "http://r"])).to_owned();
        resource_spans.push(ResourceSpans { resource, scope_spans, schema_url });
    }
    ExportTraceServiceRequest { resource_spans }
}

fn span(random: &mut Random, trace_id: &[u8]) -> Span {
    let id = |random: &mut Random| random.next_u64().to_be_bytes().to_vec();
    let start = START + random.below(40) * MS;
    let end = start + *random.pick(&[0, 999_999, MS, 5 * MS, 30 * MS, 150 * MS]);
    let odd = |random: &mut Random, time| if random.chance(0.05) { 0 } else { time };
    Span {
        trace_id: trace_id.to_vec(),
        span_id: if random.chance(0.05) { Vec::new() } else { id(random) },
        parent_span_id: match random.below(8) {
            0 => Vec::new(),
            1 => vec![0; 8],
            _ => id(random),
        },
        trace_state: if random.chance(0.2) {
            (*random.pick(&TRACE_STATES)).to_owned()
        } else {
            String::new()
        },
        flags: *random.pick(&[0, 0, 1, 0x100, 0x301]),
        name: (*random.pick(&["op", "GET /", ""])).to_owned(),
        kind: *random.pick(&[0, 1, 2, 3]),
        start_time_unix_nano: odd(random, start),
        end_time_unix_nano: odd(random, end),
        attributes: attributes(random, 4),
        events: (0..random.below(3).saturating_sub(1)).map(|_| event(random, start)).collect(),
        links: (0..random.below(5) / 4).map(|_| link(random)).collect(),
        dropped_links_count: u32::from(random.chance(0.1)) * 300,
        status: random.chance(0.6).then(|| Status {
            code: *random.pick(&[0, 1, 2, 2]),
            message: (*random.pick(&["", "no"])).to_owned(),
        }),
        ..Span::default()
    }
}

fn event(random: &mut Random, time_unix_nano: u64) -> Event {
    let name = (*random.pick(&["e", "f"])).to_owned();
    Event { time_unix_nano, name, attributes: attributes(random, 2), ..Event::default() }
}

fn link(random: &mut Random) -> Link {
    let trace_id = if random.chance(0.5) { vec![7; 16] } else { Vec::new() };
    Link { trace_id, attributes: attributes(random, 1), ..Link::default() }
}

fn attributes(random: &mut Random, most: u64) -> Vec<KeyValue> {
    // Keys may repeat.
    (0..random.below(most + 1)).map(|_| attribute(random, 2)).collect()
}

fn attribute(random: &mut Random, depth: u32) -> KeyValue {
    let key = (*random.pick(&KEYS)).to_owned();
    let value = random.chance(0.95).then(|| value(random, depth));
    KeyValue { key, value, ..KeyValue::default() }
}

fn value(random: &mut Random, depth: u32) -> AnyValue {
    let value = match random.below(if depth == 0 { 9 } else { 11 }) {
        0..=3 => Value::StringValue((*random.pick(&TEXTS)).to_owned()),
        4 | 5 => Value::IntValue(*random.pick(&INTS)),
        6 => Value::BoolValue(random.chance(0.5)),
        7 => Value::DoubleValue(*random.pick(&[0.0, 1.5, 500.0, -1.0])),
        8 => match random.chance(0.5) {
            true => Value::BytesValue(b"x".to_vec()),
            false => return AnyValue { value: None },
        },
        9 => Value::ArrayValue(ArrayValue {
            values: (0..random.below(3)).map(|_| value(random, depth - 1)).collect(),
        }),
        _ => Value::KvlistValue(KeyValueList {
            values: (0..random.below(3)).map(|_| attribute(random, depth - 1)).collect(),
        }),
    };
    AnyValue { value: Some(value) }
}
