//! The spans of a request, by ResourceSpans and in each trace by trace: a line of places for each.

use std::ops::Range;

use hashbrown::HashTable;
use hashbrown::hash_table::Entry;

use crate::otlp::keep;

const NONE: u32 = u32::MAX;
/// A table larger than this is not kept: clearing it would cost every small request.
const TABLE_MAX: usize = 4096;

/// Lines, and the scratch to make them.
#[derive(Debug, Default)]
pub(super) struct Lines {
    lines: Vec<Line>,
    places: Vec<Place>,
    /// The first line of each ResourceSpans.
    firsts: Vec<usize>,
    /// The last line of each trace.
    table: HashTable<u32>,
    /// The line of the last span, if that is of the last ResourceSpans.
    last: Option<u32>,
}

/// The spans of one trace in one ResourceSpans.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Line {
    pub(super) id: [u8; 16],
    /// Of its id.
    pub(super) hash: u64,
    /// How many.
    pub(super) spans: u32,
    first: u32,
    last: u32,
}

/// Where a span stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    /// Its position in the index of the request.
    pub(super) item: u32,
    /// The position of its ScopeSpans in the request.
    pub(super) scope: u32,
    next: u32,
}

impl Lines {
    /// Forgets the request.
    pub(super) fn clear(&mut self) {
        keep(&mut self.lines);
        keep(&mut self.places);
        keep(&mut self.firsts);
        if self.table.capacity() > TABLE_MAX {
            self.table = HashTable::new();
        } else {
            self.table.clear();
        }
    }

    /// What is added from now on is in the next ResourceSpans.
    pub(super) fn begin_resource(&mut self) {
        self.firsts.push(self.lines.len());
        self.last = None;
    }

    /// How many ResourceSpans were begun.
    pub(super) fn resources(&self) -> usize {
        self.firsts.len()
    }

    /// Adds the next span. `again`: it has the id of the one before, which was added too.
    #[inline]
    pub(super) fn add(&mut self, id: &[u8; 16], hash: u64, again: bool, (item, scope): (u32, u32)) {
        let at = position(self.places.len());
        self.places.push(Place { item, scope, next: NONE });
        let line = match self.last {
            Some(last) if again => last,
            _ => self.line(id, hash),
        };
        self.last = Some(line);
        let line = &mut self.lines[line as usize];
        match line.last {
            NONE => line.first = at,
            last => self.places[last as usize].next = at,
        }
        line.last = at;
        line.spans += 1;
    }

    /// The line of a trace in the last ResourceSpans.
    fn line(&mut self, id: &[u8; 16], hash: u64) -> u32 {
        let Self { lines, table, firsts, .. } = self;
        let line = position(lines.len());
        let first = firsts.last().copied().unwrap_or(0);
        let is = |line: &u32| lines[*line as usize].id == *id;
        match table.entry(hash, is, |line| lines[*line as usize].hash) {
            Entry::Occupied(last) if *last.get() as usize >= first => return *last.get(),
            // A trace has one entry, so one in each of thousands of ResourceSpans is found at once.
            Entry::Occupied(mut last) => *last.get_mut() = line,
            Entry::Vacant(place) => drop(place.insert(line)),
        }
        lines.push(Line { id: *id, hash, spans: 0, first: NONE, last: NONE });
        line
    }

    /// Whether they say the same.
    pub(super) fn are(&self, other: &Self) -> bool {
        self.lines == other.lines && self.places == other.places && self.firsts == other.firsts
    }

    /// The lines of ResourceSpans number `at`.
    pub(super) fn of_resource(&self, at: usize) -> Range<usize> {
        self.firsts[at]..self.firsts.get(at + 1).copied().unwrap_or(self.lines.len())
    }

    /// All lines.
    pub(super) fn all(&self) -> &[Line] {
        &self.lines
    }

    /// A line.
    pub(super) fn get(&self, line: usize) -> &Line {
        &self.lines[line]
    }

    /// The first place of a line; each has one.
    pub(super) fn first(&self, line: usize) -> Option<u32> {
        Some(self.lines[line].first).filter(|at| *at != NONE)
    }

    /// The place after `at` in its line.
    pub(super) fn after(&self, at: u32) -> Option<u32> {
        Some(self.places[at as usize].next).filter(|next| *next != NONE)
    }

    /// A place.
    pub(super) fn place(&self, at: u32) -> Place {
        self.places[at as usize]
    }
}

fn position(len: usize) -> u32 {
    u32::try_from(len).expect("fewer than bytes of a request")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trace_has_one_place_in_the_table_however_many_resources_bring_it() {
        let mut lines = Lines::default();
        for resource in 0..50 {
            lines.begin_resource();
            for (at, n) in (0..).zip([1, 2, 1]) {
                lines.add(&[n; 16], u64::from(n) << 56, false, (3 * resource + at, resource));
            }
        }
        assert_eq!(lines.table.len(), 2);
        for at in 0..50 {
            let found: Vec<_> = lines
                .of_resource(at)
                .map(|at| (lines.get(at).id[0], lines.get(at).spans))
                .collect();
            assert_eq!(found, [(1, 2), (2, 1)]);
        }
    }
}
