//! Edits of attributes on the wire: what the `resource` and `attributes` processors do, on the
//! bytes of a request. Pure.
//!
//! [`Editor::plan`] walks a request once and finds what [`Edits`] change in it; the edited length
//! is known then, before anything is copied. [`Editor::write`] copies the request with the changes
//! laid over it: attributes that are new or gone, and the lengths of the messages around them. All
//! else keeps its bytes, unknown fields included.
//!
//! Invariants: a request in which nothing applies is not copied; of equal keys the first counts,
//! a new attribute is the last, and the last takes the place of one that is deleted, as in the
//! collector; a resource that came in several fields is one, and one that did not come is empty.
//!
//! What it deliberately does not do: look into what it does not edit. A request with a fault there
//! is refused by whoever reads that part.

use super::layout::{
    DATA_POINTS, DEPRECATED_SCOPES, ITEMS, Names, RESOURCE, RESOURCE_ATTRIBUTES, RESOURCES, SCOPES,
    metric_data, names,
};
use super::metric::Kind;
use super::wire::{Extent, LEN, Reader, push_varint};
use super::{Error, Signal, keep, write};

mod list;

use list::List;

/// Field of a span and of a log record that holds its attributes.
const SPAN_ATTRIBUTES: u32 = 9;
const RECORD_ATTRIBUTES: u32 = 6;

/// What the processors of a pipeline change, in their order. Resources and records have nothing in
/// common, so that they are kept apart.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Edits {
    /// On the attributes of each resource.
    pub resource: Vec<Action>,
    /// On the attributes of each span, log record or data point.
    pub record: Vec<Action>,
}

/// One step of a processor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Action {
    /// The attribute that it is about.
    pub key: String,
    /// What is done with it.
    pub verb: Verb,
}

/// What an [`Action`] does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verb {
    /// Adds the attribute if it is not there.
    Insert(Source),
    /// Gives it another value if it is there.
    Update(Source),
    /// One or the other.
    Upsert(Source),
    /// Takes it away.
    Delete,
}

/// Where a value comes from. Without any, nothing is done.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Source {
    /// Another attribute of the same list, if it is there.
    pub attribute: Option<String>,
    /// Else this AnyValue message.
    pub value: Option<Vec<u8>>,
}

impl Edits {
    /// Whether nothing is ever changed.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.resource.is_empty() && self.record.is_empty()
    }

    /// Adds what a later processor does.
    pub fn extend(&mut self, later: &Self) {
        self.resource.extend_from_slice(&later.resource);
        self.record.extend_from_slice(&later.record);
    }
}

/// Why a request cannot be edited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// What is wrong with a part that has to be read.
    Unreadable(Error),
    /// Its changes take more memory than they may: it has very many records, or values are long.
    TooMuch,
}

impl From<Error> for Refusal {
    fn from(error: Error) -> Self {
        Self::Unreadable(error)
    }
}

/// Finds and writes changes. It is scratch memory only: reuse it.
#[derive(Debug)]
pub struct Editor {
    /// Bytes that changes may take.
    bytes_max: usize,
    /// In the order of the request, none inside another.
    patches: Vec<Patch>,
    /// Bytes that the request does not have.
    made: Vec<u8>,
    /// Bytes that the edited request is longer, or shorter.
    grown: i64,
    resource: List,
    record: List,
}

/// Some bytes of the request and what stands in their place.
#[derive(Clone, Copy, Debug)]
struct Patch {
    at: Extent,
    by: Piece,
}

/// Bytes of the request, or made ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Piece {
    is_made: bool,
    at: Extent,
}

impl Piece {
    const NOTHING: Self = Self { is_made: true, at: Extent { start: 0, end: 0 } };

    fn of<'a>(self, body: &'a [u8], made: &'a [u8]) -> &'a [u8] {
        self.at.of(if self.is_made { made } else { body })
    }
}

/// A message whose content is being edited.
#[derive(Clone, Copy)]
struct Open {
    patch: usize,
    grown: i64,
    content: Extent,
}

impl Editor {
    /// With at most `bytes_max` of memory for the changes of one request.
    #[must_use]
    pub fn new(bytes_max: usize) -> Self {
        Self {
            bytes_max: bytes_max.min(MADE_BYTES_MAX),
            patches: Vec::new(),
            made: Vec::new(),
            grown: 0,
            resource: List::default(),
            record: List::default(),
        }
    }

