//! Whether there is a connection to an endpoint, and when to try the next. Pure.

use std::time::Duration;

use super::backoff::Jitter;
use crate::time::Instant;

/// First wait after a failed attempt; gRPC waits a second, we are usually in the same rack.
const BACKOFF_MIN: Duration = Duration::from_millis(100);
/// Longest wait: a backend that came back is found within this time.
const BACKOFF_MAX: Duration = Duration::from_secs(5);
const BACKOFF_GROWTH: f64 = 1.6;
const JITTER: f64 = 0.2;
/// A connection that ends sooner than this, with nothing answered on it, is a failed attempt: a
/// peer that accepts and closes at once must not be dialled in a circle.
const PROVEN_AFTER: Duration = Duration::from_secs(1);
/// Connections that a peer has left and that still have calls under way. At this number no new one
/// is opened until one of them is done, so that a peer that leaves again and again while its calls
/// hang does not gather sockets; none is cut off, because its calls would be sent twice.
const DRAINING_MAX: usize = 4;
/// Calls in a row without an answer after which a connection is replaced.
const TIMEOUTS_MAX: u32 = 3;

/// The state of one endpoint's connection.
#[derive(Debug)]
pub struct Link {
    state: State,
    backoff: Duration,
    timeouts: u32,
    /// Connections that take no more calls and finish those that they have.
    draining: usize,
    /// The last connection that was left had not proven itself, and nothing was answered since.
    hasty: bool,
    jitter: Jitter,
    /// Connections made.
    pub connects: u64,
    /// Attempts that failed.
    pub failures: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Down { next: Instant },
    Connecting,
    Up { since: Instant, answered: bool },
}

