//! Components that tracemill does not have: one refusal names them all, with their lines, and says
//! for each pipeline how a stock collector in front or behind can keep them, joined by OTLP.

use std::collections::BTreeSet;

use super::components::{Component, KNOWN, Section, elsewhere, find, tail_sampling};
use super::ids::Id;
use super::report::{At, Log, Severity, did_you_mean};
use super::service::{Draft, Reference};

/// The command that writes both parts, where there are two.
const ADOPT: &str = "tracemill adopt";

/// A component of a type that tracemill does not have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outside {
    /// Its section.
    pub section: Section,
    /// Its id.
    pub id: Id,
    /// Where it stands.
    pub at: At,
    /// Whether a pipeline or `service.extensions` names it.
    pub in_use: bool,
}

/// Reports all of `outside`.
pub fn report(outside: &[Outside], pipelines: &[Draft], log: &Log) {
    for unused in outside.iter().filter(|o| !o.in_use) {
        let path = format!("{}::{}", unused.section.key(), unused.id);
        let what = "tracemill has no such component; nothing uses it, so it is left out";
        log.warn(unused.at, &path, what, meant(unused));
    }
    let used: Vec<&Outside> = outside.iter().filter(|o| o.in_use).collect();
    let Some(first) = used.first() else { return };
    let divides = pipelines.iter().any(is_ours);
    let instead = |o: &Outside| {
        let text = elsewhere::instead(o.section, &o.id.kind);
        text.filter(|text| divides || !text.contains(ADOPT))
    };
    let mut lines = Vec::new();
    for o in &used {
        let mut line = format!("{}  {} {}", log.line(o.at), o.section.noun(), o.id);
        if let Some(why) = instead(o).or_else(|| meant(o)) {
            line.push_str(&format!(": {why}"));
        }
        lines.push(line);
    }
    let outside = Set::new(&used);
    for draft in pipelines {
        lines.extend(outside.proposal(draft));
    }
    if divides {
        lines.push(format!("{ADOPT} --config FILE --out DIR   writes both parts"));
    }
    let what = match used.len() {
        1 => "1 component is outside of what tracemill does".to_owned(),
        n => format!("{n} components are outside of what tracemill does"),
    };
    log.lack(Severity::Error, first.at, "", what, Some(lines.join("\n")));
}

/// Whether the pipeline balances or samples.
fn is_ours(draft: &Draft) -> bool {
    let is = |section, r: &Reference, wanted| {
        find(section, &r.id.kind).is_some_and(|known| known.component == wanted)
    };
    let samples = |r: &Reference| is(Section::Processors, r, Component::TailSampling);
    let balances = |r: &Reference| is(Section::Exporters, r, Component::LoadBalancing);
    draft.processors.iter().any(samples) || draft.exporters.iter().any(balances)
}

fn meant(o: &Outside) -> Option<String> {
    // A processor of its own: `attributes` is not meant.
    if o.id.kind.starts_with("k8s") {
        return None;
    }
    let names = KNOWN.iter().filter(|k| k.section == o.section).map(|k| k.name);
    did_you_mean(&o.id.kind, names).map(|name| format!("did you mean {name}?"))
}

struct Set<'a> {
    receivers: BTreeSet<&'a Id>,
    processors: BTreeSet<&'a Id>,
    exporters: BTreeSet<&'a Id>,
    connectors: BTreeSet<&'a Id>,
}

