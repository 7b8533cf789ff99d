//! What a sampler has counted, and how long its work took.

use std::time::Duration;

use crate::runtime::clock;
use crate::sample::stats::Stats;
use crate::sample::{Moment, Shard, Step};
use crate::telemetry::Histogram;
use crate::telemetry::names::DECISION_TIMER_BOUNDS_MS;
use crate::time::{Instant, nanos};

/// One shard.
#[derive(Clone, Debug)]
pub struct SamplerSnapshot {
    /// Counters.
    pub stats: Stats,
    /// Entries in the map.
    pub traces: u64,
    /// Spans that are held.
    pub buffered: u64,
    /// Bytes that they take, directory and records included.
    pub bytes: u64,
    /// Age of the trace that has been in the map longest.
    pub oldest: Duration,
    /// Milliseconds that each tick took.
    pub timer: Histogram,
    /// CPU time of decisions, in nanoseconds.
    pub decide_nanos: u64,
    /// How late the last tick began.
    pub lag: Duration,
    /// The most CPU time that decisions took without a break.
    pub slice_max: Duration,
}

impl SamplerSnapshot {
    /// Copies the numbers of a shard.
    #[must_use]
    pub fn of(shard: &Shard, timings: &Timings, now: Instant) -> Self {
        Self {
            stats: shard.stats.clone(),
            traces: shard.traces() as u64,
            buffered: shard.buffered(),
            bytes: shard.bytes(),
            oldest: shard.oldest().map_or(Duration::ZERO, |at| now.since(at)),
            timer: timings.timer.clone(),
            decide_nanos: timings.decide_nanos,
            lag: timings.lag,
            slice_max: timings.slice_max,
        }
    }

    /// Adds what another core counted for the same pipeline.
    pub fn add(&mut self, other: &Self) {
        self.stats.merge(&other.stats);
        self.traces += other.traces;
        self.buffered += other.buffered;
        self.bytes += other.bytes;
        self.oldest = self.oldest.max(other.oldest);
        self.timer.merge(&other.timer);
        self.decide_nanos += other.decide_nanos;
        self.lag = self.lag.max(other.lag);
        self.slice_max = self.slice_max.max(other.slice_max);
    }
}

/// How long decisions take.
#[derive(Debug)]
pub struct Timings {
    timer: Histogram,
    decide_nanos: u64,
    lag: Duration,
    slice_max: Duration,
    /// The tick at hand: its number, and nanoseconds so far.
    tick: u64,
    tick_nanos: u64,
}

impl Timings {
    /// All zero.
    #[must_use]
    pub fn new(shard: &Shard) -> Self {
        Self {
            timer: Histogram::new(DECISION_TIMER_BOUNDS_MS),
            decide_nanos: 0,
            lag: Duration::ZERO,
            slice_max: Duration::ZERO,
            tick: shard.stats.ticks,
            tick_nanos: 0,
        }
    }

    /// Decisions have taken this much CPU time without a break.
    pub fn slice(&mut self, cpu: Duration) {
        self.slice_max = self.slice_max.max(cpu);
    }

    /// Does a step of `shard`, counts its time, and says when it was over.
    pub fn measure(
        &mut self,
        shard: &mut Shard,
        moment: Moment,
        step: impl FnOnce(&mut Shard, Moment) -> Step,
    ) -> (Step, Instant) {
        let due = shard.deadline();
        let before = shard.stats.ticks;
        let outcome = step(shard, moment);
        if outcome == Step::Idle {
            self.end_tick(before);
            return (outcome, moment.now);
        }
        let now = clock::now();
        let took = nanos(now.since(moment.now));
        self.decide_nanos += took;
        if shard.stats.ticks > before {
            self.end_tick(before);
            self.lag = moment.now.since(due);
        }
        self.tick_nanos += took;
        (outcome, now)
    }

    /// The tick before is over, if there was one that is not counted yet.
    fn end_tick(&mut self, ticks: u64) {
        if ticks > self.tick {
            self.tick = ticks;
            self.timer.record(self.tick_nanos / 1_000_000);
        }
        self.tick_nanos = 0;
    }
}
