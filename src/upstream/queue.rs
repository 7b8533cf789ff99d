//! Everything that waits for one endpoint on one core, as a state machine in the caller's time.
//!
//! A part is reserved, appended to the open batch and from then on is in exactly one place: open,
//! ready, in flight or waiting for a retry. It leaves as sent or as lost, and both are counted, so
//! `offered = sent + lost + held` holds after every call (and is asserted). Pure: `now` and the
//! outcome of calls are arguments, bytes go nowhere from here.
//!
//! The owner calls, as time and the connection have it: [`Queue::poll`] until it says nothing
//! more, [`Queue::done`], [`Queue::unprocessed`] or [`Queue::unsent`] for each call,
//! [`Queue::expired`], [`Queue::unreachable`] when an attempt to connect fails, and
//! [`Queue::watch`] at each wake-up.
//! What becomes of calls that fail stands in `queue/failure.rs`.

use std::collections::VecDeque;
use std::rc::Rc;
use std::time::Duration;

use super::backoff::Jitter;
use super::batch::Batch;
use super::options::{MergeOptions, Options, RetryOptions, Sizer};
use super::place::Place;
use super::replies::{Hold, Replies, Ticket};
use super::stats::{Loss, Stats};
use crate::rpc::Status;
use crate::rpc::metadata::Metadata;
use crate::runtime::lease::{Charge, Lease};
use crate::time::Instant;

mod failure;
#[cfg(test)]
mod simulation;
#[cfg(test)]
mod tests;

/// While the endpoint is in trouble its data is the queue's already: gather longer, knock less.
const TROUBLE_LINGER: Duration = Duration::from_millis(200);
/// Capacity of a first batch.
const BATCH_BYTES_FIRST: usize = 16 << 10;

/// A call that should leave now.
#[derive(Debug)]
pub struct Departure {
    /// Names the call in [`Queue::done`].
    pub key: u32,
    /// Prefix and uncompressed message.
    pub framed: bytes::Bytes,
    /// Items in it.
    pub items: u64,
    /// What is kept of the headers of its requests.
    pub metadata: Option<Rc<Metadata>>,
}

/// The queue of one endpoint.
#[derive(Debug)]
pub struct Queue {
    merge: MergeOptions,
    retry: Option<RetryOptions>,
    timeout: Duration,
    sizer: Sizer,
    calls_max: usize,
    hold: Hold,
    /// Who finds no room waits for it.
    blocks: bool,
    suspect_after: Duration,
    /// When the endpoint was last heard of.
    answered_at: Instant,
    leases: Vec<Lease>,
    open: Option<Batch>,
    ready: VecDeque<Batch>,
    flying: Vec<Flight>,
    /// The one that is due first is the last.
    waiting: Vec<Waiting>,
    /// No batch held is older than `max_elapsed_time` before this.
    give_up_at: Option<Instant>,
    /// The last thing heard of the endpoint was bad.
    trouble: Option<Status>,
    draining: bool,
    /// Size of the largest of the last batches: growing one costs a copy of it.
    typical_bytes: usize,
    next_key: u32,
    jitter: Jitter,
    /// What happened, for the metrics.
    pub stats: Stats,
}

#[derive(Debug)]
struct Flight {
    key: u32,
    since: Instant,
    batch: Batch,
}

/// A batch that was tried and will be again.
#[derive(Debug)]
struct Waiting {
    due: Instant,
    /// The endpoint asked to be left alone until then.
    not_before: Instant,
    batch: Batch,
}

/// What a queue is made with, besides the endpoint's options.
#[derive(Debug)]
pub struct Setup {
    /// Shares of the limits that this queue fills.
    pub leases: Vec<Lease>,
    /// Calls in flight at once on this core.
    pub calls_max: usize,
    /// Whether parts may be owned before they are delivered.
    pub hold: Hold,
    /// A call unanswered for this long puts the endpoint in trouble.
    pub suspect_after: Duration,
    /// Draws the jitter of retries.
    pub seed: u64,
}

impl Queue {
    /// An empty queue.
    #[must_use]
    pub fn new(options: &Options, setup: Setup) -> Self {
        Self {
            merge: options.merge,
            retry: options.retry,
            timeout: options.timeout,
            sizer: options.queue.map_or(Sizer::Requests, |q| q.sizer),
            calls_max: setup.calls_max.max(1),
            hold: setup.hold,
            blocks: options.queue.is_some_and(|q| q.block_on_overflow),
            suspect_after: setup.suspect_after,
            answered_at: Instant(0),
            leases: setup.leases,
            open: None,
            ready: VecDeque::new(),
            flying: Vec::new(),
            waiting: Vec::new(),
            give_up_at: None,
            trouble: None,
            draining: false,
            typical_bytes: BATCH_BYTES_FIRST,
            next_key: 0,
            jitter: Jitter::new(setup.seed),
            stats: Stats::default(),
        }
    }

