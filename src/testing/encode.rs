//! Models → OTLP bytes, in the field orders that real producers use (otlp 3.3).

use crate::otlp::wire::push_varint;

use super::model::{self, Attributes, Span, Value};

/// The order in which a producer writes the fields of a message.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum FieldOrder {
    /// Ascending numbers, defaults omitted: most SDKs.
    #[default]
    Sdk,
    /// Descending numbers, the flags behind the name; ids, resource, scope, status and values
    /// written even if empty: the collector (loadbalancing 8.1, 8.2).
    Collector,
    /// Ascending, the flags before the name, the lengths of ResourceSpans, ScopeSpans, scope and
    /// span padded to four bytes: .NET.
    Dotnet,
}

const ASCENDING: [u8; 16] = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16];
const DESCENDING: [u8; 16] = [15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 16, 4, 3, 2, 1];
const FLAGS_EARLY: [u8; 16] = [1, 2, 3, 4, 16, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15];

impl FieldOrder {
    /// Field numbers as they are written.
    const fn fields(self) -> &'static [u8; 16] {
        match self {
            Self::Sdk => &ASCENDING,
            Self::Collector => &DESCENDING,
            Self::Dotnet => &FLAGS_EARLY,
        }
    }

    /// Whether empty ids, statuses, scopes and values are written.
    const fn writes_empty(self) -> bool {
        matches!(self, Self::Collector)
    }
}

/// Spans of one resource.
pub(super) struct ResourceSpans<'a> {
    pub service: u32,
    /// Neighbours with one scope become one ScopeSpans.
    pub spans: &'a [Span],
}

/// A whole request. A span's trace id is its number in the set, as 16 bytes, plus one.
pub(super) fn request(order: FieldOrder, resources: &[ResourceSpans<'_>]) -> Vec<u8> {
    let mut w = Writer { out: Vec::new(), order };
    for resource in resources {
        w.message(1, Length::Envelope, |w, field| match field {
            1 => w.message(1, Length::Minimal, |w, field| {
                if field == 1 {
                    w.attributes(1, &model::resource(resource.service));
                }
            }),
            2 => {
                for spans in resource.spans.chunk_by(|a, b| a.kind.scope() == b.kind.scope()) {
                    w.scope_spans(spans);
                }
            }
            3 => w.text(3, "https://opentelemetry.io/schemas/1.37.0"),
            _ => {}
        });
    }
    w.out
}

/// How a length is written.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Length {
    Minimal,
    /// Padded to four bytes where the producer reserves room and fills it in later.
    Envelope,
}

struct Writer {
    out: Vec<u8>,
    order: FieldOrder,
}

impl Writer {
    /// A length-delimited field whose content is written field by field in the producer's order.
    fn message(&mut self, number: u32, length: Length, mut content: impl FnMut(&mut Self, u8)) {
        push_varint(&mut self.out, number << 3 | 2);
        let at = self.out.len();
        for &field in self.order.fields() {
            content(self, field);
        }
        let len = u32::try_from(self.out.len() - at).expect("requests are small");
        let mut prefix = Vec::with_capacity(4);
        if length == Length::Envelope && self.order == FieldOrder::Dotnet {
            assert!(len < 1 << 28, "four bytes hold 28 bits");
            prefix.extend([0, 7, 14, 21].map(|shift| (len >> shift & 0x7f) as u8 | 0x80));
            prefix[3] &= 0x7f;
        } else {
            push_varint(&mut prefix, len);
        }
        self.out.splice(at..at, prefix);
    }

    fn scope_spans(&mut self, spans: &[Span]) {
        let (name, version) = spans[0].kind.scope();
        self.message(2, Length::Envelope, |w, field| match field {
            1 => w.message(1, Length::Envelope, |w, field| match field {
                1 => w.text(1, name),
                2 => w.text(2, version),
                _ => {}
            }),
            2 => {
                for span in spans {
                    w.span(span);
                }
            }
            _ => {}
        });
    }

    fn span(&mut self, span: &Span) {
        let empty = self.order.writes_empty();
        self.message(2, Length::Envelope, |w, field| match field {
            1 => w.bytes(1, &u128::from(span.trace + 1).to_be_bytes()),
            2 => w.bytes(2, &span.id.to_be_bytes()),
            4 if span.parent != 0 => w.bytes(4, &span.parent.to_be_bytes()),
            4 if empty => w.bytes(4, &[]),
            5 => w.text(5, &model::name(span)),
            6 => w.varint(6, span.kind.number()),
            7 => w.fixed64(7, span.start),
            8 => w.fixed64(8, span.end),
            9 => w.attributes(9, &model::attributes(span)),
            11 if span.error => w.message(11, Length::Minimal, |w, field| match field {
                1 => w.fixed64(1, span.end - 1),
                2 => w.text(2, "exception"),
                3 => w.attributes(3, &model::exception()),
                _ => {}
            }),
            15 if span.error || empty => w.message(15, Length::Minimal, |w, field| match field {
                2 if span.error => w.text(2, "connection refused"),
                3 if span.error => w.varint(3, 2),
                _ => {}
            }),
            16 => {
                // A fixed32: sampled, and whether the parent is remote is known.
                w.out.extend([0x85, 0x01, 0x01, 0x01, 0, 0]);
            }
            _ => {}
        });
    }

    fn attributes(&mut self, number: u32, attributes: &Attributes) {
        for (key, value) in attributes {
            self.message(number, Length::Minimal, |w, field| match field {
                1 => w.text(1, key),
                2 => w.message(2, Length::Minimal, |w, field| match (field, value) {
                    (1, Value::Text(text)) => w.text(1, text),
                    (1, Value::Static(text)) => w.text(1, text),
                    (2, Value::Bool(on)) => w.varint(2, u64::from(*on)),
                    (3, Value::Int(int)) => w.varint(3, int.cast_unsigned()),
                    _ => {}
                }),
                _ => {}
            });
        }
    }

    fn bytes(&mut self, number: u32, bytes: &[u8]) {
        push_varint(&mut self.out, number << 3 | 2);
        push_varint(&mut self.out, u32::try_from(bytes.len()).expect("fields are small"));
        self.out.extend_from_slice(bytes);
    }

    fn text(&mut self, number: u32, text: &str) {
        if !text.is_empty() {
            self.bytes(number, text.as_bytes());
        }
    }

    fn fixed64(&mut self, number: u32, value: u64) {
        push_varint(&mut self.out, number << 3 | 1);
        self.out.extend_from_slice(&value.to_le_bytes());
    }

    fn varint(&mut self, number: u32, value: u64) {
        push_varint(&mut self.out, number << 3);
        push_varint(&mut self.out, value);
    }
}
