//! A YAML document as a tree in which every key and value knows where it stands.
//!
//! Only the first document is read, as in the collector. A key that stands twice in one map is an
//! error. Anchors, aliases and `<<` are resolved here, with limits on depth and size: a small file
//! cannot become a large tree. Types are inferred (`scalar`), not yet checked (`read`).

use std::collections::{BTreeMap, HashMap};

use saphyr_parser::{Event, Parser, ScalarStyle, Tag};

use super::report::At;
use super::scalar::{self, Scalar};

/// Nesting of maps and lists in one document.
pub const DEPTH_MAX: usize = 100;
/// Values of one document, those that aliases repeat included.
const NODES_MAX: usize = 200_000;
/// Bytes of text of one document, those that aliases repeat included.
const TEXT_BYTES_MAX: usize = 16 << 20;

/// A value and where it stands.
#[derive(Clone, Debug, PartialEq)]
pub struct Node {
    /// Where it begins.
    pub at: At,
    /// What it is.
    pub value: Value,
    /// The text as it was before its type was inferred, if it came out of a substitution: a key
    /// that wants text takes this (configs 3).
    pub original: Option<String>,
}

/// A value.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// Nothing.
    Null,
    /// `true` or `false`.
    Bool(bool),
    /// −2⁶³ to 2⁶⁴ − 1.
    Int(i128),
    /// A number with a point or an exponent.
    Float(f64),
    /// Text, quoted or not.
    Text(String),
    /// A list.
    List(Vec<Node>),
    /// A map.
    Map(Map),
}

/// Entries in the order of the file, and an index by key.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Map {
    entries: Vec<Entry>,
    index: HashMap<String, usize>,
}

/// One entry of a map.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    /// The key.
    pub key: String,
    /// Where the key stands.
    pub at: At,
    /// The value.
    pub node: Node,
}

/// Why a text is no tree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SyntaxError {
    /// Where.
    pub at: At,
    /// What is wrong.
    pub what: String,
}

/// A document.
#[derive(Debug)]
pub struct Document {
    /// The tree; [`Value::Null`] for an empty text.
    pub root: Node,
    /// Where a second document begins, which is not read.
    pub rest: Option<At>,
}

impl Node {
    /// A value without history.
    #[must_use]
    pub fn new(at: At, value: Value) -> Self {
        Self { at, value, original: None }
    }

    /// Moves it and everything in it to one place.
    pub fn set_places(&mut self, at: At) {
        self.at = at;
        match &mut self.value {
            Value::List(items) => items.iter_mut().for_each(|n| n.set_places(at)),
            Value::Map(map) => map.set_places(at),
            _ => {}
        }
    }

    /// What kind of value it is, for messages.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match &self.value {
            Value::Null => "nothing",
            Value::Bool(_) => "a boolean",
            Value::Int(_) => "a whole number",
            Value::Float(_) => "a number",
            Value::Text(_) => "text",
            Value::List(_) => "a list",
            Value::Map(_) => "a map",
        }
    }
}

impl Map {
    /// Entries in the order of the file.
    pub fn iter(&self) -> impl Iterator<Item = &Entry> {
        self.entries.iter()
    }

    /// The same, to be changed in place.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = &mut Node> {
        self.entries.iter_mut().map(|e| &mut e.node)
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The entry of `key`.
    #[must_use]
    pub fn entry(&self, key: &str) -> Option<&Entry> {
        self.index.get(key).map(|&i| &self.entries[i])
    }

    /// The value of `key`.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&Node> {
        self.entry(key).map(|e| &e.node)
    }

    /// Adds an entry, or replaces the one with its key in its place.
    pub fn put(&mut self, entry: Entry) {
        match self.index.get(&entry.key) {
            Some(&i) => self.entries[i] = entry,
            None => {
                self.index.insert(entry.key.clone(), self.entries.len());
                self.entries.push(entry);
            }
        }
    }

    /// Lays `over` on top: maps are merged deeply, lists and scalars are replaced (configs 2).
    pub fn merge(&mut self, over: Self) {
        for entry in over.entries {
            match self.index.get(&entry.key).map(|&i| &mut self.entries[i].node.value) {
                Some(Value::Map(below)) if matches!(entry.node.value, Value::Map(_)) => {
                    if let Value::Map(above) = entry.node.value {
                        below.merge(above);
                    }
                }
                _ => self.put(entry),
            }
        }
    }

    /// Moves everything in it to one place.
    pub fn set_places(&mut self, at: At) {
        for entry in &mut self.entries {
            entry.at = at;
            entry.node.set_places(at);
        }
    }

    /// The same map with keys of the form `a::b` taken apart into maps, at this level only.
    #[must_use]
    pub fn unflatten(self) -> Self {
        let mut out = Self::default();
        for Entry { key, at, node } in self.entries {
            let mut parts: Vec<&str> = key.split("::").take(DEPTH_MAX).collect();
            let first = parts.remove(0).to_owned();
            let node = parts.into_iter().rev().fold(node, |node, part| {
                let mut map = Self::default();
                map.put(Entry { key: part.to_owned(), at, node });
                Node::new(at, Value::Map(map))
            });
            let mut one = Self::default();
            one.put(Entry { key: first, at, node });
            out.merge(one);
        }
        out
    }
}

