//! The exporters of one core, as a request sees them: each says which lanes it would use, then room
//! is reserved in all of them, and only then the first byte is copied.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::lane::{Lane, Target};
use super::options::{Options, QueueOptions};
use super::place::{Place, Places};
use super::queue::{NewPart, Setup};
use super::replies::{Hold, Replies, Ticket};
use super::stats::{Loss, Stats};
use crate::net::tls::ClientTls;
use crate::otlp::{Index, Signal};
use crate::route::{Key, Ring, Split};
use crate::rpc::metadata::Metadata;
use crate::runtime::gate::Gate;
use crate::runtime::lease::{Charge, Lease, Limit, Purse};
use crate::time::Instant;

/// What every lane of a core needs besides its target.
#[derive(Clone, Debug)]
pub struct Site {
    /// Number of the core, and how many there are.
    pub core: usize,
    /// All of them.
    pub cores: usize,
    /// Who waits.
    pub replies: Rc<RefCell<Replies>>,
    /// Where requests wait for room.
    pub gate: Gate,
    /// Limits of the process.
    pub limits: Arc<Limits>,
    /// A client is answered after this long.
    pub ack_wait: Duration,
}

/// Queue limits of the process, by what they limit. Cores look them up when they make a lane.
#[derive(Debug, Default)]
pub struct Limits(Mutex<HashMap<Limited, Arc<Limit>>>);

/// What a queue limit is about.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Limited {
    /// Component id.
    pub exporter: String,
    /// One endpoint of it, or all together.
    pub endpoint: Option<String>,
    /// What is sent.
    pub signal: Signal,
}

impl Limits {
    fn of(&self, what: Limited, max: u64) -> Arc<Limit> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(all.entry(what).or_insert_with(|| Limit::new(max)))
    }

    /// Each limit: what it limits, how much is leased, and the most.
    #[must_use]
    pub fn fill(&self) -> Vec<(Limited, u64, u64)> {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.iter().map(|(what, limit)| (what.clone(), limit.leased(), limit.max())).collect()
    }
}

/// How an exporter's lanes are made.
#[derive(Clone, Debug)]
pub struct Recipe {
    /// Component id.
    pub exporter: String,
    /// How each endpoint is called.
    pub options: Options,
    /// Loaded from [`Options::tls`].
    pub tls: Option<ClientTls>,
    /// A further bound over all endpoints (`sending_queue` at the balancer's own level).
    pub outer_queue: Option<QueueOptions>,
    /// Nobody waits for what it is given, so it is bounded although it has no queue.
    pub is_fed: bool,
}

impl Recipe {
    fn lane(&self, endpoint: &str, signal: Signal, site: &Site) -> Lane {
        let target =
            Target { exporter: self.exporter.clone(), endpoint: endpoint.to_owned(), signal };
        let fed = (self.is_fed && self.outer_queue.is_none()).then_some((None, FED_REQUESTS_MAX));
        let own = self.options.queue.map(|queue| (Some(endpoint.to_owned()), queue.size_max));
        let leases = own.or(fed).map(|(endpoint, max)| self.lease(endpoint, max, signal, site));
        let consumers =
            self.options.queue.or(self.outer_queue).map_or(usize::MAX, |q| q.num_consumers);
        let setup = Setup {
            leases: leases.into_iter().collect(),
            // Unbounded where the collector has no queue: there each request is its own call.
            calls_max: consumers.div_ceil(site.cores).min(CALLS_MAX),
            hold: self.hold(),
            suspect_after: site.ack_wait,
            seed: seed(endpoint, site.core),
        };
        let gate = site.gate.clone();
        let tls = self.tls.clone();
        Lane::start(target, &self.options, tls, setup, Rc::clone(&site.replies), gate)
    }

    fn lease(&self, endpoint: Option<String>, max: u64, signal: Signal, site: &Site) -> Lease {
        let what = Limited { exporter: self.exporter.clone(), endpoint, signal };
        // At most a sixteenth of the limit can lie unused on all cores together.
        Lease::new(site.limits.of(what, max), max / (16 * site.cores as u64))
    }

