//! One pass over a request: an [`Index`] of its resources, scopes, items and trace ids.
//!
//! Fields may come in any order. What is judged: the fields of request, resource and scope
//! envelopes, the lengths of items' ids, and, where an item has to be walked for its id, the
//! wire types of its own fields. What is inside a resource, a scope, an attribute or an event
//! is not read; the collector would refuse the request for an error there (a named difference).

use super::ids::trace_id_at;
use super::index::{Item, Others, Resource, Scope};
use super::layout::{
    DEPRECATED_SCOPES, ITEMS, Names, RESOURCE, RESOURCES, SCHEMA_URL, SCOPE, SCOPES, names,
};
use super::wire::{Extent, Reader};
use super::{Error, Index, Signal, count};

/// Reads the envelopes of `body` into `index`, which is cleared first.
///
/// Allocates nothing once `index` has grown to the size of the traffic.
///
/// # Errors
/// The first thing that is wrong; the whole request is then to be refused (otlp 1.6), and the
/// index is empty.
pub fn scan(signal: Signal, body: &[u8], index: &mut Index) -> Result<(), Error> {
    index.clear();
    index.signal = Some(signal);
    let scanned = request(signal, body, index);
    if scanned.is_err() {
        index.clear();
    }
    scanned
}

fn request(signal: Signal, body: &[u8], index: &mut Index) -> Result<(), Error> {
    let end = u32::try_from(body.len()).map_err(|_| Error::TooLarge)?;
    let names = names(signal);
    let mut reader = Reader::new(body, Extent { start: 0, end });
    while !reader.at_end() {
        let tag = reader.tag()?;
        if tag.field == RESOURCES {
            let content = reader.content_of(tag, names.resources)?;
            resource(signal, names, body, content, index)?;
        } else {
            reader.skip(tag)?;
            index.strays.push(Extent { start: tag.at, end: reader.pos() });
        }
    }
    Ok(())
}

fn resource(
    signal: Signal,
    names: &Names,
    body: &[u8],
    message: Extent,
    index: &mut Index,
) -> Result<(), Error> {
    index.pending.clear();
    index.deprecated.clear();
    let mut others = Gathered::begin(index);
    let mut reader = Reader::new(body, message);
    while !reader.at_end() {
        let tag = reader.tag()?;
        match tag.field {
            SCOPES => index.pending.push(reader.content_of(tag, names.scopes)?),
            DEPRECATED_SCOPES => {
                index.deprecated.push(reader.content_of(tag, names.deprecated_scopes)?);
            }
            _ => {
                match tag.field {
                    RESOURCE => reader.content_of(tag, "Resource").map(drop)?,
                    SCHEMA_URL => reader.content_of(tag, "SchemaUrl").map(drop)?,
                    _ => reader.skip(tag)?,
                }
                others.push(&mut index.others, Extent { start: tag.at, end: reader.pos() });
            }
        }
    }
    let others = others.end(index);
    let first = position(index.scopes.len());
    for i in 0..index.pending.len() {
        scope(signal, names, body, index.pending[i], index)?;
    }
    if !index.deprecated.is_empty() {
        deprecated(signal, names, body, index)?;
    }
    let scopes = Extent { start: first, end: position(index.scopes.len()) };
    index.resources.push(Resource { scopes, others });
    Ok(())
}

/// Field 1000 counts only where field 2 is absent; otherwise it is checked and dropped, as the
/// collector does.
#[cold]
fn deprecated(signal: Signal, names: &Names, body: &[u8], index: &mut Index) -> Result<(), Error> {
    let before = (index.scopes.len(), index.items.len(), index.others.len(), index.points);
    for i in 0..index.deprecated.len() {
        scope(signal, names, body, index.deprecated[i], index)?;
    }
    if !index.pending.is_empty() {
        index.scopes.truncate(before.0);
        index.items.truncate(before.1);
        index.others.truncate(before.2);
        index.points = before.3;
    }
    Ok(())
}

