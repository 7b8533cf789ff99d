//! `tracemill adopt`: what it writes for realistic configurations, what it refuses, and that it
//! overwrites nothing. `tests/adopt/validate` shows the companion's halves to a real collector.

#![allow(clippy::unwrap_used, reason = "a test")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use proptest::prelude::*;
use tracemill::adopt::{self, Adopted, File, Refusal};
use tracemill::config::components::Section;
use tracemill::config::components::elsewhere::ELSEWHERE;
use tracemill::config::{Machine, Request};

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/adopt")
}

fn env(name: &str) -> Option<String> {
    let value = match name {
        "MY_POD_IP" => "10.0.0.7",
        "TOKEN" | "LOGZIO_TOKEN" => "s3cret",
        "RECEIVERS" => "{otlp: {protocols: {grpc: }}, zipkin: }",
        _ => return None,
    };
    Some(value.into())
}

fn adopted(config: &str) -> Result<Adopted, Refusal> {
    adopted_of(&[config])
}

fn adopted_of(configs: &[&str]) -> Result<Adopted, Refusal> {
    let machine = Machine { memory_bytes: 8 << 30, cgroup_bytes: None, instance_id: String::new() };
    let request = Request {
        configs: configs.iter().map(|c| (*c).to_owned()).collect(),
        ..Request::default()
    };
    adopt::adopt(&request, &env, &machine)
}

/// A configuration of pipelines `id: receivers | processors | exporters` over components that are
/// declared with the least that they need.
fn with_pipelines(pipelines: &[&str]) -> String {
    let mut text = String::from(
        "
receivers: {otlp: {protocols: {grpc: }}, otlp/2: {protocols: {grpc: {endpoint: 'x:14318'}}},
  zipkin: , jaeger: }
processors: {batch: , memory_limiter: {check_interval: 1s, limit_mib: 100}, filter: , transform: ,
  tail_sampling: {policies: [{name: a, type: always_sample}]}}
exporters: {debug: , nop: , kafka: , load_balancing: {protocol: {otlp: }, resolver: {static:
  {hostnames: [a]}}}}
connectors: {forward: , spanmetrics: }
service:
  telemetry: {metrics: {level: none}}
  pipelines:\n",
    );
    for pipeline in pipelines {
        let (id, rest) = pipeline.split_once(": ").unwrap();
        let lists: Vec<String> = rest
            .split('|')
            .map(|list| list.split_whitespace().collect::<Vec<_>>().join(", "))
            .collect();
        text.push_str(&format!(
            "    {id}: {{receivers: [{}], processors: [{}], exporters: [{}]}}\n",
            lists[0], lists[1], lists[2]
        ));
    }
    format!("yaml:{text}")
}

/// The pipelines of both files as they are told.
fn pipelines(told: &str) -> Vec<String> {
    let lines = told.lines().filter_map(|line| line.strip_prefix("pipeline "));
    lines.map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect()
}