    /// Whether parts hold their client's answer.
    #[must_use]
    pub fn hold(&self) -> Hold {
        self.hold
    }

    /// Whether the endpoint failed to answer well the last time.
    #[must_use]
    pub fn in_trouble(&self) -> bool {
        self.trouble.is_some()
    }

    /// Takes room for a part in every limit, or in none.
    pub fn reserve(&mut self, items: u64, bytes: u64) -> bool {
        let size = self.sizer.size(items, bytes);
        for at in 0..self.leases.len() {
            if !self.leases[at].take(size) {
                self.leases[..at].iter_mut().for_each(|l| l.give(size));
                return false;
            }
        }
        true
    }

    /// Whether a part that found no room waits for it as long as its client does
    /// (`block_on_overflow`). One that an empty queue could not take would wait for ever.
    #[must_use]
    pub fn blocks(&self, items: u64, bytes: u64) -> bool {
        let size = self.sizer.size(items, bytes);
        self.blocks && self.leases.iter().all(|l| size <= l.limit().max())
    }

    /// Takes room although there may be none: for what was admitted before and moves here.
    pub fn reserve_over(&mut self, items: u64, bytes: u64) {
        let size = self.sizer.size(items, bytes);
        self.leases.iter_mut().for_each(|l| l.take_over(size));
    }

    /// Gives back a reservation that will not be used.
    pub fn unreserve(&mut self, items: u64, bytes: u64) {
        let size = self.sizer.size(items, bytes);
        self.leases.iter_mut().for_each(|l| l.give(size));
    }

    /// Appends a reserved part of `bytes` that `write` writes. Its ticket is settled when it is
    /// delivered or owned: at once if the endpoint is in trouble and the queue may own it.
    pub fn push(
        &mut self,
        now: Instant,
        part: NewPart,
        replies: &mut Replies,
        write: impl FnOnce(&mut Vec<u8>),
    ) {
        let NewPart { items, bytes, ticket, charge, metadata, place } = part;
        self.stats.offered += items;
        let open = self.open.as_ref();
        if open.is_some_and(|o| o.metadata != metadata || !self.fits(o, items, bytes)) {
            self.seal();
        }
        let typical = self.typical_bytes;
        let open = self.open.get_or_insert_with(|| Batch::new(now, typical.max(bytes)));
        open.metadata = metadata;
        let owned_at_once = self.hold == Hold::Soft && self.trouble.is_some();
        if let (Some(ticket), false) = (ticket, owned_at_once) {
            replies.expect(ticket, self.hold);
        }
        let before = open.bytes();
        open.push(items, ticket.filter(|_| !owned_at_once), write);
        open.hold(place);
        assert_eq!(open.bytes() - before, bytes, "a part is as long as was announced");
        if let Some(charge) = charge {
            match &mut open.charge {
                Some(all) => all.absorb(charge),
                none => *none = Some(charge),
            }
        }
        let (bytes, items) = match self.merge.gather_items {
            0 => (self.merge.bytes, items_max(&self.merge)),
            gather => (self.merge.bytes_max, gather.min(items_max(&self.merge))),
        };
        if open.bytes() >= bytes || open.items >= items {
            self.seal();
        }
        self.check();
    }

    fn fits(&self, open: &Batch, items: u64, bytes: usize) -> bool {
        let within_items = open.items + items <= items_max(&self.merge);
        open.bytes() + bytes <= self.merge.bytes_max && within_items
    }

    fn seal(&mut self) {
        if let Some(batch) = self.open.take() {
            let bytes = batch.bytes().next_power_of_two();
            let before = self.typical_bytes - self.typical_bytes / 8;
            self.typical_bytes = bytes.max(before).min(self.merge.bytes_max);
            self.ready.push_back(batch);
        }
    }

    /// The next call that should leave, if the connection can take one.
    pub fn poll(&mut self, now: Instant, replies: &mut Replies) -> Option<Departure> {
        while self.flying.len() < self.calls_max {
            let mut batch = self.next(now)?;
            if self.hold == Hold::Hard {
                // Clients that were told of a failure will send again.
                self.forget_abandoned(&mut batch, replies);
                if batch.parts.is_empty() {
                    continue;
                }
            }
            batch.first_attempt.get_or_insert(now);
            let key = self.next_key;
            self.next_key = self.next_key.wrapping_add(1);
            let (framed, metadata) = (batch.framed(), batch.metadata.clone());
            let departure = Departure { key, framed, items: batch.items, metadata };
            self.stats.calls += 1;
            self.stats.parts += batch.parts.len() as u64;
            self.flying.push(Flight { key, since: now, batch });
            self.check();
            return Some(departure);
        }
        None
    }

