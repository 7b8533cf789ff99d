//! Both files as YAML. What the user wrote is written again as it stood, before substitution: so
//! variables stay variables, and what they hold comes into no file.

use std::collections::BTreeSet;

use super::companion::{self, Changes};
use super::split::{File, Link, Split};
use crate::config::components::{Component, Section};
use crate::config::examine::Examined;
use crate::config::ids::Id;
use crate::config::print::{self, Out};
use crate::config::tree::{Node, Value};

/// A message over the loopback may be as large as what either side takes from its clients: bodies
/// over HTTP are up to 20 MiB by default, and traces that are kept can be large.
const LINK_MESSAGE_MIB: u32 = 64;

/// Keys of `memory_limiter` that are halved where both processes have one.
const LIMITS: [&str; 4] =
    ["limit_mib", "spike_limit_mib", "limit_percentage", "spike_limit_percentage"];

/// What makes a file.
#[derive(Debug)]
pub(super) struct Parts<'a> {
    /// The configuration.
    pub(super) examined: &'a Examined,
    /// Its pipelines in both files.
    pub(super) split: &'a Split,
    /// What changes in the companion.
    pub(super) changes: &'a Changes,
}

impl Parts<'_> {
    /// The text of `file`, below `head`, which is a comment.
    #[must_use]
    pub(super) fn yaml(&self, file: File, head: &str) -> String {
        let mut root: Vec<(String, Out)> = Vec::new();
        for section in Section::ALL {
            let mut entries = self.components(file, section);
            entries.extend(self.links(file, section));
            if !entries.is_empty() {
                root.push((section.key().to_owned(), Out::Map(entries)));
            }
        }
        root.push(("service".to_owned(), self.service(file)));
        if let (File::Here, Some(own)) = (file, self.examined.raw.get("tracemill")) {
            root.push(("tracemill".to_owned(), Out::written(own)));
        }
        let mut out = String::from(head);
        for part in root {
            out.push('\n');
            out.push_str(&print::yaml(&Out::Map(vec![part])));
        }
        out
    }

    fn components(&self, file: File, section: Section) -> Vec<(String, Out)> {
        let Some(Value::Map(map)) = self.examined.raw.get(section.key()).map(|n| &n.value) else {
            return Vec::new();
        };
        let mut out: Vec<(String, Out)> = Vec::new();
        for entry in map.iter() {
            let Ok(id) = Id::parse(&entry.key) else { continue };
            if !self.has(file, section, &id) {
                continue;
            }
            let both = self.has(File::Here, section, &id) && self.has(File::There, section, &id);
            let component = self.component(section, &id);
            if both && component == Some(Component::MemoryLimiter) {
                out.push((id.to_string(), halved(&entry.node)));
            } else if file == File::There {
                let of = self.changes.component(section, &id, &entry.node);
                out.push(of.unwrap_or_else(|| (id.to_string(), Out::written(&entry.node))));
            } else {
                out.push((id.to_string(), Out::written(&entry.node)));
            }
        }
        out
    }

    fn component(&self, section: Section, id: &Id) -> Option<Component> {
        self.examined.components.get(&(section, id.clone()))?.component
    }

    /// Whether `file` declares the component. What nothing uses stays with the companion.
    #[must_use]
    pub(super) fn has(&self, file: File, section: Section, id: &Id) -> bool {
        let Some(verdict) = self.examined.components.get(&(section, id.clone())) else {
            return false;
        };
        if section == Section::Extensions {
            return self.has_extension(file, id);
        }
        let is_ours = [Some(Component::TailSampling), Some(Component::LoadBalancing)];
        match file {
            File::There if !verdict.in_use => !is_ours.contains(&verdict.component),
            file => self.split.uses(file, section, id),
        }
    }

    fn has_extension(&self, file: File, id: &Id) -> bool {
        let verdict = &self.examined.components[&(Section::Extensions, id.clone())];
        let is_authenticator = verdict.component.is_some_and(|c| AUTHENTICATORS.contains(&c));
        let here = verdict.lack.is_none() && verdict.in_use;
        match (file, verdict.component) {
            (File::Here, Some(Component::HealthCheck)) => here,
            (File::Here, _) => here && is_authenticator && self.mentions(File::Here, id),
            (File::There, _) if companion::is_gone(Section::Extensions, id) => false,
            (File::There, _) if is_authenticator && here => {
                self.mentions(File::There, id) || !self.mentions(File::Here, id)
            }
            (File::There, _) => true,
        }
    }

    /// Whether a component of `file` names the extension.
    fn mentions(&self, file: File, id: &Id) -> bool {
        let others = Section::ALL.into_iter().filter(|s| *s != Section::Extensions);
        let mut declared = others.flat_map(|section| {
            let node = self.examined.expanded.get(section.key());
            let map = match node.map(|n| &n.value) {
                Some(Value::Map(map)) => Some(map),
                _ => None,
            };
            map.into_iter().flat_map(|map| map.iter()).map(move |entry| (section, entry))
        });
        declared.any(|(section, entry)| {
            let used = Id::parse(&entry.key).is_ok_and(|id| self.split.uses(file, section, &id));
            used && has_text(&entry.node, &id.to_string())
        })
    }

    /// The ends of the links in `section` of `file`.
    fn links(&self, file: File, section: Section) -> Vec<(String, Out)> {
        let listens = |link: &&Link| link.to == file;
        let links = self.split.links.iter();
        match section {
            Section::Receivers => links
                .filter(listens)
                .map(|link| (link.receiver.to_string(), receiver(link.port)))
                .collect(),
            Section::Exporters => links
                .filter(|link| !listens(link))
                .map(|link| (link.exporter.to_string(), exporter(link.port)))
                .collect(),
            _ => Vec::new(),
        }
    }

    fn service(&self, file: File) -> Out {
        let mut service = Vec::new();
        let extensions = self.examined.service.extensions.iter().map(|r| &r.id);
        let extensions: Vec<String> = extensions
            .filter(|id| self.has(file, Section::Extensions, id))
            .map(ToString::to_string)
            .collect();
        if !extensions.is_empty() {
            service.push(("extensions", Out::line(extensions.iter().map(String::as_str))));
        }
        let telemetry = match file {
            File::Here => companion::our_telemetry(self.examined),
            File::There => self.changes.telemetry.clone(),
        };
        if let Some(telemetry) = telemetry {
            service.push(("telemetry", telemetry));
        }
        let mut pipelines = Vec::new();
        for pipe in self.split.pipes.iter().filter(|p| p.file == file) {
            let mut keys = Vec::new();
            for (key, ids) in [
                ("receivers", &pipe.receivers),
                ("processors", &pipe.processors),
                ("exporters", &pipe.exporters),
            ] {
                if !ids.is_empty() {
                    let ids = ids.iter().map(|id| self.called(file, key, id).to_string());
                    let ids: Vec<String> = ids.collect();
                    keys.push((key.to_owned(), Out::line(ids.iter().map(String::as_str))));
                }
            }
            pipelines.push((pipe.id.to_string(), Out::Map(keys)));
        }
        service.push(("pipelines", Out::Map(pipelines)));
        map(service)
    }

    fn called<'a>(&'a self, file: File, key: &str, id: &'a Id) -> &'a Id {
        let renamed = || self.changes.renamed(id).unwrap_or(id);
        if file == File::There && key == Section::Exporters.key() { renamed() } else { id }
    }

    /// Ids of limiters that both files have, whose limit could not be halved because a variable
    /// holds it.
    #[must_use]
    pub(super) fn whole_limits(&self) -> BTreeSet<String> {
        let Some(Value::Map(map)) = self.examined.raw.get("processors").map(|n| &n.value) else {
            return BTreeSet::new();
        };
        let is_whole = |node: &Node| match &node.value {
            Value::Map(map) => LIMITS.iter().any(|key| {
                map.get(key).is_some_and(|n| !matches!(n.value, Value::Int(_) | Value::Null))
            }),
            _ => true,
        };
        let limiters = map.iter().filter(|e| {
            let id = Id::parse(&e.key).ok();
            id.is_some_and(|id| {
                self.component(Section::Processors, &id) == Some(Component::MemoryLimiter)
                    && self.has(File::Here, Section::Processors, &id)
                    && self.has(File::There, Section::Processors, &id)
            })
        });
        limiters.filter(|e| is_whole(&e.node)).map(|e| e.key.clone()).collect()
    }
}

