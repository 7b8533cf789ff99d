//! Values of a [`Block`]: numbers, texts, durations, lists of them. Each reader takes a key and
//! what an absent key means, checks the type, and records what took effect.

use std::time::Duration;

use super::Block;
use crate::config::print::{Out, REDACTED};
use crate::config::report::{At, quote};
use crate::config::scalar::{self, show_duration};
use crate::config::tree::{Node, Value};

impl<'a> Block<'a> {
    /// Names and values of any scalar type, values as text.
    pub fn pairs(&mut self, key: &'static str) -> Vec<(String, String)> {
        let pairs = self.open(key, |b| {
            let rest = b.rest();
            rest.into_iter().map(|(name, node)| (name, loose_text(node))).collect::<Vec<_>>()
        });
        let show = |(name, value): &(String, String)| (name.clone(), Out::text(value));
        self.record(key, Out::Map(pairs.iter().map(show).collect()));
        pairs
    }

    /// The value of `key` as text, whatever its type.
    pub fn scalar_text(&mut self, key: &'static str) -> String {
        let text = self.node(key).map(loose_text).unwrap_or_default();
        self.record(key, Out::text(&text));
        text
    }

    /// Whole numbers below `below`.
    pub fn numbers(&mut self, key: &'static str, below: u32) -> Vec<usize> {
        let items = match self.node(key).map(|n| &n.value) {
            None | Some(Value::Null) => return Vec::new(),
            Some(Value::List(items)) => items,
            Some(_) => return self.wrong_type(key, "a list of whole numbers", Vec::new()),
        };
        let mut numbers = Vec::new();
        for item in items {
            match item.value {
                Value::Int(n) if (0..i128::from(below)).contains(&n) => {
                    numbers.push(usize::try_from(n).unwrap_or(0));
                }
                _ => self.log.error(
                    item.at,
                    &self.path_of(key),
                    format!("wants whole numbers from 0 to {}", below - 1),
                    None,
                ),
            }
        }
        self.record(key, Out::List(numbers.iter().map(Out::plain).collect()));
        numbers
    }

    /// Whether `key` is a list with something in it.
    pub fn has_items(&mut self, key: &'static str) -> bool {
        matches!(self.node(key).map(|n| &n.value), Some(Value::List(items)) if !items.is_empty())
    }

    /// Whether the value of `key` is a bare whole number.
    pub fn is_int(&mut self, key: &'static str) -> bool {
        self.node(key).is_some_and(|n| matches!(n.value, Value::Int(_)) && n.original.is_none())
    }

    /// A whole number.
    pub fn signed(&mut self, key: &'static str, default: i64) -> i64 {
        let n = self.int(key, i128::from(default), i64::MIN.into(), i64::MAX.into());
        i64::try_from(n).unwrap_or(default)
    }

    /// A whole number from 0.
    pub fn unsigned(&mut self, key: &'static str, default: u64) -> u64 {
        let n = self.int(key, default.into(), 0, u64::MAX.into());
        u64::try_from(n).unwrap_or(default)
    }

    /// A whole number from 0 to 2³² − 1.
    pub fn unsigned32(&mut self, key: &'static str, default: u32) -> u32 {
        let n = self.int(key, default.into(), 0, u32::MAX.into());
        u32::try_from(n).unwrap_or(default)
    }

    /// A whole number from −2³¹ to 2³¹ − 1.
    pub fn signed32(&mut self, key: &'static str, default: i32) -> i32 {
        let n = self.int(key, default.into(), i32::MIN.into(), i32::MAX.into());
        i32::try_from(n).unwrap_or(default)
    }

    fn int(&mut self, key: &'static str, default: i128, min: i128, max: i128) -> i128 {
        let n = match self.node(key).map(|n| &n.value) {
            None => default,
            Some(Value::Null) => 0,
            Some(Value::Int(n)) => *n,
            // As in the collector, a negative number is none that has been cut (configs 4).
            Some(Value::Float(x)) if min == 0 && *x < 0.0 => -1,
            // Cut towards zero.
            #[expect(clippy::cast_possible_truncation, reason = "saturates")]
            Some(Value::Float(x)) => *x as i128,
            Some(_) => self.wrong_type(key, "a whole number", default),
        };
        let n = if (min..=max).contains(&n) {
            n
        } else {
            self.type_error_at(key, format!("{n} is out of range ({min} to {max})"), "");
            default
        };
        self.record(key, Out::plain(n));
        n
    }

    /// A number.
    pub fn float(&mut self, key: &'static str, default: f64) -> f64 {
        let x = match self.node(key).map(|n| &n.value) {
            None => default,
            Some(Value::Null) => 0.0,
            #[expect(clippy::cast_precision_loss, reason = "as any reader of YAML does")]
            Some(Value::Int(n)) => *n as f64,
            Some(Value::Float(x)) => *x,
            Some(_) => self.wrong_type(key, "a number", default),
        };
        self.record(key, Out::plain(x));
        x
    }

