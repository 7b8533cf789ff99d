//! Typed reading of the tree. A [`Block`] is one map of the file; asking it for a key gives the
//! value or the default, reports a wrong type, and records what took effect. When a block is done,
//! keys that nobody asked for are errors. Types follow configs 4; a null is the zero value.

use std::time::Duration;

use super::print::{Out, REDACTED};
use super::report::{At, Log, Severity, did_you_mean, quote};
use super::scalar::{self, show_duration};
use super::tree::{Map, Node, Value};

const UNUSED: &str = " (nothing uses this component, so it is only told)";

/// One map of the configuration, being read.
#[derive(Debug)]
pub struct Block<'a> {
    log: &'a Log,
    path: String,
    at: At,
    map: Option<&'a Map>,
    asked: Vec<&'static str>,
    out: Vec<(String, Out)>,
    in_use: bool,
    quiet: bool,
    any_key: bool,
}

/// What a block is when the file does not name it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Absent {
    /// On, with its defaults.
    On,
    /// Off; a null turns it on with its defaults.
    Off,
    /// Off; a null leaves it off.
    OffAlsoIfNull,
}

/// Type of a key that is checked but has no effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A whole number.
    Int,
    /// A boolean.
    Flag,
    /// Text.
    Text,
    /// A duration.
    Duration,
    /// A list of texts.
    Texts,
    /// Anything.
    Any,
}

impl<'a> Block<'a> {
    /// The map at `node`; a null is an empty map. A wrong type is reported and reads as empty.
    pub fn new(log: &'a Log, path: String, node: &'a Node, in_use: bool) -> Self {
        let (map, quiet) = match &node.value {
            Value::Map(map) => (Some(map), false),
            Value::Null => (None, false),
            _ => {
                log.error(node.at, &path, format!("wants a map, this is {}", node.kind()), None);
                (None, true)
            }
        };
        let (asked, out) = (Vec::new(), Vec::new());
        Self { log, path, at: node.at, map, asked, out, in_use, quiet, any_key: false }
    }

    /// A block that the file does not have.
    pub fn empty(log: &'a Log, path: String, at: At, in_use: bool) -> Self {
        let (asked, out) = (Vec::new(), Vec::new());
        Self { log, path, at, map: None, asked, out, in_use, quiet: false, any_key: false }
    }

    /// Reports keys that nobody asked for and gives what took effect.
    pub fn finish(self) -> Out {
        for entry in self.map.into_iter().flat_map(Map::iter) {
            if self.any_key || self.asked.contains(&entry.key.as_str()) {
                continue;
            }
            let what = format!("unknown key {}", quote(&entry.key));
            let right = match did_you_mean(&entry.key, self.asked.iter().copied()) {
                Some(meant) => format!("did you mean {meant}?"),
                None if self.asked.is_empty() => "no key is known here".into(),
                None => format!("known here: {}", sorted(&self.asked).join(", ")),
            };
            self.log.error(entry.at, &self.path, what, Some(right));
        }
        Out::Map(self.out)
    }

    /// Whether a pipeline (or `service.extensions`) uses the component that is read.
    #[must_use]
    pub fn in_use(&self) -> bool {
        self.in_use
    }

    /// Whether the file has this key with a value other than null.
    pub fn has(&mut self, key: &'static str) -> bool {
        self.node(key).is_some_and(|n| n.value != Value::Null)
    }

