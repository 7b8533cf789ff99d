//! Medians with an interval that assumes nothing about the distribution.

/// A median, and the order statistics that enclose it with at least 95 % confidence. With fewer
/// than six values there are none, and the interval is the whole range.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Median {
    pub(crate) value: f64,
    pub(crate) low: f64,
    pub(crate) high: f64,
    pub(crate) count: usize,
}

impl Median {
    /// `None` without values.
    pub(crate) fn of(values: &[f64]) -> Option<Self> {
        let mut sorted: Vec<f64> = values.iter().copied().filter(|v| v.is_finite()).collect();
        sorted.sort_by(f64::total_cmp);
        let n = sorted.len();
        let value = f64::midpoint(*sorted.get(n.checked_sub(1)? / 2)?, sorted[n / 2]);
        let cut = cut(n);
        Some(Self { value, low: sorted[cut], high: sorted[n - 1 - cut], count: n })
    }
}

/// How many values may be left out at each end: the largest k with P(at most k of n coin
/// tosses are heads) <= 2.5 %, or none.
fn cut(n: usize) -> usize {
    let mut term = 0.5_f64.powi(n as i32);
    let mut below = 0.0;
    for k in 0..n / 2 {
        below += term;
        if below > 0.025 {
            return k.saturating_sub(1);
        }
        term *= (n - k) as f64 / (k + 1) as f64;
    }
    0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_interval_of_fifteen_is_from_the_fourth_to_the_twelfth() {
        let values: Vec<f64> = (1..=15).rev().map(f64::from).collect();
        let median = Median::of(&values).expect("values");
        assert_eq!((median.low, median.value, median.high), (4.0, 8.0, 12.0));
    }

    #[test]
    fn few_values_have_their_range() {
        assert_eq!(Median::of(&[]), None);
        let two = Median::of(&[3.0, 1.0]).expect("values");
        assert_eq!((two.low, two.value, two.high), (1.0, 2.0, 3.0));
        let six = Median::of(&[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]).expect("values");
        assert_eq!((six.low, six.high), (1.0, 6.0));
    }

    #[test]
    fn what_could_not_be_measured_is_left_out() {
        assert_eq!(Median::of(&[f64::NAN, 2.0]).map(|m| m.count), Some(1));
    }
}
