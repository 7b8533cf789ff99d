//! Reads a pattern in Go's syntax and writes it in that of the `regex` crate.

use std::fmt::Write as _;

use super::{PatternError, classes};

/// Groups within groups.
pub(super) const DEPTH_MAX: u32 = 1000;
/// The largest count of a repetition, and of repetitions within each other together.
const REPEAT_MAX: u32 = 1000;

const DIGIT: &str = "0-9";
const SPACE: &str = r"\t\n\x0C\r ";
const WORD: &str = "0-9A-Za-z_";

/// A pattern in the crate's syntax.
#[derive(Debug)]
pub(super) struct Translated {
    pub(super) text: String,
    /// Names of the capturing groups, empty for those without one.
    pub(super) groups: Vec<String>,
}

/// What a group that is open knows of itself.
struct Group {
    /// Where it begins in the output, its parenthesis included.
    start: usize,
    /// The product of counts in it, at the deepest.
    repeats: u32,
}

struct Translator<'p> {
    pattern: &'p str,
    rest: &'p str,
    out: String,
    groups: Vec<String>,
    open: Vec<Group>,
    /// Flags that hold from the next item on. They are written late: a repetition after them is
    /// one of what stands before them.
    flags: String,
    /// Product of the counts in what a repetition would repeat; nothing if there is nothing.
    last: Option<u32>,
    /// The repetition that was just read, as it begins in the pattern.
    repeated: Option<&'p str>,
}

/// Translates the whole of `pattern`.
pub(super) fn translate(pattern: &str) -> Result<Translated, PatternError> {
    let mut t = Translator {
        pattern,
        rest: pattern,
        out: String::with_capacity(pattern.len() + 16),
        groups: Vec::new(),
        open: vec![Group { start: 0, repeats: 1 }],
        flags: String::new(),
        last: None,
        repeated: None,
    };
    while let Some(c) = t.rest.chars().next() {
        t.item(c)?;
    }
    if t.open.len() > 1 {
        return Err(PatternError::new("missing closing )", pattern));
    }
    Ok(Translated { text: t.out, groups: t.groups })
}

impl<'p> Translator<'p> {
    fn item(&mut self, c: char) -> Result<(), PatternError> {
        let repeated = self.repeated.take();
        let repeats = matches!(c, '*' | '+' | '?') || c == '{' && counts(self.rest).is_some();
        if !repeats {
            self.out.push_str(&std::mem::take(&mut self.flags));
        }
        match c {
            '(' => self.open_group()?,
            ')' => self.close_group()?,
            '|' => {
                self.take(1);
                self.out.push('|');
                self.last = None;
            }
            '*' | '+' | '?' => {
                let from = self.rest;
                self.take(1);
                self.repeat(from, repeated, &c.to_string(), 1)?;
            }
            '{' => self.counted(repeated)?,
            '^' | '$' | '.' => {
                self.take(1);
                self.out.push(c);
                self.operand();
            }
            '[' => {
                self.class()?;
                self.operand();
            }
            '\\' => self.escape()?,
            _ => {
                self.take(c.len_utf8());
                literal(&mut self.out, u32::from(c));
                self.operand();
            }
        }
        Ok(())
    }

