//! One unary call on the server's side, from its headers to its trailers. Codes and texts of
//! refusals are grpc-go's (otlp 2.2), so that clients see what they are used to.

use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use h2::RecvStream;
use h2::server::SendResponse;
use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Response, StatusCode};

use super::codec::{self, Codec};
use super::frame::{self, PREFIX_BYTES, Prefix};
use super::grpc_server::Server;
use super::metadata::Metadata;
use super::service::{Call, Service, Transport};
use super::status::{Code, Status};
use super::welcome::welcome;
use crate::runtime::lease::Charge;
use crate::runtime::timer::Timeout;
use crate::runtime::turn;

/// A body that has not arrived by then costs its sender the call.
const BODY_TIMEOUT: Duration = Duration::from_secs(30);
/// Allocated at once for a message that announces more.
const BODY_BYTES_FIRST: usize = 256 << 10;

const GRPC_TIMEOUT: HeaderName = HeaderName::from_static("grpc-timeout");
const GRPC_ENCODING: HeaderName = HeaderName::from_static("grpc-encoding");
const GRPC_ACCEPT_ENCODING: HeaderName = HeaderName::from_static("grpc-accept-encoding");
const GRPC_CONTENT: HeaderValue = HeaderValue::from_static("application/grpc");

/// Answers one call. Failures are the client's answer; a lost connection ends quietly.
pub(super) async fn answer<S: Service>(
    server: Rc<Server<S>>,
    request: http::Request<RecvStream>,
    mut respond: SendResponse<Bytes>,
) {
    // One wake-up may bring hundreds.
    turn::pause().await;
    let (head, mut body) = request.into_parts();
    let outcome = match admit(&server, &head) {
        Ok(admitted) => match welcome(server.options.auth.as_ref(), &head.headers).await {
            Ok(()) => converse(&server, admitted, &mut body).await,
            Err(stranger) => Err(stranger.into()),
        },
        Err(refusal) => Err(refusal),
    };
    // A client that reset the stream or left does not hear the answer; nobody is to blame.
    let _ = match outcome {
        Ok(reply) => send_reply(&mut respond, &reply),
        Err(refusal) => send_refusal(&mut respond, refusal),
    };
}

/// A call whose headers are in order.
struct Admitted {
    method: usize,
    codec: Codec,
    timeout: Option<Duration>,
    metadata: Option<Rc<Metadata>>,
}

/// A failure, and how HTTP/2 tells it where gRPC does not.
struct Refusal {
    http: StatusCode,
    status: Status,
    /// The client named an encoding that we do not have: it learns which we have.
    encodings: bool,
}

impl From<Status> for Refusal {
    fn from(status: Status) -> Self {
        Self { http: StatusCode::OK, status, encodings: false }
    }
}

fn admit<S: Service>(server: &Server<S>, head: &http::request::Parts) -> Result<Admitted, Refusal> {
    let refuse = |http, code, text: String| Refusal {
        http,
        status: Status::new(code, text),
        encodings: false,
    };
    if head.method != Method::POST {
        let text = format!(
            "Received a HEADERS frame with :method {:?} which should be POST",
            head.method.as_str()
        );
        return Err(refuse(StatusCode::METHOD_NOT_ALLOWED, Code::Internal, text));
    }
    let content = head.headers.get(CONTENT_TYPE).map_or(&b""[..], HeaderValue::as_bytes);
    if !is_grpc(content) {
        let text =
            format!("invalid gRPC request content-type {:?}", String::from_utf8_lossy(content));
        return Err(refuse(StatusCode::UNSUPPORTED_MEDIA_TYPE, Code::InvalidArgument, text));
    }
    let timeout = match head.headers.get(GRPC_TIMEOUT) {
        None => None,
        Some(text) => Some(frame::parse_timeout(text.as_bytes()).ok_or_else(|| {
            let text = format!("malformed grpc-timeout: {text:?}");
            refuse(StatusCode::BAD_REQUEST, Code::Internal, text)
        })?),
    };
    let path = head.uri.path();
    let method = server
        .service
        .method(path)
        .ok_or_else(|| Status::new(Code::Unimplemented, unknown(&server.service, path)))?;
    if timeout == Some(Duration::ZERO) {
        return Err(Status::new(Code::DeadlineExceeded, "context deadline exceeded").into());
    }
    let encoding = head.headers.get(GRPC_ENCODING).map_or(&b""[..], HeaderValue::as_bytes);
    let codec = Codec::of_grpc(encoding).ok_or_else(|| {
        let text = format!(
            "grpc: Decompressor is not installed for grpc-encoding {:?}",
            String::from_utf8_lossy(encoding)
        );
        Refusal { encodings: true, ..refuse(StatusCode::OK, Code::Unimplemented, text) }
    })?;
    let metadata = Metadata::of(&head.headers, &server.options.metadata);
    Ok(Admitted { method, codec, timeout, metadata })
}