fn scope(
    signal: Signal,
    names: &Names,
    body: &[u8],
    message: Extent,
    index: &mut Index,
) -> Result<(), Error> {
    let mut others = Gathered::begin(index);
    let first = position(index.items.len());
    let mut reader = Reader::new(body, message);
    while !reader.at_end() {
        let tag = reader.tag()?;
        if tag.field == ITEMS {
            let content = reader.content_of(tag, names.items)?;
            let field = Extent { start: tag.at, end: content.end };
            index.items.push(Item { field, id: trace_id_at(signal, body, content)? });
            if signal == Signal::Metrics {
                index.points += count::points(body, content)?;
            }
        } else {
            match tag.field {
                SCOPE => reader.content_of(tag, "Scope").map(drop)?,
                SCHEMA_URL => reader.content_of(tag, "SchemaUrl").map(drop)?,
                _ => reader.skip(tag)?,
            }
            others.push(&mut index.others, Extent { start: tag.at, end: reader.pos() });
        }
    }
    let others = others.end(index);
    let items = Extent { start: first, end: position(index.items.len()) };
    index.scopes.push(Scope { items, others });
    Ok(())
}

/// The other fields of one message, while they are found.
pub(super) struct Gathered {
    first: u32,
    bytes: u32,
}

impl Gathered {
    pub(super) fn begin(index: &Index) -> Self {
        Self { first: position(index.others.len()), bytes: 0 }
    }

    pub(super) fn push(&mut self, others: &mut Vec<Extent>, field: Extent) {
        self.bytes += field.len();
        match others.last_mut() {
            Some(last) if self.bytes > field.len() && last.end == field.start => {
                last.end = field.end;
            }
            _ => others.push(field),
        }
    }

    pub(super) fn end(self, index: &Index) -> Others {
        let at = Extent { start: self.first, end: position(index.others.len()) };
        Others { at, bytes: self.bytes }
    }
}

