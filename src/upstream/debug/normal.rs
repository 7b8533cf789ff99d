//! Verbosity `normal`: about one line per item.

use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::InstrumentationScope;
use opentelemetry_proto::tonic::resource::v1::Resource;

use super::points::numbers;
use super::put;
use super::value::{id, pairs, text};

pub(super) fn traces(request: &ExportTraceServiceRequest) -> String {
    let mut out = String::new();
    for (i, rs) in request.resource_spans.iter().enumerate() {
        resource(&mut out, "ResourceTraces", i, &rs.schema_url, rs.resource.as_ref());
        for (j, ss) in rs.scope_spans.iter().enumerate() {
            scope(&mut out, "ScopeTraces", j, &ss.schema_url, ss.scope.as_ref());
            for span in &ss.spans {
                let attributes: String =
                    pairs(&span.attributes).iter().map(|a| format!(" {a}")).collect();
                put!(out, "{} {} {}{attributes}", span.name, id(&span.trace_id), id(&span.span_id));
            }
        }
    }
    out
}

pub(super) fn logs(request: &ExportLogsServiceRequest) -> String {
    let mut out = String::new();
    for (i, rl) in request.resource_logs.iter().enumerate() {
        resource(&mut out, "ResourceLog", i, &rl.schema_url, rl.resource.as_ref());
        for (j, sl) in rl.scope_logs.iter().enumerate() {
            scope(&mut out, "ScopeLog", j, &sl.schema_url, sl.scope.as_ref());
            for record in &sl.log_records {
                let attributes = pairs(&record.attributes).join(" ");
                put!(out, "{} {attributes}", text(record.body.as_ref()));
            }
        }
    }
    out
}

pub(super) fn metrics(request: &ExportMetricsServiceRequest) -> String {
    let mut out = String::new();
    for (i, rm) in request.resource_metrics.iter().enumerate() {
        resource(&mut out, "ResourceMetrics", i, &rm.schema_url, rm.resource.as_ref());
        for (j, sm) in rm.scope_metrics.iter().enumerate() {
            scope(&mut out, "ScopeMetrics", j, &sm.schema_url, sm.scope.as_ref());
            for metric in &sm.metrics {
                for (attributes, numbers) in numbers(metric) {
                    put!(out, "{}{{{}}} {numbers}", metric.name, pairs(attributes).join(","));
                }
            }
        }
    }
    out
}

fn resource(out: &mut String, name: &str, i: usize, schema_url: &str, of: Option<&Resource>) {
    let schema = bracketed(schema_url);
    let attributes: String =
        of.iter().flat_map(|r| pairs(&r.attributes)).map(|a| format!(" {a}")).collect();
    put!(out, "{name} #{i}{schema}{attributes}");
}

fn scope(out: &mut String, name: &str, i: usize, url: &str, of: Option<&InstrumentationScope>) {
    let mut title = of.map_or_else(String::new, |s| s.name.clone());
    if let Some(scope) = of.filter(|s| !s.version.is_empty()) {
        title = format!("{title}@{}", scope.version);
    }
    if !title.is_empty() {
        title.insert(0, ' ');
    }
    let attributes: String =
        of.iter().flat_map(|s| pairs(&s.attributes)).map(|a| format!(" {a}")).collect();
    put!(out, "{name} #{i}{title}{}{attributes}", bracketed(url));
}

fn bracketed(url: &str) -> String {
    if url.is_empty() { String::new() } else { format!(" [{url}]") }
}
