//! ROLE: the tail sampler of one pipeline on one core. A request walks the rooms in this order:
//!
//! ```text
//! rpc ─▶ otlp::scan ─▶ check ─▶ by shard ─┬─▶ own shard ───────────────────┬─▶ reply when admitted
//!                                         └─▶ pick ─▶ mesh ─▶ other shards ─┘
//! a tick a second: shard ─▶ decided, in slices ─▶ gather ─▶ upstream ─▶ store
//! ```
//!
//! Invariants: a trace has one home, the shard that its id names; a request is answered when every
//! span is in its shard, or on its way to one that cannot refuse it and takes it before whatever
//! comes later, and refused before any is; what is kept waits in the buffer while the store has no
//! room.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::rc::Rc;
use std::time::Duration;

use crate::otlp::{self, Index, Pick, Signal};
use crate::rpc::message::Message;
use crate::runtime::clock;
use crate::runtime::executor::{self, Bell, Later};
use crate::runtime::gate::Gate;
use crate::runtime::lease::{Charge, Purse};
use crate::runtime::timer::{Alarm, Timeout};
use crate::sample::hash::Key;
use crate::sample::{Moment, Shard, Step};
use crate::telemetry::Quiet;
use crate::time::Instant;

mod before;
mod homes;
mod outgoing;
mod snapshot;

use before::Before;
pub use homes::{Homes, carry};
use outgoing::Outgoing;
pub use outgoing::Parcel;
pub use snapshot::SamplerSnapshot;
use snapshot::Timings;

/// Longest stretch of decisions before other tasks of the core get their turn.
const SLICE: Duration = Duration::from_micros(500);
/// How long what is kept waits for a store without room while another store has some.
const STORE_WAIT: Duration = Duration::from_secs(1);
/// Longest time that a request waits for memory before it is refused.
const ROOM_WAIT: Duration = Duration::from_secs(1);
/// At most one line of a kind in this time.
const QUIET: Duration = Duration::from_secs(10);
/// Memory that a request needs beside its own bytes: directory, records, a new segment.
const ROOM_BYTES: u64 = 64 << 10;
/// Makes the hash that says which shard has a trace another one than those of the tables.
const SHARD_SALT: u64 = 0x7ace_0000_5eed_0001;

/// Where kept traces go.
pub trait Exit {
    /// Takes one trace, or leaves it where it is: false. `late`: it has waited long enough for a
    /// store that has no room while another has some.
    fn ship(&self, now: Instant, spans: u64, body: &[u8], late: bool) -> bool;
}

/// What a sampler is made with.
#[derive(Debug)]
pub struct Parts {
    /// Its position among the samplers of the core.
    pub at: usize,
    /// Of the process; all cores must agree on it.
    pub seed: u64,
    /// How many shards have traces: those of all cores, or that of one.
    pub shards: usize,
    /// This core's shard.
    pub shard: Shard,
    /// The way to the other cores.
    pub homes: Homes,
    /// Memory of the process.
    pub memory: Purse,
    /// Bytes held by the process from which requests wait.
    pub soft_bytes: u64,
    /// Where this core waits for room in queues.
    pub queues: Gate,
}

/// The sampler of one pipeline on one core.
#[derive(Debug)]
pub struct Sampler {
    at: usize,
    shards: usize,
    /// The core that has all traces, where one has.
    alone: usize,
    /// Of the request that is being taken.
    index: RefCell<Index>,
    state: RefCell<State>,
    key: Key,
    homes: Homes,
    memory: Purse,
    soft_bytes: u64,
    queues: Gate,
    /// Where requests wait for memory, or for a place in the map.
    room: Gate,
    bell: Bell,
    /// Memory is short.
    pressed: Cell<bool>,
    /// What an earlier configuration has begun to decide.
    before: Before,
    /// Nothing more will come.
    ended: Cell<bool>,
}

#[derive(Debug)]
struct State {
    shard: Shard,
    outgoing: Outgoing,
    /// What the shard holds.
    charge: Charge,
    timings: Timings,
    quiet: Quiet,
    quiet_ignored: Quiet,
}

/// Why a request is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// It is no OTLP.
    Unreadable(otlp::Error),
    /// Memory is short.
    Memory,
    /// The map is full, and new traces wait (`block_on_overflow`).
    Traces,
}

/// How far a request got.
enum Taken {
    /// The own shard has its part, the others' wait to be sent.
    Yes,
    NoRoom(Refusal),
    /// Another core has not answered for a while.
    NoCredit,
}

/// A stretch of decisions without a break.
struct Slice {
    since: Instant,
    /// When its last step was over.
    moment: Moment,
    cpu_nanos: u64,
}

impl Slice {
    fn begin() -> Self {
        let moment = moment();
        Self { since: moment.now, moment, cpu_nanos: clock::thread_cpu_nanos() }
    }