    /// The raw value of `key`.
    pub fn node(&mut self, key: &'static str) -> Option<&'a Node> {
        self.asked.push(key);
        self.map?.get(key)
    }

    /// `path::key`.
    #[must_use]
    pub fn path_of(&self, key: &str) -> String {
        if self.path.is_empty() { key.to_owned() } else { format!("{}::{key}", self.path) }
    }

    /// Where the value of `key` stands, or the block if it is absent.
    #[must_use]
    pub fn place_of(&self, key: &str) -> At {
        self.map.and_then(|m| m.get(key)).map_or(self.at, |n| n.at)
    }

    /// Records what took effect under `key`.
    pub fn record(&mut self, key: &str, out: Out) {
        self.out.push((key.to_owned(), out));
    }

    /// An error of the block itself.
    pub fn error(&self, what: impl Into<String>, right: &str) {
        if !self.quiet {
            self.log.error(self.at, &self.path, what, some(right));
        }
    }

    /// An error about the value of `key`.
    pub fn error_at(&self, key: &str, what: impl Into<String>, right: &str) {
        if !self.quiet {
            self.log.error(self.place_of(key), &self.path_of(key), what, some(right));
        }
    }

    /// A warning about the value of `key`.
    pub fn warn_at(&self, key: &str, what: impl Into<String>, right: &str) {
        if !self.quiet {
            self.log.warn(self.place_of(key), &self.path_of(key), what, some(right));
        }
    }

    /// Something that the collector does and this release does not. It is refused where the
    /// component is in use, and else only told.
    pub fn refuse_at(&self, key: &str, what: impl Into<String>, right: &str) {
        if self.quiet {
            return;
        }
        let (at, path) = (self.place_of(key), self.path_of(key));
        let severity = if self.in_use { Severity::Error } else { Severity::Warning };
        let what = what.into();
        let what = if self.in_use { what } else { format!("{what}{UNUSED}") };
        self.log.say(severity, at, &path, what, some(right));
    }

    /// The same, of the block itself.
    pub fn refuse_here(&self, what: impl Into<String>, right: &str) {
        if self.quiet {
            return;
        }
        let severity = if self.in_use { Severity::Error } else { Severity::Warning };
        let what = what.into();
        let what = if self.in_use { what } else { format!("{what}{UNUSED}") };
        self.log.say(severity, self.at, &self.path, what, some(right));
    }

    /// A note about the block itself, if the component is in use.
    pub fn note_here(&self, what: impl Into<String>, right: &str) {
        if !self.quiet && self.in_use {
            self.log.say(Severity::Note, self.at, &self.path, what, some(right));
        }
    }

    /// Reads something without recording that it took effect.
    pub fn unrecorded<T>(&mut self, read: impl FnOnce(&mut Self) -> T) -> T {
        let outs = self.out.len();
        let value = read(self);
        self.out.truncate(outs);
        value
    }

    /// Looks into a block that is refused anyway: unknown keys are not reported.
    pub fn lenient(&mut self, key: &'static str, read: impl FnOnce(&mut Block<'a>)) {
        if let Some(node) = self.node(key)
            && matches!(node.value, Value::Map(_))
        {
            read(&mut Block::new(self.log, self.path_of(key), node, self.in_use));
        }
    }

