//! One OTLP/HTTP request, from its head to its answer. Order, codes and texts of refusals are the
//! collector's (otlp 1.3 to 1.6): encoding, path, method, type, body.
//!
//! Failures of the service, and of a body in a type that we speak, are `google.rpc.Status` in that
//! type; all others are plain text. JSON is not spoken yet: 415.

use std::error::Error as _;
use std::io;
use std::time::Duration;

use bytes::Bytes;
use http::header::{
    CONNECTION, CONTENT_ENCODING, CONTENT_TYPE, EXPECT, HOST, RETRY_AFTER, X_CONTENT_TYPE_OPTIONS,
};
use http::request::Parts;
use http::{HeaderValue, Method, Request, Response, StatusCode, Version};
use http_body_util::{BodyExt as _, Full};
use hyper::body::{Body as _, Incoming};
use percent_encoding::percent_decode_str;

use super::codec::{self, Codec};
use super::grpc_call::busy;
use super::http_server::HttpServer;
use super::service::{Call, Service, Transport};
use super::status::{Code, Status};
use crate::runtime::lease::Charge;
use crate::runtime::timer::Timeout;

/// A body that has not arrived by then costs its sender the call.
const BODY_TIMEOUT: Duration = Duration::from_secs(30);
/// Allocated at once for a body that announces more.
const BODY_BYTES_FIRST: usize = 256 << 10;
/// What is read of a body that nobody wants, and for how long, so that the connection can be kept.
/// The number of bytes is Go's.
const UNWANTED_BYTES_MAX: usize = 256 << 10;
const UNWANTED_TIMEOUT: Duration = Duration::from_secs(5);

const PROTOBUF: &str = "application/x-protobuf";
const JSON: &str = "application/json";
const TEXT: &str = "text/plain";
const TEXT_UTF8: &str = "text/plain; charset=utf-8";

type Answer = Response<Full<Bytes>>;

/// Answers one request. If its body could not be read to the end, or the core is to finish, the
/// connection closes behind it.
pub(super) async fn answer<S: Service>(
    server: &HttpServer<S>,
    request: Request<Incoming>,
) -> Answer {
    let (head, mut body) = request.into_parts();
    let (answer, broken) = match admit(server, &head) {
        Ok(admitted) => match converse(server, admitted, &mut body).await {
            Ok(reply) => (response(StatusCode::OK, PROTOBUF, reply), false),
            Err(Failure { status, broken }) => (failure(&status), broken),
        },
        Err(refusal) => (*refusal, false),
    };
    let read = !broken && (body.is_end_stream() || swallow(&head, &mut body).await);
    // A head without a host may not be a head at all, so nothing behind it is read.
    let stays = read && has_host(&head) && !server.drain.called();
    if stays { answer } else { closing(answer) }
}

/// A request that failed after its head.
struct Failure {
    status: Status,
    /// The body did not end as HTTP says, so nothing can follow it.
    broken: bool,
}

impl From<Status> for Failure {
    fn from(status: Status) -> Self {
        Self { status, broken: false }
    }
}

/// A request whose head is in order.
struct Admitted {
    method: usize,
    codec: Codec,
}

fn admit<S: Service>(server: &HttpServer<S>, head: &Parts) -> Result<Admitted, Box<Answer>> {
    if !has_host(head) {
        let text = "400 Bad Request: missing required Host header";
        return Err(Box::new(response(StatusCode::BAD_REQUEST, TEXT_UTF8, text)));
    }
    let content = media_type(head);
    let codec = codec_of(head).map_err(|encoding| unknown_encoding(&content, encoding))?;
    let path = percent_decode_str(head.uri.path()).decode_utf8_lossy();
    let method = server.options.grpc_path(&path).and_then(|path| server.service.method(path));
    let Some(method) = method else {
        let mut answer = response(StatusCode::NOT_FOUND, TEXT_UTF8, "404 page not found\n");
        let nosniff = HeaderValue::from_static("nosniff");
        answer.headers_mut().insert(X_CONTENT_TYPE_OPTIONS, nosniff);
        return Err(Box::new(answer));
    };
    if head.method != Method::POST {
        let text = "405 method not allowed, supported: [POST]";
        return Err(Box::new(response(StatusCode::METHOD_NOT_ALLOWED, TEXT, text)));
    }
    if content != PROTOBUF {
        let text = format!("415 unsupported media type, supported: [{PROTOBUF}]");
        return Err(Box::new(response(StatusCode::UNSUPPORTED_MEDIA_TYPE, TEXT, text)));
    }
    Ok(Admitted { method, codec })
}

