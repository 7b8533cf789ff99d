//! Seeded runs of several queues, links and one [`Replies`] against endpoints that misbehave, in
//! simulated time. Options and faults are drawn from the seed; the laws are in [`World::check`] and
//! [`World::answered`]. A run ends with good weather, in which everything must drain.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::task::{Context, Poll, Wake, Waker};

use super::*;
use crate::rpc::Code;
use crate::runtime::lease::Limit;
use crate::upstream::link::Link;

const MS: u64 = 1_000_000;
/// Faults and arrivals end here.
const CALM_AT: Instant = Instant(3_000 * MS);
/// By then everything has drained: longest delay asked for, longest interval, and some.
const END: Instant = Instant(60_000 * MS);
const ACK_WAIT: Duration = Duration::from_secs(1);
/// Deadlines of replies are rounded up.
const ROUNDING: Duration = Duration::from_millis(20);

struct Draw(u64);

impl Draw {
    fn below(&mut self, n: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut x = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (x ^ (x >> 31)) % n.max(1)
    }

    fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }

    fn of<T: Copy>(&mut self, choice: &[T]) -> T {
        choice[usize::try_from(self.below(choice.len() as u64)).unwrap()]
    }

    fn ms(&mut self, low: u64, high: u64) -> Duration {
        Duration::from_nanos((low + self.below(high - low)) * MS + self.below(MS))
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Weather {
    Fine,
    Slow,
    /// Every call is answered with this code; with `RetryInfo` if true.
    Refusing(Code, bool),
    /// Calls are taken and never answered.
    Hung,
    /// Calls are taken and the connection breaks.
    Cutting,
    /// The connection closes before it takes a call.
    Leaving,
    /// No call is processed, and the caller is told so.
    Disowning,
    /// The connection takes some calls, slowly, and disowns the others; then it takes no more.
    Retiring,
    /// Nobody listens.
    Down,
}

const WEATHERS: [Weather; 17] = [
    Weather::Fine,
    Weather::Fine,
    Weather::Fine,
    Weather::Slow,
    Weather::Refusing(Code::Unavailable, false),
    Weather::Refusing(Code::ResourceExhausted, true),
    Weather::Refusing(Code::ResourceExhausted, false),
    Weather::Refusing(Code::Unauthenticated, false),
    Weather::Refusing(Code::Internal, false),
    Weather::Hung,
    Weather::Cutting,
    Weather::Leaving,
    Weather::Disowning,
    Weather::Retiring,
    Weather::Retiring,
    Weather::Down,
    Weather::Down,
];

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    Arrive,
    /// A client resets its request.
    Leave(usize),
    Reply {
        queue: usize,
        key: u32,
        epoch: u32,
        fate: Fate,
    },
    /// A connection takes no more calls.
    Goaway {
        queue: usize,
        epoch: u32,
    },
    Dialled {
        queue: usize,
    },
    Change {
        queue: usize,
    },
    Reroute {
        from: usize,
        to: usize,
    },
    Drain,
    Abandon,
    Calm,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Fate {
    Good { rejected: u64 },
    Bad { code: Code, retry_ms: Option<u64> },
    Cut,
    Unsent,
    Unprocessed,
}

#[derive(Default)]
struct Flag(AtomicBool);

impl Wake for Flag {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Relaxed);
    }
}

struct Request {
    ticket: Ticket,
    parts: Vec<usize>,
    flag: Arc<Flag>,
    own_at: Instant,
    bound_at: Option<Instant>,
    answer: Option<Result<(), Status>>,
    left: bool,
}

#[derive(Clone, Debug)]
struct Piece {
    request: usize,
    queue: usize,
    items: u64,
    bytes: usize,
    poison: bool,
    delivered: u32,
    /// Deliveries that the queue was not told of.
    unknown: u32,
    acknowledged: bool,
    held: bool,
    seen: bool,
    owned: bool,
    flying: bool,
    lost: bool,
}

struct Call {
    key: u32,
    pieces: Vec<usize>,
    delivered: bool,
    /// Of its connection.
    epoch: u32,
}

