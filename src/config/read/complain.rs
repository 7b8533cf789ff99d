//! What a [`Block`] says about its keys: errors, warnings, refusals, keys without effect.

use std::time::Duration;

use super::Block;
use crate::config::report::{At, Log, Severity};
use crate::config::tree::{Node, Value};

/// How a notice is added.
type Say = fn(&Log, Severity, At, &str, String, Option<String>);

const UNUSED: &str = " (nothing uses this component, so it is only told)";

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

impl Block<'_> {
    /// An error of the block itself.
    pub fn error(&self, what: impl Into<String>, right: &str) {
        if !self.mode.is_broken && !self.mode.is_off {
            self.log.error(self.at, &self.path, what, some(right));
        }
    }

    /// An error about the value of `key`.
    pub fn error_at(&self, key: &str, what: impl Into<String>, right: &str) {
        if !self.mode.is_off {
            self.type_error_at(key, what, right);
        }
    }

    /// The same for what cannot be read at all, also in a block that is off.
    pub(super) fn type_error_at(&self, key: &str, what: impl Into<String>, right: &str) {
        if !self.mode.is_broken {
            self.log.error(self.place_of(key), &self.path_of(key), what, some(right));
        }
    }

    /// A warning about the value of `key`.
    pub fn warn_at(&self, key: &str, what: impl Into<String>, right: &str) {
        if !self.mode.is_broken {
            self.log.warn(self.place_of(key), &self.path_of(key), what, some(right));
        }
    }

    /// Something that the collector does and this release does not. It is refused where the
    /// component is in use, and else only told.
    pub fn refuse_at(&self, key: &str, what: impl Into<String>, right: &str) {
        self.where_in_use(self.place_of(key), &self.path_of(key), what.into(), right, Log::lack);
    }

    /// The same, of the block itself.
    pub fn refuse_here(&self, what: impl Into<String>, right: &str) {
        self.where_in_use(self.at, &self.path, what.into(), right, Log::lack);
    }

    /// What the collector finds only when it starts the component: an error where it is in use.
    pub fn start_error(&self, what: impl Into<String>, right: &str) {
        if !self.mode.is_off {
            self.where_in_use(self.at, &self.path, what.into(), right, Log::say);
        }
    }

    /// The same, about the value of `key`.
    pub fn start_error_at(&self, key: &str, what: impl Into<String>, right: &str) {
        if !self.mode.is_off {
            let (at, path) = (self.place_of(key), self.path_of(key));
            self.where_in_use(at, &path, what.into(), right, Log::say);
        }
    }

    /// An error where the component is in use, and else a warning.
    fn where_in_use(&self, at: At, path: &str, what: String, right: &str, say: Say) {
        if self.mode.is_broken {
            return;
        }
        let (severity, what) = match self.mode.in_use {
            true => (Severity::Error, what),
            false => (Severity::Warning, format!("{what}{UNUSED}")),
        };
        say(self.log, severity, at, path, what, some(right));
    }

    /// The same, about an item of the list `key`, which stands at `at`.
    pub fn start_error_of_item(&self, key: &str, item: (usize, At), what: &str, right: &str) {
        if self.mode.is_off || self.mode.is_broken {
            return;
        }
        let path = format!("{}[{}]", self.path_of(key), item.0);
        let (severity, unused) = match self.mode.in_use {
            true => (Severity::Error, ""),
            false => (Severity::Warning, UNUSED),
        };
        self.log.say(severity, item.1, &path, format!("{what}{unused}"), some(right));
    }

    /// A note about the value of `key`, if the component is in use.
    pub fn note_at(&self, key: &str, what: impl Into<String>, right: &str) {
        if !self.mode.is_broken && self.mode.in_use {
            let (at, path) = (self.place_of(key), self.path_of(key));
            self.log.say(Severity::Note, at, &path, what, some(right));
        }
    }

    /// A note about the block itself, if the component is in use.
    pub fn note_here(&self, what: impl Into<String>, right: &str) {
        if !self.mode.is_broken && self.mode.in_use {
            self.log.say(Severity::Note, self.at, &self.path, what, some(right));
        }
    }

    /// An error if `key` is given.
    pub fn refuse_at_if_given(&mut self, key: &'static str, what: &str) {
        if self.has(key) {
            self.error_at(key, what, "");
        }
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

    /// An error about an entry of any name.
    pub fn error_of_entry(&self, key: &str, at: At, what: impl Into<String>, right: &str) {
        self.log.error(at, &self.path_of(key), what, some(right));
    }

    /// A null has no place of its own worth showing: its key has.
    pub fn set_place_if_null(&mut self, key: At) {
        if self.map.is_none() {
            self.at = key;
        }
    }

    pub(super) fn wrong_type<T>(&self, key: &str, wants: &str, default: T) -> T {
        let node = self.map.and_then(|m| m.get(key));
        let kind = node.map_or("nothing", Node::kind);
        let right = match node.map(|n| &n.value) {
            Some(Value::Int(_) | Value::Float(_) | Value::Bool(_)) if wants == "text" => {
                "put it in quotes"
            }
            Some(Value::Text(_)) if wants.ends_with("number") => "write it without quotes",
            _ => "",
        };
        self.type_error_at(key, format!("wants {wants}, this is {kind}"), right);
        default
    }
}

fn some(right: &str) -> Option<String> {
    (!right.is_empty()).then(|| right.to_owned())
}
