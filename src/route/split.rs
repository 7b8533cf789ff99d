//! Cuts a request into one part per owner.
//!
//! Two phases, because room is reserved in every endpoint's queue before the first byte is copied:
//! [`Split::plan`] finds owners, neighbours and exact sizes; [`Split::write`] copies. A part is
//! itself a valid request, and parts may be concatenated. It has the request's resources
//! and scopes that have items of this owner, with all their other fields byte for byte, and the
//! items byte for byte; only the lengths around them are new (and minimal).
//!
//! Each endpoint has a lane that remembers what it has open; entering another scope closes it.
//! So the cost is per item and per (scope, endpoint) that meet, never per scope and endpoint.

use crate::otlp::wire::{Extent, push_varint, varint_len};
use crate::otlp::{Index, Resource, Scope, keep};

use super::Ring;

mod keyed;

/// What one endpoint gets of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Part {
    /// Position in [`Ring::endpoints`].
    pub endpoint: u16,
    /// Spans (or records) in it; at least one.
    pub items: u32,
    /// Exact number of bytes that [`Split::write`] appends; never more than the request has.
    pub bytes: usize,
    /// First of its resources.
    first: u32,
}

/// Scratch memory of one core, used again for each request.
#[derive(Debug, Default)]
pub struct Split {
    /// One per endpoint of the ring, all closed between plans.
    lanes: Vec<Lane>,
    /// Endpoints with items, in the order of their first.
    touched: Vec<u16>,
    parts: Vec<Part>,
    resources: Vec<Cut>,
    scopes: Vec<Cut>,
    runs: Vec<Run>,
    /// Tags and lengths that stand in no request, behind the request's own bytes: see `made`.
    made: Vec<u8>,
    /// Owner of each item, where that is the owner of its trace.
    owners: Vec<u16>,
    /// Owner of each data point of one metric.
    owned: Vec<(u16, Extent)>,
    /// What random owners are drawn from.
    seed: u64,
}

/// The end of a chain, and the resource or scope of a lane that has none open.
const NONE: u32 = u32::MAX;

/// What an endpoint has open while the request is walked.
#[derive(Clone, Copy, Debug)]
struct Lane {
    /// Position of the open scope in the index.
    scope: u32,
    /// Position of the open resource in the index.
    resource: u32,
    /// Open entries of `runs`, `scopes` and `resources`.
    run: u32,
    scope_cut: u32,
    resource_cut: u32,
    first: u32,
    items: u32,
    /// Bytes of the closed resources.
    bytes: u32,
}

const CLOSED: Lane = Lane {
    scope: NONE,
    resource: NONE,
    run: NONE,
    scope_cut: NONE,
    resource_cut: NONE,
    first: NONE,
    items: 0,
    bytes: 0,
};

/// A resource or scope in a part.
#[derive(Clone, Copy, Debug)]
struct Cut {
    /// Position in the index.
    source: u32,
    /// Length of its content in the part.
    len: u32,
    /// First scope, or first run.
    first: u32,
    /// Next one of the same part (resources) or of the same resource (scopes).
    next: u32,
}

/// Neighbouring items of one owner.
#[derive(Clone, Copy, Debug)]
struct Run {
    bytes: Extent,
    next: u32,
}

/// Tag of ResourceSpans in a request, of ScopeSpans in ResourceSpans, and of an item in ScopeSpans;
/// the other signals have the same.
const RESOURCE_TAG: u8 = 0x0a;
const SCOPE_TAG: u8 = 0x12;
const ITEM_TAG: u8 = 0x12;

/// Bytes of a length-delimited field with a one-byte tag.
const fn field_len(content: u32) -> u32 {
    1 + varint_len(content) + content
}

impl Split {
    /// Scratch memory that grows with the first requests.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The same, with a seed for what is spread at random: log records without a trace id, where
    /// that is the key.
    #[must_use]
    pub fn seeded(seed: u64) -> Self {
        Self { seed, ..Self::default() }
    }

