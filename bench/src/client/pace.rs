//! When requests are due: the schedule of the open loop, and repetitions.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::time::Duration;

use rustix::fd::OwnedFd;
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create,
    timerfd_settime,
};

use super::bodies::Request;
use super::options::Rate;
use super::template::mix;
use crate::clock;

/// A request that is to be repeated.
#[derive(Debug, PartialEq, Eq)]
struct Again {
    due: u64,
    request: Request,
}

impl Ord for Again {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.due, self.request.number).cmp(&(other.due, other.request.number))
    }
}

impl PartialOrd for Again {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

/// The schedule.
#[derive(Debug)]
pub(super) struct Pace {
    /// Nanoseconds between requests; `None` in the closed loop.
    interval: Option<f64>,
    start: u64,
    /// Requests that the schedule has given out.
    issued: u64,
    retries: BinaryHeap<Reverse<Again>>,
    /// When earlier requests were due, one entry per [`TRAIL_STEP`], for late spans.
    trail: VecDeque<(u64, u64)>,
    late_by: u64,
}

const TRAIL_STEP: u64 = 10 * clock::MILLISECOND;
/// Backing off as SDKs do: first wait, longest wait, and when to give up.
const WAIT_FIRST: f64 = 1e9;
const WAIT_MAX: f64 = 30e9;
const WAIT_FACTOR: f64 = 1.5;
const RETRY_FOR: u64 = 60 * clock::SECOND;

impl Pace {
    pub(super) fn new(rate: Option<Rate>, spans_per_request: f64, late_by: Duration) -> Self {
        let interval = rate.map(|rate| match rate {
            Rate::Spans(spans) => 1e9 * spans_per_request / spans,
            Rate::Requests(requests) => 1e9 / requests,
        });
        Self {
            interval,
            start: 0,
            issued: 0,
            retries: BinaryHeap::new(),
            trail: VecDeque::new(),
            late_by: late_by.as_nanos() as u64,
        }
    }

    pub(super) fn start(&mut self, now: u64) {
        self.start = now;
    }

    pub(super) fn is_open_loop(&self) -> bool {
        self.interval.is_some()
    }

    fn due(&self, interval: f64) -> u64 {
        self.start + (self.issued as f64 * interval) as u64
    }

    /// When something is due next; at most `left` requests are still to be given out.
    pub(super) fn next_due(&self, left: u64) -> Option<u64> {
        let scheduled = self.interval.filter(|_| left > 0).map(|i| self.due(i));
        let again = self.retries.peek().map(|r| r.0.due);
        scheduled.into_iter().chain(again).min()
    }

    pub(super) fn is_due(&self, now: u64, left: u64) -> bool {
        self.next_due(left).is_some_and(|due| due <= now)
    }

    /// The next request: a repetition that is due, the next of the schedule, or one for now.
    pub(super) fn next(&mut self, now: u64, number: u64) -> Request {
        if self.retries.peek().is_some_and(|r| r.0.due <= now)
            && let Some(Reverse(again)) = self.retries.pop()
        {
            return again.request;
        }
        let intended = self.interval.map_or(now, |i| self.due(i));
        self.issued += 1;
        if self.trail.back().is_none_or(|(at, _)| intended >= at + TRAIL_STEP) {
            self.trail.push_back((intended, number));
        }
        while self.trail.get(1).is_some_and(|(at, _)| at + self.late_by <= intended) {
            self.trail.pop_front();
        }
        let late_of = self.trail.front().filter(|(at, _)| at + self.late_by <= intended);
        Request { number, intended, late_of: late_of.map(|l| l.1), attempt: 0 }
    }

    /// Requests that were due by `now` and have not been given out.
    pub(super) fn backlog(&self, now: u64, left: u64) -> u64 {
        let due = |i| ((now.saturating_sub(self.start)) as f64 / i) as u64;
        self.interval.map_or(0, |i| due(i).saturating_sub(self.issued).min(left))
    }

    /// Passes over the next request of the schedule; when it was due.
    pub(super) fn skip(&mut self) -> u64 {
        let due = self.interval.map_or(self.start, |i| self.due(i));
        self.issued += 1;
        due
    }

    /// Repeats a request at once.
    pub(super) fn retry(&mut self, request: Request, now: u64) {
        self.retries.push(Reverse(Again { due: now, request }));
    }

