//! The walk over a span that is written as SDKs write it: tags of one byte (two for flags), lengths
//! of one or two, values in the order key, value. Whatever is otherwise, or wrong, is left to
//! [`super::careful`], which begins anew: so this one need not say what is wrong, and is twice as
//! fast for it.

use super::{Notes, Wanted, note, position, status};
use crate::otlp::check;
use crate::otlp::wire::Extent;

/// Walks the span at `span` in its field, checks it, and notes the wanted. `None` says nothing
/// about it.
#[inline]
pub(super) fn read(body: &[u8], span: Extent, wanted: &Wanted, notes: &mut Notes) -> Option<()> {
    let bytes = &body[..span.end as usize];
    let (facts, found) = notes.begin(span);
    let first = found.len();
    let mut at = span.start as usize;
    while let Some(&tag) = bytes.get(at) {
        at += 1;
        match tag {
            0x4a => {
                let content = content(bytes, at)?;
                at = content.end as usize;
                let (key, value) = check::entry(body, content).ok()?;
                note(body, key, value, wanted, found, first);
            }
            0x0a => at = id(bytes, at, 16)?.end as usize,
            0x12 => at = id(bytes, at, 8)?.end as usize,
            0x22 => {
                let parent = id(bytes, at, 8)?;
                at = parent.end as usize;
                facts.is_root = parent.of(bytes).iter().all(|b| *b == 0);
            }
            0x1a => {
                facts.trace_state = content(bytes, at)?;
                at = facts.trace_state.end as usize;
            }
            0x2a => at = content(bytes, at)?.end as usize,
            // Kind, and counts of what was dropped.
            0x30 | 0x50 | 0x60 | 0x70 => {
                bytes.get(at).filter(|value| **value < 0x80)?;
                at += 1;
            }
            0x39 | 0x41 => {
                let time = u64::from_le_bytes(*bytes[at..].first_chunk()?);
                at += 8;
                *(if tag == 0x39 { &mut facts.start } else { &mut facts.end }) = time;
            }
            0x5a => {
                let event = content(bytes, at)?;
                at = event.end as usize;
                check::event(body, event).ok()?;
            }
            0x6a => {
                let link = content(bytes, at)?;
                at = link.end as usize;
                check::link(body, link).ok()?;
            }
            0x7a => {
                let content = content(bytes, at)?;
                at = content.end as usize;
                match content.of(bytes) {
                    [] => {}
                    [0x18, code @ 0..0x80] => facts.status = (*code).min(3),
                    _ => status(facts, body, content).ok()?,
                }
            }
            0x85 if bytes.get(at) == Some(&1) => {
                facts.flags = u32::from_le_bytes(*bytes[at + 1..].first_chunk()?);
                at += 5;
            }
            _ => return None,
        }
    }
    facts.found.1 = position(found.len());
    Some(())
}

/// The content whose length stands at `at`.
#[inline(always)]
fn content(bytes: &[u8], at: usize) -> Option<Extent> {
    let (start, len) = match bytes[at..] {
        [a, ..] if a < 0x80 => (at + 1, usize::from(a)),
        [a, b, ..] if b < 0x80 => (at + 2, usize::from(a & 0x7f) | usize::from(b) << 7),
        _ => return None,
    };
    if len > bytes.len() - start {
        return None;
    }
    Some(Extent { start: position(start), end: position(start + len) })
}

/// An id of so many bytes, or an empty one.
#[inline(always)]
fn id(bytes: &[u8], at: usize, len: u32) -> Option<Extent> {
    content(bytes, at).filter(|id| id.len() == len || id.is_empty())
}

#[cfg(test)]
#[allow(clippy::cast_possible_truncation, reason = "a test")]
mod tests {
    use super::super::careful;
    use super::*;

    /// A span as SDKs write it.
    fn usual(random: &mut impl FnMut(usize) -> usize) -> Vec<u8> {
        let mut out = vec![0x0a, 16];
        out.extend([7; 16]);
        out.extend([0x12, 8, 1, 2, 3, 4, 5, 6, 7, 8]);
        if random(2) == 0 {
            out.extend([0x22, 8, 0, 0, 0, 0, 0, 0, 0, random(2) as u8]);
        }
        out.extend(b"\x1a\x03a=b\x2a\x05GET /\x30\x02");
        out.extend([&[0x39][..], &[random(256) as u8; 8], &[0x41], &[9; 8]].concat());
        for _ in 0..random(6) {
            let value: &[u8] = match random(5) {
                0 => b"\x0a\x03abc",
                1 => b"\x10\x01",
                2 => b"\x18\xac\x02",
                3 => b"\x21\x01\x02\x03\x04\x05\x06\x07\x08",
                _ => b"\x2a\x06\x0a\x04\x0a\x02ab",
            };
            let key = [b"k", b"l", b"m"][random(3)];
            let len = u8::try_from(5 + value.len()).unwrap();
            out.extend([&[0x4a, len, 0x0a, 1], &key[..], &[0x12, len - 5], value].concat());
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
                let at = random(span.len());
                match random(3) {
                    0 => span[at] = random(256) as u8,
                    1 => drop(span.remove(at)),
                    _ => span.insert(at, random(256) as u8),
                }
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
