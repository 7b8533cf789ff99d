//! A sampler in simulated time: requests come at times that somebody else tells, and whatever is
//! due until then happens at its own time. For tools that try policies; nothing here waits.
//!
//! One shard stands for the process: limits and limiters hold for all of it, as in production.
//! Time never goes back. When nothing waits and nothing comes for more than a day, that time is
//! left out: a broken clock in a recording must not cost millions of ticks.

use std::time::Duration;

use super::{Fate, Moment, Options, Shard, Step};
use crate::otlp::{self, Index, Signal};
use crate::time::{Instant, nanos};

/// Of hashes; any number does, and verdicts do not depend on it.
const SEED: u64 = 7;
/// Longer stretches in which nothing happens are left out.
const PAUSE_MAX: Duration = Duration::from_secs(86_400);
/// No time is later, whatever a clock said (the year 2262).
const LATEST: u64 = i64::MAX as u64;

/// What happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event<'a> {
    /// A trace came to its end.
    Fate(Fate),
    /// A trace leaves, or late spans of one.
    Kept {
        /// Position of the policy that kept it; none for some late spans.
        policy: Option<u16>,
        /// How many.
        spans: u64,
        /// Repeated ResourceSpans.
        bytes: &'a [u8],
    },
}

/// A sampler and its clock.
#[derive(Debug)]
pub struct Simulation {
    shard: Shard,
    index: Index,
    unix_nanos: u64,
    /// What the clock of the shard is behind that of the world.
    left_out: u64,
    bytes_max: u64,
    /// How far requests were delayed in all, because new traces wait for room.
    delayed: Duration,
}

impl Simulation {
    /// A sampler that starts at `unix_nanos`. When it holds more than `bytes_max`, the oldest
    /// traces are decided early.
    ///
    /// # Errors
    /// A policy that does not compile, which configuration has found before.
    pub fn new(options: &Options, unix_nanos: u64, bytes_max: u64) -> Result<Self, String> {
        let mut shard = Shard::alone(Instant(unix_nanos), options, SEED)?;
        shard.tell_fates();
        let (index, delayed) = (Index::new(), Duration::ZERO);
        Ok(Self { shard, index, unix_nanos, left_out: 0, bytes_max, delayed })
    }

    /// The sampler.
    #[must_use]
    pub const fn shard(&self) -> &Shard {
        &self.shard
    }

    /// The clock of the world, nanoseconds since 1970.
    #[must_use]
    pub const fn unix_nanos(&self) -> u64 {
        self.unix_nanos
    }

    /// How long requests were held back in all, because new traces wait for room
    /// (`block_on_overflow`).
    #[must_use]
    pub const fn delayed(&self) -> Duration {
        self.delayed
    }

    /// Takes a request that comes at `unix_nanos`, or at once if that is past. Its spans.
    ///
    /// # Errors
    /// What is wrong with the request; then nothing of it is taken.
    pub fn arrive(
        &mut self,
        unix_nanos: u64,
        body: &[u8],
        seen: &mut dyn FnMut(Event<'_>),
    ) -> Result<u64, otlp::Error> {
        self.advance(unix_nanos, seen);
        otlp::scan(Signal::Traces, body, &mut self.index)?;
        self.shard.check(body, &self.index)?;
        let before = self.unix_nanos;
        while !self.shard.has_room(body, &self.index, |_| true) {
            self.advance(self.world(self.shard.deadline()), seen);
        }
        self.delayed += Duration::from_nanos(self.unix_nanos - before);
        while self.shard.bytes() + body.len() as u64 > self.bytes_max
            && self.shard.hasten(self.moment())
        {
            self.work(seen);
        }
        self.shard.push(self.moment(), body, &self.index);
        self.work(seen);
        Ok(self.index.items().len() as u64)
    }

    /// Lets time pass, up to `unix_nanos`.
    pub fn advance(&mut self, unix_nanos: u64, seen: &mut dyn FnMut(Event<'_>)) {
        let unix_nanos = unix_nanos.min(LATEST);
        while self.world(self.shard.deadline()) <= unix_nanos {
            self.unix_nanos = self.world(self.shard.deadline());
            self.work(seen);
            let ahead = Duration::from_nanos(unix_nanos - self.unix_nanos);
            if ahead > PAUSE_MAX && self.shard.is_idle() {
                self.left_out += nanos(Duration::from_secs(ahead.as_secs()));
            }
        }
        self.unix_nanos = self.unix_nanos.max(unix_nanos);
    }

    /// Lets time pass until every trace has come to its end.
    pub fn settle(&mut self, seen: &mut dyn FnMut(Event<'_>)) {
        while !self.shard.is_idle() {
            self.advance(self.world(self.shard.deadline()), seen);
        }
    }

    /// The end of the process: what waits is decided or given up, as the options say.
    pub fn finish(&mut self, seen: &mut dyn FnMut(Event<'_>)) {
        self.shard.finish(self.moment());
        self.work(seen);
    }

    fn moment(&self) -> Moment {
        let now = Instant(self.unix_nanos - self.left_out);
        Moment { now, unix_nanos: self.unix_nanos }
    }

    fn world(&self, of_shard: Instant) -> u64 {
        of_shard.0.saturating_add(self.left_out)
    }

    fn work(&mut self, seen: &mut dyn FnMut(Event<'_>)) {
        loop {
            let step = self.shard.poll(self.moment());
            self.shard.fates().for_each(|fate| seen(Event::Fate(fate)));
            match step {
                Step::Kept(spans) => {
                    let (policy, bytes) = (self.shard.kept_by(), self.shard.kept());
                    seen(Event::Kept { policy, spans, bytes });
                }
                Step::Busy => {}
                Step::Idle => return,
            }
        }
    }
}
