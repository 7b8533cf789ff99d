//! Traces that the sampler of an earlier configuration has met. They stay with it, late spans
//! included, for as long as it remembers them; new traces are the new one's.

use std::cell::RefCell;
use std::collections::HashSet;
use std::rc::Rc;

use super::Sampler;
use crate::otlp::{Index, Pick, Signal};

/// The sampler before, while there is one.
#[derive(Debug, Default)]
pub(super) struct Before(RefCell<Option<Rc<Sampler>>>);

impl Before {
    pub(super) fn set(&self, sampler: Option<Rc<Sampler>>) {
        *self.0.borrow_mut() = sampler;
    }

    pub(super) fn forget(&self, ended: &[&Rc<Sampler>]) {
        let mut before = self.0.borrow_mut();
        let is_ended = |sampler: &Rc<Sampler>| ended.iter().any(|e| Rc::ptr_eq(e, sampler));
        if before.as_ref().is_some_and(is_ended) {
            // Its own predecessor, if there is one, has ended or goes on.
            *before = before.take().and_then(|sampler| sampler.before.0.take());
        }
    }

    pub(super) fn knows(&self, id: &[u8; 16]) -> bool {
        self.0.borrow().as_ref().is_some_and(|sampler| sampler.knows(id))
    }

    /// Gives it the spans that are `mine` and whose trace it knows; says which traces those are.
    pub(super) fn take(
        &self,
        body: &[u8],
        index: &Index,
        mine: impl Fn(&[u8; 16]) -> bool,
    ) -> HashSet<[u8; 16]> {
        let Some(sampler) = &*self.0.borrow() else { return HashSet::new() };
        let ids = index.items().iter().filter_map(|item| index.trace_id(item, body));
        let known: HashSet<[u8; 16]> =
            ids.filter(|id| mine(id) && sampler.knows(id)).copied().collect();
        if known.is_empty() {
            return known;
        }
        let mut theirs = Pick::default();
        theirs.begin(Signal::Traces);
        for placed in index.placed() {
            if index.trace_id(placed.item, body).is_some_and(|id| known.contains(id)) {
                theirs.add(body, index, &placed);
            }
        }
        sampler.accept_unknown(&theirs);
        known
    }
}
