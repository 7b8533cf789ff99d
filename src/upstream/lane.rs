//! One endpoint of one exporter for one signal on one core: the task that moves what the [`Queue`]
//! says over the connection that the [`Link`] allows. What is said on it stands in `lane/talk.rs`.

use std::cell::RefCell;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;

use super::client::{Caller, Client, Packing};
use super::link::Link;
use super::options::{Options, Protocol};
use super::queue::{Queue, Setup};
use super::replies::Replies;
use crate::net::tls::ClientTls;
use crate::otlp::{self, Signal, reply};
use crate::rpc::lost::Lost;
use crate::rpc::{Code, Status};
use crate::runtime::clock;
use crate::runtime::executor::{self, Bell};
use crate::runtime::gate::Gate;
use crate::runtime::timer::Alarm;
use crate::telemetry::Quiet;
use crate::time::Instant;

mod talk;

/// Longest wait for a connection, a TLS handshake and the HTTP/2 greeting.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// The same complaint about the same endpoint is logged once in this time.
const LOG_INTERVAL: Duration = Duration::from_secs(10);

/// Who a lane sends to, for its task and its log lines.
#[derive(Clone, Debug)]
pub struct Target {
    /// Component id of the exporter.
    pub exporter: String,
    /// `host:port`, or the URL of OTLP/HTTP.
    pub endpoint: String,
    /// What is sent.
    pub signal: Signal,
}

impl Target {
    /// As the collector tells it; but for the interval, which every call has for itself.
    fn tell_retry(&self, status: &Status, suppressed: u64) {
        tracing::info!(
            otelcol.component.id = %self.exporter,
            otelcol.component.kind = "exporter",
            otelcol.signal = self.signal.name(),
            endpoint = %self.endpoint,
            error = %status,
            suppressed,
            "Exporting failed. Will retry the request after interval."
        );
    }
}

/// A handle to the lane. A clone is the same lane.
#[derive(Clone, Debug)]
pub struct Lane(Rc<Shared>);

#[derive(Debug)]
struct Shared {
    target: Target,
    queue: RefCell<Queue>,
    link: RefCell<Link>,
    /// Calls are parted by the headers of their requests.
    is_parted: bool,
    is_grpc: bool,
    bell: Bell,
    closing: std::cell::Cell<bool>,
}

impl Lane {
    /// Starts the lane's task. It ends when the lane is closed and empty.
    ///
    /// # Panics
    /// If the options hold a header that HTTP forbids, or the endpoint is no URL where it should
    /// be; `config` has refused those.
    #[must_use]
    pub fn start(
        target: Target,
        options: &Options,
        tls: Option<ClientTls>,
        setup: Setup,
        replies: Rc<RefCell<Replies>>,
        gate: Gate,
    ) -> Self {
        let seed = setup.seed;
        let caller = Caller::new(&target, options, tls)
            .expect("headers and URLs were checked when the configuration was read");
        let packing = Packing::new(target.signal, options);
        let shared = Rc::new(Shared {
            target,
            queue: RefCell::new(Queue::new(options, setup)),
            link: RefCell::new(Link::new(seed.rotate_left(17))),
            is_parted: !options.wanted().is_empty(),
            is_grpc: options.protocol == Protocol::Grpc,
            bell: Bell::default(),
            closing: std::cell::Cell::new(false),
        });
        let driver = Driver {
            shared: Rc::clone(&shared),
            replies,
            gate,
            caller,
            packing,
            wire: Wire::Down,
            draining: Vec::new(),
            alarm: Alarm::default(),
            turn: 0,
            unreachable: None,
            quiet: Quiet::new(LOG_INTERVAL),
            retries: Quiet::new(LOG_INTERVAL),
        };
        executor::detach(driver.run());
        Self(shared)
    }

    /// The lane's queue. Call [`Self::ring`] after a change.
    #[must_use]
    pub fn queue(&self) -> std::cell::RefMut<'_, Queue> {
        self.0.queue.borrow_mut()
    }

    /// Whether calls are parted by the headers of their requests.
    #[must_use]
    pub fn is_parted(&self) -> bool {
        self.0.is_parted
    }

    /// Who it sends to.
    #[must_use]
    pub fn target(&self) -> &Target {
        &self.0.target
    }

    /// Connections, with those that take no more calls.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.0.link.borrow().connections()
    }

    /// Wakes the lane's task.
    pub fn ring(&self) {
        self.0.bell.ring();
    }

    /// Whether nothing more may be pushed.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.0.closing.get()
    }

    /// Nothing more will be pushed: the task ends when the queue is empty.
    pub fn close(&self) {
        self.0.closing.set(true);
        self.ring();
    }
}

type Opening = Pin<Box<dyn Future<Output = Result<Client, Lost>>>>;

enum Wire {
    Down,
    Opening(Opening),
    Up(Client),
}

struct Driver {
    shared: Rc<Shared>,
    replies: Rc<RefCell<Replies>>,
    gate: Gate,
    caller: Caller,
    packing: Packing,
    wire: Wire,
    /// Connections that the peer has left: they take no more calls and end with those in flight.
    draining: Vec<Client>,
    alarm: Alarm,
    turn: usize,
    /// Why the last attempt to connect failed, if it did.
    unreachable: Option<Status>,
    quiet: Quiet,
    /// The same for calls that failed and are tried again.
    retries: Quiet,
}

impl Driver {
    async fn run(mut self) {
        poll_fn(|cx| self.step(cx)).await;
    }

