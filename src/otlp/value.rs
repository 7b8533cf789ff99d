//! Lazy reads of messages whose bytes were checked on arrival: fields in order, attributes,
//! values. Nothing is decoded that is not asked for, and nothing is copied.
//!
//! What was not checked is safe too: a field that does not lie in its message ends the walk.

use super::layout::KEY_VALUE_VALUE;
use super::wire::{END_GROUP, Extent, GROUP, I32, I64, LEN, Reader, VARINT};

/// What a field holds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Field<'a> {
    /// An integer, a bool or an enum.
    Varint(u64),
    /// 8 bytes, little endian.
    Fixed64(u64),
    /// A string, bytes or a message.
    Bytes(&'a [u8]),
    /// 4 bytes, little endian.
    Fixed32(u32),
}

/// The fields of one message, in the order of its bytes. Groups are passed over.
#[derive(Clone, Copy, Debug)]
pub struct Fields<'a> {
    message: &'a [u8],
    reader: Reader<'a>,
}

impl<'a> Fields<'a> {
    /// Of `message`, the content of a field without its tag and length.
    #[must_use]
    #[inline]
    pub fn of(message: &'a [u8]) -> Self {
        let end = u32::try_from(message.len()).unwrap_or(0);
        Self { message, reader: Reader::new(message, Extent { start: 0, end }) }
    }
}

impl<'a> Iterator for Fields<'a> {
    /// Number and content.
    type Item = (u32, Field<'a>);

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        while !self.reader.at_end() {
            let tag = self.reader.tag().ok()?;
            let field = match tag.wire {
                VARINT => Field::Varint(self.reader.varint().ok()?),
                LEN => Field::Bytes(self.reader.content().ok()?.of(self.message)),
                I64 => {
                    let at = self.reader.pos() as usize;
                    self.reader.advance(8).ok()?;
                    Field::Fixed64(u64::from_le_bytes(*self.message[at..].first_chunk()?))
                }
                I32 => {
                    let at = self.reader.pos() as usize;
                    self.reader.advance(4).ok()?;
                    Field::Fixed32(u32::from_le_bytes(*self.message[at..].first_chunk()?))
                }
                GROUP | END_GROUP => {
                    self.reader.skip(tag).ok()?;
                    continue;
                }
                _ => return None,
            };
            return Some((tag.field, field));
        }
        None
    }
}

/// An AnyValue. Strings are bytes: OTLP does not promise UTF-8 and nobody checks it (otlp 3.2).
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Value<'a> {
    /// No variant is set.
    Empty,
    /// `string_value`.
    Str(&'a [u8]),
    /// `bool_value`.
    Bool(bool),
    /// `int_value`.
    Int(i64),
    /// `double_value`.
    Double(f64),
    /// `array_value`: an ArrayValue message, see [`items`].
    List(&'a [u8]),
    /// `kvlist_value`: a KeyValueList message, see [`attributes`] with field 1.
    Map(&'a [u8]),
    /// `bytes_value`.
    Bytes(&'a [u8]),
}

impl<'a> Value<'a> {
    /// The value of an AnyValue message; of several variants the last counts.
    #[must_use]
    #[inline]
    pub fn read(any_value: &'a [u8]) -> Self {
        Self::Empty.then(any_value)
    }

    /// The value of an AnyValue that came in several fields, which count as one.
    #[inline]
    pub fn read_all(any_values: impl Iterator<Item = &'a [u8]>) -> Self {
        any_values.fold(Self::Empty, Value::then)
    }

    /// The value of an AnyValue that came in two fields: what the second does not say, stays.
    #[inline]
    fn then(self, any_value: &'a [u8]) -> Self {
        Fields::of(any_value).fold(self, |before, field| match field {
            (1, Field::Bytes(s)) => Self::Str(s),
            (2, Field::Varint(b)) => Self::Bool(b != 0),
            #[expect(clippy::cast_possible_wrap, reason = "int64 is two's complement on the wire")]
            (3, Field::Varint(i)) => Self::Int(i as i64),
            (4, Field::Fixed64(bits)) => Self::Double(f64::from_bits(bits)),
            (5, Field::Bytes(list)) => Self::List(list),
            (6, Field::Bytes(map)) => Self::Map(map),
            (7, Field::Bytes(bytes)) => Self::Bytes(bytes),
            // A position in a table that no request has.
            (8, Field::Varint(_)) => Self::Empty,
            _ => before,
        })
    }
}

/// Key and AnyValue message of a KeyValue message; either may be absent and is then empty.
#[must_use]
#[inline]
pub fn key_value(message: &[u8]) -> (&[u8], &[u8]) {
    let (mut key, mut value): (&[u8], &[u8]) = (&[], &[]);
    for (number, field) in Fields::of(message) {
        match field {
            Field::Bytes(bytes) if number == 1 => key = bytes,
            Field::Bytes(bytes) if number == KEY_VALUE_VALUE => value = bytes,
            _ => {}
        }
    }
    (key, value)
}

/// Value of a KeyValue message. Fields that stand twice are one AnyValue, as in the collector.
#[must_use]
#[inline]
pub fn value_of(key_value: &[u8]) -> Value<'_> {
    Value::read_all(messages(key_value, KEY_VALUE_VALUE))
}

/// Value of the first of `key_values` that has this key.
#[inline]
pub fn find<'a>(key_values: impl IntoIterator<Item = &'a [u8]>, key: &[u8]) -> Option<Value<'a>> {
    key_values.into_iter().find(|entry| key_value(entry).0 == key).map(value_of)
}