impl<'a> Set<'a> {
    fn new(used: &[&'a Outside]) -> Self {
        let of = |section| used.iter().filter(|o| o.section == section).map(|o| &o.id).collect();
        Self {
            receivers: of(Section::Receivers),
            processors: of(Section::Processors),
            exporters: of(Section::Exporters),
            connectors: of(Section::Connectors),
        }
    }

    /// How `draft` could be split at OTLP; nothing if it needs no splitting.
    fn proposal(&self, draft: &Draft) -> Vec<String> {
        let outside = |set: &BTreeSet<&Id>, references: &[Reference]| {
            references.iter().any(|r| set.contains(&r.id))
        };
        let from_connector = outside(&self.connectors, &draft.receivers);
        // What stands behind a sampler can see less; so it stays behind it.
        let sampler = draft.processors.iter().position(|r| r.id.kind == tail_sampling::TYPE);
        let (upto, rest) = draft.processors.split_at(sampler.map_or(0, |i| i + 1));
        let after_sampler =
            sampler.is_some() && rest.iter().any(|r| self.processors.contains(&r.id));
        let (pipe, tail) = match after_sampler {
            true => (upto, rest),
            false => (&draft.processors[..], &[][..]),
        };
        let last = pipe.iter().rposition(|r| self.processors.contains(&r.id));
        let is_behind = |r: &&Reference| {
            after_sampler || self.exporters.contains(&r.id) || self.connectors.contains(&r.id)
        };
        let behind: Vec<&Reference> = draft.exporters.iter().filter(is_behind).collect();
        if !from_connector
            && last.is_none()
            && behind.is_empty()
            && !outside(&self.receivers, &draft.receivers)
        {
            return Vec::new();
        }
        let mut lines = vec![format!("pipeline {}:", draft.id)];
        if from_connector {
            lines.push(
                "  is fed by a connector: keep it beside that, in the stock collector".into(),
            );
            return lines;
        }
        let here: Vec<&Reference> = draft.exporters.iter().filter(|r| !is_behind(r)).collect();
        if here.is_empty() && sampler.is_none() {
            lines.push(
                "  none of its exporters is tracemill's: keep it in the stock collector".into(),
            );
            return lines;
        }
        let (front, middle) = pipe.split_at(last.map_or(0, |i| i + 1));
        self.split(draft, [front, middle, tail], (&here, &behind), &mut lines);
        lines
    }

    fn split(
        &self,
        draft: &Draft,
        [front, rest, tail]: [&[Reference]; 3],
        (here, behind): (&[&Reference], &[&Reference]),
        lines: &mut Vec<String>,
    ) {
        // Whoever needs a processor in front must arrive there, too.
        let in_front = |r: &&Reference| !front.is_empty() || self.receivers.contains(&r.id);
        let front_receivers: Vec<&Reference> = draft.receivers.iter().filter(in_front).collect();
        let mut here_receivers: Vec<String> =
            draft.receivers.iter().filter(|r| !in_front(r)).map(|r| r.id.to_string()).collect();
        if !front_receivers.is_empty() {
            lines.push(format!(
                "  a stock collector in front:  receivers: {}{}  \
                 exporters: [otlp_grpc to tracemill]",
                ids(&front_receivers),
                processors(&front.iter().collect::<Vec<_>>()),
            ));
            if !here_receivers.iter().any(|id| id.starts_with("otlp")) {
                here_receivers.insert(0, "otlp".into());
            }
        }
        let mut exporters: Vec<String> = here.iter().map(|r| r.id.to_string()).collect();
        if !behind.is_empty() {
            exporters.push("otlp_grpc to the collector behind".into());
        }
        lines.push(format!(
            "  tracemill:                   receivers: [{}]{}  exporters: [{}]",
            here_receivers.join(", "),
            processors(&rest.iter().collect::<Vec<_>>()),
            exporters.join(", "),
        ));
        if !behind.is_empty() {
            lines.push(format!(
                "  a stock collector behind:    receivers: [otlp]{}  exporters: {}",
                processors(&tail.iter().collect::<Vec<_>>()),
                ids(behind)
            ));
        }
    }
}

fn ids(references: &[&Reference]) -> String {
    let ids: Vec<String> = references.iter().map(|r| r.id.to_string()).collect();
    format!("[{}]", ids.join(", "))
}

fn processors(references: &[&Reference]) -> String {
    if references.is_empty() { String::new() } else { format!("  processors: {}", ids(references)) }
}
