//! What becomes of a call that failed, and of parts whose endpoint is in trouble.
//!
//! A retryable failure makes the batch wait, owned if it may be; a refusal that one part may be to
//! blame for is isolated by halving; everything else is lost, counted and told to whoever waits.

use std::time::Duration;

use super::{Queue, Waiting};
use crate::rpc::{Code, Status};
use crate::time::Instant;
use crate::upstream::backoff::next_interval;
use crate::upstream::batch::Batch;
use crate::upstream::replies::{Hold, Replies};
use crate::upstream::stats::Loss;

/// Largest wait between attempts once the process drains.
const DRAIN_INTERVAL_MAX: Duration = Duration::from_millis(500);

impl Queue {
    /// The endpoint cannot be reached. What waits here is owned, or fails if nothing may retry it.
    pub fn unreachable(&mut self, now: Instant, status: &Status, replies: &mut Replies) {
        self.trouble = Some(status.clone());
        self.seal();
        let held = std::mem::take(&mut self.ready);
        for mut batch in held {
            self.forget_abandoned(&mut batch, replies);
            if batch.parts.is_empty() {
                continue;
            }
            if self.retry.is_none() || self.hold == Hold::Hard {
                // An attempt that failed: its clients need not wait for a link to hear of it.
                self.retry(now, batch, status, replies);
                continue;
            }
            batch.first_attempt.get_or_insert(now);
            self.ready.push_back(batch);
        }
        self.forget_abandoned_waiting(replies);
        // Before anything is owned: what is given up is told to whoever waits.
        self.give_up_old(now, replies);
        let hold = self.hold;
        for batch in self.ready.iter_mut().filter(|_| hold == Hold::Soft) {
            batch.own(hold, replies);
            batch.compact();
        }
        self.check();
    }

    /// There is a connection again: the next retry need not wait any longer.
    pub fn reachable(&mut self, now: Instant) {
        self.hurry(now);
    }

    /// To be called at each wake-up. An endpoint that leaves a call, or a part that waits for one,
    /// alone for `suspect_after` is in trouble: until it answers, parts are owned as they come if
    /// they may be, so that its clients need not wait, and nobody waits for room in its queue. And
    /// what is older than `max_elapsed_time` is given up.
    pub fn watch(&mut self, now: Instant, replies: &mut Replies) {
        if self.suspect_at().is_some_and(|at| now >= at) {
            self.trouble =
                Some(Status::new(Code::DeadlineExceeded, "the endpoint does not answer"));
            let hold = self.hold;
            let flying = self.flying.iter_mut().map(|f| &mut f.batch);
            let held = self.open.iter_mut().chain(&mut self.ready).chain(flying);
            for batch in held.filter(|_| hold == Hold::Soft) {
                batch.own(hold, replies);
            }
        }
        if self.give_up_at.is_some_and(|at| now >= at) {
            self.give_up_old(now, replies);
            self.check();
        }
    }

    pub(super) fn suspect_at(&self) -> Option<Instant> {
        if self.trouble.is_some() {
            return None;
        }
        let held = self.ready.front().or(self.open.as_ref()).map(|b| b.since);
        let oldest = self.flying.iter().map(|f| f.since).chain(held).min()?;
        // One that answers other calls is slow or overloaded, and not in trouble.
        Some(oldest.max(self.answered_at) + self.suspect_after)
    }

    /// A call failed in a way that may pass.
    pub(super) fn retry(
        &mut self,
        now: Instant,
        mut batch: Batch,
        status: &Status,
        replies: &mut Replies,
    ) {
        let Some(retry) = self.retry else {
            return self.lose(&batch, Loss::Code(status.code), Some(status), replies);
        };
        self.forget_abandoned_waiting(replies);
        self.forget_abandoned(&mut batch, replies);
        if batch.parts.is_empty() {
            return;
        }
        batch.interval = next_interval(&retry, batch.interval);
        let wait = self.jitter.around(batch.interval, retry.randomization_factor);
        // The server's delay is a minimum (loadbalancing 1.4).
        let asked = status.retry_after.unwrap_or_default();
        let mut due = now + wait.max(asked);
        if self.draining {
            due = due.min(now + DRAIN_INTERVAL_MAX);
        }
        if self.give_up_time(&batch).is_some_and(|last| due > last) {
            return self.lose(&batch, Loss::Elapsed, Some(status), replies);
        }
        self.tell_hopeless(due, &mut batch, status, replies);
        if batch.parts.is_empty() {
            return;
        }
        batch.first_attempt.get_or_insert(now);
        batch.compact();
        self.own(&mut batch, replies);
        self.note_age(&batch);
        self.wait(Waiting { due, not_before: now + asked, batch });
    }

