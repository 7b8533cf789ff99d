//! Says whether a message that may repeat is written now. Pure: `now` is an argument.

use std::time::Duration;

use crate::time::Instant;

/// Lets one message through per interval and counts the others.
#[derive(Clone, Debug)]
pub struct Quiet {
    interval: Duration,
    next: Option<Instant>,
    suppressed: u64,
}

impl Quiet {
    /// At most one message per `interval`.
    #[must_use]
    pub const fn new(interval: Duration) -> Self {
        Self { interval, next: None, suppressed: 0 }
    }

    /// `Some(n)`: write it, `n` like it were held back since the last one. `None`: hold it back.
    pub fn admit(&mut self, now: Instant) -> Option<u64> {
        if self.next.is_some_and(|next| now < next) {
            self.suppressed += 1;
            return None;
        }
        self.next = Some(now + self.interval);
        Some(std::mem::take(&mut self.suppressed))
    }

    /// Messages held back since the last one that was written; for a last word at shutdown.
    #[must_use]
    pub const fn suppressed(&self) -> u64 {
        self.suppressed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_message_per_interval_passes_and_tells_how_many_did_not() {
        let at = |millis| Instant::default() + Duration::from_millis(millis);
        let mut quiet = Quiet::new(Duration::from_secs(1));
        let said = [0, 1, 999, 1000, 1001, 5000, 5999, 6000].map(|ms| quiet.admit(at(ms)));
        let want = [Some(0), None, None, Some(2), None, Some(1), None, Some(1)];
        assert_eq!(said, want);
        assert_eq!(quiet.suppressed(), 0);
    }

    #[test]
    fn a_zero_interval_holds_nothing_back() {
        let mut quiet = Quiet::new(Duration::ZERO);
        assert_eq!([quiet.admit(Instant(5)), quiet.admit(Instant(5))], [Some(0), Some(0)]);
    }
}
