//! Substitution: `${env:NAME}`, `${NAME}`, `${env:NAME:-text}`, `${file:path}`, `${yaml:text}`
//! (configs 3). Only values are expanded, at any depth, after all sources are merged.
//!
//! A value that is one whole substitution is read as YAML and keeps its text beside
//! ([`Node::original`]); a part of a longer text is pasted. What comes out is expanded again, under
//! limits of steps, length and depth, so that no environment can hang the loader.

use std::fs::File;
use std::io::Read;

use super::report::{Log, quote};
use super::tree::{self, Node, Value};

/// Substitutions in all of a configuration.
const STEPS_MAX: usize = 10_000;
/// Rounds of one value, as in the collector.
const ROUNDS_MAX: usize = 1_000;
/// Bytes of one value after substitution.
const TEXT_BYTES_MAX: usize = 4 << 20;
/// Bytes that substitution makes in all.
const MADE_BYTES_MAX: usize = 64 << 20;

/// Looks up environment variables.
pub type Env<'a> = &'a dyn Fn(&str) -> Option<String>;

/// Expands all values below `root`; what fails is reported and left as it was.
pub fn expand(root: &mut Node, env: Env<'_>, log: &Log) {
    let mut expansion = Expansion { env, log, steps: 0, made_bytes: 0, exhausted: false };
    expansion.node(root, "", 0);
}

struct Expansion<'a> {
    env: Env<'a>,
    log: &'a Log,
    steps: usize,
    made_bytes: usize,
    exhausted: bool,
}

/// What stands behind one `${…}`.
struct Retrieved {
    value: Value,
    text: String,
}

impl Expansion<'_> {
    fn node(&mut self, node: &mut Node, path: &str, depth: usize) {
        if depth > tree::DEPTH_MAX {
            self.exhaust(node, path, "substitution nests too deep");
            return;
        }
        if let Value::Text(text) = &node.value
            && text.contains("${")
            && text.contains('}')
            && !self.exhausted
        {
            let text = text.clone();
            if let Err(what) = self.text(node, text, path) {
                self.log.error(node.at, path, what, None);
                return;
            }
        }
        match &mut node.value {
            Value::Text(text) => unescape(text),
            Value::List(items) => {
                for (i, item) in items.iter_mut().enumerate() {
                    self.node(item, &format!("{path}[{i}]"), depth + 1);
                }
            }
            Value::Map(map) => {
                let keys: Vec<String> = map.iter().map(|e| join(path, &e.key)).collect();
                for (child, key) in map.iter_mut().zip(keys) {
                    self.node(child, &key, depth + 1);
                }
            }
            _ => {}
        }
        if let Some(original) = &mut node.original {
            unescape(original);
        }
    }

    /// Expands `text` until nothing is left to expand, and sets `node` to the result.
    fn text(&mut self, node: &mut Node, mut text: String, path: &str) -> Result<(), String> {
        for _ in 0..ROUNDS_MAX {
            let Some(uri) = find_uri(&text).map(str::to_owned) else {
                node.value = Value::Text(text);
                return Ok(());
            };
            let whole = uri == text;
            let retrieved = self.retrieve(&uri, node, path)?;
            if !whole {
                let grown = text.len() + text.matches(&uri).count() * retrieved.text.len();
                self.made(grown)?;
                text = text.replace(&uri, &retrieved.text);
                node.original = None;
                continue;
            }
            self.made(retrieved.text.len())?;
            node.original = Some(retrieved.text.clone());
            match retrieved.value {
                Value::Text(next) => text = next,
                value => {
                    node.value = value;
                    // Everything in it stands where the substitution stands.
                    node.set_places(node.at);
                    return Ok(());
                }
            }
        }
        Err(format!("still not expanded after {ROUNDS_MAX} rounds: does it refer to itself?"))
    }

    fn retrieve(&mut self, uri: &str, node: &Node, path: &str) -> Result<Retrieved, String> {
        self.steps += 1;
        if self.steps > STEPS_MAX {
            self.exhausted = true;
            return Err(format!("more than {STEPS_MAX} substitutions"));
        }
        let inner = &uri[2..uri.len() - 1];
        let (scheme, rest) = inner.split_once(':').unwrap_or(("env", inner));
        if !is_scheme(scheme) {
            return Err(format!("{} is not a substitution: {}", quote(uri), hint(inner)));
        }
        if rest.contains('$') {
            return Err(format!("{} holds a '$', which is not supported", quote(uri)));
        }
        match scheme {
            "env" => self.variable(rest, node, path),
            "file" => file(rest).map(|text| read(&text)),
            "yaml" => Ok(read(rest)),
            other => Err(format!("scheme {} is not supported: {}", quote(other), hint(inner))),
        }
    }

    fn variable(&mut self, rest: &str, node: &Node, path: &str) -> Result<Retrieved, String> {
        let (name, default) = match rest.split_once(":-") {
            Some((name, default)) => (name, Some(default)),
            None => (rest, None),
        };
        if !is_variable_name(name) {
            return Err(format!(
                "{} is no name of a variable (a letter or _, then letters, digits, _)",
                quote(name)
            ));
        }
        match ((self.env)(name), default) {
            (Some(text), _) => Ok(read(&text)),
            // An empty default is an empty text, not nothing.
            (None, Some("")) => {
                Ok(Retrieved { value: Value::Text(String::new()), text: String::new() })
            }
            (None, Some(text)) => Ok(read(text)),
            (None, None) => {
                self.log.warn(
                    node.at,
                    path,
                    format!(
                        "variable {name} is not set: it is taken as empty, which for a number is \
                         0, not the default"
                    ),
                    Some(format!("${{env:{name}:-value}}")),
                );
                Ok(read(""))
            }
        }
    }

    fn made(&mut self, bytes: usize) -> Result<(), String> {
        self.made_bytes = self.made_bytes.saturating_add(bytes);
        if bytes > TEXT_BYTES_MAX || self.made_bytes > MADE_BYTES_MAX {
            self.exhausted = true;
            return Err("substitution makes too much text".into());
        }
        Ok(())
    }

    fn exhaust(&mut self, node: &Node, path: &str, what: &str) {
        if !self.exhausted {
            self.log.error(node.at, path, what, None);
        }
        self.exhausted = true;
    }
}

