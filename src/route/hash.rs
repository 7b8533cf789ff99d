//! Identities of resources and streams, as the collector hashes them (loadbalancing 2.3).

use xxhash_rust::xxh64::xxh64;

use crate::otlp::check::VALUE_DEPTH_MAX;
use crate::otlp::value::{Value, key_value, messages, value_of};

const KEY: u8 = 0xf4;
const EMPTY: u8 = 0xf5;
const BYTES: u8 = 0xf6;
const STR: u8 = 0xf7;
const TRUE: u8 = 0xf8;
const FALSE: u8 = 0xf9;
const INT: u8 = 0xfa;
const DOUBLE: u8 = 0xfb;
const MAP: (u8, u8) = (0xfc, 0xfd);
const LIST: (u8, u8) = (0xfe, 0xff);
/// Stands behind the bytes for the second half.
const SECOND: u8 = 0xf3;

/// FNV-1a with 64 bits. A copy goes on from where the first one is.
#[derive(Clone, Copy, Debug)]
pub(super) struct Fnv(u64);

impl Fnv {
    pub(super) const NEW: Self = Self(0xcbf2_9ce4_8422_2325);

    #[must_use]
    pub(super) fn write(self, bytes: &[u8]) -> Self {
        let step = |hash: u64, &byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        Self(bytes.iter().fold(self.0, step))
    }

    pub(super) const fn finish(self) -> u64 {
        self.0
    }
}

/// Hashes maps of attributes. Memory for the maps of one request.
#[derive(Debug, Default)]
pub(super) struct Maps<'a> {
    /// What is hashed.
    bytes: Vec<u8>,
    /// Keys and KeyValue messages of the maps that are being written, the innermost last.
    entries: Vec<(&'a [u8], &'a [u8])>,
}

impl<'a> Maps<'a> {
    /// Hash of a map given as its KeyValue messages; zero of an empty one.
    pub(super) fn hash(&mut self, key_values: impl Iterator<Item = &'a [u8]>) -> [u8; 16] {
        self.bytes.clear();
        self.write_map(key_values, VALUE_DEPTH_MAX);
        let mut hash = [0; 16];
        if !self.bytes.is_empty() {
            hash[..8].copy_from_slice(&xxh64(&self.bytes, 0).to_le_bytes());
            self.bytes.push(SECOND);
            hash[8..].copy_from_slice(&xxh64(&self.bytes, 0).to_le_bytes());
        }
        hash
    }

    /// Sorted by key. Of equal keys the first one's value stands as often as there are keys.
    fn write_map(&mut self, key_values: impl Iterator<Item = &'a [u8]>, depth: u32) {
        let first = self.entries.len();
        self.entries.extend(key_values.map(|entry| (key_value(entry).0, entry)));
        self.entries[first..].sort_by_key(|entry| entry.0);
        let end = self.entries.len();
        let mut counts = first;
        for at in first..end {
            let (key, _) = self.entries[at];
            if key != self.entries[counts].0 {
                counts = at;
            }
            self.bytes.push(KEY);
            self.bytes.extend_from_slice(key);
            self.write_value(value_of(self.entries[counts].1), depth);
        }
        self.entries.truncate(first);
    }

    fn write_value(&mut self, value: Value<'a>, depth: u32) {
        let inner = depth.saturating_sub(1);
        match value {
            Value::Empty => self.bytes.push(EMPTY),
            // The collector goes on; nobody nests so deep.
            Value::List(_) | Value::Map(_) if depth == 0 => self.bytes.push(EMPTY),
            Value::Bool(on) => self.bytes.push(if on { TRUE } else { FALSE }),
            Value::Str(text) => self.tagged(STR, text),
            Value::Bytes(bytes) => self.tagged(BYTES, bytes),
            Value::Int(n) => self.tagged(INT, &n.to_le_bytes()),
            Value::Double(n) => self.tagged(DOUBLE, &n.to_bits().to_le_bytes()),
            Value::Map(map) => {
                self.bytes.push(MAP.0);
                self.write_map(messages(map, 1), inner);
                self.bytes.push(MAP.1);
            }
            Value::List(list) => {
                self.bytes.push(LIST.0);
                for item in messages(list, 1) {
                    self.write_value(Value::read(item), inner);
                }
                self.bytes.push(LIST.1);
            }
        }
    }

    fn tagged(&mut self, tag: u8, bytes: &[u8]) {
        self.bytes.push(tag);
        self.bytes.extend_from_slice(bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fnv_has_its_published_values() {
        assert_eq!(Fnv::NEW.finish(), 0xcbf2_9ce4_8422_2325);
        assert_eq!(Fnv::NEW.write(b"a").finish(), 0xaf63_dc4c_8601_ec8c);
        assert_eq!(Fnv::NEW.write(b"foo").write(b"bar").finish(), 0x8594_4171_f739_67e8);
    }

    #[test]
    fn resources_have_the_published_keys() {
        let entry = |key: &str, value: &str| {
            let mut out = Vec::new();
            crate::otlp::write::bytes(&mut out, 1, key.as_bytes());
            crate::otlp::write::message(&mut out, 2, |out| {
                crate::otlp::write::bytes(out, 1, value.as_bytes());
            });
            out
        };
        let (service, host) = (entry("service.name", "frontend"), entry("host.name", "h1"));
        let key = |entries: &[&[u8]]| {
            let hash = Maps::default().hash(entries.iter().copied());
            format!("{:x}", Fnv::NEW.write(&hash).finish())
        };
        // loadbalancing 2.4
        assert_eq!(key(&[]), "88201fb960ff6465");
        assert_eq!(key(&[&service]), "639bf44b88f596aa");
        assert_eq!(key(&[&service, &host]), "5ab0509530bbf987");
        assert_eq!(key(&[&host, &service]), "5ab0509530bbf987");
    }
}
