//! What should become of each trace: the word of the naive oracle, which decodes the requests of a
//! round, takes them in simulated time and judges every trace by the policies of `sampler.yaml`.

use std::collections::HashMap;

use super::traffic::Traffic;
use crate::sample::options::Options;
use crate::testing::oracle::{Decision, Oracle, Piece, ottl, pieces, rename};
use crate::time::Instant;

/// Attributes that the policies of `sampler.yaml` read.
const KEYS: &[&str] = &["url.path"];
/// A round arrives in its first second, in nanoseconds.
const ARRIVES: Instant = Instant(500_000_000);
/// Late spans arrive after every decision.
const LATE: Instant = Instant(30_000_000_000);
/// All is over.
const END: Instant = Instant(40_000_000_000);

/// The traces of a round, decoded, to be judged again in every round under other ids.
#[derive(Debug)]
pub(super) struct Verdicts {
    options: Options,
    /// By trace.
    on_time: Vec<Vec<Piece>>,
    late: Vec<Vec<Piece>>,
}

/// The oracle's word on a round.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Judged {
    /// Spans that leave, by trace.
    pub leaving: Vec<u64>,
    /// Votes that decide something, by policy: for keeping, for dropping.
    pub votes: Vec<[u64; 2]>,
}

impl Verdicts {
    /// `options` of the samplers.
    pub(super) fn new(options: &Options, mut traffic: Traffic) -> Self {
        for n in 0..traffic.round() {
            traffic.request(n, 1 << 60);
        }
        traffic.late(0, 1 << 60);
        let traces = u32::try_from(traffic.traces_per_round()).expect("a round is short");
        let number: HashMap<_, _> = (0..traces).map(|n| (traffic.id(0, n), n as usize)).collect();
        let mut on_time: Vec<Vec<Piece>> = vec![Vec::new(); traces as usize];
        let mut late = on_time.clone();
        for (n, body) in (0..).zip(traffic.bodies()) {
            let into = if n == traffic.round() { &mut late } else { &mut on_time };
            for (id, piece) in pieces(body, KEYS).expect("the workload is well formed") {
                into[number[&id]].push(piece);
            }
        }
        Self { options: options.clone(), on_time, late }
    }

    /// Judges a round whose traces have these ids; `late`: its late spans were sent, too.
    pub(super) fn judge(&self, ids: &[[u8; 16]], late: bool) -> Judged {
        let mut oracle = Oracle::new(&self.options, ottl::compiled());
        let mut arrive = |at, traces: &[Vec<Piece>]| {
            for (id, pieces) in ids.iter().zip(traces) {
                for piece in pieces {
                    let mut piece = piece.clone();
                    rename(&mut piece, *id);
                    oracle.arrive(at, &piece);
                }
            }
        };
        arrive(ARRIVES, &self.on_time);
        if late {
            arrive(LATE, &self.late);
        }
        oracle.advance(END);
        let mut out: HashMap<_, u64> = HashMap::new();
        for emission in oracle.emissions() {
            let scopes = emission.resource_spans.iter().flat_map(|r| &r.scope_spans);
            let spans: usize = scopes.map(|s| s.spans.len()).sum();
            *out.entry(emission.trace).or_default() += spans as u64;
        }
        let leaving = ids.iter().map(|id| out.get(id).copied().unwrap_or(0)).collect();
        let policies = &oracle.counts().policies;
        let votes = self.options.policies.iter().map(|policy| {
            let counts = policies.get(&policy.name);
            [Decision::Sampled, Decision::Dropped].map(|decision| {
                counts.and_then(|c| c.votes.get(&decision)).map_or(0, |weight| weight.traces)
            })
        });
        Judged { votes: votes.collect(), leaving }
    }
}
