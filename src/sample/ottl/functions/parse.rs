//! Functions that read what a text says: numbers, base64, JSON, pairs of keys and values.

use std::borrow::Cow;
use std::collections::BTreeMap;

use base64::Engine as _;
use base64::alphabet::{Alphabet, STANDARD, URL_SAFE};
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig, NO_PAD, PAD};

use super::super::convert::{parse_int, underscores_part_digits};
use super::super::error::EvalError;
use super::super::eval::{Arg, Scene};
use super::super::value::{List, Map, Val};
use super::list::find;
use super::text::{pattern, prepare_pattern};
use super::{Function, Kind, f, o, p, prepared};

type Outcome<'a> = Result<Val<'a>, EvalError>;

const TARGET: super::Param = p("Target", Kind::Text);

pub(super) const FUNCTIONS: &[Function] = &[
    prepared(f("ExtractPatterns", &[TARGET, p("Pattern", Kind::Text)], extract_patterns), |args| {
        prepare_pattern("ExtractPatterns", &mut args[1])
    }),
    f("ParseJSON", &[TARGET], parse_json),
    prepared(
        f(
            "ParseKeyValue",
            &[TARGET, o("Delimiter", Kind::RawText), o("PairDelimiter", Kind::RawText)],
            parse_key_value,
        ),
        |args| {
            let (delimiter, pair) = delimiters(args);
            if delimiter.is_empty() || pair.is_empty() {
                return Err("delimiter cannot be set to an empty string".to_owned());
            }
            if delimiter == pair {
                return Err(format!(
                    "pair delimiter {pair:?} cannot be equal to delimiter {delimiter:?}"
                ));
            }
            Ok(())
        },
    ),
    f("ParseInt", &[TARGET, p("Base", Kind::Int)], |args, scene| {
        let text = args[0].text(scene)?;
        let base = args[1].int(scene)?;
        int_of_base(&text, base).map(Val::Int).ok_or(EvalError::Failed("not a number of this base"))
    }),
    f("Base64Encode", &[TARGET, o("Variant", Kind::Text)], |args, scene| {
        let text = args[0].text(scene)?;
        let variant = if args[1].is_absent() {
            Cow::Borrowed(&b"base64"[..])
        } else {
            args[1].text(scene)?
        };
        let engine = base64(&variant).ok_or(EvalError::Failed("unsupported base64 variant"))?;
        Ok(Val::text(engine.encode(text)))
    }),
    prepared(f("Decode", &[p("Target", Kind::Any), p("Encoding", Kind::Text)], decode), |args| {
        match &args[1] {
            Arg::Literal(Val::Str(name)) if encoding(name).is_none() => {
                Err(format!("unsupported encoding {:?}", String::from_utf8_lossy(name)))
            }
            _ => Ok(()),
        }
    }),
    f("IsValidLuhn", &[p("Target", Kind::TextLike)], |args, scene| {
        let text = args[0].text_like(scene)?.ok_or(EvalError::Failed("invalid input: <nil>"))?;
        luhn(&text).map(Val::Bool).ok_or(EvalError::Failed("text that is not a number"))
    }),
];

fn extract_patterns<'a>(args: &'a [Arg], scene: &Scene<'a>) -> Outcome<'a> {
    let pattern = pattern(&args[1], scene)?;
    if pattern.groups().iter().all(String::is_empty) {
        return Err(EvalError::Failed("at least 1 named capture group must be supplied"));
    }
    let found = pattern.captures(&args[0].text(scene)?).unwrap_or_default();
    let named = pattern.groups().iter().zip(found).filter(|(name, _)| !name.is_empty());
    // of groups with one name the last counts
    let entries: BTreeMap<_, _> = named.collect();
    let entries = entries
        .into_iter()
        .map(|(name, text)| (Cow::Owned(name.clone().into_bytes()), Val::text(text)));
    Ok(Val::Map(Map::Made(entries.collect())))
}

