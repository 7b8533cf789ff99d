//! Who waits for which parts: one entry per request that has not been answered. Pure.
//!
//! A request is cut into parts, each part goes its own way, and the answer joins them: any failure
//! is a failure, and a permanent one wins. A part is **soft** when its endpoint's queue may own it:
//! then it stops holding the answer up at the acknowledgement deadline. A **hard** part holds the
//! answer until the bound of the reply, and the answer tells the truth.
//!
//! Invariants: a ticket is answered or closed once; when nothing holds an answer up any more its
//! waker has been woken. A hard part whose client has been told of a failure is abandoned, one
//! whose client left is not: a reset never recalls what was merged.

use std::collections::BTreeMap;
use std::task::{Context, Poll, Waker};

use crate::rpc::{Code, Status};
use crate::time::Instant;

/// Nanoseconds that deadlines are rounded up to, so that one wake-up serves many.
const TICK: u64 = 5_000_000;
/// Deadlines of answered requests are swept out when there are this many, or twice what was left.
const SWEEP_MIN: usize = 1024;

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
    /// When the client is told, whatever is known.
    bound_at: Option<Instant>,
    /// The client left before it was answered; the entry stays until its hard parts are settled.
    left: bool,
}

impl Entry {
    fn is_done(&self) -> bool {
        self.hard == 0 && (self.soft == 0 || self.owned)
    }

    fn wake_if_done(&mut self) {
        if self.is_done()
            && let Some(waker) = self.waker.take()
        {
            waker.wake();
        }
    }

    fn add_failure(&mut self, status: &Status) {
        self.failure = Some(match self.failure.take() {
            None => status.clone(),
            Some(before) => join(before, status),
        });
    }
}

/// All waiting requests of one core.
#[derive(Debug, Default)]
pub struct Replies {
    entries: Vec<Entry>,
    free: Vec<u32>,
    deadlines: BTreeMap<u64, Vec<(Ticket, Deadline)>>,
    /// Deadlines written down, those of answered requests included.
    scheduled: usize,
    sweep_at: usize,
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
        if self.scheduled >= self.sweep_at.max(SWEEP_MIN) {
            self.sweep();
        }
        let entry = &mut self.entries[slot as usize];
        let generation = entry.generation.wrapping_add(1);
        *entry = Entry { generation, live: true, bound_at, ..Entry::default() };
        let ticket = Ticket { slot, generation };
        self.deadline_at(own_at, ticket, Deadline::Own);
        // A client can set a bound that never comes.
        if let Some(at) = bound_at.filter(|at| at.0 < u64::MAX) {
            self.deadline_at(at, ticket, Deadline::Bound);
        }
        self.waiting += 1;
        ticket
    }

    /// A request is mostly answered long before its deadlines, which a client may have set to days.
    fn sweep(&mut self) {
        let entries = &self.entries;
        let open = |(ticket, _): &(Ticket, Deadline)| is_open(entries, *ticket);
        self.deadlines.retain(|_, due| {
            due.retain(open);
            !due.is_empty()
        });
        self.scheduled = self.deadlines.values().map(Vec::len).sum();
        self.sweep_at = 2 * self.scheduled;
    }

    fn deadline_at(&mut self, at: Instant, ticket: Ticket, what: Deadline) {
        self.scheduled += 1;
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

    /// Whether the client has not been answered: it waits, or it left while hard parts were under
    /// way.
    #[must_use]
    pub fn is_open(&self, ticket: Ticket) -> bool {
        is_open(&self.entries, ticket)
    }

    /// Whether the client waits and will have been answered before `at`.
    #[must_use]
    pub fn ends_before(&self, ticket: Ticket, at: Instant) -> bool {
        let entry = &self.entries[ticket.slot as usize];
        let waits = is_open(&self.entries, ticket) && !entry.left;
        waits && entry.bound_at.is_some_and(|bound| bound < at)
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
            match entry.left {
                true if entry.hard == 0 => self.end(ticket),
                _ => entry.wake_if_done(),
            }
        }
    }

    /// A part failed for good.
    pub fn fail(&mut self, ticket: Ticket, hold: Hold, status: &Status) {
        if let Some(entry) = self.entry(ticket) {
            entry.add_failure(status);
            self.settle(ticket, hold);
        }
    }

    /// The answer, once nothing holds it up. Ends the ticket.
    pub fn poll(&mut self, ticket: Ticket, cx: &mut Context<'_>) -> Poll<Result<(), Status>> {
        let Some(entry) = self.entry(ticket).filter(|e| !e.left) else {
            return Poll::Ready(Ok(()));
        };
        if !entry.is_done() {
            if !entry.waker.as_ref().is_some_and(|w| w.will_wake(cx.waker())) {
                entry.waker = Some(cx.waker().clone());
            }
            return Poll::Pending;
        }
        let failure = entry.failure.take();
        self.waiting -= 1;
        self.end(ticket);
        Poll::Ready(failure.map_or(Ok(()), Err))
    }

    /// The client left. Parts under way stay what they are: none is recalled.
    pub fn close(&mut self, ticket: Ticket) {
        let Some(entry) = self.entry(ticket) else { return };
        if entry.left {
            return;
        }
        entry.left = true;
        entry.waker = None;
        let settled = entry.hard == 0;
        self.waiting -= 1;
        if settled {
            self.end(ticket);
        }
    }

    /// The ticket is dead from here on and its slot free.
    fn end(&mut self, ticket: Ticket) {
        let entry = &mut self.entries[ticket.slot as usize];
        assert!(entry.live && entry.generation == ticket.generation, "a ticket ends once");
        entry.live = false;
        entry.waker = None;
        entry.failure = None;
        self.free.push(ticket.slot);
    }

    /// When [`Self::tick`] is due.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        self.deadlines.keys().next().map(|t| Instant(t.saturating_mul(TICK)))
    }

    /// As [`Self::deadline`]; `cx` is woken when an earlier one appears.
    pub fn next_tick(&mut self, cx: &Context<'_>) -> Option<Instant> {
        if !self.ticker.as_ref().is_some_and(|w| w.will_wake(cx.waker())) {
            self.ticker = Some(cx.waker().clone());
        }
        self.deadline()
    }

    /// Wakes whoever lets deadlines pass.
    pub fn wake(&mut self) {
        if let Some(ticker) = self.ticker.take() {
            ticker.wake();
        }
    }

    /// Lets deadlines pass.
    pub fn tick(&mut self, now: Instant) {
        while let Some(first) = self.deadlines.first_entry()
            && first.key().saturating_mul(TICK) <= now.0
        {
            let due = first.remove();
            self.scheduled -= due.len();
            for (ticket, what) in due {
                let Some(entry) = self.entry(ticket).filter(|e| !e.left) else { continue };
                entry.owned = true;
                // Later results of hard parts find a ticket that does not wait for them.
                if matches!(what, Deadline::Bound) && std::mem::take(&mut entry.hard) > 0 {
                    entry.add_failure(&Status::new(
                        Code::DeadlineExceeded,
                        "context deadline exceeded",
                    ));
                }
                entry.wake_if_done();
            }
        }
    }

    /// Requests that wait.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.waiting
    }
}

