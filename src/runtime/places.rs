//! Who is to be woken together: one place each, so that a task that is polled often is held once.

use std::cell::RefCell;
use std::task::{Context, Waker};

/// Wakers by place.
#[derive(Debug, Default)]
pub(super) struct Places {
    wakers: RefCell<Vec<Option<Waker>>>,
    free: RefCell<Vec<usize>>,
}

impl Places {
    /// A place of one's own.
    pub(super) fn enter(&self) -> usize {
        self.free.borrow_mut().pop().unwrap_or_else(|| {
            let mut wakers = self.wakers.borrow_mut();
            wakers.push(None);
            wakers.len() - 1
        })
    }

    /// The next [`Self::wake`] wakes the task of `cx`.
    pub(super) fn listen(&self, place: usize, cx: &Context<'_>) {
        let slot = &mut self.wakers.borrow_mut()[place];
        if !slot.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
            *slot = Some(cx.waker().clone());
        }
    }

    /// Gives the place back. What its waker keeps may have places of its own: drop it last.
    pub(super) fn leave(&self, place: usize) -> Option<Waker> {
        self.free.borrow_mut().push(place);
        self.wakers.borrow_mut()[place].take()
    }

    /// Wakes all who have listened since the last time.
    pub(super) fn wake(&self) {
        let woken: Vec<_> = self.wakers.borrow_mut().iter_mut().filter_map(Option::take).collect();
        woken.into_iter().for_each(Waker::wake);
    }
}
