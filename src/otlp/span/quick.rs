//! The walk over a span that is written as SDKs and the collector write it: tags of one byte (two
//! for flags), lengths of one or two. Whatever is otherwise, or wrong, is left to
//! [`super::careful`], which begins anew: so this one need not say what is wrong, and is twice as
//! fast for it.

use super::attributes::{Noting, pass};
use super::{Facts, Notes, Wanted, position, status};
use crate::otlp::check;
use crate::otlp::ids::behind_ids;
use crate::otlp::usual;
use crate::otlp::wire::Extent;

/// Walks the span at `span` in its field, checks it, and notes the wanted. `None` says nothing
/// about it.
#[inline]
pub(super) fn read(field: &[u8], span: Extent, wanted: &Wanted, notes: &mut Notes) -> Option<()> {
    let (facts, found) = notes.begin(span);
    let mut noting = Noting::of(field, wanted, found);
    let mut rest = front(&field[span.start as usize..], facts);
    while let Some(tag) = rest.first() {
        if *tag == 0x4a {
            rest = pass(rest, &mut noting);
        }
        let Some(tag) = rest.split_off_first() else { break };
        match *tag {
            0x4a => {
                let (key, value) = unusual(field, content(&mut rest)?)?;
                noting.note(key, value);
            }
            0x0a => drop(id(&mut rest, 16)?),
            0x12 => drop(id(&mut rest, 8)?),
            0x22 => facts.is_root = is_zero(id(&mut rest, 8)?),
            0x1a => facts.trace_state = Extent::within(field, content(&mut rest)?),
            0x2a => drop(content(&mut rest)?),
            // The kind, and counts of what was dropped.
            0x30 | 0x50 | 0x60 | 0x70 => drop(small(&mut rest)?),
            0x39 => facts.start = u64::from_le_bytes(*fixed(&mut rest)?),
            0x41 => facts.end = u64::from_le_bytes(*fixed(&mut rest)?),
            0x5a => check::event(field, Extent::within(field, content(&mut rest)?)).ok()?,
            0x6a => check::link(field, Extent::within(field, content(&mut rest)?)).ok()?,
            0x7a => match content(&mut rest)? {
                [] => {}
                [0x18, code @ 0..0x80] => facts.status = (*code).min(3),
                other => status(facts, field, Extent::within(field, other)).ok()?,
            },
            0x85 if rest.first() == Some(&1) => {
                rest = &rest[1..];
                facts.flags = u32::from_le_bytes(*fixed(&mut rest)?);
            }
            _ => return None,
        }
    }
    facts.found.1 = position(noting.found.len());
    Some(())
}

/// Takes what stands in front of nearly all spans: ids, name, kind and times, each if it is there.
#[inline(always)]
fn front<'a>(all: &'a [u8], facts: &mut Facts) -> &'a [u8] {
    let Some(mut rest) = behind_ids(all) else { return all };
    if let Some(([0x22, 8, parent @ ..], after)) = rest.split_first_chunk::<10>() {
        facts.is_root = is_zero(parent);
        rest = after;
    }
    if let [0x2a, name @ ..] = rest
        && let Some((_, after)) = usual::content(name)
    {
        rest = after;
    }
    if let [0x30, 0..0x80, after @ ..] = rest {
        rest = after;
        times(&mut rest, facts);
    }
    rest
}

/// An attribute that is long, deep, or written in another way.
#[inline(never)]
fn unusual<'a>(field: &'a [u8], attribute: &[u8]) -> Option<(&'a [u8], &'a [u8])> {
    let (key, value) = check::entry(field, Extent::within(field, attribute)).ok()?;
    Some((key.of(field), value.of(field)))
}

/// Takes a length and so many bytes.
#[inline(always)]
fn content<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let (content, after) = usual::content(rest)?;
    *rest = after;
    Some(content)
}

/// Takes both times, where one stands behind the other, as in nearly all spans behind the kind.
#[inline(always)]
fn times(rest: &mut &[u8], facts: &mut Facts) {
    if let Some((times, after)) = rest.split_first_chunk::<18>()
        && let ([0x39, start @ ..], [0x41, end @ ..]) = times.split_at(9)
        && let (Some(start), Some(end)) = (start.first_chunk(), end.first_chunk())
    {
        facts.start = u64::from_le_bytes(*start);
        facts.end = u64::from_le_bytes(*end);
        *rest = after;
    }
}