fn is_open(entries: &[Entry], ticket: Ticket) -> bool {
    let entry = &entries[ticket.slot as usize];
    entry.live && entry.generation == ticket.generation
}

/// The collector's rule: all texts, and a permanent failure makes the whole permanent.
fn join(a: Status, b: &Status) -> Status {
    let (a_may, b_may) = (a.is_retryable(), b.is_retryable());
    let code = if a_may && !b_may { b.code } else { a.code };
    // A delay beside a permanent code would invite a retry.
    let retry_after = if a_may && b_may { a.retry_after.max(b.retry_after) } else { None };
    let message = if a.message == b.message {
        a.message
    } else {
        const TEXT_BYTES_MAX: usize = 1024;
        match a.message.len() {
            0..TEXT_BYTES_MAX => format!("{}; {}", a.message, b.message).into(),
            _ => a.message,
        }
    };
    Status { code, message, retry_after }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use super::*;
    use crate::testing::wakes::Wakes;

    const SECOND: Duration = Duration::from_secs(1);
    const START: Instant = Instant(3_000_000_000);

    /// A client with its waker.
    struct Client {
        ticket: Ticket,
        woken: Arc<Wakes>,
    }

    impl Client {
        fn new(replies: &mut Replies, bound: Option<Duration>) -> Self {
            let ticket = replies.open(START + SECOND, bound.map(|b| START + b));
            Self { ticket, woken: Arc::default() }
        }

        fn poll(&self, replies: &mut Replies) -> Option<Result<(), Status>> {
            let waker = Waker::from(Arc::clone(&self.woken));
            match replies.poll(self.ticket, &mut Context::from_waker(&waker)) {
                Poll::Ready(answer) => Some(answer),
                Poll::Pending => None,
            }
        }

        fn woken(&self) -> usize {
            self.woken.count()
        }
    }

    fn status(code: Code, text: &'static str, retry_after: Option<u64>) -> Status {
        Status { retry_after: retry_after.map(Duration::from_secs), ..Status::new(code, text) }
    }

    #[test]
    fn the_last_part_wakes_the_client_and_no_other_does() {
        let mut replies = Replies::default();
        let client = Client::new(&mut replies, None);
        for hold in [Hold::Soft, Hold::Hard, Hold::Soft] {
            replies.expect(client.ticket, hold);
        }
        assert_eq!(client.poll(&mut replies), None);
        replies.settle(client.ticket, Hold::Soft);
        replies.settle(client.ticket, Hold::Hard);
        assert_eq!(client.woken(), 0);
        replies.settle(client.ticket, Hold::Soft);
        assert_eq!(client.woken(), 1);
        assert_eq!(client.poll(&mut replies), Some(Ok(())));
        assert_eq!(replies.waiting(), 0);
    }

    #[test]
    fn deadlines_release_soft_parts_first_and_hard_ones_at_the_bound() {
        let mut replies = Replies::default();
        let (soft, hard) = (
            Client::new(&mut replies, Some(SECOND * 5)),
            Client::new(&mut replies, Some(SECOND * 5)),
        );
        replies.expect(soft.ticket, Hold::Soft);
        replies.expect(hard.ticket, Hold::Soft);
        replies.expect(hard.ticket, Hold::Hard);
        assert!(soft.poll(&mut replies).is_none() && hard.poll(&mut replies).is_none());
        assert_eq!(replies.deadline(), Some(START + SECOND));
        replies.tick(START + SECOND);
        assert_eq!((soft.woken(), hard.woken()), (1, 0));
        assert_eq!(soft.poll(&mut replies), Some(Ok(())));
        replies.tick(START + SECOND * 5);
        assert_eq!(hard.woken(), 1);
        let answer = hard.poll(&mut replies).unwrap().unwrap_err();
        assert_eq!(answer.code, Code::DeadlineExceeded);
        assert!(!replies.is_open(hard.ticket), "its hard part is abandoned");
        replies.settle(hard.ticket, Hold::Hard);
        assert_eq!(replies.deadline(), None);
    }

    #[test]
    fn failures_are_joined_and_a_permanent_one_wins() {
        let busy = || status(Code::Unavailable, "busy", Some(2));
        let refused = || status(Code::ResourceExhausted, "too large", None);
        for (name, failures, want) in [
            ("one", vec![busy()], busy()),
            ("equal texts", vec![busy(), busy()], busy()),
            (
                "the longer delay",
                vec![busy(), status(Code::Aborted, "no", Some(9))],
                status(Code::Unavailable, "busy; no", Some(9)),
            ),
            (
                "no delay makes a permanent one retryable",
                vec![refused(), busy()],
                status(Code::ResourceExhausted, "too large; busy", None),
            ),
            (
                "in any order",
                vec![busy(), refused()],
                status(Code::ResourceExhausted, "busy; too large", None),
            ),
        ] {
            let mut replies = Replies::default();
            let client = Client::new(&mut replies, None);
            failures.iter().for_each(|_| replies.expect(client.ticket, Hold::Hard));
            for failure in &failures {
                assert_eq!(client.poll(&mut replies), None, "{name}");
                replies.fail(client.ticket, Hold::Hard, failure);
            }
            assert_eq!(client.poll(&mut replies), Some(Err(want)), "{name}");
        }
    }

    #[test]
    fn a_client_that_left_is_no_more_waited_for_but_its_hard_parts_stay() {
        let mut replies = Replies::default();
        let client = Client::new(&mut replies, Some(SECOND));
        replies.expect(client.ticket, Hold::Hard);
        replies.close(client.ticket);
        replies.close(client.ticket);
        replies.tick(START + SECOND * 9);
        assert_eq!((replies.waiting(), replies.is_open(client.ticket)), (0, true));
        replies.fail(client.ticket, Hold::Hard, &status(Code::Unavailable, "no", None));
        assert!(!replies.is_open(client.ticket));
        assert_eq!(replies.free.len(), 1, "the slot is free again, once");
    }

    #[test]
    fn an_old_ticket_does_not_touch_the_request_that_has_its_slot() {
        let mut replies = Replies::default();
        let old = Client::new(&mut replies, None);
        replies.close(old.ticket);
        let new = Client::new(&mut replies, None);
        assert_eq!(old.ticket.slot, new.ticket.slot);
        replies.expect(new.ticket, Hold::Hard);
        replies.settle(old.ticket, Hold::Hard);
        replies.fail(old.ticket, Hold::Hard, &status(Code::Unavailable, "no", None));
        replies.close(old.ticket);
        assert_eq!((new.poll(&mut replies), replies.waiting()), (None, 1));
    }

    #[test]
    fn deadlines_of_answered_requests_do_not_pile_up() {
        let mut replies = Replies::default();
        let patient = Client::new(&mut replies, Some(SECOND * 2));
        replies.expect(patient.ticket, Hold::Hard);
        for n in 0..100_000 {
            let quick = Client::new(&mut replies, Some(SECOND * (100 + n)));
            assert_eq!(quick.poll(&mut replies), Some(Ok(())));
        }
        assert!(replies.scheduled <= SWEEP_MIN + 2, "{}", replies.scheduled);
        assert_eq!(replies.entries.len(), 2);
        replies.tick(START + SECOND * 2);
        assert!(patient.poll(&mut replies).is_some(), "the deadline of one that waits is kept");
    }

    #[test]
    fn a_bound_that_never_comes_is_no_bound() {
        let mut replies = Replies::default();
        let client = Client::new(&mut replies, Some(Duration::MAX));
        replies.expect(client.ticket, Hold::Hard);
        replies.tick(START + SECOND);
        assert_eq!((client.poll(&mut replies), replies.deadline()), (None, None));
        replies.open(Instant(u64::MAX - 1), None);
        replies.tick(START + SECOND * 1_000);
        assert!(replies.deadline().unwrap() > START + SECOND * 1_000);
    }
}
