//! Decisions: at a tick for all traces that are due, or at once for a batch in span-ingest
//! (tailsampling 2.15, 3.5).

use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::trace::v1::ResourceSpans;

use super::policies::{Evaluator, Surroundings, Trace, mark};
use super::trace_state::{Threshold, TraceState};
use super::{Counts, Decision, Oracle, TraceId, Verdict};
use crate::sample::options::Strategy;

/// What policies said of a trace.
#[derive(Default)]
struct Votes {
    all: Vec<(String, Option<Decision>)>,
    /// The first policy that said yes.
    sampled: Option<String>,
    dropped: Option<String>,
    /// The least of those that said yes.
    threshold: Option<Threshold>,
    /// A drop policy said no, or failed not.
    undropped: bool,
}

impl Votes {
    /// Asks one policy; the answer, if it has one.
    fn ask(
        &mut self,
        policy: &mut Evaluator,
        trace: &mut Trace,
        around: &mut Surroundings<'_>,
        counts: &mut Counts,
    ) -> Option<Decision> {
        let vote = policy.vote(trace, around).ok();
        let decision = vote.map(|(decision, _)| decision);
        self.all.push((policy.name.clone(), decision));
        let own = counts.policies.entry(policy.name.clone()).or_default();
        own.executions += 1;
        let Some((decision, threshold)) = vote else {
            counts.errors += 1;
            return None;
        };
        let weight = own.votes.entry(decision).or_default();
        weight.traces += 1;
        weight.spans += trace.spans;
        weight.bytes += trace.bytes;
        match decision {
            Decision::Sampled => {
                self.sampled.get_or_insert_with(|| policy.name.clone());
                self.threshold = Some(self.threshold.unwrap_or(threshold).min(threshold));
            }
            Decision::Dropped => self.dropped = Some(policy.name.clone()),
            Decision::NotSampled => self.undropped |= policy.is_drop(),
        }
        Some(decision)
    }
}

impl Oracle {
    /// Takes one set and decides what is in it.
    pub(super) fn tick(&mut self) {
        let set = self.sets.remove(&self.ticks).unwrap_or_default();
        self.ticks += 1;
        for policy in &self.policies {
            self.counts.policies.entry(policy.name.clone()).or_default();
        }
        let mut due: Vec<Trace> = Vec::new();
        for id in set.order.into_values() {
            match self.traces.get_mut(&id) {
                None => self.counts.dropped_too_early += 1,
                Some(entry) if entry.decision.is_some() => {}
                Some(_) if self.options.strategy == Strategy::SpanIngest => {
                    self.end(&id, Decision::NotSampled, Votes::default(), Vec::new());
                    self.forget(&id);
                }
                Some(entry) => {
                    let batches = std::mem::take(&mut entry.stored);
                    due.push(Trace { id, spans: entry.spans, bytes: entry.bytes, batches });
                }
            }
        }
        self.decide(due);
        self.counts.timer_runs += 1;
        self.counts.traces_on_memory = self.traces.len() as u64;
    }

    /// Drop policies look at all traces before others look at any.
    fn decide(&mut self, due: Vec<Trace>) {
        let mut policies = std::mem::take(&mut self.policies);
        let drops = policies.iter().take_while(|policy| policy.is_drop()).count();
        let (drops, others) = policies.split_at_mut(drops);
        let mut left: Vec<(Votes, Trace)> = Vec::new();
        for mut trace in due {
            let mut votes = Votes::default();
            self.ask_all(drops, &mut votes, &mut trace);
            if votes.dropped.is_some() {
                self.end(&trace.id, Decision::Dropped, votes, Vec::new());
            } else {
                left.push((votes, trace));
            }
        }
        if self.options.gates.use_trace_state {
            let mut traces: Vec<Trace> = left.iter().map(|(_, trace)| trace.clone()).collect();
            for policy in others.iter_mut() {
                policy.prepare(&mut traces, &mut self.surroundings().0);
            }
        }
        for (mut votes, mut trace) in left {
            self.ask_all(others, &mut votes, &mut trace);
            let kept = votes.sampled.is_some();
            if kept {
                self.annotate(&votes, &mut trace.batches);
            }
            let decision = if kept { Decision::Sampled } else { Decision::NotSampled };
            self.end(&trace.id, decision, votes, trace.batches);
        }
        self.policies = policies;
    }

