//! ROLE: one core of the router. A request walks the rooms in this order:
//!
//! ```text
//! net ─▶ rpc ─▶ otlp::scan ─▶ route::split ─▶ room in every lane ─▶ copy ─▶ reply when owned
//! ```
//!
//! Invariants: nothing is copied before room was asked for everywhere, and nothing is sent if
//! nobody has any; a request is answered OK only when every span of it was acknowledged or is owned
//! by a queue, or the reply names what was not taken; `received = accepted + refused` for every
//! receiver.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use crate::otlp::edit::{Editor, Edits};
use crate::otlp::{self, Index, Signal, reply};
use crate::route::{self, Ring};
use crate::rpc::message::Message;
use crate::rpc::service::{Call, Service, Transport};
use crate::rpc::{Code, Status};
use crate::runtime::clock;
use crate::runtime::gate::Gate;
use crate::runtime::lease::{Charge, Purse};
use crate::runtime::timer::{self, Alarm, Timeout};
use crate::sampler::Sampler;
use crate::telemetry::Quiet;
use crate::time::Instant;
use crate::upstream::file;
use crate::upstream::lane::Lane;
use crate::upstream::outlet::{self, Offer, Outlet, Request, Site};
use crate::upstream::replies::Ticket;

pub mod blueprint;
pub mod core;
pub mod debug;
mod door;
mod edited;
mod generation;
mod kept;
mod owed;
mod parked;
pub mod snapshot;
pub mod trust;

use owed::{Owed, Patience};
use parked::{Parked, Short};
use snapshot::{Received, Snapshot};

/// Longest time that a request waits for room before it is refused.
const ROOM_WAIT: Duration = Duration::from_secs(1);
/// How often who waits longer looks for room: another core can have made it, too.
const ROOM_LOOK: Duration = Duration::from_millis(100);
/// How often calls in flight to an endpoint that left are looked at.
const RECLAIM_TICK: Duration = Duration::from_millis(100);
/// What a refused client is asked to wait.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// Everything one core routes with.
#[derive(Debug)]
pub struct Router {
    state: RefCell<State>,
    site: Site,
    memory: Purse,
    rules: Rules,
    /// Samplers of this core; they come after the router, whose outlets they use.
    samplers: RefCell<Vec<Rc<Sampler>>>,
    /// Its configuration has been replaced and it has nothing left.
    ended: Cell<bool>,
}

/// What the configuration says about answers.
#[derive(Clone, Copy, Debug)]
pub struct Rules {
    /// A client is answered after this long.
    pub ack_wait: Duration,
    /// Refuse the whole request when one endpoint has no room.
    pub refuse_partial: bool,
    /// Bytes held by the process from which requests wait.
    pub soft_bytes: u64,
    /// Bytes that processors may change in one request.
    pub edits_bytes_max: u64,
}

#[derive(Debug)]
struct State {
    outlets: Vec<Outlet>,
    ways: Vec<Way>,
    index: Index,
    offers: Vec<Offer>,
    debug: Vec<debug::Sink>,
    editor: Editor,
    quiet: Quiet,
}

/// From one receiver to the exporters of its pipelines, by signal.
#[derive(Clone, Debug, Default)]
pub struct Way {
    /// Component id of the receiver.
    pub receiver: String,
    /// The exporters of pipelines that do not sample, by what they change; none where no pipeline
    /// takes the signal.
    pub exits: [Vec<Exits>; 3],
    /// Positions of the samplers that take its traces, and what is changed before.
    pub samplers: Vec<(usize, Arc<Edits>)>,
    /// The balancer's bound of a reply that waits, if one is on the way.
    pub bound: Option<Duration>,
    /// What came, by transport and signal.
    pub received: [[Received; 3]; 2],
}

