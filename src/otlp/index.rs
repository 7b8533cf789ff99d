//! Where everything lies in a request.

use super::Signal;
use super::ids::TRACE_ID_BYTES;
use super::layout::{RESOURCE, RESOURCE_ATTRIBUTES, SCOPE, SCOPE_ATTRIBUTES};
use super::value::messages;
use super::wire::Extent;

/// The index of one request, and the memory for the next: reuse it.
///
/// All offsets are into the body given to [`super::scan()`]; in that of [`super::scan_pieces`] also
/// behind it, see [`Self::bytes`]. Resources, scopes and items stand in
/// the order of the request; a scope's items and a resource's scopes are neighbours.
#[derive(Debug, Default)]
pub struct Index {
    pub(super) resources: Vec<Resource>,
    pub(super) scopes: Vec<Scope>,
    pub(super) items: Vec<Item>,
    pub(super) others: Vec<Extent>,
    /// Unknown fields of the request itself.
    pub(super) strays: Vec<Extent>,
    /// Metric points, which have no entry of their own.
    pub(super) points: u64,
    pub(super) signal: Option<Signal>,
    /// Contents of the scopes of the resource being read: fields 2, then 1000.
    pub(super) pending: Vec<Extent>,
    pub(super) deprecated: Vec<Extent>,
    /// Fields that lay in several pieces, each in one.
    pub(super) patch: Vec<u8>,
}

/// ResourceSpans, ResourceLogs or ResourceMetrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Resource {
    /// Its scopes, as positions in [`Index::scopes`].
    pub(super) scopes: Extent,
    pub(super) others: Others,
}

/// ScopeSpans, ScopeLogs or ScopeMetrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Scope {
    /// Its items, as positions in [`Index::items`].
    pub(super) items: Extent,
    pub(super) others: Others,
}

/// The fields of a message that are not its repeated children: resource or scope, schema URL,
/// unknown fields. Neighbours are one extent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Others {
    /// Positions in [`Index::others`].
    pub(super) at: Extent,
    /// Their bytes in sum.
    pub(super) bytes: u32,
}

/// A span, a log record or a metric.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Item {
    /// The whole field, with its tag and length as they came.
    pub field: Extent,
    /// Offset of the trace id, 0 if there is none.
    pub(super) id: u32,
}

/// An item and what is around it, each with its position in the request.
#[derive(Clone, Copy, Debug)]
pub struct Placed<'a> {
    /// Its resource.
    pub resource: (u32, &'a Resource),
    /// Its scope.
    pub scope: (u32, &'a Scope),
    /// The item.
    pub item: &'a Item,
}

impl Item {
    /// The trace id; `None` if it is absent or empty, and for metrics.
    #[must_use]
    #[inline]
    pub fn trace_id<'a>(&self, body: &'a [u8]) -> Option<&'a [u8; 16]> {
        if self.id == 0 {
            return None;
        }
        body.get(self.id as usize..)?.first_chunk()
    }

    /// What the field holds.
    ///
    /// # Panics
    /// If `body` is not the one that was scanned.
    #[must_use]
    #[inline]
    pub fn content(&self, body: &[u8]) -> Extent {
        super::span::content(body, self.field)
    }

    /// Where the 16 bytes of the trace id lie.
    #[must_use]
    pub fn trace_id_extent(&self) -> Option<Extent> {
        (self.id != 0).then(|| Extent { start: self.id, end: self.id + TRACE_ID_BYTES })
    }
}

impl Resource {
    /// Bytes of all its fields but the scopes.
    #[must_use]
    pub const fn others_bytes(&self) -> u32 {
        self.others.bytes
    }
}

impl Scope {
    /// Bytes of all its fields but the items.
    #[must_use]
    pub const fn others_bytes(&self) -> u32 {
        self.others.bytes
    }
}

impl Index {
    /// An empty index; it grows with the first requests and keeps what it has grown.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The signal of the request; `None` before the first.
    #[must_use]
    pub const fn signal(&self) -> Option<Signal> {
        self.signal
    }

    /// Spans, log records or metric **points** in the request.
    #[must_use]
    pub const fn count(&self) -> u64 {
        match self.signal {
            Some(Signal::Metrics) => self.points,
            _ => self.items.len() as u64,
        }
    }

    /// All resources.
    #[must_use]
    pub fn resources(&self) -> &[Resource] {
        &self.resources
    }

    /// All scopes.
    #[must_use]
    pub fn scopes(&self) -> &[Scope] {
        &self.scopes
    }

    /// All items: spans, log records or metrics.
    #[must_use]
    pub fn items(&self) -> &[Item] {
        &self.items
    }

