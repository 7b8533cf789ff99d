//! Taking a request: every span is checked, then each is given to its trace (tailsampling 3.2).
//!
//! Like the collector, a ResourceSpans is taken trace by trace, in the order in which they first
//! appear in it: what a trace does to caches and map is done before the next is looked at, and the
//! map is asked once for all spans of it.

use super::lines::{Line, Place};
use super::{Ingest, Leaving, Marks, Moment, Shard, Spot, State, Way};
use crate::otlp::span::{self, NO_TRACE_ID, Notes};
use crate::otlp::wire::{Extent, LEN, Reader};
use crate::otlp::{self, Error, Index, check, size};
use crate::sample::bits;
use crate::sample::buffer::Origin;
use crate::sample::fate::End;
use crate::sample::intern::Interner;
use crate::sample::program::{Program, Subject, Times};
use crate::sample::stats::Outcome;
use crate::sample::weigh::Sum;
use crate::sample::wheel::Due;
use crate::time::Instant;

/// Of spans that are not kept.
const NO_CHAIN: u32 = u32::MAX;

/// The ResourceSpans that is being taken.
struct Batch<'a> {
    body: &'a [u8],
    moment: Moment,
    index: &'a Index,
    notes: &'a Notes,
    resource: (usize, &'a otlp::Resource),
    /// Number of the first ScopeSpans of the request.
    group: u32,
}

impl Ingest {
    /// Nothing is known of the next request.
    pub(super) fn forget(&mut self) {
        self.notes.clear();
        otlp::keep(&mut self.resources);
        otlp::keep(&mut self.scopes);
    }

    /// Of the resources and scopes of the next request nothing is known.
    pub(super) fn expect(&mut self, index: &Index) {
        self.resources.resize(index.resources().len(), Spot::Unknown);
        self.scopes.resize(index.scopes().len(), Spot::Unknown);
    }

    /// Numbers the ScopeSpans of a request, over all requests and never 0: the number of the first.
    fn number(&mut self, index: &Index) -> u32 {
        let scopes = u32::try_from(index.scopes().len()).expect("fewer than bytes of a request");
        let first = if self.group.checked_add(scopes).is_some() { self.group } else { 1 };
        self.group = first + scopes;
        first
    }

    /// Where the resource of the ResourceSpans is kept, now that a span needs it.
    #[inline]
    fn resource(&mut self, batch: &Batch<'_>, resources: &mut Interner, program: &Program) -> u32 {
        let (at, resource) = batch.resource;
        self.resources[at].take(|guess| {
            let extents = batch.index.others_of_resource(resource);
            let fields = joined(batch.body, batch.index, extents, &mut self.fields);
            let known = resources.find_at(guess, fields);
            known.unwrap_or_else(|| add_resource(resources, fields, program))
        })
    }

    /// Where scope number `at` of the request is kept, now that a span needs it.
    #[inline]
    fn scope(
        &mut self,
        at: u32,
        batch: &Batch<'_>,
        scopes: &mut Interner,
        program: &Program,
    ) -> u32 {
        let at = at as usize;
        self.scopes[at].take(|guess| {
            let extents = batch.index.others_of_scope(&batch.index.scopes()[at]);
            let fields = joined(batch.body, batch.index, extents, &mut self.fields);
            let known = scopes.find_at(guess, fields);
            known.unwrap_or_else(|| add_scope(scopes, fields, program))
        })
    }
}

impl Spot {
    /// Where it is kept: `find` says, if that is not certain yet, from a guess.
    #[inline]
    fn take(&mut self, find: impl FnOnce(Option<u32>) -> u32) -> u32 {
        let at = match *self {
            Self::Here(at) => return at,
            Self::Perhaps(at) => find(Some(at)),
            Self::Unknown => find(None),
        };
        *self = Self::Here(at);
        at
    }
}

impl Shard {
    /// Checks every span of a request, and notes what the policies ask for. Nothing is taken yet:
    /// a request is refused as a whole.
    ///
    /// # Errors
    /// The first thing that is wrong.
    pub fn check(&mut self, body: &[u8], index: &Index) -> Result<(), Error> {
        let Self { program, ingest, resources, scopes, .. } = self;
        ingest.forget();
        let Ingest { notes, fields, .. } = ingest;
        for resource in index.resources() {
            let others = joined(body, index, index.others_of_resource(resource), fields);
            ingest.resources.push(envelope(others, resources, check::resource)?);
            for (_, scope) in index.scopes_of(resource) {
                let others = joined(body, index, index.others_of_scope(scope), fields);
                ingest.scopes.push(envelope(others, scopes, check::scope)?);
                for item in index.items_of(scope) {
                    span::read(index.bytes(body, item.field), &program.wanted, notes)?;
                }
            }
        }
        Ok(())
    }