/// The exporters of pipelines that change the same, by what they are.
#[derive(Clone, Debug, Default)]
pub struct Exits {
    /// What is changed on the way to them.
    pub edits: Arc<Edits>,
    /// Positions in the outlets.
    pub outlets: Vec<usize>,
    /// Positions in the debug exporters.
    pub debugs: Vec<usize>,
    /// Files that are written.
    pub files: Vec<file::Sink>,
}

/// Where a request goes.
#[derive(Clone, Copy, Debug)]
struct Course {
    /// Position of the receiver's way.
    way: usize,
    signal: Signal,
    /// Position among the exits of the way.
    exit: usize,
    /// It goes nowhere else afterwards.
    is_last: bool,
}

/// How far a request got.
enum Taken {
    /// Its parts are under way; some may have found no room, or one exporter may have had a use for
    /// none.
    Yes { ticket: Ticket, items: u64, short: Short, but: Option<Status> },
    /// There is nothing to do for it.
    Empty,
    /// Nothing was sent.
    NoRoom { why: Lack },
}

/// What a request found no room in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Lack {
    Memory,
    Queue,
    /// As [`Self::Queue`], and the request waits as long as its client does.
    Turn,
    Backend,
    Traces,
}

impl Lack {
    /// The collector's words, where it has the case.
    const fn text(self) -> &'static str {
        match self {
            Self::Memory => "data refused due to high memory usage",
            Self::Queue | Self::Turn => "sending queue is full",
            Self::Backend => "the resolver has found no backend",
            Self::Traces => "num_traces is reached and block_on_overflow is set",
        }
    }
}

impl Router {
    /// A router of this core.
    #[must_use]
    pub fn new(
        outlets: Vec<Outlet>,
        debug: Vec<debug::Sink>,
        ways: Vec<Way>,
        site: Site,
        memory: Purse,
        rules: Rules,
    ) -> Self {
        let state = State {
            outlets,
            ways,
            index: Index::new(),
            offers: Vec::new(),
            debug,
            editor: Editor::new(usize::try_from(rules.edits_bytes_max).unwrap_or(usize::MAX)),
            quiet: Quiet::new(Duration::from_secs(10)),
        };
        Self {
            state: RefCell::new(state),
            site,
            memory,
            rules,
            samplers: RefCell::default(),
            ended: Cell::new(false),
        }
    }

    /// The walk of one request to each of its exits in turn; once unless pipelines change it each
    /// in another way. What one has taken is not taken back when the next does not, as in the
    /// collector.
    async fn export(&self, way: usize, signal: Signal, call: Call) -> Result<Bytes, Status> {
        let exits = self.state.borrow().ways[way].exits[signal as usize].len();
        let (mut reply, mut rejected) = (Bytes::from_static(reply::FULL_SUCCESS), 0);
        for exit in 1..exits {
            let course = Course { way, signal, exit: exit - 1, is_last: false };
            let other = self.edited(course, edited::again(&call))?;
            let (answer, without) = self.export_to(course, other, rejected).await?;
            if without > rejected {
                (reply, rejected) = (answer, without);
            }
        }
        let course = Course { way, signal, exit: exits - 1, is_last: true };
        let call = self.edited(course, call)?;
        let (answer, without) = self.export_to(course, call, rejected).await?;
        Ok(if without > rejected { answer } else { reply })
    }

