//! Taking a request: every span is checked, then each is given to its trace (tailsampling 3.2).
//!
//! The collector takes each ResourceSpans trace by trace, so what it does once for such a batch
//! (caches, root wait, size, span-ingest) is done here once per ResourceSpans and trace: at the
//! first span of it, and when its last has come.

use super::{Leaving, Marks, Moment, Shard, State, Touch, Way};
use crate::otlp::span::{self, Facts, Found, NO_TRACE_ID};
use crate::otlp::wire::{Extent, LEN, Reader};
use crate::otlp::{Error, Index, Item, check, size};
use crate::sample::bits;
use crate::sample::buffer::Origin;
use crate::sample::fate::End;
use crate::sample::intern::Interner;
use crate::sample::program::Subject;
use crate::sample::wheel::Due;
use crate::time::Instant;

/// Late pieces by cache that one ResourceSpans gathers by trace; beyond, each span is a piece.
const CACHED_MAX: usize = 64;

/// A request, its index, and how far it is taken.
struct Request<'a> {
    body: &'a [u8],
    moment: Moment,
    found: &'a [Found],
    /// Where resource and scope are kept, once a span needs them.
    resource: Option<u32>,
    scope: Option<u32>,
    resource_fields: &'a [Extent],
    scope_fields: &'a [Extent],
    /// The trace of the span before.
    last: Option<([u8; 16], u32, Way)>,
}

impl Shard {
    /// Checks every span of a request, and notes what the policies ask for. Nothing is taken yet:
    /// a request is refused as a whole.
    ///
    /// # Errors
    /// The first thing that is wrong.
    pub fn check(&mut self, body: &[u8], index: &Index) -> Result<(), Error> {
        let Self { program, ingest, resources, scopes, .. } = self;
        ingest.facts.clear();
        ingest.found.clear();
        for resource in index.resources() {
            let extents = index.others_of_resource(resource);
            envelope(body, extents, resources, &mut ingest.fields, check::resource)?;
            for (_, scope) in index.scopes_of(resource) {
                let extents = index.others_of_scope(scope);
                envelope(body, extents, scopes, &mut ingest.fields, check::scope)?;
                for item in index.items_of(scope) {
                    let content = span::content(body, item.field);
                    let facts = span::read(body, content, &program.wanted, &mut ingest.found)?;
                    ingest.facts.push(facts);
                }
            }
        }
        Ok(())
    }

    /// Takes the spans of the request that was checked just now whose trace is `mine`.
    ///
    /// # Panics
    /// If another one was checked.
    pub fn push(
        &mut self,
        moment: Moment,
        body: &[u8],
        index: &Index,
        mine: impl Fn(&[u8; 16]) -> bool,
    ) {
        let all_facts = std::mem::take(&mut self.ingest.facts);
        let found = std::mem::take(&mut self.ingest.found);
        assert_eq!(all_facts.len(), index.items().len(), "this request was checked");
        let mut facts = all_facts.iter();
        for resource in index.resources() {
            self.ingest.batch = self.ingest.batch.wrapping_add(1);
            self.ingest.touched.clear();
            self.ingest.cached.clear();
            let mut request = Request {
                body,
                moment,
                found: &found,
                resource: None,
                scope: None,
                resource_fields: index.others_of_resource(resource),
                scope_fields: &[],
                last: None,
            };
            for (_, scope) in index.scopes_of(resource) {
                self.ingest.group = self.ingest.group.wrapping_add(1);
                request.scope = None;
                request.scope_fields = index.others_of_scope(scope);
                for (item, facts) in index.items_of(scope).iter().zip(&mut facts) {
                    let id = item.trace_id(body).unwrap_or(&NO_TRACE_ID);
                    if mine(id) {
                        self.take(&mut request, id, item, facts);
                    }
                }
            }
            self.end_batch(&request);
        }
        (self.ingest.facts, self.ingest.found) = (all_facts, found);
    }