/// A retrieved text as a value: YAML, except that text stays as it was, quotes included.
fn read(text: &str) -> Retrieved {
    let value = match tree::parse(text, 0) {
        Ok(document) => match document.root.value {
            Value::Text(_) => Value::Text(text.to_owned()),
            value => value,
        },
        Err(_) => Value::Text(text.to_owned()),
    };
    Retrieved { value, text: text.to_owned() }
}

fn file(path: &str) -> Result<String, String> {
    let fail = |e: std::io::Error| format!("cannot read {}: {e}", quote(path));
    if !std::fs::metadata(path).map_err(fail)?.is_file() {
        return Err(format!("{} is not a file", quote(path)));
    }
    let mut text = String::new();
    let limit = u64::try_from(TEXT_BYTES_MAX).unwrap_or(u64::MAX);
    let read = File::open(path).map_err(fail)?.take(limit + 1).read_to_string(&mut text);
    if read.map_err(fail)? > TEXT_BYTES_MAX {
        return Err(format!("{} is larger than {} MiB", quote(path), TEXT_BYTES_MAX >> 20));
    }
    Ok(text)
}

/// The first `${…}` that is not escaped by an odd number of `$` before it, innermost first.
fn find_uri(input: &str) -> Option<&str> {
    let mut rest = input;
    loop {
        let close = rest.find('}')?;
        if let Some(open) = rest[..close].rfind("${") {
            let before = rest.as_bytes()[..open].iter().rev();
            if before.take_while(|&&b| b == b'$').count() % 2 == 0 {
                return Some(&rest[open..=close]);
            }
        }
        rest = &rest[close + 1..];
    }
}

fn unescape(text: &mut String) {
    if text.contains("$$") {
        *text = text.replace("$$", "$");
    }
}

fn is_scheme(text: &str) -> bool {
    let mut bytes = text.bytes();
    text.len() >= 2
        && bytes.next().is_some_and(|b| b.is_ascii_alphabetic())
        && bytes.all(|b| b.is_ascii_alphanumeric() || b"+.-".contains(&b))
}

fn is_variable_name(text: &str) -> bool {
    let mut bytes = text.bytes();
    bytes.next().is_some_and(|b| b.is_ascii_alphabetic() || b == b'_')
        && bytes.all(|b| b.is_ascii_alphanumeric() || b == b'_')
}

fn hint(inner: &str) -> String {
    if inner.contains(":-") {
        format!("a default needs the scheme, ${{env:{inner}}}")
    } else {
        "known are ${env:NAME}, ${file:path} and ${yaml:text}".into()
    }
}

fn join(path: &str, key: &str) -> String {
    if path.is_empty() { key.to_owned() } else { format!("{path}::{key}") }
}

