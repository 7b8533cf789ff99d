//! `tail_sampling` processor (tailsampling 1): its own keys here, policies in `policy.rs`.
//!
//! What the collector finds while it decodes, while it validates and when it starts is all found
//! here. Where it starts and then panics or never samples, that is refused or told. Values beyond
//! the type of a key, which the collector cuts off bit by bit, are refused.

use std::time::Duration;

use crate::config::read::Block;
use crate::config::report::did_you_mean;
use crate::sample::options::{Gates, Options, Policy, Rule, Strategy};

mod combined;
mod condition;
mod policy;
mod rule;

/// Type of the component.
pub const TYPE: &str = "tail_sampling";

/// The collector's bound of `num_shards`.
const SHARDS_MAX: u32 = 256;

/// Reads the processor. `extensions` are the ids that `service.extensions` names.
pub fn read(b: &mut Block<'_>, gates: Gates, extensions: &[String]) -> Options {
    let default = Options::default();
    let wait = b.duration_or_negative("decision_wait", default.decision_wait);
    let wait_after_root =
        b.duration_or_negative("decision_wait_after_root_received", Duration::ZERO);
    let num_traces = b.unsigned("num_traces", default.num_traces);
    let block_on_overflow = b.flag("block_on_overflow", false);
    let expected = b.unsigned("expected_new_traces_per_sec", 0);
    let sample_on_first_match = b.flag("sample_on_first_match", false);
    let choices =
        [("trace-complete", Strategy::TraceComplete), ("span-ingest", Strategy::SpanIngest)];
    let strategy = b.choice("sampling_strategy", choices[0].0, &choices, Strategy::TraceComplete);
    let drop_pending = b.flag("drop_pending_traces_on_shutdown", false);
    let trace_bytes_max = b.unsigned("maximum_trace_size_bytes", 0);
    let caches = b.block("decision_cache", |b| {
        [cache_size(b, "sampled_cache_size"), cache_size(b, "non_sampled_cache_size")]
    });
    let num_shards = shards(b);
    let what = "a tail storage extension is not supported: spans are kept in memory";
    b.refuse("tail_storage", what, "leave it out");
    let options = Options {
        decision_wait: wait,
        decision_wait_after_root: wait_after_root,
        num_traces,
        block_on_overflow,
        expected_new_traces_per_sec: expected,
        sample_on_first_match,
        strategy,
        drop_pending_on_shutdown: drop_pending,
        trace_bytes_max,
        sampled_cache: caches[0],
        non_sampled_cache: caches[1],
        num_shards,
        policies: policies(b, strategy, extensions),
        gates,
    };
    tell(b, &options);
    options
}

/// Sizes below one are no cache (tailsampling 1.1).
fn cache_size(b: &mut Block<'_>, key: &'static str) -> usize {
    usize::try_from(b.signed(key, 0)).unwrap_or(0)
}

fn shards(b: &mut Block<'_>) -> u32 {
    let shards = b.unsigned32("num_shards", 1);
    if shards > SHARDS_MAX {
        let what = format!("num_shards ({shards}) must not exceed {SHARDS_MAX}");
        b.error_at("num_shards", what, "");
    } else if shards > 1 {
        let what = "accepted: the shards here are the data cores";
        b.note_at("num_shards", what, "tracemill: {cores: …} sets their number");
    }
    shards.max(1)
}

/// The top level: names are needed, and each stands once.
fn policies(b: &mut Block<'_>, strategy: Strategy, extensions: &[String]) -> Vec<Policy> {
    let mut names: Vec<String> = Vec::new();
    b.list("policies", |b| {
        let policy = policy::read(b, policy::Position::Top, extensions);
        if policy.name.is_empty() {
            b.start_error("policy name cannot be empty", "name: errors");
        } else if names.contains(&policy.name) {
            let what = format!("duplicate policy name \"{}\"", policy.name);
            b.start_error_at("name", what, "a policy's name stands once at the top level");
        }
        if strategy == Strategy::SpanIngest && is_stateful(&policy.rule) {
            let what = format!(
                "sampling_strategy \"span-ingest\" requires all policies to be stateless, but \
                 policy \"{}\" is stateful",
                policy.name
            );
            let right = "stateful are limiters, latency with upper_threshold_ms, span_count with \
                         max_spans";
            b.start_error(what, right);
        }
        names.push(policy.name.clone());
        policy
    })
}

/// Whether a later batch could undo its vote (tailsampling 2.13).
fn is_stateful(rule: &Rule) -> bool {
    rule.any(|rule| match rule {
        Rule::RateLimiting { .. } | Rule::BytesLimiting { .. } => true,
        Rule::Latency { upper_threshold_ms, .. } => *upper_threshold_ms > 0,
        Rule::SpanCount { max, .. } => *max > 0,
        _ => false,
    })
}

/// What its writer may not expect, and the collector does not say.
fn tell(b: &Block<'_>, options: &Options) {
    let policies = &options.policies;
    if policies.is_empty() {
        b.note_here("there are no policies: no trace is sampled", "policies: [...]");
    }
    let is_drop = |p: &&Policy| matches!(p.rule, Rule::Drop(_));
    let is_limiter =
        |p: &&Policy| matches!(p.rule, Rule::RateLimiting { .. } | Rule::BytesLimiting { .. });
    if policies.iter().filter(|p| !is_drop(p)).count() > 1
        && let Some(limiter) = policies.iter().find(is_limiter)
    {
        let what = format!(
            "policy \"{}\" caps only what it samples itself: a trace that another policy samples \
             is kept all the same",
            limiter.name
        );
        b.note_at("policies", what, "to cap others, put both into a policy of type and");
    }
    if options.strategy == Strategy::SpanIngest
        && let Some(drop) = policies.iter().find(is_drop)
    {
        let what = format!(
            "with span-ingest nothing is sampled as long as drop policy \"{}\" is there",
            drop.name
        );
        b.note_at("policies", what, "");
    }
    if options.sample_on_first_match && options.gates.use_trace_state {
        let what = "with the gate usetracestate the threshold that is reported is only right if no \
                    later policy could report a smaller one";
        b.note_at("sample_on_first_match", what, "");
    }
    tell_waits(b, options);
}

fn tell_waits(b: &Block<'_>, options: &Options) {
    let (wait, after_root) = (options.decision_wait, options.decision_wait_after_root);
    let acts = wait.as_secs().max(1);
    if wait != Duration::from_secs(acts) {
        b.note_at("decision_wait", format!("acts in whole seconds: {acts}s"), "");
    }
    let key = "decision_wait_after_root_received";
    if !after_root.is_zero() && after_root.as_secs() >= acts {
        b.note_at(key, "has no effect: decision_wait is not longer", "");
    } else if after_root.subsec_nanos() > 0 {
        let seconds = after_root.as_secs();
        b.note_at(key, format!("acts in whole seconds: {seconds}s"), "");
    }
}

/// `did you mean x?`, or all that is known.
fn meant(written: &str, known: &[&str]) -> String {
    match did_you_mean(written, known.iter().copied()) {
        Some(meant) => format!("did you mean {meant}?"),
        None => format!("one of {}", known.join(", ")),
    }
}
