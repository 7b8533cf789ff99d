//! An OTLP/gRPC backend that does as it is told, and remembers every span it saw.

use std::collections::{BTreeSet, HashSet};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use h2::server::SendResponse;
use http::{HeaderMap, HeaderValue, Request, Response};
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use prost::Message as _;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tracemill::rpc::Status;

use super::client::{SpanKey, frame};

/// What a backend does with a call.
#[derive(Clone, Debug)]
pub(crate) enum Behaviour {
    /// Takes it.
    Ok,
    /// Takes it, later.
    Delay(Duration),
    /// Does nothing until it behaves otherwise.
    Hold,
    /// The same with the first call it ever got; takes all others.
    HoldFirst,
    /// Says that it did nothing with it (`REFUSED_STREAM`).
    Disown,
    /// The same once, and then takes what comes.
    DisownOnce,
    /// Refuses it, as the status says.
    Refuse(Status),
    /// Refuses calls with a span of this trace, takes all others.
    Poison([u8; 16], Status),
    /// Takes it, and says that so many items of it were rejected.
    Partial(u8),
}

/// One call as a backend saw it.
#[derive(Clone, Debug)]
pub(crate) struct Call {
    pub(crate) path: String,
    pub(crate) encoding: String,
    pub(crate) agent: String,
    pub(crate) tenant: String,
    pub(crate) message: Vec<u8>,
    pub(crate) spans: Vec<SpanKey>,
    pub(crate) fate: Fate,
    /// The answer reached the caller, as far as one can say.
    pub(crate) heard: bool,
    connection: u32,
}

/// What the caller can know of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// Answered OK.
    Taken,
    /// Answered with an error: its data is not here.
    Refused,
    /// Not answered (yet).
    Unknown,
}

/// A backend with an address that nobody else uses, down or up.
#[derive(Clone)]
pub(crate) struct Backend(Arc<Inner>);

struct Inner {
    address: SocketAddr,
    streams_max: Option<u32>,
    behaviour: watch::Sender<Behaviour>,
    leave: watch::Sender<u32>,
    seen: Mutex<Seen>,
    up: Mutex<Option<JoinSet<()>>>,
}

#[derive(Default)]
struct Seen {
    calls: Vec<Call>,
    connections: u32,
    open: HashSet<u32>,
    at_once: usize,
    at_once_most: usize,
}

impl Backend {
    /// A backend that is down.
    pub(crate) async fn new(streams_max: Option<u32>) -> Self {
        // An address of its own: the port cannot be taken by others while the backend is down.
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let [_, _, c, d] = NEXT.fetch_add(1, Relaxed).to_be_bytes();
        let b = std::process::id().to_be_bytes()[3];
        let ip = IpAddr::V4(Ipv4Addr::new(127, b.max(1), c, d.saturating_add(1)));
        let address = TcpListener::bind((ip, 0)).await.unwrap().local_addr().unwrap();
        let (behaviour, leave) = (watch::Sender::new(Behaviour::Ok), watch::Sender::new(0));
        let (seen, up) = (Mutex::default(), Mutex::new(None));
        Self(Arc::new(Inner { address, streams_max, behaviour, leave, seen, up }))
    }

    /// `host:port`.
    pub(crate) fn endpoint(&self) -> String {
        self.0.address.to_string()
    }

