//! Verdicts: votes in their order, and what they come to (tailsampling 2.15, 3.5).

use std::time::Duration;

use super::{Chains, Marks, Moment, Shard, Tick, Traces};
use crate::sample::policy::{Case, Limiters, Randomness, Vote, cost};
use crate::sample::program::Program;
use crate::sample::states::Said;
use crate::sample::stats::{Outcome, Stats};
use crate::sample::threshold::Threshold;
use crate::sample::weigh::Spans;

/// What a decision takes, as limiters see it.
const DECISION: Duration = Duration::from_micros(1);

/// What was decided about a trace.
#[derive(Debug)]
pub(super) struct Verdict {
    pub(super) outcome: Outcome,
    pub(super) marks: Marks,
}

impl Verdict {
    pub(super) fn not_sampled() -> Self {
        Self { outcome: Outcome::NotSampled, marks: Marks::default() }
    }

    fn dropped(by: usize) -> Self {
        let marks = Marks { policy: Some(position(by)), ..Marks::default() };
        Self { outcome: Outcome::Dropped, marks }
    }
}

/// Asks policies about one trace, and counts.
struct Bench<'a> {
    program: &'a Program,
    stats: &'a mut Stats,
    case: Case<'a>,
}

impl<'a> Bench<'a> {
    /// The vote of policy `at`; none if it failed.
    fn ask(&mut self, at: usize) -> Option<Vote> {
        let policy = &self.program.policies[at];
        let votes = &mut self.stats.votes[at];
        votes.executions += 1;
        let Ok(vote) = policy.node.vote(&mut self.case) else {
            self.stats.errors += 1;
            return None;
        };
        let outcome = match vote {
            Vote::Sampled(_) => Outcome::Sampled,
            Vote::NotSampled => Outcome::NotSampled,
            Vote::Dropped => Outcome::Dropped,
        };
        votes.traces[outcome as usize] += 1;
        votes.spans[outcome as usize] += u64::try_from(self.case.spans).unwrap_or(0);
        votes.bytes[outcome as usize] += self.case.size;
        Some(vote)
    }

    /// Whether a drop policy drops the trace.
    fn dropped(&mut self) -> Option<Verdict> {
        (0..self.program.drops)
            .find(|at| self.ask(*at) == Some(Vote::Dropped))
            .map(Verdict::dropped)
    }

    /// The other policies, of which any yes wins.
    fn whole(&mut self, first_match: bool) -> Verdict {
        let mut kept: Option<(u16, Threshold)> = None;
        for at in self.program.drops..self.program.policies.len() {
            match self.ask(at) {
                Some(Vote::Dropped) => return Verdict::dropped(at),
                Some(Vote::Sampled(threshold)) => {
                    kept = Some(match kept {
                        None => (position(at), threshold),
                        Some((first, least)) => (first, least.min(threshold)),
                    });
                    if first_match {
                        break;
                    }
                }
                _ => {}
            }
        }
        match kept {
            None => Verdict::not_sampled(),
            Some((policy, threshold)) => self.kept(policy, threshold),
        }
    }

    /// Some spans are there. A drop policy that may still match forbids every yes. `None`: the
    /// trace waits on.
    fn part(&mut self) -> Option<Verdict> {
        let mut may_drop = false;
        for at in 0..self.program.policies.len() {
            let drops = at < self.program.drops;
            if !drops && may_drop {
                break;
            }
            match self.ask(at) {
                Some(Vote::Dropped) => return Some(Verdict::dropped(at)),
                Some(_) if drops => may_drop = true,
                Some(Vote::Sampled(threshold)) => {
                    return Some(self.kept(position(at), threshold));
                }
                _ => {}
            }
        }
        None
    }

    fn kept(&self, policy: u16, threshold: Threshold) -> Verdict {
        let threshold = self.case.trace_state.map(|_| threshold);
        let composite = self.case.composite.map(Into::into);
        let marks = Marks { policy: Some(policy), composite, threshold, ..Marks::default() };
        Verdict { outcome: Outcome::Sampled, marks }
    }
}

fn position(at: usize) -> u16 {
    u16::try_from(at).expect("fewer policies than bytes of a configuration")
}

impl Tick {
    /// When the trace is asked about that comes next. A decision takes the collector at least a
    /// microsecond: a bucket of a very high rate is full again for the next trace.
    fn ask(&mut self) -> Moment {
        self.asked = self.asked.saturating_add(1);
        self.asked_at()
    }

    fn asked_at(&self) -> Moment {
        Moment { now: self.moment.now + DECISION * self.asked, ..self.moment }
    }
}

impl Shard {
    /// The verdict of the drop policies about a trace with all its spans, if one drops it.
    pub(super) fn judge_drops(&mut self, tick: &mut Tick, chain: u32) -> Option<Verdict> {
        if self.program.drops == 0 {
            return None;
        }
        self.bench(tick.ask(), chain, &[], |bench| bench.dropped())
    }

    /// The verdict of the other policies.
    pub(super) fn judge(&mut self, tick: &mut Tick, chain: u32) -> Verdict {
        let first_match = self.rules.first_match;
        self.bench(tick.ask(), chain, &tick.limits, |bench| bench.whole(first_match))
    }

    /// The verdict about a trace by the spans of one batch; `None` while it waits.
    pub(super) fn judge_part(&mut self, moment: Moment, chain: u32) -> Option<Verdict> {
        self.bench(moment, chain, &[], |bench| bench.part())
    }

