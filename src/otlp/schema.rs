//! The messages of OTLP as the collector writes and reads them in JSON: names, shapes and order of
//! fields. Constants only.

use super::Signal;

/// The fields of a message in the order in which they are written.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Message(pub &'static [Rule]);

/// A field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Rule {
    /// On the wire.
    pub number: u32,
    /// In JSON.
    pub name: &'static str,
    /// What it holds.
    pub shape: Shape,
    /// When it is written.
    pub keep: Keep,
}

/// What a field holds, and how it is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shape {
    /// A string.
    Text,
    /// Bytes.
    Base64,
    /// Bytes of an id.
    Hex,
    /// `true` or `false`.
    Bool,
    /// uint32, a number.
    Uint32,
    /// fixed32, a number.
    Fixed32,
    /// int32, a number.
    Int32,
    /// An enum, a number; these are the names of 0, 1, 2 and so on.
    Enum(&'static [&'static str]),
    /// sint32, a number.
    Sint32,
    /// fixed64, in quotes.
    Fixed64,
    /// uint64, in quotes.
    Uint64,
    /// int64, in quotes.
    Int64,
    /// sfixed64, in quotes.
    Sfixed64,
    /// A double.
    Double,
    /// A message.
    Object(&'static Message),
}

/// When a field is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Keep {
    /// If it is not the default of its type.
    IfNotDefault,
    /// If it is on the wire.
    IfSet,
    /// If it is the variant that counts.
    IfChosen,
    /// Also if it is empty.
    Always,
    /// A list, unless it is empty.
    Every,
}

use Keep::{Always, Every, IfChosen, IfNotDefault, IfSet};
use Shape::{
    Base64, Bool, Double, Enum, Fixed32, Fixed64, Hex, Int32, Int64, Object, Sfixed64, Sint32,
    Text, Uint32, Uint64,
};

/// The request of a signal.
pub(crate) fn request(signal: Signal) -> &'static Message {
    match signal {
        Signal::Traces => &TRACES,
        Signal::Metrics => &METRICS,
        Signal::Logs => &LOGS,
    }
}

const fn rule(number: u32, name: &'static str, shape: Shape, keep: Keep) -> Rule {
    Rule { number, name, shape, keep }
}

const fn plain(number: u32, name: &'static str, shape: Shape) -> Rule {
    rule(number, name, shape, IfNotDefault)
}

const fn list(number: u32, name: &'static str, of: &'static Message) -> Rule {
    rule(number, name, Object(of), Every)
}

const fn always(number: u32, name: &'static str, of: &'static Message) -> Rule {
    rule(number, name, Object(of), Always)
}

/// Names of `SpanKind`.
pub(crate) static SPAN_KINDS: [&str; 6] = [
    "SPAN_KIND_UNSPECIFIED",
    "SPAN_KIND_INTERNAL",
    "SPAN_KIND_SERVER",
    "SPAN_KIND_CLIENT",
    "SPAN_KIND_PRODUCER",
    "SPAN_KIND_CONSUMER",
];

/// Names of `StatusCode`.
pub(crate) static STATUS_CODES: [&str; 3] =
    ["STATUS_CODE_UNSET", "STATUS_CODE_OK", "STATUS_CODE_ERROR"];

static TEMPORALITIES: [&str; 3] = [
    "AGGREGATION_TEMPORALITY_UNSPECIFIED",
    "AGGREGATION_TEMPORALITY_DELTA",
    "AGGREGATION_TEMPORALITY_CUMULATIVE",
];

static SEVERITIES: [&str; 25] = [
    "SEVERITY_NUMBER_UNSPECIFIED",
    "SEVERITY_NUMBER_TRACE",
    "SEVERITY_NUMBER_TRACE2",
    "SEVERITY_NUMBER_TRACE3",
    "SEVERITY_NUMBER_TRACE4",
    "SEVERITY_NUMBER_DEBUG",
    "SEVERITY_NUMBER_DEBUG2",
    "SEVERITY_NUMBER_DEBUG3",
    "SEVERITY_NUMBER_DEBUG4",
    "SEVERITY_NUMBER_INFO",
    "SEVERITY_NUMBER_INFO2",
    "SEVERITY_NUMBER_INFO3",
    "SEVERITY_NUMBER_INFO4",
    "SEVERITY_NUMBER_WARN",
    "SEVERITY_NUMBER_WARN2",
    "SEVERITY_NUMBER_WARN3",
    "SEVERITY_NUMBER_WARN4",
    "SEVERITY_NUMBER_ERROR",
    "SEVERITY_NUMBER_ERROR2",
    "SEVERITY_NUMBER_ERROR3",
    "SEVERITY_NUMBER_ERROR4",
    "SEVERITY_NUMBER_FATAL",
    "SEVERITY_NUMBER_FATAL2",
    "SEVERITY_NUMBER_FATAL3",
    "SEVERITY_NUMBER_FATAL4",
];

