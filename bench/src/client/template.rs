//! Bodies encoded beforehand, and where in them the ids and times of each span lie.
//!
//! The encoder makes believable spans of the wanted size in either field order. The places to
//! patch are then found by reading the finished body, so they hold for any encoder.

use super::options::Order;
use crate::proto::{self, Malformed, field, put_varint};

/// A small generator of repeatable numbers.
#[derive(Debug, Clone)]
pub(crate) struct Numbers(pub(crate) u64);

impl Numbers {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mix(self.0)
    }

    /// Below `n`.
    fn below(&mut self, n: usize) -> usize {
        (self.next() % n as u64) as usize
    }
}

/// A bijection of the 64-bit numbers that looks random: different inputs never meet.
#[inline]
pub(crate) fn mix(x: u64) -> u64 {
    let x = (x ^ x >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let x = (x ^ x >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ x >> 31
}

/// What a body is to look like.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Shape {
    pub(crate) order: Order,
    /// Size of the message to approach from below; at least one span is written.
    pub(crate) bytes_max: usize,
    pub(crate) spans_max: usize,
    pub(crate) span_bytes: usize,
    /// Whether spans carry a status code that can be patched.
    pub(crate) status: bool,
}

/// Where the fields of one span start in the body.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Places {
    pub(crate) trace_id: usize,
    pub(crate) span_id: usize,
    pub(crate) parent_id: usize,
    pub(crate) start: usize,
    pub(crate) end: usize,
    /// The code inside the status; 0 if there is none.
    pub(crate) code: usize,
    /// End minus start.
    pub(crate) duration: u64,
}

const SERVICES: [&str; 6] = ["frontend", "checkout", "cart", "payment", "catalog", "shipping"];
const OPERATIONS: [&str; 6] = [
    "GET /api/products/{id}",
    "POST /api/checkout",
    "oteldemo.CartService/GetCart",
    "SELECT shop.orders",
    "charge",
    "HTTP GET",
];
const ATTRIBUTES: [(&str, &str); 10] = [
    ("http.request.method", "GET"),
    ("url.path", "/api/products/0PUK6V6EV0"),
    ("server.address", "catalog.shop.svc.cluster.local"),
    ("network.protocol.version", "1.1"),
    ("client.address", "10.42.7.113"),
    ("user_agent.original", "Mozilla/5.0 (X11; Linux x86_64; rv:143.0) Firefox/143.0"),
    ("rpc.service", "oteldemo.ProductCatalogService"),
    ("app.user.id", "c4bb3a2e-61d8-4b1e-9a4e-2f7f0f6a8c11"),
    ("thread.name", "http-nio-8080-exec-7"),
    ("app.session.id", "5c1e7f0a-9d5c-45f5-8a23-0c2b9d1d4e77"),
];

/// The parts of a message, each a whole field.
struct Message {
    order: Order,
    fields: Vec<Vec<u8>>,
}

impl Message {
    fn new(order: Order) -> Self {
        Self { order, fields: Vec::new() }
    }

    fn bytes(&mut self, number: u8, content: &[u8]) -> &mut Self {
        let mut out = vec![number << 3 | 2];
        put_varint(&mut out, content.len() as u64);
        out.extend_from_slice(content);
        self.fields.push(out);
        self
    }

    fn varint(&mut self, number: u8, value: u64) -> &mut Self {
        let mut out = vec![number << 3];
        put_varint(&mut out, value);
        self.fields.push(out);
        self
    }

    fn fixed64(&mut self, number: u8, value: u64) -> &mut Self {
        let mut out = vec![number << 3 | 1];
        out.extend_from_slice(&value.to_le_bytes());
        self.fields.push(out);
        self
    }

    fn key_value(&mut self, number: u8, key: &str, value: &[u8]) -> &mut Self {
        let mut pair = Self::new(self.order);
        pair.bytes(1, key.as_bytes()).bytes(2, value);
        self.bytes(number, &pair.finish())
    }