    /// The walk of one request, from its bytes to its answer, and the items that were not taken:
    /// here, or before.
    async fn export_to(
        &self,
        course: Course,
        mut call: Call,
        before: u64,
    ) -> Result<(Bytes, u64), Status> {
        let start = clock::now();
        let give_up = start + call.timeout.map_or(ROOM_WAIT, |t| ROOM_WAIT.min(t / 2));
        let bound = self.state.borrow().ways[course.way].bound_with(call.timeout);
        let bound = bound.map(|bound| start + bound);
        let client = call.timeout.map(|timeout| start + timeout);
        let (mut now, mut late, mut turn) = (start, false, None);
        loop {
            match self.take(now, course, &mut call, late)? {
                Taken::Empty => return Ok((Bytes::from_static(reply::FULL_SUCCESS), 0)),
                Taken::Yes { ticket, items, short, but } => {
                    let transport = call.transport;
                    drop((call, turn));
                    let owed = Owed {
                        router: self,
                        course,
                        ticket,
                        failed: false,
                        is_answered: false,
                        transport,
                        items,
                        short,
                        before,
                    };
                    let until = bound.map_or(give_up, |bound| give_up.min(bound));
                    return owed.answer(Patience { until, bound, client }, but).await;
                }
                Taken::NoRoom { why: Lack::Turn } if bound.is_none_or(|bound| now < bound) => {
                    if turn.is_none() {
                        let charge = self.memory.take(call.message.len() as u64);
                        turn = charge.map(|charge| (charge, self.site.gate.wait()));
                    }
                    let Some((_, seat)) = &mut turn else {
                        return Err(self.refuse(course.way, course.signal, &call, Lack::Memory));
                    };
                    let look = bound.map_or(ROOM_LOOK, |bound| ROOM_LOOK.min(bound.since(now)));
                    if Timeout::new(look, &mut *seat).await.is_some() {
                        *seat = self.site.gate.wait();
                    }
                    now = clock::now();
                }
                Taken::NoRoom { why } if late || why == Lack::Turn => {
                    return Err(self.refuse(course.way, course.signal, &call, why));
                }
                Taken::NoRoom { .. } => {
                    let wait = Timeout::new(give_up.since(now), self.site.gate.wait());
                    late = wait.await.is_none();
                    now = clock::now();
                }
            }
        }
    }

    /// Whether a request may be read where its pieces lie: nothing is changed in it, and it goes
    /// only to samplers and to balancers that look for trace ids.
    fn takes_pieces(&self, way: usize, signal: Signal) -> bool {
        let state = self.state.borrow();
        let way = &state.ways[way];
        let exports = match &way.exits[signal as usize][..] {
            [] => true,
            [exits] => {
                let others = exits.debugs.len() + exits.files.len();
                let mut outlets = exits.outlets.iter().map(|at| &state.outlets[*at]);
                exits.edits.is_empty()
                    && others == 0
                    && outlets.all(|outlet| outlet.takes_pieces(signal))
            }
            _ => false,
        };
        let samples = || way.samplers.iter().all(|(_, edits)| edits.is_empty());
        exports && (signal != Signal::Traces || samples())
    }

    /// Scan, split, reserve, copy. `late`: the request has waited for room long enough.
    fn take(
        &self,
        now: Instant,
        course: Course,
        call: &mut Call,
        late: bool,
    ) -> Result<Taken, Status> {
        let signal = course.signal;
        let state = &mut *self.state.borrow_mut();
        let scanned = scan(signal, &mut call.message, &mut state.index);
        scanned.map_err(|e| unreadable(call, e))?;
        let body = call.message.region();
        let items = state.index.count();
        if items == 0 {
            return Ok(Taken::Empty);
        }
        let State { outlets, ways, index, offers, .. } = state;
        let exits = &ways[course.way].exits[signal as usize][course.exit];
        if exits.outlets.iter().filter_map(|&at| outlets[at].ring()).any(|ring| ring.is_empty()) {
            return Ok(Taken::NoRoom { why: Lack::Backend });
        }
        offers.clear();
        for &at in &exits.outlets {
            outlets[at].offer(at, signal, body, index, items, offers);
        }
        let bytes: u64 = offers.iter().map(|o| o.bytes as u64).sum();
        let Some(charge) = self.room_in_memory(bytes, late) else {
            return Ok(Taken::NoRoom { why: Lack::Memory });
        };
        let rooms = exits.files.iter().map(|sink| sink.room(call.message.len()));
        let rooms: Option<Vec<_>> = rooms.collect();
        let Some(rooms) = rooms else { return Ok(Taken::NoRoom { why: Lack::Queue }) };
        let without = outlet::reserve(outlets, offers);
        let blocks = without > 0 && outlet::blocks(outlets, offers);
        let is_refused = self.rules.refuse_partial || without == offers.len() && !blocks;
        if without > 0 && is_refused {
            outlet::unreserve(outlets, offers);
            return Ok(Taken::NoRoom { why: if blocks { Lack::Turn } else { Lack::Queue } });
        }
        for room in rooms {
            room.put(signal, body, items);
        }
        Ok(self.send(state, now, course, call, charge, late))
    }

