//! One unary call on the server's side, from its headers to its trailers. Codes and texts of
//! refusals are grpc-go's (otlp 2.2), so that clients see what they are used to.

use std::rc::Rc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};

use super::codec::{self, Codec};
use super::frame::{self, PREFIX_BYTES, Prefix};
use super::grpc_server::Server;
use super::message::Message;
use super::metadata::Metadata;
use super::service::{Call, Service, Transport};
use super::status::{Code, Status};
use super::welcome::welcome;
use crate::http2::head::Head;
use crate::http2::server::{Answer, Calls};
use crate::http2::{self, hpack};
use crate::net::buffer::Buffer;
use crate::runtime::lease::Charge;
use crate::runtime::turn;
use crate::time::Instant;

mod arriving;

use arriving::Arriving;

/// A body that has not arrived by then costs its sender the call.
const BODY_TIMEOUT: Duration = Duration::from_secs(30);

/// A request that is not answered yet, as its stream keeps it.
#[derive(Debug)]
pub(super) enum Inbound {
    /// Its body is still to come.
    Arriving(Arriving),
    /// Its call runs.
    Running,
}

/// A request that is whole.
pub(super) struct Arrived {
    pub(super) stream: u32,
    admitted: Admitted,
    prefix: Prefix,
    message: Message,
    charge: Option<Charge>,
}

/// What became of a call: its stream, and the message or why there is none.
pub(super) type Answered = (u32, Result<Bytes, Refusal>);

/// Where requests arrive.
pub(super) struct Desk<'a, S> {
    pub(super) server: &'a Server<S>,
    /// Those that are whole.
    pub(super) arrived: &'a mut Vec<Arrived>,
    /// The earliest time at which a body is late.
    pub(super) due: &'a mut Option<Instant>,
    pub(super) now: Instant,
    /// What is being read.
    pub(super) source: &'a Bytes,
    /// A request that is not whole has pieces of it.
    pub(super) holds: &'a mut bool,
}

impl<S: Service> Calls for Desk<'_, S> {
    type Call = Inbound;

    fn open(&mut self, head: &Head) -> Result<Inbound, Vec<u8>> {
        let admitted = admit(self.server, head);
        let timeout = admitted.as_ref().ok().and_then(|admitted| admitted.timeout);
        let due = self.now + timeout.map_or(BODY_TIMEOUT, |t| t.min(BODY_TIMEOUT));
        *self.due = Some(self.due.map_or(due, |earliest| earliest.min(due)));
        let admitted = admitted.map_err(|refusal| refusal.block())?;
        let arriving = Arriving::new(admitted, due, self.server.options.recv_bytes_max);
        Ok(Inbound::Arriving(arriving))
    }

    fn data(&mut self, call: &mut Inbound, bytes: &[u8]) -> Result<(), Vec<u8>> {
        let Inbound::Arriving(arriving) = call else { return Ok(()) };
        let pushed = arriving.push(bytes, || Buffer::may_be_kept().then(|| self.source.clone()));
        let charged = pushed.and_then(|()| arriving.charge(&self.server.memory));
        *self.holds |= arriving.holds_pieces();
        charged.map_err(|status| Refusal::from(status).block())
    }

    fn end(&mut self, stream: u32, call: &mut Inbound) -> Result<(), Vec<u8>> {
        let Inbound::Arriving(arriving) = std::mem::replace(call, Inbound::Running) else {
            return Ok(());
        };
        let arrived = arriving.finish(stream).map_err(|status| Refusal::from(status).block())?;
        self.arrived.push(arrived);
        Ok(())
    }
}

/// Puts together what has come of the requests that are not whole, so that they hold nothing of
/// what was read; refuses those for which there is no memory.
pub(super) fn let_go<S>(http2: &mut http2::server::Server<Inbound>, server: &Server<S>) {
    http2.judge(|call| {
        let Inbound::Arriving(arriving) = call else { return None };
        arriving.let_go();
        arriving.charge(&server.memory).err().map(|status| Refusal::from(status).block())
    });
}

/// Refuses the requests whose bodies are late, and does not wait for the rest of those that were
/// refused; when to look again.
pub(super) fn refuse_late(
    http2: &mut http2::server::Server<Inbound>,
    now: Instant,
) -> Option<Instant> {
    let mut next: Option<Instant> = None;
    http2.refuse_some(|call| {
        let Inbound::Arriving(arriving) = call else { return None };
        if arriving.due > now {
            next = Some(next.map_or(arriving.due, |at| at.min(arriving.due)));
            return None;
        }
        let text = "the request's body did not arrive in time";
        Some(Refusal::from(Status::new(Code::DeadlineExceeded, text)).block())
    });
    next
}

