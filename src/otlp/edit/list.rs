//! The attributes of one resource or record while actions are applied to them: slots that point
//! into the request, or at what was made.

use super::{Action, Patch, Piece, Source, Verb, since};
use crate::otlp::layout::KEY_VALUE_VALUE;
use crate::otlp::wire::{Extent, LEN, Reader};
use crate::otlp::{Error, keep, write};

/// KeyValue field: the key.
const KEY: u32 = 1;

/// One list of attributes.
#[derive(Debug, Default)]
pub(super) struct List {
    /// As it came: the field of each attribute.
    came: Vec<Extent>,
    /// As it becomes.
    slots: Vec<Slot>,
    is_changed: bool,
    /// How many of `came` were put.
    put: usize,
    /// An AnyValue, and a KeyValue, that are being copied.
    value: Vec<u8>,
    old: Vec<u8>,
}

/// An attribute: where its parts lie, all in the request or all in what was made.
#[derive(Clone, Copy, Debug)]
struct Slot {
    is_made: bool,
    /// With tag and length.
    field: Extent,
    /// The KeyValue message.
    message: Extent,
    key: Extent,
}

impl Slot {
    const fn piece(&self, at: Extent) -> Piece {
        Piece { is_made: self.is_made, at }
    }
}

impl List {
    pub(super) fn clear(&mut self) {
        keep(&mut self.came);
        keep(&mut self.slots);
        (self.is_changed, self.put) = (false, 0);
    }

    /// Whether actions changed it.
    pub(super) const fn is_changed(&self) -> bool {
        self.is_changed
    }

    /// Its attributes, with tags and lengths.
    pub(super) fn pieces(&self) -> impl Iterator<Item = Piece> {
        self.slots.iter().map(|slot| slot.piece(slot.field))
    }

    /// Adds the attributes of a message, which are its fields `number`.
    pub(super) fn gather(
        &mut self,
        body: &[u8],
        message: Extent,
        number: u32,
    ) -> Result<(), Error> {
        let mut reader = Reader::new(body, message);
        while !reader.at_end() {
            let tag = reader.tag()?;
            if tag.field != number {
                reader.skip(tag)?;
                continue;
            }
            let message = reader.content_of(tag, "Attributes")?;
            let field = Extent { start: tag.at, end: message.end };
            let key = key(body, message)?;
            self.came.push(field);
            self.slots.push(Slot { is_made: false, field, message, key });
        }
        Ok(())
    }

    /// Applies `actions` in their order. What they make is added to `made`, as fields `number`.
    pub(super) fn apply(
        &mut self,
        actions: &[Action],
        number: u32,
        body: &[u8],
        made: &mut Vec<u8>,
    ) {
        for action in actions {
            let key = action.key.as_bytes();
            let found = self.find(key, body, made);
            match (&action.verb, found) {
                (Verb::Delete, Some(at)) => {
                    self.slots.swap_remove(at);
                }
                (Verb::Insert(source) | Verb::Upsert(source), None)
                    if self.read(source, body, made) =>
                {
                    self.old.clear();
                    write::bytes(&mut self.old, KEY, key);
                    self.slots.push(make(number, &self.old, &self.value, made));
                }
                (Verb::Update(source) | Verb::Upsert(source), Some(at))
                    if self.read(source, body, made) =>
                {
                    self.replace(at, number, body, made);
                }
                _ => {}
            }
        }
        let same = |(slot, came): (&Slot, &Extent)| !slot.is_made && slot.field == *came;
        self.is_changed =
            self.slots.len() != self.came.len() || !self.slots.iter().zip(&self.came).all(same);
    }

    /// The first attribute with this key.
    fn find(&self, key: &[u8], body: &[u8], made: &[u8]) -> Option<usize> {
        self.slots.iter().position(|slot| slot.piece(slot.key).of(body, made) == key)
    }

    /// Copies the value of `source`; false if there is none.
    fn read(&mut self, source: &Source, body: &[u8], made: &[u8]) -> bool {
        self.value.clear();
        let attribute = source.attribute.as_ref();
        if let Some(at) = attribute.and_then(|name| self.find(name.as_bytes(), body, made)) {
            let slot = self.slots[at];
            let message = slot.piece(slot.message).of(body, made);
            copy(message, |field| field == KEY_VALUE_VALUE, Part::Content, &mut self.value);
            return true;
        }
        source.value.iter().for_each(|value| self.value.extend_from_slice(value));
        source.value.is_some()
    }

