//! What of the machine a configuration depends on: its memory, for budgets.

use std::fs;

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

/// The machine as the loader sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Machine {
    /// Bytes of memory.
    pub memory_bytes: u64,
    /// Bytes that the control group allows, if it sets a limit.
    pub cgroup_bytes: Option<u64>,
    /// `service.instance.id` of this process: random, unless the configuration names one.
    pub instance_id: String,
}

/// Bytes of telemetry that the process may hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Budget {
    /// Replies are delayed from here.
    pub soft: u64,
    /// Requests are refused from here.
    pub hard: u64,
}

impl Budget {
    /// `limit` and how far below it the soft limit lies; 0 takes 20 % (otlp 4.7).
    #[must_use]
    pub fn new(limit: u64, spike: u64) -> Self {
        let spike = if spike == 0 { limit / 5 } else { spike };
        Self { soft: limit.saturating_sub(spike), hard: limit }
    }

    /// The smaller of both.
    #[must_use]
    pub fn min(self, other: Self) -> Self {
        Self { soft: self.soft.min(other.soft), hard: self.hard.min(other.hard) }
    }
}

/// Of this process: the same whenever the configuration is read.
static INSTANCE_ID: OnceLock<String> = OnceLock::new();

fn instance_id() -> String {
    let drawn = fs::read_to_string("/proc/sys/kernel/random/uuid");
    drawn.map_or_else(|_| std::process::id().to_string(), |id| id.trim().to_owned())
}

impl Machine {
    /// Asks the operating system.
    #[must_use]
    pub fn read() -> Self {
        let memory_bytes = fs::read_to_string("/proc/meminfo")
            .ok()
            .and_then(|text| meminfo_total(&text))
            .unwrap_or(1 << 30);
        let cgroup_bytes = cgroup_limit().filter(|limit| *limit < memory_bytes);
        let instance_id = INSTANCE_ID.get_or_init(instance_id).clone();
        Self { memory_bytes, cgroup_bytes, instance_id }
    }

    /// What percentages are of: the limit of the control group, else all memory.
    #[must_use]
    pub fn memory(&self) -> u64 {
        self.cgroup_bytes.unwrap_or(self.memory_bytes)
    }

    /// The budget of a configuration that sets none: 75 % of the control group's limit, else half
    /// of the memory.
    #[must_use]
    pub fn default_budget(&self) -> Budget {
        let limit = match self.cgroup_bytes {
            Some(limit) => limit / 4 * 3,
            None => self.memory_bytes / 2,
        };
        Budget::new(limit, 0)
    }
}

fn meminfo_total(text: &str) -> Option<u64> {
    let line = text.lines().find_map(|l| l.strip_prefix("MemTotal:"))?;
    let kib: u64 = line.split_whitespace().next()?.parse().ok()?;
    Some(kib << 10)
}

/// The smallest limit from the process's control group up to the root.
fn cgroup_limit() -> Option<u64> {
    let membership = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let mut limits = Vec::new();
    for (root, file, path) in cgroup_paths(&membership) {
        let mut dir = PathBuf::from(root).join(path.trim_start_matches('/'));
        loop {
            if let Some(limit) = read_limit(&dir.join(file)) {
                limits.push(limit);
            }
            if dir == Path::new(root) || !dir.pop() {
                break;
            }
        }
    }
    limits.into_iter().min()
}

/// Mount, file and path of the memory controller, version 2 and 1.
fn cgroup_paths(membership: &str) -> Vec<(&'static str, &'static str, String)> {
    let mut paths = Vec::new();
    for line in membership.lines() {
        let mut parts = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(path)) = (parts.next(), parts.next()) else { continue };
        if controllers.is_empty() {
            paths.push(("/sys/fs/cgroup", "memory.max", path.to_owned()));
        } else if controllers.split(',').any(|c| c == "memory") {
            paths.push(("/sys/fs/cgroup/memory", "memory.limit_in_bytes", path.to_owned()));
        }
    }
    paths
}

fn read_limit(file: &Path) -> Option<u64> {
    fs::read_to_string(file).ok()?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn budgets_follow_the_control_group_else_the_memory() {
        let mut machine =
            Machine { memory_bytes: 1000, cgroup_bytes: Some(400), instance_id: String::new() };
        assert_eq!(machine.default_budget(), Budget { soft: 240, hard: 300 });
        machine.cgroup_bytes = None;
        assert_eq!(machine.default_budget(), Budget { soft: 400, hard: 500 });
    }

    #[test]
    fn the_operating_systems_files_are_understood() {
        assert_eq!(meminfo_total("MemTotal:  16 kB\nMemFree: 1 kB\n"), Some(16 << 10));
        assert_eq!(meminfo_total("nothing"), None);
        let both = "12:cpu,memory:/a\n0::/b\n1:name=x:/c\n";
        assert_eq!(
            cgroup_paths(both),
            [
                ("/sys/fs/cgroup/memory", "memory.limit_in_bytes", "/a".to_owned()),
                ("/sys/fs/cgroup", "memory.max", "/b".to_owned()),
            ]
        );
        assert!(Machine::read().memory_bytes > 0);
    }
}
