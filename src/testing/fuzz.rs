//! The bodies of the fuzz targets: plain functions, which `cargo test` runs on seeds as well.

mod served;

use std::sync::OnceLock;

use crate::otlp::edit::{Action, Editor, Edits, Source, Verb};
use crate::otlp::{self, Index, Signal};
use crate::route::{Generation, Key, Part, Ring, Split};
use crate::sample::ottl::{Condition, List, Scene};

pub use served::{grpc, http};

/// `otlp::scan` and `otlp::items` on any bytes: no panic, extents inside the body and in order,
/// ids where they are said to be, and the same count from both.
///
/// # Panics
/// If any of that does not hold.
pub fn scan(data: &[u8]) {
    let mut index = Index::new();
    for signal in Signal::ALL {
        match otlp::scan(signal, data, &mut index) {
            Ok(()) => {
                assert_eq!(otlp::items(signal, data), Ok(index.count()), "{signal:?}");
                check(data, &index);
            }
            Err(error) => {
                assert!(error.at().is_none_or(|at| at as usize <= data.len()), "{error}");
                assert_eq!(index.count(), 0);
            }
        }
    }
}

/// OTLP/JSON from any bytes: no panic, and what is taken is a request, not much larger.
///
/// # Panics
/// If any of that does not hold.
pub fn json(data: &[u8]) {
    let mut index = Index::new();
    for signal in Signal::ALL {
        let mut out = Vec::new();
        if otlp::json::decode_first(signal, data, &mut out).is_ok() {
            // A digit and a comma are a number of eight bytes.
            assert!(out.len() <= 8 * data.len() + 16, "{signal:?}: {}", out.len());
            assert_eq!(otlp::scan(signal, &out, &mut index), Ok(()), "{signal:?}");
        }
    }
}

fn check(data: &[u8], index: &Index) {
    let mut bytes = 0;
    for resource in index.resources() {
        bytes += resource.others_bytes() as usize;
        for (_, scope) in index.scopes_of(resource) {
            bytes += scope.others_bytes() as usize;
            let mut end = 0;
            for item in index.items_of(scope) {
                assert!(item.field.start >= end && item.field.end as usize <= data.len());
                end = item.field.end;
                bytes += item.field.len() as usize;
                if let Some(id) = item.trace_id_extent() {
                    assert!(id.start > item.field.start && id.end <= item.field.end);
                }
            }
        }
    }
    assert!(bytes <= data.len(), "no byte is counted twice");
}

/// `route::Split` on any bytes: parts have the planned sizes, are well formed themselves, hold all
/// items, each with its owner, and cutting a part again changes nothing.
///
/// # Panics
/// If any of that does not hold.
pub fn split(data: &[u8]) {
    let Some((ring, body)) = chosen_ring(data) else { return };
    for signal in [Signal::Traces, Signal::Logs] {
        let plan = |split: &mut Split, body: &[u8], index: &Index| {
            split.plan(body, index, ring);
            0
        };
        split_signal(signal, body, ring, true, plan);
    }
}

/// The same request in pieces: whatever is read where it lies is what would be read in one piece,
/// and is cut into the same parts.
///
/// # Panics
/// If any of that does not hold.
pub fn pieces(data: &[u8]) {
    let Some((&[step, gap], rest)) = data.split_first_chunk() else { return };
    let Some((ring, message)) = chosen_ring(rest) else { return };
    let (mut body, mut pieces) = (vec![0xff; usize::from(gap)], Vec::new());
    let at = |len: usize| u32::try_from(len).expect("a short body");
    for (n, piece) in message.chunks(usize::from(step) * 3 + 1).enumerate() {
        let start = at(body.len());
        body.extend_from_slice(piece);
        pieces.push(start..at(body.len()));
        body.resize(body.len() + (usize::from(gap) + n) % 11, 0x0a);
    }
    let mut index = Index::new();
    if !otlp::scan_pieces(&body, &pieces, &mut index) {
        assert_eq!(index.count(), 0);
        return;
    }
    let mut whole = Index::new();
    assert_eq!(otlp::scan(Signal::Traces, message, &mut whole), Ok(()), "who reads it takes it");
    assert_eq!(parts(&body, &index, ring), parts(message, &whole, ring));
}