    /// Listens.
    pub(crate) async fn start(&self) {
        // What was there before may take a moment to go.
        let listener = super::settle("the port is free", async || {
            TcpListener::bind(self.0.address).await.ok()
        })
        .await;
        let (backend, mut tasks) = (self.clone(), JoinSet::new());
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let number = {
                    let mut seen = backend.seen();
                    seen.connections += 1;
                    let number = seen.connections;
                    seen.open.insert(number);
                    number
                };
                let backend = backend.clone();
                connections.spawn(async move {
                    backend.clone().serve(stream, number).await;
                    backend.seen().open.remove(&number);
                });
            }
        });
        *self.0.up.lock().unwrap() = Some(tasks);
    }

    /// Closes the listener and resets every connection.
    pub(crate) async fn kill(&self) {
        let tasks = self.0.up.lock().unwrap().take();
        if let Some(mut tasks) = tasks {
            tasks.shutdown().await;
        }
        // Let aborted tasks end, so that their sockets are closed.
        tokio::task::yield_now().await;
        let mut seen = self.seen();
        seen.at_once = 0;
        let open = std::mem::take(&mut seen.open);
        // An answer written just before may have been lost.
        for call in seen.calls.iter_mut().filter(|c| open.contains(&c.connection)) {
            call.heard = false;
        }
    }

    pub(crate) fn behave(&self, behaviour: Behaviour) {
        self.0.behaviour.send_replace(behaviour);
    }

    /// GOAWAY on every connection; running calls are still answered.
    pub(crate) fn leave(&self) {
        self.0.leave.send_modify(|n| *n += 1);
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.0.seen.lock().unwrap()
    }

    pub(crate) fn calls(&self) -> Vec<Call> {
        self.seen().calls.clone()
    }

    pub(crate) fn calls_of(&self, fate: Fate) -> usize {
        self.seen().calls.iter().filter(|c| c.fate == fate).count()
    }

    /// Connections since its birth.
    pub(crate) fn connections(&self) -> u32 {
        self.seen().connections
    }

    /// Most calls that were open at once.
    pub(crate) fn at_once_most(&self) -> usize {
        self.seen().at_once_most
    }

    /// Spans that were taken for certain.
    pub(crate) fn taken(&self) -> usize {
        let seen = self.seen();
        seen.calls.iter().filter(|c| c.fate == Fate::Taken).map(|c| c.spans.len()).sum()
    }

    async fn serve(self, stream: TcpStream, number: u32) {
        // When the task is aborted the peer sees a reset, as when a process dies.
        let _ = socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO));
        let mut leave = self.0.leave.subscribe();
        leave.borrow_and_update();
        let mut builder = h2::server::Builder::new();
        builder.initial_window_size(1 << 20).initial_connection_window_size(4 << 20);
        if let Some(max) = self.0.streams_max {
            builder.max_concurrent_streams(max);
        }
        let Ok(mut h2) = builder.handshake::<_, Bytes>(stream).await else { return };
        let mut calls = JoinSet::new();
        loop {
            tokio::select! {
                accepted = h2.accept() => match accepted {
                    Some(Ok((request, respond))) => {
                        calls.spawn(self.clone().answer(request, respond, number));
                    }
                    _ => return,
                },
                Ok(()) = leave.changed() => h2.graceful_shutdown(),
            }
        }
    }

    async fn answer(
        self,
        request: Request<h2::RecvStream>,
        mut respond: SendResponse<Bytes>,
        connection: u32,
    ) {
        let (head, mut body) = request.into_parts();
        let mut bytes = BytesMut::new();
        while let Some(chunk) = body.data().await {
            let Ok(chunk) = chunk else { return };
            let _ = body.flow_control().release_capacity(chunk.len());
            bytes.extend_from_slice(&chunk);
        }
        let header =
            |name| head.headers.get(name).map_or("", |v: &HeaderValue| v.to_str().unwrap());
        let (path, encoding) = (head.uri.path().to_owned(), header("grpc-encoding").to_owned());
        let message = unpack(&encoding, &bytes);
        let spans = if path.contains("TraceService") { keys(&message) } else { Vec::new() };
        let agent = header("user-agent").to_owned();
        let tenant = header("x-tenant").to_owned();
        let fate = Fate::Unknown;
        let call = Call {
            path,
            encoding,
            agent,
            tenant,
            message,
            spans: spans.clone(),
            fate,
            heard: true,
            connection,
        };
        let at = {
            let mut seen = self.seen();
            seen.calls.push(call);
            seen.at_once += 1;
            seen.at_once_most = seen.at_once_most.max(seen.at_once);
            seen.calls.len() - 1
        };
        let verdict = tokio::select! {
            verdict = self.decide(&spans, at) => Some(verdict),
            // The caller has given up.
            _ = std::future::poll_fn(|cx| respond.poll_reset(cx)) => None,
        };
        if let Some(verdict) = verdict {
            let fate = match &verdict {
                Verdict::Taken(_) => Fate::Taken,
                Verdict::Refused(_) | Verdict::Disowned => Fate::Refused,
            };
            // No await from here on: what is written down is what is answered.
            if reply(&mut respond, verdict).is_ok() {
                self.seen().calls[at].fate = fate;
            }
        }
        let mut seen = self.seen();
        seen.at_once = seen.at_once.saturating_sub(1);
    }

    async fn decide(&self, spans: &[SpanKey], at: usize) -> Verdict {
        let mut changes = self.0.behaviour.subscribe();
        loop {
            let behaviour = changes.borrow_and_update().clone();
            match behaviour {
                Behaviour::Ok => return Verdict::Taken(0),
                Behaviour::Partial(items) => return Verdict::Taken(items),
                Behaviour::Refuse(status) => return Verdict::Refused(status),
                Behaviour::Poison(trace, status) => {
                    let poisoned = spans.iter().any(|s| s.trace == trace);
                    return if poisoned { Verdict::Refused(status) } else { Verdict::Taken(0) };
                }
                Behaviour::Delay(time) => {
                    tokio::time::sleep(time).await;
                    return Verdict::Taken(0);
                }
                Behaviour::HoldFirst if at > 0 => return Verdict::Taken(0),
                Behaviour::Hold | Behaviour::HoldFirst => changes.changed().await.unwrap(),
                Behaviour::Disown => return Verdict::Disowned,
                Behaviour::DisownOnce => {
                    self.behave(Behaviour::Ok);
                    return Verdict::Disowned;
                }
            }
        }
    }
}

