//! The blocks of policies that look at a trace themselves (tailsampling 1.3), the same in every
//! position.

use super::{condition, meant};
use crate::config::read::Block;
use crate::config::report::quote;
use crate::sample::options::Rule;
use crate::sample::pattern::Pattern;

/// A type of policy and the reader of its block.
#[derive(Clone, Copy, Debug)]
pub(super) struct Shared {
    /// Type and key of the block.
    pub name: &'static str,
    /// Reads the block.
    pub read: fn(&mut Block<'_>) -> Rule,
}

/// Types that have no block.
pub(super) const WITHOUT_BLOCK: [(&str, Rule); 2] =
    [("always_sample", Rule::AlwaysSample), ("trace_flags", Rule::TraceFlags)];

/// Types with a block.
pub(super) const SHARED: [Shared; 11] = [
    Shared { name: "latency", read: latency },
    Shared { name: "numeric_attribute", read: numeric_attribute },
    Shared { name: "probabilistic", read: probabilistic },
    Shared { name: "status_code", read: status_code },
    Shared { name: "string_attribute", read: string_attribute },
    Shared { name: "rate_limiting", read: rate_limiting },
    Shared { name: "bytes_limiting", read: bytes_limiting },
    Shared { name: "span_count", read: span_count },
    Shared { name: "trace_state", read: trace_state },
    Shared { name: "boolean_attribute", read: boolean_attribute },
    Shared { name: "ottl_condition", read: condition::read },
];

const NEVER: &str = "never holds";

fn latency(b: &mut Block<'_>) -> Rule {
    let threshold_ms = b.signed("threshold_ms", 0);
    let upper_threshold_ms = b.signed("upper_threshold_ms", 0);
    if upper_threshold_ms != 0 && upper_threshold_ms <= threshold_ms {
        b.note_at("upper_threshold_ms", NEVER, "longer than threshold_ms");
    }
    Rule::Latency { threshold_ms, upper_threshold_ms }
}

fn numeric_attribute(b: &mut Block<'_>) -> Rule {
    let key = b.text("key", "");
    let (min, max) = (b.signed("min_value", 0), b.signed("max_value", 0));
    let invert = b.flag("invert_match", false);
    // The collector starts, and panics at the first trace.
    if min == 0 && max == 0 {
        let what = "at least one of min_value and max_value must be set, and not to 0";
        b.start_error(what, "min_value: 400");
    }
    for (bound, value) in [("min_value", min), ("max_value", max)] {
        if value == 0 && b.has(bound) {
            b.note_at(bound, "0 is no bound, as in the collector", "");
        }
    }
    let min = if min == 0 { i64::MIN } else { min };
    let max = if max == 0 { i64::MAX } else { max };
    if min > max {
        b.note_at("max_value", NEVER, "not less than min_value");
    }
    Rule::NumericAttribute { key, min, max, invert }
}

fn probabilistic(b: &mut Block<'_>) -> Rule {
    let salt = b.text("hash_salt", "");
    let percentage = b.float("sampling_percentage", 0.0);
    if percentage.is_nan() {
        b.start_error_at("sampling_percentage", "is not a number", "sampling_percentage: 10");
    }
    Rule::Probabilistic { percentage, salt }
}

fn status_code(b: &mut Block<'_>) -> Rule {
    const CODES: [&str; 3] = ["UNSET", "OK", "ERROR"];
    let written = b.texts_at("status_codes");
    if written.is_empty() {
        let what = "expected at least one status code to filter on";
        b.start_error(what, "status_codes: [ERROR]");
    }
    let mut codes = [false; 3];
    for (i, (code, at)) in written.iter().enumerate() {
        match CODES.iter().position(|known| known == code) {
            Some(known) => codes[known] = true,
            None => {
                let what =
                    format!("unknown status code {}, supported: OK, ERROR, UNSET", quote(code));
                b.start_error_of_item("status_codes", (i, *at), &what, &meant(code, &CODES));
            }
        }
    }
    Rule::StatusCode(codes)
}

fn string_attribute(b: &mut Block<'_>) -> Rule {
    let key = b.text("key", "");
    let values = b.texts_at("values");
    let regex = b.flag("enabled_regex_matching", false);
    b.signed("cache_max_size", 0);
    let invert = b.flag("invert_match", false);
    if values.is_empty() {
        let what = if invert { "no values: it always holds" } else { "no values: it never holds" };
        b.note_here(what, "values: [...]");
    }
    for (i, (text, at)) in values.iter().enumerate().filter(|_| regex) {
        if let Err(e) = Pattern::new(text) {
            let what = format!("invalid regex {}: {e}", quote(text));
            b.start_error_of_item("values", (i, *at), &what, "");
        }
    }
    let values = values.into_iter().map(|(text, _)| text).collect();
    Rule::StringAttribute { key, values, regex, invert }
}

fn rate_limiting(b: &mut Block<'_>) -> Rule {
    let (per_second, burst) = limits(b, "spans_per_second");
    Rule::RateLimiting { per_second, burst }
}

fn bytes_limiting(b: &mut Block<'_>) -> Rule {
    let (per_second, burst) = limits(b, "bytes_per_second");
    Rule::BytesLimiting { per_second, burst }
}

/// Rate and burst; a burst below one is twice the rate (tailsampling 2.11).
fn limits(b: &mut Block<'_>, key: &'static str) -> (i64, i64) {
    let per_second = b.signed(key, 0);
    let burst = match b.signed("burst_capacity", 0) {
        burst @ 1.. => burst,
        _ => per_second.saturating_mul(2),
    };
    if burst <= 0 {
        b.note_here("nothing passes: the burst is 0", &format!("{key}: 1000"));
    }
    (per_second, burst)
}

fn span_count(b: &mut Block<'_>) -> Rule {
    let (min, max) = (b.signed32("min_spans", 0), b.signed32("max_spans", 0));
    if max != 0 && max < min {
        b.note_at("max_spans", NEVER, "not less than min_spans");
    }
    Rule::SpanCount { min, max }
}

fn trace_state(b: &mut Block<'_>) -> Rule {
    let key = b.text("key", "");
    let values = b.texts_at("values").into_iter().map(|(text, _)| text).collect();
    Rule::TraceState { key, values }
}

fn boolean_attribute(b: &mut Block<'_>) -> Rule {
    let key = b.text("key", "");
    let value = b.flag("value", false);
    Rule::BooleanAttribute { key, value, invert: b.flag("invert_match", false) }
}
