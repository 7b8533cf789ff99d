//! The spans of a ResourceSpans, trace by trace: a line of places for each.

use hashbrown::HashTable;

use crate::otlp::span::NO_TRACE_ID;
use crate::otlp::{Index, Resource};
use crate::sample::hash::Key;

const NONE: u32 = u32::MAX;
/// A table larger than this is not kept: clearing it would cost every small request.
const TABLE_MAX: usize = 4096;

/// Lines, and the scratch to make them.
#[derive(Debug)]
pub(super) struct Lines {
    lines: Vec<Line>,
    places: Vec<Place>,
    /// Lines by trace id.
    table: HashTable<u32>,
    /// The ScopeSpans of the ResourceSpans.
    pub(super) scopes: Vec<ScopeAt>,
    key: Key,
    /// Numbers ScopeSpans over all requests.
    group: u32,
}

/// The spans of one trace.
#[derive(Clone, Copy, Debug)]
pub(super) struct Line {
    pub(super) id: [u8; 16],
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
    /// The position of its ScopeSpans in the ResourceSpans.
    pub(super) scope: u32,
    next: u32,
}

/// A ScopeSpans.
#[derive(Clone, Copy, Debug)]
pub(super) struct ScopeAt {
    /// Its position in the index of the request.
    pub(super) at: u32,
    /// Its number over all requests, never 0.
    pub(super) group: u32,
    /// Where its scope is kept, once a span needs it.
    pub(super) kept: Option<u32>,
}

impl Lines {
    /// None yet.
    pub(super) fn new(key: Key) -> Self {
        let (lines, places, scopes) = (Vec::new(), Vec::new(), Vec::new());
        Self { lines, places, table: HashTable::new(), scopes, key, group: 0 }
    }

    /// Cuts a ResourceSpans, whose first span is number `item` of the request, into lines of the
    /// traces that are `mine`. The number of the span after its last.
    pub(super) fn cut(
        &mut self,
        body: &[u8],
        index: &Index,
        resource: &Resource,
        mut item: u32,
        mine: impl Fn(&[u8; 16]) -> bool,
    ) -> u32 {
        self.clear();
        let mut last: Option<u32> = None;
        for (at, scope) in index.scopes_of(resource) {
            self.group = self.group.wrapping_add(1).max(1);
            let in_resource = position(self.scopes.len());
            self.scopes.push(ScopeAt { at, group: self.group, kept: None });
            for span in index.items_of(scope) {
                let id = index.trace_id(span, body).unwrap_or(&NO_TRACE_ID);
                let line = match last {
                    Some(line) if self.lines[line as usize].id == *id => Some(line),
                    _ if mine(id) => Some(self.line(id)),
                    _ => None,
                };
                if let Some(line) = line {
                    last = Some(line);
                    self.add(line, Place { item, scope: in_resource, next: NONE });
                }
                item += 1;
            }
        }
        item
    }

    fn clear(&mut self) {
        self.lines.clear();
        self.places.clear();
        self.scopes.clear();
        if self.table.capacity() > TABLE_MAX {
            self.table = HashTable::new();
        } else {
            self.table.clear();
        }
    }

    /// The line of a trace.
    fn line(&mut self, id: &[u8; 16]) -> u32 {
        let Self { lines, table, key, .. } = self;
        let hash = key.id(id);
        if let Some(line) = table.find(hash, |line| lines[*line as usize].id == *id) {
            return *line;
        }
        let line = position(lines.len());
        lines.push(Line { id: *id, spans: 0, first: NONE, last: NONE });
        table.insert_unique(hash, line, |line| key.id(&lines[*line as usize].id));
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

    /// How many lines there are.
    pub(super) fn len(&self) -> usize {
        self.lines.len()
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
