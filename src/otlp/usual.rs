//! Attributes as nearly all are written, read by their bytes rather than by their grammar. A span
//! is mostly attributes, and checking one mostly instructions: so tags and lengths, of one byte
//! each, are compared four at a time. `None` says that somebody has to look closer, not that
//! something is wrong.

/// An attribute as it is taken from the front of a span.
pub(super) struct Attribute<'a> {
    pub(super) key: &'a [u8],
    /// It [is flat](is_flat).
    pub(super) value: &'a [u8],
    /// What comes after it.
    pub(super) rest: &'a [u8],
}

/// The attribute that `bytes` of a span begin with.
#[inline(always)]
pub(super) fn attribute(bytes: &[u8]) -> Option<Attribute<'_>> {
    const TAGS_AND_HIGH_BITS: u32 = u32::from_le_bytes([0xff, 0x80, 0xff, 0x80]);
    const KEY_FIRST: u32 = u32::from_le_bytes([0x4a, 0, 0x0a, 0]);
    const VALUE_FIRST: u32 = u32::from_le_bytes([0x4a, 0, 0x12, 0]);
    let head = u32::from_le_bytes(*bytes.first_chunk()?);
    match head & TAGS_AND_HIGH_BITS {
        KEY_FIRST => key_first(bytes, head),
        VALUE_FIRST => value_first(bytes, head),
        _ => None,
    }
}

/// As SDKs write it.
#[inline(always)]
fn key_first(bytes: &[u8], head: u32) -> Option<Attribute<'_>> {
    // The field of a text begins like this, and with both lengths one more for each of its bytes.
    const EMPTY: usize = u32::from_le_bytes([0x12, 2, 0x0a, 0]) as usize;
    const LONGER: usize = u32::from_le_bytes([0, 1, 0, 1]) as usize;
    let (key, field, rest) = cut(bytes, head)?;
    let begin = u32::from_le_bytes(*field.first_chunk()?) as usize;
    if begin != EMPTY + (field.len() - 4) * LONGER && !is_flat(content_of(0x12, field)?) {
        return None;
    }
    Some(Attribute { key, value: &field[2..], rest })
}

/// As the collector writes it.
#[inline(never)]
fn value_first(bytes: &[u8], head: u32) -> Option<Attribute<'_>> {
    let (value, field, rest) = cut(bytes, head)?;
    let key = content_of(0x0a, field)?;
    is_flat(value).then_some(Attribute { key, value, rest })
}

/// The content of the first field of an attribute, the second field, and what comes after the
/// attribute; `head` is the first tag and length of both.
#[inline(always)]
fn cut(bytes: &[u8], head: u32) -> Option<(&[u8], &[u8], &[u8])> {
    let (attribute, rest) = bytes.split_at_checked(2 + (head >> 8 & 0x7f) as usize)?;
    let (first, second) = attribute.get(4..)?.split_at_checked((head >> 24) as usize)?;
    Some((first, second, rest))
}

/// The content of a field, if it has this tag and a length of one byte.
#[inline(always)]
fn content_of(tag: u8, field: &[u8]) -> Option<&[u8]> {
    match *field {
        [is, len @ 0..0x80, ref content @ ..] if is == tag && content.len() == usize::from(len) => {
            Some(content)
        }
        _ => None,
    }
}

/// Key and value of a KeyValue that has both, once, in either order, with lengths of one or two
/// bytes. The value is not checked.
pub(super) fn entry(message: &[u8]) -> Option<(&[u8], &[u8])> {
    let [first @ (0x0a | 0x12), ref rest @ ..] = *message else { return None };
    let (one, rest) = content(rest)?;
    let [second, ref rest @ ..] = *rest else { return None };
    let (two, rest) = content(rest)?;
    if first ^ second != 0x0a ^ 0x12 || !rest.is_empty() {
        return None;
    }
    Some(if first == 0x0a { (one, two) } else { (two, one) })
}

/// As many bytes as the length says that stands before them, in one byte or two, and the rest.
#[inline(always)]
pub(super) fn content(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    match *bytes {
        [len @ 0..0x80, ref rest @ ..] => rest.split_at_checked(len.into()),
        [low, high @ 0..0x80, ref rest @ ..] => {
            rest.split_at_checked(usize::from(low & 0x7f) | usize::from(high) << 7)
        }
        _ => None,
    }
}

/// Nothing, or a string, a bool or a number that is all of its AnyValue, with a length of one byte.
#[inline(never)]
pub(super) fn is_flat(value: &[u8]) -> bool {
    match *value {
        [0x0a, len @ 0..0x80, ref text @ ..] => text.len() == usize::from(len),
        [0x10 | 0x18, small] => small < 0x80,
        [0x18, low, high] => low >= 0x80 && high < 0x80,
        [0x18, ref int @ .., last] => {
            int.len() < 10 && last < 0x80 && int.iter().all(|byte| *byte >= 0x80)
        }
        [0x21, ..] => value.len() == 9,
        [] => true,
        _ => false,
    }
}
