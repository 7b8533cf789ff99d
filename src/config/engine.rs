//! The top-level key `tracemill`: what the collector has no word for. The collector refuses the
//! key, so it can stand in a second `--config` file.

use super::machine::Budget;
use super::print::Out;
use super::read::Block;
use crate::route::Generation;
use crate::runtime;
use crate::upstream::options::MergeOptions;

const CORES_MAX: u32 = 1024;

/// The block, read. It tells components what they share.
#[derive(Clone, Debug, PartialEq)]
pub struct Engine {
    /// Cores, waiting, shutdown; budgets are set later.
    pub options: runtime::Options,
    /// `memory_limit_mib` and `memory_spike_limit_mib`, if given.
    pub budget: Option<Budget>,
    /// `ring`: generation for all `load_balancing` exporters.
    pub ring: Generation,
    /// `merge`: how parts are merged into calls.
    pub merge: MergeOptions,
}

/// Reads the block.
pub fn read(b: &mut Block<'_>) -> Engine {
    let default = runtime::Options::default();
    let cores = b.has("cores").then(|| positive(b, "cores", 1));
    if cores.is_none() {
        b.record("cores", Out::left_out("one for each CPU, as far as the CPU quota reaches"));
    }
    let cpus = b.numbers("cpus", CORES_MAX);
    if !b.has("cpus") {
        b.record("cpus", Out::List(Vec::new()));
    }
    if let (Some(cores), false) = (cores, cpus.is_empty())
        && cores > cpus.len()
    {
        let what = format!("{cores} cores cannot be had from {} CPUs", cpus.len());
        b.error_at("cores", what, "leave cores out: it is then the length of cpus");
    }
    let options = runtime::Options {
        cores,
        cpus,
        pin: b.flag("pin", default.pin),
        spin: b.duration("spin", default.spin),
        soft_bytes: 0,
        hard_bytes: 0,
        ack_wait: b.duration("ack_wait", default.ack_wait),
        refuse_partial: b.flag("refuse_partial", default.refuse_partial),
        drain_timeout: b.duration("drain_timeout", default.drain_timeout),
        reload_interval: b.duration("reload_interval", default.reload_interval),
    };
    let rings = [("v1", Generation::V1), ("v2", Generation::V2), ("v3", Generation::V3)];
    let ring = b.choice("ring", "v3", &rings, Generation::default());
    let merge = b.block("merge", merge);
    Engine { options, budget: budget(b), ring, merge }
}

fn positive(b: &mut Block<'_>, key: &'static str, default: u32) -> usize {
    let n = b.unsigned32(key, default);
    if n == 0 || n > CORES_MAX {
        b.error_at(key, format!("must be within 1 and {CORES_MAX}"), "");
    }
    usize::try_from(n).unwrap_or(1)
}

fn merge(b: &mut Block<'_>) -> MergeOptions {
    let default = MergeOptions::default();
    let mut size = |key, default: usize| {
        let bytes = b.unsigned(key, u64::try_from(default).unwrap_or(u64::MAX));
        usize::try_from(bytes).unwrap_or(usize::MAX)
    };
    let bytes = size("bytes", default.bytes);
    let bytes_max = size("bytes_max", default.bytes_max);
    if bytes_max < bytes {
        let what = format!("{bytes_max} is less than bytes ({bytes})");
        b.error_at("bytes_max", what, &format!("bytes_max: {bytes}"));
    }
    let items_max = b.unsigned("items_max", default.items_max);
    let linger = b.duration("linger", default.linger);
    MergeOptions { bytes, bytes_max, items_max, linger, ..default }
}

fn budget(b: &mut Block<'_>) -> Option<Budget> {
    if !b.has("memory_limit_mib") {
        b.refuse_at_if_given("memory_spike_limit_mib", "stands only beside memory_limit_mib");
        b.record(
            "memory_limit_mib",
            Out::left_out("memory_limiter's, else by what the machine has"),
        );
        return None;
    }
    let limit = b.unsigned32("memory_limit_mib", 0);
    let spike = b.unsigned32("memory_spike_limit_mib", limit / 5);
    if limit == 0 {
        b.error_at("memory_limit_mib", "must be greater than zero", "memory_limit_mib: 400");
    } else if spike >= limit {
        b.error_at("memory_spike_limit_mib", "must be less than memory_limit_mib", "");
    }
    Some(Budget::new(u64::from(limit) << 20, u64::from(spike) << 20))
}
