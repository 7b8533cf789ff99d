//! `resource` and `attributes` processors: lists of actions on attributes, the former on those of
//! each resource, the latter on those of each span, log record or data point. An action that adds,
//! changes or deletes an attribute runs here; others are refused by name, with what to do.

use crate::config::print::Out;
use crate::config::read::Block;
use crate::config::tree::{Node, Value};
use crate::otlp::edit::{Action, Edits, Source, Verb};
use crate::otlp::write;

const KEEP: &str = "do it in the agents, or keep this processor in a collector beside tracemill: \
                    `tracemill adopt` divides the configuration";

/// Reads a `resource` processor.
pub fn resource(b: &mut Block<'_>) -> Edits {
    Edits { resource: actions(b, "attributes"), record: Vec::new() }
}

/// Reads an `attributes` processor.
pub fn record(b: &mut Block<'_>) -> Edits {
    let record = actions(b, "actions");
    for key in ["include", "exclude"] {
        b.refuse(key, "choosing what is edited is not in this release", KEEP);
    }
    Edits { resource: Vec::new(), record }
}

fn actions(b: &mut Block<'_>, key: &'static str) -> Vec<Action> {
    let actions = b.list(key, action);
    if actions.is_empty() {
        let what = format!("missing required field \"{key}\"");
        b.error(what, &format!("{key}: [{{key: cluster, value: eu-1, action: insert}}]"));
    }
    actions.into_iter().flatten().collect()
}

fn action(b: &mut Block<'_>) -> Option<Action> {
    let key = b.text("key", "");
    let name = b.text("action", "").to_lowercase();
    let pattern = b.text_if_given("pattern");
    let converted_type = b.text_if_given("converted_type");
    let value = value(b, "value");
    let attribute = b.text_if_given("from_attribute");
    let context = b.text_if_given("from_context");
    let default = self::value(b, "default_value");
    let sources = [value.is_some(), !attribute.is_empty(), !context.is_empty()];
    let sources = sources.into_iter().filter(|&is_given| is_given).count();
    if !matches!(&*name, "extract" | "convert") {
        for (field, given) in [("pattern", &pattern), ("converted_type", &converted_type)] {
            let uses_it = field == "pattern" && matches!(&*name, "delete" | "hash");
            if !given.is_empty() && !uses_it {
                let what = format!("action \"{name}\" does not use the \"{field}\" field");
                b.start_error_at(field, what, "leave it out");
            }
        }
    }
    let goes_by_pattern = matches!(&*name, "delete" | "hash") && !pattern.is_empty();
    if key.is_empty() && !goes_by_pattern {
        b.start_error("missing required field \"key\"", "key: cluster");
    }
    let source = Source {
        attribute: Some(attribute).filter(|name| !name.is_empty() && value.is_none()),
        value: value.or(default),
    };
    match &*name {
        "insert" | "update" | "upsert" => {
            check_sources(b, sources, &source, &context);
            let verb = match &*name {
                "insert" => Verb::Insert(source),
                "update" => Verb::Update(source),
                _ => Verb::Upsert(source),
            };
            Some(Action { key, verb })
        }
        "delete" => {
            if sources > usize::from(!context.is_empty()) {
                let what = "action \"delete\" does not use \"value\" or \"from_attribute\"";
                b.start_error(what, "leave them out");
            }
            if !pattern.is_empty() {
                b.refuse_at("pattern", "deleting by pattern is not in this release", KEEP);
            }
            Some(Action { key, verb: Verb::Delete })
        }
        "hash" | "extract" | "convert" => {
            b.refuse_at("action", format!("action \"{name}\" is not in this release"), KEEP);
            None
        }
        _ => {
            let what = format!("unsupported action \"{name}\"");
            b.start_error_at("action", what, "one of insert, update, upsert, delete");
            None
        }
    }
}

fn check_sources(b: &Block<'_>, sources: usize, source: &Source, context: &str) {
    let right = "value: eu-1, or from_attribute: region";
    if sources > 1 {
        b.start_error("multiple value sources are set", right);
    } else if !context.is_empty() {
        let what = "values out of a client's headers are not in this release";
        b.refuse_at("from_context", what, KEEP);
    } else if *source == Source::default() {
        let what = "either \"value\", \"from_attribute\", \"from_context\" or \"default_value\" \
                    must be specified";
        b.start_error(what, right);
    }
}

/// A value of any type as an AnyValue message; a null is none.
fn value(b: &mut Block<'_>, key: &'static str) -> Option<Vec<u8>> {
    let node = b.node(key).filter(|node| node.value != Value::Null)?;
    b.record(key, shown(&node.value));
    if depth(&node.value) > DEPTH_MAX {
        b.refuse_at(key, format!("is nested deeper than {DEPTH_MAX}"), KEEP);
        return None;
    }
    let mut out = Vec::new();
    any_value(&node.value, &mut out);
    Some(out)
}

/// Lists and maps in each other. A request whose values are much deeper is refused.
const DEPTH_MAX: usize = 15;

fn depth(value: &Value) -> usize {
    match value {
        Value::List(items) => 1 + items.iter().map(|node| depth(&node.value)).max().unwrap_or(0),
        Value::Map(map) => 1 + map.iter().map(|e| depth(&e.node.value)).max().unwrap_or(0),
        _ => 0,
    }
}

/// AnyValue fields, one per type.
const STRING: u32 = 1;
const BOOL: u32 = 2;
const INT: u32 = 3;
const DOUBLE: u32 = 4;
const LIST: u32 = 5;
const MAP: u32 = 6;

/// The content of an AnyValue. Whole numbers from 2⁶³ wrap round, as in the collector.
fn any_value(value: &Value, out: &mut Vec<u8>) {
    match value {
        Value::Null => {}
        Value::Text(text) => write::bytes(out, STRING, text.as_bytes()),
        Value::Bool(flag) => write::varint(out, BOOL, u64::from(*flag)),
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "it wraps")]
        Value::Int(n) => write::varint(out, INT, *n as u64),
        Value::Float(x) => write::fixed64(out, DOUBLE, x.to_bits()),
        Value::List(items) => write::message(out, LIST, |out| {
            for item in items {
                write::message(out, 1, |out| any_value(&item.value, out));
            }
        }),
        Value::Map(map) => write::message(out, MAP, |out| {
            for entry in map.iter() {
                write::message(out, 1, |out| {
                    write::bytes(out, 1, entry.key.as_bytes());
                    write::message(out, 2, |out| any_value(&entry.node.value, out));
                });
            }
        }),
    }
}

/// The value as YAML that reads back as itself.
fn shown(value: &Value) -> Out {
    match value {
        Value::Null => Out::plain("null"),
        Value::Text(text) => Out::text(text),
        Value::Bool(flag) => Out::plain(flag),
        Value::Int(n) => Out::plain(n),
        Value::Float(x) if x.is_nan() => Out::plain(".nan"),
        Value::Float(x) if x.is_infinite() => Out::plain(if *x > 0.0 { ".inf" } else { "-.inf" }),
        Value::Float(x) => Out::plain(format_args!("{x:?}")),
        Value::List(items) => {
            Out::List(items.iter().map(|Node { value, .. }| shown(value)).collect())
        }
        Value::Map(map) => Out::Map(
            map.iter().map(|entry| (entry.key.clone(), shown(&entry.node.value))).collect(),
        ),
    }
}
