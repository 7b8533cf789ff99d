//! What one shard has counted, in plain numbers (tailsampling 4).

use crate::telemetry::Histogram;

/// Upper bounds of the ages, in seconds.
pub const AGE_BOUNDS: &[u64] =
    &[0, 5, 10, 25, 50, 75, 100, 250, 500, 750, 1_000, 2_500, 5_000, 7_500, 10_000];

/// How a trace, or a vote about it, came out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Kept.
    Sampled,
    /// Not kept.
    NotSampled,
    /// Not kept, by a drop policy.
    Dropped,
}

impl Outcome {
    /// In the order of the tables below.
    pub const ALL: [Self; 3] = [Self::Sampled, Self::NotSampled, Self::Dropped];
}

/// What one policy did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Votes {
    /// Traces, by outcome.
    pub traces: [u64; 3],
    /// Spans of them.
    pub spans: [u64; 3],
    /// Bytes of them, as the collector counts; 0 if nobody asks.
    pub bytes: [u64; 3],
    /// How often it was asked.
    pub executions: u64,
}

/// Spans that left the buffer without being kept, by reason.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Lost {
    /// Pushed out by `num_traces` before a decision.
    pub evicted: u64,
    /// Their trace was larger than `maximum_trace_size_bytes`.
    pub too_large: u64,
    /// Undecided at shutdown, with `drop_pending_traces_on_shutdown`.
    pub shutdown: u64,
}

/// All counters. Spans are conserved:
/// `accepted = kept + dropped + lost + buffered`.
#[derive(Clone, Debug)]
pub struct Stats {
    /// Spans admitted.
    pub accepted: u64,
    /// Spans that left to be exported.
    pub kept: u64,
    /// Spans whose trace was not kept, late ones included.
    pub dropped: u64,
    /// Spans that were never decided about.
    pub lost: Lost,
    /// Traces given up at shutdown, with `drop_pending_traces_on_shutdown`.
    pub given_up: u64,
    /// Entries made in the map.
    pub new_traces: u64,
    /// Traces decided, by outcome.
    pub decided: [u64; 3],
    /// By policy, in the order of the program.
    pub votes: Vec<Votes>,
    /// Policies that failed.
    pub errors: u64,
    /// Ids that were due and not there.
    pub dropped_too_early: u64,
    /// Traces above `maximum_trace_size_bytes`.
    pub too_large: u64,
    /// Traces decided before their time because memory ran short.
    pub decided_early: u64,
    /// Spans released or discarded by a decision cache: sampled, not sampled.
    pub early_releases: [u64; 2],
    /// Late spans of traces that a drop policy has dropped, which the collector warns about.
    pub late_dropped: u64,
    /// Spans whose tracestate could not be read when a threshold was to be written.
    pub unparseable_states: u64,
    /// Seconds from arrival to removal from the map.
    pub removal_age: Histogram,
    /// Seconds from a decision to late spans.
    pub late_age: Histogram,
    /// Entries in the map at the last tick.
    pub traces_at_tick: u64,
    /// Ticks so far.
    pub ticks: u64,
}

impl Stats {
    /// All zero.
    #[must_use]
    pub fn new(policies: usize) -> Self {
        Self {
            accepted: 0,
            kept: 0,
            dropped: 0,
            lost: Lost::default(),
            given_up: 0,
            new_traces: 0,
            decided: [0; 3],
            votes: vec![Votes::default(); policies],
            errors: 0,
            dropped_too_early: 0,
            too_large: 0,
            decided_early: 0,
            early_releases: [0; 2],
            late_dropped: 0,
            unparseable_states: 0,
            removal_age: Histogram::new(AGE_BOUNDS),
            late_age: Histogram::new(AGE_BOUNDS),
            traces_at_tick: 0,
            ticks: 0,
        }
    }

    /// Adds what another shard counted under the same program.
    pub fn merge(&mut self, other: &Self) {
        self.accepted += other.accepted;
        self.kept += other.kept;
        self.dropped += other.dropped;
        self.lost.evicted += other.lost.evicted;
        self.lost.too_large += other.lost.too_large;
        self.lost.shutdown += other.lost.shutdown;
        self.given_up += other.given_up;
        self.new_traces += other.new_traces;
        add(&mut self.decided, &other.decided);
        for (mine, theirs) in self.votes.iter_mut().zip(&other.votes) {
            add(&mut mine.traces, &theirs.traces);
            add(&mut mine.spans, &theirs.spans);
            add(&mut mine.bytes, &theirs.bytes);
            mine.executions += theirs.executions;
        }
        self.errors += other.errors;
        self.dropped_too_early += other.dropped_too_early;
        self.too_large += other.too_large;
        self.decided_early += other.decided_early;
        add(&mut self.early_releases, &other.early_releases);
        self.late_dropped += other.late_dropped;
        self.unparseable_states += other.unparseable_states;
        self.removal_age.merge(&other.removal_age);
        self.late_age.merge(&other.late_age);
        self.traces_at_tick += other.traces_at_tick;
        self.ticks = self.ticks.max(other.ticks);
    }
}

fn add(mine: &mut [u64], theirs: &[u64]) {
    mine.iter_mut().zip(theirs).for_each(|(m, t)| *m += t);
}
