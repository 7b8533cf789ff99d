//! The outcome of a call in gRPC's words, and what it is in HTTP's. All rules about codes, and how
//! a status is written to trailers and bodies, stand here.

use std::borrow::Cow;
use std::fmt;
use std::time::Duration;

use base64::Engine as _;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use http::{HeaderMap, HeaderName, HeaderValue};
use percent_encoding::{AsciiSet, CONTROLS, percent_decode, utf8_percent_encode};

use crate::http2::frame::{CANCEL, ENHANCE_YOUR_CALM, INADEQUATE_SECURITY, REFUSED_STREAM};

/// gRPC status codes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum Code {
    /// 0
    Ok = 0,
    /// 1
    Cancelled = 1,
    /// 2
    Unknown = 2,
    /// 3
    InvalidArgument = 3,
    /// 4
    DeadlineExceeded = 4,
    /// 5
    NotFound = 5,
    /// 6
    AlreadyExists = 6,
    /// 7
    PermissionDenied = 7,
    /// 8
    ResourceExhausted = 8,
    /// 9
    FailedPrecondition = 9,
    /// 10
    Aborted = 10,
    /// 11
    OutOfRange = 11,
    /// 12
    Unimplemented = 12,
    /// 13
    Internal = 13,
    /// 14
    Unavailable = 14,
    /// 15
    DataLoss = 15,
    /// 16
    Unauthenticated = 16,
}

impl Code {
    const ALL: [Self; 17] = [
        Self::Ok,
        Self::Cancelled,
        Self::Unknown,
        Self::InvalidArgument,
        Self::DeadlineExceeded,
        Self::NotFound,
        Self::AlreadyExists,
        Self::PermissionDenied,
        Self::ResourceExhausted,
        Self::FailedPrecondition,
        Self::Aborted,
        Self::OutOfRange,
        Self::Unimplemented,
        Self::Internal,
        Self::Unavailable,
        Self::DataLoss,
        Self::Unauthenticated,
    ];

    /// The code of a number; numbers that gRPC does not know are `Unknown`.
    #[must_use]
    pub fn of(number: u32) -> Self {
        usize::try_from(number)
            .ok()
            .and_then(|n| Self::ALL.get(n).copied())
            .unwrap_or(Self::Unknown)
    }

    /// As Go prints it, and as the collector's `error_type` label has it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ok => "OK",
            Self::Cancelled => "Canceled",
            Self::Unknown => "Unknown",
            Self::InvalidArgument => "InvalidArgument",
            Self::DeadlineExceeded => "DeadlineExceeded",
            Self::NotFound => "NotFound",
            Self::AlreadyExists => "AlreadyExists",
            Self::PermissionDenied => "PermissionDenied",
            Self::ResourceExhausted => "ResourceExhausted",
            Self::FailedPrecondition => "FailedPrecondition",
            Self::Aborted => "Aborted",
            Self::OutOfRange => "OutOfRange",
            Self::Unimplemented => "Unimplemented",
            Self::Internal => "Internal",
            Self::Unavailable => "Unavailable",
            Self::DataLoss => "DataLoss",
            Self::Unauthenticated => "Unauthenticated",
        }
    }

    /// Whether a retry may help without `RetryInfo` (otlp 1.6).
    #[must_use]
    pub const fn is_retryable(self) -> bool {
        matches!(
            self,
            Self::Cancelled
                | Self::DeadlineExceeded
                | Self::Aborted
                | Self::OutOfRange
                | Self::Unavailable
                | Self::DataLoss
        )
    }

    /// HTTP status of a failure (otlp 1.6, as the collector's receiver maps it).
    #[must_use]
    pub const fn http(self) -> u16 {
        match self {
            Self::Ok => 200,
            Self::Cancelled
            | Self::DeadlineExceeded
            | Self::Aborted
            | Self::OutOfRange
            | Self::Unavailable
            | Self::DataLoss => 503,
            Self::ResourceExhausted => 429,
            Self::InvalidArgument => 400,
            Self::Unauthenticated => 401,
            Self::PermissionDenied => 403,
            Self::Unimplemented => 404,
            _ => 500,
        }
    }

    /// Code of a reply that has an HTTP status and no `grpc-status` (otlp 2.2).
    #[must_use]
    pub const fn of_http(status: u16) -> Self {
        match status {
            400 | 431 => Self::Internal,
            401 => Self::Unauthenticated,
            403 => Self::PermissionDenied,
            404 => Self::Unimplemented,
            429 | 502 | 503 | 504 => Self::Unavailable,
            _ => Self::Unknown,
        }
    }

    /// Code of a stream that the peer reset (otlp 2.2).
    #[must_use]
    pub const fn of_reset(code: u32) -> Self {
        match code {
            REFUSED_STREAM => Self::Unavailable,
            CANCEL => Self::Cancelled,
            ENHANCE_YOUR_CALM => Self::ResourceExhausted,
            INADEQUATE_SECURITY => Self::PermissionDenied,
            _ => Self::Internal,
        }
    }
}