    /// Gives an attribute the value that was read. It keeps what else stands in it.
    fn replace(&mut self, at: usize, number: u32, body: &[u8], made: &mut Vec<u8>) {
        let slot = self.slots[at];
        let message = slot.piece(slot.message).of(body, made);
        self.old.clear();
        copy(message, |field| field == KEY_VALUE_VALUE, Part::Content, &mut self.old);
        if self.old == self.value {
            return;
        }
        self.old.clear();
        copy(message, |field| field != KEY_VALUE_VALUE, Part::Whole, &mut self.old);
        self.slots[at] = make(number, &self.old, &self.value, made);
    }

    /// Adds the changes to those attributes that came in the message at `content`; the last one
    /// takes what was added. Gives the bytes by which it grows.
    pub(super) fn put(&mut self, content: Extent, is_last: bool, patches: &mut Vec<Patch>) -> i64 {
        let mut grown = 0;
        let mut patch = |at: Extent, by: Piece| {
            grown += i64::from(by.at.len()) - i64::from(at.len());
            patches.push(Patch { at, by });
        };
        while let Some(&came) = self.came.get(self.put).filter(|came| came.end <= content.end) {
            match self.slots.get(self.put) {
                Some(slot) if !slot.is_made && slot.field == came => {}
                Some(slot) => patch(came, slot.piece(slot.field)),
                None => patch(came, Piece::NOTHING),
            }
            self.put += 1;
        }
        if is_last {
            let end = Extent { start: content.end, end: content.end };
            self.slots.iter().skip(self.put).for_each(|slot| patch(end, slot.piece(slot.field)));
        }
        grown
    }
}

/// Where the key of a KeyValue lies; of several the last counts.
fn key(body: &[u8], message: Extent) -> Result<Extent, Error> {
    let mut key = Extent { start: message.start, end: message.start };
    let mut reader = Reader::new(body, message);
    while !reader.at_end() {
        let tag = reader.tag()?;
        match tag.field {
            KEY => key = reader.content_of(tag, "Key")?,
            KEY_VALUE_VALUE => reader.content_of(tag, "Value").map(drop)?,
            _ => reader.skip(tag)?,
        }
    }
    Ok(key)
}

/// What [`copy`] takes of a field.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Part {
    /// Tag, length and content.
    Whole,
    /// The content, where there is a length.
    Content,
}

/// Copies the fields of `message` that are wanted. The contents of an AnyValue that came in
/// several fields are one AnyValue, one behind the other.
fn copy(message: &[u8], wanted: impl Fn(u32) -> bool, part: Part, out: &mut Vec<u8>) {
    let end = u32::try_from(message.len()).expect("part of a request");
    let mut reader = Reader::new(message, Extent { start: 0, end });
    while !reader.at_end() {
        let Ok(tag) = reader.tag() else { return };
        let mut content = Extent { start: tag.at, end: tag.at };
        let read = match tag.wire {
            LEN => reader.content().map(|at| content = at),
            _ => reader.skip(tag),
        };
        if read.is_err() {
            return;
        }
        let whole = Extent { start: tag.at, end: reader.pos() };
        if wanted(tag.field) {
            out.extend_from_slice(if part == Part::Whole { whole } else { content }.of(message));
        }
    }
}

/// An attribute: `before`, which is its key and what else is kept, and a value. It is added to
/// `made` as field `number`.
fn make(number: u32, before: &[u8], value: &[u8], made: &mut Vec<u8>) -> Slot {
    let start = made.len();
    write::message(made, number, |out| {
        out.extend_from_slice(before);
        write::bytes(out, KEY_VALUE_VALUE, value);
    });
    let field = since(start, made);
    let mut reader = Reader::new(made, field);
    let message = reader.tag().and_then(|_| reader.content()).expect("it was just written");
    let key = key(made, message).expect("its fields were read before");
    Slot { is_made: true, field, message, key }
}
