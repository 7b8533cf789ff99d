//! One shard: the traces of one core, from their first span to the bytes that leave.
//!
//! The owner calls [`Shard::check`] and [`Shard::push`] for each request, and [`Shard::poll`]
//! until it is idle, at [`Shard::deadline`] and whenever something was pushed. What leaves is read
//! from [`Shard::kept`]. Where there are several shards, [`Shard::divide`] and [`Shard::push_own`]
//! take the place of the push, and [`Shard::receive`] that of the check in another one.
//!
//! Invariants: a trace has one home; `accepted = kept + dropped + lost + buffered` in spans, after
//! every call; nothing is decided twice; what leaves is byte for byte what came in, unless a
//! feature gate asks for more.

use std::sync::Arc;

use super::buffer::{Address, Buffer};
use super::census::{Census, Seat};
use super::chains::Chains;
use super::decided::Decided;
use super::fate::{End, Fate};
use super::gather::Gather;
use super::hash::Key;
use super::intern::Interner;
use super::options::{Gates, Options, Strategy};
use super::ottl::EvalError;
use super::policy::Limiters;
use super::program::{Ignored, Program};
use super::states::States;
use super::stats::Stats;
use super::threshold::Threshold;
use super::traces::{State, Trace, Traces};
use super::wheel::{Due, NO_SET, Wheel};
use crate::otlp::span::Notes;
use crate::time::{Instant, nanos};

mod ahead;
mod decide;
mod ingest;
mod leave;
mod lines;
mod share;
mod ticks;

use lines::Lines;
pub use share::Share;
pub use ticks::Step;

/// What a shard is made with.
#[derive(Clone, Debug)]
pub struct Setup {
    /// The policies.
    pub program: Arc<Program>,
    /// Limiters of the process.
    pub limiters: Arc<Limiters>,
    /// Traces of the process.
    pub census: Arc<Census>,
    /// How many shards there are.
    pub shards: usize,
    /// Of this process, the same for all of its shards; differs from that of other hashes.
    pub seed: u64,
}

/// A moment on both clocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moment {
    /// Monotonic.
    pub now: Instant,
    /// Wall clock, nanoseconds since 1970.
    pub unix_nanos: u64,
}

impl Moment {
    /// The same clocks at `now`.
    #[must_use]
    pub fn later(self, now: Instant) -> Self {
        let unix_nanos = self.unix_nanos.saturating_add(nanos(now.since(self.now)));
        Self { now, unix_nanos }
    }
}

/// The tail sampler of one core.
#[derive(Debug)]
pub struct Shard {
    program: Arc<Program>,
    limiters: Arc<Limiters>,
    census: Seat,
    rules: Rules,
    traces: Traces,
    chains: Chains,
    buffer: Buffer,
    resources: Interner,
    scopes: Interner,
    sampled: Decided,
    not_sampled: Decided,
    wheel: Wheel,
    tick: Option<Tick>,
    /// Decided to be kept, in order, not gathered yet.
    leaving: std::collections::VecDeque<Leaving>,
    gather: Gather,
    /// Spans that were gathered and nobody has taken yet.
    in_hand: u64,
    ingest: Ingest,
    /// What tracestates said, with the gate.
    states: States,
    /// What became of traces, for who asked to hear it.
    fates: Option<Vec<Fate>>,
    /// Errors of conditions that somebody is to be told of.
    ignored: Vec<Ignored>,
    /// The policy that kept what left last.
    kept_by: Option<u16>,
    /// What has been counted.
    pub stats: Stats,
}

/// What the options say about the life of a trace.
#[derive(Clone, Copy, Debug)]
struct Rules {
    after_root: Option<std::time::Duration>,
    block_on_overflow: bool,
    first_match: bool,
    span_ingest: bool,
    drop_pending: bool,
    trace_bytes_max: u64,
    gates: Gates,
    /// Traces can be decided before the last tick of their segment.
    early: bool,
}

/// The set that is being decided.
#[derive(Debug)]
struct Tick {
    number: u64,
    moment: Moment,
    /// Decided before its time, because memory is short.
    early: bool,
    due: Vec<Due>,
    /// Ids in the set whose traces went before.
    strays: Vec<[u8; 16]>,
    /// Whether the drop policies have been asked about all of them, which comes first.
    has_dropped: bool,
    /// How many of them have been looked at, by drop policies or the others.
    next: usize,
    /// How often policies were asked so far.
    asked: u32,
    /// Thresholds of limiters, with the gate.
    limits: Vec<Option<Threshold>>,
}

