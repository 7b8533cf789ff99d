//! The chains of a shard: the spans of a trace that lie in the buffer, and what was seen of them.
//!
//! A chain is there as long as its spans are: until its trace is decided and what is kept of it has
//! left. What is remembered of the trace for longer stands in [`super::traces`], which is smaller.
//! Records lie in blocks that never move, and the one given back last is used again first. One
//! takes what memory answers with at once: with hundreds of thousands of them, it is the looks at
//! memory that cost.

use std::slice;

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
    /// When they began and ended so far.
    pub times: Times,
    /// Their size as the collector counts it; 0 if nobody asks.
    pub size: u64,
    /// When the policies were asked last, with span-ingest; else 0.
    pub asked_at: Instant,
    /// Bytes around their ResourceSpans: tags and lengths.
    pub envelopes_size: u32,
    /// Counts the chains that had this record, so that old references are known as such.
    pub generation: u32,
    /// See [`Self::due`].
    due: u32,
    /// Their trace while they wait, else one of the two below.
    trace: u32,
}

/// In the place of a trace: they leave.
const LEAVES: u32 = u32::MAX - 1;
/// In the place of a trace: no spans have this record.
const FREE: u32 = u32::MAX;

/// A chain, and the first 64 predicates.
#[derive(Debug)]
#[repr(align(64))]
struct Record {
    chain: Chain,
    bits: u64,
}

const _: () = assert!(size_of::<Record>() == 64, "one look at memory");

/// All chains of a shard.
#[derive(Debug)]
pub struct Chains {
    blocks: Vec<Vec<Record>>,
    /// Predicates that hold, where the word in the record is not enough.
    bits: Vec<Box<[u64]>>,
    /// Words of them per record; 0 where the one is enough.
    words: usize,
    free: Vec<u32>,
}

impl Chains {
    /// For traces with `words` words of predicates.
    #[must_use]
    pub const fn new(words: usize) -> Self {
        let words = if words > 1 { words } else { 0 };
        Self { blocks: Vec::new(), bits: Vec::new(), words, free: Vec::new() }
    }

