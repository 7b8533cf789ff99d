//! How long a trace has taken so far, as `latency` counts it (tailsampling 2.2).

/// Earliest start and latest end of the spans of a trace, in the order in which they came. Zero is
/// "not set yet" there, so a span without a start that comes later moves the start to 1970.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Times {
    start: u64,
    end: u64,
}

impl Times {
    /// Of no spans.
    pub const NONE: Self = Self { start: 0, end: 0 };

    /// Adds a span; whole milliseconds from start to end so far, cut towards zero.
    #[inline]
    #[expect(clippy::cast_possible_wrap, reason = "as the collector takes its timestamps")]
    pub fn add(&mut self, start: u64, end: u64) -> i64 {
        if self.start == 0 || start < self.start {
            self.start = start;
        }
        if self.end == 0 || end > self.end {
            self.end = end;
        }
        (self.end as i64).saturating_sub(self.start as i64) / 1_000_000
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;

    #[test]
    fn zero_means_not_set_yet() {
        let mut times = Times::default();
        assert_eq!(times.add(1_000 * MS, 1_030 * MS), 30);
        assert_eq!(times.add(900 * MS, 1_000 * MS), 130);
        assert_eq!(times.add(0, 0), 1_030, "from 1970");
        assert_eq!(times.add(1_000 * MS, 0), 30, "and back");
        assert_eq!(Times::default().add(5, 0), 0, "below a millisecond");
        assert_eq!(Times::default().add(5 * MS, MS), -4, "the end may come first");
    }
}
