//! Verbosity `detailed`: every field. The double colon behind the attributes of events and links
//! is the collector's.

use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::{InstrumentationScope, KeyValue};
use opentelemetry_proto::tonic::logs::v1::LogRecord;
use opentelemetry_proto::tonic::metrics::v1::Metric;
use opentelemetry_proto::tonic::metrics::v1::metric::Data;
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::Span;

use super::value::{id, time, typed};
use super::{points, put};

pub(super) fn traces(request: &ExportTraceServiceRequest) -> String {
    let mut out = String::new();
    for (i, rs) in request.resource_spans.iter().enumerate() {
        put!(out, "ResourceSpans #{i}");
        resource(&mut out, &rs.schema_url, rs.resource.as_ref());
        for (j, ss) in rs.scope_spans.iter().enumerate() {
            put!(out, "ScopeSpans #{j}\nScopeSpans SchemaURL: {}", ss.schema_url);
            scope(&mut out, ss.scope.as_ref());
            for (k, span) in ss.spans.iter().enumerate() {
                put!(out, "Span #{k}");
                span_in_full(&mut out, span);
            }
        }
    }
    out
}

pub(super) fn logs(request: &ExportLogsServiceRequest) -> String {
    let mut out = String::new();
    for (i, rl) in request.resource_logs.iter().enumerate() {
        put!(out, "ResourceLog #{i}");
        resource(&mut out, &rl.schema_url, rl.resource.as_ref());
        for (j, sl) in rl.scope_logs.iter().enumerate() {
            put!(out, "ScopeLogs #{j}\nScopeLogs SchemaURL: {}", sl.schema_url);
            scope(&mut out, sl.scope.as_ref());
            for (k, record) in sl.log_records.iter().enumerate() {
                put!(out, "LogRecord #{k}");
                record_in_full(&mut out, record);
            }
        }
    }
    out
}

pub(super) fn metrics(request: &ExportMetricsServiceRequest) -> String {
    let mut out = String::new();
    for (i, rm) in request.resource_metrics.iter().enumerate() {
        put!(out, "ResourceMetrics #{i}");
        resource(&mut out, &rm.schema_url, rm.resource.as_ref());
        for (j, sm) in rm.scope_metrics.iter().enumerate() {
            put!(out, "ScopeMetrics #{j}\nScopeMetrics SchemaURL: {}", sm.schema_url);
            scope(&mut out, sm.scope.as_ref());
            for (k, metric) in sm.metrics.iter().enumerate() {
                put!(out, "Metric #{k}");
                descriptor(&mut out, metric);
                points::all(&mut out, metric);
            }
        }
    }
    out
}