/// The entries of repeated KeyValue field `number` of `message`, in order, duplicates included.
#[inline]
pub fn attributes(message: &[u8], number: u32) -> impl Iterator<Item = (&[u8], Value<'_>)> {
    Fields::of(message).filter_map(move |(at, field)| match field {
        Field::Bytes(entry) if at == number => {
            let (key, value) = key_value(entry);
            Some((key, Value::read(value)))
        }
        _ => None,
    })
}

/// The contents of repeated message field `number` of `message`, in order.
#[inline]
pub fn messages(message: &[u8], number: u32) -> impl Iterator<Item = &[u8]> {
    Fields::of(message).filter_map(move |(at, field)| match field {
        Field::Bytes(content) if at == number => Some(content),
        _ => None,
    })
}

/// The entries of an ArrayValue message.
#[inline]
pub fn items(array_value: &[u8]) -> impl Iterator<Item = Value<'_>> {
    Fields::of(array_value).filter_map(|(number, field)| match field {
        Field::Bytes(item) if number == 1 => Some(Value::read(item)),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_come_in_their_order_and_a_broken_one_ends_the_walk() {
        let message =
            [0x08, 7, 0x12, 1, b'x', 0x1d, 1, 0, 0, 0, 0x21, 2, 0, 0, 0, 0, 0, 0, 0, 0x2a, 9];
        let fields: Vec<_> = Fields::of(&message).collect();
        let want = [
            (1, Field::Varint(7)),
            (2, Field::Bytes(b"x")),
            (3, Field::Fixed32(1)),
            (4, Field::Fixed64(2)),
        ];
        assert_eq!(fields, want);
    }

    #[test]
    fn of_several_variants_the_last_counts_and_none_is_empty() {
        assert_eq!(Value::read(&[]), Value::Empty);
        assert_eq!(Value::read(&[0x0a, 1, b'a', 0x10, 1]), Value::Bool(true));
        assert_eq!(
            Value::read(&[0x18, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1]),
            Value::Int(-1)
        );
    }

    #[test]
    fn a_value_in_two_fields_is_one_and_of_equal_keys_the_first_is_found() {
        // 1: "k", 2: { 1: "a" }, 2: {}
        let split = [0x0a, 1, b'k', 0x12, 3, 0x0a, 1, b'a', 0x12, 0];
        assert_eq!(value_of(&split), Value::Str(b"a"));
        let other = [0x0a, 1, b'k', 0x12, 2, 0x18, 7];
        assert_eq!(find([&split[..], &other], b"k"), Some(Value::Str(b"a")));
        assert_eq!(find([&other[..], &split], b"k"), Some(Value::Int(7)));
        assert_eq!(find([&other[..]], b"x"), None);
        assert_eq!(value_of(&[0x12, 5, 0x0a, 1, b'a', 0x40, 3]), Value::Empty);
    }

    #[test]
    fn attributes_keep_their_order_and_their_duplicates() {
        // 9: { 1: "k", 2: { 1: "a" } } twice, with the value before the key in the second
        let message = [
            0x4a, 8, 0x0a, 1, b'k', 0x12, 3, 0x0a, 1, b'a', //
            0x4a, 8, 0x12, 3, 0x0a, 1, b'b', 0x0a, 1, b'k',
        ];
        let all: Vec<_> = attributes(&message, 9).collect();
        assert_eq!(all, [(&b"k"[..], Value::Str(b"a")), (b"k", Value::Str(b"b"))]);
    }
}
