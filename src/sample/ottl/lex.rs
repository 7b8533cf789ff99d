//! Tokens of a condition (tailsampling 7.1). The first rule that fits counts, not the longest, so
//! `1.` is a float and `nilX` two words; white space only separates.

use super::error::CompileError;

/// What a token is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Bytes,
    Float,
    Int,
    String,
    Nil,
    Not,
    Or,
    And,
    Comparison,
    AddSub,
    MultDiv,
    Boolean,
    Equal,
    Upper,
    Lower,
    /// One character, among them brackets, comma, dot and colon.
    Punct(u8),
    End,
}

/// A token and where it stands.
#[derive(Clone, Debug)]
pub(super) struct Token<'t> {
    pub(super) kind: Kind,
    pub(super) text: &'t str,
    /// Bytes before it.
    pub(super) offset: usize,
}

/// The tokens of `text`, with one for its end.
pub(super) fn tokens(text: &str) -> Result<Vec<Token<'_>>, CompileError> {
    let mut tokens = Vec::new();
    let mut offset = 0;
    while offset < text.len() {
        let rest = &text[offset..];
        let space = rest.len() - rest.trim_start_matches(is_space).len();
        if space > 0 {
            offset += space;
            continue;
        }
        let Some((kind, len)) = token(rest) else {
            let what = format!("lexer: invalid input text {:?}", snippet(rest));
            return Err(CompileError::lexical(text, offset, &what));
        };
        tokens.push(Token { kind, text: &rest[..len], offset });
        offset += len;
    }
    tokens.push(Token { kind: Kind::End, text: "", offset });
    Ok(tokens)
}

fn is_space(c: char) -> bool {
    matches!(c, '\t' | '\n' | '\x0c' | '\r' | ' ')
}

/// The beginning of `text`, short enough for a message.
fn snippet(text: &str) -> String {
    let short: String = text.chars().take(16).collect();
    if short.len() < text.len() { short + "..." } else { short }
}

fn token(rest: &str) -> Option<(Kind, usize)> {
    let bytes = rest.as_bytes();
    let number = || number(bytes);
    let bytes_literal = || {
        let digits = rest.strip_prefix("0x")?;
        let len = count(digits.as_bytes(), u8::is_ascii_hexdigit);
        (len > 0).then_some((Kind::Bytes, 2 + len))
    };
    bytes_literal().or_else(number).or_else(|| string(rest)).or_else(|| word(bytes)).or_else(|| {
        let two = bytes.get(..2).unwrap_or_default();
        match (bytes[0], two) {
            (_, b"==" | b"!=" | b">=" | b"<=") => Some((Kind::Comparison, 2)),
            (b'>' | b'<', _) => Some((Kind::Comparison, 1)),
            (b'+' | b'-', _) => Some((Kind::AddSub, 1)),
            (b'*' | b'/', _) => Some((Kind::MultDiv, 1)),
            (b'=', _) => Some((Kind::Equal, 1)),
            (c @ (b'(' | b')' | b'{' | b'}' | b':' | b',' | b'.' | b'[' | b']'), _) => {
                Some((Kind::Punct(c), 1))
            }
            _ => None,
        }
    })
}

fn count(bytes: &[u8], is: impl Fn(&u8) -> bool) -> usize {
    bytes.iter().take_while(|b| is(b)).count()
}

/// `1.`, `1.5e3`, `.5` and `12`.
fn number(bytes: &[u8]) -> Option<(Kind, usize)> {
    let whole = count(bytes, u8::is_ascii_digit);
    if bytes.get(whole) == Some(&b'.') {
        let fraction = count(&bytes[whole + 1..], u8::is_ascii_digit);
        if whole + fraction > 0 {
            let len = whole + 1 + fraction;
            return Some((Kind::Float, len + exponent(&bytes[len..])));
        }
    }
    (whole > 0).then_some((Kind::Int, whole))
}

fn exponent(bytes: &[u8]) -> usize {
    if !matches!(bytes.first(), Some(b'e' | b'E')) {
        return 0;
    }
    let sign = usize::from(matches!(bytes.get(1), Some(b'+' | b'-')));
    match count(&bytes[1 + sign..], u8::is_ascii_digit) {
        0 => 0,
        digits => 1 + sign + digits,
    }
}

