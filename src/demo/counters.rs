//! What the nodes say of themselves: their own counters, summed over cores, in spans.

use std::time::Duration;

use crate::otlp::Signal;
use crate::router::snapshot::Snapshot;
use crate::rpc::service::Transport;
use crate::sample::stats::Outcome;
use crate::sampler::SamplerSnapshot;

/// A router or a sampler.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Counters {
    pub accepted: u64,
    pub refused: u64,
    /// By endpoint: offered, sent, failed, in flight.
    pub lanes: Vec<[u64; 4]>,
    /// Of a sampler.
    pub sampling: Sampling,
}

/// A `tail_sampling` processor.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Sampling {
    pub accepted: u64,
    pub kept: u64,
    pub dropped: u64,
    pub lost: u64,
    pub buffered: u64,
    /// Traces that came.
    pub new_traces: u64,
    /// Traces that were decided: kept, not kept.
    pub decided: [u64; 2],
    /// By policy, the traces that it voted to keep, and to drop.
    pub votes: Vec<[u64; 2]>,
    /// Bytes of the buffer.
    pub bytes: u64,
    /// How late the last tick began.
    pub lag: Duration,
}

impl Counters {
    /// `endpoints` in the order of their numbers.
    pub(super) fn of(snapshots: &[Snapshot], endpoints: &[String]) -> Self {
        let mut sums = Self { lanes: vec![[0; 4]; endpoints.len()], ..Self::default() };
        for snapshot in snapshots {
            for (_, received) in &snapshot.received {
                let received = &received[Transport::Grpc as usize][Signal::Traces as usize];
                sums.accepted += received.accepted;
                sums.refused += received.refused;
            }
            for lane in &snapshot.lanes {
                let Some(at) = endpoints.iter().position(|a| *a == lane.endpoint) else { continue };
                let stats = &lane.stats;
                let counts = [stats.offered, stats.sent, stats.lost(), lane.held_items];
                sums.lanes[at].iter_mut().zip(counts).for_each(|(sum, n)| *sum += n);
            }
            snapshot.samplers.iter().for_each(|sampler| sums.sampling.add(&Sampling::of(sampler)));
        }
        sums
    }

    /// Spans in its queues.
    pub(super) fn in_flight(&self) -> u64 {
        self.total()[3]
    }

    /// Offered, sent, failed, in flight.
    pub(super) fn total(&self) -> [u64; 4] {
        let column = |at| self.lanes.iter().map(|lane: &[u64; 4]| lane[at]).sum();
        [column(0), column(1), column(2), column(3)]
    }

    /// Whether every endpoint's `offered = sent + failed + in flight`.
    pub(super) fn lanes_hold(&self) -> bool {
        self.lanes.iter().all(|&[offered, sent, failed, held]| offered == sent + failed + held)
    }
}

impl Sampling {
    fn of(snapshot: &SamplerSnapshot) -> Self {
        let stats = &snapshot.stats;
        let [kept, not_kept, dropped] = stats.decided;
        let at = |outcome: Outcome| outcome as usize;
        let votes = stats.votes.iter();
        Self {
            accepted: stats.accepted,
            kept: stats.kept,
            dropped: stats.dropped,
            lost: stats.lost.evicted + stats.lost.too_large + stats.lost.shutdown,
            buffered: snapshot.buffered,
            new_traces: stats.new_traces,
            decided: [kept, not_kept + dropped],
            votes: votes
                .map(|v| [Outcome::Sampled, Outcome::Dropped].map(|o| v.traces[at(o)]))
                .collect(),
            bytes: snapshot.bytes,
            lag: snapshot.lag,
        }
    }

    /// Adds what another counted under the same policies.
    pub(super) fn add(&mut self, other: &Self) {
        self.accepted += other.accepted;
        self.kept += other.kept;
        self.dropped += other.dropped;
        self.lost += other.lost;
        self.buffered += other.buffered;
        self.new_traces += other.new_traces;
        self.decided[0] += other.decided[0];
        self.decided[1] += other.decided[1];
        self.votes.resize(self.votes.len().max(other.votes.len()), [0; 2]);
        for (mine, theirs) in self.votes.iter_mut().zip(&other.votes) {
            mine[0] += theirs[0];
            mine[1] += theirs[1];
        }
        self.bytes += other.bytes;
        self.lag = self.lag.max(other.lag);
    }

    /// Traces that are not decided yet.
    pub(super) fn undecided(&self) -> u64 {
        self.new_traces.saturating_sub(self.decided[0] + self.decided[1])
    }

    /// `accepted = kept + dropped + lost + buffered`.
    pub(super) fn holds(&self) -> bool {
        self.accepted == self.kept + self.dropped + self.lost + self.buffered
    }
}