/// `application/grpc`, `application/grpc+proto`, `application/grpc;charset=…`.
fn is_grpc(content: &[u8]) -> bool {
    const TYPE: &[u8] = b"application/grpc";
    match content.split_at_checked(TYPE.len()) {
        Some((start, rest)) if start.eq_ignore_ascii_case(TYPE) => {
            matches!(rest.first(), None | Some(b'+' | b';'))
        }
        _ => false,
    }
}

fn unknown(service: &impl Service, path: &str) -> String {
    match path.strip_prefix('/').and_then(|p| p.rsplit_once('/')) {
        Some((name, method)) if service.has_service(name) => {
            format!("unknown method {method} for service {name}")
        }
        Some((name, _)) => format!("unknown service {name}"),
        None => format!("malformed method name: {path:?}"),
    }
}

async fn converse<S: Service>(
    server: &Server<S>,
    admitted: Admitted,
    body: &mut RecvStream,
) -> Result<Bytes, Refusal> {
    let wait = admitted.timeout.map_or(BODY_TIMEOUT, |t| t.min(BODY_TIMEOUT));
    let reading = Timeout::new(wait, read(server, body, admitted.codec));
    let (message, charge) = reading.await.unwrap_or_else(|| {
        Err(Status::new(Code::DeadlineExceeded, "the request's body did not arrive in time"))
    })?;
    let Admitted { method, timeout, metadata, .. } = admitted;
    let call = Call { method, message, charge, timeout, metadata, transport: Transport::Grpc };
    Ok(server.service.call(call).await?)
}

/// The one message of a unary call, inflated, and what it is charged with.
async fn read<S>(
    server: &Server<S>,
    body: &mut RecvStream,
    codec: Codec,
) -> Result<(Bytes, Option<Charge>), Status> {
    let bytes_max = server.options.recv_bytes_max;
    let mut arriving = Arriving::new(bytes_max);
    while let Some(chunk) = body.data().await {
        let chunk = chunk.map_err(|e| Status::new(Code::Cancelled, e.to_string()))?;
        let len = chunk.len();
        arriving.push(chunk)?;
        if !arriving.is_charged(server) {
            return Err(busy());
        }
        body.flow_control()
            .release_capacity(len)
            .map_err(|e| Status::new(Code::Internal, e.to_string()))?;
    }
    let (prefix, message) = arriving.finish()?;
    let message = match (prefix.compressed, codec) {
        (false, _) => message,
        (true, Codec::None) => {
            let text = "grpc: compressed flag set with identity or empty encoding";
            return Err(Status::new(Code::Internal, text));
        }
        (true, codec) => {
            let content = codec.inflate_in_turns(&message, bytes_max).await;
            content.map(Bytes::from).map_err(|e| not_inflated(codec, e, bytes_max))?
        }
    };
    Ok((message, arriving.charge.take()))
}

/// Refused for lack of memory, with the hint to come back.
pub(super) fn busy() -> Status {
    Status::unavailable("data refused due to high memory usage", Duration::from_secs(1))
}

/// What grpc-go says of such a message.
pub(super) fn not_inflated(codec: Codec, e: codec::Error, bytes_max: usize) -> Status {
    match e {
        codec::Error::TooLarge => {
            let text =
                format!("grpc: received message after decompression larger than max {bytes_max}");
            Status::new(Code::ResourceExhausted, text)
        }
        codec::Error::Corrupt => {
            let name = codec.grpc_name().unwrap_or_default();
            let text = format!("grpc: failed to decompress the received message: {e}, {name}");
            Status::new(Code::Internal, text)
        }
    }
}

/// A message on its way in. One that comes in a single frame is never copied.
struct Arriving {
    prefix: [u8; PREFIX_BYTES],
    prefix_len: usize,
    head: Option<Prefix>,
    first: Bytes,
    rest: Vec<u8>,
    bytes_max: usize,
    charge: Option<Charge>,
}

impl Arriving {
    fn new(bytes_max: usize) -> Self {
        Self {
            prefix: [0; PREFIX_BYTES],
            prefix_len: 0,
            head: None,
            first: Bytes::new(),
            rest: Vec::new(),
            bytes_max,
            charge: None,
        }
    }

    fn len(&self) -> usize {
        self.first.len() + self.rest.len()
    }

