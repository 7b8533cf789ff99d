//! What arrived: counts per endpoint, time of the hop, split and misplaced traces.
//!
//! Memory is bounded: a histogram per endpoint, and [`Seen`] for the question whether a trace came
//! to two endpoints.

use hdrhistogram::Histogram;

use super::seen::{SPLIT, Seen};
use super::span;
use crate::otlp::{Index, Signal, scan};
use crate::route::Ring;

/// Longest hop that is told apart: a minute, in nanoseconds.
const HOP_NANOS_MAX: u64 = 60_000_000_000;

/// A histogram of hops in nanoseconds, to two digits.
pub(super) fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1_000, HOP_NANOS_MAX, 2).expect("the bounds are constants")
}

/// Counts of one endpoint.
#[derive(Debug)]
pub(super) struct Tally {
    pub spans: u64,
    pub hop: Histogram<u64>,
    /// Since the last [`Judge::recent`].
    pub recent_spans: u64,
    pub recent_hop: Histogram<u64>,
}

/// Looks at every span that arrives.
#[derive(Debug)]
pub(super) struct Judge {
    ring: Ring,
    /// Owner in the ring → number of the endpoint.
    owners: Vec<u8>,
    tallies: Vec<Tally>,
    seen: Seen,
    index: Index,
    /// Sum of [`span::digest`] over all spans.
    pub digest: u64,
    /// Traces seen.
    pub traces: u64,
    /// Of those, seen at more than one endpoint.
    pub split: u64,
    /// Spans at an endpoint that the ring did not choose.
    pub misplaced: u64,
    /// Requests or spans that cannot be read.
    pub unreadable: u64,
}

/// One second of one endpoint.
#[derive(Debug)]
pub(super) struct Recent {
    pub spans: u64,
    pub hop: Histogram<u64>,
}

impl Judge {
    /// `addresses` of the endpoints, and the ring that should choose among them.
    pub(super) fn new(addresses: &[String], ring: Ring) -> Self {
        let number = |dialled| addresses.iter().position(|a| a == dialled).unwrap_or(usize::MAX);
        let owners = ring.endpoints().iter().map(|e| u8::try_from(number(e)).unwrap_or(SPLIT));
        let tally =
            |_| Tally { spans: 0, hop: histogram(), recent_spans: 0, recent_hop: histogram() };
        Self {
            owners: owners.collect(),
            tallies: addresses.iter().map(tally).collect(),
            ring,
            seen: Seen::new(),
            index: Index::new(),
            digest: 0,
            traces: 0,
            split: 0,
            misplaced: 0,
            unreadable: 0,
        }
    }

    /// A request came to the endpoint; `now` in nanoseconds since 1970.
    pub(super) fn request(&mut self, endpoint: u8, body: &[u8], now: u64) {
        let mut index = std::mem::take(&mut self.index);
        if scan(Signal::Traces, body, &mut index).is_err() {
            self.unreadable += 1;
        }
        // Spans that were sent together stand together and have one time.
        let (mut sent, mut together) = (0, 0);
        for item in index.items() {
            let Some(end) = self.span(endpoint, body, item) else {
                self.unreadable += 1;
                continue;
            };
            if end != sent {
                self.hop(endpoint, now.saturating_sub(sent), together);
                (sent, together) = (end, 0);
            }
            together += 1;
        }
        self.hop(endpoint, now.saturating_sub(sent), together);
        self.index = index;
    }

    /// Judges a span; when it was sent.
    fn span(&mut self, endpoint: u8, body: &[u8], item: &crate::otlp::Item) -> Option<u64> {
        let trace = item.trace_id(body)?;
        let places = span::places(body, item)?;
        self.digest = self.digest.wrapping_add(span::digest(trace, span::eight(body, places.id)?));
        let owner = self.ring.owner(trace).map(|owner| self.owners[usize::from(owner)]);
        self.misplaced += u64::from(owner != Some(endpoint));
        match self.seen.note(trace, endpoint) {
            None => self.traces += 1,
            Some(home) if home == endpoint || home == SPLIT => {}
            Some(_) => {
                self.split += 1;
                self.seen.mark_split(trace);
            }
        }
        Some(u64::from_le_bytes(span::eight(body, places.end)?))
    }

