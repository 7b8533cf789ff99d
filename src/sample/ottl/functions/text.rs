//! Functions on texts.

use std::borrow::Cow;

use super::super::error::EvalError;
use super::super::eval::{Arg, Scene};
use super::super::value::{List, Val};
use super::letters;
use super::list::find;
use super::{Function, Kind, Text, f, o, p, prepared, to};
use crate::sample::pattern::Pattern;

type Outcome<'a> = Result<Val<'a>, EvalError>;

const TARGET: super::Param = p("Target", Kind::Text);

pub(super) const FUNCTIONS: &[Function] = &[
    prepared(
        f("IsMatch", &[p("Target", Kind::TextLike), p("Pattern", Kind::Text)], is_match),
        |args| prepare_pattern("IsMatch", &mut args[1]),
    ),
    f("HasPrefix", &[TARGET, p("Prefix", Kind::Text)], |args, scene| {
        let text = args[0].text(scene)?;
        Ok(Val::Bool(text.starts_with(&args[1].text(scene)?)))
    }),
    f("HasSuffix", &[TARGET, p("Suffix", Kind::Text)], |args, scene| {
        let text = args[0].text(scene)?;
        Ok(Val::Bool(text.ends_with(&args[1].text(scene)?)))
    }),
    f("Concat", &[p("Vals", Kind::TextsLike), p("Delimiter", Kind::Text)], concat),
    f(
        "Substring",
        &[TARGET, p("Start", Kind::Int), p("Length", Kind::Int), o("Utf8Safe", Kind::RawBool)],
        substring,
    ),
    f("Split", &[TARGET, p("Delimiter", Kind::Text)], split),
    f("ToLowerCase", &[TARGET], |args, scene| changed(args, scene, letters::lower)),
    f("ToUpperCase", &[TARGET], |args, scene| changed(args, scene, letters::upper)),
    f("ToSnakeCase", &[TARGET], |args, scene| changed(args, scene, letters::snake)),
    f("ToCamelCase", &[TARGET], |args, scene| changed(args, scene, letters::camel)),
    prepared(f("ConvertCase", &[TARGET, p("ToCase", Kind::RawText)], convert_case), |args| {
        match args[1].raw() {
            Some("lower" | "upper" | "snake" | "camel") => Ok(()),
            other => Err(format!(
                "invalid case: {}, allowed cases are: lower, upper, snake, camel",
                other.unwrap_or_default()
            )),
        }
    }),
    f("Trim", &[TARGET, o("Replacement", Kind::RawText)], |args, scene| {
        let text = args[0].text(scene)?;
        Ok(Val::Str(trim(text, args[1].raw().unwrap_or(" "))))
    }),
    f("TrimPrefix", &[TARGET, p("Prefix", Kind::Text)], |args, scene| {
        let text = args[0].text(scene)?;
        let prefix = args[1].text(scene)?;
        let start = if text.starts_with(&prefix) { prefix.len() } else { 0 };
        Ok(Val::Str(part(text, start, None)))
    }),
    f("TrimSuffix", &[TARGET, p("Suffix", Kind::Text)], |args, scene| {
        let text = args[0].text(scene)?;
        let suffix = args[1].text(scene)?;
        let end = text.strip_suffix(suffix.as_ref()).map(<[u8]>::len);
        Ok(Val::Str(part(text, 0, end)))
    }),
];

/// Compiles a pattern that is known.
pub(super) fn prepare_pattern(function: &str, arg: &mut Arg) -> Result<(), String> {
    if let Arg::Literal(Val::Str(text)) = arg {
        let pattern = Pattern::from_bytes(text).map_err(|error| {
            let text = String::from_utf8_lossy(text);
            let what = "is not a valid pattern";
            format!("the regex pattern supplied to {function} '{text:?}' {what}: {error}")
        })?;
        *arg = Arg::Pattern(pattern);
    }
    Ok(())
}

/// The pattern, compiled now if it is made of the span's data.
pub(super) fn pattern<'a>(arg: &'a Arg, scene: &Scene<'a>) -> Result<Cow<'a, Pattern>, EvalError> {
    if let Arg::Pattern(pattern) = arg {
        return Ok(Cow::Borrowed(pattern));
    }
    let made = Pattern::from_bytes(&arg.text(scene)?);
    made.map(Cow::Owned).map_err(|error| EvalError::Pattern(Box::new(error)))
}

fn is_match<'a>(args: &'a [Arg], scene: &Scene<'a>) -> Outcome<'a> {
    let pattern = pattern(&args[1], scene)?;
    let text = args[0].text_like(scene)?;
    Ok(Val::Bool(text.is_some_and(|text| pattern.is_match(&text))))
}

