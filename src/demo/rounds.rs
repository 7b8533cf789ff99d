//! How far each round of the [`Traffic`](super::traffic::Traffic) is: what was sent and answered,
//! when its late spans are due, and whether it went as a sampler's verdict needs it.
//!
//! A verdict rests on the spans that have come by then. They have if the whole round was answered
//! within [`ROUND_MAX`] of its first request, long before the first decision about it; else the
//! machine stood still, and nobody can say what a sampler had when it decided.

use std::collections::VecDeque;
use std::time::Duration;

use crate::time::Instant;

/// Longest time from the first request of a round to its last answer. An answer that takes longer
/// than a second is given before a sampler has everything.
const ROUND_MAX: Duration = Duration::from_secs(1);
/// From the last answer of a round to its late spans: longer than the wait for a decision, the
/// second until its tick, and what a tick may be late.
const LATE_AFTER: Duration = Duration::from_millis(3_600);

/// A round that is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Closed {
    pub round: u64,
    /// When its last answer came.
    pub at: Instant,
    /// It took too long.
    pub stalled: bool,
    /// Its late spans were sent.
    pub late: bool,
}

/// How far a round is.
#[derive(Debug, Default)]
struct Open {
    begun: Option<Instant>,
    answers: u64,
    stalled: bool,
    late: Late,
    last: Instant,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Late {
    /// Waits for the last answer, then for its time, then for its own answer.
    #[default]
    Open,
    Answered,
    /// Never to be sent.
    GivenUp,
}

/// All rounds that are not over.
#[derive(Debug)]
pub(super) struct Rounds {
    /// Requests of a round.
    requests: u64,
    first: u64,
    open: VecDeque<Open>,
    /// When late spans are due, and whose.
    due: VecDeque<(Instant, u64)>,
    /// Late spans were sent.
    any_late: bool,
    ending: bool,
}

impl Rounds {
    pub(super) fn new(requests: u64) -> Self {
        let (open, due) = (VecDeque::new(), VecDeque::new());
        Self { requests, first: 0, open, due, any_late: false, ending: false }
    }

    fn get(&mut self, round: u64) -> &mut Open {
        let at = usize::try_from(round - self.first).expect("not so many rounds are open");
        if self.open.len() <= at {
            self.open.resize_with(at + 1, Open::default);
        }
        &mut self.open[at]
    }

    /// A request of the round is sent.
    pub(super) fn begin(&mut self, round: u64, now: Instant) {
        self.get(round).begun.get_or_insert(now);
    }

    /// A request of the round was answered.
    pub(super) fn answer(&mut self, round: u64, now: Instant) {
        let requests = self.requests;
        let open = self.get(round);
        open.answers += 1;
        open.last = now;
        if open.answers < requests {
            return;
        }
        open.stalled = open.begun.is_none_or(|begun| now.since(begun) > ROUND_MAX);
        if self.ending && (self.any_late || !self.due.is_empty()) {
            self.get(round).late = Late::GivenUp;
        } else {
            self.due.push_back((now + LATE_AFTER, round));
        }
    }

    /// The round whose late spans shall be sent now.
    pub(super) fn take_late(&mut self, now: Instant) -> Option<u64> {
        self.due.front().filter(|(due, _)| *due <= now)?;
        let (_, round) = self.due.pop_front()?;
        self.any_late = true;
        Some(round)
    }

    /// The late spans of the round were answered.
    pub(super) fn answer_late(&mut self, round: u64, now: Instant) {
        let open = self.get(round);
        open.late = Late::Answered;
        open.last = now;
    }

    /// The end is near: late spans that are not due yet are given up, but for the first if there
    /// have been none.
    pub(super) fn end(&mut self) {
        self.ending = true;
        let rest = self.due.split_off(usize::from(!self.any_late).min(self.due.len()));
        for (_, round) in rest {
            self.get(round).late = Late::GivenUp;
        }
    }

    /// Whether late spans are still to be sent.
    pub(super) fn is_waiting(&self) -> bool {
        !self.due.is_empty()
    }

    /// The next round that is over, in their order.
    pub(super) fn close(&mut self) -> Option<Closed> {
        let over = |o: &&Open| o.answers == self.requests && o.late != Late::Open;
        self.open.front().filter(over)?;
        let open = self.open.pop_front()?;
        let round = self.first;
        self.first += 1;
        let late = open.late == Late::Answered;
        Some(Closed { round, at: open.last, stalled: open.stalled, late })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> Instant {
        Instant(0) + Duration::from_millis(millis)
    }

    /// A round of two requests, answered when these milliseconds are over.
    fn go(rounds: &mut Rounds, round: u64, from: u64, to: u64) {
        rounds.begin(round, at(from));
        rounds.begin(round, at(from + 1));
        rounds.answer(round, at(from + 2));
        rounds.answer(round, at(to));
    }

    #[test]
    fn late_spans_are_due_after_the_decision_and_close_their_round() {
        let mut rounds = Rounds::new(2);
        go(&mut rounds, 0, 0, 10);
        assert_eq!((rounds.take_late(at(3_609)), rounds.close()), (None, None));
        assert_eq!(rounds.take_late(at(3_610)), Some(0));
        assert_eq!(rounds.close(), None, "not answered");
        rounds.answer_late(0, at(3_620));
        let closed = Closed { round: 0, at: at(3_620), stalled: false, late: true };
        assert_eq!((rounds.close(), rounds.close()), (Some(closed), None));
    }

    #[test]
    fn a_round_that_took_longer_than_a_second_is_told() {
        let mut rounds = Rounds::new(2);
        go(&mut rounds, 0, 0, 1_000);
        go(&mut rounds, 1, 0, 1_001);
        for round in 0..2 {
            assert_eq!(rounds.take_late(at(9_000)), Some(round));
            rounds.answer_late(round, at(9_000));
            assert_eq!(rounds.close().map(|c| c.stalled), Some(round == 1));
        }
    }

    #[test]
    fn at_the_end_late_spans_are_given_up_but_for_the_very_first() {
        let mut rounds = Rounds::new(2);
        go(&mut rounds, 1, 0, 10);
        go(&mut rounds, 0, 0, 20);
        rounds.end();
        assert!(rounds.is_waiting());
        go(&mut rounds, 2, 0, 30);
        assert_eq!(rounds.take_late(at(9_000)), Some(1));
        rounds.answer_late(1, at(9_001));
        assert!(!rounds.is_waiting());
        let late: Vec<_> = std::iter::from_fn(|| rounds.close()).map(|c| c.late).collect();
        assert_eq!(late, [false, true, false]);
    }
}
