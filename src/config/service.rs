//! `service`: which components are used, by which pipelines. References are read here and resolved
//! in `assemble`.

use super::components::Section;
use super::ids::Id;
use super::read::Block;
use super::report::At;
use crate::otlp::Signal;

/// A component that is named somewhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reference {
    /// Which one.
    pub id: Id,
    /// Where it is named.
    pub at: At,
}

/// A pipeline as written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Draft {
    /// `traces`, `logs/2`.
    pub id: Id,
    /// Where.
    pub at: At,
    /// What flows; `None` if the id is wrong, which is reported.
    pub signal: Signal,
    /// In order, each once.
    pub receivers: Vec<Reference>,
    /// In order.
    pub processors: Vec<Reference>,
    /// In order, each once.
    pub exporters: Vec<Reference>,
}

impl Draft {
    /// Whether it names the component in the role of its section.
    #[must_use]
    pub fn names(&self, section: Section, id: &Id) -> bool {
        let mut named = section.named(&self.receivers, &self.processors, &self.exporters);
        named.any(|reference| reference.id == *id)
    }
}

/// Who is used.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Service {
    /// Pipelines in the order of the file.
    pub pipelines: Vec<Draft>,
    /// `extensions`.
    pub extensions: Vec<Reference>,
}

/// Reads `extensions` and `pipelines`.
pub fn read(b: &mut Block<'_>) -> Service {
    let extensions = references(b, "extensions", true);
    let pipelines = b.block("pipelines", |b| {
        let entries = b.entries();
        if entries.is_empty() {
            b.error("there must be at least one pipeline", EXAMPLE);
        }
        let mut drafts: Vec<Draft> = Vec::new();
        for (key, at) in entries {
            let id = match Id::parse(&key) {
                Ok(id) => id,
                Err(what) => {
                    b.error_of_entry(&key, at, what, "traces, metrics, logs, or traces/name");
                    continue;
                }
            };
            let Some(signal) = id.signal() else {
                let what = match id.kind.as_str() {
                    "profiles" => "profiles are not in this release",
                    _ => "a pipeline is one of traces, metrics, logs",
                };
                b.error_of_entry(&key, at, what, "");
                continue;
            };
            if drafts.iter().any(|d| d.id == id) {
                b.error_of_entry(&key, at, format!("pipeline {id} stands twice"), "");
                continue;
            }
            drafts.push(b.entry(&key, |b| draft(b, id, at, signal)));
        }
        drafts
    });
    Service { pipelines, extensions }
}

const EXAMPLE: &str =
    "pipelines:\n  traces:\n    receivers: [otlp]\n    exporters: [load_balancing]";

fn draft(b: &mut Block<'_>, id: Id, at: At, signal: Signal) -> Draft {
    let receivers = references(b, "receivers", true);
    let processors = references(b, "processors", false);
    let exporters = references(b, "exporters", true);
    if receivers.is_empty() && !b.has_items("receivers") {
        b.error("must have at least one receiver", "receivers: [otlp]");
    }
    if exporters.is_empty() && !b.has_items("exporters") {
        b.error("must have at least one exporter", "exporters: [load_balancing]");
    }
    for (i, reference) in processors.iter().enumerate() {
        if processors[..i].iter().any(|other| other.id == reference.id) {
            b.error_at("processors", format!("{} stands twice", reference.id), "");
        }
    }
    Draft { id, at, signal, receivers, processors, exporters }
}

fn references(b: &mut Block<'_>, key: &'static str, once: bool) -> Vec<Reference> {
    let mut references: Vec<Reference> = Vec::new();
    for (text, at) in b.list_of_texts(key) {
        match Id::parse(&text) {
            Ok(id) if once && references.iter().any(|r| r.id == id) => {}
            Ok(id) => references.push(Reference { id, at }),
            Err(what) => b.error_at(key, format!("\"{text}\" is no id: {what}"), ""),
        }
    }
    references
}