/// Pipelines, and what becomes of them; nothing if they are refused.
const CUTS: [(&[&str], &[&str]); 14] = [
    // In front: a receiver.
    (
        &["traces: otlp zipkin | memory_limiter tail_sampling | debug"],
        &[
            "traces collector.yaml zipkin > memory_limiter > :14317",
            "traces tracemill.yaml otlp, :14317 > memory_limiter > tail_sampling > debug",
        ],
    ),
    // In front: a processor, so everything passes it; the order stays.
    (&["traces: otlp | memory_limiter batch filter batch tail_sampling | debug"], &[]),
    (
        &["traces: otlp | memory_limiter filter batch tail_sampling | debug"],
        &[
            "traces collector.yaml otlp > memory_limiter > filter > :14317",
            "traces tracemill.yaml :14317 > memory_limiter > batch > tail_sampling > debug",
        ],
    ),
    // Behind: an exporter beside one that we have.
    (
        &["traces: otlp | memory_limiter tail_sampling batch | debug kafka"],
        &[
            "traces tracemill.yaml otlp > memory_limiter > tail_sampling > batch > debug, :14317",
            "traces collector.yaml :14317 > memory_limiter > kafka",
        ],
    ),
    // Behind: a processor takes all exporters along, and what follows it.
    (
        &["traces: otlp | tail_sampling transform batch | debug kafka"],
        &[
            "traces tracemill.yaml otlp > tail_sampling > :14317",
            "traces collector.yaml :14317 > transform > batch > debug, kafka",
        ],
    ),
    // On both sides.
    (
        &["traces/x: zipkin | filter tail_sampling transform | debug"],
        &[
            "traces/x collector.yaml zipkin > filter > :14317",
            "traces/x tracemill.yaml :14317 > tail_sampling > :14319",
            "traces/x_behind_tracemill collector.yaml :14319 > transform > debug",
        ],
    ),
    // Beside a balancer the companion has the data already.
    (
        &["traces: zipkin | memory_limiter batch | load_balancing kafka"],
        &[
            "traces collector.yaml zipkin > memory_limiter > batch > :14317, kafka",
            "traces tracemill.yaml :14317 > memory_limiter > batch > load_balancing",
        ],
    ),
    (
        &["traces: otlp | batch | load_balancing spanmetrics", "metrics: spanmetrics | | debug"],
        &[
            "traces tracemill.yaml otlp > batch > load_balancing, :14317",
            "traces collector.yaml :14317 > spanmetrics",
            "metrics collector.yaml spanmetrics > debug",
        ],
    ),
    // Another pipeline comes along if it hangs on ours and runs here.
    (
        &[
            "traces: otlp | tail_sampling | kafka",
            "metrics: otlp | batch | debug",
            "logs: otlp | transform | nop",
            "logs/2: otlp/2 | | nop",
        ],
        &[
            "traces tracemill.yaml otlp > tail_sampling > :14317",
            "traces collector.yaml :14317 > kafka",
            "metrics tracemill.yaml otlp > batch > debug",
            "logs tracemill.yaml otlp > :14317",
            "logs collector.yaml :14317 > transform > nop",
            "logs/2 collector.yaml otlp/2 > nop",
        ],
    ),
    // A receiver whose traces pass the companion takes the other signals there.
    (
        &["traces: otlp | filter | load_balancing", "metrics: otlp | | debug"],
        &[
            "traces collector.yaml otlp > filter > :14317",
            "traces tracemill.yaml :14317 > load_balancing",
            "metrics collector.yaml otlp > debug",
        ],
    ),
    // Two pipelines of one signal are two links.
    (
        &["traces: otlp | tail_sampling | kafka", "traces/2: otlp | tail_sampling | kafka nop"],
        &[
            "traces tracemill.yaml otlp > tail_sampling > :14317",
            "traces collector.yaml :14317 > kafka",
            "traces/2 tracemill.yaml otlp > tail_sampling > nop, :14319",
            "traces/2 collector.yaml :14319 > kafka",
        ],
    ),
    // Joined by a connector: it goes where its pipelines are.
    (
        &["traces/in: otlp | batch | forward", "traces/mid: forward | tail_sampling | kafka nop"],
        &[
            "traces/in tracemill.yaml otlp > batch > forward",
            "traces/mid tracemill.yaml forward > tail_sampling > nop, :14317",
            "traces/mid collector.yaml :14317 > kafka",
        ],
    ),
    (
        &["traces/in: otlp | filter | forward", "traces/mid: forward | tail_sampling | nop"],
        &[
            "traces/in collector.yaml otlp > filter > forward",
            "traces/mid collector.yaml forward > :14317",
            "traces/mid tracemill.yaml :14317 > tail_sampling > nop",
        ],
    ),
    // The limit of the process holds for both.
    (
        &[
            "traces/in: otlp | memory_limiter filter | forward",
            "traces: forward | tail_sampling | nop",
        ],
        &[
            "traces/in collector.yaml otlp > memory_limiter > filter > forward",
            "traces collector.yaml forward > :14317",
            "traces tracemill.yaml :14317 > memory_limiter > tail_sampling > nop",
        ],
    ),
];