    fn take(&mut self, bytes: usize) -> &'p str {
        let (taken, rest) = self.rest.split_at(bytes);
        self.rest = rest;
        taken
    }

    /// Something was written that can be repeated.
    fn operand(&mut self) {
        self.last = Some(1);
    }

    fn repeat(
        &mut self,
        from: &'p str,
        repeated: Option<&'p str>,
        operator: &str,
        count: u32,
    ) -> Result<(), PatternError> {
        let lazy = self.rest.starts_with('?');
        if lazy {
            self.take(1);
        }
        let read = &from[..from.len() - self.rest.len()];
        if let Some(before) = repeated {
            let both = &before[..before.len() - self.rest.len()];
            return Err(PatternError::new("invalid nested repetition operator", both));
        }
        let Some(inner) = self.last else {
            return Err(PatternError::new("missing argument to repetition operator", read));
        };
        let product = inner.saturating_mul(count.max(1));
        if product > REPEAT_MAX {
            return Err(PatternError::new("invalid repeat count", read));
        }
        self.out.push_str(operator);
        if lazy {
            self.out.push('?');
        }
        self.last = Some(product);
        self.note_repeats(product);
        self.repeated = Some(from);
        Ok(())
    }

    fn note_repeats(&mut self, product: u32) {
        if let Some(group) = self.open.last_mut() {
            group.repeats = group.repeats.max(product);
        }
    }

    /// `{n}`, `{n,}`, `{n,m}`; a brace that begins none of them is a character.
    fn counted(&mut self, repeated: Option<&'p str>) -> Result<(), PatternError> {
        let from = self.rest;
        let Some((min, max, len)) = counts(from) else {
            self.take(1);
            literal(&mut self.out, u32::from('{'));
            self.operand();
            return Ok(());
        };
        self.take(len);
        let too_many = |n: u32| n > REPEAT_MAX;
        if too_many(min) || max.is_some_and(|max| too_many(max) || max < min) {
            return Err(PatternError::new("invalid repeat count", &from[..len]));
        }
        let operator = match (max, from[..len].contains(',')) {
            (Some(max), _) => format!("{{{min},{max}}}"),
            (None, true) => format!("{{{min},}}"),
            (None, false) => format!("{{{min}}}"),
        };
        self.repeat(from, repeated, &operator, max.unwrap_or(min))
    }

    fn open_group(&mut self) -> Result<(), PatternError> {
        if self.open.len() > DEPTH_MAX as usize {
            return Err(PatternError::new("expression nests too deeply", self.pattern));
        }
        let start = self.out.len();
        if let Some(after) = self.rest.strip_prefix("(?") {
            if after.starts_with("P<") || after.starts_with('<') {
                self.named_group()?;
            } else if !self.flags()? {
                return Ok(());
            }
        } else {
            self.take(1);
            self.groups.push(String::new());
            self.out.push('(');
        }
        self.open.push(Group { start, repeats: 1 });
        self.last = None;
        Ok(())
    }

    fn named_group(&mut self) -> Result<(), PatternError> {
        let from = self.rest;
        let begin = if from.starts_with("(?P") { 4 } else { 3 };
        let Some(end) = from.find('>') else {
            return Err(PatternError::new("invalid named capture", from));
        };
        let name = &from[begin..end];
        if name.is_empty() || !name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_') {
            return Err(PatternError::new("invalid named capture", &from[..=end]));
        }
        self.take(end + 1);
        self.groups.push(name.to_owned());
        self.out.push('(');
        Ok(())
    }

    /// `(?flags)` and `(?flags:`; whether a group was opened.
    fn flags(&mut self) -> Result<bool, PatternError> {
        let from = self.rest;
        self.take(2);
        let (mut on, mut off) = (String::new(), String::new());
        let (mut negative, mut seen) = (false, false);
        loop {
            let Some(c) = self.rest.chars().next() else {
                return Err(PatternError::new("missing closing )", self.pattern));
            };
            self.take(c.len_utf8());
            match c {
                'i' | 'm' | 's' | 'U' => {
                    seen = true;
                    // a flag may be said twice, which the crate refuses; the last word counts
                    on.retain(|flag| flag != c);
                    off.retain(|flag| flag != c);
                    if negative { &mut off } else { &mut on }.push(c);
                }
                '-' if !negative => (negative, seen) = (true, false),
                ':' | ')' if !negative || seen => {
                    let minus = if off.is_empty() { "" } else { "-" };
                    if c == ':' {
                        let _ = write!(self.out, "(?{on}{minus}{off}:");
                    } else if seen {
                        let _ = write!(self.flags, "(?{on}{minus}{off})");
                    }
                    return Ok(c == ':');
                }
                _ => {
                    let read = &from[..from.len() - self.rest.len()];
                    return Err(PatternError::new("invalid or unsupported Perl syntax", read));
                }
            }
        }
    }

    fn close_group(&mut self) -> Result<(), PatternError> {
        if self.open.len() == 1 {
            return Err(PatternError::new("unexpected )", self.pattern));
        }
        self.take(1);
        self.out.push(')');
        let group = self.open.pop().expect("checked above");
        debug_assert!(group.start < self.out.len());
        self.last = Some(group.repeats);
        self.note_repeats(group.repeats);
        Ok(())
    }

    fn escape(&mut self) -> Result<(), PatternError> {
        let from = self.rest;
        let after = &from[1..];
        match after.chars().next() {
            None => return Err(PatternError::new("trailing backslash at end of expression", "")),
            Some('Q') => {
                let (quoted, rest) =
                    after[1..].split_once("\\E").unwrap_or_else(|| (&after[1..], ""));
                self.rest = rest;
                for c in quoted.chars() {
                    literal(&mut self.out, u32::from(c));
                    self.operand();
                }
                return Ok(());
            }
            Some('A') => self.take_as(r"\A"),
            Some('z') => self.take_as(r"\z"),
            Some('b') => self.take_as(r"(?-u:\b)"),
            Some('B') => self.take_as(r"(?-u:\B)"),
            Some('d' | 'D' | 's' | 'S' | 'w' | 'W') => {
                let class = perl_class(after).expect("one of these letters");
                self.take(2);
                self.out.push_str(&class);
            }
            Some('p' | 'P') => {
                let (class, len) = unicode_class(from)?;
                self.take(len);
                self.out.push_str(&class);
            }
            Some(_) => {
                let (c, len) = escaped(from)?;
                self.take(len);
                literal(&mut self.out, c);
            }
        }
        self.operand();
        Ok(())
    }

    fn take_as(&mut self, written: &str) {
        self.take(2);
        self.out.push_str(written);
    }

    /// `[...]`
    fn class(&mut self) -> Result<(), PatternError> {
        let from = self.rest;
        self.take(1);
        self.out.push('[');
        if self.rest.starts_with('^') {
            self.take(1);
            self.out.push('^');
        }
        let mut first = true;
        while first || !self.rest.starts_with(']') {
            if self.rest.is_empty() {
                return Err(PatternError::new("missing closing ]", from));
            }
            first = false;
            self.class_item(from)?;
        }
        self.take(1);
        self.out.push(']');
        Ok(())
    }

    fn class_item(&mut self, class: &'p str) -> Result<(), PatternError> {
        let from = self.rest;
        if let Some(end) = from.strip_prefix("[:").and_then(|name| name.find(":]")) {
            let item = &from[..end + 4];
            if !is_posix(&from[2..end + 2]) {
                return Err(PatternError::new("invalid character class range", item));
            }
            self.take(item.len());
            self.out.push_str(item);
            return Ok(());
        }
        if from.starts_with("\\p") || from.starts_with("\\P") {
            let (written, len) = unicode_class(from)?;
            self.take(len);
            self.out.push_str(&written);
            return Ok(());
        }
        if let Some(written) = from.strip_prefix('\\').and_then(perl_class) {
            self.take(2);
            self.out.push_str(&written);
            return Ok(());
        }
        let low = self.class_char(class)?;
        let mut high = low;
        let mut next = self.rest.chars();
        if next.next() == Some('-') && next.next().is_some_and(|c| c != ']') {
            self.take(1);
            high = self.class_char(class)?;
            if high < low {
                let range = &from[..from.len() - self.rest.len()];
                return Err(PatternError::new("invalid character class range", range));
            }
        }
        // a surrogate is no character of a text
        let low = if (0xd800..0xe000).contains(&low) { 0xe000 } else { low };
        let high = if (0xd800..0xe000).contains(&high) { 0xd7ff } else { high };
        if low <= high {
            let _ = write!(self.out, "\\x{{{low:x}}}-\\x{{{high:x}}}");
        } else {
            self.out.push_str(NEVER);
        }
        Ok(())
    }

    fn class_char(&mut self, class: &'p str) -> Result<u32, PatternError> {
        match self.rest.chars().next() {
            None => Err(PatternError::new("missing closing ]", class)),
            Some('\\') => {
                let (c, len) = escaped(self.rest)?;
                self.take(len);
                Ok(c)
            }
            Some(c) => {
                self.take(c.len_utf8());
                Ok(u32::from(c))
            }
        }
    }
}

