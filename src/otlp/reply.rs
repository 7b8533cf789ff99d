//! The reply of an export: empty, or a partial success. The layout is the same for all signals
//! (OTLP: `ExportTraceServiceResponse.partial_success = 1 {rejected = 1, error_message = 2}`).

use super::wire::{Extent, LEN, Reader, VARINT, push_varint};
use super::{Error, Signal};

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
    read(reply).unwrap_or_default()
}

/// Reads a reply.
///
/// # Errors
/// It is not well formed.
pub fn read(reply: &[u8]) -> Result<Rejection, Error> {
    let end = u32::try_from(reply.len()).unwrap_or(u32::MAX);
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

/// The reply in JSON, as the collector writes it: an empty partial success is there, too.
#[must_use]
pub fn json(signal: Signal, reply: &[u8]) -> Vec<u8> {
    let Rejection { items, message } = rejection(reply);
    let mut partial = serde_json::Map::new();
    if items > 0 {
        partial.insert(rejected_name(signal).to_owned(), items.to_string().into());
    }
    if !message.is_empty() {
        partial.insert("errorMessage".to_owned(), message.into());
    }
    serde_json::json!({"partialSuccess": partial}).to_string().into_bytes()
}

/// Reads a reply in JSON. One that cannot be read counts as a full success: the data was taken.
#[must_use]
pub fn rejection_of_json(signal: Signal, reply: &[u8]) -> Rejection {
    let Ok(reply) = serde_json::from_slice::<serde_json::Value>(reply) else {
        return Rejection::default();
    };
    let either = |value: &serde_json::Value, names: [&str; 2]| {
        names.iter().find_map(|name| value.get(name).cloned()).unwrap_or_default()
    };
    let partial = either(&reply, ["partialSuccess", "partial_success"]);
    let items = match either(&partial, [rejected_name(signal), rejected_snake_name(signal)]) {
        serde_json::Value::String(text) => text.parse().unwrap_or(0),
        number => number.as_u64().unwrap_or(0),
    };
    let message = either(&partial, ["errorMessage", "error_message"]);
    Rejection { items, message: message.as_str().unwrap_or_default().to_owned() }
}

const fn rejected_name(signal: Signal) -> &'static str {
    match signal {
        Signal::Traces => "rejectedSpans",
        Signal::Metrics => "rejectedDataPoints",
        Signal::Logs => "rejectedLogRecords",
    }
}

const fn rejected_snake_name(signal: Signal) -> &'static str {
    match signal {
        Signal::Traces => "rejected_spans",
        Signal::Metrics => "rejected_data_points",
        Signal::Logs => "rejected_log_records",
    }
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
    fn a_reply_survives_json() {
        assert_eq!(json(Signal::Traces, FULL_SUCCESS), br#"{"partialSuccess":{}}"#);
        let want = Rejection { items: 7, message: "say \"no\"".into() };
        for signal in Signal::ALL {
            let text = json(signal, &partial_success(7, &want.message));
            assert_eq!(rejection_of_json(signal, &text), want, "{signal:?}");
        }
        let number = br#"{"partial_success":{"rejected_spans":3}}"#;
        assert_eq!(rejection_of_json(Signal::Traces, number).items, 3);
        assert_eq!(rejection_of_json(Signal::Traces, b"[1"), Rejection::default());
    }

    #[test]
    fn success_in_any_form_rejects_nothing() {
        for reply in [&b""[..], FULL_SUCCESS, b"\x0a\x05\x08", b"\xff\xff"] {
            assert_eq!(rejection(reply).items, 0, "{reply:?}");
        }
    }

    #[test]
    fn a_reply_that_is_not_well_formed_is_told_from_an_empty_one() {
        assert_eq!(read(b""), Ok(Rejection::default()));
        for reply in [&b"\x0a\x05\x08"[..], b"\xff\xff\xff", b"\x0a\x02\x08\x80"] {
            assert!(read(reply).is_err(), "{reply:?}");
        }
    }
}