    /// Which endpoint gets how much of the request that `index` was made from, without copying.
    /// Endpoints that get nothing have no part; a request without items has none, and on an
    /// **empty ring** there are none either: the caller has to look.
    ///
    /// An item without a trace id goes where 16 zero bytes go, as in the collector
    /// (loadbalancing 2.3).
    pub fn plan(&mut self, body: &[u8], index: &Index, ring: &Ring) -> &[Part] {
        self.begin(ring.endpoints().len());
        if ring.endpoints().is_empty() {
            return &self.parts;
        }
        let owners = self.find_owners(body, index, ring);
        let mut next = owners.iter();
        for (r, resource) in (0u32..).zip(index.resources()) {
            for (s, scope) in index.scopes_of(resource) {
                for (item, owner) in index.items_of(scope).iter().zip(&mut next) {
                    self.place(*owner, (r, resource), (s, scope), item.field, 1);
                }
            }
        }
        self.owners = owners;
        self.finish(body, index);
        &self.parts
    }

    /// Who owns each item, in the order of the items, which is that of their scopes. In a loop of
    /// its own, since the table of owners is not near: here many looks at it wait together, while
    /// each one would be waited for where it decides what comes next.
    fn find_owners(&mut self, body: &[u8], index: &Index, ring: &Ring) -> Vec<u16> {
        let owner = |id: &[u8; 16]| ring.owner(id).expect("the ring is not empty");
        let mut owners = std::mem::take(&mut self.owners);
        let mut last = (&NO_ID, owner(&NO_ID));
        owners.extend(index.items().iter().map(|item| {
            let id = index.trace_id(item, body).unwrap_or(&NO_ID);
            if id != last.0 {
                last = (id, owner(id));
            }
            last.1
        }));
        owners
    }

    /// Gives an endpoint bytes that stand in a scope: an item, or a piece of one, which then has
    /// its `items` with the first piece.
    #[inline(always)]
    fn place(
        &mut self,
        endpoint: u16,
        resource: (u32, &Resource),
        scope: (u32, &Scope),
        bytes: Extent,
        items: u32,
    ) {
        let lane = &mut self.lanes[endpoint as usize];
        if lane.scope != scope.0 {
            return self.enter(endpoint, resource, scope, bytes, items);
        }
        lane.items += items;
        self.scopes[lane.scope_cut as usize].len += bytes.len();
        let run = lane.run as usize;
        if self.runs[run].bytes.end == bytes.start {
            self.runs[run].bytes.end = bytes.end;
        } else {
            lane.run = push(&mut self.runs, Run { bytes, next: NONE });
            self.runs[run].next = lane.run;
        }
    }

    /// A tag and a length, placed as if they stood behind the request, with a byte between so that
    /// no run goes from one to the other.
    fn made(&mut self, body: &[u8], tag: u8, len: u32) -> Extent {
        let start = self.made.len();
        self.made.push(tag);
        push_varint(&mut self.made, len);
        let at = |pos| u32::try_from(body.len() + 1 + pos).expect("not far: see `is_far`");
        Extent { start: at(start), end: at(self.made.len()) }
    }

