//! [`super::scan()`] for a request of spans that lies in pieces, between frames of other streams.
//!
//! Copying a message into one piece costs a twelfth of a hop, and nearly all of its fields lie in
//! one piece anyway. A field that does not is put together behind the body ([`Index::bytes`]);
//! everything else is found where it lies. Only what nearly everybody sends is read: fields 1 to 3
//! of the envelopes. Whoever sends anything else, or something broken, is read in one piece.

use std::ops::Range;

use super::ids::trace_id_at;
use super::index::{Item, Resource, Scope};
use super::layout::{ITEMS, RESOURCE, RESOURCES, SCHEMA_URL, SCOPE, SCOPES};
use super::scan::{Gathered, position};
use super::wire::{Extent, LEN};
use super::{Index, Signal};

/// Reads the envelopes of the spans that `pieces` of `body` are when they are put together. False
/// if they have to be, or if there are none: the index is empty then.
///
/// Extents in the index are to be read by [`Index::bytes`] and [`Index::trace_id`].
pub fn scan_pieces(body: &[u8], pieces: &[Range<u32>], index: &mut Index) -> bool {
    index.clear();
    index.signal = Some(Signal::Traces);
    let is_read = !pieces.is_empty()
        && Walk::new(body, pieces).and_then(|walk| walk.request(index)).is_some();
    if !is_read {
        index.clear();
    }
    is_read
}

/// How far the pieces are read.
#[derive(Clone, Copy)]
struct Walk<'a> {
    body: &'a [u8],
    /// Those behind the one that is being read.
    pieces: &'a [Range<u32>],
    /// Where the next byte lies, and where its piece ends.
    at: u32,
    end: u32,
    /// Bytes of the message that were read.
    read: u32,
    /// All of them.
    len: u32,
}

/// Tag of a length-delimited field.
const fn tag(field: u32) -> u8 {
    field.to_le_bytes()[0] << 3 | LEN
}

const RESOURCES_TAG: u8 = tag(RESOURCES);
const SCOPES_TAG: u8 = tag(SCOPES);
const ITEMS_TAG: u8 = tag(ITEMS);
const RESOURCE_TAG: u8 = tag(RESOURCE);
const SCOPE_TAG: u8 = tag(SCOPE);
const SCHEMA_URL_TAG: u8 = tag(SCHEMA_URL);

impl<'a> Walk<'a> {
    fn new(body: &'a [u8], pieces: &'a [Range<u32>]) -> Option<Self> {
        let len = pieces.iter().try_fold(0_u32, |sum, p| sum.checked_add(p.end - p.start))?;
        // What is put together behind the body has a place there, too.
        u32::try_from(body.len()).ok()?.checked_add(len)?.checked_add(1)?;
        Some(Self { body, pieces, at: 0, end: 0, read: 0, len })
    }

    fn request(mut self, index: &mut Index) -> Option<()> {
        while self.read < self.len {
            if self.byte()? != RESOURCES_TAG {
                return None;
            }
            let stop = self.stop(self.len)?;
            self.resource(stop, index)?;
        }
        Some(())
    }

    fn resource(&mut self, stop: u32, index: &mut Index) -> Option<()> {
        index.pending.clear();
        let first = position(index.scopes.len());
        while self.read < stop {
            let before = self.here();
            match self.byte()? {
                SCOPES_TAG => {
                    let stop = self.stop(stop)?;
                    self.scope(stop, index)?;
                }
                RESOURCE_TAG | SCHEMA_URL_TAG => {
                    let (field, _) = self.field(before, stop, index)?;
                    index.pending.push(field);
                }
                _ => return None,
            }
        }
        let scopes = Extent { start: first, end: position(index.scopes.len()) };
        let mut others = Gathered::begin(index);
        for i in 0..index.pending.len() {
            others.push(&mut index.others, index.pending[i]);
        }
        let others = others.end(index);
        index.resources.push(Resource { scopes, others });
        Some(())
    }

