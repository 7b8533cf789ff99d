//! Whether what came out is what the case expects.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt::Write as _;

use opentelemetry_proto::tonic::common::v1::any_value::Value as Any;
use opentelemetry_proto::tonic::common::v1::{AnyValue, InstrumentationScope, KeyValue};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, Span};
use serde_json::{Value, json};
use tracemill::testing::oracle::{normalize, trace_id};

use crate::cases::{Bounds, Case};

/// What an engine or a process gave.
#[derive(Default)]
pub(crate) struct Outcome {
    /// ResourceSpans in the order in which they came, each with its ms since the first send.
    pub(crate) out: Vec<(u64, ResourceSpans)>,
    /// Samples of the metrics page by `name{labels}`, labels sorted.
    pub(crate) samples: BTreeMap<String, f64>,
}

/// Everything that is wrong.
pub(crate) fn judge(case: &Case, outcome: &Outcome) -> Result<(), String> {
    let mut wrong = Wrong { case, text: String::new() };
    let mut came = Came::default();
    for (at_ms, resource_spans) in &outcome.out {
        came.add(*at_ms, resource_spans);
    }
    let mut sent = Came::default();
    for request in &case.requests {
        for resource_spans in &request.body.resource_spans {
            sent.add(request.at_ms, resource_spans);
        }
    }
    wrong.kept(&came, &sent);
    wrong.spans(&came, &sent);
    wrong.unchanged(&came, &sent);
    wrong.window(&came, &sent);
    wrong.details(&came);
    wrong.metrics(&outcome.samples);
    if wrong.text.is_empty() { Ok(()) } else { Err(wrong.text) }
}

/// Spans by trace, as they came.
#[derive(Default)]
struct Came(BTreeMap<String, Trace>);

#[derive(Default)]
struct Trace {
    first_ms: u64,
    spans: Vec<(Resource, InstrumentationScope, Span)>,
    /// As `expect.shape` writes it.
    shape: Vec<Value>,
}

impl Came {
    fn add(&mut self, at_ms: u64, resource_spans: &ResourceSpans) {
        let mut own = resource_spans.clone();
        normalize(&mut own);
        let resource = own.resource.unwrap_or_default();
        let mut shapes: BTreeMap<String, Vec<Value>> = BTreeMap::new();
        for scope_spans in own.scope_spans {
            let scope = scope_spans.scope.unwrap_or_default();
            let mut ids: BTreeMap<String, Vec<String>> = BTreeMap::new();
            for span in scope_spans.spans {
                let id = hex(&trace_id(&span));
                ids.entry(id.clone()).or_default().push(span_id(&span));
                let new = Trace { first_ms: at_ms, ..Trace::default() };
                let trace = self.0.entry(id).or_insert(new);
                trace.spans.push((resource.clone(), scope.clone(), span));
            }
            for (id, spans) in ids {
                shapes.entry(id).or_default().push(json!([scope.name, spans]));
            }
        }
        let service = resource.attributes.iter().find(|a| a.key == "service.name");
        let service = service.map_or(Value::Null, |attribute| plain(attribute.value.as_ref()));
        for (id, scopes) in shapes {
            self.0.entry(id).or_default().shape.push(json!([service, scopes]));
        }
    }
}

struct Wrong<'a> {
    case: &'a Case,
    text: String,
}