    /// Past the soft limit a request waits first; past the hard one there is no room at all.
    fn room_in_memory(&self, bytes: u64, late: bool) -> Option<Charge> {
        let (held, _) = self.memory.process();
        if held + bytes > self.rules.soft_bytes && !late {
            return None;
        }
        self.memory.take(bytes)
    }

    fn send(
        &self,
        state: &mut State,
        now: Instant,
        course: Course,
        call: &Call,
        mut charge: Charge,
        late: bool,
    ) -> Taken {
        let Course { way, signal, exit, .. } = course;
        let State { outlets, ways, index, offers, debug, quiet, .. } = state;
        let own_after =
            call.timeout.map_or(self.rules.ack_wait, |t| self.rules.ack_wait.min(t / 2));
        let bound = ways[way].bound_with(call.timeout);
        let mut replies = self.site.replies.borrow_mut();
        let ticket = replies.open(now + own_after, bound.map(|b| now + b));
        let request =
            Request { body: call.message.region(), index, metadata: call.metadata.as_ref() };
        outlet::send(outlets, offers, request, now, Some(ticket), &mut replies, &mut charge);
        let is_all = !offers.is_empty() && offers.iter().all(|offer| !offer.reserved);
        let mut short = Short::of(is_all);
        for offer in offers.iter().filter(|o| !o.reserved) {
            let lane = outlet::lane_of(outlets, offer);
            let blocks = offer.blocks(lane);
            // One that does not answer is not waited for, unless its queue says so.
            if !blocks && (late || lane.queue().in_trouble()) {
                offer.count_overflow(lane);
                short.reject(lane, offer.items);
            } else {
                short.parked.push(parked(outlets, offer, request, blocks, &mut charge));
            }
        }
        // With them goes what they hold of places.
        offers.clear();
        let items = index.count();
        let exits = &ways[way].exits[signal as usize][exit];
        for &at in &exits.debugs {
            debug[at].show(now, signal, call.message.region(), items);
        }
        let mut but = None;
        for &at in &exits.outlets {
            if outlets[at].owns_nothing(signal)
                && route::names_no_service(call.message.region(), index)
            {
                but = Some(ownerless(call, index));
            } else {
                let lost = outlets[at].lose_ownerless(signal);
                if lost > 0
                    && let Some(suppressed) = quiet.admit(now)
                {
                    let why = route::without_service(call.message.region(), index);
                    tracing::error!(
                        lost_items = lost,
                        suppressed,
                        "Failed to export metric: {why}"
                    );
                }
            }
        }
        Taken::Yes { ticket, items, short, but }
    }

    fn tell_rejected(&self, rejected_items: u64, why: &str) {
        if let Some(suppressed) = self.state.borrow_mut().quiet.admit(clock::now()) {
            tracing::warn!(rejected_items, suppressed, "Refused in part: {why}.");
        }
    }

    fn refuse(&self, way: usize, signal: Signal, call: &Call, why: Lack) -> Status {
        let state = &mut *self.state.borrow_mut();
        let items = otlp::items(signal, call.message.clone().whole()).unwrap_or(0);
        let received = state.ways[way].received(call.transport, signal);
        received.requests += 1;
        received.refused += items;
        if why == Lack::Memory {
            received.refused_for_memory += items;
        }
        if matches!(why, Lack::Queue | Lack::Turn) {
            outlet::count_overflow(&state.outlets, &state.offers);
        }
        let why = why.text();
        if let Some(suppressed) = state.quiet.admit(clock::now()) {
            tracing::warn!(suppressed, "Requests are refused: {why}.");
        }
        Status::unavailable(why, RETRY_AFTER)
    }