    /// Bytes allocated.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        let record = size_of::<Record>() + self.words * size_of::<u64>();
        (self.blocks.len() * BLOCK * record + self.free.capacity() * size_of::<u32>()) as u64
    }

    /// A chain.
    #[must_use]
    #[inline]
    pub fn get(&self, at: u32) -> &Chain {
        &self.blocks[at as usize / BLOCK][at as usize % BLOCK].chain
    }

    /// Something of each part of a record.
    #[must_use]
    #[inline]
    pub fn look_at(&self, at: u32) -> u64 {
        self.bits(at).first().map_or(0, |bits| *bits) ^ u64::from(self.get(at).generation)
    }

    /// A chain, to change it.
    #[inline]
    pub fn get_mut(&mut self, at: u32) -> &mut Chain {
        &mut self.blocks[at as usize / BLOCK][at as usize % BLOCK].chain
    }

    /// Predicates that hold for it.
    #[must_use]
    #[inline]
    pub fn bits(&self, at: u32) -> &[u64] {
        let (block, at) = (at as usize / BLOCK, at as usize % BLOCK);
        match self.words {
            0 => slice::from_ref(&self.blocks[block][at].bits),
            words => &self.bits[block][at * words..][..words],
        }
    }

    /// A chain, and the predicates that hold for it.
    #[inline]
    pub fn with_bits(&mut self, at: u32) -> (&mut Chain, &mut [u64]) {
        let (block, at) = (at as usize / BLOCK, at as usize % BLOCK);
        let Record { chain, bits } = &mut self.blocks[block][at];
        let bits = match self.words {
            0 => slice::from_mut(bits),
            words => &mut self.bits[block][at * words..][..words],
        };
        (chain, bits)
    }

    /// Whether these spans still wait for the tick `number`: they may be gone, decided about, or
    /// moved to an earlier one.
    #[must_use]
    pub fn waits(&self, due: Due, number: u64) -> bool {
        let chain = self.get(due.chain);
        let is_same = chain.generation == due.generation && chain.course() == Course::Waits;
        is_same && chain.due() == number
    }

    /// A chain without spans yet, which leave if they do not [wait](Chain::wait).
    pub fn add(&mut self, due: u64) -> u32 {
        let at = self.free.pop().unwrap_or_else(|| self.grow());
        let (chain, bits) = self.with_bits(at);
        bits.fill(0);
        *chain = Chain { trace: LEAVES, generation: chain.generation, ..Chain::empty() };
        chain.hasten(due);
        at
    }

    fn grow(&mut self) -> u32 {
        if self.blocks.last().is_none_or(|block| block.len() == BLOCK) {
            self.blocks.push(Vec::with_capacity(BLOCK));
            self.bits.push(vec![0; BLOCK * self.words].into());
        }
        let blocks = self.blocks.len() - 1;
        self.blocks[blocks].push(Record { chain: Chain::empty(), bits: 0 });
        let at = blocks * BLOCK + self.blocks[blocks].len() - 1;
        u32::try_from(at).expect("fewer chains than addresses")
    }

    /// Gives the record to the next chain.
    pub fn release(&mut self, at: u32) {
        let chain = self.get_mut(at);
        debug_assert!(chain.course() != Course::Free, "released once");
        chain.trace = FREE;
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
            times: Times::NONE,
            size: 0,
            asked_at: Instant(0),
            envelopes_size: 0,
            generation: 0,
            due: u32::MAX,
            trace: FREE,
        }
    }

    /// Whether they wait or leave.
    #[must_use]
    #[inline]
    pub const fn course(&self) -> Course {
        match self.trace {
            FREE => Course::Free,
            LEAVES => Course::Leaves,
            _ => Course::Waits,
        }
    }

    /// Their trace, as long as they wait; then none that is in the map.
    #[must_use]
    #[inline]
    pub const fn trace(&self) -> u32 {
        self.trace
    }

    /// They wait for a decision about `trace`.
    pub fn wait(&mut self, trace: u32) {
        debug_assert!(trace < LEAVES, "fewer traces than addresses");
        self.trace = trace;
    }

    /// They have been decided about, and are kept.
    pub const fn leave(&mut self) {
        self.trace = LEAVES;
    }

    /// The tick at which their trace is due.
    #[must_use]
    #[inline]
    pub fn due(&self) -> u64 {
        u64::from(self.due)
    }

    /// Their trace is due at tick `due`. What is due beyond 136 years is never due.
    pub fn hasten(&mut self, due: u64) {
        self.due = u32::try_from(due).unwrap_or(u32::MAX);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_used_again_for_another_chain() {
        for words in [0, 1, 2] {
            let mut chains = Chains::new(words);
            let all: Vec<u32> = (0..3_000).map(|due| chains.add(due)).collect();
            let last = |chains: &Chains, at| chains.bits(at).last().copied();
            for at in &all {
                *chains.with_bits(*at).1.last_mut().unwrap() = u64::from(*at);
            }
            for at in &all {
                assert_eq!(chains.bits(*at).len(), words.max(1));
                let got = (chains.get(*at).due(), last(&chains, *at));
                assert_eq!(got, (u64::from(*at), Some(u64::from(*at))));
            }
            chains.release(all[7]);
            assert_eq!(chains.get(all[7]).course(), Course::Free);
            let again = chains.add(9);
            assert_eq!((again, chains.get(again).generation), (all[7], 1));
            assert_eq!((chains.get(again).due(), last(&chains, again)), (9, Some(0)));
        }
    }

    #[test]
    fn only_what_waits_for_a_tick_is_due_at_it() {
        let mut chains = Chains::new(1);
        let at = chains.add(7);
        assert_eq!(chains.get(at).course(), Course::Leaves);
        chains.get_mut(at).wait(5);
        let due = Due { chain: at, generation: chains.get(at).generation };
        assert!(chains.waits(due, 7) && !chains.waits(due, 6));
        chains.get_mut(at).hasten(6);
        assert!(chains.waits(due, 6) && !chains.waits(due, 7));
        chains.get_mut(at).leave();
        assert!(!chains.waits(due, 6));
        assert_eq!(chains.get(at).course(), Course::Leaves);
        chains.release(at);
        assert_eq!(chains.add(6), at);
        chains.get_mut(at).wait(5);
        assert!(!chains.waits(due, 6), "another generation");
    }
}
