//! One gRPC connection on the client's side: h2 on a [`Stream`], driven by its owner's task.
//!
//! [`Connection::poll`] reads, advances every call and writes all frames at once. It neither
//! reconnects nor retries: what a failure means is its owner's business.

use std::collections::VecDeque;
use std::future::{Future, poll_fn};
use std::io;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Buf as _, Bytes, BytesMut};
use h2::client::{self, ResponseFuture, SendRequest};
use h2::{Ping, PingPong, RecvStream, SendStream};
use http::header::{CONTENT_TYPE, TE, USER_AGENT};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, StatusCode, Uri};

use super::auth::ClientAuth;
use super::codec::Codec;
use super::frame::{self, PREFIX_BYTES, Prefix};
use super::grpc_call::not_inflated;
use super::lost::Lost;
use super::metadata::Metadata;
use super::status::{Code, Status};
use super::way::Way;
use crate::net::Stream;
use crate::runtime::timer::Timeout;
use crate::time::Instant;

/// Largest reply (OTLP 1.11: clients limit replies to 4 MiB).
const REPLY_BYTES_MAX: usize = 4 << 20;
/// Replies are a few bytes; this is what a chatty peer may have under way.
const WINDOW_BYTES: u32 = 256 << 10;
/// Bytes of requests that h2 may hold per stream beyond the peer's window.
const SEND_BYTES_MAX: usize = 8 << 20;

const GRPC_TIMEOUT: HeaderName = HeaderName::from_static("grpc-timeout");
const GRPC_ENCODING: HeaderName = HeaderName::from_static("grpc-encoding");
const GRPC_ACCEPT_ENCODING: HeaderName = HeaderName::from_static("grpc-accept-encoding");

/// The same for every call of a connection: its headers.
#[derive(Clone, Debug)]
pub struct Template {
    scheme: &'static str,
    authority: String,
    headers: HeaderMap,
    auth: Option<ClientAuth>,
}

/// A header that HTTP/2 does not allow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BadHeader(pub String);

