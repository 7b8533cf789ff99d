//! What goes to the shards of other cores: spans of several requests together, because a parcel
//! costs more than the few spans that a small request has for it.

use crate::runtime::mesh::{Mesh, Ticket};
use crate::sample::Share;

/// Bytes of requests whose spans leave together; one that is larger waits for none.
const BYTES: usize = 32 << 10;

/// Spans on their way to another core's shard. It is small, as it goes from the caches of one core
/// to those of another.
#[derive(Debug)]
pub struct Parcel {
    /// Position of the sampler.
    pub(super) sampler: usize,
    pub(super) share: Box<Share>,
}

/// The shares of other shards, and who waits for them.
#[derive(Debug)]
pub(super) struct Outgoing {
    mesh: Mesh<Parcel>,
    /// By core.
    pub(super) shares: Vec<Share>,
    /// Of the requests that have spans in the shares, if there are any: they wait for the answers
    /// of all.
    errand: Option<Ticket<Parcel>>,
    /// Of these requests.
    bytes: usize,
}

impl Outgoing {
    pub(super) fn new(mesh: Mesh<Parcel>) -> Self {
        let shares = std::iter::repeat_with(Share::default).take(mesh.cores()).collect();
        Self { mesh, shares, errand: None, bytes: 0 }
    }

    /// Whether everything has left.
    pub(super) const fn is_empty(&self) -> bool {
        self.errand.is_none()
    }

    /// Whether more can be added now.
    pub(super) fn has_credit(&self) -> bool {
        self.errand.is_some() || self.mesh.has_credit()
    }

    /// A request of so many bytes was added. Its spans leave when the tasks that are ready have
    /// run, or at once if they are many; what it waits for.
    pub(super) fn added(&mut self, bytes: usize, sampler: usize) -> Ticket<Parcel> {
        let Self { mesh, errand, .. } = self;
        let errand = errand.get_or_insert_with(|| {
            let errand = mesh.errand();
            mesh.others().for_each(|core| errand.reserve(core));
            mesh.ring();
            errand
        });
        let errand = errand.clone();
        self.bytes += bytes;
        if self.bytes >= BYTES {
            self.send(sampler);
        }
        errand
    }

    /// Sends what is there to the shards of `sampler`.
    pub(super) fn send(&mut self, sampler: usize) {
        let Some(errand) = self.errand.take() else { return };
        self.bytes = 0;
        for to in self.mesh.others() {
            if self.shares[to].is_empty() {
                errand.keep(to);
                continue;
            }
            let mut share = self.mesh.reuse().map(|parcel| parcel.share).unwrap_or_default();
            share.begin();
            std::mem::swap(&mut self.shares[to], &mut *share);
            errand.send(to, Parcel { sampler, share });
        }
    }
}
