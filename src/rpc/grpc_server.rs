//! One gRPC connection on the server's side: `http2` on a [`Stream`], every call a future
//! of the connection's own task.
//!
//! One poll reads all frames that have arrived, then lets the calls run; all their frames are
//! written at once when the other connections have had their poll, too ([`Stream::drain_later`]).
//! So calls never run between two frames of one wake-up (feasibility, trap a), a wake-up costs one
//! write (trap c), and a peer with several connections is woken once for all. Deliberately not
//! here: what a message means.

use std::cell::Cell;
use std::future::{Future, poll_fn};
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use tokio::io::AsyncWrite as _;

use super::crowd::Crowd;
use super::grpc_call::{self, Answered, Arrived, Desk, Inbound};
use super::lost::Lost;
use super::options::{GrpcServerOptions, ServerKeepalive};
use super::pulse::{Need, Pulse};
use super::running::Running;
use super::service::Service;
use crate::http2::frame::Violation;
use crate::http2::server as http2;
use crate::net::Stream;
use crate::runtime::clock;
use crate::runtime::drain::Drain;
use crate::runtime::lease::Purse;
use crate::runtime::timer::Alarm;
use crate::runtime::turn;
use crate::time::Instant;

/// Streams of one connection unless configured. The collector has no limit; SDKs use one to thirty.
pub const STREAMS_MAX: u32 = 1000;
/// Header list of one request (gRPC suggests 8 KiB; `headers` of users can be long).
const HEADER_BYTES_MAX: u32 = 64 << 10;
/// Frames we are ready to take. Peers that honour it save framing; grpc-go cuts at 16 KiB anyway.
const FRAME_BYTES_MAX: usize = 64 << 10;
/// Streams that the peer opens and resets within one turn (rapid reset).
const RESETS_YOUNG_MAX: u32 = 20;
/// Streams that we reset for the peer's errors before the connection is closed.
const FAULTS_MAX: u32 = 256;
/// Bytes of answers and acknowledgements that wait for a peer to take them.
const SEND_BYTES_MAX: usize = 256 << 10;
/// An idle connection keeps no larger buffer for its answers.
const OUT_BYTES_KEPT: usize = 4 << 10;
/// A connection that has not spoken HTTP/2 by then is closed.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(20);
/// A peer that ignores our GOAWAY loses the connection after this time.
const GOAWAY_GRACE: Duration = Duration::from_secs(10);

/// Smallest and largest connection window (feasibility, trap b: large windows make memory churn).
const WINDOW_BYTES_MIN: u32 = 64 << 10;
const WINDOW_BYTES_MAX: u32 = 2 << 20;

/// What all connections of one listener share on a core.
#[derive(Debug)]
pub struct Server<S> {
    /// Who answers.
    pub service: S,
    /// Limits.
    pub options: GrpcServerOptions,
    /// Memory for messages that are arriving, a limit of its own: a request that has arrived whole
    /// can be counted when it is refused.
    pub memory: Purse,
    /// Bytes that this core may promise its peers in connection windows.
    pub windows_bytes: u64,
    /// Told when to finish.
    pub drain: Drain,
    /// Connections of this core, all listeners together.
    pub connections: Rc<Cell<usize>>,
}

impl<S> Server<S> {
    /// The connection window that fits: what may be promised, over all connections.
    fn window(&self) -> u32 {
        let connections = self.connections.get().max(1) as u64;
        let fair = u32::try_from(self.windows_bytes / connections).unwrap_or(u32::MAX);
        fair.clamp(WINDOW_BYTES_MIN, WINDOW_BYTES_MAX)
    }
}

/// Serves one connection to its end. What ends it is the peer's business or our shutdown.
///
/// # Errors
/// As the peer's fault or the network's.
pub async fn serve<S: Service>(stream: Stream, server: Rc<Server<S>>) -> Result<(), Lost> {
    let _counted = Counted::new(&server.connections);
    let listener = server.drain.listen();
    let mut connection = Connection::new(stream, server);
    let mut calls = FuturesUnordered::new();
    let end = poll_fn(|cx| {
        if listener.poll(cx) {
            connection.leave(clock::now(), Some(GOAWAY_GRACE));
        }
        connection.poll(&mut calls, grpc_call::answer, cx)
    });
    let end = end.await;
    if let Err(Lost::Http2(code, what)) = end {
        connection.http2.refuse(Violation { code, what });
    }
    // What was written last (GOAWAY) should still reach the peer.
    poll_fn(|cx| {
        let _ = connection.send(cx);
        let _ = Pin::new(&mut connection.stream).poll_shutdown(cx);
        Poll::Ready(())
    })
    .await;
    end
}