#[cfg(test)]
mod tests {
    use super::super::report::At;
    use super::*;

    fn env(name: &str) -> Option<String> {
        let value = match name {
            "A" => "alpha",
            "N" => "5",
            "OCT" => "0123",
            "T" => "true",
            "Q" => "\"5\"",
            "EMPTY" => "",
            "NEST" => "${env:A}!",
            "WHOLE" => "${env:N}",
            "LIST" => "[x, '${env:A}', 3]",
            "LOOP" => "${env:LOOP}",
            "BOMB" => "${env:BOMB}${env:BOMB}",
            "DEEP" => "[\"${env:DEEP}\", \"${env:DEEP}\"]",
            "DOLLAR" => "a$$b",
            _ => return None,
        };
        Some(value.into())
    }

    fn expanded(text: &str) -> (Node, Vec<String>) {
        let mut log = Log::default();
        log.add_source("t", true);
        let at = At { source: 0, line: 1, column: 1 };
        let mut node = Node::new(at, Value::Text(text.into()));
        expand(&mut node, &env, &log);
        (node, log.into_notices().into_iter().map(|n| n.what).collect())
    }

    #[test]
    fn text_is_substituted_as_the_collector_does() {
        let rows = [
            ("${env:A}", "alpha"),
            ("${A}", "alpha"),
            ("x${env:A}y", "xalphay"),
            ("x${env:N}y", "x5y"),
            ("${env:U:-dflt}", "dflt"),
            ("${env:U:-a:-b}", "a:-b"),
            ("${env:U:-${env:A}}", "alpha"),
            ("${env:U:-}", ""),
            ("a${env:EMPTY:-x}b", "ab"),
            ("${env:NEST}", "alpha!"),
            ("${env:Q}", "\"5\""),
            ("$A", "$A"),
            ("$(A)", "$(A)"),
            ("^a$", "^a$"),
            ("$$", "$"),
            ("$${env:A}", "${env:A}"),
            ("$$$X", "$$X"),
            ("$$${env:A}", "$alpha"),
            ("${env:A", "${env:A"),
            ("${env:DOLLAR}", "a$b"),
        ];
        for (text, want) in rows {
            let (node, notices) = expanded(text);
            assert_eq!(node.value, Value::Text(want.into()), "{text}");
            assert_eq!(notices, Vec::<String>::new(), "{text}");
        }
    }

    #[test]
    fn a_whole_substitution_is_typed_and_keeps_its_text() {
        let rows = [
            ("${env:N}", Value::Int(5), "5"),
            ("${env:OCT}", Value::Int(83), "0123"),
            ("${env:T}", Value::Bool(true), "true"),
            ("${env:WHOLE}", Value::Int(5), "5"),
            ("${env:EMPTY}", Value::Null, ""),
            ("${yaml:1.50}", Value::Float(1.5), "1.50"),
        ];
        for (text, want, original) in rows {
            let (node, _) = expanded(text);
            assert_eq!(node.value, want, "{text}");
            assert_eq!(node.original.as_deref(), Some(original), "{text}");
        }
        let (node, _) = expanded("${env:LIST}");
        let Value::List(items) = node.value else { panic!("{node:?}") };
        assert_eq!(items[1].value, Value::Text("alpha".into()));
        assert_eq!(items[2].value, Value::Int(3));
    }

    #[test]
    fn what_cannot_be_substituted_is_an_error() {
        let rows = [
            ("${NAME:-x}", "scheme \"NAME\" is not supported: a default needs the scheme"),
            ("${A_B:-x}", "is not a substitution: a default needs the scheme"),
            ("${vault:x}", "scheme \"vault\" is not supported"),
            ("${env:1A}", "is no name of a variable"),
            ("${env:}", "is no name of a variable"),
            ("${file:/nonexistent/x}", "cannot read"),
            ("${file:/dev/zero}", "is not a file"),
            ("${env:LOOP}", "does it refer to itself"),
            ("${env:BOMB}", "too much text"),
            ("${env:DEEP}", "nests too deep"),
        ];
        for (text, want) in rows {
            let (_, notices) = expanded(text);
            assert!(notices.iter().any(|n| n.contains(want)), "{text}: {notices:?}");
        }
    }

    #[test]
    fn an_unset_variable_warns_and_gives_nothing() {
        let (node, notices) = expanded("${env:U}");
        assert_eq!((node.value, node.original.as_deref()), (Value::Null, Some("")));
        assert!(notices[0].contains("variable U is not set"), "{notices:?}");
    }
}