    fn take(&mut self, request: &mut Request<'_>, id: &[u8; 16], item: &Item, facts: &Facts) {
        self.stats.accepted += 1;
        let (slot, way) = match request.last {
            Some((last, slot, way)) if last == *id => (slot, way),
            _ => self.way(request.moment.now, id),
        };
        request.last = Some((*id, slot, way));
        match way {
            Way::Wait | Way::Follow => self.append(request, item, facts, slot, way),
            Way::Release => {
                self.stats.early_releases[0] += 1;
                self.append(request, item, facts, slot, way);
            }
            Way::Discard => self.stats.dropped += 1,
            Way::Forget => {
                self.stats.early_releases[1] += 1;
                self.stats.dropped += 1;
            }
        }
    }

    /// What becomes of the spans of trace `id` in this ResourceSpans.
    fn way(&mut self, now: Instant, id: &[u8; 16]) -> (u32, Way) {
        let found = self.traces.find(id);
        if let Some(slot) = found
            && self.traces.get(slot).batch == self.ingest.batch
        {
            let touch = &self.ingest.touched[self.traces.get(slot).touch as usize];
            return (touch.slot, touch.way);
        }
        if let Some((_, slot)) = self.ingest.cached.iter().find(|(cached, _)| cached == id) {
            return (*slot, Way::Release);
        }
        if let Some(decision) = self.sampled.get(id) {
            let marks = Marks { policy: decision.policy, cached: true, ..Marks::default() };
            let slot = self.piece(now, id, marks);
            if self.ingest.cached.len() < CACHED_MAX {
                self.ingest.cached.push((*id, slot));
            }
            return (slot, Way::Release);
        }
        if self.not_sampled.get(id).is_some() {
            return (u32::MAX, Way::Forget);
        }
        match found {
            None => self.new_trace(now, id),
            Some(slot) => self.old_trace(now, slot),
        }
    }

    /// Whether the traces of the request have room, where new ones wait for it
    /// (`block_on_overflow`). More new traces than can ever be held are let in when nothing waits
    /// for a decision.
    #[must_use]
    pub fn has_room(&self, body: &[u8], index: &Index) -> bool {
        if !self.rules.block_on_overflow || self.census.waiting() == 0 {
            return true;
        }
        let mut new = std::collections::BTreeSet::new();
        for item in index.items() {
            let id = item.trace_id(body).unwrap_or(&NO_TRACE_ID);
            if self.traces.find(id).is_none() {
                new.insert(*id);
            }
        }
        new.len() as u64 <= self.census.max().saturating_sub(self.census.waiting())
    }

    fn new_trace(&mut self, now: Instant, id: &[u8; 16]) -> (u32, Way) {
        if self.census.is_full() {
            self.make_room(now);
        }
        let slot = self.traces.add(*id, now, State::Undecided);
        self.traces.enter(slot);
        self.census.add();
        self.census.wait();
        self.stats.new_traces += 1;
        let due = self.wheel.due();
        let trace = self.traces.get_mut(slot);
        trace.due = due;
        let generation = trace.generation;
        self.wheel.put(due, Due { slot, generation });
        self.touch(slot, slot, Way::Wait);
        (slot, Way::Wait)
    }

    /// A batch for a trace in the map.
    fn old_trace(&mut self, now: Instant, slot: u32) -> (u32, Way) {
        let (trace, holds) = self.traces.with_bits(slot);
        let (id, state, decided_at) = (trace.id, trace.state, trace.decided_at);
        if state == State::Undecided {
            if self.rules.span_ingest {
                // Each batch is judged alone.
                holds.fill(0);
                trace.times = crate::sample::program::Times::default();
            }
            self.touch(slot, slot, Way::Wait);
            return (slot, Way::Wait);
        }
        if decided_at != Instant(0) {
            self.stats.late_age.record(now.since(decided_at).as_secs());
        }
        if state == State::Sampled {
            let piece = self.piece(now, &id, Marks::default());
            self.touch(slot, piece, Way::Follow);
            return (piece, Way::Follow);
        }
        self.stats.late_dropped += u64::from(state == State::Dropped);
        self.touch(slot, slot, Way::Discard);
        (slot, Way::Discard)
    }

