//! From every core to every other: parcels one way, answers back, in lock-free rings.
//!
//! A parcel needs a **credit**, which comes back with its answer. There are as many credits as
//! places in the ring of answers, so an answer always finds room and no core ever waits to give
//! one. The parcel itself comes back too: what a core has allocated, it frees.
//!
//! Nobody waits for a parcel, so a core that sleeps is not rung for it at once: most are woken by
//! something else soon, and to be woken costs more than the parcel. But a core takes its parcels
//! ([`Mesh::take_in`]) before anything that its clients bring after they were sent.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::poll_fn;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst, fence};
use std::task::{Poll, Waker};
use std::time::Duration;

use crossbeam::queue::ArrayQueue;
use crossbeam::utils::CachePadded;

use super::call::{Caller, Listener, lower, raise};
use super::clock;
use super::executor::Bell;
use super::timer::Alarm;
use crate::time::Instant;

/// Parcels that may be unanswered from one core to another. Nobody waits for them, so a core that
/// is faster always has as many under way: with 64 they were not in its caches any more.
pub const CREDITS: usize = 16;
/// From so many unanswered ones on a core is rung: more would not stay in its caches.
const LOUD: usize = 8;
/// How long a parcel waits for a core that sleeps.
const PATIENCE: Duration = Duration::from_millis(10);

/// The way back from one core to another.
#[derive(Debug)]
struct Road<T> {
    answers: ArrayQueue<T>,
    /// The core that has sent waits for a credit.
    wanted: AtomicBool,
}

/// What all cores see.
#[derive(Debug)]
struct Net<T> {
    cores: usize,
    /// For what core `a` has sent to core `b` at `a * cores + b`.
    roads: Vec<Road<T>>,
    /// By core.
    ends: Vec<CachePadded<End<T>>>,
}

/// What others see of a core.
#[derive(Debug)]
struct End<T> {
    /// What was sent to it, in that order, and from where: a client may have been answered by one
    /// core before it sent to the next.
    parcels: ArrayQueue<(usize, T)>,
    /// Something has come since it took in what had.
    news: AtomicBool,
    caller: Caller,
}

impl<T> End<T> {
    fn new(cores: usize) -> Self {
        let parcels = ArrayQueue::new(cores * CREDITS);
        Self { parcels, news: AtomicBool::new(false), caller: Caller::default() }
    }

    /// Something has come, which can wait.
    fn tell(&self) {
        self.note();
        self.caller.tell();
    }

    /// Something has come.
    fn call(&self) {
        self.note();
        self.caller.call();
    }

    fn note(&self) {
        // Either this sees that the core has taken note of the news, or the core sees what came.
        fence(SeqCst);
        raise(&self.news);
    }
}

impl<T> Net<T> {
    fn road(&self, from: usize, to: usize) -> &Road<T> {
        &self.roads[from * self.cores + to]
    }
}

/// Places in the mesh, to be handed to the cores.
#[derive(Debug)]
pub struct Port<T> {
    net: Arc<Net<T>>,
    core: usize,
}

/// A mesh of `cores` cores: the place of each.
#[must_use]
pub fn mesh<T>(cores: usize) -> Vec<Port<T>> {
    let road = |_| Road { answers: ArrayQueue::new(CREDITS), wanted: AtomicBool::new(false) };
    let roads = (0..cores * cores).map(road).collect();
    let ends = (0..cores).map(|_| CachePadded::new(End::new(cores))).collect();
    let net = Arc::new(Net { cores, roads, ends });
    (0..cores).map(|core| Port { net: Arc::clone(&net), core }).collect()
}

/// One core's side of the mesh. A clone is the same.
#[derive(Debug)]
pub struct Mesh<T>(Rc<Local<T>>);

impl<T> Clone for Mesh<T> {
    fn clone(&self) -> Self {
        Self(Rc::clone(&self.0))
    }
}

#[derive(Debug)]
struct Local<T> {
    port: Port<T>,
    listener: Listener,
    /// Rung when a parcel begins to wait.
    bell: Bell,
    /// Until when parcels wait for cores that sleep.
    due: Cell<Option<Instant>>,
    /// Credits that are taken, by core.
    taken: Vec<Cell<usize>>,
    /// Who waits for a credit.
    waiting: RefCell<VecDeque<Waker>>,
    /// Parcels that came back, to be used again.
    returned: RefCell<Vec<T>>,
}

