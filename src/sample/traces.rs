//! The traces of a shard: a record each, found by id, in the order of their arrival.
//!
//! Records lie in chunks that never move, so a growing table copies nothing and wastes nothing.
//! A record may outlive its place in the map: while what it keeps waits to leave.

use hashbrown::HashTable;

use super::buffer::Address;
use super::hash::Key;
use super::program::Times;
use crate::time::Instant;

const CHUNK: usize = 1024;
const NONE: u32 = u32::MAX;

/// How far a trace is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// No trace has this record.
    Free,
    /// Its spans are kept until it is due.
    Undecided,
    /// Its spans leave, or have left; late ones follow.
    Sampled,
    /// Late spans are discarded.
    NotSampled,
    /// By a drop policy: late spans are discarded.
    Dropped,
}

/// What is known of a trace.
#[derive(Clone, Debug)]
pub struct Trace {
    /// Its id.
    pub id: [u8; 16],
    /// When its first span came.
    pub arrived_at: Instant,
    /// When it was decided.
    pub decided_at: Instant,
    /// Its last span in the buffer.
    pub tail: Address,
    /// Spans received for it.
    pub spans: u32,
    /// The tick at which it is due.
    pub due: u64,
    /// When its spans began and ended so far.
    pub times: Times,
    /// Its size as the collector counts it; 0 if nobody asks.
    pub size: u64,
    /// Bytes around the ResourceSpans of it: their tags and lengths.
    pub envelopes_size: u32,
    /// How far it is.
    pub state: State,
    /// It is found by its id.
    pub in_map: bool,
    /// Counts the traces that had this record, so that old references are known as such.
    pub generation: u32,
    older: u32,
    newer: u32,
}

/// All records of a shard.
#[derive(Debug)]
pub struct Traces {
    chunks: Vec<Vec<Trace>>,
    /// Predicates that hold, `words` per record.
    bits: Vec<Box<[u64]>>,
    words: usize,
    free: Vec<u32>,
    map: HashTable<u32>,
    key: Key,
    oldest: u32,
    newest: u32,
}

impl Traces {
    /// For traces with `words` words of predicates. `expected` traces need no growth.
    #[must_use]
    pub fn new(words: usize, expected: usize, key: Key) -> Self {
        let map = HashTable::with_capacity(expected);
        let (chunks, bits, free) = (Vec::new(), Vec::new(), Vec::new());
        Self { chunks, bits, words, free, map, key, oldest: NONE, newest: NONE }
    }

    /// Traces that are found by their id.
    #[must_use]
    pub fn len(&self) -> usize {
        self.map.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.map.is_empty()
    }