    /// The bytes of a run. Behind a request that was put together nothing was made.
    #[inline]
    fn bytes<'a>(&'a self, run: Extent, body: &'a [u8], index: &'a Index) -> &'a [u8] {
        let (start, end) = (run.start as usize, run.end as usize);
        match body.get(start..end) {
            Some(bytes) => bytes,
            None if self.made.is_empty() => index.bytes(body, run),
            None => &self.made[start - body.len() - 1..end - body.len() - 1],
        }
    }

    /// The parts of the last plan.
    #[must_use]
    pub fn parts(&self) -> &[Part] {
        &self.parts
    }

    /// Appends a part of the last plan, `Part::bytes` bytes, to `out`. `body` and `index` are those
    /// of the plan.
    ///
    /// # Panics
    /// If there is no such part, or `body` and `index` are not those of the plan.
    pub fn write(&self, part: usize, body: &[u8], index: &Index, out: &mut Vec<u8>) {
        let part = &self.parts[part];
        out.reserve(part.bytes);
        let before = out.len();
        for stray in index.strays() {
            out.extend_from_slice(stray.of(body));
        }
        let mut resource = part.first;
        while let Some(cut) = self.resources.get(resource as usize) {
            out.push(RESOURCE_TAG);
            push_varint(out, cut.len);
            for other in index.others_of_resource(&index.resources()[cut.source as usize]) {
                out.extend_from_slice(index.bytes(body, *other));
            }
            self.write_scopes(cut.first, body, index, out);
            resource = cut.next;
        }
        assert_eq!(out.len() - before, part.bytes, "a part has the size that was planned");
    }

    fn write_scopes(&self, first: u32, body: &[u8], index: &Index, out: &mut Vec<u8>) {
        let mut scope = first;
        while let Some(cut) = self.scopes.get(scope as usize) {
            out.push(SCOPE_TAG);
            push_varint(out, cut.len);
            for other in index.others_of_scope(&index.scopes()[cut.source as usize]) {
                out.extend_from_slice(index.bytes(body, *other));
            }
            let mut run = cut.first;
            while let Some(items) = self.runs.get(run as usize) {
                out.extend_from_slice(self.bytes(items.bytes, body, index));
                run = items.next;
            }
            scope = cut.next;
        }
    }

    /// Opens a scope, and its resource if need be, for an endpoint, with what is first in it.
    fn enter(
        &mut self,
        endpoint: u16,
        (r, resource): (u32, &Resource),
        (s, scope): (u32, &Scope),
        bytes: Extent,
        items: u32,
    ) {
        let run = push(&mut self.runs, Run { bytes, next: NONE });
        let len = scope.others_bytes() + bytes.len();
        let scope_cut = push(&mut self.scopes, Cut { source: s, len, first: run, next: NONE });
        let mut lane = self.lanes[endpoint as usize];
        self.close_scope(&lane);
        if lane.resource == r {
            self.scopes[lane.scope_cut as usize].next = scope_cut;
        } else {
            self.close_resource(&mut lane);
            let len = resource.others_bytes();
            let cut = Cut { source: r, len, first: scope_cut, next: NONE };
            let cut = push(&mut self.resources, cut);
            match self.resources.get_mut(lane.resource_cut as usize) {
                Some(previous) => previous.next = cut,
                None => {
                    lane.first = cut;
                    self.touched.push(endpoint);
                }
            }
            lane.resource = r;
            lane.resource_cut = cut;
        }
        lane.scope = s;
        lane.scope_cut = scope_cut;
        lane.run = run;
        lane.items += items;
        self.lanes[endpoint as usize] = lane;
    }

    /// Adds the lane's scope, now complete, to its resource.
    fn close_scope(&mut self, lane: &Lane) {
        if let Some(scope) = self.scopes.get(lane.scope_cut as usize) {
            self.resources[lane.resource_cut as usize].len += field_len(scope.len);
        }
    }

    /// Adds the lane's resource, now complete, to the part.
    fn close_resource(&self, lane: &mut Lane) {
        if let Some(resource) = self.resources.get(lane.resource_cut as usize) {
            lane.bytes += field_len(resource.len);
        }
    }

    /// Closes all lanes into parts.
    fn finish(&mut self, body: &[u8], index: &Index) {
        let strays: usize = index.strays().iter().map(|stray| stray.len() as usize).sum();
        for i in 0..self.touched.len() {
            let endpoint = self.touched[i];
            let mut lane = std::mem::replace(&mut self.lanes[endpoint as usize], CLOSED);
            self.close_scope(&lane);
            self.close_resource(&mut lane);
            if lane.items == 0 {
                // Metrics without points.
                continue;
            }
            let bytes = strays + lane.bytes as usize;
            assert!(bytes <= body.len(), "a part is not larger than the request");
            self.parts.push(Part { endpoint, items: lane.items, bytes, first: lane.first });
        }
    }

    fn begin(&mut self, owners: usize) {
        self.lanes.resize(owners, CLOSED);
        self.touched.clear();
        self.parts.clear();
        keep(&mut self.resources);
        keep(&mut self.scopes);
        keep(&mut self.runs);
        keep(&mut self.made);
        keep(&mut self.owners);
    }
}

static NO_ID: [u8; 16] = [0; 16];

#[inline]
fn push<T>(table: &mut Vec<T>, entry: T) -> u32 {
    table.push(entry);
    u32::try_from(table.len() - 1).expect("fewer entries than bytes in the request")
}

#[cfg(test)]
mod tests {
    use crate::otlp::{Signal, scan};
    use crate::route::Generation;

    use super::*;

    fn field(tag: u8, content: &[u8]) -> Vec<u8> {
        let mut out = vec![tag];
        push_varint(&mut out, u32::try_from(content.len()).unwrap());
        [&out, content].concat()
    }

