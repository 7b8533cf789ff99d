//! Configurations: the examples load, verdicts agree with the collector's, messages stay as they
//! are, and no text makes the loader panic or grow without limit.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use proptest::prelude::*;
use tracemill::config::components::Section;
use tracemill::config::components::elsewhere::ELSEWHERE;
use tracemill::config::plan::ExporterKind;
use tracemill::config::{self, Loaded, Machine, Report, Request};
use tracemill::otlp::Signal;
use tracemill::route::{Generation, Key};
use tracemill::rpc::Codec;

fn machine() -> Machine {
    Machine { memory_bytes: 8 << 30, cgroup_bytes: Some(1 << 30), instance_id: "i-1".into() }
}

/// The variables that the recorded cases use.
fn env(name: &str) -> Option<String> {
    let value = match name {
        "N" => "5",
        "TXT" => "abc",
        "QN" => "\"5\"",
        "F" => "false",
        "LST" => "[otlp]",
        "O" => "ot",
        "MAP" => "{otlp: {protocols: {grpc: {}}}}",
        "REC" => "${env:REC}",
        _ => return None,
    };
    Some(value.into())
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).to_path_buf()
}

fn load(configs: &[&str], sets: &[&str]) -> Result<Loaded, Report> {
    let own = |texts: &[&str]| texts.iter().map(|t| (*t).to_owned()).collect();
    let request = Request { configs: own(configs), sets: own(sets), feature_gates: vec![] };
    config::load(&request, &env, &machine())
}

fn load_text(text: &str) -> Result<Loaded, Report> {
    load(&[&format!("yaml:{text}")], &[])
}

/// Files that are configurations by themselves.
const EXAMPLES: [&str; 7] = [
    "router.yaml",
    "signals.yaml",
    "router-kubernetes.yaml",
    "passthrough.yaml",
    "sampler.yaml",
    "tier-router.yaml",
    "tier-sampler.yaml",
];

fn example(name: &str) -> String {
    root().join("configs").join(name).to_str().expect("paths are UTF-8").to_owned()
}

#[test]
fn the_router_example_loads_without_a_warning() {
    let loaded = load(&[&example("router.yaml")], &[]).unwrap();
    assert!(loaded.notices.iter().all(|n| n.severity == config::Severity::Note), "{loaded:?}");
    let plan = loaded.plan;
    assert_eq!(plan.engine.hard_bytes, 400 << 20);
    assert_eq!(plan.engine.soft_bytes, 300 << 20);
    assert_eq!(plan.receivers[0].grpc.as_ref().unwrap().recv_bytes_max, 16 << 20);
    assert_eq!(plan.pipelines[0].batch_items_max, 16384);
    assert_eq!(plan.pipelines[0].memory_limiters, ["memory_limiter"]);
    assert_eq!(plan.health_checks[0].endpoint, "0.0.0.0:13133");
    let ExporterKind::LoadBalancing(lb) = &plan.exporters[0].kind else { panic!("{plan:?}") };
    assert_eq!((lb.template.compression, lb.ring), (Codec::None, Generation::V3));
    assert_eq!(lb.resolver.names().unwrap().len(), 4);
}

#[test]
fn the_second_file_adds_tracemills_own_settings() {
    let files = [&*example("router.yaml"), &*example("tracemill.yaml")];
    let sets = ["tracemill.ring=v2", "processors.memory_limiter.limit_mib=200"];
    let plan = load(&files, &sets).unwrap().plan;
    assert_eq!(plan.engine.cores, Some(2));
    // The smallest that is set: 200 - 100 of the limiter is below 400 - 80 of the second file.
    assert_eq!((plan.engine.hard_bytes, plan.engine.soft_bytes), (200 << 20, 100 << 20));
    let ExporterKind::LoadBalancing(lb) = &plan.exporters[0].kind else { panic!("{plan:?}") };
    assert_eq!(lb.ring, Generation::V2);
}

#[test]
fn the_second_file_names_every_key_of_its_own_with_the_defaults() {
    let alone = load(&[&example("router.yaml")], &[]).unwrap();
    let both = load(&[&example("router.yaml"), &example("tracemill.yaml")], &[]).unwrap();
    let own = |loaded: &Loaded| {
        let text = config::print_config(loaded);
        text.lines().skip_while(|l| *l != "tracemill:").map(str::to_owned).collect::<Vec<_>>()
    };
    for line in own(&alone) {
        // What follows from the machine is only named.
        let named = |other: &String| match line.split_once(": null") {
            Some((key, _)) => other.starts_with(&format!("{key}: ")) && !other.contains("null"),
            None => *other == line,
        };
        assert!(own(&both).iter().any(named), "{line} is not in tracemill.yaml, or differs");
    }
}