    fn scope(&mut self, stop: u32, index: &mut Index) -> Option<()> {
        let mut others = Gathered::begin(index);
        let first = position(index.items.len());
        while self.read < stop {
            if let Some((field, content)) = self.quick_item(stop) {
                let id = trace_id_at(Signal::Traces, self.body, content).ok()?;
                index.items.push(Item { field, id });
                continue;
            }
            let before = self.here();
            match self.byte()? {
                ITEMS_TAG => {
                    let (field, content) = self.field(before, stop, index)?;
                    let id = self.trace_id(content, index)?;
                    index.items.push(Item { field, id });
                }
                SCOPE_TAG | SCHEMA_URL_TAG => {
                    let (field, _) = self.field(before, stop, index)?;
                    others.push(&mut index.others, field);
                }
                _ => return None,
            }
        }
        let others = others.end(index);
        let items = Extent { start: first, end: position(index.items.len()) };
        index.scopes.push(Scope { items, others });
        Some(())
    }

    /// The next field and its content, if it is an item of a usual length and lies in one piece.
    #[inline(always)]
    fn quick_item(&mut self, stop: u32) -> Option<(Extent, Extent)> {
        let [ITEMS_TAG, low, high, ..] = self.body[self.at as usize..self.end as usize] else {
            return None;
        };
        let (head, len) = match (low < 0x80, high < 0x80) {
            (true, _) => (2, u32::from(low)),
            (false, true) => (3, u32::from(low & 0x7f) | u32::from(high) << 7),
            (false, false) => return None,
        };
        if head + len > self.end - self.at || head + len > stop - self.read {
            return None;
        }
        let field = Extent { start: self.at, end: self.at + head + len };
        (self.at, self.read) = (field.end, self.read + head + len);
        Some((field, Extent { start: field.start + head, end: field.end }))
    }

    /// The rest of the field that began at `before`, and of it the content.
    #[inline]
    fn field(&mut self, before: Self, stop: u32, index: &mut Index) -> Option<(Extent, Extent)> {
        let end = self.stop(stop)?;
        let len = end - self.read;
        if before.pieces.len() == self.pieces.len() && len <= self.end - self.at {
            let content = Extent { start: self.at, end: self.at + len };
            (self.at, self.read) = (content.end, end);
            return Some((Extent { start: before.at, end: content.end }, content));
        }
        let head = self.read - before.read;
        *self = before;
        let base = position(self.body.len() + 1);
        let start = base + position(index.patch.len());
        self.copy(head + len, &mut index.patch);
        let field = Extent { start, end: start + head + len };
        Some((field, Extent { start: start + head, end: field.end }))
    }

    /// As [`super::ids`] find it, also behind the body.
    #[inline]
    fn trace_id(&self, content: Extent, index: &Index) -> Option<u32> {
        let base = position(self.body.len() + 1);
        if content.start < base {
            return trace_id_at(Signal::Traces, self.body, content).ok();
        }
        let there = Extent { start: content.start - base, end: content.end - base };
        let id = trace_id_at(Signal::Traces, &index.patch, there).ok()?;
        Some(if id == 0 { 0 } else { id + base })
    }

    /// Takes so many bytes, which are there, from one piece after the other.
    #[cold]
    fn copy(&mut self, mut len: u32, to: &mut Vec<u8>) {
        while len > 0 {
            if self.at == self.end {
                self.enter();
            }
            let n = len.min(self.end - self.at);
            to.extend_from_slice(Extent { start: self.at, end: self.at + n }.of(self.body));
            (self.at, self.read) = (self.at + n, self.read + n);
            len -= n;
        }
    }

    /// Where the message ends whose length is next; not behind that of the one around it.
    #[inline]
    fn stop(&mut self, around: u32) -> Option<u32> {
        let len = self.varint()?;
        self.read.checked_add(len).filter(|stop| *stop <= around)
    }

