//! Scan and split against two oracles: prost, which decodes everything, and a naive cutter that
//! works on lists of fields. Requests are made at random and then written oddly (`odd.rs`): any
//! field order, padded varints, unknown fields and groups, repeated fields, empty messages,
//! field 1000.
//!
//! Where we differ from prost on purpose, and agree with the collector:
//! - text is not checked to be UTF-8;
//! - ids of a wrong length refuse the request;
//! - bits of a ten-byte varint beyond 64 are ignored;
//! - scopes in field 1000 count where field 2 is absent.
//!
//! Where we differ from the collector on purpose:
//! - unknown fields survive, groups may have contents, a tag has at most 32 bits;
//! - the contents of resources, scopes, attributes, events, links and points are not judged;
//! - of a span that starts with both ids the rest is not walked: a second trace id or a wrong wire
//!   type behind them is not seen.

#![allow(clippy::unwrap_used, clippy::cast_possible_truncation, reason = "a test")]

mod keyed;
mod naive;
mod odd;

use std::collections::BTreeMap;

use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, InstrumentationScope, KeyValue};
use opentelemetry_proto::tonic::logs::v1::{LogRecord, ResourceLogs, ScopeLogs};
use opentelemetry_proto::tonic::metrics::v1::metric::Data;
use opentelemetry_proto::tonic::metrics::v1::{
    ExponentialHistogram, ExponentialHistogramDataPoint, Gauge, Histogram, HistogramDataPoint,
    Metric, NumberDataPoint, ResourceMetrics, ScopeMetrics, Sum, Summary, SummaryDataPoint,
};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::span::{Event, Link};
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span, Status};
use proptest::prelude::*;
use prost::Message;
use tracemill::otlp::{Error, Index, Signal, items, scan, scan_pieces};
use tracemill::route::{Generation, Ring, Split};
use tracemill::testing::fuzz;
use tracemill::testing::random::{Random, trace_id};
use tracemill::testing::workload::{FieldOrder, Options, Set, Size};

fn ring(endpoints: u64) -> Ring {
    let names: Vec<_> = (0..endpoints).map(|n| format!("10.0.0.{n}:4317")).collect();
    Ring::new(Generation::V3, &names)
}

fn attributes(random: &mut Random) -> Vec<KeyValue> {
    let value = |random: &mut Random| match random.below(4) {
        0 => Some(Value::StringValue("a".repeat(random.below(200) as usize))),
        1 => Some(Value::IntValue(random.next_u64().cast_signed())),
        2 => Some(Value::BytesValue(trace_id(1, 1).to_vec())),
        _ => None,
    };
    (0..random.below(4))
        .map(|n| KeyValue {
            key: format!("k{n}"),
            value: Some(AnyValue { value: value(random) }),
            ..KeyValue::default()
        })
        .collect()
}

fn resource(random: &mut Random) -> Option<Resource> {
    let attributes = attributes(random);
    random.chance(0.8).then(|| Resource { attributes, ..Resource::default() })
}

fn scope(random: &mut Random) -> Option<InstrumentationScope> {
    let (name, version) = ("otelhttp".to_owned(), "1".to_owned());
    random.chance(0.7).then(|| InstrumentationScope {
        name,
        version,
        ..InstrumentationScope::default()
    })
}

fn schema_url(random: &mut Random) -> String {
    random.pick(&["", "https://opentelemetry.io/schemas/1.37.0"]).to_string()
}

/// Few different ids, so that spans of one trace meet; sometimes none, sometimes zero.
fn some_trace_id(random: &mut Random) -> Vec<u8> {
    match random.below(10) {
        0 => vec![],
        1 => vec![0; 16],
        n => trace_id(5, n / 2).to_vec(),
    }
}

fn span(random: &mut Random) -> Span {
    let status = Status { message: "no".into(), code: 2 };
    Span {
        trace_id: some_trace_id(random),
        span_id: if random.chance(0.9) { vec![7; 8] } else { vec![] },
        trace_state: random.pick(&["", "ot=rv:1234"]).to_string(),
        parent_span_id: if random.chance(0.5) { vec![9; 8] } else { vec![] },
        flags: random.below(3) as u32,
        name: random.pick(&["", "GET /", "\n\x10aaaaaaaaaaaaaaaa\x12\x08bbbbbbbb"]).to_string(),
        kind: random.below(6) as i32,
        start_time_unix_nano: random.next_u64(),
        end_time_unix_nano: random.next_u64(),
        attributes: attributes(random),
        dropped_attributes_count: random.below(2) as u32,
        events: (0..random.below(3))
            .map(|_| Event { name: "e".into(), attributes: attributes(random), ..Event::default() })
            .collect(),
        links: (0..random.below(2))
            .map(|_| Link { trace_id: vec![1; 16], span_id: vec![2; 8], ..Link::default() })
            .collect(),
        status: random.chance(0.3).then_some(status),
        ..Span::default()
    }
}