    fn span(id: u8) -> Vec<u8> {
        field(SCOPE_TAG, &[field(0x0a, &[id; 16]), field(0x12, &[1; 8])].concat())
    }

    fn ring(endpoints: usize) -> Ring {
        let names: Vec<_> = (0..endpoints).map(|n| format!("10.0.0.{n}:4317")).collect();
        Ring::new(Generation::V3, &names)
    }

    fn parts(body: &[u8], ring: &Ring) -> Vec<(u16, u32, Vec<u8>)> {
        let mut index = Index::new();
        scan(Signal::Traces, body, &mut index).unwrap();
        let mut split = Split::new();
        let plan = split.plan(body, &index, ring).to_vec();
        let write = |(i, part): (usize, &Part)| {
            let mut out = Vec::new();
            split.write(i, body, &index, &mut out);
            assert_eq!(out.len(), part.bytes);
            (part.endpoint, part.items, out)
        };
        plan.iter().enumerate().map(write).collect()
    }

    #[test]
    fn a_request_for_one_endpoint_leaves_as_it_came() {
        let scope = field(SCOPE_TAG, &[span(1), span(2), field(0x0a, b"")].concat());
        let body = field(RESOURCE_TAG, &[scope, field(0x0a, b"")].concat());
        // The other fields of a message come first now; the field order is free.
        let scope = field(SCOPE_TAG, &[field(0x0a, b""), span(1), span(2)].concat());
        let want = field(RESOURCE_TAG, &[field(0x0a, b""), scope].concat());
        assert_eq!(parts(&body, &ring(1)), [(0, 2, want)]);
    }

    #[test]
    fn scopes_and_resources_without_items_of_an_owner_are_left_out() {
        let ring = ring(2);
        let owner = |id: u8| ring.owner(&[id; 16]).unwrap();
        let (x, y) = (1, (2..).find(|&y| owner(y) != owner(1)).unwrap());
        let rs = |name: &[u8], scopes: &[Vec<u8>]| {
            field(RESOURCE_TAG, &[field(0x0a, name), scopes.concat()].concat())
        };
        let ss = |spans: &[Vec<u8>]| field(SCOPE_TAG, &spans.concat());
        let body = [
            rs(b"a", &[ss(&[span(x), span(y), span(x)]), ss(&[]), ss(&[span(y)])]),
            rs(b"b", &[]),
            rs(b"c", &[ss(&[span(y)])]),
        ]
        .concat();
        let for_x = rs(b"a", &[ss(&[span(x), span(x)])]);
        let for_y =
            [rs(b"a", &[ss(&[span(y)]), ss(&[span(y)])]), rs(b"c", &[ss(&[span(y)])])].concat();
        assert_eq!(parts(&body, &ring), [(owner(x), 2, for_x), (owner(y), 3, for_y)]);
    }

    #[test]
    fn absent_and_zero_ids_have_one_owner() {
        let ring = ring(3);
        let scope = [span(0), field(SCOPE_TAG, &[0x0a, 0]), field(SCOPE_TAG, &[])].concat();
        let body = field(RESOURCE_TAG, &field(SCOPE_TAG, &scope));
        let owner = ring.owner(&[0; 16]).unwrap();
        assert_eq!(parts(&body, &ring), [(owner, 3, body.clone())]);
    }

    #[test]
    fn nothing_to_send_and_nowhere_to_send_make_no_parts() {
        assert_eq!(parts(&[], &ring(2)), []);
        assert_eq!(parts(&field(RESOURCE_TAG, &field(SCOPE_TAG, &[])), &ring(2)), []);
        let body = field(RESOURCE_TAG, &field(SCOPE_TAG, &span(1)));
        assert_eq!(parts(&body, &ring(0)), []);
    }

    #[test]
    fn scratch_of_a_larger_ring_does_not_leak_into_a_smaller_one() {
        let body = field(RESOURCE_TAG, &field(SCOPE_TAG, &[span(1), span(2), span(3)].concat()));
        let mut index = Index::new();
        scan(Signal::Traces, &body, &mut index).unwrap();
        let mut split = Split::new();
        for endpoints in [9, 2, 1, 5, 1] {
            let items: u32 =
                split.plan(&body, &index, &ring(endpoints)).iter().map(|part| part.items).sum();
            assert_eq!(items, 3);
        }
    }
}
