//! Moves what is left of a segment to the head, so that a few long waits cannot pin memory.

use std::collections::BTreeSet;

use super::buffer::{Address, Buffer, Origin};
use super::traces::{State, Traces};

/// Moves every span of `segment` that a trace still needs; `count` hears of the runs it begins.
pub fn move_all(
    segment: usize,
    traces: &mut Traces,
    buffer: &mut Buffer,
    mut count: impl FnMut(Origin),
) {
    let owners: BTreeSet<u32> = buffer.owners(segment).collect();
    let mut span = Vec::new();
    for owner in owners {
        let trace = traces.get(owner);
        let leaves = trace.state == State::Sampled;
        let (due, mut at) = (trace.due, trace.tail);
        let mut after = Address::NONE;
        while at != Address::NONE {
            let before = buffer.before(at);
            if at.segment() == segment {
                let stored = buffer.get(at);
                let origin = stored.origin;
                span.clear();
                span.extend_from_slice(stored.field);
                let (moved, new_run) = buffer.append(&span, origin, before, owner, due);
                if new_run {
                    count(origin);
                }
                if leaves {
                    buffer.unpin(at);
                    buffer.pin(moved);
                }
                match after {
                    Address::NONE => traces.get_mut(owner).tail = moved,
                    after => buffer.relink(after, moved),
                }
                at = moved;
            }
            after = at;
            at = before;
        }
    }
    buffer.vacate(segment);
}
