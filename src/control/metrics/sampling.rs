//! The tail samplers on the page: the collector's series, and ours.
//!
//! The collector's have no label for the pipeline: several samplers add up. A series exists from
//! its first event on, some from the first tick (tailsampling 4).

use std::collections::BTreeMap;

use crate::config::Plan;
use crate::config::plan::Sampling;
use crate::router::snapshot::Snapshot;
use crate::sample::options::Gates;
use crate::sample::stats::{AGE_BOUNDS, Outcome, Votes};
use crate::sampler::SamplerSnapshot;
use crate::telemetry::names::sampling as names;
use crate::telemetry::names::{DECISION_TIMER_BOUNDS_MS, PROCESSOR_INCOMING_ITEMS};
use crate::telemetry::{Histogram, Page, names as common};

/// The sum over all samplers.
#[derive(Debug)]
struct Sums<'a> {
    has_ticked: bool,
    gates: Gates,
    policies: BTreeMap<String, Policy>,
    all: Vec<&'a SamplerSnapshot>,
}

#[derive(Debug, Default)]
struct Policy {
    votes: Votes,
    micros: u64,
}

/// Adds every sampled pipeline.
pub(super) fn samplers(page: &mut Page, plan: &Plan, snapshots: &[Snapshot]) {
    let sampled = plan.pipelines.iter().filter_map(|p| Some((p, p.sampling.as_ref()?)));
    let mut sums = Sums {
        has_ticked: false,
        gates: Gates::default(),
        policies: BTreeMap::new(),
        all: Vec::new(),
    };
    for (at, (pipeline, sampling)) in sampled.enumerate() {
        let shards: Vec<&SamplerSnapshot> =
            snapshots.iter().filter_map(|core| core.samplers.get(at)).collect();
        let Some((first, others)) = shards.split_first() else { continue };
        let mut whole = (*first).clone();
        others.iter().for_each(|other| whole.add(other));
        own(page, &pipeline.id, &whole, &shards);
        incoming(page, sampling, &whole);
        sums.add(sampling, &whole);
        sums.all.extend(shards);
    }
    if !sums.all.is_empty() {
        sums.show(page);
    }
}

fn incoming(page: &mut Page, sampling: &Sampling, whole: &SamplerSnapshot) {
    if whole.stats.accepted > 0 {
        let labels = [("otel.signal", "traces"), ("processor", &*sampling.id)];
        page.counter(&PROCESSOR_INCOMING_ITEMS, &labels, whole.stats.accepted);
        page.counter(&common::PROCESSOR_OUTGOING_ITEMS, &labels, whole.stats.kept);
    }
}

/// `policy`, or `instance.policy` where the processor has a name of its own.
fn label(id: &str, policy: &str) -> String {
    match id.split_once('/') {
        Some((_, instance)) => format!("{instance}.{policy}"),
        None => policy.to_owned(),
    }
}

