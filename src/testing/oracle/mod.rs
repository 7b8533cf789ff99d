//! The judge of the tail sampler: the rules of tailsampling 2 and 3 once more, on decoded objects,
//! one trace and one span at a time, with no thought of speed.
//!
//! It walks through simulated time: ticks are at 1 s, 2 s, … after [`Instant`] zero, a tick comes
//! before what arrives at the same moment, and what the collector leaves to chance has one order:
//! the traces of a ResourceSpans as they first appear in it, those of a tick as they entered its
//! set. Schema urls are kept in what comes out (a named difference), and hidden from policies.
//!
//! Each decision of a tick takes a microsecond ([`Oracle::deciding_takes`]), as it does at least in
//! the collector, where a bucket of a very high rate is therefore full again for the next trace.
//!
//! It does not read wire bytes: what a receiver refuses never gets here.

mod bucket;
mod cache;
mod counts;
mod decide;
pub mod ottl;
mod pieces;
mod policies;
mod spans;
mod trace_state;

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::trace::v1::ResourceSpans;

use crate::sample::options::{ErrorMode, Options, Strategy};
use crate::time::Instant;

use cache::Cache;
pub use counts::{Counts, PolicyCounts, Weight};
pub use pieces::{Piece, Unreadable, pieces, rename};
use policies::{Evaluator, mark};
pub use spans::{normalize, trace_id};

/// Sixteen bytes.
pub type TraceId = [u8; 16];

const SECOND: u64 = 1_000_000_000;

/// A verdict on a trace, and a policy's vote.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Decision {
    /// It leaves.
    Sampled,
    /// It does not.
    NotSampled,
    /// A drop policy took it.
    Dropped,
}

/// A condition could not be evaluated, and its error mode makes that the policy's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Errored;

/// Evaluates OTTL: error mode, span conditions, span event conditions, the trace.
pub type Ottl =
    Box<dyn FnMut(ErrorMode, &[String], &[String], &[ResourceSpans]) -> Result<bool, Errored>>;

/// Spans that left together.
#[derive(Clone, Debug, PartialEq)]
pub struct Emission {
    /// When: a tick, or the arrival of late spans.
    pub at: Instant,
    /// Whose.
    pub trace: TraceId,
    /// After its decision.
    pub late: bool,
    /// Normalized, see [`normalize`].
    pub resource_spans: Vec<ResourceSpans>,
}

/// What became of a trace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// When.
    pub at: Instant,
    /// Whose.
    pub trace: TraceId,
    /// How.
    pub decision: Decision,
    /// By which policy; none if none voted for it.
    pub policy: Option<String>,
    /// It was larger than `maximum_trace_size_bytes`.
    pub too_large: bool,
    /// Votes in the order of evaluation; `None` is an error.
    pub votes: Vec<(String, Option<Decision>)>,
    /// Spans that had come.
    pub spans: u64,
}

/// A trace in the map.
#[derive(Debug)]
struct Entry {
    arrived: Instant,
    /// The tick that decides it, by its number.
    set: u64,
    spans: u64,
    bytes: u64,
    decision: Option<Decision>,
    decided: Option<Instant>,
    policy: String,
    stored: Vec<ResourceSpans>,
}

/// Traces in the order in which they entered, each once.
#[derive(Debug, Default)]
struct Line {
    order: BTreeMap<u64, TraceId>,
    places: HashMap<TraceId, u64>,
}

impl Line {
    fn insert(&mut self, id: TraceId) {
        let last = self.order.last_key_value().map_or(0, |(at, _)| *at);
        if !self.places.contains_key(&id) {
            self.order.insert(last + 1, id);
            self.places.insert(id, last + 1);
        }
    }

    fn remove(&mut self, id: &TraceId) {
        if let Some(place) = self.places.remove(id) {
            self.order.remove(&place);
        }
    }

    fn first(&self) -> Option<TraceId> {
        self.order.first_key_value().map(|(_, id)| *id)
    }
}

/// The sampler.
pub struct Oracle {
    options: Options,
    ottl: Ottl,
    /// In the order of evaluation: drop policies first.
    policies: Vec<Evaluator>,
    now: Instant,
    /// How long one decision of a tick takes, and how long those before it took.
    deciding: Duration,
    lag: Duration,
    /// Ticks so far.
    ticks: u64,
    /// By the number of the tick that takes them, counted from 0.
    sets: BTreeMap<u64, Line>,
    traces: HashMap<TraceId, Entry>,
    /// By arrival, unless overflow blocks.
    queue: Line,
    sampled: Cache,
    not_sampled: Cache,
    /// Overflow blocks, and no tick can make room.
    stuck: bool,
    counts: Counts,
    emissions: Vec<Emission>,
    verdicts: Vec<Verdict>,
}

