//! A request that was taken, until it is answered. However its handler ends, its ticket is closed
//! and it is counted, once: at its last exit, or where it fails.

use std::future::poll_fn;

use bytes::Bytes;

use super::{Course, Router};
use crate::otlp::reply;
use crate::rpc::Status;
use crate::rpc::service::Transport;
use crate::upstream::replies::Ticket;

pub(super) struct Owed<'a> {
    pub(super) router: &'a Router,
    pub(super) course: Course,
    pub(super) ticket: Ticket,
    pub(super) failed: bool,
    pub(super) is_answered: bool,
    pub(super) transport: Transport,
    pub(super) items: u64,
    pub(super) rejected: u64,
    /// Items that an exit before this one has rejected.
    pub(super) before: u64,
}

impl Owed<'_> {
    /// The answer, and the items that were not taken.
    pub(super) async fn answer(
        mut self,
        why: String,
        but: Option<Status>,
    ) -> Result<(Bytes, u64), Status> {
        let replies = &self.router.site.replies;
        let result = poll_fn(|cx| replies.borrow_mut().poll(self.ticket, cx)).await;
        let result = but.map_or(result, Err);
        self.is_answered = true;
        self.failed = result.is_err();
        result?;
        if self.rejected == 0 {
            return Ok((Bytes::from_static(reply::FULL_SUCCESS), 0));
        }
        let rejected = u32::try_from(self.rejected).unwrap_or(u32::MAX);
        Ok((reply::partial_success(rejected, &why).into(), self.rejected))
    }
}

impl Drop for Owed<'_> {
    fn drop(&mut self) {
        self.router.site.replies.borrow_mut().close(self.ticket);
        if self.is_answered && !self.failed && !self.course.is_last {
            return;
        }
        let mut state = self.router.state.borrow_mut();
        let rejected = self.rejected.max(self.before);
        let refused = if self.failed { self.items } else { rejected };
        let received = state.ways[self.course.way].received(self.transport, self.course.signal);
        received.requests += 1;
        received.accepted += self.items - refused;
        received.refused += refused;
    }
}
