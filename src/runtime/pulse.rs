//! What a core does between two rounds of its tasks: look at its sockets, timers and calls, and
//! sleep if nothing is to do.
//!
//! The executor runs tasks; this one is among them, and since it is always ready, the executor
//! never sleeps and never looks at its own rings: its way into sleep and back costs seven system
//! calls, ours is one. A core sleeps when in a whole round no other task ran, for then none is
//! ready. So everything that wakes a task is heard here: sockets ([`super::ring`]), timers
//! ([`super::timer`]), and other threads ([`super::call`]).

use std::cell::{Cell, RefCell};
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use super::ring::{self, Wait};
use super::turn::TURN;
use super::{call, clock, timer};
use crate::time::Instant;

thread_local! {
    /// Polls of all tasks but this one.
    static POLLS: Cell<u64> = const { Cell::new(0) };
    static RESTING: RefCell<Vec<Waker>> = const { RefCell::new(Vec::new()) };
    static FIRST: RefCell<Vec<Rc<dyn Later>>> = const { RefCell::new(Vec::new()) };
    static LATER: RefCell<Vec<(Instant, Rc<dyn Later>)>> = const { RefCell::new(Vec::new()) };
    static ENDS: Cell<bool> = const { Cell::new(false) };
}

/// What is better done once for all tasks of a round than by each of them.
pub trait Later {
    /// Does it.
    fn run(&self);
}

/// Lets `what` run when every task that is ready has run, before the core looks at its sockets or
/// sleeps; earlier if what waits has waited for a whole turn (`super::turn`).
pub fn later(what: Rc<dyn Later>) {
    let now = clock::now();
    let first = LATER.with_borrow_mut(|later| {
        later.push((now, what));
        later[0].0
    });
    if now >= first + TURN {
        run_later();
    }
}

/// Lets `what` run before anything is written to a socket: as late as what [`later`] lets run, or
/// when somebody writes before that.
pub fn first(what: Rc<dyn Later>) {
    FIRST.with_borrow_mut(|first| first.push(what));
}

/// Does what [`first`] has left; to be called before something is written.
pub fn run_first() {
    for what in FIRST.with_borrow_mut(std::mem::take) {
        what.run();
    }
}

fn run_later() {
    run_first();
    for (_, what) in LATER.with_borrow_mut(std::mem::take) {
        what.run();
    }
}

pin_project_lite::pin_project! {
    /// A task whose polls are seen here. All tasks of a core are.
    pub(super) struct Seen<F> {
        #[pin]
        task: F,
    }
}

impl<F> Seen<F> {
    pub(super) fn new(task: F) -> Self {
        Self { task }
    }
}

impl<F: Future> Future for Seen<F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        POLLS.set(POLLS.get().wrapping_add(1));
        self.project().task.poll(cx)
    }
}

/// Keeps the core going, until [`end`]. Spins for `spin` before it sleeps.
pub(super) async fn beat(spin: Duration) {
    let mut worked = clock::now();
    while !ENDS.get() {
        let polls = POLLS.get();
        round().await;
        run_later();
        let is_idle = POLLS.get() == polls;
        if !is_idle && !spin.is_zero() {
            worked = clock::now();
        }
        if is_idle && (spin.is_zero() || clock::now() > worked + spin) {
            let until = timer::next();
            let wait = until.map_or(Wait::Long, |at| Wait::For(at.since(clock::now())));
            call::sleeping(|| ring::look(wait));
        } else {
            ring::look(Wait::Not);
        }
        call::answer();
        timer::fire();
        RESTING.with_borrow_mut(std::mem::take).into_iter().for_each(Waker::wake);
    }
}

/// Lets [`beat`] end with this round.
pub(super) fn end() {
    ENDS.set(true);
}

/// Lets every task run that is ready.
async fn round() {
    pending_once(Waker::wake_by_ref).await;
}

/// Rests until the core has looked at its sockets and everybody else had a turn.
pub async fn rest() {
    pending_once(|waker| RESTING.with_borrow_mut(|resting| resting.push(waker.clone()))).await;
}