/// A class that holds nothing.
const NEVER: &str = r"[^\x00-\x{10ffff}]";

fn literal(out: &mut String, c: u32) {
    match char::from_u32(c) {
        Some(c) if c.is_alphanumeric() => out.push(c),
        Some(c) => {
            let _ = write!(out, "\\x{{{:x}}}", u32::from(c));
        }
        None => out.push_str(NEVER),
    }
}

/// The numbers of a counted repetition and its length, if `text` begins with one. Numbers too
/// long to be read are too large.
fn counts(text: &str) -> Option<(u32, Option<u32>, usize)> {
    let end = text.find('}')?;
    let inner = &text[1..end];
    let (min, max) = inner.split_once(',').map_or((inner, None), |(min, max)| (min, Some(max)));
    let number = |digits: &str| {
        let leading_zero = digits.len() > 1 && digits.starts_with('0');
        let plain = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
        (plain && !leading_zero).then(|| digits.parse().unwrap_or(u32::MAX))
    };
    let min = number(min)?;
    let max = match max {
        None | Some("") => None,
        Some(max) => Some(number(max)?),
    };
    Some((min, max, end + 1))
}

/// `d`, `s`, `w` and their opposites, as a class that may stand within another.
fn perl_class(after: &str) -> Option<String> {
    let letter = after.chars().next()?;
    let members = match letter.to_ascii_lowercase() {
        'd' => DIGIT,
        's' => SPACE,
        'w' => WORD,
        _ => return None,
    };
    let negated = if letter.is_ascii_uppercase() { "^" } else { "" };
    Some(format!("[{negated}{members}]"))
}

