//! `--feature-gates`: the collector's gates are known by name, so that command lines carry over.
//! Only those of the tail sampler change something here.

use super::report::{At, Log, did_you_mean, quote};
use crate::sample::options::Gates;

/// Gates of the collector v0.161 that the router's components bring, and whether they can still be
/// turned off.
const GATES: [(&str, bool); 20] = [
    ("confmap.enableMergeAppendOption", true),
    ("exporter.file.nativeCompression", true),
    ("extension.healthcheck.useComponentStatus", true),
    ("ottl.PanicDuplicateName", false),
    ("ottl.contexts.enableOTelColContext", false),
    ("ottl.functions.enableLambda", true),
    ("ottl.set.allowNil", true),
    ("pdata.useProtoPooling", true),
    ("pkg.exporterhelper.queueBatchEnabled", true),
    ("processor.tailsamplingprocessor.metricstatcountbytessampled", true),
    ("processor.tailsamplingprocessor.metricstatcountspanssampled", true),
    ("processor.tailsamplingprocessor.recordpolicy", true),
    ("processor.tailsamplingprocessor.tailstorageextension", true),
    ("processor.tailsamplingprocessor.usetracestate", true),
    ("receiverhelper.newReceiverMetrics", true),
    ("service.AllowNoPipelines", true),
    ("service.partialReload", true),
    ("service.partialReloadReceivers", true),
    ("service.profilesSupport", true),
    ("telemetry.newPipelineTelemetry", true),
];

/// Where the gates of the tail sampler begin.
const SAMPLER: &str = "processor.tailsamplingprocessor.";

/// Reads the values of `--feature-gates`: `a,-b,+c`. The last word on a gate counts.
pub fn read(values: &[String], log: &mut Log) -> Gates {
    let mut gates = Gates::default();
    for value in values.iter().filter(|v| !v.is_empty()) {
        let source = log.add_source(format!("--feature-gates={value}"), false);
        let at = At { source, line: 0, column: 0 };
        for gate in value.split(',') {
            let (on, name) = match gate.as_bytes().first() {
                Some(b'-') => (false, &gate[1..]),
                Some(b'+') => (true, &gate[1..]),
                _ => (true, gate),
            };
            match GATES.iter().find(|(known, _)| *known == name) {
                None => {
                    let right = did_you_mean(name, GATES.iter().map(|(known, _)| *known))
                        .map(|meant| format!("did you mean {meant}?"));
                    log.error(at, "", format!("no such feature gate {}", quote(name)), right);
                }
                Some((_, false)) if !on => {
                    let what =
                        format!("feature gate {} cannot be turned off any more", quote(name));
                    log.error(at, "", what, None);
                }
                Some(_) if switch(&mut gates, name, on) => {}
                Some(_) => {
                    log.warn(
                        at,
                        "",
                        format!("feature gate {} has no effect here", quote(name)),
                        None,
                    );
                }
            }
        }
    }
    gates
}

/// Sets a gate of the tail sampler; false if it is none that changes something.
fn switch(gates: &mut Gates, name: &str, on: bool) -> bool {
    let gate = match name.strip_prefix(SAMPLER) {
        Some("recordpolicy") => &mut gates.record_policy,
        Some("usetracestate") => &mut gates.use_trace_state,
        Some("metricstatcountspanssampled") => &mut gates.count_spans_sampled,
        Some("metricstatcountbytessampled") => &mut gates.count_bytes_sampled,
        _ => return false,
    };
    *gate = on;
    true
}
