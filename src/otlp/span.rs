//! One walk over a span: everything is checked, and what policies ask for is noted as it is passed.
//! There are two that say the same: a quick one for what SDKs write, and a careful one.

use attributes::Noting;

use super::check::{self, entry};
use super::wire::{Extent, I32, I64, LEN, Reader, VARINT};
use super::{Error, keep};

mod attributes;
mod quick;

/// The attribute keys that somebody asks for. Keys are known by their position.
#[derive(Clone, Debug, Default)]
pub struct Wanted {
    keys: Vec<Box<[u8]>>,
    /// Positions in `keys`, by length of the key: a row each, those of 64 bytes begin anew.
    by_len: Vec<Vec<u16>>,
    /// Which rows hold any, a bit each.
    lengths: u64,
}

/// As many as `lengths` has bits.
const ROWS: usize = u64::BITS as usize;

/// The row of keys that are so long.
#[inline(always)]
const fn row(len: usize) -> usize {
    len % ROWS
}

impl Wanted {
    /// The position of `key`, which is wanted from now on.
    ///
    /// # Panics
    /// If there are more than 65,535 keys; a configuration of that many is refused before.
    pub fn position(&mut self, key: &[u8]) -> u16 {
        if let Some(at) = self.keys.iter().position(|k| **k == *key) {
            return u16::try_from(at).expect("checked when it was added");
        }
        let at = u16::try_from(self.keys.len()).expect("fewer keys than bytes of a configuration");
        self.keys.push(key.into());
        self.by_len.resize(ROWS, Vec::new());
        self.by_len[row(key.len())].push(at);
        self.lengths |= 1 << row(key.len());
        at
    }

    /// The position of `key` if it is wanted.
    #[must_use]
    #[inline]
    pub fn find(&self, key: &[u8]) -> Option<u16> {
        let row = self.by_len.get(row(key.len()))?;
        row.iter().copied().find(|&at| *self.keys[at as usize] == *key)
    }

    /// How many keys are wanted.
    #[must_use]
    pub fn len(&self) -> usize {
        self.keys.len()
    }

    /// Whether nothing is wanted.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }
}

/// An attribute that was asked for: the first with its key (tailsampling 2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Found {
    /// Position of the key.
    pub key: u16,
    /// Its AnyValue message.
    pub value: Extent,
}

/// What a walk noted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Facts {
    /// `start_time_unix_nano`.
    pub start: u64,
    /// `end_time_unix_nano`.
    pub end: u64,
    /// `flags`.
    pub flags: u32,
    /// `status.code`, 3 for whatever is no known code.
    pub status: u8,
    /// The parent's id is empty or zero.
    pub is_root: bool,
    /// Bytes of the field before what it holds: tag and length.
    pub head: u8,
    /// `trace_state`.
    pub trace_state: Extent,
    /// Positions of its attributes in [`Notes::found`].
    pub found: (u32, u32),
}

impl Facts {
    /// What the field of the span holds.
    #[must_use]
    #[inline]
    pub fn content<'a>(&self, field: &'a [u8]) -> &'a [u8] {
        &field[self.head.into()..]
    }
}

/// What the walks over a request's spans noted. Extents count from where the field of the span
/// begins, so that they are true wherever it is copied to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Notes {
    /// Of each span. They are written where they stay: to build one and move it there takes a fifth
    /// of the time of a walk.
    pub facts: Vec<Facts>,
    /// Attributes of all spans.
    pub found: Vec<Found>,
}

impl Notes {
    /// Of no span.
    pub fn clear(&mut self) {
        keep(&mut self.facts);
        keep(&mut self.found);
    }

    /// Begins those of one more span: its facts, and where its attributes go.
    #[inline]
    fn begin(&mut self, span: Extent) -> (&mut Facts, &mut Vec<Found>) {
        let first = position(self.found.len());
        let head = u8::try_from(span.start).expect("two varints");
        let facts = Facts { head, is_root: true, found: (first, first), ..Facts::default() };
        self.facts.push(facts);
        (self.facts.last_mut().expect("pushed just now"), &mut self.found)
    }

