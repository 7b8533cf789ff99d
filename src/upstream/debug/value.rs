//! Values, numbers, times and ids as Go and the collector print them.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue};

/// Attributes as `key=value`.
pub(super) fn pairs(attributes: &[KeyValue]) -> Vec<String> {
    attributes.iter().map(|kv| format!("{}={}", kv.key, text(kv.value.as_ref()))).collect()
}

/// The type and the value: `Str(x)`.
pub(super) fn typed(value: Option<&AnyValue>) -> String {
    let name = match value.and_then(|v| v.value.as_ref()) {
        Some(Value::StringValue(_)) => "Str",
        Some(Value::BoolValue(_)) => "Bool",
        Some(Value::IntValue(_)) => "Int",
        Some(Value::DoubleValue(_)) => "Double",
        Some(Value::ArrayValue(_)) => "Slice",
        Some(Value::KvlistValue(_)) => "Map",
        Some(Value::BytesValue(_)) => "Bytes",
        Some(Value::StringValueStrindex(_)) | None => "Empty",
    };
    format!("{name}({})", text(value))
}

/// A value as text. Lists and maps are JSON, and nothing at all if JSON cannot say them.
pub(super) fn text(value: Option<&AnyValue>) -> String {
    match value.and_then(|v| v.value.as_ref()) {
        Some(Value::StringValue(s)) => s.clone(),
        Some(Value::BoolValue(b)) => b.to_string(),
        Some(Value::IntValue(n)) => n.to_string(),
        Some(Value::DoubleValue(n)) => double(*n),
        Some(Value::BytesValue(bytes)) => STANDARD.encode(bytes),
        Some(Value::ArrayValue(_) | Value::KvlistValue(_)) => {
            let mut out = String::new();
            json(value, &mut out).map_or_else(String::new, |()| out)
        }
        Some(Value::StringValueStrindex(_)) | None => String::new(),
    }
}

/// `None` for a number that JSON does not have. Depth is that of a decoded message, so limited.
fn json(value: Option<&AnyValue>, out: &mut String) -> Option<()> {
    match value.and_then(|v| v.value.as_ref()) {
        Some(Value::StringValue(s)) => quote(s, out),
        Some(Value::DoubleValue(n)) if !n.is_finite() => return None,
        Some(Value::BytesValue(bytes)) if bytes.is_empty() => out.push_str("null"),
        Some(Value::BytesValue(bytes)) => quote(&STANDARD.encode(bytes), out),
        Some(Value::ArrayValue(array)) => {
            out.push('[');
            for (i, element) in array.values.iter().enumerate() {
                out.push_str(if i == 0 { "" } else { "," });
                json(Some(element), out)?;
            }
            out.push(']');
        }
        Some(Value::KvlistValue(map)) => {
            // Sorted, and of equal keys the last, as in a Go map.
            let sorted: BTreeMap<_, _> = map.values.iter().map(|kv| (&kv.key, &kv.value)).collect();
            out.push('{');
            for (i, (key, value)) in sorted.into_iter().enumerate() {
                out.push_str(if i == 0 { "" } else { "," });
                quote(key, out);
                out.push(':');
                json(value.as_ref(), out)?;
            }
            out.push('}');
        }
        Some(Value::StringValueStrindex(_)) | None => out.push_str("null"),
        _ => out.push_str(&text(value)),
    }
    Some(())
}

/// Go also escapes the two line ends of JavaScript.
fn quote(text: &str, out: &mut String) {
    let quoted = serde_json::Value::from(text).to_string();
    out.push_str(&quoted.replace('\u{2028}', "\\u2028").replace('\u{2029}', "\\u2029"));
}

/// As JavaScript and JSON write numbers: an exponent below 1e-6 and from 1e21.
fn double(n: f64) -> String {
    match n {
        _ if n.is_nan() => "NaN".into(),
        f64::INFINITY => "Infinity".into(),
        f64::NEG_INFINITY => "-Infinity".into(),
        _ if n != 0.0 && !(1e-6..1e21).contains(&n.abs()) => exponential(n, 1),
        _ => n.to_string(),
    }
}

/// Go's `%v`: an exponent below 1e-4 and from 1e6.
pub(super) fn go_v(n: f64) -> String {
    match n {
        _ if n.is_nan() => "NaN".into(),
        f64::INFINITY => "+Inf".into(),
        f64::NEG_INFINITY => "-Inf".into(),
        _ if n != 0.0 && !(1e-4..1e6).contains(&n.abs()) => exponential(n, 2),
        _ => n.to_string(),
    }
}

/// Go's `%f`.
pub(super) fn go_f(n: f64) -> String {
    if n.is_finite() { format!("{n:.6}") } else { go_v(n) }
}

/// The shortest form with a signed exponent of at least `digits` digits.
fn exponential(n: f64, digits: usize) -> String {
    let text = format!("{n:e}");
    let (mantissa, exponent) = text.split_once('e').unwrap_or((&text, "0"));
    let (sign, exponent) = match exponent.strip_prefix('-') {
        Some(rest) => ('-', rest),
        None => ('+', exponent),
    };
    format!("{mantissa}e{sign}{exponent:0>digits$}")
}

/// Nanoseconds since 1970 in UTC, without trailing zeros. Go takes them as signed.
pub(super) fn time(unix_nanos: u64) -> String {
    let nanos = i128::from(unix_nanos.cast_signed());
    let Ok(t) = time::OffsetDateTime::from_unix_timestamp_nanos(nanos) else {
        return String::new();
    };
    let fraction = format!(".{:09}", t.nanosecond());
    let fraction = fraction.trim_end_matches('0').trim_end_matches('.');
    format!(
        "{:04}-{:02}-{:02} {:02}:{:02}:{:02}{fraction} +0000 UTC",
        t.year(),
        u8::from(t.month()),
        t.day(),
        t.hour(),
        t.minute(),
        t.second()
    )
}

/// An id in hex; nothing for one that is missing or zero.
pub(super) fn id(bytes: &[u8]) -> String {
    if bytes.iter().all(|&b| b == 0) {
        return String::new();
    }
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use opentelemetry_proto::tonic::common::v1::ArrayValue;

    use super::*;

    #[test]
    fn empty_bytes_within_a_list_are_null() {
        let bytes = |bytes: &[u8]| AnyValue { value: Some(Value::BytesValue(bytes.to_vec())) };
        let list = ArrayValue { values: vec![bytes(b""), bytes(b"ab")] };
        let list = AnyValue { value: Some(Value::ArrayValue(list)) };
        assert_eq!(text(Some(&list)), "[null,\"YWI=\"]");
        assert_eq!(text(Some(&bytes(b""))), "");
    }
}