/// A trace, or late spans of one, on the way out.
#[derive(Debug)]
struct Leaving {
    chain: u32,
    marks: Marks,
}

/// What a feature gate adds.
#[derive(Clone, Debug, Default)]
struct Marks {
    policy: Option<u16>,
    composite: Option<Box<str>>,
    cached: bool,
    threshold: Option<Threshold>,
    /// Only what the last ResourceSpans brought is marked (tailsampling 3.5).
    last_only: bool,
}

/// Scratch of the request that is being taken.
#[derive(Debug)]
struct Ingest {
    notes: Notes,
    /// Where the resources and scopes of the request are kept, in its order.
    resources: Vec<Spot>,
    scopes: Vec<Spot>,
    /// Its spans that are this shard's.
    lines: Lines,
    fields: Vec<u8>,
    /// Records that are looked at ahead.
    ahead: Vec<u32>,
    /// Number of the ResourceSpans, over all requests.
    batch: u32,
    /// Number of the next ScopeSpans, over all requests and never 0.
    group: u32,
}

/// Where a resource or scope of the request is kept.
#[derive(Clone, Copy, Debug)]
enum Spot {
    /// Nobody has looked.
    Unknown,
    /// The check found it there.
    Perhaps(u32),
    Here(u32),
}

/// What becomes of a span.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    /// It waits with its trace.
    Wait,
    /// It leaves at once: its trace is kept.
    Follow,
    /// It leaves at once: a cache says that its trace was kept.
    Release,
    /// It goes: its trace is not kept.
    Discard,
    /// It goes: a cache says that its trace was not kept.
    Forget,
}

impl Shard {
    /// An empty shard that has all traces.
    ///
    /// # Errors
    /// A policy that does not compile, which configuration has found before.
    pub fn alone(now: Instant, options: &Options, seed: u64) -> Result<Self, String> {
        let (program, limiters) = Program::compile(options)?;
        let setup = Setup {
            program: Arc::new(program),
            limiters: Arc::new(limiters),
            census: Census::new(options.num_traces, 1),
            shards: 1,
            seed,
        };
        Ok(Self::new(now, options, setup))
    }

    /// An empty shard; its first tick is a second after `now`.
    #[must_use]
    pub fn new(now: Instant, options: &Options, setup: Setup) -> Self {
        let Setup { program, limiters, census, shards, seed } = setup;
        let share = |size: usize| if size == 0 { 0 } else { (size / shards).max(1) };
        let expected = usize::try_from(options.num_traces).unwrap_or(usize::MAX);
        let expected = share(expected).min(EXPECTED_MAX);
        let per_tick = usize::try_from(options.expected_new_traces_per_sec).unwrap_or(0);
        let key = Key::new(seed);
        Self {
            traces: Traces::new(expected, key.clone()),
            chains: Chains::new(program.words),
            stats: Stats::new(program.policies.len()),
            rules: Rules::of(options),
            wheel: Wheel::new(now, options.decision_wait, share(per_tick).min(EXPECTED_MAX)),
            sampled: Decided::new(share(options.sampled_cache)),
            not_sampled: Decided::new(share(options.non_sampled_cache)),
            resources: Interner::new(key.clone()),
            scopes: Interner::new(key.clone()),
            buffer: Buffer::default(),
            tick: None,
            leaving: std::collections::VecDeque::new(),
            gather: Gather::default(),
            in_hand: 0,
            ingest: Ingest {
                notes: Notes::default(),
                resources: Vec::new(),
                scopes: Vec::new(),
                lines: Lines::default(),
                fields: Vec::new(),
                ahead: Vec::new(),
                batch: 0,
                group: 1,
            },
            states: States::new(options.gates.use_trace_state),
            fates: None,
            ignored: program.ignored(),
            kept_by: None,
            program,
            limiters,
            census: census.join(),
        }
    }

    /// Traces in the map, decided ones included.
    #[must_use]
    pub fn traces(&self) -> usize {
        self.traces.len()
    }

    /// Whether it has met the trace and remembers it.
    #[must_use]
    pub fn knows(&self, id: &[u8; 16]) -> bool {
        self.traces.find(id).is_some() || self.sampled.has(id) || self.not_sampled.has(id)
    }

