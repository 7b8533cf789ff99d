//! The requests of the demonstration: templates of the workload, sent round after round with fresh
//! trace ids and times.
//!
//! A round holds all spans of each of its traces: of ordinary traces, a few of which failed or
//! were slow, spread over several requests; and of health checks, each alone in a request. A few
//! spans of ordinary traces come late, in one more request, when the decision has been made; on
//! their own they would change no verdict.

use std::time::Duration;

use bytes::Bytes;

use super::span::{self, Places};
use crate::otlp::{Index, Signal, scan};
use crate::rpc::frame::PREFIX_BYTES;
use crate::testing::random::trace_id;
use crate::testing::workload::{Options, Set, Size, Slot, Template, patch};

/// Spans in an ordinary request, about.
const SPANS_PER_REQUEST: u32 = 100;
/// Ordinary requests of a round.
const REQUESTS_PER_ROUND: usize = 24;
/// Health checks of a round.
const CHECKS_PER_ROUND: usize = 6;
/// Late spans of a round, each of another trace.
const LATE_PER_ROUND: u32 = 12;
/// Mean spans of an ordinary trace.
pub(super) const SPANS_PER_TRACE: u32 = 10;
/// Requests, each on a connection of its own, over which an ordinary trace is spread.
pub(super) const SPREAD: u32 = 3;
/// Share of spans that failed, which is about a twenty-fifth of the traces.
const ERROR_SHARE: f64 = 0.004;
/// Share of ordinary traces that were slow.
const SLOW_SHARE: f64 = 0.03;

/// One request, ready to be sent.
#[derive(Debug)]
pub(super) struct Request {
    /// Prefix and message.
    pub framed: Bytes,
    /// Spans in it.
    pub spans: u64,
    /// Its trace, if it has but one.
    pub single: Option<[u8; 16]>,
}

/// An endless number of requests, in rounds.
#[derive(Clone, Debug)]
pub(super) struct Traffic {
    forms: Vec<Form>,
    late: Form,
    traces_per_round: u64,
    spans_per_round: u64,
    seed: u64,
    /// When the last span of the templates ends.
    ends: u64,
}

#[derive(Clone, Debug)]
struct Form {
    framed: Vec<u8>,
    slots: Vec<Slot>,
    places: Vec<Places>,
    /// When each span starts, and how long it takes.
    times: Vec<(u64, u64)>,
}

impl Traffic {
    /// Equal seeds make equal traffic but for its times.
    pub(super) fn new(seed: u64) -> Self {
        let ordinary = Options {
            seed,
            size: Size::Spans(SPANS_PER_REQUEST),
            requests: REQUESTS_PER_ROUND,
            spans_per_trace: SPANS_PER_TRACE,
            spread: SPREAD,
            error_share: ERROR_SHARE,
            slow_share: SLOW_SHARE,
            ..Options::default()
        };
        let alone = Options { error_share: 0.0, slow_share: 0.0, spread: 1, ..ordinary.clone() };
        let alone = Options { spans_per_trace: 1, ..alone };
        let checks = Options { seed: !seed, size: Size::Spans(1), health: true, ..alone.clone() };
        let checks = Options { requests: CHECKS_PER_ROUND, ..checks };
        let late = Options { seed: seed ^ 1, size: Size::Spans(LATE_PER_ROUND), ..alone };
        let [ordinary, checks, late] =
            [ordinary, checks, Options { requests: 1, ..late }].map(|o| Set::new(&o));
        let (traces, late_traces) = (ordinary.traces, late.traces);
        let mut late = Form::all(late, |n| n * (traces / late_traces));
        let mut forms = Form::all(ordinary, |n| n);
        let step = forms.len() / CHECKS_PER_ROUND + 1;
        let all = traces + checks.traces;
        for (n, form) in Form::all(checks, |n| traces + n).into_iter().enumerate() {
            forms.insert((n * step + step / 2).min(forms.len()), form);
        }
        let late = late.swap_remove(0);
        let times = forms.iter().chain([&late]).flat_map(|f| &f.times);
        Self {
            ends: times.map(|(start, took)| start + took).max().unwrap_or(0),
            traces_per_round: u64::from(all),
            spans_per_round: forms.iter().map(Form::spans).sum(),
            forms,
            late,
            seed,
        }
    }

