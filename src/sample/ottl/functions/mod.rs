//! Functions of conditions: their names, parameters and kinds of arguments (tailsampling 7.4).
//!
//! What fails and what is merely nil or false follows the collector's functions one by one.

mod address;
mod convert;
mod hash;
pub(super) mod letters;
mod list;
mod parse;
mod text;
pub(super) mod time;
mod timestamp;

use super::convert as to;
use super::error::EvalError;
use super::eval::{Arg, Scene, borrowed};
use super::value::{List, Map, Time, Val};

/// Evaluates a function.
pub(super) type Evaluate = for<'a> fn(&'a [Arg], &Scene<'a>) -> Result<Val<'a>, EvalError>;

/// Checks the arguments of a call and prepares what can be.
pub(super) type Prepare = fn(&mut [Arg]) -> Result<(), String>;

/// What an argument must be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Any,
    Text,
    TextLike,
    Int,
    IntLike,
    Double,
    DoubleLike,
    Bool,
    BoolLike,
    BytesLike,
    Map,
    List,
    Time,
    Duration,
    /// A list of texts: spelled out, or a value that is a list.
    TextsLike,
    /// A list that is spelled out, of anything.
    Anys,
    /// A list that is spelled out, of texts.
    Texts,
    /// A text that is spelled out.
    RawText,
    /// `true` or `false`, spelled out.
    RawBool,
}

/// A parameter: its name in camel case, as named arguments are matched.
pub(super) struct Param {
    pub(super) name: &'static str,
    pub(super) kind: Kind,
    pub(super) optional: bool,
}

/// What else the outcome of a function depends on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reads {
    Arguments,
    Span,
    Now,
}

/// A function.
pub(super) struct Function {
    pub(super) name: &'static str,
    /// Functions without parameters take any arguments and ignore them.
    pub(super) params: &'static [Param],
    pub(super) eval: Evaluate,
    pub(super) prepare: Option<Prepare>,
    pub(super) reads: Reads,
}

const fn p(name: &'static str, kind: Kind) -> Param {
    Param { name, kind, optional: false }
}

const fn o(name: &'static str, kind: Kind) -> Param {
    Param { name, kind, optional: true }
}

const fn f(name: &'static str, params: &'static [Param], eval: Evaluate) -> Function {
    Function { name, params, eval, prepare: None, reads: Reads::Arguments }
}

const fn prepared(function: Function, prepare: Prepare) -> Function {
    Function { prepare: Some(prepare), ..function }
}

const fn reading(function: Function, reads: Reads) -> Function {
    Function { reads, ..function }
}

const GROUPS: [&[Function]; 8] = [
    convert::FUNCTIONS,
    text::FUNCTIONS,
    list::FUNCTIONS,
    time::FUNCTIONS,
    hash::FUNCTIONS,
    parse::FUNCTIONS,
    address::FUNCTIONS,
    timestamp::FUNCTIONS,
];

/// The function of that name.
pub(super) fn find(name: &str) -> Option<&'static Function> {
    GROUPS.into_iter().flatten().find(|function| function.name == name)
}

#[cfg(test)]
pub(super) fn names() -> Vec<&'static str> {
    GROUPS.into_iter().flatten().map(|function| function.name).collect()
}

/// Does the collector have a function of that name, which is not supported here?
pub(super) fn is_missing(name: &str) -> bool {
    MISSING.contains(&name)
}

const MISSING: &[&str] = &[
    "All",
    "Any",
    "CommunityID",
    "ConvertAttributesToElementsXML",
    "ConvertTextToElementsXML",
    "ExtractGrokPatterns",
    "Filter",
    "Find",
    "GetXML",
    "InsertXML",
    "MapEach",
    "MapKeys",
    "ParseCSV",
    "ParseSeverity",
    "ParseSimplifiedXML",
    "ParseXML",
    "ProfileID",
    "Reduce",
    "RemoveXML",
    "UserAgent",
    "When",
    "UUIDv7",
    "Append",
    "DeleteIndex",
    "SliceToMap",
    "Sort",
    "ToKeyValueString",
    "URL",
    "Format",
];

type Text<'a> = std::borrow::Cow<'a, [u8]>;

/// Arguments as their kinds promise them.
impl Arg {
    pub(super) fn is_absent(&self) -> bool {
        matches!(self, Self::Absent)
    }

    fn any<'a>(&'a self, scene: &Scene<'a>) -> Result<Val<'a>, EvalError> {
        match self {
            Self::Literal(value) => Ok(borrowed(value)),
            Self::Expr(expr) => expr.eval(scene),
            _ => Ok(Val::Nil),
        }
    }

    fn text<'a>(&'a self, scene: &Scene<'a>) -> Result<Text<'a>, EvalError> {
        to::text(self.any(scene)?)
    }

    fn text_like<'a>(&'a self, scene: &Scene<'a>) -> Result<Option<Text<'a>>, EvalError> {
        to::text_like(self.any(scene)?)
    }

    fn int(&self, scene: &Scene<'_>) -> Result<i64, EvalError> {
        to::int(&self.any(scene)?)
    }

    fn bytes_like<'a>(&'a self, scene: &Scene<'a>) -> Result<Option<Text<'a>>, EvalError> {
        to::bytes_like(self.any(scene)?)
    }

    fn map<'a>(&'a self, scene: &Scene<'a>) -> Result<Map<'a>, EvalError> {
        to::map(self.any(scene)?)
    }

    fn list<'a>(&'a self, scene: &Scene<'a>) -> Result<List<'a>, EvalError> {
        to::list(self.any(scene)?)
    }

    fn time(&self, scene: &Scene<'_>) -> Result<Time, EvalError> {
        to::time(&self.any(scene)?)
    }

    fn duration(&self, scene: &Scene<'_>) -> Result<i64, EvalError> {
        to::duration(&self.any(scene)?)
    }

    /// Items of a list that was spelled out.
    fn args(&self) -> &[Self] {
        match self {
            Self::Args(args) => args,
            _ => &[],
        }
    }

    /// A text that was spelled out.
    fn raw(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            _ => None,
        }
    }
}