    /// Takes all spans of the request that was checked just now.
    ///
    /// # Panics
    /// If another one was checked.
    pub fn push(&mut self, moment: Moment, body: &[u8], index: &Index) {
        self.divide(body, index, |_| None, &mut []);
        self.push_own(moment, body, index, |_| false);
    }

    /// Takes the spans that [`Self::divide`] found, or [`Self::receive`] says, are this shard's,
    /// except those of some traces.
    pub fn push_own(
        &mut self,
        moment: Moment,
        body: &[u8],
        index: &Index,
        except: impl Fn(&[u8; 16]) -> bool,
    ) {
        self.census.look_around();
        self.look_ahead_in();
        let group = self.ingest.number(index);
        let notes = std::mem::take(&mut self.ingest.notes);
        for resource in index.resources().iter().enumerate() {
            self.ingest.batch = self.ingest.batch.wrapping_add(1);
            let batch = Batch { body, moment, index, notes: &notes, resource, group };
            for line in self.ingest.lines.of_resource(resource.0) {
                if !except(&self.ingest.lines.get(line).id) {
                    self.take(&batch, line);
                }
            }
        }
        self.ingest.notes = notes;
    }

    /// Takes the spans of one trace.
    fn take(&mut self, batch: &Batch<'_>, line: usize) {
        let spans = self.ingest.lines.get(line).spans;
        self.stats.accepted += u64::from(spans);
        let (chain, way) = self.way(batch, line);
        match way {
            Way::Wait | Way::Follow => {}
            Way::Release => self.stats.early_releases[0] += u64::from(spans),
            Way::Discard => {
                self.stats.dropped += u64::from(spans);
                return;
            }
            Way::Forget => {
                self.stats.early_releases[1] += u64::from(spans);
                self.stats.dropped += u64::from(spans);
                return;
            }
        }
        let sum = self.append(batch, line, chain, way);
        if way == Way::Wait {
            self.end(batch, line, chain, sum);
        }
    }

    /// What becomes of the spans that a ResourceSpans brings for a trace, and the chain that takes
    /// them.
    fn way(&mut self, batch: &Batch<'_>, line: usize) -> (u32, Way) {
        let Line { id, hash, .. } = *self.ingest.lines.get(line);
        let id = &id;
        if let Some(decision) = self.sampled.get(id) {
            let marks = Marks { policy: decision.policy, cached: true, ..Marks::default() };
            return (self.piece(marks), Way::Release);
        }
        if self.not_sampled.get(id).is_some() {
            return (NO_CHAIN, Way::Forget);
        }
        match self.traces.find_hashed(id, hash) {
            None => (self.new_trace(batch.moment.now, id, hash), Way::Wait),
            Some(slot) => self.old_trace(batch, line, slot),
        }
    }

    /// Whether those traces of the request that are `mine` have room, where new ones wait for it
    /// (`block_on_overflow`). Spans of a trace that is known, waiting or decided, need none. More
    /// new traces than can ever be held are let in when nothing waits for a decision. Whether
    /// traces of other shards are new nobody knows here: they do not wait.
    #[must_use]
    pub fn has_room(
        &mut self,
        body: &[u8],
        index: &Index,
        mine: impl Fn(&[u8; 16]) -> bool,
    ) -> bool {
        if !self.rules.block_on_overflow {
            return true;
        }
        self.census.look_around();
        if self.census.waiting() == 0 {
            return true;
        }
        let mut new = std::collections::BTreeSet::new();
        for item in index.items() {
            let id = index.trace_id(item, body).unwrap_or(&NO_TRACE_ID);
            if mine(id) && !self.knows(id) {
                new.insert(*id);
            }
        }
        new.len() as u64 <= self.census.max().saturating_sub(self.census.waiting())
    }

    fn new_trace(&mut self, now: Instant, id: &[u8; 16], hash: u64) -> u32 {
        if self.census.is_full() {
            self.make_room(now);
        }
        let due = self.wheel.due();
        let chain = self.chains.add(due);
        let slot = self.traces.enter(*id, hash, now, chain);
        self.census.add();
        self.stats.new_traces += 1;
        let waits = self.chains.get_mut(chain);
        waits.wait(slot);
        let generation = waits.generation;
        self.wheel.put(due, Due { chain, generation }, id);
        chain
    }

