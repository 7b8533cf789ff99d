//! A span of a policy test: what the file says of it, and its bytes.

use crate::config::read::Block;
use crate::config::tree::Value;
use crate::otlp::write;

/// When the first trace begins: 2026-01-01T00:00:00Z, in nanoseconds.
pub(super) const BEGIN: u64 = 1_767_225_600_000_000_000;
/// Spans that one entry may stand for.
const COUNT_MAX: u64 = 100_000;
/// Id of a parent that is not in the trace.
const REMOTE: u64 = u64::MAX;

const KINDS: [(&str, u64); 6] = [
    ("internal", 1),
    ("server", 2),
    ("client", 3),
    ("producer", 4),
    ("consumer", 5),
    ("unspecified", 0),
];
const CODES: [(&str, u64); 3] = [("unset", 0), ("ok", 1), ("error", 2)];

/// What a trace gives to each of its spans, unless the span says otherwise.
#[derive(Clone, Debug, Default)]
pub(super) struct Given {
    /// Attributes of the resource, `service.name` among them.
    resource: Vec<(String, Value)>,
    arrives: u64,
}

impl Given {
    pub(super) fn read(b: &mut Block<'_>, outer: &Self) -> Self {
        let mut resource = outer.resource.clone();
        if b.has("service") {
            put(&mut resource, "service.name".into(), Value::Text(b.text("service", "")));
        }
        for (key, value) in attributes(b, "resource") {
            put(&mut resource, key, value);
        }
        Self { resource, arrives: millis(b, "arrives_ms", outer.arrives) }
    }
}

fn put(attributes: &mut Vec<(String, Value)>, key: String, value: Value) {
    match attributes.iter_mut().find(|(known, _)| *known == key) {
        Some((_, old)) => *old = value,
        None => attributes.push((key, value)),
    }
}

/// One entry of `spans`.
#[derive(Debug)]
pub(super) struct Span {
    name: String,
    given: Given,
    /// Name of the instrumentation scope.
    scope: String,
    attributes: Vec<(String, Value)>,
    kind: u64,
    code: u64,
    message: String,
    /// Nanoseconds since the beginning.
    start: u64,
    end: u64,
    /// Number of the parent; 0 for a root.
    parent: u64,
    events: Vec<Event>,
    trace_state: String,
    flags: u32,
    request: u64,
    count: u64,
}

#[derive(Debug)]
struct Event {
    name: String,
    at: u64,
    attributes: Vec<(String, Value)>,
}

impl Span {
    /// When it arrives, nanoseconds since the beginning, and the number of its request.
    pub(super) fn arrival(&self) -> (u64, u64) {
        (self.given.arrives, self.request)
    }
}

/// Reads a span; its parent is read by who knows the others.
pub(super) fn read(b: &mut Block<'_>, given: &Given) -> Span {
    let given = Given::read(b, given);
    let start = millis(b, "start_ms", 0);
    let count = b.unsigned("count", 1);
    if count > COUNT_MAX {
        b.error_at("count", format!("more than {COUNT_MAX}"), "");
    }
    Span {
        name: b.text("name", ""),
        given,
        scope: b.text("scope", ""),
        attributes: attributes(b, "attributes"),
        kind: b.choice_any_case("kind", "internal", &KINDS, 0),
        code: b.choice_any_case("status", "unset", &CODES, 0),
        message: b.text("status_message", ""),
        start,
        end: start.saturating_add(millis(b, "duration_ms", 1_000_000)),
        parent: 0,
        events: b.list("events", |b| Event {
            name: b.text("name", ""),
            at: millis(b, "at_ms", start),
            attributes: attributes(b, "attributes"),
        }),
        trace_state: b.text("trace_state", ""),
        flags: b.unsigned32("flags", 0),
        request: b.unsigned("request", 0),
        count: count.min(COUNT_MAX),
    }
}

/// Sets the parent of span `at`: by default the first span is the root and the others are its
/// children.
///
/// # Errors
/// The names of the spans, if `parent` is none of them.
pub(super) fn set_parent(spans: &mut [Span], at: usize, parent: &str) -> Result<(), Vec<String>> {
    let number = |at: usize| at as u64 + 1;
    spans[at].parent = match spans.iter().position(|span| span.name == parent) {
        _ if parent.is_empty() => u64::from(at > 0),
        Some(found) => number(found),
        None if parent == "none" => 0,
        None if parent == "remote" => REMOTE,
        None => return Err(spans.iter().map(|span| span.name.clone()).collect()),
    };
    Ok(())
}

/// Milliseconds of the file, in nanoseconds.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "saturates")]
fn millis(b: &mut Block<'_>, key: &'static str, default: u64) -> u64 {
    if !b.has(key) {
        return default;
    }
    let millis = b.float(key, 0.0);
    if !(0.0..1e12).contains(&millis) {
        b.error_at(key, "wants milliseconds from 0", "");
    }
    (millis * 1e6) as u64
}

