//! What of a request found no room while the rest of it did. It waits for a while, on its own: a
//! backend that is slow holds up nobody else's part. What finds none is rejected by name.

use std::rc::Rc;

use crate::rpc::metadata::Metadata;
use crate::runtime::lease::Charge;
use crate::time::Instant;
use crate::upstream::lane::Lane;
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
}

impl Parked {
    /// Goes into its queue if there is room by now.
    fn enter(&mut self, now: Instant, ticket: Ticket, replies: &mut Replies) -> bool {
        let (items, bytes) = (self.items, self.bytes.len());
        // The task of a lane that is closed has ended.
        if self.lane.is_closed() || !self.lane.queue().reserve(items, bytes as u64) {
            return false;
        }
        let (charge, metadata) = (self.charge.take(), self.metadata.take());
        let part = NewPart { items, bytes, ticket: Some(ticket), charge, metadata };
        self.lane.queue().push(now, part, replies, |out| out.extend_from_slice(&self.bytes));
        self.lane.ring();
        true
    }
}

/// All of a request that found no room so far.
#[derive(Debug, Default)]
pub(super) struct Short {
    /// What may still find some.
    pub(super) parked: Vec<Parked>,
    /// Items that were given up, and the endpoints that had no room for them.
    rejected: u64,
    names: String,
}

impl Short {
    /// Items that found no room so far. With several exporters one item may count several times.
    pub(super) fn items(&self) -> u64 {
        self.rejected + self.parked.iter().map(|part| part.items).sum::<u64>()
    }

    /// Why items were rejected.
    pub(super) fn why(&self) -> &str {
        &self.names
    }

    /// Whether some of it may still find room.
    pub(super) const fn is_waiting(&self) -> bool {
        !self.parked.is_empty()
    }

    /// Lets those go for which there is room by now.
    pub(super) fn enter(&mut self, now: Instant, ticket: Ticket, replies: &mut Replies) {
        self.parked.retain_mut(|part| !part.enter(now, ticket, replies));
    }

    /// Gives up what waits.
    pub(super) fn give_up(&mut self) {
        for part in std::mem::take(&mut self.parked) {
            self.reject(&part.lane, part.items);
        }
    }

    /// Gives up so many items for want of room in a lane.
    pub(super) fn reject(&mut self, lane: &Lane, items: u64) {
        lane.queue().stats.overflowed += items;
        self.rejected += items;
        if self.names.len() < NAMES_BYTES_MAX {
            let begin = if self.names.is_empty() { "sending queue is full: " } else { ", " };
            self.names.push_str(begin);
            self.names.push_str(&lane.target().endpoint);
        }
    }
}