struct Endpoint {
    queue: Queue,
    link: Link,
    weather: Weather,
    calls: Vec<Call>,
    /// Number of the connection that takes calls.
    epoch: u32,
    /// Those that finish theirs.
    draining: Vec<u32>,
    limits: Vec<Arc<Limit>>,
    merge: MergeOptions,
    losses: std::collections::BTreeMap<Loss, u64>,
}

struct World {
    seed: u64,
    draw: Draw,
    now: Instant,
    events: BinaryHeap<Reverse<(Instant, u64, Event)>>,
    sequence: u64,
    endpoints: Vec<Endpoint>,
    replies: Replies,
    requests: Vec<Request>,
    pieces: Vec<Piece>,
    /// Those that a queue holds.
    held: Vec<usize>,
    rerouted: bool,
    /// What happened last, for the failure message.
    last: VecDeque<(Instant, Event)>,
    hash: u64,
    calm: bool,
}

impl Drop for World {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("seed {} failed at {:?}; last events:", self.seed, self.now);
            self.last.iter().for_each(|e| eprintln!("  {e:?}"));
        }
    }
}

fn endpoint(draw: &mut Draw, shared: &Arc<Limit>) -> Endpoint {
    let merge = MergeOptions {
        bytes: usize::try_from(draw.of(&[100, 1_000, 4_000])).unwrap(),
        bytes_max: draw.of(&[500, 4_000, 8_000]),
        items_max: draw.of(&[0, 0, 10, 100]),
        linger: Duration::from_millis(2),
        gather_items: draw.of(&[0, 0, 0, 30]),
    };
    let sizer = draw.of(&[Sizer::Requests, Sizer::Items, Sizer::Bytes]);
    let size_max = match sizer {
        Sizer::Requests => draw.of(&[5, 50, 1_000]),
        Sizer::Items => draw.of(&[50, 500]),
        Sizer::Bytes => draw.of(&[1_000, 50_000]),
    };
    let retry = RetryOptions {
        initial_interval: draw.ms(50, 2_000),
        max_interval: draw.ms(500, 5_000),
        max_elapsed_time: draw.of(&[Duration::ZERO, ACK_WAIT * 2, ACK_WAIT * 10]),
        ..RetryOptions::default()
    };
    let options = Options {
        timeout: draw.of(&[Duration::ZERO, ACK_WAIT, ACK_WAIT * 3]),
        retry: (!draw.one_in(5)).then_some(retry),
        queue: Some(super::super::options::QueueOptions { sizer, ..Default::default() }),
        merge,
        ..Options::default()
    };
    let mut limits = vec![Limit::new(size_max)];
    if sizer == Sizer::Requests && draw.one_in(2) {
        limits.push(Arc::clone(shared));
    }
    let chunk = draw.of(&[1, 1, 4]);
    let setup = Setup {
        leases: limits.iter().map(|l| Lease::new(Arc::clone(l), chunk)).collect(),
        calls_max: draw.of(&[1, 2, 4]),
        hold: draw.of(&[Hold::Soft, Hold::Soft, Hold::Hard]),
        suspect_after: Duration::from_millis(50),
        seed: draw.below(u64::MAX),
    };
    Endpoint {
        queue: Queue::new(&options, setup),
        link: Link::new(draw.below(u64::MAX)),
        weather: Weather::Fine,
        calls: Vec::new(),
        epoch: 0,
        draining: Vec::new(),
        limits,
        merge,
        losses: Default::default(),
    }
}

impl World {
    fn new(seed: u64) -> Self {
        let mut draw = Draw(seed);
        let shared = Limit::new(draw.of(&[20, 2_000]));
        let endpoints: Vec<_> = (0..=draw.below(4)).map(|_| endpoint(&mut draw, &shared)).collect();
        let count = endpoints.len();
        let mut world = Self {
            seed,
            draw,
            now: Instant(MS),
            events: BinaryHeap::new(),
            sequence: 0,
            endpoints,
            replies: Replies::default(),
            requests: Vec::new(),
            pieces: Vec::new(),
            held: Vec::new(),
            rerouted: false,
            last: VecDeque::new(),
            hash: 0,
            calm: false,
        };
        world.at(Instant(2 * MS), Event::Arrive);
        world.at(CALM_AT, Event::Calm);
        for queue in 0..count {
            let first = world.draw.ms(1, 1_000);
            world.at(Instant(0) + first, Event::Change { queue });
        }
        let odd = Instant(0) + world.draw.ms(1, 4_000);
        match world.draw.below(10) {
            0 => world.at(odd, Event::Drain),
            1 => world.at(odd, Event::Abandon),
            2 | 3 if count > 1 => world.at(odd, Event::Reroute { from: 0, to: 1 }),
            _ => {}
        }
        world
    }

