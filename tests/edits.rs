//! Edits of attributes: what the collector was seen to do, and what a naive editor of decoded
//! requests does.

#![allow(clippy::unwrap_used, reason = "a test")]

use std::fs;
use std::path::Path;

use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue};
use opentelemetry_proto::tonic::logs::v1::{LogRecord, ResourceLogs, ScopeLogs};
use opentelemetry_proto::tonic::metrics::v1::metric::Data;
use opentelemetry_proto::tonic::metrics::v1::{
    ExponentialHistogram, ExponentialHistogramDataPoint, Gauge, Histogram, HistogramDataPoint,
    Metric, NumberDataPoint, ResourceMetrics, ScopeMetrics, Sum, Summary, SummaryDataPoint,
};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span};
use proptest::prelude::*;
use prost::Message;
use tracemill::config::{self, Machine, Request};
use tracemill::otlp::edit::{Action, Editor, Edits, Refusal, Source, Verb};
use tracemill::otlp::{Signal, json};

fn editor() -> Editor {
    Editor::new(1 << 20)
}

/// What a processor with these actions does.
fn configured(processor: &str, actions: &str) -> Edits {
    let key = if processor == "resource" { "attributes" } else { "actions" };
    let text = format!(
        "yaml:receivers: {{otlp: {{protocols: {{grpc: }}}}}}
exporters: {{nop: }}
processors: {{{processor}: {{{key}: {actions}}}}}
service: {{pipelines: {{traces: {{receivers: [otlp], processors: [{processor}], exporters: [nop]}}}}}}"
    );
    let request = Request { configs: vec![text], ..Request::default() };
    let env = |name: &str| (name == "NUM").then(|| "42".to_owned());
    let machine = Machine { memory_bytes: 8 << 30, cgroup_bytes: None, instance_id: String::new() };
    let loaded = config::load(&request, &env, &machine).unwrap_or_else(|e| panic!("{e}"));
    loaded.plan.pipelines[0].edits[0].clone()
}

