//! Timers of a core, and one re-armable alarm per task. Arming costs nothing while the wanted time
//! is not earlier than the armed one: an early wake-up is cheap.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use super::clock;
use crate::time::Instant;

thread_local! {
    static WAITING: RefCell<Waiting> = const { RefCell::new(Waiting::new()) };
}

/// Who waits for which time. The number tells those apart that wait for the same.
struct Waiting {
    wakers: BTreeMap<(Instant, u64), Waker>,
    number: u64,
}

impl Waiting {
    const fn new() -> Self {
        Self { wakers: BTreeMap::new(), number: 0 }
    }

    fn enter(&mut self, at: Instant, waker: Waker) -> u64 {
        self.number += 1;
        self.wakers.insert((at, self.number), waker);
        self.number
    }

    fn due(&mut self, now: Instant) -> Option<Waker> {
        let first = self.wakers.first_entry()?;
        (first.key().0 <= now).then(|| first.remove())
    }
}

/// When the next timer of this core is due.
pub(super) fn next() -> Option<Instant> {
    WAITING.with_borrow(|waiting| waiting.wakers.first_key_value().map(|((at, _), _)| *at))
}

/// Wakes whose time has come.
pub(super) fn fire() {
    if next().is_none() {
        return;
    }
    let now = clock::now();
    while let Some(waker) = WAITING.with_borrow_mut(|waiting| waiting.due(now)) {
        waker.wake();
    }
}

/// A place among those who wait, left when it is dropped.
#[derive(Debug)]
struct Place {
    at: Instant,
    number: u64,
    waker: Waker,
}

impl Place {
    fn new(at: Instant, waker: &Waker) -> Self {
        let number = WAITING.with_borrow_mut(|waiting| waiting.enter(at, waker.clone()));
        Self { at, number, waker: waker.clone() }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        // A thread that ends may have dropped its timers already. Wakers are dropped last: what
        // they keep may have timers of its own.
        let _waker = WAITING.try_with(|waiting| {
            waiting.try_borrow_mut().ok()?.wakers.remove(&(self.at, self.number))
        });
    }
}

/// An alarm of one task.
#[derive(Debug, Default)]
pub struct Alarm {
    armed: Option<Place>,
}

impl Alarm {
    /// Wakes the task of `cx` at `at` or earlier; `None` waits for nothing.
    ///
    /// Returns true if `at` has come already.
    pub fn arm(&mut self, now: Instant, at: Option<Instant>, cx: &mut Context<'_>) -> bool {
        let Some(at) = at else { return false };
        if at <= now {
            return true;
        }
        let waits =
            |place: &Place| now < place.at && place.at <= at && place.waker.will_wake(cx.waker());
        if !self.armed.as_ref().is_some_and(waits) {
            self.armed = Some(Place::new(at, cx.waker()));
        }
        false
    }
}

/// Waits for `duration`.
pub async fn sleep(duration: Duration) {
    let (at, mut alarm) = (clock::now() + duration, Alarm::default());
    poll_fn(|cx| match alarm.arm(clock::now(), Some(at), cx) {
        true => Poll::Ready(()),
        false => Poll::Pending,
    })
    .await;
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

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::testing::wakes::Wakes;

    /// A time that does not come during a test.
    const LATER: Duration = Duration::from_secs(3600);

    #[test]
    fn an_alarm_stands_until_an_earlier_time_is_wanted_and_leaves_with_its_task() {
        let mut cx = Context::from_waker(Waker::noop());
        let (now, mut alarm) = (clock::now(), Alarm::default());
        assert!(!alarm.arm(now, None, &mut cx));
        assert_eq!(next(), None);
        assert!(!alarm.arm(now, Some(now + LATER), &mut cx));
        assert!(!alarm.arm(now, Some(now + 2 * LATER), &mut cx));
        assert_eq!(next(), Some(now + LATER), "an early wake-up is cheap");
        assert!(!alarm.arm(now, Some(now + LATER / 2), &mut cx));
        assert_eq!(next(), Some(now + LATER / 2));
        assert!(alarm.arm(now, Some(now), &mut cx));
        drop(alarm);
        assert_eq!(next(), None);
    }

    #[test]
    fn whose_time_has_come_is_woken_once_and_the_others_wait() {
        let count = Arc::new(Wakes::default());
        let waker = Waker::from(Arc::clone(&count));
        let mut cx = Context::from_waker(&waker);
        let (start, now) = (Instant(0), clock::now());
        let (mut soon, mut same, mut later) = <(Alarm, Alarm, Alarm)>::default();
        assert!(!soon.arm(start, Some(now), &mut cx) && !same.arm(start, Some(now), &mut cx));
        assert!(!later.arm(start, Some(now + LATER), &mut cx));
        fire();
        fire();
        assert_eq!((count.count(), next()), (2, Some(now + LATER)));
    }

    #[test]
    fn an_alarm_goes_with_a_task_that_another_one_polls_now() {
        let count = Arc::new(Wakes::default());
        let waker = Waker::from(Arc::clone(&count));
        let (start, now, mut alarm) = (Instant(0), clock::now(), Alarm::default());
        assert!(!alarm.arm(start, Some(now), &mut Context::from_waker(Waker::noop())));
        assert!(!alarm.arm(start, Some(now), &mut Context::from_waker(&waker)));
        fire();
        assert_eq!((count.count(), next()), (1, None));
    }
}