static TRACES: Message = Message(&[list(1, "resourceSpans", &RESOURCE_SPANS)]);
static METRICS: Message = Message(&[list(1, "resourceMetrics", &RESOURCE_METRICS)]);
static LOGS: Message = Message(&[list(1, "resourceLogs", &RESOURCE_LOGS)]);

static RESOURCE: Message = Message(&[
    list(1, "attributes", &KEY_VALUE),
    plain(2, "droppedAttributesCount", Uint32),
    list(3, "entityRefs", &ENTITY_REF),
]);

static ENTITY_REF: Message = Message(&[
    plain(1, "schemaUrl", Text),
    plain(2, "type", Text),
    rule(3, "idKeys", Text, Every),
    rule(4, "descriptionKeys", Text, Every),
]);

static SCOPE: Message = Message(&[
    plain(1, "name", Text),
    plain(2, "version", Text),
    list(3, "attributes", &KEY_VALUE),
    plain(4, "droppedAttributesCount", Uint32),
]);

static KEY_VALUE: Message = Message(&[
    plain(1, "key", Text),
    always(2, "value", &ANY_VALUE),
    plain(3, "keyStrindex", Int32),
]);

pub(crate) static ANY_VALUE: Message = Message(&[
    rule(1, "stringValue", Text, IfChosen),
    rule(2, "boolValue", Bool, IfChosen),
    rule(3, "intValue", Int64, IfChosen),
    rule(4, "doubleValue", Double, IfChosen),
    rule(5, "arrayValue", Object(&ARRAY), IfChosen),
    rule(6, "kvlistValue", Object(&KEY_VALUES), IfChosen),
    rule(7, "bytesValue", Base64, IfChosen),
    rule(8, "stringValueStrindex", Int32, IfChosen),
]);

static ARRAY: Message = Message(&[list(1, "values", &ANY_VALUE)]);
static KEY_VALUES: Message = Message(&[list(1, "values", &KEY_VALUE)]);

static RESOURCE_SPANS: Message = Message(&[
    always(1, "resource", &RESOURCE),
    list(2, "scopeSpans", &SCOPE_SPANS),
    plain(3, "schemaUrl", Text),
]);

static SCOPE_SPANS: Message =
    Message(&[always(1, "scope", &SCOPE), list(2, "spans", &SPAN), plain(3, "schemaUrl", Text)]);

pub(crate) static SPAN: Message = Message(&[
    plain(1, "traceId", Hex),
    plain(2, "spanId", Hex),
    plain(3, "traceState", Text),
    plain(4, "parentSpanId", Hex),
    plain(16, "flags", Fixed32),
    plain(5, "name", Text),
    plain(6, "kind", Enum(&SPAN_KINDS)),
    plain(7, "startTimeUnixNano", Fixed64),
    plain(8, "endTimeUnixNano", Fixed64),
    list(9, "attributes", &KEY_VALUE),
    plain(10, "droppedAttributesCount", Uint32),
    list(11, "events", &EVENT),
    plain(12, "droppedEventsCount", Uint32),
    list(13, "links", &LINK),
    plain(14, "droppedLinksCount", Uint32),
    always(15, "status", &STATUS),
]);

static EVENT: Message = Message(&[
    plain(1, "timeUnixNano", Fixed64),
    plain(2, "name", Text),
    list(3, "attributes", &KEY_VALUE),
    plain(4, "droppedAttributesCount", Uint32),
]);

static LINK: Message = Message(&[
    plain(1, "traceId", Hex),
    plain(2, "spanId", Hex),
    plain(3, "traceState", Text),
    list(4, "attributes", &KEY_VALUE),
    plain(5, "droppedAttributesCount", Uint32),
    plain(6, "flags", Fixed32),
]);

static STATUS: Message =
    Message(&[plain(2, "message", Text), plain(3, "code", Enum(&STATUS_CODES))]);

static RESOURCE_LOGS: Message = Message(&[
    always(1, "resource", &RESOURCE),
    list(2, "scopeLogs", &SCOPE_LOGS),
    plain(3, "schemaUrl", Text),
]);

static SCOPE_LOGS: Message = Message(&[
    always(1, "scope", &SCOPE),
    list(2, "logRecords", &LOG_RECORD),
    plain(3, "schemaUrl", Text),
]);

static LOG_RECORD: Message = Message(&[
    plain(1, "timeUnixNano", Fixed64),
    plain(11, "observedTimeUnixNano", Fixed64),
    plain(2, "severityNumber", Enum(&SEVERITIES)),
    plain(3, "severityText", Text),
    always(5, "body", &ANY_VALUE),
    list(6, "attributes", &KEY_VALUE),
    plain(7, "droppedAttributesCount", Uint32),
    plain(8, "flags", Fixed32),
    plain(9, "traceId", Hex),
    plain(10, "spanId", Hex),
    plain(12, "eventName", Text),
]);

