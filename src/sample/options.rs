//! What a `tail_sampling` block asks for, checked and complete (tailsampling 1).

use std::time::Duration;

/// One `tail_sampling` processor.
#[derive(Clone, Debug, PartialEq)]
pub struct Options {
    /// `decision_wait`: from a trace's first span to its decision; acts in whole seconds, at
    /// least one (tailsampling 3.1).
    pub decision_wait: Duration,
    /// `decision_wait_after_root_received`; zero is off.
    pub decision_wait_after_root: Duration,
    /// `num_traces`: entries in the map of the process, decided ones included.
    pub num_traces: u64,
    /// `block_on_overflow`: new traces wait for room instead of pushing the oldest out.
    pub block_on_overflow: bool,
    /// `expected_new_traces_per_sec`: a hint for first capacities.
    pub expected_new_traces_per_sec: u64,
    /// `sample_on_first_match`.
    pub sample_on_first_match: bool,
    /// `sampling_strategy`.
    pub strategy: Strategy,
    /// `drop_pending_traces_on_shutdown`.
    pub drop_pending_on_shutdown: bool,
    /// `maximum_trace_size_bytes`; 0 is off.
    pub trace_bytes_max: u64,
    /// `decision_cache.sampled_cache_size` in entries of the process; 0 is off.
    pub sampled_cache: usize,
    /// `decision_cache.non_sampled_cache_size` in entries of the process; 0 is off.
    pub non_sampled_cache: usize,
    /// `num_shards`, at least 1.
    pub num_shards: u32,
    /// `policies`, in the order of the file.
    pub policies: Vec<Policy>,
    /// Feature gates of the processor.
    pub gates: Gates,
}

impl Default for Options {
    /// The collector's defaults, without policies.
    fn default() -> Self {
        Self {
            decision_wait: Duration::from_secs(30),
            decision_wait_after_root: Duration::ZERO,
            num_traces: 50_000,
            block_on_overflow: false,
            expected_new_traces_per_sec: 0,
            sample_on_first_match: false,
            strategy: Strategy::TraceComplete,
            drop_pending_on_shutdown: false,
            trace_bytes_max: 0,
            sampled_cache: 0,
            non_sampled_cache: 0,
            num_shards: 1,
            policies: Vec::new(),
            gates: Gates::default(),
        }
    }
}

/// Fewest entries of a table of which each shard can have its part.
const ENTRIES_MIN: u64 = 1000;

impl Options {
    /// Whether one shard should have all traces, because what becomes of one hangs on those before
    /// it: on what they left of a limit, or on when a small table pushes the oldest out. Unless the
    /// file asks for several shards, where the collector parts limits and tables too
    /// (tailsampling 3.9).
    #[must_use]
    pub fn wants_one_shard(&self) -> bool {
        let Self { num_traces, sampled_cache, non_sampled_cache, .. } = *self;
        let is_small = |cache: usize| cache > 0 && (cache as u64) < ENTRIES_MIN;
        self.num_shards == 1
            && (self.policies.iter().any(|policy| policy.rule.any(Rule::is_limit))
                || num_traces < ENTRIES_MIN
                || is_small(sampled_cache)
                || is_small(non_sampled_cache))
    }
}

/// When policies look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Strategy {
    /// Once, when the wait is over.
    TraceComplete,
    /// At every batch, each judged alone (tailsampling 3.5).
    SpanIngest,
}

/// `processor.tailsamplingprocessor.*` gates that change something.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Gates {
    /// `recordpolicy` (tailsampling 2.16).
    pub record_policy: bool,
    /// `usetracestate` (tailsampling 2.14).
    pub use_trace_state: bool,
    /// `metricstatcountspanssampled`.
    pub count_spans_sampled: bool,
    /// `metricstatcountbytessampled`.
    pub count_bytes_sampled: bool,
}

/// A policy: its name and its rule.
#[derive(Clone, Debug, PartialEq)]
pub struct Policy {
    /// `name`. Sub-policies may have an empty one.
    pub name: String,
    /// `type` and its block.
    pub rule: Rule,
}

