//! The store behind the samplers, as far as the proof needs one: which spans of which trace came
//! from which sampler. Of a trace it keeps a count and a sum; the [`Book`](super::book::Book)
//! takes them out when the trace's round is over.

use std::collections::HashMap;

use super::span;
use crate::otlp::{Index, Item, Signal, scan};

/// Traces that may wait to be taken out: more than any machine brings in the time that a round
/// stays open.
const TRACES_MAX: usize = 4 << 20;

/// What has come of one trace.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Arrival {
    pub spans: u64,
    /// Sum of [`span::digest`] over them.
    pub digest: u64,
    /// Samplers that sent them: a bit for each.
    pub homes: u8,
}

/// What has come, and is not taken out.
#[derive(Debug)]
pub(super) struct Store {
    arrivals: HashMap<[u8; 16], Arrival>,
    index: Index,
    /// Spans by the sampler that sent them.
    pub spans: Vec<u64>,
    /// Requests or spans that cannot be read.
    pub unreadable: u64,
    /// Spans of more traces than can be remembered.
    pub forgotten: u64,
}

impl Store {
    /// For so many samplers.
    pub(super) fn new(samplers: usize) -> Self {
        Self {
            arrivals: HashMap::new(),
            index: Index::new(),
            spans: vec![0; samplers],
            unreadable: 0,
            forgotten: 0,
        }
    }

    /// A request came from the sampler of this number.
    pub(super) fn request(&mut self, home: u8, body: &[u8]) {
        let mut index = std::mem::take(&mut self.index);
        if scan(Signal::Traces, body, &mut index).is_err() {
            self.unreadable += 1;
        }
        for item in index.items() {
            if self.span(home, body, item).is_none() {
                self.unreadable += 1;
            }
        }
        self.spans[usize::from(home)] += index.count();
        self.index = index;
    }

    fn span(&mut self, home: u8, body: &[u8], item: &Item) -> Option<()> {
        let trace = item.trace_id(body)?;
        let id = span::eight(body, span::places(body, item)?.id)?;
        if self.arrivals.len() >= TRACES_MAX && !self.arrivals.contains_key(trace) {
            self.forgotten += 1;
            return Some(());
        }
        let arrival = self.arrivals.entry(*trace).or_default();
        arrival.spans += 1;
        arrival.digest = arrival.digest.wrapping_add(span::digest(trace, id));
        arrival.homes |= 1 << home;
        Some(())
    }

    /// Takes a trace out; nothing if no span of it has come.
    pub(super) fn take(&mut self, trace: &[u8; 16]) -> Arrival {
        self.arrivals.remove(trace).unwrap_or_default()
    }

    /// Spans that nobody has taken out.
    pub(super) fn left(&self) -> u64 {
        self.arrivals.values().map(|a| a.spans).sum()
    }
}
