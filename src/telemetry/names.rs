//! Every metric: name, help and unit.
//!
//! The collector's are as its own page shows them (otlp 5.2, loadbalancing 4), so dashboards and
//! alerts made for it work. Labels stand in the docs of each. Ours begin with `tracemill_`.
//!
//! Not here: values, and when a series exists.

pub mod sampling;

use super::options::MetricsLevel;
use super::page::Kind::{Counter, Gauge, Histogram};
use super::page::Unit::{Bytes, Milliseconds, None, Seconds};
use super::page::{Kind, Metric, Unit};

/// One metric per signal, in the order traces, metrics, logs: index with `signal as usize`.
pub type PerSignal = [Metric; 3];

/// Upper bounds of `backend_latency`, in milliseconds (loadbalancing 4).
pub const BACKEND_LATENCY_BOUNDS_MS: [u64; 10] = [5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000];

/// Upper bounds of `sampling_decision_timer_latency`, in milliseconds (tailsampling 4).
pub const DECISION_TIMER_BOUNDS_MS: &[u64] = &[
    1, 2, 5, 10, 25, 50, 75, 100, 150, 200, 300, 400, 500, 750, 1_000, 2_000, 3_000, 4_000, 5_000,
    10_000, 20_000, 30_000, 50_000,
];

/// Upper bounds of `batch_send_size`, in items.
pub const BATCH_SEND_SIZE_BOUNDS: [u64; 22] = [
    10, 25, 50, 75, 100, 250, 500, 750, 1000, 2000, 3000, 4000, 5000, 6000, 7000, 8000, 9000,
    10_000, 20_000, 30_000, 50_000, 100_000,
];

const SERVICE: &str = "go.opentelemetry.io/collector/service";
const RECEIVER: &str = "go.opentelemetry.io/collector/receiver/receiverhelper";
const PROCESSOR: &str = "go.opentelemetry.io/collector/processor/processorhelper";
const MEMORY_LIMITER: &str = "go.opentelemetry.io/collector/processor/memorylimiterprocessor";
const BATCH: &str = "go.opentelemetry.io/collector/processor/batchprocessor";
const EXPORTER: &str = "go.opentelemetry.io/collector/exporter/exporterhelper";
const LOADBALANCER: &str =
    "github.com/open-telemetry/opentelemetry-collector-contrib/exporter/loadbalancingexporter";
const PROCESSOR_SCOPE_SAMPLING: &str = "github.com/open-telemetry/opentelemetry-collector-contrib/\
     processor/tailsamplingprocessor";
const TRACEMILL: &str = "tracemill";

const fn metric(
    kind: Kind,
    name: &'static str,
    unit: Unit,
    scope: &'static str,
    help: &'static str,
) -> Metric {
    Metric { kind, name, help, unit, scope, level: MetricsLevel::Basic }
}

/// The collector shows these at level normal and detailed only.
const fn normal(metric: Metric) -> Metric {
    Metric { level: MetricsLevel::Normal, ..metric }
}

/// A counter of items with one name per signal.
macro_rules! per_signal {
    ($prefix:literal, $scope:expr, $traces:expr, $metrics:expr, $logs:expr $(,)?) => {
        [
            metric(Counter, concat!($prefix, "_spans"), None, $scope, $traces),
            metric(Counter, concat!($prefix, "_metric_points"), None, $scope, $metrics),
            metric(Counter, concat!($prefix, "_log_records"), None, $scope, $logs),
        ]
    };
}

// Receiver: labels receiver, transport (grpc or http). All three exist from the first request on.