/// A position in a table. Every entry stands for at least two bytes of a body below 4 GiB.
#[inline]
pub(super) fn position(len: usize) -> u32 {
    u32::try_from(len).expect("fewer entries than bytes")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A length-delimited field with a short length.
    fn field(tag: &[u8], content: &[u8]) -> Vec<u8> {
        [tag, &[u8::try_from(content.len()).unwrap()], content].concat()
    }

    fn id(n: u8) -> Vec<u8> {
        field(&[0x0a], &[n; 16])
    }

    fn span_id() -> Vec<u8> {
        field(&[0x12], &[8; 8])
    }

    fn request(spans: &[Vec<u8>]) -> Vec<u8> {
        let spans: Vec<_> = spans.iter().map(|span| field(&[0x12], span)).collect();
        field(&[0x0a], &field(&[0x12], &spans.concat()))
    }

    fn scanned(signal: Signal, body: &[u8]) -> Result<Index, Error> {
        let mut index = Index::new();
        scan(signal, body, &mut index).map(|()| index)
    }

    fn ids(signal: Signal, body: &[u8]) -> Vec<Option<u8>> {
        let index = scanned(signal, body).unwrap();
        index.items().iter().map(|item| item.trace_id(body).map(|id| id[0])).collect()
    }

    #[test]
    fn the_trace_id_is_found_wherever_it_stands() {
        let name = field(&[0x2a], b"GET /");
        let padded = [&[0x0a, 0x90, 0x80, 0x00][..], &[5; 16]].concat();
        let group = [0xa3, 0x06, 0x0a, 0x01, b'x', 0xa4, 0x06];
        let mimic = field(&[0x2a], &id(9));
        for (case, span, want) in [
            ("first", [id(1), span_id(), name.clone()].concat(), Some(1)),
            ("last", [name.clone(), span_id(), id(2)].concat(), Some(2)),
            ("alone", id(3), Some(3)),
            ("padded length", [padded, name.clone()].concat(), Some(5)),
            ("behind an unknown group", [&group[..], &id(4)].concat(), Some(4)),
            ("empty", [vec![0x0a, 0], span_id()].concat(), None),
            ("absent", name.clone(), None),
            ("no field at all", vec![], None),
            ("twice: the last", [name.clone(), id(1), id(6)].concat(), Some(6)),
            ("twice: the last, empty", [name, id(1), vec![0x0a, 0]].concat(), None),
            ("a name that ends like an id", [id(7), mimic].concat(), Some(7)),
        ] {
            assert_eq!(ids(Signal::Traces, &request(&[span])), [want], "{case}");
        }
    }

    #[test]
    fn a_log_record_has_its_trace_id_in_field_nine() {
        let record = [field(&[0x2a], &[]), field(&[0x4a], &[7; 16]), field(&[0x52], &[1; 8])];
        assert_eq!(ids(Signal::Logs, &request(&[record.concat()])), [Some(7)]);
        let wrong = request(&[field(&[0x4a], &[7; 15])]);
        assert!(matches!(scanned(Signal::Logs, &wrong), Err(Error::TraceIdLength { .. })));
    }

    #[test]
    fn metric_points_are_counted() {
        let gauge = field(&[0x2a], &[field(&[0x0a], &[]), field(&[0x0a], &[])].concat());
        let sum = field(&[0x3a], &[field(&[0x0a], &[]), vec![0x10, 2, 0x18, 1]].concat());
        let body = request(&[gauge.clone(), sum.clone(), [gauge, sum].concat(), vec![]]);
        let index = scanned(Signal::Metrics, &body).unwrap();
        assert_eq!(index.items().len(), 4);
        assert_eq!(index.count(), 2 + 1 + 1, "of two data fields in one metric the last counts");
        assert_eq!(super::super::items(Signal::Metrics, &body), Ok(4));
    }

    #[test]
    fn what_is_wrong_is_named_as_the_collector_names_it() {
        let text = |body: &[u8]| scanned(Signal::Traces, body).unwrap_err().to_string();
        let span = |content: &[u8]| text(&request(&[content.to_vec()]));
        assert_eq!(span(&field(&[0x0a], &[1; 8])), "unmarshal: invalid TraceID length");
        assert_eq!(span(&field(&[0x0a], &[1; 17])), "unmarshal: invalid TraceID length");
        let short = [id(1), field(&[0x12], &[1; 4])].concat();
        assert_eq!(span(&short), "unmarshal: invalid SpanID length");
        let parent = [id(1), span_id(), field(&[0x22], &[1; 7])].concat();
        assert_eq!(span(&parent), "unmarshal: invalid SpanID length");
        assert_eq!(span(&[0x30 | 5, 0, 0, 0, 0]), "proto: wrong wireType = 5 for field Kind");
        assert_eq!(span(&[0x0a, 0x10, 1]), "unexpected EOF");
        assert_eq!(text(&[0x08, 1]), "proto: wrong wireType = 0 for field ResourceSpans");
        assert_eq!(
            text(&field(&[0x0a], &[0x08, 1])),
            "proto: wrong wireType = 0 for field Resource"
        );
        assert_eq!(text(&[0x0a, 5, 0x12, 2]), "unexpected EOF");
        assert_eq!(text(&[0x02]), "proto: illegal field=0 (tag=2, pos=0)");
        assert_eq!(text(&[0x17]), "proto: illegal wireType 7");
    }

    #[test]
    fn old_scope_spans_count_only_where_there_are_no_new_ones() {
        let spans = field(&[0x12], &[id(1), span_id()].concat());
        let old = field(&[0xc2, 0x3e], &spans);
        let both = [old.clone(), field(&[0x12], &[])].concat();
        let only = field(&[0x0a], &old);
        assert_eq!(ids(Signal::Traces, &only), [Some(1)]);
        assert_eq!(ids(Signal::Traces, &field(&[0x0a], &both)), []);
        let broken = field(&[0xc2, 0x3e], &field(&[0x12], &field(&[0x0a], &[1; 3])));
        let both = field(&[0x0a], &[broken, field(&[0x12], &spans)].concat());
        assert!(scanned(Signal::Traces, &both).is_err(), "dropped, but judged");
    }

    #[test]
    fn other_fields_are_remembered_in_their_order_and_neighbours_as_one() {
        let resource = field(&[0x0a], b"");
        let url = field(&[0x1a], b"u");
        let unknown = [0x20, 7];
        let scope = field(&[0x12], &[]);
        let rs = field(&[0x0a], &[&url[..], &scope, &resource, &unknown].concat());
        let body = [&rs[..], &[0x58, 1]].concat();
        let index = scanned(Signal::Traces, &body).unwrap();
        let resource = &index.resources()[0];
        let others: Vec<_> =
            index.others_of_resource(resource).iter().map(|o| o.of(&body)).collect();
        assert_eq!(others, [&url[..], &[0x0a, 0, 0x20, 7]]);
        assert_eq!(resource.others_bytes(), 7);
        assert_eq!(index.strays()[0].of(&body), [0x58, 1]);
    }

    #[test]
    fn a_refused_request_leaves_an_empty_index() {
        let mut index = Index::new();
        let good = request(&[[id(1), span_id()].concat()]);
        scan(Signal::Traces, &good, &mut index).unwrap();
        assert_eq!(index.count(), 1);
        scan(Signal::Traces, &[good, vec![0x0a]].concat(), &mut index).unwrap_err();
        assert_eq!((index.count(), index.resources().len()), (0, 0));
    }
}
