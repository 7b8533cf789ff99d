//! OTLP/HTTP on the client's side: HTTP/1.1 connections to one URL, made as calls ask for them and
//! kept for the next ones, driven by their owner's task.
//!
//! [`Pool::poll`] reads, advances every call and writes once per connection. As with gRPC it
//! neither retries nor waits: what a failure means is its owner's business. A call that was never
//! sent, because its idle connection had just been closed, moves to another one. What an HTTP
//! status means stands in `http_reply`. Redirects are not followed.

use std::collections::VecDeque;
use std::error::Error as _;
use std::fmt;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, SystemTime};

use bytes::{Bytes, BytesMut};
use http::header::{
    CONNECTION, CONTENT_ENCODING, CONTENT_TYPE, HOST, PROXY_AUTHORIZATION, USER_AGENT,
};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, Uri, Version};
use http_body_util::Full;
use hyper::body::{Body as _, Incoming};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;

use super::auth::ClientAuth;
use super::codec::Codec;
use super::grpc_client::{BadHeader, Event, Outgoing};
use super::http_reply;
use super::lost::Lost;
use super::options::Keep;
use super::proxy::Proxy;
use super::status::{Code, Status};
use super::way::Way;
use crate::net::Stream;
use crate::net::tls::ClientTls;
use crate::runtime::clock;
use crate::runtime::timer::Timeout;
use crate::time::Instant;

/// What is read of an answer (otlp 1.4, as the collector's exporter has it).
const REPLY_BYTES_MAX: usize = 64 << 10;
/// Largest head of an answer.
const HEAD_BYTES_MAX: usize = 64 << 10;

/// Where calls go, and the same for all of them: their headers.
#[derive(Clone, Debug)]
pub struct Template {
    way: Way,
    /// What stands in the request's first line.
    target: Uri,
    /// The whole URL, for messages.
    url: String,
    headers: HeaderMap,
    auth: Option<ClientAuth>,
}

/// What all calls to one URL have in common.
#[derive(Clone, Copy, Debug)]
pub struct Common<'a> {
    /// Encoding of the body.
    pub codec: Codec,
    /// `Content-Type`.
    pub content_type: &'static str,
    /// `User-Agent`.
    pub user_agent: &'a str,
    /// The user's headers; they replace those above.
    pub extra: &'a [(String, String)],
    /// Whether connections carry more than one call.
    pub keep_alive: bool,
}

impl Template {
    /// Calls to `url`, perhaps through a proxy: it forwards those of `http`, and makes a tunnel for
    /// those of `https`.
    ///
    /// # Errors
    /// Names the header that cannot be sent, or the URL.
    pub fn new(url: &str, common: Common<'_>, proxy: Option<&Proxy>) -> Result<Self, BadHeader> {
        let bad_url = || BadHeader(url.to_owned());
        let uri: Uri = url.parse().map_err(|_| bad_url())?;
        let authority = uri.authority().filter(|a| !a.as_str().contains('@'));
        let authority = authority.ok_or_else(bad_url)?;
        let host = authority.host();
        let https = uri.scheme_str() == Some("https");
        let usual = if https { 443 } else { 80 };
        let port = authority.port_u16().unwrap_or(usual);
        let value = |text: &str| HeaderValue::from_str(text).map_err(|_| bad_url());
        let mut headers = HeaderMap::with_capacity(6 + common.extra.len());
        let named = authority.as_str();
        headers.insert(HOST, value(named)?);
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(common.content_type));
        headers.insert(USER_AGENT, value(common.user_agent)?);
        if let Some(name) = common.codec.http_name() {
            headers.insert(CONTENT_ENCODING, HeaderValue::from_static(name));
        }
        if !common.keep_alive {
            headers.insert(CONNECTION, HeaderValue::from_static("close"));
        }
        for (name, text) in common.extra {
            let bad = || BadHeader(name.clone());
            let name = HeaderName::from_bytes(name.as_bytes()).map_err(|_| bad())?;
            headers.insert(name, HeaderValue::from_str(text).map_err(|_| bad())?);
        }
        let path = uri.path_and_query().map_or("/", |p| p.as_str());
        let (endpoint, target) = match proxy.filter(|_| !https) {
            None => (format!("{host}:{port}"), path.to_owned()),
            Some(proxy) => {
                if let Some(login) = &proxy.login {
                    headers.insert(PROXY_AUTHORIZATION, login.clone());
                }
                (proxy.address.clone(), format!("http://{named}{path}"))
            }
        };
        let target = target.parse().map_err(|_| bad_url())?;
        let way = Way { endpoint, proxy: proxy.filter(|_| https).cloned(), tls: None };
        Ok(Self { way, target, url: url.to_owned(), headers, auth: None })
    }

    /// The same, with `tls` if the URL asks for it.
    #[must_use]
    pub fn with_tls(mut self, tls: Option<ClientTls>) -> Self {
        self.way.tls = tls.filter(|_| self.url.starts_with("https://"));
        self
    }

    /// The same, with what `auth` sets on each call.
    #[must_use]
    pub fn with_auth(self, auth: Option<ClientAuth>) -> Self {
        Self { auth, ..self }
    }

    fn request(&self, out: &Outgoing) -> Result<Request<Full<Bytes>>, Status> {
        let mut request = Request::new(Full::new(out.framed.clone()));
        *request.method_mut() = Method::POST;
        *request.version_mut() = Version::HTTP_11;
        *request.uri_mut() = self.target.clone();
        *request.headers_mut() = self.headers.clone();
        if let Some(auth) = &self.auth {
            auth.apply(request.headers_mut(), out.metadata.as_deref())?;
        }
        Ok(request)
    }
}

