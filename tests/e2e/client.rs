//! A gRPC client that can also misbehave, and the requests it sends.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use bytes::{BufMut as _, Bytes, BytesMut};
use h2::SendStream;
use h2::client::{ResponseFuture, SendRequest};
use http::{HeaderMap, Request};
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span};
use prost::Message as _;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tracemill::testing::random;

pub(crate) const TRACES: &str = "/opentelemetry.proto.collector.trace.v1.TraceService/Export";
pub(crate) const METRICS: &str = "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export";
pub(crate) const LOGS: &str = "/opentelemetry.proto.collector.logs.v1.LogsService/Export";

/// Names a span among all that this test process ever makes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct SpanKey {
    pub(crate) trace: [u8; 16],
    pub(crate) span: [u8; 8],
}

fn number() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    NEXT.fetch_add(1, Relaxed)
}

/// A trace id that was never used before.
pub(crate) fn new_trace() -> [u8; 16] {
    random::trace_id(7, number())
}

/// One request, and what is in it.
#[derive(Clone)]
pub(crate) struct Export {
    pub(crate) message: Vec<u8>,
    pub(crate) spans: Vec<SpanKey>,
}

impl Export {
    /// Two spans of each of these traces, in two scopes.
    pub(crate) fn of(traces: &[[u8; 16]]) -> Self {
        let mut spans = Vec::new();
        let mut scope = |name: &str| ScopeSpans {
            spans: traces
                .iter()
                .map(|trace| {
                    let span = number().to_be_bytes();
                    spans.push(SpanKey { trace: *trace, span });
                    Span {
                        trace_id: trace.to_vec(),
                        span_id: span.to_vec(),
                        name: name.to_owned(),
                        start_time_unix_nano: 1,
                        end_time_unix_nano: 2,
                        ..Span::default()
                    }
                })
                .collect(),
            ..ScopeSpans::default()
        };
        let scope_spans = vec![scope("GET /"), scope("SELECT")];
        let resource_spans = vec![ResourceSpans { scope_spans, ..ResourceSpans::default() }];
        let message = ExportTraceServiceRequest { resource_spans }.encode_to_vec();
        Self { message, spans }
    }

    /// Two spans of each of so many new traces.
    pub(crate) fn new(traces: usize) -> Self {
        Self::of(&(0..traces).map(|_| new_trace()).collect::<Vec<_>>())
    }
}

/// gRPC's prefix and the message.
pub(crate) fn frame(flag: u8, message: &[u8]) -> Bytes {
    let mut framed = BytesMut::with_capacity(5 + message.len());
    framed.put_u8(flag);
    framed.put_u32(u32::try_from(message.len()).unwrap());
    framed.put_slice(message);
    framed.freeze()
}

/// What a client heard.
#[derive(Clone, Debug, Default)]
pub(crate) struct Answer {
    /// HTTP status; 0 if there was no answer.
    pub(crate) http: u16,
    /// `grpc-status`; `None` if there was none.
    pub(crate) status: Option<u32>,
    pub(crate) message: String,
    pub(crate) headers: HeaderMap,
    /// Without prefix.
    pub(crate) body: Vec<u8>,
}

impl Answer {
    pub(crate) fn is_ok(&self) -> bool {
        self.status == Some(0)
    }

    /// `rejected_spans` and `error_message` of the reply.
    pub(crate) fn rejected(&self) -> (i64, String) {
        use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceResponse as Reply;
        let reply = Reply::decode(&self.body[..]).expect("a reply is a valid message");
        reply.partial_success.map_or((0, String::new()), |p| (p.rejected_spans, p.error_message))
    }
}

/// A request with headers of one's choice.
pub(crate) fn request(path: &str, headers: &[(&str, &str)]) -> Request<()> {
    let mut builder = Request::post(format!("http://router{path}")).header("te", "trailers");
    if !headers.iter().any(|(name, _)| *name == "content-type") {
        builder = builder.header("content-type", "application/grpc");
    }
    for (name, value) in headers {
        builder = builder.header(*name, *value);
    }
    builder.body(()).unwrap()
}

/// One connection to the router.
#[derive(Clone)]
pub(crate) struct Client(SendRequest<Bytes>);

impl Client {
    pub(crate) async fn connect(address: &str) -> Self {
        let stream = TcpStream::connect(address).await.unwrap();
        stream.set_nodelay(true).unwrap();
        Self::over(stream).await
    }

    /// HTTP/2 over any stream.
    pub(crate) async fn over(stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static) -> Self {
        let (send, connection) = h2::client::handshake(stream).await.unwrap();
        tokio::spawn(async move {
            // How it ends is seen by the calls on it.
            let _ = connection.await;
        });
        Self(send)
    }

    /// Sends headers only; the body is the caller's.
    pub(crate) async fn open(
        &self,
        request: Request<()>,
    ) -> Result<(ResponseFuture, SendStream<Bytes>), h2::Error> {
        self.0.clone().ready().await?.send_request(request, false)
    }

    /// A whole call. A lost connection or reset stream is an answer without status.
    pub(crate) async fn call(&self, request: Request<()>, framed: Bytes) -> Answer {
        let mut answer = Answer::default();
        if let Err(e) = self.try_call(request, framed, &mut answer).await {
            answer.status = None;
            answer.message = e.to_string();
        }
        answer
    }

    async fn try_call(
        &self,
        request: Request<()>,
        framed: Bytes,
        answer: &mut Answer,
    ) -> Result<(), h2::Error> {
        let (response, mut send) = self.open(request).await?;
        send.send_data(framed, true)?;
        Self::read(response, answer).await
    }

    /// Calls whose bodies go a piece at a time in turns, each piece of one of these lengths.
    pub(crate) async fn call_mixed(&self, framed: Vec<Bytes>, pieces: &[usize]) -> Vec<Answer> {
        let mut open = Vec::new();
        for framed in framed {
            let (response, send) = self.open(request(TRACES, &[])).await.unwrap();
            open.push((response, send, framed));
        }
        let mut pieces = pieces.iter().cycle();
        while open.iter().any(|(.., framed)| !framed.is_empty()) {
            for (_, send, framed) in open.iter_mut().filter(|(.., framed)| !framed.is_empty()) {
                let piece = framed.split_to(framed.len().min(*pieces.next().unwrap()));
                send.send_data(piece, framed.is_empty()).unwrap();
            }
        }
        let mut answers = Vec::new();
        for (response, ..) in open {
            let mut answer = Answer::default();
            Self::read(response, &mut answer).await.unwrap();
            answers.push(answer);
        }
        answers
    }

    async fn read(response: ResponseFuture, answer: &mut Answer) -> Result<(), h2::Error> {
        let (head, mut body) = response.await?.into_parts();
        answer.http = head.status.as_u16();
        answer.headers = head.headers;
        let mut bytes = Vec::new();
        while let Some(chunk) = body.data().await {
            let chunk = chunk?;
            let _ = body.flow_control().release_capacity(chunk.len());
            bytes.extend_from_slice(&chunk);
        }
        answer.headers.extend(body.trailers().await?.unwrap_or_default());
        let text = |name| answer.headers.get(name).map(|v| v.to_str().unwrap());
        answer.status = text("grpc-status").map(|s| s.parse().unwrap());
        answer.message = text("grpc-message").unwrap_or_default().to_owned();
        answer.body = bytes.get(5..).unwrap_or_default().to_vec();
        Ok(())
    }
}
