//! Paths: which exist (tailsampling 7.3), and what they read from the bytes of a span.

use std::borrow::Cow;

use super::error::EvalError;
use super::eval::{Key, Scene};
use super::value::{Map, Time, Val, attribute};
use super::{List, trace_state};
use crate::otlp::value::{Field, Fields};

/// What a path reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Target {
    /// A map that is looked into by keys, or as a whole.
    Attributes(Source),
    /// The span's attribute of the first key, and the position of that key among the wanted.
    Wanted(u16),
    /// A text field.
    Text(Source, u32),
    /// A 32-bit count.
    Count(Source, u32),
    /// An enum of the span: its number.
    Kind,
    KindText,
    KindSymbol,
    StatusCode,
    StatusMessage,
    Status,
    /// Unix nanoseconds as a number.
    Nanos(Source, u32),
    Time(Source, u32),
    TraceId,
    TraceIdText,
    SpanId(u32),
    SpanIdText(u32),
    TraceState,
    Flags,
    /// Events or links as a whole.
    Parts(u32),
    /// A map that is empty whenever conditions are judged.
    Nothing,
    /// Nil, whatever the keys are.
    Nil,
    /// Keys are read, and the outcome is nil.
    KeyedNil,
    /// The empty text: schema urls do not reach conditions (tailsampling 2.12).
    EmptyText,
    /// The collector gives the event no index here.
    EventIndex,
}

/// The message that a path reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Source {
    Resource,
    Scope,
    Span,
    Event,
}

impl Source {
    #[inline]
    fn of<'a>(self, scene: &Scene<'a>) -> &'a [u8] {
        match self {
            Self::Resource => scene.resource,
            Self::Scope => scene.scope,
            Self::Span => scene.span,
            Self::Event => scene.event.unwrap_or(&[]),
        }
    }

    /// The number of the repeated field of attributes.
    fn attributes(self) -> u32 {
        match self {
            Self::Resource => 1,
            Self::Scope | Self::Event => 3,
            Self::Span => 9,
        }
    }
}

/// First names of complete paths.
pub(super) fn is_context(name: &str, list: List) -> bool {
    matches!(name, "span" | "resource" | "instrumentation_scope" | "scope" | "otelcol")
        || name == "spanevent" && list == List::SpanEvent
}

/// What the names mean; `fields` are those after the context, each with whether it has keys.
///
/// # Errors
///
/// Why this is no path; `full` is its text.
pub(super) fn resolve(
    context: &str,
    fields: &[(&str, bool)],
    full: &str,
    list: List,
) -> Result<Target, String> {
    let (first, _) = fields[0];
    let own = if list == List::Span { "span" } else { "spanevent" };
    let no_path = |segment: &str, context: &str| {
        format!(
            "segment {segment:?} from path {full:?} is not a valid path nor a valid OTTL keyword \
             for the {context} context"
        )
    };
    if first == "cache" && context != own {
        let instead = full.replacen(&format!("{context}."), &format!("{own}."), 1);
        return Err(format!(
            "access to cache must be performed using the same context, please replace {full:?} \
             with {instead:?}"
        ));
    }
    let second = fields.get(1).map(|(name, _)| *name);
    let source = match context {
        "resource" => Source::Resource,
        "scope" | "instrumentation_scope" => Source::Scope,
        "spanevent" => Source::Event,
        _ => Source::Span,
    };
    let (target, used, keyed) = match (context, first) {
        _ if first == "cache" => (Target::Nothing, 1, Some(0)),
        ("otelcol", _) => return otelcol(fields).map_err(|segment| no_path(segment, "otelcol")),
        (_, "attributes") => (Target::Attributes(source), 1, Some(0)),
        ("resource" | "scope" | "instrumentation_scope", "schema_url") => {
            (Target::EmptyText, 1, None)
        }
        _ => {
            let (target, used) = match source {
                Source::Span => span(first, second).map_err(|segment| no_path(segment, context))?,
                _ => plain(source, first).ok_or_else(|| no_path(first, context))?,
            };
            (target, used, (target == Target::TraceState).then_some(0))
        }
    };
    if let Some((name, _)) = fields.get(used) {
        return Err(format!(
            "the path section {name:?} was not used by the context - this likely means you are \
             using extra path sections"
        ));
    }
    if let Some((_, (name, _))) =
        fields.iter().enumerate().find(|(at, (_, keys))| *keys && Some(*at) != keyed)
    {
        return Err(format!(
            "the keys indexing {name:?} were not used by the context - this likely means you are \
             trying to index a path that does not support indexing"
        ));
    }
    Ok(target)
}

/// Names outside the span's own.
fn plain(source: Source, name: &str) -> Option<(Target, usize)> {
    let target = match (source, name) {
        (Source::Resource, "dropped_attributes_count") => Target::Count(source, 2),
        (Source::Scope, "name") => Target::Text(source, 1),
        (Source::Scope, "version") => Target::Text(source, 2),
        (Source::Scope | Source::Event, "dropped_attributes_count") => Target::Count(source, 4),
        (Source::Event, "name") => Target::Text(source, 2),
        (Source::Event, "time_unix_nano") => Target::Nanos(source, 1),
        (Source::Event, "time") => Target::Time(source, 1),
        (Source::Event, "event_index") => Target::EventIndex,
        _ => return None,
    };
    Some((target, 1))
}