/// Parcels that are kept for the next use.
const RETURNED_MAX: usize = 64;

impl<T> Mesh<T> {
    /// Takes this core's place.
    #[must_use]
    pub fn new(port: Port<T>) -> Self {
        let taken = (0..port.net.cores).map(|_| Cell::new(0)).collect();
        let listener = Listener::new(&port.net.ends[port.core].caller);
        Self(Rc::new(Local {
            port,
            listener,
            bell: Bell::default(),
            due: Cell::new(None),
            taken,
            waiting: RefCell::default(),
            returned: RefCell::default(),
        }))
    }

    /// Number of this core.
    #[must_use]
    pub fn core(&self) -> usize {
        self.0.port.core
    }

    /// How many cores there are.
    #[must_use]
    pub fn cores(&self) -> usize {
        self.0.port.net.cores
    }

    /// The other cores.
    pub fn others(&self) -> impl Iterator<Item = usize> + use<T> {
        let me = self.core();
        (0..self.cores()).filter(move |other| *other != me)
    }

    /// A parcel that came back, if there is one.
    #[must_use]
    pub fn reuse(&self) -> Option<T> {
        self.0.returned.borrow_mut().pop()
    }

    /// Whether there is a credit to every core.
    #[must_use]
    pub fn has_credit(&self) -> bool {
        self.0.taken.iter().all(|taken| taken.get() < CREDITS)
    }

    /// Waits for a credit to every core.
    pub async fn credit(&self) {
        poll_fn(|cx| {
            if self.has_credit() {
                return Poll::Ready(());
            }
            self.0.waiting.borrow_mut().push_back(cx.waker().clone());
            self.want();
            Poll::Pending
        })
        .await;
    }

    /// Has the cores to which there is no credit answer at once.
    fn want(&self) {
        let Port { net, core } = &self.0.port;
        for other in self.others().filter(|other| self.0.taken[*other].get() >= CREDITS) {
            net.road(*core, other).wanted.store(true, SeqCst);
            net.ends[other].call();
        }
    }

    /// Takes a credit to core `to`; [`Self::send`] or [`Self::keep`] follows.
    ///
    /// # Panics
    /// If there is none ([`Self::has_credit`]).
    pub fn reserve(&self, to: usize) {
        let taken = &self.0.taken[to];
        assert!(taken.get() < CREDITS, "there was a credit");
        taken.set(taken.get() + 1);
    }

    /// Sends a parcel for which a credit was taken.
    ///
    /// # Panics
    /// If none was.
    pub fn send(&self, to: usize, parcel: T) {
        let Port { net, core } = &self.0.port;
        assert!(net.ends[to].parcels.push((*core, parcel)).is_ok(), "it has a credit");
        if self.0.taken[to].get() >= LOUD {
            net.ends[to].call();
            return;
        }
        net.ends[to].tell();
        if self.0.due.get().is_none() {
            self.0.due.set(Some(clock::now() + PATIENCE));
            self.0.bell.ring();
        }
    }

    /// Gives back a credit that was taken.
    pub fn keep(&self, to: usize) {
        let taken = &self.0.taken[to];
        taken.set(taken.get() - 1);
        self.0.waiting.borrow_mut().drain(..).for_each(Waker::wake);
    }

    /// Runs `take_in`, which is to call [`Self::take_in`], whenever something comes, and has the
    /// other cores take what they are sent, for as long as the core lives.
    pub async fn carry(self, take_in: impl Fn()) {
        let mut alarm = Alarm::default();
        poll_fn(|cx| {
            self.0.bell.poll(cx);
            self.0.listener.listen(cx);
            take_in();
            if self.0.due.get().is_some_and(|due| alarm.arm(clock::now(), Some(due), cx)) {
                self.ring();
            }
            Poll::<()>::Pending
        })
        .await;
    }

    /// Wakes the cores that have parcels and sleep.
    fn ring(&self) {
        self.0.due.set(None);
        let Port { net, .. } = &self.0.port;
        let late = |other: &usize| !net.ends[*other].parcels.is_empty();
        self.others().filter(late).for_each(|other| net.ends[other].call());
    }

