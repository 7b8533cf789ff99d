//! Regular expressions as the collector reads them: Go's syntax, searched unanchored in bytes.
//!
//! A pattern is read here in full, refused in Go's words, and written anew for the `regex` crate,
//! whose syntax is close and not the same (tailsampling 2.4): classes like `\d` and `\b` are
//! ASCII, `\Q..\E` quotes, `{` may be a letter, nothing inside `[...]` is an operator, counted
//! repetition ends at 1000. A byte that is not UTF-8 counts as one U+FFFD, as Go reads text.
//!
//! Does not do: leftmost-longest search, names of groups that Go refuses and the crate takes.

mod classes;
mod translate;

use std::borrow::Cow;
use std::fmt;

use regex::{Regex, RegexBuilder};

/// The longest pattern, in bytes.
const BYTES_MAX: usize = 64 << 10;
/// The largest compiled program, in bytes.
const PROGRAM_BYTES_MAX: usize = 32 << 20;

/// A compiled pattern.
#[derive(Clone, Debug)]
pub struct Pattern {
    regex: Regex,
    /// Names of the groups, in order, from the first one on; unnamed ones are empty.
    groups: Vec<String>,
}

/// Why a pattern was refused, in the words of Go where it is Go that would refuse.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PatternError {
    what: Cow<'static, str>,
    /// The part of the pattern at fault.
    part: String,
}

impl PatternError {
    fn new(what: &'static str, part: &str) -> Self {
        Self { what: Cow::Borrowed(what), part: part.to_owned() }
    }
}

impl fmt::Display for PatternError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "error parsing regexp: {}", self.what)?;
        if !self.part.is_empty() {
            write!(f, ": `{}`", self.part)?;
        }
        Ok(())
    }
}

impl std::error::Error for PatternError {}

impl Pattern {
    /// Compiles Go syntax.
    ///
    /// # Errors
    ///
    /// What Go refuses, and patterns too large to be held.
    pub fn new(pattern: &str) -> Result<Self, PatternError> {
        if pattern.len() > BYTES_MAX {
            return Err(PatternError::new("expression too large", ""));
        }
        let translated = translate::translate(pattern)?;
        let regex = RegexBuilder::new(&translated.text)
            .size_limit(PROGRAM_BYTES_MAX)
            .nest_limit(2 * translate::DEPTH_MAX)
            .build()
            .map_err(|error| match error {
                regex::Error::CompiledTooBig(_) => PatternError::new("expression too large", ""),
                error => PatternError {
                    what: Cow::Owned(format!("not supported here: {error}")),
                    part: pattern.to_owned(),
                },
            })?;
        Ok(Self { regex, groups: translated.groups })
    }

    /// Compiles a pattern that came as bytes.
    ///
    /// # Errors
    ///
    /// As [`Pattern::new`], and for bytes that are not UTF-8.
    pub fn from_bytes(pattern: &[u8]) -> Result<Self, PatternError> {
        match std::str::from_utf8(pattern) {
            Ok(pattern) => Self::new(pattern),
            Err(_) => Err(PatternError::new("invalid UTF-8", &String::from_utf8_lossy(pattern))),
        }
    }

    /// Is there a match anywhere in `text`?
    #[must_use]
    pub fn is_match(&self, text: &[u8]) -> bool {
        self.regex.is_match(&readable(text))
    }

    /// Names of the groups in order, empty for those without one.
    #[must_use]
    pub fn groups(&self) -> &[String] {
        &self.groups
    }

    /// What each of [`Pattern::groups`] holds in the first match, empty where it took no part;
    /// nothing when there is no match.
    #[must_use]
    pub fn captures(&self, text: &[u8]) -> Option<Vec<Vec<u8>>> {
        let text = readable(text);
        let found = self.regex.captures(&text)?;
        let group =
            |n| found.get(n).map_or_else(Vec::new, |part| part.as_str().as_bytes().to_vec());
        Some((1..=self.groups.len()).map(group).collect())
    }
}

/// `text`, with U+FFFD for each byte that is not part of a character.
fn readable(text: &[u8]) -> Cow<'_, str> {
    if let Ok(text) = std::str::from_utf8(text) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len() + 16);
    for chunk in text.utf8_chunks() {
        out.push_str(chunk.valid());
        out.extend(chunk.invalid().iter().map(|_| char::REPLACEMENT_CHARACTER));
    }
    Cow::Owned(out)
}

#[cfg(test)]
mod tests;