    /// A client whose bound comes before the next attempt hears of the failure now, as the
    /// collector does ("request will be cancelled before next retry").
    fn tell_hopeless(
        &mut self,
        due: Instant,
        batch: &mut Batch,
        status: &Status,
        replies: &mut Replies,
    ) {
        if self.hold == Hold::Soft {
            return;
        }
        for (part, bytes) in batch.cut(|ticket| replies.ends_before(ticket, due)) {
            if let Some(ticket) = part.ticket {
                replies.fail(ticket, Hold::Hard, status);
            }
            self.unreserve(part.items, bytes);
            self.stats.lose(Loss::Code(status.code), part.items);
        }
    }

    fn wait(&mut self, waiting: Waiting) {
        let at = self.waiting.partition_point(|w| w.due > waiting.due);
        self.waiting.insert(at, waiting);
    }

    /// After a success the next retry need not wait any longer, unless the endpoint asked for it;
    /// its success frees the one after.
    pub(super) fn hurry(&mut self, now: Instant) {
        let next = self.waiting.iter().rposition(|w| w.not_before <= now);
        if let Some(at) = next.filter(|&at| self.waiting[at].due > now) {
            let waiting = self.waiting.remove(at);
            self.wait(Waiting { due: now, ..waiting });
        }
    }

    /// The endpoint says that this message will never do.
    pub(super) fn refused(&mut self, batch: Batch, status: &Status, replies: &mut Replies) {
        let one_part_may_be_to_blame = matches!(
            status.code,
            Code::InvalidArgument | Code::Internal | Code::Unknown | Code::ResourceExhausted
        );
        if one_part_may_be_to_blame && batch.parts.len() > 1 {
            let (first, second) = batch.halve();
            for half in [second, first] {
                self.note_age(&half);
                self.ready.push_front(half);
            }
        } else {
            self.lose(&batch, Loss::Code(status.code), Some(status), replies);
        }
    }

    /// The queue owns the batch, if it may.
    fn own(&self, batch: &mut Batch, replies: &mut Replies) {
        if self.hold == Hold::Soft {
            batch.own(self.hold, replies);
        }
    }

    pub(super) fn lose(
        &mut self,
        batch: &Batch,
        why: Loss,
        status: Option<&Status>,
        replies: &mut Replies,
    ) {
        let ended = Status::new(Code::Unavailable, "dropped at shutdown");
        for part in &batch.parts {
            if let Some(ticket) = part.ticket {
                replies.fail(ticket, self.hold, status.unwrap_or(&ended));
            }
        }
        self.stats.lose(why, batch.items);
        self.stats.last_loss =
            Some(status.map_or_else(|| why.name().into(), |s| s.to_string().into()));
        self.leave(batch);
    }

    /// Parts whose clients were told of a failure are cut out: those clients will send again.
    pub(super) fn forget_abandoned(&mut self, batch: &mut Batch, replies: &Replies) {
        if self.hold == Hold::Soft {
            return;
        }
        for (part, bytes) in batch.cut(|ticket| !replies.is_open(ticket)) {
            self.unreserve(part.items, bytes);
            self.stats.lose(Loss::Abandoned, part.items);
        }
    }

    fn forget_abandoned_waiting(&mut self, replies: &Replies) {
        if self.hold == Hold::Soft {
            return;
        }
        let mut waiting = std::mem::take(&mut self.waiting);
        waiting.retain_mut(|w| {
            self.forget_abandoned(&mut w.batch, replies);
            !w.batch.parts.is_empty()
        });
        self.waiting = waiting;
    }

    /// When retries of the batch are over.
    fn give_up_time(&self, batch: &Batch) -> Option<Instant> {
        let max = self.retry.map(|r| r.max_elapsed_time).filter(|max| !max.is_zero())?;
        Some(batch.first_attempt? + max)
    }

    /// The batch is held from now on.
    pub(super) fn note_age(&mut self, batch: &Batch) {
        if let Some(at) = self.give_up_time(batch) {
            self.give_up_at = Some(self.give_up_at.map_or(at, |soonest| soonest.min(at)));
        }
    }

    fn give_up_old(&mut self, now: Instant, replies: &mut Replies) {
        self.give_up_at = None;
        let mut old = Vec::new();
        for batch in std::mem::take(&mut self.ready) {
            match self.give_up_time(&batch) {
                Some(at) if now >= at => old.push(batch),
                _ => self.ready.push_back(batch),
            }
        }
        for waiting in std::mem::take(&mut self.waiting) {
            match self.give_up_time(&waiting.batch) {
                Some(at) if now >= at => old.push(waiting.batch),
                _ => self.waiting.push(waiting),
            }
        }
        let held = self.ready.iter().chain(self.waiting.iter().map(|w| &w.batch));
        self.give_up_at = held.filter_map(|batch| self.give_up_time(batch)).min();
        let why = self.trouble.clone();
        for batch in old {
            self.lose(&batch, Loss::Elapsed, why.as_ref(), replies);
        }
    }
}