    fn next(&mut self, now: Instant) -> Option<Batch> {
        // The oldest data first: a retry must not starve behind a stream of new parts.
        if self.waiting.last().is_some_and(|w| w.due <= now) {
            return self.waiting.pop().map(|w| w.batch);
        }
        if let Some(batch) = self.ready.pop_front() {
            return Some(batch);
        }
        let open = self.open.as_ref()?;
        let lonely = self.flying.is_empty() && !self.is_patient();
        if lonely || self.draining || now >= open.since + self.linger() {
            self.seal();
            return self.ready.pop_front();
        }
        None
    }

    /// Whether parts may gather for longer because no client waits for them.
    fn is_patient(&self) -> bool {
        self.merge.gather_items > 0 || self.is_troubled()
    }

    fn is_troubled(&self) -> bool {
        self.trouble.is_some() && self.hold == Hold::Soft
    }

    fn linger(&self) -> Duration {
        if self.is_troubled() { TROUBLE_LINGER.max(self.merge.linger) } else { self.merge.linger }
    }

    /// When [`Self::poll`], [`Self::expired`] or [`Self::watch`] may have something to do although
    /// nothing happened. After they have been called it lies in the future.
    /// `linked`: whether there is a connection to send on.
    #[must_use]
    pub fn deadline(&self, linked: bool) -> Option<Instant> {
        let mut soonest: Option<Instant> = None;
        let mut at = |t: Instant| soonest = Some(soonest.map_or(t, |s| s.min(t)));
        if linked && self.flying.len() < self.calls_max {
            if let Some(open) = &self.open {
                at(open.since + self.linger());
            }
            self.waiting.last().into_iter().for_each(|w| at(w.due));
        }
        if !self.timeout.is_zero() {
            self.flying.iter().for_each(|f| at(f.since + self.timeout));
        }
        self.suspect_at().into_iter().for_each(&mut at);
        self.give_up_at.into_iter().for_each(&mut at);
        soonest
    }

    /// A call that has had its time: the caller cancels it and reports it as
    /// `DEADLINE_EXCEEDED` through [`Self::done`].
    #[must_use]
    pub fn expired(&self, now: Instant) -> Option<u32> {
        let late = |f: &&Flight| now >= f.since + self.timeout;
        self.flying.iter().find(late).filter(|_| !self.timeout.is_zero()).map(|f| f.key)
    }

    /// A call is over. `Ok` carries the items that the endpoint rejected (`partial_success`).
    pub fn done(
        &mut self,
        now: Instant,
        key: u32,
        result: Result<u64, Status>,
        replies: &mut Replies,
    ) {
        let Some(at) = self.flying.iter().position(|f| f.key == key) else { return };
        let Flight { since, mut batch, .. } = self.flying.swap_remove(at);
        self.stats.answered(now.since(since), result.is_ok());
        self.answered_at = now;
        match result {
            Ok(rejected) => {
                self.trouble = None;
                self.stats.sent += batch.items;
                self.stats.rejected += rejected.min(batch.items);
                batch.own(self.hold, replies);
                self.leave(&batch);
                self.hurry(now);
            }
            Err(status) if status.is_retryable() => {
                self.trouble = Some(status.clone());
                self.retry(now, batch, &status, replies);
            }
            Err(status) => {
                // The endpoint works; it is this message that it does not want.
                self.trouble = None;
                self.refused(batch, &status, replies);
            }
        }
        self.check();
    }

    /// The endpoint says that it has not processed a call, so that sending it again makes no
    /// duplicate. As in gRPC, that costs nothing once: the call goes again at once and counts as
    /// never made, and the endpoint is not blamed. From then on it is a failure like any other, so
    /// that one that processes nothing is not asked in a circle. True if it goes at once.
    pub fn unprocessed(
        &mut self,
        now: Instant,
        key: u32,
        why: Status,
        replies: &mut Replies,
    ) -> bool {
        let Some(flight) = self.flying.iter_mut().find(|f| f.key == key) else { return false };
        let is_first = !std::mem::replace(&mut flight.batch.resent, true);
        match is_first {
            true => self.unsent(key),
            false => self.done(now, key, Err(why), replies),
        }
        is_first
    }