    /// Appends what is known of span number `at` to the notes of another request that has it, too.
    pub fn hand_on(&self, at: usize, to: &mut Self) {
        let facts = self.facts[at];
        let first = position(to.found.len());
        to.found.extend_from_slice(self.found_of(&facts));
        to.facts.push(Facts { found: (first, position(to.found.len())), ..facts });
    }

    /// The attributes of the span of which `facts` are.
    #[must_use]
    #[inline]
    pub fn found_of(&self, facts: &Facts) -> &[Found] {
        &self.found[facts.found.0 as usize..facts.found.1 as usize]
    }

    /// Forgets the last span.
    fn forget(&mut self) {
        if let Some(facts) = self.facts.pop() {
            self.found.truncate(facts.found.0 as usize);
        }
    }
}

/// Walks the span that `field` is, checks it, and notes the wanted.
///
/// # Errors
/// The first thing that is wrong, which counts from where the field begins; the notes are then of
/// no use.
///
/// # Panics
/// If [`super::scan()`] did not find the field.
#[inline]
pub fn read(field: &[u8], wanted: &Wanted, notes: &mut Notes) -> Result<(), Error> {
    let span = content(field, Extent { start: 0, end: position(field.len()) });
    if quick::read(field, span, wanted, notes).is_some() {
        return Ok(());
    }
    notes.forget();
    careful(field, span, wanted, notes)
}

/// The walk over any span.
#[cold]
fn careful(body: &[u8], span: Extent, wanted: &Wanted, notes: &mut Notes) -> Result<(), Error> {
    let (facts, found) = notes.begin(span);
    let mut noting = Noting::of(body, wanted, found);
    let mut reader = Reader::new(body, span);
    while !reader.at_end() {
        field(&mut reader, body, facts, |content| {
            let (key, value) = entry(body, content)?;
            noting.note(key.of(body), value.of(body));
            Ok(())
        })?;
    }
    facts.found.1 = position(noting.found.len());
    Ok(())
}

/// Of several fields the last counts that says a code, cut to 32 bits as the collector reads it.
fn status(facts: &mut Facts, body: &[u8], content: Extent) -> Result<(), Error> {
    if let Some(code) = check::status(body, content)? {
        // The codes there are, and 3 for others.
        facts.status = u8::try_from((code & 0xffff_ffff).min(3)).expect("at most 3");
    }
    Ok(())
}

fn fixed64(reader: &mut Reader<'_>, body: &[u8]) -> Result<u64, Error> {
    let at = reader.pos() as usize;
    reader.advance(8)?;
    Ok(body[at..].first_chunk().map_or(0, |b| u64::from_le_bytes(*b)))
}

/// One field.
fn field(
    reader: &mut Reader<'_>,
    body: &[u8],
    facts: &mut Facts,
    attribute: impl FnOnce(Extent) -> Result<(), Error>,
) -> Result<(), Error> {
    let tag = reader.tag()?;
    let Some((_, name, role)) = super::layout::SPAN.iter().find(|f| f.0 == tag.field) else {
        return reader.skip(tag);
    };
    let wire = match role {
        super::layout::Role::TraceId | super::layout::Role::SpanId => LEN,
        super::layout::Role::Other(wire) => *wire,
    };
    if tag.wire != wire {
        return Err(Error::WrongWireType { field: name, wire: tag.wire, at: tag.at });
    }
    match (tag.field, wire) {
        (13, _) => check::link(body, reader.content()?),
        (16, I32) => {
            let at = reader.pos() as usize;
            reader.advance(4)?;
            facts.flags = body[at..].first_chunk().map_or(0, |b| u32::from_le_bytes(*b));
            Ok(())
        }
        (7, I64) => fixed64(reader, body).map(|time| facts.start = time),
        (8, I64) => fixed64(reader, body).map(|time| facts.end = time),
        (_, VARINT | I64) => reader.skip(tag),
        (9, _) => attribute(reader.content()?),
        _ => sized(reader, body, tag.field, facts),
    }
}

