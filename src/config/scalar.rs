//! Plain YAML scalars as the collector reads them: YAML 1.2 with leftovers of 1.1 and Go's forms of
//! numbers and durations (configs 4). Pure functions of text.

use std::time::Duration;

/// What a plain scalar means.
#[derive(Clone, Debug, PartialEq)]
pub enum Scalar {
    /// Nothing, `~`, `null`.
    Null,
    /// `true`, `False`; not `yes`, not `on`.
    Bool(bool),
    /// −2⁶³ to 2⁶⁴ − 1.
    Int(i128),
    /// Also integers with an exponent or too large ones.
    Float(f64),
    /// Everything else.
    Text,
}

/// Reads a plain (unquoted) scalar.
#[must_use]
pub fn infer(text: &str) -> Scalar {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Scalar::Null,
        "true" | "True" | "TRUE" => return Scalar::Bool(true),
        "false" | "False" | "FALSE" => return Scalar::Bool(false),
        ".nan" | ".NaN" | ".NAN" => return Scalar::Float(f64::NAN),
        ".inf" | ".Inf" | ".INF" | "+.inf" | "+.Inf" | "+.INF" => {
            return Scalar::Float(f64::INFINITY);
        }
        "-.inf" | "-.Inf" | "-.INF" => return Scalar::Float(f64::NEG_INFINITY),
        _ => {}
    }
    if !text.starts_with(['+', '-', '.', '0', '1', '2', '3', '4', '5', '6', '7', '8', '9']) {
        return Scalar::Text;
    }
    let plain = text.replace('_', "");
    if let Some(n) = integer(&plain) {
        return Scalar::Int(n);
    }
    if is_float(&plain) {
        return plain.parse().map_or(Scalar::Text, Scalar::Float);
    }
    Scalar::Text
}

/// `10`, `-5`, `0x10`, `0b1`, `0o17`, `017` (octal).
fn integer(text: &str) -> Option<i128> {
    let (negative, digits) = match text.as_bytes().first()? {
        b'-' => (true, &text[1..]),
        b'+' => (false, &text[1..]),
        _ => (false, text),
    };
    let lower = digits.to_ascii_lowercase();
    let (base, digits) = if let Some(rest) = lower.strip_prefix("0x") {
        (16, rest)
    } else if let Some(rest) = lower.strip_prefix("0b") {
        (2, rest)
    } else if let Some(rest) = lower.strip_prefix("0o") {
        (8, rest)
    } else if lower.len() > 1 && lower.starts_with('0') {
        (8, &lower[1..])
    } else {
        (10, lower.as_str())
    };
    if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_alphanumeric()) {
        return None;
    }
    let magnitude = i128::from_str_radix(digits, base).ok()?;
    let n = if negative { -magnitude } else { magnitude };
    (i128::from(i64::MIN)..=i128::from(u64::MAX)).contains(&n).then_some(n)
}

/// `[-+]? ( .d+ | d+ (. d*)? ) ([eE] [-+]? d+)?`
fn is_float(text: &str) -> bool {
    let text = text.strip_prefix(['+', '-']).unwrap_or(text);
    let (mantissa, exponent) = match text.find(['e', 'E']) {
        Some(i) => (&text[..i], Some(&text[i + 1..])),
        None => (text, None),
    };
    let digits = |s: &str| s.bytes().all(|b| b.is_ascii_digit());
    let mantissa_ok = match mantissa.split_once('.') {
        Some((whole, part)) => {
            digits(whole) && digits(part) && !(whole.is_empty() && part.is_empty())
        }
        None => digits(mantissa) && !mantissa.is_empty(),
    };
    let exponent_ok = exponent.is_none_or(|e| {
        let e = e.strip_prefix(['+', '-']).unwrap_or(e);
        digits(e) && !e.is_empty()
    });
    mantissa_ok && exponent_ok
}

/// Why a text is no duration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DurationError {
    /// No number, or something else in its place.
    Invalid,
    /// A number without a unit.
    MissingUnit,
    /// A unit that does not exist (days do not).
    UnknownUnit,
    /// Beyond ±292 years.
    Overflow,
}

impl DurationError {
    /// What is wrong, in words.
    #[must_use]
    pub fn words(self) -> &'static str {
        match self {
            Self::Invalid => "is not a duration",
            Self::MissingUnit => "is a duration without a unit",
            Self::UnknownUnit => "has an unknown unit (units are h, m, s, ms, us, ns)",
            Self::Overflow => "is too long",
        }
    }
}

