//! Sets of predicates as words: which hold for a trace.

/// One predicate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bit(pub u16);

impl Bit {
    /// Whether it is in the set.
    #[must_use]
    #[inline]
    pub const fn is_in(self, words: &[u64]) -> bool {
        words[self.0 as usize / 64] >> (self.0 % 64) & 1 == 1
    }

    /// Adds it to the set.
    #[inline]
    pub const fn set(self, words: &mut [u64]) {
        words[self.0 as usize / 64] |= 1 << (self.0 % 64);
    }
}

/// Adds all of `more`.
#[inline]
pub fn add(words: &mut [u64], more: &[u64]) {
    for (word, more) in words.iter_mut().zip(more) {
        *word |= more;
    }
}