    fn text(&mut self, number: u8, key: &str, value: &str) -> &mut Self {
        let mut any = Self::new(self.order);
        any.bytes(1, value.as_bytes());
        self.key_value(number, key, &any.finish())
    }

    fn len(&self) -> usize {
        self.fields.iter().map(Vec::len).sum()
    }

    /// The collector visits fields in order, repeated ones from the first to the last element,
    /// and fills its buffer from the end: so fields of one number keep their order.
    fn finish(&self) -> Vec<u8> {
        if self.order == Order::Sdk {
            return self.fields.concat();
        }
        let mut out = Vec::new();
        for run in self.fields.chunk_by(|a, b| a[0] == b[0]).rev() {
            out.extend(run.concat());
        }
        out
    }
}

/// One span of about `bytes`, its ids still zero.
fn span(shape: &Shape, numbers: &mut Numbers) -> Vec<u8> {
    let order = shape.order;
    // Sizes between 60 % and 140 % of the mean.
    let bytes = shape.span_bytes * (60 + numbers.below(81)) / 100;
    let duration = 200_000 + numbers.next() % 80_000_000;
    let mut span = Message::new(order);
    span.bytes(1, &[0; 16]).bytes(2, &[0; 8]).bytes(4, &[0; 8]);
    span.bytes(5, OPERATIONS[numbers.below(OPERATIONS.len())].as_bytes());
    span.varint(6, 1 + numbers.next() % 4).fixed64(7, 0).fixed64(8, duration);
    let mut status = Message::new(order);
    if shape.status {
        status.varint(3, 0);
    }
    let rest = 4 + 22; // The status, and an attribute with a number.
    let mut at = numbers.below(ATTRIBUTES.len());
    let mut attributes = 0;
    while attributes < 64 {
        let (key, value) = ATTRIBUTES[at % ATTRIBUTES.len()];
        at += 1;
        attributes += 1;
        let room = bytes.saturating_sub(span.len() + rest);
        let overhead = key.len() + 8;
        if room <= overhead {
            break;
        }
        // The last one fills what is left, large spans have large values.
        let len = if attributes == 10 { room - overhead } else { value.len().min(room - overhead) };
        let text: String = value.chars().cycle().take(len).collect();
        span.text(9, key, &text);
        if attributes == 10 {
            break;
        }
    }
    let mut code = Message::new(order);
    code.varint(3, 200 + numbers.next() % 5 * 100);
    span.key_value(9, "http.status_code", &code.finish());
    span.bytes(15, &status.finish());
    span.finish()
}

fn resource(order: Order, numbers: &mut Numbers) -> Vec<u8> {
    let service = SERVICES[numbers.below(SERVICES.len())];
    let instance = format!("{:016x}-{:08x}", numbers.next(), numbers.next() as u32);
    let mut resource = Message::new(order);
    resource
        .text(1, "service.name", service)
        .text(1, "service.instance.id", &instance)
        .text(1, "telemetry.sdk.language", "go")
        .text(1, "telemetry.sdk.name", "opentelemetry")
        .text(1, "telemetry.sdk.version", "1.38.0")
        .text(1, "k8s.pod.name", &format!("{service}-{:08x}", numbers.next() as u32));
    resource.finish()
}

/// A message of this shape.
pub(crate) fn encode(shape: &Shape, numbers: &mut Numbers) -> Vec<u8> {
    let order = shape.order;
    let resource = resource(order, numbers);
    let mut scope = Message::new(order);
    scope.bytes(1, b"go.opentelemetry.io/contrib/net/http/otelhttp").bytes(2, b"0.63.0");
    let mut scope_spans = Message::new(order);
    scope_spans.bytes(1, &scope.finish());
    let mut size = resource.len() + scope_spans.len() + 16;
    while scope_spans.fields.len() <= shape.spans_max {
        let span = span(shape, numbers);
        size += span.len() + 3;
        if size > shape.bytes_max && scope_spans.fields.len() > 1 {
            break;
        }
        scope_spans.bytes(2, &span);
    }
    let mut resource_spans = Message::new(order);
    resource_spans.bytes(1, &resource).bytes(2, &scope_spans.finish());
    let mut request = Message::new(order);
    request.bytes(1, &resource_spans.finish());
    request.finish()
}

