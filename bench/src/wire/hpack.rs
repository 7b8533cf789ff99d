//! Header blocks, stateless (RFC 7541).
//!
//! [`fields`] reads blocks that use no dynamic table: a peer that was told
//! `SETTINGS_HEADER_TABLE_SIZE = 0` writes no others. [`Block`] writes a constant list of headers
//! in the two forms that an ordinary encoder produces: literals that enter the peer's table on
//! first use, and one byte each from then on.

use super::frame::{COMPRESSION_ERROR, Violation, violation};
use super::huffman;

/// The index of the first entry of the dynamic table.
const DYNAMIC_FIRST: usize = 62;
/// Longest decoded string; gRPC replies carry short ones.
const STRING_BYTES_MAX: usize = 64 << 10;

/// Static names that matter here (RFC 7541 appendix A).
const STATUS: std::ops::RangeInclusive<usize> = 8..=14;
const STATUS_VALUES: [&[u8]; 7] = [b"200", b"204", b"206", b"304", b"400", b"404", b"500"];

fn wrong<T>(what: &'static str) -> Result<T, Violation> {
    violation(COMPRESSION_ERROR, what)
}

fn integer(block: &mut &[u8], prefix_bits: u8) -> Result<usize, Violation> {
    let Some((&first, rest)) = block.split_first() else { return wrong("header block cut") };
    *block = rest;
    let mask = (1_u8 << prefix_bits) - 1;
    let mut value = usize::from(first & mask);
    if value < usize::from(mask) {
        return Ok(value);
    }
    for shift in [0, 7, 14, 21] {
        let Some((&byte, rest)) = block.split_first() else { return wrong("header block cut") };
        *block = rest;
        value += usize::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Ok(value);
        }
    }
    wrong("integer too large")
}

/// Reads a string into `out`, replacing what it held.
fn string(block: &mut &[u8], out: &mut Vec<u8>) -> Result<(), Violation> {
    out.clear();
    let coded = block.first().is_some_and(|b| b & 0x80 != 0);
    let len = integer(block, 7)?;
    if len > STRING_BYTES_MAX || len > block.len() {
        return wrong("string too long");
    }
    let (bytes, rest) = block.split_at(len);
    *block = rest;
    if !coded {
        out.extend_from_slice(bytes);
    } else if huffman::decode(bytes, out).is_none() {
        return wrong("invalid Huffman coding");
    }
    Ok(())
}

/// Calls `each(name, value)` for every field. Names from the static table are given only for
/// `:status`; the others are empty. A reference to the dynamic table is an error.
pub(crate) fn fields(
    mut block: &[u8],
    mut each: impl FnMut(&[u8], &[u8]),
) -> Result<(), Violation> {
    let (mut name, mut value) = (Vec::new(), Vec::new());
    while let Some(&first) = block.first() {
        if first & 0x80 != 0 {
            let index = integer(&mut block, 7)?;
            if index == 0 || index >= DYNAMIC_FIRST {
                return wrong("index into a dynamic table of size 0");
            }
            if STATUS.contains(&index) {
                each(b":status", STATUS_VALUES[index - STATUS.start()]);
            }
            continue;
        }
        if first & 0xe0 == 0x20 {
            integer(&mut block, 5)?; // Table size update.
            continue;
        }
        let index = integer(&mut block, if first & 0x40 != 0 { 6 } else { 4 })?;
        match index {
            0 => string(&mut block, &mut name)?,
            1..DYNAMIC_FIRST => {
                name.clear();
                if STATUS.contains(&index) {
                    name.extend_from_slice(b":status");
                }
            }
            _ => return wrong("index into a dynamic table of size 0"),
        }
        string(&mut block, &mut value)?;
        each(&name, &value);
    }
    Ok(())
}