/// A call that did not succeed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    /// What kind of failure.
    pub code: Code,
    /// For people.
    pub message: Cow<'static, str>,
    /// `RetryInfo.retry_delay`: try again, but not before.
    pub retry_after: Option<Duration>,
}

impl Status {
    /// A failure without `RetryInfo`.
    #[must_use]
    pub fn new(code: Code, message: impl Into<Cow<'static, str>>) -> Self {
        Self { code, message: message.into(), retry_after: None }
    }

    /// Too much load: both retry-info trailers are sent (otlp 1.7 a).
    #[must_use]
    pub fn unavailable(message: impl Into<Cow<'static, str>>, retry_after: Duration) -> Self {
        Self { code: Code::Unavailable, message: message.into(), retry_after: Some(retry_after) }
    }

    /// Whether a retry may help (otlp 1.6).
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        self.code.is_retryable()
            || (self.code == Code::ResourceExhausted && self.retry_after.is_some())
    }

    /// `grpc-status`, `grpc-message` and, with a delay, both retry-info trailers.
    #[must_use]
    pub fn trailers(&self) -> HeaderMap {
        let mut map = HeaderMap::with_capacity(4);
        map.insert(GRPC_STATUS, HeaderValue::from(u16::from(self.code as u8)));
        if !self.message.is_empty() {
            let text = utf8_percent_encode(&self.message, LITERAL).to_string();
            map.insert(GRPC_MESSAGE, HeaderValue::from_str(&text).expect("only printable ASCII"));
        }
        if let Some(delay) = self.retry_after {
            let pairs =
                [(DETAILS_BIN, self.details(delay)), (PYTHON_RETRYINFO_BIN, retry_info(delay))];
            for (name, bytes) in pairs {
                let text = BASE64.encode(&bytes);
                map.insert(name, HeaderValue::from_str(&text).expect("base64 is ASCII"));
            }
        }
        map
    }

    /// The status that trailers (or trailers-only headers) carry, which `get` looks up; `None` if
    /// there is no `grpc-status`. `Ok(())` is code 0.
    #[must_use]
    pub fn from_trailers<'a>(get: impl Fn(&str) -> Option<&'a [u8]>) -> Option<Result<(), Self>> {
        let code = get(GRPC_STATUS.as_str())?;
        if code == b"0" {
            return Some(Ok(()));
        }
        let number = std::str::from_utf8(code).ok().and_then(|t| t.parse().ok());
        let code = Code::of(number.unwrap_or(2));
        let message = get(GRPC_MESSAGE.as_str())
            .map_or_else(String::new, |v| percent_decode(v).decode_utf8_lossy().into_owned());
        let details = get(DETAILS_BIN.as_str())
            .and_then(|v| BASE64.decode(v).ok())
            .and_then(|bytes| delay_of_details(&bytes));
        let bare = || {
            let v = get(PYTHON_RETRYINFO_BIN.as_str())?;
            delay_of_retry_info(&BASE64.decode(v).ok()?)
        };
        let retry_after = details.or_else(bare);
        Some(Err(Self { code, message: message.into(), retry_after }))
    }

    /// Body of an OTLP/HTTP failure: `google.rpc.Status`.
    #[must_use]
    pub fn body(&self) -> Vec<u8> {
        self.retry_after.map_or_else(
            || {
                let mut out = Vec::new();
                put_int(&mut out, 1, self.code as u64);
                put_bytes(&mut out, 2, self.message.as_bytes());
                out
            },
            |delay| self.details(delay),
        )
    }

    /// The same in JSON.
    #[must_use]
    pub fn json(&self) -> Vec<u8> {
        let (code, message) = (self.code as u8, &*self.message);
        let mut status = serde_json::json!({"code": code, "message": message});
        if message.is_empty() {
            status = serde_json::json!({"code": code});
        }
        if let Some(delay) = self.retry_after {
            let name = String::from_utf8_lossy(RETRY_INFO_TYPE);
            let delay = json_duration(delay);
            status["details"] = serde_json::json!([{"@type": name, "retryDelay": delay}]);
        }
        status.to_string().into_bytes()
    }

    /// `google.rpc.Status` with one detail, `google.rpc.RetryInfo`.
    fn details(&self, delay: Duration) -> Vec<u8> {
        let mut any = Vec::new();
        put_bytes(&mut any, 1, RETRY_INFO_TYPE);
        put_bytes(&mut any, 2, &retry_info(delay));
        let mut out = Vec::new();
        put_int(&mut out, 1, self.code as u64);
        put_bytes(&mut out, 2, self.message.as_bytes());
        put_bytes(&mut out, 3, &any);
        out
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "rpc error: code = {} desc = {}", self.code.name(), self.message)
    }
}

