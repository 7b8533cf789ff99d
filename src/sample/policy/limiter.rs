//! `rate_limiting` and `bytes_limiting`: one token bucket for the process (tailsampling 2.11), and
//! the windows of `composite` (2.13). Both are shared by all cores: one atomic each, touched once
//! per decision.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use crate::time::Instant;

/// A token bucket with the arithmetic of Go's x/time/rate: it starts full, refills without a
/// break, takes all or nothing, and forgives what a nanosecond would refill. Go remembers tokens
/// and when they were counted; here one word must say both, so what is read from it is made whole
/// where rounding alone has kept it from being so.
#[derive(Debug)]
pub struct Bucket {
    rate: f64,
    burst: i64,
    /// When it was, or will be, empty: seconds as the bits of a float. With a rate of 0 or less,
    /// which never refills, the tokens that are left instead.
    state: AtomicU64,
}

impl Bucket {
    /// Full, for `per_second` tokens a second and at most `burst` at once.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "as in the collector")]
    pub fn new(per_second: i64, burst: i64) -> Self {
        let rate = per_second as f64;
        let state = if rate > 0.0 { f64::NEG_INFINITY } else { burst as f64 };
        Self { rate, burst, state: AtomicU64::new(state.to_bits()) }
    }

    /// Most tokens at once.
    #[must_use]
    pub const fn burst(&self) -> i64 {
        self.burst
    }

    #[expect(clippy::cast_precision_loss, reason = "as in the collector")]
    fn tokens_in(&self, state: f64, now: f64) -> f64 {
        if self.rate <= 0.0 {
            return state;
        }
        let tokens = ((now - state) * self.rate).min(self.burst as f64);
        let rounding = 4.0 * f64::EPSILON * now.max(-state) * self.rate;
        let whole = tokens.round();
        if (tokens - whole).abs() <= rounding.min(ROUNDING_MAX) { whole } else { tokens }
    }

    /// The state with so many tokens.
    fn state_of(&self, tokens: f64, now: f64) -> u64 {
        if self.rate > 0.0 { now - tokens / self.rate } else { tokens }.to_bits()
    }

    /// Takes as many of its whole tokens as `choose` says, which is asked again if they have
    /// become other ones meanwhile.
    #[expect(clippy::cast_precision_loss, reason = "as in the collector")]
    #[expect(clippy::cast_possible_truncation, reason = "cut to whole tokens")]
    pub fn take_some(&self, now: Instant, mut choose: impl FnMut(i64) -> i64) {
        let now = seconds(now);
        let _ = self.state.fetch_update(Relaxed, Relaxed, |state| {
            let tokens = self.tokens_in(f64::from_bits(state), now);
            let n = choose(tokens as i64);
            (n > 0).then(|| self.state_of(tokens - n as f64, now))
        });
    }

    /// Takes `n` tokens, or none.
    #[expect(clippy::cast_precision_loss, reason = "as in the collector")]
    pub fn take(&self, now: Instant, n: i64) -> bool {
        if n > self.burst {
            return false;
        }
        let now = seconds(now);
        let taken = self.state.fetch_update(Relaxed, Relaxed, |state| {
            let state = f64::from_bits(state);
            let left = self.tokens_in(state, now) - n as f64;
            let missing_ns = if self.rate > 0.0 { -left / self.rate * 1e9 } else { f64::INFINITY };
            if left < 0.0 && missing_ns >= 1.0 {
                return None;
            }
            Some(self.state_of(left, now))
        });
        taken.is_ok()
    }
}

/// Most tokens that rounding can have added or lost.
const ROUNDING_MAX: f64 = 1e-3;

#[expect(clippy::cast_precision_loss, reason = "a fraction of a nanosecond for three months")]
fn seconds(now: Instant) -> f64 {
    now.0 as f64 / 1e9
}

/// Spans that a sub-policy of `composite` has let through in one second of the wall clock.
#[derive(Debug, Default)]
pub struct Window(AtomicU64);

/// Bits of the count; the rest is the second.
const COUNT_BITS: u32 = 40;
const COUNT_MAX: u64 = (1 << COUNT_BITS) - 1;

