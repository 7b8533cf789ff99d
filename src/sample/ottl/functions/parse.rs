//! Functions that read structure out of a text.

use std::borrow::Cow;

use super::super::error::EvalError;
use super::super::eval::{Arg, Scene};
use super::super::value::{Map, Val};
use super::text::{pattern, prepare_pattern};
use super::{Function, Kind, f, p, prepared};

type Outcome<'a> = Result<Val<'a>, EvalError>;

pub(super) const FUNCTIONS: &[Function] = &[prepared(
    f("ExtractPatterns", &[p("Target", Kind::Text), p("Pattern", Kind::Text)], extract_patterns),
    |args| prepare_pattern("ExtractPatterns", &mut args[1]),
)];

fn extract_patterns<'a>(args: &'a [Arg], scene: &Scene<'a>) -> Outcome<'a> {
    let pattern = pattern(&args[1], scene)?;
    if pattern.groups().iter().all(String::is_empty) {
        return Err(EvalError::Failed("at least 1 named capture group must be supplied"));
    }
    let found = pattern.captures(&args[0].text(scene)?).unwrap_or_default();
    let named = pattern.groups().iter().zip(found).filter(|(name, _)| !name.is_empty());
    let entries =
        named.map(|(name, text)| (Cow::Owned(name.clone().into_bytes()), Val::text(text)));
    Ok(Val::Map(Map::Made(entries.collect())))
}
