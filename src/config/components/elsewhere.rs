//! Types of the collector's that tracemill does not have, with what to do about each; and the table
//! of all that real configurations name (configs 1), as the README shows it.

use super::{Component, KNOWN, Known, Section};

/// A type that a collector beside tracemill keeps.
#[derive(Clone, Copy, Debug)]
pub struct Elsewhere {
    /// Section in which it stands.
    pub section: Section,
    /// Type, as in `type/name`.
    pub name: &'static str,
    /// What to do, in words.
    pub instead: &'static str,
}

const FRONT: &str = "`adopt`: a collector in front takes it and hands on OTLP";
const SCRAPE: &str = "let Prometheus scrape what it names; else `adopt`: stays with a collector";
const HOST: &str = "keep it in the agent or collector of the host";
const BEFORE: &str = "do it in the agents; else `adopt`: a collector in front, or behind a sampler";
const AGENTS: &str = "do it in the agents, where the host is known; else `adopt`: in front";
const BEHIND: &str =
    "the backend by `otlp_grpc` or `otlp_http`, if it takes OTLP; else `adopt`: behind";
const COUNTS: &str = "`adopt`: stays with a collector, which is sent what it counts";
const GONE: &str = "gone from the collector; Jaeger takes OTLP, so `otlp_grpc` does";
const AUTH: &str = "`adopt`: what it protects stays with a collector";

/// The most used first.
pub const ELSEWHERE: [Elsewhere; 32] = [
    of(Section::Receivers, "prometheus", SCRAPE),
    of(Section::Receivers, "jaeger", FRONT),
    of(Section::Receivers, "zipkin", FRONT),
    of(Section::Receivers, "hostmetrics", HOST),
    of(Section::Receivers, "kafka", FRONT),
    of(Section::Receivers, "filelog", HOST),
    of(Section::Receivers, "opencensus", "gone from the collector; send OTLP"),
    of(Section::Processors, "transform", BEFORE),
    of(Section::Processors, "resourcedetection", AGENTS),
    of(
        Section::Processors,
        "filter",
        "a `drop` policy in a sampler; else `adopt`: a collector in front, or behind a sampler",
    ),
    of(Section::Processors, "k8sattributes", AGENTS),
    of(Section::Processors, "probabilistic_sampler", "a `probabilistic` policy in a sampler"),
    of(Section::Processors, "groupbytrace", "leave it out: a sampler gathers traces itself"),
    of(Section::Processors, "spanmetrics", "gone from the collector: the `spanmetrics` connector"),
    of(Section::Processors, "span", BEFORE),
    of(Section::Processors, "redaction", BEFORE),
    of(Section::Exporters, "logzio", BEHIND),
    of(Section::Exporters, "prometheus", BEHIND),
    of(Section::Exporters, "prometheusremotewrite", BEHIND),
    of(Section::Exporters, "kafka", BEHIND),
    of(Section::Exporters, "elasticsearch", BEHIND),
    of(Section::Exporters, "zipkin", BEHIND),
    of(Section::Exporters, "datadog", BEHIND),
    of(Section::Exporters, "jaeger", GONE),
    of(Section::Exporters, "jaeger_thrift", GONE),
    of(Section::Connectors, "spanmetrics", COUNTS),
    of(Section::Connectors, "datadog", COUNTS),
    of(Section::Connectors, "count", COUNTS),
    of(Section::Connectors, "servicegraph", COUNTS),
    of(Section::Extensions, "file_storage", "leave it out: queues are in memory in this release"),
    of(Section::Extensions, "oauth2client", AUTH),
    of(Section::Extensions, "oidc", AUTH),
];

const fn of(section: Section, name: &'static str, instead: &'static str) -> Elsewhere {
    Elsewhere { section, name, instead }
}

/// What to do about a type that tracemill does not have, without the marks of the README.
#[must_use]
pub fn instead(section: Section, name: &str) -> Option<String> {
    let found = ELSEWHERE.iter().find(|e| e.section == section && e.name == name)?;
    let text = found.instead.replace("`adopt`", "`tracemill adopt`");
    Some(text.replace('`', ""))
}

/// The README's table: component, what it does here, in the order of the sections.
#[must_use]
pub fn table() -> String {
    let mut out =
        String::from("| component | | what it does here, or what to do |\n|---|---|---|\n");
    for section in Section::ALL {
        for known in KNOWN.iter().filter(|k| k.section == section) {
            let (verdict, text) = verdict(known);
            out.push_str(&row(section, known.name, verdict, &text));
        }
        let is_new =
            |e: &&Elsewhere| e.section == section && super::find(section, e.name).is_none();
        for elsewhere in ELSEWHERE.iter().filter(is_new) {
            out.push_str(&row(section, elsewhere.name, "refused", elsewhere.instead));
        }
    }
    out
}

fn verdict(known: &Known) -> (&'static str, String) {
    match (known.renamed, known.component) {
        (Some(new), _) => ("migrated", format!("it is `{new}` now, and works as that")),
        (None, Component::Replaced(instead)) => ("accepted", instead.to_owned()),
        _ => ("runs", known.about.to_owned()),
    }
}

fn row(section: Section, name: &str, verdict: &str, text: &str) -> String {
    format!("| {} `{name}` | {verdict} | {text} |\n", section.noun())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_here_is_not_elsewhere() {
        for e in ELSEWHERE {
            let name = e.name;
            assert!(super::super::find(e.section, name).is_none(), "{name} runs: delete its line");
        }
    }
}
