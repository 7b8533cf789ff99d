//! A configuration, looked at part by part: which components run here, and what is in the way of
//! the others. `tracemill adopt` divides it along that.
//!
//! The verdict on a component is the one of `assemble`: nothing here knows what is supported.

use std::collections::BTreeMap;

use super::components::{self, Component, Section};
use super::expand::Env;
use super::ids::Id;
use super::machine::Machine;
use super::read::Block;
use super::report::{At, Log, Notice, Severity};
use super::service::{self, Service};
use super::tree::{Map, Node, Value};
use super::{Plan, Report, Request, assemble, expand, gates, source};

/// What stands in a configuration.
#[derive(Clone, Debug)]
pub struct Examined {
    /// As written: merged, before substitution.
    pub raw: Map,
    /// After substitution.
    pub expanded: Map,
    /// Pipelines and extensions.
    pub service: Service,
    /// Every component that is declared.
    pub components: BTreeMap<(Section, Id), Verdict>,
    /// What `service.telemetry` has and tracemill does not, as `path: what`.
    pub telemetry_lacks: Vec<(String, String)>,
    /// All of it, if all of it runs here.
    pub plan: Option<Plan>,
    /// Warnings.
    pub warnings: Vec<Notice>,
}

/// What becomes of a component.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// What it is; `None` if there is no such type here.
    pub component: Option<Component>,
    /// Whether a pipeline or `service.extensions` names it.
    pub in_use: bool,
    /// Why it cannot run here; `None` if it can.
    pub lack: Option<String>,
}

/// Looks at a configuration; certificates and keys may be missing.
///
/// # Errors
/// What is wrong with it wherever it runs: then it cannot be divided either. What only tracemill
/// does not have is no error.
pub fn examine(request: &Request, env: Env<'_>, machine: &Machine) -> Result<Examined, Report> {
    let mut log = Log::default();
    log.leave_files();
    let gates = gates::read(&request.feature_gates, &mut log);
    let Some(raw) = source::merged(request, env, &mut log) else {
        return Err(Report { notices: log.into_notices() });
    };
    let mut root = Node::new(At::default(), Value::Map(raw.clone()));
    expand::expand(&mut root, env, &log);
    if log.has_errors() {
        return Err(Report { notices: log.into_notices() });
    }
    let expanded = match root.value {
        Value::Map(map) => map,
        _ => Map::default(),
    };
    let (plan, _) = assemble::plan(&expanded, machine, gates, &log);
    let runs = !log.has_errors();
    let notices = log.into_notices();
    let service = service_of(&expanded);
    let components = components_of(&expanded, &service, &notices);
    let lacking: Vec<String> = components
        .iter()
        .filter(|((section, _), verdict)| *section == Section::Extensions && verdict.lack.is_some())
        .map(|((_, id), _)| format!("\"{id}\""))
        .collect();
    let is_lack = |n: &Notice| {
        // An authenticator that is not here cannot be found; where it is, it will be.
        let names_lacking = || lacking.iter().any(|id| n.what.contains(id.as_str()));
        n.is_lack || (n.path.ends_with("::authenticator") && names_lacking())
    };
    if notices.iter().any(|n| n.severity == Severity::Error && !is_lack(n)) {
        let told = |n: &Notice| n.severity != Severity::Note && !is_lack(n);
        return Err(Report { notices: notices.into_iter().filter(told).collect() });
    }
    let of_telemetry = |n: &&Notice| n.severity == Severity::Error && is_below(&n.path, TELEMETRY);
    let telemetry_lacks =
        notices.iter().filter(of_telemetry).map(|n| (n.path.clone(), n.what.clone())).collect();
    let warnings = notices.into_iter().filter(|n| n.severity == Severity::Warning).collect();
    let plan = runs.then_some(plan);
    Ok(Examined { raw, expanded, service, components, telemetry_lacks, plan, warnings })
}

const TELEMETRY: &str = "service::telemetry";

/// The same once more, without a word: what was to say about it is said.
fn service_of(root: &Map) -> Service {
    let log = Log::default();
    let node = Node::new(At::default(), Value::Map(root.clone()));
    Block::new(&log, String::new(), &node, true).block("service", service::read)
}

fn components_of(
    root: &Map,
    service: &Service,
    notices: &[Notice],
) -> BTreeMap<(Section, Id), Verdict> {
    let mut out = BTreeMap::new();
    for section in Section::ALL {
        let Some(Value::Map(map)) = root.get(section.key()).map(|n| &n.value) else { continue };
        for id in map.iter().filter_map(|e| Id::parse(&e.key).ok()) {
            let path = format!("{}::{id}", section.key());
            let known = components::find(section, &id.kind);
            let lack = match known {
                None => Some("tracemill has no such component".to_owned()),
                Some(_) => notices
                    .iter()
                    .find(|n| n.severity == Severity::Error && is_below(&n.path, &path))
                    .map(|n| match n.path[path.len()..].trim_start_matches("::") {
                        "" => n.what.clone(),
                        key if key.ends_with("authenticator") => {
                            format!("{}: tracemill has none such", key.replace("::", "."))
                        }
                        key => format!("{}: {}", key.replace("::", "."), n.what),
                    }),
            };
            let in_use = is_named(service, section, &id);
            let component = known.map(|k| k.component);
            out.insert((section, id), Verdict { component, in_use, lack });
        }
    }
    out
}

/// Whether a pipeline, or `service.extensions`, names it in the role of its section.
fn is_named(service: &Service, section: Section, id: &Id) -> bool {
    match section {
        Section::Extensions => service.extensions.iter().any(|r| r.id == *id),
        _ => service.pipelines.iter().any(|draft| draft.names(section, id)),
    }
}

/// Whether `path` is `base` or a key in it.
fn is_below(path: &str, base: &str) -> bool {
    path.strip_prefix(base).is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
}