    /// A call that never left: it goes first the next time.
    pub fn unsent(&mut self, key: u32) {
        if let Some(at) = self.flying.iter().position(|f| f.key == key) {
            let batch = self.flying.swap_remove(at).batch;
            self.stats.calls -= 1;
            self.stats.parts -= batch.parts.len() as u64;
            self.note_age(&batch);
            self.ready.push_front(batch);
        }
        self.check();
    }

    /// Gives the room of a whole batch back.
    fn leave(&mut self, batch: &Batch) {
        let size = (0..batch.parts.len())
            .map(|at| self.sizer.size(batch.parts[at].items, batch.range(at).len() as u64))
            .sum();
        self.leases.iter_mut().for_each(|l| l.give(size));
    }

    /// The process ends: nothing lingers, retries come soon.
    pub fn drain(&mut self, now: Instant) {
        self.draining = true;
        for waiting in &mut self.waiting {
            waiting.due = waiting.due.min(now);
        }
    }

    /// Everything that is not in flight, to be routed anew. Its room is given back, and it counts
    /// as if it had never been offered here. Its tickets still expect these parts: push first what
    /// replaces them, then let [`Batch::own`] settle them, so that nobody is answered in between.
    pub fn take_held(&mut self) -> Vec<Batch> {
        self.seal();
        let held: Vec<Batch> =
            self.ready.drain(..).chain(self.waiting.drain(..).map(|w| w.batch)).collect();
        self.give_up_at = None;
        for batch in &held {
            self.leave(batch);
            self.stats.offered -= batch.items;
        }
        self.check();
        held
    }

    /// Drops everything, in flight included. Returns the items lost.
    pub fn abandon(&mut self, replies: &mut Replies) -> u64 {
        self.seal();
        let mut lost = 0;
        let flying = self.flying.drain(..).map(|f| f.batch);
        let all: Vec<Batch> = flying
            .chain(self.ready.drain(..))
            .chain(self.waiting.drain(..).map(|w| w.batch))
            .collect();
        self.give_up_at = None;
        for batch in all {
            lost += batch.items;
            self.lose(&batch, Loss::Shutdown, None, replies);
        }
        self.check();
        lost
    }

    /// Items that have left, one way or the other.
    #[must_use]
    pub fn left(&self) -> u64 {
        self.stats.sent + self.stats.lost()
    }

    /// Items held, in flight included.
    #[must_use]
    pub fn held_items(&self) -> u64 {
        self.batches().map(|b| b.items).sum()
    }

    /// Bytes held, in flight included.
    #[must_use]
    pub fn held_bytes(&self) -> u64 {
        self.batches().map(|b| b.bytes() as u64).sum()
    }

    /// How full the queue is, in units of its sizer, on this core.
    #[must_use]
    pub fn size_used(&self) -> u64 {
        self.leases.first().map_or(0, Lease::used)
    }

    /// Whether clients wait for parts that have never been tried.
    #[must_use]
    pub fn keeps_waiting(&self) -> bool {
        self.hold == Hold::Hard && (self.open.is_some() || !self.ready.is_empty())
    }

    /// Calls in flight.
    #[must_use]
    pub fn calls_in_flight(&self) -> usize {
        self.flying.len()
    }

    /// Whether nothing is held.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.batches().next().is_none()
    }

    /// Whether something is held that is not in flight.
    #[must_use]
    pub fn has_to_send(&self) -> bool {
        self.open.is_some() || !self.ready.is_empty() || !self.waiting.is_empty()
    }

    /// Calls in flight, by key.
    #[must_use]
    pub fn flying_keys(&self) -> Vec<u32> {
        self.flying.iter().map(|f| f.key).collect()
    }

    fn batches(&self) -> impl Iterator<Item = &Batch> {
        self.open
            .iter()
            .chain(&self.ready)
            .chain(self.flying.iter().map(|f| &f.batch))
            .chain(self.waiting.iter().map(|w| &w.batch))
    }

    fn check(&self) {
        debug_assert_eq!(
            self.stats.offered,
            self.stats.sent + self.stats.lost() + self.held_items(),
            "every item is in one place"
        );
    }
}

fn items_max(merge: &MergeOptions) -> u64 {
    if merge.items_max == 0 { u64::MAX } else { merge.items_max }
}

/// A part to append.
#[derive(Debug)]
pub struct NewPart {
    /// Spans, records or points.
    pub items: u64,
    /// Exactly as many bytes will be written.
    pub bytes: usize,
    /// Who waits for it.
    pub ticket: Option<Ticket>,
    /// What its bytes are charged to.
    pub charge: Option<Charge>,
    /// What is kept of the headers of its request: only equal ones share a call.
    pub metadata: Option<Rc<Metadata>>,
    /// What its request holds of a queue over all endpoints.
    pub place: Option<Rc<Place>>,
}
