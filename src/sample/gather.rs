//! Puts the spans of a trace together as they leave: one ResourceSpans for each that brought
//! spans of it, in it one ScopeSpans for each, in the order of arrival (tailsampling 3.6).

use super::buffer::{Address, Buffer};
use super::intern::Interner;
use crate::otlp::wire::{push_varint, varint_len};

/// Scratch, and the request that was put together last.
#[derive(Debug, Default)]
pub struct Gather {
    addresses: Vec<Address>,
    groups: Vec<Group>,
    bytes: Vec<u8>,
}

/// The spans of one ScopeSpans.
#[derive(Clone, Copy, Debug)]
struct Group {
    resource: u32,
    scope: u32,
    batch: u32,
    group: u32,
    /// Bytes of its content.
    bytes: u32,
    /// Its last span, as a position among the addresses; one past it.
    end: usize,
}

/// Tag of ResourceSpans in a request.
const RESOURCE_SPANS: u8 = 0x0a;
/// Tag of ScopeSpans in a ResourceSpans.
const SCOPE_SPANS: u8 = 0x12;
/// Buffers larger than this are given back.
const KEEP_BYTES_MAX: usize = 1 << 20;

impl Gather {
    /// Takes the spans of the chain that ends at `tail` out of the buffer; how many.
    pub fn collect(
        &mut self,
        tail: Address,
        buffer: &mut Buffer,
        resources: &Interner,
        scopes: &Interner,
    ) -> u64 {
        self.bytes.clear();
        self.bytes.shrink_to(KEEP_BYTES_MAX);
        self.addresses.clear();
        let mut at = tail;
        while at != Address::NONE {
            self.addresses.push(at);
            at = buffer.before(at);
        }
        self.addresses.reverse();
        self.find_groups(buffer, scopes);
        let (mut first, mut span) = (0, 0);
        while first < self.groups.len() {
            let batch = self.groups[first].batch;
            let same = self.groups[first..].iter().take_while(|g| g.batch == batch).count();
            span = self.write_resource(first..first + same, span, buffer, resources, scopes);
            first += same;
        }
        for at in &self.addresses {
            buffer.unpin(*at);
            buffer.forget(*at);
        }
        self.addresses.len() as u64
    }

    fn find_groups(&mut self, buffer: &Buffer, scopes: &Interner) {
        self.groups.clear();
        for (i, at) in self.addresses.iter().enumerate() {
            let stored = buffer.get(*at);
            let bytes = len(stored.field);
            let origin = stored.origin;
            match self.groups.last_mut() {
                Some(last) if last.group == origin.group && last.batch == origin.batch => {
                    last.bytes += bytes;
                    last.end = i + 1;
                }
                _ => self.groups.push(Group {
                    resource: origin.resource,
                    scope: origin.scope,
                    batch: origin.batch,
                    group: origin.group,
                    bytes: bytes + len(&scopes.get(origin.scope).fields),
                    end: i + 1,
                }),
            }
        }
    }

    fn write_resource(
        &mut self,
        groups: std::ops::Range<usize>,
        mut span: usize,
        buffer: &Buffer,
        resources: &Interner,
        scopes: &Interner,
    ) -> usize {
        let groups = &self.groups[groups];
        let fields = &resources.get(groups[0].resource).fields;
        let scopes_len: u32 = groups.iter().map(|g| 1 + varint_len(g.bytes) + g.bytes).sum();
        self.bytes.push(RESOURCE_SPANS);
        push_varint(&mut self.bytes, len(fields) + scopes_len);
        self.bytes.extend_from_slice(fields);
        for group in groups {
            self.bytes.push(SCOPE_SPANS);
            push_varint(&mut self.bytes, group.bytes);
            self.bytes.extend_from_slice(&scopes.get(group.scope).fields);
            for at in &self.addresses[span..group.end] {
                self.bytes.extend_from_slice(buffer.get(*at).field);
            }
            span = group.end;
        }
        span
    }

    /// The request.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The request, to add to it.
    pub fn bytes_mut(&mut self) -> &mut Vec<u8> {
        &mut self.bytes
    }
}

fn len(bytes: &[u8]) -> u32 {
    u32::try_from(bytes.len()).expect("below 4 GiB")
}