fn spans(random: &mut Random) -> ExportTraceServiceRequest {
    let scope_spans = |random: &mut Random| ScopeSpans {
        scope: scope(random),
        spans: (0..random.below(8)).map(|_| span(random)).collect(),
        schema_url: schema_url(random),
    };
    let resource_spans = (0..random.below(4))
        .map(|_| ResourceSpans {
            resource: resource(random),
            scope_spans: (0..random.below(4)).map(|_| scope_spans(random)).collect(),
            schema_url: schema_url(random),
        })
        .collect();
    ExportTraceServiceRequest { resource_spans }
}

/// What a receiver can tell of each span: resource, scope, their schemas, the span; in order.
fn flat(request: &ExportTraceServiceRequest) -> Vec<(Vec<u8>, Vec<u8>, Span)> {
    let mut flat = Vec::new();
    for rs in &request.resource_spans {
        let resource = ResourceSpans { scope_spans: vec![], ..rs.clone() };
        for ss in &rs.scope_spans {
            let scope = ScopeSpans { spans: vec![], ..ss.clone() };
            for span in &ss.spans {
                flat.push((resource.encode_to_vec(), scope.encode_to_vec(), span.clone()));
            }
        }
    }
    flat
}

fn owner(ring: &Ring, span: &Span) -> u16 {
    ring.owner(&span.trace_id.clone().try_into().unwrap_or([0; 16])).unwrap()
}

