//! Which traces are due at which tick. Ticks are a second apart; each takes one set
//! (tailsampling 3.1).

use std::collections::BTreeMap;
use std::time::Duration;

use crate::time::Instant;

/// Time between ticks.
pub const TICK: Duration = Duration::from_secs(1);

/// Fewest traces that are decided early at once.
const EARLY_MIN: usize = 256;

/// The tick of a trace that was taken out of its set.
pub const NO_SET: u64 = u64::MAX;

/// A trace in a set, by the record of its chain; another generation of that is another trace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Due {
    /// Its spans.
    pub chain: u32,
    /// The generation of the record that is meant.
    pub generation: u32,
}

#[derive(Debug, Default)]
struct Set {
    traces: Vec<Due>,
    /// Ids whose traces are gone; they stay in their set (tailsampling 3.4). An id is in a set
    /// once: if its trace comes back in time, it is that trace's. With the order in which they
    /// went.
    strays: BTreeMap<[u8; 16], usize>,
}

/// The sets that are not due yet.
#[derive(Debug)]
pub struct Wheel {
    /// By tick; a tick without traces has none.
    sets: BTreeMap<u64, Set>,
    /// Ticks so far.
    taken: u64,
    /// Ticks that a new trace waits beyond the next.
    wait: u64,
    next_at: Instant,
    /// Capacity of a first set.
    expected: usize,
    /// Ids of gone traces in all sets.
    strays: usize,
    /// Traces in all sets, some of which were hastened into another.
    traces: usize,
}

/// An id and its place in a tree.
const STRAY_BYTES: usize = 48;

impl Wheel {
    /// The first tick is a second after `now`.
    #[must_use]
    pub fn new(now: Instant, wait: Duration, expected: usize) -> Self {
        let wait = wait.as_secs().max(1);
        let (sets, next_at) = (BTreeMap::new(), now + TICK);
        Self { sets, taken: 0, wait, next_at, expected, strays: 0, traces: 0 }
    }

    /// When the next set is due.
    #[must_use]
    pub const fn next_at(&self) -> Instant {
        self.next_at
    }

    /// Ticks so far.
    #[must_use]
    pub const fn taken(&self) -> u64 {
        self.taken
    }

    /// The tick of a trace that arrives now.
    #[must_use]
    pub const fn due(&self) -> u64 {
        self.taken + self.wait
    }

    /// The tick of a trace whose root has arrived now.
    #[must_use]
    pub const fn due_after_root(&self, wait: Duration) -> u64 {
        self.taken + wait.as_secs()
    }

    /// Puts the trace `id` into the set of tick `due`.
    pub fn put(&mut self, due: u64, trace: Due, id: &[u8; 16]) {
        let expected = self.expected;
        let set = self.sets.entry(due).or_default();
        if set.traces.capacity() == 0 {
            set.traces.reserve(expected);
        }
        if !set.strays.is_empty() {
            self.strays -= usize::from(set.strays.remove(id).is_some());
        }
        set.traces.push(trace);
        self.traces += 1;
    }

    /// The set that the last new traces went into takes none any more: those of them that have
    /// been hastened into another leave it.
    pub fn thin(&mut self, stays: impl Fn(u64, Due) -> bool) {
        let due = self.due() - 1;
        let Some(set) = self.sets.get_mut(&due) else { return };
        let before = set.traces.len();
        set.traces.retain(|trace| stays(due, *trace));
        set.traces.shrink_to_fit();
        self.traces -= before - set.traces.len();
    }

    /// The trace is gone, its id stays in the set of tick `due`.
    pub fn leave_id(&mut self, due: u64, id: [u8; 16]) {
        if due >= self.taken && due != NO_SET {
            let strays = &mut self.set(due).strays;
            let order = strays.len();
            let is_new = strays.insert(id, order).is_none();
            self.strays += usize::from(is_new);
        }
    }

    fn set(&mut self, due: u64) -> &mut Set {
        debug_assert!(due >= self.taken, "a set that was taken takes no more");
        self.sets.entry(due).or_default()
    }