type Http = http1::Connection<TokioIo<Stream>, Full<Bytes>>;
type Head = Pin<Box<dyn Future<Output = hyper::Result<Response<Incoming>>>>>;
type Opening = Pin<Box<dyn Future<Output = Result<Line, Lost>>>>;

/// Connections to one URL.
pub struct Pool {
    template: Template,
    keep: Keep,
    connect_timeout: Duration,
    turn: usize,
    lines: Vec<Line>,
    opening: Vec<Opening>,
    waiting: VecDeque<Outgoing>,
    events: VecDeque<Event>,
    closed: bool,
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pool").field("url", &self.template.url).finish_non_exhaustive()
    }
}

/// One connection.
struct Line {
    stream: Stream,
    http: Http,
    send: http1::SendRequest<Full<Bytes>>,
    call: Option<Call>,
    idle_since: Instant,
    used: bool,
}

struct Call {
    out: Outgoing,
    phase: Phase,
}

enum Phase {
    Head(Head),
    Body { head: Box<http::response::Parts>, body: Incoming, bytes: BytesMut },
}

/// What became of a call.
enum Heard {
    Reply(Result<Bytes, Status>),
    /// It was never sent.
    Unsent,
}

impl Pool {
    /// Makes the first connection; of several addresses the `turn`-th is tried first.
    ///
    /// # Errors
    /// As the network says.
    pub async fn open(
        template: Template,
        keep: Keep,
        turn: usize,
        connect_timeout: Duration,
    ) -> Result<Self, Lost> {
        let first = Line::open(template.way.clone(), turn, connect_timeout).await?;
        Ok(Self {
            template,
            keep,
            connect_timeout,
            turn,
            lines: vec![first],
            opening: Vec::new(),
            waiting: VecDeque::new(),
            events: VecDeque::new(),
            closed: false,
        })
    }

    /// Queues a call; it leaves with the next [`Self::poll`] that finds a connection for it.
    pub fn start(&mut self, call: Outgoing) {
        self.waiting.push_back(call);
    }

    /// Gives a call up, and its connection. Its key is never heard of again. False if there is no
    /// such call here.
    pub fn cancel(&mut self, key: u32) -> bool {
        let before = self.waiting.len() + self.lines.len();
        self.waiting.retain(|w| w.key != key);
        self.lines.retain(|line| line.call.as_ref().is_none_or(|call| call.out.key != key));
        self.waiting.len() + self.lines.len() < before
    }

