//! Files that hold a collector configuration without being one: resources of the operator,
//! ConfigMaps, values of the Helm chart (configs 8). They are recognised and the way to the
//! configuration inside is named; they are not unpacked, because charts and the operator add to it.

use super::report::{At, Log};
use super::tree::{Map, Value};

/// Place, what it is, and how to get at the configuration; `None` for a plain configuration.
#[must_use]
pub fn foreign(root: &Map, log: &Log, source: u16) -> Option<(At, String, String)> {
    let file = log.place(At { source, line: 0, column: 0 });
    let text = |key: &str| match root.get(key).map(|n| &n.value) {
        Some(Value::Text(text)) => Some(text.as_str()),
        _ => None,
    };
    if let Some(entry) = root.entry("kind").or_else(|| root.entry("apiVersion")) {
        let kind = text("kind").unwrap_or("unknown");
        let right = match kind {
            "OpenTelemetryCollector"
                if text("apiVersion").is_some_and(|v| v.ends_with("alpha1")) =>
            {
                format!(
                    "the configuration is the text under spec.config: yq -r .spec.config {file}"
                )
            }
            "OpenTelemetryCollector" => {
                format!("the configuration is the map under spec.config: yq .spec.config {file}")
            }
            "ConfigMap" => format!(
                "the configuration is the text under data.{key}: yq -r '.data[\"{key}\"]' {file}",
                key = data_key(root).unwrap_or("<file name>")
            ),
            _ => "give the collector configuration that it holds as a file of its own".into(),
        };
        let what = format!("a Kubernetes resource of kind {kind}, not a collector configuration");
        return Some((entry.at, what, right));
    }
    if root.entry("receivers").is_some() || root.entry("service").is_some() {
        return None;
    }
    if let Some(entry) = root.entry("config").filter(|e| matches!(e.node.value, Value::Map(_))) {
        let what = "values of a Helm chart (or a spec of the operator), not a whole configuration";
        let right = format!(
            "the chart merges the map under config over its defaults: render it (helm template) \
             and take the text out of the ConfigMap;\n\
             if it is complete by itself: yq .config {file}"
        );
        return Some((entry.at, what.into(), right));
    }
    if let Some(entry) = root.entry("mode").or_else(|| root.entry("presets")) {
        let what = "values of a Helm chart, not a collector configuration";
        let right = "render the chart (helm template) and take the text out of the ConfigMap";
        return Some((entry.at, what.into(), right.into()));
    }
    None
}

fn data_key(root: &Map) -> Option<&str> {
    match &root.get("data")?.value {
        Value::Map(data) => data.iter().map(|e| e.key.as_str()).next(),
        _ => None,
    }
}
