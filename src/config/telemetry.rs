//! `service.telemetry` (configs 5, otlp 4.9): the metrics page, logs, the resource of the process.

use super::machine::Machine;
use super::print::Out;
use super::read::{Absent, Block, Kind};
use super::tree::Value;
use crate::telemetry::Options;
use crate::telemetry::options::{LogLevel, MetricsLevel, MetricsReader};

const LEVELS: [(&str, MetricsLevel); 4] = [
    ("none", MetricsLevel::None),
    ("basic", MetricsLevel::Basic),
    ("normal", MetricsLevel::Normal),
    ("detailed", MetricsLevel::Detailed),
];

/// Reads the block.
pub fn read(b: &mut Block<'_>, machine: &Machine) -> Options {
    let logs = b.block("logs", logs);
    let (metrics_level, metrics) = b.block("metrics", metrics);
    b.block("traces", traces);
    let resource = resource(b, machine);
    Options { metrics, metrics_level, resource, ..logs }
}

fn logs(b: &mut Block<'_>) -> Options {
    let levels = [
        ("debug", LogLevel::Debug),
        ("info", LogLevel::Info),
        ("warn", LogLevel::Warn),
        ("warning", LogLevel::Warn),
        ("error", LogLevel::Error),
        ("dpanic", LogLevel::Error),
        ("panic", LogLevel::Error),
        ("fatal", LogLevel::Error),
        ("", LogLevel::Info),
    ];
    let log_level = b.choice_any_case("level", "info", &levels, LogLevel::Info);
    let encodings = [("console", false), ("json", true)];
    let log_json = b.choice("encoding", "console", &encodings, false);
    let log_output_paths = b.texts("output_paths", &["stderr"]);
    let log_caller = !b.flag("disable_caller", false);
    let log_initial_fields = b.pairs("initial_fields");
    b.refuse("processors", "sending tracemill's own logs by OTLP is not in this release", "");
    let zap = "it concerns the collector's log library";
    b.ignore("development", Kind::Flag, zap);
    b.ignore("disable_stacktrace", Kind::Flag, "lines carry no stack");
    b.ignore("disable_zap_resource", Kind::Flag, zap);
    b.ignore("error_output_paths", Kind::Texts, zap);
    b.ignore("sampling", Kind::Any, "repeated lines are always held back, per interval");
    Options {
        metrics: Vec::new(),
        metrics_level: MetricsLevel::Normal,
        log_level,
        log_json,
        log_caller,
        log_output_paths,
        log_initial_fields,
        resource: Vec::new(),
    }
}

fn metrics(b: &mut Block<'_>) -> (MetricsLevel, Vec<MetricsReader>) {
    let level = b.choice_any_case("level", "normal", &LEVELS, MetricsLevel::Normal);
    b.refuse(
        "views",
        "views are not in this release",
        "leave views out; drop series in Prometheus",
    );
    let old = old_address(b);
    let readers = match (b.has("readers"), old) {
        (true, _) => b.list("readers", reader).into_iter().flatten().collect(),
        (false, Some(reader)) => vec![reader],
        (false, None) if b.node("readers").is_some() => Vec::new(),
        (false, None) => vec![MetricsReader {
            host: "localhost".into(),
            port: 8888,
            suffixes: false,
            scope_info: false,
        }],
    };
    if !b.has("readers") {
        b.record("readers", Out::List(readers.iter().map(show).collect()));
    }
    if level == MetricsLevel::None {
        return (level, Vec::new());
    }
    if b.node("readers").is_some() && !b.has_items("readers") {
        let what = "no reader, but the level is not none";
        b.error_at("readers", what, "level: none");
    }
    (level, readers)
}

/// Old form: `address` became a reader (configs 5).
fn old_address(b: &mut Block<'_>) -> Option<MetricsReader> {
    if !b.has("address") {
        return None;
    }
    let address = b.unrecorded(|b| b.text("address", ""));
    let (host, port) = match super::components::address::host_port(&address) {
        Ok((host, port)) => (if host.is_empty() { "0.0.0.0" } else { host }, port),
        Err(what) => {
            b.error_at("address", format!("\"{address}\" {what}"), "address: localhost:8888");
            ("localhost", 8888)
        }
    };
    let right = format!(
        "readers:\n  - pull:\n      exporter:\n        prometheus:\n          \
         host: {host}\n          port: {port}"
    );
    b.warn_at("address", "old form, refused by today's collector", &right);
    Some(MetricsReader { host: host.to_owned(), port, suffixes: false, scope_info: false })
}

