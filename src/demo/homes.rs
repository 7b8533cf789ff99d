//! Which sampler a trace belongs to: the answer of the ring that the collector would build, which
//! is not the router's own.

use crate::route::Ring;

/// The samplers by their numbers, and the ring.
#[derive(Debug)]
pub(super) struct Homes {
    ring: Ring,
    /// Owner in the ring → number of the sampler.
    owners: Vec<u8>,
    count: usize,
}

impl Homes {
    /// `addresses` of the samplers, and the ring that should choose among them.
    pub(super) fn new(addresses: &[String], ring: Ring) -> Self {
        let number = |dialled| addresses.iter().position(|a| a == dialled).unwrap_or(usize::MAX);
        let owners = ring.endpoints().iter().map(|e| u8::try_from(number(e)).unwrap_or(u8::MAX));
        Self { owners: owners.collect(), ring, count: addresses.len() }
    }

    /// Samplers.
    pub(super) fn count(&self) -> usize {
        self.count
    }

    /// The number of the trace's sampler.
    pub(super) fn of(&self, trace: &[u8; 16]) -> u8 {
        self.ring.owner(trace).map_or(u8::MAX, |owner| self.owners[usize::from(owner)])
    }
}
