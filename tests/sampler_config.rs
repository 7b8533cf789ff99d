//! Configurations of `tail_sampling` and of the `file` exporter: what the recorded cases and the
//! collector accept is accepted, what they refuse is refused with its key and line, and the options
//! hold what the file says.

#![allow(clippy::unwrap_used, reason = "a test")]

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value;
use tracemill::config::plan::{ExporterKind, FileOptions, Format, Rotation};
use tracemill::config::{self, Loaded, Machine, Plan, Report, Request, Severity};
use tracemill::sample::options::{ErrorMode, Gates, Options, Policy, Rule, Strategy};

const BASE: &str = "yaml:
receivers: {otlp: {protocols: {grpc: }}}
exporters: {nop: }
service: {pipelines: {traces: {receivers: [otlp], processors: [tail_sampling], exporters: [nop]}}}
";

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).to_path_buf()
}

fn load(configs: &[&str], gates: &str) -> Result<Loaded, Report> {
    let machine =
        Machine { memory_bytes: 8 << 30, cgroup_bytes: Some(1 << 30), instance_id: "i-1".into() };
    let configs = configs.iter().map(|&c| c.to_owned()).collect();
    let request = Request { configs, sets: vec![], feature_gates: vec![gates.to_owned()] };
    config::load(&request, &|_: &str| None, &machine)
}

fn plan(text: &str, gates: &str) -> Plan {
    load(&[BASE, &format!("yaml:{text}")], gates).unwrap_or_else(|e| panic!("{e}\n{text}")).plan
}

/// The options of `tail_sampling`, whose block is `text`.
fn options(text: &str) -> Options {
    let indented = text.replace('\n', "\n    ");
    let plan = plan(&format!("processors:\n  tail_sampling:\n    {indented}"), "");
    plan.pipelines[0].sampling.clone().unwrap().options
}

fn policy(name: &str, rule: Rule) -> Policy {
    Policy { name: name.into(), rule }
}

#[test]
fn recorded_blocks_are_accepted_and_recorded_errors_refused_with_key_and_line() {
    let mut seen = 0;
    for entry in fs::read_dir(root().join("tests/vectors/tail_sampling/cases")).unwrap() {
        let text = fs::read_to_string(entry.unwrap().path()).unwrap();
        let file: Value = serde_json::from_str(&text).unwrap();
        for case in file["cases"].as_array().unwrap() {
            let block = serde_json::json!({"processors": {"tail_sampling": case["tail_sampling"]}});
            let text = serde_json::to_string_pretty(&block).unwrap();
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("case.yaml");
            fs::write(&path, &text).unwrap();
            let gates = case["feature_gates"].as_array().into_iter().flatten();
            let gates: Vec<&str> = gates.map(|gate| gate.as_str().unwrap()).collect();
            let loaded = load(&[BASE, path.to_str().unwrap()], &gates.join(","));
            let name = &case["name"];
            seen += 1;
            match (loaded, case.get("config_error")) {
                (Ok(_), None) => {}
                (Err(report), None) => panic!("{name}: {report}\n{text}"),
                (Ok(_), Some(why)) => panic!("{name} is accepted: {why}\n{text}"),
                (Err(report), Some(_)) => {
                    let first = &report.notices[0];
                    assert!(
                        first.path.starts_with("processors::tail_sampling"),
                        "{name}: {report}"
                    );
                    assert!(first.place.contains("case.yaml:"), "{name}: {report}");
                }
            }
        }
    }
    assert!(seen > 250, "{seen}");
}

#[test]
fn verdicts_are_those_of_the_collector_or_named_differences() {
    let text = fs::read_to_string(root().join("tests/configs/sampler_verdicts.txt")).unwrap();
    let (mut seen, mut wrong) = (0, String::new());
    for section in text.split("\n=== ").skip(1) {
        let (head, text) = section.split_once('\n').unwrap();
        let parts: Vec<&str> = head.rsplitn(3, " | ").collect();
        let [ours, _, name] = parts[..] else { panic!("{head}") };
        let got = load(&[BASE, &format!("yaml:{text}")], "");
        let verdict = if got.is_ok() { "tracemill accepts" } else { "tracemill refuses" };
        if verdict != ours {
            let why = got.err().map(|e| e.to_string()).unwrap_or_default();
            _ = writeln!(wrong, "{name}: {head}, but now: {verdict}\n{why}");
        }
        seen += 1;
    }
    assert!(wrong.is_empty(), "{wrong}");
    assert!(seen > 500, "{seen}");
}

#[test]
fn an_empty_block_has_the_defaults_of_the_collector() {
    assert_eq!(options(""), Options::default());
    assert_eq!(options("policies: []\nnum_shards: 0"), Options::default());
    assert_eq!(options("num_shards: 4").num_shards, 4);
}