fn reader(b: &mut Block<'_>) -> Option<MetricsReader> {
    let push = "only pull readers for Prometheus are in this release";
    let right = "- pull: {exporter: {prometheus: {host: localhost, port: 8888}}}";
    b.refuse("periodic", push, right);
    b.refuse("producers", push, right);
    if !b.has("pull") {
        return None;
    }
    b.block("pull", |b| b.block("exporter", |b| b.optional("prometheus", Absent::Off, prometheus)))
}

fn prometheus(b: &mut Block<'_>) -> MetricsReader {
    let host = b.text("host", "");
    let port = b.signed("port", 0);
    for key in ["host", "port"] {
        if !b.has(key) {
            b.error(format!("{key} is missing"), "host: localhost\nport: 8888");
        }
    }
    let port = u16::try_from(port).unwrap_or_else(|_| {
        b.error_at("port", format!("{port} is no port"), "port: 8888");
        0
    });
    let scope_info = !b.flag("without_scope_info", true);
    let suffix = !b.flag("without_type_suffix", true);
    let units = !b.flag("without_units", true);
    let constant = "constant labels from the resource are not in this release";
    b.refuse("with_resource_constant_labels", constant, "");
    let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
    MetricsReader { host, port, suffixes: suffix || units, scope_info }
}

fn show(reader: &MetricsReader) -> Out {
    let map = |key: &str, value| Out::Map(vec![(key.to_owned(), value)]);
    let keys = vec![
        ("host".to_owned(), Out::text(&reader.host)),
        ("port".to_owned(), Out::plain(reader.port)),
        ("without_scope_info".to_owned(), Out::plain(!reader.scope_info)),
        ("without_type_suffix".to_owned(), Out::plain(!reader.suffixes)),
        ("without_units".to_owned(), Out::plain(!reader.suffixes)),
    ];
    map("pull", map("exporter", map("prometheus", Out::Map(keys))))
}

fn traces(b: &mut Block<'_>) {
    let none = "tracemill makes no traces of its own";
    b.ignore("level", Kind::Text, none);
    b.ignore("propagators", Kind::Texts, none);
    b.ignore("sampler", Kind::Any, none);
    b.ignore("limits", Kind::Any, none);
    b.refuse("processors", "traces of tracemill itself are not in this release", "");
}

/// Attributes of the process: the collector's three, changed or removed (null) by the file.
fn resource(b: &mut Block<'_>, machine: &Machine) -> Vec<(String, String)> {
    let mut attributes = vec![
        ("service.name".to_owned(), env!("CARGO_PKG_NAME").to_owned()),
        ("service.version".to_owned(), env!("CARGO_PKG_VERSION").to_owned()),
        ("service.instance.id".to_owned(), machine.instance_id.clone()),
    ];
    let mut listed = Vec::new();
    let flat = b.open("resource", |b| {
        b.ignore("schema_url", Kind::Text, "labels carry no schema");
        b.refuse(
            "attributes_list",
            "not supported by the collector either",
            "attributes: [{name, value}]",
        );
        b.refuse("detectors", "resource detection is not in this release", "");
        b.refuse("detection/development", "resource detection is not in this release", "");
        listed = b.list("attributes", |b| {
            b.ignore("type", Kind::Text, "labels are text");
            (b.text("name", ""), b.scalar_text("value"))
        });
        b.rest()
    });
    if !listed.is_empty() && !flat.is_empty() {
        b.error_at("resource", "attributes cannot stand beside names with values", "");
    }
    for (name, node) in flat {
        let value = match (&node.value, &node.original) {
            (Value::Null, None) => None,
            (_, Some(original)) => Some(original.clone()),
            (Value::Text(text), None) => Some(text.clone()),
            _ => {
                let what = format!("{name} wants text or null, this is {}", node.kind());
                b.error_at("resource", what, "put it in quotes");
                None
            }
        };
        set(&mut attributes, name, value);
    }
    for (name, value) in listed {
        set(&mut attributes, name, Some(value));
    }
    let shown = attributes.iter().filter(|(name, _)| name != "service.instance.id");
    let shown = shown.map(|(name, value)| (name.clone(), Out::text(value))).collect();
    b.record("resource", Out::Map(shown));
    attributes
}

fn set(attributes: &mut Vec<(String, String)>, name: String, value: Option<String>) {
    attributes.retain(|(n, _)| *n != name);
    if let Some(value) = value {
        attributes.push((name, value));
    }
}
