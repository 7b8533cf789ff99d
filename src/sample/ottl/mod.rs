//! Conditions of `ottl_condition`: compiled once, evaluated lazily against the bytes of a span
//! (tailsampling 2.12, 7).
//!
//! `lex` and `parse` read a condition, `compile` resolves its names and checks it as the collector
//! does at its start, `eval` asks it of one span or event. Bytes are well-formed messages; ids,
//! types of attributes and depths of nesting are whatever a client sends.
//!
//! Does not do: lambdas, functions on XML, and those that [`Condition::compile`] refuses by name.
//! Schema urls are empty, and nothing is known of the request that a span came with.

mod compare;
mod compile;
mod convert;
mod error;
mod eval;
mod functions;
mod lex;
mod math;
mod parse;
mod path;
mod trace_state;
mod value;

pub use error::{CompileError, EvalError};
pub use eval::{Noted, Scene};

use crate::otlp::span::Wanted;
use compile::{Compiler, Needs};

/// The longest condition, in bytes.
const TEXT_BYTES_MAX: usize = 64 << 10;

/// The list of a policy that a condition stands in: what its paths belong to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum List {
    /// `span`: asked of each span.
    Span,
    /// `spanevent`: asked of each event of each span.
    SpanEvent,
}

impl List {
    /// What paths without a context begin with.
    fn context(self) -> &'static str {
        match self {
            Self::Span => "span",
            Self::SpanEvent => "spanevent",
        }
    }
}

/// A compiled condition.
#[derive(Clone, Debug)]
pub struct Condition {
    text: String,
    test: eval::Test,
    needs: Needs,
}

impl Condition {
    /// Compiles `text`.
    ///
    /// # Errors
    ///
    /// What the collector refuses at its start, in words near its own, and what is not supported
    /// here, by name.
    pub fn compile(text: &str, list: List) -> Result<Self, CompileError> {
        Self::compile_with(text, list, None)
    }

    /// The same, and adds the keys of span attributes that it reads to `wanted`: in a scene with
    /// notes of such a walk they are not searched for again.
    ///
    /// # Errors
    ///
    /// As [`Self::compile`].
    pub fn compile_with(
        text: &str,
        list: List,
        wanted: Option<&mut Wanted>,
    ) -> Result<Self, CompileError> {
        if text.len() > TEXT_BYTES_MAX {
            let what = format!("condition is longer than {TEXT_BYTES_MAX} bytes");
            return Err(CompileError::grammar(&what));
        }
        let parsed = parse::parse(text)?;
        let mut compiler = Compiler { list, needs: Needs::default(), wanted };
        let test = compiler.test(&parsed.tree).map_err(|what| {
            CompileError::meaning(&compile::completed(text, list, &parsed.paths), &what)
        })?;
        Ok(Self { text: text.to_owned(), test, needs: compiler.needs })
    }

    /// The outcome for one span or event.
    ///
    /// # Errors
    ///
    /// Where the collector has an error instead of an outcome (tailsampling 7.4); what follows
    /// from it is the policy's error mode.
    #[inline]
    pub fn eval(&self, scene: &Scene<'_>) -> Result<bool, EvalError> {
        self.test.eval(scene)
    }

    /// The condition as it was written.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Does the outcome depend on the resource alone, so that it holds for all its spans?
    #[must_use]
    pub fn reads_only_resource(&self) -> bool {
        !self.needs.more_than_resource
    }

    /// Does the outcome depend on the time of day?
    #[must_use]
    pub fn needs_now(&self) -> bool {
        self.needs.now
    }
}

#[cfg(test)]
mod tests;
