//! Reading ahead. The records of traces have left the caches of the CPU long before they are needed
//! again, and memory answers many questions in the time of one: so they are asked all at once, by
//! loops that do nothing else. What is read here is of no use, only that it was read.

use std::hint::black_box;

use super::ticks::SLICE;
use super::{Shard, State};
use crate::otlp::Index;
use crate::otlp::span::NO_TRACE_ID;
use crate::sample::wheel::Due;

impl Shard {
    /// Reads the records of the traces that are to be decided next.
    pub(super) fn look_ahead(&self, due: &[Due]) {
        let mut slots = [0; SLICE];
        for (slot, due) in slots.iter_mut().zip(due) {
            *slot = self.chains.get(due.chain).trace();
        }
        let traces = slots[..due.len()].iter().filter_map(|slot| self.traces.look_at(*slot));
        black_box(traces.fold(0, u64::wrapping_add));
    }

    /// Reads the records of the traces in a request: their places in the map, what is known of
    /// them, then of their spans.
    pub(super) fn look_ahead_in(
        &mut self,
        body: &[u8],
        index: &Index,
        mine: impl Fn(&[u8; 16]) -> bool,
    ) {
        let Self { traces, chains, ingest, .. } = self;
        let (hashes, ahead) = (&mut ingest.hashes, &mut ingest.ahead);
        hashes.clear();
        let mut last = &NO_TRACE_ID;
        for item in index.items() {
            let Some(id) = index.trace_id(item, body).filter(|id| *id != last) else { continue };
            last = id;
            if mine(id) {
                hashes.push(traces.hash(id));
            }
        }
        // Nothing is asked about what comes, so the CPU has nothing to guess.
        black_box(hashes.iter().fold(0, |sum, hash| sum ^ traces.touch(*hash)));
        ahead.clear();
        ahead.extend(hashes.iter().filter_map(|hash| traces.guess(*hash)));
        black_box(ahead.iter().filter_map(|slot| traces.look_at(*slot)).fold(0, u64::wrapping_add));
        ahead.retain_mut(|slot| match traces.get(*slot).state {
            State::Undecided { chain } => {
                *slot = chain;
                true
            }
            State::Decided { .. } => false,
        });
        black_box(ahead.iter().map(|chain| chains.look_at(*chain)).fold(0, u64::wrapping_add));
    }
}
