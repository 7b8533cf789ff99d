//! What differs in the companion: ports that both processes would open, and old forms that today's
//! collector refuses.
//!
//! tracemill keeps the addresses of metrics and health, so that probes and dashboards of what it
//! does find it where they look.

use super::ports::Ports;
use super::write::map;
use crate::config::components::{Component, Section};
use crate::config::examine::Examined;
use crate::config::ids::Id;
use crate::config::print::Out;
use crate::config::tree::{Map, Node, Value};

/// First ports that are tried.
const METRICS_PORT: u16 = 18888;
const HEALTH_PORT: u16 = 23133;

/// Changes to the companion's half.
#[derive(Debug, Default)]
pub(super) struct Changes {
    /// New endpoints of `health_check` extensions, by id.
    health: Vec<(Id, String)>,
    /// `service.telemetry`; `None` writes none.
    pub(super) telemetry: Option<Out>,
    /// Ports of its metrics pages.
    pub(super) metrics_ports: Vec<u16>,
    /// Exporters `logging`, and what they are called now.
    logging: Vec<(Id, Id)>,
}

/// Whether today's collector has the type no more, and nothing takes its place.
#[must_use]
pub(super) fn is_gone(section: Section, id: &Id) -> bool {
    section == Section::Extensions && matches!(id.kind.as_str(), "memory_ballast" | "ballast")
}

impl Changes {
    /// What has to change.
    #[must_use]
    pub(super) fn new(examined: &Examined, ports: &mut Ports) -> Self {
        let mut changes = Self::default();
        for ((section, id), verdict) in &examined.components {
            if verdict.component == Some(Component::HealthCheck) && verdict.lack.is_none() {
                let port = ports.take(HEALTH_PORT);
                let host = host_of_health(examined, id);
                changes.health.push((id.clone(), format!("{host}:{port}")));
            }
            if *section == Section::Exporters && id.kind == "logging" {
                let debug = Id { kind: "debug".into(), name: id.name.clone() };
                let taken = examined.components.contains_key(&(Section::Exporters, debug.clone()));
                let name = if taken { format!("{}logging", id.name) } else { id.name.clone() };
                changes.logging.push((id.clone(), Id { name, ..debug }));
            }
        }
        changes.telemetry = telemetry(examined, ports, &mut changes.metrics_ports);
        changes
    }

    /// What the companion calls an exporter.
    #[must_use]
    pub(super) fn renamed(&self, id: &Id) -> Option<&Id> {
        self.logging.iter().find(|(old, _)| old == id).map(|(_, new)| new)
    }

    /// The new endpoint of a `health_check`.
    #[must_use]
    pub(super) fn health(&self, id: &Id) -> Option<&str> {
        self.health.iter().find(|(own, _)| own == id).map(|(_, endpoint)| endpoint.as_str())
    }

    /// A component as the companion has it; `None` if it is unchanged.
    #[must_use]
    pub(super) fn component(
        &self,
        section: Section,
        id: &Id,
        node: &Node,
    ) -> Option<(String, Out)> {
        let keys = match &node.value {
            Value::Map(map) => Some(map),
            _ => None,
        };
        if section == Section::Extensions {
            let endpoint = Out::verbatim(self.health(id)?);
            return Some((id.to_string(), with(keys, "endpoint", endpoint)));
        }
        let new = self.renamed(id).filter(|_| section == Section::Exporters);
        match (new, keys.filter(|_| section == Section::Exporters).and_then(modern)) {
            (None, None) => None,
            (new, keys) => {
                let keys = keys.unwrap_or_else(|| Out::written(node));
                Some((new.unwrap_or(id).to_string(), keys))
            }
        }
    }
}

/// The keys of an exporter with old forms brought up to date; `None` if there are none.
fn modern(keys: &Map) -> Option<Out> {
    let insecure = keys.get("insecure").filter(|_| keys.get("endpoint").is_some());
    if insecure.is_none() && keys.get("loglevel").is_none() {
        return None;
    }
    let tls = |below: Option<&Node>| {
        let below = match below.map(|n| &n.value) {
            Some(Value::Map(below)) => Some(below),
            _ => None,
        };
        insecure.map(|node| ("tls".to_owned(), with(below, "insecure", Out::written(node))))
    };
    let entries = keys.iter().filter_map(|entry| match entry.key.as_str() {
        "loglevel" => Some(("verbosity".to_owned(), Out::plain(verbosity(&entry.node)))),
        "tls" => tls(Some(&entry.node)).or_else(|| Some(("tls".into(), Out::written(&entry.node)))),
        "insecure" if insecure.is_some() => None,
        _ => Some((entry.key.clone(), Out::written(&entry.node))),
    });
    let mut entries: Vec<_> = entries.collect();
    if keys.get("tls").is_none() {
        entries.extend(tls(None));
    }
    Some(Out::Map(entries))
}

