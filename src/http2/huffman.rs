//! Huffman-coded strings of HPACK, decoded (RFC 7541 §5.2, appendix B).
//!
//! The code of the appendix is canonical: the lengths alone determine it. Header blocks that are
//! decoded here are short and rare (equal blocks are remembered), so it goes bit by bit.

use std::sync::OnceLock;

/// Code lengths of the 256 symbols and of EOS, run-length written: (length, symbols).
const LENGTHS: &[(u8, u8)] = &[
    (13, 1),
    (23, 1),
    (28, 7),
    (24, 1),
    (30, 1),
    (28, 2),
    (30, 1),
    (28, 8),
    (30, 1),
    (28, 9),
    (6, 1),
    (10, 2),
    (12, 1),
    (13, 1),
    (6, 1),
    (8, 1),
    (11, 1),
    (10, 2),
    (8, 1),
    (11, 1),
    (8, 1),
    (6, 3),
    (5, 3),
    (6, 7),
    (7, 1),
    (8, 1),
    (15, 1),
    (6, 1),
    (12, 1),
    (10, 1),
    (13, 1),
    (6, 1),
    (7, 22),
    (8, 1),
    (7, 1),
    (8, 1),
    (13, 1),
    (19, 1),
    (13, 1),
    (14, 1),
    (6, 1),
    (15, 1),
    (5, 1),
    (6, 1),
    (5, 1),
    (6, 1),
    (5, 1),
    (6, 3),
    (5, 1),
    (7, 2),
    (6, 3),
    (5, 1),
    (6, 1),
    (7, 1),
    (6, 1),
    (5, 2),
    (6, 1),
    (7, 5),
    (15, 1),
    (11, 1),
    (14, 1),
    (13, 1),
    (28, 1),
    (20, 1),
    (22, 1),
    (20, 2),
    (22, 3),
    (23, 1),
    (22, 1),
    (23, 5),
    (24, 1),
    (23, 1),
    (24, 2),
    (22, 1),
    (23, 1),
    (24, 1),
    (23, 4),
    (21, 1),
    (22, 1),
    (23, 1),
    (22, 1),
    (23, 2),
    (24, 1),
    (22, 1),
    (21, 1),
    (20, 1),
    (22, 2),
    (23, 2),
    (21, 1),
    (23, 1),
    (22, 2),
    (24, 1),
    (21, 1),
    (22, 1),
    (23, 2),
    (21, 2),
    (22, 1),
    (21, 1),
    (23, 1),
    (22, 1),
    (23, 2),
    (20, 1),
    (22, 3),
    (23, 1),
    (22, 2),
    (23, 1),
    (26, 2),
    (20, 1),
    (19, 1),
    (22, 1),
    (23, 1),
    (22, 1),
    (25, 1),
    (26, 3),
    (27, 2),
    (26, 1),
    (24, 1),
    (25, 1),
    (19, 1),
    (21, 1),
    (26, 1),
    (27, 2),
    (26, 1),
    (27, 1),
    (24, 1),
    (21, 2),
    (26, 2),
    (28, 1),
    (27, 3),
    (20, 1),
    (24, 1),
    (20, 1),
    (21, 1),
    (22, 1),
    (21, 2),
    (23, 1),
    (22, 2),
    (25, 2),
    (24, 2),
    (26, 1),
    (23, 1),
    (26, 1),
    (27, 1),
    (26, 2),
    (27, 5),
    (28, 1),
    (27, 5),
    (26, 1),
    (30, 1),
];

const LENGTH_MAX: usize = 30;

#[derive(Debug)]
struct Code {
    /// Symbols ordered by (length, value).
    symbols: Vec<u16>,
    /// Per length: its first code, how many there are, and where they start in `symbols`.
    first: [u32; LENGTH_MAX + 1],
    count: [u32; LENGTH_MAX + 1],
    start: [u32; LENGTH_MAX + 1],
}

fn code() -> &'static Code {
    static CODE: OnceLock<Code> = OnceLock::new();
    CODE.get_or_init(|| {
        let lengths: Vec<u8> =
            LENGTHS.iter().flat_map(|&(len, n)| std::iter::repeat_n(len, usize::from(n))).collect();
        assert_eq!(lengths.len(), 257);
        let zero = [0; LENGTH_MAX + 1];
        let mut code = Code { symbols: Vec::new(), first: zero, count: zero, start: zero };
        let mut next = 0;
        for len in 1..=LENGTH_MAX {
            next <<= 1;
            code.first[len] = next;
            code.start[len] = code.symbols.len() as u32;
            for (symbol, &l) in lengths.iter().enumerate() {
                if usize::from(l) == len {
                    code.symbols.push(symbol as u16);
                    next += 1;
                }
            }
            code.count[len] = next - code.first[len];
        }
        code
    })
}

/// Appends the decoded string; `None` if it is not a valid coding.
pub(crate) fn decode(coded: &[u8], out: &mut Vec<u8>) -> Option<()> {
    let table = code();
    let (mut bits, mut len) = (0_u32, 0);
    for byte in coded {
        for shift in (0..8).rev() {
            bits = bits << 1 | u32::from(byte >> shift & 1);
            len += 1;
            if len > LENGTH_MAX {
                return None;
            }
            let offset = bits.wrapping_sub(table.first[len]);
            if offset < table.count[len] {
                // EOS inside a string is an error: it does not fit a byte.
                let symbol = table.symbols[(table.start[len] + offset) as usize];
                out.push(u8::try_from(symbol).ok()?);
                (bits, len) = (0, 0);
            }
        }
    }
    // Padding: fewer than eight bits, all ones.
    (len < 8 && bits == (1 << len) - 1).then_some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_examples_of_the_specification_are_decoded() {
        // RFC 7541 C.4.1, C.4.2, C.6.1
        let cases: [(&[u8], &[u8]); 4] = [
            (
                b"www.example.com",
                &[0xf1, 0xe3, 0xc2, 0xe5, 0xf2, 0x3a, 0x6b, 0xa0, 0xab, 0x90, 0xf4, 0xff],
            ),
            (b"no-cache", &[0xa8, 0xeb, 0x10, 0x64, 0x9c, 0xbf]),
            (b"302", &[0x64, 0x02]),
            (b"private", &[0xae, 0xc3, 0x77, 0x1a, 0x4b]),
        ];
        for (want, coded) in cases {
            let mut out = Vec::new();
            assert_eq!(decode(coded, &mut out), Some(()));
            assert_eq!(out, want);
        }
    }

    #[test]
    fn wrong_padding_and_the_end_symbol_are_refused() {
        for coded in [&[0x00][..], &[0xff; 4], &[0xff, 0xff]] {
            assert_eq!(decode(coded, &mut Vec::new()), None, "{coded:x?}");
        }
    }
}