/// `\pL`, `\p{Greek}`, `\P…`, `\p{^…}` and how long it is.
fn unicode_class(from: &str) -> Result<(String, usize), PatternError> {
    let mut negated = from.starts_with("\\P");
    let invalid = |part: &str| PatternError::new("invalid character class range", part);
    let after = &from[2..];
    let (mut name, len) = match after.chars().next() {
        None => return Err(invalid(from)),
        Some('{') => {
            let end = after.find('}').ok_or_else(|| invalid(from))?;
            (&after[1..end], 2 + end + 1)
        }
        Some(c) => (&after[..c.len_utf8()], 2 + c.len_utf8()),
    };
    if let Some(rest) = name.strip_prefix('^') {
        (name, negated) = (rest, !negated);
    }
    let item = &from[..len];
    let written = classes::unicode(name, negated).ok_or_else(|| invalid(item))?;
    Ok((written, len))
}

fn is_posix(name: &str) -> bool {
    let name = name.strip_prefix('^').unwrap_or(name);
    [
        "alnum", "alpha", "ascii", "blank", "cntrl", "digit", "graph", "lower", "print", "punct",
        "space", "upper", "word", "xdigit",
    ]
    .contains(&name)
}

/// The character that an escape stands for and how long it is.
fn escaped(from: &str) -> Result<(u32, usize), PatternError> {
    let mut after = from[1..].chars();
    let Some(c) = after.next() else {
        return Err(PatternError::new("trailing backslash at end of expression", ""));
    };
    let invalid =
        |len: usize| PatternError::new("invalid escape sequence", from.get(..len).unwrap_or(from));
    let rest = after.as_str();
    let is_octal = |b: &u8| (b'0'..=b'7').contains(b);
    let simple = |code: u32| Ok((code, 2));
    match c {
        '0'..='7' if c == '0' || rest.as_bytes().first().is_some_and(is_octal) => {
            let more = rest.bytes().take(2).take_while(is_octal).count();
            let digits = &from[1..2 + more];
            Ok((u32::from_str_radix(digits, 8).unwrap_or(0), 1 + digits.len()))
        }
        'x' if rest.starts_with('{') => {
            let end = rest.find('}').ok_or_else(|| invalid(from.len()))?;
            let len = 2 + end + 1;
            let code = u32::from_str_radix(&rest[1..end], 16).map_err(|_| invalid(len))?;
            if code > 0x0010_ffff || rest[1..end].starts_with('+') {
                return Err(invalid(len));
            }
            Ok((code, len))
        }
        'x' => {
            let digits = rest.get(..2).filter(|d| d.bytes().all(|b| b.is_ascii_hexdigit()));
            let digits = digits.ok_or_else(|| invalid(from.len().min(4)))?;
            Ok((u32::from_str_radix(digits, 16).unwrap_or(0), 4))
        }
        'a' => simple(7),
        'f' => simple(12),
        'n' => simple(10),
        'r' => simple(13),
        't' => simple(9),
        'v' => simple(11),
        _ if c.is_ascii() && !c.is_ascii_alphanumeric() => simple(u32::from(c)),
        _ => Err(invalid(1 + c.len_utf8())),
    }
}
