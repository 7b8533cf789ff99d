//! OTLP/JSON → the wire bytes of the same request, in one pass, without objects in between.
//!
//! As lax as the collector's decoder: names in camelCase or snake_case, ids in hex of either case,
//! 64-bit integers as numbers or texts, enums as numbers or names, unknown fields passed over, a
//! null for what is not there (but for ids and bytes). Text need not be UTF-8; half a surrogate
//! pair becomes U+FFFD. What the collector refuses is refused: ids of another length, numbers out
//! of range, values of another type.
//!
//! Messages nest up to `DEPTH_MAX`, which is beyond what [`check`](super::check) lets through;
//! what is passed over is read without recursion. Doubles are read to the last bit: `serde_json`
//! has a feature for it. Memory is that of the request. The inverse is `upstream::file::line`.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde_core::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess};
use serde_core::de::{Unexpected, Visitor};

use super::Signal;
use super::schema::{self, Keep, Message, Rule, Shape};
use super::wire::push_varint;
use super::write;

/// Deepest nesting of messages. A value in a list is two of them.
const DEPTH_MAX: usize = 200;

/// A text is no request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Error {
    /// Where, counted from 1.
    pub line: usize,
    /// Where in the line, in bytes from 1; 0 if it concerns all of it.
    pub column: usize,
    /// What is wrong, with the name of the field.
    pub what: String,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (byte {} of the line)", self.what, self.column)
    }
}

impl std::error::Error for Error {}

/// Appends to `out` the request that `text` holds.
///
/// # Errors
/// Where the text stops being one; `out` then holds a part of it.
pub fn decode(signal: Signal, text: &[u8], out: &mut Vec<u8>) -> Result<(), Error> {
    read(signal, text, out, true)
}

/// The same, whatever stands behind the request: the collector's receiver does not look at it.
///
/// # Errors
/// As [`decode`].
pub fn decode_first(signal: Signal, text: &[u8], out: &mut Vec<u8>) -> Result<(), Error> {
    read(signal, text, out, false)
}

fn read(signal: Signal, text: &[u8], out: &mut Vec<u8>, whole: bool) -> Result<(), Error> {
    let mut reader = serde_json::Deserializer::from_slice(text);
    // Depth is counted here.
    reader.disable_recursion_limit();
    let request = Object { name: "the request", message: schema::request(signal), out, depth: 0 };
    let done = request.deserialize(&mut reader);
    let done = done.and_then(|()| if whole { reader.end() } else { Ok(()) });
    done.map_err(|e| {
        let (line, column) = (e.line(), e.column());
        let place = format!(" at line {line} column {column}");
        let what = e.to_string();
        Error { line, column, what: what.strip_suffix(&place).unwrap_or(&what).to_owned() }
    })
}

/// `traceId` is also `trace_id`.
fn is_name(rule: &Rule, key: &str) -> bool {
    let mut rest = key.chars();
    key == rule.name
        || rule.name.chars().all(|c| match c.is_ascii_uppercase() {
            true => rest.next() == Some('_') && rest.next() == Some(c.to_ascii_lowercase()),
            false => rest.next() == Some(c),
        }) && rest.next().is_none()
}

/// A message. Its fields go to `out`.
struct Object<'a> {
    name: &'static str,
    message: &'static Message,
    out: &'a mut Vec<u8>,
    depth: usize,
}

impl<'de> DeserializeSeed<'de> for Object<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, d: D) -> Result<(), D::Error> {
        if self.depth > DEPTH_MAX {
            return Err(serde_core::de::Error::custom("messages are nested too deeply"));
        }
        d.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Object<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "an object ({})", self.name)
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(rule) = map.next_key_seed(Key(self.message))? {
            match rule {
                None => _ = map.next_value::<IgnoredAny>()?,
                Some(rule) => {
                    map.next_value_seed(Content { rule, out: self.out, depth: self.depth })?;
                }
            }
        }
        Ok(())
    }
}

/// The name of a field; none for one that the message does not have.
struct Key(&'static Message);

impl<'de> DeserializeSeed<'de> for Key {
    type Value = Option<&'static Rule>;

    fn deserialize<D: Deserializer<'de>>(self, d: D) -> Result<Self::Value, D::Error> {
        d.deserialize_str(self)
    }
}

