//! Header blocks, read (RFC 7541): the decoder of one connection and its dynamic table.
//!
//! Nothing is allocated for a field that stands in a table, which after the first request are all
//! but a few. The table is bounded by what was announced, a string by the block that holds it, and
//! there is a limit to what the fields of a block add up to.

use std::collections::VecDeque;

use super::frame::{COMPRESSION_ERROR, ENHANCE_YOUR_CALM, Violation, violation};
use super::hpack::DYNAMIC_FIRST;
use super::huffman;
use super::static_table::STATIC;

/// What an entry of a table counts beside its name and value (RFC 7541 §4.1).
pub(crate) const ENTRY_BYTES: usize = 32;

/// The decoder of one connection.
#[derive(Debug)]
pub(crate) struct Decoder {
    /// The newest first.
    entries: VecDeque<Entry>,
    /// Sum over the entries.
    bytes: usize,
    /// What the peer has chosen, and what it may choose.
    bytes_max: usize,
    allowed: usize,
    /// What the fields of a block may add up to.
    list_bytes_max: usize,
    name: Vec<u8>,
    value: Vec<u8>,
}

/// Name and value, one after the other.
#[derive(Debug)]
struct Entry {
    text: Box<[u8]>,
    name_len: usize,
}

impl Entry {
    fn bytes(&self) -> usize {
        self.text.len() + ENTRY_BYTES
    }

    fn halves(&self) -> (&[u8], &[u8]) {
        self.text.split_at(self.name_len)
    }
}

fn wrong<T>(what: &'static str) -> Result<T, Violation> {
    violation(COMPRESSION_ERROR, what)
}

impl Decoder {
    /// For a peer that was told a table of `allowed` bytes. A block may name an entry of that size
    /// with each of its bytes; one that adds up to more than `list_bytes_max` is not read on.
    pub(crate) fn new(allowed: usize, list_bytes_max: usize) -> Self {
        Self {
            entries: VecDeque::new(),
            bytes: 0,
            bytes_max: allowed,
            allowed,
            list_bytes_max,
            name: Vec::new(),
            value: Vec::new(),
        }
    }

    /// Calls `each(name, value)` for every field of a block. After an error the two tables differ,
    /// so the connection must end.
    pub(crate) fn decode(
        &mut self,
        mut block: &[u8],
        mut each: impl FnMut(&[u8], &[u8]),
    ) -> Result<(), Violation> {
        let mut begun = false;
        let mut list_bytes = 0;
        while let Some(&first) = block.first() {
            if first & 0x80 != 0 {
                let index = integer(&mut block, 7)?;
                let (name, value) = self.entry(index)?;
                list_bytes += name.len() + value.len() + ENTRY_BYTES;
                each(name, value);
            } else if first & 0xe0 == 0x20 {
                // RFC 7541 §4.2: only before the first field.
                if begun {
                    return wrong("table size update after a field");
                }
                let bytes = integer(&mut block, 5)?;
                if bytes > self.allowed {
                    return wrong("table larger than allowed");
                }
                self.bytes_max = bytes;
                self.evict(0);
                continue;
            } else {
                self.literal(&mut block, first & 0x40 != 0)?;
                list_bytes += self.name.len() + self.value.len() + ENTRY_BYTES;
                each(&self.name, &self.value);
                if first & 0x40 != 0 {
                    self.remember();
                }
            }
            if list_bytes > self.list_bytes_max {
                return violation(ENHANCE_YOUR_CALM, "header list far too large");
            }
            begun = true;
        }
        Ok(())
    }

    /// Reads a literal field into `name` and `value`.
    fn literal(&mut self, block: &mut &[u8], indexed: bool) -> Result<(), Violation> {
        let index = integer(block, if indexed { 6 } else { 4 })?;
        let mut name = std::mem::take(&mut self.name);
        if index == 0 {
            string(block, &mut name)?;
        } else {
            name.clear();
            name.extend_from_slice(self.entry(index)?.0);
        }
        self.name = name;
        string(block, &mut self.value)
    }

    #[inline]
    fn entry(&self, index: usize) -> Result<(&[u8], &[u8]), Violation> {
        if let Some(at) = index.checked_sub(DYNAMIC_FIRST) {
            return match self.entries.get(at) {
                Some(entry) => Ok(entry.halves()),
                None => wrong("index beyond the table"),
            };
        }
        match index.checked_sub(1) {
            Some(at) => Ok((STATIC[at].0.as_bytes(), STATIC[at].1.as_bytes())),
            None => wrong("index 0"),
        }
    }

    /// Enters the field that was read last.
    fn remember(&mut self) {
        let len = self.name.len() + self.value.len();
        self.evict(len + ENTRY_BYTES);
        if len + ENTRY_BYTES <= self.bytes_max {
            let text = [&self.name[..], &self.value[..]].concat().into();
            self.entries.push_front(Entry { text, name_len: self.name.len() });
            self.bytes += len + ENTRY_BYTES;
        }
    }

    /// Makes room for `more`; one that is larger than the table empties it (RFC 7541 §4.4).
    fn evict(&mut self, more: usize) {
        while self.bytes + more > self.bytes_max
            && let Some(entry) = self.entries.pop_back()
        {
            self.bytes -= entry.bytes();
        }
    }
}