#[test]
fn keys_of_the_top_level_arrive() {
    let got = options(
        "decision_wait: 1m30s
decision_wait_after_root_received: 5s
num_traces: 100.9
block_on_overflow: true
expected_new_traces_per_sec: 7
sample_on_first_match: true
sampling_strategy: span-ingest
drop_pending_traces_on_shutdown: true
maximum_trace_size_bytes: 1024
decision_cache: {sampled_cache_size: 10, non_sampled_cache_size: -1}",
    );
    let want = Options {
        decision_wait: Duration::from_secs(90),
        decision_wait_after_root: Duration::from_secs(5),
        num_traces: 100,
        block_on_overflow: true,
        expected_new_traces_per_sec: 7,
        sample_on_first_match: true,
        strategy: Strategy::SpanIngest,
        drop_pending_on_shutdown: true,
        trace_bytes_max: 1024,
        sampled_cache: 10,
        ..Options::default()
    };
    assert_eq!(got, want);
    assert_eq!(options("decision_wait: -5s").decision_wait, Duration::ZERO);
    assert_eq!(options("decision_wait: 30").decision_wait, Duration::from_nanos(30));
}

/// Type and block of a policy, and the rule that they make.
fn rules() -> Vec<(&'static str, Rule)> {
    [plain_rules(), nested_rules()].concat()
}

fn plain_rules() -> Vec<(&'static str, Rule)> {
    let own = |texts: &[&str]| texts.iter().map(|t| (*t).to_owned()).collect::<Vec<_>>();
    vec![
        ("always_sample", Rule::AlwaysSample),
        ("trace_flags", Rule::TraceFlags),
        (
            "latency, latency: {threshold_ms: 5.9, upper_threshold_ms: 10}",
            Rule::Latency { threshold_ms: 5, upper_threshold_ms: 10 },
        ),
        (
            "numeric_attribute, numeric_attribute: {key: k, min_value: 4, invert_match: true}",
            Rule::NumericAttribute { key: "k".into(), min: 4, max: i64::MAX, invert: true },
        ),
        (
            "numeric_attribute, numeric_attribute: {key: k, max_value: -4, min_value: 0}",
            Rule::NumericAttribute { key: "k".into(), min: i64::MIN, max: -4, invert: false },
        ),
        (
            "probabilistic, probabilistic: {sampling_percentage: 10, hash_salt: x}",
            Rule::Probabilistic { percentage: 10.0, salt: "x".into() },
        ),
        (
            "status_code, status_code: {status_codes: 'ERROR,UNSET'}",
            Rule::StatusCode([true, false, true]),
        ),
        (
            "string_attribute, string_attribute: {key: k, values: a, cache_max_size: 5}",
            Rule::StringAttribute {
                key: "k".into(),
                values: own(&["a"]),
                regex: false,
                invert: false,
            },
        ),
        (
            "string_attribute, string_attribute: {values: ['a.', b], enabled_regex_matching: true, invert_match: true}",
            Rule::StringAttribute {
                key: String::new(),
                values: own(&["a.", "b"]),
                regex: true,
                invert: true,
            },
        ),
        (
            "rate_limiting, rate_limiting: {spans_per_second: 3}",
            Rule::RateLimiting { per_second: 3, burst: 6 },
        ),
        (
            "bytes_limiting, bytes_limiting: {bytes_per_second: 3, burst_capacity: 4}",
            Rule::BytesLimiting { per_second: 3, burst: 4 },
        ),
        (
            "span_count, span_count: {min_spans: 2, max_spans: 20}",
            Rule::SpanCount { min: 2, max: 20 },
        ),
        (
            "boolean_attribute, boolean_attribute: {key: k, value: true}",
            Rule::BooleanAttribute { key: "k".into(), value: true, invert: false },
        ),
        (
            "trace_state, trace_state: {key: k, values: [v, '']}",
            Rule::TraceState { key: "k".into(), values: own(&["v", ""]) },
        ),
    ]
}

fn nested_rules() -> Vec<(&'static str, Rule)> {
    let always = || policy("", Rule::AlwaysSample);
    let own = |texts: &[&str]| texts.iter().map(|t| (*t).to_owned()).collect::<Vec<_>>();
    vec![
        (
            "ottl_condition, ottl_condition: {error_mode: Propagate, span: ['1 < 2'], spanevent: 'true'}",
            Rule::OttlCondition {
                error_mode: ErrorMode::Propagate,
                span: own(&["1 < 2"]),
                spanevent: own(&["true"]),
            },
        ),
        ("and, and: {and_sub_policy: [{type: always_sample}]}", Rule::And(vec![always()])),
        ("not, not: {not_sub_policy: {type: always_sample}}", Rule::Not(Box::new(always()))),
        (
            "drop, drop: {drop_sub_policy: [{name: x, type: not, not: {not_sub_policy: {type: always_sample}}}]}",
            Rule::Drop(vec![policy("x", Rule::Not(Box::new(always())))]),
        ),
        (
            "composite, composite: {max_total_spans_per_second: 1000, policy_order: [b], \
             composite_sub_policy: [{name: a, type: always_sample}, {name: b, type: and}, \
             {name: c, type: trace_flags}], rate_allocation: [{policy: a, percent: 50}, {policy: b, percent: 25}]}",
            Rule::Composite {
                spans_per_second_max: 1000,
                subs: vec![
                    (policy("a", Rule::AlwaysSample), 500),
                    (policy("b", Rule::And(vec![])), 250),
                    (policy("c", Rule::TraceFlags), 333),
                ],
            },
        ),
    ]
}

