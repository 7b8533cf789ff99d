//! A decision cache: the traces decided last, found by the last 8 bytes of their id, the least
//! recently used going first (tailsampling 3.7).

use hashbrown::HashTable;

const NONE: u32 = u32::MAX;

/// What is remembered of a decision.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Decision {
    /// Position of the policy that decided.
    pub policy: Option<u16>,
}

#[derive(Debug)]
struct Entry {
    half: u64,
    decision: Decision,
    older: u32,
    newer: u32,
}

/// One cache. Of size 0 it remembers nothing.
#[derive(Debug)]
pub struct Decided {
    size: usize,
    entries: Vec<Entry>,
    index: HashTable<u32>,
    oldest: u32,
    newest: u32,
}

impl Decided {
    /// For at most `size` traces.
    #[must_use]
    pub const fn new(size: usize) -> Self {
        Self { size, entries: Vec::new(), index: HashTable::new(), oldest: NONE, newest: NONE }
    }

    /// Whether it remembers anything at all.
    #[must_use]
    pub const fn is_on(&self) -> bool {
        self.size > 0
    }

    /// Entries in it.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether it has none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Whether it remembers the trace; that is no use of it.
    #[must_use]
    pub fn has(&self, id: &[u8; 16]) -> bool {
        !self.entries.is_empty() && self.find(half(id)).is_some()
    }

    /// The decision about a trace, which is then the most recently used.
    pub fn get(&mut self, id: &[u8; 16]) -> Option<Decision> {
        if self.entries.is_empty() {
            return None;
        }
        let at = self.find(half(id))?;
        self.unlink(at);
        self.link(at);
        Some(self.entries[at as usize].decision)
    }

    /// Remembers a decision, in place of the least recently used if there is no room.
    pub fn put(&mut self, id: &[u8; 16], decision: Decision) {
        if self.size == 0 {
            return;
        }
        let half = half(id);
        if let Some(at) = self.find(half) {
            self.entries[at as usize].decision = decision;
            self.unlink(at);
            return self.link(at);
        }
        let entry = Entry { half, decision, older: NONE, newer: NONE };
        let at = if self.entries.len() < self.size {
            self.entries.push(entry);
            u32::try_from(self.entries.len() - 1).expect("fewer entries than addresses")
        } else {
            let at = self.oldest;
            self.unlink(at);
            let old = std::mem::replace(&mut self.entries[at as usize], entry).half;
            if let Ok(known) = self.index.find_entry(mix(old), |other| *other == at) {
                known.remove();
            }
            at
        };
        let entries = &self.entries;
        self.index.insert_unique(mix(half), at, |at| mix(entries[*at as usize].half));
        self.link(at);
    }

    fn find(&self, half: u64) -> Option<u32> {
        self.index.find(mix(half), |at| self.entries[*at as usize].half == half).copied()
    }

    fn unlink(&mut self, at: u32) {
        let Entry { older, newer, .. } = self.entries[at as usize];
        match older {
            NONE => self.oldest = newer,
            older => self.entries[older as usize].newer = newer,
        }
        match newer {
            NONE => self.newest = older,
            newer => self.entries[newer as usize].older = older,
        }
    }

    fn link(&mut self, at: u32) {
        let before = std::mem::replace(&mut self.newest, at);
        match before {
            NONE => self.oldest = at,
            before => self.entries[before as usize].newer = at,
        }
        let entry = &mut self.entries[at as usize];
        (entry.older, entry.newer) = (before, NONE);
    }
}

fn half(id: &[u8; 16]) -> u64 {
    u64::from_be_bytes(*id[8..].first_chunk().expect("8 of 16 bytes"))
}

const fn mix(half: u64) -> u64 {
    let half = (half ^ half >> 32).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    half ^ half >> 29
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_least_recently_used_goes_first_and_a_look_is_a_use() {
        const NO: Decision = Decision { policy: None };
        let id = |n: u8| [n; 16];
        let mut cache = Decided::new(2);
        cache.put(&id(1), NO);
        cache.put(&id(2), NO);
        assert!(cache.get(&id(1)).is_some());
        cache.put(&id(3), NO);
        assert!(cache.get(&id(2)).is_none());
        assert!(cache.get(&id(1)).is_some() && cache.get(&id(3)).is_some());
        cache.put(&id(1), Decision { policy: Some(4) });
        cache.put(&id(5), NO);
        assert!(cache.get(&id(3)).is_none(), "a put is a use too");
        assert_eq!(cache.get(&id(1)).unwrap().policy, Some(4));
        let mut upper = id(1);
        upper[0] = 99;
        assert!(cache.get(&upper).is_some(), "only the last 8 bytes count");
        let mut off = Decided::new(0);
        off.put(&id(1), NO);
        assert!(off.get(&id(1)).is_none());
    }
}
