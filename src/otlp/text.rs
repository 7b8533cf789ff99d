//! A value as text, as the collector prints it where it wants a string: routing keys, conversions.
//!
//! Strings as they are, numbers as JavaScript writes them, bytes in base64, maps and lists as JSON
//! with sorted keys (loadbalancing 2.3). What JSON cannot say, a list with NaN in it, is no text at
//! all. What it deliberately does not do: check that strings are UTF-8, except inside JSON, where
//! the collector replaces what is not.

use std::io::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::check::VALUE_DEPTH_MAX;
use super::value::{Value, key_value, messages, value_of};

/// Appends the text of a value. Values nested deeper than [`VALUE_DEPTH_MAX`] are `null`.
pub fn push(out: &mut Vec<u8>, value: Value<'_>) {
    match value {
        Value::Empty => {}
        Value::Str(text) => out.extend_from_slice(text),
        Value::Bool(on) => out.extend_from_slice(if on { b"true" } else { b"false" }),
        Value::Int(n) => write(out, format_args!("{n}")),
        Value::Double(n) => push_double(out, n),
        Value::Bytes(bytes) => base64(out, bytes),
        Value::List(_) | Value::Map(_) => {
            let before = out.len();
            if json(out, value, VALUE_DEPTH_MAX).is_none() {
                out.truncate(before);
            }
        }
    }
}

fn write(out: &mut Vec<u8>, text: std::fmt::Arguments<'_>) {
    out.write_fmt(text).expect("a vector takes everything");
}

fn base64(out: &mut Vec<u8>, bytes: &[u8]) {
    out.extend_from_slice(STANDARD.encode(bytes).as_bytes());
}

/// A number as JavaScript writes it: the shortest digits, an exponent below 1e-6 and from 1e21.
fn push_double(out: &mut Vec<u8>, n: f64) {
    let size = n.abs();
    if n.is_nan() {
        out.extend_from_slice(b"NaN");
    } else if n.is_infinite() {
        out.extend_from_slice(if n > 0.0 { b"Infinity" } else { b"-Infinity" });
    } else if size == 0.0 || (1e-6..1e21).contains(&size) {
        write(out, format_args!("{n}"));
    } else {
        // Rust writes 1e21 and 1e-7.
        let text = format!("{n:e}");
        let (digits, exponent) = text.split_once('e').expect("asked for an exponent");
        let sign = if exponent.starts_with('-') { "" } else { "+" };
        write(out, format_args!("{digits}e{sign}{exponent}"));
    }
}

/// `None` if there is a number in it that JSON does not have.
fn json(out: &mut Vec<u8>, value: Value<'_>, depth: u32) -> Option<()> {
    let Some(depth) = depth.checked_sub(1) else {
        out.extend_from_slice(b"null");
        return Some(());
    };
    match value {
        Value::Empty | Value::Bytes([]) => out.extend_from_slice(b"null"),
        Value::Double(n) if !n.is_finite() => return None,
        Value::Bool(_) | Value::Int(_) | Value::Double(_) => push(out, value),
        Value::Str(text) => quote(out, text),
        Value::Bytes(bytes) => {
            out.push(b'"');
            base64(out, bytes);
            out.push(b'"');
        }
        Value::List(list) => {
            out.push(b'[');
            for (n, item) in messages(list, 1).enumerate() {
                if n > 0 {
                    out.push(b',');
                }
                json(out, Value::read(item), depth)?;
            }
            out.push(b']');
        }
        Value::Map(map) => {
            out.push(b'{');
            for (n, (key, entry)) in sorted(map).into_iter().enumerate() {
                if n > 0 {
                    out.push(b',');
                }
                quote(out, key);
                out.push(b':');
                json(out, value_of(entry), depth)?;
            }
            out.push(b'}');
        }
    }
    Some(())
}

/// Keys and KeyValue messages of a map by key; of equal keys the last.
fn sorted(map: &[u8]) -> Vec<(&[u8], &[u8])> {
    let mut entries: Vec<_> = messages(map, 1).map(|entry| (key_value(entry).0, entry)).collect();
    // Stable, and reversed twice: of equal neighbours the first stays, which was the last.
    entries.reverse();
    entries.sort_by_key(|entry| entry.0);
    entries.dedup_by_key(|entry| entry.0);
    entries
}

