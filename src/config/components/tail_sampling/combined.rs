//! Policies that hold policies: `and`, `not`, `drop`, `composite` (tailsampling 1.3, 2.13).

use super::policy::{self, Position};
use crate::config::read::Block;
use crate::config::report::quote;
use crate::sample::options::{Policy, Rule};

/// Reads the block of the type `kind`, one of those above.
pub(super) fn read(b: &mut Block<'_>, kind: &str, extensions: &[String]) -> Rule {
    match kind {
        "and" => {
            let subs = listed(b, "and_sub_policy", extensions);
            if subs.is_empty() {
                b.note_here("without sub-policies it samples every trace", "and_sub_policy: [...]");
            }
            Rule::And(subs)
        }
        "drop" => {
            let subs = listed(b, "drop_sub_policy", extensions);
            if subs.is_empty() {
                b.note_here("without sub-policies it drops every trace", "drop_sub_policy: [...]");
            }
            Rule::Drop(subs)
        }
        "composite" => composite(b, extensions),
        _ => {
            let read = |b: &mut Block<'_>| policy::read(b, Position::Negated, extensions);
            Rule::Not(Box::new(b.block("not_sub_policy", read)))
        }
    }
}

fn listed(b: &mut Block<'_>, key: &'static str, extensions: &[String]) -> Vec<Policy> {
    b.list(key, |b| policy::read(b, Position::Listed, extensions))
}

fn composite(b: &mut Block<'_>, extensions: &[String]) -> Rule {
    let max = b.signed("max_total_spans_per_second", 0);
    if b.has("policy_order") {
        b.unrecorded(|b| b.texts("policy_order", &[]));
        let what = "has no effect, as in the collector: sub-policies are tried in the order of \
                    composite_sub_policy";
        b.note_at("policy_order", what, "");
    }
    let subs = b.list("composite_sub_policy", |b| policy::read(b, Position::Composed, extensions));
    let percents = b.list("rate_allocation", |b| {
        let policy = b.text("policy", "");
        if !policy.is_empty() && !subs.iter().any(|s| s.name == policy) {
            let what = format!("has no effect: no sub-policy has the name {}", quote(&policy));
            b.note_at("policy", what, "");
        }
        (policy, b.signed("percent", 0))
    });
    // Each name takes the share of the last sub-policy of that name, which is the same for all.
    let share = |policy: Policy, of: usize| {
        let percent = percents.iter().rev().find(|(name, _)| *name == policy.name);
        let spans = allocation(max, percent.map_or(0, |(_, p)| *p), of);
        (policy, spans)
    };
    let of = subs.len();
    let subs = subs.into_iter().map(|policy| share(policy, of)).collect();
    Rule::Composite { spans_per_second_max: max, subs }
}

/// Spans per second of one of `of` sub-policies, in doubles and cut as in the collector.
#[expect(clippy::cast_precision_loss, clippy::cast_possible_truncation, reason = "as in Go")]
fn allocation(max: i64, percent: i64, of: usize) -> i64 {
    let max = max as f64;
    match percent {
        1.. => (percent as f64 / 100.0 * max) as i64,
        _ => (max / of as f64) as i64,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_is_cut_to_whole_spans_and_no_percent_is_an_equal_part() {
        let rows = [
            ((1000, 50, 3), 500),
            ((1000, 0, 3), 333),
            ((1000, -5, 2), 500),
            ((7, 33, 1), 2),
            ((10, 200, 2), 20),
            ((0, 10, 1), 0),
            ((-10, 25, 1), -2),
        ];
        for ((max, percent, of), want) in rows {
            assert_eq!(allocation(max, percent, of), want, "{max} {percent} {of}");
        }
    }
}
