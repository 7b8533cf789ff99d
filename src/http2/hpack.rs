//! Header blocks, written without state (RFC 7541).
//!
//! [`Block`] writes a constant list of headers in the forms that an ordinary encoder produces:
//! literals that enter the peer's table on first use, and one byte each from then on. What is
//! different from call to call is a literal that enters no table.

/// The index of the first entry of the dynamic table.
pub(crate) const DYNAMIC_FIRST: usize = 62;

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

/// Appends a literal that no table on its way may ever hold (RFC 7541 §7.1.3).
pub(crate) fn put_secret(out: &mut Vec<u8>, name: &str, value: &[u8]) {
    out.push(0x10);
    put_string(out, name.as_bytes());
    put_string(out, value);
}

/// The name of a header: an index of the static table, or a name of its own.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Name<'a> {
    Static(u8),
    New(&'a str),
}

/// One header of a [`Block`].
#[derive(Debug, Clone)]
pub(crate) enum Header<'a> {
    /// Name and value stand in the static table at this index.
    Static(u8),
    /// Enters the peer's dynamic table.
    Indexed(Name<'a>, Vec<u8>),
    /// Does not.
    Literal(Name<'a>, Vec<u8>),
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
    pub(crate) fn new(headers: &[Header<'_>], later: usize) -> Self {
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

fn put_named(out: &mut Vec<u8>, prefix_bits: u8, high: u8, name: Name<'_>, value: &[u8]) {
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
    use super::super::unpack::Decoder;
    use super::*;

    fn read(decoder: &mut Decoder, block: &[u8]) -> Vec<(String, String)> {
        let text = |b: &[u8]| String::from_utf8_lossy(b).into_owned();
        let mut out = Vec::new();
        decoder.decode(block, |n, v| out.push((text(n), text(v)))).expect("valid");
        out
    }

    #[test]
    fn a_block_is_the_same_headers_in_each_of_its_forms() {
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
            pair("content-type", "application/grpc"),
            pair("grpc-status", "0"),
            pair("x", &"y".repeat(300)),
        ];
        let mut decoder = Decoder::new(4096, 1 << 16);
        for form in [&block.plain, &block.first, &block.again, &block.again, &block.plain] {
            assert_eq!(read(&mut decoder, form), want);
        }
        // The later entry of the table has the smaller index.
        assert_eq!(block.again[..3], [0x88, 0x80 | 63, 0x80 | 62]);
        assert!(Decoder::new(4096, 1 << 16).decode(&block.again, |_, _| ()).is_err());
    }
}
