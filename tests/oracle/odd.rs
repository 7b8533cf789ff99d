//! Writes a request anew, as oddly as the format allows without changing its meaning.

use tracemill::testing::random::Random;

use super::naive::{fields, push_varint};

/// A request written oddly.
pub(crate) struct Odd {
    pub(crate) bytes: Vec<u8>,
    /// Whether scopes were moved to field 1000, which prost does not know.
    pub(crate) deprecated: bool,
}

/// How the fields of each message are ordered.
#[derive(Clone, Copy)]
enum Order {
    AsIs,
    Descending,
    Mixed,
}

/// Which message is written: what its children are, and what may be done to it.
#[derive(Clone, Copy, PartialEq)]
enum Level {
    Request,
    Resource,
    Scope,
    Item,
}

/// Rewrites a request with minimal varints and ascending fields.
pub(crate) fn write(random: &mut Random, request: &[u8]) -> Odd {
    let order = *random.pick(&[Order::AsIs, Order::Descending, Order::Mixed]);
    let oddness = *random.pick(&[0.0, 0.02, 0.3]);
    let mut writer = Writer { random, order, oddness, deprecated: false };
    let bytes = writer.message(Level::Request, request);
    Odd { bytes, deprecated: writer.deprecated }
}

struct Writer<'a> {
    random: &'a mut Random,
    order: Order,
    oddness: f64,
    deprecated: bool,
}

impl Writer<'_> {
    fn odd(&mut self) -> bool {
        self.random.chance(self.oddness)
    }

    /// Sometimes longer than needed, up to 10 bytes.
    fn varint(&mut self, out: &mut Vec<u8>, value: u64) {
        push_varint(out, value);
        if minimal(value) < 10 && self.odd() {
            let start = out.len() - minimal(value);
            let room = 10 - minimal(value);
            let more = 1 + self.random.below(room as u64) as usize;
            *out.last_mut().unwrap() |= 0x80;
            out.extend(std::iter::repeat_n(0x80, more));
            *out.last_mut().unwrap() = 0;
            assert!(out.len() - start <= 10);
        }
    }

    fn message(&mut self, level: Level, message: &[u8]) -> Vec<u8> {
        let mut written: Vec<(u64, Vec<u8>)> = Vec::new();
        let scopes = if level == Level::Resource && self.odd() { 1000 } else { 2 };
        for field in fields(message) {
            let child = match (level, field.number) {
                (Level::Request, 1) => Some(Level::Resource),
                (Level::Resource, 2) => Some(Level::Scope),
                (Level::Scope, 2) => Some(Level::Item),
                _ => None,
            };
            let mut number = field.number;
            if level == Level::Resource && number == 2 && scopes == 1000 {
                self.deprecated = true;
                number = 1000;
            }
            let content = match child {
                Some(child) => self.message(child, field.content),
                None => field.content.to_vec(),
            };
            let mut raw = Vec::new();
            if level == Level::Item && number == 1 && field.content.len() == 16 && self.odd() {
                // An id that the next one overrules.
                raw.extend([0x0a, 0x10]);
                raw.extend([0xaa; 16]);
            }
            self.varint(&mut raw, number << 3 | field.wire);
            if field.wire == 2 {
                self.varint(&mut raw, content.len() as u64);
                raw.extend(content);
            } else {
                // The value, behind a tag of one or (number 16) two bytes.
                raw.extend(&field.raw[if number < 16 { 1 } else { 2 }..]);
            }
            written.push((number, raw));
        }
        self.arrange(&mut written);
        if level == Level::Resource && written.iter().any(|(number, _)| *number == 2) && self.odd()
        {
            // Old scope spans beside new ones do not count.
            self.insert(&mut written, 1000, vec![0xc2, 0x3e, 4, 0x12, 2, 0x2a, 0]);
        }
        while self.odd() {
            let unknown = self.unknown();
            self.insert(&mut written, 4000, unknown);
        }
        written.into_iter().flat_map(|(_, raw)| raw).collect()
    }

    fn insert(&mut self, fields: &mut Vec<(u64, Vec<u8>)>, number: u64, raw: Vec<u8>) {
        let at = self.random.below(fields.len() as u64 + 1) as usize;
        fields.insert(at, (number, raw));
    }

    /// Changes the order between fields, never among the elements of a repeated one.
    fn arrange(&mut self, fields: &mut [(u64, Vec<u8>)]) {
        match self.order {
            Order::AsIs => {}
            Order::Descending => fields.sort_by_key(|(number, _)| std::cmp::Reverse(*number)),
            Order::Mixed => {
                for _ in 0..fields.len() * 2 {
                    let at = self.random.below(fields.len() as u64) as usize;
                    if at > 0 && fields[at].0 != fields[at - 1].0 {
                        fields.swap(at, at - 1);
                    }
                }
            }
        }
    }

    /// An unknown field of any wire type.
    fn unknown(&mut self) -> Vec<u8> {
        let number = *self.random.pick(&[20, 99, 999, 1001, 5000, (1 << 29) - 1]);
        let mut out = Vec::new();
        let wire = *self.random.pick(&[0, 1, 2, 3, 5]);
        self.varint(&mut out, number << 3 | wire);
        match wire {
            0 => {
                let value = self.random.next_u64();
                self.varint(&mut out, value);
            }
            1 => out.extend([0x0a; 8]),
            2 => out.extend([3, 0x0a, 0x10, 0x12]),
            3 => {
                let inner = self.random.below(3);
                for _ in 0..inner {
                    let inner = self.unknown();
                    out.extend(if inner.len() < 40 { inner } else { vec![] });
                }
                self.varint(&mut out, number << 3 | 4);
            }
            _ => out.extend([0x0a; 4]),
        }
        out
    }
}

fn minimal(value: u64) -> usize {
    let mut out = Vec::new();
    push_varint(&mut out, value);
    out.len()
}
