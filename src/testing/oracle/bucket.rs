//! The token bucket of `golang.org/x/time/rate`, in its own arithmetic (tailsampling 2.11).

use crate::time::Instant;

/// Tokens, and when they were last counted.
#[derive(Clone, Debug)]
pub(super) struct Bucket {
    per_second: f64,
    burst: i64,
    tokens: f64,
    counted: Instant,
}

impl Bucket {
    /// A full bucket.
    pub(super) fn new(per_second: i64, burst: i64) -> Self {
        Self { per_second: per_second as f64, burst, tokens: burst as f64, counted: Instant(0) }
    }

    pub(super) const fn burst(&self) -> i64 {
        self.burst
    }

    /// Tokens at `now`; changes nothing. A clock that goes back fills nothing.
    pub(super) fn tokens(&self, now: Instant) -> f64 {
        let elapsed = now.since(self.counted);
        let seconds = elapsed.as_secs() as f64 + f64::from(elapsed.subsec_nanos()) / 1e9;
        let refill = if self.per_second > 0.0 { seconds * self.per_second } else { 0.0 };
        (self.tokens + refill).min(self.burst as f64)
    }

    /// Takes `n` tokens if they are there; otherwise nothing is changed. A deficit whose wait
    /// would be less than a nanosecond is none.
    pub(super) fn allow(&mut self, now: Instant, n: i64) -> bool {
        let left = self.tokens(now) - n as f64;
        let waits = left < 0.0 && (self.per_second <= 0.0 || -left / self.per_second * 1e9 >= 1.0);
        if n > self.burst || waits {
            return false;
        }
        self.counted = now;
        self.tokens = left;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;

    #[test]
    fn a_bucket_starts_full_and_refills_in_proportion() {
        let mut bucket = Bucket::new(4, 2);
        assert!(bucket.allow(Instant(0), 1) && bucket.allow(Instant(0), 1));
        assert!(!bucket.allow(Instant(249 * MS), 1));
        assert!(bucket.allow(Instant(600 * MS), 2), "0.6 s give 2.4 tokens, 2 fit");
        assert!(!bucket.allow(Instant(600 * MS), 1));
    }

    #[test]
    fn more_than_the_burst_never_passes_and_takes_nothing() {
        let mut bucket = Bucket::new(3, 2);
        assert!(!bucket.allow(Instant(0), 3));
        assert!(bucket.allow(Instant(0), 2));
        let mut empty = Bucket::new(0, 0);
        assert!(!empty.allow(Instant(5_000 * MS), 1));
    }
}
