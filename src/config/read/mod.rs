//! Typed reading of the tree. A [`Block`] is one map of the file; asking it for a key gives the
//! value or the default, reports a wrong type, and records what took effect. When a block is done,
//! keys that nobody asked for are errors. Types follow configs 4; a null is the zero value.

mod complain;
mod value;

pub use complain::Kind;

use super::print::Out;
use super::report::{At, Log, did_you_mean, quote};
use super::tree::{Map, Node, Value};

/// One map of the configuration, being read.
#[derive(Debug)]
pub struct Block<'a> {
    log: &'a Log,
    path: String,
    at: At,
    map: Option<&'a Map>,
    asked: Vec<&'static str>,
    out: Vec<(String, Out)>,
    mode: Mode,
    unknown: Unknown,
}

/// What is said; blocks inside inherit it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Mode {
    /// Something uses the component: what is not supported is an error.
    in_use: bool,
    /// Nothing at all is said, because the block itself was wrong.
    is_broken: bool,
    /// `enabled: false`: types are checked, rules are not, as in the collector.
    is_off: bool,
}

/// What an unknown key is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Unknown {
    Error,
    /// The collector does not look at them.
    Warning,
    /// The collector does not look at them if they are maps (or null).
    WarningIfMap,
    /// A map with names of the user's.
    Fine,
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

impl<'a> Block<'a> {
    /// The map at `node`; a null is an empty map. A wrong type is reported and reads as empty.
    pub fn new(log: &'a Log, path: String, node: &'a Node, in_use: bool) -> Self {
        Self::at_node(log, path, node, Mode { in_use, is_broken: false, is_off: false })
    }

    fn at_node(log: &'a Log, path: String, node: &'a Node, mut mode: Mode) -> Self {
        let map = match &node.value {
            Value::Map(map) => Some(map),
            Value::Null => None,
            _ => {
                if !mode.is_broken {
                    let what = format!("wants a map, this is {}", node.kind());
                    log.error(node.at, &path, what, None);
                }
                mode.is_broken = true;
                None
            }
        };
        let (asked, out, unknown) = (Vec::new(), Vec::new(), Unknown::Error);
        Self { log, path, at: node.at, map, asked, out, mode, unknown }
    }

    /// The block under `key`; an empty one if the file has none.
    fn child(&mut self, key: &str) -> Self {
        let path = self.path_of(key);
        match self.map.and_then(|m| m.entry(key)) {
            Some(entry) => {
                let mut block = Self::at_node(self.log, path, &entry.node, self.mode);
                block.set_place_if_null(entry.at);
                block
            }
            None => {
                let (asked, out, unknown) = (Vec::new(), Vec::new(), Unknown::Error);
                let (log, at, mode) = (self.log, self.at, self.mode);
                Self { log, path, at, map: None, asked, out, mode, unknown }
            }
        }
    }

    /// Reports keys that nobody asked for and gives what took effect.
    pub fn finish(self) -> Out {
        for entry in self.map.into_iter().flat_map(Map::iter) {
            if self.unknown == Unknown::Fine || self.asked.contains(&entry.key.as_str()) {
                continue;
            }
            if self.log.is_full() {
                break;
            }
            let what = format!("unknown key {}", quote(&entry.key));
            let right = match did_you_mean(&entry.key, self.asked.iter().copied()) {
                Some(meant) => format!("did you mean {meant}?"),
                None if self.asked.is_empty() => "no key is known here".into(),
                None => format!("known here: {}", sorted(&self.asked).join(", ")),
            };
            let is_map = matches!(entry.node.value, Value::Map(_) | Value::Null);
            match self.unknown {
                Unknown::WarningIfMap if !is_map => {
                    self.log.error(entry.at, &self.path, what, Some(right))
                }
                Unknown::Warning | Unknown::WarningIfMap => {
                    let what = format!("{what}: has no effect, as in the collector");
                    self.log.warn(entry.at, &self.path, what, Some(right));
                }
                _ => self.log.error(entry.at, &self.path, what, Some(right)),
            }
        }
        Out::Map(self.out)
    }

    /// Unknown keys are only warned of: the collector overlooks them here.
    pub fn overlook_unknown(&mut self) {
        self.unknown = Unknown::Warning;
    }

    /// The same for keys that hold a map; others are errors.
    pub fn overlook_unknown_maps(&mut self) {
        self.unknown = Unknown::WarningIfMap;
    }

