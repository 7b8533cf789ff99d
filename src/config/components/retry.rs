//! `retry_on_failure` (otlp 4.4).

use std::time::Duration;

use crate::config::read::Block;
use crate::upstream::options::RetryOptions;

/// Reads the block of `b`; `enabled` is what an absent key means.
///
/// At the balancer's own level the collector leaves all other keys at zero, which is a loop without
/// delay or end (loadbalancing 1.5). Here they have the core defaults, and that is said; one that
/// would contradict what is given is the collector's zero.
pub fn read(b: &mut Block<'_>, enabled: bool, balancer: bool) -> Option<RetryOptions> {
    b.block("retry_on_failure", |b| {
        let enabled = b.flag("enabled", enabled);
        let default = RetryOptions::default();
        let end = match balancer && longest_interval(b) > default.max_elapsed_time {
            true => Duration::ZERO,
            false => default.max_elapsed_time,
        };
        let max_elapsed_time = b.duration("max_elapsed_time", end);
        // The collector's zero fits under any limit; so must the defaults that stand in for it.
        let cap = |d: Duration| match balancer && !max_elapsed_time.is_zero() {
            true => d.min(max_elapsed_time),
            false => d,
        };
        let options = RetryOptions {
            initial_interval: b.duration("initial_interval", cap(default.initial_interval)),
            randomization_factor: b.float("randomization_factor", default.randomization_factor),
            multiplier: b.float("multiplier", default.multiplier),
            max_interval: b.duration("max_interval", cap(default.max_interval)),
            max_elapsed_time,
        };
        check(b, &options);
        if balancer && enabled && !(b.has("initial_interval") && b.has("max_interval")) {
            let end = if end.is_zero() { "no end" } else { "5m" };
            let what = format!(
                "keys that are not given have the defaults of other exporters (5s, 30s, {end}); \
                 the collector takes zeros here, which is a loop without delay"
            );
            b.warn_at("enabled", what, "");
        }
        enabled.then_some(options)
    })
}

/// The longest interval that is given.
fn longest_interval(b: &mut Block<'_>) -> Duration {
    let keys = ["initial_interval", "max_interval"];
    b.unrecorded(|b| keys.map(|key| b.duration(key, Duration::ZERO)))
        .into_iter()
        .max()
        .unwrap_or_default()
}

fn check(b: &Block<'_>, o: &RetryOptions) {
    if !(0.0..=1.0).contains(&o.randomization_factor) {
        b.error_at("randomization_factor", "must be within 0 and 1", "randomization_factor: 0.5");
    }
    if o.multiplier < 0.0 || o.multiplier.is_nan() {
        b.error_at("multiplier", "must not be negative", "multiplier: 1.5");
    }
    if o.max_elapsed_time.is_zero() {
        return;
    }
    for (key, value) in [("initial_interval", o.initial_interval), ("max_interval", o.max_interval)]
    {
        if o.max_elapsed_time < value {
            let what = format!("must not be less than {key}");
            b.error_at("max_elapsed_time", what, "0 means without end");
        }
    }
}
