//! `memory_limiter` processor: sets the process's byte budget (otlp 4.7).

use std::time::Duration;

use crate::config::machine::{Budget, Machine};
use crate::config::read::{Block, Kind};

/// Reads the processor.
pub fn read(b: &mut Block<'_>, machine: &Machine) -> Budget {
    let interval = b.duration("check_interval", Duration::ZERO);
    if interval.is_zero() {
        b.error("check_interval must be greater than zero", "check_interval: 1s");
    }
    let limit_mib = b.unsigned32("limit_mib", 0);
    let spike_mib = b.unsigned32("spike_limit_mib", 0);
    let limit_percent = b.unsigned32("limit_percentage", 0);
    let spike_percent = b.unsigned32("spike_limit_percentage", 0);
    if limit_mib == 0 && limit_percent == 0 {
        b.error("limit_mib or limit_percentage must be greater than zero", "limit_percentage: 80");
    }
    for (key, percent) in
        [("limit_percentage", limit_percent), ("spike_limit_percentage", spike_percent)]
    {
        if percent > 100 {
            b.error_at(key, format!("{percent} is more than 100"), "");
        }
    }
    if limit_mib > 0 && limit_mib <= spike_mib {
        b.error_at("spike_limit_mib", "must be less than limit_mib", "");
    }
    if limit_percent > 0 && limit_percent <= spike_percent {
        b.error_at("spike_limit_percentage", "must be less than limit_percentage", "");
    }
    collection_intervals(b);
    // The fixed limit has precedence over the percentage.
    let (limit, spike) = if limit_mib > 0 {
        (u64::from(limit_mib) << 20, u64::from(spike_mib) << 20)
    } else {
        let percent = |p: u32| machine.memory() / 100 * u64::from(p.min(100));
        (percent(limit_percent), percent(spike_percent))
    };
    Budget::new(limit, spike)
}

/// Intervals of Go's garbage collection: checked as the collector does, without effect.
fn collection_intervals(b: &mut Block<'_>) {
    let seconds = Duration::from_secs;
    let keys = [
        ("min_gc_interval_when_soft_limited", seconds(10)),
        ("min_gc_interval_when_hard_limited", seconds(0)),
        ("max_gc_interval_when_soft_limited", seconds(30)),
        ("max_gc_interval_when_hard_limited", seconds(30)),
    ];
    let read = |b: &mut Block<'_>, (key, default): (&'static str, Duration)| {
        let value = b.unrecorded(|b| b.duration(key, default));
        b.ignore(key, Kind::Duration, "there is no garbage collection to pace");
        value
    };
    let [min_soft, min_hard, max_soft, max_hard] = keys.map(|key| read(b, key));
    let capped = |max: Duration, min: Duration| !max.is_zero() && max < min;
    if min_soft < min_hard {
        b.error_at(keys[0].0, "must not be less than min_gc_interval_when_hard_limited", "");
    }
    if capped(max_soft, min_soft) {
        b.error_at(keys[2].0, "must not be less than min_gc_interval_when_soft_limited", "");
    }
    if capped(max_hard, min_hard) {
        b.error_at(keys[3].0, "must not be less than min_gc_interval_when_hard_limited", "");
    }
    if !max_hard.is_zero() && capped(max_soft, max_hard) {
        b.error_at(keys[2].0, "must not be less than max_gc_interval_when_hard_limited", "");
    }
}