    /// Repeats a request after a wait; false if it has been tried for long enough.
    pub(super) fn back_off(&mut self, request: Request, now: u64) -> bool {
        if now - request.intended > RETRY_FOR {
            return false;
        }
        let wait = (WAIT_FIRST * WAIT_FACTOR.powi(request.attempt as i32)).min(WAIT_MAX);
        // Between half and one and a half of it.
        let jitter = (mix(request.number ^ now) >> 11) as f64 / (1_u64 << 53) as f64 + 0.5;
        let request = Request { attempt: request.attempt + 1, ..request };
        self.retries.push(Reverse(Again { due: now + (wait * jitter) as u64, request }));
        true
    }

    pub(super) fn has_retries(&self) -> bool {
        !self.retries.is_empty()
    }

    pub(super) fn take_retries(&mut self) -> impl Iterator<Item = Request> + use<> {
        std::mem::take(&mut self.retries).into_iter().map(|r| r.0.request)
    }
}

/// Wakes the loop at a time, more finely than epoll's milliseconds.
#[derive(Debug)]
pub(super) struct Timer {
    fd: OwnedFd,
    due: u64,
}

impl Timer {
    pub(super) fn new() -> io::Result<Self> {
        let flags = TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC;
        Ok(Self { fd: timerfd_create(TimerfdClockId::Monotonic, flags)?, due: 0 })
    }

    /// Arms the timer, unless the time has come: then the loop knows anyway.
    pub(super) fn set(&mut self, due: u64, now: u64) -> io::Result<()> {
        if due <= now || due == self.due {
            return Ok(());
        }
        self.due = due;
        let at = Timespec {
            tv_sec: (due / 1_000_000_000) as i64,
            tv_nsec: (due % 1_000_000_000) as i64,
        };
        let none = Timespec { tv_sec: 0, tv_nsec: 0 };
        let time = Itimerspec { it_interval: none, it_value: at };
        timerfd_settime(&self.fd, TimerfdTimerFlags::ABSTIME, &time)?;
        Ok(())
    }

    /// After it has fired. Its counter need not be read: it is registered edge-triggered.
    pub(super) fn clear(&mut self) {
        self.due = 0;
    }
}

impl AsRawFd for Timer {
    fn as_raw_fd(&self) -> RawFd {
        std::os::fd::AsFd::as_fd(&self.fd).as_raw_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_schedule_does_not_wait_for_anybody() {
        let mut pace = Pace::new(Some(Rate::Spans(1000.0)), 10.0, Duration::ZERO);
        pace.start(5);
        assert_eq!(pace.next_due(9), Some(5));
        let first = pace.next(1_000_000_000, 0);
        let second = pace.next(1_000_000_000, 1);
        assert_eq!((first.intended, second.intended), (5, 5 + 10_000_000));
        assert_eq!(pace.backlog(1_000_000_005, u64::MAX), 98);
        assert_eq!(pace.backlog(1_000_000_005, 3), 3);
        assert_eq!(pace.next_due(0), None);
        assert_eq!((pace.skip(), pace.skip()), (5 + 20_000_000, 5 + 30_000_000));
    }

    #[test]
    fn a_repetition_keeps_its_number_and_its_intended_time() {
        let mut pace = Pace::new(None, 1.0, Duration::ZERO);
        let request = pace.next(100, 7);
        assert!(pace.back_off(request, 200));
        assert!(!pace.is_due(200, 0));
        let due = pace.next_due(0).expect("scheduled");
        assert!((500_000_000..1_500_000_201).contains(&due));
        let again = pace.next(due, 8);
        assert_eq!((again.number, again.intended, again.attempt), (7, 100, 1));
        assert!(!pace.back_off(again, 100 + RETRY_FOR + 1));
    }

    #[test]
    fn late_spans_look_back_by_the_wanted_time() {
        let mut pace = Pace::new(Some(Rate::Requests(1000.0)), 1.0, Duration::from_secs(1));
        pace.start(0);
        let mut last = None;
        for number in 0..3000 {
            last = pace.next(0, number).late_of;
            assert_eq!(last.is_some(), number >= 1000, "{number}");
        }
        assert!((1985..=1999).contains(&last.expect("late")), "{last:?}");
    }
}
