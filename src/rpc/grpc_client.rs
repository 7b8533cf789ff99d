//! One gRPC connection on the client's side: our HTTP/2 on a [`Stream`], driven by its owner's
//! task.
//!
//! [`Connection::poll`] reads, advances every call and writes all frames at once. It neither
//! reconnects nor retries: what a failure means is its owner's business.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use tokio::io::AsyncWrite as _;

use super::lost::Lost;
use super::metadata::Metadata;
use super::status::{Code, Status};
use super::way::Way;
use crate::http2;
use crate::http2::client::{Client, Farewell, Options, Room};
use crate::net::{Outbox, Stream};
use crate::runtime::timer::Timeout;
use crate::time::Instant;
use call::Call;
use pinger::{Need, Pinger};
use template::Headers;
pub use template::{BadHeader, Template};

mod call;
mod pinger;
mod template;

/// Replies are a few bytes; this is what a chatty peer may have under way.
const WINDOW_BYTES: u32 = 256 << 10;
/// Header list of a reply. A status has its message in it.
const HEADER_BYTES_MAX: u32 = 64 << 10;

impl http2::Out for Outbox {
    fn len(&self) -> usize {
        self.len()
    }

    fn own(&mut self) -> &mut Vec<u8> {
        self.own()
    }

    fn lend(&mut self, bytes: Bytes) {
        self.lend(bytes);
    }
}

/// A call to send.
#[derive(Debug)]
pub struct Outgoing {
    /// The owner's name for the call.
    pub key: u32,
    /// Method.
    pub path: &'static str,
    /// Prefix and message.
    pub framed: Bytes,
    /// What is kept of the headers of the requests that it was made from.
    pub metadata: Option<Rc<Metadata>>,
}

/// What happened on a connection.
#[derive(Debug)]
pub enum Event {
    /// A call is over.
    Done {
        /// As given.
        key: u32,
        /// The reply message, or why there is none.
        result: Result<Bytes, Status>,
    },
    /// The connection never took the call, so that it may be sent again on another.
    Unsent(Outgoing),
    /// The call was sent, and the peer says that it has not processed it: sending it again makes
    /// no duplicate.
    Unprocessed {
        /// As given.
        key: u32,
        /// The failure that it is, if it is not sent again.
        why: Status,
    },
    /// No more calls; each call in flight has been told.
    Closed(Option<Lost>),
}

/// One connection.
#[derive(Debug)]
pub struct Connection {
    http2: Client<Call>,
    stream: Stream,
    headers: Headers,
    waiting: VecDeque<Outgoing>,
    events: VecDeque<Event>,
    closed: bool,
    keepalive: Option<Pinger>,
}

impl Connection {
    /// Connects to `host:port` or `unix:///path` and greets; of several addresses the `turn`-th
    /// first.
    ///
    /// # Errors
    /// As the network or the peer says.
    pub async fn open(
        way: &Way,
        turn: usize,
        timeout: Duration,
        template: Template,
        keepalive: Option<(Duration, Duration, bool)>,
    ) -> Result<Self, Lost> {
        let late = || io::Error::new(io::ErrorKind::TimedOut, "i/o timeout");
        let stream = Timeout::new(timeout, way.open(turn, timeout))
            .await
            .unwrap_or_else(|| Err(late().into()))?;
        let options = Options { window: WINDOW_BYTES, header_list_bytes_max: HEADER_BYTES_MAX };
        let mut connection = Self {
            http2: Client::new(options),
            stream,
            headers: Headers::new(template),
            waiting: VecDeque::new(),
            events: VecDeque::new(),
            closed: false,
            keepalive: keepalive.map(Pinger::new),
        };
        poll_fn(|cx| Poll::Ready(connection.write(cx))).await?;
        Ok(connection)
    }

    /// Queues a call; it leaves with the next [`Self::poll`], or when the peer allows one more.
    pub fn start(&mut self, call: Outgoing) {
        self.waiting.push_back(call);
    }

    /// Gives a call up: the peer is told to forget it. Its key is never heard of again. False if
    /// there is no such call here.
    pub fn cancel(&mut self, key: u32) -> bool {
        let waits = self.waiting.len();
        self.waiting.retain(|w| w.key != key);
        self.waiting.len() < waits || self.http2.cancel(|call| call.out.key == key).is_some()
    }

