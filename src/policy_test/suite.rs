//! A file of policy tests: the sampler it names, and traces with the verdict that is expected.
//!
//! Strict: unknown keys, wrong types, a policy or a parent that does not exist are errors, each
//! with its line. What a trace leaves out has a default, so that a short test is short.

use std::collections::BTreeSet;
use std::path::Path;

use crate::config::components::tail_sampling;
use crate::config::expand::Env;
use crate::config::gates;
use crate::config::ids::Id;
use crate::config::read::Block;
use crate::config::report::{At, Log, did_you_mean, quote};
use crate::config::source;
use crate::config::tree::{Map, Node, Value};
use crate::config::{Notice, Report};
use crate::sample::stats::Outcome;
use crate::sample::{End, Options};

use super::span::{self, Given, Span};

/// Sections of a collector configuration that do not matter to its policies.
const OTHER_SECTIONS: [&str; 6] =
    ["receivers", "exporters", "connectors", "extensions", "service", "tracemill"];

/// Verdicts as they are written.
const VERDICTS: [(&str, End); 5] = [
    ("sampled", End::Decided(Outcome::Sampled)),
    ("not_sampled", End::Decided(Outcome::NotSampled)),
    ("dropped", End::Decided(Outcome::Dropped)),
    ("too_large", End::TooLarge),
    ("evicted", End::Evicted),
];

/// A file, read.
#[derive(Debug)]
pub(super) struct Suite {
    pub(super) options: Options,
    /// All traces come to one sampler.
    pub(super) together: bool,
    pub(super) traces: Vec<Trace>,
    /// Warnings and notes.
    pub(super) notices: Vec<Notice>,
}

/// A trace and what is expected of it.
#[derive(Debug)]
pub(super) struct Trace {
    pub(super) name: String,
    pub(super) id: [u8; 16],
    pub(super) expect: End,
    pub(super) policy: Option<String>,
    pub(super) spans: Vec<Span>,
}

/// Reads the file at `path`.
///
/// # Errors
/// Everything that is wrong with it, or with the configuration it names.
pub(super) fn read(path: &str, env: Env<'_>) -> Result<Suite, Report> {
    let mut log = Log::default();
    let suite =
        source::file(path, env, &mut log).and_then(|root| whole(path, &root, env, &mut log));
    let failed = log.has_errors();
    let notices = log.into_notices();
    match suite {
        Some(suite) if !failed => Ok(Suite { notices, ..suite }),
        _ => Err(Report { notices }),
    }
}

fn whole(path: &str, root: &Node, env: Env<'_>, log: &mut Log) -> Option<Suite> {
    let gates = match root_map(root).and_then(|map| map.get("feature_gates")).map(|n| &n.value) {
        Some(Value::Text(text)) => gates::read(std::slice::from_ref(text), log),
        _ => gates::read(&[], log),
    };
    let beside = match root_map(root).and_then(|map| map.get("config")) {
        Some(Node { value: Value::Text(file), .. }) => {
            Some(source::file(&near(path, file), env, log)?)
        }
        _ => None,
    };
    let log = &*log;
    let mut b = Block::new(log, String::new(), root, true);
    b.text("feature_gates", "");
    let wanted = b.text("processor", "");
    b.text("config", "");
    let blocks = blocks(&mut b, root, beside.as_ref());
    let sampler = chosen(&b, log, blocks, &wanted);
    let options = sampler
        .map(|(path, node)| options(log, path, node, |b| tail_sampling::read(b, gates, &[])));
    let together = b.flag("together", false);
    let mut names = BTreeSet::new();
    let traces = b.list("traces", |b| trace(b, options.as_ref(), &mut names));
    if traces.is_empty() {
        b.error("no traces: there is nothing to test", "traces: [...]");
    }
    b.finish();
    Some(Suite { options: options?, together, traces, notices: Vec::new() })
}

fn options(
    log: &Log,
    path: String,
    node: &Node,
    read: impl FnOnce(&mut Block<'_>) -> Options,
) -> Options {
    let mut b = Block::new(log, path, node, true);
    let options = read(&mut b);
    b.finish();
    options
}

fn root_map(root: &Node) -> Option<&Map> {
    match &root.value {
        Value::Map(map) => Some(map),
        _ => None,
    }
}

/// `file`, seen from the directory of `path`.
fn near(path: &str, file: &str) -> String {
    let directory = Path::new(path).parent().unwrap_or_else(|| Path::new(""));
    directory.join(file).to_string_lossy().into_owned()
}

/// A sampler's id (empty for one written in place), the path of its block, and the block.
type Sampler<'a> = (String, String, &'a Node);