/// What a backend answers.
enum Verdict {
    /// OK, with so many items rejected.
    Taken(u8),
    Refused(Status),
    /// It did nothing with it.
    Disowned,
}

fn unpack(encoding: &str, framed: &[u8]) -> Vec<u8> {
    let (prefix, message) = framed.split_first_chunk::<5>().expect("a call has a message");
    let len = u32::from_be_bytes([prefix[1], prefix[2], prefix[3], prefix[4]]);
    assert_eq!(len as usize, message.len(), "one whole message");
    match (prefix[0], encoding) {
        (0, _) => message.to_vec(),
        (1, "gzip") => {
            let mut out = Vec::new();
            let mut gzip = flate2::read::GzDecoder::new(message);
            std::io::Read::read_to_end(&mut gzip, &mut out).unwrap();
            out
        }
        other => panic!("{other:?}"),
    }
}

/// What the backends took, each span once.
pub(crate) fn taken(backends: &[&Backend]) -> BTreeSet<SpanKey> {
    let calls = backends.iter().flat_map(|backend| backend.calls());
    let taken = calls.filter(|call| call.fate == Fate::Taken);
    let spans: Vec<SpanKey> = taken.flat_map(|call| call.spans).collect();
    let each: BTreeSet<SpanKey> = spans.iter().copied().collect();
    assert_eq!(spans.len(), each.len(), "no span is taken twice");
    each
}

/// Every span of a request, as an independent decoder sees it.
pub(crate) fn keys(message: &[u8]) -> Vec<SpanKey> {
    let request = ExportTraceServiceRequest::decode(message).expect("backends get valid requests");
    let scopes = request.resource_spans.iter().flat_map(|r| &r.scope_spans);
    let spans = scopes.flat_map(|s| &s.spans);
    let key = |s: &opentelemetry_proto::tonic::trace::v1::Span| SpanKey {
        trace: s.trace_id.as_slice().try_into().unwrap_or_default(),
        span: s.span_id.as_slice().try_into().unwrap_or_default(),
    };
    spans.map(key).collect()
}

fn reply(respond: &mut SendResponse<Bytes>, verdict: Verdict) -> Result<(), h2::Error> {
    let mut response = Response::new(());
    let kind = HeaderValue::from_static("application/grpc");
    response.headers_mut().insert("content-type", kind);
    let rejected = match verdict {
        Verdict::Taken(rejected) => rejected,
        Verdict::Disowned => {
            respond.send_reset(h2::Reason::REFUSED_STREAM);
            return Ok(());
        }
        Verdict::Refused(status) => {
            response.headers_mut().extend(status.trailers());
            return respond.send_response(response, true).map(drop);
        }
    };
    // ExportTraceServiceResponse.partial_success = {rejected_spans, error_message: "no"}
    let message = match rejected {
        0 => vec![],
        n => vec![0x0a, 6, 0x08, n, 0x12, 2, b'n', b'o'],
    };
    let mut send = respond.send_response(response, false)?;
    send.send_data(frame(0, &message), false)?;
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", HeaderValue::from_static("0"));
    send.send_trailers(trailers)
}