/// `loglevel` became `verbosity`.
fn verbosity(node: &Node) -> &'static str {
    match &node.value {
        Value::Text(level) if level.eq_ignore_ascii_case("debug") => "detailed",
        Value::Text(level) if level.eq_ignore_ascii_case("info") => "normal",
        _ => "basic",
    }
}

/// `keys` with `key` set.
fn with(keys: Option<&Map>, key: &str, value: Out) -> Out {
    let others = keys.into_iter().flat_map(Map::iter).filter(|entry| entry.key != key);
    let others = others.map(|entry| (entry.key.clone(), Out::written(&entry.node)));
    Out::Map(std::iter::once((key.to_owned(), value)).chain(others).collect())
}

/// As it is written; where a variable holds the port too, the loopback.
fn host_of_health(examined: &Examined, id: &Id) -> String {
    let written = text_at(&examined.raw, &["extensions", &id.to_string(), "endpoint"]);
    match written.as_deref().and_then(|text| text.rsplit_once(':')) {
        Some((host, port)) if port.bytes().all(|b| b.is_ascii_digit()) => host.to_owned(),
        _ => "localhost".to_owned(),
    }
}

fn at<'a>(root: &'a Map, path: &[&str]) -> Option<&'a Node> {
    let (first, rest) = path.split_first()?;
    let node = root.get(first)?;
    match (&node.value, rest) {
        (_, []) => Some(node),
        (Value::Map(map), rest) => at(map, rest),
        _ => None,
    }
}

fn text_at(root: &Map, path: &[&str]) -> Option<String> {
    match &at(root, path)?.value {
        Value::Text(text) => Some(text.clone()),
        _ => None,
    }
}

fn map_at<'a>(root: &'a Map, path: &[&str]) -> Option<&'a Map> {
    match &at(root, path)?.value {
        Value::Map(map) => Some(map),
        _ => None,
    }
}

const METRICS: [&str; 3] = ["service", "telemetry", "metrics"];

/// The companion's: as written, but for the port of its metrics.
fn telemetry(examined: &Examined, ports: &mut Ports, taken: &mut Vec<u16>) -> Option<Out> {
    let level = text_at(&examined.expanded, &[&METRICS[..], &["level"]].concat());
    let off = level.is_some_and(|level| level.eq_ignore_ascii_case("none"));
    let written = map_at(&examined.raw, &["service", "telemetry"]);
    if off {
        return at(&examined.raw, &["service", "telemetry"]).map(Out::written);
    }
    let metrics = map_at(&examined.raw, &METRICS);
    let readers = match metrics.and_then(|m| m.get("readers")).map(|n| &n.value) {
        Some(Value::List(readers)) => readers.iter().map(|r| moved(r, ports, taken)).collect(),
        _ => vec![pull(host_of_metrics(examined), ports, taken)],
    };
    let others = metrics.into_iter().flat_map(Map::iter);
    let others = others.filter(|e| !matches!(e.key.as_str(), "readers" | "address"));
    let mut metrics: Vec<_> = others.map(|e| (e.key.clone(), Out::written(&e.node))).collect();
    metrics.push(("readers".to_owned(), Out::List(readers)));
    let others = written.into_iter().flat_map(Map::iter).filter(|e| e.key != "metrics");
    let mut out: Vec<_> = others.map(|e| (e.key.clone(), Out::written(&e.node))).collect();
    out.push(("metrics".to_owned(), Out::Map(metrics)));
    Some(Out::Map(out))
}

/// The host of the old form `address`, as written.
fn host_of_metrics(examined: &Examined) -> String {
    let address = text_at(&examined.raw, &[&METRICS[..], &["address"]].concat());
    let host = address.as_deref().and_then(|text| text.rsplit_once(':')).map(|(host, _)| host);
    match host {
        Some("") => "0.0.0.0".to_owned(),
        Some(host) => host.to_owned(),
        None => "localhost".to_owned(),
    }
}