    /// Requests of a round, but for that with the late spans.
    pub(super) fn round(&self) -> u64 {
        self.forms.len() as u64
    }

    /// Spans of a round, but for the late ones.
    pub(super) fn spans_per_round(&self) -> u64 {
        self.spans_per_round
    }

    /// Traces of a round.
    pub(super) fn traces_per_round(&self) -> u64 {
        self.traces_per_round
    }

    /// The id of the round's `n`-th trace.
    pub(super) fn id(&self, round: u64, n: u32) -> [u8; 16] {
        trace_id(self.seed, round * self.traces_per_round + u64::from(n))
    }

    /// The `n`-th request; its round ended at `ended`: nanoseconds since 1970.
    pub(super) fn request(&mut self, n: u64, ended: u64) -> Request {
        let (round, at) = (n / self.round(), n % self.round());
        let (seed, first) = (self.seed, round * self.traces_per_round);
        let form = &mut self.forms[usize::try_from(at).expect("a round is short")];
        form.fill((self.ends, ended), |n| trace_id(seed, first + u64::from(n)))
    }

    /// The late spans of a round.
    pub(super) fn late(&mut self, round: u64, ended: u64) -> Request {
        let (seed, first) = (self.seed, round * self.traces_per_round);
        self.late.fill((self.ends, ended), |n| trace_id(seed, first + u64::from(n)))
    }

    /// The spans of each trace of a round, by their ids; those that come late are told.
    pub(super) fn spans(&self) -> Vec<Vec<([u8; 8], bool)>> {
        let mut all = vec![Vec::new(); usize::try_from(self.traces_per_round).unwrap_or(0)];
        let on_time = self.forms.iter().map(|form| (form, false));
        for (form, late) in on_time.chain([(&self.late, true)]) {
            for (slot, places) in form.slots.iter().zip(&form.places) {
                let id = span::eight(form.body(), places.id).expect("the template has it");
                all[slot.trace as usize].push((id, late));
            }
        }
        all
    }

    /// The messages of round 0 as they were sent last, that with the late spans at the end.
    pub(super) fn bodies(&self) -> impl Iterator<Item = &[u8]> {
        self.forms.iter().chain([&self.late]).map(Form::body)
    }
}

impl Form {
    /// The templates of a set, whose traces get the numbers `number(n)`.
    fn all(set: Set, number: impl Fn(u32) -> u32) -> Vec<Self> {
        let form = |mut template: Template| {
            template.slots.iter_mut().for_each(|slot| slot.trace = number(slot.trace));
            Self::new(&template.body, template.slots)
        };
        set.templates.into_iter().map(form).collect()
    }

    fn new(body: &[u8], slots: Vec<Slot>) -> Self {
        let mut index = Index::new();
        scan(Signal::Traces, body, &mut index).expect("the workload is well formed");
        let places = index.items().iter().map(|item| span::places(body, item));
        let places: Vec<_> =
            places.map(|p| p.expect("the workload's spans have ids and times")).collect();
        let number = |at| u64::from_le_bytes(span::eight(body, at).expect("it was found there"));
        let times = places.iter().map(|p| (number(p.start), number(p.end) - number(p.start)));
        let times = times.collect();
        let len = u32::try_from(body.len()).expect("requests are small");
        let mut framed = vec![0];
        framed.extend(len.to_be_bytes());
        framed.extend_from_slice(body);
        assert_eq!(framed.len(), body.len() + PREFIX_BYTES);
        Self { framed, slots, places, times }
    }

