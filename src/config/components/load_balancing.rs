//! `load_balancing` exporter, formerly `loadbalancing` (loadbalancing 1).

use std::time::Duration;

use super::{grpc_client, queue, resolver, retry};
use crate::config::plan::{ExporterKind, LoadBalancing};
use crate::config::read::{Absent, Block};
use crate::otlp::Signal;
use crate::route::{Generation, Key};
use crate::upstream::options::MergeOptions;

/// The collector's own bound of a fan-out when `timeout` is not given (loadbalancing 1.1).
const TIMEOUT: Duration = Duration::from_secs(5);

/// Reads the exporter; `signals` are those of the pipelines that use it.
pub fn read(
    b: &mut Block<'_>,
    signals: &[Signal],
    ring: Generation,
    merge: &MergeOptions,
) -> ExporterKind {
    let keys = routing_keys(b, signals);
    let template = b.block("protocol", |b| {
        b.block("otlp", |b| {
            if b.has("endpoint") {
                let what = "has no effect: backends come from the resolver";
                b.warn_at("endpoint", what, "leave it out");
                b.unrecorded(grpc_client::endpoint);
            }
            grpc_client::read(b, false, merge)
        })
    });
    let resolver = b.block("resolver", resolver::read);
    let timeout = match b.duration("timeout", TIMEOUT) {
        Duration::ZERO => TIMEOUT,
        timeout => timeout,
    };
    let retry = retry::read(b, false, true);
    let queue = queue::read(b, Absent::Off, &MergeOptions::default()).queue;
    ExporterKind::LoadBalancing(Box::new(LoadBalancing {
        template,
        keys,
        resolver,
        ring,
        timeout,
        retry,
        queue,
    }))
}

/// What each signal is routed by (loadbalancing 1.2, 1.3).
fn routing_keys(b: &mut Block<'_>, signals: &[Signal]) -> [Key; 3] {
    let key = b.text("routing_key", "");
    let attributes = b.texts("routing_attributes", &[]);
    let keys = Signal::ALL.map(|signal| Key::of(signal, &key, &attributes));
    if (key == "attributes") == attributes.is_empty() {
        let (at, what) = match attributes.is_empty() {
            false => ("routing_attributes", "stand only beside routing_key: attributes"),
            true => ("routing_key", "attributes wants routing_attributes"),
        };
        b.error_at(at, what, "routing_key: attributes\nrouting_attributes: [service.name]");
        return keys.map(Option::unwrap_or_default);
    }
    for &signal in signals.iter().filter(|&&signal| keys[signal as usize].is_none()) {
        let name = signal.name();
        let right = if signal == Signal::Traces { "traceID" } else { "service" };
        let what = format!("\"{key}\" cannot route {name}");
        b.error_at("routing_key", what, &format!("routing_key: {right}"));
    }
    keys.map(Option::unwrap_or_default)
}
