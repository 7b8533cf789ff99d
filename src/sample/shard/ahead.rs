//! Reading ahead. The records of traces have left the caches of the CPU long before they are needed
//! again, and memory answers many questions in the time of one: so they are asked all at once, by
//! loops that do nothing else. What is read here is of no use, only that it was read.

use std::hint::black_box;

use super::ticks::SLICE;
use super::{Shard, State};
use crate::otlp::keep;
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

    /// Reads the records of the traces in the request that was cut into lines: their places in the
    /// map, what is known of them, then of their spans.
    pub(super) fn look_ahead_in(&mut self) {
        let Self { traces, chains, ingest, .. } = self;
        let (lines, ahead) = (ingest.lines.all(), &mut ingest.ahead);
        // Nothing is asked about what comes, so the CPU has nothing to guess.
        black_box(lines.iter().fold(0, |sum, line| sum ^ traces.touch(line.hash)));
        keep(ahead);
        ahead.extend(lines.iter().filter_map(|line| traces.guess(line.hash)));
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
