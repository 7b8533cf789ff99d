//! What has been seen: a bounded table of fingerprints that forgets the oldest.
//!
//! One cache line per bucket and one look per question. Nothing is stored but 56 bits of the
//! key's hash and one byte: with a million keys, a wrong match happens less than once in 10^10
//! questions.

/// Entries of a bucket: one cache line.
const WAYS: usize = 8;

#[derive(Debug, Clone, Copy)]
#[repr(align(64))]
struct Bucket([u64; WAYS]);

/// Remembers keys, each with one byte.
#[derive(Debug)]
pub(crate) struct Seen {
    buckets: Vec<Bucket>,
    /// Keys forgotten to make room.
    pub(crate) forgotten: u64,
}

/// What was known of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Known {
    New,
    With(u8),
}

impl Seen {
    /// Room for `keys_max` keys, rounded up to a power of two; 0 makes a table that is off.
    /// Keys fall into buckets of eight: from about a quarter of `keys_max` on, single ones are
    /// forgotten before the table is full.
    pub(crate) fn new(keys_max: usize) -> Self {
        let buckets = match keys_max {
            0 => 0,
            n => n.div_ceil(WAYS).next_power_of_two(),
        };
        Self { buckets: vec![Bucket([0; WAYS]); buckets], forgotten: 0 }
    }

    pub(crate) fn is_on(&self) -> bool {
        !self.buckets.is_empty()
    }

    /// What is known of the key with this hash; it is known from now on, with `value` if new.
    #[inline]
    pub(crate) fn note(&mut self, hash: u64, value: u8) -> Known {
        let at = hash as usize & (self.buckets.len() - 1);
        let bucket = &mut self.buckets[at].0;
        // Never zero, which marks a free entry.
        let fingerprint = hash & !0xff | 1 << 63;
        for entry in bucket.iter() {
            if entry & !0xff == fingerprint {
                return Known::With(*entry as u8);
            }
        }
        if bucket[WAYS - 1] != 0 {
            self.forgotten += 1;
        }
        bucket.copy_within(..WAYS - 1, 1);
        bucket[0] = fingerprint | u64::from(value);
        Known::New
    }

    /// Changes the byte of a key that was just noted.
    pub(crate) fn set(&mut self, hash: u64, value: u8) {
        let at = hash as usize & (self.buckets.len() - 1);
        let fingerprint = hash & !0xff | 1 << 63;
        for entry in &mut self.buckets[at].0 {
            if *entry & !0xff == fingerprint {
                *entry = fingerprint | u64::from(value);
            }
        }
    }
}

/// Hash of two words; good enough for ids that are counters.
#[inline]
pub(crate) fn fold(a: u64, b: u64) -> u64 {
    let product = u128::from(a ^ 0x9e37_79b9_7f4a_7c15) * u128::from(b ^ 0xd6e8_feb8_6659_fd93);
    let mixed = product as u64 ^ (product >> 64) as u64;
    mixed.wrapping_mul(0x9fb2_1c65_1e98_df25).rotate_right(29)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_keeps_the_value_it_came_with() {
        let mut seen = Seen::new(10_000);
        for key in 0..500_u64 {
            assert_eq!(seen.note(fold(key, !key), key as u8), Known::New);
        }
        let kept = (0..500_u64)
            .filter(|&key| seen.note(fold(key, !key), 0) == Known::With(key as u8))
            .count();
        assert_eq!(kept, 500);
        assert_eq!(seen.forgotten, 0);
    }

    #[test]
    fn a_full_table_forgets_the_oldest_and_counts_it() {
        let mut seen = Seen::new(8);
        for key in 0..9_u64 {
            seen.note(fold(key, 1), 7);
        }
        assert_eq!(seen.forgotten, 1);
        assert_eq!(seen.note(fold(8, 1), 0), Known::With(7));
        assert_eq!(seen.note(fold(0, 1), 0), Known::New);
    }

    #[test]
    fn counters_spread_over_the_buckets() {
        let mut seen = Seen::new(1 << 16);
        for key in 0..1_u64 << 14 {
            seen.note(fold(key, 0), 0);
        }
        assert!(seen.forgotten < 20, "a quarter full, {}", seen.forgotten);
    }
}