/// Is ready at its second poll; `tell` hears at the first whom to wake for it.
async fn pending_once(tell: impl Fn(&Waker)) {
    let mut passed = false;
    poll_fn(|cx| {
        if std::mem::replace(&mut passed, true) {
            return Poll::Ready(());
        }
        tell(cx.waker());
        Poll::Pending
    })
    .await;
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::super::aside::aside;
    use super::super::executor::detach;
    use super::super::mailbox::mailbox;
    use super::*;
    use crate::testing::cores;

    /// Runs `main` on a core that sleeps at once or after a spin.
    fn on_a_core<F, Fut>(main: F)
    where
        F: Fn() -> Fut + Send + Clone + 'static,
        Fut: Future<Output = ()> + 'static,
    {
        for spin in [Duration::ZERO, Duration::from_micros(20)] {
            cores::on_a_core(spin, main.clone());
        }
    }

    #[test]
    fn no_message_to_a_core_that_falls_asleep_is_missed() {
        on_a_core(|| async {
            let (to_core, mut messages) = mailbox(1);
            let (answer, answers) = mpsc::channel();
            let other = std::thread::spawn(move || {
                for n in 0..5000_u32 {
                    to_core.send(n).expect("one at a time");
                    assert_eq!(answers.recv(), Ok(n));
                }
            });
            for n in 0..5000 {
                assert_eq!(messages.recv().await, n);
                answer.send(n).expect("it listens");
            }
            other.join().expect("no panic");
        });
    }

    #[test]
    fn a_core_sleeps_until_its_next_timer() {
        on_a_core(|| async {
            for millis in [1, 3, 2] {
                let (wait, start) = (Duration::from_millis(millis), clock::now());
                timer::sleep(wait).await;
                let slept = clock::now().since(start);
                assert!((wait..Duration::from_secs(5)).contains(&slept), "{slept:?}");
            }
        });
    }

    #[test]
    fn a_core_goes_on_while_something_blocks_beside_it() {
        on_a_core(|| async {
            let (go, gone) = mpsc::channel();
            let waiting = aside(move || gone.recv());
            detach(async move {
                rest().await;
                go.send(7).expect("it waits");
            });
            assert_eq!(waiting.await, Ok(7));
        });
    }

    /// Notes when it is done.
    struct Noted(&'static str, Rc<RefCell<Vec<&'static str>>>);

    impl Later for Noted {
        fn run(&self) {
            self.1.borrow_mut().push(self.0);
        }
    }

    #[test]
    fn what_is_done_later_waits_for_all_that_is_ready() {
        on_a_core(|| async {
            let notes = Rc::new(RefCell::new(Vec::new()));
            // It begins at the start of a round.
            rest().await;
            for (task, after) in [("a", "after a"), ("b", "after b")] {
                let notes = Rc::clone(&notes);
                detach(async move {
                    notes.borrow_mut().push(task);
                    later(Rc::new(Noted(after, Rc::clone(&notes))));
                });
            }
            rest().await;
            rest().await;
            assert_eq!(*notes.borrow(), ["a", "b", "after a", "after b"]);
        });
    }

    #[test]
    fn what_is_to_be_first_is_done_before_all_that_waits() {
        on_a_core(|| async {
            rest().await;
            let notes = Rc::new(RefCell::new(Vec::new()));
            let noted = |note| Rc::new(Noted(note, Rc::clone(&notes)));
            later(noted("a"));
            later(noted("b"));
            first(noted("before"));
            rest().await;
            rest().await;
            assert_eq!(*notes.borrow(), ["before", "a", "b"]);
            first(noted("at once"));
            run_first();
            assert_eq!(*notes.borrow(), ["before", "a", "b", "at once"]);
        });
    }

    #[test]
    fn what_has_waited_for_a_turn_is_done_with_the_next() {
        on_a_core(|| async {
            let notes = Rc::new(RefCell::new(Vec::new()));
            later(Rc::new(Noted("first", Rc::clone(&notes))));
            let start = clock::now();
            while clock::now() <= start + TURN {}
            assert!(notes.borrow().is_empty());
            later(Rc::new(Noted("second", Rc::clone(&notes))));
            assert_eq!(*notes.borrow(), ["first", "second"]);
        });
    }

    #[test]
    fn who_rests_has_others_run_before_and_does_not_sleep() {
        on_a_core(|| async {
            let (others, start) = (Rc::new(Cell::new(0)), clock::now());
            for n in 0..1000 {
                let counted = Rc::clone(&others);
                detach(async move {
                    rest().await;
                    counted.set(counted.get() + 1);
                });
                rest().await;
                rest().await;
                assert_eq!(others.get(), n + 1);
            }
            assert!(clock::now().since(start) < Duration::from_secs(5));
        });
    }
}
