//! `tracemill test` and `tracemill replay`: what they print, and that they decide as the sampler
//! does. Expected output stands in `tests/policies/`.

#![allow(clippy::unwrap_used, reason = "a test")]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value as Any;
use opentelemetry_proto::tonic::common::v1::{AnyValue, ArrayValue, KeyValue, KeyValueList};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::span::{Event, Link};
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span, Status};
use proptest::prelude::*;
use prost::Message as _;
use serde_json::{Value, json};
use tracemill::config::{self, Machine, Request};
use tracemill::otlp::{Signal, json as otlp_json};
use tracemill::policy_test::{self, Outcome};
use tracemill::replay::{self, Order};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn tracemill(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tracemill"));
    command.current_dir(root()).args(arguments).stdin(Stdio::null()).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// Compares with `tests/policies/{name}`; with `BLESS=1` writes it.
fn assert_golden(name: &str, got: &str) {
    let path = root().join("tests/policies").join(name);
    if std::env::var_os("BLESS").is_some() {
        fs::write(&path, got).unwrap();
    }
    let want = fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(got, want, "{}", path.display());
}

fn write(directory: &Path, name: &str, text: &str) -> PathBuf {
    let path = directory.join(name);
    fs::write(&path, text).unwrap();
    path
}

#[test]
fn the_tests_of_the_example_pass() {
    let output = tracemill(&["test", "configs/sampler_test.yaml"]);
    assert_eq!(text(&output.stderr), "");
    assert_golden("example.txt", &text(&output.stdout));
    assert_eq!(output.status.code(), Some(0));
}

const DIFFERENT: &str = r#"
tail_sampling:
  decision_wait: 1s
  policies:
    - {name: errors, type: status_code, status_code: {status_codes: [ERROR]}}
    - {name: some, type: rate_limiting, rate_limiting: {spans_per_second: 1, burst_capacity: 2}}
together: true
traces:
  - {name: first, expect: sampled, policy: some, spans: [{}]}
  - {name: second, expect: sampled, policy: errors, spans: [{arrives_ms: 100}]}
  - {name: third, expect: sampled, spans: [{arrives_ms: 200}]}
  - {name: fourth, expect: not_sampled, spans: [{status: error, arrives_ms: 300}]}
"#;

#[test]
fn a_difference_is_shown_and_counted() {
    let dir = tempfile::tempdir().unwrap();
    let file = write(dir.path(), "different.yaml", DIFFERENT);
    let output = tracemill(&["test", file.to_str().unwrap()]);
    assert_golden("different.txt", &text(&output.stdout));
    assert_eq!(output.status.code(), Some(1));
    let alone = DIFFERENT.replace("together: true\n", "");
    let file = write(dir.path(), "alone.yaml", &alone);
    let output = tracemill(&["test", file.to_str().unwrap()]);
    assert_golden("alone.txt", &text(&output.stdout));
    assert_eq!(output.status.code(), Some(1));
}

#[test]
fn a_file_that_cannot_be_read_says_what_is_wrong_and_where() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), "two.yaml", "processors: {tail_sampling/a: {}, tail_sampling/b: {}}");
    let broken = r#"config: two.yaml
processor: tail_samplng/a
tracs: []
traces:
  - {name: one, expect: smpled, spans: [{nam: x}]}
  - {name: one, expect: dropped, spans: [{parent: nobody}, {name: root}, {parent: rot}]}
  - {name: three, expect: not_sampled, policy: errors, trace_id: "12"}
  - {spans: [{duration_ms: -1, kind: servr}]}
"#;
    let none = "traces: [{name: a, expect: sampled, spans: [{}]}]";
    let policy = r#"
tail_sampling: {policies: [{name: errors, type: status_code, status_code: {status_codes: [ERR]}}]}
traces: [{name: a, expect: sampled, policy: erors, spans: [{}]}]
"#;
    let mut shown = String::new();
    for (name, content) in [("broken", broken), ("none", none), ("policy", policy)] {
        let file = write(dir.path(), &format!("{name}.yaml"), content);
        let output = tracemill(&["test", file.to_str().unwrap()]);
        assert_eq!(output.status.code(), Some(2), "{name}");
        assert_eq!(text(&output.stdout), "");
        shown += &text(&output.stderr).replace(dir.path().to_str().unwrap(), "DIR");
    }
    let output = tracemill(&["test", "no/such.yaml", "configs/sampler_test.yaml"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stdout).contains("0 not as expected"), "the others are run");
    assert_golden("unreadable.txt", &(shown + &text(&output.stderr)));
}

