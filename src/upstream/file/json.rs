//! OTLP/JSON as the collector's file exporter writes it, straight from the wire bytes: fields in
//! the order of `otlp::schema`, ids in hex, 64-bit integers as text, enums as numbers,
//! defaults left out. Text that is not UTF-8 stays as it is, as in the collector.
//!
//! Pure. Fields that the schema does not know are left out, which is what the collector does.

use std::io::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;

use crate::otlp::Signal;
use crate::otlp::schema::{self, Keep, Message, Rule, Shape};
use crate::otlp::value::{Field, Fields};

/// Deepest nesting of messages that is written.
const DEPTH_MAX: usize = 128;

/// A request is nested deeper than anything sensible.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooDeep;

/// Appends the request `body` to `out`, without the end of the line.
///
/// # Errors
/// [`TooDeep`]; `out` then holds a part of it.
pub fn line(signal: Signal, body: &[u8], out: &mut Vec<u8>) -> Result<(), TooDeep> {
    object(schema::request(signal), body, 0, out)
}

fn object(message: &Message, bytes: &[u8], depth: usize, out: &mut Vec<u8>) -> Result<(), TooDeep> {
    if depth > DEPTH_MAX {
        return Err(TooDeep);
    }
    out.push(b'{');
    let start = out.len();
    let chosen = chosen(message, bytes);
    for rule in message.0 {
        let before = out.len();
        if before > start {
            out.push(b',');
        }
        _ = write!(out, "\"{}\":", rule.name);
        let written = match rule.keep {
            Keep::Every => every(rule, bytes, depth, out)?,
            Keep::IfChosen if chosen != Some(rule.number) => false,
            _ => single(rule, bytes, depth, out)?,
        };
        if !written {
            out.truncate(before);
        }
    }
    out.push(b'}');
    Ok(())
}

/// The variant that counts: the last one on the wire.
fn chosen(message: &Message, bytes: &[u8]) -> Option<u32> {
    let is_variant = |n: u32| message.0.iter().any(|r| r.number == n && r.keep == Keep::IfChosen);
    if !message.0.iter().any(|r| r.keep == Keep::IfChosen) {
        return None;
    }
    Fields::of(bytes).map(|(number, _)| number).filter(|&n| is_variant(n)).last()
}

/// A field that stands once. False if it is left out.
fn single(rule: &Rule, bytes: &[u8], depth: usize, out: &mut Vec<u8>) -> Result<bool, TooDeep> {
    let mut fields = Fields::of(bytes).filter(|(number, _)| *number == rule.number).map(|(_, f)| f);
    if let Shape::Object(message) = rule.shape {
        let Some(Field::Bytes(first)) = fields.next() else {
            if rule.keep == Keep::Always {
                out.extend_from_slice(b"{}");
            }
            return Ok(rule.keep == Keep::Always);
        };
        let mut more = fields.filter_map(content).peekable();
        if more.peek().is_none() {
            object(message, first, depth + 1, out)?;
        } else {
            // Parts of one message that stand apart are one message.
            let whole = more.fold(first.to_vec(), |whole, part| [&whole, part].concat());
            object(message, &whole, depth + 1, out)?;
        }
        return Ok(true);
    }
    let Some(field) = fields.last() else { return Ok(false) };
    if rule.keep == Keep::IfNotDefault && is_default(rule.shape, field) {
        return Ok(false);
    }
    Ok(scalar(rule.shape, field, out))
}

fn content(field: Field<'_>) -> Option<&[u8]> {
    match field {
        Field::Bytes(bytes) => Some(bytes),
        _ => None,
    }
}

