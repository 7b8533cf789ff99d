//! Who waits for which parts: one entry per request that has not been answered. Pure.
//!
//! A request is cut into parts, each part goes its own way, and the answer joins them: any failure
//! is a failure, and a permanent one wins. A part is **soft** when its endpoint's queue may own it:
//! then it stops holding the answer up at the acknowledgement deadline. A **hard** part holds the
//! answer until the bound of the reply, and the answer tells the truth.

use std::collections::BTreeMap;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use crate::rpc::{Code, Status};
use crate::time::Instant;

/// Deadlines are rounded up to this, so that one wake-up serves many.
const TICK: u64 = 20_000_000;

/// Names a waiting request. A ticket of an answered request is dead and harmless.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Ticket {
    slot: u32,
    generation: u32,
}

/// How far a part may be taken from its client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hold {
    /// The queue may own it.
    Soft,
    /// The client must hear of its fate.
    Hard,
}

#[derive(Debug, Default)]
struct Entry {
    generation: u32,
    /// Parts that are under way.
    soft: u32,
    hard: u32,
    /// The acknowledgement deadline has passed: soft parts hold nothing up.
    owned: bool,
    failure: Option<Status>,
    waker: Option<Waker>,
    live: bool,
}

impl Entry {
    fn is_done(&self) -> bool {
        self.hard == 0 && (self.soft == 0 || self.owned)
    }
}

/// All waiting requests of one core.
#[derive(Debug, Default)]
pub struct Replies {
    entries: Vec<Entry>,
    free: Vec<u32>,
    deadlines: BTreeMap<u64, Vec<(Ticket, Deadline)>>,
    waiting: usize,
    ticker: Option<Waker>,
}

#[derive(Clone, Copy, Debug)]
enum Deadline {
    Own,
    Bound,
}

impl Replies {
    /// A new request: soft parts are owned at `own_at`, the answer is given at `bound_at`.
    pub fn open(&mut self, own_at: Instant, bound_at: Option<Instant>) -> Ticket {
        let slot = self.free.pop().unwrap_or_else(|| {
            self.entries.push(Entry::default());
            u32::try_from(self.entries.len() - 1).expect("requests are bounded by streams")
        });
        let entry = &mut self.entries[slot as usize];
        let generation = entry.generation.wrapping_add(1);
        *entry = Entry { generation, live: true, ..Entry::default() };
        let ticket = Ticket { slot, generation };
        self.deadline_at(own_at, ticket, Deadline::Own);
        if let Some(at) = bound_at {
            self.deadline_at(at, ticket, Deadline::Bound);
        }
        self.waiting += 1;
        ticket
    }

    fn deadline_at(&mut self, at: Instant, ticket: Ticket, what: Deadline) {
        let tick = at.0.div_ceil(TICK);
        let is_first = self.deadlines.first_key_value().is_none_or(|(first, _)| tick < *first);
        self.deadlines.entry(tick).or_default().push((ticket, what));
        if is_first && let Some(waker) = &self.ticker {
            waker.wake_by_ref();
        }
    }

    fn entry(&mut self, ticket: Ticket) -> Option<&mut Entry> {
        let entry = &mut self.entries[ticket.slot as usize];
        (entry.live && entry.generation == ticket.generation).then_some(entry)
    }

    /// Whether the client still waits.
    #[must_use]
    pub fn is_open(&self, ticket: Ticket) -> bool {
        let entry = &self.entries[ticket.slot as usize];
        entry.live && entry.generation == ticket.generation
    }

    /// One more part is under way.
    pub fn expect(&mut self, ticket: Ticket, hold: Hold) {
        if let Some(entry) = self.entry(ticket) {
            match hold {
                Hold::Soft => entry.soft += 1,
                Hold::Hard => entry.hard += 1,
            }
        }
    }

    /// A part needs no more waiting: it was delivered, or a queue owns it.
    pub fn settle(&mut self, ticket: Ticket, hold: Hold) {
        if let Some(entry) = self.entry(ticket) {
            match hold {
                Hold::Soft => entry.soft = entry.soft.saturating_sub(1),
                Hold::Hard => entry.hard = entry.hard.saturating_sub(1),
            }
            if entry.is_done()
                && let Some(waker) = entry.waker.take()
            {
                waker.wake();
            }
        }
    }

    /// A part failed for good.
    pub fn fail(&mut self, ticket: Ticket, hold: Hold, status: &Status) {
        if let Some(entry) = self.entry(ticket) {
            entry.failure = Some(match entry.failure.take() {
                None => status.clone(),
                Some(before) => join(before, status),
            });
            self.settle(ticket, hold);
        }
    }

    /// The answer, once nothing holds it up. Ends the ticket.
    pub fn poll(&mut self, ticket: Ticket, cx: &mut Context<'_>) -> Poll<Result<(), Status>> {
        let Some(entry) = self.entry(ticket) else { return Poll::Ready(Ok(())) };
        if !entry.is_done() {
            if !entry.waker.as_ref().is_some_and(|w| w.will_wake(cx.waker())) {
                entry.waker = Some(cx.waker().clone());
            }
            return Poll::Pending;
        }
        let failure = entry.failure.take();
        self.close(ticket);
        Poll::Ready(failure.map_or(Ok(()), Err))
    }

    /// Nobody waits any more. Parts under way stay what they are.
    pub fn close(&mut self, ticket: Ticket) {
        if let Some(entry) = self.entry(ticket) {
            entry.live = false;
            entry.waker = None;
            entry.failure = None;
            self.free.push(ticket.slot);
            self.waiting -= 1;
        }
    }

    /// When [`Self::tick`] is due.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        self.deadlines.keys().next().map(|t| Instant(t * TICK))
    }

    /// As [`Self::deadline`]; `cx` is woken when an earlier one appears.
    pub fn next_tick(&mut self, cx: &Context<'_>) -> Option<Instant> {
        if !self.ticker.as_ref().is_some_and(|w| w.will_wake(cx.waker())) {
            self.ticker = Some(cx.waker().clone());
        }
        self.deadline()
    }

    /// Lets deadlines pass.
    pub fn tick(&mut self, now: Instant) {
        while let Some(first) = self.deadlines.first_entry()
            && first.key() * TICK <= now.0
        {
            for (ticket, what) in first.remove() {
                let Some(entry) = self.entry(ticket) else { continue };
                match what {
                    Deadline::Own => entry.owned = true,
                    Deadline::Bound => {
                        let hard = std::mem::take(&mut entry.hard);
                        if hard > 0 {
                            let late =
                                Status::new(Code::DeadlineExceeded, "context deadline exceeded");
                            entry.failure = Some(match entry.failure.take() {
                                None => late,
                                Some(before) => join(before, &late),
                            });
                        }
                        // The count is off now; later results find a ticket that ends at once.
                        entry.owned = true;
                    }
                }
                if entry.is_done()
                    && let Some(waker) = entry.waker.take()
                {
                    waker.wake();
                }
            }
        }
    }

    /// Requests that wait.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.waiting
    }
}

/// The collector's rule: all texts, and a permanent failure makes the whole permanent.
fn join(a: Status, b: &Status) -> Status {
    let code = if a.is_retryable() && !b.is_retryable() { b.code } else { a.code };
    let message = if a.message == b.message {
        a.message
    } else {
        const TEXT_BYTES_MAX: usize = 1024;
        match a.message.len() {
            0..TEXT_BYTES_MAX => format!("{}; {}", a.message, b.message).into(),
            _ => a.message,
        }
    };
    let retry_after: Option<Duration> = a.retry_after.max(b.retry_after);
    Status { code, message, retry_after }
}
