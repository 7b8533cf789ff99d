//! Errors of conditions that are passed over and told of (`error_mode: ignore`). Who asks hears
//! how many there were and the last of them; nobody is told of each span, and nothing grows.

use super::{Conditions, Program};
use crate::sample::ottl::EvalError;

/// What the conditions of a policy have failed with since somebody asked.
#[derive(Clone, Debug, Default)]
pub struct Ignored {
    errors: u64,
    /// The last one, and the position of its condition.
    last: Option<(usize, EvalError)>,
}

impl Ignored {
    pub(super) fn add(&mut self, condition: usize, error: EvalError) {
        self.errors += 1;
        self.last = Some((condition, error));
    }

    /// Whether there is something to tell.
    #[must_use]
    pub const fn is_some(&self) -> bool {
        self.last.is_some()
    }
}

impl Program {
    /// Room for what is ignored.
    #[must_use]
    pub fn ignored(&self) -> Vec<Ignored> {
        vec![Ignored::default(); self.conditions.len()]
    }

    /// Takes what was ignored, by policy: how many errors, the last one and its condition.
    pub fn take_ignored<'a>(
        &'a self,
        ignored: &'a mut [Ignored],
    ) -> impl Iterator<Item = (u64, &'a str, EvalError)> {
        self.conditions.iter().zip(ignored).filter_map(|(conditions, ignored)| {
            let Ignored { errors, last } = std::mem::take(ignored);
            let (at, error) = last?;
            Some((errors, conditions.text(at), error))
        })
    }
}

impl Conditions {
    fn text(&self, at: usize) -> &str {
        self.span.iter().chain(&self.event).nth(at).expect("it has failed").text()
    }
}