    /// A boolean.
    pub fn flag(&mut self, key: &'static str, default: bool) -> bool {
        let flag = match self.node(key).map(|n| &n.value) {
            None => default,
            Some(Value::Null) => false,
            Some(Value::Bool(b)) => *b,
            Some(_) => self.wrong_type(key, "true or false", default),
        };
        self.record(key, Out::plain(flag));
        flag
    }

    /// Text.
    pub fn text(&mut self, key: &'static str, default: &str) -> String {
        let text = match self.node(key) {
            None => default.to_owned(),
            Some(node) => match text_of(node) {
                Some(text) => text,
                None => self.wrong_type(key, "text", default.to_owned()),
            },
        };
        self.record(key, Out::text(&text));
        text
    }

    /// A text of which nothing is shown where it is not given; then it is empty.
    pub fn text_if_given(&mut self, key: &'static str) -> String {
        if self.has(key) { self.text(key, "") } else { String::new() }
    }

    /// A duration that is not negative.
    pub fn duration(&mut self, key: &'static str, default: Duration) -> Duration {
        let duration = self.duration_of(key, default).unwrap_or_else(|()| {
            self.error_at(key, "must not be negative", "");
            default
        });
        self.record(key, Out::plain(show_duration(duration)));
        duration
    }

    /// A duration of which zero stands for the default; what takes effect is shown.
    pub fn duration_or(&mut self, key: &'static str, default: Duration) -> Duration {
        let written = self.unrecorded(|b| b.duration(key, default));
        let duration = if written.is_zero() { default } else { written };
        self.record(key, Out::plain(show_duration(duration)));
        duration
    }

    /// A duration; one that is negative acts as zero.
    pub fn duration_or_negative(&mut self, key: &'static str, default: Duration) -> Duration {
        let duration = self.duration_of(key, default).unwrap_or_default();
        self.record(key, Out::plain(show_duration(duration)));
        duration
    }

    /// An error if it is negative.
    fn duration_of(&mut self, key: &'static str, default: Duration) -> Result<Duration, ()> {
        let Some(node) = self.node(key) else { return Ok(default) };
        match &node.value {
            Value::Null => Ok(Duration::ZERO),
            Value::Text(text) => self.parse_duration(key, text, default),
            #[expect(clippy::cast_possible_truncation, reason = "saturates")]
            Value::Float(x) => self.bare_duration(key, *x as i128),
            Value::Int(n) => self.bare_duration(key, *n),
            _ => Ok(self.wrong_type(key, "a duration such as 10s", default)),
        }
    }

    fn parse_duration(&self, key: &str, text: &str, default: Duration) -> Result<Duration, ()> {
        match scalar::duration(text) {
            Ok(nanos) => u64::try_from(nanos).map(Duration::from_nanos).map_err(|_| ()),
            Err(e) => {
                let right = format!("write for example {key}: 10s");
                self.type_error_at(key, format!("{} {}", quote(text), e.words()), &right);
                Ok(default)
            }
        }
    }

    /// A number without a unit is nanoseconds, which nobody means (configs 4).
    fn bare_duration(&self, key: &str, n: i128) -> Result<Duration, ()> {
        let nanos = u64::try_from(n).map_err(|_| ())?;
        if nanos != 0 {
            let what = format!("{nanos} without a unit is {nanos} nanoseconds");
            self.warn_at(key, what, &format!("write {key}: {nanos}s if seconds are meant"));
        }
        Ok(Duration::from_nanos(nanos))
    }

    /// One of `choices`, by its name; `fallback` after an error.
    pub fn choice<T: Copy>(
        &mut self,
        key: &'static str,
        default: &str,
        choices: &[(&str, T)],
        fallback: T,
    ) -> T {
        let name = self.text(key, default);
        self.chosen(key, &name, choices, fallback)
    }

    /// The same for names in lower or upper case.
    pub fn choice_any_case<T: Copy>(
        &mut self,
        key: &'static str,
        default: &str,
        choices: &[(&str, T)],
        fallback: T,
    ) -> T {
        let name = self.text(key, default).to_lowercase();
        self.chosen(key, &name, choices, fallback)
    }

    fn chosen<T: Copy>(&self, key: &str, name: &str, choices: &[(&str, T)], fallback: T) -> T {
        if let Some((_, choice)) = choices.iter().find(|(n, _)| *n == name) {
            return *choice;
        }
        let names: Vec<&str> = choices.iter().map(|(n, _)| *n).filter(|n| !n.is_empty()).collect();
        let right = format!("one of {}", names.join(", "));
        self.type_error_at(key, format!("{} is not known", quote(name)), &right);
        fallback
    }

