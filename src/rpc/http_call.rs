//! One OTLP/HTTP request, from its head to its answer. Order, codes and texts of refusals are the
//! collector's (otlp 1.3 to 1.6): cross-origin rules, encoding, path, method, type, body.
//!
//! A request in JSON becomes the message that it means and walks on as one; its answer is JSON
//! again. Failures of the service, and of a body in a type that we speak, are `google.rpc.Status`
//! in that type; all others are plain text.

use bytes::Bytes;
use http::header::{
    CONNECTION, CONTENT_ENCODING, CONTENT_TYPE, HOST, RETRY_AFTER, X_CONTENT_TYPE_OPTIONS,
};
use http::request::Parts;
use http::{HeaderValue, Method, Request, Response, StatusCode, Version};
use http_body_util::Full;
use hyper::body::{Body as _, Incoming};
use percent_encoding::percent_decode_str;

use super::codec::Codec;
use super::cors::Cors;
use super::grpc_call::busy;
use super::http_body::{Failure, charge, read, swallow};
use super::http_server::HttpServer;
use super::metadata::Metadata;
use super::service::{Call, Service, Transport};
use super::status::{Code, Status};
use super::welcome::welcome;
use crate::runtime::lease::Charge;

const PROTOBUF: &str = "application/x-protobuf";
const JSON: &str = "application/json";
const TEXT: &str = "text/plain";
const TEXT_UTF8: &str = "text/plain; charset=utf-8";

type Answer = Response<Full<Bytes>>;

/// The type of a request's body, and of its answer's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Media {
    Protobuf,
    Json,
}

/// Answers one request. If its body could not be read to the end, or the core is to finish, the
/// connection closes behind it.
pub(super) async fn answer<S: Service>(
    server: &HttpServer<S>,
    request: Request<Incoming>,
) -> Answer {
    let (head, mut body) = request.into_parts();
    let (mut answer, broken) = match preflight(server, &head) {
        Some(answer) => (answer, false),
        None => respond(server, &head, &mut body).await,
    };
    for (name, value) in &server.options.response_headers {
        if !answer.headers().contains_key(name) {
            answer.headers_mut().insert(name, value.clone());
        }
    }
    let read = !broken && (body.is_end_stream() || swallow(&head, &mut body).await);
    // A head without a host may not be a head at all, so nothing behind it is read.
    let stays = read && has_host(&head) && !server.drain.called() && server.options.keep_alive;
    if stays || head.version == Version::HTTP_2 { answer } else { closing(answer) }
}

/// The answer to a browser that asks what it may send.
fn preflight<S>(server: &HttpServer<S>, head: &Parts) -> Option<Answer> {
    let cors = server.options.cors.as_ref()?;
    if !has_host(head) || !Cors::is_preflight(head) {
        return None;
    }
    let mut answer = Response::new(Full::default());
    *answer.status_mut() = StatusCode::NO_CONTENT;
    cors.preflight(head, answer.headers_mut());
    Some(answer)
}

/// The answer, and whether the body was broken.
async fn respond<S: Service>(
    server: &HttpServer<S>,
    head: &Parts,
    body: &mut Incoming,
) -> (Answer, bool) {
    let auth = server.options.auth.as_ref().filter(|_| has_host(head));
    let admitted = match welcome(auth, &head.headers).await {
        Ok(()) => admit(server, head),
        Err(stranger) => Err(Box::new(head_failure(head, &stranger))),
    };
    let (mut answer, broken) = match admitted {
        Ok(admitted) => match converse(server, head, &admitted, body).await {
            Ok(reply) => (response(StatusCode::OK, admitted.media.name(), reply), false),
            Err(Failure { status, broken }) => (failure(admitted.media, &status), broken),
        },
        Err(refusal) => (*refusal, false),
    };
    if let Some(cors) = &server.options.cors {
        cors.actual(head, answer.headers_mut());
    }
    (answer, broken)
}

/// A request whose head is in order.
struct Admitted {
    method: usize,
    codec: Codec,
    media: Media,
}

fn admit<S: Service>(server: &HttpServer<S>, head: &Parts) -> Result<Admitted, Box<Answer>> {
    if !has_host(head) {
        let text = "400 Bad Request: missing required Host header";
        return Err(Box::new(response(StatusCode::BAD_REQUEST, TEXT_UTF8, text)));
    }
    let codec = codec_of(server, head).map_err(|encoding| {
        let text = format!("unsupported Content-Encoding: {encoding}");
        Box::new(head_failure(head, &Status::new(Code::InvalidArgument, text)))
    })?;
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
    let Some(media) = Media::of(content_type(head)) else {
        let text = format!("415 unsupported media type, supported: [{JSON}, {PROTOBUF}]");
        return Err(Box::new(response(StatusCode::UNSUPPORTED_MEDIA_TYPE, TEXT, text)));
    };
    Ok(Admitted { method, codec, media })
}

/// HTTP/1.1 wants exactly one.
fn has_host(head: &Parts) -> bool {
    head.version != Version::HTTP_11 || head.headers.get_all(HOST).iter().count() == 1
}

fn content_type(head: &Parts) -> &[u8] {
    head.headers.get(CONTENT_TYPE).map_or(&b""[..], HeaderValue::as_bytes)
}

