//! What nearly all attributes look like. `None` says that somebody has to look closer, not that
//! something is wrong.

/// Key and value of a KeyValue that has both, once, in either order, with lengths of one or two
/// bytes. The value is not checked.
pub(super) fn entry(message: &[u8]) -> Option<(&[u8], &[u8])> {
    let [first @ (0x0a | 0x12), ref rest @ ..] = *message else { return None };
    let (one, rest) = content(rest)?;
    let [second, ref rest @ ..] = *rest else { return None };
    let (two, rest) = content(rest)?;
    if first ^ second != 0x0a ^ 0x12 || !rest.is_empty() {
        return None;
    }
    Some(if first == 0x0a { (one, two) } else { (two, one) })
}

/// As many bytes as the length says that stands before them, in one byte or two, and the rest.
#[inline(always)]
pub(super) fn content(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    match *bytes {
        [len @ 0..0x80, ref rest @ ..] => rest.split_at_checked(len.into()),
        [low, high @ 0..0x80, ref rest @ ..] => {
            rest.split_at_checked(usize::from(low & 0x7f) | usize::from(high) << 7)
        }
        _ => None,
    }
}

/// Nothing, or a string, a bool or a number that is all of its AnyValue, with a length of one byte.
#[inline(always)]
pub(super) fn is_flat(value: &[u8]) -> bool {
    match *value {
        [0x10 | 0x18, small] => small < 0x80,
        [0x18, low, high] => low >= 0x80 && high < 0x80,
        [0x0a, len @ 0..0x80, ref text @ ..] => text.len() == usize::from(len),
        _ => is_flat_too(value),
    }
}

/// The rarer ones: longer numbers, and nothing.
#[inline(never)]
fn is_flat_too(value: &[u8]) -> bool {
    match *value {
        [0x18, ref int @ .., last] => {
            int.len() < 10 && last < 0x80 && int.iter().all(|byte| *byte >= 0x80)
        }
        [0x21, ..] => value.len() == 9,
        [] => true,
        _ => false,
    }
}
