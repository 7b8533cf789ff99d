//! What is said on the connections of a lane: one takes calls, and those that the peer has left
//! (GOAWAY) finish the calls that they have. Those may come to nothing without a word against the
//! one that takes calls: it is judged by its own.

use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;

use super::{Client, Driver, Wire};
use crate::rpc::grpc_client::Event;
use crate::rpc::{Code, Status};
use crate::time::Instant;

/// What a connection had to say.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Heard {
    Nothing,
    Something,
    /// Its end.
    End,
}

impl Driver {
    /// Gives the connection what may leave, and hears it; true if something moved.
    pub(super) fn converse(
        &mut self,
        mut client: Client,
        now: Instant,
        cx: &mut Context<'_>,
    ) -> bool {
        let offered = self.offer(&mut client, now);
        let heard = self.hear(&mut client, true, now, cx);
        if heard == Heard::End {
            self.shared.link.borrow_mut().lost(now);
            return true;
        }
        if client.is_leaving() {
            self.shared.link.borrow_mut().left(now);
            self.draining.push(client);
            return true;
        }
        self.wire = Wire::Up(client);
        offered || heard == Heard::Something
    }

    /// Hears the connections that the peer has left, each to its end; true if something moved.
    pub(super) fn drain(&mut self, now: Instant, cx: &mut Context<'_>) -> bool {
        let mut moved = false;
        let mut draining = std::mem::take(&mut self.draining);
        draining.retain_mut(|client| {
            let heard = self.hear(client, false, now, cx);
            moved |= heard != Heard::Nothing;
            if heard == Heard::End {
                self.shared.link.borrow_mut().drained();
            }
            heard != Heard::End
        });
        self.draining = draining;
        moved
    }

    /// Gives up calls that have had their time, whichever connection they are on; true if there
    /// was one.
    pub(super) fn expire(&mut self, now: Instant) -> bool {
        let mut moved = false;
        while let Some(key) = self.expired(now) {
            moved = true;
            let is_current = self.cancel(key);
            let late = Status::new(Code::DeadlineExceeded, "context deadline exceeded");
            let mut queue = self.shared.queue.borrow_mut();
            queue.done(now, key, Err(late), &mut self.replies.borrow_mut());
            drop(queue);
            if is_current && self.shared.link.borrow_mut().timed_out() {
                self.replace(now);
            }
        }
        moved
    }

    /// Cancels a call; true if it was on the connection that takes calls.
    fn cancel(&mut self, key: u32) -> bool {
        if let Wire::Up(client) = &mut self.wire
            && client.cancel(key)
        {
            return true;
        }
        self.draining.iter_mut().any(|client| client.cancel(key));
        false
    }

    fn expired(&self, now: Instant) -> Option<u32> {
        self.shared.queue.borrow().expired(now)
    }

    fn offer(&mut self, client: &mut Client, now: Instant) -> bool {
        let mut replies = self.replies.borrow_mut();
        let mut queue = self.shared.queue.borrow_mut();
        let mut moved = false;
        while let Some(departure) = queue.poll(now, &mut replies) {
            moved = true;
            match self.packing.pack(departure) {
                Ok(call) => client.start(call),
                Err((key, status)) => queue.done(now, key, Err(status), &mut replies),
            }
        }
        moved
    }

    fn hear(
        &mut self,
        client: &mut Client,
        is_current: bool,
        now: Instant,
        cx: &mut Context<'_>,
    ) -> Heard {
        let mut heard = Heard::Nothing;
        while let Poll::Ready(event) = client.poll(now, cx) {
            heard = Heard::Something;
            match event {
                Event::Done { key, result } => {
                    if !matches!(&result, Err(s) if s.code == Code::Unavailable) {
                        self.answered(is_current);
                    }
                    self.done(now, key, result);
                }
                Event::Unprocessed { key, why } => self.unprocessed(now, key, why),
                Event::Unsent(call) => self.shared.queue.borrow_mut().unsent(call.key),
                Event::Closed(_) => {
                    heard = Heard::End;
                    break;
                }
            }
        }
        if let Some(interval) = client.annoying_interval() {
            self.calm(interval);
        }
        // One that has nothing left to do and cannot even say so.
        let is_useless = client.is_leaving() && client.is_idle();
        if is_useless { Heard::End } else { heard }
    }

    fn answered(&self, is_current: bool) {
        let mut link = self.shared.link.borrow_mut();
        if is_current { link.answered() } else { link.answered_late() }
    }

    fn done(&mut self, now: Instant, key: u32, result: Result<Bytes, Status>) {
        let result = result.and_then(|reply| self.shared.rejected(&reply));
        let failed = result.as_ref().err().filter(|s| s.is_retryable()).cloned();
        let mut queue = self.shared.queue.borrow_mut();
        let lost = queue.stats.lost();
        queue.done(now, key, result, &mut self.replies.borrow_mut());
        let is_kept = queue.stats.lost() == lost;
        drop(queue);
        if let Some(status) = failed.filter(|_| is_kept) {
            self.tell_retry(now, &status);
        }
    }

    fn unprocessed(&mut self, now: Instant, key: u32, why: Status) {
        let mut queue = self.shared.queue.borrow_mut();
        let lost = queue.stats.lost();
        let goes_at_once = queue.unprocessed(now, key, why.clone(), &mut self.replies.borrow_mut());
        let is_kept = queue.stats.lost() == lost;
        drop(queue);
        if !goes_at_once && is_kept {
            self.tell_retry(now, &why);
        }
    }

    fn tell_retry(&mut self, now: Instant, status: &Status) {
        if let Some(suppressed) = self.retries.admit(now) {
            self.shared.target.tell_retry(status, suppressed);
        }
    }

    /// Several calls in a row were not answered: the others on this connection fail with it.
    fn replace(&mut self, now: Instant) {
        let Wire::Up(mut client) = std::mem::replace(&mut self.wire, Wire::Down) else { return };
        tracing::warn!(endpoint = %self.shared.target.endpoint,
            "The connection is replaced: several calls in a row were not answered.");
        let mut queue = self.shared.queue.borrow_mut();
        for key in queue.flying_keys().into_iter().filter(|key| client.cancel(*key)) {
            let status = Status::new(Code::Unavailable, "the connection was replaced");
            queue.done(now, key, Err(status), &mut self.replies.borrow_mut());
        }
        self.shared.link.borrow_mut().lost(now);
    }

    /// The peer has left because of our pings.
    fn calm(&mut self, annoying: Duration) {
        if let Some(interval) = self.caller.calm(annoying) {
            tracing::warn!(
                otelcol.component.id = %self.shared.target.exporter,
                endpoint = %self.shared.target.endpoint,
                ?interval,
                "The endpoint finds keepalive pings too many. They come half as often from now on."
            );
        }
    }
}