#[test]
fn a_whole_configuration_may_hold_its_tests() {
    let dir = tempfile::tempdir().unwrap();
    let sampler = fs::read_to_string(root().join("configs/sampler.yaml")).unwrap();
    let tests = fs::read_to_string(root().join("configs/sampler_test.yaml")).unwrap();
    let whole = sampler + &tests.replace("config: sampler.yaml\n", "");
    let file = write(dir.path(), "whole.yaml", &whole);
    let judged = policy_test::judge(file.to_str().unwrap(), &|_| None).unwrap();
    assert_eq!(judged.outcome, Outcome::Passed, "{}", judged.table);
    assert_golden("example.txt", &judged.table);
}

const REPLAYED: &str = r#"
receivers: {otlp: {protocols: {grpc: {}}}}
processors:
  tail_sampling:
    decision_wait: 2s
    decision_cache: {sampled_cache_size: 100, non_sampled_cache_size: 100}
    policies:
      - {name: errors, type: status_code, status_code: {status_codes: [ERROR]}}
      - {name: slow, type: latency, latency: {threshold_ms: 500}}
      - {name: health, type: drop, drop: {drop_sub_policy: [
          {name: path, type: string_attribute,
           string_attribute: {key: url.path, values: [/health]}}]}}
exporters: {nop: {}}
service: {pipelines: {traces: {receivers: [otlp], processors: [tail_sampling], exporters: [nop]}}}
"#;

/// A line with one span of trace `id`, from `start` to `end` in ms.
fn line(id: u8, start: u64, end: u64, rest: &str) -> String {
    let nanos = |ms: u64| (1_760_000_000_000 + ms) * 1_000_000;
    let (start, end) = (nanos(start), nanos(end));
    format!(
        r#"{{"resourceSpans":[{{"scopeSpans":[{{"spans":[{{"traceId":"{id:032x}","spanId":"00000000000000{id:02x}","startTimeUnixNano":"{start}","endTimeUnixNano":"{end}"{rest}}}]}}]}}]}}"#
    ) + "\n"
}

