//! The identifier of `routing_attributes`, put together level by level: resource, scope, then
//! span, record or data point (loadbalancing 2.3).
//!
//! The level that has a name first decides. Traces keep the configured order of the names; logs
//! and metrics have the names found on the resource first, then those of the scope, then the
//! rest.

use crate::otlp::Signal;
use crate::otlp::text;
use crate::otlp::value::{Field, Fields, Value, find, messages};
use crate::otlp::wire::Extent;

/// Fields of a span.
const SPAN_NAME: u32 = 5;
const SPAN_KIND: u32 = 6;
const SPAN_ATTRIBUTES: u32 = 9;
/// Fields of a log record.
const SEVERITY_TEXT: u32 = 3;
const BODY: u32 = 5;
const RECORD_ATTRIBUTES: u32 = 6;

/// Text of a span's kind; of an unknown one nothing.
const KINDS: [&str; 6] = ["Unspecified", "Internal", "Server", "Client", "Producer", "Consumer"];

/// One identifier that is being put together.
#[derive(Debug)]
pub(super) struct Named<'k> {
    names: &'k [String],
    /// Where each name's `name=value|` stands in `text`.
    found: Vec<Option<Extent>>,
    missing: usize,
    text: Vec<u8>,
    /// `text` in the order of the names, where that is another.
    ordered: Vec<u8>,
    keeps_order: bool,
}

/// How far an identifier was, to go back to.
#[derive(Clone, Copy, Debug)]
pub(super) struct Mark(u32);

impl<'k> Named<'k> {
    pub(super) fn new(signal: Signal, names: &'k [String]) -> Self {
        Self {
            names,
            found: vec![None; names.len()],
            missing: names.len(),
            text: Vec::new(),
            ordered: Vec::new(),
            keeps_order: signal == Signal::Traces,
        }
    }

    /// Whether every name has been found.
    pub(super) const fn is_complete(&self) -> bool {
        self.missing == 0
    }

    pub(super) fn mark(&self) -> Mark {
        Mark(self.here())
    }

    /// Forgets what came behind the mark.
    pub(super) fn back_to(&mut self, mark: Mark) {
        self.text.truncate(mark.0 as usize);
        for place in &mut self.found {
            if place.is_some_and(|place| place.start >= mark.0) {
                *place = None;
                self.missing += 1;
            }
        }
    }

    fn here(&self) -> u32 {
        u32::try_from(self.text.len()).expect("attributes of one item of a request below 4 GiB")
    }

    fn add(&mut self, at: usize, value: Value<'_>) {
        let start = self.here();
        self.text.extend_from_slice(self.names[at].as_bytes());
        self.text.push(b'=');
        text::push(&mut self.text, value);
        self.text.push(b'|');
        self.found[at] = Some(Extent { start, end: self.here() });
        self.missing -= 1;
    }

    /// Looks for the missing names on a resource or scope. `attributes` makes its KeyValues.
    pub(super) fn level<'a, I: Iterator<Item = &'a [u8]>>(&mut self, attributes: impl Fn() -> I) {
        for at in 0..self.names.len() {
            if self.found[at].is_none()
                && let Some(value) = find(attributes(), self.names[at].as_bytes())
            {
                self.add(at, value);
            }
        }
    }

    /// Takes the missing names from a span.
    pub(super) fn span(&mut self, span: &[u8]) {
        self.last(|name| match name {
            "span.kind" => Value::Str(kind(span).as_bytes()),
            "span.name" => Value::Str(last_text(span, SPAN_NAME)),
            _ => attribute(span, SPAN_ATTRIBUTES, name),
        });
    }

    /// Takes the missing names from a log record.
    pub(super) fn record(&mut self, record: &[u8]) {
        self.last(|name| match name {
            "log.severity" => Value::Str(last_text(record, SEVERITY_TEXT)),
            "log.body" => Value::read_all(messages(record, BODY)),
            _ => attribute(record, RECORD_ATTRIBUTES, name),
        });
    }

    /// Takes the missing names from a data point, whose attributes stand in this field.
    pub(super) fn point(&mut self, point: &[u8], attributes: u32) {
        self.last(|name| attribute(point, attributes, name));
    }

    fn last<'a>(&mut self, value: impl Fn(&str) -> Value<'a>) {
        for at in 0..self.names.len() {
            if self.found[at].is_none() {
                self.add(at, value(&self.names[at]));
            }
        }
    }

    /// The whole identifier.
    pub(super) fn identifier(&mut self) -> &[u8] {
        if !self.keeps_order {
            return &self.text;
        }
        self.ordered.clear();
        for place in self.found.iter().flatten() {
            self.ordered.extend_from_slice(place.of(&self.text));
        }
        &self.ordered
    }
}