    /// One wake-up: everything that can be done now.
    fn step(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            self.shared.bell.poll(cx);
            let now = clock::now();
            let before = self.shared.queue.borrow().stats.lost();
            let left = self.shared.queue.borrow().left();
            while self.advance(now, cx) {}
            if self.shared.queue.borrow().left() > left {
                self.gate.open();
            }
            self.tell_losses(now, before);
            if self.shared.closing.get() && self.shared.queue.borrow().is_empty() {
                return Poll::Ready(());
            }
            let due = self.deadline();
            if !self.alarm.arm(now, due, cx) {
                return Poll::Pending;
            }
        }
    }

    fn deadline(&self) -> Option<Instant> {
        let queue = self.shared.queue.borrow();
        let link = self.shared.link.borrow();
        let reconnect = link.deadline().filter(|_| queue.has_to_send());
        let current = if let Wire::Up(client) = &self.wire { Some(client) } else { None };
        let clients = current.into_iter().chain(&self.draining);
        let due = clients.filter_map(Client::deadline);
        due.chain(queue.deadline(link.is_up())).chain(reconnect).min()
    }

    /// One round over connection and queue; true if something moved, so that another may help.
    fn advance(&mut self, now: Instant, cx: &mut Context<'_>) -> bool {
        let moved = self.exchange(now, cx);
        if !moved {
            // Last, so that an answer that has just come counts.
            self.shared.queue.borrow_mut().watch(now, &mut self.replies.borrow_mut());
        }
        moved
    }

    fn exchange(&mut self, now: Instant, cx: &mut Context<'_>) -> bool {
        let moved = match std::mem::replace(&mut self.wire, Wire::Down) {
            Wire::Down => self.open(now),
            Wire::Opening(opening) => self.greet(opening, now, cx),
            Wire::Up(client) => self.converse(client, now, cx),
        };
        let drained = self.drain(now, cx);
        // Last, so that an answer that has just come counts.
        let expired = self.expire(now);
        moved || drained || expired
    }

    fn open(&mut self, now: Instant) -> bool {
        let mut link = self.shared.link.borrow_mut();
        if link.backs_off(now) {
            // Fail fast, as gRPC does while a channel backs off.
            let mut queue = self.shared.queue.borrow_mut();
            if queue.keeps_waiting()
                && let Some(why) = &self.unreachable
            {
                queue.unreachable(now, why, &mut self.replies.borrow_mut());
            }
        }
        if !link.may_connect(now) || !self.shared.queue.borrow().has_to_send() {
            return false;
        }
        link.connecting();
        self.wire = Wire::Opening(Box::pin(self.caller.clone().open(self.turn, CONNECT_TIMEOUT)));
        self.turn += 1;
        true
    }

    fn greet(&mut self, mut opening: Opening, now: Instant, cx: &mut Context<'_>) -> bool {
        match opening.as_mut().poll(cx) {
            Poll::Ready(Ok(client)) => {
                self.wire = Wire::Up(client);
                self.unreachable = None;
                self.shared.link.borrow_mut().connected(now);
                self.shared.queue.borrow_mut().reachable(now);
                true
            }
            Poll::Ready(Err(e)) => {
                self.unreachable(now, &e);
                false
            }
            Poll::Pending => {
                self.wire = Wire::Opening(opening);
                false
            }
        }
    }

    fn unreachable(&mut self, now: Instant, e: &Lost) {
        self.shared.link.borrow_mut().failed(now);
        let text = format!("connection error: desc = \"transport: Error while dialing: {e}\"");
        let status = Status::new(Code::Unavailable, text);
        self.shared.queue.borrow_mut().unreachable(now, &status, &mut self.replies.borrow_mut());
        let status = self.unreachable.insert(status);
        if let Some(suppressed) = self.quiet.admit(now) {
            let Target { exporter, endpoint, signal } = &self.shared.target;
            tracing::warn!(
                otelcol.component.id = %exporter,
                otelcol.component.kind = "exporter",
                otelcol.signal = signal.name(),
                endpoint = %endpoint,
                error = %status.message,
                suppressed,
                "The endpoint cannot be reached."
            );
        }
    }

    /// Losses are counted by reason in the metrics; the log says once in a while that they happen.
    fn tell_losses(&mut self, now: Instant, before: u64) {
        let queue = self.shared.queue.borrow();
        let lost = queue.stats.lost() - before;
        if lost == 0 {
            return;
        }
        if let Some(suppressed) = self.quiet.admit(now) {
            let Target { exporter, endpoint, signal } = &self.shared.target;
            let reason = queue.stats.last_loss.as_ref().map_or("", |s| &**s);
            tracing::error!(
                otelcol.component.id = %exporter,
                otelcol.component.kind = "exporter",
                otelcol.signal = signal.name(),
                endpoint = %endpoint,
                error = reason,
                dropped_items = lost,
                suppressed,
                "Exporting failed. Dropping data."
            );
        }
    }
}

impl Shared {
    /// Items that the endpoint rejected of a call that it answered with OK. In gRPC a reply that
    /// cannot be read is none.
    fn rejected(&self, reply: &Bytes) -> Result<u64, Status> {
        // No protobuf message begins with that byte.
        let rejection = match reply.first() {
            _ if self.is_grpc => reply::read(reply).map_err(unreadable)?,
            Some(b'{') => reply::rejection_of_json(self.target.signal, reply),
            _ => reply::rejection(reply),
        };
        if rejection.items > 0 || !rejection.message.is_empty() {
            tracing::warn!(
                otelcol.component.id = %self.target.exporter,
                endpoint = %self.target.endpoint,
                error = %rejection.message,
                dropped_items = rejection.items,
                "Partial success response"
            );
        }
        Ok(rejection.items)
    }
}

/// As grpc-go says it.
fn unreadable(e: otlp::Error) -> Status {
    Status::new(Code::Internal, format!("grpc: failed to unmarshal the received message: {e}"))
}
