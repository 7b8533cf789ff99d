//! The tail sampler's metrics (tailsampling 4), the collector's first.

use super::{Metric, PROCESSOR_SCOPE_SAMPLING as SCOPE, metric, own};
use crate::telemetry::page::Kind::{Counter, Gauge, Histogram};
use crate::telemetry::page::Unit::{Bytes, Microseconds, Milliseconds, None, Seconds};

/// No labels.
pub const NEW_TRACE_ID_RECEIVED: Metric = metric(
    Counter,
    "otelcol_processor_tail_sampling_new_trace_id_received",
    None,
    SCOPE,
    "Counts the arrival of new traces [Development]",
);
/// No labels.
pub const TRACES_ON_MEMORY: Metric = metric(
    Gauge,
    "otelcol_processor_tail_sampling_sampling_traces_on_memory",
    None,
    SCOPE,
    "Tracks the number of traces current on memory [Development]",
);
/// Labels sampled, decision.
pub const GLOBAL_COUNT_TRACES_SAMPLED: Metric = metric(
    Counter,
    "otelcol_processor_tail_sampling_global_count_traces_sampled",
    None,
    SCOPE,
    "Global count of traces that were sampled or not by at least one policy [Development]",
);
/// Labels policy, sampled, decision.
pub const COUNT_TRACES_SAMPLED: Metric = metric(
    Counter,
    "otelcol_processor_tail_sampling_count_traces_sampled",
    None,
    SCOPE,
    "Count of traces that were sampled or not per sampling policy [Development]",
);
/// Labels policy, sampled, decision; behind a gate.
pub const COUNT_SPANS_SAMPLED: Metric = metric(
    Counter,
    "otelcol_processor_tail_sampling_count_spans_sampled",
    None,
    SCOPE,
    "Count of spans that were sampled or not per sampling policy [Development]",
);
/// Labels policy, sampled, decision; behind a gate.
pub const COUNT_BYTES_SAMPLED: Metric = metric(
    Counter,
    "otelcol_processor_tail_sampling_count_bytes_sampled",
    Bytes,
    SCOPE,
    "Count of bytes that were sampled or not per sampling policy [Development]",
);
/// No labels.
pub const DECISION_TIMER_LATENCY: Metric = metric(
    Histogram,
    "otelcol_processor_tail_sampling_sampling_decision_timer_latency",
    Milliseconds,
    SCOPE,
    "Latency (in milliseconds) of each run of the sampling decision timer [Development]",
);
/// Label policy.
pub const POLICY_EXECUTION_COUNT: Metric = metric(
    Counter,
    "otelcol_processor_tail_sampling_sampling_policy_execution_count",
    None,
    SCOPE,
    "Total number of executions of a specific sampling policy [Development]",
);
/// Label policy.
pub const POLICY_EXECUTION_TIME_SUM: Metric = metric(
    Counter,
    "otelcol_processor_tail_sampling_sampling_policy_execution_time_sum",
    Microseconds,
    SCOPE,
    "Total time spent (in microseconds) executing a specific sampling policy [Development]",
);
/// No labels.
pub const POLICY_EVALUATION_ERROR: Metric = metric(
    Counter,
    "otelcol_processor_tail_sampling_sampling_policy_evaluation_error",
    None,
    SCOPE,
    "Count of sampling policy evaluation errors [Development]",
);
/// No labels.
pub const TRACE_DROPPED_TOO_EARLY: Metric = metric(
    Counter,
    "otelcol_processor_tail_sampling_sampling_trace_dropped_too_early",
    None,
    SCOPE,
    "Count of traces that needed to be dropped before the configured wait time [Development]",
);
/// No labels.
pub const TRACES_DROPPED_TOO_LARGE: Metric = metric(
    Counter,
    "otelcol_processor_tail_sampling_traces_dropped_too_large",
    None,
    SCOPE,
    "Count of traces that were dropped because they were too large [Development]",
);
/// No labels.
pub const TRACE_REMOVAL_AGE: Metric = metric(
    Histogram,
    "otelcol_processor_tail_sampling_sampling_trace_removal_age",
    Seconds,
    SCOPE,
    "Time (in seconds) from arrival of a new trace until its removal from memory [Development]",
);
/// No labels.
pub const LATE_SPAN_AGE: Metric = metric(
    Histogram,
    "otelcol_processor_tail_sampling_sampling_late_span_age",
    Seconds,
    SCOPE,
    "Time (in seconds) from the sampling decision was taken and the arrival of a late span \
     [Development]",
);
/// Label sampled.
pub const EARLY_RELEASES: Metric = metric(
    Counter,
    "otelcol_processor_tail_sampling_early_releases_from_cache_decision",
    None,
    SCOPE,
    "Number of spans that were able to be immediately released due to a decision cache hit. \
     [Development]",
);
/// No labels; behind a gate.
pub const UNPARSEABLE_TRACESTATE: Metric = metric(
    Counter,
    "otelcol_processor_tail_sampling_count_spans_with_unparseable_tracestate",
    None,
    SCOPE,
    "Count of spans skipped while rewriting the effective `th` because their tracestate could not \
     be parsed [Development]",
);

