//! Finds the record of a trace by the hash of its id, with one look at memory for most.
//!
//! With millions of traces nothing of this is in the caches of the CPU, and a look at memory is
//! what it costs. A table of the usual kind takes two, one after the other, since it keeps a byte
//! of each hash here and the entries there. Here an entry is all in one place, and
//! [`Slots::touch`] asks for it without a question behind it, so that reading ahead has phases in
//! which the CPU has nothing to guess.
//!
//! It earns its place in the sampler at work, with two million traces and all its spans passing
//! through the caches: 473 ns per span against 497 ns with hashbrown's table, in interleaved runs.
//! In a loop that only looks traces up hashbrown's takes half as long (`benches/bytes.rs`).
//!
//! Open addressing, entry after entry, with room for eight where there are five at most: with room
//! for less the ways are longer, which costs what one look saves. Hashes are keyed, so nobody can
//! choose ids that stand in each other's way.

use crate::memory;

/// No entry. Entries have a slot, counted from 1.
const EMPTY: u64 = 0;
const ENTRIES_MIN: usize = 16;

/// Slots of records, by a hash of what they are records of.
#[derive(Debug)]
pub struct Slots {
    /// The upper half of the hash and the slot. The upper half of the hash, as a part of 2^32, says
    /// where an entry would like to be; no gap is between there and where it is.
    entries: Vec<u64>,
    len: usize,
}

impl Slots {
    /// So many need no growth.
    #[must_use]
    pub fn with_capacity(expected: usize) -> Self {
        let entries = (expected * 8).div_ceil(5).max(ENTRIES_MIN);
        Self { entries: vec![EMPTY; entries], len: 0 }
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Bytes allocated.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.entries.len() * size_of::<u64>()
    }

    /// Something of the place where a hash is to be found, so that it is near.
    #[must_use]
    #[inline]
    pub fn touch(&self, hash: u64) -> u64 {
        self.entries[self.home(hash)]
    }

    /// Asks for the place where a hash is to be found.
    #[inline]
    pub fn ask_for(&self, hash: u64) {
        memory::fetch(&self.entries[self.home(hash)]);
    }

    /// The slot with this hash that `is` the one.
    #[must_use]
    #[inline]
    pub fn find(&self, hash: u64, is: impl Fn(u32) -> bool) -> Option<u32> {
        self.place(hash, is).map(|at| slot(self.entries[at]))
    }

    /// One more, which is not there.
    pub fn insert(&mut self, hash: u64, slot: u32) {
        if (self.len + 1) * 8 > self.entries.len() * 5 {
            self.grow();
        }
        self.put((hash >> 32 << 32) | (u64::from(slot) + 1));
        self.len += 1;
    }

    /// Takes `slot` out, which was put in with this hash; false if it was not.
    pub fn remove(&mut self, hash: u64, slot: u32) -> bool {
        let Some(mut gap) = self.place(hash, |other| other == slot) else { return false };
        let mut at = self.next(gap);
        while self.entries[at] != EMPTY {
            // Who comes behind closes the gap, unless it would come before its place.
            let (far, gap_far) = (self.from(self.home(self.entries[at]), at), self.from(gap, at));
            if far >= gap_far {
                self.entries[gap] = self.entries[at];
                gap = at;
            }
            at = self.next(at);
        }
        self.entries[gap] = EMPTY;
        self.len -= 1;
        true
    }

    #[inline]
    fn place(&self, hash: u64, is: impl Fn(u32) -> bool) -> Option<usize> {
        let mut at = self.home(hash);
        loop {
            let entry = self.entries[at];
            if entry == EMPTY {
                return None;
            }
            if (entry ^ hash) >> 32 == 0 && is(slot(entry)) {
                return Some(at);
            }
            at = self.next(at);
        }
    }

    fn put(&mut self, entry: u64) {
        let mut at = self.home(entry);
        while self.entries[at] != EMPTY {
            at = self.next(at);
        }
        self.entries[at] = entry;
    }

    fn grow(&mut self) {
        let entries = self.entries.len();
        let larger = vec![EMPTY; entries + entries / 4];
        for entry in std::mem::replace(&mut self.entries, larger) {
            if entry != EMPTY {
                self.put(entry);
            }
        }
    }

    /// Where a hash, or an entry, would like to be.
    #[inline]
    fn home(&self, hash: u64) -> usize {
        let places = self.entries.len() as u64;
        usize::try_from(((hash >> 32) * places) >> 32).expect("below the number of places")
    }

    #[inline]
    fn next(&self, at: usize) -> usize {
        if at + 1 == self.entries.len() { 0 } else { at + 1 }
    }

    /// Steps from one place to another.
    fn from(&self, one: usize, other: usize) -> usize {
        if one <= other { other - one } else { other + self.entries.len() - one }
    }
}

/// The slot of an entry.
#[expect(clippy::cast_possible_truncation, reason = "the lower half is meant")]
#[inline]
const fn slot(entry: u64) -> u32 {
    (entry as u32) - 1
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;
    use crate::testing::random::Random;

    /// Hashes of one run: `spread` says how many different upper halves there are, `near` that they
    /// are neighbours.
    fn run(seed: u64, spread: u64, near: bool) {
        let mut random = Random::new(seed);
        let (mut slots, mut oracle) = (Slots::with_capacity(0), HashMap::new());
        let mut of = HashMap::new();
        for n in 0..3_000_u32 {
            let key = random.below(400);
            let upper = match near {
                // At the end, so that they go around it.
                true => u64::from(u32::MAX) - key % spread,
                false => (key % spread).wrapping_mul(0x9e37_79b9) & 0xffff_ffff,
            };
            let hash = upper << 32 | random.below(9);
            if let Some((slot, hash)) = oracle.remove(&key) {
                assert!(slots.remove(hash, slot));
                assert!(!slots.remove(hash, slot), "it is gone");
                of.remove(&slot);
            } else {
                slots.insert(hash, n);
                oracle.insert(key, (n, hash));
                of.insert(n, key);
            }
            assert_eq!((slots.len(), slots.is_empty()), (oracle.len(), oracle.is_empty()));
            let key = random.below(400);
            let (want, hash) = oracle.get(&key).map_or((None, hash), |(n, hash)| (Some(*n), *hash));
            assert_eq!(slots.find(hash, |slot| of.get(&slot) == Some(&key)), want);
        }
        for (slot, hash) in oracle.values() {
            assert_eq!(slots.find(*hash, |other| other == *slot), Some(*slot));
        }
        assert!(slots.entries.iter().filter(|entry| **entry != EMPTY).count() == slots.len());
    }

    #[test]
    fn what_was_put_in_is_found_until_it_is_taken_out() {
        for seed in 0..30 {
            for spread in [1, 3, 40, 400] {
                run(seed, spread, seed % 2 == 0);
            }
        }
    }

    #[test]
    fn it_grows_when_it_has_to_and_by_a_quarter() {
        let mut slots = Slots::with_capacity(1_000);
        (0..1_000_u32).for_each(|n| slots.insert(u64::from(n) << 52, n));
        assert_eq!(slots.bytes(), 8 * 1600);
        slots.insert(9 << 51, 1_000);
        assert_eq!(slots.bytes(), 8 * 2000);
    }
}