    /// A tick: its number, and the traces and ids that are due. A late tick takes one set, and the
    /// next is due at its own time.
    pub fn take(&mut self) -> (u64, Vec<Due>, Vec<[u8; 16]>) {
        let tick = self.taken;
        self.taken += 1;
        self.next_at = self.next_at + TICK;
        let set = self.sets.remove(&tick).unwrap_or_default();
        self.expected = set.traces.len();
        self.traces -= set.traces.len();
        (tick, set.traces, self.in_order(set.strays))
    }

    fn in_order(&mut self, strays: BTreeMap<[u8; 16], usize>) -> Vec<[u8; 16]> {
        self.strays -= strays.len();
        let mut all: Vec<_> = strays.into_iter().collect();
        all.sort_by_key(|(_, order)| *order);
        all.into_iter().map(|(id, _)| id).collect()
    }

    /// Bytes that the sets take.
    #[must_use]
    pub const fn bytes(&self) -> u64 {
        (self.strays * STRAY_BYTES + self.traces * size_of::<Due>()) as u64
    }

    /// The oldest traces of the next set, a part of it: they will not be due again.
    pub fn take_some_early(&mut self) -> Option<(u64, Vec<Due>)> {
        self.sets.retain(|_, set| !set.traces.is_empty() || !set.strays.is_empty());
        let (tick, set) = self.sets.iter_mut().find(|(_, set)| !set.traces.is_empty())?;
        let part = set.traces.len().min((set.traces.len() / 4).max(EARLY_MIN));
        self.traces -= part;
        Some((*tick, set.traces.drain(..part).collect()))
    }

    /// The next set, before its time: no tick comes any more.
    pub fn take_last(&mut self) -> Option<(u64, Vec<Due>, Vec<[u8; 16]>)> {
        let (tick, set) = self.sets.pop_first()?;
        self.taken = tick + 1;
        self.traces -= set.traces.len();
        Some((tick, set.traces, self.in_order(set.strays)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: Duration = Duration::from_secs(1);

    fn due(chain: u32) -> Due {
        Due { chain, generation: 0 }
    }

    #[test]
    fn a_trace_waits_whole_seconds_and_at_most_one_more() {
        for (wait, want) in
            [(2 * S, 3), (Duration::from_millis(2_900), 3), (S / 3, 2), (Duration::ZERO, 2)]
        {
            let mut wheel = Wheel::new(Instant(0), wait, 0);
            wheel.put(wheel.due(), due(9), &[0; 16]);
            let ticks = (1..).find(|_| !wheel.take().1.is_empty()).unwrap();
            assert_eq!(ticks, want, "{wait:?}: the tick after, and so many more");
        }
    }

    #[test]
    fn those_that_were_hastened_leave_the_set_that_takes_no_new_ones() {
        let mut wheel = Wheel::new(Instant(0), 3 * S, 0);
        (0..100).for_each(|chain| wheel.put(wheel.due(), due(chain), &[0; 16]));
        wheel.thin(|_, _| false);
        assert_eq!(wheel.bytes(), 800, "the set still takes new ones");
        wheel.take();
        wheel.thin(|number, trace| number == 3 && trace.chain % 10 == 0);
        assert_eq!(wheel.bytes(), 80);
        (0..2).for_each(|_| assert_eq!(wheel.take().1, []));
        let left: Vec<u32> = wheel.take().1.iter().map(|trace| trace.chain).collect();
        assert_eq!(left, (0..100).step_by(10).collect::<Vec<_>>(), "in their order");
        assert_eq!(wheel.bytes(), 0);
    }

    #[test]
    fn a_root_hastens_its_trace() {
        let mut wheel = Wheel::new(Instant(0), 30 * S, 0);
        wheel.take();
        assert_eq!(wheel.due_after_root(S / 2), wheel.taken(), "the next tick");
        assert_eq!(wheel.due_after_root(5 * S), wheel.taken() + 5);
        assert_eq!(wheel.next_at(), Instant(2_000_000_000));
    }
}