/// A type of policy with its block (tailsampling 1.3, 2).
#[derive(Clone, Debug, PartialEq)]
pub enum Rule {
    /// `always_sample`.
    AlwaysSample,
    /// `latency`.
    Latency {
        /// `threshold_ms`, exclusive.
        threshold_ms: i64,
        /// `upper_threshold_ms`, inclusive; 0 is none.
        upper_threshold_ms: i64,
    },
    /// `numeric_attribute`.
    NumericAttribute {
        /// `key`.
        key: String,
        /// `min_value`, inclusive; unset is `i64::MIN`.
        min: i64,
        /// `max_value`, inclusive; unset is `i64::MAX`.
        max: i64,
        /// `invert_match`.
        invert: bool,
    },
    /// `probabilistic`.
    Probabilistic {
        /// `sampling_percentage`.
        percentage: f64,
        /// `hash_salt`; empty is the collector's default.
        salt: String,
    },
    /// `status_code`: UNSET, OK and ERROR, by their numbers 0, 1 and 2.
    StatusCode([bool; 3]),
    /// `string_attribute`.
    StringAttribute {
        /// `key`.
        key: String,
        /// `values`.
        values: Vec<String>,
        /// `enabled_regex_matching`.
        regex: bool,
        /// `invert_match`.
        invert: bool,
    },
    /// `rate_limiting`.
    RateLimiting {
        /// `spans_per_second`.
        per_second: i64,
        /// `burst_capacity`, with its default of twice the rate filled in.
        burst: i64,
    },
    /// `bytes_limiting`.
    BytesLimiting {
        /// `bytes_per_second`.
        per_second: i64,
        /// `burst_capacity`, with its default of twice the rate filled in.
        burst: i64,
    },
    /// `span_count`.
    SpanCount {
        /// `min_spans`, inclusive.
        min: i32,
        /// `max_spans`, inclusive; 0 is none.
        max: i32,
    },
    /// `boolean_attribute`.
    BooleanAttribute {
        /// `key`.
        key: String,
        /// `value`.
        value: bool,
        /// `invert_match`.
        invert: bool,
    },
    /// `trace_state`.
    TraceState {
        /// `key`.
        key: String,
        /// `values`.
        values: Vec<String>,
    },
    /// `trace_flags`.
    TraceFlags,
    /// `ottl_condition`.
    OttlCondition {
        /// `error_mode`; unset is silent.
        error_mode: ErrorMode,
        /// `span`: conditions, any of them.
        span: Vec<String>,
        /// `spanevent`: conditions, any of them.
        spanevent: Vec<String>,
    },
    /// `and`.
    And(Vec<Policy>),
    /// `not`.
    Not(Box<Policy>),
    /// `drop`.
    Drop(Vec<Policy>),
    /// `composite`.
    Composite {
        /// `max_total_spans_per_second`.
        spans_per_second_max: i64,
        /// `composite_sub_policy`, in order, each with its allocation: spans per second.
        subs: Vec<(Policy, i64)>,
    },
}

impl Rule {
    /// Whether `is_so` of it, or of a rule in it.
    pub fn any(&self, is_so: fn(&Self) -> bool) -> bool {
        let within = match self {
            Self::And(subs) | Self::Drop(subs) => subs.iter().any(|sub| sub.rule.any(is_so)),
            Self::Not(sub) => sub.rule.any(is_so),
            Self::Composite { subs, .. } => subs.iter().any(|(sub, _)| sub.rule.any(is_so)),
            Self::AlwaysSample
            | Self::Latency { .. }
            | Self::NumericAttribute { .. }
            | Self::Probabilistic { .. }
            | Self::StatusCode(_)
            | Self::StringAttribute { .. }
            | Self::RateLimiting { .. }
            | Self::BytesLimiting { .. }
            | Self::SpanCount { .. }
            | Self::BooleanAttribute { .. }
            | Self::TraceState { .. }
            | Self::TraceFlags
            | Self::OttlCondition { .. } => false,
        };
        within || is_so(self)
    }

    /// Whether it has a limit per second.
    const fn is_limit(&self) -> bool {
        matches!(
            self,
            Self::RateLimiting { .. } | Self::BytesLimiting { .. } | Self::Composite { .. }
        )
    }
}

/// What an OTTL condition that fails does to its policy (tailsampling 2.12).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorMode {
    /// The policy has no vote.
    Propagate,
    /// Logged; the next condition is tried.
    Ignore,
    /// The next condition is tried.
    Silent,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn traces_that_hang_on_each_other_are_in_one_shard_unless_several_are_asked_for() {
        let limit = Rule::RateLimiting { per_second: 9, burst: 18 };
        let policy = |rule| Policy { name: String::new(), rule };
        let with = |rule| Options { policies: vec![policy(rule)], ..Options::default() };
        let inner = policy(Rule::Not(Box::new(policy(limit.clone()))));
        for (case, options, want) in [
            ("no limit", with(Rule::AlwaysSample), false),
            ("a limit", with(limit.clone()), true),
            ("one within", with(Rule::And(vec![policy(Rule::AlwaysSample), inner])), true),
            ("several shards", Options { num_shards: 2, ..with(limit) }, false),
            ("few traces", Options { num_traces: 999, ..Options::default() }, true),
            ("a small cache", Options { sampled_cache: 9, ..Options::default() }, true),
            ("a large cache", Options { non_sampled_cache: 1000, ..Options::default() }, false),
        ] {
            assert_eq!(options.wants_one_shard(), want, "{case}");
        }
    }
}
