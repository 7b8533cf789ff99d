//! The sampler's two doors in the router: requests that are sampled, and traces that are kept.

use std::cell::RefCell;
use std::rc::Rc;

use bytes::Bytes;

use super::{Exits, Lack, Router, State, unreadable};
use crate::otlp::{self, Signal, reply};
use crate::rpc::Status;
use crate::rpc::service::Call;
use crate::runtime::clock;
use crate::sampler::{Exit, Refusal, Sampler};
use crate::time::Instant;
use crate::upstream::outlet;

impl Router {
    /// Makes the samplers known; the positions are those that ways name.
    pub fn set_samplers(&self, samplers: Vec<Rc<Sampler>>) {
        *self.samplers.borrow_mut() = samplers;
    }

    /// Whether requests of a receiver are exported as they come, and whether they are sampled.
    pub(super) fn ways(&self, way: usize, signal: Signal) -> (bool, bool) {
        let way = &self.state.borrow().ways[way];
        let samples = signal == Signal::Traces && !way.samplers.is_empty();
        (way.exits[signal as usize].is_some(), samples)
    }

    /// Gives a request to every sampler of its receiver. `counts`: nobody else counts it.
    pub(super) async fn sample(
        &self,
        way: usize,
        call: &Call,
        counts: bool,
    ) -> Result<Bytes, Status> {
        let mut items = 0;
        for at in 0.. {
            let Some(sampler) = self.sampler(way, at) else { break };
            match sampler.admit(&call.message, call.timeout).await {
                Ok(n) => items = n,
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
        Ok(Bytes::from_static(reply::FULL_SUCCESS))
    }

    fn sampler(&self, way: usize, at: usize) -> Option<Rc<Sampler>> {
        let at = *self.state.borrow().ways[way].samplers.get(at)?;
        Some(Rc::clone(&self.samplers.borrow()[at]))
    }
}

/// The exporters of a sampled pipeline; a new configuration may name others.
#[derive(Debug)]
pub(super) struct Kept(RefCell<Target>);

#[derive(Debug)]
struct Target {
    /// The core's router.
    router: Rc<Router>,
    /// Where its traces go.
    exits: Exits,
}

impl Kept {
    pub(super) fn new(router: Rc<Router>, exits: Exits) -> Rc<Self> {
        Rc::new(Self(RefCell::new(Target { router, exits })))
    }

    /// What is kept from now on goes to these exporters.
    pub(super) fn turn_to(&self, router: Rc<Router>, exits: Exits) {
        *self.0.borrow_mut() = Target { router, exits };
    }
}

impl Exit for Rc<Kept> {
    fn ship(&self, now: Instant, spans: u64, body: &[u8], late: bool) -> bool {
        self.0.borrow().ship(now, spans, body, late)
    }
}

impl Target {
    /// Each trace is a part of its own, so that a refused batch is halved down to one trace.
    fn ship(&self, now: Instant, spans: u64, body: &[u8], late: bool) -> bool {
        let state = &mut *self.router.state.borrow_mut();
        let State { outlets, index, offers, debug, .. } = state;
        offers.clear();
        let balances = self.exits.outlets.iter().any(|&at| outlets[at].ring().is_some());
        if balances && otlp::scan(Signal::Traces, body, index).is_err() {
            unreachable!("put together from spans that were checked");
        }
        for &at in &self.exits.outlets {
            if outlets[at].ring().is_some_and(|ring| ring.is_empty()) {
                return false;
            }
            outlets[at].offer(at, Signal::Traces, body, index, spans, offers);
        }
        let rooms: Option<Vec<_>> =
            self.exits.files.iter().map(|sink| sink.room(body.len())).collect();
        let Some(rooms) = rooms else { return false };
        let without = outlet::reserve(outlets, offers);
        if without > 0 && !(late && without < offers.len()) {
            outlet::unreserve(outlets, offers);
            return false;
        }
        for offer in offers.iter().filter(|offer| !offer.reserved) {
            outlet::lane_of(outlets, offer).queue().stats.overflowed += offer.items;
        }
        let bytes = offers.iter().map(|offer| offer.bytes as u64).sum();
        // It was admitted once, and the buffer gives its bytes back soon.
        let mut charge = self.router.memory.take_over(bytes);
        let mut replies = self.router.site.replies.borrow_mut();
        outlet::send(outlets, offers, (body, index, None), now, None, &mut replies, &mut charge);
        rooms.into_iter().for_each(|room| room.put(Signal::Traces, body, spans));
        for &at in &self.exits.debugs {
            debug[at].show(clock::now(), Signal::Traces, body);
        }
        true
    }
}
