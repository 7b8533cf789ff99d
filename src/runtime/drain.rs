//! The call to finish: said once per core, heard by every connection and queue of it.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::task::{Context, Waker};

/// One core's call to finish. A clone is the same call.
#[derive(Clone, Debug, Default)]
pub struct Drain(Rc<State>);

#[derive(Debug, Default)]
struct State {
    called: Cell<bool>,
    /// One place per listener, so that a listener that is polled often is held once.
    wakers: RefCell<Vec<Option<Waker>>>,
    free: RefCell<Vec<usize>>,
}

impl Drain {
    /// Asks everybody to finish.
    pub fn call(&self) {
        self.0.called.set(true);
        for waker in self.0.wakers.borrow_mut().iter_mut().filter_map(Option::take) {
            waker.wake();
        }
    }

    /// Whether it was called.
    #[must_use]
    pub fn called(&self) -> bool {
        self.0.called.get()
    }

    /// A listener's place.
    #[must_use]
    pub fn listen(&self) -> Listener {
        let place = self.0.free.borrow_mut().pop().unwrap_or_else(|| {
            let mut wakers = self.0.wakers.borrow_mut();
            wakers.push(None);
            wakers.len() - 1
        });
        Listener { drain: self.clone(), place }
    }
}

/// Somebody who will finish when asked.
#[derive(Debug)]
pub struct Listener {
    drain: Drain,
    place: usize,
}

impl Listener {
    /// Whether to finish; if not yet, `cx` is woken then.
    pub fn poll(&self, cx: &mut Context<'_>) -> bool {
        if self.drain.called() {
            return true;
        }
        let mut wakers = self.drain.0.wakers.borrow_mut();
        let slot = &mut wakers[self.place];
        if !slot.as_ref().is_some_and(|w| w.will_wake(cx.waker())) {
            *slot = Some(cx.waker().clone());
        }
        false
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.drain.0.wakers.borrow_mut()[self.place] = None;
        self.drain.0.free.borrow_mut().push(self.place);
    }
}
