//! What is where and why, in words.

use std::fmt::Write as _;

use super::Adopted;
use super::companion;
use super::homes::{Homes, Place};
use super::split::{File, Link, Pipe, Split};
use super::write::Parts;
use crate::config::components::{Component, Section};
use crate::config::examine::Verdict;
use crate::config::ids::Id;
use crate::config::tree::{Node, Value};

/// The comment at the head of a file.
#[must_use]
pub(super) fn head(name: &str, split: &Split, file: File) -> String {
    let (who, command) = match file {
        File::Here => (
            "tracemill's half: it balances and samples. The other half runs in a collector\n\
             # beside it",
            "tracemill --config tracemill.yaml",
        ),
        File::There => (
            "the collector's half: what tracemill does not have. It runs beside tracemill, which\n\
             # has the other half",
            "otelcol-contrib --config collector.yaml",
        ),
    };
    let mut out = format!("# Of {name}, {who}.\n#\n#   {command}\n");
    if split.links.is_empty() {
        return format!("# Of {name}, what a pipeline uses.\n#\n#   {command}\n");
    }
    out.push_str("#\n# Both run on one machine, or in one pod, and are started in any order:\n");
    for link in &split.links {
        _ = writeln!(out, "#   {}", joint(link));
    }
    out
}

/// Said where everything runs here.
#[must_use]
pub(super) fn whole(name: &str) -> String {
    format!("{name} runs in tracemill as it is: no collector is needed beside it.\n")
}

/// How to start what was written.
#[must_use]
pub(super) fn starts(adopted: &Adopted, folder: &str) -> String {
    let mut out = String::from("\nwritten; start with\n");
    for (file, _) in &adopted.files {
        let program = match file {
            File::Here => "tracemill",
            File::There => "otelcol-contrib",
        };
        let folder = folder.trim_end_matches('/');
        _ = writeln!(out, "  {program} --config {folder}/{}", file.name());
    }
    out
}

/// What is where.
#[must_use]
pub(super) fn divided(name: &str, parts: &Parts<'_>, homes: &Homes<'_>) -> String {
    let split = parts.split;
    let mut out = match split.links.is_empty() {
        true => format!("{name} runs in tracemill but for what no pipeline needs.\n\n"),
        false => format!(
            "{name} is divided: tracemill balances and samples, a collector beside it does what \
             tracemill does not have.\n\n"
        ),
    };
    let mut rows = Vec::new();
    for section in Section::ALL {
        let all = parts.examined.components.iter().filter(|((s, _), _)| *s == section);
        for ((_, id), verdict) in all {
            let files = [File::Here, File::There].map(|f| parts.has(f, section, id));
            let place = match files {
                _ if split.links.is_empty() && !files[0] => "left out",
                [true, true] => "both",
                [true, false] => File::Here.name(),
                [false, true] => File::There.name(),
                [false, false] => "left out",
            };
            let why = why(parts, homes, (section, id), verdict, files);
            rows.push([section.noun().to_owned(), id.to_string(), place.to_owned(), why]);
        }
    }
    for pipe in &split.pipes {
        let way = way(split, pipe);
        let file = pipe.file.name().to_owned();
        rows.push(["pipeline".to_owned(), pipe.id.to_string(), file, way]);
    }
    table(&rows, &mut out);
    if !split.links.is_empty() {
        out.push('\n');
    }
    for link in &split.links {
        _ = writeln!(out, "{}", joint(link));
    }
    for note in notes(parts) {
        _ = writeln!(out, "{note}");
    }
    out
}

fn table(rows: &[[String; 4]], out: &mut String) {
    let width = |column: usize| rows.iter().map(|row| row[column].len()).max().unwrap_or(0);
    let (a, b, c) = (width(0), width(1), width(2));
    for [noun, id, place, why] in rows {
        let line = format!("{noun:a$}  {id:b$}  {place:c$}  {why}");
        _ = writeln!(out, "{}", line.trim_end());
    }
}

fn joint(link: &Link) -> String {
    let signals: Vec<&str> = link.signals.iter().map(|s| s.name()).collect();
    let (from, to) = match link.to {
        File::Here => ("the collector", "tracemill"),
        File::There => ("tracemill", "the collector"),
    };
    format!("127.0.0.1:{}  {} from {from} to {to}", link.port, signals.join(", "))
}

