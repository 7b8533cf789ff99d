//! Keyed hashes of trace ids and of bytes. The key differs between processes, so nobody can
//! choose ids that collide, and between uses, so that ring, shard and tables do not correlate.

use std::hash::{BuildHasher, Hasher};

use foldhash::SharedSeed;
use foldhash::quality::SeedableRandomState;

/// A hash function of this process.
#[derive(Clone, Debug)]
pub struct Key {
    seed: u64,
    state: SeedableRandomState,
}

impl Key {
    /// Equal seeds make equal hashes.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        let state = SeedableRandomState::with_seed(seed, SharedSeed::global_fixed());
        Self { seed, state }
    }

    /// Hash of a trace id.
    #[must_use]
    #[inline]
    pub fn id(&self, id: &[u8; 16]) -> u64 {
        let whole = u128::from_le_bytes(*id);
        let (low, high) = (fold(whole), fold(whole >> 64));
        let product =
            u128::from(low ^ self.seed) * u128::from(high ^ self.seed.rotate_left(32) | 1);
        // A second round: without it a half of zeros would pass the other half through.
        let mixed = u128::from(fold(product) ^ fold(product >> 64)) * 0x9e37_79b9_7f4a_7c15;
        fold(mixed) ^ fold(mixed >> 64)
    }

    /// Hash of bytes.
    #[must_use]
    pub fn bytes(&self, bytes: &[u8]) -> u64 {
        let mut hasher = self.state.build_hasher();
        hasher.write(bytes);
        hasher.finish()
    }
}

#[expect(clippy::cast_possible_truncation, reason = "the low half is meant")]
const fn fold(whole: u128) -> u64 {
    whole as u64
}