/// Endpoint, items and bytes of each part.
fn parts(body: &[u8], index: &Index, ring: &Ring) -> Vec<(u16, u32, Vec<u8>)> {
    let mut split = Split::new();
    split.plan(body, index, ring);
    let write = |(at, part): (usize, &Part)| {
        let mut out = Vec::new();
        split.write(at, body, index, &mut out);
        (part.endpoint, part.items, out)
    };
    split.parts().iter().enumerate().map(write).collect()
}

/// The same by every key of every signal.
///
/// # Panics
/// If any of that does not hold.
pub fn keys(data: &[u8]) {
    let Some((ring, body)) = chosen_ring(data) else { return };
    let names = ["service.name", "span.kind", "k0", "log.body"].map(ToOwned::to_owned);
    for signal in Signal::ALL {
        for key in ["traceID", "service", "resource", "metric", "streamID", "attributes"] {
            let Some(key) = Key::of(signal, key, &names) else { continue };
            // Log records without a trace id go elsewhere each time.
            let is_fixed = signal == Signal::Traces || key != Key::TraceId;
            split_signal(signal, body, ring, is_fixed, |split, body, index| {
                let ownerless = split.plan_by_key(body, index, ring, &key);
                assert!(ownerless == 0 || (signal, &key) == (Signal::Metrics, &Key::Service));
                if ownerless > 0 && split.parts().is_empty() {
                    assert!(!crate::route::without_service(body, index).is_empty());
                }
                ownerless
            });
        }
    }
}

/// The first byte chooses.
fn chosen_ring(data: &[u8]) -> Option<(&'static Ring, &[u8])> {
    let (&endpoints, body) = data.split_first()?;
    // Made once: a ring costs far more than the requests that fuzzing tries.
    static RINGS: OnceLock<Vec<Ring>> = OnceLock::new();
    let rings = RINGS.get_or_init(|| (0..9).map(ring).collect());
    Some((&rings[endpoints as usize % rings.len()], body))
}

fn ring(endpoints: u32) -> Ring {
    let names: Vec<_> = (0..endpoints).map(|n| format!("10.0.0.{n}")).collect();
    Ring::new(Generation::V2, &names)
}

/// `plan` says how many items have no owner. `is_fixed`: cutting a part anew changes nothing.
fn split_signal(
    signal: Signal,
    body: &[u8],
    ring: &Ring,
    is_fixed: bool,
    plan: impl Fn(&mut Split, &[u8], &Index) -> u64,
) {
    let (mut index, mut part_index) = (Index::new(), Index::new());
    if otlp::scan(signal, body, &mut index).is_err() {
        return;
    }
    let (mut split, mut again) = (Split::new(), Split::new());
    let ownerless = plan(&mut split, body, &index);
    let parts = split.parts().to_vec();
    let items: u64 = parts.iter().map(|part| u64::from(part.items)).sum();
    assert_eq!(items + ownerless, if ring.is_empty() { 0 } else { index.count() });
    for (i, part) in parts.iter().enumerate() {
        let mut out = Vec::new();
        split.write(i, body, &index, &mut out);
        assert_eq!(out.len(), part.bytes);
        otlp::scan(signal, &out, &mut part_index).expect("a part is a valid request");
        assert_eq!(part_index.count(), u64::from(part.items));
        if !is_fixed {
            continue;
        }
        assert_eq!(plan(&mut again, &out, &part_index), 0, "who has an owner keeps one");
        let parts = again.parts();
        assert_eq!(parts.len(), 1, "a part has one owner");
        assert_eq!(parts[0].endpoint, part.endpoint);
        let mut second = Vec::new();
        again.write(0, &out, &part_index, &mut second);
        assert!(second == out, "a part of a part is the part");
    }
}

