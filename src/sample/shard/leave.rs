//! What a verdict does to a trace, and how what is kept leaves.

use super::decide::Verdict;
use super::{Address, Leaving, Marks, Moment, Shard, State};
use crate::sample::decided::Decision;
use crate::sample::fate::End;
use crate::sample::mark;
use crate::sample::stats::Outcome;
use crate::time::Instant;

/// When a trace is decided, as its set sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Timing {
    /// In the tick of its set.
    Due,
    /// Before, and its id stays in its set.
    InSet,
    /// Before, and it was taken out of its set.
    Hastened,
}

impl Timing {
    const fn is_in_set(self) -> bool {
        matches!(self, Self::InSet)
    }
}

impl Shard {
    /// Carries a verdict out.
    pub(super) fn carry_out(&mut self, now: Instant, slot: u32, verdict: Verdict, timing: Timing) {
        self.stats.decided[verdict.outcome as usize] += 1;
        self.census.decide();
        self.traces.get_mut(slot).decided_at = now;
        let policy = verdict.marks.policy;
        self.tell(slot, End::Decided(verdict.outcome), policy);
        match verdict.outcome {
            Outcome::Sampled => self.keep(now, slot, verdict.marks, timing),
            Outcome::NotSampled | Outcome::Dropped => {
                self.stats.dropped += self.spans_of(slot);
                self.forget_spans(slot, timing != Timing::Due || self.rules.early);
                let dropped = verdict.outcome == Outcome::Dropped;
                let state = if dropped { State::Dropped } else { State::NotSampled };
                self.traces.get_mut(slot).state = state;
                self.remember_not_sampled(now, slot, policy, timing.is_in_set());
            }
        }
    }

    fn keep(&mut self, now: Instant, slot: u32, marks: Marks, timing: Timing) {
        let trace = self.traces.get_mut(slot);
        trace.state = State::Sampled;
        let (id, mut at) = (trace.id, trace.tail);
        while at != Address::NONE {
            self.buffer.pin(at);
            at = self.buffer.before(at);
        }
        let policy = marks.policy;
        self.leaving.push_back(Leaving { slot, marks });
        self.sampled.put(&id, Decision { policy });
        if self.sampled.is_on() {
            self.remove(now, slot, timing.is_in_set());
        }
    }

    /// The trace is not kept: its cache knows, and then the map need not.
    pub(super) fn remember_not_sampled(
        &mut self,
        now: Instant,
        slot: u32,
        policy: Option<u16>,
        strays: bool,
    ) {
        let id = self.traces.get(slot).id;
        self.not_sampled.put(&id, Decision { policy });
        if self.not_sampled.is_on() {
            self.remove(now, slot, strays);
        }
    }

    /// With span-ingest: the batch of trace `slot` that was taken just now (tailsampling 3.5).
    pub(super) fn judge_batch(&mut self, moment: Moment, slot: u32) {
        self.traces.get_mut(slot).decided_at = moment.now;
        let Some(mut verdict) = self.judge_part(moment, slot) else { return };
        verdict.marks.last_only = true;
        self.carry_out(moment.now, slot, verdict, Timing::InSet);
    }

    /// Gathers the next trace that leaves; its spans. Its bytes are in [`Self::kept`].
    pub(super) fn gather_next(&mut self) -> Option<u64> {
        let Leaving { slot, marks } = self.leaving.pop_front()?;
        let trace = self.traces.get_mut(slot);
        let tail = std::mem::replace(&mut trace.tail, Address::NONE);
        let in_map = trace.in_map;
        let spans = self.gather.collect(tail, &mut self.buffer, &self.resources, &self.scopes);
        if !in_map {
            self.states.forget(slot);
            self.traces.release(slot);
        }
        self.mark(&marks);
        self.kept_by = marks.policy;
        self.in_hand = spans;
        Some(spans)
    }

    /// The spans that leave, as a request: repeated ResourceSpans, grouped and in the order in
    /// which they came (tailsampling 3.6).
    #[must_use]
    pub fn kept(&self) -> &[u8] {
        self.gather.bytes()
    }

    /// Position of the policy that kept what is in [`Self::kept`]. None for late spans of a trace
    /// whose decision is not in a cache.
    #[must_use]
    pub const fn kept_by(&self) -> Option<u16> {
        self.kept_by
    }

    /// What feature gates add.
    fn mark(&mut self, marks: &Marks) {
        let gates = self.rules.gates;
        let name = |at: u16| &*self.program.policies[at as usize].name;
        let threshold = marks.threshold.filter(|_| gates.use_trace_state);
        let mut attributes: Vec<(&str, mark::Attribute<'_>)> = Vec::new();
        if gates.record_policy {
            let policy = marks.policy.map(name).filter(|name| !name.is_empty());
            let composite = marks.composite.as_deref();
            attributes.extend(composite.map(|c| ("tailsampling.composite_policy", c.into())));
            attributes.extend(policy.map(|p| ("tailsampling.policy", p.into())));
            if marks.cached {
                attributes.push(("tailsampling.cached_decision", mark::Attribute::Bool(true)));
            }
        }
        if attributes.is_empty() && threshold.is_none() {
            return;
        }
        let last_only = marks.last_only;
        let unparseable = mark::mark(self.gather.bytes_mut(), &attributes, threshold, last_only);
        self.stats.unparseable_states += unparseable;
    }
}