/// HTTP/1.1 wants exactly one.
fn has_host(head: &Parts) -> bool {
    head.version != Version::HTTP_11 || head.headers.get_all(HOST).iter().count() == 1
}

/// `Content-Type` without its parameters, in lower case.
fn media_type(head: &Parts) -> String {
    let text = head.headers.get(CONTENT_TYPE).map_or(&b""[..], HeaderValue::as_bytes);
    let text = text.split(|&b| b == b';').next().unwrap_or_default().trim_ascii();
    String::from_utf8_lossy(text).to_ascii_lowercase()
}

/// The encoding of the body. Names are the collector's: case counts, `identity` is none of them and
/// lists are not taken apart.
fn codec_of(head: &Parts) -> Result<Codec, String> {
    let encoding = head.headers.get(CONTENT_ENCODING).map_or(&b""[..], HeaderValue::as_bytes);
    match encoding {
        b"" => Ok(Codec::None),
        b"gzip" => Ok(Codec::Gzip),
        b"zstd" => Ok(Codec::Zstd),
        b"x-snappy-framed" => Ok(Codec::Snappy),
        other => Err(String::from_utf8_lossy(other).into_owned()),
    }
}

fn unknown_encoding(content: &str, encoding: String) -> Box<Answer> {
    let text = format!("unsupported Content-Encoding: {encoding}");
    Box::new(match content {
        PROTOBUF => failure(&Status::new(Code::InvalidArgument, text)),
        "" | JSON => {
            let status = serde_json::json!({"code": Code::InvalidArgument as u8, "message": text});
            response(StatusCode::BAD_REQUEST, JSON, status.to_string())
        }
        // A type in which the collector cannot say it.
        _ => {
            let text = r#"{"code": 13, "message": "failed to marshal error message"}"#;
            response(StatusCode::INTERNAL_SERVER_ERROR, JSON, text)
        }
    })
}

async fn converse<S: Service>(
    server: &HttpServer<S>,
    admitted: Admitted,
    body: &mut Incoming,
) -> Result<Bytes, Failure> {
    let reading = Timeout::new(BODY_TIMEOUT, read(server, body, admitted.codec));
    let (message, charge) = reading.await.unwrap_or_else(|| {
        let text = "the request's body did not arrive in time";
        Err(Failure { status: Status::new(Code::DeadlineExceeded, text), broken: true })
    })?;
    let method = admitted.method;
    let call = Call { method, message, charge, timeout: None, transport: Transport::Http };
    Ok(server.service.call(call).await?)
}

/// The body, inflated, and what it is charged with.
async fn read<S>(
    server: &HttpServer<S>,
    body: &mut Incoming,
    codec: Codec,
) -> Result<(Bytes, Option<Charge>), Failure> {
    let bytes_max = server.options.body_bytes_max;
    let announced = body.size_hint().lower();
    if announced > bytes_max as u64 {
        return Err(too_large().into());
    }
    let first = usize::try_from(announced).unwrap_or(0).min(BODY_BYTES_FIRST);
    let mut arriving = Arriving::default();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|e| bad_body(&e))?;
        // Trailers mean nothing here.
        let Ok(chunk) = frame.into_data() else { continue };
        if arriving.len() + chunk.len() > bytes_max {
            return Err(too_large().into());
        }
        arriving.push(chunk, first);
        if !charge(server, &mut arriving.charge, arriving.rest.len()) {
            return Err(busy().into());
        }
    }
    let Arriving { first, rest, charge: mut held } = arriving;
    let message = if rest.is_empty() { first } else { rest.into() };
    if codec == Codec::None {
        return Ok((message, held));
    }
    let message = codec.inflate(&message, bytes_max).map_err(|e| match e {
        codec::Error::TooLarge => too_large(),
        codec::Error::Corrupt => Status::new(Code::InvalidArgument, e.to_string()),
    })?;
    // What came in is gone; what it became stays as long as the call.
    if !charge(server, &mut held, message.len()) {
        return Err(busy().into());
    }
    Ok((message.into(), held))
}

