//! How many streams a client may open on a connection: fewer while messages that arrive fill the
//! memory for them. Pure.
//!
//! A client that may open no stream waits, and what it has not sent costs nothing; a message that
//! is refused for want of memory has been read in vain. And many messages that arrive side by side
//! drive each other out of the cache: with 256 of 64 KiB a core does a quarter less than with 32.
//! So half of a connection's streams go as often as an eighth of that memory is taken, long before
//! anything must be refused. They come back by doubling while it is nearly empty. Requests that
//! wait for their answers do not count, however many they are.

use std::time::Duration;

use crate::time::Instant;

/// Never fewer: one that is served, and one on its way.
const STREAMS_MIN: u32 = 2;
/// A peer needs a moment to heed what it was told.
const LESS_AFTER: Duration = Duration::from_millis(50);
const MORE_AFTER: Duration = Duration::from_secs(1);

/// The streams of one connection.
#[derive(Debug)]
pub(super) struct Crowd {
    max: u32,
    allowed: u32,
    changed_at: Instant,
}

impl Crowd {
    /// A client that was told `max`.
    pub(super) fn new(now: Instant, max: u32) -> Self {
        Self { max, allowed: max, changed_at: now }
    }

    /// What the client is to be told, if that changes. `held` of `room` bytes are taken, and it has
    /// `open` streams.
    pub(super) fn fit(
        &mut self,
        now: Instant,
        open: usize,
        (held, room): (u64, u64),
    ) -> Option<u32> {
        let used = self.allowed.min(u32::try_from(open).unwrap_or(u32::MAX));
        let (want, wait) = if held > room / 8 && used > STREAMS_MIN {
            ((used / 2).max(STREAMS_MIN), LESS_AFTER)
        } else if held < room / 16 && self.allowed < self.max {
            (self.allowed.saturating_mul(2).min(self.max), MORE_AFTER)
        } else {
            return None;
        };
        (now >= self.changed_at + wait).then(|| {
            (self.allowed, self.changed_at) = (want, now);
            want
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: Instant = Instant(1_000_000_000);

    #[test]
    fn streams_go_by_halves_and_come_back_doubled() {
        let mut crowd = Crowd::new(START, 1000);
        let mut now = START;
        let mut fit = |wait: Duration, open, held| {
            now = now + wait;
            crowd.fit(now, open, (held, 160))
        };
        assert_eq!(fit(LESS_AFTER, 100, 20), None, "an eighth is enough");
        assert_eq!(fit(LESS_AFTER, 100, 21), Some(50), "of those that it uses");
        assert_eq!(fit(LESS_AFTER / 2, 100, 90), None, "it has not heard yet");
        assert_eq!(fit(LESS_AFTER, 60, 90), Some(25));
        assert_eq!(fit(LESS_AFTER, 5, 90), Some(2));
        assert_eq!(fit(LESS_AFTER, 2, 90), None, "some remain");
        assert_eq!(fit(MORE_AFTER, 2, 10), None, "too much for more");
        assert_eq!(fit(MORE_AFTER, 2, 9), Some(4));
        assert_eq!(fit(LESS_AFTER, 4, 9), None, "slowly");
        let rest: Vec<_> = (0..10).map(|_| fit(MORE_AFTER, 2, 0)).collect();
        assert_eq!(rest[6..], [Some(512), Some(1000), None, None]);
    }

    #[test]
    fn a_client_of_few_streams_keeps_what_it_may() {
        let mut crowd = Crowd::new(START, 2);
        assert_eq!(crowd.fit(START + MORE_AFTER, 2, (160, 160)), None);
        let mut crowd = Crowd::new(START, 1000);
        assert_eq!(crowd.fit(START + MORE_AFTER, 1, (160, 160)), None);
    }
}
