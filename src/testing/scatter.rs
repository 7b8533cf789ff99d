//! A message in pieces, as frames of several streams leave it.

use std::ops::Range;

/// What lies between pieces.
const BETWEEN: [u8; 9] = [0xff; 9];

/// `message` in pieces of these lengths and the rest, with other bytes around each: all bytes, and
/// where the pieces are.
///
/// # Panics
/// If that is 4 GiB or more.
#[must_use]
pub fn scatter(message: &[u8], cuts: &[usize]) -> (Vec<u8>, Vec<Range<u32>>) {
    let position = |bytes: &Vec<u8>| u32::try_from(bytes.len()).expect("a message for tests");
    let (mut bytes, mut pieces, mut rest) = (BETWEEN.to_vec(), Vec::new(), message);
    for cut in cuts.iter().copied().chain([usize::MAX]) {
        let (piece, after) = rest.split_at(cut.min(rest.len()));
        let start = position(&bytes);
        bytes.extend_from_slice(piece);
        pieces.push(start..position(&bytes));
        bytes.extend_from_slice(&BETWEEN);
        rest = after;
    }
    (bytes, pieces)
}