    /// Finds what `edits` change in `body`: the length of the edited request, or `None` if nothing
    /// is changed.
    ///
    /// # Errors
    /// What is wrong with the parts that it has to read, and if there is too much to change.
    pub fn plan(
        &mut self,
        edits: &Edits,
        signal: Signal,
        body: &[u8],
    ) -> Result<Option<usize>, Refusal> {
        self.clear();
        if edits.is_empty() {
            return Ok(None);
        }
        let end = u32::try_from(body.len()).map_err(|_| Error::TooLarge)?;
        let walk = Walk { edits, signal, names: names(signal), body };
        let mut reader = Reader::new(body, Extent { start: 0, end });
        while !reader.at_end() {
            let tag = reader.tag()?;
            if tag.field == RESOURCES {
                let prefix = reader.pos();
                let content = reader.content_of(tag, walk.names.resources)?;
                self.inside(prefix, content, |editor| editor.resource(&walk, content))?;
            } else {
                reader.skip(tag)?;
            }
        }
        if self.patches.is_empty() {
            return Ok(None);
        }
        let length = i64::from(end) + self.grown;
        let length = u32::try_from(length).map_err(|_| Error::TooLarge)?;
        Ok(Some(length as usize))
    }

    /// Appends the edited request to `out`. `body` is the one that was planned last.
    ///
    /// # Panics
    /// If it is not.
    pub fn write(&self, body: &[u8], out: &mut Vec<u8>) {
        let mut at = 0;
        for patch in &self.patches {
            out.extend_from_slice(&body[at..patch.at.start as usize]);
            out.extend_from_slice(patch.by.of(body, &self.made));
            at = patch.at.end as usize;
        }
        out.extend_from_slice(&body[at..]);
    }

    /// The edited request as [`plan`](Self::plan) and [`write`](Self::write) make it, or `None` if
    /// nothing is changed.
    ///
    /// # Errors
    /// Those of [`plan`](Self::plan).
    pub fn edit(
        &mut self,
        edits: &Edits,
        signal: Signal,
        body: &[u8],
    ) -> Result<Option<Vec<u8>>, Refusal> {
        let Some(length) = self.plan(edits, signal, body)? else { return Ok(None) };
        let mut out = Vec::with_capacity(length);
        self.write(body, &mut out);
        Ok(Some(out))
    }

    /// A ResourceSpans, ResourceLogs or ResourceMetrics.
    fn resource(&mut self, walk: &Walk<'_>, message: Extent) -> Result<(), Refusal> {
        let last = self.change_resource(walk, message)?;
        let is_changed = self.resource.is_changed();
        if is_changed && last.is_none() {
            self.add_resource(walk.body, message.start);
        }
        if !is_changed && walk.edits.record.is_empty() {
            return Ok(());
        }
        let mut reader = Reader::new(walk.body, message);
        while !reader.at_end() {
            let tag = reader.tag()?;
            let prefix = reader.pos();
            match tag.field {
                RESOURCE if is_changed => {
                    let content = reader.content_of(tag, "Resource")?;
                    self.inside(prefix, content, |editor| {
                        let is_last = last == Some(content);
                        let (list, patches) = (&mut editor.resource, &mut editor.patches);
                        editor.grown += list.put(content, is_last, patches);
                        Ok(())
                    })?;
                }
                SCOPES | DEPRECATED_SCOPES if !walk.edits.record.is_empty() => {
                    let names = walk.names;
                    let is_new = tag.field == SCOPES;
                    let name = if is_new { names.scopes } else { names.deprecated_scopes };
                    let content = reader.content_of(tag, name)?;
                    self.inside(prefix, content, |editor| editor.scope(walk, content))?;
                }
                _ => reader.skip(tag)?,
            }
        }
        Ok(())
    }

    /// Applies the actions to the resource in all its fields; gives the last of those.
    fn change_resource(
        &mut self,
        walk: &Walk<'_>,
        message: Extent,
    ) -> Result<Option<Extent>, Refusal> {
        self.resource.clear();
        if walk.edits.resource.is_empty() {
            return Ok(None);
        }
        let mut last = None;
        let mut reader = Reader::new(walk.body, message);
        while !reader.at_end() {
            let tag = reader.tag()?;
            if tag.field == RESOURCE {
                let content = reader.content_of(tag, "Resource")?;
                self.resource.gather(walk.body, content, RESOURCE_ATTRIBUTES)?;
                last = Some(content);
            } else {
                reader.skip(tag)?;
            }
        }
        let number = RESOURCE_ATTRIBUTES;
        self.resource.apply(&walk.edits.resource, number, walk.body, &mut self.made);
        self.bound()?;
        Ok(last)
    }

    /// A Resource where none was: it holds attributes that were made.
    fn add_resource(&mut self, body: &[u8], at: u32) {
        let length: u32 = self.resource.pieces().map(|piece| piece.at.len()).sum();
        let start = self.made.len();
        write::tag(&mut self.made, RESOURCE, LEN);
        push_varint(&mut self.made, length);
        for piece in self.resource.pieces() {
            let attribute = piece.of(body, &self.made).to_vec();
            self.made.extend_from_slice(&attribute);
        }
        let by = Piece { is_made: true, at: since(start, &self.made) };
        self.grown += i64::from(by.at.len());
        self.patches.push(Patch { at: Extent { start: at, end: at }, by });
    }