/// A field with a length.
fn sized(reader: &mut Reader<'_>, body: &[u8], field: u32, facts: &mut Facts) -> Result<(), Error> {
    let content = reader.content()?;
    match field {
        1 => check::id(content, 16),
        2 => check::id(content, 8),
        3 => {
            facts.trace_state = content;
            Ok(())
        }
        4 => {
            facts.is_root = content.of(body).iter().all(|b| *b == 0);
            check::id(content, 8)
        }
        11 => check::event(body, content),
        15 => status(facts, body, content),
        _ => Ok(()),
    }
}

fn position(n: usize) -> u32 {
    u32::try_from(n).expect("fewer attributes than bytes of a request")
}

/// The content of an item of traces: its field without tag and length.
///
/// # Panics
/// If `field` was not made by [`super::scan()`].
#[must_use]
#[inline]
pub fn content(body: &[u8], field: Extent) -> Extent {
    let head = match *field.of(body) {
        [0..0x80, 0..0x80, ..] => 2,
        [0..0x80, _, 0..0x80, ..] => 3,
        _ => return content_slow(body, field),
    };
    Extent { start: field.start + head, end: field.end }
}

#[cold]
fn content_slow(body: &[u8], field: Extent) -> Extent {
    let mut reader = Reader::new(body, field);
    let tag = reader.tag().expect("scanned before");
    debug_assert_eq!(tag.wire, LEN);
    reader.content().expect("scanned before")
}

