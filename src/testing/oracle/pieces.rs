//! Requests taken apart, so that one that was sent can be judged again many times, each time
//! under another trace id. What the policies do not read is left out.

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::KeyValue;
use prost::Message as _;

use super::{TraceId, spans};

/// What one request held of one trace.
pub type Piece = ExportTraceServiceRequest;

/// The bytes are no request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unreadable;

/// Cuts a request by trace, in the order in which they appear, a piece for each ResourceSpans.
/// Of attributes only those that `keys` names are left, of events nothing.
///
/// # Errors
/// If it is no request.
pub fn pieces(body: &[u8], keys: &[&str]) -> Result<Vec<(TraceId, Piece)>, Unreadable> {
    let mut whole = ExportTraceServiceRequest::decode(body).map_err(|_| Unreadable)?;
    let named = |a: &KeyValue| keys.contains(&a.key.as_str());
    for resource_spans in &mut whole.resource_spans {
        resource_spans.resource.iter_mut().for_each(|r| r.attributes.retain(named));
        for span in resource_spans.scope_spans.iter_mut().flat_map(|s| &mut s.spans) {
            span.attributes.retain(named);
            span.events.clear();
        }
    }
    let cut = whole.resource_spans.iter().flat_map(spans::by_trace);
    Ok(cut.map(|(id, part)| (id, Piece { resource_spans: vec![part] })).collect())
}

/// Gives all spans another trace id.
pub fn rename(piece: &mut Piece, id: TraceId) {
    let scopes = piece.resource_spans.iter_mut().flat_map(|r| &mut r.scope_spans);
    for span in scopes.flat_map(|s| &mut s.spans) {
        span.trace_id.clear();
        span.trace_id.extend_from_slice(&id);
    }
}