/// The samplers that the file offers, in whichever of three ways.
fn blocks<'a>(b: &mut Block<'_>, root: &'a Node, beside: Option<&'a Node>) -> Vec<Sampler<'a>> {
    let map = root_map(root);
    let in_place = b.node("tail_sampling").and(map).and_then(|m| m.get("tail_sampling"));
    let whole = b.node("processors").is_some();
    if whole {
        OTHER_SECTIONS.iter().for_each(|section| _ = b.node(section));
    }
    let ways = [in_place.is_some(), whole, beside.is_some()];
    if ways.iter().filter(|given| **given).count() > 1 {
        b.error("more than one configuration", "one of config, tail_sampling and processors");
    }
    if let Some(node) = in_place {
        return vec![(String::new(), "tail_sampling".into(), node)];
    }
    let processors = beside.map_or(map, root_map).and_then(|m| m.get("processors"));
    let entries = processors.and_then(root_map).into_iter().flat_map(Map::iter);
    let is_sampler = |key: &str| Id::parse(key).is_ok_and(|id| id.kind == tail_sampling::TYPE);
    entries
        .filter(|entry| is_sampler(&entry.key))
        .map(|e| (e.key.clone(), format!("processors::{}", e.key), &e.node))
        .collect()
}

fn chosen<'a>(
    b: &Block<'_>,
    log: &Log,
    samplers: Vec<Sampler<'a>>,
    wanted: &str,
) -> Option<(String, &'a Node)> {
    let names: Vec<String> = samplers.iter().map(|(id, ..)| id.clone()).collect();
    let all = names.join(", ");
    let mut fitting = samplers.into_iter().filter(|(id, ..)| wanted.is_empty() || id == wanted);
    match (fitting.next(), fitting.next()) {
        (Some((_, path, node)), None) => return Some((path, node)),
        (Some(_), Some(_)) => {
            let right = format!("processor: one of {all}");
            b.error("the configuration has several tail_sampling processors", &right);
        }
        _ if !wanted.is_empty() => {
            let meant = did_you_mean(wanted, names.iter().map(String::as_str));
            let right = match meant {
                Some(meant) => format!("did you mean {meant}?"),
                None => format!("there are: {all}"),
            };
            b.error_at("processor", format!("{} is not there", quote(wanted)), &right);
        }
        _ if !log.has_errors() => {
            let right =
                "config: collector.yaml, or a tail_sampling block, or a whole configuration";
            b.error("no tail_sampling processor to test", right);
        }
        _ => {}
    }
    None
}

fn trace(b: &mut Block<'_>, options: Option<&Options>, names: &mut BTreeSet<String>) -> Trace {
    let name = b.text("name", "");
    if name.is_empty() {
        b.error("a trace wants a name", "name: what this trace shows");
    } else if !names.insert(name.clone()) {
        b.error_at("name", format!("{} stands twice", quote(&name)), "");
    }
    if !b.has("expect") {
        b.error("it is not said what is expected", "expect: sampled, not_sampled or dropped");
    }
    let expect = b.choice("expect", "sampled", &VERDICTS, End::Evicted);
    let policy = Some(b.text("policy", "")).filter(|policy| !policy.is_empty());
    if let (Some(policy), Some(options)) = (&policy, options) {
        check_policy(b, policy, expect, options);
    }
    let id = b.text("trace_id", "");
    let id = match span::id_of(&id) {
        _ if id.is_empty() => span::id_for(&name),
        Some(id) => id,
        None => {
            b.error_at("trace_id", "wants 32 hex digits", "");
            [0; 16]
        }
    };
    let given = Given::read(b, &Given::default());
    let mut parents: Vec<(String, At)> = Vec::new();
    let mut spans: Vec<Span> = b.list("spans", |b| {
        let at = b.place_of("parent");
        parents.push((if b.has("parent") { b.text("parent", "") } else { String::new() }, at));
        span::read(b, &given)
    });
    if spans.is_empty() {
        b.error("a trace wants spans", "spans: [{}]   # one span, all defaults");
    }
    for (i, (parent, at)) in parents.iter().enumerate() {
        if let Err(known) = span::set_parent(&mut spans, i, parent) {
            let meant = did_you_mean(parent, known.iter().map(String::as_str));
            let right = match meant {
                Some(meant) => format!("did you mean {meant}?"),
                None => "a span's name, none (a root) or remote (not in this trace)".into(),
            };
            let path = format!("spans[{i}]::parent");
            b.error_of_entry(
                &path,
                *at,
                format!("{} is no span of this trace", quote(parent)),
                &right,
            );
        }
    }
    Trace { name, id, expect, policy, spans }
}

fn check_policy(b: &Block<'_>, policy: &str, expect: End, options: &Options) {
    let names = || options.policies.iter().map(|p| p.name.as_str());
    let decided = [Outcome::Sampled, Outcome::Dropped].map(End::Decided);
    if !decided.contains(&expect) {
        let what = format!("no policy decides when a trace is {}", expect.name());
        b.error_at("policy", what, "leave it out");
    } else if !names().any(|name| name == policy) {
        let right = match did_you_mean(policy, names()) {
            Some(meant) => format!("did you mean {meant}?"),
            None => format!("there are: {}", names().collect::<Vec<_>>().join(", ")),
        };
        b.error_at("policy", format!("there is no policy {}", quote(policy)), &right);
    }
}
