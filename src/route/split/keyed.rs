//! Owners by any routing key but the trace id of a span: each piece of a request, be it a whole
//! resource, a scope, an item or a data point, has one identifier, and the ring its owner.
//!
//! A level of the request is looked at only if the levels above it did not decide.

use std::collections::BTreeMap;

use super::{NO_ID, Split};
use crate::otlp::metric::{self, Metric};
use crate::otlp::value::{Value, find, messages};
use crate::otlp::wire::Extent;
use crate::otlp::{Index, Item, Resource, Scope, Signal, items_of};
use crate::route::hash::{Fnv, Maps};
use crate::route::named::Named;
use crate::route::{Key, Ring};

const SERVICE_NAME: &[u8] = b"service.name";
/// InstrumentationScope fields: name and version.
const SCOPE_NAME: u32 = 1;
const SCOPE_VERSION: u32 = 2;

/// A request, its index, and who owns what.
#[derive(Clone, Copy)]
pub(super) struct Request<'a> {
    pub(super) body: &'a [u8],
    pub(super) index: &'a Index,
    ring: &'a Ring,
}

/// Where items stand: resource and scope, each with its position.
#[derive(Clone, Copy)]
pub(super) struct Place<'a> {
    pub(super) resource: (u32, &'a Resource),
    pub(super) scope: (u32, &'a Scope),
}

impl<'a> Request<'a> {
    fn owner(&self, identifier: &[u8]) -> u16 {
        self.ring.owner_of_key(identifier).expect("the ring is not empty")
    }

    /// Owner by an identity: `resource/` or `stream/` and a number in hex.
    fn owner_of_hash(&self, what: &str, hash: Fnv) -> u16 {
        self.owner(format!("{what}/{:x}", hash.finish()).as_bytes())
    }

    fn resources(&self) -> impl Iterator<Item = (u32, &'a Resource)> + use<'a> {
        (0u32..).zip(self.index.resources())
    }

    fn places(&self, resource: (u32, &'a Resource)) -> impl Iterator<Item = Place<'a>> + use<'a> {
        self.index.scopes_of(resource.1).map(move |scope| Place { resource, scope })
    }

    fn items(&self, at: &Place<'a>) -> &'a [Item] {
        self.index.items_of(at.scope.1)
    }

    fn resource_attributes(&self, resource: &Resource) -> impl Iterator<Item = &'a [u8]> {
        self.index.resource_attributes(self.body, resource)
    }

    fn content(&self, item: &Item) -> &'a [u8] {
        item.content(self.body).of(self.body)
    }
}

impl Split {
    /// [`Self::plan`] by any key. The result is the number of items that have no owner, because
    /// they are metrics of a resource without `service.name` that are routed by it
    /// (loadbalancing 2.3); of all other requests every item is in a part.
    ///
    /// A metric whose data points have several owners is in several parts, each with all its other
    /// fields; a metric without points is in none if points are what is routed. On an **empty
    /// ring** there are no parts: the caller has to look.
    pub fn plan_by_key(&mut self, body: &[u8], index: &Index, ring: &Ring, key: &Key) -> u64 {
        let signal = index.signal().unwrap_or(Signal::Traces);
        if signal == Signal::Traces && *key == Key::TraceId {
            self.plan(body, index, ring);
            return 0;
        }
        self.begin(ring.endpoints().len());
        if ring.is_empty() {
            return 0;
        }
        let request = Request { body, index, ring };
        let ownerless = match (key, signal) {
            (Key::Attributes(names), _) => self.by_names(&request, signal, names),
            (Key::StreamId, Signal::Metrics) => self.by_stream(&request),
            (Key::Metric, Signal::Metrics) => self.by_metric(&request),
            (Key::TraceId, Signal::Logs) => self.by_record_id(&request),
            (Key::Service, Signal::Metrics) => self.by_service(&request, None),
            (Key::Service, _) => self.by_service(&request, Some(&[])),
            // A key that the signal does not know is refused with the configuration.
            (Key::Resource | Key::StreamId | Key::Metric | Key::TraceId, _) => {
                self.by_resource(&request)
            }
        };
        self.finish(body, index);
        ownerless
    }

    /// `unnamed` is the service of a resource that names none, if such are routed.
    fn by_service(&mut self, request: &Request<'_>, unnamed: Option<&[u8]>) -> u64 {
        let mut ownerless = 0;
        for resource in request.resources() {
            let service = match find(request.resource_attributes(resource.1), SERVICE_NAME) {
                Some(Value::Str(service)) => Some(service),
                Some(_) => Some(&[][..]),
                None => unnamed,
            };
            let owner = service.map(|service| request.owner(service));
            for at in request.places(resource) {
                match owner {
                    Some(owner) => self.whole(request, at, owner),
                    None => ownerless += count(request, &at),
                }
            }
        }
        ownerless
    }

    fn by_resource(&mut self, request: &Request<'_>) -> u64 {
        let mut maps = Maps::default();
        for resource in request.resources() {
            let hash = Fnv::NEW.write(&maps.hash(request.resource_attributes(resource.1)));
            let owner = request.owner_of_hash("resource", hash);
            for at in request.places(resource) {
                self.whole(request, at, owner);
            }
        }
        0
    }

    fn by_metric(&mut self, request: &Request<'_>) -> u64 {
        for at in request.resources().flat_map(|resource| request.places(resource)) {
            for item in request.items(&at) {
                let metric = Metric::read(request.body, item.content(request.body));
                let owner = request.owner(metric.name.of(request.body));
                self.place(owner, at.resource, at.scope, item.field, points(request, item));
            }
        }
        0
    }

    /// The id's hex digits; without one a number drawn anew for each record, as the collector
    /// draws it: 4 bytes of a trace id whose others are zero.
    fn by_record_id(&mut self, request: &Request<'_>) -> u64 {
        for at in request.resources().flat_map(|resource| request.places(resource)) {
            for item in request.items(&at) {
                let mut id = *item.trace_id(request.body).unwrap_or(&NO_ID);
                if id == NO_ID {
                    id[..4].copy_from_slice(&self.draw().to_le_bytes()[..4]);
                }
                self.place(request.owner(&hex(id)), at.resource, at.scope, item.field, 1);
            }
        }
        0
    }

    /// SplitMix64.
    const fn draw(&mut self) -> u64 {
        self.seed = self.seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.seed ^ self.seed >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ mixed >> 31
    }

    fn by_stream(&mut self, request: &Request<'_>) -> u64 {
        let Request { body, index, .. } = *request;
        let mut maps = Maps::default();
        for resource in request.resources() {
            let of_resource = Fnv::NEW.write(&maps.hash(request.resource_attributes(resource.1)));
            for at in request.places(resource) {
                let last = |number| {
                    let scopes = index.scope_messages(body, at.scope.1);
                    scopes.flat_map(|scope| messages(scope, number)).last().unwrap_or_default()
                };
                let of_scope = of_resource
                    .write(last(SCOPE_NAME))
                    .write(last(SCOPE_VERSION))
                    .write(&maps.hash(index.scope_attributes(body, at.scope.1)));
                for item in request.items(&at) {
                    let metric = Metric::read(body, item.content(body));
                    let of_metric = of_scope
                        .write(metric.name.of(body))
                        .write(metric.unit.of(body))
                        .write(&metric.identity(body));
                    self.points(request, at, item, &metric, |point, attributes| {
                        let hash = maps.hash(messages(point, attributes));
                        request.owner_of_hash("stream", of_metric.write(&hash))
                    });
                }
            }
        }
        0
    }

    fn by_names(&mut self, request: &Request<'_>, signal: Signal, names: &[String]) -> u64 {
        let Request { body, index, .. } = *request;
        let mut named = Named::new(signal, names);
        let begin = named.mark();
        for resource in request.resources() {
            named.back_to(begin);
            named.level(|| request.resource_attributes(resource.1));
            let mark = named.mark();
            for at in request.places(resource) {
                named.back_to(mark);
                if !named.is_complete() {
                    named.level(|| index.scope_attributes(body, at.scope.1));
                }
                if named.is_complete() {
                    let owner = request.owner(named.identifier());
                    self.whole(request, at, owner);
                    continue;
                }
                match signal {
                    Signal::Traces => self.traces_by_names(request, at, &mut named),
                    Signal::Logs => self.records_by_names(request, at, &mut named),
                    Signal::Metrics => self.points_by_names(request, at, &mut named),
                }
            }
        }
        0
    }

    /// The spans of a trace that stand in one scope go where the first of them goes.
    fn traces_by_names(&mut self, request: &Request<'_>, at: Place<'_>, named: &mut Named<'_>) {
        let mark = named.mark();
        let mut owners = BTreeMap::new();
        let mut last = None;
        for item in request.items(&at) {
            let id = item.trace_id(request.body).unwrap_or(&NO_ID);
            let owner = match last {
                Some((known, owner)) if known == id => owner,
                _ => *owners.entry(id).or_insert_with(|| {
                    named.back_to(mark);
                    named.span(request.content(item));
                    request.owner(named.identifier())
                }),
            };
            last = Some((id, owner));
            self.place(owner, at.resource, at.scope, item.field, 1);
        }
    }

    fn records_by_names(&mut self, request: &Request<'_>, at: Place<'_>, named: &mut Named<'_>) {
        let mark = named.mark();
        for item in request.items(&at) {
            named.back_to(mark);
            named.record(request.content(item));
            let owner = request.owner(named.identifier());
            self.place(owner, at.resource, at.scope, item.field, 1);
        }
    }

    fn points_by_names(&mut self, request: &Request<'_>, at: Place<'_>, named: &mut Named<'_>) {
        let mark = named.mark();
        for item in request.items(&at) {
            let metric = Metric::read(request.body, item.content(request.body));
            self.points(request, at, item, &metric, |point, attributes| {
                named.back_to(mark);
                named.point(point, attributes);
                request.owner(named.identifier())
            });
        }
    }

    /// All items of a scope to one owner.
    fn whole(&mut self, request: &Request<'_>, at: Place<'_>, owner: u16) {
        for item in request.items(&at) {
            self.place(owner, at.resource, at.scope, item.field, points(request, item));
        }
    }

    /// The data points of a metric, each to its owner. `owner` is given a point and the field of
    /// its attributes.
    fn points<'a>(
        &mut self,
        request: &Request<'a>,
        at: Place<'a>,
        item: &Item,
        metric: &Metric,
        mut owner: impl FnMut(&'a [u8], u32) -> u16,
    ) {
        let Some((kind, data)) = metric.data else { return };
        let mut owned = std::mem::take(&mut self.owned);
        owned.clear();
        owned.extend(
            metric::points(request.body, data).map(|(field, content)| {
                (owner(content.of(request.body), kind.attributes()), field)
            }),
        );
        if let Some(&(first, _)) = owned.first() {
            if owned.iter().all(|point| point.0 == first) || self.is_far(request.body, owned.len())
            {
                let count = u32::try_from(owned.len()).expect("fewer points than bytes");
                self.place(first, at.resource, at.scope, item.field, count);
            } else {
                // Stable: points keep their order.
                owned.sort_by_key(|point| point.0);
                for points in owned.chunk_by(|a, b| a.0 == b.0) {
                    self.cut_metric(request, at, item, (kind.field(), data), points);
                }
            }
        }
        super::keep(&mut owned);
        self.owned = owned;
    }

    /// Whether what is made for so many points could lie beyond 4 GiB. Only of a request of some
    /// 300 MiB, whose metrics then stay whole.
    const fn is_far(&self, body: &[u8], points: usize) -> bool {
        const MADE_MAX: usize = 12;
        body.len() + self.made.len() + points * MADE_MAX >= u32::MAX as usize
    }

    /// A metric with some of its points: new lengths, and slices of the request.
    fn cut_metric(
        &mut self,
        request: &Request<'_>,
        at: Place<'_>,
        item: &Item,
        (field, data): (u32, Extent),
        points: &[(u16, Extent)],
    ) {
        let body = request.body;
        let owner = points[0].0;
        let metric = item.content(body);
        let sum = |extents: &mut dyn Iterator<Item = Extent>| extents.map(Extent::len).sum::<u32>();
        let data_len = sum(&mut metric::others_of_data(body, data))
            + sum(&mut points.iter().map(|point| point.1));
        let metric_len =
            sum(&mut metric::others_of_metric(body, metric)) + super::field_len(data_len);
        let count = u32::try_from(points.len()).expect("fewer points than bytes");
        let begin = self.made(body, super::ITEM_TAG, metric_len);
        self.place(owner, at.resource, at.scope, begin, count);
        for other in metric::others_of_metric(body, metric) {
            self.place(owner, at.resource, at.scope, other, 0);
        }
        let tag = u8::try_from(field << 3 | 2).expect("fields of data have small numbers");
        let begin = self.made(body, tag, data_len);
        self.place(owner, at.resource, at.scope, begin, 0);
        for other in metric::others_of_data(body, data) {
            self.place(owner, at.resource, at.scope, other, 0);
        }
        for &(_, point) in points {
            self.place(owner, at.resource, at.scope, point, 0);
        }
    }
}

/// Spans, records or data points in an item.
fn points(request: &Request<'_>, item: &Item) -> u32 {
    let items = items_of(request.index.signal(), request.body, item);
    u32::try_from(items).expect("fewer points than bytes")
}

fn count(request: &Request<'_>, at: &Place<'_>) -> u64 {
    request.items(at).iter().map(|item| u64::from(points(request, item))).sum()
}

fn hex(id: [u8; 16]) -> [u8; 32] {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut hex = [0; 32];
    for (pair, byte) in hex.chunks_exact_mut(2).zip(id) {
        pair[0] = DIGITS[usize::from(byte >> 4)];
        pair[1] = DIGITS[usize::from(byte & 15)];
    }
    hex
}
