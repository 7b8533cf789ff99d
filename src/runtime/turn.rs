//! Turns: how the connections of a core share it.
//!
//! A paced task works for a turn and then stands in the core's line. One at a time leaves it, and
//! between two of them the core looks at its sockets and serves everybody who is not in line. So
//! whoever asks for little waits for one turn of another, however many others ask for much.
//!
//! What a task has worked is counted over five milliseconds: two requests in that time are not
//! much, a peer that floods is found out however small its pieces are. Long turns make large
//! writes, which are cheap; where somebody asks for little, turns are short.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use super::{clock, executor};
use crate::time::Instant;

/// Work after which a task stands in line. A request of a usual size takes a tenth of that.
pub(super) const TURN: Duration = Duration::from_micros(500);
/// The same, beside tasks that have not stood in line for [`COMPANY`].
const TURN_SHORT: Duration = Duration::from_micros(120);
/// How long a task counts that asked for little, or for much.
const COMPANY: Duration = Duration::from_millis(100);
/// How long work is remembered that was less than a turn.
const MEMORY: Duration = Duration::from_millis(5);

thread_local! {
    static LINE: RefCell<Line> = RefCell::default();
    /// When the turn ends of the task that is being polled.
    static END: Cell<Option<Instant>> = const { Cell::new(None) };
    /// When a task was polled last that asks for little.
    static MODEST: Cell<Instant> = const { Cell::new(Instant(0)) };
}

/// Whether the task that asks has had its turn. Its `poll` is then to return `Pending`: it is woken
/// for the next turn. A task that is not paced always has time.
pub fn poll_over(cx: &mut Context<'_>) -> bool {
    let over = END.get().is_some_and(|end| clock::now() >= end);
    if over {
        cx.waker().wake_by_ref();
    }
    over
}

/// Goes on at once if there is time left, and with the next turn if not.
pub async fn pause() {
    poll_fn(|cx| if poll_over(cx) { Poll::Pending } else { Poll::Ready(()) }).await;
}

/// Runs `task` on this core beside the caller, in turns with the others that are run so.
pub fn detach<F: Future<Output = ()> + 'static>(task: F) {
    executor::detach(Paced { task, budget: Budget::default(), place: None });
}

pin_project_lite::pin_project! {
    struct Paced<F> {
        #[pin]
        task: F,
        budget: Budget,
        // Its number in the line, if it stands there.
        place: Option<u64>,
    }
}

impl<F: Future<Output = ()>> Future for Paced<F> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = self.project();
        if this.place.is_some_and(|place| LINE.with_borrow(|line| place >= line.served)) {
            return Poll::Pending;
        }
        *this.place = None;
        // A task that is started is polled at once, within the poll of the one that starts it.
        let outer = END.replace(Some(this.budget.begin(clock::now(), MODEST.get())));
        let done = this.task.poll(cx);
        END.set(outer);
        let now = clock::now();
        let over = this.budget.end(now);
        if this.budget.is_modest(now) {
            MODEST.set(now);
        }
        // Polled again after the line, it misses no wake-up that came meanwhile.
        if over && done.is_pending() {
            let (place, stands) = LINE.with_borrow_mut(|line| line.join(cx.waker()));
            *this.place = Some(place);
            if stands {
                executor::detach(usher());
            }
        }
        done
    }
}

/// What a task has worked since when.
#[derive(Debug, Default)]
struct Budget {
    since: Instant,
    worked: Duration,
    polled: Instant,
    turn: Duration,
    /// The end of its last whole turn.
    used_up: Instant,
}

impl Budget {
    /// A poll begins, and who asks for little was last seen at `modest`. When the turn ends.
    fn begin(&mut self, now: Instant, modest: Instant) -> Instant {
        if now >= self.since + MEMORY {
            (self.since, self.worked) = (now, Duration::ZERO);
        }
        self.polled = now;
        self.turn = if now < modest + COMPANY { TURN_SHORT } else { TURN };
        now + self.turn.saturating_sub(self.worked)
    }

    /// The poll is over; true if the turn is, too.
    fn end(&mut self, now: Instant) -> bool {
        self.worked += now.since(self.polled);
        let over = self.worked >= self.turn;
        if over {
            (self.worked, self.used_up) = (Duration::ZERO, now);
        }
        over
    }

    fn is_modest(&self, now: Instant) -> bool {
        now >= self.used_up + COMPANY
    }
}

/// Who has had a turn and wants another.
#[derive(Debug, Default)]
struct Line {
    waiting: VecDeque<Waker>,
    /// How many have left it.
    served: u64,
    moves: bool,
}

impl Line {
    /// The number of the new place, and whether nobody moves the line yet.
    fn join(&mut self, waker: &Waker) -> (u64, bool) {
        self.waiting.push_back(waker.clone());
        let stands = !std::mem::replace(&mut self.moves, true);
        (self.served + self.waiting.len() as u64 - 1, stands)
    }

    /// Lets the first go; false if nobody waits.
    fn serve(&mut self) -> bool {
        let Some(first) = self.waiting.pop_front() else { return false };
        self.served += 1;
        first.wake();
        true
    }
}

/// Lets one go whenever the core has looked at its sockets, until nobody waits.
async fn usher() {
    loop {
        executor::rest().await;
        let moves = LINE.with_borrow_mut(|line| {
            line.moves = line.serve();
            line.moves
        });
        if !moves {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn at(micros: u64) -> Instant {
        Instant(1_000_000_000 + micros * 1000)
    }

    #[test]
    fn a_turn_ends_after_much_work_in_little_time() {
        let (mut budget, never) = (Budget::default(), Instant(0));
        assert_eq!(budget.begin(at(0), never), at(500), "the first poll has the whole turn");
        assert!(!budget.end(at(300)));
        assert_eq!(budget.begin(at(2000), never), at(2200), "what was worked is remembered");
        assert!(budget.end(at(2200)));
        assert_eq!(budget.begin(at(2300), never), at(2800), "the next turn is a whole one");
        assert!(!budget.end(at(2400)));
        assert_eq!(budget.begin(at(7300), never), at(7800), "and forgotten");
    }

    #[test]
    fn turns_are_short_beside_somebody_who_asks_for_little() {
        let mut budget = Budget::default();
        assert!(budget.is_modest(at(0)), "who is new has not asked for much");
        assert_eq!(budget.begin(at(0), at(0)), at(120));
        assert!(budget.end(at(200)) && !budget.is_modest(at(300)));
        assert_eq!(budget.begin(at(99_000), at(0)), at(99_120), "seen a moment ago");
        assert!(!budget.end(at(99_100)));
        assert_eq!(budget.begin(at(110_000), at(0)), at(110_500), "not seen any more");
        assert!(!budget.end(at(110_100)) && budget.is_modest(at(110_100)));
    }

    #[test]
    fn places_are_served_in_their_order() {
        let mut line = Line::default();
        let places = [(); 2].map(|()| line.join(Waker::noop()));
        assert_eq!(places, [(0, true), (1, false)], "the first asks for somebody to move it");
        let in_line = |line: &Line| places.map(|(place, _)| place >= line.served);
        assert_eq!(in_line(&line), [true, true]);
        assert!(line.serve());
        assert_eq!(in_line(&line), [false, true]);
        let (last, _) = line.join(Waker::noop());
        assert!(line.serve() && last >= line.served);
        assert!(line.serve() && last < line.served);
        assert!(!line.serve());
    }
}