    fn push(&mut self, mut chunk: Bytes) -> Result<(), Status> {
        if self.head.is_none() {
            let n = chunk.len().min(PREFIX_BYTES - self.prefix_len);
            self.prefix[self.prefix_len..self.prefix_len + n].copy_from_slice(&chunk.split_to(n));
            self.prefix_len += n;
            if self.prefix_len < PREFIX_BYTES {
                return Ok(());
            }
            self.head = Some(Prefix::read(self.prefix, self.bytes_max)?);
        }
        let Some(head) = self.head else { return Ok(()) };
        if self.len() + chunk.len() > head.len {
            // grpc-go: a unary method takes one message.
            let text =
                "cardinality violation: received multiple request messages for a unary method";
            return Err(Status::new(Code::Internal, text));
        }
        if chunk.is_empty() {
            return Ok(());
        }
        if self.len() == 0 {
            self.first = chunk;
        } else {
            if self.rest.is_empty() {
                self.rest.reserve(head.len.min(BODY_BYTES_FIRST));
                self.rest.extend_from_slice(&std::mem::take(&mut self.first));
            }
            self.rest.extend_from_slice(&chunk);
        }
        Ok(())
    }

    /// Charges what has arrived of a large message. Small ones are bounded by the window.
    fn is_charged<S>(&mut self, server: &Server<S>) -> bool {
        let len = self.rest.len() as u64;
        if len == 0 {
            return true;
        }
        match &mut self.charge {
            Some(charge) => charge.grow_to(len),
            none => {
                *none = server.memory.take(len);
                none.is_some()
            }
        }
    }

    fn finish(&mut self) -> Result<(Prefix, Bytes), Status> {
        let Some(head) = self.head else {
            let text = match self.prefix_len {
                0 => {
                    "cardinality violation: received no request message from non-client-streaming RPC"
                }
                _ => "unexpected EOF",
            };
            return Err(Status::new(Code::Internal, text));
        };
        if self.len() < head.len {
            return Err(Status::new(Code::Internal, "unexpected EOF"));
        }
        let message = match self.rest.is_empty() {
            true => std::mem::take(&mut self.first),
            false => std::mem::take(&mut self.rest).into(),
        };
        Ok((head, message))
    }
}

fn send_reply(respond: &mut SendResponse<Bytes>, reply: &Bytes) -> Result<(), h2::Error> {
    let mut framed = Vec::with_capacity(PREFIX_BYTES + reply.len());
    framed.extend_from_slice(&Prefix { compressed: false, len: reply.len() }.bytes());
    framed.extend_from_slice(reply);
    let mut send = respond.send_response(response(StatusCode::OK), false)?;
    send.send_data(framed.into(), false)?;
    let mut trailers = HeaderMap::with_capacity(1);
    trailers.insert(super::status::GRPC_STATUS, HeaderValue::from_static("0"));
    send.send_trailers(trailers)
}

/// A trailers-only answer.
fn send_refusal(respond: &mut SendResponse<Bytes>, refusal: Refusal) -> Result<(), h2::Error> {
    let mut response = response(refusal.http);
    response.headers_mut().extend(refusal.status.trailers());
    if refusal.encodings {
        let accepted = HeaderValue::from_static(codec::ACCEPTED);
        response.headers_mut().insert(GRPC_ACCEPT_ENCODING, accepted);
    }
    respond.send_response(response, true).map(drop)
}

fn response(status: StatusCode) -> Response<()> {
    let mut response = Response::new(());
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, GRPC_CONTENT);
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arrive(chunks: &[&'static [u8]]) -> Result<Bytes, Status> {
        let mut arriving = Arriving::new(8);
        for chunk in chunks {
            arriving.push(Bytes::from_static(chunk))?;
        }
        arriving.finish().map(|(_, message)| message)
    }

    #[test]
    fn a_message_arrives_in_any_pieces() {
        for chunks in [
            &[&b"\0\0\0\0\x04abcd"[..]][..],
            &[b"\0\0", b"\0\0\x04", b"ab", b"", b"cd"],
            &[b"\0\0\0\0\x04a", b"b", b"c", b"d"],
        ] {
            assert_eq!(arrive(chunks).as_deref(), Ok(&b"abcd"[..]), "{chunks:?}");
        }
        assert_eq!(arrive(&[b"\0\0\0\0\0"]).as_deref(), Ok(&b""[..]));
    }

    #[test]
    fn a_call_without_exactly_one_message_is_internal() {
        for (chunks, text) in [
            (&[][..], "no request message"),
            (&[&b"\0\0"[..]][..], "unexpected EOF"),
            (&[b"\0\0\0\0\x04abc"], "unexpected EOF"),
            (&[b"\0\0\0\0\x02abc"], "multiple request messages"),
        ] {
            let status = arrive(chunks).expect_err("not one message");
            assert_eq!(status.code, Code::Internal);
            assert!(status.message.contains(text), "{status}");
        }
    }

    #[test]
    fn content_types_of_grpc_are_told_from_others() {
        for (content, want) in [
            ("application/grpc", true),
            ("application/grpc+proto", true),
            ("Application/GRPC; charset=utf-8", true),
            ("application/grpc-web", false),
            ("application/json", false),
            ("", false),
        ] {
            assert_eq!(is_grpc(content.as_bytes()), want, "{content:?}");
        }
    }
}