fn attributes(b: &mut Block<'_>, key: &'static str) -> Vec<(String, Value)> {
    b.open(key, |b| {
        let given = b.rest();
        given.into_iter().map(|(key, node)| (key, node.value.clone())).collect()
    })
}

/// A trace id in hex.
pub(super) fn id_of(hex: &str) -> Option<[u8; 16]> {
    let is_hex = hex.len() == 32 && hex.bytes().all(|byte| byte.is_ascii_hexdigit());
    u128::from_str_radix(hex, 16).ok().filter(|_| is_hex).map(u128::to_be_bytes)
}

/// The trace id of a test, which is the same whatever stands around it (FNV-1a of its name): a
/// probabilistic policy decides by it.
pub(super) fn id_for(name: &str) -> [u8; 16] {
    let step = |hash: u128, byte: u8| {
        (hash ^ u128::from(byte)).wrapping_mul(0x0000_0000_0100_0000_0000_0000_0000_013b)
    };
    name.bytes().fold(0x6c62_272e_07bb_0142_62b8_2175_6295_c58d, step).to_be_bytes()
}

/// Appends a request with these spans of trace `id`, each with its number in the trace. Neighbours
/// with one resource share it.
pub(super) fn request(id: &[u8; 16], spans: &[(usize, &Span)], out: &mut Vec<u8>) {
    let is_one = |(_, a): &(usize, &Span), (_, b): &(usize, &Span)| {
        a.given.resource == b.given.resource && a.scope == b.scope
    };
    for group in spans.chunk_by(is_one) {
        let first = group[0].1;
        write::message(out, 1, |out| {
            write::message(out, 1, |out| put_attributes(out, 1, &first.given.resource));
            write::message(out, 2, |out| {
                write::message(out, 1, |out| text(out, 1, &first.scope));
                for (number, span) in group {
                    for copy in 0..span.count {
                        write::message(out, 2, |out| span.put(id, *number, copy, out));
                    }
                }
            });
        });
    }
}

impl Span {
    fn put(&self, id: &[u8; 16], number: usize, copy: u64, out: &mut Vec<u8>) {
        // The first of several has the number of the entry, which its children name.
        let span_id = number as u64 + 1 + (copy << 32);
        write::bytes(out, 1, id);
        write::bytes(out, 2, &span_id.to_be_bytes());
        text(out, 3, &self.trace_state);
        if self.parent != 0 {
            write::bytes(out, 4, &self.parent.to_be_bytes());
        }
        text(out, 5, &self.name);
        write::varint(out, 6, self.kind);
        write::fixed64(out, 7, BEGIN.saturating_add(self.start));
        write::fixed64(out, 8, BEGIN.saturating_add(self.end));
        put_attributes(out, 9, &self.attributes);
        for event in &self.events {
            write::message(out, 11, |out| {
                write::fixed64(out, 1, BEGIN.saturating_add(event.at));
                text(out, 2, &event.name);
                put_attributes(out, 3, &event.attributes);
            });
        }
        write::message(out, 15, |out| {
            text(out, 2, &self.message);
            if self.code != 0 {
                write::varint(out, 3, self.code);
            }
        });
        if self.flags != 0 {
            write::fixed32(out, 16, self.flags);
        }
    }
}

fn text(out: &mut Vec<u8>, number: u32, text: &str) {
    if !text.is_empty() {
        write::bytes(out, number, text.as_bytes());
    }
}

fn put_attributes(out: &mut Vec<u8>, number: u32, attributes: &[(String, Value)]) {
    for (key, value) in attributes {
        write::message(out, number, |out| {
            text(out, 1, key);
            write::message(out, 2, |out| put_value(out, value));
        });
    }
}

/// An AnyValue, of the type that the value has in the file.
fn put_value(out: &mut Vec<u8>, value: &Value) {
    match value {
        Value::Null => {}
        Value::Text(text) => write::bytes(out, 1, text.as_bytes()),
        Value::Bool(on) => write::varint(out, 2, u64::from(*on)),
        Value::Int(int) => match i64::try_from(*int) {
            Ok(int) => write::varint(out, 3, int.cast_unsigned()),
            #[expect(clippy::cast_precision_loss, reason = "no int64: a double, as in YAML")]
            Err(_) => write::fixed64(out, 4, (*int as f64).to_bits()),
        },
        Value::Float(x) => write::fixed64(out, 4, x.to_bits()),
        Value::List(items) => write::message(out, 5, |out| {
            for item in items {
                write::message(out, 1, |out| put_value(out, &item.value));
            }
        }),
        Value::Map(map) => write::message(out, 6, |out| {
            for entry in map.iter() {
                write::message(out, 1, |out| {
                    text(out, 1, &entry.key);
                    write::message(out, 2, |out| put_value(out, &entry.node.value));
                });
            }
        }),
    }
}
