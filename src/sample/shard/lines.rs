//! The spans of a request, by ResourceSpans and in each trace by trace: a line of places for each.

use std::ops::Range;

use hashbrown::HashTable;
use hashbrown::hash_table::Entry;

use crate::otlp::span::NO_TRACE_ID;
use crate::otlp::{Index, keep};

const NONE: u32 = u32::MAX;
/// A table larger than this is not kept: clearing it would cost every small request.
const TABLE_MAX: usize = 4096;

/// Lines, and the scratch to make them.
#[derive(Debug)]
pub(super) struct Lines {
    lines: Vec<Line>,
    places: Vec<Place>,
    /// The first line of each ResourceSpans, and the first after the last.
    firsts: Vec<usize>,
    /// The last line of each trace.
    table: HashTable<u32>,
    /// The ScopeSpans of the request.
    pub(super) scopes: Vec<ScopeAt>,
    /// Numbers ScopeSpans over all requests.
    group: u32,
}

/// The spans of one trace in one ResourceSpans.
#[derive(Clone, Copy, Debug)]
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
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    /// Its position in the index of the request.
    pub(super) item: u32,
    /// The position of its ScopeSpans in the request.
    pub(super) scope: u32,
    next: u32,
}

/// A ScopeSpans.
#[derive(Clone, Copy, Debug)]
pub(super) struct ScopeAt {
    /// Its number over all requests, never 0.
    pub(super) group: u32,
    /// Where its scope is kept, once a span needs it.
    pub(super) kept: Option<u32>,
}

impl Lines {
    /// None yet.
    pub(super) const fn new() -> Self {
        Self {
            lines: Vec::new(),
            places: Vec::new(),
            firsts: Vec::new(),
            table: HashTable::new(),
            scopes: Vec::new(),
            group: 0,
        }
    }

    /// Cuts a request into lines of the traces that are `mine`; `hash` is that of an id.
    pub(super) fn cut(
        &mut self,
        body: &[u8],
        index: &Index,
        hash: impl Fn(&[u8; 16]) -> u64,
        mine: impl Fn(&[u8; 16]) -> bool,
    ) {
        self.clear();
        let mut items = (0..).zip(index.items());
        for resource in index.resources() {
            let first = self.lines.len();
            self.firsts.push(first);
            let mut last: Option<u32> = None;
            for (at, scope) in index.scopes_of(resource) {
                self.group = self.group.wrapping_add(1).max(1);
                debug_assert_eq!(at as usize, self.scopes.len(), "in the order of the index");
                self.scopes.push(ScopeAt { group: self.group, kept: None });
                for (item, span) in items.by_ref().take(index.items_of(scope).len()) {
                    let id = index.trace_id(span, body).unwrap_or(&NO_TRACE_ID);
                    let line = match last {
                        Some(line) if self.lines[line as usize].id == *id => Some(line),
                        _ if mine(id) => Some(self.line(first, id, hash(id))),
                        _ => None,
                    };
                    if let Some(line) = line {
                        last = Some(line);
                        self.add(line, Place { item, scope: at, next: NONE });
                    }
                }
            }
        }
        self.firsts.push(self.lines.len());
    }

    fn clear(&mut self) {
        keep(&mut self.lines);
        keep(&mut self.places);
        keep(&mut self.firsts);
        keep(&mut self.scopes);
        if self.table.capacity() > TABLE_MAX {
            self.table = HashTable::new();
        } else {
            self.table.clear();
        }
    }

    /// The line of a trace in the ResourceSpans whose lines begin at `first`.
    fn line(&mut self, first: usize, id: &[u8; 16], hash: u64) -> u32 {
        let Self { lines, table, .. } = self;
        let line = position(lines.len());
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

    fn add(&mut self, line: u32, place: Place) {
        let at = position(self.places.len());
        self.places.push(place);
        let line = &mut self.lines[line as usize];
        match line.last {
            NONE => line.first = at,
            last => self.places[last as usize].next = at,
        }
        line.last = at;
        line.spans += 1;
    }

    /// The lines of ResourceSpans number `at`.
    pub(super) fn of_resource(&self, at: usize) -> Range<usize> {
        self.firsts[at]..self.firsts[at + 1]
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
    use crate::otlp::write::field;
    use crate::otlp::{Signal, scan};

    #[test]
    fn a_trace_has_one_place_in_the_table_however_many_resources_bring_it() {
        let span = |n: u8| field(2, &[field(1, &[n; 16]), field(2, &[n; 8])].concat());
        let resource = field(1, &field(2, &[span(1), span(2), span(1)].concat()));
        let (body, mut index) = (resource.repeat(50), Index::default());
        scan(Signal::Traces, &body, &mut index).unwrap();
        let mut lines = Lines::new();
        lines.cut(&body, &index, |id| u64::from(id[0]) << 56, |_| true);
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