    /// More spans for a trace in the map.
    fn old_trace(&mut self, batch: &Batch<'_>, line: usize, slot: u32) -> (u32, Way) {
        let (outcome, decided_at) = match self.traces.get(slot).state {
            State::Decided { outcome, at, .. } => (outcome, at),
            State::Undecided { chain } => {
                if self.rules.span_ingest {
                    // Each batch is judged alone.
                    let (waits, holds) = self.chains.with_bits(chain);
                    holds.fill(0);
                    waits.times = Times::NONE;
                    self.states.forget(chain);
                }
                return (chain, Way::Wait);
            }
        };
        if let Some(wait) = self.rules.after_root
            && self.has_root(batch, line)
        {
            self.traces.hasten_id(slot, self.wheel.due_after_root(wait));
        }
        if decided_at != Instant(0) {
            self.stats.late_age.record(batch.moment.now.since(decided_at).as_secs());
        }
        if outcome == Outcome::Sampled {
            return (self.piece(Marks::default()), Way::Follow);
        }
        self.stats.late_dropped += u64::from(outcome == Outcome::Dropped);
        (NO_CHAIN, Way::Discard)
    }

    /// Whether the ResourceSpans brings the root of a trace.
    fn has_root(&self, batch: &Batch<'_>, line: usize) -> bool {
        let lines = &self.ingest.lines;
        let mut places = std::iter::successors(lines.first(line), |at| lines.after(*at));
        places.any(|at| batch.notes.facts[lines.place(at).item as usize].is_root)
    }

    /// A chain for late spans, which leave on their own.
    fn piece(&mut self, marks: Marks) -> u32 {
        let chain = self.chains.add(self.wheel.taken());
        self.leaving.push_back(Leaving { chain, marks });
        chain
    }

    /// Gives the spans of a line to the chain `at`. What they add to the size of its trace.
    fn append(&mut self, batch: &Batch<'_>, line: usize, at: u32, way: Way) -> Sum {
        let (body, index) = (batch.body, batch.index);
        let Self { chains, resources, scopes, buffer, program, ingest, .. } = self;
        let resource = ingest.resource(batch, resources, program);
        let (chain, holds) = chains.with_bits(at);
        if way == Way::Wait {
            bits::add(holds, &resources.get(resource).holds);
        }
        let mut sum = Sum::default();
        let mut next = ingest.lines.first(line);
        while let Some(place) = next {
            next = ingest.lines.after(place);
            let Place { item, scope, .. } = ingest.lines.place(place);
            let facts = &batch.notes.facts[item as usize];
            let field = index.bytes(body, index.items()[item as usize].field);
            let group = batch.group + scope;
            let scope = ingest.scope(scope, batch, scopes, program);
            let origin = Origin { resource, scope, batch: ingest.batch, group };
            if way == Way::Wait {
                let subject = || Subject {
                    field,
                    facts,
                    found: batch.notes.found_of(facts),
                    resource: resources.get(resource).content(),
                    scope: scopes.get(scope).content(),
                };
                let unix_nanos = batch.moment.unix_nanos;
                program.ask_span(facts, subject, unix_nanos, holds, &mut self.ignored);
                program.ask_times(&mut chain.times, facts, holds);
                if program.needs_size {
                    let size = size::field(size::span(facts.content(field)));
                    sum.add(origin, size, || scopes.get(scope).size);
                }
                if self.rules.gates.use_trace_state {
                    self.states.read(at, facts.trace_state.of(field));
                }
            }
            let (tail, new_run) = buffer.append(field, origin, chain.tail, at, chain.due());
            (chain.tail, chain.spans) = (tail, chain.spans.saturating_add(1));
            if way != Way::Wait {
                buffer.pin(tail);
            }
            if new_run {
                resources.count(resource);
                scopes.count(origin.scope);
            }
        }
        sum
    }

