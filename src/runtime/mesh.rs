//! From every core to every other: parcels one way, answers back, in lock-free rings of one writer
//! and one reader.
//!
//! A parcel needs a **credit**, which comes back with its answer. There are as many credits as
//! places in the ring of answers, so an answer always finds room and no core ever waits to give
//! one. The parcel itself comes back too: what a core has allocated, it frees.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use crossbeam::queue::ArrayQueue;

use super::call::{Caller, Listener};
use super::executor::Bell;

/// Parcels that may be unanswered from one core to another.
pub const CREDITS: usize = 64;

/// The way from one core to another.
#[derive(Debug)]
struct Road<T> {
    parcels: ArrayQueue<(u32, T)>,
    answers: ArrayQueue<(u32, T)>,
}

/// What all cores see.
#[derive(Debug)]
struct Net<T> {
    cores: usize,
    /// From core `a` to core `b` at `a * cores + b`.
    roads: Vec<Road<T>>,
    callers: Vec<Caller>,
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
    let road = |_| Road { parcels: ArrayQueue::new(CREDITS), answers: ArrayQueue::new(CREDITS) };
    let roads = (0..cores * cores).map(road).collect();
    let callers = (0..cores).map(|_| Caller::default()).collect();
    let net = Arc::new(Net { cores, roads, callers });
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
    bell: Bell,
    /// Credits that are taken, by core.
    taken: Vec<Cell<usize>>,
    errands: RefCell<Errands>,
    /// Who waits for a credit.
    waiting: RefCell<VecDeque<Waker>>,
    /// Parcels that came back, to be used again.
    returned: RefCell<Vec<T>>,
}

/// Parcels that are kept for the next use.
const RETURNED_MAX: usize = 64;

/// Who waits for which answers.
#[derive(Debug, Default)]
struct Errands {
    slots: Vec<Errand>,
    free: Vec<u32>,
}

#[derive(Debug, Default)]
struct Errand {
    /// Parcels that are not answered.
    left: u32,
    /// Who waits for that.
    wakers: Vec<Waker>,
    tickets: u32,
}