    /// A list of texts; one text with commas is taken apart, as in the collector.
    pub fn texts(&mut self, key: &'static str, default: &[&str]) -> Vec<String> {
        let texts: Vec<String> = match self.node(key) {
            None => default.iter().map(|&s| s.to_owned()).collect(),
            Some(node) => self.texts_of(key, node).into_iter().map(|(text, _)| text).collect(),
        };
        self.record(key, Out::texts(texts.iter().map(String::as_str)));
        texts
    }

    /// The same, each with its place; none if the key is absent.
    pub fn texts_at(&mut self, key: &'static str) -> Vec<(String, At)> {
        let Some(node) = self.node(key) else {
            self.record(key, Out::List(Vec::new()));
            return Vec::new();
        };
        if matches!(&node.value, Value::Text(text) if text.contains(',')) {
            let what = "one text is taken apart at its commas, as in the collector";
            self.note_at(key, what, "write a list, if the commas belong to a value");
        }
        let texts = self.texts_of(key, node);
        self.record(key, Out::texts(texts.iter().map(|(text, _)| text.as_str())));
        texts
    }

    fn texts_of(&self, key: &str, node: &Node) -> Vec<(String, At)> {
        match &node.value {
            Value::Null => Vec::new(),
            Value::Text(text) if text.is_empty() => Vec::new(),
            Value::Text(text) => text.split(',').map(|t| (t.to_owned(), node.at)).collect(),
            Value::List(items) => {
                let mut texts = Vec::new();
                for (i, item) in items.iter().enumerate() {
                    match text_of(item) {
                        Some(text) => texts.push((text, item.at)),
                        None => {
                            let path = format!("{}[{i}]", self.path_of(key));
                            let what = format!("wants text, this is {}", item.kind());
                            self.log.error(item.at, &path, what, Some("put it in quotes".into()));
                        }
                    }
                }
                texts
            }
            _ => self.wrong_type(key, "a list", Vec::new()),
        }
    }

    /// Names and values, as a map or as a list of `{name, value}`; values are not printed.
    pub fn secret_pairs(&mut self, key: &'static str) -> Vec<(String, String)> {
        let pairs = match self.node(key).map(|n| &n.value) {
            None | Some(Value::Null) => return Vec::new(),
            Some(Value::Map(map)) => {
                let mut pairs = Vec::new();
                for entry in map.iter() {
                    match text_of(&entry.node) {
                        Some(text) => pairs.push((entry.key.clone(), text)),
                        None => {
                            let path = format!("{}::{}", self.path_of(key), entry.key);
                            let what = format!("wants text, this is {}", entry.node.kind());
                            let right = Some("put it in quotes".into());
                            self.log.error(entry.node.at, &path, what, right);
                        }
                    }
                }
                pairs
            }
            Some(Value::List(items)) => {
                let mut pairs = Vec::new();
                for (i, item) in items.iter().enumerate() {
                    let path = format!("{}[{i}]", self.path_of(key));
                    let mut block = Block::at_node(self.log, path, item, self.mode);
                    pairs.push((block.text("name", ""), block.text("value", "")));
                    block.finish();
                }
                pairs
            }
            Some(_) => self.wrong_type(key, "a map of names and values", Vec::new()),
        };
        let hidden = |(name, _): &(String, String)| (name.clone(), Out::text(REDACTED));
        self.record(key, Out::Map(pairs.iter().map(hidden).collect()));
        pairs
    }

    /// Texts of a list and where they stand.
    pub fn list_of_texts(&mut self, key: &'static str) -> Vec<(String, At)> {
        let items = match self.node(key).map(|n| &n.value) {
            None | Some(Value::Null) => return Vec::new(),
            Some(Value::List(items)) => items,
            Some(_) => return self.wrong_type(key, "a list", Vec::new()),
        };
        let mut texts = Vec::new();
        for item in items {
            match text_of(item) {
                Some(text) => texts.push((text, item.at)),
                None => {
                    let what = format!("wants text, this is {}", item.kind());
                    self.log.error(item.at, &self.path_of(key), what, None);
                }
            }
        }
        self.record(key, Out::texts(texts.iter().map(|(text, _)| text.as_str())));
        texts
    }
}

/// Text of a scalar of any type; empty for lists and maps.
fn loose_text(node: &Node) -> String {
    match (&node.value, &node.original) {
        (_, Some(original)) => original.clone(),
        (Value::Text(text), None) => text.clone(),
        (Value::Bool(b), None) => b.to_string(),
        (Value::Int(n), None) => n.to_string(),
        (Value::Float(x), None) => x.to_string(),
        (Value::Null | Value::List(_) | Value::Map(_), None) => String::new(),
    }
}

/// Text of a scalar for a key that wants text: substituted values give their original text.
fn text_of(node: &Node) -> Option<String> {
    match (&node.value, &node.original) {
        (_, Some(original)) => Some(original.clone()),
        (Value::Text(text), None) => Some(text.clone()),
        (Value::Null, None) => Some(String::new()),
        _ => None,
    }
}