/// A string with its quotes; a backslash takes the next character with it, unless that is a line
/// feed.
fn string(rest: &str) -> Option<(Kind, usize)> {
    let mut chars = rest.char_indices();
    (chars.next()?.1 == '"').then_some(())?;
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return Some((Kind::String, at + 1)),
            '\\' if chars.next()?.1 == '\n' => return None,
            _ => {}
        }
    }
    None
}

fn word(bytes: &[u8]) -> Option<(Kind, usize)> {
    let is_word = |b: &u8| b.is_ascii_alphanumeric() || *b == b'_';
    let keyword = match &bytes[..count(bytes, is_word)] {
        b"nil" => Some(Kind::Nil),
        b"not" => Some(Kind::Not),
        b"or" => Some(Kind::Or),
        b"and" => Some(Kind::And),
        b"true" | b"false" => Some(Kind::Boolean),
        _ => None,
    };
    let lower = |b: &u8| b.is_ascii_lowercase() || b.is_ascii_digit() || *b == b'_';
    let upper = |b: &u8| b.is_ascii_uppercase() || b.is_ascii_digit() || *b == b'_';
    match (keyword, bytes[0]) {
        (Some(keyword), _) => Some((keyword, count(bytes, is_word))),
        (None, b'A'..=b'Z') => Some((Kind::Upper, count(bytes, upper))),
        (None, b'a'..=b'z') => Some((Kind::Lower, count(bytes, lower))),
        _ => None,
    }
}

/// The text between the quotes of a string token, its escapes read by Go's rules.
pub(super) fn unquote(token: &str) -> Option<String> {
    let mut out = String::with_capacity(token.len());
    let mut rest = token.get(1..token.len().checked_sub(1)?)?;
    while let Some(c) = rest.chars().next() {
        if c != '\\' {
            out.push(c);
            rest = &rest[c.len_utf8()..];
            continue;
        }
        let escape = *rest.as_bytes().get(1)?;
        let simple = match escape {
            b'a' => Some('\x07'),
            b'b' => Some('\x08'),
            b'f' => Some('\x0c'),
            b'n' => Some('\n'),
            b'r' => Some('\r'),
            b't' => Some('\t'),
            b'v' => Some('\x0b'),
            b'\\' => Some('\\'),
            b'"' => Some('"'),
            _ => None,
        };
        let (c, len) = match (simple, escape) {
            (Some(c), _) => (c, 2),
            (None, b'x') => (code(rest.get(2..4)?, 16)?, 4),
            (None, b'u') => (code(rest.get(2..6)?, 16)?, 6),
            (None, b'U') => (code(rest.get(2..10)?, 16)?, 10),
            (None, b'0'..=b'7') => {
                let c = code(rest.get(1..4)?, 8)?;
                ((u32::from(c) < 256).then_some(c)?, 4)
            }
            _ => return None,
        };
        out.push(c);
        rest = &rest[len..];
    }
    Some(out)
}

fn code(digits: &str, radix: u32) -> Option<char> {
    let plain = digits.bytes().all(|b| b.is_ascii_hexdigit());
    char::from_u32(u32::from_str_radix(digits, radix).ok().filter(|_| plain)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_rule_that_fits_counts() {
        let kinds = |text| -> Vec<Kind> { tokens(text).unwrap().iter().map(|t| t.kind).collect() };
        use Kind::{AddSub, Boolean, Bytes, Comparison, End, Float, Int, Lower, Nil, Upper};
        assert_eq!(kinds("1. .5 1.5e-3 12"), [Float, Float, Float, Int, End]);
        assert_eq!(kinds("0xAb 0x"), [Bytes, Int, Lower, End]);
        assert_eq!(kinds("nil nilX trueish"), [Nil, Lower, Upper, Lower, End]);
        assert_eq!(kinds("a>=-1 true"), [Lower, Comparison, AddSub, Int, Boolean, End]);
        assert_eq!(kinds("IsMatch"), [Upper, Lower, Upper, Lower, End]);
        assert!(tokens("'a'").is_err());
        assert!(tokens("\"a").is_err());
    }

    #[test]
    fn strings_are_unquoted_as_in_go() {
        let table = [
            (r#""a\"b\\""#, Some("a\"b\\")),
            (r#""\d""#, None),
            (r#""\xff\u00e9\101""#, Some("\u{ff}éA")),
            (r#""\400""#, None),
            (r#""\ud800""#, None),
            (r#""\'""#, None),
            ("\"a\nb\"", Some("a\nb")),
        ];
        for (token, want) in table {
            assert_eq!(unquote(token).as_deref(), want, "{token}");
        }
    }
}
