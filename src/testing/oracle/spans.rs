//! Requests as the collector's model holds them: defaults filled in, cut by trace id, measured
//! as the collector would encode them (tailsampling 2.11, 3.6).

use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue};
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span};
use prost::Message as _;

use super::TraceId;

/// Fills in what the collector always writes: resource, scope, status and the value of every
/// attribute; an all-zero id becomes an empty one.
pub fn normalize(resource_spans: &mut ResourceSpans) {
    let resource = resource_spans.resource.get_or_insert_default();
    fill(&mut resource.attributes);
    for scope_spans in &mut resource_spans.scope_spans {
        fill(&mut scope_spans.scope.get_or_insert_default().attributes);
        for span in &mut scope_spans.spans {
            for id in [&mut span.trace_id, &mut span.span_id, &mut span.parent_span_id] {
                empty_if_zero(id);
            }
            fill(&mut span.attributes);
            span.status.get_or_insert_default();
            for event in &mut span.events {
                fill(&mut event.attributes);
            }
            for link in &mut span.links {
                empty_if_zero(&mut link.trace_id);
                empty_if_zero(&mut link.span_id);
                fill(&mut link.attributes);
            }
        }
    }
}

fn empty_if_zero(id: &mut Vec<u8>) {
    if id.iter().all(|byte| *byte == 0) {
        id.clear();
    }
}

fn fill(attributes: &mut [KeyValue]) {
    for attribute in attributes {
        fill_value(attribute.value.get_or_insert_default());
    }
}

fn fill_value(value: &mut AnyValue) {
    match &mut value.value {
        Some(Value::KvlistValue(map)) => fill(&mut map.values),
        Some(Value::ArrayValue(list)) => list.values.iter_mut().for_each(fill_value),
        _ => {}
    }
}

/// The trace that a span belongs to; a missing id is the zero id.
#[must_use]
pub fn trace_id(span: &Span) -> TraceId {
    span.trace_id.as_slice().try_into().unwrap_or_default()
}

/// Cuts by trace, in the order in which traces first appear; scopes and spans keep theirs. Equal
/// scopes are not merged, scopes without spans of the trace go.
pub(super) fn by_trace(whole: &ResourceSpans) -> Vec<(TraceId, ResourceSpans)> {
    let mut traces: Vec<(TraceId, ResourceSpans)> = Vec::new();
    for scope_spans in &whole.scope_spans {
        let mut opened: Vec<TraceId> = Vec::new();
        for span in &scope_spans.spans {
            let id = trace_id(span);
            let at = traces.iter().position(|(of, _)| *of == id).unwrap_or_else(|| {
                let part = ResourceSpans { scope_spans: Vec::new(), ..whole.clone() };
                traces.push((id, part));
                traces.len() - 1
            });
            let part = &mut traces[at].1;
            if !opened.contains(&id) {
                opened.push(id);
                let scope = ScopeSpans { spans: Vec::new(), ..scope_spans.clone() };
                part.scope_spans.push(scope);
            }
            let scope = part.scope_spans.last_mut().expect("it was opened with its first span");
            scope.spans.push(span.clone());
        }
    }
    traces
}

/// All spans in order.
pub(super) fn spans(batches: &[ResourceSpans]) -> impl Iterator<Item = &Span> {
    batches.iter().flat_map(|r| &r.scope_spans).flat_map(|s| &s.spans)
}

/// Without schema urls, as policies see it.
pub(super) fn bare(batches: &[ResourceSpans]) -> Vec<ResourceSpans> {
    let mut batches = batches.to_vec();
    for resource_spans in &mut batches {
        resource_spans.schema_url.clear();
        for scope_spans in &mut resource_spans.scope_spans {
            scope_spans.schema_url.clear();
        }
    }
    batches
}

/// Bytes of a normalized ResourceSpans as the collector would encode it, without its own tag and
/// length: this encoder leaves empty ids out, the collector writes their tag and length.
pub(super) fn bytes(resource_spans: &ResourceSpans) -> u64 {
    let head =
        ResourceSpans { resource: resource_spans.resource.clone(), ..ResourceSpans::default() };
    let scopes = resource_spans.scope_spans.iter().map(|scope_spans| {
        let head = ScopeSpans { scope: scope_spans.scope.clone(), ..ScopeSpans::default() };
        let spans = scope_spans.spans.iter().map(|span| field(span_bytes(span)));
        field(head.encoded_len() as u64 + spans.sum::<u64>())
    });
    head.encoded_len() as u64 + scopes.sum::<u64>()
}

fn span_bytes(span: &Span) -> u64 {
    let ids = [&span.trace_id, &span.span_id, &span.parent_span_id];
    let links = span
        .links
        .iter()
        .map(|link| field(link.encoded_len() as u64 + empty(&[&link.trace_id, &link.span_id])));
    let links: u64 = links.sum();
    let rest = Span { links: Vec::new(), ..span.clone() };
    rest.encoded_len() as u64 + empty(&ids) + links
}

/// Tag and length of empty ids.
fn empty(ids: &[&Vec<u8>]) -> u64 {
    ids.iter().map(|id| 2 * u64::from(id.is_empty())).sum()
}

/// A message of so many bytes in a field below 16.
pub(super) const fn field(bytes: u64) -> u64 {
    let bits = 64 - (bytes | 1).leading_zeros() as u64;
    1 + bits.div_ceil(7) + bytes
}
