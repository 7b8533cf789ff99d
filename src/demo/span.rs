//! Where the fields that the demonstration needs lie in a span.

use crate::otlp::wire::{self, Reader};
use crate::otlp::{Error, Item};
use crate::testing::random::mix;

/// `Span.span_id`.
const SPAN_ID: u32 = 2;
/// `Span.start_time_unix_nano`.
const START: u32 = 7;
/// `Span.end_time_unix_nano`.
const END: u32 = 8;

/// Offsets in the request; 0 for a field that is not there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Places {
    /// 8 bytes.
    pub id: u32,
    /// 8 bytes.
    pub start: u32,
    /// 8 bytes.
    pub end: u32,
}

/// Finds the fields. `None` if the span lacks one, which no span of ours does.
pub(super) fn places(body: &[u8], item: &Item) -> Option<Places> {
    let places = walk(body, item).ok()?;
    (places.id > 0 && places.start > 0 && places.end > 0).then_some(places)
}

fn walk(body: &[u8], item: &Item) -> Result<Places, Error> {
    let mut field = Reader::new(body, item.field);
    field.tag()?;
    let mut span = Reader::new(body, field.content()?);
    let mut places = Places::default();
    // The end time is the last that is looked for, and fields ascend.
    while !span.at_end() && places.end == 0 {
        let tag = span.tag()?;
        let at = span.pos();
        span.skip(tag)?;
        match (tag.field, tag.wire) {
            // A length of one byte, then the id.
            (SPAN_ID, wire::LEN) if span.pos() - at == 9 => places.id = at + 1,
            (START, wire::I64) => places.start = at,
            (END, wire::I64) => places.end = at,
            _ => {}
        }
    }
    Ok(places)
}

/// The eight bytes at `at`.
pub(super) fn eight(body: &[u8], at: u32) -> Option<[u8; 8]> {
    body.get(at as usize..)?.first_chunk().copied()
}

/// A number for a span. The sum over many spans tells whether two sets of them are the same.
#[expect(clippy::cast_possible_truncation, reason = "the id is cut into halves")]
pub(super) fn digest(trace: &[u8; 16], span: [u8; 8]) -> u64 {
    let trace = u128::from_be_bytes(*trace);
    let folded = (trace >> 64) as u64 ^ (trace as u64).rotate_left(17);
    mix(folded ^ mix(u64::from_be_bytes(span)))
}
