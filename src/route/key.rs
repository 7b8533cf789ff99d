//! What a route is identified by: `routing_key` (loadbalancing 1.2).

use crate::otlp::Signal;

/// What of the telemetry is hashed to find its owner.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Key {
    /// The trace id: 16 bytes of a span, 32 hex digits of a log record. Log records without one
    /// are spread at random, one by one.
    #[default]
    TraceId,
    /// The resource's `service.name`, bare. Of metrics without one nothing is routed.
    Service,
    /// All attributes of the resource.
    Resource,
    /// The metric's name.
    Metric,
    /// Resource, scope, metric and attributes of a data point.
    StreamId,
    /// `name=value|` of each of these attributes, wherever it stands.
    Attributes(Vec<String>),
}

impl Key {
    /// The meaning of `routing_key` for a signal, `""` being its default. `None`: this signal
    /// cannot be routed so. Traces know `service` as the attribute `service.name`.
    #[must_use]
    pub fn of(signal: Signal, routing_key: &str, routing_attributes: &[String]) -> Option<Self> {
        use Signal::{Logs, Metrics, Traces};
        match (signal, routing_key) {
            (Traces, "" | "traceID") | (Logs, "traceID") => Some(Self::TraceId),
            (Traces, "service") => Some(Self::Attributes(vec!["service.name".to_owned()])),
            (Logs | Metrics, "" | "service") => Some(Self::Service),
            (Logs | Metrics, "resource") => Some(Self::Resource),
            (Metrics, "metric") => Some(Self::Metric),
            (Metrics, "streamID") => Some(Self::StreamId),
            (_, "attributes") => Some(Self::Attributes(routing_attributes.to_vec())),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_signal_knows_its_keys() {
        let keys = ["", "traceID", "service", "resource", "metric", "streamID", "attributes"];
        let known = |signal| {
            keys.into_iter().filter(|key| Key::of(signal, key, &[]).is_some()).collect::<Vec<_>>()
        };
        assert_eq!(known(Signal::Traces), ["", "traceID", "service", "attributes"]);
        assert_eq!(known(Signal::Logs), ["", "traceID", "service", "resource", "attributes"]);
        let of_metrics = ["", "service", "resource", "metric", "streamID", "attributes"];
        assert_eq!(known(Signal::Metrics), of_metrics);
        assert_eq!(Key::of(Signal::Traces, "TRACEID", &[]), None);
    }

    #[test]
    fn the_default_of_each_signal_is_the_collectors() {
        assert_eq!(Key::of(Signal::Traces, "", &[]), Some(Key::TraceId));
        assert_eq!(Key::of(Signal::Logs, "", &[]), Some(Key::Service));
        assert_eq!(Key::of(Signal::Metrics, "", &[]), Some(Key::Service));
    }
}