impl Sums<'_> {
    fn add(&mut self, sampling: &Sampling, whole: &SamplerSnapshot) {
        self.has_ticked |= whole.stats.ticks > 0;
        self.gates = sampling.options.gates;
        // The program has its drop policies first; names are unique.
        let is_drop = |p: &&crate::sample::options::Policy| {
            matches!(p.rule, crate::sample::options::Rule::Drop(_))
        };
        let policies = &sampling.options.policies;
        let drops = policies.iter().filter(is_drop);
        let order = drops.chain(policies.iter().filter(|p| !is_drop(p)));
        let executions: u64 = whole.stats.votes.iter().map(|v| v.executions).sum();
        for (policy, votes) in order.zip(&whole.stats.votes) {
            let sum = self.policies.entry(label(&sampling.id, &policy.name)).or_default();
            // A clock around each policy would cost more than most policies: the time of all is
            // shared out by executions.
            let nanos = u128::from(whole.decide_nanos) * u128::from(votes.executions);
            let micros = nanos / u128::from(executions.max(1)) / 1_000;
            sum.micros += u64::try_from(micros).unwrap_or(u64::MAX);
            for outcome in Outcome::ALL.map(|o| o as usize) {
                sum.votes.traces[outcome] += votes.traces[outcome];
                sum.votes.spans[outcome] += votes.spans[outcome];
                sum.votes.bytes[outcome] += votes.bytes[outcome];
            }
            sum.votes.executions += votes.executions;
        }
    }

    fn sum(&self, of: impl Fn(&SamplerSnapshot) -> u64) -> u64 {
        self.all.iter().map(|one| of(one)).sum()
    }

    fn show(&self, page: &mut Page) {
        let mut some = |metric, labels: &[(&str, &str)], value: u64| {
            if value > 0 {
                page.counter(metric, labels, value);
            }
        };
        some(&names::NEW_TRACE_ID_RECEIVED, &[], self.sum(|s| s.stats.new_traces));
        some(&names::TRACES_DROPPED_TOO_LARGE, &[], self.sum(|s| s.stats.too_large));
        some(&names::UNPARSEABLE_TRACESTATE, &[], self.sum(|s| s.stats.unparseable_states));
        for (at, sampled) in ["true", "false"].into_iter().enumerate() {
            let spans = self.sum(|s| s.stats.early_releases[at]);
            some(&names::EARLY_RELEASES, &[("sampled", sampled)], spans);
        }
        for outcome in Outcome::ALL {
            let traces = self.sum(|s| s.stats.decided[outcome as usize]);
            some(&names::GLOBAL_COUNT_TRACES_SAMPLED, &outcome_labels(outcome), traces);
        }
        self.ages(page);
        if !self.has_ticked {
            return;
        }
        let traces = self.sum(|s| s.stats.traces_at_tick) as f64;
        page.gauge(&names::TRACES_ON_MEMORY, &[], traces);
        let early = self.sum(|s| s.stats.dropped_too_early);
        page.counter(&names::TRACE_DROPPED_TOO_EARLY, &[], early);
        page.counter(&names::POLICY_EVALUATION_ERROR, &[], self.sum(|s| s.stats.errors));
        let timer = self.histogram(DECISION_TIMER_BOUNDS_MS, |s| &s.timer);
        page.recorded(&names::DECISION_TIMER_LATENCY, &[], &timer);
        for (name, policy) in &self.policies {
            self.policy(page, name, policy);
        }
    }

    fn ages(&self, page: &mut Page) {
        let removal = self.histogram(AGE_BOUNDS, |s| &s.stats.removal_age);
        let late = self.histogram(AGE_BOUNDS, |s| &s.stats.late_age);
        for (metric, ages) in [(&names::TRACE_REMOVAL_AGE, removal), (&names::LATE_SPAN_AGE, late)]
        {
            if ages.count() > 0 {
                page.recorded(metric, &[], &ages);
            }
        }
    }

    fn histogram(
        &self,
        bounds: &'static [u64],
        of: impl Fn(&SamplerSnapshot) -> &Histogram,
    ) -> Histogram {
        let mut whole = Histogram::new(bounds);
        self.all.iter().for_each(|one| whole.merge(of(one)));
        whole
    }

    fn policy(&self, page: &mut Page, name: &str, policy: &Policy) {
        let own = ("policy", name);
        page.counter(&names::POLICY_EXECUTION_COUNT, &[own], policy.votes.executions);
        page.counter(&names::POLICY_EXECUTION_TIME_SUM, &[own], policy.micros);
        for outcome in Outcome::ALL {
            let at = outcome as usize;
            if policy.votes.traces[at] == 0 {
                continue;
            }
            let [decision, sampled] = outcome_labels(outcome);
            let labels = [decision, own, sampled];
            page.counter(&names::COUNT_TRACES_SAMPLED, &labels, policy.votes.traces[at]);
            if self.gates.count_spans_sampled {
                page.counter(&names::COUNT_SPANS_SAMPLED, &labels, policy.votes.spans[at]);
            }
            if self.gates.count_bytes_sampled {
                page.counter(&names::COUNT_BYTES_SAMPLED, &labels, policy.votes.bytes[at]);
            }
        }
    }
}

const fn outcome_labels(outcome: Outcome) -> [(&'static str, &'static str); 2] {
    match outcome {
        Outcome::Sampled => [("decision", "sampled"), ("sampled", "true")],
        Outcome::NotSampled => [("decision", "not_sampled"), ("sampled", "false")],
        Outcome::Dropped => [("decision", "dropped"), ("sampled", "false")],
    }
}

fn own(page: &mut Page, pipeline: &str, whole: &SamplerSnapshot, shards: &[&SamplerSnapshot]) {
    let of = [("pipeline", pipeline)];
    let stats = &whole.stats;
    page.counter(&names::ACCEPTED_SPANS, &of, stats.accepted);
    page.counter(&names::KEPT_SPANS, &of, stats.kept);
    page.counter(&names::DROPPED_SPANS, &of, stats.dropped);
    page.counter(&names::DECIDED_EARLY, &of, stats.decided_early);
    let lost = stats.lost;
    for (reason, spans) in
        [("evicted", lost.evicted), ("too_large", lost.too_large), ("shutdown", lost.shutdown)]
    {
        page.counter(&names::LOST_SPANS, &[of[0], ("reason", reason)], spans);
    }
    let per_span = whole.bytes as f64 / whole.buffered.max(1) as f64;
    page.gauge(&names::BYTES_PER_SPAN, &of, if whole.buffered > 0 { per_span } else { 0.0 });
    for (core, shard) in shards.iter().enumerate() {
        let core = core.to_string();
        let labels = [("core", &*core), of[0]];
        page.gauge(&names::BUFFERED_SPANS, &labels, shard.buffered as f64);
        page.gauge(&names::BUFFERED_TRACES, &labels, shard.traces as f64);
        page.gauge(&names::BUFFER_BYTES, &labels, shard.bytes as f64);
        page.gauge(&names::OLDEST_TRACE, &labels, shard.oldest.as_secs_f64());
        page.gauge(&names::DECISION_LAG, &labels, shard.lag.as_secs_f64());
        page.gauge(&names::SLICE_MAX, &labels, shard.slice_max.as_secs_f64());
    }
}