impl std::error::Error for Status {}

/// `grpc-status`
pub const GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");
/// `grpc-message`
pub const GRPC_MESSAGE: HeaderName = HeaderName::from_static("grpc-message");
const DETAILS_BIN: HeaderName = HeaderName::from_static("grpc-status-details-bin");
/// The one trailer that the Python SDK reads (otlp 1.7).
const PYTHON_RETRYINFO_BIN: HeaderName = HeaderName::from_static("google.rpc.retryinfo-bin");
/// gRPC `-bin` headers: padding is accepted and not written.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new()
        .with_encode_padding(false)
        .with_decode_padding_mode(DecodePaddingMode::Indifferent),
);
const RETRY_INFO_TYPE: &[u8] = b"type.googleapis.com/google.rpc.RetryInfo";

/// `google.rpc.RetryInfo{retry_delay}`.
fn retry_info(delay: Duration) -> Vec<u8> {
    let mut duration = Vec::new();
    put_int(&mut duration, 1, delay.as_secs());
    put_int(&mut duration, 2, u64::from(delay.subsec_nanos()));
    let mut out = Vec::new();
    put_bytes(&mut out, 1, &duration);
    out
}

/// `1s`, `1.500s`: protobuf's JSON has 0, 3, 6 or 9 digits behind the point.
fn json_duration(delay: Duration) -> String {
    let (seconds, nanos) = (delay.as_secs(), delay.subsec_nanos());
    match nanos {
        0 => format!("{seconds}s"),
        n if n % 1_000_000 == 0 => format!("{seconds}.{:03}s", n / 1_000_000),
        n if n % 1_000 == 0 => format!("{seconds}.{:06}s", n / 1_000),
        n => format!("{seconds}.{n:09}s"),
    }
}

/// The message of a `google.rpc.Status` in protobuf or JSON; `None` if the bytes are neither.
pub(super) fn message_of(status: &[u8]) -> Option<String> {
    if status.first() == Some(&b'{') {
        let status: serde_json::Value = serde_json::from_slice(status).ok()?;
        return status.get("message")?.as_str().map(str::to_owned);
    }
    let message = fields(status).find(|f| f.0 == 2)?.1.bytes()?;
    Some(String::from_utf8_lossy(message).into_owned())
}

fn delay_of_details(status: &[u8]) -> Option<Duration> {
    fields(status).filter(|f| f.0 == 3).find_map(|(_, any)| {
        let any = any.bytes()?;
        let is_retry_info = fields(any).any(|(n, v)| n == 1 && v.bytes() == Some(RETRY_INFO_TYPE));
        let value = fields(any).find(|f| f.0 == 2)?.1.bytes()?;
        if is_retry_info { delay_of_retry_info(value) } else { None }
    })
}

fn delay_of_retry_info(info: &[u8]) -> Option<Duration> {
    let duration = fields(info).find(|f| f.0 == 1)?.1.bytes()?;
    let int = |n| fields(duration).find(|f| f.0 == n).and_then(|f| f.1.int()).unwrap_or(0);
    let nanos = u32::try_from(int(2)).ok().filter(|&n| n < 1_000_000_000)?;
    Some(Duration::new(int(1), nanos))
}

/// gRPC: bytes 0x20–0x24 and 0x26–0x7E stand for themselves.
const LITERAL: &AsciiSet = &CONTROLS.add(b'%');

// The three messages above are all the protobuf that `rpc` needs.