    fn scope(&mut self, walk: &Walk<'_>, message: Extent) -> Result<(), Refusal> {
        let mut reader = Reader::new(walk.body, message);
        while !reader.at_end() {
            let tag = reader.tag()?;
            if tag.field != ITEMS {
                reader.skip(tag)?;
                continue;
            }
            let prefix = reader.pos();
            let content = reader.content_of(tag, walk.names.items)?;
            self.inside(prefix, content, |editor| match walk.signal {
                Signal::Traces => editor.record(walk, content, SPAN_ATTRIBUTES),
                Signal::Logs => editor.record(walk, content, RECORD_ATTRIBUTES),
                Signal::Metrics => editor.metric(walk, content),
            })?;
        }
        Ok(())
    }

    fn metric(&mut self, walk: &Walk<'_>, message: Extent) -> Result<(), Refusal> {
        let mut reader = Reader::new(walk.body, message);
        while !reader.at_end() {
            let tag = reader.tag()?;
            let (Some(kind), Some(name)) = (Kind::of(tag.field), metric_data(tag.field)) else {
                reader.skip(tag)?;
                continue;
            };
            let prefix = reader.pos();
            let content = reader.content_of(tag, name)?;
            self.inside(prefix, content, |editor| editor.points(walk, content, kind))?;
        }
        Ok(())
    }

    fn points(&mut self, walk: &Walk<'_>, message: Extent, kind: Kind) -> Result<(), Refusal> {
        let mut reader = Reader::new(walk.body, message);
        while !reader.at_end() {
            let tag = reader.tag()?;
            if tag.field != DATA_POINTS {
                reader.skip(tag)?;
                continue;
            }
            let prefix = reader.pos();
            let content = reader.content_of(tag, "DataPoints")?;
            self.inside(prefix, content, |editor| editor.record(walk, content, kind.attributes()))?;
        }
        Ok(())
    }

    /// A span, a log record or a data point, whose attributes are field `number`.
    fn record(&mut self, walk: &Walk<'_>, message: Extent, number: u32) -> Result<(), Refusal> {
        let list = &mut self.record;
        list.clear();
        list.gather(walk.body, message, number)?;
        list.apply(&walk.edits.record, number, walk.body, &mut self.made);
        if list.is_changed() {
            self.grown += list.put(message, true, &mut self.patches);
        }
        self.bound()
    }

    fn bound(&self) -> Result<(), Refusal> {
        let patches = self.patches.len() * size_of::<Patch>();
        if self.made.len() + patches > self.bytes_max { Err(Refusal::TooMuch) } else { Ok(()) }
    }

    /// Edits the content of a message, whose length stands between `prefix` and it.
    fn inside(
        &mut self,
        prefix: u32,
        content: Extent,
        edit: impl FnOnce(&mut Self) -> Result<(), Refusal>,
    ) -> Result<(), Refusal> {
        let open = self.open(prefix, content);
        edit(self)?;
        self.close(open)
    }

    /// The length may change: its place in the order of changes is before those of the content.
    fn open(&mut self, prefix: u32, content: Extent) -> Open {
        let at = Extent { start: prefix, end: content.start };
        let open = Open { patch: self.patches.len(), grown: self.grown, content };
        self.patches.push(Patch { at, by: Piece { is_made: false, at } });
        open
    }

    fn close(&mut self, open: Open) -> Result<(), Refusal> {
        if self.patches.len() == open.patch + 1 {
            self.patches.pop();
            return Ok(());
        }
        let grown = self.grown - open.grown;
        if grown == 0 {
            return Ok(());
        }
        let length = i64::from(open.content.len()) + grown;
        let length = u32::try_from(length).map_err(|_| Error::TooLarge)?;
        let start = self.made.len();
        push_varint(&mut self.made, length);
        let by = Piece { is_made: true, at: since(start, &self.made) };
        let patch = &mut self.patches[open.patch];
        self.grown += i64::from(by.at.len()) - i64::from(patch.at.len());
        patch.by = by;
        Ok(())
    }

    /// Forgets the request before, and memory that a large one took.
    fn clear(&mut self) {
        keep(&mut self.patches);
        self.made.clear();
        self.made.shrink_to(KEEP_MADE_BYTES_MAX);
        self.grown = 0;
    }
}

/// Most bytes that are made for one request. One list, whose actions are bounded by the size of a
/// configuration, may go beyond it before that is seen.
const MADE_BYTES_MAX: usize = 1 << 30;
/// Made bytes whose memory is kept between requests.
const KEEP_MADE_BYTES_MAX: usize = 1 << 20;

/// What is the same for a whole request.
struct Walk<'a> {
    edits: &'a Edits,
    signal: Signal,
    names: &'static Names,
    body: &'a [u8],
}

/// What was made since `start`.
fn since(start: usize, made: &[u8]) -> Extent {
    let at = |at: usize| u32::try_from(at).expect("bounded far below 4 GiB");
    Extent { start: at(start), end: at(made.len()) }
}