impl<T> Mesh<T> {
    /// Takes this core's place.
    #[must_use]
    pub fn new(port: Port<T>) -> Self {
        let taken = (0..port.net.cores).map(|_| Cell::new(0)).collect();
        let listener = Listener::new(&port.net.callers[port.core]);
        Self(Rc::new(Local {
            port,
            listener,
            bell: Bell::default(),
            taken,
            errands: RefCell::default(),
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

    /// Parcels that are unanswered, or will be sent.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.0.taken.iter().map(Cell::get).sum()
    }

    /// A parcel that came back, if there is one.
    #[must_use]
    pub fn reuse(&self) -> Option<T> {
        self.0.returned.borrow_mut().pop()
    }

    /// Begins an errand: parcels that are waited for together.
    #[must_use]
    pub fn errand(&self) -> Ticket<T> {
        let mut errands = self.0.errands.borrow_mut();
        let at = errands.free.pop().unwrap_or_else(|| {
            errands.slots.push(Errand::default());
            u32::try_from(errands.slots.len() - 1).expect("requests are bounded by streams")
        });
        errands.slots[at as usize].tickets = 1;
        Ticket { mesh: self.clone(), at }
    }

    /// Has who carries look ([`Self::poll`]) when the tasks that are ready have run.
    pub fn ring(&self) {
        self.0.bell.ring();
    }

    /// Whether there is a credit to every core.
    #[must_use]
    pub fn has_credit(&self) -> bool {
        self.0.taken.iter().all(|taken| taken.get() < CREDITS)
    }

    /// Waits for a credit to every core.
    pub async fn credit(&self) {
        std::future::poll_fn(|cx| {
            if self.has_credit() {
                return Poll::Ready(());
            }
            self.0.waiting.borrow_mut().push_back(cx.waker().clone());
            Poll::Pending
        })
        .await;
    }

    /// Everything that has arrived: `take` gets each parcel and gives it back. Ready if something
    /// had; the core is woken when more arrives.
    pub fn poll(&self, cx: &mut Context<'_>, mut take: impl FnMut(&mut T)) -> Poll<()> {
        let mut moved = self.drain(&mut take);
        if !moved {
            self.0.bell.poll(cx);
            self.0.listener.listen(cx);
            // Something may have come between the look and the registration.
            moved = self.drain(&mut take);
        }
        if moved { Poll::Ready(()) } else { Poll::Pending }
    }

    fn drain(&self, take: &mut impl FnMut(&mut T)) -> bool {
        let (net, me) = (&self.0.port.net, self.core());
        let mut moved = false;
        for other in self.others() {
            let from = net.road(other, me);
            let mut answered = false;
            while let Some((ticket, mut parcel)) = from.parcels.pop() {
                take(&mut parcel);
                let given = from.answers.push((ticket, parcel));
                assert!(given.is_ok(), "a parcel with a credit has room for its answer");
                answered = true;
            }
            if answered {
                net.callers[other].call();
            }
            let to = net.road(me, other);
            while let Some((ticket, parcel)) = to.answers.pop() {
                self.answered(other, ticket, parcel);
                moved = true;
            }
            moved |= answered;
        }
        moved
    }

    fn answered(&self, from: usize, ticket: u32, parcel: T) {
        let mut returned = self.0.returned.borrow_mut();
        if returned.len() < RETURNED_MAX {
            returned.push(parcel);
        }
        self.settle(from, ticket);
    }

    /// A credit comes back.
    fn settle(&self, from: usize, ticket: u32) {
        let taken = &self.0.taken[from];
        taken.set(taken.get() - 1);
        let mut errands = self.0.errands.borrow_mut();
        let errand = &mut errands.slots[ticket as usize];
        errand.left -= 1;
        if errand.left == 0 {
            let wakers = std::mem::take(&mut errand.wakers);
            if errand.tickets == 0 {
                errands.free.push(ticket);
            }
            drop(errands);
            wakers.into_iter().for_each(Waker::wake);
        }
        self.0.waiting.borrow_mut().drain(..).for_each(Waker::wake);
    }
}

/// Parcels that are waited for together, by everybody who has a clone. Dropped early, they go their
/// way all the same.
#[derive(Debug)]
pub struct Ticket<T> {
    mesh: Mesh<T>,
    at: u32,
}

impl<T> Ticket<T> {
    /// Takes a credit to core `to`; [`Self::send`] or [`Self::keep`] follows. Until then nobody who
    /// waits has all answers.
    ///
    /// # Panics
    /// If there is none ([`Mesh::has_credit`]).
    pub fn reserve(&self, to: usize) {
        let taken = &self.mesh.0.taken[to];
        assert!(taken.get() < CREDITS, "there was a credit");
        taken.set(taken.get() + 1);
        self.mesh.0.errands.borrow_mut().slots[self.at as usize].left += 1;
    }

    /// Sends a parcel for which a credit was taken.
    ///
    /// # Panics
    /// If none was.
    pub fn send(&self, to: usize, parcel: T) {
        let Port { net, core } = &self.mesh.0.port;
        assert!(net.road(*core, to).parcels.push((self.at, parcel)).is_ok(), "it has a credit");
        net.callers[to].call();
    }

    /// Gives back a credit that was taken.
    pub fn keep(&self, to: usize) {
        self.mesh.settle(to, self.at);
    }

    /// Waits until every parcel was answered.
    pub async fn answers(&self) {
        std::future::poll_fn(|cx| {
            let mut errands = self.mesh.0.errands.borrow_mut();
            let errand = &mut errands.slots[self.at as usize];
            if errand.left == 0 {
                return Poll::Ready(());
            }
            if !errand.wakers.iter().any(|waker| waker.will_wake(cx.waker())) {
                errand.wakers.push(cx.waker().clone());
            }
            Poll::Pending
        })
        .await;
    }
}

impl<T> Clone for Ticket<T> {
    fn clone(&self) -> Self {
        self.mesh.0.errands.borrow_mut().slots[self.at as usize].tickets += 1;
        Self { mesh: self.mesh.clone(), at: self.at }
    }
}

impl<T> Drop for Ticket<T> {
    fn drop(&mut self) {
        let mut errands = self.mesh.0.errands.borrow_mut();
        let errand = &mut errands.slots[self.at as usize];
        errand.tickets -= 1;
        if errand.tickets == 0 && errand.left == 0 {
            errands.free.push(self.at);
        }
    }
}

#[cfg(test)]
mod tests {

    use super::super::call;
    use super::*;
    use crate::testing::wakes::Wakes;

    #[test]
    fn parcels_are_answered_and_come_back_with_their_credit() {
        let [a, b]: [Mesh<Vec<u8>>; 2] =
            mesh(2).into_iter().map(Mesh::new).collect::<Vec<_>>().try_into().unwrap();
        let woken = Arc::new(Wakes::default());
        let waker = Waker::from(Arc::clone(&woken));
        let mut cx = Context::from_waker(&waker);
        let mut got = Vec::new();
        assert!(b.poll(&mut cx, |_| ()).is_pending());
        let errand = a.errand();
        for n in 0..CREDITS {
            assert!(std::pin::pin!(a.credit()).poll(&mut cx).is_ready());
            errand.reserve(1);
            errand.send(1, vec![u8::try_from(n).unwrap()]);
        }
        assert!(call::answer());
        assert_eq!(woken.count(), 1, "a parcel wakes who carries on the other core");
        assert!(std::pin::pin!(a.credit()).poll(&mut cx).is_pending(), "none left");
        assert!(std::pin::pin!(errand.answers()).poll(&mut cx).is_pending());
        assert!(b.poll(&mut cx, |parcel| got.push(parcel[0])).is_ready());
        assert_eq!(got.len(), CREDITS);
        assert!(a.poll(&mut cx, |_| ()).is_ready());
        assert!(std::pin::pin!(errand.answers()).poll(&mut cx).is_ready());
        assert_eq!((a.in_flight(), a.reuse().map(|p| p.len())), (0, Some(1)));
        assert!(std::pin::pin!(a.credit()).poll(&mut cx).is_ready());
    }

    #[test]
    fn an_errand_that_is_left_early_is_forgotten_when_its_answers_are_in() {
        let [a, b]: [Mesh<u8>; 2] =
            mesh(2).into_iter().map(Mesh::new).collect::<Vec<_>>().try_into().unwrap();
        let mut cx = Context::from_waker(Waker::noop());
        let errand = a.errand();
        errand.reserve(1);
        errand.send(1, 7);
        drop(errand);
        assert!(b.poll(&mut cx, |_| ()).is_ready());
        assert!(a.poll(&mut cx, |_| ()).is_ready());
        assert_eq!(a.0.errands.borrow().free, [0]);
    }

    #[test]
    fn who_waits_for_what_is_not_sent_yet_waits_for_its_answer_too() {
        let [a, b]: [Mesh<u8>; 2] =
            mesh(2).into_iter().map(Mesh::new).collect::<Vec<_>>().try_into().unwrap();
        let woken = Arc::new(Wakes::default());
        let waker = Waker::from(Arc::clone(&woken));
        let mut cx = Context::from_waker(&waker);
        let (first, mut second) = (a.errand(), None);
        first.reserve(1);
        for _ in 0..2 {
            assert!(std::pin::pin!(first.answers()).poll(&mut cx).is_pending());
            second = Some(first.clone());
        }
        first.send(1, 7);
        first.reserve(1);
        drop(first);
        assert!(b.poll(&mut cx, |_| ()).is_ready());
        assert!(a.poll(&mut cx, |_| ()).is_ready());
        let second = second.unwrap();
        assert!(std::pin::pin!(second.answers()).poll(&mut cx).is_pending(), "one is not sent");
        assert_eq!((woken.count(), a.in_flight()), (0, 1));
        second.keep(1);
        assert_eq!(woken.count(), 1, "a waker is kept once");
        assert!(std::pin::pin!(second.answers()).poll(&mut cx).is_ready());
        drop(second);
        assert_eq!((a.in_flight(), &a.0.errands.borrow().free[..]), (0, &[0][..]));
    }
}