enum Value<'a> {
    Int(u64),
    Bytes(&'a [u8]),
}

impl<'a> Value<'a> {
    fn bytes(&self) -> Option<&'a [u8]> {
        if let Value::Bytes(b) = self { Some(b) } else { None }
    }

    fn int(&self) -> Option<u64> {
        if let Value::Int(n) = self { Some(*n) } else { None }
    }
}

fn put_varint(out: &mut Vec<u8>, mut n: u64) {
    while n >= 0x80 {
        out.push(n.to_le_bytes()[0] | 0x80);
        n >>= 7;
    }
    out.push(n.to_le_bytes()[0]);
}

fn put_int(out: &mut Vec<u8>, field: u64, n: u64) {
    if n != 0 {
        put_varint(out, field << 3);
        put_varint(out, n);
    }
}

fn put_bytes(out: &mut Vec<u8>, field: u64, bytes: &[u8]) {
    put_varint(out, field << 3 | 2);
    put_varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

fn take_varint(buf: &mut &[u8]) -> Option<u64> {
    let mut n = 0;
    for shift in (0..64).step_by(7) {
        let (&b, rest) = buf.split_first()?;
        *buf = rest;
        n |= u64::from(b & 0x7f) << shift;
        if b < 0x80 {
            return Some(n);
        }
    }
    None
}

/// Fields of a message up to the first that is not well formed.
fn fields(mut buf: &[u8]) -> impl Iterator<Item = (u64, Value<'_>)> {
    std::iter::from_fn(move || {
        let tag = take_varint(&mut buf)?;
        let value = match tag & 7 {
            0 => Value::Int(take_varint(&mut buf)?),
            2 => {
                let len = usize::try_from(take_varint(&mut buf)?).ok()?;
                let (bytes, rest) = buf.split_at_checked(len)?;
                buf = rest;
                Value::Bytes(bytes)
            }
            _ => return None,
        };
        Some((tag >> 3, value))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_survives_its_trailers() {
        for status in [
            Status::new(Code::Internal, "grpc: error unmarshalling request: unexpected EOF"),
            Status::new(Code::InvalidArgument, "100 % wrong: naïve\n"),
            Status::unavailable("sending queue is full", Duration::from_millis(1500)),
            Status::new(Code::ResourceExhausted, ""),
        ] {
            let trailers = status.trailers();
            let get = |name: &str| trailers.get(name).map(HeaderValue::as_bytes);
            assert_eq!(Status::from_trailers(get), Some(Err(status)));
        }
        assert_eq!(Status::from_trailers(|_| None), None);
    }

    #[test]
    fn python_and_the_standard_trailer_both_carry_the_delay() {
        let trailers = Status::unavailable("busy", Duration::from_secs(2)).trailers();
        // RetryInfo{retry_delay{seconds: 2}} = 0a 02 08 02
        assert_eq!(trailers[PYTHON_RETRYINFO_BIN], "CgIIAg");
        assert!(trailers.contains_key(DETAILS_BIN));
    }

    #[test]
    fn a_status_in_json_has_protobufs_names() {
        for (status, want) in [
            (Status::new(Code::InvalidArgument, "no \"x\""), r#"{"code":3,"message":"no \"x\""}"#),
            (Status::new(Code::ResourceExhausted, ""), r#"{"code":8}"#),
            (
                Status::unavailable("busy", Duration::from_millis(1500)),
                r#"{"code":14,"details":[{"@type":"type.googleapis.com/google.rpc.RetryInfo","retryDelay":"1.500s"}],"message":"busy"}"#,
            ),
        ] {
            assert_eq!(String::from_utf8_lossy(&status.json()), want);
        }
        assert_eq!(json_duration(Duration::from_secs(2)), "2s");
        assert_eq!(json_duration(Duration::from_nanos(1_000_001_000)), "1.000001s");
        assert_eq!(json_duration(Duration::from_nanos(7)), "0.000000007s");
    }

    #[test]
    fn retryable_codes_are_those_of_otlp() {
        let retryable: Vec<u8> = Code::ALL
            .into_iter()
            .filter(|&c| Status::new(c, "").is_retryable())
            .map(|c| c as u8)
            .collect();
        assert_eq!(retryable, [1, 4, 10, 11, 14, 15]);
        let mut exhausted = Status::new(Code::ResourceExhausted, "");
        exhausted.retry_after = Some(Duration::ZERO);
        assert!(exhausted.is_retryable());
    }
}
