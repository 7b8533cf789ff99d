//! What the loader has to say: errors, warnings and notes, each with its place, its key and what
//! would be right. All of them are gathered; nothing stops at the first.

use std::cell::RefCell;
use std::fmt;

/// At most this many are kept: a hostile file must not fill the memory with complaints.
const NOTICES_MAX: usize = 1_000;
/// Longer texts of a user's are cut in messages.
const QUOTE_CHARS_MAX: usize = 80;

/// Position of a key or value: which source, and where in it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct At {
    /// Index into `Log::sources`.
    pub source: u16,
    /// From 1.
    pub line: u32,
    /// From 1, in characters.
    pub column: u32,
}

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// The configuration cannot be used.
    Error,
    /// It can be used, but likely not as its writer thinks.
    Warning,
    /// Worth knowing at start.
    Note,
}

/// One thing to say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notice {
    /// How bad it is.
    pub severity: Severity,
    /// `file:line:column`, or the name of a source without lines; empty if it concerns all of it.
    pub place: String,
    /// Keys joined by `::`, as the collector writes them; empty for the root.
    pub path: String,
    /// What is wrong.
    pub what: String,
    /// What would be right; may have several lines.
    pub right: Option<String>,
    /// The collector does it: nothing is wrong but that tracemill does not have it.
    pub is_lack: bool,
    at: At,
}

/// Errors of a configuration that cannot be used, with the warnings that came along.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// Errors first, each group in the order of the sources.
    pub notices: Vec<Notice>,
}

/// Gathers notices while the tree is read.
#[derive(Debug, Default)]
pub struct Log {
    sources: Vec<Source>,
    notices: RefCell<Vec<Notice>>,
    leaves_files: bool,
}

/// Where text came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    /// A path, or `--set a.b=c` and the like.
    pub name: String,
    /// Whether line numbers help.
    pub has_lines: bool,
}

impl Log {
    /// Certificates and keys are not looked at: nothing is going to run with them.
    pub fn leave_files(&mut self) {
        self.leaves_files = true;
    }

    /// Whether certificates and keys are looked at.
    #[must_use]
    pub const fn reads_files(&self) -> bool {
        !self.leaves_files
    }

    /// Adds a source and returns its number.
    pub fn add_source(&mut self, name: impl Into<String>, has_lines: bool) -> u16 {
        let name = name.into();
        // The name of a source without lines holds its text.
        let name = if has_lines { name } else { name.chars().take(QUOTE_CHARS_MAX).collect() };
        let number = u16::try_from(self.sources.len()).unwrap_or(u16::MAX);
        self.sources.push(Source { name, has_lines });
        number
    }

    /// `file:line:column`.
    #[must_use]
    pub fn place(&self, at: At) -> String {
        match self.sources.get(usize::from(at.source)) {
            Some(s) if s.has_lines && at.line > 0 => {
                format!("{}:{}:{}", s.name, at.line, at.column)
            }
            Some(s) => s.name.clone(),
            None => String::new(),
        }
    }

    /// `file:line`, for lists.
    #[must_use]
    pub fn line(&self, at: At) -> String {
        match self.sources.get(usize::from(at.source)) {
            Some(s) if s.has_lines && at.line > 0 => format!("{}:{}", s.name, at.line),
            Some(s) => s.name.clone(),
            None => String::new(),
        }
    }

    /// Adds a notice. Equal ones are kept once.
    pub fn say(
        &self,
        severity: Severity,
        at: At,
        path: &str,
        what: impl Into<String>,
        right: Option<String>,
    ) {
        self.add((severity, false), at, path, what.into(), right);
    }

    /// Something that the collector does and tracemill does not.
    pub fn lack(
        &self,
        severity: Severity,
        at: At,
        path: &str,
        what: impl Into<String>,
        right: Option<String>,
    ) {
        self.add((severity, true), at, path, what.into(), right);
    }

    fn add(
        &self,
        (severity, is_lack): (Severity, bool),
        at: At,
        path: &str,
        what: String,
        right: Option<String>,
    ) {
        let (path, place) = (path.to_owned(), self.place(at));
        let notice = Notice { severity, place, path, what, right, is_lack, at };
        let mut notices = self.notices.borrow_mut();
        if notices.len() < NOTICES_MAX && !notices.contains(&notice) {
            notices.push(notice);
        }
    }

    /// Adds an error.
    pub fn error(&self, at: At, path: &str, what: impl Into<String>, right: Option<String>) {
        self.say(Severity::Error, at, path, what, right);
    }