    /// One more step was over at `now`: the clock is read once for each.
    fn goes_on(&mut self, now: Instant) {
        self.moment = self.moment.later(now);
    }

    fn is_over(&self) -> bool {
        self.moment.now.since(self.since) >= SLICE
    }

    /// CPU time that it has taken.
    fn cpu(&self) -> Duration {
        Duration::from_nanos(clock::thread_cpu_nanos() - self.cpu_nanos)
    }
}

fn moment() -> Moment {
    Moment { now: clock::now(), unix_nanos: clock::unix_nanos() }
}

impl Sampler {
    /// A sampler of this core; [`Self::run`] makes it decide.
    #[must_use]
    pub fn new(parts: Parts) -> Self {
        let Parts { at, seed, shards, shard, homes, memory, soft_bytes, queues } = parts;
        let (mesh, charge) = (homes.mesh(), memory.take_over(shard.bytes()));
        let state = State {
            timings: Timings::new(&shard),
            shard,
            outgoing: Outgoing::new(mesh.clone(), memory.take_over(0)),
            charge,
            quiet: Quiet::new(QUIET),
            quiet_ignored: Quiet::new(QUIET),
        };
        Self {
            at,
            shards,
            alone: at % mesh.cores(),
            index: RefCell::default(),
            state: RefCell::new(state),
            key: Key::new(seed ^ SHARD_SALT),
            homes,
            memory,
            soft_bytes,
            queues,
            room: Gate::default(),
            bell: Bell::default(),
            pressed: Cell::new(false),
            before: Before::default(),
            ended: Cell::new(false),
        }
    }

    /// The core whose shard has the trace.
    fn home(&self, id: &[u8; 16]) -> usize {
        match self.shards {
            1 => self.alone,
            // The upper half of the hash, as a part of 2^32.
            shards => {
                let home = ((self.key.id(id) >> 32) * shards as u64) >> 32;
                usize::try_from(home).expect("below the shards")
            }
        }
    }

    /// Whether this core's shard has the trace.
    fn is_mine(&self, id: &[u8; 16]) -> bool {
        self.home(id) == self.homes.mesh().core()
    }

    /// How many shards have traces.
    #[must_use]
    pub fn shards(&self) -> usize {
        self.shards
    }

    /// Admits a request: when this returns, every span of it is in its shard, or on its way to one
    /// that cannot refuse it. How many spans that are.
    ///
    /// # Errors
    /// Nothing of it was taken.
    pub async fn admit(
        self: &Rc<Self>,
        message: &mut Message,
        timeout: Option<Duration>,
    ) -> Result<u64, Refusal> {
        let start = clock::now();
        let give_up = start + timeout.map_or(ROOM_WAIT, |t| ROOM_WAIT.min(t / 2));
        let mut late = false;
        loop {
            match self.take(message, late)? {
                Taken::Yes => return Ok(self.index.borrow().count()),
                Taken::NoCredit => self.homes.mesh().credit().await,
                // As long as the client does: the collector has no limit here.
                Taken::NoRoom(Refusal::Traces) => {
                    let left = timeout.map(|t| (start + t).since(clock::now()));
                    if left.is_some_and(|left| left.is_zero()) {
                        return Err(Refusal::Traces);
                    }
                    let tick = left.map_or(ROOM_WAIT, |left| left.min(ROOM_WAIT));
                    Timeout::new(tick, self.room.wait()).await;
                }
                Taken::NoRoom(why) if late => return Err(why),
                Taken::NoRoom(_) => {
                    let wait = Timeout::new(give_up.since(clock::now()), self.room.wait());
                    late = wait.await.is_none();
                }
            }
        }
    }

    /// Checks the request and gives every shard its part, if there is room: all at once, so that a
    /// client that leaves meanwhile cannot leave half of a request behind.
    fn take(self: &Rc<Self>, message: &mut Message, late: bool) -> Result<Taken, Refusal> {
        // What other clients were told is taken comes first.
        self.homes.take_news();
        let (state, index) = (&mut *self.state.borrow_mut(), &mut *self.index.borrow_mut());
        // First: who waits for one should not be read each time that it asks.
        if !state.outgoing.has_credit() {
            return Ok(Taken::NoCredit);
        }
        let shard = &mut state.shard;
        check(shard, message, index).map_err(Refusal::Unreadable)?;
        let body = message.region();
        if !shard.has_room(body, index, |id| self.is_mine(id) && !self.before.knows(id)) {
            return Ok(Taken::NoRoom(Refusal::Traces));
        }
        let needed = message.len() as u64 + ROOM_BYTES;
        let (held, max) = self.memory.process();
        let full = held + needed > max;
        if full || (held + needed > self.soft_bytes && !late) {
            self.pressed.set(true);
            self.bell.ring();
            return Ok(Taken::NoRoom(Refusal::Memory));
        }
        let core = self.homes.mesh().core();
        let home = |id: &[u8; 16]| Some(self.home(id)).filter(|home| *home != core);
        let given = shard.divide(body, index, home, &mut state.outgoing.shares);
        if given > 0 && state.outgoing.added(message.len(), self.at) {
            // Before a client can hear that it is taken.
            executor::first(Rc::clone(self) as Rc<dyn Later>);
        }
        self.push(state, body, index);
        Ok(Taken::Yes)
    }