fn too_large() -> Status {
    Status::new(Code::InvalidArgument, "http: request body too large")
}

fn bad_body(e: &hyper::Error) -> Failure {
    let cause = e.source();
    let kind = cause.and_then(|c| c.downcast_ref::<io::Error>()).map(io::Error::kind);
    let text = match (kind, cause) {
        (Some(io::ErrorKind::UnexpectedEof), _) => "unexpected EOF".to_owned(),
        (_, Some(cause)) => cause.to_string(),
        (_, None) => e.to_string(),
    };
    Failure { status: Status::new(Code::InvalidArgument, text), broken: true }
}

/// Brings `held` to `bytes`; false if there is no room.
fn charge<S>(server: &HttpServer<S>, held: &mut Option<Charge>, bytes: usize) -> bool {
    let bytes = bytes as u64;
    match held {
        None if bytes == 0 => true,
        None => {
            *held = server.memory.take(bytes);
            held.is_some()
        }
        Some(charge) => {
            drop(charge.split(charge.units().saturating_sub(bytes)));
            charge.grow_to(bytes)
        }
    }
}

/// A body on its way in. One that comes in a single piece is never copied, nor charged: it is
/// bounded by the connection's read buffer.
#[derive(Default)]
struct Arriving {
    first: Bytes,
    rest: Vec<u8>,
    charge: Option<Charge>,
}

impl Arriving {
    fn len(&self) -> usize {
        self.first.len() + self.rest.len()
    }

    fn push(&mut self, chunk: Bytes, bytes_first: usize) {
        if self.len() == 0 {
            self.first = chunk;
            return;
        }
        if self.rest.is_empty() {
            self.rest.reserve(bytes_first);
            self.rest.extend_from_slice(&std::mem::take(&mut self.first));
        }
        self.rest.extend_from_slice(&chunk);
    }
}

/// Reads the rest of a body that nobody wants; false if that is too much or would make a client
/// send what it has asked about.
async fn swallow(head: &Parts, body: &mut Incoming) -> bool {
    if head.headers.contains_key(EXPECT) {
        return false;
    }
    let reading = async {
        let mut len = 0;
        while let Some(frame) = body.frame().await {
            len += match frame {
                Ok(frame) => frame.data_ref().map_or(0, Bytes::len),
                Err(_) => return false,
            };
            if len > UNWANTED_BYTES_MAX {
                return false;
            }
        }
        true
    };
    Timeout::new(UNWANTED_TIMEOUT, reading).await.unwrap_or(false)
}

/// A failure in protobuf, with `Retry-After` where OTLP has it. Rounded up: a client that came
/// earlier than `RetryInfo` says would come in vain.
fn failure(status: &Status) -> Answer {
    let http = StatusCode::from_u16(status.code.http()).expect("codes map to valid statuses");
    let mut answer = response(http, PROTOBUF, status.body());
    let throttled = matches!(http, StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE);
    if let (true, Some(delay)) = (throttled, status.retry_after) {
        let seconds = delay.as_secs() + u64::from(delay.subsec_nanos() > 0);
        answer.headers_mut().insert(RETRY_AFTER, HeaderValue::from(seconds));
    }
    answer
}

fn response(status: StatusCode, content: &'static str, body: impl Into<Bytes>) -> Answer {
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content));
    response
}

fn closing(mut answer: Answer) -> Answer {
    answer.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    answer
}