#[test]
fn the_passthrough_example_loads_three_signals_and_named_instances() {
    let plan = load(&[&example("passthrough.yaml")], &[]).unwrap().plan;
    let ids: Vec<&str> = plan.pipelines.iter().map(|p| p.id.as_str()).collect();
    assert_eq!(ids, ["traces", "metrics", "logs", "logs/local"]);
    assert_eq!(plan.pipelines[1].signal, Signal::Metrics);
    assert_eq!(plan.pipelines[0].receivers.len(), 2);
    let store = plan.exporters.iter().find(|e| e.id == "otlp_grpc/store").unwrap();
    let ExporterKind::OtlpGrpc { endpoint, options } = &store.kind else { panic!() };
    assert_eq!(endpoint, "localhost:24317");
    assert_eq!(options.headers, [("x-tenant".to_owned(), "default".to_owned())]);
    assert!(options.queue.unwrap().wait_for_result);
}

#[test]
fn the_signals_example_routes_each_signal_by_its_own_key() {
    let loaded = load(&[&example("signals.yaml")], &[]).unwrap();
    assert!(loaded.notices.iter().all(|n| n.severity == config::Severity::Note), "{loaded:?}");
    let plan = loaded.plan;
    let key = |id: &str, signal: Signal| {
        let exporter = plan.exporters.iter().find(|e| e.id == id).unwrap();
        let ExporterKind::LoadBalancing(balancing) = &exporter.kind else { panic!("{id}") };
        balancing.keys[signal as usize].clone()
    };
    assert_eq!(key("load_balancing/samplers", Signal::Traces), Key::TraceId);
    assert_eq!(key("load_balancing/streams", Signal::Metrics), Key::StreamId);
    let names = |list: [&str; 2]| Key::Attributes(list.map(ToOwned::to_owned).to_vec());
    let of_traces = names(["service.name", "span.kind"]);
    assert_eq!(key("load_balancing/spanmetrics", Signal::Traces), of_traces);
    let of_logs = names(["k8s.namespace.name", "k8s.pod.name"]);
    assert_eq!(key("load_balancing/logs", Signal::Logs), of_logs);
}

#[test]
fn forward_joins_pipelines_and_is_gone() {
    let plan = load_text(
        "receivers: {otlp: {protocols: {grpc: {}}}, otlp/2: {protocols: {grpc: {endpoint: 'x:1'}}}}
exporters: {nop: {}, debug: {}}
connectors: {forward: , forward/kept: }
processors:
  memory_limiter: {check_interval: 1s, limit_mib: 100}
  batch: {send_batch_size: 10, send_batch_max_size: 20}
  tail_sampling: {policies: [{name: all, type: always_sample}]}
service:
  pipelines:
    traces/a: {receivers: [otlp], processors: [memory_limiter], exporters: [forward, nop]}
    traces/b: {receivers: [otlp/2], exporters: [forward]}
    traces/c: {receivers: [forward], processors: [tail_sampling], exporters: [forward/kept]}
    traces/d: {receivers: [forward/kept], processors: [batch], exporters: [debug]}
",
    )
    .unwrap()
    .plan;
    let ids: Vec<_> = plan.pipelines.iter().map(|p| p.id.as_str()).collect();
    assert_eq!(ids, ["traces/a", "traces/c"]);
    let [a, c] = &plan.pipelines[..] else { panic!() };
    assert_eq!((&a.receivers[..], &a.exporters[..]), (&[0][..], &[0][..]));
    assert_eq!((&c.receivers[..], &c.exporters[..]), (&[0, 1][..], &[1][..]));
    assert!(a.sampling.is_none() && c.sampling.is_some());
    assert_eq!(c.memory_limiters, ["memory_limiter"]);
    assert_eq!((c.batch_items_max, c.batch.unwrap().items), (20, 10));
}

#[test]
fn the_sampler_examples_load_without_a_warning() {
    let policies = |name: &str| {
        let loaded = load(&[&example(name)], &[]).unwrap();
        assert!(loaded.notices.iter().all(|n| n.severity == config::Severity::Note), "{loaded:?}");
        loaded.plan.pipelines[0].sampling.clone().map_or(0, |s| s.options.policies.len())
    };
    let counts = ["sampler.yaml", "tier-router.yaml", "tier-sampler.yaml"].map(policies);
    assert_eq!(counts, [7, 0, 2]);
}

