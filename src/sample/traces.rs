//! The traces of a shard: a record each, found by id, in the order of their arrival.
//!
//! Records lie in chunks that never move, so a growing table copies nothing and wastes nothing.
//! There may be many more traces that are decided than such that wait: what is known of the spans
//! of a trace stands elsewhere ([`super::chains`]) and goes with them.

use super::hash::Key;
use super::slots::Slots;
use super::stats::Outcome;
use crate::time::Instant;

const CHUNK: usize = 1024;
const NONE: u32 = u32::MAX;

/// How far a trace is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Its spans are kept until it is due.
    Undecided {
        /// Where they are.
        chain: u32,
    },
    /// Late spans follow, or are discarded.
    Decided {
        /// Which of the two.
        outcome: Outcome,
        /// The tick at which it would have been due.
        due: u32,
        /// Whether its id is in the set of that tick.
        is_in_set: bool,
        /// When; 0 if no policy was asked.
        at: Instant,
    },
}

/// What is known of a trace.
#[derive(Clone, Debug)]
pub struct Trace {
    /// Its id.
    pub id: [u8; 16],
    /// When its first span came.
    pub arrived_at: Instant,
    /// How far it is.
    pub state: State,
    older: u32,
    newer: u32,
}

/// There are millions of them.
const _: () = assert!(size_of::<Trace>() == 48);

/// All records of a shard.
#[derive(Debug)]
pub struct Traces {
    chunks: Vec<Vec<Trace>>,
    free: Vec<u32>,
    map: Slots,
    key: Key,
    oldest: u32,
    newest: u32,
}

impl Traces {
    /// `expected` traces need no growth.
    #[must_use]
    pub fn new(expected: usize, key: Key) -> Self {
        let map = Slots::with_capacity(expected);
        Self { chunks: Vec::new(), free: Vec::new(), map, key, oldest: NONE, newest: NONE }
    }

    /// How many there are.
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
        (self.chunks.len() * CHUNK * size_of::<Trace>() + self.map.bytes()) as u64
    }

    /// The record of a trace.
    #[must_use]
    #[inline]
    pub fn find(&self, id: &[u8; 16]) -> Option<u32> {
        self.find_hashed(id, self.hash(id))
    }

    /// [`Self::find`], where the hash is known.
    #[must_use]
    #[inline]
    pub fn find_hashed(&self, id: &[u8; 16], hash: u64) -> Option<u32> {
        self.map.find(hash, |slot| self.get(slot).id == *id)
    }

    /// What traces are found by.
    #[must_use]
    #[inline]
    pub fn hash(&self, id: &[u8; 16]) -> u64 {
        self.key.id(id)
    }

    /// Something of what is looked at to find a trace.
    #[must_use]
    #[inline]
    pub fn touch(&self, hash: u64) -> u64 {
        self.map.touch(hash)
    }

    /// The record that a trace most likely has, without a look at it.
    #[must_use]
    #[inline]
    pub fn guess(&self, hash: u64) -> Option<u32> {
        self.map.find(hash, |_| true)
    }

    /// A record.
    #[must_use]
    #[inline]
    pub fn get(&self, slot: u32) -> &Trace {
        &self.chunks[slot as usize / CHUNK][slot as usize % CHUNK]
    }

    /// Something of a record, which may be nobody's.
    #[inline]
    pub fn look_at(&self, slot: u32) -> Option<u64> {
        let trace = self.chunks.get(slot as usize / CHUNK)?.get(slot as usize % CHUNK)?;
        Some(u64::from(trace.id[0]) ^ u64::from(matches!(trace.state, State::Decided { .. })))
    }

    #[inline]
    fn get_mut(&mut self, slot: u32) -> &mut Trace {
        &mut self.chunks[slot as usize / CHUNK][slot as usize % CHUNK]
    }

    /// A new trace with its hash, whose spans are `chain`.
    pub fn enter(&mut self, id: [u8; 16], hash: u64, now: Instant, chain: u32) -> u32 {
        let older = self.newest;
        let state = State::Undecided { chain };
        let trace = Trace { id, arrived_at: now, state, older, newer: NONE };
        let slot = self.put(trace);
        self.map.insert(hash, slot);
        self.newest = slot;
        match older {
            NONE => self.oldest = slot,
            older => self.get_mut(older).newer = slot,
        }
        slot
    }

    fn put(&mut self, trace: Trace) -> u32 {
        if let Some(slot) = self.free.pop() {
            *self.get_mut(slot) = trace;
            return slot;
        }
        if self.chunks.last().is_none_or(|chunk| chunk.len() == CHUNK) {
            self.chunks.push(Vec::with_capacity(CHUNK));
        }
        let chunks = self.chunks.len() - 1;
        self.chunks[chunks].push(trace);
        let slot = chunks * CHUNK + self.chunks[chunks].len() - 1;
        u32::try_from(slot).expect("fewer traces than addresses")
    }

    /// The trace is decided, `at` a time; its id is still in the set of tick `due` or not.
    pub fn decide(&mut self, slot: u32, outcome: Outcome, due: u64, is_in_set: bool, at: Instant) {
        // What is due beyond 136 years is never due.
        let due = u32::try_from(due).unwrap_or(u32::MAX);
        self.get_mut(slot).state = State::Decided { outcome, due, is_in_set, at };
    }

    /// The id of a decided trace moves to the set of tick `sooner`, unless it was due by then.
    pub fn hasten_id(&mut self, slot: u32, sooner: u64) {
        if let State::Decided { due, is_in_set, .. } = &mut self.get_mut(slot).state
            && sooner < u64::from(*due)
        {
            *due = u32::try_from(sooner).expect("less than one that fits");
            *is_in_set = true;
        }
    }

    /// Takes the trace out of the map and the line, and gives its record to the next.
    pub fn leave(&mut self, slot: u32) {
        let Trace { id, older, newer, .. } = *self.get(slot);
        let was_there = self.map.remove(self.hash(&id), slot);
        debug_assert!(was_there, "it is there once");
        match older {
            NONE => {
                self.oldest = newer;
                self.ask_for_oldest();
            }
            older => self.get_mut(older).newer = newer,
        }
        match newer {
            NONE => self.newest = older,
            newer => self.get_mut(newer).older = older,
        }
        self.free.push(slot);
    }

    /// Where the map is full, the oldest trace goes next: its place there is far from the others.
    fn ask_for_oldest(&self) {
        if let Some(oldest) = self.oldest() {
            self.map.ask_for(self.hash(&self.get(oldest).id));
        }
    }

    /// The trace that came first.
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

#[cfg(test)]
mod tests {
    use super::*;

    fn enter(traces: &mut Traces, id: [u8; 16], now: Instant, chain: u32) -> u32 {
        let hash = traces.hash(&id);
        traces.enter(id, hash, now, chain)
    }

    #[test]
    fn traces_are_found_by_id_and_stand_in_the_order_of_arrival() {
        let mut traces = Traces::new(0, Key::new(7));
        let id = |n: u32| std::array::from_fn(|i| if i < 4 { n.to_le_bytes()[i] } else { 0 });
        let slots: Vec<u32> =
            (0..3_000).map(|n| enter(&mut traces, id(n), Instant(u64::from(n)), n)).collect();
        for n in (0..3_000).step_by(2) {
            traces.leave(slots[n as usize]);
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
                assert_eq!(traces.get(slot).state, State::Undecided { chain: n });
            }
        }
        let again = enter(&mut traces, id(9_999), Instant(0), 0);
        assert_eq!(again, slots[2_998], "the record that was given back last");
    }
}