// Ours: label pipeline, where two pipelines with one processor would be one in the collector's.

/// Label pipeline.
pub const ACCEPTED_SPANS: Metric = own(
    Counter,
    "tracemill_sampler_accepted_spans",
    None,
    "Spans admitted. Equals kept + dropped + lost + buffered.",
);
/// Label pipeline.
pub const KEPT_SPANS: Metric =
    own(Counter, "tracemill_sampler_kept_spans", None, "Spans handed to the exporters.");
/// Label pipeline.
pub const DROPPED_SPANS: Metric =
    own(Counter, "tracemill_sampler_dropped_spans", None, "Spans of traces that are not kept.");
/// Labels pipeline, reason.
pub const LOST_SPANS: Metric = own(
    Counter,
    "tracemill_sampler_lost_spans",
    None,
    "Spans of traces that were given up before a decision.",
);
/// Labels pipeline, core.
pub const BUFFERED_SPANS: Metric =
    own(Gauge, "tracemill_sampler_buffered_spans", None, "Spans that wait in a shard.");
/// Labels pipeline, core.
pub const BUFFERED_TRACES: Metric = own(
    Gauge,
    "tracemill_sampler_traces",
    None,
    "Traces in the map of a shard, decided ones included.",
);
/// Labels pipeline, core.
pub const BUFFER_BYTES: Metric = own(
    Gauge,
    "tracemill_sampler_buffer_bytes",
    Bytes,
    "Memory of a shard: spans, their directory, records of traces.",
);
/// Label pipeline.
pub const BYTES_PER_SPAN: Metric =
    own(Gauge, "tracemill_sampler_bytes_per_span", None, "Memory of the shards per buffered span.");
/// Labels pipeline, core.
pub const OLDEST_TRACE: Metric = own(
    Gauge,
    "tracemill_sampler_oldest_trace_seconds",
    Seconds,
    "Age of the oldest trace in the map of a shard.",
);
/// Labels pipeline, core.
pub const DECISION_LAG: Metric = own(
    Gauge,
    "tracemill_sampler_decision_lag_seconds",
    Seconds,
    "How late the last tick of a shard began.",
);
/// Labels pipeline, core.
pub const SLICE_MAX: Metric = own(
    Gauge,
    "tracemill_sampler_slice_max_seconds",
    Seconds,
    "Most CPU time that decisions of a shard took without a break, since the start.",
);
/// Label pipeline.
pub const DECIDED_EARLY: Metric = own(
    Counter,
    "tracemill_sampler_decided_early_traces",
    None,
    "Traces decided before their time because memory was short.",
);

/// All of them.
pub const ALL: &[Metric] = &[
    NEW_TRACE_ID_RECEIVED,
    TRACES_ON_MEMORY,
    GLOBAL_COUNT_TRACES_SAMPLED,
    COUNT_TRACES_SAMPLED,
    COUNT_SPANS_SAMPLED,
    COUNT_BYTES_SAMPLED,
    DECISION_TIMER_LATENCY,
    POLICY_EXECUTION_COUNT,
    POLICY_EXECUTION_TIME_SUM,
    POLICY_EVALUATION_ERROR,
    TRACE_DROPPED_TOO_EARLY,
    TRACES_DROPPED_TOO_LARGE,
    TRACE_REMOVAL_AGE,
    LATE_SPAN_AGE,
    EARLY_RELEASES,
    UNPARSEABLE_TRACESTATE,
    ACCEPTED_SPANS,
    KEPT_SPANS,
    DROPPED_SPANS,
    LOST_SPANS,
    BUFFERED_SPANS,
    BUFFERED_TRACES,
    BUFFER_BYTES,
    BYTES_PER_SPAN,
    OLDEST_TRACE,
    DECISION_LAG,
    SLICE_MAX,
    DECIDED_EARLY,
];
