//! A call that runs, until it ends or its client gives it up: nobody waits for its answer then, and
//! what it holds while it waits for room is free again.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use pin_project_lite::pin_project;

use super::grpc_call::Answered;
use super::status::{Code, Status};

pin_project! {
    /// The call of a stream.
    pub(super) struct Running<F> {
        stream: u32,
        given_up: bool,
        // It would not be polled again.
        waker: Option<Waker>,
        #[pin]
        call: F,
    }
}

impl<F> Running<F> {
    pub(super) fn new(stream: u32, call: F) -> Self {
        Self { stream, given_up: false, waker: None, call }
    }

    pub(super) fn stream(&self) -> u32 {
        self.stream
    }

    /// It ends, whatever it waits for.
    pub(super) fn give_up(self: Pin<&mut Self>) {
        let this = self.project();
        *this.given_up = true;
        if let Some(waker) = this.waker.take() {
            waker.wake();
        }
    }
}

impl<F: Future<Output = Answered>> Future for Running<F> {
    type Output = Answered;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Answered> {
        let this = self.project();
        if *this.given_up {
            let status = Status::new(Code::Cancelled, "context canceled");
            return Poll::Ready((*this.stream, Err(status.into())));
        }
        let answered = this.call.poll(cx);
        if answered.is_pending() && !this.waker.as_ref().is_some_and(|w| w.will_wake(cx.waker())) {
            *this.waker = Some(cx.waker().clone());
        }
        answered
    }
}