/// Nanoseconds of a duration in Go's form: `1h30m`, `1.5s`, `-5ms`, `0`.
///
/// # Errors
/// If `text` is none.
pub fn duration(text: &str) -> Result<i64, DurationError> {
    let (negative, mut rest) = match text.as_bytes().first() {
        Some(b'-') => (true, &text[1..]),
        Some(b'+') => (false, &text[1..]),
        Some(_) => (false, text),
        None => return Err(DurationError::Invalid),
    };
    if rest == "0" {
        return Ok(0);
    }
    if rest.is_empty() {
        return Err(DurationError::Invalid);
    }
    let mut total: i128 = 0;
    while !rest.is_empty() {
        let number_len = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
        let (number, tail) = rest.split_at(number_len);
        let (whole, part) = number.split_once('.').unwrap_or((number, ""));
        if (whole.is_empty() && part.is_empty()) || part.contains('.') {
            return Err(DurationError::Invalid);
        }
        let unit_len = tail.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(unit_len);
        let scale: i128 = match unit {
            "ns" => 1,
            "us" | "µs" | "μs" => 1_000,
            "ms" => 1_000_000,
            "s" => 1_000_000_000,
            "m" => 60_000_000_000,
            "h" => 3_600_000_000_000,
            "" => return Err(DurationError::MissingUnit),
            _ => return Err(DurationError::UnknownUnit),
        };
        if whole.len() > 19 {
            return Err(DurationError::Overflow);
        }
        let whole: i128 = if whole.is_empty() { 0 } else { whole.parse().unwrap_or(i128::MAX / 4) };
        let places = &part[..part.len().min(12)];
        let numerator: i128 = places.parse().unwrap_or(0);
        let fraction = numerator * scale / 10_i128.pow(places.len().try_into().unwrap_or(12));
        total = total.saturating_add(whole.saturating_mul(scale)).saturating_add(fraction);
        rest = tail;
    }
    let total = if negative { -total } else { total };
    i64::try_from(total).map_err(|_| DurationError::Overflow)
}

/// `d` in Go's form, e.g. `1h30m`, `1s500ms`, `0s`.
#[must_use]
pub fn show_duration(d: Duration) -> String {
    let mut nanos = d.as_nanos();
    if nanos == 0 {
        return "0s".into();
    }
    let mut out = String::new();
    let units = [
        ("h", 3_600_000_000_000),
        ("m", 60_000_000_000),
        ("s", 1_000_000_000),
        ("ms", 1_000_000),
        ("us", 1_000),
        ("ns", 1),
    ];
    for (unit, scale) in units {
        if nanos >= scale {
            out.push_str(&format!("{}{unit}", nanos / scale));
            nanos %= scale;
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_scalars_mean_what_the_collector_reads() {
        use Scalar::{Bool, Float, Int, Null, Text};
        let rows = [
            ("", Null),
            ("~", Null),
            ("NULL", Null),
            ("nUll", Text),
            ("true", Bool(true)),
            ("FALSE", Bool(false)),
            ("yes", Text),
            ("on", Text),
            ("5", Int(5)),
            ("+5", Int(5)),
            ("-5", Int(-5)),
            ("1_000", Int(1000)),
            ("0x10", Int(16)),
            ("010", Int(8)),
            ("0o17", Int(15)),
            ("0b101", Int(5)),
            ("08", Float(8.0)),
            ("18446744073709551615", Int(18_446_744_073_709_551_615)),
            ("18446744073709551616", Float(18_446_744_073_709_551_616.0)),
            ("-9223372036854775809", Float(-9_223_372_036_854_775_809.0)),
            ("1e3", Float(1000.0)),
            ("5.0", Float(5.0)),
            (".5", Float(0.5)),
            ("5.", Float(5.0)),
            (".inf", Float(f64::INFINITY)),
            ("inf", Text),
            ("1.2.3", Text),
            ("10s", Text),
            ("localhost:4317", Text),
            ("1:2", Text),
            ("-", Text),
            (".", Text),
            ("0x", Text),
            ("--5", Text),
            ("0x-5", Text),
        ];
        for (text, want) in rows {
            assert_eq!(infer(text), want, "{text:?}");
        }
    }

    #[test]
    fn durations_have_the_form_of_go() {
        use DurationError::{Invalid, MissingUnit, Overflow, UnknownUnit};
        let rows = [
            ("0", Ok(0)),
            ("1h30m", Ok(5_400_000_000_000)),
            ("1.5s", Ok(1_500_000_000)),
            (".5s", Ok(500_000_000)),
            ("1.s", Ok(1_000_000_000)),
            ("500ms", Ok(500_000_000)),
            ("10us", Ok(10_000)),
            ("10µs", Ok(10_000)),
            ("1.000000001s", Ok(1_000_000_001)),
            ("-5ms", Ok(-5_000_000)),
            ("+1s", Ok(1_000_000_000)),
            ("", Err(Invalid)),
            ("s", Err(Invalid)),
            (".s", Err(Invalid)),
            ("-", Err(Invalid)),
            ("1.2.3s", Err(Invalid)),
            ("10", Err(MissingUnit)),
            ("1m30", Err(MissingUnit)),
            ("1d", Err(UnknownUnit)),
            ("1S", Err(UnknownUnit)),
            ("1 s", Err(UnknownUnit)),
            ("9999999h", Err(Overflow)),
            ("99999999999999999999999s", Err(Overflow)),
        ];
        for (text, want) in rows {
            assert_eq!(duration(text), want, "{text:?}");
        }
    }

    #[test]
    fn a_shown_duration_reads_back_as_itself() {
        for nanos in [0, 1, 1_500, 200_000_000, 1_500_000_000, 300_000_000_000, 5_400_000_000_001] {
            let shown = show_duration(Duration::from_nanos(nanos));
            assert_eq!(duration(&shown), Ok(i64::try_from(nanos).unwrap()), "{shown}");
        }
    }
}