    /// The core's share of the queue over all endpoints.
    fn places(&self, signal: Signal, site: &Site) -> Option<Places> {
        let queue = self.outer_queue?;
        let lease = self.lease(None, queue.size_max, signal, site);
        Some(Places::new(queue, Purse::new(lease)))
    }

    /// Whether the queue may own what it is given (`wait_for_result` says no).
    fn hold(&self) -> Hold {
        match self.options.queue.or(self.outer_queue) {
            Some(queue) if !queue.wait_for_result => Hold::Soft,
            _ => Hold::Hard,
        }
    }
}

/// Parts held by an exporter without a queue that is fed by a sampler.
const FED_REQUESTS_MAX: u64 = 1000;

/// Calls in flight of one lane where nothing else limits them.
const CALLS_MAX: usize = 64;

/// Differs by endpoint and core, so that routers and cores do not retry in step.
fn seed(endpoint: &str, core: usize) -> u64 {
    let hash = u64::from(crc32fast::hash(endpoint.as_bytes()));
    (hash << 32 | core as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1
}

/// One exporter on one core.
#[derive(Debug)]
pub enum Outlet {
    /// By owner.
    Balancer(Box<Balancer>),
    /// Everything to one endpoint; one lane per signal.
    Single([Lane; 3]),
    /// Counted and forgotten.
    Nop,
}

/// `load_balancing` on one core.
#[derive(Debug)]
pub struct Balancer {
    recipe: Recipe,
    ring: Arc<Ring>,
    /// One for each signal that some pipeline gives it.
    sides: [Option<Box<Side>>; 3],
}

/// One signal of a balancer. Like the collector's, which is an exporter for each signal, they have
/// only the ring in common.
#[derive(Debug)]
struct Side {
    signal: Signal,
    key: Key,
    /// The queue at the balancer's own level, if it has one.
    places: Option<Places>,
    /// One per endpoint of the ring.
    lanes: Vec<Lane>,
    split: Split,
    /// Of endpoints that left the ring: they end when their calls in flight have.
    retired: Vec<Lane>,
    /// Items of the last offer that have no owner.
    ownerless: u64,
    /// What was lost for want of an owner.
    stats: Stats,
}

/// What one outlet would send where.
#[derive(Debug)]
pub struct Offer {
    outlet: usize,
    signal: Signal,
    lane: usize,
    /// Part of the balancer's split, or the whole request.
    part: Option<usize>,
    /// Items in it.
    pub items: u64,
    /// Bytes that will be copied.
    pub bytes: usize,
    /// Room was found.
    pub reserved: bool,
    /// Room was asked for, and there was none.
    lacks_room: bool,
    /// The same of the queue at the balancer's own level.
    lacks_place: bool,
    /// A place there, for all parts of the request.
    pub place: Option<Rc<Place>>,
}

impl Outlet {
    /// Everything to its owner by `ring`; `keys` are those of the signals that it is given.
    #[must_use]
    pub fn balancer(recipe: Recipe, ring: Arc<Ring>, keys: [Option<Key>; 3], site: &Site) -> Self {
        let mut sides = [None, None, None];
        for ((signal, key), side) in Signal::ALL.into_iter().zip(keys).zip(&mut sides) {
            let side_of = |key| {
                let lanes = lanes(&recipe, &ring, signal, site, &mut Vec::new());
                let split = Split::seeded(seed(&recipe.exporter, site.core));
                let (retired, stats) = (Vec::new(), Stats::default());
                let places = recipe.places(signal, site);
                Box::new(Side { signal, key, places, lanes, split, retired, ownerless: 0, stats })
            };
            *side = key.map(side_of);
        }
        Self::Balancer(Box::new(Balancer { recipe, ring, sides }))
    }

    /// Everything to `endpoint`.
    #[must_use]
    pub fn single(recipe: &Recipe, endpoint: &str, site: &Site) -> Self {
        Self::Single(Signal::ALL.map(|signal| recipe.lane(endpoint, signal, site)))
    }

    /// Each signal to an endpoint of its own, in the order of [`Signal::ALL`].
    #[must_use]
    pub fn by_signal(recipe: &Recipe, endpoints: &[String; 3], site: &Site) -> Self {
        // A signal that no pipeline uses may have none: its lane is never given anything.
        let any = endpoints.iter().find(|endpoint| !endpoint.is_empty());
        let lane = |signal| {
            let own = Some(&endpoints[signal as usize]).filter(|own| !own.is_empty());
            recipe.lane(own.or(any).expect("one is given"), signal, site)
        };
        Self::Single(Signal::ALL.map(lane))
    }

    /// Whether it has a use for a request that does not lie in one piece.
    #[must_use]
    pub fn takes_pieces(&self, signal: Signal) -> bool {
        let by_trace = |side: &Side| side.places.is_none() && side.key == Key::TraceId;
        match self {
            Self::Balancer(_) => {
                signal == Signal::Traces && self.side(signal).is_some_and(by_trace)
            }
            Self::Single(_) => false,
            Self::Nop => true,
        }
    }

    /// Says what of the request goes where.
    pub fn offer(
        &mut self,
        outlet: usize,
        signal: Signal,
        body: &[u8],
        index: &Index,
        items: u64,
        offers: &mut Vec<Offer>,
    ) {
        let offer = |lane, part, items, bytes, place| Offer {
            outlet,
            signal,
            lane,
            part,
            items,
            bytes,
            reserved: false,
            lacks_room: false,
            lacks_place: false,
            place,
        };
        match self {
            Self::Balancer(balancer) => {
                let Some(side) = &mut balancer.sides[signal as usize] else { return };
                side.ownerless = side.split.plan_by_key(body, index, &balancer.ring, &side.key);
                let place = |places: &Places| Rc::new(places.place(items, body.len() as u64));
                let place = side.places.as_ref().map(place);
                offers.extend(side.split.parts().iter().enumerate().map(|(at, part)| {
                    let lane = usize::from(part.endpoint);
                    offer(lane, Some(at), u64::from(part.items), part.bytes, place.clone())
                }));
            }
            Self::Single(_) => {
                offers.push(offer(signal as usize, None, items, body.len(), None));
            }
            Self::Nop => {}
        }
    }

    /// Whether nothing of the request that was offered last has an owner, although the ring has
    /// endpoints.
    #[must_use]
    pub fn owns_nothing(&self, signal: Signal) -> bool {
        self.side(signal).is_some_and(|side| side.ownerless > 0 && side.split.parts().is_empty())
    }

    /// Counts what of the request that was offered last has no owner and is lost: how many items.
    /// The collector loses them too, and says so in its log only (loadbalancing 3.1).
    pub fn lose_ownerless(&mut self, signal: Signal) -> u64 {
        let Self::Balancer(balancer) = self else { return 0 };
        let Some(side) = &mut balancer.sides[signal as usize] else { return 0 };
        let items = std::mem::take(&mut side.ownerless);
        side.stats.offered += items;
        side.stats.lose(Loss::Ownerless, items);
        items
    }

    /// What belongs to no endpoint: exporter, signal, counters of what was lost for want of an
    /// owner, and how much the queue at the balancer's own level holds.
    pub fn ownerless(&self) -> impl Iterator<Item = (&str, Signal, &Stats, u64)> {
        let some = self.sides().filter(|side| side.stats.offered > 0 || side.places.is_some());
        some.map(|side| {
            let used = side.places.as_ref().map_or(0, Places::used);
            (self.exporter(), side.signal, &side.stats, used)
        })
    }

    fn exporter(&self) -> &str {
        if let Self::Balancer(balancer) = self { &balancer.recipe.exporter } else { "" }
    }

    fn sides(&self) -> impl Iterator<Item = &Side> {
        let sides: &[_] = if let Self::Balancer(balancer) = self { &balancer.sides } else { &[] };
        sides.iter().flatten().map(Box::as_ref)
    }

    fn side(&self, signal: Signal) -> Option<&Side> {
        self.sides().find(|side| side.signal == signal)
    }

    /// Every lane, retired ones included.
    pub fn lanes(&self) -> impl Iterator<Item = &Lane> {
        let single: &[Lane] = if let Self::Single(lanes) = self { lanes } else { &[] };
        single.iter().chain(self.sides().flat_map(|side| side.lanes.iter().chain(&side.retired)))
    }

    /// The ring in use.
    #[must_use]
    pub fn ring(&self) -> Option<&Arc<Ring>> {
        if let Self::Balancer(balancer) = self { Some(&balancer.ring) } else { None }
    }

    fn lane(&self, offer: &Offer) -> &Lane {
        match self {
            Self::Balancer(balancer) => &balancer.side(offer.signal).lanes[offer.lane],
            Self::Single(lanes) => &lanes[offer.lane],
            Self::Nop => unreachable!("nop makes no offers"),
        }
    }

    /// Puts a new ring in place of the old one. What waits for an endpoint that left is routed
    /// anew (the collector loses it, loadbalancing 3.4); calls in flight end as they may, and
    /// [`Self::reclaim`] routes what fails of them.
    pub fn swap(&mut self, now: Instant, ring: Arc<Ring>, site: &Site) {
        let Self::Balancer(balancer) = self else { return };
        for side in balancer.sides.iter_mut().flatten() {
            let mut old = std::mem::take(&mut side.lanes);
            side.lanes = lanes(&balancer.recipe, &ring, side.signal, site, &mut old);
            side.retired.extend(old);
        }
        balancer.ring = ring;
        self.reclaim(now, site);
    }

    /// Routes anew what endpoints that left still hold. True while calls to them are in flight.
    pub fn reclaim(&mut self, now: Instant, site: &Site) -> bool {
        let Self::Balancer(balancer) = self else { return false };
        let Balancer { recipe, ring, sides } = &mut **balancer;
        let mut is_left = false;
        for side in sides.iter_mut().flatten() {
            // While nobody can take it, it stays where it is, retried.
            if !ring.is_empty() {
                side.reclaim(now, ring, recipe.hold(), site);
            }
            is_left |= !side.retired.is_empty();
        }
        is_left
    }
}

impl Balancer {
    fn side(&self, signal: Signal) -> &Side {
        self.sides[signal as usize].as_ref().expect("it made an offer")
    }
}

impl Side {
    fn reclaim(&mut self, now: Instant, ring: &Ring, hold: Hold, site: &Site) {
        let mut index = Index::new();
        for lane in std::mem::take(&mut self.retired) {
            let held = lane.queue().take_held();
            for mut batch in held {
                self.reroute(now, &mut batch, &mut index, ring, hold, site);
            }
            if lane.queue().is_empty() {
                lane.close();
            } else {
                self.retired.push(lane);
            }
        }
    }

    /// Each part is a request of its own, so it is cut again by the new ring.
    fn reroute(
        &mut self,
        now: Instant,
        batch: &mut super::batch::Batch,
        index: &mut Index,
        ring: &Ring,
        hold: Hold,
        site: &Site,
    ) {
        let message = batch.message();
        for at in 0..batch.parts.len() {
            let body = &message[batch.range(at)];
            let (ticket, place) = (batch.parts[at].ticket, batch.parts[at].place.clone());
            crate::otlp::scan(self.signal, body, index).expect("it was cut from a good request");
            // What has no owner was left out when it came.
            self.split.plan_by_key(body, index, ring, &self.key);
            let mut replies = site.replies.borrow_mut();
            for (part, cut) in self.split.parts().iter().enumerate() {
                let lane = &self.lanes[usize::from(cut.endpoint)];
                let charge = batch.charge.as_mut().map(|c| c.split(cut.bytes as u64));
                let (items, bytes) = (u64::from(cut.items), cut.bytes);
                let (metadata, place) = (batch.metadata.clone(), place.clone());
                let new = NewPart { items, bytes, ticket, charge, metadata, place };
                let mut queue = lane.queue();
                // It was admitted once; a limit that is full now must not lose it.
                queue.reserve_over(new.items, new.bytes as u64);
                queue.push(now, new, &mut replies, |out| self.split.write(part, body, index, out));
                drop(queue);
                lane.ring();
            }
            // The old part is settled last, so that the request is not answered in between.
            if let Some(ticket) = ticket {
                replies.settle(ticket, hold);
            }
        }
    }
}

/// A lane per endpoint of the ring; those of `old` that still have one are taken over.
fn lanes(
    recipe: &Recipe,
    ring: &Ring,
    signal: Signal,
    site: &Site,
    old: &mut Vec<Lane>,
) -> Vec<Lane> {
    let mut make =
        |endpoint: &String| match old.iter().position(|lane| lane.target().endpoint == *endpoint) {
            Some(at) => old.swap_remove(at),
            None => recipe.lane(endpoint, signal, site),
        };
    ring.endpoints().iter().map(&mut make).collect()
}

/// Reserves room for every offer; the number that found none.
pub fn reserve(outlets: &[Outlet], offers: &mut [Offer]) -> usize {
    let mut without = 0;
    for offer in offers {
        let mut queue = outlets[offer.outlet].lane(offer).queue();
        offer.lacks_place = offer.place.as_ref().is_some_and(|place| !place.take());
        offer.reserved = !offer.lacks_place && queue.reserve(offer.items, offer.bytes as u64);
        offer.lacks_room = !offer.reserved;
        without += usize::from(offer.lacks_room);
    }
    without
}

/// Gives every reservation back.
pub fn unreserve(outlets: &[Outlet], offers: &mut [Offer]) {
    for offer in offers {
        offer.place = None;
        if std::mem::take(&mut offer.reserved) {
            let mut queue = outlets[offer.outlet].lane(offer).queue();
            queue.unreserve(offer.items, offer.bytes as u64);
        }
    }
}

/// Whether an offer that found no room waits for it, as its queue says.
#[must_use]
pub fn blocks(outlets: &[Outlet], offers: &[Offer]) -> bool {
    offers.iter().any(|offer| offer.lacks_room && offer.blocks(lane_of(outlets, offer)))
}

impl Offer {
    /// Whether it waits in `lane` for the room that it did not find.
    #[must_use]
    pub fn blocks(&self, lane: &Lane) -> bool {
        match &self.place {
            Some(place) if self.lacks_place => place.blocks(),
            _ => lane.queue().blocks(self.items, self.bytes as u64),
        }
    }

    /// Counts that it found no room.
    pub fn count_overflow(&self, lane: &Lane) {
        lane.queue().stats.overflow(self.items, self.lacks_place);
    }
}

/// Counts what found no room, where it found none.
pub fn count_overflow(outlets: &[Outlet], offers: &[Offer]) {
    for offer in offers.iter().filter(|o| o.lacks_room) {
        offer.count_overflow(lane_of(outlets, offer));
    }
}

/// The lane of an offer.
#[must_use]
pub fn lane_of<'a>(outlets: &'a [Outlet], offer: &Offer) -> &'a Lane {
    outlets[offer.outlet].lane(offer)
}