/// Answers one call. Failures are the client's answer.
pub(super) async fn answer<S: Service>(server: Rc<Server<S>>, arrived: Arrived) -> Answered {
    // One wake-up may bring hundreds.
    turn::pause().await;
    (arrived.stream, converse(&server, arrived).await)
}

/// A call whose headers are in order.
#[derive(Debug)]
struct Admitted {
    method: usize,
    codec: Codec,
    timeout: Option<Duration>,
    metadata: Option<Rc<Metadata>>,
    /// All headers, where somebody has to be convinced by them.
    headers: Option<Box<HeaderMap>>,
}

/// A failure, and how HTTP/2 tells it where gRPC does not.
#[derive(Debug)]
pub(super) struct Refusal {
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

fn admit<S: Service>(server: &Server<S>, head: &Head) -> Result<Admitted, Refusal> {
    let refuse = |http, code, text: String| Refusal {
        http,
        status: Status::new(code, text),
        encodings: false,
    };
    if head.is_too_large() {
        let text = "the headers are larger than SETTINGS_MAX_HEADER_LIST_SIZE".to_owned();
        let http = StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE;
        return Err(refuse(http, Code::Internal, text));
    }
    if head.method() != b"POST" {
        let text = format!(
            "Received a HEADERS frame with :method {:?} which should be POST",
            String::from_utf8_lossy(head.method())
        );
        return Err(refuse(StatusCode::METHOD_NOT_ALLOWED, Code::Internal, text));
    }
    let content = head.get("content-type").unwrap_or_default();
    if !is_grpc(content) {
        let text =
            format!("invalid gRPC request content-type {:?}", String::from_utf8_lossy(content));
        return Err(refuse(StatusCode::UNSUPPORTED_MEDIA_TYPE, Code::InvalidArgument, text));
    }
    let timeout = match head.get("grpc-timeout") {
        None => None,
        Some(text) => Some(frame::parse_timeout(text).ok_or_else(|| {
            let text = format!("malformed grpc-timeout: {:?}", String::from_utf8_lossy(text));
            refuse(StatusCode::BAD_REQUEST, Code::Internal, text)
        })?),
    };
    if let Some(text) = misfit(head) {
        return Err(refuse(StatusCode::BAD_REQUEST, Code::Internal, text));
    }
    let path = std::str::from_utf8(head.path()).unwrap_or_default();
    let method = server
        .service
        .method(path)
        .ok_or_else(|| Status::new(Code::Unimplemented, unknown(&server.service, path)))?;
    if timeout == Some(Duration::ZERO) {
        return Err(Status::new(Code::DeadlineExceeded, "context deadline exceeded").into());
    }
    let encoding = head.get("grpc-encoding").unwrap_or_default();
    let codec = Codec::of_grpc(encoding).ok_or_else(|| {
        let text = format!(
            "grpc: Decompressor is not installed for grpc-encoding {:?}",
            String::from_utf8_lossy(encoding)
        );
        Refusal { encodings: true, ..refuse(StatusCode::OK, Code::Unimplemented, text) }
    })?;
    let wanted = &server.options.metadata;
    let headers = (server.options.auth.is_some() || !wanted.is_empty()).then(|| map_of(head));
    let metadata = headers.as_ref().and_then(|headers| Metadata::of(headers, wanted));
    Ok(Admitted { method, codec, timeout, metadata, headers: headers.map(Box::new) })
}

/// What gRPC asks of headers beyond HTTP/2, and these do not have.
fn misfit(head: &Head) -> Option<String> {
    if !head.has_authority() {
        return Some("no host or :authority header present".to_owned());
    }
    let mut binary = head.fields().filter(|(name, _)| name.ends_with(b"-bin"));
    let (name, value) = binary.find(|(_, value)| !is_base64(value))?;
    let [name, value] = [name, value].map(String::from_utf8_lossy);
    Some(format!("malformed binary metadata {value:?} in header {name:?}: illegal base64 data"))
}

/// With padding or without, as grpc-go reads it.
fn is_base64(value: &[u8]) -> bool {
    match value.len() % 4 {
        0 => STANDARD.decode(value).is_ok(),
        _ => STANDARD_NO_PAD.decode(value).is_ok(),
    }
}

/// The headers by name. What the `http` crate does not take as a header cannot be asked for.
fn map_of(head: &Head) -> HeaderMap {
    let pairs = head.fields().filter_map(|(name, value)| {
        Some((HeaderName::from_bytes(name).ok()?, HeaderValue::from_bytes(value).ok()?))
    });
    let mut map = HeaderMap::new();
    for (name, value) in pairs {
        map.append(name, value);
    }
    map
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

async fn converse<S: Service>(server: &Server<S>, arrived: Arrived) -> Result<Bytes, Refusal> {
    let Arrived { admitted, prefix, mut message, charge, .. } = arrived;
    let Admitted { method, codec, timeout, metadata, headers } = admitted;
    if let Some(headers) = headers {
        welcome(server.options.auth.as_ref(), &headers).await?;
    }
    let bytes_max = server.options.recv_bytes_max;
    let message: Message = match (prefix.compressed, codec) {
        (false, _) => message,
        (true, Codec::None) => return Err(unpacked().into()),
        (true, codec) => {
            let content = codec.inflate_in_turns(message.whole(), bytes_max).await;
            content.map(Message::from).map_err(|e| not_inflated(codec, e, bytes_max))?
        }
    };
    let call = Call { method, message, charge, timeout, metadata, transport: Transport::Grpc };
    Ok(server.service.call(call).await?)
}

/// Refused for lack of memory, with the hint to come back.
pub(super) fn busy() -> Status {
    Status::unavailable("data refused due to high memory usage", Duration::from_secs(1))
}

/// A message that says it is compressed, without an encoding.
pub(super) fn unpacked() -> Status {
    Status::new(Code::Internal, "grpc: compressed flag set with identity or empty encoding")
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

/// `:status: 200`, `content-type: application/grpc`, without a place in the peer's table.
const OK_HEAD: &[u8] = b"\x88\x0f\x10\x10application/grpc";
/// `grpc-status: 0`, likewise.
const OK_TRAILERS: &[u8] = b"\x00\x0bgrpc-status\x010";

/// Writes the answer of a call.
pub(super) fn reply(
    http2: &mut http2::server::Server<Inbound>,
    stream: u32,
    outcome: Result<Bytes, Refusal>,
) {
    match outcome {
        Ok(message) => {
            let mut framed = Vec::with_capacity(PREFIX_BYTES + message.len());
            framed.extend_from_slice(&Prefix { compressed: false, len: message.len() }.bytes());
            framed.extend_from_slice(&message);
            http2.respond(stream, Answer { head: OK_HEAD, rest: Some((&framed, OK_TRAILERS)) });
        }
        Err(refusal) => http2.respond(stream, Answer::refusal(&refusal.block())),
    }
}

impl Refusal {
    /// The header block of a trailers-only answer.
    fn block(&self) -> Vec<u8> {
        let mut block = Vec::with_capacity(128);
        hpack::put_literal(&mut block, ":status", self.http.as_str().as_bytes());
        hpack::put_literal(&mut block, "content-type", b"application/grpc");
        for (name, value) in &self.status.trailers() {
            hpack::put_literal(&mut block, name.as_str(), value.as_bytes());
        }
        if self.encodings {
            hpack::put_literal(&mut block, "grpc-accept-encoding", codec::ACCEPTED.as_bytes());
        }
        block
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn constant_blocks_say_what_they_should() {
        let mut said = Vec::new();
        for block in [OK_HEAD, OK_TRAILERS] {
            let text = |b: &[u8]| String::from_utf8_lossy(b).into_owned();
            let each = |n: &[u8], v: &[u8]| said.push(format!("{}: {}", text(n), text(v)));
            http2::unpack::Decoder::new(0, 1 << 20).decode(block, each).expect("valid");
        }
        assert_eq!(said, [":status: 200", "content-type: application/grpc", "grpc-status: 0"]);
    }

    #[test]
    fn binary_metadata_is_base64_with_padding_or_without() {
        for (value, want) in
            [("", true), ("YQ==", true), ("YQ", true), ("YWI=", true), ("!!!", false), ("Y", false)]
        {
            assert_eq!(is_base64(value.as_bytes()), want, "{value}");
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
