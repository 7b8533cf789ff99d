//! The reply of an export: empty, or a partial success. The layout is the same for all signals
//! (OTLP: `ExportTraceServiceResponse.partial_success = 1 {rejected = 1, error_message = 2}`).

use super::Error;
use super::wire::{Extent, LEN, Reader, VARINT, push_varint};

/// What the collector answers: a partial success that is there and empty (otlp 1.5).
pub const FULL_SUCCESS: &[u8] = &[0x0a, 0x00];

const PARTIAL_SUCCESS: u8 = 0x0a;
const REJECTED: u8 = 0x08;
const ERROR_MESSAGE: u8 = 0x12;

/// A reply that accepts all but `rejected` items.
#[must_use]
pub fn partial_success(rejected: u32, message: &str) -> Vec<u8> {
    let mut inner = Vec::with_capacity(message.len() + 12);
    inner.push(REJECTED);
    push_varint(&mut inner, rejected);
    inner.push(ERROR_MESSAGE);
    push_varint(&mut inner, u32::try_from(message.len()).unwrap_or(0));
    inner.extend_from_slice(message.as_bytes());
    let mut out = Vec::with_capacity(inner.len() + 6);
    out.push(PARTIAL_SUCCESS);
    push_varint(&mut out, u32::try_from(inner.len()).unwrap_or(0));
    out.extend_from_slice(&inner);
    out
}

/// What an endpoint rejected of a call that it answered with OK.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rejection {
    /// Items.
    pub items: u64,
    /// Its words; a message without items is a warning.
    pub message: String,
}

/// Reads a reply. One that is not well formed counts as a full success: the data was taken.
#[must_use]
pub fn rejection(reply: &[u8]) -> Rejection {
    u32::try_from(reply.len()).ok().and_then(|end| read(reply, end).ok()).unwrap_or_default()
}

fn read(reply: &[u8], end: u32) -> Result<Rejection, Error> {
    let mut rejection = Rejection::default();
    let mut outer = Reader::new(reply, Extent { start: 0, end });
    while !outer.at_end() {
        let tag = outer.tag()?;
        if (tag.field, tag.wire) != (1, LEN) {
            outer.skip(tag)?;
            continue;
        }
        let mut partial = Reader::new(reply, outer.content()?);
        while !partial.at_end() {
            let tag = partial.tag()?;
            match (tag.field, tag.wire) {
                (1, VARINT) => rejection.items = partial.varint()?,
                (2, LEN) => {
                    let text = partial.content()?.of(reply);
                    rejection.message = String::from_utf8_lossy(text).into_owned();
                }
                _ => partial.skip(tag)?,
            }
        }
    }
    Ok(rejection)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_partial_success_survives() {
        let want = Rejection { items: 300, message: "endpoint b: queue is full".into() };
        assert_eq!(rejection(&partial_success(300, &want.message)), want);
    }

    #[test]
    fn success_in_any_form_rejects_nothing() {
        for reply in [&b""[..], FULL_SUCCESS, b"\x0a\x05\x08", b"\xff\xff"] {
            assert_eq!(rejection(reply).items, 0, "{reply:?}");
        }
    }
}