/// A connection without its calls.
struct Connection<S> {
    http2: http2::Server<Inbound>,
    /// Requests that are whole and whose calls are to be started.
    arrived: Vec<Arrived>,
    /// A request that is not whole has pieces of what was read.
    holds: bool,
    /// When to look for bodies that are late, and at first for the greeting.
    due: Option<Instant>,
    life: Life,
    crowd: Crowd,
    pulse: Pulse,
    alarm: Alarm,
    stream: Stream,
    server: Rc<Server<S>>,
}

impl<S: Service> Connection<S> {
    fn new(stream: Stream, server: Rc<Server<S>>) -> Self {
        let (now, window) = (clock::now(), server.window());
        let streams_max = server.options.streams_max.unwrap_or(STREAMS_MAX);
        Self {
            http2: http2::Server::new(http2::Options {
                window,
                streams_max,
                frame_bytes_max: FRAME_BYTES_MAX,
                header_list_bytes_max: HEADER_BYTES_MAX,
                resets_young_max: RESETS_YOUNG_MAX,
                faults_max: FAULTS_MAX,
            }),
            arrived: Vec::new(),
            holds: false,
            due: Some(now + HANDSHAKE_TIMEOUT),
            life: Life::new(now, window),
            crowd: Crowd::new(now, streams_max),
            pulse: Pulse::new(&server.options.keepalive, now),
            alarm: Alarm::default(),
            stream,
            server,
        }
    }

    /// Reads all frames that have come, lets the calls run, sends. Ready when the connection ends.
    fn poll<F: Future<Output = Answered>>(
        &mut self,
        calls: &mut FuturesUnordered<Running<F>>,
        start: impl Fn(Rc<Server<S>>, Arrived) -> F,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), Lost>> {
        // What the kernel did not take, or the loss of the connection that nobody has heard of yet.
        if self.stream.gathered() > 0 {
            let _ = self.stream.drain(cx)?;
        }
        self.http2.begin_turn();
        // What the last turn has left comes before what is new.
        self.progress(calls, cx);
        loop {
            let read = self.read(cx);
            for arrived in self.arrived.drain(..) {
                let stream = arrived.stream;
                calls.push(Running::new(stream, start(Rc::clone(&self.server), arrived)));
            }
            if self.http2.take_lost() {
                self.give_up(calls);
            }
            if let Poll::Ready(end) = read {
                return Poll::Ready(end);
            }
            if !self.progress(calls, cx) {
                break;
            }
        }
        if self.http2.is_over() {
            return Poll::Ready(Ok(()));
        }
        if self.keep(cx) {
            return Poll::Ready(Ok(()));
        }
        if !self.is_held_back() {
            self.send_later(cx);
        } else if self.send(cx)?.is_ready() {
            // What was not read for the answers' sake can be read now.
            cx.waker().wake_by_ref();
        }
        Poll::Pending
    }

