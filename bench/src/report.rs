//! Numbers for people and for scripts.

use hdrhistogram::Histogram;
use serde_json::{Value, json};

/// Nanoseconds up to ten minutes, three digits.
pub(crate) fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, 600_000_000_000, 3).expect("valid bounds")
}

/// `1234567` as `1 234 567`.
pub(crate) fn thousands(value: u64) -> String {
    let digits = value.to_string();
    let mut out = String::with_capacity(digits.len() + digits.len() / 3);
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(' ');
        }
        out.push(digit);
    }
    out
}

/// Nanoseconds in the unit that suits them.
pub(crate) fn time(ns: u64) -> String {
    match ns {
        0..100_000 => format!("{:.1} µs", ns as f64 / 1e3),
        100_000..100_000_000 => format!("{:.2} ms", ns as f64 / 1e6),
        _ => format!("{:.2} s", ns as f64 / 1e9),
    }
}

/// `p50 .. p99 .. max ..`
pub(crate) fn latency_text(of: &Histogram<u64>) -> String {
    if of.is_empty() {
        return "-".to_owned();
    }
    let at = |q| time(of.value_at_quantile(q));
    format!("p50 {} p99 {} max {}", at(0.5), at(0.99), time(of.max()))
}

/// Quantiles in microseconds; null if nothing was recorded.
pub(crate) fn latency_json(of: &Histogram<u64>) -> Value {
    if of.is_empty() {
        return Value::Null;
    }
    let at = |q| of.value_at_quantile(q) as f64 / 1e3;
    json!({
        "count": of.len(),
        "mean_us": of.mean() / 1e3,
        "p50_us": at(0.5),
        "p90_us": at(0.9),
        "p99_us": at(0.99),
        "p999_us": at(0.999),
        "max_us": of.max() as f64 / 1e3,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_grouped_by_thousands() {
        for (value, want) in [(0, "0"), (999, "999"), (1000, "1 000"), (1234567, "1 234 567")] {
            assert_eq!(thousands(value), want);
        }
    }

    #[test]
    fn times_are_shown_in_a_fitting_unit() {
        assert_eq!(time(1500), "1.5 µs");
        assert_eq!(time(1_500_000), "1.50 ms");
        assert_eq!(time(1_500_000_000), "1.50 s");
    }
}