/// A list. False if it is empty.
fn every(rule: &Rule, bytes: &[u8], depth: usize, out: &mut Vec<u8>) -> Result<bool, TooDeep> {
    out.push(b'[');
    let start = out.len();
    for (_, field) in Fields::of(bytes).filter(|(number, _)| *number == rule.number) {
        match (rule.shape, field) {
            (Shape::Object(message), Field::Bytes(item)) => {
                separate(start, out);
                object(message, item, depth + 1, out)?;
            }
            (Shape::Fixed64 | Shape::Double, Field::Bytes(packed)) => {
                for item in packed.chunks_exact(8).filter_map(|c| c.first_chunk()) {
                    separate(start, out);
                    scalar(rule.shape, Field::Fixed64(u64::from_le_bytes(*item)), out);
                }
            }
            (Shape::Uint64, Field::Bytes(packed)) => {
                for item in varints(packed) {
                    separate(start, out);
                    scalar(rule.shape, Field::Varint(item), out);
                }
            }
            (_, field) => {
                let before = out.len();
                separate(start, out);
                if !scalar(rule.shape, field, out) {
                    out.truncate(before);
                }
            }
        }
    }
    out.push(b']');
    Ok(out.len() > start + 1)
}

fn separate(start: usize, out: &mut Vec<u8>) {
    if out.len() > start {
        out.push(b',');
    }
}

/// Packed varints; what is cut off at the end is passed over.
fn varints(packed: &[u8]) -> impl Iterator<Item = u64> {
    packed
        .split_inclusive(|byte| *byte < 0x80)
        .filter(|item| item.len() <= 10)
        .map(|item| item.iter().rev().fold(0u64, |value, byte| value << 7 | u64::from(byte & 0x7f)))
}

const fn is_of_32_bits(shape: Shape) -> bool {
    matches!(shape, Shape::Uint32 | Shape::Int32 | Shape::Enum(_) | Shape::Sint32)
}

fn is_default(shape: Shape, field: Field<'_>) -> bool {
    match field {
        Field::Bytes(bytes) if shape == Shape::Hex => bytes.iter().all(|byte| *byte == 0),
        Field::Bytes(bytes) => bytes.is_empty(),
        Field::Varint(n) if is_of_32_bits(shape) => n & 0xffff_ffff == 0,
        // Minus zero is zero.
        Field::Fixed64(bits) if shape == Shape::Double => bits << 1 == 0,
        Field::Varint(n) | Field::Fixed64(n) => n == 0,
        Field::Fixed32(n) => n == 0,
    }
}

/// Writes a value; false if the wire holds something else.
#[expect(clippy::cast_possible_truncation, clippy::cast_possible_wrap, reason = "as on the wire")]
fn scalar(shape: Shape, field: Field<'_>, out: &mut Vec<u8>) -> bool {
    match (shape, field) {
        (Shape::Text, Field::Bytes(bytes)) => text(bytes, out),
        (Shape::Base64, Field::Bytes(bytes)) => _ = write!(out, "\"{}\"", BASE64.encode(bytes)),
        (Shape::Hex, Field::Bytes(bytes)) => hex(bytes, out),
        (Shape::Bool, Field::Varint(n)) => _ = write!(out, "{}", n != 0),
        (Shape::Uint32, Field::Varint(n)) => _ = write!(out, "{}", n as u32),
        (Shape::Fixed32, Field::Fixed32(n)) => _ = write!(out, "{n}"),
        (Shape::Int32 | Shape::Enum(_), Field::Varint(n)) => _ = write!(out, "{}", n as i32),
        (Shape::Sint32, Field::Varint(n)) => {
            let n = n as u32;
            _ = write!(out, "{}", (n >> 1) as i32 ^ -((n & 1) as i32));
        }
        (Shape::Fixed64, Field::Fixed64(n)) | (Shape::Uint64, Field::Varint(n)) => {
            _ = write!(out, "\"{n}\"");
        }
        (Shape::Int64, Field::Varint(n)) | (Shape::Sfixed64, Field::Fixed64(n)) => {
            _ = write!(out, "\"{}\"", n as i64);
        }
        (Shape::Double, Field::Fixed64(bits)) => double(f64::from_bits(bits), out),
        _ => return false,
    }
    true
}

fn text(bytes: &[u8], out: &mut Vec<u8>) {
    out.push(b'"');
    for &byte in bytes {
        match byte {
            b'"' | b'\\' => out.extend_from_slice(&[b'\\', byte]),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\r' => out.extend_from_slice(b"\\r"),
            b'\t' => out.extend_from_slice(b"\\t"),
            0..0x20 => _ = write!(out, "\\u{byte:04x}"),
            _ => out.push(byte),
        }
    }
    out.push(b'"');
}