    /// A parcel came back from another core, which has its spans.
    fn came_back(&self, parcel: &Parcel) {
        self.state.borrow_mut().outgoing.came_back(parcel);
        self.open_room();
    }

    /// Takes what another core has checked and picked for this shard. It has room.
    pub fn accept(&self, parcel: &mut Parcel) {
        let state = &mut *self.state.borrow_mut();
        state.shard.receive(&mut parcel.share);
        let (body, index) = parcel.share.request();
        self.push(state, body, index);
    }

    /// Takes what a sampler with other policies has picked for this shard. It has room.
    fn accept_unknown(&self, spans: &Pick) {
        let state = &mut *self.state.borrow_mut();
        let (body, index) = spans.request();
        let checked = state.shard.check(body, index);
        assert!(checked.is_ok(), "picked from a request that was checked");
        state.shard.divide(body, index, |_| None, &mut []);
        self.push(state, body, index);
    }

    /// Gives the own shard its spans of a request.
    fn push(&self, state: &mut State, body: &[u8], index: &Index) {
        let theirs = self.before.take(body, index, |id| self.is_mine(id));
        state.shard.push_own(moment(), body, index, |id| theirs.contains(id));
        state.settle();
        if state.shard.has_leaving() {
            self.bell.ring();
        }
    }

    /// Decides when it is time and lets go what is kept, until [`Self::end`].
    pub async fn run(self: Rc<Self>, exit: impl Exit) {
        let mut alarm = Alarm::default();
        loop {
            self.work(&exit).await;
            poll_fn(|cx| {
                let rung = self.bell.poll(cx);
                let now = clock::now();
                let due = Some(self.state.borrow().shard.deadline());
                if alarm.arm(now, due, cx) || rung {
                    return std::task::Poll::Ready(());
                }
                std::task::Poll::Pending
            })
            .await;
            if self.ended.get() {
                return;
            }
        }
    }

    /// Everything that is due.
    async fn work(&self, exit: &impl Exit) {
        let mut slice = self.begin_slice();
        loop {
            let (step, now) = self.step(slice.moment);
            slice.goes_on(now);
            match step {
                Step::Kept(spans) if self.may_ship(exit, now, spans, false) => {}
                Step::Kept(spans) => {
                    self.end_slice(&slice);
                    self.ship(exit, spans).await;
                    slice = self.begin_slice();
                }
                Step::Busy => {}
                Step::Idle => break,
            }
            if slice.is_over() {
                self.end_slice(&slice);
                executor::rest().await;
                slice = self.begin_slice();
            }
        }
        self.settle();
        self.tell_ignored();
        self.end_slice(&slice);
    }

    /// Spans that clients were told are taken are there when their traces are decided.
    fn begin_slice(&self) -> Slice {
        self.homes.take_news();
        Slice::begin()
    }

    fn end_slice(&self, slice: &Slice) {
        self.state.borrow_mut().timings.slice(slice.cpu());
    }

    fn may_ship(&self, exit: &impl Exit, now: Instant, spans: u64, late: bool) -> bool {
        exit.ship(now, spans, self.state.borrow().shard.kept(), late)
    }

    /// A step of the shard, and when it was over.
    fn step(&self, moment: Moment) -> (Step, Instant) {
        let state = &mut *self.state.borrow_mut();
        if self.pressed.get() && !self.is_pressed() {
            self.pressed.set(false);
        }
        let (step, now) = state.timings.measure(&mut state.shard, moment, Shard::poll);
        if step == Step::Idle && self.pressed.replace(false) && state.shard.hasten(moment) {
            return (Step::Busy, now);
        }
        (step, now)
    }

    fn is_pressed(&self) -> bool {
        let (held, _) = self.memory.process();
        held + ROOM_BYTES > self.soft_bytes
    }

    /// Hands a kept trace to the store. While that has no room, decisions go on.
    async fn ship(&self, exit: &impl Exit, spans: u64) {
        let since = clock::now();
        loop {
            let now = clock::now();
            if self.may_ship(exit, now, spans, now.since(since) >= STORE_WAIT) {
                return;
            }
            self.tell_stuck(now, now.since(since));
            let next = self.decide_meanwhile();
            if next.is_zero() {
                executor::rest().await;
            } else {
                Timeout::new(next, self.queues.wait()).await;
            }
        }
    }

