//! What a verdict does to a trace, and how what is kept leaves.

use super::decide::Verdict;
use super::{Address, Leaving, Marks, Moment, Shard};
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
    /// Carries a verdict out. Whether the trace is still in the map.
    pub(super) fn carry_out(
        &mut self,
        now: Instant,
        chain: u32,
        verdict: Verdict,
        timing: Timing,
    ) -> bool {
        let Verdict { outcome, marks } = verdict;
        self.stats.decided[outcome as usize] += 1;
        self.census.decide();
        self.tell(chain, End::Decided(outcome), marks.policy);
        let known = self.chains.get(chain);
        let (slot, due, spans) = (known.trace(), known.due(), known.spans);
        self.traces.decide(slot, outcome, due, true, now);
        if outcome == Outcome::Sampled {
            return self.keep(now, slot, chain, marks, timing);
        }
        self.stats.dropped += u64::from(spans);
        self.forget_spans(chain, timing != Timing::Due || self.rules.early);
        self.remember_not_sampled(now, slot, marks.policy, timing.is_in_set())
    }

    fn keep(&mut self, now: Instant, slot: u32, chain: u32, marks: Marks, timing: Timing) -> bool {
        let leaves = self.chains.get_mut(chain);
        leaves.leave();
        let mut at = leaves.tail;
        while at != Address::NONE {
            self.buffer.pin(at);
            at = self.buffer.before(at);
        }
        let decision = Decision { policy: marks.policy };
        self.leaving.push_back(Leaving { chain, marks });
        self.sampled.put(&self.traces.get(slot).id, decision);
        if self.sampled.is_on() {
            self.remove(now, slot, timing.is_in_set());
        }
        !self.sampled.is_on()
    }

    /// The trace is not kept: its cache knows, and then the map need not. Whether it still does.
    pub(super) fn remember_not_sampled(
        &mut self,
        now: Instant,
        slot: u32,
        policy: Option<u16>,
        strays: bool,
    ) -> bool {
        self.not_sampled.put(&self.traces.get(slot).id, Decision { policy });
        if self.not_sampled.is_on() {
            self.remove(now, slot, strays);
        }
        !self.not_sampled.is_on()
    }

    /// With span-ingest: the batch of a trace that was taken just now (tailsampling 3.5).
    pub(super) fn judge_batch(&mut self, moment: Moment, chain: u32) {
        self.chains.get_mut(chain).asked_at = moment.now;
        let Some(mut verdict) = self.judge_part(moment, chain) else { return };
        verdict.marks.last_only = true;
        self.carry_out(moment.now, chain, verdict, Timing::InSet);
    }

    /// Gathers the next trace that leaves; its spans. Its bytes are in [`Self::kept`].
    pub(super) fn gather_next(&mut self) -> Option<u64> {
        let Leaving { chain, marks } = self.leaving.pop_front()?;
        let tail = self.chains.get(chain).tail;
        let spans = self.gather.collect(tail, &mut self.buffer, &self.resources, &self.scopes);
        self.release(chain);
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
            attributes.extend(composite.map(|c| (mark::COMPOSITE, c.into())));
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
