//! A request that was taken, until it is answered. However its handler ends, its ticket is closed
//! and it is counted, once: at its last exit, or where it fails.

use std::future::poll_fn;

use bytes::Bytes;

use super::parked::Short;
use super::{Course, Lack, RETRY_AFTER, ROOM_LOOK, Router};
use crate::otlp::reply;
use crate::rpc::Status;
use crate::rpc::service::Transport;
use crate::runtime::clock;
use crate::runtime::timer::Timeout;
use crate::time::Instant;
use crate::upstream::replies::Ticket;

pub(super) struct Owed<'a> {
    pub(super) router: &'a Router,
    pub(super) course: Course,
    pub(super) ticket: Ticket,
    pub(super) failed: bool,
    pub(super) is_answered: bool,
    pub(super) transport: Transport,
    pub(super) items: u64,
    /// What found no room.
    pub(super) short: Short,
    /// Items that an exit before this one has rejected.
    pub(super) before: u64,
}

/// How long what has no room waits for some.
#[derive(Clone, Copy, Debug)]
pub(super) struct Patience {
    /// Where nothing else is said.
    pub(super) until: Instant,
    /// Where its queue makes it wait: the bound of the reply.
    pub(super) bound: Option<Instant>,
    /// Before the balancer's own queue: the client's deadline.
    pub(super) client: Option<Instant>,
}

impl Patience {
    /// When to look again.
    fn next(&self, now: Instant) -> Instant {
        let next = if now < self.until { self.until } else { now + ROOM_LOOK };
        let ends = [self.bound, self.client].into_iter().flatten();
        ends.filter(|at| *at > now).fold(next, Instant::min)
    }
}

impl Owed<'_> {
    /// The answer, and the items that were not taken.
    pub(super) async fn answer(
        mut self,
        patience: Patience,
        but: Option<Status>,
    ) -> Result<(Bytes, u64), Status> {
        self.wait_for_room(patience).await;
        if self.short.is_all() {
            (self.is_answered, self.failed) = (true, true);
            return Err(Status::unavailable(Lack::Queue.text(), RETRY_AFTER));
        }
        let replies = &self.router.site.replies;
        let result = poll_fn(|cx| replies.borrow_mut().poll(self.ticket, cx)).await;
        let result = but.map_or(result, Err);
        self.is_answered = true;
        self.failed = result.is_err();
        result?;
        let rejected = self.rejected();
        if rejected == 0 {
            return Ok((Bytes::from_static(reply::FULL_SUCCESS), 0));
        }
        let told = u32::try_from(rejected).unwrap_or(u32::MAX);
        Ok((reply::partial_success(told, self.short.why()).into(), rejected))
    }

    async fn wait_for_room(&mut self, patience: Patience) {
        let site = &self.router.site;
        let mut seat = None;
        while self.short.is_waiting() {
            let now = clock::now();
            self.short.enter(now, self.ticket, &mut site.replies.borrow_mut());
            if now >= patience.until {
                self.short.give_up(|part| !part.blocks);
            }
            if patience.bound.is_some_and(|bound| now >= bound) {
                self.short.give_up(|part| !part.is_before_balancer());
            }
            if patience.client.is_some_and(|gone| now >= gone) {
                self.short.give_up(|_| true);
            }
            if self.short.is_waiting() {
                let next = patience.next(now);
                // Who has a place in the line keeps it.
                let waiting = seat.get_or_insert_with(|| site.gate.wait());
                if Timeout::new(next.since(now), waiting).await.is_some() {
                    seat = None;
                }
            }
        }
        if self.rejected() > 0 {
            self.router.tell_rejected(self.rejected(), self.short.why());
        }
    }

    /// Items that were not taken. With several exporters one can be rejected several times.
    fn rejected(&self) -> u64 {
        self.short.items().min(self.items)
    }
}

impl Drop for Owed<'_> {
    fn drop(&mut self) {
        self.router.site.replies.borrow_mut().close(self.ticket);
        self.short.give_up(|_| true);
        if self.is_answered && !self.failed && !self.course.is_last {
            return;
        }
        let mut state = self.router.state.borrow_mut();
        let rejected = self.rejected().max(self.before);
        let refused = if self.failed { self.items } else { rejected };
        let received = state.ways[self.course.way].received(self.transport, self.course.signal);
        received.requests += 1;
        received.accepted += self.items - refused;
        received.refused += refused;
    }
}
