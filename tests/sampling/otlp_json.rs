//! OTLP/JSON → objects, as lax as the collector: ids in hex, enums by number or name, 64-bit
//! integers as strings or numbers.

use base64::Engine as _;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value as Any;
use opentelemetry_proto::tonic::common::v1::{
    AnyValue, ArrayValue, InstrumentationScope, KeyValue, KeyValueList,
};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::span::{Event, Link, SpanKind};
use opentelemetry_proto::tonic::trace::v1::status::StatusCode;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span, Status};
use serde_json::Value;

/// A whole request.
///
/// # Panics
/// On anything that the collector would refuse.
pub(crate) fn request(json: &Value) -> ExportTraceServiceRequest {
    ExportTraceServiceRequest { resource_spans: list(json, "resourceSpans", resource_spans) }
}

fn resource_spans(json: &Value) -> ResourceSpans {
    ResourceSpans {
        resource: json.get("resource").map(|json| Resource {
            attributes: list(json, "attributes", key_value),
            dropped_attributes_count: int(json, "droppedAttributesCount"),
            ..Resource::default()
        }),
        scope_spans: list(json, "scopeSpans", scope_spans),
        schema_url: text(json, "schemaUrl"),
    }
}

fn scope_spans(json: &Value) -> ScopeSpans {
    ScopeSpans {
        scope: json.get("scope").map(|json| InstrumentationScope {
            name: text(json, "name"),
            version: text(json, "version"),
            attributes: list(json, "attributes", key_value),
            dropped_attributes_count: int(json, "droppedAttributesCount"),
        }),
        spans: list(json, "spans", span),
        schema_url: text(json, "schemaUrl"),
    }
}

fn span(json: &Value) -> Span {
    let kind = |name: &str| SpanKind::from_str_name(name).map(|kind| kind as i32);
    let code = |name: &str| StatusCode::from_str_name(name).map(|code| code as i32);
    Span {
        trace_id: hex(json, "traceId"),
        span_id: hex(json, "spanId"),
        trace_state: text(json, "traceState"),
        parent_span_id: hex(json, "parentSpanId"),
        flags: int(json, "flags"),
        name: text(json, "name"),
        kind: number_or_name(json, "kind", kind),
        start_time_unix_nano: int(json, "startTimeUnixNano"),
        end_time_unix_nano: int(json, "endTimeUnixNano"),
        attributes: list(json, "attributes", key_value),
        dropped_attributes_count: int(json, "droppedAttributesCount"),
        events: list(json, "events", |json| Event {
            time_unix_nano: int(json, "timeUnixNano"),
            name: text(json, "name"),
            attributes: list(json, "attributes", key_value),
            dropped_attributes_count: int(json, "droppedAttributesCount"),
        }),
        dropped_events_count: int(json, "droppedEventsCount"),
        links: list(json, "links", |json| Link {
            trace_id: hex(json, "traceId"),
            span_id: hex(json, "spanId"),
            trace_state: text(json, "traceState"),
            attributes: list(json, "attributes", key_value),
            dropped_attributes_count: int(json, "droppedAttributesCount"),
            flags: int(json, "flags"),
        }),
        dropped_links_count: int(json, "droppedLinksCount"),
        status: json.get("status").map(|json| Status {
            message: text(json, "message"),
            code: number_or_name(json, "code", code),
        }),
    }
}

fn key_value(json: &Value) -> KeyValue {
    let value = json.get("value").map(any_value);
    KeyValue { key: text(json, "key"), value, ..KeyValue::default() }
}

fn any_value(json: &Value) -> AnyValue {
    let variant = json.as_object().and_then(|object| object.iter().next());
    let value = variant.map(|(variant, value)| match variant.as_str() {
        "stringValue" => Any::StringValue(value.as_str().unwrap().to_owned()),
        "boolValue" => Any::BoolValue(value.as_bool().unwrap()),
        "intValue" => Any::IntValue(int(json, "intValue")),
        "doubleValue" => {
            Any::DoubleValue(value.as_f64().unwrap_or_else(|| match value.as_str().unwrap() {
                "Infinity" => f64::INFINITY,
                "-Infinity" => f64::NEG_INFINITY,
                other => other.parse().unwrap(),
            }))
        }
        "bytesValue" => {
            let base64 = base64::engine::general_purpose::STANDARD;
            Any::BytesValue(base64.decode(value.as_str().unwrap()).unwrap())
        }
        "arrayValue" => Any::ArrayValue(ArrayValue { values: list(value, "values", any_value) }),
        "kvlistValue" => {
            Any::KvlistValue(KeyValueList { values: list(value, "values", key_value) })
        }
        other => panic!("no such value: {other}"),
    });
    AnyValue { value }
}

fn list<T>(json: &Value, key: &str, item: impl Fn(&Value) -> T) -> Vec<T> {
    json.get(key).and_then(Value::as_array).into_iter().flatten().map(item).collect()
}

fn text(json: &Value, key: &str) -> String {
    json.get(key).map_or_else(String::new, |text| text.as_str().unwrap().to_owned())
}

fn int<T: TryFrom<i128>>(json: &Value, key: &str) -> T {
    let int = json.get(key).map_or(0, |value| match value {
        Value::String(text) => text.parse().unwrap(),
        Value::Number(number) => number.to_string().parse::<i128>().unwrap(),
        other => panic!("{key}: {other}"),
    });
    T::try_from(int).unwrap_or_else(|_| panic!("{key} is out of range: {int}"))
}

fn number_or_name(json: &Value, key: &str, named: impl Fn(&str) -> Option<i32>) -> i32 {
    let name = json.get(key).and_then(Value::as_str);
    name.and_then(named).unwrap_or_else(|| int(json, key))
}

fn hex(json: &Value, key: &str) -> Vec<u8> {
    let text = text(json, key);
    let byte = |at| u8::from_str_radix(&text[at..at + 2], 16).unwrap();
    (0..text.len()).step_by(2).map(byte).collect()
}
