//! How many bytes the collector writes for a trace: what `bytes_limiting` counts (tailsampling
//! 2.11). They are summed up as spans arrive, and once more where a composite has written on the
//! scopes meanwhile (2.16).

use super::buffer::{Address, Buffer, Origin, Stored};
use super::intern::Interner;
use super::mark;
use crate::otlp::size;
use crate::otlp::value::messages;

/// What a ResourceSpans adds to a trace.
#[derive(Clone, Copy, Debug, Default)]
pub struct Sum {
    /// Bytes of its ScopeSpans so far.
    size: u64,
    /// Of the one at hand, whose number is `group`; 0 is none.
    group_size: u64,
    group: u32,
}

impl Sum {
    /// One more span, of this size with tag and length; `scope` is that of its scope.
    #[inline]
    pub fn add(&mut self, origin: Origin, span: u64, scope: impl FnOnce() -> u64) {
        if self.group != origin.group {
            self.end_group();
            (self.group, self.group_size) = (origin.group, scope());
        }
        self.group_size += span;
    }

    fn end_group(&mut self) {
        if self.group != 0 {
            self.size += size::field(self.group_size);
        }
        self.group = 0;
    }

    /// Bytes of all its ScopeSpans.
    pub fn whole(&mut self) -> u64 {
        self.end_group();
        self.size
    }
}

/// The spans of a trace, to be weighed again.
#[derive(Clone, Copy, Debug)]
pub struct Spans<'a> {
    /// The last of them.
    pub tail: Address,
    /// Where they are.
    pub buffer: &'a Buffer,
    /// Their resources.
    pub resources: &'a Interner,
    /// Their scopes.
    pub scopes: &'a Interner,
}

impl Spans<'_> {
    /// Bytes of the trace when all its scopes say that the sub-policy `name` let it pass.
    #[must_use]
    pub fn size_with(&self, name: &str) -> u64 {
        let (mut size, mut sum) = (0, Sum::default());
        let mut at = self.tail;
        while at != Address::NONE {
            let Stored { field, origin, before } = self.buffer.get(at);
            let content = messages(field, SPANS).next().unwrap_or_default();
            sum.add(origin, size::field(size::span(content)), || self.scope(origin, name));
            let next = (before != Address::NONE).then(|| self.buffer.get(before).origin.batch);
            if next != Some(origin.batch) {
                let resource = self.resources.get(origin.resource).size;
                size += size::field(std::mem::take(&mut sum).whole() + resource);
            }
            at = before;
        }
        size
    }

    fn scope(&self, origin: Origin, name: &str) -> u64 {
        let content = self.scopes.get(origin.scope).content();
        size::field(size::scope_with(content, mark::COMPOSITE.as_bytes(), name.as_bytes()))
    }
}

/// Number of the spans in a ScopeSpans.
const SPANS: u32 = 2;