    /// Everything that has arrived by now: `take` gets each parcel, which then goes back, and
    /// `back` those that came back.
    pub fn take_in(&self, mut take: impl FnMut(&mut T), mut back: impl FnMut(&T)) {
        let (net, me) = (&self.0.port.net, self.core());
        lower(&net.ends[me].news);
        // No more than there are: others may send as fast as they are answered.
        for _ in 0..net.ends[me].parcels.len() {
            let Some((from, mut parcel)) = net.ends[me].parcels.pop() else { break };
            take(&mut parcel);
            let given = net.road(from, me).answers.push(parcel);
            assert!(given.is_ok(), "a parcel with a credit has room for its answer");
            net.ends[from].tell();
        }
        for other in self.others() {
            if lower(&net.road(other, me).wanted) {
                net.ends[other].call();
            }
            let answers = &net.road(me, other).answers;
            while let Some(parcel) = answers.pop() {
                back(&parcel);
                self.keep(other);
                let mut returned = self.0.returned.borrow_mut();
                if returned.len() < RETURNED_MAX {
                    returned.push(parcel);
                }
            }
        }
    }

    /// Whether there may be something to take in.
    #[must_use]
    pub fn has_news(&self) -> bool {
        let Port { net, core } = &self.0.port;
        net.ends[*core].news.load(SeqCst)
    }
}

#[cfg(test)]
mod tests {
    use std::task::Context;

    use super::super::call;
    use super::super::executor::{detach, rest};
    use super::*;
    use crate::testing::cores::on_a_core;
    use crate::testing::wakes::Wakes;

    fn pair<T>() -> [Mesh<T>; 2] {
        let both: Vec<_> = mesh(2).into_iter().map(Mesh::new).collect();
        both.try_into().ok().expect("two")
    }

    /// How many parcels `mesh` had, and how many answers.
    fn taken<T>(mesh: &Mesh<T>) -> (usize, usize) {
        let (mut parcels, mut answers) = (0, 0);
        mesh.take_in(|_| parcels += 1, |_| answers += 1);
        (parcels, answers)
    }

    #[test]
    fn parcels_are_answered_and_come_back_with_their_credit() {
        let [a, b] = pair();
        let woken = Arc::new(Wakes::default());
        let waker = Waker::from(Arc::clone(&woken));
        let mut cx = Context::from_waker(&waker);
        for n in 0..CREDITS {
            assert!(std::pin::pin!(a.credit()).poll(&mut cx).is_ready());
            a.reserve(1);
            a.send(1, n);
        }
        assert!(!a.has_credit());
        assert!(std::pin::pin!(a.credit()).poll(&mut cx).is_pending(), "none left");
        let mut got = Vec::new();
        b.take_in(|parcel| got.push(*parcel), |_| ());
        assert!(got.into_iter().eq(0..CREDITS), "in their order");
        assert_eq!((taken(&a), woken.count()), ((0, CREDITS), 1));
        assert_eq!((a.reuse(), taken(&a), taken(&b)), (Some(CREDITS - 1), (0, 0), (0, 0)));
        assert!(std::pin::pin!(a.credit()).poll(&mut cx).is_ready());
    }

    #[test]
    fn who_carries_hears_of_parcels_and_of_answers() {
        let [a, b] = pair();
        let woken = Arc::new(Wakes::default());
        let waker = Waker::from(Arc::clone(&woken));
        let mut cx = Context::from_waker(&waker);
        let (at_a, at_b) = (Cell::new((0, 0)), Cell::new((0, 0)));
        let mut carry_a = Box::pin(a.clone().carry(|| at_a.set(taken(&a))));
        let mut carry_b = Box::pin(b.clone().carry(|| at_b.set(taken(&b))));
        assert!(carry_b.as_mut().poll(&mut cx).is_pending());
        a.reserve(1);
        a.send(1, ());
        assert!(call::answer() && woken.count() == 1);
        assert!(carry_b.as_mut().poll(&mut cx).is_pending());
        assert_eq!(at_b.get(), (1, 0));
        assert!(carry_a.as_mut().poll(&mut cx).is_pending());
        assert_eq!(at_a.get(), (0, 1));
    }