impl Link {
    /// No connection yet, and nothing against trying.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self {
            state: State::Down { next: Instant(0) },
            backoff: BACKOFF_MIN,
            timeouts: 0,
            draining: 0,
            hasty: false,
            jitter: Jitter::new(seed),
            connects: 0,
            failures: 0,
        }
    }

    /// Whether to start an attempt now.
    #[must_use]
    pub fn may_connect(&self, now: Instant) -> bool {
        self.deadline().is_some_and(|next| now >= next)
    }

    /// Whether the next attempt waits because the last one failed.
    #[must_use]
    pub fn backs_off(&self, now: Instant) -> bool {
        matches!(self.state, State::Down { next } if now < next)
    }

    /// Whether there is a connection that takes calls.
    #[must_use]
    pub fn is_up(&self) -> bool {
        matches!(self.state, State::Up { .. })
    }

    /// Connections, with those that take no more calls.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.draining + usize::from(self.is_up())
    }

    /// When [`Self::may_connect`] turns true, if nothing else happens.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        match self.state {
            State::Down { next } if self.draining < DRAINING_MAX => Some(next),
            _ => None,
        }
    }

    /// An attempt is under way.
    pub fn connecting(&mut self) {
        self.state = State::Connecting;
    }

    /// The attempt succeeded.
    pub fn connected(&mut self, now: Instant) {
        self.state = State::Up { since: now, answered: false };
        self.timeouts = 0;
        self.connects += 1;
    }

    /// The attempt failed: the next one waits, longer each time.
    pub fn failed(&mut self, now: Instant) {
        self.failures += 1;
        let wait = self.jitter.around(self.backoff, JITTER);
        self.backoff = self.backoff.mul_f64(BACKOFF_GROWTH).min(BACKOFF_MAX);
        self.state = State::Down { next: now + wait };
    }

    /// A connection has ended. If it worked, the first new attempt comes at once.
    pub fn lost(&mut self, now: Instant) {
        match self.is_unproven(now) {
            true => self.failed(now),
            false => self.state = State::Down { next: now },
        }
    }

    /// The peer takes no more calls on the connection, which finishes those that it has. The next
    /// one does not wait, unless this is how connections to this peer begin.
    pub fn left(&mut self, now: Instant) {
        self.draining += 1;
        let is_hasty = self.is_unproven(now);
        let was_hasty = std::mem::replace(&mut self.hasty, is_hasty);
        match was_hasty && is_hasty {
            true => self.failed(now),
            false => self.state = State::Down { next: now },
        }
    }

    fn is_unproven(&self, now: Instant) -> bool {
        matches!(self.state, State::Up { since, answered: false } if now < since + PROVEN_AFTER)
    }

    /// A connection that was left has ended.
    pub fn drained(&mut self) {
        self.draining -= 1;
    }

    /// An answer came, so the endpoint is well.
    pub fn answered(&mut self) {
        if let State::Up { answered, .. } = &mut self.state {
            *answered = true;
        }
        self.timeouts = 0;
        self.answered_late();
    }

    /// An answer came on a connection that was left. That says nothing of the one in use, but the
    /// endpoint is well.
    pub fn answered_late(&mut self) {
        self.backoff = BACKOFF_MIN;
        self.hasty = false;
    }

    /// A call got no answer; true if the connection should be replaced.
    pub fn timed_out(&mut self) -> bool {
        self.timeouts += 1;
        self.timeouts >= TIMEOUTS_MAX
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attempts_back_off_up_to_the_longest_wait_and_start_anew_after_an_answer() {
        let mut link = Link::new(7);
        let mut now = Instant(1_000_000_000);
        let mut waits = Vec::new();
        for _ in 0..15 {
            assert!(link.may_connect(now));
            link.connecting();
            assert!(!link.may_connect(now));
            link.failed(now);
            let next = link.deadline().expect("down");
            waits.push(next.since(now));
            now = next;
        }
        assert!(waits[0] < BACKOFF_MIN * 2 && waits[14] >= BACKOFF_MAX.mul_f64(1.0 - JITTER));
        assert!(waits.iter().all(|w| *w <= BACKOFF_MAX.mul_f64(1.0 + JITTER)));
        link.connecting();
        link.connected(now);
        link.answered();
        link.lost(now);
        assert!(link.may_connect(now), "the first attempt after a loss does not wait");
        link.failed(now);
        assert!(link.deadline().expect("down").since(now) < BACKOFF_MIN * 2);
    }

    #[test]
    fn a_connection_is_replaced_after_timeouts_in_a_row_only() {
        let mut link = Link::new(7);
        link.connected(Instant(0));
        assert!(!link.timed_out() && !link.timed_out());
        link.answered();
        assert!(!link.timed_out() && !link.timed_out() && link.timed_out());
    }

    #[test]
    fn a_connection_that_was_left_makes_way_for_the_next_up_to_a_bound() {
        let mut link = Link::new(7);
        let now = Instant(0);
        for n in 0..DRAINING_MAX {
            assert!(link.may_connect(now), "{n} are left");
            link.connecting();
            link.connected(now);
            assert_eq!(link.connections(), n + 1);
            link.left(now);
            link.answered_late();
            assert!(!link.is_up() && !link.backs_off(now));
        }
        assert_eq!((link.may_connect(now), link.deadline()), (false, None));
        link.drained();
        assert!(link.may_connect(now), "as soon as one of them has ended");
        link.connecting();
        link.connected(now);
        link.lost(now + Duration::from_millis(1));
        assert!(link.backs_off(now + Duration::from_millis(1)), "nothing was under way on it");
    }

    #[test]
    fn a_peer_that_leaves_every_connection_at_once_is_not_dialled_in_a_circle() {
        let mut link = Link::new(7);
        let mut now = Instant(0);
        let mut waits = Vec::new();
        for _ in 0..20 {
            link.connecting();
            link.connected(now);
            now = now + Duration::from_millis(1);
            link.left(now);
            // What was under way fails a moment later.
            link.drained();
            let next = link.deadline().expect("down");
            waits.push(next.since(now));
            now = next;
        }
        assert_eq!(waits[0], Duration::ZERO, "once is nothing");
        assert!(waits[1..].iter().all(|wait| *wait >= BACKOFF_MIN.mul_f64(1.0 - JITTER)));
        assert!(now > Instant(0) + BACKOFF_MAX * 5, "the waits grew");
        // One that takes a call for each connection and answers it is in order.
        for _ in 0..20 {
            link.connected(now);
            link.answered_late();
            link.left(now);
            link.drained();
            assert!(link.may_connect(now));
        }
    }

    #[test]
    fn a_peer_that_accepts_and_closes_is_not_dialled_in_a_circle() {
        let mut link = Link::new(7);
        let mut now = Instant(0);
        for _ in 0..20 {
            link.connecting();
            link.connected(now);
            now = now + Duration::from_millis(1);
            link.lost(now);
            assert!(!link.may_connect(now));
            now = link.deadline().expect("down");
        }
        assert!(now > Instant(0) + BACKOFF_MAX * 5, "the waits grew");
        link.connected(now);
        now = now + PROVEN_AFTER;
        link.lost(now);
        assert!(link.may_connect(now), "a connection that stood for a while was a good one");
    }
}