/// `otlp::edit` on any bytes: no panic, the planned length, a request that is as valid as it was
/// and has as many items, and nothing left to do when it is done again.
///
/// # Panics
/// If any of that does not hold.
pub fn edits(data: &[u8]) {
    let value = Source { attribute: None, value: Some(vec![0x0a, 1, b'v']) };
    let other = Source { attribute: Some("k0".into()), value: Some(Vec::new()) };
    let act = |key: &str, verb| Action { key: key.into(), verb };
    let actions = vec![
        act("service.name", Verb::Upsert(value.clone())),
        act("new", Verb::Insert(other)),
        act("k1", Verb::Update(value)),
    ];
    let keep = Edits { resource: actions.clone(), record: actions };
    let delete = vec![act("service.name", Verb::Delete), act("k0", Verb::Delete)];
    let delete = Edits { resource: delete.clone(), record: delete };
    let mut editor = Editor::new(1 << 24);
    let mut index = Index::new();
    for signal in Signal::ALL {
        let before = otlp::scan(signal, data, &mut index).map(|()| index.count());
        for edits in [&keep, &delete] {
            let Ok(Some(length)) = editor.plan(edits, signal, data) else { continue };
            let mut out = Vec::new();
            editor.write(data, &mut out);
            assert_eq!(out.len(), length);
            let after = otlp::scan(signal, &out, &mut index).map(|()| index.count());
            assert_eq!(before.is_ok(), after.is_ok(), "{signal:?}");
            assert!(before.is_err() || before == after, "{signal:?}");
            let again = editor.plan(edits, signal, &out).expect("it was read before");
            assert!(std::ptr::eq(edits, &delete) || again.is_none(), "{signal:?}");
        }
    }
}

/// `sample::ottl` on any condition and any bytes of a span: the condition is the text before the
/// first zero byte. Neither compiling nor asking panics, and asking again gives the same.
///
/// # Panics
/// If any of that does not hold.
pub fn ottl(data: &[u8]) {
    let at = data.iter().position(|byte| *byte == 0).unwrap_or(data.len());
    let (text, message) = (&data[..at], data.get(at + 1..).unwrap_or_default());
    let Ok(text) = std::str::from_utf8(text) else { return };
    for list in [List::Span, List::SpanEvent] {
        let Ok(condition) = Condition::compile(text, list) else { continue };
        let scene = Scene {
            resource: message,
            scope: message,
            span: message,
            event: (list == List::SpanEvent).then_some(message),
            now_unix_nanos: 1,
            noted: None,
        };
        assert_eq!(condition.eval(&scene), condition.eval(&scene));
    }
}

#[cfg(test)]
mod tests {
    use crate::testing::workload::{FieldOrder, Options, Set, Size};

    use super::*;

    #[test]
    fn the_targets_hold_on_every_prefix_of_real_requests() {
        for order in [FieldOrder::Sdk, FieldOrder::Collector, FieldOrder::Dotnet] {
            let size = Size::Spans(4);
            let set = Set::new(&Options { order, size, requests: 2, ..Options::default() });
            let body = &set.templates[0].body;
            for end in 0..=body.len() {
                scan(&body[..end]);
                edits(&body[..end]);
                let data = [&[u8::try_from(end % 256).unwrap()], &body[..end]].concat();
                split(&data);
                keys(&data);
            }
        }
    }

    #[test]
    fn json_holds_with_any_letter_of_it_changed() {
        let text = br#"{"resourceSpans":[{"scopeSpans":[{"spans":[{
            "traceId":"0102030405060708090a0b0c0d0e0f10","kind":2,"startTimeUnixNano":"7",
            "attributes":[{"key":"a","value":{"arrayValue":{"values":[
                {"intValue":-1},{"doubleValue":"NaN"},{"bytesValue":"AQ=="}]}}}],
            "status":{"code":"STATUS_CODE_OK"}}]}]}]}"#;
        for at in 0..text.len() {
            json(&text[..at]);
            for letter in b"{}[]\",:0-n\\\xff" {
                let mut changed = text.to_vec();
                changed[at] = *letter;
                json(&changed);
            }
        }
    }

    #[test]
    fn the_targets_hold_on_short_bytes_of_the_formats_own_alphabet() {
        // Every string of up to 5 bytes over tags and lengths that mean something.
        const ALPHABET: [u8; 8] = [0x00, 0x01, 0x02, 0x0a, 0x12, 0x4b, 0x4c, 0x80];
        for len in 0..=5 {
            for n in 0..8usize.pow(len) {
                let bytes: Vec<u8> = (0..len).map(|i| ALPHABET[n >> (3 * i) & 7]).collect();
                scan(&bytes);
                edits(&bytes);
                split(&bytes);
                keys(&bytes);
            }
        }
    }
}
