//! Time stamps and durations in the words of the collector (Go's RFC 3339 and `Duration`).

use std::fmt::Write as _;
use std::time::{Duration, SystemTime};

use ::time::OffsetDateTime;

/// `2026-11-22T11:39:09.095Z`
pub(super) fn millis(at: SystemTime) -> String {
    let at = OffsetDateTime::from(at);
    format!("{}.{:03}Z", seconds(at), at.millisecond())
}

/// Nanoseconds without trailing zeros, `2026-11-22T11:39:09.0951Z` or `2026-11-22T11:39:09Z`.
pub(super) fn nanos(at: SystemTime) -> String {
    let at = OffsetDateTime::from(at);
    format!("{}{}Z", seconds(at), fraction(u64::from(at.nanosecond()), 9))
}

fn seconds(at: OffsetDateTime) -> String {
    let (year, month, day) = (at.year(), u8::from(at.month()), at.day());
    let (hour, minute, second) = (at.hour(), at.minute(), at.second());
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}")
}

/// `1h2m3.5s`, `6.05s`, `12.5ms`, `3µs`, `7ns`, `0s`.
pub(super) fn duration(d: Duration) -> String {
    let nanos = d.subsec_nanos();
    match (d.as_secs(), nanos) {
        (0, 0) => "0s".to_owned(),
        (0, 1..1_000) => format!("{nanos}ns"),
        (0, 1_000..1_000_000) => {
            format!("{}{}µs", nanos / 1_000, fraction(u64::from(nanos % 1_000), 3))
        }
        (0, _) => format!("{}{}ms", nanos / 1_000_000, fraction(u64::from(nanos % 1_000_000), 6)),
        (secs, _) => {
            let mut text = String::new();
            if secs >= 3600 {
                let _ = write!(text, "{}h", secs / 3600);
            }
            if secs >= 60 {
                let _ = write!(text, "{}m", secs / 60 % 60);
            }
            let _ = write!(text, "{}{}s", secs % 60, fraction(u64::from(nanos), 9));
            text
        }
    }
}

/// `.05` for 50 of `digits` 3; nothing for 0.
fn fraction(value: u64, digits: usize) -> String {
    if value == 0 {
        return String::new();
    }
    let text = format!(".{value:0digits$}");
    text.trim_end_matches('0').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stamps_are_utc() {
        let at = |nanos| SystemTime::UNIX_EPOCH + Duration::from_nanos(nanos);
        assert_eq!(millis(at(1_795_347_549_095_999_999)), "2026-11-22T11:39:09.095Z");
        assert_eq!(nanos(at(1_795_347_549_095_100_000)), "2026-11-22T11:39:09.0951Z");
        assert_eq!(nanos(at(951_782_400_000_000_000)), "2000-02-29T00:00:00Z");
        assert_eq!(millis(at(0)), "1970-01-01T00:00:00.000Z");
    }

    #[test]
    fn durations_read_like_gos() {
        for (nanos, want) in [
            (0, "0s"),
            (7, "7ns"),
            (3_000, "3µs"),
            (1_050, "1.05µs"),
            (12_500_000, "12.5ms"),
            (6_068_568_311, "6.068568311s"),
            (60_000_000_000, "1m0s"),
            (3_723_500_000_000, "1h2m3.5s"),
            (360_000_000_000_000, "100h0m0s"),
        ] {
            assert_eq!(duration(Duration::from_nanos(nanos)), want);
        }
    }
}