/// Takes a number below 128.
#[inline(always)]
fn small(rest: &mut &[u8]) -> Option<u8> {
    rest.split_off_first().copied().filter(|value| *value < 0x80)
}

/// An id of so many bytes, or an empty one.
#[inline(always)]
fn id<'a>(rest: &mut &'a [u8], len: usize) -> Option<&'a [u8]> {
    content(rest).filter(|id| id.len() == len || id.is_empty())
}

/// Whether an id says nothing.
#[inline(always)]
fn is_zero(id: &[u8]) -> bool {
    id.first_chunk().is_none_or(|id| u64::from_le_bytes(*id) == 0)
}

/// Takes `N` bytes.
#[inline(always)]
fn fixed<'a, const N: usize>(rest: &mut &'a [u8]) -> Option<&'a [u8; N]> {
    let (bytes, after) = rest.split_first_chunk()?;
    *rest = after;
    Some(bytes)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::cast_possible_truncation, reason = "a test")]

    use super::super::careful;
    use super::*;
    use crate::otlp::write::field;
    use crate::testing::random::damage;

    /// A span as SDKs write it.
    fn usual(random: &mut impl FnMut(usize) -> usize) -> Vec<u8> {
        let mut out = vec![0x0a, 16];
        out.extend([7; 16]);
        out.extend([0x12, 8, 1, 2, 3, 4, 5, 6, 7, 8]);
        if random(2) == 0 {
            out.extend([0x22, 8, 0, 0, 0, 0, 0, 0, 0, random(2) as u8]);
        }
        if random(2) == 0 {
            out.extend(b"\x1a\x03a=b");
        }
        out.extend(b"\x2a\x05GET /");
        out.extend([0x30, random(6) as u8]);
        out.extend([&[0x39][..], &[random(256) as u8; 8], &[0x41], &[9; 8]].concat());
        let long = [&[0x0a, 0xac, 1], &[b's'; 172][..]].concat();
        for _ in 0..random(6) {
            let value: &[u8] = match random(10) {
                0 => b"\x0a\x03abc",
                1 => b"\x10\x01",
                2 => b"\x18\xac\x02",
                3 => b"\x21\x01\x02\x03\x04\x05\x06\x07\x08",
                4 => &long,
                5 => b"\x2a\x06\x0a\x04\x0a\x02ab",
                6 => b"\x18\x07",
                7 => b"\x18\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01",
                8 => b"\x0a\x00",
                _ => b"",
            };
            let key = [&b"k"[..], b"l", b"m", &[b'n'; 70]][random(4)];
            let key = field(1, key);
            let value = field(2, value);
            let entry = if random(2) == 0 { [key, value] } else { [value, key] }.concat();
            out.extend(field(9, &entry));
        }
        out.extend([0x50, random(3) as u8]);
        out.extend(b"\x5a\x0b\x09\x01\x02\x03\x04\x05\x06\x07\x08\x12\x00");
        out.extend(b"\x6a\x0a\x12\x08\x01\x02\x03\x04\x05\x06\x07\x08");
        out.extend([0x7a, 2, 0x18, random(4) as u8]);
        out.extend([0x85, 1, random(2) as u8, 0, 0, 0]);
        out
    }

    #[test]
    fn what_it_says_is_what_the_careful_walk_says() {
        let mut wanted = Wanted::default();
        let _ = (wanted.position(b"k"), wanted.position(b"m"));
        let mut state = 0x9e37_79b9_7f4a_7c15_u64;
        let mut random = |n: usize| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 20) as usize % n
        };
        let mut told = 0;
        for round in 0..60_000 {
            let mut span = usual(&mut random);
            let broken = round % 4;
            for _ in 0..broken {
                damage(&mut span, &mut random);
            }
            let whole = Extent { start: 0, end: position(span.len()) };
            let (mut quick_notes, mut notes) = (Notes::default(), Notes::default());
            let quick = read(&span, whole, &wanted, &mut quick_notes);
            let careful = careful(&span, whole, &wanted, &mut notes);
            if quick.is_some() {
                assert_eq!((Ok(()), quick_notes), (careful, notes), "{span:x?}");
                told += 1;
            } else {
                assert!(broken > 0, "it leaves nothing usual to the other: {span:x?}");
            }
        }
        assert!(told > 16_000, "of those that are broken some too: {told}");
    }
}