    fn at(&mut self, at: Instant, event: Event) {
        self.sequence += 1;
        self.events.push(Reverse((at, self.sequence, event)));
    }

    fn note(&mut self, x: u64) {
        self.hash = (self.hash ^ x ^ self.now.0).wrapping_mul(0x0100_0000_01b3).rotate_left(23);
    }

    /// The whole run; equal seeds give equal hashes.
    fn run(mut self) -> u64 {
        let mut steps = 0;
        while let Some(next) = self.next_time().filter(|next| *next < END) {
            steps += 1;
            assert!(steps < 100_000, "it goes in a circle");
            self.now = self.now.max(next);
            while let Some(Reverse((at, _, event))) = self.events.peek().copied()
                && at <= self.now
            {
                self.events.pop();
                self.last.push_back((self.now, event));
                if self.last.len() > 50 {
                    self.last.pop_front();
                }
                self.happen(event);
            }
            self.step();
        }
        self.finish()
    }

    fn next_time(&self) -> Option<Instant> {
        let events = self.events.peek().map(|Reverse((at, ..))| *at);
        let lanes = self.endpoints.iter().flat_map(|e| {
            let reconnect = e.link.deadline().filter(|_| e.queue.has_to_send());
            [e.queue.deadline(e.link.is_up()), reconnect]
        });
        lanes.chain([events, self.replies.deadline()]).flatten().min()
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Arrive => self.arrive(),
            Event::Leave(at) => {
                let request = &mut self.requests[at];
                if request.answer.is_none() && !request.left {
                    request.left = true;
                    self.replies.close(request.ticket);
                }
            }
            Event::Reply { queue, key, epoch, fate } => self.reply(queue, key, epoch, fate),
            Event::Goaway { queue, epoch } => self.goaway(queue, epoch),
            Event::Dialled { queue } => self.dialled(queue),
            Event::Change { queue } => {
                if !self.calm {
                    self.endpoints[queue].weather = self.draw.of(&WEATHERS);
                    let next = self.now + self.draw.ms(20, 1_500);
                    self.at(next, event);
                }
            }
            Event::Reroute { from, to } => self.reroute(from, to),
            Event::Drain => self.endpoints.iter_mut().for_each(|e| e.queue.drain(self.now)),
            Event::Abandon => {
                for e in &mut self.endpoints {
                    let held = e.queue.held_items();
                    assert_eq!(e.queue.abandon(&mut self.replies), held);
                    assert!(e.queue.is_empty());
                    forget_calls(e, &mut self.pieces);
                }
            }
            Event::Calm => {
                self.calm = true;
                for at in 0..self.endpoints.len() {
                    let e = &mut self.endpoints[at];
                    e.weather = Weather::Fine;
                    for epoch in [e.epoch].into_iter().chain(e.draining.clone()) {
                        self.cut(at, epoch);
                    }
                }
            }
        }
    }

    fn arrive(&mut self) {
        if self.calm {
            return;
        }
        let gap = if self.draw.one_in(10) { self.draw.ms(0, 500) } else { self.draw.ms(0, 30) };
        self.at(self.now + gap, Event::Arrive);
        let request = self.requests.len();
        let own_at = self.now + self.draw.of(&[ACK_WAIT, ACK_WAIT / 20]);
        let bound_at = (!self.draw.one_in(4)).then(|| own_at + self.draw.ms(1, 5_000));
        let ticket = self.replies.open(own_at, bound_at);
        let mut parts = Vec::new();
        for at in 0..self.endpoints.len() {
            let items = 1 + self.draw.below(12);
            let bytes = 8 + usize::try_from(self.draw.below(600)).unwrap();
            let queue = &mut self.endpoints[at].queue;
            if self.draw.one_in(3) || !queue.reserve(items, bytes as u64) {
                continue;
            }
            parts.push(self.pieces.len());
            let poison = self.draw.one_in(25);
            self.pieces.push(Piece {
                request,
                queue: at,
                items,
                bytes,
                poison,
                delivered: 0,
                unknown: 0,
                acknowledged: false,
                held: true,
                seen: false,
                owned: false,
                flying: false,
                lost: false,
            });
            self.held.push(self.pieces.len() - 1);
            self.push(self.pieces.len() - 1, Some(ticket));
        }
        if self.draw.one_in(10) {
            let when = self.now + self.draw.ms(0, 2_000);
            self.at(when, Event::Leave(request));
        }
        let flag = Arc::new(Flag(AtomicBool::new(true)));
        let (answer, left) = (None, false);
        self.requests.push(Request { ticket, parts, flag, own_at, bound_at, answer, left });
    }

    fn push(&mut self, at: usize, ticket: Option<Ticket>) {
        let Piece { queue, items, bytes, .. } = self.pieces[at];
        let part = NewPart { items, bytes, ticket, charge: None, metadata: None, place: None };
        self.endpoints[queue].queue.push(self.now, part, &mut self.replies, |out| {
            out.extend_from_slice(&u32::try_from(at).unwrap().to_le_bytes());
            out.extend_from_slice(&u32::try_from(bytes).unwrap().to_le_bytes());
            out.resize(out.len() + bytes - 8, 0xab);
        });
    }

    fn reroute(&mut self, from: usize, to: usize) {
        // The lanes of one exporter all hold alike.
        if self.endpoints[from].queue.hold() != self.endpoints[to].queue.hold() {
            return;
        }
        self.rerouted = true;
        let hold = self.endpoints[from].queue.hold();
        for batch in self.endpoints[from].queue.take_held() {
            for (at, part) in parse(batch.peek()).zip(&batch.parts) {
                let Piece { items, bytes, .. } = self.pieces[at];
                if self.endpoints[to].queue.reserve(items, bytes as u64) {
                    self.pieces[at].queue = to;
                    self.push(at, part.ticket);
                    if let Some(ticket) = part.ticket {
                        self.replies.settle(ticket, hold);
                    }
                } else {
                    self.pieces[at].held = false;
                    self.pieces[at].lost = true;
                    if let Some(ticket) = part.ticket {
                        self.replies.fail(ticket, hold, &Status::new(Code::Unavailable, "full"));
                    }
                }
            }
        }
    }

    /// One wake-up of everything that has something to do.
    fn step(&mut self) {
        self.replies.tick(self.now);
        for at in 0..self.endpoints.len() {
            self.lane(at);
            let e = &self.endpoints[at];
            let due = e.queue.deadline(e.link.is_up());
            assert!(due.is_none_or(|due| due > self.now), "a deadline in the past spins: {due:?}");
        }
        assert!(self.replies.deadline().is_none_or(|due| due > self.now), "spins");
        self.check();
        for at in 0..self.requests.len() {
            if self.requests[at].flag.0.swap(false, Relaxed) {
                self.look(at);
            }
        }
        let open = self.requests.iter().filter(|r| r.answer.is_none() && !r.left).count();
        assert_eq!(self.replies.waiting(), open);
    }

    fn lane(&mut self, at: usize) {
        let e = &mut self.endpoints[at];
        drained(e);
        assert!(e.link.connections() <= 4, "connections pile up");
        if e.queue.has_to_send() && e.link.may_connect(self.now) {
            e.link.connecting();
            let when = self.now + self.draw.ms(0, 30);
            self.at(when, Event::Dialled { queue: at });
        }
        while let Some(key) = self.endpoints[at].queue.expired(self.now) {
            let e = &mut self.endpoints[at];
            let epoch = finish_call(e, key, false, &mut self.pieces);
            let late = Status::new(Code::DeadlineExceeded, "late");
            e.queue.done(self.now, key, Err(late), &mut self.replies);
            if epoch == e.epoch && e.link.timed_out() {
                self.cut(at, epoch);
            }
        }
        while self.endpoints[at].link.is_up() {
            let e = &mut self.endpoints[at];
            let Some(departure) = e.queue.poll(self.now, &mut self.replies) else { break };
            self.depart(at, &departure);
        }
        let e = &mut self.endpoints[at];
        drained(e);
        e.queue.watch(self.now, &mut self.replies);
    }

    fn depart(&mut self, at: usize, departure: &Departure) {
        let pieces: Vec<_> = parse(&departure.framed[5..]).collect();
        self.note(departure.framed.len() as u64);
        let e = &self.endpoints[at];
        let bytes = departure.framed.len() - 5;
        assert!(bytes <= e.merge.bytes_max || pieces.len() == 1, "{bytes} in one call");
        let items_max = items_max(&e.merge);
        assert!(departure.items <= items_max || pieces.len() == 1, "{} items", departure.items);
        assert!(e.queue.calls_in_flight() <= e.queue.calls_max);
        assert!(!pieces.is_empty());
        for &piece in &pieces {
            let piece = &mut self.pieces[piece];
            assert!(piece.queue == at && piece.held && !piece.flying, "{piece:?} leaves");
            piece.flying = true;
        }
        let items: u64 = pieces.iter().map(|p| self.pieces[*p].items).sum();
        assert_eq!(items, departure.items);
        let poisoned = pieces.iter().any(|p| self.pieces[*p].poison);
        let mut after = self.draw.ms(0, 20);
        let bad = |code| Fate::Bad { code, retry_ms: None };
        let good = Fate::Good { rejected: if self.draw.one_in(20) { 1 } else { 0 } };
        let (fate, delivered) = match e.weather {
            Weather::Refusing(code, true) => {
                (Fate::Bad { code, retry_ms: Some(self.draw.below(10_000)) }, false)
            }
            Weather::Refusing(code, false) => (bad(code), false),
            Weather::Leaving => (Fate::Unsent, false),
            Weather::Disowning => (Fate::Unprocessed, false),
            Weather::Retiring if self.draw.one_in(3) => (Fate::Unprocessed, false),
            Weather::Hung | Weather::Cutting | Weather::Down => {
                (Fate::Cut, !poisoned && self.draw.one_in(2))
            }
            _ if poisoned => (bad(Code::InvalidArgument), false),
            _ => (good, true),
        };
        match self.endpoints[at].weather {
            Weather::Slow => after = self.draw.ms(30, 4_000),
            Weather::Retiring if fate != Fate::Unprocessed => after = self.draw.ms(30, 4_000),
            Weather::Hung => after = self.draw.ms(4_000, 60_000),
            _ => {}
        }
        for &piece in pieces.iter().filter(|_| delivered) {
            let piece = &mut self.pieces[piece];
            piece.delivered += 1;
            assert!(piece.delivered <= 1 + piece.unknown, "{piece:?} is delivered again");
        }
        let epoch = self.endpoints[at].epoch;
        self.endpoints[at].calls.push(Call { key: departure.key, pieces, delivered, epoch });
        if self.endpoints[at].weather == Weather::Retiring {
            let when = self.now + self.draw.ms(0, 20);
            self.at(when, Event::Goaway { queue: at, epoch });
        }
        let reply = Event::Reply { queue: at, key: departure.key, epoch, fate };
        self.at(self.now + after, reply);
    }

    fn reply(&mut self, queue: usize, key: u32, epoch: u32, fate: Fate) {
        let e = &mut self.endpoints[queue];
        if !e.calls.iter().any(|c| c.key == key) {
            return;
        }
        match fate {
            Fate::Good { rejected } => {
                finish_call(e, key, true, &mut self.pieces);
                answered(e, epoch);
                e.queue.done(self.now, key, Ok(rejected), &mut self.replies);
            }
            Fate::Bad { code, retry_ms } => {
                finish_call(e, key, false, &mut self.pieces);
                answered(e, epoch);
                let retry_after = retry_ms.map(Duration::from_millis);
                let status = Status { retry_after, ..Status::new(code, "no") };
                e.queue.done(self.now, key, Err(status), &mut self.replies);
            }
            Fate::Cut => self.cut(queue, epoch),
            Fate::Unsent => {
                finish_call(e, key, false, &mut self.pieces);
                e.queue.unsent(key);
                self.cut(queue, epoch);
            }
            Fate::Unprocessed => {
                finish_call(e, key, false, &mut self.pieces);
                let why = Status::new(Code::Unavailable, "not processed");
                e.queue.unprocessed(self.now, key, why, &mut self.replies);
            }
        }
    }

    /// A connection breaks: every call on it has an unknown fate.
    fn cut(&mut self, at: usize, epoch: u32) {
        let e = &mut self.endpoints[at];
        while let Some(key) = e.calls.iter().find(|c| c.epoch == epoch).map(|c| c.key) {
            finish_call(e, key, false, &mut self.pieces);
            let gone = Status::new(Code::Unavailable, "gone");
            e.queue.done(self.now, key, Err(gone), &mut self.replies);
        }
        assert_eq!(e.calls.len(), e.queue.calls_in_flight());
        if e.epoch == epoch && e.link.is_up() {
            e.epoch += 1;
            e.link.lost(self.now);
        }
    }

    /// A connection takes no more calls, and ends at once if it has none.
    fn goaway(&mut self, at: usize, epoch: u32) {
        let e = &mut self.endpoints[at];
        if e.epoch != epoch || !e.link.is_up() {
            return;
        }
        if e.calls.iter().any(|c| c.epoch == epoch) {
            e.draining.push(epoch);
            e.epoch += 1;
            e.link.left(self.now);
        } else {
            self.cut(at, epoch);
        }
    }

    fn dialled(&mut self, queue: usize) {
        let e = &mut self.endpoints[queue];
        if e.weather == Weather::Down {
            e.link.failed(self.now);
            let status = Status::new(Code::Unavailable, "refused");
            e.queue.unreachable(self.now, &status, &mut self.replies);
        } else {
            e.link.connected(self.now);
        }
    }

    /// A client's task runs: only after it was woken.
    fn look(&mut self, at: usize) {
        let request = &mut self.requests[at];
        if request.left || request.answer.is_some() {
            return;
        }
        let waker = Waker::from(Arc::clone(&request.flag));
        let mut cx = Context::from_waker(&waker);
        if let Poll::Ready(answer) = self.replies.poll(request.ticket, &mut cx) {
            let ok = answer.is_ok();
            request.answer = Some(answer);
            self.note(u64::from(ok));
            self.answered(at, ok);
        }
    }

    /// What an answer promises.
    fn answered(&self, at: usize, ok: bool) {
        let request = &self.requests[at];
        let hards = request.parts.iter().any(|p| self.holds(*p) == Hold::Hard);
        let latest = if hards { request.bound_at } else { Some(request.own_at) };
        assert!(self.rerouted || latest.is_none_or(|at| self.now <= at + ROUNDING), "late");
        let mut parts = request.parts.iter().map(|p| &self.pieces[*p]);
        let hard = |p: &Piece| self.endpoints[p.queue].queue.hold() == Hold::Hard;
        if ok {
            for p in parts {
                let owned = p.owned || p.held && !hard(p);
                assert!(p.acknowledged || owned, "OK for {p:?}");
            }
        } else {
            let late = request.bound_at.is_some_and(|bound| self.now >= bound);
            let told = |p: &Piece| p.lost && !p.owned || late && hard(p) && !p.acknowledged;
            assert!(parts.any(told), "a failure without a reason");
        }
    }

    fn holds(&self, piece: usize) -> Hold {
        self.endpoints[self.pieces[piece].queue].queue.hold()
    }

    /// The laws that hold after every step.
    fn check(&mut self) {
        for (at, e) in self.endpoints.iter().enumerate() {
            let stats = &e.queue.stats;
            assert_eq!(stats.offered, stats.sent + stats.lost() + e.queue.held_items());
            let mut size = 0;
            for batch in e.queue.batches() {
                for (piece, part) in parse(batch.peek()).zip(&batch.parts) {
                    let piece = &mut self.pieces[piece];
                    assert!(piece.held && piece.queue == at && piece.items == part.items);
                    assert!(!std::mem::replace(&mut piece.seen, true), "{piece:?} is held twice");
                    let ownerless = part.ticket.is_none();
                    assert!(!ownerless || piece.owned || e.queue.hold() == Hold::Soft, "{piece:?}");
                    piece.owned |= ownerless;
                    size += e.queue.sizer.size(piece.items, piece.bytes as u64);
                }
            }
            assert_eq!(e.queue.size_used(), size, "room is taken for what is held");
            assert!(e.limits.iter().all(|limit| limit.leased() <= limit.max()));
        }
        let held = std::mem::take(&mut self.held);
        let mut lost = Vec::new();
        for at in held {
            let piece = &mut self.pieces[at];
            if std::mem::take(&mut piece.seen) {
                self.held.push(at);
            } else if piece.held {
                piece.held = false;
                assert!(!piece.flying, "{piece:?} left during its call");
                piece.lost = !piece.acknowledged;
                lost.extend(piece.lost.then_some(at));
            }
        }
        for at in 0..self.endpoints.len() {
            self.account(at, lost.iter().map(|p| &self.pieces[*p]).filter(|p| p.queue == at));
        }
        for (e, at) in self.endpoints.iter_mut().zip(0..) {
            if lost.iter().any(|p| self.pieces[*p].queue == at) {
                e.losses.clone_from(&e.queue.stats.losses);
            }
        }
    }

    /// What vanished from a queue is what it counted as lost, for the right reasons.
    fn account<'a>(&self, at: usize, lost: impl Iterator<Item = &'a Piece> + Clone) {
        let e = &self.endpoints[at];
        let before = |why: &Loss| e.losses.get(why).copied().unwrap_or(0);
        let items = |of: &dyn Fn(&Piece) -> bool| -> u64 {
            lost.clone().filter(|p| of(p)).map(|p| p.items).sum()
        };
        let mut all = 0;
        for (why, total) in &e.queue.stats.losses {
            let more = total - before(why);
            all += more;
            let told = |p: &Piece| matches!(self.requests[p.request].answer, Some(Err(_)));
            match why {
                Loss::Abandoned => assert!(more <= items(&told), "recalled {more} items"),
                Loss::Code(Code::InvalidArgument) => assert!(more <= items(&|p| p.poison)),
                _ => {}
            }
        }
        assert_eq!(all, items(&|_| true), "losses are counted");
    }

    fn finish(mut self) -> u64 {
        self.now = END;
        assert!(self.held.is_empty(), "{} parts are stuck", self.held.len());
        for r in &self.requests {
            assert!(r.left || r.answer.is_some(), "a client waits for ever since {:?}", r.own_at);
        }
        assert!(self.pieces.iter().all(|p| p.lost != p.acknowledged && !p.flying));
        for e in &mut self.endpoints {
            assert!(e.queue.is_empty() && e.queue.size_used() == 0);
            e.queue.leases.clear();
            assert_eq!(e.limits[0].leased(), 0);
        }
        self.hash
    }
}

