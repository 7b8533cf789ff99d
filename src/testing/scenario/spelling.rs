//! One message, two spellings: fields in ascending order, or in descending order with the empty
//! ones that the collector writes (otlp 3.3). Repeated fields keep their order.

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use prost::Message as _;

use crate::otlp::value::{Field, Fields};
use crate::otlp::wire::push_varint;

/// Messages with other messages inside.
#[derive(Clone, Copy)]
enum Kind {
    Request,
    ResourceSpans,
    ScopeSpans,
    Span,
    /// Scope, event and the like: attributes in field 3.
    Third,
    /// Resource: attributes in field 1. A map, too.
    First,
    /// Link: attributes in field 4.
    Fourth,
    KeyValue,
    AnyValue,
    List,
}

impl Kind {
    const fn inside(self, field: u32) -> Option<Self> {
        Some(match (self, field) {
            (Self::Request, 1) => Self::ResourceSpans,
            (Self::ResourceSpans, 1) | (Self::AnyValue, 6) => Self::First,
            (Self::ResourceSpans, 2) => Self::ScopeSpans,
            (Self::ScopeSpans, 1) | (Self::Span, 11) => Self::Third,
            (Self::ScopeSpans, 2) => Self::Span,
            (Self::Span, 13) => Self::Fourth,
            (Self::Span, 9) | (Self::First, 1) | (Self::Third, 3) | (Self::Fourth, 4) => {
                Self::KeyValue
            }
            (Self::KeyValue, 2) | (Self::List, 1) => Self::AnyValue,
            (Self::AnyValue, 5) => Self::List,
            _ => return None,
        })
    }

    /// Fields that are written even if they are empty.
    const fn always(self) -> &'static [u32] {
        match self {
            Self::ResourceSpans | Self::ScopeSpans => &[1],
            Self::Span => &[1, 2, 4, 15],
            Self::Fourth => &[1, 2],
            Self::KeyValue => &[2],
            _ => &[],
        }
    }
}

pub(super) fn encode(request: &ExportTraceServiceRequest, descending: bool) -> Vec<u8> {
    let ascending = request.encode_to_vec();
    if descending { turn(Kind::Request, &ascending) } else { ascending }
}

/// A message in descending order.
fn turn(kind: Kind, message: &[u8]) -> Vec<u8> {
    let mut fields: Vec<(u32, Vec<u8>)> = Vec::new();
    for (number, field) in Fields::of(message) {
        let mut bytes = Vec::new();
        match field {
            Field::Varint(mut value) => {
                push_varint(&mut bytes, number << 3);
                while value >= 0x80 {
                    bytes.push((value & 0x7f) as u8 | 0x80);
                    value >>= 7;
                }
                bytes.push((value & 0x7f) as u8);
            }
            Field::Fixed64(value) => {
                push_varint(&mut bytes, number << 3 | 1);
                bytes.extend(value.to_le_bytes());
            }
            Field::Fixed32(value) => {
                push_varint(&mut bytes, number << 3 | 5);
                bytes.extend(value.to_le_bytes());
            }
            Field::Bytes(content) => {
                let inside = kind.inside(number).map(|inside| turn(inside, content));
                push_bytes(&mut bytes, number, inside.as_deref().unwrap_or(content));
            }
        }
        fields.push((number, bytes));
    }
    for &number in kind.always() {
        if !fields.iter().any(|(other, _)| *other == number) {
            let mut bytes = Vec::new();
            push_bytes(&mut bytes, number, &[]);
            fields.push((number, bytes));
        }
    }
    fields.sort_by_key(|(number, _)| std::cmp::Reverse(*number));
    fields.into_iter().flat_map(|(_, bytes)| bytes).collect()
}

fn push_bytes(out: &mut Vec<u8>, number: u32, content: &[u8]) {
    push_varint(out, number << 3 | 2);
    push_varint(out, u32::try_from(content.len()).expect("requests are small"));
    out.extend_from_slice(content);
}
