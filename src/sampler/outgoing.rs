//! What goes to the shards of other cores: spans of several requests together, because a parcel
//! costs more than the few spans that a small request has for it.

use crate::runtime::lease::Charge;
use crate::runtime::mesh::Mesh;
use crate::sample::Share;

/// Bytes of requests whose spans leave together; one that is larger waits for none.
const BYTES: usize = 32 << 10;

/// Spans on their way to another core's shard. It is small, as it goes from the caches of one core
/// to those of another.
#[derive(Debug)]
pub struct Parcel {
    /// Position of the sampler.
    pub(super) sampler: usize,
    /// Spans that it was sent with, and their bytes.
    spans: u64,
    bytes: u64,
    pub(super) share: Box<Share>,
}

/// The shares of other shards, and what of them is under way.
#[derive(Debug)]
pub(super) struct Outgoing {
    mesh: Mesh<Parcel>,
    /// By core.
    pub(super) shares: Vec<Share>,
    /// Requests have spans in the shares, and every share a credit.
    begun: bool,
    /// Bytes of these requests.
    bytes: usize,
    /// Parcels that were sent and did not come back, their spans and bytes.
    parcels: usize,
    spans: u64,
    charge: Charge,
}

impl Outgoing {
    /// Nothing under way; what will be is charged to `charge`.
    pub(super) fn new(mesh: Mesh<Parcel>, charge: Charge) -> Self {
        let shares = std::iter::repeat_with(Share::default).take(mesh.cores()).collect();
        Self { mesh, shares, begun: false, bytes: 0, parcels: 0, spans: 0, charge }
    }

    /// Whether every other shard has what is its.
    pub(super) const fn is_empty(&self) -> bool {
        !self.begun && self.parcels == 0
    }

    /// Parcels that were sent and did not come back.
    #[cfg(test)]
    pub(super) const fn sent(&self) -> usize {
        self.parcels
    }

    /// Spans that other shards do not have yet.
    pub(super) fn spans(&self) -> u64 {
        let here: usize = self.shares.iter().map(Share::len).sum();
        self.spans + here as u64
    }

    /// Whether more can be added now.
    pub(super) fn has_credit(&self) -> bool {
        self.begun || self.mesh.has_credit()
    }

    /// A request of so many bytes was added. Its spans leave at once if they are many; true if
    /// they are the first of those that [`Self::send`] is to send.
    pub(super) fn added(&mut self, bytes: usize, sampler: usize) -> bool {
        let is_first = !self.begun;
        if is_first {
            self.mesh.others().for_each(|core| self.mesh.reserve(core));
            self.begun = true;
        }
        self.bytes += bytes;
        if self.bytes >= BYTES {
            self.send(sampler);
        }
        is_first && self.begun
    }

    /// Sends what is there to the shards of `sampler`.
    pub(super) fn send(&mut self, sampler: usize) {
        if !std::mem::take(&mut self.begun) {
            return;
        }
        self.bytes = 0;
        for to in self.mesh.others() {
            if self.shares[to].is_empty() {
                self.mesh.keep(to);
                continue;
            }
            let mut share = self.mesh.reuse().map(|parcel| parcel.share).unwrap_or_default();
            share.begin();
            std::mem::swap(&mut self.shares[to], &mut *share);
            let (spans, bytes) = (share.len() as u64, share.request().0.len() as u64);
            self.parcels += 1;
            self.spans += spans;
            self.charge.set(self.charge.units() + bytes);
            self.mesh.send(to, Parcel { sampler, spans, bytes, share });
        }
    }

    /// The other shard has the spans of a parcel.
    pub(super) fn came_back(&mut self, parcel: &Parcel) {
        self.parcels -= 1;
        self.spans -= parcel.spans;
        self.charge.set(self.charge.units() - parcel.bytes);
    }
}
