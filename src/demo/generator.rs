//! Clients: connections on a core of their own that send the [`Traffic`] in an open loop.
//!
//! A round begins when those before it have taken their time; its requests follow each other
//! evenly, [`GAP_MAX`] apart at most, so that a trace is never longer on its way than a decision
//! waits. Request `n` goes on connection `n mod` [`CONNECTIONS`], so the spans of one trace travel
//! on several connections. A connection has at most [`CALLS_MAX`] calls in flight; when the machine
//! is too slow for the rate, the schedule is moved on by what it lags, and the lag is counted.
//! After [`Clients::stop`] the round is completed, so that every trace was sent whole. Nothing is
//! ever sent twice.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::poll_fn;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Poll;
use std::time::Duration;

use hdrhistogram::Histogram;
use tokio::sync::oneshot;

use super::homes::Homes;
use super::rounds::{Closed, Rounds};
use super::traffic::{self, Request, Traffic};
use crate::otlp::{Signal, reply};
use crate::rpc::grpc_client::{Connection, Event, Outgoing, Template};
use crate::rpc::way::Way;
use crate::rpc::{Codec, Status};
use crate::runtime::clock;
use crate::runtime::executor::{self, Seat};
use crate::runtime::timer::Alarm;
use crate::time::Instant;

/// Clients.
pub(super) const CONNECTIONS: u64 = 8;
/// Calls in flight of one client.
const CALLS_MAX: usize = 4;
/// Longest time between two requests of a round, in nanoseconds.
const GAP_MAX: u64 = 10_000_000;
/// A schedule that lags more is moved on.
const LAG_MAX: Duration = Duration::from_millis(200);
/// How often a client that waits looks whether it shall stop.
const LOOK: Duration = Duration::from_millis(20);
/// Deadline of a call and of connecting.
const TIMEOUT: Duration = Duration::from_secs(20);
/// Longest hop that is told apart: a minute, in nanoseconds.
const HOP_NANOS_MAX: u64 = 60_000_000_000;

/// A histogram of hops in nanoseconds, to two digits.
pub(super) fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1_000, HOP_NANOS_MAX, 2).expect("the bounds are constants")
}

/// What was sent.
#[derive(Clone, Debug, Default)]
pub(super) struct Sent {
    pub requests: u64,
    pub traces: u64,
    pub spans: u64,
    /// Of those, spans that came after the decision about their trace.
    pub late: u64,
    pub bytes: u64,
    /// Spans whose requests were answered with OK.
    pub acknowledged: u64,
    /// Spans whose requests failed, or that were rejected.
    pub refused: u64,
    /// The first reason.
    pub trouble: Option<String>,
    /// Time by which the schedule was moved on.
    pub lag: Duration,
}

/// What the clients tell.
#[derive(Debug)]
struct Report {
    sent: Sent,
    /// Rounds that are over and not taken yet.
    closed: VecDeque<Closed>,
    /// By sampler, since they were taken last.
    hops: Vec<Histogram<u64>>,
}

/// The clients, from outside.
#[derive(Debug)]
pub(super) struct Clients {
    stop: Arc<AtomicBool>,
    report: Arc<Mutex<Report>>,
    done: oneshot::Receiver<()>,
}

impl Clients {
    /// Starts a core that sends `rate` spans per second to `target`.
    pub(super) fn start(
        target: SocketAddr,
        rate: f64,
        traffic: Traffic,
        homes: Arc<Homes>,
    ) -> std::io::Result<Self> {
        let hops = vec![histogram(); homes.count()];
        let report = Report { sent: Sent::default(), closed: VecDeque::new(), hops };
        let (stop, report) = (Arc::new(AtomicBool::new(false)), Arc::new(Mutex::new(report)));
        let (finished, done) = oneshot::channel();
        let clients = Self { stop: Arc::clone(&stop), report: Arc::clone(&report), done };
        let seat = Seat { name: "demo-clients".into(), cpu: None, spin: Duration::ZERO };
        executor::spawn(seat, move || async move {
            let core = Rc::new(Core {
                interval: crate::time::nanos(traffic::interval(&traffic, rate)),
                rounds: RefCell::new(Rounds::new(traffic.round())),
                traffic: RefCell::new(traffic),
                homes,
                start: Cell::new(clock::now()),
                start_unix: clock::unix_nanos(),
                begun: Cell::new(0),
                end: Cell::new(None),
                stop,
                report,
            });
            let all: Vec<_> =
                (0..CONNECTIONS).map(|n| client(Rc::clone(&core), target, n)).collect();
            futures_util::future::join_all(all).await;
            // Nobody waits any more if the demonstration has failed.
            let _ = finished.send(());
        })?;
        Ok(clients)
    }

