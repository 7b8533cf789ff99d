//! What one queue has seen: plain numbers of one core.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::rpc::Code;
use crate::telemetry::Histogram;
use crate::telemetry::names::BACKEND_LATENCY_BOUNDS_MS;

/// Why items were lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Loss {
    /// The endpoint said so, and no retry was left or sensible.
    Code(Code),
    /// `max_elapsed_time` is over.
    Elapsed,
    /// The client had been told of the failure.
    Abandoned,
    /// The process ended.
    Shutdown,
    /// The disk did not take it.
    Unwritten,
    /// It has no form in the format of the file.
    Unencodable,
    /// It does not name the service that it is routed by.
    Ownerless,
}

impl Loss {
    /// Value of the `reason` label.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Code(code) => code.name(),
            Self::Elapsed => "retries_exhausted",
            Self::Abandoned => "abandoned",
            Self::Shutdown => "shutdown",
            Self::Unwritten => "write_failed",
            Self::Unencodable => "unencodable",
            Self::Ownerless => "no_service_name",
        }
    }
}

/// Counters of one queue. `offered = sent + lost + held`.
#[derive(Clone, Debug)]
pub struct Stats {
    /// Items that came.
    pub offered: u64,
    /// Items that the endpoint acknowledged.
    pub sent: u64,
    /// Of those, items that it then rejected (`partial_success`).
    pub rejected: u64,
    /// Items lost, by reason.
    pub losses: BTreeMap<Loss, u64>,
    /// What the last loss was about.
    pub last_loss: Option<Box<str>>,
    /// Items that found no room.
    pub overflowed: u64,
    /// Of those, items for which the queue at the balancer's own level had none.
    pub unplaced: u64,
    /// Calls made.
    pub calls: u64,
    /// Parts in those calls.
    pub parts: u64,
    /// Calls answered well.
    pub calls_ok: u64,
    /// Calls that failed.
    pub calls_failed: u64,
    /// Time from sending to the answer, in milliseconds.
    pub latency: Histogram,
}

impl Default for Stats {
    fn default() -> Self {
        Self {
            offered: 0,
            sent: 0,
            rejected: 0,
            losses: BTreeMap::new(),
            last_loss: None,
            overflowed: 0,
            unplaced: 0,
            calls: 0,
            parts: 0,
            calls_ok: 0,
            calls_failed: 0,
            latency: Histogram::new(&BACKEND_LATENCY_BOUNDS_MS),
        }
    }
}

impl Stats {
    /// Adds what another core counted for the same endpoint.
    pub fn add(&mut self, other: &Self) {
        self.offered += other.offered;
        self.sent += other.sent;
        self.rejected += other.rejected;
        for (&why, &items) in &other.losses {
            self.lose(why, items);
        }
        self.overflowed += other.overflowed;
        self.unplaced += other.unplaced;
        self.calls += other.calls;
        self.parts += other.parts;
        self.calls_ok += other.calls_ok;
        self.calls_failed += other.calls_failed;
        self.latency.merge(&other.latency);
    }

    /// Counts items that found no room, or no place in the queue before.
    pub fn overflow(&mut self, items: u64, lacks_place: bool) {
        self.overflowed += items;
        self.unplaced += if lacks_place { items } else { 0 };
    }

    /// Counts a loss.
    pub fn lose(&mut self, why: Loss, items: u64) {
        if items > 0 {
            *self.losses.entry(why).or_default() += items;
        }
    }

    /// All losses.
    #[must_use]
    pub fn lost(&self) -> u64 {
        self.losses.values().sum()
    }

    /// Counts the end of a call.
    pub fn answered(&mut self, took: Duration, ok: bool) {
        self.latency.record(u64::try_from(took.as_millis()).unwrap_or(u64::MAX));
        match ok {
            true => self.calls_ok += 1,
            false => self.calls_failed += 1,
        }
    }
}