    fn hop(&mut self, endpoint: u8, nanos: u64, spans: u64) {
        if spans == 0 {
            return;
        }
        let tally = &mut self.tallies[usize::from(endpoint)];
        tally.spans += spans;
        tally.recent_spans += spans;
        tally.hop.saturating_record_n(nanos, spans);
        tally.recent_hop.saturating_record_n(nanos, spans);
    }

    /// What came to each endpoint since the last call.
    pub(super) fn recent(&mut self) -> Vec<Recent> {
        let take = |tally: &mut Tally| Recent {
            spans: std::mem::take(&mut tally.recent_spans),
            hop: std::mem::replace(&mut tally.recent_hop, histogram()),
        };
        self.tallies.iter_mut().map(take).collect()
    }

    /// Counts by endpoint.
    pub(super) fn tallies(&self) -> &[Tally] {
        &self.tallies
    }

    /// Spans of all endpoints.
    pub(super) fn spans(&self) -> u64 {
        self.tallies.iter().map(|t| t.spans).sum()
    }

    /// Share of the ring that the endpoint owns.
    pub(super) fn ring_share(&self, endpoint: usize) -> f64 {
        let at = self.owners.iter().position(|&o| usize::from(o) == endpoint);
        at.and_then(|at| u16::try_from(at).ok()).map_or(0.0, |at| self.ring.share(at))
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::demo::traffic::Traffic;
    use crate::route::{Generation, Split};
    use crate::rpc::frame::PREFIX_BYTES;

    pub(in crate::demo) fn names() -> Vec<String> {
        (1..=4).map(|n| format!("127.0.0.1:{n}")).collect()
    }

    /// Cuts a round as the router does and gives each part to endpoint `f(owner)`.
    pub(in crate::demo) fn judged(f: impl Fn(u16) -> u8) -> (Judge, u64, u64) {
        let ring = Ring::new(Generation::V3, &names());
        let mut judge = Judge::new(&names(), ring.clone());
        let mut traffic = Traffic::new(3);
        let (mut split, mut index) = (Split::default(), Index::new());
        let (mut spans, mut digest) = (0, 0u64);
        for n in 0..traffic.round() {
            let request = traffic.request(n, 1 << 60);
            let body = &request.framed[PREFIX_BYTES..];
            scan(Signal::Traces, body, &mut index).unwrap();
            for (at, part) in split.plan(body, &index, &ring).to_vec().iter().enumerate() {
                let mut out = Vec::new();
                split.write(at, body, &index, &mut out);
                judge.request(f(part.endpoint), &out, (1 << 60) + 2_000_000);
            }
            spans += request.spans;
            digest = digest.wrapping_add(request.digest);
        }
        (judge, spans, digest)
    }

    #[test]
    fn traffic_that_went_where_the_ring_says_is_found_whole() {
        let (mut judge, spans, digest) = judged(|owner| u8::try_from(owner).unwrap());
        assert_eq!((judge.spans(), judge.digest), (spans, digest));
        assert_eq!((judge.split, judge.misplaced, judge.unreadable), (0, 0, 0));
        assert_eq!(judge.traces, Traffic::new(3).traces(Traffic::new(3).round()));
        let recent = judge.recent();
        assert_eq!(recent.iter().map(|r| r.spans).sum::<u64>(), spans);
        let p50 = recent[0].hop.value_at_quantile(0.5);
        assert!((1_900_000..2_100_000).contains(&p50), "{p50}");
        assert_eq!(judge.recent()[0].spans, 0);
        let shares: f64 = (0..4).map(|n| judge.ring_share(n)).sum();
        assert!((shares - 1.0).abs() < 1e-9);
    }

    #[test]
    fn a_part_at_the_wrong_endpoint_is_misplaced_and_splits_its_traces() {
        let parts = std::cell::Cell::new(0);
        let (judge, spans, digest) = judged(|owner| {
            parts.set(parts.get() + 1);
            // One part of one request goes astray.
            u8::try_from(if parts.get() == 9 { (owner + 1) % 4 } else { owner }).unwrap()
        });
        assert_eq!((judge.spans(), judge.digest), (spans, digest));
        assert!(judge.misplaced > 0 && judge.split > 0, "{} {}", judge.misplaced, judge.split);
    }
}