fn resource(out: &mut String, schema_url: &str, resource: Option<&Resource>) {
    put!(out, "Resource SchemaURL: {schema_url}");
    let Some(resource) = resource else { return };
    attributes(out, "Resource attributes", &resource.attributes);
    if resource.entity_refs.is_empty() {
        return;
    }
    put!(out, "Resource entity refs:");
    for (i, entity) in resource.entity_refs.iter().enumerate() {
        put!(out, "     -> Entity ref #{i}:\n          -> Type: {}", entity.r#type);
        if !entity.schema_url.is_empty() {
            put!(out, "          -> Schema URL: {}", entity.schema_url);
        }
        for (title, keys) in
            [("ID keys", &entity.id_keys), ("Description keys", &entity.description_keys)]
        {
            if !keys.is_empty() {
                put!(out, "          -> {title}:");
            }
            for key in keys {
                put!(out, "               -> {key}");
            }
        }
    }
}

fn scope(out: &mut String, scope: Option<&InstrumentationScope>) {
    let (name, version) = scope.map_or(("", ""), |s| (&s.name, &s.version));
    put!(out, "InstrumentationScope {name} {version}");
    attributes(out, "InstrumentationScope attributes", scope.map_or(&[], |s| &s.attributes));
}

/// A header and one line each; those of a header that is itself a point of a list stand deeper.
pub(super) fn attributes(out: &mut String, header: &str, attributes: &[KeyValue]) {
    if attributes.is_empty() {
        return;
    }
    put!(out, "{header}:");
    let indent = header.split_once("->").map_or("", |(before, _)| before);
    for kv in attributes {
        put!(out, "{indent}     -> {}: {}", kv.key, typed(kv.value.as_ref()));
    }
}

fn span_in_full(out: &mut String, span: &Span) {
    let status = span.status.as_ref();
    let mut field = |name: &str, value: &str| put!(out, "    {name:<15}: {value}");
    field("Trace ID", &id(&span.trace_id));
    field("Parent ID", &id(&span.parent_span_id));
    field("ID", &id(&span.span_id));
    field("Name", &span.name);
    field("Kind", kind(span.kind));
    if !span.trace_state.is_empty() {
        field("TraceState", &span.trace_state);
    }
    field("Start time", &time(span.start_time_unix_nano));
    field("End time", &time(span.end_time_unix_nano));
    field("Status code", status_code(status.map_or(0, |s| s.code)));
    field("Status message", status.map_or("", |s| &s.message));
    field("DroppedAttributesCount", &span.dropped_attributes_count.to_string());
    field("DroppedEventsCount", &span.dropped_events_count.to_string());
    field("DroppedLinksCount", &span.dropped_links_count.to_string());
    attributes(out, "Attributes", &span.attributes);
    if !span.events.is_empty() {
        put!(out, "Events:");
    }
    for (i, event) in span.events.iter().enumerate() {
        put!(out, "SpanEvent #{i}\n     -> Name: {}", event.name);
        put!(out, "     -> Timestamp: {}", time(event.time_unix_nano));
        put!(out, "     -> DroppedAttributesCount: {}", event.dropped_attributes_count);
        attributes(out, "     -> Attributes:", &event.attributes);
    }
    if !span.links.is_empty() {
        put!(out, "Links:");
    }
    for (i, link) in span.links.iter().enumerate() {
        put!(out, "SpanLink #{i}\n     -> Trace ID: {}", id(&link.trace_id));
        put!(out, "     -> ID: {}\n     -> TraceState: {}", id(&link.span_id), link.trace_state);
        put!(out, "     -> DroppedAttributesCount: {}", link.dropped_attributes_count);
        attributes(out, "     -> Attributes:", &link.attributes);
    }
}

fn record_in_full(out: &mut String, record: &LogRecord) {
    put!(out, "ObservedTimestamp: {}", time(record.observed_time_unix_nano));
    put!(out, "Timestamp: {}", time(record.time_unix_nano));
    put!(out, "SeverityText: {}", record.severity_text);
    put!(out, "SeverityNumber: {}({})", severity(record.severity_number), record.severity_number);
    if !record.event_name.is_empty() {
        put!(out, "EventName: {}", record.event_name);
    }
    put!(out, "Body: {}", typed(record.body.as_ref()));
    attributes(out, "Attributes", &record.attributes);
    put!(out, "Trace ID: {}\nSpan ID: {}", id(&record.trace_id), id(&record.span_id));
    put!(out, "Flags: {}", record.flags);
}

fn descriptor(out: &mut String, metric: &Metric) {
    let data_type = match &metric.data {
        Some(Data::Gauge(_)) => "Gauge",
        Some(Data::Sum(_)) => "Sum",
        Some(Data::Histogram(_)) => "Histogram",
        Some(Data::ExponentialHistogram(_)) => "ExponentialHistogram",
        Some(Data::Summary(_)) => "Summary",
        None => "Empty",
    };
    put!(out, "Descriptor:\n     -> Name: {}", metric.name);
    put!(out, "     -> Description: {}\n     -> Unit: {}", metric.description, metric.unit);
    put!(out, "     -> DataType: {data_type}");
    attributes(out, "     -> Metadata", &metric.metadata);
}

fn kind(number: i32) -> &'static str {
    match number {
        0 => "Unspecified",
        1 => "Internal",
        2 => "Server",
        3 => "Client",
        4 => "Producer",
        5 => "Consumer",
        _ => "",
    }
}

fn status_code(number: i32) -> &'static str {
    match number {
        0 => "Unset",
        1 => "Ok",
        2 => "Error",
        _ => "",
    }
}

/// Four steps of each severity: `Info`, `Info2`, `Info3`, `Info4`.
fn severity(number: i32) -> String {
    let name = match number {
        0 => return "Unspecified".into(),
        1..=4 => "Trace",
        5..=8 => "Debug",
        9..=12 => "Info",
        13..=16 => "Warn",
        17..=20 => "Error",
        21..=24 => "Fatal",
        _ => return String::new(),
    };
    match (number - 1) % 4 {
        0 => name.into(),
        step => format!("{name}{}", step + 1),
    }
}