    /// Whether a pipeline (or `service.extensions`) uses the component that is read.
    #[must_use]
    pub fn in_use(&self) -> bool {
        self.mode.in_use
    }

    /// Whether what the file names is to be looked at: in a block that counts, and where it is
    /// going to be used.
    #[must_use]
    pub fn reads_files(&self) -> bool {
        !self.mode.is_broken && !self.mode.is_off && self.log.reads_files()
    }

    /// Whether the file has this block, and it is not null.
    #[must_use]
    pub fn is_given(&self) -> bool {
        self.map.is_some()
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

    /// Reads something without recording that it took effect.
    pub fn unrecorded<T>(&mut self, read: impl FnOnce(&mut Self) -> T) -> T {
        let outs = self.out.len();
        let value = read(self);
        self.out.truncate(outs);
        value
    }

    /// Looks into a block that is refused anyway: unknown keys are not reported.
    pub fn lenient(&mut self, key: &'static str, read: impl FnOnce(&mut Self)) {
        if self.node(key).is_some_and(|n| matches!(n.value, Value::Map(_))) {
            read(&mut self.child(key));
        }
    }

    /// A block with keys of any name beside the known ones; nothing in it is recorded.
    pub fn open<T>(&mut self, key: &'static str, read: impl FnOnce(&mut Self) -> T) -> T {
        self.asked.push(key);
        read(&mut self.child(key))
    }

    /// The entries that nobody asked for yet.
    pub fn rest(&mut self) -> Vec<(String, &'a Node)> {
        let entries = self.map.into_iter().flat_map(Map::iter);
        entries
            .filter(|e| !self.asked.contains(&e.key.as_str()))
            .map(|e| (e.key.clone(), &e.node))
            .collect()
    }

    /// The blocks of a list.
    pub fn list<T>(&mut self, key: &'static str, mut read: impl FnMut(&mut Self) -> T) -> Vec<T> {
        let items = match self.node(key).map(|n| &n.value) {
            None | Some(Value::Null) => return Vec::new(),
            Some(Value::List(items)) => items,
            Some(_) => return self.wrong_type(key, "a list", Vec::new()),
        };
        let mut values = Vec::new();
        let mut outs = Vec::new();
        for (i, item) in items.iter().enumerate() {
            let path = format!("{}[{i}]", self.path_of(key));
            let mut block = Self::at_node(self.log, path, item, self.mode);
            values.push(read(&mut block));
            outs.push(block.finish());
        }
        self.record(key, Out::List(outs));
        values
    }

    /// A block that is always there: absent and null are its defaults.
    pub fn block<T>(&mut self, key: &'static str, read: impl FnOnce(&mut Self) -> T) -> T {
        self.asked.push(key);
        self.entry(key, read)
    }

    /// A block that has no effect beside the others: its types and keys are checked, as in the
    /// collector, and nothing is recorded.
    pub fn unselected(&mut self, key: &'static str, read: impl FnOnce(&mut Self)) {
        if self.node(key).is_none() {
            return;
        }
        let mut block = self.child(key);
        block.mode.in_use = false;
        block.mode.is_off = true;
        read(&mut block);
        block.finish();
    }

    /// Names and places of all entries, whatever they are called.
    pub fn entries(&mut self) -> Vec<(String, At)> {
        self.unknown = Unknown::Fine;
        self.map.into_iter().flat_map(Map::iter).map(|e| (e.key.clone(), e.at)).collect()
    }

    /// The block under a key of any name.
    pub fn entry<T>(&mut self, key: &str, read: impl FnOnce(&mut Self) -> T) -> T {
        let mut block = self.child(key);
        let value = read(&mut block);
        let out = block.finish();
        self.record(key, out);
        value
    }

    /// A block that may be off, also by `enabled: false` inside.
    pub fn optional<T>(
        &mut self,
        key: &'static str,
        absent: Absent,
        read: impl FnOnce(&mut Self) -> T,
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
            b.mode.in_use &= enabled;
            b.mode.is_off |= !enabled;
            read(b)
        });
        if !enabled {
            self.out.pop();
            self.record(key, Out::Map(vec![("enabled".into(), Out::plain(false))]));
        }
        enabled.then_some(value)
    }
}

fn sorted(keys: &[&'static str]) -> Vec<&'static str> {
    let mut keys = keys.to_vec();
    keys.sort_unstable();
    keys.dedup();
    keys
}
