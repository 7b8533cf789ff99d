//! What functions ask of their arguments: a value of one type, or one that can be made so.

use std::borrow::Cow;
use std::io::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::error::EvalError;
use super::path::hex;
use super::value::{DEPTH_MAX, List, Map, Time, Val};

type Text<'a> = Cow<'a, [u8]>;

fn wrong<T>(want: &'static str, got: &Val<'_>) -> Result<T, EvalError> {
    Err(EvalError::Type { want, got: got.type_name() })
}

const NO_NUMBER: EvalError = EvalError::Failed("text that is not a number");

/// A string and nothing else.
pub(super) fn text(value: Val<'_>) -> Result<Text<'_>, EvalError> {
    match value {
        Val::Str(text) => Ok(text),
        other => wrong("string", &other),
    }
}

/// An integer and nothing else.
pub(super) fn int(value: &Val<'_>) -> Result<i64, EvalError> {
    match value {
        Val::Int(n) => Ok(*n),
        other => wrong("int64", other),
    }
}

/// A float and nothing else.
pub(super) fn double(value: &Val<'_>) -> Result<f64, EvalError> {
    match value {
        Val::Double(n) => Ok(*n),
        other => wrong("float64", other),
    }
}

/// A bool and nothing else.
pub(super) fn boolean(value: &Val<'_>) -> Result<bool, EvalError> {
    match value {
        Val::Bool(b) => Ok(*b),
        other => wrong("bool", other),
    }
}

/// A map of the collector's type, or one that can become it.
pub(super) fn map(value: Val<'_>) -> Result<Map<'_>, EvalError> {
    match value {
        Val::Map(map @ (Map::Wire(..) | Map::Made(_))) => Ok(map),
        Val::Map(Map::Plain(entries)) => Ok(Map::Made(entries)),
        other => wrong("pcommon.Map", &other),
    }
}

/// A list of the collector's type, or one that can become it.
pub(super) fn list(value: Val<'_>) -> Result<List<'_>, EvalError> {
    match value {
        Val::List(list @ (List::Wire(_) | List::Made(_))) => Ok(list),
        Val::List(List::Texts(texts)) => Ok(List::Made(texts.into_iter().map(Val::Str).collect())),
        Val::List(List::Plain(items)) => {
            let stored = items.into_iter().map(|item| match item {
                Val::Map(Map::Wire(..) | Map::Made(_))
                | Val::List(List::Wire(_) | List::Made(_)) => {
                    wrong("a value that a list can hold", &item)
                }
                item => super::eval::storable(item),
            });
            Ok(List::Made(stored.collect::<Result<_, _>>()?))
        }
        other => wrong("pcommon.Slice", &other),
    }
}

/// A time and nothing else.
pub(super) fn time(value: &Val<'_>) -> Result<Time, EvalError> {
    match value {
        Val::Time(time) => Ok(*time),
        other => wrong("time", other),
    }
}

/// A duration in nanoseconds and nothing else.
pub(super) fn duration(value: &Val<'_>) -> Result<i64, EvalError> {
    match value {
        Val::Duration(nanos) => Ok(*nanos),
        other => wrong("duration", other),
    }
}

const TWO_TO_63: f64 = 9_223_372_036_854_775_808.0;

/// An integer made of a number, a bool or a text; of nil nothing.
#[expect(clippy::cast_possible_truncation, reason = "checked; what does not fit is the least")]
pub(super) fn int_like(value: &Val<'_>) -> Result<Option<i64>, EvalError> {
    match value {
        Val::Nil => Ok(None),
        Val::Int(n) => Ok(Some(*n)),
        // as the collector's platform converts: what does not fit becomes the least
        Val::Double(n) if (-TWO_TO_63..TWO_TO_63).contains(n) => Ok(Some(*n as i64)),
        Val::Double(_) => Ok(Some(i64::MIN)),
        Val::Bool(b) => Ok(Some(i64::from(*b))),
        Val::Str(text) => parse_int(text, 10).map(Some).ok_or(NO_NUMBER),
        other => wrong("a value that can be an int64", other),
    }
}

/// Digits in `radix` with an optional sign.
pub(super) fn parse_int(text: &[u8], radix: u32) -> Option<i64> {
    // Rust reads the same signs and digits, and refuses what does not fit
    i64::from_str_radix(std::str::from_utf8(text).ok()?, radix).ok()
}

/// A float made of a number, a bool or a text; of nil nothing.
#[expect(clippy::cast_precision_loss, reason = "as the collector converts")]
pub(super) fn double_like(value: &Val<'_>) -> Result<Option<f64>, EvalError> {
    match value {
        Val::Nil => Ok(None),
        Val::Int(n) => Ok(Some(*n as f64)),
        Val::Double(n) => Ok(Some(*n)),
        Val::Bool(b) => Ok(Some(f64::from(u8::from(*b)))),
        Val::Str(text) => parse_float(text).map(Some).ok_or(NO_NUMBER),
        other => wrong("a value that can be a float64", other),
    }
}

/// Does each underscore stand between two digits, or between a prefix as in `0x` and a digit?
pub(super) fn underscores_part_digits(text: &str) -> bool {
    let digits = text.strip_prefix(['-', '+']).unwrap_or(text).as_bytes();
    let prefixed = digits.len() >= 2
        && digits[0] == b'0'
        && matches!(digits[1].to_ascii_lowercase(), b'b' | b'o' | b'x');
    let hex = prefixed && digits[1].eq_ignore_ascii_case(&b'x');
    let mut before = if prefixed { b'0' } else { b'^' };
    for byte in &digits[if prefixed { 2 } else { 0 }..] {
        if byte.is_ascii_digit() || hex && byte.is_ascii_hexdigit() {
            before = b'0';
        } else if (*byte == b'_' && before != b'0') || (*byte != b'_' && before == b'_') {
            return false;
        } else {
            before = if *byte == b'_' { b'_' } else { b'!' };
        }
    }
    before != b'_'
}

/// A float as Go reads it: decimal, hexadecimal with an exponent, `inf` and `nan`, underscores
/// between digits.
fn parse_float(text: &[u8]) -> Option<f64> {
    let text = std::str::from_utf8(text).ok()?;
    let plain = text.replace('_', "");
    if plain.len() < text.len() && !underscores_part_digits(text) {
        return None;
    }
    let text = plain.as_str();
    let (sign, digits) = match text.as_bytes().first()? {
        b'-' => (-1.0, &text[1..]),
        b'+' => (1.0, &text[1..]),
        _ => (1.0, text),
    };
    if digits.starts_with("0x") || digits.starts_with("0X") {
        return hex_float(&digits[2..]).map(|n| sign * n);
    }
    let number: f64 = text.parse().ok()?;
    let named = digits.as_bytes().first().is_some_and(u8::is_ascii_alphabetic);
    // Rust reads what is too large as infinite, Go refuses it; signed NaN is no number in Go
    if number.is_nan() && digits.len() != text.len() {
        return None;
    }
    (named || number.is_finite()).then_some(number)
}

/// Hexadecimal digits with a point and a binary exponent, of which Go wants one.
fn hex_float(digits: &str) -> Option<f64> {
    let (mantissa, exponent) = digits.split_once(['p', 'P'])?;
    let exponent: i32 = exponent.parse().ok()?;
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    if whole.is_empty() && fraction.is_empty() {
        return None;
    }
    let mut number = 0.0f64;
    for c in whole.chars().chain(fraction.chars()) {
        number = number * 16.0 + f64::from(c.to_digit(16)?);
    }
    let shift = exponent.checked_sub(4 * i32::try_from(fraction.len()).ok()?)?;
    Some(number * 2f64.powi(shift)).filter(|n| n.is_finite())
}

/// A bool made of a number or a text; of nil nothing.
pub(super) fn bool_like(value: &Val<'_>) -> Result<Option<bool>, EvalError> {
    match value {
        Val::Nil => Ok(None),
        Val::Bool(b) => Ok(Some(*b)),
        Val::Int(n) => Ok(Some(*n != 0)),
        Val::Double(n) => Ok(Some(*n != 0.0)),
        Val::Str(text) => match text.as_ref() {
            b"1" | b"t" | b"T" | b"true" | b"TRUE" | b"True" => Ok(Some(true)),
            b"0" | b"f" | b"F" | b"false" | b"FALSE" | b"False" => Ok(Some(false)),
            _ => Err(EvalError::Failed("text that is not a bool")),
        },
        other => wrong("a value that can be a bool", other),
    }
}

/// Bytes made of a text, a number or a bool; of nil nothing.
pub(super) fn bytes_like(value: Val<'_>) -> Result<Option<Text<'_>>, EvalError> {
    match value {
        Val::Nil => Ok(None),
        Val::Bytes(bytes) | Val::Str(bytes) => Ok(Some(bytes)),
        Val::Int(n) => Ok(Some(Cow::Owned(n.to_be_bytes().to_vec()))),
        Val::Double(n) => Ok(Some(Cow::Owned(n.to_be_bytes().to_vec()))),
        Val::Bool(b) => Ok(Some(Cow::Owned(vec![u8::from(b)]))),
        other => wrong("a value that can be bytes", &other),
    }
}

/// A text made of anything; of nil nothing.
pub(super) fn text_like(value: Val<'_>) -> Result<Option<Text<'_>>, EvalError> {
    match value {
        Val::Nil => Ok(None),
        Val::Str(text) => Ok(Some(text)),
        Val::Bytes(bytes) => Ok(Some(Cow::Owned(hex(&bytes)))),
        other => {
            let mut out = Vec::new();
            json(&other, &mut out, DEPTH_MAX, Style::Padded)?;
            Ok(Some(Cow::Owned(out)))
        }
    }
}

/// Of the two writers of JSON that the collector has.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Style {
    /// `1e-07`
    Padded,
    /// `1e-7`
    Short,
}

/// A text made of an item of a list in an attribute: there, bytes are base64, and empty values
/// and what JSON does not know are empty texts.
pub(super) fn item_text(item: Val<'_>) -> Text<'_> {
    match item {
        Val::Nil => Cow::Borrowed(&[]),
        Val::Str(text) => text,
        Val::Bytes(bytes) => Cow::Owned(STANDARD.encode(bytes).into_bytes()),
        Val::Double(n) if n.is_nan() => Cow::Borrowed(b"NaN"),
        Val::Double(n) if n.is_infinite() => {
            Cow::Borrowed(if n > 0.0 { &b"+Inf"[..] } else { b"-Inf" })
        }
        other => {
            let mut out = Vec::new();
            match json(&other, &mut out, DEPTH_MAX, Style::Short) {
                Ok(()) => Cow::Owned(out),
                Err(_) => Cow::Borrowed(&[]),
            }
        }
    }
}

/// `value` as JSON: keys in order, `<`, `>` and `&` escaped, bytes in base64.
fn json(value: &Val<'_>, out: &mut Vec<u8>, depth: usize, style: Style) -> Result<(), EvalError> {
    let Some(depth) = depth.checked_sub(1) else {
        return Err(EvalError::Failed("values nest too deeply"));
    };
    match value {
        Val::Nil => out.extend_from_slice(b"null"),
        Val::Bytes(bytes) if bytes.is_empty() => out.extend_from_slice(b"null"),
        Val::Bool(b) => out.extend_from_slice(if *b { b"true" } else { b"false" }),
        Val::Int(n) | Val::Duration(n) => drop(write!(out, "{n}")),
        Val::Octet(n) => drop(write!(out, "{n}")),
        Val::Double(n) if !n.is_finite() => return wrong("a number that JSON knows", value),
        Val::Double(n) => out.extend_from_slice(float(*n, style).as_bytes()),
        Val::Str(text) => quote(text, out),
        Val::Bytes(bytes) => quote(STANDARD.encode(bytes).as_bytes(), out),
        Val::Time(time) => match super::functions::time::rfc3339(*time) {
            Some(text) => quote(text.as_bytes(), out),
            None => return wrong("a year that JSON knows", value),
        },
        Val::TraceId(id) => octets(id, out),
        Val::SpanId(id) => octets(id, out),
        Val::Parts(..) | Val::Status => out.extend_from_slice(b"{}"),
        Val::List(list) => {
            out.push(b'[');
            let plain = matches!(list, List::Plain(_));
            for (n, item) in list.items().iter().enumerate() {
                if n > 0 {
                    out.push(b',');
                }
                // to the writer, the collector's own types have nothing in them
                if plain && is_collectors(item) {
                    out.extend_from_slice(b"{}");
                    continue;
                }
                json(item, out, depth, style)?;
            }
            out.push(b']');
        }
        Val::Map(map) => {
            // of duplicates the last counts, and keys are sorted
            let entries: std::collections::BTreeMap<_, _> = map.entries().into_iter().collect();
            out.push(b'{');
            for (n, (key, value)) in entries.iter().enumerate() {
                if n > 0 {
                    out.push(b',');
                }
                quote(key, out);
                out.push(b':');
                json(value, out, depth, style)?;
            }
            out.push(b'}');
        }
    }
    Ok(())
}

fn is_collectors(item: &Val<'_>) -> bool {
    match item {
        Val::Map(map) => !matches!(map, Map::Plain(_)),
        Val::List(list) => matches!(list, List::Wire(_) | List::Made(_)),
        _ => false,
    }
}

/// An id as the list of its bytes.
fn octets(id: &[u8], out: &mut Vec<u8>) {
    let digits: Vec<String> = id.iter().map(u8::to_string).collect();
    let _ = write!(out, "[{}]", digits.join(","));
}

/// A number as JSON writes it: plain, with an exponent when very small or very large.
fn float(n: f64, style: Style) -> String {
    let size = n.abs();
    if size == 0.0 || (1e-6..1e21).contains(&size) {
        return format!("{n}");
    }
    // Rust writes 1e21 and 1e-7
    let text = format!("{n:e}");
    let (digits, exponent) = text.split_once('e').unwrap_or((&text, "0"));
    match exponent.strip_prefix('-') {
        None => format!("{digits}e+{exponent}"),
        Some(exponent) if exponent.len() == 1 && style == Style::Padded => {
            format!("{digits}e-0{exponent}")
        }
        Some(exponent) => format!("{digits}e-{exponent}"),
    }
}

fn quote(text: &[u8], out: &mut Vec<u8>) {
    out.push(b'"');
    for chunk in text.utf8_chunks() {
        for c in chunk.valid().chars() {
            match c {
                '"' => out.extend_from_slice(b"\\\""),
                '\\' => out.extend_from_slice(b"\\\\"),
                '\n' => out.extend_from_slice(b"\\n"),
                '\r' => out.extend_from_slice(b"\\r"),
                '\t' => out.extend_from_slice(b"\\t"),
                '\0'..='\x1f' | '<' | '>' | '&' | '\u{2028}' | '\u{2029}' => {
                    let _ = write!(out, "\\u{:04x}", u32::from(c));
                }
                c => out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes()),
            }
        }
        for _ in chunk.invalid() {
            out.extend_from_slice(b"\\ufffd");
        }
    }
    out.push(b'"');
}