/// Reads the first document of `text`.
///
/// # Errors
/// If it is not YAML, repeats a key, or goes beyond a limit.
pub fn parse(text: &str, source: u16) -> Result<Document, SyntaxError> {
    let mut parser = Parser::new_from_str(text);
    let mut builder = Builder::new(source);
    loop {
        let (event, span) = match parser.next_event() {
            None => break,
            Some(Ok(next)) => next,
            Some(Err(e)) => {
                return Err(SyntaxError {
                    at: place(source, e.marker()),
                    what: format!("not YAML: {}", e.info()),
                });
            }
        };
        let at = place(source, &span.start);
        match event {
            Event::DocumentEnd => break,
            Event::StreamEnd => break,
            event => builder.event(event, at)?,
        }
    }
    let rest = loop {
        match parser.next_event() {
            Some(Ok((Event::DocumentStart(_), span))) => break Some(place(source, &span.start)),
            Some(Err(e)) => break Some(place(source, e.marker())),
            Some(Ok((Event::StreamEnd, _))) | None => break None,
            Some(Ok(_)) => {}
        }
    };
    let root =
        builder.root.unwrap_or_else(|| Node::new(At { source, line: 1, column: 1 }, Value::Null));
    Ok(Document { root, rest })
}

fn place(source: u16, marker: &saphyr_parser::Marker) -> At {
    At {
        source,
        line: u32::try_from(marker.line()).unwrap_or(u32::MAX),
        column: u32::try_from(marker.col() + 1).unwrap_or(u32::MAX),
    }
}

/// A map or list that is not closed yet.
enum Open {
    List { at: At, anchor: usize, items: Vec<Node> },
    Map { at: At, anchor: usize, map: Map, key: Option<Key>, merges: Vec<Node> },
}

struct Key {
    text: String,
    at: At,
    is_merge: bool,
}

struct Builder {
    source: u16,
    stack: Vec<Open>,
    anchors: BTreeMap<usize, Node>,
    root: Option<Node>,
    nodes: usize,
    text_bytes: usize,
}

impl Builder {
    fn new(source: u16) -> Self {
        Self {
            source,
            stack: Vec::new(),
            anchors: BTreeMap::new(),
            root: None,
            nodes: 0,
            text_bytes: 0,
        }
    }

    fn event(&mut self, event: Event<'_>, at: At) -> Result<(), SyntaxError> {
        debug_assert!(at.source == self.source);
        match event {
            Event::Scalar(text, style, anchor, tag) => {
                self.charge(1, text.len(), at)?;
                if self.wants_key() {
                    let is_merge = text == "<<" && style == ScalarStyle::Plain;
                    return self.key(text.into_owned(), is_merge, at);
                }
                let value = scalar_value(&text, style, tag.as_deref());
                self.close(Node::new(at, value), anchor)
            }
            Event::Alias(anchor) => {
                let Some(node) = self.anchors.get(&anchor) else {
                    return error(at, "an alias of something that is not complete yet");
                };
                let (nodes, bytes) = size(node);
                let node = node.clone();
                self.charge(nodes, bytes, at)?;
                if self.stack.len() + depth(&node) > DEPTH_MAX {
                    return error(at, format!("nested deeper than {DEPTH_MAX}"));
                }
                if self.wants_key() {
                    return match node.value {
                        Value::Text(text) => self.key(text, false, at),
                        _ => error(at, "a key must be text"),
                    };
                }
                self.close(node, 0)
            }
            Event::SequenceStart(anchor, _) => {
                self.open(Open::List { at, anchor, items: Vec::new() }, at)
            }
            Event::MappingStart(anchor, _) => {
                let map = Map::default();
                self.open(Open::Map { at, anchor, map, key: None, merges: Vec::new() }, at)
            }
            Event::SequenceEnd | Event::MappingEnd => match self.stack.pop() {
                Some(Open::List { at, anchor, items }) => {
                    self.close(Node::new(at, Value::List(items)), anchor)
                }
                Some(Open::Map { at, anchor, map, merges, .. }) => {
                    let map = merged(map, merges)?;
                    self.close(Node::new(at, Value::Map(map)), anchor)
                }
                None => error(at, "unbalanced"),
            },
            _ => Ok(()),
        }
    }