    /// What was sent so far.
    pub(super) fn sent(&self) -> Sent {
        lock(&self.report).sent.clone()
    }

    /// How long requests of one trace took since the last call, by the sampler of that trace.
    pub(super) fn hops(&self) -> Vec<Histogram<u64>> {
        lock(&self.report).hops.iter_mut().map(|h| std::mem::replace(h, histogram())).collect()
    }

    /// The next round that has been over for `age`, each once and in their order.
    pub(super) fn closed(&self, age: Duration) -> Option<Closed> {
        let now = clock::now();
        let closed = &mut lock(&self.report).closed;
        closed.front().filter(|c| now.since(c.at) >= age)?;
        closed.pop_front()
    }

    /// Completes the round, hears the last answers, and ends.
    pub(super) async fn stop(&mut self) {
        self.stop.store(true, Relaxed);
        // An error means that the core has ended early; what it sent is counted all the same.
        let _ = (&mut self.done).await;
    }
}

fn lock(report: &Mutex<Report>) -> MutexGuard<'_, Report> {
    // Plain numbers: a panic elsewhere leaves them as good as they were.
    report.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What the clients of the core share.
struct Core {
    traffic: RefCell<Traffic>,
    rounds: RefCell<Rounds>,
    homes: Arc<Homes>,
    /// Nanoseconds of a round.
    interval: u64,
    start: Cell<Instant>,
    /// Nanoseconds since 1970.
    start_unix: u64,
    /// One more than the highest request that was begun.
    begun: Cell<u64>,
    /// Requests in all but for late spans, once it is time to stop.
    end: Cell<Option<u64>>,
    stop: Arc<AtomicBool>,
    report: Arc<Mutex<Report>>,
}

/// A call in flight.
struct Flight {
    begun: Instant,
    spans: u64,
    round: u64,
    late: bool,
    /// The sampler of its trace, if it has but one.
    home: Option<u8>,
}

impl Core {
    fn lock(&self) -> MutexGuard<'_, Report> {
        lock(&self.report)
    }

    /// When the request is due; now, if it is about time to stop.
    fn due(&self, n: u64, now: Instant) -> Instant {
        if self.end.get().is_some() {
            return now;
        }
        let requests = self.traffic.borrow().round();
        let gap = (self.interval / requests).min(GAP_MAX);
        let offset = (n / requests).saturating_mul(self.interval) + n % requests * gap;
        let due = self.start.get() + Duration::from_nanos(offset);
        let lag = now.since(due);
        if lag > LAG_MAX {
            self.start.set(self.start.get() + lag);
            self.lock().sent.lag += lag;
            return now;
        }
        due
    }

    /// Requests in all, if it is time to stop: whole rounds, at least one.
    fn end(&self) -> Option<u64> {
        if self.end.get().is_none() && self.stop.load(Relaxed) {
            let round = self.traffic.borrow().round();
            self.end.set(Some(self.begun.get().max(1).next_multiple_of(round)));
            self.rounds.borrow_mut().end();
        }
        self.end.get()
    }

    /// When the spans of a round ended, all before it was begun: nanoseconds since 1970.
    fn ended(&self, round: u64) -> u64 {
        self.start_unix.saturating_add(round.saturating_mul(self.interval))
    }

    fn begin(&self, n: u64, now: Instant) -> (Request, Flight) {
        let round = n / self.traffic.borrow().round();
        let request = self.traffic.borrow_mut().request(n, self.ended(round));
        if n.is_multiple_of(self.traffic.borrow().round()) {
            self.lock().sent.traces += self.traffic.borrow().traces_per_round();
        }
        self.begun.set(self.begun.get().max(n + 1));
        self.rounds.borrow_mut().begin(round, now);
        let home = request.single.map(|id| self.homes.of(&id));
        let flight = Flight { begun: now, spans: request.spans, round, late: false, home };
        (request, flight)
    }

    fn begin_late(&self, now: Instant) -> Option<(Request, Flight)> {
        let round = self.rounds.borrow_mut().take_late(now)?;
        let request = self.traffic.borrow_mut().late(round, self.ended(round));
        let flight = Flight { begun: now, spans: request.spans, round, late: true, home: None };
        Some((request, flight))
    }

    fn is_waiting(&self) -> bool {
        self.rounds.borrow().is_waiting()
    }

    fn count(&self, request: &Request, late: bool) {
        let sent = &mut self.lock().sent;
        sent.requests += 1;
        sent.spans += request.spans;
        sent.late += if late { request.spans } else { 0 };
        sent.bytes += request.framed.len() as u64;
    }

    fn settle(&self, flight: &Flight, result: Result<u64, String>, now: Instant) {
        let mut rounds = self.rounds.borrow_mut();
        match flight.late {
            true => rounds.answer_late(flight.round, now),
            false => rounds.answer(flight.round, now),
        }
        let report = &mut *self.lock();
        report.closed.extend(std::iter::from_fn(|| rounds.close()));
        if let Some(hop) = flight.home.and_then(|home| report.hops.get_mut(usize::from(home))) {
            hop.saturating_record(crate::time::nanos(now.since(flight.begun)));
        }
        let sent = &mut report.sent;
        match result {
            Ok(0) => sent.acknowledged += flight.spans,
            Ok(rejected) => {
                sent.acknowledged += flight.spans.saturating_sub(rejected);
                sent.refused += rejected;
                sent.trouble.get_or_insert_with(|| format!("{rejected} spans were rejected"));
            }
            Err(why) => {
                sent.refused += flight.spans;
                sent.trouble.get_or_insert(why);
            }
        }
    }
}