impl Template {
    /// Headers of calls to `authority` over `scheme` (`http` or `https`), in `codec`.
    ///
    /// # Errors
    /// Names the header that cannot be sent.
    pub fn new(
        (scheme, authority): (&'static str, &str),
        codec: Codec,
        timeout: Duration,
        user_agent: &str,
        extra: &[(String, String)],
    ) -> Result<Self, BadHeader> {
        let mut headers = HeaderMap::with_capacity(8 + extra.len());
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
        headers.insert(TE, HeaderValue::from_static("trailers"));
        let agent =
            HeaderValue::from_str(user_agent).map_err(|_| BadHeader("user-agent".into()))?;
        headers.insert(USER_AGENT, agent);
        if let Some(name) = codec.grpc_name() {
            headers.insert(GRPC_ENCODING, HeaderValue::from_static(name));
        }
        headers.insert(GRPC_ACCEPT_ENCODING, HeaderValue::from_static(super::codec::ACCEPTED));
        if !timeout.is_zero() {
            let text = frame::format_timeout(timeout);
            headers.insert(GRPC_TIMEOUT, HeaderValue::from_str(&text).expect("digits and a unit"));
        }
        for (name, value) in extra {
            let bad = || BadHeader(name.clone());
            // HTTP/2 header names are lower case.
            let name =
                HeaderName::from_bytes(name.to_ascii_lowercase().as_bytes()).map_err(|_| bad())?;
            headers.append(name, HeaderValue::from_str(value).map_err(|_| bad())?);
        }
        Uri::builder()
            .scheme(scheme)
            .authority(authority)
            .path_and_query("/")
            .build()
            .map_err(|_| BadHeader(":authority".into()))?;
        Ok(Self { scheme, authority: authority.to_owned(), headers, auth: None })
    }

    /// The same, with what `auth` adds to each call.
    #[must_use]
    pub fn with_auth(self, auth: Option<ClientAuth>) -> Self {
        Self { auth, ..self }
    }

    fn request(&self, out: &Outgoing) -> Result<Request<()>, Status> {
        let uri = Uri::builder()
            .scheme(self.scheme)
            .authority(self.authority.as_str())
            .path_and_query(out.path)
            .build()
            .expect("the authority was checked when the template was made");
        let mut request = Request::new(());
        *request.method_mut() = Method::POST;
        *request.uri_mut() = uri;
        *request.headers_mut() = self.headers.clone();
        if let Some(auth) = &self.auth {
            auth.append(request.headers_mut(), out.metadata.as_deref())?;
        }
        Ok(request)
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
    /// No more calls; each call in flight has been told.
    Closed(Option<Lost>),
}

/// One connection.
#[derive(Debug)]
pub struct Connection {
    h2: client::Connection<Stream, Bytes>,
    send: SendRequest<Bytes>,
    stream: Stream,
    template: Template,
    waiting: VecDeque<Outgoing>,
    calls: Vec<Call>,
    events: VecDeque<Event>,
    closed: bool,
    keepalive: Option<Pinger>,
}

#[derive(Debug)]
struct Call {
    key: u32,
    phase: Phase,
    // Kept: dropping it early would end the request.
    send: SendStream<Bytes>,
}

#[derive(Debug)]
enum Phase {
    Head(ResponseFuture),
    Body(Box<ReplyBody>),
}

#[derive(Debug)]
struct ReplyBody {
    codec: Codec,
    recv: RecvStream,
    bytes: BytesMut,
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
        Timeout::new(timeout, Self::greet(way, turn, timeout, template, keepalive))
            .await
            .unwrap_or_else(|| Err(late().into()))
    }

    async fn greet(
        way: &Way,
        turn: usize,
        timeout: Duration,
        template: Template,
        keepalive: Option<(Duration, Duration, bool)>,
    ) -> Result<Self, Lost> {
        let stream = way.open(turn, timeout).await?;
        let mut handshake = pin!(
            client::Builder::new()
                .initial_window_size(WINDOW_BYTES)
                .initial_connection_window_size(WINDOW_BYTES)
                .enable_push(false)
                .max_send_buffer_size(SEND_BYTES_MAX)
                .handshake::<_, Bytes>(stream.clone())
        );
        let (send, mut h2) = poll_fn(|cx| {
            let done = handshake.as_mut().poll(cx);
            match stream.drain(cx) {
                Poll::Ready(Err(e)) => Poll::Ready(Err(Lost::Io(e))),
                _ => done.map_err(Lost::from),
            }
        })
        .await?;
        let keepalive = keepalive.and_then(|k| Some(Pinger::new(h2.ping_pong()?, k)));
        Ok(Self {
            h2,
            send,
            stream,
            template,
            waiting: VecDeque::new(),
            calls: Vec::new(),
            events: VecDeque::new(),
            closed: false,
            keepalive,
        })
    }

    /// Queues a call; it leaves with the next [`Self::poll`], or when the peer allows one more.
    pub fn start(&mut self, call: Outgoing) {
        self.waiting.push_back(call);
    }

    /// Gives a call up: the peer is told to forget it. Its key is never heard of again.
    pub fn cancel(&mut self, key: u32) {
        self.waiting.retain(|w| w.key != key);
        if let Some(at) = self.calls.iter().position(|c| c.key == key) {
            self.calls.swap_remove(at).send.send_reset(h2::Reason::CANCEL);
        }
    }

    /// Whether no call is under way.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.calls.is_empty() && self.waiting.is_empty()
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
        self.send_waiting(cx);
        let end = match Pin::new(&mut self.h2).poll(cx) {
            Poll::Ready(end) => Some(end.err().map(Lost::from)),
            Poll::Pending => None,
        };
        self.hear(cx);
        if let Some(cause) = end {
            return self.close(cause);
        }
        if let Some(pinger) = &mut self.keepalive
            && pinger.poll(now, self.calls.is_empty() && self.waiting.is_empty(), cx)
        {
            let cause = io::Error::new(io::ErrorKind::TimedOut, "keepalive ping failed");
            return self.close(Some(cause.into()));
        }
        if let Poll::Ready(Err(e)) = self.stream.drain(cx) {
            self.close(Some(e.into()));
        }
    }

