//! A histogram with fixed bounds in plain numbers, owned by one core.
//!
//! Invariant: one count more than bounds. Recording never allocates. Not here: percentiles; the
//! reader of the page makes those from the counts.

/// Counts of values by upper bound.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Histogram {
    bounds: &'static [u64],
    counts: Vec<u64>,
    sum: u64,
}

impl Histogram {
    /// An empty histogram; `bounds` are inclusive and ascend.
    #[must_use]
    pub fn new(bounds: &'static [u64]) -> Self {
        assert!(bounds.windows(2).all(|pair| pair[0] < pair[1]), "bounds ascend");
        Self { bounds, counts: vec![0; bounds.len() + 1], sum: 0 }
    }

    /// Counts one value.
    pub fn record(&mut self, value: u64) {
        self.counts[self.bounds.partition_point(|bound| *bound < value)] += 1;
        self.sum = self.sum.saturating_add(value);
    }

    /// Adds what another core counted with the same bounds.
    pub fn merge(&mut self, other: &Self) {
        assert_eq!(self.bounds, other.bounds, "only equal bounds add up");
        for (count, more) in self.counts.iter_mut().zip(&other.counts) {
            *count += more;
        }
        self.sum = self.sum.saturating_add(other.sum);
    }

    /// Inclusive upper bounds.
    #[must_use]
    pub fn bounds(&self) -> &'static [u64] {
        self.bounds
    }

    /// Values per bound, not cumulative; the last count is of values above all bounds.
    #[must_use]
    pub fn counts(&self) -> &[u64] {
        &self.counts
    }

    /// Number of values.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// Sum of values.
    #[must_use]
    pub fn sum(&self) -> u64 {
        self.sum
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOUNDS: [u64; 3] = [5, 10, 20];

    #[test]
    fn a_bound_belongs_to_the_bucket_below_it() {
        for (value, want) in
            [(0, 0), (5, 0), (6, 1), (10, 1), (11, 2), (20, 2), (21, 3), (u64::MAX, 3)]
        {
            let mut histogram = Histogram::new(&BOUNDS);
            histogram.record(value);
            let at = histogram.counts().iter().position(|count| *count == 1);
            assert_eq!((at, histogram.sum()), (Some(want), value), "{value}");
        }
    }

    #[test]
    fn merging_adds_counts_and_sums() {
        let (mut a, mut b) = (Histogram::new(&BOUNDS), Histogram::new(&BOUNDS));
        for value in [1, 7, 30] {
            a.record(value);
        }
        for value in [7, 40] {
            b.record(value);
        }
        a.merge(&b);
        assert_eq!((a.counts(), a.sum(), a.count()), (&[1, 2, 0, 2][..], 85, 5));
    }

    #[test]
    #[should_panic(expected = "only equal bounds")]
    fn different_bounds_do_not_merge() {
        Histogram::new(&BOUNDS).merge(&Histogram::new(&[1]));
    }
}
