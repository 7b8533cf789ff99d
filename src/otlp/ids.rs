//! Finds the trace id of a span or log record and checks the lengths of its ids.
//!
//! Most SDKs write `trace_id` and `span_id` first: then a look at four bytes is enough. The
//! collector writes fields backwards, so otherwise the item's own fields are walked from the
//! front (never from the back: a string's end can look like an id). That is done in a straight line
//! if they stand as the collector writes them, and one by one if not: the last trace id wins, and
//! known fields must have their own wire type. The look at the front differs from it only on spans
//! that repeat a singular field, or are broken behind their ids (otlp 3.3).

use super::layout::{Field, LOG_RECORD, Role, SPAN};
use super::wire::{Extent, I32, I64, LEN, Reader, VARINT};
use super::{Error, Signal, usual};

/// Bytes of a trace id.
pub(super) const TRACE_ID_BYTES: u32 = 16;
const SPAN_ID_BYTES: u32 = 8;

/// Offset of the trace id's 16 bytes in `body`, or 0 if the item has none or an empty one.
#[inline]
pub(super) fn trace_id_at(signal: Signal, body: &[u8], item: Extent) -> Result<u32, Error> {
    match signal {
        Signal::Traces if ids_first(item.of(body)) => Ok(item.start + 2),
        Signal::Traces => further_back(body, item),
        Signal::Logs => walk(&LOG_RECORD_STEPS, LOG_RECORD, body, item),
        Signal::Metrics => Ok(0),
    }
}

/// The id of a span that does not come first.
#[inline(never)]
fn further_back(body: &[u8], span: Extent) -> Result<u32, Error> {
    if ids_last(span.of(body)) {
        return Ok(span.end - TRACE_ID_BYTES);
    }
    walk(&SPAN_STEPS, SPAN, body, span)
}

/// Whether a span starts with a trace id and a span id, and the parent's id, if it is next, has
/// its right length too.
#[inline]
fn ids_first(span: &[u8]) -> bool {
    behind_ids(span).is_some_and(|rest| match rest {
        [0x22, len, ..] => *len == 0 || (*len == 8 && rest.len() >= 10),
        _ => true,
    })
}

/// What comes behind both ids of a span, where they come first and one after the other.
#[inline(always)]
pub(super) fn behind_ids(span: &[u8]) -> Option<&[u8]> {
    let (ids, rest) = span.split_first_chunk::<28>()?;
    (ids[0] == 0x0a && ids[1] == 0x10 && ids[18] == 0x12 && ids[19] == 0x08).then_some(rest)
}

/// Whether a span is written as the collector writes most: backwards, and so its trace id last.
#[inline]
fn ids_last(mut span: &[u8]) -> bool {
    // Status, links, events and attributes.
    while let [tag, content @ ..] = span
        && *tag & 0xcf == 0x4a
        && let Some((_, rest)) = usual::content(content)
    {
        span = rest;
    }
    let Some((times, [0x2a, name @ ..])) = span.split_first_chunk::<20>() else { return false };
    let Some((_, rest)) = usual::content(name) else { return false };
    let Some((others, ids)) = rest.split_last_chunk::<28>() else { return false };
    times[0] == 0x41
        && times[9] == 0x39
        && times[18] == 0x30
        && times[19] < 0x80
        && matches!(
            others,
            [] | [0x22, 8, _, _, _, _, _, _, _, _]
                | [0x85, 1, _, _, _, _]
                | [0x85, 1, _, _, _, _, 0x22, 8, _, _, _, _, _, _, _, _]
        )
        && ids[..2] == [0x12, 8]
        && ids[10..12] == [0x0a, 16]
}

/// What to do at a one-byte tag.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    /// Not a known field with its right wire type in one byte: read it the long way.
    Slow,
    Len,
    I64,
    Varint,
    TraceId,
    SpanId,
}

/// A step for each one-byte tag.
type Steps = [Step; 128];

static SPAN_STEPS: Steps = steps(SPAN);
static LOG_RECORD_STEPS: Steps = steps(LOG_RECORD);

