//! How long a message is when the collector writes it: what `bytes_limiting`, the size limit and
//! the bytes metric count (tailsampling 2.11). Not the length on the wire: unknown fields are gone,
//! defaults are left out, and some messages are written although they are empty.

use super::value::{Field, Fields};

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

/// An id is written even when empty; all zeros count as empty.
fn id(bytes: &[u8]) -> u64 {
    if bytes.iter().all(|b| *b == 0) { 2 } else { field(bytes.len() as u64) }
}

fn value(message: &[u8]) -> u64 {
    Fields::of(message).fold(0, |before, of| match of {
        (1 | 7, Field::Bytes(bytes)) => field(bytes.len() as u64),
        (2, Field::Varint(_)) => 2,
        (3, Field::Varint(int)) => 1 + varint(int),
        (4, Field::Fixed64(_)) => 9,
        (5, Field::Bytes(list)) => field(Fields::of(list).map(|item| nested(item, 1, value)).sum()),
        (6, Field::Bytes(map)) => field(Fields::of(map).map(|e| nested(e, 1, entry)).sum()),
        _ => before,
    })
}

fn entry(message: &[u8]) -> u64 {
    let (mut key, mut held) = (0, 2);
    for of in Fields::of(message) {
        match of {
            (1, Field::Bytes(bytes)) => key = text(bytes),
            (2, Field::Bytes(bytes)) => held = field(value(bytes)),
            _ => {}
        }
    }
    key + held
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
            (2, Field::Varint(n)) => dropped = count(n),
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
            (4, Field::Varint(n)) => dropped = count(n),
            _ => {}
        }
    }
    name + version + attributes + dropped
}

fn event(message: &[u8]) -> u64 {
    let (mut time, mut name, mut attributes, mut dropped) = (0, 0, 0, 0);
    for of in Fields::of(message) {
        match of {
            (1, Field::Fixed64(t)) => time = if t == 0 { 0 } else { 9 },
            (2, Field::Bytes(bytes)) => name = text(bytes),
            (3, _) => attributes += nested(of, 3, entry),
            (4, Field::Varint(n)) => dropped = count(n),
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
            (5, Field::Varint(n)) => dropped = count(n),
            (6, Field::Fixed32(n)) => flags = if n == 0 { 0 } else { 5 },
            _ => {}
        }
    }
    trace + span + state + rest + dropped + flags
}

fn status(message: &[u8]) -> u64 {
    let (mut text_len, mut code) = (0, 0);
    for of in Fields::of(message) {
        match of {
            (2, Field::Bytes(bytes)) => text_len = text(bytes),
            (3, Field::Varint(n)) => code = count(n),
            _ => {}
        }
    }
    text_len + code
}

/// A Span message.
#[must_use]
pub fn span(message: &[u8]) -> u64 {
    // One place per singular field, so that of several the last counts.
    let (mut ids, mut singular, mut repeated) = ([2u64; 3], [0u64; 17], 0);
    singular[15] = 2;
    for of in Fields::of(message) {
        match of {
            (1, Field::Bytes(bytes)) => ids[0] = id(bytes),
            (2, Field::Bytes(bytes)) => ids[1] = id(bytes),
            (4, Field::Bytes(bytes)) => ids[2] = id(bytes),
            (at @ (3 | 5), Field::Bytes(bytes)) => singular[at as usize] = text(bytes),
            (at @ (6 | 10 | 12 | 14), Field::Varint(n)) => singular[at as usize] = count(n),
            (at @ (7 | 8), Field::Fixed64(t)) => {
                singular[at as usize] = if t == 0 { 0 } else { 9 };
            }
            (9, _) => repeated += nested(of, 9, entry),
            (11, _) => repeated += nested(of, 11, event),
            (13, _) => repeated += nested(of, 13, link),
            (15, Field::Bytes(bytes)) => singular[15] = field(status(bytes)),
            (16, Field::Fixed32(n)) => singular[16] = if n == 0 { 0 } else { 6 },
            _ => {}
        }
    }
    ids.iter().sum::<u64>() + singular.iter().sum::<u64>() + repeated
}
