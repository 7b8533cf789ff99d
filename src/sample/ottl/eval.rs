//! A compiled condition and its evaluation against the bytes of one span.
//!
//! Values are borrowed; nothing is decoded that the condition does not name. An error ends the
//! evaluation, except where a literal has already decided it at compile time.

use std::borrow::Cow;

use super::compare::compare;
use super::error::EvalError;
use super::functions::Evaluate;
use super::math;
use super::parse::{Comparison, Operator};
use super::path::{self, Target};
use super::value::{List, Map, Val};
use crate::otlp::span::{Facts, Found};
use crate::otlp::value::Value;
use crate::sample::pattern::Pattern;

/// What a condition is judged on. All bytes are contents of messages, without tag and length.
#[derive(Clone, Copy, Debug)]
pub struct Scene<'a> {
    /// The Resource; of several occurrences, one after the other.
    pub resource: &'a [u8],
    /// The InstrumentationScope.
    pub scope: &'a [u8],
    /// The Span.
    pub span: &'a [u8],
    /// The Event, in a condition on events.
    pub event: Option<&'a [u8]>,
    /// The time of day, for `Now()`: nanoseconds since 1970.
    pub now_unix_nanos: u64,
    /// What was noted of the span when it was checked, if that is known.
    pub noted: Option<Noted<'a>>,
}

/// What a walk over a span has noted, so that nobody has to walk again.
#[derive(Clone, Copy, Debug)]
pub struct Noted<'a> {
    /// Its field, which the notes point into.
    pub field: &'a [u8],
    /// Fields of the span.
    pub facts: &'a Facts,
    /// Its attributes that were wanted.
    pub found: &'a [Found],
}

impl<'a> Noted<'a> {
    /// The attribute with the wanted key at `position`.
    pub(super) fn attribute(&self, position: u16) -> Option<Val<'a>> {
        let found = self.found.iter().find(|found| found.key == position)?;
        Some(Value::read(found.value.of(self.field)).into())
    }
}

impl Scene<'_> {
    /// One with nothing in it.
    pub(super) const EMPTY: Self =
        Self { resource: &[], scope: &[], span: &[], event: None, now_unix_nanos: 0, noted: None };
}

/// A boolean expression.
#[derive(Clone, Debug)]
pub(super) enum Test {
    /// Decided by literals alone: what stands beside it may not be evaluated at all.
    Literal(bool),
    Compare(Expr, Comparison, Expr),
    Call(Expr),
    Not(Box<Self>),
    All(Vec<Self>),
    Any(Vec<Self>),
}

