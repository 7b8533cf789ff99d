//! What of a request found no room while the rest of it did. It waits for a while, on its own: a
//! backend that is slow holds up nobody else's part. What finds none is rejected by name.

use std::rc::Rc;

use crate::rpc::metadata::Metadata;
use crate::runtime::lease::Charge;
use crate::time::Instant;
use crate::upstream::lane::Lane;
use crate::upstream::place::Place;
use crate::upstream::queue::NewPart;
use crate::upstream::replies::{Replies, Ticket};

/// Names that are told to a client, in bytes.
const NAMES_BYTES_MAX: usize = 200;

/// A part that waits for room in its queue.
#[derive(Debug)]
pub(super) struct Parked {
    pub(super) lane: Lane,
    pub(super) items: u64,
    pub(super) bytes: Vec<u8>,
    pub(super) charge: Option<Charge>,
    pub(super) metadata: Option<Rc<Metadata>>,
    /// It waits as long as its client does (`block_on_overflow`).
    pub(super) blocks: bool,
    /// What the request needs of the queue at the balancer's own level.
    pub(super) place: Option<Rc<Place>>,
}

impl Parked {
    /// Goes into its queue if there is room by now.
    fn enter(&mut self, now: Instant, ticket: Ticket, replies: &mut Replies) -> bool {
        let (items, bytes) = (self.items, self.bytes.len());
        // The task of a lane that is closed has ended.
        if self.lane.is_closed() {
            self.blocks = false;
            return false;
        }
        if self.lacks_place() || !self.lane.queue().reserve(items, bytes as u64) {
            return false;
        }
        let (charge, metadata) = (self.charge.take(), self.metadata.take());
        let place = self.place.take();
        let part = NewPart { items, bytes, ticket: Some(ticket), charge, metadata, place };
        self.lane.queue().push(now, part, replies, |out| out.extend_from_slice(&self.bytes));
        self.lane.ring();
        true
    }

    /// Whether it waits to enter the balancer's own queue, which no bound of the balancer is about.
    pub(super) fn is_before_balancer(&self) -> bool {
        self.blocks && self.place.as_ref().is_some_and(|p| p.blocks() && !p.is_taken())
    }

    fn lacks_place(&self) -> bool {
        self.place.as_ref().is_some_and(|place| !place.take())
    }
}

/// All of a request that found no room so far.
#[derive(Debug, Default)]
pub(super) struct Short {
    /// What may still find some.
    pub(super) parked: Vec<Parked>,
    /// Nothing of the request has been sent.
    is_all: bool,
    /// Items that were given up, and the endpoints that had no room for them.
    rejected: u64,
    names: String,
}

impl Short {
    /// Of a request of which nothing else has been sent, or of one of which something has.
    pub(super) fn of(is_all: bool) -> Self {
        Self { is_all, ..Self::default() }
    }

    /// Items that found no room so far. With several exporters one item may count several times.
    pub(super) fn items(&self) -> u64 {
        self.rejected + self.parked.iter().map(|part| part.items).sum::<u64>()
    }

    /// Why items were rejected.
    pub(super) fn why(&self) -> &str {
        &self.names
    }

    /// Whether nothing of the request has been sent.
    pub(super) const fn is_all(&self) -> bool {
        self.is_all
    }

    /// Whether some of it may still find room.
    pub(super) const fn is_waiting(&self) -> bool {
        !self.parked.is_empty()
    }

    /// Lets those go for which there is room by now.
    pub(super) fn enter(&mut self, now: Instant, ticket: Ticket, replies: &mut Replies) {
        let before = self.parked.len();
        self.parked.retain_mut(|part| !part.enter(now, ticket, replies));
        self.is_all &= self.parked.len() == before;
    }

    /// Gives up what waits and is so.
    pub(super) fn give_up(&mut self, is_so: impl Fn(&Parked) -> bool) {
        let all: Vec<_> = self.parked.extract_if(.., |part| is_so(part)).collect();
        all.iter().for_each(|part| self.reject_part(part));
    }

    fn reject_part(&mut self, part: &Parked) {
        let lacks_place = part.place.as_ref().is_some_and(|place| !place.is_taken());
        part.lane.queue().stats.overflow(part.items, lacks_place);
        self.reject(&part.lane, part.items);
    }

    /// So many items were given up for want of room in a lane.
    pub(super) fn reject(&mut self, lane: &Lane, items: u64) {
        self.rejected += items;
        if self.names.len() < NAMES_BYTES_MAX {
            let begin = if self.names.is_empty() { "sending queue is full: " } else { ", " };
            self.names.push_str(begin);
            self.names.push_str(&lane.target().endpoint);
        }
    }
}