    fn wants_key(&self) -> bool {
        matches!(self.stack.last(), Some(Open::Map { key: None, .. }))
    }

    fn key(&mut self, text: String, is_merge: bool, at: At) -> Result<(), SyntaxError> {
        if let Some(Open::Map { map, key, .. }) = self.stack.last_mut() {
            if let Some(first) = map.entry(&text) {
                let line = first.at.line;
                let what = format!("key {} stands here and on line {line}", quoted(&text));
                return error(at, what);
            }
            *key = Some(Key { text, at, is_merge });
        }
        Ok(())
    }

    fn open(&mut self, open: Open, at: At) -> Result<(), SyntaxError> {
        self.charge(1, 0, at)?;
        if self.wants_key() {
            return error(at, "a key must be text, not a list or map");
        }
        if self.stack.len() >= DEPTH_MAX {
            return error(at, format!("nested deeper than {DEPTH_MAX}"));
        }
        self.stack.push(open);
        Ok(())
    }

    /// `node` is complete: it goes into whatever is open.
    fn close(&mut self, node: Node, anchor: usize) -> Result<(), SyntaxError> {
        if anchor != 0 {
            let (nodes, bytes) = size(&node);
            self.charge(nodes, bytes, node.at)?;
            self.anchors.insert(anchor, node.clone());
        }
        match self.stack.last_mut() {
            None => self.root = Some(node),
            Some(Open::List { items, .. }) => items.push(node),
            Some(Open::Map { map, key, merges, .. }) => {
                let Some(Key { text, at, is_merge }) = key.take() else {
                    return error(node.at, "a value without a key");
                };
                if is_merge {
                    merges.push(node);
                } else {
                    map.put(Entry { key: text, at, node });
                }
            }
        }
        Ok(())
    }

    fn charge(&mut self, nodes: usize, text_bytes: usize, at: At) -> Result<(), SyntaxError> {
        self.nodes += nodes;
        self.text_bytes += text_bytes;
        if self.nodes > NODES_MAX || self.text_bytes > TEXT_BYTES_MAX {
            return error(at, "too large (aliases count as often as they are used)");
        }
        Ok(())
    }
}

/// `map` with what `<<` brings; its own keys win, and earlier merges win over later ones.
fn merged(mut map: Map, merges: Vec<Node>) -> Result<Map, SyntaxError> {
    for node in merges {
        let at = node.at;
        let maps = match node.value {
            Value::List(items) => items,
            value => vec![Node::new(at, value)],
        };
        for item in maps {
            let Value::Map(below) = item.value else {
                return error(item.at, "`<<` wants a map or a list of maps");
            };
            for entry in below.entries {
                if map.entry(&entry.key).is_none() {
                    map.put(entry);
                }
            }
        }
    }
    Ok(map)
}

fn scalar_value(text: &str, style: ScalarStyle, tag: Option<&Tag>) -> Value {
    let core = tag.filter(|t| t.is_yaml_core_schema()).map(|t| t.suffix.as_str());
    match core {
        Some("str" | "binary") => return Value::Text(text.to_owned()),
        Some(_) => return inferred(text),
        None => {}
    }
    if style == ScalarStyle::Plain && tag.is_none() {
        inferred(text)
    } else {
        Value::Text(text.to_owned())
    }
}

/// `text` as an unquoted scalar.
#[must_use]
pub fn inferred(text: &str) -> Value {
    match scalar::infer(text) {
        Scalar::Null => Value::Null,
        Scalar::Bool(b) => Value::Bool(b),
        Scalar::Int(n) => Value::Int(n),
        Scalar::Float(x) => Value::Float(x),
        Scalar::Text => Value::Text(text.to_owned()),
    }
}

/// Number of values and bytes of text below and including `node`.
fn size(node: &Node) -> (usize, usize) {
    match &node.value {
        Value::Text(text) => (1, text.len()),
        Value::List(items) => items.iter().map(size).fold((1, 0), add),
        Value::Map(map) => {
            map.iter().map(|e| add(size(&e.node), (1, e.key.len()))).fold((1, 0), add)
        }
        _ => (1, 0),
    }
}

