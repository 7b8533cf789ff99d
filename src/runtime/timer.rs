//! One re-armable alarm. Arming costs nothing while the wanted time is not earlier than the armed
//! one: an early wake-up is cheap, a timer per event is not (feasibility A: 80 µs of CPU each).

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use glommio::timer::Timer;

use crate::time::Instant;

/// An alarm of one task.
#[derive(Debug, Default)]
pub struct Alarm {
    armed: Option<(Instant, Timer, Waker)>,
}

/// A timer is looked at only when it is this near: each look puts it into the wheel of the executor
/// anew, and a busy connection with a deadline in hours would fill the wheel.
const NEAR: Duration = Duration::from_millis(100);

impl Alarm {
    /// Wakes the task of `cx` at `at` or a little earlier; `None` waits for nothing.
    ///
    /// Returns true if `at` has come already.
    pub fn arm(&mut self, now: Instant, at: Option<Instant>, cx: &mut Context<'_>) -> bool {
        let Some(at) = at else { return false };
        if at <= now {
            return true;
        }
        loop {
            match &mut self.armed {
                Some((when, _, waker))
                    if *when <= at && *when > now + NEAR && waker.will_wake(cx.waker()) =>
                {
                    return false;
                }
                Some((when, timer, waker)) if *when <= at => {
                    waker.clone_from(cx.waker());
                    match Pin::new(timer).poll(cx) {
                        Poll::Pending => return false,
                        Poll::Ready(_) => self.armed = None,
                    }
                }
                armed => {
                    // Not woken by this one: the first look, which puts it into the wheel, is next.
                    *armed = Some((at, Timer::new(at.since(now)), Waker::noop().clone()));
                }
            }
        }
    }
}

/// Waits for `duration`.
pub async fn sleep(duration: Duration) {
    glommio::timer::sleep(duration).await;
}

pin_project_lite::pin_project! {
    /// A future with a time limit: `None` when the time is over. The timer is made only when the
    /// future is not ready at its first poll.
    #[derive(Debug)]
    pub struct Timeout<F> {
        limit: Duration,
        timer: Option<Timer>,
        #[pin]
        future: F,
    }
}

impl<F> Timeout<F> {
    /// `future`, for at most `limit`.
    pub fn new(limit: Duration, future: F) -> Self {
        Self { limit, timer: None, future }
    }
}

impl<F: Future> Future for Timeout<F> {
    type Output = Option<F::Output>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        if let Poll::Ready(output) = this.future.poll(cx) {
            return Poll::Ready(Some(output));
        }
        let timer = this.timer.get_or_insert_with(|| Timer::new(*this.limit));
        Pin::new(timer).poll(cx).map(|_| None)
    }
}