    /// All spans of a trace in this ResourceSpans are taken.
    fn end(&mut self, batch: &Batch<'_>, line: usize, at: u32, mut sum: Sum) {
        if let Some(wait) = self.rules.after_root
            && self.has_root(batch, line)
        {
            self.hasten_for_root(at, wait);
        }
        if self.program.needs_size {
            let Self { ingest, resources, program, .. } = self;
            let resource = ingest.resource(batch, resources, program);
            let size = sum.whole() + resources.get(resource).size;
            let chain = self.chains.get_mut(at);
            chain.size += size;
            let around = u32::try_from(size::field(size) - size).unwrap_or(0);
            chain.envelopes_size = chain.envelopes_size.saturating_add(around);
            let max = self.rules.trace_bytes_max;
            if max > 0 && chain.size > max {
                return self.too_large(batch.moment.now, at);
            }
        }
        if self.rules.span_ingest {
            self.judge_batch(batch.moment, at);
        }
    }

    fn hasten_for_root(&mut self, at: u32, wait: std::time::Duration) {
        let due = self.wheel.due_after_root(wait);
        let chain = self.chains.get_mut(at);
        if due < chain.due() {
            chain.hasten(due);
            let due_once = Due { chain: at, generation: chain.generation };
            self.wheel.put(due, due_once, &self.traces.get(chain.trace()).id);
        }
    }

    fn too_large(&mut self, now: Instant, at: u32) {
        self.stats.too_large += 1;
        self.tell(at, End::TooLarge, None);
        let chain = self.chains.get(at);
        let (slot, due, spans, asked_at) =
            (chain.trace(), chain.due(), chain.spans, chain.asked_at);
        self.stats.lost.too_large += u64::from(spans);
        self.forget_spans(at, true);
        self.census.decide();
        // Its id is taken out of its set.
        self.traces.decide(slot, Outcome::NotSampled, due, false, asked_at);
        self.remember_not_sampled(now, slot, None, false);
    }

    /// No room in the map: the oldest goes, decided or not (tailsampling 3.4). Where new traces
    /// wait for room, only what is decided goes.
    fn make_room(&mut self, now: Instant) {
        let mut next = self.traces.oldest();
        if self.rules.block_on_overflow {
            while let Some(slot) = next
                && self.waiting(slot).is_some()
            {
                next = self.traces.after(slot);
            }
        }
        if let Some(slot) = next {
            self.evict(now, slot);
        }
    }

    fn evict(&mut self, now: Instant, slot: u32) {
        if let Some(chain) = self.waiting(slot) {
            self.tell(chain, End::Evicted, None);
            self.stats.lost.evicted += u64::from(self.chains.get(chain).spans);
            self.census.decide();
        }
        self.remove(now, slot, true);
    }
}

fn add_resource(resources: &mut Interner, fields: &[u8], program: &Program) -> u32 {
    let at = resources.add(fields, vec![0; program.words].into(), 0);
    let envelope = resources.get_mut(at);
    let (content, mut holds) = (envelope.content(), vec![0; program.words]);
    program.ask_resource(content, &mut holds);
    let size = if program.needs_size { size::field(size::resource(content)) } else { 0 };
    (envelope.holds, envelope.size) = (holds.into(), size);
    at
}

fn add_scope(scopes: &mut Interner, fields: &[u8], program: &Program) -> u32 {
    let at = scopes.add(fields, Box::default(), 0);
    let envelope = scopes.get_mut(at);
    if program.needs_size {
        envelope.size = size::field(size::scope(envelope.content()));
    }
    at
}

/// The fields of an envelope, side by side.
fn joined<'a>(
    body: &'a [u8],
    index: &'a Index,
    extents: &[Extent],
    scratch: &'a mut Vec<u8>,
) -> &'a [u8] {
    match extents {
        [] => &[],
        [only] => index.bytes(body, *only),
        several => {
            scratch.clear();
            let fields = several.iter().map(|extent| index.bytes(body, *extent));
            fields.for_each(|field| scratch.extend_from_slice(field));
            scratch
        }
    }
}

/// Checks an envelope, unless it is one that was checked before: where it is kept then.
fn envelope(
    fields: &[u8],
    known: &Interner,
    check: fn(&[u8], Extent) -> Result<(), Error>,
) -> Result<Spot, Error> {
    if let Some(at) = known.find(fields) {
        return Ok(Spot::Perhaps(at));
    }
    let end = u32::try_from(fields.len()).expect("shorter than the request");
    let mut reader = Reader::new(fields, Extent { start: 0, end });
    while !reader.at_end() {
        let tag = reader.tag()?;
        if tag.field == 1 && tag.wire == LEN {
            check(fields, reader.content()?)?;
        } else {
            reader.skip(tag)?;
        }
    }
    Ok(Spot::Unknown)
}