/// What gives a value.
#[derive(Clone, Debug)]
pub(super) enum Expr {
    Const(Val<'static>),
    /// Fails on every span.
    Fail(EvalError),
    Path(Target, Vec<Key>),
    Call(Evaluate, Vec<Arg>),
    Index(Box<Self>, Vec<Key>),
    Neg(Box<Self>),
    Math(Box<Self>, Operator, Box<Self>),
    List(Vec<Self>),
    Map(Vec<(Vec<u8>, Self)>),
}

/// What stands in brackets.
#[derive(Clone, Debug)]
pub(super) enum Key {
    Str(Vec<u8>),
    Int(i64),
    Expr(Expr),
}

/// An argument of a function.
#[derive(Clone, Debug)]
pub(super) enum Arg {
    /// An optional one that was left out.
    Absent,
    /// Spelled out, of the right type.
    Literal(Val<'static>),
    Expr(Expr),
    Args(Vec<Self>),
    Text(String),
    Flag(bool),
    Pattern(Pattern),
}

impl Test {
    pub(super) fn eval(&self, scene: &Scene<'_>) -> Result<bool, EvalError> {
        match self {
            Self::Literal(outcome) => Ok(*outcome),
            Self::Compare(left, op, right) => match (left, right) {
                (left, Expr::Const(right)) => Ok(compare(&left.eval(scene)?, *op, right)),
                (Expr::Const(left), right) => Ok(compare(left, *op, &right.eval(scene)?)),
                _ => {
                    let left = left.eval(scene)?;
                    Ok(compare(&left, *op, &right.eval(scene)?))
                }
            },
            Self::Call(call) => match call.eval(scene)? {
                Val::Bool(outcome) => Ok(outcome),
                other => Err(EvalError::Type { want: "bool", got: other.type_name() }),
            },
            Self::Not(inner) => inner.eval(scene).map(|outcome| !outcome),
            Self::All(tests) => {
                for test in tests {
                    if !test.eval(scene)? {
                        return Ok(false);
                    }
                }
                Ok(true)
            }
            Self::Any(tests) => {
                for test in tests {
                    if test.eval(scene)? {
                        return Ok(true);
                    }
                }
                Ok(false)
            }
        }
    }
}

impl Expr {
    pub(super) fn eval<'a>(&'a self, scene: &Scene<'a>) -> Result<Val<'a>, EvalError> {
        match self {
            Self::Const(value) => Ok(borrowed(value)),
            Self::Fail(error) => Err(error.clone()),
            Self::Path(target, keys) => path::read(*target, keys, scene),
            Self::Call(function, args) => function(args, scene),
            Self::Index(inner, keys) => {
                let mut value = inner.eval(scene)?;
                for key in keys {
                    value = index(&value, &key.resolve(scene)?)?;
                }
                Ok(value)
            }
            Self::Neg(inner) => math::negate(&inner.eval(scene)?),
            Self::Math(left, operator, right) => {
                let left = left.eval(scene)?;
                math::operate(&left, *operator, &right.eval(scene)?)
            }
            Self::List(items) => {
                let items = items.iter().map(|item| item.eval(scene)).collect::<Result<_, _>>()?;
                Ok(Val::List(List::Plain(items)))
            }
            Self::Map(entries) => {
                let mut made = Vec::with_capacity(entries.len());
                for (key, value) in entries {
                    let value = storable(value.eval(scene)?)?;
                    made.push((Cow::Borrowed(key.as_slice()), value));
                }
                Ok(Val::Map(Map::Made(made)))
            }
        }
    }
}

/// A constant without copying its text.
pub(super) fn borrowed<'a>(value: &'a Val<'static>) -> Val<'a> {
    match value {
        Val::Str(text) => Val::Str(Cow::Borrowed(text)),
        Val::Bytes(bytes) => Val::Bytes(Cow::Borrowed(bytes)),
        other => other.clone(),
    }
}

/// A value that a map of the collector's type can hold.
pub(super) fn storable(value: Val<'_>) -> Result<Val<'_>, EvalError> {
    match value {
        Val::Nil
        | Val::Bool(_)
        | Val::Int(_)
        | Val::Double(_)
        | Val::Str(_)
        | Val::Bytes(_)
        | Val::Map(Map::Wire(..) | Map::Made(_)) => Ok(value),
        Val::Map(Map::Plain(entries)) => {
            let stored = entries.into_iter().map(|(k, v)| storable(v).map(|v| (k, v)));
            Ok(Val::Map(Map::Made(stored.collect::<Result<_, _>>()?)))
        }
        Val::List(List::Plain(items)) => {
            let stored = items.into_iter().map(storable).collect::<Result<_, _>>()?;
            Ok(Val::List(List::Made(stored)))
        }
        Val::Octet(octet) => Ok(Val::Int(i64::from(octet))),
        other => {
            Err(EvalError::Type { want: "a value that a map can hold", got: other.type_name() })
        }
    }
}

/// What lies in the outcome of a function under `key`; unlike in an attribute, a missing entry is
/// an error.
fn index<'a>(value: &Val<'a>, key: &Val<'a>) -> Result<Val<'a>, EvalError> {
    let want = match (value, key) {
        (Val::Map(map), Val::Str(key)) => {
            return map.get(key).ok_or(EvalError::Failed("key not found in map"));
        }
        (Val::List(list), Val::Int(at)) => {
            return list.get(*at).ok_or(EvalError::Failed("index out of bounds"));
        }
        (Val::Bytes(bytes), Val::Int(at)) => {
            let octet = usize::try_from(*at).ok().and_then(|at| bytes.get(at));
            return octet.map(|o| Val::Octet(*o)).ok_or(EvalError::Failed("index out of bounds"));
        }
        (_, Val::Str(_)) => "a type that supports string indexing",
        (_, Val::Int(_)) => "a type that supports int indexing",
        _ => {
            let want = "a string or int as key";
            return Err(EvalError::Type { want, got: key.type_name() });
        }
    };
    Err(EvalError::Type { want, got: value.type_name() })
}

impl Key {
    fn resolve<'a>(&'a self, scene: &Scene<'a>) -> Result<Val<'a>, EvalError> {
        match self {
            Self::Str(key) => Ok(Val::Str(Cow::Borrowed(key))),
            Self::Int(index) => Ok(Val::Int(*index)),
            Self::Expr(key) => key.eval(scene),
        }
    }

    /// As the key of a map.
    #[inline]
    pub(super) fn text<'a>(&'a self, scene: &Scene<'a>) -> Result<Cow<'a, [u8]>, EvalError> {
        match self {
            Self::Str(key) => Ok(Cow::Borrowed(key)),
            other => match other.resolve(scene)? {
                Val::Str(key) if matches!(other, Self::Expr(_)) => Ok(key),
                value => Err(EvalError::Type { want: "string as key", got: value.type_name() }),
            },
        }
    }

    /// As the index of a list.
    pub(super) fn index(&self, scene: &Scene<'_>) -> Result<i64, EvalError> {
        match self.resolve(scene)? {
            Val::Int(index) => Ok(index),
            value => Err(EvalError::Type { want: "int64 as index", got: value.type_name() }),
        }
    }
}