    fn send_waiting(&mut self, cx: &mut Context<'_>) {
        while !self.waiting.is_empty() {
            match self.send.poll_ready(cx) {
                Poll::Ready(Ok(())) => {}
                // The connection is on its way out; `h2` will say why.
                Poll::Ready(Err(_)) => {
                    self.events.extend(self.waiting.drain(..).map(Event::Unsent));
                    return;
                }
                Poll::Pending => return,
            }
            let Some(out) = self.waiting.pop_front() else { return };
            let request = match self.template.request(&out) {
                Ok(request) => request,
                Err(status) => {
                    self.events.push_back(Event::Done { key: out.key, result: Err(status) });
                    continue;
                }
            };
            let started = self.send.send_request(request, false);
            match started.and_then(|(head, mut send)| {
                send.send_data(out.framed.clone(), true)?;
                Ok(Call { key: out.key, phase: Phase::Head(head), send })
            }) {
                Ok(call) => self.calls.push(call),
                Err(_) => self.events.push_back(Event::Unsent(out)),
            }
        }
    }

    /// Looks at every call: there are at most as many as `num_consumers`.
    fn hear(&mut self, cx: &mut Context<'_>) {
        let mut at = 0;
        while at < self.calls.len() {
            match self.calls[at].poll(cx) {
                Poll::Ready(result) => {
                    let key = self.calls.swap_remove(at).key;
                    if let Some(pinger) = &mut self.keepalive {
                        pinger.heard = true;
                    }
                    self.events.push_back(Event::Done { key, result });
                }
                Poll::Pending => at += 1,
            }
        }
    }

    fn close(&mut self, cause: Option<Lost>) {
        self.closed = true;
        let text = cause.as_ref().map_or_else(
            || "the peer closed the connection".into(),
            |c| format!("connection error: {c}"),
        );
        for call in self.calls.drain(..) {
            let result = Err(Status::new(Code::Unavailable, text.clone()));
            self.events.push_back(Event::Done { key: call.key, result });
        }
        self.events.extend(self.waiting.drain(..).map(Event::Unsent));
        self.events.push_back(Event::Closed(cause));
    }
}

impl Call {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<Bytes, Status>> {
        loop {
            match &mut self.phase {
                Phase::Head(head) => {
                    let response = match Pin::new(head).poll(cx) {
                        Poll::Ready(Ok(response)) => response,
                        Poll::Ready(Err(e)) => return Poll::Ready(Err(failed(&e))),
                        Poll::Pending => return Poll::Pending,
                    };
                    match ReplyBody::of(response) {
                        Ok(body) => self.phase = Phase::Body(Box::new(body)),
                        Err(done) => return Poll::Ready(done),
                    }
                }
                Phase::Body(body) => return body.poll(cx),
            }
        }
    }
}