fn add(a: (usize, usize), b: (usize, usize)) -> (usize, usize) {
    (a.0 + b.0, a.1 + b.1)
}

/// Levels of maps and lists below and including `node`.
#[must_use]
pub fn depth(node: &Node) -> usize {
    match &node.value {
        Value::List(items) => 1 + items.iter().map(depth).max().unwrap_or(0),
        Value::Map(map) => 1 + map.iter().map(|e| depth(&e.node)).max().unwrap_or(0),
        _ => 0,
    }
}

fn error<T>(at: At, what: impl Into<String>) -> Result<T, SyntaxError> {
    Err(SyntaxError { at, what: what.into() })
}

fn quoted(text: &str) -> String {
    super::report::quote(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `a: 1` as `{a: 1}`, for comparing.
    fn show(node: &Node) -> String {
        match &node.value {
            Value::Null => "~".into(),
            Value::Bool(b) => b.to_string(),
            Value::Int(n) => n.to_string(),
            Value::Float(x) => format!("{x:?}"),
            Value::Text(text) => format!("{text:?}"),
            Value::List(items) => {
                format!("[{}]", items.iter().map(show).collect::<Vec<_>>().join(", "))
            }
            Value::Map(map) => {
                let entry = |e: &Entry| format!("{}: {}", e.key, show(&e.node));
                format!("{{{}}}", map.iter().map(entry).collect::<Vec<_>>().join(", "))
            }
        }
    }

    #[test]
    fn documents_become_trees() {
        let rows = [
            ("", "~"),
            ("a: 1\nb: [x, '1', ~]", r#"{a: 1, b: ["x", "1", ~]}"#),
            ("a: &x {b: 1}\nc: *x", "{a: {b: 1}, c: {b: 1}}"),
            ("a: &x {b: 1, c: 2}\nd: {<<: *x, b: 3}", "{a: {b: 1, c: 2}, d: {b: 3, c: 2}}"),
            ("a: {<<: [{b: 1}, {b: 2, c: 3}]}", "{a: {b: 1, c: 3}}"),
            ("a: {'<<': 5}", "{a: {<<: 5}}"),
            ("a: !!str 5\nb: !!int '5'\n1: x", r#"{a: "5", b: 5, 1: "x"}"#),
            ("a: |\n  x\n  y\n", r#"{a: "x\ny\n"}"#),
        ];
        for (text, want) in rows {
            let document = parse(text, 0).unwrap_or_else(|e| panic!("{text}: {e:?}"));
            assert_eq!(show(&document.root), want, "{text}");
            assert_eq!(document.rest, None, "{text}");
        }
    }

    #[test]
    fn mistakes_are_found_where_they_stand() {
        let rows = [
            ("a: 1\nb: 2\na: 3", 3, "key \"a\" stands here and on line 1"),
            ("a: &x [*x]", 1, "not complete yet"),
            ("a: {<<: 5}", 1, "wants a map"),
            ("[a]: 1", 1, "must be text"),
            ("a:\n  b: *x", 2, "not YAML"),
        ];
        for (text, line, want) in rows {
            let error = parse(text, 0).unwrap_err();
            assert_eq!(error.at.line, line, "{text}");
            assert!(error.what.contains(want), "{text}: {error:?}");
        }
    }

    #[test]
    fn every_key_and_value_knows_its_place() {
        let root = parse("a:\n  bc: d\n", 3).unwrap().root;
        let Value::Map(map) = &root.value else { panic!() };
        let Value::Map(inner) = &map.get("a").unwrap().value else { panic!() };
        let entry = inner.entry("bc").unwrap();
        assert_eq!(entry.at, At { source: 3, line: 2, column: 3 });
        assert_eq!(entry.node.at, At { source: 3, line: 2, column: 7 });
    }

    #[test]
    fn a_second_document_is_noticed_and_not_read() {
        let document = parse("a: 1\n---\nb: [", 0).unwrap();
        assert_eq!(show(&document.root), "{a: 1}");
        assert_eq!(document.rest.map(|at| at.line), Some(2));
    }

    #[test]
    fn flattened_keys_are_taken_apart_and_merged() {
        let root = parse("a::b::c: 1\na::b::d: 2\ne: {f::g: 3}", 0).unwrap().root;
        let Value::Map(map) = root.value else { panic!() };
        let root = Node::new(At::default(), Value::Map(map.unflatten()));
        assert_eq!(show(&root), "{a: {b: {c: 1, d: 2}}, e: {f::g: 3}}");
    }
}