impl Visitor<'_> for Key {
    type Value = Option<&'static Rule>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the name of a field")
    }

    fn visit_str<E>(self, key: &str) -> Result<Self::Value, E> {
        Ok(self.0.0.iter().find(|rule| is_name(rule, key)))
    }
}

/// What stands behind a name.
struct Content<'a> {
    rule: &'static Rule,
    out: &'a mut Vec<u8>,
    depth: usize,
}

impl<'de> DeserializeSeed<'de> for Content<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, d: D) -> Result<(), D::Error> {
        let Self { rule, out, depth } = self;
        match rule.keep {
            Keep::Every => d.deserialize_any(List { rule, out, depth }),
            keep => {
                let always = keep != Keep::IfNotDefault;
                Single { rule, out, always, depth }.deserialize(d)
            }
        }
    }
}

/// A list.
struct List<'a> {
    rule: &'static Rule,
    out: &'a mut Vec<u8>,
    depth: usize,
}

impl<'de> Visitor<'de> for List<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a list ({})", self.rule.name)
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<(), A::Error> {
        let Self { rule, out, depth } = self;
        if matches!(rule.shape, Shape::Text | Shape::Object(_)) {
            let mut item = || items.next_element_seed(Single { rule, out, always: true, depth });
            while item()?.is_some() {}
            return Ok(());
        }
        // Numbers stand packed.
        write::message(out, rule.number, |out| {
            while items.next_element_seed(Packed { rule, out })?.is_some() {}
            Ok(())
        })
    }
}

/// A field with its tag.
struct Single<'a> {
    rule: &'static Rule,
    out: &'a mut Vec<u8>,
    /// Also if it is the default of its type.
    always: bool,
    depth: usize,
}

impl<'de> DeserializeSeed<'de> for Single<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, d: D) -> Result<(), D::Error> {
        let Self { rule, out, always, depth } = self;
        let (name, number) = (rule.name, rule.number);
        if let Shape::Object(message) = rule.shape {
            return write::message(out, number, |out| {
                Object { name, message, out, depth: depth + 1 }.deserialize(d)
            });
        }
        if matches!(rule.shape, Shape::Text | Shape::Base64 | Shape::Hex) {
            return d.deserialize_option(Text { rule, out, always });
        }
        let value = d.deserialize_any(Number(rule))?;
        if always || !value.is_default() {
            match value {
                Scalar::Varint(n) => write::varint(out, number, n),
                Scalar::Fixed64(n) => write::fixed64(out, number, n),
                Scalar::Fixed32(n) => write::fixed32(out, number, n),
            }
        }
        Ok(())
    }
}

/// A number without a tag.
struct Packed<'a> {
    rule: &'static Rule,
    out: &'a mut Vec<u8>,
}

impl<'de> DeserializeSeed<'de> for Packed<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, d: D) -> Result<(), D::Error> {
        match d.deserialize_any(Number(self.rule))? {
            Scalar::Varint(n) => push_varint(self.out, n),
            Scalar::Fixed64(n) => self.out.extend_from_slice(&n.to_le_bytes()),
            Scalar::Fixed32(n) => self.out.extend_from_slice(&n.to_le_bytes()),
        }
        Ok(())
    }
}

/// Text, or bytes written as text.
struct Text<'a> {
    rule: &'static Rule,
    out: &'a mut Vec<u8>,
    always: bool,
}

impl Text<'_> {
    fn write<E: serde_core::de::Error>(self, text: &[u8]) -> Result<(), E> {
        let Rule { name, number, shape, .. } = *self.rule;
        if text.is_empty() && !self.always {
            return Ok(());
        }
        match shape {
            Shape::Hex => {
                let wanted = if name == "traceId" { 16 } else { 8 };
                let id = hex(text).ok_or_else(|| E::custom(format!("{name} is not hex")))?;
                if id.len() != wanted && !id.is_empty() {
                    let digits = 2 * wanted;
                    let what = format!("{name} wants {digits} hex digits, this has {}", text.len());
                    return Err(E::custom(what));
                }
                write::bytes(self.out, number, &id);
            }
            Shape::Base64 => {
                let bytes = BASE64.decode(text);
                let bytes = bytes.map_err(|e| E::custom(format!("{name} is not base64: {e}")))?;
                write::bytes(self.out, number, &bytes);
            }
            _ if text.contains(&SURROGATE) => write::bytes(self.out, number, &whole_pairs(text)),
            _ => write::bytes(self.out, number, text),
        }
        Ok(())
    }
}

