//! Attributes as nearly all are written, read by their bytes rather than by their grammar. A span
//! is mostly attributes, and checking one mostly the way from the length of one to the next: so
//! that is kept short, and what stands at the front of each is compared four bytes at a time.

use super::{Found, Wanted, row};
use crate::otlp::usual::is_flat;
use crate::otlp::wire::Extent;

/// What is noted of the attributes of a span.
pub(super) struct Noting<'a> {
    /// The field of the span.
    field: &'a [u8],
    wanted: &'a Wanted,
    pub(super) found: &'a mut Vec<Found>,
    /// How much was found before this span.
    first: usize,
}

impl<'a> Noting<'a> {
    /// Of the next span.
    #[inline]
    pub(super) fn of(field: &'a [u8], wanted: &'a Wanted, found: &'a mut Vec<Found>) -> Self {
        let first = found.len();
        Self { field, wanted, found, first }
    }

    /// Notes an attribute if it is wanted and the first of its key.
    #[inline(never)]
    pub(super) fn note(&mut self, key: &[u8], value: &[u8]) {
        if let Some(key) = self.wanted.find(key)
            && self.found[self.first..].iter().all(|f| f.key != key)
        {
            self.found.push(Found { key, value: Extent::within(self.field, value) });
        }
    }
}

/// What comes behind the attributes at the front of `bytes` of a span: something else, or one that
/// somebody has to look at closer, not necessarily because it is wrong.
#[inline(never)]
pub(super) fn pass<'a>(mut bytes: &'a [u8], noting: &mut Noting<'_>) -> &'a [u8] {
    const TAGS_AND_HIGH_BITS: u32 = u32::from_le_bytes([0xff, 0x80, 0xff, 0x80]);
    const KEY_FIRST: u32 = u32::from_le_bytes([0x4a, 0, 0x0a, 0]);
    const VALUE_FIRST: u32 = u32::from_le_bytes([0x4a, 0, 0x12, 0]);
    let lengths = noting.wanted.lengths;
    while let Some(head) = bytes.first_chunk() {
        let head = u32::from_le_bytes(*head);
        let attribute = if head & TAGS_AND_HIGH_BITS == KEY_FIRST {
            key_first(bytes, head)
        } else if head & TAGS_AND_HIGH_BITS == VALUE_FIRST {
            value_first(bytes, head)
        } else {
            break;
        };
        let Some((key, value, rest)) = attribute else { break };
        if lengths >> row(key.len()) & 1 != 0 {
            noting.note(key, value);
        }
        bytes = rest;
    }
    bytes
}

/// Key and value of an attribute as SDKs write it, and what comes after it.
#[inline(always)]
fn key_first(bytes: &[u8], head: u32) -> Option<(&[u8], &[u8], &[u8])> {
    // The field of a text begins like this, and with both lengths one more for each of its bytes.
    const EMPTY: usize = u32::from_le_bytes([0x12, 2, 0x0a, 0]) as usize;
    const LONGER: usize = u32::from_le_bytes([0, 1, 0, 1]) as usize;
    let [_, len, _, key_len] = head.to_le_bytes();
    let (attribute, rest) = bytes.split_at_checked(2 + usize::from(len))?;
    let at = 4 + usize::from(key_len);
    let begin = u32::from_le_bytes(*attribute.get(at..at + 4)?.first_chunk()?) as usize;
    let field = &attribute[at..];
    if begin != EMPTY + (field.len() - 4) * LONGER && !is_value(field) {
        return None;
    }
    Some((&attribute[4..at], &field[2..], rest))
}

/// Whether the second field of an attribute is a flat value.
#[inline(always)]
fn is_value(field: &[u8]) -> bool {
    match *field {
        [0x12, len @ 0..0x80, ref value @ ..] => value.len() == usize::from(len) && is_flat(value),
        _ => false,
    }
}

/// Key and value of an attribute as the collector writes it, and what comes after it.
#[inline(always)]
fn value_first(bytes: &[u8], head: u32) -> Option<(&[u8], &[u8], &[u8])> {
    let [_, len, _, value_len] = head.to_le_bytes();
    let (attribute, rest) = bytes.split_at_checked(2 + usize::from(len))?;
    let at = 4 + usize::from(value_len);
    let [tag, key_len] = *attribute.get(at..at + 2)?.first_chunk()?;
    let (value, key) = (&attribute[4..at], &attribute[at + 2..]);
    if tag != 0x0a || usize::from(key_len) != key.len() || !is_flat(value) {
        return None;
    }
    Some((key, value, rest))
}