/// The parts of a request by endpoint.
fn parts(signal: Signal, body: &[u8], ring: &Ring) -> BTreeMap<u16, Vec<u8>> {
    let (mut index, mut split) = (Index::new(), Split::new());
    scan(signal, body, &mut index).unwrap();
    let planned = split.plan(body, &index, ring).to_vec();
    let mut parts = BTreeMap::new();
    for (n, part) in planned.iter().enumerate() {
        let mut out = vec![0xee; 3];
        split.write(n, body, &index, &mut out);
        assert_eq!(out.len(), part.bytes + 3);
        assert!(part.items > 0);
        assert!(parts.insert(part.endpoint, out.split_off(3)).is_none());
    }
    parts
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 400,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn parts_decode_to_what_prost_would_have_sent_to_each_endpoint(seed: u64) {
        let mut random = Random::new(seed);
        let model = spans(&mut random);
        let ring = ring(1 + random.below(7));
        let body = odd::write(&mut random, &model.encode_to_vec());
        if !body.deprecated {
            prop_assert_eq!(&ExportTraceServiceRequest::decode(&*body.bytes).unwrap(), &model);
        }
        let mut want: BTreeMap<u16, Vec<_>> = BTreeMap::new();
        for span in flat(&model) {
            want.entry(owner(&ring, &span.2)).or_default().push(span);
        }
        let got = parts(Signal::Traces, &body.bytes, &ring);
        prop_assert_eq!(got.keys().collect::<Vec<_>>(), want.keys().collect::<Vec<_>>());
        for (endpoint, part) in &got {
            let part = ExportTraceServiceRequest::decode(&**part).unwrap();
            prop_assert_eq!(&flat(&part), &want[endpoint]);
        }
    }

    #[test]
    fn parts_are_byte_for_byte_those_of_a_naive_cutter(seed: u64) {
        let mut random = Random::new(seed);
        let model = spans(&mut random);
        let ring = ring(1 + random.below(7));
        let body = odd::write(&mut random, &model.encode_to_vec());
        let want = naive::split(&body.bytes, &ring);
        prop_assert_eq!(parts(Signal::Traces, &body.bytes, &ring), want);
    }

    #[test]
    fn a_prefix_is_refused_exactly_when_prost_refuses_it(seed: u64) {
        let mut random = Random::new(seed);
        let model = spans(&mut random);
        let body = odd::write(&mut random, &model.encode_to_vec()).bytes;
        let mut index = Index::new();
        for end in 0..body.len().min(2000) {
            let prefix = &body[..end];
            let scanned = scan(Signal::Traces, prefix, &mut index);
            let decoded = ExportTraceServiceRequest::decode(prefix);
            prop_assert_eq!(scanned.is_ok(), decoded.is_ok(), "{} of {}", end, body.len());
        }
    }

    #[test]
    fn a_request_in_pieces_is_read_and_cut_as_one_in_one_piece(seed: u64) {
        let mut random = Random::new(seed);
        let mut body = spans(&mut random).encode_to_vec();
        let piece = 0..u32::try_from(body.len()).unwrap();
        let mut index = Index::new();
        prop_assert!(scan_pieces(&body, &[piece], &mut index), "what prost writes is usual");
        for _ in 0..20 {
            let mut tagged: Vec<u8> = (0..3).map(|_| random.below(256) as u8).collect();
            tagged.extend(&body);
            fuzz::pieces(&tagged);
            if !body.is_empty() {
                let at = random.below(body.len() as u64) as usize;
                body[at] = body[at].wrapping_add(*random.pick(&[0, 0, 0, 1, 0x7f, 0x80]));
            }
        }
    }

    #[test]
    fn flipped_bytes_never_break_an_invariant(seed: u64) {
        let mut random = Random::new(seed);
        let model = spans(&mut random);
        let mut body = odd::write(&mut random, &model.encode_to_vec()).bytes;
        for _ in 0..20 {
            if body.is_empty() {
                break;
            }
            let at = random.below(body.len() as u64) as usize;
            let kept = body[at];
            body[at] = *random.pick(&[0, 1, 0x7f, 0x80, 0xff, kept ^ 1, kept.wrapping_add(8)]);
            fuzz::scan(&body);
            let mut tagged = vec![random.below(255) as u8];
            tagged.extend(&body);
            fuzz::split(&tagged);
            if random.chance(0.7) {
                body[at] = kept;
            }
        }
    }

    #[test]
    fn log_records_are_found_with_their_trace_ids(seed: u64) {
        let mut random = Random::new(seed);
        let record = |random: &mut Random| LogRecord {
            time_unix_nano: random.next_u64(),
            severity_text: "INFO".into(),
            body: Some(AnyValue { value: Some(Value::StringValue("hello".into())) }),
            attributes: attributes(random),
            trace_id: some_trace_id(random),
            ..LogRecord::default()
        };
        let scope_logs = |random: &mut Random| ScopeLogs {
            scope: scope(random),
            log_records: (0..random.below(5)).map(|_| record(random)).collect(),
            schema_url: schema_url(random),
        };
        let model = ExportLogsServiceRequest {
            resource_logs: (0..random.below(3))
                .map(|_| ResourceLogs {
                    resource: resource(&mut random),
                    scope_logs: (0..random.below(3)).map(|_| scope_logs(&mut random)).collect(),
                    schema_url: schema_url(&mut random),
                })
                .collect(),
        };
        let body = odd::write(&mut random, &model.encode_to_vec()).bytes;
        let mut index = Index::new();
        scan(Signal::Logs, &body, &mut index).unwrap();
        let found: Vec<_> = index
            .items()
            .iter()
            .map(|item| item.trace_id(&body).map_or(vec![], |id| id.to_vec()))
            .collect();
        let scopes = model.resource_logs.iter().flat_map(|resource| &resource.scope_logs);
        let want: Vec<_> =
            scopes.flat_map(|scope| &scope.log_records).map(|r| r.trace_id.clone()).collect();
        prop_assert_eq!(items(Signal::Logs, &body), Ok(want.len() as u64));
        prop_assert_eq!(found, want);
    }

    #[test]
    fn metric_points_of_all_five_kinds_are_counted(seed: u64) {
        let mut random = Random::new(seed);
        let mut points = 0;
        let model = ExportMetricsServiceRequest {
            resource_metrics: vec![ResourceMetrics {
                resource: resource(&mut random),
                scope_metrics: (0..random.below(3))
                    .map(|_| ScopeMetrics {
                        metrics: (0..random.below(4))
                            .map(|_| metric(&mut random, &mut points))
                            .collect(),
                        ..ScopeMetrics::default()
                    })
                    .collect(),
                ..ResourceMetrics::default()
            }],
        };
        let body = odd::write(&mut random, &model.encode_to_vec()).bytes;
        let mut index = Index::new();
        scan(Signal::Metrics, &body, &mut index).unwrap();
        prop_assert_eq!(index.count(), points);
        prop_assert_eq!(items(Signal::Metrics, &body), Ok(points));
    }
}