impl std::fmt::Debug for Oracle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Oracle").field("now", &self.now).field("traces", &self.traces).finish()
    }
}

impl Oracle {
    /// A sampler that starts at zero.
    #[must_use]
    pub fn new(options: &Options, ottl: Ottl) -> Self {
        let all: Vec<Evaluator> = options.policies.iter().map(Evaluator::new).collect();
        let (mut policies, others): (Vec<_>, Vec<_>) =
            all.into_iter().partition(Evaluator::is_drop);
        policies.extend(others);
        Self {
            options: options.clone(),
            ottl,
            policies,
            now: Instant(0),
            deciding: Duration::from_micros(1),
            lag: Duration::ZERO,
            ticks: 0,
            sets: BTreeMap::new(),
            traces: HashMap::new(),
            queue: Line::default(),
            sampled: Cache::new(options.sampled_cache),
            not_sampled: Cache::new(options.non_sampled_cache),
            stuck: false,
            counts: Counts::default(),
            emissions: Vec::new(),
            verdicts: Vec::new(),
        }
    }

    /// How long a decision takes, for limiters; nothing else sees it.
    #[must_use]
    pub const fn deciding_takes(mut self, time: Duration) -> Self {
        self.deciding = time;
        self
    }

    /// What left so far.
    #[must_use]
    pub fn emissions(&self) -> &[Emission] {
        &self.emissions
    }

    /// What was decided so far.
    #[must_use]
    pub fn verdicts(&self) -> &[Verdict] {
        &self.verdicts
    }

    /// What was counted so far.
    #[must_use]
    pub const fn counts(&self) -> &Counts {
        &self.counts
    }

    /// Whether it waits for room that no tick can make (tailsampling 3.4).
    #[must_use]
    pub const fn is_stuck(&self) -> bool {
        self.stuck
    }

    /// Runs the ticks up to and with `to`.
    pub fn advance(&mut self, to: Instant) {
        while (self.ticks + 1) * SECOND <= to.0 {
            self.now = self.now.max(Instant((self.ticks + 1) * SECOND));
            self.lag = Duration::ZERO;
            self.tick();
        }
        self.now = self.now.max(to);
    }

    /// Takes a request, after the ticks that are due.
    pub fn arrive(&mut self, at: Instant, request: &ExportTraceServiceRequest) {
        self.advance(at);
        self.lag = Duration::ZERO;
        for whole in &request.resource_spans {
            let mut whole = whole.clone();
            normalize(&mut whole);
            for (id, part) in spans::by_trace(&whole) {
                if !self.stuck {
                    self.take(id, part);
                }
            }
        }
    }

    /// Ends: all that waits is decided now, unless it is to be dropped (tailsampling 3.8).
    pub fn shut_down(&mut self, at: Instant) {
        self.advance(at);
        if !self.options.drop_pending_on_shutdown {
            for _ in 0..=self.waits() {
                self.tick();
            }
        }
    }

    /// Ticks between a trace's second and the one that decides it.
    fn waits(&self) -> u64 {
        self.options.decision_wait.as_secs().max(1)
    }

    /// A trace's part of one ResourceSpans (tailsampling 3.2).
    fn take(&mut self, id: TraceId, part: ResourceSpans) {
        let spans = spans::spans(std::slice::from_ref(&part)).count() as u64;
        if self.follows_cache(id, &part, spans) {
            return;
        }
        if !self.traces.contains_key(&id) {
            self.make_room();
            if self.stuck {
                return;
            }
        }
        self.enter(id, spans);
        self.hurry(id, &part);
        let Some(entry) = self.traces.get_mut(&id) else { return };
        entry.bytes += spans::bytes(&part);
        let bytes_max = self.options.trace_bytes_max;
        match entry.decision {
            None if bytes_max > 0 && entry.bytes > bytes_max => self.refuse_large(id),
            None if self.options.strategy == Strategy::SpanIngest => self.judge_batch(id, part),
            None => entry.stored.push(part),
            Some(decision) => self.follow(id, decision, part),
        }
    }

