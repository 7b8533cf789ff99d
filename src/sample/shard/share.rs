//! Which spans of a request are whose, where each trace has its home in one of several shards.

use super::Shard;
use super::lines::Lines;
use crate::otlp::span::{NO_TRACE_ID, Notes};
use crate::otlp::{Index, Pick, Placed, Signal};

/// Spans on their way to another shard with the same policies and seed, and what is known of them:
/// so there nothing is checked or looked for again.
#[derive(Debug, Default)]
pub struct Share {
    spans: Pick,
    notes: Notes,
    lines: Lines,
}

impl Share {
    /// Nothing of any request yet.
    pub fn begin(&mut self) {
        self.spans.begin(Signal::Traces);
        self.notes.clear();
        self.lines.clear();
    }

    /// Spans.
    #[must_use]
    pub fn len(&self) -> usize {
        self.request().1.items().len()
    }

    /// Whether nothing was added.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The spans: a body and its index.
    #[must_use]
    pub fn request(&self) -> (&[u8], &Index) {
        self.spans.request()
    }

    /// Adds a span, which is number `at` of its request and has `notes` there.
    fn add(
        &mut self,
        body: &[u8],
        index: &Index,
        placed: &Placed<'_>,
        (notes, at): (&Notes, usize),
        (id, hash, again): (&[u8; 16], u64, bool),
    ) {
        let (item, scope) = self.spans.add(body, index, placed);
        if self.lines.resources() < self.request().1.resources().len() {
            self.lines.begin_resource();
        }
        self.lines.add(id, hash, again, (item, scope));
        notes.hand_on(at, &mut self.notes);
    }
}

impl Shard {
    /// Finds which spans of the request that was checked just now are whose: `home` says the shard
    /// of a trace, and None that it is this one. To take those of this one is left to
    /// [`Shard::push_own`]; those of others are added to their `shares`, behind those of earlier
    /// requests. How many spans that are.
    ///
    /// # Panics
    /// If another request was checked, or `home` names no share.
    pub fn divide(
        &mut self,
        body: &[u8],
        index: &Index,
        home: impl Fn(&[u8; 16]) -> Option<usize>,
        shares: &mut [Share],
    ) -> usize {
        shares.iter_mut().for_each(|share| share.spans.end_request());
        let mut given = 0;
        let notes = &self.ingest.notes;
        let lines = &mut self.ingest.lines;
        assert_eq!(notes.facts.len(), index.items().len(), "this request was checked");
        lines.clear();
        let mut items = (0..).zip(index.items());
        // A trace has several spans, one after the other.
        let run_of = |id| Run { id, hash: self.traces.hash(id), home: home(id) };
        let mut run = run_of(&NO_TRACE_ID);
        for resource in (0..).zip(index.resources()) {
            lines.begin_resource();
            for scope in index.scopes_of(resource.1) {
                for (at, item) in items.by_ref().take(index.items_of(scope.1).len()) {
                    let id = index.trace_id(item, body).unwrap_or(&NO_TRACE_ID);
                    let again = *id == *run.id;
                    if !again {
                        run = run_of(id);
                    }
                    match run.home {
                        None => lines.add(id, run.hash, again, (at, scope.0)),
                        Some(home) => {
                            let placed = Placed { resource, scope, item };
                            let (known, line) = ((notes, at as usize), (id, run.hash, again));
                            shares[home].add(body, index, &placed, known, line);
                            given += 1;
                        }
                    }
                }
            }
        }
        given
    }

    /// Makes what another shard has added to a share the request that was checked and divided just
    /// now. All of it is this shard's.
    pub fn receive(&mut self, share: &mut Share) {
        let (body, index) = share.spans.request();
        if cfg!(debug_assertions) {
            assert!(self.check(body, index).is_ok() && self.ingest.notes == share.notes);
            self.divide(body, index, |_| None, &mut []);
            assert!(self.ingest.lines.are(&share.lines), "the seed is the same");
        }
        self.ingest.forget();
        self.ingest.expect(index);
        std::mem::swap(&mut self.ingest.notes, &mut share.notes);
        std::mem::swap(&mut self.ingest.lines, &mut share.lines);
    }
}

/// Spans of a trace, one after the other.
struct Run<'a> {
    id: &'a [u8; 16],
    hash: u64,
    home: Option<usize>,
}