#[test]
fn blocks_of_policies_arrive() {
    for (text, rule) in rules() {
        let got = options(&format!("policies: [{{name: p, type: {text}}}]"));
        assert_eq!(got.policies, [policy("p", rule)], "{text}");
    }
}

#[test]
fn a_printed_sampler_loads_as_itself() {
    let mut texts: Vec<String> =
        rules().iter().map(|(t, _)| format!("{{policies: [{{name: p, type: {t}}}]}}")).collect();
    texts.push("{decision_wait: 5, decision_cache: {sampled_cache_size: 5}}".into());
    for text in texts {
        let text = format!("yaml:processors: {{tail_sampling: {text}}}");
        let first = load(&[BASE, &text], "").unwrap();
        let printed = config::print_config(&first);
        let again =
            load(&[&format!("yaml:{printed}")], "").unwrap_or_else(|e| panic!("{e}\n{printed}"));
        assert_eq!(config::print_config(&again), printed);
        assert_eq!(again.plan.pipelines, first.plan.pipelines, "{printed}");
    }
}

#[test]
fn each_pipeline_has_an_instance_of_its_own() {
    let plan = plan(
        "processors: {tail_sampling: , tail_sampling/b: {num_traces: 5}}
service:
  pipelines:
    traces/2: {receivers: [otlp], processors: [tail_sampling/b], exporters: [nop]}
    traces/3: {receivers: [otlp], processors: [tail_sampling/b], exporters: [nop]}
    traces/4: {receivers: [otlp], exporters: [nop]}",
        "",
    );
    let sampler = |at: usize| plan.pipelines[at].sampling.as_ref();
    let ids: Vec<_> =
        (0..4).map(|at| sampler(at).map(|s| (s.id.as_str(), s.options.num_traces))).collect();
    let second = Some(("tail_sampling/b", 5));
    assert_eq!(ids, [Some(("tail_sampling", 50_000)), second, second, None]);
}

#[test]
fn feature_gates_of_the_sampler_arrive_and_the_last_word_counts() {
    let name = |gate: &str| format!("processor.tailsamplingprocessor.{gate}");
    let gates = |list: &[&str]| {
        let plan = plan("processors: {tail_sampling: }", &list.join(","));
        plan.pipelines[0].sampling.clone().unwrap().options.gates
    };
    assert_eq!(gates(&[]), Gates::default());
    let all = [
        "recordpolicy",
        "usetracestate",
        "metricstatcountspanssampled",
        "metricstatcountbytessampled",
    ];
    let all = all.map(name);
    let every = Gates {
        record_policy: true,
        use_trace_state: true,
        count_spans_sampled: true,
        count_bytes_sampled: true,
    };
    assert_eq!(gates(&all.each_ref().map(|g| g.as_str())), every);
    let off = format!("-{}", all[0]);
    assert_eq!(gates(&[&format!("+{}", all[0]), &off]), Gates::default());
    let storage = name("tailstorageextension");
    let loaded = load(&[BASE, "yaml:processors: {tail_sampling: }"], &storage).unwrap();
    let told = loaded.notices.iter().find(|n| n.severity == Severity::Warning).unwrap();
    assert!(told.what.contains("has no effect"), "{told}");
}

#[test]
fn a_file_has_the_defaults_of_the_collector_and_takes_its_keys() {
    let file = |text: &str| {
        let plan = plan(
            &format!(
                "exporters: {{file: {text}}}\nservice: {{pipelines: {{traces: {{processors: [], exporters: [file]}}}}}}"
            ),
            "",
        );
        let ExporterKind::File(options) = plan.exporters[0].kind.clone() else { panic!() };
        options
    };
    let plain = FileOptions {
        path: "a".into(),
        format: Format::Json,
        append: false,
        rotation: None,
        zstd_level: None,
        flush_interval: Duration::from_secs(1),
        directory_mode: None,
    };
    assert_eq!(file("{path: a, flush_interval: 0}"), plain);
    let rotation = Rotation { bytes_max: 100 << 20, days_max: 0, backups_max: 100 };
    assert_eq!(file("{path: a, rotation: }"), FileOptions { rotation: Some(rotation), ..plain });
    let got = file(
        "{path: a, format: proto, compression: zstd, create_directory: true, \
         directory_permissions: '0700', rotation: {max_megabytes: 5, max_days: 2, max_backups: 3}}",
    );
    let want = FileOptions {
        path: "a".into(),
        format: Format::Proto,
        append: false,
        rotation: Some(Rotation { bytes_max: 5 << 20, days_max: 2, backups_max: 3 }),
        zstd_level: Some(3),
        flush_interval: Duration::from_secs(1),
        directory_mode: Some(0o700),
    };
    assert_eq!(got, want);
}