    /// Remembers the way of trace `slot` in this ResourceSpans; its spans go to record `target`.
    fn touch(&mut self, slot: u32, target: u32, way: Way) {
        let touch = Touch {
            slot: target,
            generation: self.traces.get(target).generation,
            way,
            has_root: false,
            size: 0,
            group_size: 0,
            group: 0,
        };
        let trace = self.traces.get_mut(slot);
        trace.batch = self.ingest.batch;
        trace.touch = u32::try_from(self.ingest.touched.len()).expect("fewer than spans");
        self.ingest.touched.push(touch);
    }

    /// A record for late spans, which leave on their own.
    fn piece(&mut self, now: Instant, id: &[u8; 16], marks: Marks) -> u32 {
        let slot = self.traces.add(*id, now, State::Sampled);
        self.traces.get_mut(slot).due = self.wheel.taken();
        self.leaving.push_back(Leaving { slot, marks });
        slot
    }

    fn append(
        &mut self,
        request: &mut Request<'_>,
        item: &Item,
        facts: &Facts,
        slot: u32,
        way: Way,
    ) {
        let body = request.body;
        let origin = self.origin(request);
        let content = span::content(body, item.field);
        let (trace, holds) = self.traces.with_bits(slot);
        trace.spans = trace.spans.saturating_add(1);
        if way == Way::Wait {
            let resource = self.resources.get(origin.resource);
            bits::add(holds, &resource.holds);
            let (first, end) = facts.found;
            let subject = Subject {
                body,
                facts,
                found: &request.found[first as usize..end as usize],
                resource: resource.content(),
                scope: self.scopes.get(origin.scope).content(),
                span: content.of(body),
            };
            self.program.ask_span(&subject, request.moment.unix_nanos, holds);
            self.program.ask_times(&mut trace.times, facts, holds);
            let touch = &mut self.ingest.touched[trace.touch as usize];
            touch.has_root |= facts.is_root;
            if self.program.needs_size {
                touch.add(origin, size::field(size::span(content.of(body))), || {
                    self.scopes.get(origin.scope).size
                });
            }
            if self.rules.gates.use_trace_state {
                self.states.read(slot, facts.trace_state.of(body));
            }
        }
        let field = item.field.of(body);
        let (at, new_run) = self.buffer.append(field, origin, trace.tail, slot, trace.due);
        trace.tail = at;
        if way != Way::Wait {
            self.buffer.pin(at);
        }
        if new_run {
            self.count_run(origin);
        }
    }

    /// Where the span at hand comes from.
    fn origin(&mut self, request: &mut Request<'_>) -> Origin {
        let body = request.body;
        let sized = self.program.needs_size;
        let Self { resources, scopes, ingest, program, .. } = self;
        let resource = *request.resource.get_or_insert_with(|| {
            let fields = joined(body, request.resource_fields, &mut ingest.fields);
            resources.find(fields).unwrap_or_else(|| {
                let at = resources.add(fields, vec![0; program.words].into(), 0);
                let envelope = resources.get_mut(at);
                let (content, mut holds) = (envelope.content(), vec![0; program.words]);
                program.ask_resource(content, &mut holds);
                let size = if sized { size::field(size::resource(content)) } else { 0 };
                (envelope.holds, envelope.size) = (holds.into(), size);
                at
            })
        });
        let scope = *request.scope.get_or_insert_with(|| {
            let fields = joined(body, request.scope_fields, &mut ingest.fields);
            scopes.find(fields).unwrap_or_else(|| {
                let at = scopes.add(fields, Box::default(), 0);
                let envelope = scopes.get_mut(at);
                if sized {
                    envelope.size = size::field(size::scope(envelope.content()));
                }
                at
            })
        });
        Origin { resource, scope, batch: ingest.batch, group: ingest.group }
    }

