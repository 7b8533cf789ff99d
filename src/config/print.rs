//! The effective configuration as YAML. Readers record what they took (`read`), so every default
//! shows and nothing that had no effect does. Beside that, parts of a file as they were written.

use std::fmt::Write;

use super::scalar::{self, Scalar};
use super::tree::{Node, Value};

/// Printed in place of what may be secret.
pub const REDACTED: &str = "[REDACTED]";

/// A value as it took effect.
#[derive(Clone, Debug, PartialEq)]
pub enum Out {
    /// YAML of a scalar, complete.
    Scalar(String),
    /// A list.
    List(Vec<Self>),
    /// A map, in the order of reading.
    Map(Vec<(String, Self)>),
}

impl Out {
    /// Text, quoted where it has to be, so that it reads back as itself.
    #[must_use]
    pub fn text(text: &str) -> Self {
        Self::Scalar(yaml_text(text))
    }

    /// A number or boolean.
    #[must_use]
    pub fn plain(value: impl std::fmt::Display) -> Self {
        Self::Scalar(value.to_string())
    }

    /// Nothing: what takes effect follows from the machine or from other keys, as a comment says.
    #[must_use]
    pub fn left_out(comment: &str) -> Self {
        Self::Scalar(format!("null # {comment}"))
    }

    /// A list of texts.
    #[must_use]
    pub fn texts<'a>(texts: impl IntoIterator<Item = &'a str>) -> Self {
        Self::List(texts.into_iter().map(Self::text).collect())
    }

    /// A value as it stands in a file: nothing is expanded, so no secret comes to light.
    #[must_use]
    pub fn written(node: &Node) -> Self {
        match &node.value {
            Value::Null => Self::Scalar(String::new()),
            Value::Bool(b) => Self::plain(b),
            Value::Int(n) => Self::plain(n),
            Value::Float(x) if x.is_nan() => Self::plain(".nan"),
            Value::Float(x) if x.is_infinite() => {
                Self::plain(if *x > 0.0 { ".inf" } else { "-.inf" })
            }
            Value::Float(x) => Self::Scalar(format!("{x:?}")),
            Value::Text(text) => Self::Scalar(literal(text)),
            Value::List(items) => Self::List(items.iter().map(Self::written).collect()),
            Value::Map(map) => {
                Self::Map(map.iter().map(|e| (e.key.clone(), Self::written(&e.node))).collect())
            }
        }
    }

    /// Text as it stands: a dollar sign may begin a substitution.
    #[must_use]
    pub fn verbatim(text: &str) -> Self {
        Self::Scalar(literal(text))
    }

    /// A list of words in one line.
    #[must_use]
    pub fn line<'a>(words: impl IntoIterator<Item = &'a str>) -> Self {
        let words: Vec<String> = words.into_iter().map(literal).collect();
        Self::Scalar(format!("[{}]", words.join(", ")))
    }

    fn write(&self, indent: usize, out: &mut String) {
        let pad = "  ".repeat(indent);
        match self {
            Self::Scalar(text) if text.is_empty() => out.push('\n'),
            Self::Scalar(text) => _ = writeln!(out, " {text}"),
            Self::List(items) if items.is_empty() => out.push_str(" []\n"),
            Self::Map(entries) if entries.is_empty() => out.push_str(" {}\n"),
            Self::List(items) => {
                out.push('\n');
                for item in items {
                    let mut inner = String::new();
                    item.write(indent + 1, &mut inner);
                    // A map's first line moves up behind the dash.
                    let inner = match item {
                        Self::Scalar(_) => inner,
                        _ => format!(" {}", inner.trim_start()),
                    };
                    _ = write!(out, "{pad}-{inner}");
                }
            }
            Self::Map(entries) => {
                out.push('\n');
                for (key, value) in entries {
                    _ = write!(out, "{pad}{}:", literal(key));
                    value.write(indent + 1, out);
                }
            }
        }
    }
}

/// `root` as a YAML document.
#[must_use]
pub fn yaml(root: &Out) -> String {
    let mut out = String::new();
    root.write(0, &mut out);
    out.trim_start().to_owned()
}

fn yaml_text(text: &str) -> String {
    // A single dollar sign is doubled, or it could begin a substitution.
    literal(&text.replace('$', "$$"))
}

/// Without quotes some readers of YAML take it for a point in time.
fn is_like_a_date(text: &str) -> bool {
    let bytes = text.as_bytes();
    bytes.len() > 4 && bytes[..4].iter().all(u8::is_ascii_digit) && bytes[4] == b'-'
}

/// `text` as it stands, quoted where it has to be.
fn literal(text: &str) -> String {
    let safe = |c: char| c.is_ascii_alphanumeric() || "_-./:@+$()[]{}=".contains(c);
    let plain = !text.is_empty()
        && scalar::infer(text) == Scalar::Text
        && text.chars().all(safe)
        && !text.starts_with(['-', '[', ']', '@', ':', '{', '}', '='])
        && !text.ends_with(':')
        && !is_like_a_date(text)
        && !text.contains(": ");
    if plain {
        text.to_owned()
    } else if text.contains(['"', '\\']) && !text.contains(char::is_control) {
        format!("'{}'", text.replace('\'', "''"))
    } else {
        serde_json::Value::String(text.to_owned()).to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::super::tree;
    use super::*;

    #[test]
    fn texts_read_back_as_themselves() {
        let rows =
            ["a", "", "true", "5", "0x1", "a: b", "a#b", " a", "-", "\n", "\u{1}", "é", "[x", "a:"];
        for text in rows {
            let out = Out::Map(vec![("k".into(), Out::text(text))]);
            let tree = tree::parse(&yaml(&out), 0).unwrap().root;
            let Value::Map(map) = tree.value else { panic!() };
            assert_eq!(map.get("k").unwrap().value, Value::Text(text.into()), "{text:?}");
        }
    }

    #[test]
    fn what_is_written_reads_back_as_it_was() {
        let text = "a: ${env:X}:4317\nb: \"5\"\nc: 0x1F\nd: [1.50, true, null, '${env:Y}']\n\
                    e:\nf: 'x[\"k\"] == \"it''s\" \\d'\n'g $x': |\n  two\n  lines\nh: 1e99\n\
                    i: '2026-11-22'\n";
        let tree = tree::parse(text, 0).unwrap().root;
        let again = yaml(&Out::written(&tree));
        let second = tree::parse(&again, 0).unwrap().root;
        assert_eq!(Out::written(&second), Out::written(&tree), "{again}");
        assert!(again.starts_with("a: ${env:X}:4317\nb: \"5\"\nc: 31\n"), "{again}");
        assert!(again.contains("\ne:\n"), "{again}");
        assert!(again.ends_with("i: \"2026-11-22\"\n"), "{again}");
    }

    #[test]
    fn nested_values_are_laid_out_as_people_write_them() {
        let inner = Out::Map(vec![("x".into(), Out::plain(1)), ("y".into(), Out::List(vec![]))]);
        let out = Out::Map(vec![
            ("a".into(), Out::Map(vec![("b".into(), Out::texts(["c", "d"]))])),
            ("l".into(), Out::List(vec![inner])),
            ("e".into(), Out::Map(vec![])),
        ]);
        let want = "a:\n  b:\n    - c\n    - d\nl:\n  - x: 1\n    y: []\ne: {}\n";
        assert_eq!(yaml(&out), want);
    }
}