impl ReplyBody {
    /// The body of a reply, or the outcome if the headers are all.
    fn of(response: http::Response<RecvStream>) -> Result<Self, Result<Bytes, Status>> {
        let (head, recv) = response.into_parts();
        match Status::from_trailers(&head.headers) {
            Some(Err(status)) => return Err(Err(status)),
            // Code 0 in the headers can stand before a body (clients 3: seen from servers).
            Some(Ok(())) if recv.is_end_stream() => return Err(Ok(Bytes::new())),
            Some(Ok(())) => {}
            None if head.status != StatusCode::OK => {
                let text =
                    format!("unexpected HTTP status code received from server: {}", head.status);
                return Err(Err(Status::new(Code::of_http(head.status.as_u16()), text)));
            }
            None => {}
        }
        let encoding = head.headers.get(GRPC_ENCODING).map_or(&b""[..], HeaderValue::as_bytes);
        let codec = Codec::of_grpc(encoding).unwrap_or_default();
        Ok(Self { codec, recv, bytes: BytesMut::new() })
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<Bytes, Status>> {
        loop {
            match self.recv.poll_data(cx) {
                Poll::Ready(Some(Ok(chunk))) => {
                    if self.bytes.len() + chunk.len() > REPLY_BYTES_MAX + PREFIX_BYTES {
                        let len = self.bytes.len() + chunk.len();
                        return Poll::Ready(Err(frame::too_large(len, REPLY_BYTES_MAX)));
                    }
                    // Fails only when the stream is gone, which the next poll tells.
                    let _ = self.recv.flow_control().release_capacity(chunk.len());
                    self.bytes.extend_from_slice(&chunk);
                }
                Poll::Ready(Some(Err(e))) => return Poll::Ready(Err(failed(&e))),
                Poll::Ready(None) => break,
                Poll::Pending => return Poll::Pending,
            }
        }
        match self.recv.poll_trailers(cx) {
            Poll::Ready(Ok(trailers)) => Poll::Ready(self.finish(trailers.as_ref())),
            Poll::Ready(Err(e)) => Poll::Ready(Err(failed(&e))),
            Poll::Pending => Poll::Pending,
        }
    }

    fn finish(&mut self, trailers: Option<&HeaderMap>) -> Result<Bytes, Status> {
        let missing =
            || Status::new(Code::Internal, "server closed the stream without sending trailers");
        Status::from_trailers(trailers.ok_or_else(missing)?).ok_or_else(missing)??;
        let mut bytes = std::mem::take(&mut self.bytes).freeze();
        let prefix = bytes.first_chunk::<PREFIX_BYTES>().ok_or_else(|| {
            Status::new(Code::Internal, "cardinality violation: received no response message")
        })?;
        let prefix = Prefix::read(*prefix, REPLY_BYTES_MAX)?;
        bytes.advance(PREFIX_BYTES);
        if bytes.len() != prefix.len {
            return Err(Status::new(Code::Internal, "response is not one whole message"));
        }
        match prefix.compressed {
            false => Ok(bytes),
            true => {
                let reply = self.codec.inflate(&bytes, REPLY_BYTES_MAX);
                reply.map(Bytes::from).map_err(|e| not_inflated(self.codec, e, REPLY_BYTES_MAX))
            }
        }
    }
}

/// A stream or connection error in gRPC's words (otlp 2.2).
fn failed(e: &h2::Error) -> Status {
    let code = match e.reason() {
        Some(reason) if e.is_reset() => Code::of_reset(reason),
        // GOAWAY or a broken connection: the call's fate is unknown.
        _ => Code::Unavailable,
    };
    Status::new(code, e.to_string())
}

/// Client keepalive (`keepalive.time`, `.timeout`, `.permit_without_stream`).
#[derive(Debug)]
struct Pinger {
    ping_pong: PingPong,
    time: Duration,
    timeout: Duration,
    permit_without_stream: bool,
    /// The peer answered something since the last look.
    heard: bool,
    next: Option<Instant>,
    sent: Option<Instant>,
}

impl Pinger {
    fn new(ping_pong: PingPong, (time, timeout, permit): (Duration, Duration, bool)) -> Self {
        Self {
            ping_pong,
            time,
            timeout,
            permit_without_stream: permit,
            heard: false,
            next: None,
            sent: None,
        }
    }

    fn deadline(&self, idle: bool) -> Option<Instant> {
        match self.sent {
            Some(sent) => Some(sent + self.timeout),
            None if idle && !self.permit_without_stream => None,
            None => self.next,
        }
    }

    /// True when the peer did not answer in time.
    fn poll(&mut self, now: Instant, idle: bool, cx: &mut Context<'_>) -> bool {
        if std::mem::take(&mut self.heard) || self.next.is_none() {
            self.next = Some(now + self.time);
        }
        if let Some(sent) = self.sent {
            match self.ping_pong.poll_pong(cx) {
                Poll::Ready(Ok(_)) => {
                    self.sent = None;
                    self.next = Some(now + self.time);
                }
                Poll::Ready(Err(_)) => return true,
                Poll::Pending => return now >= sent + self.timeout,
            }
        }
        let due = self.next.is_some_and(|at| now >= at);
        if due && (!idle || self.permit_without_stream) {
            if self.ping_pong.send_ping(Ping::opaque()).is_err() {
                return true;
            }
            self.sent = Some(now);
            // Woken for the pong, and once more so that the ping leaves now.
            cx.waker().wake_by_ref();
        }
        false
    }
}
