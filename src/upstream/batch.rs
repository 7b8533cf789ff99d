//! Parts on their way to one endpoint, merged: one buffer, cut where the parts meet. Concatenated
//! requests are a valid request (every field of it is repeated), so the buffer is the message.
//! Pure.

use std::ops::Range;
use std::rc::Rc;

use bytes::Bytes;

use super::place::Place;
use super::replies::{Hold, Replies, Ticket};
use super::spare;
use crate::rpc::frame::{PREFIX_BYTES, Prefix};
use crate::rpc::metadata::Metadata;
use crate::runtime::lease::Charge;
use crate::time::Instant;

/// What was cut from one request for one endpoint.
#[derive(Clone, Debug)]
pub struct Part {
    /// End in the batch; it starts where the one before ends.
    pub end: usize,
    /// Spans, records or points.
    pub items: u64,
    /// Who waits for it, until the queue owns it.
    pub ticket: Option<Ticket>,
    /// What its request holds of a queue over all endpoints, as long as one of its parts is there.
    pub place: Option<Rc<Place>>,
}

/// A message made of parts, and its history.
#[derive(Debug)]
pub struct Batch {
    message: Message,
    /// In order, never empty once sent.
    pub parts: Vec<Part>,
    /// Sum over the parts.
    pub items: u64,
    /// When its oldest part came.
    pub since: Instant,
    /// First attempt to send it, from which `max_elapsed_time` counts.
    pub first_attempt: Option<Instant>,
    /// Last wait before a retry.
    pub interval: std::time::Duration,
    /// It was sent again at once because the endpoint had not processed it.
    pub resent: bool,
    /// What its bytes are charged to.
    pub charge: Option<Charge>,
    /// What is kept of the headers of its requests: the same for all parts.
    pub metadata: Option<Rc<Metadata>>,
    /// Somebody may still wait for a part of it.
    waited_for: bool,
}

#[derive(Debug)]
enum Message {
    /// Still growing; the first bytes are kept free for the prefix.
    Open(Vec<u8>),
    /// Whole; the prefix says its length. `room` is what its buffer takes.
    Sealed { framed: Bytes, room: usize },
}

impl Batch {
    /// An empty one with room for `bytes`.
    #[must_use]
    pub fn new(now: Instant, bytes: usize) -> Self {
        let mut buffer = spare::take(PREFIX_BYTES + bytes);
        buffer.resize(PREFIX_BYTES, 0);
        Self {
            message: Message::Open(buffer),
            parts: Vec::new(),
            items: 0,
            since: now,
            first_attempt: None,
            interval: std::time::Duration::ZERO,
            resent: false,
            charge: None,
            metadata: None,
            waited_for: false,
        }
    }

    /// Length of the message, without prefix.
    #[must_use]
    pub fn bytes(&self) -> usize {
        let len = match &self.message {
            Message::Open(buffer) => buffer.len(),
            Message::Sealed { framed, .. } => framed.len(),
        };
        len - PREFIX_BYTES
    }

    /// Appends a part that `write` writes.
    ///
    /// # Panics
    /// If the batch is sealed.
    pub fn push(&mut self, items: u64, ticket: Option<Ticket>, write: impl FnOnce(&mut Vec<u8>)) {
        let Message::Open(buffer) = &mut self.message else { panic!("a sealed batch is whole") };
        write(buffer);
        self.items += items;
        self.waited_for |= ticket.is_some();
        self.parts.push(Part { end: buffer.len() - PREFIX_BYTES, items, ticket, place: None });
    }

    /// The part that was appended last holds this place.
    pub fn hold(&mut self, place: Option<Rc<Place>>) {
        if let Some(part) = self.parts.last_mut() {
            part.place = place;
        }
    }

    /// Prefix and message. The first call seals the batch.
    pub fn framed(&mut self) -> Bytes {
        if let Message::Open(buffer) = &mut self.message {
            let prefix = Prefix { compressed: false, len: buffer.len() - PREFIX_BYTES };
            buffer[..PREFIX_BYTES].copy_from_slice(&prefix.bytes());
            let room = buffer.capacity();
            self.message = Message::Sealed { framed: spare::freeze(std::mem::take(buffer)), room };
        }
        match &self.message {
            Message::Sealed { framed, .. } => framed.clone(),
            Message::Open(_) => unreachable!("sealed above"),
        }
    }