/// An object or a list; all numbers are floats.
fn parse_json<'a>(args: &'a [Arg], scene: &Scene<'a>) -> Outcome<'a> {
    let text = args[0].text(scene)?;
    match serde_json::from_slice(&text) {
        Ok(json @ (serde_json::Value::Object(_) | serde_json::Value::Array(_))) => {
            Ok(of_json(json))
        }
        Ok(_) => Err(EvalError::Failed("JSON that is neither an object nor a list")),
        Err(_) => Err(EvalError::Failed("text that is not JSON")),
    }
}

/// As deep as the parser goes, which has a limit.
fn of_json<'a>(json: serde_json::Value) -> Val<'a> {
    match json {
        serde_json::Value::Null => Val::Nil,
        serde_json::Value::Bool(b) => Val::Bool(b),
        serde_json::Value::Number(n) => n.as_f64().map_or(Val::Nil, Val::Double),
        serde_json::Value::String(text) => Val::text(text),
        serde_json::Value::Array(items) => {
            Val::List(List::Made(items.into_iter().map(of_json).collect()))
        }
        serde_json::Value::Object(entries) => {
            let entries = entries.into_iter();
            let entries = entries.map(|(key, value)| (key.into_bytes().into(), of_json(value)));
            Val::Map(Map::Made(entries.collect()))
        }
    }
}

fn delimiters(args: &[Arg]) -> (&str, &str) {
    (args[1].raw().unwrap_or("="), args[2].raw().unwrap_or(" "))
}

fn parse_key_value<'a>(args: &'a [Arg], scene: &Scene<'a>) -> Outcome<'a> {
    let text = args[0].text(scene)?;
    let (delimiter, pair) = delimiters(args);
    if text.is_empty() {
        return Err(EvalError::Failed("cannot parse from empty target"));
    }
    let mut entries = BTreeMap::new();
    for part in unquoted_parts(&text, pair.as_bytes())? {
        let at = find(&part, delimiter.as_bytes())
            .ok_or(EvalError::Failed("a pair without a delimiter"))?;
        let (key, value) = (&part[..at], &part[at + delimiter.len()..]);
        entries.insert(trimmed(key), Val::text(trimmed(value)));
    }
    let entries = entries.into_iter().map(|(key, value)| (Cow::Owned(key), value));
    Ok(Val::Map(Map::Made(entries.collect())))
}

fn trimmed(text: &[u8]) -> Vec<u8> {
    match std::str::from_utf8(text) {
        Ok(text) => text.trim().as_bytes().to_vec(),
        Err(_) => text.trim_ascii().to_vec(),
    }
}

/// What `delimiter` parts, where quotes hold together and are left out, and a backslash keeps the
/// next character from being a quote.
fn unquoted_parts(text: &[u8], delimiter: &[u8]) -> Result<Vec<Vec<u8>>, EvalError> {
    let mut parts = Vec::new();
    let mut part = Vec::new();
    let (mut quote, mut escaped) = (None, false);
    let mut at = 0;
    while at < text.len() {
        if quote.is_none() && text[at..].starts_with(delimiter) {
            if !part.is_empty() {
                parts.push(std::mem::take(&mut part));
            }
            at += delimiter.len();
            continue;
        }
        let byte = text[at];
        at += 1;
        if !escaped && quote.is_none() && matches!(byte, b'"' | b'\'') {
            quote = Some(byte);
        } else if !escaped && quote == Some(byte) {
            quote = None;
        } else {
            escaped = !escaped && byte == b'\\';
            part.push(byte);
        }
    }
    if quote.is_some() {
        return Err(EvalError::Failed("never reached the end of a quoted value"));
    }
    if !part.is_empty() {
        parts.push(part);
    }
    Ok(parts)
}