    /// Bytes of memory that spans, directories and records take.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        let tables = self.traces.bytes() + self.chains.bytes() + self.wheel.bytes();
        self.buffer.bytes() + self.resources.bytes() + self.scopes.bytes() + tables
    }

    /// Spans that are admitted and neither kept, dropped nor lost.
    #[must_use]
    pub fn buffered(&self) -> u64 {
        let Stats { accepted, kept, dropped, lost, .. } = &self.stats;
        accepted - kept - dropped - lost.evicted - lost.too_large - lost.shutdown
    }

    /// When the trace arrived that has waited longest in the map, if there is one.
    #[must_use]
    pub fn oldest(&self) -> Option<Instant> {
        self.traces.oldest().map(|slot| self.traces.get(slot).arrived_at)
    }

    /// The policies.
    #[must_use]
    pub fn program(&self) -> &Arc<Program> {
        &self.program
    }

    /// From now on [`Self::fates`] tells what becomes of each trace.
    pub fn tell_fates(&mut self) {
        self.fates.get_or_insert_default();
    }

    /// What became of traces since the last call, in order; nothing unless it was asked for. Who
    /// asked calls this after every [`Self::push`] and [`Self::poll`]: what is not taken waits.
    pub fn fates(&mut self) -> impl Iterator<Item = Fate> {
        self.fates.iter_mut().flat_map(|fates| fates.drain(..))
    }

    /// Whether conditions failed that are ignored and told of.
    #[must_use]
    pub fn has_ignored(&self) -> bool {
        self.ignored.iter().any(Ignored::is_some)
    }

    /// What has failed since the last call, by policy: how many errors, the condition that failed
    /// last, and its error.
    pub fn take_ignored(&mut self) -> impl Iterator<Item = (u64, &str, EvalError)> {
        self.program.take_ignored(&mut self.ignored)
    }

    /// The trace of a chain has come to its end, the spans still there.
    fn tell(&mut self, chain: u32, end: End, policy: Option<u16>) {
        if let Some(fates) = &mut self.fates {
            let chain = self.chains.get(chain);
            let (id, spans) = (self.traces.get(chain.trace()).id, u64::from(chain.spans));
            fates.push(Fate { id, end, policy, spans });
        }
    }

    /// Whether new traces wait for room (`block_on_overflow`).
    #[must_use]
    pub const fn blocks(&self) -> bool {
        self.rules.block_on_overflow
    }

    /// Takes the trace out of the map, and its spans with it if they wait. `strays`: its id stays
    /// in the set in which it was due, as in the collector (tailsampling 3.4).
    fn remove(&mut self, now: Instant, slot: u32, strays: bool) {
        let Trace { id, arrived_at, state, .. } = *self.traces.get(slot);
        self.stats.removal_age.record(now.since(arrived_at).as_secs());
        let due = match state {
            State::Undecided { chain } => {
                let due = self.chains.get(chain).due();
                self.forget_spans(chain, true);
                due
            }
            State::Decided { due: u32::MAX, .. } | State::Decided { is_in_set: false, .. } => {
                NO_SET
            }
            State::Decided { due, .. } => u64::from(due),
        };
        if strays {
            self.wheel.leave_id(due, id);
        }
        self.traces.leave(slot);
        self.census.remove();
    }

    /// The spans of the chain are gone; those that would stay in a segment for longer are told.
    fn forget_spans(&mut self, chain: u32, early: bool) {
        let mut at = self.chains.get(chain).tail;
        while early && at != Address::NONE {
            let before = self.buffer.before(at);
            self.buffer.forget(at);
            at = before;
        }
        self.release(chain);
    }

    /// Gives the record of a chain to the next.
    fn release(&mut self, chain: u32) {
        self.states.forget(chain);
        self.chains.release(chain);
    }

    fn free_segments(&mut self, tick: u64) {
        let Self { buffer, resources, scopes, .. } = self;
        buffer.free(tick, |origin| {
            resources.release(origin.resource);
            scopes.release(origin.scope);
        });
    }

    /// The spans of trace `slot`, if they wait for its decision.
    fn waiting(&self, slot: u32) -> Option<u32> {
        match self.traces.get(slot).state {
            State::Undecided { chain } => Some(chain),
            State::Decided { .. } => None,
        }
    }
}

/// Entries for which room is made at once.
const EXPECTED_MAX: usize = 1 << 20;

impl Rules {
    fn of(options: &Options) -> Self {
        let after_root = options.decision_wait_after_root;
        let after_root = (!after_root.is_zero()).then_some(after_root);
        let span_ingest = options.strategy == Strategy::SpanIngest;
        Self {
            after_root,
            block_on_overflow: options.block_on_overflow,
            first_match: options.sample_on_first_match,
            span_ingest,
            drop_pending: options.drop_pending_on_shutdown,
            trace_bytes_max: options.trace_bytes_max,
            gates: options.gates,
            early: span_ingest || after_root.is_some_and(|wait| wait < options.decision_wait),
        }
    }
}