/// What it reads and how many names say so.
fn span<'n>(first: &'n str, second: Option<&'n str>) -> Result<(Target, usize), &'n str> {
    let source = Source::Span;
    let one = |target| Ok((target, 1));
    let id = |whole, text| match second {
        None => Ok((whole, 1)),
        Some("string") => Ok((text, 2)),
        Some(other) => Err(other),
    };
    match first {
        "trace_id" => id(Target::TraceId, Target::TraceIdText),
        "span_id" => id(Target::SpanId(2), Target::SpanIdText(2)),
        "parent_span_id" => id(Target::SpanId(4), Target::SpanIdText(4)),
        "trace_state" => one(Target::TraceState),
        "name" => one(Target::Text(source, 5)),
        "kind" => match second {
            None => one(Target::Kind),
            Some("string") => Ok((Target::KindText, 2)),
            Some("deprecated_string") => Ok((Target::KindSymbol, 2)),
            Some(other) => Err(other),
        },
        "start_time_unix_nano" => one(Target::Nanos(source, 7)),
        "end_time_unix_nano" => one(Target::Nanos(source, 8)),
        "start_time" => one(Target::Time(source, 7)),
        "end_time" => one(Target::Time(source, 8)),
        "dropped_attributes_count" => one(Target::Count(source, 10)),
        "events" => one(Target::Parts(11)),
        "dropped_events_count" => one(Target::Count(source, 12)),
        "links" => one(Target::Parts(13)),
        "dropped_links_count" => one(Target::Count(source, 14)),
        "status" => match second {
            None => one(Target::Status),
            Some("code") => Ok((Target::StatusCode, 2)),
            Some("message") => Ok((Target::StatusMessage, 2)),
            Some(other) => Err(other),
        },
        "flags" => one(Target::Flags),
        other => Err(other),
    }
}

/// What the collector knows of the request, which is nothing behind a tail sampler.
fn otelcol<'n>(fields: &[(&'n str, bool)]) -> Result<Target, &'n str> {
    let keyed = fields.last().is_some_and(|(_, keys)| *keys);
    if let Some((name, _)) = fields[..fields.len() - 1].iter().find(|(_, keys)| *keys) {
        return Err(name);
    }
    let names: Vec<&str> = fields.iter().map(|(name, _)| *name).collect();
    match (names.as_slice(), keyed) {
        (["client", "addr"], false) => Ok(Target::Nil),
        (["client", "metadata"] | ["client", "auth", "attributes"], true) => Ok(Target::KeyedNil),
        (["grpc", "metadata"], true) => Ok(Target::Nil),
        (
            ["client", "metadata"] | ["client", "auth", "attributes"] | ["grpc", "metadata"],
            false,
        ) => Ok(Target::Nothing),
        _ => Err(names.last().copied().unwrap_or_default()),
    }
}

fn last_bytes(message: &[u8], number: u32) -> &[u8] {
    Fields::of(message).fold(&[][..], |before, field| match field {
        (n, Field::Bytes(bytes)) if n == number => bytes,
        _ => before,
    })
}

fn last_number(message: &[u8], number: u32) -> u64 {
    Fields::of(message).fold(0, |before, field| match field {
        (n, Field::Varint(value) | Field::Fixed64(value)) if n == number => value,
        (n, Field::Fixed32(value)) if n == number => u64::from(value),
        _ => before,
    })
}

/// Field `number` of the status; of several statuses, the last that says.
fn status(span: &[u8]) -> (&[u8], u64) {
    let (mut message, mut code): (&[u8], u64) = (&[], 0);
    for (number, field) in Fields::of(span) {
        let Field::Bytes(status) = field else { continue };
        for (inner, field) in Fields::of(status).filter(|_| number == 15) {
            match field {
                Field::Bytes(text) if inner == 2 => message = text,
                Field::Varint(n) if inner == 3 => code = n,
                _ => {}
            }
        }
    }
    (message, code)
}

#[expect(clippy::cast_possible_truncation, reason = "enums are 32 bits wide")]
fn enum_number(value: u64) -> i64 {
    i64::from(value as i32)
}

#[expect(clippy::cast_possible_truncation, reason = "counts are 32 bits wide")]
fn count(value: u64) -> i64 {
    i64::from(value as u32)
}

/// Absent and malformed ids are zero.
fn id<const N: usize>(message: &[u8], number: u32) -> [u8; N] {
    last_bytes(message, number).try_into().unwrap_or([0; N])
}

const KINDS: [(&str, &str); 6] = [
    ("Unspecified", "SPAN_KIND_UNSPECIFIED"),
    ("Internal", "SPAN_KIND_INTERNAL"),
    ("Server", "SPAN_KIND_SERVER"),
    ("Client", "SPAN_KIND_CLIENT"),
    ("Producer", "SPAN_KIND_PRODUCER"),
    ("Consumer", "SPAN_KIND_CONSUMER"),
];

