//! What the collector counts (tailsampling 4), and the samples of its metrics page.

use std::collections::BTreeMap;

use super::Decision;
use crate::sample::options::Gates;

/// Counters since the start, except where it says otherwise.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// `new_trace_id_received`: entries made, those made again included.
    pub new_traces: u64,
    /// `sampling_traces_on_memory`: entries after the last tick.
    pub traces_on_memory: u64,
    /// `sampling_trace_dropped_too_early`.
    pub dropped_too_early: u64,
    /// `traces_dropped_too_large`.
    pub too_large: u64,
    /// `sampling_policy_evaluation_error`.
    pub errors: u64,
    /// `early_releases_from_cache_decision` in spans: kept ones.
    pub early_sampled_spans: u64,
    /// The same: discarded ones.
    pub early_not_sampled_spans: u64,
    /// `count_spans_with_unparseable_tracestate`.
    pub unparseable_trace_states: u64,
    /// `global_count_traces_sampled` by decision.
    pub decided: BTreeMap<Decision, u64>,
    /// By policy of the top level.
    pub policies: BTreeMap<String, PolicyCounts>,
    /// `sampling_late_span_age`: each record, in seconds.
    pub late_span_ages: Vec<u64>,
    /// `sampling_trace_removal_age`: each record, in seconds.
    pub removal_ages: Vec<u64>,
    /// Ticks and, in span-ingest, judged batches: records of `sampling_decision_timer_latency`.
    pub timer_runs: u64,
}

/// What is counted of one policy.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PolicyCounts {
    /// `sampling_policy_execution_count`.
    pub executions: u64,
    /// `count_traces_sampled`, `count_spans_sampled` and `count_bytes_sampled` by vote.
    pub votes: BTreeMap<Decision, Weight>,
}

/// Traces, and what they weigh.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Weight {
    /// Traces.
    pub traces: u64,
    /// Their spans.
    pub spans: u64,
    /// Their bytes.
    pub bytes: u64,
}

impl Decision {
    /// Labels of a metric, sorted.
    const fn labels(self) -> [(&'static str, &'static str); 2] {
        match self {
            Self::Sampled => [("decision", "sampled"), ("sampled", "true")],
            Self::NotSampled => [("decision", "not_sampled"), ("sampled", "false")],
            Self::Dropped => [("decision", "dropped"), ("sampled", "false")],
        }
    }
}

const PREFIX: &str = "otelcol_processor_tail_sampling_";

impl Counts {
    /// Samples of counters and gauges as `name{labels}` → value, labels sorted. Those that a
    /// collector does not show before their first event are left out while they are 0.
    #[must_use]
    pub fn samples(&self, gates: Gates) -> BTreeMap<String, u64> {
        let mut page = BTreeMap::new();
        let mut add = |name: &str, labels: &[(&str, &str)], value: u64, from_start: bool| {
            if value == 0 && !from_start {
                return;
            }
            let labels: Vec<_> = labels.iter().map(|(k, v)| format!("{k}=\"{v}\"")).collect();
            let labels =
                if labels.is_empty() { String::new() } else { format!("{{{}}}", labels.join(",")) };
            page.insert(format!("{PREFIX}{name}{labels}"), value);
        };
        add("new_trace_id_received", &[], self.new_traces, false);
        add("sampling_traces_on_memory", &[], self.traces_on_memory, true);
        add("sampling_trace_dropped_too_early", &[], self.dropped_too_early, true);
        add("sampling_policy_evaluation_error", &[], self.errors, true);
        add("traces_dropped_too_large", &[], self.too_large, false);
        let unparseable = self.unparseable_trace_states;
        add("count_spans_with_unparseable_tracestate", &[], unparseable, false);
        let early = "early_releases_from_cache_decision";
        add(early, &[("sampled", "true")], self.early_sampled_spans, false);
        add(early, &[("sampled", "false")], self.early_not_sampled_spans, false);
        for (decision, traces) in &self.decided {
            add("global_count_traces_sampled", &decision.labels(), *traces, false);
        }
        for (policy, counts) in &self.policies {
            let own = [("policy", policy.as_str())];
            add("sampling_policy_execution_count", &own, counts.executions, true);
            for (decision, weight) in &counts.votes {
                let [which, sampled] = decision.labels();
                let labels = [which, own[0], sampled];
                add("count_traces_sampled", &labels, weight.traces, false);
                if gates.count_spans_sampled {
                    add("count_spans_sampled", &labels, weight.spans, false);
                }
                if gates.count_bytes_sampled {
                    add("count_bytes_sampled", &labels, weight.bytes, false);
                }
            }
        }
        page
    }
}
