//! One HTTP connection on the server's side: hyper on a [`Stream`]. HTTP/1.1 with one request at a
//! time, or HTTP/2 where TLS has agreed on it (ALPN); in plaintext its preface closes the
//! connection, as in the collector.
//!
//! As with gRPC, one poll reads what has arrived, lets the calls run, then writes once. Time limits
//! are kept here and not by hyper, whose timers must be `Send`. Deliberately not here: what a
//! request and its answer are (`http_call`).

use std::cell::Cell;
use std::convert::Infallible;
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use hyper::rt::Executor;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead as _, AsyncWrite as _, ReadBuf};

use super::grpc_server::Counted;
use super::http_call;
use super::lost::Lost;
use super::options::HttpServerOptions;
use super::service::Service;
use crate::net::Stream;
use crate::net::tls::Protocol;
use crate::runtime::clock;
use crate::runtime::drain::Drain;
use crate::runtime::lease::Purse;
use crate::runtime::timer::Alarm;
use crate::runtime::turn;
use crate::time::Instant;

/// What a client may choose where TLS is spoken (ALPN).
pub const PROTOCOLS: &[Protocol] = &[Protocol::Http2, Protocol::Http1];

/// Read buffer of a connection, and the largest head of a request. hyper's own limit on the number
/// of its headers is 100; setting it would cost an allocation per request.
const HEAD_BYTES_MAX: usize = 64 << 10;
/// Requests of one HTTP/2 connection that may be under way.
const STREAMS_MAX: u32 = 100;
/// The same limit for HTTP/2's heads.
const HEADERS_BYTES_MAX: u32 = 64 << 10;
/// What a client may send before we have taken it.
const WINDOW_BYTES: u32 = 1 << 20;
/// Time for a head to arrive unless set. The collector sets none, so a stalled peer would keep its
/// connection for ever.
pub const HEAD_TIMEOUT: Duration = Duration::from_secs(60);
/// Time between requests unless set. SDKs flush every 5 to 60 s and a closed connection costs the
/// unlucky request a retry, so this is far above.
pub const IDLE_TIMEOUT: Duration = Duration::from_secs(600);
/// A peer that takes nothing of an answer for this time is cut off.
const WRITE_TIMEOUT: Duration = Duration::from_secs(30);
/// A call that still runs this long after the call to finish loses its connection.
const FINISH_GRACE: Duration = Duration::from_secs(10);
/// How long, and for how many bytes, we hear out a peer that still sends after our last answer:
/// closing at once would reset the connection and could take the answer with it.
const LINGER: Duration = Duration::from_millis(500);
const LINGER_BYTES_MAX: usize = 1 << 20;
/// How often a call that takes long looks whether its client is still there. A client that has
/// finished sending may wait for its answer, but not for longer than this: it cannot be told from
/// one that left, whose request may wait for room without end.
const GONE_LOOK: Duration = Duration::from_secs(2);

/// What all connections of one listener share on a core.
#[derive(Debug)]
pub struct HttpServer<S> {
    /// Who answers.
    pub service: S,
    /// Paths and limits.
    pub options: HttpServerOptions,
    /// Memory for bodies that are arriving.
    pub memory: Purse,
    /// Told when to finish.
    pub drain: Drain,
    /// Connections of this core, all listeners together.
    pub connections: Rc<Cell<usize>>,
}

/// Serves one connection to its end. What ends it is the peer's business or our shutdown.
///
/// # Errors
/// As the peer's fault or the network's.
pub async fn serve<S: Service>(stream: Stream, server: Rc<HttpServer<S>>) -> Result<(), Lost> {
    let _counted = Counted::new(&server.connections);
    let calls = Rc::new(Calls::default());
    let service = service_fn(|request| {
        let server = Rc::clone(&server);
        let running = Calls::start(&calls);
        async move {
            let response = http_call::answer(&server, request).await;
            drop(running);
            Ok::<_, Infallible>(response)
        }
    });
    let io = TokioIo::new(stream.clone());
    if stream.protocol() == Some(Protocol::Http2) {
        let http = http2::Builder::new(OnThisCore)
            .max_concurrent_streams(STREAMS_MAX)
            .max_header_list_size(HEADERS_BYTES_MAX)
            .initial_stream_window_size(WINDOW_BYTES)
            .initial_connection_window_size(WINDOW_BYTES)
            .serve_connection(io, service);
        let leave = |http: Pin<&mut _>| http2::Connection::graceful_shutdown(http);
        return drive(pin!(http), leave, stream, &server, &calls).await;
    }
    let http = http1::Builder::new()
        .half_close(true)
        .max_buf_size(HEAD_BYTES_MAX)
        .max_header_size(HEAD_BYTES_MAX)
        .serve_connection(io, service);
    let leave = |http: Pin<&mut _>| http1::Connection::graceful_shutdown(http);
    drive(pin!(http), leave, stream, &server, &calls).await
}

/// Runs what a connection's calls need beside it.
#[derive(Clone, Copy, Debug)]
struct OnThisCore;