/// The bytes from `start` to `end` without copying what is borrowed.
fn part(text: Text<'_>, start: usize, end: Option<usize>) -> Text<'_> {
    let end = end.unwrap_or(text.len());
    match text {
        Cow::Borrowed(text) => Cow::Borrowed(&text[start..end]),
        Cow::Owned(text) => Cow::Owned(text[start..end].to_vec()),
    }
}

fn changed<'a>(args: &'a [Arg], scene: &Scene<'a>, change: fn(&[u8]) -> Vec<u8>) -> Outcome<'a> {
    Ok(Val::text(change(&args[0].text(scene)?)))
}

fn convert_case<'a>(args: &'a [Arg], scene: &Scene<'a>) -> Outcome<'a> {
    let change = match args[1].raw() {
        Some("upper") => letters::upper,
        Some("snake") => letters::snake,
        Some("camel") => letters::camel,
        _ => letters::lower,
    };
    changed(args, scene, change)
}

fn concat<'a>(args: &'a [Arg], scene: &Scene<'a>) -> Outcome<'a> {
    let delimiter = args[1].text(scene)?;
    let nil = || Cow::Borrowed(&b"<nil>"[..]);
    let mut parts: Vec<Text<'a>> = Vec::new();
    match &args[0] {
        Arg::Args(items) => {
            for item in items {
                parts.push(item.text_like(scene)?.unwrap_or_else(nil));
            }
        }
        source => match source.any(scene)? {
            Val::Nil => {}
            Val::List(list @ (List::Wire(_) | List::Made(_))) => {
                for item in list.items() {
                    parts.push(to::item_text(item));
                }
            }
            Val::List(list) => {
                for item in list.items() {
                    parts.push(to::text_like(item)?.unwrap_or_else(nil));
                }
            }
            Val::Bytes(bytes) => {
                parts.extend(bytes.iter().map(|b| Cow::Owned(b.to_string().into_bytes())));
            }
            other => return Err(EvalError::Type { want: "a slice", got: other.type_name() }),
        },
    }
    Ok(Val::text(parts.join(delimiter.as_ref())))
}

fn substring<'a>(args: &'a [Arg], scene: &Scene<'a>) -> Outcome<'a> {
    let start = args[1].int(scene)?;
    let length = args[2].int(scene)?;
    let text = args[0].text(scene)?;
    let range = (|| {
        let start = usize::try_from(start).ok()?;
        let length = usize::try_from(length).ok().filter(|length| *length > 0)?;
        let end = start.checked_add(length).filter(|end| *end <= text.len())?;
        Some((start, end))
    })();
    let Some((mut start, mut end)) = range else {
        return Err(EvalError::Failed("invalid range for substring function"));
    };
    if matches!(args[3], Arg::Flag(true)) {
        let inside = |at: usize| text.get(at).is_some_and(|b| *b & 0xc0 == 0x80);
        while inside(start) {
            start += 1;
        }
        while start < end && inside(end) {
            end -= 1;
        }
        end = end.max(start);
    }
    Ok(Val::Str(part(text, start, Some(end))))
}

fn split<'a>(args: &'a [Arg], scene: &Scene<'a>) -> Outcome<'a> {
    let text = args[0].text(scene)?;
    let delimiter = args[1].text(scene)?;
    let mut parts = Vec::new();
    let mut rest: &[u8] = &text;
    if delimiter.is_empty() {
        for chunk in text.utf8_chunks() {
            parts.extend(chunk.valid().chars().map(|c| Cow::Owned(c.to_string().into_bytes())));
            parts.extend(chunk.invalid().iter().map(|byte| Cow::Owned(vec![*byte])));
        }
        return Ok(Val::List(List::Texts(parts)));
    }
    while let Some(at) = find(rest, &delimiter) {
        parts.push(Cow::Owned(rest[..at].to_vec()));
        rest = &rest[at + delimiter.len()..];
    }
    parts.push(Cow::Owned(rest.to_vec()));
    Ok(Val::List(List::Texts(parts)))
}

/// Without the characters of `cut` at both ends.
fn trim<'a>(text: Text<'a>, cut: &str) -> Text<'a> {
    let decoded = |bytes: &[u8]| -> Vec<(usize, char)> {
        let chunks = bytes.utf8_chunks();
        let chars = chunks.flat_map(|chunk| {
            let valid = chunk.valid().chars().map(|c| (c.len_utf8(), c));
            let invalid = chunk.invalid().iter().map(|_| (1, char::REPLACEMENT_CHARACTER));
            valid.chain(invalid).collect::<Vec<_>>()
        });
        chars.collect()
    };
    let width = |(len, _): &(usize, char)| *len;
    let chars = decoded(&text);
    let is_cut = |(_, c): &&(usize, char)| cut.contains(*c);
    let start: usize = chars.iter().take_while(is_cut).map(width).sum();
    if start == text.len() {
        return Cow::Borrowed(&[]);
    }
    let end: usize = chars.iter().rev().take_while(is_cut).map(width).sum();
    let end = text.len() - end;
    part(text, start, Some(end))
}