fn kind_names(span: &[u8]) -> (&'static str, &'static str) {
    let kind = usize::try_from(enum_number(last_number(span, 6))).ok();
    kind.and_then(|kind| KINDS.get(kind)).copied().unwrap_or_default()
}

/// Is the span without a parent?
pub(super) fn is_root(span: &[u8]) -> bool {
    id::<8>(span, 4) == [0; 8]
}

/// Lower-case hexadecimal digits.
pub(super) fn hex(bytes: &[u8]) -> Vec<u8> {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digit = |nibble: u8| DIGITS[usize::from(nibble)];
    bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]).collect()
}

fn text(bytes: &[u8]) -> Val<'_> {
    Val::Str(Cow::Borrowed(bytes))
}

/// Reads what a path leads to.
pub(super) fn read<'a>(
    target: Target,
    keys: &'a [Key],
    scene: &Scene<'a>,
) -> Result<Val<'a>, EvalError> {
    let span = scene.span;
    Ok(match target {
        Target::Attributes(source) => {
            let (message, field) = (source.of(scene), source.attributes());
            match keys.split_first() {
                None => Val::Map(Map::Wire(message, field)),
                Some((key, rest)) => {
                    inside(attribute(message, field, &key.text(scene)?), rest, scene)?
                }
            }
        }
        Target::Wanted(position) => {
            let (key, rest) = keys.split_first().expect("it has a key");
            let value = match scene.noted {
                Some(noted) => noted.attribute(position),
                None => attribute(span, Source::Span.attributes(), &key.text(scene)?),
            };
            inside(value, rest, scene)?
        }
        Target::Text(source, field) => text(last_bytes(source.of(scene), field)),
        Target::Count(source, field) => Val::Int(count(last_number(source.of(scene), field))),
        Target::Kind => Val::Int(enum_number(last_number(span, 6))),
        Target::KindText => text(kind_names(span).0.as_bytes()),
        Target::KindSymbol => text(kind_names(span).1.as_bytes()),
        Target::StatusCode => Val::Int(enum_number(status(span).1)),
        Target::StatusMessage => text(status(span).0),
        Target::Status => Val::Status,
        Target::Nanos(source, field) => Val::Int(nanos(source, field, scene)),
        Target::Time(source, field) => {
            let nanos = nanos(source, field, scene);
            Val::Time(Time::utc(i128::from(nanos)))
        }
        Target::TraceId => Val::TraceId(id(span, 1)),
        Target::TraceIdText => Val::text(hex(&id::<16>(span, 1))),
        Target::SpanId(field) => Val::SpanId(id(span, field)),
        Target::SpanIdText(field) => Val::text(hex(&id::<8>(span, field))),
        Target::TraceState => trace_state(last_bytes(span, 3), keys)?,
        Target::Flags => Val::Int(count(last_number(span, 16))),
        Target::Parts(field) => Val::Parts(span, field),
        Target::Nothing | Target::KeyedNil => match keys.first() {
            None => Val::Map(Map::Made(Vec::new())),
            Some(key) => key.text(scene).map(|_| Val::Nil)?,
        },
        Target::Nil => Val::Nil,
        Target::EmptyText => text(&[]),
        Target::EventIndex => {
            return Err(EvalError::Failed("no 'event_index' property has been set"));
        }
    })
}

/// The header as a whole, or one of its members.
fn trace_state<'a>(header: &'a [u8], keys: &[Key]) -> Result<Val<'a>, EvalError> {
    Ok(match keys.first() {
        None => text(header),
        Some(key) => match (trace_state::members(header), key) {
            (None, _) => Val::Nil,
            (Some(members), Key::Str(key)) => {
                let member = members.iter().find(|(name, _)| *name == key.as_slice());
                text(member.map_or(&[], |(_, value)| value))
            }
            _ => {
                let what = "trace_state indexing type must be a string";
                return Err(EvalError::Failed(what));
            }
        },
    })
}

fn nanos(source: Source, field: u32, scene: &Scene<'_>) -> i64 {
    let nanos = match (source, field, scene.noted) {
        (Source::Span, 7, Some(noted)) => noted.facts.start,
        (Source::Span, 8, Some(noted)) => noted.facts.end,
        _ => last_number(source.of(scene), field),
    };
    nanos.cast_signed()
}

/// What lies in an attribute under `keys`; nil if there is no attribute.
fn inside<'a>(
    attribute: Option<Val<'a>>,
    keys: &'a [Key],
    scene: &Scene<'a>,
) -> Result<Val<'a>, EvalError> {
    let Some(mut value) = attribute else { return Ok(Val::Nil) };
    for key in keys {
        value = match &value {
            Val::Map(map) => match map.get(&key.text(scene)?) {
                Some(inner) => inner,
                None => return Ok(Val::Nil),
            },
            Val::List(list) => {
                let index = key.index(scene)?;
                list.get(index).ok_or(EvalError::Failed("index out of bounds"))?
            }
            other => {
                let got = other.type_name();
                return Err(EvalError::Type { want: "a type that supports indexing", got });
            }
        };
    }
    Ok(value)
}
