//! Clients: connections on a core of their own that send the [`Traffic`] in an open loop.
//!
//! Request `n` is due `n` intervals after the start, on connection `n mod` [`CONNECTIONS`], so the
//! spans of one trace travel on several connections. A connection has at most [`CALLS_MAX`] calls
//! in flight; when the machine is too slow for the rate, the schedule is moved on by what it lags,
//! and the lag is counted. After [`Clients::stop`] the round is completed, so that every trace was
//! sent whole. Nothing is ever sent twice.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Poll;
use std::time::Duration;

use tokio::sync::oneshot;

use super::traffic::Traffic;
use crate::otlp::{Signal, reply};
use crate::rpc::grpc_client::{Connection, Event, Outgoing, Template};
use crate::rpc::{Codec, Status};
use crate::runtime::clock;
use crate::runtime::executor::{self, Seat};
use crate::runtime::timer::Alarm;
use crate::time::Instant;

/// Clients.
pub(super) const CONNECTIONS: u64 = 8;
/// Calls in flight of one client.
const CALLS_MAX: usize = 4;
/// A schedule that lags more is moved on.
const LAG_MAX: Duration = Duration::from_millis(200);
/// How often a client that waits looks whether it shall stop.
const LOOK: Duration = Duration::from_millis(20);
/// Deadline of a call and of connecting.
const TIMEOUT: Duration = Duration::from_secs(20);

/// What was sent.
#[derive(Clone, Debug, Default)]
pub(super) struct Sent {
    pub requests: u64,
    pub traces: u64,
    pub spans: u64,
    pub bytes: u64,
    /// Spans whose requests were answered with OK.
    pub acknowledged: u64,
    /// Sum of the digests of those.
    pub digest: u64,
    /// Spans whose requests failed, or that were rejected.
    pub refused: u64,
    /// The first reason.
    pub trouble: Option<String>,
    /// Time by which the schedule was moved on.
    pub lag: Duration,
}

/// The clients, from outside.
#[derive(Debug)]
pub(super) struct Clients {
    stop: Arc<AtomicBool>,
    sent: Arc<Mutex<Sent>>,
    done: oneshot::Receiver<()>,
}

impl Clients {
    /// Starts a core that sends `rate` spans per second to `target`.
    pub(super) fn start(target: SocketAddr, rate: f64, traffic: Traffic) -> std::io::Result<Self> {
        let (stop, sent) = (Arc::new(AtomicBool::new(false)), Arc::default());
        let (finished, done) = oneshot::channel();
        let clients = Self { stop: Arc::clone(&stop), sent: Arc::clone(&sent), done };
        let seat = Seat { name: "demo-clients".into(), cpu: None, spin: Duration::ZERO };
        executor::spawn(seat, move || async move {
            let interval = Duration::from_secs_f64(traffic.spans_per_request() / rate);
            let core = Rc::new(Core {
                traffic: RefCell::new(traffic),
                interval,
                start: Cell::new(clock::now()),
                begun: Cell::new(0),
                end: Cell::new(None),
                stop,
                sent,
            });
            let all: Vec<_> =
                (0..CONNECTIONS).map(|n| client(Rc::clone(&core), target, n)).collect();
            futures_util::future::join_all(all).await;
            let requests = core.lock().requests;
            if Some(requests) == core.end.get() {
                core.lock().traces = core.traffic.borrow().traces(requests);
            }
            // Nobody waits any more if the demonstration has failed.
            let _ = finished.send(());
        })?;
        Ok(clients)
    }

    /// What was sent so far.
    pub(super) fn sent(&self) -> Sent {
        lock(&self.sent).clone()
    }

    /// Completes the round, hears the last answers, and ends. All that was sent.
    pub(super) async fn stop(self) -> Sent {
        self.stop.store(true, Relaxed);
        // An error means that the core has ended early; what it sent is counted all the same.
        let _ = self.done.await;
        lock(&self.sent).clone()
    }
}

fn lock(sent: &Mutex<Sent>) -> MutexGuard<'_, Sent> {
    // Plain numbers: a panic elsewhere leaves them as good as they were.
    sent.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What the clients of the core share.
struct Core {
    traffic: RefCell<Traffic>,
    interval: Duration,
    start: Cell<Instant>,
    /// One more than the highest request that was begun.
    begun: Cell<u64>,
    /// Requests in all, once it is time to stop.
    end: Cell<Option<u64>>,
    stop: Arc<AtomicBool>,
    sent: Arc<Mutex<Sent>>,
}

