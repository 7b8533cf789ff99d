//! Functions on times and durations.

use super::super::error::EvalError;
use super::super::eval::{Arg, Scene};
use super::super::value::{Time, Val};
use super::{Function, Kind, Param, Reads, f, o, p, reading};

type Outcome<'a> = Result<Val<'a>, EvalError>;

const TIME: &[Param] = &[p("Time", Kind::Time)];
const DURATION: &[Param] = &[p("Duration", Kind::Duration)];
const SECOND: i64 = 1_000_000_000;

pub(super) const FUNCTIONS: &[Function] = &[
    f("Duration", &[p("Duration", Kind::Text)], |args, scene| {
        let nanos = parse_duration(&args[0].text(scene)?);
        nanos.map(Val::Duration).ok_or(EvalError::Failed("text that is not a duration"))
    }),
    f("Nanoseconds", DURATION, |args, scene| Ok(Val::Int(args[0].duration(scene)?))),
    f("Microseconds", DURATION, |args, scene| Ok(Val::Int(args[0].duration(scene)? / 1000))),
    f("Milliseconds", DURATION, |args, scene| Ok(Val::Int(args[0].duration(scene)? / 1_000_000))),
    f("Seconds", DURATION, |args, scene| parts(args, scene, SECOND, 1.0)),
    f("Minutes", DURATION, |args, scene| parts(args, scene, 60 * SECOND, 60.0)),
    f("Hours", DURATION, |args, scene| parts(args, scene, 3600 * SECOND, 3600.0)),
    f("UnixNano", TIME, |args, scene| Ok(Val::Int(args[0].time(scene)?.unix_nanos()))),
    f("UnixMicro", TIME, |args, scene| unix(args, scene, 1000)),
    f("UnixMilli", TIME, |args, scene| unix(args, scene, 1_000_000)),
    f("UnixSeconds", TIME, |args, scene| unix(args, scene, 1_000_000_000)),
    f("Unix", &[p("Seconds", Kind::Int), o("Nanoseconds", Kind::Int)], |args, scene| {
        let seconds = i128::from(args[0].int(scene)?);
        let nanos = if args[1].is_absent() { 0 } else { args[1].int(scene)? };
        Ok(Val::Time(Time::utc(seconds * i128::from(SECOND) + i128::from(nanos))))
    }),
    f("Hour", TIME, |args, scene| Ok(Val::Int(civil(args[0].time(scene)?).hour))),
    f("Minute", TIME, |args, scene| Ok(Val::Int(civil(args[0].time(scene)?).minute))),
    f("Second", TIME, |args, scene| Ok(Val::Int(civil(args[0].time(scene)?).second))),
    f("Nanosecond", TIME, |args, scene| Ok(Val::Int(civil(args[0].time(scene)?).nanosecond))),
    f("Day", TIME, |args, scene| Ok(Val::Int(civil(args[0].time(scene)?).day))),
    f("Month", TIME, |args, scene| Ok(Val::Int(civil(args[0].time(scene)?).month))),
    f("Year", TIME, |args, scene| Ok(Val::Int(civil(args[0].time(scene)?).year))),
    f("Weekday", TIME, |args, scene| Ok(Val::Int(civil(args[0].time(scene)?).weekday))),
    f("TruncateTime", &[p("Time", Kind::Time), p("Duration", Kind::Duration)], |args, scene| {
        let time = args[0].time(scene)?;
        let to = i128::from(args[1].duration(scene)?);
        let since_year_one = time.nanos + YEAR_ONE_NANOS;
        let over = if to > 0 { since_year_one.rem_euclid(to) } else { 0 };
        Ok(Val::Time(Time { nanos: time.nanos - over, ..time }))
    }),
    reading(
        f("Now", &[], |_, scene| Ok(Val::Time(Time::utc(scene.now_unix_nanos.into())))),
        Reads::Now,
    ),
];

/// From the first day of the year 1 to 1970.
const YEAR_ONE_NANOS: i128 = 62_135_596_800 * 1_000_000_000;

/// Whole units and the rest, as Go divides: so that a rest that is no binary fraction rounds alike.
#[expect(clippy::cast_precision_loss, reason = "as in Go")]
fn parts<'a>(args: &'a [Arg], scene: &Scene<'a>, unit: i64, seconds: f64) -> Outcome<'a> {
    let nanos = args[0].duration(scene)?;
    let (whole, rest) = (nanos / unit, nanos % unit);
    Ok(Val::Double(whole as f64 + rest as f64 / (seconds * 1e9)))
}

#[expect(clippy::cast_possible_truncation, reason = "wraps as in Go")]
fn unix<'a>(args: &'a [Arg], scene: &Scene<'a>, unit: i128) -> Outcome<'a> {
    Ok(Val::Int(args[0].time(scene)?.nanos.div_euclid(unit) as i64))
}