/// First byte of half a surrogate pair, and of some other characters.
const SURROGATE: u8 = 0xed;

/// `text` with U+FFFD for each half of a surrogate pair.
fn whole_pairs(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((&byte, behind)) = rest.split_first() {
        if let [SURROGATE, 0xa0..=0xbf, _, ..] = rest {
            out.extend_from_slice("\u{fffd}".as_bytes());
            rest = &rest[3..];
        } else {
            out.push(byte);
            rest = behind;
        }
    }
    out
}

impl<'de> Visitor<'de> for Text<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "text ({})", self.rule.name)
    }

    fn visit_none<E: serde_core::de::Error>(self) -> Result<(), E> {
        if matches!(self.rule.shape, Shape::Hex | Shape::Base64) {
            return Err(E::invalid_type(Unexpected::Other("null"), &self));
        }
        self.write(&[])
    }

    /// As bytes, which need not be UTF-8.
    fn visit_some<D: Deserializer<'de>>(self, d: D) -> Result<(), D::Error> {
        d.deserialize_bytes(self)
    }

    fn visit_bytes<E: serde_core::de::Error>(self, text: &[u8]) -> Result<(), E> {
        self.write(text)
    }
}

fn hex(text: &[u8]) -> Option<Vec<u8>> {
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|d| u8::try_from(d).ok());
    let pairs = text.chunks(2).map(|pair| match pair {
        [high, low] => Some(digit(*high)? << 4 | digit(*low)?),
        _ => None,
    });
    pairs.collect()
}

/// A number as it stands on the wire.
#[derive(Clone, Copy)]
enum Scalar {
    Varint(u64),
    Fixed64(u64),
    Fixed32(u32),
}

impl Scalar {
    const fn is_default(self) -> bool {
        matches!(self, Self::Varint(0) | Self::Fixed64(0) | Self::Fixed32(0))
    }
}

/// A number, as a number or as text.
struct Number(&'static Rule);

impl Number {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "is in range")]
    fn of<E: serde_core::de::Error>(&self, n: i128) -> Result<Scalar, E> {
        let (min, max) = match self.0.shape {
            Shape::Uint32 | Shape::Fixed32 => (0, i128::from(u32::MAX)),
            Shape::Int32 | Shape::Enum(_) | Shape::Sint32 => (i32::MIN.into(), i32::MAX.into()),
            Shape::Int64 | Shape::Sfixed64 => (i64::MIN.into(), i64::MAX.into()),
            _ => (0, i128::from(u64::MAX)),
        };
        if !(min..=max).contains(&n) {
            return Err(E::custom(format!("{} is out of range: {n}", self.0.name)));
        }
        // Negative numbers are 64 bits wide on the wire.
        Ok(match self.0.shape {
            Shape::Fixed32 => Scalar::Fixed32(n as u32),
            Shape::Fixed64 | Shape::Sfixed64 => Scalar::Fixed64(n as u64),
            Shape::Sint32 => Scalar::Varint(((n << 1) ^ (n >> 31)) as u64),
            #[expect(clippy::cast_precision_loss, reason = "as any reader of JSON does")]
            Shape::Double => Scalar::Fixed64((n as f64).to_bits()),
            _ => Scalar::Varint(n as u64),
        })
    }
}