const AUTHENTICATORS: [Component; 3] =
    [Component::BasicAuth, Component::BearerTokenAuth, Component::HeadersSetter];

fn has_text(node: &Node, text: &str) -> bool {
    match &node.value {
        Value::Text(own) => own == text,
        Value::List(items) => items.iter().any(|item| has_text(item, text)),
        Value::Map(map) => map.iter().any(|entry| has_text(&entry.node, text)),
        _ => false,
    }
}

fn halved(node: &Node) -> Out {
    let Value::Map(limiter) = &node.value else { return Out::written(node) };
    let half = |entry: &crate::config::tree::Entry| match entry.node.value {
        Value::Int(n) if n > 1 && LIMITS.contains(&entry.key.as_str()) => Out::plain(n / 2),
        _ => Out::written(&entry.node),
    };
    Out::Map(limiter.iter().map(|entry| (entry.key.clone(), half(entry))).collect())
}

fn receiver(port: u16) -> Out {
    let grpc = map(vec![
        ("endpoint", Out::Scalar(format!("127.0.0.1:{port}"))),
        ("max_recv_msg_size_mib", Out::plain(LINK_MESSAGE_MIB)),
    ]);
    map(vec![("protocols", map(vec![("grpc", grpc)]))])
}

fn exporter(port: u16) -> Out {
    map(vec![
        ("endpoint", Out::Scalar(format!("127.0.0.1:{port}"))),
        ("tls", map(vec![("insecure", Out::plain(true))])),
        ("compression", Out::plain("none")),
    ])
}

/// A map of these entries.
#[must_use]
pub(super) fn map(entries: Vec<(&str, Out)>) -> Out {
    Out::Map(entries.into_iter().map(|(key, out)| (key.to_owned(), out)).collect())
}