    /// Whether no call is under way.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.waiting.is_empty() && self.lines.iter().all(|line| line.call.is_none())
    }

    /// When [`Self::poll`] must be called although nothing happened: an idle connection ends.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        if self.keep.idle_timeout.is_zero() {
            return None;
        }
        let idle = self.lines.iter().filter(|line| line.call.is_none());
        idle.map(|line| line.idle_since + self.keep.idle_timeout).min()
    }

    /// Advances everything; each event once. Pending means that the task is woken for more.
    pub fn poll(&mut self, now: Instant, cx: &mut Context<'_>) -> Poll<Event> {
        if self.events.is_empty() && !self.closed {
            self.advance(now, cx);
        }
        self.events.pop_front().map_or(Poll::Pending, Poll::Ready)
    }

    fn advance(&mut self, now: Instant, cx: &mut Context<'_>) {
        self.open_lines(cx);
        loop {
            self.send_waiting();
            let moved = self.poll_lines(now, cx);
            self.retire(now);
            if !moved || self.waiting.is_empty() {
                break;
            }
        }
        // Calls that found no connection ask for one, which is polled once so that it starts.
        if self.ask_for_lines() {
            self.open_lines(cx);
            self.send_waiting();
            self.poll_lines(now, cx);
        }
        if self.lines.is_empty() && self.opening.is_empty() && !self.closed {
            self.close(None);
        }
    }

    /// Hears every connection, and lets go of those that ended; true if a call ended.
    fn poll_lines(&mut self, now: Instant, cx: &mut Context<'_>) -> bool {
        let mut moved = false;
        self.lines.retain_mut(|line| {
            let (heard, alive) = line.poll(now, &self.template.url, cx);
            moved |= heard.is_some();
            match heard {
                Some((out, Heard::Reply(result))) => {
                    self.events.push_back(Event::Done { key: out.key, result });
                }
                Some((out, Heard::Unsent)) => self.waiting.push_front(out),
                None => {}
            }
            alive
        });
        moved
    }

    /// Gives each waiting call a connection that is free.
    fn send_waiting(&mut self) {
        for line in &mut self.lines {
            if self.waiting.is_empty() {
                return;
            }
            if line.call.is_none()
                && line.send.is_ready()
                && let Some(out) = self.waiting.pop_front()
            {
                let request = match self.template.request(&out) {
                    Ok(request) => request,
                    Err(status) => {
                        self.events.push_back(Event::Done { key: out.key, result: Err(status) });
                        continue;
                    }
                };
                let head = Box::pin(line.send.send_request(request));
                line.used = true;
                line.call = Some(Call { out, phase: Phase::Head(head) });
            }
        }
    }

    /// Starts to connect for calls that wait; true if it did.
    fn ask_for_lines(&mut self) -> bool {
        let most = match self.keep.connections_max {
            0 => usize::MAX,
            most => most,
        };
        let before = self.opening.len();
        while self.opening.len() < self.waiting.len()
            && self.lines.len() + self.opening.len() < most
        {
            self.turn += 1;
            let (way, turn) = (self.template.way.clone(), self.turn);
            self.opening.push(Box::pin(Line::open(way, turn, self.connect_timeout)));
        }
        self.opening.len() > before
    }

    fn open_lines(&mut self, cx: &mut Context<'_>) {
        let mut failure = None;
        let lines = &mut self.lines;
        self.opening.retain_mut(|opening| match opening.as_mut().poll(cx) {
            Poll::Pending => true,
            Poll::Ready(Ok(line)) => {
                lines.push(line);
                false
            }
            Poll::Ready(Err(e)) => {
                failure = Some(e);
                false
            }
        });
        // Others may still serve what waits; if there are none, the owner decides when to retry.
        if failure.is_some() && self.lines.is_empty() && self.opening.is_empty() {
            self.close(failure);
        }
    }

    /// Closes connections that are idle for too long, or too many.
    fn retire(&mut self, now: Instant) {
        let Keep { idle_max, idle_timeout, keep_alive, .. } = self.keep;
        let mut idle = 0;
        let waits = !self.waiting.is_empty();
        self.lines.retain(|line| {
            if line.call.is_some() || waits {
                return true;
            }
            idle += 1;
            let old = !idle_timeout.is_zero() && now >= line.idle_since + idle_timeout;
            let used = line.used && !keep_alive;
            !(old || used || idle_max > 0 && idle > idle_max)
        });
    }

    fn close(&mut self, cause: Option<Lost>) {
        self.closed = true;
        self.events.extend(self.waiting.drain(..).map(Event::Unsent));
        self.events.push_back(Event::Closed(cause));
    }
}