const fn steps(fields: &[Field]) -> Steps {
    let mut steps = [Step::Slow; 128];
    let mut i = 0;
    while i < fields.len() {
        let (number, _, role) = fields[i];
        let (wire, step) = match role {
            Role::TraceId => (LEN, Step::TraceId),
            Role::SpanId => (LEN, Step::SpanId),
            Role::Other(LEN) => (LEN, Step::Len),
            Role::Other(I64) => (I64, Step::I64),
            Role::Other(VARINT) => (VARINT, Step::Varint),
            Role::Other(_) => (I32, Step::Slow),
        };
        if number < 16 {
            steps[(number << 3) as usize | wire as usize] = step;
        }
        i += 1;
    }
    steps
}

fn walk(steps: &Steps, fields: &[Field], body: &[u8], item: Extent) -> Result<u32, Error> {
    let mut reader = Reader::new(body, item);
    let mut id = 0;
    while let Some(first) = reader.peek() {
        match steps.get(first as usize).copied().unwrap_or(Step::Slow) {
            Step::Len => {
                reader.advance(1)?;
                reader.content()?;
            }
            Step::I64 => reader.advance(9)?,
            Step::Varint => {
                reader.advance(1)?;
                reader.varint()?;
            }
            Step::TraceId => {
                reader.advance(1)?;
                id = trace_id(reader.content()?)?;
            }
            Step::SpanId => {
                reader.advance(1)?;
                span_id(reader.content()?)?;
            }
            Step::Slow => slow(&mut reader, fields, &mut id)?,
        }
    }
    Ok(id)
}

/// A field with a longer tag: number 16, unknown, padded, or wrong.
fn slow(reader: &mut Reader<'_>, fields: &[Field], id: &mut u32) -> Result<(), Error> {
    let tag = reader.tag()?;
    let Some((_, name, role)) = fields.iter().find(|f| f.0 == tag.field) else {
        return reader.skip(tag);
    };
    match *role {
        Role::TraceId => *id = trace_id(reader.content_of(tag, name)?)?,
        Role::SpanId => span_id(reader.content_of(tag, name)?)?,
        Role::Other(wire) if wire == tag.wire => reader.skip(tag)?,
        Role::Other(_) => {
            return Err(Error::WrongWireType { field: name, wire: tag.wire, at: tag.at });
        }
    }
    Ok(())
}

#[inline]
const fn trace_id(id: Extent) -> Result<u32, Error> {
    match id.len() {
        TRACE_ID_BYTES => Ok(id.start),
        0 => Ok(0),
        _ => Err(Error::TraceIdLength { at: id.start }),
    }
}

#[inline]
const fn span_id(id: Extent) -> Result<(), Error> {
    match id.len() {
        SPAN_ID_BYTES | 0 => Ok(()),
        _ => Err(Error::SpanIdLength { at: id.start }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::otlp::write::field;
    use crate::testing::random::{Random, damage};

    /// A span as the collector writes it, and some of its rarer fields.
    fn backwards(random: &mut Random) -> Vec<u8> {
        let text = |random: &mut Random| vec![b'a'; *random.pick(&[0, 1, 16, 100, 200])];
        let mut span = Vec::new();
        if random.chance(0.7) {
            span.extend(random.pick(&[&[0x7a, 0][..], &[0x7a, 2, 0x18, 2], &[0x50, 1]]).iter());
        }
        for _ in 0..random.below(4) {
            span.extend(field(*random.pick(&[9, 11, 13]), &text(random)));
        }
        span.extend([&[0x41][..], &[8; 8], &[0x39], &[7; 8], &[0x30, 3]].concat());
        span.extend(field(5, &text(random)));
        for rare in [&[0x85, 1, 1, 1, 0, 0][..], &field(4, &[4; 8]), &field(3, b"a=b")] {
            if random.chance(0.5) {
                span.extend(rare);
            }
        }
        [span, field(2, &[2; 8]), field(1, &[1; 16])].concat()
    }

    #[test]
    fn the_straight_line_says_what_the_walk_says() {
        let mut random = Random::new(1);
        let mut straight = 0;
        for round in 0..20_000 {
            let mut span = backwards(&mut random);
            for _ in 0..round % 4 {
                damage(&mut span, |n| usize::try_from(random.below(n as u64)).unwrap());
            }
            if ids_last(&span) {
                let end = u32::try_from(span.len()).unwrap();
                let walked = walk(&SPAN_STEPS, SPAN, &span, Extent { start: 0, end });
                assert_eq!(walked, Ok(end - TRACE_ID_BYTES), "{span:x?}");
                straight += 1;
            }
        }
        assert!(straight > 2_000, "{straight}");
    }
}
