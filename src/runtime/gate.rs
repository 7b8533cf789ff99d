//! Where requests wait for room: first come, first woken, a few at a time.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

/// Waiters woken per opening: more would mostly find the room taken again.
const WOKEN_MAX: usize = 8;
/// Seats are swept when there are this many, or twice what was left: who left the line still has
/// one, and a gate can stay shut for long.
const SWEEP_MIN: usize = 64;

/// One core's waiting room. A clone is the same.
#[derive(Clone, Debug, Default)]
pub struct Gate(Rc<RefCell<Line>>);

#[derive(Debug, Default)]
struct Line {
    seats: VecDeque<Rc<RefCell<Seat>>>,
    sweep_at: usize,
}

#[derive(Debug, Default)]
struct Seat {
    woken: bool,
    left: bool,
    waker: Option<Waker>,
}

impl Gate {
    /// Room may have appeared.
    pub fn open(&self) {
        let mut line = self.0.borrow_mut();
        let mut woken = 0;
        while woken < WOKEN_MAX
            && let Some(seat) = line.seats.pop_front()
        {
            let mut seat = seat.borrow_mut();
            if seat.left {
                continue;
            }
            seat.woken = true;
            woken += 1;
            if let Some(waker) = seat.waker.take() {
                waker.wake();
            }
        }
    }

    /// Waits until it opens.
    #[must_use]
    pub fn wait(&self) -> Wait {
        let seat = Rc::new(RefCell::new(Seat::default()));
        let mut line = self.0.borrow_mut();
        if line.seats.len() >= line.sweep_at.max(SWEEP_MIN) {
            line.seats.retain(|seat| !seat.borrow().left);
            line.sweep_at = 2 * line.seats.len();
        }
        line.seats.push_back(Rc::clone(&seat));
        Wait(seat)
    }
}

/// A place in the line; dropping it leaves the line.
#[derive(Debug)]
pub struct Wait(Rc<RefCell<Seat>>);

impl Future for Wait {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let mut seat = self.0.borrow_mut();
        if seat.woken {
            return Poll::Ready(());
        }
        seat.waker = Some(cx.waker().clone());
        Poll::Pending
    }
}

impl Drop for Wait {
    fn drop(&mut self) {
        self.0.borrow_mut().left = true;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_left_a_gate_that_stays_shut_takes_no_seat() {
        let gate = Gate::default();
        let _patient = gate.wait();
        for _ in 0..10_000 {
            drop(gate.wait());
        }
        assert!(gate.0.borrow().seats.len() <= SWEEP_MIN + 1);
    }

    #[test]
    fn whoever_waits_keeps_the_place_in_line_through_a_sweep() {
        let gate = Gate::default();
        let mut all: Vec<_> = (0..WOKEN_MAX + 1).map(|_| gate.wait()).collect();
        for _ in 0..10_000 {
            drop(gate.wait());
        }
        gate.open();
        let is_woken = |wait: &Wait| wait.0.borrow().woken;
        let last = all.pop().unwrap();
        assert!(all.iter().all(is_woken) && !is_woken(&last));
    }
}