    /// Adds a warning.
    pub fn warn(&self, at: At, path: &str, what: impl Into<String>, right: Option<String>) {
        self.say(Severity::Warning, at, path, what, right);
    }

    /// Whether nothing more is taken.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.notices.borrow().len() >= NOTICES_MAX
    }

    /// Whether an error was added.
    #[must_use]
    pub fn has_errors(&self) -> bool {
        self.notices.borrow().iter().any(|n| n.severity == Severity::Error)
    }

    /// Everything, sorted.
    #[must_use]
    pub fn into_notices(self) -> Vec<Notice> {
        let mut notices = self.notices.into_inner();
        notices.sort_by_key(|n| (n.severity, n.at));
        notices
    }
}

impl fmt::Display for Notice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = match self.severity {
            Severity::Error => "error",
            Severity::Warning => "warning",
            Severity::Note => "note",
        };
        if !self.place.is_empty() {
            write!(f, "{}: ", self.place)?;
        }
        write!(f, "{word}: ")?;
        if !self.path.is_empty() {
            write!(f, "{}: ", self.path)?;
        }
        f.write_str(&self.what)?;
        if let Some(right) = &self.right {
            for line in right.lines() {
                write!(f, "\n    {line}")?;
            }
        }
        Ok(())
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, notice) in self.notices.iter().enumerate() {
            if i > 0 {
                f.write_str("\n")?;
            }
            write!(f, "{notice}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Report {}

/// `text` in quotes, cut if long, control characters escaped.
#[must_use]
pub fn quote(text: &str) -> String {
    let mut out: String = text.chars().take(QUOTE_CHARS_MAX).flat_map(char::escape_debug).collect();
    if text.chars().nth(QUOTE_CHARS_MAX).is_some() {
        out.push('…');
    }
    format!("\"{out}\"")
}

/// The closest of `known`, if it is close enough to have been meant.
#[must_use]
pub fn did_you_mean<'a>(
    written: &str,
    known: impl IntoIterator<Item = &'a str>,
) -> Option<&'a str> {
    if written.len() > 64 {
        return None;
    }
    let fold = |s: &str| s.to_lowercase().replace(['-', '_'], "");
    let folded = fold(written);
    known
        .into_iter()
        .map(|k| (distance(&folded, &fold(k)), k))
        .min_by_key(|(d, _)| *d)
        .filter(|(d, k)| *d <= 1 + k.len().min(written.len()) / 5)
        .map(|(_, k)| k)
}

/// Insertions, deletions, replacements and swaps of neighbours between `a` and `b`.
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let width = b.len() + 1;
    let mut rows = vec![(0..width).collect::<Vec<usize>>()];
    for i in 1..=a.len() {
        let mut row = vec![i; width];
        for j in 1..width {
            let cost = usize::from(a[i - 1] != b[j - 1]);
            row[j] = (rows[i - 1][j] + 1).min(row[j - 1] + 1).min(rows[i - 1][j - 1] + cost);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                row[j] = row[j].min(rows[i - 2][j - 2] + 1);
            }
        }
        rows.push(row);
    }
    rows[a.len()][b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_of_the_keyboard_finds_the_key_that_was_meant() {
        let known = ["endpoint", "timeout", "sending_queue", "retry_on_failure", "tls"];
        let rows = [
            ("endpiont", Some("endpoint")),
            ("Timeout", Some("timeout")),
            ("sending-queue", Some("sending_queue")),
            ("sendingqueue", Some("sending_queue")),
            ("retry_on_failures", Some("retry_on_failure")),
            ("hostnames", None),
            ("", None),
        ];
        for (written, want) in rows {
            assert_eq!(did_you_mean(written, known), want, "{written}");
        }
    }

    #[test]
    fn a_notice_says_place_key_fault_and_remedy() {
        let mut log = Log::default();
        let file = log.add_source("a.yaml", true);
        let set = log.add_source("--set a.b=c", false);
        log.warn(At { source: set, line: 1, column: 1 }, "a::b", "odd", None);
        log.error(At { source: file, line: 3, column: 5 }, "a", "bad", Some("a: 1\na: 2".into()));
        assert!(log.has_errors());
        let report = Report { notices: log.into_notices() };
        let want = "a.yaml:3:5: error: a: bad\n    a: 1\n    a: 2\n--set a.b=c: warning: a::b: odd";
        assert_eq!(report.to_string(), want);
    }

    #[test]
    fn long_and_strange_texts_are_quoted_short() {
        assert_eq!(quote("a\nb"), r#""a\nb""#);
        assert!(quote(&"x".repeat(1000)).chars().count() < 90);
    }
}