    /// One policy after the other, until one of them ends it.
    fn ask_all(&mut self, policies: &mut [Evaluator], votes: &mut Votes, trace: &mut Trace) {
        let first_match = self.options.sample_on_first_match;
        if !policies.is_empty() {
            self.lag += self.deciding;
        }
        let (mut around, counts) = self.surroundings();
        for policy in policies {
            match votes.ask(policy, trace, &mut around, counts) {
                Some(Decision::Dropped) => return,
                Some(Decision::Sampled) if first_match => return,
                _ => {}
            }
        }
    }

    fn surroundings(&mut self) -> (Surroundings<'_>, &mut Counts) {
        let (now, gates) = (self.now + self.lag, self.options.gates);
        (Surroundings { now, gates, ottl: &mut self.ottl }, &mut self.counts)
    }

    /// Writes on what is kept why it is kept, as the gates ask.
    fn annotate(&mut self, votes: &Votes, batches: &mut [ResourceSpans]) {
        let gates = self.options.gates;
        if let (true, Some(policy)) = (gates.record_policy, &votes.sampled) {
            mark(batches, "tailsampling.policy", &Value::StringValue(policy.clone()));
        }
        if let (true, Some(threshold)) = (gates.use_trace_state, votes.threshold) {
            let scopes = batches.iter_mut().flat_map(|batch| &mut batch.scope_spans);
            for span in scopes.flat_map(|scope| &mut scope.spans) {
                let Some(state) = TraceState::parse(&span.trace_state) else {
                    self.counts.unparseable_trace_states += 1;
                    continue;
                };
                if let Some(written) = state.with_threshold(threshold) {
                    span.trace_state = written;
                }
            }
        }
    }

    /// The decision of a trace is final; what is kept leaves.
    fn end(&mut self, id: &TraceId, decision: Decision, votes: Votes, kept: Vec<ResourceSpans>) {
        let now = self.now;
        let Some(entry) = self.traces.get_mut(id) else { return };
        let policy = match decision {
            Decision::Sampled => votes.sampled,
            Decision::Dropped => votes.dropped,
            Decision::NotSampled => None,
        };
        entry.decision = Some(decision);
        entry.decided = Some(now);
        entry.policy = policy.clone().unwrap_or_default();
        *self.counts.decided.entry(decision).or_default() += 1;
        let spans = entry.spans;
        let (at, trace, votes) = (now, *id, votes.all);
        self.verdicts.push(Verdict { at, trace, decision, policy, too_large: false, votes, spans });
        if decision == Decision::Sampled {
            self.emit(*id, false, kept);
        }
        self.release(*id);
    }

    /// Span-ingest: a batch is judged alone; with its first yes all that was stored leaves with
    /// it (tailsampling 3.5).
    pub(super) fn judge_batch(&mut self, id: TraceId, part: ResourceSpans) {
        let now = self.now;
        let Some(entry) = self.traces.get_mut(&id) else { return };
        entry.decided = Some(now);
        let batches = vec![part];
        let mut trace = Trace { id, spans: entry.spans, bytes: entry.bytes, batches };
        let mut policies = std::mem::take(&mut self.policies);
        let mut votes = Votes::default();
        for policy in &policies {
            self.counts.policies.entry(policy.name.clone()).or_default();
        }
        let (mut around, counts) = self.surroundings();
        for policy in &mut policies {
            if votes.undropped && !policy.is_drop() {
                break;
            }
            let vote = votes.ask(policy, &mut trace, &mut around, counts);
            if matches!(vote, Some(Decision::Dropped | Decision::Sampled)) {
                break;
            }
        }
        self.policies = policies;
        self.counts.timer_runs += 1;
        if votes.dropped.is_some() {
            self.end(&id, Decision::Dropped, votes, Vec::new());
        } else if votes.sampled.is_some() {
            self.annotate(&votes, &mut trace.batches);
            let Some(entry) = self.traces.get_mut(&id) else { return };
            let mut all = std::mem::take(&mut entry.stored);
            all.append(&mut trace.batches);
            self.end(&id, Decision::Sampled, votes, all);
        } else if let Some(entry) = self.traces.get_mut(&id) {
            entry.stored.append(&mut trace.batches);
        }
    }
}
