//! Why metrics cannot be routed by a service that they do not name, in the collector's words.

use crate::otlp::value::find;
use crate::otlp::{Index, text};

/// A reply is no place for more.
const BYTES_MAX: usize = 2 << 10;

/// Whether no resource of a request names a service, not even one without items: only then the
/// collector refuses the request.
#[must_use]
pub fn names_no_service(body: &[u8], index: &Index) -> bool {
    index
        .resources()
        .iter()
        .all(|resource| find(index.resource_attributes(body, resource), b"service.name").is_none())
}

/// The collector's error for all resources of a request that have no `service.name`: one line for
/// each, with all their attributes (loadbalancing 2.3). Cut off where it gets long.
#[must_use]
pub fn without_service(body: &[u8], index: &Index) -> String {
    let mut out = Vec::new();
    for resource in index.resources() {
        if find(index.resource_attributes(body, resource), b"service.name").is_some() {
            continue;
        }
        if out.len() > BYTES_MAX {
            break;
        }
        let line = if out.is_empty() { "" } else { "\n" };
        out.extend_from_slice(line.as_bytes());
        out.extend_from_slice(b"unable to get service name from resource metric with attributes: ");
        text::push_go_map(&mut out, index.resource_attributes(body, resource));
    }
    out.truncate(BYTES_MAX);
    String::from_utf8_lossy(&out).into_owned()
}
