//! The chains of a shard: the spans of a trace that lie in the buffer, and what was seen of them.
//!
//! A chain is there as long as its spans are: until its trace is decided and what is kept of it has
//! left. What is remembered of the trace for longer stands in [`super::traces`], which is smaller.
//! Records lie in blocks that never move, and the one given back last is used again first.

use super::buffer::Address;
use super::program::Times;
use super::wheel::Due;
use crate::time::Instant;

const BLOCK: usize = 1024;

/// Whether the spans of a chain wait or leave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Course {
    /// No spans have this record.
    Free,
    /// They wait for the decision about their trace.
    Waits,
    /// They are kept, and wait to leave.
    Leaves,
}

/// The spans of a trace in the buffer.
#[derive(Clone, Debug)]
pub struct Chain {
    /// The last of them.
    pub tail: Address,
    /// How many.
    pub spans: u32,
    /// The tick at which their trace is due.
    pub due: u64,
    /// When they began and ended so far.
    pub times: Times,
    /// Their size as the collector counts it; 0 if nobody asks.
    pub size: u64,
    /// When the policies were asked last, with span-ingest; else 0.
    pub asked_at: Instant,
    /// Bytes around their ResourceSpans: tags and lengths.
    pub envelopes_size: u32,
    /// Their trace, while they wait.
    pub trace: u32,
    /// Counts the chains that had this record, so that old references are known as such.
    pub generation: u32,
    /// Whether they wait or leave.
    pub course: Course,
}

/// All chains of a shard.
#[derive(Debug)]
pub struct Chains {
    blocks: Vec<Vec<Chain>>,
    /// Predicates that hold, `words` per record.
    bits: Vec<Box<[u64]>>,
    words: usize,
    free: Vec<u32>,
}

impl Chains {
    /// For traces with `words` words of predicates.
    #[must_use]
    pub const fn new(words: usize) -> Self {
        Self { blocks: Vec::new(), bits: Vec::new(), words, free: Vec::new() }
    }

    /// Bytes allocated.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        let record = size_of::<Chain>() + self.words * 8;
        (self.blocks.len() * BLOCK * record + self.free.capacity() * size_of::<u32>()) as u64
    }

    /// A chain.
    #[must_use]
    #[inline]
    pub fn get(&self, at: u32) -> &Chain {
        &self.blocks[at as usize / BLOCK][at as usize % BLOCK]
    }

    /// Something of each part of a record.
    #[must_use]
    #[inline]
    pub fn look_at(&self, at: u32) -> u64 {
        let Chain { due, generation, .. } = self.get(at);
        self.bits(at).first().map_or(0, |bits| *bits) ^ due ^ u64::from(*generation)
    }

    /// A chain, to change it.
    #[inline]
    pub fn get_mut(&mut self, at: u32) -> &mut Chain {
        &mut self.blocks[at as usize / BLOCK][at as usize % BLOCK]
    }

    /// Predicates that hold for it.
    #[must_use]
    #[inline]
    pub fn bits(&self, at: u32) -> &[u64] {
        let first = at as usize % BLOCK * self.words;
        &self.bits[at as usize / BLOCK][first..first + self.words]
    }

    /// A chain, and the predicates that hold for it.
    #[inline]
    pub fn with_bits(&mut self, at: u32) -> (&mut Chain, &mut [u64]) {
        let (block, at) = (at as usize / BLOCK, at as usize % BLOCK);
        let bits = &mut self.bits[block][at * self.words..][..self.words];
        (&mut self.blocks[block][at], bits)
    }

    /// Whether these spans still wait for the tick `number`: they may be gone, decided about, or
    /// moved to an earlier one.
    #[must_use]
    pub fn waits(&self, due: Due, number: u64) -> bool {
        let chain = self.get(due.chain);
        let is_same = chain.generation == due.generation && chain.course == Course::Waits;
        is_same && chain.due == number
    }

    /// A chain without spans yet.
    pub fn add(&mut self, due: u64, course: Course) -> u32 {
        let at = self.free.pop().unwrap_or_else(|| self.grow());
        let (chain, bits) = self.with_bits(at);
        bits.fill(0);
        *chain = Chain { due, course, generation: chain.generation, ..Chain::empty() };
        at
    }

    fn grow(&mut self) -> u32 {
        if self.blocks.last().is_none_or(|block| block.len() == BLOCK) {
            self.blocks.push(Vec::with_capacity(BLOCK));
            self.bits.push(vec![0; BLOCK * self.words].into());
        }
        let blocks = self.blocks.len() - 1;
        self.blocks[blocks].push(Chain::empty());
        let at = blocks * BLOCK + self.blocks[blocks].len() - 1;
        u32::try_from(at).expect("fewer chains than addresses")
    }

    /// Gives the record to the next chain.
    pub fn release(&mut self, at: u32) {
        let chain = self.get_mut(at);
        debug_assert!(chain.course != Course::Free, "released once");
        chain.course = Course::Free;
        chain.generation = chain.generation.wrapping_add(1);
        chain.tail = Address::NONE;
        self.free.push(at);
    }
}

impl Chain {
    const fn empty() -> Self {
        Self {
            tail: Address::NONE,
            spans: 0,
            due: 0,
            times: Times::NONE,
            size: 0,
            asked_at: Instant(0),
            envelopes_size: 0,
            trace: u32::MAX,
            generation: 0,
            course: Course::Free,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_used_again_for_another_chain() {
        let mut chains = Chains::new(2);
        let all: Vec<u32> = (0..3_000).map(|due| chains.add(due, Course::Waits)).collect();
        for at in &all {
            chains.with_bits(*at).1[1] = u64::from(*at);
        }
        for at in &all {
            assert_eq!(
                (chains.get(*at).due, chains.bits(*at)),
                (u64::from(*at), &[0, u64::from(*at)][..])
            );
        }
        chains.release(all[7]);
        let again = chains.add(9, Course::Leaves);
        assert_eq!((again, chains.get(again).generation), (all[7], 1));
        assert_eq!((chains.get(again).due, chains.bits(again)), (9, &[0, 0][..]));
    }
}