    /// Where this core waits for room in queues.
    #[must_use]
    pub fn queues(&self) -> Gate {
        self.site.gate.clone()
    }

    /// What this core has counted.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        let state = self.state.borrow();
        let mut lanes: Vec<_> =
            state.outlets.iter().flat_map(Outlet::lanes).map(snapshot::lane).collect();
        let ownerless = state.outlets.iter().flat_map(Outlet::ownerless);
        let shown = state.debug.iter().flat_map(debug::Sink::stats);
        let shown = shown.map(|(exporter, signal, stats)| (exporter, signal, stats, 0));
        lanes.extend(ownerless.chain(shown).map(snapshot::endpointless));
        let received =
            state.ways.iter().map(|way| (way.receiver.clone(), way.received.clone())).collect();
        let rings = state.outlets.iter().map(|o| o.ring().cloned()).collect();
        let waiting = self.site.replies.borrow().waiting();
        let samplers = self.samplers.borrow().iter().map(|s| s.snapshot()).collect();
        let bytes = self.memory.used();
        Snapshot { received, lanes, rings, samplers, waiting, bytes, connections: 0 }
    }

    /// Puts a new ring in place.
    pub fn swap(&self, at: usize, ring: &Arc<Ring>) {
        let now = clock::now();
        self.state.borrow_mut().outlets[at].swap(now, Arc::clone(ring), &self.site);
    }

    /// Routes anew what endpoints that left still hold; ends when they hold nothing.
    pub async fn reclaim(&self, at: usize) {
        while self.state.borrow_mut().outlets[at].reclaim(clock::now(), &self.site) {
            timer::sleep(RECLAIM_TICK).await;
        }
    }

    /// Nothing lingers any more.
    pub fn drain(&self) {
        let now = clock::now();
        for lane in self.state.borrow().outlets.iter().flat_map(Outlet::lanes) {
            lane.queue().drain(now);
            lane.ring();
        }
    }

    /// Whether nothing is owned and nobody waits.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        let state = self.state.borrow();
        let held = state.outlets.iter().flat_map(Outlet::lanes).any(|l| !l.queue().is_empty());
        !held && self.site.replies.borrow().waiting() == 0
    }

    /// Gives up what is left; items lost, by exporter and endpoint.
    pub fn abandon(&self) -> Vec<(String, String, u64)> {
        let mut replies = self.site.replies.borrow_mut();
        let state = self.state.borrow();
        let mut lost = Vec::new();
        for lane in state.outlets.iter().flat_map(Outlet::lanes) {
            let items = lane.queue().abandon(&mut replies);
            if items > 0 {
                lost.push((lane.target().exporter.clone(), lane.target().endpoint.clone(), items));
            }
        }
        lost
    }

    /// Nothing more will come, and nothing is owned: lanes and ticks end.
    fn end(&self) {
        self.ended.set(true);
        self.state.borrow().outlets.iter().flat_map(Outlet::lanes).for_each(Lane::close);
        self.samplers.take();
        self.site.replies.borrow_mut().wake();
    }

    /// Lets acknowledgement deadlines pass, until [`Self::end`].
    async fn tick(&self) {
        let mut alarm = Alarm::default();
        poll_fn(|cx| {
            loop {
                if self.ended.get() {
                    return std::task::Poll::Ready(());
                }
                let now = clock::now();
                let mut replies = self.site.replies.borrow_mut();
                replies.tick(now);
                let due = replies.next_tick(cx);
                if !alarm.arm(now, due, cx) {
                    return std::task::Poll::Pending;
                }
            }
        })
        .await;
    }
}