    #[inline]
    fn varint(&mut self) -> Option<u32> {
        let first = self.byte()?;
        if first < 0x80 {
            return Some(u32::from(first));
        }
        let mut value = u32::from(first & 0x7f);
        for shift in [7, 14, 21] {
            let byte = self.byte()?;
            value |= u32::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Some(value);
            }
        }
        None
    }

    /// At the next byte, which is there.
    #[inline]
    fn here(&mut self) -> Self {
        if self.at == self.end {
            self.enter();
        }
        *self
    }

    #[inline]
    fn byte(&mut self) -> Option<u8> {
        if self.read == self.len {
            return None;
        }
        if self.at == self.end {
            self.enter();
        }
        let byte = self.body[self.at as usize];
        (self.at, self.read) = (self.at + 1, self.read + 1);
        Some(byte)
    }

    /// Goes on in the next piece that is not empty. There is one, since not all is read.
    #[cold]
    fn enter(&mut self) {
        while self.at == self.end {
            (self.at, self.end) = (self.pieces[0].start, self.pieces[0].end);
            self.pieces = &self.pieces[1..];
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::scan;
    use super::super::write::field;
    use super::*;
    use crate::testing::scatter::scatter;

    fn span(id: u8) -> Vec<u8> {
        let ids = [field(1, &[id; 16]), field(2, &[8; 8])].concat();
        field(ITEMS, &[ids, field(5, b"a name")].concat())
    }

    fn message() -> Vec<u8> {
        let scope = field(SCOPE, &field(1, b"library"));
        let scopes = [
            field(SCOPES, &[scope.clone(), span(1), span(2), field(SCHEMA_URL, b"u")].concat()),
            field(SCOPES, &[span(3), scope].concat()),
        ];
        let resource = field(RESOURCE, b"");
        let first = [resource, scopes.concat(), field(SCHEMA_URL, b"v")].concat();
        [field(RESOURCES, &first), field(RESOURCES, &[])].concat()
    }

    /// All that an index says: other fields of each resource and scope, items with their ids.
    fn said(body: &[u8], index: &Index) -> Vec<(&'static str, Vec<u8>)> {
        let others = |extents: &[Extent], bytes: u32| {
            let others = extents.iter().map(|extent| index.bytes(body, *extent));
            let others = others.collect::<Vec<_>>().concat();
            assert_eq!(others.len(), bytes as usize);
            others
        };
        let mut said = Vec::new();
        for resource in index.resources() {
            let fields = index.others_of_resource(resource);
            said.push(("resource", others(fields, resource.others_bytes())));
            for (_, scope) in index.scopes_of(resource) {
                said.push(("scope", others(index.others_of_scope(scope), scope.others_bytes())));
                for item in index.items_of(scope) {
                    let id = index.trace_id(item, body).copied().unwrap_or_default();
                    said.push(("item", [&id, index.bytes(body, item.field)].concat()));
                }
            }
        }
        said
    }

    #[test]
    fn wherever_a_message_is_cut_it_says_the_same() {
        let message = message();
        let mut index = Index::new();
        scan(Signal::Traces, &message, &mut index).unwrap();
        let want = said(&message, &index);
        assert_eq!(want.len(), 2 + 2 + 3);
        for first in 0..message.len() {
            for second in 0..message.len() - first {
                let (body, pieces) = scatter(&message, &[first, second]);
                assert!(scan_pieces(&body, &pieces, &mut index), "cut at {first} and {second}");
                assert_eq!(said(&body, &index), want, "cut at {first} and {second}");
            }
        }
    }

    #[test]
    fn what_is_unusual_or_broken_is_left_to_the_other_scan() {
        let mut index = Index::new();
        let good = message();
        let in_a_scope = |content: &[u8]| field(RESOURCES, &field(SCOPES, content));
        for (what, message) in [
            ("unknown field of the request", [&good[..], &[0x10, 1]].concat()),
            ("unknown field of a resource", field(RESOURCES, &[0x20, 1])),
            ("unknown field of a scope", in_a_scope(&[0x20, 1])),
            ("old scopes", field(RESOURCES, &[0xc2, 0x3e, 0])),
            ("an id of eight bytes", in_a_scope(&field(ITEMS, &field(1, &[1; 8])))),
            ("a field longer than its message", vec![RESOURCES_TAG, 2, SCOPES_TAG, 1]),
            ("cut off", good[..good.len() - 1].to_vec()),
            ("a length of six bytes", vec![RESOURCES_TAG, 0x80, 0x80, 0x80, 0x80, 0x80, 0]),
        ] {
            let (body, pieces) = scatter(&message, &[1]);
            assert!(!scan_pieces(&body, &pieces, &mut index), "{what}");
            assert_eq!((index.count(), index.resources().len()), (0, 0), "{what}");
        }
        assert!(!scan_pieces(&message(), &[], &mut index), "it is in one piece");
        assert_eq!(index.count(), 0);
    }
}
