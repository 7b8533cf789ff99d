//! Moves what is left of a segment, so that a few long waits cannot pin memory.

use std::collections::BTreeSet;

use super::buffer::{Address, Buffer, Head, Origin};
use super::chains::{Chains, Course};

/// Moves every span of `segment` that a chain still has, to those that arrive if it is due up to
/// tick `soon`; `count` hears of the runs it begins.
pub fn move_all(
    segment: usize,
    soon: u64,
    chains: &mut Chains,
    buffer: &mut Buffer,
    mut count: impl FnMut(Origin),
) {
    let owners: BTreeSet<u32> = buffer.owners(segment).collect();
    let mut span = Vec::new();
    for owner in owners {
        let chain = chains.get(owner);
        let leaves = chain.course() == Course::Leaves;
        let (due, mut at) = (chain.due(), chain.tail);
        let head = if leaves || due <= soon { Head::Arrivals } else { Head::Survivors };
        let mut after = Address::NONE;
        while at != Address::NONE {
            let before = buffer.before(at);
            if at.segment() == segment {
                let stored = buffer.get(at);
                let origin = stored.origin;
                span.clear();
                span.extend_from_slice(stored.field);
                let (moved, new_run) = buffer.append_to(head, &span, origin, before, owner, due);
                if new_run {
                    count(origin);
                }
                if leaves {
                    buffer.unpin(at);
                    buffer.pin(moved);
                }
                match after {
                    Address::NONE => chains.get_mut(owner).tail = moved,
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