#[test]
fn every_example_is_tried() {
    let mut files: Vec<String> = fs::read_dir(root().join("configs"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    // A second file, a file of policy tests, which `tests/policies.rs` runs, and one that needs
    // certificates, which `tests/tls_config.rs` makes.
    let other = ["tracemill.yaml", "sampler_test.yaml", "tls.yaml"];
    files.retain(|name| name.ends_with(".yaml") && !other.contains(&name.as_str()));
    files.sort();
    let mut tried = EXAMPLES.to_vec();
    tried.sort_unstable();
    assert_eq!(files, tried);
}

#[test]
fn later_files_replace_lists_and_merge_maps() {
    let base = "yaml:{receivers: {otlp: {protocols: {grpc: , http: }}}, exporters: {nop: , debug: },\
                service: {pipelines: {traces: {receivers: [otlp], exporters: [nop]}}}}";
    let over = "yaml:{receivers::otlp::protocols::grpc::endpoint: 'localhost:1', \
                service::pipelines::traces::exporters: [debug]}";
    let plan = load(&[base, over], &["receivers.otlp.protocols.grpc.max_concurrent_streams=7"]);
    let plan = plan.unwrap().plan;
    let grpc = plan.receivers[0].grpc.as_ref().unwrap();
    assert_eq!((grpc.endpoint.as_str(), grpc.streams_max), ("localhost:1", Some(7)));
    assert!(plan.receivers[0].http.is_some());
    assert_eq!(plan.exporters.iter().map(|e| e.id.as_str()).collect::<Vec<_>>(), ["debug"]);
}

#[test]
fn a_printed_configuration_loads_as_itself_and_hides_secrets() {
    for name in EXAMPLES {
        let first = load(&[&example(name)], &[]).unwrap();
        let text = config::print_config(&first);
        let again = load_text(&text).unwrap_or_else(|e| panic!("{e}\n{text}"));
        assert_eq!(config::print_config(&again), text, "{name}");
        assert_eq!(again.plan.pipelines, first.plan.pipelines, "{name}");
        assert_eq!(again.plan.receivers, first.plan.receivers, "{name}");
    }
    let text = config::print_config(&load(&[&example("passthrough.yaml")], &[]).unwrap());
    assert!(text.contains("x-tenant: \"[REDACTED]\""), "{text}");
}

#[test]
fn a_printed_configuration_hides_the_password_of_a_proxy() {
    let config = "receivers: {otlp: {protocols: {grpc: {}}}}\nexporters: {otlp_http: {endpoint: http://a, \
         proxy_url: 'http://me:secret@proxy:3128'}}\n\
         service: {pipelines: {traces: {receivers: [otlp], exporters: [otlp_http]}}}";
    let text = config::print_config(&load_text(config).unwrap());
    assert!(text.contains("proxy_url: http://me:REDACTED@proxy:3128"), "{text}");
    assert!(!text.contains("secret"), "{text}");
    load_text(&text).unwrap();
}

#[test]
fn a_printed_configuration_shows_every_default_and_not_what_stands_for_it() {
    let config = "receivers: {otlp: {protocols: {grpc: {}, http: {}}}}\n\
         exporters: {otlp_grpc: {endpoint: 'a:1'}}\n\
         service: {pipelines: {traces: {receivers: [otlp], exporters: [otlp_grpc]}}}";
    let first = load_text(config).unwrap();
    let text = config::print_config(&first);
    for line in [
        "max_concurrent_streams: 1000",
        "max_request_body_size: 20971520",
        "read_header_timeout: 1m",
        "idle_timeout: 10m",
        "min_version: \"1.2\"",
        "max_version: \"1.3\"",
        "cores: null # one for each CPU",
        "cpus: []",
        "memory_limit_mib: null # memory_limiter's",
    ] {
        assert!(text.contains(line), "{line} is not in\n{text}");
    }
    let again = load_text(&text).unwrap();
    assert_eq!(config::print_config(&again), text);
    assert_eq!(again.plan.engine, first.plan.engine);
    assert_eq!(again.plan.receivers, first.plan.receivers);
    assert_eq!(again.plan.exporters, first.plan.exporters);
}

/// Sections of a file of cases: a head, then lines.
fn cases(file: &str) -> Vec<(String, String)> {
    let text =
        fs::read_to_string(root().join("tests/configs").join(file)).expect("the cases are there");
    let sections = text.split("\n=== ").skip(1);
    let section = |s: &str| s.split_once('\n').map(|(head, body)| (head.into(), body.into()));
    sections.filter_map(section).collect()
}

/// The verdicts of the collector v0.161's `validate` were recorded; tracemill's must stay.
#[test]
fn verdicts_are_those_of_the_collector_or_named_differences() {
    let cases = cases("verdicts.txt");
    assert!(cases.len() > 300);
    let mut wrong = String::new();
    for (head, text) in cases {
        let parts: Vec<&str> = head.split(" | ").collect();
        let [name, collector, ours] = parts[..] else { panic!("{head}") };
        let got = load_text(&text);
        let verdict = if got.is_ok() { "tracemill accepts" } else { "tracemill refuses" };
        if verdict != ours {
            let why = got.err().map(|e| e.to_string()).unwrap_or_default();
            _ = writeln!(wrong, "{name}: {collector}, {ours}, but now: {verdict}\n{why}");
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
}

/// `BLESS=1` writes the file anew; read the difference before committing it.
#[test]
fn messages_say_where_what_and_what_would_be_right() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("config.yaml");
    let mut got = String::from(
        "Configurations and what is said about them. BLESS=1 cargo test --test configs rewrites it.\n",
    );
    let mut want = got.clone();
    for (name, section) in cases("messages.txt") {
        let (text, said) = section.split_once("--- says\n").expect("each case has an answer");
        fs::write(&file, text).unwrap();
        let notices = match load(&[file.to_str().unwrap()], &[]) {
            Ok(loaded) => Report { notices: loaded.notices }.to_string(),
            Err(report) => report.to_string(),
        };
        let notices = notices.replace(file.to_str().unwrap(), "config.yaml");
        _ = writeln!(got, "\n=== {name}\n{text}--- says\n{notices}");
        _ = writeln!(want, "\n=== {name}\n{text}--- says\n{}", said.trim_end());
    }
    if std::env::var_os("BLESS").is_some() {
        fs::write(root().join("tests/configs/messages.txt"), &got).unwrap();
    } else {
        assert_eq!(got, want);
    }
}

/// `BLESS=1` writes the table anew.
#[test]
fn the_readme_says_of_each_component_what_the_program_does() {
    let path = root().join("README.md");
    let text = fs::read_to_string(&path).unwrap();
    let (begin, end) = ("<!-- components -->\n", "<!-- end of components -->\n");
    let (before, rest) = text.split_once(begin).unwrap();
    let (table, after) = rest.split_once(end).unwrap();
    if std::env::var_os("BLESS").is_some() {
        let now = config::component_table();
        fs::write(&path, format!("{before}{begin}{now}{end}{after}")).unwrap();
    } else {
        assert_eq!(table, config::component_table(), "BLESS=1 cargo test --test configs");
    }
}

/// What configs 1 lists, by section, the most used first.
const IN_USE: [(&str, &str); 5] = [
    ("receiver", "otlp prometheus jaeger zipkin hostmetrics"),
    (
        "processor",
        "tail_sampling batch memory_limiter transform resource resourcedetection filter \
         k8sattributes attributes",
    ),
    ("exporter", "load_balancing debug otlp otlp_grpc otlp_http logging logzio"),
    ("connector", "spanmetrics forward datadog count"),
    ("extension", "health_check pprof zpages file_storage"),
];

#[test]
fn every_component_that_is_in_use_is_in_the_table() {
    let table = config::component_table();
    for (noun, names) in IN_USE {
        for name in names.split_whitespace() {
            assert_eq!(table.matches(&format!("| {noun} `{name}` |")).count(), 1, "{noun} {name}");
        }
    }
}

#[test]
fn what_a_collector_beside_tracemill_keeps_is_refused_by_name_where_it_is_in_use() {
    for elsewhere in ELSEWHERE {
        let name = elsewhere.name;
        let of = |section| if elsewhere.section == section { name } else { "" };
        let (receiver, processor) = (of(Section::Receivers), of(Section::Processors));
        let exporter = [of(Section::Exporters), of(Section::Connectors)].concat();
        let text = format!(
            "{{{key}: {{{name}: }}, service: {{extensions: [{extension}], pipelines: {{traces: \
             {{receivers: [otlp, {receiver}], processors: [{processor}], exporters: \
             [load_balancing, {exporter}]}}}}}}}}",
            key = elsewhere.section.key(),
            extension = of(Section::Extensions),
        );
        let base = "yaml:{receivers: {otlp: {protocols: {grpc: }}}, exporters: {load_balancing: \
                    {protocol: {otlp: }, resolver: {static: {hostnames: [a]}}}}}";
        let said = load(&[base, &format!("yaml:{text}")], &[]).unwrap_err().to_string();
        assert!(said.contains("1 component is outside of what tracemill does"), "{said}");
        assert!(said.contains(&format!("{} {name}: ", elsewhere.section.noun())), "{said}");
    }
}

#[test]
fn hostile_files_are_refused_within_bounds() {
    let mut bomb = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n");
    for i in 1..20 {
        let alias = format!("*a{}, ", i - 1).repeat(10);
        _ = writeln!(bomb, "a{i}: &a{i} [{alias}]");
    }
    let anchors: String = (0..90).map(|i| format!("&a{i} [")).collect();
    let rows = [
        ("alias bomb", bomb, "too large"),
        ("deep flow lists", format!("a: {}", "[".repeat(100_000)), "recursion limit"),
        ("deep flow maps", "{a: ".repeat(100_000), "recursion limit"),
        ("deep block lists", "- ".repeat(150), "nested deeper"),
        ("deep anchors", format!("a: {anchors}{}", "]".repeat(90)), "unknown key"),
        ("long scalar", format!("a: {}", "x".repeat(1 << 20)), "unknown key"),
        ("long key", format!("{}: 1", "x".repeat(900)), "unknown key"),
        ("many keys", (0..50_000).fold(String::new(), |s, i| s + &format!("k{i}: 1\n")), "unknown"),
        ("deep flattened key", format!("{}a: 1", "a::".repeat(300)), "unknown key"),
        ("unset", "a: ${env:X}".repeat(3), ""),
    ];
    for (name, text, want) in rows {
        let report = load_text(&text).unwrap_err();
        let said = report.to_string();
        assert!(said.contains(want), "{name}: {}", &said[..said.len().min(500)]);
        assert!(report.notices.len() <= 1_000, "{name}");
        assert!(report.notices.iter().all(|n| n.what.len() < 1_000), "{name}");
    }
    let flat = format!("yaml:{}b: 1", "a::".repeat(90));
    let sets: Vec<String> = (0..50).map(|i| format!("a.{i}={}", "[".repeat(50))).collect();
    let sets: Vec<&str> = sets.iter().map(String::as_str).collect();
    assert!(load(&[&flat], &sets).is_err());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn no_text_makes_the_loader_panic(text in "\\PC{0,200}") {
        _ = load_text(&text);
    }

    #[test]
    fn no_yaml_like_text_makes_the_loader_panic(
        parts in prop::collection::vec(0..TOKENS.len(), 0..80)
    ) {
        let text: String = parts.iter().map(|&i| TOKENS[i]).collect();
        _ = load_text(&text);
    }

    #[test]
    fn no_damage_to_an_example_makes_the_loader_panic(
        at in any::<prop::sample::Index>(),
        cut in 0..40_usize,
        put in prop::collection::vec(0..TOKENS.len(), 0..6),
        file in 0..=EXAMPLES.len(),
    ) {
        let name = *EXAMPLES.get(file).unwrap_or(&"tracemill.yaml");
        let mut chars: Vec<char> = fs::read_to_string(example(name)).unwrap().chars().collect();
        let from = at.index(chars.len());
        let to = (from + cut).min(chars.len());
        let put: String = put.iter().map(|&i| TOKENS[i]).collect();
        chars.splice(from..to, put.chars());
        let damaged: String = chars.into_iter().collect();
        if let Ok(loaded) = load_text(&damaged) {
            prop_assert!(load_text(&config::print_config(&loaded)).is_ok());
        }
    }
}

const TOKENS: [&str; 44] = [
    "receivers:",
    "exporters:",
    "service:",
    "pipelines:",
    "traces:",
    "otlp",
    ":",
    ": ",
    "\n",
    "\n  ",
    "\n    ",
    "- ",
    "[",
    "]",
    "{",
    "}",
    ",",
    "\"",
    "'",
    "&a ",
    "*a",
    "<<: ",
    "|\n",
    ">\n",
    "#",
    "!!str ",
    "!x ",
    "${env:N}",
    "${env:",
    "$$",
    "~",
    "5",
    "-1",
    "1e999",
    "0x",
    "10s",
    "true",
    "é",
    "\t",
    "? ",
    "---\n",
    "...\n",
    "::",
    "%",
];