static RESOURCE_METRICS: Message = Message(&[
    always(1, "resource", &RESOURCE),
    list(2, "scopeMetrics", &SCOPE_METRICS),
    plain(3, "schemaUrl", Text),
]);

static SCOPE_METRICS: Message = Message(&[
    always(1, "scope", &SCOPE),
    list(2, "metrics", &METRIC),
    plain(3, "schemaUrl", Text),
]);

static METRIC: Message = Message(&[
    plain(1, "name", Text),
    plain(2, "description", Text),
    plain(3, "unit", Text),
    rule(5, "gauge", Object(&GAUGE), IfChosen),
    rule(7, "sum", Object(&SUM), IfChosen),
    rule(9, "histogram", Object(&HISTOGRAM), IfChosen),
    rule(10, "exponentialHistogram", Object(&EXPONENTIAL_HISTOGRAM), IfChosen),
    rule(11, "summary", Object(&SUMMARY), IfChosen),
    list(12, "metadata", &KEY_VALUE),
]);

static GAUGE: Message = Message(&[list(1, "dataPoints", &NUMBER_POINT)]);

static SUM: Message = Message(&[
    list(1, "dataPoints", &NUMBER_POINT),
    plain(2, "aggregationTemporality", Enum(&TEMPORALITIES)),
    plain(3, "isMonotonic", Bool),
]);

static HISTOGRAM: Message = Message(&[
    list(1, "dataPoints", &HISTOGRAM_POINT),
    plain(2, "aggregationTemporality", Enum(&TEMPORALITIES)),
]);

static EXPONENTIAL_HISTOGRAM: Message = Message(&[
    list(1, "dataPoints", &EXPONENTIAL_POINT),
    plain(2, "aggregationTemporality", Enum(&TEMPORALITIES)),
]);

static SUMMARY: Message = Message(&[list(1, "dataPoints", &SUMMARY_POINT)]);

static NUMBER_POINT: Message = Message(&[
    list(7, "attributes", &KEY_VALUE),
    plain(2, "startTimeUnixNano", Fixed64),
    plain(3, "timeUnixNano", Fixed64),
    rule(4, "asDouble", Double, IfChosen),
    rule(6, "asInt", Sfixed64, IfChosen),
    list(5, "exemplars", &EXEMPLAR),
    plain(8, "flags", Uint32),
]);

static HISTOGRAM_POINT: Message = Message(&[
    list(9, "attributes", &KEY_VALUE),
    plain(2, "startTimeUnixNano", Fixed64),
    plain(3, "timeUnixNano", Fixed64),
    plain(4, "count", Fixed64),
    rule(5, "sum", Double, IfSet),
    rule(6, "bucketCounts", Fixed64, Every),
    rule(7, "explicitBounds", Double, Every),
    list(8, "exemplars", &EXEMPLAR),
    plain(10, "flags", Uint32),
    rule(11, "min", Double, IfSet),
    rule(12, "max", Double, IfSet),
]);

static EXPONENTIAL_POINT: Message = Message(&[
    list(1, "attributes", &KEY_VALUE),
    plain(2, "startTimeUnixNano", Fixed64),
    plain(3, "timeUnixNano", Fixed64),
    plain(4, "count", Fixed64),
    rule(5, "sum", Double, IfSet),
    plain(6, "scale", Sint32),
    plain(7, "zeroCount", Fixed64),
    always(8, "positive", &BUCKETS),
    always(9, "negative", &BUCKETS),
    plain(10, "flags", Uint32),
    list(11, "exemplars", &EXEMPLAR),
    rule(12, "min", Double, IfSet),
    rule(13, "max", Double, IfSet),
    plain(14, "zeroThreshold", Double),
]);

static BUCKETS: Message =
    Message(&[plain(1, "offset", Sint32), rule(2, "bucketCounts", Uint64, Every)]);

static SUMMARY_POINT: Message = Message(&[
    list(7, "attributes", &KEY_VALUE),
    plain(2, "startTimeUnixNano", Fixed64),
    plain(3, "timeUnixNano", Fixed64),
    plain(4, "count", Fixed64),
    plain(5, "sum", Double),
    list(6, "quantileValues", &QUANTILE),
    plain(8, "flags", Uint32),
]);

static QUANTILE: Message = Message(&[plain(1, "quantile", Double), plain(2, "value", Double)]);

static EXEMPLAR: Message = Message(&[
    list(7, "filteredAttributes", &KEY_VALUE),
    plain(2, "timeUnixNano", Fixed64),
    rule(3, "asDouble", Double, IfChosen),
    rule(6, "asInt", Sfixed64, IfChosen),
    plain(5, "traceId", Hex),
    plain(4, "spanId", Hex),
]);
