//! The samplers of a core as the other cores know them, and what they send.

use std::cell::RefCell;
use std::future::poll_fn;
use std::rc::Rc;

use super::{Parcel, Sampler};
use crate::runtime::mesh::Mesh;

/// The samplers of this core, by the position that parcels name: the same on every core, because
/// all of them hear of the same configurations in the same order.
#[derive(Clone, Debug, Default)]
pub struct Homes(Rc<RefCell<Vec<Option<Rc<Sampler>>>>>);

impl Homes {
    /// Gives the sampler that `make` makes the next position.
    pub fn enter(&self, make: impl FnOnce(usize) -> Sampler) -> Rc<Sampler> {
        let mut all = self.0.borrow_mut();
        let sampler = Rc::new(make(all.len()));
        all.push(Some(Rc::clone(&sampler)));
        sampler
    }

    /// Nobody will send to it any more.
    pub fn leave(&self, sampler: &Sampler) {
        self.0.borrow_mut()[sampler.at] = None;
    }

    fn of(&self, parcel: &Parcel) -> Rc<Sampler> {
        let all = self.0.borrow();
        Rc::clone(all[parcel.sampler].as_ref().expect("it left when nobody could send to it"))
    }
}

/// Takes what other cores send and hears their answers, for as long as the core lives.
pub async fn carry(mesh: Mesh<Parcel>, homes: Homes) {
    poll_fn(|cx| {
        while mesh.poll(cx, |parcel| homes.of(parcel).accept(parcel)).is_ready() {}
        std::task::Poll::<()>::Pending
    })
    .await;
}