/// Cuts a part that found no room.
fn parked(
    outlets: &[Outlet],
    offer: &Offer,
    request: Request<'_>,
    blocks: bool,
    charge: &mut Charge,
) -> Parked {
    let lane = outlet::lane_of(outlets, offer);
    let mut bytes = Vec::with_capacity(offer.bytes);
    outlet::cut(outlets, offer, request, &mut bytes);
    let charge = Some(charge.split(offer.bytes as u64));
    let (items, metadata) = (offer.items, request.metadata_for(lane));
    let place = offer.place.clone();
    Parked { lane: lane.clone(), items, bytes, charge, metadata, blocks, place }
}

impl Way {
    /// When a reply is given, whatever is known by then: the balancer's bound, or the client's.
    fn bound_with(&self, timeout: Option<Duration>) -> Option<Duration> {
        [self.bound, timeout].into_iter().flatten().min()
    }

    fn received(&mut self, transport: Transport, signal: Signal) -> &mut Received {
        &mut self.received[transport as usize][signal as usize]
    }
}

/// Finds what a request holds, where it lies if that can be done.
fn scan(signal: Signal, message: &mut Message, index: &mut Index) -> Result<(), otlp::Error> {
    if otlp::scan_pieces(message.region(), message.pieces(), index) {
        return Ok(());
    }
    otlp::scan(signal, message.whole(), index)
}

/// Nothing of a request can be routed: INTERNAL, and 500 on HTTP (loadbalancing 2.3).
fn ownerless(call: &Call, index: &Index) -> Status {
    let why = route::without_service(call.message.region(), index);
    Status::new(Code::Internal, format!("Permanent error: {why}"))
}

/// A body that is no OTLP: INTERNAL on gRPC, 400 with INVALID_ARGUMENT on HTTP (loadbalancing 8.4).
fn unreadable(call: &Call, e: otlp::Error) -> Status {
    match call.transport {
        Transport::Grpc => {
            Status::new(Code::Internal, format!("grpc: error unmarshalling request: {e}"))
        }
        Transport::Http => Status::new(Code::InvalidArgument, e.to_string()),
    }
}

/// The service of one receiver: the signals that its pipelines take.
#[derive(Clone, Debug)]
pub struct Inlet {
    /// The core's router.
    pub router: Rc<Router>,
    /// Position of the receiver.
    pub way: usize,
}

impl Service for Inlet {
    fn method(&self, path: &str) -> Option<usize> {
        let signal = Signal::ALL.into_iter().find(|s| s.grpc_path() == path)?;
        self.takes(signal as usize).then_some(signal as usize)
    }

    fn has_service(&self, name: &str) -> bool {
        Signal::ALL.into_iter().any(|s| {
            self.takes(s as usize) && s.grpc_path()[1..].strip_suffix("/Export") == Some(name)
        })
    }

    fn of_json(&self, method: usize, text: &[u8]) -> Result<Vec<u8>, String> {
        let mut message = Vec::with_capacity(text.len() / 2);
        let read = otlp::json::decode_first(Signal::ALL[method], text, &mut message);
        read.map(|()| message).map_err(|e| e.to_string())
    }

    fn to_json(&self, method: usize, reply: &[u8]) -> Vec<u8> {
        reply::json(Signal::ALL[method], reply)
    }

    async fn call(&self, mut call: Call) -> Result<Bytes, Status> {
        let signal = Signal::ALL[call.method];
        let (exports, samples) = self.router.ways(self.way, signal);
        if !self.router.takes_pieces(self.way, signal) {
            call.message.whole();
        }
        if samples {
            self.router.sample(self.way, &call, !exports).await?;
            if !exports {
                return Ok(Bytes::from_static(reply::FULL_SUCCESS));
            }
        }
        self.router.export(self.way, signal, call).await
    }
}

impl Inlet {
    fn takes(&self, method: usize) -> bool {
        let (exports, samples) = self.router.ways(self.way, Signal::ALL[method]);
        exports || samples
    }
}