    /// Decides some of what is due, and early what memory has no room for. How long there is
    /// nothing more to do.
    fn decide_meanwhile(&self) -> Duration {
        let mut slice = self.begin_slice();
        let state = &mut *self.state.borrow_mut();
        loop {
            let State { timings, shard, .. } = &mut *state;
            let (step, now) = timings.measure(shard, slice.moment, Shard::decide_due);
            slice.goes_on(now);
            let more =
                step == Step::Busy || (self.pressed.replace(false) && shard.hasten(slice.moment));
            if !more {
                break;
            }
            if slice.is_over() {
                state.timings.slice(slice.cpu());
                return Duration::ZERO;
            }
        }
        state.timings.slice(slice.cpu());
        state.settle();
        self.room.open();
        state.shard.deadline().since(clock::now()).min(STORE_WAIT)
    }

    fn tell_stuck(&self, now: Instant, since: Duration) {
        let mut state = self.state.borrow_mut();
        if since >= STORE_WAIT
            && let Some(suppressed) = state.quiet.admit(now)
        {
            let spans = state.shard.buffered();
            tracing::warn!(spans, suppressed, "Kept traces wait: their exporter has no room.");
        }
    }

    fn tell_ignored(&self) {
        let state = &mut *self.state.borrow_mut();
        if state.shard.has_ignored() && state.quiet_ignored.admit(clock::now()).is_some() {
            state.tell_ignored();
        }
    }

    fn settle(&self) {
        let state = &mut *self.state.borrow_mut();
        state.settle();
        self.open_room();
    }

    /// Lets requests that wait for memory try again, if there is some.
    fn open_room(&self) {
        if self.memory.process().0 < self.soft_bytes {
            self.room.open();
        }
    }

    /// The end is near: everything that waits is decided, or given up, as the options say.
    pub fn finish(&self) {
        self.homes.take_in();
        let state = &mut *self.state.borrow_mut();
        state.shard.finish(moment());
        state.tell_ignored();
        state.settle();
        self.bell.ring();
    }

    /// Nothing is held and nothing more will come.
    pub fn end(&self) {
        self.ended.set(true);
        self.bell.ring();
    }

    /// Traces that `before` knows stay with it: a trace is decided by the configuration that its
    /// first span met.
    pub fn leave_to(&self, before: Option<Rc<Self>>) {
        self.before.set(before);
    }

    /// It has ended, if it is one of `ended`.
    pub fn forget(&self, ended: &[&Rc<Self>]) {
        self.before.forget(ended);
    }

    /// Whether it has met the trace and remembers it.
    #[must_use]
    pub fn knows(&self, id: &[u8; 16]) -> bool {
        self.state.borrow().shard.knows(id) || self.before.knows(id)
    }

    /// Whether nothing waits here.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.homes.take_news();
        let state = self.state.borrow();
        state.outgoing.is_empty() && state.shard.is_idle()
    }

    /// Spans that are held.
    #[must_use]
    pub fn held(&self) -> u64 {
        let state = self.state.borrow();
        state.shard.buffered() + state.outgoing.spans()
    }

    /// Traces and spans that were given up because the options say so.
    #[must_use]
    pub fn given_up(&self) -> (u64, u64) {
        let stats = &self.state.borrow().shard.stats;
        (stats.given_up, stats.lost.shutdown)
    }

    /// What this shard has counted.
    #[must_use]
    pub fn snapshot(&self) -> SamplerSnapshot {
        self.homes.take_news();
        let state = self.state.borrow();
        SamplerSnapshot::of(&state.shard, &state.timings, clock::now())
    }
}

/// Sends what other cores are to have, when the tasks that are ready have run.
impl Later for Sampler {
    fn run(&self) {
        self.state.borrow_mut().outgoing.send(self.at);
    }
}

/// Checks a request where it lies, if that can be done and nothing is wrong.
fn check(shard: &mut Shard, message: &mut Message, index: &mut Index) -> Result<(), otlp::Error> {
    if otlp::scan_pieces(message.region(), message.pieces(), index)
        && shard.check(message.region(), index).is_ok()
    {
        return Ok(());
    }
    otlp::scan(Signal::Traces, message.whole(), index)?;
    shard.check(message.region(), index)
}

impl State {
    /// What the collector says of each span stands in one line with the number of errors.
    fn tell_ignored(&mut self) {
        for (errors, condition, error) in self.shard.take_ignored() {
            tracing::warn!(
                otelcol.component.id = "tail_sampling",
                otelcol.component.kind = "processor",
                error = %error,
                condition,
                errors,
                "failed to eval condition"
            );
        }
    }

    fn settle(&mut self) {
        self.charge.set(self.shard.bytes());
    }
}