    /// The ResourceSpans is taken; what is to be done once per trace of it.
    fn end_batch(&mut self, request: &Request<'_>) {
        let mut touched = std::mem::take(&mut self.ingest.touched);
        for touch in &mut touched {
            let valid = self.traces.get(touch.slot).generation == touch.generation;
            // Pushed out since, by another trace of the same ResourceSpans.
            if valid && touch.way == Way::Wait && self.is_undecided(touch.slot) {
                self.end_touch(request, touch);
            }
        }
        self.ingest.touched = touched;
    }

    fn end_touch(&mut self, request: &Request<'_>, touch: &mut Touch) {
        let slot = touch.slot;
        if let Some(wait) = self.rules.after_root
            && touch.has_root
        {
            self.hasten_for_root(slot, wait);
        }
        if self.program.needs_size {
            let resource = request.resource.map_or(0, |at| self.resources.get(at).size);
            let size = touch.whole() + resource;
            let trace = self.traces.get_mut(slot);
            trace.size += size;
            let around = u32::try_from(size::field(size) - size).unwrap_or(0);
            trace.envelopes_size = trace.envelopes_size.saturating_add(around);
            let max = self.rules.trace_bytes_max;
            if max > 0 && trace.size > max {
                return self.too_large(request.moment.now, slot);
            }
        }
        if self.rules.span_ingest {
            self.judge_batch(request.moment, slot);
        }
    }

    fn hasten_for_root(&mut self, slot: u32, wait: std::time::Duration) {
        let due = self.wheel.due_after_root(wait);
        let trace = self.traces.get_mut(slot);
        if due < trace.due {
            trace.due = due;
            let generation = trace.generation;
            self.wheel.put(due, Due { slot, generation });
        }
    }

    fn too_large(&mut self, now: Instant, slot: u32) {
        self.stats.too_large += 1;
        self.tell(slot, End::TooLarge, None);
        self.stats.lost.too_large += self.spans_of(slot);
        self.forget_spans(slot, true);
        self.census.decide();
        self.traces.get_mut(slot).state = State::NotSampled;
        self.remember_not_sampled(now, slot, None, false);
    }

    /// No room in the map: the oldest goes, decided or not (tailsampling 3.4). Where new traces
    /// wait for room, only what is decided goes.
    fn make_room(&mut self, now: Instant) {
        let mut next = self.traces.oldest();
        if self.rules.block_on_overflow {
            while let Some(slot) = next
                && self.is_undecided(slot)
            {
                next = self.traces.after(slot);
            }
        }
        if let Some(slot) = next {
            self.evict(now, slot);
        }
    }

    fn evict(&mut self, now: Instant, slot: u32) {
        if self.is_undecided(slot) {
            self.tell(slot, End::Evicted, None);
            self.stats.lost.evicted += self.spans_of(slot);
            self.forget_spans(slot, true);
            self.census.decide();
        }
        self.remove(now, slot, true);
    }
}

impl Touch {
    /// One more span, of this size with tag and length.
    fn add(&mut self, origin: Origin, span: u64, scope: impl FnOnce() -> u64) {
        if self.group != origin.group {
            self.end_group();
            (self.group, self.group_size) = (origin.group, scope());
        }
        self.group_size += span;
    }

    fn end_group(&mut self) {
        if self.group != 0 {
            self.size += size::field(self.group_size);
        }
        self.group = 0;
    }

    fn whole(&mut self) -> u64 {
        self.end_group();
        self.size
    }
}

/// The fields of an envelope, side by side.
fn joined<'a>(body: &'a [u8], extents: &[Extent], scratch: &'a mut Vec<u8>) -> &'a [u8] {
    match extents {
        [] => &[],
        [only] => only.of(body),
        several => {
            scratch.clear();
            several.iter().for_each(|extent| scratch.extend_from_slice(extent.of(body)));
            scratch
        }
    }
}

/// Checks an envelope, unless it is one that was checked before.
fn envelope(
    body: &[u8],
    extents: &[Extent],
    known: &Interner,
    scratch: &mut Vec<u8>,
    check: fn(&[u8], Extent) -> Result<(), Error>,
) -> Result<(), Error> {
    let fields = joined(body, extents, scratch);
    if known.find(fields).is_some() {
        return Ok(());
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
    Ok(())
}