    /// Bytes allocated for records and map.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        let record = size_of::<Trace>() + self.words * 8;
        (self.chunks.len() * CHUNK * record + self.map.capacity() * 5) as u64
    }

    /// The record of a trace.
    #[must_use]
    #[inline]
    pub fn find(&self, id: &[u8; 16]) -> Option<u32> {
        self.map.find(self.key.id(id), |slot| self.get(*slot).id == *id).copied()
    }

    /// A record.
    #[must_use]
    #[inline]
    pub fn get(&self, slot: u32) -> &Trace {
        &self.chunks[slot as usize / CHUNK][slot as usize % CHUNK]
    }

    /// A record, to change it.
    #[inline]
    pub fn get_mut(&mut self, slot: u32) -> &mut Trace {
        &mut self.chunks[slot as usize / CHUNK][slot as usize % CHUNK]
    }

    /// Predicates that hold for it.
    #[must_use]
    #[inline]
    pub fn bits(&self, slot: u32) -> &[u64] {
        let at = slot as usize % CHUNK * self.words;
        &self.bits[slot as usize / CHUNK][at..at + self.words]
    }

    /// Predicates that hold for it, and its record.
    #[inline]
    pub fn with_bits(&mut self, slot: u32) -> (&mut Trace, &mut [u64]) {
        let (chunk, at) = (slot as usize / CHUNK, slot as usize % CHUNK);
        let bits = &mut self.bits[chunk][at * self.words..][..self.words];
        (&mut self.chunks[chunk][at], bits)
    }

    /// A new record that is not found by its id.
    pub fn add(&mut self, id: [u8; 16], now: Instant, state: State) -> u32 {
        let slot = self.free.pop().unwrap_or_else(|| self.grow());
        let (trace, bits) = self.with_bits(slot);
        bits.fill(0);
        let generation = trace.generation;
        *trace = Trace { id, arrived_at: now, state, generation, ..Trace::empty() };
        slot
    }

    fn grow(&mut self) -> u32 {
        let last = self.chunks.last();
        if last.is_none_or(|chunk| chunk.len() == CHUNK) {
            self.chunks.push(Vec::with_capacity(CHUNK));
            self.bits.push(vec![0; CHUNK * self.words].into());
        }
        let chunks = self.chunks.len() - 1;
        self.chunks[chunks].push(Trace::empty());
        let slot = chunks * CHUNK + self.chunks[chunks].len() - 1;
        u32::try_from(slot).expect("fewer traces than addresses")
    }

    /// Makes the trace the newest and lets it be found.
    pub fn enter(&mut self, slot: u32) {
        let hash = self.key.id(&self.get(slot).id);
        let (chunks, key) = (&self.chunks, &self.key);
        let hash_of =
            |slot: &u32| key.id(&chunks[*slot as usize / CHUNK][*slot as usize % CHUNK].id);
        self.map.insert_unique(hash, slot, hash_of);
        let before = std::mem::replace(&mut self.newest, slot);
        match before {
            NONE => self.oldest = slot,
            before => self.get_mut(before).newer = slot,
        }
        let trace = self.get_mut(slot);
        (trace.older, trace.newer, trace.in_map) = (before, NONE, true);
    }

    /// Takes the trace out of the map and the line; its record stays until [`Self::release`].
    pub fn leave(&mut self, slot: u32) {
        let (hash, older, newer) = {
            let trace = self.get_mut(slot);
            debug_assert!(trace.in_map, "it is there once");
            trace.in_map = false;
            (trace.id, trace.older, trace.newer)
        };
        let hash = self.key.id(&hash);
        if let Ok(entry) = self.map.find_entry(hash, |other| *other == slot) {
            entry.remove();
        }
        match older {
            NONE => self.oldest = newer,
            older => self.get_mut(older).newer = newer,
        }
        match newer {
            NONE => self.newest = older,
            newer => self.get_mut(newer).older = older,
        }
    }

    /// Gives the record to the next trace.
    pub fn release(&mut self, slot: u32) {
        let trace = self.get_mut(slot);
        debug_assert!(!trace.in_map && trace.state != State::Free, "released once");
        trace.state = State::Free;
        trace.generation = trace.generation.wrapping_add(1);
        trace.tail = Address::NONE;
        self.free.push(slot);
    }

    /// The trace in the map that came first.
    #[must_use]
    pub fn oldest(&self) -> Option<u32> {
        (self.oldest != NONE).then_some(self.oldest)
    }

    /// The one that came after `slot`.
    #[must_use]
    pub fn after(&self, slot: u32) -> Option<u32> {
        Some(self.get(slot).newer).filter(|next| *next != NONE)
    }
}

impl Trace {
    fn empty() -> Self {
        Self {
            id: [0; 16],
            arrived_at: Instant(0),
            decided_at: Instant(0),
            tail: Address::NONE,
            spans: 0,
            due: 0,
            times: Times::default(),
            size: 0,
            envelopes_size: 0,
            state: State::Free,
            in_map: false,
            generation: 0,
            older: NONE,
            newer: NONE,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn traces_are_found_by_id_and_stand_in_the_order_of_arrival() {
        let mut traces = Traces::new(2, 0, Key::new(7));
        let id = |n: u32| std::array::from_fn(|i| if i < 4 { n.to_le_bytes()[i] } else { 0 });
        let slots: Vec<u32> = (0..3_000)
            .map(|n| {
                let slot = traces.add(id(n), Instant(u64::from(n)), State::Undecided);
                traces.enter(slot);
                traces.with_bits(slot).1[1] = u64::from(n);
                slot
            })
            .collect();
        for n in (0..3_000).step_by(2) {
            traces.leave(slots[n as usize]);
            traces.release(slots[n as usize]);
        }
        assert_eq!(traces.len(), 1_500);
        let mut line = Vec::new();
        let mut next = traces.oldest();
        while let Some(slot) = next {
            line.push(traces.get(slot).arrived_at.0);
            next = traces.after(slot);
        }
        assert_eq!(line, (1..3_000).step_by(2).collect::<Vec<_>>());
        for n in 0..3_000u32 {
            let found = traces.find(&id(n));
            assert_eq!(found, (n % 2 == 1).then_some(slots[n as usize]), "{n}");
            if let Some(slot) = found {
                assert_eq!(traces.bits(slot), [0, u64::from(n)]);
            }
        }
        let again = traces.add(id(9_999), Instant(0), State::Undecided);
        assert_eq!((traces.get(again).generation, traces.bits(again)), (1, &[0, 0][..]));
    }
}