fn quote(out: &mut Vec<u8>, text: &[u8]) {
    out.push(b'"');
    for chunk in text.utf8_chunks() {
        for c in chunk.valid().chars() {
            match c {
                '"' => out.extend_from_slice(b"\\\""),
                '\\' => out.extend_from_slice(b"\\\\"),
                '\x08' => out.extend_from_slice(b"\\b"),
                '\x0c' => out.extend_from_slice(b"\\f"),
                '\n' => out.extend_from_slice(b"\\n"),
                '\r' => out.extend_from_slice(b"\\r"),
                '\t' => out.extend_from_slice(b"\\t"),
                '\0'..='\x1f' | '\u{2028}' | '\u{2029}' => {
                    write(out, format_args!("\\u{:04x}", u32::from(c)));
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

/// Appends a map as Go's `%v` prints it: `map[a:1 b:[x y]]`, for messages that quote the
/// collector's. `key_values` are its entries.
pub fn push_go_map<'a>(out: &mut Vec<u8>, key_values: impl Iterator<Item = &'a [u8]>) {
    let mut map = Vec::new();
    for entry in key_values {
        super::write::bytes(&mut map, 1, entry);
    }
    go(out, Value::Map(&map), VALUE_DEPTH_MAX);
}

fn go(out: &mut Vec<u8>, value: Value<'_>, depth: u32) {
    let depth = depth.saturating_sub(1);
    match value {
        _ if depth == 0 => out.extend_from_slice(b"<nil>"),
        Value::Empty => out.extend_from_slice(b"<nil>"),
        Value::Double(n) => go_double(out, n),
        Value::Bytes(bytes) => write(out, format_args!("[{}]", numbers(bytes))),
        Value::List(list) => {
            out.push(b'[');
            for (n, item) in messages(list, 1).enumerate() {
                if n > 0 {
                    out.push(b' ');
                }
                go(out, Value::read(item), depth);
            }
            out.push(b']');
        }
        Value::Map(map) => {
            out.extend_from_slice(b"map[");
            for (n, (key, entry)) in sorted(map).into_iter().enumerate() {
                if n > 0 {
                    out.push(b' ');
                }
                out.extend_from_slice(key);
                out.push(b':');
                go(out, value_of(entry), depth);
            }
            out.push(b']');
        }
        Value::Str(_) | Value::Bool(_) | Value::Int(_) => push(out, value),
    }
}

fn numbers(bytes: &[u8]) -> String {
    bytes.iter().map(u8::to_string).collect::<Vec<_>>().join(" ")
}

/// `%v`: an exponent of two digits below 1e-4 and from 1e6.
fn go_double(out: &mut Vec<u8>, n: f64) {
    let size = n.abs();
    if n.is_infinite() {
        out.extend_from_slice(if n > 0.0 { b"+Inf" } else { b"-Inf" });
    } else if n.is_nan() || size == 0.0 || (1e-4..1e6).contains(&size) {
        write(out, format_args!("{n}"));
    } else {
        let text = format!("{n:e}");
        let (digits, exponent) = text.split_once('e').expect("asked for an exponent");
        let (sign, exponent) = match exponent.strip_prefix('-') {
            Some(exponent) => ('-', exponent),
            None => ('+', exponent),
        };
        write(out, format_args!("{digits}e{sign}{exponent:0>2}"));
    }
}

#[cfg(test)]
mod tests {
    use opentelemetry_proto::tonic::common::v1::any_value::Value as Any;
    use opentelemetry_proto::tonic::common::v1::{AnyValue, ArrayValue, KeyValue, KeyValueList};
    use prost::Message as _;

    use super::*;

    fn text(value: Any) -> String {
        let bytes = AnyValue { value: Some(value) }.encode_to_vec();
        let mut out = Vec::new();
        push(&mut out, Value::read(&bytes));
        String::from_utf8(out).unwrap()
    }

    fn list(items: Vec<Option<Any>>) -> Any {
        let values = items.into_iter().map(|value| AnyValue { value }).collect();
        Any::ArrayValue(ArrayValue { values })
    }

    fn entry(key: &str, value: Option<Any>) -> KeyValue {
        let value = Some(AnyValue { value });
        KeyValue { key: key.into(), value, ..KeyValue::default() }
    }

    fn map(entries: Vec<KeyValue>) -> Any {
        Any::KvlistValue(KeyValueList { values: entries })
    }

    #[test]
    fn doubles_are_written_as_javascript_writes_them() {
        for (n, want) in [
            (1.0, "1"),
            (0.1, "0.1"),
            (-2.5, "-2.5"),
            (100_000_000_000_000_000_000.0, "100000000000000000000"),
            (1e21, "1e+21"),
            (-1.5e300, "-1.5e+300"),
            (0.000_001, "0.000001"),
            (1e-7, "1e-7"),
            (1.25e-10, "1.25e-10"),
            (5e-324, "5e-324"),
            (-0.0, "-0"),
            (f64::NAN, "NaN"),
            (f64::INFINITY, "Infinity"),
            (f64::NEG_INFINITY, "-Infinity"),
        ] {
            assert_eq!(text(Any::DoubleValue(n)), want);
        }
    }

    #[test]
    fn maps_and_lists_are_json_with_sorted_keys() {
        let inner = list(vec![Some(Any::BoolValue(true)), None, Some(Any::BytesValue(vec![]))]);
        let value = map(vec![
            entry("b", Some(inner)),
            entry("a", Some(Any::IntValue(1))),
            entry("c<", Some(Any::StringValue("\"\\\u{8}\u{c}\u{1}\u{2028}<&>é\u{7f}".into()))),
            entry("a", Some(Any::BytesValue(b"ab".to_vec()))),
            entry("d", Some(map(vec![]))),
        ]);
        let want = "{\"a\":\"YWI=\",\"b\":[true,null,null],\"c<\":\"\\\"\\\\\\b\\f\\u0001\\u2028\
                    <&>é\u{7f}\",\"d\":{}}";
        assert_eq!(text(value), want);
    }

    #[test]
    fn what_json_cannot_say_is_no_text_and_plain_values_are_themselves() {
        assert_eq!(text(list(vec![Some(Any::DoubleValue(f64::NAN))])), "");
        assert_eq!(text(list(vec![Some(Any::DoubleValue(-0.0))])), "[-0]");
        assert_eq!(text(Any::BytesValue(vec![0xff])), "/w==");
        assert_eq!(text(Any::IntValue(i64::MIN)), "-9223372036854775808");
        assert_eq!(text(Any::BoolValue(false)), "false");
    }

    #[test]
    fn nesting_ends_somewhere() {
        let deep = (0..1000).fold(Any::IntValue(1), |inner, _| list(vec![Some(inner)]));
        let text = text(deep);
        assert!(text.contains("null") && text.len() < 300, "{text}");
    }

    #[test]
    fn text_that_is_not_utf8_is_replaced_byte_by_byte_inside_json_only() {
        let mut out = Vec::new();
        push(&mut out, Value::Str(&[0xff, b'a']));
        assert_eq!(out, [0xff, b'a']);
        out.clear();
        // A list of one string of three bytes that are no character.
        push(&mut out, Value::List(&[0x0a, 5, 0x0a, 3, 0xe2, 0x80, b'x']));
        assert_eq!(out, b"[\"\\ufffd\\ufffdx\"]");
    }

    #[test]
    fn go_prints_maps_with_their_keys_sorted() {
        let entries = [
            entry("z", Some(Any::DoubleValue(1e6))),
            entry("a", Some(list(vec![Some(Any::IntValue(1)), None]))),
            entry("m", Some(Any::BytesValue(vec![1, 2]))),
        ]
        .map(|entry| entry.encode_to_vec());
        let mut out = Vec::new();
        push_go_map(&mut out, entries.iter().map(Vec::as_slice));
        assert_eq!(String::from_utf8(out).unwrap(), "map[a:[1 <nil>] m:[1 2] z:1e+06]");
    }
}
