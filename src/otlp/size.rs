//! How long a message is when the collector writes it: what `bytes_limiting`, the size limit and
//! the bytes metric count (tailsampling 2.11). Not the length on the wire: unknown fields are gone,
//! defaults are left out, and some messages are written although they are empty.

use super::value::{Field, Fields, key_value, messages};

/// Bytes of a varint of `value`.
#[must_use]
pub const fn varint(value: u64) -> u64 {
    (70 - (value | 1).leading_zeros() as u64) / 7
}

/// Bytes of a message field of `len` bytes with a one-byte tag.
#[must_use]
pub const fn field(len: u64) -> u64 {
    1 + varint(len) + len
}

const fn text(bytes: &[u8]) -> u64 {
    if bytes.is_empty() { 0 } else { field(bytes.len() as u64) }
}

const fn count(value: u64) -> u64 {
    if value == 0 { 0 } else { 1 + varint(value) }
}

/// A `uint32`, whose upper bits on the wire are cut off.
#[expect(clippy::cast_possible_truncation, reason = "as the collector reads it")]
const fn count_32(value: u64) -> u64 {
    count(value as u32 as u64)
}

/// An `int32` or an enum, which is cut off too; a negative one takes all ten bytes.
#[expect(clippy::cast_possible_truncation, reason = "as the collector reads it")]
const fn int_32(value: u64) -> u64 {
    count((value as i32 as i64).cast_unsigned())
}

/// An id is written even when empty; all zeros count as empty.
fn id(bytes: &[u8]) -> u64 {
    if bytes.iter().all(|b| *b == 0) { 2 } else { field(bytes.len() as u64) }
}

fn value(message: &[u8]) -> u64 {
    value_after(0, message)
}

/// An AnyValue that comes on top of one of `before` bytes: what it does not say, stays.
fn value_after(before: u64, message: &[u8]) -> u64 {
    Fields::of(message).fold(before, |before, of| match of {
        (1 | 7, Field::Bytes(bytes)) => field(bytes.len() as u64),
        (2, Field::Varint(_)) => 2,
        (3, Field::Varint(int)) => 1 + varint(int),
        (4, Field::Fixed64(_)) => 9,
        (5, Field::Bytes(list)) => field(Fields::of(list).map(|item| nested(item, 1, value)).sum()),
        (6, Field::Bytes(map)) => field(Fields::of(map).map(|e| nested(e, 1, entry)).sum()),
        // Positions in a table that no request has.
        (8, Field::Varint(at)) => 1 + varint(at),
        _ => before,
    })
}

fn entry(message: &[u8]) -> u64 {
    let [key, held, position] = parts_of_entry(message);
    key + field(held) + position
}

/// Of a KeyValue: its key, the content of its value, its position in a table.
fn parts_of_entry(message: &[u8]) -> [u64; 3] {
    let (mut key, mut held, mut position) = (0, 0, 0);
    for of in Fields::of(message) {
        match of {
            (1, Field::Bytes(bytes)) => key = text(bytes),
            (2, Field::Bytes(bytes)) => held = value_after(held, bytes),
            (3, Field::Varint(at)) => position = int_32(at),
            _ => {}
        }
    }
    [key, held, position]
}

