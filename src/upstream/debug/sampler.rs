//! Thinning out of equal messages, as the collector's log library does it: counters by a hash of
//! the message, so messages with equal hashes count together.

use std::fmt;
use std::time::Duration;

use crate::time::{Instant, nanos};

const COUNTERS: usize = 4096;
const TICK: Duration = Duration::from_secs(1);

/// Lets the first messages of a second through, then each n-th of them.
pub struct Sampler {
    initial: u64,
    thereafter: u64,
    counters: Vec<Counter>,
}

#[derive(Clone, Copy, Default)]
struct Counter {
    /// In nanoseconds; the second of a counter starts with its first message.
    reset_at: u64,
    count: u64,
}

impl fmt::Debug for Sampler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sampler")
            .field("initial", &self.initial)
            .field("thereafter", &self.thereafter)
            .finish_non_exhaustive()
    }
}

impl Sampler {
    /// `initial` equal messages per second, then each `thereafter`-th; 0 for none.
    #[must_use]
    pub fn new(initial: u64, thereafter: u64) -> Self {
        Self { initial, thereafter, counters: Vec::new() }
    }

    /// Whether this message is to be written.
    pub fn admits(&mut self, now: Instant, message: &str) -> bool {
        if self.thereafter == 1 {
            // The default: each one after the first ones is all of them.
            return true;
        }
        self.counters.resize(COUNTERS, Counter::default());
        let counter = &mut self.counters[fnv32a(message.as_bytes()) as usize % COUNTERS];
        if counter.reset_at > now.0 {
            counter.count += 1;
        } else {
            *counter = Counter { reset_at: now.0.saturating_add(nanos(TICK)), count: 1 };
        }
        let late = counter.count.saturating_sub(self.initial);
        late == 0 || (self.thereafter > 0 && late.is_multiple_of(self.thereafter))
    }
}

fn fnv32a(bytes: &[u8]) -> u32 {
    bytes.iter().fold(0x811c_9dc5, |hash, &b| (hash ^ u32::from(b)).wrapping_mul(0x0100_0193))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn admitted(sampler: &mut Sampler, at: u64, n: usize) -> Vec<bool> {
        (0..n).map(|_| sampler.admits(Instant(at), "Traces")).collect()
    }

    #[test]
    fn the_first_then_each_nth_of_a_second() {
        let mut sampler = Sampler::new(2, 3);
        let want = [true, true, false, false, true, false, false, true];
        assert_eq!(admitted(&mut sampler, 1, 8), want);
        assert!(sampler.admits(Instant(1), "Logs"), "other messages count for themselves");
        assert_eq!(admitted(&mut sampler, 1_000_000_000, 1), [false], "the same second");
        assert_eq!(admitted(&mut sampler, 1_000_000_001, 8), want, "the next");
    }

    #[test]
    fn zero_and_one_are_none_and_all_of_the_rest() {
        assert_eq!(admitted(&mut Sampler::new(1, 0), 1, 3), [true, false, false]);
        assert_eq!(admitted(&mut Sampler::new(0, 1), 1, 3), [true, true, true]);
    }
}
