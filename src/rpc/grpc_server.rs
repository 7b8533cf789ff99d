//! One gRPC connection on the server's side: h2 on a [`Stream`], every call a future of the
//! connection's own task.
//!
//! One poll reads all frames that have arrived, then lets the calls run, then writes all their
//! frames at once. So calls never run between two frames of one wake-up (feasibility, trap a) and a
//! wake-up costs one write (trap c). Deliberately not here: what a message means.

use std::cell::Cell;
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use h2::server::{Connection, SendResponse};

use super::grpc_call;
use super::lost::Lost;
use super::options::{GrpcServerOptions, ServerKeepalive};
use super::pulse::Pulse;
use super::service::Service;
use crate::net::Stream;
use crate::runtime::clock;
use crate::runtime::drain::Drain;
use crate::runtime::lease::Purse;
use crate::runtime::timer::Alarm;
use crate::runtime::turn;
use crate::time::Instant;

/// Streams of one connection unless configured. The collector has no limit; SDKs use one to thirty.
const STREAMS_MAX: u32 = 1000;
/// Header list of one request (gRPC suggests 8 KiB; `headers` of users can be long).
const HEADER_BYTES_MAX: u32 = 64 << 10;
/// Frames we are ready to take. Peers that honour it save framing; grpc-go cuts at 16 KiB anyway.
const FRAME_BYTES_MAX: u32 = 64 << 10;
/// Streams that the peer reset before we looked at them (rapid reset).
const RESETS_PENDING_MAX: usize = 20;
/// Streams that we reset for the peer's errors before the connection is closed.
const RESETS_LOCAL_MAX: usize = 256;
/// Bytes of replies that h2 may hold per stream.
const SEND_BYTES_MAX: usize = 64 << 10;
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
    let window = server.window();
    let Some(mut h2) = greet(&stream, &server, window).await? else { return Ok(()) };
    let listener = server.drain.listen();
    let keepalive = &server.options.keepalive;
    let mut life = Life::new(clock::now(), window);
    let mut pulse = Pulse::new(keepalive, clock::now());
    let mut ping_pong = h2.ping_pong();
    let mut alarm = Alarm::default();
    let mut calls = FuturesUnordered::new();
    poll_fn(|cx| {
        if !life.leaving && listener.poll(cx) {
            life.leave(&mut h2, clock::now(), Some(GOAWAY_GRACE));
        }
        // What the last turn has left comes before what is new.
        progress(Pin::new(&mut calls), cx);
        loop {
            match accept(&mut h2, cx, |request, respond| {
                calls.push(grpc_call::answer(Rc::clone(&server), request, respond));
            }) {
                Poll::Ready(end) => {
                    // What was queued last (GOAWAY) should still reach the peer.
                    let _ = stream.drain(cx);
                    return Poll::Ready(end.map_err(Lost::from));
                }
                Poll::Pending => {}
            }
            if !progress(Pin::new(&mut calls), cx) {
                break;
            }
        }
        if let Poll::Ready(Err(e)) = stream.drain(cx) {
            return Poll::Ready(Err(e.into()));
        }
        life.fit_window(&mut h2, server.window());
        let now = clock::now();
        if pulse.poll(now, stream.bytes().0, ping_pong.as_mut(), cx) {
            return Poll::Ready(Ok(()));
        }
        let due = life.deadline(keepalive, now, calls.is_empty());
        if due.is_some_and(|due| due <= now) {
            if life.leaving {
                return Poll::Ready(Ok(()));
            }
            life.leave(&mut h2, now, life.grace(keepalive, now));
            cx.waker().wake_by_ref();
        }
        let next = due.filter(|due| *due > now).into_iter().chain([pulse.deadline()]).min();
        if alarm.arm(now, next, cx) {
            cx.waker().wake_by_ref();
        }
        Poll::Pending
    })
    .await
}

/// The HTTP/2 handshake; `None` if the peer does not speak in time.
async fn greet<S>(
    stream: &Stream,
    server: &Server<S>,
    window: u32,
) -> Result<Option<Connection<Stream, Bytes>>, Lost> {
    let mut handshake = pin!(
        h2::server::Builder::new()
            .initial_window_size(window)
            .initial_connection_window_size(window)
            .max_frame_size(FRAME_BYTES_MAX)
            .max_concurrent_streams(server.options.streams_max.unwrap_or(STREAMS_MAX))
            .max_header_list_size(HEADER_BYTES_MAX)
            .max_concurrent_reset_streams(RESETS_PENDING_MAX)
            .max_pending_accept_reset_streams(RESETS_PENDING_MAX)
            .max_local_error_reset_streams(Some(RESETS_LOCAL_MAX))
            .max_send_buffer_size(SEND_BYTES_MAX)
            .handshake::<_, Bytes>(stream.clone())
    );
    let deadline = clock::now() + HANDSHAKE_TIMEOUT;
    let mut alarm = Alarm::default();
    poll_fn(|cx| {
        let done = handshake.as_mut().poll(cx);
        if let Poll::Ready(Err(e)) = stream.drain(cx) {
            return Poll::Ready(Err(e.into()));
        }
        match done {
            Poll::Ready(done) => Poll::Ready(done.map(Some).map_err(Lost::from)),
            Poll::Pending if alarm.arm(clock::now(), Some(deadline), cx) => Poll::Ready(Ok(None)),
            Poll::Pending => Poll::Pending,
        }
    })
    .await
}

type Request = http::Request<h2::RecvStream>;

/// Reads all frames that are there and starts the calls they hold. Ready when the connection ends.
fn accept(
    h2: &mut Connection<Stream, Bytes>,
    cx: &mut Context<'_>,
    mut start: impl FnMut(Request, SendResponse<Bytes>),
) -> Poll<Result<(), h2::Error>> {
    loop {
        match h2.poll_accept(cx) {
            Poll::Ready(Some(Ok((request, respond)))) => start(request, respond),
            Poll::Ready(Some(Err(e))) => return Poll::Ready(Err(e)),
            Poll::Ready(None) => return Poll::Ready(Ok(())),
            Poll::Pending => return Poll::Pending,
        }
    }
}

/// Lets the calls run while the turn lasts; true if it does and one ended, so that there are frames
/// to write.
fn progress<F: Future<Output = ()>>(
    mut calls: Pin<&mut FuturesUnordered<F>>,
    cx: &mut Context<'_>,
) -> bool {
    let mut ended = false;
    while let Poll::Ready(Some(())) = calls.poll_next_unpin(cx) {
        ended = true;
        if turn::poll_over(cx) {
            return false;
        }
    }
    ended
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

    /// Sends GOAWAY; running calls may end within the grace.
    fn leave(&mut self, h2: &mut Connection<Stream, Bytes>, now: Instant, grace: Option<Duration>) {
        h2.graceful_shutdown();
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
    fn fit_window(&mut self, h2: &mut Connection<Stream, Bytes>, want: u32) {
        if want / 2 >= self.window || want <= self.window / 2 {
            self.window = want;
            h2.set_target_window_size(want);
        }
    }
}
