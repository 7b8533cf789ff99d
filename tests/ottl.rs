//! Conditions against what the collector made of them: over probe spans with every type of value
//! (tests/vectors/ottl), and in policies (tests/vectors/tail_sampling).

#![allow(clippy::unwrap_used, reason = "a test")]

#[path = "sampling/otlp_json.rs"]
mod otlp_json;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::Path;

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use prost::Message as _;
use serde_json::Value;
use tracemill::otlp::span::{self, Notes, Wanted};
use tracemill::sample::ottl::{Condition, EvalError, List, Noted, Scene};
use tracemill::sample::pattern::Pattern;

/// The time at which conditions are asked: long after all spans.
const NOW_UNIX_NANOS: u64 = 1_800_000_000_000_000_000;

fn text(path: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors").join(path);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// A span with its surroundings, encoded.
struct Probe {
    resource: Vec<u8>,
    scope: Vec<u8>,
    span: Vec<u8>,
    events: Vec<Vec<u8>>,
    trace_id: String,
    status: i32,
}

impl Probe {
    fn scene<'a>(&'a self, event: Option<&'a Vec<u8>>) -> Scene<'a> {
        Scene {
            resource: &self.resource,
            scope: &self.scope,
            span: &self.span,
            event: event.map(Vec::as_slice),
            now_unix_nanos: NOW_UNIX_NANOS,
            noted: None,
        }
    }

    /// One outcome per span, or one per event.
    fn outcomes(&self, condition: &Condition, list: List) -> Vec<Result<bool, EvalError>> {
        self.outcomes_with(condition, list, None)
    }

    fn outcomes_with(
        &self,
        condition: &Condition,
        list: List,
        noted: Option<Noted<'_>>,
    ) -> Vec<Result<bool, EvalError>> {
        let eval = |event| condition.eval(&Scene { noted, ..self.scene(event) });
        match list {
            List::Span => vec![eval(None)],
            List::SpanEvent => self.events.iter().map(|event| eval(Some(event))).collect(),
        }
    }

    /// The same where the walk over the span has noted what is wanted, as on arrival.
    fn outcomes_noted(&self, text: &str, list: List) -> Vec<Result<bool, EvalError>> {
        let (mut wanted, mut notes) = (Wanted::default(), Notes::default());
        let condition = Condition::compile_with(text, list, Some(&mut wanted)).unwrap();
        let mut field = vec![0x12];
        prost::encoding::encode_varint(self.span.len() as u64, &mut field);
        field.extend(&self.span);
        span::read(&field, &wanted, &mut notes).unwrap();
        let noted = Noted { field: &field, facts: &notes.facts[0], found: &notes.found };
        self.outcomes_with(&condition, list, Some(noted))
    }
}

fn probes(request: ExportTraceServiceRequest) -> Vec<Probe> {
    let mut probes = Vec::new();
    for resource_spans in request.resource_spans {
        let resource = resource_spans.resource.unwrap_or_default().encode_to_vec();
        for scope_spans in resource_spans.scope_spans {
            let scope = scope_spans.scope.unwrap_or_default().encode_to_vec();
            for span in scope_spans.spans {
                probes.push(Probe {
                    resource: resource.clone(),
                    scope: scope.clone(),
                    events: span.events.iter().map(prost::Message::encode_to_vec).collect(),
                    trace_id: span.trace_id.iter().map(|byte| format!("{byte:02x}")).collect(),
                    status: span.status.as_ref().map_or(0, |status| status.code),
                    span: span.encode_to_vec(),
                });
            }
        }
    }
    probes
}

fn list(name: &str) -> List {
    if name == "span" { List::Span } else { List::SpanEvent }
}

#[test]
fn conditions_have_the_outcomes_that_the_collector_recorded() {
    let json: Value = serde_json::from_str(&text("ottl/probes.json")).unwrap();
    let probes = probes(otlp_json::request(&json));
    let (mut wrong, mut count, mut failed) = (String::new(), 0, 0);
    for line in text("ottl/conditions.jsonl").lines() {
        count += 1;
        let case: Value = serde_json::from_str(line).unwrap();
        let (condition, list) =
            (case["condition"].as_str().unwrap(), list(case["list"].as_str().unwrap()));
        let got = Condition::compile(condition, list).map(|compiled| {
            for probe in &probes {
                let noted = probe.outcomes_noted(condition, list);
                assert_eq!(noted, probe.outcomes(&compiled, list), "noted: {condition}");
            }
            let outcomes = probes.iter().flat_map(|probe| probe.outcomes(&compiled, list));
            let letter = |outcome| match outcome {
                Ok(true) => 't',
                Ok(false) => 'f',
                Err(_) => 'e',
            };
            outcomes.map(letter).collect::<String>()
        });
        let same = match (&got, case["outcomes"].as_str()) {
            (Ok(got), Some(want)) => got == want,
            (Ok(_), None) | (Err(_), Some(_)) => false,
            (Err(_), None) => true,
        };
        if !same {
            failed += 1;
            let _ = writeln!(wrong, "{line}\n  {got:?}");
        }
    }
    assert!(wrong.is_empty(), "{failed} of {count} differ:\n{wrong}");
}

#[test]
fn patterns_match_what_they_match_in_go() {
    let (mut wrong, mut failed, mut count) = (String::new(), 0, 0);
    for line in text("ottl/patterns.jsonl").lines() {
        count += 1;
        let case: Value = serde_json::from_str(line).unwrap();
        let pattern = Pattern::new(case["pattern"].as_str().unwrap());
        let text = case["text"].as_str().unwrap_or_default();
        let got = pattern.map(|pattern| pattern.is_match(text.as_bytes()));
        let same = match (&got, case["found"].as_bool()) {
            (Ok(got), Some(want)) => *got == want,
            (Err(got), None) => got.to_string() == case["refused"].as_str().unwrap(),
            _ => false,
        };
        if !same {
            failed += 1;
            let got = got.map_err(|error| error.to_string());
            let _ = writeln!(wrong, "{line}\n  {got:?}");
        }
    }
    assert!(wrong.is_empty(), "{failed} of {count} differ:\n{wrong}");
}

/// What a policy says of a trace.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Sampled,
    NotSampled,
    Dropped,
    Error,
}

