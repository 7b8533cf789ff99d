//! With the gate `usetracestate`: what the tracestates of a trace's spans said about sampling.
//! Without the gate this is empty and nothing is read.

use std::collections::BTreeMap;

use super::otel_state::State;

/// What was said so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Said {
    /// The first `rv`.
    pub randomness: Option<u64>,
    /// Some span had `rv` or `th`.
    pub has_info: bool,
}

/// By chain.
#[derive(Debug)]
pub struct States {
    is_on: bool,
    said: BTreeMap<u32, Said>,
}

impl States {
    /// Empty.
    #[must_use]
    pub const fn new(is_on: bool) -> Self {
        Self { is_on, said: BTreeMap::new() }
    }

    /// A span of `chain` has this tracestate.
    pub fn read(&mut self, chain: u32, text: &[u8]) {
        if text.is_empty() {
            return;
        }
        let Some(state) = State::parse(text) else { return };
        if state.randomness.is_none() && state.threshold.is_none() {
            return;
        }
        let said = self.said.entry(chain).or_default();
        said.has_info = true;
        said.randomness = said.randomness.or(state.randomness);
    }

    /// What was said in `chain`; `None` without the gate.
    #[must_use]
    pub fn said(&self, chain: u32) -> Option<Said> {
        self.is_on.then(|| self.said.get(&chain).copied().unwrap_or_default())
    }

    /// The record is another chain's from now on.
    pub fn forget(&mut self, chain: u32) {
        if self.is_on {
            self.said.remove(&chain);
        }
    }
}