    #[test]
    fn a_core_that_sleeps_gets_a_parcel_soon() {
        let [from, to]: [Port<usize>; 2] = mesh(2).try_into().expect("two");
        const PARCELS: usize = 5;
        let receiver = move || async move {
            let (mesh, bell, got) = (Mesh::new(to), Bell::default(), Rc::new(Cell::new(0)));
            let (taking, ringing, counted) = (mesh.clone(), bell.clone(), Rc::clone(&got));
            detach(mesh.carry(move || {
                let take = |parcel: &mut usize| {
                    counted.set(*parcel);
                    ringing.ring();
                };
                taking.take_in(take, |_| ());
            }));
            let has_all = || got.get() == PARCELS;
            poll_fn(|cx| if bell.poll(cx) && has_all() { Poll::Ready(()) } else { Poll::Pending })
                .await;
        };
        let receiver = std::thread::spawn(|| on_a_core(Duration::ZERO, receiver));
        on_a_core(Duration::ZERO, move || async move {
            let (mesh, back) = (Mesh::new(from), Rc::new(Cell::new(0)));
            let (taking, counted) = (mesh.clone(), Rc::clone(&back));
            detach(mesh.clone().carry(move || taking.take_in(|_| (), |n| counted.set(*n))));
            for n in 1..=PARCELS {
                mesh.reserve(1);
                mesh.send(1, n);
                while back.get() < n {
                    rest().await;
                }
            }
        });
        receiver.join().expect("no panic");
    }

    #[test]
    fn parcels_of_several_cores_are_taken_in_as_they_were_sent() {
        let cores: Vec<Mesh<u32>> = mesh(3).into_iter().map(Mesh::new).collect();
        for (from, n) in [(2, 0), (1, 1), (2, 2), (2, 3), (1, 4)] {
            cores[from].reserve(0);
            cores[from].send(0, n);
        }
        let mut got = Vec::new();
        cores[0].take_in(|n| got.push(*n), |_| ());
        assert_eq!(got, [0, 1, 2, 3, 4]);
        assert_eq!((taken(&cores[1]), taken(&cores[2])), ((0, 2), (0, 3)));
    }

    #[test]
    fn what_comes_while_it_takes_in_waits_for_the_next_time() {
        let [a, b] = pair();
        let send = || {
            a.reserve(1);
            a.send(1, ());
        };
        (0..2).for_each(|_| send());
        let mut count = 0;
        let take = |(): &mut ()| {
            count += 1;
            send();
        };
        b.take_in(take, |()| ());
        assert_eq!(count, 2);
        assert!(b.has_news());
        assert_eq!((taken(&b), b.has_news()), ((2, 0), false));
    }

    #[test]
    fn a_credit_that_was_not_used_is_there_again() {
        let [a, _b] = pair::<()>();
        for _ in 0..CREDITS {
            a.reserve(1);
        }
        let woken = Arc::new(Wakes::default());
        let waker = Waker::from(Arc::clone(&woken));
        let waits = std::pin::pin!(a.credit()).poll(&mut Context::from_waker(&waker));
        assert!(waits.is_pending());
        a.keep(1);
        assert!(a.has_credit() && woken.count() == 1);
    }

    #[test]
    fn a_core_that_sleeps_is_rung_for_many_parcels_or_late_or_for_a_credit() {
        let [a, b] = pair();
        // Both cores are this thread.
        let rung = |what: &mut dyn FnMut()| {
            call::answer();
            let mut was = false;
            call::sleeping(|| {
                what();
                was = call::is_rung();
            });
            was
        };
        let send = || {
            a.reserve(1);
            a.send(1, ());
        };
        assert!(!rung(&mut || (1..LOUD).for_each(|_| send())));
        assert!(rung(&mut &send));
        assert!(a.0.due.get().is_some() && rung(&mut || a.ring()) && a.0.due.get().is_none());
        assert!(!rung(&mut || assert_eq!(taken(&b), (LOUD, 0))), "nobody waits for the answers");
        assert!(!rung(&mut || a.ring()), "it has them all");
        let mut cx = Context::from_waker(Waker::noop());
        assert_eq!(taken(&a), (0, LOUD));
        (0..CREDITS).for_each(|_| send());
        assert_eq!(taken(&b), (CREDITS, 0), "before anybody waits for a credit");
        assert!(rung(&mut || assert!(std::pin::pin!(a.credit()).poll(&mut cx).is_pending())));
        assert!(rung(&mut || assert_eq!(taken(&b), (0, 0))), "it is waited for, and there");
    }
}
