//! Ids: `type` or `type/name`, for components and, with a signal as type, for pipelines
//! (configs 5, otlp 4.1).

use std::fmt;

use crate::otlp::Signal;

const TYPE_BYTES_MAX: usize = 63;
const NAME_CHARS_MAX: usize = 1024;

/// `type` or `type/name`, without blanks around the parts.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Id {
    /// The part before the slash.
    pub kind: String,
    /// The part behind it; empty if there is none.
    pub name: String,
}

impl Id {
    /// Reads an id.
    ///
    /// # Errors
    /// What is wrong, in words.
    pub fn parse(text: &str) -> Result<Self, String> {
        let (kind, name) = match text.split_once('/') {
            Some((kind, name)) => (kind.trim(), Some(name.trim())),
            None => (text.trim(), None),
        };
        let mut bytes = kind.bytes();
        let kind_ok = kind.len() <= TYPE_BYTES_MAX
            && bytes.next().is_some_and(|b| b.is_ascii_alphabetic())
            && bytes.all(|b| b.is_ascii_alphanumeric() || b == b'_');
        if !kind_ok {
            return Err("the type begins with a letter and has letters, digits and _ only".into());
        }
        let name = name.map_or(Ok(""), |name| match name {
            "" => Err("the name behind / is empty"),
            name if name.chars().count() > NAME_CHARS_MAX => Err("the name is too long"),
            name if !name.chars().all(is_name_char) => {
                Err("the name holds a blank, a symbol or a control character")
            }
            name => Ok(name),
        })?;
        Ok(Self { kind: kind.to_owned(), name: name.to_owned() })
    }

    /// The signal of a pipeline's id.
    #[must_use]
    pub fn signal(&self) -> Option<Signal> {
        Signal::ALL.into_iter().find(|s| s.name() == self.kind)
    }
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.kind)?;
        if !self.name.is_empty() {
            write!(f, "/{}", self.name)?;
        }
        Ok(())
    }
}

/// Not a separator, control character or symbol of Unicode; symbols beyond ASCII are let through.
fn is_name_char(c: char) -> bool {
    !(c.is_whitespace() || c.is_control() || "$+<=>^`|~".contains(c))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_a_type_and_perhaps_a_name() {
        let rows = [
            ("otlp", Ok("otlp")),
            (" otlp / edge ", Ok("otlp/edge")),
            ("otlp/2", Ok("otlp/2")),
            ("otlp/a/b", Ok("otlp/a/b")),
            ("otlp/", Err("empty")),
            ("/x", Err("type")),
            ("", Err("type")),
            ("1otlp", Err("type")),
            ("ot-lp", Err("type")),
            ("${env:K}", Err("type")),
            ("otlp/a b", Err("blank")),
            ("otlp/a$", Err("symbol")),
        ];
        for (text, want) in rows {
            match (Id::parse(text), want) {
                (Ok(id), Ok(want)) => assert_eq!(id.to_string(), want, "{text}"),
                (Err(got), Err(want)) => assert!(got.contains(want), "{text}: {got}"),
                (got, _) => panic!("{text}: {got:?}"),
            }
        }
    }
}
