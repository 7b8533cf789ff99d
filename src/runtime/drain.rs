//! The call to finish: said once per core, heard by every connection and queue of it.

use std::cell::Cell;
use std::rc::Rc;
use std::task::Context;

use super::places::Places;

/// One core's call to finish. A clone is the same call.
#[derive(Clone, Debug, Default)]
pub struct Drain(Rc<State>);

#[derive(Debug, Default)]
struct State {
    called: Cell<bool>,
    listeners: Places,
}

impl Drain {
    /// Asks everybody to finish.
    pub fn call(&self) {
        self.0.called.set(true);
        self.0.listeners.wake();
    }

    /// Whether it was called.
    #[must_use]
    pub fn called(&self) -> bool {
        self.0.called.get()
    }

    /// A listener's place.
    #[must_use]
    pub fn listen(&self) -> Listener {
        Listener { drain: self.clone(), place: self.0.listeners.enter() }
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
        self.drain.0.listeners.listen(self.place, cx);
        false
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.drain.0.listeners.leave(self.place);
    }
}
