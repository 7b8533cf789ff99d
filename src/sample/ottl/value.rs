//! Values while a condition is evaluated: borrowed from the span's bytes or from the condition as
//! long as no function makes new ones.
//!
//! The types are those that the collector's comparisons tell apart, also where they hold the same:
//! a list of an attribute, one that a condition spells out, and one that was split from a text are
//! three types (tailsampling 7.2).

use std::borrow::Cow;

use crate::otlp::value::{Field, Fields, Value, attributes, items, key_value};

/// Values within values are looked at so deep.
pub(super) const DEPTH_MAX: usize = 64;

/// A point in time: nanoseconds since 1970 and the zone that its parts are read in.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Time {
    pub(super) nanos: i128,
    /// Seconds east of Greenwich.
    pub(super) offset: i32,
}

impl Time {
    pub(super) fn utc(nanos: i128) -> Self {
        Self { nanos, offset: 0 }
    }

    /// Nanoseconds since 1970, wrapped around as Go's are.
    #[expect(clippy::cast_possible_truncation, reason = "wraps as in Go")]
    pub(super) fn unix_nanos(self) -> i64 {
        self.nanos as i64
    }
}

/// A value.
#[derive(Clone, Debug)]
pub(super) enum Val<'a> {
    Nil,
    Bool(bool),
    Int(i64),
    Double(f64),
    Str(Cow<'a, [u8]>),
    Bytes(Cow<'a, [u8]>),
    Time(Time),
    /// Nanoseconds.
    Duration(i64),
    Map(Map<'a>),
    List(List<'a>),
    TraceId([u8; 16]),
    SpanId([u8; 8]),
    /// Repeated field `.1` of the span `.0`: its events or its links.
    Parts(&'a [u8], u32),
    /// The span's status as a whole, which equals only itself.
    Status,
    /// One byte of bytes, a type of its own.
    Octet(u8),
}

/// A map.
#[derive(Clone, Debug)]
pub(super) enum Map<'a> {
    /// KeyValues of the repeated field `.1` of a message.
    Wire(&'a [u8], u32),
    /// Made here, of the collector's map type.
    Made(Vec<(Cow<'a, [u8]>, Val<'a>)>),
    /// Made here, of the language's map type.
    Plain(Vec<(Cow<'a, [u8]>, Val<'a>)>),
}

/// A list.
#[derive(Clone, Debug)]
pub(super) enum List<'a> {
    /// An ArrayValue message.
    Wire(&'a [u8]),
    /// Made here, of the collector's list type.
    Made(Vec<Val<'a>>),
    /// Of anything.
    Plain(Vec<Val<'a>>),
    /// Of texts.
    Texts(Vec<Cow<'a, [u8]>>),
}

impl<'a> From<Value<'a>> for Val<'a> {
    #[inline]
    fn from(value: Value<'a>) -> Self {
        match value {
            Value::Empty => Self::Nil,
            Value::Str(text) => Self::Str(Cow::Borrowed(text)),
            Value::Bool(b) => Self::Bool(b),
            Value::Int(n) => Self::Int(n),
            Value::Double(n) => Self::Double(n),
            Value::List(list) => Self::List(List::Wire(list)),
            Value::Map(map) => Self::Map(Map::Wire(map, 1)),
            Value::Bytes(bytes) => Self::Bytes(Cow::Borrowed(bytes)),
        }
    }
}

impl<'a> Val<'a> {
    pub(super) fn text(text: impl Into<Vec<u8>>) -> Self {
        Self::Str(Cow::Owned(text.into()))
    }

    /// The name of the type, for errors.
    pub(super) fn type_name(&self) -> &'static str {
        match self {
            Self::Nil => "nil",
            Self::Bool(_) => "bool",
            Self::Int(_) => "int64",
            Self::Double(_) => "float64",
            Self::Str(_) => "string",
            Self::Bytes(_) => "[]uint8",
            Self::Time(_) => "time.Time",
            Self::Duration(_) => "time.Duration",
            Self::Map(Map::Plain(_)) => "map[string]interface {}",
            Self::Map(_) => "pcommon.Map",
            Self::List(List::Plain(_)) => "[]interface {}",
            Self::List(List::Texts(_)) => "[]string",
            Self::List(_) => "pcommon.Slice",
            Self::TraceId(_) => "pcommon.TraceID",
            Self::SpanId(_) => "pcommon.SpanID",
            Self::Parts(..) => "ptrace slice",
            Self::Status => "ptrace.Status",
            Self::Octet(_) => "uint8",
        }
    }

    /// The same, owning all it holds, values within values down to a depth.
    pub(super) fn into_owned(self) -> Val<'static> {
        self.owned(DEPTH_MAX)
    }

    fn owned(self, depth: usize) -> Val<'static> {
        let Some(depth) = depth.checked_sub(1) else { return Val::Nil };
        let own = |text: Cow<'_, [u8]>| Cow::Owned(text.into_owned());
        match self {
            Self::Nil | Self::Parts(..) => Val::Nil,
            Self::Bool(b) => Val::Bool(b),
            Self::Int(n) => Val::Int(n),
            Self::Double(n) => Val::Double(n),
            Self::Str(text) => Val::Str(own(text)),
            Self::Bytes(bytes) => Val::Bytes(own(bytes)),
            Self::Time(time) => Val::Time(time),
            Self::Duration(nanos) => Val::Duration(nanos),
            Self::Map(map) => {
                let plain = matches!(map, Map::Plain(_));
                let entries = map.entries().into_iter();
                let entries = entries.map(|(key, value)| (own(key), value.owned(depth))).collect();
                Val::Map(if plain { Map::Plain(entries) } else { Map::Made(entries) })
            }
            Self::List(List::Texts(texts)) => {
                Val::List(List::Texts(texts.into_iter().map(own).collect()))
            }
            Self::List(list) => {
                let plain = matches!(list, List::Plain(_));
                let items = list.items().into_iter().map(|item| item.owned(depth)).collect();
                Val::List(if plain { List::Plain(items) } else { List::Made(items) })
            }
            Self::TraceId(id) => Val::TraceId(id),
            Self::SpanId(id) => Val::SpanId(id),
            Self::Status => Val::Status,
            Self::Octet(octet) => Val::Octet(octet),
        }
    }
}

impl<'a> Map<'a> {
    /// Entries in their order, duplicates included.
    pub(super) fn entries(&self) -> Vec<(Cow<'a, [u8]>, Val<'a>)> {
        match self {
            Self::Wire(message, field) => attributes(message, *field)
                .map(|(key, value)| (Cow::Borrowed(key), value.into()))
                .collect(),
            Self::Made(entries) | Self::Plain(entries) => entries.clone(),
        }
    }

    pub(super) fn len(&self) -> usize {
        match self {
            Self::Wire(message, field) => attributes(message, *field).count(),
            Self::Made(entries) | Self::Plain(entries) => entries.len(),
        }
    }

    /// The value of the first entry with `key`.
    pub(super) fn get(&self, key: &[u8]) -> Option<Val<'a>> {
        match self {
            Self::Wire(message, field) => attribute(message, *field, key),
            Self::Made(entries) | Self::Plain(entries) => {
                entries.iter().find(|(k, _)| **k == *key).map(|(_, value)| value.clone())
            }
        }
    }
}

/// The value of the first entry with `key` in repeated field `field` of `message`.
#[inline]
pub(super) fn attribute<'a>(message: &'a [u8], field: u32, key: &[u8]) -> Option<Val<'a>> {
    // a value is read only where its key is the one
    Fields::of(message).find_map(|(number, content)| match content {
        Field::Bytes(entry) if number == field => {
            let (found, value) = key_value(entry);
            (found == key).then(|| Value::read(value).into())
        }
        _ => None,
    })
}

impl<'a> List<'a> {
    pub(super) fn items(&self) -> Vec<Val<'a>> {
        match self {
            Self::Wire(list) => items(list).map(Val::from).collect(),
            Self::Made(items) | Self::Plain(items) => items.clone(),
            Self::Texts(texts) => texts.iter().cloned().map(Val::Str).collect(),
        }
    }

    pub(super) fn len(&self) -> usize {
        match self {
            Self::Wire(list) => items(list).count(),
            Self::Made(items) | Self::Plain(items) => items.len(),
            Self::Texts(texts) => texts.len(),
        }
    }

    pub(super) fn get(&self, index: i64) -> Option<Val<'a>> {
        let index = usize::try_from(index).ok()?;
        match self {
            Self::Wire(list) => items(list).nth(index).map(Val::from),
            Self::Made(items) | Self::Plain(items) => items.get(index).cloned(),
            Self::Texts(texts) => texts.get(index).cloned().map(Val::Str),
        }
    }
}
