//! CPU time and memory of the process and of single threads, from `/proc`.
//!
//! Read on the control thread, once per scrape. Time is the caller's. The kernel counts CPU time
//! of a process in ticks of 10 ms on every architecture this runs on; that of a thread in
//! nanoseconds where the kernel keeps scheduling statistics.

use std::io::{Error, ErrorKind, Result};
use std::time::Duration;

use super::names;
use super::page::Page;
use crate::time::Instant;

/// Length of the ticks of `/proc/*/stat`: `USER_HZ` is 100.
const TICK: Duration = Duration::from_millis(10);

/// What the kernel says of this process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Process {
    /// User and system time of all threads.
    pub cpu: Duration,
    /// Resident set, in bytes.
    pub memory_rss: u64,
}

impl Process {
    /// Reads `/proc/self`. Fails where that is not mounted or not understood.
    pub fn read() -> Result<Self> {
        let stat = std::fs::read_to_string("/proc/self/stat")?;
        let status = std::fs::read_to_string("/proc/self/status")?;
        Ok(Self {
            cpu: cpu_of_stat(&stat).ok_or_else(|| odd("/proc/self/stat"))?,
            memory_rss: rss_of_status(&status).ok_or_else(|| odd("/proc/self/status"))?,
        })
    }

    /// Writes `otelcol_process_*`; `now` counts from the start of the process.
    pub fn show(&self, page: &mut Page, now: Instant) {
        let uptime = now.since(Instant::default());
        page.counter_f64(&names::PROCESS_CPU_SECONDS, &[], self.cpu.as_secs_f64());
        page.gauge(&names::PROCESS_MEMORY_RSS, &[], self.memory_rss as f64);
        page.counter_f64(&names::PROCESS_UPTIME, &[], uptime.as_secs_f64());
    }
}

/// CPU time that the thread `tid` (as of `gettid`) of this process has used.
pub fn thread_cpu(tid: u32) -> Result<Duration> {
    let task = format!("/proc/self/task/{tid}");
    let exact = std::fs::read_to_string(format!("{task}/schedstat")).ok();
    if let Some(cpu) = exact.as_deref().and_then(cpu_of_schedstat) {
        return Ok(cpu);
    }
    let stat = std::fs::read_to_string(format!("{task}/stat"))?;
    cpu_of_stat(&stat).ok_or_else(|| odd("/proc/self/task/*/stat"))
}

fn odd(file: &str) -> Error {
    Error::new(ErrorKind::InvalidData, format!("{file} is not understood"))
}

/// proc(5): utime and stime are fields 14 and 15; the name before them may hold blanks and
/// parentheses, so fields are counted from its last parenthesis.
fn cpu_of_stat(stat: &str) -> Option<Duration> {
    let (_, fields) = stat.rsplit_once(')')?;
    let mut fields = fields.split_ascii_whitespace().skip(11);
    let user: u32 = fields.next()?.parse().ok()?;
    let system: u32 = fields.next()?.parse().ok()?;
    Some(TICK * user + TICK * system)
}

/// The first number is the time on a CPU, in nanoseconds. It stays 0 in kernels that do not count.
fn cpu_of_schedstat(schedstat: &str) -> Option<Duration> {
    let nanos: u64 = schedstat.split_ascii_whitespace().next()?.parse().ok()?;
    (nanos > 0).then_some(Duration::from_nanos(nanos))
}

fn rss_of_status(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: u64 = line.trim().strip_suffix(" kB")?.parse().ok()?;
    Some(kib * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpu_time_is_user_plus_system_whatever_the_name() {
        let stat = "42 (a) b (c) S 1 42 42 0 -1 4194560 1 2 3 4 250 31 7 8 20 0 1 0 100";
        assert_eq!(cpu_of_stat(stat), Some(Duration::from_millis(2810)));
        for broken in ["", "42 (x", "42 (x) S 1", "42 (x) S 1 2 3 4 5 6 7 8 9 10 u s"] {
            assert_eq!(cpu_of_stat(broken), None, "{broken}");
        }
    }

    #[test]
    fn thread_time_is_exact_where_the_kernel_counts() {
        assert_eq!(cpu_of_schedstat("1234567 89 3\n"), Some(Duration::from_nanos(1_234_567)));
        assert_eq!(cpu_of_schedstat("0 0 0\n"), None);
        assert_eq!(cpu_of_schedstat(""), None);
    }

    #[test]
    fn resident_memory_is_in_bytes() {
        let status = "Name:\tx\nVmHWM:\t  900 kB\nVmRSS:\t  512 kB\nThreads:\t2\n";
        assert_eq!(rss_of_status(status), Some(512 * 1024));
        assert_eq!(rss_of_status("Name:\tkthreadd\n"), None);
    }

    #[test]
    fn this_process_can_be_read() {
        let process = Process::read().unwrap();
        assert!(process.memory_rss > 0);
        thread_cpu(std::process::id()).unwrap();
    }
}
