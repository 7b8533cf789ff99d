//! From a scenario that shows a difference to a small one that still does.

use super::Scenario;
use crate::sample::options::{Gates, Options, Policy, Rule};

/// Tries at most.
const TRIES_MAX: usize = 5_000;

/// The smallest scenario found for which `fails` still says yes.
#[must_use]
pub fn shrink(mut scenario: Scenario, mut fails: impl FnMut(&Scenario) -> bool) -> Scenario {
    let mut tries = 0;
    let mut before = usize::MAX;
    while size(&scenario) < before && tries < TRIES_MAX {
        before = size(&scenario);
        for cut in CUTS {
            let mut at = 0;
            while tries < TRIES_MAX {
                let mut smaller = scenario.clone();
                if !cut(&mut smaller, at) {
                    break;
                }
                tries += 1;
                if smaller != scenario && fails(&smaller) {
                    scenario = smaller;
                } else {
                    at += 1;
                }
            }
        }
    }
    scenario
}

fn size(scenario: &Scenario) -> usize {
    format!("{scenario:?}").len()
}

/// Makes its `at`-th cut; says whether there is one.
type Cut = fn(&mut Scenario, usize) -> bool;

const CUTS: [Cut; 7] = [half, arrival, policy, setting, span, part, hollow];

/// Halves, quarters and so on of the requests.
fn half(scenario: &mut Scenario, at: usize) -> bool {
    let (level, nth) = match at {
        0..2 => (2, at),
        2..6 => (4, at - 2),
        6..14 => (8, at - 6),
        _ => return false,
    };
    let count = scenario.arrivals.len();
    scenario.arrivals.drain(count * nth / level..count * (nth + 1) / level);
    true
}

fn arrival(scenario: &mut Scenario, at: usize) -> bool {
    let there = at < scenario.arrivals.len();
    if there {
        scenario.arrivals.remove(at);
    }
    there
}

/// Removes a policy, or puts its first sub-policy in its place, or removes a sub-policy.
fn policy(scenario: &mut Scenario, at: usize) -> bool {
    let policies = &mut scenario.options.policies;
    let (which, how) = (at / 8, at % 8);
    if which >= policies.len() {
        return false;
    }
    if how == 0 {
        policies.remove(which);
        return true;
    }
    let own = &mut policies[which];
    match (&mut own.rule, how) {
        (Rule::And(subs), 1) if !subs.is_empty() => own.rule = subs.remove(0).rule,
        (Rule::Not(sub), 1) => own.rule = sub.rule.clone(),
        (Rule::And(subs) | Rule::Drop(subs), 2..) if subs.len() > how - 2 => {
            subs.remove(how - 2);
        }
        (Rule::Composite { subs, .. }, 2..) if subs.len() > how - 2 => {
            subs.remove(how - 2);
        }
        (Rule::StringAttribute { values, .. }, 1) if values.len() > 1 => {
            values.pop();
        }
        (Rule::OttlCondition { span, spanevent, .. }, 1) if span.len() + spanevent.len() > 1 => {
            let last = span.pop();
            spanevent.truncate(spanevent.len() - usize::from(last.is_none()));
        }
        _ => {}
    }
    true
}

/// Back to a default.
fn setting(scenario: &mut Scenario, at: usize) -> bool {
    let default = Options::default();
    let own = &mut scenario.options;
    match at {
        0 => own.decision_wait_after_root = default.decision_wait_after_root,
        1 => own.num_traces = default.num_traces,
        2 => own.block_on_overflow = false,
        3 => own.sample_on_first_match = false,
        4 => own.strategy = default.strategy,
        5 => own.drop_pending_on_shutdown = false,
        6 => own.trace_bytes_max = 0,
        7 if !own.block_on_overflow => own.sampled_cache = 0,
        8 if !own.block_on_overflow => own.non_sampled_cache = 0,
        9 => own.gates = Gates::default(),
        10 => own.gates.record_policy = false,
        11 => own.gates.use_trace_state = false,
        12 => own.gates.count_spans_sampled = false,
        13 => own.gates.count_bytes_sampled = false,
        14 => own.expected_new_traces_per_sec = 0,
        15 => scenario.shut_down = false,
        16 => own.policies.iter_mut().for_each(simple),
        17 => scenario.arrivals.iter_mut().for_each(|arrival| arrival.descending = false),
        7 | 8 => {}
        _ => return false,
    }
    true
}

fn simple(policy: &mut Policy) {
    policy.rule = Rule::AlwaysSample;
}

/// The `at`-th span of all.
fn span(scenario: &mut Scenario, at: usize) -> bool {
    let mut at = at;
    if at >= scenario.spans() {
        return false;
    }
    for arrival in &mut scenario.arrivals {
        for resource_spans in &mut arrival.request.resource_spans {
            for scope_spans in &mut resource_spans.scope_spans {
                if at < scope_spans.spans.len() {
                    scope_spans.spans.remove(at);
                    return true;
                }
                at -= scope_spans.spans.len();
            }
        }
    }
    true
}

/// Scopes, resources and requests without spans.
fn hollow(scenario: &mut Scenario, at: usize) -> bool {
    for arrival in &mut scenario.arrivals {
        for resource_spans in &mut arrival.request.resource_spans {
            resource_spans.scope_spans.retain(|scope| !scope.spans.is_empty());
        }
        arrival.request.resource_spans.retain(|resource| !resource.scope_spans.is_empty());
    }
    scenario.arrivals.retain(|arrival| !arrival.request.resource_spans.is_empty());
    at == 0
}

/// What a span or its surroundings say beyond what must be there.
fn part(scenario: &mut Scenario, at: usize) -> bool {
    const PARTS: usize = 9;
    let mut which = at / PARTS;
    if which >= scenario.spans() {
        return false;
    }
    for arrival in &mut scenario.arrivals {
        for resource_spans in &mut arrival.request.resource_spans {
            for scope_spans in &mut resource_spans.scope_spans {
                if which >= scope_spans.spans.len() {
                    which -= scope_spans.spans.len();
                    continue;
                }
                let span = &mut scope_spans.spans[which];
                match at % PARTS {
                    0 => span.attributes.clear(),
                    1 => span.events.clear(),
                    2 => span.links.clear(),
                    3 => span.trace_state.clear(),
                    4 => span.status = None,
                    5 => (span.flags, span.kind, span.dropped_links_count) = (0, 0, 0),
                    6 => span.name.clear(),
                    7 => {
                        scope_spans.scope = None;
                        scope_spans.schema_url.clear();
                    }
                    _ => {
                        resource_spans.resource = None;
                        resource_spans.schema_url.clear();
                    }
                }
                return true;
            }
        }
    }
    true
}