async fn client(core: Rc<Core>, target: SocketAddr, number: u64) {
    if let Err(why) = converse(&core, target, number).await {
        core.lock().sent.trouble.get_or_insert(why);
    }
}

/// One client from its connection to its last answer.
async fn converse(core: &Core, target: SocketAddr, number: u64) -> Result<(), String> {
    let target = target.to_string();
    let template = Template::new(("http", &target), Codec::None, TIMEOUT, "tracemill-demo", &[])
        .map_err(|e| format!("bad header {}", e.0))?;
    let way = Way { endpoint: target.clone(), proxy: None, tls: None };
    let opened = Connection::open(&way, 0, TIMEOUT, template, None).await;
    let mut connection = opened.map_err(|e| format!("{target}: {e}"))?;
    let mut flights: Vec<(u32, Flight)> = Vec::new();
    let (mut next, mut key) = (number, 0u32);
    let mut alarm = Alarm::default();
    poll_fn(|cx| {
        loop {
            let now = clock::now();
            let end = core.end();
            let over = |next| end.is_some_and(|end| next >= end);
            while flights.len() < CALLS_MAX {
                let (request, flight) = if let Some(late) = core.begin_late(now) {
                    late
                } else if !over(next) && core.due(next, now) <= now {
                    next += CONNECTIONS;
                    core.begin(next - CONNECTIONS, now)
                } else {
                    break;
                };
                core.count(&request, flight.late);
                let path = Signal::Traces.grpc_path();
                connection.start(Outgoing { key, path, framed: request.framed, metadata: None });
                flights.push((key, flight));
                key = key.wrapping_add(1);
            }
            match connection.poll(now, cx) {
                Poll::Ready(Event::Done { key, result }) => {
                    settle(core, &mut flights, key, outcome(result), now);
                }
                Poll::Ready(Event::Unprocessed { key, why }) => {
                    settle(core, &mut flights, key, outcome(Err(why)), now);
                }
                Poll::Ready(Event::Unsent(call)) => {
                    let unsent = Err("a call was not sent".into());
                    settle(core, &mut flights, call.key, unsent, now);
                }
                Poll::Ready(Event::Closed(cause)) => {
                    let cause = cause.map_or_else(|| "by the router".into(), |c| c.to_string());
                    return Poll::Ready(Err(format!("a connection was closed: {cause}")));
                }
                Poll::Pending if over(next) && flights.is_empty() && !core.is_waiting() => {
                    return Poll::Ready(Ok(()));
                }
                Poll::Pending => {
                    let look = now + LOOK;
                    let due = match flights.len() < CALLS_MAX && !over(next) {
                        true => look.min(core.due(next, now)),
                        false => look,
                    };
                    if !alarm.arm(now, Some(due), cx) {
                        return Poll::Pending;
                    }
                }
            }
        }
    })
    .await
}

fn settle(
    core: &Core,
    flights: &mut Vec<(u32, Flight)>,
    key: u32,
    result: Result<u64, String>,
    now: Instant,
) {
    if let Some(at) = flights.iter().position(|(k, _)| *k == key) {
        core.settle(&flights.swap_remove(at).1, result, now);
    }
}

/// Spans that the reply rejects, or why the call failed.
fn outcome(result: Result<bytes::Bytes, Status>) -> Result<u64, String> {
    match result {
        Ok(body) => Ok(reply::rejection(&body).items),
        Err(status) => Err(format!("{}: {}", status.code.name(), status.message)),
    }
}
