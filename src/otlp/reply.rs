//! The reply of an export: empty, or a partial success. The layout is the same for all signals
//! (OTLP: `ExportTraceServiceResponse.partial_success = 1 {rejected = 1, error_message = 2}`).

use super::wire::push_varint;

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
    let mut rejection = Rejection::default();
    for (field, value) in fields(reply) {
        if let (1, Value::Bytes(partial)) = (field, value) {
            for (field, value) in fields(partial) {
                match (field, value) {
                    (1, Value::Int(items)) => rejection.items = items,
                    (2, Value::Bytes(text)) => {
                        rejection.message = String::from_utf8_lossy(text).into_owned();
                    }
                    _ => {}
                }
            }
        }
    }
    rejection
}

enum Value<'a> {
    Int(u64),
    Bytes(&'a [u8]),
}

fn varint(buf: &mut &[u8]) -> Option<u64> {
    let mut n = 0;
    for shift in (0..64).step_by(7) {
        let (&b, rest) = buf.split_first()?;
        *buf = rest;
        n |= u64::from(b & 0x7f) << shift;
        if b < 0x80 {
            return Some(n);
        }
    }
    None
}

fn fields(mut buf: &[u8]) -> impl Iterator<Item = (u64, Value<'_>)> {
    std::iter::from_fn(move || {
        let tag = varint(&mut buf)?;
        let value = match tag & 7 {
            0 => Value::Int(varint(&mut buf)?),
            2 => {
                let len = usize::try_from(varint(&mut buf)?).ok()?;
                let (bytes, rest) = buf.split_at_checked(len)?;
                buf = rest;
                Value::Bytes(bytes)
            }
            _ => return None,
        };
        Some((tag >> 3, value))
    })
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
