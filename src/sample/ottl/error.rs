//! Why a condition was refused, and why one that was accepted fails on a span.

use std::fmt;

use crate::sample::pattern::PatternError;

/// Why a condition was refused, in words near the collector's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CompileError(String);

impl CompileError {
    /// Of a condition whose words are right and whose meaning is not; `text` is the condition
    /// with its paths made complete.
    pub(super) fn meaning(text: &str, what: &str) -> Self {
        Self(format!("unable to parse OTTL condition {text:?}: {what}"))
    }

    pub(super) fn grammar(what: &str) -> Self {
        Self(what.to_owned())
    }

    pub(super) fn lexical(text: &str, offset: usize, what: &str) -> Self {
        let (line, column) = place(text, offset);
        Self(format!("condition has invalid syntax: {line}:{column}: {what}"))
    }

    pub(super) fn syntax(text: &str, offset: usize, expected: &str) -> Self {
        let (line, column) = place(text, offset);
        let near: String = text[offset..].chars().take(10).collect();
        let near = near.trim();
        let near = if near.is_empty() { String::new() } else { format!(" near `{near}`") };
        let expected = if expected.is_empty() { String::new() } else { format!(" ({expected})") };
        Self(format!("condition has invalid syntax at {line}:{column}{near}:{expected}"))
    }
}

fn place(text: &str, offset: usize) -> (usize, usize) {
    let before = &text[..offset];
    let line_start = before.rfind('\n').map_or(0, |at| at + 1);
    (1 + before.matches('\n').count(), 1 + before[line_start..].chars().count())
}

impl fmt::Display for CompileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for CompileError {}

/// Why a condition has no outcome for a span. Small and mostly without allocation: under
/// `silent`, failing may be what a condition does most of the time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EvalError {
    /// A value is not of the type that is wanted here.
    Type {
        /// What is wanted.
        want: &'static str,
        /// What is there.
        got: &'static str,
    },
    /// Anything else, in words.
    Failed(&'static str),
    /// A pattern made of the span's data is none.
    Pattern(Box<PatternError>),
}

impl fmt::Display for EvalError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Type { want, got } => write!(f, "expected {want} but got {got}"),
            Self::Failed(what) => f.write_str(what),
            Self::Pattern(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for EvalError {}