/// A reader on a port of its own; one that pushes opens none.
fn moved(reader: &Node, ports: &mut Ports, taken: &mut Vec<u16>) -> Out {
    let Value::Map(keys) = &reader.value else { return Out::written(reader) };
    let Some(prometheus) = map_at(keys, &["pull", "exporter", "prometheus"]) else {
        return Out::written(reader);
    };
    let port = ports.take(METRICS_PORT);
    taken.push(port);
    let entries = prometheus.iter().map(|entry| match entry.key.as_str() {
        "port" => ("port".to_owned(), Out::plain(port)),
        _ => (entry.key.clone(), Out::written(&entry.node)),
    });
    pulled(Out::Map(entries.collect()))
}

fn pull(host: String, ports: &mut Ports, taken: &mut Vec<u16>) -> Out {
    let port = ports.take(METRICS_PORT);
    taken.push(port);
    pulled(map(vec![("host", Out::verbatim(&host)), ("port", Out::plain(port))]))
}

fn pulled(prometheus: Out) -> Out {
    map(vec![("pull", map(vec![("exporter", map(vec![("prometheus", prometheus)]))]))])
}

/// tracemill's: as written, without what it does not have.
#[must_use]
pub(super) fn our_telemetry(examined: &Examined) -> Option<Out> {
    let node = at(&examined.raw, &["service", "telemetry"])?;
    let Value::Map(keys) = &node.value else {
        return examined.telemetry_lacks.is_empty().then(|| Out::written(node));
    };
    let lacks = |key: &str| {
        let base = format!("service::telemetry::{key}");
        let below = |path: &str| {
            path.strip_prefix(&base).is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
        };
        examined.telemetry_lacks.iter().any(|(path, _)| below(path))
    };
    let mut out = Vec::new();
    for entry in keys.iter() {
        match &entry.node.value {
            Value::Map(metrics) if entry.key == "metrics" && lacks("metrics") => {
                out.push((entry.key.clone(), our_metrics(metrics)));
            }
            _ if lacks(&entry.key) => {}
            _ => out.push((entry.key.clone(), Out::written(&entry.node))),
        }
    }
    Some(Out::Map(out))
}

/// Its level, and the pages it serves.
fn our_metrics(metrics: &Map) -> Out {
    let mut out: Vec<_> = metrics
        .iter()
        .filter(|e| matches!(e.key.as_str(), "level" | "address"))
        .map(|e| (e.key.clone(), Out::written(&e.node)))
        .collect();
    let readers = match metrics.get("readers").map(|n| &n.value) {
        Some(Value::List(readers)) => readers.as_slice(),
        _ => &[],
    };
    let prometheus = readers.iter().filter_map(|reader| match &reader.value {
        Value::Map(keys) => map_at(keys, &["pull", "exporter", "prometheus"]),
        _ => None,
    });
    let readers: Vec<Out> = prometheus
        .map(|keys| {
            let plain = keys.iter().filter(|e| e.key != "with_resource_constant_labels");
            pulled(Out::Map(plain.map(|e| (e.key.clone(), Out::written(&e.node))).collect()))
        })
        .collect();
    if !readers.is_empty() {
        out.push(("readers".to_owned(), Out::List(readers)));
    }
    Out::Map(out)
}

/// Where tracemill serves its metrics, as written.
#[must_use]
pub(super) fn metrics_addresses(examined: &Examined) -> Vec<String> {
    let readers = at(&examined.raw, &[&METRICS[..], &["readers"]].concat());
    let Some(Value::List(readers)) = readers.map(|n| &n.value) else {
        let address = text_at(&examined.raw, &[&METRICS[..], &["address"]].concat());
        return vec![address.unwrap_or_else(|| "localhost:8888".to_owned())];
    };
    let shown = readers.iter().filter_map(|reader| match &reader.value {
        Value::Map(keys) => {
            let keys = map_at(keys, &["pull", "exporter", "prometheus"])?;
            let host = text_at(keys, &["host"])?;
            match &keys.get("port")?.value {
                Value::Int(port) => Some(format!("{host}:{port}")),
                Value::Text(port) => Some(format!("{host}:{port}")),
                _ => None,
            }
        }
        _ => None,
    });
    shown.collect()
}

/// Ports that are open although the file does not name them.
pub(super) const DEFAULT_PORTS: [u16; 4] = [4317, 4318, 8888, 13133];
