//! Field numbers, wire types and names of the messages that are read (otlp 3.1, 3.2).
//! Names are spelled as the collector's errors spell them.

use super::Signal;
use super::wire::{I32, I64, LEN, VARINT};

/// Request field: ResourceSpans, ResourceLogs, ResourceMetrics.
pub(super) const RESOURCES: u32 = 1;
/// ResourceSpans field: the resource.
pub(super) const RESOURCE: u32 = 1;
/// ResourceSpans field: ScopeSpans, ScopeLogs, ScopeMetrics.
pub(super) const SCOPES: u32 = 2;
/// ResourceSpans and ScopeSpans field: the schema URL.
pub(super) const SCHEMA_URL: u32 = 3;
/// ResourceSpans field: instrumentation_library_spans of old SDKs, laid out like [`SCOPES`].
pub(super) const DEPRECATED_SCOPES: u32 = 1000;
/// ScopeSpans field: the scope.
pub(super) const SCOPE: u32 = 1;
/// ScopeSpans field: spans, records or metrics.
pub(super) const ITEMS: u32 = 2;

/// Resource field: attributes.
pub(super) const RESOURCE_ATTRIBUTES: u32 = 1;
/// InstrumentationScope field: attributes.
pub(super) const SCOPE_ATTRIBUTES: u32 = 3;
/// KeyValue field: the value.
pub(super) const KEY_VALUE_VALUE: u32 = 2;

/// Names of the envelope's fields in one signal.
#[derive(Debug)]
pub(super) struct Names {
    pub(super) resources: &'static str,
    pub(super) scopes: &'static str,
    pub(super) deprecated_scopes: &'static str,
    pub(super) items: &'static str,
}

pub(super) const fn names(signal: Signal) -> &'static Names {
    match signal {
        Signal::Traces => &Names {
            resources: "ResourceSpans",
            scopes: "ScopeSpans",
            deprecated_scopes: "DeprecatedScopeSpans",
            items: "Spans",
        },
        Signal::Logs => &Names {
            resources: "ResourceLogs",
            scopes: "ScopeLogs",
            deprecated_scopes: "DeprecatedScopeLogs",
            items: "LogRecords",
        },
        Signal::Metrics => &Names {
            resources: "ResourceMetrics",
            scopes: "ScopeMetrics",
            deprecated_scopes: "DeprecatedScopeMetrics",
            items: "Metrics",
        },
    }
}

/// What the walk over an item's fields does with one of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    /// Remember it.
    TraceId,
    /// Check its length.
    SpanId,
    /// Skip it, its wire type must be this one.
    Other(u8),
}

/// A known field: number, name, role.
pub(super) type Field = (u32, &'static str, Role);

pub(super) const SPAN: &[Field] = &[
    (1, "TraceId", Role::TraceId),
    (2, "SpanId", Role::SpanId),
    (3, "TraceState", Role::Other(LEN)),
    (4, "ParentSpanId", Role::SpanId),
    (5, "Name", Role::Other(LEN)),
    (6, "Kind", Role::Other(VARINT)),
    (7, "StartTimeUnixNano", Role::Other(I64)),
    (8, "EndTimeUnixNano", Role::Other(I64)),
    (9, "Attributes", Role::Other(LEN)),
    (10, "DroppedAttributesCount", Role::Other(VARINT)),
    (11, "Events", Role::Other(LEN)),
    (12, "DroppedEventsCount", Role::Other(VARINT)),
    (13, "Links", Role::Other(LEN)),
    (14, "DroppedLinksCount", Role::Other(VARINT)),
    (15, "Status", Role::Other(LEN)),
    (16, "Flags", Role::Other(I32)),
];

pub(super) const LOG_RECORD: &[Field] = &[
    (1, "TimeUnixNano", Role::Other(I64)),
    (2, "SeverityNumber", Role::Other(VARINT)),
    (3, "SeverityText", Role::Other(LEN)),
    (5, "Body", Role::Other(LEN)),
    (6, "Attributes", Role::Other(LEN)),
    (7, "DroppedAttributesCount", Role::Other(VARINT)),
    (8, "Flags", Role::Other(I32)),
    (9, "TraceId", Role::TraceId),
    (10, "SpanId", Role::SpanId),
    (11, "ObservedTimeUnixNano", Role::Other(I64)),
    (12, "EventName", Role::Other(LEN)),
];

/// Metric fields that hold data points: gauge, sum, histogram, exponential histogram, summary.
/// In all five, field 1 is the repeated data point.
pub(super) const fn metric_data(field: u32) -> Option<&'static str> {
    match field {
        5 => Some("Gauge"),
        7 => Some("Sum"),
        9 => Some("Histogram"),
        10 => Some("ExponentialHistogram"),
        11 => Some("Summary"),
        _ => None,
    }
}

/// Field of gauge, sum, histogram, exponential histogram and summary: the points.
pub(super) const DATA_POINTS: u32 = 1;