impl Wrong<'_> {
    fn say(&mut self, what: std::fmt::Arguments<'_>) {
        writeln!(self.text, "  {what}").unwrap();
    }

    fn name(&self, id: &str) -> String {
        let name = self.case.names.get(id);
        name.map_or_else(|| id.to_owned(), |name| format!("{name} ({})", &id[..8]))
    }

    fn kept(&mut self, came: &Came, sent: &Came) {
        for id in came.0.keys().filter(|id| !sent.0.contains_key(*id)) {
            self.say(format_args!("{id} was never sent"));
        }
        if let Some(kept) = &self.case.expect.kept {
            let want: BTreeSet<&String> = kept.iter().collect();
            let got: BTreeSet<&String> = came.0.keys().collect();
            for id in want.difference(&got) {
                self.say(format_args!("{} should be kept", self.name(id)));
            }
            for id in got.difference(&want) {
                self.say(format_args!("{} should not be kept", self.name(id)));
            }
        }
        for Bounds { of_spans, min, max, ids } in &self.case.expect.bounds {
            let mine = |id: &String| ids.as_ref().is_none_or(|ids| ids.contains(id));
            let mine = came.0.iter().filter(|(id, _)| mine(id));
            let weigh = |trace: &Trace| if *of_spans { trace.spans.len() as u64 } else { 1 };
            let n: u64 = mine.map(|(_, trace)| weigh(trace)).sum();
            if !(*min..=*max).contains(&n) {
                let unit = if *of_spans { "spans" } else { "traces" };
                self.say(format_args!("{n} {unit}, not within {min} and {max}"));
            }
        }
    }

    /// All spans of a kept trace are there, unless the case names which.
    fn spans(&mut self, came: &Came, sent: &Came) {
        for (id, trace) in &came.0 {
            let ids = |trace: &Trace| {
                let mut ids: Vec<_> = trace.spans.iter().map(|(.., span)| span_id(span)).collect();
                ids.sort();
                ids
            };
            let named = self.case.expect.spans.get(id).cloned();
            let Some(want) = named.or_else(|| sent.0.get(id).map(ids)) else { continue };
            let got = ids(trace);
            if got != want {
                self.say(format_args!("{}: spans {got:?}, not {want:?}", self.name(id)));
            }
        }
    }

    /// Every span, its resource and its scope are as they were sent, but for what gates write.
    fn unchanged(&mut self, came: &Came, sent: &Came) {
        let on = |name: &str| self.case.gates.iter().any(|gate| gate.ends_with(name));
        let (policy, state) = (on("recordpolicy"), on("usetracestate"));
        let strip = |(resource, scope, span): &(Resource, InstrumentationScope, Span)| {
            let (mut scope, mut span) = (scope.clone(), span.clone());
            if policy {
                scope.attributes.retain(|a| !a.key.starts_with("tailsampling."));
            }
            if state {
                span.trace_state.clear();
            }
            format!("{resource:?} {scope:?} {span:?}")
        };
        for (id, trace) in &came.0 {
            let Some(original) = sent.0.get(id) else { continue };
            let mut left: HashMap<String, usize> = HashMap::new();
            for item in &original.spans {
                *left.entry(strip(item)).or_default() += 1;
            }
            for item in &trace.spans {
                let text = strip(item);
                match left.get_mut(&text).filter(|n| **n > 0) {
                    Some(n) => *n -= 1,
                    None => {
                        let name = self.name(id);
                        self.say(format_args!("{name}: changed or once too often: {text}"));
                    }
                }
            }
        }
    }

    fn window(&mut self, came: &Came, sent: &Came) {
        let Some((min, max)) = self.case.window_ms else { return };
        for (id, trace) in &came.0 {
            let Some(original) = sent.0.get(id) else { continue };
            let waited = trace.first_ms.saturating_sub(original.first_ms);
            if !(min..=max).contains(&waited) {
                let name = self.name(id);
                self.say(format_args!("{name} came after {waited} ms, not {min} to {max}"));
            }
        }
    }

    fn details(&mut self, came: &Came) {
        let expect = &self.case.expect;
        for (id, want) in &expect.shape {
            let got = came.0.get(id).map(|trace| Value::from(trace.shape.clone()));
            if got.as_ref() != Some(want) {
                self.say(format_args!("{}: shape {got:?}, not {want}", self.name(id)));
            }
        }
        let find = |key: &str| {
            let (trace, span) = key.split_once('/').unwrap();
            let spans = &came.0.get(trace)?.spans;
            spans.iter().find(|(.., found)| span_id(found) == span)
        };
        for (key, want) in &expect.scope_attributes {
            let got = find(key).map(|(_, scope, _)| map(&scope.attributes));
            if got.as_ref() != Some(want) {
                self.say(format_args!("{key}: scope {got:?}, not {want}"));
            }
        }
        for (key, want) in &expect.trace_state {
            let got = find(key).map(|(.., span)| span.trace_state.clone());
            if got.as_ref() != Some(want) {
                self.say(format_args!("{key}: trace state {got:?}, not {want:?}"));
            }
        }
    }

    fn metrics(&mut self, samples: &BTreeMap<String, f64>) {
        for (series, want) in &self.case.expect.metrics {
            let total = series.find('{').map_or_else(
                || format!("{series}_total"),
                |at| format!("{}_total{}", &series[..at], &series[at..]),
            );
            let got = samples.get(series).or_else(|| samples.get(&total));
            if got != Some(want) {
                self.say(format_args!("{series}: {got:?}, not {want}"));
            }
        }
    }
}

fn span_id(span: &Span) -> String {
    // an empty one is the zero id
    if span.span_id.is_empty() { "0".repeat(16) } else { hex(&span.span_id) }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn map(attributes: &[KeyValue]) -> Value {
    attributes.iter().map(|a| (a.key.clone(), plain(a.value.as_ref()))).collect()
}

fn plain(value: Option<&AnyValue>) -> Value {
    match value.and_then(|value| value.value.as_ref()) {
        Some(Any::StringValue(text)) => json!(text),
        Some(Any::BoolValue(on)) => json!(on),
        Some(Any::IntValue(int)) => json!(int),
        Some(Any::DoubleValue(float)) => json!(float),
        None => Value::Null,
        Some(other) => json!(format!("{other:?}")),
    }
}