/// Items handed to the pipeline.
pub const RECEIVER_ACCEPTED: PerSignal = per_signal!(
    "otelcol_receiver_accepted",
    RECEIVER,
    "Number of spans successfully pushed into the pipeline. [Alpha]",
    "Number of metric points successfully pushed into the pipeline. [Alpha]",
    "Number of log records successfully pushed into the pipeline. [Alpha]",
);
/// Items that the pipeline did not take; the client was told.
pub const RECEIVER_REFUSED: PerSignal = per_signal!(
    "otelcol_receiver_refused",
    RECEIVER,
    "Number of spans that could not be pushed into the pipeline. [Alpha]",
    "Number of metric points that could not be pushed into the pipeline. [Alpha]",
    "Number of log records that could not be pushed into the pipeline. [Alpha]",
);
/// Stays 0, as in the collector without its alpha gate (otlp 5.2).
pub const RECEIVER_FAILED: PerSignal = per_signal!(
    "otelcol_receiver_failed",
    RECEIVER,
    "The number of spans that failed to be processed by the receiver due to internal errors. \
     [Alpha]",
    "The number of metric points that failed to be processed by the receiver due to internal \
     errors. [Alpha]",
    "The number of log records that failed to be processed by the receiver due to internal \
     errors. [Alpha]",
);

// Processors: label processor; incoming and outgoing also otel.signal.

/// Items that came to a `memory_limiter`.
pub const PROCESSOR_INCOMING_ITEMS: Metric = metric(
    Counter,
    "otelcol_processor_incoming_items",
    None,
    PROCESSOR,
    "Number of items passed to the processor. [Alpha]",
);
/// Items that left a `memory_limiter`.
pub const PROCESSOR_OUTGOING_ITEMS: Metric = metric(
    Counter,
    "otelcol_processor_outgoing_items",
    None,
    PROCESSOR,
    "Number of items emitted from the processor. [Alpha]",
);
/// Items that found room.
pub const MEMORY_LIMITER_ACCEPTED: PerSignal = per_signal!(
    "otelcol_processor_memory_limiter_accepted",
    MEMORY_LIMITER,
    "Number of spans successfully pushed into the next component in the pipeline. [Alpha]",
    "Number of metric points successfully pushed into the next component in the pipeline. [Alpha]",
    "Number of log records successfully pushed into the next component in the pipeline. [Alpha]",
);
/// Items refused for lack of memory.
pub const MEMORY_LIMITER_REFUSED: PerSignal = per_signal!(
    "otelcol_processor_memory_limiter_refused",
    MEMORY_LIMITER,
    "Number of spans that were rejected by the next component in the pipeline. [Alpha]",
    "Number of metric points that were rejected by the next component in the pipeline. [Alpha]",
    "Number of log records that were rejected by the next component in the pipeline. [Alpha]",
);
/// Items per batch, with [`BATCH_SEND_SIZE_BOUNDS`].
pub const BATCH_SEND_SIZE: Metric = normal(metric(
    Histogram,
    "otelcol_processor_batch_batch_send_size",
    None,
    BATCH,
    "Number of units in the batch [Development]",
));
/// Batches sent because they were full.
pub const BATCH_SIZE_TRIGGER_SEND: Metric = normal(metric(
    Counter,
    "otelcol_processor_batch_batch_size_trigger_send",
    None,
    BATCH,
    "Number of times the batch was sent due to a size trigger [Development]",
));
/// Batches sent because they were old.
pub const BATCH_TIMEOUT_TRIGGER_SEND: Metric = normal(metric(
    Counter,
    "otelcol_processor_batch_timeout_trigger_send",
    None,
    BATCH,
    "Number of times the batch was sent due to a timeout trigger [Development]",
));

// Exporter: label exporter; otlp_grpc also server.address and server.port on sent and send_failed;
// the queue's and in_flight also data_type. At level detailed send_failed has error.type and
// error.permanent.

