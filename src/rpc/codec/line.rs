//! Where messages wait that are inflated in slices. Each holds what it has inflated so far and a
//! window, and rests between two slices, so all that have come would otherwise grow side by side.

use std::cell::Cell;

use crate::runtime::gate::Gate;

/// Such messages of one core at a time.
const PLACES: usize = 8;

thread_local! {
    static LINE: Line = Line::default();
}

#[derive(Default)]
struct Line {
    taken: Cell<usize>,
    gate: Gate,
}

/// One of [`PLACES`].
#[derive(Debug)]
pub(super) struct Place;

impl Place {
    /// Waits for one.
    pub(super) async fn take() -> Self {
        let mut waiter = Waiter(true);
        loop {
            let waits = LINE.with(|line| {
                let taken = line.taken.get();
                if taken == PLACES {
                    return Some(line.gate.wait());
                }
                line.taken.set(taken + 1);
                None
            });
            match waits {
                Some(wait) => wait.await,
                None => break,
            }
        }
        waiter.0 = false;
        Self
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = LINE.try_with(|line| {
            line.taken.set(line.taken.get() - 1);
            line.gate.open();
        });
    }
}

/// Whether it still waits. One that leaves may have been woken in another's place.
struct Waiter(bool);

impl Drop for Waiter {
    fn drop(&mut self) {
        if self.0 {
            let _ = LINE.try_with(|line| line.gate.open());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::Future;
    use std::pin::pin;
    use std::task::{Context, Poll, Waker};

    use super::*;

    fn taken(take: impl Future<Output = Place>) -> Option<Place> {
        match pin!(take).poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(place) => Some(place),
            Poll::Pending => None,
        }
    }

    #[test]
    fn there_are_as_many_places_as_there_are_and_each_comes_back() {
        for _ in 0..3 {
            let places: Vec<_> = (0..PLACES).map(|_| taken(Place::take()).unwrap()).collect();
            assert!(taken(Place::take()).is_none());
            drop(places);
        }
    }

    #[test]
    fn one_that_left_after_it_was_woken_lets_the_next_one_in() {
        let mut cx = Context::from_waker(Waker::noop());
        let mut places: Vec<_> = (0..PLACES).map(|_| taken(Place::take()).unwrap()).collect();
        let mut first: Vec<_> = (0..PLACES).map(|_| Box::pin(Place::take())).collect();
        let mut last = Box::pin(Place::take());
        for waiter in first.iter_mut().chain([&mut last]) {
            assert!(waiter.as_mut().poll(&mut cx).is_pending());
        }
        places.pop();
        drop(first);
        assert!(last.as_mut().poll(&mut cx).is_ready());
    }
}