/// Where the spans of a message have what is to be patched.
pub(crate) fn places(message: &[u8]) -> Result<Vec<Places>, Malformed> {
    let base = message.as_ptr() as usize;
    let mut out = Vec::new();
    let mut wrong = None;
    proto::spans(message, |_, span| {
        let offset = span.as_ptr() as usize - base;
        match places_of(span, offset) {
            Ok(places) => out.push(places),
            Err(e) => wrong = Some(e),
        }
    })?;
    wrong.map_or(Ok(out), Err)
}

fn places_of(span: &[u8], offset: usize) -> Result<Places, Malformed> {
    let mut places = Places::default();
    let time = |at: usize| span[at..at + 8].try_into().map_or(0, u64::from_le_bytes);
    let (mut start, mut end) = (0, 0);
    let mut at = 0;
    while at < span.len() {
        let f = field(span, &mut at, span.len())?;
        match (f.number, f.wire_type, f.end - f.start) {
            (1, 2, 16) => places.trace_id = offset + f.start,
            (2, 2, 8) => places.span_id = offset + f.start,
            (4, 2, 8) => places.parent_id = offset + f.start,
            (7, 1, _) => {
                places.start = offset + f.start;
                start = time(f.start);
            }
            (8, 1, _) => {
                places.end = offset + f.start;
                end = time(f.start);
            }
            (15, 2, _) => {
                let mut at = f.start;
                while at < f.end {
                    let inner = field(span, &mut at, f.end)?;
                    if inner.number == 3 && inner.wire_type == 0 {
                        places.code = offset + inner.start;
                    }
                }
            }
            _ => {}
        }
    }
    places.duration = end.saturating_sub(start);
    let needed = [places.trace_id, places.span_id, places.parent_id, places.start, places.end];
    if needed.contains(&0) { Err(Malformed) } else { Ok(places) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shape(order: Order) -> Shape {
        Shape { order, bytes_max: 65536, spans_max: usize::MAX, span_bytes: 450, status: true }
    }

    #[test]
    fn a_body_has_the_wanted_size_and_every_span_its_places() {
        for order in [Order::Sdk, Order::Collector] {
            let body = encode(&shape(order), &mut Numbers(1));
            assert!((64_000..=65536).contains(&body.len()), "{order:?}: {}", body.len());
            let places = places(&body).expect("valid");
            assert!((125..165).contains(&places.len()), "{order:?}: {}", places.len());
            for p in &places {
                assert_eq!(body[p.trace_id - 2..p.trace_id], [0x0a, 16]);
                assert_eq!(body[p.parent_id - 2..p.parent_id], [0x22, 8]);
                assert_eq!(body[p.code - 1], 0x18);
            }
        }
    }

    #[test]
    fn the_collector_writes_backwards() {
        let body = encode(&shape(Order::Collector), &mut Numbers(1));
        proto::spans(&body, |_, span| {
            assert_eq!(span[0], 0x7a);
            assert_eq!(span[span.len() - 18..span.len() - 16], [0x0a, 16]);
        })
        .expect("valid");
        let mut first = 0;
        let resource_spans = field(&body, &mut first, body.len()).expect("valid");
        assert_eq!(body[resource_spans.start], 0x12, "spans stand before the resource");
    }

    #[test]
    fn a_number_of_spans_may_be_asked_for() {
        let one = Shape { spans_max: 1, bytes_max: usize::MAX, ..shape(Order::Sdk) };
        assert_eq!(places(&encode(&one, &mut Numbers(2))).expect("valid").len(), 1);
        let small = Shape { bytes_max: 1, ..shape(Order::Sdk) };
        assert_eq!(places(&encode(&small, &mut Numbers(2))).expect("valid").len(), 1);
    }
}
