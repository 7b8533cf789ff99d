//! How long to wait before the next attempt, with jitter. Pure: the draws follow from the seed.

use std::time::Duration;

use super::options::RetryOptions;

/// A source of jitter. Neighbouring seeds give unrelated draws, so that lanes numbered one after
/// the other do not knock in step.
#[derive(Debug)]
pub struct Jitter(u64);

impl Jitter {
    /// Equal seeds give equal draws.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        // The finisher of SplitMix64; xorshift must not start at 0.
        let mut x = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
        x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        Self((x ^ (x >> 31)).max(1))
    }

    /// `middle`, up to the share `factor` of it less or more.
    pub fn around(&mut self, middle: Duration, factor: f64) -> Duration {
        scaled(middle, 1.0 + factor * (2.0 * self.draw() - 1.0))
    }

    /// A number in [0, 1): xorshift.
    fn draw(&mut self) -> f64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) as f64 / (1u64 << 53) as f64
    }
}

/// The interval after `last`, which is zero before the first one. As in the collector the first
/// one is `initial_interval` even if that is above `max_interval`.
#[must_use]
pub fn next_interval(options: &RetryOptions, last: Duration) -> Duration {
    match last {
        Duration::ZERO => options.initial_interval,
        last => scaled(last, options.multiplier).min(options.max_interval),
    }
}

/// `d * factor` for any factor a user can write: not below zero, and no panic at the other end.
fn scaled(d: Duration, factor: f64) -> Duration {
    let seconds = d.as_secs_f64() * factor.max(0.0);
    Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn options(initial: u64, multiplier: f64, max: u64) -> RetryOptions {
        RetryOptions {
            initial_interval: SECOND * u32::try_from(initial).unwrap(),
            multiplier,
            max_interval: SECOND * u32::try_from(max).unwrap(),
            ..RetryOptions::default()
        }
    }

    #[test]
    fn intervals_grow_by_the_multiplier_up_to_the_largest() {
        for (name, options, want) in [
            ("the collector's defaults", options(5, 1.5, 30), [5.0, 7.5, 11.25, 16.875, 25.3125]),
            ("capped", options(5, 4.0, 30), [5.0, 20.0, 30.0, 30.0, 30.0]),
            ("the first one is not capped", options(60, 2.0, 30), [60.0, 30.0, 30.0, 30.0, 30.0]),
            ("constant", options(5, 1.0, 30), [5.0; 5]),
            ("an endless factor", options(5, f64::INFINITY, 30), [5.0, 30.0, 30.0, 30.0, 30.0]),
            ("a huge factor", options(5, 1e300, 30), [5.0, 30.0, 30.0, 30.0, 30.0]),
            ("not a number starts over", options(5, f64::NAN, 30), [5.0, 0.0, 5.0, 0.0, 5.0]),
        ] {
            let mut last = Duration::ZERO;
            for want in want {
                last = next_interval(&options, last);
                assert!((last.as_secs_f64() - want).abs() < 1e-6, "{name}: {last:?}");
            }
        }
    }

    #[test]
    fn jitter_stays_in_its_share_and_fills_it() {
        for seed in 0..50 {
            let mut jitter = Jitter::new(seed);
            let draws: Vec<_> = (0..200).map(|_| jitter.around(SECOND, 0.5)).collect();
            assert!(draws.iter().all(|d| (SECOND / 2..SECOND * 3 / 2).contains(d)), "{seed}");
            assert!(draws.iter().any(|d| *d < SECOND * 6 / 10), "{seed}");
            assert!(draws.iter().any(|d| *d > SECOND * 14 / 10), "{seed}");
        }
        assert_eq!(Jitter::new(1).around(SECOND, 0.0), SECOND);
    }

    #[test]
    fn first_draws_of_small_seeds_are_spread() {
        let low = (0..100).filter(|s| Jitter::new(*s).around(SECOND, 0.5) < SECOND).count();
        assert!((30..70).contains(&low), "{low} of 100 below the middle");
    }
}