    fn body(&self) -> &[u8] {
        &self.framed[PREFIX_BYTES..]
    }

    fn spans(&self) -> u64 {
        self.slots.len() as u64
    }

    /// The request with these ids, all times moved so that what was at `ends` is at `ended`.
    fn fill(&mut self, (ends, ended): (u64, u64), id: impl Fn(u32) -> [u8; 16]) -> Request {
        let body = &mut self.framed[PREFIX_BYTES..];
        let single = (self.slots.len() == 1).then(|| id(self.slots[0].trace));
        patch(body, &self.slots, id);
        for (places, (start, took)) in self.places.iter().zip(&self.times) {
            let start = ended.saturating_sub(ends - start);
            write(body, places.start, start);
            write(body, places.end, start + took);
        }
        let framed = Bytes::copy_from_slice(&self.framed);
        Request { framed, spans: self.spans(), single }
    }
}

fn write(body: &mut [u8], at: u32, value: u64) {
    let at = at as usize;
    body[at..at + 8].copy_from_slice(&value.to_le_bytes());
}

/// What a round takes at `rate` spans per second.
pub(super) fn interval(traffic: &Traffic, rate: f64) -> Duration {
    Duration::from_secs_f64(traffic.spans_per_round() as f64 / rate)
}

#[cfg(test)]
mod tests {
    use std::collections::{HashMap, HashSet};

    use super::*;

    /// Ids of spans by trace, and the requests that bring them.
    type Seen = HashMap<[u8; 16], (Vec<[u8; 8]>, HashSet<u64>)>;

    fn note(seen: &mut Seen, request: &Request, number: u64, ended: u64) {
        let body = &request.framed[PREFIX_BYTES..];
        let mut index = Index::new();
        scan(Signal::Traces, body, &mut index).unwrap();
        assert_eq!(index.count(), request.spans);
        for item in index.items() {
            let places = span::places(body, item).unwrap();
            let end = u64::from_le_bytes(span::eight(body, places.end).unwrap());
            assert!(end <= ended && end + 5_000_000_000 > ended);
            let id = *item.trace_id(body).unwrap();
            assert!(request.single.is_none_or(|single| single == id));
            let (spans, requests) = seen.entry(id).or_default();
            spans.push(span::eight(body, places.id).unwrap());
            requests.insert(number);
        }
    }

    #[test]
    fn a_round_holds_whole_traces_spread_over_requests_and_ended_before_they_are_sent() {
        let mut traffic = Traffic::new(7);
        for round in 0..2 {
            let (mut seen, ended) = (Seen::new(), (5_000 + round) * 1_000_000_000);
            for n in round * traffic.round()..(round + 1) * traffic.round() {
                note(&mut seen, &traffic.request(n, ended), n, ended);
            }
            assert_eq!(seen.len() as u64, traffic.traces_per_round());
            let spans: usize = seen.values().map(|(spans, _)| spans.len()).sum();
            assert_eq!(spans as u64, traffic.spans_per_round());
            let spread = seen.values().filter(|(_, r)| r.len() == SPREAD as usize).count();
            let alone = seen.values().filter(|(_, r)| r.len() == 1).count();
            assert!(spread + alone + 2 >= seen.len() && alone < 10, "{spread} {alone}");
            note(&mut seen, &traffic.late(round, ended), u64::MAX, ended);
            assert_eq!(seen.len() as u64, traffic.traces_per_round(), "late spans have a trace");
            for (n, spans) in (0..).zip(traffic.spans()) {
                let ids: HashSet<_> = spans.iter().map(|(id, _)| *id).collect();
                assert_eq!(ids.len(), spans.len());
                assert_eq!(ids, seen[&traffic.id(round, n)].0.iter().copied().collect());
                assert!(spans.iter().filter(|(_, late)| *late).count() <= 1);
            }
        }
    }
}
