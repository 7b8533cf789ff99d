//! The requests of the demonstration: templates of the workload, with fresh trace ids, and the
//! time of sending as the end of each span.

use bytes::Bytes;

use super::span::{self, Places};
use crate::otlp::{Index, Signal, scan};
use crate::rpc::frame::PREFIX_BYTES;
use crate::testing::random::trace_id;
use crate::testing::workload::{Options, Set, Size, Slot, patch};

/// Spans in a request, about.
const SPANS_PER_REQUEST: u32 = 100;
/// Requests of a round.
const REQUESTS_PER_ROUND: usize = 24;
/// Mean spans of a trace.
pub(super) const SPANS_PER_TRACE: u32 = 10;
/// Requests, each on a connection of its own, over which a trace is spread.
pub(super) const SPREAD: u32 = 3;

/// One request, ready to be sent.
#[derive(Debug)]
pub(super) struct Request {
    /// Prefix and message.
    pub framed: Bytes,
    /// Spans in it.
    pub spans: u64,
    /// Sum of [`span::digest`] over them.
    pub digest: u64,
}

/// An endless number of requests, in rounds: a round holds all spans of each of its traces.
#[derive(Debug)]
pub(super) struct Traffic {
    forms: Vec<Form>,
    traces_per_round: u64,
    spans_per_round: u64,
    seed: u64,
}

#[derive(Debug)]
struct Form {
    framed: Vec<u8>,
    slots: Vec<Slot>,
    places: Vec<Places>,
}

impl Traffic {
    /// Equal seeds make equal traffic but for its times.
    pub(super) fn new(seed: u64) -> Self {
        let set = Set::new(&Options {
            seed,
            size: Size::Spans(SPANS_PER_REQUEST),
            requests: REQUESTS_PER_ROUND,
            spans_per_trace: SPANS_PER_TRACE,
            spread: SPREAD,
            ..Options::default()
        });
        Self {
            traces_per_round: u64::from(set.traces),
            spans_per_round: set.spans,
            forms: set.templates.into_iter().map(|t| Form::new(&t.body, t.slots)).collect(),
            seed,
        }
    }

    /// Requests of a round.
    pub(super) fn round(&self) -> u64 {
        self.forms.len() as u64
    }

    /// Mean spans of a request.
    pub(super) fn spans_per_request(&self) -> f64 {
        self.spans_per_round as f64 / self.forms.len() as f64
    }

    /// Traces in the first `requests` requests, which are whole rounds.
    pub(super) fn traces(&self, requests: u64) -> u64 {
        assert_eq!(requests % self.round(), 0, "only whole rounds hold whole traces");
        requests / self.round() * self.traces_per_round
    }

    /// The `n`-th request, sent now: nanoseconds since 1970.
    pub(super) fn request(&mut self, n: u64, now: u64) -> Request {
        let (round, seed) = (n / self.round(), self.seed);
        let at = usize::try_from(n % self.round()).expect("a round is short");
        let first = round * self.traces_per_round;
        let form = &mut self.forms[at];
        let body = &mut form.framed[PREFIX_BYTES..];
        patch(body, &form.slots, |trace| trace_id(seed, first + u64::from(trace)));
        let mut digest = 0u64;
        for (places, slot) in form.places.iter().zip(&form.slots) {
            let number = |at| span::eight(body, at).expect("the template has it");
            let took = u64::from_le_bytes(number(places.end))
                .saturating_sub(u64::from_le_bytes(number(places.start)));
            let id = number(places.id);
            write(body, places.start, now - took);
            write(body, places.end, now);
            let trace = body[slot.at as usize..].first_chunk().expect("it was just written");
            digest = digest.wrapping_add(span::digest(trace, id));
        }
        Request {
            framed: Bytes::copy_from_slice(&form.framed),
            spans: form.slots.len() as u64,
            digest,
        }
    }
}

impl Form {
    fn new(body: &[u8], slots: Vec<Slot>) -> Self {
        let mut index = Index::new();
        scan(Signal::Traces, body, &mut index).expect("the workload is well formed");
        let places = index.items().iter().map(|item| span::places(body, item));
        let places = places.map(|p| p.expect("the workload's spans have ids and times")).collect();
        let len = u32::try_from(body.len()).expect("requests are small");
        let mut framed = vec![0];
        framed.extend(len.to_be_bytes());
        framed.extend_from_slice(body);
        assert_eq!(framed.len(), body.len() + PREFIX_BYTES);
        Self { framed, slots, places }
    }
}

fn write(body: &mut [u8], at: u32, value: u64) {
    let at = at as usize;
    body[at..at + 8].copy_from_slice(&value.to_le_bytes());
}

#[cfg(test)]
mod tests {
    use std::collections::{HashMap, HashSet};

    use super::*;

    #[test]
    fn a_round_holds_whole_traces_spread_over_requests_and_stamped_with_the_time() {
        let mut traffic = Traffic::new(7);
        let mut places: HashMap<[u8; 16], HashSet<u64>> = HashMap::new();
        let (mut spans, mut digests) = (0, HashSet::new());
        for n in 0..2 * traffic.round() {
            let request = traffic.request(n, 5_000_000_000_000 + n);
            let body = &request.framed[PREFIX_BYTES..];
            let mut index = Index::new();
            scan(Signal::Traces, body, &mut index).unwrap();
            assert_eq!(index.count(), request.spans);
            spans += request.spans;
            assert!(digests.insert(request.digest));
            for item in index.items() {
                let end = span::places(body, item).unwrap().end;
                let end = u64::from_le_bytes(span::eight(body, end).unwrap());
                assert_eq!(end, 5_000_000_000_000 + n);
                places.entry(*item.trace_id(body).unwrap()).or_default().insert(n);
            }
        }
        assert_eq!(places.len() as u64, traffic.traces(2 * traffic.round()));
        assert_eq!(spans, 2 * traffic.spans_per_round);
        let spread = places.values().filter(|p| p.len() == SPREAD as usize).count();
        assert!(spread + 2 >= places.len(), "{spread} of {}", places.len());
    }
}