/// The parts of a message: number and length in front of each.
fn parse(mut message: &[u8]) -> impl Iterator<Item = usize> {
    std::iter::from_fn(move || {
        let (number, rest) = message.split_first_chunk()?;
        let (bytes, _) = rest.split_first_chunk().expect("a length");
        message = message.split_at_checked(u32::from_le_bytes(*bytes) as usize).expect("whole").1;
        Some(u32::from_le_bytes(*number) as usize)
    })
}

fn answered(e: &mut Endpoint, epoch: u32) {
    if epoch == e.epoch { e.link.answered() } else { e.link.answered_late() }
}

/// Connections that have finished their calls end.
fn drained(e: &mut Endpoint) {
    let Endpoint { draining, calls, link, .. } = e;
    draining.retain(|epoch| {
        let has_calls = calls.iter().any(|c| c.epoch == *epoch);
        if !has_calls {
            link.drained();
        }
        has_calls
    });
}

/// The number of its connection.
fn finish_call(e: &mut Endpoint, key: u32, good: bool, pieces: &mut [Piece]) -> u32 {
    let at = e.calls.iter().position(|c| c.key == key).expect("a call that was made");
    let call = e.calls.swap_remove(at);
    for piece in call.pieces {
        let piece = &mut pieces[piece];
        piece.flying = false;
        piece.acknowledged |= good;
        piece.unknown += u32::from(call.delivered && !good);
    }
    call.epoch
}

fn forget_calls(e: &mut Endpoint, pieces: &mut [Piece]) {
    while let Some(key) = e.calls.first().map(|c| c.key) {
        finish_call(e, key, false, pieces);
    }
}

#[test]
fn every_law_holds_in_every_weather() {
    for seed in 0..2_000 {
        let hash = World::new(seed).run();
        if seed % 10 == 0 {
            assert_eq!(hash, World::new(seed).run(), "seed {seed} runs the same every time");
        }
    }
}
