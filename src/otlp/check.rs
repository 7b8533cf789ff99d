//! Checks resources, scopes and spans down to the last value, as the collector does by decoding
//! them: what is kept is merged with others' data, so nothing broken may come in.
//!
//! The texts of errors are the collector's (loadbalancing 8.4).

use super::value::Fields;
use super::wire::{Extent, I32, I64, LEN, Reader, VARINT};
use super::{Error, usual};

/// Deepest nesting of values. The collector has no limit; SDKs have one of a few levels.
pub const VALUE_DEPTH_MAX: u32 = 64;

/// What a known field must be.
#[derive(Clone, Copy)]
enum Kind {
    /// One of the wire types that is no length.
    Plain(u8),
    /// A string, or bytes of any length.
    Bytes,
    /// Empty or so many bytes.
    Id(u32),
    /// A message.
    Nested(&'static [Known]),
    /// An AnyValue.
    Value,
    /// A KeyValue.
    Entry,
}

type Known = (u32, &'static str, Kind);

/// Fields of a Resource.
const RESOURCE: &[Known] = &[
    (1, "Attributes", Kind::Entry),
    (2, "DroppedAttributesCount", Kind::Plain(VARINT)),
    (3, "EntityRefs", Kind::Nested(ENTITY_REF)),
];
const ENTITY_REF: &[Known] = &[
    (1, "SchemaUrl", Kind::Bytes),
    (2, "Type", Kind::Bytes),
    (3, "IdKeys", Kind::Bytes),
    (4, "DescriptionKeys", Kind::Bytes),
];
/// Fields of an InstrumentationScope.
const SCOPE: &[Known] = &[
    (1, "Name", Kind::Bytes),
    (2, "Version", Kind::Bytes),
    (3, "Attributes", Kind::Entry),
    (4, "DroppedAttributesCount", Kind::Plain(VARINT)),
];
const EVENT: &[Known] = &[
    (1, "TimeUnixNano", Kind::Plain(I64)),
    (2, "Name", Kind::Bytes),
    (3, "Attributes", Kind::Entry),
    (4, "DroppedAttributesCount", Kind::Plain(VARINT)),
];
const LINK: &[Known] = &[
    (1, "TraceId", Kind::Id(16)),
    (2, "SpanId", Kind::Id(8)),
    (3, "TraceState", Kind::Bytes),
    (4, "Attributes", Kind::Entry),
    (5, "DroppedAttributesCount", Kind::Plain(VARINT)),
    (6, "Flags", Kind::Plain(I32)),
];
const ARRAY: &[Known] = &[(1, "Values", Kind::Value)];
const KV_LIST: &[Known] = &[(1, "Values", Kind::Entry)];
const VALUE: &[Known] = &[
    (1, "StringValue", Kind::Bytes),
    (2, "BoolValue", Kind::Plain(VARINT)),
    (3, "IntValue", Kind::Plain(VARINT)),
    (4, "DoubleValue", Kind::Plain(I64)),
    (5, "ArrayValue", Kind::Nested(ARRAY)),
    (6, "KvlistValue", Kind::Nested(KV_LIST)),
    (7, "BytesValue", Kind::Bytes),
];
const ENTRY: &[Known] = &[(1, "Key", Kind::Bytes), (2, "Value", Kind::Value)];

/// Checks a Resource message.
///
/// # Errors
/// The first thing that is wrong.
pub fn resource(body: &[u8], message: Extent) -> Result<(), Error> {
    walk(RESOURCE, body, message, 0)
}

/// Checks an InstrumentationScope message.
///
/// # Errors
/// The first thing that is wrong.
pub fn scope(body: &[u8], message: Extent) -> Result<(), Error> {
    walk(SCOPE, body, message, 0)
}

pub(super) fn event(body: &[u8], message: Extent) -> Result<(), Error> {
    walk(EVENT, body, message, 0)
}

pub(super) fn link(body: &[u8], message: Extent) -> Result<(), Error> {
    walk(LINK, body, message, 0)
}

/// Checks a KeyValue and says where its key and its value lie.
pub(super) fn entry(body: &[u8], message: Extent) -> Result<(Extent, Extent), Error> {
    let bytes = message.of(body);
    if let Some((key, value)) = usual::entry(bytes) {
        let place = Extent::within(body, value);
        if !usual::is_flat(value) {
            walk(VALUE, body, place, 0)?;
        }
        return Ok((Extent::within(body, key), place));
    }
    entry_slow(body, message)
}

#[cold]
fn entry_slow(body: &[u8], message: Extent) -> Result<(Extent, Extent), Error> {
    walk(ENTRY, body, message, 0)?;
    let empty = Extent { start: message.end, end: message.end };
    let (mut key, mut value) = (empty, empty);
    let mut reader = Reader::new(body, message);
    while !reader.at_end() {
        let tag = reader.tag()?;
        match tag.field {
            1 => key = reader.content()?,
            2 => {
                let next = reader.content()?;
                // Of several the last counts that says something.
                if value.of(body).is_empty() || says_something(next.of(body)) {
                    value = next;
                }
            }
            _ => reader.skip(tag)?,
        }
    }
    Ok((key, value))
}

fn says_something(any_value: &[u8]) -> bool {
    Fields::of(any_value).any(|(field, _)| (1..=8).contains(&field))
}

fn walk(known: &[Known], body: &[u8], message: Extent, depth: u32) -> Result<(), Error> {
    if depth > VALUE_DEPTH_MAX {
        return Err(Error::ValueTooDeep { at: message.start });
    }
    let mut reader = Reader::new(body, message);
    while !reader.at_end() {
        let tag = reader.tag()?;
        let Some(&(_, name, kind)) = known.iter().find(|(field, ..)| *field == tag.field) else {
            reader.skip(tag)?;
            continue;
        };
        if let Kind::Plain(wire) = kind {
            if tag.wire != wire {
                return Err(Error::WrongWireType { field: name, wire: tag.wire, at: tag.at });
            }
            reader.skip(tag)?;
            continue;
        }
        let content = reader.content_of(tag, name)?;
        match kind {
            Kind::Plain(_) | Kind::Bytes => {}
            Kind::Id(len) => id(content, len)?,
            Kind::Nested(fields) => walk(fields, body, content, depth + 1)?,
            Kind::Value => walk(VALUE, body, content, depth + 1)?,
            Kind::Entry => walk(ENTRY, body, content, depth + 1)?,
        }
    }
    Ok(())
}

/// Checks the length of an id.
pub(super) const fn id(content: Extent, len: u32) -> Result<(), Error> {
    match content.len() {
        0 => Ok(()),
        n if n == len => Ok(()),
        _ if len == 16 => Err(Error::TraceIdLength { at: content.start }),
        _ => Err(Error::SpanIdLength { at: content.start }),
    }
}

/// Checks a Status message; its code, if it says one.
pub(super) fn status(body: &[u8], message: Extent) -> Result<Option<u64>, Error> {
    let mut reader = Reader::new(body, message);
    let mut code = None;
    while !reader.at_end() {
        let tag = reader.tag()?;
        match (tag.field, tag.wire) {
            (2, LEN) => reader.content().map(drop)?,
            (3, VARINT) => code = Some(reader.varint()?),
            (2, wire) => return Err(Error::WrongWireType { field: "Message", wire, at: tag.at }),
            (3, wire) => return Err(Error::WrongWireType { field: "Code", wire, at: tag.at }),
            _ => reader.skip(tag)?,
        }
    }
    Ok(code)
}