fn put_integer(out: &mut Vec<u8>, prefix_bits: u8, high: u8, mut value: usize) {
    let mask = (1_usize << prefix_bits) - 1;
    if value < mask {
        out.push(high | value as u8);
        return;
    }
    out.push(high | mask as u8);
    value -= mask;
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn put_string(out: &mut Vec<u8>, text: &[u8]) {
    put_integer(out, 7, 0, text.len());
    out.extend_from_slice(text);
}

/// Appends a literal that does not enter the peer's table.
pub(crate) fn put_literal(out: &mut Vec<u8>, name: &str, value: &[u8]) {
    out.push(0);
    put_string(out, name.as_bytes());
    put_string(out, value);
}

/// The name of a header: an index of the static table, or a name of its own.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Name {
    Static(u8),
    New(&'static str),
}

/// One header of a [`Block`].
#[derive(Debug, Clone)]
pub(crate) enum Header {
    /// Name and value stand in the static table at this index.
    Static(u8),
    /// Enters the peer's dynamic table.
    Indexed(Name, Vec<u8>),
    /// Does not.
    Literal(Name, Vec<u8>),
}

/// A constant list of headers, encoded beforehand in each form.
#[derive(Debug)]
pub(crate) struct Block {
    /// Literals that enter the peer's table.
    pub(crate) first: Vec<u8>,
    /// References to them.
    pub(crate) again: Vec<u8>,
    /// For a peer without a table.
    pub(crate) plain: Vec<u8>,
}

impl Block {
    /// `later` is how many entries other blocks add to the table after the first use of this one.
    pub(crate) fn new(headers: &[Header], later: usize) -> Self {
        let indexed = headers.iter().filter(|h| matches!(h, Header::Indexed(..))).count();
        let mut block = Self { first: Vec::new(), again: Vec::new(), plain: Vec::new() };
        let mut nth = 0;
        for header in headers {
            match header {
                Header::Static(index) => {
                    for form in [&mut block.first, &mut block.again, &mut block.plain] {
                        form.push(0x80 | index);
                    }
                }
                Header::Indexed(name, value) => {
                    nth += 1;
                    put_named(&mut block.first, 6, 0x40, *name, value);
                    put_integer(&mut block.again, 7, 0x80, DYNAMIC_FIRST + later + indexed - nth);
                    put_named(&mut block.plain, 4, 0, *name, value);
                }
                Header::Literal(name, value) => {
                    for form in [&mut block.first, &mut block.again, &mut block.plain] {
                        put_named(form, 4, 0, *name, value);
                    }
                }
            }
        }
        block
    }
}

fn put_named(out: &mut Vec<u8>, prefix_bits: u8, high: u8, name: Name, value: &[u8]) {
    match name {
        Name::Static(index) => put_integer(out, prefix_bits, high, usize::from(index)),
        Name::New(name) => {
            out.push(high);
            put_string(out, name.as_bytes());
        }
    }
    put_string(out, value);
}

/// Tells the peer that its table for our headers is to be empty. Due once, before the first
/// block, if it announced a smaller table than the default (RFC 7541 §4.2).
pub(crate) const EMPTY_TABLE: u8 = 0x20;

#[cfg(test)]
mod tests {
    use super::*;

    fn read(block: &[u8]) -> Result<Vec<(String, String)>, Violation> {
        let text = |b: &[u8]| String::from_utf8_lossy(b).into_owned();
        let mut out = Vec::new();
        fields(block, |n, v| out.push((text(n), text(v))))?;
        Ok(out)
    }

    #[test]
    fn what_is_written_plainly_is_read_back() {
        let block = Block::new(
            &[
                Header::Static(8),
                Header::Indexed(Name::Static(31), b"application/grpc".to_vec()),
                Header::Indexed(Name::New("grpc-status"), b"0".to_vec()),
                Header::Literal(Name::New("x"), vec![b'y'; 300]),
            ],
            0,
        );
        let pair = |n: &str, v: &str| (n.to_owned(), v.to_owned());
        let want = [
            pair(":status", "200"),
            pair("", "application/grpc"),
            pair("grpc-status", "0"),
            pair("x", &"y".repeat(300)),
        ];
        assert_eq!(read(&block.plain).expect("valid"), want);
        assert_eq!(read(&block.first).expect("valid"), want);
        // The later entry of the table has the smaller index.
        assert_eq!(block.again[..3], [0x88, 0x80 | 63, 0x80 | 62]);
        assert!(read(&block.again).is_err());
        for cut in 1..block.plain.len() {
            let _ = read(&block.plain[..cut]);
        }
    }

    #[test]
    fn a_huffman_coded_value_is_read() {
        assert_eq!(read(&[0x08, 0x82, 0x64, 0x02]).expect("valid")[0].1, "302");
    }
}