impl Line {
    async fn open(way: Way, turn: usize, timeout: Duration) -> Result<Self, Lost> {
        let late = || io::Error::new(io::ErrorKind::TimedOut, "i/o timeout");
        let greet = async {
            let stream = way.open(turn, timeout).await?;
            let (send, http) = http1::Builder::new()
                .max_buf_size(HEAD_BYTES_MAX)
                .handshake(TokioIo::new(stream.clone()))
                .await?;
            Ok(Self { stream, http, send, call: None, idle_since: clock::now(), used: false })
        };
        Timeout::new(timeout, greet).await.unwrap_or_else(|| Err(late().into()))
    }

    /// What was heard, and whether the connection lives.
    fn poll(
        &mut self,
        now: Instant,
        url: &str,
        cx: &mut Context<'_>,
    ) -> (Option<(Outgoing, Heard)>, bool) {
        let mut alive = true;
        loop {
            alive &= Pin::new(&mut self.http).poll(cx).is_pending();
            let Some(call) = &mut self.call else { break };
            let before = call.progress();
            match call.poll(url, cx) {
                Poll::Ready(heard) => {
                    // Its body may not have been read to the end: then hyper closes.
                    alive &= Pin::new(&mut self.http).poll(cx).is_pending();
                    self.idle_since = now;
                    let call = self.call.take().map(|call| (call.out, heard));
                    return (call, alive && self.is_drained(cx));
                }
                Poll::Pending if !alive => {
                    let lost = Status::new(Code::Unavailable, "the peer closed the connection");
                    let call = self.call.take().map(|call| (call.out, Heard::Reply(Err(lost))));
                    return (call, false);
                }
                Poll::Pending if call.progress() != before => {}
                Poll::Pending => break,
            }
        }
        (None, alive && self.is_drained(cx))
    }

    fn is_drained(&self, cx: &mut Context<'_>) -> bool {
        !matches!(self.stream.drain(cx), Poll::Ready(Err(_)))
    }
}

impl Call {
    /// Grows while the answer arrives.
    fn progress(&self) -> usize {
        match &self.phase {
            Phase::Head(_) => 0,
            Phase::Body { bytes, .. } => 1 + bytes.len(),
        }
    }

    fn poll(&mut self, url: &str, cx: &mut Context<'_>) -> Poll<Heard> {
        loop {
            match &mut self.phase {
                Phase::Head(head) => match head.as_mut().poll(cx) {
                    Poll::Ready(Ok(response)) => {
                        let (head, body) = response.into_parts();
                        let head = Box::new(head);
                        self.phase = Phase::Body { head, body, bytes: BytesMut::new() };
                    }
                    Poll::Ready(Err(e)) if e.is_canceled() => return Poll::Ready(Heard::Unsent),
                    Poll::Ready(Err(e)) => return Poll::Ready(Heard::Reply(Err(failed(url, &e)))),
                    Poll::Pending => return Poll::Pending,
                },
                Phase::Body { head, body, bytes } => {
                    let end = match Pin::new(body).poll_frame(cx) {
                        Poll::Pending => return Poll::Pending,
                        Poll::Ready(Some(Ok(frame))) => {
                            let data = frame.data_ref().map_or(&[][..], |data| data);
                            let room = REPLY_BYTES_MAX - bytes.len();
                            bytes.extend_from_slice(&data[..data.len().min(room)]);
                            bytes.len() == REPLY_BYTES_MAX
                        }
                        Poll::Ready(Some(Err(_)) | None) => true,
                    };
                    if end {
                        let bytes = std::mem::take(bytes).freeze();
                        let wall: SystemTime = clock::wall();
                        return Poll::Ready(Heard::Reply(http_reply::read(url, head, bytes, wall)));
                    }
                }
            }
        }
    }
}

/// A call whose fate is unknown. hyper keeps what the network or TLS said as the cause.
fn failed(url: &str, e: &hyper::Error) -> Status {
    let cause = e.source().map(|cause| format!(": {cause}")).unwrap_or_default();
    let text = format!("failed to make an HTTP request: Post \"{url}\": {e}{cause}");
    Status::new(Code::Unavailable, text)
}
