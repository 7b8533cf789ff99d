//! One endpoint of one exporter for one signal on one core: the task that moves what the [`Queue`]
//! says over the connection that the [`Link`] allows.

use std::cell::RefCell;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;

use super::client::{Caller, Client, Packing};
use super::link::Link;
use super::options::Options;
use super::queue::{Queue, Setup};
use super::replies::Replies;
use crate::net::tls::ClientTls;
use crate::otlp::{Signal, reply};
use crate::rpc::grpc_client::Event;
use crate::rpc::lost::Lost;
use crate::rpc::{Code, Status};
use crate::runtime::clock;
use crate::runtime::executor::{self, Bell};
use crate::runtime::gate::Gate;
use crate::runtime::timer::Alarm;
use crate::telemetry::Quiet;
use crate::time::Instant;

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
            leaving: false,
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

    /// Whether there is a connection.
    #[must_use]
    pub fn is_up(&self) -> bool {
        self.0.link.borrow().is_up()
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
    /// The connection takes no more calls and ends with those in flight.
    leaving: bool,
    alarm: Alarm,
    turn: usize,
    /// Why the last attempt to connect failed.
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
            let used = self.shared.queue.borrow().size_used();
            while self.advance(now, cx) {}
            if self.shared.queue.borrow().size_used() < used {
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
        let reconnect = link.deadline().filter(|_| !queue.is_empty());
        let wire = match &self.wire {
            Wire::Up(connection) => connection.deadline(),
            _ => None,
        };
        [queue.deadline(link.is_up() && !self.leaving), reconnect, wire].into_iter().flatten().min()
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
        match &mut self.wire {
            Wire::Down => self.open(now),
            Wire::Opening(opening) => match opening.as_mut().poll(cx) {
                Poll::Ready(Ok(client)) => {
                    self.wire = Wire::Up(client);
                    self.leaving = false;
                    self.shared.link.borrow_mut().connected(now);
                    self.shared.queue.borrow_mut().reachable(now);
                    true
                }
                Poll::Ready(Err(e)) => {
                    self.unreachable(now, &e);
                    false
                }
                Poll::Pending => false,
            },
            Wire::Up(_) => self.converse(now, cx),
        }
    }

    fn open(&mut self, now: Instant) -> bool {
        let mut link = self.shared.link.borrow_mut();
        if !link.may_connect(now) {
            // Fail fast, as gRPC does while a channel backs off.
            let mut queue = self.shared.queue.borrow_mut();
            if queue.keeps_waiting()
                && let Some(why) = &self.unreachable
            {
                queue.unreachable(now, why, &mut self.replies.borrow_mut());
            }
            return false;
        }
        if self.shared.queue.borrow().is_empty() {
            return false;
        }
        link.connecting();
        self.wire = Wire::Opening(Box::pin(self.caller.clone().open(self.turn, CONNECT_TIMEOUT)));
        self.turn += 1;
        true
    }

    fn unreachable(&mut self, now: Instant, e: &Lost) {
        self.wire = Wire::Down;
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

    fn converse(&mut self, now: Instant, cx: &mut Context<'_>) -> bool {
        let Wire::Up(connection) = &mut self.wire else { return false };
        let mut moved = false;
        let mut replies = self.replies.borrow_mut();
        let mut queue = self.shared.queue.borrow_mut();
        // Offering more calls to a connection that sends them back would never end.
        while !self.leaving
            && let Some(departure) = queue.poll(now, &mut replies)
        {
            moved = true;
            match self.packing.pack(departure) {
                Ok(call) => connection.start(call),
                Err((key, status)) => queue.done(now, key, Err(status), &mut replies),
            }
        }
        let mut link = self.shared.link.borrow_mut();
        let mut closed = None;
        while let Poll::Ready(event) = connection.poll(now, cx) {
            moved = true;
            match event {
                Event::Done { key, result } => {
                    if !matches!(&result, Err(s) if s.code == Code::Unavailable) {
                        link.answered();
                    }
                    let result = result.map(|reply| self.shared.rejected(&reply));
                    let failed = result.as_ref().err().filter(|s| s.is_retryable()).cloned();
                    let lost = queue.stats.lost();
                    queue.done(now, key, result, &mut replies);
                    if let Some(status) = failed
                        && queue.stats.lost() == lost
                        && let Some(suppressed) = self.retries.admit(now)
                    {
                        self.shared.target.tell_retry(&status, suppressed);
                    }
                }
                Event::Unsent(call) => {
                    self.leaving = true;
                    queue.unsent(call.key);
                }
                Event::Closed(cause) => {
                    closed = Some(cause);
                    break;
                }
            }
        }
        while let Some(key) = queue.expired(now) {
            connection.cancel(key);
            moved = true;
            let late = Status::new(Code::DeadlineExceeded, "context deadline exceeded");
            queue.done(now, key, Err(late), &mut replies);
            if link.timed_out() && closed.is_none() {
                tracing::warn!(endpoint = %self.shared.target.endpoint,
                    "The connection is replaced: several calls in a row were not answered.");
                for key in queue.flying_keys() {
                    let status = Status::new(Code::Unavailable, "the connection was replaced");
                    queue.done(now, key, Err(status), &mut replies);
                }
                closed = Some(None);
            }
        }
        if closed.is_some() || self.leaving && connection.is_idle() {
            link.lost(now);
            drop((queue, link, replies));
            self.wire = Wire::Down;
            return true;
        }
        moved
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
    /// Items that the endpoint rejected of a call that it answered with OK.
    fn rejected(&self, reply: &Bytes) -> u64 {
        // No protobuf message begins with that byte.
        let rejection = match reply.first() {
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
        rejection.items
    }
}
