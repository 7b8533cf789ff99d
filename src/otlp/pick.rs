//! Items of a request, copied out of it to be read elsewhere.

use super::index::{Others, Placed};
use super::scan::position;
use super::wire::Extent;
use super::{Index, Item, Resource, Scope, Signal};

/// Some items of requests: their bytes, those of the resources and scopes around them, and where
/// each lies. No lengths stand between them, so the bytes alone are no message; with their index
/// they are read like one.
#[derive(Debug, Default)]
pub struct Pick {
    bytes: Vec<u8>,
    index: Index,
    /// Positions in the request of the last resource and scope.
    resource: Option<u32>,
    scope: Option<u32>,
}

/// Bytes whose memory is kept for the next request.
const KEEP_BYTES_MAX: usize = 1 << 20;

impl Pick {
    /// Nothing of any request yet.
    pub fn begin(&mut self, signal: Signal) {
        self.bytes.clear();
        self.bytes.shrink_to(KEEP_BYTES_MAX);
        self.index.clear();
        self.index.signal = Some(signal);
        self.end_request();
    }

    /// What is added next is of another request: its resources and scopes are others.
    pub fn end_request(&mut self) {
        (self.resource, self.scope) = (None, None);
    }

    /// One more item of a request; the items come in its order. Says its position and that of its
    /// scope. Not for metrics, whose points would have to be counted.
    pub fn add(&mut self, body: &[u8], index: &Index, placed: &Placed<'_>) -> (u32, u32) {
        let Placed { resource, scope, item } = placed;
        if self.resource != Some(resource.0) {
            let others = self.copy(body, index, index.others_of_resource(resource.1));
            let at = position(self.index.scopes.len());
            self.index.resources.push(Resource { scopes: Extent { start: at, end: at }, others });
            self.resource = Some(resource.0);
        }
        if self.scope != Some(scope.0) {
            let others = self.copy(body, index, index.others_of_scope(scope.1));
            let at = position(self.index.items.len());
            self.index.scopes.push(Scope { items: Extent { start: at, end: at }, others });
            self.index.resources.last_mut().expect("has one").scopes.end += 1;
            self.scope = Some(scope.0);
        }
        let field = self.append(index.bytes(body, item.field));
        let id = if item.id == 0 { 0 } else { field.start + (item.id - item.field.start) };
        self.index.items.push(Item { field, id });
        let scope = self.index.scopes.last_mut().expect("has one");
        scope.items.end += 1;
        (scope.items.end - 1, position(self.index.scopes.len() - 1))
    }

    fn copy(&mut self, body: &[u8], index: &Index, extents: &[Extent]) -> Others {
        let first = position(self.index.others.len());
        let mut bytes = 0;
        for extent in extents {
            let copied = self.append(index.bytes(body, *extent));
            bytes += copied.len();
            self.index.others.push(copied);
        }
        Others { at: Extent { start: first, end: position(self.index.others.len()) }, bytes }
    }

    fn append(&mut self, bytes: &[u8]) -> Extent {
        let start = position(self.bytes.len());
        self.bytes.extend_from_slice(bytes);
        Extent { start, end: position(self.bytes.len()) }
    }

    /// What was picked: the body and its index.
    #[must_use]
    pub fn request(&self) -> (&[u8], &Index) {
        (&self.bytes, &self.index)
    }
}

#[cfg(test)]
mod tests {
    use super::super::write::field;
    use super::super::{scan, scan_pieces};
    use super::*;
    use crate::testing::random::Random;
    use crate::testing::scatter::scatter;

    /// What an index says of each item: its resource and scope, its field and its id.
    type Said<'a> = Vec<(Vec<&'a [u8]>, Vec<&'a [u8]>, &'a [u8], Option<&'a [u8; 16]>)>;

    fn said<'a>(body: &'a [u8], index: &'a Index) -> Said<'a> {
        let bytes = |extents: &[Extent]| -> Vec<&[u8]> {
            extents.iter().map(|extent| index.bytes(body, *extent)).collect()
        };
        let one = |placed: Placed<'_>| {
            let Placed { resource: (_, resource), scope: (_, scope), item } = placed;
            (
                bytes(index.others_of_resource(resource)),
                bytes(index.others_of_scope(scope)),
                index.bytes(body, item.field),
                index.trace_id(item, body),
            )
        };
        index.placed().map(one).collect()
    }

    fn span(random: &mut Random) -> Vec<u8> {
        let id = field(1, &[u8::try_from(random.below(250)).unwrap(); 16]);
        field(2, if random.chance(0.2) { &[] } else { &id })
    }

    fn request(random: &mut Random) -> Vec<u8> {
        let few = |random: &mut Random, max| (0..random.below(max)).collect::<Vec<_>>();
        let resource = |random: &mut Random| {
            let mut scopes = Vec::new();
            for _ in few(random, 3) {
                let spans = few(random, 3).iter().map(|_| span(random)).collect::<Vec<_>>();
                scopes.extend(field(2, &[spans.concat(), field(1, b"\x0a\x01n")].concat()));
            }
            field(1, &[field(1, b""), scopes, field(3, b"url")].concat())
        };
        few(random, 4).iter().flat_map(|_| resource(random)).collect()
    }

    #[test]
    fn what_is_picked_says_of_itself_what_the_request_said_of_it() {
        let (mut pick, mut index) = (Pick::default(), Index::new());
        for seed in 0..2_000 {
            let mut random = Random::new(seed);
            let request = request(&mut random);
            let cut = usize::try_from(random.below(40)).unwrap();
            let (body, pieces) = match seed % 2 {
                0 => scatter(&request, &[cut.min(request.len())]),
                _ => (request.clone(), Vec::new()),
            };
            match pieces.is_empty() {
                true => scan(Signal::Traces, &body, &mut index).unwrap(),
                false => assert!(scan_pieces(&body, &pieces, &mut index)),
            }
            let takes: Vec<bool> = index.items().iter().map(|_| random.chance(0.5)).collect();
            pick.begin(Signal::Traces);
            for (placed, taken) in index.placed().zip(&takes) {
                if *taken {
                    pick.add(&body, &index, &placed);
                }
            }
            let mut want = said(&body, &index);
            let mut taken = takes.iter();
            want.retain(|_| *taken.next().unwrap());
            let (bytes, picked) = pick.request();
            assert_eq!(said(bytes, picked), want, "seed {seed}");
            assert_eq!(picked.count(), want.len() as u64);
            let is_used = |resource: &Resource| !resource.scopes.is_empty();
            assert!(picked.resources().iter().all(is_used), "seed {seed}: an empty resource");
        }
    }
}
