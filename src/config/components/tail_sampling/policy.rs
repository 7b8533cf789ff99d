//! A policy: its name, its type and the block of that name (tailsampling 1.2). Blocks of other
//! types are decoded, as in the collector, and have no effect. What a position may hold differs.

use super::combined;
use super::meant;
use super::rule::{self, Shared};
use crate::config::read::Block;
use crate::config::report::quote;
use crate::sample::options::{Policy, Rule};

/// Where a policy stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Position {
    /// `policies`.
    Top,
    /// `and_sub_policy`, `drop_sub_policy`.
    Listed,
    /// `not_sub_policy`.
    Negated,
    /// `composite_sub_policy`.
    Composed,
}

impl Position {
    /// Types that hold policies, beside the shared ones.
    const fn combined(self) -> &'static [&'static str] {
        match self {
            Self::Top => &["and", "not", "drop", "composite"],
            Self::Listed => &["not"],
            Self::Negated => &[],
            Self::Composed => &["and"],
        }
    }

    /// The key of the list or block that holds it.
    const fn place(self) -> &'static str {
        match self {
            Self::Top => "policies",
            Self::Listed => "the sub-policies of and and drop",
            Self::Negated => "not_sub_policy",
            Self::Composed => "composite_sub_policy",
        }
    }
}

/// Reads a policy. After an error its rule means nothing.
pub(super) fn read(b: &mut Block<'_>, position: Position, extensions: &[String]) -> Policy {
    b.overlook_unknown_maps();
    let name = b.text("name", "");
    let kind = b.text("type", "");
    let mut rule = rule::WITHOUT_BLOCK.iter().find(|(n, _)| *n == kind).map(|(_, r)| r.clone());
    for &Shared { name: key, read } in &rule::SHARED {
        if key == kind {
            rule = Some(b.block(key, read));
        } else {
            b.unselected(key, |b| _ = read(b));
        }
    }
    for &key in position.combined() {
        if key == kind {
            rule = Some(b.block(key, |b| combined::read(b, key, extensions)));
        } else {
            b.unselected(key, |b| _ = combined::read(b, key, extensions));
        }
    }
    if rule.is_none() {
        unknown(b, &kind, position, extensions);
    }
    tell_unselected(b, &kind, position);
    Policy { name, rule: rule.unwrap_or(Rule::AlwaysSample) }
}

fn unknown(b: &Block<'_>, kind: &str, position: Position, extensions: &[String]) {
    let mut known: Vec<&str> = rule::WITHOUT_BLOCK.iter().map(|(name, _)| *name).collect();
    known.extend(rule::SHARED.iter().map(|s| s.name));
    known.extend(position.combined());
    known.sort_unstable();
    if kind.is_empty() {
        b.start_error("the policy has no type", &meant(kind, &known));
    } else if extensions.iter().any(|e| e == kind) {
        let what = format!("extension {} as a policy is not supported", quote(kind));
        b.start_error_at("type", what, "");
    } else if Position::Top.combined().contains(&kind) {
        let what = format!("a policy of type {kind} cannot stand in {}", position.place());
        b.start_error_at("type", what, &format!("one of {}", known.join(", ")));
    } else {
        let what = format!("unknown sampling policy type {}", quote(kind));
        b.start_error_at("type", what, &meant(kind, &known));
    }
}

/// A block beside the one of the type is most often a slip.
fn tell_unselected(b: &mut Block<'_>, kind: &str, position: Position) {
    let shared = rule::SHARED.iter().map(|s| s.name);
    for key in shared.chain(position.combined().iter().copied()) {
        if key != kind && b.has(key) {
            b.note_at(key, format!("has no effect: the policy's type is {kind}"), "");
        }
    }
}
