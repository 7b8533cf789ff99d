//! How many traces the process holds: `num_traces` is a limit over all shards.
//!
//! Each shard counts its own and adds what it last saw of the others, so that no two cores write to
//! one cache line, and no new trace waits for a locked instruction: that waits for the memory of
//! the trace's records, which the core would else not have to wait for.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};

use crossbeam::utils::CachePadded;

/// What all shards hold.
#[derive(Debug)]
pub struct Census {
    max: u64,
    seats: Box<[CachePadded<Counts>]>,
    /// Seats that are taken.
    taken: AtomicUsize,
}

/// What one shard holds. Only that shard writes it.
#[derive(Debug, Default)]
struct Counts {
    traces: AtomicU64,
    waiting: AtomicU64,
}

impl Census {
    /// At most `max` traces in so many shards.
    #[must_use]
    pub fn new(max: u64, shards: usize) -> Arc<Self> {
        let seats = (0..shards).map(|_| CachePadded::default()).collect();
        Arc::new(Self { max, seats, taken: AtomicUsize::new(0) })
    }

    /// The seat of one more shard.
    ///
    /// # Panics
    /// If there are more shards than was said.
    #[must_use]
    pub(super) fn join(self: Arc<Self>) -> Seat {
        let number = self.taken.fetch_add(1, Relaxed);
        assert!(number < self.seats.len(), "no more shards than were counted");
        Seat { census: self, number, elsewhere: 0, waiting_elsewhere: 0 }
    }
}

/// One shard's part in the census.
#[derive(Debug)]
pub(super) struct Seat {
    census: Arc<Census>,
    number: usize,
    /// Traces of the other shards when this one last looked, and those of them that waited.
    elsewhere: u64,
    waiting_elsewhere: u64,
}

impl Seat {
    /// Looks what the other shards hold. A shard does so before each request, so the limit is
    /// exact but for what others take in at the same time, or was sent to them just now.
    pub(super) fn look_around(&mut self) {
        let others = (0..).zip(&self.census.seats).filter(|(seat, _)| *seat != self.number);
        (self.elsewhere, self.waiting_elsewhere) =
            others.fold((0, 0), |(traces, waiting), (_, counts)| {
                (traces + counts.traces.load(Relaxed), waiting + counts.waiting.load(Relaxed))
            });
    }

    /// Whether a new trace would be one too many.
    pub(super) fn is_full(&self) -> bool {
        self.mine().traces.load(Relaxed) + self.elsewhere >= self.census.max
    }

    /// Traces that wait for their decision.
    pub(super) fn waiting(&self) -> u64 {
        self.mine().waiting.load(Relaxed) + self.waiting_elsewhere
    }

    /// The limit.
    pub(super) fn max(&self) -> u64 {
        self.census.max
    }

    /// A trace has come, and waits.
    pub(super) fn add(&self) {
        let Counts { traces, waiting } = self.mine();
        traces.store(traces.load(Relaxed) + 1, Relaxed);
        waiting.store(waiting.load(Relaxed) + 1, Relaxed);
    }

    /// A trace waits no more.
    pub(super) fn decide(&self) {
        let waiting = &self.mine().waiting;
        waiting.store(waiting.load(Relaxed) - 1, Relaxed);
    }

    /// A trace has gone.
    pub(super) fn remove(&self) {
        let traces = &self.mine().traces;
        traces.store(traces.load(Relaxed) - 1, Relaxed);
    }

    fn mine(&self) -> &Counts {
        &self.census.seats[self.number]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limit_is_over_all_shards_and_a_shard_sees_the_others_when_it_looks() {
        let census = Census::new(3, 2);
        let (mut one, mut two) = (Arc::clone(&census).join(), census.join());
        one.add();
        one.add();
        two.add();
        one.decide();
        assert_eq!((one.is_full(), one.waiting()), (false, 1), "it has not looked");
        one.look_around();
        two.look_around();
        assert_eq!((one.is_full(), two.is_full()), (true, true));
        assert_eq!((one.waiting(), two.waiting()), (2, 2));
        one.remove();
        two.look_around();
        assert_eq!((one.is_full(), two.is_full()), (false, false));
    }
}