/// Only the types that stand beside conditions in the
/// recordings are known.
fn verdict(policy: &Value, trace: &[&Probe]) -> Verdict {
    let kind = policy["type"].as_str().unwrap();
    let block = &policy[kind];
    let subs = |key: &str| -> Vec<Verdict> {
        block[key].as_array().unwrap().iter().map(|sub| verdict(sub, trace)).collect()
    };
    let all = |verdicts: Vec<Verdict>, then| {
        let other = verdicts.into_iter().find(|verdict| *verdict != Verdict::Sampled);
        other.unwrap_or(then)
    };
    match kind {
        "ottl_condition" => conditions(block, trace),
        "status_code" => {
            let error = trace.iter().any(|probe| probe.status == 2);
            assert_eq!(block["status_codes"], serde_json::json!(["ERROR"]));
            if error { Verdict::Sampled } else { Verdict::NotSampled }
        }
        "and" => all(subs("and_sub_policy"), Verdict::Sampled),
        "drop" => match all(subs("drop_sub_policy"), Verdict::Dropped) {
            Verdict::Error => Verdict::NotSampled,
            verdict => verdict,
        },
        "not" => match verdict(&block["not_sub_policy"], trace) {
            Verdict::Sampled => Verdict::NotSampled,
            Verdict::NotSampled => Verdict::Sampled,
            other => other,
        },
        other => panic!("{other} stands beside no condition"),
    }
}

fn conditions(block: &Value, trace: &[&Probe]) -> Verdict {
    let compiled = |name: &str| -> Vec<Condition> {
        let texts = block[name].as_array().into_iter().flatten();
        texts.map(|text| Condition::compile(text.as_str().unwrap(), list(name)).unwrap()).collect()
    };
    let (spans, events) = (compiled("span"), compiled("spanevent"));
    let propagate = block["error_mode"] == "propagate";
    for probe in trace {
        let scenes = probe.events.iter().map(|event| (&events, probe.scene(Some(event))));
        for (conditions, scene) in std::iter::once((&spans, probe.scene(None))).chain(scenes) {
            for condition in conditions {
                match condition.eval(&scene) {
                    Ok(true) => return Verdict::Sampled,
                    Err(_) if propagate => return Verdict::Error,
                    Ok(false) | Err(_) => {}
                }
            }
        }
    }
    Verdict::NotSampled
}

#[test]
fn policies_with_conditions_keep_the_traces_that_the_collector_kept() {
    let file: Value = serde_json::from_str(&text("tail_sampling/cases/ottl.json")).unwrap();
    for case in file["cases"].as_array().unwrap() {
        let requests = case["input"].as_array().unwrap().iter();
        let all: Vec<Probe> =
            requests.flat_map(|r| probes(otlp_json::request(&r["body"]))).collect();
        let mut traces: BTreeMap<&str, Vec<&Probe>> = BTreeMap::new();
        for probe in &all {
            traces.entry(&probe.trace_id).or_default().push(probe);
        }
        let policies = case["tail_sampling"]["policies"].as_array().unwrap();
        let kept: BTreeSet<&str> = traces
            .iter()
            .filter(|(_, trace)| {
                let verdicts: Vec<_> = policies.iter().map(|p| verdict(p, trace)).collect();
                !verdicts.contains(&Verdict::Dropped) && verdicts.contains(&Verdict::Sampled)
            })
            .map(|(id, _)| *id)
            .collect();
        let want = case["expect"]["kept"].as_array().unwrap();
        let want: BTreeSet<&str> = want.iter().map(|id| id.as_str().unwrap()).collect();
        assert_eq!(kept, want, "{}", case["name"]);
    }
}

#[test]
fn conditions_that_the_collector_refuses_are_refused_in_its_words() {
    let file: Value =
        serde_json::from_str(&text("tail_sampling/cases/config_errors.json")).unwrap();
    let mut count = 0;
    for case in file["cases"].as_array().unwrap() {
        let name = case["name"].as_str().unwrap();
        let block = &case["tail_sampling"]["policies"][0]["ottl_condition"];
        for list_name in ["span", "spanevent"] {
            for text in block[list_name].as_array().into_iter().flatten() {
                let refused = Condition::compile(text.as_str().unwrap(), list(list_name));
                let words = refused.err().unwrap_or_else(|| panic!("{name}")).to_string();
                let recorded = case["config_error"].as_str().unwrap();
                // the rest says where to read about paths, or why Go cannot read a number
                let start = words.split(" for the span context").next().unwrap();
                let start = start.split("text that is not a number").next().unwrap();
                assert!(recorded.contains(start), "{name}:\n  {words}\n  {recorded}");
                count += 1;
            }
        }
    }
    assert!(count >= 9, "{count}");
}