fn hex(bytes: &[u8], out: &mut Vec<u8>) {
    out.push(b'"');
    for byte in bytes {
        _ = write!(out, "{byte:02x}");
    }
    out.push(b'"');
}

/// As short as it reads back; an exponent of at least two digits below 1e-6 and from 1e21.
fn double(x: f64, out: &mut Vec<u8>) {
    if !x.is_finite() {
        let name = if x.is_nan() { "NaN" } else { "Infinity" };
        let sign = if x == f64::NEG_INFINITY { "-" } else { "" };
        _ = write!(out, "\"{sign}{name}\"");
    } else if x == 0.0 || (1e-6..1e21).contains(&x.abs()) {
        _ = write!(out, "{x}");
    } else {
        let text = format!("{x:e}");
        let (mantissa, exponent) = text.split_once('e').unwrap_or((&text, "0"));
        let (sign, digits) = match exponent.strip_prefix('-') {
            Some(digits) => ('-', digits),
            None => ('+', exponent),
        };
        _ = write!(out, "{mantissa}e{sign}{digits:0>2}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(shape: Shape, field: Field<'_>) -> String {
        let mut out = Vec::new();
        assert!(scalar(shape, field, &mut out));
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn numbers_have_the_form_of_the_collector() {
        let rows = [
            (0.0, "0"),
            (-0.0, "-0"),
            (1.0, "1"),
            (0.1, "0.1"),
            (-2.5e20, "-250000000000000000000"),
            (1e21, "1e+21"),
            (1.5e-7, "1.5e-07"),
            (1e-6, "0.000001"),
            (f64::MAX, "1.7976931348623157e+308"),
            (f64::NAN, "\"NaN\""),
            (f64::NEG_INFINITY, "\"-Infinity\""),
        ];
        for (x, want) in rows {
            assert_eq!(of(Shape::Double, Field::Fixed64(x.to_bits())), want);
        }
        assert_eq!(of(Shape::Int64, Field::Varint(u64::MAX)), "\"-1\"");
        assert_eq!(of(Shape::Sint32, Field::Varint(3)), "-2");
        assert_eq!(of(Shape::Int32, Field::Varint(u64::MAX)), "-1");
    }

    #[test]
    fn text_is_escaped_as_little_as_json_allows() {
        let text = of(Shape::Text, Field::Bytes("a\"\\\n\t\u{1}\u{7f}é</x>".as_bytes()));
        assert_eq!(text, "\"a\\\"\\\\\\n\\t\\u0001\u{7f}é</x>\"");
        let mut out = Vec::new();
        super::text(b"\xff", &mut out);
        assert_eq!(out, b"\"\xff\"");
    }

    #[test]
    fn what_is_not_there_is_an_empty_object_where_the_collector_has_one() {
        // ResourceSpans{scope_spans{spans{}}}, and a status in two parts.
        let mut out = Vec::new();
        line(Signal::Traces, b"\x0a\x04\x12\x02\x12\x00", &mut out).unwrap();
        let want = r#"{"resourceSpans":[{"resource":{},"scopeSpans":[{"scope":{},"spans":[{"status":{}}]}]}]}"#;
        assert_eq!(String::from_utf8(out).unwrap(), want);
        let mut out = Vec::new();
        object(&schema::SPAN, b"\x7a\x03\x12\x01x\x7a\x02\x18\x02", 0, &mut out).unwrap();
        assert_eq!(out, br#"{"status":{"message":"x","code":2}}"#);
    }

    #[test]
    fn deep_nesting_is_refused_instead_of_followed() {
        let mut value = b"\x0a\x01x".to_vec();
        for _ in 0..200 {
            // AnyValue{array_value{values: …}}
            for tag in [0x0a, 0x2a] {
                let mut outer = vec![tag];
                prost::encoding::encode_varint(value.len() as u64, &mut outer);
                outer.extend_from_slice(&value);
                value = outer;
            }
        }
        assert_eq!(object(&schema::ANY_VALUE, &value, 0, &mut Vec::new()), Err(TooDeep));
    }
}
