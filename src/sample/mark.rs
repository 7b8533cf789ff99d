//! Adds what feature gates ask for to spans that leave: attributes to scopes and thresholds to
//! tracestates (tailsampling 2.14, 2.16). Only behind those gates, which are off by default, are
//! spans decoded; unknown fields are lost then.

use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue};
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, Span, TracesData};
use prost::Message;

use super::otel_state::State;
use super::threshold::Threshold;

/// The attribute that says which sub-policy of a composite let the trace pass.
pub const COMPOSITE: &str = "tailsampling.composite_policy";

/// The value of an attribute that is added.
#[derive(Clone, Copy, Debug)]
pub enum Attribute<'a> {
    /// A string.
    Str(&'a str),
    /// A bool.
    Bool(bool),
}

impl<'a> From<&'a str> for Attribute<'a> {
    fn from(text: &'a str) -> Self {
        Self::Str(text)
    }
}

/// Marks all ResourceSpans of `request`, or the last only; spans whose tracestate could not be
/// read.
pub fn mark(
    request: &mut Vec<u8>,
    attributes: &[(&str, Attribute<'_>)],
    threshold: Option<Threshold>,
    last_only: bool,
) -> u64 {
    // Text that is no UTF-8 cannot be decoded; such a request stays as it is.
    let Ok(mut traces) = TracesData::decode(&request[..]) else { return 0 };
    let first = if last_only { traces.resource_spans.len().saturating_sub(1) } else { 0 };
    let mut unparseable = 0;
    for resource in &mut traces.resource_spans[first..] {
        unparseable += mark_one(resource, attributes, threshold);
    }
    request.clear();
    traces.encode(request).expect("a vector grows");
    unparseable
}

fn mark_one(
    resource: &mut ResourceSpans,
    attributes: &[(&str, Attribute<'_>)],
    threshold: Option<Threshold>,
) -> u64 {
    let mut unparseable = 0;
    for scope in &mut resource.scope_spans {
        if !attributes.is_empty() {
            let known = &mut scope.scope.get_or_insert_default().attributes;
            attributes.iter().for_each(|(key, value)| put(known, key, *value));
        }
        if let Some(threshold) = threshold {
            let failed = scope.spans.iter_mut().filter_map(|span| write(span, threshold));
            unparseable += failed.count() as u64;
        }
    }
    unparseable
}

/// In place of an attribute of the same key, as the collector does.
fn put(attributes: &mut Vec<KeyValue>, key: &str, value: Attribute<'_>) {
    let value = match value {
        Attribute::Str(text) => Value::StringValue(text.to_owned()),
        Attribute::Bool(bool) => Value::BoolValue(bool),
    };
    let value = Some(AnyValue { value: Some(value) });
    match attributes.iter_mut().find(|known| known.key == key) {
        Some(known) => known.value = value,
        None => attributes.push(KeyValue { key: key.to_owned(), value, ..KeyValue::default() }),
    }
}

/// `Some` if the tracestate could not be read.
fn write(span: &mut Span, threshold: Threshold) -> Option<()> {
    let Some(state) = State::parse(span.trace_state.as_bytes()) else { return Some(()) };
    if let Some(text) = state.with_threshold(threshold) {
        span.trace_state = String::from_utf8(text).expect("members are ASCII");
    }
    None
}
