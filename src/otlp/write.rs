//! Writing wire bytes field by field: tags, minimal lengths, messages inside messages. What is
//! written can be read back by [`wire`](super::wire).

use super::wire::{I32, I64, LEN, VARINT, push_varint};

/// Appends a tag.
pub fn tag(out: &mut Vec<u8>, number: u32, wire: u8) {
    push_varint(out, number << 3 | u32::from(wire));
}

/// Appends an integer, a bool or an enum.
pub fn varint(out: &mut Vec<u8>, number: u32, value: u64) {
    tag(out, number, VARINT);
    push_varint(out, value);
}

/// Appends 8 bytes.
pub fn fixed64(out: &mut Vec<u8>, number: u32, value: u64) {
    tag(out, number, I64);
    out.extend_from_slice(&value.to_le_bytes());
}

/// Appends 4 bytes.
pub fn fixed32(out: &mut Vec<u8>, number: u32, value: u32) {
    tag(out, number, I32);
    out.extend_from_slice(&value.to_le_bytes());
}

/// Appends a string or bytes.
///
/// # Panics
/// On 4 GiB and more.
pub fn bytes(out: &mut Vec<u8>, number: u32, bytes: &[u8]) {
    tag(out, number, LEN);
    push_varint(out, u32::try_from(bytes.len()).expect("fields are shorter than 4 GiB"));
    out.extend_from_slice(bytes);
}

/// Appends a message that `fill` writes.
///
/// # Panics
/// If it writes 4 GiB and more.
pub fn message<T>(out: &mut Vec<u8>, number: u32, fill: impl FnOnce(&mut Vec<u8>) -> T) -> T {
    tag(out, number, LEN);
    // Most are short: one byte for the length, more when it turns out so.
    out.push(0);
    let start = out.len();
    let value = fill(out);
    let length = u32::try_from(out.len() - start).expect("messages are shorter than 4 GiB");
    if let Ok(short @ 0..0x80) = u8::try_from(length) {
        out[start - 1] = short;
    } else {
        let mut prefix = Vec::with_capacity(5);
        push_varint(&mut prefix, length);
        out.splice(start - 1..start, prefix);
    }
    value
}

/// A field of its own.
#[cfg(test)]
pub(crate) fn field(number: u32, content: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    bytes(&mut out, number, content);
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::otlp::value::{Field, Fields};

    #[test]
    fn what_is_written_reads_back() {
        for size in [0, 1, 127, 128, 16_383, 16_384, 3_000_000] {
            let content = vec![b'x'; size];
            let mut out = Vec::new();
            message(&mut out, 5, |out| bytes(out, 16, &content));
            varint(&mut out, 1, u64::MAX);
            fixed64(&mut out, 2, 7);
            fixed32(&mut out, 3, 9);
            let fields: Vec<_> = Fields::of(&out).collect();
            let Field::Bytes(inner) = fields[0].1 else { panic!("a message") };
            assert_eq!(Fields::of(inner).collect::<Vec<_>>(), [(16, Field::Bytes(&content))]);
            let rest =
                [(1, Field::Varint(u64::MAX)), (2, Field::Fixed64(7)), (3, Field::Fixed32(9))];
            assert_eq!(fields[1..], rest);
        }
    }
}