    fn bench<T>(
        &mut self,
        moment: Moment,
        chain: u32,
        limits: &[Option<Threshold>],
        ask: impl FnOnce(&mut Bench<'_>) -> T,
    ) -> T {
        let said = self.states.said(chain);
        let tail = self.chains.get(chain).tail;
        let Self { program, stats, limiters, traces, chains, buffer, resources, scopes, .. } = self;
        let mut case = case(traces, chains, chain, moment, limiters, said, limits);
        case.stored =
            self.rules.gates.record_policy.then_some(Spans { tail, buffer, resources, scopes });
        ask(&mut Bench { program, stats, case })
    }

    /// With the gate `usetracestate`: limiters look at all traces of a tick first, keep those of
    /// highest randomness that fit, and turn that into a threshold (tailsampling 2.14). What drop
    /// policies drop is gone by then; `strays` have come back to the set of their tick.
    pub(super) fn set_limits(&mut self, tick: &mut Tick, strays: &[u32]) {
        let others = &self.program.policies[self.program.drops..];
        let any = others.iter().any(|policy| policy.node.limits_batches());
        if !self.rules.gates.use_trace_state || !any {
            return;
        }
        let due = tick.due.iter().filter(|due| self.is_due(tick, **due)).map(|due| due.chain);
        let waiting: Vec<u32> = due.chain(strays.iter().copied()).collect();
        let moment = tick.asked_at();
        let Self { program, limiters, traces, chains, states, .. } = self;
        let mut cases: Vec<Case<'_>> = waiting
            .iter()
            .map(|&at| case(traces, chains, at, moment, limiters, states.said(at), &[]))
            .collect();
        let mut limits = vec![None; limiters.buckets.len()];
        for policy in &program.policies[program.drops..] {
            policy.node.set_limits(&mut cases, &mut limits);
        }
        tick.limits = limits;
    }
}

fn case<'a>(
    traces: &'a Traces,
    chains: &'a Chains,
    at: u32,
    moment: Moment,
    limiters: &'a Limiters,
    said: Option<Said>,
    limits: &'a [Option<Threshold>],
) -> Case<'a> {
    let chain = chains.get(at);
    Case {
        id: &traces.get(chain.trace()).id,
        spans: i64::from(chain.spans),
        size: chain.size,
        envelopes_size: u64::from(chain.envelopes_size),
        bits: chains.bits(at),
        now: moment.now,
        unix_second: moment.unix_nanos / 1_000_000_000,
        limiters,
        trace_state: said.map(|said| Randomness {
            explicit: said.randomness,
            has_info: said.has_info,
            limits,
        }),
        composite: None,
        stored: None,
    }
}

impl crate::sample::policy::Node {
    /// Whether it looks at all traces of a tick first.
    fn limits_batches(&self) -> bool {
        let is_limit = |node: &Self| matches!(node, Self::Limit { .. });
        is_limit(self) || matches!(self, Self::And(subs) if subs.iter().any(is_limit))
    }

    /// Sets the threshold of a limiter that stands alone or in an `and`, where only traces that
    /// pass the other parts count.
    fn set_limits<'a>(&'a self, cases: &mut [Case<'a>], limits: &mut [Option<Threshold>]) {
        match self {
            Self::Limit { bucket, bytes } => {
                let all: Vec<&Case<'a>> = cases.iter().collect();
                limits[*bucket] = Some(threshold(*bucket, *bytes, &all));
            }
            Self::And(subs) if subs.iter().any(|sub| matches!(sub, Self::Limit { .. })) => {
                let mut passing = Vec::new();
                for case in cases {
                    let others = subs.iter().filter(|sub| !matches!(sub, Self::Limit { .. }));
                    let mut votes = others.map(|sub| sub.vote(case));
                    if votes.all(|vote| matches!(vote, Ok(Vote::Sampled(_) | Vote::Dropped))) {
                        passing.push(&*case);
                    }
                }
                for sub in subs {
                    if let Self::Limit { bucket, bytes } = sub {
                        limits[*bucket] = Some(threshold(*bucket, *bytes, &passing));
                    }
                }
            }
            _ => {}
        }
    }
}

/// The threshold that keeps as many traces of highest randomness as fit the bucket; they are paid
/// for at once. Traces that can never fit do not count.
fn threshold(at: usize, bytes: bool, cases: &[&Case<'_>]) -> Threshold {
    let Some(first) = cases.first() else { return Threshold::ALWAYS };
    let bucket = &first.limiters.buckets[at];
    let mut items: Vec<(u64, i64)> = cases
        .iter()
        .map(|case| (case.randomness(), cost(bytes, case)))
        .filter(|(_, cost)| *cost <= bucket.burst())
        .collect();
    items.sort_by_key(|(randomness, _)| std::cmp::Reverse(*randomness));
    let mut threshold = Threshold::ALWAYS;
    // Other cores take of it, too.
    bucket.take_some(first.now, |budget| {
        let (found, spent) = cut(&items, budget);
        threshold = found;
        spent
    });
    threshold
}

/// The threshold that keeps the first of `items`, each a randomness and a cost, which do not cost
/// more than `budget`; and what they cost.
fn cut(items: &[(u64, i64)], budget: i64) -> (Threshold, i64) {
    let mut spent = 0;
    let mut kept = 0;
    while kept < items.len() && spent + items[kept].1 <= budget {
        spent += items[kept].1;
        kept += 1;
    }
    let Some((rejected, _)) = items.get(kept) else { return (Threshold::ALWAYS, spent) };
    // Equal randomness cannot be told apart: the whole tie is rejected.
    while kept > 0 && items[kept - 1].0 == *rejected {
        kept -= 1;
        spent -= items[kept].1;
    }
    (if kept == 0 { Threshold::NEVER } else { Threshold(rejected + 1) }, spent)
}
