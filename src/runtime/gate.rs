//! Where requests wait for room: first come, first woken, a few at a time.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

/// Waiters woken per opening: more would mostly find the room taken again.
const WOKEN_MAX: usize = 8;

/// One core's waiting room. A clone is the same.
#[derive(Clone, Debug, Default)]
pub struct Gate(Rc<RefCell<VecDeque<Rc<RefCell<Seat>>>>>);

#[derive(Debug, Default)]
struct Seat {
    woken: bool,
    left: bool,
    waker: Option<Waker>,
}

impl Gate {
    /// Room may have appeared.
    pub fn open(&self) {
        let mut seats = self.0.borrow_mut();
        let mut woken = 0;
        while woken < WOKEN_MAX
            && let Some(seat) = seats.pop_front()
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
        self.0.borrow_mut().push_back(Rc::clone(&seat));
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