    /// Whether no call is under way.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.http2.open() == 0 && self.waiting.is_empty()
    }

    /// Whether it takes no more calls. It finishes those under way, and then it ends.
    #[must_use]
    pub fn is_leaving(&self) -> bool {
        self.http2.is_leaving()
    }

    /// The time between our pings, if the peer has left because it finds that too short.
    #[must_use]
    pub fn annoying_interval(&self) -> Option<Duration> {
        let is_annoyed = self.http2.farewell().is_some_and(Farewell::is_of_too_many_pings);
        self.keepalive.as_ref().filter(|_| is_annoyed).map(Pinger::time)
    }

    /// When [`Self::poll`] must be called although nothing happened (keepalive).
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        self.keepalive.as_ref().and_then(|k| k.deadline(self.is_idle()))
    }

    /// Advances everything; each event once. Pending means that the task is woken for more.
    pub fn poll(&mut self, now: Instant, cx: &mut Context<'_>) -> Poll<Event> {
        if self.events.is_empty() && !self.closed {
            self.advance(now, cx);
        }
        self.events.pop_front().map_or(Poll::Pending, Poll::Ready)
    }

    fn advance(&mut self, now: Instant, cx: &mut Context<'_>) {
        let end = self.read(cx);
        self.hear();
        if let Err(cause) = end {
            return self.close(cause, cx);
        }
        self.start_waiting();
        let idle = self.is_idle();
        if let Some(pinger) = &mut self.keepalive {
            match pinger.need(now, idle, self.http2.is_pinged()) {
                Need::Nothing => {}
                Need::Ping => self.http2.ping(),
                Need::End => {
                    let cause = io::Error::new(io::ErrorKind::TimedOut, "keepalive ping failed");
                    return self.close(Some(cause.into()), cx);
                }
            }
        }
        if let Err(e) = self.write(cx) {
            self.close(Some(e.into()), cx);
        }
    }

    /// Reads what is there. An `Err` is the end of the connection, and its cause.
    fn read(&mut self, cx: &mut Context<'_>) -> Result<(), Option<Lost>> {
        let Self { http2, stream, .. } = self;
        while !http2.is_clogged() {
            let mut broken = None;
            let fed = stream.feed(cx, |bytes| match http2.feed(bytes) {
                Ok(fed) => (fed.bytes, fed.hungry),
                Err(violation) => {
                    broken = Some(violation);
                    (bytes.len(), true)
                }
            });
            if let Some(violation) = broken {
                http2.refuse(violation);
                return Err(Some(violation.into()));
            }
            let farewell = || http2.farewell().filter(|f| f.code != 0).cloned().map(Lost::from);
            match fed {
                Poll::Ready(Ok(true)) => {}
                Poll::Ready(Ok(false)) => return Err(farewell()),
                Poll::Ready(Err(e)) => return Err(Some(e.into())),
                Poll::Pending if http2.is_leaving() && http2.open() == 0 => {
                    let cause = farewell();
                    http2.leave();
                    return Err(cause);
                }
                Poll::Pending => return Ok(()),
            }
        }
        Ok(())
    }

    /// Tells which calls are over.
    fn hear(&mut self) {
        while let Some((call, over)) = self.http2.next_over() {
            if let Some(pinger) = &mut self.keepalive {
                pinger.heard = true;
            }
            self.events.push_back(call.outcome(over));
        }
    }

    fn start_waiting(&mut self) {
        while !self.waiting.is_empty() && !self.http2.is_clogged() {
            match self.http2.room() {
                Room::Now => {}
                Room::Later => return,
                Room::Never => {
                    self.events.extend(self.waiting.drain(..).map(Event::Unsent));
                    return;
                }
            }
            let Some(out) = self.waiting.pop_front() else { return };
            match self.headers.of(&out) {
                Ok((block, own)) => self.http2.start(Call::new(out), block, own),
                Err(status) => {
                    self.events.push_back(Event::Done { key: out.key, result: Err(status) });
                }
            }
        }
    }

    /// Writes what the peer and the kernel take now.
    fn write(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        let was_clogged = self.http2.is_clogged();
        loop {
            let more = self.stream.gather_with(|out, room| self.http2.write(out, room));
            match self.stream.drain(cx) {
                // There was no room for all, and now there is.
                Poll::Ready(Ok(())) if more != Some(false) => {}
                Poll::Ready(Ok(())) => {
                    // So something was left to be read, or to be started.
                    if was_clogged {
                        cx.waker().wake_by_ref();
                    }
                    return Ok(());
                }
                Poll::Ready(Err(e)) => return Err(e),
                Poll::Pending => return Ok(()),
            }
        }
    }

    fn close(&mut self, cause: Option<Lost>, cx: &mut Context<'_>) {
        self.closed = true;
        // What was said last should still reach the peer; if it does not, so be it.
        if !matches!(cause, Some(Lost::Io(_))) {
            let _ = self.write(cx);
            let _ = Pin::new(&mut self.stream).poll_shutdown(cx);
        }
        let text = cause.as_ref().map_or_else(
            || "the peer closed the connection".into(),
            |c| format!("connection error: {c}"),
        );
        for call in self.http2.take_calls() {
            let result = Err(Status::new(Code::Unavailable, text.clone()));
            self.events.push_back(Event::Done { key: call.out.key, result });
        }
        self.events.extend(self.waiting.drain(..).map(Event::Unsent));
        self.events.push_back(Event::Closed(cause));
    }
}