#[test]
fn pipelines_are_cut_where_something_is_missing() {
    for (given, want) in CUTS {
        match adopted(&with_pipelines(given)) {
            Ok(adopted) => assert_eq!(pipelines(&adopted.told), want, "{given:?}"),
            Err(refusal) => assert!(want.is_empty(), "{given:?}: {refusal}"),
        }
    }
}

/// `BLESS=1` writes the files anew; read the difference, and run `tests/adopt/validate`.
#[test]
fn realistic_configurations_are_divided_as_written_down() {
    let mut names: Vec<_> = fs::read_dir(folder().join("configs"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    names.sort();
    assert!(names.len() >= 6);
    for path in names {
        let got = adopted(path.to_str().unwrap()).unwrap_or_else(|e| panic!("{path:?}: {e}"));
        let want = folder().join("expected").join(path.file_stem().unwrap());
        let mut files: Vec<(&str, &str)> =
            got.files.iter().map(|(file, text)| (file.name(), text.as_str())).collect();
        files.push(("told.txt", &got.told));
        if std::env::var_os("BLESS").is_some() {
            _ = fs::remove_dir_all(&want);
            fs::create_dir_all(&want).unwrap();
            files.iter().for_each(|(name, text)| fs::write(want.join(name), text).unwrap());
        }
        for (name, text) in &files {
            let there = fs::read_to_string(want.join(name)).unwrap_or_default();
            assert_eq!(*text, there, "{}", want.join(name).display());
            assert!(!text.contains("s3cret"), "a variable's value stands in {name}");
        }
        assert_eq!(fs::read_dir(&want).unwrap().count(), files.len(), "{}", want.display());
    }
}

#[test]
fn what_cannot_be_divided_is_refused_with_the_reason() {
    let pipeline = |pipeline: &str| with_pipelines(&[pipeline]);
    let rows = [
        (pipeline("traces: zipkin | | debug"), "no pipeline has a load_balancing exporter"),
        (pipeline("traces: zipkin | | debug"), "receiver zipkin: tracemill has no such component"),
        (pipeline("traces: otlp | | kafka/2"), "exporter \"kafka/2\" is not declared"),
        (
            with_pipelines(&["traces: zipkin | tail_sampling | debug"])
                .replace("type: always_sample", "type: nonsense"),
            "unknown sampling policy type",
        ),
        (
            with_pipelines(&["traces: zipkin | tail_sampling | debug"])
                .replace("tail_sampling: {", "tail_sampling: {tail_storage: x, "),
            "processor tail_sampling: tail_storage: a tail storage extension is not supported",
        ),
        (
            "yaml:{receivers: '${env:RECEIVERS}', processors: {tail_sampling: {policies: [{name: a, \
             type: always_sample}]}}, exporters: {nop: }, service: {pipelines: {traces: {receivers: \
             [otlp, zipkin], processors: [tail_sampling], exporters: [nop]}}}}"
                .to_owned(),
            "all of receivers comes from one variable",
        ),
    ];
    for (config, want) in rows {
        let refusal = adopted(&config).expect_err(want).to_string();
        assert!(refusal.contains(want), "{want}: {refusal}");
        assert!(refusal.contains("nothing was written"), "{refusal}");
    }
}

#[test]
fn whatever_stands_beside_a_sampler_finds_its_place() {
    for elsewhere in ELSEWHERE {
        let name = elsewhere.name;
        let of = |section, at: &str| match elsewhere.section == section {
            true => format!("{at} {name}"),
            false => at.to_owned(),
        };
        let pipeline = format!(
            "traces: {} | {} | {}",
            of(Section::Receivers, "otlp"),
            of(Section::Processors, "tail_sampling"),
            of(Section::Exporters, &of(Section::Connectors, "debug"))
        );
        let key = elsewhere.section.key();
        let alone = elsewhere.section == Section::Extensions;
        let extension = if alone { name } else { "" };
        let more = format!("yaml:{{{key}: {{{name}: }}, service: {{extensions: [{extension}]}}}}");
        let adopted = adopted_of(&[&with_pipelines(&[&pipeline]), &more]);
        let adopted = adopted.unwrap_or_else(|e| panic!("{name}: {e}"));
        assert_eq!(adopted.files.len(), if alone { 1 } else { 2 }, "{name}");
        assert!(!adopted.files[0].1.contains(&format!("  {name}:")), "{name}");
        assert_eq!(alone, !adopted.files.iter().any(|(_, text)| text.contains(name)), "{name}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 100, ..ProptestConfig::default() })]

    #[test]
    fn no_damage_to_a_configuration_makes_it_panic_or_write_half(
        file in 0..6_usize,
        at in any::<prop::sample::Index>(),
        cut in 0..60_usize,
    ) {
        let mut paths: Vec<_> = fs::read_dir(folder().join("configs")).unwrap().collect();
        paths.sort_by_key(|entry| entry.as_ref().unwrap().path());
        let text = fs::read_to_string(paths[file].as_ref().unwrap().path()).unwrap();
        let mut chars: Vec<char> = text.chars().collect();
        let from = at.index(chars.len());
        let to = (from + cut).min(chars.len());
        chars.drain(from..to);
        let damaged: String = chars.into_iter().collect();
        let half = matches!(adopted(&format!("yaml:{damaged}")), Err(Refusal::Half(_)));
        prop_assert!(!half, "its own half does not load");
    }
}

#[test]
fn what_runs_whole_is_left_as_it_is() {
    let path = folder().join("../../configs/sampler.yaml");
    let adopted = adopted(path.to_str().unwrap()).unwrap();
    assert_eq!(adopted.files, [(File::Here, fs::read_to_string(path).unwrap())]);
    assert!(adopted.told.contains("runs in tracemill as it is"), "{}", adopted.told);
}

#[test]
fn an_extension_alone_needs_no_companion() {
    let config = with_pipelines(&["traces: otlp | tail_sampling | debug"]).replace(
        "service:\n",
        "extensions: {file_storage: }\nservice:\n  extensions: [file_storage]\n",
    );
    let adopted = adopted(&config).unwrap();
    assert_eq!(adopted.files.len(), 1);
    assert!(adopted.told.contains("file_storage    left out"), "{}", adopted.told);
}

fn run(config: &Path, out: &Path, more: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tracemill"));
    command.arg("adopt").arg("--config").arg(config).arg("--out").arg(out).args(more);
    command.stdin(Stdio::null()).output().unwrap()
}

#[test]
fn the_command_writes_both_files_and_overwrites_none() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("two");
    let config = folder().join("configs/behind.yaml");
    let first = run(&config, &out, &[]);
    assert_eq!(first.status.code(), Some(0), "{first:?}");
    for name in ["tracemill.yaml", "collector.yaml"] {
        let want = fs::read_to_string(folder().join("expected/behind").join(name)).unwrap();
        assert_eq!(fs::read_to_string(out.join(name)).unwrap(), want);
    }
    fs::write(out.join("tracemill.yaml"), "mine").unwrap();
    fs::remove_file(out.join("collector.yaml")).unwrap();
    let second = run(&config, &out, &[]);
    assert_eq!(second.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&second.stderr).contains("--force"), "{second:?}");
    assert_eq!(fs::read_to_string(out.join("tracemill.yaml")).unwrap(), "mine");
    assert!(!out.join("collector.yaml").exists());
    assert_eq!(run(&config, &out, &["--force"]).status.code(), Some(0));
    assert_ne!(fs::read_to_string(out.join("tracemill.yaml")).unwrap(), "mine");
}
