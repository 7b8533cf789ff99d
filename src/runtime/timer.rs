//! One re-armable alarm. Arming costs nothing while the wanted time is not earlier than the armed
//! one: an early wake-up is cheap, a timer per event is not (feasibility A: 80 µs of CPU each).

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use glommio::timer::Timer;

use super::clock;
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

/// Waits for `duration`, and if that is over before the executor has heard of it, longer: it has
/// looked at its sockets in between.
pub async fn sleep_at_least_once(mut duration: Duration) {
    let mut slept = false;
    while !slept {
        let mut timer = Timer::new(duration);
        poll_fn(|cx| {
            let over = Pin::new(&mut timer).poll(cx);
            slept |= over.is_pending();
            over
        })
        .await;
        duration *= 2;
    }
}

pin_project_lite::pin_project! {
    /// A future with a time limit: `None` when the time is over. The time begins, and the timer is
    /// made, when the future is not ready at its first poll.
    #[derive(Debug)]
    pub struct Timeout<F> {
        limit: Duration,
        at: Option<Instant>,
        alarm: Alarm,
        #[pin]
        future: F,
    }
}

impl<F> Timeout<F> {
    /// `future`, for at most `limit`.
    pub fn new(limit: Duration, future: F) -> Self {
        Self { limit, at: None, alarm: Alarm::default(), future }
    }
}

impl<F: Future> Future for Timeout<F> {
    type Output = Option<F::Output>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        if let Poll::Ready(output) = this.future.poll(cx) {
            return Poll::Ready(Some(output));
        }
        let now = clock::now();
        let at = *this.at.get_or_insert_with(|| now + *this.limit);
        if this.alarm.arm(now, Some(at), cx) { Poll::Ready(None) } else { Poll::Pending }
    }
}