impl<F: Future<Output = ()> + 'static> Executor<F> for OnThisCore {
    fn execute(&self, call: F) {
        turn::detach(call);
    }
}

/// Lets `http` live on `stream` until one side ends it, or a time limit does. `leave` asks it to
/// finish what it has begun.
async fn drive<S, H>(
    mut http: Pin<&mut H>,
    leave: impl Fn(Pin<&mut H>),
    stream: Stream,
    server: &HttpServer<S>,
    calls: &Calls,
) -> Result<(), Lost>
where
    H: Future<Output = Result<(), hyper::Error>>,
{
    let listener = server.drain.listen();
    let mut life = Life::new(clock::now());
    let mut alarm = Alarm::default();
    let mut vigil = Vigil::default();
    let end = poll_fn(|cx| {
        if !life.is_leaving() && listener.poll(cx) {
            leave(http.as_mut());
            life.leave(clock::now());
        }
        if let Poll::Ready(end) = http.as_mut().poll(cx) {
            return Poll::Ready(End::Http(end));
        }
        let written = match stream.drain(cx) {
            Poll::Ready(Err(e)) => return Poll::Ready(End::Io(e.into())),
            drained => drained.is_ready(),
        };
        let now = clock::now();
        life.see(now, calls, stream.bytes(), written);
        if vigil.finds_gone(now, life.waits_for == Wait::Call, &stream, cx) {
            return Poll::Ready(End::Gone);
        }
        match alarm.arm(now, life.deadline(&server.options), cx) {
            true => Poll::Ready(End::Late),
            false => Poll::Pending,
        }
    })
    .await;
    match end {
        End::Io(e) => Err(e),
        End::Late | End::Gone => Ok(()),
        End::Http(end) => {
            // Asked to finish, every request that we read has been read whole.
            if !life.is_leaving() {
                part(stream).await;
            }
            end.map_err(Lost::from)
        }
    }
}

/// How a connection ends.
enum End {
    /// One side has finished, or the peer's bytes are not HTTP/1.
    Http(Result<(), hyper::Error>),
    /// The network's doing.
    Io(Lost),
    /// A time limit.
    Late,
    /// The peer left while a call was running.
    Gone,
}

/// Looks for a client that left while its call takes long.
#[derive(Debug, Default)]
struct Vigil {
    next: Option<Instant>,
    alarm: Alarm,
}

impl Vigil {
    fn finds_gone(
        &mut self,
        now: Instant,
        calling: bool,
        stream: &Stream,
        cx: &mut Context<'_>,
    ) -> bool {
        if !calling {
            self.next = None;
            return false;
        }
        let mut next = *self.next.get_or_insert(now + GONE_LOOK);
        while self.alarm.arm(now, Some(next), cx) {
            if stream.has_ended() {
                return true;
            }
            next = now + GONE_LOOK;
            self.next = Some(next);
        }
        false
    }
}

/// Writes what is left, says that nothing more comes, and hears the peer out for a moment.
async fn part(mut stream: Stream) {
    let until = clock::now() + LINGER;
    let mut alarm = Alarm::default();
    let mut left = LINGER_BYTES_MAX;
    let mut closed = false;
    poll_fn(|cx| {
        if !closed {
            match Pin::new(&mut stream).poll_shutdown(cx) {
                Poll::Ready(Ok(())) => closed = true,
                Poll::Ready(Err(_)) => return Poll::Ready(()),
                Poll::Pending => {}
            }
        }
        match discard(&mut stream, &mut left, cx) {
            Poll::Pending if !alarm.arm(clock::now(), Some(until), cx) => {
                // Nothing is left to write; it ends the turn.
                let _ = stream.drain(cx);
                Poll::Pending
            }
            _ => Poll::Ready(()),
        }
    })
    .await;
}

/// Reads up to `left` bytes and forgets them. Ready when they are used up or the peer is done.
fn discard(stream: &mut Stream, left: &mut usize, cx: &mut Context<'_>) -> Poll<()> {
    let mut bytes = [0; 4096];
    while *left > 0 {
        let mut buf = ReadBuf::new(&mut bytes);
        match Pin::new(&mut *stream).poll_read(cx, &mut buf) {
            Poll::Ready(Ok(())) if !buf.filled().is_empty() => {
                *left = left.saturating_sub(buf.filled().len());
            }
            Poll::Ready(_) => break,
            Poll::Pending => return Poll::Pending,
        }
    }
    Poll::Ready(())
}

/// The calls of one connection.
#[derive(Debug, Default)]
struct Calls {
    running: Cell<usize>,
    started: Cell<u64>,
}

impl Calls {
    fn start(calls: &Rc<Self>) -> Running {
        calls.started.set(calls.started.get() + 1);
        calls.running.set(calls.running.get() + 1);
        Running(Rc::clone(calls))
    }
}

struct Running(Rc<Calls>);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.running.set(self.0.running.get() - 1);
    }
}