/// Items that were delivered, or owned by the queue of the balancer's backend.
pub const EXPORTER_SENT: PerSignal = per_signal!(
    "otelcol_exporter_sent",
    EXPORTER,
    "Number of spans successfully sent to destination. [Alpha]",
    "Number of metric points successfully sent to destination. [Alpha]",
    "Number of log record successfully sent to destination. [Alpha]",
);
/// Items that were given up.
pub const EXPORTER_SEND_FAILED: PerSignal = per_signal!(
    "otelcol_exporter_send_failed",
    EXPORTER,
    "Number of spans in failed attempts to send to destination. At detailed telemetry level, \
     includes attributes: error.type (semantic convention), error.permanent. [Alpha]",
    "Number of metric points in failed attempts to send to destination. At detailed telemetry \
     level, includes attributes: error.type (semantic convention), error.permanent. [Alpha]",
    "Number of log records in failed attempts to send to destination. At detailed telemetry \
     level, includes attributes: error.type (semantic convention), error.permanent. [Alpha]",
);
/// Items that found no room in the queue.
pub const EXPORTER_ENQUEUE_FAILED: PerSignal = per_signal!(
    "otelcol_exporter_enqueue_failed",
    EXPORTER,
    "Number of spans failed to be added to the sending queue. [Alpha]",
    "Number of metric points failed to be added to the sending queue. [Alpha]",
    "Number of log records failed to be added to the sending queue. [Alpha]",
);
/// What the queue holds, in its own sizer's unit.
pub const EXPORTER_QUEUE_SIZE: Metric = metric(
    Gauge,
    "otelcol_exporter_queue_size",
    None,
    EXPORTER,
    "Current size of the retry queue (in batches). [Alpha]",
);
/// What the queue can hold.
pub const EXPORTER_QUEUE_CAPACITY: Metric = metric(
    Gauge,
    "otelcol_exporter_queue_capacity",
    None,
    EXPORTER,
    "Fixed capacity of the retry queue (in batches). [Alpha]",
);
/// Requests on their way, waiting for a retry included.
pub const EXPORTER_IN_FLIGHT_REQUESTS: Metric = metric(
    Gauge,
    "otelcol_exporter_in_flight_requests",
    None,
    EXPORTER,
    "Number of export requests currently in-flight (including retry backoff). [Development]",
);

// Load balancer (loadbalancing 4).

/// Label endpoint; one record per call on the wire, with [`BACKEND_LATENCY_BOUNDS_MS`].
pub const LOADBALANCER_BACKEND_LATENCY: Metric = metric(
    Histogram,
    "otelcol_loadbalancer_backend_latency",
    Milliseconds,
    LOADBALANCER,
    "Response latency in ms for the backends. [Development]",
);
/// Labels endpoint, success; one per call on the wire.
pub const LOADBALANCER_BACKEND_OUTCOME: Metric = metric(
    Counter,
    "otelcol_loadbalancer_backend_outcome",
    None,
    LOADBALANCER,
    "Number of successes and failures for each endpoint. [Development]",
);
/// Label resolver.
pub const LOADBALANCER_NUM_BACKEND_UPDATES: Metric = metric(
    Counter,
    "otelcol_loadbalancer_num_backend_updates",
    None,
    LOADBALANCER,
    "Number of times the list of backends was updated. [Development]",
);
/// Label resolver.
pub const LOADBALANCER_NUM_BACKENDS: Metric = metric(
    Gauge,
    "otelcol_loadbalancer_num_backends",
    None,
    LOADBALANCER,
    "Current number of backends in use. [Development]",
);
/// Labels resolver, success.
pub const LOADBALANCER_NUM_RESOLUTIONS: Metric = metric(
    Counter,
    "otelcol_loadbalancer_num_resolutions",
    None,
    LOADBALANCER,
    "Number of times the resolver has triggered new resolutions. [Development]",
);

// Process: no labels.

/// Seconds.
pub const PROCESS_CPU_SECONDS: Metric = metric(
    Counter,
    "otelcol_process_cpu_seconds",
    Seconds,
    SERVICE,
    "Total CPU user and system time in seconds [Alpha]",
);
/// Bytes.
pub const PROCESS_MEMORY_RSS: Metric = metric(
    Gauge,
    "otelcol_process_memory_rss",
    Bytes,
    SERVICE,
    "Total physical memory (resident set size) [Alpha]",
);
/// Seconds.
pub const PROCESS_UPTIME: Metric =
    metric(Counter, "otelcol_process_uptime", Seconds, SERVICE, "Uptime of the process [Alpha]");

