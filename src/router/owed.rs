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

impl Owed<'_> {
    /// The answer, and the items that were not taken. What has no room may find some `until` then,
    /// or up to the bound of the reply where its queue makes it wait.
    pub(super) async fn answer(
        mut self,
        until: Instant,
        bound: Option<Instant>,
        but: Option<Status>,
    ) -> Result<(Bytes, u64), Status> {
        self.wait_for_room(until, bound).await;
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

    async fn wait_for_room(&mut self, until: Instant, bound: Option<Instant>) {
        let site = &self.router.site;
        let mut seat = None;
        while self.short.is_waiting() {
            let now = clock::now();
            self.short.enter(now, self.ticket, &mut site.replies.borrow_mut());
            if now >= until {
                self.short.give_up_most();
            }
            if bound.is_some_and(|bound| now >= bound) {
                self.short.give_up();
            }
            if self.short.is_waiting() {
                let next = if now < until { until } else { now + ROOM_LOOK };
                let next = bound.map_or(next, |bound| next.min(bound));
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
        self.short.give_up();
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
