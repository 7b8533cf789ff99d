//! How many data cores the process may use, and which: affinity mask ∩ cgroup quota, or as set.

use std::fs;
use std::path::{Path, PathBuf};

use super::Options;

/// Why the cores asked for cannot be had.
#[derive(Debug, PartialEq, Eq)]
pub enum Error {
    /// A CPU of `tracemill.cpus` is not in the affinity mask of the process.
    NotAllowed {
        /// As configured.
        cpu: usize,
        /// What the process may use.
        allowed: Vec<usize>,
    },
}

impl std::fmt::Display for Error {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::NotAllowed { cpu, allowed } => write!(
                f,
                "tracemill::cpus: CPU {cpu} is not one that this process may use ({allowed:?}); \
                 see `taskset -p $$` and the cpuset of the service, or leave the key out"
            ),
        }
    }
}

/// The CPU of each data core, at least one.
///
/// # Errors
/// If a CPU that was asked for is outside the affinity mask.
pub fn choose(options: &Options) -> Result<Vec<usize>, Error> {
    let mut allowed: Vec<usize> =
        core_affinity::get_core_ids().unwrap_or_default().iter().map(|c| c.id).collect();
    if allowed.is_empty() {
        allowed.push(0);
    }
    plan(options, &allowed, quota())
}

/// Pure part of [`choose`]: `quota` is in whole CPUs, rounded up.
fn plan(options: &Options, allowed: &[usize], quota: Option<usize>) -> Result<Vec<usize>, Error> {
    if let Some(&cpu) = options.cpus.iter().find(|c| !allowed.contains(c)) {
        return Err(Error::NotAllowed { cpu, allowed: allowed.to_vec() });
    }
    let from = if options.cpus.is_empty() { allowed } else { &options.cpus };
    let count = match (options.cores, options.cpus.is_empty()) {
        (Some(n), _) => n,
        (None, false) => from.len(),
        (None, true) => quota.map_or(from.len(), |q| q.min(from.len())),
    };
    // More cores than CPUs is allowed (tests, small machines): they share.
    Ok((0..count.max(1)).map(|i| from[i % from.len()]).collect())
}

/// CPU quota of the cgroup (v2 `cpu.max`, v1 `cpu.cfs_quota_us`), the smallest on the way up,
/// in whole CPUs, rounded up.
fn quota() -> Option<usize> {
    let own = fs::read_to_string("/proc/self/cgroup").ok()?;
    let v2 = own.lines().find_map(|l| l.strip_prefix("0::"))?;
    let root = Path::new("/sys/fs/cgroup");
    let mut dir: PathBuf = root.join(v2.trim_start_matches('/'));
    let mut smallest = None;
    loop {
        if let Some(q) = fs::read_to_string(dir.join("cpu.max")).ok().as_deref().and_then(cpu_max) {
            smallest = Some(smallest.map_or(q, |s: usize| s.min(q)));
        }
        if dir == root || !dir.pop() {
            return smallest;
        }
    }
}

/// `"150000 100000"` → 2; `"max 100000"` → none.
fn cpu_max(text: &str) -> Option<usize> {
    let (quota, period) = text.trim().split_once(' ')?;
    let (quota, period): (usize, usize) = (quota.parse().ok()?, period.parse().ok()?);
    (period > 0).then(|| quota.div_ceil(period).max(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(cores: Option<usize>, cpus: &[usize]) -> Options {
        Options { cores, cpus: cpus.to_vec(), ..Options::default() }
    }

    #[test]
    fn cores_are_affinity_limited_by_quota_unless_set() {
        for (cores, cpus, quota, want) in [
            (None, &[][..], None, vec![2, 3, 5]),
            (None, &[][..], Some(2), vec![2, 3]),
            (Some(1), &[][..], Some(2), vec![2]),
            (Some(4), &[][..], None, vec![2, 3, 5, 2]),
            (None, &[5, 3][..], Some(1), vec![5, 3]),
            (Some(0), &[][..], None, vec![2]),
        ] {
            assert_eq!(plan(&options(cores, cpus), &[2, 3, 5], quota), Ok(want));
        }
    }

    #[test]
    fn a_cpu_outside_the_mask_is_refused_by_name() {
        let err = plan(&options(None, &[7]), &[0, 1], None).unwrap_err();
        assert!(err.to_string().contains("CPU 7"), "{err}");
    }

    #[test]
    fn cpu_max_is_read_as_whole_cpus_rounded_up() {
        for (text, want) in [
            ("max 100000\n", None),
            ("100000 100000\n", Some(1)),
            ("150000 100000", Some(2)),
            ("5000 100000", Some(1)),
            ("", None),
        ] {
            assert_eq!(cpu_max(text), want, "{text:?}");
        }
    }
}