/// Ours, with the unit in the name where there is one.
const fn own(kind: Kind, name: &'static str, unit: Unit, help: &'static str) -> Metric {
    metric(kind, name, unit, TRACEMILL, help)
}

// Conservation: received = accepted + refused, offered = sent + failed + in flight.

/// Labels receiver, transport, data_type. Its accepted and refused are the collector's.
pub const RECEIVED_ITEMS: Metric = own(
    Counter,
    "tracemill_receiver_received_items",
    None,
    "Items of well-formed requests. Equals accepted + refused.",
);
/// Labels exporter, endpoint, data_type.
pub const OFFERED_ITEMS: Metric = own(
    Counter,
    "tracemill_exporter_offered_items",
    None,
    "Items routed to an endpoint. Equals sent + failed + in flight.",
);
/// Labels exporter, endpoint, data_type.
pub const SENT_ITEMS: Metric =
    own(Counter, "tracemill_exporter_sent_items", None, "Items that an endpoint acknowledged.");
/// Labels exporter, endpoint, data_type, reason.
pub const FAILED_ITEMS: Metric =
    own(Counter, "tracemill_exporter_failed_items", None, "Items given up, by reason.");
/// Labels exporter, endpoint, data_type.
pub const IN_FLIGHT_ITEMS: Metric = own(
    Gauge,
    "tracemill_exporter_in_flight_items",
    None,
    "Items in buffers, queues and calls of an endpoint.",
);
/// Labels exporter, endpoint, data_type. Part of sent.
pub const PARTIAL_REJECTED_ITEMS: Metric = own(
    Counter,
    "tracemill_exporter_partial_success_rejected_items",
    None,
    "Items that an endpoint rejected in the partial_success of a call it acknowledged.",
);

// Load balancing.

/// Labels exporter, endpoint.
pub const RING_SHARE: Metric =
    own(Gauge, "tracemill_ring_share", None, "Share of the ring that an endpoint owns, 0 to 1.");
/// Labels exporter, data_type.
pub const HOTTEST_TO_MEAN: Metric = own(
    Gauge,
    "tracemill_exporter_hottest_to_mean",
    None,
    "Items offered to the hottest endpoint over the mean of all endpoints.",
);
/// Labels exporter, endpoint, data_type.
pub const PARTS: Metric = own(
    Counter,
    "tracemill_exporter_parts",
    None,
    "Parts of requests whose first call to an endpoint has begun.",
);
/// Labels exporter, endpoint, data_type.
pub const CALLS: Metric =
    own(Counter, "tracemill_exporter_calls", None, "Calls on the wire, retries included.");
/// Labels exporter, endpoint, data_type.
pub const MERGE_FACTOR: Metric =
    own(Gauge, "tracemill_exporter_merge_factor", None, "Parts per call since the start.");
/// Labels exporter, endpoint.
pub const ENDPOINT_CONNECTIONS: Metric =
    own(Gauge, "tracemill_exporter_connections", None, "Open connections to an endpoint.");

// Limits: label limit; where a limit stands once per endpoint also exporter, endpoint.

/// How much of a limit is used, in the limit's own unit.
pub const LIMIT_USED: Metric =
    own(Gauge, "tracemill_limit_used", None, "What counts against a limit, in its unit.");
/// The limit.
pub const LIMIT_MAX: Metric = own(Gauge, "tracemill_limit_max", None, "A limit, in its unit.");
/// Used over max.
pub const LIMIT_FILL: Metric =
    own(Gauge, "tracemill_limit_fill", None, "Used part of a limit, 0 to 1.");
/// Labels exporter, endpoint.
pub const QUEUE_FILL: Metric =
    own(Gauge, "tracemill_exporter_queue_fill", None, "Used part of an endpoint's queue, 0 to 1.");

// Cores: label core.

/// Client connections.
pub const CORE_CONNECTIONS: Metric =
    own(Gauge, "tracemill_core_connections", None, "Client connections that a core serves.");