fn recording() -> String {
    let health = r#","attributes":[{"key":"url.path","value":{"stringValue":"/health"}}]"#;
    [
        line(1, 0, 10, ""),
        line(2, 0, 700, ""),
        line(3, 100, 120, r#","status":{"code":"STATUS_CODE_ERROR"}"#),
        "{\"resourceSpans\": [{]}\n".to_owned(),
        line(4, 200, 210, health),
        "\n".to_owned(),
        "{\"resourceLogs\":[]}\n".to_owned(),
        // Late, and out of order.
        line(1, 9_000, 9_010, ""),
        line(3, 8_000, 8_020, r#","name":"late""#),
        line(5, 150, 160, r#","status":{"code":2}"#),
    ]
    .concat()
}

/// Length-prefixed messages with what the lines hold.
fn framed(lines: &str) -> Vec<u8> {
    let mut out = Vec::new();
    for line in lines.lines() {
        let mut body = Vec::new();
        if otlp_json::decode(Signal::Traces, line.as_bytes(), &mut body).is_ok() {
            out.extend_from_slice(&u32::try_from(body.len()).unwrap().to_be_bytes());
            out.extend_from_slice(&body);
        }
    }
    out
}

#[test]
fn a_recording_is_replayed_and_what_is_broken_is_passed_over() {
    let dir = tempfile::tempdir().unwrap();
    let config = write(dir.path(), "sampler.yaml", REPLAYED);
    let traces = write(dir.path(), "traces.json", &recording());
    let (config, traces) = (config.to_str().unwrap(), traces.to_str().unwrap());
    let run = |more: &[&str]| tracemill(&[&["replay", "--config", config], more].concat());
    let shown = |output: &[u8]| text(output).replace(dir.path().to_str().unwrap(), "DIR");

    let json = run(&["--input", traces]);
    assert_eq!(json.status.code(), Some(0));
    assert_golden("replay.txt", &shown(&json.stdout));
    assert_golden("replay_warnings.txt", &shown(&json.stderr));

    let verdicts = run(&["--input", traces, "--verdicts", "-"]);
    assert_golden("replay_verdicts.jsonl", &text(&verdicts.stdout));
    assert!(text(&verdicts.stderr).contains("tail_sampling in pipeline traces"));

    let proto = dir.path().join("traces.pb");
    fs::write(&proto, framed(&recording())).unwrap();
    let proto = run(&["--input", proto.to_str().unwrap()]);
    let report = |output: &Output| {
        let text = text(&output.stdout);
        text.split("passed over").next().unwrap().to_owned()
    };
    assert_eq!(report(&proto), report(&json), "in either form the same");

    let mut cut = framed(&recording());
    cut.truncate(cut.len() - 1);
    let path = dir.path().join("cut.pb");
    fs::write(&path, cut).unwrap();
    let cut = run(&["--input", path.to_str().unwrap()]);
    assert!(text(&cut.stderr).contains("message 8 at byte "), "{}", text(&cut.stderr));
    assert!(text(&cut.stdout).contains("passed over: 1 that could not be read"));

    let nothing = write(dir.path(), "nothing.json", "nonsense\n");
    let nothing = run(&["--input", nothing.to_str().unwrap(), "--format", "json"]);
    assert_eq!(nothing.status.code(), Some(1));
    assert!(text(&nothing.stderr).contains("nothing could be read"));
    let missing = run(&["--input", "no/such.json"]);
    assert_eq!(missing.status.code(), Some(1));
    assert!(text(&missing.stderr).starts_with("error: cannot read no/such.json"));
}

/// A configuration with this block, in which nothing expires early: time in a recording runs
/// slower than it did when the cases were recorded.
fn load(block: &Value) -> config::Loaded {
    let mut block = block.clone();
    block["decision_wait"] = json!("3600s");
    block["decision_wait_after_root_received"] = json!("0s");
    let whole = json!({
        "receivers": {"otlp": {"protocols": {"grpc": {}}}},
        "processors": {"tail_sampling": block},
        "exporters": {"nop": {}},
        "service": {"pipelines": {"traces":
            {"receivers": ["otlp"], "processors": ["tail_sampling"], "exporters": ["nop"]}}},
    });
    let text = whole.to_string().replace('$', "$$");
    let request = Request { configs: vec![format!("yaml:{text}")], ..Request::default() };
    let machine = Machine { memory_bytes: 8 << 30, cgroup_bytes: None, instance_id: String::new() };
    config::load(&request, &|_| None, &machine).unwrap()
}

#[test]
fn what_is_kept_of_recorded_traffic_is_what_the_collector_kept() {
    let vectors = root().join("tests/vectors/tail_sampling");
    let read = |path: &Path| -> Value { serde_json::from_slice(&fs::read(path).unwrap()).unwrap() };
    let dir = tempfile::tempdir().unwrap();
    let mut ran = 0;
    for case in read(&vectors.join("cases/random.json"))["cases"].as_array().unwrap() {
        let block = case["tail_sampling"].to_string();
        let is_timed = ["rate_limiting", "bytes_limiting", "composite"];
        if is_timed.iter().any(|name| block.contains(name)) {
            continue;
        }
        let traffic =
            read(&vectors.join(format!("traffic/{}.json", case["traffic"].as_str().unwrap())));
        let lines: Vec<String> =
            traffic["input"].as_array().unwrap().iter().map(|r| r["body"].to_string()).collect();
        let input = write(dir.path(), "traffic.json", &lines.join("\n"));
        for order in [Order::File, Order::Arrival] {
            let verdicts = dir.path().join("verdicts.jsonl").to_str().unwrap().to_owned();
            let options = replay::Options {
                config: Request::default(),
                inputs: vec![input.to_str().unwrap().to_owned()],
                format: None,
                order,
                verdicts: Some(verdicts.clone()),
            };
            let loaded = load(&case["tail_sampling"]);
            replay::replay(&loaded.plan, &options, &mut |warning| panic!("{warning}")).unwrap();
            let written = fs::read_to_string(&verdicts).unwrap();
            let kept: BTreeSet<String> = written
                .lines()
                .map(|line| serde_json::from_str::<Value>(line).unwrap())
                .filter(|verdict| verdict["verdict"] == "sampled")
                .map(|verdict| verdict["trace_id"].as_str().unwrap().to_owned())
                .collect();
            let want = case["expect"]["kept"].as_array().unwrap();
            let want = want.iter().map(|id| id.as_str().unwrap().to_owned()).collect();
            assert_eq!(kept, want, "{} {order:?}", case["name"]);
            ran += 1;
        }
    }
    assert!(ran >= 40, "{ran}");
}

#[test]
fn what_the_file_exporter_writes_reads_back_as_it_was() {
    let vector = |extension: &str| {
        fs::read(root().join("tests/vectors/file").join(format!("traces.{extension}"))).unwrap()
    };
    let normal = |bytes: &[u8]| {
        let mut request = ExportTraceServiceRequest::decode(bytes).unwrap();
        request.resource_spans.iter_mut().for_each(tracemill::testing::oracle::normalize);
        request
    };
    let mut body = Vec::new();
    otlp_json::decode(Signal::Traces, &vector("json"), &mut body).unwrap();
    let mut again = Vec::new();
    tracemill::upstream::file::line(Signal::Traces, &body, &mut again).unwrap();
    assert_eq!(text(&again), text(vector("json").trim_ascii_end()));
    // As text: one of the values is not a number, and so not equal to itself.
    assert_eq!(format!("{:?}", normal(&body)), format!("{:?}", normal(&vector("bin"))));
    for signal in [Signal::Metrics, Signal::Logs] {
        let path = root().join("tests/vectors/file").join(format!("{}.json", signal.name()));
        let line = fs::read(path).unwrap();
        let (mut body, mut again) = (Vec::new(), Vec::new());
        otlp_json::decode(signal, &line, &mut body).unwrap();
        tracemill::upstream::file::line(signal, &body, &mut again).unwrap();
        assert_eq!(text(&again), text(line.trim_ascii_end()));
    }
}

fn any_value() -> impl Strategy<Value = AnyValue> {
    let leaf = prop_oneof![
        Just(None),
        ".{0,8}".prop_map(|text| Some(Any::StringValue(text))),
        any::<bool>().prop_map(|on| Some(Any::BoolValue(on))),
        any::<i64>().prop_map(|int| Some(Any::IntValue(int))),
        any::<f64>().prop_map(|x| Some(Any::DoubleValue(x))),
        any::<Vec<u8>>().prop_map(|bytes| Some(Any::BytesValue(bytes))),
    ];
    let leaf = leaf.prop_map(|value| AnyValue { value });
    leaf.prop_recursive(4, 16, 3, |inner| {
        let list = proptest::collection::vec(inner.clone(), 0..3)
            .prop_map(|values| Any::ArrayValue(ArrayValue { values }));
        let map = attributes(inner).prop_map(|values| Any::KvlistValue(KeyValueList { values }));
        prop_oneof![list, map].prop_map(|value| AnyValue { value: Some(value) })
    })
}

fn attributes(value: impl Strategy<Value = AnyValue>) -> impl Strategy<Value = Vec<KeyValue>> {
    let attribute = (".{0,4}", value).prop_map(|(key, value)| KeyValue {
        key,
        value: Some(value),
        ..KeyValue::default()
    });
    proptest::collection::vec(attribute, 0..3)
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_request_is_the_same_after_json(
        resource in attributes(any_value()),
        own in attributes(any_value()),
        (start, end, flags, kind) in (any::<u64>(), any::<u64>(), any::<u32>(), 0..6_i32),
        (name, state) in (".{0,9}", ".{0,9}"),
        (id, code) in (any::<[u8; 16]>(), 0..3_i32),
    ) {
        let span = Span {
            trace_id: id.to_vec(),
            span_id: id[8..].to_vec(),
            trace_state: state,
            flags,
            name: name.clone(),
            kind,
            start_time_unix_nano: start,
            end_time_unix_nano: end,
            attributes: own.clone(),
            events: vec![Event { time_unix_nano: end, name, attributes: own, ..Event::default() }],
            links: vec![Link { trace_id: id.to_vec(), flags, ..Link::default() }],
            status: Some(Status { code, ..Status::default() }),
            ..Span::default()
        };
        let scope_spans = vec![ScopeSpans { spans: vec![span], ..ScopeSpans::default() }];
        let resource = Some(Resource { attributes: resource, ..Resource::default() });
        let mut request = ExportTraceServiceRequest {
            resource_spans: vec![ResourceSpans { resource, scope_spans, ..Default::default() }],
        };
        let (mut text, mut back) = (Vec::new(), Vec::new());
        let body = request.encode_to_vec();
        tracemill::upstream::file::line(Signal::Traces, &body, &mut text).unwrap();
        otlp_json::decode(Signal::Traces, &text, &mut back).unwrap();
        let mut back = ExportTraceServiceRequest::decode(&*back).unwrap();
        for request in [&mut request, &mut back] {
            request.resource_spans.iter_mut().for_each(tracemill::testing::oracle::normalize);
        }
        prop_assert_eq!(format!("{back:?}"), format!("{request:?}"));
    }
}
