//! Policies: what each type asks of a trace, and how votes become a verdict.
//!
//! A policy is compiled once. What it needs of spans is a **predicate** with a bit in every trace,
//! set on arrival ([`super::program`]); here the bits, counts and limiters are combined, and no
//! span is looked at again.

pub mod limiter;
pub mod probabilistic;
pub mod trace_state;

use limiter::{Bucket, Window};
use probabilistic::Probabilistic;

use super::bits::Bit;
use super::threshold::{Threshold, randomness_of_id};
use super::weigh::Spans;
use crate::time::Instant;

/// A compiled policy.
#[derive(Debug)]
pub enum Node {
    /// `always_sample`.
    Always,
    /// Kept if the predicate held for a span or a resource.
    Holds(Bit),
    /// `invert_match`: kept if it held for none.
    HoldsNot(Bit),
    /// `ottl_condition`: it held, or failed first (tailsampling 2.12).
    Condition {
        /// It held.
        holds: Bit,
        /// It failed before, and errors propagate.
        fails: Bit,
    },
    /// `span_count`.
    Count {
        /// Fewest spans.
        min: i64,
        /// Most spans; 0 is no limit.
        max: i64,
    },
    /// `probabilistic`.
    Probabilistic(Probabilistic),
    /// `rate_limiting` and `bytes_limiting`.
    Limit {
        /// Position of its bucket.
        bucket: usize,
        /// Bytes instead of spans.
        bytes: bool,
    },
    /// `and`.
    And(Vec<Self>),
    /// `not`.
    Not(Box<Self>),
    /// `drop`.
    Drop(Vec<Self>),
    /// `composite`.
    Composite {
        /// Most spans a second of any sub-policy.
        max: i64,
        /// In order.
        subs: Vec<Sub>,
    },
}

/// A sub-policy of `composite`.
#[derive(Debug)]
pub struct Sub {
    /// What it asks.
    pub node: Node,
    /// Its share: spans a second.
    pub share: i64,
    /// Position of its window.
    pub window: usize,
    /// `name`.
    pub name: Box<str>,
}

/// A policy's answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Vote {
    /// Keep, and what the rate of it was.
    Sampled(Threshold),
    /// Do not keep because of this.
    NotSampled,
    /// Do not keep, whatever others say.
    Dropped,
}

/// The policy could not answer: it has no vote.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Failed;

/// What is shared by all cores: limiters.
#[derive(Debug, Default)]
pub struct Limiters {
    /// Of `rate_limiting` and `bytes_limiting`, in the order of the file.
    pub buckets: Vec<Bucket>,
    /// Of the sub-policies of `composite`.
    pub windows: Vec<Window>,
}

/// What a decision knows of the trace and the world.
#[derive(Debug)]
pub struct Case<'a> {
    /// The trace.
    pub id: &'a [u8; 16],
    /// Spans received for it.
    pub spans: i64,
    /// Its size as the collector counts it; 0 if nobody asks.
    pub size: u64,
    /// Tags and lengths around the ResourceSpans, which `bytes_limiting` counts too.
    pub envelopes_size: u64,
    /// Which predicates hold.
    pub bits: &'a [u64],
    /// The tick's time.
    pub now: Instant,
    /// The tick's second on the wall clock.
    pub unix_second: u64,
    /// Shared limiters.
    pub limiters: &'a Limiters,
    /// With the gate `usetracestate`.
    pub trace_state: Option<Randomness<'a>>,
    /// The sub-policy by which a composite let it pass last.
    pub composite: Option<&'a str>,
    /// Its spans, with the gate `recordpolicy`.
    pub stored: Option<Spans<'a>>,
}

/// What the tracestates of the spans said (tailsampling 2.14).
#[derive(Clone, Copy, Debug)]
pub struct Randomness<'a> {
    /// The first `rv`.
    pub explicit: Option<u64>,
    /// A span had `rv` or `th`.
    pub has_info: bool,
    /// Thresholds that limiters have set for this tick, by bucket.
    pub limits: &'a [Option<Threshold>],
}

impl Case<'_> {
    /// 56 bits that all samplers of this trace share.
    #[must_use]
    pub fn randomness(&self) -> u64 {
        let explicit = self.trace_state.and_then(|t| t.explicit);
        explicit.unwrap_or_else(|| randomness_of_id(self.id))
    }
}