/// No labels.
pub const CONNECTION_SKEW: Metric = own(
    Gauge,
    "tracemill_connection_skew",
    None,
    "Connections of the core that has most over the mean of all cores.",
);
/// Share of the last seconds.
pub const CORE_BUSY: Metric = own(
    Gauge,
    "tracemill_core_busy",
    None,
    "Share of the last seconds that a core was busy, 0 to 1.",
);
/// Seconds.
pub const CORE_CPU_SECONDS: Metric =
    own(Counter, "tracemill_core_cpu_seconds", Seconds, "CPU time of a data core.");
/// Bytes.
pub const CORE_HELD_BYTES: Metric =
    own(Gauge, "tracemill_core_held_bytes", Bytes, "Bytes of telemetry that a core holds.");

/// No labels.
pub const LOG_LINES_LOST: Metric = own(
    Counter,
    "tracemill_log_lines_lost",
    None,
    "Log lines dropped because the output was too slow or failed.",
);

/// All metrics that stand alone.
pub const ALL: &[Metric] = &[
    PROCESSOR_INCOMING_ITEMS,
    PROCESSOR_OUTGOING_ITEMS,
    BATCH_SEND_SIZE,
    BATCH_SIZE_TRIGGER_SEND,
    BATCH_TIMEOUT_TRIGGER_SEND,
    EXPORTER_QUEUE_SIZE,
    EXPORTER_QUEUE_CAPACITY,
    EXPORTER_IN_FLIGHT_REQUESTS,
    LOADBALANCER_BACKEND_LATENCY,
    LOADBALANCER_BACKEND_OUTCOME,
    LOADBALANCER_NUM_BACKEND_UPDATES,
    LOADBALANCER_NUM_BACKENDS,
    LOADBALANCER_NUM_RESOLUTIONS,
    PROCESS_CPU_SECONDS,
    PROCESS_MEMORY_RSS,
    PROCESS_UPTIME,
    RECEIVED_ITEMS,
    OFFERED_ITEMS,
    SENT_ITEMS,
    FAILED_ITEMS,
    IN_FLIGHT_ITEMS,
    PARTIAL_REJECTED_ITEMS,
    RING_SHARE,
    HOTTEST_TO_MEAN,
    PARTS,
    CALLS,
    MERGE_FACTOR,
    ENDPOINT_CONNECTIONS,
    LIMIT_USED,
    LIMIT_MAX,
    LIMIT_FILL,
    QUEUE_FILL,
    CORE_CONNECTIONS,
    CONNECTION_SKEW,
    CORE_BUSY,
    CORE_CPU_SECONDS,
    CORE_HELD_BYTES,
    LOG_LINES_LOST,
];

/// All metrics that exist per signal.
pub const ALL_PER_SIGNAL: &[PerSignal] = &[
    RECEIVER_ACCEPTED,
    RECEIVER_REFUSED,
    RECEIVER_FAILED,
    MEMORY_LIMITER_ACCEPTED,
    MEMORY_LIMITER_REFUSED,
    EXPORTER_SENT,
    EXPORTER_SEND_FAILED,
    EXPORTER_ENQUEUE_FAILED,
];

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn names_are_valid_distinct_and_explained() {
        let mut seen = HashSet::new();
        let all = ALL.iter().chain(sampling::ALL).chain(ALL_PER_SIGNAL.iter().flatten());
        for metric in all {
            let name = metric.name;
            assert!(seen.insert(name), "{name} stands twice");
            assert!(name.bytes().all(|b| b.is_ascii_lowercase() || b == b'_'), "{name}");
            assert!(!metric.help.is_empty() && !metric.help.contains("  "), "{name}");
            let ours = name.starts_with("tracemill_");
            assert!(ours || name.starts_with("otelcol_"), "{name}");
            assert_eq!(ours, metric.scope == TRACEMILL, "{name}");
            assert!(!ours || !name.ends_with("_total"), "{name}");
        }
    }
}
