//! Functions on lists and maps.

use super::super::compare::compare;
use super::super::error::EvalError;
use super::super::eval::{Arg, Scene};
use super::super::parse::Comparison;
use super::super::value::{List, Val};
use super::convert::plain;
use super::{Function, Kind, f, p};
use crate::otlp::value::{Field, Fields};

type Outcome<'a> = Result<Val<'a>, EvalError>;

pub(super) const FUNCTIONS: &[Function] = &[
    f("Len", &[p("Target", Kind::Any)], len),
    f("ContainsValue", &[p("Target", Kind::List), p("Item", Kind::Any)], |args, scene| {
        let list = args[0].list(scene)?;
        let item = args[1].any(scene)?;
        Ok(Val::Bool(position(&list, &item).is_some()))
    }),
    f("Index", &[p("Target", Kind::Any), p("Value", Kind::Any)], index),
    f("Keys", &[p("Target", Kind::Map)], |args, scene| {
        let entries = args[0].map(scene)?.entries();
        Ok(Val::List(List::Made(entries.into_iter().map(|(key, _)| Val::Str(key)).collect())))
    }),
    f("Values", &[p("Target", Kind::Map)], |args, scene| {
        let entries = args[0].map(scene)?.entries();
        Ok(Val::List(List::Made(entries.into_iter().map(|(_, value)| value).collect())))
    }),
];

fn len<'a>(args: &'a [Arg], scene: &Scene<'a>) -> Outcome<'a> {
    let len = match args[0].any(scene)? {
        Val::Str(text) | Val::Bytes(text) => text.len(),
        Val::Map(map) => map.len(),
        Val::List(list) => list.len(),
        Val::Parts(span, number) => Fields::of(span)
            .filter(|(n, field)| *n == number && matches!(field, Field::Bytes(_)))
            .count(),
        other => {
            return Err(EvalError::Type { want: "a string, list or map", got: other.type_name() });
        }
    };
    Ok(Val::Int(i64::try_from(len).unwrap_or(i64::MAX)))
}

fn position(list: &List<'_>, item: &Val<'_>) -> Option<usize> {
    list.items().into_iter().position(|other| compare(&plain(other), Comparison::Eq, item))
}

fn index<'a>(args: &'a [Arg], scene: &Scene<'a>) -> Outcome<'a> {
    let value = args[1].any(scene)?;
    let at = match args[0].any(scene)? {
        Val::Str(text) => {
            let Val::Str(part) = value else {
                return Err(EvalError::Type { want: "string", got: value.type_name() });
            };
            find(&text, &part)
        }
        other => position(&super::to::list(other)?, &value),
    };
    Ok(Val::Int(at.and_then(|at| i64::try_from(at).ok()).unwrap_or(-1)))
}

/// Where `part` begins in `text`.
pub(super) fn find(text: &[u8], part: &[u8]) -> Option<usize> {
    if part.is_empty() {
        return Some(0);
    }
    text.windows(part.len()).position(|window| window == part)
}