/// What a connection waits for, and since when.
#[derive(Debug)]
struct Life {
    waits_for: Wait,
    since: Instant,
    /// Calls and bytes in at `since`.
    started: u64,
    bytes_in: u64,
    /// The peer has not taken all that we wrote, and how much it had taken when we last looked.
    stalled: Option<(Instant, u64)>,
    leaving: Option<Instant>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wait {
    /// The rest of a request's head. A new connection owes one at once, as in Go.
    Head,
    /// The first byte of the next request.
    Request,
    /// A call: its body has a limit of its own, its answer the service's.
    Call,
}

impl Life {
    fn new(now: Instant) -> Self {
        Self {
            waits_for: Wait::Head,
            since: now,
            started: 0,
            bytes_in: 0,
            stalled: None,
            leaving: None,
        }
    }

    fn is_leaving(&self) -> bool {
        self.leaving.is_some()
    }

    fn leave(&mut self, now: Instant) {
        self.leaving = Some(now);
    }

    /// Follows what happened in a wake-up.
    fn see(&mut self, now: Instant, calls: &Calls, bytes: (u64, u64), written: bool) {
        let (bytes_in, bytes_out) = bytes;
        let next = if calls.running.get() > 0 {
            Wait::Call
        } else if calls.started.get() != self.started || self.waits_for == Wait::Call {
            Wait::Request
        } else if self.waits_for == Wait::Request && bytes_in != self.bytes_in {
            Wait::Head
        } else {
            self.waits_for
        };
        if next != self.waits_for || calls.started.get() != self.started {
            self.since = now;
            self.bytes_in = bytes_in;
        }
        self.waits_for = next;
        self.started = calls.started.get();
        self.stalled = match self.stalled {
            _ if written => None,
            Some((since, out)) if out == bytes_out => Some((since, out)),
            _ => Some((now, bytes_out)),
        };
    }

    /// When patience ends.
    fn deadline(&self, options: &HttpServerOptions) -> Option<Instant> {
        let or = |set: Duration, own| if set.is_zero() { own } else { set };
        let wait = match self.waits_for {
            Wait::Head => Some(self.since + or(options.read_header_timeout, HEAD_TIMEOUT)),
            Wait::Request => Some(self.since + or(options.idle_timeout, IDLE_TIMEOUT)),
            Wait::Call => None,
        };
        let write = self.stalled.map(|(since, _)| since + WRITE_TIMEOUT);
        let leave = self.leaving.map(|at| match self.waits_for {
            Wait::Call => at + FINISH_GRACE,
            // Nothing was promised to a peer that has no call.
            Wait::Head | Wait::Request if self.stalled.is_none() => at,
            Wait::Head | Wait::Request => at + FINISH_GRACE,
        });
        wait.into_iter().chain(write).chain(leave).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn at(seconds: u64) -> Instant {
        Instant(seconds * 1_000_000_000)
    }

    fn options() -> HttpServerOptions {
        HttpServerOptions {
            read_header_timeout: Duration::from_secs(10),
            idle_timeout: Duration::from_secs(100),
            ..HttpServerOptions::default()
        }
    }

    #[test]
    fn a_connection_is_given_time_for_what_it_waits_for() {
        let calls = Rc::new(Calls::default());
        let mut life = Life::new(at(1));
        life.see(at(2), &calls, (40, 0), true);
        assert_eq!(life.deadline(&options()), Some(at(11)), "the first head");
        let running = Calls::start(&calls);
        life.see(at(3), &calls, (80, 0), true);
        assert_eq!(life.deadline(&options()), None, "a call");
        drop(running);
        life.see(at(4), &calls, (80, 99), true);
        life.see(at(5), &calls, (80, 99), true);
        assert_eq!(life.deadline(&options()), Some(at(104)), "idle");
        drop(Calls::start(&calls));
        life.see(at(6), &calls, (160, 200), true);
        assert_eq!(life.deadline(&options()), Some(at(106)), "idle again after a whole call");
        life.see(at(7), &calls, (170, 200), true);
        life.see(at(8), &calls, (180, 200), true);
        assert_eq!(life.deadline(&options()), Some(at(17)), "a further head");
    }

    #[test]
    fn a_peer_that_takes_nothing_is_cut_off_and_one_that_is_slow_is_not() {
        let calls = Rc::new(Calls::default());
        let mut life = Life::new(at(0));
        let _running = Calls::start(&calls);
        life.see(at(1), &calls, (40, 10), false);
        life.see(at(9), &calls, (40, 20), false);
        life.see(at(12), &calls, (40, 20), false);
        assert_eq!(life.deadline(&options()), Some(at(39)));
        life.see(at(13), &calls, (40, 99), true);
        assert_eq!(life.deadline(&options()), None);
    }

    #[test]
    fn when_asked_to_finish_only_calls_get_time() {
        let calls = Rc::new(Calls::default());
        let mut life = Life::new(at(0));
        let running = Calls::start(&calls);
        life.leave(at(5));
        life.see(at(5), &calls, (40, 0), true);
        assert_eq!(life.deadline(&options()), Some(at(15)));
        drop(running);
        life.see(at(6), &calls, (40, 50), true);
        assert_eq!(life.deadline(&options()), Some(at(5)));
    }
}
