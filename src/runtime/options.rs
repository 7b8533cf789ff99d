//! What can be set on the process (top-level key `tracemill:`).

use std::time::Duration;

/// Cores, memory and shutdown of the process.
#[derive(Clone, Debug, PartialEq)]
pub struct Options {
    /// Number of data cores; `None` takes affinity mask ∩ cgroup quota.
    pub cores: Option<usize>,
    /// CPUs to use, in order; empty takes those of the affinity mask.
    pub cpus: Vec<usize>,
    /// Pin each data core to its CPU.
    pub pin: bool,
    /// Spin this long before a core sleeps; zero saves power, more lowers latency.
    pub spin: Duration,
    /// Bytes of telemetry held by the process at which replies are delayed.
    pub soft_bytes: u64,
    /// Bytes of telemetry held by the process at which requests are refused.
    pub hard_bytes: u64,
    /// A client is answered after this long although a backend has not answered yet; its data is
    /// then owned by the queue.
    pub ack_wait: Duration,
    /// Refuse a request as a whole when only some of its endpoints have room (default: accept the
    /// others' parts and say so in `partial_success`).
    pub refuse_partial: bool,
    /// Time to deliver what is owned after SIGTERM.
    pub drain_timeout: Duration,
    /// The configuration is read again this often, and taken if it has changed; zero: only on
    /// SIGHUP.
    pub reload_interval: Duration,
}

impl Default for Options {
    /// `soft_bytes` and `hard_bytes` are set by the loader from the machine.
    fn default() -> Self {
        Self {
            cores: None,
            cpus: Vec::new(),
            pin: true,
            spin: Duration::ZERO,
            soft_bytes: 0,
            hard_bytes: 0,
            ack_wait: Duration::from_secs(1),
            refuse_partial: false,
            drain_timeout: Duration::from_secs(10),
            reload_interval: Duration::ZERO,
        }
    }
}