/// RFC 7541 §5.1.
#[inline]
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
    let Some((bytes, rest)) = block.split_at_checked(len) else {
        return wrong("string longer than its block");
    };
    *block = rest;
    if !coded {
        out.extend_from_slice(bytes);
    } else if huffman::decode(bytes, out).is_none() {
        return wrong("invalid Huffman coding");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    type Fields = Vec<(String, String)>;

    fn read(decoder: &mut Decoder, block: &[u8]) -> Result<Fields, Violation> {
        let text = |b: &[u8]| String::from_utf8_lossy(b).into_owned();
        let mut out = Vec::new();
        decoder.decode(block, |n, v| out.push((text(n), text(v))))?;
        Ok(out)
    }

    fn bytes(hex: &str) -> Vec<u8> {
        let digits: Vec<u8> =
            hex.bytes().filter_map(|b| char::from(b).to_digit(16)).map(|d| d as u8).collect();
        digits.chunks(2).map(|pair| pair[0] << 4 | pair[1]).collect()
    }

    fn fields(pairs: &[(&str, &str)]) -> Fields {
        pairs.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect()
    }

    #[test]
    fn the_responses_of_the_specification_are_read_with_their_evictions() {
        // RFC 7541 C.6, a table of 256 bytes.
        let mut decoder = Decoder::new(256, 1 << 16);
        let location = ("location", "https://www.example.com");
        let (date, later) =
            (("date", "Mon, 21 Oct 2013 20:13:21 GMT"), ("date", "Mon, 21 Oct 2013 20:13:22 GMT"));
        let cookie = "foo=ASDJKHQKBZXOQWEOPIUAXQWEOIU; max-age=3600; version=1";
        let private = ("cache-control", "private");
        for (block, want, left) in [
            (
                "488264025885aec3771a4b6196d07abe941054d444a8200595040b8166e082a62d1bff6e919d29ad17\
                 1863c78f0b97c8e9ae82ae43d3",
                fields(&[(":status", "302"), private, date, location]),
                222,
            ),
            ("4883640effc1c0bf", fields(&[(":status", "307"), private, date, location]), 222),
            (
                "88c16196d07abe941054d444a8200595040b8166e084a62d1bffc05a839bd9ab77ad94e7821dd7f2e6\
                 c7b335dfdfcd5b3960d5af27087f3672c1ab270fb5291f9587316065c003ed4ee5b1063d5007",
                fields(&[
                    (":status", "200"),
                    private,
                    later,
                    location,
                    ("content-encoding", "gzip"),
                    ("set-cookie", cookie),
                ]),
                215,
            ),
        ] {
            assert_eq!(read(&mut decoder, &bytes(block)), Ok(want));
            assert_eq!(decoder.bytes, left);
        }
    }

    #[test]
    fn what_breaks_the_coding_is_refused() {
        let mut decoder = Decoder::new(4096, 1 << 16);
        for (block, what) in [
            ("80", "index 0"),
            ("be", "beyond the table"),
            ("3fe21f", "larger than allowed"),
            ("8220", "after a field"),
            ("40", "cut"),
            ("4005616263", "longer than its block"),
            ("ffffffffff7f", "too large"),
            ("00810001", "Huffman"),
        ] {
            let broken = read(&mut decoder, &bytes(block)).expect_err(block);
            assert!(broken.what.contains(what), "{block}: {broken:?}");
            assert_eq!(broken.code, COMPRESSION_ERROR);
        }
    }

    #[test]
    fn a_block_that_names_a_large_entry_again_and_again_is_not_read_on() {
        let mut decoder = Decoder::new(4096, 1 << 16);
        let mut block = vec![0x40, 1, b'a', 0x7f, 0xa1, 0x1e];
        block.extend([b'x'; 4000]);
        let _ = read(&mut decoder, &block).expect("valid");
        assert_eq!(read(&mut decoder, &[0xbe; 16]).map(|fields| fields.len()), Ok(16));
        let mut fields = 0;
        let broken = decoder.decode(&[0xbe; 16_000], |_, _| fields += 1).expect_err("too much");
        assert_eq!((broken.code, fields), (ENHANCE_YOUR_CALM, 17));
    }

    #[test]
    fn a_table_that_shrinks_forgets_the_oldest() {
        let mut decoder = Decoder::new(4096, 1 << 16);
        let _ = read(&mut decoder, &bytes("400161017840016201794001630179")).expect("valid");
        assert_eq!((decoder.entries.len(), decoder.bytes), (3, 3 * 34));
        assert_eq!(read(&mut decoder, &bytes("3f31be")), Ok(fields(&[("c", "y")])));
        assert_eq!(decoder.bytes, 2 * 34, "80 bytes");
        assert!(read(&mut decoder, &bytes("c0")).is_err());
        let _ = read(&mut decoder, &bytes("20")).expect("valid");
        assert_eq!((decoder.entries.len(), decoder.bytes), (0, 0));
        let long = [&bytes("40016100")[..], &[]].concat();
        assert!(read(&mut decoder, &long).is_ok());
        assert_eq!(decoder.bytes, 0, "nothing fits a table of none");
    }

    #[test]
    fn any_bytes_are_read_or_refused_and_the_table_keeps_its_limit() {
        let mut random = 0x9e37_79b9_7f4a_7c15_u64;
        let mut next = || {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            random as u8
        };
        for round in 0..20_000 {
            let mut decoder = Decoder::new(128, 1 << 16);
            for _ in 0..4 {
                let block: Vec<u8> = (0..round % 40).map(|_| next()).collect();
                let mut fields = 0;
                if decoder.decode(&block, |_, _| fields += 1).is_err() {
                    break;
                }
                assert!(fields <= block.len());
            }
            let bytes: usize = decoder.entries.iter().map(Entry::bytes).sum();
            assert!(decoder.bytes == bytes && bytes <= decoder.bytes_max.max(128));
        }
    }
}