/// A missing attribute reads like an empty one.
fn attribute<'a>(item: &'a [u8], field: u32, name: &str) -> Value<'a> {
    find(messages(item, field), name.as_bytes()).unwrap_or(Value::Empty)
}

fn last_text(message: &[u8], number: u32) -> &[u8] {
    messages(message, number).last().unwrap_or_default()
}

fn kind(span: &[u8]) -> &'static str {
    let kinds = Fields::of(span).filter_map(|field| match field {
        (SPAN_KIND, Field::Varint(kind)) => Some(kind),
        _ => None,
    });
    // An int32 on the wire: what is beyond its 32 bits does not count.
    let kind = usize::try_from(kinds.last().unwrap_or(0) & 0xffff_ffff).unwrap_or(usize::MAX);
    KINDS.get(kind).copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use opentelemetry_proto::tonic::common::v1::any_value::Value as Any;
    use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue};
    use opentelemetry_proto::tonic::logs::v1::LogRecord;
    use opentelemetry_proto::tonic::trace::v1::Span;
    use prost::Message as _;

    use super::*;

    fn entry(key: &str, value: Any) -> KeyValue {
        let value = Some(AnyValue { value: Some(value) });
        KeyValue { key: key.into(), value, ..KeyValue::default() }
    }

    fn names(list: &[&str]) -> Vec<String> {
        list.iter().map(ToString::to_string).collect()
    }

    fn text(named: &mut Named<'_>) -> String {
        String::from_utf8(named.identifier().to_vec()).unwrap()
    }

    #[test]
    fn traces_keep_the_configured_order_and_logs_that_of_the_levels() {
        let names = names(&["b", "a", "c"]);
        let resource = entry("a", Any::IntValue(1)).encode_to_vec();
        let span = Span { attributes: vec![entry("b", Any::BoolValue(true))], ..Span::default() };
        let record =
            LogRecord { attributes: vec![entry("b", Any::BoolValue(true))], ..Default::default() };
        let mut traces = Named::new(Signal::Traces, &names);
        traces.level(|| [&resource[..]].into_iter());
        traces.span(&span.encode_to_vec());
        assert_eq!(text(&mut traces), "b=true|a=1|c=|");
        let mut logs = Named::new(Signal::Logs, &names);
        logs.level(|| [&resource[..]].into_iter());
        logs.record(&record.encode_to_vec());
        assert_eq!(text(&mut logs), "a=1|b=true|c=|");
    }

    #[test]
    fn pseudo_attributes_are_the_resources_if_it_has_them_and_never_the_items() {
        let names = names(&["span.kind", "span.name", "log.severity", "log.body"]);
        let value = || Any::StringValue("x".into());
        let all = names.iter().map(|name| entry(name, value())).collect::<Vec<_>>();
        let span = Span { kind: 3, name: "GET".into(), attributes: all.clone(), ..Span::default() };
        let mut named = Named::new(Signal::Traces, &names[..2]);
        named.span(&span.encode_to_vec());
        assert_eq!(text(&mut named), "span.kind=Client|span.name=GET|");
        let body = Some(AnyValue { value: Some(Any::DoubleValue(1.5)) });
        let (severity_text, attributes) = ("INFO".to_owned(), all.clone());
        let record = LogRecord { severity_text, body, attributes, ..LogRecord::default() };
        let mut named = Named::new(Signal::Logs, &names[2..]);
        named.record(&record.encode_to_vec());
        assert_eq!(text(&mut named), "log.severity=INFO|log.body=1.5|");
        let mut named = Named::new(Signal::Traces, &names);
        let all: Vec<_> = all.iter().map(|entry| entry.encode_to_vec()).collect();
        named.level(|| all.iter().map(Vec::as_slice));
        assert!(named.is_complete());
        assert_eq!(text(&mut named), "span.kind=x|span.name=x|log.severity=x|log.body=x|");
    }

    #[test]
    fn going_back_forgets_a_level() {
        let names = names(&["a", "b"]);
        let (a, b) = (entry("a", Any::IntValue(1)), entry("b", Any::IntValue(2)));
        let (a, b) = (a.encode_to_vec(), b.encode_to_vec());
        let mut named = Named::new(Signal::Metrics, &names);
        named.level(|| [&a[..]].into_iter());
        let mark = named.mark();
        named.level(|| [&b[..]].into_iter());
        assert!(named.is_complete());
        named.back_to(mark);
        assert!(!named.is_complete());
        named.point(&[], 7);
        assert_eq!(text(&mut named), "a=1|b=|");
    }

    #[test]
    fn a_kind_that_is_not_known_has_no_text() {
        for (number, want) in [(0, "Unspecified"), (5, "Consumer"), (6, ""), (-1, "")] {
            assert_eq!(kind(&Span { kind: number, ..Span::default() }.encode_to_vec()), want);
        }
    }
}