const KEEP: Vote = Vote::Sampled(Threshold::ALWAYS);

const fn keep_if(yes: bool) -> Vote {
    if yes { KEEP } else { Vote::NotSampled }
}

impl Node {
    /// Asks the policy.
    ///
    /// # Errors
    /// [`Failed`] when a condition failed and its errors propagate.
    pub fn vote<'a>(&'a self, case: &mut Case<'a>) -> Result<Vote, Failed> {
        Ok(match self {
            Self::Always => KEEP,
            Self::Holds(bit) => keep_if(bit.is_in(case.bits)),
            Self::HoldsNot(bit) => keep_if(!bit.is_in(case.bits)),
            Self::Condition { holds, fails } if fails.is_in(case.bits) => {
                debug_assert!(!holds.is_in(case.bits), "the first of the two decides");
                return Err(Failed);
            }
            Self::Condition { holds, .. } => keep_if(holds.is_in(case.bits)),
            Self::Count { min, max } => {
                keep_if(case.spans >= *min && (*max == 0 || case.spans <= *max))
            }
            Self::Probabilistic(rate) => probabilistic(rate, case),
            Self::Limit { bucket, bytes } => limit(*bucket, cost(*bytes, case), case),
            Self::And(subs) => return all(subs, case),
            Self::Not(sub) => match sub.vote(case)? {
                Vote::Sampled(_) => Vote::NotSampled,
                Vote::NotSampled => KEEP,
                Vote::Dropped => Vote::Dropped,
            },
            Self::Drop(subs) => match all(subs, case)? {
                Vote::Sampled(_) => Vote::Dropped,
                other => other,
            },
            Self::Composite { max, subs } => return composite(*max, subs, case),
        })
    }
}

/// The first that says no decides; kept is what the strictest keeps. Nothing asked is yes.
fn all<'a>(subs: &'a [Node], case: &mut Case<'a>) -> Result<Vote, Failed> {
    let mut strictest = Threshold::ALWAYS;
    for sub in subs {
        match sub.vote(case)? {
            Vote::Sampled(threshold) => strictest = strictest.max(threshold),
            Vote::NotSampled => return Ok(Vote::NotSampled),
            Vote::Dropped => {}
        }
    }
    Ok(Vote::Sampled(strictest))
}

fn probabilistic(rate: &Probabilistic, case: &Case<'_>) -> Vote {
    let keeps = match case.trace_state {
        Some(state) if state.has_info => rate.threshold.keeps(case.randomness()),
        _ => rate.keeps(case.id),
    };
    if keeps { Vote::Sampled(rate.threshold) } else { Vote::NotSampled }
}

/// What a trace takes of a bucket. What a composite has written on its scopes, if that is to be
/// recorded, counts from then on.
pub(super) fn cost(bytes: bool, case: &Case<'_>) -> i64 {
    if !bytes {
        return case.spans;
    }
    let whole = match (case.composite, &case.stored) {
        (Some(name), Some(spans)) => spans.size_with(name),
        _ => case.size.saturating_add(case.envelopes_size),
    };
    i64::try_from(whole).unwrap_or(i64::MAX)
}

fn limit(at: usize, cost: i64, case: &Case<'_>) -> Vote {
    let bucket = &case.limiters.buckets[at];
    match case.trace_state.and_then(|state| state.limits.get(at).copied().flatten()) {
        None => keep_if(bucket.take(case.now, cost)),
        Some(_) if cost > bucket.burst() => Vote::NotSampled,
        Some(threshold) if threshold.keeps(case.randomness()) => Vote::Sampled(threshold),
        Some(_) => Vote::NotSampled,
    }
}

/// The first sub-policy that says yes decides, within its share of the second; later ones are not
/// asked even if it has no room left (tailsampling 2.13).
fn composite<'a>(max: i64, subs: &'a [Sub], case: &mut Case<'a>) -> Result<Vote, Failed> {
    for sub in subs {
        if !matches!(sub.node.vote(case)?, Vote::Sampled(_)) {
            continue;
        }
        let window = &case.limiters.windows[sub.window];
        let spans = u64::try_from(case.spans).unwrap_or(0);
        let room = window.take(case.unix_second, spans, sub.share.min(max));
        if room {
            case.composite = Some(&sub.name);
        }
        return Ok(keep_if(room));
    }
    Ok(Vote::NotSampled)
}