/// The places where attributes stand: signal, and JSON around them.
const PLACES: [(Signal, &str); 9] = [
    (Signal::Traces, r#"{"resourceSpans":[{@"scopeSpans":[{"spans":[{"name":"n"}]}]}]}"#),
    (Signal::Logs, r#"{"resourceLogs":[{@"scopeLogs":[{"logRecords":[{"severityNumber":1}]}]}]}"#),
    (
        Signal::Traces,
        r#"{"resourceSpans":[{"scopeSpans":[{"spans":[{"name":"n",#"kind":2},{#"kind":1}]}]}]}"#,
    ),
    (
        Signal::Logs,
        r#"{"resourceLogs":[{"scopeLogs":[{"logRecords":[{#"severityNumber":1,"flags":2}]}]}]}"#,
    ),
    (
        Signal::Metrics,
        r#"{"resourceMetrics":[{"scopeMetrics":[{"metrics":[{"name":"n","gauge":{"dataPoints":
           [{#"timeUnixNano":"1"},{#"asInt":"2"}]}}]}]}]}"#,
    ),
    (
        Signal::Metrics,
        r#"{"resourceMetrics":[{"scopeMetrics":[{"metrics":[{"name":"n","sum":{"isMonotonic":true,
           "dataPoints":[{#"timeUnixNano":"1"}]}}]}]}]}"#,
    ),
    (
        Signal::Metrics,
        r#"{"resourceMetrics":[{"scopeMetrics":[{"metrics":[{"name":"n","histogram":{"dataPoints":
           [{#"count":"1"}]}}]}]}]}"#,
    ),
    (
        Signal::Metrics,
        r#"{"resourceMetrics":[{"scopeMetrics":[{"metrics":[{"exponentialHistogram":{"dataPoints":
           [{#"scale":3}]}}]}]}]}"#,
    ),
    (
        Signal::Metrics,
        r#"{"resourceMetrics":[{"scopeMetrics":[{"metrics":[{"summary":{"dataPoints":
           [{#"sum":1.5}]}}]}]}]}"#,
    ),
];

fn wire(signal: Signal, text: &str) -> Vec<u8> {
    let mut out = Vec::new();
    json::decode_first(signal, text.as_bytes(), &mut out).unwrap_or_else(|e| panic!("{text}: {e}"));
    out
}

/// What a request says, in words; a resource that is not there is an empty one.
fn words(signal: Signal, body: &[u8]) -> String {
    match signal {
        Signal::Traces => {
            let mut request = ExportTraceServiceRequest::decode(body).unwrap();
            request.resource_spans.iter_mut().for_each(|r| _ = r.resource.get_or_insert_default());
            format!("{request:#?}")
        }
        Signal::Logs => {
            let mut request = ExportLogsServiceRequest::decode(body).unwrap();
            request.resource_logs.iter_mut().for_each(|r| _ = r.resource.get_or_insert_default());
            format!("{request:#?}")
        }
        Signal::Metrics => {
            let mut request = ExportMetricsServiceRequest::decode(body).unwrap();
            let resources = request.resource_metrics.iter_mut();
            resources.for_each(|r| _ = r.resource.get_or_insert_default());
            format!("{request:#?}")
        }
    }
}

fn edited(edits: &Edits, signal: Signal, body: &[u8]) -> Vec<u8> {
    editor().edit(edits, signal, body).unwrap().unwrap_or_else(|| body.to_vec())
}

#[test]
fn attributes_become_what_they_became_in_the_collector() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors/edits.txt");
    let text = fs::read_to_string(path).unwrap();
    let mut tried = 0;
    for case in text.split("\n=== ").skip(1) {
        let mut lines = case.trim_end().lines();
        let (name, actions) = (lines.next().unwrap(), lines.next().unwrap());
        let edits = ["resource", "attributes"].map(|processor| configured(processor, actions));
        for (before, after) in lines.map(|line| line.split_once(" -> ").unwrap()) {
            for (signal, place) in PLACES {
                let is_resource = place.contains('@');
                let fill = |attributes: &str| match (is_resource, attributes) {
                    (true, "-") => place.replace('@', ""),
                    (true, _) => {
                        place.replace('@', &format!(r#""resource":{{"attributes":{attributes}}},"#))
                    }
                    (false, "-") => place.replace('#', ""),
                    (false, _) => place.replace('#', &format!(r#""attributes":{attributes},"#)),
                };
                let edits = &edits[usize::from(!is_resource)];
                let got = edited(edits, signal, &wire(signal, &fill(before)));
                let want = wire(signal, &fill(after));
                assert_eq!(words(signal, &got), words(signal, &want), "{name}: {before}");
                tried += 1;
            }
        }
    }
    assert!(tried > 1000, "{tried}");
}

fn constant(text: &str) -> Source {
    let value = AnyValue { value: Some(Value::StringValue(text.into())) }.encode_to_vec();
    Source { attribute: None, value: Some(value) }
}

fn act(key: &str, verb: Verb) -> Action {
    Action { key: key.into(), verb }
}

/// A length-delimited field with a short length.
fn field(number: u32, content: &[&[u8]]) -> Vec<u8> {
    let mut out = Vec::new();
    tracemill::otlp::write::bytes(&mut out, number, &content.concat());
    out
}

fn kv(key: &str, value: &str) -> Vec<u8> {
    let value = field(2, &[&field(1, &[value.as_bytes()])]);
    field(1, &[&field(1, &[key.as_bytes()]), &value])
}

fn on_resource(actions: &[Action]) -> Edits {
    Edits { resource: actions.to_vec(), record: Vec::new() }
}

fn on_record(actions: &[Action]) -> Edits {
    Edits { resource: Vec::new(), record: actions.to_vec() }
}

/// A ResourceSpans.
fn whole(parts: &[&[u8]]) -> Vec<u8> {
    field(1, parts)
}

/// Of a field and a number that nobody knows.
const UNKNOWN: [u8; 3] = [0xf8, 0x07, 0x05];

fn all_bytes_are(case: &str, edits: &Edits, before: &[u8], after: &[u8]) {
    let got = editor().edit(edits, Signal::Traces, before).unwrap();
    assert_eq!(got.as_deref(), Some(after), "{case}");
    assert_eq!(editor().edit(&Edits::default(), Signal::Traces, before), Ok(None), "{case}");
}

#[test]
fn a_resource_may_come_in_several_fields_or_not_at_all() {
    let span = field(2, &[&field(1, &[&[7; 16]]), &field(5, &[b"n"])]);
    let scope = field(2, &[&span]);
    let (a, b, c) = (kv("a", "1"), kv("b", "2"), kv("c", "3"));
    let new = kv("a", "new");
    all_bytes_are(
        "it is one, and the first of equal keys counts",
        &on_resource(&[act("a", Verb::Upsert(constant("new")))]),
        &whole(&[&field(1, &[&a, &UNKNOWN]), &scope, &field(1, &[&b, &a])]),
        &whole(&[&field(1, &[&new, &UNKNOWN]), &scope, &field(1, &[&b, &a])]),
    );
    all_bytes_are(
        "the last attribute takes the place of one that is deleted",
        &on_resource(&[act("a", Verb::Delete)]),
        &whole(&[&field(1, &[&a, &b]), &field(1, &[&UNKNOWN, &c])]),
        &whole(&[&field(1, &[&c, &b]), &field(1, &[&UNKNOWN])]),
    );
    let url = field(3, &[b"url"]);
    let insert = on_resource(&[act("a", Verb::Insert(constant("new")))]);
    all_bytes_are(
        "an insertion stands at the end of the last field",
        &insert,
        &whole(&[&field(1, &[&b]), &url, &field(1, &[&UNKNOWN]), &UNKNOWN]),
        &whole(&[&field(1, &[&b]), &url, &field(1, &[&UNKNOWN, &new]), &UNKNOWN]),
    );
    all_bytes_are(
        "it is made where there is none",
        &insert,
        &whole(&[&scope, &UNKNOWN]),
        &whole(&[&field(1, &[&new]), &scope, &UNKNOWN]),
    );
}

#[test]
fn all_other_bytes_stay_as_they_are() {
    let from_b = Source { attribute: Some("b".into()), value: None };
    let actions = [act("a", Verb::Upsert(constant("new"))), act("x", Verb::Insert(from_b))];
    let key = |key: &str| field(1, &[key.as_bytes()]);
    let b = field(1, &[&key("b"), &field(2, &[&[0x18, 1]]), &field(2, &[&[0x18, 2]])]);
    let a = field(1, &[&field(2, &[]), &UNKNOWN, &key("a")]);
    let new = field(1, &[&UNKNOWN, &key("a"), &field(2, &[&field(1, &[b"new"])])]);
    let x = field(1, &[&key("x"), &field(2, &[&[0x18, 1, 0x18, 2]])]);
    all_bytes_are(
        "what stands beside key and value stays; several value fields are one",
        &on_resource(&actions),
        &whole(&[&field(1, &[&a, &b])]),
        &whole(&[&field(1, &[&new, &b, &x])]),
    );
    let id = field(1, &[&[7; 16]]);
    let inserted = field(9, &[&kv("a", "new")[2..]]);
    let insert = act("a", Verb::Insert(constant("new")));
    all_bytes_are(
        "records of old scopes are edited too",
        &on_record(&[insert]),
        &whole(&[&field(1000, &[&field(2, &[&id])]), &UNKNOWN]),
        &whole(&[&field(1000, &[&field(2, &[&id, &inserted])]), &UNKNOWN]),
    );
    let padded = [0x0a, 0x84, 0x00, 0x1a, 0x81, 0x00, b'u'];
    all_bytes_are(
        "padded lengths stay so where nothing changes",
        &on_resource(&[act("a", Verb::Delete)]),
        &[&whole(&[&field(1, &[&kv("a", "1")])]), &padded[..]].concat(),
        &[&whole(&[&field(1, &[])]), &padded[..]].concat(),
    );
}

#[test]
fn nothing_is_copied_where_nothing_changes() {
    let a = kv("a", "new");
    let body = field(1, &[&field(1, &[&a]), &field(2, &[&field(2, &[&field(5, &[b"n"])])])]);
    let resource = [
        act("a", Verb::Insert(constant("other"))),
        act("a", Verb::Upsert(constant("new"))),
        act("b", Verb::Update(constant("x"))),
        act("c", Verb::Delete),
        act("d", Verb::Insert(constant("x"))),
        act("d", Verb::Delete),
        act("e", Verb::Upsert(Source { attribute: Some("f".into()), value: None })),
    ];
    let record = vec![act("b", Verb::Update(constant("x"))), act("c", Verb::Delete)];
    let edits = Edits { resource: resource.to_vec(), record };
    assert_eq!(editor().edit(&edits, Signal::Traces, &body), Ok(None));
}

#[test]
fn too_much_is_refused_and_what_is_broken_is_named() {
    let edits = Edits { resource: Vec::new(), record: vec![act("a", Verb::Insert(constant("x")))] };
    let spans = [0x12, 0x00].repeat(10_000);
    let body = field(1, &[&field(2, &[&spans])]);
    let mut small = Editor::new(100_000);
    assert_eq!(small.edit(&edits, Signal::Traces, &body), Err(Refusal::TooMuch));
    let few = field(1, &[&field(2, &[&spans[..200]])]);
    assert!(small.edit(&edits, Signal::Traces, &few).unwrap().is_some());
    let broken = field(1, &[&field(2, &[&field(2, &[&[0x48, 1]])])]);
    let Err(Refusal::Unreadable(e)) = small.edit(&edits, Signal::Traces, &broken) else { panic!() };
    assert_eq!(e.to_string(), "proto: wrong wireType = 0 for field Attributes");
}

// What follows compares with a naive editor.

type Attributes = Vec<KeyValue>;

fn find(attributes: &Attributes, key: &str) -> Option<usize> {
    attributes.iter().position(|kv| kv.key == key)
}

fn naive(attributes: &mut Attributes, actions: &[Action]) {
    for Action { key, verb } in actions {
        let at = find(attributes, key);
        let source = match verb {
            Verb::Insert(source) if at.is_none() => source,
            Verb::Update(source) if at.is_some() => source,
            Verb::Upsert(source) => source,
            Verb::Delete => {
                if let Some(at) = at {
                    attributes.swap_remove(at);
                }
                continue;
            }
            _ => continue,
        };
        let other = source.attribute.as_ref().and_then(|name| find(attributes, name));
        let default = source.value.as_ref().map(|value| AnyValue::decode(&value[..]).unwrap());
        let Some(value) =
            other.map(|at| attributes[at].value.clone().unwrap_or_default()).or(default)
        else {
            continue;
        };
        match at {
            Some(at) if attributes[at].value.clone().unwrap_or_default() == value => {}
            Some(at) => attributes[at].value = Some(value),
            None => attributes.push(KeyValue {
                key: key.clone(),
                value: Some(value),
                ..KeyValue::default()
            }),
        }
    }
}

fn resource(resource: &mut Option<Resource>, edits: &Edits) {
    let mut changed = resource.clone().unwrap_or_default();
    naive(&mut changed.attributes, &edits.resource);
    if changed != resource.clone().unwrap_or_default() {
        *resource = Some(changed);
    }
}

fn points(data: &mut Data, edits: &Edits) {
    let all: Vec<&mut Attributes> = match data {
        Data::Gauge(d) => d.data_points.iter_mut().map(|p| &mut p.attributes).collect(),
        Data::Sum(d) => d.data_points.iter_mut().map(|p| &mut p.attributes).collect(),
        Data::Histogram(d) => d.data_points.iter_mut().map(|p| &mut p.attributes).collect(),
        Data::ExponentialHistogram(d) => {
            d.data_points.iter_mut().map(|p| &mut p.attributes).collect()
        }
        Data::Summary(d) => d.data_points.iter_mut().map(|p| &mut p.attributes).collect(),
    };
    all.into_iter().for_each(|attributes| naive(attributes, &edits.record));
}

fn value() -> impl Strategy<Value = AnyValue> {
    prop_oneof![
        Just(None),
        "[xy]{0,200}".prop_map(|text| Some(Value::StringValue(text))),
        any::<i64>().prop_map(|n| Some(Value::IntValue(n))),
        any::<bool>().prop_map(|flag| Some(Value::BoolValue(flag))),
    ]
    .prop_map(|value| AnyValue { value })
}

fn key() -> impl Strategy<Value = String> {
    prop::sample::select(vec!["a", "b", "c", "d", ""]).prop_map(ToOwned::to_owned)
}

fn attributes() -> impl Strategy<Value = Attributes> {
    let one = (key(), prop::option::of(value())).prop_map(|(key, value)| KeyValue {
        key,
        value,
        ..KeyValue::default()
    });
    prop::collection::vec(one, 0..6)
}

fn action() -> impl Strategy<Value = Action> {
    let value = prop::option::of(value().prop_map(|value| value.encode_to_vec()));
    let source =
        (prop::option::of(key()), value).prop_map(|(attribute, value)| Source { attribute, value });
    (prop::sample::select(vec!["a", "b", "c", "d"]), 0..4, source).prop_map(
        |(key, verb, source)| {
            let verb = match verb {
                0 => Verb::Insert(source),
                1 => Verb::Update(source),
                2 => Verb::Upsert(source),
                _ => Verb::Delete,
            };
            Action { key: key.to_owned(), verb }
        },
    )
}

fn edits() -> impl Strategy<Value = Edits> {
    let actions = || prop::collection::vec(action(), 0..4);
    (actions(), actions()).prop_map(|(resource, record)| Edits { resource, record })
}

fn maybe_resource() -> impl Strategy<Value = Option<Resource>> {
    let one = (attributes(), 0..3u32).prop_map(|(attributes, dropped_attributes_count)| Resource {
        attributes,
        dropped_attributes_count,
        ..Resource::default()
    });
    prop::option::of(one)
}

type Shape = Vec<(Option<Resource>, Vec<Vec<Attributes>>)>;

/// Resources, scopes and records.
fn shape() -> impl Strategy<Value = Shape> {
    let scopes = prop::collection::vec(prop::collection::vec(attributes(), 0..4), 0..3);
    prop::collection::vec((maybe_resource(), scopes), 0..3)
}

fn check<M: Message + Default + PartialEq + std::fmt::Debug>(
    signal: Signal,
    edits: &Edits,
    before: &M,
    want: &M,
) -> Result<(), TestCaseError> {
    let body = before.encode_to_vec();
    match editor().edit(edits, signal, &body).unwrap() {
        Some(edited) => prop_assert_eq!(&M::decode(&edited[..]).unwrap(), want),
        None => prop_assert_eq!(before, want),
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn spans_become_what_a_naive_editor_makes_of_them(shape in shape(), edits in edits()) {
        let spans = |list: Vec<Attributes>| list.into_iter().map(|attributes| Span {
            trace_id: vec![1; 16], span_id: vec![2; 8], name: "n".into(), attributes,
            dropped_attributes_count: 3, ..Span::default()
        }).collect();
        let scopes = |list: Vec<Vec<Attributes>>| list.into_iter().map(|list| ScopeSpans {
            spans: spans(list), schema_url: "s".into(), ..ScopeSpans::default()
        }).collect();
        let all = shape.into_iter().map(|(resource, list)| ResourceSpans {
            resource, scope_spans: scopes(list), schema_url: "r".into()
        });
        let before = ExportTraceServiceRequest { resource_spans: all.collect() };
        let mut want = before.clone();
        for r in &mut want.resource_spans {
            resource(&mut r.resource, &edits);
            let spans = r.scope_spans.iter_mut().flat_map(|s| &mut s.spans);
            spans.for_each(|span| naive(&mut span.attributes, &edits.record));
        }
        check(Signal::Traces, &edits, &before, &want)?;
    }

    #[test]
    fn log_records_become_what_a_naive_editor_makes_of_them(shape in shape(), edits in edits()) {
        let records = |list: Vec<Attributes>| list.into_iter().map(|attributes| LogRecord {
            severity_number: 4, attributes, flags: 5, ..LogRecord::default()
        }).collect();
        let scopes = |list: Vec<Vec<Attributes>>| list.into_iter().map(|list| ScopeLogs {
            log_records: records(list), ..ScopeLogs::default()
        }).collect();
        let all = shape.into_iter().map(|(resource, list)| ResourceLogs {
            resource, scope_logs: scopes(list), ..ResourceLogs::default()
        });
        let before = ExportLogsServiceRequest { resource_logs: all.collect() };
        let mut want = before.clone();
        for r in &mut want.resource_logs {
            resource(&mut r.resource, &edits);
            let records = r.scope_logs.iter_mut().flat_map(|s| &mut s.log_records);
            records.for_each(|record| naive(&mut record.attributes, &edits.record));
        }
        check(Signal::Logs, &edits, &before, &want)?;
    }

    #[test]
    fn data_points_become_what_a_naive_editor_makes_of_them(
        shape in shape(), edits in edits(), kind in 0..5,
    ) {
        let metrics = |list: Vec<Attributes>| vec![
            Metric { name: "n".into(), data: Some(data(kind, list)), ..Metric::default() },
            Metric::default(),
        ];
        let scopes = |list: Vec<Vec<Attributes>>| list.into_iter().map(|list| ScopeMetrics {
            metrics: metrics(list), ..ScopeMetrics::default()
        }).collect();
        let all = shape.into_iter().map(|(resource, list)| ResourceMetrics {
            resource, scope_metrics: scopes(list), ..ResourceMetrics::default()
        });
        let before = ExportMetricsServiceRequest { resource_metrics: all.collect() };
        let mut want = before.clone();
        for r in &mut want.resource_metrics {
            resource(&mut r.resource, &edits);
            let metrics = r.scope_metrics.iter_mut().flat_map(|s| &mut s.metrics);
            metrics.filter_map(|m| m.data.as_mut()).for_each(|data| points(data, &edits));
        }
        check(Signal::Metrics, &edits, &before, &want)?;
    }
}

fn data(kind: i32, list: Vec<Attributes>) -> Data {
    let list = list.into_iter();
    match kind {
        0 => {
            let point = |attributes| NumberDataPoint { attributes, ..NumberDataPoint::default() };
            Data::Gauge(Gauge { data_points: list.map(point).collect() })
        }
        1 => {
            let point = |attributes| NumberDataPoint { attributes, ..NumberDataPoint::default() };
            Data::Sum(Sum { data_points: list.map(point).collect(), ..Sum::default() })
        }
        2 => {
            let point =
                |attributes| HistogramDataPoint { attributes, ..HistogramDataPoint::default() };
            Data::Histogram(Histogram {
                data_points: list.map(point).collect(),
                ..Histogram::default()
            })
        }
        3 => {
            let point = |attributes| ExponentialHistogramDataPoint {
                attributes,
                ..ExponentialHistogramDataPoint::default()
            };
            Data::ExponentialHistogram(ExponentialHistogram {
                data_points: list.map(point).collect(),
                ..ExponentialHistogram::default()
            })
        }
        _ => {
            let point = |attributes| SummaryDataPoint { attributes, ..SummaryDataPoint::default() };
            Data::Summary(Summary { data_points: list.map(point).collect() })
        }
    }
}
