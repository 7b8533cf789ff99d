//! Pseudo-random numbers that are the same for the same seed on every machine, for ever.

/// SplitMix64: one u64 of state, fine for workloads, useless for secrets.
#[derive(Clone, Copy, Debug)]
pub struct Random {
    state: u64,
}

impl Random {
    /// A generator; equal seeds give equal numbers.
    #[must_use]
    pub const fn new(seed: u64) -> Self {
        Self { state: seed }
    }

    /// The next 64 bits.
    #[inline]
    pub const fn next_u64(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mix(self.state)
    }

    /// A number below `bound`, or 0 if that is 0.
    #[inline]
    pub const fn below(&mut self, bound: u64) -> u64 {
        ((self.next_u64() as u128 * bound as u128) >> 64) as u64
    }

    /// One of the entries.
    ///
    /// # Panics
    /// If there is none.
    #[expect(clippy::cast_possible_truncation, reason = "below the length of a slice")]
    pub const fn pick<'a, T>(&mut self, of: &'a [T]) -> &'a T {
        &of[self.below(of.len() as u64) as usize]
    }

    /// True with this probability (0.0 to 1.0).
    pub fn chance(&mut self, probability: f64) -> bool {
        (self.next_u64() >> 11) as f64 / (1u64 << 53) as f64 > 1.0 - probability
    }
}

/// The finisher of SplitMix64: spreads every bit of `x` over all bits.
#[inline]
#[must_use]
pub const fn mix(mut x: u64) -> u64 {
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

/// The `n`-th trace id of a run: random-looking, different for different `n` (and with
/// practical certainty for different seeds), never zero.
#[inline]
#[must_use]
pub fn trace_id(seed: u64, n: u64) -> [u8; 16] {
    let high = mix(n.wrapping_add(mix(seed)) | 1 << 63).max(1);
    let low = mix(n ^ mix(!seed)); // a bijection of n
    (u128::from(high) << 64 | u128::from(low)).to_be_bytes()
}

/// Changes a byte, or takes one out, or puts one in; `below` says a random number below another.
pub fn damage(bytes: &mut Vec<u8>, mut below: impl FnMut(usize) -> usize) {
    let at = below(bytes.len());
    let kind = below(3);
    if kind == 1 {
        bytes.remove(at);
        return;
    }
    let byte = u8::try_from(below(256)).expect("below 256");
    if kind == 0 {
        bytes[at] = byte;
    } else {
        bytes.insert(at, byte);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn trace_ids_of_a_run_differ() {
        let ids: HashSet<_> = (0..10_000).map(|n| trace_id(7, n)).collect();
        assert_eq!(ids.len(), 10_000);
        assert!(!ids.contains(&trace_id(8, 0)));
        assert_eq!(trace_id(7, 5), trace_id(7, 5));
    }

    #[test]
    fn chances_and_bounds_hold() {
        let mut random = Random::new(1);
        assert!((0..1000).all(|_| random.below(10) < 10));
        assert!((0..1000).all(|_| !random.chance(0.0)));
        assert!((0..1000).all(|_| random.chance(1.0)));
        let hits = (0..10_000).filter(|_| random.chance(0.2)).count();
        assert!((1800..2200).contains(&hits), "{hits}");
    }
}
