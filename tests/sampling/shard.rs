//! The engine itself: a shard, driven by simulated time.

use std::collections::BTreeMap;
use std::sync::Arc;

use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, TracesData};
use prost::Message as _;
use tracemill::otlp::{self, Index, Signal};
use tracemill::sample::options::{Gates, Policy, Rule};
use tracemill::sample::stats::Outcome;
use tracemill::sample::{Census, Moment, Options, Program, Setup, Shard, Step};
use tracemill::testing::oracle::{Counts, Decision, PolicyCounts, Weight, normalize};
use tracemill::time::Instant;

use crate::engine::Engine;

/// One shard, and what has left it.
pub(crate) struct Real {
    shard: Shard,
    index: Index,
    out: Vec<(Instant, Vec<ResourceSpans>)>,
    gates: Gates,
}

fn moment(now: Instant) -> Moment {
    Moment { now, unix_nanos: now.0 }
}

impl Real {
    fn work(&mut self, now: Instant) {
        loop {
            match self.shard.poll(moment(now)) {
                Step::Kept(_) => self.keep(now),
                Step::Busy => {}
                Step::Idle => break,
            }
        }
        assert!(self.shard.deadline() > now, "what is due is done");
    }

    fn keep(&mut self, now: Instant) {
        let mut left = TracesData::decode(self.shard.kept()).unwrap().resource_spans;
        left.iter_mut().for_each(normalize);
        self.out.push((now, left));
    }
}

impl Engine for Real {
    fn start(options: &Options) -> Self {
        let (program, limiters) = Program::compile(options).unwrap();
        let setup = Setup {
            program: Arc::new(program),
            limiters: Arc::new(limiters),
            census: Arc::new(Census::new(options.num_traces)),
            shards: 1,
            seed: 7,
        };
        let shard = Shard::new(Instant(0), options, setup);
        Self { shard, index: Index::new(), out: Vec::new(), gates: options.gates }
    }

    fn arrive(&mut self, at: Instant, body: &[u8]) {
        self.advance(at);
        otlp::scan(Signal::Traces, body, &mut self.index).unwrap();
        self.shard.check(body, &self.index).unwrap();
        self.shard.push(moment(at), body, &self.index, |_| true);
        self.work(at);
    }

    fn advance(&mut self, to: Instant) {
        while self.shard.deadline() <= to {
            self.work(self.shard.deadline());
        }
    }

    fn shut_down(&mut self, at: Instant) {
        self.advance(at);
        self.shard.finish(moment(at));
        self.work(at);
        assert_eq!(self.shard.buffered(), 0, "every span is accounted for");
    }

    fn out(&self) -> Vec<(Instant, Vec<ResourceSpans>)> {
        self.out.clone()
    }

    fn samples(&self) -> BTreeMap<String, u64> {
        let stats = &self.shard.stats;
        let decision = |outcome| match outcome {
            Outcome::Sampled => Decision::Sampled,
            Outcome::NotSampled => Decision::NotSampled,
            Outcome::Dropped => Decision::Dropped,
        };
        let mut policies = BTreeMap::new();
        for (policy, votes) in self.shard.program().policies.iter().zip(&stats.votes) {
            let all = Outcome::ALL.into_iter().map(|outcome| {
                let at = outcome as usize;
                let (traces, spans) = (votes.traces[at], votes.spans[at]);
                (decision(outcome), Weight { traces, spans, bytes: votes.bytes[at] })
            });
            let counts = PolicyCounts { executions: votes.executions, votes: all.collect() };
            policies.insert(policy.name.to_string(), counts);
        }
        let decided = Outcome::ALL.into_iter().map(|o| (decision(o), stats.decided[o as usize]));
        let counts = Counts {
            new_traces: stats.new_traces,
            traces_on_memory: stats.traces_at_tick,
            dropped_too_early: stats.dropped_too_early,
            too_large: stats.too_large,
            errors: stats.errors,
            early_sampled_spans: stats.early_releases[0],
            early_not_sampled_spans: stats.early_releases[1],
            unparseable_trace_states: stats.unparseable_states,
            decided: decided.collect(),
            policies,
            ..Counts::default()
        };
        counts.samples(self.gates)
    }
}

#[test]
fn what_nobody_has_taken_yet_is_buffered_and_not_kept() {
    let policies = vec![Policy { name: "all".into(), rule: Rule::AlwaysSample }];
    let mut real = Real::start(&Options { policies, ..Options::default() });
    // One ResourceSpans with one ScopeSpans with one empty span.
    let body = [0x0a, 4, 0x12, 2, 0x12, 0];
    otlp::scan(Signal::Traces, &body, &mut real.index).unwrap();
    real.shard.check(&body, &real.index).unwrap();
    real.shard.push(moment(Instant(0)), &body, &real.index, |_| true);
    let now = moment(Instant(0) + 60 * std::time::Duration::from_secs(1));
    while real.shard.poll(now) != Step::Kept(1) {}
    while real.shard.decide_due(now) != Step::Idle {}
    assert_eq!((real.shard.stats.kept, real.shard.buffered()), (0, 1), "the store has no room");
    real.shard.poll(now);
    assert_eq!((real.shard.stats.kept, real.shard.buffered()), (1, 0));
}
