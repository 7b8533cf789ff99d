//! The sampler's two doors in the router: requests that are sampled, and traces that are kept.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;

use super::{Exits, Lack, Router, State, edited, unreadable};
use crate::otlp::edit::{self, Edits};
use crate::otlp::{self, Signal};
use crate::rpc::Status;
use crate::rpc::service::Call;
use crate::runtime::clock;
use crate::sampler::{Exit, Refusal, Sampler};
use crate::time::Instant;
use crate::upstream::outlet::{self, Request};

impl Router {
    /// Makes the samplers known; the positions are those that ways name.
    pub fn set_samplers(&self, samplers: Vec<Rc<Sampler>>) {
        *self.samplers.borrow_mut() = samplers;
    }

    /// Whether requests of a receiver are exported as they come, and whether they are sampled.
    pub(super) fn ways(&self, way: usize, signal: Signal) -> (bool, bool) {
        let way = &self.state.borrow().ways[way];
        let samples = signal == Signal::Traces && !way.samplers.is_empty();
        (!way.exits[signal as usize].is_empty(), samples)
    }

    /// Gives a request to every sampler of its receiver. `counts`: nobody else counts it.
    pub(super) async fn sample(&self, way: usize, call: &Call, counts: bool) -> Result<(), Status> {
        let mut items = 0;
        for at in 0.. {
            let Some((sampler, edits)) = self.sampler(way, at) else { break };
            let mut edited = self.edited_by(&edits, way, Signal::Traces, edited::again(call))?;
            match sampler.admit(&mut edited.message, call.timeout).await {
                Ok(spans) => items = spans,
                Err(Refusal::Unreadable(e)) => return Err(unreadable(call, e)),
                Err(why) => {
                    let lack = if why == Refusal::Memory { Lack::Memory } else { Lack::Traces };
                    return Err(self.refuse(way, Signal::Traces, call, lack));
                }
            }
        }
        if counts && items > 0 {
            let mut state = self.state.borrow_mut();
            let received = state.ways[way].received(call.transport, Signal::Traces);
            received.requests += 1;
            received.accepted += items;
        }
        Ok(())
    }

    fn sampler(&self, way: usize, at: usize) -> Option<(Rc<Sampler>, Arc<Edits>)> {
        let (at, edits) = self.state.borrow().ways[way].samplers.get(at)?.clone();
        Some((Rc::clone(&self.samplers.borrow()[at]), edits))
    }
}

/// The exporters of a sampled pipeline; a new configuration may name others.
#[derive(Debug)]
pub(super) struct Kept(RefCell<Target>);

#[derive(Debug)]
struct Target {
    /// The core's router.
    router: Rc<Router>,
    /// Where its traces go, by what is changed on the way.
    legs: Vec<Exits>,
    /// Legs that have taken the trace that is being shipped, and wait for the others.
    taken: Cell<usize>,
}

impl Kept {
    pub(super) fn new(router: Rc<Router>, legs: Vec<Exits>) -> Rc<Self> {
        Rc::new(Self(RefCell::new(Target { router, legs, taken: Cell::new(0) })))
    }

    /// What is kept from now on goes to these exporters.
    pub(super) fn turn_to(&self, router: Rc<Router>, legs: Vec<Exits>) {
        *self.0.borrow_mut() = Target { router, legs, taken: Cell::new(0) };
    }
}

impl Exit for Rc<Kept> {
    fn ship(&self, now: Instant, spans: u64, body: &[u8], late: bool) -> bool {
        self.0.borrow().ship(now, spans, body, late)
    }
}

impl Target {
    /// One leg after the other. A leg without room stops the trace; those before it keep theirs.
    fn ship(&self, now: Instant, spans: u64, body: &[u8], late: bool) -> bool {
        while let Some(leg) = self.legs.get(self.taken.get()) {
            let edited = match leg.edits.is_empty() {
                true => None,
                false => self.edited(&leg.edits, body),
            };
            if !self.ship_to(leg, now, spans, edited.as_deref().unwrap_or(body), late) {
                return false;
            }
            self.taken.set(self.taken.get() + 1);
        }
        self.taken.set(0);
        true
    }

    /// The trace with `edits`, or nothing if they do not change it.
    fn edited(&self, edits: &Edits, body: &[u8]) -> Option<Vec<u8>> {
        let state = &mut *self.router.state.borrow_mut();
        match state.editor.edit(edits, Signal::Traces, body) {
            Ok(edited) => edited,
            Err(edit::Refusal::Unreadable(_)) => {
                unreachable!("put together from spans that were checked")
            }
            Err(edit::Refusal::TooMuch) => {
                if let Some(suppressed) = state.quiet.admit(clock::now()) {
                    let bytes = body.len();
                    tracing::error!(bytes, suppressed, "A kept trace is too large to be edited.");
                }
                None
            }
        }
    }

    /// Each trace is a part of its own, so that a refused batch is halved down to one trace.
    fn ship_to(&self, exits: &Exits, now: Instant, spans: u64, body: &[u8], late: bool) -> bool {
        let state = &mut *self.router.state.borrow_mut();
        let State { outlets, index, offers, debug, .. } = state;
        offers.clear();
        let balances = exits.outlets.iter().any(|&at| outlets[at].ring().is_some());
        if balances && otlp::scan(Signal::Traces, body, index).is_err() {
            unreachable!("put together from spans that were checked");
        }
        for &at in &exits.outlets {
            if outlets[at].ring().is_some_and(|ring| ring.is_empty()) {
                return false;
            }
            outlets[at].offer(at, Signal::Traces, body, index, spans, offers);
        }
        let rooms: Option<Vec<_>> = exits.files.iter().map(|sink| sink.room(body.len())).collect();
        let Some(rooms) = rooms else { return false };
        let without = outlet::reserve(outlets, offers);
        let waits = !late || without == offers.len() || outlet::blocks(outlets, offers);
        if without > 0 && waits {
            outlet::unreserve(outlets, offers);
            return false;
        }
        outlet::count_overflow(outlets, offers);
        let bytes = offers.iter().map(|offer| offer.bytes as u64).sum();
        // It was admitted once, and the buffer gives its bytes back soon.
        let mut charge = self.router.memory.take_over(bytes);
        let mut replies = self.router.site.replies.borrow_mut();
        let request = Request { body, index, metadata: None };
        outlet::send(outlets, offers, request, now, None, &mut replies, &mut charge);
        // With them goes what they hold of places.
        offers.clear();
        rooms.into_iter().for_each(|room| room.put(Signal::Traces, body, spans));
        for &at in &exits.debugs {
            debug[at].show(clock::now(), Signal::Traces, body, spans);
        }
        true
    }
}
