//! How many traces the process holds: `num_traces` is a limit over all shards.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Two atomics, touched when a trace comes, is decided, and goes.
#[derive(Debug)]
pub struct Census {
    max: u64,
    traces: AtomicU64,
    waiting: AtomicU64,
}

impl Census {
    /// At most `max` traces.
    #[must_use]
    pub const fn new(max: u64) -> Self {
        Self { max, traces: AtomicU64::new(0), waiting: AtomicU64::new(0) }
    }

    /// Whether a new trace would be one too many.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.traces.load(Relaxed) >= self.max
    }

    /// Traces that wait for their decision.
    #[must_use]
    pub fn waiting(&self) -> u64 {
        self.waiting.load(Relaxed)
    }

    /// The limit.
    #[must_use]
    pub const fn max(&self) -> u64 {
        self.max
    }

    pub(super) fn wait(&self) {
        self.waiting.fetch_add(1, Relaxed);
    }

    pub(super) fn decide(&self) {
        self.waiting.fetch_sub(1, Relaxed);
    }

    pub(super) fn add(&self) {
        self.traces.fetch_add(1, Relaxed);
    }

    pub(super) fn remove(&self) {
        self.traces.fetch_sub(1, Relaxed);
    }
}