impl Window {
    /// Counts `n` more in `second` if they stay within `max`.
    pub fn take(&self, second: u64, n: u64, max: i64) -> bool {
        let second = second & (u64::MAX >> COUNT_BITS);
        let taken = self.0.fetch_update(Relaxed, Relaxed, |state| {
            let (of, count) = (state >> COUNT_BITS, state & COUNT_MAX);
            let count = if of == second { count } else { 0 } + n;
            let fits = i64::try_from(count).is_ok_and(|c| c <= max) && count <= COUNT_MAX;
            fits.then_some(second << COUNT_BITS | count)
        });
        taken.is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;

    #[test]
    fn a_bucket_starts_full_refills_and_takes_all_or_nothing() {
        let at = |ms: u64| Instant(5_000 * MS + ms * MS);
        let bucket = Bucket::new(3, 3);
        assert!(bucket.take(at(0), 3) && !bucket.take(at(0), 1));
        assert!(!Bucket::new(3, 2).take(at(0), 3), "never, beyond the burst");
        let bucket = Bucket::new(2, 4);
        assert!((0..4).all(|_| bucket.take(at(0), 1)) && !bucket.take(at(0), 1));
        let bucket = Bucket::new(4, 2);
        assert!(bucket.take(at(0), 1) && bucket.take(at(0), 1) && !bucket.take(at(0), 1));
        assert!(!bucket.take(at(0), 2), "a refusal takes nothing");
        assert!(bucket.take(at(600), 2) && !bucket.take(at(600), 1));
        assert!(!bucket.take(at(500), 1), "time that goes back refills nothing");
    }

    #[test]
    fn a_rate_of_zero_never_refills_and_an_empty_bucket_passes_only_nothing() {
        let bucket = Bucket::new(0, 5);
        assert!(bucket.take(Instant(1), 3) && !bucket.take(Instant(u64::MAX), 3));
        assert!(bucket.take(Instant(1), 2) && !bucket.take(Instant(1), 1));
        let none = Bucket::new(0, 0);
        assert!(!none.take(Instant(1), 1) && none.take(Instant(1), 0));
        assert!(!Bucket::new(-5, -10).take(Instant(1), 0));
    }

    /// Takes what is there; how much that was.
    fn drain(bucket: &Bucket, now: Instant) -> i64 {
        let mut taken = 0;
        bucket.take_some(now, |budget| {
            taken = budget;
            budget
        });
        taken
    }

    #[test]
    fn what_another_core_takes_meanwhile_is_not_taken_again() {
        let (bucket, now) = (Bucket::new(3, 3), Instant(5_000 * MS));
        let mut budgets = Vec::new();
        bucket.take_some(now, |budget| {
            if budgets.is_empty() {
                assert!(bucket.take(now, 2), "the other core is first");
            }
            budgets.push(budget);
            budget
        });
        assert_eq!((budgets, drain(&bucket, now)), (vec![3, 1], 0));
        assert_eq!(drain(&Bucket::new(-5, -10), now), -10);
    }

    #[test]
    fn whole_steps_give_whole_tokens() {
        for (rate, burst) in [(1, 10), (3, 10), (7, 100), (49, 1_000), (1_000_003, 10_000_000)] {
            // Some days later rounding is coarse.
            for start in [1, 10, 1_000_000] {
                let bucket = Bucket::new(rate, burst);
                let at = |seconds: u64| Instant((start + seconds) * 1_000 * MS);
                assert!(bucket.take(at(0), burst - 1));
                for step in 1..200 {
                    bucket.take_some(at(step), |budget| {
                        assert_eq!(budget, 1 + rate, "{rate} from {start} s, step {step}");
                        rate
                    });
                }
            }
        }
    }

    #[test]
    fn a_window_counts_within_its_second() {
        let window = Window::default();
        assert!(window.take(7, 3, 5) && !window.take(7, 3, 5) && window.take(7, 2, 5));
        assert!(!window.take(7, 1, 5) && window.take(8, 5, 5));
        assert!(!window.take(9, 1, 0) && !window.take(9, 1, -1));
    }
}