/// Copies every reserved part into its lane.
pub fn send(
    outlets: &[Outlet],
    offers: &[Offer],
    request: Request<'_>,
    now: Instant,
    ticket: Option<Ticket>,
    replies: &mut Replies,
    charge: &mut Charge,
) {
    for offer in offers.iter().filter(|o| o.reserved) {
        let lane = lane_of(outlets, offer);
        let new = NewPart {
            items: offer.items,
            bytes: offer.bytes,
            ticket,
            charge: Some(charge.split(offer.bytes as u64)),
            metadata: request.metadata_for(lane),
            place: offer.place.clone(),
        };
        lane.queue().push(now, new, replies, |out| cut(outlets, offer, request, out));
        lane.ring();
    }
}

/// What parts are cut from.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// Its bytes.
    pub body: &'a [u8],
    /// Made from them.
    pub index: &'a Index,
    /// What is kept of its headers.
    pub metadata: Option<&'a Rc<Metadata>>,
}

impl Request<'_> {
    /// What a lane wants to know of the headers.
    #[must_use]
    pub fn metadata_for(&self, lane: &Lane) -> Option<Rc<Metadata>> {
        self.metadata.filter(|_| lane.is_parted()).cloned()
    }
}

/// Appends the bytes of an offer.
pub fn cut(outlets: &[Outlet], offer: &Offer, request: Request<'_>, out: &mut Vec<u8>) {
    match (&outlets[offer.outlet], offer.part) {
        (Outlet::Balancer(balancer), Some(part)) => {
            balancer.side(offer.signal).split.write(part, request.body, request.index, out);
        }
        _ => out.extend_from_slice(request.body),
    }
}