    /// Spans of a trace whose decision is cached.
    fn follows_cache(&mut self, id: TraceId, part: &ResourceSpans, spans: u64) -> bool {
        if let Some(policy) = self.sampled.get(&id) {
            let mut part = vec![part.clone()];
            if self.options.gates.record_policy {
                if !policy.is_empty() {
                    mark(&mut part, "tailsampling.policy", &Value::StringValue(policy));
                }
                mark(&mut part, "tailsampling.cached_decision", &Value::BoolValue(true));
            }
            self.emit(id, true, part);
            self.counts.early_sampled_spans += spans;
            return true;
        }
        let discarded = self.not_sampled.get(&id).is_some();
        if discarded {
            self.counts.early_not_sampled_spans += spans;
        }
        discarded
    }

    /// Room for one more trace: the oldest goes, or time does (tailsampling 3.4).
    fn make_room(&mut self) {
        let full = |own: &Self| own.traces.len() as u64 >= own.options.num_traces;
        if !full(self) {
            return;
        }
        if self.options.block_on_overflow {
            // Longer than any trace can wait for its tick.
            for _ in 0..self.waits() + 2 {
                if full(self) {
                    self.advance(Instant((self.ticks + 1) * SECOND));
                }
            }
            self.stuck = full(self);
        } else if let Some(oldest) = self.queue.first() {
            self.forget(&oldest);
        }
    }

    /// Makes the entry, or counts on it.
    fn enter(&mut self, id: TraceId, spans: u64) {
        if let Some(entry) = self.traces.get_mut(&id) {
            entry.spans += spans;
            return;
        }
        let set = self.ticks + self.waits();
        self.sets.entry(set).or_default().insert(id);
        if !self.options.block_on_overflow {
            self.queue.insert(id);
        }
        self.counts.new_traces += 1;
        let entry = Entry {
            arrived: self.now,
            set,
            spans,
            bytes: 0,
            decision: None,
            decided: None,
            policy: String::new(),
            stored: Vec::new(),
        };
        self.traces.insert(id, entry);
    }

    /// A root moves its trace to an earlier tick (tailsampling 3.1).
    fn hurry(&mut self, id: TraceId, part: &ResourceSpans) {
        let wait = self.options.decision_wait_after_root;
        let mut all = spans::spans(std::slice::from_ref(part));
        if wait.is_zero() || !all.any(|span| span.parent_span_id.is_empty()) {
            return;
        }
        let Some(entry) = self.traces.get_mut(&id) else { return };
        let earlier = self.ticks + wait.as_secs();
        if earlier < entry.set {
            if let Some(set) = self.sets.get_mut(&entry.set) {
                set.remove(&id);
            }
            entry.set = earlier;
            self.sets.entry(earlier).or_default().insert(id);
        }
    }

    /// Too many bytes: decided at once, whatever policies would say.
    fn refuse_large(&mut self, id: TraceId) {
        let Some(entry) = self.traces.get_mut(&id) else { return };
        entry.decision = Some(Decision::NotSampled);
        let verdict = Verdict {
            at: self.now,
            trace: id,
            decision: Decision::NotSampled,
            policy: None,
            too_large: true,
            votes: Vec::new(),
            spans: entry.spans,
        };
        if let Some(set) = self.sets.get_mut(&entry.set) {
            set.remove(&id);
        }
        self.verdicts.push(verdict);
        self.counts.too_large += 1;
        self.release(id);
    }

    /// Spans that come after the decision, while the entry lives (tailsampling 3.3).
    fn follow(&mut self, id: TraceId, decision: Decision, part: ResourceSpans) {
        let decided = self.traces.get(&id).and_then(|entry| entry.decided);
        match decision {
            Decision::Sampled => self.emit(id, true, vec![part]),
            Decision::NotSampled => self.release(id),
            Decision::Dropped => {}
        }
        if let Some(decided) = decided {
            self.counts.late_span_ages.push(self.now.since(decided).as_secs());
        }
    }

    /// Caches the decision of an entry; an entry goes where its decision is cached.
    fn release(&mut self, id: TraceId) {
        let Some(entry) = self.traces.get_mut(&id) else { return };
        entry.stored.clear();
        let cache = match entry.decision {
            Some(Decision::Sampled) => &mut self.sampled,
            _ => &mut self.not_sampled,
        };
        if cache.put(&id, &entry.policy) {
            self.forget(&id);
        }
    }

    /// Removes an entry. Its id stays in the set of its tick.
    fn forget(&mut self, id: &TraceId) {
        if let Some(entry) = self.traces.remove(id) {
            self.counts.removal_ages.push(self.now.since(entry.arrived).as_secs());
            self.queue.remove(id);
        }
    }

    fn emit(&mut self, trace: TraceId, late: bool, resource_spans: Vec<ResourceSpans>) {
        self.emissions.push(Emission { at: self.now, trace, late, resource_spans });
    }
}