    /// All items, in what they stand.
    pub fn placed(&self) -> impl Iterator<Item = Placed<'_>> {
        (0..).zip(&self.resources).flat_map(move |resource| {
            self.scopes_of(resource.1).flat_map(move |scope| {
                self.items_of(scope.1).iter().map(move |item| Placed { resource, scope, item })
            })
        })
    }

    /// The scopes of a resource, with their positions.
    #[inline]
    pub fn scopes_of(&self, resource: &Resource) -> impl Iterator<Item = (u32, &Scope)> {
        (resource.scopes.start..).zip(slice(&self.scopes, resource.scopes))
    }

    /// The items of a scope.
    #[must_use]
    #[inline]
    pub fn items_of(&self, scope: &Scope) -> &[Item] {
        slice(&self.items, scope.items)
    }

    /// All fields of a resource but its scopes, as they came.
    #[must_use]
    #[inline]
    pub fn others_of_resource(&self, resource: &Resource) -> &[Extent] {
        slice(&self.others, resource.others.at)
    }

    /// All fields of a scope but its items, as they came.
    #[must_use]
    #[inline]
    pub fn others_of_scope(&self, scope: &Scope) -> &[Extent] {
        slice(&self.others, scope.others.at)
    }

    /// The KeyValue messages of a resource, in order. A resource that came in several fields is
    /// one.
    pub fn resource_attributes<'a>(
        &'a self,
        body: &'a [u8],
        resource: &Resource,
    ) -> impl Iterator<Item = &'a [u8]> {
        inside(body, self.others_of_resource(resource), RESOURCE)
            .flat_map(|resource| messages(resource, RESOURCE_ATTRIBUTES))
    }

    /// The messages that are the scope of a ScopeSpans, ScopeLogs or ScopeMetrics: one, or none,
    /// or several that count as one.
    pub fn scope_messages<'a>(
        &'a self,
        body: &'a [u8],
        scope: &Scope,
    ) -> impl Iterator<Item = &'a [u8]> {
        inside(body, self.others_of_scope(scope), SCOPE)
    }

    /// The KeyValue messages of a scope, in order.
    pub fn scope_attributes<'a>(
        &'a self,
        body: &'a [u8],
        scope: &Scope,
    ) -> impl Iterator<Item = &'a [u8]> {
        self.scope_messages(body, scope).flat_map(|scope| messages(scope, SCOPE_ATTRIBUTES))
    }

    /// The bytes of an extent. What was put together stands as if it were behind `body`, with a
    /// byte between so that nothing goes from one to the other.
    ///
    /// # Panics
    /// If `body` is not the one that was scanned.
    #[must_use]
    #[inline]
    pub fn bytes<'a>(&'a self, body: &'a [u8], extent: Extent) -> &'a [u8] {
        let (start, end) = (extent.start as usize, extent.end as usize);
        match body.get(start..end) {
            Some(bytes) => bytes,
            None => &self.patch[start - body.len() - 1..end - body.len() - 1],
        }
    }

    /// [`Item::trace_id`], wherever the item lies.
    #[must_use]
    #[inline]
    pub fn trace_id<'a>(&'a self, item: &Item, body: &'a [u8]) -> Option<&'a [u8; 16]> {
        let extent = item.trace_id_extent()?;
        self.bytes(body, extent).first_chunk()
    }

    /// Unknown fields of the request itself.
    #[must_use]
    pub fn strays(&self) -> &[Extent] {
        &self.strays
    }

    /// Forgets the request. Memory is kept up to [`KEEP_ITEMS_MAX`] items.
    pub fn clear(&mut self) {
        self.signal = None;
        self.points = 0;
        keep(&mut self.resources);
        keep(&mut self.scopes);
        keep(&mut self.items);
        keep(&mut self.others);
        keep(&mut self.strays);
        keep(&mut self.pending);
        keep(&mut self.deprecated);
        keep(&mut self.patch);
    }
}

/// Entries of each table whose memory is kept between requests. More than a 4 MiB request of
/// 64-byte spans has; a hostile one of two-byte spans must not pin its memory for ever.
pub const KEEP_ITEMS_MAX: usize = 1 << 16;

/// The contents of message field `number` in `extents`, which hold whole fields.
fn inside<'a>(
    body: &'a [u8],
    extents: &'a [Extent],
    number: u32,
) -> impl Iterator<Item = &'a [u8]> {
    extents.iter().flat_map(move |extent| messages(extent.of(body), number))
}

/// Empties a table of one request for the next; memory is kept for [`KEEP_ITEMS_MAX`] entries.
pub(crate) fn keep<T>(table: &mut Vec<T>) {
    table.clear();
    table.shrink_to(KEEP_ITEMS_MAX);
}

#[inline]
fn slice<T>(table: &[T], at: Extent) -> &[T] {
    &table[at.start as usize..at.end as usize]
}