/// The encoding of the body. Names are the collector's: case counts, `identity` is none of them and
/// lists are not taken apart.
fn codec_of<S>(server: &HttpServer<S>, head: &Parts) -> Result<Codec, String> {
    let known = &server.options.encodings;
    if known.is_empty() {
        return Ok(Codec::None);
    }
    let encoding = head.headers.get(CONTENT_ENCODING).map_or(&b""[..], HeaderValue::as_bytes);
    let known = known.iter().find(|(name, _)| name.as_bytes() == encoding);
    known.map(|(_, codec)| *codec).ok_or_else(|| String::from_utf8_lossy(encoding).into_owned())
}

/// A failure before the type of the request is known to be one of ours: JSON if it names none.
fn head_failure(head: &Parts, status: &Status) -> Answer {
    let content = content_type(head);
    match Media::of(content) {
        Some(media) => failure(media, status),
        None if content.is_empty() => failure(Media::Json, status),
        // A type in which the collector cannot say it.
        None => {
            let text = r#"{"code": 13, "message": "failed to marshal error message"}"#;
            response(StatusCode::INTERNAL_SERVER_ERROR, JSON, text)
        }
    }
}

async fn converse<S: Service>(
    server: &HttpServer<S>,
    head: &Parts,
    admitted: &Admitted,
    body: &mut Incoming,
) -> Result<Bytes, Failure> {
    let Admitted { method, codec, media } = *admitted;
    let (mut message, mut held) = read(server, body, codec).await?;
    if media == Media::Json {
        message = of_json(server, method, &message, &mut held)?;
    }
    let metadata = Metadata::of(&head.headers, &server.options.metadata);
    let (charge, transport) = (held, Transport::Http);
    let message = message.into();
    let call = Call { method, message, charge, timeout: None, metadata, transport };
    let reply = server.service.call(call).await?;
    Ok(match media {
        Media::Protobuf => reply,
        Media::Json => server.service.to_json(method, &reply).into(),
    })
}

/// The message that the text holds; `held` follows its size.
fn of_json<S: Service>(
    server: &HttpServer<S>,
    method: usize,
    text: &[u8],
    held: &mut Option<Charge>,
) -> Result<Bytes, Status> {
    let message = server.service.of_json(method, text);
    let message = message.map_err(|what| Status::new(Code::InvalidArgument, what))?;
    if !charge(server, held, message.len()) {
        return Err(busy());
    }
    Ok(message.into())
}

impl Media {
    /// As Go reads the header: case and parameters do not count, but parameters that are none make
    /// it unreadable.
    fn of(content: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(content).ok()?;
        let (name, rest) = text.split_once(';').unwrap_or((text, ""));
        let media = [Self::Protobuf, Self::Json]
            .into_iter()
            .find(|media| name.trim().eq_ignore_ascii_case(media.name()))?;
        are_parameters(rest).then_some(media)
    }

    const fn name(self) -> &'static str {
        match self {
            Self::Protobuf => PROTOBUF,
            Self::Json => JSON,
        }
    }
}

/// `a=b; c="d"`, each name once, perhaps a last semicolon.
fn are_parameters(text: &str) -> bool {
    let is_letter = |b: u8| b.is_ascii_graphic() && !b"()<>@,;:\\\"/[]?=".contains(&b);
    let is_token = |text: &str| !text.is_empty() && text.bytes().all(is_letter);
    let mut names: Vec<String> = Vec::new();
    let mut rest = text.trim();
    while !rest.is_empty() {
        let Some((name, value)) = rest.split_once('=') else { return false };
        let name = name.trim().to_ascii_lowercase();
        if !is_token(&name) || names.contains(&name) {
            return false;
        }
        names.push(name);
        let end = match value.trim_start().strip_prefix('"') {
            Some(quoted) => {
                let mut escaped = false;
                let end = quoted.bytes().position(|b| {
                    let ends = b == b'"' && !escaped;
                    escaped = b == b'\\' && !escaped;
                    ends
                });
                let Some(end) = end else { return false };
                value.len() - quoted.len() + end + 1
            }
            None => value.find(';').unwrap_or(value.len()),
        };
        let (value, behind) = value.split_at(end);
        let behind = behind.trim_start();
        if !value.trim_start().starts_with('"') && !is_token(value.trim()) {
            return false;
        }
        rest = match behind.strip_prefix(';') {
            Some(more) => more.trim_start(),
            None if behind.is_empty() => "",
            None => return false,
        };
    }
    true
}

/// A failure in the request's type, with `Retry-After` where OTLP has it. Rounded up: a client that
/// came earlier than `RetryInfo` says would come in vain.
fn failure(media: Media, status: &Status) -> Answer {
    let http = StatusCode::from_u16(status.code.http()).expect("codes map to valid statuses");
    let body = match media {
        Media::Protobuf => status.body(),
        Media::Json => status.json(),
    };
    let mut answer = response(http, media.name(), body);
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_are_read_as_go_reads_them() {
        for (content, want) in [
            ("application/json", Some(Media::Json)),
            ("Application/JSON ; charset=utf-8", Some(Media::Json)),
            ("application/x-protobuf; a=b; c=\"d;\\\"e\";", Some(Media::Protobuf)),
            ("application/json;", Some(Media::Json)),
            ("application/json; charset", None),
            ("application/json; a=b; A=c", None),
            ("application/json; a=\"b", None),
            ("application/json x", None),
            ("application/protobuf", None),
            ("", None),
        ] {
            assert_eq!(Media::of(content.as_bytes()), want, "{content}");
        }
    }
}