/// The way of the data through a pipeline.
fn way(split: &Split, pipe: &Pipe) -> String {
    let shown = |ids: &[Id]| {
        let names = ids.iter().map(|id| {
            let link = split.links.iter().find(|l| l.receiver == *id || l.exporter == *id);
            link.map_or_else(|| id.to_string(), |link| format!(":{}", link.port))
        });
        names.collect::<Vec<_>>().join(", ")
    };
    let mut steps = vec![shown(&pipe.receivers)];
    steps.extend(pipe.processors.iter().map(ToString::to_string));
    steps.push(shown(&pipe.exporters));
    steps.join(" > ")
}

fn why(
    parts: &Parts<'_>,
    homes: &Homes<'_>,
    (section, id): (Section, &Id),
    verdict: &Verdict,
    [here, there]: [bool; 2],
) -> String {
    if companion::is_gone(section, id) {
        return "gone from the collector, and nothing to steer in tracemill".to_owned();
    }
    if !verdict.in_use {
        return "nothing uses it".to_owned();
    }
    if let Some(lack) = &verdict.lack {
        return lack.clone();
    }
    match verdict.component {
        Some(Component::MemoryLimiter) if here && there => {
            match parts.whole_limits().contains(&id.to_string()) {
                true => "its limit is a variable: set it to half, or it holds for each process",
                false => "half of its limit in each",
            }
            .to_owned()
        }
        Some(Component::HealthCheck) if there && here => {
            let endpoint = parts.changes.health(id).unwrap_or_default();
            format!("the collector answers at {endpoint}, tracemill where it was")
        }
        Some(Component::Replaced(instead)) => format!("here {instead}"),
        Some(Component::File) if here && there => {
            "both would write one file: give one of them another path".to_owned()
        }
        Some(_) if there && !here => match blocked(parts, homes, section, id) {
            Some(first) => format!("what it takes passes {first} first"),
            None => "its pipelines are there".to_owned(),
        },
        _ => String::new(),
    }
}

/// The processor of the companion that the data of a receiver must pass before tracemill.
fn blocked(parts: &Parts<'_>, homes: &Homes<'_>, section: Section, id: &Id) -> Option<String> {
    if !matches!(section, Section::Receivers | Section::Connectors) {
        return None;
    }
    let drafts = parts.examined.service.pipelines.iter().zip(&homes.places);
    drafts.into_iter().find_map(|(draft, place)| match place {
        Place::Cut { front, .. } if draft.receivers.iter().any(|r| r.id == *id) => {
            draft.processors.get(front.checked_sub(1)?).map(|r| r.id.to_string())
        }
        _ => None,
    })
}

/// What else to know.
fn notes(parts: &Parts<'_>) -> Vec<String> {
    let mut notes = Vec::new();
    let (examined, split) = (parts.examined, parts.split);
    if split.links.is_empty() {
        return notes;
    }
    for port in &parts.changes.metrics_ports {
        let own = companion::metrics_addresses(examined).join(", ");
        notes.push(format!(
            "metrics: the collector's at port {port}; tracemill's stay at {own}: scrape both"
        ));
    }
    for (path, what) in &examined.telemetry_lacks {
        notes.push(format!("{}: {what}; the collector keeps it", path.replace("::", ".")));
    }
    for (section, id) in examined.components.keys() {
        let declared = examined.expanded.get(section.key()).map(|n| &n.value);
        let (Section::Receivers, Some(Value::Map(map))) = (section, declared) else { continue };
        let node = map.iter().find(|e| Id::parse(&e.key).as_ref() == Ok(id)).map(|e| &e.node);
        let port = split.pipes.iter().filter(|p| p.receivers.contains(id)).find_map(|p| {
            split.links.iter().find(|l| p.exporters.contains(&l.exporter)).map(|l| l.port)
        });
        if let (Some(port), true) = (port, node.is_some_and(keeps_metadata)) {
            notes.push(format!(
                "receiver {id} has include_metadata: headers of clients end at 127.0.0.1:{port}"
            ));
        }
    }
    notes
}

fn keeps_metadata(node: &Node) -> bool {
    match &node.value {
        Value::Map(map) => map.iter().any(|e| {
            (e.key == "include_metadata" && e.node.value == Value::Bool(true))
                || keeps_metadata(&e.node)
        }),
        _ => false,
    }
}