fn metric(random: &mut Random, points: &mut u64) -> Metric {
    let n = random.below(4) as usize;
    let kind = random.below(6);
    if kind < 5 {
        *points += n as u64;
    }
    let data = match kind {
        0 => Some(Data::Gauge(Gauge { data_points: vec![Default::default(); n] })),
        1 => {
            let data_points = vec![Default::default(); n];
            Some(Data::Sum(Sum { data_points, is_monotonic: true, ..Sum::default() }))
        }
        2 => {
            let data_points = vec![Default::default(); n];
            Some(Data::Histogram(Histogram { data_points, aggregation_temporality: 2 }))
        }
        3 => Some(Data::ExponentialHistogram(ExponentialHistogram {
            data_points: vec![Default::default(); n],
            aggregation_temporality: 1,
        })),
        4 => Some(Data::Summary(Summary { data_points: vec![Default::default(); n] })),
        _ => None,
    };
    Metric { name: "requests".into(), unit: "1".into(), data, ..Metric::default() }
}

#[test]
fn the_workload_is_what_prost_reads_in_every_field_order() {
    for order in [FieldOrder::Sdk, FieldOrder::Collector, FieldOrder::Dotnet] {
        for resources in [1, 3] {
            let options = Options { order, resources, requests: 4, ..Options::default() };
            let mut set = Set::new(&Options { size: Size::Spans(40), ..options });
            for template in &mut set.templates {
                template.patch(|trace| trace_id(11, u64::from(trace)));
                let request = ExportTraceServiceRequest::decode(&*template.body).unwrap();
                let spans = flat(&request);
                assert_eq!(spans.len(), template.spans());
                for ((_, _, span), slot) in spans.iter().zip(&template.slots) {
                    assert_eq!(span.trace_id, trace_id(11, u64::from(slot.trace)));
                    assert!(span.attributes.len() >= 9 && span.end_time_unix_nano > 0);
                    assert!(span.start_time_unix_nano <= span.end_time_unix_nano);
                }
                let ring = ring(4);
                assert_eq!(
                    parts(Signal::Traces, &template.body, &ring),
                    naive::split(&template.body, &ring)
                );
            }
        }
    }
}

#[test]
fn text_that_is_not_utf8_passes_untouched() {
    let span = [&[0x0a, 0x10][..], &[1; 16], &[0x2a, 2, 0xff, 0xfe]].concat();
    let body = naive::field(1, &naive::field(2, &naive::field(2, &span)));
    assert!(ExportTraceServiceRequest::decode(&*body).is_err());
    assert_eq!(parts(Signal::Traces, &body, &ring(1))[&0], body);
}

#[test]
fn every_wrong_wire_type_in_an_envelope_is_refused() {
    // A value for each wire type, long enough to be read as any other.
    let value: [&[u8]; 6] = [&[1], &[0; 8], &[0], &[0x0c], &[], &[0; 4]];
    let cases = [
        (1, "ResourceSpans", 0),
        (1, "Resource", 1),
        (2, "ScopeSpans", 1),
        (3, "SchemaUrl", 1),
        (1000, "DeprecatedScopeSpans", 1),
        (1, "Scope", 2),
        (2, "Spans", 2),
        (3, "SchemaUrl", 2),
    ];
    for (number, name, depth) in cases {
        for wire in [0u8, 1, 3, 4, 5] {
            let mut body = Vec::new();
            naive::push_varint(&mut body, u64::from(number << 3 | u32::from(wire)));
            body.extend(value[wire as usize]);
            for level in (0..depth).rev() {
                body = naive::field(if level == 0 { 1 } else { 2 }, &body);
            }
            let got = scan(Signal::Traces, &body, &mut Index::new());
            let Err(Error::WrongWireType { field, wire: found, .. }) = got else {
                panic!("{name} with wire type {wire}: {got:?}")
            };
            assert_eq!((field, found), (name, wire));
            if number != 1000 {
                assert!(ExportTraceServiceRequest::decode(&*body).is_err(), "{name} {wire}");
            }
        }
    }
}