    /// The message, for tests that look and do not touch.
    #[cfg(test)]
    pub(super) fn peek(&self) -> &[u8] {
        match &self.message {
            Message::Open(buffer) => &buffer[PREFIX_BYTES..],
            Message::Sealed { framed, .. } => &framed[PREFIX_BYTES..],
        }
    }

    /// Gives back room that its buffer has and does not need, before a long wait: what is charged
    /// is the message alone.
    pub fn compact(&mut self) {
        match &mut self.message {
            Message::Open(buffer) if buffer.capacity() > 2 * buffer.len() => buffer.shrink_to_fit(),
            Message::Sealed { framed, room } if *room > 2 * framed.len() => {
                *framed = Bytes::copy_from_slice(framed);
                *room = framed.len();
            }
            _ => {}
        }
    }

    /// The message without prefix. Seals the batch.
    pub fn message(&mut self) -> Bytes {
        self.framed().slice(PREFIX_BYTES..)
    }

    /// The range of the `at`-th part in the message.
    #[must_use]
    pub fn range(&self, at: usize) -> Range<usize> {
        let start = if at == 0 { 0 } else { self.parts[at - 1].end };
        start..self.parts[at].end
    }

    /// A batch of these parts, as copies, with the same history. The charge stays here.
    fn copy(&mut self, keep: impl Iterator<Item = usize> + Clone) -> Self {
        let message = self.message();
        let bytes = keep.clone().map(|at| self.range(at).len()).sum();
        let mut copy = Self::new(self.since, bytes);
        for at in keep {
            let part = &self.parts[at];
            let range = self.range(at);
            copy.push(part.items, part.ticket, |to| to.extend_from_slice(&message[range]));
            copy.hold(part.place.clone());
        }
        copy.first_attempt = self.first_attempt;
        copy.interval = self.interval;
        copy.resent = self.resent;
        copy.metadata.clone_from(&self.metadata);
        copy
    }

    /// Two halves, to find which part a refusal is about.
    ///
    /// # Panics
    /// If it has fewer than two parts.
    #[must_use]
    pub fn halve(mut self) -> (Self, Self) {
        assert!(self.parts.len() > 1, "one part cannot be halved");
        let (middle, end) = (self.parts.len() / 2, self.parts.len());
        let mut first = self.copy(0..middle);
        let mut second = self.copy(middle..end);
        if let Some(charge) = &mut self.charge {
            first.charge = Some(charge.split(first.bytes() as u64));
            second.charge = Some(charge.split(second.bytes() as u64));
        }
        (first, second)
    }

    /// Cuts out the parts that somebody waits for and that are `gone`, and returns them with their
    /// lengths in bytes.
    pub fn cut(&mut self, gone: impl Fn(Ticket) -> bool) -> Vec<(Part, u64)> {
        let gone = |p: &Part| p.ticket.is_some_and(&gone);
        if !self.parts.iter().any(&gone) {
            return Vec::new();
        }
        let (dropped, kept): (Vec<usize>, Vec<usize>) =
            (0..self.parts.len()).partition(|&at| gone(&self.parts[at]));
        let dropped: Vec<_> = dropped
            .into_iter()
            .map(|at| (self.parts[at].clone(), self.range(at).len() as u64))
            .collect();
        let mut copy = self.copy(kept.into_iter());
        copy.charge = self.charge.take();
        if let Some(charge) = &mut copy.charge {
            drop(charge.split(dropped.iter().map(|(_, bytes)| bytes).sum()));
        }
        *self = copy;
        dropped
    }

    /// The queue owns every part: nobody waits any more.
    pub fn own(&mut self, hold: Hold, replies: &mut Replies) {
        if !std::mem::take(&mut self.waited_for) {
            return;
        }
        for part in &mut self.parts {
            if let Some(ticket) = part.ticket.take() {
                replies.settle(ticket, hold);
            }
        }
    }
}