/// A number of `base`; of base 0, by its prefix.
fn int_of_base(text: &[u8], base: i64) -> Option<i64> {
    if base != 0 {
        let base = u32::try_from(base).ok().filter(|base| (2..=36).contains(base))?;
        return parse_int(text, base);
    }
    let text = std::str::from_utf8(text).ok()?;
    if text.contains('_') && !underscores_part_digits(text) {
        return None;
    }
    let (sign, digits) = match text.strip_prefix(['-', '+']) {
        Some(digits) => (&text[..1], digits),
        None => ("", text),
    };
    let prefix = digits.get(..2).map(str::to_ascii_lowercase);
    let (base, digits) = match prefix.as_deref() {
        Some("0x") => (16, &digits[2..]),
        Some("0b") => (2, &digits[2..]),
        Some("0o") => (8, &digits[2..]),
        Some(_) if digits.starts_with('0') => (8, &digits[1..]),
        _ => (10, digits),
    };
    let digits = digits.replace('_', "");
    if digits.starts_with(['-', '+']) {
        return None;
    }
    i64::from_str_radix(&format!("{sign}{digits}"), base).ok()
}

fn base64(variant: &[u8]) -> Option<GeneralPurpose> {
    let engine = |alphabet: &Alphabet, config: GeneralPurposeConfig| {
        Some(GeneralPurpose::new(alphabet, config.with_decode_allow_trailing_bits(true)))
    };
    match variant {
        b"base64" => engine(&STANDARD, PAD),
        b"base64-raw" => engine(&STANDARD, NO_PAD),
        b"base64-url" => engine(&URL_SAFE, PAD),
        b"base64-raw-url" => engine(&URL_SAFE, NO_PAD),
        _ => None,
    }
}

/// How bytes become a text.
enum Encoding {
    Base64(Box<GeneralPurpose>),
    /// UTF-8 and its subset ASCII: what is neither becomes U+FFFD.
    Utf8,
    /// As they are.
    Raw,
}

fn encoding(name: &[u8]) -> Option<Encoding> {
    if let Some(engine) = base64(name) {
        return Some(Encoding::Base64(Box::new(engine)));
    }
    match name.to_ascii_lowercase().as_slice() {
        b"" | b"utf-8" | b"utf8" | b"ascii" | b"us-ascii" => Some(Encoding::Utf8),
        b"nop" | b"utf-8-raw" | b"utf8-raw" => Some(Encoding::Raw),
        _ => None,
    }
}

fn decode<'a>(args: &'a [Arg], scene: &Scene<'a>) -> Outcome<'a> {
    let value = args[0].any(scene)?;
    let name = args[1].text(scene)?;
    let encoding = encoding(&name).ok_or(EvalError::Failed("unsupported encoding"))?;
    let bytes = match value {
        Val::Str(bytes) | Val::Bytes(bytes) => bytes,
        other => return Err(EvalError::Type { want: "string or bytes", got: other.type_name() }),
    };
    match encoding {
        Encoding::Base64(engine) => {
            let joined: Vec<u8> =
                bytes.iter().copied().filter(|b| !matches!(b, b'\r' | b'\n')).collect();
            let decoded = engine.decode(joined);
            decoded.map(Val::text).map_err(|_| EvalError::Failed("could not decode"))
        }
        Encoding::Raw => Ok(Val::Str(bytes)),
        Encoding::Utf8 => {
            let mut out = String::with_capacity(bytes.len());
            for chunk in bytes.utf8_chunks() {
                out.push_str(chunk.valid());
                out.extend(chunk.invalid().iter().map(|_| char::REPLACEMENT_CHARACTER));
            }
            Ok(Val::text(out))
        }
    }
}

/// Is the last digit the one that the others ask for?
fn luhn(text: &[u8]) -> Option<bool> {
    let digits: Vec<u8> = text.iter().copied().filter(|b| *b != b' ').collect();
    let Some((check, rest)) = digits.split_last() else { return Some(false) };
    let digit = |b: &u8| b.is_ascii_digit().then(|| u32::from(b - b'0'));
    let check = digit(check)?;
    let mut sum = 0;
    for (at, byte) in rest.iter().rev().enumerate() {
        let doubled = digit(byte)? * if at % 2 == 0 { 2 } else { 1 };
        sum += if doubled > 9 { doubled - 9 } else { doubled };
    }
    Some((10 - sum % 10) % 10 == check)
}