/// A span without one has the id of zeros, as in the
/// collector.
pub const NO_TRACE_ID: [u8; 16] = [0; 16];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::otlp::write;

    /// `start`, `end` and an attribute, with tags of one byte or padded to two.
    fn span(padded: bool) -> Vec<u8> {
        let mut out = Vec::new();
        let mut field = |tag: u8, content: &[u8]| {
            match padded {
                true => out.extend([tag | 0x80, 0]),
                false => out.push(tag),
            }
            out.extend(content);
        };
        field(0x39, &7_u64.to_le_bytes());
        field(0x41, &9_u64.to_le_bytes());
        field(0x4a, b"\x08\x0a\x01k\x12\x03\x0a\x01v");
        out
    }

    /// A span as it stands in a request, and what is noted of it.
    fn noted(span: &[u8], wanted: &Wanted) -> (Vec<u8>, Notes) {
        let field = [&[0x12, u8::try_from(span.len()).unwrap()], span].concat();
        let mut notes = Notes::default();
        read(&field, wanted, &mut notes).unwrap();
        assert_eq!(field[notes.facts[0].head.into()..], *span);
        (field, notes)
    }

    #[test]
    fn a_padded_tag_is_noted_like_any_other() {
        let mut wanted = Wanted::default();
        let key = wanted.position(b"k");
        for padded in [false, true] {
            let (field, notes) = noted(&span(padded), &wanted);
            let facts = notes.facts[0];
            assert_eq!((facts.start, facts.end), (7, 9), "padded: {padded}");
            let [of_k] = notes.found[..] else { panic!("{notes:?}") };
            assert_eq!((of_k.key, of_k.value.of(&field)), (key, &b"\x0a\x01v"[..]));
        }
    }

    #[test]
    fn keys_in_one_row_are_not_taken_for_each_other() {
        let mut wanted = Wanted::default();
        let long = [b'k'; 1 + ROWS];
        let (short, long) = (wanted.position(b"k"), wanted.position(&long));
        let attribute =
            |key: &[u8]| write::field(9, &[&write::field(1, key)[..], b"\x12\0"].concat());
        let keys = [&b"k"[..], b"l", &[b'k'; 1 + ROWS], &[b'l'; 1 + ROWS], &[b'k'; 1 + 2 * ROWS]];
        let span = keys.map(attribute).concat();
        let field = write::field(2, &span);
        let mut notes = Notes::default();
        read(&field, &wanted, &mut notes).unwrap();
        assert_eq!(notes.found.iter().map(|found| found.key).collect::<Vec<_>>(), [short, long]);
    }

    #[test]
    fn notes_of_a_huge_request_do_not_keep_its_memory() {
        let max = crate::otlp::KEEP_ITEMS_MAX;
        let (mut wanted, mut notes) = (Wanted::default(), Notes::default());
        wanted.position(b"k");
        let field = [&b"\x12\x09"[..], b"\x4a\x07\x0a\x01k\x12\x02\x10\x01"].concat();
        for _ in 0..3 * max {
            read(&field, &wanted, &mut notes).unwrap();
        }
        assert_eq!((notes.facts.len(), notes.found.len()), (3 * max, 3 * max));
        notes.clear();
        assert!(notes.facts.capacity() <= max && notes.found.capacity() <= max);
    }

    #[test]
    fn notes_that_are_handed_on_are_those_of_the_spans() {
        let mut wanted = Wanted::default();
        wanted.position(b"k");
        let with_state = [&span(false)[..], b"\x1a\x03a=b\x4a\x04\x0a\x02k2"].concat();
        let spans = [span(false), with_state, vec![0x39, 1, 0, 0, 0, 0, 0, 0, 0], span(true)];
        let notes_of = |some: &[usize]| {
            let mut notes = Notes::default();
            for at in some {
                let span = &spans[*at];
                let field = [&[0x12, u8::try_from(span.len()).unwrap()], &span[..]].concat();
                read(&field, &wanted, &mut notes).unwrap();
            }
            notes
        };
        let all = notes_of(&[0, 1, 2, 3]);
        for some in [&[0][..], &[1], &[2], &[1, 3], &[0, 2, 3], &[0, 1, 2, 3], &[]] {
            let mut told = Notes::default();
            some.iter().for_each(|at| all.hand_on(*at, &mut told));
            assert_eq!(told, notes_of(some), "{some:?}");
        }
    }

    #[test]
    fn of_a_value_in_several_fields_the_last_counts_that_says_something() {
        let mut wanted = Wanted::default();
        wanted.position(b"k");
        let cases: [(&[u8], &[u8]); 3] = [
            (b"\x0a\x01k\x12\x03\x0a\x01v\x12\x00", b"\x0a\x01v"),
            (b"\x0a\x01k\x12\x03\x0a\x01v\x12\x02\x18\x07", b"\x18\x07"),
            (b"\x0a\x01k\x12\x00\x12\x03\x0a\x01v", b"\x0a\x01v"),
        ];
        for (entry, want) in cases {
            let span = [&[0x4a, u8::try_from(entry.len()).unwrap()], entry].concat();
            let (field, notes) = noted(&span, &wanted);
            assert_eq!(notes.found[0].value.of(&field), want, "{entry:x?}");
        }
    }

    #[test]
    fn of_a_status_in_several_fields_the_last_code_counts_and_32_bits_of_it() {
        let cases: [(&[u8], u8); 4] = [
            (b"\x7a\x02\x18\x02\x7a\x03\x12\x01m", 2),
            (b"\x7a\x02\x18\x02\x7a\x00", 2),
            (b"\x7a\x02\x18\x02\xfa\x00\x02\x18\x01", 1),
            (b"\x7a\x06\x18\x82\x80\x80\x80\x10", 2),
        ];
        for (span, want) in cases {
            let (_, notes) = noted(span, &Wanted::default());
            assert_eq!(notes.facts[0].status, want, "{span:x?}");
        }
    }
}