impl Visitor<'_> for Number {
    type Value = Scalar;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match self.0.shape {
            Shape::Bool => "true or false",
            Shape::Double => "a number",
            _ => "a whole number",
        };
        write!(f, "{kind} ({})", self.0.name)
    }

    fn visit_bool<E: serde_core::de::Error>(self, value: bool) -> Result<Scalar, E> {
        match self.0.shape {
            Shape::Bool => Ok(Scalar::Varint(value.into())),
            _ => Err(E::invalid_type(Unexpected::Bool(value), &self)),
        }
    }

    fn visit_u64<E: serde_core::de::Error>(self, value: u64) -> Result<Scalar, E> {
        match self.0.shape {
            Shape::Bool => Err(E::invalid_type(Unexpected::Unsigned(value), &self)),
            #[expect(clippy::cast_precision_loss, reason = "as any reader of JSON does")]
            Shape::Double => Ok(Scalar::Fixed64((value as f64).to_bits())),
            _ => self.of(value.into()),
        }
    }

    fn visit_i64<E: serde_core::de::Error>(self, value: i64) -> Result<Scalar, E> {
        match self.0.shape {
            Shape::Bool => Err(E::invalid_type(Unexpected::Signed(value), &self)),
            #[expect(clippy::cast_precision_loss, reason = "as any reader of JSON does")]
            Shape::Double => Ok(Scalar::Fixed64((value as f64).to_bits())),
            _ => self.of(value.into()),
        }
    }

    fn visit_f64<E: serde_core::de::Error>(self, value: f64) -> Result<Scalar, E> {
        match self.0.shape {
            Shape::Double => Ok(Scalar::Fixed64(value.to_bits())),
            _ => Err(E::invalid_type(Unexpected::Float(value), &self)),
        }
    }

    fn visit_str<E: serde_core::de::Error>(self, text: &str) -> Result<Scalar, E> {
        let wrong = || E::invalid_type(Unexpected::Str(text), &self);
        match self.0.shape {
            Shape::Bool => Err(wrong()),
            Shape::Enum(names) => match names.iter().position(|name| *name == text) {
                Some(at) => Ok(Scalar::Varint(at as u64)),
                None => Err(E::custom(format!("{} has no value {text:?}", self.0.name))),
            },
            Shape::Double => {
                let value: f64 = text.parse().map_err(|_| wrong())?;
                Ok(Scalar::Fixed64(value.to_bits()))
            }
            Shape::Uint32 | Shape::Fixed32 | Shape::Fixed64 | Shape::Uint64
                if !text.bytes().all(|b| b.is_ascii_digit()) =>
            {
                Err(wrong())
            }
            _ => self.of(text.parse().map_err(|_| wrong())?),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decoded(text: &str) -> Result<Vec<u8>, String> {
        let mut out = Vec::new();
        decode(Signal::Traces, text.as_bytes(), &mut out).map(|()| out).map_err(|e| e.to_string())
    }

    fn span(fields: &str) -> String {
        format!(r#"{{"resourceSpans":[{{"scopeSpans":[{{"spans":[{{{fields}}}]}}]}}]}}"#)
    }

    #[test]
    fn every_way_to_write_a_value_gives_the_same_bytes() {
        let rows = [
            (
                r#""traceId":"0102030405060708090a0b0c0d0e0f10""#,
                r#""trace_id":"0102030405060708090A0B0C0D0E0F10""#,
            ),
            (r#""kind":2"#, r#""kind":"SPAN_KIND_SERVER""#),
            (r#""status":{"code":2}"#, r#""status":{"code":"STATUS_CODE_ERROR","message":null}"#),
            (
                r#""startTimeUnixNano":"18446744073709551615""#,
                r#""start_time_unix_nano":18446744073709551615"#,
            ),
            (
                r#""attributes":[{"key":"a","value":{"intValue":"-5"}}]"#,
                r#""attributes":[{"key":"a","value":{"intValue":-5}}]"#,
            ),
            (
                r#""attributes":[{"key":"a","value":{"doubleValue":3}}]"#,
                r#""attributes":[{"key":"a","value":{"doubleValue":"3.0"}}]"#,
            ),
            (r#""name":"x""#, r#""name":"x","kind":0,"flags":0,"links":null,"news":[{"a":[1]}]"#),
            ("", r#""parentSpanId":"","traceState":"","droppedLinksCount":"0""#),
        ];
        for (one, other) in rows {
            assert_eq!(decoded(&span(one)), decoded(&span(other)), "{one} and {other}");
            assert!(decoded(&span(one)).is_ok(), "{one}");
        }
        let deep = r#"{"resourceSpans":[{"scopeSpans":[{"spans":[{"flags":1}]}]}]}"#;
        assert_eq!(decoded(deep).unwrap(), b"\x0a\x0a\x12\x08\x12\x06\x85\x01\x01\x00\x00\x00");
    }

    #[test]
    fn what_the_collector_refuses_is_refused_with_the_name_of_the_field() {
        let rows = [
            (r#""traceId":"01""#, "traceId wants 32 hex digits, this has 2"),
            (r#""spanId":"01020304050607zz""#, "spanId is not hex"),
            (r#""kind":"SERVER""#, r#"kind has no value "SERVER""#),
            (r#""flags":-1"#, "flags is out of range: -1"),
            (
                r#""flags":1.5"#,
                "invalid type: floating point `1.5`, expected a whole number (flags)",
            ),
            (r#""traceId":null"#, "invalid type: null, expected text (traceId)"),
            (r#""startTimeUnixNano":"+5""#, "invalid type: string \"+5\", expected a whole number"),
            (r#""name":7"#, "invalid type: integer `7`, expected text (name)"),
            (r#""events":{}"#, "invalid type: map, expected a list (events)"),
            (
                r#""endTimeUnixNano":null"#,
                "invalid type: null, expected a whole number (endTimeUnixNano)",
            ),
            (r#""status":[]"#, "invalid type: sequence, expected an object (status)"),
        ];
        for (text, want) in rows {
            let error = decoded(&span(text)).unwrap_err();
            assert!(error.starts_with(want), "{text}: {error}");
        }
        for text in ["", "{", "[]", "{} {}", "nonsense"] {
            assert!(decoded(text).is_err(), "{text}");
        }
        let nested = "[".repeat(100_000);
        assert!(decoded(&format!(r#"{{"x":{nested}"#)).is_err());
        let values = r#"{"arrayValue":{"values":["#.repeat(10_000);
        let attribute = format!(r#""attributes":[{{"key":"a","value":{values}"#);
        assert!(decoded(&span(&attribute)).is_err());
    }

    #[test]
    fn values_nest_as_deep_as_the_sampler_takes_them_and_not_without_end() {
        let nested = |levels: usize| {
            let (open, close) = (r#"{"arrayValue":{"values":["#, "]}}");
            let value = format!("{}{{}}{}", open.repeat(levels), close.repeat(levels));
            decoded(&span(&format!(r#""attributes":[{{"key":"a","value":{value}}}]"#)))
        };
        assert!(nested(64).is_ok());
        assert!(nested(90).is_ok());
        assert!(nested(150).unwrap_err().starts_with("messages are nested too deeply"));
        assert!(nested(100_000).is_err());
        let unknown = format!(r#""x":{}{}"#, "[".repeat(100_000), "]".repeat(100_000));
        assert!(decoded(&span(&unknown)).is_ok(), "it is passed over");
    }

    #[test]
    fn half_a_surrogate_pair_is_replaced() {
        let text = decoded(&span(r#""name":"a\ud800b\ud83d\ude00퟿""#)).unwrap();
        assert!(text.ends_with("a\u{fffd}b\u{1f600}\u{d7ff}".as_bytes()), "{text:?}");
    }

    #[test]
    fn what_stands_behind_a_request_is_looked_at_only_on_demand() {
        for text in ["{} {}", "{}x"] {
            let (signal, text) = (Signal::Traces, text.as_bytes());
            assert!(decode(signal, text, &mut Vec::new()).is_err());
            assert!(decode_first(signal, text, &mut Vec::new()).is_ok());
        }
    }

    #[test]
    fn text_that_is_not_utf8_stays_as_it_is() {
        let mut text = span(r#""name":"?!""#).into_bytes();
        let at = text.iter().position(|byte| *byte == b'?').unwrap();
        text[at] = 0xff;
        let mut out = Vec::new();
        decode(Signal::Traces, &text, &mut out).unwrap();
        assert!(out.ends_with(b"\x2a\x02\xff!"));
    }
}
