//! What the answer to an OTLP/HTTP request means, in gRPC's words (otlp 1.6, as the collector's
//! exporter reads it). Pure.

use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::HeaderValue;
use http::header::{CONTENT_TYPE, RETRY_AFTER};
use http::response::Parts;

use super::status::{Code, Status, message_of};

/// The reply of a call that was accepted, or the failure that the head and the body tell; `wall`
/// is now. A reply of a type that is none of ours is empty.
///
/// # Errors
/// Any status but 2xx. Only 429, 502, 503 and 504 are retryable.
pub(super) fn read(
    url: &str,
    head: &Parts,
    body: Bytes,
    wall: SystemTime,
) -> Result<Bytes, Status> {
    let number = head.status.as_u16();
    if head.status.is_success() {
        let content = head.headers.get(CONTENT_TYPE).map_or(&b""[..], HeaderValue::as_bytes);
        let known = matches!(content, b"application/x-protobuf" | b"application/json");
        return Ok(if known { body } else { Bytes::new() });
    }
    let mut text =
        format!("error exporting items, request to {url} responded with HTTP Status Code {number}");
    if number >= 400
        && let Some(message) = message_of(&body).filter(|message| !message.is_empty())
    {
        text.push_str(&format!(", Message={message}"));
    }
    let mut status = Status::new(code(number), text);
    if matches!(number, 429 | 503) {
        let asked = head.headers.get(RETRY_AFTER).map(|value| delay(value.as_bytes(), wall));
        // A 429 is retried also if it does not say when.
        status.retry_after = asked.or_else(|| (number == 429).then_some(Duration::ZERO));
    }
    Err(status)
}

const fn code(number: u16) -> Code {
    match number {
        400 => Code::InvalidArgument,
        401 => Code::Unauthenticated,
        403 => Code::PermissionDenied,
        404 => Code::Unimplemented,
        429 => Code::ResourceExhausted,
        502..=504 => Code::Unavailable,
        _ => Code::Unknown,
    }
}

/// `Retry-After`: seconds or a date. What is neither, or past, is no delay.
fn delay(value: &[u8], wall: SystemTime) -> Duration {
    let text = String::from_utf8_lossy(value);
    if let Ok(seconds) = text.trim().parse::<i64>() {
        return Duration::from_secs(u64::try_from(seconds).unwrap_or(0));
    }
    let date = httpdate::parse_http_date(text.trim()).ok();
    date.and_then(|date| date.duration_since(wall).ok()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(status: u16, headers: &[(&'static str, &str)], body: &[u8]) -> Result<Bytes, Status> {
        let mut builder = http::Response::builder().status(status);
        for (name, value) in headers {
            builder = builder.header(*name, *value);
        }
        let (head, ()) = builder.body(()).expect("a response").into_parts();
        read("http://x/v1/traces", &head, Bytes::copy_from_slice(body), wall())
    }

    /// Sun, 06 Nov 1994 08:49:37 GMT
    fn wall() -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(784_111_777)
    }

    #[test]
    fn statuses_are_the_collectors_codes_and_four_are_retried() {
        let rows = [
            (400, Code::InvalidArgument, false),
            (401, Code::Unauthenticated, false),
            (403, Code::PermissionDenied, false),
            (404, Code::Unimplemented, false),
            (408, Code::Unknown, false),
            (413, Code::Unknown, false),
            (429, Code::ResourceExhausted, true),
            (500, Code::Unknown, false),
            (501, Code::Unknown, false),
            (502, Code::Unavailable, true),
            (503, Code::Unavailable, true),
            (504, Code::Unavailable, true),
            (505, Code::Unknown, false),
            (302, Code::Unknown, false),
        ];
        for (number, code, retryable) in rows {
            let status = answer(number, &[], b"").expect_err("a failure");
            assert_eq!((status.code, status.is_retryable()), (code, retryable), "{number}");
            assert!(status.message.ends_with(&number.to_string()));
        }
    }

    #[test]
    fn the_peers_words_are_kept_whatever_their_form() {
        let said = Status::new(Code::InvalidArgument, "unexpected EOF");
        for body in [said.body(), said.json()] {
            let status = answer(400, &[], &body).expect_err("a failure");
            assert!(status.message.ends_with("400, Message=unexpected EOF"), "{status}");
        }
        let status = answer(502, &[], b"<html>bad gateway</html>").expect_err("a failure");
        assert!(status.message.ends_with("502"), "{status}");
    }

    #[test]
    fn delays_are_seconds_or_dates_and_count_on_429_and_503() {
        for (value, want) in [
            ("7", 7),
            ("-1", 0),
            ("", 0),
            ("soon", 0),
            ("Sun, 06 Nov 1994 08:50:37 GMT", 60),
            ("Sun, 06 Nov 1994 08:48:37 GMT", 0),
        ] {
            for number in [429, 503] {
                let status = answer(number, &[("retry-after", value)], b"").expect_err("a failure");
                assert_eq!(status.retry_after, Some(Duration::from_secs(want)), "{value}");
            }
        }
        assert_eq!(answer(502, &[("retry-after", "7")], b"").unwrap_err().retry_after, None);
        assert_eq!(answer(503, &[], b"").unwrap_err().retry_after, None);
    }

    #[test]
    fn replies_are_read_only_in_our_types() {
        for (content, body) in
            [("application/json", "{}"), ("application/x-protobuf", "{}"), ("text/html", "")]
        {
            assert_eq!(answer(202, &[("content-type", content)], b"{}").unwrap(), body);
        }
        assert_eq!(answer(200, &[], b"{}").unwrap(), "");
    }
}