    /// Reads what there is. Ready when the connection ends.
    fn read(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Lost>> {
        while !self.is_held_back() {
            let Self { stream, http2, server, arrived, due, holds, .. } = self;
            let (mut broken, mut is_read) = (None, false);
            let more = ready!(stream.feed(cx, |bytes| {
                let now = clock::now();
                let mut desk = Desk { server, arrived, due, now, source: bytes, holds };
                match http2.feed(bytes, &mut desk) {
                    Ok(fed) => {
                        is_read = fed.hungry || fed.bytes == bytes.len();
                        (fed.bytes, fed.hungry)
                    }
                    Err(violation) => {
                        broken = Some(violation);
                        (bytes.len(), false)
                    }
                }
            }))?;
            if is_read && std::mem::take(holds) {
                grpc_call::let_go(http2, server);
            }
            if let Some(broken) = broken {
                return Poll::Ready(Err(broken.into()));
            }
            if !more {
                return Poll::Ready(Ok(()));
            }
        }
        Poll::Pending
    }

    /// Whether the peer takes its answers too slowly to be read from.
    fn is_held_back(&self) -> bool {
        self.stream.gathered() + self.http2.out.len() >= SEND_BYTES_MAX
    }

    /// Lets the calls run while the turn lasts; true if it does and one ended, so that there is
    /// something to send.
    fn progress<F: Future<Output = Answered>>(
        &mut self,
        calls: &mut FuturesUnordered<Running<F>>,
        cx: &mut Context<'_>,
    ) -> bool {
        let mut ended = false;
        while let Poll::Ready(Some((stream, outcome))) = calls.poll_next_unpin(cx) {
            grpc_call::reply(&mut self.http2, stream, outcome);
            ended = true;
            if turn::poll_over(cx) {
                return false;
            }
        }
        ended
    }

    /// Ends the calls that the peer has given up.
    fn give_up<F>(&mut self, calls: &mut FuturesUnordered<Running<F>>) {
        for call in Pin::new(calls).iter_pin_mut() {
            if self.http2.is_lost(call.stream()) {
                call.give_up();
            }
        }
    }

    /// Gives the kernel what is to be sent.
    fn send(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.gather();
        self.stream.drain(cx)
    }

    /// The same at the end of the core's round.
    fn send_later(&mut self, cx: &Context<'_>) {
        self.gather();
        if self.stream.gathered() > 0 {
            self.stream.drain_later(cx.waker());
        }
    }

    fn gather(&mut self) {
        self.stream.gather(&self.http2.out);
        self.http2.out.clear();
        if self.http2.out.capacity() > OUT_BYTES_KEPT {
            self.http2.out = Vec::new();
        }
    }

    /// What a connection does by itself, in time. True when it is over.
    fn keep(&mut self, cx: &mut Context<'_>) -> bool {
        let (now, keepalive) = (clock::now(), &self.server.options.keepalive);
        if let Some(window) = self.life.fit_window(self.server.window()) {
            self.http2.resize(window);
        }
        let (open, memory) = (self.http2.open(), self.server.memory.process());
        if let Some(streams) = self.crowd.fit(now, open, memory) {
            self.http2.invite(streams);
        }
        match self.pulse.look(now, self.stream.bytes().0) {
            Need::Nothing => {}
            Need::Ping => self.http2.ping(),
            Need::End => return true,
        }
        if self.due.is_some_and(|due| due <= now) {
            if !self.http2.is_settled() {
                return true;
            }
            self.due = grpc_call::refuse_late(&mut self.http2, now);
        }
        let deadline = self.life.deadline(keepalive, now, self.http2.open() == 0);
        if deadline.is_some_and(|at| at <= now) {
            if self.life.leaving {
                return true;
            }
            let grace = self.life.grace(keepalive, now);
            self.leave(now, grace);
            cx.waker().wake_by_ref();
        }
        let later = deadline.filter(|at| *at > now);
        let next = later.into_iter().chain(self.due).chain([self.pulse.deadline()]).min();
        if self.alarm.arm(now, next, cx) {
            cx.waker().wake_by_ref();
        }
        false
    }

    /// Asks the peer to leave; running calls may end within the grace.
    fn leave(&mut self, now: Instant, grace: Option<Duration>) {
        if !self.life.leaving {
            self.life.leave(now, grace);
            self.http2.leave();
        }
    }
}

/// Keeps the count of connections right, however a connection ends.
pub(super) struct Counted(Rc<Cell<usize>>);

impl Counted {
    pub(super) fn new(count: &Rc<Cell<usize>>) -> Self {
        count.set(count.get() + 1);
        Self(Rc::clone(count))
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.set(self.0.get() - 1);
    }
}

/// What a connection does by itself: age, idleness, leaving, fitting its window.
#[derive(Debug)]
struct Life {
    born: Instant,
    idle_since: Option<Instant>,
    window: u32,
    leaving: bool,
    /// When a peer that was told to leave loses the connection; `None` for never.
    gone_by: Option<Instant>,
}

impl Life {
    fn new(now: Instant, window: u32) -> Self {
        Self { born: now, idle_since: Some(now), window, leaving: false, gone_by: None }
    }

    /// Running calls may end within the grace.
    fn leave(&mut self, now: Instant, grace: Option<Duration>) {
        self.leaving = true;
        self.gone_by = grace.map(|grace| now + grace);
    }

    /// Time for running calls when we leave by ourselves. As in grpc-go, one that is not set is
    /// endless, and an idle connection needs none.
    fn grace(&self, k: &ServerKeepalive, now: Instant) -> Option<Duration> {
        match self.age_max(k).is_some_and(|max| now >= self.born + max) {
            true => k.connection_age_grace,
            false => Some(GOAWAY_GRACE),
        }
    }

    /// A tenth more or less for each connection, so that not all of them leave at once.
    fn age_max(&self, k: &ServerKeepalive) -> Option<Duration> {
        let max = k.connection_age_max?;
        let drawn = self.born.0.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40;
        Some(max.mul_f64(drawn as f64 / (1_u64 << 24) as f64 * 0.2 + 0.9))
    }

    /// When [`Self::leave`] is due by age or idleness, or the end of the grace.
    fn deadline(&mut self, k: &ServerKeepalive, now: Instant, idle: bool) -> Option<Instant> {
        if self.leaving {
            return self.gone_by;
        }
        self.idle_since = idle.then(|| self.idle_since.unwrap_or(now));
        let by_idleness =
            k.connection_idle_max.zip(self.idle_since).map(|(max, since)| since + max);
        let by_age = self.age_max(k).map(|max| self.born + max);
        by_idleness.into_iter().chain(by_age).min()
    }

    /// Follows the number of connections, in coarse steps: each change is a frame to the peer.
    fn fit_window(&mut self, want: u32) -> Option<u32> {
        let differs = want / 2 >= self.window || want <= self.window / 2;
        differs.then(|| {
            self.window = want;
            want
        })
    }
}