/// A call in flight.
struct Flight {
    spans: u64,
    digest: u64,
}

impl Core {
    fn lock(&self) -> MutexGuard<'_, Sent> {
        lock(&self.sent)
    }

    /// When the request is due; now, if it is about time to stop.
    fn due(&self, n: u64, now: Instant) -> Instant {
        if self.end.get().is_some() {
            return now;
        }
        let offset = self.interval.as_nanos() * u128::from(n);
        let offset = u64::try_from(offset).map_or(Duration::MAX, Duration::from_nanos);
        let due = self.start.get() + offset;
        let lag = now.since(due);
        if lag > LAG_MAX {
            self.start.set(self.start.get() + lag);
            self.lock().lag += lag;
            return now;
        }
        due
    }

    /// Requests in all, if it is time to stop: whole rounds, at least one.
    fn end(&self) -> Option<u64> {
        if self.end.get().is_none() && self.stop.load(Relaxed) {
            let round = self.traffic.borrow().round();
            self.end.set(Some(self.begun.get().max(1).next_multiple_of(round)));
        }
        self.end.get()
    }

    fn begin(&self, n: u64, key: u32) -> (Outgoing, Flight) {
        let request = self.traffic.borrow_mut().request(n, clock::unix_nanos());
        self.begun.set(self.begun.get().max(n + 1));
        let mut sent = self.lock();
        sent.requests += 1;
        sent.spans += request.spans;
        sent.bytes += request.framed.len() as u64;
        let flight = Flight { spans: request.spans, digest: request.digest };
        (Outgoing { key, path: Signal::Traces.grpc_path(), framed: request.framed }, flight)
    }

    fn settle(&self, flight: &Flight, result: Result<u64, String>) {
        let mut sent = self.lock();
        match result {
            Ok(0) => {
                sent.acknowledged += flight.spans;
                sent.digest = sent.digest.wrapping_add(flight.digest);
            }
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
        core.lock().trouble.get_or_insert(why);
    }
}

/// One client from its connection to its last answer.
async fn converse(core: &Core, target: SocketAddr, number: u64) -> Result<(), String> {
    let target = target.to_string();
    let template = Template::new(&target, Codec::None, TIMEOUT, "tracemill-demo", &[])
        .map_err(|e| format!("bad header {}", e.0))?;
    let opened = Connection::open(&target, 0, TIMEOUT, template, None).await;
    let mut connection = opened.map_err(|e| format!("{target}: {e}"))?;
    let mut flights: Vec<(u32, Flight)> = Vec::new();
    let (mut next, mut key) = (number, 0u32);
    let mut alarm = Alarm::default();
    poll_fn(|cx| {
        loop {
            let now = clock::now();
            let end = core.end();
            let over = |next| end.is_some_and(|end| next >= end);
            while flights.len() < CALLS_MAX && !over(next) && core.due(next, now) <= now {
                let (call, flight) = core.begin(next, key);
                connection.start(call);
                flights.push((key, flight));
                next += CONNECTIONS;
                key = key.wrapping_add(1);
            }
            match connection.poll(now, cx) {
                Poll::Ready(Event::Done { key, result }) => {
                    settle(core, &mut flights, key, outcome(result));
                }
                Poll::Ready(Event::Unsent(call)) => {
                    settle(core, &mut flights, call.key, Err("a call was not sent".into()));
                }
                Poll::Ready(Event::Closed(cause)) => {
                    let cause = cause.map_or_else(|| "by the router".into(), |c| c.to_string());
                    return Poll::Ready(Err(format!("a connection was closed: {cause}")));
                }
                Poll::Pending if over(next) && flights.is_empty() => return Poll::Ready(Ok(())),
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

fn settle(core: &Core, flights: &mut Vec<(u32, Flight)>, key: u32, result: Result<u64, String>) {
    if let Some(at) = flights.iter().position(|(k, _)| *k == key) {
        core.settle(&flights.swap_remove(at).1, result);
    }
}

/// Spans that the reply rejects, or why the call failed.
fn outcome(result: Result<bytes::Bytes, Status>) -> Result<u64, String> {
    match result {
        Ok(body) => Ok(reply::rejection(&body).items),
        Err(status) => Err(format!("{}: {}", status.code.name(), status.message)),
    }
}