    /// A block with keys of any name beside the known ones; nothing in it is recorded.
    pub fn open<T>(&mut self, key: &'static str, read: impl FnOnce(&mut Block<'a>) -> T) -> T {
        let mut block = match self.node(key) {
            Some(node) => Block::new(self.log, self.path_of(key), node, self.in_use),
            None => Block::empty(self.log, self.path_of(key), self.at, self.in_use),
        };
        block.quiet |= self.quiet;
        read(&mut block)
    }

    /// The entries that nobody asked for yet.
    pub fn rest(&mut self) -> Vec<(String, &'a Node)> {
        let entries = self.map.into_iter().flat_map(Map::iter);
        entries
            .filter(|e| !self.asked.contains(&e.key.as_str()))
            .map(|e| (e.key.clone(), &e.node))
            .collect()
    }

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

    /// An error if `key` is given.
    pub fn refuse_at_if_given(&mut self, key: &'static str, what: &str) {
        if self.has(key) {
            self.error_at(key, what, "");
        }
    }

    /// Whether the value of `key` is a bare whole number.
    pub fn is_int(&mut self, key: &'static str) -> bool {
        self.node(key).is_some_and(|n| matches!(n.value, Value::Int(_)) && n.original.is_none())
    }

    /// Refuses `key` if it is given.
    pub fn refuse(&mut self, key: &'static str, what: &str, right: &str) {
        if self.has(key) {
            self.refuse_at(key, what, right);
        }
    }

    /// Accepts a key that has no effect here, and says so if it is given.
    pub fn ignore(&mut self, key: &'static str, kind: Kind, why: &str) {
        if !self.has(key) {
            return;
        }
        let outs = self.out.len();
        match kind {
            Kind::Int => _ = self.signed(key, 0),
            Kind::Flag => _ = self.flag(key, false),
            Kind::Text => _ = self.text(key, ""),
            Kind::Duration => _ = self.duration(key, Duration::ZERO),
            Kind::Texts => _ = self.texts(key, &[]),
            Kind::Any => {}
        }
        self.out.truncate(outs);
        self.warn_at(key, format!("accepted, but has no effect: {why}"), "");
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

    fn int(&mut self, key: &'static str, default: i128, min: i128, max: i128) -> i128 {
        let n = match self.node(key).map(|n| &n.value) {
            None => default,
            Some(Value::Null) => 0,
            Some(Value::Int(n)) => *n,
            // Cut towards zero, as in the collector (configs 4).
            #[expect(clippy::cast_possible_truncation, reason = "saturates")]
            Some(Value::Float(x)) => *x as i128,
            Some(_) => self.wrong_type(key, "a whole number", default),
        };
        let n = if (min..=max).contains(&n) {
            n
        } else {
            self.error_at(key, format!("{n} is out of range ({min} to {max})"), "");
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

    /// A duration that is not negative.
    pub fn duration(&mut self, key: &'static str, default: Duration) -> Duration {
        let nanos = match self.node(key) {
            None => Ok(default),
            Some(node) => match &node.value {
                Value::Null => Ok(Duration::ZERO),
                Value::Text(text) => self.parse_duration(key, text, default),
                #[expect(clippy::cast_possible_truncation, reason = "saturates")]
                Value::Float(x) => self.bare_duration(key, *x as i128),
                Value::Int(n) => self.bare_duration(key, *n),
                _ => Ok(self.wrong_type(key, "a duration such as 10s", default)),
            },
        };
        let duration = nanos.unwrap_or_else(|()| {
            self.error_at(key, "must not be negative", "");
            default
        });
        self.record(key, Out::plain(show_duration(duration)));
        duration
    }

    fn parse_duration(&self, key: &str, text: &str, default: Duration) -> Result<Duration, ()> {
        match scalar::duration(text) {
            Ok(nanos) => u64::try_from(nanos).map(Duration::from_nanos).map_err(|_| ()),
            Err(e) => {
                let right = format!("write for example {key}: 10s");
                self.error_at(key, format!("{} {}", quote(text), e.words()), &right);
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
        self.error_at(key, format!("{} is not known", quote(name)), &right);
        fallback
    }

    /// A list of texts; one text with commas is taken apart, as in the collector.
    pub fn texts(&mut self, key: &'static str, default: &[&str]) -> Vec<String> {
        let texts = match self.node(key) {
            None => default.iter().map(|&s| s.to_owned()).collect(),
            Some(node) => self.texts_of(key, node),
        };
        self.record(key, Out::texts(texts.iter().map(String::as_str)));
        texts
    }

    fn texts_of(&self, key: &str, node: &Node) -> Vec<String> {
        match &node.value {
            Value::Null => Vec::new(),
            Value::Text(text) if text.is_empty() => Vec::new(),
            Value::Text(text) => text.split(',').map(str::to_owned).collect(),
            Value::List(items) => {
                let mut texts = Vec::new();
                for (i, item) in items.iter().enumerate() {
                    match text_of(item) {
                        Some(text) => texts.push(text),
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
                    let mut block = Block::new(self.log, path, item, self.in_use);
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

    /// The blocks of a list.
    pub fn list<T>(
        &mut self,
        key: &'static str,
        mut read: impl FnMut(&mut Block<'a>) -> T,
    ) -> Vec<T> {
        let items = match self.node(key).map(|n| &n.value) {
            None | Some(Value::Null) => return Vec::new(),
            Some(Value::List(items)) => items,
            Some(_) => return self.wrong_type(key, "a list", Vec::new()),
        };
        let mut values = Vec::new();
        let mut outs = Vec::new();
        for (i, item) in items.iter().enumerate() {
            let path = format!("{}[{i}]", self.path_of(key));
            let mut block = Block::new(self.log, path, item, self.in_use);
            block.quiet |= self.quiet;
            values.push(read(&mut block));
            outs.push(block.finish());
        }
        self.record(key, Out::List(outs));
        values
    }

    /// A block that is always there: absent and null are its defaults.
    pub fn block<T>(&mut self, key: &'static str, read: impl FnOnce(&mut Block<'a>) -> T) -> T {
        let mut block = match self.node(key) {
            Some(node) => Block::new(self.log, self.path_of(key), node, self.in_use),
            None => Block::empty(self.log, self.path_of(key), self.at, self.in_use),
        };
        block.quiet |= self.quiet;
        let value = read(&mut block);
        let out = block.finish();
        self.record(key, out);
        value
    }

    /// Names and places of all entries, whatever they are called.
    pub fn entries(&mut self) -> Vec<(String, At)> {
        self.any_key = true;
        self.map.into_iter().flat_map(Map::iter).map(|e| (e.key.clone(), e.at)).collect()
    }

    /// The block under a key of any name.
    pub fn entry<T>(&mut self, key: &str, read: impl FnOnce(&mut Block<'a>) -> T) -> T {
        let path = self.path_of(key);
        let mut block = match self.map.and_then(|m| m.entry(key)) {
            Some(entry) => {
                let mut block = Block::new(self.log, path, &entry.node, self.in_use);
                block.set_place_if_null(entry.at);
                block
            }
            None => Block::empty(self.log, path, self.at, self.in_use),
        };
        let value = read(&mut block);
        let out = block.finish();
        self.record(key, out);
        value
    }

    /// An error about an entry of any name.
    pub fn error_of_entry(&self, key: &str, at: At, what: impl Into<String>, right: &str) {
        self.log.error(at, &self.path_of(key), what, some(right));
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

    /// A null has no place of its own worth showing: its key has.
    pub fn set_place_if_null(&mut self, key: At) {
        if self.map.is_none() {
            self.at = key;
        }
    }

    /// A block that may be off, also by `enabled: false` inside.
    pub fn optional<T>(
        &mut self,
        key: &'static str,
        absent: Absent,
        read: impl FnOnce(&mut Block<'a>) -> T,
    ) -> Option<T> {
        match self.node(key).map(|n| &n.value) {
            None if absent != Absent::On => return None,
            Some(Value::Null) if absent == Absent::OffAlsoIfNull => return None,
            _ => {}
        }
        let mut enabled = true;
        let value = self.block(key, |b| {
            if b.node("enabled").is_some() {
                enabled = match b.node("enabled").map(|n| &n.value) {
                    Some(Value::Bool(enabled)) => *enabled,
                    _ => b.wrong_type("enabled", "true or false", true),
                };
            }
            // What is off is read for its mistakes, but nothing of it is refused.
            b.in_use &= enabled;
            read(b)
        });
        if !enabled {
            self.out.pop();
            self.record(key, Out::Map(vec![("enabled".into(), Out::plain(false))]));
        }
        enabled.then_some(value)
    }

    fn wrong_type<T>(&self, key: &str, wants: &str, default: T) -> T {
        let node = self.map.and_then(|m| m.get(key));
        let kind = node.map_or("nothing", Node::kind);
        let right = match node.map(|n| &n.value) {
            Some(Value::Int(_) | Value::Float(_) | Value::Bool(_)) if wants == "text" => {
                "put it in quotes"
            }
            Some(Value::Text(_)) if wants.ends_with("number") => "write it without quotes",
            _ => "",
        };
        self.error_at(key, format!("wants {wants}, this is {kind}"), right);
        default
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

fn some(right: &str) -> Option<String> {
    (!right.is_empty()).then(|| right.to_owned())
}

fn sorted(keys: &[&'static str]) -> Vec<&'static str> {
    let mut keys = keys.to_vec();
    keys.sort_unstable();
    keys.dedup();
    keys
}