/// A duration as Go reads it: `1h2m3.5s`, with a sign, in nanoseconds.
pub(super) fn parse_duration(text: &[u8]) -> Option<i64> {
    let text = std::str::from_utf8(text).ok()?;
    let (negative, mut rest) = match text.as_bytes().first()? {
        b'-' => (true, &text[1..]),
        b'+' => (false, &text[1..]),
        _ => (false, text),
    };
    if rest == "0" {
        return Some(0);
    }
    let mut total: u64 = 0;
    let limit = 1u64 << 63;
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let digits = |text: &str| text.bytes().take_while(u8::is_ascii_digit).count();
        let whole_len = digits(rest);
        let whole: u64 = if whole_len == 0 { 0 } else { rest[..whole_len].parse().ok()? };
        rest = &rest[whole_len..];
        let mut fraction = "";
        if let Some(after) = rest.strip_prefix('.') {
            fraction = &after[..digits(after)];
            rest = &after[fraction.len()..];
        }
        if whole_len == 0 && fraction.is_empty() || whole > limit {
            return None;
        }
        let unit_len = rest.find(|c: char| c == '.' || c.is_ascii_digit()).unwrap_or(rest.len());
        let unit: u64 = match &rest[..unit_len] {
            "ns" => 1,
            "us" | "\u{b5}s" | "\u{3bc}s" => 1000,
            "ms" => 1_000_000,
            "s" => 1_000_000_000,
            "m" => 60_000_000_000,
            "h" => 3_600_000_000_000,
            _ => return None,
        };
        rest = &rest[unit_len..];
        let value = whole.checked_mul(unit).filter(|value| *value <= limit)?;
        total = total.checked_add(value)?.checked_add(fraction_of(fraction, unit))?;
        if total > limit {
            return None;
        }
    }
    if negative {
        return Some(0i64.wrapping_sub_unsigned(total));
    }
    i64::try_from(total).ok()
}

/// `0.digits` of `unit`, computed as Go does.
#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "as in Go, and less than the unit"
)]
fn fraction_of(digits: &str, unit: u64) -> u64 {
    let (mut number, mut scale) = (0u64, 1f64);
    for digit in digits.bytes() {
        let next = number.checked_mul(10).and_then(|n| n.checked_add(u64::from(digit - b'0')));
        match next.filter(|n| *n < 1 << 63) {
            Some(next) => number = next,
            // what comes later is too small to count
            None => break,
        }
        scale *= 10.0;
    }
    (number as f64 * (unit as f64 / scale)) as u64
}

/// Nanoseconds since 1970 of a date and a time of day in UTC; nothing for a day that the month
/// does not have.
pub(super) fn of_civil(c: Civil) -> Option<i128> {
    let leap = c.year % 4 == 0 && (c.year % 100 != 0 || c.year % 400 == 0);
    let days_of_month = match c.month {
        2 if leap => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        1..=12 => 31,
        _ => return None,
    };
    if !(1..=days_of_month).contains(&c.day) {
        return None;
    }
    let year = if c.month <= 2 { c.year - 1 } else { c.year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let shifted_month = (c.month + 9) % 12;
    let day_of_year = (153 * shifted_month + 2) / 5 + c.day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    let days = era * 146_097 + day_of_era - 719_468;
    let seconds = days * 86_400 + c.hour * 3600 + c.minute * 60 + c.second;
    Some(i128::from(seconds) * i128::from(SECOND) + i128::from(c.nanosecond))
}

/// The parts of a time in its zone.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Civil {
    pub(super) year: i64,
    pub(super) month: i64,
    pub(super) day: i64,
    pub(super) hour: i64,
    pub(super) minute: i64,
    pub(super) second: i64,
    pub(super) nanosecond: i64,
    /// Days since Sunday.
    pub(super) weekday: i64,
}

#[expect(clippy::cast_possible_truncation, reason = "years of 64-bit seconds fit")]
pub(super) fn civil(time: Time) -> Civil {
    let seconds = time.nanos.div_euclid(SECOND.into()) + i128::from(time.offset);
    let days = seconds.div_euclid(86_400);
    let of_day = seconds.rem_euclid(86_400) as i64;
    // eras of 400 years begin in March
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let day_of_era = shifted.rem_euclid(146_097) as i64;
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    Civil {
        year: era as i64 * 400 + year_of_era + i64::from(month <= 2),
        month,
        day: day_of_year - (153 * shifted_month + 2) / 5 + 1,
        hour: of_day / 3600,
        minute: of_day / 60 % 60,
        second: of_day % 60,
        nanosecond: time.nanos.rem_euclid(SECOND.into()) as i64,
        weekday: (days + 4).rem_euclid(7) as i64,
    }
}

/// `2006-01-02T15:04:05.999999999Z07:00`, in the years that have four digits.
pub(in crate::sample::ottl) fn rfc3339(time: Time) -> Option<String> {
    let c = civil(time);
    if !(0..=9999).contains(&c.year) {
        return None;
    }
    let mut text = format!(
        "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}",
        c.year, c.month, c.day, c.hour, c.minute, c.second
    );
    if c.nanosecond != 0 {
        let fraction = format!(".{:09}", c.nanosecond);
        text.push_str(fraction.trim_end_matches('0'));
    }
    if time.offset == 0 {
        text.push('Z');
    } else {
        let sign = if time.offset < 0 { '-' } else { '+' };
        let minutes = time.offset.unsigned_abs() / 60;
        text.push_str(&format!("{sign}{:02}:{:02}", minutes / 60, minutes % 60));
    }
    Some(text)
}