/// The field if it is number `number`, measured by `of`.
fn nested((at, of): (u32, Field<'_>), number: u32, measure: fn(&[u8]) -> u64) -> u64 {
    match of {
        Field::Bytes(bytes) if at == number => field(measure(bytes)),
        _ => 0,
    }
}

/// A Resource message.
#[must_use]
pub fn resource(message: &[u8]) -> u64 {
    let mut dropped = 0;
    let mut len = 0;
    for of in Fields::of(message) {
        match of {
            (1, _) => len += nested(of, 1, entry),
            (2, Field::Varint(n)) => dropped = count_32(n),
            (3, _) => len += nested(of, 3, entity_ref),
            _ => {}
        }
    }
    len + dropped
}

fn entity_ref(message: &[u8]) -> u64 {
    let (mut url, mut kind, mut keys) = (0, 0, 0);
    for of in Fields::of(message) {
        match of {
            (1, Field::Bytes(bytes)) => url = text(bytes),
            (2, Field::Bytes(bytes)) => kind = text(bytes),
            (3 | 4, Field::Bytes(bytes)) => keys += field(bytes.len() as u64),
            _ => {}
        }
    }
    url + kind + keys
}

/// An InstrumentationScope message.
#[must_use]
pub fn scope(message: &[u8]) -> u64 {
    let (mut name, mut version, mut attributes, mut dropped) = (0, 0, 0, 0);
    for of in Fields::of(message) {
        match of {
            (1, Field::Bytes(bytes)) => name = text(bytes),
            (2, Field::Bytes(bytes)) => version = text(bytes),
            (3, _) => attributes += nested(of, 3, entry),
            (4, Field::Varint(n)) => dropped = count_32(n),
            _ => {}
        }
    }
    name + version + attributes + dropped
}

/// An InstrumentationScope message in which the attribute `name` is set to a string.
#[must_use]
pub fn scope_with(message: &[u8], name: &[u8], string: &[u8]) -> u64 {
    let held = field(field(string.len() as u64));
    let known = messages(message, 3).find(|attribute| key_value(attribute).0 == name);
    let Some(attribute) = known else { return scope(message) + field(text(name) + held) };
    let [key, _, position] = parts_of_entry(attribute);
    scope(message) - field(entry(attribute)) + field(key + held + position)
}

fn event(message: &[u8]) -> u64 {
    let (mut time, mut name, mut attributes, mut dropped) = (0, 0, 0, 0);
    for of in Fields::of(message) {
        match of {
            (1, Field::Fixed64(t)) => time = if t == 0 { 0 } else { 9 },
            (2, Field::Bytes(bytes)) => name = text(bytes),
            (3, _) => attributes += nested(of, 3, entry),
            (4, Field::Varint(n)) => dropped = count_32(n),
            _ => {}
        }
    }
    time + name + attributes + dropped
}

fn link(message: &[u8]) -> u64 {
    let (mut trace, mut span, mut state, mut rest, mut dropped, mut flags) = (2, 2, 0, 0, 0, 0);
    for of in Fields::of(message) {
        match of {
            (1, Field::Bytes(bytes)) => trace = id(bytes),
            (2, Field::Bytes(bytes)) => span = id(bytes),
            (3, Field::Bytes(bytes)) => state = text(bytes),
            (4, _) => rest += nested(of, 4, entry),
            (5, Field::Varint(n)) => dropped = count_32(n),
            (6, Field::Fixed32(n)) => flags = if n == 0 { 0 } else { 5 },
            _ => {}
        }
    }
    trace + span + state + rest + dropped + flags
}

/// Message and code of a Status that comes on top of another one.
fn status_after(before: [u64; 2], message: &[u8]) -> [u64; 2] {
    Fields::of(message).fold(before, |[text_len, code], of| match of {
        (2, Field::Bytes(bytes)) => [text(bytes), code],
        (3, Field::Varint(n)) => [text_len, int_32(n)],
        _ => [text_len, code],
    })
}

/// A Span message.
#[must_use]
pub fn span(message: &[u8]) -> u64 {
    // One place per singular field, so that of several the last counts.
    let (mut ids, mut singular, mut repeated) = ([2u64; 3], [0u64; 17], 0);
    let mut status = [0; 2];
    for of in Fields::of(message) {
        match of {
            (1, Field::Bytes(bytes)) => ids[0] = id(bytes),
            (2, Field::Bytes(bytes)) => ids[1] = id(bytes),
            (4, Field::Bytes(bytes)) => ids[2] = id(bytes),
            (at @ (3 | 5), Field::Bytes(bytes)) => singular[at as usize] = text(bytes),
            (6, Field::Varint(n)) => singular[6] = int_32(n),
            (at @ (10 | 12 | 14), Field::Varint(n)) => singular[at as usize] = count_32(n),
            (at @ (7 | 8), Field::Fixed64(t)) => {
                singular[at as usize] = if t == 0 { 0 } else { 9 };
            }
            (9, _) => repeated += nested(of, 9, entry),
            (11, _) => repeated += nested(of, 11, event),
            (13, _) => repeated += nested(of, 13, link),
            (15, Field::Bytes(bytes)) => status = status_after(status, bytes),
            (16, Field::Fixed32(n)) => singular[16] = if n == 0 { 0 } else { 6 },
            _ => {}
        }
    }
    let status = field(status.iter().sum());
    ids.iter().sum::<u64>() + singular.iter().sum::<u64>() + repeated + status
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_attribute_that_is_set_comes_on_top_or_in_place_of_what_was_there() {
        let set = b"\x1a\x09\x0a\x01k\x12\x04\x0a\x02ab";
        for before in [&b""[..], b"\x0a\x01n", b"\x1a\x07\x0a\x01j\x12\x02\x18\x05"] {
            let after = [before, set].concat();
            assert_eq!(scope_with(before, b"k", b"ab"), scope(&after), "{before:x?}");
            assert_eq!(scope_with(&after, b"k", b"ab"), scope(&after), "it has that value");
            assert_eq!(scope_with(&after, b"k", b"abcd"), scope(&after) + 2);
            assert_eq!(scope_with(&after, b"k", b""), scope(&after) - 2);
        }
    }

    /// Each pair is read by the collector as the same span, and written in as many bytes.
    #[test]
    fn odd_forms_count_as_what_is_read_from_them() {
        let pairs: [(&[u8], &[u8]); 7] = [
            // Status in two fields: code, then message; code, then nothing.
            (b"\x7a\x02\x18\x02\x7a\x03\x12\x01m", b"\x7a\x05\x12\x01m\x18\x02"),
            (b"\x7a\x02\x18\x02\x7a\x00", b"\x7a\x02\x18\x02"),
            // More bits than the type has: kind, code, dropped attributes, dropped links.
            (b"\x30\x82\x80\x80\x80\x10", b"\x30\x02"),
            (b"\x7a\x06\x18\x82\x80\x80\x80\x10", b"\x7a\x02\x18\x02"),
            (b"\x50\x87\x80\x80\x80\x10", b"\x50\x07"),
            (b"\x70\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", b"\x70\xff\xff\xff\xff\x0f"),
            // An attribute with a value, and then one that is empty.
            (b"\x4a\x0a\x0a\x01a\x12\x03\x0a\x01x\x12\x00", b"\x4a\x08\x0a\x01a\x12\x03\x0a\x01x"),
        ];
        for (odd, plain) in pairs {
            assert_eq!(span(odd), span(plain), "{odd:x?}");
        }
        let negative = b"\x30\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01";
        assert_eq!(span(negative), span(&[]) + 11, "a negative int32 is written in full");
        let positions = b"\x4a\x06\x18\x05\x12\x02\x40\x05";
        assert_eq!(span(positions), span(&[]) + 8, "positions in a table are written");
    }
}
